"""Jobs that call back: one event at a job's end, signed with its owner's secret, with nothing of the result in it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rigs.gate import KEYS, Gate
from rigs.payer import Payer
from rigs.postman import next_door
from rigs.running import eventually
from rigs.scripted import CANARY, failure, hang
from rigs.upstream import ScriptedUpstream, status
from scenario.test_jobs import poll, submit
from scenario.test_time_and_loss import chain
from standardwebhooks import Webhook

from gateway.core.http import HttpClient

ALLOWED = "[webhooks]\nallow_http = true\n"


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with next_door() as http:
        yield http


async def calls(up: ScriptedUpstream, number: int) -> None:
    async def there() -> bool:
        return len(up.seen) >= number

    await eventually(there)


async def test_an_agents_job_tells_its_end_once(tmp_path: Path, http: HttpClient) -> None:
    async with (
        ScriptedUpstream(default=status(204)) as up,
        Gate.open(tmp_path, http=http, toml=ALLOWED) as gate,
    ):
        gate.upstream.script |= {"broken": failure}
        agent, token = await gate.agent(10_000_000)
        url = up.url("/hook", host="hook.example.com")
        first = await submit(gate, "hello", token=token, callback_url=url)
        assert first.status == 202
        assert (await poll(gate, first)).json["status"] == "completed"
        await calls(up, 1)
        second = await submit(gate, "broken", token=token, callback_url=url)
        assert "webhook_secret" not in second.json, "it is shown once"
        await poll(gate, second)
        await calls(up, 2)
        for accepted, call, kind, charged in zip(
            (first, second), up.seen, ("enrich.job_completed", "enrich.job_failed"), (True, False), strict=True
        ):
            event = Webhook(first.json["webhook_secret"]).verify(call.body, dict(call.headers))
            assert (event["event_type"], event["agent_id"]) == (kind, agent)
            assert event["event_id"] == dict(call.headers)["webhook-id"]
            assert event["data"]["job_id"] == accepted.json["job_id"]
            assert event["data"]["result_url"].endswith(accepted.json["poll_url"])
            assert event["data"]["billed"] is charged
            assert CANARY.encode() not in call.body

            async def told(accepted=accepted) -> bool:
                done = await poll(gate, accepted, wait=0)
                return done.json["callback"] == {"state": "delivered", "attempts": 1}

            await eventually(told)
        silent = await poll(gate, await submit(gate, "hello", token=token))
        assert silent.json["callback"] is None
        assert len(up.seen) == 2


async def test_a_job_without_an_agent_has_a_secret_of_its_own(tmp_path: Path, http: HttpClient) -> None:
    async with (
        ScriptedUpstream(default=status(204)) as up,
        Gate.open(tmp_path, http=http, toml=ALLOWED) as gate,
    ):
        url = up.url("/hook", host="hook.example.com")
        refused = await submit(gate, callback_url=url)
        secrets = set()
        for number in (1, 2):
            payment = gate.paying(Payer(KEYS[0]).permit2(refused.offer["accepts"][0]), refused.offer)
            accepted = await submit(gate, payment=payment, callback_url=url)
            assert accepted.status == 202
            secrets.add(accepted.json["webhook_secret"])
            await calls(up, number)
            event = Webhook(accepted.json["webhook_secret"]).verify(up.seen[-1].body, dict(up.seen[-1].headers))
            assert (event["agent_id"], event["data"]["job_id"]) == (None, accepted.json["job_id"])
            again = await submit(gate, payment=payment, callback_url=url)
            assert again.json["webhook_secret"] == accepted.json["webhook_secret"], "the first answer may be lost"
            refused = await submit(gate, callback_url=url)
        assert len(secrets) == 2


@pytest.mark.parametrize("paid", [True, False])
async def test_what_is_not_paid_for_yet_is_told_to_nobody(tmp_path: Path, http: HttpClient, paid: bool) -> None:
    """Not even that there was something to find: whoever hears that would not have to pay any more."""
    settler, through = chain(), asyncio.Event()

    async def late(settler, settlement):
        await through.wait()
        return await settler.really(settlement)

    settler.settle_as = late
    async with (
        ScriptedUpstream(default=status(204)) as up,
        Gate.open(tmp_path, http=http, settler=settler, toml=ALLOWED) as gate,
    ):
        url = up.url("/hook", host="hook.example.com")
        refused = await submit(gate, callback_url=url)
        payment = gate.paying(Payer(KEYS[0]).permit2(refused.offer["accepts"][0]), refused.offer)
        accepted = await submit(gate, payment=payment, callback_url=url)
        await asyncio.sleep(1.5)
        waiting = (await poll(gate, accepted, wait=0)).json
        assert (waiting["status"], waiting["progress"]["phase"]) == ("running", "settling")
        assert (up.seen, waiting["callback"]) == ([], {"state": "pending", "attempts": 0})
        if not paid:
            settler.fund(Payer(KEYS[0]).address, 0)
        through.set()
        await calls(up, 1)
        event = Webhook(accepted.json["webhook_secret"]).verify(up.seen[0].body, dict(up.seen[0].headers))
        ended = (await poll(gate, accepted)).json
        assert (event["data"]["matched"], event["data"]["billed"]) == (ended["matched"], ended["billed"])
        assert (ended["matched"], ended["billed"]) == ((True, True) if paid else (None, False))
        await asyncio.sleep(1.2)
        assert len(up.seen) == 1


async def test_a_cancelled_job_tells_it(tmp_path: Path, http: HttpClient) -> None:
    async with (
        ScriptedUpstream(default=status(204)) as up,
        Gate.open(tmp_path, http=http, toml=ALLOWED + "[jobs]\nat_once = 1\n") as gate,
    ):
        gate.upstream.script["long"] = hang
        _, token = await gate.agent(10_000_000)
        url = up.url("/hook", host="hook.example.com")
        running = await submit(gate, "long", token=token)
        queued = await submit(gate, "hello", token=token, callback_url=url)
        waiting = await poll(gate, queued, wait=0)
        assert waiting.json["callback"] == {"state": "pending", "attempts": 0}
        assert (await poll(gate, queued, wait=0, method="DELETE")).json["status"] == "cancelled"
        await calls(up, 1)
        event = Webhook(queued.json["webhook_secret"]).verify(up.seen[0].body, dict(up.seen[0].headers))
        assert (event["event_type"], event["data"]["status"]) == ("enrich.job_failed", "cancelled")
        assert (event["data"]["billed"], event["data"]["charged_usd"]) == (False, "0.000")
        await poll(gate, running, wait=0, method="DELETE")
