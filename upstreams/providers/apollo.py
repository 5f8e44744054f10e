"""Apollo: somebody at a firm, with the address he has there (POST /api/v1/people/match), and a firm by its domain
(GET /api/v1/organizations/enrich).

Documented at docs.apollo.io; parameters of the POST stand in its query, too. The key goes into `X-Api-Key`. A 200 is no
match by itself: `person` or `organization` may be null, and without data nothing is billed. Phones of people come by a
webhook alone, and are not asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from upstreams.directory.names import Name
from upstreams.firms import Firm, FirmQuestion, Firms, bare_domain
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import People, Person, PersonAtFirm, Source
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import first, table, text

NAME: Final = "apollo"
URL: Final = "https://api.apollo.io"
_VERIFIED: Final = 0.9
_OTHER: Final = 0.7
_LOCKED: Final = "email_not_unlocked@"
"""Stands where the plan keeps the address back."""


def _headers(key: str) -> dict[str, str]:
    return {"X-Api-Key": key, "Content-Type": "application/json", "Cache-Control": "no-cache"}


def _member(status: int, body: bytes, name: str) -> Reply[Any] | Mapping[str, Any] | None:
    """What was found; None: nothing; a Reply: it failed."""
    if status == 404:
        return None
    refused = by_status(status)
    if refused is not None:
        return refused
    try:
        answer = read_json(body)
    except Unusable:
        return failed(ErrorClass.SHAPE)
    if not isinstance(answer, dict) or name not in answer:
        return failed(ErrorClass.SHAPE)
    return table(answer[name]) or None


@dataclass(frozen=True, slots=True)
class Apollo:
    """upstreams.provider.Provider[PersonAtFirm, People]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: PersonAtFirm, /) -> HttpAsk | None:
        given = {
            "first_name": question.name.first, "last_name": question.name.last, "domain": question.domain,
            "organization_name": question.company,
        }  # fmt: skip
        query = {key: value for key, value in given.items() if value}
        return HttpAsk(f"{self.url}/api/v1/people/match?{urlencode(query)}", "POST", _headers(self.key))

    def read(self, question: PersonAtFirm, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[People]:
        record = _member(status, body, "person")
        if isinstance(record, Reply):
            return record
        person = None if record is None else _person(record)
        return Reply(Outcome.MATCH, People((person,))) if person else Reply(Outcome.NO_MATCH, People())


def _person(record: Mapping[str, Any]) -> Person | None:
    parts = Name(text(record.get("first_name")), "", text(record.get("last_name")))
    name = text(record.get("name")) or parts.full
    if not name:
        return None
    source = Source(NAME, f"{NAME}#{text(record.get('id')) or '-'}")
    verified = text(record.get("email_status")).lower() == "verified"
    place = tolerant.an_address(source, _OTHER, city=record.get("city"), state=record.get("state"))
    return Person(
        source=source,
        name=name,
        parts=parts,
        emails=()
        if text(record.get("email")).lower().startswith(_LOCKED)
        else tolerant.unique_emails(
            [tolerant.an_email(record.get("email"), _VERIFIED if verified else _OTHER, source)]
        ),
        addresses=tolerant.some([place]),
        employer=text(table(record.get("organization")).get("name")) or None,
        title=text(record.get("title")) or None,
        score=_VERIFIED,
    )


@dataclass(frozen=True, slots=True)
class ApolloFirms:
    """upstreams.provider.Provider[FirmQuestion, Firms]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: FirmQuestion, /) -> HttpAsk | None:
        if not question.domain:
            return None
        query = urlencode({"domain": question.domain})
        return HttpAsk(f"{self.url}/api/v1/organizations/enrich?{query}", headers=_headers(self.key))

    def read(self, question: FirmQuestion, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Firms]:
        record = _member(status, body, "organization")
        if isinstance(record, Reply):
            return record
        firm = None if record is None else _firm(record)
        return Reply(Outcome.MATCH, Firms((firm,))) if firm else Reply(Outcome.NO_MATCH, Firms())


def _firm(record: Mapping[str, Any]) -> Firm | None:
    name = text(record.get("name"))
    if not name:
        return None
    source = Source(NAME, f"{NAME}#{text(record.get('id')) or '-'}")
    phone = first(table(record.get("primary_phone")), "number", "sanitized_number") or record.get("phone")
    return Firm(
        source=source,
        name=name,
        domain=bare_domain(text(first(record, "primary_domain", "website_url"))),
        website=text(record.get("website_url")),
        phones=tolerant.unique_phones([tolerant.a_phone(phone, _OTHER, source)]),
        addresses=tolerant.some(
            [
                tolerant.an_address(
                    source, _OTHER, line1=record.get("street_address"), city=record.get("city"),
                    state=record.get("state"), zip=record.get("postal_code"), whole=record.get("raw_address"),
                )
            ]
        ),
        industry=text(record.get("industry")) or None,
        founded=text(record.get("founded_year")) or None,
        employees=text(record.get("estimated_num_employees")) or None,
        score=_VERIFIED,
    )  # fmt: skip
