"""What every command shares: the terminal, the settings, and words for errors.

Answers go to standard output, everything about the way there to standard error.
"""

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import orjson
import typer

from gateway.core.errors import TABLE, Problem, SettingsError

if TYPE_CHECKING:
    from rich.console import Console

    from gateway.settings import Settings

DEFAULT_CONFIG = Path("faregate.toml")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="FAREGATE_CONFIG", help="The configuration; ./faregate.toml if there is one."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

WRONG, MISUSED, MONEY, UNDER_WAY, OURS = 1, 2, 3, 4, 5
NO_ANSWER = OURS
"""Of somebody else's server."""


def read_settings(config: Path | None, *, whole: bool = False) -> "Settings":
    """The settings; `whole` also looks into what is sold, and loads it. Raises SettingsError."""
    from gateway.settings import load

    path = config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    if not whole:
        return load(path, os.environ)
    from gateway.assemble import mistakes

    return load(path, os.environ, also=mistakes)


def say(text: str = "") -> None:
    typer.echo(text)


def note(text: str) -> None:
    typer.echo(text, err=True)


def say_body(body: bytes) -> None:
    """What another server answered: JSON over lines, anything else as text."""
    try:
        text = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    except ValueError:
        text = body.decode("utf-8", "replace")
    say(plain(text, keep="\n"))


def plain(text: str, keep: str = "") -> str:
    """What another server wrote, without what would steer a terminal."""
    return "".join(char if char.isprintable() or char in keep else "?" for char in text)


def fail(text: str, status: int = WRONG) -> NoReturn:
    note(text)
    raise typer.Exit(status)


def console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Rows in columns, each as wide as it must be: nothing is cut or wrapped. Columns in `right` hold amounts."""
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    amounts = set(right)
    for line in lines:
        cells = [
            cell.rjust(width) if place in amounts else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


def tell(error: Exception) -> int | None:
    """Prints an error that has words for whoever sits at the terminal; its exit status, or None for any other."""
    match error:
        case SettingsError():
            count = len(error.mistakes)
            note(f"The configuration has {count} mistake{'s' if count > 1 else ''}:")
            for mistake in error.mistakes:
                note(f"  - {mistake}")
            return MISUSED
        case Problem():
            note(f"{error.message} ({error.code})")
            return TABLE[error.code].exit
        case OSError(errno=errno.EADDRINUSE):
            note(f"{error.strerror}: stop what listens there, or choose another port")
            return OURS
        case OSError():
            what = error.strerror or str(error)
            note(f"{error.filename}: {what}" if error.filename is not None else what)
            return OURS
    return _tell_of_files(error)


def _tell_of_files(error: Exception) -> int | None:
    from gateway.store.database import OpenRefused
    from upstreams.directory.database import DirectoryError
    from upstreams.directory.reading import LoadError

    if isinstance(error, OpenRefused | DirectoryError | LoadError):
        note(str(error))
        return OURS if isinstance(error, OpenRefused) else WRONG
    return None
