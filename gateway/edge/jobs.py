"""Jobs at the door: POST /api/v1/enrich/jobs hands one over, GET and DELETE /api/v1/enrich/jobs/{id} ask and cancel.

Handing over is a paid call whose price stands in its body. Without a credential the body is read leniently, and whoever
says nothing usable is told the usual ceiling; with one, everything has to be right, and a mistake costs nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core import answer, ids, job
from gateway.core.agent import JOBS, Status, scope_of
from gateway.core.catalogue import Catalogue, Operation, Price
from gateway.core.charge import Disclosure
from gateway.core.errors import Code, Problem
from gateway.core.money import MoneyError, format_usd, parse_usd
from gateway.core.x402.challenge import Challenge
from gateway.core.x402.messages import Requirements
from gateway.edge.bodies import Limits, read_json
from gateway.edge.paid import idempotency_key, payment_of, receipt, refusal, settlement_status
from gateway.edge.tokens import Tokens, bearer
from gateway.edge.visit import visit_of
from gateway.flows.fulfilling import Call, Handover
from gateway.flows.jobs import Asker, Jobs, JobView, Submitted

ID = "enrich/jobs"
PATH = "/api/v1/enrich/jobs"
POLL_S = 5
WAIT_MAX_S = 60
SETTLE_MARGIN_S = 120
"""How long a signature must outlive the job: its settlement may have to wait for better times."""
LEAST_MICROS = 50_000

ChallengeUpTo = Callable[[int, Problem, str], Challenge]
"""(ceiling in micros, why, request id) -> the 402 that says so."""
OffersUpTo = Callable[[int], tuple[Requirements, ...]]


def _usd(value: object) -> int:
    try:
        return parse_usd(str(value) if isinstance(value, float) else value)
    except MoneyError as error:
        raise ValueError(str(error)) from None


class JobRequest(BaseModel):
    """What is handed over, and for how much at the most."""

    model_config = ConfigDict(extra="forbid")

    route: str = Field(max_length=80, description="the operation's id, as enrich/websearch")
    payload: dict[str, Any] = Field(description="the operation's own request")
    bill_up_to_usd: Annotated[int, BeforeValidator(_usd)] | None = Field(
        None, description='the most it may cost, in USD, as "1.50"', json_schema_extra={"type": "string"}
    )
    callback_url: str | None = Field(None, max_length=2048, description="https; told when the job has ended")


@dataclass(frozen=True, slots=True)
class JobTerms:
    """What an operator has decided about jobs."""

    usual_micros: int = 1_500_000
    most_micros: int = 50_000_000
    work_s: int = 900
    pays_within_s: int = 1200


def operation(catalogue: Catalogue, terms: JobTerms) -> Operation | None:
    """Handing over, as it is sold; None where nothing on sale can be handed over."""
    able = [each for each in catalogue.operations if each.job]
    if not able:
        return None
    first = able[0]
    listed = ", ".join(each.id for each in able)
    return Operation(
        id=ID,
        method="POST",
        path=PATH,
        summary="Hand work over, ask for its result later",
        description=f"Queues one of {listed}, and bills what it comes to, within the ceiling you sign or hold."[:500],
        input=JobRequest,
        output={
            "type": "object",
            "properties": {
                "job_id": {"type": "string"},
                "status": {"type": "string"},
                "poll_bearer": {"type": "string"},
                "poll_url": {"type": "string"},
                "poll_interval_sec": {"type": "integer"},
                "billing_mode": {"type": "string"},
                "bill_up_to_usd": {"type": "string"},
                "webhook_secret": {"type": "string"},
            },
            "required": ["job_id", "status", "poll_bearer", "poll_url"],
        },
        price=Price(
            min(LEAST_MICROS, terms.usual_micros), metered=True, markup_percent=100, ceiling_micros=terms.most_micros
        ),
        example={"route": first.id, "payload": dict(first.example), "bill_up_to_usd": format_usd(terms.usual_micros)},
        example_output={
            "job_id": "ej_01kb4x5v2e0000000000000000",
            "status": "queued",
            "poll_bearer": "411j_...",
            "poll_url": f"{PATH}/ej_01kb4x5v2e0000000000000000",
            "poll_interval_sec": POLL_S,
            "billing_mode": "virtual_balance",
            "bill_up_to_usd": format_usd(terms.usual_micros),
        },
        by_body=True,
        asks_micros=terms.usual_micros,
        pays_within_s=terms.pays_within_s,
        tags=("jobs",),
    )


@dataclass(frozen=True, slots=True)
class JobDoor:
    jobs: Jobs
    tokens: Tokens
    catalogue: Catalogue
    terms: JobTerms
    challenge: ChallengeUpTo
    offers: OffersUpTo
    limits: Limits
    refuse_callback: Callable[[str], str | None]
    """Why this url may not be called back; None: it may."""
    count: Callable[[str, str], None] = lambda operation, outcome: None

    def routes(self) -> list[Route]:
        return [
            Route(f"{PATH}/{{job_id}}", self.poll, methods=["GET"]),
            Route(f"{PATH}/{{job_id}}", self.cancel, methods=["DELETE"]),
        ]

    # handing over

    async def submit(self, request: Request, operation: Operation) -> Response:
        request_id: str = request.state.request_id
        ceiling = self.terms.usual_micros
        try:
            call = await self._call(request, operation, request_id)
            if isinstance(call, int):
                ceiling = call
                raise Problem(
                    Code.AGENT_TOKEN_REQUIRED, "sign for the ceiling with x402, or bring an agent's bearer token"
                )
            ceiling = call.ceiling_micros
            submitted = await self.jobs.submit(call)
        except ValidationError:
            self.count(ID, "invalid")
            raise
        except Problem as problem:
            refused = problem.status in (402, 412)
            self.count(ID, "refused" if refused else "failed" if problem.status >= 500 else "invalid")
            if not refused:
                raise
            return refusal(self.challenge(ceiling, problem, request_id), problem)
        self.count(ID, "replayed" if submitted.repeated else "pending")
        visit_of(request).facts.update(job_id=submitted.view.job.id, outcome="job")
        return self._accepted(submitted)

    async def _call(self, request: Request, operation: Operation, request_id: str) -> Call | int:
        """The call, or the ceiling to offer to whoever brought nothing to pay with."""
        principal = await self.tokens.spender(request)
        if principal is not None:
            principal.require(JOBS)
        if principal is not None and principal.status is not Status.ACTIVE:
            raise Problem(Code.AGENT_FROZEN, "this agent is frozen; ask the operator")
        payment = payment_of(request)
        if principal is None and payment is None:
            return await self._asked_for(request)
        if request.method != operation.method:
            raise Problem(
                Code.METHOD_NOT_ALLOWED, f"this operation takes {operation.method}", details={"allow": operation.method}
            )
        asked = JobRequest.model_validate(await read_json(request, self.limits))
        wanted = self._operation(asked.route)
        if principal is not None:
            principal.require(scope_of(wanted.id))
        query = wanted.input.model_validate(asked.payload)
        ceiling = asked.bill_up_to_usd if asked.bill_up_to_usd is not None else self.terms.usual_micros
        self._require_ceiling(ceiling, wanted)
        if asked.callback_url is not None and (why := self.refuse_callback(asked.callback_url)) is not None:
            raise Problem(Code.CALLBACK_URL_REFUSED, why)
        return Call(
            operation=wanted,
            query=query,
            request_id=request_id,
            principal=principal,
            payment=payment,
            idempotency_key=idempotency_key(request),
            handover=Handover(
                ceiling_micros=ceiling,
                offers=self.offers(ceiling),
                work_s=self.terms.work_s,
                settle_margin_s=SETTLE_MARGIN_S,
                callback_url=asked.callback_url,
            ),
        )

    async def _asked_for(self, request: Request) -> int:
        """The ceiling that an unpaid body asks for, or the usual one."""
        if request.method != "POST":
            return self.terms.usual_micros
        try:
            body = await read_json(request, self.limits)
            wanted = _usd(body.get("bill_up_to_usd")) if isinstance(body, Mapping) else 0
        except (Problem, ValueError):
            return self.terms.usual_micros
        return wanted if LEAST_MICROS <= wanted <= self.terms.most_micros else self.terms.usual_micros

    def _operation(self, route: str) -> Operation:
        wanted = self.catalogue.get(route)
        if wanted is None or not wanted.job:
            able = ", ".join(each.id for each in self.catalogue.operations if each.job)
            raise Problem(Code.JOB_ROUTE_UNSUPPORTED, f"this cannot be handed over as a job; these can: {able}")
        return wanted

    def _require_ceiling(self, ceiling: int, wanted: Operation) -> None:
        least = max(LEAST_MICROS, wanted.price.base_micros)
        details = {"least_usd": format_usd(least), "most_usd": format_usd(self.terms.most_micros)}
        if ceiling < least:
            raise Problem(
                Code.CEILING_BELOW_PRICE, f"bill_up_to_usd is at least {format_usd(least)} here", details=details
            )
        if ceiling > self.terms.most_micros:
            raise Problem(
                Code.VALIDATION_ERROR,
                f"bill_up_to_usd is at most {format_usd(self.terms.most_micros)}",
                details=details,
            )

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
            "Cache-Control": "private, no-store",
            "Location": f"{PATH}/{view.job.id}",
            "Retry-After": str(POLL_S),
            "X-Charge-Id": view.charge.charge.id,
        }
        if submitted.repeated:
            headers["Idempotent-Replay"] = "true"
        return Response(orjson.dumps(told), 202, headers, media_type="application/json")

    # asking and cancelling

    async def poll(self, request: Request) -> Response:
        asker = await self._asker(request)
        return _told(await self.jobs.tell(request.path_params["job_id"], asker, _wait_s(request)))

    async def cancel(self, request: Request) -> Response:
        asker = await self._asker(request)
        return _told(await self.jobs.cancel(request.path_params["job_id"], asker))

    async def _asker(self, request: Request) -> Asker:
        shown = bearer(request)
        if shown is not None and ids.is_token(shown, f"{self.tokens.prefix}j_"):
            return Asker(token=shown)
        principal = await self.tokens.principal(request)
        if principal is None:
            return Asker()
        principal.require(JOBS)
        return Asker(principal.agent_id, principal.key_id)


def _wait_s(request: Request) -> int:
    asked = request.query_params.get("wait", "0")
    if not asked.isascii() or not asked.isdigit() or len(asked) > 3 or int(asked) > WAIT_MAX_S:
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


def _told(view: JobView) -> Response:
    """The poll's answer: {.., progress, matched, billed, billing, result, error}; `result` mirrors the sync answer. A
    failed job that is done again says as which, `retried_as`, for its agent to ask about."""
    asked, charge = view.job, view.charge.charge
    over = view.state in job.ENDED
    stored = None
    if over and view.disclosure is Disclosure.RESULT and view.charge.result is not None:
        stored = answer.unpack(view.charge.result)
    kept = charge.captured_micros if over and view.disclosure is not Disclosure.WITHHELD else 0
    told: dict[str, object] = {
        **_known(view),
        "progress": {"rounds_used": asked.rounds, "phase": view.phase},
        "started_at": answer.iso(asked.started_ms) if asked.started_ms else None,
        "finished_at": answer.iso(asked.ended_ms) if over and asked.ended_ms else None,
        "matched": stored.matched if stored else None,
        "billed": kept > 0,
        "billing": {
            "mode": answer.mode(charge),
            "charge_id": charge.id,
            "bill_up_to_usd": format_usd(charge.held_micros),
            "charged_usd": format_usd(kept - charge.refunded_micros),
            "refunded_usd": format_usd(charge.refunded_micros),
            "released_usd": format_usd(charge.held_micros - kept if over else 0),
            "settlement": _settlement(view),
        },
        "result": orjson.Fragment(answer.body(charge, asked.request_id, stored)) if stored else None,
        "error": _error(view),
        "callback": _callback(view),
    }
    if view.retried_as is not None:
        told["retried_as"] = view.retried_as
    headers = {"Cache-Control": "private, no-store"}
    if not over:
        headers["Retry-After"] = str(POLL_S)
    elif view.charge.settlement is not None and view.disclosure is Disclosure.RESULT and view.charge.transaction:
        headers["PAYMENT-RESPONSE"] = receipt(view.charge, success=True)
    return Response(orjson.dumps(told), 200, headers, media_type="application/json")


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
        return {"code": Code.RESULT_EXPIRED.value, "message": "the result was kept for its time and is gone"}
    return None
