"""What is counted, for Prometheus. Labels are operations, routes, outcomes and names of alarms; never a person,
an agent, a token or an address of any kind.

The registry belongs to the instance: two gateways in one process, as in the tests, count apart.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_address

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.errors import Code, Problem
from gateway.core.ids import token_hash
from gateway.core.vendor_call import Standing, VendorCall
from gateway.edge.visit import is_loopback, peer_of

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WATCH_TIMEOUT_S = 2.0
PROVIDERS_MAX = 100
"""More names of providers than these are one: a plug-in may call its own whatever it likes."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is asked for only when somebody looks."""

    alarms: Mapping[str, float] = field(default_factory=dict)
    """By name, 0 while all is well: payment_pending_too_long, audit_difference, relayer_funds_low, queue_stuck."""
    settlements: Mapping[str, int] = field(default_factory=dict)
    """How many there are, by state."""
    jobs: Mapping[str, int] = field(default_factory=dict)
    """How many wait and how many are worked on."""
    providers: Mapping[str, Standing] = field(default_factory=dict)
    """By name, those that are configured."""


Watch = Callable[[], Awaitable[Vitals]]


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._challenges = Counter("faregate_challenges", "Unpaid 402 answers.", ["operation"], registry=registry)
        self._requests = Counter("faregate_requests", "All other requests.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "faregate_request_seconds", "Their time to the last byte.", ["route"], buckets=BUCKETS_S, registry=registry
        )
        self._calls = Counter(
            "faregate_paid_calls", "Calls with a credential.", ["operation", "outcome"], registry=registry
        )
        self._charged = Counter(
            "faregate_charged_micros", "Captured, in micro-USD.", ["operation", "source"], registry=registry
        )
        self._refused = Counter(
            "faregate_connections_refused", "Connections closed by a limit.", ["reason"], registry=registry
        )
        self._limited = Counter("faregate_rate_limited", "Requests answered 429.", ["limit"], registry=registry)
        self._webhooks = Counter("faregate_webhooks", "Tries to deliver a webhook.", ["outcome"], registry=registry)
        self._bought = Counter(
            "faregate_vendor_calls", "Questions to providers.", ["provider", "outcome", "error"], registry=registry
        )
        self._rest = Gauge(
            "faregate_provider_rest_seconds", "How long it is left alone yet.", ["provider"], registry=registry
        )
        self._quota = Gauge(
            "faregate_provider_quota_left", "Of our account with it, as last told.", ["provider"], registry=registry
        )
        self._quota_limit = Gauge(
            "faregate_provider_quota_limit", "All of it, as last told.", ["provider"], registry=registry
        )
        self._providers: set[str] = set()
        self._settlements = Gauge("faregate_settlements", "Settlements by state.", ["state"], registry=registry)
        self._jobs = Gauge("faregate_jobs", "Jobs that have not ended, by state.", ["state"], registry=registry)
        self._alarm = Gauge("faregate_alarm", "Above zero: somebody should look.", ["name"], registry=registry)
        self._alarms_told: set[str] = set()
        # A look-up by labels takes a lock and makes strings; these are made with every request.
        self._request = lru_cache(maxsize=4096)(lambda route, status: self._requests.labels(route, str(status)))
        self._time = lru_cache(maxsize=4096)(self._seconds.labels)
        self._call = lru_cache(maxsize=4096)(self._calls.labels)
        self._earned = lru_cache(maxsize=4096)(self._charged.labels)
        self._asked = lru_cache(maxsize=4096)(self._bought.labels)

    def challenge(self, operation: str) -> Callable[[], None]:
        """The counter of one operation's 402s, looked up once."""
        return self._challenges.labels(operation).inc

    def request(self, route: str, status: int, seconds: float) -> None:
        self._request(route, status).inc()
        self._time(route).observe(seconds)

    def call(self, operation: str, outcome: str) -> None:
        """`outcome`: match, miss, pending, refused, replayed, failed, invalid."""
        self._call(operation, outcome).inc()

    def charged(self, operation: str, source: str, amount_micros: int) -> None:
        """`source`: balance or signature."""
        self._earned(operation, source).inc(amount_micros)

    def rate_limited(self, limit: str) -> None:
        """`limit`: a kind of gateway/edge/limiter.py."""
        self._limited.labels(limit).inc()

    def webhook(self, outcome: str) -> None:
        """`outcome`: delivered, retried, given_up."""
        self._webhooks.labels(outcome).inc()

    def bought(self, call: VendorCall) -> None:
        """A vendor was asked, or there was a reason not to ask it."""
        if call.provider in self._providers or len(self._providers) < PROVIDERS_MAX:
            self._providers.add(call.provider)
            provider = call.provider
        else:
            provider = "other"
        self._asked(provider, call.outcome, call.error or "").inc()

    def refused(self, reason: str) -> None:
        """`reason`: full, idle, head_timeout, head_too_large, malformed, drain, stalled."""
        self._refused.labels(reason).inc()

    def show(self, vitals: Vitals) -> bytes:
        for state, number in vitals.settlements.items():
            self._settlements.labels(state).set(number)
        for state, number in vitals.jobs.items():
            self._jobs.labels(state).set(number)
        for name, standing in vitals.providers.items():
            self._rest.labels(name).set(standing.rest_s)
            if standing.quota_left is not None:
                self._quota.labels(name).set(standing.quota_left)
            if standing.quota_limit is not None:
                self._quota_limit.labels(name).set(standing.quota_limit)
        if not vitals.alarms.get("blind"):
            # What is told no more is over. While nobody can look, nothing is.
            for name in self._alarms_told - vitals.alarms.keys():
                self._alarm.labels(name).set(0)
        for name, level in vitals.alarms.items():
            self._alarm.labels(name).set(level)
        self._alarms_told |= vitals.alarms.keys()
        return generate_latest(self.registry)


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """GET /metrics: for whoever is on this machine, or has the operator's token."""

    metrics: Metrics
    watch: Watch
    operator_token_hash: bytes | None = None

    def routes(self) -> list[Route]:
        return [Route("/metrics", self.page, methods=["GET"])]

    async def page(self, request: Request) -> Response:
        if not (on_this_machine(request) or self._is_operator(request)):
            raise Problem(Code.INVALID_TOKEN, "metrics are for this machine, or for the operator's token")
        return Response(
            self.metrics.show(await self._vitals()),
            media_type="text/plain; version=0.0.4; charset=utf-8",
            headers={"Cache-Control": "no-store"},
        )

    async def _vitals(self) -> Vitals:
        """A store that does not answer is itself an alarm, and must not take the other numbers with it."""
        try:
            async with asyncio.timeout(WATCH_TIMEOUT_S):
                vitals = await self.watch()
        except Exception:  # noqa: BLE001 - whatever keeps us from knowing, the page must say that we do not know
            return Vitals(alarms={"blind": 1})
        return replace(vitals, alarms={**vitals.alarms, "blind": 0})

    def _is_operator(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return (
            self.operator_token_hash is not None
            and scheme.lower() == "bearer"
            and hmac.compare_digest(token_hash(token.strip()), self.operator_token_hash)
        )


def on_this_machine(request: Request) -> bool:
    """Whether a program here asks for itself: not a proxy here for somebody elsewhere, and not a web page in a
    browser here, whether by a cross-origin request or by a host name that was pointed at us."""
    headers = request.headers
    relayed = any(name in headers for name in ("x-forwarded-for", "forwarded", "via", "x-real-ip"))
    by_a_page = "origin" in headers or headers.get("sec-fetch-site", "none") != "none"
    return (
        is_loopback(peer_of(request.scope)) and not relayed and not by_a_page and _names_loopback(headers.get("host"))
    )


def _names_loopback(host: str | None) -> bool:
    name = (host or "").rsplit(":", 1)[0].strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
