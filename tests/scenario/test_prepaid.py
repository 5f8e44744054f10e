"""Operations that settle first, on a whole gateway: a payment is a top-up, the call is charged to it, and what a miss
or a failure leaves is on the payer's account, once, whoever asks and however often."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from rigs.gate import KEYS, Gate, Reply, header
from rigs.newcomer import Newcomer
from rigs.payer import Payer, echoing
from rigs.running import eventually
from rigs.scripted import Scripted, failure, hang, miss, slow, taking

from gateway.core.agent import Status
from gateway.core.charge import Event, State
from gateway.core.errors import Conflict
from gateway.core.networks import checksum_address
from gateway.flows.jobs import Retry, retry
from gateway.settlement.sandbox import Weather
from gateway.store import agents, deposits, settlements, statements
from gateway.store.charges import ChargeView
from gateway.store.database import Tx

PRICE = 330_000
CEILING = 2_000_000
FIRST = """
[settle]
"test/alpha" = "before"
"test/metered" = "before"
"""
MATCH = (
    FIRST
    + """
[deposit_match]
percent = 50
min_usd = "0.10"
"""
)
PAYER = Payer(KEYS[0])
WALLET = PAYER.address.lower()


def opened(home: Path, **more: Any) -> Any:
    return Gate.open(home, **{"toml": FIRST, **more})


async def topups(gate: Gate) -> list[ChargeView]:
    return [view for view in await gate.charges() if view.charge.topup]


async def calls(gate: Gate) -> list[ChargeView]:
    return [view for view in await gate.charges() if not view.charge.topup]


async def available(gate: Gate, party: str = WALLET) -> int:
    return (await gate.balance(party)).available


async def kinds(gate: Gate, party: str) -> list[tuple[str, int]]:
    """The statement, oldest first."""
    page = await gate.gateway.db.read(statements.page, party, 100)
    return [(movement.kind.value, movement.amount_micros) for movement in reversed(page)]


async def until_answered(gate: Gate, word: str, **means: Any) -> Reply:
    async def answered() -> Reply | None:
        reply = await gate.call(word, **means)
        return None if reply.status == 202 else reply

    return await eventually(answered)


async def until_come(gate: Gate) -> None:
    """Nobody calls: what is under way is brought to its end all the same, and no further."""

    async def come() -> bool:
        await gate.gateway.recovery.once()
        return (await topups(gate))[0].charge.state is State.SETTLED

    await eventually(come)


async def test_a_match_is_a_top_up_and_a_charge(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        offered = await gate.call("hello")
        assert offered.json["settle"] == "before"
        assert "settled before the work" in offered.offer["resource"]["description"]
        assert {offer["scheme"] for offer in offered.offer["accepts"]} == {"exact"}
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment)
        (topup,), (call,) = await topups(gate), await calls(gate)
        assert (reply.status, reply.json["matched"], reply.json["billed"]) == (200, True, True)
        billing = reply.json["billing"]
        assert (billing["mode"], billing["charged_usd"], billing["charge_id"]) == (
            "virtual_balance", "0.330", call.charge.id
        )  # fmt: skip
        assert billing["topup"]["charge_id"] == topup.charge.id == call.charge.topup_id
        assert billing["topup"]["amount_usd"] == "0.330"
        assert billing["topup"]["settlement"]["state"] == "proven"
        assert billing["topup"]["account"] == {
            "kind": "wallet", "id": checksum_address(WALLET), "available_usd": "0.000",
        }  # fmt: skip
        assert (reply.receipt["success"], reply.receipt["transaction"]) == (True, topup.transaction)
        assert (topup.charge.state, call.charge.state) == (State.SETTLED, State.CAPTURED)
        assert await kinds(gate, WALLET) == [("deposit", PRICE), ("capture", -PRICE)]
        assert (await gate.call("hello", payment=payment)).body == reply.body
        assert gate.upstream.runs("hello") == 1
        told = await gate.send(
            "GET", f"/api/v1/charges/{call.charge.id}", headers={"X-Charge-Token": reply.headers["X-Charge-Token"]}
        )
        assert told.json["topup"] == billing["topup"]
        assert told.json["result"]["billing"] == billing


async def test_others_settle_after_as_ever(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = miss
        reply = await gate.pay("hello", operation="test/beta")
        assert "topup" not in reply.json["billing"]
        assert await topups(gate) == []
        assert "settle" not in (await gate.call("x", operation="test/beta")).json


async def test_a_miss_stays_on_the_wallets_account_which_registers_and_spends_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = miss
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment)
        assert (reply.status, reply.json["matched"], reply.json["billed"]) == (200, False, False)
        topup = reply.json["billing"]["topup"]
        assert reply.json["billing"]["charged_usd"] == "0.000"
        assert topup["account"]["available_usd"] == "0.330"
        assert topup["claim"]["register"] == "/api/v1/agents/wallet-register"
        assert "register the wallet" in topup["use"]
        assert reply.receipt["success"] is True
        assert (await gate.call("hello", payment=payment)).body == reply.body
        assert (await gate.call("other", payment=payment)).status == 409
        assert await available(gate) == PRICE
        agent = (await Newcomer(gate, KEYS[0]).register()).json
        assert await available(gate) == 0
        assert await available(gate, agent["agent_id"]) == PRICE
        assert await kinds(gate, WALLET) == [("deposit", PRICE), ("joined", -PRICE)]
        assert ("joined", PRICE) in await kinds(gate, agent["agent_id"])
        paid = await gate.call("again", token=agent["token"])
        assert (paid.status, paid.json["billing"]["charged_usd"]) == (200, "0.330")
        assert await available(gate, agent["agent_id"]) == 0
        # The very same payment is answered as before: not a second miss, nor a second account.
        repeated = await gate.call("hello", payment=payment)
        assert (repeated.status, repeated.json["billing"]["charged_usd"]) == (200, "0.000")
        assert repeated.json["billing"]["topup"]["account"] == {"kind": "agent"}
        assert gate.upstream.runs("hello") == 1


@pytest.mark.parametrize("how", ["failure", "timeout"])
async def test_f030_settled_first_and_the_upstream_then_fails(tmp_path: Path, how: str) -> None:
    async with opened(tmp_path, upstream=Scripted(timeout_s=0.3)) as gate:
        gate.upstream.script["hello"] = failure if how == "failure" else hang
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment)
        assert reply.status == {"failure": 502, "timeout": 504}[how]
        details = reply.json["details"]
        assert details["charged_usd"] == "0.000"
        assert details["topup"]["account"]["available_usd"] == "0.330"
        assert "same payment" in details["topup"]["use"]
        assert (reply.receipt["success"], reply.receipt["transaction"]) == (
            True, details["topup"]["settlement"]["transaction"],
        )  # fmt: skip
        assert reply.headers["X-Charge-Id"] == details["charge_id"]
        assert await available(gate) == PRICE
        del gate.upstream.script["hello"]
        again = await gate.call("hello", payment=payment)
        assert (again.status, again.json["billed"]) == (200, True)
        assert (await gate.call("hello", payment=payment)).body == again.body
        assert await available(gate) == 0
        assert gate.upstream.runs("hello") == 2
        assert len(await topups(gate)) == 1
        assert [(view.charge.state, view.charge.reason) for view in await calls(gate)] == [
            (State.RELEASED, Event.FAILED), (State.CAPTURED, None),
        ]  # fmt: skip
        assert gate.sandbox.balance(gate.gateway.identity.terms[0].pay_to) == PRICE


async def test_with_a_bearer_it_is_the_agents(tmp_path: Path) -> None:
    async with opened(tmp_path, toml=MATCH) as gate:
        agent_id, token = await gate.agent()
        gate.upstream.script["hello"] = miss
        payment = await gate.sign()
        reply = await gate.call("hello", token=token, payment=payment)
        assert reply.json["billing"]["topup"]["account"] == {
            "kind": "agent", "id": agent_id, "available_usd": "0.330",
        }  # fmt: skip
        balance = await gate.balance(agent_id)
        assert (balance.available, balance.bonus) == (PRICE, 0), "what was paid for a call is matched by nothing"
        assert await gate.gateway.db.read(deposits.standing, agent_id) == 0
        assert await available(gate) == 0
        # From its balance, with no payment.
        assert (await gate.call("word", token=token)).status == 200
        assert await available(gate, agent_id) == 0
        gate.upstream.script["fails"] = failure
        second = await gate.sign()
        stopped = await gate.call("fails", token=token, payment=second)
        assert stopped.json["details"]["topup"]["account"]["available_usd"] == "0.330"
        assert "bearer token" in stopped.json["details"]["topup"]["use"]
        del gate.upstream.script["fails"]
        nobody = await gate.call("fails", payment=second)
        assert (nobody.status, nobody.json["code"]) == (409, "PAYMENT_ALREADY_USED")
        assert "available_usd" not in nobody.json["details"]["topup"]["account"]
        assert gate.upstream.runs("fails") == 1
        assert (await gate.call("fails", token=token, payment=second)).status == 200
        assert await available(gate, agent_id) == 0


async def test_one_payment_twenty_times_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = slow(0.05)
        payment = await gate.sign()
        replies = await asyncio.gather(*(gate.call("hello", payment=payment) for _ in range(20)))
        assert {reply.status for reply in replies} <= {200, 202}
        reply = await until_answered(gate, "hello", payment=payment)
        assert {each.body for each in replies if each.status == 200} <= {reply.body}
        assert gate.upstream.runs("hello") == 1
        assert (len(await topups(gate)), len(await calls(gate))) == (1, 1)
        assert gate.sandbox.balance(gate.gateway.identity.terms[0].pay_to) == PRICE


async def test_twenty_payments_of_one_wallet_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["nothing"] = miss
        payments = [await gate.sign() for _ in range(20)]
        replies = await asyncio.gather(
            *(gate.call("nothing" if n % 2 else "hello", payment=payment) for n, payment in enumerate(payments))
        )
        answers = [
            await until_answered(gate, "nothing" if n % 2 else "hello", payment=payment)
            for n, (payment, reply) in enumerate(zip(payments, replies, strict=True))
        ]
        assert {reply.status for reply in answers} == {200}
        assert sum(reply.json["billed"] for reply in answers) == 10
        assert await available(gate) == 10 * PRICE


async def test_nothing_is_done_before_the_payment_is_known(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        payment = await gate.sign()
        gate.sandbox.weather = Weather.LOST_REPLY
        reply = await gate.call("hello", payment=payment)
        assert (reply.status, reply.json["code"]) == (202, "SETTLEMENT_PENDING")
        assert reply.json["details"]["hint"] == "repeat this call with the very same payment"
        assert reply.receipt["errorReason"] == "settlement_pending"
        again = await gate.call("hello", payment=payment)
        assert again.status == 202
        assert gate.upstream.runs("hello") == 0
        gate.sandbox.weather = Weather.FAIR
        await until_come(gate)
        assert (await available(gate), gate.upstream.runs("hello")) == (PRICE, 0)
        status = await gate.send(
            "GET", reply.json["status_url"], headers={"X-Charge-Token": reply.json["charge_token"]}
        )
        assert (status.json["state"], status.json["topup"]["account"]["available_usd"]) == ("settled", "0.330")
        paid = await gate.call("hello", payment=payment)
        assert (paid.status, paid.json["billed"]) == (200, True)
        assert await available(gate) == 0


async def test_what_cannot_be_collected_does_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        payment = await gate.sign()
        gate.sandbox.weather = Weather.STUCK
        assert (await gate.call("hello", payment=payment)).status == 202
        gate.sandbox.fund(WALLET, 0)
        gate.sandbox.weather = Weather.FAIR
        reply = await until_answered(gate, "hello", payment=payment)
        assert (reply.status, reply.json["code"]) == (402, "SETTLEMENT_FAILED")
        assert "nothing was done" in reply.json["message"]
        assert (gate.upstream.runs("hello"), await available(gate)) == (0, 0)
        gate.sandbox.fund(WALLET, 10**9)
        assert (await gate.pay("hello")).status == 200


async def test_f024_the_same_payment_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        payment = await gate.sign()
        gate.sandbox.weather = Weather.STUCK
        assert (await gate.call("hello", payment=payment)).status == 202
    async with opened(tmp_path) as gate:
        reply = await until_answered(gate, "hello", payment=payment)
        assert (reply.status, reply.json["billed"], gate.upstream.runs("hello")) == (200, True, 1)
    # The operator has thought better of it: what was paid so is still answered so.
    async with Gate.open(tmp_path) as gate:
        assert (await gate.call("hello", payment=payment)).body == reply.body


async def test_a_payment_without_a_secret_goes_on_by_its_charge_token(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        payment = await gate.sign(echo=False)
        gate.sandbox.weather = Weather.LOST_REPLY
        reply = await gate.call("hello", payment=payment)
        assert (reply.status, "X-Charge-Token" in reply.json["details"]["hint"]) == (202, True)
        gate.sandbox.weather = Weather.FAIR
        await until_come(gate)
        stranger = await gate.call("hello", payment=payment)
        assert (stranger.status, gate.upstream.runs("hello")) == (409, 0)
        paid = await gate.call("hello", payment=payment, headers={"X-Charge-Token": reply.json["charge_token"]})
        assert (paid.status, gate.upstream.runs("hello")) == (200, 1)


async def test_a_price_range_is_paid_in_full_and_the_rest_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = taking(400_000)
        offers = await gate.offers("test/metered")
        assert {(offer["scheme"], offer["amount"]) for offer in offers} == {("exact", str(CEILING))}
        reply = await gate.pay("hello", operation="test/metered")
        billing = reply.json["billing"]
        assert (billing["bill_up_to_usd"], billing["charged_usd"]) == ("2.000", "0.600")
        assert billing["topup"]["account"]["available_usd"] == "1.400"
        assert await available(gate) == CEILING - 600_000
        payment = await gate.sign(operation="test/metered")
        less = await gate.call("hello", operation="test/metered", payment=payment, headers={"X-Bill-Up-To-Usd": "0.50"})
        assert (less.json["billing"]["bill_up_to_usd"], less.json["billing"]["charged_usd"]) == ("0.500", "0.500")


# jobs


async def hand_in(gate: Gate, payment: Any = None, *, token: str | None = None, up_to: str = "1.50") -> Reply:
    headers = {"Content-Type": "application/json"}
    if payment is not None:
        headers["PAYMENT-SIGNATURE"] = header(payment)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = {"route": "test/metered", "payload": {"word": "hello"}, "bill_up_to_usd": up_to}
    return await gate.send("POST", "/api/v1/enrich/jobs", headers=headers, body=orjson.dumps(body))


async def poll(gate: Gate, accepted: Reply, wait: int = 10) -> Reply:
    bearer = {"Authorization": f"Bearer {accepted.json['poll_bearer']}"}
    return await gate.send("GET", f"{accepted.json['poll_url']}?wait={wait}", headers=bearer)


async def sign_job(gate: Gate) -> Any:
    required = (await hand_in(gate)).offer
    assert {(offer["scheme"], offer["amount"]) for offer in required["accepts"]} == {("exact", "1500000")}
    return echoing(PAYER.pay(required["accepts"][0]), required)


async def test_a_job_tops_its_ceiling_up_and_leaves_the_rest(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = taking(400_000)
        payment = await sign_job(gate)
        accepted = await hand_in(gate, payment)
        assert (accepted.status, accepted.json["billing_mode"]) == (202, "virtual_balance")
        told = (await poll(gate, accepted)).json
        assert (told["status"], told["billing"]["charged_usd"], told["billing"]["released_usd"]) == (
            "completed", "0.600", "0.900",
        )  # fmt: skip
        assert told["billing"]["topup"]["account"]["available_usd"] == "0.900"
        assert told["result"]["billing"]["topup"] == told["billing"]["topup"]
        again = await hand_in(gate, payment)
        assert (again.status, again.json["job_id"]) == (202, accepted.json["job_id"])
        assert await available(gate) == 900_000


async def test_f030_a_job_that_fails_is_handed_in_again_by_the_same_payment(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = failure
        payment = await sign_job(gate)
        accepted = await hand_in(gate, payment)
        answer = await poll(gate, accepted)
        told = answer.json
        assert (told["status"], told["billed"], told["billing"]["charged_usd"]) == ("failed", False, "0.000")
        assert told["billing"]["topup"]["account"]["available_usd"] == "1.500"
        assert answer.receipt["success"] is True
        gate.upstream.script["hello"] = miss
        again = await hand_in(gate, payment)
        assert again.json["job_id"] != accepted.json["job_id"]
        told = (await poll(gate, again)).json
        assert (told["status"], told["matched"], told["billing"]["charged_usd"]) == ("completed", False, "0.000")
        assert (await hand_in(gate, payment)).json["job_id"] == again.json["job_id"]
        assert (await available(gate), len(await topups(gate))) == (1_500_000, 1)


async def test_a_job_is_not_begun_before_its_payment_is_known(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        payment = await sign_job(gate)
        gate.sandbox.weather = Weather.LOST_REPLY
        reply = await hand_in(gate, payment)
        assert (reply.status, reply.json["code"]) == (202, "SETTLEMENT_PENDING")
        gate.sandbox.weather = Weather.FAIR
        await until_come(gate)
        assert gate.upstream.runs("hello") == 0
        accepted = await hand_in(gate, payment)
        assert (await poll(gate, accepted)).json["status"] == "completed"


# wallets and agents


async def test_two_registrations_race_for_one_wallets_account(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = miss
        assert (await gate.pay("hello")).status == 200
        owner, token = await gate.agent()
        newcomer = Newcomer(gate, KEYS[0])
        replies = await asyncio.gather(
            newcomer.register(), newcomer.register(), newcomer.link(token), newcomer.register(), newcomer.link(token)
        )
        assert all(reply.status in (200, 201, 409) for reply in replies)
        created = [reply.json["agent_id"] for reply in replies if reply.status == 201]
        holders = {owner, *created}
        assert sum([await available(gate, each) for each in holders]) == PRICE
        assert await available(gate) == 0
        assert [kind for kind, _ in await kinds(gate, WALLET)] == ["deposit", "joined"]


async def test_what_comes_to_a_wallet_that_has_registered_is_its_agents(tmp_path: Path) -> None:
    """While a call of its is under way, and by later calls without a bearer; those take what they bring, no more."""
    async with opened(tmp_path) as gate:
        gate.upstream.script |= {"slow": slow(0.3, miss), "hello": miss, "fails": failure}
        under_way = asyncio.create_task(gate.call("slow", payment=await gate.sign()))

        async def begun() -> bool:
            return gate.upstream.runs("slow") == 1

        await eventually(begun)
        agent = (await Newcomer(gate, KEYS[0]).register()).json
        assert await available(gate, agent["agent_id"]) == 0
        assert (await under_way).status == 200
        assert await available(gate, agent["agent_id"]) == PRICE, "what the call gave back"
        reply = await gate.pay("hello")
        assert reply.json["billing"]["topup"]["account"] == {"kind": "agent"}, (
            "its money is no anonymous payer's business"
        )
        assert await available(gate, agent["agent_id"]) == 2 * PRICE
        matched = await gate.pay("found")
        assert matched.json["billed"] is True
        assert await available(gate, agent["agent_id"]) == 2 * PRICE, "a call takes no more than it has brought"
        payment = await gate.sign()
        assert (await gate.call("fails", payment=payment)).status == 502
        assert await available(gate, agent["agent_id"]) == 3 * PRICE
        del gate.upstream.script["fails"]
        for _ in range(3):
            assert (await gate.call("fails", payment=payment)).status == 200
        assert await available(gate, agent["agent_id"]) == 2 * PRICE
        assert await available(gate) == 0


async def test_what_was_spent_meanwhile_is_told_and_never_a_fresh_402(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        _, token = await gate.agent()
        gate.upstream.script["fails"] = failure
        payment = await gate.sign()
        assert (await gate.call("fails", token=token, payment=payment)).status == 502
        assert (await gate.call("other", token=token)).status == 200
        reply = await gate.call("fails", token=token, payment=payment)
        assert (reply.status, reply.json["code"]) == (409, "BALANCE_TOO_LOW")
        assert reply.json["details"]["topup"]["account"]["available_usd"] == "0.000"
        assert "PAYMENT-REQUIRED" not in reply.headers


async def test_a_key_and_a_frozen_agent_are_refused_before_anything_is_taken(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        _, token = await gate.agent()
        made = await gate.send(
            "POST", "/api/v1/agents/usage-keys",
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
            body=orjson.dumps({"label": "k", "scopes": ["test:alpha"], "cap_usd": "0.50", "cap_period": "total"}),
        )  # fmt: skip
        key = made.json["key"]
        assert (await gate.call("one", token=key, payment=await gate.sign())).status == 200
        refused = await gate.call("two", token=key, payment=await gate.sign())
        assert (refused.status, refused.json["code"]) == (403, "KEY_CAP_EXCEEDED")
        assert len(await topups(gate)) == 1
        agent = (await Newcomer(gate, KEYS[0]).register()).json
        await gate.gateway.db.write(agents.set_status, agent["agent_id"], Status.FROZEN)
        frozen = await gate.pay("three")
        assert (frozen.status, frozen.json["code"]) == (403, "AGENT_FROZEN")
        assert len(await topups(gate)) == 1


async def test_a_key_that_may_not_see_the_balance_is_not_told_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        agent_id, token = await gate.agent(1_000_000)
        made = await gate.send(
            "POST", "/api/v1/agents/usage-keys",
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
            body=orjson.dumps({"label": "k", "scopes": ["test:alpha"]}),
        )  # fmt: skip
        reply = await gate.call("one", token=made.json["key"], payment=await gate.sign())
        assert reply.json["billing"]["topup"]["account"] == {"kind": "agent", "id": agent_id}


async def test_a_price_that_rises_meanwhile_is_not_charged(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = failure
        payment = await gate.sign()
        assert (await gate.call("hello", payment=payment)).status == 502
    async with opened(tmp_path, upstream=Scripted(price_micros=900_000)) as gate:
        reply = await gate.call("hello", payment=payment)
        assert (reply.status, reply.json["billing"]["charged_usd"]) == (200, "0.330")
    async with opened(tmp_path, upstream=Scripted(price_micros=100_000)) as gate:
        gate.upstream.script["less"] = failure
        assert (await gate.call("less", payment=await gate.sign())).status == 502
        assert await available(gate) == 100_000


async def test_taken_back_it_is_under_way_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = failure
        payment = await gate.sign()
        assert (await gate.call("hello", payment=payment)).status == 502
        (topup,) = await topups(gate)
        assert topup.settlement is not None
        await gate.gateway.db.write(_not_final)
        gate.sandbox.weather = Weather.STUCK
        await gate.gateway.db.write(settlements.taken_back, topup.settlement.id)
        del gate.upstream.script["hello"]
        reply = await gate.call("hello", payment=payment)
        assert (reply.status, reply.json["code"]) == (202, "SETTLEMENT_PENDING")
        assert (await available(gate), gate.upstream.runs("hello")) == (0, 1)
        gate.sandbox.weather = Weather.FAIR
        assert (await until_answered(gate, "hello", payment=payment)).status == 200


async def test_the_operator_has_a_job_done_again_from_what_was_paid(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = failure
        payment = await sign_job(gate)
        accepted = await hand_in(gate, payment)
        assert (await poll(gate, accepted)).json["status"] == "failed"
        gate.upstream.script["hello"] = taking(400_000)

        def again(number: int) -> Retry:
            return Retry(f"ej_{number}", f"chg_z{number}", "req_1", bytes([number]) * 32, 900)

        await gate.gateway.db.write(retry, accepted.json["job_id"], again(1))
        gate.gateway.worker.queued()

        async def done() -> bool:
            return (await calls(gate))[-1].charge.state is State.CAPTURED

        await eventually(done)
        assert await available(gate) == 900_000
        repeated = await hand_in(gate, payment)
        assert (repeated.status, repeated.json["job_id"]) == (202, "ej_1")
        with pytest.raises(Conflict):
            await gate.gateway.db.write(retry, accepted.json["job_id"], again(2))


async def test_a_job_that_was_handed_in_again_is_not_done_a_third_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        gate.upstream.script["hello"] = failure
        payment = await sign_job(gate)
        accepted = await hand_in(gate, payment)
        assert (await poll(gate, accepted)).json["status"] == "failed"
        gate.upstream.script["hello"] = slow(5)
        assert (await hand_in(gate, payment)).status == 202
        with pytest.raises(Conflict, match="again"):
            await gate.gateway.db.write(retry, accepted.json["job_id"], Retry("ej_1", "chg_z", "r", bytes(32), 900))


def _not_final(tx: Tx) -> None:
    """The sandbox is final at once; here it is not."""
    ((sql,),) = tx.execute("SELECT sql FROM sqlite_schema WHERE name = 'settlements_final_stay'")
    tx.execute("DROP TRIGGER settlements_final_stay")
    tx.execute("UPDATE settlements SET final = 0")
    tx.execute(sql)


async def test_an_idempotency_key_tops_up_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        agent_id, token = await gate.agent()
        gate.upstream.script["hello"] = failure
        key = {"Idempotency-Key": "k-1"}
        stopped = await gate.call("hello", token=token, payment=await gate.sign(), headers=key)
        assert stopped.status == 502
        del gate.upstream.script["hello"]
        again = await gate.call("hello", token=token, payment=await gate.sign(), headers=key)
        assert again.status == 200
        assert (await gate.call("hello", token=token, headers=key)).body == again.body
        assert (await gate.call("other", token=token, headers=key)).json["code"] == "IDEMPOTENCY_CONFLICT"
        assert (len(await topups(gate)), gate.upstream.runs("hello")) == (1, 2)
        assert await available(gate, agent_id) == 0


async def test_an_upstream_that_rests_is_told_before_anything_is_taken(tmp_path: Path) -> None:
    async with opened(tmp_path) as gate:
        payment = await gate.sign()
        gate.upstream.rests["test/alpha"] = 7
        reply = await gate.call("hello", payment=payment)
        assert (reply.status, reply.headers["Retry-After"]) == (502, "7")
        assert await gate.charges() == []
        gate.upstream.rests.clear()
        gate.upstream.script["hello"] = failure
        assert (await gate.call("hello", payment=payment)).status == 502
        gate.upstream.rests["test/alpha"] = 7
        kept = await gate.call("hello", payment=payment)
        assert kept.json["details"]["topup"]["account"]["available_usd"] == "0.330"
        assert gate.upstream.runs("hello") == 1
