"""Ceilings that were signed for while a job goes on: the key that they were signed for is replaced, their time ends
before anybody could collect them, two processes want to, or somebody else does it for us.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from e2e.test_jobs import CHARGED, ended, polled, signed, submit
from eth_account import Account
from rigs import rpc
from rigs.chain import PAYER_KEYS, Chain
from rigs.facilitator import ADDRESS, FacilitatorServer
from rigs.payer import Payer, echoing
from rigs.program import Program
from rigs.rpc import RpcProxy
from rigs.running import eventually, facilitated, relayed, running
from rigs.upstream import ScriptedUpstream, reply

pytestmark = pytest.mark.chain

CANARY = "canary-2f7a"
FOUND = {"found": CANARY, "cost_usd": 0.5}
LEASE = "\n[jobs]\nlease_s = 1\n"


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply(FOUND)) as shop:
        yield shop


async def facilitator(gate: Any) -> str:
    """Whom an offer says it is to be signed for."""
    (offer,) = (await gate.call("enrich/jobs", {})).offer["accepts"]
    return str(offer["extra"]["facilitatorAddress"])


@pytest.mark.parametrize("jobs", [8, pytest.param(50, marks=pytest.mark.full)])
async def test_f067_the_key_is_replaced_while_jobs_are_open(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path, jobs: int
) -> None:
    """The old key settles what was signed for it, new offers name the new one."""
    shop.default = reply(FOUND, delay_s=30)
    settings = relayed(chain, upstream=shop.port, more=LEASE)
    old_key = settings.toml.partition("[relayer]\nkey = ")[2].partition("\n")[0]
    new = Account.create()
    chain.gas_money(new.address, 10**21)
    async with running(tmp_path, program, settings) as gate:
        assert await facilitator(gate) == settings.relayer
        payers = itertools.cycle([Payer(key) for key in PAYER_KEYS])
        accepted = [
            await submit(gate, f"word-{number}", payment=await signed(gate, next(payers))) for number in range(jobs)
        ]
        assert {each.status for each in accepted} == {202}
        late = await signed(gate)
        await gate.kill()

        shop.default = reply(FOUND)
        turned = settings.toml.replace(f"key = {old_key}", f'key = "{new.key.hex()}"\nold_keys = [{old_key}]')
        gate.settings = replace(settings, toml=turned)
        gate.furnish()
        await gate.start()
        assert await facilitator(gate) == new.address
        for each in accepted:
            assert (await ended(gate, each))["billing"]["charged_usd"] == "0.750"
        assert chain.balance(settings.pay_to) == jobs * CHARGED
        assert (chain.nonce(settings.relayer), chain.nonce(new.address)) == (jobs, 0)

        paid = [
            await submit(gate, "late", payment=late),
            await submit(gate, "now", payment=await signed(gate)),
        ]
        for each in paid:
            assert (await ended(gate, each))["billing"]["charged_usd"] == "0.750"
        assert (chain.nonce(settings.relayer), chain.nonce(new.address)) == (jobs + 1, 1)


async def test_f063_its_time_ends_before_it_can_be_collected(
    program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> None:
    """The node was away. The result is withheld, and a new signature buys it without the work being done again."""
    chain = Chain.start()
    payer = Payer(PAYER_KEYS[0])
    chain.mint(payer.address, 10**8)
    chain.approve_permit2(payer.address)
    try:
        async with RpcProxy(chain.url) as node:
            settings = relayed(chain, rpc=node.url, upstream=shop.port)
            async with running(tmp_path, program, settings) as gate:
                payment = await signed(gate, payer)
                shop.default = reply(FOUND, delay_s=1)
                accepted = await submit(gate, "word", payment=payment)
                assert accepted.status == 202, accepted.body
                node.on("*", rpc.refuse)
                await asyncio.sleep(2)
                told = (await polled(gate, accepted)).json
                assert (told["status"], told["progress"]["phase"], told["result"]) == ("running", "settling", None)
                chain.pass_time(1300)
                chain.mine(13)
                node.heal()
                told = await ended(gate, accepted, within_s=90)
                assert (told["result"], told["billed"], told["error"]["code"]) == (None, False, "SETTLEMENT_FAILED")
                assert CANARY not in str(told)
                assert chain.balance(settings.pay_to) == 0

                required = (await gate.call("enrich/jobs", {})).offer
                anew = payer.permit2(required["accepts"][0], deadline=chain.now + 1200)
                again = await submit(gate, "word", payment=echoing(anew, required))
                assert (await ended(gate, again))["result"]["data"] == FOUND
                assert chain.balance(settings.pay_to) == CHARGED
                assert len(shop.seen) == 1
    finally:
        chain.close()


async def test_f065_two_processes_come_to_settle_one_job(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> None:
    """Its settlement takes longer than the lease, and whoever has sent it dies: one capture, one transfer."""
    settings = relayed(chain, upstream=shop.port, more=LEASE)
    async with (
        running(tmp_path, program, settings) as one,
        running(tmp_path, program, settings, name="two") as two,
    ):
        payment = await signed(one)
        chain.automine(False)
        try:
            accepted = await submit(one, "word", payment=payment)

            async def sent() -> bool:
                return settings.relayer.lower() in chain.pool()

            await eventually(sent)
            await asyncio.sleep(1.5)
            await one.kill()
            await asyncio.sleep(1.5)
        finally:
            chain.automine(True)
            chain.mine()
        assert (await ended(two, accepted))["billing"]["charged_usd"] == "0.750"
        assert chain.balance(settings.pay_to) == CHARGED
        assert chain.nonce(settings.relayer) == 1
        (charge,) = await two.charges()
        assert (charge["state"], charge["charged_usd"]) == ("settled", "0.750")
        assert len(shop.seen) == 1


async def test_somebody_else_settles_what_a_job_came_to(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> None:
    """A remote facilitator whose address was signed for; what it says is proven on chain."""
    payer = Payer(PAYER_KEYS[3])
    had = chain.balance(payer.address)
    async with FacilitatorServer(chain) as remote:
        settings = facilitated(chain, remote.url, upstream=shop.port)
        async with running(tmp_path, program, settings) as gate:
            await gate.until_ready()
            assert await facilitator(gate) == ADDRESS
            paid = await ended(gate, await submit(gate, "word", payment=await signed(gate, payer)))
            assert (paid["result"]["data"], paid["billing"]["charged_usd"]) == (FOUND, "0.750")
            shop.default = reply({"cost_usd": 0.5})
            missed = await ended(gate, await submit(gate, "none", payment=await signed(gate, payer)))
            assert (missed["matched"], missed["billed"]) == (False, False)
            assert had - chain.balance(payer.address) == chain.balance(settings.pay_to) == CHARGED
