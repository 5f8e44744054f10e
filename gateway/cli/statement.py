"""`faregate statement`: every movement of a balance. Works beside a running gateway."""

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.agents import require_agent, with_database

if TYPE_CHECKING:
    from gateway.core.statement import Movement
    from gateway.settings import Settings
    from gateway.store.database import Database, Tx

PART = 1000


def statement(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT", help="Or a wallet's address.")],
    limit: Annotated[int | None, typer.Option(min=1, help="How many, newest first; 50, or all as CSV.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From here on, as 2026-11-23.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Earlier than this.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: terminal.AsJson = False,
    config: terminal.Config = None,
) -> None:
    """Show every movement of an agent's balance, newest first."""
    from gateway.core import statement as core
    from gateway.store import statements

    if as_csv and as_json:
        terminal.fail("--csv and --json: choose one", terminal.MISUSED)
    from_ms, to_ms = _ms("--from", since), _ms("--to", until)
    party = agent_id.lower() if agent_id.lower().startswith("0x") else agent_id
    wanted = limit if limit is not None else None if as_csv else core.LIMIT

    async def work(settings: "Settings", db: "Database") -> int:
        def known(tx: "Tx") -> None:
            if statements.last(tx, party) == 0 and not party.startswith("0x"):
                require_agent(tx, party)

        await db.read(known)
        told, before = 0, None
        while wanted is None or told < wanted:
            size = PART if wanted is None else min(PART, wanted - told)
            part = await db.read(statements.page, party, size, before=before, from_ms=from_ms, to_ms=to_ms)
            if as_csv:
                _say_csv(part, first=told == 0)
            elif as_json:
                for movement in part:
                    terminal.say(json.dumps(core.line(movement)))
            else:
                _say_table(part)
            told += len(part)
            if len(part) < size:
                break
            before = part[-1].number
        return told

    if with_database(config, work) == 0 and not as_csv:
        terminal.note("There are no movements.")


def _ms(option: str, text: str | None) -> int | None:
    from gateway.core.statement import read_time

    try:
        return None if text is None else read_time(text)
    except ValueError:
        terminal.fail(f"{option}: a date or a time, as 2026-11-23 or 2026-11-23T12:00:00Z", terminal.MISUSED)


def _say_csv(part: "list[Movement]", *, first: bool) -> None:
    from gateway.core.statement import csv_head, csv_lines

    sys.stdout.write("".join(([csv_head()] if first else []) + list(csv_lines(part))))


def _say_table(part: "list[Movement]") -> None:
    from gateway.core.statement import COLUMNS, line

    rows = [[terminal.plain(value or "") for value in line(movement).values()] for movement in part]
    if rows:
        terminal.table(COLUMNS, rows, right=(7, 8))
