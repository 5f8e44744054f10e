"""A copy of the ledger's file while the gateway runs: one snapshot, whole and checked before it gets its name."""

import os
from pathlib import Path

import apsw

from gateway.store.database import StoreUnavailable


def backup(source: Path, target: Path) -> int:
    """Copies the database at `source` to a new file `target`; answers its size in bytes. Blocks while it copies.

    The copy is one moment of the ledger: writers go on beside it. Raises FileExistsError rather than write over an
    earlier backup, FileNotFoundError without a source, StoreUnavailable when the copy is not whole.
    """
    if not source.is_file():
        raise FileNotFoundError(source)
    if target.exists():
        raise FileExistsError(target)
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        _copy(source, part)
        os.replace(part, target)
        _sync(target.parent)
    except apsw.Error as error:
        raise StoreUnavailable(f"the backup failed: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


def _copy(source: Path, part: Path) -> None:
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # it holds results and hashes of tokens
    reading = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
    writing = apsw.Connection(str(part))
    try:
        # All pages in one step: within it, the reader's snapshot stands still.
        with writing.backup("main", reading, "main") as copying:
            copying.step(-1)
        # One file and no companions: a backup is moved about by people.
        writing.execute("PRAGMA journal_mode = DELETE")
        if writing.pragma("integrity_check") != "ok":
            raise apsw.CorruptError("the copy is damaged, and so may be its source: run `faregate audit`")
    finally:
        writing.close()
        reading.close()
    _sync(part)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
