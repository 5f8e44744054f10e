"""Whitepages Pro API v2: people by phone, name, email or address (GET /v2/person/).

Documented in github.com/whitepages/docs at 2026-06-29. Parameters are joined by AND. Every 2xx is billed, an empty
result too, and so are 404s; 400 is not. The key goes into `X-Api-Key`; a wrong one is 403 {"message": "Forbidden"},
too many calls 429 {"message": "Too Many Requests"}, an empty account {"message": "Limit Exceeded"}.

Four shapes are about, and all are read: `{results: [...], metadata}` (v2), a bare array (its guides, and v1),
`{result: {...}}` (details), and within them `emails[].email` or `.address` or plain texts, `match_score` or `score`;
`current_addresses[]` have parts since 2026-03-25 and one text, `address`, before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from upstreams.directory.matching import Query
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import People, Person, Relative, Source, parts_of
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import first, several, share, table, tables, text

NAME: Final = "whitepages"
URL: Final = "https://api.whitepages.com"
_PAGE: Final = 15
_NO_SCORE: Final = 0.7


@dataclass(frozen=True, slots=True)
class Whitepages:
    """upstreams.provider.Provider[Query, People]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    score_min: float = 0.60
    """0 to 1: its own score, below which nobody found by name is taken."""
    name: str = NAME
    family: str = NAME

    def asks(self, question: Query, /) -> HttpAsk | None:
        query = _parameters(question)
        if not query:
            return None
        return HttpAsk(f"{self.url}/v2/person/?{urlencode(query)}", headers={"X-Api-Key": self.key})

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[People]:
        try:
            answer = read_json(body)
        except Unusable:
            answer = None
        message = text(table(answer).get("message")).lower()
        if "limit exceeded" in message:
            return failed(ErrorClass.QUOTA)
        if status == 404:
            return Reply(Outcome.NO_MATCH, People())
        refused = by_status(status)
        if refused is not None:
            return refused
        records = _records(answer)
        if records is None:
            return failed(ErrorClass.SHAPE)
        people = [_person(record, question, number) for number, record in enumerate(records, 1)]
        kept = tuple(person for person in people if person is not None and self._taken(person, question))
        return Reply(Outcome.MATCH if kept else Outcome.NO_MATCH, People(kept))

    def _taken(self, person: Person, question: Query) -> bool:
        return question.mode in ("reverse_phone", "email") or person.score >= self.score_min


def _parameters(question: Query) -> dict[str, str]:
    """By phone or email alone: what is known beside it is for us to judge, and would only lose the holder."""
    match question.mode:
        case "reverse_phone":
            number = question.phone.removeprefix("+1")
            return {"phone": number} | _page() if len(number) == 10 and number.isdigit() else {}
        case "email":
            return {"email": question.email} | _page()
    name = question.name
    given = {
        "first_name": name.first, "middle_name": name.middle, "last_name": name.last, "street": question.street,
        "city": question.city, "state_code": question.state, "zipcode": question.zip,
    }  # fmt: skip
    return {key: value for key, value in given.items() if value} | _page()


def _page() -> dict[str, str]:
    return {"page_size": str(_PAGE)}


def _records(answer: Any) -> list[Any] | None:
    """The people of any of the shapes; None for what is none of them."""
    if isinstance(answer, list):
        return answer[:_PAGE]
    for name in ("results", "result"):
        if isinstance(answer, dict) and name in answer:
            found = answer[name]
            return found[:_PAGE] if isinstance(found, list) else [found] if isinstance(found, dict) else []
    return None


def _person(value: Any, question: Query, number: int) -> Person | None:
    record = table(value)
    name = text(first(record, "name", "full_name"))
    if not name:
        return None
    source = Source(NAME, f"{NAME}#{text(record.get('id')) or number}")
    found_by = tuple(text(each) for each in several(record.get("matched_by")))
    score = share(first(record, "match_score", "score"), 100, _NO_SCORE)
    numbers = [_phone(each, source) for each in several(record.get("phones"))]
    if question.phone and "phone" in found_by and question.phone not in {each.number for each in numbers if each}:
        numbers.append(tolerant.a_phone(question.phone, score, source))
    emails = [_email(each, source) for each in several(record.get("emails"))]
    if question.email and "email" in found_by and question.email not in {each.email for each in emails if each}:
        emails.append(tolerant.an_email(question.email, score, source))
    return Person(
        source=source,
        name=name,
        parts=parts_of(name),
        aliases=tuple(filter(None, (text(each) for each in several(record.get("aliases"))))),
        phones=tolerant.unique_phones(numbers),
        emails=tolerant.unique_emails(emails),
        addresses=tolerant.some(
            _address(each, source, current)
            for member, current in (("current_addresses", True), ("historic_addresses", False))
            for each in several(record.get(member))
        ),
        relatives=tuple(
            Relative(text(each.get("name")), text(each.get("id")) or None)
            for each in tables(record.get("relatives"))
            if text(each.get("name"))
        ),
        deceased=tolerant.truth(record.get("is_dead")),
        employer=text(record.get("company_name")) or None,
        title=text(record.get("job_title")) or None,
        score=score,
    )


def _phone(value: Any, source: Source) -> Any:
    if not isinstance(value, dict):
        return tolerant.a_phone(value, _NO_SCORE, source)
    number = first(value, "number", "phone_number", "phone")
    return tolerant.a_phone(number, share(value.get("score"), 100, _NO_SCORE), source, value.get("type"))


def _email(value: Any, source: Source) -> Any:
    if not isinstance(value, dict):
        return tolerant.an_email(value, _NO_SCORE, source)
    return tolerant.an_email(first(value, "email", "address"), share(value.get("score"), 100, _NO_SCORE), source)


def _address(value: Any, source: Source, current: bool) -> Any:
    record = table(value) or {"address": value}
    return tolerant.an_address(
        source,
        share(record.get("score"), 100, _NO_SCORE),
        line1=record.get("line1"),
        line2=record.get("line2"),
        city=record.get("city"),
        state=first(record, "state", "state_code"),
        zip=first(record, "zip", "zipcode", "postal_code"),
        whole=record.get("address"),
        current=current,
    )
