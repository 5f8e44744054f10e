"""One key's nonces under everything that can go wrong between us and a block."""

import asyncio
import dataclasses

import pytest
from eth_account import Account
from eth_utils import keccak
from rigs import chain as chain_rig
from rigs import rpc as rpcx_rig
from rigs.chain import PAYER_KEYS, PERMIT2, RELAYER_KEY, USDC, Chain
from rigs.facilitator import call_of
from rigs.journal import MemoryJournal
from rigs.payer import Payer, permit_arguments
from rigs.rpc import RpcProxy
from rigs.till import PAY_TO, Till
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC
from x402.mechanisms.evm.upto.client import UptoEvmScheme
from x402.schemas import PaymentRequirements

from gateway.core.settlement import Settled
from gateway.core.x402 import eip2612
from gateway.core.x402.verify import Verified
from gateway.settlement import transactions
from gateway.settlement.protocol import Admitted, Refused, Unknown
from gateway.settlement.relayer import Limits
from gateway.settlement.transactions import Key

pytestmark = pytest.mark.chain

RELAYER = Key(RELAYER_KEY).address
QUICK = Limits(settle_wait_s=0.3)


def hashes(till: Till) -> list[str]:
    return [attempt.hash for attempt in till.journal.attempts]


async def eventually(condition, seconds: float = 5.0) -> None:
    """Waits until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 what is waited for is outside, and tells nobody
            await asyncio.sleep(0.01)


async def settle_all(till: Till, settlements: list) -> list:
    return await asyncio.gather(*(till.settle(settlement) for settlement in settlements))


async def test_f034_a_hundred_at_once_without_a_gap(till: Till, payers: list[Payer], chain: Chain) -> None:
    chain.automine(False)
    first = chain.nonce(RELAYER)
    settlements = [till.pay(payers[i % 9], 1000 + i, method=("eip3009", "permit2")[i % 5 == 0]) for i in range(100)]
    waiting = asyncio.create_task(settle_all(till, settlements))
    while not waiting.done():
        chain.mine()
        await asyncio.sleep(0.02)
    assert [outcome for outcome in waiting.result() if not isinstance(outcome, Settled)] == []
    nonces = sorted(attempt.nonce for attempt in till.journal.attempts)
    assert nonces == list(range(first, first + len(nonces)))
    assert chain.nonce(RELAYER) == first + len(nonces)
    assert len(nonces) <= 40, "payments share transactions"
    assert {attempt.number for attempt in till.journal.attempts} == {0}


PREFLIGHT = "eth_getCode"


async def test_what_check_has_just_seen_is_not_asked_again(
    open_till, rpcx: RpcProxy, chain: Chain, payers: list[Payer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FRESH_S", "FRESH_BLOCKS", "TIP_EVERY_S"):  # however long this machine takes
        monkeypatch.setattr(f"gateway.settlement.lane.{name}", 3600.0)
    till = await open_till(urls=[rpcx.url])
    assert isinstance(await till.settle(till.pay(payers[0])), Settled)  # the price of gas is known from here on

    async def asked(paid: list[Verified], *, check: bool = True) -> int:
        """Questions for code, which every preflight asks, between check and the proof."""
        if check:
            for payment in paid:
                assert isinstance(await till.settler.check(payment), Admitted)
        before = rpcx.calls[PREFLIGHT]
        outcomes = await settle_all(till, [till.queue(payment) for payment in paid])
        assert [outcome for outcome in outcomes if not isinstance(outcome, Settled)] == []
        return rpcx.calls[PREFLIGHT] - before

    def payment(payer: Payer, method: str = "eip3009") -> Verified:
        return till.verified(payer.pay(till.ask(method=method)))

    assert await asked([payment(payers[1])]) == 0
    assert await asked([payment(payers[1], "permit2")]) == 0
    assert await asked([payment(payer) for payer in payers[1:5]]) == 0
    assert await asked([payment(payers[1])], check=False) > 0
    chain.delegate(payers[6].address)
    assert await asked([payment(payers[6])]) > 0
    monkeypatch.setattr("gateway.settlement.lane.FRESH_S", 0.0)
    assert await asked([payment(payers[1])]) > 0


async def test_a_payment_that_fails_after_all_is_looked_into(open_till, payers: list[Payer], chain: Chain) -> None:
    """It went well in `check`, and its payer has moved the money since. Whoever shares its transaction is paid; of its
    own nothing is sure until that transaction is deep, and then it is refused without another one."""
    till = await open_till(limits=QUICK)
    await till.settle(till.pay(payers[0]))
    payments = [till.verified(payer.pay(till.ask())) for payer in payers[1:4]]
    for payment in payments:
        assert isinstance(await till.settler.check(payment), Admitted)
    chain.do(payers[2].address, USDC, "transfer(address,uint256)", PAY_TO, chain.balance(payers[2].address))
    settlements = [till.queue(payment) for payment in payments]
    outcomes = await settle_all(till, settlements)
    assert [type(outcome) for outcome in outcomes] == [Settled, Unknown, Settled]
    chain.mine(12)
    async with asyncio.timeout(5):
        while isinstance(refused := await till.settle(settlements[1]), Unknown):  # noqa: ASYNC110 as above
            await asyncio.sleep(0.05)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.final) == ("invalid_exact_evm_insufficient_balance", False)
    assert [attempt.settlements for attempt in till.journal.attempts if settlements[1].id in attempt.settlements] == [
        tuple(settlement.id for settlement in settlements)
    ]


async def test_a_batch_costs_less_gas_a_payment(till: Till, payers: list[Payer], chain: Chain) -> None:
    await till.settle(till.pay(payers[0]))
    alone = int(chain.receipt(hashes(till)[0])["gasUsed"], 16)
    await settle_all(till, [till.pay(payers[i % 9]) for i in range(16)])
    batch = [int(chain.receipt(hash)["gasUsed"], 16) for hash in hashes(till)[1:]]
    assert sum(batch) / 16 < 0.7 * alone


async def test_f035_a_refused_broadcast_blocks_nothing(open_till, rpcx: RpcProxy, payers: list[Payer]) -> None:
    till = await open_till(urls=[rpcx.url])
    rpcx.on("eth_sendRaw", rpcx_rig.refuse, times=2)
    assert isinstance(await till.settle(till.pay(payers[0])), Settled)
    outcomes = await settle_all(till, [till.pay(payers[i % 9]) for i in range(20)])
    assert [outcome for outcome in outcomes if not isinstance(outcome, Settled)] == []
    nonces = sorted(attempt.nonce for attempt in till.journal.attempts)
    assert nonces == list(range(nonces[0], nonces[0] + len(nonces)))


async def test_a_lost_reply_is_no_second_transaction(
    open_till, rpcx: RpcProxy, payers: list[Payer], chain: Chain
) -> None:
    till = await open_till(urls=[rpcx.url])
    before = chain.balance(PAY_TO)
    rpcx.on("eth_sendRaw", rpcx_rig.lose_reply, times=1)
    assert isinstance(await till.settle(till.pay(payers[0])), Settled)
    assert len(till.journal.attempts) == 1
    assert chain.balance(PAY_TO) == before + 1000


async def test_a_node_without_the_synchronous_send_is_polled(
    open_till, rpcx: RpcProxy, payers: list[Payer], chain: Chain
) -> None:
    till = await open_till(urls=[rpcx.url])
    rpcx.on("eth_sendRawTransactionSync", rpcx_rig.lacking("eth_sendRawTransactionSync"))
    for _ in range(3):
        assert isinstance(await till.settle(till.pay(payers[0])), Settled)
    assert rpcx.calls["eth_sendRawTransactionSync"] == 1
    assert rpcx.calls["eth_sendRawTransaction"] == 3


async def test_f037_blocks_stop_and_nothing_is_sent_anew(open_till, payers: list[Payer], chain: Chain) -> None:
    till = await open_till(limits=QUICK)
    chain.automine(False)
    before = chain.balance(PAY_TO)
    settlements = [till.pay(payer) for payer in payers]
    outcomes = await settle_all(till, settlements)
    assert all(isinstance(outcome, Unknown) for outcome in outcomes)
    assert all(outcome.transaction in hashes(till) for outcome in outcomes)
    sent = hashes(till)
    again = await settle_all(till, settlements)
    assert all(isinstance(outcome, Unknown) for outcome in again)
    assert hashes(till) == sent
    chain.mine()
    assert all(isinstance(outcome, Settled) for outcome in await settle_all(till, settlements))
    assert hashes(till) == sent
    assert chain.balance(PAY_TO) == before + 9000


async def test_f038_a_jump_of_fees_is_followed(open_till, payers: list[Payer], chain: Chain) -> None:
    till = await open_till(limits=Limits(settle_wait_s=8.0))
    chain.automine(False)
    waiting = asyncio.create_task(settle_all(till, [till.pay(payers[i % 9], 1000 + i) for i in range(50)]))
    await eventually(lambda: chain.pool())
    while not waiting.done():
        chain.base_fee(20 * 10**9)
        chain.mine()
        await asyncio.sleep(0.05)
    assert [outcome for outcome in waiting.result() if not isinstance(outcome, Settled)] == []
    replaced = [attempt for attempt in till.journal.attempts if attempt.number > 0]
    assert replaced, "what was sent before the jump could never be mined"
    for attempt in replaced:
        (original,) = [a for a in till.journal.attempts if a.nonce == attempt.nonce and a.number == 0]
        old, new = transactions.read(original.raw), transactions.read(attempt.raw)
        assert (new.to, new.data, new.gas) == (old.to, old.data, old.gas)
        assert new.max_fee >= old.max_fee * 11 // 10


async def test_f038_no_more_than_the_cap_is_ever_offered(open_till, payers: list[Payer], chain: Chain) -> None:
    till = await open_till(limits=Limits(settle_wait_s=0.3, max_fee_wei=5 * 10**9))
    chain.automine(False)
    first = till.pay(payers[0])
    assert isinstance(await till.settle(first), Unknown)
    for _ in range(6):
        chain.base_fee(20 * 10**9)
        chain.mine()
        await asyncio.sleep(0.05)
    assert isinstance(await till.settle(till.pay(payers[1])), Unknown)
    assert isinstance(await till.settler.check(till.verified(payers[2].pay(till.ask()))), Unknown)
    assert "gas_too_dear" in (await till.settler.health()).alarms
    assert max(attempt.max_fee_per_gas for attempt in till.journal.attempts) <= 5 * 10**9
    chain.automine(True)
    chain.base_fee(10**9)
    chain.mine()
    for _ in range(10):
        outcome = await till.settle(first)
        if isinstance(outcome, Settled):
            return
    raise AssertionError(outcome)


async def test_f039_dropped_bytes_are_sent_again(till: Till, payers: list[Payer], chain: Chain) -> None:
    chain.automine(False)
    waiting = asyncio.create_task(till.settle(till.pay(payers[0])))
    await eventually(lambda: chain.pool())
    (hash,) = hashes(till)
    chain.drop(hash)
    assert not chain.pool()
    await eventually(lambda: chain.pool())
    chain.mine()
    assert (await waiting).transaction == hash
    assert hashes(till) == [hash]


async def test_f039_what_expired_in_the_pool_is_never_paid(open_till, payers: list[Payer], chain: Chain) -> None:
    till = await open_till(limits=QUICK)
    chain.automine(False)
    before = chain.balance(PAY_TO)
    settlement = till.pay(payers[0])
    assert isinstance(await till.settle(settlement), Unknown)
    chain.drop(hashes(till)[0])
    chain.pass_time(130)
    chain.mine(12)
    await eventually(lambda: not chain.pool())
    chain.mine(12)
    found = await till.find(settlement)
    assert isinstance(found, Refused)
    assert found.reason == "invalid_exact_evm_payload_authorization_valid_before"
    assert chain.balance(PAY_TO) == before
    # The nonce is free again for whoever comes next.
    chain.automine(True)
    assert isinstance(await till.settle(till.pay(payers[1])), Settled)


async def test_f043_no_gas_money_is_unknown_and_an_alarm(till: Till, payers: list[Payer], chain: Chain) -> None:
    chain.gas_money(RELAYER, 0)
    payment = till.verified(payers[0].pay(till.ask()))
    assert isinstance(await till.settler.check(payment), Unknown)
    assert "relayer_funds_low" in (await till.settler.health()).alarms
    chain.gas_money(RELAYER, 10**20)
    assert isinstance(await till.settler.check(payment), Admitted)
    assert "relayer_funds_low" not in (await till.settler.health()).alarms


async def test_f043_money_that_ran_out_on_the_way_is_waited_for(open_till, payers: list[Payer], chain: Chain) -> None:
    till = await open_till(limits=QUICK)
    chain.gas_money(RELAYER, 0)
    settlement = till.pay(payers[0])
    assert isinstance(await till.settle(settlement), Unknown)
    chain.gas_money(RELAYER, 10**20)
    await asyncio.sleep(0.1)
    outcome = await till.settle(settlement)
    assert isinstance(outcome, Settled)


async def test_f046_whoever_comes_first_pays_us_once(till: Till, payers: list[Payer], chain: Chain) -> None:
    """A stranger takes the authorization out of the pool and is mined before us."""
    before = chain.balance(PAY_TO)
    for method in ("eip3009", "permit2"):
        chain.automine(False)
        payment = payers[0].pay(till.ask(method=method))
        settlement = till.queue(till.verified(payment))
        waiting = asyncio.create_task(till.settle(settlement))
        await eventually(lambda: RELAYER.lower() in chain.pool())
        stranger = chain.send(
            payers[5].address, *call_of(payment),
            gas=hex(300_000), maxFeePerGas=hex(90 * 10**9), maxPriorityFeePerGas=hex(50 * 10**9),
        )  # fmt: skip
        chain.mine()
        ours = hashes(till)[-1]
        assert chain.receipt(stranger)["status"] == "0x1"
        assert chain.receipt(ours)["status"] == "0x0"
        outcome = await waiting
        assert isinstance(outcome, Settled)
        assert outcome.transaction == stranger
        chain.automine(True)
        chain.mine(13)
        await eventually(lambda: len(till.journal.closed_nonces) == len(till.journal.attempts))
    assert till.journal.retried == []
    assert chain.balance(PAY_TO) == before + 2000


async def test_f048_nonces_used_by_others_lose_and_repeat_nothing(
    till: Till, payers: list[Payer], chain: Chain
) -> None:
    before = chain.balance(PAY_TO)
    for i in range(6):
        chain.send(RELAYER, payers[0].address)
        assert isinstance(await till.settle(till.pay(payers[i])), Settled)
        chain.send(RELAYER, payers[0].address)
    assert chain.balance(PAY_TO) == before + 6000


async def test_f048_a_nonce_taken_from_under_us_is_given_up_at_depth(
    till: Till, payers: list[Payer], chain: Chain
) -> None:
    chain.automine(False)
    settlement = till.pay(payers[0])
    waiting = asyncio.create_task(till.settle(settlement))
    await eventually(lambda: chain.pool())
    (ours,) = till.journal.attempts
    chain.drop(ours.hash)
    foreign = chain.send(RELAYER, payers[0].address, maxFeePerGas=hex(90 * 10**9), maxPriorityFeePerGas=hex(10**9))
    chain.mine()
    assert chain.receipt(foreign)["status"] == "0x1"
    await asyncio.sleep(0.2)
    assert len(till.journal.attempts) == 1, "not deep enough to be sure"
    chain.mine(12)
    await eventually(lambda: len(till.journal.attempts) == 2)
    assert till.journal.closed_nonces[(ours.network, ours.key, ours.nonce)] is None
    chain.automine(True)
    chain.mine()
    assert isinstance(await waiting, Settled)


async def test_f049_mined_after_expiry_ends_unpaid(open_till, payers: list[Payer], chain: Chain) -> None:
    till = await open_till(limits=QUICK)
    before = chain.balance(PAY_TO)
    for method in ("eip3009", "permit2"):
        chain.automine(False)
        settlement = till.pay(payers[0], method=method)
        assert isinstance(await till.settle(settlement), Unknown)
        chain.next_block_at(settlement.valid_before_s)
        chain.mine()
        assert chain.receipt(hashes(till)[-1])["status"] == "0x0"
        assert isinstance(await till.find(settlement), Unknown), "a reorganisation may still bring it in time"
        chain.mine(12)
        assert isinstance(await till.find(settlement), Refused)
    assert chain.balance(PAY_TO) == before


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
async def test_f049_the_last_second_counts(till: Till, payers: list[Payer], chain: Chain, method: str) -> None:
    chain.automine(False)
    settlement = till.pay(payers[0], method=method)
    waiting = asyncio.create_task(till.settle(settlement))
    await eventually(lambda: chain.pool())
    chain.next_block_at(settlement.valid_before_s - 1)
    chain.mine()
    assert isinstance(await waiting, Settled)


async def test_who_died_after_writing_sends_the_same_bytes(
    open_till, rpcx: RpcProxy, payers: list[Payer], chain: Chain
) -> None:
    """The journal has the attempt, the node has nothing: the next process sends exactly that."""
    journal = MemoryJournal()
    dead = await open_till(urls=[rpcx.url], journal=journal, limits=QUICK)
    rpcx.on("eth_sendRaw", rpcx_rig.refuse)
    settlement = dead.pay(payers[0])
    assert isinstance(await dead.settle(settlement), Unknown)
    await dead.settler.close()
    (written,) = journal.attempts
    alive = await open_till(journal=journal)
    outcome = await alive.settle(settlement)
    assert isinstance(outcome, Settled)
    assert outcome.transaction == written.hash
    assert len(journal.attempts) == 1


async def test_only_one_of_several_processes_sends(open_till, payers: list[Payer], chain: Chain) -> None:
    journal = MemoryJournal()
    first = await open_till(journal=journal)
    second = await open_till(journal=journal)
    assert isinstance(await first.settle(first.pay(payers[0])), Settled)
    settlement = second.pay(payers[1])
    outcome = await second.settle(settlement)
    assert isinstance(outcome, Unknown)
    assert isinstance(await second.settler.check(second.verified(payers[2].pay(second.ask()))), Admitted)
    await first.settler.close()
    assert isinstance(await second.settle(settlement), Settled)


async def test_a_full_disk_sends_nothing(till: Till, payers: list[Payer], chain: Chain) -> None:
    nonce = chain.nonce(RELAYER)
    till.journal.broken = True
    assert isinstance(await till.settle(till.pay(payers[0])), Unknown)
    assert chain.nonce(RELAYER) == nonce
    till.journal.broken = False
    assert isinstance(await till.settle(till.pay(payers[1])), Settled)


async def test_a_write_of_unknown_outcome_is_read_again(till: Till, payers: list[Payer], chain: Chain) -> None:
    """The attempt is in the journal though its writer was told otherwise: its nonce is taken and its bytes go out."""
    till.journal.lost_words = 1
    first = till.pay(payers[0])
    assert isinstance(await till.settle(first), Unknown)
    assert isinstance(await till.settle(till.pay(payers[1])), Settled)
    assert isinstance(await till.settle(first), Settled)
    assert len({attempt.nonce for attempt in till.journal.attempts}) == len(till.journal.attempts) == 2


async def test_what_was_abandoned_is_never_sent(till: Till, payers: list[Payer], chain: Chain) -> None:
    nonce = chain.nonce(RELAYER)
    settlement = till.pay(payers[0])
    assert till.journal.abandon(settlement.id)
    assert isinstance(await till.settler.settle(settlement), Unknown), "even by who has read the row before"
    assert isinstance(await till.settle(settlement), Unknown)
    assert chain.nonce(RELAYER) == nonce


async def test_one_that_ended_meanwhile_does_not_stop_the_others(till: Till, payers: list[Payer]) -> None:
    settlements = [till.pay(payer) for payer in payers[:4]]
    till.journal.abandon(settlements[1].id)
    outcomes = await asyncio.gather(*(till.settler.settle(settlement) for settlement in settlements))
    assert [type(outcome) for outcome in outcomes] == [Settled, Unknown, Settled, Settled]


async def test_a_hole_left_by_a_lost_write_is_filled(open_till, payers: list[Payer], chain: Chain) -> None:
    """Two attempts are in the journal, the one before them is not: an empty transaction takes its nonce."""
    journal = MemoryJournal()
    chain.automine(False)
    dead = await open_till(journal=journal, limits=dataclasses.replace(QUICK, batch_max=1))
    settlements = [dead.pay(payer) for payer in payers[:3]]
    await settle_all(dead, settlements)
    await dead.settler.close()
    chain.drop_all()
    lost = min(journal.attempts, key=lambda attempt: attempt.nonce)
    journal.attempts.remove(lost)
    chain.automine(True)
    alive = await open_till(journal=journal)
    kept = [s for s in settlements if s.id not in lost.settlements]
    assert all(isinstance(outcome, Settled) for outcome in await settle_all(alive, kept))
    (filler,) = [attempt for attempt in journal.attempts if attempt.nonce == lost.nonce]
    assert filler.settlements == ()


async def test_a_shallow_reorganisation_is_mended_by_the_same_bytes(
    till: Till, payers: list[Payer], chain: Chain
) -> None:
    settlement = till.pay(payers[0])
    outcome = await till.settle(settlement)
    before = chain.balance(PAY_TO)
    chain.automine(False)
    chain.reorganise(1)
    assert chain.balance(PAY_TO) == before - 1000
    await eventually(lambda: RELAYER.lower() in chain.pool())
    chain.mine()
    assert chain.balance(PAY_TO) == before
    found = await till.find(settlement)
    assert isinstance(found, Settled)
    assert found.transaction == outcome.transaction
    assert hashes(till) == [outcome.transaction]


async def test_a_nonce_is_closed_when_it_is_deep(till: Till, payers: list[Payer], chain: Chain) -> None:
    await till.settle(till.pay(payers[0]))
    (attempt,) = till.journal.attempts
    await asyncio.sleep(0.2)
    assert not till.journal.closed_nonces
    chain.mine(12)
    await eventually(lambda: till.journal.closed_nonces)
    assert till.journal.closed_nonces == {(attempt.network, attempt.key, attempt.nonce): attempt.hash}
    assert till.journal.retried == []


async def test_who_fails_in_company_goes_alone_once(till: Till, payers: list[Payer], chain: Chain) -> None:
    """His purse is emptied between our look and the block, and filled again: the others do not suffer."""
    chain.automine(False)
    poor, money = payers[0], chain.balance(payers[0].address)
    settlements = [till.pay(payer) for payer in payers[:4]]
    waiting = asyncio.create_task(settle_all(till, settlements))
    await eventually(lambda: chain.pool())
    chain.send(
        poor.address, USDC, "0xa9059cbb" + payers[8].address[2:].rjust(64, "0") + f"{money:064x}",
        gas=hex(200_000), maxFeePerGas=hex(90 * 10**9), maxPriorityFeePerGas=hex(50 * 10**9),
    )  # fmt: skip
    chain.mine()
    assert chain.balance(poor.address) == 0
    chain.automine(True)
    chain.mint(poor.address, 5000)
    chain.mine(12)
    outcomes = await waiting
    assert all(isinstance(outcome, Settled) for outcome in outcomes)
    alone = [attempt for attempt in till.journal.attempts if attempt.settlements == (settlements[0].id,)]
    assert len(alone) == 1


async def test_who_fails_alone_has_had_his_chance(till: Till, payers: list[Payer], chain: Chain) -> None:
    chain.automine(False)
    poor, money = payers[0], chain.balance(payers[0].address)
    settlement = till.pay(poor)
    waiting = asyncio.create_task(till.settle(settlement))
    await eventually(lambda: chain.pool())
    chain.send(
        poor.address, USDC, "0xa9059cbb" + payers[8].address[2:].rjust(64, "0") + f"{money:064x}",
        gas=hex(200_000), maxFeePerGas=hex(90 * 10**9), maxPriorityFeePerGas=hex(50 * 10**9),
    )  # fmt: skip
    chain.mine(13)
    outcome = await waiting
    assert isinstance(outcome, Refused)
    assert not outcome.final
    assert till.journal.abandon(settlement.id), "its nonce is closed, nothing can be mined any more"


async def test_upto_goes_by_the_key_that_was_signed_for(open_till, payers: list[Payer], chain: Chain) -> None:
    old = PAYER_KEYS[8]
    till = await open_till(keys=(RELAYER_KEY, old))
    offered = till.settler.facilitator_addresses(till.network)
    assert offered == (RELAYER, Key(old).address)
    for facilitator in offered:
        settlement = till.pay(payers[0], scheme="upto", facilitator=facilitator, actual=400)
        outcome = await till.settle(settlement)
        assert isinstance(outcome, Settled)
        assert till.journal.attempts[-1].key == facilitator.lower()
    assert len(await settle_all(till, [till.pay(p, scheme="upto", actual=5) for p in payers[:8]])) == 8
    assert all(len(attempt.settlements) == 1 for attempt in till.journal.attempts)


async def test_two_permits_alike_never_share_a_transaction(till: Till, payers: list[Payer], chain: Chain) -> None:
    alike = [till.pay(payers[0], 777, method="permit2") for _ in range(4)]
    outcomes = await settle_all(till, alike)
    assert len({outcome.transaction for outcome in outcomes}) == 4
    assert all(outcome.amount_atomic == 777 for outcome in outcomes)


def failing(code: int, message: str, *, marked: str = "") -> rpcx_rig.Behaviour:
    """Calls of contracts whose data holds `marked` fail so; everything else is the node's own."""

    async def behave(proxy: RpcProxy, calls: rpcx_rig.Calls) -> rpcx_rig.Answers:
        bad = {c["id"] for c in calls if c["method"] == "eth_call" and marked in c["params"][0]["data"]}
        error = {"code": code, "message": message}
        return [
            {"jsonrpc": "2.0", "id": answer["id"], "error": error} if answer["id"] in bad else answer
            for answer in await proxy.forward(calls)
        ]

    return behave


async def test_a_refusal_at_one_reader_is_asked_again(open_till, rpcx: RpcProxy, payers: list[Payer]) -> None:
    till = await open_till(urls=[rpcx.url])
    assert isinstance(await till.settle(till.pay(payers[0])), Settled)
    rpcx.on("eth_call", failing(3, "execution reverted"), times=1)
    assert isinstance(await till.settle(till.pay(payers[0])), Settled)


async def test_one_that_no_node_can_try_stops_nobody(open_till, rpcx: RpcProxy, payers: list[Payer]) -> None:
    till = await open_till(urls=[rpcx.url])
    assert isinstance(await till.settle(till.pay(payers[0])), Settled)
    rpcx.on("eth_call", failing(-32000, "stack limit reached", marked=payers[3].address[2:].lower()))
    outcomes = await settle_all(till, [till.pay(payer) for payer in payers[:6]])
    expected = [Settled, Settled, Settled, Unknown, Settled, Settled]
    assert [type(outcome) for outcome in outcomes] == expected


async def test_a_batch_is_no_larger_than_the_purse(till: Till, payers: list[Payer], chain: Chain) -> None:
    price = 2 * int(chain.block()["baseFeePerGas"], 16) + int(chain.rpc("eth_maxPriorityFeePerGas"), 16)
    chain.gas_money(RELAYER, 700_000 * price)
    outcomes = await settle_all(till, [till.pay(payer) for payer in payers])
    assert [outcome for outcome in outcomes if not isinstance(outcome, Settled)] == []
    assert max(len(attempt.settlements) for attempt in till.journal.attempts) < 9


async def test_what_is_on_its_way_has_its_share_of_the_purse(till: Till, payers: list[Payer], chain: Chain) -> None:
    """A node holds a second transaction against the balance that the first may still take: it would not have it."""
    price = 2 * int(chain.block()["baseFeePerGas"], 16) + int(chain.rpc("eth_maxPriorityFeePerGas"), 16)
    purse = 700_000 * price
    chain.gas_money(RELAYER, purse)
    chain.automine(False)
    waiting = asyncio.create_task(settle_all(till, [till.pay(payer) for payer in payers]))
    await asyncio.sleep(0.5)
    sent = [transactions.read(attempt.raw) for attempt in till.journal.attempts]
    assert sent
    assert sum(transaction.gas * transaction.max_fee for transaction in sent) <= purse
    chain.automine(True)
    chain.mine()
    assert [outcome for outcome in await waiting if not isinstance(outcome, Settled)] == []


async def test_who_is_too_dear_does_not_hold_up_the_others(till: Till, payers: list[Payer], chain: Chain) -> None:
    """There is gas money for a plain payment, and not for the one in front of it, which goes alone and costs more."""
    price = 2 * int(chain.block()["baseFeePerGas"], 16) + int(chain.rpc("eth_maxPriorityFeePerGas"), 16)
    chain.gas_money(RELAYER, 170_000 * price)
    chain.automine(False)
    dear = asyncio.create_task(till.settle(till.pay(payers[0], scheme="upto", actual=400)))
    cheap = asyncio.create_task(till.settle(till.pay(payers[1])))
    while not cheap.done():
        chain.mine()
        await asyncio.sleep(0.02)
    assert isinstance(cheap.result(), Settled)
    chain.gas_money(RELAYER, 10**18)
    chain.automine(True)
    chain.mine()
    assert isinstance(await dear, Settled)


async def test_f047_used_by_what_is_not_sure_is_no_refusal(till: Till, payers: list[Payer], chain: Chain) -> None:
    """Cancelled in the latest block, which may yet be another one: told only when it is deep."""
    payment = payers[0].pay(till.ask())
    settlement = till.queue(till.verified(payment))
    signature = "cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)"
    chain.do(payers[0].address, USDC, signature, *payers[0].cancel(payment))
    assert isinstance(await till.settle(settlement), Unknown)
    chain.mine(12)
    outcome = await till.settle(settlement)
    assert isinstance(outcome, Refused)
    assert outcome.final


# permits


async def test_who_brings_a_permit_goes_alone_and_the_others_together(
    till: Till, payers: list[Payer], chain: Chain
) -> None:
    chain.automine(False)
    for payer in payers[:2]:
        chain.rpc("anvil_setStorageAt", *allowance_slot(payer.address), "0x" + "00" * 32)
    chain.mine()
    settlements = [till.sponsor(payer, 1000) for payer in payers[:2]]
    settlements += [till.pay(payer, 2000) for payer in payers[2:6]]
    tasks = [asyncio.create_task(till.settle(settlement)) for settlement in settlements]
    await eventually(lambda: sum(len(attempt.settlements) for attempt in till.journal.attempts) == 6)
    chain.automine(True)
    chain.mine()
    outcomes = await asyncio.gather(*tasks)
    assert [outcome for outcome in outcomes if not isinstance(outcome, Settled)] == []
    carried = [attempt.settlements for attempt in till.journal.attempts]
    for settlement in settlements[:2]:
        assert (settlement.id,) in carried
    assert {settlement.id for settlement in settlements[2:]} in [set(ids) for ids in carried]


async def test_with_a_permit_it_has_a_gas_cap_of_its_own(till: Till, payers: list[Payer], chain: Chain) -> None:
    chain.approve_permit2(payers[0].address, amount=0)
    assert isinstance(await till.settle(till.sponsor(payers[0], 1000)), Settled)
    chain.approve_permit2(payers[0].address)
    assert isinstance(await till.settle(till.sponsor(payers[0], 1000, nonce=1)), Settled)
    caps = [transactions.read(attempt.raw).gas for attempt in till.journal.attempts]
    assert caps == [300_000, 190_000], "the second was not needed"


async def test_f069_a_permit_submitted_while_the_transaction_is_in_the_pool(
    till: Till, payers: list[Payer], chain: Chain
) -> None:
    """The proxy goes on where the token has taken the permit already: in the very block it is settled in."""
    payer, before = payers[0], chain.balance(PAY_TO)
    chain.approve_permit2(payer.address, amount=0)
    payment = payer.sponsored(till.ask(1000, method="permit2"))
    settlement = till.queue(till.verified(payment))
    chain.automine(False)
    task = asyncio.create_task(till.settle(settlement))
    await eventually(lambda: len(till.journal.attempts) == 1 and RELAYER.lower() in chain.pool())
    permit = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
    sent = chain.send(
        payers[1].address,
        USDC,
        chain_rig.calldata(permit, *permit_arguments(payment)),
        maxPriorityFeePerGas=hex(10**10),
        maxFeePerGas=hex(10**11),
    )
    chain.automine(True)
    chain.mine()
    outcome = await task
    assert isinstance(outcome, Settled), outcome
    first, second = chain.mined(sent), chain.mined(outcome.transaction)
    assert first["status"] == "0x1"
    assert (first["blockNumber"], int(first["transactionIndex"], 16)) == (second["blockNumber"], 0)
    assert chain.balance(PAY_TO) == before + 1000


async def test_the_official_client_signs_a_permit_for_upto_that_we_settle(till: Till, chain: Chain) -> None:
    account = Account.create()
    chain.mint(account.address, 10**6)
    asked = till.ask(5000, scheme="upto")
    signer = UptoEvmScheme(EthAccountSignerWithRPC(account, rpc_url=chain.url))
    offered = {"eip2612GasSponsoring": eip2612.extension()}
    signed = await asyncio.to_thread(signer.create_payment_payload, PaymentRequirements.model_validate(asked), offered)
    payment = {"x402Version": 2, "accepted": asked, "extensions": signed.pop("__extensions"), "payload": signed}
    outcome = await till.settle(till.queue(till.verified(payment), amount=1700))
    assert isinstance(outcome, Settled), outcome
    assert outcome.amount_atomic == 1700
    assert chain.balance(account.address) == 10**6 - 1700


def allowance_slot(owner: str) -> tuple[str, str]:
    """Where Circle's token keeps what Permit2 may take: mapping(owner => mapping(spender => amount)) in slot 10."""
    inner = keccak(bytes.fromhex(owner[2:].rjust(64, "0")) + (10).to_bytes(32, "big"))
    return USDC, "0x" + keccak(bytes.fromhex(PERMIT2[2:].rjust(64, "0")) + inner).hex()
