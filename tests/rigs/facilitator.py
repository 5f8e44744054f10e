"""FAC: a remote facilitator that can be anything from honest to a thief.

    async with FacilitatorServer(chain) as fac:
        fac.settling = lie_invented

Honest means: it checks what it is sent by sending it, with a key of its own, on the real chain. It shares no code with
the gateway. Every request is kept in `requests`.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from eth_abi import encode
from eth_utils import function_signature_to_4byte_selector
from rigs.caller import Caller
from rigs.chain import EXACT_PROXY, NETWORK, UPTO_PROXY, Chain, calldata

ADDRESS = "0x00000000000000000000000000000000faC17A70"
Json = dict[str, Any]
Behaviour = Callable[["FacilitatorServer", Json], Awaitable[web.StreamResponse]]


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    json: Json


class FacilitatorServer:
    def __init__(self, chain: Chain | None = None) -> None:
        self.chain = chain
        self.caller: Caller | None = None
        """Whom alone it serves; None: everybody."""
        self.open: set[str] = set()
        """Paths that are served to everybody all the same."""
        self.url = ""
        self.requests: list[Request] = []
        self.verifying: Behaviour = say_valid
        self.settling: Behaviour = settle_honestly
        self.supporting: Behaviour = say_supported
        self.extensions: list[str] = []
        """What it says in /supported that it can do beside."""
        self.sent: list[str] = []
        """Hashes of the transactions it has sent."""

    def bodies(self, path: str) -> list[bytes]:
        return [request.body for request in self.requests if request.path == path]

    async def __aenter__(self) -> "FacilitatorServer":
        if self.chain is not None:
            self.chain.gas_money(ADDRESS, 10**21)
        app = web.Application()
        for path, name in (("/verify", "verifying"), ("/settle", "settling"), ("/supported", "supporting")):
            for place in (path, "/{base:.+}" + path):
                app.router.add_route("*", place, self._served(name))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def _served(self, name: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            asked: Json = await request.json() if body else {}
            self.requests.append(Request(request.method, request.path, dict(request.headers), body, asked))
            if self.caller is not None and request.path not in self.open:
                uri = f"{request.method} {request.host}{request.path}"
                if not self.caller.takes(request.headers.get("Authorization", ""), uri):
                    return web.json_response({"errorType": "unauthorized"}, status=401)
            behave: Behaviour = getattr(self, name)
            return await behave(self, asked)

        return serve

    def send(self, asked: Json, amount: int | None = None) -> str:
        """Carries the payment out; answers the transaction's hash, mined or reverted."""
        assert self.chain is not None
        to, data = _call(asked, amount)
        hash = self.chain.send(ADDRESS, to, data, gas=hex(1_000_000))
        self.sent.append(hash)
        return hash


def call_of(payment: Json) -> tuple[str, str]:
    """(contract, calldata) by which anybody can carry a payment out."""
    return _call({"paymentRequirements": payment["accepted"], "paymentPayload": payment}, None)


def _call(asked: Json, amount: int | None) -> tuple[str, str]:
    requirements, payload = asked["paymentRequirements"], asked["paymentPayload"]["payload"]
    signature = bytes.fromhex(payload["signature"][2:])
    if "authorization" in payload:
        signed = payload["authorization"]
        return requirements["asset"], calldata(
            "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)",
            signed["from"], signed["to"], int(signed["value"]), int(signed["validAfter"]), int(signed["validBefore"]),
            bytes.fromhex(signed["nonce"][2:]), signature[64], signature[:32], signature[32:64],
        )  # fmt: skip
    signed = payload["permit2Authorization"]
    witness = signed["witness"]
    permit = (
        (signed["permitted"]["token"], int(signed["permitted"]["amount"])),
        int(signed["nonce"]),
        int(signed["deadline"]),
    )
    if requirements["scheme"] == "exact":
        types = ["((address,uint256),uint256,uint256)", "address", "(address,uint256)", "bytes"]
        values = [permit, signed["from"], (witness["to"], int(witness["validAfter"])), signature]
        proxy = EXACT_PROXY
    else:
        types = ["((address,uint256),uint256,uint256)", "uint256", "address", "(address,address,uint256)", "bytes"]
        due = int(requirements["amount"]) if amount is None else amount
        values = [
            permit,
            due,
            signed["from"],
            (witness["to"], witness["facilitator"], int(witness["validAfter"])),
            signature,
        ]
        proxy = UPTO_PROXY
    function = "settle"
    info = asked["paymentPayload"].get("extensions", {}).get("eip2612GasSponsoring", {}).get("info", {})
    if "signature" in info:  # else it is an echo of our own words
        permit_signature = bytes.fromhex(info["signature"][2:])
        function = "settleWithPermit"
        types.insert(0, "(uint256,uint256,bytes32,bytes32,uint8)")
        values.insert(
            0,
            (
                int(info["amount"]), int(info["deadline"]), permit_signature[:32], permit_signature[32:64],
                permit_signature[64],
            ),
        )  # fmt: skip
    return proxy, "0x" + (
        function_signature_to_4byte_selector(f"{function}({','.join(types)})") + encode(types, values)
    ).hex()


def _payer(asked: Json) -> str:
    payload = asked["paymentPayload"]["payload"]
    payer: str = (payload.get("authorization") or payload["permit2Authorization"])["from"]
    return payer


def settled(asked: Json, transaction: str, **more: object) -> web.Response:
    body = {"success": True, "transaction": transaction, "network": NETWORK, "payer": _payer(asked), **more}
    return web.json_response(body)


# verifying and supporting


async def say_valid(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    return web.json_response({"isValid": True, "payer": _payer(asked)})


async def say_invalid(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    return web.json_response({"isValid": False, "invalidReason": "invalid_exact_evm_insufficient_balance"})


async def say_supported(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    upto = {"facilitatorAddress": ADDRESS}
    kinds = [
        {"x402Version": 2, "scheme": "exact", "network": NETWORK},
        {"x402Version": 2, "scheme": "upto", "network": NETWORK, "extra": upto},
    ]
    return web.json_response({"kinds": kinds, "extensions": fac.extensions, "signers": {"eip155:*": [ADDRESS]}})


# settling


async def settle_honestly(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    assert fac.chain is not None
    hash = fac.send(asked)
    receipt = fac.chain.receipt(hash)
    if receipt is None or receipt["status"] == "0x1":
        return settled(asked, hash, amount=asked["paymentRequirements"]["amount"])
    failed = {"success": False, "errorReason": "transaction_failed", "transaction": hash, "network": NETWORK}
    return web.json_response(failed)


async def refuse_to_settle(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    failed = {"success": False, "errorReason": "insufficient_funds", "transaction": "", "network": NETWORK}
    return web.json_response(failed)


async def settle_and_break(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    fac.send(asked)
    return web.Response(status=502, text="<html>Bad Gateway</html>")


async def broken(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    return web.Response(status=500)


async def busy(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    return web.Response(status=429)


async def hang(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError("nobody waits that long")


async def lie_invented(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    return settled(asked, "0x" + secrets.token_hex(32))


async def lie_reverted(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    """A real transaction that failed."""
    assert fac.chain is not None
    hash = fac.chain.send(ADDRESS, asked["paymentRequirements"]["asset"], "0xdeadbeef", gas=hex(200_000))
    return settled(asked, hash)


async def lie_foreign(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    """A real transaction that went well and has nothing to do with it."""
    assert fac.chain is not None
    return settled(asked, fac.chain.send(ADDRESS, ADDRESS))


async def lie_again(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    """The transaction that settled another payment."""
    return settled(asked, fac.sent[0])


async def say_used(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
    failed = {
        "success": False,
        "errorReason": "invalid_exact_evm_nonce_already_used",
        "transaction": "",
        "network": NETWORK,
    }
    return web.json_response(failed)


def redirect(to: str, status: int = 307) -> Behaviour:
    async def behave(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": to})

    return behave


def slowly(seconds: float, then: Behaviour) -> Behaviour:
    async def behave(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await then(fac, asked)

    return behave


def taking(amount: int) -> Behaviour:
    """Settles `upto` for another amount than it was told, and says it was as told."""

    async def behave(fac: FacilitatorServer, asked: Json) -> web.StreamResponse:
        return settled(asked, fac.send(asked, amount), amount=asked["paymentRequirements"]["amount"])

    return behave
