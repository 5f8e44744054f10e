"""A wallet that registers at a gateway, with eth-account's own signatures; it shares no code with the gateway.

newcomer = Newcomer(gate)                  # a Gate or a Running, any new key
reply = await newcomer.register()          # asks for a nonce, signs, shows it
agent = reply.json["agent_id"], reply.json["token"]
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import orjson
from eth_account import Account
from eth_account.messages import encode_defunct
from rigs.gate import Reply

Json = Any
JSON = {"Content-Type": "application/json"}
AGENTS = "/api/v1/agents/"


class Server(Protocol):
    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Reply: ...


async def ask(server: Server, route: str, body: Json, *, token: str | None = None, **headers: str) -> Reply:
    """POST to one of the routes of wallets. `body`: JSON, or the very bytes."""
    sent = {**JSON, **({"Authorization": f"Bearer {token}"} if token else {}), **headers}
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return await server.send("POST", AGENTS + route, headers=sent, body=raw)


class Newcomer:
    def __init__(self, server: Server, key: bytes | None = None, *, wallet: str | None = None) -> None:
        """`wallet`: a contract that takes this key's signatures for its own."""
        self.server = server
        self.account: Any = Account.from_key(key) if key else Account.create()
        self.address: str = wallet or self.account.address

    def sign(self, text: str) -> str:
        return "0x" + bytes(self.account.sign_message(encode_defunct(text=text)).signature).hex()

    async def invite(self, *, token: str | None = None, **asked: Json) -> Json:
        reply = await ask(self.server, "wallet-nonce", {"address": self.address, **asked}, token=token)
        assert reply.status == 200, reply.body
        return reply.json

    def shown(self, invited: Json, sign: Callable[[str], str] | None = None, **changes: Json) -> Json:
        """What is shown for an invitation."""
        sign = sign or self.sign
        stated = invited["allowance_intent_message"]
        allowance = {"allowance_intent_signature": sign(stated)} if stated else {}
        return {
            "address": self.address, "nonce": invited["nonce"], "siwe_message": invited["siwe_message"],
            "siwe_signature": sign(invited["siwe_message"]), **allowance, **changes,
        }  # fmt: skip

    async def register(self, **asked: Json) -> Reply:
        return await ask(self.server, "wallet-register", self.shown(await self.invite(**asked)))

    async def link(self, token: str, **asked: Json) -> Reply:
        invited = await self.invite(token=token, purpose="link", **asked)
        return await ask(self.server, "wallet-link", self.shown(invited), token=token)
