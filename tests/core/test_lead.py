"""What an agent has asked about: one spelling each, and a hash that says nothing without its key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import lead
from gateway.core.lead import LeadKey

KEY = LeadKey.of(b"k" * 32)


@pytest.mark.parametrize(
    ("written", "spelling"),
    [
        ("+12065550100", "12065550100"),
        ("(206) 555-0100", "12065550100"),
        ("206.555.0100", "12065550100"),
        ("+44 20 7183 8750", "442071838750"),
        (81550000, "81550000"),
        (" 81550000 ", "81550000"),
        ("Dana Q Sample", "dana q sample"),
        ("SAMPLE, Dana Q.", "dana q sample"),
        ("Zoë O'Imagined", "oimagined zoe"),
        ("Crumb & Sons, Inc.", "crumb inc sons"),
        ("Dana@Example.COM", "dana@example.com"),
        ("CRM-0042", "0042 crm"),
    ],
)
def test_one_spelling(written: object, spelling: str) -> None:
    assert lead.spelling(written) == spelling
    assert lead.spelling(spelling) == spelling


@pytest.mark.parametrize(
    "written", ["", "    ", "1234", "ab c", "!!!!!!", None, True, 1.5, ["a"], {"a": 1}, 42, "é" * 4]
)
def test_what_is_too_short_to_be_a_secret_is_no_lead(written: object) -> None:
    assert lead.spelling(written) is None


def test_whom_a_request_is_about() -> None:
    assert lead.asked({"phone": "+12065550100", "zip": "98101", "city": "Seattle"}) == {"12065550100"}
    named = {"first_name": "Dana", "middle_name": "Q", "last_name": "Sample", "street": "12 Example Ave"}
    assert lead.asked(named) == {"dana sample", "dana q sample"}
    assert lead.asked({"first_name": "Dana"}) == frozenset()
    session = {
        "lead": {"contact_id": 81550000, "company": "Crumb & Sons", "number1": "2065550100"},
        "prompt": "who else?",
    }
    assert lead.asked(session) == {"81550000", "crumb sons", "12065550100"}
    assert lead.asked({"lead": "text"}) == lead.asked({"word": "something"}) == frozenset()
    full = dict.fromkeys(lead.FIELDS, "x")
    assert (
        len(lead.asked({name: f"{name} {name}" for name in full} | {"lead": {"phone": "+12065550100"}}))
        == lead.LEADS_MAX
    )


def test_an_answer_is_tried_as_it_stands_and_as_a_number_of_here() -> None:
    def british(text: str) -> str | None:
        return "+442071838750" if text == "020 7183 8750" else None

    assert lead.answered("020 7183 8750", british) == ("02071838750", "442071838750")
    assert lead.answered("Dana Sample", british) == ("dana sample", "dana sample")
    assert lead.answered("42", british) == ()
    assert lead.answered("?" * 300, british) == ()


def test_a_hash_is_of_its_agent_and_its_key() -> None:
    digests = {
        KEY.digest("agt_1", "12065550100"),
        KEY.digest("agt_2", "12065550100"),
        KEY.digest("agt_1", "12065550101"),
        LeadKey.of(b"l" * 32).digest("agt_1", "12065550100"),
    }
    assert len(digests) == 4
    assert {len(digest) for digest in digests} == {16}
    assert KEY.digest("agt_1", "12065550100") == LeadKey.of(b"k" * 32).digest("agt_1", "12065550100")
    assert LeadKey.of(b"l" * 32).id != KEY.id
    assert "6b6b" not in repr(KEY)
    assert repr(KEY.key) not in repr(KEY)


@given(st.text(max_size=300))
def test_whatever_is_written_has_a_spelling_or_none(written: str) -> None:
    spelt = lead.spelling(written)
    if spelt is not None:
        assert len(spelt) >= lead.CHARS_MIN
        KEY.digest("agt_1", spelt)
