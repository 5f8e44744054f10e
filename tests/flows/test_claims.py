"""Claims of a crowd: few are at the chain, few wait, the others are told to come again; an agent has one there."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rigs import books

from gateway.core.errors import Problem
from gateway.flows.deposits import CLAIMS_AT_ONCE, CLAIMS_EACH, CLAIMS_WAITING, Deposits, DepositTerms
from gateway.settlement.protocol import Arrivals, Missing
from gateway.store import wallets
from gateway.store.sqlite import SqliteDatabase


class Slow:
    """A chain that answers when it is told to, and knows nothing."""

    network, chain_id, address = books.NETWORK, 31337, books.PAY_TO

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.asked: list[str] = []
        self.full = asyncio.Event()

    async def transaction(self, hash: str) -> Missing:
        self.asked.append(hash)
        if len(self.asked) == CLAIMS_AT_ONCE:
            self.full.set()
        await self.answers.wait()
        return Missing()

    async def head(self) -> int:
        await self.answers.wait()
        return 1


class Free:
    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with books.books(tmp_path / "l.db") as db:
        for number in range(CLAIMS_AT_ONCE + CLAIMS_WAITING + 5):
            await books.agent(db, f"agt_{number}")
            await db.write(wallets.add, f"0x{number:040x}", f"agt_{number}", wallets.Role.LINKED)
        yield db


def desk(db: SqliteDatabase, chain: Arrivals) -> Deposits:
    return Deposits(
        db=db, chains=[chain], terms=DepositTerms(), lock=lambda _: Free(), clock=lambda: 0.0,
        entropy=lambda count: bytes(count),
    )  # fmt: skip


async def code(deposits: Deposits, number: int, hash: str, **more: str) -> str:
    try:
        await deposits.claim(f"agt_{number}", 31337, hash, **more)
    except Problem as problem:
        return problem.code.value if problem.retry_after_s else f"{problem.code.value}, and never again"
    return "nothing is there to be credited"


async def test_f121_a_crowd_of_claims_waits_for_itself(db: SqliteDatabase) -> None:
    chain = Slow()
    deposits = desk(db, chain)  # type: ignore[arg-type]
    crowd = [
        asyncio.create_task(code(deposits, number, f"0x{number}"))
        for number in range(CLAIMS_AT_ONCE + CLAIMS_WAITING + 5)
    ]
    for _, done in zip(range(5), asyncio.as_completed(crowd, timeout=10), strict=False):
        assert await done == "OVERLOADED"
    async with asyncio.timeout(10):
        await chain.full.wait()
    assert len(chain.asked) == CLAIMS_AT_ONCE
    with pytest.raises(Problem, match="again in a while"):
        await deposits.height(31337)
    chain.answers.set()
    told = Counter(await asyncio.gather(*crowd))
    assert told == {"TRANSACTION_NOT_FOUND": CLAIMS_AT_ONCE + CLAIMS_WAITING, "OVERLOADED": 5}
    assert await code(deposits, 0, "0x0") == "TRANSACTION_NOT_FOUND", "who has gone makes room"


async def test_one_agent_has_one_claim_at_the_chain(db: SqliteDatabase) -> None:
    chain = Slow()
    deposits = desk(db, chain)  # type: ignore[arg-type]
    first = [asyncio.create_task(code(deposits, 0, f"0xa{number}")) for number in range(CLAIMS_EACH + 2)]
    for _, done in zip(range(2), asyncio.as_completed(first, timeout=10), strict=False):
        assert await done == "OVERLOADED"
    others = [asyncio.create_task(code(deposits, number, f"0xb{number}")) for number in range(1, CLAIMS_AT_ONCE - 1)]
    # Anybody may begin a recovery of an agent, and is not in its way.
    others.append(asyncio.create_task(code(deposits, 0, "0xc", asker="somebody")))
    async with asyncio.timeout(10):
        await chain.full.wait()
    assert sum(hash.startswith("0xa") for hash in chain.asked) == 1
    assert len(chain.asked) == CLAIMS_AT_ONCE
    chain.answers.set()
    told = Counter(await asyncio.gather(*first, *others))
    assert told == {"TRANSACTION_NOT_FOUND": CLAIMS_EACH + CLAIMS_AT_ONCE - 1, "OVERLOADED": 2}
