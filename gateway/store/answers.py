"""Answers that are given again: what was found for a question, while it is fresh. Who may be given it is part of the
question's hash (gateway/flows/answering.py); written in the transaction that charges for it, and given again only if
that charge's payer may have its result: a payment that never came pays for nothing that is told later."""

from dataclasses import dataclass, field, replace

from gateway.core.vendor_call import Outcome, VendorCall
from gateway.store import charges, vendor_calls
from gateway.store.database import Tx


@dataclass(frozen=True, slots=True)
class Answer:
    charge_id: str
    """That it was bought on."""
    body: bytes = field(repr=False)
    """As a result is stored: gateway/core/answer.py."""
    calls: tuple[VendorCall, ...] = ()
    """Whoever had found it then."""


def keep(tx: Tx, question: bytes, charge_id: str, body: bytes, ttl_ms: int, hop: str = "") -> None:
    """In place of an earlier one. `hop`: of what was bought on the charge, what this was found by begins so."""
    tx.execute(
        "INSERT INTO answers (question, charge_id, body, expires_ms, hop)"
        " VALUES (:question, :charge_id, :body, :expires_ms, :hop)"
        " ON CONFLICT (question) DO UPDATE SET charge_id = excluded.charge_id, body = excluded.body,"
        " expires_ms = excluded.expires_ms, hop = excluded.hop",
        {"question": question, "charge_id": charge_id, "body": body, "expires_ms": tx.now_ms + ttl_ms, "hop": hop},
    )


def find(tx: Tx, question: bytes) -> Answer | None:
    """None: never asked, or too long ago, or not paid for."""
    rows = tx.execute(
        "SELECT charge_id, body, hop FROM answers WHERE question = :question AND expires_ms > :now_ms",
        {"question": question, "now_ms": tx.now_ms},
    )
    if not rows:
        return None
    charge_id, body, hop = rows[0]
    view = charges.find(tx, charge_id)
    if view is None or not view.is_told:
        return None
    prefix = f"{hop}/" if hop else ""
    found = tuple(
        replace(call, hop=call.hop.removeprefix(prefix))
        for call in vendor_calls.of_charge(tx, charge_id)
        if call.outcome is Outcome.MATCH and call.hop.startswith(prefix)
    )
    return Answer(charge_id, body, found)


def expire(tx: Tx) -> int:
    """Deletes those whose time is up; answers how many."""
    return len(tx.execute("DELETE FROM answers WHERE expires_ms <= :now_ms RETURNING charge_id", {"now_ms": tx.now_ms}))
