"""Deposits by plain transfer, on a whole gateway and a real chain with Circle's real token.

The watcher runs beside every test, as it does in life; tests that need its round at once look themselves.
"""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
import pytest
from eth_account import Account
from rigs.chain import CHAIN_ID, MULTICALL3, PAYER_KEYS, USDC, Chain, calldata
from rigs.gate import Gate, Json, Reply, header
from rigs.newcomer import Newcomer, ask
from rigs.payer import Payer, echoing
from rigs.rpc import RpcProxy, error, refuse, stale
from rigs.running import eventually, relayed

from gateway.core.deposit import State
from gateway.core.money import format_usd
from gateway.settlement.protocol import Unknown
from gateway.store import agents, deposits, wallets
from gateway.store.database import Tx
from gateway.store.owners import FileLock

HAL, IDA = Payer(PAYER_KEYS[0]), Payer(PAYER_KEYS[1])
CLAIM = "/api/v1/balance/deposit/claim"
TRANSFER_FROM = "transferFrom(address,address,uint256)"
USD = 1_000_000


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
class Bank:
    """A gateway that takes transfers, and the chain they are made on."""

    gate: Gate
    chain: Chain
    address: str
    pay_to: str

    async def agent(self, *payers: Payer) -> tuple[str, str]:
        """(id, bearer) of a new agent with these wallets."""
        agent_id, token = await self.gate.agent()
        for payer in payers:
            assert await self.link(agent_id, payer)
        return agent_id, token

    async def link(self, agent_id: str, payer: Payer) -> bool:
        return await self.gate.gateway.db.write(wallets.add, payer.address.lower(), agent_id, wallets.Role.LINKED)

    def send(self, payer: Payer, micros: int, *, to: str | None = None, token: str = USDC, blocks: int = 5) -> str:
        """A transfer, and so many blocks after it: with five it is six deep."""
        sent = self.chain.do(payer.address, token, "transfer(address,uint256)", to or self.address, micros)
        if blocks:
            self.chain.mine(blocks)
        return sent

    async def claim(self, token: str | None, tx_hash: object, chain_id: object = CHAIN_ID, **more: object) -> Reply:
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        body = orjson.dumps({"tx_hash": tx_hash, "chain_id": chain_id, **more})
        return await self.gate.send("POST", CLAIM, headers=headers, body=body)

    async def look(self) -> Unknown | None:
        watch = self.gate.gateway.deposits
        return await watch.look(watch.chains[0])

    async def balance(self, agent_id: str) -> agents.Balance:
        return await self.gate.balance(agent_id)

    async def listed(self, state: State | None = None) -> list[deposits.DepositView]:
        return await self.gate.gateway.db.read(deposits.listing, 100, state=state)


@asynccontextmanager
async def bank(home: Path, chain: Chain, *, toml: str = "", rpc: str | None = None, **more: Any) -> AsyncIterator[Bank]:
    address = more.pop("address", None) or Account.create().address
    configured = relayed(chain, rpc=rpc)
    own = f'\n[deposits]\naddress = "{address}"\n{toml}'
    async with Gate.open(home, base=configured.toml, toml=own, **more) as gate:
        yield Bank(gate, chain, address, configured.pay_to)


async def test_a_claim_is_credited_at_depth_and_once(tmp_path: Path, chain: Chain) -> None:
    async with bank(tmp_path, chain) as at:
        agent_id, token = await at.agent(HAL)
        where = (await at.gate.send("GET", "/api/v1/balance/deposit/receive-address")).json
        assert (where["receive_address"], where["min_usd"], where["confirmations_required"]) == (at.address, "1.000", 6)
        assert where["networks"][0]["tokens"][0]["address"] == USDC
        sent = at.send(HAL, 5 * USD, blocks=2)
        reply = await at.claim(token, sent)
        assert (reply.status, reply.json["code"]) == (409, "CONFIRMATIONS_PENDING")
        assert reply.json["details"] == {"confirmations": 3, "required": 6}
        assert int(reply.headers["Retry-After"]) >= 1
        chain.mine(3)
        first = await at.claim(token, sent)
        assert (first.status, first.json["total_usd"]) == (200, "5.000"), first.body
        assert (await at.claim(token, sent.upper().replace("0X", "0x"))).body == first.body
        assert await at.look() is None
        assert (await at.balance(agent_id)).available == 5 * USD
        assert len(await at.listed()) == 1


async def test_f113_only_the_agent_whose_wallet_has_sent_it(tmp_path: Path, chain: Chain) -> None:
    async with bank(tmp_path, chain) as at:
        agent_id, token = await at.agent(HAL)
        eve, her_token = await at.agent(IDA)
        _, strangers_token = await at.agent()
        sent = at.send(HAL, 5 * USD)
        replies = await asyncio.gather(
            *(at.claim(her_token, sent) for _ in range(5)), at.claim(strangers_token, sent), at.claim(None, sent)
        )
        assert [reply.json["code"] for reply in replies] == ["SENDER_NOT_LINKED"] * 6 + ["INVALID_TOKEN"]
        assert (await at.claim(token, sent)).status == 200
        assert (await at.claim(her_token, sent)).json["code"] == "SENDER_NOT_LINKED"
        assert ((await at.balance(eve)).available, (await at.balance(agent_id)).available) == (0, 5 * USD)


async def test_f116_what_is_no_deposit(tmp_path: Path, chain: Chain) -> None:
    """F-116: look-alike tokens, other chains and addresses, dust, failed and foreign transactions."""
    fake = "0x" + "fa" * 20
    chain.place_circle_token(fake, "USDC", "USDC")
    chain.mint(HAL.address, 10**9, fake)
    async with bank(tmp_path, chain) as at:
        agent_id, token = await at.agent(HAL)
        failed = chain.mined(
            chain.send(HAL.address, USDC, calldata("transfer(address,uint256)", at.address, 10**15), gas=hex(200_000))
        )
        cases = {
            "TRANSACTION_NOT_FOUND": ["0x" + "00" * 32],
            "TRANSACTION_FAILED": [failed["transactionHash"]],
            "NO_DEPOSIT_IN_TRANSACTION": [
                at.send(HAL, 5 * USD, token=fake),
                at.send(HAL, 5 * USD, to=IDA.address),
                at.send(HAL, 0),
                chain.send(HAL.address, at.address, value=10**18),
            ],
            "DEPOSIT_BELOW_MINIMUM": [at.send(HAL, USD - 1)],
            "VALIDATION_ERROR": ["", "0x12", 5, None, "0x" + "zz" * 32, "0x" + "00" * 33, "x" + "0x" + "00" * 32],
        }  # fmt: skip
        for code, hashes in cases.items():
            for each in hashes:
                assert (await at.claim(token, each)).json["code"] == code, each
        reasons = [
            (await at.claim(token, each)).json["details"]["reason"] for each in cases["NO_DEPOSIT_IN_TRANSACTION"]
        ]
        assert reasons == ["other_token", "other_address", "no_transfer", "no_transfer"]
        good = at.send(HAL, 5 * USD)
        for odd in (8453, 0, -1, "84532", None, 84532.5, True):
            assert (await at.claim(token, good, odd)).json["code"] in ("CHAIN_NOT_ACCEPTED", "VALIDATION_ERROR")
        assert (await at.claim(token, good, more=1)).status == 422
        assert await at.look() is None
        assert [view.transaction for view in await at.listed()] == [good]
        assert (await at.balance(agent_id)).available == 5 * USD


async def test_nothing_is_asked_of_the_chain_before_the_cheap_checks(tmp_path: Path, chain: Chain) -> None:
    async with RpcProxy(chain.url) as proxy, bank(tmp_path, chain, rpc=proxy.url) as at:
        _, token = await at.agent()
        asked = proxy.calls["eth_getTransactionReceipt"]
        for hash, chain_id in (("0x" + "11" * 32, CHAIN_ID), ("0x" + "11" * 32, 1), ("nonsense", CHAIN_ID)):
            assert (await at.claim(token, hash, chain_id)).status in (403, 422)
            assert (await at.claim(None, hash, chain_id)).status in (401, 422)
        assert proxy.calls["eth_getTransactionReceipt"] == asked


async def test_an_agent_claims_so_often_and_then_the_chain_is_not_asked(tmp_path: Path, chain: Chain) -> None:
    limits = '[rate_limits]\nclaims = "2 per minute"'
    async with RpcProxy(chain.url) as proxy, bank(tmp_path, chain, rpc=proxy.url, toml=limits) as at:
        _, token = await at.agent(HAL)
        _, other = await at.agent(IDA)
        told = [await at.claim(token, "0x" + f"{n:064x}") for n in range(4)]
        assert [reply.status for reply in told[:2]] == [404, 404]
        asked = proxy.calls["eth_getTransactionReceipt"]
        assert asked >= 2
        assert {(reply.status, reply.json["code"]) for reply in told[2:]} == {(429, "RATE_LIMITED")}
        assert told[2].headers["RateLimit-Policy"] == '"claims";q=2;w=60'
        assert (await at.claim(token, "nonsense")).status == 422
        assert proxy.calls["eth_getTransactionReceipt"] == asked
        assert (await at.claim(other, "0x" + "1" * 64)).status == 404


async def test_an_x402_settlement_is_no_deposit(tmp_path: Path, chain: Chain) -> None:
    async with bank(tmp_path, chain) as at:
        agent_id, token = await at.agent(HAL)

        async def ready() -> bool:
            return (await at.gate.send("GET", "/readyz")).status == 200

        await eventually(ready)
        reply = await top_up(at, token, HAL)
        assert reply.status == 200, reply.body
        claimed = await at.claim(token, reply.json["settlement"]["transaction"])
        assert (claimed.status, claimed.json["code"]) == (409, "DEPOSIT_IS_X402_SETTLEMENT")
        assert (await at.balance(agent_id)).available == 2 * USD


async def top_up(at: Bank, token: str, payer: Payer, amount: str = "2.00") -> Reply:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = orjson.dumps({"amount_usd": amount})
    path = "/api/v1/balance/topup/x402"
    required = (await at.gate.send("POST", path, headers=headers, body=body)).offer
    wanted = next(offer for offer in required["accepts"] if "assetTransferMethod" not in offer["extra"])
    headers["PAYMENT-SIGNATURE"] = header(echoing(payer.pay(wanted), required))
    return await at.gate.send("POST", path, headers=headers, body=body)


async def test_f112_several_transfers_in_one_transaction_each_once(tmp_path: Path, chain: Chain) -> None:
    """F-112: two of one agent, one of another, one of nobody, and one of dust, all in one transaction."""
    zoe = Payer(PAYER_KEYS[2])
    async with bank(tmp_path, chain) as at:
        (ann, ann_token), (bob, bob_token) = await at.agent(HAL), await at.agent(IDA)
        moves = [(HAL, 2 * USD), (IDA, 3 * USD), (HAL, 4 * USD), (zoe, 5 * USD), (HAL, 1)]
        for payer in (HAL, IDA, zoe):
            chain.do(payer.address, USDC, "approve(address,uint256)", MULTICALL3, 10**12)
        calls = [
            (USDC, False, bytes.fromhex(calldata(TRANSFER_FROM, payer.address, at.address, micros)[2:]))
            for payer, micros in moves
        ]
        sent = chain.send(HAL.address, MULTICALL3, aggregate3(calls))
        assert chain.mined(sent)["status"] == "0x1"
        chain.mine(5)
        replies = await asyncio.gather(
            *(at.claim(ann_token, sent) for _ in range(4)), *(at.claim(bob_token, sent) for _ in range(4)),
            *(at.look() for _ in range(4)),
        )  # fmt: skip
        assert {r.status for r in replies if isinstance(r, Reply)} == {200}
        assert ((await at.balance(ann)).available, (await at.balance(bob)).available) == (6 * USD, 3 * USD)
        (orphan,) = await at.listed(State.SEEN)
        assert (orphan.sender, orphan.deposit.amount_micros) == (zoe.address.lower(), 5 * USD)
        again = await at.claim(ann_token, sent)
        assert [each["credited_usd"] for each in again.json["deposits"]] == ["2.000", "4.000"]
        assert len(await at.listed()) == 4


def aggregate3(calls: list[tuple[str, bool, bytes]]) -> str:
    from eth_abi import encode
    from eth_utils import function_signature_to_4byte_selector

    selector = function_signature_to_4byte_selector("aggregate3((address,bool,bytes)[])")
    return "0x" + (selector + encode(["(address,bool,bytes)[]"], [calls])).hex()


async def test_the_watcher_credits_by_itself(tmp_path: Path, chain: Chain) -> None:
    """What linked wallets send, at depth; what nobody's does is the operator's affair until its wallet is linked."""
    async with bank(tmp_path, chain, toml="confirmations = 3\n") as at:
        ann, _ = await at.agent(HAL)
        await at.look()
        at.send(HAL, 5 * USD, blocks=0)
        orphan = at.send(IDA, 7 * USD, blocks=1)
        assert await at.look() is None
        assert [view.deposit.party for view in await at.listed()] == [ann]
        chain.mine(1)
        assert await at.look() is None
        (seen,) = await at.listed(State.SEEN)
        assert (seen.transaction, seen.deposit.party) == (orphan, None)
        bob, token = await at.agent(IDA)
        assert await at.look() is None
        assert (await at.balance(bob)).available == 7 * USD
        assert (await at.claim(token, orphan)).json["total_usd"] == "7.000"


async def test_f131_the_watcher_goes_on_from_its_cursor_after_a_restart(tmp_path: Path, chain: Chain) -> None:
    """F-131: however its address is spelt."""
    address = Account.create().address
    async with bank(tmp_path, chain, address=address) as at:
        ann, _ = await at.agent(HAL)
        assert await at.look() is None
    at.send(HAL, 5 * USD, blocks=4_500)
    async with bank(tmp_path, chain, address=address.lower()) as at:
        assert await at.look() is None
        where = (await at.gate.send("GET", "/api/v1/balance/deposit/receive-address")).json
        assert where["receive_address"] == address
        assert (await at.balance(ann)).available == 5 * USD


async def test_f112_a_reorganisation_withdraws_once_and_what_comes_again_pays_the_debt(
    tmp_path: Path, chain: Chain
) -> None:
    match = '[deposit_match]\npercent = 100\nmin_usd = "1"\nmax_bonus_usd = "2"\n'
    async with bank(tmp_path, chain, toml=match) as at:
        ann, token = await at.agent(HAL)
        await at.look()
        at.send(HAL, 5 * USD)
        assert await at.look() is None
        balance = await at.balance(ann)
        assert (balance.available, balance.bonus) == (5 * USD, 2 * USD)
        for word in ("hello", "again"):
            assert (await at.gate.call(word, token=token)).status == 200
        spent = 5 * USD - (await at.balance(ann)).available
        assert spent > 0
        chain.reorganise(6)
        chain.mine(1)
        assert all(each is None for each in await asyncio.gather(*(at.look() for _ in range(4))))
        balance = await at.balance(ann)
        assert (balance.available, balance.bonus, balance.debt) == (0, 0, spent)
        await on_the_statement(at, token)
        assert [view.deposit.state for view in await at.listed()] == [State.WITHDRAWN]
        assert (await at.gate.call("hello", token=token)).status == 402
        levels = await at.gate.gateway.alarms.levels()
        assert levels["deposit_taken_back"] == 1
        at.send(HAL, 5 * USD)
        assert await at.look() is None
        balance = await at.balance(ann)
        assert (balance.available, balance.bonus, balance.debt) == (5 * USD - spent, 2 * USD, 0)
        assert await at.look() is None
        assert sorted(view.deposit.state for view in await at.listed()) == [State.CREDITED, State.WITHDRAWN]
        lines = await on_the_statement(at, token)
        again, lost = (view.deposit.id for view in await at.listed())
        assert [(each["kind"], each["money"], each["deposit_id"], each["amount_usd"]) for each in lines] == [
            ("match", "bonus", again, "2.000"),
            ("deposit", "own", again, "5.000"),
            ("withdrawn", "bonus", lost, "-2.000"),
            ("withdrawn", "own", lost, f"-{format_usd(spent)}"),
            ("withdrawn", "own", lost, f"-{format_usd(5 * USD - spent)}"),
            ("capture", "own", None, "-0.330"),
            ("capture", "own", None, "-0.330"),
            ("match", "bonus", lost, "2.000"),
            ("deposit", "own", lost, "5.000"),
        ]


async def on_the_statement(at: Bank, token: str) -> list[Json]:
    """Its lines, the same as JSON and as CSV, sum to what the agent has less what it owes."""
    headers = {"Authorization": f"Bearer {token}"}
    told = await at.gate.send("GET", "/api/v1/agents/statement", headers=headers)
    text = (await at.gate.send("GET", "/api/v1/agents/statement?format=csv", headers=headers)).body.decode()
    lines = told.json["movements"]
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    assert head == list(lines[0])
    assert rows == [[value or "" for value in each.values()] for each in lines]
    amounts = [Decimal(each["amount_usd"]) for each in lines]
    worth = Decimal(told.json["virtual_balance_usd"]) - Decimal(told.json["debt_usd"])
    assert sum(amounts) == worth == Decimal(lines[0]["balance_usd"])
    assert [Decimal(each["balance_usd"]) for each in lines] == list(accumulate(reversed(amounts)))[::-1]
    assert told.headers["Cache-Control"] == "private, no-store"
    return list(lines)


async def test_wallets_that_registered_or_were_linked_by_themselves_are_whose_transfers_count(
    tmp_path: Path, chain: Chain
) -> None:
    async with bank(tmp_path, chain) as at:
        hal, ida = Newcomer(at.gate, PAYER_KEYS[0]), Newcomer(at.gate, PAYER_KEYS[1])
        registered = await hal.register(chain_id=CHAIN_ID)
        assert registered.status == 201, registered.body
        ann, token = registered.json["agent_id"], registered.json["token"]
        assert await at.look() is None
        sent, other = at.send(HAL, 5 * USD, blocks=0), at.send(IDA, 7 * USD)
        assert (await at.claim(token, other)).json["code"] == "SENDER_NOT_LINKED"
        assert await at.look() is None
        assert (await at.balance(ann)).available == 5 * USD
        assert (await ida.link(token)).status == 200
        assert (await at.claim(token, other)).json["total_usd"] == "7.000"
        assert (await at.claim(token, sent)).json["deposits"][0]["from"] == HAL.address
        assert (await at.balance(ann)).available == 12 * USD


async def test_the_address_for_deposits_is_nobodys_wallet(tmp_path: Path, chain: Chain) -> None:
    own = Account.create()
    async with bank(tmp_path, chain, address=own.address) as at:
        refused = await ask(at.gate, "wallet-nonce", {"address": own.address})
        assert (refused.status, "gateway's own" in refused.json["error"]) == (422, True)


async def test_a_usage_key_claims_nothing_whatever_its_scopes(tmp_path: Path, chain: Chain) -> None:
    async with bank(tmp_path, chain) as at:
        ann, token = await at.agent(HAL)
        key = await at.gate.usage_key(token, "test:*", "jobs", "support", "balance:read")
        sent = at.send(HAL, 5 * USD)
        refused = await at.claim(key, sent)
        assert (refused.status, refused.json["code"]) == (403, "ADMIN_TOKEN_REQUIRED")
        assert await at.listed() == []
        for bearer in ({}, {"Authorization": f"Bearer {key}"}):
            where = await at.gate.send("GET", "/api/v1/balance/deposit/receive-address", headers=bearer)
            assert (where.status, where.json["receive_address"]) == (200, at.address)
            assert where.headers["Cache-Control"] == "private, no-store"
        claimed = await at.claim(token, sent)
        assert (claimed.status, claimed.headers["Cache-Control"]) == (200, "private, no-store")
        assert (await at.balance(ann)).available == 5 * USD


async def test_an_orphan_that_is_reorganised_away_is_gone(tmp_path: Path, chain: Chain) -> None:
    async with bank(tmp_path, chain) as at:
        await at.look()
        at.send(IDA, 5 * USD)
        assert await at.look() is None
        chain.reorganise(6)
        assert await at.look() is None
        assert [view.deposit.state for view in await at.listed()] == [State.GONE]


async def test_deep_enough_it_is_final(tmp_path: Path, chain: Chain) -> None:
    async with bank(tmp_path, chain) as at:
        await at.agent(HAL)
        await at.look()
        at.send(HAL, 5 * USD)
        await at.look()
        network = at.gate.gateway.deposits.chains[0].network
        assert len(await at.gate.gateway.db.read(deposits.watched, network)) == 1
        chain.mine(12)
        await at.look()
        assert await at.gate.gateway.db.read(deposits.watched, network) == []


async def test_the_watcher_survives_its_node(tmp_path: Path, chain: Chain) -> None:
    """Nothing is withdrawn and nothing lost by a node that does not answer, is behind, or takes no wide ranges."""
    async with RpcProxy(chain.url) as proxy, bank(tmp_path, chain, rpc=proxy.url) as at:
        ann, token = await at.agent(HAL)
        await at.look()
        at.send(HAL, 5 * USD)
        assert await at.look() is None
        sent = at.send(HAL, 3 * USD)
        for trouble in (refuse, error(-32000, "oops")):
            rule = proxy.on("eth_", trouble)
            assert isinstance(await at.look(), Unknown)
            assert (await at.claim(token, sent)).json["code"] == "SETTLEMENT_UNAVAILABLE"
            rule.times = 0
        proxy.on("eth_getLogs", error(-32005, "query returned more than 10000 results"), times=2)
        for _ in range(2):
            assert isinstance(await at.look(), Unknown)
        proxy.on("*", stale(4), times=40)
        await at.look()
        proxy.heal()
        assert await at.look() is None
        assert (await at.balance(ann)).available == 8 * USD
        assert {view.deposit.state for view in await at.listed()} == {State.CREDITED}


async def test_f112_four_sources_at_once(tmp_path: Path, chain: Chain) -> None:
    """F-112: claims, the watcher, a scan from far back, and x402 top-ups of the same wallet meanwhile."""
    async with bank(tmp_path, chain) as at:
        ann, token = await at.agent(HAL)
        await at.look()

        async def ready() -> bool:
            return (await at.gate.send("GET", "/readyz")).status == 200

        await eventually(ready)
        hashes = [at.send(HAL, (number + 1) * USD, blocks=0) for number in range(6)]
        chain.mine(6)
        watch = at.gate.gateway.deposits

        async def rescan() -> None:
            found = await watch.chains[0].between(0, chain.height)
            assert isinstance(found, list)
            await watch._credit(found)

        await asyncio.gather(
            *(at.claim(token, each) for each in hashes for _ in range(3)),
            *(at.look() for _ in range(3)),
            *(rescan() for _ in range(3)),
            *(top_up(at, token, HAL) for _ in range(3)),
        )

        async def all_there() -> bool:
            return len(await at.listed(State.CREDITED)) == 9

        await eventually(all_there)
        assert (await at.balance(ann)).available == (1 + 2 + 3 + 4 + 5 + 6 + 3 * 2) * USD
        assert len(await at.listed()) == 9


async def test_one_process_watches(tmp_path: Path, chain: Chain) -> None:
    lock = FileLock(tmp_path / f"gate.db.deposits-{CHAIN_ID}.lock")
    assert lock.acquire()
    async with bank(tmp_path, chain) as at:
        _, token = await at.agent(HAL)
        watch = at.gate.gateway.deposits
        await watch._round(watch.chains[0])
        assert await at.gate.gateway.db.read(_cursors) == 0
        assert (await at.claim(token, at.send(HAL, 5 * USD))).status == 200, "claims need no lock"
        lock.release()
        await watch._round(watch.chains[0])
        assert await at.gate.gateway.db.read(_cursors) == 1
        assert not lock.acquire()
    assert lock.acquire()
    lock.release()


def _cursors(tx: Tx) -> int:
    ((count,),) = tx.execute("SELECT count(*) FROM deposit_cursors")
    return int(count)
