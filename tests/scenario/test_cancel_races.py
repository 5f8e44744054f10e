"""A cancellation and the end of the work meet at every moment: one end, one charge that fits it, one event."""

import asyncio
from functools import partial
from pathlib import Path

from rigs.gate import Gate
from rigs.postman import next_door
from rigs.running import eventually
from rigs.scripted import CANARY, slow, taking
from rigs.upstream import ScriptedUpstream, status
from scenario.test_callbacks import ALLOWED
from scenario.test_jobs import poll, submit

from gateway.core.errors import Problem
from gateway.flows.jobs import stop
from gateway.flows.webhooks import job_ended

STEPS = 120
BEAT_S = 0.25
"""Of a lease of one second: when a worker hears of a cancellation."""


async def test_f073_cancelled_at_every_millisecond(tmp_path: Path) -> None:
    """Millisecond by millisecond the work's end moves past the moment at which its worker hears of a cancellation at
    another process, and a cancellation here past the work's end. Whoever is told that it will stop pays nothing."""
    jobs = "[jobs]\nlease_s = 1\nat_once = 300\n"
    async with (
        ScriptedUpstream(default=status(204)) as up,
        next_door() as http,
        Gate.open(tmp_path, http=http, toml=ALLOWED + jobs) as gate,
    ):
        agent, token = await gate.agent(400_000_000)
        told_of = partial(job_ended, origin=gate.gateway.settings.service.origin)

        async def cancel(accepted, elsewhere: bool) -> int:
            if not elsewhere:
                said = await poll(gate, accepted, wait=0, method="DELETE")
                assert (said.status, said.json.get("code")) in ((200, None), (409, "JOB_ENDED"))
                return said.status
            try:
                await gate.gateway.db.write(stop, accepted.json["job_id"], 1000, told_of)
            except Problem as problem:
                return problem.status
            return 200

        async def race(name: str, work_s: float, cancelled_s: float, elsewhere: bool = False):
            gate.upstream.script[name] = slow(work_s, taking(500_000))
            url = up.url("/told", host=f"{name}.example.com")
            accepted = await submit(gate, name, token=token, callback_url=url)
            await asyncio.sleep(cancelled_s)
            said = await cancel(accepted, elsewhere)
            end = (await poll(gate, accepted, wait=20)).json
            for _ in range(2):
                assert (await poll(gate, accepted, wait=0)).json | {"callback": 0} == end | {"callback": 0}
            return name, said, end

        near = [BEAT_S + (step - 20) / 1000 for step in range(STEPS)]
        told = await asyncio.gather(
            *(race(f"a{step}", work_s, BEAT_S / 2, elsewhere=True) for step, work_s in enumerate(near)),
            *(race(f"b{step}", 0.24, cancelled_s) for step, cancelled_s in enumerate(near)),
            race("early", 30.0, 0.1),
            race("late", 0.0, 3.0),
        )
        ends = {name: end["status"] for name, _, end in told}
        for _, said, end in told:
            done = end["status"] == "completed"
            assert done or end["status"] == "cancelled"
            assert (end["billed"], end["billing"]["charged_usd"]) == ((True, "0.750") if done else (False, "0.000"))
            assert (end["result"] is not None) is done
            assert done or CANARY not in str(end)
            assert done is (said == 409), "what was told that it will stop has cost nothing"
        assert (ends["early"], ends["late"]) == ("cancelled", "completed")
        balance = await gate.balance(agent)
        done = list(ends.values()).count("completed")
        assert (balance.available, balance.held) == (400_000_000 - 750_000 * done, 0)

        async def all_told() -> bool:
            return len(up.seen) >= len(ends)

        await eventually(all_told)
        assert len(up.seen) == len({seen.header("webhook-id") for seen in up.seen}) == len(ends)
        heard = {seen.header("host").partition(".")[0]: seen.body for seen in up.seen}
        for name, end in ends.items():
            assert f'"status":"{end}"'.encode() in heard[name]
