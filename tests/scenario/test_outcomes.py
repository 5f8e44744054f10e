"""Group B: what an outcome means for the money, and what is let out when."""

import asyncio
import time

import pytest
from rigs.fickle import Fickle
from rigs.gate import Gate
from rigs.scripted import CANARY, Scripted, bug, failure, hang, match, miss, slow

from gateway.core.charge import State
from gateway.core.settlement import State as SettlementState
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.protocol import Refused, Unknown
from gateway.settlement.sandbox import PREFUNDED, PREFUNDED_ATOMIC, Weather

PAYER = next(iter(PREFUNDED)).lower()
PRICE = 330_000


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def fickle(clock=time.time) -> Fickle:
    return Fickle(pay_to=SANDBOX_PAY_TO, clock=clock)


@pytest.mark.parametrize("paid_by", ["balance", "eip3009", "permit2"])
@pytest.mark.parametrize(
    ("step", "status"), [(failure, 502), (bug, 502), (hang, 504)], ids=["failure", "bug", "timeout"]
)
async def test_f019_a_failing_upstream_costs_nothing_and_frees_the_payment(tmp_path, paid_by, step, status):
    upstream = Scripted(timeout_s=0.2)
    async with Gate.open(tmp_path, upstream=upstream) as gate:
        upstream.script["hello"] = step
        agent, token = await gate.agent(PRICE)
        means = {"token": token} if paid_by == "balance" else {"payment": await gate.sign(method=paid_by)}
        failed = await gate.call("hello", **means)
        assert failed.status == status
        assert CANARY.encode() not in failed.body
        assert "RuntimeError" not in failed.body.decode()
        (charge,) = await gate.charges()
        assert charge.charge.state is State.RELEASED
        assert (await gate.balance(agent)).available == PRICE
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC
        upstream.script["hello"] = match
        again = await gate.call("hello", **means)
        assert again.status == 200
        assert again.json["billed"] is True


async def test_an_open_payment_is_open_for_the_same_request_only(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["hello"] = failure
        payment = await gate.sign()
        assert (await gate.call("hello", payment=payment)).status == 502
        assert (await gate.call("other", payment=payment)).status == 409
        assert (await gate.call("hello", operation="test/beta", payment=payment)).status == 409
        gate.upstream.script["hello"] = match
        assert (await gate.call("hello", payment=payment)).status == 200


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
async def test_a_miss_is_free_and_the_authorization_is_dead(tmp_path, method):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["nobody"] = miss
        payment = await gate.sign(method=method)
        reply = await gate.call("nobody", payment=payment)
        assert reply.status == 200
        assert (reply.json["matched"], reply.json["billed"]) == (False, False)
        assert reply.json["billing"]["charged_usd"] == "0.000"
        assert "PAYMENT-RESPONSE" not in reply.headers
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC
        again = await gate.call("nobody", payment=payment)
        assert again.body == reply.body
        assert (await gate.call("hello", payment=payment)).status == 409
        assert gate.upstream.runs("nobody") == 1
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC


async def test_f021_a_refused_settlement_lets_nothing_out(tmp_path):
    settler = fickle()

    async def no(settler, settlement):
        return Refused("transaction_failed", "reverted", final=True)

    settler.settle_as = no
    async with Gate.open(tmp_path, settler=settler) as gate:
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment)
        assert reply.status == 402
        assert reply.json["code"] == "SETTLEMENT_FAILED"
        assert reply.receipt["success"] is False
        assert CANARY.encode() not in reply.body
        assert CANARY not in str(reply.headers)
        charge, token = reply.json["charge_id"], reply.headers.get("X-Charge-Token")
        assert token is not None
        told = await gate.send("GET", f"/api/v1/charges/{charge}", headers={"X-Charge-Token": token})
        assert told.json["result"] is None
        assert told.json["state"] == "unpaid"
        again = await gate.call("hello", payment=payment)
        assert again.status == 402
        assert CANARY.encode() not in again.body


async def test_a_withheld_result_is_bought_by_a_new_payment_without_new_work(tmp_path):
    settler = fickle()

    async def poor(settler, settlement):
        return Refused("invalid_exact_evm_insufficient_balance", "moved away", final=False)

    settler.settle_as = poor
    async with Gate.open(tmp_path, settler=settler) as gate:
        first = await gate.sign()
        assert (await gate.call("hello", payment=first)).status == 402
        (charge,) = await gate.charges()
        assert charge.settlement is not None
        assert charge.settlement.abandoned
        settler.settle_as = None
        # Abandoned is for good: recovery does not send it either.
        await gate.gateway.recovery.once()
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC
        # Somebody else does not get it, and has to have it worked on.
        assert (await gate.pay("hello", key=1)).status == 200
        assert gate.upstream.runs("hello") == 2
        bought = await gate.pay("hello")
        assert bought.status == 200
        assert bought.json["data"]["found"] == CANARY
        assert gate.upstream.runs("hello") == 2
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


async def test_two_new_payments_for_one_withheld_result_at_once(tmp_path):
    settler = fickle()

    async def poor(settler, settlement):
        return Refused("invalid_exact_evm_insufficient_balance", "moved away", final=False)

    settler.settle_as = poor
    async with Gate.open(tmp_path, settler=settler) as gate:
        assert (await gate.pay("hello")).status == 402
        settler.settle_as = None
        replies = await asyncio.gather(gate.pay("hello"), gate.pay("hello"))
        assert [reply.status for reply in replies] == [200, 200]
        assert gate.upstream.runs("hello") == 1


async def test_f022_a_lost_reply_is_pending_never_a_new_challenge(tmp_path):
    settler = fickle()
    settler.weather = Weather.LOST_REPLY
    async with Gate.open(tmp_path, settler=settler) as gate:
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment)
        assert reply.status in (200, 202)  # it may have been found again meanwhile
        assert "PAYMENT-REQUIRED" not in reply.headers
        settler.weather = Weather.FAIR
        await asyncio.sleep(0.6)
        again = await gate.call("hello", payment=payment)
        assert again.status == 200
        assert again.json["data"]["found"] == CANARY
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


async def test_f022_what_is_stuck_stays_pending_and_lets_nothing_out(tmp_path):
    settler = fickle()
    settler.weather = Weather.STUCK
    async with Gate.open(tmp_path, settler=settler, toml="[service]\nname = 'x'\n") as gate:
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment)
        assert reply.status == 202
        assert reply.json["code"] == "SETTLEMENT_PENDING"
        assert reply.receipt == {
            "success": False, "transaction": "", "network": "eip155:31337", "payer": PAYER,
            "errorReason": "settlement_pending", "sandbox": True,
        }  # fmt: skip
        assert CANARY.encode() not in reply.body
        where, token = reply.headers["Location"], reply.headers["X-Charge-Token"]
        assert reply.json["charge_token"] == token
        waiting = await gate.send("GET", where, headers={"X-Charge-Token": token})
        assert waiting.json["result"] is None
        assert "Retry-After" in waiting.headers
        settler.weather = Weather.FAIR
        for _ in range(50):
            done = await gate.send("GET", where, headers={"X-Charge-Token": token})
            if done.json["result"]:
                break
            await asyncio.sleep(0.1)
        assert done.json["result"]["data"]["found"] == CANARY
        assert done.json["settlement"]["state"] == "proven"
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


async def test_f025_kept_but_not_settled_when_the_gateway_stops(tmp_path):
    """The result was stored, nothing was sent: the next start settles once, and only then lets it out."""
    settler = fickle()
    settler.weather = Weather.STUCK
    async with Gate.open(tmp_path, settler=settler) as gate:
        payment = await gate.sign()
        assert (await gate.call("hello", payment=payment)).status == 202
        upstream = gate.upstream
    async with Gate.open(tmp_path, upstream=upstream) as gate:
        for _ in range(50):
            reply = await gate.call("hello", payment=payment)
            if reply.status == 200:
                break
            await asyncio.sleep(0.05)
        assert reply.json["data"]["found"] == CANARY
        assert upstream.runs("hello") == 1
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


async def test_f025_expired_before_it_was_settled_stays_withheld(tmp_path):
    clock = Clock()
    settler = fickle(clock)
    settler.weather = Weather.STUCK
    async with Gate.open(tmp_path, settler=settler, clock=clock) as gate:
        payment = await gate.sign()
        assert (await gate.call("hello", payment=payment)).status == 202
        clock.ahead_s = 3600
        settler.weather = Weather.FAIR
        for _ in range(50):
            (charge,) = await gate.charges()
            if charge.charge.state is State.UNPAID:
                break
            await asyncio.sleep(0.1)
        assert charge.charge.state is State.UNPAID
        assert charge.settlement.state is SettlementState.LOST
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC


@pytest.mark.parametrize("after_ms", [1, 30, 80, 150])
async def test_f026_a_client_that_hangs_up_finds_his_result_again(tmp_path, after_ms):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["hello"] = slow(0.1)
        payment = await gate.sign()
        call = asyncio.create_task(gate.call("hello", payment=payment))
        await asyncio.sleep(after_ms / 1000)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        for _ in range(50):
            reply = await gate.call("hello", payment=payment)
            if reply.status == 200:
                break
            await asyncio.sleep(0.05)
        assert reply.json["data"]["found"] == CANARY
        assert gate.upstream.runs("hello") == 1
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


async def test_f031_a_refusal_says_whether_to_pay_again(tmp_path):
    async with Gate.open(tmp_path) as gate:
        used = await gate.sign()
        assert (await gate.call("hello", payment=used)).status == 200
        stop = await gate.call("other", payment=used)
        assert stop.status == 409
        assert "PAYMENT-REQUIRED" not in stop.headers
        again = await gate.call("hello", payment=await gate.sign(value="1"))
        assert again.status == 402
        assert again.json["code"] == "PAYMENT_INVALID"
        assert again.offer["error"] == "invalid_exact_evm_payload_authorization_value_mismatch"


async def test_f033_match_and_miss_are_remembered_a_failure_is_not(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(10 * PRICE)
        gate.upstream.script |= {"nobody": miss, "broken": failure}
        for word, status, runs in (("hello", 200, 1), ("nobody", 200, 1), ("broken", 502, 2)):
            headers = {"Idempotency-Key": f"key-{word}"}
            first = await gate.call(word, token=token, headers=headers)
            second = await gate.call(word, token=token, headers=headers)
            assert first.status == second.status == status
            assert gate.upstream.runs(word) == runs
            if status == 200:
                assert first.body == second.body
                assert second.headers["Idempotent-Replay"] == "true"
        assert (await gate.balance(agent)).available == 9 * PRICE


async def test_settlement_down_refuses_payments_and_still_shows_the_price(tmp_path):
    settler = fickle()
    settler.weather = Weather.UNREACHABLE
    async with Gate.open(tmp_path, settler=settler) as gate:
        assert (await gate.call("hello")).status == 402
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment)
        assert reply.status == 503
        assert reply.json["code"] == "SETTLEMENT_UNAVAILABLE"
        assert int(reply.headers["Retry-After"]) > 0
        assert await gate.charges() == []
        _, token = await gate.agent(PRICE)
        assert (await gate.call("hello", token=token)).status == 200
        settler.weather = Weather.FAIR
        assert (await gate.call("hello", payment=payment)).status == 200


async def test_an_upstream_at_rest_is_not_called_and_nothing_is_held(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.rests["test/alpha"] = 7
        _, token = await gate.agent(PRICE)
        reply = await gate.call("hello", token=token)
        assert reply.status == 502
        assert reply.headers["Retry-After"] == "7"
        assert gate.upstream.journal == []
        assert await gate.charges() == []


async def test_a_wallet_cannot_promise_more_than_it_has(tmp_path):
    """F-060 for calls: what is signed and not yet collected counts against what the chain just showed."""
    settler = fickle()
    settler.fund(PAYER, 2 * PRICE)
    async with Gate.open(tmp_path, settler=settler) as gate:
        gate.upstream.script |= dict.fromkeys("abcdef", slow(0.3))
        payments = [await gate.sign() for _ in range(6)]
        replies = await asyncio.gather(
            *(gate.call(word, payment=payment) for word, payment in zip("abcdef", payments, strict=True))
        )
        assert sorted(reply.status for reply in replies) == [200, 200, 402, 402, 402, 402]
        assert len(gate.upstream.journal) == 2
        assert settler.balance(PAYER) == 0


async def test_unknown_is_never_abandoned(tmp_path):
    settler = fickle()

    async def unknown(settler, settlement):
        return Unknown("nobody knows")

    settler.settle_as = unknown
    async with Gate.open(tmp_path, settler=settler) as gate:
        assert (await gate.pay("hello")).status == 202
        (charge,) = await gate.charges()
        assert not charge.settlement.abandoned
        assert charge.charge.state is State.CAPTURED
        settler.settle_as = None
