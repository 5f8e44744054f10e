"""An agent that has lost its token is recovered by its wallet (F-130), on a whole gateway and a real chain with
Circle's real token."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from eth_account import Account
from pydantic import BaseModel, ConfigDict
from rigs import books
from rigs.chain import CHAIN_ID, PAYER_KEYS, USDC, Chain
from rigs.gate import Gate, Json, Reply
from rigs.newcomer import ask
from rigs.payer import Payer, echoing
from rigs.rpc import RpcProxy, refuse
from rigs.running import eventually, relayed
from rigs.scripted import METERED, Scripted, failure, miss

from gateway.core import wallet_recovery as core
from gateway.core.agent import Status
from gateway.core.catalogue import Operation, Price
from gateway.core.upstream import Context, Match, Offering, Outcome
from gateway.edge import logs
from gateway.store import actions, agents, deposits, leads, wallets
from gateway.store.database import Tx
from upstreams.person import PersonQuery, PhoneQuery

pytestmark = pytest.mark.chain

HAL, IDA, EVE = (Payer(key) for key in PAYER_KEYS[:3])
USD = 1_000_000
DAY_S = 86_400
PHONE = "+12065550142"
CHALLENGE, COMPLETE = "wallet-recover/challenge", "wallet-recover/complete"


class Business(BaseModel):
    model_config = ConfigDict(extra="allow")
    business_name: str


class Session(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lead: dict[str, Any]


class Enriching(Scripted):
    """Sells what is asked about people and firms; finds whatever `script` does not name."""

    def offerings(self) -> Sequence[Offering]:
        return [
            *super().offerings(),
            self._asking("enrich/phone", PhoneQuery, {"phone": "+12065550100"}),
            self._asking("enrich/person", PersonQuery, {"name": "Dana Sample", "zip": "98101"}),
            self._asking("enrich/websearch", Business, {"business_name": "Example Bakery"}, METERED),
            self._asking("enrich/lead-session", Session, {"lead": {"company": "Example Bakery"}}),
        ]

    def _asking(
        self,
        id: str,
        query: type[BaseModel],
        example: Json,
        price: Price = Price(330_000),  # noqa: B008
    ) -> Offering:
        async def fulfil(asked: Any, context: Context) -> Outcome:
            step = self.script.get(id)
            return Match({"found": "somebody"}) if step is None else await step(context)

        operation = Operation(
            id=id, method="POST", path=f"/api/v1/{id}", summary="Asks", description="Asks about somebody.",
            input=query, output={"type": "object"}, price=price, example=example, example_output={}, job=price.metered,
        )  # fmt: skip
        return Offering(operation, fulfil)


@pytest.fixture(scope="module")
def whole_chain() -> Iterator[Chain]:
    chain = Chain.start()
    for key in PAYER_KEYS[:4]:
        chain.mint(Payer(key).address, 10**12)
    chain.mine(20)
    yield chain
    chain.close()


@pytest.fixture
def chain(whole_chain: Chain) -> Iterator[Chain]:
    with whole_chain.restored():
        yield whole_chain


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """A gateway where agents are recovered, and the chain that it looks at."""

    gate: Gate
    chain: Chain
    address: str
    home: Path
    clock: Clock

    async def agent(self, wallet: str = HAL.address, *, asks: bool = True) -> tuple[str, str]:
        """(id, bearer) of an agent that was registered with this wallet and, if it `asks`, knows a phone number."""
        agent_id, token = await self.gate.agent(10 * USD)
        await self.gate.gateway.db.write(wallets.add, wallet.lower(), agent_id, wallets.Role.MINT)
        if asks:
            assert (await self.ask(token, "enrich/phone", {"phone": PHONE})).status == 200
        return agent_id, token

    async def ask(self, token: str, route: str, body: Json, **headers: str) -> Reply:
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", **headers}
        return await self.gate.send("POST", f"/api/v1/{route}", headers=sent, body=orjson.dumps(body))

    async def challenge(self, wallet: str = HAL.address, **more: Json) -> Json:
        reply = await ask(self.gate, CHALLENGE, {"address": wallet, **more})
        assert reply.status == 200, reply.body
        return reply.json

    def send(self, challenge: Json, payer: str = HAL.address, *, more: int = 0, blocks: int = 5) -> str:
        """What the challenge asks for, and so many blocks after it: with five it is six deep."""
        amount = int(challenge["amount_atomic"]) + more
        sent = self.chain.do(payer, USDC, "transfer(address,uint256)", challenge["pay_to"], amount)
        if blocks:
            self.chain.mine(blocks)
        return sent

    async def complete(self, challenge: Json, tx_hash: str, answer: Json = PHONE) -> Reply:
        body = {"recovery_id": challenge["recovery_id"], "tx_hash": tx_hash, "answer": answer}
        return await ask(self.gate, COMPLETE, body)

    async def recover(self, wallet: str = HAL.address, answer: Json = PHONE) -> Reply:
        challenge = await self.challenge(wallet)
        return await self.complete(challenge, self.send(challenge, wallet), answer)

    async def me(self, token: str) -> Reply:
        return await self.gate.send("GET", "/api/v1/agents/me", headers={"Authorization": f"Bearer {token}"})

    async def look(self) -> None:
        watch = self.gate.gateway.deposits
        assert await watch.look(watch.chains[0]) is None

    async def listed(self) -> list[deposits.DepositView]:
        return await self.gate.gateway.db.read(deposits.listing, 100)

    async def leads(self) -> int:
        ((count,),) = await self.gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM leads"))
        return int(count)

    async def wrong(self) -> int:
        """Answers that are written down as wrong."""
        ((count,),) = await self.gate.gateway.db.read(
            lambda tx: tx.execute("SELECT coalesce(sum(wrong_tries), 0) FROM wallet_recoveries")
        )
        return int(count)


@asynccontextmanager
async def desk(home: Path, chain: Chain, *, toml: str = "", rpc: str | None = None, **more: Any) -> AsyncIterator[Desk]:
    address = more.pop("address", None) or Account.create().address
    clock = more.pop("clock", None) or Clock(float(chain.now))
    own = f'\n[deposits]\naddress = "{address}"\n{toml}'
    configured = relayed(chain, rpc=rpc)
    upstream = more.pop("upstream", None) or Enriching()
    async with Gate.open(home, base=configured.toml, toml=own, upstream=upstream, clock=clock, **more) as gate:
        yield Desk(gate, chain, address, home, clock)


def refused(reply: Reply, status: int, code: str, reason: str | None = None) -> None:
    assert (reply.status, reply.json["code"]) == (status, code), reply.body
    if reason is not None:
        assert reply.json["details"]["reason"] == reason
    assert reply.headers["Cache-Control"] == "no-store"


async def test_an_agent_is_recovered_and_keeps_everything(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        agent_id, lost = await at.agent()
        key = await at.ask(lost, "agents/usage-keys", {"scopes": ["enrich:*"]})
        challenge = await at.challenge()
        assert challenge["from"] == HAL.address
        assert (challenge["pay_to"], challenge["asset"], challenge["asset_address"]) == (at.address, "USDC", USDC)
        assert (challenge["chain_id"], challenge["attempts_left"]) == (CHAIN_ID, 3)
        assert challenge["question"]["kind"] == "lead_history"
        assert 1 <= int(challenge["amount_atomic"]) - USD <= core.ODD_MICROS
        assert challenge["amount_usd"] == f"1.{int(challenge['amount_atomic']) - USD:06d}".ljust(5, "0")
        sent = at.send(challenge, blocks=2)
        early = await at.complete(challenge, sent)
        refused(early, 409, "CONFIRMATIONS_PENDING")
        assert int(early.headers["Retry-After"]) >= 1
        assert (await at.me(lost)).status == 200
        chain.mine(3)
        reply = await at.complete(challenge, sent, "(206) 555-0142")
        assert reply.status == 200, reply.body
        assert reply.headers["Cache-Control"] == "private, no-store"
        told = reply.json
        assert (told["agent_id"], told["token_shown_once"]) == (agent_id, True)
        assert (told["revoked"], told["usage_keys_active"]) == ({"admin_tokens": 1, "usage_keys": 0}, 1)
        assert told["credited_usd"] == challenge["amount_usd"]
        assert (await at.me(lost)).status == 401
        known = (await at.me(told["token"])).json
        assert known["agent_id"] == agent_id
        paid = int(challenge["amount_atomic"])
        assert (await at.gate.balance(agent_id)).available == 10 * USD - 330_000 + paid
        assert (await at.ask(key.json["key"], "enrich/phone", {"phone": PHONE})).status == 200
        refused(await at.complete(challenge, sent), 409, "RECOVERY_USED")
        done = await at.gate.gateway.db.read(actions.listing, 5, agent_id)
        assert [each.action for each in done][:3] == ["recover", "add_token", "revoke"]
        assert len(await at.listed()) == 1


async def test_f130_twenty_at_once_are_one_recovery(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        agent_id, lost = await at.agent()
        challenge = await at.challenge()
        sent = at.send(challenge)
        replies = await asyncio.gather(*(at.complete(challenge, sent) for _ in range(20)))
        assert sorted(reply.status for reply in replies) == [200] + [409] * 19
        assert {reply.json["code"] for reply in replies if reply.status == 409} == {"RECOVERY_USED"}
        (token,) = [reply.json["token"] for reply in replies if reply.status == 200]
        assert (await at.me(token)).status == 200
        assert (await at.me(lost)).status == 401
        assert [(agent.id, agent.tokens) for agent in await at.gate.gateway.db.read(agents.listing)] == [(agent_id, 1)]
        assert len(await at.listed()) == 1, "and one credit"


async def test_f130_two_parties_race_and_both_hold_the_wallet(tmp_path: Path, chain: Chain) -> None:
    """Each with a challenge and a transfer of its own: whoever is last has the agent, and one token opens it."""
    async with desk(tmp_path, chain) as at:
        agent_id, _ = await at.agent()
        challenges = [await at.challenge() for _ in range(3)]
        assert len({each["amount_atomic"] for each in challenges}) == 3
        sent = [at.send(challenge) for challenge in challenges]
        crossed = await at.complete(challenges[0], sent[1])
        refused(crossed, 422, "RECOVERY_TRANSFER_WRONG", "amount")
        replies = await asyncio.gather(*(at.complete(*each) for each in zip(challenges, sent, strict=True)))
        assert [reply.status for reply in replies] == [200] * 3
        good = [(await at.me(reply.json["token"])).status for reply in replies]
        assert sorted(good) == [200, 401, 401]
        (agent,) = await at.gate.gateway.db.read(agents.listing)
        assert (agent.id, agent.tokens) == (agent_id, 1)


async def test_f130_tokens_die_in_the_commit(tmp_path: Path, chain: Chain) -> None:
    """Calls, rotations and new keys by the old token, all the while: once the new one is told, none of them passes."""
    async with desk(tmp_path, chain) as at:
        agent_id, lost = await at.agent()
        _, second = await at.gate.agent()
        await at.gate.gateway.db.write(
            lambda tx: tx.execute("UPDATE tokens SET agent_id = :id WHERE agent_id <> :id", {"id": agent_id})
        )
        challenge = await at.challenge()
        sent = at.send(challenge)
        recovering = asyncio.create_task(at.complete(challenge, sent))
        before = []
        while not recovering.done():
            before.append(await at.ask(lost, "enrich/phone", {"phone": PHONE}))
        reply = await recovering
        assert reply.json["revoked"]["admin_tokens"] == 2
        after = await asyncio.gather(
            *(at.ask(each, "enrich/phone", {"phone": PHONE}) for each in (lost, second) * 5),
            at.ask(lost, "agents/token/rotate", {}),
            at.ask(lost, "agents/usage-keys", {"scopes": ["enrich:*"]}),
            at.ask(lost, "enrich/jobs", {"route": "enrich/websearch", "payload": {"business_name": "Late Bakery"}}),
            at.me(lost),
        )
        assert {late.status for late in after} == {401}
        assert {each.status for each in before} <= {200, 401}
        charged = [view for view in await at.gate.charges() if view.charge.captured_micros]
        assert len(charged) == 1 + sum(each.status == 200 for each in before)


async def test_f130_pending_jobs_stay_with_the_account(tmp_path: Path, chain: Chain) -> None:
    released = asyncio.Event()

    async def waits(context: Context) -> Outcome:
        await released.wait()
        return Match({"found": "somebody"})

    upstream = Enriching(script={"enrich/websearch": waits})
    async with desk(tmp_path, chain, upstream=upstream) as at:
        agent_id, lost = await at.agent()
        body = {"route": "enrich/websearch", "payload": {"business_name": "Example Bakery"}}
        job = (await at.ask(lost, "enrich/jobs", body)).json
        reply = await at.recover()
        released.set()
        token, path = reply.json["token"], f"/api/v1/enrich/jobs/{job['job_id']}?wait=30"
        mine = await at.gate.send("GET", path, headers={"Authorization": f"Bearer {token}"})
        assert (mine.status, mine.json["status"], mine.json["billed"]) == (200, "completed", True)
        polled = await at.gate.send("GET", path, headers={"Authorization": f"Bearer {job['poll_bearer']}"})
        assert polled.json["result"] == mine.json["result"]
        assert (await at.gate.send("GET", path, headers={"Authorization": f"Bearer {lost}"})).status == 401
        # and what it was about is remembered of a job, too
        assert (await at.recover(answer="Example BAKERY")).json["agent_id"] == agent_id


async def test_f130_a_smart_wallet_is_recovered_by_its_owner_of_now(tmp_path: Path, chain: Chain) -> None:
    """The transfer is the wallet's own, whoever makes it: who has lost the wallet cannot, whatever he has signed."""
    wallet = chain.place("Wallet", owner=HAL.address)
    chain.gas_money(wallet, 10**18)
    chain.mint(wallet, 5 * USD)
    async with desk(tmp_path, chain) as at:
        agent_id, lost = await at.agent(wallet)
        challenge = await at.challenge(wallet)
        chain.rpc("anvil_setStorageAt", wallet, "0x0", "0x" + IDA.address[2:].lower().rjust(64, "0"))
        former = at.send(challenge, HAL.address)
        refused(await at.complete(challenge, former), 422, "RECOVERY_TRANSFER_WRONG", "sender")
        assert (await at.me(lost)).status == 200
        reply = await at.complete(challenge, at.send(challenge, wallet))
        assert (reply.status, reply.json["agent_id"]) == (200, agent_id)


# what proves it


async def test_a_deposit_that_the_watcher_was_first_to_see_proves_it(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        agent_id, _ = await at.agent()
        await at.look()
        challenge = await at.challenge()
        sent = at.send(challenge)
        await at.look()
        (deposit,) = await at.listed()
        assert deposit.deposit.agent_id == agent_id
        assert (await at.complete(challenge, sent)).status == 200
        assert len(await at.listed()) == 1


async def test_f130_nobodys_other_transfer_is_a_proof(tmp_path: Path, chain: Chain) -> None:
    """Whoever watches the chain has challenges for the wallet, and its ordinary deposits prove none of them."""
    async with desk(tmp_path, chain) as at:
        _, lost = await at.agent()
        before = at.send({"amount_atomic": str(USD), "pay_to": at.address})
        challenge = await at.challenge()
        others = {
            at.send(challenge, more=1): "amount",
            at.send(challenge, more=-1): "amount",
            at.send(challenge, more=4 * USD): "amount",
            before: "amount",
            at.send(challenge, IDA.address): "sender",
        }
        for sent, reason in others.items():
            refused(await at.complete(challenge, sent), 422, "RECOVERY_TRANSFER_WRONG", reason)
        elsewhere = chain.do(HAL.address, USDC, "transfer(address,uint256)", IDA.address, USD)
        refused(await at.complete(challenge, elsewhere), 422, "NO_DEPOSIT_IN_TRANSACTION")
        refused(await at.complete(challenge, "0x" + "5a" * 32), 404, "TRANSACTION_NOT_FOUND")
        # each that the wallet has sent is on the balance, and nobody's token is dead
        assert await at.wrong() == 0
        assert (await at.me(lost)).status == 200


async def test_a_transfer_from_before_is_no_proof(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        await at.agent()
        first = await at.challenge()
        sent = at.send(first)
        recovery = at.gate.gateway.wallet_recovery
        made = core.read(first["recovery_id"], recovery._seal_key)
        assert made is not None
        later = core.Challenge(
            made.address, made.chain_id, chain.height, made.issued_s, made.amount_micros, made.salt
        )  # fmt: skip
        forged = {**first, "recovery_id": core.recovery_id(later, recovery._seal_key)}
        refused(await at.complete(forged, sent), 422, "RECOVERY_TRANSFER_WRONG", "block")


async def test_one_deposit_proves_one_recovery(tmp_path: Path, chain: Chain) -> None:
    """Two challenges that ask for the same odd amount by chance."""
    async with desk(tmp_path, chain) as at:
        await at.agent()
        at.gate.gateway.wallet_recovery._entropy = Alternating()
        one, other = await at.challenge(), await at.challenge()
        assert one["amount_atomic"] == other["amount_atomic"]
        assert one["recovery_id"] != other["recovery_id"]
        sent = at.send(one)
        refused(await at.complete(one, sent, "wrong answer"), 403, "RECOVERY_ANSWER_WRONG")
        refused(await at.complete(other, sent), 422, "RECOVERY_TRANSFER_WRONG")
        assert await at.wrong() == 1
        assert (await at.complete(one, sent)).status == 200
        refused(await at.complete(other, sent), 422, "RECOVERY_TRANSFER_WRONG")


class Alternating:
    """The same amount and another salt."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, count: int) -> bytes:
        self.count += 1
        return bytes(count) if self.count % 2 else self.count.to_bytes(count)
