"""Verification offline: everything that can be known of a payment without asking anybody.

Cheap first: which of our offers it means, whether it pays that, who pays, the time it is good for, and only then the
signature, which costs more than all the rest together. What is verified against is always our own requirement; the
client's echo of it only tells which one is meant, and may contradict it nowhere. What is left for the chain is what
only the chain knows: balance, allowance, nonce, and the payer's code.

    signature                                verdict
    65 bytes, canonical, by the payer's key  Verified(recovered=True)
    65 bytes, canonical, by another key      Verified(recovered=False): good if the payer is a contract that says so
    another length                           Verified(recovered=False): the same
    65 bytes, not canonical                  Refused: the twin of a signature, or none
    wrapped by ERC-6492                      Refused: a wallet not yet deployed; its factory is somebody else's code

An account without code has no other way to sign than its key: whoever asks the chain refuses recovered=False for it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gateway.core.errors import Code
from gateway.core.networks import ZERO_ADDRESS
from gateway.core.x402 import eip2612, eip3009, permit2
from gateway.core.x402.messages import Eip2612, Eip3009, Json, Payment, Permit2, Requirements
from gateway.core.x402.typed_data import ECDSA_BYTES, recover
from gateway.core.x402.verdict import Method, Reading, Reason, Reasons, Refused

__all__ = ["WINDOW_MAX_S", "Refused", "Verified", "match_offer", "outlives", "verify"]

WINDOW_MAX_S = 86_400
"""A signature may be good for a day at most: while one is alive, somebody may yet send it and has to be watched."""

ERC6492_SUFFIX = bytes.fromhex("6492" * 16)

_REASONS: Mapping[Method, Reasons] = {"eip3009": eip3009.REASONS, "permit2": permit2.REASONS}
_MEMBERS = ("scheme", "network", "asset", "payTo", "amount", "maxTimeoutSeconds", "extra")
_MISMATCH = {"scheme": Reason.UNSUPPORTED_SCHEME, "network": Reason.NETWORK_MISMATCH}


@dataclass(frozen=True, slots=True)
class Verified:
    """A payment that is right in all that can be known offline."""

    requirements: Requirements
    """Our own offer, which it pays."""
    payment: Payment
    payer: str
    """Lower case."""
    identity: str
    """What can be paid once: chain, asset or Permit2, payer, nonce. Two spellings of one payment have one identity."""
    method: Method
    value_atomic: int
    """What was signed: the price, or of `upto` the most that may be taken."""
    valid_after_s: int
    """It can be settled at a block time t with valid_after_s < t < valid_before_s, unix seconds."""
    valid_before_s: int
    recovered: bool
    """False: not the payer's own key has signed; only an account with code can have."""
    permit: Eip2612 | None = None
    """A good one that came with it: to be used where the payer's allowance is short, and nowhere else."""


def verify(
    payment: Payment,
    offers: Sequence[Requirements],
    *,
    now_s: int,
    work_s: int,
    settle_margin_s: int,
    settlers: Sequence[str] = (),
    forbidden_payers: Collection[str] = (),
    whenever: bool = False,
    sponsored: Collection[str] = (),
) -> Verified | Refused:
    """Whether the payment is for one of `offers` and good for as long as it takes; `whenever`: or was, or will be.

    `work_s` is the operation's timeout and `settle_margin_s` what settling may take after it. `settlers` are our
    addresses that may settle `upto`; `forbidden_payers` are accounts of our own. All addresses in any case.
    `sponsored` are assets (`eip155:8453/0x...`, lower case) whose permits we take to the chain; one for another asset
    was not asked for, and is as if it were not there.
    """
    asked = match_offer(payment, offers)
    if isinstance(asked, Refused):
        return asked
    reading = _read(payment.authorization, asked, settlers)
    if isinstance(reading, Refused):
        return reading
    permit = payment.permit if f"{asked.network}/{asked.asset.lower()}" in sponsored else None
    refused = _degenerate(reading.payer, asked, (*settlers, *forbidden_payers)) or _absurd(reading, now_s)
    if refused is None and not whenever:
        refused = _outside(reading, permit, earliest_s=now_s, latest_s=now_s, needed_s=work_s + settle_margin_s)
    if refused is not None:
        return refused
    recovered = _recovered(payment.signature, reading)
    if isinstance(recovered, Refused):
        return recovered
    if permit is not None:
        refused = eip2612.refusal(permit, asked, payer=reading.payer, value=reading.value_atomic)
        if refused is not None:
            return refused
    return Verified(
        requirements=asked,
        payment=payment,
        payer=reading.payer,
        identity=reading.identity,
        method=reading.method,
        value_atomic=reading.value_atomic,
        valid_after_s=reading.valid_after_s,
        valid_before_s=reading.valid_before_s,
        recovered=recovered,
        permit=permit,
    )


def outlives(verified: Verified, *, now_s: int, chain_time_s: int, work_s: int, settle_margin_s: int) -> Refused | None:
    """The time window again, once the latest block's time is known: the end is held against the later of the two
    clocks, the beginning against the earlier."""
    return _outside(
        verified,
        verified.permit,
        earliest_s=min(now_s, chain_time_s),
        latest_s=max(now_s, chain_time_s),
        needed_s=work_s + settle_margin_s,
    )


def match_offer(payment: Payment, offers: Sequence[Requirements]) -> Requirements | Refused:
    """Our own requirement which the payment means. Without an echo it must be the only one of its kind."""
    method: Method = "eip3009" if isinstance(payment.authorization, Eip3009) else "permit2"
    candidates = [offer for offer in offers if _method(offer) == method]
    if not candidates:
        return Refused(Reason.UNSUPPORTED_SCHEME, f"a payment by {method} is not offered here")
    if payment.accepted is None:
        return _the_only(payment, candidates)
    furthest = ""
    for offer in candidates:
        difference = _difference(offer, payment.accepted)
        if difference is None:
            return offer
        furthest = max(furthest, difference, key=_MEMBERS.index) if furthest else difference
    reason = _MISMATCH.get(furthest, Reason.INVALID_REQUIREMENTS)
    return Refused(reason, f"`accepted.{furthest}` is not as offered; take an offer as it stands, or ask for a new one")


def _the_only(payment: Payment, candidates: Sequence[Requirements]) -> Requirements | Refused:
    signed = payment.authorization
    scheme = "upto" if isinstance(signed, Permit2) and signed.facilitator is not None else "exact"
    meant = [offer for offer in candidates if offer.scheme == scheme]
    if len(meant) != 1:
        return Refused(Reason.INVALID_REQUIREMENTS, "say in `accepted` which offer is paid")
    return meant[0]


def _method(offer: Requirements) -> Method:
    return "permit2" if offer.extra.get("assetTransferMethod") == "permit2" else "eip3009"


def _difference(offer: Requirements, echo: Mapping[str, Json]) -> str | None:
    """The first member in which the echo is not our offer."""
    if echo.get("scheme") != offer.scheme:
        return "scheme"
    if echo.get("network") != offer.network:
        return "network"
    if not _same_address(echo.get("asset"), offer.asset):
        return "asset"
    if not _same_address(echo.get("payTo"), offer.pay_to):
        return "payTo"
    if echo.get("amount") != offer.amount:
        return "amount"
    if echo.get("maxTimeoutSeconds") != offer.max_timeout_s:
        return "maxTimeoutSeconds"
    return "extra" if _contradicts(offer, echo.get("extra")) else None


def _same_address(theirs: Json, ours: str) -> bool:
    return theirs == ours or (isinstance(theirs, str) and theirs.lower() == ours.lower())


def _contradicts(offer: Requirements, extra: Json) -> bool:
    """Clients may add to `extra` and some leave it out; what they repeat must be what we said. Who settles `upto` is
    read from what was signed: the address offered a minute ago is as good as today's."""
    if extra is None:
        return False
    if not isinstance(extra, dict) or extra.get("assetTransferMethod", _method(offer)) != _method(offer):
        return True
    return any(extra.get(key, ours) != ours for key, ours in offer.extra.items() if key != "facilitatorAddress")


def _read(signed: Eip3009 | Permit2, asked: Requirements, settlers: Sequence[str]) -> Reading | Refused:
    if isinstance(signed, Eip3009):
        return eip3009.read(signed, asked)
    return permit2.read(signed, asked, settlers)


def _degenerate(payer: str, asked: Requirements, ours: Collection[str]) -> Refused | None:
    """A transfer to oneself moves nothing and looks like a payment; the zero address signs nothing."""
    if payer == ZERO_ADDRESS or payer == asked.pay_to.lower() or payer in {address.lower() for address in ours}:
        return Refused(Reason.INVALID_PAYLOAD, f"{payer} cannot pay here: it is nobody's account, or our own")
    return None


def _absurd(reading: Reading, now_s: int) -> Refused | None:
    if reading.valid_before_s <= now_s + WINDOW_MAX_S:
        return None
    return Refused(
        _REASONS[reading.method].expired,
        f"the signature is good until {reading.valid_before_s}: for more than {WINDOW_MAX_S} seconds, the most we take",
    )


def _outside(
    signed: Reading | Verified, permit: Eip2612 | None, *, earliest_s: int, latest_s: int, needed_s: int
) -> Refused | None:
    reasons = _REASONS[signed.method]
    if signed.valid_before_s <= latest_s + needed_s:
        left = max(signed.valid_before_s - latest_s, 0)
        return Refused(
            reasons.expired,
            f"the signature is good for {left} more seconds; the work and its settlement may take {needed_s}",
            Code.PAYMENT_EXPIRED,
        )
    if signed.valid_after_s >= earliest_s:
        return Refused(reasons.not_yet, f"the signature is not good before {signed.valid_after_s + 1}")
    return None if permit is None else eip2612.expired(permit, latest_s=latest_s, needed_s=needed_s)


def _recovered(signature: bytes, reading: Reading) -> bool | Refused:
    wrong = _REASONS[reading.method].signature
    if signature.endswith(ERC6492_SUFFIX):
        return Refused(
            Reason.FACTORY_NOT_ALLOWED if reading.method == "eip3009" else wrong,
            "the signature is of a wallet that is not deployed yet (ERC-6492); deploy it first",
        )
    if len(signature) != ECDSA_BYTES:
        return False if signature else Refused(wrong, "there is no signature")
    signer = recover(reading.digest(), signature)
    if signer is None:
        return Refused(wrong, "the signature is not canonical: s in the lower half, v 27 or 28")
    return signer == reading.payer
