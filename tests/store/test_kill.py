"""kill -9, at any moment and at the worst ones: what was answered is there, what is there is whole."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rigs import books

from gateway.store import charges


def killed(ledger: Path, *, crash_at: str | None = None, after: int = 0) -> list[str]:
    """Runs the writer until it was killed, by itself at a crash point or by us after so many answers; what it was
    answered."""
    command = [sys.executable, "-m", "rigs.writer", str(ledger), *([crash_at] if crash_at else [])]
    environment = {"PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    answered = []
    for line in process.stdout:
        answered.append(line.strip())
        if not crash_at and len(answered) == after:
            process.kill()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return answered


async def held(ledger: Path) -> set[str]:
    async with books.books(ledger) as db:
        return {view.charge.id for view in await db.read(charges.held)}


async def test_killed_under_load_again_and_again(tmp_path: Path) -> None:
    """F-100"""
    answered: set[str] = set()
    for after in (1, 40, 200):
        answered.update(killed(tmp_path / "l.db", after=after))
        assert await held(tmp_path / "l.db") >= answered


@pytest.mark.full
async def test_killed_a_hundred_times(tmp_path: Path) -> None:
    """F-100"""
    answered: set[str] = set()
    for _ in range(100):
        answered.update(killed(tmp_path / "l.db", after=random.randrange(1, 300)))
        assert await held(tmp_path / "l.db") >= answered


async def test_killed_around_the_commit(tmp_path: Path) -> None:
    """Before it nothing of the batch is there; after it all of it is, though nobody was told."""
    assert killed(tmp_path / "l.db", crash_at="store.before_commit:1") == []
    assert await held(tmp_path / "l.db") == set()
    assert killed(tmp_path / "l.db", crash_at="store.after_commit:1") == []
    assert len(await held(tmp_path / "l.db")) > 0


async def test_killed_while_migrating(tmp_path: Path) -> None:
    """F-106: the next start finds nothing half made."""
    assert killed(tmp_path / "l.db", crash_at="store.in_migration") == []
    assert await held(tmp_path / "l.db") == set()
