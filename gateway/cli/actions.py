"""`faregate actions`: the operator's log, and `faregate agents show`: all that is kept about one agent."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.agents import app as agents_app
from gateway.cli.agents import with_database

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.actions import Action
    from gateway.store.database import Database
    from gateway.store.dossier import Dossier

app = typer.Typer(no_args_is_help=True, help="What the operator did, which nobody can change: list.")


@app.command("list")
def listing(
    subject: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what was done to this agent, charge or job.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    config: terminal.Config = None,
    as_json: terminal.AsJson = False,
) -> None:
    """List what was done, newest first."""
    from gateway.store import actions

    async def work(settings: "Settings", db: "Database") -> "list[Action]":
        return await db.read(actions.listing, limit, subject)

    rows = [_action(action) for action in with_database(config, work)]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        terminal.table(list(rows[0]), [[terminal.plain(str(value)) for value in row.values()] for row in rows])
    else:
        terminal.note("There are no such actions.")


@agents_app.command("show")
def show(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT")],
    latest: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Of charges, jobs and actions.")] = 10,
    config: terminal.Config = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Show all that is kept about an agent: money, wallets, tokens' hints, open holds, jobs, charges, actions."""
    from gateway.core.errors import Code, Problem
    from gateway.store import dossier

    async def work(settings: "Settings", db: "Database") -> "Dossier | None":
        return await db.read(dossier.of_agent, agent_id, latest)

    found = with_database(config, work)
    if found is None:
        raise Problem(Code.NOT_FOUND, f"there is no agent {agent_id}; `faregate agents list` shows all")
    told = _told(found)
    if as_json:
        terminal.say(json.dumps(told))
        return
    for name, value in told.items():
        if not isinstance(value, list):
            terminal.say(f"{name:<14}{terminal.plain(str(value))}")
    for name, value in told.items():
        if isinstance(value, list) and value:
            terminal.say(f"\n{name}")
            terminal.table(list(value[0]), [[terminal.plain(str(cell)) for cell in row.values()] for row in value])


def _told(found: "Dossier") -> dict[str, object]:
    from gateway.core.answer import charged_micros, iso
    from gateway.core.money import format_usd
    from gateway.core.networks import checksum_address

    agent, balance = found.agent, found.agent.balance
    return {
        "agent": agent.id,
        "label": agent.label,
        "status": agent.status.value,
        "created": iso(agent.created_ms),
        "available_usd": format_usd(balance.available),
        "held_usd": format_usd(balance.held),
        "bonus_usd": format_usd(balance.bonus),
        "bonus_held_usd": format_usd(balance.bonus_held),
        "debt_usd": format_usd(balance.debt),
        "wallets": [
            {"address": checksum_address(wallet.address), "role": wallet.role.value, "since": iso(wallet.at_ms)}
            for wallet in found.wallets
        ],
        "tokens": [
            {
                "id": token.id,
                "kind": token.kind,
                "hint": token.hint,
                "created": iso(token.created_ms),
                "revoked": iso(token.revoked_ms) if token.revoked_ms is not None else None,
            }
            for token in found.tokens
        ],
        "open_holds": [
            {
                "charge": view.charge.id,
                "created": iso(view.created_ms),
                "operation": view.charge.operation,
                "held_usd": format_usd(view.charge.held_micros),
            }
            for view in found.held
        ],
        "jobs": [
            {
                "job": job.id,
                "created": iso(job.created_ms),
                "operation": job.operation,
                "state": job.state.value,
                "charge": job.charge_id,
            }
            for job in found.jobs
        ],
        "charges": [
            {
                "charge": view.charge.id,
                "created": iso(view.created_ms),
                "operation": view.charge.operation,
                "state": view.charge.state.value,
                "reason": view.charge.reason.value if view.charge.reason else None,
                "charged_usd": format_usd(charged_micros(view.charge)),
            }
            for view in found.charges
        ],
        "actions": [_action(action) for action in found.actions],
    }


def _action(action: "Action") -> dict[str, object]:
    from gateway.core.answer import iso

    return {
        "seq": action.seq,
        "at": iso(action.at_ms),
        "action": action.action,
        "subject": action.subject,
        "detail": action.detail,
    }
