"""A call that brings a payment which was admitted before: who gets its answer again.

Whoever reads the chain has the authorization and the signature of every payment that was broadcast, and the rest of a
payment is an echo of our public 402. So a payment buys its answer once more only

    by its owner    with the bearer of the agent whose charge it is, or with the charge token;
    by a secret     where it carries what was never public: see Payment.is_guessable in core/x402/messages.py;
    unseen          while nothing of it was broadcast.

To everybody else its charge answers to the charge token alone. What is said to those must not depend on what they ask
for, or it would tell them what the payer has asked for.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.core.charge import Charge
from gateway.core.charge import State as ChargeState
from gateway.core.settlement import Settlement
from gateway.core.settlement import State as SettlementState


class Verdict(StrEnum):
    ANSWER = "answer"
    """The stored answer again."""
    OTHER = "other"
    """Another payment by the same authorization, whatever it asks for; or an agent's own, for another request."""
    GUESS = "guess"
    """The very payment with another request: counted, and after a few the charge answers to its token only."""
    TOKEN_ONLY = "token_only"
    """The charge answers to its token, whatever this call asks for."""


@dataclass(frozen=True, slots=True)
class Repeat:
    same_payment: bool
    """The payload is equal, member by member."""
    same_request: bool
    by_owner: bool
    """The call shows a bearer of the agent whose charge it is, or the charge's own token."""
    guessable: bool
    """The payment carries nothing that only its payer knows."""
    public: bool
    token_only: bool
    """It came with too many other requests before."""


def judge(repeat: Repeat) -> Verdict:
    if not repeat.same_payment or (repeat.by_owner and not repeat.same_request):
        return Verdict.OTHER
    if repeat.by_owner:
        return Verdict.ANSWER
    if repeat.token_only or (repeat.guessable and repeat.public):
        return Verdict.TOKEN_ONLY
    return Verdict.ANSWER if repeat.same_request else Verdict.GUESS


def is_public(charge: Charge, settlement: Settlement | None, *, sent: bool, journaled: bool) -> bool:
    """Whether somebody may have seen a transaction with this charge's payment.

    `sent`: one was written down at some time, dead by now or not. `journaled`: whoever settles writes it down before
    it leaves; a facilitator does not tell.
    """
    match charge.state:
        case ChargeState.HELD | ChargeState.RELEASED:
            return False
        case ChargeState.CAPTURED if settlement is not None and settlement.state is SettlementState.QUEUED:
            return sent or not journaled
        case _:
            return True
