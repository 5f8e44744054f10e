"""Somebody about whom nothing is told is in no finding of a web research, nor in the words that state another."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import subject
from gateway.core.subject import REMOVED, Hides, SubjectKey, Suppressed
from upstreams.web import findings
from upstreams.web.findings import Finding, Kind, Source, Subject, Value

KEY = SubjectKey.of(b"k" * 32)
TAMPA = Subject("Sample Window Care LLC", "Tampa", "FL")
NAMES = ("Dana Sample", "SAMPLE, Dana", "Dana Q. Sample", "Jo Mockley", "Lee Quuxford", "Dana Samples")
TEXTS = ("Dana Sample, Owner", "Call Jo Mockley: (813) 555-0142", "Sample, Dana", "Fax", "dana.sample@example.com", "")
SITES = ("https://sample.example/team", "https://a.example/dana-sample", "https://b.example/jo_mockley?x=1")


def hider(*spellings: str) -> Hides:
    return Suppressed(KEY, KEY.digests(spellings)).hides


def named(name: str, *where: str) -> frozenset[str]:
    return subject.of_names(subject.names_of(name), subject.places_to_suppress(*where))


DANA = named("Dana Sample", "Tampa", "FL", "33602")


def finding(kind: Kind, value: dict[str, Any], quote: str = "", url: str = SITES[0], level: float = 0.7) -> Finding:
    return Finding(kind, str(sorted(value.items())), value, quote, Source("web", url, "sample.example", 0.75), level)


@st.composite
def made_up(draw: st.DrawFn) -> Finding:
    kind = draw(st.sampled_from(list(Kind)))
    values: dict[Kind, list[dict[str, Any]]] = {
        Kind.PHONE: [{"number": "+18135550142"}, {"number": "+18135550143"}],
        Kind.PERSON: [{"name": name, "title": "Owner"} for name in NAMES],
        Kind.ASSOCIATE: [{"name": name, "role": "agent", "entity": "person"} for name in NAMES],
        Kind.EMAIL: [{"email": "dana.sample@example.com"}, {"email": "jo@example.com"}],
        Kind.ADDRESS: [
            {"line1": "5 Example Rd", "city": "Tampa", "state_code": "FL", "zip": "33602"},
            {"line1": "9 Sample St", "city": "Erie", "state_code": "PA", "zip": "16501"},
        ],
    }
    return finding(
        kind, draw(st.sampled_from(values[kind])), draw(st.sampled_from(TEXTS)), draw(st.sampled_from(SITES)),
        draw(st.sampled_from([0.3, 0.6, 0.9])),
    )  # fmt: skip


HIDDEN = st.sampled_from(
    [
        DANA, named("Dana Sample", "Erie", "PA"), named("Jo Mockley", "", "FL"), named("Lee Quuxford", "", "", "33602"),
        frozenset({"phone:18135550142"}), frozenset({"email:jo@example.com"}), frozenset({"email:x@example.com"}),
    ]
)  # fmt: skip


def shown(values: tuple[Value, ...]) -> str:
    return " ".join(
        f"{value.value} " + " ".join(f"{each.quote} {each.source.url}" for each in value.stated) for value in values
    )


@given(
    st.lists(made_up(), max_size=8),
    HIDDEN,
    st.sampled_from([TAMPA, Subject("Sample Window Care"), replace(TAMPA, city="")]),
)
def test_nothing_is_left_by_which_he_is_known(found: list[Finding], said: frozenset[str], about: Subject) -> None:
    hides = hider(*said)
    values = findings.joined(found, about)
    left = findings.without(values, found, about, hides)
    places = [{k: v for k, v in each.value.items() if k != "line1"} for each in found if each.kind is Kind.ADDRESS]
    answer = {
        "around": [*places, {"city": about.city, "state": about.state}],
        "values": [{**value.value, "stated": [each.quote for each in value.stated]} for value in left],
    }
    assert not hides(subject.told(answer).spellings)
    assert findings.without(left, found, about, hides) == left
    # Nobody else is touched.
    before = {"around": answer["around"], "values": [{**v.value, "s": [e.quote for e in v.stated]} for v in values]}
    if not hides(subject.told(before).spellings):
        assert left == values
    gone = {str(v.value["name"]) for v in values if "name" in v.value} - {
        str(v.value["name"]) for v in left if "name" in v.value
    }
    names = frozenset().union(*(subject.names_of(name) for name in gone))
    assert subject.without_names(shown(left), names) == shown(left)


def test_her_name_goes_out_of_the_words_that_state_something_else() -> None:
    owner = finding(Kind.PERSON, {"name": "Dana Sample", "title": "Owner"}, "Dana Sample, Owner")
    phone = finding(
        Kind.PHONE, {"number": "+18135550142"}, "Ask SAMPLE, Dana: (813) 555-0142", "https://a.example/team/dana-sample"
    )  # fmt: skip
    mail = finding(Kind.EMAIL, {"email": "dana.sample@sample.example"}, "dana.sample@sample.example")
    other = finding(Kind.PERSON, {"name": "Jo Mockley", "title": "Assistant of Dana Sample"}, "Jo Mockley")
    found = [owner, phone, mail, other]
    left = findings.without(findings.joined(found, TAMPA), found, TAMPA, hider(*DANA))
    assert [dict(value.value) for value in left] == [
        {"number": "+18135550142"}, {"name": "Jo Mockley", "title": f"Assistant of {REMOVED}"},
    ]  # fmt: skip
    (stated,) = left[0].stated
    assert (stated.quote, stated.source.url) == (f"Ask {REMOVED}: (813) 555-0142", f"https://a.example/team/{REMOVED}")


@pytest.mark.parametrize("level", [0.9, 0.2])
def test_where_the_firm_is_may_be_known_by_what_is_not_believed(level: float) -> None:
    """Nobody has asked with a town, and the page's address is too unsure to be told: she is known by it."""
    about = Subject("Sample Window Care LLC", "", "")
    place = {"line1": "5 Example Rd", "city": "Tampa", "state_code": "FL", "zip": "33602"}
    found = [finding(Kind.PERSON, {"name": "Dana Sample"}), finding(Kind.ADDRESS, place, level=level)]
    values = findings.joined(found, about)
    assert len(values) == (2 if level > 0.5 else 1)
    left = findings.without(values, found, about, hider(*DANA))
    assert [value.kind for value in left] == ([Kind.ADDRESS] if level > 0.5 else [])
    elsewhere = hider(*named("Dana Sample", "Erie", "PA"))
    assert findings.without(values, found, about, elsewhere) == values
