"""The worker: takes jobs from the queue, works on them under a lease, and ends each together with its charge.

    claim      at most so many at once, fair among payers; a job whose worker is gone first
    work       flows/fulfilling.py, with a journal: what was bought before a crash is not bought again
    heartbeat  prolongs the lease, tells the progress, hears of a cancellation
    end        one transaction: charge captured or released, result kept, settlement queued, job over, event told

Whoever loses his lease stops and writes nothing. A worker that shuts down finishes what it can and hands the rest back.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import orjson
import structlog
from pydantic import ValidationError

from gateway.core import crash
from gateway.core.charge import Event as ChargeEvent
from gateway.core.charge import State as ChargeState
from gateway.core.errors import Code
from gateway.core.job import Event, Job, State
from gateway.core.upstream import AnswerLost, Failure, Json, Offering, Outcome
from gateway.core.vendor_call import ErrorClass, VendorCall
from gateway.core.vendor_call import Outcome as Called
from gateway.flows.collecting import Collecting
from gateway.flows.fulfilling import Bench, Call, Done, Ending, Fulfilling, Held, recorded
from gateway.flows.jobs import OnEnd
from gateway.store import charges, jobs
from gateway.store.charges import ChargeView
from gateway.store.database import Database, StoreUnavailable, Tx

log = structlog.get_logger("worker")

CANCELLED = Done(Failure("cancelled; nothing was charged"), None)
PAUSE_S = 1.0
"""How often the queue is looked at when nobody tells that there is work."""
BEATS_A_LEASE = 4
SPARE_FROM = 4
"""From so many places on, one is kept for payers who have nothing under way: long jobs of one must not keep all others
waiting."""
SETTLE_WAIT_S = 60.0


class StoredHops:
    """gateway.core.upstream.Journal of one job, over the store."""

    def __init__(self, db: Database, job: Job, owner: str) -> None:
        self._db = db
        self._job = job
        self._owner = owner

    async def recall(self, key: str) -> Json | None:
        stored = await self._db.read(jobs.recall, self._job.id, key)
        return None if stored is None else orjson.loads(stored)

    async def asking(self, key: str, *, repeatable: bool = False, cost_micros: int = 0) -> int:
        asked = await self._db.write(
            jobs.asking, self._job, self._owner, key, repeatable=repeatable, cost_micros=cost_micros
        )
        if not asked:
            raise AnswerLost(key)
        crash.point("job.asked")
        return asked - 1

    async def remember(self, key: str, outcome: Json) -> None:
        await self._db.write(jobs.remember, self._job, self._owner, key, orjson.dumps(outcome))
        crash.point("job.worked")


@dataclass(slots=True)
class _Progress:
    phase: str = "started"
    rounds: int = 0

    def __call__(self, phase: str) -> None:
        self.rounds += phase != self.phase
        self.phase = phase[:64]


class Worker:
    def __init__(
        self,
        *,
        db: Database,
        fulfilling: Fulfilling,
        collecting: Collecting | None,
        offerings: Mapping[str, Offering],
        owner: str,
        at_once: int,
        lease_s: float,
        result_ttl_ms: int,
        told: OnEnd = lambda tx, job, charge: None,
        changed: Callable[[str], None] = lambda job_id: None,
        captured: Callable[[str, str, int], None] = lambda operation, source, micros: None,
        missed: Callable[[str], None] = lambda party: None,
        alarm: Callable[[str, str], None] = lambda name, subject: None,
    ) -> None:
        """`owner` names this process; `changed(job_id)` is told of every end, `captured` of what was earned,
        `missed(party)` of what was looked for in vain."""
        self._db = db
        self._fulfilling = fulfilling
        self._collecting = collecting
        self._offerings = offerings
        self._owner = owner
        self._at_once = at_once
        self._lease_ms = int(lease_s * 1000)
        self._result_ttl_ms = result_ttl_ms
        self._told = told
        self._changed = changed
        self._captured = captured
        self._missed = missed
        self._alarm = alarm
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._beats: dict[str, asyncio.Event] = {}
        """By job: set to have its heart beat at once."""
        self._aside: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self._claiming = asyncio.Lock()

    def queued(self) -> None:
        """There is work."""
        self._wake.set()

    def cancelled(self, job_id: str) -> None:
        """Somebody wants it to stop: where it is worked on here, that need not wait for its next heartbeat."""
        if (beat := self._beats.get(job_id)) is not None:
            beat.set()

    async def run(self) -> None:
        """Forever; cancelled at shutdown, after `drain`. A round that fails ends nothing but itself."""
        while not self._closing:
            self._wake.clear()
            try:
                async with self._claiming:
                    claimed = await self._claim()
            except Exception:
                log.exception("worker_failed")
                self._alarm("worker_failed", "")
                claimed = 0
            if claimed and len(self._tasks) < self._at_once:
                continue
            try:
                async with asyncio.timeout(PAUSE_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _claim(self) -> int:
        """Ends what is overdue, takes what there is room for; answers how many jobs it took."""
        for job_id in await self._db.write(self._end_overdue):
            self._changed(job_id)
        free = self._at_once - len(self._tasks)
        if free <= 0:
            return 0
        spare = self._at_once >= SPARE_FROM
        claimed = await self._db.write(jobs.claim, self._owner, self._lease_ms, free, spare=spare)
        if claimed:
            crash.point("job.claimed")
        if self._closing:
            for job in claimed:
                await self._db.write(jobs.hand_back, job, self._owner)
            return 0
        for job in claimed:
            task = asyncio.create_task(self._work(job), name=f"job {job.id}")
            self._tasks[job.id] = task
            task.add_done_callback(lambda ended, id=job.id: self._over(id, ended))  # type: ignore[misc]
        return len(claimed)

    def _over(self, job_id: str, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(job_id, None)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nothing was decided: when its lease is over somebody starts it again, as often as one may.
            log.error("job_failed", job=job_id, exc_info=error)
            self._alarm("worker_failed", job_id)

    async def drain(self, wait_s: float) -> None:
        """No new jobs; those under way get this long, and are handed back then."""
        self._closing = True
        self._wake.set()
        async with self._claiming:  # what is just being claimed is handed back
            pass
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=wait_s)
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, *self._aside, return_exceptions=True)

    # one job

    async def _work(self, job: Job) -> None:
        try:
            await self._worked(job)
        except asyncio.CancelledError:
            # We are shutting down. Where the end was just being written this changes nothing.
            await self._db.write(jobs.hand_back, job, self._owner)
            raise

    async def _worked(self, job: Job) -> None:
        held = await self._held(job)
        if held is None:
            await self._end(job, Event.FAILED, Done(Failure("this work cannot be done here any more"), None), None)
            return
        if job.cancelling:  # whoever worked on it before has not got to it
            await self._end(job, Event.CANCELLED, CANCELLED, held)
            return
        progress = _Progress()
        bench = Bench(StoredHops(self._db, job, self._owner), progress, job.deadline_ms / 1000)
        work = asyncio.create_task(self._fulfilling.work(held, bench))
        heart = asyncio.create_task(self._beat(job, progress))
        try:
            await asyncio.wait((work, heart), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                done = work.result()
                event = Event.FAILED if isinstance(done.outcome, Failure) else Event.COMPLETED
                await self._end(job, event, done, held, progress.rounds)
            elif heart.result():
                await _stopped(work)
                stopped = replace(CANCELLED, calls=tuple(bench.calls))
                await self._end(job, Event.CANCELLED, stopped, held, progress.rounds)
            else:
                log.warning("lease_lost", job=job.id)
        finally:
            self._beats.pop(job.id, None)
            heart.cancel()
            await _stopped(work)

    async def _held(self, job: Job) -> Held | None:
        """What the job is to do and under which charge; None when it cannot be done any more."""
        offering = self._offerings.get(job.operation)
        view = await self._db.read(charges.find, job.charge_id)
        if offering is None or view is None or view.charge.state is not ChargeState.HELD:
            return None
        try:
            query = offering.operation.input.model_validate_json(job.payload)
        except ValidationError:
            return None
        withheld = await self._db.read(charges.find, job.resells) if job.resells else None
        if withheld is not None and withheld.result is None:
            withheld = None  # its time was over while this job waited: the work is done anew, for what it costs
        return Held(Call(offering.operation, query, job.request_id), view.charge, None, withheld)

    async def _beat(self, job: Job, progress: _Progress) -> bool:
        """Keeps the lease while the work goes on. True: somebody wants it to stop. False: the lease is lost."""
        loop = asyncio.get_running_loop()
        lease_s = self._lease_ms / 1000
        until = loop.time() + lease_s
        early = self._beats[job.id] = asyncio.Event()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(lease_s / BEATS_A_LEASE):
                    await early.wait()
            early.clear()
            asked_at = loop.time()
            try:
                now = await self._db.write(
                    jobs.heartbeat, job, self._owner, self._lease_ms, progress.phase, progress.rounds
                )
            except StoreUnavailable:
                if loop.time() >= until:
                    return False
                continue
            if now is None:
                return False
            if now.cancelling:
                return True
            until = asked_at + lease_s

    async def _end(self, job: Job, event: Event, done: Done, held: Held | None, rounds: int = 0) -> None:
        ending = self._fulfilling.ending(held, done, self._result_ttl_ms) if held else Ending(ChargeEvent.FAILED)
        crash.point("job.before_end")
        view = await self._db.write(self._ended, job, event, ending, done.outcome, rounds)
        crash.point("job.after_end")
        if view is None:
            log.warning("ended_elsewhere", job=job.id)
            return
        if view.charge.captured_micros:
            self._captured(view.charge.operation, view.charge.source, view.charge.captured_micros)
        elif view.charge.reason is ChargeEvent.MISSED:
            self._missed(view.charge.party)
        self._changed(job.id)
        if view.settlement is not None and self._collecting is not None:
            settling = asyncio.create_task(self._settle(job.id, view, self._collecting))
            self._aside.add(settling)
            settling.add_done_callback(self._aside.discard)

    async def _settle(self, job_id: str, view: ChargeView, collecting: Collecting) -> None:
        """Nobody waits for it here; whoever polls hears when it is through."""
        assert view.settlement is not None
        await collecting.collect(view.settlement, wait_s=SETTLE_WAIT_S)
        self._changed(job_id)

    def _ended(
        self, tx: Tx, job: Job, event: Event, ending: Ending, outcome: Outcome, rounds: int
    ) -> ChargeView | None:
        """The one write that ends a job. None: this attempt has nothing to say any more."""
        now = jobs.find(tx, job.id)
        if now is None or now.state is not State.RUNNING or now.attempt != job.attempt:
            return None
        if now.cancelling:  # whoever was told that it will stop pays nothing and gets nothing, however near its end
            event, outcome = Event.CANCELLED, CANCELLED.outcome
            ending = Ending(ChargeEvent.FAILED, calls=ending.calls)
        view = recorded(tx, job.charge_id, replace(ending, calls=_bought(tx, job, ending.calls)))
        if view is None:
            event, outcome = Event.FAILED, Failure("its charge was ended by somebody else")
            view = _charge_of(tx, job)
        code, message = _error(event, outcome)
        ended = jobs.end(
            tx, now, event, ttl_ms=self._result_ttl_ms, error_code=code, error=message, rounds=rounds
        )  # fmt: skip
        self._told(tx, ended, view)
        return view

    def _end_overdue(self, tx: Tx) -> list[str]:
        """What nobody will bring to its end any more, its charge with it: whoever still works on it comes too late."""
        overdue = jobs.overdue(tx)
        for job in overdue:
            charges.record(tx, job.charge_id, ChargeEvent.EXPIRED, calls=_bought(tx, job))
            late = job.deadline_ms <= tx.now_ms
            ended = jobs.end(
                tx, job, Event.FAILED, ttl_ms=self._result_ttl_ms,
                error_code=Code.UPSTREAM_TIMEOUT if late else Code.UPSTREAM_ERROR,
                error="it took too long and was given up; nothing was charged" if late
                else "it ended its worker each time it was begun; nothing was charged",
            )  # fmt: skip
            self._told(tx, ended, _charge_of(tx, job))
        return [job.id for job in overdue]


async def _stopped(work: "asyncio.Task[Done]") -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


def _bought(tx: Tx, job: Job, told: tuple[VendorCall, ...] = ()) -> tuple[VendorCall, ...]:
    """What the work tells that it has bought, and what an earlier attempt had bought on the same charge; with what was
    asked, and not told of again, at the most it can have taken."""
    known = {(call.hop, call.provider) for call in told}
    hops = [orjson.loads(outcome) for outcome in jobs.outcomes(tx, job.id)]
    earlier = [VendorCall.from_json(hop["call"]) for hop in hops if hop.get("charge") == job.charge_id]
    asked = {call.hop for call in told} | {
        f"{call.hop}/{call.provider}" for call in told if call.outcome is not Called.SKIPPED
    }
    return (
        *(call for call in earlier if (call.hop, call.provider) not in known),
        *(_lost(job, *hop) for hop in jobs.lost(tx, job.id) if hop[0] not in asked),
        *told,
    )


def _lost(job: Job, key: str, cost_micros: int, asked_ms: int) -> VendorCall:
    hop, slash, provider = key.rpartition("/")
    if not slash:
        hop, provider = key, job.operation
    return VendorCall(hop, provider, Called.FAILED, ErrorClass.LOST, cost_micros, at_ms=asked_ms)


def _charge_of(tx: Tx, job: Job) -> ChargeView:
    view = charges.find(tx, job.charge_id)
    if view is None:
        raise AssertionError(f"{job.id} has no charge")
    return view


def _error(event: Event, outcome: Outcome) -> tuple[str | None, str | None]:
    """(code, sentence) of a job that did not complete."""
    if event is Event.CANCELLED:
        return "JOB_CANCELLED", "cancelled while it was worked on; nothing was charged"
    if not isinstance(outcome, Failure):
        return None, None
    code = outcome.told_as
    return code.value, outcome.message if outcome.code is not None else f"{outcome.message}; nothing was charged"
