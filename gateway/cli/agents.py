"""`faregate agents`: who may buy from a balance, and how much is on it. Works beside a running gateway."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.cli import terminal

if TYPE_CHECKING:
    from gateway.core.transfer import Kind
    from gateway.settings import Settings
    from gateway.store.agents import Agent
    from gateway.store.database import Database, Tx
    from gateway.store.sqlite import SqliteDatabase
    from gateway.store.usage_keys import UsageKey

T = TypeVar("T")

LABEL_MAX = 100

app = typer.Typer(
    no_args_is_help=True,
    help="Agents with a prepaid balance: create, list, show, credit, token, keys, revoke, freeze, unfreeze.",
)

Usd = Annotated[str | None, typer.Option(metavar="USD", help='An amount, as "5.00".')]


def with_database(config: Path | None, work: "Callable[[Settings, SqliteDatabase], Awaitable[T]]") -> T:
    """Opens the ledger of this configuration for one piece of work."""
    settings = terminal.read_settings(config)

    async def opened() -> T:
        from gateway.assemble import open_database

        db = await open_database(settings)
        try:
            return await work(settings, db)
        finally:
            await db.close()

    return asyncio.run(opened())


def micros(text: str, what: str = "amount") -> int:
    from gateway.core.money import MoneyError, parse_usd

    try:
        amount = parse_usd(text)
    except MoneyError as error:
        terminal.fail(f"{what}: {error}", terminal.MISUSED)
    if amount == 0:
        terminal.fail(f"{what}: it is zero; nothing would change", terminal.MISUSED)
    return amount


@app.command("create")
def create(
    label: Annotated[str, typer.Argument(help="A name by which you know this agent.")],
    credit: Usd = None,
    grant: Annotated[str | None, typer.Option(metavar="USD", help="Bonus money, spent after own money.")] = None,
    config: terminal.Config = None,
) -> None:
    """Create an agent. Its token is printed once and kept nowhere."""
    from gateway.core.transfer import Kind

    if not 0 < len(label.strip()) <= LABEL_MAX or not label.isprintable():
        terminal.fail(f"label: a name of 1 to {LABEL_MAX} printable characters", terminal.MISUSED)
    amounts = [(Kind.CREDIT, micros(credit, "--credit"))] if credit else []
    amounts += [(Kind.GRANT, micros(grant, "--grant"))] if grant else []

    async def work(settings: "Settings", db: "Database") -> tuple[str, str]:
        return await new_agent(db, settings.service.token_prefix, label, amounts)

    agent_id, token = with_database(config, work)
    terminal.say(f"agent  {agent_id}")
    terminal.say(f"token  {token}")
    terminal.note("Keep the token: it is not stored and cannot be shown again.")


async def new_agent(
    db: "Database", token_prefix: str, label: str, amounts: "Sequence[tuple[Kind, int]]"
) -> tuple[str, str]:
    """An agent with one token and this money (micro-USD) -> (its id, the token)."""
    from gateway.store import agents

    agent_id = new_id("agt_")
    credits = [(kind, amount, new_id("crd_")) for kind, amount in amounts]

    def write(tx: "Tx") -> str:
        agents.create(tx, agent_id, label)
        for kind, amount, credit_id in credits:
            agents.credit(tx, agent_id, amount, kind, "at creation", credit_id)
        return _add_token(tx, agent_id, token_prefix)

    return agent_id, await db.write(write)


def _add_token(tx: "Tx", agent_id: str, token_prefix: str) -> str:
    """A further token of this agent, which is nowhere but in the answer."""
    from gateway.core import ids
    from gateway.core.agent import TokenKind
    from gateway.store import agents

    token = ids.new_token(f"{token_prefix}_", os.urandom(ids.ENTROPY_TOKEN_BYTES))
    agents.add_token(tx, new_id("tok_"), agent_id, TokenKind.ADMIN, ids.token_hash(token), ids.token_hint(token))
    return token


@app.command("list")
def listing(config: terminal.Config = None, as_json: terminal.AsJson = False) -> None:
    """List all agents with their balances."""
    from gateway.store import agents

    async def work(settings: "Settings", db: "Database") -> "list[Agent]":
        return await db.read(agents.listing)

    rows = [_row(agent) for agent in with_database(config, work)]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        terminal.table(list(rows[0]), [list(map(str, row.values())) for row in rows], right=(5, 6, 7, 8))
    else:
        terminal.note("There are no agents yet: `faregate agents create LABEL --credit 5.00`")


def _row(agent: "Agent") -> dict[str, object]:
    from gateway.core.answer import iso
    from gateway.core.money import format_usd

    balance = agent.balance
    return {
        "agent": agent.id,
        "label": agent.label,
        "status": agent.status.value,
        "created": iso(agent.created_ms),
        "tokens": agent.tokens,
        "keys": agent.keys,
        "available_usd": format_usd(balance.available),
        "held_usd": format_usd(balance.held + balance.bonus_held),
        "bonus_usd": format_usd(balance.bonus),
        "debt_usd": format_usd(balance.debt),
    }


@app.command("credit")
def credit(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT")],
    amount: Annotated[str, typer.Argument(metavar="USD", help='As "5.00".')],
    bonus: Annotated[bool, typer.Option("--bonus", help="As bonus money, spent after own money.")] = False,
    message: Annotated[str, typer.Option("--note", help="For the books: why.")] = "",
    credit_id: Annotated[
        str | None, typer.Option("--id", help="Your own id of this credit: the same id never credits twice.")
    ] = None,
    config: terminal.Config = None,
) -> None:
    """Put money on an agent's balance."""
    from gateway.core.errors import Conflict
    from gateway.core.money import format_usd
    from gateway.core.transfer import Kind
    from gateway.store import agents

    amount_micros = micros(amount, "USD")
    kind = Kind.GRANT if bonus else Kind.CREDIT

    async def work(settings: "Settings", db: "Database") -> "agents.Balance":
        def write(tx: "Tx") -> "agents.Balance":
            require_agent(tx, agent_id)
            agents.credit(tx, agent_id, amount_micros, kind, message, credit_id or new_id("crd_"))
            return agents.balance(tx, agent_id)

        return await db.write(write)

    try:
        balance = with_database(config, work)
    except Conflict:
        terminal.fail(f"--id: {credit_id} was another credit; nothing was changed", 4)
    terminal.say(f"{agent_id} has ${format_usd(balance.available)} of its own and ${format_usd(balance.bonus)} bonus")


@app.command("token")
def token(agent_id: Annotated[str, typer.Argument(metavar="AGENT")], config: terminal.Config = None) -> None:
    """Issue a further token, as after `revoke`. It is printed once and kept nowhere."""

    async def work(settings: "Settings", db: "Database") -> str:
        def write(tx: "Tx") -> str:
            require_agent(tx, agent_id)
            return _add_token(tx, agent_id, settings.service.token_prefix)

        return await db.write(write)

    terminal.say(f"token  {with_database(config, work)}")
    terminal.note("Keep the token: it is not stored and cannot be shown again.")


@app.command("keys")
def keys(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT")],
    every: Annotated[bool, typer.Option("--all", help="The revoked ones too.")] = False,
    config: terminal.Config = None,
    as_json: terminal.AsJson = False,
) -> None:
    """List an agent's usage keys: what each may do, and how much of its cap is used."""
    from gateway.store import usage_keys

    async def work(settings: "Settings", db: "Database") -> "list[UsageKey]":
        def look(tx: "Tx") -> "list[UsageKey]":
            require_agent(tx, agent_id)
            ended = usage_keys.revoked(tx, agent_id, limit=10_000, since_ms=0) if every else []
            return sorted([*usage_keys.of_agent(tx, agent_id), *ended], key=lambda key: key.id)

        return await db.read(look)

    rows = [_key_row(key) for key in with_database(config, work)]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        terminal.table(
            list(rows[0]), [["" if v is None else str(v) for v in row.values()] for row in rows], right=(5, 7)
        )
    else:
        terminal.note("This agent has no such keys.")


def _key_row(key: "UsageKey") -> dict[str, object]:
    from gateway.core.answer import iso
    from gateway.core.money import format_usd

    cap = key.use.cap
    return {
        "key": key.id,
        "hint": key.hint,
        "label": key.terms.label,
        "status": key.status,
        "scopes": " ".join(key.terms.scopes),
        "cap_usd": format_usd(cap.micros) if cap else None,
        "period": cap.period.value if cap else None,
        "used_usd": format_usd(key.use.used_micros),
        "expires": iso(key.terms.expires_ms) if key.terms.expires_ms else None,
        "last_used": iso(key.last_used_ms) if key.last_used_ms else None,
    }


@app.command("revoke")
def revoke(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT")],
    key_id: Annotated[str | None, typer.Option("--key", metavar="KEY", help="This usage key alone.")] = None,
    yes: terminal.Yes = False,
    config: terminal.Config = None,
) -> None:
    """Revoke every token and usage key of an agent, or one key. Its balance stays; calls under way end well, and jobs
    that a key has handed in and nobody has begun are cancelled."""
    from gateway.core.errors import Code, Problem
    from gateway.flows.jobs import revoke_key
    from gateway.flows.webhooks import job_ended
    from gateway.store import agents, usage_keys

    async def work(settings: "Settings", db: "Database") -> tuple[int, int]:
        told = partial(job_ended, origin=settings.service.origin)
        ttl_ms = settings.jobs.result_ttl_hours * 3_600_000

        def write(tx: "Tx") -> tuple[int, int]:
            require_agent(tx, agent_id)
            if key_id is not None and usage_keys.find(tx, agent_id, key_id) is None:
                raise Problem(Code.NOT_FOUND, f"{agent_id} has no key {key_id}; `faregate agents keys` shows all")
            ending = [key_id] if key_id is not None else [key.id for key in usage_keys.of_agent(tx, agent_id)]
            for each in ending:
                revoke_key(tx, agent_id, each, ttl_ms, told)
            return (agents.revoke(tx, agent_id) if key_id is None else 0), len(ending)

        return await db.write(write)

    if not yes:
        what = f"usage key {key_id}" if key_id is not None else "every token and usage key"
        typer.confirm(f"Revoke {what} of {agent_id}?", abort=True, err=True)
    tokens, keys = with_database(config, work)
    if key_id is None:
        terminal.say(f"{tokens} token{'' if tokens == 1 else 's'} revoked")
    if keys:
        terminal.say(f"{keys} usage key{'' if keys == 1 else 's'} revoked")


Why = Annotated[str, typer.Option("--note", help="For the operator's log: why.")]


@app.command("freeze")
def freeze(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT")],
    message: Why = "",
    yes: terminal.Yes = False,
    config: terminal.Config = None,
) -> None:
    """Let an agent buy nothing more. What it has under way ends well, and it may still ask about everything it has.

    Its jobs in the queue are not begun: unfrozen in time they are, else they end at their deadline and cost nothing.
    """
    if not yes:
        typer.confirm(f"Freeze {agent_id}?", abort=True, err=True)
    _set_status(agent_id, "frozen", message, config)
    terminal.say(f"{agent_id} is frozen")


@app.command("unfreeze")
def unfreeze(
    agent_id: Annotated[str, typer.Argument(metavar="AGENT")], message: Why = "", config: terminal.Config = None
) -> None:
    """Let a frozen agent buy again, with the tokens it has."""
    _set_status(agent_id, "active", message, config)
    terminal.say(f"{agent_id} is active")


def _set_status(agent_id: str, status: str, message: str, config: Path | None) -> None:
    from gateway.core.agent import Status
    from gateway.store import agents

    async def work(settings: "Settings", db: "Database") -> None:
        def write(tx: "Tx") -> None:
            require_agent(tx, agent_id)
            agents.set_status(tx, agent_id, Status(status), message)

        await db.write(write)

    with_database(config, work)


def require_agent(tx: "Tx", agent_id: str) -> None:
    """Raises Problem NOT_FOUND."""
    from gateway.core.errors import Code, Problem
    from gateway.store import agents

    if agents.find(tx, agent_id) is None:
        raise Problem(Code.NOT_FOUND, f"there is no agent {agent_id}; `faregate agents list` shows all")


def new_id(prefix: str) -> str:
    from gateway.core import ids

    return ids.new_id(prefix, time.time_ns() // 1_000_000, os.urandom(ids.ENTROPY_ID_BYTES))
