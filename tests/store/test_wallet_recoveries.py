"""Recoveries in the store: one of many is done, tries are the agent's, and the schema keeps what was written."""

import asyncio

import apsw
import pytest
from rigs import books
from rigs.books import DAY_MS, Clock

from gateway.core.agent import Cap, KeyTerms, Period, Status, TokenKind
from gateway.core.deposit import Arrival
from gateway.core.errors import Problem
from gateway.core.lead import LeadKey
from gateway.store import agents, deposits, leads, usage_keys, wallet_recoveries, wallets
from gateway.store.agents import NewToken
from gateway.store.database import Row, Tx
from gateway.store.sqlite import SqliteDatabase
from gateway.store.wallet_recoveries import Recovered, Wrong

HAL, IDA = "0x" + "a1" * 20, "0x" + "b2" * 20
KEY = LeadKey.of(b"k" * 32)
RIGHT, WRONG = [KEY.digest("ann", "12065550100")], [KEY.digest("ann", "12065550101")]
ONE, TWO, THREE = b"1" * 32, b"2" * 32, b"3" * 32


def new(number: int) -> NewToken:
    return NewToken(f"tok_{number}", number.to_bytes(32), f"411_...{number}")


async def arrive(db: SqliteDatabase, number: int, deposit_id: str) -> None:
    micros = 1_000_000 + number
    arrival = Arrival(books.NETWORK, books.TOKEN, HAL, f"0xd{number}", 0, 8, "0xb", micros, micros)
    await db.write(deposits.arrived, arrival, deposit_id, None)


@pytest.fixture
async def lost(db: SqliteDatabase) -> SqliteDatabase:
    """Ann has a wallet, three deposits, a lead, two tokens, of which one is good for a while, and a usage key."""
    await books.agent(db, "ann")
    await db.write(wallets.add, HAL, "ann", wallets.Role.MINT)
    for number in (1, 2, 3):
        await arrive(db, number, f"dep_{number:04}")
    await db.write(leads.note, "ann", KEY.id, RIGHT)
    await db.write(agents.add_token, "tok_90", "ann", TokenKind.ADMIN, b"9" * 32, "")
    await db.write(agents.rotate, "ann", "tok_90", NewToken("tok_91", b"8" * 32, ""), 60_000)
    terms = KeyTerms("", ("jobs",), Cap(5, Period.DAY))
    await db.write(usage_keys.create, "key_1", "ann", terms, NewToken("tok_92", b"7" * 32, ""))
    return db


async def complete(
    db: SqliteDatabase, id_hash: bytes = ONE, deposit: str = "dep_0001", digests: list[bytes] = RIGHT, number: int = 1
) -> Recovered | Wrong | str:
    try:
        return await db.write(
            wallet_recoveries.complete, id_hash, HAL, "ann", deposit, digests, new(number)
        )  # fmt: skip
    except Problem as problem:
        return problem.code.value


def opening(tx: Tx) -> list[str]:
    rows: list[Row] = tx.execute("SELECT id FROM tokens WHERE revoked_ms IS NULL ORDER BY id")
    return [str(id) for (id,) in rows]


async def test_f130_one_of_twenty_is_done_and_no_token_before_opens(lost: SqliteDatabase) -> None:
    done = await asyncio.gather(*(complete(lost, number=number) for number in range(1, 21)))
    assert sorted(map(str, done)) == sorted(["RECOVERY_USED"] * 19 + [str(Recovered(2, 1))])
    (number,) = [number for number, each in enumerate(done, 1) if isinstance(each, Recovered)]
    assert await lost.read(opening) == [f"tok_{number}", "tok_92"]
    found = await lost.read(agents.authenticate, new(number).hash)
    assert found is not None
    assert (found.agent_id, found.is_admin) == ("ann", True)
    assert await complete(lost) == "RECOVERY_USED"


async def test_wrong_answers_are_the_agents_for_a_day(lost: SqliteDatabase, clock: Clock) -> None:
    until = clock.ms + 2 * DAY_MS
    assert await complete(lost, digests=WRONG) == Wrong(2, None)
    clock.ms += DAY_MS // 2
    assert await complete(lost, TWO, "dep_0002", WRONG) == Wrong(1, None)
    clock.ms += DAY_MS // 2
    assert await complete(lost, TWO, "dep_0002", WRONG) == Wrong(1, None), "the first is a day old"
    assert await complete(lost, THREE, "dep_0003", WRONG) == Wrong(0, until)
    assert [await complete(lost, id, f"dep_000{n}") for n, id in enumerate((ONE, TWO, THREE), 1)] == [
        "RECOVERY_LOCKED"
    ] * 3
    standing = await lost.read(wallet_recoveries.standing, HAL, KEY.id)
    assert (standing.agent_id, standing.tries_left, standing.locked_until_ms) == ("ann", 0, until)
    assert await lost.read(opening) == ["tok_90", "tok_91", "tok_92"]
    clock.ms = until
    assert isinstance(await complete(lost, THREE, "dep_0003"), Recovered)
    assert isinstance(await complete(lost, TWO, "dep_0002", number=2), Recovered)


async def test_one_deposit_proves_one_recovery(lost: SqliteDatabase) -> None:
    assert await complete(lost, digests=WRONG) == Wrong(2, None)
    assert await complete(lost, TWO) == "RECOVERY_TRANSFER_WRONG"
    assert isinstance(await complete(lost), Recovered)
    assert await complete(lost, TWO) == "RECOVERY_TRANSFER_WRONG"
    assert isinstance(await complete(lost, TWO, "dep_0002", number=2), Recovered)


async def test_a_deposit_that_was_taken_back_proves_nothing(lost: SqliteDatabase) -> None:
    assert await complete(lost, digests=WRONG) == Wrong(2, None)
    assert await lost.write(deposits.taken_back, "dep_0001")
    assert await complete(lost) == "TRANSACTION_NOT_FOUND"
    await arrive(lost, 1, "dep_0004")
    assert isinstance(await complete(lost, deposit="dep_0004"), Recovered)
    assert await lost.read(lambda tx: tx.execute("SELECT deposit_id FROM wallet_recoveries")) == [("dep_0004",)]


async def test_a_frozen_agent_is_not_recovered(lost: SqliteDatabase) -> None:
    await lost.write(agents.set_status, "ann", Status.FROZEN)
    assert (await lost.read(wallet_recoveries.standing, HAL, KEY.id)).agent_id is None
    assert await complete(lost) == "AGENT_FROZEN"
    assert await lost.read(opening) == ["tok_90", "tok_91", "tok_92"]


async def test_whose_wallet_it_is(lost: SqliteDatabase) -> None:
    await lost.write(wallets.add, IDA, "ann", wallets.Role.LINKED)

    async def agent(address: str, key_id: int = KEY.id) -> str | None:
        return (await lost.read(wallet_recoveries.standing, address, key_id)).agent_id

    assert [await agent(HAL), await agent(IDA), await agent(books.WALLET), await agent(HAL, 5)] == [
        "ann", None, None, None
    ]  # fmt: skip


REFUSED = (
    "DELETE FROM wallet_recoveries",
    "UPDATE wallet_recoveries SET agent_id = agent_id WHERE id_hash = :one",
    "UPDATE wallet_recoveries SET wrong_tries = 0, last_wrong_ms = NULL WHERE id_hash = :two",
    "UPDATE wallet_recoveries SET wrong_tries = 4 WHERE id_hash = :two",
    "UPDATE wallet_recoveries SET last_wrong_ms = NULL WHERE id_hash = :two",
    "UPDATE wallet_recoveries SET done_ms = 5 WHERE id_hash = :two",
    "UPDATE wallet_recoveries SET done_ms = 5, token_id = 'tok_1' WHERE id_hash = :two",
    "UPDATE wallet_recoveries SET deposit_id = 'dep_0001' WHERE id_hash = :two",
    "UPDATE wallet_recoveries SET done_ms = NULL, token_id = NULL WHERE id_hash = :one",
    "UPDATE wallet_recoveries SET wrong_tries = 1, last_wrong_ms = 5 WHERE id_hash = :one",
    "INSERT INTO wallet_recoveries SELECT x'00', agent_id, address, 'dep_0003', 0, NULL, 1, NULL, NULL"
    " FROM wallet_recoveries WHERE id_hash = :one",
    "INSERT INTO wallet_recoveries SELECT zeroblob(32), agent_id, address, 'dep_9', 0, NULL, 1, NULL, NULL"
    " FROM wallet_recoveries WHERE id_hash = :one",
    "INSERT INTO leads VALUES ('ann', x'00', 1, 1)",
    "INSERT INTO leads VALUES ('eve', zeroblob(16), 1, 1)",
    "INSERT INTO leads VALUES ('ann', zeroblob(16), 1, -1)",
)


@pytest.mark.parametrize("statement", REFUSED)
async def test_what_the_schema_refuses(lost: SqliteDatabase, statement: str) -> None:
    await complete(lost)
    await complete(lost, TWO, "dep_0002", WRONG, 2)
    params = {name: each for name, each in (("one", ONE), ("two", TWO)) if f":{name}" in statement}
    with pytest.raises(apsw.ConstraintError):
        await lost.write(lambda tx: tx.execute(statement, params))
