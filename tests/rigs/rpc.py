"""RPCX: a node's front door that misbehaves as it is told.

    async with RpcProxy(chain.url) as proxy:
        proxy.on("eth_sendRaw", refuse, times=2)        the first two never reach the node
        proxy.on("*", stale(3))                         a replica that is three blocks behind

A behaviour is an async function `(proxy, calls) -> answers`: a list goes out as the batch, bytes as they are, None
closes the connection. The first rule that fits any call of a batch decides for the whole batch.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from aiohttp import web

Calls = list[dict[str, Any]]
Answers = list[dict[str, Any]] | bytes | int | None
"""A batch; bytes as they are; a bare HTTP status; or a closed connection."""
Behaviour = Callable[["RpcProxy", Calls], Awaitable[Answers]]


@dataclass
class Rule:
    method: str
    behaviour: Behaviour
    times: int | None

    def fits(self, calls: Calls) -> bool:
        return self.times != 0 and (self.method == "*" or any(call["method"].startswith(self.method) for call in calls))


_JSON = {"Content-Type": "application/json"}


class RpcProxy:
    def __init__(self, target: str) -> None:
        self.target = target
        self.url = ""
        self.calls: Counter[str] = Counter()
        """How often each method was asked for, whatever the answer."""
        self.forwarded: Counter[str] = Counter()
        self.requests = 0
        self._rules: list[Rule] = []

    def on(self, method: str, behaviour: Behaviour, times: int | None = None) -> Rule:
        """For methods that begin with `method` (`*`: all), as often as `times`. Newer rules win."""
        rule = Rule(method, behaviour, times)
        self._rules.insert(0, rule)
        return rule

    def asked_for(self, method: str) -> Callable[[], Awaitable[bool]]:
        """Whether it was asked for this yet, to wait for."""

        async def asked() -> bool:
            return self.calls[method] > 0

        return asked

    def heal(self) -> None:
        self._rules.clear()

    async def __aenter__(self) -> "RpcProxy":
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def forward(self, calls: Calls) -> list[dict[str, Any]]:
        for call in calls:
            self.forwarded[call["method"]] += 1
        async with self._session.post(self.target, data=orjson.dumps(calls), headers=_JSON) as response:
            answers: list[dict[str, Any]] = orjson.loads(await response.read())
            return answers

    async def ask(self, method: str, *params: object) -> Any:
        """The proxy's own question to the node."""
        (answer,) = await self.forward([{"jsonrpc": "2.0", "id": 0, "method": method, "params": params}])
        return answer["result"]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        calls: Calls = orjson.loads(await request.read())
        self.requests += 1
        for call in calls:
            self.calls[call["method"]] += 1
        rule = next((rule for rule in self._rules if rule.fits(calls)), None)
        if rule is None:
            answers: Answers = await self.forward(calls)
        else:
            if rule.times is not None:
                rule.times -= 1
            answers = await rule.behaviour(self, calls)
        if answers is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(answers, int):
            return web.Response(status=answers)
        return web.Response(body=answers if isinstance(answers, bytes) else orjson.dumps(answers))


async def refuse(proxy: RpcProxy, calls: Calls) -> Answers:
    """Nothing reaches the node."""
    return None


async def lose_reply(proxy: RpcProxy, calls: Calls) -> Answers:
    """It is done, and nobody hears of it."""
    await proxy.forward(calls)
    return None


async def html(proxy: RpcProxy, calls: Calls) -> Answers:
    return b"<html><body>502 Bad Gateway</body></html>"


async def null(proxy: RpcProxy, calls: Calls) -> Answers:
    return [{"jsonrpc": "2.0", "id": call["id"], "result": None} for call in calls]


async def truncated(proxy: RpcProxy, calls: Calls) -> Answers:
    return (await proxy.forward(calls))[:-1]


async def wrong_ids(proxy: RpcProxy, calls: Calls) -> Answers:
    return [{**answer, "id": answer["id"] + 1000} for answer in await proxy.forward(calls)]


async def endless(proxy: RpcProxy, calls: Calls) -> Answers:
    return b"[" + b" " * 9_000_000 + b"]"


def status(code: int) -> Behaviour:
    async def behave(proxy: RpcProxy, calls: Calls) -> Answers:
        return code

    return behave


def delay(seconds: float) -> Behaviour:
    async def behave(proxy: RpcProxy, calls: Calls) -> Answers:
        await asyncio.sleep(seconds)
        return await proxy.forward(calls)

    return behave


def error(code: int, message: str) -> Behaviour:
    """Every call of the batch is answered so."""

    async def behave(proxy: RpcProxy, calls: Calls) -> Answers:
        return [{"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}} for call in calls]

    return behave


def answering(method: str, result: object) -> Behaviour:
    """The node's own answers, but for one method."""

    async def behave(proxy: RpcProxy, calls: Calls) -> Answers:
        by_id = {call["id"]: call["method"] for call in calls}
        return [
            {"jsonrpc": "2.0", "id": answer["id"], "result": result} if by_id[answer["id"]] == method else answer
            for answer in await proxy.forward(calls)
        ]

    return behave


def lacking(method: str) -> Behaviour:
    """A node that does not know a method."""

    async def behave(proxy: RpcProxy, calls: Calls) -> Answers:
        unknown = {"code": -32601, "message": "Method not found"}
        known = [call for call in calls if call["method"] != method]
        answers = await proxy.forward(known) if known else []
        return [
            *answers,
            *({"jsonrpc": "2.0", "id": c["id"], "error": unknown} for c in calls if c["method"] == method),
        ]

    return behave


def stale(blocks: int) -> Behaviour:
    """A replica that has not seen the last `blocks` blocks, and says nothing of it."""

    async def behave(proxy: RpcProxy, calls: Calls) -> Answers:
        seen = int(await proxy.ask("eth_blockNumber"), 16) - blocks
        asked = [
            {**call, "params": [hex(seen) if each == "latest" else each for each in call["params"]]} for call in calls
        ]
        answers = {answer["id"]: answer for answer in await proxy.forward(asked)}
        for call in calls:
            answer = answers[call["id"]]
            if call["method"] == "eth_blockNumber":
                answer["result"] = hex(seen)
            elif call["method"] == "eth_getTransactionReceipt" and _is_after(answer.get("result"), seen):
                answer["result"] = None
            elif call["method"] == "eth_getLogs":
                answer["result"] = [log for log in answer["result"] if not _is_after(log, seen)]
        return list(answers.values())

    return behave


def _is_after(found: dict[str, Any] | None, block: int) -> bool:
    return found is not None and int(found["blockNumber"], 16) > block


def in_turn(*behaviours: Behaviour | None) -> Behaviour:
    """One after the other, round and round; None forwards."""
    turn = 0

    async def behave(proxy: RpcProxy, calls: Calls) -> Answers:
        nonlocal turn
        turn += 1
        chosen = behaviours[(turn - 1) % len(behaviours)]
        return await proxy.forward(calls) if chosen is None else await chosen(proxy, calls)

    return behave
