"""Identifiers and tokens: their form, made from time and random bytes that the caller brings.

An id is `chg_` and 26 characters of time-ordered Crockford base32 (48 bits of milliseconds, 80 random bits).
A token is a prefix, 43 characters of base62 (32 random bytes) and 6 of checksum, so that a secret scanner and a
typing error are both recognised; the store keeps its SHA-256 and a hint only.
A repeat key is 32 hexadecimal digits (16 random bytes), another one in each 402.
"""

import hashlib
import zlib

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY, _CHECK = 43, 6
_PAIRS = tuple(first + second for first in _BASE32 for second in _BASE32)
_SHIFTS = tuple(range(120, -1, -10))

ENTROPY_ID_BYTES = 10
ENTROPY_TOKEN_BYTES = 32
ENTROPY_REPEAT_KEY_BYTES = 16


def new_id(prefix: str, now_ms: int, entropy: bytes) -> str:
    """`prefix` with its underscore; `entropy` is 10 random bytes."""
    number = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(entropy[:ENTROPY_ID_BYTES], "big")
    return prefix + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def made_ms(id: str) -> int:
    """When an id was made, in Unix milliseconds."""
    number = 0
    for digit in id.rsplit("_", 1)[1]:
        number = number << 5 | _BASE32.index(digit)
    return number >> 80


def new_token(prefix: str, entropy: bytes) -> str:
    """`prefix` with its underscore (`411_`); `entropy` is 32 random bytes."""
    body = _base62(int.from_bytes(entropy[:ENTROPY_TOKEN_BYTES], "big"), _BODY)
    return f"{prefix}{body}{_checksum(prefix + body)}"


def new_repeat_key(entropy: bytes) -> str:
    """`entropy` is 16 random bytes."""
    return entropy[:ENTROPY_REPEAT_KEY_BYTES].hex()


def is_token(text: str, prefix: str) -> bool:
    """Whether `text` has the form of a token with this prefix. Says nothing of its being known."""
    if len(text) != len(prefix) + _BODY + _CHECK or not text.startswith(prefix) or not text.isascii():
        return False
    return text[-_CHECK:] == _checksum(text[:-_CHECK])


def token_hash(token: str) -> bytes:
    """What is kept of a token. Tokens have 256 random bits: a plain hash is enough, and looking it up leaks nothing."""
    return hashlib.sha256(token.encode()).digest()


def token_hint(token: str) -> str:
    """What is shown of a token: its prefix and last three characters."""
    return f"{token.split('_', 1)[0]}_...{token[-3:]}"


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECK)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
