"""Support tickets at the door: POST /api/v1/support/tickets files one and is a paid call like any other; GET lists an
agent's own, GET /api/v1/support/tickets/{id} reads one. Reading is free, and somebody else's ticket is a 404.
"""

import re
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core import ids, ticket
from gateway.core.agent import SUPPORT, Principal
from gateway.core.answer import iso
from gateway.core.catalogue import Operation
from gateway.core.errors import Code, Problem
from gateway.core.money import format_usd
from gateway.core.statement import LIMIT
from gateway.core.ticket import Ticket
from gateway.edge.limiter import Asks
from gateway.edge.paid import Paid
from gateway.edge.private import private
from gateway.edge.statement import limit_of
from gateway.edge.tokens import Tokens, bearer
from gateway.store import tickets
from gateway.store.database import Database, Tx

_ID = re.compile(r"tkt_[0-9a-z]{1,40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TicketDoor:
    db: Database
    tokens: Tokens
    paid: Paid
    bug_credit_micros: int

    def routes(self) -> list[Route]:
        """The first answers where no tickets are taken any more; else `submit` has its path."""
        return [
            Route("/api/v1/support/tickets", self.listing, methods=["GET"]),
            Route("/api/v1/support/tickets/{ticket_id}", self.ticket, methods=["GET"]),
        ]

    async def submit(self, request: Request, operation: Operation) -> Response:
        if request.method in ("GET", "HEAD") and "authorization" in request.headers:
            return await self.listing(request)
        return await self.paid(request, operation)

    async def listing(self, request: Request) -> Response:
        principal = await self.tokens.someone(request)
        principal.require(SUPPORT)
        if request.query_params.keys() - {"limit", "cursor"}:
            raise Problem(Code.VALIDATION_ERROR, "a list of tickets takes limit and cursor")
        limit, before = limit_of(request) or LIMIT, request.query_params.get("cursor")
        if before is not None and not _ID.fullmatch(before):
            raise Problem(Code.VALIDATION_ERROR, "`cursor` is the next_cursor of a page, as it stands there")
        found = await self.db.read(
            tickets.listing, limit + 1, before_id=before, agent_id=principal.agent_id, key_id=principal.key_id
        )
        return private(
            {
                "tickets": [self._told(each) for each in found[:limit]],
                "next_cursor": found[limit - 1].id if len(found) > limit else None,
            }
        )

    async def ticket(self, request: Request) -> Response:
        with self.tokens.limiter.asking("balance", request) as asks:
            found = await self._theirs(request, asks)
        answers = [{"body": answer.body, "at": iso(answer.at_ms)} for answer in found.answers]
        return private({**self._told(found), "body": found.body, "answers": answers})

    async def _theirs(self, request: Request, asks: Asks) -> Ticket:
        """The ticket, for its agent's bearer or the charge token of whoever paid without an agent."""
        ticket_id = request.path_params["ticket_id"]
        token = request.headers.get("x-charge-token") or bearer(request) or ""
        if ids.is_token(token, f"{self.tokens.prefix}c_"):
            found = await self.db.read(_opened_by, ticket_id, ids.token_hash(token))
        else:
            principal = await self.tokens.principal(request)
            asks(principal)
            if principal is not None:
                principal.require(SUPPORT)
            found = await self.db.read(tickets.find, ticket_id) if principal is not None else None
            if found is not None and principal is not None and not _is_of(found, principal):
                found = None
        if found is None:
            raise Problem(Code.NOT_FOUND, "no such ticket, or not yours")
        return found

    def _told(self, told: Ticket) -> dict[str, object]:
        return {
            "ticket_id": told.id,
            "status": told.state.value,
            "category": told.category.value,
            "subject": told.subject,
            "charge_id": told.charge_id,
            "created_at": iso(told.created_ms),
            "changed_at": iso(told.changed_ms),
            "bug_credit": ticket.bug_credit(told, format_usd(self.bug_credit_micros)),
        }


def _is_of(found: Ticket, principal: Principal) -> bool:
    """A usage key has what was filed with it."""
    return found.agent_id == principal.agent_id and principal.key_id in (None, found.key_id)


def _opened_by(tx: Tx, ticket_id: str, token_hash: bytes) -> Ticket | None:
    found = tickets.find(tx, ticket_id)
    return found if found is not None and tickets.token_opens(tx, found, token_hash) else None
