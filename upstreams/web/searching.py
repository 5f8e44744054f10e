"""Search engines: a question in words -> addresses of pages, and sometimes a record of the firm itself.

    searxng   self-hosted; its `search.formats` must have json, else it answers 403
    tavily    by key, or keyless at a low rate
    brave     by key; its `locations` are records
    exa       by key; says itself what a call has cost
    serper    by key; its `knowledgeGraph` and `places` are records

Answers are read for what is there: unknown members are passed over, and a value of another type than documented is as
good as none. What is no such answer at all is a failure of this one provider.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast
from urllib.parse import urlencode

import orjson

from upstreams.http_api.answers import RETRY_AFTER_MAX_S, Unusable, cost_micros, read_json
from upstreams.leaks import Leaks
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Quota, Reply, by_status, failed

HITS_MAX: Final = 20
RECORDS_MAX: Final = 10
_TEXT_MAX: Final = 500
_URL_MAX: Final = 2048


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for, in words."""

    text: str = field(repr=False)
    count: int = 10


@dataclass(frozen=True, slots=True)
class Hit:
    """A page that may be about it, best first."""

    url: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """What the engine itself knows of a firm. Unknown is ""; `address` is in one piece, as it is written there."""

    name: str
    phone: str = ""
    address: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    hits: tuple[Hit, ...] = ()
    records: tuple[Record, ...] = ()


class Engine(Protocol):
    """upstreams.provider.Provider[Query, Results]."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def terms(self) -> ProviderTerms: ...
    @property
    def line(self) -> Line: ...
    def asks(self, question: Query, /) -> HttpAsk | None: ...
    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Results]: ...


@dataclass(frozen=True)
class _Engine:
    terms: ProviderTerms
    url: str
    key: str = field(default="", repr=False)
    line: Line = field(default_factory=Line, repr=False)

    def _headers(self, **own: str) -> dict[str, str]:
        return {"Accept": "application/json", "Content-Type": "application/json", **own}


@dataclass(frozen=True)
class Searxng(_Engine):
    name: str = "searxng"
    family: str = "searxng"

    def asks(self, question: Query) -> HttpAsk:
        asked = {"q": question.text, "format": "json", "pageno": "1", "categories": "general", "language": "en"}
        return HttpAsk(f"{self.url}/search?{urlencode(asked)}", headers={"Accept": "application/json"})

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes) -> Reply[Results]:
        answer = _answer(status, body)
        if isinstance(answer, Reply):
            return answer
        if not isinstance(answer.get("results"), list):
            return failed(ErrorClass.SHAPE)
        return _reply(_hits(answer["results"], question))


@dataclass(frozen=True)
class Tavily(_Engine):
    """Without a key it asks keyless."""

    name: str = "tavily"
    family: str = "tavily"

    def asks(self, question: Query) -> HttpAsk:
        own = {"Authorization": f"Bearer {self.key}"} if self.key else {"X-Tavily-Access-Mode": "keyless"}
        asked = {
            "query": question.text,
            "max_results": question.count,
            "search_depth": "basic",
            "topic": "general",
            "country": "united states",
        }
        return HttpAsk(f"{self.url}/search", "POST", self._headers(**own), orjson.dumps(asked))

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes) -> Reply[Results]:
        if status in (403, 429):
            reply = failed(ErrorClass.QUOTA if status == 403 and _told_quota(body) else _class(status))
            return Reply(reply.outcome, error=reply.error, retry_after_s=_advice(body))
        answer = _answer(status, body)
        if isinstance(answer, Reply):
            return answer
        if not isinstance(answer.get("results"), list):
            return failed(ErrorClass.SHAPE)
        return _reply(_hits(answer["results"], question))


@dataclass(frozen=True)
class Brave(_Engine):
    name: str = "brave"
    family: str = "brave"

    def asks(self, question: Query) -> HttpAsk:
        asked = {"q": question.text[:400], "count": str(min(question.count, 20)), "country": "US"}
        headers = {"Accept": "application/json", "X-Subscription-Token": self.key}
        return HttpAsk(f"{self.url}/res/v1/web/search?{urlencode(asked)}", headers=headers)

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes) -> Reply[Results]:
        answer = _answer(status, body)
        quota = _quota(headers)
        if isinstance(answer, Reply):
            return Reply(answer.outcome, error=answer.error, quota=quota)
        if not answer.keys() & {"web", "query", "type", "locations", "mixed"}:
            return failed(ErrorClass.SHAPE)
        hits = _hits(_member(answer, "web").get("results"), question)
        return _reply(hits, tuple(_brave_places(_member(answer, "locations").get("results"))), quota=quota)


def _brave_places(value: object) -> Iterator[Record]:
    for place in _objects(value, RECORDS_MAX):
        address = _member(place, "postal_address")
        shown = _text(address.get("displayAddress"))
        parts = (_text(address.get(key)) for key in ("streetAddress", "addressLocality"))
        region = " ".join(filter(None, (_text(address.get(key)) for key in ("addressRegion", "postalCode"))))
        written = shown or ", ".join(filter(None, (*parts, region)))
        phone = _text(_member(place, "contact").get("telephone")) or _text(place.get("phone"))
        if name := _text(place.get("title")):
            yield Record(name, phone, written, _url(place.get("url")))


@dataclass(frozen=True)
class Exa(_Engine):
    name: str = "exa"
    family: str = "exa"

    def asks(self, question: Query) -> HttpAsk:
        asked = {"query": question.text, "type": "auto", "numResults": question.count}
        headers = self._headers(**{"x-api-key": self.key})
        return HttpAsk(f"{self.url}/search", "POST", headers, orjson.dumps(asked))

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes) -> Reply[Results]:
        answer = _answer(status, body)
        if isinstance(answer, Reply):
            return answer
        if not isinstance(answer.get("results"), list):
            return failed(ErrorClass.SHAPE)
        try:
            cost = cost_micros(answer, "/costDollars/total", -1)
        except Unusable:
            cost = -1
        return _reply(_hits(answer["results"], question), cost=cost if cost >= 0 else None)


@dataclass(frozen=True)
class Serper(_Engine):
    name: str = "serper"
    family: str = "google"

    def asks(self, question: Query) -> HttpAsk:
        headers = self._headers(**{"X-API-KEY": self.key})
        asked = {"q": question.text, "num": question.count, "gl": "us"}
        return HttpAsk(f"{self.url}/search", "POST", headers, orjson.dumps(asked))

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes) -> Reply[Results]:
        if status == 400 and b"credits" in body.lower():
            return failed(ErrorClass.QUOTA)
        answer = _answer(status, body)
        if isinstance(answer, Reply):
            return answer
        if not answer.keys() & {"organic", "knowledgeGraph", "places", "searchParameters"}:
            return failed(ErrorClass.SHAPE)
        return _reply(_hits(answer.get("organic"), question, "link"), tuple(_serper_records(answer)))


def _serper_records(answer: Mapping[str, Any]) -> Iterator[Record]:
    for each in (_member(answer, "knowledgeGraph"), *_objects(answer.get("places"), RECORDS_MAX)):
        attributes = _member(each, "attributes")
        phone = _text(each.get("phoneNumber")) or _text(each.get("phone")) or _text(attributes.get("Phone"))
        address = _text(each.get("address")) or _text(attributes.get("Address"))
        if name := _text(each.get("title")):
            yield Record(name, phone, address, _url(each.get("website")))


_ENGINES: Mapping[str, tuple[type[_Engine], str]] = {
    "searxng": (Searxng, ""),
    "tavily": (Tavily, "https://api.tavily.com"),
    "brave": (Brave, "https://api.search.brave.com"),
    "exa": (Exa, "https://api.exa.ai"),
    "serper": (Serper, "https://google.serper.dev"),
}


def engine(name: str, terms: ProviderTerms, *, url: str | None = None, key: str = "") -> Engine:
    """The engine of this name, at its own address where no other is named."""
    kind, home = _ENGINES[name]
    made: Any = kind(terms, (url or home).rstrip("/"), key, Line(Leaks((key,))))
    return cast("Engine", made)


# Reading


def _answer(status: int, body: bytes) -> dict[str, Any] | Reply[Results]:
    refused = by_status(status)
    if refused is not None:
        return refused
    try:
        answer = read_json(body)
    except Unusable:
        return failed(ErrorClass.SHAPE)
    return answer if isinstance(answer, dict) else failed(ErrorClass.SHAPE)


def _class(status: int) -> ErrorClass:
    reply = by_status(status)
    return (reply.error if reply is not None else None) or ErrorClass.SHAPE


def _reply(
    hits: tuple[Hit, ...], records: tuple[Record, ...] = (), *, cost: int | None = None, quota: Quota | None = None
) -> Reply[Results]:
    outcome = Outcome.MATCH if hits or records else Outcome.NO_MATCH
    return Reply(outcome, Results(hits, records), cost_micros=cost, quota=quota)


def _hits(value: object, question: Query, key: str = "url") -> tuple[Hit, ...]:
    """Pages in the engine's order, each once."""
    found: dict[str, Hit] = {}
    for each in _objects(value, HITS_MAX):
        url = _url(each.get(key))
        if url:
            found.setdefault(url, Hit(url, _text(each.get("title"))))
    return tuple(found.values())[: max(question.count, 1)]


def _objects(value: object, most: int) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value[:most] if isinstance(each, dict))


def _member(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    member = value.get(key)
    return member if isinstance(member, dict) else {}


def _text(value: object) -> str:
    return " ".join(value.split())[:_TEXT_MAX] if isinstance(value, str) else ""


def _url(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return text if text.startswith(("http://", "https://")) and len(text) <= _URL_MAX else ""


def _told_quota(body: bytes) -> bool:
    return any(word in body.lower() for word in (b"limit", b"quota", b"plan", b"credit"))


def _advice(body: bytes) -> int | None:
    """Tavily tells without a key in its body when to come back."""
    try:
        answer = read_json(body)
    except Unusable:
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    wait = error.get("retry_after_seconds") if isinstance(error, dict) else None
    if isinstance(wait, bool) or not isinstance(wait, (int, float)):
        return None
    return min(max(int(wait), 1), RETRY_AFTER_MAX_S)


def _quota(headers: Mapping[str, str]) -> Quota | None:
    """Brave's pairs: "1, 14523" is what is left in this second, and in this month."""
    left, most = (headers.get(f"x-ratelimit-{name}", "").rpartition(",")[2].strip() for name in ("remaining", "limit"))
    if not (left.isascii() and left.isdigit() and len(left) < 16):
        return None
    return Quota(int(left), int(most) if most.isascii() and most.isdigit() and 0 < len(most) < 16 else None)
