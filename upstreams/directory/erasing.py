"""Taking a person out of the directory, and out of its file: the rows, what the finder knows of them, and the pages
they stood on. The operator's own file, from which the rows were loaded, is his to mend."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from gateway.core.erasure import Identity
from gateway.core.subject import Record, names_in_parts, names_of, of_email, of_phone, places_of
from upstreams.directory import names
from upstreams.directory.database import open_reader, open_writer
from upstreams.directory.lookup import row_of
from upstreams.directory.matching import Row


def rows_of(path: Path, identity: Identity) -> list[tuple[int, Row]]:
    """(its number in the file, the row) of everybody who is, or could be, this person. Reads every row. Raises
    DirectoryError."""
    connection = open_reader(path)
    try:
        return list(_rows_of(connection, identity))
    finally:
        connection.close()


def _rows_of(connection: apsw.Connection, identity: Identity) -> Iterator[tuple[int, Row]]:
    for columns in connection.execute("SELECT * FROM entry"):
        row = row_of(columns)
        if identity.is_record(_record(row)):
            yield int(columns[0]), row


def _record(row: Row) -> Record:
    return Record(
        names=set(names_in_parts(row.parts.first, row.parts.last) | names_of(row.name)),
        places=set(places_of(row.city, row.state, row.zip)),
        phones={spelling for number, _ in row.phones if (spelling := of_phone(number)) is not None},
        emails={of_email(address) for address in row.emails},
        named=True,
    )


def erase(path: Path, identity: Identity) -> int:
    """Answers how many rows there were. The file is written anew: none of its pages has them any more, and gateways
    that have it open go on with it. Raises DirectoryError."""
    connection = open_writer(path)
    try:
        connection.pragma("secure_delete", "on")
        connection.execute("BEGIN IMMEDIATE")
        found = list(_rows_of(connection, identity))
        for number, row in found:
            _delete(connection, number, row)
        connection.execute("INSERT INTO finder(finder) VALUES('optimize')")
        connection.execute("COMMIT")
        connection.execute("VACUUM")  # what an earlier load of the file had brought, too
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
    return len(found)


def _delete(connection: apsw.Connection, number: int, row: Row) -> None:
    run: Any = connection.execute
    run("UPDATE source SET rows = rows - 1 WHERE id = (SELECT source FROM person WHERE id = ?)", (number,))
    run("DELETE FROM finder WHERE rowid = ?", (number,))
    run("DELETE FROM phone WHERE person = ?", (number,))
    run("DELETE FROM email WHERE person = ?", (number,))
    run("DELETE FROM person WHERE id = ?", (number,))
    for word in names.fold(row.parts.last).split():
        if not run("SELECT 1 FROM finder WHERE finder MATCH ? LIMIT 1", (f'last : "{word}"',)).fetchall():
            run("DELETE FROM last_name WHERE word = ?", (word,))
