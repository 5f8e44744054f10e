"""Statements: which movements there are, in pages, by time, and after a migration."""

import contextlib
from pathlib import Path

import pytest
from rigs import books
from rigs.books import Clock
from rigs.money_table import play, step

from gateway.core.statement import Movement
from gateway.core.transfer import Kind, Part
from gateway.store import agents, ledger, statements, wallets
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


HAL = "0x" + "a1" * 20
DEPOSITS = f"""
link   {HAL} agent=ann                    -> yes
credit ann 10                             -> ok             | ann 10, operator -10
arrive t1:0 {HAL} 100 match=50,1,500,500  -> credited 50    | ann 110, ann.bonus 50, treasury -100, grants -50
sign   u1 bob 40 agent=ann topup=1        -> held           | ann.authorized 40, due -40
match  u1 40                              -> captured
prove  u1 40 log=0xu:1                    -> proven         | ann 150, ann.authorized 0, treasury -140, due 0
hold   c1 ann 170                         -> held           | ann 0, ann.held 150, ann.bonus 30, ann.bonus_held 20
match  c1 165                             -> captured       | ann.held 0, ann.bonus 35, ann.bonus_held 0, revenue 165
vanish t1:0                               -> withdrawn 50   | ann.debt -100, ann.bonus 0, ann.bonus:debt -15, treasury -40, grants 0
grant  ann 20                             -> ok             | ann.bonus:debt 0, ann.bonus 5, grants -20
credit ann 30                             -> ok             | ann.debt -70, operator -40
arrive t2:0 {HAL} 90                      -> credited       | ann.debt 0, ann 20, treasury -130
vanish t2:0                               -> withdrawn      | ann 0, ann.debt -70, treasury -40
refund c1 165 id=r1                       -> refunded       | ann.debt 0, ann 80, ann.bonus 20, revenue 0
"""  # noqa: E501 a table
OF_DEPOSITS = [
    ("refund", "own", None, 150, 100),
    ("refund", "bonus", None, 15, -50),
    ("withdrawn", "own", "dep_0003", -70, -65),
    ("withdrawn", "own", "dep_0003", -20, 5),
    ("deposit", "own", "dep_0003", 90, 25),
    ("credit", "own", None, 30, -65),
    ("grant", "bonus", None, 20, -95),
    ("withdrawn", "bonus", "dep_0001", -15, -115),
    ("withdrawn", "bonus", "dep_0001", -35, -100),
    ("withdrawn", "own", "dep_0001", -100, -65),
    ("capture", "bonus", None, -15, 35),
    ("capture", "own", None, -150, 50),
    ("deposit", "own", "dep_u1", 40, 200),
    ("match", "bonus", "dep_0001", 50, 160),
    ("deposit", "own", "dep_0001", 100, 110),
    ("credit", "own", None, 10, 10),
]


async def test_what_is_withdrawn_goes_whole_and_what_is_repaid_is_no_line(db: SqliteDatabase) -> None:
    await play(db, DEPOSITS)
    lines = await db.read(statements.page, "ann", 50)
    assert [each[1:] for each in told(lines)] == [(kind, money, *rest) for kind, money, _, *rest in OF_DEPOSITS]
    assert [each.deposit_id for each in lines] == [deposit_id for _, _, deposit_id, *_ in OF_DEPOSITS]
    assert await db.read(lambda tx: tx.execute("SELECT count(*) FROM transfers WHERE kind = 'repaid'")) != [(0,)]
    assert {each.operation for each in lines if each.deposit_id} == {None}


@pytest.mark.parametrize("steps", range(2, DEPOSITS.count("\n")))
async def test_own_money_bonus_and_what_is_owed_sum_to_the_lines(db: SqliteDatabase, steps: int) -> None:
    """After each step of the story: of own money, of bonus, and of both."""
    await play(db, "\n".join(DEPOSITS.splitlines()[: steps + 1]))
    lines = await db.read(statements.page, "ann", 50)
    part = {part: await db.read(ledger.balance, f"ann:{part}") for part in Part}
    own = part[Part.AVAILABLE] + part[Part.HELD] + part[Part.DEBT]
    bonus = part[Part.BONUS] + part[Part.BONUS_HELD] + part[Part.BONUS_DEBT]
    assert sum(each.amount_micros for each in lines if not each.bonus) == own
    assert sum(each.amount_micros for each in lines if each.bonus) == bonus
    assert lines[0].balance_micros == own + bonus


@pytest.mark.parametrize("story", [STORY, DEPOSITS])
async def test_what_was_spent_is_told_from_balances_alone(db: SqliteDatabase, clock: Clock, story: str) -> None:
    """Of every time from a step of the story to its end."""
    times = [clock.ms]

    def tick() -> None:
        clock.ms += 1000
        times.append(clock.ms)

    await play(db, story, tick)
    seen = set()
    for party in ("ann", "bob", "nobody"):
        for since in (0, *times):
            calls = await db.read(statements.page, party, 100, from_ms=since)
            spent = -sum(each.amount_micros for each in calls if each.kind in (Kind.CAPTURE, Kind.REFUND))
            assert await db.read(statements.spent, party, since) == spent
            seen.add(spent)
    assert len(seen) > 1


async def test_a_statement_of_before_there_were_deposits_goes_on(tmp_path: Path) -> None:
    async with books.books(tmp_path / "new.db") as db:
        await play(db, STORY)
        rows = await db.read(books.contents)
    old = [each for each in read_migrations() if each.number < 14]
    async with books.books(tmp_path / "l.db", migrations=old, clean=False) as db:
        await db.write(books.fill, rows)
    async with books.books(tmp_path / "l.db") as db:
        before = await db.read(statements.page, "ann", 50)
        assert sorted(told(before)) == sorted(ANN)
        await db.write(wallets.add, HAL, "ann", wallets.Role.LINKED)
        for words in (f"arrive t1:0 {HAL} 100", "hold c5 ann 90", "match c5 90", "vanish t1:0"):
            await db.write(step, *words.split())
        assert told(await db.read(statements.page, "ann", 4)) == [
            (10, "withdrawn", "own", -90, 420),
            (9, "withdrawn", "own", -10, 510),
            (8, "capture", "own", -90, 520),
            (7, "deposit", "own", 100, 610),
        ]


async def test_the_audit_sees_a_line_that_is_wrong_missing_or_made_up(tmp_path: Path) -> None:
    breaks = (
        "UPDATE movements SET balance_micros = balance_micros + 1 WHERE party = 'ann' AND number = 4",
        "DELETE FROM movements WHERE party = 'ann' AND number = 4",
        "INSERT INTO movements VALUES ('ann', 98, 1, 510)",
        "INSERT INTO movements VALUES ('zoe', 1, 1, 5)",
        "DELETE FROM movements WHERE party = 'ann' AND seq = (SELECT max(seq) FROM transfers WHERE debit = 'ann:debt')",
        "INSERT INTO movements SELECT 'ann', 99, seq, 5 FROM transfers WHERE kind = 'repaid' LIMIT 1",
    )

    class Undone(Exception):
        pass

    async with books.books(tmp_path / "l.db") as db:
        await play(db, DEPOSITS)
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
