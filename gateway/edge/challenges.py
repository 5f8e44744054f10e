"""Unpaid 402s, in front of everything else: a dictionary look-up and bytes that were made at the start, around the
request's id and a repeat key that no other answer has.

Crawlers, and clients on their first try, ask without paying, and they are most of the traffic. Such a request
touches no store, no chain, no upstream and no parser of bodies, and writes no log line; it is counted (F-121). Too many
from one address are answered 429 here, as cheaply.
Anything that is not plainly such a request goes on to the app.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.core import ids
from gateway.core.catalogue import Catalogue, Operation
from gateway.core.x402.challenge import Challenge, Split, split
from gateway.edge import problems
from gateway.edge.bodies import declared_length
from gateway.edge.cors import HeaderList, Origins
from gateway.edge.limiter import Limiter, refusal
from gateway.edge.metrics import Metrics
from gateway.edge.paths import Paths, raw_path
from gateway.edge.server import PREPARED, send_whole
from gateway.edge.visit import SECURITY_HEADERS, Proxies, RequestIds, Standing, carries_token, peer_of

PLACEHOLDER_ID = "req_00000000000000000000000000"
"""Stands in a prepared body where the request's own id goes."""

Unpaid = Callable[[Operation, str, str], Challenge | None]
"""(operation, request id, repeat key) -> the 402 of a caller without credentials; None where its amount depends on the
body. The body has both, the id first, and the header the key."""

CREDENTIALS = frozenset({b"authorization", b"payment-signature", b"x-payment"})
_LOOKED_AT = frozenset({b"content-length", b"referer"})


@dataclass(frozen=True, slots=True)
class _Prepared:
    offer: Split
    """PAYMENT-REQUIRED."""
    headers: HeaderList
    """The others that are always the same."""
    head: bytes
    """Status line and the header of the offer as far as its key."""
    head_end: bytes
    """What comes behind the key, and `headers`."""
    body: tuple[bytes, bytes, bytes]
    """Before the id, between id and key, behind the key."""
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
        entropy: Callable[[int], bytes],
        metrics: Metrics,
        body_bytes_max: int,
        limiter: Limiter,
        proxies: Proxies,
    ) -> None:
        self._app = app
        self._limiter = limiter
        self._proxies = proxies
        self._paths = paths
        self._origins = origins
        self._request_ids = request_ids
        self._entropy = entropy
        self._body_bytes_max = body_bytes_max
        self._prepared: dict[str, _Prepared] = {}
        for operation in catalogue.operations:
            key = self._new_key()
            challenge = unpaid(operation, PLACEHOLDER_ID, key)
            if challenge is not None:
                self._prepared[operation.id] = _prepare(challenge, key, metrics.challenge(operation.id))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        prepared = self._for(scope)
        if prepared is None:
            await self._app(scope, receive, send)
            return
        origin = theirs = None
        for name, value in scope["headers"]:
            if name in CREDENTIALS or (name in _LOOKED_AT and self._is_odd(name, value)):
                await self._app(scope, receive, send)
                return
            if name == b"origin":
                origin = value
            elif name == b"x-request-id":
                theirs = value
        grant = self._origins.grant(origin)
        exceeded = self._limiter.unpaid(self._proxies.client(peer_of(scope), scope["headers"]))
        if exceeded is not None:
            await self._refuse(scope, send, exceeded, self._request_ids.choose(theirs), grant.headers)
            return
        prepared.count()
        request_id = self._request_ids.choose(theirs).encode()
        key = self._new_key().encode()
        middle = prepared.offer.middle(key)
        before, between, after = prepared.body
        body = b"".join((before, request_id, between, key, after))
        extensions = scope.get("extensions")
        if extensions and PREPARED in extensions:
            head = b"%s%s%s%sx-request-id: %s\r\ncontent-length: %d\r\n" % (
                prepared.head,
                middle,
                prepared.head_end,
                grant.lines,
                request_id,
                len(body),
            )
            await extensions[PREPARED](head, body)
            return
        own = [
            (b"payment-required", prepared.offer.before + middle + prepared.offer.after),
            (b"x-request-id", request_id),
            (b"content-length", b"%d" % len(body)),
        ]
        headers = [*prepared.headers, *grant.headers, *own]
        await send({"type": "http.response.start", "status": 402, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _refuse(self, scope: Scope, send: Send, exceeded: Standing, request_id: str, granted: HeaderList) -> None:
        answer = problems.response(refusal(exceeded), request_id)
        own = [*SECURITY_HEADERS, *exceeded.headers, (b"x-request-id", request_id.encode())]
        headers = [*answer.raw_headers, *granted, *own]
        start = {"type": "http.response.start", "status": answer.status_code, "headers": headers}
        body = b"" if scope["method"] == "HEAD" else bytes(answer.body)
        await send_whole(scope, send, start, {"type": "http.response.body", "body": body})

    def _new_key(self) -> str:
        return ids.new_repeat_key(self._entropy(ids.ENTROPY_REPEAT_KEY_BYTES))

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


def _prepare(challenge: Challenge, key: str, count: Callable[[], None]) -> _Prepared:
    """Raises ValueError where the challenge has no place for the id or the key."""
    offer = split(challenge.header, key)
    headers: HeaderList = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        *SECURITY_HEADERS,
    ]
    head = b"HTTP/1.1 402 Payment Required\r\npayment-required: " + offer.before
    head_end = b"\r\n".join((offer.after, *(b"%s: %s" % header for header in headers), b""))
    before, between, after = _pieces(challenge.body, PLACEHOLDER_ID, key)
    return _Prepared(offer, headers, head, head_end, (before, between, after), count)


def _pieces(body: bytes, *places: str) -> Iterator[bytes]:
    for place in places:
        piece, found, body = body.partition(place.encode())
        if not found:
            raise ValueError("an unpaid 402 has its request's id, and behind it its repeat key")
        yield piece
    yield body
