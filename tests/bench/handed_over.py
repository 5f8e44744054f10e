"""Figures of jobs, and of those who wait for them. No peer has such things: each is measured by itself, or beside the
call that it is compared with.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import apsw
from bench import load, targets
from bench.figures import Figure, Plan
from bench.load import Load, median
from bench.machine import agent
from bench.targets import Target

JOBS = "/api/v1/enrich/jobs"
HANDED_OVER = 1_000
WORK_MS = 10
POLLS = 5_000
AT_ONCE = 8
WAIT_S = 60


async def drain(plan: Plan) -> dict[str, Figure]:
    """1,000 jobs are handed over while their vendor answers nobody; then each takes it 10 ms. Seconds until the last
    one has ended, by one process with its defaults."""
    took = []
    for _ in range(plan.rounds(3)):
        async with _shop(WORK_MS) as (target, token, gate):
            await _hand_over(target, token, HANDED_OVER)
            gate.touch()
            loop = asyncio.get_running_loop()
            started = loop.time()
            while _open(target):  # noqa: ASYNC110 what another process has written
                await asyncio.sleep(0.02)
            took.append(loop.time() - started)
    return {"jobs_drain": Figure(median(took), None, "s", "<5", lower_is_better=True)}


async def submit(plan: Plan) -> dict[str, Figure]:
    """CPU of handing a job over, as a multiple of that of a call paid from balance, whose work is in it. Of the jobs
    themselves none is worked on meanwhile, but those that fill the worker's places."""
    factors = []
    async with _shop(WORK_MS) as (target, token, _):
        await _hand_over(target, token, 200)
        for _ in range(plan.rounds(6)):
            calls = await _cpu(target, _calls(target, token, 1_000))
            jobs = await _cpu(target, _submissions(token, 1_000), 202)
            factors.append(jobs / calls)
    return {"job_submit": Figure(median(factors), None, "x", "<1.5", lower_is_better=True)}


async def longpolls(plan: Plan) -> dict[str, Figure]:
    """5,000 wait for a job each, over a connection each: megabytes of resident memory; and the median of a paid call
    beside them, as a multiple of that without them."""
    megabytes, factors = [], []
    for _ in range(plan.rounds(3)):
        async with _shop(WORK_MS) as (target, token, _):
            told = await _hand_over(target, token, POLLS)
            await load.run(target.port, _calls(target, token, 1_000), 1)
            alone = [await _median_ms(target, token) for _ in range(3)]
            before = load.resident_mb(target.pid)
            async with _waiting(target, told):
                megabytes.append(load.resident_mb(target.pid) - before)
                beside = [await _median_ms(target, token) for _ in range(3)]
            alone += [await _median_ms(target, token) for _ in range(3)]
            factors.append(median(beside) / median(alone))
    return {
        "longpoll_memory": Figure(median(megabytes), None, "MB", "<150", lower_is_better=True),
        "longpoll_slowdown": Figure(median(factors), None, "x", "<1.1", lower_is_better=True),
    }


@asynccontextmanager
async def _shop(work_ms: int) -> AsyncIterator[tuple[Target, str, Path]]:
    """A gateway that sells the small API and, as a job, the same at a vendor who answers once the file that is given is
    there; with the token of an agent with money."""
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder) / "gate"
        async with AsyncExitStack() as stack:
            small = stack.enter_context(targets.upstream())
            vendor = stack.enter_context(targets.upstream(work_ms, gate))
            more = f"""
[limits]
connections = 8192
[rate_limits]
long_polls = 8192
[[http_upstreams]]
id = "bench/work"
method = "GET"
url = "http://127.0.0.1:{vendor}/"
private = true
price = "0.001"
billing = "metered"
ceiling = "0.10"
cost_pointer = "/cost"
job = true
timeout_s = 120
description = "A small answer, later"
"""
            target = await stack.enter_async_context(targets.ours(small, None, more))
            token = agent(target)
            try:
                yield target, token, gate
            finally:
                gate.touch()  # whoever waits for his vendor can end


def _calls(target: Target, token: str, count: int) -> list[bytes]:
    return [load.http("GET", target.path, {"Authorization": f"Bearer {token}"})] * count


def _submissions(token: str, count: int) -> list[bytes]:
    body = json.dumps({"route": "bench/work", "payload": {}, "bill_up_to_usd": "0.05"}).encode()
    return [load.http("POST", JOBS, {"Authorization": f"Bearer {token}"}, body)] * count


async def _hand_over(target: Target, token: str, count: int) -> list[dict[str, str]]:
    """The 202s."""
    ran = await load.run(target.port, _submissions(token, count), AT_ONCE, keep=True)
    return [json.loads(body) for body in ran.expect(202).answers]


async def _cpu(target: Target, requests: list[bytes], status: int = 200) -> float:
    """Seconds of CPU for a request."""
    before = load.cpu_seconds(target.pid)
    (await load.run(target.port, requests, AT_ONCE)).expect(status)
    return (load.cpu_seconds(target.pid) - before) / len(requests)


async def _median_ms(target: Target, token: str) -> float:
    ran: Load = await load.run(target.port, _calls(target, token, 500), 1)
    return ran.expect(200).percentile(50) * 1000


@asynccontextmanager
async def _waiting(target: Target, told: list[dict[str, str]]) -> AsyncIterator[None]:
    """Everybody waits for his job."""
    writers = []
    for each in told:
        _, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1024)
        writer.write(
            load.http("GET", f"{each['poll_url']}?wait={WAIT_S}", {"Authorization": f"Bearer {each['poll_bearer']}"})
        )
        writers.append(writer)
    await asyncio.sleep(3)
    yield
    for writer in writers:
        writer.close()
    await asyncio.sleep(1)


def _open(target: Target) -> int:
    """Jobs that have not ended."""
    assert target.home is not None
    books = apsw.Connection(str(target.home / "bench.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        ((number,),) = books.execute("SELECT count(*) FROM jobs WHERE ended_ms IS NULL")
        return int(number)
    finally:
        books.close()
