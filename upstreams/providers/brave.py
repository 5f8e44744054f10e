"""Brave: a search engine by key, whose `locations` are records. api-dashboard.search.brave.com/documentation.

Limits come as pairs, "1, 14523": what is left in this second, and in this month. Only successes are billed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlencode

from upstreams.provider import ErrorClass, HttpAsk, Line, ProviderTerms, Quota, Reply, failed
from upstreams.providers.search import Query, Record, Results, answered, found, hits, record
from upstreams.providers.tolerant import table, tables, text

NAME: Final = "brave"
URL: Final = "https://api.search.brave.com"
_WORDS_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Brave:
    """upstreams.provider.Provider[Query, Results]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: Query, /) -> HttpAsk | None:
        asked = {"q": question.text[:_WORDS_MAX], "count": str(min(question.count, 20)), "country": "US"}
        headers = {"Accept": "application/json", "X-Subscription-Token": self.key}
        return HttpAsk(f"{self.url}/res/v1/web/search?{urlencode(asked)}", headers=headers)

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Results]:
        answer, quota = answered(status, body), _quota(headers)
        if isinstance(answer, Reply):
            return replace(answer, quota=quota)
        if not answer.keys() & {"web", "query", "type", "locations", "mixed"}:
            return failed(ErrorClass.SHAPE)
        pages = hits(table(answer.get("web")).get("results"), question)
        return found(pages, tuple(_places(table(answer.get("locations")).get("results"))), quota=quota)


def _places(value: object) -> Iterator[Record]:
    for place in tables(value):
        address = table(place.get("postal_address"))
        street, city, state, code, shown = (
            text(address.get(key))
            for key in ("streetAddress", "addressLocality", "addressRegion", "postalCode", "displayAddress")
        )
        written = shown or ", ".join(filter(None, (street, city, f"{state} {code}".strip())))
        phone = table(place.get("contact")).get("telephone") or place.get("phone")
        yield from record(place, phone, written, place.get("url"))


def _quota(headers: Mapping[str, str]) -> Quota | None:
    left, most = (_month(headers.get(f"x-ratelimit-{name}", "")) for name in ("remaining", "limit"))
    return None if left is None else Quota(left, most)


def _month(pair: str) -> int | None:
    number = pair.rpartition(",")[2].strip()
    return int(number) if number.isascii() and number.isdigit() and len(number) < 16 else None
