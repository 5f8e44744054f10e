"""`kill -9` over a call that is bought from several providers in turn, and how its operator sees them: the real
process, real sockets that count, no chain.

A job's hops with a stored outcome are replayed; one whose outcome was lost is asked again where its provider is
repeatable, and counts twice; else it counts once, and the next one is asked. A call that somebody waits for has no
journal: its customer pays nothing, and the books say that they do not know.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rigs.program import Program
from rigs.running import GONE, Configuration, Running, eventually, running
from rigs.upstream import Behaviour, ScriptedUpstream, Seen, Wire, hang, reply, status

KILLED = -9
PATHS = {
    "/brave/res/v1/web/search": "brave",
    "/tavily/search": "tavily",
    "/serper/search": "serper",
    "/whitepages/v2/person/": "whitepages",
    "/trestle/3.2/phone": "trestle",
    "/api": "api",
}
OWNER = {"name": "Dana Q Sample", "firstname": "Dana", "lastname": "Sample", "type": "Person"}
KNOWN = {
    "title": "Sample Window Care LLC", "phoneNumber": "(813) 555-0142", "address": "5 Example Rd, Tampa, FL 33602",
}  # fmt: skip
QUOTA = {"X-RateLimit-Remaining": "0, 41", "X-RateLimit-Limit": "1, 500"}
SAYS: dict[str, Behaviour] = {
    "brave": reply({"type": "search", "query": {}}, headers=QUOTA),
    "tavily": reply({"results": []}),
    "serper": reply({"organic": [], "knowledgeGraph": KNOWN}),
    "whitepages": reply({"results": []}),
    "trestle": reply({"phone_number": "2065550100", "is_valid": True, "owners": [OWNER]}),
}  # fmt: skip
COSTS = {"brave": 50_000, "tavily": 30_000, "serper": 10_000, "whitepages": 100_000, "trestle": 80_000}
IN_TURN = ("brave", "tavily", "serper")
REPEATABLE = ("tavily",)
FIRM = {"business_name": "Sample Window Care LLC", "city": "Tampa", "state": "FL"}
PHONE = {"phone": "+12065550100"}
BASE, PRICE = 1_000_000, 330_000


@dataclass
class Vendors:
    up: ScriptedUpstream
    says: dict[str, Behaviour] = field(default_factory=lambda: dict(SAYS))
    asked: Counter[str] = field(default_factory=Counter)

    async def answer(self, seen: Seen, wire: Wire) -> None:
        name = PATHS[seen.path]
        self.asked[name] += 1
        await self.says[name](seen, wire)

    async def was_asked(self, name: str, times: int = 1) -> None:
        async def asked() -> bool:
            return self.asked[name] >= times

        await eventually(asked)


def settings(up: ScriptedUpstream) -> Configuration:
    tables = "".join(
        f'[providers.{name}]\nkey = "a-key-of-{name}"\nurl = "{up.url("/" + name)}"\nprivate = true\n'
        f'cost_per_call = "{cost / 1e6}"\nrepeatable = {str(name in REPEATABLE).lower()}\n'
        for name, cost in COSTS.items()
    )
    return Configuration(f"""
[waterfalls]
"enrich/websearch" = {json.dumps(IN_TURN)}
[jobs]
lease_s = 1
{tables}
[[http_upstreams]]
id = "shop/word"
url = "{up.url("/api")}"
private = true
price = "0.100"
cost = "0.040"
job = true
description = "Finds a word"
input = {{ word = {{ type = "string", example = "hello" }} }}
match = {{ pointer = "/found", exists = true }}
""")


@asynccontextmanager
async def opened(home: Path, program: Program) -> AsyncIterator[tuple[Running, Vendors]]:
    async with ScriptedUpstream() as up:
        vendors = Vendors(up)
        up.default = vendors.answer
        async with running(home, program, settings(up)) as gate:
            yield gate, vendors


async def submit(gate: Running, token: str, key: str = "k") -> Any:
    body = {"route": "enrich/websearch", "payload": FIRM, "bill_up_to_usd": "1.50"}
    return await gate.call("enrich/jobs", body, token=token, key=key)


async def ended(gate: Running, accepted: Any) -> Any:
    bearer = {"Authorization": f"Bearer {accepted['poll_bearer']}"}

    async def over() -> Any:
        told = (await gate.send("GET", f"{accepted['poll_url']}?wait=5", headers=bearer)).json
        return told if told["status"] in ("completed", "failed", "cancelled") else None

    return await eventually(over, 40)


async def margins(gate: Running) -> dict[str, Any]:
    """By provider."""
    said = await gate.run("margins", "--by", "provider", "--json")
    return {line["provider"]: line for line in map(json.loads, said.splitlines())}


def usd(micros: int) -> str:
    return f"{micros / 1e6:.3f}"


async def balance(gate: Running, token: str) -> tuple[str, str]:
    told = (await gate.send("GET", "/api/v1/agents/balance", headers={"Authorization": f"Bearer {token}"})).json
    return told["available_usd"], told["held_usd"]


# A job


@pytest.mark.parametrize("hop", IN_TURN)
async def test_f066_f152_killed_while_a_vendor_is_asked(program: Program, tmp_path: Path, hop: str) -> None:
    async with opened(tmp_path, program) as (gate, vendors):
        token = await gate.agent("5.00")
        vendors.says[hop] = hang()
        accepted = (await submit(gate, token)).json
        await vendors.was_asked(hop)
        await gate.kill()
        vendors.says[hop] = SAYS[hop]
        await gate.start()
        end = await ended(gate, accepted)
        times = {name: 2 if name == hop in REPEATABLE else 1 for name in IN_TURN}
        assert vendors.asked == times
        counted = {
            name.split('"')[-2] for name in await gate.metrics() if name.startswith("faregate_vendor_calls_total")
        }
        assert counted == set(IN_TURN[IN_TURN.index(hop) :]), "what the last process has counted, this one does not"
        found = hop != "serper"  # of which nobody heard what it has found
        assert (end["status"], end["matched"]) == ("completed", found)
        charged = BASE if found else 0
        assert end["billing"]["charged_usd"] == usd(charged)
        assert await balance(gate, token) == (usd(5_000_000 - charged), usd(0))
        lines = await margins(gate)
        assert {name: lines[name]["cost_usd"] for name in IN_TURN} == {
            name: usd(times[name] * COSTS[name]) for name in IN_TURN
        }
        assert sum(line["unknown"] for line in lines.values()) == 0
        assert sum(float(line["revenue_usd"]) for line in lines.values()) * 1e6 == charged


@pytest.mark.parametrize("step", [pytest.param(2, id="quick"), pytest.param(1, id="full", marks=pytest.mark.full)])
@pytest.mark.parametrize("point", ["job.asked", "job.worked"])
async def test_f066_killed_after_each_word_in_the_journal(
    program: Program, tmp_path: Path, point: str, step: int
) -> None:
    """Before a question goes out, and when its answer is kept: what is kept is bought once. `step` 1: at each."""
    async with opened(tmp_path, program) as (gate, vendors):
        token = await gate.agent("50.00")
        await gate.kill()
        died, cost = 0, 0
        for count in range(1, 20, step):
            vendors.asked.clear()
            await gate.start(crash_at=f"{point}:{count}", ready=False)
            with suppress(*GONE):
                accepted = (await submit(gate, token, f"k{count}")).json
                await ended(gate, accepted)
                await gate.kill()
                cost += sum(COSTS[name] for name in IN_TURN)
                break
            assert await gate.ended() == KILLED
            died += 1
            await gate.start()
            accepted = (await submit(gate, token, f"k{count}")).json
            end = await ended(gate, accepted)
            lost = IN_TURN[count - 1] if point == "job.asked" and count <= len(IN_TURN) else ""
            skipped = lost not in REPEATABLE
            assert vendors.asked == Counter({name: 1 for name in IN_TURN if not (name == lost and skipped)})
            assert (end["status"], end["matched"]) == ("completed", lost != "serper")
            cost += sum(COSTS[name] * (2 if name == lost and not skipped else 1) for name in IN_TURN)
            await gate.kill()
        assert died == 4 // step, "three vendors, and the pages that they did not find"
        await gate.start()
        lines = await margins(gate)
        assert round(sum(float(line["cost_usd"]) for line in lines.values()) * 1e6) == cost


async def test_a_lost_answer_that_nobody_makes_up_for_fails_the_job_and_it_can_be_done_again(
    program: Program, tmp_path: Path
) -> None:
    """`faregate jobs retry`: what is known is not bought again, the lost answer is."""
    async with opened(tmp_path, program) as (gate, vendors):
        token = await gate.agent("5.00")
        vendors.says |= {"brave": status(422), "tavily": status(401), "serper": hang()}
        accepted = (await submit(gate, token)).json
        await vendors.was_asked("serper")
        await gate.kill()
        vendors.says = dict(SAYS)
        await gate.start()
        end = await ended(gate, accepted)
        assert (end["status"], end["billing"]["charged_usd"]) == ("failed", "0.000")
        assert await balance(gate, token) == ("5.000", "0.000")
        assert vendors.asked == {"brave": 1, "tavily": 1, "serper": 1}
        said = await gate.run("jobs", "retry", end["job_id"], "--yes")
        job, bearer = (line.split()[-1] for line in said.splitlines()[:2])
        again = await ended(gate, {"poll_url": f"/api/v1/enrich/jobs/{job}", "poll_bearer": bearer})
        assert (again["status"], again["matched"], again["billing"]["charged_usd"]) == ("completed", True, usd(BASE))
        assert vendors.asked == {"brave": 1, "tavily": 1, "serper": 2}
        assert await balance(gate, token) == (usd(5_000_000 - BASE), "0.000")
        assert (await margins(gate))["serper"]["cost_usd"] == usd(2 * COSTS["serper"])


async def test_what_a_cancelled_job_had_asked_is_a_cost(program: Program, tmp_path: Path) -> None:
    """Two workers die over a question, and it is stopped before another one gets to it."""
    async with opened(tmp_path, program) as (gate, vendors):
        token = await gate.agent("5.00")
        vendors.says["tavily"] = hang()
        accepted = (await submit(gate, token)).json
        await vendors.was_asked("tavily")
        await gate.kill()
        await gate.start()
        await vendors.was_asked("tavily", 2)
        await gate.kill()
        await gate.run("jobs", "cancel", accepted["job_id"])
        await gate.start()
        assert (await ended(gate, accepted))["status"] == "cancelled"
        assert await balance(gate, token) == ("5.000", "0.000")
        costs = {name: line["cost_usd"] for name, line in (await margins(gate)).items()}
        assert costs == {"brave": usd(COSTS["brave"]), "tavily": usd(2 * COSTS["tavily"])}


async def test_what_an_http_api_may_have_taken_is_a_cost(program: Program, tmp_path: Path) -> None:
    async with opened(tmp_path, program) as (gate, vendors):
        token = await gate.agent("5.00")
        vendors.says["api"] = hang()
        body = {"route": "shop/word", "payload": {"word": "hello"}, "bill_up_to_usd": "0.10"}
        accepted = (await gate.call("enrich/jobs", body, token=token, key="k")).json
        await vendors.was_asked("api")
        await gate.kill()
        await gate.start()
        assert (await ended(gate, accepted))["status"] == "failed"
        assert vendors.asked == {"api": 1}
        (line,) = (await margins(gate)).values()
        assert (line["provider"], line["failures"], line["cost_usd"]) == ("shop/word", 1, "0.040")
        assert await balance(gate, token) == ("5.000", "0.000")


# A call that somebody waits for


@pytest.mark.parametrize("hop", ["whitepages", "trestle"])
async def test_f024_killed_over_a_call_the_books_say_that_they_do_not_know(
    program: Program, tmp_path: Path, hop: str
) -> None:
    async with opened(tmp_path, program) as (gate, vendors):
        token = await gate.agent("1.00")
        vendors.says[hop] = hang()
        call = asyncio.create_task(gate.call("enrich/phone", PHONE, token=token, key="k"))
        await vendors.was_asked(hop)
        await gate.kill()
        with pytest.raises(GONE):
            await call
        vendors.says[hop] = SAYS[hop]
        await gate.start()
        assert await balance(gate, token) == ("1.000", "0.000")
        (line,) = (await margins(gate)).values()
        assert (line["provider"], line["cost_usd"], line["unknown"], line["unknown_held_usd"]) == (
            "", "0.000", 1, usd(PRICE)
        )  # fmt: skip
        assert "0.330 was held" in await gate.run("margins")
        again = await gate.call("enrich/phone", PHONE, token=token, key="k")
        assert (again.json["matched"], again.json["billing"]["charged_usd"]) == (True, usd(PRICE))
        assert await balance(gate, token) == (usd(1_000_000 - PRICE), "0.000")
        lines = await margins(gate)
        assert (lines["whitepages"]["cost_usd"], lines["trestle"]["cost_usd"]) == ("0.100", "0.080")
        assert sum(line["unknown"] for line in lines.values()) == 1


# What the operator sees


async def providers(gate: Running) -> dict[str, Any]:
    said = await gate.run("providers", "--json")
    return {row["provider"]: row for row in (json.loads(line) for line in said.splitlines() if line.startswith("{"))}


async def test_the_operator_sees_whom_he_buys_from_and_how_they_stand(program: Program, tmp_path: Path) -> None:
    async with opened(tmp_path, program) as (gate, vendors):
        token = await gate.agent("5.00")
        vendors.says["whitepages"] = status(402)
        await gate.call("enrich/phone", PHONE, token=token)
        await gate.call("enrich/websearch", FIRM, token=token)
        rows = await providers(gate)
        assert list(rows) == ["brave", "tavily", "serper", "whitepages", "trestle"]
        refused = rows["whitepages"]
        assert refused["asked_for"] == {"enrich/phone": 2, "enrich/person": 2}
        assert (refused["per_call_usd"], refused["per_match_usd"], refused["misses"]) == ("0.100", "0.000", "paid")
        assert (refused["last"]["came"], refused["last"]["error"]) == ("failed", "quota")
        assert refused["last_error"] == refused["last"]
        rests = datetime.fromisoformat(refused["rests_until"]) - datetime.now(UTC)
        assert timedelta(seconds=270) < rests < timedelta(seconds=301)
        brave = rows["brave"]
        assert (brave["asked_for"], brave["quota_left"], brave["quota_limit"]) == ({"enrich/websearch": 1}, 41, 500)
        assert (brave["last"]["came"], brave["last_error"], brave["rests_until"]) == ("no_match", None, None)
        assert rows["trestle"]["last"]["came"] == "match"
        said = await gate.run("providers")
        assert "41 of 500" in said
        assert "a-key-of" not in said
        await gate.stop()
        stopped = await providers(gate)
        assert stopped["whitepages"]["last"] == refused["last"]
        assert {(row["rests_until"], row["quota_left"]) for row in stopped.values()} == {(None, None)}
        assert "only a running one knows" in await gate.run("providers")


# Half a configuration


NEEDS: Mapping[str, tuple[str, ...]] = {
    "whitepages": ("key", "cost_per_call"),
    "trestle": ("key", "cost_per_call"),
    "people_data_labs": ("key", "cost_per_call"),
    "twilio": ("user", "key", "cost_per_call"),
    "enformion_go": ("user", "key", "cost_per_call"),
    "hunter": ("key", "cost_per_call"),
    "apollo": ("key", "cost_per_call"),
    "sec_edgar": ("user",),
    "gleif": (),
    "npi": (),
    "open_corporates": ("key", "cost_per_call"),
    "searxng": ("url",),
    "tavily": ("cost_per_call",),
    "brave": ("key", "cost_per_call"),
    "exa": ("key", "cost_per_call"),
    "serper": ("key", "cost_per_call"),
}
REST = """
[waterfalls]
"enrich/phone" = ["{stranger}", "nobody"]
"enrich/websearch" = ["hunter", "exa"]
"enrich/nothing" = ["trestle"]
[llm]
api = "openai"
url = "https://llm.example.com/v1"
"""


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize("name", NEEDS)
async def test_half_a_configuration_is_refused_with_every_mistake_in_one_report(
    program: Program, tmp_path: Path, name: str, command: str
) -> None:
    stranger = "trestle" if name != "trestle" else "whitepages"
    toml = Configuration(f"[providers.{name}]\n{REST.format(stranger=stranger)}")
    async with running(tmp_path, program, toml, started=False, clean=False) as gate:
        said = await gate.run(command, status=2)
        lines = said.splitlines()
        own = [line for line in lines if f"[providers.{name}]" in line.partition(": ")[0]]
        missing = [line.partition("] ")[2].partition(":")[0] for line in own]
        assert missing == list(NEEDS[name])
        assert all("is missing: " in line for line in own)
        for told in (
            f'[waterfalls] "enrich/phone": {stranger} is not configured: add [providers.{stranger}]',
            '[waterfalls] "enrich/phone": there is no provider nobody',
            '[waterfalls] "enrich/websearch": hunter has no answer to this',
            '[waterfalls] "enrich/nothing": nothing is bought for such an operation',
            "[llm] model: is missing",
            "[llm] key: is missing",
            "[llm] input_usd: is missing",
        ):
            assert told in said, said
        assert ('"enrich/websearch": exa is not configured' in said) is (name != "exa")
        assert "Traceback" not in said


def test_every_kind_of_provider_is_tried_half() -> None:
    from upstreams.providers import KINDS

    assert set(NEEDS) == set(KINDS)
