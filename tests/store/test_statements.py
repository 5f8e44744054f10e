"""Statements: which movements there are, in pages, by time, and after a migration."""

import contextlib
from pathlib import Path

from rigs import books
from rigs.books import Clock
from rigs.money_table import play

from gateway.core.statement import Movement
from gateway.core.transfer import Kind
from gateway.store import agents, statements
from gateway.store.audit import audit
from gateway.store.database import Tx
from gateway.store.sqlite import SqliteDatabase, read_migrations

STORY = """
credit ann 100             -> ok        | ann 100, operator -100
grant  ann 500             -> ok        | ann.bonus 500, grants -500
credit eve 70              -> ok        | eve 70, operator -170
hold   c1 ann 300          -> held      | ann 0, ann.held 100, ann.bonus 300, ann.bonus_held 200
fail   c1                  -> released  | ann 100, ann.held 0, ann.bonus 500, ann.bonus_held 0
hold   c2 ann 300          -> held      | ann 0, ann.held 100, ann.bonus 300, ann.bonus_held 200
match  c2 150              -> captured  | ann.held 0, ann.bonus 450, ann.bonus_held 0, revenue 150
refund c2 60 id=r1         -> captured  | ann 10, ann.bonus 500, revenue 90
sign   c3 bob 300          -> held      | bob.authorized 300, due -300
match  c3 300              -> captured  | bob.authorized 0, revenue 390
prove  c3 300 log=0xt:1    -> proven    | due 0, treasury -300
refund c3 300 id=r2        -> refunded  | bob 300, revenue 90
hold   c4 ann 200          -> held      | ann 0, ann.held 10, ann.bonus 310, ann.bonus_held 190
"""


def told(lines: list[Movement]) -> list[tuple[int, str, str, int, int]]:
    return [
        (each.number, each.kind.value, "bonus" if each.bonus else "own", each.amount_micros, each.balance_micros)
        for each in lines
    ]


ANN = [
    (6, "refund", "own", 10, 510),
    (5, "refund", "bonus", 50, 500),
    (4, "capture", "bonus", -50, 450),
    (3, "capture", "own", -100, 500),
    (2, "grant", "bonus", 500, 600),
    (1, "credit", "own", 100, 100),
]


async def test_a_line_for_all_that_came_or_went_and_none_for_what_was_held(db: SqliteDatabase) -> None:
    await play(db, STORY)
    lines = await db.read(statements.page, "ann", 50)
    assert sorted(told(lines)) == sorted(ANN)
    assert {(each.charge_id, each.operation) for each in lines} == {("c2", "enrich/phone"), (None, None)}
    assert told(await db.read(statements.page, "eve", 50)) == [(1, "credit", "own", 70, 70)]
    assert told(await db.read(statements.page, "bob", 50)) == [(1, "refund", "own", 300, 300)]
    assert await db.read(statements.page, "nobody", 50) == []


async def test_the_newest_line_has_the_whole_balance_open_holds_included(db: SqliteDatabase) -> None:
    await play(db, STORY)
    (newest,) = await db.read(statements.page, "ann", 1)
    balance = await db.read(agents.balance, "ann")
    assert (balance.held, balance.bonus_held) == (10, 190)
    whole = balance.available + balance.held + balance.bonus + balance.bonus_held
    assert newest.balance_micros == whole == sum(each[3] for each in ANN)


async def credited(db: SqliteDatabase, clock: Clock, count: int, apart_ms: int = 1000) -> None:
    await db.write(agents.create, "ann", "ann")
    for number in range(count):
        clock.ms += apart_ms
        await db.write(agents.credit, "ann", number + 1, Kind.CREDIT, "", f"c{number}")


async def test_pages_have_every_line_once_while_more_is_booked(db: SqliteDatabase, clock: Clock) -> None:
    await credited(db, clock, 23)
    whole = await db.read(statements.page, "ann", 100)
    found: list[Movement] = []
    before = None
    while part := await db.read(statements.page, "ann", 5, before=before):
        found += part
        before = part[-1].number
        await db.write(agents.credit, "ann", 1, Kind.CREDIT, "", f"later {before}")
    assert found == whole


async def test_from_and_to_take_what_is_between(db: SqliteDatabase, clock: Clock) -> None:
    await credited(db, clock, 9)
    times = [each.at_ms for each in reversed(await db.read(statements.page, "ann", 100))]
    for low in (None, 0, times[0], times[3], times[3] + 1, times[8], times[8] + 1):
        for high in (None, 0, times[0], times[5], times[5] + 1, times[8] + 1):
            lines = await db.read(statements.page, "ann", 100, from_ms=low, to_ms=high)
            wanted = [at for at in times if (low is None or at >= low) and (high is None or at < high)]
            assert [each.at_ms for each in reversed(lines)] == wanted, (low, high)


async def test_lines_of_one_moment_are_all_before_it_or_all_after(db: SqliteDatabase, clock: Clock) -> None:
    await credited(db, clock, 6, apart_ms=0)
    assert len(await db.read(statements.page, "ann", 100, from_ms=clock.ms)) == 6
    assert await db.read(statements.page, "ann", 100, to_ms=clock.ms) == []


async def test_what_was_booked_before_there_were_statements_is_on_them(tmp_path: Path) -> None:
    async with books.books(tmp_path / "new.db") as db:
        await play(db, STORY)
        rows = await db.read(books.contents)
    old = [each for each in read_migrations() if each.number < 13]
    async with books.books(tmp_path / "l.db", migrations=old, clean=False) as db:
        await db.write(books.fill, rows)
    async with books.books(tmp_path / "l.db") as db:
        assert sorted(told(await db.read(statements.page, "ann", 50))) == sorted(ANN)
        assert told(await db.read(statements.page, "bob", 50)) == [(1, "refund", "own", 300, 300)]


async def test_the_audit_sees_a_line_that_is_wrong_missing_or_made_up(tmp_path: Path) -> None:
    breaks = (
        "UPDATE movements SET balance_micros = balance_micros + 1 WHERE party = 'ann' AND number = 4",
        "DELETE FROM movements WHERE party = 'ann' AND number = 4",
        "INSERT INTO movements VALUES ('ann', 7, 1, 510)",
        "INSERT INTO movements VALUES ('zoe', 1, 1, 5)",
    )

    class Undone(Exception):
        pass

    async with books.books(tmp_path / "l.db") as db:
        await play(db, STORY)
        for broken in breaks:
            found: list[str] = []

            def breaking(tx: Tx, sql: str = broken, found: list[str] = found) -> None:
                tx.execute("DROP TRIGGER movements_are_history")
                tx.execute("DROP TRIGGER movements_stay")
                tx.execute(sql)
                found[:] = [finding.rule for finding in audit(tx)]
                raise Undone

            with contextlib.suppress(Undone):
                await db.write(breaking)
            assert "movement" in found, broken
