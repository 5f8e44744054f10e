"""Registering in the store alone: all of it or nothing, once; and what an allowance counts."""

import apsw
import pytest
from rigs import books
from rigs.books import WALLET

from gateway.core.charge import Event
from gateway.core.grant import Policy, Withheld
from gateway.core.transfer import Kind
from gateway.store import agents, allowances, charges, registrations, settlements, wallets
from gateway.store.database import Tx
from gateway.store.registrations import Funds, Newcomer, NotLinked, Proof, Registered
from gateway.store.sqlite import SqliteDatabase
from gateway.store.wallets import EVERYWHERE, Role

POLICY = Policy(200_000, 500_000, 1_000_000, once_per_dollar=True)
FUNDS = Funds(1_000_000, {})
OTHER = "0x" + "b" * 40


def proof(nonce: str = "n1", address: str = WALLET, **more: object) -> Proof:
    return Proof(address, "eip155:8453", False, nonce, 1_800_000_600_000, **more)  # type: ignore[arg-type]


def newcomer(name: str = "agt_1") -> Newcomer:
    return Newcomer(name, "label", f"tok_{name}", name.encode().ljust(32), "411_...abc")


async def everything(db: SqliteDatabase) -> dict[str, int]:
    tables = ("used_nonces", "agents", "tokens", "wallets", "registrations", "credits", "transfers", "actions")
    return await db.read(lambda tx: {t: tx.execute(f"SELECT count(*) FROM {t}")[0][0] for t in tables})


async def test_all_of_it_or_nothing(db: SqliteDatabase) -> None:
    before = await everything(db)

    def halfway(tx: Tx) -> None:
        registrations.register(tx, proof(), newcomer(), FUNDS, POLICY)
        raise RuntimeError("the last moment")

    with pytest.raises(RuntimeError):
        await db.write(halfway)
    assert await everything(db) == before
    done = await db.write(registrations.register, proof(), newcomer(), FUNDS, POLICY)
    assert done == Registered("agt_1", True, 200_000)
    assert (await everything(db))["credits"] == 1


async def test_f123_a_used_nonce_writes_nothing(db: SqliteDatabase) -> None:
    await db.write(registrations.register, proof(), newcomer(), FUNDS, POLICY)
    before = await everything(db)
    for wallet in (WALLET, OTHER):
        again = await db.write(registrations.register, proof("n1", wallet), newcomer("agt_2"), FUNDS, POLICY)
        assert again is None
    assert await everything(db) == before
    known = await db.write(registrations.register, proof("n2"), newcomer("agt_2"), FUNDS, POLICY)
    assert known == Registered("agt_1", False)
    assert await everything(db) == before | {"used_nonces": 2}


async def test_f111_the_ledger_itself_refuses_a_second_grant(db: SqliteDatabase) -> None:
    await db.write(registrations.register, proof(), newcomer(), FUNDS, POLICY)
    await db.write(agents.credit, "agt_1", 200_000, Kind.GRANT, "again", f"mint:*/{WALLET}")
    assert (await db.read(agents.balance, "agt_1")).bonus == 200_000


async def test_the_budget_is_of_any_24_hours(db: SqliteDatabase, clock: books.Clock) -> None:
    given = []
    for place in range(6):
        address = f"0x{place:040x}"
        done = await db.write(
            registrations.register, proof(f"n{place}", address), newcomer(f"agt_{place}"), FUNDS, POLICY
        )
        assert done is not None
        given.append(done.withheld)
        clock.ms += registrations.DAY_MS // 4
    assert given == [None, None, Withheld.BUDGET, Withheld.BUDGET, None, None]


async def test_f109_what_nobody_has_looked_at_is_no_ones_own(db: SqliteDatabase) -> None:
    for place, (holds, why_not) in enumerate(((1_000_009, Withheld.UNKNOWN), (1_000_010, None))):
        done = await db.write(
            registrations.register, proof(f"n{place}", f"0x{place:040x}"), newcomer(f"agt_{place}"),
            Funds(holds, {}, 10), POLICY,
        )  # fmt: skip
        assert done is not None
        assert done.withheld is why_not


async def test_a_wallet_is_linked_to_one_agent(db: SqliteDatabase) -> None:
    for name in ("ann", "bob"):
        await books.agent(db, name)
        await db.write(agents.add_token, f"tok_{name}", name, agents.TokenKind.ADMIN, name.encode().ljust(32), "")
    assert await db.write(registrations.link, proof("n1"), "ann", "tok_ann") is True
    assert await db.write(registrations.link, proof("n1"), "ann", "tok_ann") is None
    assert await db.write(registrations.link, proof("n2"), "ann", "tok_ann") is False
    assert await db.write(registrations.link, proof("n3"), "bob", "tok_bob") is NotLinked.TAKEN
    assert (await db.read(wallets.find, WALLET)).role is Role.LINKED  # type: ignore[union-attr]
    assert await db.read(registrations.granted_lately) == 0


async def test_the_key_of_nonces_is_made_once(db: SqliteDatabase) -> None:
    first = await db.write(registrations.nonce_key, b"a" * 32)
    assert (first, await db.write(registrations.nonce_key, b"b" * 32)) == (b"a" * 32, b"a" * 32)


async def test_what_an_allowance_counts(db: SqliteDatabase, clock: books.Clock) -> None:
    """Every end of a signed charge, and a charge from before the allowance."""

    async def hold(name: str, micros: int) -> object:
        return await db.write(charges.hold, books.signed(name, micros), books.work(), books.claim(name, micros), None)

    async def drawn() -> int:
        found = await db.read(allowances.find, WALLET, EVERYWHERE)
        assert found is not None
        return found.drawn_micros

    await books.agent(db, "ann")
    await db.write(wallets.add, WALLET, "ann", Role.LINKED)
    assert isinstance(await hold("before", 500), charges.Held)
    await db.write(allowances.state, WALLET, EVERYWHERE, 1000, "n1", b"\1")
    clock.ms += 1
    await db.write(charges.record, "before", Event.FAILED)
    assert await drawn() == 0
    for name in ("missed", "failed", "captured", "unpaid"):
        assert isinstance(await hold(name, 250), charges.Held)
    assert await drawn() == 1000
    over = await hold("over", 1)
    assert isinstance(over, charges.BeyondAllowance)
    assert (over.allowance.limit_micros, over.allowance.drawn_micros) == (1000, 1000)
    await db.write(charges.record, "missed", Event.MISSED)
    await db.write(charges.record, "failed", Event.FAILED)
    assert await drawn() == 500
    await db.write(charges.record, "captured", Event.MATCHED, 100, settlement_id="stl_1", amount_atomic=100)
    assert await drawn() == 350
    await db.write(charges.record, "unpaid", Event.MATCHED, 250, settlement_id="stl_2", amount_atomic=250)
    await db.write(settlements.lost, "stl_2", "it expired")
    assert await drawn() == 100
    with pytest.raises(apsw.ConstraintError):
        await db.write(allowances.draw, WALLET, books.NETWORK, 901)
    await db.write(allowances.state, WALLET, EVERYWHERE, 50, "n2", b"\2")
    assert await drawn() == 0
