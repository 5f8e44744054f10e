"""Processes that deliver from one file: together each event once at a time, and after any death at least once."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from rigs import books
from rigs.postman import post, states
from rigs.running import eventually
from rigs.upstream import ScriptedUpstream, Seen, Wire, status

from gateway.store import outbox
from gateway.store.sqlite import SqliteDatabase

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=status(204)) as up:
        yield up


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with books.books(tmp_path / "l.db", lambda: time.time_ns() // 1_000_000) as db:
        yield db


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start()` is a further process that delivers; `start("webhook.before_send")` dies there."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*crash_at: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "rigs.postman", str(tmp_path / "l.db"), *crash_at]
        started.append(
            subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={"PYTHONPATH": ":".join(sys.path)},
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)


async def dead(process: "subprocess.Popen[bytes]") -> int:
    async def ended() -> bool:
        return process.poll() is not None

    await eventually(ended)
    return process.returncode


async def delivered(db: SqliteDatabase, *events: str) -> None:
    async def all_of_them() -> bool:
        return set(await states(db, *events)) == {"delivered"}

    await eventually(all_of_them)


async def test_two_processes_deliver_each_event_once(up: ScriptedUpstream, db: SqliteDatabase, start: Start) -> None:
    inside: Counter[str | None] = Counter()
    most = Counter[str | None]()

    async def behave(request: Seen, wire: Wire) -> None:
        id = request.header("webhook-id")
        inside[id] += 1
        most[id] = max(most[id], inside[id])
        await wire.wait(0.02)
        inside[id] -= 1
        await status(204)(request, wire)

    up.on("/hook", behave)
    both = [start(), start()]
    events = await post(db, *(up.url("/hook", host=f"t{n}.example.com") for n in range(200)))
    await delivered(db, *events)
    assert Counter(seen.header("webhook-id") for seen in up.seen) == dict.fromkeys(events, 1)
    assert set(most.values()) == {1}
    for process in both:
        process.send_signal(signal.SIGTERM)
    assert [await dead(process) for process in both] == [0, 0]
    assert await db.read(outbox.lease_owners) == []


@pytest.mark.parametrize(("point", "before"), [("webhook.before_send", 0), ("webhook.after_send", 1)])
@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.full)])
async def test_killed_around_the_sending_it_comes_again_with_the_same_id(
    up: ScriptedUpstream, db: SqliteDatabase, start: Start, point: str, before: int, times: int
) -> None:
    """The next process finds the dead one's lease and does not wait for it to run out."""
    events = await post(db, up.url("/hook", host="t.example.com"))
    for _ in range(times):
        assert await dead(start(point)) == -signal.SIGKILL
    assert len(up.seen) == before * times
    assert await states(db, *events) == ["pending"]
    start()
    await delivered(db, *events)
    assert len(up.seen) == before * times + 1
    assert {seen.header("webhook-id") for seen in up.seen} == set(events)
    assert len({seen.body for seen in up.seen}) == 1


@pytest.mark.parametrize("rounds", [2, pytest.param(30, marks=pytest.mark.full)])
async def test_killed_at_random_among_many(up: ScriptedUpstream, db: SqliteDatabase, start: Start, rounds: int) -> None:
    events: list[str] = []
    for n in range(rounds):
        events += await post(db, *(up.url("/hook", host=f"t{tenant}.example.com") for tenant in range(30)))
        process = start()
        await up.arrived(len(up.seen) + 1 + n % 20)
        process.kill()
        await dead(process)
    start()
    await delivered(db, *events)
    assert {seen.header("webhook-id") for seen in up.seen} == set(events)
