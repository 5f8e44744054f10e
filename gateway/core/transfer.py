"""The ledger's words: accounts, transfers, and the chart of accounts.

A transfer `A -> B` takes from A and adds to B. Accounts are credit-positive: what we owe or earned is above
zero, so assets (`chain:*`) run below it. Every transfer has two legs of one amount; the sum of all balances is
zero at all times. Append only: a correction is another transfer.

    <party>:available   own money a party may spend           chain:<asset>:due        signed to us, not yet come
    <party>:held        own money under open holds            chain:<asset>:treasury   came to us on chain
    <party>:bonus       granted money, spent after own        revenue                  earned
    <party>:bonus_held  granted money under open holds        loss                     earned, never came
    <party>:authorized  signed authorizations, held or due    grants, operator         where given money comes from
    <party>:debt        own money owed after a deposit was withdrawn; at most zero
    <party>:bonus:debt  the same of granted money

Whoever owes has nothing available: gateway/store/ledger.py pays a debt out of whatever comes, before it can be spent.

A party is an agent (`agt_...`) or a wallet address in lower case. `<asset>` is `eip155:8453/0x8335...`. What a wallet
has, of refunds and of prepaid calls that came to nothing, is its agent's once it belongs to one: it goes on to the
agent then, and whatever comes later goes on as it comes.
"""

from dataclasses import dataclass
from enum import StrEnum

REVENUE = "revenue"
LOSS = "loss"
GRANTS = "grants"
OPERATOR = "operator"


class Part(StrEnum):
    """A party's accounts."""

    AVAILABLE = "available"
    HELD = "held"
    BONUS = "bonus"
    BONUS_HELD = "bonus_held"
    AUTHORIZED = "authorized"
    DEBT = "debt"
    BONUS_DEBT = "bonus:debt"


def is_wallet(party: str) -> bool:
    return party.startswith("0x")


def account(party: str, part: Part) -> str:
    return f"{party}:{part}"


def chain_due(asset: str) -> str:
    return f"chain:{asset}:due"


def chain_treasury(asset: str) -> str:
    return f"chain:{asset}:treasury"


def may_be_negative(name: str) -> bool:
    """The accounts that may go below zero; the schema has the same rule as a CHECK."""
    return name.startswith("chain:") or name in (LOSS, GRANTS, OPERATOR) or name.endswith(":debt")


class Kind(StrEnum):
    """Why a transfer was made: the word on a statement."""

    HOLD = "hold"
    CAPTURE = "capture"
    RELEASE = "release"
    REFUND = "refund"
    PROVEN = "proven"
    SHORTFALL = "shortfall"
    GIVEN_UP = "given_up"
    TAKEN_BACK = "taken_back"
    CREDIT = "credit"
    GRANT = "grant"
    DEPOSIT = "deposit"
    MATCH = "match"
    """The bonus that came with a deposit."""
    WITHDRAWN = "withdrawn"
    """A deposit, or its match, that a reorganisation took back."""
    REPAID = "repaid"
    """A debt, out of what has come since."""
    JOINED = "joined"
    """What a wallet had, or has come to it, goes on to the agent it belongs to."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """`debit -> credit`: takes from `debit`, adds to `credit`. Never zero, never negative."""

    kind: Kind
    debit: str
    credit: str
    amount_micros: int

    def __post_init__(self) -> None:
        if self.amount_micros <= 0 or self.debit == self.credit:
            raise ValueError(f"no transfer: {self}")


def transfers(*legs: tuple[Kind, str, str, int]) -> tuple[Transfer, ...]:
    """Transfers of the legs that are not zero: there are no postings of zero."""
    return tuple(Transfer(*leg) for leg in legs if leg[3])
