"""The schema's own refusals, by direct SQL: whatever the code above does, or an operator with a shell."""

import itertools
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import apsw
import pytest
from rigs import books
from rigs.money_table import play

from gateway.core import charge as core_charge
from gateway.core import settlement as core_settlement
from gateway.store.database import Tx
from gateway.store.sqlite import SqliteDatabase

HISTORY = {
    "transfers": "amount_micros = amount_micros",
    "proofs": "block = block",
    "refunds": "amount_micros = amount_micros",
    "credits": "amount_micros = amount_micros",
    "actions": "detail = detail",
    "attempts": "hash = hash",
    "attempt_settlements": "position = position",
    "closed_nonces": "mined_hash = mined_hash",
    "movements": "balance_micros = balance_micros",
    "registrations": "granted_micros = granted_micros",
    "vendor_calls": "cost_micros = cost_micros",
}
KEPT = {
    "accounts": "name = name",
    "agents": None,
    "tokens": "hash = hash",
    "charges": "held_micros = held_micros",
    "payments": None,
    "settlements": "amount_micros = amount_micros",
    "wallets": "role = role",
    "allowances": None,
    "usage_keys": "agent_id = agent_id",
}


@pytest.fixture
async def filled(db: SqliteDatabase) -> SqliteDatabase:
    """At least one row in every table."""
    await play(
        db,
        """
        credit ann 1000            -> ok        | ann 1000, operator -1000
        hold   c1 ann 300 key=k    -> held      | ann 700, ann.held 300
        match  c1 300 cost=40      -> captured  | ann.held 0, revenue 300
        refund c1 100 id=r1        -> captured  | ann 800, revenue 200
        sign   c2 bob 300          -> held      | bob.authorized 300, due -300
        match  c2 300              -> captured  | bob.authorized 0, revenue 500
        send   c2 5                -> sent
        prove  c2 300 log=0x5-0:1  -> proven    | due 0, treasury -300
        close  5 by=0x5-0          -> ok
        """,
    )
    for statement in (
        "INSERT INTO usage_keys (id, agent_id, label, scopes, cap_micros, cap_period, created_ms)"
        " VALUES ('k', 'ann', '', 'jobs', 5, 'day', 1)",
        "INSERT INTO tokens VALUES ('t', 'ann', 'admin', zeroblob(32), '', 1, NULL, NULL, NULL, NULL)",
        f"INSERT INTO wallets VALUES ('{books.WALLET}', '', 'ann', 'mint', 1)",
        f"INSERT INTO registrations VALUES ('{books.WALLET}', 'eip155:1', 0, '', 0, NULL, 'off', 1)",
        f"INSERT INTO allowances VALUES ('{books.WALLET}', '', 10, 0, x'00', 'n', 1)",
        "INSERT INTO nonce_key VALUES (1, zeroblob(32))",
        "INSERT INTO used_nonces VALUES ('n', 1)",
    ):
        await db.write(lambda tx, statement=statement: tx.execute(statement))
    return db


async def accepted(db: SqliteDatabase, statements: Iterable[str]) -> list[str]:
    """Those that the schema does not refuse; nothing stays of any."""
    passed = []
    for statement in statements:
        try:
            await db.write(_tried, statement)
        except _Accepted:
            passed.append(statement)
        except (apsw.ConstraintError, apsw.MismatchError):
            pass
    return passed


class _Accepted(Exception):
    pass


def _tried(tx: Tx, statement: str) -> None:
    tx.execute(statement)
    raise _Accepted


async def test_nothing_is_ever_deleted(filled: SqliteDatabase) -> None:
    """F-095"""
    for table in (*HISTORY, *KEPT):
        ((rows,),) = await filled.read(lambda tx, table=table: tx.execute(f"SELECT count(*) FROM {table}"))
        assert rows > 0, table
    assert await accepted(filled, [f"DELETE FROM {table}" for table in (*HISTORY, *KEPT)]) == []


async def test_history_is_not_rewritten(filled: SqliteDatabase) -> None:
    """F-095: refused even when the new value is the old one."""
    changes = [f"UPDATE {table} SET {change}" for table, change in {**HISTORY, **KEPT}.items() if change]
    assert await accepted(filled, changes) == []


FORBIDDEN = (
    "UPDATE charges SET state = 'held', captured_micros = 0, ended_ms = NULL WHERE id = 'c1'",
    "UPDATE charges SET state = 'captured' WHERE id = 'c2'",
    "UPDATE charges SET state = 'unpaid' WHERE id = 'c2'",
    "UPDATE charges SET state = 'settled' WHERE id = 'c1'",
    "UPDATE charges SET state = 'paid' WHERE id = 'c1'",
    "UPDATE charges SET captured_micros = 301 WHERE id = 'c1'",
    "UPDATE charges SET refunded_micros = 301 WHERE id = 'c1'",
    "UPDATE charges SET refunded_micros = -1 WHERE id = 'c1'",
    "UPDATE charges SET cost_micros = -1 WHERE id = 'c1'",
    "UPDATE payments SET state = 'open'",
    "UPDATE payments SET state = 'claimed', charge_id = 'c1'",
    "UPDATE settlements SET state = 'sent'",
    "UPDATE settlements SET state = 'lost', proven_micros = 0",
    "UPDATE settlements SET proven_micros = 301",
    "UPDATE settlements SET identity = 'other'",
    "UPDATE accounts SET balance_micros = -1 WHERE name = 'ann:available'",
    "UPDATE accounts SET balance_micros = -1 WHERE name = 'revenue'",
    "INSERT INTO accounts VALUES ('chains:due', -1)",
    "INSERT INTO accounts VALUES ('ann:debts', -1)",
    "INSERT INTO accounts VALUES ('debt', -1)",
    "INSERT INTO settlements SELECT 'stl_2', purpose, 'c1', identity, amount_atomic, amount_micros, state,"
    " proven_micros, final, abandoned, taken_back, reason, created_ms, ended_ms FROM settlements",
    "INSERT INTO proofs (network, transaction_hash, log_index, settlement_id, kind, block, amount_atomic, at_ms)"
    " SELECT network, transaction_hash, log_index, 'stl_c2', kind, block, amount_atomic, at_ms FROM proofs",
    "INSERT INTO idempotency_keys SELECT scope, key, fingerprint, 'c2', at_ms FROM idempotency_keys",
    "INSERT INTO attempts SELECT network, 'other', 9, 0, hash, raw, max_fee_per_gas, sent_ms FROM attempts",
    "INSERT INTO results VALUES ('c9', x'00', 1)",
    "INSERT INTO nonce_key VALUES (2, zeroblob(32))",
    "UPDATE nonce_key SET key = randomblob(32)",
    "UPDATE used_nonces SET expires_ms = 0",
    "INSERT INTO used_nonces VALUES ('n', 2)",
    "INSERT INTO registrations VALUES ('0xb', 'eip155:1', 0, '', 0, NULL, 'off', 1)",
    f"INSERT INTO registrations VALUES ('{books.WALLET}', 'eip155:1', 1, 'eip155:1', 0, NULL, 'off', 1)",
    "INSERT OR REPLACE INTO registrations SELECT address, network, 1, '', 0, NULL, 'off', 1 FROM registrations",
    "INSERT OR REPLACE INTO registrations SELECT address, network, 0, '', 5, NULL, NULL, 1 FROM registrations",
    "INSERT OR REPLACE INTO registrations SELECT address, network, 0, '', 0, NULL, NULL, 1 FROM registrations",
    "INSERT OR REPLACE INTO registrations SELECT address, network, 0, '', 0, NULL, 'a whim', 1 FROM registrations",
    "UPDATE allowances SET drawn_micros = 11",
    "UPDATE allowances SET drawn_micros = -1",
    "UPDATE allowances SET limit_micros = 0",
    "INSERT INTO tokens VALUES ('u', 'ann', 'admin', zeroblob(32), '', 1, NULL, NULL, NULL, NULL)",
    "INSERT INTO tokens VALUES ('u', 'ann', 'usage', randomblob(32), '', 1, NULL, NULL, NULL, NULL)",
    "INSERT INTO tokens VALUES ('u', 'ann', 'admin', randomblob(32), '', 1, NULL, 'k', NULL, NULL)",
    "INSERT INTO tokens VALUES ('u', 'ann', 'usage', randomblob(32), '', 1, NULL, 'none', NULL, NULL)",
    "INSERT INTO tokens VALUES ('u', 'ann', 'root', randomblob(32), '', 1, NULL, NULL, NULL, NULL)",
    "UPDATE charges SET key_id = 'k' WHERE id = 'c1'",
    "UPDATE usage_keys SET open_micros = -1",
    "UPDATE usage_keys SET cap_period = NULL",
    "UPDATE usage_keys SET cap_micros = 0",
    "UPDATE usage_keys SET cap_micros = 0.5",
    "UPDATE usage_keys SET cap_period = 'year'",
    "UPDATE usage_keys SET scopes = '*'",
    "UPDATE usage_keys SET scopes = ''",
    "INSERT INTO key_days VALUES ('k', 1, -1)",
    "INSERT INTO key_days VALUES ('none', 1, 1)",
    "INSERT INTO tokens VALUES ('u', 'ann', 'admin', zeroblob(31), '', 1, NULL, NULL, NULL, NULL)",
)


async def test_states_and_sums_the_schema_refuses(filled: SqliteDatabase) -> None:
    assert await accepted(filled, FORBIDDEN) == []


@pytest.mark.parametrize(
    ("table", "trigger", "machine"),
    [("charges", "charges_move_forward", core_charge), ("settlements", "settlements_move", core_settlement)],
)
async def test_the_schema_has_the_moves_of_the_machine(
    db: SqliteDatabase, table: str, trigger: str, machine: ModuleType
) -> None:
    ((rule,),) = await db.read(
        lambda tx: tx.execute(
            "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = :name", {"name": trigger}
        )
    )
    bare = apsw.Connection(":memory:")
    bare.execute(f"CREATE TABLE {table} (state TEXT); INSERT INTO {table} VALUES ('new'); {rule}")
    moves = set()
    for before, after in itertools.permutations(machine.State, 2):
        bare.execute(f"DROP TRIGGER {trigger}; UPDATE {table} SET state = :before; {rule}", {"before": before})
        with suppress(apsw.ConstraintError):
            bare.execute(f"UPDATE {table} SET state = :after", {"after": after})
            moves.add((before, after))
    assert moves == {(b, after) for (b, _), after in machine.TRANSITIONS.items() if b is not after}


BAD = ("0.5", "'12abc'", "1e19", "9223372036854775808", "-1", "NULL", "''", "x'01'", "'0x10'")
AMOUNTS = {
    "transfers": "INSERT INTO transfers (at_ms, kind, debit, credit, amount_micros, debit_after_micros,"
    " credit_after_micros, note) VALUES (1, 'hold', 'loss', 'revenue', {}, 0, 0, '')",
    "credits": "INSERT INTO credits VALUES ('x', 'ann', 'credit', {}, '', 1)",
    "refunds": "INSERT INTO refunds VALUES ('x', 'c1', {}, '', 1)",
    "charges": "INSERT INTO charges (id, operation, party, source, held_micros, held_bonus_micros, state,"
    " captured_micros, captured_bonus_micros, refunded_micros, cost_micros, request_id, request_hash, owner,"
    " work_deadline_ms, created_ms) VALUES"
    " ('x', 'o', 'ann', 'balance', {}, 0, 'held', 0, 0, 0, 0, '', x'', '', 1, 1)",
    "balances": "INSERT INTO accounts VALUES ('eve:available', {})",
    "fees": "INSERT INTO attempts VALUES ('n', 'k', 1, 0, 'h', x'', {}, 1)",
}


@pytest.mark.parametrize("table", AMOUNTS)
async def test_bad_amounts_by_direct_sql(filled: SqliteDatabase, table: str) -> None:
    """F-089: strict tables and CHECKs refuse what ordinary SQLite columns would store."""
    good = AMOUNTS[table].format("300")
    assert await accepted(filled, [good]) == [good]
    beyond = () if table in ("balances", "fees") else ("0", "1000000000000001")
    bad = [AMOUNTS[table].format(amount) for amount in (*BAD, *beyond)]
    assert await accepted(filled, bad) == []


async def test_every_table_is_strict(db: SqliteDatabase) -> None:
    loose = await db.read(
        lambda tx: tx.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND strict = 0")
    )
    assert [name for (name,) in loose if not name.startswith("sqlite_")] == []


async def test_a_transfer_moves_its_accounts_whoever_writes_it(tmp_path: Path) -> None:
    """The trigger's work: an overdraft by direct SQL raises and leaves nothing."""
    insert = (
        "INSERT INTO transfers (at_ms, kind, debit, credit, amount_micros, debit_after_micros, credit_after_micros,"
        " note) VALUES (1, 'hold', :debit, 'ann:held', 5, -5, 5, '')"
    )
    async with books.books(tmp_path / "l.db", clean=False) as db:
        with pytest.raises(apsw.ConstraintError):
            await db.write(lambda tx: tx.execute(insert, {"debit": "ann:available"}))
        assert await db.read(lambda tx: tx.execute("SELECT * FROM transfers")) == []
        await db.write(lambda tx: tx.execute(insert, {"debit": "operator"}))
        assert await db.read(lambda tx: dict(tx.execute("SELECT * FROM accounts"))) == {"operator": -5, "ann:held": 5}
