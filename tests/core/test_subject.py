"""People known again by keyed hashes: every spelling of one person, and what is taken out of an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import subject
from gateway.core.erasure import Identity
from gateway.core.subject import SubjectKey, Suppressed, asked, told, without

KEY = SubjectKey.of(b"k" * 32)
DANA = {"phone:12065550142", "email:dana@example.com", *subject.of_names(
    subject.names_of("Dana Sample"), subject.places_to_suppress("Seattle", "WA", "98101"))}  # fmt: skip
HIDES = Suppressed(KEY, KEY.digests(DANA)).hides


@pytest.mark.parametrize(
    "question",
    [
        {"phone": "+12065550142"},
        {"phone": "(206) 555-0142"},
        {"number": 2065550142},
        {"query": "who has 206.555.0142 please"},
        {"email": "Dana@Example.com"},
        {"name": "Dana Q Sample", "city": "Seattle", "state_code": "WA"},
        {"name": "SAMPLE, Dana", "zip": "98101-1234"},
        {"name": "Dr. Dana Sample Jr", "city": "seattle"},
        {"first_name": "Dana", "last_name": "Sample", "city": "Seattle", "state": "wa"},
        {"lead": {"Decision Maker": "Dana Sample", "City": "Seattle", "ST": "WA"}},
        {"lead": {"Company": "Example LLC", "Mobile": "1-206-555-0142"}},
        {"lead": {"dm_name": ["Lee Sample", "Dana Sample"], "city": "Seattle", "state": "WA"}},
        {"lead": {"people": [{"full name": "Dana Sample"}], "Zip Code": "98101"}},
    ],
)
def test_a_question_about_a_suppressed_person_in_every_spelling(question):
    assert HIDES(asked(question))


@pytest.mark.parametrize(
    "question",
    [
        {"phone": "+12065550143"},
        {"email": "dana@example.org"},
        {"name": "Dana Sample"},
        {"name": "Dana Sample", "state_code": "WA"},
        {"name": "Dana Sample", "city": "Boston", "state_code": "MA"},
        {"name": "Dana Sampson", "city": "Seattle", "state_code": "WA"},
        {"name": "Sample", "city": "Seattle"},
        {"street": "142 Example Ave", "zip": "98101"},
        {},
    ],
)
def test_a_question_about_somebody_else(question):
    assert not HIDES(asked(question))


def test_two_keys_have_nothing_in_common():
    other = SubjectKey.of(b"o" * 32)
    assert other.id != KEY.id
    assert KEY.digests(DANA).isdisjoint(other.digests(DANA))


def test_a_person_is_taken_out_whole_and_the_others_stay():
    lee = {"name": "Lee Sample", "phones": [{"number": "+12065550101"}], "relatives": [{"id": None, "name": "Dana S"}]}
    for dana in (
        {"name": "D S", "phones": [{"number": "+12065550142", "score": 0.9}], "addresses": []},
        {"name": "Dana Q Sample", "addresses": [{"city": "Seattle", "state_code": "WA", "zip": None}]},
        {"name": "Dana Sample", "emails": [{"email": "dana@example.com"}]},
        {"name_parts": {"first": "Dana", "last": "Sample"}, "name": "D.", "addresses": [{"zip": "98101"}]},
        {"name": "Somebody Else", "aliases": ["Dana Sample"], "addresses": [{"zip": "98101"}]},
    ):
        left, taken = without({"people": [dana, lee]}, HIDES)
        assert (left, taken) == ({"people": [lee]}, True)


def test_what_stands_apart_from_a_name_is_taken_out_by_itself():
    data = {
        "phones": ["+12065550142", "+12065550101"],
        "numbers": [{"number": "206-555-0142", "score": 1}, {"number": "206-555-0101", "score": 1}],
        "main": {"number": "(206) 555-0142", "of": "a house"},
        "other": {"count": 2065550142},
        "text": "Call 206-555-0142 or 206-555-0101, or write to DANA@example.com.",
    }
    left, taken = without(data, HIDES)
    assert taken
    assert left == {
        "phones": ["+12065550101"],
        "numbers": [{"number": "206-555-0101", "score": 1}],
        "main": None,
        "other": None,
        "text": "Call [removed] or 206-555-0101, or write to [removed].",
    }


def test_a_firm_with_a_suppressed_person_in_it_stays_without_him():
    firm = {"company": "Example Widgets LLC", "city": "Seattle", "state": "WA", "contacts": [
        {"name": "Dana Sample", "title": "Owner"}, {"name": "Lee Sample", "phone": "206-555-0101"}]}  # fmt: skip
    left, taken = without(firm | {"contacts": [{**firm["contacts"][0], "zip": "98101"}, firm["contacts"][1]]}, HIDES)
    assert taken
    assert left["contacts"] == [firm["contacts"][1]]


WEBSITE = {
    "people": [{"name": "Dana Sample", "title": "Owner"}, {"name": "Lee Sample", "title": "With Dana Q. Sample"}],
    "addresses": [{"line1": "5 Example Rd", "city": "Seattle", "state_code": "WA", "zip": "98104"}],
    "phones": [{"number": "+12065550100", "quote": "Ask SAMPLE, DANA!", "url": "https://a.example/dana-sample"}],
    "summary": "**Contact**: Dana Sample, Owner",
}


def test_who_has_no_place_of_his_own_is_where_the_answer_is():
    """An officer where his firm is, a name of a website where its firm is; and his name goes out of the other texts."""
    assert HIDES(told(WEBSITE).spellings)
    left, taken = without(WEBSITE, HIDES)
    assert taken
    assert left == {
        "people": [{"name": "Lee Sample", "title": "With [removed]"}],
        "addresses": WEBSITE["addresses"],
        "phones": [{"number": "+12065550100", "quote": "Ask [removed]!", "url": "https://a.example/[removed]"}],
        "summary": "**Contact**: [removed], Owner",
    }
    firm = {"name": "Example Widgets LLC", "addresses": WEBSITE["addresses"], "people": [{"name": "Sample, Dana"}]}
    assert without({"companies": [firm]}, HIDES) == ({"companies": [{**firm, "people": []}]}, True)


def test_who_has_a_place_of_his_own_is_there_and_nowhere_else():
    away = {"name": "Dana Sample", "addresses": [{"city": "Boston", "state_code": "MA"}]}
    firm = {"name": "Example Widgets LLC", "city": "Seattle", "state": "WA", "people": [away, {"relatives": []}]}
    for data in (
        {"companies": [firm]},
        {"people": [away], "text": "Dana Sample is here", "place": {"city": "Seattle"}},
    ):
        assert without(data, HIDES) == (data, False)
        assert not HIDES(told(data).spellings)
    inside = {"name": "Boston Widgets LLC", "city": "Boston", "state": "MA", "people": [{"name": "Dana Sample"}]}
    assert without({"companies": [firm, inside]}, HIDES) == ({"companies": [firm, inside]}, False)
    assert not HIDES(told({"companies": [firm, inside]}).spellings)
    # Beside her who is hidden, her namesake keeps his name.
    assert without([away, {"name": "Dana Sample", "zip": "98101"}], HIDES) == ([away], True)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Dana Sample", "[removed]"),
        ("ask dana  q. SAMPLE today", "ask [removed] today"),
        ("Sample, Dána", "[removed]"),
        ("Dana Sample and Sample, Dana", "[removed] and [removed]"),
        ("dana.sample@x.example", "[removed]@x.example"),
        ("Dana went to the sample sale", "Dana went to the sample sale"),
        ("Dana Sampleton", "Dana Sampleton"),
        ("", ""),
    ],
)
def test_a_name_is_taken_out_of_a_text(text, left):
    assert subject.without_names(text, {"dana sample"}) == left
    assert subject.without_names(text, ()) == text


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20)
    | st.sampled_from(["Dana Sample", "+12065550142", "Seattle", "98101", "dana@example.com", "x 206-555-0142 y"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["name", "zip", "city", "phone", "people", "email", "x", "first", "last"]), inner,
                      max_size=4),
    max_leaves=25,
)  # fmt: skip


@given(json)
def test_nothing_of_him_is_left_whatever_the_answer_looks_like(data):
    left, taken = without(data, HIDES)
    assert not any(HIDES(record.spellings) for record in subject.records(left))
    assert without(left, HIDES) == (left, False)
    assert taken or left == data
    # What could be known again before is what is taken out, and nothing else is.
    assert taken == any(HIDES(record.spellings) for record in subject.records(data))


@given(json)
def test_whoever_is_told_is_who_is_found_again(data):
    found = told(data)
    assert (found.people > 0) <= bool(found.spellings)
    assert HIDES(found.spellings) == without(data, HIDES)[1]


IDENTITY = Identity(
    phones=frozenset({"phone:12065550142"}),
    names=frozenset({"dana sample"}),
    places=subject.places_to_suppress("Seattle", "WA"),
    states=frozenset({"wa"}),
)


@pytest.mark.parametrize(
    ("kept", "his"),
    [
        (b'{"phone": "(206) 555 0142"}', True),
        (b'{"a": [{"b": "xx2065550142yy"}]}', True),
        ("Please look up Dana Q. Sample, thanks", True),
        ("SAMPLE, DANA", True),
        (b'{"name": "Dana Sample"}', True),
        (b'{"name": "Dana Sample", "city": "Seattle", "state": "WA"}', True),
        (b'{"name": "Dana Sample", "state": "WA"}', True),
        (b'{"name": "Dana Sample", "city": "Boston", "state": "MA"}', False),
        (b'{"first_name": "Dana", "last_name": "Sample"}', True),
        (b'{"owner": ["Lee Sample", "Dana Sample"], "city": "Seattle", "state": "WA"}', True),
        (b'{"contact": {"note": "ask for Dana Sample"}}', True),
        ("Dana went to the sample sale", False),
        (b'{"phone": "2065550143"}', False),
        (b"\xff\xfe no text", False),
    ],
)
def test_what_is_kept_of_a_person_is_found_in_texts_and_documents(kept, his):
    assert IDENTITY.is_told_by(kept) is his
