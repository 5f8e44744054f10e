"""Recovery: finds what was left, changes nothing that is right, and is not fooled by clocks."""

import asyncio
import time

from rigs.fickle import Fickle
from rigs.gate import Gate
from rigs.scripted import slow

from gateway.core.charge import Event, State
from gateway.flows.recovery import Recovery
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.sandbox import PREFUNDED, PREFUNDED_ATOMIC, Weather

PAYER = next(iter(PREFUNDED)).lower()
PRICE = 330_000


class Clock:
    ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


async def test_f177_a_clock_that_jumps_expires_nobody(tmp_path):
    clock = Clock()
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with Gate.open(tmp_path, clock=clock, settler=settler) as gate:
        gate.upstream.script["slow"] = slow(0.4)
        agent, token = await gate.agent(3 * PRICE)
        for ahead in (3600, -3600):
            call = asyncio.create_task(gate.call("slow", token=token))
            await asyncio.sleep(0.15)
            clock.ahead_s = ahead
            await gate.gateway.recovery.once()
            assert (await call).status == 200
            clock.ahead_s = 0
        assert (await gate.balance(agent)).available == PRICE
        assert (await gate.pay("after")).status == 200


async def test_an_orphan_is_released_and_a_living_call_is_not(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["living"] = slow(0.5)
        _, token = await gate.agent(2 * PRICE)
        living = asyncio.create_task(gate.call("living", token=token))
        await asyncio.sleep(0.1)
        (view,) = await gate.charges()
        passed = 0.0
        dead = Recovery(
            db=gate.gateway.db, settler=None, collecting=None, clock=time.time, alive=lambda owner: owner != "gone",
            monotonic=lambda: passed,
        )  # fmt: skip
        await dead.once()
        assert (await gate.charges())[0].charge.state is State.HELD
        assert (await living).status == 200
        assert view.charge.id == (await gate.charges())[0].charge.id


async def test_an_orphan_of_a_dead_process_is_released_once_and_its_late_answer_is_cost_only(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["slow"] = slow(0.4)
        payment = await gate.sign()
        call = asyncio.create_task(gate.call("slow", payment=payment))
        await asyncio.sleep(0.15)
        dead = Recovery(db=gate.gateway.db, settler=None, collecting=None, clock=time.time, alive=lambda owner: False)
        await dead.once()
        await dead.once()
        late = await call
        assert late.status == 504
        (view,) = await gate.charges()
        assert view.charge.state is State.RELEASED
        assert view.charge.reason is Event.EXPIRED
        assert view.cost_micros == 200
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC
        # The authorization is open again, for the same request.
        assert (await gate.call("slow", payment=payment)).status == 200
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


async def test_f183_recovery_beside_live_traffic_changes_nothing(tmp_path):
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with Gate.open(tmp_path, settler=settler) as gate:
        gate.upstream.script |= {f"w{n}": slow(0.02) for n in range(40)}
        agent, token = await gate.agent(20 * PRICE)
        payments = [await gate.sign() for _ in range(20)]
        stop = asyncio.Event()

        async def again_and_again() -> None:
            while not stop.is_set():
                await asyncio.gather(gate.gateway.recovery.once(), gate.gateway.recovery.once())

        repairs = asyncio.create_task(again_and_again())
        replies = await asyncio.gather(
            *(gate.call(f"w{n}", token=token) for n in range(20)),
            *(gate.call(f"w{20 + n}", payment=payment) for n, payment in enumerate(payments)),
        )
        stop.set()
        await repairs
        assert {reply.status for reply in replies} == {200}
        assert len(gate.upstream.journal) == 40
        assert settler.balance(PAYER) == PREFUNDED_ATOMIC - 20 * PRICE
        assert (await gate.balance(agent)).available == 0


async def test_the_sandbox_remembers_what_was_settled_before(tmp_path):
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)
    settler.weather = Weather.FAIR
    async with Gate.open(tmp_path) as gate:
        assert (await gate.pay("hello")).status == 200
    async with Gate.open(tmp_path) as gate:
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC - PRICE
        assert gate.sandbox.balance(SANDBOX_PAY_TO) == PRICE
