"""One real server on loopback for all of these tests; what stands behind its doors starts afresh with each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from rigs.counter import Counter

from gateway.edge.app import build_app
from gateway.edge.server import serving

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They share a loop, as they share the server that runs in it."""
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def door() -> AsyncIterator[tuple[Counter, str]]:
    counter = Counter()
    async with serving(build_app(counter.parts())) as url:
        yield counter, url


@pytest.fixture
def counter(door: tuple[Counter, str]) -> Counter:
    counter, _ = door
    counter.reset()
    return counter


@pytest.fixture
def url(door: tuple[Counter, str], counter: Counter) -> str:
    return door[1]
