"""Questions of many callers in one batch.

A few batches are under way at a time; while they are, the questions of whoever comes next gather, and go out together
when one is back: no timer, and alone where nobody else is. Each caller's answers are his own: whatever is wrong with
them is asked again by himself, with all the care that takes.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.settlement.rpc import Answer, Block, Call, Rpc, RpcUnavailable

T = TypeVar("T")

UNDER_WAY_MAX = 4
CALLS_MAX = 96


@dataclass(eq=False, slots=True)
class _Question:
    calls: Sequence[Call]
    understand: Callable[[Block, list[Answer]], Any]
    answered: "asyncio.Future[Any]"


class Together:
    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._gathered: list[_Question] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def latest(self, calls: Sequence[Call], understand: Callable[[Block, list[Answer]], T]) -> T:
        """As Rpc.latest: `understand(latest block, answers)`. Raises RpcUnavailable."""
        question = _Question(calls, understand, asyncio.get_running_loop().create_future())
        self._gathered.append(question)
        self._send_off()
        understood: T | None = await question.answered
        if understood is None:
            return await self._rpc.latest(calls, understand)
        return understood

    def _send_off(self) -> None:
        while self._gathered and len(self._under_way) < UNDER_WAY_MAX:
            batch: list[_Question] = []
            size = 0
            while self._gathered and (not batch or size + len(self._gathered[0].calls) <= CALLS_MAX):
                size += len(self._gathered[0].calls)
                batch.append(self._gathered.pop(0))
            task = asyncio.create_task(self._ask(batch))
            self._under_way.add(task)
            task.add_done_callback(self._back)

    def _back(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._send_off()

    async def _ask(self, batch: Sequence[_Question]) -> None:
        try:
            head, answers = await self._rpc.latest(
                [call for question in batch for call in question.calls], lambda head, answers: (head, answers)
            )
        except RpcUnavailable as failure:
            for question in batch:
                if not question.answered.done():
                    question.answered.set_exception(failure)
            return
        start = 0
        for question in batch:
            own, start = answers[start : start + len(question.calls)], start + len(question.calls)
            if not question.answered.done():
                question.answered.set_result(_understood(question, head, own))


def _understood(question: _Question, head: Block, answers: list[Answer]) -> Any:
    try:
        return question.understand(head, answers)
    except RpcUnavailable:
        return None
