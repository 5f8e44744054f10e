"""`faregate webhooks`: what customers' servers were told, dead letters, and the secrets of it. Works beside a running
gateway."""

import json
import os
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli import terminal
from gateway.cli.agents import require_agent, with_database

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.database import Database, Tx
    from gateway.store.outbox import EventView

OVERLAP_MAX_S = 604_800

app = typer.Typer(no_args_is_help=True, help="Callbacks to customers' servers: list, show, replay, secret.")

Event = Annotated[str, typer.Argument(metavar="EVENT")]


@app.command("list")
def listing(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    before: Annotated[str | None, typer.Option(metavar="EVENT", help="Only older ones than this.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those pending, delivered or failed.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only those of this agent, or of this anonymous job.")] = None,
    config: terminal.Config = None,
    as_json: terminal.AsJson = False,
) -> None:
    """List events, newest first."""
    from gateway.core.webhook import WebhookState
    from gateway.store import outbox

    if state is not None and state not in list(WebhookState):
        terminal.fail(f"--state: there are {', '.join(WebhookState)}", terminal.MISUSED)

    async def work(settings: "Settings", db: "Database") -> "list[EventView]":
        return await db.read(outbox.listing, limit, before, WebhookState(state) if state else None, owner)

    rows = [_row(view) for view in with_database(config, work)]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        shown = ("event", "created", "event_type", "subject", "state", "attempts", "last")
        terminal.table(shown, [[str(row[name]) for name in shown] for row in rows], right=(5,))
    else:
        terminal.note("There are no such events.")


@app.command("show")
def show(event_id: Event, config: terminal.Config = None) -> None:
    """Show all that is known of one event, with what it tells."""
    from gateway.store import outbox

    async def work(settings: "Settings", db: "Database") -> "EventView | None":
        return await db.read(outbox.find, event_id)

    view = with_database(config, work)
    if view is None:
        _unknown(event_id)
    terminal.say(json.dumps({**_row(view), "url": view.url, "tells": json.loads(view.body)}, indent=2))


@app.command("replay")
def replay(event_id: Event, config: terminal.Config = None) -> None:
    """Deliver an event again that was given up or delivered.

    It has the same id and all its tries anew; a running gateway sends it within a second.
    """
    from gateway.core.errors import Conflict
    from gateway.store import outbox

    async def work(settings: "Settings", db: "Database") -> bool:
        return await db.write(outbox.replay, event_id)

    try:
        known = with_database(config, work)
    except Conflict as conflict:
        terminal.fail(f"not replayed: {conflict}", 4)
    if not known:
        _unknown(event_id)
    terminal.say(f"{event_id} will be delivered again")


@app.command("secret")
def secret(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT")],
    overlap: Annotated[
        int, typer.Option(min=0, max=OVERLAP_MAX_S, metavar="SECONDS", help="How long the old one signs as well.")
    ] = 86_400,
    config: terminal.Config = None,
) -> None:
    """Make or replace the secret that an agent's callbacks are signed with.

    It is printed once. After a leak take --overlap 0: the old one ends at once.
    """
    from gateway.core import webhook
    from gateway.store import actions, outbox

    made = webhook.new_secret(os.urandom(webhook.ENTROPY_SECRET_BYTES))

    async def work(settings: "Settings", db: "Database") -> None:
        def write(tx: "Tx") -> None:
            require_agent(tx, agent_id)
            outbox.rotate_secret(tx, agent_id, made, overlap * 1000)
            actions.note(tx, "rotate_webhook_secret", agent_id, f"overlap of {overlap} s")

        await db.write(write)

    with_database(config, work)
    terminal.say(f"secret  {made}")
    terminal.note("Keep the secret: it is not shown again.")


def _unknown(event_id: str) -> NoReturn:
    from gateway.core.errors import Code, Problem

    raise Problem(Code.NOT_FOUND, f"there is no event {event_id}; `faregate webhooks list` shows all")


def _row(view: "EventView") -> dict[str, object]:
    from gateway.core.answer import iso

    def when(ms: int | None) -> str | None:
        return None if ms is None else iso(ms)

    pending = view.ended_ms is None
    return {
        "event": view.id,
        "created": iso(view.created_ms),
        "event_type": view.event_type,
        "owner": view.owner,
        "subject": view.subject,
        "state": view.state.value,
        "attempts": view.attempts,
        "replays": view.replays,
        "last": " ".join(str(part) for part in (view.last_status, view.last_error) if part is not None),
        "tried": when(view.tried_ms),
        "next": when(view.next_attempt_ms) if pending else None,
        "ended": when(view.ended_ms),
    }
