"""The life of a charge: everything that may happen to the money of one call.

    HELD ── MATCHED(amount > 0) ──▶ CAPTURED ── PAID ──▶ SETTLED ── REFUND ──▶ REFUNDED
     │ MATCHED(0), MISSED,           │   │ GIVEN_UP
     ▼ FAILED, EXPIRED               │   ▼
    RELEASED(reason)                 │  UNPAID
                                     └─ REFUND ──▶ REFUNDED

PAID and GIVEN_UP belong to charges paid by a signature; from CAPTURED only charges paid from balance are
refunded. A top-up is a charge by signature that buys balance: its capture moves nothing, the money stays authorized
until its settlement is proven, and is the party's own then; it is never refunded. A prepaid call is two charges: the
top-up that its payment was settled as, and one from balance that names it, held once that has come. Neither machine
knows of the other: what a miss or a failure gives back is on the account, as of any charge from balance.

Whatever is not in TRANSITIONS is no move. `advance` decides; the shell writes the new charge as a compare-and-set on
the old state, with the transfers, in one transaction.

Money. A hold from balance takes own money first, then bonus. A capture takes own money first too, the rest of
both parts is released in the same step. A refund gives back in the reverse order of spending, so that bonus
never turns into own money.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.core.errors import IllegalMove
from gateway.core.money import format_usd
from gateway.core.transfer import REVENUE, Kind, Part, Transfer, account, chain_due, transfers


class State(StrEnum):
    HELD = "held"
    CAPTURED = "captured"
    SETTLED = "settled"
    UNPAID = "unpaid"
    REFUNDED = "refunded"
    RELEASED = "released"


class Event(StrEnum):
    MATCHED = "matched"
    MATCHED_FREE = "matched_free"
    MISSED = "missed"
    FAILED = "failed"
    EXPIRED = "expired"
    PAID = "paid"
    GIVEN_UP = "given_up"
    REFUND = "refund"
    REFUND_PART = "refund_part"


class Source(StrEnum):
    """What a charge is paid from."""

    BALANCE = "balance"
    SIGNATURE = "signature"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.HELD, Event.MATCHED): State.CAPTURED,
    (State.HELD, Event.MATCHED_FREE): State.RELEASED,
    (State.HELD, Event.MISSED): State.RELEASED,
    (State.HELD, Event.FAILED): State.RELEASED,
    (State.HELD, Event.EXPIRED): State.RELEASED,
    (State.CAPTURED, Event.PAID): State.SETTLED,
    (State.CAPTURED, Event.GIVEN_UP): State.UNPAID,
    (State.CAPTURED, Event.REFUND): State.REFUNDED,
    (State.CAPTURED, Event.REFUND_PART): State.CAPTURED,
    (State.SETTLED, Event.REFUND): State.REFUNDED,
    (State.SETTLED, Event.REFUND_PART): State.SETTLED,
}

FREES_PAYMENT = frozenset({Event.FAILED, Event.EXPIRED})
"""Releases after which the same authorization may be claimed anew; after any other end it is spent for good."""


class Disclosure(StrEnum):
    """What may be told of a charge's result to whoever may ask for it."""

    RESULT = "result"
    """Paid for, or free: the result."""
    WORKING = "working"
    """Nothing yet: the work is under way."""
    SETTLING = "settling"
    """Not yet: the payment is under way."""
    WITHHELD = "withheld"
    """Never for this payment: it was not and will not be collected."""
    NOTHING = "nothing"
    """There is none: the work failed or was given up, nothing was charged."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One call's money. Amounts in micro-USD; `held_micros` is own and bonus money together."""

    id: str
    operation: str
    party: str
    """Whose accounts move: an agent's id or a wallet's address in lower case."""
    source: Source
    held_micros: int
    held_bonus_micros: int = 0
    asset: str | None = None
    """`eip155:<chain>/<token>` of a signed authorization; None from balance."""
    state: State = State.HELD
    reason: Event | None = None
    """The event that released it."""
    captured_micros: int = 0
    captured_bonus_micros: int = 0
    refunded_micros: int = 0
    metered: bool = False
    """What is held is a ceiling; what is captured is what the work came to."""
    topup: bool = False
    """It buys balance, not work."""
    topup_id: str | None = None
    """Of a prepaid call: the top-up that its payment was settled as. One has one call that has not failed."""

    def __post_init__(self) -> None:
        signed = self.source is Source.SIGNATURE
        if signed is (self.asset is None) or (signed and self.held_bonus_micros):
            raise ValueError("a charge by signature names its asset and has no bonus")
        if self.topup and not signed:
            raise ValueError("a top-up is paid by signature")
        if self.topup_id is not None and signed:
            raise ValueError("a prepaid call is paid from balance")
        if not 0 <= self.held_bonus_micros <= self.held_micros or self.held_micros <= 0:
            raise ValueError("a hold is above zero, and its bonus part is no larger")


def disclosure(charge: Charge, *, abandoned: bool = False) -> Disclosure:
    """Whether the result may leave. The one place that decides it: no result without a capture, and none by signature
    without proof. `abandoned` is the settlement's durable mark."""
    match charge.state:
        case State.HELD:
            return Disclosure.WORKING
        case State.CAPTURED if charge.source is Source.SIGNATURE:
            return Disclosure.WITHHELD if abandoned else Disclosure.SETTLING
        case State.UNPAID:
            return Disclosure.WITHHELD
        case State.RELEASED if charge.reason in FREES_PAYMENT:
            return Disclosure.NOTHING
        case _:
            return Disclosure.RESULT


def hold(charge: Charge) -> tuple[Transfer, ...]:
    """The transfers that open a new charge."""
    if charge.state is not State.HELD:
        raise IllegalMove(f"{charge.id} is {charge.state}: only a new charge is held")
    party = charge.party
    if charge.asset is not None:
        return transfers((Kind.HOLD, chain_due(charge.asset), account(party, Part.AUTHORIZED), charge.held_micros))
    own = charge.held_micros - charge.held_bonus_micros
    return transfers(
        (Kind.HOLD, account(party, Part.AVAILABLE), account(party, Part.HELD), own),
        (Kind.HOLD, account(party, Part.BONUS), account(party, Part.BONUS_HELD), charge.held_bonus_micros),
    )


def advance(charge: Charge, event: Event, amount_micros: int = 0) -> tuple[Charge, tuple[Transfer, ...]]:
    """The charge after `event` and the transfers that go with it.

    `amount_micros` is the price of a match (0 makes it free) or the amount of a refund; other events take none.
    Raises IllegalMove when the table has no such move or the amount does not fit.
    """
    match event:
        case Event.MATCHED if amount_micros == 0:
            event = Event.MATCHED_FREE
        case Event.REFUND | Event.REFUND_PART:
            rest = charge.captured_micros - charge.refunded_micros
            if not 0 < amount_micros <= rest:
                raise IllegalMove(
                    f"{charge.id} has ${format_usd(rest)} left to refund, not ${format_usd(amount_micros)}"
                )
            event = Event.REFUND if amount_micros == rest else Event.REFUND_PART
        case Event.MATCHED:
            if not 0 < amount_micros <= charge.held_micros:
                raise IllegalMove(f"{charge.id} holds {charge.held_micros} micros, cannot capture {amount_micros}")
        case _:
            if amount_micros:
                raise IllegalMove(f"{event} takes no amount")
    target = TRANSITIONS.get((charge.state, event))
    if target is None or not _suits(charge, event):
        raise IllegalMove(f"{charge.id} is {charge.state} and paid from {charge.source}: no {event}")
    return _MOVES[event](charge, event, target, amount_micros)


def _suits(charge: Charge, event: Event) -> bool:
    """PAID and GIVEN_UP speak of signatures alone; what a signature bought is refunded once it was paid, unless that
    is balance."""
    signed = charge.source is Source.SIGNATURE
    if event in (Event.PAID, Event.GIVEN_UP):
        return signed
    if charge.topup and event in (Event.REFUND, Event.REFUND_PART):
        return False
    return not (signed and event in (Event.REFUND, Event.REFUND_PART) and charge.state is State.CAPTURED)


def _capture(charge: Charge, event: Event, target: State, amount: int) -> tuple[Charge, tuple[Transfer, ...]]:
    own_held = charge.held_micros - charge.held_bonus_micros
    own = min(amount, own_held)
    bonus = amount - own
    new = replace(charge, state=target, captured_micros=amount, captured_bonus_micros=bonus)
    captured = () if charge.topup else _from_hold(charge, Kind.CAPTURE, own, bonus)
    return new, (captured + _from_hold(charge, Kind.RELEASE, own_held - own, charge.held_bonus_micros - bonus))


def _release(charge: Charge, event: Event, target: State, amount: int) -> tuple[Charge, tuple[Transfer, ...]]:
    own_held = charge.held_micros - charge.held_bonus_micros
    return replace(charge, state=target, reason=event), _from_hold(
        charge, Kind.RELEASE, own_held, charge.held_bonus_micros
    )


def _refund(charge: Charge, event: Event, target: State, amount: int) -> tuple[Charge, tuple[Transfer, ...]]:
    bonus_left = max(charge.captured_bonus_micros - charge.refunded_micros, 0)
    bonus = min(amount, bonus_left)
    new = replace(charge, state=target, refunded_micros=charge.refunded_micros + amount)
    return new, transfers(
        (Kind.REFUND, REVENUE, account(charge.party, Part.BONUS), bonus),
        (Kind.REFUND, REVENUE, account(charge.party, Part.AVAILABLE), amount - bonus),
    )


def _nothing_moves(charge: Charge, event: Event, target: State, amount: int) -> tuple[Charge, tuple[Transfer, ...]]:
    # The chain's side of PAID and GIVEN_UP is booked by the settlement, in the same transaction.
    return replace(charge, state=target), ()


def _from_hold(charge: Charge, kind: Kind, own: int, bonus: int) -> tuple[Transfer, ...]:
    party = charge.party
    if charge.asset is not None:
        target = REVENUE if kind is Kind.CAPTURE else chain_due(charge.asset)
        return transfers((kind, account(party, Part.AUTHORIZED), target, own))
    captured = kind is Kind.CAPTURE
    return transfers(
        (kind, account(party, Part.HELD), REVENUE if captured else account(party, Part.AVAILABLE), own),
        (kind, account(party, Part.BONUS_HELD), REVENUE if captured else account(party, Part.BONUS), bonus),
    )


_MOVES = {
    Event.MATCHED: _capture,
    Event.MATCHED_FREE: _release,
    Event.MISSED: _release,
    Event.FAILED: _release,
    Event.EXPIRED: _release,
    Event.PAID: _nothing_moves,
    Event.GIVEN_UP: _nothing_moves,
    Event.REFUND: _refund,
    Event.REFUND_PART: _refund,
}
