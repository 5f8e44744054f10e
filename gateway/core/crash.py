"""Crash points: the places where a sudden death is most interesting.

`point(name)` does nothing in production. Tests and `FAREGATE_CRASH_AT` arm a callback that ends the process there,
so that every promise about "before" and "after" can be tried out. Each name stands in POINTS; "before" means
nothing of the step was written or sent, "after" means all of it was and nobody has been told.
"""

from collections.abc import Callable

POINTS = frozenset(
    {
        "hold.before",
        "hold.after",
        "work.before",
        "work.after",
        "record.before",
        "record.after",
        "settle.before_journal",
        "settle.after_journal",
        "settle.after_broadcast",
        "settle.after_receipt",
        "proven.before",
        "proven.after",
        "prepaid.before",
        "prepaid.after",
        "answer.before",
        "job.claimed",
        "job.asked",
        "job.worked",
        "job.before_end",
        "job.after_end",
        "recovery.before",
        "recovery.after",
        "store.before_commit",
        "store.after_commit",
        "store.in_migration",
        "webhook.before_send",
        "webhook.after_send",
    }
)

_armed: Callable[[str], None] | None = None


def point(name: str) -> None:
    """A place where the process may die. A constant no-op unless armed."""
    if _armed is not None:
        _armed(name)


def arm(callback: Callable[[str], None] | None) -> None:
    """From now on every point calls `callback(name)`; None disarms. Never called when serving for real."""
    global _armed
    _armed = callback
