"""One operation's offer: what its live 402 asks for, and what every document repeats.

Whoever needs a price, a payee or a schema of an operation takes it from here. That is why the documents and the
402 cannot disagree. Only the repeat key of a live 402 stands in no document: it is for one reader alone.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import NamedTuple

from gateway.core.catalogue import Operation
from gateway.core.money import micros_to_atomic_up
from gateway.core.networks import Token
from gateway.core.upstream import Json
from gateway.core.x402 import bazaar, eip2612
from gateway.core.x402.challenge import OFFER_BYTES_MAX, offer_bytes
from gateway.core.x402.messages import GAS_SPONSORING, Requirements, Resource
from gateway.core.x402.offers import PERMIT2, offers
from wellknown.brevity import SHORTER
from wellknown.identity import Identity, ascii_label

TIMEOUT_MIN_S = 60
"""Clients sign "valid for this long": anything shorter expires on the way."""
SETTLE_SLACK_S = 30
DESCRIPTION_MAX = 500
TAGS_MAX = 5
PREPAID = "A payment is settled before the work: what is not charged stays on the payer's account."


class Offer(NamedTuple):
    """What a challenge is built from."""

    resource: Resource
    accepts: tuple[Requirements, ...]
    """In the order clients should prefer them; empty when the operator takes no x402 payments."""
    extensions: Mapping[str, Json]


def requirements(operation: Operation, identity: Identity) -> tuple[Requirements, ...]:
    """Every way to pay for one call by x402. A metered operation sells its base price by `exact`, and what the work
    comes to by `upto`, within its ceiling. One that settles first is paid the ceiling by `exact`: what the work does
    not come to stays on its payer's account."""
    price = operation.price
    ceiling = operation.asks_micros or price.ceiling_micros
    if operation.settle_first:
        return offers(ceiling, max_timeout_s(operation, identity), identity.terms)
    made = offers(
        price.base_micros, max_timeout_s(operation, identity), identity.terms,
        upto_micros=ceiling if price.metered else None,
    )  # fmt: skip
    return tuple(offer for offer in made if offer.scheme == "upto") if operation.by_body else made


def max_timeout_s(operation: Operation, identity: Identity) -> int:
    """How long a payer's signature must hold: the work, its settlement and some air. What is settled first does not
    wait for the work."""
    if operation.settle_first:
        return max(TIMEOUT_MIN_S, identity.settle_wait_s + SETTLE_SLACK_S)
    return operation.pays_within_s or max(
        TIMEOUT_MIN_S, ceil(operation.timeout_s) + identity.settle_wait_s + SETTLE_SLACK_S
    )


def challenge_parts(operation: Operation, identity: Identity) -> Offer:
    """The whole offer, short enough for a header: in fewer words where it must be, in the last resort unlisted."""
    listing = bazaar.extension(operation)
    accepts = requirements(operation, identity)
    offer = Offer(
        resource_of(operation, identity),
        accepts,
        {
            "bazaar": listing,
            "payment-identifier": bazaar.payment_identifier_extension(),
            **_sponsoring(accepts, identity),
        },
    )
    for shorter in SHORTER:
        if _fits(offer):
            return offer
        listing = shorter(listing)
        offer = offer._replace(extensions={**offer.extensions, "bazaar": listing})
    # A client pays without the listing; one that cannot read the header cannot pay at all. Of the two, whether a payer
    # may come without gas matters to fewer than whether the offer is found.
    for name in (GAS_SPONSORING, "bazaar"):
        if not _fits(offer):
            offer = offer._replace(
                extensions={each: offer.extensions[each] for each in offer.extensions if each != name}
            )
    return offer


def _fits(offer: Offer) -> bool:
    # What comes back is an echo of the offer, and of this extension it is longer by what was signed.
    signed = eip2612.ROOM_BYTES if GAS_SPONSORING in offer.extensions else 0
    return offer_bytes(*offer) + signed <= OFFER_BYTES_MAX


def _sponsoring(accepts: Sequence[Requirements], identity: Identity) -> dict[str, Json]:
    """Where some offer is paid by Permit2 in a token whose permits are taken."""
    sponsored = {(term.network, term.token.address.lower()) for term in identity.terms if term.sponsored}
    by_permit2 = {
        (offer.network, offer.asset.lower()) for offer in accepts if offer.extra.get("assetTransferMethod") == PERMIT2
    }
    return {GAS_SPONSORING: eip2612.extension()} if sponsored & by_permit2 else {}


def resource_of(operation: Operation, identity: Identity) -> Resource:
    """What is sold, without anything of the request that asked: a path or query may hold a person (F-175).

    An operation with `{name}` segments is named by its example, which is an address that answers.
    """
    return Resource(
        url=identity.url(operation.example_url_path),
        description=_described(operation, identity),
        mime_type="application/json",
        service_name=identity.service_name,
        tags=_tags(operation.tags),
        icon_url=identity.icon_url,
    )


def _described(operation: Operation, identity: Identity) -> str:
    """What a payer must know before he signs is never cut off."""
    known = (*((PREPAID,) if operation.settle_first else ()), *_roundings(operation, identity))
    room = DESCRIPTION_MAX - sum(len(sentence) + 1 for sentence in known)
    about = operation.description or operation.summary
    return _clip(" ".join((_clip(about, max(room, 0)), *known)) if known else about)


def _roundings(operation: Operation, identity: Identity) -> tuple[str, ...]:
    """A token with fewer decimals than the price takes a little more; the payer hears so before he signs."""
    tokens = dict.fromkeys(terms.token for terms in identity.terms)
    return tuple(
        f"In {token.symbol} the price is rounded up to {_in_token(operation, token)}."
        for token in tokens
        if not micros_to_atomic_up(operation.price.base_micros, token.decimals)[1]
    )


def _in_token(operation: Operation, token: Token) -> str:
    """The price in whole tokens, as a decimal string. Only called for tokens of fewer than six decimals."""
    atomic, _ = micros_to_atomic_up(operation.price.base_micros, token.decimals)
    whole, fraction = divmod(atomic, 10**token.decimals)
    return f"{whole}.{fraction:0{token.decimals}d}" if token.decimals else str(whole)


def _tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """At most five, each fit for a catalogue, none twice whatever its case."""
    fit: dict[str, str] = {}
    for tag in tags:
        if label := ascii_label(tag):
            fit.setdefault(label.lower(), label)
    return tuple(fit.values())[:TAGS_MAX]


def _clip(text: str, chars: int = DESCRIPTION_MAX) -> str:
    return text if len(text) <= chars else text[: max(chars - 1, 0)].rstrip() + "…"
