"""The writer's promises: one commit for all who wait, each function alone in what it does wrong."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from rigs import books
from rigs.books import Clock

from gateway.core import crash
from gateway.core.transfer import OPERATOR, Kind, Part, Transfer, account
from gateway.store import agents, charges, ledger
from gateway.store.audit import audit
from gateway.store.database import OpenRefused, StoreUnavailable, Tx
from gateway.store.sqlite import Migration, SqliteDatabase, read_migrations, refuse_unsafe


class Gate:
    """A write that keeps the writer busy until it is opened, so that a queue gathers behind it."""

    def __init__(self) -> None:
        self.entered, self._opened = threading.Event(), threading.Event()

    def __call__(self, tx: Tx) -> None:
        self.entered.set()
        assert self._opened.wait(5)

    async def behind(self, db: SqliteDatabase) -> "asyncio.Task[None]":
        task = asyncio.create_task(db.write(self))
        await asyncio.to_thread(self.entered.wait, 5)
        return task

    def open(self) -> None:
        self._opened.set()


def give(tx: Tx, id: str, micros: int = 1) -> int:
    agents.credit(tx, "ann", micros, Kind.CREDIT, "", id)
    return tx.now_ms


async def test_one_commit_for_all_who_wait(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    commits = 0

    def count(name: str) -> None:
        nonlocal commits
        commits += name == "store.after_commit"

    gate = Gate()
    first = await gate.behind(db)
    crash.arm(count)
    try:
        waiting = [asyncio.create_task(db.write(give, f"g{n}")) for n in range(50)]
        await asyncio.sleep(0)
        gate.open()
        times = await asyncio.gather(*waiting)
        await first
    finally:
        crash.arm(None)
    assert commits == 2  # the gate's own, and one for the fifty
    assert len(set(times)) == 1
    assert (await db.read(agents.balance, "ann")).available == 50


async def test_a_function_that_raises_is_alone(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")

    def spoilt(tx: Tx, id: str) -> None:
        give(tx, id)
        raise KeyError(id)

    def overdraws(tx: Tx, id: str) -> None:
        give(tx, id)
        ledger.post(tx, [Transfer(Kind.CREDIT, account("ann", Part.HELD), OPERATOR, 1)])

    gate = Gate()
    first = await gate.behind(db)
    writes = [(give, spoilt, overdraws)[n % 3] for n in range(30)]
    waiting = [asyncio.create_task(db.write(fn, f"g{n}")) for n, fn in enumerate(writes)]
    await asyncio.sleep(0)
    gate.open()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    await first
    assert [type(outcome) for outcome in outcomes] == [int, KeyError, apsw.ConstraintError] * 10
    assert (await db.read(agents.balance, "ann")).available == 10


async def test_a_cancelled_callers_function_still_runs(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    gate = Gate()
    first = await gate.behind(db)
    abandoned = asyncio.create_task(db.write(give, "g1", 7))
    await asyncio.sleep(0)
    abandoned.cancel()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    await first
    await db.write(lambda tx: None)
    assert (await db.read(agents.balance, "ann")).available == 7


async def test_nobody_is_answered_before_the_commit(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    reached, go_on = threading.Event(), threading.Event()

    def stop(name: str) -> None:
        if name == "store.before_commit":
            reached.set()
            go_on.wait(5)

    crash.arm(stop)
    try:
        task = asyncio.create_task(db.write(give, "g1"))
        await asyncio.to_thread(reached.wait, 5)
        assert not task.done()
        assert (await db.read(agents.balance, "ann")).available == 0
    finally:
        crash.arm(None)
        go_on.set()
    await task
    assert (await db.read(agents.balance, "ann")).available == 1


async def test_time_stands_still_rather_than_go_back(tmp_path: Path) -> None:
    """F-177: neither while running nor over a restart."""
    clock = Clock(1_000_000)
    async with books.books(tmp_path / "l.db", clock) as db:
        await books.agent(db, "ann")
        assert await db.write(give, "g1") == 1_000_000
        clock.ms -= 3_600_000
        assert await db.write(give, "g2") == 1_000_000
        assert await db.read(lambda tx: tx.now_ms) == 1_000_000
        clock.ms += 3_600_001
        assert await db.write(give, "g3") == 1_000_001
    clock.ms -= 3_600_000
    async with books.books(tmp_path / "l.db", clock) as db:
        assert await db.write(give, "g4") == 1_000_001


async def test_a_read_sees_one_moment(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    began, go_on = threading.Event(), threading.Event()

    def look_twice(tx: Tx) -> tuple[int, int]:
        first = ledger.balance(tx, "ann:available")
        began.set()
        go_on.wait(5)
        return first, ledger.balance(tx, "ann:available")

    task = asyncio.create_task(db.read(look_twice))
    await asyncio.to_thread(began.wait, 5)
    await db.write(give, "g1")
    go_on.set()
    assert await task == (0, 0)
    assert await db.read(ledger.balance, "ann:available") == 1


async def test_a_reader_cannot_write(db: SqliteDatabase) -> None:
    with pytest.raises(StoreUnavailable):
        await db.read(lambda tx: tx.execute("DELETE FROM results"))
    assert await db.read(lambda tx: tx.execute("SELECT 1")) == [(1,)]  # and comes back from it


async def test_another_process_that_writes_is_waited_for(tmp_path: Path) -> None:
    """F-103: contention is waited out within a bound, then refused; never an exception of the database's own."""
    async with books.books(tmp_path / "l.db", busy_ms=300) as db:
        await books.agent(db, "ann")
        other = apsw.Connection(str(tmp_path / "l.db"))
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await db.write(give, "g1")
        assert time.monotonic() - started > 0.25
        task = asyncio.create_task(db.write(give, "g2"))
        await asyncio.sleep(0.05)
        other.execute("ROLLBACK")
        await task
        other.close()
        assert (await db.read(agents.balance, "ann")).available == 1


async def test_a_busy_database_in_the_middle_is_run_again_as_a_whole(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    runs = 0

    def busy_once(tx: Tx) -> None:
        nonlocal runs
        runs += 1
        give(tx, "g1")
        if runs == 1:
            raise apsw.BusyError("from the middle of a transaction")

    await db.write(busy_once)
    assert runs == 2
    assert (await db.read(agents.balance, "ann")).available == 1


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
async def test_a_disk_error_in_the_middle_is_everybodys(db: SqliteDatabase, error: type[apsw.Error]) -> None:
    """F-102: the batch is rolled back as a whole and told as not written; the next one goes through."""
    await books.agent(db, "ann")

    def fails(tx: Tx) -> None:
        raise error("while a page was fetched")

    gate = Gate()
    first = await gate.behind(db)
    waiting = [asyncio.create_task(db.write(give, f"g{n}") if n != 5 else db.write(fails)) for n in range(10)]
    await asyncio.sleep(0)
    gate.open()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    await first
    assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
    assert (await db.read(agents.balance, "ann")).available == 0
    await db.write(give, "g0")
    assert (await db.read(agents.balance, "ann")).available == 1


async def test_the_writer_outlives_a_mistake_of_ours(tmp_path: Path) -> None:
    """Whatever goes wrong around the functions, everybody who waits is answered, and the operator can see why."""

    def broken() -> int:
        raise ZeroDivisionError

    ticking: Callable[[], int] = Clock()
    db = await SqliteDatabase(tmp_path / "l.db", clock_ms=lambda: ticking()).open()
    await books.agent(db, "ann")
    ticking = broken
    for refused in (db.write(give, "g1"), db.read(audit)):
        with pytest.raises(StoreUnavailable) as caught:
            await refused
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    ticking = Clock()
    await db.write(give, "g2")
    assert (await db.read(agents.balance, "ann")).available == 1
    await db.close()


async def test_two_databases_on_one_file(tmp_path: Path) -> None:
    """F-107: two processes' worth of writers take turns, and neither loses a write."""
    async with books.books(tmp_path / "l.db") as one, books.books(tmp_path / "l.db") as two:
        await books.agent(one, "ann")
        await asyncio.gather(*(db.write(give, f"g{n}{id(db)}") for n in range(40) for db in (one, two)))
        assert (await two.read(agents.balance, "ann")).available == 80


async def test_closing_finishes_what_waits_and_refuses_what_comes(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    waiting = [asyncio.create_task(db.write(give, f"g{n}")) for n in range(20)]
    await asyncio.sleep(0)
    await db.close()
    await asyncio.gather(*waiting)
    for refused in (db.write(give, "late"), db.read(audit)):
        with pytest.raises(StoreUnavailable):
            await refused
    await db.close()
    await db.open()
    assert (await db.read(agents.balance, "ann")).available == 20


async def test_the_pragmas_that_make_it_durable(db: SqliteDatabase) -> None:
    def pragmas(tx: Tx) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        return [tx.execute(f"PRAGMA {name}")[0][0] for name in names]

    assert await db.write(pragmas) == ["wal", 2, 1, 1]


async def test_the_file_is_for_its_owner_only(db: SqliteDatabase, tmp_path: Path) -> None:
    """F-128"""
    await books.agent(db, "ann")
    modes = books.modes_of(tmp_path)
    assert len(modes) >= 2
    assert set(modes) == {0o600}


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.51.2"])
def test_an_unsafe_sqlite_is_refused(version: str) -> None:
    """F-105"""
    with pytest.raises(OpenRefused, match=version):
        refuse_unsafe(version)


def test_a_safe_sqlite_is_not() -> None:
    for version in ("3.6.23", "3.51.3", "3.54.0", apsw.sqlite_lib_version()):
        refuse_unsafe(version)


async def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but long enough to be looked at" * 100)
    for path in (tmp_path / "no" / "l.db", tmp_path, tmp_path / "text"):
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            await SqliteDatabase(path, clock_ms=Clock()).open()


# migrations

NEXT = Migration(9998, "9998.sql", "CREATE TABLE one (a INTEGER) STRICT; CREATE TABLE two (a INTEGER) STRICT;")
BROKEN = Migration(9998, "9998.sql", "CREATE TABLE one (a INTEGER) STRICT; CREATE TABLE one (a INTEGER) STRICT;")


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    return names


def test_the_migrations_are_numbered() -> None:
    numbers = [migration.number for migration in read_migrations()]
    assert numbers == sorted(set(numbers))
    assert [migration.name for migration in read_migrations()] == [f"{number:04}.sql" for number in numbers]


async def test_a_migration_is_all_or_nothing_and_resumes(tmp_path: Path) -> None:
    """F-106: interrupted in the middle, it leaves nothing; the next start does it whole."""
    path = tmp_path / "l.db"
    async with books.books(path) as db:
        await books.agent(db, "ann", own=5)
    with pytest.raises(StoreUnavailable):
        await SqliteDatabase(path, clock_ms=Clock(), migrations=[*read_migrations(), BROKEN]).open()
    assert not {"one", "two"} & tables(path)
    async with books.books(path, migrations=[*read_migrations(), NEXT]) as db:
        assert (await db.read(agents.balance, "ann")).available == 5
    assert {"one", "two"} <= tables(path)
    async with books.books(path, migrations=[*read_migrations(), NEXT]):
        pass  # done is done


async def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """F-106: an older program keeps its hands off."""
    async with books.books(tmp_path / "l.db", migrations=[*read_migrations(), NEXT]):
        pass
    before = (tmp_path / "l.db").read_bytes()
    with pytest.raises(OpenRefused, match=r"9998\.sql"):
        await SqliteDatabase(tmp_path / "l.db", clock_ms=Clock()).open()
    assert (tmp_path / "l.db").read_bytes() == before


async def test_a_first_start_waits_for_another_one(tmp_path: Path) -> None:
    """The file's journal is changed to a WAL once in its life, which nobody else may be in the way of."""
    other = apsw.Connection(str(tmp_path / "l.db"))
    other.execute("BEGIN IMMEDIATE; CREATE TABLE theirs (x)")
    opening = asyncio.create_task(SqliteDatabase(tmp_path / "l.db", clock_ms=Clock()).open())
    await asyncio.sleep(0.1)
    other.execute("COMMIT")
    db = await opening
    assert await db.read(lambda tx: tx.execute("SELECT * FROM theirs")) == []
    await db.close()
    other.close()


async def test_two_starts_at_once_migrate_once(tmp_path: Path) -> None:
    opened = await asyncio.gather(*(SqliteDatabase(tmp_path / "l.db", clock_ms=Clock()).open() for _ in range(4)))
    for db in opened:
        assert await db.read(audit) == []
        await db.close()


async def test_a_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its rules are made anew, and mean the same."""
    first, *later = read_migrations()
    async with books.books(tmp_path / "l.db", migrations=[first], clean=False) as db:  # the audit asks of later tables
        await db.write(agents.create, "ann", "ann")
        await db.write(
            lambda tx: tx.execute("INSERT INTO credits VALUES ('crd_1', 'ann', 'credit', 5, '', 1_800_000_000_000)")
        )
        await db.write(
            lambda tx: tx.execute(
                "INSERT INTO charges (id, operation, party, source, held_micros, held_bonus_micros, state,"
                " captured_micros, captured_bonus_micros, refunded_micros, cost_micros, request_id, request_hash,"
                " agent_id, owner, work_deadline_ms, created_ms) VALUES ('c1', 'enrich/phone', 'ann', 'balance', 5, 0,"
                " 'held', 0, 0, 0, 0, 'req_1', x'00', 'ann', 'own_1', 1, 1)"
            )
        )
        for values in (
            "'credit', 'operator', 'ann:available', 5, -5, 5, NULL, ''",
            "'hold', 'ann:available', 'ann:held', 5, 0, 5, 'c1', ''",
        ):
            await db.write(
                lambda tx, values=values: tx.execute(
                    "INSERT INTO transfers (at_ms, kind, debit, credit, amount_micros, debit_after_micros,"
                    f" credit_after_micros, charge_id, note) VALUES (1_800_000_000_000, {values})"
                )
            )
    assert later
    async with books.books(tmp_path / "l.db", clean=False) as db:
        await db.write(charges.record, "c1", charges.Event.MATCHED, 5)
        for state in ("held", "released", "unpaid"):
            with pytest.raises(apsw.ConstraintError):
                await db.write(lambda tx, to=state: tx.execute("UPDATE charges SET state = :to", {"to": to}))
        assert await db.read(audit) == []
        await db.write(ledger.post, [Transfer(Kind.DEPOSIT, OPERATOR, "ann:available", 7)])
        await db.write(ledger.post, [Transfer(Kind.WITHDRAWN, "ann:available", OPERATOR, 7)])
        assert {finding.rule for finding in await db.read(audit)} == {"deposit"}, "of no deposit"
