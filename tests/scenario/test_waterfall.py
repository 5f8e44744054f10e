"""Calls that are bought from several providers in turn: what the customer pays, what each vendor takes, what is kept.

The vendors are real sockets that speak as Whitepages, Trestle and Twilio do; the people are invented.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from rigs.gate import KEYS, Gate, Reply, header
from rigs.payer import Payer
from rigs.scripted import METERED, Scripted, Word
from rigs.upstream import Behaviour, ScriptedUpstream, cookie, echo, hang, reply, reset, status

from gateway.core.catalogue import Operation
from gateway.core.upstream import Context, Failure, Match, NoMatch, Offering, Outcome
from gateway.core.vendor_call import ErrorClass
from gateway.core.vendor_call import Outcome as Called
from gateway.store import jobs as stored_jobs
from gateway.store import vendor_calls
from gateway.store.vendor_calls import Margin
from upstreams.directory.settings import DirectorySettings
from upstreams.people import People
from upstreams.provider import Provider, waterfall
from upstreams.providers import Account, built

PHONE = "+12065550100"
SECRET = "vendor-key-canary-31c9"
OWNER = {"name": "Dana Q Sample", "firstname": "Dana", "middlename": "Q", "lastname": "Sample", "type": "Person"}
TRESTLE = reply({"phone_number": "2065550100", "is_valid": True, "line_type": "Mobile", "owners": [OWNER]})
TRESTLE_MISS = reply({"is_valid": True, "owners": []})  # of whatever number is asked for
WHITEPAGES = reply(
    {"results": [{"id": "P1234567890", "name": "Dana Q Sample", "phones": [{"number": "206-555-0100"}]}]}
)
WHITEPAGES_MISS = reply({"results": []})
PRICE, WP, TR = 330_000, 100_000, 80_000
NAMES = ("whitepages", "trestle")
THREE = (*NAMES, "twilio")
TWILIO = reply({"phone_number": PHONE, "caller_name": {"caller_name": "SAMPLE DANA", "error_code": None}})
TWILIO_MISS = reply({"phone_number": PHONE, "caller_name": {"caller_name": None, "error_code": None}})
ANSWERS = {
    "/wp/v2/person/": {"match": WHITEPAGES, "miss": WHITEPAGES_MISS},
    "/tr/3.2/phone": {"match": TRESTLE, "miss": TRESTLE_MISS},
    f"/tw/v2/PhoneNumbers/%2B{PHONE[1:]}": {"match": TWILIO, "miss": TWILIO_MISS},
}
FAULTS = {"down": status(503), "lost": reset(), "refused": status(401), "odd": reply("odd")}
ANY_TIME = (0, 2**53)


def accounts(up: ScriptedUpstream, **more: Any) -> dict[str, Account]:
    return {
        "whitepages": Account(
            key=SECRET, url=up.url("/wp").rstrip("/"), cost_per_call_micros=WP, private=True, **more
        ),
        "trestle": Account(
            key=SECRET, url=up.url("/tr").rstrip("/"), cost_per_match_micros=TR, private=True, bill_misses=False, **more
        ),
        "twilio": Account(
            user="AC0", key=SECRET, url=up.url("/tw").rstrip("/"), cost_per_call_micros=5_000, private=True, **more
        ),
    }  # fmt: skip


@dataclass
class Shop:
    """A gateway that buys, and its vendors."""

    gate: Gate
    up: ScriptedUpstream

    def says(self, whitepages: Behaviour, trestle: Behaviour) -> None:
        self.up.on("/wp/v2/person/", whitepages)
        self.up.on("/tr/3.2/phone", trestle)

    async def call(self, token: str | None = None, payment: Any = None, phone: str = PHONE) -> Reply:
        sent = {"Content-Type": "application/json"}
        sent |= {"Authorization": f"Bearer {token}"} if token else {}
        sent |= {"PAYMENT-SIGNATURE": header(payment)} if payment else {}
        body = orjson.dumps({"phone": phone})
        return await self.gate.send("POST", "/api/v1/enrich/phone", headers=sent, body=body)

    async def margins(self, *by: str) -> dict[tuple[str, ...], Margin]:
        return dict(await self.gate.gateway.db.read(vendor_calls.margins, by, *ANY_TIME))

    @property
    def asked(self) -> list[str]:
        return [seen.path for seen in self.up.seen]


@asynccontextmanager
async def open_shop(home: Path, *, names: Sequence[str] = NAMES, show_costs: bool = False) -> AsyncIterator[Shop]:
    async with ScriptedUpstream() as up:
        people = People(
            DirectorySettings(home / "no-directory.db"), built(accounts(up)), {"enrich/phone": names},
            show_costs=show_costs,
        )  # fmt: skip
        async with Gate.open(home, upstream=people) as gate:  # type: ignore[arg-type]
            yield Shop(gate, up)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


async def test_the_customer_pays_once_and_each_vendor_is_in_the_books(shop: Shop) -> None:
    agent, token = await shop.gate.agent(1_000_000)
    shop.says(WHITEPAGES_MISS, TRESTLE)
    told = await shop.call(token)
    assert (told.status, told.json["matched"], told.json["billing"]["charged_usd"]) == (200, True, "0.330")
    assert told.json["data"]["people"][0]["name"] == "Dana Q Sample"
    tried = told.json["metadata"]["providers_tried"]
    assert [(one["provider"], one["outcome"]) for one in tried] == [("whitepages", "no_match"), ("trestle", "match")]
    assert all("cost_usd" not in one for one in tried)
    assert told.json["metadata"]["phone"]["line_type"] == "mobile"
    (view,) = await shop.gate.charges()
    calls = await shop.gate.gateway.db.read(vendor_calls.of_charge, view.charge.id)
    assert [(call.provider, call.outcome, call.cost_micros) for call in calls] == [
        ("whitepages", Called.NO_MATCH, WP), ("trestle", Called.MATCH, TR)
    ]  # fmt: skip
    assert view.cost_micros == WP + TR
    balance = await shop.gate.balance(agent)
    assert (balance.available, balance.held) == (1_000_000 - PRICE, 0)
    assert await shop.margins("provider") == {
        ("whitepages",): Margin(calls=1, misses=1, cost_micros=WP, misses_cost_micros=WP),
        ("trestle",): Margin(sold=1, revenue_micros=PRICE, calls=1, matches=1, cost_micros=TR),
    }


async def test_what_it_took_is_shown_where_the_operator_says_so(tmp_path: Path) -> None:
    async with open_shop(tmp_path, show_costs=True) as shop:
        _, token = await shop.gate.agent(1_000_000)
        shop.says(WHITEPAGES_MISS, TRESTLE)
        tried = (await shop.call(token)).json["metadata"]["providers_tried"]
        assert [one["cost_usd"] for one in tried] == ["0.100", "0.080"]


async def test_a_miss_is_free_for_the_customer_and_paid_by_the_operator(shop: Shop) -> None:
    agent, token = await shop.gate.agent(1_000_000)
    shop.says(WHITEPAGES_MISS, TRESTLE_MISS)
    told = await shop.call(token)
    assert (told.status, told.json["matched"], told.json["billed"], told.json["data"]) == (
        200, False, False, {"people": []}
    )  # fmt: skip
    assert (await shop.gate.balance(agent)).available == 1_000_000
    (margin,) = (await shop.margins("operation")).values()
    assert margin == Margin(calls=2, misses=2, cost_micros=WP, misses_cost_micros=WP)
    assert margin.margin_micros == -WP


async def test_by_a_signature_it_is_the_same(shop: Shop) -> None:
    shop.says(WHITEPAGES_MISS, TRESTLE)
    payer = Payer(KEYS[0])
    before = shop.gate.sandbox.balance(payer.address)
    for phone, charged in ((PHONE, PRICE), ("+12065550101", 0)):
        refused = await shop.call()
        assert refused.status == 402
        wanted = next(one for one in refused.offer["accepts"] if "assetTransferMethod" not in one["extra"])
        told = await shop.call(payment=shop.gate.paying(payer.eip3009(wanted), refused.offer), phone=phone)
        assert (told.status, told.json["matched"]) == (200, charged > 0)
        shop.says(WHITEPAGES_MISS, TRESTLE_MISS)
    assert before - shop.gate.sandbox.balance(payer.address) == PRICE
    (margin,) = (await shop.margins("operation")).values()
    assert (margin.sold, margin.revenue_micros, margin.cost_micros) == (1, PRICE, 2 * WP + TR)


# What comes of all three in turn: a step a line. Costs and what went to misses are in thousandths of a dollar.
WATERFALLS = """
    # whitepages trestle twilio ->  outcome | whitepages trestle twilio, of it misses and failures
    match        -       -      ->  match   | 100  0 0,   0
    miss         match   -      ->  match   | 100 80 0, 100
    miss         miss    match  ->  match   | 100  0 5, 100
    miss         miss    miss   ->  miss    | 100  0 5, 105
    down         match   -      ->  match   |   0 80 0,   0
    lost         match   -      ->  match   | 100 80 0, 100
    refused      refused match  ->  match   |   0  0 5,   0
    miss         down    match  ->  match   | 100  0 5, 100
    miss         lost    match  ->  match   | 100 80 5, 180
    odd          odd     odd    ->  failed  | 100 80 5, 185
    miss         down    lost   ->  miss    | 100  0 5, 105
    down         refused lost   ->  failed  |   0  0 5,   5
"""
STEPS = [line.split("#")[0].strip() for line in WATERFALLS.splitlines() if line.split("#")[0].strip()]


@pytest.mark.parametrize("paid", ["from a balance", "by a signature"])
@pytest.mark.parametrize("step", STEPS, ids=["-".join(step.partition("->")[0].split()) for step in STEPS])
async def test_the_money_of_a_waterfall(tmp_path: Path, step: str, paid: str) -> None:
    """The customer pays once and only for a match, each vendor stands in the books with what it took, and what was held
    is charged or given back."""
    says, _, rest = step.partition("->")
    outcome, _, costs = rest.partition("|")
    each, _, misses = costs.partition(",")
    cost = dict(zip(THREE, (int(part) * 1000 for part in each.split()), strict=True))
    charged = PRICE if outcome.strip() == "match" else 0
    async with open_shop(tmp_path, names=THREE) as shop:
        for (path, answers), word in zip(ANSWERS.items(), says.split(), strict=True):
            shop.up.on(path, answers.get(word) or FAULTS.get(word) or status(418))
        payer, (agent, token) = Payer(KEYS[0]), await shop.gate.agent(1_000_000)
        before = shop.gate.sandbox.balance(payer.address)
        if paid == "by a signature":
            refused = await shop.call()
            wanted = next(one for one in refused.offer["accepts"] if "assetTransferMethod" not in one["extra"])
            told = await shop.call(payment=shop.gate.paying(payer.eip3009(wanted), refused.offer))
        else:
            told = await shop.call(token)
        spent = (
            1_000_000 - (await shop.gate.balance(agent)).available,
            before - shop.gate.sandbox.balance(payer.address),
        )
        assert sorted(spent) == [0, charged]
        assert told.status == (502 if outcome.strip() == "failed" else 200), told.body
        assert len(shop.asked) == len([word for word in says.split() if word != "-"])
        lines = await shop.margins("provider")
        assert {name: lines[(name,)].cost_micros if (name,) in lines else 0 for name in THREE} == cost
        sums = [Margin(), *lines.values()]
        assert sum(line.misses_cost_micros for line in sums) == int(misses) * 1000
        assert [line.revenue_micros for line in sums if line.revenue_micros] == [charged] * (charged > 0)
        for by in (("operation",), ("key", "day")):
            (whole,) = (await shop.margins(*by)).values()
            assert whole.margin_micros == charged - sum(cost.values())
        (view,) = await shop.gate.charges()
        assert view.cost_micros == sum(cost.values())
        moved = dict(await shop.gate.gateway.db.read(legs, view.charge.id))
        assert moved["hold"] == PRICE == moved.get("capture", 0) + moved.get("release", 0)
        assert moved.get("capture", 0) == charged


def legs(tx: Any, charge_id: str) -> Any:
    return tx.execute(
        "SELECT kind, sum(amount_micros) FROM transfers WHERE charge_id = :id GROUP BY 1", {"id": charge_id}
    )


async def test_f019_where_nobody_could_look_nothing_is_charged_and_what_was_spent_is_recorded(shop: Shop) -> None:
    agent, token = await shop.gate.agent(1_000_000)
    shop.says(reset(), status(500))
    told = await shop.call(token)
    assert (told.status, told.json["code"]) == (502, "UPSTREAM_ERROR")
    balance = await shop.gate.balance(agent)
    assert (balance.available, balance.held) == (1_000_000, 0)
    (margin,) = (await shop.margins("operation")).values()
    assert margin == Margin(calls=2, failures=2, cost_micros=WP, misses_cost_micros=WP)


async def test_one_that_looked_and_found_nothing_makes_it_a_miss(shop: Shop) -> None:
    _, token = await shop.gate.agent(1_000_000)
    shop.says(status(401), TRESTLE_MISS)
    told = await shop.call(token)
    assert (told.status, told.json["matched"], told.json["billed"]) == (200, False, False)
    tried = told.json["metadata"]["providers_tried"]
    assert [(one["outcome"], one.get("error")) for one in tried] == [("failed", "auth"), ("no_match", None)]


async def test_f151_when_all_rest_nothing_is_held_and_the_advice_is_passed_on(shop: Shop) -> None:
    _, token = await shop.gate.agent(1_000_000)
    storm = status(429, headers={"Retry-After": "60"})
    shop.says(storm, storm)
    first = await shop.call(token)
    assert (first.status, first.headers["Retry-After"]) == (502, "60")
    charges, asked = len(await shop.gate.charges()), len(shop.asked)
    second = await shop.call(token)
    assert (second.status, int(second.headers["Retry-After"]) in range(1, 61)) == (502, True)
    assert (len(await shop.gate.charges()), len(shop.asked)) == (charges, asked)


async def test_one_that_rests_is_passed_over_and_the_other_sells(shop: Shop) -> None:
    _, token = await shop.gate.agent(1_000_000)
    shop.says(status(402), TRESTLE)
    assert (await shop.call(token)).json["matched"] is True
    assert (await shop.call(token, phone="+12065550100")).json["matched"] is True
    assert shop.asked == ["/wp/v2/person/", "/tr/3.2/phone", "/tr/3.2/phone"]


async def test_f152_an_answer_that_was_lost_is_not_asked_for_again_and_counts_once(shop: Shop) -> None:
    _, token = await shop.gate.agent(1_000_000)
    shop.says(reset(), TRESTLE_MISS)
    await shop.call(token)
    assert shop.asked == ["/wp/v2/person/", "/tr/3.2/phone"]
    assert (await shop.margins("provider"))[("whitepages",)].cost_micros == WP


@pytest.mark.parametrize("form", ["plain", "base64", "header"])
async def test_f143_f147_a_vendors_key_and_headers_are_in_no_answer_and_no_log(shop: Shop, form: str) -> None:
    _, token = await shop.gate.agent(1_000_000)
    loud = {"Set-Cookie": "session=canary", "Access-Control-Allow-Origin": "https://canary.example.com",
            "X-Payment": "canary", "Cache-Control": "public, max-age=canary"}  # fmt: skip
    answer = {"phone_number": "2065550100", "owners": [OWNER]}
    with structlog.testing.capture_logs() as logs:
        shop.says(echo(form), reply(answer, headers=loud))
        told = await shop.call(token)
    assert told.json["matched"] is True
    heard = f"{told.headers} {told.body!r} {logs}"
    assert SECRET not in heard
    assert "canary" not in heard
    assert "2065550100" not in str(logs)
    (view,) = await shop.gate.charges()
    assert SECRET.encode() not in (view.result or b"")


async def test_f153_nothing_of_one_customer_reaches_the_vendor_with_the_next(shop: Shop) -> None:
    (_, one), (_, other) = await shop.gate.agent(1_000_000), await shop.gate.agent(1_000_000)
    shop.says(cookie("tenant=one", value={"results": []}), TRESTLE)
    for token in (one, other):
        await shop.call(token)
    allowed = {"host", "user-agent", "accept", "accept-encoding", "x-api-key"}
    assert all(seen.names <= allowed for seen in shop.up.seen)


async def test_margins_by_key_and_day(shop: Shop) -> None:
    _, token = await shop.gate.agent(2_000_000)
    key = await shop.gate.usage_key(token, "enrich:phone")
    shop.says(WHITEPAGES, TRESTLE)
    await shop.call(token)
    await shop.call(key)
    key_id = (await shop.gate.charges())[1].key_id
    today = str(int(time.time() // 86400))
    line = Margin(sold=1, revenue_micros=PRICE, calls=1, matches=1, cost_micros=WP)
    by_key = await shop.margins("key", "day")
    assert set(by_key) <= {("", today), (key_id, today), ("", str(int(today) - 1)), (key_id, str(int(today) - 1))}
    assert list(by_key.values()) == [line, line]


async def test_the_sums_are_the_same_whatever_they_are_told_by(shop: Shop) -> None:
    _, token = await shop.gate.agent(2_000_000)
    for wp, tr in (
        (WHITEPAGES, TRESTLE),
        (WHITEPAGES_MISS, TRESTLE),
        (WHITEPAGES_MISS, TRESTLE_MISS),
        (reset(), TRESTLE),
    ):
        shop.says(wp, tr)
        await shop.call(token)
    sums = []
    for by in ((), ("operation",), ("provider",), ("key", "day"), ("operation", "provider", "key", "day")):
        margins = (await shop.margins(*by)).values()
        told = [(one.sold, one.revenue_micros, one.cost_micros, one.misses_cost_micros) for one in margins]
        sums.append(tuple(map(sum, zip(*told, strict=True))))
    assert sums == [(3, 3 * PRICE, 4 * WP + 2 * TR, 3 * WP)] * 5


# As a job


@dataclass
class Hunt(Scripted):
    """`test/metered` bought from three vendors in turn, as a job."""

    vendors: list[Provider[Any, Any]] = field(default_factory=list)

    def offerings(self) -> Sequence[Offering]:
        (offering,) = [one for one in super().offerings() if one.operation.price == METERED]
        return [Offering(offering.operation, self._hunt)]

    def offline(self) -> Sequence[Operation]:
        return ()

    async def _hunt(self, query: Word, context: Context) -> Outcome:
        from upstreams.directory.matching import Query

        found, tried = await waterfall(self.vendors, Query(phone=PHONE), context, hop="hunt")
        cost = sum(one.call.cost_micros for one in tried)
        names = [[one.call.provider, one.call.outcome.value] for one in tried]
        if found is not None:
            return Match({"found": "somebody", "tried": names}, {}, cost)
        if any(one.outcome is Called.NO_MATCH for one in tried):
            return NoMatch({"found": None, "tried": names}, {}, cost)
        return Failure("nobody could be asked", cost_micros=cost)


def hunt(up: ScriptedUpstream) -> Hunt:
    vendors = built(accounts(up))
    return Hunt(vendors=[vendors[name] for name in THREE], timeout_s=30)


async def submit(gate: Gate, token: str) -> Reply:
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    body = orjson.dumps({"route": "test/metered", "payload": {"word": "dana"}, "bill_up_to_usd": "1.50"})
    return await gate.send("POST", "/api/v1/enrich/jobs", headers=sent, body=body)


async def ended(gate: Gate, job: Reply) -> Any:
    bearer = {"Authorization": f"Bearer {job.json['poll_bearer']}"}
    return (await gate.send("GET", f"{job.json['poll_url']}?wait=20", headers=bearer)).json


async def test_f152_a_hop_with_a_stored_outcome_is_never_bought_twice_and_a_lost_one_counts(tmp_path: Path) -> None:
    """The worker goes while the second vendor is being asked; another goes on where it was."""
    async with ScriptedUpstream() as up:
        up.on("/wp/v2/person/", WHITEPAGES_MISS)
        up.on("/tr/3.2/phone", hang())
        up.on(f"/tw/v2/PhoneNumbers/%2B{PHONE[1:]}", TWILIO)
        async with Gate.open(tmp_path, upstream=hunt(up), clean=False) as gate:
            agent, token = await gate.agent(2_000_000)
            job = await submit(gate, token)
            await up.arrived(2)
        async with Gate.open(tmp_path, upstream=hunt(up)) as gate:
            done = await ended(gate, job)
            assert (done["status"], done["matched"]) == ("completed", True)
            assert done["result"]["data"]["tried"] == [
                ["whitepages", "no_match"], ["trestle", "failed"], ["twilio", "match"]
            ]  # fmt: skip
            assert [seen.path.split("/")[1] for seen in up.seen] == ["wp", "tr", "tw"]
            (view,) = await gate.charges()
            calls = await gate.gateway.db.read(vendor_calls.of_charge, view.charge.id)
            assert [(call.provider, call.error, call.cost_micros) for call in calls] == [
                ("whitepages", None, WP), ("trestle", ErrorClass.LOST, TR), ("twilio", None, 5_000)
            ]  # fmt: skip
            charged = METERED.charge_micros(WP + TR + 5_000, 1_500_000)
            balance = await gate.balance(agent)
            assert (balance.available, balance.held) == (2_000_000 - charged, 0)


async def test_what_a_job_has_bought_that_nobody_brings_to_its_end_is_in_the_books(tmp_path: Path) -> None:
    async with ScriptedUpstream() as up:
        up.on("/wp/v2/person/", WHITEPAGES_MISS)
        up.on("/tr/3.2/phone", hang())
        async with Gate.open(tmp_path, upstream=hunt(up), clean=False) as gate:
            agent, token = await gate.agent(2_000_000)
            job = await submit(gate, token)
            await up.arrived(2)
        async with Gate.open(tmp_path, upstream=hunt(up), clock=lambda: time.time() + 7200) as gate:
            assert (await ended(gate, job))["status"] == "failed"
            (view,) = await gate.charges()
            calls = await gate.gateway.db.read(vendor_calls.of_charge, view.charge.id)
            assert [(call.hop, call.provider, call.error, call.cost_micros) for call in calls] == [
                ("hunt", "whitepages", None, WP), ("hunt", "trestle", ErrorClass.LOST, TR)
            ]  # fmt: skip
            assert (await gate.balance(agent)).available == 2_000_000


async def test_f152_one_that_was_asked_and_rests_now_counts_all_the_same(tmp_path: Path) -> None:
    """Its answer was lost with the worker, and the next finds it not worth asking: both stand in the books."""
    async with ScriptedUpstream() as up:
        up.on("/wp/v2/person/", WHITEPAGES_MISS)
        up.on("/tr/3.2/phone", hang())
        up.on(f"/tw/v2/PhoneNumbers/%2B{PHONE[1:]}", TWILIO)
        async with Gate.open(tmp_path, upstream=hunt(up), clean=False) as gate:
            _, token = await gate.agent(2_000_000)
            job = await submit(gate, token)
            await up.arrived(2)
        later = hunt(up)
        line = later.vendors[1].line
        line.breaker = line.breaker.failed(time.time(), 300)
        async with Gate.open(tmp_path, upstream=later) as gate:
            assert (await ended(gate, job))["matched"] is True
            (view,) = await gate.charges()
            calls = await gate.gateway.db.read(vendor_calls.of_charge, view.charge.id)
            assert [(call.provider, call.error, call.cost_micros) for call in calls] == [
                ("trestle", ErrorClass.LOST, TR), ("whitepages", None, WP), ("trestle", ErrorClass.RESTING, 0),
                ("twilio", None, 5_000),
            ]  # fmt: skip


async def test_whoever_stops_a_job_pays_nothing_and_the_vendors_are_in_the_books(tmp_path: Path) -> None:
    async with ScriptedUpstream() as up:
        up.on("/wp/v2/person/", WHITEPAGES_MISS)
        up.on("/tr/3.2/phone", hang())
        async with Gate.open(tmp_path, upstream=hunt(up)) as gate:
            agent, token = await gate.agent(2_000_000)
            job = await submit(gate, token)
            await up.arrived(2)
            bearer = {"Authorization": f"Bearer {job.json['poll_bearer']}"}
            await gate.send("DELETE", job.json["poll_url"], headers=bearer)
            assert (await ended(gate, job))["status"] == "cancelled"
            assert (await gate.balance(agent)).available == 2_000_000
            (view,) = await gate.charges()
            assert view.cost_micros == WP + TR  # the second may have answered, and been billed
            assert await gate.gateway.db.read(lambda tx: stored_jobs.outcomes(tx, job.json["job_id"])) == []
