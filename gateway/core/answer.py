"""The answer of a paid call, composed from its charge and its stored result: the same bytes whenever it is asked for,
but for what is on the account of a prepaid call's payer, which is told as it is now.

A stored result is compact JSON of {matched, data, metadata, headers}, with {cache_hit} where it is one. It is
written with the capture or the release, and every answer is made from what was stored, never from what is still in
memory.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.core import subject
from gateway.core.charge import Charge, Source, State
from gateway.core.http import NEVER_RELAYED
from gateway.core.money import format_usd
from gateway.core.subject import Hides
from gateway.core.upstream import Json, Match, NoMatch


@dataclass(frozen=True, slots=True)
class Result:
    """What an upstream answered, as it is kept."""

    matched: bool
    data: Any
    metadata: Mapping[str, Any]
    headers: Mapping[str, str]
    cache_hit: bool = False
    """Found for an earlier call."""


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)


def pack(outcome: Match | NoMatch) -> bytes:
    """An upstream's outcome -> stored bytes. Raises TypeError when it holds what an answer cannot: what JSON does not
    have, a header that cannot be sent or is not the upstream's to set. Better found before the money than after."""
    headers = outcome.headers if isinstance(outcome, Match) else {}
    for name, value in headers.items():
        printable = isinstance(value, str) and value.isascii() and value.isprintable()
        if not (printable and _HEADER_NAME.fullmatch(name)) or NEVER_RELAYED.fullmatch(name.lower()):
            raise TypeError("a header that cannot be passed on")
    return orjson.dumps(
        {
            "matched": isinstance(outcome, Match),
            "data": outcome.data,
            "metadata": dict(outcome.metadata),
            "headers": dict(headers),
        }
    )


def unpack(stored: bytes) -> Result:
    return Result(**orjson.loads(stored))


def again(stored: bytes) -> bytes:
    """The same result, as it is given to a later call."""
    return orjson.dumps({**orjson.loads(stored), "cache_hit": True})


def without(stored: bytes, hides: Hides, *, sold: bool = False) -> bytes | None:
    """The same result without whoever is hidden; None: it says nothing of him. It is no match any more, since that was
    decided with what nobody gets, but where it was `sold` already."""
    kept = orjson.loads(stored)
    data, taken = subject.without(kept["data"], hides)
    metadata, more = subject.without(kept["metadata"], hides)
    if not taken and not more:
        return None
    return orjson.dumps(
        {**kept, "matched": kept["matched"] and (sold or not taken), "data": data, "metadata": metadata or {}}
    )


def billing(charge: Charge, topup: Mapping[str, object] | None = None) -> dict[str, object]:
    """What the charge came to: {mode, charge_id, price_usd, charged_usd}; what is billed by what it took has no price
    but a ceiling, `bill_up_to_usd`. `topup`: what a prepaid call has brought, and where that is."""
    told: dict[str, object] = {
        "mode": mode(charge),
        "charge_id": charge.id,
        "bill_up_to_usd" if charge.metered else "price_usd": format_usd(charge.held_micros),
        "charged_usd": format_usd(charged_micros(charge)),
    }
    return told if topup is None else {**told, "topup": topup}


def mode(charge: Charge) -> str:
    """How it is paid: virtual_balance, x402_exact, x402_upto."""
    if charge.source is Source.BALANCE:
        return "virtual_balance"
    return "x402_upto" if charge.metered else "x402_exact"


def charged_micros(charge: Charge) -> int:
    """What the payer has paid or owes for good; an uncollected payment charges nothing."""
    if charge.state in (State.HELD, State.RELEASED, State.UNPAID):
        return 0
    return charge.captured_micros - charge.refunded_micros


def body(charge: Charge, request_id: str, result: Result, topup: Mapping[str, object] | None = None) -> bytes:
    """The 200 answer of every operation: {request_id, route, matched, billed, cache_hit, billing, data, metadata}."""
    return orjson.dumps(
        {
            "request_id": request_id,
            "route": charge.operation,
            "matched": result.matched,
            "billed": charge.captured_micros > 0,
            "cache_hit": result.cache_hit,
            "billing": billing(charge, topup),
            "data": result.data,
            "metadata": result.metadata,
        }
    )


def schema(data: Mapping[str, Json]) -> dict[str, Json]:
    """JSON Schema of the whole answer of an operation, from that of its `data`; {} says nothing of it."""
    members: dict[str, Json] = {
        "request_id": {"type": "string"},
        "route": {"type": "string"},
        "matched": {"type": "boolean"},
        "billed": {"type": "boolean"},
        "cache_hit": {"type": "boolean"},
        "billing": {"type": "object"},
        "data": {"anyOf": [dict(data), {"type": "null"}], "description": "null when nothing was found"} if data else {},
        "metadata": {"type": "object"},
    }
    return {"type": "object", "properties": members, "required": list(members)}


def example(operation_id: str, price_micros: int, data: Json) -> dict[str, Json]:
    """The whole answer of a match, for documents."""
    price = format_usd(price_micros)
    return {
        "request_id": "req_01kb4x5v2e0000000000000000",
        "route": operation_id,
        "matched": True,
        "billed": True,
        "cache_hit": False,
        "billing": {
            "mode": "virtual_balance",
            "charge_id": "chg_01kb4x5v2e0000000000000000",
            "price_usd": price,
            "charged_usd": price,
        },
        "data": data,
        "metadata": {},
    }


def iso(ms: int) -> str:
    """Milliseconds since 1970 -> "2026-11-23T12:00:00Z"."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
