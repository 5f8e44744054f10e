"""Serves the configured HTTP APIs: one request to the vendor a call, its answer classified and relayed."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog
from pydantic import BaseModel

from gateway.core import answer, vendor_call
from gateway.core.catalogue import Operation, Price
from gateway.core.http import HttpFailure, HttpResponse
from gateway.core.upstream import Context, Failure, Match, NoMatch, Offering, Outcome
from gateway.core.vendor_call import ErrorClass, VendorCall
from upstreams.breaker import Breaker
from upstreams.http_api.answers import (
    BUSY,
    Unusable,
    Verdict,
    by_body,
    by_status,
    cost_micros,
    read_json,
    read_text,
    retry_after_s,
)
from upstreams.http_api.settings import HttpUpstream

log = structlog.get_logger("upstreams.http_api")

_HOP = "call"
"""A job here is one call of the vendor."""
FLOW_MARGIN_S = 1.0
"""How much longer than the vendor the whole operation may take."""
HEADER_CHARS_MAX = 1024

# Kinds of HttpFailure that lie in this one answer and say nothing of the vendor's health.
_OF_THE_ANSWER = frozenset({"too_large", "bad_url", "bad_header"})
# Statuses after which the next caller fares no better: our key is refused, our account is empty, the vendor is down.
_SICK_STATUSES = frozenset({401, 402, 403, 407, 408, 429})


class HttpApi:
    """core.upstream.Upstream over `[[http_upstreams]]`: an operation for each table."""

    name = "http_api"

    def __init__(self, settings: Sequence[HttpUpstream] = ()) -> None:
        self._lines = {each.id: _Line(each) for each in settings}

    def offerings(self) -> Sequence[Offering]:
        return tuple(Offering(line.operation, line.fulfil) for line in self._lines.values())

    def offline(self) -> Sequence[Operation]:
        return ()

    def available(self, operation_id: str, now_s: float) -> int | None:
        """Seconds until a resting vendor may be called again; None: now, or not ours. Asked before money is held."""
        line = self._lines.get(operation_id)
        return line.breaker.rest_s(now_s) if line is not None else None

    async def start(self) -> None:
        """There is nothing to start."""

    async def close(self) -> None:
        """There is nothing to close."""


class _Line:
    """One API on sale. Its only state is the breaker."""

    def __init__(self, settings: HttpUpstream) -> None:
        self._settings = settings
        self._target = settings.target
        self._body = settings.body_template
        self._leaks = settings.leaks
        self._headers = {"Content-Type": "application/json", **settings.headers} if self._body else settings.headers
        self.operation = _operation(settings)
        self.breaker = Breaker()

    async def fulfil(self, query: BaseModel, context: Context) -> Outcome:
        journal = context.journal
        if journal is None:
            return (await self._told(query, context))[0]
        hop = await journal.recall(_HOP)
        if hop is not None:
            context.bought(vendor_call.recalled(hop, context.charge_id))
            return _outcome(hop)
        context.progress("asking")
        settings = self._settings
        lost = await journal.asking(_HOP, repeatable=settings.repeatable, cost_micros=settings.cost_micros)
        outcome, call = await self._told(query, context, lost)
        if not isinstance(outcome, Failure):
            await journal.remember(_HOP, vendor_call.kept(call, context.charge_id, **_kept(outcome)))
        return outcome

    async def _told(self, query: BaseModel, context: Context, lost: int = 0) -> tuple[Outcome, VendorCall]:
        """The call, and what is recorded of it. Answers that were lost count too: they may have been paid."""
        started = context.now()

        def call(came: vendor_call.Outcome, error: ErrorClass | None, cost_micros: int) -> VendorCall:
            ms = max(0, round((context.now() - started) * 1000))
            cost_micros += lost * self._settings.cost_micros
            return VendorCall(_HOP, self._settings.id, came, error, cost_micros, ms=ms, at_ms=int(started * 1000))

        try:
            outcome = await self._call(query, context)
        except asyncio.CancelledError:
            # Nobody waits any longer, and what was asked may have been billed.
            context.bought(call(vendor_call.Outcome.FAILED, ErrorClass.TIMEOUT, self._settings.cost_micros))
            raise
        told = call(*_came(outcome), outcome.cost_micros)
        context.bought(told)
        return outcome, told

    async def _call(self, query: BaseModel, context: Context) -> Outcome:
        now = context.now()
        rest = self.breaker.rest_s(now)
        if rest is not None:
            return Failure("the upstream is resting after failures", retry_after_s=rest)
        self.breaker = self.breaker.asking(now, self._settings.timeout_s)
        try:
            response = await self._ask(query, context, now)
        except HttpFailure as failure:
            return self._unanswered(failure, context.now())
        return self._judged(response, context.now())

    async def _ask(self, query: BaseModel, context: Context, now: float) -> HttpResponse:
        settings = self._settings
        values = query.model_dump(by_alias=True, exclude_none=True)
        return await context.http.request(
            settings.method,
            self._target.render(values),
            headers=self._headers,
            body=orjson.dumps(self._body.render(values)) if self._body is not None else None,
            timeout_s=min(settings.timeout_s, context.deadline_s - now),
            bytes_max=settings.response_bytes_max,
            private=settings.private,
        )

    def _unanswered(self, failure: HttpFailure, now: float) -> Failure:
        if failure.kind in _OF_THE_ANSWER:
            self.breaker = self.breaker.answered()
        else:
            self.breaker = self.breaker.failed(now)
        # A request that may have arrived may have been billed, whatever became of its answer.
        cost = self._settings.cost_micros if failure.sent else 0
        self._tell("no_answer", kind=failure.kind, sent=failure.sent)
        if failure.kind == "timeout":
            return Failure("the upstream did not answer in time", timeout=True, cost_micros=cost)
        if failure.kind == "too_large":
            return Failure("the upstream's answer is too large", cost_micros=cost)
        return Failure("the upstream could not be reached", cost_micros=cost)

    def _judged(self, response: HttpResponse, now: float) -> Outcome:
        settings = self._settings
        verdict = by_status(response.status, settings.match_statuses, settings.miss_statuses)
        if verdict is Verdict.FAILURE:
            return self._refused(response, now)
        cost = settings.cost_micros
        try:
            data = None if verdict is Verdict.MISS else self._read(response.body)
            verdict = verdict or by_body(data, settings.match, settings.failure)
            if settings.cost_pointer is not None and data is not None:
                cost = cost_micros(data, settings.cost_pointer, settings.cost_micros)
        except Unusable as why:
            return self._unusable(str(why), now)
        if verdict is Verdict.FAILURE:
            return self._unusable("the body reports a failure", now)
        if verdict is Verdict.MISS:
            self.breaker = self.breaker.answered()
            return NoMatch(cost_micros=cost)
        headers = self._relayed(response.headers)
        if self._leaks and self._gives_away(response.body, data, headers):
            log.error("http_upstream_gives_a_secret_away", operation=settings.id)
            return self._unusable("it holds a configured secret", now)
        self.breaker = self.breaker.answered()
        return Match(data, cost_micros=cost, headers=headers)

    def _read(self, body: bytes) -> Any:
        return read_text(body) if self._settings.response == "text" else read_json(body)

    def _refused(self, response: HttpResponse, now: float) -> Failure:
        """A status that is no answer. Nothing of such a response is passed on but when to come back."""
        status = response.status
        advice = retry_after_s(response.headers, now) if status in BUSY else None
        if status >= 500 or status in _SICK_STATUSES:
            self.breaker = self.breaker.failed(now, advice)
        else:
            self.breaker = self.breaker.answered()
        self._tell("refused", status=status)
        # Some vendors bill whatever they answer with a 2xx, useful or not.
        cost = self._settings.cost_micros if status < 300 else 0
        message = "the upstream is busy" if status in BUSY else "the upstream could not answer this call"
        return Failure(message, cost_micros=cost, retry_after_s=advice)

    def _unusable(self, why: str, now: float) -> Failure:
        """A status that promised an answer, over a body that is none."""
        self.breaker = self.breaker.failed(now)
        self._tell("unusable", why=why)
        return Failure("the upstream's answer could not be used", cost_micros=self._settings.cost_micros)

    def _gives_away(self, body: bytes, data: Any, headers: Mapping[str, str]) -> bool:
        # Written anew the value has no `\u` escapes; a body without any is as good.
        text = orjson.dumps(data) if b"\\u" in body else body
        return self._leaks.found_in(text) or any(self._leaks.found_in(value.encode()) for value in headers.values())

    def _relayed(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The allowed headers, of which those that no header could split or swell."""
        return {
            name: value
            for name in self._settings.response_headers
            if (value := headers.get(name))
            and len(value) <= HEADER_CHARS_MAX
            and value.isascii()
            and value.isprintable()
        }

    def _tell(self, event: str, **facts: object) -> None:
        log.warning(f"http_upstream_{event}", operation=self._settings.id, **facts)


def _operation(settings: HttpUpstream) -> Operation:
    summary = settings.summary or settings.id
    example = settings.input_example
    return Operation(
        id=settings.id,
        method=settings.method,
        path=settings.path or f"/api/v1/{settings.id}",
        summary=summary,
        description=settings.description or summary,
        input=settings.model,
        output=answer.schema(settings.output or ({"type": "string"} if settings.response == "text" else {})),
        price=_price(settings),
        example=example,
        example_output=answer.example(settings.id, settings.price_micros, settings.example_output),
        timeout_s=settings.timeout_s + FLOW_MARGIN_S,
        miss_free=settings.miss_free,
        settle_first=settings.settle == "before",
        job=settings.job,
        cacheable=settings.cache,
        tags=settings.tags,
    )


def _came(outcome: Outcome) -> tuple[vendor_call.Outcome, ErrorClass | None]:
    match outcome:
        case Match():
            return vendor_call.Outcome.MATCH, None
        case NoMatch():
            return vendor_call.Outcome.NO_MATCH, None
        case Failure(timeout=timeout):
            return vendor_call.Outcome.FAILED, ErrorClass.TIMEOUT if timeout else ErrorClass.TRANSIENT


def _kept(outcome: Match | NoMatch) -> dict[str, Any]:
    """An outcome as a job's journal keeps it."""
    headers = dict(outcome.headers) if isinstance(outcome, Match) else None
    return {"data": outcome.data, "cost_micros": outcome.cost_micros, "headers": headers}


def _outcome(kept: Mapping[str, Any]) -> Match | NoMatch:
    if kept["headers"] is None:
        return NoMatch(kept["data"], cost_micros=kept["cost_micros"])
    return Match(kept["data"], cost_micros=kept["cost_micros"], headers=kept["headers"])


def _price(settings: HttpUpstream) -> Price:
    if settings.billing == "fixed":
        return Price(settings.price_micros)
    ceiling = settings.ceiling_micros or settings.price_micros
    return Price(settings.price_micros, metered=True, markup_percent=settings.markup_percent, ceiling_micros=ceiling)
