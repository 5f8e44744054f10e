"""UP: a scriptable HTTP server on loopback, written on bare sockets so that it can misbehave to the byte.

    async with ScriptedUpstream() as up:
        up.on("/people", reply({"name": "Ada Example"}))
        up.on("/flaky", status(503), reply({"name": "Ada Example"}))      # one after the other, the last for ever
        ... call up.url("/people") ...
        assert up.seen[0].header("authorization") == "Bearer secret"

`seen` is the journal of every request that arrived whole: the ground truth for "work done". `connections` counts what
was accepted, whether or not a request came.
"""

import asyncio
import base64
import gzip
import itertools
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import orjson

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came in."""

    method: str
    target: str
    """Path and query, undecoded."""
    headers: tuple[tuple[str, str], ...]
    """Names as they were written."""
    body: bytes
    connection: int
    """Which connection it came on, counted from 1."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def names(self) -> set[str]:
        """The header names, in lower case."""
        return {name.lower() for name, _ in self.headers}


@dataclass(slots=True)
class Wire:
    """What a behaviour may do with its connection."""

    writer: asyncio.StreamWriter
    stopping: asyncio.Event
    keep: bool = True
    """Whether the connection stays open afterwards."""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def wait(self, seconds: float) -> None:
        """Sleeps, but wakes when the rig stops."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    def reset(self) -> None:
        """RST instead of FIN."""
        self.keep = False
        self.writer.transport.abort()


Behaviour = Callable[[Seen, Wire], Awaitable[None]]


@dataclass(slots=True)
class ScriptedUpstream:
    default: Behaviour | None = None
    host: str = "127.0.0.1"
    tls: Any = None
    read_body: bool = True
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _scripts: dict[str, list[Behaviour]] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def on(self, path: str, *behaviours: Behaviour) -> Self:
        self._scripts[path] = list(behaviours)
        return self

    def url(self, path: str = "/", host: str | None = None) -> str:
        return f"{'https' if self.tls else 'http'}://{host or self.host}:{self.port}{path}"

    async def arrived(self, count: int) -> None:
        """Waits until `count` requests have come in."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.seen) >= count)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(self.connections, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if self._stopping.is_set() else writer.close()

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(writer, self._stopping)
        while wire.keep:
            request = await self._read(number, reader)
            self.seen.append(request)
            async with self._news:
                self._news.notify_all()
            await self._behaviour(request.path)(request, wire)

    async def _read(self, number: int, reader: asyncio.StreamReader) -> Seen:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        length = int(next((value for name, value in headers if name.lower() == "content-length"), "0"))
        body = await reader.readexactly(length) if self.read_body else b""
        return Seen(method, target, headers, body, number)

    def _behaviour(self, path: str) -> Behaviour:
        script = self._scripts.get(path)
        if not script:
            return self.default or reply({"found": True})
        return script.pop(0) if len(script) > 1 else script[0]


def reply(
    value: object = None,
    *,
    status: int = 200,
    body: bytes | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    content_type: str | None = JSON,
    delay_s: float = 0.0,
) -> Behaviour:
    """A proper answer: `value` as JSON, or `body` as it is."""
    payload = orjson.dumps(value) if body is None else body
    extra = tuple(headers.items() if isinstance(headers, Mapping) else headers)

    async def behave(request: Seen, wire: Wire) -> None:
        if delay_s:
            await wire.wait(delay_s)
        kind = (("Content-Type", content_type),) if content_type else ()
        await wire.send(head(status, (*kind, *extra, ("Content-Length", str(len(payload))))) + payload)

    return behave


def status(code: int, *, headers: Mapping[str, str] | Iterable[tuple[str, str]] = (), value: Any = None) -> Behaviour:
    """An answer with this status; none of 204 and 304 has a body."""
    body = b"" if code in (204, 304) else orjson.dumps(value if value is not None else {"error": "scripted"})
    return reply(status=code, body=body, headers=headers)


def redirect(location: str, code: int = 302) -> Behaviour:
    return reply(status=code, body=b"", headers={"Location": location})


def cookie(*cookies: str, value: object = None) -> Behaviour:
    return reply(value or {"found": True}, headers=[("Set-Cookie", text) for text in cookies])


def raw(data: bytes, *, close: bool = True) -> Behaviour:
    """These bytes and nothing else."""

    async def behave(request: Seen, wire: Wire) -> None:
        wire.keep = not close
        await wire.send(data)

    return behave


def garbage() -> Behaviour:
    return raw(b"\x00\x01 this is no HTTP \xff\xfe\r\n\r\n")


def wrong_length(declared: int, body: bytes) -> Behaviour:
    """Says one length and sends another, then hangs up."""
    return raw(head(200, (("Content-Type", JSON), ("Content-Length", str(declared)))) + body)


def reset() -> Behaviour:
    """The work is done (it is in the journal), the answer is lost."""

    async def behave(request: Seen, wire: Wire) -> None:
        wire.reset()

    return behave


def hang_up() -> Behaviour:
    """Like reset(), politely."""
    return raw(b"")


def hang() -> Behaviour:
    """Never answers."""

    async def behave(request: Seen, wire: Wire) -> None:
        wire.keep = False
        await wire.wait(3600)

    return behave


def drip(body: bytes, *, every_s: float = 0.02, whole_head: bool = True) -> Behaviour:
    """A byte at a time; with `whole_head` false the head as well."""

    async def behave(request: Seen, wire: Wire) -> None:
        start = head(200, (("Content-Type", JSON), ("Content-Length", str(len(body)))))
        if whole_head:
            await wire.send(start)
        for byte in body if whole_head else start + body:
            await wire.send(bytes([byte]))
            await wire.wait(every_s)

    return behave


def endless(chunk: bytes = b" " * 65536, *, packed: bool = False) -> Behaviour:
    """A chunked body without an end. `packed`: as a gzip stream whose blocks unpack to nothing."""
    empty_block = b"\x00\x00\x00\xff\xff"
    start = gzip_start() if packed else b""
    data = empty_block * (len(chunk) // len(empty_block)) if packed else chunk

    async def behave(request: Seen, wire: Wire) -> None:
        wire.keep = False
        kind = (("Content-Type", JSON), ("Transfer-Encoding", "chunked"))
        await wire.send(head(200, (*kind, ("Content-Encoding", "gzip")) if packed else kind))
        for part in itertools.chain([start] if start else [], itertools.repeat(data)):
            await wire.send(b"%x\r\n%s\r\n" % (len(part), part))
            if wire.stopping.is_set():
                return

    return behave


def interim_for_ever() -> Behaviour:
    """`103 Early Hints` again and again, and never a final answer."""

    async def behave(request: Seen, wire: Wire) -> None:
        wire.keep = False
        while not wire.stopping.is_set():
            await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            await wire.wait(0.01)

    return behave


def bomb(size: int, *, members: int = 1) -> Behaviour:
    """`size` spaces that travel as a thousandth of that, made without ever holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * 65536
    body = b"".join([*(packer.compress(block) for _ in range(size // len(block))), packer.flush()]) * members
    return reply(body=body, headers={"Content-Encoding": "gzip"})


def packed(value: object) -> Behaviour:
    return reply(body=gzip.compress(orjson.dumps(value)), headers={"Content-Encoding": "gzip"})


def echo(form: str = "plain", *, code: int = 200) -> Behaviour:
    """Tells the request back: its target, headers and body. `form`: plain, base64, url, gzip, escaped, header."""

    async def behave(request: Seen, wire: Wire) -> None:
        told = "\n".join([request.target, *(f"{name}: {value}" for name, value in request.headers)])
        told += "\n" + request.body.decode("utf-8", "replace")
        answer = reply({"you_sent": _dressed(told, form)}, status=code)
        if form == "gzip":
            answer = packed({"you_sent": told})
        elif form == "escaped":
            escaped = "".join(f"\\u{ord(char):04x}" for char in told)
            answer = reply(status=code, body=b'{"you_sent": "%s"}' % escaped.encode())
        elif form == "header":
            headers = {"X-Seen": told.replace("\n", " ")}
            answer = reply({"found": True}, status=code, headers=headers)
        await answer(request, wire)

    return behave


def _dressed(text: str, form: str) -> str:
    match form:
        case "base64":
            return base64.b64encode(text.encode()).decode()
        case "base64url":
            return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        case "url":
            return quote(text, safe="")
        case "url-every-byte":
            return "".join(f"%{byte:02x}" for byte in text.encode())
        case "hex":
            return text.encode().hex()
        case _:
            return text


def late(value: object, *trailing: bytes, after_s: float = 0.0) -> Behaviour:
    """A proper answer, and then bytes nobody asked for."""

    async def behave(request: Seen, wire: Wire) -> None:
        await reply(value)(request, wire)
        for data in trailing:
            await wire.wait(after_s)
            await wire.send(data)

    return behave


def answer_bytes(value: object) -> bytes:
    """A whole 200 answer, to be planted where it does not belong."""
    body = orjson.dumps(value)
    return head(200, (("Content-Type", JSON), ("Content-Length", str(len(body))))) + body


def head(code: int, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {code} Scripted", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def gzip_start() -> bytes:
    """The ten bytes every gzip stream begins with."""
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
