"""One paid call, from the credential to the answer: authorize, fulfil, collect, in this order and nowhere else.

    authorize   who pays, may he, and did he pay already? Ends in a charge that is HELD, or in an earlier answer.
    fulfil      the upstream's work, then one write: captured or released, the result kept, the settlement queued.
    collect     for a captured signature: wait a while for the proof on chain.

A prepaid call, of an operation that settles first, is authorized by collecting: its payment is a top-up of its payer's
account (authorize, fulfil and collect once over, with nothing to work on), and once that has come the call is held from
the account. From there on it is a call from balance. Whatever stops it in between leaves the money on the account, and
the same payment goes on from there: it never tops up twice, and buys one answer.

What core can decide is decided there; this file is the order of the I/O. A call runs to its end in a task of its own:
a client that hangs up changes nothing, and finds the result again by its payment (core/repeat.py), its idempotency key
or its charge token.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import structlog

from gateway.core import crash, ids, job
from gateway.core.agent import BALANCE, Principal
from gateway.core.answer import iso
from gateway.core.charge import Charge, Disclosure, Event, Source, disclosure
from gateway.core.errors import Code, Problem
from gateway.core.money import atomic_to_micros_down, format_usd
from gateway.core.repeat import Repeat, Verdict, is_public, judge
from gateway.core.session import SessionQuery
from gateway.core.upstream import Failure
from gateway.core.x402.messages import Payment, Requirements
from gateway.core.x402.verdict import Reason
from gateway.core.x402.verify import Refused, Verified, outlives, verify
from gateway.flows.collecting import Collecting
from gateway.flows.fulfilling import Call, Fulfilling, Held, recorded
from gateway.flows.webhooks import require_secret
from gateway.settlement import protocol
from gateway.store import charges, prepaid, sessions, subjects
from gateway.store.charges import ChargeView, Claim, KeyKnown, KeyUse, PaymentKnown, Work
from gateway.store.database import Database, Tx
from gateway.store.prepaid import NotCome, Prepaid
from gateway.store.usage_keys import Use

log = structlog.get_logger("purchase")

T = TypeVar("T")

WORK_MARGIN_S = 30
"""How long after an operation's own timeout a charge still counts as being worked on."""

Rider = Callable[[Tx, Charge, ChargeView | None], None]
"""`(tx, the charge that is held, an earlier withheld result that it pays for)`: written together with a hold."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call; the edge turns it into a response."""

    view: ChargeView
    token: str | None = None
    """The charge token, for a payer without an agent."""
    replayed: bool = False
    prepaid: Prepaid | None = None
    """What was paid before the work, and where it is."""

    @property
    def disclosure(self) -> Disclosure:
        settlement = self.view.settlement
        return disclosure(self.view.charge, abandoned=settlement is not None and settlement.abandoned)


class Kept(Problem):
    """A prepaid call that came to nothing: what was paid is on the account. `answer` is of the call, or of its top-up
    where the call was not held."""

    def __init__(self, problem: Problem, answer: Answer) -> None:
        super().__init__(
            problem.code, problem.message, details=problem.details, reason=problem.reason,
            retry_after_s=problem.retry_after_s,
        )  # fmt: skip
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Terms:
    """What a purchase needs to know of the configuration."""

    offers: Mapping[str, tuple[Requirements, ...]]
    """By operation id: what an unpaid call is offered is what a payment is verified against."""
    decimals: Mapping[str, int]
    """By asset (`eip155:8453/0x...`)."""
    forbidden_payers: frozenset[str]
    sponsored: frozenset[str] = frozenset()
    """Assets whose payers may approve Permit2 by a permit beside their payment."""
    settle_wait_s: float = 15.0
    result_ttl_ms: int = 86_400_000
    token_prefix: str = "411"
    request_key: bytes = field(default=b"", repr=False)
    """What requests are hashed with: the same in every process of a ledger, and not in it."""
    anonymous: bool = True
    concurrent_calls: int = 1024
    """Calls worked on at once; more are turned away before anything is claimed."""


class Purchase:
    def __init__(
        self,
        *,
        db: Database,
        fulfilling: Fulfilling,
        settler: protocol.Settler | None,
        collecting: Collecting | None,
        terms: Terms,
        owner: str,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        available: Callable[[str, float], int | None] = lambda operation, now: None,
        captured: Callable[[str, str, int], None] = lambda operation, source, micros: None,
        require_probe: Callable[[str], None] = lambda party: None,
        missed: Callable[[str], None] = lambda party: None,
    ) -> None:
        """`available(operation, now)` answers how many seconds an upstream wants to be left alone, or None;
        `captured(operation, source, micros)` is told of what was earned, for the metrics; `missed(party)` of what was
        looked for in vain, and `require_probe(party)` raises Problem for whom that was too often."""
        self._db = db
        self._fulfilling = fulfilling
        self._settler = settler
        self._collecting = collecting
        self._terms = terms
        self._owner = owner
        self._clock = clock
        self._entropy = entropy
        self._available = available
        self._captured = captured
        self._require_probe = require_probe
        self._missed = missed
        self._running: set[asyncio.Task[Any]] = set()

    async def buy(self, call: Call, rider: Rider | None = None) -> Answer:
        """The whole call, with what is to be written beside its hold. Raises Problem; whenever it does, this call was
        charged nothing."""
        call = self._keyed(call)
        return await self._counted(lambda: self._whole(call, rider))

    async def hand_over(self, call: Call, rider: Rider) -> Held | Answer:
        """`authorize` alone: the work is somebody else's. Counts as a call for as long as it takes."""
        call = self._keyed(call)
        return await self._counted(lambda: self.authorize(call, rider))

    def _keyed(self, call: Call) -> Call:
        return replace(call, request_key=self._terms.request_key)

    async def _counted(self, work: Callable[[], Coroutine[None, None, T]]) -> T:
        """Goes on to its end when its client has gone. Raises Problem OVERLOADED."""
        if len(self._running) >= self._terms.concurrent_calls:
            raise Problem(Code.OVERLOADED, "too many calls at once; this one was not begun", retry_after_s=1)
        task = asyncio.create_task(work())
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def _whole(self, call: Call, rider: Rider | None) -> Answer:
        ticket = await self.authorize(call, rider)
        if isinstance(ticket, Answer):
            return ticket
        try:
            view = await self.fulfil(ticket)
        except Problem as problem:
            if ticket.charge.topup_id is None:
                raise
            raise await self._kept(problem, ticket.charge.topup_id, ticket) from None
        return await self._with_topup(await self.collect(view, ticket.token))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # heard, even where the client that would have been told has gone

    async def drain(self) -> None:
        """Waits until every call under way has ended."""
        while self._running:
            await asyncio.wait(self._running)

    # authorize

    async def authorize(self, call: Call, rider: Rider | None = None) -> Held | Answer:
        """Held: the work may begin. Answer: this call was made before. `rider` is written in the transaction of the
        hold. Raises Problem; then nothing was written."""
        self._fulfilling.require_tellable(call)
        if call.payment is not None:
            if call.topup is not None and call.principal is None:
                raise Problem(Code.ANONYMOUS_REFUSED, "a top-up is of an agent's balance: bring its bearer token")
            return await self._authorize_signature(call, call.payment, rider)
        if call.principal is not None and call.topup is None:
            return await self._authorize_balance(call, call.principal, rider)
        raise Problem(Code.AGENT_TOKEN_REQUIRED, "pay with x402 or bring an agent's bearer token")

    def _require_open(self, call: Call, party: str) -> None:
        """Only for new work: what was paid for is told again whoever rests, and whatever else its payer asked for.
        A top-up is no work, and is never in vain."""
        if call.topup is not None:
            return
        self._require_probe(party)
        self._require_awake(call)

    def _require_awake(self, call: Call) -> None:
        wait_s = self._available(call.operation.id, self._clock())
        if wait_s is not None:
            raise Problem(
                Code.UPSTREAM_ERROR, "what answers this call is resting; nothing was charged", retry_after_s=wait_s
            )

    async def _authorize_balance(self, call: Call, agent: Principal, rider: Rider | None) -> Held | Answer:
        key = KeyUse(agent.agent_id, call.idempotency_key, call.fingerprint) if call.idempotency_key else None
        try:
            self._require_open(call, agent.agent_id)
        except Problem:
            known = await self._db.read(_known_by_key, call, key) if key else None
            if known is None:
                raise
            return await self._known_key(call, known, rider)
        at_most, metered = call.from_balance_micros, call.metered
        charge = Charge(
            id=self._new_id("chg_"), operation=call.operation.id, party=agent.agent_id,
            source=Source.BALANCE, held_micros=at_most, metered=metered,
        )  # fmt: skip
        asked = self._fulfilling.asked(call)
        crash.point("hold.before")
        outcome = await self._db.write(
            _hold, charge, self._work(call, None, by_job=call.handover is not None), None, key, rider, None, asked,
            call, self._fulfilling.session_subject(call),
        )  # fmt: skip
        crash.point("hold.after")
        match outcome:
            case charges.Held(charge):
                return Held(call, charge, None)
            case charges.Capped(use):
                raise capped(use, at_most)
            case charges.Short(available):
                raise _short(agent, available, call.least_micros, metered)
            case KeyKnown():
                return await self._known_key(call, outcome, rider)
            case _:
                raise AssertionError(f"a hold from balance cannot end as {outcome}")

    async def _authorize_signature(self, call: Call, payment: Payment, rider: Rider | None) -> Held | Answer:
        if call.principal is None and not self._terms.anonymous:
            raise Problem(Code.ANONYMOUS_REFUSED, "this gateway takes payments with an agent's bearer token only")
        try:
            verified = self._verify(call, payment)
        except Problem:
            # Terms change and clocks go back. The very payload that was admitted once was verified then.
            admitted_once = await self._db.read(_admitted, call, payment)
            if admitted_once is None:
                raise
            return await self._known_payment(call, payment, *admitted_once, rider)
        self._require_within_budget(call, verified)
        key = self._payment_key(call, verified)
        # Asked of the writer, though nothing is written: what it needs is still in the writer's memory, while a reader
        # reads it anew after each commit.
        earlier = await self._db.write(_earlier, call, verified, key)
        match earlier:
            case PaymentKnown():
                return await self._known_payment(call, payment, verified.identity, earlier, rider)
            case KeyKnown():
                return await self._known_key(call, earlier, rider)
            case charges.Capped(use):
                raise capped(use, call.from_balance_micros)
            case charges.Owing(owed):
                raise _owing(owed)
        agent_id = call.principal.agent_id if call.principal else None
        party = agent_id or verified.payer
        if earlier is None:
            self._require_open(call, party)
        self._require_time(call, verified, int(self._clock()))
        admitted = await self._check(call, verified)
        token = self._new_token() if call.wants_token else None
        metered = verified.requirements.scheme == "upto"
        price_micros = call.signed_ceiling_micros if metered or call.prepays else call.operation.price.base_micros
        claim = self._claim(verified, admitted, price_micros)
        # What is worth more than is held now is worked for anew: a ceiling's result is not sold at the base.
        affordable = earlier is not None and earlier.charge.captured_micros <= claim.amount_micros
        withheld = earlier if affordable else None
        if withheld is None:
            self._require_open(call, party)
        charge = Charge(
            id=self._new_id("chg_"), operation=call.operation.id, party=party,
            source=Source.SIGNATURE, held_micros=claim.amount_micros, asset=f"{claim.network}/{claim.token}",
            metered=metered, topup=call.topup is not None or call.prepays,
        )  # fmt: skip
        beside = None if call.prepays else rider
        crash.point("hold.before")
        work = self._work(call, token, by_job=call.handover is not None and not call.prepays)
        asked = self._fulfilling.asked(call)
        outcome = await self._db.write(
            _hold, charge, work, claim, key, beside, withheld, asked, call, self._fulfilling.session_subject(call)
        )
        crash.point("hold.after")
        match outcome:
            case charges.Held(charge) if call.prepays:
                topup = await self.fulfil(Held(call, charge, token))
                return await self._spend(call, await self.collect(topup, token), rider)
            case charges.Held(charge):
                return Held(call, charge, token, withheld)
            case PaymentKnown():
                return await self._known_payment(call, payment, verified.identity, outcome, rider)
            case KeyKnown():
                return await self._known_key(call, outcome, rider)
            case charges.PermitInUse():
                raise Problem(
                    Code.PAYMENT_INVALID,
                    "a call of this wallet rests on an approval by permit and is not settled yet, and a permit sets an "
                    "allowance instead of adding to it: wait until that call has ended, or approve Permit2 once",
                    reason=Reason.PERMIT_IN_USE,
                )
            case charges.BeyondAllowance(allowance):
                raise Problem(
                    Code.ALLOWANCE_EXCEEDED,
                    f"this wallet has stated to spend {format_usd(allowance.limit_micros)} USD here by x402 at most, "
                    f"and {format_usd(allowance.drawn_micros)} USD of it are drawn: state another limit by signing in "
                    "with it again, or pay from a balance",
                    details={
                        "billing_reason": "allowance_exceeded",
                        "limit_usd": format_usd(allowance.limit_micros),
                        "drawn_usd": format_usd(allowance.drawn_micros),
                    },
                )
            case charges.Owing(owed):
                raise _owing(owed)
            case charges.Overcommitted(open_micros):
                raise Problem(
                    Code.PAYMENT_INVALID,
                    f"this wallet has {format_usd(open_micros)} USD signed for calls under way: "
                    "what it can spend does not cover one more; wait until they have ended",
                    reason="insufficient_funds",
                )
            case _:
                raise AssertionError(f"a hold by signature cannot end as {outcome}")

    def _verify(self, call: Call, payment: Payment) -> Verified:
        """Offline: shape, terms, signature. Costs nobody anything. Its time may be over: one that has paid while it was
        good is not asked to pay again."""
        if self._settler is None:
            raise Problem(Code.SETTLEMENT_UNAVAILABLE, "this gateway sells from balance only", retry_after_s=3600)
        if call.topup is not None:
            offers = call.topup
        else:
            offers = call.handover.offers if call.handover else self._terms.offers[call.operation.id]
        work_s, margin_s = call.signature_s
        verdict = verify(
            payment,
            offers,
            now_s=int(self._clock()),
            work_s=work_s,
            settle_margin_s=margin_s,
            settlers=self._settler.facilitator_addresses(offers[0].network) if offers else (),
            forbidden_payers=self._terms.forbidden_payers,
            whenever=True,
            sponsored=self._terms.sponsored,
        )
        if isinstance(verdict, Refused):
            raise Problem(verdict.code, verdict.message, reason=verdict.reason)
        return verdict

    @staticmethod
    def _require_within_budget(call: Call, verified: Verified) -> None:
        """Of a ceiling that is signed all may be taken."""
        signs_ceiling = verified.requirements.scheme == "upto" and call.goes_on is None
        if signs_ceiling and call.budget_micros is not None and call.budget_micros < call.signed_ceiling_micros:
            raise Problem(
                Code.VALIDATION_ERROR,
                f"the payment signs for up to {format_usd(call.signed_ceiling_micros)} USD, and the call may cost "
                f"{format_usd(call.budget_micros)} USD at most: pay it from a balance, or allow what is signed for",
            )

    def _require_time(self, call: Call, verified: Verified, chain_time_s: int) -> None:
        """That the signature is good by both clocks, for as long as work and settlement may take."""
        work_s, margin_s = call.signature_s
        late = outlives(
            verified, now_s=int(self._clock()), chain_time_s=chain_time_s, work_s=work_s, settle_margin_s=margin_s
        )
        if late is not None:
            raise Problem(late.code, late.message, reason=late.reason)

    async def _known_payment(
        self, call: Call, payment: Payment, identity: str, known: PaymentKnown, rider: Rider | None
    ) -> Held | Answer:
        """The same payment and the same request get the same answer, as far as core/repeat.py lets them. What a
        stranger hears, and how soon, is the same whether or not he has guessed the request."""
        view = await self._view(known.charge_id)
        decided = judge(await self._repeat(call, view, payment, known))
        if decided is Verdict.ANSWER:
            return await self._go_on(call, view, rider, fresh_token=call.wants_token)
        if decided is Verdict.GUESS:
            await self._db.write(charges.note_wrong_request, identity)
        message = (
            "this payment was used, and a repeat of its call is not enough to get the result any more: fetch it with "
            "the charge token or the agent's bearer, or sign a new payment"
            if decided is Verdict.TOKEN_ONLY
            else "this payment belongs to another request, or was used already: repeat that very request with it, "
            "fetch its result with the charge token, or sign a new payment"
        )
        raise Problem(Code.PAYMENT_ALREADY_USED, message, reason=Reason.NONCE_USED)

    async def _repeat(self, call: Call, view: ChargeView, payment: Payment, known: PaymentKnown) -> Repeat:
        by_owner = call.principal is not None and call.principal.agent_id == view.agent_id
        if call.charge_token is not None and not by_owner:
            token_hash = ids.token_hash(call.charge_token)
            by_owner = await self._db.read(charges.token_matches, view.charge.id, token_hash, of_its_call=True)
        return Repeat(
            same_payment=known.same_payment,
            same_request=known.same_request,
            by_owner=by_owner,
            guessable=payment.is_guessable,
            public=is_public(
                view.charge,
                view.settlement,
                sent=view.attempted is not None,
                journaled=self._settler is not None and self._settler.journals,
            ),
            token_only=view.token_only,
            topup=call.topup is not None,
        )

    async def _known_key(self, call: Call, known: KeyKnown, rider: Rider | None) -> Held | Answer:
        if not known.same_request:
            raise Problem(
                Code.IDEMPOTENCY_CONFLICT, "this idempotency key was used for another request; choose a new one"
            )
        view = await self._view(known.charge_id)
        if call.handover is not None and not view.charge.topup:
            return Answer(view, replayed=True)
        if disclosure(view.charge) is Disclosure.WORKING and view.charge.source is Source.BALANCE:
            raise Problem(
                Code.IDEMPOTENCY_IN_FLIGHT, "the first call with this idempotency key is under way", retry_after_s=1
            )
        return await self._go_on(call, view, rider, fresh_token=False)

    async def _go_on(self, call: Call, view: ChargeView, rider: Rider | None, *, fresh_token: bool) -> Held | Answer:
        """From what was written of the same call before: its answer, or, of the top-up of a prepaid call, the call."""
        told = await self._replay(view, fresh_token=fresh_token)
        return await self._spend(call, told, rider) if view.charge.topup and call.topup is None else told

    async def _replay(self, view: ChargeView, *, fresh_token: bool) -> Answer:
        """The stored answer again; one whose settlement is under way is waited for as the first call does."""
        if disclosure(view.charge) is Disclosure.SETTLING:
            view = (await self.collect(view)).view
        token = None
        if fresh_token and view.agent_id is None:
            # The client may never have seen the first answer, and only hashes of tokens are kept.
            token = self._new_token()
            await self._db.write(charges.add_token, view.charge.id, ids.token_hash(token))
        return Answer(view, token, replayed=True)

    async def _check(self, call: Call, verified: Verified) -> protocol.Admitted:
        """One round trip to the chain. Whatever it says, nothing was claimed."""
        assert self._settler is not None
        match await self._settler.check(verified):
            case protocol.Admitted() as admitted:
                pass
            case protocol.Refused(reason, message):
                allowance = reason == "permit2_allowance_required"
                raise Problem(
                    Code.PERMIT2_ALLOWANCE_REQUIRED if allowance else Code.PAYMENT_INVALID,
                    message or "the chain would not take this payment",
                    reason=reason,
                )
            case protocol.Unknown(message):
                log.warning("settlement_unavailable", cause=message)
                raise Problem(
                    Code.SETTLEMENT_UNAVAILABLE,
                    "payments cannot be taken just now; nothing was claimed, the same payment may be sent again",
                    retry_after_s=5,
                )
        self._require_time(call, verified, admitted.block_time_s)
        return admitted

    def _claim(self, verified: Verified, admitted: protocol.Admitted, price_micros: int) -> Claim:
        requirement = verified.requirements
        token = requirement.asset.lower()
        decimals = self._terms.decimals[f"{requirement.network}/{token}"]
        return Claim(
            identity=verified.identity,
            payer=verified.payer,
            network=requirement.network,
            token=token,
            pay_to=requirement.pay_to.lower(),
            amount_atomic=verified.value_atomic,
            # A coarse token's price was rounded up in the offer: what is signed is what is charged.
            amount_micros=max(price_micros, atomic_to_micros_down(verified.value_atomic, decimals)[0]),
            valid_before_s=verified.valid_before_s,
            payment=verified.payment.kept,
            payment_hash=verified.payment.payment_hash,
            spendable_micros=atomic_to_micros_down(admitted.spendable_atomic, decimals)[0],
            admitted_block=admitted.block,
            by_permit=admitted.by_permit,
        )

    def _payment_key(self, call: Call, verified: Verified) -> KeyUse | None:
        if call.principal is not None and call.idempotency_key:
            return KeyUse(call.principal.agent_id, call.idempotency_key, call.fingerprint)
        identifier = verified.payment.payment_identifier
        if identifier is None:
            return None
        fingerprint = hashlib.sha256(call.fingerprint + verified.payment.payment_hash).digest()
        return KeyUse(verified.payer, identifier, fingerprint)

    # a prepaid call

    async def _spend(self, call: Call, topup: Answer, rider: Rider | None) -> Held | Answer:
        """The call, from the account that its top-up has come to; or its answer, where it was made before. While the
        top-up has not come it is the answer itself. Raises Kept."""
        if topup.disclosure is not Disclosure.RESULT:
            return topup
        topup_id = topup.view.charge.id
        known = await self._db.read(prepaid.find, topup_id)
        if known is None:
            try:
                held = await self._hold_prepaid(call, topup.view, rider)
            except Problem as problem:
                raise await self._kept(problem, topup_id, topup) from None
            if isinstance(held, Held):
                return held
            if isinstance(held, NotCome):
                return topup
            known = held
        if call.handover is not None:
            return Answer(known, replayed=True)
        return await self._with_topup(await self._replay(known, fresh_token=call.wants_token))

    async def _hold_prepaid(self, call: Call, topup: ChargeView, rider: Rider | None) -> Held | NotCome | ChargeView:
        """Raises Problem."""
        agent_id = call.principal.agent_id if call.principal else None
        if agent_id != topup.agent_id:
            raise Problem(
                Code.PAYMENT_ALREADY_USED,
                "this payment has topped an account up: repeat the call as it was made, "
                + ("with the bearer token of its agent" if topup.agent_id else "without a bearer token"),
            )
        self._require_awake(call)
        token = self._new_token() if call.wants_token else None
        charge = Charge(
            id=self._new_id("chg_"), operation=call.operation.id, party=topup.charge.party, source=Source.BALANCE,
            # Prices change: what was offered and paid is what it costs at most.
            held_micros=min(call.from_balance_micros, topup.charge.captured_micros),
            metered=call.metered, topup_id=topup.charge.id,
        )  # fmt: skip
        crash.point("prepaid.before")
        work = self._work(call, token, by_job=call.handover is not None)
        outcome = await self._db.write(
            _hold_from_topup, charge, work, rider, self._fulfilling.asked(call), call,
            self._fulfilling.session_subject(call),
        )  # fmt: skip
        crash.point("prepaid.after")
        match outcome:
            case charges.Held(charge):
                return Held(call, charge, token)
            case charges.Capped(use):
                raise capped(use, charge.held_micros)
            case charges.Short():
                raise Problem(
                    Code.BALANCE_TOO_LOW,
                    f"the payment has come, and what is on its account now does not cover the "
                    f"{format_usd(charge.held_micros)} USD that this call may cost: something else has taken it",
                    details={"price_usd": format_usd(charge.held_micros)},
                )
            case _:
                return outcome

    async def _kept(self, problem: Problem, topup_id: str, call: Held | Answer) -> Kept:
        """The same, with where the money is."""
        known = call.view if isinstance(call, Answer) else await self._view(call.charge.id)
        return Kept(problem, Answer(known, call.token, prepaid=await self._db.read(prepaid.look, topup_id)))

    async def _with_topup(self, answer: Answer) -> Answer:
        topup_id = answer.view.charge.topup_id
        if topup_id is None:
            return answer
        return replace(answer, prepaid=await self._db.read(prepaid.look, topup_id))

    # fulfil

    async def fulfil(self, held: Held) -> ChargeView:
        """The work and what it means for the money, in one write; answers with what was written.

        Raises Problem UPSTREAM_ERROR or UPSTREAM_TIMEOUT after a failure; the charge is released by then.
        """
        crash.point("work.before")
        done = await self._fulfilling.work(held)
        crash.point("work.after")
        ending = self._fulfilling.ending(held, done, self._terms.result_ttl_ms)
        outcome = done.outcome
        crash.point("record.before")
        view = await self._db.write(recorded, held.charge.id, ending)
        crash.point("record.after")
        if view is None:
            raise Problem(Code.UPSTREAM_TIMEOUT, "the work took too long and was given up; nothing was charged")
        if view.charge.captured_micros and not view.charge.topup:
            self._captured(view.charge.operation, view.charge.source, view.charge.captured_micros)
        elif view.charge.reason is Event.MISSED:
            self._missed(view.charge.party)
        if isinstance(outcome, Failure):
            raise Problem(
                outcome.told_as,
                outcome.message
                if outcome.code is not None
                else f"{outcome.message}; nothing was charged, the same payment may be used again for the same request",
                retry_after_s=outcome.retry_after_s,
            )
        return view

    # collect

    async def collect(self, view: ChargeView, token: str | None = None) -> Answer:
        """Waits a bounded time for the proof of a captured signature; then tells what is written, whatever it is."""
        if view.settlement is not None and self._collecting is not None:
            proven = await self._collecting.collect(view.settlement, wait_s=self._terms.settle_wait_s)
            if proven is None or proven.charge is None:
                view = await self._view(view.charge.id)
            else:
                view = replace(view, charge=proven.charge, settlement=proven.settlement, transaction=proven.transaction)
        crash.point("answer.before")
        return Answer(view, token)

    # small things

    def _work(self, call: Call, token: str | None, *, by_job: bool) -> Work:
        """`by_job`: a job ends it, and nobody else."""
        return Work(
            request_id=call.request_id,
            request_hash=call.request_hash,
            owner=job.OWNER if by_job else self._owner,
            work_deadline_ms=int((self._clock() + call.work_s + WORK_MARGIN_S) * 1000),
            agent_id=call.principal.agent_id if call.principal else None,
            token_hash=ids.token_hash(token) if token else None,
            bearer_id=call.principal.token_id if call.principal else None,
            key_id=call.principal.key_id if call.principal else None,
            scopes=call.scopes if call.principal and call.principal.key_id else (),
        )

    async def _view(self, charge_id: str) -> ChargeView:
        view = await self._db.read(charges.find, charge_id)
        if view is None:
            raise AssertionError(f"{charge_id} is written and cannot be gone")
        return view

    def _new_token(self) -> str:
        """Of a charge."""
        return ids.new_token(f"{self._terms.token_prefix}c_", self._entropy(ids.ENTROPY_TOKEN_BYTES))

    def _new_id(self, prefix: str) -> str:
        return ids.new_id(prefix, int(self._clock() * 1000), self._entropy(ids.ENTROPY_ID_BYTES))


def _hold(
    tx: Tx, /, charge: Charge, work: Work, claim: Claim | None, key: KeyUse | None, rider: Rider | None,
    withheld: ChargeView | None, asked: frozenset[bytes], call: Call, about: bytes,
) -> (
    "charges.Held | charges.Short | charges.Capped | charges.Overcommitted | charges.PermitInUse"
    " | charges.BeyondAllowance | charges.Owing | KeyKnown | PaymentKnown"
):  # fmt: skip
    """The hold, and with it whatever rides on it: all or nothing. Raises Problem SUPPRESSED_SUBJECT."""
    subjects.require_tellable(tx, asked)
    buys = withheld.charge.id if withheld else None
    outcome = charges.hold(tx, charge, work, claim, key, buys=buys)
    if isinstance(outcome, charges.Short) and call.shrinks_to(outcome.available_micros):
        # Within the transaction: what is there now is there for this hold.
        charge = replace(charge, held_micros=outcome.available_micros)
        outcome = charges.hold(tx, charge, work, claim, key, buys=buys)
    if isinstance(outcome, charges.Held):
        if call.goes_on is not None and withheld is None:
            _go_on(tx, call.goes_on, outcome.charge, work, about)
        if rider is not None:
            rider(tx, outcome.charge, withheld)
    return outcome


def _go_on(tx: Tx, query: SessionQuery, charge: Charge, work: Work, about: bytes) -> None:
    """Claims the session that a call goes on with. Raises Problem SESSION_NOT_FOUND, SESSION_CONFLICT."""
    if query.session_id is None:
        return
    claimed = sessions.claim(tx, query.session_id, charge.id, charge.operation, work.agent_id, work.key_id, about)
    match claimed:
        case sessions.Claimed.UNKNOWN:
            raise Problem(
                Code.SESSION_NOT_FOUND, "no such session, or not yours, or its time is over; begin another without it"
            )
        case sessions.Claimed.BUSY:
            raise Problem(
                Code.SESSION_CONFLICT, "another call works on this session; wait for its end", retry_after_s=5
            )
        case sessions.Claimed.OTHER:
            raise Problem(
                Code.SESSION_CONFLICT, "this session is about something else: send what it was begun with, or no id"
            )
        case sessions.Claimed.UNPAID:
            raise Problem(
                Code.SESSION_CONFLICT, "what this session has found so far is not paid for yet", retry_after_s=5
            )


def _hold_from_topup(
    tx: Tx, /, charge: Charge, work: Work, rider: Rider | None, asked: frozenset[bytes], call: Call, about: bytes
) -> charges.Held | charges.Short | charges.Capped | NotCome | ChargeView:
    """The hold of a prepaid call, and what rides on it. Raises Problem SUPPRESSED_SUBJECT."""
    subjects.require_tellable(tx, asked)
    outcome = prepaid.hold(tx, charge, work)
    if isinstance(outcome, charges.Held):
        if call.goes_on is not None:
            _go_on(tx, call.goes_on, outcome.charge, work, about)
        if rider is not None:
            rider(tx, outcome.charge, None)
    return outcome


def _require_standing(tx: Tx, call: Call) -> None:
    """Raises Problem for an agent or a usage key that may not have this call any more."""
    agent = call.principal
    if agent is not None:
        charges.require_standing(tx, agent.agent_id, agent.token_id, agent.key_id, call.scopes if agent.key_id else ())


def _known_by_key(tx: Tx, /, call: Call, key: KeyUse) -> KeyKnown | None:
    _require_standing(tx, call)
    return charges.find_by_key(tx, key)


def _earlier(
    tx: Tx, /, call: Call, verified: Verified, key: KeyUse | None
) -> PaymentKnown | KeyKnown | charges.Owing | charges.Capped | ChargeView | None:
    """What this very payment or its identifier was used for before; else a withheld result it could buy, or one that
    it does not buy and that stands in its way. Raises Problem for an agent that may not spend any more. A prepaid call
    buys what is worked for anew, and is refused here if it would be later."""
    _require_standing(tx, call)
    known = charges.find_by_identity(tx, verified.identity)
    if known is not None:
        view, payment_hash = known
        return PaymentKnown(
            view.charge.id,
            view.charge.operation,
            view.request_hash == call.request_hash,
            hmac.compare_digest(payment_hash, verified.payment.payment_hash),
        )
    if key is not None and (known_key := charges.find_by_key(tx, key)) is not None:
        return known_key
    if call.prepays:
        agent = call.principal
        if call.handover is not None and call.handover.callback_url is not None:
            require_secret(tx, agent)
        scopes = call.scopes if agent is not None and agent.key_id else ()
        return prepaid.refuse(
            tx, verified.payer, verified.requirements.network, agent, scopes, call.from_balance_micros
        )
    withheld = charges.find_withheld(tx, verified.payer, call.operation.id, call.request_hash)
    if withheld is None and verified.requirements.scheme == "upto":
        owed = charges.find_owed(tx, verified.payer)
        return charges.Owing(owed) if owed else None
    return withheld


def capped(use: Use, wanted_micros: int) -> Problem:
    """What a usage key's cap does not cover: a 403, since topping up the balance would not help."""
    assert use.cap is not None, "only a cap caps"
    cap, period = format_usd(use.cap.micros), use.cap.period.value
    return Problem(
        Code.KEY_CAP_EXCEEDED,
        f"of this key's cap of {cap} USD {'in total' if period == 'total' else f'a {period}'}, "
        f"{format_usd(use.used_micros)} USD is used or held: {format_usd(wanted_micros)} USD more is too much",
        details={
            "cap_usd": cap,
            "cap_period": period,
            "used_usd": format_usd(use.used_micros),
            "wanted_usd": format_usd(wanted_micros),
            "resets_at": iso(use.resets_ms) if use.resets_ms is not None else None,
        },
    )


def _short(agent: Principal, available_micros: int, at_most_micros: int, metered: bool) -> Problem:
    """What a balance does not cover. A usage key that may not see it is not told how much it is."""
    seen = agent.may(BALANCE)
    balance = f"balance of {format_usd(available_micros)} USD" if seen else "balance"
    return Problem(
        Code.PAYMENT_REQUIRED,
        f"the {balance} is below the {'most' if metered else 'price'} of {format_usd(at_most_micros)} USD that this "
        f"call {'may cost' if metered else 'costs'}; top it up, or pay this call in full by x402",
        details={
            "billing_reason": "virtual_balance_insufficient",
            "price_usd": format_usd(at_most_micros),
            **({"balance_usd": format_usd(available_micros)} if seen else {}),
        },
    )


def _owing(owed: ChargeView) -> Problem:
    return Problem(
        Code.PAYMENT_INVALID,
        f"an earlier result for this wallet, of {owed.charge.operation}, was not paid for: send that request again "
        "with a new payment and have it without new work, then other work is taken on again",
        reason=Reason.EARLIER_UNPAID,
        details={
            "charge_id": owed.charge.id,
            "operation": owed.charge.operation,
            "owed_usd": format_usd(owed.charge.captured_micros),
            "until": iso(owed.result_expires_ms or 0),
        },
    )


def _admitted(tx: Tx, /, call: Call, payment: Payment) -> tuple[str, PaymentKnown] | None:
    """(identity, what it bought) of the very payload, if it was admitted before and is not free again. Raises Problem
    for an agent that may not spend any more."""
    _require_standing(tx, call)
    known = charges.find_by_payment(tx, payment.payment_hash)
    if known is None:
        return None
    identity, view = known
    same = view.request_hash == call.request_hash
    return identity, PaymentKnown(view.charge.id, view.charge.operation, same, same_payment=True)
