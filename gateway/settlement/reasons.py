"""The words for what only whoever settles can tell, as the SDKs of x402 have them. What is told offline as well is
gateway/core/x402/verdict.py's, and called the same here."""

from gateway.core.x402.verdict import Reason

NOT_ASKED_FOR: str = Reason.INVALID_REQUIREMENTS
NONCE_USED: str = Reason.NONCE_USED
ALLOWANCE: str = Reason.PERMIT2_ALLOWANCE
PERMIT_NONCE: str = Reason.PERMIT_NONCE
NOT_OUR_KEY: str = Reason.UPTO_FACILITATOR
MORE_THAN_SIGNED = "upto_amount_exceeds_permitted"
SIMULATION_FAILED = "invalid_exact_evm_transaction_simulation_failed"
TRANSACTION_FAILED = "transaction_failed"
PENDING = "settlement_pending"
VERIFY_FAILED = "unexpected_verify_error"
SETTLE_FAILED = "unexpected_settle_error"


def signature(by_permit2: bool) -> str:
    return Reason.PERMIT2_SIGNATURE if by_permit2 else Reason.EIP3009_SIGNATURE


def expired(by_permit2: bool) -> str:
    return Reason.PERMIT2_EXPIRED if by_permit2 else Reason.EIP3009_VALID_BEFORE


def insufficient(by_permit2: bool) -> str:
    return "permit2_insufficient_balance" if by_permit2 else "invalid_exact_evm_insufficient_balance"
