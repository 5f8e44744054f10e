"""An agent is recovered by its wallet at the gateway as its operator runs it: killed on the way, and by two processes
that share a ledger. Whatever the moment, it is recovered once, and its dollar is on the balance once."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from eth_account import Account
from rigs.chain import USDC, Chain
from rigs.gate import Json, Reply
from rigs.newcomer import Newcomer, ask
from rigs.program import Program
from rigs.running import GONE, Configuration, Running, relayed, running

pytestmark = pytest.mark.chain

PHONE = "+12065550110"
CHALLENGE, COMPLETE = "wallet-recover/challenge", "wallet-recover/complete"
KILLED = -9
DOLLAR = 1_000_000
LEFT = Decimal("0.67")
"""Of the dollar that a wallet is granted here, after one look-up."""


@dataclass
class Loser:
    """Has registered a wallet, has asked about somebody, and has lost the token."""

    gate: Running
    chain: Chain
    wallet: Newcomer
    agent_id: str
    token: str

    async def challenge(self) -> Json:
        reply = await ask(self.gate, CHALLENGE, {"address": self.wallet.address})
        assert reply.status == 200, reply.body
        return reply.json

    def sends(self, challenge: Json) -> str:
        amount = int(challenge["amount_atomic"])
        sent = self.chain.do(self.wallet.address, USDC, "transfer(address,uint256)", challenge["pay_to"], amount)
        self.chain.mine(5)
        return sent

    async def complete(self, challenge: Json, sent: str, gate: Running | None = None) -> Reply:
        body = {"recovery_id": challenge["recovery_id"], "tx_hash": sent, "answer": PHONE}
        return await ask(gate or self.gate, COMPLETE, body)

    async def opens(self, token: str) -> bool:
        reply = await self.gate.send("GET", "/api/v1/agents/me", headers={"Authorization": f"Bearer {token}"})
        assert reply.status in (200, 401)
        return reply.status == 200

    async def balance(self, token: str) -> Decimal:
        reply = await self.gate.send("GET", "/api/v1/agents/balance", headers={"Authorization": f"Bearer {token}"})
        return Decimal(reply.json["virtual_balance_usd"])


def settings_of(chain: Chain, directory: Path) -> Configuration:
    deposits = f'[deposits]\naddress = "{Account.create().address}"\n[registration]\ngrant_usd = "1"\n'
    return relayed(chain, directory=directory, more=deposits)


@asynccontextmanager
async def loser(home: Path, chain: Chain, program: Program, directory: Path) -> AsyncIterator[Loser]:
    async with running(home, program, settings_of(chain, directory)) as gate:
        wallet = Newcomer(gate)
        chain.mint(wallet.address, 100 * DOLLAR)
        chain.gas_money(wallet.address, 10**18)
        told = (await wallet.register()).json
        asked = await gate.call("enrich/phone", {"phone": PHONE}, token=told["token"])
        assert (asked.status, asked.json["matched"]) == (200, True), asked.body
        yield Loser(gate, chain, wallet, told["agent_id"], told["token"])


async def test_f130_killed_before_nothing_has_happened(
    chain: Chain, program: Program, directory: Path, tmp_path: Path
) -> None:
    async with loser(tmp_path, chain, program, directory) as who:
        challenge = await who.challenge()
        sent = who.sends(challenge)
        await who.gate.stop()
        await who.gate.start(crash_at="recovery.before")
        with pytest.raises(GONE):
            await who.complete(challenge, sent)
        assert await who.gate.ended() == KILLED
        await who.gate.start()
        assert await who.opens(who.token)
        reply = await who.complete(challenge, sent)
        assert (reply.status, reply.json["agent_id"]) == (200, who.agent_id), reply.body
        assert not await who.opens(who.token)
        assert await who.opens(reply.json["token"])
        assert await who.balance(reply.json["token"]) == LEFT + Decimal(challenge["amount_usd"])
        said = who.gate.said()
        assert "5550110" not in said
        for secret in (reply.json["token"], challenge["recovery_id"]):
            assert secret not in said
            assert secret.encode() not in who.gate.remembered()


async def test_f130_killed_after_all_is_done_and_the_token_was_never_told(
    chain: Chain, program: Program, directory: Path, tmp_path: Path
) -> None:
    """Nobody has the new token, and none before it opens: who has lost that answer begins anew."""
    async with loser(tmp_path, chain, program, directory) as who:
        challenge = await who.challenge()
        sent = who.sends(challenge)
        await who.gate.stop()
        await who.gate.start(crash_at="recovery.after")
        with pytest.raises(GONE):
            await who.complete(challenge, sent)
        assert await who.gate.ended() == KILLED
        await who.gate.start()
        assert not await who.opens(who.token)
        again = await who.complete(challenge, sent)
        assert (again.status, again.json["code"]) == (409, "RECOVERY_USED")
        another = await who.challenge()
        reply = await who.complete(another, who.sends(another))
        assert (reply.status, reply.json["agent_id"]) == (200, who.agent_id)
        paid = Decimal(challenge["amount_usd"]) + Decimal(another["amount_usd"])
        assert await who.balance(reply.json["token"]) == LEFT + paid


@pytest.mark.parametrize("commit", ["store.before_commit", "store.after_commit"])
async def test_f130_killed_at_every_commit(
    chain: Chain, program: Program, directory: Path, tmp_path: Path, commit: str
) -> None:
    async with loser(tmp_path, chain, program, directory) as who:
        token = who.token
        for nth in itertools.count(1):
            challenge = await who.challenge()
            sent = who.sends(challenge)
            await who.gate.stop()
            await who.gate.start(crash_at=f"{commit}:{nth}", ready=False)
            reply = None
            with suppress(*GONE):
                reply = await who.complete(challenge, sent)
            await who.gate.kill()
            await who.gate.start()
            cut_off = reply is None
            reply = reply or await who.complete(challenge, sent)
            if reply.status == 409:
                assert not await who.opens(token), "it was done"
                another = await who.challenge()
                reply = await who.complete(another, who.sends(another))
            assert (reply.status, reply.json["agent_id"]) == (200, who.agent_id), reply.body
            assert not await who.opens(token)
            token = reply.json["token"]
            assert await who.opens(token)
            if not cut_off:
                break
        assert nth > 1, "at least one of them was cut off"


async def test_f130_two_processes_and_one_recovery(
    chain: Chain, program: Program, directory: Path, tmp_path: Path
) -> None:
    """They share the key that recoveries are sealed with, as they share the ledger: a challenge of one is completed at
    the other, and of twenty tries at both one is done."""
    async with (
        loser(tmp_path, chain, program, directory) as who,
        running(tmp_path, program, who.gate.settings, name="second") as second,
    ):
        challenge = await who.challenge()
        sent = who.sends(challenge)
        replies = await asyncio.gather(*(who.complete(challenge, sent, gate) for gate in (who.gate, second) * 10))
        assert sorted(reply.status for reply in replies) == [200] + [409] * 19
        (token,) = [reply.json["token"] for reply in replies if reply.status == 200]
        assert await who.opens(token)
        assert not await who.opens(who.token)
        for gate in (who.gate, second):
            headers = {"Authorization": f"Bearer {who.token}"}
            assert (await gate.send("GET", "/api/v1/agents/me", headers=headers)).status == 401
