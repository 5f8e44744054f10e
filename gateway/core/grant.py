"""Whether a wallet that registers is given something to begin with, and why not.

A balance alone keeps nobody from passing one dollar through a thousand wallets (F-109). So what a day may cost is
bounded, and a dollar that has just come from a registered wallet counts for that one, not for the next. What is asked
is whether the wallet would have enough without it: dust that somebody sends to a stranger takes nothing from him,
however many send it. Of a crowd of senders those are looked at who have sent most; what all others have sent together
matters only where the wallet would not have enough without it either.
"""

from dataclasses import dataclass
from enum import StrEnum


class Withheld(StrEnum):
    """Why there is no grant."""

    OFF = "off"
    """None are given here."""
    BUDGET = "budget_spent"
    """Those of the last 24 hours leave no room for another one."""
    SHARED = "shared_funds"
    """Without what came from a wallet that was registered lately, this one has too little."""
    UNKNOWN = "unknown_funds"
    """Nobody could say where its money came from."""
    LINKED = "linked"
    """A further wallet of an agent is given none."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Micro-USD."""

    grant_micros: int
    budget_micros: int
    """For any 24 hours."""
    least_micros: int
    """What a wallet has to hold."""
    once_per_dollar: bool
    """Whether it is asked where the money came from."""


def withheld(
    policy: Policy, *, given_micros: int, holds_micros: int, shared_micros: int | None, unseen_micros: int = 0
) -> Withheld | None:
    """None: it is granted. `given_micros`: in the last 24 hours. `shared_micros`: of what the wallet holds, how much
    came from wallets registered lately; None where that is not known. `unseen_micros`: how much came from whom nobody
    has looked at."""
    if not policy.grant_micros:
        return Withheld.OFF
    if given_micros + policy.grant_micros > policy.budget_micros:
        return Withheld.BUDGET
    if not policy.once_per_dollar:
        return None
    if shared_micros is None:
        return Withheld.UNKNOWN
    own_micros = holds_micros - shared_micros
    if own_micros < policy.least_micros:
        return Withheld.SHARED
    return Withheld.UNKNOWN if own_micros - unseen_micros < policy.least_micros else None
