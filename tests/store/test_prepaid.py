"""Prepaid calls in the books: a top-up, then a call from the account it came to; and whose account a wallet's is."""

from pathlib import Path

import apsw
import pytest
from rigs import books
from rigs.money_table import play

from gateway.core.agent import Status, TokenKind
from gateway.core.charge import Event
from gateway.core.errors import IllegalMove, Problem
from gateway.store import agents, charges, ledger, prepaid, registrations, statements, wallets
from gateway.store.audit import audit
from gateway.store.database import Tx
from gateway.store.sqlite import SqliteDatabase, read_migrations

W = books.WALLET
V = "0x" + "b" * 40
NOBODY = "0x" + "e" * 40


async def test_what_a_call_leaves_is_on_its_wallets_account(db: SqliteDatabase) -> None:
    await play(
        db,
        f"""
        sign  p1 {W} 300 topup=call -> held      | {W}.authorized 300, due -300
        spend c1 p1 300             -> not come
        match p1 300                -> captured
        spend c1 p1 300             -> not come
        send  p1 5                  -> sent
        spend c1 p1 300             -> not come
        prove p1 300 log=0x5-0:1    -> proven    | {W}.authorized 0, {W} 300, due 0, treasury -300
        spend c1 p1 300             -> held      | {W} 0, {W}.held 300
        spend c2 p1 300             -> held      # the very same, at work
        fail  c1                    -> released  | {W} 300, {W}.held 0
        spend c2 p1 301             -> illegal
        spend c2 p1 300 request=x   -> illegal
        spend c2 p1 300 agent=ann   -> illegal
        spend c2 p1 300             -> held      | {W} 0, {W}.held 300
        match c2 200                -> captured  | {W} 100, {W}.held 0, revenue 200
        spend c3 p1 300             -> captured  # the very same, answered
        refund c2 200 id=r1         -> refunded  | {W} 300, revenue 0
        spend c3 p1 300             -> refunded
        refund p1 300 id=r2         -> illegal
        """,
    )


async def test_an_agents_is_the_agents(db: SqliteDatabase) -> None:
    await play(
        db,
        f"""
        credit ann 10                       -> ok        | ann 10, operator -10
        sign  p1 {W} 300 topup=call agent=ann -> held    | ann.authorized 300, due -300
        match p1 300                        -> captured
        prove p1 300 log=0x5:1 match=100,10,500,500 -> proven | ann.authorized 0, ann 310, due 0, treasury -300
        spend c1 p1 300                     -> illegal
        spend c1 p1 300 agent=ann           -> held      | ann 10, ann.held 300
        miss  c1                            -> released  | ann 310, ann.held 0
        hold  c2 ann 310                    -> held      | ann 0, ann.held 310
        spend c3 p1 300 agent=ann           -> released  # answered
        """,
    )
    assert await db.read(lambda tx: [m.kind.value for m in statements.page(tx, "ann", 9)]) == ["deposit", "credit"]


async def test_what_is_spent_by_something_else_is_short(db: SqliteDatabase) -> None:
    await play(
        db,
        f"""
        sign  p1 {W} 300 topup=call agent=ann -> held    | ann.authorized 300, due -300
        match p1 300                        -> captured
        prove p1 300 log=0x5:1              -> proven    | ann.authorized 0, ann 300, due 0, treasury -300
        hold  c1 ann 1                      -> held      | ann 299, ann.held 1
        spend c2 p1 300 agent=ann           -> short 299
        freeze ann                          -> yes
        spend c2 p1 200 agent=ann           -> agent_frozen
        """,
    )


async def test_a_reorganisation_leaves_a_debt_and_no_call(db: SqliteDatabase) -> None:
    await play(
        db,
        f"""
        sign  p1 {W} 300 topup=call -> held      | {W}.authorized 300, due -300
        match p1 300                -> captured
        prove p1 300 log=0x5:1      -> proven    | {W}.authorized 0, {W} 300, due 0, treasury -300
        spend c1 p1 300             -> held      | {W} 0, {W}.held 300
        back  p1                    -> queued    | {W}.debt -300, {W}.authorized 300, due -300, treasury 0
        fail  c1                    -> released  | {W}.debt 0, {W}.held 0
        spend c2 p1 300             -> not come
        prove p1 300 log=0x6:1      -> proven    | {W}.authorized 0, {W} 300, due 0, treasury -300
        spend c2 p1 300             -> held      | {W} 0, {W}.held 300
        """,
    )


async def test_what_comes_to_an_agents_wallet_goes_on(db: SqliteDatabase) -> None:
    await play(
        db,
        f"""
        sign  p1 {W} 300 topup=call -> held      | {W}.authorized 300, due -300
        match p1 300                -> captured
        prove p1 300 log=0x5:1      -> proven    | {W}.authorized 0, {W} 300, due 0, treasury -300
        spend c1 p1 100             -> held      | {W} 200, {W}.held 100
        link  {W} agent=ann         -> yes       | {W} 0, ann 200
        link  {W} agent=bea         -> no
        miss  c1                    -> released  | {W}.held 0, ann 300
        sign  s1 {W} 50             -> held      | {W}.authorized 50, due -50
        match s1 50                 -> captured  | {W}.authorized 0, revenue 50
        prove s1 50 log=0x6:1       -> proven    | due 0, treasury -350
        refund s1 50 id=r1          -> refunded  | revenue 0, ann 350
        sign  p2 {W} 70 topup=call  -> held      | {W}.authorized 70, due -70
        match p2 70                 -> captured
        prove p2 70 log=0x7:1       -> proven    | {W}.authorized 0, ann 420, due 0, treasury -420
        spend c2 p2 70              -> held      | ann 350, ann.held 70
        match c2 70                 -> captured  | ann.held 0, revenue 70
        """,
    )
    page = await db.read(statements.page, W, 20)
    assert sum(movement.amount_micros for movement in page) == 0
    assert page[0].balance_micros == 0


async def test_a_wallet_pays_its_debt_before_its_money_goes_on(db: SqliteDatabase) -> None:
    await play(
        db,
        f"""
        sign  p1 {W} 300 topup=call -> held      | {W}.authorized 300, due -300
        match p1 300                -> captured
        prove p1 300 log=0x5:1      -> proven    | {W}.authorized 0, {W} 300, due 0, treasury -300
        link  {W} agent=ann         -> yes       | {W} 0, ann 300
        back  p1                    -> queued    | {W}.debt -300, {W}.authorized 300, due -300, treasury 0
        prove p1 300 log=0x6:1      -> proven    | {W}.authorized 0, {W}.debt 0, due 0, treasury -300
        """,
    )


def registered(contract: bool, network: str) -> registrations.Proof:
    return registrations.Proof(W, network, contract, f"n-{network}", 2 * 10**12)


@pytest.mark.parametrize(
    ("contract", "network", "moved"),
    [
        (False, "eip155:8453", True),
        (True, books.NETWORK, True),
        (True, "eip155:8453", False),
        (True, "eip155:3", False),
    ],
)
async def test_a_contracts_address_may_be_anothers_on_another_chain(
    db: SqliteDatabase, contract: bool, network: str, moved: bool
) -> None:
    await play(
        db,
        f"""
        credit ann 1                -> ok        | ann 1, operator -1
        sign  p1 {W} 300 topup=call -> held      | {W}.authorized 300, due -300
        match p1 300                -> captured
        prove p1 300 log=0x5:1      -> proven    | {W}.authorized 0, {W} 300, due 0, treasury -300
        """,
    )
    await token(db, "ann")
    assert await db.write(registrations.link, registered(contract, network), "ann", "tok_ann") is True
    assert await own(db, "ann") == (301 if moved else 1)
    assert await own(db, W) == (0 if moved else 300)
    assert await db.read(wallets.owner, W) == ("ann" if moved else None)
    assert (await db.read(prepaid.look, "p1")).party == ("ann" if moved else W)


async def token(db: SqliteDatabase, agent_id: str) -> None:
    await db.write(agents.add_token, f"tok_{agent_id}", agent_id, TokenKind.ADMIN, agent_id.encode().ljust(32), "")


async def own(db: SqliteDatabase, party: str) -> int:
    return await db.read(ledger.balance, f"{party}:available")


async def test_refused_before_anything_is_taken(db: SqliteDatabase) -> None:
    def refusal(tx: Tx) -> str:
        try:
            return str(prepaid.refuse(tx, W, None, (), 300))
        except Problem as problem:
            return problem.code.value

    assert await db.read(refusal) == "None"
    await play(
        db,
        f"""
        sign  p1 {W} 300 topup=call -> held      | {W}.authorized 300, due -300
        match p1 300                -> captured
        prove p1 300 log=0x5:1      -> proven    | {W}.authorized 0, {W} 300, due 0, treasury -300
        spend c1 p1 300             -> held      | {W} 0, {W}.held 300
        match c1 300                -> captured  | {W}.held 0, revenue 300
        back  p1                    -> queued    | {W}.debt -300, {W}.authorized 300, due -300, treasury 0
        """,
    )
    assert await db.read(refusal) == "BALANCE_TOO_LOW"
    await play(
        db,
        f"""
        prove p1 300 log=0x6:1      -> proven    | {W}.authorized 0, {W}.debt 0, due 0, treasury -300
        link  {W} agent=ann         -> yes
        """,
    )
    assert await db.read(refusal) == "None"
    await db.write(agents.set_status, "ann", Status.FROZEN)
    assert await db.read(refusal) == "AGENT_FROZEN"


async def test_the_schema_keeps_one_call_of_a_top_up(db: SqliteDatabase) -> None:
    await play(
        db,
        f"""
        credit ann 900              -> ok        | ann 900, operator -900
        sign  p1 {W} 300 topup=call -> held      | {W}.authorized 300, due -300
        match p1 300                -> captured
        prove p1 300 log=0x5:1      -> proven    | {W}.authorized 0, {W} 300, due 0, treasury -300
        spend c1 p1 100             -> held      | {W} 200, {W}.held 100
        """,
    )
    another = charges.Charge("c2", "enrich/phone", "ann", charges.Source.BALANCE, 100, topup_id="p1")
    with pytest.raises(apsw.ConstraintError):
        await db.write(charges.hold, another, books.work("ann"), None, None)
    with pytest.raises(apsw.ConstraintError):
        await db.write(lambda tx: tx.execute("UPDATE charges SET topup_id = NULL WHERE id = 'c1'"))
    with pytest.raises(ValueError, match="from balance"):
        charges.Charge("c3", "enrich/phone", W, charges.Source.SIGNATURE, 1, asset=books.ASSET, topup_id="p1")
    await db.write(charges.record, "c1", Event.EXPIRED)
    with pytest.raises(IllegalMove):
        await db.write(prepaid.hold, books.charge("c2", "ann", 100), books.work("ann"))


async def test_what_wallets_had_when_they_could_not_spend_it_goes_on_with_the_migration(tmp_path: Path) -> None:
    """A file of the version before: refunds on the accounts of wallets that are agents' already."""
    before = [migration for migration in read_migrations() if migration.number < 17]
    path = tmp_path / "old.db"
    async with books.books(path, migrations=before, clean=False) as db:

        def fill(tx: Tx) -> None:
            tx.execute("INSERT INTO agents VALUES ('ann', '', 'active', 1)")
            given = 0
            for wallet, micros in ((W, 30), (V, 12), (NOBODY, 5)):
                given += micros
                tx.execute(
                    "INSERT INTO transfers (at_ms, kind, debit, credit, amount_micros, debit_after_micros,"
                    " credit_after_micros, note)"
                    " VALUES (5, 'credit', 'operator', :credit, :micros, -:given, :micros, '')",
                    {"credit": f"{wallet}:available", "micros": micros, "given": given},
                )
            for wallet, role in ((W, "mint"), (V, "linked")):
                tx.execute("INSERT INTO wallets VALUES (:w, 'ann', :role, 1)", {"w": wallet, "role": role})

        await db.write(fill)
    async with books.books(path, clean=False) as db:
        assert [await own(db, party) for party in ("ann", W, V, NOBODY)] == [42, 0, 0, 5]
        page = await db.read(statements.page, "ann", 9)
        assert [(movement.kind.value, movement.balance_micros) for movement in page] == [("joined", 42), ("joined", 30)]
        findings = await db.read(audit)
        assert {finding.rule for finding in findings} <= {"account"}  # there are no credits for what was made up above
        leads = await db.read(lambda tx: tx.execute("SELECT \"from\" FROM pragma_foreign_key_list('deposits')"))
        assert leads == [("settlement_id",)]
