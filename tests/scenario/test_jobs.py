"""Jobs: handed over, worked on once, paid for what they came to."""

import asyncio
import threading
import time
from dataclasses import replace
from typing import ClassVar

import orjson
import pytest
from jsonschema import ValidationError as SchemaError
from jsonschema import validate
from rigs import third_party
from rigs.fickle import Fickle
from rigs.gate import KEYS, Gate, header
from rigs.payer import Payer
from rigs.running import eventually
from rigs.scripted import CANARY, METERED, Scripted, failure, hang, match, miss, slow, taking

from gateway.core.catalogue import Price
from gateway.core.job import State
from gateway.core.money import format_usd
from gateway.core.settlement import Settled
from gateway.core.upstream import AnswerLost
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.protocol import Refused
from gateway.store import charges
from gateway.store import jobs as jobs_store


class Slow(Fickle):
    async def check(self, payment):
        await asyncio.sleep(0.3)
        return await super().check(payment)


JOBS = "/api/v1/enrich/jobs"
PAYER = Payer(KEYS[0]).address


def asking(word: str = "hello", **more: object) -> bytes:
    return orjson.dumps({"route": "test/metered", "payload": {"word": word}, "bill_up_to_usd": "1.50", **more})


async def submit(gate: Gate, word: str = "hello", *, token=None, payment=None, key=None, **more):
    sent = {"Content-Type": "application/json"}
    sent |= {"Authorization": f"Bearer {token}"} if token else {}
    sent |= {"PAYMENT-SIGNATURE": header(payment)} if payment else {}
    sent |= {"Idempotency-Key": key} if key else {}
    return await gate.send("POST", JOBS, headers=sent, body=asking(word, **more))


async def poll(gate: Gate, accepted, wait: int = 5, method: str = "GET"):
    bearer = {"Authorization": f"Bearer {accepted.json['poll_bearer']}"}
    return await gate.send(
        method, f"{accepted.json['poll_url']}?wait={wait}" if wait else accepted.json["poll_url"], headers=bearer
    )


async def test_from_a_balance_the_ceiling_is_held_and_the_rest_released(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script |= {"half": slow(0.2, taking(500_000)), "nobody": miss, "broken": failure}
        agent, token = await gate.agent(10_000_000)
        accepted = await submit(gate, "half", token=token)
        assert accepted.status == 202
        assert accepted.headers["Location"] == accepted.json["poll_url"] == f"{JOBS}/{accepted.json['job_id']}"
        assert (accepted.json["billing_mode"], accepted.json["bill_up_to_usd"]) == ("virtual_balance", "1.500")
        assert (await gate.balance(agent)).held == 1_500_000
        first = await poll(gate, accepted, wait=0)
        assert (first.json["status"], first.json["result"]) in (("queued", None), ("running", None))
        assert first.headers["Retry-After"] == "5"
        done = await poll(gate, accepted)
        assert (done.json["status"], done.json["matched"], done.json["billed"]) == ("completed", True, True)
        assert done.json["billing"] | {"charge_id": ""} == {
            "mode": "virtual_balance", "charge_id": "", "bill_up_to_usd": "1.500", "charged_usd": "0.750",
            "refunded_usd": "0.000", "released_usd": "0.750", "settlement": None,
        }  # fmt: skip
        assert done.json["result"]["data"]["found"] == CANARY
        balance = await gate.balance(agent)
        assert (balance.available, balance.held) == (9_250_000, 0)
        for word, state, matched in (("nobody", "completed", False), ("broken", "failed", None)):
            ended = await poll(gate, await submit(gate, word, token=token))
            assert (ended.json["status"], ended.json["matched"], ended.json["billed"]) == (state, matched, False)
            assert ended.json["billing"]["charged_usd"] == "0.000"
            assert (await gate.balance(agent)).available == 9_250_000
        assert ended.json["error"]["code"] == "UPSTREAM_ERROR"


@pytest.mark.parametrize(("cost", "charged"), [(0, 100_000), (500_000, 750_000), (9_000_000, 1_500_000), (None, 0)])
async def test_by_upto_it_is_settled_for_what_it_came_to(tmp_path, cost, charged):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = miss if cost is None else taking(cost)
        before = gate.sandbox.balance(PAYER)
        refused = await submit(gate, "word")
        assert (refused.status, refused.json["code"]) == (402, "AGENT_TOKEN_REQUIRED")
        (offer,) = refused.offer["accepts"]
        assert (offer["scheme"], offer["amount"], offer["maxTimeoutSeconds"]) == ("upto", "1500000", 1200)
        payment = gate.paying(Payer(KEYS[0]).permit2(offer), refused.offer)
        accepted = await submit(gate, "word", payment=payment)
        assert (accepted.status, accepted.json["billing_mode"]) == (202, "x402_upto")
        done = await poll(gate, accepted)
        assert done.json["status"] == "completed"
        assert gate.sandbox.balance(PAYER) == before - charged
        if charged:
            assert done.receipt["amount"] == str(charged)
            assert done.json["billing"]["settlement"]["state"] == "proven"
        again = await submit(gate, "word", payment=payment)
        assert (again.status, again.json["job_id"]) == (202, accepted.json["job_id"])
        assert (await poll(gate, again)).json == done.json
        assert gate.upstream.runs("word") == 1


async def test_mistakes_cost_nothing(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        for changes, status, code in (
            ({"route": "test/nothing"}, 422, "JOB_ROUTE_UNSUPPORTED"),
            ({"route": "test/alpha"}, 422, "JOB_ROUTE_UNSUPPORTED"),
            ({"bill_up_to_usd": "0.09"}, 422, "CEILING_BELOW_PRICE"),
            ({"bill_up_to_usd": "50.01"}, 422, "VALIDATION_ERROR"),
            ({"bill_up_to_usd": "-1"}, 422, "VALIDATION_ERROR"),
            ({"bill_up_to_usd": []}, 422, "VALIDATION_ERROR"),
            ({"payload": {"word": ""}}, 422, "VALIDATION_ERROR"),
            ({"payload": {"word": "x", "y": 1}}, 422, "VALIDATION_ERROR"),
            ({"payload": []}, 422, "VALIDATION_ERROR"),
            ({"callback_url": "http://127.0.0.1/x"}, 422, "CALLBACK_URL_REFUSED"),
            ({"callback_url": "https://192.168.0.9/x"}, 422, "CALLBACK_URL_REFUSED"),
            ({"callback_url": "http://hook.example.com/x"}, 422, "CALLBACK_URL_REFUSED"),
            ({"callback_url": "https://localhost/x"}, 422, "CALLBACK_URL_REFUSED"),
            ({"extra": 1}, 422, "VALIDATION_ERROR"),
        ):
            reply = await submit(gate, token=token, **changes)
            assert (reply.status, reply.json["code"]) == (status, code), changes
        assert await gate.charges() == []
        for path in ("ej_x", "ej_01kb4x5v2e0000000000000000", "..%2f"):
            for headers in ({}, {"Authorization": f"Bearer {token}"}):
                reply = await gate.send("GET", f"{JOBS}/{path}", headers=headers)
                assert reply.status in (404,), path


async def test_f072_nobody_else_hears_of_a_job(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        _, stranger = await gate.agent(10_000_000)
        mine, other = await submit(gate, "a", token=token), await submit(gate, "b", token=stranger)
        told = set()
        for bearer in (stranger, other.json["poll_bearer"], None):
            headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
            for method in ("GET", "DELETE"):
                reply = await gate.send(method, mine.json["poll_url"], headers=headers)
                told.add((reply.status, reply.json["code"], reply.json["error"]))
        assert told == {(404, "JOB_NOT_FOUND", "no such job, or not yours")}
        assert (
            await gate.send("GET", mine.json["poll_url"], headers={"Authorization": f"Bearer {token}"})
        ).status == 200


async def test_cancelled_in_the_queue_or_at_work(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 1\nlease_s = 600\n") as gate:
        gate.upstream.script |= {"long": hang}
        agent, token = await gate.agent(10_000_000)
        running, waiting = await submit(gate, "long", token=token), await submit(gate, "next", token=token)
        await asyncio.sleep(0.2)
        ended = await poll(gate, waiting, wait=0, method="DELETE")
        assert (ended.json["status"], ended.json["error"]["code"]) == ("cancelled", "JOB_CANCELLED")
        assert (await gate.balance(agent)).held == 1_500_000
        assert (await poll(gate, running, wait=0)).json["cancelling"] is False
        said = (await poll(gate, running, wait=0, method="DELETE")).json
        assert (said["status"], said["cancelling"]) in (("running", True), ("cancelled", False))
        ended = await poll(gate, running)
        assert (ended.json["status"], ended.json["billed"], ended.json["cancelling"]) == ("cancelled", False, False)
        assert (await gate.balance(agent)).available == 10_000_000
        again = await poll(gate, running, wait=0, method="DELETE")
        assert (again.status, again.json["code"]) == (409, "JOB_ENDED")
        assert gate.upstream.runs("next") == 0


async def test_the_same_key_is_the_same_job(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        first = await submit(gate, "once", token=token, key="k1")
        again = await submit(gate, "once", token=token, key="k1")
        assert again.json["job_id"] == first.json["job_id"]
        assert again.headers["Idempotent-Replay"] == "true"
        assert (await submit(gate, "other", token=token, key="k1")).json["code"] == "IDEMPOTENCY_CONFLICT"
        assert (await poll(gate, again)).json["status"] == "completed"
        assert gate.upstream.runs("once") == 1


async def test_a_restart_goes_on_with_what_waits_and_what_was_begun(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 1\n") as gate:
        gate.upstream.script |= {"long": hang}
        _, token = await gate.agent(10_000_000)
        jobs = [await submit(gate, word, token=token) for word in ("long", "second")]
        await asyncio.sleep(0.2)
    async with Gate.open(tmp_path) as gate:
        for job in jobs:
            assert (await poll(gate, job)).json["status"] == "completed"
        assert {view.charge.captured_micros for view in await gate.charges()} == {
            METERED.base_micros,
            METERED.base_micros,
        }


async def test_what_takes_too_long_is_given_up_with_its_hold(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\ntime_s = 10\nat_once = 1\n") as gate:
        agent, token = await gate.agent(10_000_000)
        gate.upstream.script |= {"long": hang, "late": hang}
        await submit(gate, "long", token=token)
        late = await submit(gate, "late", token=token)
        ended = await poll(gate, late, wait=20)
        assert (ended.json["status"], ended.json["error"]["code"]) == ("failed", "UPSTREAM_TIMEOUT")
        await asyncio.sleep(0.5)
        assert (await gate.balance(agent)).available == 10_000_000
        assert State.FAILED == "failed"


async def test_the_documents_tell_of_handing_over_as_the_live_402_does(tmp_path):
    async with Gate.open(tmp_path) as gate:
        assert await asyncio.to_thread(third_party.drift, gate.url) == []
        listed = (await gate.send("GET", "/discovery/resources")).json["items"]
        (item,) = (each for each in listed if each["resource"].endswith(JOBS))
        assert [(offer["scheme"], offer["amount"]) for offer in item["accepts"]] == [("upto", "1500000")]
        described = (await gate.send("GET", "/openapi.json")).json["paths"]
        assert described[JOBS]["post"]["x-payment-info"]["price"] == {
            "mode": "dynamic", "currency": "USD", "min": "0.100", "max": "2.000",
        }  # fmt: skip
        assert set(described[f"{JOBS}/{{job_id}}"]) == {"get", "delete"}


@pytest.mark.parametrize(
    ("method", "body", "amount"),
    [
        ("POST", b"", 1_500_000), ("POST", b"{}", 1_500_000), ("POST", b"not JSON", 1_500_000),
        ("POST", b'{"bill_up_to_usd": "1.75"}', 1_750_000), ("POST", b'{"bill_up_to_usd": 3}', 2_000_000),
        ("POST", b'{"route": "test/metered"}', 1_500_000), ("POST", b'{"route": "test/alpha"}', 330_000),
        ("POST", b'{"bill_up_to_usd": "51"}', 1_500_000), ("POST", b'{"bill_up_to_usd": "0.01"}', 1_500_000),
        ("GET", b"", 1_500_000), ("HEAD", b"", 1_500_000), ("PUT", b'{"bill_up_to_usd": "2"}', 1_500_000),
    ],
)  # fmt: skip
async def test_an_unpaid_submission_is_told_what_to_sign(tmp_path, method, body, amount):
    async with Gate.open(tmp_path) as gate:
        reply = await gate.send(method, JOBS, headers={"Content-Type": "application/json"}, body=body or None)
        assert reply.status == 402
        assert [(offer["scheme"], offer["amount"]) for offer in reply.offer["accepts"]] == [("upto", str(amount))]
        assert gate.upstream.journal == []


async def test_what_was_cancelled_is_not_begun_again(tmp_path):
    """Its worker went before he heard of it."""
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = hang
        _, token = await gate.agent(10_000_000)
        job = await submit(gate, "word", token=token)
        await asyncio.sleep(0.2)
        assert (await poll(gate, job, wait=0, method="DELETE")).json["status"] == "running"
    async with Gate.open(tmp_path) as gate:
        done = (await poll(gate, job)).json
        assert (done["status"], done["billed"], done["error"]["code"]) == ("cancelled", False, "JOB_CANCELLED")
        assert gate.upstream.runs("word") == 0


async def test_what_is_claimed_while_we_stop_is_handed_back(tmp_path, monkeypatch):
    asked, go, claim = threading.Event(), threading.Event(), jobs_store.claim

    def late(tx, *given):
        if tx.execute("SELECT 1 FROM jobs WHERE state = 'queued'"):
            asked.set()
            go.wait(5)
        return claim(tx, *given)

    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        gate.upstream.script["word"] = hang
        monkeypatch.setattr(jobs_store, "claim", late)
        submitting = asyncio.create_task(submit(gate, "word", token=token))
        await asyncio.to_thread(asked.wait, 5)
        stopping = asyncio.create_task(gate.gateway.worker.drain(0.2))
        await asyncio.sleep(0.05)
        monkeypatch.setattr(jobs_store, "claim", claim)
        go.set()
        await stopping
        await asyncio.sleep(0.3)
        job = (await submitting).json["job_id"]
        found = await gate.gateway.db.read(jobs_store.find, job)
        assert (found.state, found.attempt) == (State.QUEUED, 0)
        assert gate.upstream.runs("word") == 0


async def test_a_repeated_submission_leaves_a_few_bearers(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        replies = [await submit(gate, "word", token=token, key="k") for _ in range(20)]
        assert len({reply.json["job_id"] for reply in replies}) == 1
        ((number,),) = await gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM job_tokens"))
        assert number == 16
        assert (await poll(gate, replies[-1])).json["status"] == "completed"
        assert (await poll(gate, replies[0], wait=0)).status == 404


async def test_more_submissions_at_once_than_allowed_are_turned_away(tmp_path):
    """Each costs a look at the chain."""
    settler = Slow(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with Gate.open(tmp_path, settler=settler, toml="[limits]\nconcurrent_calls = 3\n") as gate:
        refused = await submit(gate, "word")
        (offer,) = refused.offer["accepts"]
        payments = [gate.paying(Payer(KEYS[0]).permit2(offer), refused.offer) for _ in range(8)]
        replies = await asyncio.gather(*(submit(gate, f"w{n}", payment=payment) for n, payment in enumerate(payments)))
        busy = [reply for reply in replies if reply.status == 503]
        assert len(busy) == 5
        assert {reply.json["code"] for reply in busy} == {"OVERLOADED"}
        assert len(settler.checks) == 3


async def test_a_withheld_result_that_expires_in_the_queue_is_worked_for_anew(tmp_path):
    """And costs what that work comes to, not what the work before it came to."""
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)

    async def poor(settler, settlement):
        return Refused("permit2_insufficient_balance", "moved away", final=False)

    settler.settle_as = poor
    async with Gate.open(tmp_path, settler=settler, toml="[jobs]\nat_once = 1\n") as gate:
        gate.upstream.script |= {"word": taking(1_000_000), "long": hang}
        (offer,) = (await submit(gate, "word")).offer["accepts"]

        async def paid():
            refused = await submit(gate, "word")
            return await submit(gate, "word", payment=gate.paying(Payer(KEYS[0]).permit2(offer), refused.offer))

        assert (await poll(gate, await paid())).json["error"]["code"] == "SETTLEMENT_FAILED"
        settler.settle_as = None
        gate.upstream.script["word"] = taking(200_000)
        _, token = await gate.agent(10_000_000)
        blocking = await submit(gate, "long", token=token)
        await asyncio.sleep(0.2)
        waiting = await paid()
        await gate.gateway.db.write(lambda tx: tx.execute("DELETE FROM results"))
        await poll(gate, blocking, wait=0, method="DELETE")
        done = (await poll(gate, waiting, wait=20)).json
        assert (done["status"], done["billing"]["charged_usd"]) == ("completed", "0.300")
        assert gate.upstream.runs("word") == 2


async def test_f070_one_nonce_buys_one_job(tmp_path):
    async with Gate.open(tmp_path) as gate:
        refused = await submit(gate, "one")
        (offer,) = refused.offer["accepts"]
        payments = [gate.paying(Payer(KEYS[0]).permit2(offer, nonce=77), refused.offer) for _ in range(2)]
        first = await submit(gate, "one", payment=payments[0])
        second = await submit(gate, "two", payment=payments[1])
        assert (first.status, second.status, second.json["code"]) == (202, 409, "PAYMENT_ALREADY_USED")
        assert (await poll(gate, first)).json["status"] == "completed"
        assert gate.upstream.runs("two") == 0


async def test_f060_ceilings_of_open_jobs_count(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["slow"] = slow(0.5, taking(200_000))
        gate.sandbox.fund(PAYER, 3_100_000)
        refused = await submit(gate, "slow")
        (offer,) = refused.offer["accepts"]
        payments = [gate.paying(Payer(KEYS[0]).permit2(offer), refused.offer) for _ in range(5)]
        replies = await asyncio.gather(*(submit(gate, "slow", payment=payment) for payment in payments))
        assert sorted(reply.status for reply in replies) == [202, 202, 402, 402, 402]
        for reply in replies:
            if reply.status == 202:
                assert (await poll(gate, reply)).json["status"] == "completed"
        assert gate.sandbox.balance(PAYER) == 3_100_000 - 2 * 300_000


@pytest.mark.parametrize(("left_s", "status"), [(300, 402), (1018, 402), (1022, 202)])
async def test_f062_a_signature_outlives_the_job_and_its_settlement(tmp_path, left_s, status):
    """The job may take 900 s, its settlement 120 more."""
    async with Gate.open(tmp_path) as gate:
        refused = await submit(gate, "word")
        (offer,) = refused.offer["accepts"]
        payment = gate.paying(Payer(KEYS[0]).permit2(offer, deadline=int(time.time()) + left_s), refused.offer)
        reply = await submit(gate, "word", payment=payment)
        assert reply.status == status
        if status == 402:
            assert reply.json["code"] == "PAYMENT_EXPIRED"
            assert gate.upstream.journal == []


async def test_a_pulled_payment_withholds_the_result_until_it_is_paid_for(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = slow(0.3, taking(500_000))
        refused = await submit(gate, "word")
        (offer,) = refused.offer["accepts"]
        accepted = await submit(gate, "word", payment=gate.paying(Payer(KEYS[0]).permit2(offer), refused.offer))
        gate.sandbox.fund(PAYER, 0)
        ended = await poll(gate, accepted, wait=10)
        assert (ended.json["status"], ended.json["result"], ended.json["billed"]) == ("completed", None, False)
        assert ended.json["error"]["code"] == "SETTLEMENT_FAILED"
        assert ended.json["billing"]["settlement"]["state"] == "abandoned"
        gate.sandbox.fund(PAYER, 10_000_000)
        gate.upstream.rests["test/metered"] = 30  # no new work is needed
        again = await submit(gate, "word", payment=gate.paying(Payer(KEYS[0]).permit2(offer), refused.offer))
        paid = await poll(gate, again)
        assert (paid.json["status"], paid.json["result"]["data"]["found"]) == ("completed", CANARY)
        assert (gate.upstream.runs("word"), paid.receipt["amount"]) == (1, "750000")


async def test_a_wallet_that_owes_for_a_result_signs_for_no_other_ceiling(tmp_path):
    """Others do, and it buys at a fixed price; once the result is gone there is nothing left to pay for. The chain is
    not asked."""
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with Gate.open(tmp_path, settler=settler) as gate:

        async def paid(word, key=0):
            refused = await submit(gate, word)
            (offer,) = refused.offer["accepts"]
            return await submit(gate, word, payment=gate.paying(Payer(KEYS[key]).permit2(offer), refused.offer))

        gate.upstream.script["pulled"] = slow(0.3, taking(500_000))
        accepted = await paid("pulled")
        gate.sandbox.fund(PAYER, 0)
        assert (await poll(gate, accepted, wait=10)).json["error"]["code"] == "SETTLEMENT_FAILED"
        gate.sandbox.fund(PAYER, 10_000_000)
        asked = len(settler.checks)
        refused = await paid("other")
        assert (refused.status, refused.json["code"], refused.json["owed_usd"]) == (402, "PAYMENT_INVALID", "0.750")
        assert refused.offer["error"] == "earlier_result_unpaid"
        metered = await gate.call("other", operation="test/metered", payment=await gate.sign(
            operation="test/metered", method="upto"
        ))  # fmt: skip
        assert (metered.status, metered.offer["error"]) == (402, "earlier_result_unpaid")
        assert len(settler.checks) == asked
        assert gate.upstream.runs("other") == 0
        assert (await gate.pay("other")).status == 200
        assert (await poll(gate, await paid("other", key=1))).json["billed"] is True
        await gate.gateway.db.write(lambda tx: tx.execute("DELETE FROM results"))
        assert (await poll(gate, await paid("other"))).json["billed"] is True


async def test_fair_among_payers(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 1\n") as gate:
        _, many = await gate.agent(100_000_000)
        _, few = await gate.agent(100_000_000)
        gate.upstream.script["first"] = slow(0.3)
        jobs = [await submit(gate, word, token=many) for word in ("first", "m1", "m2", "m3")]
        jobs += [await submit(gate, "f1", token=few)]
        for job in jobs:
            assert (await poll(gate, job)).json["status"] == "completed"
        assert [word for _, word in gate.upstream.journal] == ["first", "f1", "m1", "m2", "m3"]


async def test_a_few_wait_for_one_job_and_more_are_answered_at_once(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["long"] = slow(3.0)
        _, token = await gate.agent(10_000_000)
        job = await submit(gate, "long", token=token)
        answers = [asyncio.create_task(poll(gate, job, wait=30)) for _ in range(20)]

        async def some() -> bool:
            return sum(answer.done() for answer in answers) >= 4

        await eventually(some)
        assert sum(answer.done() for answer in answers) == 4
        told = [(await answer).json["status"] for answer in answers]
        assert told.count("completed") == 16


async def test_a_poll_bearer_dies_with_the_result_and_its_agent_still_hears_how_it_ended(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        job = await submit(gate, "hello", token=token)
        assert (await poll(gate, job)).json["status"] == "completed"
        stranger = await submit(gate, "other", token=token)

        def pass_time(tx):
            tx.execute("UPDATE jobs SET expires_ms = :now_ms WHERE ended_ms IS NOT NULL", {"now_ms": tx.now_ms})
            tx.execute("DELETE FROM results")

        await gate.gateway.db.write(pass_time)
        for method in ("GET", "DELETE"):
            late = await poll(gate, job, wait=0, method=method)
            assert (late.status, late.json["code"]) == (410, "JOB_EXPIRED")
        foreign = {"Authorization": f"Bearer {stranger.json['poll_bearer']}"}
        assert (await gate.send("GET", job.json["poll_url"], headers=foreign)).json["code"] == "JOB_NOT_FOUND"
        told = (await gate.send("GET", job.json["poll_url"], headers={"Authorization": f"Bearer {token}"})).json
        assert (told["status"], told["result"], told["error"]["code"]) == ("completed", None, "RESULT_EXPIRED")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"facilitator": "0x00000000000000000000000000000000005742a9"}, 402, "upto_facilitator_mismatch"),
        ({"amount": 1_499_999}, 402, "permit2_amount_mismatch"),
        ({"amount": 1_500_001}, 402, "permit2_amount_mismatch"),
        ({"to": "0x00000000000000000000000000000000005742a9"}, 402, "invalid_permit2_recipient_mismatch"),
    ],
)
async def test_a_signature_for_something_else_is_refused_and_uses_nothing_up(tmp_path, changes, status, reason):
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with Gate.open(tmp_path, settler=settler) as gate:
        refused = await submit(gate, "word")
        (offer,) = refused.offer["accepts"]
        payment = gate.paying(Payer(KEYS[0]).permit2(offer, nonce=5, **changes), refused.offer)
        reply = await submit(gate, "word", payment=payment)
        assert (reply.status, reply.offer["error"]) == (status, reason)
        assert (await gate.charges(), settler.checks) == ([], [])
        right = gate.paying(Payer(KEYS[0]).permit2(offer, nonce=5), refused.offer)
        assert (await poll(gate, await submit(gate, "word", payment=right))).json["status"] == "completed"


async def test_a_refund_of_a_job_is_told(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        job = await submit(gate, "hello", token=token)
        billing = (await poll(gate, job)).json["billing"]
        await gate.gateway.db.write(charges.refund, billing["charge_id"], 40_000, "rfd_1", "kindness")
        told = (await poll(gate, job, wait=0)).json["billing"]
        assert told == {**billing, "charged_usd": "0.060", "refunded_usd": "0.040"}


async def test_a_withheld_result_that_is_paid_for_after_all_is_not_sold_twice(tmp_path):
    """The payment that was told to have failed comes while its job waits to be sold again."""
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)

    async def poor(settler, settlement):
        return Refused("permit2_insufficient_balance", "moved away", final=False)

    settler.settle_as = poor
    async with Gate.open(tmp_path, settler=settler, toml="[jobs]\nat_once = 1\n") as gate:
        gate.upstream.script |= {"word": taking(500_000), "long": hang}
        had = settler.balance(PAYER)

        async def paid(**terms):
            refused = await submit(gate, "word", **terms)
            (offer,) = refused.offer["accepts"]
            payment = gate.paying(Payer(KEYS[0]).permit2(offer), refused.offer)
            return await submit(gate, "word", payment=payment, **terms)

        assert (await poll(gate, await paid())).json["error"]["code"] == "SETTLEMENT_FAILED"
        settler.settle_as = None
        _, token = await gate.agent(10_000_000)
        blocking = await submit(gate, "long", token=token)
        await asyncio.sleep(0.2)
        second = await paid(bill_up_to_usd="0.80")  # on other terms it is the same work
        (view,) = [view for view in await gate.charges() if view.settlement]
        assert isinstance(await settler.settle(replace(view.settlement, abandoned=False)), Settled)
        await gate.gateway.recovery.once()
        await poll(gate, blocking, wait=0, method="DELETE")
        told = (await poll(gate, second, wait=20)).json
        assert (told["status"], told["result"]["data"]["found"]) == ("completed", CANARY)
        assert (told["billed"], told["billing"]["charged_usd"]) == (False, "0.000")
        assert (had - settler.balance(PAYER), gate.upstream.runs("word")) == (750_000, 1)


async def test_f066_who_has_lost_his_lease_buys_nothing_more(tmp_path):
    """And leaves nothing of what he found where his job has ended."""
    go_on, heard = asyncio.Event(), []

    async def late(context):
        await go_on.wait()
        try:
            await context.journal.asking("hop", repeatable=True)
            heard.append("asked")
            await context.journal.remember("hop", {"found": CANARY})
        except AnswerLost:
            heard.append("lost")
        return await match(context)

    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = late
        _, token = await gate.agent(10_000_000)
        job = await submit(gate, "word", token=token)
        await asyncio.sleep(0.2)

        def pass_on(tx):
            tx.execute("UPDATE jobs SET lease_until_ms = :now_ms", {"now_ms": tx.now_ms})
            return jobs_store.claim(tx, "another", 60_000, 1)

        (mine,) = await gate.gateway.db.write(pass_on)
        go_on.set()
        await asyncio.sleep(0.2)
        assert heard == ["lost"]
        assert await gate.gateway.db.read(lambda tx: tx.execute("SELECT * FROM job_hops")) == []
        ask = gate.gateway.db.write
        assert await ask(jobs_store.asking, mine, "another", "hop", repeatable=False) == 1
        assert await ask(jobs_store.asking, mine, "another", "hop", repeatable=False) == 0
        assert await ask(jobs_store.asking, mine, "another", "hop", repeatable=True) == 2
        await poll(gate, job, wait=0, method="DELETE")
        await ask(jobs_store.hand_back, mine, "another")
        assert (await poll(gate, job)).json["status"] == "cancelled"


class Counter(Scripted):
    """Work at prices of all kinds."""

    prices: ClassVar = {
        "test/cheap": Price(50_000, metered=True, markup_percent=150, ceiling_micros=200_000),
        "test/fixed": Price(10_000),
        "test/dear": Price(2_000_000, metered=True, ceiling_micros=9_000_000),
        "test/dearest": Price(60_000_000),
    }

    def offerings(self):
        made = [self._offering(id, price) for id, price in self.prices.items()]
        return [replace(each, operation=replace(each.operation, job=True)) for each in made]


@pytest.mark.parametrize(
    ("route", "asked", "held"),
    [
        ("test/cheap", None, 200_000), ("test/cheap", "0.10", 100_000), ("test/cheap", "30", 200_000),
        ("test/fixed", None, 10_000), ("test/fixed", "0.01", 10_000), ("test/fixed", "5", 10_000),
        ("test/dear", None, 2_000_000), ("test/dear", "3", 3_000_000), ("test/dear", "49", 9_000_000),
        ("test/dearest", None, 60_000_000), ("test/dearest", "60", 60_000_000),
    ],
)  # fmt: skip
async def test_no_more_is_held_than_an_operation_ever_costs(tmp_path, route, asked, held):
    """And what an unpaid submission is told to sign is what its payment is verified against."""
    async with Gate.open(tmp_path, upstream=Counter()) as gate:
        gate.upstream.script["word"] = taking(100_000_000)
        agent, token = await gate.agent(100_000_000)
        body = {"route": route, "payload": {"word": "word"}} | ({"bill_up_to_usd": asked} if asked else {})

        async def send(**headers):
            sent = {"Content-Type": "application/json"} | headers
            return await gate.send("POST", JOBS, headers=sent, body=orjson.dumps(body))

        accepted = await send(Authorization=f"Bearer {token}")
        assert accepted.status == 202, accepted.body
        assert (await poll(gate, accepted)).json["billing"]["charged_usd"] == format_usd(held)
        assert (await gate.balance(agent)).available == 100_000_000 - held
        refused = await send()
        (offer,) = refused.offer["accepts"]
        assert offer["amount"] == str(held)
        gate.sandbox.fund(PAYER, 100_000_000)
        payment = gate.paying(Payer(KEYS[0]).permit2(offer), refused.offer)
        paid = await poll(gate, await send(**{"PAYMENT-SIGNATURE": header(payment)}))
        assert (paid.json["status"], paid.json["billing"]["charged_usd"]) == ("completed", format_usd(held))


async def test_the_header_says_what_a_job_may_cost_as_it_does_of_a_call(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        for said, body, held in (("0.50", None, 500_000), ("0.50", "0.40", 400_000), ("0.30", "0.40", 300_000)):
            sent = {"Content-Type": "application/json", "X-Bill-Up-To-Usd": said}
            asked = {"route": "test/metered", "payload": {"word": said}} | ({"bill_up_to_usd": body} if body else {})
            unpaid = await gate.send("POST", JOBS, headers=sent, body=orjson.dumps(asked))
            assert unpaid.offer["accepts"][0]["amount"] == str(held)
            sent["Authorization"] = f"Bearer {token}"
            accepted = await gate.send("POST", JOBS, headers=sent, body=orjson.dumps(asked))
            assert accepted.json["held_usd"] == format_usd(held)
        for wrong, code in (("0.01", "CEILING_BELOW_PRICE"), ("much", "VALIDATION_ERROR")):
            sent["X-Bill-Up-To-Usd"] = wrong
            reply = await gate.send("POST", JOBS, headers=sent, body=orjson.dumps(asked))
            assert (reply.status, reply.json["code"]) == (422, code)


async def test_mistakes_are_told_where_they_are(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        wrong = await submit(gate, token=token, payload={"word": ""})
        assert wrong.json["details"]["fields"][0]["loc"] == ["payload", "word"]
        wrong = await submit(gate, token=token, bill_up_to_usd="1e0")
        assert wrong.json["error"].startswith("bill_up_to_usd: an amount of USD has digits")
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        wrong = await gate.send("POST", JOBS, headers=sent, body=b"[]")
        assert b"JobRequest" not in wrong.body
        job = await submit(gate, token=token)
        wrong = await gate.send("PUT", job.json["poll_url"], headers=sent)
        assert (wrong.status, set(wrong.headers["Allow"].split(", "))) == (405, {"DELETE", "GET", "HEAD"})
        wrong = await gate.send("GET", job.json["poll_url"] + "?wait=1&wait=2", headers=sent)
        assert wrong.json["code"] == "VALIDATION_ERROR"
        required = (await submit(gate)).offer
        payment = header(gate.paying(Payer(KEYS[0]).permit2(required["accepts"][0]), required))
        both = {"Content-Type": "application/json", "PAYMENT-SIGNATURE": payment, "X-PAYMENT": payment}
        wrong = await gate.send("POST", JOBS, headers=both, body=asking())
        assert wrong.json["code"] == "PAYMENT_MALFORMED"


async def test_long_jobs_of_one_payer_leave_a_place_for_others(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 4\n") as gate:
        gate.upstream.script["long"] = hang
        _, many = await gate.agent(100_000_000)
        _, few = await gate.agent(100_000_000)
        long = [await submit(gate, "long", token=many) for _ in range(8)]
        await asyncio.sleep(0.2)
        assert gate.upstream.runs("long") == 3
        assert (await poll(gate, await submit(gate, "hello", token=few), wait=3)).json["status"] == "completed"
        for job in long:
            await poll(gate, job, wait=0, method="DELETE")


async def test_what_the_documents_say_of_jobs_fits_what_is_answered(tmp_path):
    """Every published example fits its own schema, and live answers fit theirs."""
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        described = (await gate.send("GET", "/openapi.json")).json["paths"]
        submitting, asking_again = described[JOBS]["post"], described[f"{JOBS}/{{job_id}}"]["get"]
        body = submitting["requestBody"]["content"]["application/json"]
        for good in (body["example"], {**body["example"], "bill_up_to_usd": None}, orjson.loads(asking())):
            validate(good, body["schema"])
        for bad in ("1e0", "-1", True, {}):
            with pytest.raises(SchemaError):
                validate({**body["example"], "bill_up_to_usd": bad}, body["schema"])
        assert "200" not in submitting["responses"]
        accepted = await submit(gate, token=token)
        queued = submitting["responses"]["202"]["content"]["application/json"]
        validate(queued["example"], queued["schema"])
        validate(accepted.json, queued["schema"])
        validate(
            (await poll(gate, accepted)).json, asking_again["responses"]["200"]["content"]["application/json"]["schema"]
        )
        for item in (await gate.send("GET", "/discovery/resources")).json["items"]:
            block = item["extensions"]["bazaar"]
            validate(block["info"], block["schema"])


async def test_the_metrics_tell_what_waits_and_what_is_worked_on(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 2\n") as gate:
        gate.upstream.script["long"] = hang
        _, token = await gate.agent(10_000_000)
        long = [await submit(gate, "long", token=token) for _ in range(3)]
        await asyncio.sleep(0.3)
        page = (await gate.send("GET", "/metrics")).body.decode()
        assert 'faregate_jobs{state="queued"} 1.0' in page
        assert 'faregate_jobs{state="running"} 2.0' in page
        for job in long:
            await poll(gate, job, wait=0, method="DELETE")
            assert (await poll(gate, job)).json["progress"] == {"rounds_used": 0, "phase": "done"}
