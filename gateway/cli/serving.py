"""`faregate serve`: the gateway, until SIGTERM or Ctrl-C."""

import gc
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway.cli import terminal

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from gateway.assemble import Gateway
    from gateway.edge.server import ServerLimits
    from gateway.settings import Settings

LogFormat = Literal["auto", "json", "console"]


def serve(
    config: terminal.Config = None,
    log: Annotated[LogFormat, typer.Option(help="How to log: JSON for machines, console for people.")] = "auto",
    log_level: Annotated[Literal["debug", "info", "warning", "error"], typer.Option(help="What to log.")] = "info",
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Calls in flight are finished first.
    """
    import sys

    from gateway.edge import logs

    settings = terminal.read_settings(config, whole=True)
    form: Literal["json", "console"] = log if log != "auto" else "console" if sys.stderr.isatty() else "json"
    logs.configure(form, log_level)
    arm_crash_point(os.environ.get("FAREGATE_CRASH_AT"))
    run(settings, ready=tell_ready if form == "console" else log_ready)


def run(settings: "Settings", *, ready: "Callable[[str, Gateway], None]") -> None:
    """Serves the gateway of these settings; `ready` hears the URL once it answers. Raises as assemble does; OSError
    when the port is taken."""
    from gateway.assemble import assemble
    from gateway.edge import server

    opened: list[Gateway] = []

    @asynccontextmanager
    async def gateway() -> "AsyncIterator[ASGIApp]":
        async with assemble(settings) as whole:
            opened.append(whole)
            _collect_less()
            yield whole.app

    server.run(
        gateway,
        settings.service.host,
        settings.service.port,
        limits=limits_of(settings),
        refused=lambda reason: opened[0].metrics.refused(reason) if opened else None,
        ready=lambda url: ready(url, opened[0]),
    )


def _collect_less() -> None:
    """What was opened stays to the end: the collector need not look through it again and again, which stops every call
    for as long as it takes. Requests leave hardly anything for it, so it comes more rarely as well."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def limits_of(settings: "Settings") -> "ServerLimits":
    from gateway.edge.server import ServerLimits

    return ServerLimits(
        connections_max=settings.limits.connections,
        head_bytes_max=settings.limits.header_bytes,
        head_deadline_s=settings.limits.header_timeout_s,
    )


def tell_ready(url: str, gateway: "Gateway") -> None:
    settings = gateway.settings
    selling = len(gateway.catalogue.operations)
    terminal.note(f"{settings.service.name} answers at {url}, known as {settings.service.origin}")
    terminal.note(f"{selling} operation{'' if selling == 1 else 's'} on sale; settlement: {settings.settlement.kind}")
    if settings.sandbox:
        terminal.note("SANDBOX: payments here are play money.")
    if settings.settlement.kind == "none":
        terminal.note("No settlement is configured: only agents with a balance can pay.")
    if not selling:
        terminal.note("Nothing is on sale yet: load a directory (`faregate directory load people.csv`) or add one of "
                      "your APIs as [[http_upstreams]].")  # fmt: skip


def log_ready(url: str, gateway: "Gateway") -> None:
    """The same for machines: one line of the log."""
    import structlog

    structlog.get_logger("gateway").info(
        "ready",
        listening=url,
        known_as=gateway.settings.service.origin,
        settlement=gateway.settings.settlement.kind,
        sandbox=gateway.settings.sandbox,
        operations=[operation.id for operation in gateway.catalogue.operations],
    )


def arm_crash_point(wanted: str | None) -> None:
    """`FAREGATE_CRASH_AT=hold.after:3` kills this process the third time it comes by that point: for tests alone."""
    if not wanted:
        return
    from gateway.core import crash

    name, _, count = wanted.partition(":")
    if name not in crash.POINTS or not (count or "1").isdigit():
        terminal.fail(f"FAREGATE_CRASH_AT: {wanted} is no crash point; there are {', '.join(sorted(crash.POINTS))}", 2)
    left = int(count or 1)

    def reached(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    crash.arm(reached)
