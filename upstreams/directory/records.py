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
from upstreams.directory.mapping import MANY
from upstreams.directory.names import Name
from upstreams.directory.places import Address

_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}", re.ASCII)
_FLOAT = re.compile(r"^\s*([0-9]+)\.0\s*$")  # a spreadsheet took the number for one
_MANY_PHONES = re.compile(r"[;|\n]")
_MANY_EMAILS = re.compile(r"[;|,\s]+")
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
    """Cells of one file's rows -> Records. `columns`: field -> the indices of its columns."""

    columns: Mapping[str, tuple[int, ...]]
    region: str

    @classmethod
    def of(cls, headers: Sequence[str], mapping: Mapping[str, str], region: str) -> "Shaper":
        columns: dict[str, tuple[int, ...]] = {}
        for index, header in enumerate(headers):
            field = mapping.get(header)
            if field is not None and (field in MANY or field not in columns):
                columns[field] = (*columns.get(field, ()), index)
        return cls(columns, region)

    def shape(self, cells: Sequence[str], *, thorough: bool) -> Record | None:
        """One row -> its Record; None where it needs `thorough`. Raises RowProblem for a row of no use."""
        name = self._name(cells, thorough)
        address = self._address(cells, thorough)
        if name is None or address is None:
            return None
        notes: list[str] = []
        numbers = self._phones("phone", cells, notes)
        old = self._phones("old_phone", cells, notes)
        emails = self._emails(cells, notes)
        company, title = self._cell("company", cells), self._cell("title", cells)
        full, business = name.full, False
        if not full and company:
            full, business, company = company, True, ""
        elif full and not name.first and names.is_business(full):
            business, name = True, Name("", "", "")
        if not (full or numbers or old or emails or address.line1):
            raise RowProblem("; ".join(["nothing to find it by: no name, phone, email or street", *notes]))
        return Record(
            full, *name, business, company, title, *address, tuple(numbers), tuple(old), tuple(emails), tuple(notes)
        )

    def _cell(self, field: str, cells: Sequence[str]) -> str:
        indices = self.columns.get(field)
        if indices is None:
            return ""
        text = cells[indices[0]].strip()
        if len(text) > _TEXT_MAX:
            raise RowProblem(f"the {field} has more than {_TEXT_MAX} characters")
        return text

    def _name(self, cells: Sequence[str], thorough: bool) -> Name | None:
        first, last = self._cell("first", cells), self._cell("last", cells)
        if first or last:
            return Name(first, self._cell("middle", cells), last, self._cell("suffix", cells))
        text = self._cell("name", cells)
        if not text:
            return Name("", "", "")
        if names.is_business(text):
            return Name("", "", text)
        return names.split(text) if thorough else names.split_plain(text)

    def _address(self, cells: Sequence[str], thorough: bool) -> Address | None:
        street, city = self._cell("street", cells), self._cell("city", cells)
        state, code = self._cell("state", cells), self._cell("zip", cells)
        whole = self._cell("address", cells)
        if street or city or not whole:
            return Address(
                street, self._cell("unit", cells), city, places.state_code(state) or "", places.zip5_loose(code) or ""
            )
        return places.split(whole) if thorough else places.split_plain(whole)

    def _phones(self, field: str, cells: Sequence[str], notes: list[str]) -> list[str]:
        found: list[str] = []
        for index in self.columns.get(field, ()):
            cell = cells[index].strip()
            for text in _MANY_PHONES.split(cell) if cell else ():
                number = phones.normalise(_FLOAT.sub(r"\1", text), self.region)
                if number is None and text.strip():
                    notes.append("a phone that is no possible number was left out")
                elif number is not None and number not in found:
                    found.append(number)
        return found

    def _emails(self, cells: Sequence[str], notes: list[str]) -> list[str]:
        found: list[str] = []
        for index in self.columns.get("email", ()):
            cell = cells[index].strip().lower()
            for text in _MANY_EMAILS.split(cell) if cell else ():
                if text and _EMAIL.fullmatch(text) is None:
                    notes.append("an email without the shape of one was left out")
                elif text and text not in found:
                    found.append(text)
        return found


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
