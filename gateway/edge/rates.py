"""How often: a bucket for each usage key that has a rate of its own, in this process's memory.

A bucket holds a minute's requests and fills evenly, by a clock that never jumps (F-177). What was not touched for a
minute is full again, and so is not missed: a new bucket takes such ones out, from the end that was touched longest ago,
so each is taken out once. Two processes on one ledger have one each.
"""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil

from gateway.core.errors import Code, Problem

FILLS_S = 60.0


class Rates:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By name: (how much was in it, when). What was touched last is last."""

    def take(self, name: str, per_min: int) -> None:
        """One request of `per_min`. Raises Problem RATE_LIMITED."""
        now = self._monotonic()
        if name not in self._buckets:
            self._forget(now)
        level, at = self._buckets.pop(name, (float(per_min), now))
        level = min(level + (now - at) * per_min / FILLS_S, float(per_min))
        if level < 1:
            self._buckets[name] = level, now
            raise Problem(
                Code.RATE_LIMITED,
                f"this key may be used {per_min} times a minute",
                retry_after_s=max(1, ceil((1 - level) * 60 / per_min)),
                details={"requests_per_min": per_min},
            )
        self._buckets[name] = level - 1, now

    def _forget(self, now: float) -> None:
        while self._buckets:
            first = next(iter(self._buckets))
            if now - self._buckets[first][1] < FILLS_S:
                return
            del self._buckets[first]
