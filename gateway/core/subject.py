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
a name, is about that person, its places too. One without any place is where the record around it is, as an officer is
where his firm is, and where the whole answer is, if nothing is around it. What an answer says of a suppressed person is
the whole record, and so is an object without a name that has his number or address in a field of its own. In a list
they are taken out by themselves, and out of the middle of a text too. A name within a text has no place and is not
known again, unless the same answer has a record of him: then the name goes out of its texts as well.
"""

import hmac
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from gateway.core.folding import fold

Json = Any

REMOVED: Final = "[removed]"
"""Stands in a text where a number, an address or a name stood."""
DIGEST_BYTES: Final = 16
NAMES: Final = frozenset(
    ("name", "full_name", "fullname", "contact", "contact_name", "owner", "owner_name", "decision_maker", "dm_name",
     "business_name", "company", "company_name", "person", "caller_name")
)  # fmt: skip
_ROLES: Final = {
    **dict.fromkeys(NAMES, "name"),
    **dict.fromkeys(("first_name", "firstname", "first", "given_name"), "first"),
    **dict.fromkeys(("last_name", "lastname", "last", "surname", "family_name"), "last"),
    "name_parts": "parts",
    "aliases": "aliases",
    **dict.fromkeys(("city", "town", "locality"), "city"),
    **dict.fromkeys(("state_code", "state", "st"), "state"),
    **dict.fromkeys(("region", "state_or_region", "province"), "region"),
    **dict.fromkeys(("zip", "zipcode", "zip_code", "postal_code", "postcode"), "zip"),
}
"""What a field is, by its name; a region is a state only beside a city or a ZIP: a number has one too."""
_NO_NAME: Final = frozenset(
    ("mr", "mrs", "ms", "miss", "dr", "prof", "rev", "sir", "jr", "sr", "junior", "senior", "ii", "iii", "iv", "2nd",
     "3rd", "4th", "md", "phd", "esq", "cpa", "dds")
)  # fmt: skip
_PHONE = re.compile(r"\+?\(?[0-9](?:[0-9 ().\-/]{5,30})[0-9]", re.ASCII)
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}", re.ASCII)
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
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
    around: frozenset[str] = frozenset()
    """Where whatever it stands in is: its place, where it has none of its own."""

    @property
    def spellings(self) -> frozenset[str]:
        return frozenset(self.phones | self.emails) | of_names(self.names, self.where)

    @property
    def where(self) -> frozenset[str]:
        return frozenset(self.places) or self.around


def asked(fields: Mapping[str, Json]) -> frozenset[str]:
    """Whom a request asks about, wherever it says so."""
    whole = Record()
    _gather(fields, whole, None)
    return whole.spellings


def told(data: Json) -> Told:
    found = list(records(data))
    people = [spellings for record in found if record.named and (spellings := record.spellings)]
    loose = [record.spellings for record in found if not record.named]
    return Told(len(people), frozenset().union(*people, *loose))


def records(data: Json) -> Iterator[Record]:
    """Every record of an answer, and what stands apart from all of them as one more without a name."""
    loose = Record()
    yield from _records(data, loose, _places(data))
    yield loose


def _places(value: Json) -> frozenset[str]:
    """Every place that an answer has."""
    if isinstance(value, dict):
        return frozenset(_facts(value)[1]).union(*(_places(child) for child in value.values()))
    return frozenset().union(*(_places(child) for child in value)) if isinstance(value, list) else frozenset()


def _records(value: Json, loose: Record, around: frozenset[str]) -> Iterator[Record]:
    if isinstance(value, dict):
        names, places = _facts(value)
        if names:
            record = Record(names, places, named=True, around=around)
            inner: list[dict[str, Json]] = []
            _gather_below(value, record, inner)
            yield record
            for each in inner:
                yield from _records(each, loose, record.where)
        else:
            for child in value.values():
                if isinstance(child, dict | list):
                    yield from _records(child, loose, around)
                else:
                    _contacts(child, loose)
    elif isinstance(value, list):
        for child in value:
            yield from _records(child, loose, around)
    else:
        _contacts(value, loose)


def _gather(value: Json, record: Record, inner: list[dict[str, Json]] | None) -> None:
    """What belongs to a record; objects with a name of their own are put into `inner`, or belong to it too: None."""
    if isinstance(value, dict):
        names, places = _facts(value)
        if names and inner is not None:
            inner.append(value)
            return
        record.names |= names
        record.places |= places
        _gather_below(value, record, inner)
    elif isinstance(value, list):
        for child in value:
            _gather(child, record, inner)
    else:
        _contacts(value, record)


def _gather_below(value: dict[str, Json], record: Record, inner: list[dict[str, Json]] | None) -> None:
    for name, child in value.items():
        if isinstance(child, list) and _role(name) == "aliases":
            record.names.update(*(names_of(each) for each in child if isinstance(each, str)))
        elif not (isinstance(child, dict) and _role(name) == "parts"):
            _gather(child, record, inner)


def _facts(value: Mapping[str, Json]) -> tuple[set[str], set[str]]:
    """(names, places) that an object has in fields of its own."""
    names: set[str] = set()
    found: dict[str, Json] = {}
    for name, child in value.items():
        role = _role(name)
        if role is None or child is None:
            continue
        if role == "name":
            several = child if isinstance(child, list) else [child]
            names.update(*(names_of(each) for each in several if isinstance(each, str)))
        elif role == "parts":
            names |= _facts(child)[0] if isinstance(child, dict) else set()
        else:
            found.setdefault(role, child)
    if not found:
        return names, set()
    texts = {role: _text(child) for role, child in found.items()}
    if "first" in texts and "last" in texts:
        names |= names_in_parts(texts["first"], texts["last"])
    city, zip = texts.get("city", ""), texts.get("zip", "")
    state = texts.get("state") or (texts.get("region", "") if city or zip else "")
    return names, set(places_of(city, state, zip)) if city or zip or state else set()


@lru_cache(maxsize=4096)
def _role(name: str) -> str | None:
    return _ROLES.get(name) or _ROLES.get(_NO_WORD.sub("_", str(name)[:_TEXT_MAX].lower()).strip("_"))


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


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
    out = _TakingOut(hides)
    left = out.of(data, _places(data))
    if left is _GONE:
        return None, True
    return (_unnamed(left, out.names) if out.names else left), out.taken


@dataclass(slots=True)
class _TakingOut:
    hides: Hides
    taken: bool = False
    names: set[str] = field(default_factory=set)
    """Of whoever was taken out."""

    def of(self, value: Json, around: frozenset[str]) -> Any:
        if isinstance(value, dict):
            return self._object(value, around)
        if isinstance(value, list):
            return [left for child in value if (left := self.of(child, around)) is not _GONE]
        if isinstance(value, str):
            left = _text_without(value, self.hides)
        else:
            alone = Record()
            _contacts(value, alone)
            left = _GONE if alone.phones and self.hides(alone.phones) else value
        self.taken |= left is not value
        return left

    def _object(self, value: dict[str, Json], around: frozenset[str]) -> Any:
        names, places = _facts(value)
        own = Record(names, places, around=around)
        if names:
            _gather_below(value, own, [])
        else:
            for child in value.values():
                if not isinstance(child, dict | list):
                    _whole_contacts(child, own)
        if self.hides(own.spellings):
            self.taken = True
            self.names |= own.names
            return _GONE
        left = {name: self.of(child, own.where if names else around) for name, child in value.items()}
        return {name: None if child is _GONE else child for name, child in left.items()}


def _unnamed(value: Json, names: Collection[str]) -> Json:
    """Without these names in its texts. What has one for its own name is somebody else."""
    if isinstance(value, dict):
        return {
            key: child if isinstance(child, str) and _role(key) == "name" else _unnamed(child, names)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_unnamed(child, names) for child in value]
    return without_names(value, names) if isinstance(value, str) else value


def without_names(text: str, names: Collection[str]) -> str:
    """A text without these names, which are spelled as `names_of` does: wherever a first and a last name stand beside
    each other, in either order, or with one word between them."""
    if not names:
        return text
    words = [(fold(word[0]), word.start(), word.end()) for word in _WORD.finditer(text)]
    left, at = [], 0
    for n, (one, start, _) in enumerate(words):
        if start < at:
            continue
        ends = [end for other, _, end in words[n + 1 : n + 3] if _pair(one, other) in names]
        if ends:
            left += [text[at:start], REMOVED]
            at = ends[0]
    return "".join((*left, text[at:])) if at else text


def _whole_contacts(value: Json, record: Record) -> None:
    """What is a number or an address and nothing beside it."""
    if isinstance(value, str) and not (_PHONE.fullmatch(value.strip()) or _EMAIL.fullmatch(value.strip())):
        return
    _contacts(value, record)


def _text_without(text: str, hides: Hides) -> Any:
    found = [spelling for spelling in _in_text(text) if hides((spelling,))]
    if not found:
        return text
    if _PHONE.fullmatch(text.strip()) or _EMAIL.fullmatch(text.strip()):
        return _GONE

    def gone(match: re.Match[str]) -> str:
        spelling = of_email(match[0]) if "@" in match[0] else of_phone(match[0])
        return REMOVED if spelling in found else match[0]

    return _PHONE.sub(gone, _EMAIL.sub(gone, text))
