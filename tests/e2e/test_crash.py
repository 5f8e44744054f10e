"""`kill -9` at every named crash point of both paths, on the real process with a real EVM.

Whatever the moment: after a restart the books are clean, nobody has paid twice, and whoever paid gets the result by
repeating the very same call. By default each point once; FAREGATE_LOOPS=short three times; --full twenty times.
"""

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.payer import Payer
from rigs.program import Program
from rigs.running import GONE, PRICE, Running, relayed, running
from rigs.upstream import ScriptedUpstream, reply

from gateway.core import crash

pytestmark = pytest.mark.chain

TIMES = 3 if os.environ.get("FAREGATE_LOOPS") == "short" else 1
TIMES_FULL = 20
CANARY = "canary-7d1c"
KILLED = -9

WORK = ["hold.before", "hold.after", "work.before", "work.after", "record.before"]
KEPT = ["record.after", "answer.before"]
"""From here on the work is never done again."""
COLLECTING = [
    "settle.before_journal", "settle.after_journal", "settle.after_broadcast", "settle.after_receipt",
    "proven.before", "proven.after",
]  # fmt: skip
COMMITS = ["store.before_commit", "store.after_commit"]
AT_START = ["store.in_migration"]


def test_every_named_point_is_tried() -> None:
    assert {*WORK, *KEPT, *COLLECTING, *COMMITS, *AT_START} == crash.POINTS


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply({"found": CANARY})) as shop:
        yield shop


@dataclass
class Life:
    """What is tried out on one home, again and again."""

    gate: Running
    chain: Chain
    shop: ScriptedUpstream
    payer: Payer
    bought: int = 0

    async def by_signature(self) -> dict[str, Any]:
        return {"payment": await self.gate.sign(self.payer)}

    async def from_balance(self) -> dict[str, Any]:
        return {"token": await self.gate.agent("0.50"), "key": secrets.token_hex(8)}

    async def crash(self, point: str, means: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        """One call that dies at the point, one restart, the same call again."""
        had, runs = self.chain.balance(self.payer.address), len(self.shop.seen)
        await self.gate.start(crash_at=point)
        paying = await means()
        word = {"word": secrets.token_hex(4)}
        with pytest.raises(GONE):
            await self.gate.call("shop/find", word, **paying)
        assert await self.gate.ended() == KILLED
        await self.gate.start()
        reply = await self.gate.until_paid("shop/find", word, **paying)
        assert reply.json["data"] == {"found": CANARY}
        assert reply.json["billed"] is True
        assert (await self.gate.call("shop/find", word, **paying)).body == reply.body
        self.bought += 1
        done = len(self.shop.seen) - runs
        assert done == 1 if point in (*KEPT, *COLLECTING) else done in (1, 2), done
        if "payment" in paying:
            assert had - self.chain.balance(self.payer.address) == PRICE
            assert self.chain.balance(self.gate.settings.pay_to) == PRICE * self.bought
            assert reply.receipt["success"] is True
        else:
            told = await self.gate.send("GET", "/api/v1/agents/balance",
                                        headers={"Authorization": f"Bearer {paying['token']}"})  # fmt: skip
            assert (told.json["available_usd"], told.json["held_usd"]) == ("0.170", "0.000")
        charged = [charge for charge in await self.gate.charges() if charge["charged_usd"] != "0.000"]
        assert len(charged) == self.bought
        await self.gate.audit()
        await self.gate.kill()


@pytest.fixture
async def life(chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Life]:
    async with running(tmp_path, program, relayed(chain, upstream=shop.port), started=False) as gate:
        yield Life(gate, chain, shop, Payer(PAYER_KEYS[7]))


NTH_SIGNED = [f"{point}:{nth}" for point in COMMITS for nth in (2, 3, 4, 5)]
NTH_BALANCE = [f"{point}:{nth}" for point in COMMITS for nth in (3, 4)]


@pytest.mark.parametrize("point", [*WORK, *KEPT, *COLLECTING, *NTH_SIGNED])
async def test_killed_while_paid_by_signature(life: Life, point: str) -> None:
    """F-024, F-025"""
    for _ in range(TIMES):
        await life.crash(point, life.by_signature)


@pytest.mark.parametrize("point", [*WORK, *KEPT, *NTH_BALANCE])
async def test_killed_while_paid_from_balance(life: Life, point: str) -> None:
    for _ in range(TIMES):
        await life.crash(point, life.from_balance)
