"""What is kept that tells of a person: known again in the clear, while his data is looked for.

An Identity is what a person is known by, as far as the operator has it. Unlike the hashes of core/subject.py it reads
texts too. A record bears his name with one of his places, or without any place at all: what could be him is him here,
since a copy too many that is gone can be bought again, and one too few stays.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.core.folding import fold
from gateway.core.subject import NAMES, Record, records
from gateway.core.subject import told as told_of

_WORDS_BETWEEN: Final = 1
"""Middle names between a first and a last name."""


@dataclass(frozen=True, slots=True)
class Identity:
    phones: frozenset[str] = field(default=frozenset(), repr=False)
    """Spellings of core/subject.py, as the emails are."""
    emails: frozenset[str] = field(default=frozenset(), repr=False)
    names: frozenset[str] = field(default=frozenset(), repr=False)
    """`dana sample`: first and last name in the order of the alphabet; every form of the first name."""
    places: frozenset[str] = field(default=frozenset(), repr=False)
    states: frozenset[str] = field(default=frozenset(), repr=False)
    """Where nothing narrower is said of somebody with the name."""

    def is_told_by(self, kept: bytes | str) -> bool:
        """Whether a text, or a JSON document, has anything of this person."""
        try:
            document = orjson.loads(kept)
        except ValueError:
            document = kept.decode("utf-8", "replace") if isinstance(kept, bytes) else kept
        return self.is_in(document)

    def is_in(self, document: Any) -> bool:
        return any(self.is_record(record) for record in records(document)) or any(
            self._is_in_text(text) for text in _texts(document)
        )

    def is_record(self, record: Record) -> bool:
        """Whether it is of this person, or could be."""
        if record.phones & self.phones or record.emails & self.emails:
            return True
        here = bool(record.places & self.places) or record.places <= self.states
        return bool(record.names & self.names) and here

    def _is_in_text(self, text: str) -> bool:
        if self.phones or self.emails:
            if told_of(text).spellings & (self.phones | self.emails):
                return True
            digits = re.sub(r"[^0-9]", "", text)
            if any(phone.removeprefix("phone:").removeprefix("1") in digits for phone in self.phones):
                return True
        return any(_names(text, *name.split(" ", 1)) for name in self.names)


def _names(text: str, one: str, other: str) -> bool:
    """Whether two names stand beside each other, or with a middle name between them, in either order."""
    words = fold(text).split()
    places = [at for at, word in enumerate(words) if word == one]
    return any(
        words[near] == other
        for at in places
        for near in range(max(0, at - 1 - _WORDS_BETWEEN), min(len(words), at + 2 + _WORDS_BETWEEN))
        if near != at
    )


def _texts(document: Any) -> list[str]:
    """Every text of a document but names: a record is judged as a whole, by its place too."""
    match document:
        case str():
            return [document]
        case list():
            return [text for each in document for text in _texts(each)]
        case dict():
            return [
                text
                for name, each in document.items()
                if name not in NAMES or not isinstance(each, str)
                for text in _texts(each)
            ]
        case _:
            return []
