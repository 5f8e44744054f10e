"""Offers: in which ways a price may be paid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.core.money import micros_to_atomic_up
from gateway.core.networks import Token, checksum_address
from gateway.core.x402.messages import Json, Requirements

EIP3009 = "eip3009"
PERMIT2 = "permit2"


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms one token is accepted on one network."""

    network: str
    token: Token
    pay_to: str
    methods: tuple[str, ...]
    """Of "eip3009" and "permit2"."""
    facilitator: str | None
    """Who will settle `upto`, which is offered only where this is known and Permit2 is accepted."""
    sandbox: bool
    sponsored: bool = False
    """Whether whoever settles takes a payer's signed approval of Permit2 to the chain: EIP-2612, core/x402/eip2612."""


def offers(
    price_micros: int, max_timeout_s: int, terms: Sequence[Terms], *, upto_micros: int | None = None
) -> tuple[Requirements, ...]:
    """Every way to pay `price_micros`, and by `upto` at most `upto_micros`.

    Clients take the first offer they can pay, so what needs nothing of a payer but a signature comes first: `exact`
    by EIP-3009, then `exact` by Permit2, then `upto`. A token too coarse for the price is asked for a little more.
    """
    exact = [
        _exact(method, term, price_micros, max_timeout_s)
        for method in (EIP3009, PERMIT2)
        for term in terms
        if method in term.methods
    ]
    upto = [] if upto_micros is None else list(_upto(terms, upto_micros, max_timeout_s))
    return (*exact, *upto)


def _exact(method: str, term: Terms, price_micros: int, max_timeout_s: int) -> Requirements:
    # EIP-3009 is what a client assumes when nothing is said; saying it would only make the header longer.
    extra: dict[str, Json] = {"assetTransferMethod": PERMIT2} if method == PERMIT2 else {}
    return _requirements("exact", term, price_micros, max_timeout_s, extra)


def _upto(terms: Sequence[Terms], upto_micros: int, max_timeout_s: int) -> Iterator[Requirements]:
    for term in terms:
        if PERMIT2 in term.methods and term.facilitator is not None:
            extra: dict[str, Json] = {
                "assetTransferMethod": PERMIT2,
                "facilitatorAddress": checksum_address(term.facilitator),
            }
            yield _requirements("upto", term, upto_micros, max_timeout_s, extra)


def _requirements(scheme: str, term: Terms, micros: int, max_timeout_s: int, extra: dict[str, Json]) -> Requirements:
    token = term.token
    amount, _ = micros_to_atomic_up(micros, token.decimals)
    domain: dict[str, Json] = {"name": token.name, "version": token.version}
    mark: dict[str, Json] = {"sandbox": True} if term.sandbox else {}
    return Requirements(
        scheme=scheme,
        network=term.network,
        amount=str(amount),
        asset=checksum_address(token.address),
        pay_to=checksum_address(term.pay_to),
        max_timeout_s=max_timeout_s,
        extra=domain | extra | mark,
    )
