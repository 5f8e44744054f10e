"""A frozen agent: nothing new is begun for it, what is under way ends as it would, and it may still ask."""

import asyncio
import time

from rigs.gate import Gate
from rigs.scripted import METERED, slow, taking
from scenario.test_jobs import poll, submit

from gateway.core.agent import Status
from gateway.core.job import State
from gateway.store import agents
from gateway.store import jobs as jobs_store


async def freeze(gate: Gate, agent: str, status: Status = Status.FROZEN) -> None:
    assert await gate.gateway.db.write(agents.set_status, agent, status, "a test")


async def begun(gate: Gate, number: int = 1) -> None:
    while len(gate.upstream.journal) < number:  # noqa: ASYNC110 - the upstream keeps a list, no event
        await asyncio.sleep(0.01)


async def test_a_frozen_agent_buys_nothing_and_may_ask_about_everything(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(10_000_000)
        job = await submit(gate, "hello", token=token)
        done = (await poll(gate, job)).json
        bought = await gate.call("hello", token=token)
        assert (await gate.call("hello", token=token)).status == 200  # its token is known at the door by now
        await freeze(gate, agent)
        before = await gate.balance(agent)
        for call in (
            gate.call("more", token=token),
            gate.call("more", token=token, payment=await gate.sign()),
            submit(gate, "more", token=token),
        ):
            reply = await call
            assert (reply.status, reply.json["code"]) == (403, "AGENT_FROZEN")
        bearer = {"Authorization": f"Bearer {token}"}
        me = await gate.send("GET", "/api/v1/agents/me", headers=bearer)
        assert (me.status, me.json["status"]) == (200, "frozen")
        assert (await gate.send("GET", "/api/v1/agents/balance", headers=bearer)).status == 200
        charge = await gate.send("GET", f"/api/v1/charges/{bought.headers['X-Charge-Id']}", headers=bearer)
        assert (charge.status, charge.json["matched"]) == (200, True)
        assert (await poll(gate, job)).json["result"] == done["result"]
        assert await gate.balance(agent) == before
        assert len(gate.upstream.journal) == 3
        await freeze(gate, agent, Status.ACTIVE)
        assert (await gate.call("more", token=token)).status == 200


async def test_what_is_under_way_ends_as_it_would(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script |= {"call": slow(0.5), "job": slow(0.5, taking(500_000))}
        agent, token = await gate.agent(10_000_000)
        call = asyncio.create_task(gate.call("call", token=token))
        job = await submit(gate, "job", token=token)
        await begun(gate, 2)
        await freeze(gate, agent)
        assert (await call).status == 200
        told = (await poll(gate, job)).json
        assert (told["status"], told["billing"]["charged_usd"]) == ("completed", "0.750")
        balance = await gate.balance(agent)
        assert (balance.available, balance.held) == (10_000_000 - 330_000 - 750_000, 0)


async def test_jobs_in_the_queue_wait_for_the_end_of_it(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 1") as gate:
        gate.upstream.script |= {"first": slow(0.5, taking(METERED.base_micros))}
        ann, token = await gate.agent(10_000_000)
        _, bob = await gate.agent(10_000_000)
        first = await submit(gate, "first", token=token)
        await begun(gate)
        second, others = await submit(gate, "second", token=token), await submit(gate, "other", token=bob)
        await freeze(gate, ann)
        for job in (first, others):
            assert (await poll(gate, job)).json["status"] == "completed"
        told = (await poll(gate, second, wait=2)).json
        assert (told["status"], gate.upstream.runs("second")) == ("queued", 0)
        assert (await gate.balance(ann)).held == 1_500_000
        await freeze(gate, ann, Status.ACTIVE)
        assert (await poll(gate, second)).json["status"] == "completed"


async def test_or_end_at_their_deadline_for_nothing(tmp_path):
    moved = [0.0]
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 1", clock=lambda: time.time() + moved[0]) as gate:
        gate.upstream.script |= {"first": slow(0.5, taking(METERED.base_micros))}
        ann, token = await gate.agent(10_000_000)
        first = await submit(gate, "first", token=token)
        await begun(gate)
        second = await submit(gate, "second", token=token)
        await freeze(gate, ann)
        await poll(gate, first)
        before = await gate.balance(ann)
        moved[0] = 901
        told = (await poll(gate, second)).json
        assert (told["status"], told["billing"]["charged_usd"], gate.upstream.runs("second")) == ("failed", "0.000", 0)
        after = await gate.balance(ann)
        assert (after.available, after.held) == (before.available + before.held, 0)
        assert (await gate.gateway.db.read(jobs_store.find, second.json["job_id"])).state is State.FAILED


async def test_a_frozen_agent_may_stop_what_it_has_handed_over(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 1") as gate:
        gate.upstream.script |= {"first": slow(0.5, taking(METERED.base_micros))}
        ann, token = await gate.agent(10_000_000)
        first = await submit(gate, "first", token=token)
        await begun(gate)
        second = await submit(gate, "second", token=token)
        await freeze(gate, ann)
        assert (await poll(gate, second, method="DELETE", wait=0)).json["status"] == "cancelled"
        await poll(gate, first)
        assert (await gate.balance(ann)).held == 0
