"""`kill -9` at every step of a lead session's job: what is bought is bought once.

The vendors are real sockets that count: a Whitepages and a Serper. Their questions are dear, so none of them
is declared repeatable.
"""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rigs.chain import Chain
from rigs.program import Program
from rigs.running import GONE, Running, eventually, relayed, running
from rigs.settled import settled_up, usd
from rigs.upstream import Behaviour, ScriptedUpstream, Seen, Wire, reply, status

pytestmark = pytest.mark.chain

KILLED = -9
LEASE = "\n[jobs]\nlease_s = 1\n"
KNOWN = {
    "title": "Sample Window Care LLC", "phoneNumber": "(813) 555-0142", "address": "5 Example Rd, Tampa, FL 33602",
}  # fmt: skip
DANA = {
    "id": "P1234567890", "name": "Dana Sample", "phones": [{"number": "(813) 555-0177", "type": "mobile", "score": 90}],
    "current_addresses": [{"line1": "5 Example Rd", "city": "Tampa", "state": "FL", "zip": "33602", "score": 90}],
    "match_score": 95,
}  # fmt: skip


class Vendors:
    """What was asked of whom, by question."""

    def __init__(self, up: ScriptedUpstream) -> None:
        self.up = up
        self.asked: Counter[str] = Counter()
        up.default = self.answer

    async def answer(self, seen: Seen, wire: Wire) -> None:
        url = urlsplit(seen.target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        behave: Behaviour = status(404)
        if url.path == "/v2/person/":
            self.asked["whitepages " + (query.get("phone") or query.get("name", "") or query.get("last_name", ""))] += 1
            named = not query.get("phone")
            behave = reply({"results": [DANA] if named else []})
        elif url.path == "/search":
            self.asked["serper"] += 1
            behave = reply({"organic": [], "knowledgeGraph": KNOWN})
        await behave(seen, wire)


def settings(chain: Chain, up: ScriptedUpstream) -> Any:
    more = f"""
[providers.whitepages]
key = "a-key-of-ours"
url = "{up.url("/").rstrip("/")}"
private = true
cost_per_call = "0.10"
[providers.serper]
key = "another-key-of-ours"
url = "{up.url("/").rstrip("/")}"
private = true
cost_per_call = "0.05"
[web]
private = true
{LEASE}"""
    return relayed(chain, more=more)


def lead(number: int) -> dict[str, Any]:
    """Another one each time, so that each is a session of its own."""
    return {
        "company": "Sample Window Care LLC", "phone": f"+181355501{number:02}", "city": "Tampa", "state": "FL",
        "street": "5 Example Rd", "zip": "33602", "dm_name": "Dana Sample",
    }  # fmt: skip


async def submit(gate: Running, token: str, number: int) -> Any:
    body = {"route": "enrich/lead-session", "payload": {"lead": lead(number)}, "bill_up_to_usd": "3.00"}
    return await gate.call("enrich/jobs", body, token=token, key=f"k{number}")


async def ended(gate: Running, accepted: Any) -> Any:
    bearer = {"Authorization": f"Bearer {accepted.json['poll_bearer']}"}

    async def over() -> Any:
        told = (await gate.send("GET", f"{accepted.json['poll_url']}?wait=5", headers=bearer)).json
        return told if told["status"] in ("completed", "failed", "cancelled") else None

    return await eventually(over, 40)


@pytest.mark.parametrize("step", [pytest.param(3, id="quick"), pytest.param(1, id="full", marks=pytest.mark.full)])
async def test_f066_killed_at_each_hop_a_session_buys_nothing_twice(
    chain: Chain, program: Program, tmp_path: Path, step: int
) -> None:
    """`step` 1: at each; every third hits questions and answers, of hops and of the vendors within them."""
    async with ScriptedUpstream() as up:
        vendors = Vendors(up)
        async with running(tmp_path, program, settings(chain, up)) as gate:
            token = await gate.agent("100.00")
            whole = await ended(gate, await submit(gate, token, 0))
            settled_up(whole)
            assert (whole["status"], whole["matched"], whole["billing"]["charged_usd"]) == ("completed", True, "1.500")
            once = sum(vendors.asked.values())
            hops = whole["result"]["data"]["session"]["hops"]
            assert once >= 3, vendors.asked
            told = {each["e164"] for each in whole["result"]["data"]["backfill"]["phones"]}
            assert told >= {"+18135550142", "+18135550177"}
            await gate.kill()
            number, points = 0, 0
            for point in ("job.asked", "job.worked"):
                for count in range(1, 40, step):
                    number += 1
                    vendors.asked.clear()
                    await gate.start(crash_at=f"{point}:{count}", ready=False)
                    accepted = None
                    with suppress(*GONE):
                        accepted = await submit(gate, token, number)
                    if not await died(gate, accepted):
                        break  # so many there are
                    points += 1
                    await gate.start()
                    again = await submit(gate, token, number)
                    assert accepted is None or again.json["job_id"] == accepted.json["job_id"]
                    end = await ended(gate, again)
                    settled_up(end)
                    assert end["status"] == "completed", end
                    assert max(vendors.asked.values(), default=0) <= 1, (point, count, vendors.asked)
                    assert usd(end["billing"]["charged_usd"]) in (0, 1_500_000)
                    if point == "job.worked":
                        assert sum(vendors.asked.values()) == once, (count, vendors.asked)
                        found = end["result"]["data"]["backfill"]
                        assert {each["e164"] for each in found["phones"]} >= {"+18135550177"}
                        assert len(end["result"]["data"]["session"]["hops"]) == len(hops)
                    await gate.kill()
            assert points >= 8 // step, "steps of a session, each of them died at"


async def died(gate: Running, accepted: Any) -> bool:
    """Whether it was killed at the point, or the job came to its end without it."""
    if accepted is not None:
        with suppress(*GONE):
            await ended(gate, accepted)
            await gate.kill()
            return False
    assert await gate.ended() == KILLED
    return True
