"""The routes that cost nothing, as /openapi.json describes them. Everything else it lists is for sale."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from gateway.core.money import USD_PATTERN
from gateway.core.upstream import Json

Access = Literal["open", "agent", "charge", "job"]
"""Who may ask: anybody; an agent with its bearer token, and where it says so one of its usage keys; the agent, or
whoever has the charge's token; the agent, or whoever shows the job's poll bearer as his."""
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
    method: Literal["get", "post", "patch", "delete"] = "get"
    of: str = ""
    """Only where this operation is on sale."""
    feature: Literal["", "topups", "transfers", "recovery"] = ""
    """Only where the operator's identity has it."""
    problems: tuple[int, ...] = ()
    """Those that are answered with the error envelope, beside 429: nothing that is free may be asked for endlessly."""
    body: Mapping[str, Json] | None = None
    """The schema of a JSON body."""
    also: str = ""
    """Another media type that it may be had as, as text."""
    body_required: bool = False
    pending: bool = False
    """It may answer with 202, as a paid call does."""


def _object(at_times: Mapping[str, Json] = MappingProxyType({}), /, **always: Json) -> dict[str, Json]:
    return {"type": "object", "required": list(always), "properties": {**always, **at_times}}


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

_WALLET = _object(
    address=_TEXT,
    chain_id={"type": ["integer", "null"]},
    role={"enum": ["mint", "linked"]},
    linked_at=_TEXT,
    allowance=_OBJECT_OR_NONE,
)
_SIGNATURE = {"type": "string", "pattern": "^0x(?:[0-9a-fA-F]{2})+$"}
_SIGNED: dict[str, Json] = {
    "address": _TEXT,
    "nonce": _TEXT,
    "siwe_message": {"type": "string", "description": "As wallet-nonce gave it, letter by letter."},
    "siwe_signature": _SIGNATURE,
    "allowance_intent_signature": {
        "anyOf": [_SIGNATURE, {"type": "null"}], "description": "Over allowance_intent_message; may be left out.",
    },
}  # fmt: skip
_SIGNED_REQUIRED = ["address", "nonce", "siwe_message", "siwe_signature"]

_JOB_ID: Parameter = ("job_id", "path", True, "From the 202 of the job.")
_JOB = _object(
    {"retried_as": {**_TEXT, "description": "Of a failed job alone: the one that does it again."}},
    job_id=_TEXT,
    route=_TEXT,
    status={"enum": ["queued", "running", "completed", "failed", "cancelled"]},
    created_at=_TEXT,
    expires_at=_TEXT_OR_NONE,
    progress=_object(rounds_used={"type": "integer"}, phase=_TEXT),
    cancelling={"type": "boolean"},
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
)

_PRINCIPAL = _object(kind={"enum": ["admin", "usage"]}, key_id=_TEXT_OR_NONE, scopes={"type": "array", "items": _TEXT})
_PERIOD = ["total", "day", "week", "month"]
_KEY_ID: Parameter = ("key_id", "path", True, "From the list of the agent's usage keys.")
_KEY: Mapping[str, Json] = {
    "key_id": _TEXT,
    "hint": _TEXT,
    "label": _TEXT,
    "scopes": {"type": "array", "items": _TEXT},
    "cap_usd": _TEXT_OR_NONE,
    "cap_period": {"enum": [*_PERIOD, None]},
    "used_usd": _USD,
    "resets_at": _TEXT_OR_NONE,
    "requests_per_min": {"type": ["integer", "null"]},
    "status": {"enum": ["active", "expired", "revoked"]},
    "created_at": _TEXT,
    "expires_at": _TEXT_OR_NONE,
    "last_used_at": _TEXT_OR_NONE,
}
_KEY_SHOWN: Mapping[str, Json] = {"key": _TEXT, "key_shown_once": {"const": True}}
_ADMIN_WRITES = (400, 401, 403, 408, 413, 415, 422)
_TERMS: Mapping[str, Json] = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "maxLength": 100},
        "scopes": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 100},
        "cap_usd": {"type": ["string", "null"], "pattern": USD_PATTERN},
        "cap_period": {"enum": [*_PERIOD, None]},
        "expires_at": {"type": ["string", "null"], "format": "date-time"},
        "requests_per_min": {"type": ["integer", "null"], "minimum": 1, "maximum": 60_000},
    },
    "additionalProperties": False,
}
_GRACE: Mapping[str, Json] = {
    "type": "object",
    "properties": {
        "grace_seconds": {
            "type": "integer",
            "minimum": 0,
            "maximum": 604_800,
            "default": 0,
            "description": "How long the one before stays good for calls.",
        }
    },
    "additionalProperties": False,
}

_CURSOR: Parameter = ("cursor", "query", False, "The next_cursor of the page before.")
_LIMIT: Parameter = ("limit", "query", False, "How many, 1 to 200; 50 if left out.")
_MOVEMENT = _object(
    id=_TEXT,
    at=_TEXT,
    kind={
        "enum": ["credit", "deposit", "match", "grant", "capture", "refund", "withdrawn"],
        "description": "match: bonus that came with a deposit; withdrawn: a deposit that a reorganisation of its chain "
        "took back, or the match of it.",
    },
    money={"enum": ["own", "bonus"]},
    charge_id=_TEXT_OR_NONE,
    operation=_TEXT_OR_NONE,
    deposit_id=_TEXT_OR_NONE,
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
            principal=_PRINCIPAL,
            key_cap=_OBJECT_OR_NONE,
            usage_keys_active={"type": "integer"},
            status={"enum": ["active", "frozen"]},
            created_at={"type": "string", "format": "date-time"},
            wallets={"type": ["array", "null"], "items": _WALLET},
            **{name: {**_USD, "type": ["string", "null"]} for name in _AMOUNTS},
            deposit_match=_OBJECT_OR_NONE,
            spent_usd_30d={**_USD, "type": ["string", "null"]},
            limits=_object(requests_per_min={"type": ["integer", "null"]}, job_ceiling_cap_usd=_USD),
            routes={"type": "object"},
        ),
        access="agent",
        problems=(401,),
    ),
    Free(
        "agent_balance",
        "/api/v1/agents/balance",
        "The agent's balance, and what open calls hold of it; a usage key needs the scope balance:read",
        _object(
            agent_id=_TEXT,
            currency={"const": "USD"},
            principal=_PRINCIPAL,
            key_cap=_OBJECT_OR_NONE,
            **_AMOUNTS,
            as_of={"type": "string", "format": "date-time"},
        ),
        access="agent",
        problems=(401, 403),
    ),
    Free(
        "wallet_nonce",
        "/api/v1/agents/wallet-nonce",
        "A message for a wallet to sign (EIP-4361): it registers, or by `link` joins the agent whose token asks",
        _object(
            address=_TEXT,
            chain_id={"type": "integer"},
            purpose={"enum": ["register", "link"]},
            nonce=_TEXT,
            siwe_message=_TEXT,
            allowance_intent_message=_TEXT_OR_NONE,
            allowance_usd=_TEXT_OR_NONE,
            expires_at=_TEXT,
            min_wallet_usd=_USD,
            grant_usd=_USD,
        ),
        problems=(400, 401, 403, 408, 413, 415, 422, 503),
        method="post",
        body={
            "type": "object",
            "required": ["address"],
            "properties": {
                "address": _TEXT,
                "chain_id": {"type": "integer", "description": "Of the network to be looked at for its money."},
                "allowance_usd": {
                    "type": ["string", "integer", "null"],
                    "description": "What the wallet is meant to spend here by x402 at most.",
                },
                "purpose": {"enum": ["register", "link"], "default": "register"},
            },
            "additionalProperties": False,
        },
        body_required=True,
    ),
    Free(
        "wallet_register",
        "/api/v1/agents/wallet-register",
        "Make an agent for a wallet that has signed: 201 with its token, shown this once. 200 for a known one",
        _object(agent_id=_TEXT, token=_TEXT_OR_NONE, created={"type": "boolean"}),
        statuses=(200, 201),
        problems=(400, 401, 403, 408, 409, 410, 413, 415, 422, 503),
        method="post",
        body={
            "type": "object",
            "required": _SIGNED_REQUIRED,
            "properties": {**_SIGNED, "label": {"type": "string", "maxLength": 100}},
            "additionalProperties": False,
        },
        body_required=True,
    ),
    Free(
        "wallet_link",
        "/api/v1/agents/wallet-link",
        "Put a further wallet, which has signed, beside those of the agent",
        _object(agent_id=_TEXT, linked={"type": "boolean"}, wallets={"type": "array", "items": _WALLET}),
        access="agent",
        problems=(400, 401, 403, 408, 409, 410, 413, 415, 422, 503),
        method="post",
        body={
            "type": "object",
            "required": _SIGNED_REQUIRED,
            "properties": _SIGNED,
            "additionalProperties": False,
        },
        body_required=True,
    ),
    Free(
        "recovery_challenge",
        "/api/v1/agents/wallet-recover/challenge",
        "For who has lost the token of an agent, and has its wallet: what to send from it, and a question to answer",
        _object(
            recovery_id=_TEXT,
            pay_to=_TEXT,
            asset=_TEXT,
            asset_address=_TEXT,
            chain_id={"type": "integer"},
            amount_usd=_USD,
            amount_atomic=_TEXT,
            confirmations_required={"type": "integer"},
            question=_object(kind={"const": "lead_history"}, prompt=_TEXT),
            attempts_left={"type": "integer"},
            expires_at=_TEXT,
        ),
        problems=(400, 403, 404, 408, 413, 415, 422, 429, 503),
        method="post",
        body={
            "type": "object",
            "required": ["address"],
            "properties": {
                "address": {"type": "string", "description": "The wallet that the agent was registered with."},
                "chain_id": {**_CHAIN_ID, "description": "Where it will send."},
            },
            "additionalProperties": False,
        },
        body_required=True,
        feature="recovery",
    ),
    Free(
        "recovery_complete",
        "/api/v1/agents/wallet-recover/complete",
        "Another token for the agent, shown this once, when the transfer is there and the answer right; all before end",
        _object(
            agent_id=_TEXT,
            token=_TEXT,
            token_shown_once={"const": True},
            revoked=_object(admin_tokens={"type": "integer"}, usage_keys={"const": 0}),
            usage_keys_active={"type": "integer"},
            credited_usd=_USD,
        ),
        problems=(400, 403, 404, 408, 409, 410, 413, 415, 422, 429, 503),
        method="post",
        body={
            "type": "object",
            "required": ["recovery_id", "tx_hash", "answer"],
            "properties": {
                "recovery_id": _TEXT,
                "tx_hash": {"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"},
                "answer": {"type": ["string", "integer"]},
            },
            "additionalProperties": False,
        },
        body_required=True,
        feature="recovery",
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
            debt_usd=_USD,
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
        problems=(401, 403, 422),
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
        problems=(400, 401, 403, 408, 413, 415, 422),
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
        "token_rotate",
        "/api/v1/agents/token/rotate",
        "Another token for the agent, shown this once; those before it end at once, or when their grace is over",
        _object(
            agent_id=_TEXT, token=_TEXT, token_shown_once={"const": True}, rotated_at=_TEXT, previous_valid_until=_TEXT
        ),
        access="agent",
        problems=_ADMIN_WRITES,
        method="post",
        body=_GRACE,
    ),
    Free(
        "usage_keys",
        "/api/v1/agents/usage-keys",
        "The agent's usage keys that are not revoked, without their secrets",
        _object(agent_id=_TEXT, usage_keys={"type": "array", "items": _object(**_KEY)}),
        access="agent",
        problems=(401, 403),
    ),
    Free(
        "usage_key_create",
        "/api/v1/agents/usage-keys",
        "A new usage key for a script or a colleague: scopes, a cap, a rate, an end; shown this once",
        _object(**_KEY, **_KEY_SHOWN),
        access="agent",
        statuses=(201,),
        problems=_ADMIN_WRITES,
        method="post",
        body={**_TERMS, "required": ["scopes"]},
        body_required=True,
    ),
    Free(
        "usage_key_change",
        "/api/v1/agents/usage-keys/{key_id}",
        "Other terms for a usage key; what is not named stays, null takes a term away",
        _object(**_KEY),
        access="agent",
        parameters=(_KEY_ID,),
        problems=(*_ADMIN_WRITES, 404),
        method="patch",
        body=_TERMS,
        body_required=True,
    ),
    Free(
        "usage_key_revoke",
        "/api/v1/agents/usage-keys/{key_id}",
        "Revokes a usage key for good, and cancels the jobs it has handed in that are not begun",
        _object(**_KEY, jobs_cancelled={"type": "array", "items": _TEXT}),
        access="agent",
        parameters=(_KEY_ID,),
        problems=(401, 403, 404),
        method="delete",
    ),
    Free(
        "usage_key_rotate",
        "/api/v1/agents/usage-keys/{key_id}/rotate",
        "Another secret for a usage key, shown this once; the one before ends at once, or when its grace is over",
        _object(**_KEY, **_KEY_SHOWN, rotated_at=_TEXT, previous_valid_until=_TEXT),
        access="agent",
        parameters=(_KEY_ID,),
        problems=(*_ADMIN_WRITES, 404),
        method="post",
        body=_GRACE,
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
        body_required=True,
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
        body_required=True,
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
        problems=(401, 403, 404, 410, 422),
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
        problems=(401, 403, 404, 409, 410),
    ),
    Free(
        "tickets",
        "/api/v1/support/tickets",
        "The agent's own tickets, newest first",
        _object(tickets={"type": "array", "items": _object(**_TICKET)}, next_cursor=_TEXT_OR_NONE),
        access="agent",
        of="support/tickets",
        parameters=(_LIMIT, _CURSOR),
        problems=(401, 402, 403, 422),
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
        problems=(401, 403, 404),
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
