"""Who is asking: the request's id, the caller's address, and the facts its log line will tell.

A visit is made once for each request, by gateway/edge/logs.py, and travels in the request's state; handlers read
`request.state.request_id` and may add to `visit_of(request).facts`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import count
from urllib.parse import unquote

from starlette.requests import Request
from starlette.types import Scope

from gateway.core.ids import new_id

Headers = Iterable[tuple[bytes, bytes]]

REQUEST_ID = re.compile(
    rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"  # UUID
    rb"|[0-9a-f]{32}"  # UUID without dashes, trace id
    rb"|(?:[a-z]{2,5}_)?[0-9a-hjkmnp-tv-z]{26}",  # ULID, or one of ours
    re.IGNORECASE,
)
"""What we take from a client's X-Request-Id: ids that machines make. It is echoed and logged, so whatever could hold
a header break, a token, a name or a phone number gets an id of ours instead (F-157, F-172)."""

TOKEN = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{1,16}_[0-9A-Za-z]{49}(?![0-9A-Za-z])")
"""The form of every token of ours, whatever its prefix (gateway/core/ids.py). A mistyped one is a secret, too."""


SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
"""On every answer: JSON is never taken for a page, and where a browser goes from here learns nothing of its URL."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands with a limit, as the headers RateLimit-Policy and RateLimit tell it
    (draft-ietf-httpapi-ratelimit-headers-11)."""

    policy: str
    quota: int
    window_s: int
    remaining: int
    reset_s: int
    """Seconds until the window ends, 1 at least."""
    exceeded: bool

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        policy = f'"{self.policy}";q={self.quota};w={self.window_s}'
        return [
            (b"ratelimit-policy", policy.encode()),
            (b"ratelimit", f'"{self.policy}";r={self.remaining};t={self.reset_s}'.encode()),
        ]


@dataclass(slots=True)
class Visit:
    """One request, as far as logs, metrics and limits need to know it."""

    request_id: str
    client: str
    """The caller's address: the nearest hop that is not one of our own proxies."""
    route: str = "unknown"
    """The path's template as it stands in our tables, never what was asked for."""
    facts: dict[str, str | int | bool] = field(default_factory=dict)
    """What the log line tells beyond the obvious, as charge_id, outcome, code. Never a person, never a secret."""

    standing: Standing | None = None
    """With the limit that this caller is nearest to, of those that were looked at."""

    def stands(self, standing: Standing) -> None:
        now = self.standing
        if now is None or (standing.exceeded, -standing.remaining) > (now.exceeded, -now.remaining):
            self.standing = standing


def visit_of(request: Request) -> Visit:
    visit: Visit = request.state.visit
    return visit


class RequestIds:
    """`req_` ids: a stem of start time and random bits, then a counter; 0.3 us each, unique among processes.

    They are no secrets: nothing is granted to whoever knows one.
    """

    def __init__(self, now_ms: int, entropy: bytes) -> None:
        self._stem = new_id("req_", now_ms, entropy)[:-10]
        self._count = count()

    def new(self) -> str:
        return f"{self._stem}{next(self._count):010x}"

    def choose(self, theirs: bytes | None) -> str:
        """The client's own id if it is one that a machine made, else a new one."""
        if theirs is not None and REQUEST_ID.fullmatch(theirs):
            return theirs.decode()
        return self.new()


class Proxies:
    """The proxies whose X-Forwarded-For we believe. Of anybody else the header is noise (F-158)."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """`trusted`: addresses or networks, "10.0.0.0/8". Raises ValueError for what is neither."""
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(text, strict=False) for text in trusted
        )
        self._known = lru_cache(maxsize=4096)(self._walk)

    def client(self, peer: str, headers: Headers) -> str:
        """The nearest hop that is not one of ours."""
        if not self._networks:
            return peer
        return self._known(peer, b",".join(value for name, value in headers if name == b"x-forwarded-for"))

    def _walk(self, peer: str, forwarded: bytes) -> str:
        """From the nearest hop to the farthest; stops at the first that is not ours."""
        if not self._trusts(peer):
            return peer
        for hop in reversed(forwarded.decode("latin-1").split(",")):
            address = _address(hop.strip())
            if address is None:
                break  # a hop nobody can name: whatever stands before it was made up
            peer = str(address)
            if not self._trusts(peer):
                break
        return peer

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._networks)


def peer_of(scope: Scope) -> str:
    """The address at the other end of the connection, whatever any header says."""
    client = scope.get("client")
    return str(client[0]) if client else ""


@lru_cache(maxsize=8192)
def counted_as(client: str) -> tuple[str, str] | None:
    """What a caller is counted by, (address, network): an IPv4 address and its /24; the /64 that an IPv6 caller owns
    whole, and its /48. None: it comes from this machine."""
    address = _address(client)
    if address is None or address.is_loopback:
        return None
    narrow, wide = (32, 24) if isinstance(address, IPv4Address) else (64, 48)
    return _network(address, narrow), _network(address, wide)


def _network(address: IPv4Address | IPv6Address, length: int) -> str:
    """By hand: `ip_network` takes five times as long, and a flood has many addresses."""
    rest = address.max_prefixlen - length
    return f"{type(address)(int(address) >> rest << rest)}/{length}"


def is_loopback(text: str) -> bool:
    address = _address(text)
    return address is not None and address.is_loopback


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def carries_token(text: bytes) -> bool:
    """Whether something with the form of one of our tokens is in a URL, plain or percent-encoded."""
    return TOKEN.search(unquote(text.decode("latin-1"))) is not None
