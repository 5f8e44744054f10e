"""Agents: who holds a balance, and what a token lets its holder do.

An agent's own bearer (`411_`) does everything. A usage key (`411k_`) does what its scopes say, within its cap, and
never what would let it have more: make keys, rotate, recover, link a wallet, top up or claim a deposit, see what
callbacks are signed with.

    enrich:phone        the operation `enrich/phone`; every operation's id is a scope with colons for slashes
    enrich:*            every operation below `enrich/`, those of tomorrow too
    jobs                hand work over, ask about it and cancel it; what is handed over needs its own scope beside it
    support             write to the operator, and read what was written with the key
    balance:read        see what is on the balance and was moved, a match of deposits, and the agent's wallets

A cap is on what a key takes of the agent's balance within its period: what was captured in it and not given back, and
whatever open calls hold, of this period or of the one before. So what a period comes to is never above the cap, however
long work takes. Days begin at midnight UTC, weeks on Monday.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from gateway.core import ticket
from gateway.core.errors import Code, Problem

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)

ADMIN = "*"
"""The one scope of an agent's own bearer; no key has it."""
JOBS = "jobs"
SUPPORT = "support"
BALANCE = "balance:read"
BESIDE_OPERATIONS = (JOBS, SUPPORT, BALANCE)

UNKNOWN_TOKEN = "this bearer token is not known, or was revoked"
"""What the holder of a token that opens nothing is told, in these words wherever that is found out (F-162)."""

REPLACED_TOKEN = "this token was replaced and is only good for calls any more: bring the agent's own token"

KEYS_MAX = 100
"""Of one agent that are not revoked."""
LABEL_MAX = 100
REQUESTS_PER_MIN_MAX = 60_000


class Status(StrEnum):
    ACTIVE = "active"
    FROZEN = "frozen"


class TokenKind(StrEnum):
    ADMIN = "admin"
    """`411_`: everything the agent may do."""
    USAGE = "usage"
    """`411k_`: what its usage key may do."""


class Period(StrEnum):
    """Of a usage key's cap."""

    TOTAL = "total"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Cap:
    """The most that a usage key may take of its agent's balance in a period, in micro-USD."""

    micros: int
    period: Period


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a usage key may do."""

    label: str
    scopes: tuple[str, ...]
    """In order, each once."""
    cap: Cap | None = None
    requests_per_min: int | None = None
    expires_ms: int | None = None
    """None: never."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a bearer token turned out to be."""

    agent_id: str
    token_id: str
    kind: TokenKind
    status: Status
    label: str
    """The agent's."""
    created_ms: int
    """The agent."""
    replaced: bool = False
    """The token was rotated and ends soon: it is good for calls until then, and for nothing else."""
    key_id: str | None = None
    scopes: tuple[str, ...] = (ADMIN,)
    requests_per_min: int | None = None

    @property
    def is_admin(self) -> bool:
        return self.kind is TokenKind.ADMIN

    def may(self, scope: str) -> bool:
        return self.is_admin or permits(self.scopes, scope)

    def require(self, scope: str) -> None:
        """Raises Problem SCOPE_DENIED."""
        if not self.may(scope):
            raise denied(scope)


def scope_of(operation_id: str) -> str:
    """`enrich/phone` -> `enrich:phone`, and `support` for a ticket. An operation that would be called as something else
    is gets `call:` before."""
    if operation_id == ticket.OPERATION:
        return SUPPORT
    scope = operation_id.replace("/", ":")
    return f"call:{scope}" if scope in BESIDE_OPERATIONS else scope


def permits(scopes: Iterable[str], wanted: str) -> bool:
    """Whether one of the scopes is `wanted`, or stands for everything below its first part."""
    family = f"{wanted.partition(':')[0]}:*" if ":" in wanted and wanted not in BESIDE_OPERATIONS else wanted
    return any(scope in (wanted, family) for scope in scopes)


def denied(scope: str) -> Problem:
    return Problem(Code.SCOPE_DENIED, f"this usage key has no scope {scope}", details={"scope": scope})


def grantable(operation_ids: Iterable[str]) -> frozenset[str]:
    """Every scope that a key may have where these operations are on sale."""
    named = {scope_of(id) for id in operation_ids}
    families = {f"{scope.partition(':')[0]}:*" for scope in named if ":" in scope}
    return frozenset(named | families | set(BESIDE_OPERATIONS))


def first_day(period: Period, now_ms: int) -> int:
    """The day since 1970 (UTC) that the period we are in began on; 0 of `total`."""
    today = now_ms // DAY_MS
    match period:
        case Period.TOTAL:
            return 0
        case Period.DAY:
            return today
        case Period.WEEK:
            return today - (today + 3) % 7  # 1 January 1970 was a Thursday
        case Period.MONTH:
            return (_date(today).replace(day=1) - _EPOCH).days


def resets_ms(period: Period, now_ms: int) -> int | None:
    """When the next period begins; None: never."""
    first = first_day(period, now_ms)
    match period:
        case Period.TOTAL:
            return None
        case Period.DAY:
            return (first + 1) * DAY_MS
        case Period.WEEK:
            return (first + 7) * DAY_MS
        case Period.MONTH:
            later = (_date(first) + timedelta(days=32)).replace(day=1)
            return (later - _EPOCH).days * DAY_MS


def _date(day: int) -> date:
    return _EPOCH + timedelta(days=day)
