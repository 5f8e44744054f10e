"""Folding: what people write differently and mean alike gets one spelling."""

import re
import unicodedata

_APOSTROPHES = str.maketrans("", "", "'\u2019\u2018`\u00b4")
_GAPS = re.compile(r"[\W_]+")


def fold(text: str) -> str:
    """Lower case without accents, apostrophes and signs, one space between words: "O'Móre-Lee" -> "omore lee"."""
    if text.isalnum() and text.isascii():
        return text.lower()
    text = text.lower().translate(_APOSTROPHES)
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(sign for sign in decomposed if not unicodedata.combining(sign)).lower()
    return _GAPS.sub(" ", text).strip()
