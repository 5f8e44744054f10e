"""The three headers: standard base64 of compact UTF-8 JSON.

A payment header is the first thing a stranger can make us parse, before he has paid for anything, so every doubt is
settled the same way: Problem PAYMENT_MALFORMED. Repeated keys are refused because two readers of one payment, this
gateway and a facilitator, must not understand it differently.
"""

import binascii
import json

import orjson

from gateway.core.errors import Problem
from gateway.core.networks import SANDBOX
from gateway.core.x402.messages import Json, Payment, malformed, parse_payment

HEADER_BYTES_MAX = 8 * 1024
"""Where proxies begin to refuse a header, so nothing longer arrives or is sent."""


def decode_payment(header: str | bytes) -> Payment:
    """PAYMENT-SIGNATURE (or X-PAYMENT) -> Payment. Raises Problem PAYMENT_MALFORMED and nothing else."""
    if len(header) > HEADER_BYTES_MAX:
        raise malformed(f"a payment header has at most {HEADER_BYTES_MAX} bytes")
    try:
        text = binascii.a2b_base64(header, strict_mode=True)
    except ValueError:
        raise malformed("a payment header is standard base64 of JSON") from None
    try:
        value: Json = orjson.loads(text)
    except ValueError:
        raise malformed("a payment header is base64 of JSON; this one holds something else") from None
    payment = parse_payment(value)
    if _repeats_a_key(text, payment.raw):
        raise malformed("a key is repeated in the payment's JSON")
    return payment


def encode(value: Json) -> str:
    """JSON -> the value of a header."""
    return binascii.b2a_base64(orjson.dumps(value), newline=False).decode()


def settlement_response(
    success: bool,
    transaction: str,
    network: str,
    payer: str | None,
    amount: str | None = None,
    error_reason: str | None = None,
) -> dict[str, Json]:
    """What PAYMENT-RESPONSE carries (SettlementResponse). `amount` in atomic units. One for play money says so."""
    response: dict[str, Json] = {"success": success, "transaction": transaction, "network": network}
    optional: dict[str, Json] = {
        "payer": payer,
        "amount": amount,
        "errorReason": error_reason,
        "sandbox": True if network == SANDBOX else None,
    }
    return response | {name: value for name, value in optional.items() if value is not None}


def _repeats_a_key(text: bytes, canonical: bytes) -> bool:
    """Whether an object in `text` has a key twice; `canonical` is what was left of it, where the last one won.

    A dropped member takes its key's two quotes with it, and where nothing is escaped there are no other quotes than
    those of strings. Escapes are rare in payments: then the slower parser counts.
    """
    if b"\\" not in text:
        return text.count(b'"') != canonical.count(b'"')
    try:
        json.loads(text, object_pairs_hook=_once)
    except Problem:
        return True
    return False


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise malformed("a key is repeated in the payment's JSON")
    return members
