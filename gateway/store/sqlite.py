"""The embedded database: one writer thread with group commit, a few readers.

Writing. Callers put their function into a queue; the writer thread takes whatever waits there and runs all of it
in one transaction, with one COMMIT and so one fsync for all of them. While that fsync runs the next batch gathers by
itself, so there is no timer and nothing to tune. Nobody is answered before the COMMIT has returned.

    a function raises           rare, so at first there are no savepoints, which are two statements of seven: the whole
                                batch is rolled back and run again, each function in a savepoint of its own, and only
                                what raised is undone
    busy (another process)      the whole batch is run again, within a bound, then refused
    disk full, I/O error        the whole batch is rolled back and everybody is told: nothing was written
    COMMIT itself fails         nobody knows: everybody is told so, and the connection is opened anew

After an unknown COMMIT its pages may lie in the WAL without being part of the database, and a crash could still
make them so. That is why the new connection commits something of its own before anybody reads or writes again:
the same place in the WAL then holds another commit, and what was not there stays away for good.

Durability. WAL with synchronous=FULL: the WAL is synced in every COMMIT. What expires is overwritten with zeros
(secure_delete), and its last copies leave with the WAL when it is truncated, which the writer does when it has
nothing else to do, and every five minutes.

Reading. Each reader has a read-only connection and runs one function at a time on one snapshot.
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import apsw

from gateway.core import crash
from gateway.store.database import OpenRefused, Row, StoreUnavailable, StoreUnknown

P = ParamSpec("P")
T = TypeVar("T")

BATCH_MAX = 1024
"""Functions in one transaction: bounds how long the first of them waits for the last."""
BUSY_MS = 5_000
"""How long the writer waits for another process before it refuses."""
WAL_PAGES = 8_000
"""Size at which SQLite copies the WAL back by itself, in pages of 4 KiB."""
STATEMENTS = 256
"""Prepared statements kept per connection: more than the store has."""

IDLE_S = 1.0
"""After this long without a write the WAL is copied back and truncated."""
BUSY_TIDY_S = 300.0
"""After this long the WAL is truncated between two batches, if no reader is in it."""
WAL_MODE_PAUSE_S = 0.01
DOUBT_S = 0.1
"""How often an unknown COMMIT is looked into while nobody writes."""

_NOTHING: Mapping[str, object] = {}
_PRAGMAS = (
    ("synchronous", "full"),
    ("fullfsync", "on"),  # macOS: fsync alone does not reach the disk
    ("checkpoint_fullfsync", "on"),
    ("foreign_keys", "on"),
    ("secure_delete", "on"),
    ("trusted_schema", "off"),
    ("temp_store", "memory"),  # what a savepoint must remember is short-lived and never goes to a file
    ("wal_autocheckpoint", WAL_PAGES),
)
_CANNOT_READ = "the ledger cannot be read just now; ask again with the same payment or key"
_LAST_TIME = "SELECT at_ms FROM transfers ORDER BY seq DESC LIMIT 1"
_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, at_ms INTEGER NOT NULL) STRICT
"""
_NOBODY_CAN_HAVE_IT = (
    apsw.FullError, apsw.IOError, apsw.CorruptError, apsw.ReadOnlyError, apsw.NoMemError, apsw.CantOpenError,
    apsw.NotADBError, apsw.BusyError, apsw.LockedError,
)  # fmt: skip
"""Errors that are of the database and not of the function that met them: the whole batch is rolled back."""


class Migration(NamedTuple):
    number: int
    name: str
    sql: str


class _Tx:
    """gateway.store.database.Tx over a connection."""

    __slots__ = ("_execute", "now_ms")

    def __init__(self, connection: apsw.Connection, now_ms: int) -> None:
        self._execute = connection.cursor().execute  # one cursor for all: a new one costs as much as a small statement
        self.now_ms = now_ms

    def execute(self, sql: str, params: Mapping[str, object] = _NOTHING) -> list[Row]:
        rows: list[Row] = self._execute(sql, params).fetchall()
        return rows


class _Job:
    """One function that waits, and what came of it."""

    __slots__ = ("args", "error", "fn", "future", "kwargs", "result")

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], future: asyncio.Future[Any]
    ) -> None:
        self.fn, self.args, self.kwargs, self.future = fn, args, kwargs, future
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, tx: _Tx) -> bool:
        """Whether the function went through. An error of the database itself is raised, not kept."""
        self.result = self.error = None
        try:
            self.result = self.fn(tx, *self.args, **self.kwargs)
        except _NOBODY_CAN_HAVE_IT:
            raise
        except Exception as error:  # noqa: BLE001 whatever a function raises goes to its caller, and to him alone
            self.error = error
        return self.error is None

    def answer(self) -> None:
        if self.future.done():  # its caller was cancelled; the function ran all the same
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class SqliteDatabase:
    """gateway.store.database.Database on one SQLite file. `await SqliteDatabase(...).open()` before use."""

    def __init__(
        self,
        path: Path | str,
        *,
        clock_ms: Callable[[], int],
        readers: int = 2,
        busy_ms: int = BUSY_MS,
        migrations: Sequence[Migration] | None = None,
        vfs: str | None = None,
    ) -> None:
        """`clock_ms` gives Unix milliseconds. `vfs` is an apsw VFS by name: tests break disks with it."""
        self._path, self._clock_ms, self._readers, self._busy_ms, self._vfs = str(path), clock_ms, readers, busy_ms, vfs
        self._migrations = read_migrations() if migrations is None else tuple(migrations)
        self._writes: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._now_ms = 0
        self._in_doubt = False
        self._untidy = True
        self._tidied_s = time.monotonic()
        self._closed = True

    async def open(self) -> "SqliteDatabase":
        """Opens, brings the schema up to date, starts the threads. Raises OpenRefused, StoreUnavailable."""
        refuse_unsafe(apsw.sqlite_lib_version())
        self._loop = asyncio.get_running_loop()
        self._connection = await self._loop.run_in_executor(None, self._prepare)
        self._closed = False
        self._threads = [threading.Thread(target=self._write_forever, name="store-writer", daemon=True)]
        for number in range(self._readers):
            self._threads.append(
                threading.Thread(target=self._read_forever, name=f"store-reader-{number}", daemon=True)
            )
        for thread in self._threads:
            thread.start()
        return self

    async def write(self, fn: Callable[Concatenate[_Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._queued(self._writes, fn, args, kwargs)  # type: ignore[no-any-return]

    async def read(self, fn: Callable[Concatenate[_Tx, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._queued(self._reads, fn, args, kwargs)  # type: ignore[no-any-return]

    async def truncate(self) -> bool:
        """Copies the WAL back and empties it, so that what was deleted is in no file any more. False: others read or
        write without a pause; an idle writer does it by itself."""
        return await self._loop.run_in_executor(None, self._truncate)

    def _truncate(self) -> bool:
        connection = self._connect(apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            return False
        finally:
            connection.close()
        return True

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        writer, *readers = self._threads
        for _ in readers:
            self._reads.put(None)
        for reader in readers:
            await self._loop.run_in_executor(None, reader.join)
        # The writer is last: only a connection that may write leaves no WAL behind.
        self._writes.put(None)
        await self._loop.run_in_executor(None, writer.join)

    def _queued(
        self,
        jobs: "queue.SimpleQueue[_Job | None]",
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreUnavailable("the ledger is closed")
        job = _Job(fn, args, kwargs, self._loop.create_future())
        jobs.put(job)
        return job.future

    # opening, in no thread of its own

    def _prepare(self) -> apsw.Connection:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # the WAL inherits the mode
            connection = self._connect(apsw.SQLITE_OPEN_READWRITE)
        except (apsw.Error, OSError) as error:
            raise StoreUnavailable(f"the ledger cannot be opened: {error}") from error
        try:
            self._into_wal_mode(connection)
            migrate(connection, self._migrations, self._clock_ms())
        except apsw.Error as error:
            connection.close()
            raise StoreUnavailable(f"the ledger cannot be opened: {error}") from error
        except OpenRefused:
            connection.close()
            raise
        return connection

    def _into_wal_mode(self, connection: apsw.Connection) -> None:
        """A new file's mode is changed once. SQLite does not wait for its turn there, so of several first starts at
        once all but one would be refused. Raises apsw.BusyError after `busy_ms`."""
        until = time.monotonic() + self._busy_ms / 1000
        while True:
            try:
                connection.pragma("journal_mode", "wal")
                return
            except apsw.BusyError:
                if time.monotonic() >= until:
                    raise
                time.sleep(WAL_MODE_PAUSE_S)

    def _connect(self, flags: int) -> apsw.Connection:
        connection = apsw.Connection(self._path, flags=flags, vfs=self._vfs, statementcachesize=STATEMENTS)
        connection.set_busy_timeout(self._busy_ms)
        for name, value in _PRAGMAS:
            connection.pragma(name, value)
        # Plans do not depend on what is bound. Otherwise SQLite, as the driver builds it (STAT4), plans a statement
        # anew for each new value of a range's bound: 200 us each time, several times a call.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        return connection

    # the writer's thread

    def _write_forever(self) -> None:
        stop = False
        while not stop:
            batch = self._next_batch()
            jobs = [job for job in batch if job is not None]
            stop = len(jobs) < len(batch)
            if jobs:
                self._write_batch(jobs)
                self._tell(jobs)
                if time.monotonic() - self._tidied_s > BUSY_TIDY_S:
                    self._tidy()
        with suppress(apsw.Error):  # whatever the WAL still holds is found at the next start
            self._connection.close()

    def _next_batch(self) -> list[_Job | None]:
        """Waits for a job, then takes everything else that waits. None is the last to come."""
        batch: list[_Job | None] = []
        while not batch:
            try:
                wait_s = DOUBT_S if self._in_doubt else IDLE_S if self._untidy else None
                batch.append(self._writes.get(timeout=wait_s))
            except queue.Empty:
                self._tidy()
        with suppress(queue.Empty):
            while len(batch) < BATCH_MAX and batch[-1] is not None:
                batch.append(self._writes.get_nowait())
        return batch

    def _write_batch(self, jobs: list[_Job]) -> None:
        """Gives every job its result or its error; never raises."""
        busy_until = time.monotonic() + self._busy_ms / 1000
        while True:
            try:
                self._settle_doubt()
                return self._transaction(jobs)
            except apsw.BusyError as error:
                self._roll_back()
                if time.monotonic() >= busy_until:
                    return _refuse(jobs, StoreUnavailable, error)
            except StoreUnknown as error:
                return _refuse(jobs, StoreUnknown, error)
            except Exception as error:  # noqa: BLE001 whatever it is: a writer that dies would leave everybody waiting
                self._roll_back()
                return _refuse(jobs, StoreUnavailable, error)

    def _transaction(self, jobs: list[_Job]) -> None:
        execute = self._connection.cursor().execute
        execute("BEGIN IMMEDIATE")
        # Never before what is written already, by an earlier process or another one.
        self._now_ms = max(self._now_ms, self._clock_ms(), execute(_LAST_TIME).get or 0)
        tx = _Tx(self._connection, self._now_ms)
        execute("SAVEPOINT batch")
        if not all(job.run(tx) for job in jobs):
            execute("ROLLBACK TO batch")
            for job in jobs:
                execute("SAVEPOINT job")
                if not job.run(tx):
                    execute("ROLLBACK TO job")
                execute("RELEASE job")
        crash.point("store.before_commit")
        try:
            execute("COMMIT")
        except apsw.BusyError:
            raise
        except apsw.Error as error:
            self._in_doubt = True
            raise StoreUnknown() from error
        self._untidy = True
        crash.point("store.after_commit")

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            self._in_doubt = True

    def _settle_doubt(self) -> None:
        """After an unknown COMMIT: a new connection and a commit of its own. Until both work, nothing else does."""
        if not self._in_doubt:
            return
        with suppress(apsw.Error):
            self._connection.close()
        self._connection = self._connect(apsw.SQLITE_OPEN_READWRITE)
        self._connection.execute("BEGIN IMMEDIATE; UPDATE reopenings SET count = count + 1; COMMIT")
        self._in_doubt = False

    def _tidy(self) -> None:
        """Comes back from doubt, and lets the WAL go with the last copies of what was deleted: when nobody waits, and
        now and then where somebody always does."""
        self._tidied_s = time.monotonic()
        with suppress(apsw.Error):  # tried again at the next idle moment
            self._settle_doubt()
            self._connection.set_busy_timeout(0)
            try:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._untidy = False
            finally:
                self._connection.set_busy_timeout(self._busy_ms)

    # the readers' threads

    def _read_forever(self) -> None:
        connection: apsw.Connection | None = None
        while (job := self._reads.get()) is not None:
            try:
                if self._in_doubt:
                    raise StoreUnknown
                connection = connection or self._connect(apsw.SQLITE_OPEN_READONLY)
                connection.execute("BEGIN")
                job.run(_Tx(connection, max(self._now_ms, self._clock_ms())))
                connection.execute("ROLLBACK")
            except Exception as error:  # noqa: BLE001 whatever it is: a reader that dies would leave callers waiting
                job.error = StoreUnavailable(_CANNOT_READ)
                job.error.__cause__ = error
                connection = None
            self._tell([job])
        if connection is not None:
            connection.close()

    def _tell(self, jobs: list[_Job]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and with it everybody who waited
            self._loop.call_soon_threadsafe(_answer_all, jobs)


def _answer_all(jobs: list[_Job]) -> None:
    for job in jobs:
        job.answer()


def _refuse(jobs: list[_Job], error: type[StoreUnavailable], cause: Exception) -> None:
    for job in jobs:
        job.error = error()
        job.error.__cause__ = cause  # for the operator's log; the client is told no more than the message


def refuse_unsafe(version: str) -> None:
    """Raises OpenRefused for a SQLite that can corrupt a WAL when it is reset (3.7.0 to 3.51.2)."""
    number = tuple(int(part) for part in version.split("."))
    if (3, 7, 0) <= number <= (3, 51, 2):
        raise OpenRefused(
            f"SQLite {version} can corrupt a database in WAL mode (3.7.0 to 3.51.2 do); install apsw 3.51.3 or newer"
        )


def read_migrations() -> tuple[Migration, ...]:
    """The numbered files of gateway/store/migrations, in order."""
    files = (file for file in resources.files("gateway.store").joinpath("migrations").iterdir())
    texts = {file.name: file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql")}
    return tuple(Migration(int(name[:4]), name, texts[name]) for name in sorted(texts))


def migrate(connection: apsw.Connection, migrations: Sequence[Migration], now_ms: int) -> None:
    """Runs what this file does not have yet, each in a transaction with its own record: a crash resumes there.

    Raises OpenRefused when the file has a migration that is not among `migrations`.
    """
    connection.execute(_MIGRATIONS_TABLE)
    ours = {migration.number: migration.name for migration in migrations}
    for migration in migrations:
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = {row[0]: row[1] for row in connection.execute("SELECT number, name FROM migrations")}
            if unknown := [name for number, name in done.items() if ours.get(number) != name]:
                raise OpenRefused(f"this database has {unknown[0]}, unknown to this version; install a newer one")
            if migration.number not in done:
                connection.execute(migration.sql)
                crash.point("store.in_migration")
                connection.execute(
                    "INSERT INTO migrations (number, name, at_ms) VALUES (:number, :name, :at_ms)",
                    {"number": migration.number, "name": migration.name, "at_ms": now_ms},
                )
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
