"""GET /api/v1/charges/{id}: what became of a call, for whoever it belongs to.

It belongs to the agent whose bearer asks, or to the usage key it was made with, or to whoever holds the charge token
that came with the answer. For everybody else, another key of the same agent too, and for an id that does not exist, it
is the same 404.
"""

from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core import answer, ids
from gateway.core.agent import Principal
from gateway.core.charge import Disclosure, disclosure
from gateway.core.errors import Code, Problem
from gateway.edge import paid
from gateway.edge.limiter import Asks, Limiter
from gateway.edge.prepaid import topup_told
from gateway.edge.private import private
from gateway.edge.tokens import Tokens, bearer
from gateway.store import charges, prepaid
from gateway.store.charges import ChargeView
from gateway.store.database import Database


@dataclass(frozen=True, slots=True)
class Charges:
    db: Database
    tokens: Tokens
    limiter: Limiter

    def routes(self) -> list[Route]:
        return [Route("/api/v1/charges/{charge_id}", self.charge, methods=["GET"])]

    async def charge(self, request: Request) -> Response:
        with self.limiter.asking("polls", request) as asks:
            view, principal = await self._mine(request, asks)
        told = paid.status(view)
        topup_id = view.charge.id if paid.prepays(view.charge) else view.charge.topup_id
        topup = None
        if topup_id is not None:
            topup = topup_told(await self.db.read(prepaid.look, topup_id), principal)
            told["topup"] = topup
        settlement = view.settlement
        may_have = disclosure(view.charge, abandoned=settlement is not None and settlement.abandoned)
        stored = answer.unpack(view.result) if may_have is Disclosure.RESULT and view.result is not None else None
        told["matched"] = stored.matched if stored else None
        told["result"] = orjson.Fragment(answer.body(view.charge, view.request_id, stored, topup)) if stored else None
        if view.erased:
            told["erased"] = True
        told["result_expires_at"] = answer.iso(view.result_expires_ms) if stored and view.result_expires_ms else None
        waiting = may_have in (Disclosure.WORKING, Disclosure.SETTLING)
        return private(told, headers={"Retry-After": str(paid.PENDING_RETRY_S)} if waiting else None)

    async def _mine(self, request: Request, asks: Asks) -> tuple[ChargeView, Principal | None]:
        """The charge, if the asker may have it, and which agent he is. The charge token comes as X-Charge-Token or as
        the bearer."""
        charge_id = request.path_params["charge_id"]
        prefix = f"{self.tokens.prefix}c_"
        token = request.headers.get("x-charge-token") or bearer(request) or ""
        if ids.is_token(token, prefix):
            if await self.db.read(charges.token_matches, charge_id, ids.token_hash(token)):
                view = await self.db.read(charges.find, charge_id)
                if view is not None:
                    return view, None
        elif (principal := await self.tokens.principal(request)) is not None:
            asks(principal)
            view = await self.db.read(charges.find, charge_id)
            if view is not None and view.agent_id == principal.agent_id and principal.key_id in (None, view.key_id):
                return view, principal
        raise Problem(Code.NOT_FOUND, "no such charge, or not yours")
