"""When tokens were used last: gathered in memory, written once a minute for all that were used in it."""

import asyncio
from collections.abc import Callable

import structlog

from gateway.store import agents
from gateway.store.database import Database, StoreUnavailable

log = structlog.get_logger("last_used")

EVERY_S = 60.0


class LastUsed:
    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock
        self._used: dict[str, int] = {}

    def saw(self, token_id: str) -> None:
        """A call has shown this token."""
        self._used[token_id] = int(self._clock() * 1000)

    async def run(self) -> None:
        """Forever."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.write()

    async def write(self) -> None:
        """What was gathered; never raises for a database that cannot take it now."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._db.write(agents.note_used, used)
        except StoreUnavailable:
            log.warning("last_used_not_written", tokens=len(used))
            self._used = {**used, **self._used}
