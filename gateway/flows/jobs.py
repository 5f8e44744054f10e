"""Jobs: work that is handed over instead of waited for.

    submit    authorize, as of any call, with the ceiling for its price; the job is written with the hold
    tell      what is known of it; the result comes out once it is paid for, never before
    cancel    from the queue at once and for nothing; running, at the worker's next safe point
    retry     the operator's: a failed job is done again by another one, held anew from the same balance

The money is that of a sync call: one charge, held here, captured or released by the worker (flows/worker.py).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.core import ids, webhook
from gateway.core.agent import Principal
from gateway.core.charge import Charge, Disclosure, Event, Source, disclosure
from gateway.core.errors import Code, Conflict, Problem
from gateway.core.job import ENDED, OWNER, Job, State
from gateway.core.job import Event as JobEvent
from gateway.core.money import format_usd
from gateway.core.webhook import WebhookState
from gateway.flows.fulfilling import Call, job_fingerprint
from gateway.flows.purchase import WORK_MARGIN_S, Answer, Purchase, capped
from gateway.flows.webhooks import first_secret, require_secret
from gateway.store import agents, charges, jobs, outbox, prepaid, sessions, usage_keys
from gateway.store.charges import ChargeView
from gateway.store.database import Database, Tx
from gateway.store.prepaid import Prepaid
from gateway.store.usage_keys import UsageKey

OnEnd = Callable[[Tx, Job, ChargeView], None]
"""Written with the end of a job: whom to tell of it."""

WATCH_S = 1.0
"""How often jobs that somebody waits for are looked at: other processes may have ended them."""
WATCHED_AT_ONCE = 500
WAITERS_MAX = 16
"""Who wait for one job at a time: one poll bearer must not take every connection. More are answered at once."""
WAITERS_OF_PARTY_MAX = 500
"""The same for all jobs of one agent or wallet."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and its charge, of one moment."""

    job: Job
    charge: ChargeView
    callback: outbox.Told | None = None
    """What became of its event, or will. None: nobody is called, or that is long past."""
    retried_as: str | None = None
    """The job that does this failed one again."""
    prepaid: Prepaid | None = None
    """What was paid before the work, and where it is."""

    @property
    def disclosure(self) -> Disclosure:
        settlement = self.charge.settlement
        return disclosure(self.charge.charge, abandoned=settlement is not None and settlement.abandoned)

    @property
    def state(self) -> State:
        """As it is told: a result that is not paid for yet is none, so its job is still running."""
        unpaid = self.job.state is State.COMPLETED and self.disclosure is Disclosure.SETTLING
        return State.RUNNING if unpaid else self.job.state

    @property
    def phase(self) -> str:
        return "settling" if self.state is not self.job.state else self.job.phase or self.job.state.value


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks about a job: its agent, which may ask about all it has; a usage key of the agent, which may ask about
    those handed in with it; or whoever has the job's poll bearer."""

    principal: Principal | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Submitted:
    view: JobView
    poll_bearer: str
    repeated: bool
    webhook_secret: str | None = None
    """What its callback is signed with, where nobody knows it yet."""
    charge_token: str | None = None
    """Of what was paid before the work without an agent: it lets its payer go on after a failure."""


class Jobs:
    def __init__(
        self,
        *,
        db: Database,
        purchase: Purchase,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        token_prefix: str,
        result_ttl_ms: int,
        queued: Callable[[], None] = lambda: None,
        cancelled: Callable[[str], None] = lambda job_id: None,
        told: OnEnd = lambda tx, job, charge: None,
        waiters_of_party_max: int = WAITERS_OF_PARTY_MAX,
    ) -> None:
        """`queued()` is told that there is work, `cancelled(job_id)` of what is to stop; `told` is written with the
        end of a job; `result_ttl_ms` is how long one can be asked about after that."""
        self._db = db
        self._purchase = purchase
        self._clock = clock
        self._entropy = entropy
        self._token_prefix = f"{token_prefix}j_"
        self._result_ttl_ms = result_ttl_ms
        self._queued = queued
        self._cancelled = cancelled
        self._told = told
        self._closing = False
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._waiters_of: Counter[str] = Counter()
        """How many wait for the jobs of each party."""
        self._waiters_of_party_max = waiters_of_party_max

    # submit

    async def submit(self, call: Call) -> Submitted | Answer:
        """Raises Problem; then nothing was held and there is no job. With the same payment or idempotency key the same
        call again gives the same job, until that has failed. Answer: of a payment that is settled first, and has not
        come yet or never will."""
        handover = call.handover
        if handover is None:
            raise AssertionError("a job is handed over on terms")
        job_id, bearer = self._new_id("ej_"), ids.new_token(self._token_prefix, self._entropy(32))

        agent_id = call.principal.agent_id if call.principal else None
        secret_entropy = self._entropy(webhook.ENTROPY_SECRET_BYTES)
        made: list[Submitted] = []

        def rider(tx: Tx, charge: Charge, withheld: ChargeView | None) -> None:
            secret, new = None, False
            if handover.callback_url is not None:
                require_secret(tx, call.principal)
                secret, new = first_secret(tx, agent_id or job_id, secret_entropy)
            job = Job(
                id=job_id,
                operation=call.operation.id,
                charge_id=charge.id,
                party=charge.party,
                agent_id=agent_id,
                payload=call.query.model_dump_json(by_alias=True, exclude_unset=True).encode(),
                request_id=call.request_id,
                deadline_ms=tx.now_ms + handover.work_s * 1000,
                callback_url=handover.callback_url,
                resells=withheld.charge.id if withheld else None,
                created_ms=tx.now_ms,
                idempotency_key=call.idempotency_key if call.payment is None else None,
            )
            jobs.add(tx, job, ids.token_hash(bearer))
            made[:] = [Submitted(joined(tx, job), bearer, repeated=False, webhook_secret=secret if new else None)]

        ticket = await self._purchase.hand_over(call, rider)
        if isinstance(ticket, Answer):
            if ticket.view.charge.topup:
                return ticket
            return await self._again(ticket.view.charge.id, bearer)
        self._queued()
        (submitted,) = made
        return replace(submitted, charge_token=ticket.token)

    async def _again(self, charge_id: str, bearer: str) -> Submitted:
        """The job of an earlier submission, with a new bearer: only hashes are kept, and its answer may be lost. So may
        the secret of a callback that is this job's alone; an agent makes itself a new one."""

        def bring(tx: Tx) -> Submitted:
            job = jobs.find_by_charge(tx, charge_id)
            if job is None:
                raise Problem(Code.PAYMENT_ALREADY_USED, "this payment was used for a call that is no job")
            jobs.add_token(tx, job.id, ids.token_hash(bearer))
            secrets = outbox.secrets_of(tx, job.id)
            return Submitted(joined(tx, job), bearer, repeated=True, webhook_secret=secrets[0] if secrets else None)

        return await self._db.write(bring)

    # tell

    async def tell(self, job_id: str, asker: Asker, wait_s: float = 0.0) -> JobView:
        """The job, for whoever may ask; with `wait_s`, as soon as it has ended or then. Raises Problem JOB_NOT_FOUND:
        no such job, or not theirs; JOB_EXPIRED: the bearer's time is over."""
        view = await self._theirs(job_id, asker)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        party = view.job.party
        if len(self._waiting.get(job_id, ())) >= WAITERS_MAX or self._waiters_of[party] >= self._waiters_of_party_max:
            return view
        self._waiters_of[party] += 1
        try:
            while view.state not in ENDED and not self._closing and (left_s := until - loop.time()) > 0:
                await self._wait(job_id, left_s)
                view = await self._view(job_id)
        finally:
            self._waiters_of[party] -= 1
            if not self._waiters_of[party]:
                del self._waiters_of[party]
        return view

    async def _theirs(self, job_id: str, asker: Asker) -> JobView:
        def look(tx: Tx) -> JobView | None:
            job = jobs.find(tx, job_id)
            if job is None:
                return None
            opens = asker.token is not None and jobs.token_opens(tx, job_id, ids.token_hash(asker.token))
            if opens and job.expires_ms is not None and job.expires_ms <= tx.now_ms:
                raise Problem(Code.JOB_EXPIRED, "this job ended long ago; its bearer and its result are gone")
            view = joined(tx, job)
            agent = asker.principal
            owns = agent is not None and job.agent_id == agent.agent_id and agent.key_id in (None, view.charge.key_id)
            return view if opens or owns else None

        view = await self._db.read(look)
        if view is None:
            raise Problem(Code.JOB_NOT_FOUND, "no such job, or not yours")
        return view

    async def _view(self, job_id: str) -> JobView:
        def look(tx: Tx) -> JobView:
            job = jobs.find(tx, job_id)
            if job is None:
                raise AssertionError(f"{job_id} is written and cannot be gone")
            return joined(tx, job)

        return await self._db.read(look)

    # cancel

    async def cancel(self, job_id: str, asker: Asker) -> JobView:
        """Raises Problem JOB_NOT_FOUND, and JOB_ENDED for one that is over already."""
        await self._theirs(job_id, asker)
        await self._db.write(stop, job_id, self._result_ttl_ms, self._told)
        self.changed(job_id)
        self._cancelled(job_id)
        return await self._view(job_id)

    async def revoke_key(self, agent: Principal, key_id: str) -> tuple[UsageKey, list[str]] | None:
        """See `revoke_key` below; by the agent's own token. Raises Problem as agents.require_admin."""
        write = agents.by_admin(agent, revoke_key)
        revoked = await self._db.write(write, agent.agent_id, key_id, self._result_ttl_ms, self._told)
        if revoked is not None:
            for job_id in revoked[1]:
                self.changed(job_id)
                self._cancelled(job_id)
        return revoked

    # waiting

    def close(self) -> None:
        """Nobody waits any longer: we are shutting down."""
        self._closing = True
        for job_id in list(self._waiting):
            self.changed(job_id)

    def changed(self, job_id: str) -> None:
        """Whoever waits for it looks again."""
        for waiter in self._waiting.pop(job_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    async def watch(self) -> None:
        """Forever: wakes whoever waits for a job that another process, or a settlement, has brought to its end. One
        look for all who wait."""
        while True:
            await asyncio.sleep(WATCH_S)
            waited_for = list(self._waiting)
            for at in range(0, len(waited_for), WATCHED_AT_ONCE):
                for job_id in await self._db.read(_over, waited_for[at : at + WATCHED_AT_ONCE]):
                    self.changed(job_id)

    async def _wait(self, job_id: str, wait_s: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(waiter)
        try:
            async with asyncio.timeout(wait_s):
                await waiter
        except TimeoutError:
            pass
        finally:
            others = self._waiting.get(job_id)
            if others is not None:
                others.discard(waiter)
                if not others:
                    del self._waiting[job_id]

    def _new_id(self, prefix: str) -> str:
        return ids.new_id(prefix, int(self._clock() * 1000), self._entropy(ids.ENTROPY_ID_BYTES))


def stop(tx: Tx, job_id: str, result_ttl_ms: int, told: OnEnd) -> None:
    """A queued job ends here, and its hold with it; a running one is marked. Raises Problem JOB_ENDED."""
    job = jobs.find(tx, job_id)
    if job is None or job.state in ENDED:
        raise Problem(Code.JOB_ENDED, "its work has ended already; ask for its result")
    if job.state is State.RUNNING:
        jobs.ask_to_stop(tx, job_id)
        return
    charges.record(tx, job.charge_id, Event.FAILED)
    ended = jobs.end(
        tx, job, JobEvent.CANCELLED, ttl_ms=result_ttl_ms, error_code="JOB_CANCELLED",
        error="cancelled before it was begun; nothing was charged",
    )  # fmt: skip
    told(tx, ended, joined(tx, ended).charge)


def revoke_key(
    tx: Tx, agent_id: str, key_id: str, result_ttl_ms: int, told: OnEnd
) -> tuple[UsageKey, list[str]] | None:
    """A usage key ends, and with it the jobs it has handed in that nobody has begun: they cost nothing. What is being
    worked on ends as it would. (the key, the jobs cancelled); None: the agent has no such key."""
    key = usage_keys.revoke(tx, agent_id, key_id)
    if key is None:
        return None
    queued = jobs.queued_by_key(tx, agent_id, key_id)
    for job_id in queued:
        stop(tx, job_id, result_ttl_ms, told)
    return key, queued


@dataclass(frozen=True, slots=True)
class Retry:
    """What a retry needs that is made before its transaction."""

    job_id: str
    charge_id: str
    request_id: str
    bearer_hash: bytes
    """Of its poll bearer."""
    work_s: int


def retry(tx: Tx, job_id: str, new: Retry) -> None:
    """A failed job is queued again, as another one: its ceiling is held from the same agent's balance, under the same
    idempotency key and within the cap of the same usage key, and what it has bought it has. Raises Conflict with the
    reason where that cannot be, Problem for an agent that may not spend, and for one whose usage key, with which it
    was handed in, is good no more."""
    failed = jobs.find(tx, job_id)
    if failed is None or failed.state is not State.FAILED:
        raise Conflict("only a job that has failed is done again" if failed else "there is no such job")
    if (earlier := jobs.retried_as(tx, job_id)) is not None:
        raise Conflict(f"it is done again already, as {earlier}")
    view = joined(tx, failed).charge
    if view.charge.source is not Source.BALANCE:
        raise Conflict("it was paid by a signature, which was given back: only its payer can hand it in again")
    payload = jobs.payload_of(tx, job_id)
    if payload is None:
        raise Conflict("it failed too long ago: what it had asked for is gone")
    charge = Charge(
        id=new.charge_id, operation=failed.operation, party=failed.party, source=Source.BALANCE,
        held_micros=view.charge.held_micros, metered=view.charge.metered, topup_id=view.charge.topup_id,
    )  # fmt: skip
    deadline_ms = tx.now_ms + new.work_s * 1000
    work = charges.Work(
        request_id=new.request_id, request_hash=view.request_hash, owner=OWNER, agent_id=failed.agent_id,
        work_deadline_ms=deadline_ms + WORK_MARGIN_S * 1000, key_id=view.key_id,
    )  # fmt: skip
    key = None
    if failed.idempotency_key is not None:
        terms = job_fingerprint(view.request_hash, charge.held_micros, failed.callback_url)
        key = charges.KeyUse(failed.party, failed.idempotency_key, terms)
    elif (alike := charges.find_alike(tx, view.charge, view.request_hash)) is not None:
        raise Conflict(f"its agent has asked for the same again since, as {alike}")
    outcome = prepaid.hold(tx, charge, work) if charge.topup_id else charges.hold(tx, charge, work, None, key)
    if isinstance(outcome, ChargeView):
        raise Conflict(f"its payer has handed it in again with the same payment, as {outcome.charge.id}")
    if isinstance(outcome, prepaid.NotCome):
        raise Conflict("a reorganisation has taken its payment back")
    if isinstance(outcome, charges.KeyKnown):
        raise Conflict(f"its agent has handed it in again by the same Idempotency-Key, as {outcome.charge_id}")
    if isinstance(outcome, charges.Capped):
        raise Conflict(capped(outcome.use, charge.held_micros).message)
    if isinstance(outcome, charges.Short):
        available, wanted = format_usd(outcome.available_micros), format_usd(charge.held_micros)
        raise Conflict(f"the agent's balance of {available} USD does not cover the {wanted} USD that it may cost")
    assert isinstance(outcome, charges.Held), "there is no claim"
    again = replace(
        failed, id=new.job_id, charge_id=charge.id, payload=payload, request_id=new.request_id,
        deadline_ms=deadline_ms, retry_of=job_id, party=outcome.charge.party,
    )  # fmt: skip
    jobs.add(tx, again, new.bearer_hash)
    jobs.hand_down(tx, job_id, again.id)
    sessions.reclaim(tx, view.charge.id, charge.id)


def joined(tx: Tx, job: Job) -> JobView:
    """The job with its charge and its callback."""
    charge = charges.find(tx, job.charge_id)
    if charge is None:
        raise AssertionError(f"{job.id} has no charge")
    callback = None
    if job.callback_url is not None:
        callback = outbox.of_subject(tx, job.id)
        if callback is None and (job.ended_ms is None or tx.now_ms - job.ended_ms < outbox.KEPT_MS):
            callback = outbox.Told(WebhookState.PENDING, 0)
    topup_id = charge.charge.topup_id
    return JobView(
        job, charge, callback, jobs.retried_as(tx, job.id) if job.state is State.FAILED else None,
        None if topup_id is None else prepaid.look(tx, topup_id),
    )  # fmt: skip


def _over(tx: Tx, job_ids: Sequence[str]) -> list[str]:
    return [job_id for job_id, state in jobs.states(tx, list(job_ids)).items() if state in ENDED]
