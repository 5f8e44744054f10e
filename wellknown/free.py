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
    feature: Literal["", "topups", "transfers"] = ""
    """Only where the operator's identity has it."""
    problems: tuple[int, ...] = ()
    """Those that are answered with the error envelope."""
    body: Mapping[str, Json] | None = None
    """The schema of a JSON body, which may be left out unless it has required members."""
    pending: bool = False
    """It may answer with 202, as a paid call does."""


def _object(**properties: Json) -> dict[str, Json]:
    return {"type": "object", "required": list(properties), "properties": properties}


_TEXT = {"type": "string"}
_TEXT_OR_NONE = {"type": ["string", "null"]}
_USD = {"type": "string", "pattern": "^-?[0-9]+\\.[0-9]{3,6}$"}
_AMOUNTS = {
    "virtual_balance_usd": _USD,
    "held_usd": _USD,
    "available_usd": _USD,
    "bonus_usd": _USD,
    "debt_usd": _USD,
}
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

_DEPOSIT = {"deposit_id": _TEXT, "credited_usd": _USD, "bonus_usd": _USD, "credited_at": _TEXT, "from": _TEXT}
_CHAIN_ID = {"type": "integer", "minimum": 1}

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
            deposit_match=_OBJECT_OR_NONE,
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
        "topup_x402",
        "/api/v1/balance/topup/x402",
        "Top the agent's balance up by x402: a 402 for that very amount, credited when it has come",
        _object(agent_id=_TEXT, amount_usd=_USD, charge_id=_TEXT, settlement={"type": "object"}, **_DEPOSIT),
        access="agent",
        problems=(400, 401, 402, 403, 408, 409, 412, 413, 415, 422, 503),
        method="post",
        body={
            "type": "object",
            "required": ["amount_usd"],
            "properties": {
                "amount_usd": {"type": "string", "pattern": "^[0-9]{1,9}([.][0-9]{1,6})?$"},
                "chain_id": {**_CHAIN_ID, "description": "Only offers on this chain."},
            },
            "additionalProperties": False,
        },
        pending=True,
        feature="topups",
    ),
    Free(
        "deposit_address",
        "/api/v1/balance/deposit/receive-address",
        "Where plain transfers from an agent's linked wallets go, and from what amount and depth they count",
        _object(
            receive_address=_TEXT,
            networks={"type": "array", "items": {"type": "object"}},
            min_usd=_USD,
            confirmations_required={"type": "integer"},
            senders={"const": "linked_wallets"},
        ),
        feature="transfers",
    ),
    Free(
        "deposit_claim",
        "/api/v1/balance/deposit/claim",
        "Credit a plain transfer that a wallet of the agent has sent; the same again is the same credit",
        _object(
            agent_id=_TEXT,
            tx_hash=_TEXT,
            chain_id={"type": "integer"},
            total_usd=_USD,
            deposits={"type": "array", "items": _object(**_DEPOSIT)},
        ),
        access="agent",
        problems=(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
        method="post",
        body={
            "type": "object",
            "required": ["tx_hash", "chain_id"],
            "properties": {"tx_hash": {"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"}, "chain_id": _CHAIN_ID},
            "additionalProperties": False,
        },
        feature="transfers",
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
    Free("alive", "/healthz", "Whether the process runs", _object(alive={"type": "boolean"})),
    Free(
        "ready",
        "/readyz",
        "Whether it should get calls; 503 says which part is not well",
        _object(ready={"type": "boolean"}, checks={"type": "object"}),
        statuses=(200, 503),
    ),
)
