"""`exact` by EIP-3009: the payer signs a transfer that the token itself carries out.

Anybody may submit it and the money can only go where the signature says, so what matters is that it says our address
and exactly our price: what is above it would be kept from the payer, what is below it from us.
"""

from gateway.core.networks import chain_id
from gateway.core.x402.messages import Eip3009, Requirements
from gateway.core.x402.typed_data import eip3009_digest
from gateway.core.x402.verdict import Reading, Reason, Reasons, Refused

REASONS = Reasons(
    not_yet=Reason.EIP3009_VALID_AFTER, expired=Reason.EIP3009_VALID_BEFORE, signature=Reason.EIP3009_SIGNATURE
)


def read(signed: Eip3009, asked: Requirements) -> Reading | Refused:
    """What the authorization says, if it pays what is asked."""
    if signed.to != asked.pay_to.lower():
        return Refused(Reason.EIP3009_RECIPIENT, f"the authorization pays {signed.to}; pay {asked.pay_to}")
    if signed.value != int(asked.amount):
        return Refused(Reason.EIP3009_VALUE, f"the authorization is for {signed.value}; the price is {asked.amount}")
    token = asked.asset.lower()
    return Reading(
        method="eip3009",
        payer=signed.from_,
        value_atomic=signed.value,
        valid_after_s=signed.valid_after,
        valid_before_s=signed.valid_before,
        # The token remembers nonces by payer.
        identity=f"{asked.network}/{token}/{signed.from_}/0x{signed.nonce.hex()}",
        digest=lambda: eip3009_digest(
            signed,
            name=str(asked.extra["name"]),
            version=str(asked.extra["version"]),
            chain_id=chain_id(asked.network),
            token=token,
        ),
    )
