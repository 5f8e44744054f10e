"""A wallet becomes an agent, or joins one: POST /api/v1/agents/wallet-nonce, wallet-register and wallet-link.

Whatever is wrong with the form of a request is found here; what a signature is worth, in gateway/flows/registration.py.
Addresses come in any spelling whose checksum is not wrong, are lower case inside, and go out with their checksum.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core import siwe
from gateway.core.answer import iso
from gateway.core.errors import Code, Problem
from gateway.core.money import MICROS_MAX, MoneyError, format_usd, parse_usd
from gateway.core.networks import chain_id, checksum_address, parse_address
from gateway.edge.bodies import Limits, read_json
from gateway.edge.limiter import Limiter
from gateway.edge.private import private
from gateway.edge.tokens import Tokens
from gateway.edge.visit import visit_of
from gateway.flows.registration import WHY_NO_GRANT, Admitted, Registration, Signed, label_of
from gateway.store import registrations
from gateway.store.database import Database

M = TypeVar("M", bound=BaseModel)

SIGNATURE_BYTES_MAX = 4096
"""Of a contract with many owners. A key's has 65."""
MESSAGE_CHARS_MAX = 2048
LABEL_CHARS_MAX = 100
RECOVER = "recover the agent by this wallet: POST /api/v1/agents/wallet-recover/challenge"
ASK = "ask the operator for another one"


def _lower(text: str) -> str:
    address = parse_address(text)
    if address is None:
        raise ValueError("no address, or a mistyped one")
    return address.lower()


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a label is one line")
    return text.strip()


Address = Annotated[str, Field(max_length=42), AfterValidator(_lower)]
Nonce = Annotated[str, StringConstraints(min_length=8, max_length=128)]
Signature = Annotated[
    str, StringConstraints(pattern=r"^0x(?:[0-9a-fA-F]{2})+$", min_length=4, max_length=2 + 2 * SIGNATURE_BYTES_MAX)
]


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class NonceAsked(_Asked):
    address: Address
    chain_id: Annotated[int, Field(ge=1, le=siwe.CHAIN_ID_MAX)] | None = None
    allowance_usd: Annotated[str, Field(max_length=20)] | int | None = None
    purpose: Literal["register", "link"] = "register"


class LinkAsked(_Asked):
    address: Address
    nonce: Nonce
    siwe_message: Annotated[str, Field(max_length=MESSAGE_CHARS_MAX)]
    siwe_signature: Signature
    allowance_intent_signature: Signature | None = None

    @property
    def signed(self) -> Signed:
        stated = self.allowance_intent_signature
        return Signed(
            self.address, self.nonce, self.siwe_message, bytes.fromhex(self.siwe_signature[2:]),
            None if stated is None else bytes.fromhex(stated[2:]),
        )  # fmt: skip


class RegisterAsked(LinkAsked):
    label: Annotated[str, Field(max_length=LABEL_CHARS_MAX), AfterValidator(_one_line)] | None = None


@dataclass(frozen=True, slots=True)
class WalletDoor:
    db: Database
    tokens: Tokens
    registration: Registration
    limits: Limits
    limiter: Limiter
    recovers: bool = False
    """Whether an agent can be recovered by its wallet here."""

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/agents/wallet-nonce", self.nonce, methods=["POST"]),
            Route("/api/v1/agents/wallet-register", self.register, methods=["POST"]),
            Route("/api/v1/agents/wallet-link", self.link, methods=["POST"]),
        ]

    async def nonce(self, request: Request) -> Response:
        self.limiter.caller("nonces", visit_of(request))
        asked = await self._asked(request, NonceAsked)
        agent = await self.tokens.admin(request) if asked.purpose == "link" else None
        allowance = asked.allowance_usd
        invited = await self.registration.invite(asked.address, asked.chain_id, _allowance_micros(allowance), agent)
        invitation, policy = invited.invitation, self.registration.terms.policy
        return private(
            {
                "address": checksum_address(asked.address),
                "chain_id": invitation.chain_id,
                "purpose": asked.purpose,
                "nonce": invited.nonce,
                "siwe_message": invited.message,
                "allowance_intent_message": invited.allowance_message,
                "allowance_usd": format_usd(invitation.allowance_micros) if invitation.allowance_micros else None,
                "expires_at": iso(invitation.expires_s * 1000),
                "min_wallet_usd": format_usd(policy.least_micros),
                "grant_usd": format_usd(policy.grant_micros),
            }
        )

    async def register(self, request: Request) -> Response:
        self.limiter.caller("registrations", visit_of(request))
        asked = await self._asked(request, RegisterAsked)
        admitted = await self.registration.register(asked.signed, asked.label or label_of(asked.address))
        if admitted.token is None:
            return private(
                {
                    "agent_id": admitted.registered.agent_id,
                    "token": None,
                    "created": False,
                    "hint": f"This wallet has its agent: use its token, or {RECOVER if self.recovers else ASK}",
                }
            )
        return private(await self._newcomer(admitted), 201)

    async def link(self, request: Request) -> Response:
        agent = await self.tokens.admin(request)
        self.limiter.caller("registrations", visit_of(request))
        asked = await self._asked(request, LinkAsked)
        linked = await self.registration.link(asked.signed, agent)
        wallets = await self.db.read(registrations.shown, agent.agent_id)
        return private(
            {"agent_id": agent.agent_id, "linked": linked, "wallets": [wallet_told(wallet) for wallet in wallets]}
        )

    async def _newcomer(self, admitted: Admitted) -> dict[str, object]:
        registered = admitted.registered
        wallets = await self.db.read(registrations.shown, registered.agent_id)
        granted = format_usd(registered.granted_micros)
        why_not = registered.withheld
        return {
            "agent_id": registered.agent_id,
            "token": admitted.token,
            "token_shown_once": True,
            "created": True,
            "scopes": ["*"],
            "wallets": [wallet_told(wallet) for wallet in wallets],
            "virtual_balance_usd": granted,
            "grants": [{"kind": "mint", "amount_usd": granted}] if registered.granted_micros else [],
            "grant_withheld": {"reason": why_not.value, "message": WHY_NO_GRANT[why_not]} if why_not else None,
            "next": {"me": "/api/v1/agents/me", "docs": "/llms.txt"},
        }

    async def _asked(self, request: Request, model: type[M]) -> M:
        """Raises Problem as bodies.read_json, and ValidationError."""
        return model.model_validate(await read_json(request, self.limits))


def wallet_told(wallet: registrations.Shown) -> dict[str, object]:
    allowance = wallet.allowance
    return {
        "address": checksum_address(wallet.address),
        "chain_id": chain_id(wallet.network) if wallet.network else None,
        "role": wallet.role.value,
        "linked_at": iso(wallet.at_ms),
        "allowance": {
            "limit_usd": format_usd(allowance.limit_micros),
            "drawn_usd": format_usd(allowance.drawn_micros),
            "since": iso(allowance.since_ms),
        }
        if allowance
        else None,
    }


def _allowance_micros(asked: str | int | None) -> int:
    """0 for none. Raises Problem VALIDATION_ERROR."""
    if asked is None:
        return 0
    try:
        micros = parse_usd(asked)
    except MoneyError as error:
        raise Problem(Code.VALIDATION_ERROR, f"allowance_usd: {error}") from None
    if not 0 < micros <= MICROS_MAX:
        raise Problem(Code.VALIDATION_ERROR, "allowance_usd: an allowance is above zero; leave it out for none")
    return micros
