"""Browsers from other origins: preflights are free, and every answer, 402 and errors too, lets a paying page read it.

Credentials in the browser's sense (cookies) are never allowed, so a wildcard is safe: whoever pays or authenticates
sends a header of his own making. The origin "null", which any sandboxed frame has, gets nothing (F-160).
"""

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALLOW_HEADERS = (
    "PAYMENT-SIGNATURE, X-PAYMENT, Content-Type, Authorization, Payment-Authorization, Idempotency-Key, "
    "SIGN-IN-WITH-X, X-Charge-Token, X-Request-Id, "
    # The official clients send this response header as a request header on their paid retry.
    "Access-Control-Expose-Headers"
)
EXPOSE_HEADERS = (
    "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, WWW-Authenticate, Payment-Receipt, Retry-After, "
    "Location, X-Request-Id, X-Charge-Id, X-Charge-Token, Idempotent-Replay"
)
ALLOW_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
MAX_AGE_S = 7200

HeaderList = list[tuple[bytes, bytes]]

_VARY: HeaderList = [(b"vary", b"Origin")]


class Origins:
    """Which headers an answer to an origin has."""

    def __init__(self, allowed: Iterable[str] = ("*",)) -> None:
        """`allowed`: origins as browsers spell them ("https://app.example.com"), or "*"."""
        origins = frozenset(origin.encode() for origin in allowed)
        self._any = b"*" in origins
        self._allowed = origins - {b"*", b"null"}
        self._wildcard = self._grant(b"*")

    def headers(self, origin: bytes | None) -> HeaderList:
        """The same list object for the same case: to be read, not to be changed."""
        if origin == b"null":
            return _VARY
        if self._any:
            return self._wildcard
        return self._grant(origin) if origin in self._allowed and origin is not None else _VARY

    def preflight(self, origin: bytes | None) -> HeaderList:
        granted = self.headers(origin)
        if granted is _VARY:
            return granted
        return [
            *granted,
            (b"access-control-allow-methods", ALLOW_METHODS.encode()),
            (b"access-control-allow-headers", ALLOW_HEADERS.encode()),
            (b"access-control-max-age", str(MAX_AGE_S).encode()),
        ]

    def _grant(self, origin: bytes) -> HeaderList:
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSE_HEADERS.encode()),
            *_VARY,
        ]


class Cors:
    """ASGI: answers preflights, and puts its headers on everything else. An upstream's own are never let through."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = asked = None
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value
            elif name == b"access-control-request-method":
                asked = value
        if scope["method"] == "OPTIONS" and asked is not None:
            headers = [*self._origins.preflight(origin), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        granted = self._origins.headers(origin)

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    h for h in message["headers"] if not h[0].startswith(b"access-control-")
                ] + granted
            await send(message)

        await self._app(scope, receive, add)
