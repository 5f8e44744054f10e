"""The ledger: transfers are appended, and nothing else ever moves a balance.

Each transfer row keeps both balances after it, so a balance at any past sequence number is a look-up. The schema does
the rest: a trigger brings the accounts along, and a CHECK on them makes an overdraft raise, whatever the caller has
looked at before.

A debt is paid first: whatever comes to a party's available money or bonus goes on to what it owes, in the same
transaction, so that who owes has nothing to spend. And what a wallet has left then goes on to the agent it belongs to,
so that what is on a wallet's account is nobody's else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.transfer import Kind, Part, Transfer, account, is_wallet
from gateway.store import wallets
from gateway.store.database import Tx

APPEND = """
INSERT INTO transfers
  (at_ms, kind, debit, credit, amount_micros, debit_after_micros, credit_after_micros, charge_id, settlement_id,
   deposit_id, note)
VALUES (
  :at_ms, :kind, :debit, :credit, :amount,
  coalesce((SELECT balance_micros FROM accounts WHERE name = :debit), 0) - :amount,
  coalesce((SELECT balance_micros FROM accounts WHERE name = :credit), 0) + :amount,
  :charge_id, :settlement_id, :deposit_id, :note
)
"""
ENTRY = """
SELECT seq, at_ms, kind, debit, credit, amount_micros, debit_after_micros, credit_after_micros, charge_id,
  settlement_id, note, deposit_id FROM transfers
"""
_DEBTS = {Part.AVAILABLE.value: Part.DEBT, Part.BONUS.value: Part.BONUS_DEBT}


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
    deposit_id: str | None = None


def post(
    tx: Tx,
    transfers: Sequence[Transfer],
    *,
    charge_id: str | None = None,
    settlement_id: str | None = None,
    deposit_id: str | None = None,
    note: str = "",
    owing: bool = True,
) -> None:
    """Books the transfers in this order, then pays what is owed by whom they came to, and passes on what has come to
    a wallet that is an agent's. An overdraft violates the schema and raises the database's own error.

    `owing` False: whoever they come to has been found, in this transaction, to owe nothing.
    """
    for transfer in transfers:
        tx.execute(
            APPEND,
            {
                "at_ms": tx.now_ms,
                "kind": transfer.kind,
                "debit": transfer.debit,
                "credit": transfer.credit,
                "amount": transfer.amount_micros,
                "charge_id": charge_id,
                "settlement_id": settlement_id,
                "deposit_id": deposit_id,
                "note": note,
            },
        )
    for name in dict.fromkeys(transfer.credit for transfer in transfers):
        if owing:
            _repay(tx, name)
        party, _, part = name.partition(":")
        if part == Part.AVAILABLE and is_wallet(party):
            pass_on(tx, party)


def pass_on(tx: Tx, wallet: str) -> None:
    """What is on this wallet's account goes to the agent that it belongs to, if it does."""
    owner = wallets.owner(tx, wallet)
    has = account(wallet, Part.AVAILABLE)
    if owner is not None and (micros := balance(tx, has)) > 0:
        post(tx, [Transfer(Kind.JOINED, has, account(owner, Part.AVAILABLE), micros)])


def _repay(tx: Tx, name: str) -> None:
    """For no charge and no deposit: of whatever came, it is the same debt."""
    party, _, part = name.partition(":")
    if part not in _DEBTS:
        return
    debt = f"{party}:{_DEBTS[part]}"
    micros = min(balance(tx, name), -balance(tx, debt))
    if micros > 0:
        post(tx, (Transfer(Kind.REPAID, name, debt, micros),), owing=False)


def balance(tx: Tx, name: str) -> int:
    """Micros; 0 for an account nothing was ever booked on."""
    rows = tx.execute("SELECT balance_micros FROM accounts WHERE name = :name", {"name": name})
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
    filters = {
        "(debit = :account OR credit = :account)": account is not None,
        "charge_id = :charge_id": charge_id is not None,
    }
    where = " AND ".join(clause for clause, wanted in filters.items() if wanted)
    found = tx.execute(
        f"{ENTRY} {'WHERE ' + where if where else ''} ORDER BY seq DESC LIMIT :limit",
        {"account": account, "charge_id": charge_id, "limit": limit},
    )
    return [Entry(row[0], row[1], Transfer(Kind(row[2]), *row[3:6]), *row[6:]) for row in reversed(found)]
