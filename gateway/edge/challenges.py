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
from gateway.edge.server import PREPARED
from gateway.edge.visit import SECURITY_HEADERS, RequestIds, carries_token

PLACEHOLDER_ID = "req_00000000000000000000000000"
"""Stands in a prepared body where the request's own id goes."""

Unpaid = Callable[[Operation, str], Challenge | None]
"""(operation, request id) -> the 402 of a caller without credentials; None where its amount depends on the body."""

_CREDENTIALS = frozenset({b"authorization", b"payment-signature", b"x-payment"})
_LOOKED_AT = frozenset({b"content-length", b"referer"})


@dataclass(frozen=True, slots=True)
class _Prepared:
    headers: HeaderList
    head: bytes
    """Status line and `headers`, ready to be sent."""
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
            if name in _CREDENTIALS or (name in _LOOKED_AT and self._is_odd(name, value)):
                await self._app(scope, receive, send)
                return
            if name == b"origin":
                origin = value
            elif name == b"x-request-id":
                theirs = value
        prepared.count()
        grant = self._origins.grant(origin)
        request_id = self._request_ids.choose(theirs).encode()
        body = prepared.before_id + request_id + prepared.after_id if prepared.has_id else prepared.before_id
        extensions = scope.get("extensions")
        if extensions and PREPARED in extensions:
            head = b"%s%sx-request-id: %s\r\ncontent-length: %d\r\n" % (
                prepared.head,
                grant.lines,
                request_id,
                len(body),
            )
            await extensions[PREPARED](head, body)
            return
        own = [(b"x-request-id", request_id), (b"content-length", b"%d" % len(body))]
        headers = [*prepared.headers, *grant.headers, *own]
        await send({"type": "http.response.start", "status": 402, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _for(self, scope: Scope) -> _Prepared | None:
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            return None
        raw = raw_path(scope)
        found = self._paths.find(raw)
        if found is None or (scope["query_string"] and carries_token(scope["query_string"])):
            return None
        if found.parameters and carries_token(raw):
            return None
        return self._prepared.get(found.operation.id)  # of operations on sale alone

    def _is_odd(self, name: bytes, value: bytes) -> bool:
        if name == b"content-length":
            return declared_length(value) > self._body_bytes_max
        return carries_token(value)


def _prepare(challenge: Challenge, count: Callable[[], None]) -> _Prepared:
    before, _, after = challenge.body.partition(PLACEHOLDER_ID.encode())
    headers: HeaderList = [
        (b"content-type", b"application/json"),
        (b"payment-required", challenge.header),
        (b"cache-control", b"no-store"),
        *SECURITY_HEADERS,
    ]
    head = b"HTTP/1.1 402 Payment Required\r\n" + b"".join(b"%s: %s\r\n" % header for header in headers)
    return _Prepared(headers, head, before, after, len(before) < len(challenge.body), count)
