"""A chain for all tests of this folder, put back after each, and tills on it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from rigs.chain import CHAIN_ID, PAYER_KEYS, RELAYER_KEY, Chain
from rigs.journal import MemoryJournal, MemoryLock
from rigs.payer import Payer
from rigs.rpc import RpcProxy
from rigs.till import NETWORK_HERE, PAY_TO, Till

from gateway.core.networks import Network, Token
from gateway.settlement.onchain import FINAL_DEPTH
from gateway.settlement.relayer import Limits, Relayer
from gateway.settlement.rpc import Rpc


@pytest.fixture(scope="session")
def whole_chain() -> Iterator[Chain]:
    chain = Chain.start()
    for key in PAYER_KEYS:
        chain.mint(Payer(key).address, 10**12)
        chain.approve_permit2(Payer(key).address)
    chain.mint(PAY_TO, 1)
    chain.mine(FINAL_DEPTH)
    yield chain
    chain.close()


@pytest.fixture
def chain(whole_chain: Chain) -> Iterator[Chain]:
    with whole_chain.restored():
        yield whole_chain


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


Open = Callable[..., Awaitable[Till]]


@pytest.fixture
async def open_till(chain: Chain, http: aiohttp.ClientSession) -> AsyncIterator[Open]:
    """`await open_till(limits=..., urls=..., journal=..., keys=...)`: a till by a relayer on the chain."""
    opened: list[Relayer] = []
    holders: dict[str, list[MemoryLock]] = {}

    async def open(
        *, urls: list[str] | None = None, journal: MemoryJournal | None = None, network: Network = NETWORK_HERE,
        token: Token | None = None, keys: tuple[bytes, ...] = (RELAYER_KEY,), timeout_s: float = 5.0, **options: Any,
    ) -> Till:  # fmt: skip
        journal = journal or MemoryJournal()
        if token is not None:
            network = replace(network, tokens=(token,))
        options.setdefault("limits", Limits(settle_wait_s=5.0))
        relayer = Relayer(
            network=network, pay_to=PAY_TO, keys=keys, journal=journal, clock=lambda: chain.now,
            rpc=Rpc(http, urls or [chain.url], chain_id=CHAIN_ID, timeout_s=timeout_s),
            lock=lambda name: MemoryLock(holders.setdefault(name, [])), **options,
        )  # fmt: skip
        opened.append(relayer)
        await relayer.start()
        return Till(
            relayer, network.id, network.tokens[0], now=lambda: chain.now, journal=journal,
            admitted_block=lambda: chain.height,
        )  # fmt: skip

    yield open
    await asyncio.gather(*(relayer.close() for relayer in opened))


@pytest.fixture
async def till(open_till: Open) -> Till:
    return await open_till()


@pytest.fixture
def payers(chain: Chain) -> list[Payer]:
    return [Payer(key, now=lambda: chain.now) for key in PAYER_KEYS]


@pytest.fixture
async def rpcx(chain: Chain) -> AsyncIterator[RpcProxy]:
    async with RpcProxy(chain.url) as proxy:
        yield proxy
