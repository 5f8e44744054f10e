"""Lead sessions in a scripted world: golden graphs of twelve leads, rounds, budget, time, and what is bought once."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rigs import leads as rig
from rigs.leads import LEADS, NOW_S, WINDOW, Died, Memory, World, charged, full

from gateway.core.session import Session
from gateway.core.upstream import Failure, Match, NoMatch
from upstreams.leads.leads import ANSWER
from upstreams.leads.settings import LeadSettings

GOLDEN = Path(__file__).with_name("golden")
Json = Any


def data(outcome: object) -> Json:
    assert isinstance(outcome, Match | NoMatch), outcome
    return json.loads(json.dumps(outcome.data))


@pytest.mark.parametrize("name", LEADS)
async def test_the_rules_give_the_graph_that_is_written_down(name: str) -> None:
    make, lead, more = LEADS[name]
    outcome = await make().run(lead, **more)
    told = {"matched": isinstance(outcome, Match), **data(outcome)}
    path = GOLDEN / f"{name}.json"
    if os.environ.get("FAREGATE_WRITE_GOLDEN"):
        path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert told == json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(told, ANSWER["properties"]["data"])


@pytest.mark.parametrize("name", LEADS)
async def test_every_value_has_its_sources_and_no_edge_leads_nowhere(name: str) -> None:
    make, lead, more = LEADS[name]
    graph = data(await make().run(lead, **more))["backfill"]
    listed = {source["id"] for source in graph["sources"]}
    nodes = {each["id"] for kind in ("entities", "phones", "emails") for each in graph[kind]}
    for kind in ("entities", "phones", "emails", "edges"):
        for each in graph[kind]:
            assert each["sources"], each
            assert set(each["sources"]) <= listed
    for edge in graph["edges"]:
        assert {edge["from"], edge["to"]} <= nodes
    for contact in graph["contacts"]:
        assert {contact["entity_id"], *contact["phones"], *contact["emails"]} <= nodes
    for value in (*graph["phones"], *graph["emails"]):
        assert value["owner_entity_id"] in {None, *nodes}


async def test_what_is_known_of_the_window_cleaners_is_put_together() -> None:
    world = full()
    outcome = await world.run(WINDOW)
    told = data(outcome)
    firm = told["backfill"]["entities"][0]
    assert (firm["type"], firm["name"], firm["from_input"]) == ("business", "Sample Window Care LLC", True)
    assert [each["value"] for each in firm["identifiers"]] == ["L00000000"]
    people = [each for each in told["backfill"]["entities"] if each["type"] == "person"]
    assert [each["name"] for each in people] == ["Dana Sample"], "page, register and vendor mean one"
    (contact,) = told["backfill"]["contacts"]
    assert contact["roles"][0] == "decision_maker"
    numbers = {each["e164"]: each for each in told["backfill"]["phones"]}
    assert numbers["+18135550142"]["status"] == "corroborated"
    assert (numbers["+18135550142"]["is_new"], numbers["+18135550177"]["is_new"]) == (False, True)
    assert contact["phones"] == [numbers["+18135550177"]["id"]]
    assert told["session"]["stop_reason"] == "coverage_satisfied"
    assert told["input"]["external_id"] == "81551343"
    assert all("81551343" not in json.dumps(question) for _, question in world.journal), (
        "the caller's own id stays here"
    )


async def test_a_miss_costs_nothing_and_tells_nothing_that_was_bought() -> None:
    world = rig.namesakes()
    outcome = await world.run({"contact": "Pat Specimen", "city": "Erie", "state": "PA"})
    assert isinstance(outcome, NoMatch)
    assert outcome.cost_micros == 100_000, "the operator has paid for it"
    assert charged(world, outcome, 2_000_000) == 0
    assert "555-01" not in json.dumps(outcome.data), "which of the two it is nobody can say"


async def test_echoing_the_lead_is_no_match() -> None:
    same = rig.person("P1", "Dana Sample", phones=["+18135550142"], place=rig.TAMPA)
    world = World({"person": lambda question: rig.people(same)})
    lead = {"dm_name": "Dana Sample", "phone": "8135550142", "street": "5 Example Rd", "city": "Tampa", "state": "FL"}
    assert isinstance(await world.run(lead), NoMatch)
    assert isinstance(await world.run({k: v for k, v in lead.items() if k != "phone"}), Match)


@pytest.mark.parametrize("budget", ["1.50", "1.51", "1.60", "2", "5", 20])
async def test_the_charge_stays_within_the_budget(budget: Json) -> None:
    world = full()
    world.costs |= {"websearch": 900_000, "person": 400_000}
    outcome = await world.run(WINDOW, budget_usd=budget)
    at_most = int(float(budget) * 1_000_000)
    assert world.price.charge_micros(outcome.cost_micros, 10**12) <= at_most, "by its cost, not by the cap"
    told = data(outcome)
    projected = [float(hop["projected_charge_usd"]) for hop in told["session"]["hops"]]
    assert max(projected) * 1_000_000 <= at_most


async def test_the_dearest_tool_is_left_out_where_it_is_too_dear() -> None:
    world = full()
    world.costs["websearch"] = 1_200_000  # of which the markup makes more than the base
    told = data(await world.run(WINDOW, budget_usd="1.50"))
    assert world.asked("websearch") == []
    assert told["session"]["stop_reason"] == "budget"
    assert "BUDGET_SPENT" in [each["code"] for each in told["gaps"]]


async def test_a_tool_may_take_what_is_left_and_no_more() -> None:
    """It is a waterfall of its own: whom it may still ask hangs on this."""
    world = full()
    world.costs |= {"websearch": 300_000, "person": 200_000}
    await world.run(WINDOW, budget_usd="2.60")
    spent, whole = 0, 2_000_000
    assert len(world.allowed) > 3
    for asks, allowed in world.allowed:
        assert allowed == whole - spent
        spent += world.costs[asks]


@pytest.mark.parametrize("rounds", [1, 2, 3, 10])
async def test_rounds_are_counted_when_a_paid_tool_adds_something(rounds: int) -> None:
    world = full()
    told = data(await world.run(WINDOW, max_rounds=rounds))
    merged = [h for h in told["session"]["hops"] if h["status"] == "merged" and h["tool"] != "directory_lookup"]
    assert told["session"]["rounds_used"] == len(merged) <= rounds


async def test_attempts_end_a_session_in_which_nothing_is_found() -> None:
    world = World()
    lead = {"company": "Nowhere Tools Inc", "state": "FL", "phone": [f"81355501{n}" for n in range(10, 18)]}
    told = data(await world.run(lead, max_rounds=1))
    paid = [hop for hop in told["session"]["hops"] if hop["tool"] != "directory_lookup"]
    assert len(paid) == 4
    assert told["session"]["stop_reason"] == "attempts"


async def test_no_question_is_put_twice() -> None:
    for make, lead, more in LEADS.values():
        world = make()
        await world.run(lead, **{**more, "max_rounds": 10, "budget_usd": 20})
        put = [(asks, json.dumps(question, sort_keys=True)) for asks, question in world.journal]
        assert len(put) == len(set(put))


async def test_when_time_is_short_nobody_is_asked_any_more() -> None:
    clock = [NOW_S]
    world = full()
    answer = world.answers["websearch"]

    def slow(question: Json) -> Any:
        clock[0] += 170
        return answer(question)

    world.answers["websearch"] = slow
    told = data(await world.run(WINDOW, now=lambda: clock[0]))
    assert told["session"]["stop_reason"] == "deadline"
    assert len(world.journal) == 1 + len(world.asked("directory")) + len(world.asked("company"))


async def test_a_tool_that_fails_is_one_tool_less() -> None:
    world = full()
    world.answers["websearch"] = lambda question: Failure("down", cost_micros=5)
    outcome = await world.run(WINDOW)
    told = data(outcome)
    assert isinstance(outcome, Match)
    assert "TOOL_FAILED" in [each["code"] for each in told["gaps"]]
    assert {hop["tool"]: hop["status"] for hop in told["session"]["hops"]}["enrich_websearch"] == "failed"


@pytest.mark.parametrize(
    "found",
    [
        None, [], "text", {"phones": 5}, {"phones": [5]}, {"people": [{"name": {"a": 1}}]},
        {"addresses": [{"zip": []}]},
        {"phones": [{"number": None, "sources": [{"id": "src_1"}]}]},
    ],
)  # fmt: skip
async def test_an_answer_of_the_wrong_shape_is_that_tools_failure(found: Json) -> None:
    """F-020: never a 500, and never a value."""
    sources = {"sources": [{"id": "src_1", "provider": "web", "url": "https://x.example", "retrieved_at": "?"}]}
    world = World({"websearch": lambda question: Match(found, sources)}, without=frozenset({"directory", "company"}))
    outcome = await world.run({"company": "Sample Window Care LLC"})
    assert isinstance(outcome, NoMatch | Failure)


async def test_where_nobody_could_be_asked_it_is_a_failure_and_no_miss() -> None:
    world = World(
        {"websearch": lambda question: Failure("down", timeout=True)}, without=frozenset({"directory", "company"})
    )
    outcome = await world.run({"company": "Sample Window Care LLC"})
    assert isinstance(outcome, Failure)
    assert outcome.timeout


async def test_half_a_registry_is_enough() -> None:
    """Whatever is configured is used."""
    for missing in ("directory", "person", "phone", "websearch", "company", "email"):
        world = full()
        world.without = frozenset({missing})
        told = data(await world.run(WINDOW))
        assert missing not in {asks for asks, _ in world.journal}
        assert told["session"]["stop_reason"] in ("coverage_satisfied", "nothing_left")


# interactive, prompts and what comes after


async def test_interactive_stops_early_and_offers_what_is_left() -> None:
    world = full()
    told = data(await world.run(WINDOW, mode="interactive"))
    paid = [hop for hop in told["session"]["hops"] if hop["tool"] != "directory_lookup"]
    assert len(paid) <= 2
    assert "Find a direct phone for Dana Sample" in [button["label"] for button in told["dig_deeper"]]
    assert told["suggested_user_prompts"]
    automatic = data(await world.run(WINDOW))
    assert (automatic["dig_deeper"], automatic["suggested_user_prompts"]) == (None, None)


async def test_a_button_does_what_it_says_and_is_charged_for_what_it_adds() -> None:
    world = full()
    first = await world.run(WINDOW, mode="interactive", session=Session("cs_one"))
    assert isinstance(first, Match)
    paid = charged(world, first, 2_000_000)
    label = "Find a direct phone for Dana Sample"
    world.journal.clear()
    session = Session("cs_one", first.session, first.cost_micros, paid)
    second = await world.run(WINDOW, mode="interactive", prompts=[label], chat_session_id="cs_one", session=session)
    assert isinstance(second, Match)
    assert world.journal[0][0] == "person"
    new = [each["e164"] for each in second.data["backfill"]["phones"] if each["is_new"]]
    assert new == ["+18135550177"], "what the first call has told is known by now"
    assert paid == 1_500_000
    assert charged(world, second, 2_000_000, session) == 0, "the base was paid, and covers it"


async def test_a_later_call_pays_the_price_of_the_whole_less_what_was_paid() -> None:
    world = full()
    world.costs |= {"websearch": 1_000_000, "person": 1_000_000}
    first = await world.run(WINDOW, mode="interactive", session=Session("cs_one"))
    assert isinstance(first, Match)
    paid = charged(world, first, 2_000_000)
    session = Session("cs_one", first.session, first.cost_micros, paid)
    second = await world.run(
        WINDOW, mode="interactive", prompts=["the owner's direct phone"], chat_session_id="cs_one", session=session
    )
    whole = -(-(first.cost_micros + second.cost_micros) * 130 // 100)
    assert second.cost_micros >= 1_000_000
    assert charged(world, second, 2_000_000, session) == whole - paid


async def test_what_a_miss_has_bought_is_neither_bought_again_nor_given_away() -> None:
    """Its number is not sure enough to be charged for, until a second source says the same."""
    unsure = rig.person("P3", "Dana Sample", phones=["+18135550177"], place=rig.TAMPA)
    unsure["phones"][0]["score"] = 0.5
    sure = rig.people(rig.DANA, provider="trestle")
    world = World({"person": lambda question: rig.people(unsure)}, without=frozenset({"phone"}))
    lead = {"dm_name": "Dana Sample", "street": "5 Example Rd", "city": "Tampa", "state": "FL"}
    first = await world.run(lead, session=Session("cs_one"))
    assert isinstance(first, NoMatch)
    assert "0177" not in json.dumps(first.data)
    asked = len(world.asked("person"))
    world.answers["phone"], world.without = (lambda question: sure), frozenset()
    session = Session("cs_one", first.session, 0, 0)
    second = await world.run(lead, session=session, chat_session_id="cs_one", prompts=["verify the phone number"])
    assert isinstance(second, Match)
    assert len(world.asked("person")) == asked
    (number,) = second.data["backfill"]["phones"]
    assert (number["status"], number["is_new"]) == ("corroborated", True)


async def test_refresh_begins_anew() -> None:
    query = rig.LeadQuery.model_validate({"lead": WINDOW, "chat_session_id": "cs_one", "refresh": True})
    assert query.session_id is None


async def test_words_that_mean_nothing_here_are_told_and_not_guessed_at() -> None:
    told = data(await full().run(WINDOW, prompts=["what is their favourite colour?"]))
    assert "PROMPT_NOT_UNDERSTOOD" in [each["code"] for each in told["gaps"]]


async def test_a_state_of_another_version_is_begun_anew() -> None:
    kept = Session("cs_one", b'{"version": 0, "graph": 7}', 0, 0)
    assert isinstance(await full().run(WINDOW, session=kept), Match)


# what a caller sends back


async def test_a_graph_that_is_sent_back_adds_no_duplicate_and_is_nothing_new() -> None:
    for name, (make, lead, more) in LEADS.items():
        first = data(await make().run(lead, **more))
        again = await make().run(lead, **more, prior_backfill=first["backfill"])
        told = data(again)
        assert isinstance(again, NoMatch), f"{name}: everything was known"
        for kind, key in (("phones", "e164"), ("emails", "email")):
            values = [each[key] for each in told["backfill"][kind]]
            assert len(values) == len(set(values))
            assert set(values) == {each[key] for each in first["backfill"][kind]}, name
        names = sorted((e["type"], e["name"]) for e in told["backfill"]["entities"] if e["type"] != "place")
        assert names == sorted((e["type"], e["name"]) for e in first["backfill"]["entities"] if e["type"] != "place"), (
            name
        )


async def test_a_session_does_not_grow_by_what_is_sent_back_call_by_call() -> None:
    def sent(number: str) -> Json:
        return {"phones": [{"id": "ph_1", "e164": number}]}

    async def kept(state: bytes | None, **more: Json) -> bytes:
        outcome = await World().run(WINDOW, session=Session("cs_one", state), **more)
        assert isinstance(outcome, NoMatch)
        return outcome.session or b""

    first = await kept(None, prior_backfill=sent("+18135550191"))
    second = await kept(first, chat_session_id="cs_one", prior_backfill=sent("+18135550192"))
    assert [b"8135550191" in state for state in (first, second)] == [True, True]
    assert b"8135550192" not in second, "it says what is not new, in this call"


async def test_what_is_sent_back_is_its_callers_word() -> None:
    """Nobody makes a register's entry by saying that there is one."""
    lie = {
        "entities": [{"id": "e1", "type": "business", "name": "Sample Window Care LLC", "confidence": 1.0,
                      "identifiers": [{"scheme": "us-fl", "value": "FAKE", "confidence": 1.0, "sources": ["s3"]}]}],
        "sources": [{"id": "s3", "kind": "registry", "provider": "opencorporates"}],
    }  # fmt: skip
    told = data(await World().run({"company": "Sample Window Care LLC", "state": "FL"}, prior_backfill=lie))
    (firm,) = [each for each in told["backfill"]["entities"] if each["type"] == "business"]
    assert firm["identifiers"][0]["confidence"] == 0.5
    assert {source["kind"] for source in told["backfill"]["sources"]} == {"input", "prior"}


# a job's journal


async def test_f066_a_session_that_dies_at_any_hop_buys_nothing_twice() -> None:
    """Begun again, it gives the same graph for the same cost."""
    whole = full()
    expected = await whole.run(WINDOW, journal=Memory())
    asked = len(whole.journal)
    for hop in range(asked):
        world, memory = full(), Memory(dies_after=hop)
        with pytest.raises(Died):
            await world.run(WINDOW, journal=memory)
        before = len(world.journal)
        memory.dies_after = -1
        again = await world.run(WINDOW, journal=memory)
        assert isinstance(again, Match)
        assert again.cost_micros == expected.cost_micros
        assert again.data["backfill"] == expected.data["backfill"]
        assert len(world.journal) == asked + 1, "only the one whose outcome was lost"
        assert before == hop + 1


async def test_f066_what_may_not_be_asked_twice_is_lost_and_the_session_goes_on() -> None:
    world, memory = full(), Memory(dies_after=1)
    world.repeatable = False
    with pytest.raises(Died):
        await world.run(WINDOW, journal=memory)
    lost = world.journal[-1]
    memory.dies_after = -1
    told = data(await world.run(WINDOW, journal=memory))
    assert world.journal.count(lost) == 1
    assert "lost" in [hop["status"] for hop in told["session"]["hops"]]
    assert "TOOL_FAILED" in [each["code"] for each in told["gaps"]]


async def test_costs_are_shown_where_the_operator_says_so() -> None:
    shown = data(await full().run(WINDOW))["session"]["hops"][0]
    world = full()
    world.settings = LeadSettings()
    hidden = data(await world.run(WINDOW))["session"]["hops"][0]
    assert "cogs_usd" in shown
    assert not {"cogs_usd", "projected_charge_usd"} & set(hidden)


async def test_what_was_bought_on_another_charge_stands_in_its_books_and_is_priced_here() -> None:
    """A job that an operator has done again finds what it had bought: its vendors have taken that once."""
    world, memory = full(), Memory()
    first = await world.run(WINDOW, journal=memory, charge_id="chg_failed")
    taken = list(world.bought)
    world.bought.clear()
    again = await world.run(WINDOW, journal=memory, charge_id="chg_again")
    assert sum(call.cost_micros for call in taken) == first.cost_micros == again.cost_micros > 0
    assert [(call.hop, call.provider) for call in world.bought] == [(call.hop, call.provider) for call in taken]
    assert all(call.cached and call.cost_micros == 0 for call in world.bought)
    world.bought.clear()
    await world.run(WINDOW, journal=memory, charge_id="chg_failed")
    assert world.bought == taken, "a worker's heir on the same charge counts it as it was"
