"""A scripted world for lead sessions: tools that answer from a table, and twelve invented leads.

    world = World()                     # every tool of the registry, each with its cost
    outcome = await world.run({"company": "Sample Window Care LLC", ...})
    world.journal                       # what was asked, in order: (asks, question)

Answers have the shapes of the operations whose tools these are. Nobody in it lives anywhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from gateway.core.catalogue import Price
from gateway.core.http import HttpResponse
from gateway.core.session import Session
from gateway.core.subject import Hides
from gateway.core.upstream import AnswerLost, Answers, Context, Failure, Match, NoMatch, Outcome
from gateway.core.vendor_call import VendorCall
from upstreams.leads.choosing import Advise
from upstreams.leads.query import LeadQuery
from upstreams.leads.session import Walk
from upstreams.leads.settings import LeadSettings
from upstreams.leads.tools import Tool

Json = Any
Question = Mapping[str, Json]

NOW_S = 1_800_000_000.0
AT = "2027-01-15T08:00:00Z"
COSTS = {"directory": 0, "person": 100_000, "phone": 20_000, "websearch": 60_000, "company": 0, "email": 30_000}


class NoNetwork:
    async def request(self, *_: object, **__: object) -> HttpResponse:
        raise AssertionError("the scripted world has no network")


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


@dataclass
class Memory:
    """A journal that outlives its session, and can lose an answer."""

    kept: dict[str, Json] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    dies_after: int = -1
    """Outcomes that are remembered before the worker dies; -1: it lives."""

    async def recall(self, key: str) -> Json | None:
        return self.kept.get(key)

    async def asking(self, key: str, *, repeatable: bool = False, cost_micros: int = 0) -> int:
        times = self.asked.get(key, 0)
        if times and not repeatable:
            raise AnswerLost(key)
        self.asked[key] = times + 1
        return times

    async def remember(self, key: str, outcome: Json) -> None:
        if self.dies_after == 0:
            raise Died
        self.dies_after -= 1
        self.kept[key] = outcome


class Died(Exception):
    """The worker is gone."""


@dataclass
class World:
    """`answers[asks](question)` -> what a tool says; a tool that is not in it finds nothing."""

    answers: dict[str, Callable[[Question], Outcome]] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    """Tools that are not configured."""
    costs: dict[str, int] = field(default_factory=lambda: dict(COSTS))
    settings: LeadSettings = field(default_factory=lambda: LeadSettings(show_costs=True))
    journal: list[tuple[str, Question]] = field(default_factory=list)
    allowed: list[tuple[str, int]] = field(default_factory=list)
    """What each of them was allowed to take, in micro-USD."""
    advise: Advise | None = None
    repeatable: bool = True
    bought: list[VendorCall] = field(default_factory=list)

    @property
    def price(self) -> Price:
        return Price(
            self.settings.price_micros, metered=True, markup_percent=self.settings.markup_percent,
            ceiling_micros=self.settings.ceiling_micros,
        )  # fmt: skip

    def tools(self) -> dict[str, Tool]:
        return {
            asks: Tool(
                asks,
                self._fulfil(asks),
                Anything,
                cost,
                repeatable=self.repeatable,
                operation="" if asks == "directory" else f"enrich/{asks}",
            )
            for asks, cost in self.costs.items()
            if asks not in self.without
        }

    def _fulfil(self, asks: str) -> Callable[..., Any]:
        async def fulfil(query: Anything, context: Context) -> Outcome:
            question = query.model_dump()
            self.journal.append((asks, question))
            self.allowed.append((asks, context.budget_micros))
            answer = self.answers.get(asks)
            outcome = answer(question) if answer else NoMatch()
            if isinstance(outcome, Failure) or outcome.cost_micros:
                return outcome
            cost = self.costs[asks]
            if isinstance(outcome, Match):
                return Match(outcome.data, outcome.metadata, cost)
            return NoMatch(cost_micros=cost)

        return fulfil

    async def run(
        self,
        lead: Mapping[str, Json],
        *,
        session: Session | None = None,
        journal: Memory | None = None,
        now: Callable[[], float] = lambda: NOW_S,
        deadline_s: float = NOW_S + 180,
        at_most_micros: int | None = None,
        charge_id: str = "chg_example",
        hides: Hides | None = None,
        answers: Answers | None = None,
        **more: Json,
    ) -> Outcome:
        model = LeadQuery.of(
            region="US", base_micros=self.settings.price_micros, ceiling_micros=self.settings.ceiling_micros
        )
        query = model.model_validate({"lead": lead, **more})
        at_most = at_most_micros or query.budget_micros or self.settings.usual_micros
        earlier = session or Session("")
        context = Context(
            http=NoNetwork(),
            now=now,
            deadline_s=deadline_s,
            budget_micros=self.price.budget_micros(
                at_most, earlier_cost_micros=earlier.cost_micros, earlier_charged_micros=earlier.charged_micros
            ),
            at_most_micros=at_most,
            session=session,
            charge_id=charge_id,
            journal=journal,
            hides=hides,
            answers=answers,
            bought=self.bought.append,
        )
        return await Walk(query, context, self.tools(), self.settings, self.advise).run()

    def asked(self, asks: str) -> list[Question]:
        return [question for to, question in self.journal if to == asks]


def charged(world: World, outcome: Outcome, at_most_micros: int, session: Session | None = None) -> int:
    """What the flow charges for an outcome."""
    if not isinstance(outcome, Match):
        return 0
    earlier = session or Session("")
    return world.price.charge_micros(
        outcome.cost_micros, at_most_micros,
        earlier_cost_micros=earlier.cost_micros, earlier_charged_micros=earlier.charged_micros,
    )  # fmt: skip


# what is known in it


def person(
    id: str, name: str, *, phones: Any = (), emails: Any = (), place: Any = None, score: float = 0.9, **more: Any
) -> Json:
    first, _, last = name.rpartition(" ")
    return {
        "id": id,
        "name": name,
        "name_parts": {"first": first, "middle": None, "last": last, "suffix": None},
        "aliases": [],
        "phones": [{"number": n, "line_type": "mobile", "score": 0.9, "sources": ["src_1"]} for n in phones],
        "emails": [{"email": e, "score": 0.8, "sources": ["src_1"]} for e in emails],
        "addresses": [{"kind": "current", **place, "country": "US", "score": 0.85, "sources": ["src_1"]}]
        if place
        else [],
        "relatives": [],
        "employer": None,
        "title": None,
        "match_score": score,
        "matched_by": ["name"],
        **more,
    }


def people(*found: Json, provider: str = "whitepages") -> Outcome:
    """Each person of a record of its own."""
    listed, sources = [], []
    for number, each in enumerate(found, 1):
        text = f"src_{number}"
        listed.append(_sourced(each, text))
        sources.append({"id": text, "provider": provider, "record": each["id"], "retrieved_at": AT})
    return Match({"people": listed}, {"sources": sources, "providers_tried": [_tried(provider)]})


def _sourced(person: Json, source: str) -> Json:
    told = {**person}
    for field_ in ("phones", "emails", "addresses"):
        told[field_] = [{**each, "sources": [source]} for each in person[field_]]
    return told


def _tried(provider: str) -> Json:
    return {"provider": provider, "outcome": "match", "ms": 3}


def web(url: str, **found: list[Json]) -> Outcome:
    """Values by kind, all of one page; each with what it is believed and quoted as."""
    stated = {
        kind: [
            {**each, "confidence": each.get("confidence", 0.7),
             "sources": [{"id": "src_1", "url": url, "quote": each.get("quote", "as it stands there")}]}
            for each in entries
        ]
        for kind, entries in found.items()
    }  # fmt: skip
    sources = [{"id": "src_1", "provider": "web", "url": url, "record": None, "retrieved_at": AT}]
    return Match(stated, {"sources": sources, "providers_tried": [_tried("searxng")]})


def registry(name: str, number: str, **more: Json) -> Outcome:
    firm = {
        "id": f"com_{number}", "name": name, "aliases": [], "phones": [], "emails": [], "people": [],
        "identifiers": {"us-fl": number}, "match_score": 0.95, **more,
    }  # fmt: skip
    firm["addresses"] = [{**each, "sources": ["src_1"]} for each in more.get("addresses", [])]
    source = {
        "id": "src_1", "provider": "open_corporates", "record": f"open_corporates#{number}", "retrieved_at": AT,
    }  # fmt: skip
    return Match({"companies": [firm]}, {"sources": [source], "providers_tried": [_tried("open_corporates")]})


TAMPA = {"line1": "5 Example Rd", "line2": None, "city": "Tampa", "state_code": "FL", "zip": "33602"}
ERIE = {"line1": "9 Sample St", "line2": None, "city": "Erie", "state_code": "PA", "zip": "16501"}
DANA = person("P1", "Dana Sample", phones=["+18135550177"], emails=["dana@sample-window.example"], place=TAMPA)
LEE = person("P2", "Lee Sample", phones=["+18135550177"], place=TAMPA)
WINDOW = {"company": "Sample Window Care LLC", "number1": "(813) 555-0142", "street": "5 Example Rd", "city": "Tampa",
          "state": "FL", "zip": "33602", "website": "https://www.sample-window.example/",
          "contact_id": "81551343"}  # fmt: skip
SITE = "https://sample-window.example/about"


def window_web(question: Question) -> Outcome:
    if "Window" not in question["business_name"]:
        return NoMatch()
    return web(
        SITE,
        phones=[{"number": "+18135550142", "line_type": "fixed_or_mobile", "quote": "(813) 555-0142"}],
        people=[{"name": "Dana Sample", "title": "Owner", "quote": "Dana Sample, Owner"}],
        addresses=[{**TAMPA, "country": "US", "quote": "5 Example Rd, Tampa, FL 33602"}],
        emails=[{"email": "hello@sample-window.example", "quote": "hello@sample-window.example"}],
    )


def window_registry(question: Question) -> Outcome:
    if "Window" not in question["name"]:
        return NoMatch()
    return registry(
        "SAMPLE WINDOW CARE, LLC", "L00000000", status="active",
        people=[{"name": "Sample, Dana", "title": "Managing member", "phone": None, "sources": ["src_1"]}],
        addresses=[{**TAMPA, "score": 0.9}],
    )  # fmt: skip


def by_name(**known: Outcome) -> Callable[[Question], Outcome]:
    """Who is found by any part of the question: the first value that is a key."""

    def look(question: Question) -> Outcome:
        for value in question.values():
            if str(value) in known:
                return known[str(value)]
        return NoMatch()

    return look


def full() -> World:
    """Where everything is known of the window cleaners."""
    return World(
        {
            "websearch": window_web,
            "company": window_registry,
            "person": by_name(**{"Dana Sample": people(DANA), "+18135550177": people(DANA, LEE)}),
            "email": lambda question: people(
                {**DANA, "phones": [], "addresses": [], "title": "Owner"}, provider="hunter"
            ),
        }
    )


def household() -> World:
    return World({"person": by_name(**{"+18135550177": people(DANA, LEE)})})


def namesakes() -> World:
    one = person("P7", "Pat Specimen", phones=["+18145550111"], place=ERIE)
    other = person("P8", "Pat Specimen", phones=["+18145550112"], place={**ERIE, "line1": "77 Other Ave"})
    return World({"person": by_name(**{"Pat Specimen": people(one, other)})})


def quarrel() -> World:
    """A register and a page that contradict each other."""
    closed = registry("Sample Window Care LLC", "L00000000", status="dissolved", addresses=[{**TAMPA, "score": 0.9}])
    assert isinstance(closed, Match)
    name = "Sample Window Care LLC"
    listed = {
        "id": "x", "name": name, "status": "active", "match_score": 0.7, "domain": "sample-window.example",
        "phones": [{"number": "+18135550142", "score": 0.7, "sources": ["src_2"]}],
    }  # fmt: skip
    yellow = {"id": "src_2", "provider": "yellow", "record": "x", "retrieved_at": AT}
    told = Match({"companies": [*closed.data["companies"], listed]}, {"sources": [*closed.metadata["sources"], yellow]})
    return World({"company": lambda question: told, "websearch": window_web})


def far_away() -> World:
    """A firm of the very name, in another state."""
    elsewhere = registry(
        "Sample Window Care LLC", "X1", addresses=[{**ERIE, "score": 0.9}],
        phones=[{"number": "+18145550150", "score": 0.9, "sources": ["src_1"]}],
    )  # fmt: skip
    return World({"company": lambda question: elsewhere})


def directory() -> World:
    return World(
        {
            "directory": by_name(
                **{
                    "Dana Sample": people(DANA, provider="local_directory"),
                    "dana@sample-window.example": people(DANA, provider="local_directory"),
                    "5 Example Rd": people(DANA, LEE, provider="local_directory"),
                }
            )
        }
    )


LEADS: dict[str, tuple[Callable[[], World], dict[str, Json], dict[str, Json]]] = {
    "window-cleaners": (full, WINDOW, {}),
    "window-cleaners-interactive": (full, WINDOW, {"mode": "interactive"}),
    "person-and-town": (directory, {"dm_name": "Dana Sample", "City": "Tampa", "ST": "Florida"}, {}),
    "phone-of-a-household": (household, {"cell": "813.555.0177"}, {}),
    "email-alone": (directory, {"E-Mail": "Dana@Sample-Window.example"}, {}),
    "address-alone": (directory, {"address1": "5 Example Rd", "town": "Tampa", "st": "FL"}, {}),
    "sole-proprietor": (full, {"company": "Dana Sample", "city": "Tampa", "state": "FL"}, {}),
    "two-namesakes": (namesakes, {"contact": "Pat Specimen", "city": "Erie", "state": "PA"}, {}),
    "sources-that-quarrel": (quarrel, {**WINDOW, "dm_name": "Dana Sample"}, {"prompts": ["Is it still open?"]}),
    "same-name-elsewhere": (far_away, {"company": "Sample Window Care LLC", "state": "FL", "city": "Tampa"}, {}),
    "untidy-row": (
        full,
        {
            "Account Name": " Sample  Window Care LLC ", "dba": "Sample Windows", "Number1": "n/a",
            "phone2": 8135550142, "state": "Floriduh", "zip": 33602.0, "city": "Tampa",
            "Favourite colour": "blue", "tags": ["a", "b"],
            "dm_name": "unknown", "id": 7,
        },
        {"prompts": ["the owner's mobile, please", "what is their favourite colour?"]},
    ),
    "nobody-knows": (World, {"company": "Nowhere Tools Inc", "city": "Tampa", "state": "FL"}, {}),
}  # fmt: skip
