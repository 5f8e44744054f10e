"""What an agent has bought is not bought again in his sessions, nor after them; and nothing comes out that nobody has
paid for."""

import asyncio
from typing import Any

import pytest
from rigs.gate import KEYS, Gate
from rigs.panes import HUNT, HUNTS, LEAD, Town
from rigs.payer import Payer
from rigs.person import BYTES, CANARY
from rigs.scripted import Scripted
from rigs.upstream import reply

from gateway.core import subject
from gateway.core.charge import State
from gateway.core.upstream import Context, Match, Outcome
from gateway.store import answers, subjects, vendor_calls

BASE = 1_500_000
WEEK = "[cache]\nttl_hours = 168\n"
HOUSE = {"name": CANARY.name, "city": "Seattle", "state_code": "WA", "zip": "98101"}
Json = Any


def hits(answer: Any) -> dict[str, bool]:
    """By tool, of what was found; misses are always asked anew."""
    hops = answer.json["data"]["session"]["hops"]
    return {hop["tool"]: hop["cache_hit"] for hop in hops if hop["status"] == "merged"}


def misses(answer: Any) -> int:
    return [hop["status"] for hop in answer.json["data"]["session"]["hops"]].count("no_match")


async def kept(town: Town) -> list[bytes]:
    rows = await town.gate.gateway.db.read(lambda tx: tx.execute("SELECT body FROM answers"))
    return [body for (body,) in rows]


async def test_a_second_session_buys_nothing_and_is_charged_its_base(tmp_path):
    async with Town.open(tmp_path, toml=WEEK) as town:
        agent, token = await town.gate.agent(20_000_000)
        first = await town.lead(token)
        asked = town.asked(HUNTS), town.asked("/search"), town.asked("/panes")
        assert asked[0] > 0
        assert set(hits(first).values()) == {False}
        second = await town.lead(token)
        again = misses(second)
        assert (town.asked(HUNTS), town.asked("/search"), town.asked("/panes")) == (asked[0] + again, *asked[1:])
        assert again < asked[0]
        assert (second.status, second.json["matched"]) == (200, True)
        assert set(hits(second).values()) == {True}
        told = [each for each in second.json["data"]["backfill"]["sources"] if each["kind"] != "input"]
        assert {each["cache_hit"] for each in told} == {True}
        assert second.json["billing"]["charged_usd"] == "1.500"
        assert (await town.gate.balance(agent)).available == 20_000_000 - 2 * BASE
        one, two = await town.gate.charges()
        assert (one.cost_micros, two.cost_micros) == (HUNT * asked[0], HUNT * again)
        calls = await town.gate.gateway.db.read(vendor_calls.of_charge, two.charge.id)
        found = [call for call in calls if call.outcome == "match"]
        assert {(call.cached, call.cost_micros) for call in found} == {(True, 0)}
        bought = await town.gate.gateway.db.read(vendor_calls.of_charge, one.charge.id)
        assert {call.hop for call in calls} <= {call.hop for call in bought}
        lines = await town.gate.gateway.db.read(vendor_calls.margins, ("provider",), 0, 10**15)
        assert dict(lines)["whitepages",].cached == asked[0] - again


async def test_a_hop_is_given_again_to_who_asks_it_by_itself_at_its_price(tmp_path):
    async with Town.open(tmp_path, toml=WEEK) as town:
        agent, token = await town.gate.agent(20_000_000)
        await town.lead(token)
        session = town.asked(HUNTS)
        web = await town.web(token)
        assert (web.json["cache_hit"], web.json["billing"]["charged_usd"]) == (True, "1.000")
        assert town.asked("/search") == 1
        view = (await town.gate.charges())[-1]
        calls = await town.gate.gateway.db.read(vendor_calls.of_charge, view.charge.id)
        assert [(call.provider, call.hop, call.cached) for call in calls] == [("searxng", "search", True)]
        person = await town.gate.ask("enrich/person", HOUSE, token=token)
        assert (person.json["cache_hit"], person.json["billing"]["charged_usd"]) == (True, "0.500")
        assert CANARY.phone in person.body.decode()
        assert town.asked(HUNTS) == session
        assert (await town.gate.balance(agent)).available == 20_000_000 - BASE - 1_000_000 - 500_000


async def test_what_was_bought_by_itself_is_taken_into_a_session(tmp_path):
    async with Town.open(tmp_path, toml=WEEK) as town:
        _, token = await town.gate.agent(20_000_000)
        await town.web(token)
        await town.gate.ask("enrich/person", HOUSE, token=token)
        assert town.asked(HUNTS) == 1
        lead = await town.lead(token, mode="interactive")
        assert hits(lead)["enrich_websearch"] is True
        assert town.asked("/search") == 1
        (_, _, view) = await town.gate.charges()
        calls = await town.gate.gateway.db.read(vendor_calls.of_charge, view.charge.id)
        assert {call.cached for call in calls if call.provider == "searxng"} == {True}


@pytest.mark.parametrize(("toml", "hit"), [(WEEK, False), (WEEK + "shared = true\n", True), ("", False)])
async def test_it_is_another_agents_only_where_the_operator_says_so(tmp_path, toml, hit):
    async with Town.open(tmp_path, toml=toml) as town:
        _, token = await town.gate.agent(20_000_000)
        _, other = await town.gate.agent(20_000_000)
        await town.lead(token)
        assert set(hits(await town.lead(other)).values()) == {hit}
        own = await town.lead(token)
        assert set(hits(own).values()) == {toml != ""}


async def test_refresh_asks_anew(tmp_path):
    async with Town.open(tmp_path, toml=WEEK) as town:
        _, token = await town.gate.agent(20_000_000)
        await town.lead(token)
        asked = town.asked(HUNTS)
        assert set(hits(await town.lead(token, refresh=True)).values()) == {False}
        assert (town.asked(HUNTS), town.asked("/search")) == (2 * asked, 2)


async def test_it_is_fresh_for_its_time_and_gone_after(tmp_path):
    moment = [1_800_000_000.0]
    async with Town.open(tmp_path, toml="[cache]\nttl_hours = 2\n", clock=lambda: moment[0]) as town:
        _, token = await town.gate.agent(20_000_000)
        await town.lead(token)
        moment[0] += 7_199
        assert set(hits(await town.lead(token)).values()) == {True}
        moment[0] += 1
        assert set(hits(await town.lead(token)).values()) == {False}, "giving it again does not renew it"
        moment[0] += 7_200
        await town.gate.gateway.recovery.once()
        assert await kept(town) == []


async def test_what_a_session_has_bought_and_not_sold_is_not_given_again(tmp_path):
    """A miss is free: what it took is no present for whoever asks once more."""
    async with Town.open(tmp_path, toml=WEEK) as town:
        agent, token = await town.gate.agent(20_000_000)
        lead = {"dm_name": CANARY.name, "phone": CANARY.phone, "email": CANARY.email, "street": CANARY.street,
                "city": "Seattle", "state": "WA", "zip": "98101"}  # fmt: skip
        missed = await town.lead(token, lead)  # all of it was known
        assert (missed.json["matched"], missed.json["billed"]) == (False, False), missed.json
        bought = town.asked(HUNTS)
        assert (await kept(town), bought > 0) == ([], True)
        assert {hop["status"] for hop in missed.json["data"]["session"]["hops"]} == {"nothing_new"}
        assert (await town.gate.balance(agent)).available == 20_000_000
        await town.lead(token, lead)
        assert town.asked(HUNTS) == 2 * bought


async def test_nothing_is_kept_of_a_session_in_whose_midst_somebody_was_suppressed(tmp_path):
    async with Town.open(tmp_path, toml=WEEK) as town:
        _, token = await town.gate.agent(20_000_000)
        key = town.gate.gateway.subjects.key

        async def now(request: Any, wire: Any) -> None:
            if not await town.gate.gateway.db.read(subjects.listing):
                entry = subjects.Suppression("sup_1", subjects.Kind.PHONE, "...", "", key.id, 0)
                await town.gate.gateway.db.write(subjects.suppress, entry, key.digests(["phone:12065550142"]))
            await reply({"results": [CANARY.vendor]})(request, wire)

        town.up.default = now
        assert (await town.lead(token)).json["billed"] is False
        assert await kept(town) == []


async def test_of_what_a_session_was_made_of_nothing_is_kept_that_tells_of_more_than_its_answer(tmp_path):
    """An answer has her old address, and a graph has not: by that she was suppressed meanwhile."""
    old = {"historic_addresses": [{"id": "A2", "address": "9 Sample St, Erie, PA 16501"}]}
    async with Town.open(tmp_path, toml=WEEK) as town:
        _, token = await town.gate.agent(20_000_000)
        key = town.gate.gateway.subjects.key
        town.up.default = reply({"results": [CANARY.vendor | old]})
        await town.lead(token)
        assert any(b"Erie" in body for body in await kept(town)), "as long as nobody minds"

        async def now(request: Any, wire: Any) -> None:
            if not await town.gate.gateway.db.read(subjects.listing):
                entry = subjects.Suppression("sup_1", subjects.Kind.NAME, "...", "", key.id, 0)
                spelled = subject.of_names(subject.names_of(CANARY.name), subject.places_of("Erie", "PA"))
                await town.gate.gateway.db.write(subjects.suppress, entry, key.digests(spelled))
            await reply({"results": [CANARY.vendor | old]})(request, wire)

        town.up.default = now
        await town.gate.gateway.db.write(lambda tx: tx.execute("DELETE FROM answers"))
        assert (await town.lead(token, refresh=True)).json["matched"]
        assert [body for body in await kept(town) if b"Erie" in body] == []


async def test_whoever_is_suppressed_or_erased_does_not_come_out_of_it(tmp_path):
    async with Town.open(tmp_path, toml=WEEK) as town:
        _, token = await town.gate.agent(30_000_000)
        await town.lead(token)
        assert len(await kept(town)) > 1
        await town.operator("suppress", "--name", CANARY.name, "--city", "Seattle", "--state", "WA")
        assert [body for body in await kept(town) if b"Zephyrine" in body] == []
        again, web = await town.lead(token), await town.web(token)
        assert BYTES.search(again.body + web.body) is None
        assert web.json["matched"] is True
        await town.operator("erase", *CANARY.options, "--yes")
        assert [body for body in await kept(town) if BYTES.search(body)] == []


async def test_as_a_job_it_is_the_same(tmp_path):
    async with Town.open(tmp_path, toml=WEEK) as town:
        _, token = await town.gate.agent(30_000_000)
        await town.ended(await town.job(token, {"lead": LEAD}))
        assert town.asked(HUNTS) > 0
        assert set(hits(await town.lead(token)).values()) == {True}
        job = await town.ended(await town.job(token, {"lead": LEAD}))
        told = job["result"]["data"]["session"]["hops"]
        assert {hop["cache_hit"] for hop in told if hop["status"] == "merged"} == {True}
        assert town.asked("/search") == 1
        assert (await town.web(token)).json["cache_hit"] is True


# What was not paid for


async def test_f021_what_was_never_paid_for_is_not_given_again_for_less(tmp_path):
    """Its price was made of what it took. Once more, taking nothing, it would cost the base alone."""
    async with Gate.open(tmp_path, upstream=Scripted(cacheable=True), toml=WEEK) as gate:
        payer = Payer(KEYS[0]).address

        async def drained(context: Context) -> Outcome:
            gate.sandbox.fund(payer, 0)
            return Match({"found": "something dear"}, cost_micros=800_000)

        gate.upstream.script |= {"dear": drained}
        unpaid = await gate.pay("dear", operation="test/metered", method="upto")
        assert (unpaid.status, unpaid.json["code"]) == (402, "SETTLEMENT_FAILED")
        assert await _given(gate) == [False], "it is kept, for the case that it is paid for"
        gate.sandbox.fund(payer, 9_000_000)
        paid = await gate.pay("dear", operation="test/metered", method="upto")
        assert (paid.status, paid.json["billing"]["charged_usd"]) == (200, "1.200")
        assert [view.charge.state is State.SETTLED for view in await gate.charges()] == [False, True]
        assert await _given(gate) == [False], "sold again as it was: by the charge that was not paid it is not given"


async def test_f021_nobody_waits_for_the_answer_to_a_signature_that_may_never_come(tmp_path):
    """Two at once, billed by what they take: the first is not paid for, and the second pays what its own work took."""
    async with Gate.open(tmp_path, upstream=Scripted(cacheable=True), toml=WEEK) as gate:
        both = asyncio.Event()

        async def dear(context: Context) -> Outcome:
            if gate.upstream.runs("dear") == 2:
                both.set()
            async with asyncio.timeout(5):
                await both.wait()
            return Match({"found": "something dear"}, cost_micros=800_000)

        gate.upstream.script |= {"dear": dear}
        calls = (gate.pay("dear", operation="test/metered", method="upto", key=key) for key in (0, 0))
        told = await asyncio.gather(*calls)
        assert [answer.status for answer in told] == [200, 200]
        assert [answer.json["billing"]["charged_usd"] for answer in told] == ["1.200", "1.200"]
        assert [answer.json["cache_hit"] for answer in told] == [False, False]


async def _given(gate: Gate) -> list[bool]:
    """Of every answer that is kept, whether it is given again."""
    return await gate.gateway.db.read(
        lambda tx: [
            answers.find(tx, question) is not None for (question,) in tx.execute("SELECT question FROM answers")
        ]
    )
