"""Browsers from other origins: preflights are free, and every answer, 402 and errors too, lets a paying page read it.

Credentials in the browser's sense (cookies) are never allowed, so a wildcard is safe: whoever pays or authenticates
sends a header of his own making. The origin "null", which any sandboxed frame has, gets nothing (F-160).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALLOW_HEADERS = (
    "PAYMENT-SIGNATURE, X-PAYMENT, Content-Type, Authorization, Payment-Authorization, Idempotency-Key, "
    "X-Bill-Up-To-Usd, SIGN-IN-WITH-X, X-Charge-Token, X-Request-Id, "
    # The official clients send this response header as a request header on their paid retry.
    "Access-Control-Expose-Headers"
)
EXPOSE_HEADERS = (
    "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, WWW-Authenticate, Payment-Receipt, Retry-After, "
    "Location, X-Request-Id, X-Charge-Id, X-Charge-Token, Idempotent-Replay, X-Next-Cursor, RateLimit, RateLimit-Policy"
)
ALLOW_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
MAX_AGE_S = 7200

HeaderList = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Grant:
    """What one origin is told: as headers, and as the same lines ready to be sent."""

    origin: bytes | None
    """None: nothing is granted."""
    headers: HeaderList
    lines: bytes

    @classmethod
    def to(cls, origin: bytes | None) -> "Grant":
        headers: HeaderList = [(b"vary", b"Origin")]
        if origin is not None:
            headers += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSE_HEADERS.encode()),
            ]
        return cls(origin, headers, b"".join(b"%s: %s\r\n" % header for header in headers))


class Origins:
    """Which origin gets what; everything is made by the constructor."""

    def __init__(self, allowed: Iterable[str] = ("*",)) -> None:
        """`allowed`: origins as browsers spell them ("https://app.example.com"), or "*"."""
        origins = {origin.encode() for origin in allowed}
        nothing = Grant.to(None)
        self._known = {origin: Grant.to(origin) for origin in origins - {b"*"}} | {b"null": nothing}
        self._others = Grant.to(b"*") if b"*" in origins else nothing

    def grant(self, origin: bytes | None) -> Grant:
        return self._known.get(origin, self._others) if origin is not None else self._others

    def preflight(self, origin: bytes | None) -> HeaderList:
        grant = self.grant(origin)
        if grant.origin is None:
            return grant.headers
        return [
            *grant.headers,
            (b"access-control-allow-methods", ALLOW_METHODS.encode()),
            (b"access-control-allow-headers", ALLOW_HEADERS.encode()),
            (b"access-control-max-age", str(MAX_AGE_S).encode()),
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
            await send({"type": "http.response.start", "status": 204, "headers": self._origins.preflight(origin)})
            await send({"type": "http.response.body", "body": b""})
            return
        granted = self._origins.grant(origin).headers

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    h for h in message["headers"] if not h[0].startswith(b"access-control-")
                ] + granted
            await send(message)

        await self._app(scope, receive, add)
