"""The 402: the offer as bytes, for a header that official clients read and a body that everybody else does.

Unpaid calls are most of the traffic, so a challenge is made once and then only copied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway.core.errors import TABLE, Code
from gateway.core.x402.headers import HEADER_BYTES_MAX, encode
from gateway.core.x402.messages import VERSION, Json, Requirements, Resource
from gateway.core.x402.verdict import Reason

ERROR_CHARS_MAX = 300
"""What a sentence may take of the header; the body has all of it."""


@dataclass(frozen=True, slots=True)
class Challenge:
    header: bytes
    """The value of PAYMENT-REQUIRED."""
    body: bytes
    """JSON: PaymentRequired and the error's envelope in one flat object."""
    status: int = 402
    """412 where the payer must approve Permit2 first."""


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

    The header stays within HEADER_BYTES_MAX: an offer that would not fit leaves its extensions to the body. A client
    can pay without them; one that cannot read the header cannot pay at all.
    """
    offer: dict[str, Json] = {
        "resource": resource.to_json(),
        "accepts": [requirements.to_json() for requirements in accepts],
    }
    listed: dict[str, Json] = {"extensions": extensions} if extensions else {}
    # Official clients look for this very word before they approve Permit2 and try again.
    told = Reason.PERMIT2_ALLOWANCE if code == Code.PERMIT2_ALLOWANCE_REQUIRED else error[:ERROR_CHARS_MAX]
    required: dict[str, Json] = {"x402Version": VERSION, "error": told, **offer}
    header = encode(required | listed)
    if len(header) > HEADER_BYTES_MAX:
        header = encode(required)
    envelope: dict[str, Json] = {"x402Version": VERSION, "error": error, "code": code}
    # `envelope` twice: first for its place, last for its word.
    body = orjson.dumps({**envelope, **(fields or {}), **envelope, **offer, **listed})
    return Challenge(header.encode(), body, TABLE[Code(code)].status)
