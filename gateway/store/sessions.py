"""Sessions: what was found by the calls of an agent about one thing (gateway/core/session.py).

What is kept of a call is written in the transaction that ends its charge. The call that goes on with it begins from the
latest one whose result its payer may have, and what the session has come to is the sum over those. What was erased of a
call is empty and has cost nothing: its charge counts on, so that nobody pays twice for what is bought once more. A
claim is good while its charge is held, so a call that dies blocks nobody for longer than its charge.
"""

from enum import Enum, auto
from itertools import pairwise
from typing import NamedTuple

from gateway.core.session import Session, id_of
from gateway.store import charges
from gateway.store.charges import ChargeView
from gateway.store.database import Tx

TTL_MS = 7 * 86_400_000
"""How long a session can be gone on with after its last call."""
STATES_MAX = 3
"""Of one session that are kept: each has what the ones before had, and what is free may be asked again and again."""


class Claimed(Enum):
    """What became of a claim."""

    YES = auto()
    UNKNOWN = auto()
    """No such session of this agent and operation, or its time is over."""
    BUSY = auto()
    """Another call works on it."""
    OTHER = auto()
    """It is about something else."""
    UNPAID = auto()
    """Nothing it has found is paid for yet."""


def claim(
    tx: Tx, session_id: str, charge_id: str, operation: str, agent_id: str | None, key_id: str | None, subject: bytes
) -> Claimed:
    """For the call of this charge. A usage key goes on with what was begun with it, the agent with all it has."""
    rows = tx.execute(
        "SELECT s.subject, s.key_id, coalesce(c.state = 'held' AND c.id <> :charge_id, 0) FROM sessions s"
        " LEFT JOIN charges c ON c.id = s.working"
        " WHERE s.id = :id AND s.agent_id = :agent_id AND s.operation = :operation AND s.expires_ms > :now_ms",
        {
            "id": session_id, "agent_id": agent_id, "operation": operation, "charge_id": charge_id,
            "now_ms": tx.now_ms,
        },
    )  # fmt: skip
    if not rows or (key_id is not None and rows[0][1] != key_id):
        return Claimed.UNKNOWN
    ((about, _, busy),) = rows
    if busy:
        return Claimed.BUSY
    if about != subject:
        return Claimed.OTHER
    if not _told(tx, session_id):
        return Claimed.UNPAID
    tx.execute("UPDATE sessions SET working = :charge_id WHERE id = :id", {"id": session_id, "charge_id": charge_id})
    return Claimed.YES


def reclaim(tx: Tx, charge_id: str, by_charge_id: str) -> None:
    """A failed call is done again under another charge, and goes on with the session that it had. Where that has gone
    on since, it begins another."""
    tx.execute(
        "UPDATE sessions SET working = :by WHERE working = :charge_id", {"by": by_charge_id, "charge_id": charge_id}
    )


def find(tx: Tx, charge_id: str) -> Session | None:
    """The session that the call of this charge goes on with, or begins. None: its caller is no agent."""
    rows = tx.execute("SELECT id FROM sessions WHERE working = :charge_id", {"charge_id": charge_id})
    if not rows:
        view = charges.find(tx, charge_id)
        return Session(id_of(charge_id)) if view is not None and view.agent_id is not None else None
    session_id: str = rows[0][0]
    told = _told(tx, session_id)
    return Session(
        session_id,
        next((turn.state for turn in reversed(told) if turn.state), None),
        cost_micros=sum(turn.cost_micros for turn in told),
        charged_micros=sum(turn.charged_micros for turn in told),
    )


def keep(tx: Tx, session_id: str, view: ChargeView, subject: bytes, state: bytes, cost_micros: int) -> None:
    """What the next call is to begin with, in the transaction that ends this one's charge. `cost_micros`: what its
    price was made of; nothing of a miss."""
    tx.execute(
        "INSERT INTO sessions (id, agent_id, key_id, operation, subject, working, created_ms, expires_ms)"
        " VALUES (:id, :agent_id, :key_id, :operation, :subject, :charge_id, :now_ms, :expires_ms)"
        " ON CONFLICT (id) DO UPDATE SET expires_ms = excluded.expires_ms",
        {
            "id": session_id, "agent_id": view.agent_id, "key_id": view.key_id, "operation": view.charge.operation,
            "subject": subject, "charge_id": view.charge.id, "now_ms": tx.now_ms, "expires_ms": tx.now_ms + TTL_MS,
        },
    )  # fmt: skip
    tx.execute(
        "INSERT INTO session_turns (charge_id, session_id, cost_micros, state)"
        " VALUES (:charge_id, :session_id, :cost, :state)",
        {"charge_id": view.charge.id, "session_id": session_id, "cost": cost_micros, "state": state},
    )
    _thin_out(tx, session_id)


def _thin_out(tx: Tx, session_id: str) -> None:
    """Empties the oldest states; what they had cost counts with the oldest that is kept, which has all of theirs."""
    told = [turn for turn in _told(tx, session_id) if turn.state]
    for older, newer in pairwise(told[: -STATES_MAX + 1]):
        tx.execute(
            "UPDATE session_turns SET cost_micros = cost_micros"
            " + (SELECT cost_micros FROM session_turns WHERE charge_id = :id) WHERE charge_id = :newer",
            {"id": older.charge_id, "newer": newer.charge_id},
        )
        tx.execute(
            "UPDATE session_turns SET cost_micros = 0, state = x'' WHERE charge_id = :id", {"id": older.charge_id}
        )


def pass_on(tx: Tx, charge_id: str, to_charge_id: str) -> None:
    """A result that was not paid for is sold again: what was kept with it goes along."""
    tx.execute(
        "INSERT INTO session_turns (charge_id, session_id, cost_micros, state)"
        " SELECT :to, session_id, cost_micros, state FROM session_turns WHERE charge_id = :charge_id",
        {"to": to_charge_id, "charge_id": charge_id},
    )


def forget(tx: Tx) -> int:
    """Deletes sessions whose time is over, for good; answers how many. One that is worked on stays until it is not."""
    over = [
        row[0]
        for row in tx.execute(
            "SELECT s.id FROM sessions s LEFT JOIN charges c ON c.id = s.working"
            " WHERE s.expires_ms <= :now_ms AND coalesce(c.state, '') <> 'held'",
            {"now_ms": tx.now_ms},
        )
    ]
    for session_id in over:
        tx.execute("DELETE FROM session_turns WHERE session_id = :id", {"id": session_id})
        tx.execute("DELETE FROM sessions WHERE id = :id", {"id": session_id})
    return len(over)


class _Turn(NamedTuple):
    charge_id: str
    cost_micros: int
    charged_micros: int
    state: bytes


def _told(tx: Tx, session_id: str) -> list[_Turn]:
    """Its calls whose result their payer may have, oldest first."""
    rows = tx.execute(
        "SELECT charge_id, cost_micros, state FROM session_turns WHERE session_id = :id ORDER BY charge_id",
        {"id": session_id},
    )
    turns = [(charges.find(tx, charge_id), cost, state) for charge_id, cost, state in rows]
    return [
        _Turn(view.charge.id, cost, view.charge.captured_micros, state)
        for view, cost, state in turns
        if view is not None and view.is_told
    ]
