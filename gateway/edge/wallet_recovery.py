"""An agent that has lost its token is recovered by its wallet: POST /api/v1/agents/wallet-recover/challenge, and when
the amount that this names is on its way, /api/v1/agents/wallet-recover/complete.

Open to anybody: what opens here is the transfer and the answer, gateway/flows/wallet_recovery.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core import wallet_recovery as core
from gateway.core.answer import iso
from gateway.core.money import format_usd, micros_to_atomic_up
from gateway.core.networks import Token, checksum_address
from gateway.edge.bodies import Limits, read_json
from gateway.edge.limiter import Limiter
from gateway.edge.private import private
from gateway.edge.visit import visit_of
from gateway.edge.wallets import Address
from gateway.flows.wallet_recovery import WalletRecovery

ID_CHARS_MAX = 256
ANSWER_CHARS_MAX = 200


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ChallengeAsked(_Asked):
    address: Address
    chain_id: Annotated[int, Field(ge=1, le=2**53)] | None = None


class CompleteAsked(_Asked):
    recovery_id: Annotated[str, Field(max_length=ID_CHARS_MAX)]
    tx_hash: Annotated[str, StringConstraints(pattern="^0x[0-9a-fA-F]{64}$", max_length=66)]
    answer: Annotated[str, Field(max_length=ANSWER_CHARS_MAX)] | Annotated[int, Field(ge=0, le=2**53)]


@dataclass(frozen=True, slots=True)
class WalletRecoveryDoor:
    recovery: WalletRecovery
    pay_to: str
    """The address for deposits; "" where there is none."""
    tokens: Mapping[int, Token]
    """By chain id: what the transfer is told to be of."""
    confirmations: int
    limits: Limits
    limiter: Limiter

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/agents/wallet-recover/challenge", self.challenge, methods=["POST"]),
            Route("/api/v1/agents/wallet-recover/complete", self.complete, methods=["POST"]),
        ]

    async def challenge(self, request: Request) -> Response:
        self.limiter.caller("recoveries", visit_of(request))
        asked = ChallengeAsked.model_validate(await read_json(request, self.limits))
        challenged = await self.recovery.challenge(asked.address, asked.chain_id)
        challenge = challenged.challenge
        token = self.tokens[challenge.chain_id]
        return private(
            {
                "recovery_id": challenged.recovery_id,
                "from": checksum_address(challenge.address),
                "pay_to": checksum_address(self.pay_to),
                "asset": token.symbol,
                "asset_address": checksum_address(token.address),
                "chain_id": challenge.chain_id,
                "amount_usd": format_usd(challenge.amount_micros),
                "amount_atomic": str(micros_to_atomic_up(challenge.amount_micros, token.decimals)[0]),
                "confirmations_required": self.confirmations,
                "question": {"kind": "lead_history", "prompt": core.PROMPT},
                "attempts_left": challenged.tries_left,
                "expires_at": iso(challenge.expires_s * 1000),
            }
        )

    async def complete(self, request: Request) -> Response:
        self.limiter.caller("recoveries", visit_of(request))
        asked = CompleteAsked.model_validate(await read_json(request, self.limits))
        recovered = await self.recovery.complete(asked.recovery_id, asked.tx_hash.lower(), asked.answer)
        return private(
            {
                "agent_id": recovered.agent_id,
                "token": recovered.token,
                "token_shown_once": True,
                "revoked": {"admin_tokens": recovered.revoked, "usage_keys": 0},
                "usage_keys_active": recovered.usage_keys,
                "credited_usd": format_usd(recovered.credited_micros),
            }
        )
