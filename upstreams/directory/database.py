"""The directory's own SQLite file: schema, opening, counting. Apart from the gateway's memory: it can be deleted and
loaded again at any time.

    source  a loaded file; its rows are replaced as a whole when it is loaded again
    person  one row of a source; `record` is its line there, so (source, record) names it for ever
    phone   numbers of a person, E.164; `current` 0 for a former number
    email   addresses of a person, lower case
    entry   a person with its source, numbers and addresses, as an answer is made from it
    finder  FTS5 over last name, first name, area and traits of persons, and of firms over the last two alone. These
            hold made-up words: "swa" a state, "z981" a ZIP's first three digits, "z98101" a ZIP, "cseattle" a city,
            and "fsample" a word of a firm's name; those of traits are told in listing.py
    last_name   the words in its last names, to find the like of one that is spelled differently. (fts5vocab knows
            them too, but counts all their rows before it tells one: 20 times slower.) Words of rows that are gone
            may stay, they find nothing
"""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

import apsw

# "Fgdr" in ASCII: tells our file from any other SQLite file.
_APPLICATION_ID = 0x46676472
_VERSION = 2
_READER_WAIT_MS = 200
_WRITER_WAIT_MS = 60_000

SCHEMA = """
CREATE TABLE source(
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, loaded_ms INTEGER NOT NULL, rows INTEGER NOT NULL) STRICT;
CREATE TABLE person(
  id INTEGER PRIMARY KEY, source INTEGER NOT NULL, record INTEGER NOT NULL,
  name TEXT NOT NULL, first TEXT NOT NULL, middle TEXT NOT NULL, last TEXT NOT NULL, suffix TEXT NOT NULL,
  business INTEGER NOT NULL, employer TEXT NOT NULL, title TEXT NOT NULL,
  line1 TEXT NOT NULL, line2 TEXT NOT NULL, city TEXT NOT NULL, state TEXT NOT NULL, zip TEXT NOT NULL,
  street_key TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX person_by_record ON person(source, record);
CREATE INDEX person_by_street ON person(street_key) WHERE street_key <> '';
CREATE TABLE phone(
  number TEXT NOT NULL, person INTEGER NOT NULL, current INTEGER NOT NULL,
  PRIMARY KEY(number, person)) STRICT, WITHOUT ROWID;
CREATE INDEX phone_by_person ON phone(person, current);
CREATE TABLE email(
  address TEXT NOT NULL, person INTEGER NOT NULL, PRIMARY KEY(address, person)) STRICT, WITHOUT ROWID;
CREATE INDEX email_by_person ON email(person);
CREATE VIEW entry AS SELECT
  p.id, s.name AS source, p.record, s.loaded_ms, p.name, p.first, p.middle, p.last, p.suffix, p.business, p.employer,
  p.title, p.line1, p.line2, p.city, p.state, p.zip, p.street_key,
  (SELECT group_concat(number || '/' || current) FROM phone WHERE person = p.id) AS phones,
  (SELECT group_concat(address, ' ') FROM email WHERE person = p.id) AS emails
  FROM person p JOIN source s ON s.id = p.source;
CREATE VIRTUAL TABLE finder USING fts5(last, first, area, trait, content='', contentless_delete=1, detail=column);
CREATE TABLE last_name(word TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"""


class DirectoryError(Exception):
    """The directory's file cannot be used; the text says why and how to mend it."""


class Stats(TypedDict):
    """What a directory holds. `sources`: name -> rows."""

    persons: int
    businesses: int
    phones: int
    emails: int
    addresses: int
    sources: dict[str, int]
    bytes: int


def open_writer(path: Path) -> apsw.Connection:
    """A connection for loading, whose transactions wait for another load to end; makes the file where there is none.

    Raises DirectoryError, and touches no file but a directory's own.
    """
    try:
        if not path.exists():
            _create(path)
        connection = _open(path, apsw.SQLITE_OPEN_READWRITE)
    except OSError as error:
        raise DirectoryError(f"the directory {path} cannot be made: {error.strerror}") from None
    connection.set_busy_timeout(_WRITER_WAIT_MS)
    connection.pragma("synchronous", "NORMAL")  # a load that a power cut takes away is loaded again
    connection.pragma("cache_size", -65_536)
    return connection


def _create(path: Path) -> None:
    """An empty directory, made apart and put in its place whole: two first loads at once never see half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as apart:
        new = Path(apart, "new.db")
        os.close(os.open(new, os.O_CREAT | os.O_WRONLY, 0o600))  # it holds people; the WAL inherits the mode
        connection = apsw.Connection(str(new))
        connection.pragma("journal_mode", "wal")
        connection.execute(SCHEMA)
        connection.pragma("application_id", _APPLICATION_ID)
        connection.pragma("user_version", _VERSION)
        connection.close()
        with suppress(FileExistsError):
            os.link(new, path)


def open_reader(path: Path) -> apsw.Connection:
    """A read-only connection, for one thread at a time. It sees a new load as soon as that is complete."""
    connection = _open(path, apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(_READER_WAIT_MS)
    connection.pragma("mmap_size", 1 << 30)
    connection.pragma("cache_size", -8_192)
    return connection


def _open(path: Path, flags: int) -> apsw.Connection:
    """An existing file, if it is a directory of this version. Raises DirectoryError."""
    try:
        connection = apsw.Connection(str(path), flags=flags)
    except apsw.Error as error:
        raise DirectoryError(f"the directory {path} cannot be opened: {error}") from None
    try:
        known = (connection.pragma("application_id"), connection.pragma("user_version"))
    except apsw.NotADBError:
        known = None
    if known != (_APPLICATION_ID, _VERSION):
        connection.close()
        raise DirectoryError(f"{path} is no directory of this version: delete it or choose another path, then load")
    return connection


def stats(path: Path) -> Stats:
    """What the directory at `path` holds. Raises DirectoryError where there is none."""
    connection = open_reader(path)
    try:
        persons, businesses, addresses = connection.execute(
            "SELECT count(*) FILTER (WHERE NOT business), count(*) FILTER (WHERE business), "
            "count(*) FILTER (WHERE street_key <> '') FROM person"
        ).get
        return Stats(
            persons=persons,
            businesses=businesses,
            phones=connection.execute("SELECT count(DISTINCT number) FROM phone").get,
            emails=connection.execute("SELECT count(DISTINCT address) FROM email").get,
            addresses=addresses,
            sources=dict(connection.execute("SELECT name, rows FROM source ORDER BY name")),
            bytes=path.stat().st_size,
        )
    finally:
        connection.close()
