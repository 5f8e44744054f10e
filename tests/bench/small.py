"""The API that ours sells in the bench: one fixed JSON answer, as cheap as a server can be.

small.py PORT [DELAY_MS [GATE]]     each answer that much later, and none before the file GATE is there
"""

import asyncio
import sys
from pathlib import Path

import uvloop

BODY = b'{"answer":"small"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Small(asyncio.Protocol):
    def __init__(self, delay_s: float, opened: asyncio.Event) -> None:
        self._delay_s = delay_s
        self._opened = opened
        self._buffer = b""
        self._late: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            self._buffer = self._buffer[end + 4 :]
            if self._delay_s:
                late = asyncio.create_task(self._answer_late())
                self._late.add(late)
                late.add_done_callback(self._late.discard)
            else:
                self._transport.write(ANSWER)  # type: ignore[attr-defined]

    async def _answer_late(self) -> None:
        await self._opened.wait()
        await asyncio.sleep(self._delay_s)
        self._transport.write(ANSWER)  # type: ignore[attr-defined]


async def main(port: int, delay_ms: int = 0, gate: Path | None = None) -> None:
    loop, opened = asyncio.get_running_loop(), asyncio.Event()

    def look() -> None:
        if gate is None or gate.exists():
            opened.set()
        else:
            loop.call_later(0.005, look)

    look()
    server = await loop.create_server(lambda: Small(delay_ms / 1000, opened), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    port, *rest = sys.argv[1:]
    uvloop.run(main(int(port), int(rest[0]) if rest else 0, Path(rest[1]) if rest[1:] else None))
