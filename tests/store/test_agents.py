"""Agents, tokens at rest, and the operator's log."""

from pathlib import Path

import pytest
from rigs import books

from gateway.core import ids
from gateway.core.agent import Principal, Status, TokenKind
from gateway.core.transfer import Kind
from gateway.store import actions, agents, ledger
from gateway.store.sqlite import SqliteDatabase

TOKEN = ids.new_token("411_", bytes(range(32)))


async def test_a_token_opens_its_agent_until_it_is_revoked(db: SqliteDatabase) -> None:
    await db.write(agents.create, "ann", "Ann's bot")
    await db.write(agents.create, "bob", "Bob's bot")
    for n, name in enumerate(("ann", "ann", "bob")):
        await db.write(agents.add_token, f"key_{n}", name, TokenKind.ADMIN, bytes([n]) * 32, f"411_...{n}")
    now_ms = await db.read(lambda tx: tx.now_ms)
    ann = Principal("ann", "key_1", TokenKind.ADMIN, Status.ACTIVE, "Ann's bot", now_ms)
    assert await db.read(agents.authenticate, bytes([1]) * 32) == ann
    assert await db.read(agents.authenticate, bytes([9]) * 32) is None
    assert await db.write(agents.revoke, "ann") == 2
    assert await db.write(agents.revoke, "ann") == 0
    assert await db.read(agents.authenticate, bytes([1]) * 32) is None
    assert await db.read(agents.authenticate, bytes([2]) * 32) is not None
    with pytest.raises(Exception, match="stays as it is"):
        await db.write(lambda tx: tx.execute("UPDATE tokens SET revoked_ms = NULL"))


async def test_a_frozen_agent_is_known_as_frozen(db: SqliteDatabase) -> None:
    await db.write(agents.create, "ann", "")
    await db.write(agents.add_token, "key_1", "ann", TokenKind.ADMIN, b"1" * 32, "")
    assert await db.write(agents.set_status, "ann", Status.FROZEN)
    assert not await db.write(agents.set_status, "eve", Status.FROZEN)
    principal = await db.read(agents.authenticate, b"1" * 32)
    assert principal is not None
    assert principal.status is Status.FROZEN


async def test_listing_and_balances(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=300, bonus=50)
    await books.agent(db, "bob")
    await db.write(agents.add_token, "key_1", "bob", TokenKind.ADMIN, b"1" * 32, "")
    ann, bob = await db.read(agents.listing)
    assert (ann.id, ann.tokens, ann.balance) == ("ann", 0, agents.Balance(300, 0, 50, 0))
    assert (bob.id, bob.tokens, bob.balance) == ("bob", 1, agents.Balance(0, 0, 0, 0))
    assert await db.read(agents.balance, "nobody") == agents.Balance(0, 0, 0, 0)


@pytest.mark.parametrize("micros", [0, -1])
async def test_no_credit_of_nothing_or_less(db: SqliteDatabase, micros: int) -> None:
    """F-089"""
    await db.write(agents.create, "ann", "")
    with pytest.raises(ValueError, match="no transfer"):
        await db.write(agents.credit, "ann", micros, Kind.CREDIT, "", "crd_1")


async def test_no_token_is_in_the_file(db: SqliteDatabase, tmp_path: Path) -> None:
    """F-128: only a hash and a hint, in the database and in its log."""
    await db.write(agents.create, "ann", "")
    hint = ids.token_hint(TOKEN)
    await db.write(agents.add_token, "key_1", "ann", TokenKind.ADMIN, ids.token_hash(TOKEN), hint)
    stolen = books.bytes_of(tmp_path)
    assert hint.encode() in stolen
    assert TOKEN.encode() not in stolen
    assert TOKEN[4:24].encode() not in stolen


async def test_the_operators_deeds_are_noted_with_them(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=300)
    await db.write(agents.set_status, "ann", Status.FROZEN)
    noted = [(action.action, action.subject) for action in await db.read(actions.listing)]
    assert noted == [("set_status", "ann"), ("credit", "ann"), ("create_agent", "ann")]
    assert await db.read(actions.listing, subject="bob") == []
    assert [action.action for action in await db.read(actions.listing, 1)] == ["set_status"]


async def test_a_statement_of_an_account(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=300, bonus=50)
    (entry,) = await db.read(lambda tx: ledger.rows(tx, account="ann:available"))
    assert (entry.seq, entry.transfer.kind, entry.transfer.debit, entry.transfer.amount_micros) == (
        1,
        Kind.CREDIT,
        "operator",
        300,
    )
    assert (entry.debit_after_micros, entry.credit_after_micros) == (-300, 300)
    assert [entry.seq for entry in await db.read(lambda tx: ledger.rows(tx, limit=1))] == [2]
