"""`faregate tickets`: what customers wrote to you, and what becomes of it. Works beside a running gateway.

What they wrote is shown as text and nothing else: characters that steer a terminal are shown as question marks, and no
money moves by what a ticket says.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.agents import with_database

if TYPE_CHECKING:
    from gateway.core.ticket import Ticket
    from gateway.settings import Settings
    from gateway.store.database import Database, Tx

app = typer.Typer(no_args_is_help=True, help="Customers' tickets: list, show, answer, close, confirm-bug.")

TicketId = Annotated[str, typer.Argument(metavar="TICKET")]


@app.command("list")
def listing(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    before: Annotated[str | None, typer.Option(metavar="TICKET", help="Only older ones than this.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those open, answered or closed.")] = None,
    config: terminal.Config = None,
    as_json: terminal.AsJson = False,
) -> None:
    """List tickets, newest first."""
    from gateway.core.ticket import State
    from gateway.store import tickets

    if state is not None and state not in list(State):
        terminal.fail(f"--state: there are {', '.join(State)}", terminal.MISUSED)

    async def work(settings: "Settings", db: "Database") -> "list[Ticket]":
        return await db.read(tickets.listing, limit, before_id=before, state=State(state) if state else None)

    rows = [_row(ticket) for ticket in with_database(config, work)]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        shown = ("ticket", "created", "party", "category", "state", "earned", "subject")
        terminal.table(shown, [[terminal.plain(str(row[name] or "")) for name in shown] for row in rows])
    else:
        terminal.note("There are no such tickets.")


@app.command("show")
def show(ticket_id: TicketId, config: terminal.Config = None, as_json: terminal.AsJson = False) -> None:
    """Show a ticket and its answers."""
    from gateway.core.answer import iso
    from gateway.core.errors import Code, Problem
    from gateway.store import tickets

    async def work(settings: "Settings", db: "Database") -> "Ticket | None":
        return await db.read(tickets.find, ticket_id)

    ticket = with_database(config, work)
    if ticket is None:
        raise Problem(Code.NOT_FOUND, f"there is no ticket {ticket_id}; `faregate tickets list` shows all")
    answers = [{"at": iso(answer.at_ms), "body": answer.body} for answer in ticket.answers]
    if as_json:
        terminal.say(json.dumps({**_row(ticket), "charge": ticket.charge_id, "body": ticket.body, "answers": answers}))
        return
    for name, value in {**_row(ticket), "charge": ticket.charge_id}.items():
        terminal.say(terminal.plain(f"{name:10}{value or ''}".rstrip()))
    terminal.say(f"\n{terminal.plain(ticket.body, keep=chr(10))}")
    for each in answers:
        terminal.say(f"\nAnswered {each['at']}:\n{terminal.plain(each['body'], keep=chr(10))}")


@app.command("answer")
def answer(
    ticket_id: TicketId,
    text: Annotated[str, typer.Argument(help="What its writer will read.")],
    config: terminal.Config = None,
) -> None:
    """Answer a ticket; as often as you like until it is closed."""
    from gateway.core.ticket import BODY_MAX, require_text
    from gateway.store import tickets

    try:
        body = require_text(text, keep="\n\t")
    except ValueError as error:
        terminal.fail(f"TEXT: {error}", terminal.MISUSED)
    if len(body) > BODY_MAX:
        terminal.fail(f"TEXT: it has at most {BODY_MAX} characters", terminal.MISUSED)
    _do(config, ticket_id, lambda tx: tickets.answer(tx, ticket_id, body), "answered")


@app.command("close")
def close(ticket_id: TicketId, config: terminal.Config = None) -> None:
    """Close a ticket, for good."""
    from gateway.store import tickets

    _do(config, ticket_id, lambda tx: tickets.close(tx, ticket_id), "closed")


@app.command("confirm-bug")
def confirm_bug(ticket_id: TicketId, config: terminal.Config = None, yes: terminal.Yes = False) -> None:
    """Say that it was a bug: its agent gets `bug_credit` of `[support]` as bonus, once."""
    from gateway.core.money import format_usd
    from gateway.store import tickets

    amount = terminal.read_settings(config).support.bug_credit_micros
    if not yes:
        typer.confirm(f"Credit ${format_usd(amount)} of bonus for {ticket_id}?", abort=True, err=True)
    _do(
        config,
        ticket_id,
        lambda tx: tickets.confirm_bug(tx, ticket_id, amount),
        f"confirmed; its agent has got ${format_usd(amount)} of bonus",
    )


def _do(config: Path | None, ticket_id: str, deed: "Callable[[Tx], None]", done: str) -> None:
    from gateway.core.errors import Conflict

    async def work(settings: "Settings", db: "Database") -> None:
        await db.write(deed)

    try:
        with_database(config, work)
    except Conflict as conflict:
        terminal.fail(f"{ticket_id} is left as it was: {conflict}", 4)
    terminal.say(f"{ticket_id} is {done}")


def _row(ticket: "Ticket") -> dict[str, str | None]:
    from gateway.core.answer import iso

    return {
        "ticket": ticket.id,
        "created": iso(ticket.created_ms),
        "changed": iso(ticket.changed_ms),
        "party": ticket.party,
        "category": ticket.category.value,
        "state": ticket.state.value,
        "earned": ticket.credit_id,
        "subject": ticket.subject,
    }
