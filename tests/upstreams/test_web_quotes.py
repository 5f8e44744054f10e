"""Quotes: what stands in a page word for word, and nothing else."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from upstreams.web import quotes

PAGE = "About us\nDana Sample\nOwner\nCall (813) 555-0142 — \u201ctoday\u201d. Café O\u2019Example, 12 Draft St."


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("Dana Sample", True),
        ("dana  SAMPLE\towner", True),
        ("Dana Sample\nOwner", True),
        ("555-0142 - \"today\"", True),
        ("O'Example, 12 Draft", True),
        ("Dana\u00adSample", False),
        ("ana Sample", False),
        ("Dana Sampl", False),
        ("Dana, Sample", False),
        ("Dana Sample, Owner", False),
        ("Owner Dana Sample", False),
        ("Eve Injected", False),
        ("...", False),
        ("", False),
        ("Dan", False),
        (PAGE * 5, False),
    ],
)  # fmt: skip
def test_a_quote_stands_in_its_page_or_not(quote: str, stands: bool) -> None:
    assert quotes.stands_in(quote, PAGE) is stands


WORDS = st.lists(
    st.sampled_from(["Dana", "Sample", "Owner", "Café", "o'b", "555-0142", "é", "\u200b", "İ", "ß", "-"]), max_size=12
)


@given(WORDS, WORDS, WORDS)
def test_whatever_is_copied_is_found_again(before: list[str], piece: list[str], after: list[str]) -> None:
    quote = " ".join(piece)
    assume(quotes.CHARS_MIN <= len(quotes.plain(quote)) <= quotes.CHARS_MAX)
    assume(any(sign.isalnum() for sign in quotes.plain(quote)))
    assert quotes.stands_in(quote, " ".join([*before, quote, *after]))


@given(st.text(max_size=60), st.text(max_size=200))
def test_nothing_is_found_that_is_not_there(quote: str, page: str) -> None:
    """No text makes it raise, and what it finds is in the page, but for case, spaces and signs."""
    if quotes.stands_in(quote, page):
        assert quotes.plain(quote) in quotes.plain(page)


@given(st.text(max_size=100))
def test_what_is_folded_stays_as_it_is(text: str) -> None:
    assert quotes.plain(quotes.plain(text)) == quotes.plain(text)


@pytest.mark.parametrize(
    ("quote", "value", "says"),
    [
        ("Dana Sample, Owner", "Dana Sample", True),
        ("Dana Q. Sample, Owner", "Dana Sample", False),
        ("Dana Samples", "Dana Sample", False),
        ("Owner", "", False),
        ("José Núñez", "Jose Nunez", True),
    ],
)
def test_words_of_a_value(quote: str, value: str, says: bool) -> None:
    assert quotes.has_words(quote, value) is says


@pytest.mark.parametrize(
    ("quote", "number", "says"),
    [
        ("Call (813) 555-0142", "+18135550142", True),
        ("+1 813.555.0142 ext. 4", "+18135550142", True),
        ("813 555 0143", "+18135550142", False),
        ("", "+1", False),
    ],
)
def test_digits_of_a_number(quote: str, number: str, says: bool) -> None:
    assert quotes.has_number(quote, number) is says
