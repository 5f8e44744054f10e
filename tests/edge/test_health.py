import asyncio

from rigs.counter import Counter
from rigs.wire import ask

from gateway.edge.app import build_app
from gateway.edge.health import Fact, Health
from gateway.edge.server import serving


async def test_alive_asks_nobody(url: str, counter: Counter) -> None:
    reply = await ask(url, "GET", "/healthz")
    assert (reply.status, reply.json(), counter.asked) == (200, {"alive": True}, 0)


async def test_ready_tells_its_facts(counter: Counter) -> None:
    counter.facts = [Fact("database", True), Fact("settlement", False, "no relayer answers")]
    async with serving(build_app(counter.parts())) as url:
        reply = await ask(url, "GET", "/readyz")
    assert reply.status == 503
    assert reply.json() == {
        "ready": False,
        "checks": {
            "database": {"ok": True, "detail": ""},
            "settlement": {"ok": False, "detail": "no relayer answers"},
        },
    }


async def test_many_askers_are_one_question(counter: Counter) -> None:
    """F-121"""
    async with serving(build_app(counter.parts())) as url:
        replies = await asyncio.gather(*(ask(url, "GET", "/readyz") for _ in range(50)))
    assert {reply.status for reply in replies} == {200}
    assert counter.asked == 1


async def test_a_part_that_fails_is_not_ready(counter: Counter) -> None:
    async def broken() -> list[Fact]:
        raise RuntimeError("canary")

    async with serving(build_app(counter.parts(ready=broken))) as url:
        reply = await ask(url, "GET", "/readyz")
    assert (reply.status, b"canary" in reply.body) == (503, False)


async def test_a_part_that_hangs_is_not_ready() -> None:
    async def hanging() -> list[Fact]:
        await asyncio.sleep(60)
        return []

    reply = await asyncio.wait_for(Health(hanging, timeout_s=0.05).readyz(None), 1)  # type: ignore[arg-type]
    assert reply.status_code == 503
