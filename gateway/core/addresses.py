"""Which urls and addresses the gateway may call.

The outside world is what is globally reachable and carries web traffic. What runs next door (loopback, the private
ranges, an overlay network) is allowed only where the operator says `private`. Some addresses are never called: those
that hand out a cloud machine's credentials, link-local, multicast, unspecified and reserved ones, and every IPv6 form
that carries another address inside it, for such a form reaches wherever the inner one points.

The grammar of a url is narrower than the standard's, so that no two parsers can read one text as two targets: lower
case `http` or `https`, no user-info, no fragment, no backslash, no space, host names of ASCII labels, IPv4 in plain
dotted decimal only (never `2130706433`, `0x7f.1` or `0177.0.0.1`), IPv6 in brackets without a zone.

Ports in the outside world: 80, 443, and from 1024 up all but those where something listens that is no web server and
could be talked into a mischief by a line of text. Next door any port will do.

The standard library's `is_global` is no help: to Python 3.11 NAT64, 6to4, multicast and 192.0.0.192 are global.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, NamedTuple

URL_CHARS_MAX = 8192

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?"
    r"(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?",
    re.ASCII,
)
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)


class Refusal(NamedTuple):
    """Why a url or an address is not called. The message names neither."""

    kind: Literal["bad_url", "refused_address"]
    message: str


def _v4(*networks: str) -> tuple[IPv4Network, ...]:
    return tuple(IPv4Network(network) for network in networks)


def _v6(*networks: str) -> tuple[IPv6Network, ...]:
    return tuple(IPv6Network(network) for network in networks)


_METADATA = frozenset(
    {
        IPv4Address("169.254.169.254"),  # nearly every cloud; inside link-local, listed for the message
        IPv4Address("100.100.100.200"),  # Alibaba, inside the shared range
        IPv4Address("168.63.129.16"),  # Azure, a public address
        IPv4Address("192.0.0.192"),  # Oracle
        IPv6Address("fd00:ec2::254"),  # AWS, inside the unique-local range
        IPv6Address("fd20:ce::254"),  # Google
    }
)

_NEXT_DOOR_V4 = _v4("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
_NEXT_DOOR_V6 = _v6("::1/128", "fc00::/7")

_NEVER_V4 = _v4(
    "0.0.0.0/8",  # "this network": a connect to 0.0.0.0 reaches loopback
    "169.254.0.0/16",  # link-local
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.31.196.0/24",  # AS112
    "192.52.193.0/24",  # AMT
    "192.88.99.0/24",  # 6to4 relays
    "192.175.48.0/24",  # AS112
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, and broadcast
)

# All of IPv6 that was ever given out as global unicast; what lies outside (IPv4-compatible and -mapped, NAT64,
# discard, link-local, site-local, multicast, segment routing ...) needs no list of its own.
_GLOBAL_V6 = IPv6Network("2000::/3")
_NEVER_V6 = _v6(
    "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks, AMT, AS112
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4: an IPv4 address inside
    "2620:4f:8000::/48",  # AS112
    "3fff::/20",  # documentation
)

_WEB_PORTS = frozenset({80, 443})
_FIRST_FREE_PORT = 1024
# Fetch's list of blocked ports, and where data stores, queues and cluster controls listen.
_NO_WEB_PORTS = frozenset(
    {
        1433, 1521, 1719, 1720, 1723, 1883, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190,
        4369, 5060, 5061, 5432, 5672, 5984, 5985, 5986, 6000, 6379, 6380, 6443, 6566, 6665, 6666, 6667, 6668,
        6669, 6697, 7000, 7001, 8125, 8500, 9042, 9092, 9200, 9300, 10080, 10250, 10255, 11211, 11434, 15672,
        26257, 27017, 27018, 28017, 50070,
    }
)  # fmt: skip

NEXT_DOOR_MESSAGE = "the address is on this machine or a private network, which only `private = true` allows"


def refuse_url(url: str, *, private: bool = False) -> Refusal | None:
    """None when `url` may be requested, as far as its text tells. A name's addresses are judged when it is resolved."""
    found = _URL.fullmatch(url)
    if found is None or len(url) > URL_CHARS_MAX:
        return Refusal("bad_url", "the url is none we call: http or https, a host, no user-info, no odd characters")
    return _refuse_origin(found["host"], found["scheme"], found["port"], private)


def host_of(url: str) -> str | None:
    """The host in `url`, in lower case, or None when it is no url we would call."""
    found = _URL.fullmatch(url)
    return found["host"].lower() if found else None


@lru_cache(maxsize=4096)
def _refuse_origin(host: str, scheme: str, port: str | None, private: bool) -> Refusal | None:
    number = int(port) if port else {"http": 80, "https": 443}[scheme]
    return _refuse_port(number, private) or _refuse_host(host, private)


def _refuse_port(port: int, private: bool) -> Refusal | None:
    if not 0 < port <= 65535:
        return Refusal("bad_url", "the url's port is none")
    if private or port in _WEB_PORTS or (port >= _FIRST_FREE_PORT and port not in _NO_WEB_PORTS):
        return None
    return Refusal("bad_url", "the url's port is no web server's")


def _refuse_host(host: str, private: bool) -> Refusal | None:
    if host.startswith("["):
        return refuse_address(host[1:-1], private=private)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # A resolver would take 2130706433, 0x7f.1 and 127.1 for loopback; only the plain form means what it says.
        return refuse_address(host, private=private)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return Refusal("bad_url", "the url's host is no host name")
    return None


@lru_cache(maxsize=4096)
def refuse_address(text: str, *, private: bool = False) -> Refusal | None:
    """None when the IPv4 or IPv6 address may be connected to. Anything that is no plain address is refused."""
    address = _parse(text)
    if address is None:
        return Refusal("refused_address", "the host is no plain IP address")
    if address in _METADATA:
        return Refusal("refused_address", "the address is a cloud's metadata service")
    if isinstance(address, IPv4Address):
        return _judge(_within(address, _NEXT_DOOR_V4), _within(address, _NEVER_V4), private)
    outside = address not in _GLOBAL_V6 or _within(address, _NEVER_V6)
    return _judge(_within(address, _NEXT_DOOR_V6), outside, private)


def _judge(next_door: bool, never: bool, private: bool) -> Refusal | None:
    if next_door:
        return None if private else Refusal("refused_address", NEXT_DOOR_MESSAGE)
    return Refusal("refused_address", "the address is not globally reachable") if never else None


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        if ":" not in text:
            return IPv4Address(text)
        address = IPv6Address(text)
    except AddressValueError:
        return None
    return None if address.scope_id else address


def _within(address: IPv4Address | IPv6Address, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)
