"""Amounts: exact in both directions, rounded only where a name says so, and no float anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money import (
    MICROS_MAX,
    MoneyError,
    atomic_to_micros_down,
    format_usd,
    micros_to_atomic_up,
    parse_usd,
)

micros = st.integers(0, MICROS_MAX)
decimals = st.integers(0, 24)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.330", 330_000),
        ("0", 0),
        ("1", 1_000_000),
        (2, 2_000_000),
        ("0.000001", 1),
        ("12.5", 12_500_000),
        ("999999999.999999", 999_999_999_999_999),
    ],
)
def test_an_amount_is_read_exactly(text: object, expected: int) -> None:
    assert parse_usd(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", " 1", "1 ", "-1", "+1", "1e3", ".5", "1.", "01", "0.0000001", "1000000000", "1,5", "1_000", "NaN", "inf",
        "٣", "1\n", "$1", "0x10", 1.5, 0.0, True, None, -1, 10**9, [], b"1",
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused(text: object) -> None:
    with pytest.raises(MoneyError):
        parse_usd(text)


@given(micros)
def test_what_was_written_is_read_again(amount: int) -> None:
    if amount < 10**15:
        assert parse_usd(format_usd(amount)) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [(330_000, "0.330"), (0, "0.000"), (1, "0.000001"), (-1_500_000, "-1.500"), (1_000_100, "1.0001")],
)
def test_an_amount_has_three_decimals_and_no_more_than_it_needs(amount: int, text: str) -> None:
    assert format_usd(amount) == text


@given(micros, decimals)
def test_an_offer_never_asks_for_less_than_the_price(amount: int, digits: int) -> None:
    atomic, exact = micros_to_atomic_up(amount, digits)
    back, _ = atomic_to_micros_down(atomic, digits)
    assert back >= amount
    assert exact is (back == amount)
    assert atomic == 0 or atomic_to_micros_down(atomic - 1, digits)[0] < amount


@given(st.integers(0, 10**40), decimals)
def test_what_came_is_never_credited_as_more(atomic: int, digits: int) -> None:
    credited, exact = atomic_to_micros_down(atomic, digits)
    needed, _ = micros_to_atomic_up(credited, digits)
    assert needed <= atomic
    assert exact is (needed == atomic)
