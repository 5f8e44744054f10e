"""Recoveries of agents that have lost their token, from the moment their transfer is proven: gateway/core/
wallet_recovery.py. An answer is judged, and what follows from it written, in one transaction: of twenty at once one is
answered with a token, and by then no token before it opens anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.agent import Status, TokenKind
from gateway.core.errors import Code, Problem
from gateway.core.wallet_recovery import LOCK_MS, TRIES_MAX
from gateway.store import actions, agents, deposits, leads, usage_keys, wallets
from gateway.store.agents import NewToken
from gateway.store.database import Tx
from gateway.store.wallets import Role


@dataclass(frozen=True, slots=True)
class Standing:
    """What a wallet's agent may still do to be recovered."""

    agent_id: str | None
    """None: it cannot be recovered by this wallet, for whatever reason."""
    tries_left: int
    locked_until_ms: int | None


@dataclass(frozen=True, slots=True)
class Wrong:
    tries_left: int
    locked_until_ms: int | None


@dataclass(frozen=True, slots=True)
class Recovered:
    revoked: int
    """Tokens of its own that opened until now."""
    usage_keys: int
    """Those that still do."""


def standing(tx: Tx, address: str, key_id: int) -> Standing:
    """The same questions for every wallet, known or not. `key_id`: of the key that leads are hashed with."""
    wallet = wallets.find(tx, address)
    agent_id = wallet.agent_id if wallet is not None else ""
    rows = tx.execute("SELECT status FROM agents WHERE id = :id", {"id": agent_id})
    has_asked = leads.any_of(tx, agent_id, key_id)
    left, until_ms = _tries(tx, agent_id)
    mint = wallet is not None and wallet.role is Role.MINT
    eligible = mint and has_asked and rows == [(Status.ACTIVE,)]
    return Standing(agent_id if eligible else None, left, until_ms)


def is_done(tx: Tx, id_hash: bytes) -> bool:
    return bool(
        tx.execute("SELECT 1 FROM wallet_recoveries WHERE id_hash = :hash AND done_ms IS NOT NULL", {"hash": id_hash})
    )


def complete(
    tx: Tx, id_hash: bytes, address: str, agent_id: str, deposit_id: str, digests: Sequence[bytes], token: NewToken
) -> Recovered | Wrong:
    """The deposit is the transfer that was asked for: `digests` are what its sender answers. A wrong answer is written
    down like a right one. Raises Problem; then nothing is, and no try is taken."""
    ((status,),) = tx.execute("SELECT status FROM agents WHERE id = :id", {"id": agent_id})
    if status != Status.ACTIVE:
        raise Problem(Code.AGENT_FROZEN, "this agent is frozen; ask the operator")
    wallet = wallets.find(tx, address)
    if wallet is None or wallet.agent_id != agent_id or wallet.role is not Role.MINT:
        raise AssertionError("a wallet stays with its agent")
    if is_done(tx, id_hash):
        raise used()
    _prove(tx, id_hash, address, agent_id, deposit_id)
    left, until_ms = _tries(tx, agent_id)
    if until_ms is not None:
        raise locked(until_ms, tx.now_ms)
    if leads.has(tx, agent_id, digests):
        return _recover(tx, id_hash, agent_id, token)
    tx.execute(
        "UPDATE wallet_recoveries SET wrong_tries = wrong_tries + 1, last_wrong_ms = :now_ms WHERE id_hash = :hash",
        {"hash": id_hash, "now_ms": tx.now_ms},
    )
    actions.note(tx, "recovery_wrong", agent_id, f"by {deposit_id}, {left - 1} tries left")
    return Wrong(*_tries(tx, agent_id))


def used() -> Problem:
    return Problem(
        Code.RECOVERY_USED,
        "this recovery is done, and its token was shown once: ask for another challenge if it is lost again",
    )


def locked(until_ms: int, now_ms: int) -> Problem:
    return Problem(
        Code.RECOVERY_LOCKED,
        "three answers were wrong, and this agent is not recovered for a day; send nothing until then",
        retry_after_s=max((until_ms - now_ms + 999) // 1000, 1),
    )


def _prove(tx: Tx, id_hash: bytes, address: str, agent_id: str, deposit_id: str) -> None:
    """Raises Problem for a deposit that has been taken back since, or proves another recovery."""
    deposit = deposits.find(tx, deposit_id)
    if deposit is None or deposit.ended_ms is not None:
        raise Problem(
            Code.TRANSACTION_NOT_FOUND, "the chain has taken this transaction back: wait for it", retry_after_s=5
        )
    rows = tx.execute(
        "SELECT id_hash FROM wallet_recoveries WHERE deposit_id = :deposit_id", {"deposit_id": deposit_id}
    )
    if rows and bytes(rows[0][0]) != id_hash:
        raise Problem(Code.RECOVERY_TRANSFER_WRONG, "this transfer was made for another recovery")
    # The same transfer in another block, after a reorganisation, is another deposit of the same recovery.
    tx.execute(
        "INSERT INTO wallet_recoveries (id_hash, agent_id, address, deposit_id, wrong_tries, proven_ms)"
        " VALUES (:hash, :agent_id, :address, :deposit_id, 0, :now_ms)"
        " ON CONFLICT (id_hash) DO UPDATE SET deposit_id = excluded.deposit_id"
        " WHERE deposit_id <> excluded.deposit_id",
        {
            "hash": id_hash, "agent_id": agent_id, "address": address, "deposit_id": deposit_id, "now_ms": tx.now_ms,
        },
    )  # fmt: skip


def _recover(tx: Tx, id_hash: bytes, agent_id: str, token: NewToken) -> Recovered:
    revoked = agents.revoke(tx, agent_id)
    agents.add_token(tx, token.id, agent_id, TokenKind.ADMIN, token.hash, token.hint)
    tx.execute(
        "UPDATE wallet_recoveries SET done_ms = :now_ms, token_id = :token_id WHERE id_hash = :hash",
        {"hash": id_hash, "now_ms": tx.now_ms, "token_id": token.id},
    )
    actions.note(tx, "recover", agent_id, f"{revoked} tokens ended, {token.id} opens now")
    return Recovered(revoked, usage_keys.active(tx, agent_id))


def _tries(tx: Tx, agent_id: str) -> tuple[int, int | None]:
    """(wrong answers that this agent may still give, until when none is heard). Those of a day count together."""
    ((wrong, last_ms),) = tx.execute(
        "SELECT coalesce(sum(wrong_tries), 0), max(last_wrong_ms) FROM wallet_recoveries"
        " WHERE agent_id = :agent_id AND last_wrong_ms > :since",
        {"agent_id": agent_id, "since": tx.now_ms - LOCK_MS},
    )
    left = max(TRIES_MAX - wrong, 0)
    return left, None if left else last_ms + LOCK_MS
