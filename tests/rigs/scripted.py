"""An upstream that does what a test tells it, and keeps a journal of the work it did: the ground truth of I4.

Two operations of one price (`test/alpha`, `test/beta`), so that a payment for one could be tried on the other, and a
dear one (`test/gamma`), and one that is billed by what the vendor took (`test/metered`: from $0.10 to $2 at a markup of
150 percent). The query {"word": ...} is answered with a match, unless `script` says otherwise for that word.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.catalogue import Operation, Price
from gateway.core.upstream import Context, Failure, Match, NoMatch, Offering, Outcome

CANARY = "canary-6d1f-result"
"""In every match: wherever it is seen, a result was released."""


METERED = Price(100_000, metered=True, markup_percent=150, ceiling_micros=2_000_000)


class Word(BaseModel):
    model_config = ConfigDict(extra="forbid")
    word: str = Field(min_length=1, max_length=64)


Step = Callable[[Context], Awaitable[Outcome]]


async def match(context: Context) -> Outcome:
    return Match({"found": CANARY}, {"source": "scripted"}, cost_micros=200)


def taking(cost_micros: int) -> "Step":
    """A match that the vendor took so much for."""

    async def step(context: Context) -> Outcome:
        return Match({"found": CANARY, "budget": context.budget_micros}, cost_micros=cost_micros)

    return step


async def miss(context: Context) -> Outcome:
    return NoMatch({"found": None}, {"source": "scripted"}, cost_micros=100)


async def failure(context: Context) -> Outcome:
    return Failure("the vendor failed", cost_micros=50)


async def bug(context: Context) -> Outcome:
    raise RuntimeError(f"a bug that knows a secret: {CANARY}")


async def hang(context: Context) -> Outcome:
    await asyncio.sleep(3600)
    raise AssertionError


def slow(seconds: float, then: Step = match) -> Step:
    async def step(context: Context) -> Outcome:
        await asyncio.sleep(seconds)
        return await then(context)

    return step


@dataclass
class Scripted:
    """`script[word]` is what the upstream does when asked for it; `journal` has every (operation, word) worked on."""

    name: str = "scripted"
    script: dict[str, Step] = field(default_factory=dict)
    journal: list[tuple[str, str]] = field(default_factory=list)
    rests: dict[str, int] = field(default_factory=dict)
    timeout_s: float = 5.0
    price_micros: int = 330_000
    cacheable: bool = False

    def offerings(self) -> Sequence[Offering]:
        return [
            self._offering("test/alpha", Price(self.price_micros)),
            self._offering("test/beta", Price(330_000)),
            self._offering("test/gamma", Price(500_000)),
            self._offering("test/metered", METERED),
        ]

    def offline(self) -> Sequence[Operation]:
        return ()

    def available(self, operation_id: str, now_s: float) -> int | None:
        return self.rests.get(operation_id)

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def runs(self, word: str) -> int:
        return sum(1 for _, asked in self.journal if asked == word)

    def _offering(self, id: str, price: Price) -> Offering:
        async def fulfil(query: Word, context: Context) -> Outcome:
            self.journal.append((id, query.word))
            return await self.script.get(query.word, match)(context)

        operation = Operation(
            id=id,
            method="POST",
            path=f"/api/v1/{id}",
            summary="Answers a word",
            description="Answers a word with what a test told it to.",
            input=Word,
            output={"type": "object", "properties": {"data": {"type": "object"}}},
            price=price,
            job=price.metered,
            example={"word": "hello"},
            example_output={"matched": True, "data": {"found": "something"}},
            timeout_s=self.timeout_s,
            cacheable=self.cacheable,
        )
        return Offering(operation, fulfil)
