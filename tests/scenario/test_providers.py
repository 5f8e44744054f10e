"""How the operator sees whom he buys from: a gateway as it is configured, over vendors that are real sockets."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from rigs.gate import Gate, Reply
from rigs.upstream import ScriptedUpstream, reply, status

KEY = "vendor-key-canary-31c9"
PHONE = {"phone": "+12065550100"}
FIRM = {"name": "Example Bakery", "state_code": "WA"}
OWNER = {"name": "Dana Q Sample", "firstname": "Dana", "lastname": "Sample", "type": "Person"}
TRESTLE = reply({"phone_number": "2065550100", "is_valid": True, "owners": [OWNER]})
PDL_MISS = {"status": 404, "error": {"type": "not_found", "message": "no"}}


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@dataclass
class Bought:
    gate: Gate
    up: ScriptedUpstream
    clock: Clock
    token: str

    async def ask(self, operation: str = "enrich/phone", question: Any = None) -> Reply:
        return await self.gate.ask(operation, question or PHONE, token=self.token)

    async def metrics(self, *names: str) -> dict[str, float]:
        """The lines that begin with one of these, but for what is zero."""
        page = (await self.gate.send("GET", "/metrics")).body.decode()
        lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith(names))
        return {name: float(value) for name, value in lines.items() if float(value)}

    async def alarms(self) -> set[str]:
        return {name.split('"')[1] for name in await self.metrics("faregate_alarm{")}


@asynccontextmanager
async def bought(home: Path, *names: str, more: str = "", terms: str = "") -> AsyncIterator[Bought]:
    clock = Clock()
    async with ScriptedUpstream() as up:
        tables = "".join(
            f'[providers.{name}]\nkey = "{KEY}"\nurl = "{up.url("/" + name)}"\nprivate = true\n'
            f'cost_per_call = "0.01"\n{terms}\n'
            for name in names
        )
        async with Gate.open(home, base=tables + more, configured=True, clock=clock) as gate:
            _, token = await gate.agent(10_000_000)
            yield Bought(gate, up, clock, token)


@pytest.mark.parametrize(
    ("refusal", "alarm"), [(401, "provider_refuses_key:whitepages"), (402, "provider_account_empty:whitepages")]
)
async def test_an_account_in_trouble_is_an_alarm_until_it_answers_again(
    tmp_path: Path, refusal: int, alarm: str
) -> None:
    async with bought(tmp_path, "whitepages", "trestle") as shop:
        refusals = 5 if refusal == 401 else 1
        shop.up.on("/whitepages/v2/person/", *[status(refusal)] * (refusals + 1), reply({"results": []}))
        shop.up.on("/trestle/3.2/phone", TRESTLE)
        with structlog.testing.capture_logs() as logs:
            for number in range(6):
                assert (await shop.ask()).json["matched"] is True
                assert await shop.alarms() == {alarm}, number
            rests = await shop.metrics("faregate_provider_rest_seconds")
            rest_s = 600 if refusal == 401 else 300
            assert rests == {'faregate_provider_rest_seconds{provider="whitepages"}': pytest.approx(rest_s, abs=2)}
            shop.clock.ahead_s = 601
            await shop.ask()
            assert await shop.alarms() == {alarm}
            shop.clock.ahead_s = 1202
            await shop.ask()
        assert (await shop.alarms(), await shop.metrics("faregate_provider_rest_seconds")) == (set(), {})
        told = [(line["alarm"], line["subject"]) for line in logs if line["event"] == "alarm"]
        assert told == [(alarm.partition(":")[0], "whitepages")]
        assert KEY not in str(logs)


async def test_questions_are_counted_by_provider_outcome_and_error(tmp_path: Path) -> None:
    async with bought(tmp_path, "whitepages", "trestle") as shop:
        shop.up.on("/whitepages/v2/person/", status(403))
        shop.up.on("/trestle/3.2/phone", TRESTLE)
        for _ in range(6):
            await shop.ask()
        labels = 'faregate_vendor_calls_total{{error="{}",outcome="{}",provider="{}"}}'
        assert await shop.metrics("faregate_vendor_calls_total") == {
            labels.format("auth", "failed", "whitepages"): 5,
            labels.format("resting", "skipped", "whitepages"): 1,
            labels.format("", "match", "trestle"): 6,
        }
        assert KEY not in (await shop.gate.send("GET", "/metrics")).body.decode()


@pytest.mark.parametrize(("terms", "left", "low"), [("", 9, False), ("quota_low = 10", 9, True), ("", 0, True)])
async def test_what_is_left_of_a_quota_is_shown_as_last_heard_and_an_alarm_when_it_is_little(
    tmp_path: Path, terms: str, left: int, low: bool
) -> None:
    async with bought(tmp_path, "people_data_labs", terms=terms) as shop:
        answers = [reply(PDL_MISS, status=404, headers={"X-TotalLimit-Remaining": str(n)}) for n in (40, left)]
        shop.up.on("/people_data_labs/v5/person/enrich", *answers)
        assert await shop.metrics("faregate_provider_quota_left") == {}
        await shop.ask()
        line = 'faregate_provider_quota_left{provider="people_data_labs"}'
        assert (await shop.metrics(line), await shop.alarms()) == ({line: 40}, set())
        await shop.ask()
        assert (await shop.metrics(line)).get(line, 0) == left
        assert await shop.alarms() == ({"provider_quota_low:people_data_labs"} if low else set())


async def test_one_that_is_asked_for_several_operations_has_one_account(tmp_path: Path) -> None:
    """With whom it is empty for people it is empty for firms: that is not tried again."""
    async with bought(tmp_path, "people_data_labs") as shop:
        shop.up.default = status(402)
        await shop.ask()
        again = await shop.ask("enrich/company", FIRM)
        assert (again.status, int(again.headers["Retry-After"]) in range(295, 301)) == (502, True)
        assert len(shop.up.seen) == 1


LLM = """
[providers.serper]
key = "{key}"
url = "{url}/serper"
private = true
cost_per_call = "0"
[web]
private = true
[llm]
api = "openai"
url = "{url}/llm"
model = "a-model"
private = true
key = "{key}"
input_usd = "0"
output_usd = "0"
"""
PAGE = b"""<html><head><title>Sample Window Care LLC - Tampa</title></head><body><h1>Sample Window Care LLC</h1>
<p>5 Example Rd, Tampa, FL 33602</p><a href="tel:+18135550142">(813) 555-0142</a></body></html>"""


async def test_a_model_that_refuses_the_key_is_one_too(tmp_path: Path) -> None:
    async with ScriptedUpstream() as up:
        found = {"organic": [{"title": "Sample Window Care", "link": up.url("/page")}]}
        up.on("/serper/search", reply(found))
        up.on("/robots.txt", status(404))
        up.on("/page", reply(body=PAGE, content_type="text/html"))
        up.default = status(401)
        toml = LLM.format(key=KEY, url=up.url("").rstrip("/"))
        async with Gate.open(tmp_path, base=toml, configured=True) as gate:
            _, token = await gate.agent(10_000_000)
            asked = {"business_name": "Sample Window Care LLC", "city": "Tampa", "state": "FL"}
            await gate.ask("enrich/websearch", asked, token=token)
            page = (await gate.send("GET", "/metrics")).body.decode()
            assert 'faregate_alarm{name="provider_refuses_key:openai"} 1.0' in page
