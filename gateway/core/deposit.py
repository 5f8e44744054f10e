"""The life of a deposit: money that an agent brings, and what a reorganisation may do to it.

    SEEN ── CREDITED ──▶ CREDITED ── TAKEN_BACK ──▶ WITHDRAWN
     │
     └── TAKEN_BACK ──▶ GONE

SEEN is money at depth that nobody's wallet has sent. A transfer comes from the chain's treasury, a top-up by x402 from
what its party had authorized; `origin` names the account. What is taken back goes there again: as much as is available
at once, and the rest is the agent's debt. A debt is paid by whatever comes next, before it can be spent
(gateway/store/ledger.py), so whoever owes has nothing available. Own money and bonus each have a debt of their own:
bonus never pays for own money, so that it cannot turn into it.

A match is bonus that comes in the transaction of its deposit, and goes when that goes.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.core.errors import IllegalMove
from gateway.core.transfer import GRANTS, Kind, Part, Transfer, account, chain_treasury, transfers

TOPUP = "balance/topup/x402"
"""The operation of a top-up that an agent asked for. What a prepaid call has brought is its payer's as well, and no
deposit to him: nothing is matched for it, and it is not his first."""


class State(StrEnum):
    SEEN = "seen"
    CREDITED = "credited"
    WITHDRAWN = "withdrawn"
    GONE = "gone"


class Event(StrEnum):
    CREDITED = "credited"
    TAKEN_BACK = "taken_back"


class Source(StrEnum):
    TRANSFER = "transfer"
    X402 = "x402"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.SEEN, Event.CREDITED): State.CREDITED,
    (State.SEEN, Event.TAKEN_BACK): State.GONE,
    (State.CREDITED, Event.TAKEN_BACK): State.WITHDRAWN,
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A Transfer to the address that deposits are sent to, as a receipt or a log tells it."""

    network: str
    token: str
    """Lower case, as all addresses and hashes here."""
    sender: str
    transaction: str
    log_index: int
    block: int
    block_hash: str
    amount_atomic: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class Deposit:
    id: str
    source: Source
    asset: str
    """`eip155:8453/0x8335...`"""
    amount_micros: int
    state: State = State.SEEN
    party: str | None = None
    """Whose it is: an agent, or of what was paid for a call without one the wallet."""
    bonus_micros: int = 0

    @property
    def origin(self) -> str:
        """The account it comes from, and goes back to."""
        if self.source is Source.TRANSFER:
            return chain_treasury(self.asset)
        if self.party is None:
            raise IllegalMove(f"{self.id} is a top-up of nobody")
        return account(self.party, Part.AUTHORIZED)


def credited(deposit: Deposit, party: str, bonus_micros: int) -> tuple[Deposit, tuple[Transfer, ...]]:
    """Raises IllegalMove when it was credited before, or taken back."""
    after = replace(_moved(deposit, Event.CREDITED), party=party, bonus_micros=bonus_micros)
    return after, transfers(
        (Kind.DEPOSIT, after.origin, account(party, Part.AVAILABLE), after.amount_micros),
        (Kind.MATCH, GRANTS, account(party, Part.BONUS), bonus_micros),
    )


def taken_back(
    deposit: Deposit, available_micros: int = 0, bonus_available_micros: int = 0
) -> tuple[Deposit, tuple[Transfer, ...]]:
    """What is there is taken, the rest is owed. Raises IllegalMove when it was taken back before."""
    after = _moved(deposit, Event.TAKEN_BACK)
    if deposit.party is None:
        return after, ()
    own = min(deposit.amount_micros, available_micros)
    bonus = min(deposit.bonus_micros, bonus_available_micros)
    part = {part: account(deposit.party, part) for part in Part}
    return after, transfers(
        (Kind.WITHDRAWN, part[Part.AVAILABLE], deposit.origin, own),
        (Kind.WITHDRAWN, part[Part.DEBT], deposit.origin, deposit.amount_micros - own),
        (Kind.WITHDRAWN, part[Part.BONUS], GRANTS, bonus),
        (Kind.WITHDRAWN, part[Part.BONUS_DEBT], GRANTS, deposit.bonus_micros - bonus),
    )


def _moved(deposit: Deposit, event: Event) -> Deposit:
    target = TRANSITIONS.get((deposit.state, event))
    if target is None:
        raise IllegalMove(f"{deposit.id} is {deposit.state}: no {event}")
    return replace(deposit, state=target)


@dataclass(frozen=True, slots=True)
class Match:
    """The one rule by which deposits are matched."""

    percent: int
    min_micros: int
    max_bonus_micros: int
    """Of one agent, over all its deposits."""
    budget_micros: int
    """Of all agents together."""
    ends_ms: int | None = None
    first_deposit_only: bool = True

    def bonus(
        self, amount_micros: int, *, now_ms: int, deposits_before: int, agent_had_micros: int, all_had_micros: int
    ) -> int:
        """What such a deposit brings, rounded down. `..._had_micros` is bonus of deposits that still stand."""
        if self.ends_ms is not None and now_ms >= self.ends_ms:
            return 0
        if amount_micros < self.min_micros or (self.first_deposit_only and deposits_before > 0):
            return 0
        left = min(self.max_bonus_micros - agent_had_micros, self.budget_micros - all_had_micros)
        return max(min(amount_micros * self.percent // 100, left), 0)
