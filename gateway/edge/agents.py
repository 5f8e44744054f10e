"""What an agent may read about itself: GET /api/v1/agents/me and /api/v1/agents/balance. Both are free."""

from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.agent import Principal
from gateway.core.answer import iso
from gateway.core.catalogue import Catalogue
from gateway.core.errors import Code, Problem
from gateway.core.money import format_usd
from gateway.edge.tokens import Tokens
from gateway.store import agents
from gateway.store.agents import Balance
from gateway.store.database import Database


@dataclass(frozen=True, slots=True)
class Agents:
    db: Database
    tokens: Tokens
    catalogue: Catalogue

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/agents/me", self.me, methods=["GET"]),
            Route("/api/v1/agents/balance", self.balance, methods=["GET"]),
        ]

    async def me(self, request: Request) -> Response:
        principal = await self._principal(request)
        balance = await self.db.read(agents.balance, principal.agent_id)
        return _private(
            {
                "agent_id": principal.agent_id,
                "label": principal.label,
                "principal": {"kind": principal.kind.value, "key_id": None, "scopes": ["*"]},
                "status": principal.status.value,
                "created_at": iso(principal.created_ms),
                **_amounts(balance),
                "routes": {
                    **{o.id: {"price_usd": format_usd(o.price.base_micros), "online": True} for o in self.catalogue},
                    **{o.id: {"online": False} for o in self.catalogue.offline},
                },
            }
        )

    async def balance(self, request: Request) -> Response:
        principal = await self._principal(request)
        balance = await self.db.read(agents.balance, principal.agent_id)
        return _private({"agent_id": principal.agent_id, "currency": "USD", "key_cap": None, **_amounts(balance)})

    async def _principal(self, request: Request) -> Principal:
        principal = await self.tokens.principal(request)
        if principal is None:
            raise Problem(Code.INVALID_TOKEN, "bring an agent's bearer token")
        return principal


def _amounts(balance: Balance) -> dict[str, str]:
    """`virtual_balance_usd` is everything the agent has, `available_usd` what no open call holds."""
    available = balance.available + balance.bonus
    held = balance.held + balance.bonus_held
    return {
        "virtual_balance_usd": format_usd(available + held),
        "held_usd": format_usd(held),
        "available_usd": format_usd(available),
        "bonus_usd": format_usd(balance.bonus),
    }


def _private(value: dict[str, object]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json", headers={"Cache-Control": "private, no-store"})
