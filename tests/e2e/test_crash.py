"""`kill -9` at every named crash point of both paths, on the real process with a real EVM.

Whatever the moment: after a restart the books are clean, nobody has paid twice, and whoever paid gets the result by
repeating the very same call. By default each point once; FAREGATE_LOOPS=short three times; --full twenty times.
"""

import asyncio
import itertools
import os
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.gate import Reply
from rigs.payer import Payer
from rigs.program import Program
from rigs.running import GONE, PRICE, Running, relayed, running
from rigs.upstream import ScriptedUpstream, reply

from gateway.core import crash

pytestmark = pytest.mark.chain

TIMES = 3 if os.environ.get("FAREGATE_LOOPS") == "short" else 1
TIMES_FULL = 20
BUYERS = 8
FIND = "shop/find"
PAYER = Payer(PAYER_KEYS[7])
CANARY = "canary-7d1c"
KILLED = -9
DELAYS_S = (0.3, 0.0, 0.02, 0.1)
"""The vendor's, from storm to storm."""

WORK = ["hold.before", "hold.after", "work.before", "work.after", "record.before"]
KEPT = ["record.after", "answer.before"]
"""From here on the work is never done again."""
COLLECTING = [
    "settle.before_journal", "settle.after_journal", "settle.after_broadcast", "settle.after_receipt",
    "proven.before", "proven.after",
]  # fmt: skip
COMMITS = ["store.before_commit", "store.after_commit"]
AT_START = ["store.in_migration"]
DELIVERING = ["webhook.before_send", "webhook.after_send"]
"""Tried in tests/flows/test_postmen.py."""
PREPAID = ["prepaid.before", "prepaid.after"]
"""Tried in tests/e2e/test_prepaid.py."""


def test_every_named_point_is_tried() -> None:
    elsewhere = ("job.", "recovery.")  # tests/e2e/test_jobs.py, test_wallet_recovery.py
    others = {point for point in crash.POINTS if point.startswith(elsewhere)}
    assert {*WORK, *KEPT, *COLLECTING, *COMMITS, *AT_START, *DELIVERING, *PREPAID} == crash.POINTS - others


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply({"found": CANARY})) as shop:
        yield shop


Means = dict[str, Any]


@dataclass
class Life:
    """What is tried out on one home, again and again."""

    gate: Running
    chain: Chain
    shop: ScriptedUpstream
    bought: dict[str, Reply] = field(default_factory=dict)
    """By the word that was asked for."""
    settled: int = 0
    """How many of them were paid by signature."""

    async def by_signature(self, payer: Payer = PAYER, method: str = "eip3009") -> Means:
        return {"payment": await self.gate.sign(payer, method=method)}

    async def by_permit2(self) -> Means:
        return await self.by_signature(method="permit2")

    async def from_balance(self) -> Means:
        return {"token": await self.gate.agent("0.50"), "key": secrets.token_hex(8)}

    async def dies(self, point: str, means: Callable[[], Awaitable[Means]]) -> None:
        """One call that dies at the point, one restart, the same call again."""
        await self.gate.start(crash_at=point)
        paying = await means()
        word = secrets.token_hex(4)
        with pytest.raises(GONE):
            await self.gate.call(FIND, {"word": word}, **paying)
        assert await self.gate.ended() == KILLED
        await self.gate.start()
        await self.fetches(word, paying)
        assert self.runs(word) == 1 if point in (*KEPT, *COLLECTING) else self.runs(word) in (1, 2)
        await self.gate.kill()

    async def dies_at_every(self, commit: str, means: Callable[[], Awaitable[Means]]) -> int:
        """Dies at its second commit (the first is recovery's), then at its third, until a call is over before it.
        Answers how many calls were cut off."""
        cut_off = 0
        for nth in itertools.count(2):
            await self.gate.start(crash_at=f"{commit}:{nth}", ready=False)
            word, paying, answer = secrets.token_hex(4), None, None
            with suppress(*GONE):
                paying = await means()
                answer = await self.gate.call(FIND, {"word": word}, **paying)
            if answer is not None:
                await self.gate.kill()
            assert await self.gate.ended() == KILLED
            await self.gate.start()
            if paying is not None:
                cut_off += answer is None
                await self.fetches(word, paying)
            await self.gate.kill()
            if answer is not None:
                return cut_off
        raise AssertionError

    async def fetches(self, word: str, paying: Means) -> None:
        """Whoever paid gets the result by repeating the very same call, and again, and pays once."""
        answer = await self.gate.until_paid(FIND, {"word": word}, **paying)
        assert answer.json["data"] == {"found": CANARY}
        assert answer.json["billed"] is True
        assert (await self.gate.call(FIND, {"word": word}, **paying)).body == answer.body
        self.bought[word] = answer
        if "payment" in paying:
            self.settled += 1
            assert answer.receipt["success"] is True
        else:
            bearer = {"Authorization": f"Bearer {paying['token']}"}
            told = (await self.gate.send("GET", "/api/v1/agents/balance", headers=bearer)).json
            assert (told["available_usd"], told["held_usd"]) == ("0.170", "0.000")

    async def stops(self) -> None:
        assert await self.gate.stop() == 0

    def runs(self, word: str) -> int:
        """How often the vendor was asked for it."""
        return sum(word.encode() in seen.body for seen in self.shop.seen)

    async def storm(self, end: Callable[[], Awaitable[object]]) -> None:
        """Many calls at once by both paths, an end in their midst, a new start, and everybody comes again."""
        await self.gate.start()
        methods = itertools.cycle(["eip3009", "permit2"])
        means = [await self.by_signature(Payer(key), next(methods)) for key in PAYER_KEYS] + [
            await self.from_balance() for _ in range(BUYERS)
        ]
        words = [secrets.token_hex(4) for _ in means]
        before = len(self.shop.seen)
        calls = [
            asyncio.create_task(self.gate.call(FIND, {"word": word}, **paying))
            for word, paying in zip(words, means, strict=True)
        ]
        await self.shop.arrived(before + 1)
        await asyncio.sleep(random.uniform(0, 0.1))
        for call in calls[::3]:
            call.cancel()  # hangs up
        await end()
        told = await asyncio.gather(*calls, return_exceptions=True)
        lost = (*GONE, asyncio.CancelledError)
        assert [each for each in told if isinstance(each, BaseException) and not isinstance(each, lost)] == []
        await self.gate.start()
        for word, paying, answer in zip(words, means, told, strict=True):
            await self.fetches(word, paying)
            if not isinstance(answer, BaseException) and answer.status == 200:
                assert self.bought[word].body == answer.body, "what a client was told survives"
        await self.gate.kill()

    async def counts(self) -> None:
        """One charge and one transfer for each word."""
        charged = [charge for charge in await self.gate.charges() if charge["charged_usd"] != "0.000"]
        assert len(charged) == len(self.bought)
        assert self.chain.balance(self.gate.settings.pay_to) == PRICE * self.settled


New = Callable[[], AbstractAsyncContextManager[Life]]


@pytest.fixture
def born(chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path) -> New:
    """`async with born() as life`: each on a home of its own, with a relayer of its own; counted at the end."""

    @asynccontextmanager
    async def born() -> AsyncIterator[Life]:
        settings = relayed(chain, upstream=shop.port)
        async with running(tmp_path / secrets.token_hex(4), program, settings, started=False) as gate:
            life = Life(gate, chain, shop)
            yield life
            await life.counts()

    return born


@pytest.fixture
async def life(born: New) -> AsyncIterator[Life]:
    async with born() as life:
        yield life


def rounds(times: int) -> list[Any]:
    """By default as often as FAREGATE_LOOPS says, in full as often as promised."""
    return [pytest.param(times, id="quick"), pytest.param(TIMES_FULL, id="full", marks=pytest.mark.full)]


@pytest.mark.parametrize("times", rounds(TIMES))
@pytest.mark.parametrize("point", [*WORK, *KEPT, *COLLECTING])
async def test_killed_while_paid_by_signature(born: New, point: str, times: int) -> None:
    """F-024, F-025"""
    for _ in range(times):
        async with born() as life:
            await life.dies(point, life.by_signature)


@pytest.mark.parametrize("times", rounds(TIMES))
@pytest.mark.parametrize("point", COLLECTING)
async def test_killed_while_paid_by_permit2(born: New, point: str, times: int) -> None:
    """It emits no event of its own, so what was paid is found in another way."""
    for _ in range(times):
        async with born() as life:
            await life.dies(point, life.by_permit2)


@pytest.mark.parametrize("times", rounds(TIMES))
@pytest.mark.parametrize("point", [*WORK, *KEPT])
async def test_killed_while_paid_from_balance(born: New, point: str, times: int) -> None:
    for _ in range(times):
        async with born() as life:
            await life.dies(point, life.from_balance)


@pytest.mark.parametrize("times", rounds(TIMES))
@pytest.mark.parametrize("commit", COMMITS)
async def test_killed_at_every_commit(life: Life, commit: str, times: int) -> None:
    """A hold and a result; by signature an attempt and a proof besides. Recovery writes now and then, in one life
    before a call's commits and in the next between them, so now and then one of them is missed."""
    for _ in range(times):
        assert await life.dies_at_every(commit, life.by_signature) >= 3
        assert await life.dies_at_every(commit, life.from_balance) >= 1


@pytest.mark.parametrize("point", AT_START)
async def test_killed_while_it_makes_its_tables(life: Life, point: str) -> None:
    await life.gate.start(crash_at=point, ready=False)
    assert await life.gate.ended() == KILLED
    await life.gate.start()
    await life.fetches("hello", await life.by_signature())


async def test_killed_again_while_it_recovers(life: Life) -> None:
    """Dies at every commit of its recoveries, one after the other, and still comes to the same end."""
    await life.gate.start(crash_at="settle.after_broadcast")
    paying = await life.by_signature()
    with pytest.raises(GONE):
        await life.gate.call(FIND, {"word": "again"}, **paying)
    await life.gate.ended()
    for point in ("store.before_commit:1", "store.after_commit:1", "proven.before", "proven.after"):
        await life.gate.start(crash_at=point, ready=False)
        if life.gate.child is not None and life.gate.child.ended() is None:
            with suppress(*GONE):
                await life.gate.call(FIND, {"word": "again"}, **paying)
            await life.gate.kill()
    await life.gate.start()
    await life.fetches("again", paying)
    assert life.runs("again") == 1


@pytest.mark.parametrize("storms", [TIMES, pytest.param(60, marks=pytest.mark.full)])
async def test_f161_sigterm_under_load(life: Life, storms: int) -> None:
    """Calls in flight end; who comes too late finds his payment as it was, and nothing is worked on twice."""
    for delay_s in itertools.islice(itertools.cycle(DELAYS_S), storms):
        life.shop.default = reply({"found": CANARY}, delay_s=delay_s)
        await life.storm(life.stops)
    assert max(life.runs(word) for word in life.bought) == 1


@pytest.mark.full
async def test_killed_at_random_under_load(life: Life) -> None:
    for delay_s in itertools.islice(itertools.cycle(DELAYS_S), 60):
        life.shop.default = reply({"found": CANARY}, delay_s=delay_s)
        await life.storm(life.gate.kill)
