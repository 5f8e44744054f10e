"""Tickets: written with the hold of their charge, read once that is paid.

A charge that is released takes its ticket along (migrations/0013.sql), so there is never the one without the other.
A ticket whose payment could not be collected is nobody's until it is bought anew (charges.resold_by).
"""

from dataclasses import replace

from gateway.core.errors import Conflict
from gateway.core.ticket import Answer, Category, State, Ticket, credit_id_of
from gateway.core.transfer import Kind
from gateway.store import actions, agents
from gateway.store.database import Row, Tx

_PAID = """
FROM tickets t JOIN charges c ON c.id = t.charge_id LEFT JOIN charges r ON r.id = c.resold_by
WHERE (coalesce(r.state, c.state) IN ('settled', 'refunded')
  OR (coalesce(r.source, c.source) = 'balance' AND coalesce(r.state, c.state) = 'captured'))
"""
_COLUMNS = """
t.id, t.charge_id, t.party, t.agent_id, t.category, t.subject, t.body, t.created_ms, t.changed_ms, t.state, t.credit_id,
  c.key_id
"""


def add(tx: Tx, ticket: Ticket) -> None:
    tx.execute(
        "INSERT INTO tickets (id, charge_id, party, agent_id, category, subject, body, state, created_ms, changed_ms)"
        " VALUES (:id, :charge_id, :party, :agent_id, :category, :subject, :body, 'open', :now_ms, :now_ms)",
        {
            "id": ticket.id, "charge_id": ticket.charge_id, "party": ticket.party, "agent_id": ticket.agent_id,
            "category": ticket.category, "subject": ticket.subject, "body": ticket.body, "now_ms": tx.now_ms,
        },
    )  # fmt: skip


def open_of(tx: Tx, party: str) -> int:
    """How many of its tickets wait for the operator, those included whose payment is under way."""
    ((count,),) = tx.execute(
        "SELECT count(*) FROM tickets t JOIN charges c ON c.id = t.charge_id"
        " WHERE t.party = :party AND t.state = 'open' AND c.state <> 'unpaid'",
        {"party": party},
    )
    return int(count)


def find(tx: Tx, ticket_id: str) -> Ticket | None:
    """With its answers; None also for one that is not paid for."""
    rows = tx.execute(f"SELECT {_COLUMNS} {_PAID} AND t.id = :id", {"id": ticket_id})
    if not rows:
        return None
    answers = tx.execute(
        "SELECT body, at_ms FROM ticket_answers WHERE ticket_id = :id ORDER BY number", {"id": ticket_id}
    )
    return replace(_ticket(rows[0]), answers=tuple(Answer(*row) for row in answers))


def token_opens(tx: Tx, ticket: Ticket, token_hash: bytes) -> bool:
    """Whether this is a token of the charge that it was filed with, or of one that has bought it anew: of the same
    payer for the same words, without a ticket of its own. Two of those at once have both paid for it."""
    return bool(
        tx.execute(
            "SELECT 1 FROM charge_tokens k JOIN charges b ON b.id = k.charge_id JOIN charges c ON c.id = :charge_id"
            " WHERE k.hash = :hash AND (b.id = c.id OR (b.payer = c.payer AND b.request_hash = c.request_hash"
            " AND NOT EXISTS (SELECT 1 FROM tickets t WHERE t.charge_id = b.id)))",
            {"charge_id": ticket.charge_id, "hash": token_hash},
        )
    )


def listing(
    tx: Tx,
    limit: int,
    *,
    before_id: str | None = None,
    state: State | None = None,
    agent_id: str | None = None,
    key_id: str | None = None,
) -> list[Ticket]:
    """Newest first, without answers; `before_id` is the last id of the page before."""
    filters = {
        "t.id < :before_id": before_id is not None,
        "t.state = :state": state is not None,
        "t.agent_id = :agent_id": agent_id is not None,
        "c.key_id = :key_id": key_id is not None,
    }
    where = "".join(f" AND {clause}" for clause, wanted in filters.items() if wanted)
    rows = tx.execute(
        f"SELECT {_COLUMNS} {_PAID}{where} ORDER BY t.id DESC LIMIT :limit",
        {"before_id": before_id, "state": state, "agent_id": agent_id, "key_id": key_id, "limit": limit},
    )
    return [_ticket(row) for row in rows]


# the operator's


def answer(tx: Tx, ticket_id: str, body: str) -> None:
    """Raises Conflict: there is no such ticket, or it is closed."""
    _move(tx, ticket_id, State.ANSWERED)
    tx.execute(
        "INSERT INTO ticket_answers (ticket_id, number, body, at_ms) VALUES (:id,"
        " 1 + (SELECT count(*) FROM ticket_answers WHERE ticket_id = :id), :body, :now_ms)",
        {"id": ticket_id, "body": body, "now_ms": tx.now_ms},
    )
    actions.note(tx, "answer_ticket", ticket_id)


def close(tx: Tx, ticket_id: str) -> None:
    """Raises Conflict: there is no such ticket, or it is closed already."""
    _move(tx, ticket_id, State.CLOSED)
    actions.note(tx, "close_ticket", ticket_id)


def confirm_bug(tx: Tx, ticket_id: str, amount_micros: int) -> None:
    """Credits the bonus, once. Raises Conflict with the reason where it was confirmed before, or earns nothing."""
    ticket = _required(tx, ticket_id)
    if ticket.agent_id is None or not ticket.may_earn:
        raise Conflict(
            "it was not filed as a bug" if ticket.agent_id else "nobody's account paid for it: there is none to credit"
        )
    if ticket.credit_id is not None:
        raise Conflict(f"it was confirmed before, and has earned {ticket.credit_id}")
    credit_id = credit_id_of(ticket_id)
    agents.credit(tx, ticket.agent_id, amount_micros, Kind.GRANT, f"confirmed bug {ticket_id}", credit_id)
    tx.execute(
        "UPDATE tickets SET credit_id = :credit_id, changed_ms = :now_ms WHERE id = :id",
        {"id": ticket_id, "credit_id": credit_id, "now_ms": tx.now_ms},
    )
    actions.note(tx, "confirm_bug", ticket_id, f"{amount_micros} micros as {credit_id}")


def _move(tx: Tx, ticket_id: str, state: State) -> None:
    if _required(tx, ticket_id).state is State.CLOSED:
        raise Conflict("it is closed")
    tx.execute(
        "UPDATE tickets SET state = :state, changed_ms = :now_ms WHERE id = :id",
        {"id": ticket_id, "state": state, "now_ms": tx.now_ms},
    )


def _required(tx: Tx, ticket_id: str) -> Ticket:
    ticket = find(tx, ticket_id)
    if ticket is None:
        raise Conflict("there is no such ticket")
    return ticket


def _ticket(row: Row) -> Ticket:
    id, charge_id, party, agent_id, category, subject, body, created_ms, changed_ms, state, credit_id, key_id = row
    return Ticket(
        id=id,
        charge_id=charge_id,
        party=party,
        agent_id=agent_id,
        category=Category(category),
        subject=subject,
        body=body,
        created_ms=created_ms,
        changed_ms=changed_ms,
        state=State(state),
        credit_id=credit_id,
        key_id=key_id,
    )
