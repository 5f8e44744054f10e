"""Bearer tokens at the door: what an Authorization header says, and who that is."""

from dataclasses import dataclass

from starlette.requests import Request

from gateway.core import ids
from gateway.core.agent import Principal
from gateway.core.errors import Code, Problem
from gateway.store import agents
from gateway.store.database import Database


@dataclass(frozen=True, slots=True)
class Tokens:
    db: Database
    prefix: str
    """`411`: an agent's token begins `411_`."""

    async def principal(self, request: Request) -> Principal | None:
        """Who the bearer is; None without an Authorization header. Raises Problem INVALID_TOKEN, never a 402:
        nobody should pay for a typing error."""
        token = bearer(request)
        if token is None:
            return None
        principal = None
        if ids.is_token(token, f"{self.prefix}_"):
            principal = await self.db.read(agents.authenticate, ids.token_hash(token))
        if principal is None:
            raise Problem(Code.INVALID_TOKEN, "this bearer token is not known, or was revoked")
        return principal


def bearer(request: Request) -> str | None:
    """The token of `Authorization: Bearer ...`; None without the header. Any other scheme is a bad token."""
    values = request.headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Problem(Code.INVALID_TOKEN, "the Authorization header is `Bearer` and one token")
    return token.strip()
