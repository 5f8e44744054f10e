"""Exa: a search engine by key, which says itself what a call has cost (`costDollars.total`). docs.exa.ai."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from upstreams.http_api.answers import Unusable, cost_micros
from upstreams.provider import ErrorClass, HttpAsk, Line, ProviderTerms, Reply, failed
from upstreams.providers.search import Query, Results, answered, found, hits

NAME: Final = "exa"
URL: Final = "https://api.exa.ai"
_UNSAID: Final = -1


@dataclass(frozen=True, slots=True)
class Exa:
    """upstreams.provider.Provider[Query, Results]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: Query, /) -> HttpAsk | None:
        asked = {"query": question.text, "type": "auto", "numResults": question.count}
        headers = {"Content-Type": "application/json", "x-api-key": self.key}
        return HttpAsk(f"{self.url}/search", "POST", headers, orjson.dumps(asked))

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Results]:
        answer = answered(status, body)
        if isinstance(answer, Reply):
            return answer
        if not isinstance(answer.get("results"), list):
            return failed(ErrorClass.SHAPE)
        try:
            cost = cost_micros(answer, "/costDollars/total", _UNSAID)
        except Unusable:
            cost = _UNSAID
        return found(hits(answer["results"], question), cost=None if cost == _UNSAID else cost)
