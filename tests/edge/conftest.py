"""A gateway's edge on a real server on loopback, one for each test."""

from collections.abc import AsyncIterator

import pytest
from rigs.counter import Counter

from gateway.edge.app import build_app
from gateway.edge.server import serving


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
async def url(counter: Counter) -> AsyncIterator[str]:
    async with serving(build_app(counter.parts())) as url:
        yield url
