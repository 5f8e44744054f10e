"""Answers about people nobody has ever been, as Hypothesis makes them up, and the graphs they come to.

@given(st.lists(ANSWERS))
def test_something(answers): graph.united(map(read, answers))
"""

from typing import Any

from hypothesis import strategies as st
from rigs import leads as rig

from gateway.core.upstream import Match, Outcome
from upstreams.leads.answers import Asked, people
from upstreams.leads.graph import Graph

FIRST = ("Dana", "D", "Daniel", "Lee", "Leander", "Pat")
LAST = ("Sample", "Samples", "Specimen", "Testerman")
NUMBERS = tuple(f"+1813555010{n}" for n in range(6))
MAIL = tuple(f"{name}@example.com" for name in ("dana", "lee", "pat"))
PLACES = (
    rig.TAMPA,
    {**rig.TAMPA, "line1": "77 Other Ave"},
    rig.ERIE,
    {**rig.TAMPA, "zip": None},
    {**rig.TAMPA, "line1": None},
)


@st.composite
def persons(draw: st.DrawFn) -> Any:
    return rig.person(
        draw(st.sampled_from(["P1", "P2", "P3", "P4"])),
        f"{draw(st.sampled_from(FIRST))} {draw(st.sampled_from(LAST))}",
        phones=draw(st.lists(st.sampled_from(NUMBERS), max_size=2, unique=True)),
        emails=draw(st.lists(st.sampled_from(MAIL), max_size=2, unique=True)),
        place=draw(st.sampled_from((None, *PLACES))),
        score=draw(st.sampled_from([0.0, 0.4, 0.7, 1.0])),
    )


PROVIDERS = st.sampled_from(["whitepages", "trestle", "local_directory"])
ANSWERS = st.builds(
    lambda found, by: rig.people(*found, provider=by), st.lists(persons(), min_size=1, max_size=4), PROVIDERS
)


def read(answer: Outcome) -> Graph:
    assert isinstance(answer, Match)
    return people(answer.data, answer.metadata, Asked("whitepages_person_hunt", 1, 5))
