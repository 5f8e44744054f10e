"""When tokens were used last: one write for many uses, and none lost to a busy database."""

from pathlib import Path
from typing import Any

from rigs import books

from gateway.core.agent import TokenKind
from gateway.flows.last_used import EVERY_S, LastUsed
from gateway.store import agents
from gateway.store.database import StoreUnavailable
from gateway.store.sqlite import SqliteDatabase


class Counting:
    """A database that counts what is written, and can be full."""

    def __init__(self, db: SqliteDatabase) -> None:
        self._db = db
        self.writes = 0
        self.full = False

    async def write(self, fn: Any, *args: Any) -> Any:
        self.writes += 1
        if self.full:
            raise StoreUnavailable
        return await self._db.write(fn, *args)


async def test_one_write_tells_of_all_that_was_seen_and_a_failed_one_is_made_up_for(tmp_path: Path) -> None:
    async with books.books(tmp_path / "l.db") as db:
        await books.agent(db, "ann")
        for number in range(3):
            await db.write(agents.add_token, f"tok_{number}", "ann", TokenKind.ADMIN, bytes([number]) * 32, "")

        async def stored() -> list[int | None]:
            rows = await db.read(lambda tx: tx.execute("SELECT last_used_ms FROM tokens ORDER BY id"))
            return [at_ms for (at_ms,) in rows]

        now, counting = [1_800_000_000], Counting(db)
        seen = LastUsed(counting, lambda: float(now[0]))  # type: ignore[arg-type]
        for number in range(1000):
            now[0] += 1
            seen.saw(f"tok_{number % 2}")
        assert (await stored(), counting.writes) == ([None, None, None], 0)
        counting.full = True
        await seen.write()
        assert await stored() == [None, None, None]
        counting.full = False
        await seen.write()
        assert (await stored(), counting.writes) == ([1_800_000_999_000, 1_800_001_000_000, None], 2)
        await seen.write()  # nothing was seen since
        assert counting.writes == 2
    assert EVERY_S >= 60
