"""What was bought for a charge, and what is left of its price."""

from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from rigs import books
from rigs.money_table import play

from gateway.core.charge import Event
from gateway.core.errors import IllegalMove
from gateway.core.job import OWNER
from gateway.core.vendor_call import ErrorClass, Outcome, VendorCall
from gateway.store import charges, vendor_calls
from gateway.store.audit import audit
from gateway.store.sqlite import SqliteDatabase, read_migrations
from gateway.store.vendor_calls import Margin

FIRST = VendorCall("find", "a", Outcome.NO_MATCH, cost_micros=30, ms=7, at_ms=5)
LOST = VendorCall("find", "b", Outcome.FAILED, ErrorClass.LOST, cost_micros=20)
SOLD = VendorCall("find", "c", Outcome.MATCH, cost_micros=100)
LATER = VendorCall("more", "d", Outcome.MATCH, cost_micros=1)
KEPT = VendorCall("find", "c", Outcome.MATCH, cached=True)
RESTING = VendorCall("find", "e", Outcome.SKIPPED, ErrorClass.RESTING)
ALWAYS = (0, 1 << 50)


async def sold(db: SqliteDatabase, id: str, event: Event, micros: int, *calls: VendorCall) -> None:
    await db.write(charges.hold, books.charge(id, "ann", 300), books.work("ann"), None, None)
    await db.write(charges.record, id, event, micros, calls=calls)


async def test_they_are_told_as_they_were_and_their_sum_is_the_charges_cost(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=1_000)
    await sold(db, "c1", Event.MATCHED, 300, FIRST, RESTING, LOST, SOLD)
    assert await db.read(vendor_calls.of_charge, "c1") == [FIRST, RESTING, LOST, SOLD]
    view = await db.read(charges.find, "c1")
    assert view is not None
    assert view.cost_micros == 150


async def test_who_comes_too_late_is_paid_by_us_all_the_same(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=1_000)
    await sold(db, "c1", Event.EXPIRED, 0)
    assert isinstance(await db.write(charges.record, "c1", Event.MATCHED, 300, calls=(SOLD,)), charges.Late)
    view = await db.read(charges.find, "c1")
    assert view is not None
    assert (view.cost_micros, view.charge.captured_micros) == (100, 0)


async def test_of_a_charge_that_there_is_not_nothing_is_kept(db: SqliteDatabase) -> None:
    with pytest.raises((IllegalMove, apsw.ConstraintError)):
        await db.write(charges.record, "c9", Event.FAILED, calls=(SOLD,))
    assert await db.read(lambda tx: tx.execute("SELECT * FROM vendor_calls")) == []


async def test_a_charge_earns_once_with_the_vendor_whose_match_was_sold_last(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=2_000)
    await sold(db, "c1", Event.MATCHED, 300, FIRST, SOLD, LATER, RESTING)
    await sold(db, "c2", Event.MATCHED, 200, KEPT)
    await sold(db, "c3", Event.MISSED, 0, FIRST)
    await sold(db, "c4", Event.FAILED, 0, LOST)
    await sold(db, "c5", Event.MATCHED, 300)
    await db.write(charges.refund, "c1", 50, "r1", "")
    assert dict(await db.read(vendor_calls.margins, ("provider",), *ALWAYS)) == {
        ("",): Margin(sold=1, revenue_micros=300),
        ("a",): Margin(calls=2, misses=2, cost_micros=60, misses_cost_micros=60),
        ("b",): Margin(calls=1, failures=1, cost_micros=20, misses_cost_micros=20),
        ("c",): Margin(sold=1, revenue_micros=200, calls=2, matches=2, cached=1, cost_micros=100),
        ("d",): Margin(sold=1, revenue_micros=250, calls=1, matches=1, cost_micros=1),
        ("e",): Margin(),
    }
    ((_, whole),) = await db.read(vendor_calls.margins, (), *ALWAYS)
    assert (whole.sold, whole.revenue_micros, whole.cost_micros, whole.margin_micros) == (3, 750, 181, 569)


async def test_over_what_a_process_died_is_unknown_and_in_no_cost(db: SqliteDatabase) -> None:
    """Not what came late after all, and not what was no call."""
    await books.agent(db, "ann", own=2_000)
    await sold(db, "c1", Event.MATCHED, 300, FIRST, SOLD)
    await sold(db, "c2", Event.EXPIRED, 0)
    await sold(db, "c3", Event.EXPIRED, 0)
    await db.write(charges.record, "c3", Event.MATCHED, 300, calls=(SOLD,))
    await sold(db, "c4", Event.FAILED, 0)
    await play(
        db,
        """
        sign   t1 bob 30 agent=bea topup=1 -> held      | bea.authorized 30, due -30
        expire t1                          -> released  | bea.authorized 0, due 0
        """,
    )
    lines = dict(await db.read(vendor_calls.margins, ("provider",), *ALWAYS))
    assert lines[("",)] == Margin(unknown=1, unknown_held_micros=300)
    assert [margin.unknown for name, margin in lines.items() if name != ("",)] == [0, 0]
    ((_, whole),) = await db.read(vendor_calls.margins, (), *ALWAYS)
    assert (whole.cost_micros, whole.unknown, whole.unknown_held_micros) == (230, 1, 300)


async def test_of_a_job_nothing_is_unknown(tmp_path: Path) -> None:
    """Its journal tells whom it has asked: one that ended in the queue has asked nobody."""
    async with books.books(tmp_path / "jobs.db", clean=False) as db:
        await books.agent(db, "ann", own=1_000)
        work = replace(books.work("ann"), owner=OWNER)
        await db.write(charges.hold, books.charge("c1", "ann", 300), work, None, None)
        await db.write(charges.record, "c1", Event.EXPIRED)
        assert await db.read(vendor_calls.margins, (), *ALWAYS) == []


async def test_what_came_last_of_each(db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    await books.agent(db, "ann", own=2_000)
    assert await db.read(vendor_calls.last) == {}
    down = VendorCall("find", "a", Outcome.FAILED, ErrorClass.AUTH, at_ms=9)
    await sold(db, "c1", Event.MATCHED, 300, down, LOST)
    await sold(db, "c2", Event.MATCHED, 300, FIRST, SOLD)
    await sold(db, "c3", Event.MATCHED, 300, KEPT, RESTING)
    last = await db.read(vendor_calls.last)
    assert set(last) == {"a", "b", "c"}
    came = {name: (one.asked and one.asked.outcome, one.failed and one.failed.error) for name, one in last.items()}
    assert came == {
        "a": (Outcome.NO_MATCH, ErrorClass.AUTH), "b": (Outcome.FAILED, ErrorClass.LOST), "c": (Outcome.MATCH, None)
    }  # fmt: skip
    assert (last["a"].asked and last["a"].asked.at_ms, last["a"].failed and last["a"].failed.at_ms) == (5, 9)
    assert last["c"].asked == replace(SOLD, hop="")  # and not what was given again
    monkeypatch.setattr(vendor_calls, "RECENT", 3)
    assert set(await db.read(vendor_calls.last)) == {"c"}  # c2's, beside what is no question


async def test_a_day_is_one_of_the_charge_and_the_end_of_a_time_is_not_in_it(
    db: SqliteDatabase, clock: books.Clock
) -> None:
    await books.agent(db, "ann", own=1_000)
    day = clock.ms // books.DAY_MS
    clock.ms = (day + 1) * books.DAY_MS - 1
    await sold(db, "c1", Event.MATCHED, 300, SOLD)
    clock.ms += 1
    await sold(db, "c2", Event.MATCHED, 100, SOLD)
    told = dict(await db.read(vendor_calls.margins, ("day",), *ALWAYS))
    assert {key: margin.revenue_micros for key, margin in told.items()} == {(str(day),): 300, (str(day + 1),): 100}
    ((_, first),) = await db.read(vendor_calls.margins, (), day * books.DAY_MS, (day + 1) * books.DAY_MS)
    assert (first.revenue_micros, first.cost_micros) == (300, 100)


async def test_what_never_came_and_what_was_topped_up_has_earned_nothing(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        credit ann 1000                    -> ok        | ann 1000, operator -1000
        sign   c1 bob 300                  -> held      | bob.authorized 300, due -300
        match  c1 300 cost=40              -> captured  | bob.authorized 0, revenue 300
        send   c1 5                        -> sent
        sign   t1 bob 30 agent=ann topup=1 -> held      | ann.authorized 30, due -330
        match  t1 30                       -> captured
        """,
    )
    ((_, before),) = await db.read(vendor_calls.margins, (), *ALWAYS)
    assert (before.sold, before.revenue_micros, before.cost_micros) == (1, 300, 40)
    await play(
        db,
        """
        close  5        -> ok
        lose   c1       -> lost | loss -300, due -30
        """,
    )
    ((_, after),) = await db.read(vendor_calls.margins, (), *ALWAYS)
    assert (after.sold, after.revenue_micros, after.cost_micros) == (0, 0, 40)


@pytest.mark.parametrize(
    "values",
    [
        "'c1', 'find', 'a', 'match', 'auth', 1, 0, 0, 0",
        "'c1', 'find', 'a', 'failed', NULL, 1, 0, 0, 0",
        "'c1', 'find', 'a', 'match', NULL, 1, 1, 0, 0",
        "'c1', 'find', 'a', 'skipped', 'resting', 1, 0, 0, 0",
        "'c1', 'find', 'a', 'match', NULL, -1, 0, 0, 0",
        "'c9', 'find', 'a', 'match', NULL, 1, 0, 0, 0",
    ],
)
async def test_what_cannot_be_is_refused(db: SqliteDatabase, values: str) -> None:
    await books.agent(db, "ann", own=1_000)
    await sold(db, "c1", Event.MATCHED, 300)
    columns = "charge_id, hop, provider, outcome, error, cost_micros, cached, ms, at_ms"
    with pytest.raises(apsw.ConstraintError):
        await db.write(lambda tx: tx.execute(f"INSERT INTO vendor_calls ({columns}) VALUES ({values})"))


async def test_what_charges_cost_before_stands_there_after_the_migration(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old = [migration for migration in read_migrations() if migration.number < 21]
    async with books.books(path, migrations=old, clean=False) as db:
        await books.agent(db, "ann", own=1_000)
        await db.write(charges.hold, books.charge("c1", "ann", 300), books.work("ann"), None, None)
        await db.write(charges.hold, books.charge("c2", "ann", 300), books.work("ann"), None, None)
        await db.write(lambda tx: tx.execute("UPDATE charges SET cost_micros = 40 WHERE id = 'c1'"))
    async with books.books(path) as db:
        (call,) = await db.read(vendor_calls.of_charge, "c1")
        assert (call.provider, call.cost_micros) == ("enrich/phone", 40)
        assert await db.read(vendor_calls.of_charge, "c2") == []
        assert await db.read(audit) == []
