"""What was bought for whom: the vendors' side of the books, and what is left of the price.

A charge's revenue is its captured amount less refunds, once; it counts with the vendor whose match was sold, which is
the last one that matched. What a signature never paid for has earned nothing.

What a call that somebody waits for has bought is written when its work is over, in the write that ends it: one for each
hop would be a write for every question, to know more of the few over which a process dies. So those are told apart:
unknown, with what was held for them, and no cost claims to have them in it. What a process that was given up and lives
brings after all is a cost like any other. A job has a journal, and of it nothing is unknown.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from gateway.core.job import OWNER
from gateway.core.vendor_call import ErrorClass, Outcome, VendorCall
from gateway.store.database import Tx

ADD = """
INSERT INTO vendor_calls (charge_id, hop, provider, outcome, error, cost_micros, cached, ms, at_ms)
VALUES (:charge_id, :hop, :provider, :outcome, :error, :cost_micros, :cached, :ms, :at_ms)
"""


def add(tx: Tx, charge_id: str, calls: Iterable[VendorCall]) -> None:
    for call in calls:
        tx.execute(
            ADD,
            {
                "charge_id": charge_id, "hop": call.hop, "provider": call.provider, "outcome": call.outcome,
                "error": call.error, "cost_micros": call.cost_micros, "cached": int(call.cached), "ms": call.ms,
                "at_ms": call.at_ms,
            },
        )  # fmt: skip


def of_charge(tx: Tx, charge_id: str) -> list[VendorCall]:
    """In the order in which they were recorded."""
    rows = tx.execute(
        "SELECT hop, provider, outcome, error, cost_micros, cached, ms, at_ms FROM vendor_calls"
        " WHERE charge_id = :id ORDER BY id",
        {"id": charge_id},
    )
    return [
        VendorCall(hop, provider, Outcome(outcome), error and ErrorClass(error), cost, bool(cached), ms, at_ms)
        for hop, provider, outcome, error, cost, cached, ms, at_ms in rows
    ]


RECENT = 100_000
"""So many questions back an operator is told of: they are walked through, so that no question is written twice."""
_LAST = """
SELECT provider, outcome, error, cost_micros, ms, at_ms FROM vendor_calls WHERE id IN (
  SELECT max(id) FROM vendor_calls WHERE id > (SELECT coalesce(max(id), 0) FROM vendor_calls) - :recent
    AND outcome <> 'skipped' AND cached = 0 {failed} GROUP BY provider)
"""


@dataclass(frozen=True, slots=True)
class Last:
    """What came last of a provider, among the last RECENT questions to all of them."""

    asked: VendorCall | None = None
    failed: VendorCall | None = None
    """The last that failed, be there a better one since or not."""


def last(tx: Tx) -> dict[str, Last]:
    """By provider, of those that were asked."""

    def calls(failed: str) -> dict[str, VendorCall]:
        rows = tx.execute(_LAST.format(failed=failed), {"recent": RECENT})
        return {
            provider: VendorCall(
                "", provider, Outcome(outcome), error and ErrorClass(error), cost_micros=cost, ms=ms, at_ms=at_ms
            )
            for provider, outcome, error, cost, ms, at_ms in rows
        }

    asked, failed = calls(""), calls("AND outcome = 'failed'")
    return {name: Last(call, failed.get(name)) for name, call in asked.items()}


DIMENSIONS = ("operation", "provider", "key", "day")
"""By what margins can be told apart. `provider` is "" for what nobody had to be asked for, `key` for calls made with no
usage key, `day` is that of the charge, by UTC."""


@dataclass(slots=True)
class Margin:
    """One line: what was earned and what it took. `calls` are of vendors; `sold` are charges."""

    sold: int = 0
    revenue_micros: int = 0
    calls: int = 0
    matches: int = 0
    misses: int = 0
    failures: int = 0
    cached: int = 0
    cost_micros: int = 0
    misses_cost_micros: int = 0
    """Of the cost, what went to vendors who found nothing or failed."""
    unknown: int = 0
    """Charges whose process died over the work: what their vendors took was never heard, and is in no cost."""
    unknown_held_micros: int = 0
    """What was held for them. No vendor is asked for more than a call is sold for."""

    @property
    def margin_micros(self) -> int:
        return self.revenue_micros - self.cost_micros


_KEYS = "c.operation, {provider}, coalesce(c.key_id, ''), c.created_ms / 86400000"
_COSTS = f"""
SELECT {_KEYS.format(provider="v.provider")}, sum(v.outcome <> 'skipped'), sum(v.outcome = 'match'),
  sum(v.outcome = 'no_match'), sum(v.outcome = 'failed'), sum(v.cached), sum(v.cost_micros),
  sum(CASE WHEN v.outcome = 'match' THEN 0 ELSE v.cost_micros END)
FROM charges c JOIN vendor_calls v ON v.charge_id = c.id
WHERE c.created_ms >= :from_ms AND c.created_ms < :to_ms GROUP BY 1, 2, 3, 4
"""  # noqa: S608 constants of this file
_SELLER = """coalesce((SELECT v.provider FROM vendor_calls v WHERE v.charge_id = c.id AND v.outcome = 'match'
  ORDER BY v.id DESC LIMIT 1), '')"""
_REVENUE = f"""
SELECT {_KEYS.format(provider=_SELLER)}, count(*), sum(c.captured_micros - c.refunded_micros)
FROM charges c
WHERE c.created_ms >= :from_ms AND c.created_ms < :to_ms AND c.captured_micros > 0 AND c.topup = 0
  AND c.state <> 'unpaid'
GROUP BY 1, 2, 3, 4
"""  # noqa: S608 constants of this file
_UNKNOWN = f"""
SELECT {_KEYS.format(provider="''")}, count(*), sum(c.held_micros)
FROM charges c
WHERE c.created_ms >= :from_ms AND c.created_ms < :to_ms AND c.state = 'released' AND c.reason = 'expired'
  AND c.topup = 0 AND c.owner <> '{OWNER}' AND NOT EXISTS (SELECT 1 FROM vendor_calls v WHERE v.charge_id = c.id)
GROUP BY 1, 2, 3, 4
"""  # noqa: S608 constants of this file


def margins(tx: Tx, by: Collection[str], from_ms: int, to_ms: int) -> list[tuple[tuple[str, ...], Margin]]:
    """(values of the dimensions `by`, in the order of DIMENSIONS; what was earned), for charges made in this time. The
    sums are the same whatever they are told by. Days are numbered since 1970."""
    chosen = [name in by for name in DIMENSIONS]
    lines: dict[tuple[str, ...], Margin] = {}

    def line(values: Iterable[object]) -> Margin:
        shown = tuple(str(value) for value, wanted in zip(values, chosen, strict=True) if wanted)
        return lines.setdefault(shown, Margin())

    period = {"from_ms": from_ms, "to_ms": to_ms}
    for *values, calls, matches, misses, failures, cached, cost, misses_cost in tx.execute(_COSTS, period):
        one = line(values)
        one.calls += calls
        one.matches += matches
        one.misses += misses
        one.failures += failures
        one.cached += cached
        one.cost_micros += cost
        one.misses_cost_micros += misses_cost
    for *values, sold, revenue in tx.execute(_REVENUE, period):
        one = line(values)
        one.sold += sold
        one.revenue_micros += revenue
    for *values, unknown, most in tx.execute(_UNKNOWN, period):
        one = line(values)
        one.unknown += unknown
        one.unknown_held_micros += most
    return sorted(lines.items())
