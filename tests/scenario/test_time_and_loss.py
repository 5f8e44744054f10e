"""What takes longer than somebody waits, what was lost with an old backup, and sums of very small amounts."""

import asyncio
import contextlib
import shutil
import time
from dataclasses import replace
from fractions import Fraction
from urllib.parse import urlsplit

import orjson
from hypothesis import given
from hypothesis import strategies as st
from rigs.fickle import Fickle
from rigs.gate import Gate, header
from rigs.scripted import CANARY, slow

from gateway.core.charge import Charge, Event, Source, advance, hold
from gateway.core.money import format_usd, micros_to_atomic_up, parse_usd
from gateway.core.transfer import REVENUE
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.protocol import Admitted
from gateway.settlement.sandbox import PREFUNDED, PREFUNDED_ATOMIC, Weather

PAYER = next(iter(PREFUNDED)).lower()
PRICE = 330_000


def chain() -> Fickle:
    return Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)


async def test_f027_not_a_byte_leaves_before_the_payment_is_proven(tmp_path):
    settler = chain()
    settler.weather = Weather.STUCK
    async with Gate.open(tmp_path, settler=settler) as gate:
        payment = await gate.sign()
        body = orjson.dumps({"word": "hello"})
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(gate.url).port)
        writer.write(
            f"POST /api/v1/test/alpha HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\nPAYMENT-SIGNATURE: {header(payment)}\r\n\r\n".encode()
            + body
        )
        first = asyncio.create_task(reader.read(1))
        await asyncio.sleep(0.5)
        assert gate.upstream.runs("hello") == 1
        assert not first.done()
        whole = await first + await reader.read()
        assert whole.startswith(b"HTTP/1.1 202")
        assert CANARY.encode() not in whole
        writer.close()
        settler.weather = Weather.FAIR


async def test_a_signature_must_be_good_by_the_chains_clock_too(tmp_path):
    class Ahead(Fickle):
        async def check(self, payment):
            admitted = await super().check(payment)
            assert isinstance(admitted, Admitted)
            return replace(admitted, block_time_s=admitted.block_time_s + 3600)

    async with Gate.open(tmp_path, settler=Ahead(pay_to=SANDBOX_PAY_TO, clock=time.time)) as gate:
        reply = await gate.pay("hello")
        assert (reply.status, reply.json["code"]) == (402, "PAYMENT_EXPIRED")
        assert await gate.charges() == []
        assert gate.upstream.journal == []


async def test_f056_whoever_stops_waiting_first_loses_nothing(tmp_path):
    """The client waits 0.2 s, the gateway 1 s, the chain takes 1.5 s: pending, then the result, one signature."""
    settler = chain()

    async def late(settler, settlement):
        await asyncio.sleep(1.5)
        return await settler.really(settlement)

    settler.settle_as = late
    async with Gate.open(tmp_path, settler=settler) as gate:
        payment = await gate.sign()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gate.call("hello", payment=payment), 0.2)
        seen = []
        for _ in range(20):
            reply = await gate.call("hello", payment=payment)
            seen.append(reply.status)
            if reply.status == 200:
                break
            await asyncio.sleep(0.1)
        assert seen[-1] == 200
        assert set(seen) <= {200, 202}
        assert gate.upstream.runs("hello") == 1
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


async def test_f098_a_duplicate_that_fails_leaves_the_original_its_hold(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["slow"] = slow(0.4)
        agent, token = await gate.agent(PRICE)
        key = {"Idempotency-Key": "order-1"}
        first = asyncio.create_task(gate.call("slow", token=token, headers=key))
        await asyncio.sleep(0.1)
        for word, status in (("slow", 409), ("other", 409)):
            assert (await gate.call(word, token=token, headers=key)).status == status
            assert (await gate.balance(agent)).held == PRICE
        assert (await first).status == 200
        assert (await gate.balance(agent)).held == 0


async def test_f108_an_old_backup_is_live_and_spent_payments_come_back(tmp_path):
    settler, before = chain(), tmp_path / "backup.db"
    home = tmp_path / "home"
    home.mkdir()
    async with Gate.open(home, settler=settler) as gate:
        await gate.agent(PRICE)
    shutil.copy(home / "gate.db", before)
    async with Gate.open(home, settler=settler) as gate:
        payment = await gate.sign()
        assert (await gate.call("hello", payment=payment)).status == 200
        upstream = gate.upstream
    for leftover in home.glob("gate.db*"):
        if leftover.is_file():
            leftover.unlink()
    shutil.copy(before, home / "gate.db")
    async with Gate.open(home, settler=settler, upstream=upstream) as gate:
        reply = await gate.call("hello", payment=payment)
        assert reply.status == 402
        assert reply.offer["error"] == "invalid_exact_evm_nonce_already_used"
        assert upstream.runs("hello") == 1
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


@given(price=st.integers(1, 10**7), calls=st.integers(1, 200), bonus=st.integers(0, 10**7))
def test_f091_many_small_charges_sum_exactly(price, calls, bonus):
    """Line items equal the total, in USD as people read them and in a token's units."""
    earned, told, asked = 0, Fraction(0), 0
    for number in range(calls):
        charge = Charge(f"chg_{number}", "x", "agt_1", Source.BALANCE, price, min(bonus, price))
        hold(charge)
        after, transfers = advance(charge, Event.MATCHED, price)
        earned += sum(t.amount_micros for t in transfers if t.credit == REVENUE)
        told += Fraction(format_usd(after.captured_micros))
        asked += micros_to_atomic_up(price, 18)[0]
    assert earned == price * calls
    assert told == Fraction(price * calls, 10**6)
    assert asked == price * calls * 10**12
    assert parse_usd(format_usd(price)) == price
