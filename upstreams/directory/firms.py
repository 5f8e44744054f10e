"""Names of firms: what is left without the legal form, and when two of them are one firm's.

The token-set ratio alone calls "Care" and "Sample Window Care" one name, since it forgives whatever one of two names
lacks. Money hangs on this, so beside it counts how many words one name has more than the other.
"""

import re
from collections.abc import Collection

from upstreams.directory.names import LEGAL_FORMS, alike, fold

_PASSING = LEGAL_FORMS | {"the", "and", "of"}
_SPELLED_OUT = re.compile(r"\b([a-z]) (?=[a-z]\b)")
_WORD_MIN = 0.92
"""Jaro-Winkler of two words, from which one is the other misspelled."""
TOKEN_SET_MIN = 85.0


def words(name: str) -> tuple[str, ...]:
    """A firm's name in folded words, without legal forms and articles: "The Sample Co., LLC" -> ("sample",)."""
    folded = fold(name.replace(".", "")).split()
    return tuple(word for word in folded if word not in _PASSING) or tuple(folded)


def core(name: str) -> str:
    """What two spellings of a firm's name share, in order: "The A B C Bakery, L.L.C." -> "abc bakery"."""
    return " ".join(words(_SPELLED_OUT.sub(r"\1", fold(name))))


def is_form(word: str) -> bool:
    """Whether a folded word is a legal form or an article."""
    return word in _PASSING


def agree(asked: str, held: str, passing: Collection[str] = ()) -> float:
    """How well two names of firms agree: 1 one name, 0.9 one has a word more, 0.6 a single word that the other begins
    with, else 0. Words in `passing` (folded; a city, "home") may stand in the held name beside it."""
    ours = words(asked)
    theirs = [word for word in words(held) if word in ours or word not in passing]
    if not ours or not theirs:
        return 0.0
    if "".join(ours) == "".join(theirs):
        return 1.0
    if _token_set(ours, theirs) < TOKEN_SET_MIN:
        return 0.0
    fewer, more = (ours, theirs) if len(ours) <= len(theirs) else (theirs, ours)
    rest = list(more)
    for word in fewer:
        twin = next((other for other in rest if other == word), None) or next(
            (other for other in rest if len(word) > 3 and alike(word, other) >= _WORD_MIN), None
        )
        if twin is None:
            return 0.0
        rest.remove(twin)
    if not rest:
        return 1.0
    if len(rest) > 1:
        return 0.0
    return 0.9 if len(fewer) > 1 else 0.6


def _token_set(ours: Collection[str], theirs: Collection[str]) -> float:
    from rapidfuzz import fuzz

    return fuzz.token_set_ratio(" ".join(ours), " ".join(theirs))
