"""What an agent may know and do about itself, for free: GET /api/v1/agents/me and /api/v1/agents/balance, and
POST /api/v1/agents/webhook-secret, which makes or replaces what its callbacks are signed with and shows it once.

A usage key may ask who it is and how far its cap is; what is on the balance, and which wallets its agent has, it is
told with the scope `balance:read`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core import webhook
from gateway.core.agent import BALANCE, Principal
from gateway.core.answer import iso
from gateway.core.catalogue import Catalogue
from gateway.core.deposit import Match
from gateway.core.errors import Code, Problem
from gateway.core.money import format_usd
from gateway.edge.bodies import Limits, read_optional_json
from gateway.edge.private import private
from gateway.edge.tokens import Tokens
from gateway.edge.usage_keys import key_cap
from gateway.edge.wallets import wallet_told
from gateway.store import agents, deposits, outbox, registrations, statements, usage_keys
from gateway.store.agents import Balance
from gateway.store.database import Database, Tx
from gateway.store.usage_keys import Use

SPENT_MS = 30 * 86_400_000
OVERLAP_S = 86_400
OVERLAP_MAX_S = 604_800
"""How long a replaced webhook secret still signs beside the new one."""


@dataclass(frozen=True, slots=True)
class Agents:
    db: Database
    tokens: Tokens
    catalogue: Catalogue
    limits: Limits
    clock: Callable[[], float]
    entropy: Callable[[int], bytes]
    job_ceiling_micros: int
    """The most that may be held or signed for one job."""
    match: Match | None = None
    """What a deposit brings beside itself."""

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/agents/me", self.me, methods=["GET"]),
            Route("/api/v1/agents/balance", self.balance, methods=["GET"]),
            Route("/api/v1/agents/webhook-secret", self.webhook_secret, methods=["POST"]),
        ]

    async def me(self, request: Request) -> Response:
        principal = await self.tokens.someone(request)
        balance, use, keys = await self.db.read(_standing, principal)
        spent = await self.db.read(statements.spent, principal.agent_id, int(self.clock() * 1000) - SPENT_MS)
        wallets = await self.db.read(registrations.shown, principal.agent_id)
        matched = await self.db.read(_matched, principal.agent_id) if self.match else None
        seen = principal.may(BALANCE)
        return private(
            {
                "agent_id": principal.agent_id,
                "label": principal.label,
                "principal": _principal(principal),
                "key_cap": key_cap(use),
                "usage_keys_active": keys,
                "status": principal.status.value,
                "created_at": iso(principal.created_ms),
                "wallets": [wallet_told(each) for each in wallets] if seen else None,
                **(_amounts(balance) if seen else dict.fromkeys(_amounts(balance))),
                "spent_usd_30d": format_usd(spent) if seen else None,
                "limits": {
                    "requests_per_min": principal.requests_per_min,
                    "job_ceiling_cap_usd": format_usd(self.job_ceiling_micros),
                },
                "deposit_match": _offered(self.match, *matched) if self.match and matched and seen else None,
                "routes": {
                    **{o.id: {"price_usd": format_usd(o.price.base_micros), "online": True} for o in self.catalogue},
                    **{o.id: {"online": False} for o in self.catalogue.offline},
                },
            }
        )

    async def balance(self, request: Request) -> Response:
        principal = await self.tokens.someone(request)
        principal.require(BALANCE)
        balance, use, _ = await self.db.read(_standing, principal)
        return private(
            {
                "agent_id": principal.agent_id,
                "currency": "USD",
                "principal": _principal(principal),
                "key_cap": key_cap(use),
                **_amounts(balance),
                "as_of": iso(int(self.clock() * 1000)),
            }
        )

    async def webhook_secret(self, request: Request) -> Response:
        principal = await self.tokens.admin(request)
        overlap_s = await self._overlap_s(request)
        secret = webhook.new_secret(self.entropy(webhook.ENTROPY_SECRET_BYTES))
        replaced = await self.db.write(outbox.rotate_secret, principal.agent_id, secret, overlap_s * 1000)
        return private(
            {
                "agent_id": principal.agent_id,
                "webhook_secret": secret,
                "replaced": replaced,
                "overlap_seconds": overlap_s,
            }
        )

    async def _overlap_s(self, request: Request) -> int:
        """How long the secrets before stay in force. Raises Problem VALIDATION_ERROR, and as bodies.read_json."""
        asked = await read_optional_json(request, self.limits, {})
        if not isinstance(asked, dict) or asked.keys() - {"overlap_seconds"}:
            raise Problem(Code.VALIDATION_ERROR, "the body is a JSON object with at most `overlap_seconds` in it")
        overlap_s = asked.get("overlap_seconds", OVERLAP_S)
        if type(overlap_s) is not int or not 0 <= overlap_s <= OVERLAP_MAX_S:
            raise Problem(Code.VALIDATION_ERROR, f"`overlap_seconds` is a whole number from 0 to {OVERLAP_MAX_S}")
        return overlap_s


def _standing(tx: Tx, principal: Principal) -> tuple[Balance, Use | None, int]:
    """The agent's balance, how far its key is, and how many usage keys are active."""
    use = usage_keys.use(tx, principal.key_id) if principal.key_id is not None else None
    return agents.balance(tx, principal.agent_id), use, usage_keys.active(tx, principal.agent_id)


def _principal(principal: Principal) -> dict[str, object]:
    """Who asks, and what he may do: the agent itself, or one of its usage keys."""
    return {"kind": principal.kind.value, "key_id": principal.key_id, "scopes": list(principal.scopes)}


def _matched(tx: Tx, /, agent_id: str) -> tuple[int, int, int]:
    """(deposits of this agent that stand, bonus it had of them, bonus that all had)."""
    return deposits.standing(tx, agent_id), deposits.matched_micros(tx, agent_id), deposits.matched_micros(tx)


def _offered(match: Match, deposits_before: int, had_micros: int, all_had_micros: int) -> dict[str, object]:
    """The rule, and the most bonus that this agent's next deposit can bring by it."""
    spent = match.first_deposit_only and deposits_before > 0
    left = 0 if spent else min(match.max_bonus_micros - had_micros, match.budget_micros - all_had_micros)
    return {
        "percent": match.percent,
        "min_usd": format_usd(match.min_micros),
        "max_bonus_usd": format_usd(match.max_bonus_micros),
        "first_deposit_only": match.first_deposit_only,
        "ends_at": None if match.ends_ms is None else iso(match.ends_ms),
        "matched_usd": format_usd(had_micros),
        "left_usd": format_usd(max(left, 0)),
    }


def _amounts(balance: Balance) -> dict[str, str]:
    """`virtual_balance_usd` is everything the agent has, `available_usd` what no open call holds, `debt_usd` what is
    taken first of whatever comes."""
    available = balance.available + balance.bonus
    held = balance.held + balance.bonus_held
    return {
        "virtual_balance_usd": format_usd(available + held),
        "held_usd": format_usd(held),
        "available_usd": format_usd(available),
        "bonus_usd": format_usd(balance.bonus),
        "debt_usd": format_usd(balance.debt),
    }
