"""Firms as providers find them, when one of them is which was asked for, and the shape in which they are answered.

As with people (persons.py) a provider's answer is a claim that our own rules judge:

    domain   the firm has the domain that was asked for, and no quite different name from the one given with it
    name     the names agree without their legal forms: by 0.92, or by 0.90 where state, city, ZIP or phone agree too.
             A state that was given must be one of its own. Several firms of one name, with nothing to tell them
             apart, are none

The provider's own score lowers ours where it is lower, and never raises it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from gateway.core.subject import Hides, names_of, of_email, of_names, of_phone
from upstreams.directory import places
from upstreams.directory.firms import words
from upstreams.persons import (
    Address,
    Email,
    Phone,
    Source,
    Sources,
    places_in,
    record_id,
    shown_address,
    shown_email,
    shown_phone,
)

FIRMS_MAX: Final = 10
SCORE_MIN: Final = 0.75
_NAME_MIN: Final = 0.92
_NAME_MIN_PLACED: Final = 0.90
_ANOTHER_NAME: Final = 0.60
_CITY_MIN: Final = 0.90
_NUMBER: Final = re.compile(r"\b(?:[0-9]+|[ivx]+)\b")


@dataclass(frozen=True, slots=True)
class FirmQuestion:
    """What is known of the firm. Unknown is ""; `phone` is E.164, `domain` lower case without www."""

    name: str = ""
    domain: str = ""
    phone: str = ""
    city: str = ""
    state: str = ""
    zip: str = ""

    @property
    def mode(self) -> str:
        if self.domain:
            return "domain"
        return "name_place" if self.city or self.state or self.zip else "name"


@dataclass(frozen=True, slots=True)
class Officer:
    """Somebody who acts for the firm."""

    name: str
    source: Source
    title: str | None = None
    phone: str | None = None
    """E.164"""


@dataclass(frozen=True, slots=True)
class Firm:
    source: Source
    name: str
    aliases: tuple[str, ...] = ()
    domain: str = ""
    website: str = ""
    phones: tuple[Phone, ...] = ()
    emails: tuple[Email, ...] = ()
    addresses: tuple[Address, ...] = ()
    officers: tuple[Officer, ...] = ()
    identifiers: Mapping[str, str] = field(default_factory=dict)
    """By register: {"cik": "0000000001", "lei": ...}."""
    industry: str | None = None
    status: str | None = None
    jurisdiction: str | None = None
    """A state's code, or a country's."""
    founded: str | None = None
    """A year or a date, as it was told."""
    employees: str | None = None
    score: float = 0.0
    matched_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Firms:
    """What one provider has found, best first."""

    firms: tuple[Firm, ...] = field(default=(), repr=False)
    reason: str | None = None
    """Why none of them is meant: "ambiguous"."""


def bare_domain(text: str) -> str:
    """A domain or the address of a site -> its host without www; "" for what is none."""
    host = text.strip().lower().partition("//")[2] or text.strip().lower()
    host = host.partition("/")[0].rpartition("@")[2].partition(":")[0].strip(".").removeprefix("www.")
    labels = host.split(".")
    if len(labels) < 2 or len(host) > 253 or not all(_is_label(label) for label in labels):
        return ""
    return host


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and label.isascii() and label.replace("-", "").isalnum() and label.strip("-") == label


def core_name(name: str) -> str:
    """Without legal forms, folded, its words in order: "The Example Bakery, L.L.C." -> "bakery example"."""
    return " ".join(sorted(words(name)))


def alike(a: str, b: str) -> float:
    """How much two firms' names agree, 0 to 1."""
    one, other = core_name(a), core_name(b)
    if not one or not other:
        return 0.0
    if one == other:
        return 1.0
    if set(_NUMBER.findall(one)) != set(_NUMBER.findall(other)):
        return 0.0  # a firm's second fund is not its third
    from rapidfuzz import fuzz

    return round(float(fuzz.ratio(one, other)) / 100, 3)


def without(found: Firms, hides: Hides) -> Firms:
    """Without whoever is hidden: an officer is known by his name where the firm is, too; a firm that is he is not
    there."""
    left = tuple(_alone(firm, hides) for firm in found.firms if not hides(_spellings(firm)))
    return found if left == found.firms else replace(found, firms=left)


def _spellings(firm: Firm) -> frozenset[str]:
    named = frozenset().union(*(names_of(name) for name in (firm.name, *firm.aliases)))
    contacts = {of_phone(phone.number) for phone in firm.phones} | {of_email(each.email) for each in firm.emails}
    known = frozenset(spelling for spelling in contacts if spelling is not None)
    return of_names(named, places_in(firm.addresses)) | known


def _alone(firm: Firm, hides: Hides) -> Firm:
    where = places_in(firm.addresses)
    left = tuple(
        officer
        for officer in firm.officers
        if not hides(of_names(names_of(officer.name), where))
        and not ((number := of_phone(officer.phone or "")) and hides((number,)))
    )
    return firm if left == firm.officers else replace(firm, officers=left)


def judge(question: FirmQuestion, found: Firms) -> Firms:
    """Which of these is meant, with the score that our rules give it. None: `firms` is empty."""
    fits = [firm for firm in (_judged(question, firm) for firm in found.firms) if firm is not None]
    fits.sort(key=lambda firm: -firm.score)
    told_apart = bool(question.domain or question.city or question.state or question.zip or question.phone)
    if len(fits) > 1 and not told_apart:
        return replace(found, firms=(), reason="ambiguous")
    return replace(found, firms=tuple(fits))


def _judged(question: FirmQuestion, firm: Firm) -> Firm | None:
    if not firm.name.strip():
        return None
    likeness = max((alike(question.name, name) for name in (firm.name, *firm.aliases)), default=0.0)
    states = {address.state for address in firm.addresses if address.state}
    agrees = _agreements(question, firm, states)
    if question.domain and firm.domain == question.domain:
        if question.name and likeness < _ANOTHER_NAME:
            return None
        by, score = ("domain", *(("name",) if likeness >= _NAME_MIN_PLACED else ())), 0.95
    elif question.state and question.state not in states:
        return None
    elif question.name and likeness >= (_NAME_MIN_PLACED if agrees else _NAME_MIN):
        by, score = ("name",), likeness if agrees else 0.95 * likeness
        if question.domain and firm.domain:
            score *= 0.80  # a firm may have several domains, and a name several firms
    else:
        return None
    score = round(min(score, firm.score or score), 3)
    return replace(firm, score=score, matched_by=(*by, *agrees)) if score >= SCORE_MIN else None


def _agreements(question: FirmQuestion, firm: Firm, states: set[str]) -> tuple[str, ...]:
    cities = [places.agree_city(question.city, address.city, _CITY_MIN) for address in firm.addresses]
    agree = (
        ("city", any(cities)),
        ("zip", bool(question.zip) and any(address.zip == question.zip for address in firm.addresses)),
        ("state", bool(question.state) and question.state in states),
        ("phone", bool(question.phone) and any(phone.number == question.phone for phone in firm.phones)),
    )
    return tuple(word for word, agrees in agree if agrees)


def shown(firms: Sequence[Firm], sources: Sources) -> list[dict[str, Any]]:
    """The first call loads tables for half a second: make it off the event loop."""
    return [_firm(firm, sources) for firm in firms[:FIRMS_MAX]]


def _firm(firm: Firm, sources: Sources) -> dict[str, Any]:
    sources.id_of(firm.source)
    return {
        "id": record_id("com_", firm.source.record),
        "name": firm.name,
        "aliases": list(firm.aliases),
        "domain": firm.domain or None,
        "website": firm.website or None,
        "phones": [shown_phone(phone, sources) for phone in firm.phones],
        "emails": [shown_email(email, sources) for email in firm.emails],
        "addresses": [shown_address(address, sources) for address in firm.addresses],
        "people": [
            {"name": each.name, "title": each.title, "phone": each.phone, "sources": [sources.id_of(each.source)]}
            for each in firm.officers
        ],
        "identifiers": dict(firm.identifiers),
        "industry": firm.industry,
        "status": firm.status,
        "jurisdiction": firm.jurisdiction,
        "founded": firm.founded,
        "employees": firm.employees,
        "match_score": firm.score,
        "matched_by": list(firm.matched_by),
    }
