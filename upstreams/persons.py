"""People as providers find them, when one of them is who was asked for, and the shape in which they are answered.

A provider's answer is a claim. Which of its people are sold is judged here by the rules that judge our own directory
(directory/matching.py), whatever score the vendor has given them:

    by phone, email   somebody with a name has the number or the address; the name that was given with it may lower it.
                      Whom the provider names beside the holder (family, former holders) is told too, after him
    by name, address  name and place must agree as they must for a row of the directory; one of several people who bear
                      a name without a place is nobody

The vendor's own score never raises ours, and lowers it where it is lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from gateway.core import subject
from gateway.core.subject import Hides, names_in_parts, of_names
from upstreams.directory import firms, matching, names, phones, places
from upstreams.directory.matching import Hit, Query, Row, threshold
from upstreams.directory.names import NOBODY, Name
from upstreams.directory.settings import Rules

PEOPLE_MAX = 15
"""People in one answer; how many there are stands in the metadata."""


@dataclass(frozen=True, slots=True)
class Source:
    """The record that a value stands in."""

    provider: str
    record: str
    """`acme_crm.csv#4411`, `whitepages#P1234567890`: unique among all."""
    retrieved_ms: int = 0
    """Unix milliseconds; 0: when the provider was asked."""


@dataclass(frozen=True, slots=True)
class Phone:
    number: str
    """E.164"""
    score: float
    sources: tuple[Source, ...]
    line_type: str | None = None
    """In the words of directory/phones.py; None: by the number plan."""
    carrier: str | None = None


@dataclass(frozen=True, slots=True)
class Email:
    email: str
    score: float
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """Unknown parts are ""."""

    score: float
    sources: tuple[Source, ...]
    line1: str = ""
    line2: str = ""
    city: str = ""
    state: str = ""
    zip: str = ""
    country: str = "US"
    current: bool = True


@dataclass(frozen=True, slots=True)
class Relative:
    name: str
    id: str | None = None
    """The provider's own."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody a provider has found. `parts` are of a person's name, where it is known which is which."""

    source: Source
    """The record that gives the name."""
    name: str
    parts: Name = NOBODY
    business: bool = False
    aliases: tuple[str, ...] = ()
    phones: tuple[Phone, ...] = ()
    emails: tuple[Email, ...] = ()
    addresses: tuple[Address, ...] = ()
    relatives: tuple[Relative, ...] = ()
    age_range: str | None = None
    deceased: bool | None = None
    employer: str | None = None
    title: str | None = None
    score: float = 0.0
    """0 to 1: until it is judged, how sure the provider is; then how well it fits."""
    matched_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PhoneLine:
    """What a provider knows of the number itself. No person in it, so it is told on a miss too."""

    line_type: str | None = None
    carrier: str | None = None


@dataclass(frozen=True, slots=True)
class People:
    """What one provider has found, best first."""

    people: tuple[Person, ...] = field(default=(), repr=False)
    judged: bool = False
    reason: str | None = None
    """Why nobody of them is meant: "too_common", "ambiguous", "place_missing"."""
    line: PhoneLine | None = None
    answers: Query | None = None
    """The question that it answers, where that is less than what was asked: a number that nobody has is left out."""


@dataclass(frozen=True, slots=True)
class PersonAtFirm:
    """Somebody whose address at a firm is looked for. Unknown is ""; `domain` is lower case without www."""

    name: Name
    domain: str = ""
    company: str = ""


# Who is meant


def judge_at_firm(question: PersonAtFirm, found: People, rules: Rules) -> People:
    """Who of these bears the name, and has an address: at the domain where one was given, which others lose. Where the
    firm's name alone was given, nobody who is told to be at a firm of another name."""
    people = []
    for person in found.people:
        likeness = matching.agree_name(question.name, person.parts, rules)
        if not question.domain and person.employer and not firms.agree(question.company, person.employer):
            continue
        emails = tuple(each for each in person.emails if not question.domain or _at(each.email, question.domain))
        if likeness > 0 and emails:
            best = max(email.score for email in emails)
            by = ("name", "domain") if question.domain else ("name", "company")
            people.append(replace(person, emails=emails, score=round(min(likeness, best), 3), matched_by=by))
    return replace(found, people=tuple(people), judged=True)


def _at(email: str, domain: str) -> bool:
    host = email.rpartition("@")[2]
    return host == domain or host.endswith(f".{domain}")


def judge(query: Query, found: People, rules: Rules) -> People:
    """Who of these is a match, with the score that our own rules give them. Nobody: `people` is empty."""
    if found.judged:
        return found
    least = threshold(query.rule, rules)
    if query.rule == "reverse_address" and not (query.city or query.zip):
        return replace(found, people=(), judged=True, reason="place_missing")
    fits: list[tuple[Person, Hit]] = []
    others: list[Person] = []
    for person in found.people:
        hit = _best(query, person, rules)
        if hit is not None and hit.score >= least:
            fits.append((replace(person, score=_score(person, hit), matched_by=hit.by), hit))
        elif person.name.strip():
            others.append(replace(person, score=0.0, matched_by=()))
    fits.sort(key=lambda pair: -pair[0].score)
    distinct = len(matching.gather([hit for _, hit in fits]))
    if query.rule in ("name", "name_address") and distinct > rules.people_max:
        return replace(found, people=(), judged=True, reason="too_common")
    if query.rule == "name" and distinct > 1:
        return replace(found, people=(), judged=True, reason="ambiguous")
    people = [person for person, _ in fits]
    if people and query.rule in ("reverse_phone", "email"):
        people += others
    return replace(found, people=tuple(people), judged=True)


def without(found: People, hides: Hides) -> People:
    """Without whoever is hidden. A relative is known by his name where the person lives, too."""
    people = tuple(_alone(person, hides) for person in found.people if not hides(spellings(person)))
    return found if people == found.people else replace(found, people=people)


def spellings(person: Person) -> frozenset[str]:
    """By which somebody is known again."""
    named = names_in_parts(person.parts.first, person.parts.last)
    named = named.union(*(subject.names_of(name) for name in (person.name, *person.aliases)))
    contacts = {subject.of_phone(phone.number) for phone in person.phones}
    contacts |= {subject.of_email(each.email) for each in person.emails}
    return of_names(named, places_in(person.addresses)) | frozenset(
        spelling for spelling in contacts if spelling is not None
    )


def places_in(addresses: Sequence[Address]) -> frozenset[str]:
    return frozenset().union(*(subject.places_of(each.city, each.state, each.zip) for each in addresses))


def _alone(person: Person, hides: Hides) -> Person:
    where = places_in(person.addresses) if person.relatives else frozenset()
    left = tuple(each for each in person.relatives if not hides(of_names(subject.names_of(each.name), where)))
    return person if left == person.relatives else replace(person, relatives=left)


def _score(person: Person, hit: Hit) -> float:
    return round(min(hit.score, person.score or hit.score), 3)


def _best(query: Query, person: Person, rules: Rules) -> Hit | None:
    hits = [hit for hit in (matching.score(query, row, rules) for row in _rows(person)) if hit is not None]
    return max(hits, key=lambda hit: hit.score, default=None)


def _rows(person: Person) -> list[Row]:
    """A person as rows of the directory: one for each address."""
    return [
        Row(
            source=person.source.provider,
            record=0,
            loaded_ms=0,
            name=person.name,
            parts=person.parts,
            business=person.business,
            employer=person.employer or "",
            title=person.title or "",
            line1=address.line1,
            line2=address.line2,
            city=address.city,
            state=address.state,
            zip=address.zip,
            street_key=places.street_key(address.line1) if address.line1 else "",
            phones=tuple((phone.number, True) for phone in person.phones),
            emails=tuple(email.email for email in person.emails),
        )
        for address in person.addresses or (Address(0.0, ()),)
    ]


def parts_of(name: str, business: bool = False) -> Name:
    """Of a name that came in one piece."""
    return NOBODY if business else names.split(name)


# What is answered


class Sources:
    """The records an answer is made from, numbered as they are first quoted."""

    def __init__(self) -> None:
        self._ids: dict[str, tuple[str, Source]] = {}

    def id_of(self, source: Source) -> str:
        if source.record not in self._ids:
            self._ids[source.record] = (f"src_{len(self._ids) + 1}", source)
        return self._ids[source.record][0]

    def listing(self, asked_ms: int) -> list[dict[str, str]]:
        """`asked_ms` is when their provider was asked, where the record says nothing."""
        return [
            {
                "id": id,
                "provider": source.provider,
                "record": source.record,
                "retrieved_at": datetime.fromtimestamp((source.retrieved_ms or asked_ms) // 1000, UTC).strftime(
                    "%Y-%m-%dT%H:%M:%SZ"
                ),
            }
            for id, source in self._ids.values()
        ]


def shown(people: Sequence[Person], sources: Sources, *, most: int = PEOPLE_MAX) -> list[dict[str, Any]]:
    """As many as go into one answer. The first call loads tables for half a second: make it off the event loop."""
    return [_person(person, sources) for person in people[:most]]


def _person(person: Person, sources: Sources) -> dict[str, Any]:
    parts = None if person.business or person.parts == NOBODY else person.parts
    sources.id_of(person.source)
    return {
        "id": record_id("prs_", person.source.record),
        "name": person.name,
        "name_parts": parts and {name: value or None for name, value in parts._asdict().items()},
        "aliases": list(person.aliases),
        "age_range": person.age_range,
        "deceased": person.deceased,
        "phones": [shown_phone(phone, sources) for phone in person.phones],
        "emails": [shown_email(email, sources) for email in person.emails],
        "addresses": [shown_address(address, sources) for address in person.addresses],
        "relatives": [_relative(relative, person.source) for relative in person.relatives],
        "employer": person.employer,
        "title": person.title,
        "match_score": person.score,
        "matched_by": list(person.matched_by),
    }


def _relative(relative: Relative, source: Source) -> dict[str, Any]:
    """By the id that he has where he is found himself."""
    return {"id": relative.id and record_id("prs_", f"{source.provider}#{relative.id}"), "name": relative.name}


def record_id(prefix: str, record: str) -> str:
    """The same record has the same id in every answer."""
    return prefix + blake2b(record.encode(), digest_size=10).hexdigest()


def shown_email(email: Email, sources: Sources) -> dict[str, Any]:
    return {"email": email.email, "score": email.score, "sources": _ids(email.sources, sources)}


def _ids(quoted: Sequence[Source], sources: Sources) -> list[str]:
    return [sources.id_of(source) for source in quoted]


def shown_phone(phone: Phone, sources: Sources) -> dict[str, Any]:
    line_type, region = phones.kind(phone.number)
    return {
        "number": phone.number,
        "national": phones.national(phone.number),
        "line_type": phone.line_type or line_type,
        "carrier": phone.carrier,
        "region": region,
        "score": phone.score,
        "sources": _ids(phone.sources, sources),
    }


def shown_address(address: Address, sources: Sources) -> dict[str, Any]:
    return {
        "kind": "current" if address.current else "historic",
        "line1": address.line1 or None,
        "line2": address.line2 or None,
        "city": address.city or None,
        "state_code": address.state or None,
        "zip": address.zip or None,
        "country": address.country,
        "score": address.score,
        "sources": _ids(address.sources, sources),
    }
