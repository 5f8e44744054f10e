"""Trestle Reverse Phone 3.2: who owns a number (GET /3.2/phone), and what kind of line it is.

Documented at trestle-api.redoc.ly. The key goes into `x-api-key`. Quirks: `emails` has been seen as one text; 3.1 told
the owner in `belongs_to` and his family in `associated_people`; a 200 can carry an `error`, and is then a part of an
answer: with owners in it, it is taken, without any it is a failure. A valid number without an owner is a miss.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from upstreams.directory.matching import Query
from upstreams.directory.names import Name
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import People, Person, PhoneLine, Relative, Source, parts_of
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import first, several, table, tables, text

NAME: Final = "trestle"
URL: Final = "https://api.trestleiq.com"
_OWNER: Final = 0.9
_OTHER: Final = 0.6
"""It gives no scores: its owner is one it is sure of, the rest it has heard of."""


@dataclass(frozen=True, slots=True)
class Trestle:
    """upstreams.provider.Provider[Query, People]."""

    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: Query, /) -> HttpAsk | None:
        if not question.phone.startswith("+1"):
            return None
        query = {"phone": question.phone.removeprefix("+1")}
        if question.name.last:
            query["phone.name_hint"] = question.name.full
        if question.zip:
            query["phone.postal_code_hint"] = question.zip
        return HttpAsk(f"{self.url}/3.2/phone?{urlencode(query)}", headers={"x-api-key": self.key})

    def read(self, question: Query, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[People]:
        refused = by_status(status)
        if refused is not None:
            return refused
        try:
            answer = read_json(body)
        except Unusable:
            return failed(ErrorClass.SHAPE)
        if not isinstance(answer, dict) or not {"owners", "belongs_to", "phone_number", "is_valid"} & answer.keys():
            return failed(ErrorClass.SHAPE)
        if tolerant.of_another(answer.get("phone_number"), question.phone):
            return failed(ErrorClass.SHAPE)
        line = PhoneLine(tolerant.line_type(answer.get("line_type")), text(answer.get("carrier")) or None)
        found = enumerate(tables(first(answer, "owners", "belongs_to")), 1)
        owners = [_person(owner, question, answer, number) for number, owner in found]
        people = tuple(owner for owner in owners if owner is not None)
        if people:
            return Reply(Outcome.MATCH, People(people, line=line))
        if answer.get("error") not in (None, "", {}):
            return failed(ErrorClass.TRANSIENT)
        if any("missing input" in text(each).lower() for each in several(answer.get("warnings"))):
            return failed(ErrorClass.REFUSED)
        return Reply(Outcome.NO_MATCH, People(line=line))


def _person(record: Mapping[str, Any], question: Query, answer: Mapping[str, Any], number: int) -> Person | None:
    business = text(record.get("type")).lower() == "business"
    parts = Name(*(text(record.get(name)) for name in ("firstname", "middlename", "lastname")))
    name = text(record.get("name")) or parts.full
    if not name:
        return None
    if business or not parts.last:
        parts = parts_of(name, business)
    source = Source(NAME, f"{NAME}#{text(record.get('id')) or number}")
    own = tolerant.a_phone(question.phone, _OWNER, source, answer.get("line_type"), answer.get("carrier"))
    others = [
        tolerant.a_phone(
            first(each, "phone_number", "phoneNumber"), _OTHER, source, first(each, "line_type", "lineType")
        )
        for each in tables(record.get("alternate_phones"))
    ]
    return Person(
        source=source,
        name=name,
        parts=parts,
        business=business,
        aliases=tuple(filter(None, (text(each) for each in several(record.get("alternate_names"))))),
        phones=tolerant.unique_phones([own, *others]),
        emails=tolerant.unique_emails(
            tolerant.an_email(table(each).get("email") or each, _OTHER, source)
            for each in several(record.get("emails"))
        ),
        addresses=tolerant.some(
            tolerant.an_address(
                source, _OTHER, line1=each.get("street_line_1"), line2=each.get("street_line_2"), city=each.get("city"),
                state=each.get("state_code"), zip=each.get("postal_code"), country=each.get("country_code"),
                current=current,
            )
            for member, current in (("current_addresses", True), ("historical_addresses", False))
            for each in tables(record.get(member))
        ),
        relatives=tuple(
            Relative(text(each.get("name")), text(each.get("id")) or None)
            for each in tables(first(record, "associated_people") or answer.get("associated_people"))
            if text(each.get("name"))
        ),
        age_range=text(record.get("age_range")) or None,
        score=_OWNER,
    )  # fmt: skip
