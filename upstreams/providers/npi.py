"""The NPI registry of US health providers: firms with phone, address and authorized official. Free, without a key,
official public record (npiregistry.cms.hhs.gov, version 2.1).

A question that it calls wrong is a 200 with `Errors`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from upstreams.firms import Firm, FirmQuestion, Firms, Officer
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import Source
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import table, tables, text

NAME: Final = "npi"
URL: Final = "https://npiregistry.cms.hhs.gov"
_OFFICIAL: Final = 0.9


@dataclass(frozen=True, slots=True)
class Npi:
    """upstreams.provider.Provider[FirmQuestion, Firms]."""

    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: FirmQuestion, /) -> HttpAsk | None:
        if not question.name:
            return None
        given = {
            "version": "2.1", "enumeration_type": "NPI-2", "organization_name": question.name, "city": question.city,
            "state": question.state, "postal_code": question.zip, "limit": "10",
        }  # fmt: skip
        return HttpAsk(f"{self.url}/api/?{urlencode({key: value for key, value in given.items() if value})}")

    def read(self, question: FirmQuestion, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Firms]:
        refused = by_status(status)
        if refused is not None:
            return refused
        try:
            answer = read_json(body)
        except Unusable:
            return failed(ErrorClass.SHAPE)
        if not isinstance(answer, dict):
            return failed(ErrorClass.SHAPE)
        if answer.get("Errors"):
            return failed(ErrorClass.REFUSED)
        if not isinstance(answer.get("results"), list):
            return failed(ErrorClass.SHAPE)
        firms = tuple(filter(None, (_firm(record) for record in tables(answer["results"]))))
        return Reply(Outcome.MATCH if firms else Outcome.NO_MATCH, Firms(firms))


def _firm(record: Mapping[str, Any]) -> Firm | None:
    basic, number = table(record.get("basic")), text(record.get("number"))
    name = _titled(basic.get("organization_name"))
    if not name:
        return None
    source = Source(NAME, f"{NAME}#{number or '-'}")
    places = [each for each in tables(record.get("addresses"))]
    kinds = [text(each.get("desc")) for each in tables(record.get("taxonomies")) if each.get("primary") is True]
    return Firm(
        source=source,
        name=name,
        phones=tolerant.unique_phones(
            tolerant.a_phone(each.get("telephone_number"), _OFFICIAL, source) for each in places
        ),
        addresses=tolerant.some(
            tolerant.an_address(
                source, _OFFICIAL, line1=_titled(each.get("address_1")), line2=_titled(each.get("address_2")),
                city=_titled(each.get("city")), state=each.get("state"), zip=_zip(each.get("postal_code")),
            )
            for each in places
        ),
        officers=_officers(basic, source),
        identifiers={"npi": number} if number else {},
        industry=next(iter(kinds), None),
        status={"A": "active"}.get(text(basic.get("status"))),
        score=_OFFICIAL,
    )  # fmt: skip


def _officers(basic: Mapping[str, Any], source: Source) -> tuple[Officer, ...]:
    parts = (_titled(basic.get(f"authorized_official_{part}_name")) for part in ("first", "middle", "last"))
    name = " ".join(filter(None, parts))
    if not name:
        return ()
    title = text(basic.get("authorized_official_title_or_position")) or None
    phone = tolerant.e164(basic.get("authorized_official_telephone_number"))
    return (Officer(name, source, title, phone),)


def _zip(value: object) -> str:
    """It writes ZIP+4 as nine digits."""
    return text(value)[:5]


def _titled(value: object) -> str:
    """It writes everything in capitals."""
    return text(value).title()
