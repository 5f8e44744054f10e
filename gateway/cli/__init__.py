"""The command line: parse, call, print. What is done stands elsewhere; here is how it is asked for and told.

Each command imports what it needs when it runs, so that `faregate --help` does not load a chain library. Exit status:
0 done, 1 something the command looked for is wrong, 2 the command or the configuration is wrong, 3 to 5 as the error
table of core/errors.py has it.
"""

import sys

import typer

from gateway import __version__
from gateway.cli import (
    actions,
    agents,
    books,
    catalogue,
    checking,
    demo,
    deposits,
    directory,
    init,
    jobs,
    margins,
    paying,
    providers,
    serving,
    statement,
    subject,
    terminal,
    tickets,
    webhooks,
)

app = typer.Typer(
    name="faregate",
    help="A payment gateway one person can host: a price on API calls, kept only on a match.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("serve")(serving.serve)
app.command("demo")(demo.demo)
app.command("check")(checking.check)
app.command("operations")(catalogue.operations)
app.command("audit")(books.audit)
app.command("backup")(books.backup)
app.command("margins")(margins.margins)
app.command("providers")(providers.providers)
app.command("statement")(statement.statement)
app.command("pay")(paying.pay)
app.add_typer(agents.app, name="agents")
app.add_typer(actions.app, name="actions")
app.add_typer(books.charges, name="charges")
app.add_typer(deposits.app, name="deposits")
app.add_typer(directory.app, name="directory")
app.add_typer(jobs.app, name="jobs")
app.add_typer(subject.app, name="subject")
app.add_typer(tickets.app, name="tickets")
app.add_typer(webhooks.app, name="webhooks")


def _version(wanted: bool) -> None:
    if wanted:
        terminal.say(f"faregate {__version__}")
        raise typer.Exit


@app.callback()
def faregate(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def main() -> None:
    """The `faregate` command. Errors that an operator can mend are told in a line; anything else is a bug, with its
    trace."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        status = terminal.tell(error)
        if status is None:
            raise
        sys.exit(status)
