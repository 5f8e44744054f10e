"""A key of our own that lies in a file beside the database, never in it: who has the database alone cannot use it."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from gateway.core.errors import SettingsError

KEY_BYTES = 32


def kept_key(path: Path, fresh: bytes) -> bytes:
    """The key in the file; `fresh` where there is no file yet, written for its owner alone. Of several processes that
    start at once one makes it, and the others read it. Raises SettingsError for a file that holds no key."""
    try:
        key = _read(path)
        if key is None:
            _make(path, fresh)
            key = _read(path)
    except OSError as error:
        raise SettingsError((f"{path}: this key cannot be read or made: {error.strerror}",)) from None
    if key is None or len(key) != KEY_BYTES:
        raise SettingsError((f"{path}: this is no key of ours: put the right file there, or move this one away",))
    return key


def _read(path: Path) -> bytes | None:
    try:
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except ValueError:
        return b""


def _make(path: Path, key: bytes) -> None:
    """Whole, or not there: it gets its name when it is on the disk, and never in place of another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, key.hex().encode() + b"\n")
        os.fsync(handle)
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        os.close(handle)
        part.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
