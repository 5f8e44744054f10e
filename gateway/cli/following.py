"""A job that `faregate pay` has handed over: followed on the terminal until it has ended, and its end told."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from gateway.cli import terminal
from gateway.core.errors import TABLE, Code
from gateway.core.job import State

if TYPE_CHECKING:
    from gateway.core.http import HttpClient
    from gateway.flows.following import Job, Poll

INTERRUPTED = 130


async def follow(http: "HttpClient", job: "Job") -> None:
    """Prints what the job came to. Raises typer.Exit where that is no result, or is not known."""
    from gateway.flows.following import Follower, Lost

    terminal.note(f"Job       {terminal.plain(job.id)} is handed over")
    show_secret(job)
    try:
        with _progress() as seen:
            poll = await Follower(http).follow(job, seen)
    except Lost as lost:
        _leave(job, f"It is not followed: {lost}", terminal.NO_ANSWER)
    except asyncio.CancelledError:
        # Ctrl-C: asyncio cancels what it runs.
        _leave(job, "The job goes on; it is followed no longer", INTERRUPTED)
    _tell(poll)


def _leave(job: "Job", why: str, status: int) -> NoReturn:
    terminal.note(why)
    show_how_to_ask(job)
    raise typer.Exit(status)


def show_how_to_ask(job: "Job") -> None:
    terminal.note(f"Ask       {terminal.plain(job.poll_url)}")
    terminal.note(f"          with the header Authorization: Bearer {terminal.plain(job.poll_bearer)}")
    terminal.note("Cancel    by DELETE, at the same place with the same header")


def show_secret(job: "Job") -> None:
    if job.webhook_secret is not None:
        terminal.note(f"Callback  is signed with {terminal.plain(job.webhook_secret)}, which is told this once")


@contextmanager
def _progress() -> Iterator[Callable[["Poll"], None]]:
    """Shows every poll on standard error: as a bar on a terminal, else as a line for each new phase."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    started = time.monotonic()
    console = Console(stderr=True)
    if console.is_dumb_terminal or not sys.stderr.isatty():
        phases: list[str] = []

        def line(poll: "Poll") -> None:
            if [poll.phase] != phases[-1:]:
                phases.append(poll.phase)
                terminal.note(f"Phase     {_phase(poll)}, after {time.monotonic() - started:.0f} s")

        yield line
        return
    # What another server wrote is no markup.
    phase = TextColumn("{task.description}", markup=False)
    with Progress(BarColumn(20), phase, TimeElapsedColumn(), console=console, transient=True) as bar:
        # How much is left nobody knows: the bar only shows that something is going on.
        task = bar.add_task("handed over", total=None)
        yield lambda poll: bar.update(task, description=_phase(poll))


def _phase(poll: "Poll") -> str:
    return f"{terminal.plain(poll.phase)}, {poll.rounds} round{'' if poll.rounds == 1 else 's'}"


def _tell(poll: "Poll") -> None:
    terminal.say_body(poll.response.body)
    terminal.note(f"Status    {terminal.plain(poll.status)}")
    status = _exit_status(poll)
    withheld = status == terminal.MONEY
    if not withheld:
        _tell_money(poll)
    error = poll.member("error")
    if error:
        label = "Withheld" if withheld else "Reason"
        terminal.note(terminal.plain(f"{label:<10}{error.get('code')}: {error.get('message')}"))
    if status:
        raise typer.Exit(status)


def _tell_money(poll: "Poll") -> None:
    from gateway.flows.paying import decoded

    billing = poll.member("billing")
    charged, ceiling, released = (billing.get(f"{name}_usd") for name in ("charged", "bill_up_to", "released"))
    if charged is not None:
        terminal.note(terminal.plain(f"Charged   ${charged} of at most ${ceiling}; ${released} released"))
    receipt = decoded(poll.response.headers.get("payment-response", ""))
    settlement = billing.get("settlement")
    if receipt is not None:
        terminal.note(f"Receipt   {json.dumps(receipt)}")
    elif isinstance(settlement, Mapping) and settlement.get("transaction"):
        terminal.note(terminal.plain(f"Settled   {settlement['transaction']} on {settlement.get('network')}"))


def _exit_status(poll: "Poll") -> int:
    match poll.status:
        case State.CANCELLED:
            return terminal.WRONG
        case State.FAILED:
            return terminal.NO_ANSWER
    error = poll.member("error")
    if not error:
        return 0
    code = error.get("code")
    return TABLE[Code(code)].exit if code in list(Code) else terminal.NO_ANSWER
