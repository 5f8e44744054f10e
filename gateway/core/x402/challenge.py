"""The 402: the offer as bytes, for a header that official clients read and a body that everybody else does.

Unpaid calls are most of the traffic, so a challenge is made once and then only copied. Headers have an end: proxies
cut them at 8 KiB. What a client sends back is an echo of ours, with one offer of several and a signature in place of
our sentence, so an offer leaves room for that too; or else it could be read and never be paid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway.core.errors import TABLE, Code
from gateway.core.x402.headers import HEADER_BYTES_MAX, encode
from gateway.core.x402.messages import VERSION, Json, Requirements, Resource
from gateway.core.x402.verdict import Reason

ROOM_BYTES = 900
"""Of JSON, beside the offer: our own sentence, or a client's signed authorization and its payment identifier."""
OFFER_BYTES_MAX = HEADER_BYTES_MAX // 4 * 3 - ROOM_BYTES
"""Of JSON: what resource, accepts and extensions may take of a header together."""
_ERROR_BYTES_MAX = 300


@dataclass(frozen=True, slots=True)
class Challenge:
    header: bytes
    """The value of PAYMENT-REQUIRED."""
    body: bytes
    """JSON: PaymentRequired and the error's envelope in one flat object."""
    status: int = 402
    """412 where the payer must approve Permit2 first."""


def offer_bytes(resource: Resource, accepts: Sequence[Requirements], extensions: Mapping[str, Json]) -> int:
    """What an offer takes of a header, in bytes of JSON; at most OFFER_BYTES_MAX for all of it to be sent."""
    return len(orjson.dumps(_offer(resource, accepts) | {"extensions": extensions}))


def build(
    *,
    resource: Resource,
    accepts: Sequence[Requirements],
    extensions: Mapping[str, Json],
    error: str,
    code: str,
    fields: Mapping[str, object] | None = None,
) -> Challenge:
    """The 402 with this offer. `error` is a sentence, `code` one of core/errors.py, `fields` are further members of
    the body (price_usd, request_id ...), which never take the place of the standard's own.

    The body has everything. The header has the start of a long sentence, and no extensions where they would not fit:
    a client can pay without them. Raises ValueError for more offers than any header carries, whatever the sentence.
    """
    offer = _offer(resource, accepts)
    listed: dict[str, Json] = {"extensions": extensions} if extensions else {}
    fits = offer_bytes(resource, accepts, extensions) <= OFFER_BYTES_MAX
    if not fits and offer_bytes(resource, accepts, {}) > OFFER_BYTES_MAX:
        raise ValueError(f"{len(accepts)} ways to pay for {resource.url} are more than a header carries")
    # Official clients look for this very word before they approve Permit2 and try again.
    told = Reason.PERMIT2_ALLOWANCE if code == Code.PERMIT2_ALLOWANCE_REQUIRED else _clipped(error)
    header = encode({"x402Version": VERSION, "error": told, **offer, **(listed if fits else {})})
    envelope: dict[str, Json] = {"x402Version": VERSION, "error": error, "code": code}
    # `envelope` twice: first for its place, last for its word.
    body = orjson.dumps({**envelope, **(fields or {}), **envelope, **offer, **listed})
    return Challenge(header.encode(), body, TABLE[Code(code)].status)


def _offer(resource: Resource, accepts: Sequence[Requirements]) -> dict[str, Json]:
    return {"resource": resource.to_json(), "accepts": [requirements.to_json() for requirements in accepts]}


def _clipped(error: str) -> str:
    """A sentence whose JSON stays small: JSON writes what cannot be printed in six bytes."""
    printable = "".join(char if char.isprintable() else " " for char in error[:_ERROR_BYTES_MAX])
    return printable.encode(errors="replace")[:_ERROR_BYTES_MAX].decode(errors="ignore")
