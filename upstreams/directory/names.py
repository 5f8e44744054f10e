"""Names of people: folded for comparing, split into parts, and how well two of them agree.

A name whose columns come split is taken as it is. A name in one piece is split here when it is plain ("First Last",
"First M Last", "Last, First M", none of the words a title, particle or suffix), else by nameparser, which takes
0.3 ms: the loader leaves that to its workers.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from gateway.core.folding import fold as fold

_PLAIN = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]{2,}| [A-Za-z]\.?)? [A-Za-z]{2,}", re.ASCII)
_TURNED = re.compile(r"[A-Za-z]{2,}, [A-Za-z]{2,}(?: [A-Za-z]{2,}| [A-Za-z]\.?)?", re.ASCII)
_SURE_FORMS = "inc llc llp ltd corp corporation co company pllc gmbh"
_OTHER_FORMS = "incorporated lllp lp limited companies pc pa plc ag sa srl bv nv na dba"
LEGAL_FORMS = frozenset(f"{_SURE_FORMS} {_OTHER_FORMS}".split())
"""Folded, without full stops: what two spellings of one firm's name need not share."""
_FIRMLY = "|".join([*_SURE_FORMS.split(), "associates", "services", "group", "enterprises"])
"""What no human being is called at the end: there is a Mr Sa, and a Ms Na."""
_BUSINESS = re.compile(rf"&|\b(?:{_FIRMLY})\b\.?$", re.IGNORECASE)
_SUFFIXES = {"junior": "jr", "senior": "sr", "2nd": "ii", "3rd": "iii", "4th": "iv"}


def alike(a: str, b: str) -> float:
    """Jaro-Winkler of two folded texts: 0 for nothing in common to 1 for equal."""
    return 1.0 if a == b else _jaro_winkler()(a, b)


@lru_cache(maxsize=1)
def _jaro_winkler() -> Callable[[str, str], float]:
    from rapidfuzz.distance import JaroWinkler

    return JaroWinkler.similarity


def likest(word: str, words: Sequence[str], least: float, count: int) -> set[str]:
    """Of some folded words the `count` most alike to one, as far as they reach `least`."""
    from rapidfuzz import process
    from rapidfuzz.distance import JaroWinkler

    near = process.extract(word, words, scorer=JaroWinkler.similarity, score_cutoff=least, limit=count)
    return {found for found, _, _ in near}


class Name(NamedTuple):
    """Parts as written; a part that is not known is ""."""

    first: str
    middle: str
    last: str
    suffix: str = ""

    @property
    def full(self) -> str:
        return " ".join(part for part in (self.first, self.middle, self.last, self.suffix) if part)


NOBODY = Name("", "", "")


def split_plain(text: str) -> Name | None:
    """The parts of a plain name, or None where it takes the real parser."""
    if _TURNED.fullmatch(text) is not None:
        last, _, rest = text.partition(", ")
        text = f"{rest} {last}"
    elif _PLAIN.fullmatch(text) is None:
        return None
    words = text.split(" ")
    special = _special_words()
    if any(word.lower().rstrip(".") in special for word in words if len(word) > 1):
        return None
    return Name(words[0], " ".join(words[1:-1]), words[-1])


def split(text: str) -> Name:
    """The parts of any name. A single word is a last name: it cannot identify anybody by itself."""
    text = " ".join(text.split())
    plain = split_plain(text)
    if plain is not None:
        return plain
    from nameparser import HumanName

    human = HumanName(text)
    if not human.last:
        return Name("", "", human.first or text, human.suffix)
    return Name(human.first, human.middle, human.last, human.suffix)


@lru_cache(maxsize=1)
def _special_words() -> frozenset[str]:
    """Words that nameparser does not take for a plain given or family name."""
    from nameparser.config import bound_given_names, conjunctions, maiden_markers, particles, suffixes, titles

    words: set[str] = set()
    for module in (bound_given_names, conjunctions, maiden_markers, particles, suffixes, titles):
        for value in vars(module).values():
            if isinstance(value, (set, frozenset)):
                words.update(str(word).lower().rstrip(".") for word in value)
    return frozenset(words)


def is_business(text: str) -> bool:
    """Whether a name reads like a firm's: a legal form at its end, or an "&"."""
    return _BUSINESS.search(text) is not None


def fold_suffix(text: str) -> str:
    folded = fold(text)
    return _SUFFIXES.get(folded, folded)


@lru_cache(maxsize=1)
def _nicknames() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """(name -> its short forms, short form -> its names). A pair of initials ("l.b." of Leroy) is no folded name."""
    from nicknames import NickNamer

    namer = NickNamer()
    short, long = (
        {name: {form for form in forms if form.isalnum()} for name, forms in table.items()}
        for table in (namer.nickname_lookup, namer.canonical_lookup)
    )
    return short, long


def variants(first: str) -> frozenset[str]:
    """A folded first name with its direct short and long forms: joe -> joe, joseph, ... (one step, no further)."""
    short, long = _nicknames()
    return frozenset({first} | short.get(first, set()) | long.get(first, set()))


def agree_first(asked: str, held: str) -> float:
    """Two first names, as written: 1 equal, 0.95 a nickname, 0.80 an initial, 0 two names or one unknown."""
    a, b = fold(asked), fold(held)
    if not a or not b:
        return 0.0
    if a == b:
        return 1.0
    a, b = a.split(" ")[0], b.split(" ")[0]  # "Mary Ann" and "Mary"
    if a == b:
        return 0.95
    if len(a) == 1 or len(b) == 1:
        return 0.80 if a[0] == b[0] else 0.0
    return 0.95 if b in variants(a) else 0.0


def agree_last(asked: str, held: str, least: float) -> float:
    """Two last names, as written: Jaro-Winkler where it reaches `least`, 0.95 for one half of a double name, else 0."""
    a, b = fold(asked), fold(held)
    if not a or not b:
        return 0.0
    likeness = alike(a.replace(" ", ""), b.replace(" ", ""))
    if likeness >= least:
        return likeness
    halves, other = (a.split(" "), b) if " " in a else (b.split(" "), a)
    return 0.95 if len(halves) > 1 and other in halves and len(other) > 2 else 0.0


def agree_rest(asked: Name, held: Name) -> float:
    """1, or 0.70 for each of middle name and suffix where both are known and contradict: then it is a relative."""
    score = 1.0
    middle, other = fold(asked.middle), fold(held.middle)
    if middle and other and not _same_middle(middle, other):
        score *= 0.70
    suffix, other = fold_suffix(asked.suffix), fold_suffix(held.suffix)
    if suffix and other and suffix != other:
        score *= 0.70
    return score


def _same_middle(a: str, b: str) -> bool:
    return a[0] == b[0] if 1 in (len(a), len(b)) else a == b
