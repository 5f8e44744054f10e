"""The ledger: transfers are appended, balances follow in the same transaction.

Each transfer row keeps both balances after it, so a balance at any past sequence number is a look-up. What may not
go below zero is held by the schema: an overdraft raises, whatever the caller has checked before.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.core.transfer import Kind, Transfer
from gateway.store.database import Tx

TAKE = """
UPDATE accounts SET balance_micros = balance_micros - :amount WHERE name = :name RETURNING balance_micros
"""
TAKE_FIRST = """
INSERT INTO accounts (name, balance_micros) VALUES (:name, -:amount) RETURNING balance_micros
"""
GIVE = """
INSERT INTO accounts (name, balance_micros) VALUES (:name, :amount)
ON CONFLICT (name) DO UPDATE SET balance_micros = accounts.balance_micros + :amount RETURNING balance_micros
"""
APPEND = """
INSERT INTO transfers
  (at_ms, kind, debit, credit, amount_micros, debit_after_micros, credit_after_micros, charge_id, settlement_id, note)
VALUES
  (:at_ms, :kind, :debit, :credit, :amount, :debit_after, :credit_after, :charge_id, :settlement_id, :note)
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A transfer as it was booked; `seq` counts up from 1 without gaps."""

    seq: int
    at_ms: int
    transfer: Transfer
    debit_after_micros: int
    credit_after_micros: int
    charge_id: str | None
    settlement_id: str | None
    note: str


def post(
    tx: Tx,
    transfers: Iterable[Transfer],
    *,
    charge_id: str | None = None,
    settlement_id: str | None = None,
    note: str = "",
) -> None:
    """Books the transfers in this order. An overdraft violates the schema and raises the database's own error."""
    for transfer in transfers:
        amount = transfer.amount_micros
        taken = {"name": transfer.debit, "amount": amount}
        ((debit_after,),) = tx.execute(TAKE, taken) or tx.execute(TAKE_FIRST, taken)
        ((credit_after,),) = tx.execute(GIVE, {"name": transfer.credit, "amount": amount})
        tx.execute(
            APPEND,
            {
                "at_ms": tx.now_ms,
                "kind": transfer.kind,
                "debit": transfer.debit,
                "credit": transfer.credit,
                "amount": amount,
                "debit_after": debit_after,
                "credit_after": credit_after,
                "charge_id": charge_id,
                "settlement_id": settlement_id,
                "note": note,
            },
        )


def balance(tx: Tx, account: str) -> int:
    """Micros; 0 for an account nothing was ever booked on."""
    rows = tx.execute("SELECT balance_micros FROM accounts WHERE name = :name", {"name": account})
    return int(rows[0][0]) if rows else 0


def balance_at(tx: Tx, account: str, seq: int) -> int:
    """Micros after the transfer with this sequence number was booked."""
    rows = tx.execute(
        "SELECT CASE WHEN debit = :name THEN debit_after_micros ELSE credit_after_micros END FROM transfers"
        " WHERE seq <= :seq AND (debit = :name OR credit = :name) ORDER BY seq DESC LIMIT 1",
        {"name": account, "seq": seq},
    )
    return int(rows[0][0]) if rows else 0


def rows(tx: Tx, *, account: str | None = None, charge_id: str | None = None, limit: int = 1000) -> list[Entry]:
    """What was booked, oldest first: of one account, of one charge, or the last `limit` of everything."""
    found = tx.execute(
        "SELECT seq, at_ms, kind, debit, credit, amount_micros, debit_after_micros, credit_after_micros, charge_id,"
        " settlement_id, note FROM transfers WHERE (CAST(:account AS TEXT) IS NULL OR debit = :account OR"
        " credit = :account) AND (CAST(:charge_id AS TEXT) IS NULL OR charge_id = :charge_id)"
        " ORDER BY seq DESC LIMIT :limit",
        {"account": account, "charge_id": charge_id, "limit": limit},
    )
    return [Entry(row[0], row[1], Transfer(Kind(row[2]), *row[3:6]), *row[6:]) for row in reversed(found)]
