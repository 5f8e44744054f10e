"""Delivering webhooks: takes what is due from the outbox, tries it, writes down what came of it.

Lease, send, write: the lease is durable before anything is sent, so two processes never deliver one event at the same
moment, and a process that dies in between leaves an event that the next one delivers again, with the same id.

Receivers are strangers, and some are hostile. A try has 15 s and 64 KiB and follows nothing (gateway/outbound.py). One
that is quick or fails at once takes one of a few places; one that hangs gives its place back after a second and waits
on beside them, so however many receivers hang, the others are told in time (F-139). No host is called more than twice
at once or ten times in a second, whosever events they are (F-140). First tries go before repeated ones.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.core import answer, crash, webhook
from gateway.core.agent import Principal
from gateway.core.charge import Disclosure, disclosure
from gateway.core.errors import Code, Problem
from gateway.core.http import HttpClient, HttpFailure
from gateway.core.job import Job
from gateway.core.job import State as JobState
from gateway.store import agents, charges, jobs, outbox
from gateway.store.charges import ChargeView
from gateway.store.database import Database, Tx
from gateway.store.outbox import Due

log = structlog.get_logger("webhooks")

PAUSE_S: Final = 1.0
"""How often the outbox is looked into while nothing wakes us."""
GAP_S: Final = 0.1
"""The least time between two looks: with a long queue for one host a look costs tens of milliseconds."""
TIMEOUT_S: Final = 15.0
"""For one try, from the look-up of the name to the last byte of the answer."""
ANSWER_BYTES_MAX: Final = 65_536
"""What a receiver may say; nobody reads it."""
LEASE_S: Final = 60.0
"""Longer than a try and its two writes on a busy machine."""
PLACES: Final = 64
SLOW_S: Final = 0.5
"""After this a try that has no answer gives its place back."""
OPEN_MAX: Final = 512
"""Tries under way, those that hang with them: each is an open connection, and calls need some as well."""
HOST_AT_ONCE: Final = 2
HOST_A_SECOND: Final = 10
TIDY_EVERY_S: Final = 20.0

SECRET_OF_JOB_MS: Final = outbox.KEPT_MS + 4 * 86_400_000
"""How long, at least, the secret of a job without an agent is kept after its end: longer than all its tries take, and
a replay after them."""

GONE: Final = 410


def require_secret(tx: Tx, agent: Principal | None) -> None:
    """A callback of an agent's is signed with its secret, which is shown once, when it is made: to the agent, by its
    own token. Raises Problem ADMIN_TOKEN_REQUIRED."""
    if agent is None or outbox.secrets_of(tx, agent.agent_id):
        return
    if not agent.is_admin:
        raise Problem(
            Code.ADMIN_TOKEN_REQUIRED,
            "there is no webhook secret yet, and a usage key cannot have one made: call POST "
            "/api/v1/agents/webhook-secret with the agent's own token first",
        )
    agents.require_admin(tx, agent.agent_id, agent.token_id)


def first_secret(tx: Tx, owner: str, entropy: bytes) -> tuple[str, bool]:
    """(the owner's current secret, whether it was made just now, and so is to be shown). For the transaction that takes
    a callback; `entropy` is 32 random bytes."""
    known = outbox.secrets_of(tx, owner)
    if known:
        return known[0], False
    secret = webhook.new_secret(entropy)
    outbox.rotate_secret(tx, owner, secret, 0)
    return secret, True


def job_ended(tx: Tx, job: Job, charge: ChargeView, origin: str) -> None:
    """The event of a job's end, for the transaction that ends it; nothing where nobody wants to be told. Its id is the
    job's, so a job has one. Like the result, it comes out once it is paid for: see tell_settled. `origin`: our own
    public address."""
    if job.callback_url is None:
        return
    disclosed = _disclosure(charge)
    if disclosed is Disclosure.SETTLING:
        jobs.put_off(tx, job.id)
        return
    paid = disclosed is not Disclosure.WITHHELD
    event_id = "evt_" + job.id.partition("_")[2]
    event_type = webhook.JOB_COMPLETED if job.state is JobState.COMPLETED else webhook.JOB_FAILED
    told = webhook.JobTold(
        job_id=job.id,
        route=job.operation,
        status=job.state.value,
        matched=answer.unpack(charge.result).matched if paid and charge.result is not None else None,
        billed=paid and charge.charge.captured_micros > 0,
        charged_micros=charge.charge.captured_micros if paid else 0,
        result_url=f"{origin}/api/v1/enrich/jobs/{job.id}",
    )
    outbox.add(
        tx, event_id=event_id, event_type=event_type, owner=job.agent_id or job.id, subject=job.id,
        url=job.callback_url, body=webhook.job_event(event_id, event_type, tx.now_ms, job.agent_id, told),
    )  # fmt: skip
    if job.agent_id is None:
        outbox.retire_secret(tx, job.id, max(job.expires_ms or 0, tx.now_ms + SECRET_OF_JOB_MS))


def settled(tx: Tx) -> list[str]:
    """Ids of jobs whose event waited for a payment that is through by now, or never will be."""
    ended = ((job.id, charges.find(tx, job.charge_id)) for job in jobs.untold(tx))
    return [id for id, charge in ended if charge is not None and _disclosure(charge) is not Disclosure.SETTLING]


def tell_settled(tx: Tx, job_ids: Sequence[str], origin: str) -> None:
    """Their events; once each, whoever else does the same."""
    for job_id in job_ids:
        if jobs.take_untold(tx, job_id):
            job = jobs.find(tx, job_id)
            charge = None if job is None else charges.find(tx, job.charge_id)
            if job is not None and charge is not None:
                job_ended(tx, job, charge, origin)


def _disclosure(charge: ChargeView) -> Disclosure:
    return disclosure(charge.charge, abandoned=charge.settlement is not None and charge.settlement.abandoned)


@dataclass(frozen=True, slots=True)
class WebhookTerms:
    own_origin: str
    """Our own public address, which is never called."""
    brand: str
    """`Faregate`: of the header X-Faregate-Signature."""
    allow_http: bool = False
    tries: int = 5
    timeout_s: float = TIMEOUT_S

    def refuse(self, url: str) -> str | None:
        """core.webhook.refuse_callback by these terms."""
        return webhook.refuse_callback(url, self.own_origin, self.allow_http)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Of one try. `error` None: delivered. `final`: not to be tried again."""

    status: int | None
    error: str | None
    final: bool = False


class Webhooks:
    def __init__(
        self,
        *,
        db: Database,
        http: HttpClient,
        terms: WebhookTerms,
        owner: str,
        alive: Callable[[str], bool],
        clock: Callable[[], float],
        told: Callable[[str], None] = lambda outcome: None,
        alarm: Callable[[str, str], None] = lambda name, subject: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`owner` is this process, `alive(owner)` tells of another one (gateway/store/owners.py); `told(outcome)`
        counts tries; `chance` gives the jitter's numbers in [0, 1)."""
        self._db = db
        self._http = http
        self._terms = terms
        self._owner = owner
        self._alive = alive
        self._clock = clock
        self._told = told
        self._alarm = alarm
        self._chance = chance
        self._news = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], Due] = {}
        self._quick: set[asyncio.Task[None]] = set()
        self._tidied_s: float | None = None

    def wake(self) -> None:
        """Something was added: it need not wait for the next look."""
        self._news.set()

    async def run(self) -> None:
        """Forever. One failing round is told and does not end the next. Cancelled at shutdown, before drain()."""
        while True:
            try:
                await self._tidy()
                await self._tell_settled()
                await self._take()
            except Exception:
                log.exception("delivering_failed")
                self._alarm("delivering_failed", "")
                await asyncio.sleep(PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S):
                    await self._news.wait()
            self._news.clear()
            await asyncio.sleep(GAP_S)

    async def once(self) -> None:
        """Whatever is due now, to the end of those tries."""
        while await self._take():
            await self._idle()

    async def drain(self, seconds: float) -> None:
        """Tries under way get this long. What is cut off then is put back, and delivered by the next process."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        await self._idle()
        with suppress(Exception):  # a lease that stays runs out
            await self._db.write(outbox.put_back, self._owner)

    async def _idle(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _tidy(self) -> None:
        """Leases of processes that are no more, and what has been kept long enough."""
        now = asyncio.get_running_loop().time()
        if self._tidied_s is not None and now - self._tidied_s < TIDY_EVERY_S:
            return
        for owner in await self._db.read(outbox.lease_owners):
            if not self._alive(owner):
                log.warning("leases_of_the_dead", number=await self._db.write(outbox.put_back, owner))
        await self._db.write(outbox.forget)
        self._tidied_s = now

    async def _tell_settled(self) -> None:
        if due := await self._db.read(settled):
            await self._db.write(tell_settled, due, self._terms.own_origin)

    async def _take(self) -> int:
        """Starts tries of what is due, as many as there are places for; answers how many."""
        places = min(PLACES - len(self._quick), OPEN_MAX - len(self._tasks))
        if places <= 0 or not await self._db.read(outbox.waiting):
            return 0
        taken = await self._db.write(
            outbox.due, self._owner, int(LEASE_S * 1000), places, at_once=HOST_AT_ONCE, a_second=HOST_A_SECOND
        )
        for event in taken:
            self._start(event)
        return len(taken)

    def _start(self, event: Due) -> None:
        task = asyncio.create_task(self._deliver(event))
        self._tasks[task] = event
        self._quick.add(task)
        grown_slow = asyncio.get_running_loop().call_later(SLOW_S, self._slow, task)
        task.add_done_callback(self._ended)
        task.add_done_callback(lambda task: grown_slow.cancel())

    def _slow(self, task: asyncio.Task[None]) -> None:
        self._quick.discard(task)
        self.wake()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A try whose outcome could not be written keeps its lease, and is made again when that has run out."""
        event = self._tasks.pop(task)
        self._slow(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivering_failed", event_id=event.id, exc_info=error)
            self._alarm("delivering_failed", event.id)

    async def _deliver(self, event: Due) -> None:
        outcome = await self._try(event)
        status, error = outcome.status, outcome.error
        if error is None:
            await self._db.write(outbox.delivered, event.id, status)
            log.info("webhook_delivered", event_id=event.id, event_type=event.event_type, attempts=event.attempts)
            self._told("delivered")
            return
        pause_s = None if outcome.final else webhook.pause_s(event.attempts, self._terms.tries, self._chance())
        facts = {"event_id": event.id, "attempts": event.attempts, "status": status, "cause": error}
        if pause_s is None:
            gone = status == GONE
            await self._db.write(outbox.gave_up, event.id, self._owner, status=status, error=error, url_gone=gone)
            log.warning("webhook_given_up", **facts)
            self._told("given_up")
            return
        again_ms = int((self._clock() + pause_s) * 1000)
        await self._db.write(outbox.failed, event.id, self._owner, status=status, error=error, next_attempt_ms=again_ms)
        log.info("webhook_failed", **facts, again_in_s=int(pause_s))
        self._told("retried")

    async def _try(self, event: Due) -> _Outcome:
        if self._terms.refuse(event.url) is not None:
            return _Outcome(None, "refused_url", final=True)
        secrets = await self._db.read(outbox.secrets_of, event.owner)
        if not secrets:
            return _Outcome(None, "no_secret", final=True)
        crash.point("webhook.before_send")
        try:
            said = await self._http.request(
                "POST",
                event.url,
                headers=webhook.headers(event.id, event.body, secrets, int(self._clock()), self._terms.brand),
                body=event.body,
                timeout_s=self._terms.timeout_s,
                bytes_max=ANSWER_BYTES_MAX,
            )
        except HttpFailure as failure:
            return _Outcome(None, failure.kind)
        crash.point("webhook.after_send")
        return _judged(said.status)


def _judged(status: int) -> _Outcome:
    if 200 <= status < 300:
        return _Outcome(status, None)
    if status == GONE:
        return _Outcome(status, "gone", final=True)
    return _Outcome(status, "redirect" if 300 <= status < 400 else "status")
