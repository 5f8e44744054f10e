"""What one row of a file becomes.

Columns that come split are taken as they are; only a name or an address in one piece, and an odd one at that, needs
a parser of 0.2 ms. `Shaper.shape` without `thorough` answers None for such a row: it goes to a worker, which calls
the same with `thorough`. A `Shaper` is plain data, so it travels to the workers.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from upstreams.directory import names, phones, places
from upstreams.directory.names import NOBODY, Name
from upstreams.directory.places import Address

_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}", re.ASCII)
_PHONE_SIGNS = re.compile(r"[;|\n]")
_EMAIL_SIGNS = re.compile(r"[;|,\s]")
_TEXT_MAX = 400
"""Characters of one value; a longer one belongs to another column or another file."""


class RowProblem(ValueError):
    """Why a row was left out, in words for the operator and without the person's data."""


class Record(NamedTuple):
    """A row, ready to be stored. Unknown is ""; phones are E.164, emails lower case."""

    name: str
    first: str
    middle: str
    last: str
    suffix: str
    business: bool
    employer: str
    title: str
    line1: str
    line2: str
    city: str
    state: str
    zip: str
    phones: tuple[str, ...]
    old_phones: tuple[str, ...]
    emails: tuple[str, ...]
    notes: tuple[str, ...]
    """What was left out of it, for the report."""


@dataclass(frozen=True, slots=True)
class Shaper:
    """Cells of one file's rows -> Records. `single`: (field, index of its column); the others: indices of theirs."""

    single: tuple[tuple[str, int], ...]
    phones: tuple[int, ...]
    old_phones: tuple[int, ...]
    emails: tuple[int, ...]
    region: str

    @classmethod
    def of(cls, headers: Sequence[str], mapping: Mapping[str, str], region: str) -> "Shaper":
        columns: dict[str, list[int]] = {}
        for index, header in enumerate(headers):
            if header in mapping:
                columns.setdefault(mapping[header], []).append(index)
        phones, old_phones, emails = (tuple(columns.pop(field, ())) for field in ("phone", "old_phone", "email"))
        return cls(tuple((field, at[0]) for field, at in columns.items()), phones, old_phones, emails, region)

    def shape(self, cells: Sequence[str], *, thorough: bool) -> Record | None:
        """One row -> its Record; None where it needs `thorough`. Raises RowProblem for a row of no use."""
        values = {field: cells[index].strip() for field, index in self.single}
        if values and max(map(len, values.values())) > _TEXT_MAX:
            raise RowProblem(f"a value of more than {_TEXT_MAX} characters")
        name, address = _name(values, thorough), _address(values, thorough)
        if name is None or address is None:
            return None
        notes: list[str] = []
        numbers = self._numbers(cells, self.phones, notes)
        old = self._numbers(cells, self.old_phones, notes) if self.old_phones else ()
        emails = _addresses_of(cells, self.emails, notes)
        full, company, business = name.full, values.get("company", ""), False
        if not full and company:
            full, company, business = company, "", True
        elif full and not name.first and names.is_business(full):
            name, business = NOBODY, True
        if not (full or numbers or old or emails or address.line1):
            raise RowProblem("; ".join(["nothing to find it by: no name, phone, email or street", *notes]))
        title = values.get("title", "")
        return Record(full, *name, business, company, title, *address, numbers, old, emails, tuple(notes))

    def _numbers(self, cells: Sequence[str], columns: tuple[int, ...], notes: list[str]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for text in (text for index in columns for text in _several(cells[index], _PHONE_SIGNS) if text):
            number = phones.normalise(text.removesuffix(".0"), self.region)  # a spreadsheet took it for a float
            if number is None:
                notes.append("a phone that is no possible number was left out")
            else:
                found[number] = None
        return tuple(found)


def _name(values: Mapping[str, str], thorough: bool) -> Name | None:
    first, last = values.get("first", ""), values.get("last", "")
    if first or last:
        return Name(first, values.get("middle", ""), last, values.get("suffix", ""))
    text = values.get("name", "")
    if not text:
        return NOBODY
    if names.is_business(text):
        return Name("", "", text)
    return names.split(text) if thorough else names.split_plain(text)


def _address(values: Mapping[str, str], thorough: bool) -> Address | None:
    street, city, whole = values.get("street", ""), values.get("city", ""), values.get("address", "")
    if whole and not street and not city:
        return places.split(whole) if thorough else places.split_plain(whole)
    state, code = places.state_code(values.get("state", "")), places.zip5_loose(values.get("zip", ""))
    return Address(street, values.get("unit", ""), city, state or "", code or "")


def _addresses_of(cells: Sequence[str], columns: tuple[int, ...], notes: list[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for text in (text for index in columns for text in _several(cells[index], _EMAIL_SIGNS) if text):
        if _EMAIL.fullmatch(text) is None:
            notes.append("an email without the shape of one was left out")
        else:
            found[text.lower()] = None
    return tuple(found)


def _several(cell: str, signs: "re.Pattern[str]") -> Sequence[str]:
    """The values of one cell; mostly there is one."""
    cell = cell.strip()
    return [text.strip() for text in signs.split(cell)] if signs.search(cell) else (cell,)


def shape_many(shaper: Shaper, rows: Sequence[tuple[int, Sequence[str]]]) -> list[tuple[int, Record | str]]:
    """What a worker does: [(line, cells)] -> [(line, Record or why it was left out)]."""
    shaped: list[tuple[int, Record | str]] = []
    for line, cells in rows:
        try:
            record = shaper.shape(cells, thorough=True)
            assert record is not None, "a thorough look leaves nothing open"
            shaped.append((line, record))
        except RowProblem as problem:
            shaped.append((line, str(problem)))
    return shaped
