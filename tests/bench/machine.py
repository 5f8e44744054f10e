"""Figures of the server itself: the unpaid 402, calls paid from balance, starting, and memory at rest."""

import asyncio
import re
import subprocess
import time
from contextlib import AsyncExitStack

from bench import load, targets
from bench.figures import Figure, Plan
from bench.load import median
from bench.targets import FAREGATE, Target
from rigs.chain import Chain

IN_FLIGHT = 32


async def challenges(plan: Plan) -> dict[str, Figure]:
    """The unpaid 402, 32 in flight: requests a second, and CPU microseconds a request."""
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    costs: dict[str, list[float]] = {"ours": [], "peer": []}
    async with AsyncExitStack() as stack:
        both = await _both(stack, plan)
        for number in range(plan.rounds(5)):
            for target in both if number % 2 else reversed(both):
                request = load.http("GET", target.path)
                await load.run(target.port, load.during(0.3, request), IN_FLIGHT)
                before = load.cpu_seconds(target.pid)
                ran = await load.run(target.port, load.during(plan.seconds(3), request), IN_FLIGHT)
                ran.expect(402)
                rates[target.name].append(ran.rate)
                costs[target.name].append((load.cpu_seconds(target.pid) - before) / len(ran.latencies) * 1e6)
    return {
        "challenge_rate": Figure(median(rates["ours"]), median(rates["peer"]), "1/s", "x5"),
        "challenge_cpu": Figure(median(costs["ours"]), median(costs["peer"]), "us", "x5", lower_is_better=True),
    }


async def balance(plan: Plan) -> dict[str, Figure]:
    """Paid from balance, 32 in flight, the small API behind it on loopback. No peer has such a thing."""
    rates, slowest = [], []
    async with AsyncExitStack() as stack:
        small = stack.enter_context(targets.upstream())
        target = await stack.enter_async_context(targets.ours(small, None))
        token = agent(target)
        request = load.http("GET", target.path, {"Authorization": f"Bearer {token}"})
        await load.run(target.port, load.during(0.5, request), IN_FLIGHT)
        for _ in range(plan.rounds(5)):
            ran = await load.run(target.port, load.during(plan.seconds(4), request), IN_FLIGHT)
            ran.expect(200)
            rates.append(ran.rate)
            slowest.append(ran.percentile(99) * 1000)
    return {
        "balance_c32": Figure(median(rates), None, "1/s", ">=2500"),
        "balance_c32_p99": Figure(median(slowest), None, "ms", "<40", lower_is_better=True),
    }


async def start_and_memory(plan: Plan) -> dict[str, Figure]:
    """From the start of the process to the first 402; resident memory a few seconds later."""
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    megabytes: dict[str, list[float]] = {"ours": [], "peer": []}
    chain = Chain.start()
    try:
        with targets.upstream() as small:
            for _ in range(plan.rounds(5)):
                started = time.perf_counter()
                async with targets.ours(small, chain) as target:
                    seconds["ours"].append(time.perf_counter() - started)
                    await asyncio.sleep(3)
                    megabytes["ours"].append(load.resident_mb(target.pid))
                async with targets.peer_parts(plan.peer_python, chain) as start_server:
                    started = time.perf_counter()
                    async with start_server() as target:
                        seconds["peer"].append(time.perf_counter() - started)
                        await asyncio.sleep(3)
                        megabytes["peer"].append(load.resident_mb(target.pid))
    finally:
        chain.close()
    return {
        "start": Figure(median(seconds["ours"]), median(seconds["peer"]), "s", "x0.8", lower_is_better=True),
        "memory": Figure(median(megabytes["ours"]), median(megabytes["peer"]), "MB", "x0.8", lower_is_better=True),
    }


async def _both(stack: AsyncExitStack, plan: Plan) -> list[Target]:
    chain = Chain.start()
    stack.callback(chain.close)
    small = stack.enter_context(targets.upstream())
    return [
        await stack.enter_async_context(targets.ours(small, chain)),
        await stack.enter_async_context(targets.peer(plan.peer_python, chain)),
    ]


def agent(target: Target) -> str:
    """The token of an agent with money, made by the command line beside the running gateway."""
    assert target.home is not None
    said = _cli("agents", "create", "bench", "--credit", "1000000", "--config", str(target.home / "faregate.toml"))
    found = re.search(r"411_[0-9A-Za-z]{49}", said)
    if found is None:
        raise SystemExit(f"no token in: {said}")
    return found.group()


def _cli(*words: str) -> str:
    ran = subprocess.run([FAREGATE, *words], capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"faregate {' '.join(words)}: {ran.stdout}{ran.stderr}")
    return ran.stdout
