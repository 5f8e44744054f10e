"""What an agent does with its keys, for free and with its own token alone:

POST   /api/v1/agents/token/rotate                     another token for the agent itself
GET    /api/v1/agents/usage-keys                       its usage keys without their secrets, those revoked lately last
POST   /api/v1/agents/usage-keys                       a new one, shown once
PATCH  /api/v1/agents/usage-keys/{key_id}              other terms for one
DELETE /api/v1/agents/usage-keys/{key_id}              its end, for good
POST   /api/v1/agents/usage-keys/{key_id}/rotate       another secret for one
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core import ids
from gateway.core.agent import LABEL_MAX, REQUESTS_PER_MIN_MAX, Cap, KeyTerms, Period, Principal, grantable
from gateway.core.answer import iso
from gateway.core.catalogue import Catalogue
from gateway.core.errors import Code, Problem
from gateway.core.money import MoneyError, format_usd, parse_json_usd
from gateway.edge.bodies import Limits, read_json, read_optional_json
from gateway.edge.private import private
from gateway.edge.tokens import Tokens
from gateway.store import agents, usage_keys
from gateway.store.agents import NewToken
from gateway.store.database import Database
from gateway.store.usage_keys import UsageKey, Use

T = TypeVar("T")

GRACE_MAX_S = 604_800
SCOPES_MAX = 100
EXPIRES_MAX_S = 10 * 366 * 86_400

RevokeKey = Callable[[Principal, str], Awaitable[tuple[UsageKey, list[str]] | None]]
"""(the agent, key id) -> the key and the jobs that were cancelled with it; None: no such key."""


def _usd(value: object) -> object:
    """Micros of an amount in USD. Raises ValueError."""
    if value is None:
        return None
    try:
        micros = parse_json_usd(value)
    except MoneyError as error:
        raise ValueError(str(error)) from None
    if micros == 0:
        raise ValueError("a cap is above zero")
    return micros


def _moment(value: object) -> object:
    """Unix milliseconds of a time with its offset from UTC, in whole seconds. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", value, re.ASCII
    ):
        raise ValueError('a time is as "2027-01-31T12:00:00Z"')
    return int(datetime.fromisoformat(value).timestamp()) * 1000


class Terms(BaseModel):
    """What a key may do. Of a change, what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    label: str = Field("", max_length=LABEL_MAX)
    scopes: list[str] = Field(min_length=1, max_length=SCOPES_MAX)
    cap_usd: Annotated[int | None, BeforeValidator(_usd)] = None
    cap_period: Literal["total", "day", "week", "month"] | None = None
    expires_at: Annotated[int | None, BeforeValidator(_moment)] = None
    requests_per_min: Annotated[StrictInt, Field(ge=1, le=REQUESTS_PER_MIN_MAX)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.label.isprintable():
            raise ValueError("a label is printable")
        if self.cap_period is not None and self.cap_usd is None:
            raise ValueError("a period is of a cap")
        return self


class NewTerms(Terms):
    """Of a change: every field may be left out."""

    scopes: list[str] = Field(default_factory=list, max_length=SCOPES_MAX)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.label.isprintable() or ("scopes" in self.model_fields_set and not self.scopes):
            raise ValueError("a label is printable, and a key has at least one scope")
        return self


@dataclass(frozen=True, slots=True)
class UsageKeys:
    db: Database
    tokens: Tokens
    catalogue: Catalogue
    limits: Limits
    clock: Callable[[], float]
    entropy: Callable[[int], bytes]
    revoke_key: RevokeKey

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/agents/token/rotate", self.rotate_token, methods=["POST"]),
            Route("/api/v1/agents/usage-keys", self.collection, methods=["GET", "POST"]),
            Route("/api/v1/agents/usage-keys/{key_id}", self.one, methods=["PATCH", "DELETE"]),
            Route("/api/v1/agents/usage-keys/{key_id}/rotate", self.rotate, methods=["POST"]),
        ]

    async def rotate_token(self, request: Request) -> Response:
        agent = await self.tokens.changing(request)
        grace_s = await self._grace_s(request)
        token, made = self._made("")
        until_ms = await self.db.write(agents.rotate, agent.agent_id, agent.token_id, made, grace_s * 1000)
        return private(
            {
                "agent_id": agent.agent_id,
                "token": token,
                "token_shown_once": True,
                "rotated_at": iso(until_ms - grace_s * 1000),
                "previous_valid_until": iso(until_ms),
            }
        )

    async def collection(self, request: Request) -> Response:
        return await (self._create if request.method == "POST" else self._list)(request)

    async def one(self, request: Request) -> Response:
        return await (self._change if request.method == "PATCH" else self._revoke)(request)

    async def _list(self, request: Request) -> Response:
        agent = await self.tokens.admin(request)
        keys = await self.db.read(usage_keys.of_agent, agent.agent_id)
        ended = await self.db.read(usage_keys.revoked, agent.agent_id)
        return private({"agent_id": agent.agent_id, "usage_keys": [told(key) for key in (*keys, *ended)]})

    async def _create(self, request: Request) -> Response:
        agent = await self.tokens.changing(request)
        asked = Terms.model_validate(await read_json(request, self.limits))
        cap = Cap(asked.cap_usd, Period(asked.cap_period or Period.TOTAL)) if asked.cap_usd is not None else None
        terms = KeyTerms(
            asked.label, self._scopes(asked.scopes), cap, asked.requests_per_min, self._expiry(asked.expires_at)
        )
        token, made = self._made("k")
        create = agents.by_admin(agent, usage_keys.create)
        key = await self.db.write(create, self._new_id("key_"), agent.agent_id, terms, made)
        return private({**told(key), **_shown(token)}, 201)

    async def _change(self, request: Request) -> Response:
        agent = await self.tokens.changing(request)
        asked = NewTerms.model_validate(await read_json(request, self.limits))
        named = asked.model_fields_set
        scopes = self._scopes(asked.scopes) if "scopes" in named else ()
        expires_ms = self._expiry(asked.expires_at) if "expires_at" in named else None

        def change(terms: KeyTerms) -> KeyTerms:
            return KeyTerms(
                asked.label if "label" in named else terms.label,
                scopes or terms.scopes,
                _recapped(terms.cap, asked, named),
                asked.requests_per_min if "requests_per_min" in named else terms.requests_per_min,
                expires_ms if "expires_at" in named else terms.expires_ms,
            )

        write = agents.by_admin(agent, usage_keys.change)
        key = await self.db.write(write, agent.agent_id, request.path_params["key_id"], change)
        return private(told(_found(key)))

    async def _revoke(self, request: Request) -> Response:
        agent = await self.tokens.admin(request)
        key, cancelled = _found(await self.revoke_key(agent, request.path_params["key_id"]))
        return private({**told(key), "jobs_cancelled": cancelled})

    async def rotate(self, request: Request) -> Response:
        agent = await self.tokens.changing(request)
        grace_s = await self._grace_s(request)
        token, made = self._made("k")
        write = agents.by_admin(agent, usage_keys.rotate)
        key_id = request.path_params["key_id"]
        key, until_ms = _found(await self.db.write(write, agent.agent_id, key_id, made, grace_s * 1000))
        times = {"rotated_at": iso(until_ms - grace_s * 1000), "previous_valid_until": iso(until_ms)}
        return private({**told(key), **_shown(token), **times})

    async def _grace_s(self, request: Request) -> int:
        """Raises Problem VALIDATION_ERROR, and as bodies.read_json."""
        asked = await read_optional_json(request, self.limits, {})
        if not isinstance(asked, dict) or asked.keys() - {"grace_seconds"}:
            raise Problem(Code.VALIDATION_ERROR, "the body is a JSON object with at most `grace_seconds` in it")
        grace_s = asked.get("grace_seconds", 0)
        if type(grace_s) is not int or not 0 <= grace_s <= GRACE_MAX_S:
            raise Problem(Code.VALIDATION_ERROR, f"`grace_seconds` is a whole number from 0 to {GRACE_MAX_S}")
        return grace_s

    def _scopes(self, asked: list[str]) -> tuple[str, ...]:
        # Handing over is no scope of its own: it is `jobs`.
        sold = (operation.id for operation in (*self.catalogue, *self.catalogue.offline) if not operation.by_body)
        known = grantable(sold)
        if unknown := sorted({scope for scope in asked} - known):
            raise Problem(
                Code.VALIDATION_ERROR,
                "there are other scopes than these",
                details={"unknown": [scope[:80] for scope in unknown[:20]], "scopes": sorted(known)},
            )
        return tuple(sorted(set(asked)))

    def _expiry(self, expires_ms: int | None) -> int | None:
        if expires_ms is not None and not 0 < expires_ms / 1000 - self.clock() <= EXPIRES_MAX_S:
            raise Problem(Code.VALIDATION_ERROR, "`expires_at` is in the future, within ten years")
        return expires_ms

    def _made(self, letter: str) -> tuple[str, NewToken]:
        token = ids.new_token(f"{self.tokens.prefix}{letter}_", self.entropy(ids.ENTROPY_TOKEN_BYTES))
        return token, NewToken(self._new_id("tok_"), ids.token_hash(token), ids.token_hint(token))

    def _new_id(self, prefix: str) -> str:
        return ids.new_id(prefix, int(self.clock() * 1000), self.entropy(ids.ENTROPY_ID_BYTES))


def _recapped(cap: Cap | None, asked: NewTerms, named: set[str]) -> Cap | None:
    """The cap after a change: an amount, a period or both are named; `cap_usd: null` takes it away."""
    if "cap_usd" in named:
        if asked.cap_usd is None:
            cap = None
        else:
            cap = replace(cap, micros=asked.cap_usd) if cap else Cap(asked.cap_usd, Period.TOTAL)
    if asked.cap_period is None:
        return cap
    if cap is None:
        raise Problem(Code.VALIDATION_ERROR, "`cap_period` is of a cap: name `cap_usd` as well")
    return replace(cap, period=Period(asked.cap_period))


def _found(found: T | None) -> T:
    """Raises Problem NOT_FOUND: another agent's key is nobody's."""
    if found is None:
        raise Problem(Code.NOT_FOUND, "no such usage key, or not yours")
    return found


def told(key: UsageKey) -> dict[str, object]:
    """All that is ever told of a key again."""
    terms = key.terms
    return {
        "key_id": key.id,
        "hint": key.hint,
        "label": terms.label,
        "scopes": list(terms.scopes),
        **_amounts(key.use),
        "requests_per_min": terms.requests_per_min,
        "status": key.status,
        "created_at": iso(key.created_ms),
        "expires_at": _when(terms.expires_ms),
        "last_used_at": _when(key.last_used_ms),
    }


def key_cap(use: Use | None) -> dict[str, object] | None:
    """{cap_usd, period, used_usd, resets_at} for whoever holds the key; None where nothing caps."""
    if use is None or use.cap is None:
        return None
    amounts = _amounts(use)
    return {"cap_usd": amounts["cap_usd"], "period": amounts["cap_period"], "used_usd": amounts["used_usd"],
            "resets_at": amounts["resets_at"]}  # fmt: skip


def _amounts(use: Use) -> dict[str, object]:
    return {
        "cap_usd": format_usd(use.cap.micros) if use.cap else None,
        "cap_period": use.cap.period.value if use.cap else None,
        "used_usd": format_usd(use.used_micros),
        "resets_at": _when(use.resets_ms),
    }


def _shown(token: str) -> dict[str, object]:
    return {"key": token, "key_shown_once": True}


def _when(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)
