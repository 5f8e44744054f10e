"""Lead sessions at the gate: what is held, charged and given back, sync and as jobs; sessions that go on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import validate
from rigs import leads as rig
from rigs.gate import KEYS, Gate, Reply, header
from rigs.leads import WINDOW, World, full
from rigs.payer import Payer

from gateway.core.catalogue import Operation
from gateway.core.charge import Event, State
from gateway.core.upstream import Failure, NoMatch, Offering
from gateway.store import sessions
from gateway.store.database import Tx
from upstreams.leads import Leads

PATH = "/api/v1/enrich/lead-session"
JOBS = "/api/v1/enrich/jobs"
BASE = 1_500_000
PAYER = Payer(KEYS[0]).address
LABEL = "Find a direct phone for Dana Sample"
Json = Any


@dataclass
class Selling:
    """The upstream, with a scripted world behind it."""

    world: World
    name: str = "leads"
    leads: Leads = field(init=False)

    def __post_init__(self) -> None:
        self.leads = Leads(self.world.settings, lambda: self.world.tools())

    def offerings(self) -> Sequence[Offering]:
        return self.leads.offerings()

    def offline(self) -> Sequence[Operation]:
        return self.leads.offline()

    def available(self, operation_id: str, now_s: float) -> int | None:
        return None

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass


@asynccontextmanager
async def opened(home: Path, world: World | None = None, **parts: Any) -> AsyncIterator[tuple[Gate, World]]:
    world = world or full()
    selling: Any = Selling(world)
    async with Gate.open(home, upstream=selling, **parts) as gate:
        yield gate, world


async def ask(
    gate: Gate, lead: Json = WINDOW, *, token: str = "", payment: Json = None, sent: Json = None, **more: Json
) -> Reply:
    headers = {"Content-Type": "application/json", **(sent or {})}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"PAYMENT-SIGNATURE": header(payment)} if payment else {}
    return await gate.send("POST", PATH, headers=headers, body=orjson.dumps({"lead": lead, **more}))


async def sign(gate: Gate, scheme: str) -> Json:
    required = (await ask(gate)).offer
    offer = next(
        o for o in required["accepts"]
        if o["scheme"] == scheme and (scheme == "upto" or "assetTransferMethod" not in o["extra"])
    )  # fmt: skip
    payer = Payer(KEYS[0])
    return gate.paying(payer.permit2(offer) if scheme == "upto" else payer.eip3009(offer), required)


async def test_a_budget_is_held_and_the_base_is_charged(tmp_path: Path) -> None:
    async with opened(tmp_path) as (gate, world):
        agent, token = await gate.agent(10_000_000)
        reply = await ask(gate, token=token, budget_usd="5")
        assert (reply.status, reply.json["matched"], reply.json["billed"]) == (200, True, True)
        (offering,) = Selling(world).offerings()
        validate(reply.json, offering.operation.output)
        assert reply.json["billing"]["bill_up_to_usd"] == "5.000"
        assert reply.json["billing"]["charged_usd"] == reply.json["data"]["session"]["projected_charge_usd"] == "1.500"
        assert (await gate.balance(agent)).available == 10_000_000 - BASE
        (view,) = await gate.charges()
        assert (view.charge.held_micros, view.charge.captured_micros) == (5_000_000, BASE)
        assert view.cost_micros == 160_000


@pytest.mark.parametrize(
    ("asked", "header", "held"),
    [(None, None, 2_000_000), ("3", None, 3_000_000), ("3", "2.50", 2_500_000), (2.25, "5", 2_250_000)],
)
async def test_the_lower_of_two_budgets_counts(tmp_path: Path, asked: Json, header: Json, held: int) -> None:
    async with opened(tmp_path) as (gate, _):
        _, token = await gate.agent(10_000_000)
        sent = {"X-Bill-Up-To-Usd": header} if header else {}
        reply = await ask(gate, token=token, sent=sent, **({"budget_usd": asked} if asked else {}))
        (view,) = await gate.charges()
        assert view.charge.held_micros == held
        assert reply.json["data"]["session"]["budget_usd_effective"] == f"{held / 1e6:.3f}"


async def test_what_it_takes_is_charged_within_the_budget(tmp_path: Path) -> None:
    world = full()
    world.costs |= {"websearch": 1_000_000, "person": 700_000}
    async with opened(tmp_path, world) as (gate, _):
        agent, token = await gate.agent(10_000_000)
        reply = await ask(gate, token=token, budget_usd="5")
        (view,) = await gate.charges()
        assert view.cost_micros == 2_430_000, "the web, an email, and two people"
        assert reply.json["billing"]["charged_usd"] == "3.159"
        assert (await gate.balance(agent)).available == 10_000_000 - 3_159_000
        small = await ask(gate, {**WINDOW, "contact_id": "2"}, token=token, budget_usd="2")
        assert small.json["billing"]["charged_usd"] == "1.859", "what one step more would have made 2.249"
        assert small.json["data"]["session"]["stop_reason"] == "budget"


async def test_a_balance_below_the_budget_makes_the_budget_smaller(tmp_path: Path) -> None:
    async with opened(tmp_path) as (gate, world):
        agent, token = await gate.agent(1_700_000)
        reply = await ask(gate, token=token, budget_usd="3")
        told = reply.json["data"]["session"]
        assert (told["budget_usd"], told["budget_usd_effective"]) == ("3.000", "1.700")
        assert (await gate.balance(agent)).available == 200_000
        world.journal.clear()
        short = await ask(gate, {**WINDOW, "contact_id": "2"}, token=token)
        assert (short.status, short.json["code"]) == (402, "PAYMENT_REQUIRED")
        assert (short.json["price_usd"], short.json["balance_usd"]) == ("1.500", "0.200")
        assert world.journal == []


async def test_a_miss_and_a_failure_cost_nothing(tmp_path: Path) -> None:
    world = World({"websearch": lambda question: Failure("down")}, without=frozenset({"directory", "company"}))
    async with opened(tmp_path, world) as (gate, _):
        agent, token = await gate.agent(5_000_000)
        missed = await ask(gate, {"dm_name": "Nobody Nowhere", "city": "Tampa", "state": "FL"}, token=token)
        assert (missed.status, missed.json["matched"], missed.json["billed"]) == (200, False, False)
        failed = await ask(gate, {"company": "Sample Window Care LLC"}, token=token)
        assert (failed.status, failed.json["code"]) == (502, "UPSTREAM_ERROR")
        assert (await gate.balance(agent)).available == 5_000_000
        reasons = [view.charge.reason for view in await gate.charges()]
        assert reasons == [Event.MISSED, Event.FAILED]
        assert [view.cost_micros for view in await gate.charges()] == [100_000, 0]


async def test_by_exact_the_base_is_sold_and_no_more_is_spent_than_it_pays_for(tmp_path: Path) -> None:
    world = full()
    world.costs |= {"websearch": 1_100_000, "person": 700_000}
    async with opened(tmp_path, world) as (gate, _):
        before = gate.sandbox.balance(PAYER)
        reply = await ask(gate, payment=await sign(gate, "exact"))
        assert (reply.status, reply.json["billing"]["mode"]) == (200, "x402_exact")
        assert gate.sandbox.balance(PAYER) == before - BASE
        (view,) = await gate.charges()
        assert view.cost_micros * 130 // 100 <= BASE
        assert reply.json["data"]["chat_session_id"] is None, "nothing is kept for who is no agent"


@pytest.mark.parametrize("budget", [None, "1.60"])
async def test_by_upto_what_it_took_is_settled_within_what_was_signed_and_asked(tmp_path: Path, budget: Json) -> None:
    world = full()
    world.costs |= {"websearch": 900_000, "person": 300_000}
    async with opened(tmp_path, world) as (gate, _):
        before = gate.sandbox.balance(PAYER)
        payment = await sign(gate, "upto")
        reply = await ask(gate, payment=payment, **({"budget_usd": budget} if budget else {}))
        charged = 1_500_000 if budget else 1_989_000
        assert (reply.status, reply.receipt["amount"]) == (200, str(charged))
        assert gate.sandbox.balance(PAYER) == before - charged
        assert (await gate.charges())[0].charge.held_micros == 2_000_000


BAD = [
    ({"lead": {}}, "LEAD_TOO_THIN"),
    ({"lead": {"contact_id": "4711", "city": "Tampa"}}, "LEAD_TOO_THIN"),
    ({"lead": {"phone": "12"}}, "INVALID_PHONE"),
    ({"lead": {f"k{n}": n for n in range(65)}}, "VALIDATION_ERROR"),
    ({"lead": {"company": {"name": "A"}}}, "VALIDATION_ERROR"),
    ({"lead": {"company": ["a", ["b"]]}}, "VALIDATION_ERROR"),
    ({"lead": "A Inc"}, "VALIDATION_ERROR"),
    ({"lead": None}, "VALIDATION_ERROR"),
    ({}, "VALIDATION_ERROR"),
    ({"lead": WINDOW, "budget_usd": "1.49"}, "CEILING_BELOW_PRICE"),
    ({"lead": WINDOW, "budget_usd": 0}, "CEILING_BELOW_PRICE"),
    ({"lead": WINDOW, "budget_usd": 20.01}, "VALIDATION_ERROR"),
    ({"lead": WINDOW, "budget_usd": "much"}, "VALIDATION_ERROR"),
    ({"lead": WINDOW, "max_rounds": 11}, "VALIDATION_ERROR"),
    ({"lead": WINDOW, "prompts": ["x" * 1001]}, "VALIDATION_ERROR"),
    ({"lead": WINDOW, "prompts": ["x"] * 6}, "VALIDATION_ERROR"),
    ({"lead": WINDOW, "mode": "slow"}, "VALIDATION_ERROR"),
    ({"lead": WINDOW, "prior_backfill": {"entities": [7]}}, "VALIDATION_ERROR"),
    ({"lead": WINDOW, "chat_session_id": "cs_01kb4x5v2e0000000000000000"}, "SESSION_NOT_FOUND"),
    ({"lead": WINDOW, "unknown": 1}, "VALIDATION_ERROR"),
]


@pytest.mark.parametrize("as_job", [False, True])
async def test_mistakes_are_told_and_cost_nothing(tmp_path: Path, as_job: bool) -> None:
    async with opened(tmp_path) as (gate, world):
        agent, token = await gate.agent(10_000_000)
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        for body, code in BAD:
            body = {"route": "enrich/lead-session", "payload": body} if as_job else body
            reply = await gate.send("POST", JOBS if as_job else PATH, headers=sent, body=orjson.dumps(body))
            status = 404 if code == "SESSION_NOT_FOUND" else 422
            assert (reply.status, reply.json["code"]) == (status, code), body
            assert "555" not in reply.body.decode(), "what was sent is not said again"
        assert (await gate.charges(), world.journal) == ([], [])
        assert (await gate.balance(agent)).available == 10_000_000


# sessions that go on


async def begun(gate: Gate, token: str, **more: Json) -> str:
    reply = await ask(gate, token=token, mode="interactive", **more)
    assert reply.status == 200, reply.body
    return str(reply.json["data"]["chat_session_id"])


async def test_a_later_call_is_charged_what_it_adds(tmp_path: Path) -> None:
    world = full()
    world.costs |= {"websearch": 1_000_000, "person": 1_000_000}
    async with opened(tmp_path, world) as (gate, _):
        agent, token = await gate.agent(10_000_000)
        session = await begun(gate, token)
        assert (await gate.balance(agent)).available == 10_000_000 - BASE
        reply = await ask(gate, token=token, mode="interactive", prompts=[LABEL], chat_session_id=session)
        assert (reply.status, reply.json["matched"]) == (200, True)
        assert reply.json["billing"]["charged_usd"] == "1.139", "2.639 for both, less 1.50"
        assert reply.json["data"]["chat_session_id"] == session
        third = await ask(gate, token=token, mode="interactive", chat_session_id=session)
        assert (third.json["matched"], third.json["billed"]) == (False, False)
        assert (await gate.balance(agent)).available == 10_000_000 - 2_639_000


async def test_what_a_miss_took_is_never_charged_later(tmp_path: Path) -> None:
    world = full()
    world.costs |= {"person": 500_000, "email": 900_000}
    world.answers["email"] = lambda question: NoMatch()
    async with opened(tmp_path, world) as (gate, _):
        agent, token = await gate.agent(10_000_000)
        session = await begun(gate, token, budget_usd="3")
        first = 10_000_000 - (await gate.balance(agent)).available
        asked = {"mode": "interactive", "chat_session_id": session, "budget_usd": "3"}
        missed = await ask(gate, token=token, prompts=["Find an email address for Dana Sample"], **asked)
        assert (missed.json["matched"], missed.json["billed"]) == (False, False)
        found = await ask(gate, token=token, prompts=[LABEL], **asked)
        assert found.json["matched"] is True
        spent = 10_000_000 - (await gate.balance(agent)).available
        bought = [view.cost_micros for view in await gate.charges()]
        assert bought == [60_000, 900_000, 500_000], "the operator has paid for the miss"
        assert spent == first == BASE, "which covers what was found; with the miss it would be 1.898"


async def test_what_the_base_has_paid_for_already_is_a_free_match(tmp_path: Path) -> None:
    async with opened(tmp_path) as (gate, _):
        agent, token = await gate.agent(3_500_000)
        session = await begun(gate, token)
        reply = await ask(gate, token=token, mode="interactive", prompts=[LABEL], chat_session_id=session)
        assert (reply.json["matched"], reply.json["billed"], reply.json["billing"]["charged_usd"]) == (
            True,
            False,
            "0.000",
        )
        assert (await gate.balance(agent)).available == 2_000_000
        assert [view.charge.state for view in await gate.charges()] == [State.CAPTURED, State.RELEASED]


async def test_what_is_asked_on_for_nothing_does_not_pile_up(tmp_path: Path) -> None:
    """Each state has what the ones before had: the last ones are kept, with what all of them had cost."""
    world = full()
    world.costs["person"] = 700_000
    async with opened(tmp_path, world) as (gate, _):
        _, token = await gate.agent(10_000_000)
        session = await begun(gate, token)
        asked = {"mode": "interactive", "chat_session_id": session, "budget_usd": "3"}
        assert (await ask(gate, token=token, prompts=[LABEL], **asked)).json["matched"]
        for _ in range(5):
            assert (await ask(gate, token=token, max_rounds=1, **asked)).status == 200

        def look(tx: Tx) -> list[tuple[int, int]]:
            return [(cost, size) for cost, size in tx.execute(
                "SELECT cost_micros, length(state) FROM session_turns ORDER BY charge_id")]  # fmt: skip

        turns = await gate.gateway.db.read(look)
        cost = sum(view.cost_micros for view in await gate.charges() if view.charge.reason is not Event.MISSED)
        assert len(turns) == 7
        assert [size > 0 for _, size in turns] == [False] * 4 + [True] * 3
        assert sum(cost for cost, _ in turns) == cost >= 760_000
        (last, *_) = reversed(await gate.charges())
        found = await gate.gateway.db.read(sessions.find, last.charge.id)
        assert found is not None
        assert (found.cost_micros, found.charged_micros) == (cost, BASE)


async def test_f176_a_session_is_its_agents_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (gate, world):
        _, token = await gate.agent(10_000_000)
        _, other = await gate.agent(10_000_000)
        session = await begun(gate, token)
        key = await gate.usage_key(token, "enrich:lead-session")
        world.journal.clear()
        for stranger in (other, key):
            reply = await ask(gate, token=stranger, chat_session_id=session)
            assert (reply.status, reply.json["code"]) == (404, "SESSION_NOT_FOUND")
        anonymous = await ask(gate, payment=await sign(gate, "exact"), chat_session_id=session)
        assert (anonymous.status, anonymous.json["code"]) == (404, "SESSION_NOT_FOUND")
        assert world.journal == []
        own = await begun(gate, key)
        assert (await ask(gate, token=token, chat_session_id=own)).status == 200, "the agent may see what its keys do"


async def test_a_session_does_not_go_on_about_somebody_else(tmp_path: Path) -> None:
    async with opened(tmp_path) as (gate, _):
        agent, token = await gate.agent(10_000_000)
        session = await begun(gate, token)
        left = (await gate.balance(agent)).available
        for lead in (
            {"company": "Other Firm Inc"},
            {**WINDOW, "phone2": "+12065550177"},
            {**WINDOW, "dba": "Other Firm"},
        ):
            reply = await ask(gate, lead, token=token, chat_session_id=session)
            assert (reply.status, reply.json["code"]) == (409, "SESSION_CONFLICT")
        assert (await gate.balance(agent)).available == left


async def test_nobody_is_smuggled_into_a_session_that_is_paid_for(tmp_path: Path) -> None:
    """Our own records take nothing, so whoever a later call could add would be told about for nothing."""
    guest = {
        "entities": [{"id": "p1", "type": "person", "name": "Avery Example"}],
        "phones": [{"id": "n1", "e164": "+12065550177", "owner_entity_id": "p1"}],
        "edges": [
            {"from": "p1", "to": "ent_firm", "type": "employee_of"},
            {"from": "p1", "to": "n1", "type": "has_phone"},
        ],
    }
    async with opened(tmp_path) as (gate, world):
        _, token = await gate.agent(10_000_000)
        session = await begun(gate, token, prior_backfill=guest)
        assert "+12065550177" in str(world.journal), "what a first call says is looked for, for its price"
        session = await begun(gate, token)
        world.journal.clear()
        reply = await ask(gate, token=token, chat_session_id=session, prior_backfill=guest)
        assert reply.status == 200
        assert "+12065550177" not in str(world.journal)
        assert "+12065550177" not in str(reply.json)


async def test_one_call_at_a_time_works_on_a_session(tmp_path: Path) -> None:
    """Two that go on from one state would each be charged as if the other had not been."""
    world = full()
    entered, leave = asyncio.Event(), asyncio.Event()
    async with opened(tmp_path, world) as (gate, _):
        agent, token = await gate.agent(20_000_000)
        session = await begun(gate, token)
        held_up = world.tools

        def tools() -> Json:
            found = held_up()
            fulfil = found["person"].fulfil

            async def slow(query: Json, context: Json) -> Json:
                entered.set()
                await leave.wait()
                return await fulfil(query, context)

            return {**found, "person": rig.Tool("person", slow, rig.Anything, 100_000)}

        world.tools = tools  # type: ignore[method-assign]
        first = asyncio.create_task(ask(gate, token=token, prompts=[LABEL], chat_session_id=session))
        await entered.wait()
        second = await ask(gate, token=token, prompts=["email"], chat_session_id=session)
        assert (second.status, second.json["code"]) == (409, "SESSION_CONFLICT")
        assert second.headers["Retry-After"]
        leave.set()
        assert (await first).status == 200
        assert (await gate.balance(agent)).held == 0
        assert (await ask(gate, token=token, prompts=["email"], chat_session_id=session)).status == 200


async def test_refresh_begins_another_session(tmp_path: Path) -> None:
    async with opened(tmp_path) as (gate, _):
        agent, token = await gate.agent(10_000_000)
        session = await begun(gate, token)
        reply = await ask(gate, token=token, chat_session_id=session, refresh=True)
        assert reply.json["data"]["chat_session_id"] not in (None, session)
        assert (await gate.balance(agent)).available == 10_000_000 - 2 * BASE


async def test_what_was_never_paid_for_is_not_asked_on_about(tmp_path: Path) -> None:
    """F-021: a result that is withheld does not come out by another door."""
    world = full()
    answer = world.answers["company"]
    async with opened(tmp_path, world) as (gate, _):
        _, token = await gate.agent(10_000_000)
        payment = await sign(gate, "upto")

        def drain(question: Json) -> Json:
            gate.sandbox.fund(PAYER, 0)
            return answer(question)

        world.answers["company"] = drain
        reply = await ask(gate, token=token, payment=payment, mode="interactive")
        assert (reply.status, reply.json["code"]) == (402, "SETTLEMENT_FAILED")
        (view,) = await gate.charges()
        session = sessions.id_of(view.charge.id)
        on = await ask(gate, token=token, chat_session_id=session)
        assert (on.status, on.json["code"]) == (409, "SESSION_CONFLICT")
        world.answers["company"] = answer
        gate.sandbox.fund(PAYER, 10_000_000)
        anew = await ask(gate, token=token, payment=await sign(gate, "upto"), mode="interactive")
        assert anew.status == 200
        assert (await ask(gate, token=token, chat_session_id=session)).status == 200, "sold again, it goes on"


async def test_f173_a_sessions_time_is_over_and_it_is_gone(tmp_path: Path) -> None:
    moment = [1_800_000_000.0]
    async with opened(tmp_path, clock=lambda: moment[0]) as (gate, _):
        _, token = await gate.agent(10_000_000)
        session = await begun(gate, token)
        moment[0] += sessions.TTL_MS / 1000 + 1
        reply = await ask(gate, token=token, chat_session_id=session)
        assert (reply.status, reply.json["code"]) == (404, "SESSION_NOT_FOUND")
        await gate.gateway.recovery.once()
        rows = await gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM session_turns"))
        assert rows == [(0,)]


# as a job


async def submit(gate: Gate, token: str, payload: Json, **more: Json) -> Reply:
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    body = {"route": "enrich/lead-session", "payload": payload, **more}
    return await gate.send("POST", JOBS, headers=sent, body=orjson.dumps(body))


async def ended(gate: Gate, accepted: Reply) -> Json:
    assert accepted.status == 202, accepted.body
    bearer = {"Authorization": f"Bearer {accepted.json['poll_bearer']}"}
    while True:
        told = (await gate.send("GET", f"{accepted.json['poll_url']}?wait=10", headers=bearer)).json
        if told["status"] not in ("queued", "running"):
            return told


@pytest.mark.parametrize(
    ("ceiling", "budget", "effective"),
    [(None, None, "1.500"), ("4", None, "4.000"), ("4", "2.50", "2.500"), ("2", "3", "2.000")],
)
async def test_a_job_keeps_within_both_its_ceiling_and_its_budget(
    tmp_path: Path, ceiling: Json, budget: Json, effective: str
) -> None:
    world = full()
    world.costs |= {"websearch": 1_500_000, "person": 900_000}
    async with opened(tmp_path, world) as (gate, _):
        agent, token = await gate.agent(10_000_000)
        payload = {"lead": WINDOW, **({"budget_usd": budget} if budget else {})}
        told = await ended(gate, await submit(gate, token, payload, **({"bill_up_to_usd": ceiling} if ceiling else {})))
        assert told["result"]["data"]["session"]["budget_usd_effective"] == effective
        charged = float(told["billing"]["charged_usd"])
        assert 1.5 <= charged <= float(effective)
        assert (await gate.balance(agent)).available == 10_000_000 - round(charged * 1_000_000)
        assert told["progress"]["rounds_used"] >= 1


async def test_a_job_goes_on_with_a_session_and_a_call_with_a_jobs(tmp_path: Path) -> None:
    async with opened(tmp_path) as (gate, _):
        _, token = await gate.agent(20_000_000)
        session = await begun(gate, token)
        told = await ended(
            gate, await submit(gate, token, {"lead": WINDOW, "prompts": [LABEL], "chat_session_id": session})
        )
        assert (told["matched"], told["billed"]) == (True, False)
        assert (await ask(gate, token=token, chat_session_id=session)).json["matched"] is False
        alone = await ended(gate, await submit(gate, token, {"lead": WINDOW, "mode": "interactive"}))
        other = alone["result"]["data"]["chat_session_id"]
        assert (await ask(gate, token=token, prompts=[LABEL], chat_session_id=other)).json["matched"] is True


async def test_a_job_that_misses_costs_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, World()) as (gate, _):
        agent, token = await gate.agent(2_000_000)
        told = await ended(gate, await submit(gate, token, {"lead": {"company": "Nowhere Tools Inc"}}))
        assert (told["status"], told["matched"], told["billed"]) == ("completed", False, False)
        assert (await gate.balance(agent)).available == 2_000_000


async def test_without_any_tool_it_is_offline(tmp_path: Path) -> None:
    world = World(without=frozenset(rig.COSTS))
    async with opened(tmp_path, world) as (gate, _):
        _, token = await gate.agent(2_000_000)
        reply = await ask(gate, token=token)
        assert (reply.status, reply.json["code"]) == (503, "ROUTE_OFFLINE")
        assert "lead-session" not in (await gate.send("GET", "/openapi.json")).body.decode()


async def test_what_it_bought_stands_beside_its_charge(tmp_path: Path) -> None:
    """Waterfall money: each hop of its own, and their sum is what the work cost."""
    async with opened(tmp_path) as (gate, _):
        _, token = await gate.agent(5_000_000)
        await ask(gate, token=token)
        rows = await gate.gateway.db.read(
            lambda tx: tx.execute("SELECT hop, provider, outcome, cost_micros FROM vendor_calls ORDER BY hop")
        )
        assert sorted((provider, cost) for _, provider, _, cost in rows) == [("person", 100_000), ("websearch", 60_000)]
        assert len({hop for hop, *_ in rows}) == 2


async def test_what_stays_in_the_books_of_a_hop_tells_nobody_without_the_key(tmp_path: Path) -> None:
    """There are only ten billion numbers to try. The books of two gateways have no hop in common."""
    names = []
    for home in ("one", "other"):
        tmp_path.joinpath(home).mkdir()
        async with opened(tmp_path / home) as (gate, _):
            _, token = await gate.agent(5_000_000)
            await ask(gate, token=token)
            rows = await gate.gateway.db.read(lambda tx: tx.execute("SELECT hop FROM vendor_calls"))
            names.append({hop for (hop,) in rows})
    assert names[0]
    assert names[0].isdisjoint(names[1])


async def test_paid_before_the_work_it_goes_on_as_any_call_from_a_balance(tmp_path: Path) -> None:
    toml = '\n[settle]\n"enrich/lead-session" = "before"\n'
    async with opened(tmp_path, toml=toml) as (gate, _):
        agent, token = await gate.agent()
        required = (await ask(gate)).offer
        offer = next(o for o in required["accepts"] if "assetTransferMethod" not in o["extra"])
        assert (offer["scheme"], offer["amount"]) == ("exact", "2000000"), "what a session usually may cost"
        payment = gate.paying(Payer(KEYS[0]).eip3009(offer), required)
        reply = await ask(gate, token=token, payment=payment, mode="interactive")
        assert (reply.status, reply.json["billing"]["charged_usd"]) == (200, "1.500"), reply.body
        assert (await gate.balance(agent)).available == 500_000
        session = reply.json["data"]["chat_session_id"]
        short = await ask(gate, token=token, prompts=[LABEL], chat_session_id=session)
        assert (short.status, short.json["code"]) == (402, "PAYMENT_REQUIRED")
        payment = gate.paying(Payer(KEYS[0]).eip3009(offer), required)
        on = await ask(gate, token=token, payment=payment, prompts=[LABEL], chat_session_id=session)
        assert (on.status, on.json["billing"]["charged_usd"]) == (200, "0.000"), on.body
        assert (await gate.balance(agent)).available == 2_500_000
