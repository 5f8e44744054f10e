"""Whom an upstream buys from, and how one is asked.

A provider is two pure functions and some terms. `asks` turns a question into an HTTP request; `read` turns whatever
comes back, any bytes at all, into a Reply. Everything else is here, once for all of them:

    ask         one provider, one hop: its breaker, the job's journal, the deadline, at most one retry, what it cost
    waterfall   providers in the operator's order, until one answers with confidence

    what came             error       breaker           asked again at once
    200, readable         -           closed            -
    401, 403              auth        counts            -
    402, 432, 433         quota       opens, 5 min      -
    429                   rate        opens, Retry-After    once, where its advice and the deadline allow it
    5xx, no connection    transient   counts            once, where it is repeatable or was never sent
    no answer in time     timeout     counts            once, where it is repeatable
    unreadable, a leak    shape       counts            -
    other 4xx             refused     closed            -

A request that may have arrived may have been billed, whatever became of its answer: such a call counts with the most
it can cost, and is repeated only where the provider's terms say that this is safe (F-152).

In a job the raw answer is what the journal keeps, so that a hop is read again after a crash and not bought again. A
hop that was asked and whose answer was lost is asked again only where the provider is repeatable, and then counts
twice; else it has failed, and the next provider is asked.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

import orjson
import structlog

from gateway.core import vendor_call
from gateway.core.http import HttpFailure, HttpResponse
from gateway.core.upstream import AnswerLost, Context
from gateway.core.vendor_call import ACCOUNT, ErrorClass, Outcome, Standing, VendorCall
from upstreams.breaker import Breaker
from upstreams.http_api.answers import BUSY, retry_after_s
from upstreams.leaks import Leaks

__all__ = [
    "ErrorClass", "HttpAsk", "Line", "LocalProvider", "Outcome", "Provider", "ProviderTerms", "Quota", "Reply", "Tried",
    "VendorCall", "ask", "by_status", "failed", "most_micros", "rest_s", "waterfall",
]  # fmt: skip

log = structlog.get_logger("upstreams.provider")

Q = TypeVar("Q")
A = TypeVar("A")
Q_in = TypeVar("Q_in", contravariant=True)

MARGIN_S: Final = 0.25
"""How long before the deadline of the whole call the last answer must be there."""
RETRY_S: Final = 0.25
_LONG_BYTES: Final = 16 * 1024
"""An answer of more is read on a thread: it can take a tenth of a second and more."""
EMPTY_REST_S: Final = 300
"""How long a provider with which our account is empty is left alone."""
WAIT_MAX_S: Final = 5
"""A longer wait than this is no retry: the next provider is asked instead."""


@dataclass(frozen=True, slots=True)
class ProviderTerms:
    """What an operator knows of a provider, from faregate.toml."""

    cost_per_call_micros: int = 0
    """What it takes for an answer; for a miss too where `bill_misses`."""
    cost_per_match_micros: int = 0
    """What it takes for a match beside that."""
    bill_misses: bool = False
    timeout_s: float = 10.0
    repeatable: bool = False
    """Whether a question whose answer was lost may be asked again: it changes nothing, and is worth paying twice."""
    private: bool = False
    """Whether it is on this machine or a private network."""
    requests_per_min: int | None = None
    """More than these are not asked, so that it need not refuse them."""

    @property
    def most_micros(self) -> int:
        return self.cost_per_call_micros + self.cost_per_match_micros

    def cost_micros(self, outcome: Outcome) -> int:
        """Of an answer that came."""
        match outcome:
            case Outcome.MATCH:
                return self.most_micros
            case Outcome.NO_MATCH:
                return self.cost_per_call_micros if self.bill_misses else 0
            case _:
                return 0


@dataclass(frozen=True, slots=True)
class HttpAsk:
    """A provider's HTTP request. Nothing of it is ever logged: headers hold keys, urls and bodies hold people."""

    url: str = field(repr=False)
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    bytes_max: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of our account with a provider, in its own units."""

    remaining: int
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Reply(Generic[A]):
    outcome: Outcome
    found: A | None = field(default=None, repr=False)
    """Of a match. A miss may have something too: what is known, and is no match."""
    error: ErrorClass | None = None
    """Of what has failed."""
    cost_micros: int | None = None
    """What the provider itself says that it took; None: by its terms."""
    quota: Quota | None = None
    retry_after_s: int | None = None
    """None: what the header of that name says."""


@dataclass(slots=True)
class Line:
    """What this process knows of the way to one provider: the one thing here that changes."""

    leaks: Leaks = field(default_factory=lambda: Leaks(()))
    """Of its secrets. An answer that gives one away is not used."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    breaker: Breaker = field(default_factory=Breaker)
    quota: Quota | None = None
    """As last heard."""
    trouble: ErrorClass | None = None
    """What only the operator can mend, until it takes our questions again."""
    window_s: int = 0
    """The minute in which `asked` were counted."""
    asked: int = 0

    def rest_s(self, now_s: float, terms: ProviderTerms) -> int | None:
        """Whole seconds until it may be asked again; None: now."""
        rest = self.breaker.rest_s(now_s)
        if rest is None and terms.requests_per_min is not None and self._asked_in(now_s) >= terms.requests_per_min:
            return 60 - int(now_s) % 60
        return rest

    def standing(self, now_s: float, quota_low: int | None = None) -> Standing:
        """`quota_low`: what is too little; a tenth of all where the operator has not said."""
        left, limit = (self.quota.remaining, self.quota.limit) if self.quota else (None, None)
        low = quota_low if quota_low is not None else (limit or 0) // 10
        return Standing(
            self.trouble, self.breaker.rest_s(now_s) or 0, left, limit, left is not None and left <= low
        )  # fmt: skip

    def count(self, now_s: float) -> None:
        self.asked = self._asked_in(now_s) + 1
        self.window_s = int(now_s) // 60

    def _asked_in(self, now_s: float) -> int:
        return self.asked if self.window_s == int(now_s) // 60 else 0


class Provider(Protocol[Q_in, A]):
    """One that is asked over HTTP."""

    @property
    def name(self) -> str:
        """For the configuration, the sources of an answer and the margins: "whitepages"."""
        ...

    @property
    def family(self) -> str:
        """Whose data it is: two of one family confirm nothing for each other."""
        ...

    @property
    def terms(self) -> ProviderTerms: ...
    @property
    def line(self) -> Line: ...

    def asks(self, question: Q_in, /) -> HttpAsk | None:
        """Pure. None: it has no answer to such a question."""
        ...

    def read(self, question: Q_in, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[A]:
        """Pure; whatever the bytes, a Reply and no exception. Header names in lower case."""
        ...


@runtime_checkable
class LocalProvider(Protocol[Q_in, A]):
    """One that is asked without a network, and costs nothing: it has no breaker, no journal and no retry."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> str: ...

    async def look(self, question: Q_in, context: Context, /) -> Reply[A]: ...


AnyProvider = Provider[Q, A] | LocalProvider[Q, A]


def most_micros(providers: "Iterable[AnyProvider[Any, Any]]") -> int:
    """What asking all of them can take."""
    return sum(0 if isinstance(one, LocalProvider) else one.terms.most_micros for one in providers)


@dataclass(frozen=True, slots=True)
class Tried(Generic[A]):
    """One provider asked: what is recorded of it, and what it has found."""

    call: VendorCall
    found: A | None = field(default=None, repr=False)
    retry_after_s: int | None = None

    @property
    def outcome(self) -> Outcome:
        return self.call.outcome

    @property
    def was_asked(self) -> bool:
        return self.call.outcome is not Outcome.SKIPPED


# What `read` is made of


def failed(error: ErrorClass) -> Reply[Any]:
    return Reply(Outcome.FAILED, error=error)


def by_status(status: int) -> Reply[Any] | None:
    """What most providers mean by a status that is no answer; None for 200: the body decides. Those of 404 differ."""
    match status:
        case 200:
            return None
        case 401 | 403:
            return failed(ErrorClass.AUTH)
        case 402 | 432 | 433:
            return failed(ErrorClass.QUOTA)
        case 429:
            return failed(ErrorClass.RATE)
        case 408:
            return failed(ErrorClass.TRANSIENT)
        case _ if status >= 500:
            return failed(ErrorClass.TRANSIENT)
        case _ if status >= 400:
            return failed(ErrorClass.REFUSED)
        case _:
            return failed(ErrorClass.SHAPE)


# Asking


async def waterfall(
    providers: Iterable[AnyProvider[Q, A]],
    question: Q,
    context: Context,
    *,
    confident: Callable[[A], bool] = lambda found: True,
    hop: str,
) -> tuple[A | None, list[Tried[A]]]:
    """Asks in order until one has found something of which `confident` is true: (that, everyone tried). None: nobody
    has. Together they take no more than the context's budget."""
    tried: list[Tried[A]] = []
    left = context.budget_micros
    for provider in providers:
        one = await ask(provider, question, replace(context, budget_micros=left), confident=confident, hop=hop)
        tried.append(one)
        left = max(0, left - one.call.cost_micros)
        if one.outcome is Outcome.MATCH and one.found is not None:
            return one.found, tried
    return None, tried


def rest_s(providers: Sequence[AnyProvider[Any, Any]], now_s: float) -> int | None:
    """Whole seconds until the first of them may be asked again, for Upstream.available; None: one may be asked now."""
    rests = [None if isinstance(one, LocalProvider) else one.line.rest_s(now_s, one.terms) for one in providers]
    known = [rest for rest in rests if rest is not None]
    return min(known) if known and len(known) == len(rests) else None


async def ask(
    provider: AnyProvider[Q, A],
    question: Q,
    context: Context,
    *,
    confident: Callable[[A], bool] = lambda found: True,
    hop: str,
) -> Tried[A]:
    """One provider, of which `context.bought` is told. `hop` names the step within its charge. Raises nothing of the
    provider's. What it calls a match and is not `confident` is a miss, still found, and paid as the match it was."""
    exchange = _Exchange(provider.name, context, hop)
    if isinstance(provider, LocalProvider):
        reply = await provider.look(question, context)
        return exchange.ended(_convinced(reply, confident), reply.cost_micros or 0)
    try:
        return await _ask(provider, question, context, exchange, confident)
    except asyncio.CancelledError:
        exchange.broken_off(provider.terms)
        raise


class _Exchange:
    """One hop under way: what it has cost until now, and what is to be told of it."""

    def __init__(self, provider: str, context: Context, hop: str) -> None:
        self.provider = provider
        self.key = f"{hop}/{provider}"
        self.cost_micros = 0
        self.under_way = False
        self._hop = hop
        self._context = context
        self._started_s = context.now()

    def ended(self, reply: Reply[A], cost_micros: int) -> Tried[A]:
        return self.told(
            VendorCall(
                hop=self._hop,
                provider=self.provider,
                outcome=reply.outcome,
                error=reply.error,
                cost_micros=cost_micros,
                ms=max(0, round((self._context.now() - self._started_s) * 1000)),
                at_ms=int(self._started_s * 1000),
            ),
            reply,
        )

    def told(self, call: VendorCall, reply: Reply[A]) -> Tried[A]:
        if call.outcome is not Outcome.SKIPPED or call.error is not None:
            self._context.bought(call)
        return Tried(call, reply.found, reply.retry_after_s)

    def skipped(self, error: ErrorClass | None = None, retry_after_s: int | None = None) -> Tried[Any]:
        return self.ended(Reply(Outcome.SKIPPED, error=error, retry_after_s=retry_after_s), 0)

    def broken_off(self, terms: ProviderTerms) -> None:
        """Whoever waited for it has gone."""
        if self.under_way:
            self.ended(failed(ErrorClass.TIMEOUT), self.cost_micros + terms.most_micros)


def _convinced(reply: Reply[A], confident: Callable[[A], bool]) -> Reply[A]:
    if reply.outcome is Outcome.MATCH and not (reply.found is not None and confident(reply.found)):
        return replace(reply, outcome=Outcome.NO_MATCH)
    return reply


async def _ask(
    provider: Provider[Q, A], question: Q, context: Context, exchange: _Exchange, confident: Callable[[A], bool]
) -> Tried[A]:
    request, terms, journal = provider.asks(question), provider.terms, context.journal
    if request is None:
        return exchange.skipped()
    if journal is not None:
        kept = await journal.recall(exchange.key)
        if kept is not None:
            return _recalled(provider, question, exchange, kept, context.charge_id)
    now = context.now()
    rest = provider.line.rest_s(now, terms)
    if rest is not None:
        return exchange.skipped(ErrorClass.RESTING, rest)
    if terms.most_micros > context.budget_micros:
        return exchange.skipped(ErrorClass.BUDGET)
    if context.deadline_s - MARGIN_S <= now:
        return exchange.skipped(ErrorClass.TIMEOUT)
    if journal is not None:
        try:
            lost = await journal.asking(exchange.key, repeatable=terms.repeatable, cost_micros=terms.most_micros)
        except AnswerLost:
            return exchange.ended(failed(ErrorClass.LOST), terms.most_micros)
        exchange.cost_micros += lost * terms.most_micros
    reply, response = await _retried(provider, question, context, exchange, request)
    tried = exchange.ended(_convinced(reply, confident), exchange.cost_micros)
    if journal is not None:
        await journal.remember(exchange.key, _kept(tried.call, context.charge_id, response))
    return tried


async def _retried(
    provider: Provider[Q, A], question: Q, context: Context, exchange: _Exchange, request: HttpAsk
) -> tuple[Reply[A], HttpResponse | None]:
    """Asked, and once more where that may help. What was heard is what the breaker is told."""
    line, terms = provider.line, provider.terms
    for last in (False, True):
        line.breaker = line.breaker.asking(context.now(), terms.timeout_s)
        line.count(context.now())
        exchange.under_way = True
        given_s = _given_s(terms, context)
        reply, response, sent = await _exchanged(provider, question, context, request, given_s)
        exchange.under_way = False
        exchange.cost_micros += _cost_micros(reply, response, sent, terms)
        wait_s = _wait_s(reply, sent, terms)
        if last or wait_s is None or context.now() + wait_s + MARGIN_S >= context.deadline_s:
            break
        if exchange.cost_micros + terms.most_micros > context.budget_micros:
            break
        await line.sleep(wait_s)
    if reply.error is not ErrorClass.TIMEOUT or given_s >= terms.timeout_s:
        _heard(provider, reply, context.now())
    else:  # a call that had no more time left says nothing of it, or one caller's slow calls would close it to all
        log.warning("provider_failed", provider=provider.name, error=reply.error.value)
    return reply, response


def _given_s(terms: ProviderTerms, context: Context) -> float:
    return max(0.001, min(terms.timeout_s, context.deadline_s - MARGIN_S - context.now()))


async def _exchanged(
    provider: Provider[Q, A], question: Q, context: Context, request: HttpAsk, timeout_s: float
) -> tuple[Reply[A], HttpResponse | None, bool]:
    """(what it comes to, the answer as it came, whether the request may have arrived)."""
    try:
        response = await context.http.request(
            request.method,
            request.url,
            headers=request.headers,
            body=request.body,
            timeout_s=timeout_s,
            bytes_max=request.bytes_max,
            private=provider.terms.private,
        )
    except HttpFailure as failure:
        return failed(_KINDS.get(failure.kind, ErrorClass.TRANSIENT)), None, failure.sent
    if _gives_away(provider.line.leaks, response):
        log.error("provider_gives_a_secret_away", provider=provider.name)
        return failed(ErrorClass.SHAPE), HttpResponse(response.status, {}, b""), True
    if len(response.body) > _LONG_BYTES:
        reply = await asyncio.to_thread(_read, provider, question, response)
    else:
        reply = _read(provider, question, response)
    if reply.retry_after_s is None and (response.status in BUSY or reply.error is ErrorClass.RATE):
        reply = replace(reply, retry_after_s=retry_after_s(response.headers, context.now()))
    return reply, response, True


_KINDS = {
    "timeout": ErrorClass.TIMEOUT,
    "too_large": ErrorClass.SHAPE,
    "bad_url": ErrorClass.REFUSED,
    "bad_header": ErrorClass.REFUSED,
    "refused_address": ErrorClass.REFUSED,
}


def _read(provider: Provider[Q, A], question: Q, response: HttpResponse) -> Reply[A]:
    try:
        return provider.read(question, response.status, response.headers, response.body)
    except _OF_THE_BYTES as error:  # a stranger's bytes have found a bug of ours: one provider fails, not the call
        log.error("provider_unreadable", provider=provider.name, error=type(error).__name__)
        return failed(ErrorClass.SHAPE)


_OF_THE_BYTES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _gives_away(leaks: Leaks, response: HttpResponse) -> bool:
    if not leaks:
        return False
    body = response.body
    if b"\\u" in body:  # written anew the value has no `\u` escapes
        with suppress(orjson.JSONDecodeError):
            body = orjson.dumps(orjson.loads(body))
    return leaks.found_in(body) or any(leaks.found_in(value.encode()) for value in response.headers.values())


def _cost_micros(reply: Reply[Any], response: HttpResponse | None, sent: bool, terms: ProviderTerms) -> int:
    """By what the provider says, else by its terms. Of an answer that never came, or cannot be read, the most."""
    if reply.cost_micros is not None:
        return reply.cost_micros
    if response is None:
        return terms.most_micros if sent else 0
    if reply.error is ErrorClass.SHAPE and response.status < 300:
        return terms.most_micros
    return terms.cost_micros(reply.outcome)


def _wait_s(reply: Reply[Any], sent: bool, terms: ProviderTerms) -> float | None:
    """How long to wait for a second attempt; None: there is none."""
    match reply.error:
        case ErrorClass.RATE:
            wait_s = reply.retry_after_s or 1
            return wait_s if wait_s <= WAIT_MAX_S else None
        case ErrorClass.TRANSIENT | ErrorClass.TIMEOUT if terms.repeatable or not sent:
            return RETRY_S
        case _:
            return None


def _heard(provider: Provider[Any, Any], reply: Reply[Any], now_s: float) -> None:
    line, error = provider.line, reply.error
    line.quota = reply.quota or line.quota
    if error is None or error is ErrorClass.REFUSED:
        line.breaker = line.breaker.answered()
        _account(provider, None)
    elif error in ACCOUNT:
        empty = error is ErrorClass.QUOTA
        line.breaker = line.breaker.failed(now_s, EMPTY_REST_S) if empty else line.breaker.refused(now_s)
        _account(provider, error)
    else:
        line.breaker = line.breaker.failed(now_s, reply.retry_after_s)
    if error is not None:
        tell = log.error if error is ErrorClass.REFUSED else log.warning
        tell("provider_failed", provider=provider.name, error=error.value)


_MENDS = {
    ErrorClass.AUTH: ("provider_refuses_key", "put a key that it takes into its table, and start the gateway again"),
    ErrorClass.QUOTA: ("provider_account_empty", "fill up the account with it, or take it out of [waterfalls]"),
}


def _account(provider: Provider[Any, Any], trouble: ErrorClass | None) -> None:
    """Told when it begins and when it is over, and not with every question meanwhile."""
    before, provider.line.trouble = provider.line.trouble, trouble
    if trouble is before:
        return
    if trouble is None:
        log.warning("provider_takes_questions_again", provider=provider.name)
    else:
        alarm, mend = _MENDS[trouble]
        log.error("alarm", alarm=alarm, subject=provider.name, mend=mend)


# What the journal keeps of a hop: the call, and the answer as it came


def _kept(call: VendorCall, charge_id: str, response: HttpResponse | None) -> dict[str, Any]:
    answer = response and {
        "status": response.status,
        "headers": dict(response.headers),
        "body": base64.b64encode(response.body).decode(),
    }
    return vendor_call.kept(call, charge_id, answer=answer)


def _recalled(
    provider: Provider[Q, A], question: Q, exchange: _Exchange, hop: Mapping[str, Any], charge_id: str
) -> Tried[A]:
    """The hop as it was. The customer pays what it cost then, whichever of his charges it was bought on."""
    call, answer = VendorCall.from_json(hop["call"]), hop["answer"]
    reply: Reply[A] = Reply(call.outcome, error=call.error)
    if answer is not None and call.error is None:
        response = HttpResponse(answer["status"], answer["headers"], base64.b64decode(answer["body"]))
        reply = _read(provider, question, response)
    exchange.told(vendor_call.recalled(hop, charge_id), reply)
    return Tried(call, reply.found)
