"""Full holds from balance, counted: ours by group commit, and a peer with the very same statements one commit each.

`scripts/bench debits` and tests/store/test_debits.py both come here. A hold is the whole transaction of a paid call
from balance: agent and bearer checked, balances read, charge and transfer written, both balances moved.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gateway.core.agent import TokenKind
from gateway.core.charge import Charge, Source
from gateway.core.transfer import Kind
from gateway.store import agents, charges
from gateway.store.database import Row, Tx
from gateway.store.sqlite import SqliteDatabase

AGENT, BEARER = "agt_bench", "key_bench"
PRICE_MICROS = 330


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


def charge(number: int) -> Charge:
    return Charge(f"chg_{number:020d}", "enrich/phone", AGENT, Source.BALANCE, PRICE_MICROS)


def work(number: int) -> charges.Work:
    return charges.Work(f"req_{number}", b"h" * 32, "own_1_000000000000", 1 << 45, AGENT, bearer_id=BEARER)


async def opened(path: Path) -> SqliteDatabase:
    db = await SqliteDatabase(path, clock_ms=clock_ms).open()
    await db.write(agents.create, AGENT, "bench")
    await db.write(agents.add_token, BEARER, AGENT, TokenKind.ADMIN, bytes(32), "")
    await db.write(agents.credit, AGENT, 10**12, Kind.CREDIT, "", "crd_bench")
    return db


async def ours(path: Path, *, holds: int, waiting: int) -> float:
    """Holds a second with this many callers waiting at any time."""
    db = await opened(path)
    numbers = iter(range(holds))

    async def caller() -> None:
        for number in numbers:
            outcome = await db.write(charges.hold, charge(number), work(number), None, None)
            assert isinstance(outcome, charges.Held)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(waiting)))
    rate = holds / (time.perf_counter() - started)
    await db.close()
    return rate


class _Recorder:
    """A Tx that runs what it is given and keeps it."""

    def __init__(self, tx: Tx, kept: list[tuple[str, Mapping[str, object]]]) -> None:
        self._tx, self._kept, self.now_ms = tx, kept, tx.now_ms

    def execute(self, sql: str, params: Mapping[str, object] = {}) -> list[Row]:
        self._kept.append((sql, params))
        return self._tx.execute(sql, params)


async def statements(path: Path, *, holds: int) -> list[list[tuple[str, Mapping[str, object]]]]:
    """What `holds` holds execute, a list for each; `path` is left with the schema and the agent, and no hold."""
    db = await opened(path)
    kept: list[list[tuple[str, Mapping[str, object]]]] = []

    def rehearse(tx: Tx) -> None:
        kept.clear()
        for number in range(holds):
            kept.append([])
            charges.hold(_Recorder(tx, kept[-1]), charge(number), work(number), None, None)
        raise _Rehearsed

    with suppress(_Rehearsed):
        await db.write(rehearse)
    await db.close()
    return kept


class _Rehearsed(Exception):
    pass


async def peer(path: Path, *, holds: int) -> float:
    """The same statements by aiosqlite, each awaited, with a commit for every hold. Also synchronous=FULL in WAL."""
    import aiosqlite

    rehearsed = await statements(path, holds=holds)
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            await connection.execute(f"PRAGMA {pragma}")
        started = time.perf_counter()
        for hold in rehearsed:
            await connection.execute("BEGIN IMMEDIATE")
            for sql, params in hold:
                await connection.execute_fetchall(sql, dict(params))
            await connection.execute("COMMIT")
        return holds / (time.perf_counter() - started)
