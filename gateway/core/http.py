"""What the rest of the gateway sees of the outbound HTTP client. The client itself is gateway/outbound.py."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

CONNECTION_HEADERS = frozenset(
    {
        "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "http2-settings", "expect", "host", "content-length", "accept-encoding",
        "forwarded", "via",
    }
)  # fmt: skip
"""Request headers that belong to the connection: the client writes them or nobody does; a caller's are left out."""


NEVER_RELAYED = re.compile(
    r"set-cookie2?|cookie|(x-)?payment-.*|x-payment|x-charge-.*|x-request-id|idempotent-replay|www-authenticate"
    r"|(proxy-)?authorization|proxy-.*|access-control-.*|content-.*|cross-origin-.*|x-frame-options"
    r"|x-content-type-options|x-xss-protection|permissions-policy|referrer-policy|strict-transport-security"
    r"|cache-control|expires|pragma|age|vary|clear-site-data|service-worker-.*|location|refresh|link|alt-svc|nel"
    r"|report(ing)?-.*|server|server-timing|via|x-powered-by|date|connection|keep-alive|te|trailer|transfer-encoding"
    r"|upgrade|x-accel-.*|x-sendfile|retry-after|x-forwarded-.*|forwarded|sourcemap|origin-.*|accept-ch|set-login"
)
"""Response headers, in lower case, that are never taken over from an upstream: they would speak for this gateway, to
the client, its browser or a cache (F-147)."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A whole answer, within the caps that were asked for. Header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class HttpFailure(Exception):
    """No usable answer. `sent` tells whether the request may have reached the other side; the text names no secret."""

    def __init__(self, kind: str, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        """refused_address, bad_url, bad_header, dns, connect, timeout, too_large, redirect, protocol"""
        self.sent = sent


class HttpClient(Protocol):
    """One request out, one answer back: guarded addresses, no redirects, caps on bytes and time."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_s: float,
        bytes_max: int,
        private: bool = False,
    ) -> HttpResponse:
        """Raises HttpFailure. `private` allows loopback and private addresses, for what runs next door."""
        ...
