"""A disk that fails on demand and loses what was not synced, below a real SQLite.

    disk = Disk("name")                     a VFS to open databases with: SqliteDatabase(..., vfs=disk.name)
    disk.fail_at(3, apsw.FullError)         the third write, truncate or sync from now on fails, once
    disk.broken = apsw.IOError              every one of them fails until it is None again
    disk.fail_at(1, apsw.IOError, "sync")   the next sync fails, once
    disk.cut(directory, keep)               what a power cut at this moment may leave, as files in `directory`

Power cut: everything synced stays. Of what was written since, each sector of 512 bytes stays when `keep()` says so.
Operations are counted, so a test can go through every one of them.
"""

import threading
from collections.abc import Callable
from pathlib import Path

import apsw

SECTOR = 512


class _Content:
    """A file as the disk has it for sure, and what was written since."""

    def __init__(self, synced: bytes) -> None:
        self.synced = bytearray(synced)
        self.since: list[tuple[int, bytes | None]] = []
        """(offset, bytes), or (size, None) for a truncation."""

    def sync(self) -> None:
        for operation in self.since:
            _apply(self.synced, *operation)
        self.since.clear()

    def after_cut(self, keep: Callable[[], bool]) -> bytes:
        content = bytearray(self.synced)
        for offset, data in self.since:
            for start in range(0, len(data or b"1"), SECTOR):
                if keep():
                    _apply(content, offset + start, None if data is None else data[start : start + SECTOR])
        return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    content.extend(bytes(max(offset + len(data) - len(content), 0)))
    content[offset : offset + len(data)] = data


class Disk(apsw.VFS):
    def __init__(self, name: str) -> None:
        self.name = name
        self.operations = 0
        """Writes, truncations and syncs so far."""
        self.broken: type[apsw.Error] | None = None
        self.watch: Callable[[], None] | None = None
        """Called before each operation, in the thread that does it."""
        self._fail: tuple[int, type[apsw.Error], str] | None = None
        self._files: dict[str, _Content] = {}
        self._lock = threading.RLock()
        super().__init__(name, base="")

    def fail_at(self, number: int, error: type[apsw.Error], kind: str = "") -> None:
        """`kind` is `write`, `truncate` or `sync`: then only those are counted."""
        self._fail = (number, error, kind)

    @property
    def failed(self) -> bool:
        """Whether the planned failure has happened."""
        return self._fail is None

    def cut(self, directory: Path, keep: Callable[[], bool]) -> None:
        directory.mkdir()
        with self._lock:
            for path, content in self._files.items():
                (directory / Path(path).name).write_bytes(content.after_cut(keep))

    # what SQLite calls

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> "_File":
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        file = _File(self, name, flags)
        if path is not None and flags[0] & (apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL):
            file.path = path
            with self._lock:
                if path not in self._files:
                    self._files[path] = _Content(Path(path).read_bytes())
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:
        with self._lock:
            super().xDelete(filename, syncdir)
            self._files.pop(filename, None)

    def operation(self, path: str, kind: str, offset: int = 0, data: bytes | None = None) -> None:
        with self._lock:
            if self.watch is not None:
                self.watch()
            self.operations += 1
            if self.broken is not None:
                raise self.broken("the disk is broken")
            if self._fail is not None and self._fail[2] in ("", kind):
                left, error, _ = self._fail
                self._fail = (left - 1, error, self._fail[2]) if left > 1 else None
                if left == 1:
                    raise error("this operation fails")
            content = self._files[path]
            if kind == "sync":
                content.sync()
            else:
                content.since.append((offset, data))

    def excepthook(self, *args: object) -> None:
        """Its failures are on purpose: SQLite gets the error code, nobody else needs to hear of them."""


class _File(apsw.VFSFile):
    path: str | None = None

    def __init__(self, disk: Disk, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self.path is not None:
            self._disk.operation(self.path, "write", offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        if self.path is not None:
            self._disk.operation(self.path, "truncate", size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        if self.path is not None:
            self._disk.operation(self.path, "sync")
        super().xSync(flags)

    def excepthook(self, *args: object) -> None:
        """See Disk."""
