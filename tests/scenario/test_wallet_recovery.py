"""An agent that has lost its token is recovered by its wallet (F-130), on a whole gateway and a real chain with
Circle's real token."""

import asyncio
import hashlib
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
from rigs.gate import Gate, Json, Reply, header
from rigs.newcomer import Newcomer, ask
from rigs.payer import Payer, echoing
from rigs.rpc import RpcProxy, refuse
from rigs.running import relayed
from rigs.scripted import METERED, Scripted, failure, miss

from gateway.core import wallet_recovery as core
from gateway.core.agent import Status
from gateway.core.catalogue import Operation, Price
from gateway.core.money import parse_usd
from gateway.core.transfer import Kind
from gateway.core.upstream import Context, Match, Offering, Outcome
from gateway.edge import logs
from gateway.store import actions, agents, deposits, wallet_recoveries, wallets
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
            self._asking("crm/phone", PhoneQuery, {"phone": "+12065550100"}),
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


def key_of(home: Path) -> Path:
    return home / "gate.db.leads-key"


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
        assert parse_usd(challenge["amount_usd"]) == int(challenge["amount_atomic"])
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
        _, lost = await at.agent()
        rotated = await at.ask(lost, "agents/token/rotate", {"grace_seconds": 300})
        second = rotated.json["token"]
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
        assert deposit.deposit.party == agent_id
        assert (await at.complete(challenge, sent)).status == 200
        assert len(await at.listed()) == 1


async def test_f130_nobodys_other_transfer_is_a_proof(tmp_path: Path, chain: Chain) -> None:
    """Whoever watches the chain has challenges for the wallet, and its ordinary deposits prove none of them."""
    async with desk(tmp_path, chain) as at:
        agent_id, lost = await at.agent()
        await at.gate.gateway.db.write(wallets.add, EVE.address.lower(), agent_id, wallets.Role.LINKED)
        before = at.send({"amount_atomic": str(USD), "pay_to": at.address})
        challenge = await at.challenge()
        others = {
            at.send(challenge, more=1): "amount",
            at.send(challenge, more=-1): "amount",
            at.send(challenge, more=4 * USD): "amount",
            before: "amount",
            at.send(challenge, IDA.address): "sender",
            at.send(challenge, EVE.address): "sender",
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


# what is answered


async def test_a_wrong_answer_teaches_nothing(tmp_path: Path, chain: Chain) -> None:
    """Near or far, of somebody else's history or no word at all: the same bytes, but for the tries that are left. The
    third is the last for a day, and what was sent is credited all the same."""
    clock = Clock(float(chain.now))
    async with desk(tmp_path, chain, clock=clock) as at:
        agent_id, lost = await at.agent()
        _, others = await at.agent(IDA.address, asks=False)
        await at.ask(others, "enrich/phone", {"phone": "+12065550177"})
        challenge = await at.challenge()
        sent = at.send(challenge)
        wrong = [await at.complete(challenge, sent, each) for each in ("+12065550143", "+12065550177", "xyzzy" * 40)]
        assert [reply.status for reply in wrong] == [403] * 3
        assert [reply.json["details"] for reply in wrong] == [{"attempts_left": left} for left in (2, 1, 0)]
        first, second = ({**reply.json, "request_id": 0, "details": 0} for reply in wrong[:2])
        assert first == second
        assert first["code"] == "RECOVERY_ANSWER_WRONG"
        locked = await at.complete(challenge, sent)
        refused(locked, 403, "RECOVERY_LOCKED")
        assert DAY_S - 60 <= int(locked.headers["Retry-After"]) <= DAY_S
        again = await ask(at.gate, CHALLENGE, {"address": HAL.address})
        refused(again, 403, "RECOVERY_LOCKED")
        paid = int(challenge["amount_atomic"])
        assert (await at.gate.balance(agent_id)).available == 10 * USD - 330_000 + paid
        assert (await at.me(lost)).status == 200, "and nobody was shut out"
        clock.now += DAY_S + 1
        assert (await at.recover()).status == 200


async def test_tries_are_the_agents_whatever_the_challenge(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        await at.agent()
        challenges = [await at.challenge() for _ in range(4)]
        sent = [at.send(challenge) for challenge in challenges]
        left = [
            (await at.complete(challenge, made, "wrong answer")).json["details"]["attempts_left"]
            for challenge, made in zip(challenges[:3], sent, strict=False)
        ]
        assert left == [2, 1, 0]
        refused(await at.complete(challenges[3], sent[3]), 403, "RECOVERY_LOCKED")


async def test_twenty_wrong_answers_at_once_are_three_tries(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        await at.agent()
        challenge = await at.challenge()
        sent = at.send(challenge)
        replies = await asyncio.gather(*(at.complete(challenge, sent, f"wrong {n}") for n in range(20)))
        codes = [reply.json["code"] for reply in replies]
        assert codes.count("RECOVERY_ANSWER_WRONG") == 3
        assert codes.count("RECOVERY_LOCKED") == 17
        assert await at.wrong() == 3


async def test_f130_who_has_sent_nothing_burns_no_try(tmp_path: Path, chain: Chain) -> None:
    """And learns nothing: right and wrong answers are the same to him."""
    async with desk(tmp_path, chain) as at:
        await at.agent()
        his = await at.challenge()
        at.send({"amount_atomic": his["amount_atomic"], "pay_to": at.address}, EVE.address)
        nothing = "0x" + "00" * 32
        told = [await at.complete(his, nothing, answer) for answer in (PHONE, *(f"wrong {n}" for n in range(30)))]
        assert {orjson.dumps({**reply.json, "request_id": 0}) for reply in told} == {
            orjson.dumps({**told[0].json, "request_id": 0})
        }
        challenge = await at.challenge()
        assert challenge["attempts_left"] == 3
        sent = at.send(challenge)
        stolen = [await at.complete(his, sent, f"wrong {n}") for n in range(5)]
        assert {reply.json["code"] for reply in stolen} == {"RECOVERY_TRANSFER_WRONG"}
        assert await at.wrong() == 0
        assert (await at.complete(challenge, sent)).status == 200


ASKED = (
    ("enrich/phone", {"phone": "(206) 555-0143"}, "+1 206 555 0143"),
    ("enrich/person", {"name": "Zoë O'Imagined", "zip": "98101"}, "zoe oimagined"),
    ("enrich/person", {"first_name": "Dana", "middle_name": "Q", "last_name": "Sample"}, "Sample, Dana"),
    ("enrich/person", {"email": "Dana.Sample@example.com"}, " dana.sample@EXAMPLE.com "),
    ("enrich/person", {"phone": "+442071838750", "street": "1 Example Rd"}, "+44 20 7183 8750"),
    ("enrich/websearch", {"business_name": "Crumb & Sons, Inc."}, "CRUMB SONS INC"),
    ("enrich/lead-session", {"lead": {"contact_id": 81550000, "company": "X"}}, 81550000),
    ("enrich/lead-session", {"lead": {"contact_id": 81550000, "company": "X"}}, "81550000"),
    ("enrich/lead-session", {"lead": {"number1": "2065550151", "notes": "of no use"}}, "206.555.0151"),
)


@pytest.mark.parametrize(("route", "body", "answer"), ASKED)
async def test_what_was_asked_is_the_answer_in_any_spelling(
    tmp_path: Path, chain: Chain, route: str, body: Json, answer: Json
) -> None:
    async with desk(tmp_path, chain) as at:
        agent_id, token = await at.agent(asks=False)
        assert (await at.ask(token, route, body)).status == 200
        reply = await at.recover(answer=answer)
        assert (reply.status, reply.json.get("agent_id")) == (200, agent_id), reply.body


async def test_a_miss_counts_and_a_failure_does_not(tmp_path: Path, chain: Chain) -> None:
    upstream = Enriching(script={"enrich/phone": failure})
    async with desk(tmp_path, chain, upstream=upstream) as at:
        _, token = await at.agent(asks=False)
        assert (await at.ask(token, "enrich/phone", {"phone": PHONE})).status == 502
        assert (await at.ask(token, "enrich/phone", {"phone": "12"})).status == 422
        assert (await at.ask(token, "crm/phone", {"phone": PHONE})).status == 200
        assert await at.leads() == 0
        refused(await ask(at.gate, CHALLENGE, {"address": HAL.address}), 404, "RECOVERY_NOT_ELIGIBLE")
        upstream.script["enrich/phone"] = miss
        missed = await at.ask(token, "enrich/phone", {"phone": PHONE})
        assert (missed.status, missed.json["billed"]) == (200, False)
        for _ in range(3):
            assert (await at.ask(token, "enrich/phone", {"phone": "206-555-0142"})).status == 200
        assert await at.leads() == 1
        assert (await at.recover()).status == 200


async def test_f130_who_has_the_wallet_alone_makes_himself_no_history(tmp_path: Path, chain: Chain) -> None:
    """Paid by the wallet without a token, a call is nobody's history; beside the agent's token it is the agent's."""
    async with desk(tmp_path, chain) as at:
        _, token = await at.agent(asks=False)
        required = (await at.gate.send("POST", "/api/v1/enrich/phone")).offer
        for headers in ({}, {"Authorization": f"Bearer {token}"}):
            assert await at.leads() == 0
            payment = echoing(HAL.eip3009(required["accepts"][0]), required)
            sent = {"Content-Type": "application/json", "PAYMENT-SIGNATURE": header(payment), **headers}
            body = orjson.dumps({"phone": PHONE})
            paid = await at.gate.send("POST", "/api/v1/enrich/phone", headers=sent, body=body)
            assert paid.status == 200, paid.body
        assert await at.leads() == 1


async def test_history_is_forgotten_after_ninety_days(tmp_path: Path, chain: Chain) -> None:
    clock = Clock(float(chain.now))
    async with desk(tmp_path, chain, clock=clock) as at:
        _, token = await at.agent()
        clock.now += 89 * DAY_S
        await at.gate.gateway.recovery.once()
        challenge = await at.challenge()
        clock.now += 2 * DAY_S
        refused(await ask(at.gate, CHALLENGE, {"address": HAL.address}), 404, "RECOVERY_NOT_ELIGIBLE")
        refused(await at.complete(challenge, "0x" + "00" * 32), 410, "RECOVERY_EXPIRED")
        assert await at.leads() == 1
        await at.gate.gateway.recovery.once()
        assert await at.leads() == 0
        await at.ask(token, "enrich/phone", {"phone": PHONE})
        clock.now += 60 * DAY_S
        await at.ask(token, "enrich/phone", {"phone": PHONE})
        clock.now += 60 * DAY_S
        await at.gate.gateway.recovery.once()
        assert await at.leads() == 1, "asked again, it is as young as the last time"


# who is told what


async def test_f131_f130_unknown_wallets_and_those_without_history_are_the_same(tmp_path: Path, chain: Chain) -> None:
    async with RpcProxy(chain.url) as proxy, desk(tmp_path, chain, rpc=proxy.url) as at:
        await at.agent(IDA.address, asks=False)
        frozen, _ = await at.agent(EVE.address)
        await at.gate.gateway.db.write(agents.set_status, frozen, Status.FROZEN)
        linked, _ = await at.agent()
        further = Account.create().address
        await at.gate.gateway.db.write(wallets.add, further.lower(), linked, wallets.Role.LINKED)
        proxy.on("*", refuse)
        told = [
            await ask(at.gate, CHALLENGE, {"address": address})
            for address in (Account.create().address, IDA.address, EVE.address, further)
        ]
        for reply in told:
            refused(reply, 404, "RECOVERY_NOT_ELIGIBLE")
            assert {**reply.json, "request_id": 0} == {**told[0].json, "request_id": 0}
        assert {reply.headers["Content-Length"] for reply in told} == {told[0].headers["Content-Length"]}
        refused(await ask(at.gate, CHALLENGE, {"address": HAL.address}), 503, "SETTLEMENT_UNAVAILABLE")


async def test_the_same_work_for_wallets_known_and_unknown(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        await at.agent(IDA.address, asks=False)
        await at.agent()

        shapes = []
        for address in (EVE.address, IDA.address, HAL.address):
            heard: list[str] = []
            await at.gate.gateway.db.read(_standing, address.lower(), heard)
            shapes.append(heard)
        assert shapes[0] == shapes[1] == shapes[2]


@dataclass
class Listening:
    """A Tx that writes down what is asked of it."""

    tx: Tx
    heard: list[str]

    @property
    def now_ms(self) -> int:
        return self.tx.now_ms

    def execute(self, sql: str, params: Any = None) -> Any:
        self.heard.append(sql)
        return self.tx.execute(sql, params or {})


def _standing(tx: Tx, /, address: str, heard: list[str]) -> None:
    wallet_recoveries.standing(Listening(tx, heard), address, 0)  # type: ignore[arg-type]


async def test_a_frozen_agent_is_not_recovered(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        agent_id, lost = await at.agent()
        challenge = await at.challenge()
        sent = at.send(challenge)
        await at.look()
        await at.gate.gateway.db.write(agents.set_status, agent_id, Status.FROZEN)
        refused(await at.complete(challenge, sent), 404, "RECOVERY_NOT_ELIGIBLE")
        await at.gate.gateway.db.write(agents.set_status, agent_id, Status.ACTIVE)
        assert (await at.complete(challenge, sent)).status == 200
        assert (await at.me(lost)).status == 401


SPELLINGS = {
    "lower": str.lower,
    "upper": lambda address: "0x" + address[2:].upper(),
    "checksum": lambda address: address,
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
async def test_f131_recovery_knows_a_wallet_in_every_spelling(tmp_path: Path, chain: Chain, spell: Any) -> None:
    async with desk(tmp_path, chain) as at:
        agent_id, _ = await at.agent()
        challenge = await at.challenge(spell(HAL.address))
        assert challenge["from"] == HAL.address
        sent = at.send(challenge)
        reply = await at.complete(challenge, "0x" + sent[2:].upper())
        assert (reply.status, reply.json["agent_id"]) == (200, agent_id)


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
async def test_f131_one_wallet_at_every_door_in_every_spelling(tmp_path: Path, chain: Chain, spell: Any) -> None:
    """Registered in one spelling, known in another, linked beside it, claimed from, recovered: one agent."""
    async with desk(tmp_path, chain) as at:
        owner, further = Newcomer(at.gate), Newcomer(at.gate)
        for newcomer in (owner, further):
            chain.mint(newcomer.address, 10 * USD)
            chain.gas_money(newcomer.address, 10**18)
        real = owner.address
        owner.address = spell(real)
        minted = await owner.register()
        assert (minted.status, minted.json["wallets"][0]["address"]) == (201, real), minted.body
        agent_id, token = minted.json["agent_id"], minted.json["token"]
        for other in SPELLINGS.values():
            owner.address = other(real)
            again = await owner.register()
            assert (again.status, again.json["agent_id"], again.json["token"]) == (200, agent_id, None)
        beside = further.address
        further.address = spell(beside)
        linked = await further.link(token)
        assert (linked.status, linked.json["linked"]) == (200, True), linked.body
        assert {wallet["address"] for wallet in linked.json["wallets"]} == {real, beside}
        for wallet in (real, beside):
            sent = at.send({"amount_atomic": str(2 * USD), "pay_to": at.address}, wallet)
            claim = {"tx_hash": "0x" + sent[2:].upper(), "chain_id": CHAIN_ID}
            claimed = await at.ask(token, "balance/deposit/claim", claim)
            assert (claimed.status, claimed.json["total_usd"]) == (200, "2.000"), claimed.body
            assert claimed.json["deposits"][0]["from"] == wallet
        assert (await at.ask(token, "enrich/phone", {"phone": PHONE})).status == 200
        refused(await ask(at.gate, CHALLENGE, {"address": spell(beside)}), 404, "RECOVERY_NOT_ELIGIBLE")
        challenge = await at.challenge(spell(real))
        reply = await at.complete(challenge, at.send(challenge, real))
        assert (reply.status, reply.json["agent_id"]) == (200, agent_id), reply.body
        everybody = await at.gate.gateway.db.read(agents.listing)
        assert [agent.id for agent in everybody] == [agent_id]
        known = {row["address"] for row in (await at.gate.gateway.db.read(books.contents))["wallets"]}
        assert known == {real.lower(), beside.lower()}


async def test_f131_a_mistyped_address_is_nobodys_at_every_door(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        newcomer = Newcomer(at.gate, PAYER_KEYS[3])
        right = await newcomer.invite()
        _, token = await at.agent()
        linking = await newcomer.invite(token=token, purpose="link")
        for wrong in (mistyped(newcomer.address), newcomer.address.swapcase().replace("X", "x")):
            shown = {**newcomer.shown(right), "address": wrong}
            for reply in (
                await ask(at.gate, "wallet-nonce", {"address": wrong}),
                await ask(at.gate, "wallet-register", shown),
                await ask(at.gate, "wallet-link", {**newcomer.shown(linking), "address": wrong}, token=token),
                await ask(at.gate, CHALLENGE, {"address": wrong}),
            ):
                refused(reply, 422, "VALIDATION_ERROR")


def mistyped(address: str) -> str:
    return address[:-1] + ("0" if address[-1] != "0" else "1")


BAD = (
    {"address": mistyped(HAL.address)}, {"address": HAL.address.swapcase().replace("X", "x")}, {"address": "0x12"},
    {"address": HAL.address[2:]}, {"address": HAL.address + "00"}, {"address": None}, {}, [], "x",
    {"address": HAL.address, "more": 1}, {"address": HAL.address, "chain_id": "1"},
    {"address": HAL.address, "chain_id": 0},
)  # fmt: skip


async def test_f131_a_bad_request_costs_nothing(tmp_path: Path, chain: Chain) -> None:
    """No 500, and no question to the chain: it could not be asked."""
    async with RpcProxy(chain.url) as proxy, desk(tmp_path, chain, rpc=proxy.url) as at:
        await at.agent()
        challenge = await at.challenge()
        proxy.on("*", refuse)
        for body in BAD:
            refused(await ask(at.gate, CHALLENGE, body), 422, "VALIDATION_ERROR")
        refused(await ask(at.gate, CHALLENGE, b"{"), 400, "BAD_JSON")
        refused(await ask(at.gate, CHALLENGE, {"address": HAL.address, "chain_id": 1}), 422, "CHAIN_NOT_ACCEPTED")
        good = {"recovery_id": challenge["recovery_id"], "tx_hash": "0x" + "12" * 32, "answer": PHONE}
        for changes in (
            {"tx_hash": "0x12"}, {"tx_hash": "12" * 32}, {"tx_hash": 5}, {"answer": ""}, {"answer": "a" * 201},
            {"answer": None}, {"answer": True}, {"answer": 1.5}, {"answer": -1}, {"answer": "!!!???!!"},
            {"answer": "abcd"}, {"recovery_id": "r" * 257}, {"recovery_id": 1}, {"more": 1},
        ):  # fmt: skip
            refused(await ask(at.gate, COMPLETE, {**good, **changes}), 422, "VALIDATION_ERROR")
        id = challenge["recovery_id"]
        for other in ("rec_", "rec_x", id[:-1] + ("0" if id[-1] != "0" else "1"), id[:-2], id.upper(), "\u00e9" * 9):
            refused(await ask(at.gate, COMPLETE, {**good, "recovery_id": other}), 404, "RECOVERY_NOT_FOUND")
        for path in (CHALLENGE, COMPLETE):
            assert (await at.gate.send("GET", f"/api/v1/agents/{path}")).status == 405
        refused(await ask(at.gate, COMPLETE, good), 503, "SETTLEMENT_UNAVAILABLE")


async def test_a_challenge_has_an_hour(tmp_path: Path, chain: Chain) -> None:
    clock = Clock(float(chain.now))
    async with desk(tmp_path, chain, clock=clock) as at:
        await at.agent()
        challenge = await at.challenge()
        sent = at.send(challenge)
        clock.now += 3600
        refused(await at.complete(challenge, sent), 410, "RECOVERY_EXPIRED")
        clock.now -= 1
        assert (await at.complete(challenge, sent)).status == 200
        fresh = await at.challenge()
        clock.now -= 3600
        refused(await at.complete(fresh, sent), 410, "RECOVERY_EXPIRED")


async def test_a_chain_that_cannot_be_asked(tmp_path: Path, chain: Chain) -> None:
    async with RpcProxy(chain.url) as proxy, desk(tmp_path, chain, rpc=proxy.url) as at:
        _, lost = await at.agent()
        challenge = await at.challenge()
        sent = at.send(challenge)
        proxy.on("*", refuse)
        for reply in (await ask(at.gate, CHALLENGE, {"address": HAL.address}), await at.complete(challenge, sent)):
            refused(reply, 503, "SETTLEMENT_UNAVAILABLE")
            assert int(reply.headers["Retry-After"]) >= 1
        assert (await at.me(lost)).status == 200
        proxy.heal()
        assert (await at.complete(challenge, sent)).status == 200


async def test_f041_a_reorganisation_takes_the_transfer_and_it_comes_again(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        agent_id, lost = await at.agent()
        chain.mine(10)
        challenge = await at.challenge()
        sent = at.send(challenge)
        refused(await at.complete(challenge, sent, "wrong answer"), 403, "RECOVERY_ANSWER_WRONG")
        chain.reorganise(6)
        await at.look()
        assert (await at.gate.balance(agent_id)).available == 10 * USD - 330_000
        refused(await at.complete(challenge, sent), 404, "TRANSACTION_NOT_FOUND")
        assert (await at.me(lost)).status == 200
        again = at.send(challenge)
        reply = await at.complete(challenge, again)
        assert (reply.status, reply.json["agent_id"]) == (200, agent_id), reply.body
        assert await at.wrong() == 1


# where nobody is recovered


@pytest.mark.parametrize("why", ["switched off", "no address", "no deposits"])
async def test_where_nobody_is_recovered(tmp_path: Path, chain: Chain, why: str) -> None:
    toml = {
        "switched off": f'[deposits]\naddress = "{EVE.address}"\n[wallet_recovery]\nenabled = false\n',
        "no address": "",
        "no deposits": f'[deposits]\nenabled = false\naddress = "{EVE.address}"\n',
    }[why]
    async with Gate.open(tmp_path, base=relayed(chain).toml, toml=f"\n{toml}", upstream=Enriching()) as gate:
        agent_id, token = await gate.agent(USD)
        await gate.gateway.db.write(wallets.add, HAL.address.lower(), agent_id, wallets.Role.MINT)
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        body = orjson.dumps({"phone": PHONE})
        assert (await gate.send("POST", "/api/v1/enrich/phone", headers=sent, body=body)).status == 200
        refused(await ask(gate, CHALLENGE, {"address": HAL.address}), 503, "ROUTE_OFFLINE")
        done = {"recovery_id": "rec_", "tx_hash": "0x" + "00" * 32, "answer": PHONE}
        refused(await ask(gate, COMPLETE, done), 503, "ROUTE_OFFLINE")
        kept = await gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM leads"))
        assert kept == [(0,)], "what nobody needs is not kept"
        document = (await gate.send("GET", "/openapi.json")).json
        assert not [path for path in document["paths"] if "recover" in path]


async def test_it_is_in_the_documents_where_it_can_be_done(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        document = (await at.gate.send("GET", "/openapi.json")).json
        assert [path for path in document["paths"] if "recover" in path] == [
            f"/api/v1/agents/{CHALLENGE}", f"/api/v1/agents/{COMPLETE}"
        ]  # fmt: skip
        assert document["paths"][f"/api/v1/agents/{COMPLETE}"]["post"]["security"] == []


# what is kept


async def test_f128_f172_nothing_that_was_asked_is_anywhere(tmp_path: Path, chain: Chain) -> None:
    """Not in a table or a file beside it, not in the log, and neither is an id, an answer or a token. What is kept
    cannot be guessed without the key, which is no part of the database."""
    said = io.StringIO()
    logs.configure("json", "debug", said)
    clock = Clock(float(chain.now))
    async with desk(tmp_path, chain, clock=clock) as at:
        agent_id, token = await at.agent(asks=False)
        for route, body, _ in ASKED:
            assert (await at.ask(token, route, body)).status == 200
        challenge = await at.challenge()
        shown = orjson.dumps(challenge)
        sent = at.send(challenge)
        refused(await at.complete(challenge, sent, "Canary Answer"), 403, "RECOVERY_ANSWER_WRONG")
        reply = await at.complete(challenge, sent, "(206) 555-0143")
        assert reply.status == 200
        rows = await at.gate.gateway.db.read(books.contents)
    kept = b"".join(path.read_bytes() for path in sorted(at.home.glob("gate.db*")) if path.is_file()).lower()
    texts = ("5550143", "555-0143", "imagined", "sample", "dana", "crumb", "81550000", "5550151", "canary")
    for text in texts:
        assert text.encode() not in kept, text
        assert text not in said.getvalue().lower(), text
        assert text.encode() not in shown.lower(), text
    for secret in (challenge["recovery_id"][4:60], reply.json["token"][6:40]):
        assert secret.encode() not in kept
        assert secret not in said.getvalue()
    _key_is_apart(at.home)
    assert len(rows["leads"]) >= 8
    digests = {row["digest"] for row in rows["leads"]}
    for guess in ("12065550143", f"{agent_id}\n12065550143", f"{agent_id}12065550143"):
        for made in _plain_hashes(guess):
            assert made not in digests


def _key_is_apart(home: Path) -> None:
    file = key_of(home)
    key = file.read_text().strip()
    database = b"".join(path.read_bytes() for path in home.glob("gate.db*") if path.is_file() and path != file)
    assert bytes.fromhex(key) not in database
    assert key.encode() not in database
    assert file.stat().st_mode & 0o777 == 0o600


def _plain_hashes(text: str) -> list[bytes]:
    return [hashlib.new(name, text.encode()).digest()[:16] for name in ("sha256", "sha1", "md5", "blake2b")]


async def test_two_agents_have_two_hashes_of_one_number(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        await at.agent()
        await at.agent(IDA.address)
        rows = (await at.gate.gateway.db.read(books.contents))["leads"]
        assert len(rows) == len({row["digest"] for row in rows}) == 2


async def test_with_another_key_there_is_no_history(tmp_path: Path, chain: Chain) -> None:
    """A database without its key, as after a restore: nobody is asked for a dollar and a question that he cannot
    answer. With the key it is as it was."""
    key = tmp_path / "gate.db.leads-key"
    address = Account.create().address
    async with desk(tmp_path, chain, address=address) as at:
        _, token = await at.agent()
    kept = key.read_bytes()
    key.unlink()
    async with desk(tmp_path, chain, address=address) as at:
        refused(await ask(at.gate, CHALLENGE, {"address": HAL.address}), 404, "RECOVERY_NOT_ELIGIBLE")
        assert (await at.ask(token, "enrich/phone", {"phone": PHONE})).status == 200
        challenge = await at.challenge()
    key.write_bytes(kept)
    async with desk(tmp_path, chain, address=address) as at:
        refused(await at.complete(challenge, "0x" + "00" * 32), 404, "RECOVERY_NOT_FOUND")
        assert (await at.recover()).status == 200


async def test_the_register_door_tells_the_way(tmp_path: Path, chain: Chain) -> None:
    async with desk(tmp_path, chain) as at:
        newcomer = Newcomer(at.gate)
        chain.mint(newcomer.address, 5 * USD)
        chain.gas_money(newcomer.address, 10**18)
        minted = await newcomer.register()
        assert minted.status == 201
        again = await newcomer.register()
        assert "POST /api/v1/agents/wallet-recover/challenge" in again.json["hint"]
        token = minted.json["token"]
        await at.gate.gateway.db.write(agents.credit, minted.json["agent_id"], USD, Kind.CREDIT, "test", "crd_recovery")
        assert (await at.ask(token, "enrich/phone", {"phone": PHONE})).status == 200
        reply = await at.recover(newcomer.address)
        assert (reply.status, reply.json["agent_id"]) == (200, minted.json["agent_id"])
