"""How often a key may come."""

from collections import OrderedDict
from collections.abc import Iterator

import pytest

from gateway.core.errors import Code, Problem
from gateway.edge.rates import Rates


class Clock:
    s = 1000.0

    def __call__(self) -> float:
        return self.s


def taken(rates: Rates, times: int, name: str = "key_1", per_min: int = 30) -> int:
    """How many of so many at once get through."""
    passed = 0
    refused: list[tuple[Code, int | None]] = []
    for _ in range(times):
        try:
            rates.take(name, per_min)
        except Problem as problem:
            refused.append((problem.code, problem.retry_after_s))
        else:
            passed += 1
    assert set(refused) <= {(Code.RATE_LIMITED, 2)}
    return passed


def test_a_minutes_worth_at_once_and_then_evenly() -> None:
    clock = Clock()
    rates = Rates(clock)
    assert taken(rates, 40) == 30
    assert taken(rates, 40, "key_2") == 30
    clock.s += 2.0
    assert taken(rates, 3) == 1
    clock.s += 600
    assert taken(rates, 40) == 30


def test_buckets_do_not_pile_up_and_none_in_use_is_forgotten() -> None:
    clock = Clock()
    rates = Rates(clock)
    for number in range(100):
        rates.take(f"key_{number}", 30)
    clock.s += 59
    assert taken(rates, 40, "key_0") == 30
    clock.s += 1
    rates.take("key_new", 30)
    assert list(rates._buckets) == ["key_0", "key_new"]
    assert taken(rates, 29, "key_new") == 29
    with pytest.raises(Problem):
        rates.take("key_0", 30)


class Walked(OrderedDict[str, tuple[float, float]]):
    """Counts what is gone through."""

    steps = 0

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            self.steps += 1
            yield name


def test_f121_ten_thousand_keys_in_a_minute_make_no_further_one_dearer() -> None:
    clock = Clock()
    rates = Rates(clock)
    rates._buckets = buckets = Walked()
    for number in range(10_000):
        rates.take(f"key_{number}", 60)
    buckets.steps = 0
    for number in range(10_000, 10_100):
        rates.take(f"key_{number}", 60)
    assert rates._buckets is buckets
    assert buckets.steps <= 200
    clock.s += 60
    for number in range(100):
        rates.take(f"new_{number}", 60)
    assert (buckets.steps <= 11_000, len(buckets)) == (True, 100)
