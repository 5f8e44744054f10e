"""When to leave a vendor alone. Pure: the moment is an argument, each step gives the next state.

    closed      calls go through; failures in a row are counted
    open        FAILURES_MAX failures in a row, or one answer that said when to come back: no calls until then. A vendor
                that does not take our key, the last of those times, rests longer
    half open   the rest is over: one call goes through as a probe, the others wait for its end

A failed probe doubles the rest, up to REST_MAX_S. Whoever asks is told to come back before anything is held of his
money, so an outage costs the payers nothing, not even a claim on their signature.
"""

import math
from dataclasses import dataclass, replace

FAILURES_MAX = 5
REST_MIN_S = 2.0
REST_MAX_S = 60.0
ADVICE_MAX_S = 300
"""A vendor's `Retry-After` is believed up to here."""
REFUSED_REST_S = 600
"""It is the operator who has to mend it. A caller's odd question can look like that for once, and not five times."""


@dataclass(frozen=True, slots=True)
class Breaker:
    failures: int = 0
    """In a row."""
    trips: int = 0
    """How often it opened since the last success."""
    open_until_s: float = 0.0
    """Unix seconds; 0 while closed."""
    probe_until_s: float = 0.0
    """Until when a probe under way keeps the others waiting."""

    def rest_s(self, now_s: float) -> int | None:
        """Whole seconds until the next call may be made; None: now."""
        wait = max(self.open_until_s, self.probe_until_s) - now_s
        return math.ceil(wait) if wait > 0 else None

    def asking(self, now_s: float, timeout_s: float) -> "Breaker":
        """A call goes out. After a rest it is the probe."""
        return replace(self, probe_until_s=now_s + timeout_s) if self.open_until_s else self

    def answered(self) -> "Breaker":
        """The vendor is alive, whatever he said."""
        return self if self == _CLOSED else _CLOSED

    def refused(self, now_s: float) -> "Breaker":
        """The vendor does not take our key."""
        failed = replace(self, failures=self.failures + 1, probe_until_s=0.0)
        if now_s < self.open_until_s or failed.failures < FAILURES_MAX:
            return failed
        return replace(failed, trips=self.trips + 1, open_until_s=now_s + REFUSED_REST_S)

    def failed(self, now_s: float, retry_after_s: int | None = None) -> "Breaker":
        """The vendor failed, or asked for a rest of `retry_after_s`."""
        failures = self.failures + 1
        rest = min(retry_after_s, ADVICE_MAX_S) if retry_after_s else 0.0
        resting = now_s < self.open_until_s
        # Calls that were under way when it opened fail too; they are no new evidence and lengthen nothing.
        trip = not resting and (rest > 0 or failures >= FAILURES_MAX)
        if trip:
            rest = max(rest, min(REST_MIN_S * 2**self.trips, REST_MAX_S))
        open_until = max(self.open_until_s, now_s + rest) if rest else self.open_until_s
        return Breaker(failures, self.trips + trip, open_until)


_CLOSED = Breaker()
