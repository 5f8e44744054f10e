"""When a record is the person that was asked for. Pure: a query and rows go in, a verdict comes out.

Whether the caller pays hangs on this file alone, so every rule is a product of agreements between 0 and 1: each
doubt multiplies, and a rule's threshold says how much doubt is too much.

    reverse_phone    a row with the number and a name. 0.95, a former number 0.80, at most 0.55 when the name that
                     was given with the number is another one
    email            the same with an address: 0.90, and 0.55
    name_address     last x first x rest x place, where place means that city, ZIP or street agrees
    name             last x first x rest, and only if this is one single person. A state alone is no place: a name
                     with a state follows this rule among the rows of that state
    reverse_address  a named row at the street line, in the ZIP or in the city

A number or an email that nobody has is left out, and the rest of the question asked by itself. What remains is then
weaker than it looks: somebody of that name is here, and has another number. So a name takes a ZIP or a street that
agrees, a city is too wide, and one single person: two of them were to be told apart by just that number.

A row without a name is never a match, however much else it holds: what the caller knew is no answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gateway.core.subject import Hides, names_in_parts, names_of, of_email, of_names, of_phone, places_of
from upstreams.directory import names, places
from upstreams.directory.names import NOBODY, Name
from upstreams.directory.settings import Rules

_NAME_DISAGREES = 0.55
_ROWS_MAX = 200
"""More rows than this for one name are too common without counting who is who."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is known of the person. Unknown is ""; `phone` is E.164, `state` a code, `zip` five digits."""

    phone: str = ""
    email: str = ""
    name: Name = NOBODY
    street: str = ""
    city: str = ""
    state: str = ""
    zip: str = ""
    contact_missed: bool = False
    """Whether a number or an email came with it that nobody has."""

    @property
    def mode(self) -> str:
        """How it will be looked for, as the answer's `query_mode` tells it."""
        if self.phone:
            return "reverse_phone"
        if self.email:
            return "email"
        if self.name.last:
            return "name_address" if self.street or self.city or self.state or self.zip else "name"
        return "reverse_address"

    @property
    def rule(self) -> str:
        return "name" if self.mode == "name_address" and not (self.street or self.city or self.zip) else self.mode

    @property
    def without_contact(self) -> "Query | None":
        """What is left to ask when nobody has the number, or else the email; None: too little."""
        if not (self.phone or self.email):
            return None
        rest = replace(self, phone="", email=self.email if self.phone else "", contact_missed=True)
        if rest.email or rest.street or (rest.name.last and rest.zip):
            return rest
        return None


class Row(NamedTuple):
    """A stored row. `phones`: (E.164, whether current), current first; a firm has no `parts`; unknown texts are ""."""

    source: str
    record: int
    loaded_ms: int
    name: str
    parts: Name
    business: bool
    employer: str
    title: str
    line1: str
    line2: str
    city: str
    state: str
    zip: str
    street_key: str
    phones: tuple[tuple[str, bool], ...]
    emails: tuple[str, ...]


class Hit(NamedTuple):
    """A row that fits: how well, and by what."""

    row: Row
    score: float
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The people, best first, each as the rows that speak of them, best first."""

    people: tuple[tuple[Hit, ...], ...]


@dataclass(frozen=True, slots=True)
class NotFound:
    """Nobody to charge for. `reason`: "too_common", "ambiguous", "place_missing", or None where nothing fits."""

    reason: str | None = None


Verdict = Found | NotFound


def spellings(row: Row) -> frozenset[str]:
    """By which the person of a row is known again."""
    named = names_in_parts(row.parts.first, row.parts.last) | names_of(row.name)
    contacts = {of_phone(number) for number, _ in row.phones} | {of_email(address) for address in row.emails}
    where = places_of(row.city, row.state, row.zip)
    return of_names(named, where) | frozenset(spelling for spelling in contacts if spelling is not None)


def without(rows: Sequence[Row], hides: Hides) -> list[Row]:
    """Rows about whom something may be told: no row of a person of whom any row is hidden."""
    hidden = {id(row) for row in rows if hides(spellings(row))}
    if not hidden:
        return list(rows)
    people = gather([Hit(row, 1.0, ()) for row in rows])
    gone = {id(hit.row) for hits in people if any(id(hit.row) in hidden for hit in hits) for hit in hits}
    return [row for row in rows if id(row) not in gone]


def threshold(rule: str, rules: Rules) -> float:
    """The score from which a rule matches."""
    return {
        "reverse_phone": rules.contact_min,
        "email": rules.contact_min,
        "name_address": rules.name_address_min,
        "name": rules.name_min,
        "reverse_address": rules.name_address_min,
    }[rule]


def judge(query: Query, rows: Iterable[Row], rules: Rules) -> Verdict:
    """The candidates of a look-up -> who of them is a match."""
    if query.rule == "reverse_address" and not (query.city or query.zip):
        return NotFound("place_missing")
    least = threshold(query.rule, rules)
    hits = [hit for hit in (score(query, row, rules) for row in rows) if hit is not None and hit.score >= least]
    by_name = query.rule in ("name", "name_address")
    if by_name and len(hits) > _ROWS_MAX:
        return NotFound("too_common")
    people = gather(sorted(hits, key=_rank))
    if by_name and len(people) > rules.people_max:
        return NotFound("too_common")
    if by_name and len(people) > 1 and (query.rule == "name" or query.contact_missed):
        return NotFound("ambiguous")
    return Found(people) if people else NotFound()


def score(query: Query, row: Row, rules: Rules) -> Hit | None:
    """How well one row fits; None where it does not at all."""
    if not row.name.strip():
        return None
    match query.rule:
        case "reverse_phone":
            return _by_phone(query, row, rules)
        case "email":
            return _by_contact(query, row, rules, 0.90, "email") if query.email in row.emails else None
        case "reverse_address":
            return _by_address(query, row, rules)
        case _:
            return _by_name(query, row, rules)


def _by_phone(query: Query, row: Row, rules: Rules) -> Hit | None:
    current = dict(row.phones).get(query.phone)
    if current is None:
        return None
    return _by_contact(query, row, rules, 0.95 if current else 0.80, "phone")


def _by_contact(query: Query, row: Row, rules: Rules, base: float, what: str) -> Hit:
    if not query.name.last:
        return Hit(row, base, (what,))
    if agree_name(query.name, row.parts, rules) > 0:
        return Hit(row, base, (what, "name"))
    return Hit(row, min(base, _NAME_DISAGREES), (what,))


def _by_name(query: Query, row: Row, rules: Rules) -> Hit | None:
    likeness = agree_name(query.name, row.parts, rules)
    if likeness == 0:
        return None
    if query.rule == "name":
        fits = not query.state or row.state == query.state
        return Hit(row, _rounded(likeness), ("name", "state") if query.state else ("name",)) if fits else None
    place, by = _agree_place(query, row, rules)
    if query.contact_missed and "zip" not in by and "street" not in by:
        return None
    return Hit(row, _rounded(likeness * place), ("name", *by)) if place > 0 else None


def agree_name(asked: Name, held: Name, rules: Rules) -> float:
    """How well two names in parts agree, 0 to 1; 0 for two names."""
    last = names.agree_last(asked.last, held.last, rules.last_name_min)
    if last == 0:
        return 0.0
    return last * names.agree_first(asked.first, held.first) * names.agree_rest(asked, held)


def _agree_place(query: Query, row: Row, rules: Rules) -> tuple[float, tuple[str, ...]]:
    """(0 to 1, what agrees). Another state is another place; what contradicts beside an agreement takes a little."""
    if query.state and row.state and query.state != row.state:
        return 0.0, ()
    city = places.agree_city(query.city, row.city, rules.city_min)
    same_zip = bool(query.zip) and query.zip == row.zip
    same_street = bool(query.street) and places.street_key(query.street) == row.street_key
    if not (city or same_zip or same_street):
        return 0.0, ()
    agreement = 1.0 if same_zip or same_street else 0.95 * city
    if query.city and row.city and not city:
        agreement *= 0.95  # a ZIP goes by several city names
    if query.street and row.street_key and not same_street:
        agreement *= 0.90  # people move within a town
    if query.zip and row.zip and query.zip[:3] != row.zip[:3]:
        agreement *= 0.80
    by = (("street", same_street), ("city", city > 0), ("zip", same_zip), ("state", bool(query.state and row.state)))
    return agreement, tuple(word for word, agrees in by if agrees)


def _by_address(query: Query, row: Row, rules: Rules) -> Hit | None:
    street, unit = places.split_unit(query.street)
    if not row.street_key or row.street_key != places.street_key(street):
        return None
    held = places.unit_key(row.line2) or places.split_unit(row.line1)[1]
    if unit and held and unit != held:
        return None
    if query.state and row.state and query.state != row.state:
        return None
    if query.zip and query.zip == row.zip:
        return Hit(row, 0.90, ("street", "zip"))
    city = places.agree_city(query.city, row.city, rules.city_min)
    if not city or (query.zip and row.zip and query.zip[:3] != row.zip[:3]):
        return None
    return Hit(row, _rounded(0.90 * city), ("street", "city"))


def _rank(hit: Hit) -> tuple[float, bool, str, int]:
    """Best first; the rest is only there so that the same question always gets the same order."""
    return -hit.score, hit.row.business, hit.row.source, hit.row.record


def _rounded(score: float) -> float:
    return round(score, 3)


def gather(hits: Sequence[Hit]) -> tuple[tuple[Hit, ...], ...]:
    """Hits in their order -> people: rows with agreeing names that share a phone, an email or an address are one.

    In doubt they stay two, and two people for one name are nobody to charge for.
    """
    people: list[list[Hit]] = []
    at: dict[str, list[int]] = {}
    for hit in hits:
        keys = _contact_keys(hit.row)
        known = {index for key in keys for index in at.get(key, ())}
        index = next((i for i in sorted(known) if _same_name(people[i][0].row, hit.row)), None)
        if index is None:
            index = len(people)
            people.append([])
        people[index].append(hit)
        for key in keys:
            at.setdefault(key, []).append(index)
    return tuple(tuple(rows) for rows in people)


def _contact_keys(row: Row) -> list[str]:
    keys = [number for number, _ in row.phones] + list(row.emails)
    if row.street_key:
        keys.append(f"{row.street_key}|{row.zip or places.city_word(row.city)}")
    return keys


def _same_name(a: Row, b: Row) -> bool:
    if a.business or b.business:
        return a.business == b.business and names.fold(a.name) == names.fold(b.name)
    return (
        names.fold(a.parts.last) == names.fold(b.parts.last)
        and (a.parts.first == b.parts.first or names.agree_first(a.parts.first, b.parts.first) > 0)
        and names.agree_rest(a.parts, b.parts) == 1.0
    )
