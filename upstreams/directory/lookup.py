"""Asking the directory: which rows could be meant. Who of them is a match, matching.py decides.

A number, an email or a street is one probe of an index. A name is looked for at its street, then by FTS5: its last
name and every form of its first name, within the city or ZIP, then within the state or the ZIP's first three digits,
then with last names that are spelled much alike. The first round that finds somebody answers. A firm is looked for by
all words of its name, then by any of them. A list goes along the full text from where the last page ended.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw

from gateway.core.subject import Hides
from upstreams.directory import firms, listing, matching, names, places
from upstreams.directory.database import DirectoryError, open_reader
from upstreams.directory.listing import Cursor, Filters, Page
from upstreams.directory.matching import Found, NotFound, Query, Row, Verdict
from upstreams.directory.names import Name
from upstreams.directory.settings import Rules

_ROWS_MAX = 1_000
"""Candidates of one round; a name with more is too common."""
_SHARED_MAX = 100
"""Rows looked at for one number, email or street."""
_WORDS_MAX = 8
"""Words of a firm's name that are looked for."""
_WALKED_MAX = 2_000
"""Rows looked at for one page of a list: so many of them may be of people about whom nothing is told."""
_ALIKE_MAX = 12
"""Last names tried beside the one that was given."""

_BY_PHONE = """
SELECT e.* FROM phone f JOIN entry e ON e.id = f.person WHERE f.number = ? ORDER BY f.current DESC, e.id LIMIT ?
"""
_BY_EMAIL = "SELECT e.* FROM email f JOIN entry e ON e.id = f.person WHERE f.address = ? ORDER BY e.id LIMIT ?"
_BY_STREET = "SELECT * FROM entry WHERE street_key = ? AND street_key <> '' ORDER BY id LIMIT ?"
_BY_NAME = "SELECT e.* FROM finder f JOIN entry e ON e.id = f.rowid WHERE finder MATCH ? ORDER BY f.rowid LIMIT ?"
_BY_WORDS = (
    "SELECT e.* FROM finder f JOIN entry e ON e.id = f.rowid WHERE finder MATCH ? AND f.rowid > ? "
    "ORDER BY f.rowid LIMIT ?"
)
_LOADS = "SELECT name, loaded_ms FROM source WHERE loaded_ms <= ? ORDER BY name"
_LAST_NAMES = "SELECT word FROM last_name WHERE word >= ? AND word < ? ORDER BY word"


def has_firms(path: Path) -> bool:
    """Whether there is a directory with firms that can be found by name."""
    return _has(path, "area : f *")


def has_leads(path: Path) -> bool:
    """Whether there is a directory with anybody in it who can stand in a list."""
    return _has(path, "trait : (kperson OR kbusiness)")


def _has(path: Path, expression: str) -> bool:
    try:
        connection = open_reader(path) if path.exists() else None
    except DirectoryError:
        return False  # whoever opens it to sell from it says why
    if connection is None:
        return False
    try:
        found = connection.execute("SELECT 1 FROM finder WHERE finder MATCH ? LIMIT 1", (expression,))
        return found.fetchone() is not None
    finally:
        connection.close()


class Directory:
    """A read-only view of a directory's file, for one thread. Raises DirectoryError where there is none."""

    def __init__(self, path: Path, rules: Rules) -> None:
        self._connection = open_reader(path)
        self._tokenizer = self._connection.fts5_tokenizer("unicode61")
        self._rules = rules

    def close(self) -> None:
        self._connection.close()

    def find(self, query: Query, hides: Hides | None = None) -> Verdict:
        """Who is meant, of those who are not hidden. Always the same answer, in the same order, to the same question.
        Raises DirectoryError."""
        try:
            if query.rule in ("name", "name_address"):
                return self._find_name(query, hides)
            return self._judge(query, self._candidates(query), hides)
        except apsw.Error as error:
            raise DirectoryError(f"the directory cannot be read: {error}") from error

    def find_firms(self, name: str, state: str = "") -> list[Row]:
        """Rows of firms whose name has the words of this one, or is made of them; in `state`, if one is given, or where
        none is known. Which of them is meant, its caller decides. Raises DirectoryError."""
        words = firms.words(name)[:_WORDS_MAX]
        if not words:
            return []
        # Quoted words that hold letters and digits only.
        terms = [self._term("f" + word) for word in words]
        expressions = [f"area : ({' AND '.join(terms)})"]
        if len(terms) > 1:
            expressions.append(f"area : ({' OR '.join(terms)})")
        try:
            for expression in expressions:
                found = self._rows(_BY_NAME, expression, _ROWS_MAX)
                rows = [row for row in found if row.business and (not state or row.state in ("", state))]
                if any(firms.agree(name, row.name) for row in rows):
                    return rows
        except apsw.Error as error:
            raise DirectoryError(f"the directory cannot be read: {error}") from error
        return []

    def page(self, filters: Filters, cursor: Cursor | None, count: int, hides: Hides | None = None) -> Page | None:
        """The next `count` rows with a name that these filters let through; None: the cursor is of other loads. It is
        shorter only at the end, or where very many are hidden. Raises DirectoryError."""
        try:
            with self._connection:  # the loads and the rows are of one state of the file
                page = self._page(filters, cursor, count, hides)
        except apsw.Error as error:
            raise DirectoryError(f"the directory cannot be read: {error}") from error
        return page

    def _page(self, filters: Filters, cursor: Cursor | None, count: int, hides: Hides | None) -> Page | None:
        if cursor is not None and cursor.loads != self._loads(cursor.newest_ms):
            return None
        newest_ms: int = self._connection.execute("SELECT coalesce(max(loaded_ms), 0) FROM source").get
        expression = listing.expression(filters, self._term)
        after = cursor.after if cursor else 0
        rows: list[tuple[int, Row]] = []
        walked = 0
        while len(rows) <= count and walked < _WALKED_MAX:
            wanted = count + 1 - len(rows)
            found = [(columns[0], row_of(columns)) for columns in self._connection.execute(
                _BY_WORDS, (expression, after, wanted))]  # fmt: skip
            rows += found if hides is None else self._told(found, hides)
            if len(found) < wanted:
                return Page([row for _, row in rows], None)
            after, walked = found[-1][0], walked + len(found)
        if len(rows) > count:
            after = rows[count - 1][0]
        return Page([row for _, row in rows[:count]], Cursor(after, newest_ms, self._loads(newest_ms)))

    def _loads(self, newest_ms: int) -> bytes:
        return listing.digest_of_loads(self._connection.execute(_LOADS, (newest_ms,)))

    def _told(self, found: list[tuple[int, Row]], hides: Hides) -> list[tuple[int, Row]]:
        """Of whom something may be told. What hides somebody may stand in a row that these filters let not through."""
        rows = [row for _, row in found]
        keys = {(_BY_PHONE, number, _SHARED_MAX) for row in rows for number, _ in row.phones}
        keys |= {(_BY_EMAIL, address, _SHARED_MAX) for row in rows for address in row.emails}
        keys |= {(_BY_STREET, row.street_key, _ROWS_MAX) for row in rows if row.street_key}
        near = [row for key in sorted(keys) for row in self._rows(*key)]
        told = {id(row) for row in matching.without([*rows, *near], hides)}
        return [(number, row) for number, row in found if id(row) in told]

    def _candidates(self, query: Query) -> Iterator[Row]:
        match query.rule:
            case "reverse_phone":
                return self._rows(_BY_PHONE, query.phone, _SHARED_MAX)
            case "email":
                return self._rows(_BY_EMAIL, query.email, _SHARED_MAX)
            case _:
                return self._rows(_BY_STREET, places.street_key(query.street), _ROWS_MAX)

    def _rows(self, statement: str, key: str, limit: int) -> Iterator[Row]:
        return map(row_of, self._connection.execute(statement, (key, limit)))

    def _judge(self, query: Query, rows: Iterable[Row], hides: Hides | None) -> Verdict:
        return matching.judge(query, rows if hides is None else matching.without(list(rows), hides), self._rules)

    def _find_name(self, query: Query, hides: Hides | None) -> Verdict:
        verdict: Verdict = NotFound()
        for rows in self._rounds(query):
            if len(rows) > _ROWS_MAX:
                return NotFound("too_common")
            verdict = self._judge(query, rows, hides)
            if isinstance(verdict, Found) or verdict.reason is not None:
                return verdict
        return verdict

    def _rounds(self, query: Query) -> Iterator[list[Row]]:
        """Candidates, from narrow to wide."""
        if query.street:
            yield list(self._rows(_BY_STREET, places.street_key(query.street), _ROWS_MAX))
        for expression in self._expressions(query):
            yield list(self._rows(_BY_NAME, expression, _ROWS_MAX + 1))

    def _expressions(self, query: Query) -> Iterator[str]:
        """FTS5 expressions, from narrow to wide. Their words are quoted, and hold letters and digits only."""
        first = self._first_name(query.name)
        last = [word for word in names.fold(query.name.last).split(" ") if word]
        joined = "".join(last)
        lasts = self._any("last", {joined, *(word for word in last if len(word) > 2)})
        narrow, wide = _areas(query)
        if narrow:
            yield f"{lasts} AND {first} AND {self._any('area', narrow)}"
        around = f" AND {self._any('area', wide)}" if wide else ""
        yield f"{lasts} AND {first}{around}"
        if query.rule == "name_address" and len(joined) > 3:
            alike = self._alike(joined)
            if alike:
                yield f"{self._any('last', alike)} AND {first}{around}"

    def _first_name(self, name: Name) -> str:
        """Rows whose first name may be this one: itself, its short and long forms, its initial."""
        first = names.fold(name.first).split(" ")[0]
        if len(first) == 1:
            return f"first : {self._term(first)} *" if first.isascii() else self._any("first", {first})
        return self._any("first", {*names.variants(first), first[:1]})

    def _any(self, column: str, words: set[str]) -> str:
        """A condition that one of some folded words is in a column."""
        return f"{column} : ({' OR '.join(map(self._term, sorted(words)))})"

    def _term(self, word: str) -> str:
        """A folded word as the index has it. What is a letter is told by each Unicode for itself, and SQLite's is older
        than Python's: a word of ours may be several of the index, which then are all wanted."""
        if word.isascii():
            return f'"{word}"'
        tokens = self._tokenizer(
            word.encode(), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False
        )
        return "(" + " AND ".join(f'"{token}"' for token in tokens) + ")" if tokens else '""'

    def _alike(self, last: str) -> set[str]:
        """Last names in the directory that begin with the same two letters and differ little."""
        bounds = (last[:2], last[:2] + "\U0010ffff")
        words = [word for (word,) in self._connection.execute(_LAST_NAMES, bounds) if word != last]
        return names.likest(last, words, self._rules.last_name_min, _ALIKE_MAX)


def _areas(query: Query) -> tuple[set[str], set[str]]:
    """(words of the city and ZIP, words of the state and the ZIP's area)."""
    narrow, wide = set(), set()
    if query.city:
        narrow.add(places.city_word(query.city))
    if query.zip:
        narrow.add("z" + query.zip)
        wide.add("z" + query.zip[:3])
    if query.state:
        wide.add("s" + query.state.lower())
    return narrow, wide


def row_of(columns: tuple[Any, ...]) -> Row:
    """A line of the view `entry`."""
    _, source, record, loaded_ms, name, first, middle, last, suffix, business, employer, title, *rest = columns
    line1, line2, city, state, zip, street_key, phones, emails = rest
    numbers = [entry.split("/") for entry in (phones or "").split(",") if entry]
    return Row(
        source=source,
        record=record,
        loaded_ms=loaded_ms,
        name=name,
        parts=Name(first, middle, last, suffix),
        business=bool(business),
        employer=employer,
        title=title,
        line1=line1,
        line2=line2,
        city=city,
        state=state,
        zip=zip,
        street_key=street_key,
        phones=tuple(
            sorted(((number, now == "1") for number, now in numbers), key=lambda phone: (not phone[1], phone[0]))
        ),
        emails=tuple(sorted((emails or "").split())),
    )
