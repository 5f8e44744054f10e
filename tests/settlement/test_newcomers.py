"""What a chain says of a wallet that registers: the sandbox and a real chain are asked the same."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from eth_account import Account
from rigs.chain import CHAIN_ID, MULTICALL3, PAYER_KEYS, USDC, Chain, aggregate3, calldata
from rigs.payer import Payer
from rigs.rpc import Calls, RpcProxy
from rigs.till import NETWORK_HERE, PAY_TO

from gateway.core.networks import SANDBOX
from gateway.settlement.onchain import LOG_BLOCKS_MAX, LOG_LOOKS_MAX
from gateway.settlement.protocol import SENDERS_MAX, Holding, Senders, SignedText, Unknown, Wallets
from gateway.settlement.rpc import Rpc
from gateway.settlement.sandbox import Sandbox, Weather
from gateway.settlement.wallets import ChainWallets

DOLLAR = 1_000_000
SPAN_BLOCKS = LOG_BLOCKS_MAX + 100
"""So many are looked back at: a range, and a part of another one."""
Send = Callable[[str, str, int], None]


@pytest.fixture
def wallets(chain: Chain, http: aiohttp.ClientSession) -> ChainWallets:
    return looking_back(SPAN_BLOCKS, http, chain.url)


def through(proxy: RpcProxy, http: aiohttp.ClientSession) -> ChainWallets:
    return looking_back(SPAN_BLOCKS, http, proxy.url, timeout_s=1)


def looking_back(blocks: int, http: aiohttp.ClientSession, url: str, timeout_s: float = 5) -> ChainWallets:
    rpc = Rpc(http, [url], chain_id=CHAIN_ID, timeout_s=timeout_s)
    network = replace(NETWORK_HERE, block_time_s=2.0)
    return ChainWallets({network.id: (network, rpc)}, looks_back_s=2 * blocks)


async def the_same(wallets: Wallets, network: str, give: Callable[[str, int], None], send: Send) -> None:
    ann, bob = Account.create().address, Account.create().address
    give(ann, 3 * DOLLAR)
    send(ann, bob, DOLLAR)
    send(ann, bob, 5)
    holding = await wallets.holding(network, bob)
    assert isinstance(holding, Holding)
    assert holding.micros == DOLLAR + 5
    senders = await wallets.senders(network, bob, holding)
    assert senders == Senders({ann.lower(): DOLLAR + 5}, 0)
    empty = await wallets.holding(network, Account.create().address)
    assert isinstance(empty, Holding)
    assert empty.micros == 0
    assert await wallets.confirms(network, bob, [SignedText(bytes(32), bytes(65))]) is False
    assert isinstance(await wallets.holding("eip155:7", bob), Unknown)
    assert isinstance(await wallets.senders("eip155:7", bob, holding), Unknown)
    assert isinstance(await wallets.confirms("eip155:7", bob, []), Unknown)


async def test_on_a_chain(wallets: ChainWallets, chain: Chain) -> None:
    def send(sender: str, receiver: str, amount: int) -> None:
        chain.gas_money(sender, 10**18)
        chain.do(sender, USDC, "transfer(address,uint256)", receiver, amount)

    await the_same(wallets, NETWORK_HERE.id, chain.mint, send)


async def test_in_the_sandbox() -> None:
    sandbox = Sandbox(pay_to=PAY_TO, clock=lambda: 0.0)
    await the_same(sandbox, SANDBOX, sandbox.fund, sandbox.send)
    sandbox.weather = Weather.UNREACHABLE
    assert isinstance(await sandbox.holding(SANDBOX, PAY_TO), Unknown)


async def test_f109_what_came_long_ago_is_not_looked_at(wallets: ChainWallets, chain: Chain) -> None:
    payer, receiver = Payer(PAYER_KEYS[0]).address, Account.create().address
    chain.do(payer, USDC, "transfer(address,uint256)", receiver, DOLLAR)
    chain.mine(SPAN_BLOCKS - 1)
    holding = await wallets.holding(NETWORK_HERE.id, receiver)
    assert isinstance(holding, Holding)
    assert await wallets.senders(NETWORK_HERE.id, receiver, holding) == Senders({payer.lower(): DOLLAR}, 0)
    chain.mine()
    holding = await wallets.holding(NETWORK_HERE.id, receiver)
    assert isinstance(holding, Holding)
    assert await wallets.senders(NETWORK_HERE.id, receiver, holding) == Senders({}, 0)


@pytest.mark.parametrize(
    ("blocks", "ranges"),
    [(5, [5]), (LOG_BLOCKS_MAX + 3, [LOG_BLOCKS_MAX, 3]), (10**9, [LOG_BLOCKS_MAX] * LOG_LOOKS_MAX)],
)
async def test_f109_what_looking_back_costs_is_bounded(
    rpcx: RpcProxy, http: aiohttp.ClientSession, blocks: int, ranges: list[int]
) -> None:
    """One batch, of ranges that follow on each other and end with the block of the balance, however long a day is."""
    block = 10**6
    asked: list[tuple[int, int]] = []

    async def answer(proxy: RpcProxy, calls: Calls) -> Any:
        of_block = {"number": hex(block), "hash": "0x" + "11" * 32, "timestamp": "0x1"}
        told = {"eth_chainId": hex(CHAIN_ID), "eth_getBlockByNumber": of_block, "eth_getLogs": []}
        spans = [call["params"][0] for call in calls if call["method"] == "eth_getLogs"]
        asked.extend((int(span["fromBlock"], 16), int(span["toBlock"], 16)) for span in spans)
        return [{"jsonrpc": "2.0", "id": call["id"], "result": told[call["method"]]} for call in calls]

    rpcx.on("*", answer)
    holding = Holding(NETWORK_HERE.tokens[0], DOLLAR, block)
    found = await looking_back(blocks, http, rpcx.url).senders(NETWORK_HERE.id, PAY_TO, holding)
    assert found == Senders({}, 0)
    assert [last - first + 1 for first, last in asked] == ranges
    assert [first for first, _ in asked] == [block - sum(ranges) + 1 + sum(ranges[:n]) for n in range(len(ranges))]
    assert rpcx.requests == 1


async def test_a_node_that_has_not_seen_what_came_last_is_not_believed(
    rpcx: RpcProxy, http: aiohttp.ClientSession, chain: Chain
) -> None:
    wallets = through(rpcx, http)
    holding = await wallets.holding(NETWORK_HERE.id, PAY_TO)
    assert isinstance(holding, Holding)
    later = replace(holding, block=holding.block + 1)
    assert isinstance(await wallets.senders(NETWORK_HERE.id, PAY_TO, later), Unknown)
    chain.mine()
    assert isinstance(await wallets.senders(NETWORK_HERE.id, PAY_TO, later), Senders)


async def test_f109_a_transaction_without_money_takes_nothing_from_a_stranger(
    wallets: ChainWallets, chain: Chain
) -> None:
    """F-109: anybody may move nothing from anybody to anybody. Those are no senders, however many."""
    victim, griefer = Account.create().address, Account.create().address
    chain.mint(victim, 5 * DOLLAR)
    chain.gas_money(griefer, 10**20)
    crowd = [f"0x{number:040x}" for number in range(1000, 1001 + SENDERS_MAX)]
    moves = [calldata("transferFrom(address,address,uint256)", sender, victim, 0) for sender in crowd]
    calls = [(USDC, False, bytes.fromhex(move[2:])) for move in moves]
    assert chain.mined(chain.send(griefer, MULTICALL3, aggregate3(calls), gas=hex(20_000_000)))["status"] == "0x1"
    holding = await wallets.holding(NETWORK_HERE.id, victim)
    assert isinstance(holding, Holding)
    found = await wallets.senders(NETWORK_HERE.id, victim, holding)
    assert isinstance(found, Senders)
    assert (sum(found.most.values()), found.others_micros) == (5 * DOLLAR, 0)
    assert not found.most.keys() & set(crowd)


def test_f109_of_a_crowd_those_are_told_who_have_sent_most() -> None:
    came = {f"0x{amount:040x}": amount for amount in range(SENDERS_MAX + 4)}
    assert Senders.of(came, 6) == Senders({f"0x{n:040x}": n for n in range(4, SENDERS_MAX + 4)}, 1 + 2 + 3)


ODD: list[Any] = [
    None, "0x", {}, [1], [{}], [{"topics": [], "data": "0x"}], [{"topics": ["0x", "0x", "0x"], "data": "0x01"}],
    [{"topics": ["0x", "zz", "0x"], "data": "0x" + "00" * 32}],
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:30])
async def test_logs_that_are_none_are_unknown(rpcx: RpcProxy, http: aiohttp.ClientSession, odd: Any) -> None:
    async def answer(proxy: RpcProxy, calls: Calls) -> Any:
        return [{"jsonrpc": "2.0", "id": call["id"], "result": odd} for call in calls]

    wallets = through(rpcx, http)
    holding = await wallets.holding(NETWORK_HERE.id, PAY_TO)
    assert isinstance(holding, Holding)
    rpcx.on("eth_getLogs", answer)
    assert isinstance(await wallets.senders(NETWORK_HERE.id, PAY_TO, holding), Unknown)


@pytest.mark.parametrize("message", ["invalid jump destination", "stack underflow (0 <=> 1)", "execution timeout"])
async def test_f078_whatever_goes_wrong_in_a_contract_is_its_no(
    rpcx: RpcProxy, http: aiohttp.ClientSession, chain: Chain, message: str
) -> None:
    """Nodes have many words for it; none of them is a reason to ask that node no more."""

    async def answer(proxy: RpcProxy, calls: Calls) -> Any:
        answers = await proxy.forward(calls)
        answers[-1] = {"jsonrpc": "2.0", "id": answers[-1]["id"], "error": {"code": -32000, "message": message}}
        return answers

    wallet = chain.place("Wallet", owner=PAY_TO)
    wallets = through(rpcx, http)
    rpcx.on("eth_call", answer, times=1)
    assert await wallets.confirms(NETWORK_HERE.id, wallet, [SignedText(bytes(32), bytes(65))]) is False
    assert rpcx.requests == 1
    assert isinstance(await wallets.holding(NETWORK_HERE.id, wallet), Holding)


async def test_of_two_texts_both_have_to_be_confirmed(wallets: ChainWallets, chain: Chain) -> None:
    account: Any = Account.create()
    wallet = chain.place("Wallet", owner=account.address)
    ask: Callable[[list[SignedText]], Awaitable[bool | Unknown]] = lambda texts: wallets.confirms(  # noqa: E731
        NETWORK_HERE.id, wallet, texts
    )
    good, other = (
        SignedText(bytes([n]) * 32, bytes(account.unsafe_sign_hash(bytes([n]) * 32).signature)) for n in (1, 2)
    )
    assert await ask([good, other]) is True
    assert await ask([good, SignedText(other.digest, good.signature)]) is False
