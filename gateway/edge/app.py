"""The way in, from the outside to the handlers:

    Challenges    unpaid 402s, answered here
    Visits        request id, caller's address, log line, metrics, security headers, RateLimit headers
    Cors          preflights, and headers on everything
    Problems      whatever is raised becomes the one envelope
    Doors         which handler, and the checks that come before any

The order of checks: a credential in the URL 400; unknown path 404; offline operation 503; Content-Length over the
limit 413; too many unpaid calls 429; then the paid endpoint, which looks at credentials first. What costs nothing is
counted by gateway/edge/limiter.py: what everybody may read here, what needs a token at its own door.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core.catalogue import Catalogue, Operation
from gateway.core.errors import Code, Problem
from gateway.edge.bodies import Limits, check_length
from gateway.edge.challenges import CREDENTIALS, Challenges, Unpaid
from gateway.edge.cors import Cors, Origins
from gateway.edge.documents import Documents
from gateway.edge.health import Health, Ready
from gateway.edge.limiter import Limiter
from gateway.edge.logs import Visits
from gateway.edge.metrics import Metrics, MetricsPage, Watch
from gateway.edge.paths import Found, Paths, raw_path
from gateway.edge.problems import Problems
from gateway.edge.visit import Proxies, RequestIds, Visit, carries_token, visit_of
from wellknown.identity import Identity

Paid = Callable[[Request, Operation], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True, slots=True)
class EdgeParts:
    """Everything the edge is made of; nothing in it is read from the environment or from a global."""

    catalogue: Catalogue
    identity: Identity
    paid: Paid
    """Answers a call of an online operation that brought a credential, or whose amount depends on its body."""
    unpaid: Unpaid
    ready: Ready
    watch: Watch
    metrics: Metrics
    request_ids: RequestIds
    entropy: Callable[[int], bytes]
    """So many random bytes, for the repeat keys of unpaid 402s."""
    routes: Sequence[BaseRoute] = ()
    """The free routes beside health, metrics and the documents."""
    limits: Limits = field(default_factory=Limits)
    limiter: Limiter = field(default_factory=lambda: Limiter({}, monotonic=monotonic))
    """Without one, nothing is limited."""
    origins: Sequence[str] = ("*",)
    trusted_proxies: Sequence[str] = ()
    operator_token_hash: bytes | None = None


def build_app(parts: EdgeParts) -> ASGIApp:
    """The whole edge as one ASGI app. It has no lifespan: what it uses is opened and closed by whoever gave it."""
    paths = Paths(parts.catalogue)
    origins = Origins(parts.origins)
    proxies = Proxies(parts.trusted_proxies)
    everybodys = [
        *Health(parts.ready).routes(),
        *MetricsPage(parts.metrics, parts.watch, parts.operator_token_hash).routes(),
        *Documents(parts.catalogue, parts.identity).routes(),
    ]
    free = Router([*everybodys, *parts.routes], redirect_slashes=False)
    open_paths = frozenset(route.path for route in everybodys)
    doors = Doors(paths, free, open_paths, parts.paid, parts.limits, parts.limiter)
    visits = Visits(Cors(Problems(doors), origins), parts.request_ids, proxies, parts.metrics)
    return Challenges(
        visits,
        catalogue=parts.catalogue,
        paths=paths,
        unpaid=parts.unpaid,
        origins=origins,
        request_ids=parts.request_ids,
        entropy=parts.entropy,
        metrics=parts.metrics,
        body_bytes_max=parts.limits.bytes_max,
        limiter=parts.limiter,
        proxies=proxies,
    )


class Doors:
    """ASGI: operations by their path in whatever method, everything else by Starlette's router."""

    def __init__(
        self, paths: Paths, free: Router, open_paths: frozenset[str], paid: Paid, limits: Limits, limiter: Limiter
    ) -> None:
        """`open_paths`: those of `free` that anybody may read."""
        self._paths = paths
        self._free = free
        self._open_paths = open_paths
        self._paid = paid
        self._limits = limits
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = raw_path(scope)
        refuse_credentials_in_url(scope, raw)
        found = self._paths.find(raw)
        if found is not None:
            scope["path_params"] = found.parameters
            request = Request(scope, receive)
            response = await self._operation(request, found)
            await response(scope, receive, send)
        elif raw == scope["path"].encode():
            await self._other(scope, receive, send)
        else:
            raise _nothing_here()  # a percent-encoded spelling of something is something else

    async def _operation(self, request: Request, found: Found) -> Response:
        operation = found.operation
        visit = visit_of(request)
        visit.route = operation.path
        if not found.online:
            raise Problem(Code.ROUTE_OFFLINE, "this operation is not on sale here at present")
        check_length(request, self._limits.bytes_max)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": f"{operation.method}, OPTIONS"})
        if not any(name in CREDENTIALS for name, _ in request.scope["headers"]):
            self._limiter.caller("unpaid", visit)  # its 402 depends on its body, which is not read yet
        return await self._paid(request, operation)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope["state"]["visit"]
        if scope["path"] in self._open_paths:
            self._limiter.caller("documents", visit)
        scope["app"] = self._free  # so that the router raises its 404 and 405, which Problems puts into the envelope
        try:
            await self._free(scope, receive, send)
        except HTTPException:
            if scope["path"] not in self._open_paths:
                self._limiter.caller("documents", visit)
            raise
        finally:
            route = scope.get("route")
            if isinstance(route, Route):
                visit.route = route.path


def refuse_credentials_in_url(scope: Scope, raw: bytes) -> None:
    """A token in a URL is in somebody's log already. It is never looked up, so that nobody gets used to it (F-132)."""
    referer = next((value for name, value in scope["headers"] if name == b"referer"), b"")
    if carries_token(raw) or carries_token(scope["query_string"]) or carries_token(referer):
        raise Problem(
            Code.BAD_REQUEST,
            "a token was sent in a URL; it is to be taken for known by others. Revoke it, and send the next one "
            "in the Authorization header",
        )


def _nothing_here() -> Problem:
    return Problem(Code.NOT_FOUND, "there is nothing at this path")
