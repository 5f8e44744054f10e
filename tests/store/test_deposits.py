"""Deposits in the books: one log is one credit, what a reorganisation takes is withdrawn once, a debt is paid first."""

import asyncio
from pathlib import Path

import apsw
import pytest
from rigs import books
from rigs.books import Clock
from rigs.money_table import match_of, play

from gateway.core import deposit as core
from gateway.core.deposit import Arrival, Match
from gateway.core.errors import Conflict, Problem
from gateway.core.transfer import Kind
from gateway.store import deposits, wallets
from gateway.store.audit import audit
from gateway.store.sqlite import SqliteDatabase

HAL, EVE = "0x" + "a1" * 20, "0x" + "e5" * 20


async def test_f112_one_log_is_one_credit_whoever_reports_it(db: SqliteDatabase) -> None:
    """The watcher, a claim, a scan once more, the operator: the first credits, all others hear of it. Of several
    Transfers in one transaction each is one."""
    await play(
        db,
        f"""
        link   {HAL} agent=ann                -> yes
        arrive t1:0 {HAL} 500                 -> credited | ann 500, treasury -500
        arrive t1:0 {HAL} 500                 -> credited
        claim  t1:0 {HAL} 500 agent=ann       -> credited
        orphan t1:0 agent=ann                 -> credited
        claim  t1:1 {HAL} 20 agent=ann        -> credited | ann 520, treasury -520
        arrive t1:1 {HAL} 20                  -> credited
        arrive t2:0 {HAL} 7                   -> credited | ann 527, treasury -527
        """,
    )


async def test_f112_many_at_once(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    await db.write(wallets.add, HAL, "ann", wallets.Role.MINT)
    arrival = Arrival(books.NETWORK, books.TOKEN, HAL, "0xt", 0, 8, "0xb", 500, 500)
    ways = [db.write(deposits.arrived, arrival, f"dep_{number}", None) for number in range(20)]
    ways += [db.write(deposits.claimed, "ann", [arrival], [f"dep_c{n}"], None) for n in range(20)]  # type: ignore[misc]
    await asyncio.gather(*ways)
    assert [view.deposit.amount_micros for view in await db.read(deposits.listing, 99)] == [500]
    assert await db.read(lambda tx: tx.execute("SELECT balance_micros FROM accounts WHERE name = 'ann:available'")) == [
        (500,)
    ]


async def test_f113_nobody_gets_what_anothers_wallet_has_sent(db: SqliteDatabase) -> None:
    await play(
        db,
        f"""
        link   {HAL} agent=ann                -> yes
        link   {EVE} agent=eve                -> yes
        claim  t1:0 {HAL} 500 agent=eve       -> sender_not_linked
        arrive t1:0 {HAL} 500                 -> credited | ann 500, treasury -500
        claim  t1:0 {HAL} 500 agent=eve       -> sender_not_linked
        orphan t1:0 agent=eve                 -> conflict
        """,
    )


async def test_f116_what_nobody_has_sent_waits_for_the_operator_or_its_wallet(db: SqliteDatabase) -> None:
    await play(
        db,
        f"""
        arrive t1:0 {HAL} 500                 -> seen
        arrive t1:0 {HAL} 500                 -> seen
        arrive t2:0 {EVE} 40                  -> seen
        credit ann 1                          -> ok       | ann 1, operator -1
        orphan t1:0 agent=ann                 -> credited | ann 501, treasury -500
        link   {HAL} agent=ann                -> yes
        claim  t1:0 {HAL} 500 agent=ann       -> credited
        link   {EVE} agent=eve                -> yes
        arrive t2:0 {EVE} 40                  -> credited | eve 40, treasury -540
        arrive t3:0 {"0x" + "33" * 20} 9      -> seen
        vanish t3:0                           -> gone
        vanish t3:0                           -> gone
        orphan t3:0 agent=ann                 -> conflict
        """,
    )
    ((orphans,),) = await db.read(lambda tx: tx.execute("SELECT count(*) FROM actions WHERE action = 'credit_orphan'"))
    assert orphans == 1


async def test_what_was_nobodys_is_credited_when_its_wallet_is_linked(db: SqliteDatabase) -> None:
    await play(db, f"arrive t1:0 {HAL} 500 -> seen")
    assert await db.write(deposits.linked_since, None) == []
    await play(db, f"link {HAL} agent=ann -> yes")
    (view,) = await db.write(deposits.linked_since, match_of("50,1,1000,1000"))
    assert (view.deposit.party, view.deposit.bonus_micros) == ("ann", 250)
    assert await db.write(deposits.linked_since, None) == []


async def test_f112_what_is_taken_back_is_withdrawn_once_and_the_rest_is_owed(db: SqliteDatabase) -> None:
    """F-112: all of it there, a part spent, a part held; whatever comes next pays the debt, a release as well."""
    await play(
        db,
        f"""
        link   {HAL} agent=ann                -> yes
        arrive t1:0 {HAL} 500                 -> credited  | ann 500, treasury -500
        vanish t1:0                           -> withdrawn | ann 0, treasury 0
        vanish t1:0                           -> withdrawn
        arrive t1:0 {HAL} 500                 -> credited  | ann 500, treasury -500
        hold   c1 ann 100                     -> held      | ann 400, ann.held 100
        match  c1 100                         -> captured  | ann.held 0, revenue 100
        hold   c2 ann 300                     -> held      | ann 100, ann.held 300
        vanish t1:0                           -> withdrawn | ann 0, ann.debt -400, treasury 0
        vanish t1:0                           -> withdrawn
        hold   c3 ann 1                       -> short 0
        match  c2 120                         -> captured  | ann.held 0, revenue 220, ann.debt -220
        refund c1 60 id=r1                    -> captured  | revenue 160, ann.debt -160
        credit ann 10                         -> ok        | operator -10, ann.debt -150
        arrive t2:0 {HAL} 200                 -> credited  | ann 50, ann.debt 0, treasury -200
        arrive t1:0 {HAL} 500                 -> credited  | ann 550, treasury -700
        """,
    )


async def test_f120_bonus_pays_bonus_debts_alone(db: SqliteDatabase) -> None:
    """F-120: own money and bonus are owed apart: what was granted never pays for what was own."""
    await play(
        db,
        f"""
        link   {HAL} agent=ann                              -> yes
        arrive t1:0 {HAL} 100 match=100,1,100,100           -> credited 100  | ann 100, ann.bonus 100, treasury -100, grants -100
        hold   c1 ann 150                                   -> held          | ann 0, ann.held 100, ann.bonus 50, ann.bonus_held 50
        match  c1 150                                       -> captured      | ann.held 0, ann.bonus_held 0, revenue 150
        vanish t1:0                                         -> withdrawn 100 | ann.bonus 0, ann.bonus:debt -50, ann.debt -100, treasury 0, grants 0
        grant  ann 80                                       -> ok            | ann.bonus:debt 0, ann.bonus 30, grants -80
        credit ann 40                                       -> ok            | ann.debt -60, operator -40
        refund c1 150 id=r1                                 -> refunded      | revenue 0, ann.bonus 80, ann.debt 0, ann 40
        """,  # noqa: E501 a table
    )


async def test_a_top_up_is_credited_when_it_is_proven_and_not_before(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        credit ann 1                                 -> ok       | ann 1, operator -1
        sign   c1 bob 500 agent=ann topup=1          -> held     | due -500, ann.authorized 500
        match  c1 500                                -> captured
        refund c1 500 id=r1                          -> illegal
        send   c1 5                                  -> sent
        prove  c1 500 log=t1:0 match=10,1,99,99      -> proven   | due 0, ann.authorized 0, ann 501, treasury -500, ann.bonus 50, grants -50
        prove  c1 500 log=t1:0                       -> proven
        refund c1 500 id=r1                          -> illegal
        back   c1                                    -> queued   | due -500, ann.authorized 500, ann 1, treasury 0, ann.bonus 0, grants 0
        back   c1                                    -> conflict
        prove  c1 500 log=t2:3 match=10,1,99,99      -> proven   | due 0, ann.authorized 0, ann 501, treasury -500, ann.bonus 50, grants -50
        hold   c2 ann 400                            -> held     | ann 101, ann.held 400
        back   c1                                    -> queued   | due -500, ann.authorized 500, ann 0, ann.debt -399, ann.bonus 0, grants 0, treasury 0
        lose   c1                                    -> lost     | due 0, ann.authorized 0
        miss   c2                                    -> released | ann.held 0, ann.debt 0, ann 1
        """,  # noqa: E501 a table
    )


async def test_a_top_up_that_never_comes_costs_nobody_anything(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        credit ann 1                                 -> ok       | ann 1, operator -1
        sign   c1 bob 500 agent=ann topup=1          -> held     | due -500, ann.authorized 500
        fail   c1                                    -> released | due 0, ann.authorized 0
        sign   c1b bob 500 agent=ann topup=1         -> held     | due -500, ann.authorized 500
        match  c1b 500                               -> captured
        lose   c1b                                   -> lost     | due 0, ann.authorized 0
        sign   c2 bob 500 agent=ann topup=1          -> held     | due -500, ann.authorized 500
        match  c2 500                                -> captured
        prove  c2 450 log=t9:0                       -> proven   | due 0, ann.authorized 0, ann 451, treasury -450
        sign   c3 bob 500 agent=ann topup=1          -> held     | due -500, ann.authorized 500
        match  c3 500                                -> captured
        prove  c3 0 log=t9:1                         -> proven   | due 0, ann.authorized 0
        """,
    )


async def test_one_log_proves_one_thing(db: SqliteDatabase) -> None:
    """DESIGN 4.4: a settlement or a deposit, whichever was first; a log that was taken back is free again."""
    await play(
        db,
        f"""
        link   {HAL} agent=ann                -> yes
        sign   c1 bob 300                     -> held      | due -300, bob.authorized 300
        match  c1 300                         -> captured  | bob.authorized 0, revenue 300
        arrive t1:0 {HAL} 300                 -> credited  | ann 300, treasury -300
        prove  c1 300 log=t1:0                -> conflict
        prove  c1 300 log=t2:0                -> proven    | due 0, treasury -600
        claim  t2:0 {HAL} 300 agent=ann       -> deposit_is_x402_settlement
        arrive t2:0 {HAL} 300                 -> ok
        back   c1                             -> queued    | due -300, treasury -300
        arrive t2:0 {HAL} 300                 -> credited  | ann 600, treasury -600
        vanish t1:0                           -> withdrawn | ann 300, treasury -300
        prove  c1 300 log=t1:0                -> proven    | due 0, treasury -600
        """,
    )
    for sql in (
        "INSERT INTO deposits (id, source, state, network, token, sender, amount_atomic, amount_micros, bonus_micros,"
        " transaction_hash, log_index, block, block_hash, final, seen_ms) SELECT 'dep_x', 'transfer', 'seen', network,"
        " 't', 's', '1', 1, 0, transaction_hash, log_index, 1, 'b', 0, 1 FROM proofs WHERE taken_back_ms IS NULL",
        "INSERT INTO proofs (network, transaction_hash, log_index, settlement_id, kind, block, amount_atomic, at_ms)"
        " SELECT network, transaction_hash, log_index, 'stl_c1', 'chain', 1, '1', 1 FROM deposits"
        " WHERE state = 'credited'",
    ):
        with pytest.raises(apsw.ConstraintError, match="this log"):
            await db.write(lambda tx, sql=sql: tx.execute(sql))


async def test_f114_a_match_keeps_its_caps_to_the_micro_dollar(db: SqliteDatabase) -> None:
    """F-114: many deposits at once at the edge of one agent's cap, and of the budget of all."""
    rule = Match(percent=33, min_micros=100, max_bonus_micros=500, budget_micros=1_700, first_deposit_only=False)
    for number in range(8):
        await books.agent(db, f"agt_{number}")
        await db.write(wallets.add, f"0x{number:040x}", f"agt_{number}", wallets.Role.MINT)

    async def deposit(number: int) -> None:
        sender = f"0x{number // 10:040x}"
        arrival = Arrival(books.NETWORK, books.TOKEN, sender, f"0x{number}", 0, 8, "0xb", 700, 700)
        await db.write(deposits.arrived, arrival, f"dep_{number:03}", rule)

    await asyncio.gather(*(deposit(number) for number in range(80)))
    assert await db.read(deposits.matched_micros) == 1_700
    each = [await db.read(deposits.matched_micros, f"agt_{number}") for number in range(8)]
    assert max(each) == 500
    ((bonus,),) = await db.read(
        lambda tx: tx.execute("SELECT sum(balance_micros) FROM accounts WHERE name LIKE '%:bonus'")
    )
    assert bonus == 1_700
    # What is withdrawn is free again for others.
    rich = next(view for view in await db.read(deposits.listing, 99) if view.deposit.bonus_micros > 100)
    await db.write(deposits.taken_back, rich.deposit.id)
    await books.agent(db, "late")
    await db.write(wallets.add, HAL, "late", wallets.Role.MINT)
    again = await db.write(
        deposits.arrived, Arrival(books.NETWORK, books.TOKEN, HAL, "0xff", 0, 8, "0xb", 9_000, 9_000), "dep_l", rule
    )
    assert again
    assert again.deposit.bonus_micros == rich.deposit.bonus_micros


async def test_the_rule_of_a_match(db: SqliteDatabase, clock: Clock) -> None:
    first = "match=100,100,1000,9999,first"
    await play(
        db,
        f"""
        link   {HAL} agent=ann                -> yes
        link   {EVE} agent=eve                -> yes
        arrive t1:0 {HAL} 99 {first}          -> credited      | ann 99, treasury -99
        arrive t2:0 {HAL} 500 {first}         -> credited      | ann 599, treasury -599
        arrive t3:0 {EVE} 100 {first}         -> credited 100  | eve 100, eve.bonus 100, grants -100, treasury -699
        arrive t4:0 {EVE} 100 {first}         -> credited      | eve 200, treasury -799
        """,
    )
    ends = Match(100, 1, 10**6, 10**6, ends_ms=clock.ms + 10, first_deposit_only=False)
    arrival = Arrival(books.NETWORK, books.TOKEN, HAL, "0xe", 0, 8, "0xb", 50, 50)
    view = await db.write(deposits.arrived, arrival, "dep_e1", ends)
    assert view
    assert view.deposit.bonus_micros == 50
    clock.ms += 20
    await db.write(deposits.taken_back, "dep_e1")
    again = await db.write(deposits.arrived, arrival, "dep_e2", ends)
    assert again
    assert again.deposit.bonus_micros == 50, "the very transfer came while the rule was in force"
    late = Arrival(books.NETWORK, books.TOKEN, HAL, "0xf", 0, 8, "0xb", 50, 50)
    view = await db.write(deposits.arrived, late, "dep_e3", ends)
    assert view
    assert view.deposit.bonus_micros == 0


async def test_what_is_final_stays(db: SqliteDatabase) -> None:
    await play(db, f"link {HAL} agent=ann -> yes\narrive t1:0 {HAL} 5 -> credited | ann 5, treasury -5")
    await db.write(deposits.confirmed, "dep_0001", 9, "0xb9", final=False)
    assert [view.block for view in await db.read(deposits.watched, books.NETWORK)] == [9]
    await db.write(deposits.confirmed, "dep_0001", 9, "0xb9", final=True)
    assert await db.read(deposits.watched, books.NETWORK) == []
    with pytest.raises(Conflict):
        await db.write(deposits.taken_back, "dep_0001")
    await play(db, f"arrive t2:0 {EVE} 7 -> seen")
    await db.write(deposits.confirmed, "dep_0002", 9, "0xb9", final=True)
    late = await db.write(deposits.credit_orphan, "dep_0002", "ann", None)
    assert late.deposit.party == "ann"
    with pytest.raises(Conflict):
        await db.write(deposits.taken_back, "dep_0002")


FORBIDDEN = (
    "DELETE FROM deposits",
    "UPDATE deposits SET amount_micros = amount_micros",
    "UPDATE deposits SET party = 'ann' WHERE id = 'dep_0001'",
    "UPDATE deposits SET bonus_micros = 0 WHERE id = 'dep_0001'",
    "UPDATE deposits SET state = 'seen', party = NULL, credited_ms = NULL WHERE id = 'dep_0001'",
    "UPDATE deposits SET state = 'gone', ended_ms = 1 WHERE id = 'dep_0001'",
    "UPDATE deposits SET state = 'withdrawn' WHERE id = 'dep_0001'",
    "UPDATE deposits SET state = 'credited' WHERE id = 'dep_0002'",
    "UPDATE deposits SET state = 'credited', ended_ms = NULL WHERE id = 'dep_0003'",
    "UPDATE deposits SET block = 5 WHERE id = 'dep_0003'",
    "INSERT INTO transfers (at_ms, kind, debit, credit, amount_micros, debit_after_micros, credit_after_micros, note)"
    " VALUES (1, 'gift', 'loss', 'revenue', 1, 0, 0, '')",
    "UPDATE transfers SET deposit_id = NULL",
    "UPDATE charges SET topup = 1",
)


@pytest.mark.parametrize("sql", FORBIDDEN)
async def test_what_the_schema_refuses(db: SqliteDatabase, sql: str) -> None:
    await play(
        db,
        f"""
        link   {HAL} agent=ann -> yes
        arrive t1:0 {HAL} 5    -> credited  | ann 5, treasury -5
        arrive t2:0 {EVE} 5    -> seen
        arrive t3:0 {HAL} 5    -> credited  | ann 10, treasury -10
        vanish t3:0            -> withdrawn | ann 5, treasury -5
        hold   c1 ann 1        -> held      | ann 4, ann.held 1
        """,
    )
    with pytest.raises((apsw.ConstraintError, apsw.MismatchError)):
        await db.write(lambda tx: tx.execute(sql))


async def test_the_words_of_the_ledger_are_those_of_the_schema(db: SqliteDatabase) -> None:
    ((rules,),) = await db.read(lambda tx: tx.execute("SELECT sql FROM sqlite_schema WHERE name = 'transfers'"))
    words = rules.partition("kind IN (")[2].partition(")")[0]
    assert [word.strip(" '\n") for word in words.split(",")] == [kind.value for kind in Kind]
    assert await db.read(lambda tx: tx.execute("PRAGMA integrity_check")) == [("ok",)]


async def test_the_schema_has_the_moves_of_the_machine(db: SqliteDatabase) -> None:
    ((rule,),) = await db.read(
        lambda tx: tx.execute("SELECT sql FROM sqlite_schema WHERE name = 'deposits_move_forward'")
    )
    bare = apsw.Connection(":memory:")
    bare.execute("CREATE TABLE deposits (state TEXT)")
    moves = set()
    for before in core.State:
        for after in core.State:
            bare.execute(f"DROP TRIGGER IF EXISTS deposits_move_forward; DELETE FROM deposits;"
                         f"INSERT INTO deposits VALUES ('{before}'); {rule}")  # fmt: skip
            try:
                bare.execute(f"UPDATE deposits SET state = '{after}'")
            except apsw.ConstraintError:
                continue
            moves |= {(before, after)} if before is not after else set()
    assert moves == {(before, after) for (before, _), after in core.TRANSITIONS.items()}


BROKEN = (
    ("deposit", "DROP TRIGGER deposits_credited_once; UPDATE deposits SET bonus_micros = 1 WHERE id = 'dep_0001'"),
    ("account", "DROP TRIGGER deposits_keep_terms; UPDATE deposits SET amount_micros = 6 WHERE id = 'dep_0001'"),
    ("deposit", "DROP TRIGGER transfers_are_history; UPDATE transfers SET deposit_id = 'dep_0003' WHERE seq = 1"),
    ("deposit", "DROP TRIGGER transfers_are_history; UPDATE transfers SET deposit_id = NULL WHERE seq = 1"),
    ("deposit", "UPDATE deposits SET state = 'withdrawn', ended_ms = 9 WHERE id = 'dep_0001'"),
)


@pytest.mark.parametrize(("rule", "sql"), BROKEN)
async def test_the_audit_sees(tmp_path: Path, rule: str, sql: str) -> None:
    async with books.books(tmp_path / "l.db", clean=False) as db:
        await play(
            db,
            f"""
            link   {HAL} agent=ann -> yes
            arrive t1:0 {HAL} 5    -> credited  | ann 5, treasury -5
            arrive t3:0 {HAL} 5    -> credited  | ann 10, treasury -10
            arrive t4:0 {HAL} 5    -> credited  | ann 15, treasury -15
            vanish t3:0            -> withdrawn | ann 10, treasury -10
            """,
        )
        assert await db.read(audit) == []
        for each in sql.split(";"):
            await db.write(lambda tx, each=each: tx.execute(each))
        assert rule in {finding.rule for finding in await db.read(audit)}


async def test_the_audit_sees_a_debtor_with_money(tmp_path: Path) -> None:
    async with books.books(tmp_path / "l.db", clean=False) as db:
        await play(db, "credit ann 5 -> ok | ann 5, operator -5")
        for debit, credit, after in (("ann:debt", "operator", "-3, -2"),):
            await db.write(
                lambda tx, d=debit, c=credit, a=after: tx.execute(
                    "INSERT INTO transfers (at_ms, kind, debit, credit, amount_micros, debit_after_micros,"
                    f" credit_after_micros, note) VALUES ({1_900_000_000_000}, 'credit', '{d}', '{c}', 3, {a}, '')"
                )
            )
        assert ("account", "ann:debt") in {(finding.rule, finding.subject) for finding in await db.read(audit)}


async def test_an_agent_that_is_frozen_claims_nothing(db: SqliteDatabase) -> None:
    await play(db, f"link {HAL} agent=ann -> yes\nfreeze ann -> yes\nclaim t:0 {HAL} 5 agent=ann -> agent_frozen")
    with pytest.raises(Problem):
        await db.write(deposits.credit_orphan, "dep_none", "ann", None)


async def test_the_cursor_goes_forward(db: SqliteDatabase) -> None:
    assert await db.read(deposits.cursor, "eip155:1", "0xa") is None
    for block, now in ((5, 5), (9, 9), (7, 9)):
        await db.write(deposits.move_cursor, "eip155:1", "0xa", block)
        assert await db.read(deposits.cursor, "eip155:1", "0xa") == now
    assert await db.read(deposits.cursor, "eip155:1", "0xb") is None
