"""`faregate margins`: what was earned, what vendors took of it, and what is left. Works beside a running gateway."""

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import terminal
from gateway.cli.agents import with_database

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.database import Database
    from gateway.store.vendor_calls import Margin

DAY_MS = 86_400_000
_AMOUNTS = ("revenue_usd", "cost_usd", "misses_cost_usd", "margin_usd")
_COUNTS = ("sold", "calls", "matches", "misses", "failures", "cached", "unknown")


def margins(
    by: Annotated[
        list[str] | None, typer.Option(metavar="WHAT", help="operation, provider, key, day; several are told apart.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="DAY", help="From this day on, as 2026-11-23.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Up to this day, and with it.")] = None,
    as_json: terminal.AsJson = False,
    config: terminal.Config = None,
) -> None:
    """Show what calls have earned, what their vendors took, and what is left. Days are by UTC.

    What a vendor took for a miss or a failure is shown by itself: nobody pays for it but you. `unknown` are calls over
    which a process died: nobody has heard what they took, so it is in no sum.
    """
    from gateway.core.money import format_usd
    from gateway.store.vendor_calls import DIMENSIONS
    from gateway.store.vendor_calls import margins as read

    wanted = by or ["operation"]
    if unknown := sorted(set(wanted) - set(DIMENSIONS)):
        terminal.fail(f"--by {unknown[0]}: there are {', '.join(DIMENSIONS)}", terminal.MISUSED)
    from_ms, to_ms = _day_ms("--from", since, 0), _day_ms("--to", until, 2**53 - DAY_MS) + DAY_MS
    names = [name for name in DIMENSIONS if name in wanted]

    async def work(settings: "Settings", db: "Database") -> "list[tuple[tuple[str, ...], Margin]]":
        return await db.read(read, wanted, from_ms, to_ms)

    lines = with_database(config, work)
    rows = [_row(names, values, margin) for values, margin in lines]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        shown = (*names, *_COUNTS, *_AMOUNTS)
        numbers = range(len(names), len(shown))
        terminal.table(shown, [[str(row[name]) for name in shown] for row in rows], right=numbers)
        held = sum(margin.unknown_held_micros for _, margin in lines)
        if held:
            terminal.note(f"Of the unknown calls ${format_usd(held)} was held in all, and given back.")
    else:
        terminal.note("Nothing was sold or bought in this time.")


def _row(names: list[str], values: tuple[str, ...], margin: "Margin") -> dict[str, Any]:
    from gateway.core.money import format_usd

    said = dict(zip(names, values, strict=True))
    if "day" in said:
        said["day"] = datetime.fromtimestamp(int(said["day"]) * DAY_MS // 1000, UTC).date().isoformat()
    return {
        **said,
        **{name: getattr(margin, name) for name in _COUNTS},
        "revenue_usd": format_usd(margin.revenue_micros),
        "cost_usd": format_usd(margin.cost_micros),
        "misses_cost_usd": format_usd(margin.misses_cost_micros),
        "margin_usd": format_usd(margin.margin_micros),
        "unknown_held_usd": format_usd(margin.unknown_held_micros),
    }


def _day_ms(option: str, text: str | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        terminal.fail(f"{option} {text}: a day is written as 2026-11-23", terminal.MISUSED)
    return (day - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
