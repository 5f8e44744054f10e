"""The flows over a real SQLite file, which is audited clean when the test is over."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rigs.books import Clock, books

from gateway.store.sqlite import SqliteDatabase


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def db(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteDatabase]:
    async with books(tmp_path / "ledger.db", clock) as opened:
        yield opened
