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


async def test_an_agent_has_so_many_and_a_flood_makes_room_for_itself(db: SqliteDatabase, clock: Clock) -> None:
    """Whoever asks about a hundred a day pushes out his own, on whatever day he does."""
    for name in ("ann", "bob"):
        await books.agent(db, name)
    await db.write(leads.note, "bob", KEY.id, digests("bob", "lead 1"))
    owners = [digests("ann", f"lead {number}") for number in range(6)]
    for day, count in enumerate((2, 1, 3)):
        await db.write(leads.note, "ann", KEY.id, [one for each in owners[day : day + count] for one in each])
        clock.ms += DAY_MS
    for day in range(4):
        flood = digests("ann", *(f"flood {day} {number}" for number in range(100)))
        await db.write(leads.note, "ann", KEY.id, flood)
        await db.write(leads.thin, "ann", 20)
        clock.ms += DAY_MS
    counts = await db.read(
        lambda tx: tx.execute("SELECT count(*) FROM leads WHERE agent_id = 'ann' GROUP BY asked_day")
    )
    assert sum(count for (count,) in counts) == 20
    assert max(count for (count,) in counts) - min(count for (count,) in counts[3:]) <= 1
    assert await db.read(leads.has, "bob", digests("bob", "lead 1"))


async def test_whose_number_is_counted(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    await db.write(leads.note, "ann", KEY.id, digests("ann", *(f"lead {number}" for number in range(9))))
    assert await db.read(leads.crowded, 9) == []
    assert await db.read(leads.crowded, 8) == ["ann"]
    await db.write(leads.thin, "ann", 9)
    assert len(await db.read(rows)) == 9
    await db.write(leads.thin, "ann", 8)
    assert len(await db.read(rows)) == 8
