"""Leads that agents have asked about, as keyed hashes: gateway/core/lead.py. Written in the transaction that ends a
purchase, so one row each and nothing read; the same lead again within a day is no write at all."""

from collections.abc import Sequence

from gateway.core.agent import DAY_MS
from gateway.core.lead import KEPT_DAYS
from gateway.store.database import Tx

LEADS_MAX = 20_000
"""Kept of one agent; the oldest go first."""

NOTE = """
INSERT INTO leads (agent_id, digest, key_id, asked_day) VALUES (:agent_id, :digest, :key_id, :day)
ON CONFLICT (agent_id, digest) DO UPDATE SET asked_day = excluded.asked_day WHERE excluded.asked_day > leads.asked_day
"""


def note(tx: Tx, agent_id: str, key_id: int, digests: Sequence[bytes]) -> None:
    for digest in digests:
        tx.execute(
            NOTE, {"agent_id": agent_id, "digest": digest, "key_id": key_id, "day": tx.now_ms // DAY_MS}
        )  # fmt: skip


def any_of(tx: Tx, agent_id: str, key_id: int) -> bool:
    """Whether there is one that could be answered."""
    rows = tx.execute(
        "SELECT 1 FROM leads WHERE agent_id = :agent_id AND key_id = :key_id AND asked_day >= :first LIMIT 1",
        {"agent_id": agent_id, "key_id": key_id, "first": _first_day(tx)},
    )
    return bool(rows)


def has(tx: Tx, agent_id: str, digests: Sequence[bytes]) -> bool:
    """Whether one of these is a lead of this agent. Each is looked up, whatever comes of the one before."""
    found = [
        tx.execute(
            "SELECT 1 FROM leads WHERE agent_id = :agent_id AND digest = :digest AND asked_day >= :first",
            {"agent_id": agent_id, "digest": digest, "first": _first_day(tx)},
        )
        for digest in digests
    ]
    return any(found)


def forget(tx: Tx) -> None:
    """Those whose ninety days are over."""
    tx.execute("DELETE FROM leads WHERE asked_day < :first", {"first": _first_day(tx)})


def crowded(tx: Tx, leads_max: int = LEADS_MAX) -> list[str]:
    """Agents that have more than so many."""
    return [
        str(agent_id)
        for (agent_id,) in tx.execute(
            "SELECT agent_id FROM leads GROUP BY agent_id HAVING count(*) > :max", {"max": leads_max}
        )
    ]


def thin(tx: Tx, agent_id: str, leads_max: int = LEADS_MAX) -> None:
    """Leaves this agent its newest."""
    tx.execute(
        "DELETE FROM leads WHERE agent_id = :agent_id AND digest IN (SELECT digest FROM leads"
        " WHERE agent_id = :agent_id ORDER BY asked_day DESC, digest LIMIT 1000000000 OFFSET :max)",
        {"agent_id": agent_id, "max": leads_max},
    )


def _first_day(tx: Tx) -> int:
    return tx.now_ms // DAY_MS - KEPT_DAYS
