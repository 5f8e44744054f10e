"""Sessions: several calls of one agent about one thing, each going on where the last one ended.

A session belongs to the agent that began it. One call works on it at a time: it is claimed in the write of that call's
hold, so who comes second is told so before anything is held. What an upstream wants to have kept of a call is written
together with the end of its charge, and a later call begins with the last such state whose charge was paid for, or
cost nothing: nobody comes by a result he has not paid for by asking on.

What the whole session has cost and was charged stands in the charges of its calls. A call is charged what its work
adds: the price of all of it, less what was charged already.
"""

from dataclasses import dataclass, field

from pydantic import BaseModel

STATE_MAX = 1_000_000
"""Bytes of one kept state; what is larger is not kept."""


class SessionQuery(BaseModel):
    """The input of an operation that may go on over several calls. Which of its fields say so, its own model tells."""

    @property
    def budget_micros(self) -> int | None:
        """The most that its caller wants the call to cost."""
        raise NotImplementedError

    @property
    def session_id(self) -> str | None:
        """The session that it goes on with."""
        raise NotImplementedError

    @property
    def session_subject(self) -> bytes:
        """32 bytes that tell what it is about: a session does not go on about something else."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Session:
    """A session as one of its calls finds it."""

    id: str
    state: bytes | None = field(default=None, repr=False)
    """What was kept of the call before; None for the first one."""
    cost_micros: int = 0
    """What the vendors took for the calls before, but for those that found nothing."""
    charged_micros: int = 0
    """What those were charged."""


def id_of(charge_id: str) -> str:
    """`chg_...` -> `cs_...`: what a session is called that begins with this charge."""
    return f"cs_{charge_id.rpartition('_')[2]}"
