"""Statements: cursors, times, and cells that are never formulas."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.statement import (
    COLUMNS,
    Movement,
    csv_head,
    csv_lines,
    cursor_before,
    line,
    read_cursor,
    read_time,
)
from gateway.core.transfer import Kind


@given(st.integers(1, 10**18 - 1))
def test_a_cursor_reads_as_it_was_written(number: int) -> None:
    assert read_cursor(cursor_before(number)) == number


@pytest.mark.parametrize(
    "text", ["", "x", "=", "42", cursor_before(5)[:-1], cursor_before(5) + "A", "a" * 4000, "é", "AAAA", "%%%%"]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_cursor(text)


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert read_time("2026-11-23") == read_time("2026-11-23T00:00:00Z") == read_time("2026-11-23T02:00:00+02:00")
    assert read_time("0001-01-01T00:00:00+23:00") < 0
    for bad in ("", "yesterday", "2026-13-01", "1700000000", "9" * 41, "٢٠٢٦-11-23"):
        with pytest.raises(ValueError):
            read_time(bad)


def movement(operation: str | None, amount: int = -330_000) -> Movement:
    return Movement(1, 1_800_000_000_000, Kind.CAPTURE, False, "chg_1", operation, None, amount, 670_000)


def rows(*movements: Movement) -> list[list[str]]:
    return list(csv.reader(io.StringIO(csv_head() + "".join(csv_lines(movements)), newline="")))


@pytest.mark.parametrize("evil", ['=HYPERLINK("x")', "+1", "-1+1", "@SUM(A1)", "\tx", "\rx", "\n=1", "|cmd"])
def test_no_cell_of_a_csv_is_a_formula(evil: str) -> None:
    (_, row) = rows(movement(evil))
    assert row[COLUMNS.index("operation")] == "'" + evil


def test_a_csv_says_what_the_json_says_and_amounts_stay_numbers() -> None:
    for each in (movement("enrich/phone"), movement(None, 5), movement('a "quoted, name"')):
        head, row = rows(each)
        assert tuple(head) == COLUMNS
        assert row == [value or "" for value in line(each).values()]
