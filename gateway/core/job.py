"""The life of a job: work that was handed over, takes its time, and is asked about later.

    QUEUED ── STARTED ──▶ RUNNING ── COMPLETED ──▶ COMPLETED      matched or missed: its charge tells
     │ ▲                  │ │ │ FAILED ──────────▶ FAILED         the work failed, or took too long
     │ └── HANDED_BACK ───┘ │ CANCELLED ─────────▶ CANCELLED
     │                      └ STARTED again: by whoever takes over from a worker that died
     └ FAILED, CANCELLED

A job has one charge, held when it was handed over. It ends in the very transaction that captures or releases that
charge, so both tell the same story after any crash. A lease says who works on it; `attempt` counts the starts, and
whoever ends a job names the attempt he ends: who was given up and comes back late changes nothing. A job ends once: one
that has failed is done again as another job, with another charge.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from gateway.core.errors import IllegalMove


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    STARTED = "started"
    HANDED_BACK = "handed_back"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.QUEUED, Event.STARTED): State.RUNNING,
    (State.RUNNING, Event.STARTED): State.RUNNING,
    (State.RUNNING, Event.HANDED_BACK): State.QUEUED,
    (State.RUNNING, Event.COMPLETED): State.COMPLETED,
    (State.RUNNING, Event.FAILED): State.FAILED,
    (State.RUNNING, Event.CANCELLED): State.CANCELLED,
    (State.QUEUED, Event.FAILED): State.FAILED,
    (State.QUEUED, Event.CANCELLED): State.CANCELLED,
}

ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

OWNER = "jobs"
"""Who works on a charge that belongs to a job: whoever has the job's lease. Nobody else may call it an orphan."""
ATTEMPTS_MAX = 3
"""Starts after which a job that never ends is taken to be what ends its workers (F-074)."""


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    operation: str
    charge_id: str
    party: str
    """Whose money it is: an agent's id or a wallet's address."""
    agent_id: str | None
    payload: bytes = field(repr=False)
    """The operation's validated input, compact JSON; empty once it has ended."""
    request_id: str
    deadline_ms: int
    """When it has failed, whatever it was doing."""
    callback_url: str | None = field(default=None, repr=False)
    resells: str | None = None
    """An earlier charge of the same payer whose withheld result this one pays for: no work is done again."""
    state: State = State.QUEUED
    attempt: int = 0
    cancelling: bool = False
    """Somebody wants it to stop at the next safe point."""
    phase: str = ""
    rounds: int = 0
    error_code: str | None = None
    error: str | None = None
    created_ms: int = 0
    started_ms: int | None = None
    ended_ms: int | None = None
    expires_ms: int | None = None
    """When its tokens and its result are gone."""
    retry_of: str | None = None
    """The failed job that its operator has had done again by this one."""
    idempotency_key: str | None = None
    """Of an agent's submission."""


def advance(job: Job, event: Event) -> State:
    """Raises IllegalMove."""
    after = TRANSITIONS.get((job.state, event))
    if after is None:
        raise IllegalMove(f"{job.id} is {job.state}: no {event}")
    return after
