"""`faregate jobs`: work that was handed over, and what became of it. Works beside a running gateway."""

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from gateway.cli import terminal
from gateway.cli.agents import new_id, with_database

if TYPE_CHECKING:
    from gateway.core.job import Job
    from gateway.flows.jobs import JobView
    from gateway.settings import Settings
    from gateway.store.database import Database, Tx

app = typer.Typer(no_args_is_help=True, help="Work that was handed over: list, show, retry, cancel.")

JobId = Annotated[str, typer.Argument(metavar="JOB")]


@app.command("list")
def listing(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    before: Annotated[str | None, typer.Option(metavar="JOB", help="Only older ones than this.")] = None,
    state: Annotated[
        str | None, typer.Option(help="Only those queued, running, completed, failed or cancelled.")
    ] = None,
    config: terminal.Config = None,
    as_json: terminal.AsJson = False,
) -> None:
    """List jobs, newest first."""
    from gateway.core.job import State
    from gateway.store import jobs

    if state is not None and state not in list(State):
        terminal.fail(f"--state: there are {', '.join(State)}", terminal.MISUSED)

    async def work(settings: "Settings", db: "Database") -> "list[Job]":
        return await db.read(jobs.listing, limit, before, State(state) if state else None)

    rows = [_row(job) for job in with_database(config, work)]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        shown = ("job", "created", "operation", "party", "state", "phase", "attempt")
        terminal.table(shown, [[str(row[name]) for name in shown] for row in rows], right=(6,))
    else:
        terminal.note("There are no such jobs.")


@app.command("show")
def show(job_id: JobId, config: terminal.Config = None) -> None:
    """Show all that is known of one job but what it asked for and found: with its money and its callback."""
    from gateway.core.money import format_usd
    from gateway.flows.jobs import joined
    from gateway.store import jobs

    async def work(settings: "Settings", db: "Database") -> "JobView | None":
        def look(tx: "Tx") -> "JobView | None":
            job = jobs.find(tx, job_id)
            return None if job is None else joined(tx, job)

        return await db.read(look)

    view = with_database(config, work)
    if view is None:
        _unknown(job_id)
    charge, callback = view.charge.charge, view.callback
    settlement = view.charge.settlement
    told = {
        **_row(view.job),
        "retried_as": view.retried_as,
        "held_usd": format_usd(charge.held_micros),
        "captured_usd": format_usd(charge.captured_micros),
        "refunded_usd": format_usd(charge.refunded_micros),
        "told": view.disclosure.value,
        "settlement": None
        if settlement is None
        else {"id": settlement.id, "state": settlement.state.value, "abandoned": settlement.abandoned},
        "callback": None if callback is None else {"state": callback.state.value, "attempts": callback.attempts},
    }
    terminal.say(json.dumps(told, indent=2))


@app.command("retry")
def retry(job_id: JobId, config: terminal.Config = None, yes: terminal.Yes = False) -> None:
    """Do a failed job again, as another job.

    Its agent was told that it failed and cost nothing: now its ceiling is held from his balance again, and what the
    work comes to is charged. What it had bought before it failed is not bought again. A job paid by a signature cannot
    be done again here: its payment was given back, and only its payer can hand it in again.
    """
    from gateway.core import ids
    from gateway.core.errors import Conflict
    from gateway.flows import jobs as flow
    from gateway.store import actions, jobs

    async def known(settings: "Settings", db: "Database") -> "Job | None":
        return await db.read(jobs.find, job_id)

    async def work(settings: "Settings", db: "Database") -> tuple[str, str]:
        bearer = ids.new_token(f"{settings.service.token_prefix}j_", os.urandom(ids.ENTROPY_TOKEN_BYTES))
        new = flow.Retry(new_id("ej_"), new_id("chg_"), new_id("req_"), ids.token_hash(bearer), settings.jobs.time_s)

        def write(tx: "Tx") -> None:
            flow.retry(tx, job_id, new)
            actions.note(tx, "retry_job", job_id, f"as {new.job_id}")

        await db.write(write)
        return new.job_id, bearer

    job = with_database(config, known)
    if job is None:
        _unknown(job_id)
    if not yes:
        typer.confirm(f"Charge {job.party} for it after all, if it succeeds now?", abort=True, err=True)
    try:
        again, bearer = with_database(config, work)
    except Conflict as conflict:
        terminal.fail(f"not done again: {conflict}", 4)
    terminal.say(f"job          {again}")
    terminal.say(f"poll bearer  {bearer}")
    terminal.note("A running gateway begins it within a second. Its agent can ask for it with his own bearer too.")


@app.command("cancel")
def cancel(job_id: JobId, config: terminal.Config = None) -> None:
    """Stop a job: a queued one at once and for nothing, a running one at its next safe point."""
    from gateway.core.errors import Problem
    from gateway.flows.jobs import stop
    from gateway.flows.webhooks import job_ended
    from gateway.store import actions, jobs

    async def work(settings: "Settings", db: "Database") -> "Job | None":
        told = partial(job_ended, origin=settings.service.origin)

        def write(tx: "Tx") -> "Job | None":
            if jobs.find(tx, job_id) is None:
                return None
            stop(tx, job_id, settings.jobs.result_ttl_hours * 3_600_000, told)
            actions.note(tx, "cancel_job", job_id)
            return jobs.find(tx, job_id)

        return await db.write(write)

    try:
        job = with_database(config, work)
    except Problem as problem:
        terminal.fail(f"not cancelled: {problem.message}", 4)
    if job is None:
        _unknown(job_id)
    terminal.say(f"{job_id} is {job.state.value}{', and will stop' if job.cancelling else ''}")


def _unknown(job_id: str) -> NoReturn:
    from gateway.core.errors import Code, Problem

    raise Problem(Code.NOT_FOUND, f"there is no job {job_id}; `faregate jobs list` shows all")


def _row(job: "Job") -> dict[str, object]:
    from gateway.core.answer import iso

    def when(ms: int | None) -> str | None:
        return None if ms is None else iso(ms)

    return {
        "job": job.id,
        "created": iso(job.created_ms),
        "operation": job.operation,
        "party": job.party,
        "agent": job.agent_id,
        "charge": job.charge_id,
        "state": job.state.value,
        "phase": job.phase,
        "rounds": job.rounds,
        "attempt": job.attempt,
        "cancelling": job.cancelling,
        "deadline": iso(job.deadline_ms),
        "started": when(job.started_ms),
        "ended": when(job.ended_ms),
        "expires": when(job.expires_ms),
        "retry_of": job.retry_of,
        "error": None if job.error_code is None else {"code": job.error_code, "message": job.error},
    }
