"""Loading a file into the directory: read, shape, store, in one transaction.

The rows are shaped here where their columns come split, which takes some 10 us each. An odd name or address takes
two parsers of 0.2 ms each: such rows go to worker processes in batches, a few batches in flight, so that memory
stays level whatever the size of the file. Their order of arrival means nothing: a row is named by its line.

The whole load is one transaction, so a gateway that is running answers from the old rows until the new ones are all
there, and a load that is broken off leaves the old ones.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import apsw

from upstreams.directory import firms, listing, names, places
from upstreams.directory.database import DirectoryError, open_writer
from upstreams.directory.mapping import FIELDS, guess_mapping, looks_like_data
from upstreams.directory.reading import LoadError, Table
from upstreams.directory.records import Record, RowProblem, Shaper, shape_many

REPORTED_MAX = 1_000
"""Rejected lines that are told one by one; all of them are counted."""
_BATCH_ROWS = 400
_PROGRESS_ROWS = 2_000

Problem = tuple[int, str]
"""(line number, why)."""
_KEYS = frozenset({"name", "last", "company", "phone", "old_phone", "email", "street", "address"})
"""A file without any of these fields holds nobody."""
_Odd = tuple[int, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be loaded: shown before the load. `sample` holds the first readable rows."""

    headers: tuple[str, ...]
    mapping: Mapping[str, str]
    """{header: field}; a header that is not in it is left out."""
    sample: tuple[tuple[str, ...], ...]
    delimiter: str | None
    """None for JSON lines."""


@dataclass(slots=True)
class LoadReport:
    """What came of a load: `rows` = `loaded` + `rejected_rows`; line numbers count from 1, the header is one."""

    source: str
    mapping: Mapping[str, str]
    delimiter: str | None
    rows: int = 0
    loaded: int = 0
    rejected: list[Problem] = field(default_factory=list)
    """The first `REPORTED_MAX` rows that could not be loaded."""
    rejected_rows: int = 0
    notes: list[Problem] = field(default_factory=list)
    """The first `REPORTED_MAX` values that were left out of rows that were loaded."""
    latin1_lines: int = 0
    """Lines that were no UTF-8 and were read as Latin-1."""
    replaced: int = 0
    """Rows of an earlier load of the same file that gave way."""
    elapsed_s: float = 0.0

    def reject(self, line: int, reason: str) -> None:
        self.rejected_rows += 1
        if len(self.rejected) < REPORTED_MAX:
            self.rejected.append((line, reason))

    def note(self, line: int, reasons: Sequence[str]) -> None:
        for reason in reasons[: REPORTED_MAX - len(self.notes)]:
            self.notes.append((line, reason))


def preview(path: Path, *, delimiter: str | None = None) -> Preview:
    """Headers, guessed mapping and first rows of a file. Raises LoadError."""
    with Table(path, delimiter) as table:
        sample = tuple(tuple(row) for row in table.sample)
        return Preview(tuple(table.headers), guess_mapping(table.headers, sample), sample, table.delimiter)


def load(
    path_csv: Path,
    database_path: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: int | None = None,
    mapping: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    source: str | None = None,
    default_region: str = "US",
) -> LoadReport:
    """A CSV, TSV or JSON lines file -> the directory. The same file again replaces its own rows, nothing else.

    `progress(bytes read, bytes in all)` is called every few thousand rows. `workers` is the number of processes for
    the slow parsers: one per core by default, 0 for none; they are started only when enough odd rows turn up.
    `mapping` ({header: field}) takes the place of the guess. `source` is the name under which the rows are kept, the
    file's own by default. Raises LoadError, DirectoryError; a row that cannot be read is reported, never raised.
    """
    started = time.monotonic()
    with Table(path_csv, delimiter) as table:
        columns = _checked(table, mapping)
        report = LoadReport(source or path_csv.name, columns, table.delimiter)
        shaper = Shaper.of(table.headers, columns, default_region)
        processes = os.cpu_count() or 1 if workers is None else workers
        with _writing(database_path) as connection, _Parsers(shaper, processes) as parsers:
            storage = _Storage(connection, report)
            for line, record in _shaped(table, shaper, parsers, report):
                storage.add(line, record)
                if report.rows % _PROGRESS_ROWS == 0:
                    progress(table.bytes_read, table.size_bytes)
            storage.finish()
        report.rejected.sort()
        report.notes.sort()
        report.latin1_lines = table.latin1_lines
        progress(table.size_bytes, table.size_bytes)
    report.elapsed_s = time.monotonic() - started
    return report


@contextmanager
def _writing(path: Path) -> Iterator[apsw.Connection]:
    """One load's transaction. SQLite's errors that an operator can mend come out as DirectoryError."""
    connection = open_writer(path)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    except apsw.BusyError:
        raise DirectoryError(f"{path} is being loaded by another process: try again later") from None
    except (apsw.FullError, apsw.IOError, apsw.CorruptError) as error:
        raise DirectoryError(f"{path} cannot be written, nothing was loaded: {error}") from None
    except BrokenProcessPool:
        raise DirectoryError("a worker process died, nothing was loaded: is there memory enough?") from None
    finally:
        connection.close()  # without a COMMIT this rolls back


def _checked(table: Table, mapping: Mapping[str, str] | None) -> Mapping[str, str]:
    """The mapping to load by: the operator's, else the guess. Raises LoadError where it leads nowhere."""
    if mapping is None:
        if not table.jsonl and looks_like_data(table.headers):
            raise LoadError("the first line looks like a row: put a header above it, such as first,last,phone,street")
        mapping = guess_mapping(table.headers, table.sample)
    for header, column in mapping.items():
        if header not in table.headers:
            raise LoadError(f"the file has no column {header!r}; its columns are {', '.join(table.headers)}")
        if column not in FIELDS:
            raise LoadError(f"{column!r} is no field; the fields are {', '.join(sorted(FIELDS))}")
    if not _KEYS & set(mapping.values()):
        raise LoadError(f"no column is a name, phone, email or street; the columns are {', '.join(table.headers)}")
    return mapping


def _shaped(table: Table, shaper: Shaper, parsers: "_Parsers", report: LoadReport) -> Iterator[tuple[int, Record]]:
    """Every row that can be loaded, shaped; the others go into the report."""
    for line, cells in table.rows():
        report.rows += 1
        if isinstance(cells, str):
            report.reject(line, cells)
            continue
        try:
            record = shaper.shape(cells, thorough=False)
        except RowProblem as problem:
            report.reject(line, str(problem))
            continue
        if record is not None:
            yield line, record
        else:
            yield from _accepted(parsers.add(line, cells), report)
    yield from _accepted(parsers.rest(), report)


def _accepted(done: Iterator[tuple[int, Record | str]], report: LoadReport) -> Iterator[tuple[int, Record]]:
    for line, record in done:
        if isinstance(record, str):
            report.reject(line, record)
        else:
            yield line, record


class _Parsers:
    """The worker processes for odd rows. They are started with the second batch: a few odd rows are parsed here."""

    def __init__(self, shaper: Shaper, workers: int) -> None:
        self._shaper = shaper
        self._workers = workers
        self._batch: list[_Odd] = []
        self._pool: ProcessPoolExecutor | None = None
        self._running: deque[Future[list[tuple[int, Record | str]]]] = deque()

    def __enter__(self) -> "_Parsers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, line: int, cells: Sequence[str]) -> Iterator[tuple[int, Record | str]]:
        """Takes one odd row; gives back whatever must be stored before more may come in."""
        self._batch.append((line, cells))
        if len(self._batch) >= _BATCH_ROWS:
            yield from self._send()

    def rest(self) -> Iterator[tuple[int, Record | str]]:
        if self._batch and self._pool is not None:
            yield from self._send()
        while self._running:
            yield from self._running.popleft().result()
        yield from shape_many(self._shaper, self._batch)
        self._batch = []

    def _send(self) -> Iterator[tuple[int, Record | str]]:
        batch, self._batch = self._batch, []
        if self._workers == 0:
            yield from shape_many(self._shaper, batch)
            return
        if self._pool is None:
            # Spawned: a fork of a process with threads may hang.
            self._pool = ProcessPoolExecutor(self._workers, mp_context=get_context("spawn"))
        self._running.append(self._pool.submit(shape_many, self._shaper, batch))
        while self._running and (self._running[0].done() or len(self._running) > 4 * self._workers):
            yield from self._running.popleft().result()


_INSERT_PERSON = "INSERT INTO person VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
_INSERT_PHONE = "INSERT OR IGNORE INTO phone VALUES(?,?,?)"
_INSERT_EMAIL = "INSERT INTO email VALUES(?,?)"
_INSERT_FINDER = "INSERT INTO finder(rowid, last, first, area, trait) VALUES(?,?,?,?,?)"
_INSERT_LAST_NAME = "INSERT OR IGNORE INTO last_name VALUES(?)"
_FLUSH_ROWS = 5_000


class _Storage:
    """Records into the tables, some thousands at a time, within the transaction that is open."""

    def __init__(self, connection: apsw.Connection, report: LoadReport) -> None:
        self._connection = connection
        self._report = report
        report.replaced = self._clear(report.source)
        self._source: int = connection.execute(
            "INSERT INTO source(name, loaded_ms, rows) VALUES(?, ?, 0) RETURNING id",
            (report.source, time.time_ns() // 10**6),
        ).get
        self._next_id: int = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM person").get
        self._persons: list[tuple[object, ...]] = []
        self._phones: list[tuple[str, int, int]] = []
        self._emails: list[tuple[str, int]] = []
        self._finder: list[tuple[int, str, str, str, str]] = []
        self._last_names: set[str] = set()

    def _clear(self, source: str) -> int:
        """Takes out what an earlier load of this source left; how many rows."""
        run = self._connection.execute
        old = run("SELECT id FROM source WHERE name = ?", (source,)).get
        if old is None:
            return 0
        if run("SELECT count(*) FROM source").get == 1:
            return self._empty()
        run("DELETE FROM finder WHERE rowid IN (SELECT id FROM person WHERE source = ?)", (old,))
        run("DELETE FROM phone WHERE person IN (SELECT id FROM person WHERE source = ?)", (old,))
        run("DELETE FROM email WHERE person IN (SELECT id FROM person WHERE source = ?)", (old,))
        run("DELETE FROM person WHERE source = ?", (old,))
        rows = self._connection.changes()
        run("DELETE FROM source WHERE id = ?", (old,))
        return rows

    def _empty(self) -> int:
        """The same where the source is the only one: whole tables are emptied at once, row by row takes seconds."""
        self._connection.execute("DELETE FROM person")
        rows = self._connection.changes()
        self._connection.execute("DELETE FROM phone; DELETE FROM email; DELETE FROM last_name; DELETE FROM source")
        self._connection.execute("INSERT INTO finder(finder) VALUES('delete-all')")
        return rows

    def add(self, line: int, record: Record) -> None:
        id, self._next_id = self._next_id, self._next_id + 1
        street = places.street_key(record.line1) if record.line1 else ""
        self._persons.append((id, self._source, line, *record[:13], street))
        for number in record.phones:
            self._phones.append((number, id, 1))
        for number in record.old_phones:
            self._phones.append((number, id, 0))
        for address in record.emails:
            self._emails.append((address, id))
        if record.last and not record.business:
            last = names.fold(record.last)
            self._finder.append((id, last, names.fold(record.first), area_words(record), listing.traits(record)))
            self._last_names.update(last.split(" "))
        elif record.business:
            words = " ".join(f"f{word}" for word in firms.words(record.name))
            self._finder.append((id, "", "", f"{words} {area_words(record)}", listing.traits(record)))
        self._report.loaded += 1
        if record.notes:
            self._report.note(line, record.notes)
        if len(self._persons) >= _FLUSH_ROWS:
            self._flush()

    def finish(self) -> None:
        self._flush()
        self._connection.execute("UPDATE source SET rows = ? WHERE id = ?", (self._report.loaded, self._source))

    def _flush(self) -> None:
        for statement, rows in (
            (_INSERT_PERSON, self._persons),
            (_INSERT_PHONE, self._phones),
            (_INSERT_EMAIL, self._emails),
            (_INSERT_FINDER, self._finder),
        ):
            self._connection.executemany(statement, rows)
            rows.clear()
        self._connection.executemany(_INSERT_LAST_NAME, [(word,) for word in sorted(self._last_names)])
        self._last_names.clear()


def area_words(record: Record) -> str:
    """The words by which `finder` narrows a name to an area."""
    words = []
    if record.state:
        words.append("s" + record.state.lower())
    if record.zip:
        words += ["z" + record.zip[:3], "z" + record.zip]
    if record.city:
        words.append(places.city_word(record.city))
    return " ".join(words)
