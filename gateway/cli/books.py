"""The books: `faregate charges`, `faregate audit`, `faregate backup`. All work beside a running gateway."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.agents import micros, new_id, with_database

if TYPE_CHECKING:
    from gateway.core.charge import Charge
    from gateway.core.vendor_call import VendorCall
    from gateway.settings import Settings
    from gateway.store.audit import Finding
    from gateway.store.charges import ChargeView
    from gateway.store.database import Database, Tx

charges = typer.Typer(no_args_is_help=True, help="What was sold: list, show, refund.")


@charges.command("list")
def listing(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    before: Annotated[str | None, typer.Option(metavar="CHARGE", help="Only older ones than this.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those held, captured, settled, unpaid ...")] = None,
    party: Annotated[str | None, typer.Option(help="Only those of this agent or wallet.")] = None,
    config: terminal.Config = None,
    as_json: terminal.AsJson = False,
) -> None:
    """List charges, newest first."""
    from gateway.core.charge import State
    from gateway.store import charges as store

    if state is not None and state not in list(State):
        terminal.fail(f"--state: there are {', '.join(State)}", terminal.MISUSED)

    async def work(settings: "Settings", db: "Database") -> "list[ChargeView]":
        wanted = State(state) if state else None
        return await db.read(store.listing, limit, before, wanted, party.lower() if party else None)

    rows = [_row(view) for view in with_database(config, work)]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        shown = ("charge", "created", "operation", "party", "state", "held_usd", "charged_usd")
        terminal.table(shown, [[str(row[name]) for name in shown] for row in rows], right=(5, 6))
    else:
        terminal.note("There are no such charges.")


@charges.command("show")
def show(charge_id: Annotated[str, typer.Argument(metavar="CHARGE")], config: terminal.Config = None) -> None:
    """Show all that is known of one charge but its result."""
    from gateway.core.errors import Code, Problem
    from gateway.store import charges as store
    from gateway.store import vendor_calls

    def look(tx: "Tx") -> "tuple[ChargeView, list[VendorCall]] | None":
        view = store.find(tx, charge_id)
        return (view, vendor_calls.of_charge(tx, charge_id)) if view else None

    async def work(settings: "Settings", db: "Database") -> "tuple[ChargeView, list[VendorCall]] | None":
        return await db.read(look)

    found = with_database(config, work)
    if found is None:
        raise Problem(Code.NOT_FOUND, f"there is no charge {charge_id}; `faregate charges list` shows all")
    view, calls = found
    terminal.say(json.dumps({**_row(view), "bought": [_call(call) for call in calls]}, indent=2))


@charges.command("refund")
def refund(
    charge_id: Annotated[str, typer.Argument(metavar="CHARGE")],
    usd: Annotated[str | None, typer.Option(metavar="USD", help="A part of it; all that is left otherwise.")] = None,
    message: Annotated[str, typer.Option("--note", help="For the books: why.")] = "",
    refund_id: Annotated[
        str | None, typer.Option("--id", help="Your own id of this refund: the same id never refunds twice.")
    ] = None,
    yes: terminal.Yes = False,
    config: terminal.Config = None,
) -> None:
    """Give a charge back to the payer's balance. An anonymous payer's account is his wallet's address."""
    from gateway.core.errors import Code, Conflict, IllegalMove, Problem
    from gateway.core.money import format_usd
    from gateway.store import charges as store

    amount = micros(usd, "--usd") if usd is not None else None

    async def left(settings: "Settings", db: "Database") -> int:
        view = await db.read(store.find, charge_id)
        if view is None:
            raise Problem(Code.NOT_FOUND, f"there is no charge {charge_id}")
        return view.charge.captured_micros - view.charge.refunded_micros

    async def work(settings: "Settings", db: "Database") -> "Charge":
        return await db.write(store.refund, charge_id, amount or 0, refund_id or new_id("ref_"), message)

    if amount is None:
        amount = with_database(config, left)
        if amount == 0:
            terminal.fail(f"not refunded: nothing of {charge_id} is left to refund", 4)
    if not yes:
        typer.confirm(f"Refund ${format_usd(amount)} of {charge_id}?", abort=True, err=True)
    try:
        charge = with_database(config, work)
    except (IllegalMove, Conflict) as error:
        terminal.fail(f"not refunded: {error}", 4)
    terminal.say(f"refunded ${format_usd(amount)} to {charge.party}; {charge_id} is {charge.state.value}")


def _row(view: "ChargeView") -> dict[str, object]:
    from gateway.core.answer import charged_micros, iso
    from gateway.core.money import format_usd

    charge, settlement = view.charge, view.settlement
    return {
        "charge": charge.id,
        "created": iso(view.created_ms),
        "operation": charge.operation,
        "party": charge.party,
        "key": view.key_id,
        "paid_from": charge.source.value,
        "state": charge.state.value,
        "reason": charge.reason.value if charge.reason else None,
        "held_usd": format_usd(charge.held_micros),
        "charged_usd": format_usd(charged_micros(charge)),
        "refunded_usd": format_usd(charge.refunded_micros),
        "cost_usd": format_usd(view.cost_micros),
        "request_id": view.request_id,
        "payment": view.identity,
        "settlement": settlement and {
            "id": settlement.id,
            "state": settlement.state.value,
            "abandoned": settlement.abandoned,
            "transaction": view.transaction or view.attempted,
        },
    }  # fmt: skip


def _call(call: "VendorCall") -> dict[str, object]:
    from gateway.core.money import format_usd

    return {
        "hop": call.hop,
        "provider": call.provider,
        "outcome": call.outcome.value,
        "error": call.error.value if call.error else None,
        "cost_usd": format_usd(call.cost_micros),
        "cached": call.cached,
        "ms": call.ms,
    }


def audit(config: terminal.Config = None, as_json: terminal.AsJson = False) -> None:
    """Check every promise of the ledger.

    Exit status 1 if there is any finding.
    """
    from gateway.store.audit import audit as run

    async def work(settings: "Settings", db: "Database") -> "list[Finding]":
        return await db.read(run)

    findings = with_database(config, work)
    for finding in findings:
        terminal.say(
            json.dumps(finding._asdict()) if as_json else f"{finding.rule}: {finding.subject}: {finding.message}"
        )
    if findings:
        terminal.fail(
            f"{len(findings)} finding{'' if len(findings) == 1 else 's'}: do not pay out before they are understood"
        )
    terminal.note("The books are clean.")


def backup(
    target: Annotated[
        Path | None, typer.Argument(help="The file to write; beside the ledger, named by the time, otherwise.")
    ] = None,
    config: terminal.Config = None,
) -> None:
    """Copy the ledger while the gateway runs.

    The copy is one whole moment of it, and checked.
    """
    from gateway.store.backup import backup as copy

    path = terminal.read_settings(config).store.path
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    target = target or path.with_name(f"{path.stem}-{stamp}{path.suffix}")
    try:
        size = copy(path, target)
    except FileExistsError:
        terminal.fail(f"{target} exists already and was left as it is; name another file")
    except FileNotFoundError:
        if path.exists():
            raise
        terminal.fail(f"there is no ledger at {path}; is this the right configuration?")
    terminal.say(f"{target} ({size:,} bytes)")
