"""Twilio Lookup v2: what kind of line a number is, and the name that calls from it show.

Documented in github.com/twilio/twilio-oai. HTTP Basic with account SID and token, or with an API key and its secret.
A match only by a caller's name without an `error_code`: the line type alone says nothing of anybody, and goes into
the metadata.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from upstreams.directory.matching import Query
from upstreams.directory.names import NOBODY, Name, fold
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import People, Person, PhoneLine, Source
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import table, text

NAME: Final = "twilio"
URL: Final = "https://lookups.twilio.com"
_CALLER: Final = 0.7
_NOBODYS: Final = frozenset(
    {
        "", "unknown", "unknown name", "unknown caller", "unavailable", "name unavailable", "not available",
        "anonymous", "private", "private caller", "private name", "no name", "out of area", "wireless caller",
        "wireless", "cell phone", "mobile caller", "toll free call", "toll free caller", "toll free number",
    }
)  # fmt: skip
"""What carriers show where they have no name."""


@dataclass(frozen=True, slots=True)
class Twilio:
    """upstreams.provider.Provider[Query, People]."""

    user: str
    """Account SID or API key."""
    key: str = field(repr=False)
    terms: ProviderTerms
    line: Line
    url: str = URL
    name: str = NAME
    family: str = NAME

    def asks(self, question: Query, /) -> HttpAsk | None:
        if not question.phone:
            return None
        login = base64.b64encode(f"{self.user}:{self.key}".encode()).decode()
        return HttpAsk(
            f"{self.url}/v2/PhoneNumbers/{quote(question.phone, safe='')}?Fields=line_type_intelligence,caller_name",
            headers={"Authorization": f"Basic {login}"},
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
        if not isinstance(answer, dict) or "phone_number" not in answer:
            return failed(ErrorClass.SHAPE)
        if tolerant.of_another(answer["phone_number"], question.phone):
            return failed(ErrorClass.SHAPE)
        kind, caller = table(answer.get("line_type_intelligence")), table(answer.get("caller_name"))
        line = PhoneLine(tolerant.line_type(kind.get("type")), text(kind.get("carrier_name")) or None)
        name = text(caller.get("caller_name"))
        if fold(name) in _NOBODYS or caller.get("error_code") is not None:
            return Reply(Outcome.NO_MATCH, People(line=line))
        business = text(caller.get("caller_type")).upper() == "BUSINESS"
        source = Source(NAME, f"{NAME}#caller_name")
        number = tolerant.a_phone(question.phone, _CALLER, source, kind.get("type"), kind.get("carrier_name"))
        person = Person(
            source=source,
            name=name,
            parts=NOBODY if business else _parts(name, question.name),
            business=business,
            phones=tolerant.unique_phones([number]),
            score=_CALLER,
        )
        return Reply(Outcome.MATCH, People((person,), line=line))


def _parts(name: str, asked: Name) -> Name:
    """Callers show their last name first, or last: which it is, only the name that was asked for tells."""
    words, last = name.split(), fold(asked.last)
    if len(words) < 2 or not last:
        return NOBODY
    if fold(words[0]) == last:
        return Name(words[1], "", words[0])
    return Name(words[0], "", words[-1]) if fold(words[-1]) == last else NOBODY
