"""The HTTP server: uvicorn on uvloop and httptools, with limits of our own on what a connection may take.

uvicorn bounds neither how long a request's head takes to arrive nor how large it is, and it answers a pipelined
mess at once, in front of the answer that is still being worked on. `Connection` adds (F-146, F-154):

    head        at most `head_bytes_max`, within `head_deadline_s` of its first byte, however it dribbles in
    framing     one Host; never both Content-Length and Transfer-Encoding; no coding but chunked; no CONNECT
    body        bounded by gateway/edge/bodies.py where it is read; where the answer came first, what is left of it
                is thrown away for `drain_s` and `drain_bytes_max`, then the connection goes
    reading     whoever stops reading his answer is cut off after `stalled_s`
    number      `connections_max`; a new one takes the place of one that waits for a request, else it gets a 503

Deadlines are no timers: each connection notes when its time is up, and one sweep ten times a second looks at all.
"""

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import ASGIApp, Message, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.core.errors import Code, Problem
from gateway.edge import problems
from gateway.edge.visit import RequestIds

PREPARED = "faregate.prepared"
"""ASGI extension: `await scope["extensions"][PREPARED](head, body)` answers with a status line and header lines that
were checked when they were made. uvicorn looks through every header's bytes for each answer: 30 us for a 402's."""

_UNSENDABLE = re.compile(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")

TICK_S = 0.1
DRAIN_POLL_S = 0.01
BACKLOG = 2048
EVICT_AMONG = 64
OTHER_FILES = 1024
"""Beside clients' connections: those to upstreams, chains and receivers of webhooks, the ledger, the log."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    connections_max: int = 4096
    head_bytes_max: int = 32_768
    head_deadline_s: float = 10.0
    idle_s: int = 75
    """Between two requests of one connection."""
    drain_s: float = 5.0
    drain_bytes_max: int = 262_144
    stalled_s: float = 30.0
    grace_s: float = 60.0
    """From SIGTERM to the end: what calls in flight have to come to theirs."""


class _Malformed(Exception):
    """Raised inside a parser callback, to stop the parser; the verdict is kept by the connection."""


class Connection(HttpToolsProtocol):
    def __init__(
        self, *args: Any, limits: ServerLimits, refused: Callable[[str], None], request_ids: RequestIds, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._refused = refused
        self._request_ids = request_ids
        self._due_s: float | None = None
        """When this connection's time is up, by the loop's clock; None while we are the ones who keep it waiting."""
        self._write_due_s: float | None = None
        self._over = False
        self._heard_all = False
        self._in_body = False
        self._head_begun = False
        self._head_bytes = 0
        self._discarded = 0
        self._verdict: tuple[str, Problem] | None = None
        self._upgrading = False
        self._running: RequestResponseCycle | None = None
        # Of the connection, not of the request: a scope that leads back to its own request is work for the collector.
        self._extensions: dict[str, Any] = {PREPARED: self._answer}

    # the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self._limits.connections_max and not self._make_room():
            self.transport = transport
            problem = Problem(Code.OVERLOADED, "too many connections; try again soon", retry_after_s=1)
            transport.write(_raw(problem, self._request_ids.new()))
            self._end("full")
            return
        super().connection_made(transport)
        self._due_s = self.loop.time() + self._limits.head_deadline_s

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn tells only the request that was read last. The one that is worked on would write to nobody, which is
        # an error in the log.
        if self._running is not None:
            self._running.disconnected = not self._running.response_complete
            self._running.message_event.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whoever has said all he wants to say may still listen: a whole request is answered before we hang up. With
        several behind one another it is taken for leaving."""
        if self._over or self._in_body or self.is_waiting or self.pipeline:
            return False
        self._heard_all = True
        return True

    def _make_room(self) -> bool:
        """Closes the connection that has waited longest for a request, among a few."""
        waiting = [each for each in islice(self._others(), EVICT_AMONG) if each.is_waiting]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda each: each._due_s or 0.0)
        oldest._end("full")
        return True

    def _others(self) -> "Iterator[Connection]":
        return iter(cast("set[Connection]", self.connections))

    @property
    def is_waiting(self) -> bool:
        """Nothing that it asked for is under way."""
        return not self._in_body and (self.cycle is None or self.cycle.response_complete)

    def sweep(self, now_s: float) -> None:
        """Called at every tick."""
        if self._write_due_s is not None and self._write_due_s < now_s:
            self._refused("stalled")
            self.transport.abort()
        elif self.transport.is_closing():
            # Closed, but its last answer is not taken: uvicorn would wait for ever.
            self._write_due_s = self._write_due_s or now_s + self._limits.drain_s
        elif self._due_s is not None and self._due_s < now_s:
            if self._over:
                self.transport.close()
            elif self._in_body:
                self._end("drain")
            elif self._head_begun:
                self._refuse("head_timeout", Problem(Code.REQUEST_TIMEOUT, "the request's head came too slowly"))
            else:
                self._end("idle")

    def _end(self, reason: str) -> None:
        self._over = True
        self._refused(reason)
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_due_s = self.loop.time() + self._limits.stalled_s

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_due_s = None

    # what comes in

    def data_received(self, data: bytes) -> None:
        if self._over:
            self._discard(data)
            return
        self._unset_keepalive_if_required()
        if not self._in_body:
            self._begin_head()
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(*(self._verdict or ("malformed", Problem(Code.BAD_REQUEST, "this is no HTTP/1.1 request"))))
        else:
            if not self._in_body and self._head_bytes > self._limits.head_bytes_max:
                self._refuse("head_too_large", _head_too_large(self._limits))

    def _begin_head(self) -> None:
        if not self._head_begun:
            self._head_begun = True
            self._due_s = self.loop.time() + self._limits.head_deadline_s

    def on_message_begin(self) -> None:
        self._begin_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._check_head()
        self._upgrading = self.parser.should_upgrade()
        if self._upgrading:
            return
        self._in_body = True
        self._due_s = None
        self._discarded = 0
        super().on_headers_complete()
        self.scope["extensions"] = self._extensions

    def _check_head(self) -> None:
        """What httptools lets pass and a proxy in front of us might read in another way."""
        # Only a head that came in one piece with others, or in many bytes, can be too large: else nothing is summed.
        if not 0 < self._head_bytes <= self._limits.head_bytes_max:
            length = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if length > self._limits.head_bytes_max:
                self._stop(_head_too_large(self._limits), "head_too_large")
        hosts = lengths = codings = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                lengths += 1
            elif name == b"transfer-encoding":
                codings += 1 if value.lower() == b"chunked" else 2
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._stop(Problem(Code.BAD_REQUEST, "this server speaks HTTP/1.1"))
        old = version == "1.0"
        if hosts > 1 or (not hosts and not old):
            self._stop(Problem(Code.BAD_REQUEST, "a request names one Host"))
        if lengths + codings > 1 or (codings and old):
            self._stop(Problem(Code.BAD_REQUEST, "the length of the body is ambiguous"))
        if self.parser.get_method() == b"CONNECT":
            self._stop(Problem(Code.METHOD_NOT_ALLOWED, "this is no proxy"))

    def _stop(self, problem: Problem, reason: str = "malformed") -> None:
        self._verdict = (reason, problem)
        raise _Malformed

    def _ignore_upgrade(self, rest: bytes) -> None:
        """We speak HTTP/1.1 only, and a server may ignore an Upgrade; but the parser stops at one. So the same request
        is read again without it (Java's client offers h2c with every first request, a POST's body behind it)."""
        hop = (b"connection", b"upgrade", b"http2-settings")
        closing = any(name == b"connection" and b"close" in value.lower() for name, value in self.headers)
        lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [b"%s: %s" % (name, value) for name, value in self.headers if name not in hop]
        lines += [b"connection: close"] * closing
        self.parser = httptools.HttpRequestParser(self)
        self._head_begun, self._head_bytes = False, 0
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:
            super().on_body(body)
            return
        self._discard(body)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > self._limits.drain_bytes_max and not self.transport.is_closing():
            self._end("drain")

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        super().on_message_complete()
        self._in_body = self._head_begun = False
        self._head_bytes = 0
        if self.cycle.response_complete:
            self._due_s = self.loop.time() + self._limits.idle_s

    # what goes out

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    async def _answer(self, head: bytes, body: bytes) -> None:
        cycle = self._running
        if self.flow.write_paused:
            await self.flow.drain()
        if cycle is None or cycle.disconnected:
            return
        lines = b"".join(b"%s: %s\r\n" % header for header in self.server_state.default_headers)
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((head, lines, end, b"" if cycle.scope["method"] == "HEAD" else body)))
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._heard_all and self.is_waiting:
            self.transport.close()
        elif self._in_body and self.cycle.response_complete:
            self._due_s = self.loop.time() + self._limits.drain_s

    def _refuse(self, reason: str, problem: Problem) -> None:
        """Answers what is no request, and closes. A whole request that is still being answered goes first, alone."""
        self._over = True
        self._refused(reason)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                self._due_s = None
                return
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        self.transport.write(_raw(problem, self._request_ids.new()))
        # Closing on bytes that were not read would be a reset, which can take the answer away from whoever reads it:
        # so our side ends here, and what still comes is thrown away for a while.
        self.transport.write_eof()
        self._discarded = 0
        self._due_s = self.loop.time() + self._limits.drain_s


def _head_too_large(limits: ServerLimits) -> Problem:
    return Problem(Code.HEADERS_TOO_LARGE, f"a request's head has at most {limits.head_bytes_max} bytes")


def _raw(problem: Problem, request_id: str) -> bytes:
    answer = problems.response(problem, request_id)
    lines = [b"HTTP/1.1 %d %s" % (problem.status, problem.code.value.encode())]
    lines += [b"%s: %s" % header for header in answer.raw_headers]
    lines += [b"x-request-id: " + request_id.encode(), b"x-content-type-options: nosniff", b"connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body)


async def send_whole(scope: Scope, send: Send, start: Message, body: Message) -> None:
    """The start of an answer and its body: by PREPARED, in one piece and after one look, where that is all of it."""
    prepared = (scope.get("extensions") or {}).get(PREPARED)
    head = _head(start) if prepared is not None and not body.get("more_body") else None
    if prepared is None or head is None:
        await send(start)
        await send(body)
    else:
        await prepared(head, body.get("body", b""))


def _head(start: Message) -> bytes | None:
    """Its lines; None where uvicorn is to decide: no length is given, or a header cannot be sent."""
    headers = start["headers"]
    lines = [STATUS_LINE[start["status"]], *[b"%s: %s\r\n" % header for header in headers]]
    head = b"".join(lines)
    whole = head.count(b"\r") == head.count(b"\n") == len(lines) and not _UNSENDABLE.search(head)
    return head if whole and any(name == b"content-length" for name, _ in headers) else None


class Server(uvicorn.Server):
    """uvicorn's server, with the sweep, and an end that is over when the last call is; used by `serving`."""

    def __init__(self, config: uvicorn.Config, grace_s: float) -> None:
        super().__init__(config)
        self._grace_s = grace_s

    async def tick(self) -> None:
        """Keeps the Date header and the deadlines, until cancelled."""
        loop = asyncio.get_running_loop()
        ticks = 0
        while True:
            await self.on_tick(ticks)
            for connection in list(self.server_state.connections):
                cast(Connection, connection).sweep(loop.time())
            ticks = (ticks + 1) % 864_000
            await asyncio.sleep(TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """No new connections; no new requests on those there are; what is in flight has the grace period."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._grace_s):
                while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn keeps sets of them, no event
                    await asyncio.sleep(DRAIN_POLL_S)
        for connection in list(state.connections):
            connection.transport.abort()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _nothing(reason: str) -> None:
    pass


@asynccontextmanager
async def serving(
    app: ASGIApp,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    limits: ServerLimits = ServerLimits(),
    refused: Callable[[str], None] = _nothing,
    listener: socket.socket | None = None,
) -> AsyncIterator[str]:
    """Serves `app` in the running loop; gives its URL. At the end: no new connections, then `grace_s` for the calls in
    flight. `refused` hears why connections were closed, as gateway.edge.metrics counts it. Raises OSError."""
    listener = listener or bind(host, port)
    server = Server(_config(app, limits, refused), limits.grace_s)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup([listener])
    ticking = asyncio.create_task(server.tick())
    bound = listener.getsockname()
    shown = f"[{bound[0]}]" if listener.family == socket.AF_INET6 else bound[0]
    try:
        await asyncio.sleep(0)  # the first tick: from the first answer on there is a Date
        yield f"http://{shown}:{bound[1]}"
    finally:
        await server.shutdown([listener])
        ticking.cancel()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError, as for a port that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    # Inherited by every connection. asyncio sets it only on sockets that name their protocol, which these do not,
    # and without it an answer's body waits 40 ms for the acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _config(app: ASGIApp, limits: ServerLimits, refused: Callable[[str], None]) -> uvicorn.Config:
    request_ids = RequestIds(time.time_ns() // 1_000_000, os.urandom(10))
    protocol = partial(Connection, limits=limits, refused=refused, request_ids=request_ids)
    return uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=limits.idle_s,
    )


Opened = Callable[[], AbstractAsyncContextManager[ASGIApp]]
"""Opens the gateway in the loop it will run in, gives its app, closes it when the last call has ended."""


def run(
    opened: Opened,
    host: str,
    port: int,
    *,
    limits: ServerLimits = ServerLimits(),
    refused: Callable[[str], None] = _nothing,
    ready: Callable[[str], None] = _nothing,
) -> None:
    """Serves until SIGTERM or SIGINT. The port is taken before anything is opened; `ready` hears the URL.
    Raises OSError, and whatever `opened` raises."""
    _bound_process(limits.connections_max + OTHER_FILES)
    listener = bind(host, port)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(opened, listener, limits, refused, ready))


async def _run(
    opened: Opened,
    listener: socket.socket,
    limits: ServerLimits,
    refused: Callable[[str], None],
    ready: Callable[[str], None],
) -> None:
    told = asyncio.Event()
    with _signals(told), listener:
        async with opened() as app, serving(app, limits=limits, refused=refused, listener=listener) as url:
            ready(url)
            await told.wait()


@contextmanager
def _signals(told: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, lambda *_: loop.call_soon_threadsafe(told.set)) for kind in kinds}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows has none
        return None
    return uvloop.new_event_loop


def _bound_process(files: int) -> None:
    """Files: many systems start a process with 1,024, which is less than our connections. Core dumps: none, they would
    hold keys and people (F-172)."""
    try:
        import resource
    except ImportError:  # Windows has neither
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
