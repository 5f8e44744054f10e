"""`faregate deposits`: what agents have brought, and what came from nobody's wallet. Works beside a running gateway."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.agents import require_agent, with_database

if TYPE_CHECKING:
    from gateway.settings import Settings
    from gateway.store.database import Database, Tx
    from gateway.store.deposits import DepositView

app = typer.Typer(no_args_is_help=True, help="Deposits: list, credit-orphan.")


@app.command("list")
def listing(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    before: Annotated[str | None, typer.Option(metavar="DEPOSIT", help="Only older ones than this.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those seen, credited, withdrawn or gone.")] = None,
    orphans: Annotated[bool, typer.Option("--orphans", help="Only what nobody's wallet has sent.")] = False,
    agent: Annotated[str | None, typer.Option(metavar="AGENT", help="Only those of this agent.")] = None,
    config: terminal.Config = None,
    as_json: terminal.AsJson = False,
) -> None:
    """List deposits, newest first. `seen` is money of nobody: link its sender, or credit it yourself."""
    from gateway.core.deposit import State
    from gateway.store import deposits

    if state is not None and state not in list(State):
        terminal.fail(f"--state: there are {', '.join(State)}", terminal.MISUSED)
    wanted = State.SEEN if orphans else State(state) if state else None

    async def work(settings: "Settings", db: "Database") -> "list[DepositView]":
        return await db.read(deposits.listing, limit, before_id=before, state=wanted, agent_id=agent)

    rows = [_row(view) for view in with_database(config, work)]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        shown = ("deposit", "seen", "state", "agent", "amount_usd", "bonus_usd", "from")
        terminal.table(shown, [[str(row[name] or "") for name in shown] for row in rows], right=(4, 5))
    else:
        terminal.note("There are no such deposits.")


@app.command("credit-orphan")
def credit_orphan(
    deposit_id: Annotated[str, typer.Argument(metavar="DEPOSIT")],
    agent_id: Annotated[str, typer.Argument(metavar="AGENT")],
    config: terminal.Config = None,
) -> None:
    """Credit a transfer that nobody's wallet has sent, as from an exchange, to the agent you know it is of."""
    from gateway.core.errors import Conflict
    from gateway.core.money import format_usd
    from gateway.store import deposits

    async def work(settings: "Settings", db: "Database") -> "DepositView":
        def write(tx: "Tx") -> "DepositView":
            require_agent(tx, agent_id)
            return deposits.credit_orphan(tx, deposit_id, agent_id, settings.deposit_match.rule)

        return await db.write(write)

    try:
        view = with_database(config, work)
    except Conflict as conflict:
        terminal.fail(f"{conflict}: only what is seen can be credited; nothing was changed", 4)
    bonus = f" and ${format_usd(view.deposit.bonus_micros)} bonus" if view.deposit.bonus_micros else ""
    terminal.say(f"{agent_id} was credited ${format_usd(view.deposit.amount_micros)}{bonus}")


def _row(view: "DepositView") -> dict[str, object]:
    from gateway.core.answer import iso
    from gateway.core.money import format_usd
    from gateway.core.networks import checksum_address

    deposit = view.deposit
    return {
        "deposit": deposit.id,
        "seen": iso(view.seen_ms),
        "source": deposit.source.value,
        "state": deposit.state.value,
        "agent": deposit.party,
        "amount_usd": format_usd(deposit.amount_micros),
        "bonus_usd": format_usd(deposit.bonus_micros),
        "from": checksum_address(view.sender),
        "asset": deposit.asset,
        "transaction": view.transaction,
        "log_index": view.log_index,
        "block": view.block,
        "settlement": view.settlement_id,
        "credited": iso(view.credited_ms) if view.credited_ms else None,
        "ended": iso(view.ended_ms) if view.ended_ms else None,
    }
