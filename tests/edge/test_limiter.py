"""How often what costs nothing may be asked for: by whom it is counted, until when, and what is told of it."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rigs.counter import OFFLINE, PAID, PHONE, Counter
from rigs.wire import Reply, ask

from gateway.core.errors import Code, Problem
from gateway.edge.app import build_app
from gateway.edge.limiter import OPENED_MAX, WINDOWS_MAX, Limiter, Windows
from gateway.edge.server import serving
from gateway.edge.visit import Visit

ANN, BOB = "203.0.113.7", "198.51.100.9"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limiter(clock: Clock | None = None, **limits: str) -> Limiter:
    return Limiter(limits, monotonic=clock or Clock())


def refused(limits: Limiter, kind: str, key: str) -> bool:
    try:
        limits.hit(kind, key)
    except Problem as problem:
        return problem.code is Code.RATE_LIMITED
    return False


def turned_away(limits: Limiter, kind: str, client: str) -> bool:
    try:
        limits.caller(kind, Visit("req_x", client))
    except Problem:
        return True
    return False


# windows


def test_a_window_begins_with_its_first_request_and_ends_to_the_tick() -> None:
    clock = Clock()
    limits = limiter(clock, nonces="3 per minute")
    assert [refused(limits, "nonces", "ann") for _ in range(5)] == [False, False, False, True, True]
    clock.now += 59.999
    assert refused(limits, "nonces", "ann")
    clock.now += 0.001
    assert [refused(limits, "nonces", "ann") for _ in range(4)] == [False, False, False, True]


def test_whoever_goes_on_asking_waits_no_longer_for_it() -> None:
    clock = Clock()
    limits = limiter(clock, nonces="1 per minute")
    for _ in range(50):
        refused(limits, "nonces", "ann")
        clock.now += 1
    clock.now += 10
    assert not refused(limits, "nonces", "ann")


def test_several_windows_hold_at_once() -> None:
    clock = Clock()
    limits = limiter(clock, registrations="2/minute;3/hour")
    told = []
    for _ in range(6):
        told.append(refused(limits, "registrations", "ann"))
        clock.now += 31
    assert told == [False, False, False, True, True, True]
    with pytest.raises(Problem) as raised:
        limits.hit("registrations", "ann")
    assert raised.value.details == {"limit": "registrations-3600", "quota": 3, "window_seconds": 3600}
    assert raised.value.retry_after_s == 3600 - 6 * 31


def test_nobody_counts_for_another_and_no_kind_for_another() -> None:
    limits = limiter(nonces="1 per minute", recoveries="1 per minute")
    assert not refused(limits, "nonces", "ann")
    assert not refused(limits, "nonces", "bob")
    assert not refused(limits, "recoveries", "ann")
    assert refused(limits, "nonces", "ann")


@pytest.mark.parametrize("limits", [{}, {"nonces": ""}, {"polls": "1 per day"}])
def test_what_has_no_limit_is_never_refused(limits: dict[str, str]) -> None:
    assert not any(refused(limiter(**limits), "nonces", "ann") for _ in range(100))


# addresses


def test_a_network_has_a_few_times_as_much_as_an_address() -> None:
    limits = limiter(nonces="10 per minute")
    asked = [f"203.0.113.{i}" for i in range(1, 21)]
    assert sum(not turned_away(limits, "nonces", client) for client in asked for _ in range(10)) == 80
    assert not turned_away(limits, "nonces", "203.0.114.1")


def test_f158_an_ipv6_caller_is_his_64_and_a_site_its_48() -> None:
    limits = limiter(nonces="10 per minute")
    his = [f"2001:db8:1:2::{i:x}" for i in range(1000)]
    assert sum(not turned_away(limits, "nonces", client) for client in his) == 10
    site = [f"2001:db8:1:{i:x}::1" for i in range(1000)]
    assert sum(not turned_away(limits, "nonces", client) for client in site) == 70
    assert not turned_away(limits, "nonces", "2001:db8:2::1")


def test_tokens_that_opened_lately_are_so_many() -> None:
    limits = limiter()
    hashes = [number.to_bytes(32, "big") for number in range(OPENED_MAX + 2)]
    for each in [*hashes[:OPENED_MAX], hashes[0], *hashes[OPENED_MAX:]]:
        limits.opened(each)
    assert list(limits._opened) == [*hashes[3:OPENED_MAX], hashes[0], *hashes[OPENED_MAX:]]


def test_one_address_alone_does_not_use_up_its_network() -> None:
    limits = limiter(nonces="10 per minute")
    for _ in range(1000):
        turned_away(limits, "nonces", ANN)
    assert not turned_away(limits, "nonces", "203.0.113.8")


def test_this_machine_is_not_counted() -> None:
    limits = limiter(nonces="1 per minute")
    assert not any(turned_away(limits, "nonces", here) for here in ("127.0.0.1", "::1", "") for _ in range(10))


# memory


def test_a_flood_of_addresses_is_bounded() -> None:
    limits = limiter(documents="5 per minute")
    for number in range(50_000):
        turned_away(limits, "documents", f"{1 + number % 200}.1.{number // 200}.1")
    assert limits.windows == 2 * WINDOWS_MAX


def test_f121_ten_thousand_addresses_take_a_few_megabytes_and_give_them_back() -> None:
    clock = Clock()
    windows = Windows(clock)
    for number in range(10_000):
        windows.incr(f"LIMITER/2001:db8:{number:x}::/64/600/1/minute", 60)
    held = sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in windows._windows.items())
    assert held + sys.getsizeof(windows._windows) < 4_000_000
    clock.now += 60
    windows.incr("another", 60)
    assert len(windows) == 1


def test_a_flood_makes_the_oldest_forgotten_and_nobody_refused() -> None:
    windows = Windows(Clock(), windows_max=10)
    assert [windows.incr(str(number), 60) for number in range(100)] == [1] * 100
    assert [windows.get(str(number)) for number in (0, 89, 90, 99)] == [0, 0, 1, 1]


# at the doors


@asynccontextmanager
async def opened(counter: Counter, **limits: str) -> AsyncIterator[str]:
    """Behind a proxy on this machine."""
    parts = counter.parts(limiter=limiter(**limits), trusted_proxies=("127.0.0.1",))
    async with serving(build_app(parts)) as url:
        yield url


def of(client: str) -> tuple[str, str]:
    return ("X-Forwarded-For", client)


def limited(reply: Reply, policy: str, *, reset_s: int = 60) -> None:
    """The refusal and its headers, as draft-ietf-httpapi-ratelimit-headers-11 has them."""
    quota, window = reply.json()["details"]["quota"], reply.json()["details"]["window_seconds"]
    assert (reply.status, reply.json()["code"]) == (429, "RATE_LIMITED")
    assert set(reply.json()) == {"error", "code", "request_id", "details", "docs"}
    assert reply.json()["request_id"] == reply.header("x-request-id")
    assert reply.header("retry-after") == str(reset_s)
    assert reply.header("ratelimit-policy") == f'"{policy}";q={quota};w={window}'
    assert reply.header("ratelimit") == f'"{policy}";r=0;t={reset_s}'
    assert reply.header("cache-control") == "no-store"
    assert reply.header("access-control-allow-origin") == "*"
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= exposed(reply)


def exposed(reply: Reply) -> set[str]:
    return {name.strip() for name in (reply.header("access-control-expose-headers") or "").split(",")}


@pytest.mark.parametrize("path", ["/openapi.json", "/discovery/resources", "/healthz", "/readyz", "/nowhere"])
async def test_what_everybody_may_read_is_limited_by_address(counter: Counter, path: str) -> None:
    async with opened(counter, documents="3 per minute") as url:
        first = [await ask(url, "GET", path, of(ANN)) for _ in range(3)]
        assert {reply.status for reply in first} == {404 if path == "/nowhere" else 200}
        assert {reply.header("ratelimit") for reply in first} == {None}  # caches would give it to everybody
        limited(await ask(url, "GET", path, of(ANN)), "documents")
        assert (await ask(url, "GET", path, of(BOB))).status == first[0].status
        assert (await ask(url, "GET", path)).status == first[0].status  # this machine


async def test_f121_unpaid_402s_are_limited_and_their_refusals_cheap(counter: Counter) -> None:
    async with opened(counter, unpaid="3 per minute") as url:
        first = [await ask(url, method, PHONE, of(ANN)) for method in ("GET", "POST", "HEAD")]
        assert [(reply.status, reply.header("ratelimit")) for reply in first] == [(402, None)] * 3
        limited(await ask(url, "POST", PHONE, of(ANN), body=b"{}"), "unpaid")
        refusal = await ask(url, "HEAD", PHONE, of(ANN))
        assert (refusal.status, refusal.body) == (429, b"")
        assert (await ask(url, "GET", PHONE, of(BOB))).status == 402
        assert (await ask(url, "GET", OFFLINE, of(ANN))).status == 503
        page = (await ask(url, "GET", "/metrics")).body.decode()
    assert 'faregate_challenges_total{operation="enrich/phone"} 4.0' in page
    assert counter.served == []


async def test_whoever_pays_is_not_counted(counter: Counter) -> None:
    async with opened(counter, unpaid="1 per minute", documents="1 per minute", bad_tokens="1 per minute") as url:
        await ask(url, "GET", PHONE, of(ANN))
        limited(await ask(url, "GET", PHONE, of(ANN)), "unpaid")
        paid = [await ask(url, "POST", PHONE, of(ANN), PAID) for _ in range(20)]
    assert {(reply.status, reply.header("ratelimit")) for reply in paid} == {(200, None)}


async def test_a_402_that_depends_on_its_body_is_counted_with_the_others(counter: Counter) -> None:
    parts = counter.parts(
        unpaid=lambda operation, id, key: None, limiter=limiter(unpaid="2 per minute"), trusted_proxies=("127.0.0.1",)
    )
    async with serving(build_app(parts)) as url:
        told = [(await ask(url, "POST", PHONE, of(ANN))).status for _ in range(3)]
        told += [(await ask(url, "POST", PHONE, of(ANN), PAID)).status]
    assert told == [200, 200, 429, 200]


async def test_refusals_are_counted_and_not_written_down(counter: Counter, capsys: pytest.CaptureFixture[str]) -> None:
    """F-121: a flood must not fill the log."""
    async with opened(counter, documents="2 per minute") as url:
        for _ in range(10):
            await ask(url, "GET", "/pricing", of(ANN))
        page = (await ask(url, "GET", "/metrics")).body.decode()
    told = capsys.readouterr().out
    assert (told.count("status=200"), told.count("status=429")) == (3, 0)  # the page of the metrics, too
    assert 'faregate_requests_total{route="unknown",status="429"} 8.0' in page


# F-158


@pytest.mark.parametrize(
    ("trusted", "peer", "behind"),
    [((), ANN, ""), (("10.0.0.1",), ANN, ""), (("10.0.0.2",), "10.0.0.2", f", {ANN}")],
)
async def test_f158_ten_thousand_forged_addresses_from_one_host_are_one(
    counter: Counter, trusted: tuple[str, ...], peer: str, behind: str
) -> None:
    limits = limiter(unpaid="100 per minute")
    app = build_app(counter.parts(limiter=limits, trusted_proxies=trusted))
    statuses: list[int] = []

    async def send(message: dict) -> None:
        if "status" in message:
            statuses.append(message["status"])

    async def receive() -> dict:
        raise AssertionError("nothing is read")

    for number in range(10_000):
        forged = f"{number % 200 + 1}.{number // 200}.0.1{behind}".encode()
        scope = {
            "type": "http", "method": "GET", "path": PHONE, "query_string": b"", "client": (peer, 4711),
            "headers": [(b"x-forwarded-for", forged), (b"forwarded", b"for=" + forged)],
        }  # fmt: skip
        await app(scope, receive, send)
    assert (statuses.count(402), statuses.count(429)) == (100, 9_900)
    assert limits.windows == 2
