"""The seam between plain store functions and a database.

A store function is `fn(tx, ...)`: plain, synchronous, deterministic, no side effect but through `tx`; it may be run
again from the start, when the database was busy or another function in the same batch has raised. Everything it
executes is one transaction: all of it is written, or (when it raises) none of it. SQL is text with `:name` parameters,
in the subset that SQLite and PostgreSQL share.
"""

from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from gateway.core.errors import Code, Problem

P = ParamSpec("P")
T = TypeVar("T")

Row = tuple[Any, ...]
"""One row, columns in the order of the SELECT."""

_NOTHING: Mapping[str, object] = {}


class Tx(Protocol):
    """One transaction."""

    now_ms: int
    """Unix milliseconds, fixed for the whole transaction; in writes it never goes backwards."""

    def execute(self, sql: str, params: Mapping[str, object] = _NOTHING) -> list[Row]:
        """Runs one statement to its end and answers its rows."""
        ...


class Database(Protocol):
    async def write(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `fn(tx, *args, **kwargs)` and answers when it is durable.

        What `fn` raises comes out here, and nothing of it was written. Raises StoreUnavailable when the database
        could not take it (nothing was written) and StoreUnknown when nobody knows whether it was. A caller that is
        cancelled is not waited for: its function runs all the same.
        """
        ...

    async def read(self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `fn` on one snapshot that holds every write answered before. Raises StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Finishes what waits, then lets go of the files. Using the database afterwards raises StoreUnavailable."""
        ...


class StoreUnavailable(Problem):
    """The database cannot do it now; nothing was written."""

    def __init__(
        self, message: str = "the ledger cannot be written just now; ask again with the same payment or key"
    ) -> None:
        super().__init__(Code.STORE_UNAVAILABLE, message, retry_after_s=5)


class StoreUnknown(StoreUnavailable):
    """The commit itself failed: whether it was written shows when the database is read again."""

    def __init__(self) -> None:
        super().__init__("the ledger failed while writing; ask again with the same payment or key before you pay anew")


class OpenRefused(Exception):
    """This file must not be opened by this program: a newer version wrote it, or the SQLite in use is unsafe."""
