"""Locks that the operating system gives back at any death."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.store import owners
from gateway.store.owners import FileLock, ProcessOwner

HOLDER = """
import sys, time
from gateway.store.owners import FileLock, ProcessOwner
owner = ProcessOwner(sys.argv[1])
assert FileLock(sys.argv[1] + "/relayer.lock").acquire()
print(owner.id, flush=True)
time.sleep(60)
"""


def test_a_lock_is_exclusive_and_comes_back(tmp_path: Path) -> None:
    one, two = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    assert one.acquire()
    assert one.acquire()  # still mine
    assert not two.acquire()
    one.release()
    one.release()
    assert two.acquire()


def test_a_killed_process_is_nobody_and_holds_nothing(tmp_path: Path) -> None:
    """F-107: the kernel gives the lock back, however sudden the death was."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    other = process.stdout.readline().strip()
    owner, lock = ProcessOwner(tmp_path), FileLock(tmp_path / "relayer.lock")
    assert owner.alive(other)
    assert not lock.acquire()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not owner.alive(other)
    assert not owner.alive(other)
    assert lock.acquire()
    lock.release()
    owner.close()


def test_an_owner_knows_itself_and_who_left(tmp_path: Path) -> None:
    one, two = ProcessOwner(tmp_path / "owners"), ProcessOwner(tmp_path / "owners")
    assert one.id != two.id
    assert one.alive(one.id)
    assert one.alive(two.id)
    assert (one.neighbours(), two.neighbours()) == ({two.id}, {one.id})
    two.close()
    assert not one.alive(two.id)
    assert one.neighbours() == frozenset()
    one.close()


@pytest.mark.parametrize("name", ["", "own_1_000000000000", "../../etc/passwd", "own_1_..%2f00000000"])
def test_a_name_that_is_none_of_ours_is_nobody(tmp_path: Path, name: str) -> None:
    owner = ProcessOwner(tmp_path)
    assert not owner.alive(name)
    owner.close()


def test_who_is_just_starting_is_never_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour looks between the making of its file and its lock."""
    old = ProcessOwner(tmp_path)
    looks: list[frozenset[str]] = []

    class Watched:
        LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB

        @staticmethod
        def flock(handle: int, how: int) -> None:
            if not looks:
                looks.append(frozenset())
                looks.append(old.neighbours())
            fcntl.flock(handle, how)

    monkeypatch.setattr(owners, "fcntl", Watched)
    new = ProcessOwner(tmp_path)
    assert looks[1] == frozenset()
    assert old.alive(new.id)
    assert old.neighbours() == {new.id}
    new.close()
    old.close()
