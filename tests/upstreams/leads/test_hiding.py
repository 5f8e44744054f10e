"""Somebody about whom nothing is told is in no graph, in no answer and in nothing that is kept of a session."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs import leads as rig
from rigs.leads import WINDOW, World, charged, full
from rigs.made_up import ANSWERS, FIRST, LAST, MAIL, NUMBERS, read

from gateway.core import subject
from gateway.core.session import Session
from gateway.core.subject import Hides, SubjectKey, Suppressed
from gateway.core.upstream import Failure, Match, NoMatch
from upstreams.leads import graph, hiding
from upstreams.leads.choosing import Advice
from upstreams.leads.graph import Graph, Place, Writing, merge, sound
from upstreams.leads.leads import ANSWER
from upstreams.leads.resolving import resolve

KEY = SubjectKey.of(b"k" * 32)
Json = Any


def hider(*spellings: str) -> Hides:
    return Suppressed(KEY, KEY.digests(spellings)).hides


def named(name: str, *where: str) -> Hides:
    return hider(*subject.of_names(subject.names_of(name), subject.places_to_suppress(*where)))


DANA = named("Dana Sample", "Tampa", "FL", "33602")
BY_NUMBER = hider("phone:18135550177")
BY_MAIL = hider("email:dana@sample-window.example")
WEB = graph.source("web", "web", family="a.example", url="https://a.example/x", quote="Dana Sample, Owner")
VENDOR = graph.source("vendor", "whitepages", ref="P1")
REGISTER = graph.source("registry", "gleif", ref="L1")
TAMPA = Place("5 Example Rd", "", "Tampa", "FL", "33602")


@st.composite
def hiders(draw: st.DrawFn) -> tuple[Hides, frozenset[str]]:
    """Somebody who may well be in the graph, by one of the things that he is known by, with that."""
    match draw(st.integers(0, 2)):
        case 0:
            said = {f"phone:{draw(st.sampled_from(NUMBERS))[1:]}"}
        case 1:
            said = {f"email:{draw(st.sampled_from(MAIL))}"}
        case _:
            name = f"{draw(st.sampled_from(FIRST))} {draw(st.sampled_from(LAST))}"
            at = draw(
                st.sampled_from([("Tampa", "FL", "33602"), ("Tampa", "FL", ""), ("", "FL", ""), ("", "", "16501")])
            )
            said = set(subject.of_names(subject.names_of(name), subject.places_to_suppress(*at)))
    return hider(*said), frozenset(said)


@given(st.lists(ANSWERS, min_size=1, max_size=4), st.lists(hiders(), min_size=1, max_size=2))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_left_by_which_he_is_known_and_the_graph_is_sound(answers: Any, hidden: Any) -> None:
    whole = graph.united(map(read, answers))
    said = frozenset().union(*(spellings for _, spellings in hidden))
    hides = hider(*said)
    left = hiding.without(whole, hides)
    assert not hiding.spellings(left) & said
    assert sound(left)
    assert hiding.without(left, hides) == left
    assert bool(hiding.spellings(whole) & said) == (left != whole), "nobody else is touched"
    assert left.statements <= whole.statements
    subjects = {each.subject for each in left.statements}
    led = {each.value for each in left.statements}
    if left != whole:
        assert all(key in led for key in subjects if key.startswith(("tel:", "mailto:", "place:"))), "whose was it?"


@given(st.lists(ANSWERS, min_size=1, max_size=3), st.lists(ANSWERS, min_size=1, max_size=2), hiders())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_comes_later_does_not_bring_him_back(first: Any, later: Any, hidden: Any) -> None:
    """Hidden in between, or at the end alone."""
    hides, said = hidden
    left = hiding.without(graph.united(map(read, first)), hides)
    both = hiding.without(merge(left, graph.united(map(read, later))), hides)
    assert not hiding.spellings(both) & said
    assert sound(both)


def of(*said: tuple[graph.Source, str, Callable[[Writing, graph.Source, str], None]]) -> Graph:
    writing = Writing()
    for source, name, write in said:
        mention = graph.person(source, name)
        writing.says(source, mention, "name", name)
        write(writing, source, mention)
    return writing.graph()


def nothing(writing: Writing, source: graph.Source, mention: str) -> None:
    pass


def at_firm(writing: Writing, source: graph.Source, mention: str) -> None:
    firm = graph.business(source, "Sample Window Care LLC")
    writing.says(source, firm, "name", "Sample Window Care LLC")
    writing.says(source, mention, "owner_of", firm, detail="Owner, with Dana Sample")


def at_home(writing: Writing, source: graph.Source, mention: str) -> None:
    writing.at(source, mention, TAMPA)


def of_the_firm(source: graph.Source) -> Graph:
    writing = Writing()
    firm = graph.business(source, "SAMPLE WINDOW CARE, LLC")
    writing.says(source, firm, "name", "SAMPLE WINDOW CARE, LLC")
    writing.at(source, firm, TAMPA)
    return writing.graph()


@pytest.mark.parametrize(
    "whole",
    [
        of((WEB, "Dana Sample", at_firm)) | of_the_firm(REGISTER),
        of((WEB, "Dana Sample", at_firm), (VENDOR, "Sample, Dana Q", at_home)),
        of((WEB, "Dana Sample", nothing)) | of_the_firm(REGISTER),
        of((VENDOR, "Dana Sample", at_home)),
    ],
    ids=["the place is her firm's, by another source", "another source's", "nobody says where she is", "her own"],
)
def test_a_name_from_one_and_a_place_from_another_are_one_person(whole: Graph) -> None:
    left = hiding.without(whole, DANA)
    assert "Dana" not in repr(left)
    assert sound(left)
    assert hiding.without(whole, named("Dana Sample", "Erie", "PA", "16501")) == whole


def test_who_lives_elsewhere_is_also_where_her_firm_is() -> None:
    def in_erie(writing: Writing, source: graph.Source, mention: str) -> None:
        at_firm(writing, source, mention)
        writing.at(source, mention, Place("9 Sample St", "", "Erie", "PA", "16501"))

    whole = of((WEB, "Dana Sample", in_erie)) | of_the_firm(REGISTER)
    assert "name='Dana" not in repr(hiding.without(whole, DANA)).replace("value=", "name=")


def test_her_namesake_elsewhere_stays() -> None:
    def in_erie(writing: Writing, source: graph.Source, mention: str) -> None:
        writing.at(source, mention, Place("9 Sample St", "", "Erie", "PA", "16501"))

    whole = of((VENDOR, "Dana Sample", in_erie)) | of_the_firm(REGISTER)
    assert hiding.without(whole, DANA) == whole


def test_she_goes_out_of_quotes_urls_and_titles_and_takes_what_was_hers_alone() -> None:
    page = graph.source(
        "web", "web", family="a.example", url="https://a.example/team/dana-sample",
        quote="Ask SAMPLE, Dana or Lee on 813 555 0177",
    )  # fmt: skip

    def hers(writing: Writing, source: graph.Source, mention: str) -> None:
        at_firm(writing, source, mention)
        at_home(writing, source, mention)
        writing.says(source, mention, "has_phone", "tel:+18135550188")
        writing.says(source, "tel:+18135550188", "carrier", "Example Wireless")

    def of_lee(writing: Writing, source: graph.Source, mention: str) -> None:
        at_firm(writing, source, mention)
        writing.says(source, mention, "has_email", "mailto:lee@example.com")
        firm = graph.business(source, "Sample Window Care LLC")
        writing.says(source, firm, "has_email", "mailto:dana.sample@example.com")

    whole = of((page, "Lee Specimen", of_lee), (VENDOR, "Dana Sample", hers))
    left = hiding.without(whole, named("Dana Sample", "Tampa", "FL"))
    assert "dana" not in repr(left).lower()
    assert {each.subject.partition(":")[0] for each in left.statements} == {"person", "business"}
    assert "mailto:lee@example.com" in {each.value for each in left.statements}
    (source,) = (each for each in left.sources.values() if each.provider == "web")
    assert source.quote == "Ask [removed] or Lee on 813 555 0177"
    number = hiding.without(whole, BY_NUMBER)
    assert [each.quote for each in number.sources.values() if each.quote] == ["Ask SAMPLE, Dana or Lee on [removed]"]


def test_a_role_in_a_firm_that_has_no_name_is_no_mistake() -> None:
    writing = Writing()
    mention = graph.person(WEB, "Dana Sample")
    writing.says(WEB, mention, "name", "Dana Sample")
    writing.says(WEB, mention, "owner_of", "business:nameless")
    writing.says(WEB, "business:nameless", "has_phone", "tel:+18135550177")
    left = hiding.without(writing.graph(), BY_NUMBER)
    assert sound(left)
    assert len(resolve(left).entities) == 1
    assert not [each for each in left.statements if each.property == "owner_of"], "to nowhere"


# in a session

SHE = ("dana sample", "sample, dana", "5550177", "555-0177", "dana@")


def hers(text: str) -> list[str]:
    return [word for word in SHE if word in text.lower()]


def owned() -> World:
    """A world in which the page's words about the firm's number name her."""
    world = full()
    web = world.answers["websearch"]

    def quoting(question: Json) -> Any:
        found = web(question)
        if isinstance(found, Match):
            found.data["phones"][0]["sources"][0]["quote"] = "Call Dana Sample on (813) 555-0142 or (813) 555-0177"
            found.data["phones"].append(
                {"number": "+18135550150", "confidence": 0.7,
                 "sources": [{**found.data["phones"][0]["sources"][0], "quote": "Fax of Dana  Sample"}]}
            )  # fmt: skip
        return found

    world.answers["websearch"] = quoting
    return world


@pytest.mark.parametrize("hides", [DANA, BY_NUMBER, BY_MAIL], ids=["name", "number", "mail"])
@pytest.mark.parametrize("mode", ["auto", "interactive"])
@pytest.mark.parametrize("prompts", [(), ("the owner's direct phone", "email", "who is the registered agent?")])
async def test_she_is_nowhere_in_an_answer_nor_in_what_is_kept(hides: Hides, mode: str, prompts: Any) -> None:
    world = owned()
    before = await world.run(WINDOW, session=Session("cs_one"), mode=mode, prompts=list(prompts))
    assert isinstance(before, Match)
    assert hers(json.dumps(before.data))
    world = owned()
    outcome = await world.run(WINDOW, session=Session("cs_one"), mode=mode, prompts=list(prompts), hides=hides)
    assert isinstance(outcome, Match), "what is known of the firm is enough"
    assert outcome.session is not None
    told = json.dumps(outcome.data)
    kept = outcome.session.decode()
    asked = json.dumps([question for _, question in world.journal])
    if hides is DANA:  # what stands beside her name is nobody's number as long as nobody has said that it is hers
        assert {*hers(told), *hers(kept)} <= {"555-0177"}
        assert "Dana" not in told + asked
    # Whoever has her number or address goes with it, as soon as somebody has said that it is hers.
    for word in ("5550177", "555-0177") if hides is BY_NUMBER else ("dana@",) if hides is BY_MAIL else ():
        assert word not in told + kept
    assert not hides(outcome.session_tells)
    assert outcome.session_tells
    nodes = {each["id"] for kind in ("entities", "phones", "emails") for each in outcome.data["backfill"][kind]}
    assert all({edge["from"], edge["to"]} <= nodes for edge in outcome.data["backfill"]["edges"])


@pytest.mark.parametrize("hides", [DANA, BY_NUMBER])
async def test_told_in_one_turn_and_suppressed_before_the_next(hides: Hides) -> None:
    world = owned()
    first = await world.run(WINDOW, session=Session("cs_one"))
    assert isinstance(first, Match)
    assert first.session is not None
    assert "tel:+18135550177" in first.session.decode()
    paid = charged(world, first, 2_000_000)
    session = Session("cs_one", first.session, first.cost_micros, paid)
    world.journal.clear()
    second = await world.run(
        WINDOW, session=session, mode="interactive", chat_session_id="cs_one", hides=hides,
        prompts=["Find a direct phone for Dana Sample"],
    )  # fmt: skip
    assert isinstance(second, Match | NoMatch)
    assert second.session is not None
    numbers = ("5550177", "555-0177")
    out = json.dumps(second.data) + second.session.decode() + json.dumps(world.journal)
    assert not [word for word in (SHE if hides is DANA else numbers) if word in out.lower()]
    if isinstance(second, NoMatch):
        assert charged(world, second, 2_000_000, session) == 0


async def test_a_hop_that_is_recalled_brings_nobody_back() -> None:
    """F-066 and suppression: the journal has her, the session that is begun again does not."""
    world, memory = owned(), rig.Memory(dies_after=4)
    with pytest.raises(rig.Died):
        await world.run(WINDOW, journal=memory)
    assert "Dana Sample" in json.dumps(memory.kept)
    memory.dies_after = -1
    outcome = await world.run(WINDOW, journal=memory, hides=DANA)
    assert isinstance(outcome, Match)
    assert set(hers(json.dumps(outcome.data))) <= {"555-0177"}


async def test_her_number_as_her_callers_own_id_is_told_no_more() -> None:
    """And what was asked is still an object."""
    outcome = await owned().run({**WINDOW, "contact_id": "+18135550177"}, hides=BY_NUMBER)
    assert not isinstance(outcome, Failure)
    assert outcome.data["input"]["external_id"] is None
    jsonschema.validate(outcome.data["input"], ANSWER["properties"]["data"]["properties"]["input"])
    assert "5550177" not in json.dumps(outcome.data)


async def test_a_lead_that_turns_out_to_be_her_is_a_free_miss() -> None:
    """Her number alone was asked about: whose it is nobody says, and nothing is charged."""
    world = World({"person": rig.by_name(**{"+18135550177": rig.people(rig.DANA)})})
    lead = {"phone": "+18135550177", "dm_name": "Dana Sample"}
    before = await world.run(lead, session=Session("cs_one"))
    assert isinstance(before, Match)
    for hides in (DANA, BY_MAIL):
        missed = await world.run(lead, session=Session("cs_one"), hides=hides, mode="interactive")
        assert isinstance(missed, NoMatch)
        assert charged(world, missed, 2_000_000) == 0
        graph_of = {kind: missed.data["backfill"][kind] for kind in ("entities", "contacts", "emails", "edges")}
        assert graph_of == {"entities": [], "contacts": [], "emails": [], "edges": []}
        assert "Tampa" not in json.dumps(missed.data)
        assert missed.session is not None
        assert "Tampa" not in missed.session.decode()


async def test_nobody_is_found_anew_by_being_forgotten() -> None:
    """The number was the caller's own; that its owner is hidden makes it no news when a firm has it too."""
    firm = {**rig.person("F1", "Sample Window Care LLC", phones=["+18135550177"], place=rig.TAMPA), "name_parts": None}
    world = World({"person": rig.by_name(**{"+18135550177": rig.people(rig.DANA, firm)})})
    lead = {"dm_name": "Dana Sample", "phone": "+18135550177", "city": "Tampa", "state": "FL"}
    outcome = await world.run(lead, hides=BY_MAIL)
    assert isinstance(outcome, Match), "the firm is there, at its address"
    (number,) = outcome.data["backfill"]["phones"]
    assert (number["e164"], number["is_new"]) == ("+18135550177", False)
    assert "phones" not in outcome.data["found"]


async def test_whom_the_caller_has_named_without_a_place_is_not_said_back_with_one() -> None:
    """What was found of the firm is sold all the same."""
    lead = {"company": "Sample Window Care LLC", "website": "sample-window.example", "dm_name": "Dana Sample"}
    outcome = await full().run(lead, hides=DANA)
    assert isinstance(outcome, Match)
    assert "Dana" not in json.dumps(outcome.data)
    assert not DANA(subject.told(outcome.data).spellings)
    jsonschema.validate(json.loads(json.dumps(outcome.data)), ANSWER["properties"]["data"])


async def test_a_planner_that_is_a_model_hears_nothing_of_her() -> None:
    seen: list[Json] = []

    async def advise(facts: Json, context: Any, hop: str) -> Advice:
        seen.append(facts)
        could = facts["could_do"]
        return Advice(could[0]["tool"], could[0]["about"]) if could else Advice("stop")

    world = owned()
    world.settings, world.advise = rig.LeadSettings(planner="auto"), advise
    await world.run(WINDOW, planner="auto")
    assert "Dana" in json.dumps(seen)
    seen.clear()
    await world.run(WINDOW, planner="auto", hides=DANA)
    assert seen
    assert "Dana" not in json.dumps(seen)


async def test_an_interactive_miss_offers_nothing_that_was_bought_for_it() -> None:
    """Its buttons would name whom nobody has paid for."""
    unsure = rig.person("P3", "Dana Sample", phones=["+18135550177"], place=rig.TAMPA)
    unsure["phones"][0]["score"] = 0.5
    world = World({"person": lambda question: rig.people(unsure)})
    lead = {"dm_name": "Dana Sample", "street": "5 Example Rd", "city": "Tampa", "state": "FL"}
    missed = await world.run(lead, mode="interactive", session=Session("cs_one"))
    assert isinstance(missed, NoMatch)
    assert "0177" not in json.dumps(missed.data)


@given(
    st.lists(st.one_of(ANSWERS, st.builds(NoMatch)), min_size=1, max_size=5), st.sampled_from(range(2)), hiders(),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_answered_a_session_keeps_nobody_who_is_hidden(
    answers: Any, which: int, hidden: Any, interactive: bool
) -> None:
    hides, said = hidden
    queue = iter(answers)
    world = World(dict.fromkeys(("person", "phone", "directory"), lambda question: next(queue, NoMatch())))
    lead = ({"dm_name": "Pat Nobody", "city": "Tampa", "state": "FL"}, {"street": "5 Example Rd", "city": "Tampa"})[
        which
    ]
    outcome = asyncio.run(
        world.run(lead, session=Session("cs_one"), hides=hides, mode="interactive" if interactive else "auto")
    )
    if isinstance(outcome, Match | NoMatch):
        assert not hides(outcome.session_tells)
        assert not hides(subject.told(outcome.data).spellings)
        state = json.loads(outcome.session or b"{}")
        whole = merge(graph.unpack(state["told"]), graph.unpack(state["untold"]))
        assert not hiding.spellings(whole) & said
        assert sound(whole)
