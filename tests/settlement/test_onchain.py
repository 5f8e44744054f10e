"""What the chain is believed, through readers that lag, lie or break."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from rigs import rpc as rpcx_rig
from rigs.chain import EXACT_PROXY, PAYER_KEYS, USDC, Chain
from rigs.facilitator import call_of
from rigs.payer import Payer
from rigs.rpc import Behaviour, RpcProxy
from rigs.till import PAY_TO, TOKEN, Till

from gateway.core.settlement import Settled
from gateway.settlement.protocol import Admitted, Refused, Unknown
from gateway.settlement.relayer import Limits

pytestmark = pytest.mark.chain

STRANGER = Payer(PAYER_KEYS[5]).address
METHODS = ("eip3009", "permit2")
IMPATIENT = Limits(settle_wait_s=0.4)


async def settled_in(till: Till) -> None:
    """Waits until what a start does by itself is done."""
    async with asyncio.timeout(5):
        while not (health := await till.settler.health()).ready or not health.facts["keys"][0]["owner"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


def carry_out(chain: Chain, payment: dict[str, Any], **gas: str) -> str:
    """A stranger sends it."""
    return chain.send(STRANGER, *call_of(payment), gas=hex(400_000), **gas)


async def test_check_asks_everything_in_one_round_trip(open_till, rpcx: RpcProxy, payers: list[Payer]) -> None:
    till = await open_till(urls=[rpcx.url])
    await settled_in(till)
    for method in ("eip3009", "permit2"):
        payment = till.verified(payers[0].pay(till.ask(method=method)))
        await till.settler.check(payment)
        before = rpcx.requests
        assert isinstance(await till.settler.check(payment), Admitted)
        assert rpcx.requests == before + 1
    assert not any(name.startswith("eth_send") for name in rpcx.calls)


@pytest.mark.parametrize(
    "behaviour",
    [
        rpcx_rig.refuse, rpcx_rig.html, rpcx_rig.null, rpcx_rig.truncated, rpcx_rig.wrong_ids, rpcx_rig.endless,
        rpcx_rig.status(429), rpcx_rig.status(503), rpcx_rig.error(-32005, "limit exceeded"),
        rpcx_rig.error(-32603, "internal error"), rpcx_rig.error(-32000, "header not found"),
        rpcx_rig.answering("eth_chainId", "0x1"), rpcx_rig.answering("eth_call", 7),
        rpcx_rig.answering("eth_getCode", None),
        rpcx_rig.answering("eth_getBlockByNumber", None),
        rpcx_rig.answering("eth_getBlockByNumber", {"number": "0x-1"}),
        rpcx_rig.answering("eth_getBalance", "0x" + "f" * 80), rpcx_rig.delay(0.5),
    ],
)  # fmt: skip
async def test_f042_a_broken_node_claims_nothing_and_sends_nothing(
    open_till, rpcx: RpcProxy, payers: list[Payer], chain: Chain, behaviour: Behaviour
) -> None:
    rpcx.on("*", behaviour)
    till = await open_till(urls=[rpcx.url], timeout_s=0.2, limits=Limits(settle_wait_s=0.25))
    nonces = chain.nonce(till.settler.facilitator_addresses(till.network)[0])
    assert isinstance(await till.settler.check(till.verified(payers[0].pay(till.ask()))), Unknown)
    settlement = till.pay(payers[0])
    assert isinstance(await till.settle(settlement), Unknown)
    assert isinstance(await till.find(settlement), Unknown)
    assert chain.nonce(till.settler.facilitator_addresses(till.network)[0]) == nonces
    assert not (await till.settler.health()).ready


async def test_f042_a_node_that_likes_everything_does_not_make_a_forgery_good(
    open_till, rpcx: RpcProxy, payers: list[Payer], chain: Chain
) -> None:
    till = await open_till(urls=[rpcx.url])
    rpcx.on("*", rpcx_rig.answering("eth_call", "0x" + "1" * 64))
    forged = Payer(PAYER_KEYS[6], wallet=payers[0].address, now=lambda: chain.now)
    assert isinstance(await till.settler.check(till.verified(forged.pay(till.ask()))), Refused)


async def test_f042_an_absurd_gas_price_never_goes_above_the_cap(
    open_till, rpcx: RpcProxy, payers: list[Payer]
) -> None:
    rpcx.on("*", rpcx_rig.answering("eth_maxPriorityFeePerGas", hex(10**18)))
    till = await open_till(urls=[rpcx.url], limits=Limits(max_fee_wei=30 * 10**9))
    assert isinstance(await till.settle(till.pay(payers[0])), Settled)
    assert till.journal.attempts[0].max_fee_per_gas <= 30 * 10**9


async def test_the_next_url_answers_for_the_first(open_till, rpcx: RpcProxy, payers: list[Payer], chain: Chain) -> None:
    for behaviour in (rpcx_rig.refuse, rpcx_rig.html, rpcx_rig.answering("eth_chainId", "0x1")):
        rpcx.heal()
        rpcx.on("*", behaviour)
        till = await open_till(urls=[rpcx.url, chain.url])
        assert isinstance(await till.settler.check(till.verified(payers[0].pay(till.ask()))), Admitted)
        assert isinstance(await till.settle(till.pay(payers[0])), Settled)
        await till.settler.close()


async def test_f041_a_lagging_replica_makes_nobody_poor(open_till, rpcx: RpcProxy, chain: Chain) -> None:
    """A purse was filled and a wallet approved two blocks ago; every other reader has not heard of it."""
    newcomer = Payer(b"\x24" * 32, now=lambda: chain.now)
    chain.gas_money(newcomer.address, 10**18)
    till = await open_till(urls=[rpcx.url])
    chain.mint(newcomer.address, 5000)
    chain.approve_permit2(newcomer.address)
    await settled_in(till)
    assert isinstance(await till.settler.check(till.verified(newcomer.pay(till.ask()))), Admitted)
    rpcx.on("*", rpcx_rig.in_turn(None, rpcx_rig.stale(3)))
    for method in ("eip3009", "permit2") * 3:
        admitted = await till.settler.check(till.verified(newcomer.pay(till.ask(method=method))))
        assert isinstance(admitted, Admitted), admitted


async def test_f041_a_lagging_replica_loses_no_transaction(
    open_till, rpcx: RpcProxy, payers: list[Payer], chain: Chain
) -> None:
    till = await open_till(urls=[rpcx.url])
    rpcx.on("*", rpcx_rig.in_turn(None, rpcx_rig.stale(2), rpcx_rig.stale(1)))
    before = chain.balance(PAY_TO)
    for i in range(6):
        settlement = till.pay(payers[i])
        outcome = await till.settle(settlement)
        assert isinstance(outcome, Settled), outcome
        found = await till.find(settlement)
        assert isinstance(found, Settled)
    nonces = [attempt.nonce for attempt in till.journal.attempts]
    assert nonces == sorted(set(nonces))
    assert chain.balance(PAY_TO) == before + 6000


async def test_f041_no_no_from_one_reader(open_till, rpcx: RpcProxy, payers: list[Payer], chain: Chain) -> None:
    """The logs of a paid authorization are missing at one reader: that is not a refusal."""
    till = await open_till(urls=[rpcx.url])
    payment = payers[0].pay(till.ask())
    settlement = till.queue(till.verified(payment))
    carry_out(chain, payment)
    chain.mine(15)
    rpcx.on("eth_getLogs", rpcx_rig.answering("eth_getLogs", []), times=1)
    assert not isinstance(await till.find(settlement), Refused)
    assert isinstance(await till.find(settlement), Settled)


async def test_a_chain_that_went_back_for_good_is_believed_in_the_end(
    open_till, rpcx: RpcProxy, payers: list[Payer], chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    till = await open_till(urls=[rpcx.url], timeout_s=0.3)
    payment = till.verified(payers[0].pay(till.ask()))
    assert isinstance(await till.settler.check(payment), Admitted)
    rpcx.on("*", rpcx_rig.stale(3))
    assert isinstance(await till.settler.check(payment), Unknown)
    monkeypatch.setattr("gateway.settlement.rpc.REWIND_AFTER_S", 0.1)
    assert isinstance(await till.settler.check(payment), Admitted)


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
async def test_f046_a_strangers_transaction_is_proof_too(
    till: Till, payers: list[Payer], chain: Chain, method: str
) -> None:
    payment = payers[0].pay(till.ask(method=method))
    settlement = till.queue(till.verified(payment))
    hash = carry_out(chain, payment)
    found = await till.settle(settlement)
    assert isinstance(found, Settled)
    assert found.transaction == hash
    assert till.journal.attempts == [], "there was nothing left to send"


async def test_a_plain_transfer_of_the_same_amount_proves_nothing(
    till: Till, payers: list[Payer], chain: Chain
) -> None:
    """A Permit2 payment is not paid by another transfer from the same payer, however alike."""
    payment = payers[0].pay(till.ask(method="permit2"))
    settlement = till.queue(till.verified(payment))
    chain.do(payers[0].address, USDC, "transfer(address,uint256)", PAY_TO, 1000)
    other = payers[0].pay(till.ask(method="permit2"))
    carry_out(chain, other)
    chain.mine(15)
    assert isinstance(await till.find(settlement), Unknown)
    # The payer takes the nonce back: used at depth, and never paid.
    signed = payment["payload"]["permit2Authorization"]
    word, bit = int(signed["nonce"]) >> 8, 1 << (int(signed["nonce"]) & 255)
    chain.do(payers[0].address, "0x000000000022D473030F116dDEE9F6B43aC78BA3",
             "invalidateUnorderedNonces(uint256,uint256)", word, bit)  # fmt: skip
    assert isinstance(await till.find(settlement), Unknown), "not deep enough to be sure"
    chain.mine(12)
    assert isinstance(await till.find(settlement), Refused)


async def test_a_proof_needs_its_depth(open_till, payers: list[Payer], chain: Chain) -> None:
    till = await open_till(proof_depth=3, limits=IMPATIENT)
    settlement = till.pay(payers[0])
    assert isinstance(await till.settle(settlement), Unknown)
    chain.mine(2)
    found = await till.settle(settlement)
    assert isinstance(found, Settled)
    assert not found.final
    chain.mine(9)
    assert (await till.find(settlement)).final


async def test_logs_are_read_in_pieces(
    till: Till, payers: list[Payer], chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.settlement.onchain.LOG_BLOCKS_MAX", 3)
    payment = payers[0].pay(till.ask(timeout_s=600))
    settlement = till.queue(till.verified(payment))
    chain.mine(7)
    hash = carry_out(chain, payment)
    chain.mine(8)
    found = await till.find(settlement)
    assert isinstance(found, Settled)
    assert found.transaction == hash


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "USD Coin"}, "signing domain"),
        ({"version": "1"}, "signing domain"),
        ({"decimals": 18}, "6 decimals"),
        ({"address": "0x" + "12" * 20}, "no contract"),
    ],
)
async def test_f050_f083_a_token_that_is_not_as_configured_is_not_taken(
    open_till, payers: list[Payer], change: dict[str, Any], told: str
) -> None:
    till = await open_till(token=replace(TOKEN, **change))
    (finding,) = [each for each in await till.settler.chain.describe(METHODS) if each.ok is False]
    assert told in finding.message
    async with asyncio.timeout(2):
        while "settlement_misconfigured" not in (await till.settler.health()).alarms:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not (await till.settler.health()).ready
    assert isinstance(await till.settler.check(till.verified(payers[0].pay(till.ask()))), Unknown)


async def test_describe_tells_what_is_missing(open_till, chain: Chain) -> None:
    till = await open_till()
    assert all(finding.ok for finding in await till.settler.chain.describe(METHODS))
    chain.rpc("anvil_setCode", EXACT_PROXY, "0x")
    (wrong,) = [finding for finding in await till.settler.chain.describe(METHODS) if not finding.ok]
    assert EXACT_PROXY in wrong.message
    assert all(finding.ok for finding in await till.settler.chain.describe(["eip3009"]))


async def test_a_chain_out_of_reach_does_not_stop_the_start(open_till, payers: list[Payer]) -> None:
    till = await open_till(urls=["http://127.0.0.1:9"], limits=IMPATIENT)
    (finding,) = await till.settler.chain.describe(METHODS)
    assert finding.ok is None
    assert not (await till.settler.health()).ready
    assert "rpc_unreachable" in (await till.settler.health()).alarms


async def test_f082_a_frozen_payee_or_a_paused_token_is_our_alarm(
    till: Till, payers: list[Payer], chain: Chain
) -> None:
    payment = till.verified(payers[0].pay(till.ask()))
    chain.freeze(PAY_TO)
    assert isinstance(await till.settler.check(payment), Unknown)
    assert "pay_to_frozen" in (await till.settler.health()).alarms
    assert not (await till.settler.health()).ready
    chain.freeze(PAY_TO, False)
    chain.pause()
    assert isinstance(await till.settler.check(payment), Unknown)
    assert "token_paused" in (await till.settler.health()).alarms
    chain.pause(False)
    assert isinstance(await till.settler.check(payment), Admitted)
    assert (await till.settler.health()).alarms == ()
