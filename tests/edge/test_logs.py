"""F-172: what is in the log, and what can never be."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from rigs.counter import PAID, PHONE, Counter, raising
from rigs.wire import ask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.ids import new_token
from gateway.edge.app import build_app
from gateway.edge.logs import REDACTED, Lines, configure
from gateway.edge.server import serving
from gateway.edge.visit import visit_of

TOKEN = new_token("411_", b"\x07" * 32)
SIGNATURE = "0x" + "5c" * 65
KEY = "0x" + "7d" * 32
PAYMENT = "eyJ4NDAyVmVyc2lvbiI6MiwicGF5bG9hZCI6e319" * 5
WEBHOOK_SECRET = "whsec_" + "Zm9v/mFy+mJh" * 3 + "Zm9vYmE="
CANARIES = [
    WEBHOOK_SECRET,
    TOKEN,
    SIGNATURE,
    KEY,
    PAYMENT,
    "+1 (206) 555-0100",
    "206-555-0100",
    "dana@example.com",
    "Dana Sample",
]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("json", "debug", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_one_line_a_request_and_none_for_an_unpaid_402(stream: io.StringIO, url: str) -> None:
    await ask(url, "POST", PHONE)
    reply = await ask(url, "POST", PHONE, PAID)
    await ask(url, "GET", "/nowhere/at/all")
    paid, nowhere = lines(stream)
    assert {key: paid[key] for key in ("event", "level", "method", "route", "status", "client", "request_id")} == {
        "event": "request",
        "level": "info",
        "method": "POST",
        "route": "/api/v1/enrich/phone",
        "status": 200,
        "client": "127.0.0.1",
        "request_id": reply.header("x-request-id"),
    }
    assert paid["ms"] >= 0
    assert (nowhere["route"], nowhere["status"], nowhere["code"]) == ("unknown", 404, "NOT_FOUND")


async def test_a_route_is_told_by_its_template(stream: io.StringIO, counter: Counter) -> None:
    async def answer(request: Request) -> Response:
        return Response()

    parts = counter.parts(routes=[Route("/api/v1/people/{name}", answer)])
    async with serving(build_app(parts)) as url:
        await ask(url, "GET", "/api/v1/people/Dana")
        await ask(url, "DELETE", "/api/v1/people/Dana")
        await ask(url, "GET", "/api/v1/parcels/Dana", PAID)
        page = (await ask(url, "GET", "/metrics")).body
    assert [line["route"] for line in lines(stream)][:3] == ["/api/v1/people/{name}"] * 2 + [
        "/api/v1/parcels/{parcel_id}"
    ]
    assert b'route="/api/v1/people/{name}",status="405"' in page
    assert b"Dana" not in page
    assert "Dana" not in stream.getvalue()


async def test_a_handler_adds_facts(stream: io.StringIO, url: str, counter: Counter) -> None:
    async def told(request: Request) -> Response:
        visit_of(request).facts.update(charge_id="chg_01m851jjd8s5qepr0000000001", outcome="match")
        return Response()

    counter.behaviour = told
    await ask(url, "POST", PHONE, PAID)
    assert (lines(stream)[0]["charge_id"], lines(stream)[0]["outcome"]) == ("chg_01m851jjd8s5qepr0000000001", "match")


@pytest.mark.parametrize("canary", CANARIES)
async def test_nothing_a_client_sends_gets_into_the_log(stream: io.StringIO, counter: Counter, canary: str) -> None:
    """In every place a request has, served, refused and failing, at debug level."""
    plain = canary.replace(" ", "-")
    async with serving(build_app(counter.parts())) as url:
        for behaviour in (None, raising(RuntimeError(canary)), raising(ValueError(f"{canary}"))):
            counter.behaviour = behaviour
            for method, target, headers in (
                ("POST", PHONE, (PAID,)),
                ("POST", PHONE, (("Authorization", f"Bearer {plain}"),)),
                ("POST", PHONE, (("PAYMENT-SIGNATURE", plain),)),
                ("POST", PHONE, (PAID, ("X-Request-Id", plain), ("User-Agent", canary), ("X-Forwarded-For", plain))),
                (
                    "POST",
                    PHONE,
                    (PAID, ("Idempotency-Key", plain), ("Cookie", plain), ("Referer", f"http://x/{plain}")),
                ),
                ("GET", f"{PHONE}?q={plain}", (PAID,)),
                ("GET", f"/api/v1/parcels/{plain}", (PAID,)),
                ("GET", f"/nowhere/{plain}?{plain}", ()),
            ):
                await ask(url, method, target, *headers, body=json.dumps({"q": canary}).encode())
    written = stream.getvalue()
    assert written.count("\n") > 20
    for form in (canary, plain, canary.removeprefix("0x")):
        assert form not in written


@pytest.mark.parametrize("canary", CANARIES[:-1])
def test_the_second_line_of_defence(stream: io.StringIO, canary: str) -> None:
    """Somebody logs what he must not; a library does."""
    log = structlog.get_logger()
    log.info("said " + canary, why=f"because of {canary}.", many=[canary, {"deep": canary}], other=Exception(canary))
    logging.getLogger("some.library").warning("GET http://x/?q=%s failed", canary)
    try:
        raise RuntimeError(canary)
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("some.library").exception("failed with %s", canary)
    assert len(lines(stream)) == 4
    assert canary not in stream.getvalue()
    assert stream.getvalue().count(REDACTED) >= 5


@pytest.mark.parametrize(
    "key", ["token", "charge_token", "authorization", "signature", "private_key", "body", "phone", "name"]
)
def test_some_keys_are_never_shown(stream: io.StringIO, key: str) -> None:
    structlog.get_logger().info("x", **{key: "Dana Sample"})
    assert lines(stream)[0][key] == REDACTED


def test_what_operators_need_is_left_alone(stream: io.StringIO) -> None:
    told = {
        "charge_id": "chg_01m851jjd8s5qepr0000000001",
        "transaction": "0x" + "ab" * 32,
        "payer": "0x52908400098527886e0f7030069857d2e4169ee7",
        "network": "eip155:8453",
        "amount_micros": 330_000,
        "hint": "411_...x7Q",
        "at": "2026-11-23T12:00:00Z",
        "block": 21_000_000,
    }
    structlog.get_logger().info("settled", **told)
    assert {key: lines(stream)[0][key] for key in told} == told


def test_an_exception_is_its_type_and_its_place(stream: io.StringIO) -> None:
    def inner() -> None:
        raise KeyError("canary")

    try:
        try:
            inner()
        except KeyError as error:
            raise RuntimeError("canary") from error
    except RuntimeError as error:
        structlog.get_logger().error("failed", exc_info=error)
    line = lines(stream)[0]
    assert line["error"] == "RuntimeError"
    assert "caused by KeyError" in line["trace"]
    assert any(place.endswith(" inner") and "test_logs.py:" in place for place in line["trace"])
    assert "canary" not in stream.getvalue()


def test_libraries_whisper_to_nobody(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.client").debug("GET https://vendor.example/?key=1")
    logging.getLogger("uvicorn.error").info("chatter")
    assert stream.getvalue() == ""


def test_the_console_form_is_redacted_alike() -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure("console", "info", stream)
        structlog.get_logger().info("hello", token=TOKEN, note=TOKEN)
        structlog.get_logger().debug("not shown")
    finally:
        structlog.reset_defaults()
        root.handlers[:], root.level = handlers, level
    assert "hello" in stream.getvalue()
    assert TOKEN not in stream.getvalue()
    assert "not shown" not in stream.getvalue()


class Paper(io.StringIO):
    """Counts how often it is written to."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


async def test_the_lines_of_one_turn_are_written_together_after_it() -> None:
    paper = Paper()
    lines = Lines(paper)
    for line in ("one\n", "two\n", "three\n"):
        lines.write(line)
    assert paper.getvalue() == ""
    await asyncio.sleep(0)
    assert (paper.getvalue(), paper.writes) == ("one\ntwo\nthree\n", 1)
    await asyncio.to_thread(lines.write, "of a thread\n")
    assert paper.getvalue().endswith("of a thread\n")


def test_without_a_loop_a_line_is_written_at_once() -> None:
    paper = Paper()
    Lines(paper).write("one\n")
    assert paper.getvalue() == "one\n"


async def test_a_log_that_cannot_be_written_fails_no_call(url: str) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left on device")

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    failed: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    configure("json", "debug", Full())
    try:
        for _ in range(2):
            assert (await ask(url, "POST", PHONE, PAID)).status == 200
        assert failed == []
    finally:
        structlog.reset_defaults()
        root.handlers[:], root.level = handlers, level
