"""The tools of a lead session: each is an operation or a provider of ours, asked as any caller would ask it.

A tool is an async function that somebody else supplies (gateway.core.upstream.Fulfil) with the model of its question.
Which tools there are is decided where the gateway is assembled: a tool whose upstream is not configured is not there,
and the planner makes do without. One hop is one question, within its own part of the time, the budget and the journal.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from gateway.core import vendor_call
from gateway.core.upstream import AnswerLost, Context, Failure, Fulfil, Journal, Match, NoMatch
from gateway.core.vendor_call import Outcome, VendorCall
from upstreams.leads import answers, graph, planning
from upstreams.leads.answers import Asked, Unreadable
from upstreams.leads.graph import EMPTY, Graph
from upstreams.leads.planning import Offered

Json = Any

log = structlog.get_logger("upstreams.leads")

TIMEOUT_S = 45.0
GRACE_S = 2.0
"""How much longer than its own deadline a tool may take to say so."""


@dataclass(frozen=True, slots=True)
class Tool:
    """Whom to ask, and on which terms. `asks` is one of planning.ASKS' values."""

    asks: str
    fulfil: Fulfil
    question: type[BaseModel]
    """The model of what is asked."""
    cost_micros: int = 0
    """The most that one question takes of vendors."""
    repeatable: bool = True
    """Whether a question whose answer was lost may be asked again; true where its own calls are in the journal."""
    timeout_s: float = TIMEOUT_S
    operation: str = ""
    """Whose answers it gives: what is kept of that operation is given again here, and the other way round. "": what it
    finds is not kept."""
    rests: Callable[[float], int | None] = lambda now_s: None
    """Seconds for which all whom it asks want to be left alone; None: it can be asked now."""


Tools = Mapping[str, Tool]
"""By what they are asked for: directory, person, phone, websearch, company, email."""


def offered(tools: Tools) -> dict[str, Offered]:
    """The registry as the planner sees it: every tool whose `asks` is there."""
    return {
        name: Offered(tools[asks].cost_micros, free=tools[asks].cost_micros == 0)
        for name, asks in planning.ASKS.items()
        if asks in tools
    }


def counts(tool: str) -> bool:
    """Whether its use is a round: our own records are free and looked up as often as there is something new."""
    return tool != planning.DIRECTORY


@dataclass(frozen=True, slots=True)
class Hop:
    """What one use of a tool came to, as it is kept."""

    outcome: str
    """match, no_match, failed, timeout, skipped, lost."""
    found: Graph = EMPTY
    cost_micros: int = 0
    provider: str = ""
    cache_hit: bool = False
    ms: int = 0
    calls: tuple[VendorCall, ...] = ()
    """What was bought in it."""
    retry_after_s: int | None = None
    """Of what has failed: when it is worth asking again, where it says so."""

    @property
    def answered(self) -> bool:
        return self.outcome in ("match", "no_match")

    def kept(self, charge_id: str) -> Json:
        return {
            "bought_on": charge_id, "outcome": self.outcome, "found": graph.pack(self.found),
            "cost_micros": self.cost_micros, "provider": self.provider, "cache_hit": self.cache_hit, "ms": self.ms,
            "calls": [asdict(call) for call in self.calls], "retry_after_s": self.retry_after_s,
        }  # fmt: skip

    @classmethod
    def of(cls, kept: Mapping[str, Json], charge_id: str) -> "Hop":
        """As it was. On another charge's books its calls cost nothing: they stand on those that it was bought on."""
        told = {name: value for name, value in kept.items() if name != "bought_on"}
        calls = tuple(
            vendor_call.recalled({"charge": kept["bought_on"], "call": each}, charge_id) for each in kept["calls"]
        )
        return cls(**{**told, "found": graph.unpack(kept["found"]), "calls": calls})


UNREADABLE = (Unreadable, KeyError, TypeError, AttributeError)
LOST = Hop("lost")
SKIPPED = Hop("skipped")


class Within:
    """A journal within a journal: what one hop has to remember. A call that is kept in it has the name by which it was
    told of, so that whoever reads the whole journal knows it for the same one."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self._name = name

    async def recall(self, key: str) -> Json | None:
        kept = await self._journal.recall(f"{self._name}/{key}")
        return _called(kept, lambda hop: hop.removeprefix(f"{self._name}/"))

    async def asking(self, key: str, *, repeatable: bool = False, cost_micros: int = 0) -> int:
        return await self._journal.asking(f"{self._name}/{key}", repeatable=repeatable, cost_micros=cost_micros)

    async def remember(self, key: str, outcome: Json) -> None:
        named = _called(outcome, lambda hop: f"{self._name}/{hop}")
        await self._journal.remember(f"{self._name}/{key}", named)


def _called(kept: Json, name: Callable[[str], str]) -> Json:
    """A kept hop with its call under another name; whatever else is kept as it is."""
    if not isinstance(kept, dict) or not isinstance(kept.get("call"), dict):
        return kept
    return {**kept, "call": {**kept["call"], "hop": name(kept["call"]["hop"])}}


async def use(
    tool: Tool, question: Mapping[str, Json], asked: Asked, context: Context, name: str, *, anew: bool = False
) -> Hop:
    """One hop. What was remembered of it is its outcome, and nobody is asked again; what its caller has bought before
    is taken, unless it is to be asked `anew`; what was asked and lost is asked again only where that does no harm.
    Raises whatever the journal raises, and what is a bug."""
    try:
        query = tool.question.model_validate(question)
    except ValidationError:
        return SKIPPED
    journal = context.journal
    if journal is not None and (kept := await journal.recall(name)) is not None:
        hop = Hop.of(kept, context.charge_id)
        for call in hop.calls:
            context.bought(call)
        return hop
    calls: list[VendorCall] = []

    def bought(call: VendorCall) -> None:
        """A step of a tool is a step of this hop, and there may be more hops of this tool."""
        calls.append(replace(call, hop=f"{name}/{call.hop}"))
        context.bought(calls[-1])

    within = replace(context, bought=bought, journal=Within(journal, name) if journal is not None else None)
    try:
        earlier = None if anew else await _again(tool, query, question, asked, within)
        if earlier is None and journal is not None:
            await journal.asking(name, repeatable=tool.repeatable)
        hop = earlier or await _ask(tool, query, question, asked, within, name)
    except AnswerLost:
        hop = LOST
    if not calls and hop.cost_micros:
        bought(VendorCall("call", tool.asks, _CAME[hop.outcome], cost_micros=hop.cost_micros, ms=hop.ms))
    hop = replace(hop, calls=tuple(calls))
    if journal is not None:
        await journal.remember(name, hop.kept(context.charge_id))
    return hop


_CAME = {
    "match": Outcome.MATCH,
    "no_match": Outcome.NO_MATCH,
    "failed": Outcome.FAILED,
    "timeout": Outcome.FAILED,
}


async def _again(
    tool: Tool, query: BaseModel, question: Mapping[str, Json], asked: Asked, context: Context
) -> Hop | None:
    """What was bought before; None: nothing, or nothing that says anything here."""
    if context.answers is None or not tool.operation:
        return None
    kept = await context.answers.again(tool.operation, query)
    if kept is None:
        return None
    try:
        found = read(tool.asks, kept.found, question, replace(asked, cache_hit=True))
    except UNREADABLE:
        return None
    if not found.statements:
        return None
    for call in kept.calls:
        context.bought(call)
    return Hop("match", found, provider=_provider(kept.found.metadata), cache_hit=True)


async def _ask(
    tool: Tool, query: BaseModel, question: Mapping[str, Json], asked: Asked, context: Context, name: str
) -> Hop:
    begun_s = context.now()
    try:
        async with asyncio.timeout(max(0.0, context.deadline_s - begun_s) + GRACE_S):
            outcome = await tool.fulfil(query, context)
    except TimeoutError:
        return Hop("timeout", ms=_ms(begun_s, context))
    told: dict[str, Any] = {"cost_micros": outcome.cost_micros, "ms": _ms(begun_s, context)}
    if isinstance(outcome, Failure):
        return Hop("timeout" if outcome.timeout else "failed", retry_after_s=outcome.retry_after_s, **told)
    metadata = outcome.metadata
    told |= {"provider": _provider(metadata), "cache_hit": metadata.get("cache_hit") is True}
    if isinstance(outcome, NoMatch):
        return Hop("no_match", **told)
    try:
        found = read(tool.asks, outcome, question, replace(asked, cache_hit=told["cache_hit"]))
    except UNREADABLE:
        log.warning("lead_tool_unreadable", tool=asked.tool)
        return Hop("failed", **told)
    if found.statements and context.answers is not None and tool.operation:
        context.answers.keep(tool.operation, query, outcome, name)
    return Hop("match" if found.statements else "no_match", found, **told)


def read(asks: str, outcome: Match, question: Mapping[str, Json], asked: Asked) -> Graph:
    """What a tool has answered, as statements. Raises Unreadable."""
    match asks:
        case "websearch":
            return answers.web(outcome.data, outcome.metadata, replace(asked, firm=question["business_name"]))
        case "company":
            return answers.company(outcome.data, outcome.metadata, asked)
        case "email":
            return answers.email(outcome.data, outcome.metadata, asked)
        case _:
            return answers.people(outcome.data, outcome.metadata, asked)


def _provider(metadata: Mapping[str, Json]) -> str:
    """Who has answered, of all who were tried."""
    tried = metadata.get("providers_tried")
    if isinstance(tried, list):
        for entry in reversed(tried):
            if isinstance(entry, Mapping) and entry.get("outcome") == "match":
                return graph.plain(entry.get("provider"), 64)
        if tried and isinstance(tried[-1], Mapping):
            return graph.plain(tried[-1].get("provider"), 64)
    return ""


def _ms(begun_s: float, context: Context) -> int:
    return max(0, round((context.now() - begun_s) * 1000))
