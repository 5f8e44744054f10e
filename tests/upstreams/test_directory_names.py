"""Names: folding, splitting, and how well two of them agree."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nameparser import HumanName

from upstreams import firms
from upstreams.directory import firms as directory_firms
from upstreams.directory import names
from upstreams.directory.names import Name
from upstreams.leads import resolving


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("SAMPLE", "sample"),
        ("O'Móre-Lee", "omore lee"),
        ("  Dana   Q. ", "dana q"),
        ("Zoë", "zoe"),
        ("'\"()", ""),
        ("José", "jose"),
    ],
)
def test_folding(text: str, folded: str) -> None:
    assert names.fold(text) == folded


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing_more(text: str) -> None:
    assert names.fold(names.fold(text)) == names.fold(text)


WORDS = st.sampled_from(
    ["Dana", "Lee", "Sample", "Testerman", "Mary", "Q", "q.", "De", "Van", "Jr", "Dr", "Mac", "III", "Ma", "and", "St"]
)


@given(st.lists(WORDS, min_size=1, max_size=4), st.booleans())
@example(["SAMPLE", "DANA"], True)
@example(["SAMPLE", "DANA", "Q."], True)
@example(["Sample", "Jr"], True)
def test_a_plain_name_is_split_as_the_library_splits_it(words: list[str], turned: bool) -> None:
    text = f"{words[0]}, {' '.join(words[1:])}" if turned else " ".join(words)
    quick = names.split_plain(text)
    if quick is not None:
        human = HumanName(text)
        assert quick == Name(human.first, human.middle, human.last, human.suffix)
        assert not human.title


def test_odd_names_are_left_to_the_library() -> None:
    for text in (
        "SAMPLE, DANA JR",
        "Dr Dana Sample",
        "Dana de la Sample",
        "Dana Sample Jr",
        'Dana "Dee" Sample',
        "Dana",
    ):
        assert names.split_plain(text) is None
    assert names.split_plain("SAMPLE, DANA Q") == Name("DANA", "Q", "SAMPLE")
    assert names.split("Dana Sample Jr") == Name("Dana", "", "Sample", "Jr")
    assert names.split("Dana de la Sample") == Name("Dana", "", "de la Sample")
    assert names.split("Sample") == Name("", "", "Sample")


@pytest.mark.parametrize(
    ("asked", "held", "score"),
    [
        ("Joseph", "JOSEPH", 1.0),
        ("Joe", "Joseph", 0.95),
        ("Joseph", "Joe", 0.95),
        ("Mary", "Mary Ann", 0.95),
        ("J", "Joseph", 0.80),
        ("Joseph", "J.", 0.80),
        ("J", "J.", 1.0),
        ("Joseph", "Josephine", 0.0),
        ("Joseph", "Robert", 0.0),
        ("K", "Joseph", 0.0),
        ("", "Joseph", 0.0),
        ("Joseph", "", 0.0),
        ("...", "---", 0.0),
    ],
)
def test_first_names(asked: str, held: str, score: float) -> None:
    assert names.agree_first(asked, held) == score


@pytest.mark.parametrize(
    ("asked", "held", "agrees"),
    [
        ("Sample", "SAMPLE", True),
        ("Sample", "Sampel", True),
        ("Testerman", "Testermann", True),
        ("O'Sample", "OSample", True),
        ("Sample", "Sample-Test", True),
        ("Sample-Test", "Sample Test", True),
        ("Sample", "Simple", False),
        ("Sample", "Testerman", False),
        ("Sample", "", False),
        ("Li", "Li-Sample", False),
    ],
)
def test_last_names(asked: str, held: str, agrees: bool) -> None:
    assert (names.agree_last(asked, held, 0.92) > 0) is agrees
    assert (names.agree_last(held, asked, 0.92) > 0) is agrees


@pytest.mark.parametrize(
    ("asked", "held", "score"),
    [
        (Name("Dana", "Q", "Sample"), Name("Dana", "", "Sample"), 1.0),
        (Name("Dana", "Q", "Sample"), Name("Dana", "Quinn", "Sample"), 1.0),
        (Name("Dana", "Quinn", "Sample"), Name("Dana", "Quincy", "Sample"), 0.7),
        (Name("Dana", "Q", "Sample"), Name("Dana", "K", "Sample"), 0.7),
        (Name("Dana", "", "Sample", "Jr"), Name("Dana", "", "Sample", "Junior"), 1.0),
        (Name("Dana", "", "Sample", "Jr"), Name("Dana", "", "Sample", "Sr"), 0.7),
    ],
)
def test_middle_names_and_suffixes_tell_relatives_apart(asked: Name, held: Name, score: float) -> None:
    assert names.agree_rest(asked, held) == names.agree_rest(held, asked) == score


@pytest.mark.parametrize(
    ("text", "is_firm"),
    [
        ("Example Plumbing LLC", True),
        ("Sample & Sons", True),
        ("Example Inc.", True),
        ("Dana Sample", False),
        ("Dana Co-Sample", False),
    ],
)
def test_firms(text: str, is_firm: bool) -> None:
    assert names.is_business(text) is is_firm


@pytest.mark.parametrize("form", sorted(names.LEGAL_FORMS))
def test_a_firm_has_one_name_with_and_without_a_legal_form_wherever_it_is_compared(form: str) -> None:
    for spelled in (f"Sample Window {form}", f"Sample Window, {form.upper()}.", f"The Sample Window {form.title()}"):
        assert directory_firms.words(spelled) == ("sample", "window")
        assert firms.alike(spelled, "Sample Window") == 1.0
        assert resolving.firms_alike(spelled, "Sample Window") == 1.0
    assert directory_firms.core(f"Sample Window {' '.join(form)}") == "sample window"


def test_a_human_being_may_be_called_like_a_form_that_is_also_a_name() -> None:
    assert not any(names.is_business(f"Dana {name}") for name in ("Sa", "Na", "Ag", "Limited"))
