"""How often a key may come."""

from gateway.core.errors import Code, Problem
from gateway.edge.rates import BUCKETS_MAX, Rates


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


def test_f177_a_clock_that_goes_back_neither_fills_nor_locks() -> None:
    clock = Clock()
    rates = Rates(clock)
    assert taken(rates, 40) == 30
    clock.s -= 3600
    assert taken(rates, 3) == 0
    clock.s += 2
    assert taken(rates, 3) == 1


def test_buckets_do_not_pile_up() -> None:
    clock = Clock()
    rates = Rates(clock)
    for number in range(BUCKETS_MAX):
        rates.take(f"key_{number}", 60)
    clock.s += 61
    rates.take("key_new", 60)
    assert len(rates._buckets) == 1
    assert taken(rates, 58, "key_new", 60) == 58
