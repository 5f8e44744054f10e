"""F-146 with money behind it: what two servers could read in two ways is read by ours in none, and nobody is charged
for a request that he has not sent.
"""

from pathlib import Path

import orjson
from edge.test_server import SMUGGLED
from rigs.market import Market
from rigs.person import CANARY
from rigs.wire import Wire
from scenario.test_market import RICH, opened

HIDDEN = "+12065550199"


def question(token: str, phone: str) -> bytes:
    body = orjson.dumps({"phone": phone})
    head = (
        f"POST /api/v1/enrich/phone HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def asked(market: Market, phone: str) -> int:
    return sum(phone[-7:] in seen.target for seen in market.asked("whitepages"))


def paid(data: bytes, token: str) -> bytes:
    return data.replace(b"PAYMENT-SIGNATURE: e30=", f"Authorization: Bearer {token}".encode())


async def test_f146_directly_one_request_in_is_one_out(tmp_path: Path) -> None:
    """Each is answered by one error and the end of the connection; of what stands behind it nothing is done."""
    async with opened(tmp_path) as (gate, market):
        agent, token = await gate.agent(RICH)
        for name, data in SMUGGLED.items():
            async with await Wire.to(gate.url) as wire:
                wire.send(paid(data, token) + question(token, HIDDEN))
                reply = await wire.reply()
                assert (reply.status, reply.header("connection")) in ((400, "close"), (405, "close")), name
                assert await wire.closed() == b"", name
        assert market.up.seen == []
        assert await gate.charges() == []
        assert (await gate.balance(agent)).available == RICH


async def test_f146_behind_a_proxy_nobody_gets_another_ones_answer(tmp_path: Path) -> None:
    """A proxy that keeps one connection to us for all, and takes one length for the whole of what an attacker sent:
    what he has hidden in it is not run, neither for him nor before the next customer's request."""
    async with opened(tmp_path) as (gate, market):
        (thief, his), (_, hers) = await gate.agent(RICH), await gate.agent(RICH)
        hidden = question(his, HIDDEN)
        start = f"POST /api/v1/enrich/phone HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {his}\r\n".encode()
        kind = b"Content-Type: application/json\r\n"
        end = b"0\r\n\r\n"
        both = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n"
        attacks = {
            "its length, our chunks": start + kind + both % (len(end) + len(hidden)) + end + hidden,
            "its chunks, our length": start + kind + both % 4 + b"%x\r\n%s\r\n" % (len(hidden), hidden) + end,
            "two lengths": start + kind + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden,
            "a length that is folded": start + kind + b"X: y\r\n Content-Length: %d\r\n\r\n" % len(hidden) + hidden,
            "a chunk ended in another way": start + kind + b"Transfer-Encoding: chunked\r\n\r\n0\n\r\n" + hidden,
            "hidden in a GET": b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n" + hidden,
        }
        for count, (name, attack) in enumerate(attacks.items(), 1):
            pooled = await Wire.to(gate.url)
            async with pooled:
                pooled.send(attack)
                assert (await pooled.reply()).status == 400, name
                assert await pooled.closed() == b"", "so the proxy has to open another one"
            async with await Wire.to(gate.url) as fresh:
                fresh.send(question(hers, CANARY.phone))
                reply = await fresh.reply()
                assert (reply.status, reply.json()["matched"]) == (200, True), name
            assert (asked(market, HIDDEN), asked(market, CANARY.phone)) == (0, count), name
        assert (await gate.balance(thief)).available == RICH
