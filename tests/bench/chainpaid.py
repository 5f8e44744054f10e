"""Figures of calls settled on chain, by EIP-3009. Payloads are signed before the timed window, each used once."""

import asyncio
import base64
import json
from contextlib import AsyncExitStack
from typing import Any

from bench import load, targets
from bench.figures import Figure, Plan
from bench.load import Load, median
from bench.targets import Target
from eth_account import Account
from rigs.chain import Chain
from rigs.payer import Payer

PAYERS = [(number + 0xFA2E).to_bytes(32, "big") for number in range(64)]


async def settle_c1(plan: Plan) -> dict[str, Figure]:
    """One at a time: the median time of a paid call."""
    took = await _rounds(plan, payments=24, at_once=1, rounds=3)
    return {
        "settle_c1": Figure(
            median(ran.percentile(50) * 1000 for ran in took["ours"]),
            median(ran.percentile(50) * 1000 for ran in took["peer"]),
            "ms", "x6", lower_is_better=True,
        )
    }  # fmt: skip


async def settle_c16(plan: Plan) -> dict[str, Figure]:
    """16 at once: settled a second, none failing."""
    took = await _rounds(plan, payments=96, at_once=16, rounds=3)
    return {"settle_c16": Figure(*(median(ran.rate for ran in took[name]) for name in ("ours", "peer")), "1/s", "x15")}


async def settle_c64(plan: Plan) -> dict[str, Figure]:
    """64 at once from 64 payers: settled a second; gas a payment, the peer being one settled alone."""
    gas: dict[str, list[float]] = {"ours": [], "peer": []}
    took = await _rounds(plan, payments=256, at_once=64, rounds=3, gas=gas)
    return {
        "settle_c64": Figure(*(median(ran.rate for ran in took[name]) for name in ("ours", "peer")), "1/s", "x30"),
        "gas": Figure(median(gas["ours"]), median(gas["peer"]), "gas", "x1.4", lower_is_better=True),
    }


async def _rounds(
    plan: Plan, *, payments: int, at_once: int, rounds: int, gas: dict[str, list[float]] | None = None
) -> dict[str, list[Load]]:
    took: dict[str, list[Load]] = {"ours": [], "peer": []}
    for number in range(plan.rounds(rounds)):
        for name in ("ours", "peer") if number % 2 == 0 else ("peer", "ours"):
            async with AsyncExitStack() as stack:
                chain = Chain.start()
                stack.callback(chain.close)
                for key in PAYERS:
                    chain.mint(Account.from_key(key).address, 10_000_000)
                if name == "ours":
                    small = stack.enter_context(targets.upstream())
                    target = await stack.enter_async_context(targets.ours(small, chain))
                else:
                    target = await stack.enter_async_context(targets.peer(plan.peer_python, chain))
                # The slow one needs fewer payments to show its pace.
                count = payments if name == "ours" else min(payments, max(at_once, 48))
                offer = await _offer(target)
                height = chain.height
                await load.run(target.port, _requests(target, offer, at_once), at_once)
                ran = await load.run(target.port, list(_requests(target, offer, count)), at_once)
                ran.expect(200)
                took[name].append(ran)
                paid = chain.balance(targets.PAY_TO)
                if paid != 1000 * (count + at_once):
                    raise SystemExit(f"{name}: {count + at_once} payments were answered, {paid / 1000} arrived")
                if gas is not None:
                    gas[name].append(_gas(chain, height, count + at_once))
    return took


async def _offer(target: Target) -> dict[str, Any]:
    """The EIP-3009 offer of the target's own 402."""
    head = await _head(target)
    line = next(line for line in head.split("\r\n") if line.lower().startswith("payment-required:"))
    offers = json.loads(base64.b64decode(line.partition(":")[2].strip()))
    found: dict[str, Any] = next(o for o in offers["accepts"] if "assetTransferMethod" not in o["extra"])
    return found


async def _head(target: Target) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(load.http("GET", target.path))
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head.decode("latin-1")


def _requests(target: Target, offer: dict[str, Any], count: int) -> list[bytes]:
    made = []
    for number in range(count):
        payload = Payer(PAYERS[number % len(PAYERS)]).eip3009(offer)
        header = base64.b64encode(json.dumps(payload).encode()).decode()
        made.append(load.http("GET", target.path, {"PAYMENT-SIGNATURE": header}))
    return made


def _gas(chain: Chain, above: int, payments: int) -> float:
    """Gas a payment over every transaction since that block."""
    used = 0
    for number in range(above + 1, chain.height + 1):
        used += int(chain.block(number)["gasUsed"], 16)
    return used / payments
