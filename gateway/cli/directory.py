"""`faregate directory`: the operator's own records, loaded from a file."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal

if TYPE_CHECKING:
    from gateway.settings import Settings
    from upstreams.directory.loading import LoadReport, Preview

app = typer.Typer(no_args_is_help=True, help="Your own records, sold by enrich/phone and enrich/person.")

REJECTED_SHOWN = 20


@app.command("load")
def load(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, TSV or JSON lines.")],
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="HEADER=FIELD", help="What a column holds; given once, nothing is guessed."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Keep the rows under this name, which buyers see; the file's own otherwise.")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Between columns; guessed otherwise.")] = None,
    yes: terminal.Yes = False,
    config: terminal.Config = None,
) -> None:
    """Load a file. What each column is taken for is shown first; the same file again replaces its own rows."""
    from upstreams.directory import loading

    settings = terminal.read_settings(config)
    mapping = _mapping(column)
    preview = loading.preview(file, delimiter=delimiter)
    _show(preview, preview.mapping if mapping is None else mapping)
    if not yes and _interactive():
        typer.confirm("Load it so?", default=True, abort=True, err=True)
    with _progress(file) as progress:
        report = loading.load(
            file,
            path_of(settings),
            progress=progress,
            mapping=mapping,
            delimiter=delimiter,
            source=source,
            default_region=settings.directory.default_region,
        )
    _tell(report)
    if not report.loaded:
        raise typer.Exit(terminal.WRONG)


@app.command("stats")
def stats(config: terminal.Config = None, as_json: terminal.AsJson = False) -> None:
    """Show how much the directory holds."""
    from upstreams.directory.database import stats as count

    path = path_of(terminal.read_settings(config))
    if not path.exists():
        terminal.fail(f"there is no directory at {path} yet: `faregate directory load people.csv`")
    held = count(path)
    if as_json:
        terminal.say(json.dumps(held))
        return
    rows = [(name, f"{number:,}") for name, number in held.items() if isinstance(number, int)]
    terminal.table(("directory", str(path)), rows, right=(1,))
    terminal.table(("source", "rows"), [(name, f"{rows:,}") for name, rows in held["sources"].items()], right=(1,))


def path_of(settings: "Settings") -> Path:
    """Where the directory lies: as gateway/assemble.py has it."""
    return settings.directory.path or settings.store.path.parent / "directory.db"


def _mapping(columns: Sequence[str] | None) -> Mapping[str, str] | None:
    if not columns:
        return None
    pairs = [column.rpartition("=") for column in columns]
    for header, equals, field in pairs:
        if not header or not equals or not field:
            terminal.fail(f"--column {header or field}: write HEADER=FIELD, as 'Home Phone=phone'", terminal.MISUSED)
    return {header: field for header, _, field in pairs}


def _show(preview: "Preview", mapping: Mapping[str, str]) -> None:
    rows = []
    for place, header in enumerate(preview.headers):
        values = [row[place] for row in preview.sample if place < len(row) and row[place]]
        rows.append((header, mapping.get(header, "(left out)"), ", ".join(values[:2])[:60]))
    terminal.table(("column", "taken for", "such as"), rows)


def _interactive() -> bool:
    import sys

    return sys.stdin.isatty()


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(file.name, total=file.stat().st_size)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(report: "LoadReport") -> None:
    for line, reason in report.rejected[:REJECTED_SHOWN]:
        terminal.note(f"line {line}: {reason}")
    if report.rejected_rows > REJECTED_SHOWN:
        terminal.note(f"... and {report.rejected_rows - REJECTED_SHOWN:,} more rows that could not be read")
    if report.notes:
        line, reason = report.notes[0]
        terminal.note(
            f"{len(report.notes):,} values were left out of rows that were loaded, the first in line {line}: {reason}"
        )
    if report.latin1_lines:
        terminal.note(f"{report.latin1_lines:,} lines are no UTF-8 and were read as Latin-1")
    terminal.say(
        f"{report.loaded:,} of {report.rows:,} rows loaded as {report.source} in {report.elapsed_s:.1f} s"
        + (f", in place of {report.replaced:,} earlier ones" if report.replaced else "")
    )
