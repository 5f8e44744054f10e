"""A hop whose question its caller has bought before: no cost, no vendor, and the same graph."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel
from rigs import leads as rig
from rigs.leads import WINDOW, Memory, full

from gateway.core.upstream import Again, Failure, Match, NoMatch
from gateway.core.vendor_call import Outcome, VendorCall
from upstreams.leads.tools import Within

Json = Any


@dataclass
class Shelf:
    """core.upstream.Answers in memory."""

    kept: dict[str, Match] = field(default_factory=dict)
    hops: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def again(self, operation: str, query: BaseModel) -> Again | None:
        key = f"{operation} {query.model_dump_json()}"
        self.asked.append(key)
        if key not in self.kept:
            return None
        return Again(self.kept[key], (VendorCall("enrich/x", "whitepages", Outcome.MATCH, cached=True),))

    def keep(self, operation: str, query: BaseModel, found: Match, hop: str) -> None:
        self.kept[f"{operation} {query.model_dump_json()}"] = found
        self.hops.append(hop)


def data(outcome: object) -> Json:
    assert isinstance(outcome, Match | NoMatch), outcome
    return json.loads(json.dumps(outcome.data))


async def test_what_was_bought_is_not_bought_again_and_comes_to_the_same_graph() -> None:
    shelf = Shelf()
    first, world = await full().run(WINDOW, answers=shelf), full()
    again = await world.run(WINDOW, answers=shelf)
    assert isinstance(first, Match)
    assert isinstance(again, Match)
    assert (first.cost_micros > 0, again.cost_micros) == (True, 0)
    assert {asks for asks, _ in world.journal} == {"directory"}, "our own records are not kept: they cost nothing"
    told, before = data(again), data(first)
    assert told["backfill"]["phones"] == before["backfill"]["phones"]
    hits = {hop["tool"] for hop in told["session"]["hops"] if hop["cache_hit"]}
    assert hits >= {"enrich_websearch", "enrich_company"}
    assert {hop["cogs_usd"] for hop in told["session"]["hops"]} == {"0.000"}
    hit = {each["cache_hit"] for each in told["backfill"]["sources"] if each["kind"] in ("web", "vendor", "registry")}
    assert hit == {True}
    assert told["session"]["rounds_used"] == before["session"]["rounds_used"], "it adds, so it counts"
    assert {call.cost_micros for call in world.bought} == {0}
    assert all(call.cached for call in world.bought)
    assert len({call.hop for call in world.bought}) == len(world.bought), "each a step of its own hop"
    assert all(hop.startswith("hop/") for hop in shelf.hops)


async def test_refresh_asks_anew_and_keeps_what_it_finds() -> None:
    shelf = Shelf()
    await full().run(WINDOW, answers=shelf)
    kept, world = dict(shelf.kept), full()
    shelf.kept = {key: Match({}) for key in kept}
    outcome = await world.run(WINDOW, answers=shelf, refresh=True)
    assert outcome.cost_micros > 0
    assert shelf.kept == kept
    assert not any(hop["cache_hit"] for hop in data(outcome)["session"]["hops"])


@pytest.mark.parametrize("kept", [Match({}), Match(None), Match({"people": 7}), Match({"people": []}), Match([])])
async def test_an_answer_that_says_nothing_here_is_asked_for_again(kept: Match) -> None:
    shelf, expected = Shelf(), await full().run(WINDOW)
    await full().run(WINDOW, answers=shelf)
    shelf.kept = dict.fromkeys(shelf.kept, kept)
    outcome = await full().run(WINDOW, answers=shelf)
    assert outcome.cost_micros == expected.cost_micros
    assert data(outcome)["backfill"] == data(expected)["backfill"]


@pytest.mark.parametrize(
    "answer", [NoMatch(), Failure("down"), Failure("slow", timeout=True), Match({"people": 7}), Match({})]
)
async def test_misses_failures_and_what_cannot_be_read_are_not_kept(answer: Any) -> None:
    world, shelf = full(), Shelf()
    world.answers |= {"person": lambda question: answer, "websearch": lambda question: answer}
    await world.run(WINDOW, answers=shelf)
    assert world.asked("websearch")
    assert [key for key in shelf.kept if key.startswith(("enrich/person", "enrich/websearch"))] == []


async def test_f066_what_was_taken_from_there_is_remembered_as_any_hop() -> None:
    """Begun again after a crash, the same is taken, whatever is fresh by then."""
    shelf = Shelf()
    await full().run(WINDOW, answers=shelf)
    world, memory = full(), Memory(dies_after=3)
    with pytest.raises(rig.Died):
        await world.run(WINDOW, answers=shelf, journal=memory)
    taken = [key for key, hop in memory.kept.items() if hop.get("cache_hit")]
    assert taken
    memory.dies_after, shelf.kept = -1, {}
    world.bought.clear()
    outcome = await world.run(WINDOW, answers=shelf, journal=memory)
    hits = [hop for hop in data(outcome)["session"]["hops"] if hop["cache_hit"]]
    assert len(hits) == len(taken)
    assert [call for call in world.bought if call.cached and call.cost_micros == 0]


async def test_a_call_in_a_hops_journal_has_the_name_it_was_told_of_by() -> None:
    """Whoever puts the whole journal together knows it again, before a crash and after it."""
    memory = Memory()
    within = Within(memory, "hop/a")
    call = {"hop": "search", "provider": "searxng"}
    await within.remember("search/searxng", {"charge": "chg_1", "call": call, "answer": None})
    assert memory.kept["hop/a/search/searxng"]["call"] == {**call, "hop": "hop/a/search"}
    assert await within.recall("search/searxng") == {"charge": "chg_1", "call": call, "answer": None}
    for other in ({"pages": []}, [1], None):
        await within.remember("pages", other)
        assert (memory.kept["hop/a/pages"], await within.recall("pages")) == (other, other)
