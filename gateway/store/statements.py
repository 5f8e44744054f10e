"""Statements: pages of a party's movements.

A page is read off the end of an index and costs the same wherever it lies. Movements are numbered within a party and
never go back in time, so where a day begins is found by halving.
"""

from gateway.core.statement import Movement
from gateway.core.transfer import Kind
from gateway.store.database import Tx

PAGE = """
SELECT m.number, t.at_ms, t.kind, t.debit, t.credit, t.charge_id, c.operation, t.deposit_id, t.amount_micros,
  m.balance_micros
FROM movements m JOIN transfers t ON t.seq = m.seq LEFT JOIN charges c ON c.id = t.charge_id
WHERE m.party = :party AND m.number < :before AND m.number >= :since ORDER BY m.number DESC LIMIT :limit
"""
AT = """
SELECT t.at_ms FROM movements m JOIN transfers t ON t.seq = m.seq WHERE m.party = :party AND m.number = :number
"""
BALANCE = "SELECT balance_micros FROM movements WHERE party = :party AND number = :number"
_GIVEN = """kind NOT IN
  ('hold', 'capture', 'release', 'refund', 'proven', 'shortfall', 'given_up', 'taken_back', 'repaid')"""
_ACCOUNTS = ":available, :held, :bonus, :bonus_held, :debt, :bonus_debt"
GIVEN = f"""
SELECT
  (SELECT coalesce(sum(amount_micros), 0) FROM transfers
   WHERE {_GIVEN} AND credit IN ({_ACCOUNTS}) AND at_ms >= :since_ms)
  - (SELECT coalesce(sum(amount_micros), 0) FROM transfers
     WHERE {_GIVEN} AND debit IN ({_ACCOUNTS}) AND at_ms >= :since_ms)
"""  # noqa: S608 constants
OWN = ("available", "held", "bonus", "bonus_held", "debt", "bonus:debt")


def page(
    tx: Tx, party: str, limit: int, *, before: int | None = None, from_ms: int | None = None, to_ms: int | None = None
) -> list[Movement]:
    """Newest first, at most `limit`: those numbered below `before`, from `from_ms` on and earlier than `to_ms`."""
    end = last(tx, party) + 1
    below = end if to_ms is None else _first_since(tx, party, to_ms, end)
    rows = tx.execute(
        PAGE,
        {
            "party": party, "limit": limit, "before": below if before is None else min(before, below),
            "since": 1 if from_ms is None else _first_since(tx, party, from_ms, end),
        },
    )  # fmt: skip
    return [_movement(party, *row) for row in rows]


def last(tx: Tx, party: str) -> int:
    """The number of its newest movement; 0 where there is none."""
    ((number,),) = tx.execute("SELECT coalesce(max(number), 0) FROM movements WHERE party = :party", {"party": party})
    return int(number)


def spent(tx: Tx, party: str, since_ms: int) -> int:
    """Micros that calls took of the balance from then on, less what of calls was refunded since. What a balance is
    now, was then, and was given between the two tell it: however many calls there were, none of them is looked at."""
    newest = last(tx, party)
    before = _balance(tx, party, _first_since(tx, party, since_ms, newest + 1) - 1)
    accounts = {part.replace(":", "_"): f"{party}:{part}" for part in OWN}
    ((given,),) = tx.execute(GIVEN, {**accounts, "since_ms": since_ms})
    return before + int(given) - _balance(tx, party, newest)


def _balance(tx: Tx, party: str, number: int) -> int:
    """After this movement; 0 before the first."""
    rows = tx.execute(BALANCE, {"party": party, "number": number})
    return int(rows[0][0]) if rows else 0


def _first_since(tx: Tx, party: str, at_ms: int, end: int) -> int:
    """The number of the first movement at this time or later; `end` where there is none."""
    low, high = 1, end
    while low < high:
        middle = (low + high) // 2
        ((middle_ms,),) = tx.execute(AT, {"party": party, "number": middle})
        low, high = (middle + 1, high) if middle_ms < at_ms else (low, middle)
    return low


def _movement(
    party: str, number: int, at_ms: int, kind: str, debit: str, credit: str, charge_id: str | None,
    operation: str | None, deposit_id: str | None, amount: int, balance: int,
) -> Movement:  # fmt: skip
    debtor, _, part = debit.partition(":")
    taken = debtor == party and part in OWN
    return Movement(
        number=number,
        at_ms=at_ms,
        kind=Kind(kind),
        bonus=(part if taken else credit.partition(":")[2]).startswith("bonus"),
        charge_id=charge_id,
        operation=operation,
        deposit_id=deposit_id,
        amount_micros=-amount if taken else amount,
        balance_micros=balance,
    )
