"""Serper: Google's results by key, whose `knowledgeGraph` and `places` are records. serper.dev.

An empty account is a 400 that says "Not enough credits".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from upstreams.provider import ErrorClass, HttpAsk, Line, ProviderTerms, Reply, failed
from upstreams.providers.search import Query, Record, Results, answered, found, hits, record
from upstreams.providers.tolerant import table, tables

NAME: Final = "serper"
URL: Final = "https://google.serper.dev"


@dataclass(frozen=True, slots=True)
class Serper:
    """upstreams.provider.Provider[Query, Results]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = "google"

    def asks(self, question: Query, /) -> HttpAsk | None:
        asked = {"q": question.text, "num": question.count, "gl": "us"}
        headers = {"Content-Type": "application/json", "X-API-KEY": self.key}
        return HttpAsk(f"{self.url}/search", "POST", headers, orjson.dumps(asked))

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Results]:
        if status == 400 and b"credits" in body.lower():
            return failed(ErrorClass.QUOTA)
        answer = answered(status, body)
        if isinstance(answer, Reply):
            return answer
        if not answer.keys() & {"organic", "knowledgeGraph", "places", "searchParameters"}:
            return failed(ErrorClass.SHAPE)
        return found(hits(answer.get("organic"), question, "link"), tuple(_records(answer)))


def _records(answer: Mapping[str, Any]) -> Iterator[Record]:
    for place in (table(answer.get("knowledgeGraph")), *tables(answer.get("places"))):
        more = table(place.get("attributes"))
        phone = place.get("phoneNumber") or place.get("phone") or more.get("Phone")
        yield from record(place, phone, place.get("address") or more.get("Address"), place.get("website"))
