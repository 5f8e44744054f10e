"""Deposits at the door: how an agent brings money by itself.

    POST /api/v1/balance/topup/x402              a 402 for that very amount; paid, it is credited when it has come
    GET  /api/v1/balance/deposit/receive-address where plain transfers go, and what counts
    POST /api/v1/balance/deposit/claim           the transaction of one

A top-up is of an agent's balance, so its payment comes beside a bearer; anybody else is told the offer and no more. An
unpaid body without a bearer is read leniently, as that of a job is.

Both are the agent's own affair, so a usage key may do neither, whatever its scopes: each may use up what is given once,
as a match of the first deposit is, and a claim's answer says what came from which wallet. A key that has a wallet pays
its calls by x402. The address is open to anybody, with a key or without.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.agent import Principal, Status
from gateway.core.answer import iso
from gateway.core.catalogue import Operation, Price
from gateway.core.charge import Disclosure
from gateway.core.deposit import TOPUP
from gateway.core.errors import Code, Problem
from gateway.core.money import MoneyError, format_usd, parse_usd
from gateway.core.networks import Network, chain_id, checksum_address
from gateway.core.settlement import State
from gateway.core.x402.challenge import Challenge
from gateway.core.x402.messages import Requirements
from gateway.edge.bodies import Limits, read_json
from gateway.edge.limiter import Limiter
from gateway.edge.paid import idempotency_key, payment_of, pending, receipt, refusal
from gateway.edge.private import private
from gateway.edge.tokens import Tokens, bearer
from gateway.edge.visit import visit_of
from gateway.flows.deposits import Deposits
from gateway.flows.fulfilling import Call
from gateway.flows.purchase import Answer, Purchase
from gateway.store import deposits
from gateway.store.database import Database
from gateway.store.deposits import DepositView

TOPUP_PATH = "/api/v1/balance/topup/x402"
USUAL_MICROS = 5_000_000
MOST_MICROS = 100_000_000_000

ChallengeOf = Callable[[Operation, tuple[Requirements, ...], Problem, str], Challenge]
"""(the top-up, its offers, why, request id) -> the 402 that says so."""
OffersOf = Callable[[Operation], tuple[Requirements, ...]]


def _usd(value: object) -> int:
    try:
        return parse_usd(str(value) if isinstance(value, float) else value)
    except MoneyError as error:
        raise ValueError(str(error)) from None


class TopUp(BaseModel):
    model_config = ConfigDict(extra="forbid")

    amount_usd: Annotated[int, BeforeValidator(_usd)] = Field(
        description='in USD, as "5.00"', json_schema_extra={"type": "string"}
    )
    chain_id: int | None = Field(None, ge=1, le=2**53, strict=True, description="only offers on this chain")


class Claim(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tx_hash: str = Field(pattern="^0x[0-9a-fA-F]{64}$", max_length=66)
    chain_id: int = Field(ge=1, le=2**53, strict=True)


def operation(amount_micros: int) -> Operation:
    """A top-up of so much, as its offer describes it. It is in no catalogue: it is no work, and needs an agent."""
    return Operation(
        id=TOPUP,
        method="POST",
        path=TOPUP_PATH,
        summary="Top an agent's balance up",
        description="Puts what is paid on the balance of the agent whose bearer token comes beside the payment.",
        input=TopUp,
        output={"type": "object"},
        price=Price(amount_micros),
        example={"amount_usd": format_usd(amount_micros)},
        example_output={},
    )


@dataclass(frozen=True, slots=True)
class DepositDoor:
    db: Database
    tokens: Tokens
    purchase: Purchase
    deposits: Deposits
    limits: Limits
    limiter: Limiter
    networks: tuple[Network, ...]
    """Those that plain transfers are taken on."""
    offers: OffersOf
    challenge: ChallengeOf
    enabled: bool
    count: Callable[[str, str], None] = lambda operation, outcome: None

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/balance/topup/x402", self.top_up, methods=["POST"]),
            Route("/api/v1/balance/deposit/receive-address", self.receive_address, methods=["GET"]),
            Route("/api/v1/balance/deposit/claim", self.claim, methods=["POST"]),
        ]

    # by x402

    async def top_up(self, request: Request) -> Response:
        if not (self.enabled and self.offers(operation(USUAL_MICROS))):
            raise Problem(Code.ROUTE_OFFLINE, "balances are not topped up by x402 here")
        principal = await self._agent(request)
        payment = payment_of(request)
        if payment is None:
            self.limiter.caller("unpaid", visit_of(request))
        asked = await self._asked(request, lenient=principal is None and payment is None)
        selling = operation(asked.amount_usd)
        offers = tuple(offer for offer in self.offers(selling) if asked.chain_id in (None, chain_id(offer.network)))
        if not offers:
            raise Problem(Code.CHAIN_NOT_ACCEPTED, "payments are not taken on this chain")
        request_id: str = request.state.request_id
        call = Call(
            operation=selling,
            query=asked,
            request_id=request_id,
            principal=principal,
            payment=payment,
            idempotency_key=idempotency_key(request),
            topup=offers,
        )
        try:
            if payment is None:
                raise _unpaid(principal)
            bought = await self.purchase.buy(call)
            response = await self._told(bought, asked)
        except Problem as problem:
            refused = problem.status in (402, 412)
            self.count(TOPUP, "refused" if refused else "failed" if problem.status >= 500 else "invalid")
            if not refused:
                raise
            return refusal(self.challenge(selling, offers, problem, request_id), problem)
        self.count(TOPUP, "pending" if response.status_code == 202 else "replayed" if bought.replayed else "match")
        visit_of(request).facts.update(charge_id=bought.view.charge.id, outcome="topup")
        return response

    async def _asked(self, request: Request, *, lenient: bool) -> TopUp:
        least, most = self.deposits.terms.min_micros, MOST_MICROS
        try:
            asked = TopUp.model_validate(await read_json(request, self.limits))
            if asked.amount_usd < least:
                raise Problem(
                    Code.DEPOSIT_BELOW_MINIMUM,
                    f"a deposit is at least {format_usd(least)} USD",
                    details={"min_usd": format_usd(least)},
                )
            if asked.amount_usd > most:
                raise Problem(Code.VALIDATION_ERROR, f"amount_usd is at most {format_usd(most)}")
        except (Problem, ValueError):  # pydantic's own error is one, too
            if not lenient:
                raise
            return TopUp.model_validate({"amount_usd": format_usd(max(USUAL_MICROS, least))})
        return asked

    async def _told(self, bought: Answer, asked: TopUp) -> Response:
        """200 for what stands credited; 202 while it may yet come, even where a reorganisation has taken it back."""
        view, settlement = bought.view, bought.view.settlement
        if bought.disclosure is Disclosure.NOTHING:
            raise Problem(Code.UPSTREAM_ERROR, "this was interrupted; nothing was taken, send the same payment again")
        found = None if settlement is None else await self.db.read(deposits.of_settlement, settlement.id)
        if found is not None and view.transaction is not None:
            headers = {"X-Charge-Id": view.charge.id, "PAYMENT-RESPONSE": receipt(view, success=True)}
            if bought.replayed:
                headers["Idempotent-Replay"] = "true"
            told = {
                "agent_id": found.deposit.party,
                "amount_usd": format_usd(asked.amount_usd),
                "charge_id": view.charge.id,
                "settlement": {"network": found.network, "transaction": view.transaction, "state": "proven"},
                **_credited(found),
            }
            return private(told, headers=headers)
        if settlement is not None and (settlement.abandoned or settlement.state is State.LOST):
            raise Problem(
                Code.SETTLEMENT_FAILED,
                "this payment cannot be collected; it will never be sent again, and nothing was credited",
                reason="transaction_failed",
                details={"charge_id": view.charge.id},
            )
        return pending(view, under_way="the payment is on its way; it is credited as soon as it has come")

    # by plain transfer

    async def receive_address(self, request: Request) -> Response:
        """Open to anybody: it is a public address, and says whose transfers count."""
        address = self._address()
        self.limiter.caller("documents", visit_of(request))
        return private(
            {
                "receive_address": checksum_address(address),
                "networks": [
                    {
                        "network": network.id,
                        "chain_id": network.chain_id,
                        "tokens": [
                            {"address": checksum_address(t.address), "symbol": t.symbol, "decimals": t.decimals}
                            for t in network.tokens
                        ],
                    }
                    for network in self.networks
                ],
                "min_usd": format_usd(self.deposits.terms.min_micros),
                "confirmations_required": self.deposits.terms.confirmations,
                "senders": "linked_wallets",
            }
        )

    async def claim(self, request: Request) -> Response:
        self._address()
        principal = await self._agent(request)
        if principal is None:
            raise Problem(Code.INVALID_TOKEN, "bring the bearer token of the agent that is to be credited")
        asked = Claim.model_validate(await read_json(request, self.limits))
        self.limiter.hit("claims", principal.agent_id, visit_of(request))
        found = await self.deposits.claim(principal.agent_id, asked.chain_id, asked.tx_hash.lower())
        return private(
            {
                "agent_id": principal.agent_id,
                "tx_hash": asked.tx_hash.lower(),
                "chain_id": asked.chain_id,
                "total_usd": format_usd(sum(each.deposit.amount_micros for each in found)),
                "deposits": [_credited(each) for each in found],
            }
        )

    def _address(self) -> str:
        if not self.enabled or not self.deposits.chains:
            raise Problem(Code.ROUTE_OFFLINE, "plain transfers are not taken here")
        return self.deposits.chains[0].address

    async def _agent(self, request: Request) -> Principal | None:
        """The agent itself; None without an Authorization header."""
        if bearer(request) is None:
            return None
        principal = await self.tokens.admin(request)
        if principal.status is not Status.ACTIVE:
            raise Problem(Code.AGENT_FROZEN, "this agent is frozen; ask the operator")
        return principal


def _unpaid(principal: Principal | None) -> Problem:
    if principal is None:
        return Problem(Code.AGENT_TOKEN_REQUIRED, "bring an agent's bearer token, and pay this amount with x402")
    return Problem(Code.PAYMENT_REQUIRED, "pay this amount with x402; it is credited when it has come")


def _credited(view: DepositView) -> dict[str, object]:
    assert view.credited_ms is not None, "only what was credited is told"
    return {
        "deposit_id": view.deposit.id,
        "credited_usd": format_usd(view.deposit.amount_micros),
        "bonus_usd": format_usd(view.deposit.bonus_micros),
        "credited_at": iso(view.credited_ms),
        "from": checksum_address(view.sender),
        "asset": view.deposit.asset,
        **({} if view.log_index is None else {"log_index": view.log_index}),
    }
