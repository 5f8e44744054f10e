"""No question of a paid call walks through a whole table, however long the gateway has been running."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rigs import books
from rigs.money_table import RELAYER, play

from gateway.core.agent import Cap, KeyTerms, Period
from gateway.core.charge import Event
from gateway.core.deposit import Arrival, Match
from gateway.core.grant import Policy
from gateway.core.settlement import Attempt, ProofKind, Settled
from gateway.store import (
    agents,
    allowances,
    charges,
    deposits,
    dossier,
    jobs,
    leads,
    ledger,
    outbox,
    prepaid,
    registrations,
    settlements,
    statements,
    tickets,
    usage_keys,
    vendor_calls,
    wallet_recoveries,
    wallets,
)
from gateway.store.agents import NewToken
from gateway.store.database import Row, Tx
from gateway.store.sqlite import SqliteDatabase

UNDER_WAY = {"charges_held", "settlements_watched", "linked_senders"}


class Explaining:
    """A Tx that asks SQLite how it would go about each statement before it runs it."""

    def __init__(self, tx: Tx) -> None:
        self._tx, self.now_ms = tx, tx.now_ms
        self.scans: list[str] = []

    def execute(self, sql: str, params: dict[str, object] = {}) -> list[Row]:  # noqa: B006
        for *_, step in self._tx.execute("EXPLAIN QUERY PLAN " + sql, params):
            # An index that holds just what is under way may be walked through, and so may what the statement itself
            # has made. A table that it does not name is looked at only when a reference is broken already.
            if step.startswith("SCAN") and not UNDER_WAY & set(step.split()) and _names(sql, step.split()[1]):
                self.scans.append(f"{step}: {' '.join(sql.split())}")
        return self._tx.execute(sql, params)


def _names(sql: str, table: str) -> bool:
    """Whether the statement takes rows from this table, or from one it calls so."""
    return re.search(rf"(FROM|JOIN|UPDATE|INTO|,)\s+(\w+ )?{re.escape(table)}\b(?!\.)", sql) is not None


PROOF = registrations.Proof(books.WALLET, "eip155:1", False, "n", 9, 5, b"x")
NEWCOMER = registrations.Newcomer("agt_1", "new", "tok_3", bytes(32), "")
FUNDS = registrations.Funds(5, {books.PAY_TO: 5})
RULE = Match(50, 1, 1000, 1000, first_deposit_only=False)
SENDER, MINTED = "0x" + "a1" * 20, "0x" + "b2" * 20


def arrival(transaction: str) -> Arrival:
    return Arrival(books.NETWORK, books.TOKEN, SENDER, transaction, 0, 8, "0xb", 40, 40)


NEWLY, LATER = "0x" + "c3" * 20, "0x" + "d4" * 20
CALLS: dict[str, Callable[[Tx], object]] = {
    "hold": lambda tx: charges.hold(
        tx, books.charge("x1", "ann", 5), books.work("ann"), None, charges.KeyUse("a", "b", b"")
    ),
    "sign": lambda tx: charges.hold(tx, books.signed("x2", 5), books.work("ann"), books.claim("x", 5), None),
    "permit": lambda tx: charges.hold(
        tx, books.signed("x3", 5), books.work("ann"), books.claim("x", 5, by_permit=True), None
    ),
    "record": lambda tx: charges.record(
        tx, "h1", Event.MATCHED, 5, result=b"{}", settlement_id="stl_h1", amount_atomic=5
    ),
    "fail": lambda tx: charges.record(tx, "h2", Event.FAILED),
    "find": lambda tx: charges.find(tx, "c1"),
    "identity": lambda tx: charges.find_by_identity(tx, books.claim("c1", 5).identity),
    "withheld": lambda tx: charges.find_withheld(tx, "bob", "enrich/phone", b"x"),
    "owed": lambda tx: charges.find_owed(tx, "bob"),
    "token": lambda tx: charges.token_matches(tx, "c1", b"x"),
    "held": charges.held,
    "listing": lambda tx: charges.listing(tx, 5, "c2"),
    "listing of one": lambda tx: charges.listing(tx, 5, None, None, "ann"),
    "expire": charges.expire_results,
    "refund": lambda tx: charges.refund(tx, "c3", 1, "r1", ""),
    "queued": settlements.queued,
    "unfinished": settlements.unfinished,
    "watched": settlements.watched,
    "proven": lambda tx: settlements.proven(tx, "stl_c1", Settled(ProofKind.CHAIN, "0xt", 1, 1, 300), 300),
    "sending": lambda tx: settlements.sending(tx, Attempt("n", "k", 1, 0, "h", b"", 1, ("stl_c2",), 1)),
    "pending": lambda tx: settlements.pending(tx, books.NETWORK, RELAYER),
    "attempts": lambda tx: settlements.attempts_of(tx, "stl_c1"),
    "retry": lambda tx: settlements.abandon(tx, "stl_c2"),
    "nonce": lambda tx: settlements.nonce_after(tx, books.NETWORK, RELAYER),
    "webhook": lambda tx: outbox.add(
        tx, event_id="evt_2", event_type="t", owner="ann", subject="j", url="https://h.example.com/", body=b""
    ),
    "webhooks waiting": outbox.waiting,
    "webhooks due": lambda tx: outbox.due(tx, "me", 1, 9, at_once=2, a_second=10),
    "webhook delivered": lambda tx: outbox.delivered(tx, "evt_1", 200),
    "webhook given up": lambda tx: outbox.gave_up(tx, "evt_1", "me", status=410, error="gone", url_gone=True),
    "webhooks put back": lambda tx: outbox.put_back(tx, "me"),
    "webhook leases": outbox.lease_owners,
    "webhooks given up": lambda tx: outbox.given_up_since(tx, 0),
    "webhook of a job": lambda tx: outbox.of_subject(tx, "j"),
    "webhooks forgotten": outbox.forget,
    "webhook secret": lambda tx: outbox.rotate_secret(tx, "ann", "whsec_" + "A" * 43 + "=", 5),
    "webhook secrets": lambda tx: outbox.secrets_of(tx, "ann"),
    "used nonce": lambda tx: registrations.standing(tx, "n"),
    "register": lambda tx: registrations.register(tx, PROOF, NEWCOMER, FUNDS, Policy(5, 50, 5, once_per_dollar=True)),
    "link": lambda tx: registrations.link(tx, PROOF, "ann", None),
    "wallets": lambda tx: registrations.shown(tx, "ann"),
    "allowance": lambda tx: (
        allowances.find(tx, books.WALLET, ""),
        allowances.exceeded(tx, books.WALLET, books.NETWORK, 5),
    ),
    "draw": lambda tx: allowances.draw(tx, books.WALLET, books.NETWORK, 5),
    "authenticate": lambda tx: agents.authenticate(tx, b"x"),
    "hold by a key": lambda tx: charges.hold(
        tx, books.charge("x4", "ann", 5), books.work("ann", bearer_id="tok_1", key_id="key_1"), None, None
    ),
    "record by a key": lambda tx: charges.record(tx, "h3", Event.MATCHED, 5, result=b"{}"),
    "refund by a key": lambda tx: (
        charges.record(tx, "h3", Event.MATCHED, 5),
        charges.refund(tx, "h3", 1, "r3", ""),
    ),
    "key": lambda tx: usage_keys.find(tx, "ann", "key_1"),
    "keys": lambda tx: usage_keys.of_agent(tx, "ann"),
    "keys revoked": lambda tx: usage_keys.revoked(tx, "ann"),
    "keys forgotten": usage_keys.forget,
    "dossier": lambda tx: dossier._tokens(tx, "ann"),
    "key's jobs": lambda tx: jobs.queued_by_key(tx, "ann", "key_1"),
    "rotate": lambda tx: usage_keys.rotate(tx, "ann", "key_1", NewToken("tok_2", bytes(32), ""), 5),
    "revoke": lambda tx: usage_keys.revoke(tx, "ann", "key_1"),
    "last used": lambda tx: agents.note_used(tx, {"tok_1": 1}),
    "balance": lambda tx: agents.balance(tx, "ann"),
    "deposit": lambda tx: deposits.arrived(tx, arrival("0xd2"), "dep_2", RULE),
    "deposit seen again": lambda tx: deposits.arrived(tx, arrival("0xd1"), "dep_3", RULE),
    "deposit claimed": lambda tx: deposits.claimed(tx, "ann", [arrival("0xd3")], ["dep_4"], RULE),
    "deposits of a transaction": lambda tx: deposits.of_transaction(tx, "ann", books.NETWORK, "0xd1"),
    "deposits that are new": lambda tx: deposits.news(tx, [arrival("0xd1"), arrival("0xd4")]),
    "deposits linked since": lambda tx: (deposits.any_linked_since(tx), deposits.linked_since(tx, RULE, 5)),
    "deposit taken back": lambda tx: deposits.taken_back(tx, "dep_1"),
    "deposits watched": lambda tx: deposits.watched(tx, books.NETWORK),
    "deposit of a settlement": lambda tx: deposits.of_settlement(tx, "stl_c1"),
    "deposits matched": lambda tx: (deposits.matched_micros(tx), deposits.matched_micros(tx, "ann")),
    "deposits that stand": lambda tx: deposits.standing(tx, "ann"),
    "wallet added": lambda tx: (
        wallets.add(tx, NEWLY, "ann", wallets.Role.LINKED),
        deposits.any_linked_since(tx),
        deposits.linked_since(tx, RULE, 1),
    ),
    "deposits listed": lambda tx: deposits.listing(tx, 5, agent_id="ann"),
    "topped up": lambda tx: settlements.proven(tx, "stl_t1", Settled(ProofKind.CHAIN, "0xu", 1, 1, 30), 30, match=RULE),
    "lead": lambda tx: leads.note(tx, "ann", 1, [bytes(16)]),
    "leads answered": lambda tx: (leads.any_of(tx, "ann", 1), leads.has(tx, "ann", [bytes(16)])),
    "leads forgotten": leads.forget,
    "leads thinned": lambda tx: leads.thin(tx, "ann"),
    "recovery": lambda tx: wallet_recoveries.standing(tx, MINTED, books.NETWORK, 1),
    "recovered": lambda tx: (
        leads.note(tx, "ann", 1, [bytes(16)]),
        wallet_recoveries.complete(
            tx, b"r" * 32, MINTED, "ann", "dep_5", [bytes(16)], NewToken("tok_5", b"5" * 32, "")
        ),
    ),
    "answered wrong": lambda tx: wallet_recoveries.complete(
        tx, b"r" * 32, MINTED, "ann", "dep_5", [bytes(16)], NewToken("tok_5", b"5" * 32, "")
    ),
    "a prepaid call": lambda tx: prepaid.hold(
        tx, replace(books.charge("p2", "ann", 5), topup_id="p1"), books.work("ann")
    ),
    "a prepaid call's money": lambda tx: (
        prepaid.find(tx, "p1"),
        prepaid.look(tx, "p1"),
        prepaid.refuse(tx, SENDER, books.NETWORK, None, (), 5),
    ),
    "a wallet's money": lambda tx: ledger.pass_on(tx, SENDER),
    "entries of a charge": lambda tx: ledger.rows(tx, charge_id="c1"),
    "spent": lambda tx: statements.spent(tx, "ann", 1),
    "statement": lambda tx: statements.page(tx, "ann", 50, before=9, from_ms=1, to_ms=1 << 50),
    "tickets of an agent": lambda tx: tickets.listing(tx, 50, before_id="tkt_9", agent_id="ann"),
    "ticket": lambda tx: tickets.find(tx, "tkt_1"),
    "bought": lambda tx: vendor_calls.of_charge(tx, "c1"),
    "margins": lambda tx: vendor_calls.margins(tx, ("provider",), 0, 1 << 50),
    "open tickets": lambda tx: tickets.open_of(tx, "ann"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_nothing_walks_through_a_table(db: SqliteDatabase, call: str) -> None:
    await tell(db)

    def explained(tx: Tx) -> list[str]:
        explaining = Explaining(tx)
        CALLS[call](explaining)
        return explaining.scans

    assert await db.write(explained) == []


OF_DEPOSITS = [call for call in CALLS if call.startswith(("deposit", "topped", "wallet added"))]
PAGES = {"deposits watched"}
"""Answers with all that is under way."""


@pytest.mark.parametrize("call", [call for call in OF_DEPOSITS if call not in PAGES])
async def test_no_question_about_deposits_grows_with_them(tmp_path: Path, call: str) -> None:
    """A plan tells a walk through one agent's rows from none as little as one through a part of an index: SQLite's own
    steps are counted, with few deposits of every kind and with many."""
    few, many = [await steps(tmp_path / f"{count}.db", call, count) for count in (2, 150)]
    assert many <= few + few // 4, f"{few} steps with few deposits, {many} with many"


async def steps(path: Path, call: str, count: int) -> int:
    """Of SQLite's machine, for this call, when there are so many deposits of each kind already."""

    def before(tx: Tx) -> None:
        wallets.add(tx, LATER, "ann", wallets.Role.LINKED)
        for number in range(count):
            bonus = Match(50, 1, 10**9, 10**9, first_deposit_only=False)
            for kind, sender in enumerate((SENDER, NEWLY, f"0x{number:040x}", LATER)):
                came = Arrival(books.NETWORK, books.TOKEN, sender, f"0x{kind}{number}", 0, 8, "0xb", 2, 2)
                deposits.arrived(tx, came, f"dep_p{kind}{number}", bonus if kind else None)
                if kind == 3:
                    deposits.taken_back(tx, f"dep_p{kind}{number}")

    async with books.books(path, clean=False) as db:
        await tell(db)
        await db.write(before)

        def counted(tx: Tx) -> int:
            ticks = 0

            def tick() -> bool:
                nonlocal ticks
                ticks += 1
                return False

            connection = tx._execute.__self__.connection  # type: ignore[attr-defined]
            connection.set_progress_handler(tick, 1)
            try:
                CALLS[call](tx)
            finally:
                connection.set_progress_handler(None)
            return ticks

        return await db.write(counted)


async def tell(db: SqliteDatabase) -> None:
    """Something of everything that is asked about above."""
    await play(
        db,
        """
        credit ann 1000    -> ok        | ann 1000, operator -1000
        sign   c1 bob 300  -> held      | bob.authorized 300, due -300
        match  c1 300      -> captured  | bob.authorized 0, revenue 300
        sign   c2 bob 300  -> held      | bob.authorized 300, due -600
        match  c2 300      -> captured  | bob.authorized 0, revenue 600
        hold   c3 ann 300  -> held      | ann 700, ann.held 300
        match  c3 300      -> captured  | ann.held 0, revenue 900
        sign   h1 bob 5    -> held      | bob.authorized 5, due -605
        hold   h2 ann 5    -> held      | ann 695, ann.held 5
        sign   t1 bob 30 agent=ann topup=1 -> held      | ann.authorized 30, due -635
        match  t1 30       -> captured
        sign   p1 bob 20 agent=ann topup=call -> held | ann.authorized 50, due -655
        match  p1 20       -> captured
        prove  p1 20 log=0xp:1 -> proven | ann 715, ann.authorized 30, due -635, treasury -20
        """,
    )
    await db.write(wallets.add, SENDER, "ann", wallets.Role.LINKED)
    await db.write(deposits.arrived, arrival("0xd1"), "dep_1", None)
    await db.write(wallets.add, MINTED, "ann", wallets.Role.MINT)
    minted = Arrival(books.NETWORK, books.TOKEN, MINTED, "0xd5", 0, 8, "0xb", 1_000_001, 1_000_001)
    await db.write(deposits.arrived, minted, "dep_5", None)

    await db.write(
        usage_keys.create, "key_1", "ann", KeyTerms("", ("jobs",), Cap(50, Period.WEEK)),
        NewToken("tok_1", b"1" * 32, ""),
    )  # fmt: skip
    by_key = books.work("ann", bearer_id="tok_1", key_id="key_1")
    assert isinstance(await db.write(charges.hold, books.charge("h3", "ann", 5), by_key, None, None), charges.Held)
