"""Jobs at the door: POST /api/v1/enrich/jobs hands one over, GET and DELETE /api/v1/enrich/jobs/{id} ask and cancel.

Handing over is a paid call whose price stands in its body. Without a credential the body is read leniently, and whoever
says nothing usable is told the usual ceiling; with one, everything has to be right, and a mistake costs nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core import answer, ids, job
from gateway.core.agent import JOBS, Principal, Status, scope_of
from gateway.core.catalogue import Catalogue, Operation, Price
from gateway.core.charge import Disclosure
from gateway.core.errors import Code, Problem
from gateway.core.money import USD_PATTERN, MoneyError, format_usd, parse_json_usd
from gateway.core.x402.challenge import Challenge
from gateway.core.x402.messages import Requirements
from gateway.edge.bodies import Limits, read_json
from gateway.edge.limiter import Limiter
from gateway.edge.paid import (
    bill_up_to_micros,
    charge_token,
    gone,
    idempotency_key,
    kept,
    outcome_of,
    payment_of,
    receipt,
    refusal,
    unanswered,
)
from gateway.edge.prepaid import settlement_status, topup_told
from gateway.edge.private import private
from gateway.edge.problems import invalid
from gateway.edge.tokens import Tokens, bearer
from gateway.edge.visit import visit_of
from gateway.flows.fulfilling import Call, Handover
from gateway.flows.jobs import Asker, Jobs, JobView, Submitted
from gateway.flows.purchase import Answer, Kept

ID = "enrich/jobs"
PATH = "/api/v1/enrich/jobs"
POLL_S = 5
WAIT_MAX_S = 60
SETTLE_MARGIN_S = 120
"""How long a signature must outlive the job: its settlement may have to wait for better times."""


class Wanted(NamedTuple):
    """What the offer for a job depends on."""

    ceiling_micros: int
    settle_first: bool


ChallengeFor = Callable[[Wanted, Problem, str], Challenge]
"""(what is to be offered, why, request id) -> the 402 that says so."""
OffersFor = Callable[[Wanted], tuple[Requirements, ...]]


def _usd(value: object) -> int:
    try:
        return parse_json_usd(value)
    except MoneyError as error:
        raise PydanticCustomError("VALIDATION_ERROR", f"bill_up_to_usd: {error}") from None


Usd = Annotated[
    int | None,
    BeforeValidator(lambda value: None if value is None else _usd(value)),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": USD_PATTERN}, {"type": "number"}, {"type": "null"}]}),
]


class JobRequest(BaseModel):
    """What is handed over, and for how much at the most."""

    model_config = ConfigDict(extra="forbid")

    route: str = Field(max_length=80, description="the operation's id, as enrich/websearch")
    payload: dict[str, Any] = Field(description="the operation's own request")
    bill_up_to_usd: Usd = Field(None, description='the most it may cost, in USD, as "1.50"')
    callback_url: str | None = Field(None, max_length=2048, description="https; told when the job has ended")


ACCEPTED: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "job_id": {"type": "string"},
        "route": {"type": "string"},
        "status": {"enum": ["queued"]},
        "created_at": {"type": "string"},
        "expires_at": {"type": ["string", "null"]},
        "poll_bearer": {"type": "string"},
        "poll_url": {"type": "string"},
        "poll_interval_sec": {"type": "integer"},
        "billing_mode": {"enum": ["virtual_balance", "x402_upto"]},
        "bill_up_to_usd": {"type": "string"},
        "held_usd": {"type": "string"},
        "webhook_secret": {"type": "string"},
    },
    "required": ["job_id", "route", "status", "poll_bearer", "poll_url", "billing_mode", "bill_up_to_usd"],
}
"""JSON Schema of the 202."""


@dataclass(frozen=True, slots=True)
class JobTerms:
    """What an operator has decided about jobs."""

    usual_micros: int = 1_500_000
    most_micros: int = 50_000_000
    work_s: int = 900
    pays_within_s: int = 1200

    def most_of(self, price: Price) -> int:
        """The highest ceiling that a job of this price can have: more than an operation ever costs is not held."""
        return max(price.base_micros, min(price.ceiling_micros, self.most_micros))

    def ceiling(self, price: Price, asked_micros: int | None) -> int:
        """What is held or signed for a job of this price."""
        if asked_micros is None:
            asked_micros = max(self.usual_micros, price.base_micros)
        return min(asked_micros, self.most_of(price))


def operation(catalogue: Catalogue, terms: JobTerms) -> Operation | None:
    """Handing over, as it is sold; None where nothing on sale can be handed over."""
    able = [each for each in catalogue.operations if each.job]
    if not able:
        return None
    first = able[0]
    listed = ", ".join(each.id for each in able)
    usual = terms.ceiling(first.price, None)
    return Operation(
        id=ID,
        method="POST",
        path=PATH,
        summary="Hand work over, ask for its result later",
        description=f"Queues one of {listed}, and bills what it comes to, within the ceiling you sign or hold."[:500],
        input=create_model(
            "JobRequest",
            __base__=JobRequest,
            route=(str, Field(max_length=80, description=f"one of {listed}")),
        ),
        output=ACCEPTED,
        price=Price(
            min(each.price.base_micros for each in able),
            metered=True,
            markup_percent=100,
            ceiling_micros=max(terms.most_of(each.price) for each in able),
        ),
        example={"route": first.id, "payload": dict(first.example), "bill_up_to_usd": format_usd(usual)},
        example_output={
            "job_id": "ej_01kb4x5v2e0000000000000000",
            "status": "queued",
            "route": first.id,
            "poll_bearer": "411j_...",
            "poll_url": f"{PATH}/ej_01kb4x5v2e0000000000000000",
            "poll_interval_sec": POLL_S,
            "billing_mode": "virtual_balance",
            "bill_up_to_usd": format_usd(usual),
        },
        by_body=True,
        settle_first=first.settle_first,
        asks_micros=usual,
        pays_within_s=terms.pays_within_s,
        tags=("jobs",),
    )


@dataclass(frozen=True, slots=True)
class JobDoor:
    jobs: Jobs
    tokens: Tokens
    catalogue: Catalogue
    terms: JobTerms
    challenge: ChallengeFor
    offers: OffersFor
    limits: Limits
    refuse_callback: Callable[[str], str | None]
    """Why this url may not be called back; None: it may."""
    limiter: Limiter
    count: Callable[[str, str], None] = lambda operation, outcome: None

    def routes(self) -> list[Route]:
        return [
            Route(f"{PATH}/{{job_id}}", self.job, methods=["GET", "DELETE"]),
        ]

    # handing over

    async def submit(self, request: Request, operation: Operation) -> Response:
        request_id: str = request.state.request_id
        wanted = Wanted(operation.asks_micros, operation.settle_first)
        try:
            call = await self._call(request, operation, request_id)
            if isinstance(call, Wanted):
                wanted = call
                raise Problem(
                    Code.AGENT_TOKEN_REQUIRED, "sign for the ceiling with x402, or bring an agent's bearer token"
                )
            wanted = Wanted(call.ceiling_micros, call.operation.settle_first)
            try:
                submitted = await self.jobs.submit(call)
            except Kept as stopped:
                self.count(ID, "failed")
                return kept(stopped, call)
            if isinstance(submitted, Answer):
                self.count(ID, outcome_of(submitted))
                return unanswered(call, submitted, lambda problem: self.challenge(wanted, problem, request_id))
        except ValidationError:
            self.count(ID, "invalid")
            raise
        except Problem as problem:
            refused = problem.status in (402, 412)
            self.count(ID, "refused" if refused else "failed" if problem.status >= 500 else "invalid")
            if not refused:
                raise
            return refusal(self.challenge(wanted, problem, request_id), problem)
        self.count(ID, "replayed" if submitted.repeated else "pending")
        visit_of(request).facts.update(job_id=submitted.view.job.id, outcome="job")
        return self._accepted(submitted)

    async def _call(self, request: Request, operation: Operation, request_id: str) -> Call | Wanted:
        """The call, or what to offer to whoever brought nothing to pay with."""
        principal = await self.tokens.spender(request)
        if principal is not None:
            principal.require(JOBS)
        if principal is not None and principal.status is not Status.ACTIVE:
            raise Problem(Code.AGENT_FROZEN, "this agent is frozen; ask the operator")
        payment = payment_of(request)
        if principal is None and payment is None:
            return await self._asked_for(request, operation)
        if request.method != operation.method:
            raise Problem(
                Code.METHOD_NOT_ALLOWED, f"this operation takes {operation.method}", details={"allow": operation.method}
            )
        asked = JobRequest.model_validate(await read_json(request, self.limits))
        wanted = self._operation(asked.route)
        if principal is not None:
            principal.require(scope_of(wanted.id))
        query = _payload(wanted, asked.payload)
        ceiling = self.terms.ceiling(wanted.price, self._asked_micros(asked.bill_up_to_usd, request, wanted))
        if asked.callback_url is not None and (why := self.refuse_callback(asked.callback_url)) is not None:
            raise Problem(Code.CALLBACK_URL_REFUSED, why)
        return Call(
            operation=wanted,
            query=query,
            request_id=request_id,
            principal=principal,
            payment=payment,
            idempotency_key=idempotency_key(request),
            charge_token=charge_token(request),
            handover=Handover(
                ceiling_micros=ceiling,
                offers=self.offers(Wanted(ceiling, wanted.settle_first)),
                work_s=self.terms.work_s,
                settle_margin_s=SETTLE_MARGIN_S,
                callback_url=asked.callback_url,
            ),
        )

    async def _asked_for(self, request: Request, operation: Operation) -> Wanted:
        """What an unpaid submission asks for, read leniently; else the usual."""
        usual = Wanted(operation.asks_micros, operation.settle_first)
        try:
            body = await read_json(request, self.limits) if request.method == "POST" else {}
            if not isinstance(body, Mapping):
                return usual
            wanted = self.catalogue.get(str(body.get("route"))) or operation
            asked = body.get("bill_up_to_usd")
            header = bill_up_to_micros(request)
            named = [micros for micros in (None if asked is None else _usd(asked), header) if micros is not None]
        except (Problem, PydanticCustomError):
            return usual
        most = max(self.terms.most_micros, wanted.price.base_micros)
        if named and not wanted.price.base_micros <= min(named) <= most:
            return usual._replace(settle_first=wanted.settle_first)
        asks = operation.asks_micros if wanted is operation else None
        return Wanted(self.terms.ceiling(wanted.price, min(named, default=asks)), wanted.settle_first)

    def _operation(self, route: str) -> Operation:
        wanted = self.catalogue.get(route)
        if wanted is None or not wanted.job:
            able = ", ".join(each.id for each in self.catalogue.operations if each.job)
            raise Problem(Code.JOB_ROUTE_UNSUPPORTED, f"this cannot be handed over as a job; these can: {able}")
        return wanted

    def _asked_micros(self, body_micros: int | None, request: Request, wanted: Operation) -> int | None:
        """The lower of what the body and the header allow. Raises Problem."""
        named = [micros for micros in (body_micros, bill_up_to_micros(request)) if micros is not None]
        if not named:
            return None
        asked, least = min(named), wanted.price.base_micros
        most = max(self.terms.most_micros, least)
        details = {"least_usd": format_usd(least), "most_usd": format_usd(most)}
        if asked < least:
            raise Problem(
                Code.CEILING_BELOW_PRICE, f"bill_up_to_usd is at least {format_usd(least)} here", details=details
            )
        if asked > most:
            raise Problem(Code.VALIDATION_ERROR, f"bill_up_to_usd is at most {format_usd(most)}", details=details)
        return asked

    def _accepted(self, submitted: Submitted) -> Response:
        view = submitted.view
        told = {
            **_known(view),
            "poll_bearer": submitted.poll_bearer,
            "poll_url": f"{PATH}/{view.job.id}",
            "poll_interval_sec": POLL_S,
            "billing_mode": answer.mode(view.charge.charge),
            "bill_up_to_usd": format_usd(view.charge.charge.held_micros),
            "held_usd": format_usd(view.charge.charge.held_micros),
        }
        if submitted.webhook_secret is not None:
            told["webhook_secret"] = submitted.webhook_secret
        headers = {
            "Location": f"{PATH}/{view.job.id}",
            "Retry-After": str(POLL_S),
            "X-Charge-Id": view.charge.charge.id,
        }
        if submitted.charge_token is not None:
            headers["X-Charge-Token"] = submitted.charge_token
        if submitted.repeated:
            headers["Idempotent-Replay"] = "true"
        return private(told, 202, headers)

    # asking and cancelling

    async def job(self, request: Request) -> Response:
        return await (self.cancel if request.method == "DELETE" else self.poll)(request)

    async def poll(self, request: Request) -> Response:
        with self.limiter.asking("polls", request) as asks:
            asker = await self._asker(request)
            asks(asker.principal)
            view = await self.jobs.tell(request.path_params["job_id"], asker, _wait_s(request))
        return _told(view, asker.principal)

    async def cancel(self, request: Request) -> Response:
        with self.limiter.asking("polls", request) as asks:
            asker = await self._asker(request)
            asks(asker.principal)
            view = await self.jobs.cancel(request.path_params["job_id"], asker)
        return _told(view, asker.principal)

    async def _asker(self, request: Request) -> Asker:
        shown = bearer(request)
        if shown is not None and ids.is_token(shown, f"{self.tokens.prefix}j_"):
            return Asker(token=shown)
        principal = await self.tokens.principal(request)
        if principal is None:
            return Asker()
        principal.require(JOBS)
        return Asker(principal)


def _payload(wanted: Operation, payload: Mapping[str, Any]) -> BaseModel:
    """The operation's own request. Raises Problem, with faults told as of a part of this body."""
    try:
        return wanted.input.model_validate(payload)
    except ValidationError as error:
        raise invalid(error, within="payload") from None


def _wait_s(request: Request) -> int:
    given = request.query_params.getlist("wait")
    asked = given[0] if given else "0"
    if len(given) > 1 or not asked.isascii() or not asked.isdigit() or len(asked) > 3 or int(asked) > WAIT_MAX_S:
        raise Problem(Code.VALIDATION_ERROR, f"wait is a number of seconds from 0 to {WAIT_MAX_S}")
    return int(asked)


def _known(view: JobView) -> dict[str, object]:
    asked = view.job
    return {
        "job_id": asked.id,
        "route": asked.operation,
        "status": view.state.value,
        "created_at": answer.iso(asked.created_ms),
        "expires_at": answer.iso(asked.expires_ms) if asked.expires_ms else None,
    }


def _told(view: JobView, principal: Principal | None) -> Response:
    """The poll's answer: {.., progress, matched, billed, billing, result, error}; `result` mirrors the sync answer. A
    failed job that is done again says as which, `retried_as`, for its agent to ask about."""
    asked, charge = view.job, view.charge.charge
    over = view.state in job.ENDED
    stored = None
    if over and view.disclosure is Disclosure.RESULT and view.charge.result is not None:
        stored = answer.unpack(view.charge.result)
    topup = topup_told(view.prepaid, principal) if view.prepaid is not None else None
    taken = charge.captured_micros if over and view.disclosure is not Disclosure.WITHHELD else 0
    told: dict[str, object] = {
        **_known(view),
        "progress": {"rounds_used": asked.rounds, "phase": view.phase},
        "cancelling": asked.cancelling and not over,
        "started_at": answer.iso(asked.started_ms) if asked.started_ms else None,
        "finished_at": answer.iso(asked.ended_ms) if over and asked.ended_ms else None,
        "matched": stored.matched if stored else None,
        "billed": taken > 0,
        "billing": {
            "mode": answer.mode(charge),
            "charge_id": charge.id,
            "bill_up_to_usd": format_usd(charge.held_micros),
            "charged_usd": format_usd(taken - charge.refunded_micros),
            "refunded_usd": format_usd(charge.refunded_micros),
            "released_usd": format_usd(charge.held_micros - taken if over else 0),
            "settlement": _settlement(view),
            **({} if topup is None else {"topup": topup}),
        },
        "result": orjson.Fragment(answer.body(charge, asked.request_id, stored, topup)) if stored else None,
        "error": _error(view),
        "callback": _callback(view),
    }
    if view.retried_as is not None:
        told["retried_as"] = view.retried_as
    headers = {}
    if not over:
        headers["Retry-After"] = str(POLL_S)
    elif view.charge.settlement is not None and view.disclosure is Disclosure.RESULT and view.charge.transaction:
        headers["PAYMENT-RESPONSE"] = receipt(view.charge, success=True)
    if view.prepaid is not None:
        headers["PAYMENT-RESPONSE"] = receipt(view.prepaid.topup, success=True)
    return private(told, headers=headers)


def _settlement(view: JobView) -> dict[str, object] | None:
    settlement = view.charge.settlement
    told = settlement_status(settlement, view.charge.transaction)
    return None if settlement is None or told is None else {**told, "amount": str(settlement.amount_atomic)}


def _callback(view: JobView) -> dict[str, object] | None:
    """{state, attempts}, `pending` from the start. None: nobody is called, or that is long past."""
    told = view.callback
    return None if told is None else {"state": told.state.value, "attempts": told.attempts}


def _error(view: JobView) -> dict[str, str] | None:
    if view.job.error_code is not None:
        return {"code": view.job.error_code, "message": view.job.error or ""}
    if view.state in job.ENDED and view.disclosure is Disclosure.WITHHELD:
        return {
            "code": Code.SETTLEMENT_FAILED.value,
            "message": "the work is done but its payment cannot be collected; submit the same job with a new payment "
            "to get the result without new work",
        }
    if view.state in job.ENDED and view.disclosure is Disclosure.RESULT and view.charge.result is None:
        code, message = gone(view.charge)
        return {"code": code.value, "message": message}
    return None
