"""A payer takes his payment away while his job is worked on: nothing is told and nothing billed, what the work cost is
a loss of ours that stands under his wallet, and no other job of his is begun until he has paid for the one he had.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest
from e2e.test_jobs import CHARGED, ended, polled, runs, signed, submit
from eth_account import Account
from rigs.chain import PERMIT2, USDC, Chain
from rigs.gate import Reply
from rigs.payer import Payer
from rigs.program import Program
from rigs.running import Running, eventually, relayed, running
from rigs.settled import usd
from rigs.upstream import ScriptedUpstream, Seen, Wire, reply

pytestmark = pytest.mark.chain

FUNDS = 5_000_000
DEEP = 12
"""Blocks, until what the chain says of a payment is believed for good."""
TIMEOUT_S = 1200
"""How long a ceiling that was signed stays good."""
CANARY = "canary-2f7a"
FOUND = reply({"found": CANARY, "cost_usd": 0.5})

Pull = Callable[[Chain, Payer, Any], None]
"""(chain, payer, his payment): takes it away."""


def moves_the_funds(chain: Chain, payer: Payer, payment: Any) -> None:
    chain.do(payer.address, USDC, "transfer(address,uint256)", Account.create().address, chain.balance(payer.address))


def revokes_the_allowance(chain: Chain, payer: Payer, payment: Any) -> None:
    chain.approve_permit2(payer.address, amount=0)


def invalidates_the_nonce(chain: Chain, payer: Payer, payment: Any) -> None:
    nonce = int(payment["payload"]["permit2Authorization"]["nonce"])
    chain.do(payer.address, PERMIT2, "invalidateUnorderedNonces(uint256,uint256)", nonce >> 8, 1 << (nonce & 255))
    chain.mine(DEEP)


PULLS = (moves_the_funds, revokes_the_allowance, invalidates_the_nonce)


@dataclass
class Pulled:
    """A gateway whose payer has pulled the payment of a job, and what he was told of it."""

    gate: Running
    shop: ScriptedUpstream
    payer: Payer
    accepted: Reply
    told: Any

    async def submit(self, word: str) -> Reply:
        return await submit(self.gate, word, payment=await signed(self.gate, self.payer))


@asynccontextmanager
async def pulled(chain: Chain, program: Program, home: Path, pull: Pull) -> AsyncIterator[Pulled]:
    payer = Payer(Account.create().key)
    chain.gas_money(payer.address, 10**18)
    able(chain, payer)

    async def meanwhile(request: Seen, wire: Wire) -> None:
        await asyncio.to_thread(pull, chain, payer, payment)
        await FOUND(request, wire)

    async with ScriptedUpstream() as shop:
        shop.on("/research", meanwhile, FOUND)
        async with running(home, program, relayed(chain, upstream=shop.port)) as gate:
            payment = await signed(gate, payer)
            accepted = await submit(gate, "pulled", payment=payment)
            assert accepted.status == 202
            yield Pulled(gate, shop, payer, accepted, await ended(gate, accepted))


def able(chain: Chain, payer: Payer) -> None:
    """He can pay, as far as the chain knows."""
    chain.mint(payer.address, FUNDS)
    chain.approve_permit2(payer.address)


@pytest.mark.parametrize("pull", PULLS)
async def test_f068_a_pulled_payment_withholds_the_result_and_stands_in_the_way_of_the_next_job(
    chain: Chain, program: Program, tmp_path: Path, pull: Pull
) -> None:
    async with pulled(chain, program, tmp_path, pull) as job:
        told = job.told
        assert (told["status"], told["result"], told["billed"]) == ("completed", None, False)
        assert told["error"]["code"] == "SETTLEMENT_FAILED"
        assert (usd(told["billing"]["charged_usd"]), usd(told["billing"]["released_usd"])) == (0, 1_500_000)
        assert chain.balance(job.gate.settings.pay_to) == 0

        able(chain, job.payer)
        turned_away = await job.submit("next")
        assert (turned_away.status, turned_away.json["code"]) == (402, "PAYMENT_INVALID")
        assert turned_away.offer["error"] == "earlier_result_unpaid"
        assert usd(turned_away.json["owed_usd"]) == CHARGED
        assert turned_away.json["charge_id"] == told["billing"]["charge_id"]
        assert (runs(job.shop, "next"), len(await job.gate.charges())) == (0, 1)

        bought = await ended(job.gate, await job.submit("pulled"))
        assert (bought["result"]["data"]["found"], runs(job.shop, "pulled")) == (CANARY, 1)
        assert chain.balance(job.gate.settings.pay_to) == CHARGED
        following = await ended(job.gate, await job.submit("next"))
        assert (following["status"], runs(job.shop, "next")) == ("completed", 1)
        assert chain.balance(job.gate.settings.pay_to) == 2 * CHARGED


@pytest.mark.parametrize("pull", PULLS)
async def test_f068_what_a_pulled_payment_has_cost_is_booked_as_a_loss(
    chain: Chain, program: Program, tmp_path: Path, pull: Pull
) -> None:
    """As soon as it is sure: when the nonce is used for good, else when what was signed is over."""
    with chain.restored():
        async with pulled(chain, program, tmp_path, pull) as job:
            if pull is not invalidates_the_nonce:
                assert losses(job.gate) == 0
                chain.pass_time(TIMEOUT_S + 60)
                chain.mine(DEEP)
                await job.gate.kill()
                await job.gate.start()

            async def booked() -> bool:
                return losses(job.gate) == CHARGED

            await eventually(booked)
            (charge,) = await job.gate.charges()
            assert (charge["state"], charge["settlement"]["state"]) == ("unpaid", "lost")
            assert charge["party"] == job.payer.address.lower()
            assert (usd(charge["charged_usd"]), usd(charge["cost_usd"])) == (0, 500_000)
            later = await polled(job.gate, job.accepted)
            assert (later.json["status"], later.json["error"]) == ("completed", job.told["error"])
            assert CANARY.encode() not in later.body


def losses(gate: Running) -> int:
    with closing(apsw.Connection(str(gate.home / "gate.db"), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        booked = list(db.execute("SELECT balance_micros FROM accounts WHERE name = 'loss'"))
    return -booked[0][0] if booked else 0
