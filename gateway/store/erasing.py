"""Erasing: where the ledger has a person's data, and taking it out without touching what was paid.

Money has no people in it: charges, transfers and settlements know who paid, and never whom he asked about. So erasing
leaves the books as they are, to the micro-dollar. What can hold a person is listed here, column by column, and a test
holds the list against the schema: a table that comes later is named here or known to hold nobody.

    result            an empty one stays until its time is over, so that whoever asks hears why it is gone
    answer            gone: it is not given again
    session           what a call has left for the next one is gone, and with it what that had cost: the next call
                      begins from the call before it or anew, and what is bought again is not charged again, since what
                      was paid stays in the charges
    job, retry, hop   what was asked and bought is gone; what is open was stopped before (flows/erasing.py)
    ticket            its words are replaced; the ticket, and what it cost, stay
    key, callback     what a client has named by itself: replaced, or gone with its event
    history           notes of the operator and labels, which nothing may change: told to the operator, who wrote them
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from gateway.core.erasure import Identity
from gateway.store.database import Tx


class Place(NamedTuple):
    """A column that can hold a person."""

    table: str
    id: str
    """SQL: what tells its rows apart."""
    column: str
    erase: str | None
    """The statements that take one row's out, with :id; None: nothing may change it."""


_NO_EVENT = (
    "UPDATE webhooks SET state = 'failed', ended_ms = :now_ms, lease_owner = NULL, lease_until_ms = NULL,"
    " last_error = 'erased' WHERE id = :id AND state = 'pending';"
    "UPDATE jobs SET callback_url = NULL"
    " WHERE ended_ms IS NOT NULL AND id = (SELECT subject FROM webhooks WHERE id = :id);"
    "DELETE FROM webhooks WHERE id = :id"
)
_NO_STATE = "UPDATE session_turns SET state = x'', cost_micros = 0 WHERE charge_id = :id"
_NO_HOP = "DELETE FROM job_hops WHERE job_id || ' ' || key = :id"
PLACES: Final = (
    Place("results", "charge_id", "body", "UPDATE results SET body = x'' WHERE charge_id = :id"),
    Place("answers", "hex(question)", "body", "DELETE FROM answers WHERE hex(question) = :id"),
    Place("session_turns", "charge_id", "state", _NO_STATE),
    Place("jobs", "id", "payload", ""),
    Place("jobs", "id", "callback_url", "UPDATE jobs SET callback_url = NULL WHERE id = :id AND ended_ms IS NOT NULL"),
    Place(
        "jobs", "id", "idempotency_key",
        "UPDATE jobs SET idempotency_key = NULL WHERE id = :id AND ended_ms IS NOT NULL",
    ),
    Place(
        "retries", "job_id", "payload",
        "DELETE FROM job_hops WHERE job_id = :id; DELETE FROM retries WHERE job_id = :id",
    ),
    Place("job_hops", "job_id || ' ' || key", "outcome", _NO_HOP),
    Place("job_hops", "job_id || ' ' || key", "key", _NO_HOP),
    Place("webhooks", "id", "body", _NO_EVENT),
    Place("webhooks", "id", "url", _NO_EVENT),
    Place("tickets", "id", "subject", "UPDATE tickets SET subject = '[erased]' WHERE id = :id"),
    Place("tickets", "id", "body", "UPDATE tickets SET body = '[erased]' WHERE id = :id"),
    Place(
        "ticket_answers", "ticket_id || ' ' || number", "body",
        "UPDATE ticket_answers SET body = '[erased]' WHERE ticket_id || ' ' || number = :id",
    ),
    Place(
        "idempotency_keys", "charge_id", "key",
        "UPDATE idempotency_keys SET key = 'erased:' || charge_id WHERE charge_id = :id",
    ),
    Place("payments", "identity", "payment", None),  # whatever a client has put into what it signed
    Place("agents", "id", "label", None),
    Place("usage_keys", "id", "label", None),
    Place("credits", "id", "note", None),
    Place("refunds", "id", "note", None),
    Place("transfers", "seq", "note", None),
    Place("actions", "seq", "detail", None),
    Place("suppressions", "id", "note", None),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trace:
    """Something of a person, where it is kept."""

    table: str
    id: str
    column: str
    content: bytes | str = field(repr=False)

    @property
    def place(self) -> Place:
        return next(place for place in PLACES if (place.table, place.column) == (self.table, self.column))

    @property
    def stays(self) -> bool:
        """Whether nothing may change it."""
        return self.place.erase is None


def traces(tx: Tx, identity: Identity) -> list[Trace]:
    """Everything of this person that is kept. Reads all there is."""
    return [
        Trace(place.table, str(id), place.column, content)
        for place in PLACES
        for id, content in tx.execute(f"SELECT {place.id}, {place.column} FROM {place.table}")  # noqa: S608 constants
        if content and identity.is_told_by(readable(place.table, content))
    ]


def readable(table: str, content: bytes | str) -> bytes | str:
    """As it can be searched: a hop keeps its vendor's answer as it came, in base64."""
    if table != "job_hops":
        return content
    try:
        hop = orjson.loads(content)
    except ValueError:  # the hop's key
        return content
    answer = hop.get("answer") if isinstance(hop, dict) else None
    if not isinstance(answer, dict) or not isinstance(answer.get("body"), str):
        return content
    try:
        body = orjson.loads(base64.b64decode(answer["body"]))
    except ValueError:
        body = base64.b64decode(answer["body"]).decode("utf-8", "replace")
    return orjson.dumps({**hop, "answer": body})


def erase(tx: Tx, found: list[Trace]) -> None:
    """Takes these out. What is of history stays, and so does what an open job has asked: that ends with it."""
    for trace in found:
        for statement in _statements(trace):
            params: dict[str, object] = {"id": trace.id}
            if ":now_ms" in statement:
                params["now_ms"] = tx.now_ms
            tx.execute(statement, params)


def _statements(trace: Trace) -> Iterator[str]:
    return (each for each in (trace.place.erase or "").split(";") if each.strip())


def forget_leads(tx: Tx, digests: list[tuple[str, bytes]]) -> int:
    """(agent, digest) of what agents have asked about; answers how many there were."""
    return sum(
        len(
            tx.execute(
                "DELETE FROM leads WHERE agent_id = :agent_id AND digest = :digest RETURNING digest",
                {"agent_id": agent_id, "digest": digest},
            )
        )
        for agent_id, digest in digests
    )


def rewrite_results(tx: Tx, bodies: list[tuple[str, bytes]]) -> None:
    """(charge, what is left of its result)."""
    for charge_id, body in bodies:
        tx.execute("UPDATE results SET body = :body WHERE charge_id = :id", {"id": charge_id, "body": body})


def kept_answers(tx: Tx) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """(charge, result) and (question, answer), of all that are kept."""
    results = tx.execute("SELECT charge_id, body FROM results WHERE length(body) > 0")
    answers = tx.execute("SELECT hex(question), body FROM answers")
    return [(str(id), body) for id, body in results], [(str(id), body) for id, body in answers]


def forget_answers(tx: Tx, questions: list[str]) -> None:
    for question in questions:
        tx.execute("DELETE FROM answers WHERE hex(question) = :id", {"id": question})
