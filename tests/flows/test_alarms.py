"""Alarms, F-182: what is late, what waits to be sent and what was given up; and when nobody could look."""

import asyncio
from typing import Any

from rigs import books
from rigs.books import Clock

from gateway.core import ids
from gateway.core.charge import Event
from gateway.core.settlement import Attempt
from gateway.flows import alarms
from gateway.flows.alarms import Alarms
from gateway.store import charges, settlements
from gateway.store.database import StoreUnavailable
from gateway.store.sqlite import SqliteDatabase


async def captured(db: SqliteDatabase, clock: Clock) -> str:
    """A settlement that is queued just now; answers its id."""
    settlement_id = ids.new_id("stl_", clock.ms, bytes(ids.ENTROPY_ID_BYTES))
    await db.write(charges.hold, books.signed("c1", 300), books.work(), books.claim("n", 300), None)
    await db.write(charges.record, "c1", Event.MATCHED, 300, settlement_id=settlement_id)
    return settlement_id


async def levels(told: Alarms) -> tuple[float, float]:
    found = await told.levels()
    return found["queue_stuck"], found["payment_pending_too_long"]


async def test_what_is_queued_is_stuck_what_is_sent_is_late_what_is_abandoned_is_neither(
    db: SqliteDatabase, clock: Clock
) -> None:
    settlement_id = await captured(db, clock)
    told = Alarms(db=db, settler=None, clock=lambda: clock.ms / 1000)
    clock.ms += int(alarms.QUEUED_MAX_S * 1000)
    assert await levels(told) == (0, 0)
    clock.ms += 1000
    assert await levels(told) == (1, 0)
    attempt = Attempt(books.NETWORK, "0xkey", 5, 0, "0x5", b"raw", 7, (settlement_id,), clock.ms)
    await db.write(settlements.sending, attempt)
    assert await levels(told) == (0, 0)
    clock.ms += int(alarms.PENDING_MAX_S * 1000)
    assert await levels(told) == (0, 1)
    await db.write(settlements.closed, books.NETWORK, "0xkey", 5, None)
    await db.write(settlements.retry, settlement_id)
    assert await levels(told) == (1, 1)
    assert await db.write(settlements.abandon, settlement_id)
    assert await levels(told) == (0, 0)


async def test_an_audit_that_cannot_be_made_is_an_alarm_itself() -> None:
    class Broken:
        async def read(self, fn: Any, *args: Any) -> Any:
            if fn is alarms.audit:
                raise StoreUnavailable
            return []

    told = Alarms(db=Broken(), settler=None, clock=lambda: 0.0)  # type: ignore[arg-type]
    told.tell("paid_twice", "c1")
    told.tell("paid_twice", "c2")
    loop = asyncio.create_task(told.run())
    await asyncio.sleep(0.05)
    assert not loop.done()
    loop.cancel()
    found = await told.levels()
    assert (found["audit_failed"], found["paid_twice"], found["audit_difference"]) == (1, 2, 0)
