"""Wallets: which belongs to which agent. An address has one spelling here, lower case, and one agent for ever."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.store.database import Row, Tx

OWNER = """
SELECT w.agent_id FROM wallets w LEFT JOIN registrations r ON r.address = w.address
WHERE w.address = :address AND NOT (coalesce(r.contract, 0) = 1 AND EXISTS (
  SELECT 1 FROM charges c WHERE c.payer = w.address AND substr(c.asset, 1, length(r.network) + 1) <> r.network || '/'))
"""
"""A key is the same on every chain, a contract is not: what somebody else's contract has paid from this address on
another chain is not for the one that has registered on this one."""


class Role(StrEnum):
    MINT = "mint"
    """The agent was registered with it, and is recovered by it."""
    LINKED = "linked"


@dataclass(frozen=True, slots=True)
class Wallet:
    address: str
    """Lower case."""
    agent_id: str
    role: Role
    at_ms: int


def add(tx: Tx, address: str, agent_id: str, role: Role) -> bool:
    """False: the address belongs to an agent already."""
    rows = tx.execute(
        "INSERT INTO wallets (address, agent_id, role, at_ms) VALUES (:address, :agent_id, :role, :now_ms)"
        " ON CONFLICT (address) DO NOTHING RETURNING address",
        {"address": address, "agent_id": agent_id, "role": role, "now_ms": tx.now_ms},
    )
    return bool(rows)


def find(tx: Tx, address: str) -> Wallet | None:
    rows = tx.execute(
        "SELECT address, agent_id, role, at_ms FROM wallets WHERE address = :address", {"address": address}
    )
    return _wallet(rows[0]) if rows else None


def owner(tx: Tx, address: str) -> str | None:
    """The agent to whom goes what is on this wallet's account. None: nobody yet."""
    rows = tx.execute(OWNER, {"address": address})
    return str(rows[0][0]) if rows else None


def of_agent(tx: Tx, agent_id: str) -> list[Wallet]:
    """The oldest first: the one it was registered with, where there is one."""
    rows = tx.execute(
        "SELECT address, agent_id, role, at_ms FROM wallets WHERE agent_id = :agent_id ORDER BY at_ms, address",
        {"agent_id": agent_id},
    )
    return [_wallet(row) for row in rows]


def _wallet(row: Row) -> Wallet:
    address, agent_id, role, at_ms = row
    return Wallet(address, agent_id, Role(role), at_ms)
