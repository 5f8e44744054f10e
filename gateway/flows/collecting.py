"""Collecting: drives the settler through every settlement that is not yet at its end, and writes down what came.

    collect(id)   one settlement, waited for a bounded time by the call it belongs to
    run()         the loop: whatever is queued and nobody waits for, of this process or another
    StoredJournal what the settler must write before it acts, over the store

One settlement has one task in this process, however many callers wait for it. Between processes the settler's own
lock decides who sends; everybody else reads the row until it has ended. A wait that runs out ends nothing: the
task goes on, and so does recovery after a crash.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from gateway.core import crash
from gateway.core.deposit import Match
from gateway.core.errors import Conflict
from gateway.core.money import atomic_to_micros_down
from gateway.core.settlement import Attempt, Settled, Settlement, State
from gateway.core.x402.verdict import Reason
from gateway.settlement.protocol import Refused, Settler, Unknown
from gateway.store import charges, settlements
from gateway.store.database import Database
from gateway.store.settlements import Proven

log = structlog.get_logger("collecting")

POLL_S = 0.1
"""How often a settlement that another process owns is looked at while a caller waits."""
PAUSE_S = 1.0
"""How often the loop looks for queued settlements that nobody waits for."""
PAUSES_S = (0.5, 1, 2, 4, 8, 15, 30)
"""Between two looks at one settlement; after the last, recovery looks once a minute."""

ENDED = (State.PROVEN, State.LOST)


class StoredJournal:
    """gateway.settlement.protocol.Journal over the store."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def sending(self, attempt: Attempt) -> tuple[str, ...]:
        crash.point("settle.before_journal")
        refused = await self._db.write(settlements.sending, attempt)
        crash.point("settle.after_journal")
        return refused

    async def pending(self, network: str, key: str) -> Sequence[Attempt]:
        return await self._db.read(settlements.pending, network, key)

    async def attempts_of(self, settlement_id: str) -> Sequence[Attempt]:
        return await self._db.read(settlements.attempts_of, settlement_id)

    async def closed(self, network: str, key: str, nonce: int, mined_hash: str | None) -> None:
        await self._db.write(settlements.closed, network, key, nonce, mined_hash)

    async def retry(self, settlement_id: str) -> None:
        await self._db.write(settlements.retry, settlement_id)

    async def nonce_after(self, network: str, key: str) -> int:
        return await self._db.read(settlements.nonce_after, network, key)


class Collecting:
    def __init__(
        self,
        *,
        db: Database,
        settler: Settler,
        decimals: Mapping[str, int],
        alarm: Callable[[str, str], None] = lambda name, subject: None,
        match: Match | None = None,
    ) -> None:
        """`decimals` by asset; `alarm(name, subject)` is told of what an operator must look at. `match`: what top-ups
        bring beside themselves."""
        self._match = match
        self._db = db
        self._settler = settler
        self._decimals = decimals
        self._alarm = alarm
        self._tasks: dict[str, asyncio.Task[Proven | None]] = {}

    async def collect(self, settlement: Settlement, *, wait_s: float) -> Proven | None:
        """Returns when the settlement has ended or was abandoned, or after `wait_s`; with what was written where this
        has proven it, else read the row to know. `settlement` is as it was written a moment ago."""
        task = self._task(settlement)
        await asyncio.wait([task], timeout=wait_s)
        return task.result() if task.done() and not task.cancelled() and task.exception() is None else None

    async def run(self) -> None:
        """Forever: takes up queued settlements. Cancelled at shutdown. A round that fails, the disk being full for a
        while, ends nothing but itself."""
        while True:
            try:
                for settlement in await self._db.read(settlements.queued):
                    self._task(settlement)
            except Exception:
                log.exception("collecting_failed")
                self._alarm("collecting_failed", "")
            await asyncio.sleep(PAUSE_S)

    async def drain(self, wait_s: float) -> None:
        """Gives what is under way this long to end; the rest is found again at the next start."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=wait_s)
        for task in list(self._tasks.values()):
            task.cancel()

    def _task(self, settlement: Settlement) -> asyncio.Task[Proven | None]:
        task = self._tasks.get(settlement.id)
        if task is None:
            task = asyncio.create_task(self._collect(settlement), name=f"collect {settlement.id}")
            self._tasks[settlement.id] = task
            task.add_done_callback(lambda ended: self._over(settlement.id, ended))
        return task

    def _over(self, settlement_id: str, task: asyncio.Task[Proven | None]) -> None:
        """A task that failed has decided nothing: its settlement is taken up again from the row."""
        self._tasks.pop(settlement_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("collecting_failed", settlement=settlement_id, exc_info=error)
            self._alarm("collecting_failed", settlement_id)

    async def _collect(self, settlement: Settlement) -> Proven | None:
        """Until it has ended, with growing pauses. What was only queued is settled, which is idempotent by its id;
        what was sent is looked for, never sent again from here."""
        for pause_s in PAUSES_S:
            ask = self._settler.settle if settlement.state is State.QUEUED else self._settler.find
            booked = await self.book(settlement, await ask(settlement))
            if booked:
                return booked if isinstance(booked, Proven) else None
            news = await self._news(settlement.id, pause_s)
            if news is None or news.state in ENDED or news.abandoned:
                return None
            settlement = news
        return None

    async def _news(self, settlement_id: str, seconds: float) -> Settlement | None:
        """The row when this time is over, or as soon as somebody else, another process or recovery, has ended it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            await asyncio.sleep(POLL_S)
            settlement = await self._db.read(settlements.find, settlement_id)
            over = settlement is None or settlement.state in ENDED or settlement.abandoned
            if over or loop.time() >= deadline:
                return settlement

    async def book(self, settlement: Settlement, outcome: Settled | Refused | Unknown) -> Proven | bool:
        """Writes what came of it; answers whether it is at an end, and of a proof with what was written. Booking the
        same thing twice changes nothing."""
        match outcome:
            case Settled():
                return await self._proven(settlement, outcome)
            case Refused(reason=reason, final=True):
                try:
                    await self._db.write(settlements.lost, settlement.id, reason)
                except Conflict:
                    return await self._ended(settlement.id)
                log.warning("settlement_lost", settlement=settlement.id, reason=reason)
                self._alarm("settlement_lost", settlement.id)
                return True
            case Refused(reason=Reason.NONCE_USED):
                # By whom? Perhaps by this very payment, in a block that is not deep enough or not yet with every node.
                log.info("settlement_unknown", settlement=settlement.id, cause="its nonce is used, by what is not sure")
                return False
            case Refused(reason=reason):
                abandoned = await self._db.write(settlements.abandon, settlement.id)
                log.warning("settlement_refused", settlement=settlement.id, reason=reason, abandoned=abandoned)
                return abandoned
            case Unknown(message):
                log.info("settlement_unknown", settlement=settlement.id, cause=message)
                return False

    async def _proven(self, settlement: Settlement, proof: Settled) -> Proven | bool:
        if proof.amount_atomic != settlement.amount_atomic:
            self._alarm("settled_amount_differs", settlement.id)
        crash.point("proven.before")
        try:
            came = self._came(settlement, proof)
            proven = await self._db.write(settlements.proven, settlement.id, proof, came, match=self._match)
        except Conflict as conflict:
            if await self._ended(settlement.id):
                return True
            log.error("proof_refused", settlement=settlement.id, cause=str(conflict))
            self._alarm("proof_used_twice", settlement.id)
            return False
        crash.point("proven.after")
        if settlement.abandoned:
            await self._mind_twice(settlement)
        return proven

    async def _mind_twice(self, settlement: Settlement) -> None:
        """Told to have failed, and sent by somebody else after all. Where its result was bought again meanwhile, one
        result was paid for twice: the operator refunds one."""
        view = await self._db.read(charges.find, settlement.subject)
        if view is not None and view.resold_by is not None:
            self._alarm("paid_twice", view.charge.id)

    def _came(self, settlement: Settlement, proof: Settled) -> int:
        """Micros, of what was asked at most. The amount asked needs no conversion, even of a token long unlisted."""
        if proof.amount_atomic == settlement.amount_atomic:
            return settlement.amount_micros
        came, _ = atomic_to_micros_down(proof.amount_atomic, self._decimals[settlement.asset])
        return min(came, settlement.amount_micros)

    async def confirm(self, seen: Sequence[tuple[Settlement, Settled]]) -> None:
        """Proven settlements as the chain has them now: the same log, perhaps deep enough at last, or another one,
        where a reorganisation has put the transfer elsewhere. In one write, since logs of one block move together."""
        proofs = [(settlement.id, proof, self._came(settlement, proof)) for settlement, proof in seen]
        for moved in await self._db.write(settlements.confirmed, proofs, match=self._match):
            log.warning("proof_moved", settlement=moved)

    async def _ended(self, settlement_id: str) -> bool:
        settlement = await self._db.read(settlements.find, settlement_id)
        return settlement is not None and settlement.state in ENDED
