"""Answering again: what was found for a question is given to the same question once more, while it is fresh.

The same question is the same operation and input, asked by the same agent, or paid by the same wallet where there is no
agent; of everybody where the operator shares. Of several that are asked at once one is worked on, and the others wait
for it, but for work that is signed for and billed by what it takes. What is given again costs its customer what a match
costs, less the operator's discount, and takes no vendor.

Work that is made of several questions, as a session is, takes the answers to those from here too, and leaves what it
buys here: at no cost to it, and at the price of a match to whoever asks the same by itself. What it leaves is kept in
the write that charges for the whole, and given again once that is paid for: nobody comes by what he has not paid for.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from pydantic import BaseModel

from gateway.core import answer
from gateway.core.charge import Charge
from gateway.core.subject import DIGEST_BYTES, SubjectKey
from gateway.core.upstream import Again, Match
from gateway.core.vendor_call import Outcome, VendorCall
from gateway.flows.fulfilling import Call, Done, Part, Question, canonical
from gateway.store import answers
from gateway.store.database import Database


@dataclass(frozen=True, slots=True)
class CacheTerms:
    ttl_ms: int = 0
    """0: nothing is given again."""
    shared: bool = False
    """Whether what one agent has bought is given to another."""
    discount_percent: int = 0


@dataclass(slots=True)
class AnswerCache:
    db: Database
    key: SubjectKey
    terms: CacheTerms
    clock: Callable[[], float]
    under_way: dict[bytes, asyncio.Future[Done | None]] = field(default_factory=dict)

    def parts(self, charge: Charge) -> "Parts | None":
        """For the questions that this call's work is made of; None: nothing is given again here."""
        return Parts(self, charge) if self.terms.ttl_ms else None

    def question(self, call: Call, charge: Charge) -> Question | None:
        """None: it is not one to be answered again."""
        if not self.terms.ttl_ms or not call.operation.cacheable:
            return None
        return self.asked(charge, call.operation.id, call.query)

    def asked(self, charge: Charge, operation: str, query: BaseModel) -> Question:
        """Not by a request's hash: a job's call has no key for that."""
        whose = b"" if self.terms.shared else charge.party.encode()
        told = hmac.digest(self.key.key, b"answer\n" + whose + b"\n" + canonical(operation, query), "sha256")
        return Question(told[:DIGEST_BYTES], self.terms.ttl_ms, self.terms.discount_percent)

    async def answered(self, question: Question, work: Callable[[], Awaitable[Done]], *, waits: bool) -> Done:
        """What is known, or what `work` finds out. `waits`: somebody else's work on it is waited for, which takes no
        longer than this call may."""
        if not waits:
            return await self._look(question, work)
        while (other := self.under_way.get(question.hash)) is not None:
            done = await asyncio.shield(other)
            if done is not None and done.stored is not None:
                return self._again(done.stored, done.calls, question)
        mine = self.under_way[question.hash] = asyncio.get_running_loop().create_future()
        done = None
        try:
            done = await self._look(question, work)
            return done
        finally:
            del self.under_way[question.hash]
            mine.set_result(done if done is not None and isinstance(done.outcome, Match) else None)

    async def _look(self, question: Question, work: Callable[[], Awaitable[Done]]) -> Done:
        kept = await self.db.read(answers.find, question.hash)
        if kept is not None:
            return self._again(kept.body, kept.calls, question)
        return replace(await work(), question=question)

    def _again(self, stored: bytes, calls: tuple[VendorCall, ...], question: Question) -> Done:
        return Done(Match(answer.unpack(stored).data), answer.again(stored), self.unpaid(calls), again=question)

    def unpaid(self, calls: tuple[VendorCall, ...]) -> tuple[VendorCall, ...]:
        """Whoever has found it, as it stands beside the charge that it is given again on."""
        found = [call for call in calls if call.outcome is Outcome.MATCH]
        now_ms = int(self.clock() * 1000)
        return tuple(replace(call, cached=True, cost_micros=0, ms=0, at_ms=now_ms) for call in found)


@dataclass(slots=True)
class Parts:
    """gateway.core.upstream.Answers: of one call's work."""

    cache: AnswerCache
    charge: Charge
    kept: list[Part] = field(default_factory=list)

    async def again(self, operation: str, query: BaseModel) -> Again | None:
        question = self.cache.asked(self.charge, operation, query)
        kept = await self.cache.db.read(answers.find, question.hash)
        if kept is None:
            return None
        result = answer.unpack(kept.body)
        return Again(Match(result.data, {**result.metadata, "cache_hit": True}), self.cache.unpaid(kept.calls))

    def keep(self, operation: str, query: BaseModel, found: Match, hop: str) -> None:
        try:
            body = answer.pack(found)
        except TypeError:  # no answer that could be given
            return
        self.kept.append(Part(self.cache.asked(self.charge, operation, query), body, hop))
