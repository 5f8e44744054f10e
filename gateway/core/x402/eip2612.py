"""Gas sponsoring by EIP-2612: the payer approves Permit2 by a signature, and whoever settles takes it to the chain.

A payer without native gas cannot approve Permit2 himself. He signs a Permit of the token beside his payment, and the
proxy hands both on in one transaction. A permit sets the allowance and does not add to it, and the proxies take one
over exactly the amount of the payment: so each payment needs its own, and one at a time can be open.

It is only ever a means: where the allowance is there already, the permit is left alone, since it would lower it.
"""

from gateway.core.errors import Code
from gateway.core.networks import PERMIT2, chain_id
from gateway.core.x402.messages import Eip2612, Json, Requirements
from gateway.core.x402.typed_data import ECDSA_BYTES, eip2612_digest, recover
from gateway.core.x402.verdict import Reason, Refused

ROOM_BYTES = 560
"""Of JSON: what a permit adds to the echo of the extension."""

_ADDRESS = "^0x[a-fA-F0-9]{40}$"
_DIGITS = "^[0-9]+$"
_PATTERNS = {
    "from": _ADDRESS,
    "asset": _ADDRESS,
    "spender": _ADDRESS,
    "amount": _DIGITS,
    "nonce": _DIGITS,
    "deadline": _DIGITS,
    "signature": "^0x[a-fA-F0-9]+$",
    "version": r"^[0-9]+(\.[0-9]+)*$",
}


def extension() -> dict[str, Json]:
    """`extensions.eip2612GasSponsoring` of an offer: {info, schema}. The schema is of the `info` that comes back, as in
    the standard's own, without its descriptions: a header has an end."""
    return {
        "info": {"description": "Approve Permit2 by an EIP-2612 permit: no gas needed.", "version": "1"},
        "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {name: {"type": "string", "pattern": pattern} for name, pattern in _PATTERNS.items()},
            "required": list(_PATTERNS),
        },
    }


def refusal(permit: Eip2612, asked: Requirements, *, payer: str, value: int) -> Refused | None:
    """What is wrong with it beside a payment of `value` by `payer`, whenever that is settled; None for nothing that is
    known offline. Whether it is the owner's next one is known to the token alone.
    """
    if permit.owner != payer:
        return Refused(Reason.PERMIT_OWNER, f"the permit is of {permit.owner}; the payer is {payer}")
    if permit.token != asked.asset.lower():
        return Refused(
            Reason.PERMIT_TOKEN, f"the permit is for the token {permit.token}; the payment is in {asked.asset}"
        )
    if permit.spender != PERMIT2.lower():
        return Refused(
            Reason.PERMIT_SPENDER, f"the permit's spender is {permit.spender}; it must be Permit2, {PERMIT2}"
        )
    if permit.value != value:
        return Refused(
            Reason.PERMIT_AMOUNT, f"the permit is over {permit.value}; it must be over {value}, as the payment is"
        )
    return _unsigned(permit, asked)


def expired(permit: Eip2612, *, latest_s: int, needed_s: int) -> Refused | None:
    """Whether it could be too late for it when the payment is settled. All in unix seconds."""
    if permit.deadline >= latest_s + needed_s:
        return None
    left = max(permit.deadline - latest_s, 0)
    return Refused(
        Reason.PERMIT_EXPIRED,
        f"the permit is good for {left} more seconds; the work and its settlement may take {needed_s}",
        Code.PAYMENT_EXPIRED,
    )


def _unsigned(permit: Eip2612, asked: Requirements) -> Refused | None:
    """The proxies take (v, r, s) alone, so a key has to have signed."""
    name, version = asked.extra.get("name"), asked.extra.get("version")
    assert isinstance(name, str), "our own offers say it"
    assert isinstance(version, str), "our own offers say it"
    signer = None
    if len(permit.signature) == ECDSA_BYTES:
        digest = eip2612_digest(
            permit, name=name, version=version, chain_id=chain_id(asked.network), token=permit.token
        )
        signer = recover(digest, permit.signature)
    if signer == permit.owner:
        return None
    return Refused(Reason.PERMIT_SIGNATURE, "the permit is not signed by the payer's key, or it says something else")
