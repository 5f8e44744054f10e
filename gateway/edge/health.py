"""Two questions of whoever watches over the process: is it alive, and should it get calls?

/healthz asks nothing of anybody. /readyz asks the parts, at most once a second however often it is called (F-121).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CACHE_S = 1.0
TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Fact:
    """One part's answer. `detail` is public: a sentence with no address, path or secret."""

    name: str
    ok: bool
    detail: str = ""


Ready = Callable[[], Awaitable[Sequence[Fact]]]


class Health:
    def __init__(self, ready: Ready, timeout_s: float = TIMEOUT_S) -> None:
        self._ready = ready
        self._timeout_s = timeout_s
        self._asking = asyncio.Lock()
        self._known: Sequence[Fact] = ()
        self._asked_s = -CACHE_S

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
        ]

    async def healthz(self, request: Request) -> Response:
        return _json({"alive": True}, 200)

    async def readyz(self, request: Request) -> Response:
        facts = await self._facts()
        ready = all(fact.ok for fact in facts)
        checks = {fact.name: {"ok": fact.ok, "detail": fact.detail} for fact in facts}
        return _json({"ready": ready, "checks": checks}, 200 if ready else 503)

    async def _facts(self) -> Sequence[Fact]:
        async with self._asking:
            if time.monotonic() - self._asked_s >= CACHE_S:
                self._known = await self._ask()
                self._asked_s = time.monotonic()
        return self._known

    async def _ask(self) -> Sequence[Fact]:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ready()
        except Exception:  # noqa: BLE001 - a part that raises or hangs is not ready; that is the answer
            return [Fact("parts", False, "a part did not answer")]


def _json(value: object, status: int) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json", headers={"Cache-Control": "no-store"})
