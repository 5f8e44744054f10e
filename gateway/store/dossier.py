"""All that is kept about one agent, of one moment: for its operator, who has to decide something about it."""

from dataclasses import dataclass

from gateway.core.job import Job
from gateway.store import actions, agents, charges, jobs, wallets
from gateway.store.actions import Action
from gateway.store.agents import Agent
from gateway.store.charges import ChargeView
from gateway.store.database import Tx
from gateway.store.wallets import Wallet


@dataclass(frozen=True, slots=True)
class Token:
    id: str
    kind: str
    hint: str
    """A few of its characters, to recognise it by."""
    created_ms: int
    revoked_ms: int | None


@dataclass(frozen=True, slots=True)
class Dossier:
    agent: Agent
    wallets: list[Wallet]
    tokens: list[Token]
    """Oldest first, the revoked ones too."""
    held: list[ChargeView]
    """Every charge whose work is not over, oldest first."""
    charges: list[ChargeView]
    """The latest, newest first."""
    jobs: list[Job]
    actions: list[Action]
    """What the operator did about it lately, newest first."""


def of_agent(tx: Tx, agent_id: str, latest: int) -> Dossier | None:
    """With so many of the latest charges, jobs and actions; None: there is no such agent."""
    agent = agents.find(tx, agent_id)
    if agent is None:
        return None
    return Dossier(
        agent=agent,
        wallets=wallets.of_agent(tx, agent_id),
        tokens=_tokens(tx, agent_id),
        held=[view for view in charges.held(tx) if view.agent_id == agent_id],
        charges=charges.listing(tx, latest, party=agent_id),
        jobs=jobs.of_party(tx, agent_id, latest),
        actions=actions.listing(tx, latest, agent_id),
    )


def _tokens(tx: Tx, agent_id: str) -> list[Token]:
    rows = tx.execute(
        "SELECT id, kind, hint, created_ms, revoked_ms FROM tokens WHERE agent_id = :agent_id ORDER BY id",
        {"agent_id": agent_id},
    )
    return [Token(*row) for row in rows]
