"""The seam between the flows and whoever settles: relayer, remote facilitator, sandbox.

Three outcomes everywhere: yes (Admitted, Settled), no (Refused), unknown (Unknown). Unknown is not no: the
payment may have been made or may yet be, so it stays as it is and is looked at again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from gateway.core.deposit import Arrival
from gateway.core.money import atomic_to_micros_down
from gateway.core.networks import Token
from gateway.core.settlement import Attempt, Settled, Settlement
from gateway.core.x402.messages import Requirements
from gateway.core.x402.verify import Verified


@dataclass(frozen=True, slots=True)
class Admitted:
    """The chain would take this payment now. What was seen, at `block`."""

    block: int
    block_time_s: int
    spendable_atomic: int
    """The payer's balance, or its smaller Permit2 allowance; with `by_permit` what the permit allows, if smaller."""
    by_permit: bool = False
    """It rests on the payer's EIP-2612 permit: Permit2 may not take so much of him yet."""


@dataclass(frozen=True, slots=True)
class Refused:
    """`check`: the chain would not take it. `settle`, `find`: it can never be paid (any more)."""

    reason: str
    """An x402 reason string."""
    message: str = ""
    final: bool = True
    """`settle` only. False: nothing of ours can still be mined, but the authorization is alive (its payer moved the
    funds, say) and somebody may yet send it; the flow abandons the settlement durably before it tells anybody."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not known: asked in vain, or under way."""

    message: str
    transaction: str = ""
    """The hash of an attempt that may yet be mined."""


class Journal(Protocol):
    """What a settler must write down, implemented over the store by flows/collecting.py."""

    async def sending(self, attempt: Attempt) -> tuple[str, ...]:
        """Before the broadcast, in one write: the attempt and SENT for its settlements.

        Answers with the ids of settlements that may not be sent (ended, abandoned); then nothing was written.
        """
        ...

    async def pending(self, network: str, key: str) -> Sequence[Attempt]:
        """Attempts whose nonce is not known to be used at depth, by nonce and number."""
        ...

    async def attempts_of(self, settlement_id: str) -> Sequence[Attempt]:
        """Every attempt that carried this settlement, oldest first."""
        ...

    async def closed(self, network: str, key: str, nonce: int, mined_hash: str | None) -> None:
        """The nonce is used at depth: by this attempt of ours, or (None) by something that is not ours."""
        ...

    async def retry(self, settlement_id: str) -> None:
        """The settlement's attempt is dead at depth and its authorization alive: SENT back to QUEUED."""
        ...

    async def nonce_after(self, network: str, key: str) -> int:
        """One more than the highest nonce ever stored for this key, or 0."""
        ...


class Lock(Protocol):
    """Exclusive among processes and released by the operating system at any death."""

    def acquire(self) -> bool:
        """Whether this process holds it now; does not wait."""
        ...

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Health:
    """What the operator should know. `alarms` are one short name each, such as `relayer_gas_low`."""

    ready: bool
    alarms: tuple[str, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)


class Settler(Protocol):
    """Collects payments on the networks it serves."""

    @property
    def networks(self) -> tuple[str, ...]: ...

    @property
    def sandbox(self) -> bool:
        """No real money: every 402, receipt and document says so."""
        ...

    @property
    def journals(self) -> bool:
        """Whether SENT is written before anything is broadcast: what is QUEUED, and never was SENT, nobody has seen."""
        ...

    def facilitator_addresses(self, network: str) -> tuple[str, ...]:
        """Addresses that may settle `upto` here, the one to offer first. Empty: `upto` is not offered."""
        ...

    def sponsors(self, network: str) -> bool:
        """Whether a payer's EIP-2612 permit for Permit2 is taken to the chain with his payment."""
        ...

    def serves(self, requirements: Requirements) -> bool: ...

    async def start(self) -> None:
        """Connects and takes up what was left open; never fails because the other side is down."""
        ...

    async def close(self) -> None: ...

    async def check(self, payment: Verified) -> Admitted | Refused | Unknown:
        """Asks the chain what only the chain knows, in one round trip. No side effects, nothing written."""
        ...

    async def settle(self, settlement: Settlement) -> Settled | Refused | Unknown:
        """Collects it. Idempotent by the settlement's id; waits a bounded time for the proof."""
        ...

    async def find(self, settlement: Settlement) -> Settled | Refused | Unknown:
        """What became of it. Only looks; never sends."""
        ...

    async def health(self) -> Health: ...


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction in a block, as far as deposits go."""

    depth: int
    """1 in the latest block."""
    succeeded: bool
    arrivals: tuple[Arrival, ...]
    """Its Transfers of tokens we take to the address for deposits, in order."""
    elsewhere: bool
    """It moves such a token, to other addresses."""
    other_tokens: bool
    """It moves tokens we do not take to the address for deposits."""
    movers: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """Of each arrival, by its log's index: the accounts, in lower case, whose own doing it is."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The chain does not have it (any more)."""


class Arrivals(Protocol):
    """One chain's Transfers to the address that deposits are sent to. Only looks; Unknown when it cannot be sure."""

    @property
    def network(self) -> str: ...

    @property
    def chain_id(self) -> int: ...

    @property
    def address(self) -> str:
        """Lower case."""
        ...

    async def transaction(self, hash: str) -> Mined | Missing | Unknown: ...

    async def head(self) -> int | Unknown:
        """The latest block's number."""
        ...

    async def between(self, first: int, last: int) -> list[Arrival] | Unknown:
        """Every one in these blocks, both included, in order. Unknown as well where that is too much for the node."""
        ...

    async def still(self, known: Sequence[Arrival]) -> tuple[int, list[Arrival | Missing | Unknown]] | Unknown:
        """(the latest block's number, where each is now): perhaps in another block. Missing only when the chain shows
        another block in the place of its own, and two readers say so. One that nobody can say anything of is Unknown
        alone; all of it is when the chain cannot be asked."""
        ...


@dataclass(frozen=True, slots=True)
class Holding:
    """The token of a network that a wallet has most of, as seen at `block`."""

    token: Token
    micros: int
    block: int


SENDERS_MAX = 100
"""Of one wallet: so many are told one by one, whoever has sent most."""


@dataclass(frozen=True, slots=True)
class Senders:
    """Who has sent a wallet something lately, in micros; somebody who has sent nothing is none."""

    most: Mapping[str, int]
    """By address, in lower case."""
    others_micros: int
    """From everybody else together, who have sent less than any of those."""

    @classmethod
    def of(cls, came: Mapping[str, int], decimals: int) -> "Senders":
        """`came`: atomic units by address."""
        micros = [(atomic_to_micros_down(atomic, decimals)[0], sender) for sender, atomic in came.items() if atomic]
        micros.sort(reverse=True)
        most = {sender: amount for amount, sender in micros[:SENDERS_MAX]}
        return cls(most, sum(amount for amount, _ in micros[SENDERS_MAX:]))


@dataclass(frozen=True, slots=True)
class SignedText:
    """Something that a wallet has signed without paying anything by it."""

    digest: bytes
    signature: bytes = field(repr=False)


@runtime_checkable
class Wallets(Protocol):
    """Asks a chain about a wallet that pays nothing yet. Looks only; each question is one bounded round trip."""

    async def confirms(self, network: str, wallet: str, signed: Sequence[SignedText]) -> bool | Unknown:
        """Whether a contract stands there and takes all of it for its own (ERC-1271)."""
        ...

    async def holding(self, network: str, wallet: str) -> Holding | Unknown:
        """What it has now, whether or not it can be moved."""
        ...

    async def senders(self, network: str, wallet: str, holding: Holding) -> Senders | Unknown:
        """Whom the token came from lately, up to the block of `holding`."""
        ...
