"""Fulfilling: what a call asks for, the upstream's work on it, and what its outcome means for the money.

A sync call and a job are the same here. What differs is who waits, and that a job's work has a journal: a purchase
whose answer is stored is never made twice.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import structlog
from pydantic import BaseModel

from gateway.core import answer, ids, lead, subject, vendor_call
from gateway.core.agent import JOBS, Principal, scope_of
from gateway.core.catalogue import Operation
from gateway.core.charge import Charge, Event, Source, State
from gateway.core.errors import Conflict, Problem
from gateway.core.http import HttpClient
from gateway.core.lead import LeadKey
from gateway.core.money import MICROS_MAX, atomic_to_micros_down, micros_to_atomic_up
from gateway.core.session import STATE_MAX, Session, SessionQuery
from gateway.core.subject import Hides, SubjectKey, Suppressed
from gateway.core.upstream import AnswerLost, Answers, Context, Failure, Journal, Match, NoMatch, Offering, Outcome
from gateway.core.vendor_call import ErrorClass, VendorCall
from gateway.core.x402.messages import Payment, Requirements
from gateway.store import answers, charges, leads, sessions, subjects
from gateway.store.charges import ChargeView
from gateway.store.database import Database, StoreUnavailable, Tx

log = structlog.get_logger("fulfilling")

SETTLE_MARGIN_S = 10
"""How long a signature must outlive the work, so that its settlement can be mined."""


@dataclass(frozen=True, slots=True)
class Handover:
    """That a call is handed over as a job, and on which terms."""

    ceiling_micros: int
    offers: tuple[Requirements, ...]
    """How the ceiling can be paid by x402."""
    work_s: int
    """What it may take until it has failed."""
    settle_margin_s: int
    callback_url: str | None = None


def canonical(operation: str, query: BaseModel) -> bytes:
    """A request, whatever the client's spelling of it was."""
    return f"{operation}\n{query.model_dump_json(exclude_defaults=True)}".encode()


def job_fingerprint(request_hash: bytes, ceiling_micros: int, callback_url: str | None) -> bytes:
    """Of a job's submission."""
    terms = f"job {ceiling_micros} {callback_url or ''}\n".encode()
    return hashlib.sha256(terms + request_hash).digest()


@dataclass(frozen=True, slots=True)
class Call:
    """What the edge has understood of a request. Nothing of it was checked against money yet."""

    operation: Operation
    query: BaseModel
    request_id: str
    principal: Principal | None = None
    payment: Payment | None = None
    idempotency_key: str | None = None
    handover: Handover | None = None
    budget_micros: int | None = None
    """The most that its caller wants it to cost; at least the base price."""
    topup: tuple[Requirements, ...] | None = None
    """That it buys balance, by one of these offers."""
    charge_token: str | None = None
    """Of a call with the same payment before: it proves what a payment that is public proves no more."""
    request_key: bytes = field(default=b"", repr=False)
    """What requests are hashed with; flows/purchase.py says it."""

    @property
    def request_hash(self) -> bytes:
        """The canonical request: the operation and its validated input, whatever the client's spelling was. What it may
        cost and whom to tell does not make it another one: the work is the same. Charges keep it for good, so it is
        keyed, by a key that is not in the database: there are only ten billion phone numbers. With another key nothing
        is a repeat, and what would have been one is refused and never charged."""
        return hmac.digest(self.request_key, canonical(self.operation.id, self.query), "sha256")

    @property
    def fingerprint(self) -> bytes:
        """What must be equal when an idempotency key is used again: the request and its terms."""
        if self.handover is not None:
            return job_fingerprint(self.request_hash, self.handover.ceiling_micros, self.handover.callback_url)
        if self.budget_micros is not None and self.metered:
            return hashlib.sha256(b"budget %d\n%s" % (self.budget_micros, self.request_hash)).digest()
        return self.request_hash

    @property
    def scopes(self) -> tuple[str, ...]:
        """What a usage key must be allowed to do for it."""
        scope = scope_of(self.operation.id)
        return (JOBS, scope) if self.handover is not None else (scope,)

    @property
    def may_be_repeated(self) -> bool:
        """Whether the same call will be answered again when its payment is public; else its charge token is needed."""
        return self.principal is not None or self.payment is None or not self.payment.is_guessable

    @property
    def wants_token(self) -> bool:
        """Whether its payer has nothing else to fetch the result with: no agent's bearer, no poll bearer. Or to go on
        with after a failure, of what is paid before the work: the payment is public by then."""
        return self.principal is None and (self.handover is None or self.prepays)

    @property
    def prepays(self) -> bool:
        """Whether its payment is settled before the work."""
        return self.operation.settle_first and self.payment is not None and self.topup is None

    @property
    def ceiling_micros(self) -> int:
        """The most it may cost, but by `exact`."""
        return self.handover.ceiling_micros if self.handover else self.operation.price.ceiling_micros

    @property
    def signed_ceiling_micros(self) -> int:
        """What `upto` is offered and signed for."""
        return self.ceiling_micros if self.handover else self.operation.asks_micros or self.ceiling_micros

    @property
    def from_balance_micros(self) -> int:
        """What is held of a balance for it."""
        return self.ceiling_micros if self.budget_micros is None else min(self.ceiling_micros, self.budget_micros)

    @property
    def least_micros(self) -> int:
        """What a balance must have for it."""
        return self.from_balance_micros if self.goes_on is None else self.operation.price.base_micros

    def shrinks_to(self, available_micros: int) -> bool:
        """Whether a balance that has less than its budget is enough for a smaller one."""
        return self.goes_on is not None and self.handover is None and available_micros >= self.least_micros

    @property
    def goes_on(self) -> SessionQuery | None:
        """Its query, where it belongs to a session or may begin one."""
        return self.query if isinstance(self.query, SessionQuery) else None

    def at_most_micros(self, held_micros: int) -> int:
        """The most that is charged for it, of what is held."""
        asked = self.budget_micros, self.goes_on.budget_micros if self.goes_on else None
        return min([held_micros, *(micros for micros in asked if micros is not None)])

    @property
    def metered(self) -> bool:
        """Whether what is held is a ceiling."""
        return self.handover is not None or self.operation.price.metered

    @property
    def work_s(self) -> int:
        return self.handover.work_s if self.handover else int(self.operation.timeout_s)

    @property
    def signature_s(self) -> tuple[int, int]:
        """How long a signature for it must be good: (for the work, for the settlement after it)."""
        if self.prepays:
            return 0, SETTLE_MARGIN_S
        return self.work_s, self.handover.settle_margin_s if self.handover else SETTLE_MARGIN_S


@dataclass(frozen=True, slots=True)
class Held:
    """An open charge: the work may begin. Of a prepaid call it is the call's own, its top-up has come by then."""

    call: Call
    charge: Charge
    token: str | None
    withheld: ChargeView | None = None
    """An earlier result of the same payer for the same request that could not be collected: it needs no new work."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a job's work has beside a sync call's."""

    journal: Journal
    progress: Callable[[str], None]
    deadline_s: float
    """Unix seconds."""
    calls: list[VendorCall] = field(default_factory=list)
    """What was bought until now, for whoever has to end the work."""


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody has asked, to be known again when he asks it again."""

    hash: bytes
    ttl_ms: int
    """How long its answer is fresh."""
    discount_percent: int
    """What is taken off the price of an answer that is given again."""


@dataclass(frozen=True, slots=True)
class Part:
    """The answer to one of the questions that a call's work was made of."""

    question: Question
    body: bytes = field(repr=False)
    """As a result is stored."""
    hop: str
    """What the hops of its vendors begin with."""
    tells: frozenset[bytes] = field(default=frozenset(), repr=False)
    """Digests of whom it tells: of more people than the answer that it went into."""


@dataclass(frozen=True, slots=True)
class Done:
    outcome: Outcome
    stored: bytes | None
    """What is kept of it; None of a failure."""
    calls: tuple[VendorCall, ...] = ()
    """What was bought for it."""
    session: Session | None = None
    """What it went on with."""
    question: Question | None = None
    """Whose answer it is from now on."""
    again: Question | None = None
    """Whose answer it was already."""
    parts: tuple[Part, ...] = ()
    """What was bought for it, and can be given again by itself."""


@dataclass(frozen=True, slots=True)
class Telling:
    """Whom a result tells of."""

    people: int
    key: SubjectKey
    digests: frozenset[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ending:
    """What one write has to say of a charge whose work is over."""

    event: Event
    amount_micros: int = 0
    amount_atomic: int | None = None
    settlement_id: str | None = None
    calls: tuple[VendorCall, ...] = ()
    result: bytes | None = None
    result_ttl_ms: int = 0
    resells: str | None = None
    session_id: str | None = None
    session_subject: bytes = b""
    session_state: bytes | None = None
    session_cost_micros: int = 0
    session_tells: frozenset[bytes] = field(default=frozenset(), repr=False)
    """Digests of whom its state tells."""
    leads: tuple[bytes, ...] = ()
    """Digests of whom it was about."""
    lead_key_id: int = 0
    told: Telling | None = None
    question: Question | None = None
    """To be answered with it again."""
    parts: tuple[Part, ...] = ()
    miss_free: bool = True


class Asked(Protocol):
    """gateway.flows.subjects.Subjects: whom a call asks about, and of whom nothing may be told."""

    @property
    def key(self) -> SubjectKey: ...
    @property
    def hides(self) -> Hides | None: ...
    def asked(self, call: Call) -> frozenset[bytes]: ...
    def require_tellable(self, digests: frozenset[bytes]) -> None: ...
    async def read(self) -> None: ...


class Kept(Answers, Protocol):
    """gateway.flows.answering.Parts."""

    @property
    def kept(self) -> Sequence[Part]: ...


class Answered(Protocol):
    """gateway.flows.answering.AnswerCache."""

    def parts(self, charge: Charge) -> Kept | None: ...
    def question(self, call: Call, charge: Charge) -> Question | None: ...
    async def answered(self, question: Question, work: Callable[[], Awaitable[Done]], *, waits: bool) -> Done: ...


class Fulfilling:
    def __init__(
        self,
        *,
        db: Database | None = None,
        offerings: Mapping[str, Offering],
        http: HttpClient,
        decimals: Mapping[str, int],
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        lead_key: LeadKey | None = None,
        subjects: Asked | None = None,
        cache: Answered | None = None,
        bought: Callable[[VendorCall], None] = lambda call: None,
    ) -> None:
        """`decimals` by asset (`eip155:8453/0x...`). Without a `db` there are no sessions. `lead_key`: what agents ask
        about is remembered by it, where they can be recovered by that. `subjects`: who may not be told of, and by which
        key it is remembered who was. `bought` is told of every vendor that is asked, as soon as that is over."""
        self._bought = bought
        self._db = db
        self._subjects = subjects
        self._cache = cache
        self._lead_key = lead_key
        self._offerings = offerings
        self._http = http
        self._decimals = decimals
        self._clock = clock
        self._entropy = entropy

    def asked(self, call: Call) -> frozenset[bytes]:
        """Digests of whom it asks about."""
        return self._subjects.asked(call) if self._subjects else frozenset()

    def session_subject(self, call: Call) -> bytes:
        """What its session is about, keyed as whatever is kept of people, or b"" where it has none."""
        subject = call.goes_on.session_subject if call.goes_on is not None else b""
        if not subject or self._subjects is None:
            return subject
        return hmac.digest(self._subjects.key.key, b"session\n" + subject, "sha256")

    def _keyed(self, text: str) -> str:
        return self._subjects.key.digest(f"hop\n{text}").hex() if self._subjects else text

    def require_tellable(self, call: Call) -> None:
        """Raises Problem SUPPRESSED_SUBJECT."""
        if self._subjects is not None:
            self._subjects.require_tellable(self._subjects.asked(call))

    async def work(self, held: Held, bench: Bench | None = None) -> Done:
        """The upstream's outcome with the bytes to keep of it, or what was kept of an uncollected earlier one. A top-up
        has none: it is worth what is paid."""
        if held.charge.topup:
            return Done(Match({}), None)
        if held.withheld is not None and held.withheld.result is not None:
            kept = answer.unpack(held.withheld.result)
            return Done(Match(kept.data) if kept.matched else NoMatch(kept.data), held.withheld.result)
        if self._subjects is not None and bench is not None:
            await self._subjects.read()  # it may have waited since it was asked
            try:
                self.require_tellable(held.call)
            except Problem as problem:
                return Done(Failure(problem.message, code=problem.code), None)
        # From here on: whoever waits for another's work has no more time than that for his own.
        deadline_s = bench.deadline_s if bench else self._clock() + held.call.operation.timeout_s
        question = self._cache.question(held.call, held.charge) if self._cache else None
        if self._cache is None or question is None:
            return await self._done(held, bench, deadline_s)
        # What is signed for may never come, and whoever waits for that would have it for less than it took.
        owes = held.charge.metered and held.charge.source is Source.SIGNATURE
        work = partial(self._done, held, bench, deadline_s)
        return await self._cache.answered(question, work, waits=bench is None and not owes)

    async def _done(self, held: Held, bench: Bench | None, deadline_s: float) -> Done:
        session = await self._session(held)
        calls, began_ms = bench.calls if bench else [], int(self._clock() * 1000)

        def bought(call: VendorCall) -> None:
            calls.append(call)
            # What a job's journal had, or another charge, was counted when it was bought.
            if not call.cached and (call.at_ms == 0 or call.at_ms >= began_ms):
                self._bought(call)

        parts = self._cache.parts(held.charge) if self._cache else None
        outcome = await self._ask(held, bench, deadline_s, session, bought, parts)
        if not calls and outcome.cost_micros:
            bought(self._only_call(held.call.operation, outcome))
        if isinstance(outcome, Failure):
            return Done(outcome, None, tuple(calls))
        try:
            stored = answer.pack(outcome)
            return Done(outcome, stored, tuple(calls), session, parts=tuple(parts.kept) if parts else ())
        except TypeError:
            log.error("unusable_outcome", operation=held.call.operation.id)
            return Done(Failure("the upstream's answer could not be used"), None, tuple(calls))

    async def _session(self, held: Held) -> Session | None:
        if held.call.goes_on is None or self._db is None:
            return None
        return await self._db.read(sessions.find, held.charge.id)

    def _only_call(self, operation: Operation, outcome: Outcome) -> VendorCall:
        """Of an upstream that does not tell what it buys, and of whom."""
        match outcome:
            case Match():
                came, error = vendor_call.Outcome.MATCH, None
            case NoMatch():
                came, error = vendor_call.Outcome.NO_MATCH, None
            case Failure(timeout=timeout):
                came, error = vendor_call.Outcome.FAILED, ErrorClass.TIMEOUT if timeout else ErrorClass.TRANSIENT
        return VendorCall("call", operation.id, came, error, outcome.cost_micros, at_ms=int(self._clock() * 1000))

    async def _ask(
        self,
        held: Held,
        bench: Bench | None,
        deadline_s: float,
        session: Session | None,
        bought: Callable[[VendorCall], None],
        parts: Answers | None,
    ) -> Outcome:
        operation, now = held.call.operation, self._clock()
        if now >= deadline_s:
            return Failure("the upstream did not answer in time", timeout=True)
        at_most = held.call.at_most_micros(held.charge.held_micros)
        context = Context(
            http=self._http,
            now=self._clock,
            deadline_s=deadline_s,
            budget_micros=operation.price.budget_micros(at_most, **_earlier(session)),
            at_most_micros=at_most,
            session=session,
            charge_id=held.charge.id,
            of_agent=held.call.principal is not None,
            journal=bench.journal if bench else None,
            progress=bench.progress if bench else _nothing,
            bought=bought,
            answers=parts,
            hides=self._subjects.hides if self._subjects else None,
            keyed=self._keyed,
        )
        try:
            async with asyncio.timeout(deadline_s - now):
                return _sound(await self._offerings[operation.id].fulfil(held.call.query, context))
        except TimeoutError:
            return Failure("the upstream did not answer in time", timeout=True)
        except StoreUnavailable:
            raise  # the journal cannot be kept: nothing is decided, and another attempt goes on
        except AnswerLost:
            return Failure("the work was interrupted, and part of it may not be done twice")
        except Exception as error:
            log.error("upstream_bug", operation=operation.id, error=type(error).__name__, exc_info=True)
            return Failure("the upstream failed")

    def ending(self, held: Held, done: Done, result_ttl_ms: int) -> Ending:
        """What the outcome means for the money."""
        charge, session, outcome = held.charge, done.session, done.outcome
        event, amount = self._verdict(held, done)
        amount, atomic = self._in_token(charge, amount)
        settles = event is Event.MATCHED and amount > 0 and charge.source is Source.SIGNATURE
        return Ending(
            event=event,
            amount_micros=amount,
            amount_atomic=atomic,
            settlement_id=self._new_id("stl_") if settles else None,
            calls=done.calls,
            result=done.stored,
            result_ttl_ms=result_ttl_ms,
            resells=held.withheld.charge.id if held.withheld and done.stored else None,
            session_id=session.id if session else None,
            session_subject=self.session_subject(held.call),
            session_state=None if isinstance(outcome, Failure) else outcome.session,
            session_cost_micros=0 if event is Event.MISSED else outcome.cost_micros,
            session_tells=self._kept_of(outcome),
            leads=() if event is Event.FAILED else self._leads(held),
            lead_key_id=self._lead_key.id if self._lead_key else 0,
            told=self._told(done),
            question=done.question if event is Event.MATCHED else None,
            parts=tuple(self._telling(part) for part in done.parts) if event is Event.MATCHED else (),
            miss_free=held.call.operation.miss_free,
        )

    def _told(self, done: Done) -> Telling | None:
        if self._subjects is None or done.stored is None or isinstance(done.outcome, Failure):
            return None
        key, told = self._subjects.key, subject.told(done.outcome.data)
        return Telling(told.people, key, key.digests(told.spellings)) if told.spellings else None

    def _telling(self, part: Part) -> Part:
        if self._subjects is None:
            return part
        told = subject.told(answer.unpack(part.body).data)
        return replace(part, tells=self._subjects.key.digests(told.spellings))

    def _kept_of(self, outcome: Outcome) -> frozenset[bytes]:
        if self._subjects is None or isinstance(outcome, Failure) or outcome.session is None:
            return frozenset()
        return self._subjects.key.digests(outcome.session_tells)

    def _leads(self, held: Held) -> tuple[bytes, ...]:
        key, operation, party = self._lead_key, held.call.operation, held.charge.party
        if key is None or not operation.id.startswith(lead.FAMILY):
            return ()
        asked = lead.asked(held.call.query.model_dump(by_alias=True, exclude_none=True))
        return tuple(key.digest(party, spelling) for spelling in asked)

    @staticmethod
    def _verdict(held: Held, done: Done) -> tuple[Event, int]:
        operation, charge, outcome = held.call.operation, held.charge, done.outcome
        if isinstance(outcome, Failure):
            return Event.FAILED, 0
        if isinstance(outcome, NoMatch) and operation.miss_free:
            return Event.MISSED, 0
        if not charge.metered:
            price = charge.held_micros
        elif held.withheld is not None:
            price = held.withheld.charge.captured_micros  # what that work came to
        else:
            at_most = held.call.at_most_micros(charge.held_micros)
            price = operation.price.charge_micros(outcome.cost_micros, at_most, **_earlier(done.session))
        if done.again is not None and (charge.metered or charge.source is Source.BALANCE):
            price -= price * done.again.discount_percent // 100  # by `exact` all that was signed is taken
        return Event.MATCHED, price

    def _in_token(self, charge: Charge, amount_micros: int) -> tuple[int, int | None]:
        """An amount as its payer's token has it: (micros, atomic units), rounded up to a whole unit of a coarse token;
        None for all that was signed, or where no token pays."""
        if charge.asset is None or amount_micros in (0, charge.held_micros):
            return amount_micros, None
        decimals = self._decimals[charge.asset]
        atomic, _ = micros_to_atomic_up(amount_micros, decimals)
        micros = max(amount_micros, atomic_to_micros_down(atomic, decimals)[0])
        return (micros, atomic) if micros < charge.held_micros else (charge.held_micros, None)

    def _new_id(self, prefix: str) -> str:
        return ids.new_id(prefix, int(self._clock() * 1000), self._entropy(ids.ENTROPY_ID_BYTES))


def recorded(tx: Tx, charge_id: str, ending: Ending) -> ChargeView | None:
    """One transaction: the work's end, and with it an earlier withheld result marked as sold again; if that was paid
    for after all meanwhile, this charge takes nothing. None: somebody else has ended the charge, and only the vendor's
    cost was booked."""
    if ending.resells is not None and _paid_for(tx, ending.resells):
        ending = replace(ending, amount_micros=0, amount_atomic=None, settlement_id=None, resells=None)
    ending = _tellable(tx, ending)
    view = charges.record(
        tx, charge_id, ending.event, ending.amount_micros, calls=ending.calls, result=ending.result,
        result_ttl_ms=ending.result_ttl_ms, settlement_id=ending.settlement_id, amount_atomic=ending.amount_atomic,
    )  # fmt: skip
    if isinstance(view, charges.Late):
        return None
    if ending.session_id is not None and ending.session_state is not None:
        sessions.keep(
            tx, ending.session_id, view, ending.session_subject, ending.session_state, ending.session_cost_micros
        )
    if ending.told is not None and ending.result is not None:
        subjects.note_access(tx, charge_id, ending.told.people, ending.told.key.id, tuple(ending.told.digests))
    if ending.question is not None and ending.result is not None:
        answers.keep(tx, ending.question.hash, charge_id, ending.result, ending.question.ttl_ms)
    for part in ending.parts:
        answers.keep(tx, part.question.hash, charge_id, part.body, part.question.ttl_ms, part.hop)
    if ending.leads and view.agent_id is not None:
        leads.note(tx, view.agent_id, ending.lead_key_id, ending.leads)
    if ending.resells is not None:
        sessions.pass_on(tx, ending.resells, charge_id)
        with suppress(Conflict):  # two bought it at once: both have paid for it, both get it
            charges.mark_resold(tx, ending.resells, charge_id)
    return view


def _tellable(tx: Tx, ending: Ending) -> Ending:
    """The same, without whomever nothing may be told about by now: what is left is a miss, and told to nobody again. A
    session that knows of somebody like that forgets what this call has found."""
    ending = replace(ending, parts=tuple(part for part in ending.parts if not subjects.hidden(tx, part.tells)))
    if subjects.hidden(tx, ending.session_tells):
        ending = replace(ending, session_state=b"", session_cost_micros=0, parts=())
    told = ending.told
    if told is None or ending.result is None or not (hidden := subjects.hidden(tx, told.digests)):
        return ending
    left = answer.without(ending.result, Suppressed(told.key, hidden).hides)
    if left is None:
        return ending
    still = subject.told(answer.unpack(left).data)
    ending = replace(
        ending, result=left, question=None, parts=(), resells=None,
        told=Telling(still.people, told.key, told.key.digests(still.spellings)) if still.spellings else None,
    )  # fmt: skip
    if ending.event is Event.MATCHED and ending.miss_free:
        return replace(
            ending, event=Event.MISSED, amount_micros=0, amount_atomic=None, settlement_id=None, session_cost_micros=0
        )
    return ending


def _paid_for(tx: Tx, charge_id: str) -> bool:
    view = charges.find(tx, charge_id)
    return view is not None and view.charge.state is State.SETTLED


def _sound(outcome: Outcome) -> Outcome:
    """What a plug-in has answered, if it is an outcome at all; types promise nothing of somebody else's code. Raises
    TypeError."""
    if not isinstance(outcome, Match | NoMatch | Failure) or type(outcome.cost_micros) is not int:
        raise TypeError("no outcome")
    if not 0 <= outcome.cost_micros <= MICROS_MAX:
        raise TypeError("an outcome of an impossible cost")
    if not isinstance(outcome, Failure) and outcome.session is not None and len(outcome.session) > STATE_MAX:
        return replace(outcome, session=None)
    return outcome


def _earlier(session: Session | None) -> dict[str, int]:
    """What a session has come to before, as a price wants to know it."""
    if session is None:
        return {}
    return {"earlier_cost_micros": session.cost_micros, "earlier_charged_micros": session.charged_micros}


def _nothing(phase: str) -> None:
    pass
