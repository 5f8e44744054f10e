"""SearXNG: a search engine of one's own, free. docs.searxng.org/dev/search_api.html.

Its `search.formats` must have json beside html, which is not so by default: else it answers 403.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from upstreams.provider import ErrorClass, HttpAsk, Line, ProviderTerms, Reply, failed
from upstreams.providers.search import Query, Results, answered, found, hits

NAME: Final = "searxng"


@dataclass(frozen=True, slots=True)
class Searxng:
    """upstreams.provider.Provider[Query, Results]."""

    terms: ProviderTerms
    line: Line
    url: str = ""
    name: str = NAME
    family: str = NAME

    def asks(self, question: Query, /) -> HttpAsk | None:
        asked = {"q": question.text, "format": "json", "pageno": "1", "categories": "general", "language": "en"}
        return HttpAsk(f"{self.url}/search?{urlencode(asked)}", headers={"Accept": "application/json"})

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Results]:
        answer = answered(status, body)
        if isinstance(answer, Reply):
            return answer
        if not isinstance(answer.get("results"), list):
            return failed(ErrorClass.SHAPE)
        return found(hits(answer["results"], question))
