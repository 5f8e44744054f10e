"""What was found about a firm, how much of it is believed, and whether it is worth paying for. Pure.

A finding is one value that one source states, with the quote that states it. How far it is believed:

    source        a registry 0.90, the operator's directory 0.85, own website 0.75, a search engine's record of the
                  firm 0.70, any other page 0.50
    how stated    as data 1.00, as a tel: link 0.95, in the text 0.80, as a name beside a title 0.70, by a model 0.90
    which firm    the page's name is the one asked for 1.00, has a word more 0.90, only begins like it 0.60
    place         all addresses of the page are in another town, or some in another state 0.60

multiplied. Sources that state the same are joined as independent witnesses, 1 - (1 - a)(1 - b), at most 0.98; those of
one family (one domain, one vendor) count once, for one that copies itself is no second witness. A phone of another
state than the one asked for is believed 0.15 less. What is believed less than 0.5 is neither told nor billed for, so a
name read in a stranger's text alone is none, and the same name on two strangers' pages is one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from gateway.core.subject import (
    REMOVED,
    Hides,
    names_of,
    of_email,
    of_names,
    of_phone,
    places_of,
    without_names,
)  # fmt: skip
from gateway.core.subject import without as without_contacts
from upstreams.directory import firms, places
from upstreams.directory.names import fold

CONFIDENCE_MIN: Final = 0.5
CONFIDENCE_MAX: Final = 0.98
OWN_SITE, RECORD, STRANGER, DIRECTORY, REGISTRY = 0.75, 0.70, 0.50, 0.85, 0.90
AS_DATA, AS_LINK, IN_TEXT, BESIDE_TITLE, BY_MODEL = 1.0, 0.95, 0.80, 0.70, 0.90
ELSEWHERE: Final = 0.6
OTHER_STATE: Final = 0.15
QUOTE_CHARS_MAX: Final = 300
_CITY_MIN = 0.90


class Kind(StrEnum):
    PHONE = "phones"
    PERSON = "people"
    ADDRESS = "addresses"
    ASSOCIATE = "legal_associates"
    EMAIL = "emails"


BILLABLE: Final = (Kind.PHONE, Kind.PERSON, Kind.ADDRESS, Kind.ASSOCIATE)
"""An email alone is no match."""
_NAMED: Final = (Kind.PERSON, Kind.ASSOCIATE)


@dataclass(frozen=True, slots=True)
class Subject:
    """The firm that is asked about. Unknown is ""; `state` is a code, `domain` a host name."""

    name: str
    city: str = ""
    state: str = ""
    domain: str = ""

    def agrees(self, held: str, *, passing: Iterable[str] = ()) -> float:
        """How well a name is this firm's, 0 to 1; the firm's own town may stand in it."""
        return firms.agree(self.name, held[:200], self.town | set(passing))

    @property
    def town(self) -> set[str]:
        """Folded words of its place."""
        words = set(fold(f"{self.city} {self.state}").split())
        return words | set(fold(places.state_name(self.state)).split()) if self.state else words


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value stands. `url` may be "" of a vendor's record that names none."""

    provider: str
    url: str
    family: str
    """Whose word it is: a registrable domain, or a vendor."""
    weight: float
    retrieved_s: float = 0.0
    record: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One value as one source states it. `key` is what two spellings of the value share."""

    kind: Kind
    key: str
    value: Mapping[str, Any]
    quote: str
    source: Source
    confidence: float


@dataclass(frozen=True, slots=True)
class Value:
    """A value with everybody who states it, the most trusted first."""

    kind: Kind
    value: Mapping[str, Any]
    confidence: float
    stated: tuple[Finding, ...] = field(repr=False)


def joined(findings: Iterable[Finding], subject: Subject) -> tuple[Value, ...]:
    """Findings in any order -> the values that are believed, best first; the same for the same findings."""
    groups: dict[tuple[Kind, str], list[Finding]] = {}
    for finding in findings:
        if not _contradicts(finding, subject):
            groups.setdefault((finding.kind, finding.key), []).append(finding)
    values = [_value(kind, group, subject) for (kind, _), group in groups.items()]
    believed = [value for value in values if value.confidence >= CONFIDENCE_MIN]
    order = list(Kind)
    return tuple(sorted(believed, key=lambda v: (order.index(v.kind), -v.confidence, v.stated[0].key)))


def without(values: Sequence[Value], findings: Iterable[Finding], about: Subject, hides: Hides) -> tuple[Value, ...]:
    """Without whoever is hidden: people and associates are known by their names where the firm is, or where anything
    that was found says that it is, believed or not. What stands of something else stands without their names, and
    without hidden numbers and addresses."""
    where = places_of(about.city, about.state).union(*(_place(finding) for finding in findings))
    hidden = [value for value in values if hides(_spellings(value, where))]
    names = frozenset().union(*(names_of(value.value["name"]) for value in hidden if value.kind in _NAMED))
    left = (value for value in values if value not in hidden and not _is_address_of(value, names))
    return tuple(_unnamed(value, names, hides) for value in left)


def _place(finding: Finding) -> frozenset[str]:
    if finding.kind is not Kind.ADDRESS:
        return frozenset()
    city, state, zip = (str(finding.value.get(name) or "") for name in ("city", "state_code", "zip"))
    return places_of(city, state, zip)


def _spellings(value: Value, where: frozenset[str]) -> frozenset[str]:
    if value.kind in _NAMED:
        return of_names(names_of(str(value.value["name"])), where)
    if value.kind is Kind.EMAIL:
        return frozenset((of_email(str(value.value["email"])),))
    number = of_phone(str(value.value["number"])) if value.kind is Kind.PHONE else None
    return frozenset(() if number is None else (number,))


def _is_address_of(value: Value, names: Collection[str]) -> bool:
    """Whether it is an email address with one of these names in it."""
    return value.kind is Kind.EMAIL and without_names(value.value["email"], names) != value.value["email"]


def _unnamed(value: Value, names: Collection[str], hides: Hides) -> Value:
    def left_of(text: str) -> str:
        left, _ = without_contacts(text, hides)
        return without_names(left or REMOVED, names) if text else text

    stated = (
        replace(
            each, quote=left_of(each.quote),
            source=replace(each.source, url=left_of(each.source.url), record=left_of(each.source.record)),
        )
        for each in value.stated
    )  # fmt: skip
    own = {
        name: left_of(known) if isinstance(known, str) and name != "name" else known
        for name, known in value.value.items()
    }
    return replace(value, value=own, stated=tuple(stated))


def is_match(values: Sequence[Value]) -> bool:
    return any(value.kind in BILLABLE for value in values)


def _value(kind: Kind, group: list[Finding], subject: Subject) -> Value:
    ranked = sorted(group, key=_rank)
    first: dict[tuple[str, str], Finding] = {}
    best: dict[str, float] = {}
    for each in ranked:
        first.setdefault((each.source.url, each.source.record), each)
        best.setdefault(each.source.family, each.confidence)
    stated = tuple(first.values())
    doubt = 1.0
    for family in sorted(best):
        doubt *= 1 - best[family]
    confidence = min(1 - doubt, CONFIDENCE_MAX)
    value = dict(stated[0].value)
    for each in stated[1:]:  # what the best leaves open, the next one may know
        value |= {name: known for name, known in each.value.items() if known and not value.get(name)}
    region = value.get("region")
    if kind is Kind.PHONE and subject.state and region in places.STATE_CODES and region != subject.state:
        confidence -= OTHER_STATE
    return Value(kind, value, round(confidence, 3), stated)


def _rank(finding: Finding) -> tuple[float, str, str, str, str, str]:
    """Best first; the rest is only there so that the same findings always give the same value."""
    said = repr(sorted(finding.value.items()))
    source = finding.source
    return -finding.confidence, source.provider, source.url, source.family, finding.quote, said


def _contradicts(finding: Finding, subject: Subject) -> bool:
    state = finding.value.get("state_code")
    return bool(finding.kind is Kind.ADDRESS and subject.state and state and state != subject.state)


def about_place(subject: Subject, addresses: Sequence[places.Address]) -> float:
    """How much a source's addresses leave of what it says: 0 when all of them are in other states than the one asked
    for, ELSEWHERE when some are or when none is in the town asked for, else 1."""
    states = [address.state for address in addresses if address.state]
    here = [a for a in addresses if not subject.state or a.state in ("", subject.state)]
    if subject.state and states and subject.state not in states:
        return 0.0
    factor = ELSEWHERE if len(here) < len(addresses) else 1.0
    cities = [address.city for address in here if address.city]
    if subject.city and cities and not any(in_town(subject, city) for city in cities):
        factor = ELSEWHERE
    return factor


def in_town(subject: Subject, city: str) -> bool:
    return bool(subject.city) and places.agree_city(subject.city, city, _CITY_MIN) > 0


def lessened(finding: Finding, factor: float) -> Finding:
    return replace(finding, confidence=finding.confidence * factor)


def clipped(quote: str) -> str:
    """A quote of a length that can be told, cut between words."""
    quote = " ".join(quote.split())
    return quote if len(quote) <= QUOTE_CHARS_MAX else quote[:QUOTE_CHARS_MAX].rpartition(" ")[0]
