"""F-182: silence is an alarm. What goes wrong stands in /metrics within its bound, and not before."""

import time
from pathlib import Path

import apsw
import pytest
from rigs import rpc
from rigs.chain import PAYER_KEYS, Chain
from rigs.fickle import Fickle
from rigs.gate import Gate
from rigs.payer import Payer
from rigs.program import Program
from rigs.rpc import RpcProxy
from rigs.running import Running, eventually, relayed, running
from rigs.upstream import ScriptedUpstream, reply

from gateway.flows import alarms
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.sandbox import Weather

SIGNAL_S = 60
"""The bound of F-182, for what may be known at once; a payment is late only after its own."""


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


async def level(gate: Gate, name: str) -> float:
    page = (await gate.send("GET", "/metrics")).body.decode()
    return next(
        float(line.split()[1]) for line in page.splitlines() if line.startswith(f'faregate_alarm{{name="{name}"}}')
    )


async def test_a_payment_that_is_past_its_bound(tmp_path: Path) -> None:
    clock = Clock()
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=clock)
    settler.weather = Weather.STUCK
    async with Gate.open(tmp_path, settler=settler, clock=clock) as gate:
        assert (await gate.pay("hello")).status == 202
        clock.ahead_s = alarms.QUEUED_MAX_S - 5
        assert (await level(gate, "queue_stuck"), await level(gate, "payment_pending_too_long")) == (0, 0)
        clock.ahead_s = alarms.QUEUED_MAX_S + 5
        assert (await level(gate, "queue_stuck"), await level(gate, "payment_pending_too_long")) == (1, 0)
        clock.ahead_s = alarms.PENDING_MAX_S + 5
        assert await level(gate, "payment_pending_too_long") == 1
        settler.weather = Weather.FAIR

        async def well() -> bool:
            return await level(gate, "payment_pending_too_long") == await level(gate, "queue_stuck") == 0

        await eventually(well)
    assert alarms.QUEUED_MAX_S + alarms.PENDING_MAX_S < 300


async def test_books_that_differ(tmp_path: Path) -> None:
    """Damage as no program of ours does it: an account is changed behind the ledger's back."""
    assert alarms.AUDIT_EVERY_S < SIGNAL_S
    async with Gate.open(tmp_path) as gate:
        await gate.agent(1_000_000)
        assert await level(gate, "audit_difference") == 0
    damage(tmp_path / "gate.db")
    async with Gate.open(tmp_path, clean=False) as gate:

        async def seen() -> bool:
            return await level(gate, "audit_difference") > 0

        await eventually(seen)


def damage(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(
        "UPDATE accounts SET balance_micros = balance_micros + 1 WHERE name = (SELECT min(name) FROM accounts)"
    )
    connection.close()


@pytest.mark.chain
async def test_a_relayer_that_runs_dry_and_a_node_that_is_gone(chain: Chain, program: Program, tmp_path: Path) -> None:
    async with (
        RpcProxy(chain.url) as node,
        ScriptedUpstream(default=reply({"found": True})) as shop,
        running(tmp_path, program, relayed(chain, rpc=node.url, upstream=shop.port)) as gate,
    ):
        await gate.until_ready()
        assert await alarm(gate, "relayer_funds_low") == 0
        chain.gas_money(gate.settings.relayer, 1)
        payment = await gate.sign(Payer(PAYER_KEYS[4]))
        assert (await gate.call("shop/find", {"word": "hello"}, payment=payment)).status == 503
        assert await alarm(gate, "relayer_funds_low") == 1
        node.on("*", rpc.refuse)
        assert (await gate.call("shop/find", {"word": "hello"}, payment=payment)).status == 503
        assert await alarm(gate, "rpc_unreachable") == 1
        node.heal()
        chain.gas_money(gate.settings.relayer, 10**20)
        await gate.until_paid("shop/find", {"word": "hello"}, payment=payment)
        assert (await alarm(gate, "relayer_funds_low"), await alarm(gate, "rpc_unreachable")) == (0, 0)


@pytest.mark.chain
@pytest.mark.full
async def test_nobody_has_to_call_for_it(chain: Chain, program: Program, tmp_path: Path) -> None:
    """No payment comes by, and within a minute the operator knows all the same."""
    async with RpcProxy(chain.url) as node, running(tmp_path, program, relayed(chain, rpc=node.url)) as gate:
        await gate.until_ready()
        chain.gas_money(gate.settings.relayer, 1)

        async def dry() -> bool:
            return await alarm(gate, "relayer_funds_low") == 1

        await eventually(dry, within_s=SIGNAL_S)
        node.on("*", rpc.refuse)

        async def gone() -> bool:
            return await alarm(gate, "rpc_unreachable") == 1

        await eventually(gone, within_s=SIGNAL_S)


async def alarm(gate: Running, name: str) -> float:
    return (await gate.metrics()).get(f'faregate_alarm{{name="{name}"}}', 0)
