"""Subjects: the people the data is about, known again without being written down.

A person is known by a phone number, an email address, or a name with a place. Each has one spelling, and what is kept
is that spelling's keyed hash, as core/lead.py keeps leads and for the same reason; the key lies outside the database.
Two lists are made of such hashes: whom nothing is told about, and who was told about whom.

    phone        its digits, with the 1 before ten of them
    email        lower case
    name, place  first and last name, folded, without titles, suffixes and middle names and in the order of the
                 alphabet ("Sample, Dana Q." is "Dana Sample"); with it a ZIP, a city in a state, a state, or a city
                 where the state is not known

A record is whatever has a name of its own: a JSON object with one of NAMES. All it holds, down to the next object with
a name, is about that person, its places too. What an answer says of a suppressed person is the whole record, and so is
an object without a name that has his number or address in a field of its own. In a list they are taken out by
themselves, and out of the middle of a text too. A name within a text has no place and is not known again.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gateway.core.folding import fold

Json = Any

REMOVED: Final = "[removed]"
"""Stands in a text where a number or an address stood."""
DIGEST_BYTES: Final = 16
NAMES: Final = frozenset(
    ("name", "full_name", "fullname", "contact", "contact_name", "owner", "decision_maker", "dm_name", "business_name",
     "company", "company_name", "person", "caller_name")
)  # fmt: skip
_FIRST: Final = ("first_name", "firstname", "first", "given_name")
_LAST: Final = ("last_name", "lastname", "last", "family_name")
_PARTS: Final = "name_parts"
"""A record's name once more, in an object of its own."""
_CITY: Final = ("city", "town", "locality")
_STATE: Final = ("state_code", "state", "st", "region", "state_or_region")
_ZIP: Final = ("zip", "zipcode", "zip_code", "postal_code", "postcode")
_NO_NAME: Final = frozenset(
    ("mr", "mrs", "ms", "miss", "dr", "prof", "rev", "sir", "jr", "sr", "junior", "senior", "ii", "iii", "iv", "2nd",
     "3rd", "4th", "md", "phd", "esq", "cpa", "dds")
)  # fmt: skip
_PHONE = re.compile(r"\+?\(?[0-9](?:[0-9 ().\-/]{5,30})[0-9]", re.ASCII)
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}", re.ASCII)
_NO_DIGIT = re.compile(r"[^0-9]", re.ASCII)
_NO_WORD = re.compile(r"[^a-z0-9]+", re.ASCII)
_DIGITS: Final = (10, 15)
"""Fewer are no number with its area code, more are none at all."""
_TEXT_MAX: Final = 200
"""Longer texts are no name and no place."""


class Kind(StrEnum):
    """What somebody is known by."""

    PHONE = "phone"
    EMAIL = "email"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class SubjectKey:
    key: bytes = field(repr=False)
    id: int
    """Which one it is: what was hashed with another one is never met again."""

    @classmethod
    def of(cls, secret: bytes) -> "SubjectKey":
        """`secret` may be the root of other keys."""
        return cls(hmac.digest(secret, b"subjects", "sha256"), int.from_bytes(hmac.digest(secret, b"id", "sha256")[:4]))

    def digest(self, spelling: str) -> bytes:
        return hmac.digest(self.key, spelling.encode(), "sha256")[:DIGEST_BYTES]

    def digests(self, spellings: Iterable[str]) -> frozenset[bytes]:
        return frozenset(self.digest(spelling) for spelling in spellings)


Hides = Callable[[Iterable[str]], bool]
"""Whether one of these spellings is of somebody about whom nothing is told."""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Those about whom nothing is told, as they were last read."""

    key: SubjectKey
    digests: frozenset[bytes] = field(default=frozenset(), repr=False)

    def hides(self, spellings: Iterable[str]) -> bool:
        return any(self.key.digest(spelling) in self.digests for spelling in spellings)


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says about people."""

    people: int
    """Records that could be known again."""
    spellings: frozenset[str] = field(repr=False)


# Spellings


def of_phone(text: str) -> str | None:
    """None for what is no number with an area code."""
    digits = _NO_DIGIT.sub("", text)
    digits = f"1{digits}" if len(digits) == 10 else digits
    return f"phone:{digits}" if _DIGITS[0] <= len(digits) <= _DIGITS[1] else None


def of_email(text: str) -> str:
    return f"email:{text.strip().lower()}"


def names_of(text: str) -> frozenset[str]:
    """The spellings of a name in one piece: mostly one; of three words and more the middle one could be a last name."""
    last, comma, first = text[:_TEXT_MAX].partition(",")
    words = _words(f"{first} {last}" if comma and _words(first) else text[:_TEXT_MAX])
    if len(words) < 2:
        return frozenset()
    lasts = [words[-1], *(words[-2:-1] if len(words) > 2 and len(words[-2]) > 1 else [])]
    return frozenset(_pair(words[0], last) for last in lasts)


def names_in_parts(first: str, last: str) -> frozenset[str]:
    firsts, lasts = _words(first), _words(last)
    return frozenset((_pair(firsts[0], lasts[-1]),)) if firsts and lasts else frozenset()


def places_of(city: str = "", state: str = "", zip: str = "") -> frozenset[str]:
    """Of one address; "" is not known."""
    city, state = fold(city[:_TEXT_MAX]), fold(state[:_TEXT_MAX])
    found = {f"z{zip[:5]}"} if zip[:5].isdigit() and len(zip) >= 5 else set()
    if len(state) == 2:
        found |= {state, f"{city},{state}"} if city else {state}
    elif city:
        found.add(city)
    return frozenset(found)


def places_to_suppress(city: str = "", state: str = "", zip: str = "") -> frozenset[str]:
    """The spellings of a place by which somebody is not to be found: as narrow as it is told, and the city by itself
    for whoever asks without the state. Nobody is hidden in a whole state because he lives in one of its cities."""
    narrow = {place for place in places_of(city, state, zip) if place != fold(state)}
    if city and narrow:
        narrow.add(fold(city[:_TEXT_MAX]))
    return frozenset(narrow) or places_of(state=state)


def of_names(names: Iterable[str], places: Iterable[str]) -> frozenset[str]:
    where = tuple(places)
    return frozenset(f"name:{name}|{place}" for name in names for place in where)


def _words(text: str) -> list[str]:
    words = fold(text).split()
    return [word for word in words if word not in _NO_NAME] if len(words) > 1 else words


def _pair(first: str, last: str) -> str:
    return " ".join(sorted((first, last)))


# Records


@dataclass(slots=True)
class Record:
    """What stands under one name, or, of `named` False, under none."""

    names: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    phones: set[str] = field(default_factory=set)
    emails: set[str] = field(default_factory=set)
    named: bool = False

    @property
    def spellings(self) -> frozenset[str]:
        return frozenset(self.phones | self.emails) | of_names(self.names, self.places)


def asked(fields: Mapping[str, Json]) -> frozenset[str]:
    """Whom a request asks about, wherever it says so."""
    whole = Record()
    _gather(fields, whole, deep=True)
    return whole.spellings


def told(data: Json) -> Told:
    found = list(records(data))
    people = [spellings for record in found if record.named and (spellings := record.spellings)]
    loose = [record.spellings for record in found if not record.named]
    return Told(len(people), frozenset().union(*people, *loose))


def records(data: Json) -> Iterator[Record]:
    """Every record of an answer, and what stands apart from all of them as one more without a name."""
    loose = Record()
    yield from _records(data, loose)
    yield loose


def _records(value: Json, loose: Record) -> Iterator[Record]:
    if isinstance(value, dict):
        if _is_record(value):
            record = Record(named=True)
            inner = list(_gather(value, record))
            yield record
            for each in inner:
                yield from _records(each, loose)
        else:
            for child in value.values():
                yield from _records(child, loose)
    elif isinstance(value, list):
        for child in value:
            yield from _records(child, loose)
    else:
        _contacts(value, loose)


def _gather(value: Json, record: Record, *, deep: bool = False) -> list[dict[str, Json]]:
    """What belongs to a record; answers with the records below it. `deep`: those belong to it too."""
    below: list[dict[str, Json]] = []
    if isinstance(value, dict):
        fields = {_key(name): child for name, child in value.items()}
        record.names |= _names(fields)
        record.places |= _places(fields)
        for name, child in fields.items():
            if isinstance(child, dict) and not deep and name != _PARTS and _is_record(child):
                below.append(child)
            elif name == "aliases" and isinstance(child, list):
                record.names.update(*(names_of(each) for each in child if isinstance(each, str)))
            else:
                below += _gather(child, record, deep=deep)
    elif isinstance(value, list):
        for child in value:
            if isinstance(child, dict) and not deep and _is_record(child):
                below.append(child)
            else:
                below += _gather(child, record, deep=deep)
    else:
        _contacts(value, record)
    return below


def _key(name: Json) -> str:
    text = str(name)[:_TEXT_MAX]
    return text if text.isidentifier() and text.islower() else _NO_WORD.sub("_", text.lower()).strip("_")


def _is_record(value: Mapping[str, Json]) -> bool:
    return bool(_names({_key(name): child for name, child in value.items()}))


def _names(fields: Mapping[str, Json]) -> set[str]:
    found: set[str] = set()
    for name, value in fields.items():
        if name in NAMES and isinstance(value, str):
            found |= names_of(value)
    parts = fields.get(_PARTS)
    inner = {_key(name): child for name, child in parts.items()} if isinstance(parts, dict) else fields
    first, last = _text(inner, _FIRST), _text(inner, _LAST)
    return found | names_in_parts(first, last) if first and last else found


def _places(fields: Mapping[str, Json]) -> frozenset[str]:
    city, zip = _text(fields, _CITY), _text(fields, _ZIP)
    state = _text(fields, _STATE if city or zip else _STATE[:3])
    return places_of(city, state, zip) if city or zip or state else frozenset()


def _text(fields: Mapping[str, Json], names: Iterable[str]) -> str:
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return ""


def _contacts(value: Json, record: Record) -> None:
    if isinstance(value, str):
        for found in _in_text(value):
            (record.phones if found.startswith("phone:") else record.emails).add(found)
    elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
        found_number = of_phone(str(value)) if len(str(value)) in (10, 11) else None
        if found_number is not None:
            record.phones.add(found_number)


def _in_text(text: str) -> Iterator[str]:
    """Numbers and addresses, wherever they stand."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield of_email(match[0])
    for match in _PHONE.finditer(text):
        number = of_phone(match[0])
        if number is not None:
            yield number


# Taking out

_GONE = object()


def without(data: Json, hides: Hides) -> tuple[Json, bool]:
    """An answer's data without whoever is hidden: (what is left of it, whether anything was taken out)."""
    left, taken = _without(data, hides)
    return (None if left is _GONE else left), taken


def _without(value: Json, hides: Hides) -> tuple[Any, bool]:
    if isinstance(value, dict):
        return _object_without(value, hides)
    if isinstance(value, list):
        pairs = [_without(child, hides) for child in value]
        return [child for child, _ in pairs if child is not _GONE], any(taken for _, taken in pairs)
    if isinstance(value, str):
        return _text_without(value, hides)
    alone = Record()
    _contacts(value, alone)
    return (_GONE, True) if alone.phones and hides(alone.phones) else (value, False)


def _object_without(value: dict[str, Json], hides: Hides) -> tuple[Any, bool]:
    own = Record(named=_is_record(value))
    if own.named:
        _gather(value, own)
    else:
        for child in value.values():
            if not isinstance(child, dict | list):
                _whole_contacts(child, own)
    if hides(own.spellings):
        return _GONE, True
    pairs = {name: _without(child, hides) for name, child in value.items()}
    if not any(taken for _, taken in pairs.values()):
        return value, False
    return {name: None if child is _GONE else child for name, (child, _) in pairs.items()}, True


def _whole_contacts(value: Json, record: Record) -> None:
    """What is a number or an address and nothing beside it."""
    if isinstance(value, str) and not (_PHONE.fullmatch(value.strip()) or _EMAIL.fullmatch(value.strip())):
        return
    _contacts(value, record)


def _text_without(text: str, hides: Hides) -> tuple[Any, bool]:
    found = [spelling for spelling in _in_text(text) if hides((spelling,))]
    if not found:
        return text, False
    if _PHONE.fullmatch(text.strip()) or _EMAIL.fullmatch(text.strip()):
        return _GONE, True

    def gone(match: re.Match[str]) -> str:
        spelling = of_email(match[0]) if "@" in match[0] else of_phone(match[0])
        return REMOVED if spelling in found else match[0]

    return _PHONE.sub(gone, _EMAIL.sub(gone, text)), True
