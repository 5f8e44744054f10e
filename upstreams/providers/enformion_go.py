"""EnformionGO: the one person behind a phone number (caller ID), or behind a name with a place (contact enrichment).

EXPERIMENTAL: its exact shapes could not be verified against a live account. They are read as its public pages
(enformiongo.readme.io) tell them, and what is not so is a failure of this provider, never of the call. Login by
`galaxy-ap-name` and `galaxy-ap-password`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from upstreams.directory import phones
from upstreams.directory.matching import Query
from upstreams.directory.names import Name
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import People, Person, Source, parts_of
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import first, table, tables, text

NAME: Final = "enformion_go"
URL: Final = "https://devapi.enformion.com"
_SURE: Final = 0.8
_OTHER: Final = 0.6
"""It gives no score of how likely it is the right one: `identityScore` is none."""


@dataclass(frozen=True, slots=True)
class EnformionGo:
    """upstreams.provider.Provider[Query, People]."""

    user: str
    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: Query, /) -> HttpAsk | None:
        match question.mode:
            case "reverse_phone":
                if not question.phone.startswith("+1"):
                    return None
                return self._post("/CallerID", "DevAPICallerID", {"Phone": phones.national(question.phone)})
            case "email":
                return self._post("/Contact/Enrich", "DevAPIContactEnrich", {"Email": question.email})
            case "name_address":
                place = " ".join(filter(None, (question.city and f"{question.city},", question.state, question.zip)))
                body = {
                    "FirstName": question.name.first,
                    "MiddleName": question.name.middle,
                    "LastName": question.name.last,
                    "Address": {"addressLine1": question.street, "addressLine2": place},
                }
                return self._post("/Contact/Enrich", "DevAPIContactEnrich", body)
            case _:
                return None

    def _post(self, path: str, kind: str, body: Mapping[str, Any]) -> HttpAsk:
        return HttpAsk(
            f"{self.url}{path}",
            "POST",
            {
                "galaxy-ap-name": self.user,
                "galaxy-ap-password": self.key,
                "galaxy-search-type": kind,
                "Content-Type": "application/json",
            },
            orjson.dumps(body),
        )

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[People]:
        if status == 404:
            return Reply(Outcome.NO_MATCH, People())
        refused = by_status(status)
        if refused is not None:
            return refused
        try:
            answer = read_json(body)
        except Unusable:
            return failed(ErrorClass.SHAPE)
        if not isinstance(answer, dict) or "person" not in answer:
            return failed(ErrorClass.SHAPE)
        if answer.get("isError"):
            return failed(ErrorClass.TRANSIENT)
        person = _person(table(answer["person"]), question)
        return Reply(Outcome.MATCH, People((person,))) if person else Reply(Outcome.NO_MATCH, People())


def _person(record: Mapping[str, Any], question: Query) -> Person | None:
    told = record.get("name")
    parts = Name(*(text(table(told).get(part)) for part in ("firstName", "middleName", "lastName")))
    name = parts.full or text(told)
    if not name:
        return None
    source = Source(NAME, f"{NAME}#{text(first(record, 'tahoeId', 'id')) or '-'}")
    numbers = [
        tolerant.a_phone(each.get("number"), _OTHER, source, each.get("type")) for each in tables(record.get("phones"))
    ]
    if question.mode == "reverse_phone":
        numbers.insert(0, tolerant.a_phone(question.phone, _SURE, source))
    emails = [
        tolerant.an_email(each.get("email") if isinstance(each, dict) else each, _OTHER, source)
        for each in tolerant.several(first(record, "emails", "email"))
    ]
    if question.mode == "email":
        emails.insert(0, tolerant.an_email(question.email, _SURE, source))
    return Person(
        source=source,
        name=name,
        parts=parts if parts.last else parts_of(name),
        phones=tolerant.unique_phones(numbers),
        emails=tolerant.unique_emails(emails),
        addresses=tolerant.some(
            tolerant.an_address(
                source, _OTHER, line1=each.get("street"), line2=each.get("unit"), city=each.get("city"),
                state=each.get("state"), zip=each.get("zip"),
            )
            for each in tables(first(record, "addresses", "address"))
        ),
        age_range=text(record.get("age")) or None,
        score=_SURE,
    )  # fmt: skip
