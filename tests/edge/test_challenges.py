import asyncio
import base64
import os
import re
from typing import Any

import orjson
import pytest
from rigs import shop
from rigs.counter import PAID, PARCEL, PHONE, WEATHER, Counter, unpaid
from rigs.wire import Reply, Wire, ask, request
from starlette.responses import Response

from gateway.core.catalogue import Operation
from gateway.core.x402.challenge import Challenge
from gateway.edge.app import build_app
from gateway.edge.server import serving

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")


@pytest.mark.parametrize("path", [PHONE, WEATHER, PARCEL, "/api/v1/shops/corner/quotes"])
async def test_every_method_gets_the_402_with_its_offer(url: str, counter: Counter, path: str) -> None:
    for method in METHODS:
        reply = await ask(url, method, path)
        assert (reply.status, offer(reply)["x402Version"]) == (402, 2), method
        assert offer(reply)["accepts"]
        assert reply.header("cache-control") == "no-store"
        assert reply.header("content-type") == "application/json"
        assert reply.header("access-control-allow-origin") == "*"
        assert reply.header("x-content-type-options") == "nosniff"
        assert reply.header("date")
        assert reply.header("server") is None
        if method == "HEAD":
            assert int(reply.header("content-length") or 0) > 0
        else:
            assert reply.json()["request_id"] == reply.header("x-request-id")
            assert offer(reply).items() <= reply.json().items()
    assert counter.served == []


def offer(reply: Reply) -> dict[str, Any]:
    """PAYMENT-REQUIRED, decoded."""
    decoded: dict[str, Any] = orjson.loads(base64.b64decode(reply.header("payment-required") or "", validate=True))
    return decoded


def repeat_key(reply: Reply) -> str:
    """Header and body have one and the same."""
    key = offer(reply)["extensions"]["repeat-key"]["info"]["key"]
    assert reply.json()["extensions"]["repeat-key"]["info"]["key"] == key
    assert re.fullmatch("[0-9a-f]{32}", key)
    return str(key)


async def test_each_answer_has_a_repeat_key_of_its_own_and_is_the_same_but_for_that(url: str) -> None:
    for path in (PHONE, WEATHER, PARCEL):
        replies = [await ask(url, "GET", path) for _ in range(50)]
        keys = [repeat_key(reply) for reply in replies]
        assert len(set(keys)) == 50
        ids = [reply.header("x-request-id") or "" for reply in replies]
        bodies = {
            reply.body.replace(key.encode(), b"").replace(id.encode(), b"")
            for reply, key, id in zip(replies, keys, ids, strict=True)
        }
        assert len(bodies) == 1
        assert {len(reply.header("payment-required") or "") for reply in replies} == {
            len(replies[0].header("payment-required") or "")
        }


async def test_all_of_a_repeat_key_is_random(counter: Counter) -> None:
    """At least 128 bits, from nowhere but the entropy that was given."""
    taken: list[bytes] = []

    def entropy(count: int) -> bytes:
        taken.append(os.urandom(count))
        return taken[-1]

    async with serving(build_app(counter.parts(entropy=entropy))) as url:
        keys = [repeat_key(await ask(url, "GET", PHONE)) for _ in range(3)]
    assert keys == [each.hex() for each in taken[-3:]]
    assert {len(each) for each in taken} == {16}


async def test_a_402_without_a_place_for_what_is_its_own_is_found_at_the_start(counter: Counter) -> None:
    def bare(operation: Operation, id: str, key: str) -> Challenge:
        return Challenge(unpaid(operation, id, key).header, b'{"error":"pay"}')

    for made in (bare, lambda operation, id, key: unpaid(operation, id, "f" * 32)):
        with pytest.raises(ValueError, match="repeat key"):
            build_app(counter.parts(unpaid=made))


async def test_the_body_is_no_business_of_the_402(url: str) -> None:
    for body in (b"", b"{}", b"{broken", b"\xff\xfe", b'{"phone":"+12065550100"}', b"<html>"):
        assert (await ask(url, "POST", PHONE, ("Content-Type", "text/html"), body=body)).status == 402, body


async def test_the_body_is_never_asked_for(url: str) -> None:
    async with await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, ("Content-Length", "1000"), ("Expect", "100-continue")))
        assert (await wire.reply()).status == 402


async def test_an_unread_body_does_not_become_the_next_request(url: str, counter: Counter) -> None:
    smuggled = request("GET", WEATHER, PAID)
    async with await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, body=smuggled) + request("GET", "/healthz"))
        assert [(await wire.reply()).status for _ in range(2)] == [402, 200]
    assert counter.served == []


@pytest.mark.parametrize("name", ["Authorization", "PAYMENT-SIGNATURE", "X-PAYMENT", "payment-signature"])
async def test_any_credential_goes_to_the_paid_endpoint(url: str, counter: Counter, name: str) -> None:
    assert (await ask(url, "POST", PHONE, (name, "anything"))).status == 200
    assert counter.served == [("POST", "enrich/phone", {})]


async def test_the_amount_may_depend_on_the_body(counter: Counter) -> None:
    parts = counter.parts(
        unpaid=lambda operation, id, key: None if operation is shop.QUOTE else unpaid(operation, id, key)
    )
    async with serving(build_app(parts)) as url:
        assert (await ask(url, "POST", "/api/v1/shops/corner/quotes", body=b"{}")).status == 200
        assert (await ask(url, "POST", PHONE, body=b"{}")).status == 402
    assert counter.served == [("POST", "quotes/make", {"shop_id": "corner"})]


async def test_without_our_server_the_answer_is_the_same(counter: Counter) -> None:
    """The shortcut that writes prepared bytes is an extension; plain ASGI says the same."""
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    async def receive() -> dict:
        raise AssertionError("nothing is read")

    scope = {"type": "http", "method": "POST", "path": PHONE, "query_string": b"", "headers": [], "client": None}
    await build_app(counter.parts(entropy=bytes))(scope, receive, send)
    async with serving(build_app(counter.parts(entropy=bytes))) as url:
        reply = await ask(url, "POST", PHONE)
    plain = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert {**plain, "date": reply.header("date")} == dict(reply.headers)
    assert sent[1]["body"] == reply.body


async def test_counted_by_operation_and_nothing_else(counter: Counter) -> None:
    """F-121: no log line, no store; the metrics have a number."""
    parts = counter.parts()
    async with serving(build_app(parts)) as url:
        for _ in range(3):
            await ask(url, "GET", PHONE)
        page = (await ask(url, "GET", "/metrics")).body.decode()
    assert 'faregate_challenges_total{operation="enrich/phone"} 3.0' in page
    assert 'operation="weather"} 0.0' in page
    assert "route=" not in page.replace('route="/metrics"', "")
    assert counter.asked == 0


async def test_pipelined_challenges_answer_in_order(url: str) -> None:
    async with await Wire.to(url) as wire:
        wire.send(b"".join(request("GET", path) for path in (PHONE, WEATHER, PHONE, "/healthz", PARCEL)))
        told = [(await wire.reply()).json().get("of") for _ in range(5)]
    assert told == ["enrich/phone", "weather", "enrich/phone", None, "parcels/get"]


async def test_a_challenge_behind_a_call_in_flight_waits_for_it(counter: Counter) -> None:
    go = asyncio.Event()

    async def slow(request: object) -> Response:
        await go.wait()
        return Response(b"slow")

    counter.behaviour = slow
    async with serving(build_app(counter.parts())) as url, await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, PAID) + request("GET", WEATHER))
        await asyncio.sleep(0.05)
        go.set()
        assert ((await wire.reply()).body, (await wire.reply()).status) == (b"slow", 402)


async def test_http_1_0_is_closed_after_its_402(url: str) -> None:
    async with await Wire.to(url) as wire:
        wire.send(f"GET {PHONE} HTTP/1.0\r\n\r\n".encode())
        assert (await wire.reply()).header("connection") == "close"
        assert await wire.closed() == b""
