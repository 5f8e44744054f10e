import pytest
from rigs.counter import PAID, PHONE, Counter
from rigs.wire import Reply, ask

from gateway.core.ids import new_token, token_hash
from gateway.core.vendor_call import ErrorClass, Outcome, Standing, VendorCall
from gateway.edge.app import build_app
from gateway.edge.metrics import PROVIDERS_MAX, Metrics, Vitals
from gateway.edge.server import serving

OPERATOR = new_token("411o_", b"\x05" * 32)


async def page(counter: Counter, *headers: tuple[str, str], **changes: object) -> Reply:
    async with serving(build_app(counter.parts(**changes))) as url:
        return await ask(url, "GET", "/metrics", *headers)


async def test_this_machine_may_look(counter: Counter) -> None:
    reply = await page(counter)
    assert (reply.status, reply.header("cache-control")) == (200, "no-store")
    assert b"process_resident_memory_bytes" in reply.body


@pytest.mark.parametrize(
    "header",
    [
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 proxy"),
        ("Origin", "https://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Authorization", "Bearer nothing"),
    ],
)
async def test_neither_a_proxy_here_nor_a_web_page_here_is_this_machine(
    counter: Counter, header: tuple[str, str]
) -> None:
    relayed = header if header[0] != "Authorization" else ("Via", "1.1 proxy")
    reply = await page(counter, header, relayed, operator_token_hash=token_hash(OPERATOR))
    assert (reply.status, reply.json()["code"]) == (401, "INVALID_TOKEN")


async def test_a_host_name_that_was_pointed_at_us_is_not_us(counter: Counter) -> None:
    from rigs.wire import Wire

    async with serving(build_app(counter.parts())) as url, await Wire.to(url) as wire:
        for host, status in (
            ("evil.example:8402", 401),
            ("localhost:8402", 200),
            ("[::1]:8402", 200),
            ("127.0.0.1", 200),
        ):
            wire.send(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert (await wire.reply()).status == status, host


async def test_the_operators_token_opens_it_from_anywhere(counter: Counter) -> None:
    far = ("X-Forwarded-For", "203.0.113.9")
    bearer = ("Authorization", f"Bearer {OPERATOR}")
    assert (await page(counter, far, bearer, operator_token_hash=token_hash(OPERATOR))).status == 200
    assert (await page(counter, far, bearer)).status == 401


async def test_what_is_counted(counter: Counter) -> None:
    metrics = Metrics()
    counter.vitals = Vitals(alarms={"relayer_funds_low": 1, "queue_stuck": 0}, settlements={"queued": 3, "proven": 9})
    metrics.call(
        "enrich/phone",
        "match",
    )
    metrics.charged("enrich/phone", "signature", 330_000)
    metrics.refused("head_timeout")
    async with serving(build_app(counter.parts(metrics=metrics))) as url:
        await ask(url, "POST", PHONE, PAID)
        await ask(url, "GET", "/nowhere/Dana")
        await ask(url, "GET", "/metrics")
        text = (await ask(url, "GET", "/metrics")).body.decode()
    for line in (
        'faregate_paid_calls_total{operation="enrich/phone",outcome="match"} 1.0',
        'faregate_charged_micros_total{operation="enrich/phone",source="signature"} 330000.0',
        'faregate_connections_refused_total{reason="head_timeout"} 1.0',
        'faregate_requests_total{route="/api/v1/enrich/phone",status="200"} 1.0',
        'faregate_requests_total{route="unknown",status="404"} 1.0',
        'faregate_requests_total{route="/metrics",status="200"} 1.0',
        'faregate_request_seconds_count{route="/api/v1/enrich/phone"} 1.0',
        'faregate_settlements{state="queued"} 3.0',
        'faregate_settlements{state="proven"} 9.0',
        'faregate_alarm{name="relayer_funds_low"} 1.0',
        'faregate_alarm{name="queue_stuck"} 0.0',
        'faregate_alarm{name="blind"} 0.0',
    ):
        assert line in text.splitlines()
    assert "Dana" not in text


async def test_providers_are_counted_and_shown(counter: Counter) -> None:
    metrics = Metrics()
    metrics.bought(VendorCall("find", "brave", Outcome.MATCH))
    metrics.bought(VendorCall("find", "brave", Outcome.FAILED, ErrorClass.QUOTA))
    standings = {"brave": Standing(rest_s=300, quota_left=4, quota_limit=100), "trestle": Standing()}
    lines = metrics.show(Vitals(providers=standings)).decode().splitlines()
    for line in (
        'faregate_vendor_calls_total{error="",outcome="match",provider="brave"} 1.0',
        'faregate_vendor_calls_total{error="quota",outcome="failed",provider="brave"} 1.0',
        'faregate_provider_rest_seconds{provider="brave"} 300.0',
        'faregate_provider_rest_seconds{provider="trestle"} 0.0',
        'faregate_provider_quota_left{provider="brave"} 4.0',
        'faregate_provider_quota_limit{provider="brave"} 100.0',
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith('faregate_provider_quota_left{provider="trestle"')]
    rested = metrics.show(Vitals(providers={"brave": Standing()})).decode().splitlines()
    assert 'faregate_provider_rest_seconds{provider="brave"} 0.0' in rested


async def test_a_plug_in_that_names_a_provider_after_each_question_does_not_fill_the_memory() -> None:
    metrics = Metrics()
    for number in range(PROVIDERS_MAX + 7):
        metrics.bought(VendorCall("find", f"vendor-{number}", Outcome.MATCH))
    lines = metrics.show(Vitals()).decode().splitlines()
    assert len([line for line in lines if line.startswith("faregate_vendor_calls_total{")]) == PROVIDERS_MAX + 1
    assert 'faregate_vendor_calls_total{error="",outcome="match",provider="other"} 7.0' in lines


async def test_not_to_know_is_an_alarm(counter: Counter) -> None:
    """F-182: a store that does not answer takes neither the page nor the other numbers with it."""

    async def broken() -> Vitals:
        raise RuntimeError("canary")

    reply = await page(counter, watch=broken)
    assert reply.status == 200
    assert b'faregate_alarm{name="blind"} 1.0' in reply.body
    assert b"canary" not in reply.body


async def test_two_gateways_count_apart(counter: Counter) -> None:
    assert Metrics().registry is not Metrics().registry


async def test_an_alarm_that_is_told_no_more_is_over() -> None:
    """But not because nobody can look."""
    line = b'faregate_alarm{name="rpc_unreachable"} '
    metrics = Metrics()
    assert line + b"1.0" in metrics.show(Vitals(alarms={"rpc_unreachable": 1, "blind": 0}))
    assert line + b"1.0" in metrics.show(Vitals(alarms={"blind": 1}))
    assert line + b"0.0" in metrics.show(Vitals(alarms={"blind": 0}))
