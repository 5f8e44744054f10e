"""Registering: a wallet has signed, and an agent is made for it, or it is known already. One transaction each.

The nonce's mark, the agent, its token, its wallet and its grant are written together or not at all, so fifty
registrations at once end as one (F-111, F-123), whatever each of them has seen before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.core.agent import TokenKind
from gateway.core.grant import Policy, Withheld, withheld
from gateway.core.transfer import Kind
from gateway.store import actions, agents, allowances, charges, ledger, wallets
from gateway.store.database import Tx
from gateway.store.wallets import Role

DAY_MS = 86_400_000
LATELY_MS = 30 * DAY_MS
"""How long ago a wallet was registered whose money makes no other one worth a grant."""
USED_KEPT_MS = 3_600_000
"""Beyond its expiry: a clock may go back."""
WALLETS_MAX = 32
"""Of one agent."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A wallet that has signed. What the signature was good for is looked at before."""

    address: str
    """Lower case."""
    network: str
    """`eip155:8453`"""
    contract: bool
    """Its contract has said yes, not its key."""
    nonce: str
    nonce_expires_ms: int
    allowance_micros: int = 0
    """Above 0 with the signature that states it."""
    allowance_signature: bytes = b""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """The agent that is made where the wallet is not known."""

    agent_id: str
    label: str
    token_id: str
    token_hash: bytes
    token_hint: str


@dataclass(frozen=True, slots=True)
class Funds:
    """What the chain says of a wallet's money."""

    holds_micros: int
    senders: Mapping[str, int] | None
    """Micros that came lately, by the address they came from, in lower case; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Registered:
    agent_id: str
    created: bool
    granted_micros: int = 0
    withheld: Withheld | None = None


class NotLinked(StrEnum):
    TAKEN = "taken"
    """The wallet belongs to another agent."""
    TOO_MANY = "too_many"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known before the chain is asked."""

    used: bool
    """The nonce."""
    agent_id: str | None
    """Whose the wallet is."""
    given_micros: int
    """Grants of the last 24 hours."""


def nonce_key(tx: Tx, fresh: bytes) -> bytes:
    """What nonces are sealed with; `fresh` where there is none yet."""
    tx.execute("INSERT INTO nonce_key (one, key) VALUES (1, :key) ON CONFLICT (one) DO NOTHING", {"key": fresh})
    ((key,),) = tx.execute("SELECT key FROM nonce_key")
    return bytes(key)


def standing(tx: Tx, address: str, nonce: str) -> Standing:
    used = bool(tx.execute("SELECT 1 FROM used_nonces WHERE nonce = :nonce", {"nonce": nonce}))
    wallet = wallets.find(tx, address)
    return Standing(used, wallet.agent_id if wallet else None, granted_lately(tx))


def granted_lately(tx: Tx) -> int:
    """Micros granted in the last 24 hours."""
    ((micros,),) = tx.execute(
        "SELECT coalesce(sum(granted_micros), 0) FROM registrations WHERE granted_micros > 0 AND at_ms > :since",
        {"since": tx.now_ms - DAY_MS},
    )
    return int(micros)


def sign_in(tx: Tx, proof: Proof) -> Registered | None:
    """For a known wallet: whose it is, and its allowance where it states one. None: the nonce was used before."""
    wallet = wallets.find(tx, proof.address)
    if wallet is None:
        raise AssertionError("wallets stay with their agent")
    if not _use(tx, proof):
        return None
    _state(tx, proof)
    return Registered(wallet.agent_id, created=False)


def register(tx: Tx, proof: Proof, newcomer: Newcomer, funds: Funds, policy: Policy) -> Registered | None:
    """An agent for this wallet, with what it is granted and what was on the wallet's account; or, somebody was faster,
    as sign_in. None: the nonce was used before."""
    if wallets.find(tx, proof.address) is not None:
        return sign_in(tx, proof)
    if not _use(tx, proof):
        return None
    agents.create(tx, newcomer.agent_id, newcomer.label)
    agents.add_token(
        tx, newcomer.token_id, newcomer.agent_id, TokenKind.ADMIN, newcomer.token_hash, newcomer.token_hint
    )
    wallets.add(tx, proof.address, newcomer.agent_id, Role.MINT)
    why_not = withheld(
        policy,
        given_micros=granted_lately(tx),
        holds_micros=funds.holds_micros,
        shared_micros=None if funds.senders is None else _shared(tx, proof.address, funds.senders),
    )
    granted = 0 if why_not else policy.grant_micros
    credit_id = f"mint:{proof.address}" if granted else None
    if credit_id:
        agents.credit(tx, newcomer.agent_id, granted, Kind.GRANT, "for registering a wallet", credit_id)
    _note(tx, proof, newcomer.agent_id, granted, credit_id, why_not)
    ledger.pass_on(tx, proof.address)
    _state(tx, proof)
    return Registered(newcomer.agent_id, True, granted, why_not)


def link(tx: Tx, proof: Proof, agent_id: str, bearer_id: str) -> bool | NotLinked | None:
    """Puts the wallet beside the agent's others, and what was on its account on the agent's. True: just now; False: it
    was linked before; None: the nonce was used before. Raises Problem AGENT_FROZEN, INVALID_TOKEN."""
    charges.require_standing(tx, agent_id, bearer_id)
    wallet = wallets.find(tx, proof.address)
    if wallet is not None and wallet.agent_id != agent_id:
        return NotLinked.TAKEN
    if wallet is None and len(wallets.of_agent(tx, agent_id)) >= WALLETS_MAX:
        return NotLinked.TOO_MANY
    if not _use(tx, proof):
        return None
    if wallet is None:
        wallets.add(tx, proof.address, agent_id, Role.LINKED)
        _note(tx, proof, agent_id, 0, None, Withheld.LINKED)
        ledger.pass_on(tx, proof.address)
    _state(tx, proof)
    return wallet is None


def _use(tx: Tx, proof: Proof) -> bool:
    """Marks the nonce; False where it was marked before. Sweeps out what has long expired."""
    tx.execute("DELETE FROM used_nonces WHERE expires_ms < :before", {"before": tx.now_ms - USED_KEPT_MS})
    return bool(
        tx.execute(
            "INSERT INTO used_nonces (nonce, expires_ms) VALUES (:nonce, :expires_ms)"
            " ON CONFLICT (nonce) DO NOTHING RETURNING nonce",
            {"nonce": proof.nonce, "expires_ms": proof.nonce_expires_ms},
        )
    )


def _shared(tx: Tx, address: str, senders: Mapping[str, int]) -> int:
    """What came from wallets that were registered lately."""
    shared = 0
    for sender, micros in senders.items():
        wallet = wallets.find(tx, sender) if sender != address else None
        if wallet is not None and wallet.at_ms > tx.now_ms - LATELY_MS:
            shared += micros
    return shared


def _note(tx: Tx, proof: Proof, agent_id: str, granted: int, credit_id: str | None, why_not: Withheld | None) -> None:
    tx.execute(
        "INSERT INTO registrations (address, network, contract, granted_micros, credit_id, withheld, at_ms)"
        " VALUES (:address, :network, :contract, :granted, :credit_id, :withheld, :now_ms)",
        {
            "address": proof.address, "network": proof.network, "contract": int(proof.contract), "granted": granted,
            "credit_id": credit_id, "withheld": why_not, "now_ms": tx.now_ms,
        },
    )  # fmt: skip
    what = "link_wallet" if why_not is Withheld.LINKED else "register_wallet"
    actions.note(tx, what, agent_id, f"{proof.address} on {proof.network}, {why_not or f'{granted} micros granted'}")


def _state(tx: Tx, proof: Proof) -> None:
    if proof.allowance_micros:
        allowances.state(tx, proof.address, proof.allowance_micros, proof.nonce, proof.allowance_signature)


@dataclass(frozen=True, slots=True)
class Shown:
    """A wallet as its agent is shown it."""

    address: str
    role: Role
    at_ms: int
    network: str | None
    """On which it was proved; None where an operator has put it there."""
    allowance: allowances.Allowance | None


def shown(tx: Tx, agent_id: str) -> list[Shown]:
    """The agent's wallets, the oldest first."""
    networks: dict[str, str] = dict(
        tx.execute(
            "SELECT r.address, r.network FROM wallets w JOIN registrations r ON r.address = w.address"
            " WHERE w.agent_id = :agent_id",
            {"agent_id": agent_id},
        )
    )
    return [
        Shown(w.address, w.role, w.at_ms, networks.get(w.address), allowances.find(tx, w.address))
        for w in wallets.of_agent(tx, agent_id)
    ]
