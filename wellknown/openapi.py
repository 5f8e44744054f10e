"""/openapi.json: OpenAPI 3.1 with `x-payment-info`, the profile that x402scan, agentcash and their like read.

`security: []` and `x-payment-info` together mean "paid, no account needed"; `security: []` alone means free. An
operation whose payer needs a bearer token names it. The scheme is called `apiKey` because that is the name by
which readers of this profile recognise one.

The schemas of requests are those of the bazaar block, so both say the same; the errors are the table of
gateway/core/errors.py.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from gateway.core.catalogue import Catalogue, Operation
from gateway.core.errors import TABLE, Code
from gateway.core.money import USD_PATTERN
from gateway.core.session import SessionQuery
from gateway.core.upstream import Json
from gateway.core.x402 import bazaar
from wellknown.free import Access, Free
from wellknown.identity import Identity, ascii_label
from wellknown.offer import TAGS_MAX, requirements
from wellknown.prices import SPEND_CONTROLS, in_words, needs_spend_controls, price_json
from wellknown.words import guidance

BEARER = "apiKey"
CHARGE_TOKEN = "chargeToken"
POLL_BEARER = "pollBearer"

_SECURITY: Mapping[Access, Json] = {
    "open": [],
    "agent": [{BEARER: []}],
    "charge": [{BEARER: []}, {CHARGE_TOKEN: []}],
    "job": [{BEARER: []}, {POLL_BEARER: []}],
}
_NOT_OF_A_PAID_CALL = (
    Code.NOT_FOUND, Code.JOB_NOT_FOUND, Code.JOB_ENDED, Code.JOB_EXPIRED, Code.SENDER_NOT_LINKED,
    Code.TRANSACTION_NOT_FOUND, Code.CONFIRMATIONS_PENDING, Code.DEPOSIT_IS_X402_SETTLEMENT,
    Code.DEPOSIT_CREDITED_ELSEWHERE, Code.CHAIN_NOT_ACCEPTED, Code.TRANSACTION_FAILED, Code.NO_DEPOSIT_IN_TRANSACTION,
    Code.DEPOSIT_BELOW_MINIMUM, Code.RECOVERY_NOT_ELIGIBLE, Code.RECOVERY_NOT_FOUND, Code.RECOVERY_ANSWER_WRONG,
    Code.RECOVERY_LOCKED, Code.RECOVERY_USED, Code.RECOVERY_EXPIRED, Code.RECOVERY_TRANSFER_WRONG,
)  # fmt: skip
_OF_A_SESSION = (Code.SESSION_NOT_FOUND, Code.SESSION_CONFLICT)
_PAYMENT_STATUSES = (402, 412)


def openapi(catalogue: Catalogue, identity: Identity, free: Iterable[Free]) -> Json:
    """The whole document. `free`: the routes that cost nothing."""
    ids = _operation_ids(catalogue)
    paths: dict[str, Json] = {}
    for operation in catalogue.operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _paid(operation, identity, ids[operation.id])
    for route in free:
        if route.feature and route.feature not in identity.features:
            continue
        if not route.of or catalogue.get(route.of) is not None:
            paths.setdefault(route.path, {})[route.method] = _free(route)
    proofs = list(identity.ownership_proofs)
    return {
        "openapi": "3.1.0",
        "info": _info(catalogue, identity),
        "servers": [{"url": identity.public_url}],
        "x-service-info": {
            "categories": _categories(catalogue),
            "docs": {
                "homepage": identity.docs,
                "apiReference": identity.url("/openapi.json"),
                "llms": identity.url("/llms.txt"),
            },
        },
        "x-discovery": {"ownershipProofs": proofs},
        "x-agentcash-provenance": {"ownershipProofs": proofs},
        "x-agentcash-guidance": {"llmsTxtUrl": identity.url("/llms.txt")},
        **({"x-sandbox": True} if identity.sandbox else {}),
        "paths": paths,
        "components": {
            "securitySchemes": _security_schemes(identity),
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "schemas": {"Problem": _PROBLEM, "PaymentRequired": _PAYMENT_REQUIRED, "Pending": _PENDING},
            "responses": {f"Problem{status}": _problem_response(status) for status in _statuses(TABLE)},
        },
    }


def _info(catalogue: Catalogue, identity: Identity) -> Json:
    contact = {"name": identity.name, "url": identity.docs}
    return {
        "title": identity.name,
        "version": identity.version,
        "description": identity.description,
        "x-guidance": guidance(catalogue, identity),
        "contact": {**contact, **({"email": identity.contact_email} if identity.contact_email else {})},
    }


def _categories(catalogue: Catalogue) -> list[str]:
    labels = dict.fromkeys(ascii_label(tag) for operation in catalogue.operations for tag in operation.tags)
    return [label for label in labels if label][:TAGS_MAX]


def _operation_ids(catalogue: Catalogue) -> dict[str, str]:
    """`enrich/phone` -> `enrich_phone`, which code generators take as a name; a number keeps two of them apart."""
    names: dict[str, str] = {}
    for operation in catalogue.operations:
        stem = name = re.sub(r"[^A-Za-z0-9]+", "_", operation.id).strip("_") or "operation"
        count = 1
        while name in names.values():
            count += 1
            name = f"{stem}_{count}"
        names[operation.id] = name
    return names


def _paid(operation: Operation, identity: Identity, operation_id: str) -> Json:
    block = bazaar.extension(operation)
    schemas, example = block["schema"]["properties"]["input"]["properties"], block["info"]["input"]
    described: dict[str, Json] = {
        "operationId": operation_id,
        "summary": operation.summary,
        "description": _description(operation, identity),
        "tags": list(operation.tags),
        "security": [] if identity.terms and identity.anonymous == "all" else [{BEARER: []}],
        "x-payment-info": {
            "price": price_json(operation.price),
            "protocols": [{"x402": {}}] if requirements(operation, identity) else [],
            **({"settle": operation.settle} if operation.settle_first else {}),
        },
        "parameters": [
            *_parameters("path", schemas.get("pathParams"), example.get("pathParams", {})),
            *_parameters("query", schemas.get("queryParams"), example.get("queryParams", {})),
            *({"$ref": f"#/components/parameters/{name}"} for name in _PARAMETERS if _has(operation, name)),
        ],
    }
    if operation.takes_body:
        media = {"schema": schemas["body"], "example": example["body"]}
        described["requestBody"] = {"required": True, "content": {"application/json": media}}
    described["responses"] = {
        **(
            {"202": _handed_over(operation)}
            if operation.by_body
            else {"200": _matched(operation), "202": _PENDING_RESPONSE}
        ),
        **_problems(_statuses(_codes(operation))),
    }
    return described


def _has(operation: Operation, parameter: str) -> bool:
    """Of a job the body says what it may cost."""
    return parameter != "X-Bill-Up-To-Usd" or (operation.price.metered and not operation.by_body)


def _description(operation: Operation, identity: Identity) -> str:
    price = in_words(operation)
    about = operation.description.rstrip()
    told = [about if about.endswith((".", "!", "?")) else f"{about}.", f"{price[0].upper()}{price[1:]}."]
    if needs_spend_controls(operation, identity):
        told.append(SPEND_CONTROLS)
    return " ".join(filter(None, told))


def _parameters(where: str, schema: Json, example: Json) -> Iterable[Json]:
    """One parameter for each property of an object's schema."""
    if not schema:
        return
    required = schema.get("required", ())
    for name, described in schema.get("properties", {}).items():
        yield {
            "name": name,
            "in": where,
            "required": where == "path" or name in required,
            "schema": described,
            **({"description": described["description"]} if "description" in described else {}),
            **({"example": example[name]} if name in example else {}),
        }


def _matched(operation: Operation) -> Json:
    media = {"schema": dict(operation.output), "example": dict(operation.example_output)}
    return {
        "description": "The answer; `billed` says whether it was charged.",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in _RECEIPT_HEADERS},
        "content": {"application/json": media},
    }


def _handed_over(operation: Operation) -> Json:
    media = {"schema": dict(operation.output), "example": dict(operation.example_output)}
    names = ("Location", "Retry-After", "X-Charge-Id")
    return {
        "description": "Queued; ask `poll_url` with `poll_bearer`.",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {"application/json": media},
    }


def _free(route: Free) -> Json:
    content: dict[str, Json] = {route.media_type: {"schema": dict(route.schema)}}
    if route.also:
        content[route.also] = {"schema": {"type": "string"}}
    answer = {"description": route.summary, "content": content}
    return {
        "operationId": route.id,
        "summary": route.summary,
        "security": _SECURITY[route.access],
        "parameters": [
            {"name": name, "in": where, "required": required, "schema": {"type": "string"}, "description": what}
            for name, where, required, what in route.parameters
        ],
        **({"requestBody": _request_body(route.body, route.body_required)} if route.body else {}),
        "responses": {
            **{str(status): answer for status in route.statuses},
            **({"202": _PENDING_RESPONSE} if route.pending else {}),
            **_problems({*route.problems, 429}),
        },
    }


def _request_body(schema: Mapping[str, Json], required: bool) -> Json:
    return {**({"required": True} if required else {}), "content": {"application/json": {"schema": dict(schema)}}}


def _codes(operation: Operation) -> set[Code]:
    """The errors of a paid call; a job may be of an operation that has sessions."""
    codes = set(TABLE) - set(_NOT_OF_A_PAID_CALL)
    has_sessions = operation.by_body or issubclass(operation.input, SessionQuery)
    return codes if has_sessions else codes - set(_OF_A_SESSION)


def _problems(statuses: Iterable[int]) -> Json:
    return {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in statuses}


def _statuses(codes: Iterable[Code]) -> list[int]:
    return sorted({TABLE[code].status for code in codes})


def _problem_response(status: int) -> Json:
    codes = [code.value for code, row in TABLE.items() if row.status == status]
    name = "PaymentRequired" if status in _PAYMENT_STATUSES else "Problem"
    schema = {"allOf": [{"$ref": f"#/components/schemas/{name}"}, {"properties": {"code": {"enum": codes}}}]}
    headers = _PROBLEM_HEADERS.get(status, ())
    return {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(codes)}",
        **({"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers}} if headers else {}),
        "content": {"application/json": {"schema": schema}},
    }


def _security_schemes(identity: Identity) -> Json:
    prefix = identity.token_prefix
    return {
        BEARER: {
            "type": "http",
            "scheme": "bearer",
            "description": f"An agent's token, {prefix}_ and 49 characters, or a usage key of it, {prefix}k_ and 49.",
        },
        POLL_BEARER: {
            "type": "http",
            "scheme": "bearer",
            "description": f"The poll bearer of one job, {prefix}j_ and 49 characters, from the 202 that took it.",
        },
        CHARGE_TOKEN: {
            "type": "apiKey",
            "in": "header",
            "name": "X-Charge-Token",
            "description": f"The token of one charge, {prefix}c_ and 49 characters, from the answer to the paid call.",
        },
    }


_RECEIPT_HEADERS = ("PAYMENT-RESPONSE", "X-Charge-Id", "X-Charge-Token")
_PROBLEM_HEADERS = {
    402: ("PAYMENT-REQUIRED",),
    412: ("PAYMENT-REQUIRED",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def _text(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


_HEADERS = {
    "PAYMENT-REQUIRED": _text("x402 PaymentRequired: base64 of JSON."),
    "PAYMENT-RESPONSE": _text("x402 SettlementResponse: base64 of JSON. Only for calls paid by x402."),
    "X-Charge-Id": _text("The charge, to be looked up at /api/v1/charges/{charge_id}."),
    "X-Charge-Token": _text("Opens the charge to whoever holds it. Only for calls paid by x402 without an agent."),
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
    "Location": _text("Where to ask what became of the charge."),
}

_PARAMETERS = {
    "PAYMENT-SIGNATURE": {
        "name": "PAYMENT-SIGNATURE",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": "x402 PaymentPayload: base64 of JSON. Without it the answer is the 402 with the offer.",
    },
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": 130},
        "description": "For calls paid from a balance: the same key and request get the first answer again.",
    },
    "X-Bill-Up-To-Usd": {
        "name": "X-Bill-Up-To-Usd",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "pattern": USD_PATTERN},
        "description": "The most that this call may cost, from the base price on: so much is held of a balance.",
    },
}

_PROBLEM = {
    "type": "object",
    "required": ["error", "code", "request_id"],
    "properties": {
        "error": {"type": "string", "description": "A sentence for a human."},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "details": {"type": "object"},
        "docs": {"type": "string"},
    },
}

_PAYMENT_REQUIRED = {
    "type": "object",
    "required": ["x402Version", "error", "code", "resource", "accepts"],
    "properties": {
        "x402Version": {"const": 2},
        "error": {"type": "string"},
        "code": {"type": "string"},
        "billing_reason": {"type": "string"},
        "request_id": {"type": "string"},
        "price_usd": {"type": "string"},
        "settle": {"const": "before", "description": "Of a payment that is settled before the work."},
        "resource": {"type": "object", "required": ["url"], "properties": {"url": {"type": "string"}}},
        "accepts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds", "extra"],
                "properties": {
                    "scheme": {"type": "string"},
                    "network": {"type": "string"},
                    "amount": {"type": "string", "pattern": "^[0-9]+$"},
                    "asset": {"type": "string"},
                    "payTo": {"type": "string"},
                    "maxTimeoutSeconds": {"type": "integer"},
                    "extra": {"type": "object"},
                },
            },
        },
        "extensions": {"type": "object"},
    },
}

_PENDING = {
    "type": "object",
    "required": ["code", "charge_id", "status_url"],
    "properties": {
        "error": {"type": "string"},
        "code": {"enum": ["SETTLEMENT_PENDING", "CALL_IN_PROGRESS"]},
        "request_id": {"type": "string"},
        "charge_id": {"type": "string"},
        "charge_token": {"type": ["string", "null"]},
        "status_url": {"type": "string"},
        "details": {"type": "object"},
    },
}

_PENDING_RESPONSE = {
    "description": "The payment, or the work, is under way. Ask Location; never pay again.",
    "headers": {
        name: {"$ref": f"#/components/headers/{name}"} for name in ("Location", "Retry-After", *_RECEIPT_HEADERS)
    },
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pending"}}},
}
