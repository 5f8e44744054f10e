"""Leads: whom and what an agent has asked about, kept so that it can show later that it was he, and nobody can read it.

What is kept of each is a keyed hash of the agent and the lead's one spelling, for ninety days. The key lies outside the
database (gateway/store/key_file.py): there are only ten billion phone numbers, and whoever had a plain hash, or the key
beside it, would try them all in a minute. The same lead of two agents has two hashes, so that they cannot be compared.

One spelling of everything: a number (a phone, the id of a contact) is its digits, with the 1 before ten of them; an
address of mail is in lower case; any other words are folded and in the order of the alphabet: "Sample, Dana" is Dana
Sample. It does not matter which field a lead was in. What is too short to be a secret is no lead.
"""

import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.core.folding import fold

KEPT_DAYS = 90
KEY_BYTES = 32
LEADS_MAX = 8
"""Of one purchase."""
CHARS_MIN, CHARS_MAX = 5, 200
FAMILY = "enrich/"
"""The operations that ask about somebody."""
FIELDS = frozenset(
    ("phone", "number1", "number2", "name", "dm_name", "business_name", "company", "contact_id", "email")
)  # fmt: skip
NESTED = "lead"
"""The field that holds a lead whole."""
_DIGEST_BYTES = 16
_NUMBER = re.compile(r"\+?[0-9 ().\-/]+", re.ASCII)
_NO_DIGIT = re.compile(r"[^0-9]", re.ASCII)


@dataclass(frozen=True, slots=True)
class LeadKey:
    key: bytes = field(repr=False)
    id: int
    """Which one it is: leads hashed with another one can never be answered."""

    @classmethod
    def of(cls, secret: bytes) -> "LeadKey":
        """`secret` may be the root of other keys."""
        return cls(hmac.digest(secret, b"leads", "sha256"), int.from_bytes(hmac.digest(secret, b"id", "sha256")[:4]))

    def digest(self, agent_id: str, spelling: str) -> bytes:
        return hmac.digest(self.key, f"{agent_id}\n{spelling}".encode(), "sha256")[:_DIGEST_BYTES]


def spelling(value: object) -> str | None:
    """The one spelling of a lead; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)[:CHARS_MAX].strip()
    if _NUMBER.fullmatch(text):
        text = _NO_DIGIT.sub("", text)
        text = f"1{text}" if len(text) == 10 else text
    elif "@" in text and " " not in text:
        text = text.lower()
    else:
        text = " ".join(sorted(fold(text).split()))
    return text if len(text) >= CHARS_MIN else None


def asked(fields: Mapping[str, object]) -> frozenset[str]:
    """The spellings of whom and what a request asks about."""
    values = list(_values(fields))
    if isinstance(nested := fields.get(NESTED), Mapping):
        values += _values(nested)
    spellings = (spelling(value) for value in values[:LEADS_MAX])
    return frozenset(each for each in spellings if each is not None)


def _values(fields: Mapping[str, object]) -> Iterator[object]:
    """Walks through what there is, which is little, rather than through what there may be: a paid call waits for it."""
    for name, value in fields.items():
        if name in FIELDS:
            yield value
        elif name == "last_name" and isinstance(first := fields.get("first_name"), str):
            yield f"{first} {value}"
            if isinstance(middle := fields.get("middle_name"), str):
                yield f"{first} {middle} {value}"


def answered(answer: str | int, phone: Callable[[str], str | None]) -> tuple[str, ...]:
    """Two spellings of what somebody answers, or none where it can be no lead: as it stands, and as the phone number
    that it is where the gateway stands. `phone`: a written number -> E.164 or None."""
    plain = spelling(answer)
    if plain is None:
        return ()
    return plain, spelling(phone(str(answer)[:CHARS_MAX])) or plain
