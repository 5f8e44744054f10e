"""An LLM that decides what to do next, and the rails outside of it.

It is told facts of the graph, as JSON, and what could be done; never a page, a prompt of a page, or an answer of a
vendor. It names a tool and what that is about, and the question itself is made by the rules from the graph: whatever it
says, nothing is asked that the rules would not ask. An unknown tool, one that does not apply or was used so already, or
one that would cost too much is refused with a short reason; after two refusals, or any failure, the rules go on alone.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.core.upstream import Context
from upstreams.leads import coverage
from upstreams.leads.picture import Picture
from upstreams.leads.planning import Move

Json = Any

REFUSALS_MAX = 2
LISTED_MAX = 12
FACTS_MAX = 25
STOP = "stop"


@dataclass(frozen=True, slots=True)
class Advice:
    """What an LLM wants next. `tool` is a tool's name or "stop"; `about` an id of the graph, or ""."""

    tool: str
    about: str = ""
    cost_micros: int = 0
    failed: bool = False


Advise = Callable[[Mapping[str, Json], Context, str], Awaitable[Advice]]
"""(facts and what could be done, context, the hop's name) -> advice. Failures are told in it; it keeps its own calls in
the context's journal."""


@dataclass(slots=True)
class Chooser:
    """One session's dealings with it."""

    advise: Advise
    cost_micros: int = 0
    refusals: list[str] = field(default_factory=list)
    given_up: bool = False
    turns: int = 0

    async def choose(
        self,
        picture: Picture,
        moves: Sequence[Move],
        affordable: Callable[[Move], bool],
        context: Context,
        rounds_left: int,
    ) -> Move | str | None:
        """One of the moves; "stop"; None where the rules are to decide."""  # fmt: skip
        while not self.given_up:
            self.turns += 1
            name = f"plan/{self.turns}"
            advice = await self.advise(digest(picture, moves, affordable, rounds_left, self.refusals), context, name)
            self.cost_micros += advice.cost_micros
            if advice.failed:
                self.given_up = True
                return None
            if advice.tool == STOP:
                return STOP
            move, reason = judged(advice, moves, affordable)
            if move is not None:
                return move
            self.refusals.append(reason)
            self.given_up = len(self.refusals) >= REFUSALS_MAX
        return None


def judged(advice: Advice, moves: Sequence[Move], affordable: Callable[[Move], bool]) -> tuple[Move | None, str]:
    """(the move that is meant, why there is none)."""
    fitting = [move for move in moves if move.tool == advice.tool]
    if not fitting:
        return None, "no such tool applies here, or it was used so already"
    exact = [move for move in fitting if not advice.about or move.about == advice.about]
    if not exact:
        return None, "this tool does not apply to that"
    payable = [move for move in exact if affordable(move)]
    if not payable:
        return None, "it would cost more than is left"
    return payable[0], ""


def digest(
    picture: Picture,
    moves: Sequence[Move],
    affordable: Callable[[Move], bool],
    rounds_left: int,
    refusals: Sequence[str],
) -> dict[str, Json]:
    """What it is told: names, roles and how sure each is; no page, no quote, no url."""
    covered = coverage.coverage(picture)
    return {
        "about": [{"id": node.id, "type": node.kind, "name": node.name[:80]} for node in picture.subjects],
        "contacts": [
            {
                "id": contact.node.id,
                "name": contact.node.name[:80],
                "title": contact.title[:60],
                "phones": len(contact.phones),
                "emails": len(contact.emails),
                "confidence": contact.node.confidence,
            }
            for contact in picture.contacts[:FACTS_MAX]
        ],
        "phones": len(picture.phones),
        "coverage": covered,
        "missing": [each["code"] for each in coverage.gaps(picture)],
        "rounds_left": rounds_left,
        "could_do": [
            {"tool": move.tool, "about": move.about, "why": move.why} for move in moves[:LISTED_MAX] if affordable(move)
        ],
        "refused": list(refusals),
    }
