"""The 402: the offer as bytes, for a header that official clients read and a body that everybody else does.

Unpaid calls are most of the traffic, so a challenge is made once and then only copied. Headers have an end: proxies
cut them at 8 KiB. What a client sends back is an echo of ours, with one offer of several and a signature in place of
our sentence, so an offer leaves room for that too; or else it could be read and never be paid.

Each 402 has a repeat key of its own among its extensions. It has one length, so a copy differs in those bytes alone:
`split` finds their place in a header's base64, and no JSON is written for a copy.
"""

import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway.core.errors import TABLE, Code
from gateway.core.x402.bazaar import repeat_key_extension
from gateway.core.x402.headers import HEADER_BYTES_MAX, encode
from gateway.core.x402.messages import VERSION, Json, Requirements, Resource
from gateway.core.x402.verdict import Reason

ROOM_BYTES = 900
"""Of JSON, beside the offer: our own sentence, or a client's signed authorization and its payment identifier."""
OFFER_BYTES_MAX = HEADER_BYTES_MAX // 4 * 3 - ROOM_BYTES
"""Of JSON: what resource, accepts and extensions may take of a header together."""
_ERROR_BYTES_MAX = 300
_REPEAT_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)
_BLANK_KEY = "0" * 32


@dataclass(frozen=True, slots=True)
class Challenge:
    header: bytes
    """The value of PAYMENT-REQUIRED."""
    body: bytes
    """JSON: PaymentRequired and the error's envelope in one flat object."""
    status: int = 402
    """412 where the payer must approve Permit2 first."""


@dataclass(frozen=True, slots=True)
class Split:
    """A header around its repeat key: `before`, base64 of (`left` + key + `right`), `after`. `left` and `right` are
    the few bytes of JSON that share their base64 with the key."""

    before: bytes
    left: bytes
    right: bytes
    after: bytes

    def middle(self, key: bytes) -> bytes:
        return binascii.b2a_base64(self.left + key + self.right, newline=False)


def split(header: bytes, key: str) -> Split:
    """Where `key` stands in PAYMENT-REQUIRED. Raises ValueError unless it stands there once."""
    text = binascii.a2b_base64(header)
    before, *rest = text.split(key.encode())
    if len(rest) != 1:
        raise ValueError(f"the repeat key stands {len(rest)} times in this offer")
    # Three bytes are four characters: the key's own begin where a group of three begins, and end where one ends.
    start = len(before) - len(before) % 3
    end = min(len(text), -(-(len(before) + len(key)) // 3) * 3)
    return Split(
        before=header[: start // 3 * 4],
        left=text[start : len(before)],
        right=text[len(before) + len(key) : end],
        after=header[-(-end // 3) * 4 :],
    )


def offer_bytes(resource: Resource, accepts: Sequence[Requirements], extensions: Mapping[str, Json]) -> int:
    """What an offer takes of a header, in bytes of JSON and with its repeat key; at most OFFER_BYTES_MAX for all of it
    to be sent."""
    return len(orjson.dumps(_offer(resource, accepts) | {"extensions": _with_key(extensions, _BLANK_KEY)}))


def build(
    *,
    resource: Resource,
    accepts: Sequence[Requirements],
    extensions: Mapping[str, Json],
    repeat_key: str,
    error: str,
    code: str,
    fields: Mapping[str, object] | None = None,
) -> Challenge:
    """The 402 with this offer. `repeat_key` is of core/ids.py and of this answer alone, `error` is a sentence, `code`
    one of core/errors.py, `fields` are further members of the body (price_usd, request_id ...), which never take the
    place of the standard's own.

    The body has everything. The header has the start of a long sentence, and of the extensions the repeat key alone
    where all would not fit: a client can pay without the others. Raises ValueError for more offers than any header
    carries, whatever the sentence, and for what is no repeat key.
    """
    if _REPEAT_KEY.fullmatch(repeat_key) is None:
        raise ValueError("a repeat key has 32 hexadecimal digits")
    offer = _offer(resource, accepts)
    fits = offer_bytes(resource, accepts, extensions) <= OFFER_BYTES_MAX
    if not fits and offer_bytes(resource, accepts, {}) > OFFER_BYTES_MAX:
        raise ValueError(f"{len(accepts)} ways to pay for {resource.url} are more than a header carries")
    # Official clients look for this very word before they approve Permit2 and try again.
    told = Reason.PERMIT2_ALLOWANCE if code == Code.PERMIT2_ALLOWANCE_REQUIRED else _clipped(error)
    short = extensions if fits else {}
    header = encode({"x402Version": VERSION, "error": told, **offer, "extensions": _with_key(short, repeat_key)})
    envelope: dict[str, Json] = {"x402Version": VERSION, "error": error, "code": code}
    # `envelope` twice: first for its place, last for its word.
    listed = {"extensions": _with_key(extensions, repeat_key)}
    body = orjson.dumps({**envelope, **(fields or {}), **envelope, **offer, **listed})
    return Challenge(header.encode(), body, TABLE[Code(code)].status)


def _offer(resource: Resource, accepts: Sequence[Requirements]) -> dict[str, Json]:
    return {"resource": resource.to_json(), "accepts": [requirements.to_json() for requirements in accepts]}


def _with_key(extensions: Mapping[str, Json], repeat_key: str) -> dict[str, Json]:
    return {**extensions, "repeat-key": repeat_key_extension(repeat_key)}


def _clipped(error: str) -> str:
    """A sentence whose JSON stays small: JSON writes what cannot be printed in six bytes."""
    printable = "".join(char if char.isprintable() else " " for char in error[:_ERROR_BYTES_MAX])
    return printable.encode(errors="replace")[:_ERROR_BYTES_MAX].decode(errors="ignore")
