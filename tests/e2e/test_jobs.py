"""Jobs on the real process and the real chain: paid by official means, killed at every point, shared by processes."""

import asyncio
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.gate import Reply
from rigs.payer import Payer, echoing
from rigs.program import Program
from rigs.running import GONE, Running, eventually, relayed, running
from rigs.settled import settled_up, usd
from rigs.upstream import ScriptedUpstream, Seen, Wire, reply, status

from gateway.core import crash

pytestmark = pytest.mark.chain

TIMES = 3 if os.environ.get("FAREGATE_LOOPS") == "short" else 1
TIMES_FULL = 20
JOBS = "/api/v1/enrich/jobs"
PAYER = Payer(PAYER_KEYS[6])
KILLED = -9
POINTS = sorted(point for point in crash.POINTS if point.startswith(("job.", "hold.", "settle.", "proven.")))
BY_SIGNATURE = ("settle.", "proven.")
CHARGED = 750_000
"""Half a dollar at the vendor's, marked up by half."""


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply({"found": "canary-2f7a", "cost_usd": 0.5})) as shop:
        yield shop


async def submit(gate: Running, word: str, **means: Any) -> Reply:
    body = {
        "route": "shop/research", "payload": {"word": word}, "bill_up_to_usd": "1.50",
        "callback_url": "https://hooks.invalid/told",
    }  # fmt: skip
    return await gate.call("enrich/jobs", body, **means)


async def signed(gate: Running, payer: Payer = PAYER) -> Any:
    required = (await gate.call("enrich/jobs", {})).offer
    (offer,) = required["accepts"]
    return echoing(payer.permit2(offer), required)


async def polled(gate: Running, accepted: Reply, wait: int = 0) -> Reply:
    bearer = {"Authorization": f"Bearer {accepted.json['poll_bearer']}"}
    return await gate.send("GET", f"{accepted.json['poll_url']}?wait={wait}", headers=bearer)


async def ended(gate: Running, accepted: Reply, within_s: float = 40) -> Any:
    async def over() -> Any:
        told = (await polled(gate, accepted, wait=5)).json
        return told if told["status"] in ("completed", "failed", "cancelled") else None

    return await eventually(over, within_s)


def runs(shop: ScriptedUpstream, word: str) -> int:
    return sum(word.encode() in seen.body for seen in shop.seen)


LEASE = "\n[jobs]\nlease_s = 1\n"


async def balance(gate: Running, token: str) -> tuple[int, int]:
    """(available, held), in micro-dollars."""
    told = (await gate.send("GET", "/api/v1/agents/balance", headers={"Authorization": f"Bearer {token}"})).json
    return usd(told["available_usd"]), usd(told["held_usd"])


async def test_from_a_balance_the_ceiling_is_held_then_charged_or_released(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> None:
    """Less than the ceiling, all of it, nothing where nothing is found, where the vendor fails, where it is cancelled.
    By x402 official clients are charged so: see test_official_clients_jobs.py."""
    async with running(tmp_path, program, relayed(chain, upstream=shop.port, more=LEASE)) as gate:
        token = await gate.agent("10.00")
        available = 10_000_000
        for vendor, state, charged in (
            (reply({"found": "canary-2f7a", "cost_usd": 0.123401}, delay_s=0.2), "completed", 185_102),
            (reply({"found": "canary-2f7a", "cost_usd": 40.0}, delay_s=0.2), "completed", 1_500_000),
            (reply({"cost_usd": 0.1}, delay_s=0.2), "completed", 0),
            (reply({"found": "canary-2f7a", "cost_usd": 0.5}, delay_s=9), "cancelled", 0),
            (reply({}, status=500, delay_s=0.2), "failed", 0),
        ):
            shop.default = vendor
            accepted = await submit(gate, secrets.token_hex(4), token=token)
            assert (accepted.status, usd(accepted.json["held_usd"])) == (202, 1_500_000)
            assert await balance(gate, token) == (available - 1_500_000, 1_500_000)
            if state == "cancelled":
                await gate.send("DELETE", accepted.json["poll_url"], headers={"Authorization": f"Bearer {token}"})
            told = await ended(gate, accepted)
            settled_up(told)
            assert (told["status"], usd(told["billing"]["charged_usd"])) == (state, charged)
            assert told["billing"]["mode"] == "virtual_balance"
            available -= charged
            assert await balance(gate, token) == (available, 0)
        charges = await gate.charges()
        assert [charge["state"] for charge in charges] == ["captured", "captured", "released", "released", "released"]


@pytest.mark.parametrize(
    "times", [pytest.param(TIMES, id="quick"), pytest.param(TIMES_FULL, id="full", marks=pytest.mark.full)]
)
@pytest.mark.parametrize(
    ("point", "by"),
    [
        (point, by)
        for point in POINTS
        for by in ("upto", "balance")
        if by == "upto" or not point.startswith(BY_SIGNATURE)
    ],
)
async def test_f066_killed_at_every_point_of_a_job(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path, point: str, by: str, times: int
) -> None:
    """It ends once and is charged once; what the vendor has answered and we have kept is not asked again."""
    settings = relayed(chain, upstream=shop.port, more=LEASE)
    async with running(tmp_path, program, settings) as gate:
        # Signed before: what a life has left to be looked after may end the next one at its start.
        ready = [
            {"payment": await signed(gate)} if by == "upto" else {"token": await gate.agent("1.50")}
            for _ in range(times)
        ]
        await gate.kill()
        for number, means in enumerate(ready):
            word = secrets.token_hex(4)
            await gate.start(crash_at=point, ready=False)
            accepted = None
            with suppress(*GONE):  # it died before we heard: the same submission again is the same job
                accepted = await submit(gate, word, **means, key=f"k{number}")
            assert await gate.ended() == KILLED
            await gate.start()
            again = await submit(gate, word, **means, key=f"k{number}")
            assert again.status == 202
            assert accepted is None or again.json["job_id"] == accepted.json["job_id"]
            told = await ended(gate, again)
            assert (told["status"], told["billing"]["charged_usd"]) == ("completed", "0.750"), told
            assert told["callback"]["state"] == "pending", "its event was written with its end"
            assert runs(shop, word) <= 2
            if point in ("job.worked", "job.before_end", "job.after_end") or point.startswith(BY_SIGNATURE):
                assert runs(shop, word) == 1
            await gate.kill()
        charged = [charge for charge in await gate.charges() if charge["charged_usd"] == "0.750"]
        assert len(charged) == times
        if by == "upto":
            assert chain.balance(settings.pay_to) == times * CHARGED


async def test_the_operator_sees_and_stops_jobs(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> None:
    shop.default = reply({"found": "canary-2f7a", "cost_usd": 0.5}, delay_s=20)
    settings = relayed(chain, upstream=shop.port, more="\n[jobs]\nlease_s = 1\nat_once = 1\n")
    async with running(tmp_path, program, settings) as gate:
        assert "no such jobs" in await gate.run("jobs", "list")
        token = await gate.agent("5.00")
        first = await submit(gate, "first", token=token)
        second = await submit(gate, "second", token=token)
        job = {name: accepted.json["job_id"] for name, accepted in (("first", first), ("second", second))}
        told = [json.loads(line) for line in (await gate.run("jobs", "list", "--json")).splitlines()]
        assert [row["job"] for row in told] == [job["second"], job["first"]]
        assert job["first"] in await gate.run("jobs", "list")
        assert "cancelled" in await gate.run("jobs", "cancel", job["second"])
        await gate.run("jobs", "cancel", job["second"], status=4)
        await gate.run("jobs", "cancel", job["first"])
        for accepted in (first, second):
            ended_as = await ended(gate, accepted)
            assert (ended_as["status"], ended_as["billing"]["charged_usd"]) == ("cancelled", "0.000")
        shown = json.loads(await gate.run("jobs", "show", job["second"]))
        assert (shown["state"], shown["captured_usd"], shown["callback"]["state"]) == ("cancelled", "0.000", "pending")
        assert (shown["held_usd"], shown["error"]["code"]) == ("1.500", "JOB_CANCELLED")
        for command in ("show", "cancel"):
            await gate.run("jobs", command, "ej_nothing", status=2)
        await gate.run("jobs", "list", "--state", "lost", status=2)


async def test_the_operator_has_a_failed_job_done_again(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> None:
    shop.default = status(500)
    async with running(tmp_path, program, relayed(chain, upstream=shop.port)) as gate:
        token = await gate.agent("1.60")
        failed = await submit(gate, "word", token=token)
        assert (await ended(gate, failed))["status"] == "failed"
        signed_for = await submit(gate, "word", payment=await signed(gate))
        assert (await ended(gate, signed_for))["status"] == "failed"
        shop.default = reply({"found": "canary-2f7a", "cost_usd": 0.5})
        job = failed.json["job_id"]
        asked = await gate.run("jobs", "retry", job, status=1)  # nobody says yes
        assert "after all" in asked
        assert "only its payer" in await gate.run("jobs", "retry", "--yes", signed_for.json["job_id"], status=4)
        said = dict(
            line.rsplit(maxsplit=1) for line in (await gate.run("jobs", "retry", "--yes", job)).splitlines()[:2]
        )
        again = {"job_id": said["job"], "poll_bearer": said["poll bearer"], "poll_url": f"{JOBS}/{said['job']}"}
        told = await ended(gate, Reply(202, {}, json.dumps(again).encode()))
        assert (told["status"], told["billing"]["charged_usd"]) == ("completed", "0.750")
        shown = json.loads(await gate.run("jobs", "show", job))
        assert (shown["state"], shown["retried_as"]) == ("failed", again["job_id"])
        assert json.loads(await gate.run("jobs", "show", again["job_id"]))["retry_of"] == job
        assert again["job_id"] in await gate.run("jobs", "retry", "--yes", job, status=4)
        await gate.run("jobs", "retry", "--yes", "ej_nothing", status=2)


async def test_f066_what_may_not_be_asked_twice_is_not(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> None:
    async with running(
        tmp_path, program, relayed(chain, upstream=shop.port, repeatable=False, more=LEASE), started=False
    ) as gate:
        await gate.start(crash_at="job.asked")
        token = await gate.agent("1.50")
        with suppress(*GONE):
            await submit(gate, "once", token=token, key="k")
        assert await gate.ended() == KILLED
        asked = runs(shop, "once")
        await gate.start()
        told = await ended(gate, await submit(gate, "once", token=token, key="k"))
        assert (told["status"], told["billed"], told["error"]["code"]) == ("failed", False, "UPSTREAM_ERROR")
        assert runs(shop, "once") == asked <= 1


async def test_f074_what_kills_its_workers_is_given_up_and_the_others_go_on(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> None:
    more = "\n[jobs]\nlease_s = 1\nat_once = 1\n"
    async with running(tmp_path, program, relayed(chain, upstream=shop.port, more=more), started=False) as gate:
        await gate.start()
        token = await gate.agent("10.00")
        await gate.kill()
        poison = None
        for _ in range(3):
            await gate.start(crash_at="job.asked")
            with suppress(*GONE):
                poison = poison or await submit(gate, "poison", token=token, key="k")
            assert await gate.ended() == KILLED
        await gate.start()
        poison = await submit(gate, "poison", token=token, key="k")
        other = await submit(gate, "other", token=token)
        assert (await ended(gate, other))["status"] == "completed"
        told = await ended(gate, poison)
        assert (told["status"], told["billed"]) == ("failed", False)
        assert told["error"]["message"].startswith("it ended its worker")


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.full)])
async def test_f065_processes_share_the_queue(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path, processes: int
) -> None:
    """Every job runs once at a time. Those of a process that is killed are taken over when its leases are over, and
    others look once a second: between one heartbeat less than `lease_s` and a second more, after its death."""
    asked: list[tuple[bytes, float]] = []
    at_once: Counter[bytes] = Counter()
    answer = reply({"found": "canary-2f7a", "cost_usd": 0.5}, delay_s=0.3)

    async def behave(seen: Seen, wire: Wire) -> None:
        asked.append((seen.body, time.monotonic()))
        at_once[seen.body] += 1
        await answer(seen, wire)

    shop.default = behave
    settings = relayed(chain, upstream=shop.port, more="\n[jobs]\nlease_s = 2\nat_once = 2\n")
    async with running(tmp_path, program, settings) as first, AsyncExitStack() as stack:
        others = [
            await stack.enter_async_context(running(tmp_path, program, settings, name=f"other{number}"))
            for number in range(1, processes)
        ]
        token = await first.agent("100.00")
        words = [secrets.token_hex(4) for _ in range(8 * processes)]
        gates = [first, *others]
        accepted = [await submit(gates[n % processes], word, token=token) for n, word in enumerate(words)]
        await asyncio.sleep(0.4)
        await others[0].kill()
        killed = time.monotonic()
        told = [await ended(first, each) for each in accepted]
        assert {each["status"] for each in told} == {"completed"}
        assert {each["billing"]["charged_usd"] for each in told} == {"0.750"}
        twice = [body for body, times in at_once.items() if times > 1]
        assert len(twice) in (1, 2), "no more than what the killed one was working on"
        assert set(at_once.values()) <= {1, 2}
        for body in twice:
            _, again = (at for asked_for, at in asked if asked_for == body)
            assert 1.4 < again - killed < 4.5
        await others[0].start()
