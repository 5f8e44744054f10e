from collections.abc import AsyncIterator

import pytest
from rigs import shop
from rigs.counter import OFFLINE, PAID, PARCEL, PHONE, WEATHER, Counter
from rigs.wire import Wire, ask, request
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gateway.core.ids import new_token
from gateway.edge.app import build_app
from gateway.edge.server import serving
from gateway.edge.visit import visit_of

TOKEN = new_token("411_", b"\x07" * 32)
CHARGE_TOKEN = new_token("411c_", b"\x09" * 32)


@pytest.mark.parametrize("credential", [(), (PAID,)])
async def test_the_order_of_checks(url: str, counter: Counter, credential: tuple[tuple[str, str], ...]) -> None:
    """Each request has every later fault, too; the earliest decides."""
    too_long = ("Content-Length", "99999999")
    for method, path, headers, code in (
        ("GET", f"/nowhere/{TOKEN}", (too_long,), "BAD_REQUEST"),
        ("GET", "/nowhere", (too_long,), "NOT_FOUND"),
        ("GET", OFFLINE, (too_long,), "ROUTE_OFFLINE"),
        ("GET", PHONE, (too_long,), "BODY_TOO_LARGE"),
    ):
        async with await Wire.to(url) as wire:
            wire.send(request(method, path, *headers, *credential))
            assert (await wire.reply()).json()["code"] == code
    assert counter.served == []


async def test_with_a_credential_every_method_reaches_the_paid_endpoint(url: str, counter: Counter) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
        assert (await ask(url, method, PARCEL, PAID)).status == 200
    assert {method for method, _, _ in counter.served} == {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"}
    assert {(operation, parameters["parcel_id"]) for _, operation, parameters in counter.served} == {
        ("parcels/get", "AB-1234")
    }


async def test_options_is_free_and_says_which_method(url: str, counter: Counter) -> None:
    reply = await ask(url, "OPTIONS", PHONE, PAID)
    assert (reply.status, reply.header("allow")) == (204, "POST, OPTIONS")
    assert counter.served == []


@pytest.mark.parametrize("credential", [(), (PAID,)])
@pytest.mark.parametrize("token", [TOKEN, CHARGE_TOKEN, TOKEN[:-1] + "x"])
async def test_a_token_in_a_url_is_refused(
    url: str, counter: Counter, token: str, credential: tuple[tuple[str, str], ...]
) -> None:
    """F-132, whatever the parameter is called, and however the token is written."""
    odd = token.replace("_", "%5F")
    for target, headers in (
        (f"{WEATHER}?token={token}", ()),
        (f"{WEATHER}?a=1&x={odd}&b=2", ()),
        (f"/api/v1/parcels/{token}", ()),
        (f"/api/v1/charges/{token}", ()),
        (f"/healthz?{token}", ()),
        (WEATHER, (("Referer", f"https://app.example.com/?t={token}"),)),
    ):
        reply = await ask(url, "GET", target, *headers, *credential)
        assert (reply.status, reply.json()["code"]) == (400, "BAD_REQUEST"), target
        assert token.encode() not in reply.body
    assert counter.served == []


async def test_what_only_resembles_a_token_is_let_pass(url: str) -> None:
    for text in ("chg_01m851jjd8s5qepr0000000001", "a" * 54, "411_short", "0x" + "ab" * 32):
        assert (await ask(url, "GET", f"{WEATHER}?q={text}")).status == 402


async def test_further_routes_see_the_visit(counter: Counter) -> None:
    async def whoami(request: Request) -> Response:
        visit = visit_of(request)
        assert request.state.request_id == visit.request_id
        return Response(f"{visit.client} {request.path_params['name']}")

    parts = counter.parts(routes=[Route("/api/v1/who/{name}", whoami, methods=["GET"])])
    async with serving(build_app(parts)) as url:
        assert (await ask(url, "GET", "/api/v1/who/x")).body == b"127.0.0.1 x"
        assert (await ask(url, "GET", "/api/v1/who/%78")).status == 404
        assert (await ask(url, "GET", "/api/v1/who/x/")).status == 404


async def test_answers_are_dressed(url: str) -> None:
    """F-018 and content sniffing: on every kind of answer."""
    for method, path, headers in (
        ("GET", "/openapi.json", ()),
        ("POST", PHONE, ()),
        ("POST", PHONE, (PAID,)),
        ("GET", "/nowhere", ()),
    ):
        reply = await ask(url, method, path, *headers)
        assert reply.header("x-content-type-options") == "nosniff"
        assert reply.header("referrer-policy") == "no-referrer"
        assert reply.header("content-type") == "application/json"
        assert reply.header("date")
        assert reply.header("server") is None
        if path != "/openapi.json":
            assert "no-store" in (reply.header("cache-control") or "")


async def test_a_header_of_an_answer_cannot_be_split(url: str, counter: Counter) -> None:
    """F-157: whoever got a line break into a value gets no answer at all."""

    async def split(request: Request) -> Response:
        return Response(headers={"X-Vendor": "a\r\nPAYMENT-RESPONSE: forged"})

    counter.behaviour = split
    async with await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, PAID))
        assert await wire.closed() == b""


async def test_an_answer_in_pieces_or_of_no_length_arrives_whole(url: str, counter: Counter) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"two ", b"three"):
            yield piece

    async def of_known_length(_: Request) -> Response:
        return StreamingResponse(pieces(), headers={"Content-Length": "13"})

    async def streamed(_: Request) -> Response:
        return StreamingResponse(pieces())

    counter.behaviour = of_known_length
    assert (await ask(url, "POST", PHONE, PAID)).body == b"one two three"
    counter.behaviour = streamed
    async with await Wire.to(url) as wire:
        wire.send(request("POST", PHONE, PAID, ("Connection", "close")))
        reply = await wire.reply(head_only=True)
        assert (reply.status, reply.header("transfer-encoding")) == (200, "chunked")
        assert reply.header("x-content-type-options") == "nosniff"
        assert await wire.closed() == b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"


async def test_an_upstream_does_not_speak_for_us(url: str, counter: Counter) -> None:
    async def relay(request: Request) -> Response:
        theirs = {"X-Content-Type-Options": "none", "X-Request-Id": "theirs", "Server": "theirs", "Date": "never"}
        return Response(headers=theirs)

    counter.behaviour = relay
    reply = await ask(url, "POST", PHONE, PAID)
    assert reply.header("x-content-type-options") == "nosniff"
    assert (reply.header("x-request-id") or "").startswith("req_")
    assert reply.header("server") is None
    assert reply.header("date") != "never"


@pytest.mark.parametrize(
    "theirs",
    [
        "0b2c8f4e-5a57-4a83-9c5e-0f3c1e9a7d11",
        "0b2c8f4e5a574a839c5e0f3c1e9a7d11",
        "01J9ZX3T8Q4R5S6T7V8W9X0Y1Z",
        "req_01m851jjd8s5qepr0000000001",
    ],
)
async def test_a_machine_made_request_id_is_kept(url: str, theirs: str) -> None:
    for path, headers in ((PHONE, ()), (PHONE, (PAID,)), ("/nowhere", ())):
        reply = await ask(url, "POST", path, ("X-Request-Id", theirs), *headers)
        assert reply.header("x-request-id") == theirs
        assert reply.json().get("request_id", theirs) == theirs


@pytest.mark.parametrize(
    "theirs", ["", "x", "Dana-Sample", "12065550100", "a b", "\xe9" * 26, "<script>", TOKEN, "a" * 500, "0x" + "1" * 64]
)
async def test_any_other_is_replaced(url: str, theirs: str) -> None:
    """F-157: nothing of the client's own making is echoed into a header."""
    for path, headers in ((PHONE, ()), (PHONE, (PAID,)), ("/nowhere", ())):
        reply = await ask(url, "POST", path, ("X-Request-Id", theirs), *headers)
        assert (reply.header("x-request-id") or "").startswith("req_")


async def test_request_ids_differ(url: str) -> None:
    ids = {(await ask(url, "POST", path)).header("x-request-id") for path in [PHONE, "/healthz"] * 5}
    assert len(ids) == 10


async def test_every_operation_of_the_catalogue_is_behind_the_doors(url: str) -> None:
    for operation in shop.catalogue().operations:
        assert (await ask(url, "GET", operation.example_url_path)).status == 402
    for operation in shop.catalogue().offline:
        assert (await ask(url, "GET", operation.example_url_path)).status == 503
