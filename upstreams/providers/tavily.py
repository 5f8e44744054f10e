"""Tavily: a search engine by key, or keyless at a low rate. docs.tavily.com; error habits from its Python client.

432 and 433 are limits of the plan, 403 may be one too, and says so; without a key the body of a 429 tells when to come
back: {"error": {"code", "message", "window", "retry_after_seconds"}}.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import orjson

from upstreams.http_api.answers import RETRY_AFTER_MAX_S, Unusable, read_json
from upstreams.provider import ErrorClass, HttpAsk, Line, ProviderTerms, Reply, failed
from upstreams.providers.search import Query, Results, answered, found, hits
from upstreams.providers.tolerant import table

NAME: Final = "tavily"
URL: Final = "https://api.tavily.com"
_OF_THE_PLAN: Final = (b"limit", b"quota", b"plan", b"credit")


@dataclass(frozen=True, slots=True)
class Tavily:
    """upstreams.provider.Provider[Query, Results]. Without a key it asks keyless."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: Query, /) -> HttpAsk | None:
        own = {"Authorization": f"Bearer {self.key}"} if self.key else {"X-Tavily-Access-Mode": "keyless"}
        asked = {
            "query": question.text,
            "max_results": question.count,
            "search_depth": "basic",
            "topic": "general",
            "country": "united states",
        }
        return HttpAsk(f"{self.url}/search", "POST", {"Content-Type": "application/json", **own}, orjson.dumps(asked))

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Results]:
        if status == 403 and any(word in body.lower() for word in _OF_THE_PLAN):
            return failed(ErrorClass.QUOTA)
        answer = answered(status, body)
        if isinstance(answer, Reply):
            return replace(answer, retry_after_s=_advice(body)) if status == 429 else answer
        if not isinstance(answer.get("results"), list):
            return failed(ErrorClass.SHAPE)
        return found(hits(answer["results"], question))


def _advice(body: bytes) -> int | None:
    try:
        wait = table(table(read_json(body)).get("error")).get("retry_after_seconds")
    except Unusable:
        return None
    if isinstance(wait, bool) or not isinstance(wait, (int, float)):
        return None
    return min(max(int(wait), 1), RETRY_AFTER_MAX_S)
