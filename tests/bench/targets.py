"""Ours and the peer as processes on loopback, each with one paid route, GET at $0.001, that answers a small JSON."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rigs.chain import RELAYER_KEY, Chain

PEER_KEY = bytes.fromhex("2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6")
"""Another of anvil's well-known keys: the two facilitators must not share nonces."""
FAREGATE = Path(sys.executable).with_name("faregate")
PAY_TO = "0x00000000000000000000000000000000C0FFEE01"


@dataclass
class Target:
    """A server under measurement."""

    name: str
    port: int
    pid: int
    path: str
    home: Path | None = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def process(*command: object, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as said:
        running = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
        )  # fmt: skip
        try:
            yield running
        except BaseException:
            said.seek(0)
            sys.stderr.write(said.read()[-4000:].decode(errors="replace"))
            raise
        finally:
            running.terminate()
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


async def answers(port: int, path: str, status: bytes, limit_s: float = 30) -> None:
    """Returns when this path answers with this status."""
    for _ in range(int(limit_s / 0.005)):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readline()
            writer.close()
            if status in head:
                return
        await asyncio.sleep(0.005)
    raise SystemExit(f"nothing answers {status.decode()} at port {port}{path}")


def configuration(home: Path, port: int, upstream_port: int, chain: Chain | None, more: str) -> Path:
    """faregate.toml of ours: relayer settlement where there is a chain, else from balance only; and `more`."""
    settlement = "none"
    networks = ""
    if chain is not None:
        settlement = "relayer"
        networks = f"""
[[networks]]
id = "eip155:84532"
rpc_urls = ["{chain.url}"]
pay_to = "{PAY_TO}"
[relayer]
key = "{RELAYER_KEY.hex()}"
"""
    file = home / "faregate.toml"
    file.write_text(f"""
[service]
port = {port}
[store]
path = "bench.db"
[settlement]
kind = "{settlement}"
{networks}
[[http_upstreams]]
id = "bench/small"
method = "GET"
url = "http://127.0.0.1:{upstream_port}/"
private = true
price = "0.001"
description = "A small answer"
{more}
""")
    return file


@contextlib.contextmanager
def upstream(*how: object) -> Iterator[int]:
    """The API that ours sells, as small.py has it: `how` late, and from when on."""
    port = free_port()
    script = Path(__file__).with_name("small.py")
    with process(sys.executable, script, port, *how):
        yield port


@contextlib.asynccontextmanager
async def ours(upstream_port: int, chain: Chain | None, more: str = "") -> AsyncIterator[Target]:
    with tempfile.TemporaryDirectory() as folder:
        home, port = Path(folder), free_port()
        file = configuration(home, port, upstream_port, chain, more)
        with process(FAREGATE, "serve", "--config", file) as running:
            await answers(port, "/api/v1/bench/small", b"402")
            yield Target("ours", port, running.pid, "/api/v1/bench/small", home)


@contextlib.asynccontextmanager
async def peer(python: Path, chain: Chain) -> AsyncIterator[Target]:
    async with peer_parts(python, chain) as start_server, start_server() as target:
        yield target


@contextlib.asynccontextmanager
async def peer_parts(
    python: Path, chain: Chain
) -> AsyncIterator[Callable[[], contextlib.AbstractAsyncContextManager[Target]]]:
    """The peer's facilitator runs; what is given starts its server."""
    script = Path(__file__).with_name("peer.py")
    settles = free_port()

    @contextlib.asynccontextmanager
    async def start_server() -> AsyncIterator[Target]:
        sells = free_port()
        with process(python, script, "server", sells, f"http://127.0.0.1:{settles}", PAY_TO) as running:
            await answers(sells, "/paid", b"402")
            yield Target("peer", sells, running.pid, "/paid")

    with process(python, script, "facilitator", settles, chain.url, "0x" + PEER_KEY.hex()):
        await answers(settles, "/supported", b"200")
        yield start_server
