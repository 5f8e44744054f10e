"""Wallets register headless on a real chain with Circle's real token: by eth-account, by viem, and as contracts."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_abi import encode
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_defunct
from eth_utils import to_checksum_address
from rigs.chain import CHAIN_ID, HERE, PAYER_KEYS, USDC, Chain
from rigs.newcomer import Newcomer, ask
from rigs.program import Program
from rigs.rpc import RpcProxy
from rigs.running import Running, relayed, running

pytestmark = pytest.mark.chain

DOLLAR = 1_000_000
ANYBODY = Account.from_key(PAYER_KEYS[0]).address
GRANTS = '[registration]\ngrant_budget_usd_per_day = "0.70"\n'


@pytest.fixture
async def gate(chain: Chain, program: Program, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, program, relayed(chain, upstream=9)) as gate:
        yield gate


async def me(gate: Running, token: str) -> Any:
    return (await gate.send("GET", "/api/v1/agents/me", headers={"Authorization": f"Bearer {token}"})).json


def owned(gate: Running, chain: Chain, contract: str) -> Newcomer:
    """A wallet that is a contract, with a dollar in it."""
    owner = Account.create()
    wallet = chain.place(contract, owner=owner.address)
    chain.mint(wallet, DOLLAR)
    return Newcomer(gate, owner.key, wallet=str(to_checksum_address(wallet)))


def passed_on(chain: Chain, sender: str, receiver: str) -> None:
    """A dollar."""
    chain.gas_money(sender, 10**18)
    chain.do(sender, USDC, "transfer(address,uint256)", receiver, DOLLAR)


async def test_a_wallet_registers_with_eth_account(gate: Running, chain: Chain) -> None:
    newcomer = Newcomer(gate)
    poor = await newcomer.register()
    assert (poor.status, poor.json["code"]) == (403, "WALLET_BALANCE_TOO_LOW")
    chain.mint(newcomer.address, DOLLAR)
    reply = await newcomer.register(allowance_usd="2")
    assert reply.status == 201, reply.body
    told = reply.json
    assert (told["virtual_balance_usd"], told["grant_withheld"]) == ("0.200", None)
    known = await me(gate, told["token"])
    assert (known["agent_id"], known["bonus_usd"]) == (told["agent_id"], "0.200")
    assert known["wallets"][0]["allowance"]["limit_usd"] == "2.000"
    assert chain.balance(newcomer.address) == DOLLAR, "nothing was taken of it"
    again = await newcomer.register()
    assert (again.status, again.json["token"]) == (200, None)
    assert told["token"] not in gate.said()
    assert told["token"].encode() not in gate.remembered()


async def test_a_wallet_registers_with_viem(gate: Running, chain: Chain) -> None:
    """F-126: a second parser reads our message as we do, and writes it the same."""
    account: Any = Account.create()
    chain.mint(account.address, DOLLAR)
    asked = {"url": gate.url, "key": "0x" + account.key.hex(), "chainId": CHAIN_ID, "allowance": "10"}
    process = await asyncio.create_subprocess_exec(
        "node", "register.mjs", cwd=HERE, env={"PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complaint = await process.communicate(json.dumps(asked).encode())
    assert process.returncode == 0, complaint.decode()
    told = json.loads(said)
    assert told["status"] == 201, told
    read = told["read"]
    assert (read["valid"], read["same"], read["chainId"], read["uri"]) == (True, True, CHAIN_ID, gate.url)
    known = await me(gate, told["body"]["token"])
    assert (known["label"], known["wallets"][0]["address"]) == ("viem", account.address)
    assert known["wallets"][0]["allowance"]["limit_usd"] == "10.000"


def wrapped(chain: Chain, newcomer: Newcomer, text: str) -> str:
    """As a wallet signs that binds what it signs to itself."""
    digest = _hash_eip191_message(encode_defunct(text=text))
    bound = chain.call(newcomer.address, "boundHash(bytes32)", bytes(digest), returns="bytes32")
    signature = bytes(newcomer.account.unsafe_sign_hash(bound).signature)
    return "0x" + encode(["uint256", "bytes"], [0, signature]).hex()


async def test_f075_a_smart_wallet_registers(gate: Running, chain: Chain) -> None:
    plain, wrapping = owned(gate, chain, "Wallet"), owned(gate, chain, "WrappingWallet")
    for newcomer, sign in ((plain, None), (wrapping, lambda text: wrapped(chain, wrapping, text))):
        invited = await newcomer.invite(allowance_usd="3")
        reply = await ask(gate, "wallet-register", newcomer.shown(invited, sign))
        assert reply.status == 201, reply.body
        assert reply.json["wallets"][0]["address"] == newcomer.address
        assert reply.json["wallets"][0]["allowance"]["limit_usd"] == "3.000"
        stranger = Newcomer(gate, wallet=newcomer.address)
        refused = await stranger.register()
        assert (refused.status, refused.json["code"]) == (401, "SIGNATURE_INVALID")


async def test_f127_it_is_the_owner_of_now_who_counts(gate: Running, chain: Chain) -> None:
    newcomer, successor = owned(gate, chain, "Wallet"), Account.create()
    shown = newcomer.shown(await newcomer.invite())
    slot = "0x" + successor.address[2:].lower().rjust(64, "0")
    chain.rpc("anvil_setStorageAt", newcomer.address, "0x0", slot)
    chain.mine()
    refused = await ask(gate, "wallet-register", shown)
    assert (refused.status, refused.json["code"]) == (401, "SIGNATURE_INVALID")
    heir = Newcomer(gate, successor.key, wallet=newcomer.address)
    reply = await heir.register()
    assert reply.status == 201
    token = reply.json["token"]
    assert (await newcomer.register()).status == 401, "the old owner learns nothing"
    known = await heir.register()
    assert (known.status, known.json["token"]) == (200, None), "and the new one gets no second token"
    assert (await newcomer.link(token)).status == 401, "what matters is signed for again"
    assert (await heir.link(token)).json["linked"] is False


async def test_a_delegated_account_registers_by_its_own_key(gate: Running, chain: Chain) -> None:
    """EIP-7702: whatever its code says, and however much that burns."""
    newcomer = Newcomer(gate)
    chain.mint(newcomer.address, DOLLAR)
    chain.delegate(newcomer.address, "LoopingWallet")
    assert (await newcomer.register()).status == 201


async def test_f076_a_wallet_that_stands_nowhere_is_refused(gate: Running, chain: Chain) -> None:
    nowhere = Newcomer(gate, wallet=Account.create().address)
    chain.mint(nowhere.address, DOLLAR)
    invited = await nowhere.invite()
    forged = "0x" + "00" * 31 + "60" + "11" * 200 + "6492" * 16
    identity = Newcomer(gate, wallet="0x" + "0" * 39 + "4")
    for reply in (
        await nowhere.register(),
        await ask(gate, "wallet-register", nowhere.shown(invited, lambda text: forged)),
        # A precompile that answers with what it was asked, which begins with the word of a yes.
        await identity.register(),
    ):
        assert (reply.status, reply.json["code"], reply.json["details"]["field"]) == (
            401, "SIGNATURE_INVALID", "signature",
        )  # fmt: skip


async def test_f078_hostile_checkers_cost_little_and_block_nobody(gate: Running, chain: Chain) -> None:
    """Those that loop, and those that flood, many at once; meanwhile the gateway answers, and its nodes are not blamed
    for them."""
    hostile = [owned(gate, chain, kind) for kind in ("LoopingWallet", "FloodingWallet", "OddToken", "Echo") * 5]
    honest = Newcomer(gate)
    chain.mint(honest.address, DOLLAR)
    started = time.monotonic()
    under_way = asyncio.gather(*(each.register() for each in hostile))
    slowest = 0.0
    while not under_way.done():
        before = time.monotonic()
        assert (await gate.send("GET", "/healthz")).status == 200
        slowest = max(slowest, time.monotonic() - before)
        await asyncio.sleep(0.005)
    assert {(reply.status, reply.json["code"]) for reply in await under_way} == {(401, "SIGNATURE_INVALID")}
    assert time.monotonic() - started < 10
    assert slowest < 1
    assert (await honest.register()).status == 201
    assert '"rpc_failed"' not in gate.said()


async def test_f078_a_contract_that_says_yes_to_all_is_its_own_fault_alone(gate: Running, chain: Chain) -> None:
    fickle = owned(gate, chain, "FickleWallet")
    shown = fickle.shown(await fickle.invite(), lambda text: "0x00")
    chain.do(ANYBODY, fickle.address, "turn(bool)", True)
    assert (await ask(gate, "wallet-register", shown)).status == 401
    chain.do(ANYBODY, fickle.address, "turn(bool)", False)
    replies = await asyncio.gather(*(ask(gate, "wallet-register", shown) for _ in range(10)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 9


async def test_f109_one_dollar_through_twenty_wallets(chain: Chain, program: Program, tmp_path: Path) -> None:
    """On the chain's own Transfer logs. Each wallet registers and passes the dollar on: one grant. Through wallets that
    nobody knows it looks like many: the day's budget holds."""
    async with RpcProxy(chain.url) as proxy:
        configured = relayed(chain, rpc=proxy.url, upstream=9, more=GRANTS)
        async with running(tmp_path, program, configured) as gate:
            holder = Newcomer(gate)
            chain.mint(holder.address, DOLLAR)
            withheld = []
            for _ in range(20):
                reply = await holder.register()
                assert reply.status == 201, reply.body
                withheld.append((reply.json["grant_withheld"] or {}).get("reason"))
                following = Newcomer(gate)
                passed_on(chain, holder.address, following.address)
                holder = following
            assert withheld == [None] + ["shared_funds"] * 19
            assert proxy.calls["eth_getLogs"] == 20, "one bounded question each"
            for _ in range(6):
                stranger = Account.create().address
                passed_on(chain, holder.address, stranger)
                following = Newcomer(gate)
                passed_on(chain, stranger, following.address)
                reply = await following.register()
                withheld.append((reply.json["grant_withheld"] or {}).get("reason"))
                holder = following
            assert withheld[20:] == [None] * 2 + ["budget_spent"] * 4
            assert proxy.calls["eth_getLogs"] == 22, "and none where there is nothing to give"


async def test_a_node_that_keeps_no_logs_and_one_that_is_down(chain: Chain, program: Program, tmp_path: Path) -> None:
    async def no_logs(proxy: RpcProxy, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": "range"}} for call in calls]

    async def down(proxy: RpcProxy, calls: list[dict[str, Any]]) -> int:
        return 502

    async with (
        RpcProxy(chain.url) as proxy,
        running(tmp_path, program, relayed(chain, rpc=proxy.url, upstream=9)) as gate,
    ):
        newcomer, unseen = Newcomer(gate), Newcomer(gate)
        for each in (newcomer, unseen):
            chain.mint(each.address, DOLLAR)
        rule = proxy.on("eth_getLogs", no_logs)
        reply = await unseen.register()
        assert (reply.status, reply.json["grant_withheld"]["reason"]) == (201, "unknown_funds")
        rule.times = 0
        shown = newcomer.shown(await newcomer.invite())
        rule = proxy.on("*", down)
        reply = await ask(gate, "wallet-register", shown)
        assert (reply.status, reply.json["code"]) == (503, "BALANCE_CHECK_UNAVAILABLE")
        rule.times = 0
        await asyncio.sleep(0.6)
        assert (await ask(gate, "wallet-register", shown)).status == 201, "nothing was consumed"
