"""One lead session: look, choose, ask, merge, until enough is known or there is no more to spend.

    hop      one use of a tool; its outcome is remembered under what it comes to, so that a session that is begun again
             after a crash walks the same way without buying anything twice
    round    a hop of a paid tool that answered with something and was merged
    stop     coverage_satisfied, nothing_left, budget, max_rounds, attempts, deadline, interactive, planner

No move is made whose cost could bring the charge above the budget. What a session is charged follows from what its
vendors took (gateway.core.catalogue.Price), and is nothing where it found nothing new that is sure enough.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from gateway.core.catalogue import Price
from gateway.core.money import format_usd
from gateway.core.session import Session
from gateway.core.subject import without
from gateway.core.upstream import Context, Failure, Match, NoMatch, Outcome
from upstreams.leads import coverage, graph, hiding, lead, planning, report, tools
from upstreams.leads.answers import Asked
from upstreams.leads.choosing import STOP, Advise, Chooser
from upstreams.leads.graph import EMPTY, Graph, digest
from upstreams.leads.lead import Lead
from upstreams.leads.picture import Picture, draw
from upstreams.leads.planning import Known, Move, Offered, Wishes
from upstreams.leads.prior import NOTHING
from upstreams.leads.query import LeadQuery
from upstreams.leads.settings import LeadSettings
from upstreams.leads.tools import Hop, Tools

Json = Any

SCHEMA = "lead_enrichment_v1"
STATE_VERSION = 1
MARGIN_S = 8.0
"""Left of the time to make the answer in."""
HOP_LEAST_S = 3.0
"""With less than this left no vendor is asked any more."""
INTERACTIVE_HOPS = 2
LOOKUPS_MAX = 60
"""Questions to our own records in one call: they are free, and enough is enough."""
BUTTONS_MAX = 5
_MILLION = 1_000_000


@dataclass(slots=True)
class _Told:
    """A hop as the answer tells it."""

    n: int
    tool: str
    why: str
    hop: Hop
    status: str
    projected_micros: int
    added: Mapping[str, int] = field(default_factory=dict)


class Walk:
    """The state of one session's call."""

    def __init__(
        self, query: LeadQuery, context: Context, registry: Tools, settings: LeadSettings, advise: Advise | None
    ) -> None:
        self._query = query
        self._context = context
        self._registry = registry
        self._offered = tools.offered(registry)
        self._settings = settings
        self._price = Price(
            settings.price_micros, metered=True, markup_percent=settings.markup_percent,
            ceiling_micros=settings.ceiling_micros,
        )  # fmt: skip
        self._chooser = self._planner(advise)
        self._earlier = context.session or Session("")
        state = _state(self._earlier)
        self._lead = query.known
        self._before: Graph = graph.united(
            (
                lead.statements(self._lead, _ms(context)),
                NOTHING if query.session_id else query.prior,
                graph.unpack(state["told"]),
            )
        )
        """What the caller knows, or has been told and has paid for. A session goes on about what it was begun with."""
        self._known = graph.merge(self._before, query.prior)
        """All of that, whoever is hidden by now: by this it is judged what is new, and nothing of it is told."""
        self._graph: Graph = graph.merge(self._before, graph.unpack(state["untold"]))
        self._asked: set[str] = set(state["asked"])
        self._labels: list[str] = state["labels"]
        self._cost = 0
        self._rounds = 0
        self._attempts = 0
        self._lookups = 0
        self._hops: list[_Told] = []
        self._begun_s = context.now()
        self._picture: Picture | None = None

    def _planner(self, advise: Advise | None) -> Chooser | None:
        wanted = self._query.planner != "rules" and self._settings.planner != "rules"
        return Chooser(advise) if advise is not None and wanted else None

    async def run(self) -> Outcome:
        wishes = planning.wishes(self._query.prompts, self._labels)
        stop = await self._loop(wishes)
        picture = await self._look()
        found = report.found_anew(picture, self._known)
        failures = [told for told in self._hops if not told.hop.answered]
        if not found and failures and len(failures) == len(self._hops):
            slow = any(told.hop.outcome == "timeout" for told in failures)
            rests = [told.hop.retry_after_s for told in failures if told.hop.retry_after_s is not None]
            return Failure(
                "none of the sources could be asked just now", timeout=slow, cost_micros=self._spent,
                retry_after_s=min(rests, default=None),
            )  # fmt: skip
        if not found:  # a miss is free, and tells nothing that was bought for it: by no button, no hop and no end
            picture = await asyncio.to_thread(draw, self._before, self._lead)
            self._hops = [
                replace(told, status="nothing_new", added={}) if told.hop.answered else told for told in self._hops
            ]
            stop = "nothing_left" if stop == "coverage_satisfied" else stop
        left = self._moves(picture, wishes)
        data = self._data(picture, found, stop, wishes, left)
        if self._context.hides is not None:  # what the caller has said himself, and what the graph has no record of
            data, _ = without(data, self._context.hides)
            told = data["input"] or Lead().told()  # his own number for it can be somebody's
            data["input"] = {**told, "mapped": told["mapped"] or {}}
        metadata = {"elapsed_ms": self._elapsed_ms()}
        outcome: Match | NoMatch = (Match if found else NoMatch)(data, metadata, self._spent)
        if self._context.session is None:
            return outcome
        state = self._kept(bool(found), [move.label for move in left])
        tells = await asyncio.to_thread(hiding.spellings, self._graph)
        return replace(outcome, session=state, session_tells=tells)

    # the loop

    async def _loop(self, wishes: Wishes) -> str:
        """Why it has ended."""
        while True:
            picture = await self._look()
            moves = self._moves(picture, wishes)
            lookups = [move for move in moves if move.tool == planning.DIRECTORY]
            if lookups and self._lookups < LOOKUPS_MAX:
                if not self._in_time():
                    return "deadline"
                await self._look_up(lookups[: LOOKUPS_MAX - self._lookups])
                continue
            moves = [move for move in moves if move.tool != planning.DIRECTORY]
            chosen = await self._choose(picture, moves)
            if isinstance(chosen, str):
                return chosen
            await self._go(chosen)

    def _moves(self, picture: Picture, wishes: Wishes) -> list[Move]:
        return planning.moves(Known(picture, self._offered, frozenset(self._asked), wishes))

    async def _choose(self, picture: Picture, moves: Sequence[Move]) -> Move | str:
        """The next move, or why there is none."""
        interactive = self._query.mode == "interactive"
        if interactive:  # what belongs to the second phase is offered, and done when somebody asks for it
            moves = [move for move in moves if move.phase == 1 or move.wished]
        enough = coverage.satisfied(picture)
        worthy = [
            move
            for move in moves
            if move.wished or (not enough and planning.worth(move, self._offered) >= planning.FLOOR)
        ]
        if not worthy:
            return "coverage_satisfied" if enough else "nothing_left"
        if self._rounds >= self._query.max_rounds:
            return "max_rounds"
        if interactive and self._attempts >= INTERACTIVE_HOPS:
            return "interactive"
        if self._attempts >= 2 * self._query.max_rounds + 2:
            return "attempts"
        if not self._in_time():
            return "deadline"
        payable = [move for move in worthy if self._affordable(move)]
        if not payable:
            return "budget"
        return await self._advised(picture, worthy) or payable[0]

    async def _advised(self, picture: Picture, moves: Sequence[Move]) -> Move | str | None:
        if self._chooser is None or self._chooser.given_up:
            return None
        context = replace(self._context, deadline_s=self._hop_deadline_s(tools.TIMEOUT_S), budget_micros=self._left())
        choice = await self._chooser.choose(
            picture, moves, self._affordable, context, self._query.max_rounds - self._rounds
        )
        if choice == STOP:
            return "planner"
        if isinstance(choice, Move) and not self._affordable(choice):  # its own advice has cost something meanwhile
            return None
        return choice

    async def _look_up(self, lookups: Sequence[Move]) -> None:
        """All questions to our own records that there are just now, as one hop."""
        found, cost, outcome, ms = EMPTY, 0, "no_match", 0
        for move in lookups:
            hop = await self._use(move)
            self._asked.add(move.key)
            self._lookups += 1
            found, cost, ms = graph.merge(found, hop.found), cost + hop.cost_micros, ms + hop.ms
            if hop.outcome == "match":
                outcome = "match"
            elif not hop.answered and outcome == "no_match" and hop.outcome != "skipped":
                outcome = hop.outcome
        whole = Hop(outcome, found, cost, "local_directory" if outcome == "match" else "", ms=ms)
        await self._merge(lookups[0], whole)

    async def _go(self, move: Move) -> None:
        self._asked.add(move.key)
        self._attempts += 1
        self._context.progress(move.tool)
        await self._merge(move, await self._use(move))

    async def _use(self, move: Move) -> Hop:
        tool = self._registry[planning.ASKS[move.tool]]
        context = replace(
            self._context,
            deadline_s=self._hop_deadline_s(tool.timeout_s),
            budget_micros=self._left(),
            session=None,
            progress=_nothing,
        )
        firm = self._lead.company or self._lead.domain
        asked = Asked(move.tool, self._rounds + 1, _ms(self._context), firm, self._lead.domain)
        # By what it comes to and not by its number: whatever else is decided after a crash, this is not bought again.
        name = f"hop/{tool.asks}:{context.keyed(move.key)}"
        return await tools.use(tool, move.question, asked, context, name, anew=self._query.refresh)

    async def _merge(self, move: Move, hop: Hop) -> None:
        self._cost += hop.cost_micros
        status = {"match": "merged"}.get(hop.outcome, hop.outcome)
        told = _Told(len(self._hops) + 1, move.tool, move.why, hop, status, self._projected(0))
        before = _counted(await self._look())
        if hop.outcome == "match":
            self._graph = graph.merge(self._graph, hop.found)
            self._picture = None
            if tools.counts(move.tool):
                self._rounds += 1
            after = _counted(await self._look())
            told.added = {kind: after[kind] - before[kind] for kind in after if after[kind] > before[kind]}
        self._hops.append(told)

    async def _look(self) -> Picture:
        """Off the loop: it loads tables the first time, and compares names with names."""
        if self._picture is None:
            if self._context.hides is not None:
                self._graph = await asyncio.to_thread(hiding.without, self._graph, self._context.hides)
                self._before = graph.common(self._before, self._graph)
            self._picture = await asyncio.to_thread(draw, self._graph, self._lead)
        return self._picture

    # time and money

    @property
    def _spent(self) -> int:
        return self._cost + (self._chooser.cost_micros if self._chooser else 0)

    def _projected(self, more_micros: int) -> int:
        """What the call would be charged with so much more cost, whatever its budget."""
        return self._price.charge_micros(
            self._spent + more_micros, 10**15,
            earlier_cost_micros=self._earlier.cost_micros, earlier_charged_micros=self._earlier.charged_micros,
        )  # fmt: skip

    def _affordable(self, move: Move) -> bool:
        return self._projected(self._offered[move.tool].cost_micros) <= self._context.at_most_micros

    def _left(self) -> int:
        """What vendors may still take."""
        return max(0, self._context.budget_micros - self._spent)

    def _in_time(self) -> bool:
        return self._context.now() + HOP_LEAST_S + MARGIN_S < self._context.deadline_s

    def _hop_deadline_s(self, timeout_s: float) -> float:
        return min(self._context.now() + timeout_s, self._context.deadline_s - MARGIN_S)

    def _elapsed_ms(self) -> int:
        return max(0, round((self._context.now() - self._begun_s) * 1000))

    # what is told and kept

    def _kept(self, matched: bool, labels: Sequence[str]) -> bytes:
        """What was found for nothing is remembered, so that it is not bought again, and is still to be told."""
        told = self._graph if matched else self._before
        rest = Graph(self._graph.statements - told.statements, self._graph.sources)
        return orjson.dumps(
            {
                "version": STATE_VERSION,
                "told": graph.pack(told),
                "untold": graph.pack(rest if rest.statements else EMPTY),
                "asked": sorted(self._asked),
                "labels": list(labels),
            }
        )

    def _data(
        self, picture: Picture, found: Mapping[str, Sequence[str]], stop: str, wishes: Wishes, left: Sequence[Move]
    ) -> dict[str, Json]:
        interactive = self._query.mode == "interactive"
        missing = self._gaps(picture, stop, wishes)
        session = self._context.session
        return {
            "schema": SCHEMA,
            "session_id": "ls_" + (self._context.charge_id.rpartition("_")[2] or digest("session")),
            "chat_session_id": session.id if session is not None else None,
            "mode": self._query.mode,
            "input": self._lead.told(),
            "backfill": {
                **report.backfill(picture, self._known),
                "summary_markdown": coverage.summary(picture),
            },
            "found": {kind: len(values) for kind, values in found.items()},
            "coverage": coverage.coverage(picture),
            "gaps": missing,
            "dig_deeper": self._buttons(left) if interactive else None,
            "suggested_user_prompts": coverage.suggested_prompts(missing) if interactive else None,
            "session": {
                "planner": self._planned_by(),
                "rounds_used": self._rounds,
                "max_rounds": self._query.max_rounds,
                "stop_reason": stop,
                "budget_usd": format_usd(self._query.budget_usd or self._context.at_most_micros),
                "budget_usd_effective": format_usd(self._context.at_most_micros),
                "projected_charge_usd": format_usd(min(self._projected(0), self._context.at_most_micros))
                if found
                else format_usd(0),
                "elapsed_ms": self._elapsed_ms(),
                "hops": [self._hop_told(told) for told in self._hops],
            },
        }

    def _planned_by(self) -> str:
        if self._chooser is None:
            return "rules"
        return "rules(fallback)" if self._chooser.given_up else "llm"

    def _gaps(self, picture: Picture, stop: str, wishes: Wishes) -> list[dict[str, Json]]:
        missing = coverage.gaps(picture)
        missing += [coverage.gap("PROMPT_NOT_UNDERSTOOD") for _ in wishes.unknown[:1]]
        if any(told.hop.outcome in ("failed", "timeout", "lost") for told in self._hops):
            missing.append(coverage.gap("TOOL_FAILED"))
        if stop == "budget":
            missing.append(coverage.gap("BUDGET_SPENT"))
        return missing

    def _buttons(self, left: Sequence[Move]) -> list[dict[str, Json]]:
        payable = [move for move in left if move.tool != planning.DIRECTORY]
        return [
            {
                "id": "dd_" + digest(move.key),
                "label": move.label,
                "tool": move.tool,
                "est_charge_usd": f"0.00-{self._estimate_usd(self._offered[move.tool])}",
                "est_rounds": 1,
            }
            for move in payable[:BUTTONS_MAX]
        ]

    def _estimate_usd(self, offered: Offered) -> str:
        more = self._projected(offered.cost_micros) - self._projected(0)
        return f"{max(0, more) / _MILLION:.2f}"

    def _hop_told(self, told: _Told) -> dict[str, Json]:
        costs = {
            "cogs_usd": format_usd(told.hop.cost_micros),
            "projected_charge_usd": format_usd(told.projected_micros),
        }
        return {
            "n": told.n,
            "tool": told.tool,
            "provider": told.hop.provider or None,
            "why": told.why,
            "status": told.status,
            "cache_hit": told.hop.cache_hit,
            "added": dict(told.added),
            "ms": told.hop.ms,
            **(costs if self._settings.show_costs else {}),
        }


def _state(session: Session) -> Mapping[str, Json]:
    """What was kept of the calls before."""
    kept = orjson.loads(session.state) if session.state else {}
    if kept.get("version") != STATE_VERSION:  # of another version of ours: begun anew
        return {"told": graph.pack(EMPTY), "untold": graph.pack(EMPTY), "asked": [], "labels": []}
    found: Mapping[str, Json] = kept
    return found


def _counted(picture: Picture) -> dict[str, int]:
    return {
        "entities": len(picture.nodes),
        "contacts": len(picture.contacts),
        "phones": len(picture.phones),
        "emails": len(picture.emails),
    }


def _ms(context: Context) -> int:
    return int(context.now() * 1000)


def _nothing(phase: str) -> None:
    pass
