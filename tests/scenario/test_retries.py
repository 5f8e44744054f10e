"""A failed job that its operator has done again: another job, another hold, and nothing bought twice."""

import secrets

import pytest
from rigs.gate import KEYS, Gate
from rigs.payer import Payer
from rigs.scripted import METERED, failure, hang, match, taking
from scenario.test_jobs import poll, submit

from gateway.core import ids
from gateway.core.agent import Status
from gateway.core.errors import Conflict, Problem
from gateway.core.upstream import AnswerLost, Context, Failure, Match, Outcome
from gateway.flows import jobs as flow
from gateway.store import agents
from gateway.store import jobs as jobs_store


class Again:
    """A submission's answer, as `poll` takes it."""

    def __init__(self, job_id: str, bearer: str) -> None:
        self.json = {"job_id": job_id, "poll_bearer": bearer, "poll_url": f"/api/v1/enrich/jobs/{job_id}"}


async def retry(gate: Gate, job_id: str) -> Again:
    bearer = ids.new_token("411j_", secrets.token_bytes(32))
    job, charge, request = (f"{prefix}{secrets.token_hex(13)}" for prefix in ("ej_", "chg_", "req_"))
    await gate.gateway.db.write(flow.retry, job_id, flow.Retry(job, charge, request, ids.token_hash(bearer), 900))
    return Again(job, bearer)


async def kept(gate: Gate) -> int:
    ((number,),) = await gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM retries"))
    return number


async def test_what_failed_is_done_again_and_paid_for_once(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = failure
        agent, token = await gate.agent(2_000_000)
        first = await submit(gate, "word", token=token)
        failed = (await poll(gate, first)).json
        assert failed["status"] == "failed"
        assert "retried_as" not in failed
        gate.upstream.script["word"] = taking(500_000)
        again = await retry(gate, first.json["job_id"])
        assert (await gate.balance(agent)).held == 1_500_000
        done = (await poll(gate, again)).json
        assert (done["status"], done["billing"]["charged_usd"], done["billing"]["released_usd"]) == (
            "completed", "0.750", "0.750",
        )  # fmt: skip
        assert (await gate.balance(agent)).available == 1_250_000
        told = (await poll(gate, first, wait=0)).json
        assert told == {**failed, "retried_as": again.json["job_id"]}, "the failed one stays as it ended"
        owner = {"Authorization": f"Bearer {token}"}
        assert (await gate.send("GET", again.json["poll_url"], headers=owner)).json["result"] == done["result"]
        with pytest.raises(Conflict, match=again.json["job_id"]):
            await retry(gate, first.json["job_id"])
        assert (await kept(gate), gate.upstream.runs("word")) == (0, 2)


async def test_what_fails_again_may_be_done_once_more(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = failure
        agent, token = await gate.agent(2_000_000)
        job = await submit(gate, "word", token=token)
        for again in (failure, match):
            assert (await poll(gate, job)).json["status"] == "failed"
            gate.upstream.script["word"] = again
            job = await retry(gate, job.json["job_id"])
        assert (await poll(gate, job)).json["status"] == "completed"
        assert sorted(each.charge.captured_micros for each in await gate.charges()) == [0, 0, METERED.base_micros]
        assert (await gate.balance(agent)).available == 2_000_000 - METERED.base_micros


async def test_what_cannot_be_done_again_is_said(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 2\n") as gate:
        gate.upstream.script |= {"broken": failure, "long": hang}
        agent, token = await gate.agent(5_000_000)
        done = await submit(gate, "hello", token=token)
        await poll(gate, done)
        long = await submit(gate, "long", token=token)
        for job, why in ((done, "only a job that has failed"), (long, "only a job that has failed")):
            with pytest.raises(Conflict, match=why):
                await retry(gate, job.json["job_id"])
        await poll(gate, long, wait=0, method="DELETE")
        await poll(gate, long)
        with pytest.raises(Conflict, match="only a job that has failed"):
            await retry(gate, long.json["job_id"])
        with pytest.raises(Conflict, match="no such job"):
            await retry(gate, "ej_none")

        refused = await submit(gate, "broken")
        payment = gate.paying(Payer(KEYS[0]).permit2(refused.offer["accepts"][0]), refused.offer)
        signed = await submit(gate, "broken", payment=payment)
        beside = gate.paying(Payer(KEYS[1]).permit2(refused.offer["accepts"][0]), (await submit(gate, "broken")).offer)
        agents_own = await submit(gate, "broken", payment=beside, token=token)
        for job in (signed, agents_own):
            assert (await poll(gate, job)).json["status"] == "failed"
            with pytest.raises(Conflict, match="only its payer can hand it in again"):
                await retry(gate, job.json["job_id"])
        assert (await submit(gate, "broken", payment=payment)).status == 202, "as he can"

        failed = await submit(gate, "broken", token=token, bill_up_to_usd="2.00")
        assert (await poll(gate, failed)).json["status"] == "failed"
        blocking = [await submit(gate, "long", token=token, bill_up_to_usd="2.00") for _ in range(2)]
        with pytest.raises(Conflict, match=r"balance of .* does not cover the 2\.000"):
            await retry(gate, failed.json["job_id"])
        for each in blocking:
            await poll(gate, each, wait=0, method="DELETE")
            await poll(gate, each)
        await gate.gateway.db.write(agents.set_status, agent, Status.FROZEN)
        with pytest.raises(Problem, match="frozen"):
            await retry(gate, failed.json["job_id"])
        await gate.gateway.db.write(agents.set_status, agent, Status.ACTIVE)
        assert await kept(gate) == 1, "a refusal leaves it as it was"
        await gate.gateway.db.write(
            lambda tx: tx.execute("UPDATE retries SET expires_ms = :now_ms", {"now_ms": tx.now_ms})
        )
        with pytest.raises(Conflict, match="too long ago"):
            await retry(gate, failed.json["job_id"])
        assert await gate.gateway.db.write(jobs_store.forget) == 1
        assert await kept(gate) == 0


async def test_what_it_had_bought_it_has_and_what_was_lost_is_bought_again(tmp_path):
    """The first hop has an answer, that of the second was lost, and the third broke."""
    bought: list[str] = []

    async def buy(context: Context, key: str) -> None:
        assert context.journal is not None
        if await context.journal.recall(key) is None:
            await context.journal.asking(key)
            bought.append(key)
            if key == "two" and bought.count(key) == 1:
                raise AnswerLost(key)
            await context.journal.remember(key, {"page": 1})

    async def three_hops(context: Context) -> Outcome:
        for key in ("one", "two"):
            await buy(context, key)
        return Match({"found": "all"}) if bought.count("two") == 2 else Failure("no")

    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = three_hops
        _, token = await gate.agent(2_000_000)
        first = await submit(gate, "word", token=token)
        assert (await poll(gate, first)).json["status"] == "failed"
        assert bought == ["one", "two"]
        again = await retry(gate, first.json["job_id"])
        assert (await poll(gate, again)).json["status"] == "completed"
        assert bought == ["one", "two", "two"]
        left = await gate.gateway.db.read(lambda tx: tx.execute("SELECT job_id FROM job_hops"))
        assert left == [], "nothing is kept of a job that has succeeded"


@pytest.mark.parametrize("operator_first", [True, False])
async def test_under_one_idempotency_key_there_is_one_charge(tmp_path, operator_first):
    """Its agent was told that it failed, and hands it in again as he should."""
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = failure
        agent, token = await gate.agent(10_000_000)
        first = await submit(gate, "word", token=token, key="order-1")
        assert (await poll(gate, first)).json["status"] == "failed"
        gate.upstream.script["word"] = taking(500_000)
        if operator_first:
            again = await retry(gate, first.json["job_id"])
            mine = await submit(gate, "word", token=token, key="order-1")
            assert mine.json["job_id"] == again.json["job_id"]
        else:
            mine = await submit(gate, "word", token=token, key="order-1")
            with pytest.raises(Conflict, match="handed it in again"):
                await retry(gate, first.json["job_id"])
        assert (await poll(gate, mine)).json["billing"]["charged_usd"] == "0.750"
        assert ((await gate.balance(agent)).available, gate.upstream.runs("word")) == (9_250_000, 2)


async def test_what_its_agent_has_asked_for_again_is_not_done_once_more(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = failure
        _, token = await gate.agent(10_000_000)
        first = await submit(gate, "word", token=token)
        assert (await poll(gate, first)).json["status"] == "failed"
        assert (await poll(gate, await submit(gate, "word", token=token))).json["status"] == "failed"
        gate.upstream.script["word"] = match
        await poll(gate, await submit(gate, "other", token=token))
        mine = await submit(gate, "word", token=token, bill_up_to_usd="1.00")
        assert (await poll(gate, mine)).json["status"] == "completed"
        with pytest.raises(Conflict, match="asked for the same again"):
            await retry(gate, first.json["job_id"])
