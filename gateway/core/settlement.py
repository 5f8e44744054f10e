"""The life of a settlement: one payment to be collected on chain.

    QUEUED ── SENT ──▶ SENT ── PROVEN ──▶ PROVEN        PROVEN also straight from QUEUED: a stranger may send it first
      ▲─────── RETRY ───│                               TAKEN_BACK: a reorganisation took a proven transfer back
      │                 ├── GIVEN_UP ──▶ LOST           (GIVEN_UP from QUEUED too)
      └──── TAKEN_BACK from PROVEN

SENT is written before the broadcast. RETRY: the attempt is dead at depth and the authorization alive. GIVEN_UP:
it can never be paid, by expiry in chain time at depth or because its nonce was spent at depth without a transfer
to us. What is not known is no event at all: the row stays as it is and is looked at again.

What never comes of a charge was earned, and is a loss. Of a top-up nothing was earned: it stands on the party's
`authorized` until it has come, and goes back from there; what does come is credited by core/deposit.py.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.core.errors import IllegalMove
from gateway.core.transfer import LOSS, Kind, Part, Transfer, account, chain_due, chain_treasury, transfers


class State(StrEnum):
    QUEUED = "queued"
    SENT = "sent"
    PROVEN = "proven"
    LOST = "lost"


class Event(StrEnum):
    SENT = "sent"
    RETRY = "retry"
    PROVEN = "proven"
    GIVEN_UP = "given_up"
    TAKEN_BACK = "taken_back"


class Purpose(StrEnum):
    CHARGE = "charge"
    TOPUP = "topup"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.QUEUED, Event.SENT): State.SENT,
    (State.SENT, Event.SENT): State.SENT,
    (State.SENT, Event.RETRY): State.QUEUED,
    (State.QUEUED, Event.PROVEN): State.PROVEN,
    (State.SENT, Event.PROVEN): State.PROVEN,
    (State.QUEUED, Event.GIVEN_UP): State.LOST,
    (State.SENT, Event.GIVEN_UP): State.LOST,
    (State.PROVEN, Event.TAKEN_BACK): State.QUEUED,
}


@dataclass(frozen=True, slots=True)
class Settlement:
    """One payment to be collected. `payment` is the stored PaymentPayload JSON; `amount_atomic` what is asked of
    the token; `amount_micros` what the ledger expects; `proven_micros` what came."""

    id: str
    purpose: Purpose
    subject: str
    """The charge's id."""
    identity: str
    """The payment's identity: see core/x402/verify.py."""
    network: str
    token: str
    payer: str
    pay_to: str
    amount_atomic: int
    amount_micros: int
    valid_before_s: int
    """The last second (by chain time) at which it can still be paid, exclusive."""
    payment: bytes
    state: State = State.QUEUED
    proven_micros: int = 0
    admitted_block: int = 0
    """The latest block when it was admitted: logs are searched from here."""
    abandoned: bool = False
    """Told to the client as failed: never to be sent again, whatever happens."""
    party: str = ""
    """Whose charge it is; a top-up is credited to him."""

    @property
    def asset(self) -> str:
        return f"{self.network}/{self.token.lower()}"


class ProofKind(StrEnum):
    CHAIN = "chain"
    FACILITATOR = "facilitator"
    SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Settled:
    """Paid. `log_index` is of the Transfer that proves it: (network, transaction, log_index) proves one thing."""

    kind: ProofKind
    transaction: str
    log_index: int
    block: int
    amount_atomic: int
    """What came, by the log."""
    final: bool = False
    """Deep enough that it need not be looked at again."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One signed transaction of ours, stored before it is broadcast. Attempts of one nonce differ in fees only."""

    network: str
    key: str
    """Address of the sending key, lower case."""
    nonce: int
    number: int
    """0 for the first attempt at this nonce, 1 for its first replacement."""
    hash: str
    raw: bytes = field(repr=False)
    max_fee_per_gas: int
    settlements: tuple[str, ...]
    """Ids of the settlements whose calls it carries, in order; empty for a transaction that fills a gap."""
    sent_ms: int


def advance(settlement: Settlement, event: Event, proven_micros: int = 0) -> tuple[Settlement, tuple[Transfer, ...]]:
    """The settlement after `event` and its transfers; `proven_micros` goes with PROVEN alone and is what came.

    What came short is loss, or of a top-up was never owed. What came beyond the amount asked is booked too: it lies in
    our treasury, as revenue of nobody, so it is refused here and shown to the operator by the caller.
    """
    target = TRANSITIONS.get((settlement.state, event))
    if target is None:
        raise IllegalMove(f"{settlement.id} is {settlement.state}: no {event}")
    if event is Event.SENT and settlement.abandoned:
        raise IllegalMove(f"{settlement.id} was abandoned: it is never sent again")
    due, treasury = chain_due(settlement.asset), chain_treasury(settlement.asset)
    amount = settlement.amount_micros
    missing = LOSS if settlement.purpose is Purpose.CHARGE else account(settlement.party, Part.AUTHORIZED)
    match event:
        case Event.PROVEN:
            if not 0 <= proven_micros <= amount:
                raise IllegalMove(f"{settlement.id} asked for {amount} micros, {proven_micros} cannot prove it")
            return replace(settlement, state=target, proven_micros=proven_micros), transfers(
                (Kind.PROVEN, treasury, due, proven_micros),
                (Kind.SHORTFALL, missing, due, amount - proven_micros),
            )
        case Event.TAKEN_BACK:
            return replace(settlement, state=target, proven_micros=0), transfers(
                (Kind.TAKEN_BACK, due, treasury, settlement.proven_micros),
                (Kind.TAKEN_BACK, due, missing, amount - settlement.proven_micros),
            )
        case Event.GIVEN_UP:
            return replace(settlement, state=target), transfers((Kind.GIVEN_UP, missing, due, amount))
        case _:
            return replace(settlement, state=target), ()
