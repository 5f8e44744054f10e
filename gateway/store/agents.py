"""Agents, their tokens and what an operator gives them. Every deed is written to the operator's log as well."""

from dataclasses import dataclass

from gateway.core.agent import Principal, Status, TokenKind
from gateway.core.errors import Conflict
from gateway.core.transfer import GRANTS, OPERATOR, Kind, Part, Transfer, account
from gateway.store import actions, ledger
from gateway.store.database import Tx


@dataclass(frozen=True, slots=True)
class Balance:
    """Micro-USD. Own money and bonus, each available or under open holds; and what is owed of both together."""

    available: int
    held: int
    bonus: int
    bonus_held: int
    debt: int = 0


@dataclass(frozen=True, slots=True)
class Agent:
    id: str
    label: str
    status: Status
    created_ms: int
    tokens: int
    """How many are valid."""
    balance: Balance


def create(tx: Tx, agent_id: str, label: str) -> None:
    tx.execute(
        "INSERT INTO agents (id, label, status, created_ms) VALUES (:id, :label, :status, :now_ms)",
        {"id": agent_id, "label": label, "status": Status.ACTIVE, "now_ms": tx.now_ms},
    )
    actions.note(tx, "create_agent", agent_id, label)


def set_status(tx: Tx, agent_id: str, status: Status) -> bool:
    """A frozen agent opens no new charge; what is open ends as it would. False: no such agent."""
    rows = tx.execute(
        "UPDATE agents SET status = :status WHERE id = :id RETURNING id", {"id": agent_id, "status": status}
    )
    if rows:
        actions.note(tx, "set_status", agent_id, status)
    return bool(rows)


def add_token(tx: Tx, token_id: str, agent_id: str, kind: TokenKind, token_hash: bytes, hint: str) -> None:
    """`token_hash` and `hint` are all that is kept of the token."""
    tx.execute(
        "INSERT INTO tokens (id, agent_id, kind, hash, hint, created_ms)"
        " VALUES (:id, :agent_id, :kind, :hash, :hint, :now_ms)",
        {"id": token_id, "agent_id": agent_id, "kind": kind, "hash": token_hash, "hint": hint, "now_ms": tx.now_ms},
    )
    actions.note(tx, "add_token", agent_id, f"{token_id} {hint}")


def authenticate(tx: Tx, token_hash: bytes) -> Principal | None:
    """Who holds this token, frozen or not; None for an unknown or revoked one."""
    rows = tx.execute(
        "SELECT a.id, t.id, t.kind, a.status, a.label, a.created_ms FROM tokens t JOIN agents a ON a.id = t.agent_id"
        " WHERE t.hash = :hash AND t.revoked_ms IS NULL",
        {"hash": token_hash},
    )
    if not rows:
        return None
    agent_id, token_id, kind, status, label, created_ms = rows[0]
    return Principal(agent_id, token_id, TokenKind(kind), Status(status), label, created_ms)


def revoke(tx: Tx, agent_id: str) -> int:
    """Every valid token of this agent; answers how many. Open charges end as they would."""
    rows = tx.execute(
        "UPDATE tokens SET revoked_ms = :now_ms WHERE agent_id = :agent_id AND revoked_ms IS NULL RETURNING id",
        {"agent_id": agent_id, "now_ms": tx.now_ms},
    )
    if rows:
        actions.note(tx, "revoke", agent_id, " ".join(row[0] for row in rows))
    return len(rows)


def credit(tx: Tx, agent_id: str, amount_micros: int, kind: Kind, note: str, credit_id: str) -> None:
    """Gives money: CREDIT is the agent's own, GRANT is bonus. The same `credit_id` again changes nothing; with other
    terms it raises Conflict. ValueError for an amount that is not above zero."""
    sources = {Kind.CREDIT: (OPERATOR, Part.AVAILABLE), Kind.GRANT: (GRANTS, Part.BONUS)}
    source, part = sources[kind]
    transfer = Transfer(kind, source, account(agent_id, part), amount_micros)
    terms = (agent_id, kind.value, amount_micros)
    earlier = tx.execute("SELECT agent_id, kind, amount_micros FROM credits WHERE id = :id", {"id": credit_id})
    if earlier:
        if earlier[0] != terms:
            raise Conflict(f"{credit_id} was another credit")
        return
    tx.execute(
        "INSERT INTO credits (id, agent_id, kind, amount_micros, note, at_ms)"
        " VALUES (:id, :agent_id, :kind, :amount, :note, :now_ms)",
        {
            "id": credit_id, "agent_id": agent_id, "kind": kind, "amount": amount_micros, "note": note,
            "now_ms": tx.now_ms,
        },
    )  # fmt: skip
    ledger.post(tx, (transfer,), note=note)
    actions.note(tx, kind, agent_id, f"{amount_micros} micros as {credit_id}: {note}")


def balance(tx: Tx, party: str) -> Balance:
    """Of an agent or of a wallet's address; zeros when nothing was ever booked."""
    parts = {part: ledger.balance(tx, account(party, part)) for part in Part if part is not Part.AUTHORIZED}
    return Balance(
        available=parts[Part.AVAILABLE],
        held=parts[Part.HELD],
        bonus=parts[Part.BONUS],
        bonus_held=parts[Part.BONUS_HELD],
        debt=-parts[Part.DEBT] - parts[Part.BONUS_DEBT],
    )


def listing(tx: Tx) -> list[Agent]:
    """Oldest first."""
    rows = tx.execute(
        "SELECT a.id, a.label, a.status, a.created_ms,"
        " (SELECT count(*) FROM tokens t WHERE t.agent_id = a.id AND t.revoked_ms IS NULL)"
        " FROM agents a ORDER BY a.id"
    )
    return [Agent(id, label, Status(status), at, tokens, balance(tx, id)) for id, label, status, at, tokens in rows]
