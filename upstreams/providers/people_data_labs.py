"""People Data Labs v5: a person by name and place, phone or email, or at a firm (GET /v5/person/enrich), and a firm by
name or domain (GET /v5/company/enrich, whose fields stand beside its likelihood and not in `data`).

Documented at docs.peopledatalabs.com. The key goes into `X-Api-Key`. A 404 is a miss and free; a 200 is billed. Its
likelihood runs from 1 to 10, and 6 is what it recommends: it is asked for no less, so that what is less likely is a
404 and costs nothing. Values that a plan withholds come as `true`: there is one, and it is not included.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from upstreams.directory.matching import Query
from upstreams.directory.names import Name
from upstreams.firms import Firm, FirmQuestion, Firms, bare_domain
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import Address, People, Person, PersonAtFirm, Source, parts_of
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Quota, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import share, table, tables, text

NAME: Final = "people_data_labs"
URL: Final = "https://api.peopledatalabs.com"
_OTHER: Final = 0.7


@dataclass(frozen=True, slots=True)
class PeopleDataLabs:
    """upstreams.provider.Provider[Query, People]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    score_min: float = 0.60
    """0 to 1: a tenth of the likelihood it is asked for at least."""
    name: str = NAME
    family: str = NAME

    def asks(self, question: Query | PersonAtFirm, /) -> HttpAsk | None:
        query = _at_firm(question) if isinstance(question, PersonAtFirm) else _parameters(question)
        return _asks("person", query, self)

    def read(
        self, question: Query | PersonAtFirm, status: int, headers: Mapping[str, str], body: bytes, /
    ) -> Reply[People]:
        if status == 404:
            return Reply(Outcome.NO_MATCH, People(), quota=quota(headers))
        refused = by_status(status)
        if refused is not None:
            return refused
        answer = _answer(body)
        if answer is None or not isinstance(answer.get("data"), dict):
            return failed(ErrorClass.SHAPE)
        score = share(answer.get("likelihood"), 10, 0.0)
        record = answer["data"]
        if isinstance(question, PersonAtFirm):  # whoever asks for somebody's address at a firm is not told of his own
            record = {**record, "personal_emails": [], "emails": list(filter(_of_work, tables(record.get("emails"))))}
        known = Query() if isinstance(question, PersonAtFirm) else question
        person = _person(record, score, known, answer.get("matched"))
        if person is None or score < self.score_min:
            # It was billed as a match, and is none.
            return Reply(Outcome.NO_MATCH, People(), cost_micros=self.terms.most_micros, quota=quota(headers))
        return Reply(Outcome.MATCH, People((person,)), quota=quota(headers))


@dataclass(frozen=True, slots=True)
class PeopleDataLabsFirms:
    """upstreams.provider.Provider[FirmQuestion, Firms]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    score_min: float = 0.60
    name: str = NAME
    family: str = NAME

    def asks(self, question: FirmQuestion, /) -> HttpAsk | None:
        given = {
            "name": question.name, "website": question.domain, "locality": question.city, "region": question.state,
            "postal_code": question.zip,
        }  # fmt: skip
        return _asks("company", {key: value for key, value in given.items() if value}, self)

    def read(self, question: FirmQuestion, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Firms]:
        if status == 404:
            return Reply(Outcome.NO_MATCH, Firms(), quota=quota(headers))
        refused = by_status(status)
        if refused is not None:
            return refused
        answer = _answer(body)
        if answer is None or not {"name", "display_name", "id"} & answer.keys():
            return failed(ErrorClass.SHAPE)
        score = share(answer.get("likelihood"), 10, 0.0)
        firm = _firm(answer, score)
        if firm is None or score < self.score_min:
            return Reply(Outcome.NO_MATCH, Firms(), cost_micros=self.terms.most_micros, quota=quota(headers))
        return Reply(Outcome.MATCH, Firms((firm,)), quota=quota(headers))


def _asks(kind: str, query: dict[str, str], provider: PeopleDataLabs | PeopleDataLabsFirms) -> HttpAsk | None:
    if not query:
        return None
    least = str(max(1, min(10, round(provider.score_min * 10))))
    url = f"{provider.url}/v5/{kind}/enrich?{urlencode({**query, 'min_likelihood': least})}"
    return HttpAsk(url, headers={"X-Api-Key": provider.key})


def _answer(body: bytes) -> dict[str, Any] | None:
    try:
        answer = read_json(body)
    except Unusable:
        return None
    return answer if isinstance(answer, dict) else None


def _at_firm(question: PersonAtFirm) -> dict[str, str]:
    name = question.name
    given = {
        "first_name": name.first, "middle_name": name.middle, "last_name": name.last,
        "company": question.domain or question.company,
    }  # fmt: skip
    return {key: value for key, value in given.items() if value}


def _of_work(record: Mapping[str, Any]) -> bool:
    return "professional" in text(record.get("type")).lower()


def _firm(answer: Mapping[str, Any], score: float) -> Firm | None:
    name = text(answer.get("display_name")) or _titled(answer.get("name"))
    if not name:
        return None
    source = Source(NAME, f"{NAME}#{text(answer.get('id')) or '-'}")
    place = table(answer.get("location"))
    return Firm(
        source=source,
        name=name,
        domain=bare_domain(text(answer.get("website"))),
        website=text(answer.get("website")),
        addresses=tolerant.some(
            [
                tolerant.an_address(
                    source, _OTHER, line1=_titled(place.get("street_address")), line2=place.get("address_line_2"),
                    city=_titled(place.get("locality")), state=place.get("region"), zip=place.get("postal_code"),
                )
            ]
        ),
        identifiers={"ticker": text(answer.get("ticker"))} if text(answer.get("ticker")) else {},
        industry=text(answer.get("industry")) or None,
        founded=text(answer.get("founded")) or None,
        employees=text(answer.get("size")) or None,
        score=score,
    )  # fmt: skip


def quota(headers: Mapping[str, str]) -> Quota | None:
    remaining = headers.get("x-totallimit-remaining", "")
    return Quota(int(remaining)) if remaining.isascii() and remaining.isdigit() and len(remaining) < 16 else None


def _parameters(question: Query) -> dict[str, str]:
    """What makes somebody findable; nobody is by a street alone."""
    name = question.name
    given = {
        "phone": question.phone, "email": question.email, "first_name": name.first, "middle_name": name.middle,
        "last_name": name.last, "street_address": question.street, "locality": question.city,
        "region": question.state, "postal_code": question.zip,
    }  # fmt: skip
    placed = question.street or question.city or question.state or question.zip
    if not (question.phone or question.email or (name.last and placed)):
        return {}
    return {key: value for key, value in given.items() if value} | ({"country": "us"} if placed else {})


def _person(record: Mapping[str, Any], score: float, question: Query, matched: object) -> Person | None:
    parts = Name(*(text(record.get(part)).title() for part in ("first_name", "middle_name", "last_name")))
    name = text(record.get("full_name")).title() or parts.full
    if not name:
        return None
    source = Source(NAME, f"{NAME}#{text(record.get('id')) or '-'}")
    found_by = {text(each) for each in (matched if isinstance(matched, list) else ())}
    numbers = [record.get("mobile_phone"), *_values(record.get("phone_numbers"))]
    if "phone" in found_by and question.phone:
        numbers.append(question.phone)
    emails = [record.get("work_email"), *_values(record.get("personal_emails"))]
    emails += [each.get("address") for each in tables(record.get("emails"))]
    if "email" in found_by and question.email:
        emails.append(question.email)
    mobile = tolerant.e164(record.get("mobile_phone"))
    return Person(
        source=source,
        name=name,
        parts=parts if parts.last else parts_of(name),
        phones=tolerant.unique_phones(
            tolerant.a_phone(each, _OTHER, source, "mobile" if tolerant.e164(each) == mobile else None)
            for each in numbers
        ),
        emails=tolerant.unique_emails(tolerant.an_email(each, _OTHER, source) for each in emails),
        addresses=_addresses(record, source),
        employer=text(record.get("job_company_name")).title() or None,
        title=text(record.get("job_title")).title() or None,
        score=score,
    )


def _values(value: object) -> list[Any]:
    return value[:100] if isinstance(value, list) else []


def _addresses(record: Mapping[str, Any], source: Source) -> tuple[Address, ...]:
    now = tolerant.an_address(
        source, _OTHER, line1=_titled(record.get("location_street_address")),
        line2=record.get("location_address_line_2"), city=_titled(record.get("location_locality")),
        state=record.get("location_region"), zip=record.get("location_postal_code"),
    )  # fmt: skip
    earlier = [
        tolerant.an_address(
            source, _OTHER, line1=_titled(each.get("street_address")), line2=each.get("address_line_2"),
            city=_titled(each.get("locality")), state=each.get("region"), zip=each.get("postal_code"), current=False,
        )
        for each in map(table, _values(record.get("street_addresses")))
    ]  # fmt: skip
    known = {(now.line1, now.zip)} if now else set()
    return tolerant.some([now, *(one for one in earlier if one and (one.line1, one.zip) not in known)])


def _titled(value: object) -> str:
    """It writes everything in lower case."""
    return text(value).title()
