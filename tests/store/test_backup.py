"""A backup is one moment of the ledger, whole, and never written over anything."""

import asyncio
import stat
from pathlib import Path

import pytest

from gateway.store import agents
from gateway.store.audit import audit
from gateway.store.backup import backup
from gateway.store.database import StoreUnavailable
from gateway.store.sqlite import SqliteDatabase


async def opened(path: Path) -> SqliteDatabase:
    return await SqliteDatabase(path, clock_ms=lambda: 1_700_000_000_000).open()


async def test_a_copy_taken_while_others_write_is_a_whole_ledger(tmp_path: Path) -> None:
    db = await opened(tmp_path / "ledger.db")
    await db.write(agents.create, "agt_1", "before")
    writing = asyncio.create_task(keep_writing(db))
    size = await asyncio.to_thread(backup, tmp_path / "ledger.db", tmp_path / "copy.db")
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await db.close()
    copy = await opened(tmp_path / "copy.db")
    labels = [agent.label for agent in await copy.read(agents.listing)]
    assert await copy.read(audit) == []
    await copy.close()
    assert labels[0] == "before"
    assert size > 0


async def keep_writing(db: SqliteDatabase) -> None:
    number = 2
    while True:
        await db.write(agents.create, f"agt_{number}", "meanwhile")
        number += 1


async def test_a_copy_is_one_file_for_its_owner_alone(tmp_path: Path) -> None:
    db = await opened(tmp_path / "ledger.db")
    (tmp_path / "copies").mkdir()
    backup(tmp_path / "ledger.db", tmp_path / "copies" / "copy.db")
    await db.close()
    (copy,) = (tmp_path / "copies").iterdir()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert copy.read_bytes()[18:20] == b"\1\1", "no WAL: it can be read where nothing can be written"


async def test_nothing_is_written_over(tmp_path: Path) -> None:
    db = await opened(tmp_path / "ledger.db")
    (tmp_path / "copy.db").write_text("an earlier backup")
    with pytest.raises(FileExistsError):
        backup(tmp_path / "ledger.db", tmp_path / "copy.db")
    await db.close()
    assert (tmp_path / "copy.db").read_text() == "an earlier backup"


def test_no_ledger_no_backup(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        backup(tmp_path / "ledger.db", tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_ledger_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this was never a database, though it is long enough" * 100)
    with pytest.raises(StoreUnavailable, match="backup failed"):
        backup(tmp_path / "ledger.db", tmp_path / "copy.db")
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]
