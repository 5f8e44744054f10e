"""OpenCorporates v0.4: registered companies of any jurisdiction (GET /v0.4/companies/search).

Documented at api.opencorporates.com. Not free any more: a token is required, and its place is the query. 401 and 403
are a wrong token as well as an account over its quota.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from upstreams.firms import Firm, FirmQuestion, Firms
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import Source
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import table, tables, text

NAME: Final = "open_corporates"
URL: Final = "https://api.opencorporates.com"
_OFFICIAL: Final = 0.9


@dataclass(frozen=True, slots=True)
class OpenCorporates:
    """upstreams.provider.Provider[FirmQuestion, Firms]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: FirmQuestion, /) -> HttpAsk | None:
        if not question.name:
            return None
        query = {"q": question.name, "per_page": "10", "api_token": self.key}
        if question.state:
            query["jurisdiction_code"] = f"us_{question.state.lower()}"
        return HttpAsk(f"{self.url}/v0.4/companies/search?{urlencode(query)}")

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
        results = table(table(answer).get("results")).get("companies")
        if not isinstance(results, list):
            return failed(ErrorClass.SHAPE)
        firms = tuple(filter(None, (_firm(table(each.get("company"))) for each in tables(results))))
        return Reply(Outcome.MATCH if firms else Outcome.NO_MATCH, Firms(firms))


def _firm(record: Mapping[str, Any]) -> Firm | None:
    name, number = text(record.get("name")), text(record.get("company_number"))
    if not name:
        return None
    jurisdiction = text(record.get("jurisdiction_code")).lower()
    source = Source(NAME, f"{NAME}#{jurisdiction}/{number or '-'}")
    inactive = tolerant.truth(record.get("inactive"))
    told = text(record.get("current_status")).lower()
    return Firm(
        source=source,
        name=name,
        aliases=tuple(filter(None, (text(each.get("company_name")) for each in tables(record.get("previous_names"))))),
        addresses=tolerant.some(
            [tolerant.an_address(source, _OFFICIAL, whole=record.get("registered_address_in_full"))]
        ),
        identifiers={"open_corporates": f"{jurisdiction}/{number}"} if number else {},
        status=told or (None if inactive is None else "inactive" if inactive else "active"),
        jurisdiction=jurisdiction.replace("_", "-").upper() or None,
        founded=text(record.get("incorporation_date")) or None,
        score=_OFFICIAL,
    )
