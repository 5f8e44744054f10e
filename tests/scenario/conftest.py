"""A chain with money in four wallets, put back after each test."""

from collections.abc import Iterator

import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.payer import Payer


@pytest.fixture(scope="module")
def whole_chain() -> Iterator[Chain]:
    chain = Chain.start()
    for key in PAYER_KEYS[:4]:
        chain.mint(Payer(key).address, 10**12)
    chain.mine(20)
    yield chain
    chain.close()


@pytest.fixture
def chain(whole_chain: Chain) -> Iterator[Chain]:
    with whole_chain.restored():
        yield whole_chain
