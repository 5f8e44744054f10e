"""The guarded HTTP client: every request the gateway makes to somebody else's server.

Theory. An address is judged where the connection is made: a url's text first (core/addresses.py), then every address
its name resolves to, in the connector's resolver, whose answer is what is connected to. Nothing is looked up twice, so
nothing can change between the check and the connect (DNS rebinding), while Host and SNI keep the name. Connections
opened for `private` targets live in a pool of their own: one opened under one rule is never used under the other.

One request out, at most one: no redirects, no cookies, no proxies or .netrc from the environment, no second attempt.
aiohttp would silently repeat a GET whose reused connection broke, though the first may have been executed and billed;
the connector below hands out one connection for each exchange and refuses a second. Nor is a reused connection taken
on which something arrived unasked: aiohttp would take what trails behind one answer for the answer to the next
request, which is another tenant's.

Bytes are counted while they arrive, before and after decompression, and the deadline is absolute, so an answer that
drips for ever ends like one that never comes.
"""

import asyncio
import re
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from gateway.core.addresses import refuse_address, refuse_url
from gateway.core.http import CONNECTION_HEADERS, HttpFailure, HttpResponse

USER_AGENT: Final = "faregate/0.1"
ACCEPT: Final = "application/json, */*;q=0.5"

IDLE_S: Final = 4.0
"""How long an idle connection is kept: below the 5 s after which common servers hang up, so the two do not race."""
CONNECTIONS_MAX: Final = 2048
CONNECTIONS_PER_HOST_MAX: Final = 256
"""A host that hangs takes no more than this from the others."""
DNS_TTL_S: Final = 30
RATIO_MAX: Final = 100
RATIO_FLOOR_BYTES: Final = 256 * 1024
"""Above this size a body may be at most RATIO_MAX times as large as what came over the wire."""

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""host name -> its addresses. Raises OSError."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# aiohttp's exceptions, narrow before wide, in our words. No text of theirs goes on: it holds hosts and urls.
_BORDER: tuple[tuple[type[Exception], str, str], ...] = (
    (aiohttp.ClientConnectorDNSError, "dns", "the host's name cannot be resolved"),
    (aiohttp.ClientConnectorCertificateError, "connect", "the host's certificate is not valid"),
    (aiohttp.ClientConnectorSSLError, "connect", "no TLS connection could be made"),
    (aiohttp.ClientConnectorError, "connect", "no connection could be made"),
    (aiohttp.InvalidURL, "bad_url", "the url is none"),
    (aiohttp.ServerTimeoutError, "timeout", "no answer in time"),
    (aiohttp.ServerDisconnectedError, "protocol", "the connection was closed without an answer"),
    (aiohttp.ClientPayloadError, "protocol", "the answer broke off"),
    (aiohttp.ClientResponseError, "protocol", "the answer is no HTTP"),
    (aiohttp.ClientError, "protocol", "the exchange broke off"),
    (OSError, "protocol", "the exchange broke off"),
    (ValueError, "protocol", "the exchange broke off"),
)
_FOREIGN = tuple(foreign for foreign, _, _ in _BORDER)


class _Exchange:
    """How far one request has come. From the moment it has a connection it may have reached the other side."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = False


_EXCHANGE: ContextVar[_Exchange] = ContextVar("exchange")


class OutboundClient:
    """core.http.HttpClient. `async with OutboundClient() as client`, or start() and close().

    `lookup` and `tls` are for tests and for operators with a certificate authority of their own.
    """

    def __init__(
        self, *, user_agent: str = USER_AGENT, lookup: Lookup | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._user_agent = user_agent
        self._lookup = lookup or _lookup
        self._tls = tls
        self._outside: aiohttp.ClientSession | None = None
        self._next_door: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        self._outside = self._session(private=False)
        self._next_door = self._session(private=True)

    async def close(self) -> None:
        for session in (self._outside, self._next_door):
            if session is not None:
                await session.close()
        self._outside = self._next_door = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

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
        """One exchange, redirects included in what is answered rather than followed. Raises HttpFailure."""
        session = self._next_door if private else self._outside
        if session is None:
            raise RuntimeError("the outbound client is not started")
        refusal = refuse_url(url, private=private)
        if refusal is not None:
            raise HttpFailure(refusal.kind, refusal.message, sent=False)
        passed_on = _passed_on(headers) if headers else None
        exchange = _Exchange()
        mark = _EXCHANGE.set(exchange)
        try:
            async with asyncio.timeout(timeout_s):
                async with session.request(
                    method, URL(url, encoded=True), headers=passed_on, data=body, allow_redirects=False
                ) as response:
                    content = await _read(response, bytes_max)
                    return HttpResponse(response.status, _headers(response), content)
        except TimeoutError:
            raise HttpFailure("timeout", "no answer in time", sent=exchange.sent) from None
        except _FOREIGN as error:
            raise _translated(error, exchange.sent) from None
        finally:
            _EXCHANGE.reset(mark)

    def _session(self, *, private: bool) -> aiohttp.ClientSession:
        connector = _Connector(
            resolver=_GuardedResolver(self._lookup, private),
            ttl_dns_cache=DNS_TTL_S,
            keepalive_timeout=IDLE_S,
            limit=CONNECTIONS_MAX,
            limit_per_host=CONNECTIONS_PER_HOST_MAX,
            ssl=self._tls or True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # request() has the only clock
            headers={"User-Agent": self._user_agent, "Accept": ACCEPT, "Accept-Encoding": "gzip"},
        )


class _Connector(aiohttp.TCPConnector):
    """Hands out one connection for each exchange, and none that has spoken unasked."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        exchange = _EXCHANGE.get()
        if exchange.sent:
            raise HttpFailure("protocol", "the connection was closed without an answer", sent=True)
        connection = await super().connect(req, traces, timeout)
        while connection.protocol is not None and connection.protocol.should_close:
            connection.close()
            connection = await super().connect(req, traces, timeout)
        exchange.sent = True
        return connection


class _GuardedResolver(AbstractResolver):
    """Names into those of their addresses that may be called."""

    def __init__(self, lookup: Lookup, private: bool) -> None:
        self._lookup = lookup
        self._private = private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        refusal = None
        results = []
        for address in await self._lookup(host):
            refused = refuse_address(address, private=self._private)
            if refused is None:
                results.append(_result(host, address, port))
            refusal = refusal or refused
        if refusal is not None and not results:
            raise HttpFailure(refusal.kind, refusal.message, sent=False)
        if not results:
            raise OSError(f"{host} has no address")
        return results

    async def close(self) -> None:
        """There is nothing to close."""


def _result(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST,
    )


async def _lookup(host: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for _, _, _, _, sockaddr in found]


def lookup_in(threads: Executor) -> Lookup:
    """The system's resolver in threads of its own: a name whose server does not answer holds one for seconds, and
    strangers' names must not hold those that everybody else's wait for."""

    async def lookup(host: str) -> list[str]:
        ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(threads, ask)
        return [str(sockaddr[0]) for _, _, _, _, sockaddr in found]

    return lookup


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    passed_on = {}
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise HttpFailure("bad_header", "a request header has characters that no header may have", sent=False)
        if name.lower() not in CONNECTION_HEADERS:
            passed_on[name] = value
    return passed_on


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Names in lower case; of a name given several times all values, joined by a comma."""
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _translated(error: Exception, sent: bool) -> HttpFailure:
    kind, message = next((kind, message) for foreign, kind, message in _BORDER if isinstance(error, foreign))
    return HttpFailure(kind, message, sent=sent)


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return await _read_plain(response.content, bytes_max)
    if encoding in ("gzip", "x-gzip"):
        return await _read_gzip(response.content, bytes_max)
    raise HttpFailure("protocol", "the answer is packed in a way we did not ask for", sent=True)


async def _read_plain(content: aiohttp.StreamReader, bytes_max: int) -> bytes:
    chunks = []
    received = 0
    while chunk := await content.readany():
        received += len(chunk)
        if received > bytes_max:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


async def _read_gzip(content: aiohttp.StreamReader, bytes_max: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    body = bytearray()
    received = 0
    while chunk := await content.readany():
        received += len(chunk)
        try:
            body += inflater.decompress(chunk, bytes_max + 1 - len(body))
        except zlib.error:
            raise HttpFailure("protocol", "the answer is not packed as it says", sent=True) from None
        # Blocks that unpack to nothing cost time too, so what came over the wire has the same cap.
        if max(len(body), received) > bytes_max or len(body) > max(RATIO_FLOOR_BYTES, received * RATIO_MAX):
            raise _too_large()
    if received and (not inflater.eof or inflater.unused_data):
        raise HttpFailure("protocol", "the answer is not packed as it says", sent=True)
    return bytes(body)


def _too_large() -> HttpFailure:
    return HttpFailure("too_large", "the answer is larger than allowed", sent=True)
