"""Whether a quote is true, and whether it says what it is quoted for.

A model that reads pages may invent a name, or a quote; a page may tell it to. So nothing of what it says is believed
but what stands in the page, word for word, and the value must stand in the quote. Case, spaces and the shapes of
quotation marks and dashes are all that may differ.
"""

import re
import unicodedata
from typing import Final

from upstreams.directory.names import fold

CHARS_MIN: Final = 4
CHARS_MAX: Final = 400
_SPACES = re.compile(r"\s+")
_DIGITS = re.compile(r"\D+", re.ASCII)
_SHAPES = str.maketrans({
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032`\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff"),
})  # fmt: skip


def plain(text: str) -> str:
    """What two verbatim copies of one text share."""
    folded = unicodedata.normalize("NFKC", text.translate(_SHAPES)).translate(_SHAPES).casefold()
    return _SPACES.sub(" ", folded).strip()


def stands_in(quote: str, text: str) -> bool:
    """Whether `quote` is a verbatim piece of `text`, in whole words."""
    return within(plain(quote), plain(text))


def within(quote: str, text: str) -> bool:
    """The same of texts that `plain` has made: a text that many quotes are held against is folded once."""
    if not CHARS_MIN <= len(quote) <= CHARS_MAX or not any(sign.isalnum() for sign in quote):
        return False
    at = text.find(quote)
    while at >= 0:
        end = at + len(quote)
        starts = at == 0 or not (text[at - 1].isalnum() and quote[0].isalnum())
        ends = end == len(text) or not (text[end].isalnum() and quote[-1].isalnum())
        if starts and ends:
            return True
        at = text.find(quote, at + 1)
    return False


def has_words(quote: str, value: str) -> bool:
    """Whether the words of a name or a title stand in the quote, one behind the other."""
    wanted = fold(value)
    return bool(wanted) and f" {wanted} " in f" {fold(quote)} "


def has_number(quote: str, e164: str) -> bool:
    """Whether a phone number's digits stand in the quote, with or without the country code of North America."""
    digits, said = _DIGITS.sub("", e164), _DIGITS.sub("", quote)
    national = digits[1:] if e164.startswith("+1") else digits
    return len(national) >= 7 and national in said
