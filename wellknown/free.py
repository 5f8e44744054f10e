"""The routes that cost nothing, as /openapi.json describes them. Everything else it lists is for sale."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.core.upstream import Json

Access = Literal["open", "agent", "charge", "job"]
"""Who may ask: anybody; an agent with its bearer token; the agent, or whoever has the charge's token; the agent, or
whoever shows the job's poll bearer as his."""
Parameter = tuple[str, Literal["path", "query"], bool, str]
"""(name, where, required, what it says); all are strings."""


@dataclass(frozen=True, slots=True)
class Free:
    """One route."""

    id: str
    path: str
    summary: str
    schema: Mapping[str, Json]
    media_type: str = "application/json"
    access: Access = "open"
    parameters: tuple[Parameter, ...] = ()
    statuses: tuple[int, ...] = (200,)
    """Those that are answered with `schema`."""
    method: Literal["get", "post", "delete"] = "get"
    of: str = ""
    """Only where this operation is on sale."""
    problems: tuple[int, ...] = ()
    """Those that are answered with the error envelope."""
    body: Mapping[str, Json] | None = None
    """The schema of a JSON body, which may be left out."""
    also: str = ""
    """Another media type that it may be had as, as text."""


def _object(**properties: Json) -> dict[str, Json]:
    return {"type": "object", "required": list(properties), "properties": properties}


_TEXT = {"type": "string"}
_TEXT_OR_NONE = {"type": ["string", "null"]}
_USD = {"type": "string", "pattern": "^-?[0-9]+\\.[0-9]{3,6}$"}
_AMOUNTS = {"virtual_balance_usd": _USD, "held_usd": _USD, "available_usd": _USD, "bonus_usd": _USD}
_OBJECT_OR_NONE = {"type": ["object", "null"]}

_JOB_ID: Parameter = ("job_id", "path", True, "From the 202 of the job.")
_JOB = _object(
    job_id=_TEXT,
    route=_TEXT,
    status={"enum": ["queued", "running", "completed", "failed", "cancelled"]},
    created_at=_TEXT,
    expires_at=_TEXT_OR_NONE,
    progress=_object(rounds_used={"type": "integer"}, phase=_TEXT),
    started_at=_TEXT_OR_NONE,
    finished_at=_TEXT_OR_NONE,
    matched={"type": ["boolean", "null"]},
    billed={"type": "boolean"},
    billing=_object(
        mode=_TEXT,
        charge_id=_TEXT,
        bill_up_to_usd=_USD,
        charged_usd=_USD,
        refunded_usd=_USD,
        released_usd=_USD,
        settlement=_OBJECT_OR_NONE,
    ),
    result=_OBJECT_OR_NONE,
    error=_OBJECT_OR_NONE,
    callback=_OBJECT_OR_NONE,
    retried_as=_TEXT,
)

_CURSOR: Parameter = ("cursor", "query", False, "The next_cursor of the page before.")
_LIMIT: Parameter = ("limit", "query", False, "How many, 1 to 200; 50 if left out.")
_MOVEMENT = _object(
    id=_TEXT,
    at=_TEXT,
    kind=_TEXT,
    money={"enum": ["own", "bonus"]},
    charge_id=_TEXT_OR_NONE,
    operation=_TEXT_OR_NONE,
    amount_usd=_USD,
    balance_usd=_USD,
)
_TICKET = {
    "ticket_id": _TEXT,
    "status": {"enum": ["open", "answered", "closed"]},
    "category": {"enum": ["bug", "billing", "account", "other"]},
    "subject": _TEXT,
    "charge_id": _TEXT,
    "created_at": _TEXT,
    "changed_at": _TEXT,
    "bug_credit": _object(
        eligible={"type": "boolean"},
        amount_usd=_USD,
        state={"enum": ["pending_operator", "earned", "not_confirmed", "none"]},
    ),
}

ROUTES: tuple[Free, ...] = (
    Free(
        "agent_me",
        "/api/v1/agents/me",
        "The agent whose token asks, with its balance and the prices",
        _object(
            agent_id=_TEXT,
            label=_TEXT,
            principal={"type": "object"},
            status={"enum": ["active", "frozen"]},
            created_at={"type": "string", "format": "date-time"},
            **_AMOUNTS,
            routes={"type": "object"},
        ),
        access="agent",
        problems=(401,),
    ),
    Free(
        "agent_balance",
        "/api/v1/agents/balance",
        "The agent's balance, and what open calls hold of it",
        _object(agent_id=_TEXT, currency={"const": "USD"}, key_cap=_OBJECT_OR_NONE, **_AMOUNTS),
        access="agent",
        problems=(401,),
    ),
    Free(
        "agent_statement",
        "/api/v1/agents/statement",
        "Every movement of the agent's balance, newest first, with the balance after it",
        _object(
            agent_id=_TEXT,
            currency={"const": "USD"},
            virtual_balance_usd=_USD,
            held_usd=_USD,
            movements={"type": "array", "items": _MOVEMENT},
            next_cursor=_TEXT_OR_NONE,
        ),
        access="agent",
        parameters=(
            _LIMIT,
            _CURSOR,
            ("from", "query", False, "Movements from then on: a date or a time, as 2026-11-23T12:00:00Z."),
            ("to", "query", False, "Movements before then."),
            ("format", "query", False, "json or csv; CSV without limit and cursor is all of it."),
        ),
        problems=(401, 422),
        also="text/csv",
    ),
    Free(
        "webhook_secret",
        "/api/v1/agents/webhook-secret",
        "Make or replace the secret that the agent's callbacks are signed with; it is shown this once",
        _object(
            agent_id=_TEXT, webhook_secret=_TEXT, replaced={"type": "boolean"}, overlap_seconds={"type": "integer"}
        ),
        access="agent",
        problems=(400, 401, 408, 413, 415, 422),
        method="post",
        body={
            "type": "object",
            "properties": {
                "overlap_seconds": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 604_800,
                    "default": 86_400,
                    "description": "How long the secret before stays in force beside the new one.",
                }
            },
            "additionalProperties": False,
        },
    ),
    Free(
        "charge",
        "/api/v1/charges/{charge_id}",
        "What became of a paid call, with its result while that is kept",
        _object(
            charge_id=_TEXT,
            operation=_TEXT,
            state=_TEXT,
            amount_usd=_USD,
            charged_usd=_USD,
            matched={"type": ["boolean", "null"]},
            billed={"type": "boolean"},
            payer=_TEXT_OR_NONE,
            settlement=_OBJECT_OR_NONE,
            result=_OBJECT_OR_NONE,
            result_expires_at=_TEXT_OR_NONE,
        ),
        access="charge",
        parameters=(("charge_id", "path", True, "From X-Charge-Id, or from the answer's `billing`."),),
        problems=(401, 404),
    ),
    Free(
        "job",
        "/api/v1/enrich/jobs/{job_id}",
        "How far a job is, and its result once it has ended and is paid for",
        _JOB,
        access="job",
        of="enrich/jobs",
        parameters=(
            _JOB_ID,
            ("wait", "query", False, "Seconds to wait for its end before answering, 0 to 60."),
        ),
        problems=(401, 404, 410, 422),
    ),
    Free(
        "job_cancel",
        "/api/v1/enrich/jobs/{job_id}",
        "Cancels a job: from the queue at once, a running one at its next safe point",
        _JOB,
        access="job",
        method="delete",
        of="enrich/jobs",
        parameters=(_JOB_ID,),
        problems=(401, 404, 409, 410),
    ),
    Free(
        "tickets",
        "/api/v1/support/tickets",
        "The agent's own tickets, newest first",
        _object(tickets={"type": "array", "items": _object(**_TICKET)}, next_cursor=_TEXT_OR_NONE),
        access="agent",
        of="support/tickets",
        parameters=(_LIMIT, _CURSOR),
        problems=(401, 402, 422),
    ),
    Free(
        "ticket",
        "/api/v1/support/tickets/{ticket_id}",
        "A ticket with its answers",
        _object(
            **_TICKET,
            body=_TEXT,
            answers={"type": "array", "items": _object(body=_TEXT, at=_TEXT)},
        ),
        access="charge",
        of="support/tickets",
        parameters=(("ticket_id", "path", True, "From the answer that filed it."),),
        problems=(401, 404),
    ),
    Free("alive", "/healthz", "Whether the process runs", _object(alive={"type": "boolean"})),
    Free(
        "ready",
        "/readyz",
        "Whether it should get calls; 503 says which part is not well",
        _object(ready={"type": "boolean"}, checks={"type": "object"}),
        statuses=(200, 503),
    ),
)
