"""Whether an answer gives a configured secret away: plain, or as base64, hex or percent-encoded text.

Base64 of a longer text that holds the secret is found at each of the three places a byte can have in a group; JSON's
backslashes and percent-encoding are undone before looking. Compression is undone by the HTTP client. What shares no
eight characters with the secret (a reversal, a cipher) is not found: this catches the vendor that echoes a request
into an error page, not one that conspires.
"""

import base64
import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

import orjson

SECRET_CHARS_MIN = 8
"""Shorter values are not looked for: too many innocent answers have them."""
_PERCENT_LEVELS = 2

_BASE64_BASIC = re.compile(r"Basic\s+([A-Za-z0-9+/]+=*)", re.IGNORECASE)


def parts_of(header: str) -> tuple[str, ...]:
    """What is secret in a header's value: the whole, the credentials after the scheme's name, a password in them."""
    parts = [header.rpartition(" ")[2]]
    basic = _BASE64_BASIC.fullmatch(header)
    if basic:
        user_and_password = base64.b64decode(basic[1] + "==").decode("utf-8", "replace")
        parts.append(user_and_password.partition(":")[2])
    return tuple(parts)


class Leaks:
    """The traces a set of secrets would leave."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN}
        self._needles = tuple(sorted({needle for secret in known for needle in _forms(secret)}))

    def __bool__(self) -> bool:
        return bool(self._needles)

    def found_in(self, text: bytes) -> bool:
        """`text` is JSON without `\\u` escapes, or any other text."""
        for _ in range(_PERCENT_LEVELS + 1):
            # JSON within JSON has backslashes before backslashes; without any, all depths look alike.
            bare = text.replace(b"\\", b"")
            if any(needle in bare for needle in self._needles):
                return True
            if b"%" not in text:
                return False
            text = unquote_to_bytes(text)
        return False


def _forms(secret: str) -> set[bytes]:
    """Of the secret as it is and as JSON writes it; none has a backslash left."""
    forms = set()
    for text in {secret.encode(), orjson.dumps(secret)[1:-1]}:
        forms |= {text.replace(b"\\", b""), text.hex().encode(), text.hex().upper().encode()}
        for shift in range(3):
            core = _base64_core(text, shift)
            forms |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms


def _base64_core(secret: bytes, shift: int) -> bytes:
    """The characters that base64 of any text has wherever `secret` begins `shift` bytes after a group's start."""
    encoded = base64.b64encode(b"\0" * shift + secret)
    first = (0, 2, 3)[shift]
    last = (shift + len(secret)) * 8 // 6  # characters whose six bits are all known
    return encoded[first:last]
