"""HTTP/1.1 by hand: bytes out, bytes in, so that a test can say what no client library would."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson


@dataclass(frozen=True)
class Reply:
    status: int
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in their order."""
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        """Raises AssertionError when it is there twice."""
        values = self.all(name)
        assert len(values) < 2, f"{name} stands there {len(values)} times"
        return values[0] if values else None

    def json(self) -> dict:
        return orjson.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, url: str, limit: int = 1 << 20) -> "Wire":
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=limit))

    async def __aenter__(self) -> "Wire":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self, *, head_only: bool = False, timeout_s: float = 5) -> Reply:
        """The next answer. Raises EOFError or ConnectionError when the other side has closed."""
        async with asyncio.timeout(timeout_s):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as closed:
                raise EOFError(closed.partial) from None
            lines = head[:-4].decode("latin-1").split("\r\n")
            assert not any("\n" in line or "\r" in line for line in lines), "a header was split"
            headers = tuple(_field(line) for line in lines[1:])
            reply = Reply(int(lines[0].split()[1]), headers, b"")
            if head_only or reply.status in (204, 304):
                return reply
            body = await self.reader.readexactly(int(reply.header("content-length") or 0))
        return Reply(reply.status, headers, body)

    async def closed(self, timeout_s: float = 5) -> bytes:
        """What still comes until the other side closes."""
        async with asyncio.timeout(timeout_s):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


def request(method: str, target: str, *headers: tuple[str, str], body: bytes = b"") -> bytes:
    """A well-formed request; Content-Length is added when there is a body and no such header."""
    fields = [("Host", "127.0.0.1"), *headers]
    if body and not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in fields):
        fields.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def ask(url: str, method: str, target: str, *headers: tuple[str, str], body: bytes = b"") -> Reply:
    """One request on a connection of its own."""
    async with await Wire.to(url) as wire:
        wire.send(request(method, target, *headers, body=body))
        return await wire.reply(head_only=method == "HEAD")


@asynccontextmanager
async def withheld(
    url: str, method: str, target: str, *headers: tuple[str, str], body: bytes
) -> AsyncIterator[Callable[[], Awaitable[Reply]]]:
    """A request whose body is asked for and does not come: whatever is looked at before it was looked at. What this
    yields sends it, and answers with what comes of it."""
    async with await Wire.to(url) as wire:
        length = ("Content-Length", str(len(body)))
        wire.send(request(method, target, *headers, length, ("Expect", "100-continue")))
        assert (await wire.reply(head_only=True)).status == 100

        async def sent() -> Reply:
            wire.send(body)
            return await wire.reply()

        yield sent


async def flood(wire: Wire, number: int) -> None:
    """Sends at least so many bytes of chunks. Raises ConnectionError when the other side has had enough."""
    for _ in range(number // 0x2000 + 1):
        wire.send(b"2000\r\n" + b"1" * 0x2000 + b"\r\n")
        await wire.writer.drain()
