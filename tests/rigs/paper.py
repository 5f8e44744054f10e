"""Payments on paper: one price, a clock that stands still, what is offered, who pays, what verification says offline.

Nothing here asks anybody anything:

    paper.verdict(paper.paid(paper.EIP3009)) -> Verified
    paper.verdict(paper.paid(paper.UPTO, amount=1)) -> Refused
"""

import random
from collections.abc import Callable
from typing import Any

from rigs.chain import PAYER_KEYS
from rigs.payer import Payer

from gateway.core.networks import NETWORKS, SANDBOX, checksum_address
from gateway.core.x402.messages import Requirements, parse_payment
from gateway.core.x402.offers import Terms, offers
from gateway.core.x402.verify import Refused, Verified, verify

Json = dict[str, Any]

NOW = 1_763_900_000
BASE = "eip155:8453"
TOKEN = NETWORKS[BASE].tokens[0]
PAY_TO = checksum_address("0x" + "c0ffee01".rjust(40, "0"))
RELAYER = checksum_address("0x" + "decaf002".rjust(40, "0"))
FORMER_RELAYER = checksum_address("0x" + "decaf001".rjust(40, "0"))
STRANGER = checksum_address("0x" + "5ca1ab1e".rjust(40, "0"))
ZERO = "0x" + "0" * 40

TERMS = Terms(BASE, TOKEN, PAY_TO, ("eip3009", "permit2"), RELAYER, False)
OFFERS = offers(330_000, 60, [TERMS], upto_micros=2_000_000)
EIP3009, PERMIT2, UPTO = OFFERS
ALL = {"eip3009": EIP3009, "permit2": PERMIT2, "upto": UPTO}

WORK_S, MARGIN_S = 15, 10
PAYER = Payer(PAYER_KEYS[0], now=lambda: NOW)
OTHER_PAYER = Payer(PAYER_KEYS[1], now=lambda: NOW)

OTHER_TERMS = (
    Terms("eip155:43114", NETWORKS["eip155:43114"].tokens[0], PAY_TO, ("eip3009",), None, False),
    Terms(SANDBOX, NETWORKS[SANDBOX].tokens[0], PAY_TO, ("eip3009", "permit2"), RELAYER, True),
)


def paid(offer: Requirements, payer: Payer = PAYER, **changes: Any) -> Json:
    """A PaymentPayload for this offer; `changes` are made before it is signed."""
    return payer.pay(offer.to_json(), **changes)


def changed(payload: Json, *path: str, to: object) -> Json:
    """A copy with one member changed after it was signed; `to` may be a function of the old value."""
    key, *rest = path
    old = payload.get(key)
    if rest:
        assert isinstance(old, dict)
        return {**payload, key: changed(old, *rest, to=to)}
    return {**payload, key: to(old) if callable(to) else to}


def without(payload: Json, *path: str) -> Json:
    key, *rest = path
    if rest:
        return {**payload, key: without(payload[key], *rest)}
    return {name: value for name, value in payload.items() if name != key}


def signature(payload: Json, change: Callable[[bytes], bytes]) -> Json:
    """A copy with another signature."""
    return changed(payload, "payload", "signature", to=lambda old: "0x" + change(bytes.fromhex(old[2:])).hex())


def verdict(payload: Json, offered: tuple[Requirements, ...] = OFFERS, **kwargs: Any) -> Verified | Refused:
    """What verification says of it at NOW."""
    settings: dict[str, Any] = {
        "now_s": NOW,
        "work_s": WORK_S,
        "settle_margin_s": MARGIN_S,
        "settlers": (RELAYER, FORMER_RELAYER),
        "forbidden_payers": (RELAYER, PAY_TO, ZERO),
    }
    return verify(parse_payment(payload), offered, **{**settings, **kwargs})


def accepted(payload: Json, **kwargs: Any) -> Verified:
    came = verdict(payload, **kwargs)
    assert isinstance(came, Verified), came
    return came


def refused(payload: Json, **kwargs: Any) -> Refused:
    came = verdict(payload, **kwargs)
    assert isinstance(came, Refused), came
    return came


NONSENSE: tuple[Any, ...] = (None, True, -1, 0, 1.5, "", "0x", "ü", [], {}, [[]], "1" * 100, 2**63, "\ud7ff")


def mutated(value: Any, randomness: random.Random) -> Any:
    """JSON with one thing in it changed, left out or put in."""
    if not isinstance(value, dict) or randomness.random() < 0.15:
        if isinstance(value, str) and value and randomness.random() < 0.6:
            at = randomness.randrange(len(value))
            return value[:at] + randomness.choice("0f9x -é") + value[at + randomness.choice((0, 1)) :]
        return randomness.choice(NONSENSE)
    changed = dict(value)
    key = randomness.choice([*changed, "more"])
    if key in changed and randomness.random() < 0.2:
        del changed[key]
    else:
        changed[key] = mutated(changed.get(key), randomness)
    return changed
