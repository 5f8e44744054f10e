import asyncio
import tracemalloc

import pytest
from rigs.counter import PAID, PHONE, Counter, reading
from rigs.wire import Reply, Wire, ask, flood, request

from gateway.edge.app import build_app
from gateway.edge.bodies import Limits
from gateway.edge.server import serving

JSON = ("Content-Type", "application/json")


@pytest.fixture(autouse=True)
def _read(counter: Counter) -> None:
    counter.behaviour = reading(Limits(deadline_s=0.2))


async def post(url: str, body: bytes, *headers: tuple[str, str]) -> Reply:
    return await ask(url, "POST", PHONE, PAID, *headers, body=body)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON;charset=UTF-8",
        "application/ld+json",
        None,
    ],
)
async def test_json_by_its_names(url: str, media_type: str | None) -> None:
    headers = [("Content-Type", media_type)] if media_type else []
    assert (await post(url, b'{"a":1}', *headers)).json() == {"json": {"a": 1}}


@pytest.mark.parametrize(
    "header",
    [
        ("Content-Type", "text/plain"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Type", "text/json+json"),
        ("Content-Type", ""),
        ("Content-Type", "application/json; charset=utf-16"),
        ("Content-Encoding", "gzip"),
    ],
)
async def test_anything_else_is_415(url: str, header: tuple[str, str]) -> None:
    reply = await post(url, b"{}", header)
    assert (reply.status, reply.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


NO_JSON = (
    b"",
    b" ",
    b"{",
    b"{}{}",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b"NaN",
    b"Infinity",
    b'{"a":NaN}',
    b"1e999",
    b"9" * 5000,
    b"[" * 30_000,
    b'{"a":' * 10_000,
    b"[" * 65 + b"]" * 65,
    b'[[[],{"a":' * 40 + b"1" + b"}]]" * 40,
    b'"\\ud800"',
    b'"\\x"',
    b"'a'",
    b"{a:1}",
    b"\x00",
    b'"\xc3\x28"',
    b'"\x01"',
)
ODD_JSON = (
    b'{"a":1,"a":2}',
    b"1e300",
    b"18446744073709551617",
    b'"\\u0000"',
    b"[" * 64 + b"]" * 64,
    b"[" + b"[]," * 5000 + b"0]",
    b'"' + b"[" * 100 + b'"',
)


async def test_what_is_no_json_is_400_and_never_500(url: str) -> None:
    for body in NO_JSON:
        reply = await post(url, body, JSON)
        assert (reply.status, reply.json()["code"]) == (400, "BAD_JSON"), body[:20]


async def test_odd_json_is_still_json(url: str) -> None:
    for body in ODD_JSON:
        assert (await post(url, body, JSON)).status == 200, body[:20]


@pytest.mark.parametrize("credential", [PAID, ("X-Other", "none")])
@pytest.mark.parametrize("length", ["65537", "1000000000", "9" * 19])
async def test_a_declared_length_over_the_limit_is_refused_before_a_byte(
    url: str, counter: Counter, credential: tuple[str, str], length: str
) -> None:
    """F-155, and before any look at credentials."""
    async with await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, credential, ("Content-Length", length)))
        reply = await wire.reply()
    assert (reply.status, reply.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert reply.json()["details"] == {"bytes_max": 65536}
    assert counter.served == []


async def test_the_limit_itself_is_fine(url: str) -> None:
    body = b'"' + b"a" * (65_536 - 2) + b'"'
    assert (await post(url, body, JSON)).status == 200
    assert (await post(url, body[:-1] + b'a"', JSON)).status == 413


async def test_chunks_without_end_are_refused_early(url: str) -> None:
    """F-155: 50 MB are offered, a few hundred kilobytes are taken, nothing piles up."""
    tracemalloc.start()
    async with await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, PAID, JSON, ("Transfer-Encoding", "chunked")))
        with pytest.raises(ConnectionError):
            await flood(wire, 50_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


async def test_the_client_sees_the_413(url: str) -> None:
    async with await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, PAID, JSON, ("Transfer-Encoding", "chunked")))
        wire.send((b"4000\r\n" + b"1" * 0x4000 + b"\r\n") * 6)
        assert (await wire.reply()).status == 413


async def test_a_body_has_a_deadline_however_it_dribbles(url: str) -> None:
    """F-154"""
    async with await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, PAID, JSON, ("Content-Length", "1000")))

        async def dribble() -> None:
            for _ in range(200):
                wire.send(b"1")
                await asyncio.sleep(0.01)

        dribbling = asyncio.create_task(dribble())
        reply = await wire.reply(timeout_s=1)
        dribbling.cancel()
    assert (reply.status, reply.json()["code"]) == (408, "REQUEST_TIMEOUT")


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(counter: Counter) -> None:
    async with serving(build_app(counter.parts())) as url:
        async with await Wire.to(url) as wire:
            wire.send(request("POST", PHONE, PAID, JSON, ("Content-Length", "1000")))
            await asyncio.sleep(0.02)
        assert (await ask(url, "GET", "/healthz")).status == 200
    assert len(counter.served) == 1
