"""Broken disks and power cuts: nothing half written, nothing told that is not there afterwards."""

import asyncio
import itertools
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest
from rigs import books
from rigs.disk import Disk

from gateway.core.charge import Event, State
from gateway.core.settlement import ProofKind, Settled
from gateway.store import charges, settlements
from gateway.store.database import StoreUnavailable, StoreUnknown
from gateway.store.sqlite import SqliteDatabase


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    disk = Disk(request.node.name)
    yield disk
    disk.unregister()


async def pay(db: SqliteDatabase, id: str) -> None:
    """A whole payment by signature. Each step may be done again: a caller who was told nothing does just that."""
    await db.write(charges.hold, books.signed(id, 300), books.work(), books.claim(id, 300), None)
    await db.write(charges.record, id, Event.MATCHED, 300, result=b"{}", settlement_id=f"stl_{id}")
    await db.write(settlements.proven, f"stl_{id}", Settled(ProofKind.CHAIN, f"0x{id}", 1, 8, 300), 300)


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
async def test_every_write_of_a_payment_fails_once(tmp_path: Path, disk: Disk, error: type[apsw.Error]) -> None:
    """F-102: whichever write fails, the caller is told, and doing it again comes out right."""
    told = []
    async with books.books(tmp_path / "ledger.db", vfs=disk.name) as db:
        for n in itertools.count(1):
            disk.fail_at(n, error)
            while True:
                try:
                    await pay(db, f"c{n}")
                    break
                except StoreUnavailable as failure:
                    told.append(type(failure))
            view = await db.read(charges.find, f"c{n}")
            assert view is not None
            assert (view.charge.state, view.transaction, view.result) == (State.SETTLED, f"0xc{n}", b"{}")
            if not disk.failed:
                break
    assert n > 10
    assert set(told) == {StoreUnknown}  # in WAL all writing is the COMMIT's
    assert len(told) == n - 1


async def test_a_broken_disk_refuses_everybody_and_recovers(tmp_path: Path, disk: Disk) -> None:
    async with books.books(tmp_path / "ledger.db", vfs=disk.name) as db:
        await pay(db, "c1")
        disk.broken = apsw.FullError
        outcomes = await asyncio.gather(
            *(db.write(charges.note_wrong_request, books.claim("c1", 300).identity) for _ in range(20)),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        with pytest.raises(StoreUnavailable):  # what is there is in doubt, so nobody is told anything
            await db.read(charges.find, "c1")
        disk.broken = None
        view = None
        while view is None:
            with suppress(StoreUnavailable):  # readers wait until the writer has found out what happened
                view = await db.read(charges.find, "c1")
            await asyncio.sleep(0.01)
        assert not view.token_only  # none of the twenty was written
        assert await db.write(charges.note_wrong_request, books.claim("c1", 300).identity) == 1


async def test_after_an_unknown_commit_nothing_comes_back(tmp_path: Path, disk: Disk) -> None:
    """A commit whose sync failed may lie in the WAL. Once anybody was answered again, no crash may revive it."""
    async with books.books(tmp_path / "ledger.db", vfs=disk.name) as db:
        await pay(db, "c1")
        await db.read(charges.find, "c1")  # a reader's connection keeps the WAL where it is
        disk.fail_at(1, apsw.IOError, "sync")
        with pytest.raises(StoreUnknown):
            await db.write(charges.hold, books.signed("c2", 300), books.work(), books.claim("c2", 300), None)
        await db.write(charges.note_wrong_request, "nobody")  # writes nothing itself
        there = await db.read(charges.find, "c2") is not None
        disk.cut(tmp_path / "cut", lambda: True)
    async with books.books(tmp_path / "cut" / "ledger.db") as db:
        assert (await db.read(charges.find, "c2") is not None) is there


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_answered_survives_a_power_cut(tmp_path: Path, disk: Disk, seed: int) -> None:
    """The power fails before every tenth operation of the disk: whoever had his answer by then finds it again."""
    chance = random.Random(seed)
    answered: list[str] = []
    cuts: list[tuple[Path, int]] = []

    def cut() -> None:
        if chance.random() < 0.1:
            cuts.append((tmp_path / f"cut{len(cuts)}", len(answered)))
            disk.cut(cuts[-1][0], lambda: chance.random() < seed / 3)

    async def caller(name: str) -> None:
        for n in range(5):
            await db.write(
                charges.hold, books.signed(f"{name}{n}", 300), books.work(), books.claim(f"{name}{n}", 300), None
            )
            answered.append(f"{name}{n}")

    async with books.books(tmp_path / "ledger.db", vfs=disk.name) as db:
        disk.watch = cut
        await asyncio.gather(*(caller(f"{chr(97 + m)}") for m in range(6)))
        disk.watch = None
    assert len(cuts) > 3
    for directory, count in cuts:
        async with books.books(directory / "ledger.db") as db:
            found = {view.charge.id for view in await db.read(charges.held)}
            assert found >= set(answered[:count])
