"""What holds of every graph, whatever the answers: Hypothesis makes them up."""

import asyncio
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rigs import leads as rig
from rigs.leads import World, charged
from rigs.made_up import ANSWERS, FIRST, LAST, MAIL, NUMBERS, read

from gateway.core.upstream import Failure, Match, NoMatch, Outcome
from upstreams.leads import confidence, graph, prior, report
from upstreams.leads.graph import Graph, merge, sound
from upstreams.leads.lead import mapped, statements
from upstreams.leads.picture import draw

LEADS = (
    {"dm_name": "Dana Sample", "city": "Tampa", "state": "FL"},
    {"phone": NUMBERS[0]},
    {"email": MAIL[0]},
    {"company": "Sample Window Care LLC", "phone": NUMBERS[1], "city": "Tampa", "state": "FL"},
    {"company": "Dana Sample", "city": "Tampa", "state": "FL", "dba": "Sample Windows"},
)


ANYTHING: st.SearchStrategy[Outcome] = st.one_of(
    ANSWERS, st.builds(NoMatch), st.builds(Failure, st.just("down"), st.booleans())
)


@st.composite
def websites(draw: st.DrawFn) -> Outcome:
    return rig.web(
        draw(st.sampled_from([rig.SITE, "https://elsewhere.example/x"])),
        people=[{"name": f"{draw(st.sampled_from(FIRST))} {draw(st.sampled_from(LAST))}",
                 "title": draw(st.sampled_from(["Owner", "Clerk", "President", ""]))}],
        phones=[{"number": number} for number in draw(st.lists(st.sampled_from(NUMBERS), max_size=2))],
    )  # fmt: skip


def told(whole: Graph, lead: Any = LEADS[0]) -> Any:
    known = mapped(lead, "US")
    return report.backfill(draw(merge(statements(known, 1), whole), known), graph.EMPTY)


@given(st.lists(ANSWERS, min_size=2, max_size=4), st.randoms())
@settings(max_examples=60, deadline=None)
def test_merging_is_commutative_associative_and_idempotent(answers: list[Outcome], random: Any) -> None:
    graphs = [read(answer) for answer in answers]
    whole = graph.united(graphs)
    shuffled = [*graphs, *graphs]
    random.shuffle(shuffled)
    assert graph.united(shuffled) == whole
    assert merge(whole, whole) == whole
    assert merge(graph.unpack(graph.pack(whole)), graph.EMPTY) == whole
    assert told(graph.united(shuffled)) == told(whole)
    assert sound(whole)


@given(st.lists(ANSWERS, min_size=1, max_size=4), st.sampled_from(LEADS))
@settings(max_examples=80, deadline=None)
def test_no_value_without_a_source_no_edge_to_nowhere_no_double(answers: list[Outcome], lead: Any) -> None:
    shown = told(graph.united(map(read, answers)), lead)
    sources = {source["id"] for source in shown["sources"]}
    nodes = [each["id"] for kind in ("entities", "phones", "emails") for each in shown[kind]]
    assert len(nodes) == len(set(nodes))
    for kind in ("entities", "phones", "emails", "edges"):
        for each in shown[kind]:
            assert each["sources"]
            assert set(each["sources"]) <= sources
            assert 0 <= each["confidence"] <= confidence.CAP
    for edge in shown["edges"]:
        assert {edge["from"], edge["to"]} <= set(nodes)
        assert edge["from"] != edge["to"]
    assert len({edge["id"] for edge in shown["edges"]}) == len(shown["edges"])
    assert [contact["rank"] for contact in shown["contacts"]] == list(range(1, len(shown["contacts"]) + 1))


def telling(shown: Any) -> Counter[str]:
    """How many entities there are of each type, of which more is told than that somebody is called alike."""
    ends = {edge[end] for edge in shown["edges"] for end in ("from", "to") if edge["type"] != "same_as"}
    return Counter(each["type"] for each in shown["entities"] if each["id"] in ends)


@given(st.lists(ANSWERS, min_size=1, max_size=3), st.sampled_from(LEADS))
@settings(max_examples=80, deadline=None)
def test_what_was_told_and_is_sent_back_is_nothing_new_and_adds_no_duplicate(answers: list[Outcome], lead: Any) -> None:
    """What comes back may join two records that nothing had joined before, and so bring what one of them has: that is
    more than was told. What was told is there once, and is not new."""
    whole = graph.united(map(read, answers))
    first = told(whole, lead)
    again = told(merge(whole, prior.statements({"backfill": first}, "US")), lead)
    known = mapped(lead, "US")
    given_by_caller = merge(statements(known, 1), prior.statements(first, "US"))
    anew = report.found_anew(draw(merge(given_by_caller, whole), known), given_by_caller)
    for kind, key in (("phones", "e164"), ("emails", "email")):
        values, before = [each[key] for each in again[kind]], {each[key] for each in first[kind]}
        assert len(values) == len(set(values))
        assert before <= set(values)
        assert before.isdisjoint(found.partition(":")[2] for found in anew.get(kind, ())), kind
    if not {"phones", "emails"} & set(anew):
        assert telling(again) <= telling(first)


@given(
    st.lists(ANYTHING, min_size=1, max_size=6), st.lists(websites(), max_size=2), st.sampled_from(LEADS),
    st.integers(1, 10), st.integers(1_500_000, 4_000_000), st.integers(0, 2_000_000), st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([NoMatch()], [], LEADS[0], 1, 1_500_000, 2_000_000, False)
def test_money_and_rounds_keep_their_bounds(
    answers: list[Outcome], sites: list[Outcome], lead: Any, rounds: int, budget: int, cost: int, interactive: bool
) -> None:
    queue, pages = iter(answers), iter(sites)
    world = World(
        {
            "person": lambda question: next(queue, NoMatch()),
            "phone": lambda question: next(queue, NoMatch()),
            "directory": lambda question: next(queue, NoMatch()),
            "websearch": lambda question: next(pages, NoMatch()),
        }
    )
    world.costs |= {"person": cost, "websearch": cost // 2}
    outcome = asyncio.run(
        world.run(
            lead, max_rounds=rounds, at_most_micros=budget, mode="interactive" if interactive else "auto"
        )
    )  # fmt: skip
    price = charged(world, outcome, budget)
    assert 0 <= price <= budget
    assert world.price.charge_micros(outcome.cost_micros, 10**12) <= budget, "never by the cap alone"
    put = [(asks, str(sorted(question.items()))) for asks, question in world.journal]
    assert len(put) == len(set(put))
    match outcome:
        case Failure():
            return
        case NoMatch():
            assert price == 0
            caller_only = {source["kind"] for source in outcome.data["backfill"]["sources"]}
            assert caller_only <= {"input"}
        case Match():
            assert price >= world.settings.price_micros
    session = outcome.data["session"]
    assert session["rounds_used"] <= rounds
    paid = [hop for hop in session["hops"] if hop["tool"] != "directory_lookup"]
    assert len(paid) <= (2 if interactive else 2 * rounds + 2)
