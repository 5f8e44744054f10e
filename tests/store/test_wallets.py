"""Whose a wallet is, and where: a key is the same on every chain, a contract's address may be anothers' on the next."""

from pathlib import Path

import pytest
from rigs import books
from rigs.money_table import play

from gateway.core.agent import Status
from gateway.core.charge import Event
from gateway.core.deposit import Arrival
from gateway.core.errors import Problem
from gateway.core.grant import Policy
from gateway.core.lead import LeadKey
from gateway.store import (
    agents,
    allowances,
    charges,
    deposits,
    leads,
    ledger,
    prepaid,
    registrations,
    wallet_recoveries,
    wallets,
)
from gateway.store.audit import audit
from gateway.store.database import Tx
from gateway.store.registrations import Funds, Newcomer, NotLinked, Proof, Registered
from gateway.store.sqlite import SqliteDatabase, read_migrations
from gateway.store.wallets import EVERYWHERE, Role

SAFE = books.WALLET
HERE, THERE, ELSEWHERE = books.NETWORK, "eip155:137", "eip155:1"
POLICY = Policy(200_000, 10**9, 1_000_000, once_per_dollar=True)
FUNDS = Funds(2_000_000, {})


def proof(network: str, nonce: str, *, contract: bool = True, allowance: int = 0) -> Proof:
    return Proof(SAFE, network, contract, nonce, 1_800_000_600_000, allowance, b"x" if allowance else b"")


def newcomer(name: str) -> Newcomer:
    return Newcomer(name, name, f"tok_{name}", name.encode().ljust(32), "")


async def register(db: SqliteDatabase, name: str, network: str, **more: object) -> Registered:
    done = await db.write(
        registrations.register, proof(network, f"n_{name}", **more), newcomer(name), FUNDS, POLICY  # type: ignore[arg-type]
    )  # fmt: skip
    assert done is not None
    return done


def arrival(network: str, transaction: str = "0xt") -> Arrival:
    return Arrival(network, books.TOKEN, SAFE, transaction, 0, 8, "0xb", 1_000_001, 1_000_001)


async def test_f113_the_owner_on_another_chain_takes_no_deposit(db: SqliteDatabase) -> None:
    """F-113: Eve has a contract at the Safe's address on another chain, and was here first."""
    assert await register(db, "eve", THERE) == Registered("eve", True, 200_000)
    view = await db.write(deposits.arrived, arrival(HERE), "dep_1", None)
    assert view is not None
    assert view.deposit.party is None
    with pytest.raises(Problem, match="not linked"):
        await db.write(deposits.claimed, "eve", [arrival(HERE)], ["dep_2"], None)
    assert await db.write(deposits.linked_since, None) == []
    # The owner of the Safe registers it all the same, with a grant of his own, and gets what has come.
    assert await register(db, "ann", HERE) == Registered("ann", True, 200_000)
    assert [view.deposit.party for view in await db.write(deposits.linked_since, None)] == ["ann"]
    assert [view.deposit.party for view in await db.write(deposits.claimed, "ann", [arrival(HERE)], ["d"], None)] == [
        "ann"
    ]
    hers = await db.write(deposits.arrived, arrival(THERE), "dep_3", None)
    assert hers is not None
    assert hers.deposit.party == "eve"
    nobodys = await db.write(deposits.arrived, arrival(ELSEWHERE), "dep_4", None)
    assert nobodys is not None
    assert nobodys.deposit.party is None


async def test_f113_nobody_keeps_another_chains_owner_from_linking(db: SqliteDatabase) -> None:
    await register(db, "eve", THERE)
    for name in ("ann", "bob"):
        await books.agent(db, name)
        await db.write(agents.add_token, f"tok_{name}", name, agents.TokenKind.ADMIN, name.encode().ljust(32), "")
    assert await db.write(registrations.link, proof(HERE, "n1"), "ann", "tok_ann") is True
    assert await db.write(registrations.link, proof(HERE, "n2"), "ann", "tok_ann") is False
    assert await db.write(registrations.link, proof(HERE, "n3"), "bob", "tok_bob") is NotLinked.TAKEN
    assert await db.write(registrations.link, proof(THERE, "n4"), "ann", "tok_ann") is NotLinked.TAKEN
    assert await db.write(registrations.link, proof(ELSEWHERE, "n5"), "ann", "tok_ann") is True
    shown = await db.read(registrations.shown, "ann")
    assert {(each.address, each.network) for each in shown} == {(SAFE, HERE), (SAFE, ELSEWHERE)}


async def test_a_key_counts_everywhere_and_so_does_what_the_operator_has_put_here(db: SqliteDatabase) -> None:
    await register(db, "ann", THERE, contract=False)
    assert (await db.read(registrations.shown, "ann"))[0].network == THERE
    for place, network in enumerate((HERE, THERE, ELSEWHERE)):
        view = await db.write(deposits.arrived, arrival(network), f"dep_{place}", None)
        assert view is not None
        assert view.deposit.party == "ann"
        assert await db.write(registrations.sign_in, proof(network, f"m{place}")) == Registered("ann", False)
    assert not await db.write(wallets.add, SAFE, "ann", Role.LINKED, HERE)
    await books.agent(db, "bob")
    other = "0x" + "b" * 40
    assert await db.write(wallets.add, other, "bob", Role.LINKED)
    assert (await db.read(wallets.find, other, ELSEWHERE)).agent_id == "bob"  # type: ignore[union-attr]


async def test_what_a_contract_has_proven_goes_before_the_key_on_its_network(db: SqliteDatabase) -> None:
    """An account with a key and with code (EIP-7702): two agents, each with a grant of its own."""
    await register(db, "eve", HERE)
    assert await register(db, "ann", HERE, contract=False) == Registered("ann", True, 200_000)
    owners = [(await db.read(wallets.find, SAFE, network)).agent_id for network in (HERE, THERE)]  # type: ignore[union-attr]
    assert owners == ["eve", "ann"]


async def test_an_allowance_binds_where_it_was_stated(db: SqliteDatabase, clock: books.Clock) -> None:
    """What a contract on another chain has stated, this one's owner may spend beyond; on its own network it holds, and
    what is given back goes where it was drawn."""

    async def drawn(network: str) -> int | None:
        found = await db.read(allowances.find, SAFE, network)
        return found.drawn_micros if found is not None else None

    async def hold(name: str, micros: int) -> object:
        return await db.write(charges.hold, books.signed(name, micros), books.work(), books.claim(name, micros), None)

    await register(db, "eve", THERE, allowance=1)
    clock.ms += 1
    assert isinstance(await hold("c1", 250), charges.Held)
    await register(db, "ann", HERE, allowance=300)
    clock.ms += 1
    assert isinstance(await hold("c2", 250), charges.Held)
    assert isinstance(await hold("c3", 51), charges.BeyondAllowance)
    assert (await drawn(HERE), await drawn(THERE), await drawn(EVERYWHERE)) == (250, 0, None)
    await db.write(charges.record, "c1", Event.FAILED)
    await db.write(charges.record, "c2", Event.MATCHED, 100, settlement_id="stl_2", amount_atomic=100)
    assert (await drawn(HERE), await drawn(THERE)) == (100, 0)
    # The key's own limit holds beside it, and is drawn on by the same payments.
    await register(db, "kay", HERE, contract=False, allowance=150)
    clock.ms += 1
    assert isinstance(await hold("c4", 151), charges.BeyondAllowance)
    assert isinstance(await hold("c5", 150), charges.Held)
    assert (await drawn(HERE), await drawn(EVERYWHERE)) == (250, 150)
    await db.write(charges.record, "c5", Event.FAILED)
    assert (await drawn(HERE), await drawn(EVERYWHERE)) == (100, 0)


async def test_f130_no_agent_is_recovered_from_another_chain(db: SqliteDatabase) -> None:
    """F-130: by the contract at the same address there."""
    await register(db, "ann", HERE)
    await register(db, "eve", THERE)
    key = LeadKey.of(b"k" * 32)
    for name in ("ann", "eve"):
        await db.write(leads.note, name, key.id, [key.digest(name, "12065550100")])

    async def agent(network: str) -> str | None:
        return (await db.read(wallet_recoveries.standing, SAFE, network, key.id)).agent_id

    assert [await agent(network) for network in (HERE, THERE, ELSEWHERE)] == ["ann", "eve", None]
    view = await db.write(deposits.arrived, arrival(THERE), "dep_1", None)
    assert view is not None
    right = [key.digest("ann", "12065550100")]
    new = agents.NewToken("tok_9", b"9" * 32, "")
    with pytest.raises(AssertionError, match="stays with its agent"):
        await db.write(wallet_recoveries.complete, b"r" * 32, SAFE, "ann", "dep_1", right, new)


async def test_whose_the_account_of_a_wallet_is(db: SqliteDatabase) -> None:
    """What was paid without an agent goes to whoever owns the address where all of it was paid."""
    await register(db, "eve", THERE)
    story = f"""
        sign  p1 {SAFE} 300 topup=call -> held      | {SAFE}.authorized 300, due -300
        match p1 300                   -> captured
        prove p1 300 log=0x5:1         -> proven    | {SAFE}.authorized 0, {SAFE} 300, due 0, treasury -300
    """
    await play(db, story)
    assert await db.read(wallets.owner, SAFE) is None
    await register(db, "ann", HERE)
    assert await db.read(wallets.owner, SAFE) == "ann"
    assert await db.read(ledger.balance, "ann:available") == 300
    assert await db.read(prepaid.holder, SAFE, THERE) == SAFE, "of both, it would be nobody's"


async def test_a_prepaid_call_is_of_the_agent_on_the_network_it_is_paid_on(db: SqliteDatabase) -> None:
    """Before anything was ever paid from there: whom it would be refused for."""
    await register(db, "ann", HERE)
    await register(db, "eve", THERE)
    await db.write(agents.set_status, "eve", Status.FROZEN)
    assert await db.read(prepaid.refuse, SAFE, HERE, None, (), 300) is None
    with pytest.raises(Problem, match="frozen"):
        await db.read(prepaid.refuse, SAFE, THERE, None, (), 300)


async def test_wallets_of_the_version_before_go_on(tmp_path: Path) -> None:
    """A contract's wallet counts on its network from now on; what it has stated is drawn by what was paid there."""
    before = [migration for migration in read_migrations() if migration.number < 20]
    path = tmp_path / "old.db"
    key, elses = "0x" + "b" * 40, "0x" + "e" * 40
    async with books.books(tmp_path / "new.db") as db:
        await play(
            db,
            f"""
            credit ann 1             -> ok        | ann 1, operator -1
            sign  c1 {SAFE} 300      -> held      | {SAFE}.authorized 300, due -300
            sign  c2 {elses} 40      -> held      | {elses}.authorized 40, due -340
            sign  c3 {key} 7         -> held      | {key}.authorized 7, due -347
            """,
        )
        rows = await db.read(books.contents)
    async with books.books(path, migrations=before, clean=False) as db:
        await db.write(books.fill, rows)

        def fill(tx: Tx) -> None:
            for wallet, network, contract, drawn in (
                (SAFE, HERE, 1, 300), (elses, THERE, 1, 40), (key, THERE, 0, 7), ("0x" + "f" * 40, None, 0, 0)
            ):  # fmt: skip
                tx.execute("INSERT INTO wallets VALUES (:w, 'ann', 'linked', 1)", {"w": wallet})
                if network is None:
                    continue
                tx.execute(
                    "INSERT INTO registrations VALUES (:w, :network, :contract, 0, NULL, 'linked', 1)",
                    {"w": wallet, "network": network, "contract": contract},
                )
                tx.execute(
                    "INSERT INTO allowances VALUES (:w, 1000, :drawn, x'00', 'n', 1)", {"w": wallet, "drawn": drawn}
                )

        await db.write(fill)
    async with books.books(path, clean=False) as db:
        found = {(wallet.address[2], wallet.network) for wallet in await db.read(wallets.of_agent, "ann")}
        assert found == {("a", HERE), ("e", THERE), ("b", EVERYWHERE), ("f", EVERYWHERE)}
        shown = await db.read(registrations.shown, "ann")
        assert {each.address[2]: each.network for each in shown} == {"a": HERE, "e": THERE, "b": THERE, "f": None}
        drawn = {each.address[2]: each.allowance.drawn_micros for each in shown if each.allowance is not None}
        assert drawn == {"a": 300, "e": 0, "b": 7}
        await db.write(charges.record, "c1", Event.FAILED)
        await db.write(charges.record, "c2", Event.FAILED)
        await db.write(charges.record, "c3", Event.MISSED)
        assert await db.read(audit) == []
