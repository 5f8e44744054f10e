"""Whoever brings no payment gets the price or nothing: on every paid route of a running gateway, however it is asked.

The gateway stands before a node whose every question is counted: a probe costs none.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.payer import Payer
from rigs.program import Program
from rigs.rpc import RpcProxy
from rigs.running import Running, eventually, relayed, running
from rigs.spellings import aliases
from rigs.upstream import ScriptedUpstream, reply
from rigs.wire import Reply, Wire, request

pytestmark = pytest.mark.chain

JSON = ("Content-Type", "application/json")
BODIES = [
    b"", b"{}", b"[]", b"null", b'{"word": "hello", "phone": "+12065550110"}', b'{"word": "hel', b"\xff\xfe\x00",
    b"[" * 60_000, b'{"a": NaN}', b'{"a": ' + b"9" * 5000 + b"}", b'{"word": 1, "word": 2}', b"<xml/>",
]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "TRACE"]
ODD_HEADERS = [
    ("Content-Type", "text/plain"), ("Content-Type", "multipart/form-data; boundary=x"), ("Content-Encoding", "gzip"),
    ("Accept", "text/html"), ("X-HTTP-Method-Override", "GET"), ("X-Original-URL", "/healthz"),
    ("X-Forwarded-Host", "evil.example"), ("Range", "bytes=0-0"), ("If-None-Match", "*"), ("Expect", "nothing"),
    ("Cookie", "token=1"), ("X-Payment-Response", "e30="), ("Accept-Encoding", "br"), ("Upgrade", "h2c"),
]  # fmt: skip


@dataclass
class Probed:
    gate: Running
    rpc: RpcProxy
    shop: ScriptedUpstream
    paths: list[str]

    async def ask(self, method: str, target: str, *headers: tuple[str, str], body: bytes = b"") -> Reply:
        async with await Wire.to(self.gate.url) as wire:
            wire.send(request(method, target, *headers, body=body))
            return await wire.reply(head_only=method == "HEAD", timeout_s=30)


@pytest.fixture
async def probed(chain: Chain, program: Program, directory: Path, tmp_path: Path) -> AsyncIterator[Probed]:
    """Whatever was asked: nothing was bought, the node heard of nothing, the vendor neither."""
    async with (
        RpcProxy(chain.url) as rpc,
        ScriptedUpstream(default=reply({"found": True})) as shop,
        running(tmp_path, program, relayed(chain, rpc=rpc.url, upstream=shop.port, directory=directory)) as gate,
    ):
        manifest = (await gate.send("GET", "/.well-known/x402")).json
        paths = [listed.split(" ", 1)[1].removeprefix(gate.url) for listed in manifest["resources"]]
        assert sorted(paths) == [
            "/api/v1/enrich/jobs", "/api/v1/enrich/lead-session", "/api/v1/enrich/person", "/api/v1/enrich/phone",
            "/api/v1/shop/find", "/api/v1/shop/research",
        ]  # fmt: skip
        await eventually(rpc.asked_for("eth_getBalance"))
        asked = rpc.requests
        yield Probed(gate, rpc, shop, paths)
        # Once a minute the relayer looks after itself; a probe would show as many questions.
        assert rpc.requests - asked <= 2
        assert shop.seen == []
        assert await gate.charges() == []
        assert '"level":"error"' not in gate.said()


async def test_without_a_credential_there_is_the_price(probed: Probed) -> None:
    for path in probed.paths:
        for method in METHODS:
            for body in BODIES if method in ("POST", "PUT") else [b""]:
                answer = await probed.ask(method, path, JSON, body=body)
                assert answer.status == 402, (method, path, body[:20])
                assert answer.header("payment-required")
        for header in ODD_HEADERS:
            answer = await probed.ask("POST", path, header, body=b"{}")
            assert answer.status == 402, (path, header)
        assert (await probed.ask("POST", path + "?word=hello&phone=1", body=b"{}")).status == 402


async def test_no_other_spelling_of_a_path_is_served(probed: Probed) -> None:
    """F-015"""
    for path in probed.paths:
        for alias in aliases(path):
            for method in ("GET", "POST"):
                assert (await probed.ask(method, alias)).status == 404, (method, alias)
            assert (await probed.ask("HEAD", alias)).status == 404, alias


async def test_what_is_no_payment_is_told_so(probed: Probed) -> None:
    """F-011: whatever stands in the header, the node is not asked about it."""
    zoo = [
        "", "e30=", "bnVsbA==", "W10=", "not base64", "A" * 9000, "eyJ4NDAyVmVyc2lvbiI6MX0=",
        "eyJ4NDAyVmVyc2lvbiI6Mn0=", "eyJ4NDAyVmVyc2lvbiI6dHJ1ZX0=", "\xff\xfe",
    ]  # fmt: skip
    for path in probed.paths:
        for text in zoo:
            answer = await probed.ask("POST", path, JSON, ("PAYMENT-SIGNATURE", text), body=b'{"word": "hello"}')
            assert answer.status in (400, 402), (path, text[:20], answer)


async def test_a_payment_that_cannot_be_right_costs_no_question(probed: Probed) -> None:
    """F-007, F-008, F-013, F-045: terms of the client's own are refused before the chain is asked."""
    gate, payer = probed.gate, Payer(PAYER_KEYS[0])
    offer = await gate.offer()
    wrong = [
        payer.eip3009(offer, value="329999"),
        payer.eip3009(offer, value="330001"),
        payer.eip3009(offer, to=payer.address),
        payer.eip3009(offer, validBefore="1"),
        payer.eip3009({**offer, "payTo": payer.address}),
        payer.eip3009({**offer, "amount": "1"}),
        payer.eip3009({**offer, "network": "eip155:8453"}),
        payer.eip3009({**offer, "asset": "0x" + "7e" * 20}),
        payer.eip3009(offer, wrap=lambda digest, sign: sign(digest)[:64] + b"\x1d"),
        payer.permit2({**offer, "amount": "1"}),
    ]
    for payment in wrong:
        answer = await gate.call("shop/find", {"word": "hello"}, payment=payment)
        assert answer.status == 402, answer
        assert answer.json["code"] in ("PAYMENT_INVALID", "PAYMENT_EXPIRED")
