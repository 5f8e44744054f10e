"""Confidence, who is who, and how it is told: the rules one by one."""

from typing import Any

import pytest

from upstreams.leads import answers, confidence, coverage, graph, prior, report, resolving
from upstreams.leads.answers import Asked
from upstreams.leads.graph import EMPTY, Graph, Place, Source, Writing, merge
from upstreams.leads.lead import mapped, statements
from upstreams.leads.picture import Picture, draw
from upstreams.leads.resolving import firms_alike, resolve

Json = Any
REGISTRY = graph.source("registry", "opencorporates", ref="L1")
VENDOR = graph.source("vendor", "whitepages", ref="P1")
OTHER_RECORD = graph.source("vendor", "whitepages", ref="P2")
TRESTLE = graph.source("vendor", "trestle", ref="T1")
PAGE = graph.source("web", "web", family="a.example", url="https://a.example/x")
SAME_SITE = graph.source("web", "web", family="a.example", url="https://a.example/y")
CALLER = graph.source("input", graph.CALLER)
TAMPA, ERIE = Place("5 Example Rd", "", "Tampa", "FL", "33602"), Place("9 Sample St", "", "Erie", "PA", "16501")
NUMBER = graph.tel("+18135550142")


def of(*said: tuple[Source, float], value: str = NUMBER) -> Graph:
    writing = Writing()
    for source, score in said:
        mention = graph.person(source, "Dana Sample")
        writing.says(source, mention, "name", "Dana Sample", score)
        writing.says(source, mention, "has_phone", value, score)
    return writing.graph()


@pytest.mark.parametrize(
    ("said", "sure"),
    [
        ([(REGISTRY, 1.0)], 0.9),
        ([(VENDOR, 0.5)], 0.4),
        ([(CALLER, 1.0)], 0.5),
        ([(VENDOR, 0.9), (TRESTLE, 0.9)], 0.922),
        ([(VENDOR, 0.9), (OTHER_RECORD, 0.9)], 0.72),
        ([(PAGE, 1.0), (SAME_SITE, 0.8)], 0.5),
        ([(PAGE, 1.0), (CALLER, 1.0)], 0.75),
        ([(REGISTRY, 1.0), (VENDOR, 1.0), (TRESTLE, 1.0)], 0.98),
        ([(VENDOR, 0.0)], 0.0),
    ],
)
def test_independent_voices_count_together_and_one_family_once(said: Any, sure: float) -> None:
    whole = of(*said)
    voices = [s for s in whole.statements if s.property == "has_phone"]
    assert confidence.combined(whole, voices) == sure


def test_a_contradiction_takes_its_part() -> None:
    whole = of((VENDOR, 1.0))
    voices = [s for s in whole.statements if s.property == "has_phone"]
    assert confidence.combined(whole, voices, contradicted=True) == 0.65


def test_a_number_of_another_state_is_less_sure() -> None:
    known = mapped({"dm_name": "Dana Sample", "city": "Tampa", "state": "FL"}, "US")
    sure = {}
    for number in ("+18135550142", "+18145550142", "+18005550142"):
        writing = Writing()
        mention = graph.person(VENDOR, "Dana Sample")
        writing.says(VENDOR, mention, "name", "Dana Sample")
        writing.says(VENDOR, mention, "has_phone", graph.tel(number))
        writing.at(VENDOR, mention, Place("", "", "Tampa", "FL", "33602"))
        shown = draw(merge(writing.graph(), statements(known, 1)), known)
        sure[number] = shown.sure[graph.tel(number)]
    assert list(sure.values()) == [0.8, 0.65, 0.8]


def mention(source: Source, kind: str, name: str, place: Place | None = None, **more: str) -> Graph:
    writing = Writing()
    make = graph.person if kind == "person" else graph.business
    subject = make(source, name, source.ref)
    writing.says(source, subject, "name", name)
    if place is not None:
        writing.at(source, subject, place)
    for property, value in more.items():
        writing.says(source, subject, property, value)
    return writing.graph()


DOMAIN = {"domain": "sample.example"}
PHONE = {"has_phone": NUMBER}
REGISTERED = {"identifier": "us-fl:L1"}


@pytest.mark.parametrize(
    ("one", "other", "entities"),
    [
        # firms
        (("business", "Sample LLC", None, {}), ("business", "SAMPLE, L.L.C.", None, {}), 1),
        (("business", "Sample LLC", TAMPA, {}), ("business", "Sample Inc", ERIE, {}), 2),
        (("business", "Sample LLC", TAMPA, {}), ("business", "Sampel LLC", TAMPA, {}), 1),
        (("business", "Sample LLC", None, DOMAIN), ("business", "Sample Windows", None, DOMAIN), 1),
        (("business", "Sample LLC", None, REGISTERED), ("business", "Other Name", None, REGISTERED), 1),
        (("business", "Sample LLC", TAMPA, {"identifier": "us-fl:L1"}),
         ("business", "Sample LLC", TAMPA, {"identifier": "us-fl:L2"}), 2),
        (("business", "Sample LLC", None, PHONE), ("business", "Other Inc", None, PHONE), 2),
        # people
        (("person", "Dana Sample", None, PHONE), ("person", "D. Sample", None, PHONE), 1),
        (("person", "Dana Sample", None, PHONE), ("person", "Lee Sample", None, PHONE), 2),
        (("person", "Dana Sample", TAMPA, {}), ("person", "Dana Sample", TAMPA, {}), 1),
        (("person", "Dana Sample", None, {}), ("person", "Dana Sample", None, {}), 2),
        (("person", "Dana Sample", TAMPA, {}), ("person", "Dana Sample", ERIE, {}), 2),
        (("person", "Dana Sample Jr", TAMPA, {}), ("person", "Dana Sample Sr", TAMPA, {}), 2),
        (("person", "Sample", TAMPA, {}), ("person", "Dana Sample", None, {}), 2),
    ],
)  # fmt: skip
def test_who_is_who(one: Any, other: Any, entities: int) -> None:
    def made(source: Source, told: Any) -> Graph:
        kind, name, place, more = told
        return mention(source, kind, name, place, **more)

    whole = merge(made(VENDOR, one), made(TRESTLE, other))
    back = merge(made(TRESTLE, other), made(VENDOR, one))
    assert len(resolve(whole).entities) == entities
    assert resolve(whole) == resolve(back)


def test_two_records_of_one_provider_are_two_people_to_it() -> None:
    area = Place("", "", "Tampa", "FL", "33602")
    two = merge(mention(VENDOR, "person", "Dana Sample", area), mention(OTHER_RECORD, "person", "Dana Sample", area))
    assert len(resolve(two).entities) == 2
    third = merge(two, mention(TRESTLE, "person", "Dana Sample", area))
    resolved = resolve(third)
    assert len(resolved.entities) == 3, "which of the two a third one means nobody knows"
    assert resolved.alike


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("Sample Window Care LLC", "SAMPLE WINDOW CARE, L.L.C.", True),
        ("Window Care Sample", "Sample Window Care", True),
        ("Sample Window Care", "Placeholt Plumbing", False),
        ("The Co", "The Inc", False),
        ("", "Sample", False),
    ],
)
def test_how_firms_are_called(a: str, b: str, alike: bool) -> None:
    assert (firms_alike(a, b) >= 0.92) is alike


def test_a_street_without_its_zip_is_the_same_street() -> None:
    whole = merge(
        mention(VENDOR, "person", "Dana Sample", TAMPA),
        mention(TRESTLE, "person", "Dana Sample", TAMPA._replace(zip="", line1="5 Example Road")),
    )
    assert len(set(resolve(whole).places.values())) == 1
    assert len(resolve(whole).entities) == 1


def shown(*graphs: Graph, lead: Any = None) -> Picture:
    known = mapped(lead or {"company": "Sample LLC", "state": "FL"}, "US")
    return draw(graph.united((statements(known, 1), *graphs)), known)


EVIL = [
    "[click](javascript:alert(1))", "![x](https://evil.example/x.png)", "# Heading", "<script>alert(1)</script>",
    "**bold** _it_ `code`", "a | b", "> quote", "1. list", "https://evil.example", "dana@evil.example",
]  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_f172_values_are_data_in_the_summary(evil: str) -> None:
    writing = Writing()
    firm = graph.business(REGISTRY, "Sample LLC")
    writing.says(REGISTRY, firm, "name", "Sample LLC")
    human = graph.person(REGISTRY, f"Dana {evil}")
    writing.says(REGISTRY, human, "name", f"Dana {evil}")
    writing.says(REGISTRY, human, "officer_of", firm, detail=f"Owner {evil}")
    text = coverage.summary(shown(writing.graph()))
    body = text.split("\n", 1)[1]
    signs = {sign for sign in evil if sign in "\\`*_{}[]()<>#+-.!|~&:@"}
    for at, sign in enumerate(body):
        if sign in signs and sign not in "-(),:%;.":
            assert body[at - 1] == "\\", (sign, body)


def test_a_value_is_one_line_without_signs_that_steer() -> None:
    assert graph.plain("Dana\n\u202eSample\x00  \u200b!") == "Dana Sample !"
    assert graph.plain("x" * 301) == ""
    assert graph.plain(7) == ""


@pytest.mark.parametrize(
    ("score", "taken"),
    [(0.9, 0.9), (95, 0.95), (0, 0.0), (1, 1.0), (1e9, 1.0), (-3, 0.0), (True, 0.8), (None, 0.8), ("1", 0.8),
     (float("nan"), 0.8), ([1], 0.8)],
)  # fmt: skip
def test_whatever_score_a_vendor_gives_it_is_one(score: Any, taken: float) -> None:
    firm = {"id": "x", "name": "Sample LLC", "match_score": score}
    source = {"id": "src_1", "provider": "gleif", "record": "gleif#1", "retrieved_at": ""}
    read = answers.company({"companies": [firm]}, {"sources": [source]}, Asked("enrich_company", 1, 5))
    assert {s.score for s in read.statements} == {taken}
    assert {s.kind for s in read.sources.values()} == {"registry"}


def test_a_contradiction_is_told_and_the_surest_is_chosen() -> None:
    quarrel = shown(
        mention(REGISTRY, "business", "Sample LLC", None, status="active"),
        mention(PAGE, "business", "Sample LLC", None, status="closed"),
    )
    (conflict,) = quarrel.conflicts
    assert [value["value"] for value in conflict["values"]] == ["active", "closed"]
    assert conflict["chosen"] == 0
    told = report.backfill(quarrel, EMPTY)
    assert told["entities"][0]["status"] == "active"


def test_ids_are_made_from_what_they_name() -> None:
    one = report.backfill(shown(of((VENDOR, 0.9))), EMPTY)
    other = report.backfill(shown(of((VENDOR, 0.9)), of((TRESTLE, 0.9))), EMPTY)
    assert {e["id"] for e in one["entities"]} <= {e["id"] for e in other["entities"]}
    assert [p["id"] for p in one["phones"]] == [p["id"] for p in other["phones"]]


NONSENSE: list[Any] = [
    {}, {"backfill": {}}, {"entities": [{}]}, {"entities": [{"type": "person", "name": {"a": 1}, "id": 7}]},
    {"phones": [{"e164": 7}, {"e164": "+1"}, {"id": None}]}, {"emails": [{"email": ["x"]}]},
    {"edges": [{"type": "owner_of", "from": "x", "to": "y"}, {"type": "drop", "from": 1, "to": 2}]},
    {"entities": [{"type": "place", "id": "p", "address": "5 Example Rd"}]},
    {"entities": [{"type": "business", "id": "b", "name": "A", "identifiers": [7, {"scheme": 1}], "names": "x"}]},
]  # fmt: skip


@pytest.mark.parametrize("told", NONSENSE)
def test_whatever_is_sent_back_is_a_sound_graph(told: Any) -> None:
    made = prior.statements(told, "US")
    assert graph.sound(made)
    assert all(made.of(s).family == graph.CALLER for s in made.statements)


def test_an_edge_that_is_sent_back_leads_to_what_it_may_lead_to() -> None:
    told = {
        "entities": [
            {"id": "f", "type": "business", "name": "Sample LLC", "domain": "sample.example"},
            {"id": "p", "type": "person", "name": "Dana Sample"},
            {"id": "a", "type": "place", "address": {"line1": "5 Example Rd", "zip": "33602"}},
        ],
        "edges": [
            {"type": "owner_of", "from": "p", "to": "f", "attrs": {"title": "Owner"}},
            {"type": "owner_of", "from": "p", "to": "a"},
            {"type": "located_at", "from": "p", "to": "f"},
            {"type": "located_at", "from": "a", "to": "a"},
            {"type": "same_as", "from": "p", "to": "f"},
        ],
    }
    made = prior.statements(told, "US")
    edges = [s for s in made.statements if s.property in graph.EDGES]
    assert [(s.property, s.detail) for s in edges] == [("owner_of", "Owner")]


def many(count: int, **more: Json) -> Json:
    town = {"type": "place", "id": "t", "address": {"city": "Tampa", "state_code": "FL"}}
    people = [
        {"type": "person", "id": f"p{n}", "name": "Dana Sample", "identifiers": [1], **more} for n in range(count)
    ]
    edges = [{"type": "located_at", "from": each["id"], "to": "t"} for each in people]
    return {"entities": [town, *people], "edges": edges}


def test_two_mentions_are_held_against_each_other_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller may send two hundred people of one name in one town: that is 19,900 pairs, and not four million."""
    asked = 0
    contradict = resolving._contradict

    def counted(a: Any, b: Any) -> bool:
        nonlocal asked
        asked += 1
        return contradict(a, b)

    monkeypatch.setattr(resolving, "_contradict", counted)
    resolving.resolve(prior.statements(many(40), "US"))
    assert 0 < asked <= 40 * 39 // 2


def test_of_a_prior_graph_so_many_names_are_compared_and_no_more() -> None:
    names = [{"value": f"Dana {letter}. Sample"} for letter in "abcdefghijklmnopqrst"]
    made = prior.statements(many(100, names=names), "US")
    assert len([s for s in made.statements if s.property == "name"]) == 100 + prior.NAMES_MAX
