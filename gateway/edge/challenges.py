"""Unpaid 402s, in front of everything else: a dictionary look-up and bytes that were made at the start.

Crawlers, and clients on their first try, ask without paying, and they are most of the traffic. Such a request
touches no store, no chain, no upstream and no parser of bodies, and writes no log line; it is counted (F-121).
Anything that is not plainly such a request goes on to the app.
"""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core.catalogue import Catalogue, Operation
from gateway.core.x402.challenge import Challenge
from gateway.edge.bodies import declared_length
from gateway.edge.cors import HeaderList, Origins
from gateway.edge.metrics import Metrics
from gateway.edge.paths import Paths, raw_path
from gateway.edge.visit import SECURITY_HEADERS, RequestIds, carries_token

PLACEHOLDER_ID = "req_00000000000000000000000000"
"""Stands in a prepared body where the request's own id goes."""

Unpaid = Callable[[Operation, str], Challenge | None]
"""(operation, request id) -> the 402 of a caller without credentials; None where its amount depends on the body."""

_CREDENTIALS = frozenset({b"authorization", b"payment-signature", b"x-payment"})


@dataclass(frozen=True, slots=True)
class _Prepared:
    headers: HeaderList
    before_id: bytes
    after_id: bytes
    has_id: bool
    count: Callable[[], None]


class Challenges:
    """ASGI: answers the unpaid, hands on the rest. Everything is built by the constructor."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        catalogue: Catalogue,
        paths: Paths,
        unpaid: Unpaid,
        origins: Origins,
        request_ids: RequestIds,
        metrics: Metrics,
        body_bytes_max: int,
    ) -> None:
        self._app = app
        self._paths = paths
        self._origins = origins
        self._request_ids = request_ids
        self._body_bytes_max = body_bytes_max
        self._prepared: dict[str, _Prepared] = {}
        for operation in catalogue.operations:
            challenge = unpaid(operation, PLACEHOLDER_ID)
            if challenge is not None:
                self._prepared[operation.id] = _prepare(challenge, metrics.challenge(operation.id))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prepared = self._for(scope)
        if prepared is None:
            await self._app(scope, receive, send)
            return
        origin = theirs = None
        for name, value in scope["headers"]:
            if name in _CREDENTIALS or self._needs_a_look(name, value):
                await self._app(scope, receive, send)
                return
            if name == b"origin":
                origin = value
            elif name == b"x-request-id":
                theirs = value
        prepared.count()
        request_id = self._request_ids.choose(theirs).encode()
        body = prepared.before_id + request_id + prepared.after_id if prepared.has_id else prepared.before_id
        headers = [
            *prepared.headers,
            *self._origins.headers(origin),
            (b"x-request-id", request_id),
            (b"content-length", b"%d" % len(body)),
        ]
        await send({"type": "http.response.start", "status": 402, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _for(self, scope: Scope) -> _Prepared | None:
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            return None
        found = self._paths.find(raw_path(scope))
        if found is None or (scope["query_string"] and carries_token(scope["query_string"])):
            return None
        return self._prepared.get(found.operation.id) if found.online else None

    def _needs_a_look(self, name: bytes, value: bytes) -> bool:
        if name == b"content-length":
            return declared_length(value) > self._body_bytes_max
        return name == b"referer" and carries_token(value)


def _prepare(challenge: Challenge, count: Callable[[], None]) -> _Prepared:
    before, _, after = challenge.body.partition(PLACEHOLDER_ID.encode())
    headers: HeaderList = [
        (b"content-type", b"application/json"),
        (b"payment-required", challenge.header),
        (b"cache-control", b"no-store"),
        *SECURITY_HEADERS,
    ]
    return _Prepared(headers, before, after, len(before) < len(challenge.body), count)
