"""Hunter v2: the address somebody has at a firm (GET /v2/email-finder).

Documented at hunter.io/api-documentation. The key goes into `X-API-KEY`. Nothing found is a 200 with `email: null`, or
a 404, and free. Its 403 is too many calls a second, its 429 the month's quota: the reverse of everybody else's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from upstreams.directory.names import Name
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import People, Person, PersonAtFirm, Source
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import share, table, text

NAME: Final = "hunter"
URL: Final = "https://api.hunter.io"
_OTHER: Final = 0.6


@dataclass(frozen=True, slots=True)
class Hunter:
    """upstreams.provider.Provider[PersonAtFirm, People]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    score_min: float = 0.70
    """0 to 1: its own score, below which an address is a guess."""
    name: str = NAME
    family: str = NAME

    def asks(self, question: PersonAtFirm, /) -> HttpAsk | None:
        where = {"domain": question.domain} if question.domain else {"company": question.company}
        query = {**where, "first_name": question.name.first, "last_name": question.name.last}
        if not all(query.values()):
            return None
        return HttpAsk(f"{self.url}/v2/email-finder?{urlencode(query)}", headers={"X-API-KEY": self.key})

    def read(self, question: PersonAtFirm, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[People]:
        match status:
            case 403:
                return failed(ErrorClass.RATE)
            case 429:
                return failed(ErrorClass.QUOTA)
            case 404:
                return Reply(Outcome.NO_MATCH, People())
        refused = by_status(status)
        if refused is not None:
            return refused
        try:
            answer = read_json(body)
        except Unusable:
            return failed(ErrorClass.SHAPE)
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
            return failed(ErrorClass.SHAPE)
        data = answer["data"]
        score = share(data.get("score"), 100, 0.0)
        source = Source(NAME, f"{NAME}#{text(data.get('domain')) or question.domain or '-'}")
        email = tolerant.an_email(data.get("email"), score, source)
        if email is None or score < self.score_min or _undeliverable(data):
            # A guess below the least score, or an address that does not work, was billed as a find.
            cost = self.terms.most_micros if email is not None else None
            return Reply(Outcome.NO_MATCH, People(), cost_micros=cost)
        parts = Name(text(data.get("first_name")), "", text(data.get("last_name")))
        person = Person(
            source=source,
            name=parts.full or question.name.full,
            parts=parts if parts.last else question.name,
            phones=tolerant.unique_phones([tolerant.a_phone(data.get("phone_number"), _OTHER, source)]),
            emails=(email,),
            employer=text(data.get("company")) or None,
            title=text(data.get("position")) or None,
            score=score,
        )
        return Reply(Outcome.MATCH, People((person,)))


def _undeliverable(data: Mapping[str, object]) -> bool:
    return text(table(data.get("verification")).get("status")).lower() == "invalid"
