"""Webhooks: what a customer's server is told, how it is signed, when it is tried again, and where it may stand.

An event is thin (F-142): ids, states and amounts, never what was found or who was asked for. Whoever wants the result
fetches it with his own credential.

Every try is signed in two styles. Standard Webhooks 1.0.0: `webhook-id` (the event's id, equal over all tries),
`webhook-timestamp` (of this try, unix seconds), `webhook-signature` with one signature for each secret in force, so
that a receiver may change over within the overlap of a rotation. And beside it, for receivers without that library:
`X-<Brand>-Signature: sha256=<hex HMAC-SHA256 of "{timestamp}.{body}">`, keyed by the current secret's text as it was
shown, `whsec_` included, with `X-<Brand>-Timestamp`.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import orjson
from standardwebhooks import Webhook

from gateway.core.addresses import NEXT_DOOR_MESSAGE, host_of, refuse_url
from gateway.core.answer import iso
from gateway.core.money import format_usd

JOB_COMPLETED: Final = "enrich.job_completed"
JOB_FAILED: Final = "enrich.job_failed"

SECRET_PREFIX: Final = "whsec_"
ENTROPY_SECRET_BYTES: Final = 32
CALLBACK_CHARS_MAX: Final = 2048
PRIVATE_NAMES: Final = frozenset({"localhost", "local", "internal"})
"""Last labels of names that mean something on the machine or the network they are used on, and nowhere else."""

PAUSES_S: Final = (60, 600, 3_600, 14_400)
"""After the first try, the second ...: five tries in a bit more than five hours. The last one repeats."""
JITTER: Final = 0.2
"""The share by which a pause is shorter or longer: who was down together is not called together."""


class WebhookState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Given up: a dead letter, which the operator may replay."""


@dataclass(frozen=True, slots=True)
class JobTold:
    """What a callback says of a job that has ended."""

    job_id: str
    route: str
    status: str
    matched: bool | None
    billed: bool
    charged_micros: int
    result_url: str
    """Absolute; who asks there brings a credential of his own."""


def job_event(event_id: str, event_type: str, created_ms: int, agent_id: str | None, job: JobTold) -> bytes:
    """The body of a job's event: {event_id, event_type, created_at, agent_id, data}. `agent_id` None: anonymous."""
    data = {
        "job_id": job.job_id,
        "route": job.route,
        "status": job.status,
        "matched": job.matched,
        "billed": job.billed,
        "charged_usd": format_usd(job.charged_micros),
        "result_url": job.result_url,
    }
    return event(event_id, event_type, created_ms, agent_id, data)


def event(event_id: str, event_type: str, created_ms: int, agent_id: str | None, data: Mapping[str, Any]) -> bytes:
    """Any event's body, as it is stored, signed and sent: these bytes and no others."""
    return orjson.dumps(
        {
            "event_id": event_id,
            "event_type": event_type,
            "created_at": iso(created_ms),
            "agent_id": agent_id,
            "data": dict(data),
        }
    )


def new_secret(entropy: bytes) -> str:
    """32 random bytes -> `whsec_` and their base64, as Standard Webhooks has it."""
    if len(entropy) != ENTROPY_SECRET_BYTES:
        raise ValueError("a webhook secret has 32 bytes")
    return SECRET_PREFIX + base64.b64encode(entropy).decode()


def headers(event_id: str, body: bytes, secrets: Sequence[str], at_s: int, brand: str) -> dict[str, str]:
    """Of one try at unix second `at_s`. `secrets`: those in force, the current one first. ValueError without any."""
    if not secrets:
        raise ValueError("there is no secret to sign with")
    at, text = datetime.fromtimestamp(at_s, UTC), body.decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(Webhook(secret).sign(event_id, at, text) for secret in secrets),
        f"X-{brand}-Timestamp": str(at_s),
        f"X-{brand}-Signature": f"sha256={_hex_signature(secrets[0], at_s, body)}",
    }


def _hex_signature(secret: str, at_s: int, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%d.%s" % (at_s, body), hashlib.sha256).hexdigest()


def pause_s(attempts: int, tries: int, random: float) -> float | None:
    """How long to wait when `attempts` tries have failed; None after the last. `random` is in [0, 1)."""
    if attempts >= tries:
        return None
    pause = PAUSES_S[min(max(attempts, 1), len(PAUSES_S)) - 1]
    return pause * (1 - JITTER + 2 * JITTER * random)


def refuse_callback(url: str, own_origin: str, allow_http: bool) -> str | None:
    """Why `url` cannot be called back, in words for whoever named it; None when it can, as far as its text tells.
    `own_origin`: the gateway's own public address, which is not called whatever the port."""
    if len(url) > CALLBACK_CHARS_MAX:
        return f"the url has more than {CALLBACK_CHARS_MAX} characters"
    refusal = refuse_url(url)
    if refusal is not None:
        # The message for operators names a switch that customers do not have.
        here = refusal.message == NEXT_DOOR_MESSAGE
        return "the address is not globally reachable" if here else refusal.message
    if not url.startswith("https:") and not allow_http:
        return "callbacks go by https only"
    host = host_of(url) or ""
    if not host.startswith("[") and (("." not in host) or host.rpartition(".")[2] in PRIVATE_NAMES):
        return "the host is no public name"
    if host == host_of(own_origin):
        return "the url is this service itself"
    return None
