"""A gateway as its operator runs it: `faregate serve` as a process of its own, with its faregate.toml, on a chain.

    async with running(home, program, relayed(chain, upstream=up.port)) as gate:
        reply = await gate.pay("shop/find", {"word": "hello"}, key=PAYER_KEYS[0])
        token = await gate.agent("5.00")
        await gate.kill(); await gate.start()           # the same home: the same gateway after a crash
        assert await gate.charges() == [...]

It sells `shop/find` (POST, $0.330) and `shop/research` (POST, metered, as a job too) from an API next door, and the
directory where one is named. The log of all its lives is in `gate.said()`. When it closes, `faregate audit` must find
the books clean.
"""

import asyncio
import json
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import orjson
from eth_account import Account
from rigs.chain import CHAIN_ID, Chain
from rigs.gate import Reply, header
from rigs.payer import Payer, echoing
from rigs.program import Child, Program
from rigs.settled import looked_at

Json = Any
T = TypeVar("T")
PRICE = 330_000
"""Of `shop/find` and of enrich/phone: micro-USD, and atomic units of the token."""
GONE = (aiohttp.ClientConnectionError, ConnectionError)
"""What a client sees of a server that has died."""


@dataclass(frozen=True)
class Configuration:
    """Everything of faregate.toml but the port, and where its money goes."""

    toml: str
    pay_to: str = ""
    relayer: str = ""
    """The relayer's address."""


def relayed(
    chain: Chain, *, rpc: str | None = None, gas_wei: int = 10**21, methods: str = '["eip3009", "permit2"]', **shop: Any
) -> Configuration:
    """Settles with a key of its own, which nobody else on this chain uses; `rpc` is asked instead of the chain."""
    relayer = Account.create()
    chain.gas_money(relayer.address, gas_wei)
    pay_to = Account.create().address
    toml = f"""
[settlement]
kind = "relayer"
wait_s = {shop.pop("wait_s", 5)}
[[networks]]
id = "eip155:{CHAIN_ID}"
rpc_urls = ["{rpc or chain.url}"]
pay_to = "{pay_to}"
methods = {methods}
[relayer]
key = "{relayer.key.hex()}"
"""
    return Configuration(toml + sold(**shop), pay_to, relayer.address)


def facilitated(chain: Chain, facilitator: str, *, rpc: str | None = None, **shop: Any) -> Configuration:
    """Somebody else settles; the chain is asked for the proof."""
    pay_to = Account.create().address
    toml = f"""
[settlement]
kind = "facilitator"
wait_s = {shop.pop("wait_s", 5)}
[[networks]]
id = "eip155:{CHAIN_ID}"
rpc_urls = ["{rpc or chain.url}"]
pay_to = "{pay_to}"
[facilitator]
url = "{facilitator}"
"""
    return Configuration(toml + sold(**shop), pay_to)


def sold(
    *,
    upstream: int | None = None,
    directory: Path | None = None,
    repeatable: bool = True,
    settle: str = "after",
    more: str = "",
) -> str:
    """What is on sale: `upstream` is the port of the API behind shop/find, `directory` a loaded one. `settle`: when
    payments for any of it are settled."""
    toml = more
    if directory is not None:
        toml += f'\n[directory]\npath = "{directory}"\n[settle]\n"enrich/phone" = "{settle}"\n'
    if upstream is not None:
        toml += f"""
[[http_upstreams]]
id = "shop/find"
method = "POST"
url = "http://127.0.0.1:{upstream}/find"
private = true
price = "0.330"
timeout_s = 10
settle = "{settle}"
description = "Finds a word"
input = {{ word = {{ type = "string", example = "hello" }} }}
match = {{ pointer = "/found", exists = true }}
[[http_upstreams]]
id = "shop/research"
method = "POST"
url = "http://127.0.0.1:{upstream}/research"
private = true
price = "0.100"
billing = "metered"
markup_percent = 150
ceiling = "2.00"
cost_pointer = "/cost_usd"
job = true
repeatable = {str(repeatable).lower()}
timeout_s = 10
settle = "{settle}"
description = "Finds out about a word, for what it takes"
input = {{ word = {{ type = "string", example = "hello" }} }}
match = {{ pointer = "/found", exists = true }}
"""
    return toml


@dataclass
class Running:
    home: Path
    program: Program
    port: int
    settings: Configuration
    session: aiohttp.ClientSession
    name: str = "faregate"
    command: str = "serve"
    child: Child | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.home / f"{self.name}.toml"

    @property
    def log(self) -> Path:
        return self.home / f"{self.name}.log"

    def said(self) -> str:
        """Every line of every life so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def remembered(self) -> bytes:
        """Every byte of its database."""
        return b"".join(path.read_bytes() for path in sorted(self.home.glob("gate.db*")) if path.is_file())

    def furnish(self) -> None:
        """Writes its configuration."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.config.write_text(f'[service]\nport = {self.port}\n[store]\npath = "gate.db"\n{self.settings.toml}')

    # life and death

    async def start(self, *, crash_at: str = "", level: str = "info", ready: bool = True, within_s: float = 60) -> None:
        """`crash_at`: a crash point, as `FAREGATE_CRASH_AT` takes it. Without `ready`, it may die on the way."""
        assert self.child is None or self.child.ended() is not None, "it runs already"
        before = len(self.said())
        env = {"FAREGATE_CRASH_AT": crash_at}
        self.child = self.program.start(
            [self.command, "--config", str(self.config), "--log", "json", "--log-level", level],
            env=env, cwd=self.home, out=self.log,
        )  # fmt: skip
        until = time.monotonic() + within_s
        while '"ready"' not in (said := self.said()[before:]):
            if self.child.ended() is not None:
                assert not ready, f"it ended with {self.child.ended()}:\n{said[-4000:]}"
                return
            assert time.monotonic() < until, f"it does not get ready:\n{said[-4000:]}"
            await asyncio.sleep(0.01)

    async def ended(self, within_s: float = 30) -> int:
        """Its exit status, once it has ended: -9 when it was killed."""
        assert self.child is not None
        return await _end_of(self.child, within_s)

    async def kill(self) -> None:
        assert self.child is not None
        self.child.kill(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        assert self.child is not None
        self.child.kill(signal.SIGTERM)
        return await self.ended()

    # the operator

    async def run(self, *argv: str, status: int = 0, env: Mapping[str, str] | None = None) -> str:
        """What a command of `faregate` prints, both outputs together."""
        out = self.home / f"said-{secrets.token_hex(4)}"
        env = {"FAREGATE_CONFIG": str(self.config), **(env or {})}
        ended = await _end_of(self.program.start(list(argv), env=env, cwd=self.home, out=out))
        said = out.read_text()
        out.unlink()
        assert ended == status, f"faregate {' '.join(argv)}: {ended}\n{said}"
        return said

    async def agent(self, credit: str) -> str:
        """A new agent's bearer."""
        said = await self.run("agents", "create", "tester", "--credit", credit)
        return next(line.split()[1] for line in said.splitlines() if line.startswith("token"))

    async def charges(self) -> list[Json]:
        """Oldest first."""
        said = await self.run("charges", "list", "--json", "--limit", "10000")
        return [json.loads(line) for line in reversed(said.splitlines()) if line.startswith("{")]

    async def audit(self) -> None:
        await self.run("audit")

    # the customer

    async def send(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Raises one of GONE when there is nobody to answer."""
        async with self.session.request(method, self.url + path, data=body, headers=headers) as response:
            return looked_at(path, Reply(response.status, response.headers, await response.read()))

    async def call(
        self,
        operation: str,
        body: Json,
        *,
        payment: Json | None = None,
        token: str | None = None,
        key: str | None = None,
    ) -> Reply:
        """`key`: the Idempotency-Key."""
        sent = {"Content-Type": "application/json"}
        if payment is not None:
            sent["PAYMENT-SIGNATURE"] = header(payment)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if key is not None:
            sent["Idempotency-Key"] = key
        return await self.send("POST", f"/api/v1/{operation}", body=orjson.dumps(body), headers=sent)

    async def required(self, operation: str = "shop/find") -> Json:
        """What an unpaid call is told: PAYMENT-REQUIRED, decoded."""
        reply = await self.call(operation, {})
        assert reply.status == 402, reply
        return reply.offer

    async def offer(self, operation: str = "shop/find", method: str = "eip3009") -> Json:
        return offered(await self.required(operation), method)

    async def sign(
        self, payer: Payer, *, operation: str = "shop/find", method: str = "eip3009", echo: bool = True, **changes: Any
    ) -> Json:
        """`echo`: as official clients send it."""
        required = await self.required(operation)
        payment = payer.pay(offered(required, method), **changes)
        return echoing(payment, required) if echo else payment

    async def until_answered(self, operation: str, body: Json, **means: Any) -> Reply:
        """The first answer that is not "settlement is unavailable": a gateway just started may not know its
        facilitator yet."""

        async def answered() -> Reply | None:
            reply = await self.call(operation, body, **means)
            return None if reply.status == 503 else reply

        return await eventually(answered)

    async def until_paid(self, operation: str, body: Json, within_s: float = 20, **means: Any) -> Reply:
        """Repeats one and the same call until it is answered with 200, as a patient client does."""
        until = time.monotonic() + within_s
        while True:
            reply = await self.call(operation, body, **means)
            if reply.status == 200:
                return reply
            under_way = reply.status in (202, 503) or reply.json["code"] == "IDEMPOTENCY_IN_FLIGHT"
            assert under_way, (reply.status, reply.body)
            assert time.monotonic() < until, (reply.status, reply.body)
            await asyncio.sleep(0.05)

    async def until_ready(self) -> None:
        """Until it has seen the chain and found nothing wrong with it."""

        async def ready() -> bool:
            return (await self.send("GET", "/readyz")).status == 200

        await eventually(ready)

    async def metrics(self) -> dict[str, float]:
        """Every line of /metrics."""
        page = (await self.send("GET", "/metrics")).body.decode()
        lines = (line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}


def offered(required: Json, method: str) -> Json:
    """The offer by this method."""
    wanted = "permit2" if method == "permit2" else None
    return next(o for o in required["accepts"] if o["extra"].get("assetTransferMethod") == wanted)


async def eventually(look: Callable[[], Awaitable[T]], within_s: float = 20) -> T:
    """What `look` answers, as soon as it is anything but nothing."""
    until = time.monotonic() + within_s
    while not (seen := await look()):
        assert time.monotonic() < until, "it never happens"
        await asyncio.sleep(0.02)
    return seen


async def _end_of(child: Child, within_s: float = 30) -> int:
    until = time.monotonic() + within_s
    while (status := child.ended()) is None:
        assert time.monotonic() < until, "it does not end"
        await asyncio.sleep(0.005)
    return status


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running(
    home: Path,
    program: Program,
    settings: Configuration,
    *,
    name: str = "faregate",
    command: str = "serve",
    started: bool = True,
    clean: bool = True,
    **start: Any,
) -> AsyncIterator[Running]:
    """`name`: of another process on the same home. `command`: what serves, `neighbour` where callbacks stay here.
    `started` false: not yet. `clean` false: its books may be in any state at the end."""
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        gate = Running(home, program, free_port(), settings, session, name, command)
        gate.furnish()
        if started:
            await gate.start(**start)
        try:
            yield gate
        finally:
            if gate.child is not None and gate.child.ended() is None:
                await gate.stop()
    if clean:
        await gate.audit()
