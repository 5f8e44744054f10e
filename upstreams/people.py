"""People by phone number, name, email or address: out of the operator's own directory, and from whoever he buys of.

The tables of free phone and ZIP facts take half a second to load: the first call that needs them does so on a thread.
Everything else a provider does is its own (upstreams/providers/), and who of those it finds is meant is decided by one
set of rules for all of them (upstreams/persons.py).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from gateway.core.catalogue import Operation, Price
from gateway.core.money import format_usd
from gateway.core.upstream import Context, Fulfil, Match, NoMatch, Offering, Outcome
from upstreams.directory import phones, places
from upstreams.directory.matching import Query, threshold
from upstreams.directory.settings import DirectorySettings, Rules
from upstreams.person import ANSWER, PersonQuery, PhoneQuery
from upstreams.persons import People as Found
from upstreams.persons import Sources, judge, shown, without
from upstreams.provider import AnyProvider, LocalProvider, Tried, most_micros, rest_s, waterfall
from upstreams.providers.local_directory import NAME as LOCAL
from upstreams.providers.local_directory import LocalDirectory
from upstreams.waterfalls import cost_micros, looked, nobody_looked, timeout_s, told

_T = TypeVar("_T")
_R = TypeVar("_R")


class People:
    """The upstream of `enrich/phone` and `enrich/person`; either is offline while there is nobody to ask: no directory
    file, and no other provider."""

    name = "people"

    def __init__(
        self,
        settings: DirectorySettings,
        providers: Mapping[str, AnyProvider[Query, Found]] = MappingProxyType({}),
        orders: Mapping[str, Sequence[str]] = MappingProxyType({}),
        *,
        show_costs: bool = False,
    ) -> None:
        """`orders`: by operation, the names of whom to ask; the directory alone where nothing is said."""
        self._settings = settings
        self._show_costs = show_costs
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="directory")
        self._directory = LocalDirectory(settings, self._thread)
        known: dict[str, AnyProvider[Query, Found]] = {**providers, LOCAL: self._directory}
        self._orders = {
            id: tuple(known[name] for name in orders.get(id, (LOCAL,))) for id in ("enrich/phone", "enrich/person")
        }
        timeouts = {id: timeout_s(self._orders[id]) for id in self._orders}
        self.operations = (
            _phone_operation(settings, timeouts["enrich/phone"]),
            _person_operation(settings, timeouts["enrich/person"]),
        )
        """Both, whether on sale or not."""
        self._loaded: set[Callable[..., Any]] = set()

    def offerings(self) -> Sequence[Offering]:
        return tuple(
            Offering(operation, partial(self._fulfil, operation.id))
            for operation in self.operations
            if self._asked_for(operation.id)
        )

    def offline(self) -> Sequence[Operation]:
        return tuple(operation for operation in self.operations if not self._asked_for(operation.id))

    def available(self, operation_id: str, now_s: float) -> int | None:
        return rest_s(self._asked_for(operation_id), now_s)

    async def start(self) -> None:
        """Opens the directory. Raises DirectoryError where the file is none."""
        if self._directory.is_there:
            self._directory.open()

    async def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._directory.close()

    def _asked_for(self, operation_id: str) -> tuple[AnyProvider[Query, Found], ...]:
        """Who is asked, in this order. A directory that is not there is nobody."""
        here = self._directory.is_there
        return tuple(one for one in self._orders[operation_id] if one is not self._directory or here)

    def asking(self, operation_id: str, *, local: bool) -> tuple[Fulfil, int] | None:
        """The same look-up at our own records alone, or at everybody else: what answers it, and the most that it takes.
        None: there is nobody."""
        asked = tuple(one for one in self._asked_for(operation_id) if isinstance(one, LocalProvider) is local)
        return (partial(self._look, asked, operation_id), most_micros(asked)) if asked else None

    async def _fulfil(self, operation_id: str, question: PhoneQuery | PersonQuery, context: Context) -> Outcome:
        return await self._look(self._asked_for(operation_id), operation_id, question, context)

    async def _look(
        self,
        providers: tuple[AnyProvider[Query, Found], ...],
        operation_id: str,
        question: PhoneQuery | PersonQuery,
        context: Context,
    ) -> Outcome:
        started_s, rules = context.now(), self._settings.rules
        query = await self._first_off_loop(_query, question)
        facts: dict[str, Any] = {}
        if query.phone:
            facts["phone"] = await self._first_off_loop(phones.facts, query.phone)
        if query.zip:
            facts["zip"] = await self._first_off_loop(places.zip_facts, query.zip)
        hides = context.hides

        def allowed(found: Found) -> Found:
            return found if hides is None else without(found, hides)

        found, tried = await waterfall(
            providers,
            query,
            context,
            confident=lambda found: bool(judge(query, allowed(found), rules).people),
            hop=operation_id,
        )
        tried = [one if one.found is None else replace(one, found=allowed(one.found)) for one in tried]
        if not looked(tried):
            return nobody_looked(tried)
        judged = None if found is None else judge(query, allowed(found), rules)
        sources, people = Sources(), []
        if judged is not None:
            people = await self._first_off_loop(_shown, (judged, sources))
        _add_line(facts, tried)
        answered = (judged.answers if judged else None) or query
        metadata = {
            **({"notice": self._settings.notice} if self._settings.notice else {}),
            "query_mode": answered.mode,
            **_reason(query, judged, tried, rules),
            "match": {
                "rule": answered.rule,
                "score_min": threshold(answered.rule, rules),
                "people": len(judged.people) if judged else 0,
            },
            **facts,
            "sources": sources.listing(tried[-1].call.at_ms),
            "providers_tried": told(tried, LOCAL, show_costs=self._show_costs),
            "elapsed_ms": max(0, round((context.now() - started_s) * 1000)),
        }
        if judged is None:
            return NoMatch({"people": []}, metadata, cost_micros(tried))
        return Match({"people": people}, metadata, cost_micros(tried))

    async def _first_off_loop(self, work: Callable[[_T], _R], argument: _T) -> _R:
        """Quick work whose first call loads tables for half a second: that one goes to the thread."""
        if work in self._loaded:
            return work(argument)
        result = await asyncio.get_running_loop().run_in_executor(self._thread, work, argument)
        self._loaded.add(work)
        return result


def _query(question: PhoneQuery | PersonQuery) -> Query:
    return question.query()


def _shown(judged: tuple[Found, Sources]) -> list[dict[str, Any]]:
    found, sources = judged
    return shown(found.people, sources)


def _reason(query: Query, judged: Found | None, tried: Sequence[Tried[Found]], rules: Rules) -> dict[str, str]:
    """Why nobody is meant, where somebody has a reason for it."""
    if judged is not None:
        return {}
    given = (judge(query, one.found, rules).reason for one in tried if one.found is not None)
    reason = next((reason for reason in given if reason is not None), None)
    return {"reason": reason} if reason else {}


def _add_line(facts: dict[str, Any], tried: Sequence[Tried[Found]]) -> None:
    """What providers know of the number itself stands above what the number plan says."""
    lines = [one.found.line for one in tried if one.found is not None and one.found.line is not None]
    if "phone" not in facts or not lines:
        return
    kinds = [line.line_type for line in lines if line.line_type]
    carriers = [line.carrier for line in lines if line.carrier]
    facts["phone"] = {
        **facts["phone"],
        **({"line_type": kinds[0]} if kinds else {}),
        **({"carrier": carriers[0]} if carriers else {}),
    }


EXAMPLE_PERSON = {
    "id": "prs_cfc1ee59f36ecb11719a",
    "name": "Dana Q Sample",
    "name_parts": {"first": "Dana", "middle": "Q", "last": "Sample", "suffix": None},
    "aliases": [],
    "age_range": None,
    "deceased": None,
    "phones": [
        {
            "number": "+12065550100",
            "national": "(206) 555-0100",
            "line_type": "fixed_or_mobile",
            "carrier": None,
            "region": "WA",
            "score": 0.95,
            "sources": ["src_1"],
        }
    ],
    "emails": [{"email": "dana@example.com", "score": 0.7, "sources": ["src_1"]}],
    "addresses": [
        {
            "kind": "current",
            "line1": "12 Example Ave",
            "line2": None,
            "city": "Seattle",
            "state_code": "WA",
            "zip": "98101",
            "country": "US",
            "score": 0.8,
            "sources": ["src_1"],
        }
    ],
    "relatives": [],
    "employer": None,
    "title": None,
}


def _example(
    route: str, price_usd: str, score: float, by: list[str], metadata: Mapping[str, Any], notice: str
) -> dict[str, Any]:
    """The answer that the demo's directory gives to the operation's example, but for ids and times."""
    return {
        "request_id": "req_example",
        "route": route,
        "matched": True,
        "billed": True,
        "cache_hit": False,
        "billing": {"mode": "x402_exact", "charge_id": "chg_example", "price_usd": price_usd, "charged_usd": price_usd},
        "data": {"people": [{**EXAMPLE_PERSON, "match_score": score, "matched_by": by}]},
        "metadata": {
            **({"notice": notice} if notice else {}),
            **metadata,
            "sources": [
                {
                    "id": "src_1",
                    "provider": LOCAL,
                    "record": "demo_synthetic#2",
                    "retrieved_at": "2026-01-01T00:00:00Z",
                }
            ],
            "providers_tried": [{"provider": LOCAL, "outcome": "match", "ms": 1, "cost_usd": "0"}],
            "elapsed_ms": 1,
        },
    }


def _phone_operation(settings: DirectorySettings, timeout_s: float) -> Operation:
    facts = {
        "e164": "+12065550100",
        "national": "(206) 555-0100",
        "valid": True,
        "region": "US",
        "location": "Washington State",
        "line_type": "fixed_or_mobile",
        "timezones": ["America/Los_Angeles"],
    }
    match = {"rule": "reverse_phone", "score_min": settings.rules.contact_min, "people": 1}
    return Operation(
        id="enrich/phone",
        method="POST",
        path="/api/v1/enrich/phone",
        summary="Reverse phone look-up: who has this number",
        description=(
            "Takes a phone number and returns the people and firms that have it, with their other phones, emails and "
            "addresses. Billed on a match only; a miss is free and still tells region, place, line type and time zone."
        ),
        input=PhoneQuery.of_region(settings.default_region),
        output=ANSWER,
        price=Price(settings.phone_price_micros),
        example={"phone": "+12065550100"},
        example_output=_example(
            "enrich/phone",
            format_usd(settings.phone_price_micros),
            0.95,
            ["phone"],
            {"query_mode": "reverse_phone", "match": match, "phone": facts},
            settings.notice,
        ),
        timeout_s=timeout_s,
        cacheable=True,
        tags=("people", "phone", "enrichment"),
    )


def _person_operation(settings: DirectorySettings, timeout_s: float) -> Operation:
    match = {"rule": "name_address", "score_min": settings.rules.name_address_min, "people": 1}
    return Operation(
        id="enrich/person",
        method="POST",
        path="/api/v1/enrich/person",
        summary="Find a person by name and place, phone, email or address",
        description=(
            "Takes whatever is known of a person - name, phone, email, street, city, state, ZIP - and returns who "
            "fits, with phones, emails, addresses and a score. Billed on a match only. A phone alone is answered as "
            "by enrich/phone, at this price; one that nobody has is left out where ZIP or street tell who is meant. "
            "A name that fits several people needs a place beside it."
        ),
        input=PersonQuery.of_region(settings.default_region),
        output=ANSWER,
        price=Price(settings.person_price_micros),
        example={"name": "Dana Q Sample", "city": "Seattle", "state_code": "WA"},
        example_output=_example(
            "enrich/person",
            format_usd(settings.person_price_micros),
            0.95,
            ["name", "city", "state"],
            {"query_mode": "name_address", "match": match},
            settings.notice,
        ),
        timeout_s=timeout_s,
        cacheable=True,
        tags=("people", "person", "enrichment"),
    )
