"""F-160: what a browser needs to pay across origins, and what it never gets."""

import pytest
from rigs.counter import OFFLINE, PAID, PHONE, Counter
from rigs.wire import ask

from gateway.edge.app import build_app
from gateway.edge.server import serving

PAGE = ("Origin", "https://app.example.com")
NULL = ("Origin", "null")
EXPOSED = {"payment-required", "payment-response", "www-authenticate", "payment-receipt", "retry-after", "x-request-id"}
EXPOSED |= {"x-charge-id", "x-charge-token", "location"}
# As the official clients ask for their paid retry.
ASKED = "access-control-expose-headers,content-type,payment-signature"
TARGETS = [
    ("POST", PHONE, (), 402),
    ("POST", PHONE, (PAID,), 200),
    ("POST", OFFLINE, (), 503),
    ("GET", "/nowhere", (), 404),
    ("GET", "/openapi.json", (), 200),
    ("POST", "/healthz", (), 405),
]


@pytest.mark.parametrize("path", [PHONE, OFFLINE, "/nowhere", "/openapi.json"])
async def test_preflights_are_free(url: str, counter: Counter, path: str) -> None:
    reply = await ask(
        url,
        "OPTIONS",
        path,
        PAGE,
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", ASKED),
    )
    assert (reply.status, reply.header("access-control-allow-origin")) == (204, "*")
    assert "POST" in (reply.header("access-control-allow-methods") or "")
    allowed = {name.strip().lower() for name in (reply.header("access-control-allow-headers") or "").split(",")}
    assert allowed >= {*ASKED.split(","), "x-payment", "authorization", "idempotency-key", "sign-in-with-x"}
    assert reply.header("access-control-allow-credentials") is None
    assert counter.served == []


@pytest.mark.parametrize(("method", "path", "headers", "status"), TARGETS)
async def test_every_answer_can_be_read_by_the_page(
    url: str, method: str, path: str, headers: tuple[tuple[str, str], ...], status: int
) -> None:
    reply = await ask(url, method, path, PAGE, *headers)
    assert (reply.status, reply.header("access-control-allow-origin")) == (status, "*")
    exposed = {name.strip().lower() for name in (reply.header("access-control-expose-headers") or "").split(",")}
    assert exposed >= EXPOSED
    assert reply.header("access-control-allow-credentials") is None
    assert reply.header("vary") == "Origin"


@pytest.mark.parametrize(("method", "path", "headers", "status"), TARGETS)
async def test_the_null_origin_gets_nothing(
    url: str, method: str, path: str, headers: tuple[tuple[str, str], ...], status: int
) -> None:
    reply = await ask(url, method, path, NULL, *headers)
    assert reply.status == status
    assert [name for name, _ in reply.headers if name.startswith("access-control-")] == []


async def test_a_list_of_origins_lets_in_those_alone(counter: Counter) -> None:
    parts = counter.parts(origins=("https://app.example.com", "null"))
    async with serving(build_app(parts)) as url:
        for path, headers in ((PHONE, ()), (PHONE, (PAID,)), ("/healthz", ())):
            mine = await ask(url, "GET", path, PAGE, *headers)
            other = await ask(url, "GET", path, ("Origin", "https://app.example.com.evil.example"), *headers)
            null = await ask(url, "GET", path, NULL, *headers)
            nobody = await ask(url, "GET", path, *headers)
            granted = [each.header("access-control-allow-origin") for each in (mine, other, null, nobody)]
            assert granted == ["https://app.example.com", None, None, None]
            assert {each.header("vary") for each in (mine, other, null, nobody)} == {"Origin"}
        preflight = await ask(url, "OPTIONS", PHONE, NULL, ("Access-Control-Request-Method", "POST"))
    assert [name for name, _ in preflight.headers if name.startswith("access-control-")] == []


async def test_an_upstreams_own_cors_headers_do_not_get_through(url: str, counter: Counter) -> None:
    from starlette.responses import Response

    async def forward(request: object) -> Response:
        return Response(headers={"Access-Control-Allow-Origin": "evil", "Access-Control-Allow-Credentials": "true"})

    counter.behaviour = forward
    reply = await ask(url, "POST", PHONE, PAID, PAGE)
    assert reply.all("access-control-allow-origin") == ["*"]
    assert reply.header("access-control-allow-credentials") is None
