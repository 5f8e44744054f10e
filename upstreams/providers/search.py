"""Search engines: a question in words -> addresses of pages, and of some a record of the firm itself.

What is common to them: what they are asked, what they answer, and how that is read for what is there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from upstreams.http_api.answers import Unusable, read_json
from upstreams.provider import ErrorClass, Outcome, Quota, Reply, by_status, failed
from upstreams.providers.tolerant import tables, text

HITS_MAX: Final = 20
RECORDS_MAX: Final = 10
_URL_MAX: Final = 2048


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for, in words, and how many pages are wanted."""

    text: str = field(repr=False)
    count: int = 10


@dataclass(frozen=True, slots=True)
class Hit:
    """A page that may be about it."""

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
    """Pages, best first, each once; and records."""

    hits: tuple[Hit, ...] = ()
    records: tuple[Record, ...] = ()


def answered(status: int, body: bytes) -> dict[str, Any] | Reply[Results]:
    """The JSON object of a 200, or what anything else comes to."""
    refused = by_status(status)
    if refused is not None:
        return refused
    try:
        answer = read_json(body)
    except Unusable:
        return failed(ErrorClass.SHAPE)
    return answer if isinstance(answer, dict) else failed(ErrorClass.SHAPE)


def found(
    hits: tuple[Hit, ...], records: tuple[Record, ...] = (), *, cost: int | None = None, quota: Quota | None = None
) -> Reply[Results]:
    outcome = Outcome.MATCH if hits or records else Outcome.NO_MATCH
    return Reply(outcome, Results(hits, records[:RECORDS_MAX]), cost_micros=cost, quota=quota)


def hits(value: object, question: Query, key: str = "url") -> tuple[Hit, ...]:
    """Pages in the engine's order; `key` is where it has their address."""
    pages: dict[str, Hit] = {}
    for each in tables(value):
        address = url(each.get(key))
        if address:
            pages.setdefault(address, Hit(address, text(each.get("title"))))
    return tuple(pages.values())[: min(max(question.count, 1), HITS_MAX)]


def url(value: object) -> str:
    """A web address, "" for anything else."""
    address = value.strip() if isinstance(value, str) else ""
    return address if address.startswith(("http://", "https://")) and len(address) <= _URL_MAX else ""


def record(place: Mapping[str, Any], phone: object, address: object, site: object) -> tuple[Record, ...]:
    """A record, where it names somebody."""
    name = text(place.get("title"))
    return (Record(name, text(phone), text(address), url(site)),) if name else ()
