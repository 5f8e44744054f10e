"""How often: a bucket for each usage key that has a rate of its own, in this process's memory.

A bucket holds a minute's requests and fills evenly. Two processes on one ledger have one each.
"""

from collections.abc import Callable
from math import ceil

from gateway.core.errors import Code, Problem

BUCKETS_MAX = 10_000


class Rates:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        """By name: (how much was in it, when)."""

    def take(self, name: str, per_min: int) -> None:
        """One request of `per_min`. Raises Problem RATE_LIMITED."""
        now = self._clock()
        level, at = self._buckets.get(name, (float(per_min), now))
        level = min(level + max(now - at, 0.0) * per_min / 60, float(per_min))  # a clock that went back fills nothing
        if level < 1:
            self._buckets[name] = level, now
            raise Problem(
                Code.RATE_LIMITED,
                f"this key may be used {per_min} times a minute",
                retry_after_s=max(1, ceil((1 - level) * 60 / per_min)),
                details={"requests_per_min": per_min},
            )
        if len(self._buckets) >= BUCKETS_MAX and name not in self._buckets:
            self._forget(now)
        self._buckets[name] = level - 1, now

    def _forget(self, now: float) -> None:
        """What was not touched for a minute is full again, and so is not missed."""
        self._buckets = {name: bucket for name, bucket in self._buckets.items() if 0 <= now - bucket[1] < 60}
