"""What verification says: a reading of what was signed, or a refusal with a reason that clients of x402 know."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from gateway.core.errors import Code

Method = Literal["eip3009", "permit2"]


class Reason(StrEnum):
    """The words of the standard's SDKs, of those that can be told without asking a chain; and NONCE_USED, which
    several rooms must know when they hear it."""

    INVALID_VERSION = "invalid_x402_version"
    INVALID_PAYLOAD = "invalid_payload"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
    NETWORK_MISMATCH = "network_mismatch"
    INVALID_REQUIREMENTS = "invalid_payment_requirements"
    FACTORY_NOT_ALLOWED = "eip6492_factory_not_allowed"

    EIP3009_SIGNATURE = "invalid_exact_evm_payload_signature"
    EIP3009_RECIPIENT = "invalid_exact_evm_payload_recipient_mismatch"
    EIP3009_VALUE = "invalid_exact_evm_payload_authorization_value_mismatch"
    EIP3009_VALID_AFTER = "invalid_exact_evm_payload_authorization_valid_after"
    EIP3009_VALID_BEFORE = "invalid_exact_evm_payload_authorization_valid_before"

    PERMIT2_SIGNATURE = "invalid_permit2_signature"
    PERMIT2_SPENDER = "invalid_permit2_spender"
    PERMIT2_RECIPIENT = "invalid_permit2_recipient_mismatch"
    PERMIT2_AMOUNT = "permit2_amount_mismatch"
    PERMIT2_TOKEN = "permit2_token_mismatch"
    PERMIT2_NOT_YET = "permit2_not_yet_valid"
    PERMIT2_EXPIRED = "permit2_deadline_expired"
    PERMIT2_ALLOWANCE = "permit2_allowance_required"
    UPTO_FACILITATOR = "upto_facilitator_mismatch"

    PERMIT_FORMAT = "invalid_eip2612_extension_format"
    PERMIT_OWNER = "eip2612_from_mismatch"
    PERMIT_TOKEN = "eip2612_asset_mismatch"
    PERMIT_SPENDER = "eip2612_spender_not_permit2"
    PERMIT_AMOUNT = "permit2_2612_amount_mismatch"
    PERMIT_EXPIRED = "eip2612_deadline_expired"
    # The SDKs have no words for these: they find out by simulation, or never.
    PERMIT_SIGNATURE = "invalid_eip2612_signature"
    PERMIT_NONCE = "eip2612_nonce_mismatch"
    PERMIT_IN_USE = "eip2612_permit_in_use"
    EARLIER_UNPAID = "earlier_result_unpaid"

    NONCE_USED = "invalid_exact_evm_nonce_already_used"


class Reasons(NamedTuple):
    """What the same fault is called by one method."""

    not_yet: Reason
    expired: Reason
    signature: Reason


@dataclass(frozen=True, slots=True)
class Refused:
    """No, and nothing was asked of anybody to know it."""

    reason: str
    """An x402 reason string."""
    message: str
    """A sentence for whoever signed."""
    code: Code = Code.PAYMENT_INVALID


@dataclass(frozen=True, slots=True)
class Reading:
    """An authorization that pays what is asked, in words that both methods share. Its payer, its time and its
    signature are still to be looked at."""

    method: Method
    payer: str
    """Lower case."""
    value_atomic: int
    valid_after_s: int
    """It can be settled at a block time t with valid_after_s < t < valid_before_s, unix seconds."""
    valid_before_s: int
    identity: str
    digest: Callable[[], bytes]
    """What the payer's key has to have signed."""
