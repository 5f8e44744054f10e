"""What usage keys may do, and when the periods of their caps begin."""

from datetime import UTC, datetime

import pytest

from gateway.core.agent import Period, first_day, grantable, permits, resets_ms, scope_of


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("granted", "wanted", "may"),
    [
        (["enrich:phone"], "enrich:phone", True),
        (["enrich:phone"], "enrich:person", False),
        (["enrich:*"], "enrich:person", True),
        (["enrich:*"], "enriched:person", False),
        (["enrich:*"], "weather:now", False),
        (["enrich:*"], "jobs", False),
        (["weather:*"], "weather:a:b", True),
        (["jobs"], "enrich:phone", False),
        (["balance:*"], "balance:read", False),
        (["*"], "enrich:phone", False),
        ([], "support", False),
    ],
)
def test_a_scope_lets_do_what_it_names_and_no_more(granted: list[str], wanted: str, may: bool) -> None:
    assert permits(granted, wanted) is may


def test_every_operation_has_a_scope_and_so_has_its_family() -> None:
    assert grantable(["enrich/phone", "weather/now"]) == {
        "enrich:phone", "enrich:*", "weather:now", "weather:*", "jobs", "support", "balance:read",
    }  # fmt: skip


def test_an_operation_called_as_something_else_is_not_that() -> None:
    assert scope_of("balance/read") == "call:balance:read"
    assert not permits(["balance:read"], scope_of("balance/read"))


@pytest.mark.parametrize(
    ("period", "now", "first", "resets"),
    [
        (Period.DAY, "2027-01-31T23:59:59.999", "2027-01-31", "2027-02-01"),
        (Period.DAY, "2027-02-01T00:00:00", "2027-02-01", "2027-02-02"),
        (Period.WEEK, "2027-01-31T23:59:59.999", "2027-01-25", "2027-02-01"),  # a Sunday
        (Period.WEEK, "2027-02-01T00:00:00", "2027-02-01", "2027-02-08"),
        (Period.WEEK, "1970-01-01T00:00:00", "1969-12-29", "1970-01-05"),
        (Period.MONTH, "2027-01-31T23:59:59.999", "2027-01-01", "2027-02-01"),
        (Period.MONTH, "2027-02-01T00:00:00", "2027-02-01", "2027-03-01"),
        (Period.MONTH, "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
        (Period.MONTH, "2027-12-31T12:00:00", "2027-12-01", "2028-01-01"),
    ],
)
def test_periods_begin_at_midnight_utc_on_mondays_and_on_the_first(
    period: Period, now: str, first: str, resets: str
) -> None:
    assert first_day(period, ms(now)) == ms(first) // 86_400_000
    assert resets_ms(period, ms(now)) == ms(resets)


def test_a_total_never_resets() -> None:
    assert first_day(Period.TOTAL, ms("2027-01-31")) == 0
    assert resets_ms(Period.TOTAL, ms("2027-01-31")) is None
