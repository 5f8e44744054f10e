"""Turns at a chain, of a crowd of strangers: few ask at once, few more wait, and everybody else is told to come again.
A crowd is in its own way so, not in that of those who pay."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.core.errors import Code, Problem

RETRY_S = 5


class Turns:
    def __init__(self, at_once: int, waiting_max: int, busy: str, *, each_max: int | None = None) -> None:
        """`busy` tells whoever is turned away. `each_max`: how many of one asker may be here, waiting or not."""
        self._here_max = at_once + waiting_max
        self._each_max = self._here_max if each_max is None else each_max
        self._busy = busy
        self._asking = asyncio.Semaphore(at_once)
        self._here: Counter[str] = Counter()
        self._own: dict[str, asyncio.Lock] = {}
        """By asker: who has one turn waits for the next until that is over."""

    @asynccontextmanager
    async def turn(self, asker: str = "") -> AsyncIterator[None]:
        """A named asker has one turn at a time. Raises Problem OVERLOADED."""
        if self._here.total() >= self._here_max or (asker and self._here[asker] >= self._each_max):
            raise Problem(Code.OVERLOADED, self._busy, retry_after_s=RETRY_S)
        self._here[asker] += 1
        try:
            if not asker:
                async with self._asking:
                    yield
                return
            async with self._own.setdefault(asker, asyncio.Lock()), self._asking:
                yield
        finally:
            self._here[asker] -= 1
            if not self._here[asker]:
                del self._here[asker]
                self._own.pop(asker, None)
