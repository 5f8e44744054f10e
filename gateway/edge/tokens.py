"""Bearer tokens at the door: what an Authorization header says, and who that is."""

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from gateway.core import ids
from gateway.core.agent import UNKNOWN_TOKEN, Principal
from gateway.core.errors import Code, Problem
from gateway.store import agents
from gateway.store.database import Database

CACHE_S = 2.0
CACHED_MAX = 4096


@dataclass(frozen=True, slots=True)
class Tokens:
    db: Database
    prefix: str
    """`411`: an agent's token begins `411_`."""
    clock: Callable[[], float]
    _known: dict[bytes, tuple[float, Principal]] = field(default_factory=dict, repr=False)

    async def principal(self, request: Request) -> Principal | None:
        """Who the bearer is; None without an Authorization header. Raises Problem INVALID_TOKEN, never a 402:
        nobody should pay for a typing error."""
        token = bearer(request)
        return None if token is None else await self._authenticate(token, ids.token_hash(token))

    async def spender(self, request: Request) -> Principal | None:
        """The same for a paid call, up to two seconds old: its hold looks again, in the transaction that takes the
        money, whether this token and its agent are still good."""
        token = bearer(request)
        if token is None:
            return None
        hash = ids.token_hash(token)
        known = self._known.get(hash)
        # Both ends: after a clock that went back an hour, nobody is known for an hour (F-177).
        if known is not None and 0 <= self.clock() - known[0] < CACHE_S:
            return known[1]
        principal = await self._authenticate(token, hash)
        if len(self._known) >= CACHED_MAX:
            self._known.clear()
        self._known[hash] = (self.clock(), principal)
        return principal

    async def _authenticate(self, token: str, hash: bytes) -> Principal:
        principal = None
        if ids.is_token(token, f"{self.prefix}_"):
            principal = await self.db.read(agents.authenticate, hash)
        if principal is None:
            raise _unknown()
        return principal


def _unknown() -> Problem:
    return Problem(Code.INVALID_TOKEN, UNKNOWN_TOKEN)


def bearer(request: Request) -> str | None:
    """The token of `Authorization: Bearer ...`; None without the header. Any other scheme is a bad token."""
    values = request.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Problem(Code.INVALID_TOKEN, "the Authorization header is `Bearer` and one token")
    return token.strip()
