"""A charge's row: read it, move it. What charges.py and settlements.py share."""

from gateway.core import charge as core
from gateway.core.charge import Charge, Event, Source, State
from gateway.core.errors import Conflict, IllegalMove
from gateway.store import ledger
from gateway.store.database import Row, Tx

COLUMNS = """c.id, c.operation, c.party, c.source, c.held_micros, c.held_bonus_micros, c.asset, c.state, c.reason,
  c.captured_micros, c.captured_bonus_micros, c.refunded_micros, c.metered, c.topup, c.topup_id"""
WIDTH = 15
LOAD = f"SELECT {COLUMNS} FROM charges c WHERE c.id = :id"  # noqa: S608 a constant
MOVE = """
UPDATE charges SET state = :state, refunded_micros = :refunded
WHERE id = :id AND state = :from_state AND refunded_micros = :from_refunded RETURNING id
"""


def from_row(row: Row) -> Charge:
    """A row of COLUMNS."""
    (
        id,
        operation,
        party,
        source,
        held,
        held_bonus,
        asset,
        state,
        reason,
        captured,
        captured_bonus,
        refunded,
        metered,
        topup,
        topup_id,
    ) = row
    return Charge(
        id, operation, party, Source(source), held, held_bonus, asset, State(state), Event(reason) if reason else None,
        captured, captured_bonus, refunded, bool(metered), bool(topup), topup_id,
    )  # fmt: skip


def load(tx: Tx, charge_id: str) -> Charge:
    """Raises IllegalMove when there is none."""
    rows = tx.execute(LOAD, {"id": charge_id})
    if not rows:
        raise IllegalMove(f"{charge_id} is no charge")
    return from_row(rows[0])


def move(
    tx: Tx, charge: Charge, event: Event, amount_micros: int = 0, *, settlement_id: str | None = None, note: str = ""
) -> Charge:
    """Any event after the work: PAID, GIVEN_UP, REFUND. Raises IllegalMove, and Conflict when the row has moved."""
    after, transfers = core.advance(charge, event, amount_micros)
    rows = tx.execute(
        MOVE,
        {
            "id": charge.id, "state": after.state, "refunded": after.refunded_micros,
            "from_state": charge.state, "from_refunded": charge.refunded_micros,
        },
    )  # fmt: skip
    if not rows:
        raise Conflict(f"{charge.id} was moved by somebody else")
    ledger.post(tx, transfers, charge_id=charge.id, settlement_id=settlement_id, note=note)
    return after
