"""`kill -9` at any moment among many jobs, on two processes that share a database and a real chain.

Whatever the moment: every job ends once, is charged once for what it came to, and its end is told at least once, always
with the same id and the same words. Two rounds by default, FAREGATE_LOOPS=short ten, --full two hundred.
"""

import asyncio
import itertools
import os
import random
import secrets
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.gate import Reply
from rigs.payer import Payer, echoing
from rigs.program import Program
from rigs.running import GONE, Running, eventually, relayed, running
from rigs.upstream import ScriptedUpstream, Seen, Wire, reply, status

pytestmark = pytest.mark.chain

ROUNDS = 10 if os.environ.get("FAREGATE_LOOPS") == "short" else 2
ROUNDS_FULL = 200
A_ROUND = 4
"""Jobs handed over in each."""
MORE = """
[jobs]
lease_s = 1
at_once = 3
[webhooks]
allow_http = true
"""
CHARGED = {"found": 750_000, "dear": 1_500_000, "nobody": 0, "broken": 0}
"""What a word's kind comes to, in micro-USD: half a dollar at the vendor's marked up by half, the ceiling, nothing."""
OVER = ("completed", "failed", "cancelled")
ANYTHING = (*GONE, aiohttp.ClientError, TimeoutError)


async def vendor(seen: Seen, wire: Wire) -> None:
    kind = orjson.loads(seen.body)["word"].partition("-")[0]
    await wire.wait(random.choice([0, 0, 0.05, 0.3]))
    answers = {
        "found": reply({"found": "canary-2f7a", "cost_usd": 0.5}),
        "dear": reply({"found": "canary-2f7a", "cost_usd": 40.0}),
        "nobody": reply({"cost_usd": 0.1}),
        "broken": status(422),  # no 5xx: five of those in a row, and the next job is told that the vendor rests
    }
    await answers[kind](seen, wire)


@dataclass
class Handed:
    """A job as its customer knows it."""

    word: str
    means: dict[str, Any]
    payer: Payer | None
    told: Any = None
    """The answer to its submission."""


@dataclass
class Town:
    gates: list[Running]
    receiver: ScriptedUpstream
    jobs: list[Handed]

    async def hand_over(self, number: int, means: dict[str, Any], payer: Payer | None) -> None:
        handed = Handed(f"{random.choice(list(CHARGED))}-{number}", means, payer)
        self.jobs.append(handed)
        await self.submit(handed)

    async def submit(self, handed: Handed) -> None:
        """Whoever does not hear an answer says the same again."""
        body = {
            "route": "shop/research", "payload": {"word": handed.word}, "bill_up_to_usd": "1.50",
            "callback_url": self.receiver.url("/told", host=f"{handed.word}.example.com"),
        }  # fmt: skip
        gate = random.choice(self.gates)
        answer = await gate.call("enrich/jobs", body, **handed.means)
        # 502: the vendor has failed so often that it rests, which costs nobody anything.
        assert answer.status in (202, 409, 502, 503), (answer.status, answer.body)
        if answer.status == 202:
            handed.told = answer.json

    async def heard(self) -> None:
        """Everybody asks until he has been told."""
        for handed in self.jobs:
            if handed.told is None:

                async def accepted(handed: Handed = handed) -> bool:
                    await self.submit(handed)
                    return handed.told is not None

                await eventually(accepted, 90)

    def events(self, job_id: str) -> dict[str, Any]:
        """By the id in the header, what its receiver was told of a job; the same words each time."""
        told: dict[str, Any] = {}
        for seen in self.receiver.seen:
            event, event_id = orjson.loads(seen.body), seen.header("webhook-id") or ""
            if event["data"]["job_id"] == job_id:
                assert told.setdefault(event_id, event) == event
        return told

    async def ended(self, handed: Handed) -> Any:
        async def over() -> Any:
            told = (await poll(self.gates[0], handed.told)).json
            return told if told["status"] in OVER and told["callback"]["state"] == "delivered" else None

        return await eventually(over, 60)


async def alive(gates: list[Running]) -> None:
    await asyncio.gather(*(gate.start() for gate in gates if gate.child is None or gate.child.ended() is not None))


async def poll(gate: Running, told: Any) -> Reply:
    bearer = {"Authorization": f"Bearer {told['poll_bearer']}"}
    return await gate.send("GET", told["poll_url"], headers=bearer)


async def signed(gate: Running, payer: Payer) -> dict[str, Any]:
    required = (await gate.call("enrich/jobs", {})).offer
    (offer,) = required["accepts"]
    return {"payment": echoing(payer.permit2(offer), required)}


@pytest.mark.parametrize(
    "rounds", [pytest.param(ROUNDS, id="quick"), pytest.param(ROUNDS_FULL, id="full", marks=pytest.mark.full)]
)
async def test_f066_killed_at_random_among_many_jobs(
    chain: Chain, program: Program, tmp_path: Path, rounds: int
) -> None:
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(ScriptedUpstream(default=vendor))
        receiver = await stack.enter_async_context(ScriptedUpstream(default=status(204)))
        settings = relayed(chain, upstream=shop.port, more=MORE)
        gates = [
            await stack.enter_async_context(
                running(tmp_path, program, settings, name=name, command="neighbour", started=False)
            )
            for name in ("one", "two")
        ]
        town = Town(gates, receiver, [])
        payers = itertools.cycle([Payer(key) for key in PAYER_KEYS])
        token, paid, taken, numbers = "", 0, 0, itertools.count()
        for _ in range(rounds):
            await asyncio.gather(
                *(gate.start() for gate in gates if gate.child is None or gate.child.ended() is not None)
            )
            token = token or await gates[0].agent("10000.00")
            for each in range(A_ROUND):
                with suppress(*ANYTHING):
                    payer = next(payers) if each % 2 else None
                    means = await signed(gates[0], payer) if payer else {"token": token, "key": secrets.token_hex(8)}
                    await town.hand_over(next(numbers), means, payer)
            await asyncio.sleep(random.uniform(0, 0.8))
            for gate in random.choice([gates[:1], gates[1:], gates]):
                await gate.kill()
        await alive(gates)
        await town.heard()
        for handed in town.jobs:
            end, kind = await town.ended(handed), handed.word.partition("-")[0]
            given_up = (end["error"] or {}).get("message", "").startswith("it ended its worker")
            assert end["status"] == ("failed" if given_up or kind == "broken" else "completed"), (end["error"], end)
            charged = 0 if given_up else CHARGED[kind]
            assert end["billing"]["charged_usd"] == f"{charged / 1e6:.3f}"
            paid += charged if handed.payer else 0
            taken += charged > 0
            told = town.events(end["job_id"])
            assert len(told) == 1, "one event, however often it came"
            ((event_id, event),) = told.items()
            assert event["event_id"] == event_id
            assert (event["data"]["status"], event["data"]["charged_usd"]) == (
                end["status"], end["billing"]["charged_usd"],
            )  # fmt: skip
        charges = await gates[0].charges()
        assert sum(charge["charged_usd"] != "0.000" for charge in charges) == taken, "each once, and no other"
        assert chain.balance(settings.pay_to) == paid
