"""Rows of the directory by what they have in common, a page at a time: what may be asked, and where a page ended.

A look-up asks for one person and is judged by likeness. A list takes every row that has the words it was asked for,
and no other: each filter is words of the index (`finder`, see database.py) that must all stand in a row. So a page is a
walk along the postings of these words, from where the last one ended, and never along the table:

    fsample cseattle swa z981 z98101     of a firm's name and of the place, as every look-up uses them
    kperson kbusiness                    what a row is
    msample                              a word of a middle name or a suffix
    towner esample                       a word of the title, of the employer's name
    hphone hemail                        that it has a number that is not a former one, an email

Rows come in the order of their numbers in the file. Another file that is loaded adds its rows at the end, and erased
rows only go; but a file that is loaded again gives its rows new numbers, and no place from before is one any more. A
cursor therefore holds its place with a digest of the loads that it knew: as long as these are all there, whoever
follows it gets every row once. It holds no secret and opens nothing: what it is good for is decided by the filters that
come with it again, and it is refused beside others than its own.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from upstreams.directory import firms, names
from upstreams.directory.matching import Row
from upstreams.directory.records import Record

WORDS_MAX: Final = 12
"""Words of one filter."""
ZIP_PREFIX_MIN: Final = 3

_CURSOR = struct.Struct(">QQ8s")
_CHECK_BYTES: Final = 8
_TO_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_TO_DIGITS = str.maketrans("ghijklmnop", "0123456789")


@dataclass(frozen=True, slots=True)
class Filters:
    """What rows must have. Words are folded, `city` is places.city_word of it, `state` a code, `zip` three to five
    digits; unknown is empty, and None of what may be or not."""

    kind: str = ""
    """ "person" or "business"."""
    name: tuple[str, ...] = ()
    """Of a person's name or a firm's."""
    title: tuple[str, ...] = ()
    company: tuple[str, ...] = ()
    """Of the name of the firm itself, or of somebody's employer."""
    city: str = ""
    state: str = ""
    zip: str = ""
    has_phone: bool | None = None
    has_email: bool | None = None

    @property
    def narrow(self) -> bool:
        """Whether they are about some of the rows; all people, or all who have a number, are no list."""
        return bool(self.name or self.title or self.company or self.city or self.state or self.zip)

    @property
    def by(self) -> tuple[str, ...]:
        """What a row agrees in."""
        fields = (*self.__dataclass_fields__,)
        return tuple(field for field in fields if getattr(self, field) not in ("", (), None))


class Cursor(NamedTuple):
    """Where a page ended."""

    after: int
    """The number of its last row."""
    newest_ms: int
    """When the latest of the loads was made that it knew."""
    loads: bytes
    """Digest of these."""


class Page(NamedTuple):
    rows: list[Row]
    next: Cursor | None
    """None: there are no more rows."""


def traits(record: Record) -> str:
    """The words by which `finder` narrows a list."""
    words = ["kbusiness" if record.business else "kperson"]
    words += [f"m{word}" for word in names.fold(f"{record.middle} {record.suffix}").split()]
    if record.title:
        words += [f"t{word}" for word in names.fold(record.title).split()]
    if record.employer:
        words += [f"e{word}" for word in firms.words(record.employer)]
    if record.phones:
        words.append("hphone")
    if record.emails:
        words.append("hemail")
    return " ".join(words)


def expression(filters: Filters, term: Callable[[str], str]) -> str:
    """As FTS5 reads it; `term` quotes a folded word."""
    wanted = [f"trait : {term('k' + filters.kind)}"] if filters.kind else []
    core = [word for word in filters.name if not firms.is_form(word)] or filters.name
    for word in filters.name:
        # A firm is indexed without its legal form, which then says nothing against it.
        form = "" if word in core else f" OR trait : {term('kbusiness')}"
        person = f"{{last first}} : {term(word)} OR trait : {term('m' + word)}"
        wanted.append(f"({person} OR area : {term('f' + word)}{form})")
    wanted += [f"trait : {term('t' + word)}" for word in filters.title]
    wanted += [f"(area : {term('f' + word)} OR trait : {term('e' + word)})" for word in filters.company]
    if filters.city:
        wanted.append(f"area : {term(filters.city)}")
    if filters.state:
        wanted.append(f"area : {term('s' + filters.state.lower())}")
    if filters.zip:
        # ZIPs and their first three digits are words of their own; between the two there are ten at the most.
        wanted.append(f"area : {term('z' + filters.zip)}" + (" *" if len(filters.zip) == 4 else ""))
    has = (("hphone", filters.has_phone), ("hemail", filters.has_email))
    wanted += [f"trait : {term(word)}" for word, has_it in has if has_it]
    unwanted = [f"trait : {term(word)}" for word, has_it in has if has_it is False]
    return " AND ".join(wanted) if not unwanted else f"({' AND '.join(wanted)}) NOT ({' OR '.join(unwanted)})"


def digest_of_loads(loads: Iterable[tuple[str, int]]) -> bytes:
    """`loads`: (source, when it was loaded), in order."""
    return blake2b(repr(list(loads)).encode(), digest_size=8, person=b"loads").digest()


def written(cursor: Cursor, filters: Filters) -> str:
    """A cursor as a client gets it. Letters only: what could be a number in an answer is taken for somebody's."""
    packed = _CURSOR.pack(*cursor)
    return (packed + _check(packed, filters)).hex().translate(_TO_LETTERS)


def read(text: str, filters: Filters) -> Cursor | None:
    """None: it is none, or one of other filters."""
    if not (text.isascii() and text.isalpha() and text.islower()):
        return None
    try:
        token = bytes.fromhex(text.translate(_TO_DIGITS))
    except ValueError:
        return None
    packed, check = token[:-_CHECK_BYTES], token[-_CHECK_BYTES:]
    if len(packed) != _CURSOR.size or check != _check(packed, filters):
        return None
    cursor = Cursor(*_CURSOR.unpack(packed))
    return cursor if max(cursor.after, cursor.newest_ms) < 1 << 63 else None


def _check(packed: bytes, filters: Filters) -> bytes:
    return blake2b(packed + repr(filters).encode(), digest_size=_CHECK_BYTES, person=b"leads/search").digest()
