"""Leads in the store: one row each, as young as it was asked for last, and gone after ninety days."""

from rigs import books
from rigs.books import DAY_MS, Clock

from gateway.core.lead import LeadKey
from gateway.store import leads
from gateway.store.database import Tx
from gateway.store.sqlite import SqliteDatabase

KEY = LeadKey.of(b"k" * 32)


def digests(agent_id: str, *spellings: str) -> list[bytes]:
    return [KEY.digest(agent_id, spelling) for spelling in spellings]


def rows(tx: Tx) -> list[tuple[object, ...]]:
    return tx.execute("SELECT agent_id, digest, asked_day FROM leads ORDER BY agent_id, digest")


async def test_the_same_again_is_one_row_as_young_as_the_last(db: SqliteDatabase, clock: Clock) -> None:
    await books.agent(db, "ann")
    one = digests("ann", "12065550100")
    day = clock.ms // DAY_MS
    for passed in (0, 0, 1, 3):
        clock.ms += passed * DAY_MS
        await db.write(leads.note, "ann", KEY.id, one)
    assert await db.read(rows) == [("ann", one[0], day + 4)]


async def test_each_is_its_agents(db: SqliteDatabase) -> None:
    for name in ("ann", "bob"):
        await books.agent(db, name)
    await db.write(leads.note, "ann", KEY.id, digests("ann", "12065550100", "dana sample"))
    assert await db.read(leads.has, "ann", digests("ann", "nobody at all", "dana sample"))
    assert not await db.read(leads.has, "ann", digests("bob", "dana sample"))
    assert not await db.read(leads.has, "bob", digests("bob", "dana sample"))
    assert not await db.read(leads.has, "ann", [])
    assert await db.read(leads.any_of, "ann", KEY.id)
    assert not await db.read(leads.any_of, "ann", KEY.id + 1)
    assert not await db.read(leads.any_of, "bob", KEY.id)


async def test_after_ninety_days_it_is_no_answer_and_then_gone(db: SqliteDatabase, clock: Clock) -> None:
    await books.agent(db, "ann")
    one = digests("ann", "12065550100")
    await db.write(leads.note, "ann", KEY.id, one)
    clock.ms += 90 * DAY_MS
    await db.write(leads.forget)
    assert await db.read(leads.has, "ann", one)
    clock.ms += DAY_MS
    assert not await db.read(leads.has, "ann", one)
    assert not await db.read(leads.any_of, "ann", KEY.id)
    assert len(await db.read(rows)) == 1
    await db.write(leads.forget)
    assert await db.read(rows) == []


async def test_an_agent_has_so_many_and_keeps_the_newest(db: SqliteDatabase, clock: Clock) -> None:
    for name in ("ann", "bob"):
        await books.agent(db, name)
    await db.write(leads.note, "bob", KEY.id, digests("bob", "lead 1"))
    for number in range(9):
        await db.write(leads.note, "ann", KEY.id, digests("ann", f"lead {number}"))
        clock.ms += DAY_MS
    assert await db.read(leads.crowded, 9) == []
    assert await db.read(leads.crowded, 8) == ["ann"]
    await db.write(leads.thin, "ann", 4)
    left = [await db.read(leads.has, "ann", digests("ann", f"lead {number}")) for number in range(9)]
    assert left == [False] * 5 + [True] * 4
    assert await db.read(leads.has, "bob", digests("bob", "lead 1"))
