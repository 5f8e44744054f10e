"""enrich/websearch: what the web, and the operator's own directory, say about a firm.

    directory   its rows of firms, free and first
    registries  public records of the firm and of who acts for it, where there are any; free, too
    search      the engines in the operator's order, until one has found anything
    pages       what was found, and of the firm's own site what leads to people and phones; guarded, robots honoured
    model       where one is configured: the pages that are about the firm, read for people and associates
    findings    what all of them state, joined, and whether it is a match

In a job the search and the model are hops of their own, bought once; the pages are one more, kept as what was found in
them, so that all that follows is the same after a crash. Pages and tables are read on a thread: they take CPU.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import structlog

from gateway.core.catalogue import Operation, Price
from gateway.core.money import format_usd
from gateway.core.upstream import Context, Failure, Match, NoMatch, Offering, Outcome
from gateway.core.vendor_call import ErrorClass
from gateway.core.vendor_call import Outcome as CallOutcome
from upstreams import firms, provider
from upstreams.directory import phones, places
from upstreams.directory.database import DirectoryError
from upstreams.directory.lookup import Directory, has_firms
from upstreams.directory.matching import Row
from upstreams.directory.settings import Rules
from upstreams.firms import Firm, FirmQuestion, Firms
from upstreams.provider import AnyProvider, Tried
from upstreams.providers.local_directory import NAME as LOCAL
from upstreams.providers.search import Query, Record, Results
from upstreams.web import extraction, findings, llm, markup
from upstreams.web.extraction import Page
from upstreams.web.fetching import Fetched, Fetcher, NoPage, counted, tidy
from upstreams.web.findings import Finding, Kind, Source, Subject, Value
from upstreams.web.llm import Excerpt, Reading
from upstreams.web.question import ANSWER, WebQuery
from upstreams.web.settings import WebSettings

log = structlog.get_logger("upstreams.web")

OPERATION: Final = "enrich/websearch"
TIMEOUT_S: Final = 60.0
_OWN_PAGES_MAX: Final = 3
"""Pages of the firm's own site that are read beside those that were found."""
_QUERY_WORDS_MAX: Final = 200

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Read:
    """One page, read: what it states, and what a model may see of it."""

    source: Source
    agreement: float
    found: tuple[Finding, ...] = field(repr=False)
    text: str = field(repr=False)
    leads_on: tuple[str, ...] = field(default=(), repr=False)


class Web:
    """The upstream of `enrich/websearch`; offline while there is nobody to ask: no engine, no registry, no directory
    with firms."""

    name = "web"

    def __init__(
        self,
        settings: WebSettings,
        engines: Mapping[str, AnyProvider[Query, Results]] = MappingProxyType({}),
        order: Sequence[str] = (LOCAL,),
        registries: Mapping[str, AnyProvider[FirmQuestion, Firms]] = MappingProxyType({}),
    ) -> None:
        """`order`: the names of whom to ask. The directory and the registries that are named are asked first, wherever
        they stand."""
        self._settings = settings
        self._engines = tuple(engines[name] for name in order if name in engines)
        self._registries = tuple(registries[name] for name in order if name in registries)
        self._with_directory = LOCAL in order
        self.operation = _operation(settings)
        """Whether on sale or not."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="web")
        self._directory: Directory | None = None

    def most_micros(self, operation_id: str) -> int:
        """What one call's vendors take at the most: every engine, and every form of asking the model."""
        model = self._settings.model
        vendors = provider.most_micros((*self._registries, *self._engines))
        return vendors + (model.forms * model.terms.most_micros if model else 0)

    def offerings(self) -> Sequence[Offering]:
        asked = self._engines or self._registries or self._has_directory
        return (Offering(self.operation, self._fulfil),) if asked else ()

    def offline(self) -> Sequence[Operation]:
        return () if self.offerings() else (self.operation,)

    def available(self, operation_id: str, now_s: float) -> int | None:
        """A wait only where nobody could answer: the directory needs no rest."""
        asked = self._engines or self._registries
        return None if self._has_directory or not asked else provider.rest_s(asked, now_s)

    async def start(self) -> None:
        """Opens the directory, where there is one. Raises DirectoryError where the file is none."""
        if self._has_directory:
            path = self._settings.directory
            self._directory = await self._on_thread(lambda: Directory(path, Rules()))

    async def close(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            await self._on_thread(directory.close)
        self._thread.shutdown(wait=True)

    @cached_property
    def _has_directory(self) -> bool:
        """Whether there are firms in it, as this process has found it."""
        return self._with_directory and has_firms(self._settings.directory)

    async def _fulfil(self, query: WebQuery, context: Context) -> Outcome:
        research = _Research(self._settings, self._engines, query, context, self._on_thread)
        await research.ask_directory(self._directory)
        await research.ask_registries(self._registries)
        if self._engines:
            await research.search()
            await research.read_pages()
            await research.ask_model()
        return research.outcome()

    async def _on_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class _Research:
    """One call under way. Its parts are asked in order; nothing here raises for what a stranger sends."""

    def __init__(
        self,
        settings: WebSettings,
        engines: Sequence[AnyProvider[Query, Results]],
        query: WebQuery,
        context: Context,
        on_thread: Callable[..., Any],
    ) -> None:
        self._settings = settings
        self._engines = engines
        self._query = query
        self._subject = query.subject()
        self._context = context
        self._on_thread = on_thread
        self._started_s = context.now()
        self._findings: list[Finding] = []
        self._tried: list[Tried[Any]] = []
        self._registered: list[Tried[Any]] = []
        self._local: list[dict[str, Any]] = []
        self._results = Results()
        self._pages: list[_Read] = []
        self._counts: Mapping[str, int] = {}

    # The steps

    async def ask_directory(self, directory: Directory | None) -> None:
        if directory is None:
            return
        started_s, subject = self._context.now(), self._subject
        try:
            rows = await self._on_thread(lambda: directory.find_firms(subject.name, subject.state))
            found = await self._on_thread(lambda: [each for row in rows for each in _of_row(subject, row)])
        except DirectoryError:
            log.error("directory_unreadable")
            self._local.append({"provider": LOCAL, "outcome": "failed", "ms": self._ms(started_s)})
            return
        self._findings += found
        outcome = "match" if found else "no_match"
        self._local.append({"provider": LOCAL, "outcome": outcome, "ms": self._ms(started_s), "cost_usd": "0"})

    async def ask_registries(self, registries: Sequence[AnyProvider[FirmQuestion, Firms]]) -> None:
        """All of them: each is a witness of its own."""
        subject = self._subject
        question = FirmQuestion(name=subject.name, city=subject.city, state=subject.state)
        for registry in registries:
            tried = await provider.ask(
                registry, question, self._left(), hop="registry", confident=lambda found: bool(_meant(question, found))
            )
            self._registered.append(tried)
            if tried.found is not None:
                for firm in _meant(question, tried.found):
                    source = Source(
                        registry.name, "", registry.family, findings.REGISTRY, tried.call.at_ms / 1000,
                        firm.source.record,
                    )  # fmt: skip
                    self._findings += await self._on_thread(partial(_of_firm, subject, firm, source))

    async def search(self) -> None:
        self._context.progress("searching")
        question = Query(_words(self._subject), self._settings.pages)
        results, tried = await provider.waterfall(
            self._engines, question, self._left(), hop="search", confident=lambda found: bool(found.hits)
        )
        self._tried += tried
        best = next((one for one in tried if one.found is not None and one.found.records), None)
        self._results = results or (best.found if best is not None and best.found is not None else Results())
        for one in tried:
            if one.found is not None:
                engine = one.call.provider
                for number, record in enumerate(one.found.records, 1):
                    source = self._source_of(engine, number, record, one.call.at_ms / 1000)
                    self._findings += await self._on_thread(partial(_of_record, self._subject, record, source))

    async def read_pages(self) -> None:
        journal = self._context.journal
        kept = await journal.recall("pages") if journal is not None else None
        if kept is None:
            self._context.progress("reading")
            if journal is not None:
                await journal.asking("pages", repeatable=True)
            self._pages, self._counts = await self._fetch()
            if journal is not None:
                await journal.remember("pages", {"pages": list(map(_kept, self._pages)), "counts": dict(self._counts)})
        else:
            self._pages, self._counts = list(map(_recalled, kept["pages"])), kept["counts"]
        for page in self._pages:
            self._findings += page.found

    async def ask_model(self) -> None:
        model = self._settings.model
        shown = [
            Excerpt(page.source, page.text, page.agreement) for page in self._pages if page.agreement and page.text
        ]
        if model is None or not shown:
            return
        self._context.progress("understanding")
        reading = Reading(self._subject, llm.excerpts(shown), self._query.wish)
        for form in range(model.forms):
            asked = replace(reading, form=form)
            tried = await provider.ask(model, asked, self._left(), hop=f"model-{form}")
            self._tried.append(tried)
            if tried.found:
                self._findings += await self._on_thread(partial(llm.verified, tried.found, asked))
            if tried.call.error is not ErrorClass.REFUSED:
                return

    # Pages

    async def _fetch(self) -> tuple[list[_Read], Mapping[str, int]]:
        urls = self._urls()
        context = self._context
        async with Fetcher(
            context.http,
            now=context.now,
            deadline_s=context.deadline_s,
            timeout_s=self._settings.page_timeout_s,
            private=self._settings.private_pages,
        ) as fetcher:
            first = await fetcher.pages(urls)
            pages = await self._read(first, set())
            seen = {*urls, *(page.source.url for page in pages)}
            more = list(dict.fromkeys(url for page in pages for url in page.leads_on if url not in seen))
            second = await fetcher.pages(more[:_OWN_PAGES_MAX])
        pages += await self._read(second, {page.source.url for page in pages})
        return pages, counted([*first, *second])

    def _urls(self) -> list[str]:
        """The pages that were found, best first; the firm's own site, if it was named and not found."""
        urls = list(dict.fromkeys(filter(None, (tidy(hit.url) for hit in self._results.hits))))[: self._settings.pages]
        domain = self._subject.domain
        if domain and not any(extraction.is_own_site(self._subject, urlsplit(url).hostname or "") for url in urls):
            urls.insert(0, f"https://{domain}/")
        return urls

    async def _read(self, fetched: Sequence[Fetched | NoPage], seen: set[str]) -> list[_Read]:
        pages = []
        for each in fetched:
            if isinstance(each, Fetched) and each.url not in seen:
                seen.add(each.url)
                now_s = self._context.now()
                pages.append(await self._on_thread(partial(_read_page, self._subject, each, now_s)))
        return pages

    # What it comes to

    def outcome(self) -> Outcome:
        cost = self._cost_micros
        values = findings.joined(self._findings, self._subject)
        if self._context.hides is not None:
            values = findings.without(values, self._findings, self._subject, self._context.hides)
        if not findings.is_match(values):
            return self._nothing(cost)
        sources = _Sources()
        data: dict[str, list[dict[str, Any]]] = {kind.value: [] for kind in Kind}
        for value in values:
            data[value.kind.value].append(_told(value, sources))
        return Match(data, self._metadata(sources.listing(), len(values)), cost)

    def _nothing(self, cost: int) -> Outcome:
        """A miss is a look that found nothing; where nobody could look, it is a failure. A registry is no look at the
        web."""
        tried = self._tried if self._engines else self._registered
        looked = any(one.outcome in (CallOutcome.MATCH, CallOutcome.NO_MATCH) for one in tried)
        looked = looked or (not self._engines and any(one["outcome"] != "failed" for one in self._local))
        if not looked:
            waits = [one.retry_after_s for one in tried if one.retry_after_s is not None]
            timeout = bool(tried) and all(one.call.error is ErrorClass.TIMEOUT for one in tried)
            retry = min(waits) if waits else None
            return Failure("nobody could be asked just now", timeout=timeout, cost_micros=cost, retry_after_s=retry)
        return NoMatch({kind.value: [] for kind in Kind}, self._metadata([], 0), cost)

    def _metadata(self, sources: list[dict[str, Any]], count: int) -> dict[str, Any]:
        """What is told beside the findings. On a miss nothing in it speaks of anybody."""
        return {
            "query_mode": "web" if self._engines else "registry" if self._registered else "directory",
            "match": {"rule": "websearch", "confidence_min": findings.CONFIDENCE_MIN, "values": count},
            "pages": dict(self._counts),
            "sources": sources,
            "providers_tried": [*self._local, *(self._shown(one) for one in (*self._registered, *self._tried))],
            "elapsed_ms": self._ms(self._started_s),
        }

    def _shown(self, one: Tried[Any]) -> dict[str, Any]:
        shown: dict[str, Any] = {"provider": one.call.provider, "outcome": one.outcome.value, "ms": one.call.ms}
        if one.call.error is not None:
            shown["error"] = one.call.error.value
        if self._settings.show_costs:
            shown["cost_usd"] = format_usd(one.call.cost_micros)
        return shown

    def _source_of(self, engine: str, number: int, record: Record, at_s: float) -> Source:
        family = next((each.family for each in self._engines if each.name == engine), engine)
        return Source(engine, record.url, family, findings.RECORD, at_s, f"{engine}#{number}")

    def _left(self) -> Context:
        """What the vendors may still take."""
        return replace(self._context, budget_micros=max(0, self._context.budget_micros - self._cost_micros))

    @property
    def _cost_micros(self) -> int:
        return sum(one.call.cost_micros for one in (*self._registered, *self._tried))

    def _ms(self, since_s: float) -> int:
        return max(0, round((self._context.now() - since_s) * 1000))


def _words(subject: Subject) -> str:
    return " ".join(part for part in (subject.name, subject.city, subject.state) if part)[:_QUERY_WORDS_MAX]


# Sources -> findings. All of these run on the thread.


def _read_page(subject: Subject, fetched: Fetched, now_s: float) -> _Read:
    host = urlsplit(fetched.url).hostname or ""
    own = extraction.is_own_site(subject, host)
    weight = findings.OWN_SITE if own else findings.STRANGER
    source = Source("web", fetched.url, extraction.registrable(host), weight, now_s)
    document = extraction.spoken(markup.parse(markup.decode(fetched.body, fetched.content_type)))
    agreement = extraction.agreement_of(subject, document)
    spots = extraction.addresses_in(document) if agreement else []
    place = findings.about_place(subject, [spot.address for spot in spots])
    leads_on = extraction.links_of_own_site(subject, fetched.url, document) if own and agreement else []
    own_links = (tidy(link, fetched.url) for link in leads_on)
    return _Read(
        source,
        agreement * place,
        tuple(extraction.read(subject, Page(source, document))),
        llm.cut(document.text, llm.EXCERPT_CHARS_MAX) if agreement * place else "",
        tuple(url for url in own_links if (urlsplit(url).hostname or "") == host),
    )


def _of_record(subject: Subject, record: Record, source: Source) -> list[Finding]:
    """An engine's record of a firm, if it is this firm's."""
    agreement = subject.agrees(record.name)
    if not agreement:
        return []
    address = places.split(record.address[:200]) if record.address else places.Address()
    whole = bool(address.line1 and address.state)
    factor = agreement * findings.about_place(subject, [address] if whole else [])
    found = []
    number = phones.normalise(record.phone, "US") if record.phone else None
    if number is not None:
        found.append(extraction.phone(source, number, record.phone, factor))
    if whole:
        found.append(extraction.address(source, address, record.address, factor))
    return [each for each in found if factor]


def _meant(question: FirmQuestion, found: Firms) -> tuple[Firm, ...]:
    return firms.judge(question, found).firms


def _of_firm(subject: Subject, firm: Firm, source: Source) -> list[Finding]:
    """What a registry has of a firm that is meant: where it is, its numbers, and who acts for it."""
    spots = [places.Address(each.line1, each.line2, each.city, each.state, each.zip) for each in firm.addresses]
    factor = firm.score * findings.about_place(subject, [spot for spot in spots if spot.state])
    if not factor:
        return []
    numbers = [(phone.number, phone.number) for phone in firm.phones]
    numbers += [(each.phone, each.phone) for each in firm.officers if each.phone]
    found = [extraction.phone(source, number, quote, factor) for number, quote in dict.fromkeys(numbers)]
    for spot in spots:
        if spot.line1 and (spot.city or spot.zip):
            quote = f"{spot.line1}, {spot.city} {spot.state} {spot.zip}"
            found.append(extraction.address(source, spot, quote, factor))
    for each in firm.officers:
        quote = f"{each.name}, {each.title}" if each.title else each.name
        found += extraction.person_or_agent(source, each.name, each.title or "", quote, factor)
    return found


def _of_row(subject: Subject, row: Row) -> list[Finding]:
    """A row of the operator's directory, if it is this firm's."""
    agreement = subject.agrees(row.name)
    address = places.Address(row.line1, row.line2, row.city, row.state, row.zip)
    factor = agreement * findings.about_place(subject, [address] if row.city or row.state else [])
    if not factor:
        return []
    record = f"{row.source}#{row.record}"
    source = Source(LOCAL, "", LOCAL, findings.DIRECTORY, row.loaded_ms / 1000, record)
    found = [extraction.phone(source, number, number, factor) for number, current in row.phones if current]
    found += [each for email in row.emails for each in extraction.email(source, email, email, factor)]
    if row.line1 and (row.city or row.zip):
        found.append(extraction.address(source, address, f"{row.line1}, {row.city} {row.state} {row.zip}", factor))
    return found


# What is told


class _Sources:
    """Sources as they are first quoted."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], tuple[str, Source]] = {}

    def id_of(self, source: Source) -> str:
        key = (source.provider, source.url, source.record)
        return self._known.setdefault(key, (f"src_{len(self._known) + 1}", source))[0]

    def listing(self) -> list[dict[str, Any]]:
        return [
            {
                "id": id,
                "provider": source.provider,
                "url": source.url or None,
                "record": source.record or None,
                "retrieved_at": datetime.fromtimestamp(int(source.retrieved_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for id, source in self._known.values()
        ]


def _told(value: Value, sources: _Sources) -> dict[str, Any]:
    stated = [
        {"id": sources.id_of(each.source), "url": each.source.url or None, "quote": each.quote} for each in value.stated
    ]
    return {**value.value, "confidence": value.confidence, "sources": stated}


# What the journal keeps of pages


def _kept(page: _Read) -> dict[str, Any]:
    return asdict(page)


def _recalled(kept: Mapping[str, Any]) -> _Read:
    found = tuple(
        Finding(**{**each, "kind": Kind(each["kind"]), "source": Source(**each["source"])}) for each in kept["found"]
    )
    return _Read(Source(**kept["source"]), kept["agreement"], found, kept["text"], tuple(kept["leads_on"]))


# The operation


def _operation(settings: WebSettings) -> Operation:
    price = Price(
        settings.price_micros,
        metered=True,
        markup_percent=settings.markup_percent,
        ceiling_micros=max(settings.ceiling_micros, settings.price_micros),
    )
    return Operation(
        id=OPERATION,
        method="POST",
        path="/api/v1/enrich/websearch",
        summary="Web research on a business: phones, people, addresses, legal associates",
        description=(
            "Takes a business name, with city, state and domain if known, and returns phones, people with titles, "
            "addresses and legal associates, each with a confidence and the page and words it was found in. Billed on "
            "a match only: at least one value of confidence 0.5 from a source that agrees with the name and the state. "
            "Costs the base price, and more up to a ceiling where the search takes more."
        ),
        input=WebQuery,
        output=ANSWER,
        price=price,
        example={"business_name": "Sample Window Care LLC", "city": "Tampa", "state": "FL"},
        example_output=_example(settings.price_micros),
        timeout_s=TIMEOUT_S,
        job=True,
        cacheable=True,
        tags=("business", "web", "enrichment"),
    )


def _example(price_micros: int) -> dict[str, Any]:
    url = "https://sample-window.example/contact"

    def stated(confidence: float, quote: str) -> dict[str, Any]:
        return {"confidence": confidence, "sources": [{"id": "src_1", "url": url, "quote": quote}]}

    phone = {"number": "+18135550142", "national": "(813) 555-0142", "line_type": "fixed_or_mobile", "region": "FL"}
    address = {
        "line1": "5 Example Rd",
        "line2": None,
        "city": "Tampa",
        "state_code": "FL",
        "zip": "33602",
        "country": "US",
    }
    return {
        "request_id": "req_example",
        "route": OPERATION,
        "matched": True,
        "billed": True,
        "cache_hit": False,
        "billing": {
            "mode": "virtual_balance",
            "charge_id": "chg_example",
            "bill_up_to_usd": "1.500",
            "charged_usd": format_usd(price_micros),
        },
        "data": {
            "phones": [{**phone, **stated(0.712, "(813) 555-0142")}],
            "people": [{"name": "Dana Sample", "title": "Owner", **stated(0.525, "Dana Sample, Owner")}],
            "addresses": [{**address, **stated(0.6, "5 Example Rd, Tampa, FL 33602")}],
            "legal_associates": [],
            "emails": [],
        },
        "metadata": {
            "query_mode": "web",
            "match": {"rule": "websearch", "confidence_min": 0.5, "values": 3},
            "pages": {"read": 1},
            "sources": [
                {
                    "id": "src_1",
                    "provider": "web",
                    "url": url,
                    "record": None,
                    "retrieved_at": "2026-01-01T00:00:00Z",
                }
            ],
            "providers_tried": [{"provider": "searxng", "outcome": "match", "ms": 120}],
            "elapsed_ms": 900,
        },
    }
