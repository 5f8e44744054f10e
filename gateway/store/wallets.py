"""Wallets: which belongs to which agent, and where.

A key is the same on every chain, a contract is not: the same address may hold somebody else's contract on another one,
whoever of them was first. So a wallet that has signed with its key counts on every network, as one does that the
operator has put here, and one that its contract has proven counts on the network of that contract alone: for deposits,
for what it has stated to spend, for recoveries, and for what it has paid without an agent. `EVERYWHERE` is the network
of those that count on every one. One address may be the wallet of an agent on each network so, and nobody keeps
another chain's owner from his; where an account with a key has a contract's code as well, what its contract has proven
on a network goes before it there.

The account of whoever pays without an agent has the name of his address, and no network (OWNER): it is an agent's only
if nothing was ever taken from that address where the agent's wallet does not count (the operator may say whose it is
then, gateway/store/deposits.py).

An address has one spelling here, lower case, and on its network one agent for ever.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.store.database import Row, Tx

EVERYWHERE = ""
OWNER = """
SELECT w.agent_id FROM wallets w WHERE w.address = :address AND (w.network = '' OR (:network IN ('', w.network)
  AND NOT EXISTS (SELECT 1 FROM charges c WHERE c.payer = w.address AND c.captured_micros > 0
    AND substr(c.asset, 1, length(w.network) + 1) <> w.network || '/')))
ORDER BY w.network DESC LIMIT 1
"""
_SELECT = "SELECT address, network, agent_id, role, at_ms FROM wallets "


class Role(StrEnum):
    MINT = "mint"
    """The agent was registered with it, and is recovered by it."""
    LINKED = "linked"


@dataclass(frozen=True, slots=True)
class Wallet:
    address: str
    """Lower case."""
    network: str
    """The one that it counts on, or EVERYWHERE."""
    agent_id: str
    role: Role
    at_ms: int


def add(tx: Tx, address: str, agent_id: str, role: Role, network: str = EVERYWHERE) -> bool:
    """False: there the address belongs to an agent already."""
    rows = tx.execute(
        "INSERT INTO wallets (address, network, agent_id, role, at_ms)"
        " SELECT :address, :network, :agent_id, :role, :now_ms"
        " WHERE NOT EXISTS (SELECT 1 FROM wallets WHERE address = :address AND network IN ('', :network))"
        " RETURNING address",
        {"address": address, "network": network, "agent_id": agent_id, "role": role, "now_ms": tx.now_ms},
    )
    return bool(rows)


def find(tx: Tx, address: str, network: str = EVERYWHERE) -> Wallet | None:
    """Whose this address is on this network; or, without one, whose it is everywhere."""
    rows = tx.execute(
        _SELECT + "WHERE address = :address AND network IN ('', :network) ORDER BY network DESC LIMIT 1",
        {"address": address, "network": network},
    )
    return _wallet(rows[0]) if rows else None


def owner(tx: Tx, address: str, network: str = EVERYWHERE) -> str | None:
    """The agent to whom goes what is on this wallet's account, once it has also paid on this network. None: nobody
    yet."""
    rows = tx.execute(OWNER, {"address": address, "network": network})
    return str(rows[0][0]) if rows else None


def of_agent(tx: Tx, agent_id: str) -> list[Wallet]:
    """The oldest first: the one it was registered with, where there is one."""
    rows = tx.execute(_SELECT + "WHERE agent_id = :agent_id ORDER BY at_ms, address, network", {"agent_id": agent_id})
    return [_wallet(row) for row in rows]


def _wallet(row: Row) -> Wallet:
    address, network, agent_id, role, at_ms = row
    return Wallet(address, network, agent_id, Role(role), at_ms)
