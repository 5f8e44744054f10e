"""What a second pair of eyes has tried to break: a word that is not quite a no, rounds that fail, blocks that move."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from rigs.fickle import Fickle
from rigs.gate import Gate
from rigs.scripted import CANARY, match

from gateway.core.charge import State
from gateway.core.settlement import Attempt, Settled, Settlement
from gateway.core.settlement import State as SettlementState
from gateway.core.upstream import Context, Match
from gateway.edge.tokens import CACHE_S
from gateway.flows.collecting import Collecting
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.protocol import Refused, Unknown
from gateway.settlement.sandbox import PREFUNDED, PREFUNDED_ATOMIC, Weather
from gateway.store import agents, settlements
from gateway.store.database import StoreUnavailable

PAYER = next(iter(PREFUNDED)).lower()
PRICE = 330_000


def fickle() -> Fickle:
    return Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)


async def poor(settler: Fickle, settlement: Settlement) -> Refused:
    return Refused("invalid_exact_evm_insufficient_balance", "moved away", final=False)


async def test_f046_f047_a_used_nonce_alone_is_no_reason_to_ask_for_more_money(tmp_path):
    """A stranger's transaction has just paid us, and is not deep enough to be called proof."""
    settler = fickle()

    async def used(settler: Fickle, settlement: Settlement) -> Refused:
        await settler.really(settlement)
        return Refused("invalid_exact_evm_nonce_already_used", "its nonce was used before", final=False)

    settler.settle_as = used
    async with Gate.open(tmp_path, settler=settler) as gate:
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment)
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - PRICE
        assert reply.status == 202
        assert reply.receipt["errorReason"] == "settlement_pending"
        settler.settle_as = None
        for _ in range(50):
            reply = await gate.call("hello", payment=payment)
            if reply.status == 200:
                break
            await asyncio.sleep(0.1)
        assert reply.json["data"]["found"] == CANARY
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


class Moody:
    """A database that fails a read now and then."""

    def __init__(self, db: Any, failures: int) -> None:
        self._db = db
        self.left = failures

    async def read(self, fn: Any, *args: Any) -> Any:
        if fn is settlements.queued and self.left:
            self.left -= 1
            raise StoreUnavailable
        return await self._db.read(fn, *args)

    async def write(self, fn: Any, *args: Any) -> Any:
        return await self._db.write(fn, *args)


async def test_f102_the_collecting_loop_outlives_a_store_that_fails_for_a_while(tmp_path):
    settler = fickle()
    settler.weather = Weather.UNREACHABLE
    told: list[str] = []
    async with Gate.open(tmp_path, settler=settler) as gate:
        settler.weather = Weather.STUCK
        assert (await gate.pay("hello")).status == 202
        db = Moody(gate.gateway.db, failures=1)
        other = Collecting(db=db, settler=settler, decimals={}, alarm=lambda name, subject: told.append(name))
        settler.weather = Weather.FAIR
        loop = asyncio.create_task(other.run())
        for _ in range(40):
            await asyncio.sleep(0.1)
            if not db.left and (await gate.charges())[0].charge.state is State.SETTLED:
                break
        assert not loop.done()
        loop.cancel()
        assert told == ["collecting_failed"]
        assert (await gate.charges())[0].charge.state is State.SETTLED


async def test_a_withheld_result_is_bought_under_the_same_idempotency_key(tmp_path):
    settler = fickle()
    settler.settle_as = poor
    async with Gate.open(tmp_path, settler=settler) as gate:
        _, token = await gate.agent(PRICE)
        key = {"Idempotency-Key": "order-1"}
        first = await gate.sign()
        refused = await gate.call("hello", token=token, payment=first, headers=key)
        assert (refused.status, refused.json["code"]) == (402, "SETTLEMENT_FAILED")
        path = f"/api/v1/charges/{refused.json['charge_id']}"
        told = (await gate.send("GET", path, headers={"Authorization": f"Bearer {token}"})).json
        assert (told["charged_usd"], told["billed"], told["result"]) == ("0.000", False, None)
        settler.settle_as = None
        assert (await gate.call("hello", token=token, payment=first, headers=key)).status == 402
        bought = await gate.call("hello", token=token, payment=await gate.sign(), headers=key)
        assert bought.status == 200
        assert gate.upstream.runs("hello") == 1
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - PRICE
        again = await gate.call("hello", token=token, payment=await gate.sign(), headers=key)
        assert again.headers["Idempotent-Replay"] == "true"
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


class Hanging(Fickle):
    async def find(self, settlement: Settlement) -> Settled | Refused | Unknown:
        await asyncio.sleep(0.5)
        return Unknown("no answer")


def attempt_for(settlement: Settlement, nonce: int) -> Attempt:
    hash = f"0x{nonce:064x}"
    return Attempt(settlement.network, "0xkey", nonce, 0, hash, b"\x02", 1, (settlement.id,), int(time.time() * 1000))


async def test_f051_a_chain_that_hangs_holds_up_neither_the_start_nor_one_look_the_next(tmp_path):
    settler = fickle()
    settler.weather = Weather.STUCK
    async with Gate.open(tmp_path, settler=settler) as gate:
        replies = await asyncio.gather(*(gate.pay("hello") for _ in range(6)))
        assert {reply.status for reply in replies} == {202}
        for nonce, settlement in enumerate(await gate.gateway.db.read(settlements.unfinished)):
            await gate.gateway.db.write(settlements.sending, attempt_for(settlement, nonce))
        # What was sent is told with the hash to look for.
        (first, *_) = await gate.charges()
        path = f"/api/v1/charges/{first.charge.id}"
        token = {
            "X-Charge-Token": next(r for r in replies if r.json["charge_id"] == first.charge.id).json["charge_token"]
        }
        assert (await gate.send("GET", path, headers=token)).json["settlement"]["state"] == "sent"
    hanging = Hanging(pay_to=SANDBOX_PAY_TO, clock=time.time)
    started = time.monotonic()
    async with Gate.open(tmp_path, settler=hanging) as gate:
        assert time.monotonic() - started < 0.5
        started = time.monotonic()
        await gate.gateway.recovery.once()
        assert time.monotonic() - started < 1.5


async def test_a_pending_receipt_names_the_transaction_that_was_sent(tmp_path):
    settler = fickle()
    settler.weather = Weather.STUCK
    async with Gate.open(tmp_path, settler=settler) as gate:
        payment = await gate.sign()
        assert (await gate.call("hello", payment=payment)).receipt["transaction"] == ""
        (settlement,) = await gate.gateway.db.read(settlements.unfinished)
        attempt = attempt_for(settlement, 7)
        await gate.gateway.db.write(settlements.sending, attempt)
        again = await gate.call("hello", payment=payment)
        assert again.status == 202
        assert again.receipt["transaction"] == attempt.hash


class Reorganising(Fickle):
    """Proves everything by logs of one transaction, two numbers apart; then the block is made anew, and all move on."""

    shift = 0
    deep = False
    failing = ""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.order: list[str] = []

    def seen(self, settlement: Settlement, proof: Settled | Refused | Unknown) -> Settled | Refused | Unknown:
        if not isinstance(proof, Settled):
            return proof
        if settlement.id not in self.order:
            self.order.append(settlement.id)
        place = 2 * self.order.index(settlement.id) + self.shift
        return replace(proof, transaction="0x" + "ab" * 32, log_index=place, final=self.deep)

    async def settle(self, settlement: Settlement) -> Settled | Refused | Unknown:
        return self.seen(settlement, await super().settle(settlement))

    async def find(self, settlement: Settlement) -> Settled | Refused | Unknown:
        if settlement.id == self.failing:
            raise RuntimeError("something that nobody has thought of")
        return self.seen(settlement, await super().find(settlement))


async def test_a_batch_that_moves_within_its_block_keeps_its_proofs_right(tmp_path):
    settler = Reorganising(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with Gate.open(tmp_path, settler=settler) as gate:
        for word in ("one", "two", "three"):
            assert (await gate.pay(word)).status == 200
        settler.shift = 2  # each stands where the next one stood
        await gate.gateway.recovery.once()
        rows = await gate.gateway.db.read(proofs)
        assert rows == [(id, 2 * place + 2) for place, id in enumerate(settler.order)]
        assert {view.charge.state for view in await gate.charges()} == {State.SETTLED}
        assert (await gate.pay("four")).status == 200
        settler.deep = True
        await gate.gateway.recovery.once()
        assert await gate.gateway.db.read(settlements.watched) == []
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - 4 * PRICE


def proofs(tx: Any) -> list[tuple[str, int]]:
    rows = tx.execute("SELECT settlement_id, log_index FROM proofs WHERE taken_back_ms IS NULL ORDER BY log_index")
    return [tuple(row) for row in rows]


async def test_one_settlement_that_cannot_be_looked_at_stops_no_other(tmp_path):
    settler = Reorganising(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with Gate.open(tmp_path, settler=settler) as gate:
        for word in ("one", "two"):
            assert (await gate.pay(word)).status == 200
        settler.failing, settler.deep = settler.order[0], True
        await gate.gateway.recovery.once()
        (left,) = await gate.gateway.db.read(settlements.watched)
        assert left.id == settler.failing
        assert left.state is SettlementState.PROVEN
        assert (await gate.gateway.alarms.levels())["recovery_failed"] == 1
        settler.failing = ""


async def test_f177_a_revoked_token_is_not_known_again_when_the_clock_goes_back(tmp_path):
    ahead = 0.0
    async with Gate.open(tmp_path, clock=lambda: time.time() + ahead) as gate:
        agent, token = await gate.agent(2 * PRICE)
        key = {"Idempotency-Key": "order-1"}
        assert (await gate.call("hello", token=token, headers=key)).status == 200
        await gate.gateway.db.write(agents.revoke, agent)
        ahead = -3600
        assert (await gate.call("hello", token=token, headers=key)).status == 401
        assert CACHE_S < 3600


UNUSABLE = {
    "nothing": None,
    "a cost below zero": Match({}, cost_micros=-5),
    "a part of a micro": Match({}, cost_micros=1.5),  # type: ignore[arg-type]
    "a header no header can hold": Match({}, headers={"X-Name": "J\u0142"}),
    "two headers in one": Match({}, headers={"X-Name": "a\r\nSet-Cookie: b=c"}),
    "our receipt": Match({}, headers={"Payment-Response": "e30="}),
    "our framing": Match({}, headers={"Content-Length": "3"}),
    "a cookie": Match({}, headers={"Set-Cookie": "a=b"}),
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_f147_f157_a_plug_ins_answer_that_cannot_be_passed_on_is_a_failure_not_a_charge(tmp_path, name):
    async with Gate.open(tmp_path) as gate:

        async def odd(context: Context) -> Any:
            return UNUSABLE[name]

        gate.upstream.script["hello"] = odd
        agent, token = await gate.agent(PRICE)
        reply = await gate.call("hello", token=token)
        assert (reply.status, reply.json["code"]) == (502, "UPSTREAM_ERROR")
        assert (await gate.balance(agent)).available == PRICE
        gate.upstream.script["hello"] = match
        assert (await gate.call("hello", token=token)).status == 200


async def test_a_result_that_was_paid_for_twice_after_all_is_an_alarm(tmp_path):
    """The first payment was told to have failed and its result bought again; then a stranger sends the first."""
    settler = fickle()
    settler.settle_as = poor
    async with Gate.open(tmp_path, settler=settler) as gate:
        first = await gate.sign()
        assert (await gate.call("hello", payment=first)).status == 402
        settler.settle_as = None
        assert (await gate.call("hello", payment=await gate.sign())).status == 200
        (left,) = await gate.gateway.db.read(settlements.unfinished)
        await settler.really(replace(left, abandoned=False))
        await gate.gateway.recovery.once()
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - 2 * PRICE
        assert (await gate.gateway.alarms.levels())["paid_twice"] == 1
        assert (await gate.call("hello", payment=first)).status == 200
