"""People by phone number, name, email or address, out of the operator's own directory.

Where a look-up runs: one by number or email is a probe of an index and takes less than 0.1 ms, about what handing it
to a thread and back costs, so it runs on the event loop. One by name or street reads and scores up to a thousand
rows, which takes milliseconds now and then: it runs on a thread of its own, with its own connection to the file. The
tables of free phone and ZIP facts take half a second to load, on that thread too, when the first call needs them.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, TypeVar

from gateway.core.catalogue import Operation, Price
from gateway.core.money import format_usd
from gateway.core.upstream import Context, Failure, Match, NoMatch, Offering, Outcome
from upstreams.directory import phones, places
from upstreams.directory.database import DirectoryError
from upstreams.directory.lookup import Directory
from upstreams.directory.matching import Found, Hit, NotFound, Query, Row, Verdict, threshold
from upstreams.directory.settings import DirectorySettings
from upstreams.person import ANSWER, PersonQuery, PhoneQuery

_T = TypeVar("_T")
_R = TypeVar("_R")

_PEOPLE_MAX = 15
"""People in one answer; how many there are stands in the metadata."""
_TIMEOUT_S = 10.0
_PROVIDER = "local_directory"


class People:
    """The upstream of `enrich/phone` and `enrich/person`; both are offline while there is no directory file."""

    name = "people"

    def __init__(self, settings: DirectorySettings) -> None:
        self._settings = settings
        self.operations = (_phone_operation(settings), _person_operation(settings))
        """Both, whether on sale or not."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="directory")
        self._on_loop: Directory | None = None
        self._on_thread: Directory | None = None
        self._loaded: set[Callable[..., Any]] = set()

    def offerings(self) -> Sequence[Offering]:
        if not self._settings.path.exists():
            return ()
        return tuple(Offering(operation, self._fulfil) for operation in self.operations)

    def offline(self) -> Sequence[Operation]:
        return () if self.offerings() else self.operations

    def available(self, operation_id: str, now_s: float) -> int | None:
        """A file beside us needs no rest."""
        return None

    async def start(self) -> None:
        """Opens the directory. Raises DirectoryError where the file is none."""
        if self.offerings():
            self._on_loop = Directory(self._settings.path, self._settings.rules)
            self._on_thread = Directory(self._settings.path, self._settings.rules)

    async def close(self) -> None:
        self._thread.shutdown(wait=True)
        for directory in (self._on_loop, self._on_thread):
            if directory is not None:
                directory.close()
        self._on_loop = self._on_thread = None

    async def _fulfil(self, question: PhoneQuery | PersonQuery, context: Context) -> Outcome:
        started_s = context.now()
        query = await self._first_off_loop(_query, question)
        facts: dict[str, Any] = {}
        if query.phone:
            facts["phone"] = await self._first_off_loop(phones.facts, query.phone)
        if query.zip:
            facts["zip"] = await self._first_off_loop(places.zip_facts, query.zip)
        try:
            verdict = await self._find(query)
        except DirectoryError:
            # Not a miss: nobody looked. The operator finds the reason by `faregate check`.
            return Failure("the directory cannot be read just now", retry_after_s=60)
        people, sources = [], _Sources()
        if isinstance(verdict, Found):
            people = await self._first_off_loop(_people, (verdict, sources))
        metadata = self._metadata(query, verdict, facts, sources, context.now() - started_s)
        return Match({"people": people}, metadata) if people else NoMatch({"people": []}, metadata)

    async def _find(self, query: Query) -> Verdict:
        assert self._on_loop is not None, "start() comes first"
        assert self._on_thread is not None
        if query.mode in ("reverse_phone", "email"):
            return self._on_loop.find(query)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._on_thread.find, query)

    async def _first_off_loop(self, work: Callable[[_T], _R], argument: _T) -> _R:
        """Quick work whose first call loads tables for half a second: that one goes to the thread."""
        if work in self._loaded:
            return work(argument)
        result = await asyncio.get_running_loop().run_in_executor(self._thread, work, argument)
        self._loaded.add(work)
        return result

    def _metadata(
        self, query: Query, verdict: Verdict, facts: Mapping[str, Any], sources: "_Sources", elapsed_s: float
    ) -> dict[str, Any]:
        """What is told beside the people. On a miss nothing in it speaks of anybody: only of the question."""
        count = len(verdict.people) if isinstance(verdict, Found) else 0
        elapsed_ms = max(0, round(elapsed_s * 1000))
        outcome = "match" if count else "no_match"
        return {
            "query_mode": query.mode,
            **({"reason": verdict.reason} if isinstance(verdict, NotFound) and verdict.reason else {}),
            "match": {"rule": query.rule, "score_min": threshold(query.rule, self._settings.rules), "people": count},
            **facts,
            "sources": sources.listing(),
            "providers_tried": [{"provider": _PROVIDER, "outcome": outcome, "ms": elapsed_ms, "cost_usd": "0"}],
            "elapsed_ms": elapsed_ms,
        }


def _query(question: PhoneQuery | PersonQuery) -> Query:
    return question.query()


class _Sources:
    """The rows an answer is made from, numbered as they are first quoted."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], tuple[str, Row]] = {}

    def id_of(self, row: Row) -> str:
        key = (row.source, row.record)
        if key not in self._rows:
            self._rows[key] = (f"src_{len(self._rows) + 1}", row)
        return self._rows[key][0]

    def listing(self) -> list[dict[str, str]]:
        return [
            {
                "id": id,
                "provider": _PROVIDER,
                "record": f"{row.source}#{row.record}",
                "retrieved_at": datetime.fromtimestamp(row.loaded_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for id, row in self._rows.values()
        ]


def _people(found: tuple[Found, _Sources]) -> list[dict[str, Any]]:
    verdict, sources = found
    return [_person(hits, sources) for hits in verdict.people[:_PEOPLE_MAX]]


def _person(hits: tuple[Hit, ...], sources: _Sources) -> dict[str, Any]:
    """One person of the answer, from all rows that speak of him; the best row gives the name."""
    best = hits[0].row
    parts = None if best.business else best.parts
    return {
        "id": "prs_" + blake2b(f"{best.source}#{best.record}".encode(), digest_size=10).hexdigest(),
        "name": best.name,
        "name_parts": parts and {name: value or None for name, value in parts._asdict().items()},
        "aliases": sorted({hit.row.name for hit in hits} - {best.name}),
        "age_range": None,
        "deceased": None,
        "phones": _phones(hits, sources),
        "emails": _emails(hits, sources),
        "addresses": _addresses(hits, sources),
        "relatives": [],
        "employer": next((hit.row.employer for hit in hits if hit.row.employer), None),
        "title": next((hit.row.title for hit in hits if hit.row.title), None),
        "match_score": hits[0].score,
        "matched_by": list(hits[0].by),
    }


def _phones(hits: tuple[Hit, ...], sources: _Sources) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in (hit.row for hit in hits):
        for number, current in row.phones:
            line_type, region = phones.kind(number)
            entry = found.setdefault(
                number,
                {
                    "number": number,
                    "national": phones.national(number),
                    "line_type": line_type,
                    "carrier": None,
                    "region": region,
                    "score": 0.0,
                    "sources": [],
                },
            )
            entry["score"] = max(entry["score"], 0.95 if current else 0.80)
            entry["sources"].append(sources.id_of(row))
    return list(found.values())


def _emails(hits: tuple[Hit, ...], sources: _Sources) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in (hit.row for hit in hits):
        for address in row.emails:
            entry = found.setdefault(address, {"email": address, "score": 0.70, "sources": []})
            entry["sources"].append(sources.id_of(row))
    return list(found.values())


def _addresses(hits: tuple[Hit, ...], sources: _Sources) -> list[dict[str, Any]]:
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in (hit.row for hit in hits):
        if not (row.line1 or row.city or row.zip):
            continue
        entry = found.setdefault(
            (row.street_key, places.unit_key(row.line2), row.zip or places.city_word(row.city)),
            {
                "kind": "current",
                "line1": row.line1 or None,
                "line2": row.line2 or None,
                "city": row.city or None,
                "state_code": row.state or None,
                "zip": row.zip or None,
                "country": "US",
                "score": 0.80,
                "sources": [],
            },
        )
        entry["sources"].append(sources.id_of(row))
    return list(found.values())


_EXAMPLE_PERSON = {
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


def _example(route: str, price_usd: str, score: float, by: list[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The answer that the demo's directory gives to the operation's example, but for ids and times."""
    return {
        "request_id": "req_example",
        "route": route,
        "matched": True,
        "billed": True,
        "cache_hit": False,
        "billing": {"mode": "x402_exact", "charge_id": "chg_example", "price_usd": price_usd, "charged_usd": price_usd},
        "data": {"people": [{**_EXAMPLE_PERSON, "match_score": score, "matched_by": by}]},
        "metadata": {
            **metadata,
            "sources": [
                {
                    "id": "src_1",
                    "provider": _PROVIDER,
                    "record": "demo_synthetic#2",
                    "retrieved_at": "2026-01-01T00:00:00Z",
                }
            ],
            "providers_tried": [{"provider": _PROVIDER, "outcome": "match", "ms": 1, "cost_usd": "0"}],
            "elapsed_ms": 1,
        },
    }


def _phone_operation(settings: DirectorySettings) -> Operation:
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
        ),
        timeout_s=_TIMEOUT_S,
        tags=("people", "phone", "enrichment"),
    )


def _person_operation(settings: DirectorySettings) -> Operation:
    match = {"rule": "name_address", "score_min": settings.rules.name_address_min, "people": 1}
    return Operation(
        id="enrich/person",
        method="POST",
        path="/api/v1/enrich/person",
        summary="Find a person by name and place, phone, email or address",
        description=(
            "Takes whatever is known of a person - name, phone, email, street, city, state, ZIP - and returns who "
            "fits, with phones, emails, addresses and a score. Billed on a match only. A phone alone is answered as "
            "by enrich/phone, at this price. A name that fits several people needs a place beside it."
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
        ),
        timeout_s=_TIMEOUT_S,
        tags=("people", "person", "enrichment"),
    )
