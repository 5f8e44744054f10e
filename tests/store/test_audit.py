"""The audit finds what was planted: each rule is seen to fail on a file that was broken by hand."""

import asyncio
from pathlib import Path

import apsw
import pytest
from rigs import books
from rigs.money_table import play

from gateway.core.agent import TokenKind
from gateway.core.deposit import Arrival
from gateway.core.grant import Policy
from gateway.store import agents, deposits, leads, ledger, registrations, wallet_recoveries, wallets
from gateway.store.audit import Finding, audit

STORY = f"""
credit ann 1000            -> ok        | ann 1000, operator -1000
grant  ann 100             -> ok        | ann.bonus 100, grants -100
hold   h1 ann 300 key=k    -> held      | ann 700, ann.held 300
hold   c1 ann 300          -> held      | ann 400, ann.held 600
match  c1 300 cost=40      -> captured  | ann.held 300, revenue 300
refund c1 100 id=r1        -> captured  | ann 500, revenue 200
hold   f1 ann 300 key=f    -> held      | ann 200, ann.held 600
fail   f1                  -> released  | ann 500, ann.held 300
sign   h2 bob 300          -> held      | bob.authorized 300, due -300
sign   f2 bob 300          -> held      | bob.authorized 600, due -600
fail   f2                  -> released  | bob.authorized 300, due -300
sign   s1 bob 300          -> held      | bob.authorized 600, due -600
match  s1 300              -> captured  | bob.authorized 300, revenue 500
send   s1 5                -> sent
prove  s1 300 log=0x5-0:1  -> proven    | due -300, treasury -300
close  5 by=0x5-0          -> ok
sign   s2 bob 300          -> held      | bob.authorized 600, due -600
match  s2 300              -> captured  | bob.authorized 300, revenue 800
send   s2 6                -> sent
sign   s3 bob 300          -> held      | bob.authorized 600, due -900
match  s3 300              -> captured  | bob.authorized 300, revenue 1100
sign   s4 bob 300          -> held      | bob.authorized 600, due -1200
match  s4 300              -> captured  | bob.authorized 300, revenue 1400
prove  s4 290 log=0xt:1    -> proven    | due -900, treasury -590, loss -10
sign   p1 {books.WALLET} 300 topup=call -> held | {books.WALLET}.authorized 300, due -1200
match  p1 300              -> captured
prove  p1 300 log=0xp:1    -> proven    | {books.WALLET}.authorized 0, {books.WALLET} 300, due -900, treasury -890
spend  d1 p1 300           -> held      | {books.WALLET} 0, {books.WALLET}.held 300
fail   d1                  -> released  | {books.WALLET} 300, {books.WALLET}.held 0
spend  d2 p1 300           -> held      | {books.WALLET} 0, {books.WALLET}.held 300
miss   d2                  -> released  | {books.WALLET} 300, {books.WALLET}.held 0
"""
MINTED = "0x" + "b2" * 20
REGISTERED = registrations.Proof(books.WALLET, "eip155:8453", False, "n1", 9, 1000, b"x")
NEWCOMER = registrations.Newcomer("agt_1", "new", "tok_1", bytes(32), "")
GIVEN = registrations.Funds(5, {}), Policy(7, 7, 0, once_per_dollar=True)

JOB = """
INSERT INTO jobs (id, operation, party, payload, request_id, deadline_ms, attempt, cancelling, phase, rounds,
  created_ms, charge_id, state, ended_ms, expires_ms, callback_url, error_code, retry_of)
VALUES ('j1', 'x', 'ann', x'', 'r', 9, 1, 0, '', 0, 1, '{charge}', {ended})"""
SESSION = """
UPDATE charges SET agent_id = 'ann' WHERE id = '{charge}';
INSERT INTO sessions (id, agent_id, operation, subject, created_ms, expires_ms)
SELECT 'cs_1', '{agent}', {operation}, zeroblob(32), 1, 9 FROM charges WHERE id = '{charge}';
INSERT INTO session_turns (charge_id, session_id, cost_micros, state) VALUES ('{charge}', 'cs_1', 0, x'00')"""
BREAKAGES = [
    ("cache", "ann:available", "UPDATE accounts SET balance_micros = 501 WHERE name = 'ann:available'"),
    ("cache", "all accounts", "UPDATE accounts SET balance_micros = 501 WHERE name = 'ann:available'"),
    ("account", "ann:available", "UPDATE accounts SET balance_micros = 501 WHERE name = 'ann:available'"),
    ("cache", "eve:available", "INSERT INTO accounts VALUES ('eve:available', 0)"),
    ("cache", "loss", "DELETE FROM accounts WHERE name = 'loss'"),
    ("replay", "5", "DELETE FROM transfers WHERE seq = 4"),
    ("replay", "4", "UPDATE transfers SET amount_micros = 301 WHERE seq = 4"),
    ("replay", "4", "UPDATE transfers SET debit_after_micros = 0 WHERE seq = 4"),
    ("replay", "4", "UPDATE transfers SET at_ms = 1 WHERE seq = 4"),
    ("overdraft", "ann:available", "UPDATE transfers SET amount_micros = 1001 WHERE seq = 3"),
    ("charge", "c1", "UPDATE charges SET captured_micros = 299 WHERE id = 'c1'"),
    ("charge", "c1", "UPDATE charges SET state = 'released', captured_micros = 0 WHERE id = 'c1'"),
    ("charge", "c1", "UPDATE refunds SET amount_micros = 99"),
    ("charge", "c1", "DELETE FROM refunds"),
    ("charge", "h1", "UPDATE charges SET held_micros = 299 WHERE id = 'h1'"),
    ("charge", "h1", "UPDATE charges SET held_bonus_micros = 1 WHERE id = 'h1'"),
    ("charge", "f1", "UPDATE transfers SET charge_id = 'c1' WHERE charge_id = 'f1'"),
    ("account", "ann:bonus", "UPDATE credits SET amount_micros = 99 WHERE kind = 'grant'"),
    ("account", "operator", "DELETE FROM credits WHERE kind = 'credit'"),
    ("result", "h1", "INSERT INTO results VALUES ('h1', x'00', 9)"),
    ("result", "f1", "INSERT INTO results VALUES ('f1', x'00', 9)"),
    ("payment", None, "UPDATE charges SET identity = (SELECT identity FROM charges WHERE id = 's2') WHERE id = 's3'"),
    ("payment", "s3", "UPDATE charges SET identity = 'nowhere' WHERE id = 's3'"),
    ("payment", "s3", "UPDATE charges SET payer = 'eve' WHERE id = 's3'"),
    ("payment", "s3", "UPDATE payments SET token = '0x99' WHERE charge_id = 's3'"),
    ("payment", "s3", "UPDATE payments SET network = 'eip155:1' WHERE charge_id = 's3'"),
    ("payment", "f2", "UPDATE payments SET token = '0x99' WHERE charge_id = 'f2'"),
    ("payment", None, "UPDATE payments SET state = 'open' WHERE charge_id = 's3'"),
    ("payment", None, "UPDATE payments SET state = 'spent' WHERE charge_id = 'f2'"),
    ("payment", None, "UPDATE payments SET state = 'open' WHERE charge_id = 'h2'"),
    ("payment", "stl_s3", "UPDATE settlements SET identity = (SELECT identity FROM charges WHERE id = 'f2')"
     " WHERE id = 'stl_s3'"),
    ("collection", "s3", "DELETE FROM settlements WHERE id = 'stl_s3'"),
    ("collection", "s3", "UPDATE charges SET state = 'settled' WHERE id = 's3'"),
    ("collection", "s1", "UPDATE charges SET state = 'captured' WHERE id = 's1'"),
    ("collection", "s4", "UPDATE charges SET state = 'settled' WHERE id = 's4'"),
    ("collection", "s3", "UPDATE settlements SET amount_micros = 299 WHERE id = 'stl_s3'"),
    ("collection", "c1", "UPDATE settlements SET subject = 'c1' WHERE id = 'stl_s3'"),
    ("charge", "s4", "UPDATE settlements SET proven_micros = 300 WHERE id = 'stl_s4'"),
    ("proof", "0xt", "UPDATE settlements SET proven_micros = 300 WHERE id = 'stl_s4'"),
    ("proof", "0x5-0", "UPDATE proofs SET amount_atomic = '99' WHERE settlement_id = 'stl_s1'"),
    ("proof", "stl_s1", "DELETE FROM proofs WHERE settlement_id = 'stl_s1'"),
    ("proof", "stl_s1", "UPDATE proofs SET taken_back_ms = 1 WHERE settlement_id = 'stl_s1'"),
    ("proof", "stl_s3", "UPDATE proofs SET settlement_id = 'stl_s3' WHERE settlement_id = 'stl_s1'"),
    ("attempt", "stl_s2", "DELETE FROM attempt_settlements WHERE settlement_id = 'stl_s2'"),
    ("attempt", "stl_s2", "UPDATE settlements SET abandoned = 1 WHERE id = 'stl_s2'"),
    ("attempt", "stl_s2", "INSERT INTO attempt_settlements SELECT network, key, 7, 0, 0, settlement_id"
     " FROM attempt_settlements WHERE settlement_id = 'stl_s2'"),
    ("attempt", "0xw", "UPDATE closed_nonces SET mined_hash = '0xw'"),
    ("key", "k", "UPDATE idempotency_keys SET charge_id = 'f1'"),
    *(("job", "j1", JOB.format(charge=charge, ended=ended)) for charge, ended in (
        ("h1", "'completed', 9, 9, NULL, NULL, NULL"), ("h1", "'failed', 9, 9, NULL, 'X', NULL"),
        ("c1", "'queued', NULL, NULL, NULL, NULL, NULL"), ("c1", "'failed', 9, 9, NULL, 'X', NULL"),
        ("f1", "'completed', 9, 9, NULL, NULL, NULL"), ("f1", "'queued', NULL, NULL, NULL, NULL, NULL"),
        ("f1", "'failed', 9, 9, 'https://hook.example.com/', 'X', NULL"),
        ("f1", "'cancelled', 9, 9, 'https://hook.example.com/', 'X', NULL"),
    )),
    ("job", "h1", "UPDATE charges SET owner = 'jobs' WHERE id = 'h1'"),
    ("cost", "c1", "UPDATE charges SET cost_micros = 41 WHERE id = 'c1'"),
    ("cost", "c1", "DELETE FROM vendor_calls"),
    ("cost", "h1", "INSERT INTO vendor_calls VALUES (NULL, 'h1', 'call', 'v', 'match', NULL, 1, 0, 0, 0)"),
    ("grant", books.WALLET, "UPDATE registrations SET granted_micros = 8"),
    ("grant", books.WALLET, "UPDATE registrations SET credit_id = NULL, granted_micros = 0, withheld = 'linked'"),
    ("grant", f"mint:*/{books.WALLET}", "DELETE FROM registrations"),
    ("grant", books.WALLET, f"UPDATE wallets SET agent_id = 'eve' WHERE address = '{books.WALLET}'"),
    ("grant", books.WALLET, "UPDATE credits SET kind = 'credit' WHERE agent_id = 'agt_1'"),
    ("prepaid", "d2", "UPDATE charges SET request_hash = zeroblob(32) WHERE id = 'd2'"),
    ("prepaid", "d2", "UPDATE charges SET operation = 'enrich/person' WHERE id = 'd2'"),
    ("prepaid", "d2", "UPDATE charges SET agent_id = 'ann' WHERE id = 'd2'"),
    ("prepaid", "d2", "UPDATE charges SET party = 'ann' WHERE id = 'd2'"),
    ("prepaid", "d2", "UPDATE charges SET topup_id = 's1' WHERE id = 'd2'"),
    ("prepaid", "d2", "UPDATE charges SET held_micros = 301 WHERE id = 'd2'"),
    ("prepaid", "d2", "UPDATE charges SET state = 'captured' WHERE id = 'p1'"),
    ("prepaid", "p1", "DROP INDEX call_of_topup; UPDATE charges SET topup_id = 'p1' WHERE id = 'c1'"),
    ("wallet", books.WALLET, f"UPDATE accounts SET balance_micros = 1 WHERE name = '{books.WALLET}:available'"),
    ("wallet", books.WALLET, f"UPDATE accounts SET balance_micros = 1 WHERE name = '{books.WALLET}:available';"
     " UPDATE wallets SET network = 'eip155:31337'"),
    ("wallet", None, "UPDATE transfers SET credit = 'ann:available' WHERE kind = 'joined'"),
    ("wallet", None, "UPDATE transfers SET debit = 'bob:available' WHERE kind = 'joined'"),
    ("wallet", None, "UPDATE transfers SET debit_after_micros = 1 WHERE kind = 'joined'"),
    ("account", "agt_1:available", "UPDATE transfers SET kind = 'credit' WHERE kind = 'joined'"),
    ("allowance", books.WALLET, "UPDATE allowances SET drawn_micros = 301"),
    ("allowance", books.WALLET, "UPDATE wallets SET network = 'eip155:1'"),
    ("deposit", "ann", "UPDATE deposit_sums SET bonus_micros = 1 WHERE party = 'ann'"),
    ("deposit", "ann", "DELETE FROM deposit_sums WHERE party = 'ann'"),
    ("deposit", "*", "UPDATE deposit_sums SET standing = standing - 1 WHERE party = '*'"),
    ("deposit", "dep_9", "INSERT INTO deposits (id, source, state, network, token, sender, amount_atomic,"
     " amount_micros, bonus_micros, transaction_hash, log_index, block, block_hash, final, seen_ms)"
     " SELECT 'dep_9', source, 'seen', network, token, sender, amount_atomic, amount_micros, 0, '0xd9', 0, block,"
     " block_hash, 0, seen_ms FROM deposits"
     " WHERE id = 'dep_0001'"),
    ("recovery", "dep_0001", f"UPDATE wallet_recoveries SET address = '{books.WALLET}'"),
    ("recovery", "dep_0001", f"UPDATE deposits SET sender = '{books.WALLET}'"),
    ("recovery", "dep_0001", "UPDATE deposits SET party = 'agt_1'"),
    ("recovery", "dep_0001", "UPDATE deposits SET amount_micros = 999999"),
    ("recovery", "dep_0001", f"UPDATE wallets SET role = 'linked' WHERE address = '{MINTED}'"),
    ("recovery", "tok_9", "UPDATE tokens SET agent_id = 'agt_1' WHERE id = 'tok_9'"),
    ("recovery", "tok_9", "UPDATE tokens SET created_ms = 1 WHERE id = 'tok_9'"),
    ("recovery", "tok_8", "UPDATE tokens SET revoked_ms = NULL WHERE id = 'tok_8'"),
    *(("session", charge, SESSION.format(charge=charge, agent=agent, operation=of)) for charge, agent, of in (
        ("c1", "agt_1", "operation"), ("c1", "ann", "'x'"), ("h1", "ann", "operation"), ("f1", "ann", "operation"),
    )),
    ("integrity", "leads", "UPDATE leads SET agent_id = 'eve'"),
    ("integrity", "results", "INSERT INTO results VALUES ('c9', x'00', 9)"),
]  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with something of everything, audited clean."""
    path = tmp_path_factory.mktemp("told") / "l.db"

    async def tell() -> None:
        clock = books.Clock()
        async with books.books(path, clock) as db:
            await play(db, STORY)
            await db.write(wallets.add, MINTED, "ann", wallets.Role.MINT)
            arrival = Arrival(books.NETWORK, books.TOKEN, MINTED, "0xd1", 0, 8, "0xb", 1_000_001, 1_000_001)
            await db.write(deposits.arrived, arrival, "dep_0001", None)
            await db.write(agents.add_token, "tok_8", "ann", TokenKind.ADMIN, b"8" * 32, "")
            clock.ms += 1
            await db.write(leads.note, "ann", 1, [bytes(16)])
            new = agents.NewToken("tok_9", b"9" * 32, "")
            answer = await db.write(
                wallet_recoveries.complete, b"r" * 32, MINTED, "ann", "dep_0001", [bytes(16)], new
            )  # fmt: skip
            assert isinstance(answer, wallet_recoveries.Recovered)
            await db.write(registrations.register, REGISTERED, NEWCOMER, *GIVEN)

    asyncio.run(tell())
    return path


@pytest.mark.parametrize(("rule", "subject", "breakage"), BREAKAGES)
def test_it_is_found(told: Path, rule: str, subject: str | None, breakage: str) -> None:
    connection, source = apsw.Connection(":memory:"), apsw.Connection(str(told))
    with connection.backup("main", source, "main") as backup:
        backup.step(-1)
    source.close()
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.pragma("ignore_check_constraints", 1)
    connection.execute(breakage)
    assert connection.changes() > 0
    found = {(finding.rule, finding.subject) for finding in audit(_Raw(connection))}
    connection.close()
    assert (rule, subject) in found or (subject is None and rule in {rule for rule, _ in found})


class _Raw:
    """A Tx on a plain connection."""

    now_ms = 0

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: dict[str, object] = {}) -> list[tuple[object, ...]]:  # noqa: B006
        return self._connection.execute(sql, params).fetchall()


def test_a_damaged_file_is_told(told: Path, tmp_path: Path) -> None:
    content = bytearray(told.read_bytes())
    connection = apsw.Connection(str(told))
    ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'charges_of_party'").fetchall()
    connection.close()
    content[(root - 1) * 4096 + 2000 : root * 4096] = bytes(2096)
    (tmp_path / "l.db").write_bytes(content)
    connection = apsw.Connection(str(tmp_path / "l.db"))
    findings = audit(_Raw(connection))
    connection.close()
    assert any(finding.rule == "integrity" for finding in findings)


async def test_balances_can_be_rebuilt_at_any_moment(told: Path) -> None:
    """F-096: from the transfers alone, at every sequence number."""
    async with books.books(told) as db:
        entries = await db.read(ledger.rows)
        balances: dict[str, int] = {}
        for entry in entries:
            transfer = entry.transfer
            balances[transfer.debit] = balances.get(transfer.debit, 0) - transfer.amount_micros
            balances[transfer.credit] = balances.get(transfer.credit, 0) + transfer.amount_micros
            for name, micros in balances.items():
                assert await db.read(ledger.balance_at, name, entry.seq) == micros
        for name, micros in balances.items():
            assert await db.read(ledger.balance, name) == micros
        assert await db.read(ledger.balance_at, "ann:available", 0) == 0


async def test_it_changes_nothing(told: Path) -> None:
    """F-183: reading twice, the same file."""
    async with books.books(told) as db:
        assert await db.read(audit) == await db.read(audit) == []
        assert Finding("a", "b", "c").rule == "a"
