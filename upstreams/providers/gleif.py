"""GLEIF: who holds a Legal Entity Identifier (GET /api/v1/lei-records). Free, without a key, CC0; 60 questions a
minute.

Its answer is JSON:API; nobody found is an empty `data`. Regions are ISO 3166-2 (`US-FL`). No phones, no domains.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from upstreams.firms import Firm, FirmQuestion, Firms
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import Source
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import several, table, tables, text

NAME: Final = "gleif"
URL: Final = "https://api.gleif.org"
_OFFICIAL: Final = 0.9


@dataclass(frozen=True, slots=True)
class Gleif:
    """upstreams.provider.Provider[FirmQuestion, Firms]."""

    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: FirmQuestion, /) -> HttpAsk | None:
        if not question.name:
            return None
        query = {"filter[entity.legalName]": question.name, "page[size]": "10", "page[number]": "1"}
        if question.state:
            query["filter[entity.legalAddress.country]"] = "US"
        return HttpAsk(f"{self.url}/api/v1/lei-records?{urlencode(query)}")

    def read(self, question: FirmQuestion, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Firms]:
        if status == 404:
            return Reply(Outcome.NO_MATCH, Firms())
        refused = by_status(status)
        if refused is not None:
            return refused
        try:
            answer = read_json(body)
        except Unusable:
            return failed(ErrorClass.SHAPE)
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            return failed(ErrorClass.SHAPE)
        firms = tuple(filter(None, (_firm(table(record.get("attributes"))) for record in tables(answer["data"]))))
        return Reply(Outcome.MATCH if firms else Outcome.NO_MATCH, Firms(firms))


def _firm(record: Mapping[str, Any]) -> Firm | None:
    entity, lei = table(record.get("entity")), text(record.get("lei"))
    name = text(table(entity.get("legalName")).get("name"))
    if not name:
        return None
    source = Source(NAME, f"{NAME}#{lei or '-'}")
    return Firm(
        source=source,
        name=name,
        aliases=tuple(filter(None, (text(each.get("name")) for each in tables(entity.get("otherNames"))))),
        addresses=tolerant.some(
            _address(table(entity.get(member)), source) for member in ("headquartersAddress", "legalAddress")
        ),
        identifiers={"lei": lei} if lei else {},
        status=text(entity.get("status")).lower() or None,
        jurisdiction=text(entity.get("jurisdiction")) or None,
        founded=text(entity.get("creationDate"))[:10] or None,
        score=_OFFICIAL,
    )


def _address(record: Mapping[str, Any], source: Source) -> Any:
    lines = [text(line) for line in several(record.get("addressLines"))]
    return tolerant.an_address(
        source, _OFFICIAL, line1=next(iter(lines), ""), line2=", ".join(lines[1:]), city=record.get("city"),
        state=text(record.get("region")).removeprefix("US-"), zip=record.get("postalCode"),
        country=record.get("country"),
    )  # fmt: skip
