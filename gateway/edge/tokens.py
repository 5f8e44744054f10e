"""Bearer tokens at the door: what an Authorization header says, who that is, and how often he may come."""

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from gateway.core import ids
from gateway.core.agent import REPLACED_TOKEN, UNKNOWN_TOKEN, Principal
from gateway.core.errors import Code, Problem
from gateway.edge.limiter import Limiter
from gateway.edge.rates import Rates
from gateway.edge.visit import visit_of
from gateway.store import agents
from gateway.store.database import Database

CACHE_S = 2.0
CACHED_MAX = 4096


@dataclass(frozen=True, slots=True)
class Tokens:
    db: Database
    prefix: str
    """`411`: an agent's token begins `411_`, a usage key `411k_`."""
    clock: Callable[[], float]
    rates: Rates
    limiter: Limiter
    used: Callable[[str], None] = lambda token_id: None
    """Told of every token that was good."""
    _known: dict[bytes, tuple[float, Principal]] = field(default_factory=dict, repr=False)

    async def principal(self, request: Request) -> Principal | None:
        """Who the bearer is; None without an Authorization header. Raises Problem INVALID_TOKEN, never a 402:
        nobody should pay for a typing error; and RATE_LIMITED for a usage key that is used too often."""
        token = bearer(request)
        return None if token is None else self._admit(await self._authenticate(token, ids.token_hash(token)))

    async def someone(self, request: Request) -> Principal:
        """The same where nobody else is answered, and for nothing. Raises Problem RATE_LIMITED, too."""
        with self.limiter.asking("balance", request) as asks:
            principal = await self.principal(request)
            if principal is None:
                raise Problem(Code.INVALID_TOKEN, "bring an agent's bearer token")
            asks(principal)
            return principal

    async def admin(self, request: Request) -> Principal:
        """The agent itself, for what would let a bearer have more than it has. Raises Problem ADMIN_TOKEN_REQUIRED for
        its keys, its jobs' poll bearers, and for a token that was rotated: whoever still has that one must not be able
        to shut out whoever rotated it. What is then written looks again (store/agents.py, by_admin)."""
        token = bearer(request)
        if token is not None and ids.is_token(token, f"{self.prefix}j_"):
            raise _admin_only("a job's poll bearer is not enough for this")
        principal = await self.someone(request)
        if not principal.is_admin:
            raise _admin_only("a usage key is not enough for this")
        if principal.replaced:
            raise Problem(Code.ADMIN_TOKEN_REQUIRED, REPLACED_TOKEN)
        return principal

    async def changing(self, request: Request) -> Principal:
        """`admin`, for what writes something new: so often by agent, however many tokens it has had (F-121). What ends
        something is not counted: a key can always be revoked, and what is revoked was counted when it was made."""
        principal = await self.admin(request)
        self.limiter.hit("changes", principal.agent_id, visit_of(request))
        return principal

    async def spender(self, request: Request) -> Principal | None:
        """As `principal` for a paid call, up to two seconds old: its hold looks again, in the transaction that takes
        the money, whether this token, its key and its agent are still good."""
        token = bearer(request)
        if token is None:
            return None
        hash = ids.token_hash(token)
        known = self._known.get(hash)
        # Both ends: after a clock that went back an hour, nobody is known for an hour (F-177).
        if known is not None and 0 <= self.clock() - known[0] < CACHE_S:
            return self._admit(known[1])
        principal = await self._authenticate(token, hash)
        if len(self._known) >= CACHED_MAX:
            self._known.clear()
        self._known[hash] = (self.clock(), principal)
        return self._admit(principal)

    def _admit(self, principal: Principal) -> Principal:
        self.used(principal.token_id)
        if principal.key_id is not None and principal.requests_per_min is not None:
            self.rates.take(principal.key_id, principal.requests_per_min)
        return principal

    async def _authenticate(self, token: str, hash: bytes) -> Principal:
        principal = None
        if ids.is_token(token, f"{self.prefix}_") or ids.is_token(token, f"{self.prefix}k_"):
            principal = await self.db.read(agents.authenticate, hash)
        if principal is None:
            raise _unknown()
        self.limiter.opened(hash)
        return principal


def _unknown() -> Problem:
    return Problem(Code.INVALID_TOKEN, UNKNOWN_TOKEN)


def _admin_only(why: str) -> Problem:
    return Problem(Code.ADMIN_TOKEN_REQUIRED, f"{why}: bring the agent's own token")


def bearer(request: Request) -> str | None:
    """The token of `Authorization: Bearer ...`; None without the header. Any other scheme is a bad token."""
    values = request.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Problem(Code.INVALID_TOKEN, "the Authorization header is `Bearer` and one token")
    return token.strip()
