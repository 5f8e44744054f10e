"""Recovery: at start, when another process on this database has died, and every minute, finds what became of whatever
was left unfinished. After a death it looks more often at first: what was just being mined is found within seconds.

It only finds. What may have been done is never done again: a charge whose worker is gone is released, not worked
on anew; a settlement that was sent is looked for on chain; one that was only queued has not been sent by anybody,
so the collecting loop sends it. Running it twice, or beside live traffic, changes nothing that is right.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from gateway.core import job
from gateway.core.charge import Event
from gateway.core.errors import Conflict
from gateway.core.settlement import Settled, Settlement, State
from gateway.flows.collecting import Collecting
from gateway.settlement.protocol import Refused, Settler, Unknown
from gateway.store import answers, charges, jobs, leads, sessions, settlements, subjects, usage_keys
from gateway.store.charges import ChargeView
from gateway.store.database import Database

log = structlog.get_logger("recovery")

EVERY_S = 60.0
DAY_S = 86_400
YEAR_MS = 365 * DAY_S * 1000
SOON_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""The pauses after a start and after a death."""
LISTEN_EVERY_S = 1.0
AT_ONCE = 16
"""Settlements looked for at the same time: a chain that hangs delays a round, not the hour."""


class Recovery:
    def __init__(
        self,
        *,
        db: Database,
        settler: Settler | None,
        collecting: Collecting | None,
        clock: Callable[[], float],
        alive: Callable[[str], bool],
        neighbours: Callable[[], frozenset[str]] = frozenset,
        alarm: Callable[[str, str], None] = lambda name, subject: None,
        accesses_kept_ms: int = YEAR_MS,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`alive(owner)` tells whether the process that works on a charge runs, `neighbours()` which others do."""
        self._monotonic = monotonic
        self._sleep = sleep
        self._first_seen: dict[str, float] = {}
        self._db = db
        self._settler = settler
        self._collecting = collecting
        self._clock = clock
        self._tidied: int | None = None
        """The day."""
        self._alive = alive
        self._neighbours = neighbours
        self._living: frozenset[str] = frozenset()
        self._alarm = alarm
        self._accesses_kept_ms = accesses_kept_ms

    async def run(self) -> None:
        """Forever. One failing round is told and does not end the next."""
        soon = iter(SOON_S)
        while True:
            try:
                await self.once()
            except Exception:
                log.exception("recovery_failed")
                self._alarm("recovery_failed", "")
            if await self._a_neighbour_dies(next(soon, EVERY_S)):
                soon = iter(SOON_S)

    async def _a_neighbour_dies(self, within_s: float) -> bool:
        """Returns at once when one does, or has: what it has left need not wait so long."""
        until = self._monotonic() + within_s
        while True:
            living, before = self._neighbours(), self._living
            self._living = living
            if before - living:
                return True
            if self._monotonic() >= until:
                return False
            await self._sleep(LISTEN_EVERY_S)

    async def once(self) -> None:
        await self.orphans()
        if self._settler is not None and self._collecting is not None:
            await self._unfinished(self._settler, self._collecting)
            await self._watched(self._settler, self._collecting)
        await self._db.write(charges.expire_results)
        await self._db.write(answers.expire)
        await self._db.write(subjects.forget_accesses, self._accesses_kept_ms)
        await self._db.write(jobs.forget)
        await self._db.write(sessions.forget)
        await self._db.write(leads.forget)
        await self._tidy()

    async def _tidy(self) -> None:
        """Once a day: it looks at all there is."""
        today = int(self._clock() // DAY_S)
        if today == self._tidied:
            return
        for agent_id in await self._db.read(leads.crowded):
            await self._db.write(leads.thin, agent_id)
        while await self._db.write(usage_keys.forget):
            pass
        self._tidied = today

    async def orphans(self) -> None:
        """Open charges that nobody works on: their worker died, or had its time and a margin. Asks no chain, so it
        is done before the doors open."""
        open_charges = await self._db.read(charges.held)
        now = self._monotonic()
        self._first_seen = {view.charge.id: self._first_seen.get(view.charge.id, now) for view in open_charges}
        for view in open_charges:
            if view.owner == job.OWNER:
                continue  # its job ends it
            if self._out_of_time(view, now) or not self._alive(view.owner):
                log.warning("orphan_released", charge=view.charge.id)
                await self._db.write(charges.record, view.charge.id, Event.EXPIRED)

    def _out_of_time(self, view: ChargeView, now: float) -> bool:
        """By the wall clock, and by the time that has really passed before our eyes: a clock that jumps an hour
        ahead must not take every call under way for dead (F-177)."""
        allowed_s = (view.work_deadline_ms - view.created_ms) / 1000
        late = view.work_deadline_ms < self._clock() * 1000
        return late and now - self._first_seen[view.charge.id] >= allowed_s

    async def _unfinished(self, settler: Settler, collecting: Collecting) -> None:
        async def look(settlement: Settlement) -> None:
            await collecting.book(settlement, await settler.find(settlement))

        found = await self._db.read(settlements.unfinished)
        await self._each([one for one in found if one.state is State.SENT or one.abandoned], look)

    async def _watched(self, settler: Settler, collecting: Collecting) -> None:
        """Proven, but not deep enough to be sure: still there, and where it was? A reorganisation may have taken it
        back, or put it into another transaction or another place of its block."""
        seen: list[tuple[Settlement, Settled]] = []

        async def look(settlement: Settlement) -> None:
            match await settler.find(settlement):
                case Settled() as proof:
                    seen.append((settlement, proof))
                case Refused():
                    await self._db.write(settlements.taken_back, settlement.id)
                    log.error("settlement_taken_back", settlement=settlement.id)
                    self._alarm("settlement_taken_back", settlement.id)
                case Unknown():
                    log.info("settlement_not_seen", settlement=settlement.id)

        await self._each(await self._db.read(settlements.watched), look)
        await collecting.confirm(seen)

    async def _each(self, found: Sequence[Settlement], look: Callable[[Settlement], Awaitable[None]]) -> None:
        """A few at a time. One that fails is told, and looked at again in the next round; it stops no other."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(settlement: Settlement) -> None:
            async with places:
                try:
                    await look(settlement)
                except Conflict as conflict:  # another process was first
                    log.info("settlement_moved", settlement=settlement.id, cause=str(conflict))
                except Exception:
                    log.exception("recovery_failed", settlement=settlement.id)
                    self._alarm("recovery_failed", settlement.id)

        await asyncio.gather(*(one(settlement) for settlement in found))
