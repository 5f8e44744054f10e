"""The paid endpoint: a request into a Call, an Answer into a response. Which money moves is not decided here.

Order of checks, with a credential: a bad token 401 (a payment beside it is not touched); a usage key that comes too
often 429, or may not have this operation 403; a payment that is none 400; wrong method 405; body 415, 413, 400, 422;
from there on gateway/flows/purchase.py. Without a credential a request never gets here: gateway/edge/challenges.py has
answered it with the 402.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from gateway.core import answer
from gateway.core.agent import Principal, Status, scope_of
from gateway.core.catalogue import Operation
from gateway.core.charge import Charge, Disclosure, Source, State, disclosure
from gateway.core.deposit import TOPUP
from gateway.core.errors import Code, Problem
from gateway.core.money import MoneyError, format_usd, parse_usd
from gateway.core.session import SessionQuery
from gateway.core.x402 import headers
from gateway.core.x402.challenge import Challenge
from gateway.core.x402.messages import Payment
from gateway.edge import problems
from gateway.edge.bodies import Limits, read_json
from gateway.edge.prepaid import settlement_status, topup_told
from gateway.edge.private import PRIVATE
from gateway.edge.tokens import Tokens
from gateway.edge.visit import visit_of
from gateway.flows.fulfilling import Call
from gateway.flows.purchase import Answer, Kept
from gateway.store.charges import ChargeView

IDEMPOTENCY_KEY_MAX = 128
PENDING_RETRY_S = 2

ChallengeFor = Callable[[Operation, Problem, str], Challenge]
"""(operation, why, request id) -> the 402 that says so, with the operation's offer."""


class Seller(Protocol):
    """gateway/flows/purchase.py, or whoever writes something beside a purchase."""

    async def buy(self, call: Call) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Paid:
    """`await paid(request, operation)` answers one call that brought a credential."""

    seller: Seller
    tokens: Tokens
    challenge: ChallengeFor
    limits: Limits
    count: Callable[[str, str], None] = lambda operation, outcome: None
    """Told of every call: (operation, match | miss | replayed | pending | withheld | refused | invalid | failed)."""

    async def __call__(self, request: Request, operation: Operation) -> Response:
        request_id: str = request.state.request_id
        try:
            call = await self._call(request, operation, request_id)
            bought = await self.seller.buy(call)
        except Kept as stopped:
            self.count(operation.id, "failed")
            visit_of(request).facts.update(charge_id=stopped.answer.view.charge.id, outcome="kept", code=stopped.code)
            return kept(stopped, call)
        except ValidationError:
            self.count(operation.id, "invalid")
            raise
        except Problem as problem:
            refused = problem.status in (402, 412)
            self.count(operation.id, "refused" if refused else "failed" if problem.status >= 500 else "invalid")
            if not refused:
                raise
            return refusal(self.challenge(operation, problem, request_id), problem)
        outcome = outcome_of(bought)
        self.count(operation.id, outcome)
        visit_of(request).facts.update(charge_id=bought.view.charge.id, outcome=outcome)
        return self._respond(call, bought)

    async def _call(self, request: Request, operation: Operation, request_id: str) -> Call:
        principal = await self.tokens.spender(request)
        if principal is not None and principal.status is not Status.ACTIVE:
            raise Problem(Code.AGENT_FROZEN, "this agent is frozen; ask the operator")
        if principal is not None:
            principal.require(scope_of(operation.id))
        payment = payment_of(request)
        if request.method != operation.method:
            raise Problem(
                Code.METHOD_NOT_ALLOWED, f"this operation takes {operation.method}", details={"allow": operation.method}
            )
        query = await self._query(request, operation)
        return Call(
            operation=operation,
            query=query,
            request_id=request_id,
            principal=principal,
            payment=payment,
            idempotency_key=idempotency_key(request),
            budget_micros=budget_micros(request, operation, query),
            charge_token=charge_token(request),
        )

    async def _query(self, request: Request, operation: Operation) -> BaseModel:
        """The operation's input model from path, and body or query string. pydantic's own error goes up as it is."""
        fields: dict[str, object] = dict(request.path_params)
        if operation.takes_body:
            body = await read_json(request, self.limits)
            if not isinstance(body, Mapping):
                raise Problem(Code.VALIDATION_ERROR, "the body is a JSON object")
            fields = {**body, **fields}
        else:
            _require_text(request.scope["query_string"])
            for name in request.query_params:
                values = request.query_params.getlist(name)
                if len(values) > 1 or name in fields:
                    raise Problem(Code.VALIDATION_ERROR, "a parameter is given once", details={"parameter": name[:64]})
                fields[name] = values[0]
        return operation.input.model_validate(fields)

    def _respond(self, call: Call, bought: Answer) -> Response:
        if bought.disclosure is Disclosure.RESULT and not bought.view.charge.topup:
            return result(bought, call.principal)
        return unanswered(call, bought, lambda problem: self.challenge(call.operation, problem, call.request_id))


def unanswered(call: Call, bought: Answer, challenge: Callable[[Problem], Challenge]) -> Response:
    """There is no answer, or not yet: 202, or the 402 of a payment that never comes. Raises Problem."""
    match bought.disclosure:
        case Disclosure.WITHHELD:
            topup = bought.view.charge.topup
            problem = Problem(
                Code.SETTLEMENT_FAILED,
                "this payment cannot be collected; it will never be sent again, and nothing was done for it"
                if topup
                else "the work is done but this payment cannot be collected; it will never be sent again. "
                "The result is kept: the same request with a new payment gets it without new work",
                reason="transaction_failed",
                details={"charge_id": bought.view.charge.id},
            )
            response = refusal(challenge(problem), problem)
            response.headers.update(_marks(bought.view, bought.token))
            response.headers["PAYMENT-RESPONSE"] = receipt(bought.view, success=False, reason="transaction_failed")
            return response
        case Disclosure.NOTHING:
            raise Problem(
                Code.UPSTREAM_ERROR,
                "the work was given up; nothing was charged, the same payment may be used again",
            )
        case _:
            return pending(bought.view, token=bought.token, may_be_repeated=call.may_be_repeated)


def _require_text(query_string: bytes) -> None:
    """That it is UTF-8: what is not would be bought as something else than it was. Raises Problem VALIDATION_ERROR."""
    try:
        unquote_to_bytes(query_string).decode()
    except UnicodeDecodeError:
        raise Problem(Code.VALIDATION_ERROR, "a query string is percent-encoded UTF-8") from None


def outcome_of(bought: Answer) -> str:
    """The word for the metrics."""
    match bought.disclosure:
        case Disclosure.RESULT if bought.replayed:
            return "replayed"
        case Disclosure.RESULT:
            return "match" if bought.view.charge.captured_micros else "miss"
        case Disclosure.WORKING | Disclosure.SETTLING:
            return "pending"
        case _:
            return "withheld"


def payment_of(request: Request) -> Payment | None:
    """The payment in PAYMENT-SIGNATURE, or in the older X-PAYMENT. Raises Problem PAYMENT_MALFORMED."""
    found = request.headers.getlist("payment-signature") + request.headers.getlist("x-payment")
    if not found:
        return None
    if len(found) > 1:
        raise Problem(Code.PAYMENT_MALFORMED, "one payment header, not several", reason="invalid_payload")
    return headers.decode_payment(found[0])


def charge_token(request: Request) -> str | None:
    """`X-Charge-Token`: of a call that was made before with the same payment."""
    return request.headers.get("x-charge-token")


def idempotency_key(request: Request) -> str | None:
    """`Idempotency-Key`, plain or as a quoted string; at most 128 visible ASCII characters."""
    found = request.headers.getlist("idempotency-key")
    if not found:
        return None
    if len(found) > 1:
        raise Problem(Code.IDEMPOTENCY_KEY_INVALID, "one Idempotency-Key, not several")
    value = found[0]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if not 0 < len(value) <= IDEMPOTENCY_KEY_MAX or not value.isascii() or not value.isprintable():
        raise Problem(
            Code.IDEMPOTENCY_KEY_INVALID, f"an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters"
        )
    return value


def budget_micros(request: Request, operation: Operation, query: BaseModel) -> int | None:
    """The most that the caller wants the call to cost: the lower of what header and body say, and where neither does,
    what is usual for the operation. Raises Problem CEILING_BELOW_PRICE."""
    asked = bill_up_to_micros(request), query.budget_micros if isinstance(query, SessionQuery) else None
    base = operation.price.base_micros
    budget = min((micros for micros in asked if micros is not None), default=operation.asks_micros or None)
    if budget is not None and budget < base:
        raise Problem(
            Code.CEILING_BELOW_PRICE,
            f"this costs {format_usd(base)} USD at least",
            details={"least_usd": format_usd(base)},
        )
    return budget


def bill_up_to_micros(request: Request) -> int | None:
    """`X-Bill-Up-To-Usd`. Raises Problem VALIDATION_ERROR."""
    found = request.headers.getlist("x-bill-up-to-usd")
    if not found:
        return None
    try:
        if len(found) == 1:
            return parse_usd(found[0])
    except MoneyError:
        pass
    raise Problem(Code.VALIDATION_ERROR, 'X-Bill-Up-To-Usd is one amount, as "0.50"')


def refusal(challenge: Challenge, problem: Problem) -> Response:
    """402, or 412 where the payer must approve Permit2 first, with the offer."""
    response = Response(challenge.body, problem.status, media_type="application/json")
    response.headers["PAYMENT-REQUIRED"] = challenge.header.decode()
    response.headers["Cache-Control"] = "no-store"
    if problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(problem.retry_after_s)
    return response


def result(bought: Answer, principal: Principal | None) -> Response:
    """200: the stored result, made from what is written alone."""
    view, prepaid = bought.view, bought.prepaid
    if view.result is None:
        raise Problem(*gone(view))
    stored = answer.unpack(view.result)
    told = {**stored.headers, **_marks(view, bought.token)}
    if bought.replayed:
        told["Idempotent-Replay"] = "true"
    if view.charge.source is Source.SIGNATURE and view.charge.captured_micros:
        told["PAYMENT-RESPONSE"] = receipt(view, success=True)
    if prepaid is not None:
        told["PAYMENT-RESPONSE"] = receipt(prepaid.topup, success=True)
    topup = topup_told(prepaid, principal) if prepaid is not None else None
    return Response(answer.body(view.charge, view.request_id, stored, topup), 200, told, media_type="application/json")


def gone(view: ChargeView) -> tuple[Code, str]:
    """Why there is no result any more."""
    if view.erased:
        return Code.RESULT_ERASED, "the result told of a person whose data was erased here; what was charged stands"
    return Code.RESULT_EXPIRED, "the result was kept for its time and is gone"


def kept(stopped: Kept, call: Call) -> Response:
    """A prepaid call came to nothing: why, that nothing was charged, and where what was paid is."""
    bought, prepaid = stopped.answer, stopped.answer.prepaid
    assert prepaid is not None, "its top-up has come"
    stopped.details |= {
        "charge_id": bought.view.charge.id,
        "charged_usd": format_usd(0),
        "topup": topup_told(prepaid, call.principal, again=True, by_token=not call.may_be_repeated),
    }
    response = problems.response(stopped, call.request_id)
    response.headers.update(_marks(bought.view, bought.token))
    response.headers["PAYMENT-RESPONSE"] = receipt(prepaid.topup, success=True)
    return response


def pending(
    view: ChargeView, *, token: str | None = None, may_be_repeated: bool = True, under_way: str | None = None
) -> Response:
    """202: the work or its settlement is under way; `under_way` says so in other words. Never a fresh 402: a client
    would pay again. A prepaid call is made when its payment has come and it is repeated."""
    charge = view.charge
    unmade = prepays(charge)
    where = f"/api/v1/charges/{charge.id}"
    working = charge.state is State.HELD and not unmade
    told_of = {True: "the call is under way", False: "the work is done, its payment is on its way"}
    if unmade:
        under_way = "the payment is on its way; the work begins when it has come and this call is repeated"
    hint = "ask status_url again, or repeat this call with the very same payment"
    if unmade:
        hint = "repeat this call with the very same payment" + ("" if may_be_repeated else " and X-Charge-Token")
    elif not may_be_repeated:
        hint = (
            "ask status_url again with the charge token; repeating this call is not enough once its payment is public"
        )
    told = _marks(view, token) | {"Location": where, "Retry-After": str(PENDING_RETRY_S)}
    if charge.source is Source.SIGNATURE:
        told["PAYMENT-RESPONSE"] = receipt(view, success=False, reason="settlement_pending")
    return Response(
        orjson.dumps(
            {
                "error": under_way or told_of[working],
                "code": "CALL_IN_PROGRESS" if working else "SETTLEMENT_PENDING",
                "request_id": view.request_id,
                "charge_id": charge.id,
                "charge_token": token,
                "status_url": where,
                "details": {"hint": hint},
            }
        ),
        202,
        told,
        media_type="application/json",
    )


def receipt(view: ChargeView, *, success: bool, reason: str | None = None) -> str:
    """The PAYMENT-RESPONSE header of a charge paid by signature: the transaction that paid it, or the last one that
    was sent for it."""
    settlement = view.settlement
    return headers.encode(
        headers.settlement_response(
            success,
            view.transaction or view.attempted or "",
            view.charge.asset.split("/")[0] if view.charge.asset else "",
            settlement.payer if settlement else view.payer,
            amount=str(settlement.amount_atomic) if settlement and success else None,
            error_reason=reason,
        )
    )


def prepays(charge: Charge) -> bool:
    """Whether it is the top-up of a call, and not one that an agent has asked for."""
    return charge.topup and charge.operation != TOPUP


def status(view: ChargeView) -> dict[str, object]:
    """`GET /api/v1/charges/{id}`: what is known of a charge, without its result."""
    charge, settlement = view.charge, view.settlement
    told = disclosure(charge, abandoned=settlement is not None and settlement.abandoned)
    collectible = told is not Disclosure.WITHHELD
    return {
        "charge_id": charge.id,
        "operation": charge.operation,
        "state": charge.state.value,
        "amount_usd": format_usd(charge.held_micros),
        "charged_usd": format_usd(answer.charged_micros(charge) if collectible else 0),
        "refunded_usd": format_usd(charge.refunded_micros),
        "billed": charge.captured_micros > 0 and collectible,
        "payer": view.payer or charge.party,
        "settlement": settlement_status(settlement, view.transaction),
    }


def _marks(view: ChargeView, token: str | None) -> dict[str, str]:
    """The headers of every answer that tells of a charge."""
    marks = {**PRIVATE, "X-Charge-Id": view.charge.id}
    return marks if token is None else marks | {"X-Charge-Token": token}
