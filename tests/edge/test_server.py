"""The server's own limits, asked by raw bytes."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rigs.counter import PAID, PHONE, WEATHER, Counter, reading
from rigs.wire import Wire, ask, flood, request
from starlette.requests import Request
from starlette.responses import Response

from gateway.edge.app import build_app
from gateway.edge.bodies import Limits
from gateway.edge.server import ServerLimits, bind, serving

QUICK = ServerLimits(
    head_bytes_max=4096, head_deadline_s=0.2, idle_s=1, drain_s=0.2, drain_bytes_max=100_000, stalled_s=0.2, grace_s=2
)


@asynccontextmanager
async def serving_with(counter: Counter, limits: ServerLimits = QUICK) -> AsyncIterator[tuple[str, list[str]]]:
    """Gives the URL and the reasons for which connections were closed."""
    reasons: list[str] = []
    async with serving(build_app(counter.parts()), limits=limits, refused=reasons.append) as url:
        yield url, reasons


GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /api/v1/enrich/phone HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: e30=\r\nContent-Type: application/json\r\n"

SMUGGLED = {
    "both lengths": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, other order": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "two equal lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "a length in hex": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "a length with a blank in it": POST + b"Content-Length: 1 2\r\n\r\n{}",
    "a length past 64 bits": POST + b"Content-Length: 18446744073709551618\r\n\r\n{}",
    "another coding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunked and more": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "more and chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked with an odd blank": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in old HTTP": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk length": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
    "a signed chunk length": POST + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    "a chunk length in 0x": POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk without its end": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}GET /0\r\n\r\n",
    "a chunk ended by bare LF": POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "a chunk length past 64 bits": POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a folded header": GET + b"X-A: b\r\n c\r\n\r\n",
    "a folded header by tab": GET + b"X-A: b\r\n\tc\r\n\r\n",
    "a first header that is folded": b"GET /healthz HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n",
    "bare LF": b"GET /healthz HTTP/1.1\nHost: a\n\n",
    "bare LF after a header": b"GET /healthz HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare CR in a value": GET + b"X-A: b\rX-B: c\r\n\r\n",
    "NUL in a value": GET + b"X-A: b\x00c\r\n\r\n",
    "NUL in a name": GET + b"X\x00A: b\r\n\r\n",
    "a name with a blank": GET + b"X A: b\r\n\r\n",
    "no name": GET + b": b\r\n\r\n",
    "no colon": GET + b"nothing\r\n\r\n",
    "two hosts": GET + b"Host: b\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "another protocol": b"GET /healthz SPDY/3\r\nHost: a\r\n\r\n",
    "another version": b"GET /healthz HTTP/2.7\r\nHost: a\r\n\r\n",
    "an older version than any": b"GET /healthz HTTP/0.9\r\nHost: a\r\n\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a method nobody has": b"FEED /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "a proxy's tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a\r\n\r\n",
}


async def test_f146_no_request_hides_in_another(counter: Counter) -> None:
    """F-146: each is answered once by an error, the connection closes, and what stands behind it is not run."""
    counter.behaviour = reading(Limits())
    behind = request("POST", WEATHER, PAID)
    async with serving_with(counter) as (url, _):
        for name, data in SMUGGLED.items():
            async with await Wire.to(url) as wire:
                wire.send(data + behind)
                reply = await wire.reply()
                assert reply.status in (400, 405), name
                assert reply.json()["request_id"], name
                assert reply.header("connection") == "close", name
                assert await wire.closed() == b"", name
    assert [operation for _, operation, _ in counter.served if operation == "weather"] == []


async def test_the_same_byte_by_byte(counter: Counter) -> None:
    counter.behaviour = reading(Limits())
    async with serving_with(counter) as (url, _):
        for name in ("both lengths", "a folded header", "a bad chunk length", "a chunk ended by bare LF"):
            async with await Wire.to(url) as wire:
                for byte in SMUGGLED[name]:
                    wire.send(bytes([byte]))
                    await wire.writer.drain()
                    await asyncio.sleep(0)
                assert (await wire.reply()).status == 400, name


async def test_what_follows_a_call_in_flight_never_overtakes_it(counter: Counter) -> None:
    """Garbage behind a paid call: the call's answer comes first and alone, then the connection closes."""
    started, go = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        started.set()
        await go.wait()
        return Response(b"the answer")

    counter.behaviour = slow
    async with serving_with(counter) as (url, _), await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, PAID, body=b"{}") + b"\x00garbage\r\n\r\n")
        await started.wait()
        await asyncio.sleep(0.02)
        go.set()
        assert (await wire.reply()).body == b"the answer"
        assert await wire.closed() == b""


@pytest.mark.parametrize("behind", [b"GET /health", b"\x00garbage\r\n\r\n"], ids=["half a head", "garbage"])
async def test_no_deadline_of_what_follows_ends_a_call_in_flight(counter: Counter, behind: bytes) -> None:
    """The call takes longer than any limit of a connection, and its place is wanted by others, too."""

    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.7)
        return Response(b"the answer")

    counter.behaviour = slow
    limits = replace(QUICK, connections_max=1)
    async with serving_with(counter, limits) as (url, reasons), await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, PAID, body=b"{}") + behind)
        await asyncio.sleep(0.4)
        assert (await ask(url, "GET", "/healthz")).status == 503
        assert (await wire.reply()).body == b"the answer"
        assert await wire.closed() == b""
    assert "full" in reasons


@pytest.mark.parametrize("body", [b'{"a":1}'])
async def test_good_framing_is_understood(counter: Counter, body: bytes) -> None:
    counter.behaviour = reading(Limits())
    chunked = b"Transfer-Encoding: Chunked\r\n\r\n3\r\n" + body[:3] + b"\r\n4;ext=1\r\n" + body[3:] + b"\r\n0\r\n\r\n"
    plain = b"Content-Length: 7\r\n\r\n" + body
    async with serving_with(counter) as (url, _), await Wire.to(url) as wire:
        for framing in (chunked, plain, chunked):
            wire.send(POST + framing)
        for _ in range(3):
            assert (await wire.reply()).json() == {"json": {"a": 1}}


async def test_an_offered_upgrade_is_ignored(counter: Counter) -> None:
    """As Java's client does it: h2c offered with the first request, a body behind it, the connection kept."""
    counter.behaviour = reading(Limits())
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n"
    async with serving_with(counter) as (url, _), await Wire.to(url) as wire:
        wire.send(POST + offer + b"Content-Length: 7\r\n\r\n" + b'{"a":')
        await asyncio.sleep(0.02)
        wire.send(b"1}" + request("GET", "/healthz"))
        assert (await wire.reply()).json() == {"json": {"a": 1}}
        assert (await wire.reply()).json() == {"alive": True}
    assert len(counter.served) == 1


async def test_nobody_gets_a_websocket(url: str) -> None:
    headers = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x"))
    assert (await ask(url, "GET", "/healthz", *headers)).status == 200


@pytest.mark.parametrize("where", ["target", "value", "name", "many", "pipelined"])
async def test_a_head_has_a_size(counter: Counter, where: str) -> None:
    lump = "a" * 5000
    data = {
        "target": request("GET", "/healthz?" + lump),
        "value": request("GET", "/healthz", ("X-A", lump)),
        "name": request("GET", "/healthz", (lump, "x")),
        "many": request("GET", "/healthz", *((f"x-{i}", "y") for i in range(600))),
        "pipelined": request("GET", "/healthz") + request("GET", "/healthz", ("X-A", lump)),
    }[where]
    async with serving_with(counter) as (url, reasons), await Wire.to(url) as wire:
        wire.send(data)
        if where == "pipelined":
            await wire.reply()
        else:
            reply = await wire.reply()
            assert (reply.status, reply.json()["code"]) == (431, "HEADERS_TOO_LARGE")
        assert await wire.closed() == b""
    assert reasons == ["head_too_large"]


async def test_a_head_that_never_ends_is_cut_off(counter: Counter) -> None:
    async with serving_with(counter) as (url, reasons), await Wire.to(url) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nX-A: ")
        for _ in range(40):
            wire.send(b"a" * 200)
            await asyncio.sleep(0)
        assert (await wire.reply()).status == 431
    assert reasons == ["head_too_large"]


@pytest.mark.parametrize("before", [b"", GET + b"\r\n"], ids=["first", "second"])
async def test_a_head_has_a_deadline_however_it_dribbles(counter: Counter, before: bytes) -> None:
    """F-154, for each request of a connection."""
    async with serving_with(counter) as (url, reasons), await Wire.to(url) as wire:
        if before:
            wire.send(before)
            await wire.reply()
        began = asyncio.get_running_loop().time()

        async def dribble() -> None:
            for byte in b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"a" * 1000:
                wire.send(bytes([byte]))
                await asyncio.sleep(0.02)

        dribbling = asyncio.create_task(dribble())
        reply = await wire.reply()
        assert (reply.status, reply.json()["code"]) == (408, "REQUEST_TIMEOUT")
        assert asyncio.get_running_loop().time() - began < 0.8
        dribbling.cancel()
    assert reasons == ["head_timeout"]


@pytest.mark.parametrize("first", [b"", b"\r\n\r\n", GET + b"\r\n\r\n"], ids=["nothing", "blank lines", "one request"])
async def test_whoever_says_nothing_more_is_let_go(counter: Counter, first: bytes) -> None:
    async with serving_with(counter) as (url, _), await Wire.to(url) as wire:
        wire.send(first)
        await wire.closed(timeout_s=2.5)


async def test_slow_senders_do_not_keep_payers_out(counter: Counter) -> None:
    """F-154: all places are taken by connections that dribble; a paying caller gets through at once."""
    limits = ServerLimits(connections_max=50, head_deadline_s=30)
    async with serving_with(counter, limits) as (url, reasons), AsyncExitStack() as stack:
        for _ in range(60):
            wire = await stack.enter_async_context(await Wire.to(url))
            wire.send(b"GET /")
        await asyncio.sleep(0.05)
        reply = await asyncio.wait_for(ask(url, "POST", PHONE, PAID), 1)
        assert reply.status == 200
    assert set(reasons) == {"full"}


async def test_when_every_place_works_a_new_one_is_told_so(counter: Counter) -> None:
    go = asyncio.Event()

    async def slow(request: Request) -> Response:
        await go.wait()
        return Response(b"done")

    counter.behaviour = slow
    async with serving_with(counter, ServerLimits(connections_max=3)) as (url, _), AsyncExitStack() as stack:
        working = [await stack.enter_async_context(await Wire.to(url)) for _ in range(3)]
        for wire in working:
            wire.send(request("POST", PHONE, PAID))
        await asyncio.sleep(0.05)
        async with await Wire.to(url) as refused:
            reply = await refused.reply()
            assert (reply.status, reply.header("retry-after"), reply.header("connection")) == (503, "1", "close")
            assert await refused.closed() == b""
        go.set()
        assert [(await wire.reply()).body for wire in working] == [b"done"] * 3


async def test_an_unread_body_is_drained_within_bounds(counter: Counter) -> None:
    """F-155: the answer is there before the body; what comes after is thrown away, but not for ever."""
    async with serving_with(counter) as (url, reasons):
        async with await Wire.to(url) as wire:
            wire.send(request("POST", PHONE, ("Content-Length", "60000")))
            assert (await wire.reply()).status == 402
            wire.send(b"x" * 60_000 + request("GET", "/healthz"))
            assert (await wire.reply()).status == 200
        async with await Wire.to(url) as wire:
            wire.send(request("POST", PHONE, ("Transfer-Encoding", "chunked")))
            assert (await wire.reply()).status == 402
            with pytest.raises(ConnectionError):
                await flood(wire, 8_000_000)
        async with await Wire.to(url) as wire:
            wire.send(request("POST", PHONE, ("Content-Length", "1000")))
            assert (await wire.reply()).status == 402
            assert await wire.closed(timeout_s=2) == b""
    assert reasons == ["drain", "drain"]


async def test_whoever_stops_reading_is_cut_off(counter: Counter) -> None:
    async def large(request: Request) -> Response:
        return Response(b"x" * 30_000_000)

    counter.behaviour = large
    async with serving_with(counter) as (url, reasons), await Wire.to(url, limit=1024) as wire:
        wire.send(request("POST", PHONE, PAID))
        await asyncio.sleep(1.2)
        assert reasons == ["stalled"]


async def test_a_host_header_changes_nothing(url: str) -> None:
    """F-159"""
    async with await Wire.to(url) as wire:
        for host in ("evil.example", "127.0.0.1"):
            wire.send(request("GET", "/openapi.json").replace(b"Host: 127.0.0.1", b"Host: " + host.encode()))
        first, second = await wire.reply(), await wire.reply()
    assert first.body == second.body


async def test_a_taken_port_is_an_error_at_once() -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", taken.getsockname()[1])


async def test_the_end_waits_for_calls_in_flight(counter: Counter) -> None:
    """F-161: the call that is under way gets its answer; idle connections go; nobody new comes in."""
    started = asyncio.Event()

    async def slow(request: Request) -> Response:
        started.set()
        await asyncio.sleep(0.2)
        return Response(b"paid for")

    counter.behaviour = slow
    async with AsyncExitStack() as stack:
        async with serving_with(counter) as (url, _):
            wire = await stack.enter_async_context(await Wire.to(url))
            idle = await stack.enter_async_context(await Wire.to(url))
            idle.send(request("GET", "/healthz"))
            await idle.reply()
            wire.send(request("POST", PHONE, PAID))
            await started.wait()
        reply = await wire.reply()
        assert (reply.body, reply.header("connection")) == (b"paid for", "close")
        assert await idle.closed() == b""
        with pytest.raises(OSError):
            await ask(url, "GET", "/healthz")


async def test_the_grace_period_ends(counter: Counter) -> None:
    ended: list[str] = []

    async def endless(request: Request) -> Response:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return Response()

    counter.behaviour = endless
    async with AsyncExitStack() as stack, serving_with(counter, ServerLimits(grace_s=0.1)) as (url, _):
        wire = await stack.enter_async_context(await Wire.to(url))
        wire.send(request("POST", PHONE, PAID))
        await asyncio.sleep(0.05)
    assert ended == ["cancelled"]


PROGRAM = """
import asyncio, resource
from contextlib import asynccontextmanager
from gateway.edge.server import run

async def app(scope, receive, send):
    await asyncio.sleep(0.4)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})

@asynccontextmanager
async def opened():
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 4096
    yield app
    print("closed after the last call", flush=True)

resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
run(opened, "127.0.0.1", 0, ready=lambda url: print(url, flush=True))
"""


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_ends_well(kind: signal.Signals) -> None:
    """F-161, on the real process with its own loop."""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    async with await Wire.to(url) as wire:
        wire.send(request("GET", "/"))
        await asyncio.sleep(0.1)
        process.send_signal(kind)
        assert (await wire.reply()).body == b"done"
    assert await process.stdout.read() == b"closed after the last call\n"
    assert await process.wait() == 0


async def test_ipv6_has_its_brackets() -> None:
    async def app(scope: object, receive: object, send: object) -> None: ...

    try:
        listener = bind("::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with serving(app, listener=listener) as url:
        assert url.startswith("http://[::1]:")
        assert listener.family == socket.AF_INET6


async def test_whoever_leaves_is_gone_for_what_is_worked_on_and_for_what_waits_behind(counter: Counter) -> None:
    """Several requests at once, and the client leaves: uvicorn by itself tells only the last of them."""
    begun: list[str] = []
    began, told = asyncio.Event(), asyncio.Event()

    async def wait(request: Request) -> Response:
        begun.append(request.method)
        began.set()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        told.set()
        return Response(b"x" * 100)

    counter.behaviour = wait
    async with serving_with(counter) as (url, _), asyncio.timeout(5):
        async with await Wire.to(url) as wire:
            wire.send(request("POST", PHONE, PAID) * 3)
            await began.wait()
        await told.wait()
        await asyncio.sleep(0.05)
    assert begun == ["POST"]


async def test_whoever_has_said_all_is_answered_before_we_hang_up(counter: Counter) -> None:
    """A client may close its own side behind its request."""

    async def slowly(request: Request) -> Response:
        await asyncio.sleep(0.1)
        return Response(b"done")

    counter.behaviour = slowly
    async with serving(build_app(counter.parts())) as url, await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, PAID))
        wire.writer.write_eof()
        assert (await wire.reply()).body == b"done"
        assert await wire.closed() == b""


async def test_whoever_ends_in_the_middle_is_let_go(counter: Counter) -> None:
    for part in (b"", b"POST / HTTP/1.1\r\nHos", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"):
        async with serving(build_app(counter.parts())) as url, await Wire.to(url) as wire:
            wire.send(part)
            wire.writer.write_eof()
            await wire.closed(timeout_s=3)
