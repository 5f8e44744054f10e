"""Phone numbers: the quick way agrees with the library, and possible is enough."""

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upstreams.directory import phones

SEPARATORS = st.sampled_from(["", " ", "-", "."])
PREFIXES = st.sampled_from(["", "1", "+1", "1 ", "+1 ", "1-", "+1-", "1.", "+1."])


@st.composite
def written(draw: st.DrawFn) -> str:
    """A North American number in one of its usual spellings, right ones and nearly right ones."""
    area, exchange, line = (draw(st.from_regex(rf"[0-9]{{{n}}}", fullmatch=True)) for n in (3, 3, 4))
    bracketed = draw(st.booleans())
    first = f"({area})" if bracketed else area
    return draw(PREFIXES) + first + draw(SEPARATORS) + exchange + draw(SEPARATORS) + line


def by_library(text: str, region: str) -> str | None:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@given(written(), st.sampled_from(["US", "CA", "GB"]))
@example("(206) 555-0100", "US")
@example("+1(206)555-0100", "GB")
@example("12065550100", "GB")
@example("1145550101", "US")
def test_the_quick_way_agrees_with_the_library(text: str, region: str) -> None:
    assert phones.normalise(text, region) == by_library(text.strip(), region)


@given(st.text(max_size=40))
@example("+" * 30)
@example("\ud800")
@example("٢٠٦٥٥٥٠١٠٠")
def test_any_text_is_a_number_or_none_and_a_number_stays_itself(text: str) -> None:
    number = phones.normalise(text, "US")
    if number is not None:
        assert number.startswith("+")
        assert number[1:].isdigit()
        assert phones.normalise(number, "US") == number


@pytest.mark.parametrize(
    ("text", "e164"),
    [
        ("(814) 555-0101", "+18145550101"),
        ("814.555.0101", "+18145550101"),
        ("  +1 814 555 0101 ", "+18145550101"),
        ("1-814-555-0101 ext. 12", "+18145550101"),
        ("+44 20 7946 0000", "+442079460000"),
        ("555-0101", None),
        ("814-555-01011", None),
        ("no number", None),
        ("", None),
        ("9" * 400, None),
    ],
)
def test_what_people_write(text: str, e164: str | None) -> None:
    assert phones.normalise(text, "US") == e164


def test_a_number_that_is_possible_but_not_valid_is_accepted_and_told() -> None:
    number = phones.normalise("(555) 555-0142", "US")
    assert number == "+15555550142"
    assert phones.facts(number)["valid"] is False


def test_the_facts_of_a_number() -> None:
    assert phones.facts("+12065550100") == {
        "e164": "+12065550100",
        "national": "(206) 555-0100",
        "valid": True,
        "region": "US",
        "location": "Washington State",
        "line_type": "fixed_or_mobile",
        "timezones": ["America/Los_Angeles"],
    }
    assert phones.kind("+12065550100") == ("fixed_or_mobile", "WA")
    assert phones.kind("+442079460000") == ("fixed", "GB")
    assert phones.kind("+18005550199") == ("toll_free", "US")


@given(st.from_regex(r"\+1[2-9][0-9]{9}", fullmatch=True))
def test_facts_never_fail_on_a_number_we_accept(e164: str) -> None:
    assert phones.facts(e164)["e164"] == e164
    assert phones.normalise(phones.national(e164), "US") == e164
