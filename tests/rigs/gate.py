"""A whole gateway on a real port, over a real SQLite file: the sandbox for a chain, a scripted upstream to sell.

    async with Gate.open(tmp_path) as gate:
        reply = await gate.pay("hello")              # 402, sign, pay: the answer
        reply = await gate.call("hello", token=...)  # from an agent's balance

Whatever a test did, its books are audited when the gate closes.
"""

import base64
import secrets
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from rigs.payer import Payer, echoing
from rigs.scripted import Scripted
from rigs.settled import looked_at

from gateway.assemble import Gateway, assemble
from gateway.core import ids
from gateway.core.agent import TokenKind
from gateway.core.transfer import Kind
from gateway.edge.server import serving
from gateway.settings import parse
from gateway.settlement.protocol import Settler
from gateway.settlement.sandbox import PREFUNDED, Sandbox
from gateway.store import agents, charges
from gateway.store.audit import audit
from gateway.store.charges import ChargeView

Json = Any
KEYS = tuple(bytes.fromhex(key[2:]) for key in PREFUNDED.values())


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return orjson.loads(self.body)

    @property
    def offer(self) -> Json:
        """PAYMENT-REQUIRED, decoded."""
        return orjson.loads(base64.b64decode(self.headers["PAYMENT-REQUIRED"]))

    @property
    def receipt(self) -> Json:
        """PAYMENT-RESPONSE, decoded."""
        return orjson.loads(base64.b64decode(self.headers["PAYMENT-RESPONSE"]))


@dataclass
class Gate:
    gateway: Gateway
    url: str
    upstream: Scripted
    session: aiohttp.ClientSession
    settler: Any
    tokens: dict[str, str] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        home: Path,
        *,
        settler: Settler | None = None,
        upstream: Scripted | None = None,
        clean: bool = True,
        toml: str = "",
        base: str | None = None,
        configured: bool = False,
        **parts: Any,
    ) -> AsyncIterator["Gate"]:
        """`home` keeps the database: opened again there, it is the same gateway after a restart. `base`: the settings
        but for the database, where it is no sandbox. `configured`: it sells what is configured, and nothing scripted.
        """
        upstream = upstream or Scripted()
        settings = parse(tomllib.loads((SETTINGS if base is None else STORE + base) + toml), {}, base=home)
        async with (
            assemble(
                settings, settler=settler, sold=None if configured else [upstream], drain_s=0.2, **parts
            ) as gateway,
            serving(gateway.app) as url,
            aiohttp.ClientSession(auto_decompress=False) as session,
        ):
            yield cls(gateway, url, upstream, session, gateway.settler)
            if clean:
                assert await gateway.db.read(audit) == []

    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        async with self.session.request(method, self.url + path, headers=headers, data=body) as response:
            return looked_at(path, Reply(response.status, response.headers, await response.read()))

    async def call(
        self,
        word: str,
        *,
        operation: str = "test/alpha",
        token: str | None = None,
        payment: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if payment is not None:
            sent["PAYMENT-SIGNATURE"] = header(payment)
        return await self.send("POST", f"/api/v1/{operation}", headers=sent, body=orjson.dumps({"word": word}))

    async def ask(self, operation: str, question: Json, *, token: str, **headers: str) -> Reply:
        """From a balance, whatever the operation wants to know."""
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", **headers}
        return await self.send("POST", f"/api/v1/{operation}", headers=sent, body=orjson.dumps(question))

    async def offers(self, operation: str = "test/alpha") -> list[Json]:
        found: list[Json] = (await self.required(operation))["accepts"]
        return found

    async def required(self, operation: str = "test/alpha") -> Json:
        """What an unpaid call is told: PAYMENT-REQUIRED, decoded."""
        reply = await self.call("hello", operation=operation)
        assert reply.status == 402
        return reply.offer

    async def sign(
        self, *, key: int = 0, operation: str = "test/alpha", method: str = "eip3009", echo: bool = True, **changes: Any
    ) -> Json:
        """A payment for one call; `changes` go into what is signed. `echo`: as official clients send it."""
        required = await self.required(operation)
        wanted = next(
            o for o in required["accepts"]
            if (o["scheme"] == "upto") is (method == "upto")
            and ("assetTransferMethod" in o["extra"]) is (method != "eip3009")
        )  # fmt: skip
        payer = Payer(KEYS[key])
        payment = payer.eip3009(wanted, **changes) if method == "eip3009" else payer.permit2(wanted, **changes)
        return echoing(payment, required) if echo else payment

    @staticmethod
    def paying(payment: Json, required: Json) -> Json:
        """As official clients send it back."""
        return echoing(payment, required)

    async def pay(self, word: str, *, operation: str = "test/alpha", **signing: Any) -> Reply:
        payment = await self.sign(operation=operation, **signing)
        return await self.call(word, operation=operation, payment=payment)

    async def usage_key(self, token: str, *scopes: str) -> str:
        """A new usage key of the agent with this bearer."""
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        body = orjson.dumps({"scopes": scopes})
        made = await self.send("POST", "/api/v1/agents/usage-keys", headers=sent, body=body)
        assert made.status == 201, made.body
        return str(made.json["key"])

    async def agent(self, balance_micros: int = 0, *, grant_micros: int = 0) -> tuple[str, str]:
        """A new agent with this much own money and bonus -> (agent id, bearer)."""
        agent_id, token = f"agt_{secrets.token_hex(13)}", ids.new_token("411_", secrets.token_bytes(32))

        def make(tx: Any) -> None:
            agents.create(tx, agent_id, "test")
            agents.add_token(
                tx,
                f"tok_{secrets.token_hex(13)}",
                agent_id,
                TokenKind.ADMIN,
                ids.token_hash(token),
                ids.token_hint(token),
            )
            if balance_micros:
                agents.credit(tx, agent_id, balance_micros, Kind.CREDIT, "test", f"crd_{secrets.token_hex(8)}")
            if grant_micros:
                agents.credit(tx, agent_id, grant_micros, Kind.GRANT, "test", f"crd_{secrets.token_hex(8)}")

        await self.gateway.db.write(make)
        return agent_id, token

    async def balance(self, agent_id: str) -> agents.Balance:
        return await self.gateway.db.read(agents.balance, agent_id)

    async def charges(self) -> list[ChargeView]:
        """Every charge, oldest first."""
        return list(reversed(await self.gateway.db.read(charges.listing, 10_000)))

    @property
    def sandbox(self) -> Sandbox:
        assert isinstance(self.settler, Sandbox)
        return self.settler


def header(payment: Json) -> str:
    return base64.b64encode(orjson.dumps(payment)).decode()


STORE = """
[store]
path = "gate.db"
"""
SETTINGS = f"""
[settlement]
kind = "sandbox"
wait_s = 1
{STORE}"""
