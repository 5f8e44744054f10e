"""Who is alive: locks that the operating system gives back at any death, however sudden.

FileLock       exclusive among processes: one of them sends with a key, or sweeps, or migrates
ProcessOwner   one file a process, locked as long as it lives: a charge names it, and whoever finds the file
               unlocked or gone knows that nobody works on that charge any more
"""

import fcntl
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path


class FileLock:
    """gateway.settlement.protocol.Lock on a file, which is created and stays. POSIX advisory lock of its own handle."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._handle: int | None = None

    def acquire(self) -> bool:
        """Whether this lock is held now, taken just now or before; does not wait."""
        if self._handle is not None:
            return True
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class ProcessOwner:
    """This process, as charges name it. `directory` is shared with the other processes on the database."""

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.id = f"own_{os.getpid()}_{secrets.token_hex(6)}"
        # Locked before it has its name: whoever finds the name unlocked would take us for dead, and unlink it.
        nameless = self._directory / f"{self.id}.new"
        self._lock = FileLock(nameless)
        if not self._lock.acquire():
            raise AssertionError("a random name cannot be taken")
        nameless.rename(self._file(self.id))

    def alive(self, owner_id: str) -> bool:
        """Whether the process of this name still runs. A name that is none of ours is nobody."""
        if owner_id == self.id:
            return True
        if re.fullmatch(r"own_[0-9]+_[0-9a-f]{12}", owner_id) is None:
            return False
        file = self._file(owner_id)
        if not file.exists():
            return False
        lock = FileLock(file)
        if not lock.acquire():
            return True
        file.unlink(missing_ok=True)
        lock.release()
        return False

    def neighbours(self) -> frozenset[str]:
        """The other living processes on this database."""
        names = {file.stem for file in self._directory.glob("own_*.lock")} - {self.id}
        return frozenset(name for name in names if self.alive(name))

    def close(self) -> None:
        """At an orderly end; a sudden one does the same but for the file."""
        with suppress(FileNotFoundError):
            self._file(self.id).unlink()
        self._lock.release()

    def _file(self, owner_id: str) -> Path:
        return self._directory / f"{owner_id}.lock"
