"""`exact` and `upto` by Permit2: the payer lets a proxy of the standard draw on his one approval of Permit2.

Permit2 moves the money to wherever its spender says; only the proxy, as the spender, binds it to the witness's `to`.
So a permit for any other spender is worth nothing to us, whatever else it says. By `upto` a witness names who may
settle it, and the price is the permit's whole amount until the work tells how much of it is due.
"""

from collections.abc import Sequence

from gateway.core.networks import EXACT_PERMIT2_PROXY, PERMIT2, UPTO_PERMIT2_PROXY, chain_id
from gateway.core.x402.messages import Permit2, Requirements
from gateway.core.x402.typed_data import permit2_digest
from gateway.core.x402.verdict import Reading, Reason, Reasons, Refused

REASONS = Reasons(not_yet=Reason.PERMIT2_NOT_YET, expired=Reason.PERMIT2_EXPIRED, signature=Reason.PERMIT2_SIGNATURE)
SPENDERS = {"exact": EXACT_PERMIT2_PROXY, "upto": UPTO_PERMIT2_PROXY}


def read(signed: Permit2, asked: Requirements, settlers: Sequence[str]) -> Reading | Refused:
    """What the permit says, if it pays what is asked. `settlers` are all the addresses by which we can settle `upto`,
    not only the one that is offered now."""
    refused = _parties(signed, asked, settlers) or _amount(signed, asked)
    if refused is not None:
        return refused
    return Reading(
        method="permit2",
        payer=signed.from_,
        value_atomic=signed.amount,
        # The permit's own bounds both count as inside.
        valid_after_s=signed.valid_after - 1,
        valid_before_s=signed.deadline + 1,
        # Permit2 remembers nonces by payer, whatever the token.
        identity=f"{asked.network}/{PERMIT2.lower()}/{signed.from_}/{signed.nonce}",
        digest=lambda: permit2_digest(signed, chain_id=chain_id(asked.network)),
    )


def _parties(signed: Permit2, asked: Requirements, settlers: Sequence[str]) -> Refused | None:
    spender = SPENDERS[asked.scheme]
    if signed.spender != spender.lower():
        return Refused(Reason.PERMIT2_SPENDER, f"the permit's spender is {signed.spender}; it must be {spender}")
    if signed.to != asked.pay_to.lower():
        return Refused(Reason.PERMIT2_RECIPIENT, f"the permit pays {signed.to}; pay {asked.pay_to}")
    if asked.scheme == "exact":
        if signed.facilitator is not None:
            return Refused(Reason.INVALID_PAYLOAD, "the witness of `exact` has no facilitator")
    elif signed.facilitator not in {settler.lower() for settler in settlers}:
        named = signed.facilitator or "nobody"
        return Refused(Reason.UPTO_FACILITATOR, f"the permit may be settled by {named} alone, which is none of us")
    return None


def _amount(signed: Permit2, asked: Requirements) -> Refused | None:
    if signed.amount != int(asked.amount):
        return Refused(Reason.PERMIT2_AMOUNT, f"the permit is for {signed.amount}; the offer is {asked.amount}")
    if signed.token != asked.asset.lower():
        return Refused(Reason.PERMIT2_TOKEN, f"the permit is for the token {signed.token}; pay with {asked.asset}")
    return None
