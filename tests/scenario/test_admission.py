"""What is asked of a payment and of an agent before any work, and what a charge knows of it from then on."""

import asyncio
import time
import tomllib
from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict
from rigs.books import work
from rigs.fickle import Fickle
from rigs.gate import SETTINGS, Gate, header
from rigs.scripted import CANARY, Scripted, match

from gateway.assemble import assemble
from gateway.core.agent import Status
from gateway.core.charge import Charge, Source
from gateway.core.settlement import Settled, Settlement
from gateway.core.upstream import Context, Outcome
from gateway.core.x402.verify import Verified
from gateway.edge.tokens import CACHE_S
from gateway.flows.fulfilling import SETTLE_MARGIN_S
from gateway.flows.purchase import WORK_MARGIN_S
from gateway.settings import parse
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.protocol import Admitted, Refused, Unknown
from gateway.settlement.sandbox import PREFUNDED, PREFUNDED_ATOMIC, Weather
from gateway.store import agents, charges, settlements

PAYER = next(iter(PREFUNDED)).lower()
PRICE = 330_000
TIMEOUT_S = int(Scripted().timeout_s)


class ChainClock(Fickle):
    """Its latest block is this much ahead of our clock."""

    ahead_s = 0

    def __init__(self) -> None:
        super().__init__(pay_to=SANDBOX_PAY_TO, clock=time.time)

    async def check(self, payment: Verified) -> Admitted | Refused | Unknown:
        admitted = await super().check(payment)
        assert isinstance(admitted, Admitted)
        return replace(admitted, block_time_s=admitted.block_time_s + self.ahead_s)


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
async def test_f010_a_signature_outlives_the_work_and_its_settlement_by_our_clock(tmp_path, method):
    """Refused before anybody is asked: the chain could still take it, but perhaps not when the work is done."""
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)
    end = "validBefore" if method == "eip3009" else "deadline"
    async with Gate.open(tmp_path, settler=settler) as gate:
        for left_s in (1, TIMEOUT_S + 1, TIMEOUT_S + SETTLE_MARGIN_S - 1):
            reply = await gate.pay("hello", method=method, **{end: str(int(time.time()) + left_s)})
            assert (reply.status, reply.json["code"]) == (402, "PAYMENT_EXPIRED")
        assert settler.checks == []
        assert await gate.charges() == []
        enough = str(int(time.time()) + TIMEOUT_S + SETTLE_MARGIN_S + 3)
        assert (await gate.pay("hello", method=method, **{end: enough})).status == 200
    assert SETTLE_MARGIN_S >= 10


async def test_f010_and_by_the_chains_clock(tmp_path):
    settler = ChainClock()
    async with Gate.open(tmp_path, settler=settler) as gate:
        left_s = TIMEOUT_S + SETTLE_MARGIN_S + 20
        settler.ahead_s = 25
        reply = await gate.pay("hello", validBefore=str(int(time.time()) + left_s))
        assert (reply.status, reply.json["code"]) == (402, "PAYMENT_EXPIRED")
        assert await gate.charges() == []
        assert gate.upstream.journal == []
        settler.ahead_s = 5
        assert (await gate.pay("hello", validBefore=str(int(time.time()) + left_s))).status == 200


async def test_payments_by_agents_only(tmp_path):
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with Gate.open(tmp_path, settler=settler, toml='[service]\nanonymous = "none"\n') as gate:
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment)
        assert (reply.status, reply.json["code"]) == (403, "ANONYMOUS_REFUSED")
        assert settler.checks == []
        assert await gate.charges() == []
        _, token = await gate.agent()
        assert (await gate.call("hello", payment=payment, token=token)).status == 200


async def test_what_an_agent_paid_by_signature_is_refunded_to_the_agent(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent()
        reply = await gate.call("hello", token=token, payment=await gate.sign())
        await gate.gateway.db.write(charges.refund, reply.headers["X-Charge-Id"], PRICE, "ref_1", "")
        assert (await gate.balance(agent)).available == PRICE


async def test_a_settlement_knows_the_block_it_was_admitted_at(tmp_path):
    """From there on its logs are searched."""
    async with Gate.open(tmp_path) as gate:
        for word in ("one", "two", "three"):
            assert (await gate.pay(word)).status == 200
        admitted = [view.settlement.admitted_block for view in await gate.charges() if view.settlement]
        assert admitted == [0, 1, 2]


async def test_a_call_may_take_its_time_and_a_margin_before_anybody_takes_it_for_dead(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(PRICE)
        await gate.call("hello", token=token)
        (view,) = await gate.charges()
        allowed_ms = view.work_deadline_ms - view.created_ms
        assert abs(allowed_ms - (TIMEOUT_S + WORK_MARGIN_S) * 1000) < 1000
    assert WORK_MARGIN_S >= 30


@pytest.mark.parametrize("paid_by", ["balance", "signature"])
async def test_f133_revoked_or_frozen_a_moment_ago_opens_nothing(tmp_path, paid_by):
    """Who a bearer is may be remembered for a moment; whether it still opens anything is asked with the hold."""
    clock = Clock()
    async with Gate.open(tmp_path, clock=clock) as gate:
        for undo, status, code in (
            (agents.revoke, 401, "INVALID_TOKEN"),
            (lambda tx, agent: agents.set_status(tx, agent, Status.FROZEN), 403, "AGENT_FROZEN"),
        ):
            agent, token = await gate.agent(5 * PRICE)
            key = {"Idempotency-Key": "order-1"}
            payment = await gate.sign() if paid_by == "signature" else None
            assert (await gate.call("before", token=token, headers=key)).status == 200
            known = len(await gate.charges())
            await gate.gateway.db.write(undo, agent)
            reply = await gate.call("after", token=token, payment=payment)
            assert (reply.status, reply.json["code"]) == (status, code)
            clock.ahead_s += CACHE_S + 1
            for word, headers in (("after", {}), ("before", key)):
                reply = await gate.call(word, token=token, payment=payment, headers=headers)
                assert (reply.status, reply.json["code"]) == (status, code)
            assert len(await gate.charges()) == known
        assert gate.upstream.runs("after") == 0
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC


async def test_two_payments_in_one_call_are_none(tmp_path):
    async with Gate.open(tmp_path) as gate:
        sent = CIMultiDict({"Content-Type": "application/json"})
        for _ in range(2):
            sent.add("PAYMENT-SIGNATURE", header(await gate.sign()))
        reply = await gate.send("POST", "/api/v1/test/alpha", headers=sent, body=b'{"word":"hello"}')
        assert (reply.status, reply.json["code"]) == (400, "PAYMENT_MALFORMED")
        assert await gate.charges() == []


async def test_f018_f068_a_refused_payment_gets_the_offer_and_no_cache_keeps_it(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.sandbox.allow_permit2(PAYER, 0)
        _, token = await gate.agent(1)
        replies = {
            "approve": await gate.pay("hello", method="permit2"),
            "wrong": await gate.pay("hello", value="1"),
            "poor": await gate.call("hello", token=token),
        }
        assert {name: reply.status for name, reply in replies.items()} == {"approve": 412, "wrong": 402, "poor": 402}
        assert replies["approve"].json["code"] == "PERMIT2_ALLOWANCE_REQUIRED"
        for reply in replies.values():
            assert reply.offer["accepts"]
            assert reply.headers["Cache-Control"] == "no-store"
        assert await gate.charges() == []


async def test_a_result_is_kept_as_long_as_the_operator_says_and_then_told_as_gone(tmp_path):
    clock = Clock()
    async with Gate.open(tmp_path, clock=clock, toml="result_ttl_hours = 3\n") as gate:
        _, token = await gate.agent(PRICE)
        key = {"Idempotency-Key": "order-1"}
        assert (await gate.call("hello", token=token, headers=key)).status == 200
        clock.ahead_s = 10_700
        assert (await gate.call("hello", token=token, headers=key)).status == 200
        clock.ahead_s = 10_900
        gone = await gate.call("hello", token=token, headers=key)
        assert (gone.status, gone.json["code"]) == (410, "RESULT_EXPIRED")
        assert gate.upstream.runs("hello") == 1


async def test_the_answer_when_somebody_else_has_booked_the_proof_first(tmp_path):
    """Recovery or another process, between our asking and our writing: the charge is told as it is by now."""
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)

    async with Gate.open(tmp_path, settler=settler) as gate:

        async def booked(settler: Fickle, settlement: Settlement) -> Any:
            proof = await settler.really(settlement)
            assert isinstance(proof, Settled)
            await gate.gateway.db.write(settlements.proven, settlement.id, proof, settlement.amount_micros)
            return proof

        settler.settle_as = booked
        reply = await gate.pay("hello")
        assert reply.status == 200
        assert reply.receipt["success"] is True
        assert reply.json["data"]["found"] == CANARY


async def test_f099_what_a_dead_process_held_is_free_before_the_doors_open(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(PRICE)
        held = Charge("chg_left", "test/alpha", agent, Source.BALANCE, PRICE)
        await gate.gateway.db.write(charges.hold, held, work(agent), None, None)
        assert (await gate.call("hello", token=token)).status == 402
    settings = parse(tomllib.loads(SETTINGS), {}, base=tmp_path)
    async with assemble(settings, sold=[Scripted()]) as gateway:
        assert await gateway.db.read(charges.held) == []


async def test_what_was_earned_is_counted_by_operation_and_source(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(PRICE)
        assert (await gate.call("hello", token=token)).status == 200
        assert (await gate.pay("hello", operation="test/gamma")).status == 200
        page = (await gate.send("GET", "/metrics")).body.decode()
        earned = {line for line in page.splitlines() if line.startswith("faregate_charged_micros") and "{" in line}
        assert any('"test/alpha"' in line and '"balance"' in line and line.endswith(" 330000.0") for line in earned)
        assert any('"test/gamma"' in line and '"signature"' in line and line.endswith(" 500000.0") for line in earned)


async def test_f182_what_was_given_up_is_not_late_and_what_is_sent_does_not_wait_to_be(tmp_path):
    """An abandoned payment is nobody's debt any more; one that was sent is late, but not stuck in the queue."""
    clock = Clock()
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)

    async def poor(settler: Fickle, settlement: Settlement) -> Refused:
        return Refused("invalid_exact_evm_insufficient_balance", "moved away", final=False)

    settler.settle_as = poor
    async with Gate.open(tmp_path, settler=settler, clock=clock) as gate:
        assert (await gate.pay("hello")).status == 402
        clock.ahead_s = 600
        levels = await gate.gateway.alarms.levels()
        assert (levels["payment_pending_too_long"], levels["queue_stuck"]) == (0, 0)
        settler.weather = Weather.UNREACHABLE
        assert (await gate.gateway.alarms.levels())["sandbox_unreachable"] == 1
        settler.weather = Weather.FAIR
        assert "sandbox_unreachable" not in await gate.gateway.alarms.levels()


async def test_the_agents_payment_again_without_the_agent_opens_no_other_door(tmp_path):
    """Whoever repeats the very bytes gets the very answer; a token of his own, good after that, is the payer's only
    where no agent owns the charge."""
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent()
        payment = await gate.sign()
        first = await gate.call("hello", token=token, payment=payment)
        again = await gate.call("hello", payment=payment)
        assert (again.status, again.body) == (200, first.body)
        assert "X-Charge-Token" not in again.headers
        assert await gate.gateway.db.read(lambda tx: tx.execute("SELECT * FROM charge_tokens")) == []


async def test_f093_another_payment_under_a_key_in_flight_is_told_of_the_first(tmp_path):
    async with Gate.open(tmp_path) as gate:
        begun, go = asyncio.Event(), asyncio.Event()

        async def waits(context: Context) -> Outcome:
            begun.set()
            await go.wait()
            return await match(context)

        gate.upstream.script["slow"] = waits
        _, token = await gate.agent()
        key = {"Idempotency-Key": "order-1"}
        first = asyncio.create_task(gate.call("slow", token=token, payment=await gate.sign(), headers=key))
        await begun.wait()
        second = await gate.call("slow", token=token, payment=await gate.sign(), headers=key)
        assert (second.status, second.json["code"]) == (202, "CALL_IN_PROGRESS")
        go.set()
        done = await first
        assert done.status == 200
        assert second.json["charge_id"] == done.headers["X-Charge-Id"]
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


async def test_a_payer_who_lost_the_first_answer_has_a_charge_token_with_the_second(tmp_path):
    async with Gate.open(tmp_path) as gate:
        payment = await gate.sign()
        replies = [await gate.call("hello", payment=payment) for _ in range(2)]
        tokens = [reply.headers["X-Charge-Token"] for reply in replies]
        assert tokens[0] != tokens[1]
        for token in tokens:
            path = f"/api/v1/charges/{replies[0].headers['X-Charge-Id']}"
            kept = await gate.send("GET", path, headers={"X-Charge-Token": token})
            assert kept.json["result"]["data"]["found"] == CANARY


async def test_f056_a_repeat_waits_for_the_settlement_as_the_first_call_did(tmp_path):
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)
    mined = asyncio.Event()

    async def at_last(settler: Fickle, settlement: Settlement) -> Any:
        await mined.wait()
        return await settler.really(settlement)

    settler.settle_as = at_last
    async with Gate.open(tmp_path, settler=settler) as gate:
        payment = await gate.sign()
        assert (await gate.call("hello", payment=payment)).status == 202
        again = asyncio.create_task(gate.call("hello", payment=payment))
        await asyncio.sleep(0.2)
        assert not again.done()
        mined.set()
        assert (await again).status == 200
