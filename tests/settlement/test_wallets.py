"""Payers that are contracts: honest ones pay, hostile ones hurt nobody but themselves."""

import asyncio
import time

import pytest
from eth_abi import encode
from eth_utils import keccak
from rigs.chain import CHAIN_ID, PAYER_KEYS, RELAYER_KEY, USDC, Chain, calldata
from rigs.payer import Payer
from rigs.till import PAY_TO, Till

from gateway.core.settlement import Settled
from gateway.core.x402.messages import parse_payment
from gateway.settlement.protocol import Admitted, Refused
from gateway.settlement.transactions import Key

pytestmark = pytest.mark.chain

RELAYER = Key(RELAYER_KEY).address.lower()


def wallet_of(chain: Chain, code: str, key: bytes = PAYER_KEYS[7]) -> Payer:
    """A contract that pays, with money in it and Permit2 approved."""
    owner = Payer(key)
    address = chain.place(code, owner=owner.address)
    chain.mint(address, 10**9)
    chain.gas_money(address, 10**18)
    chain.approve_permit2(address)
    return Payer(key, wallet=address, now=lambda: chain.now)


def wrapped(wallet: str):
    """What the wrapping wallet wants: its owner's signature over the hash bound to the wallet."""

    def wrap(digest: bytes, sign) -> bytes:
        bound = keccak(encode(["string", "uint256", "address", "bytes32"], ["bound", CHAIN_ID, wallet, digest]))
        return encode(["uint256", "bytes"], [0, sign(bound)])

    return wrap


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
@pytest.mark.parametrize("kind", ["Wallet", "WrappingWallet"])
async def test_f075_a_deployed_wallet_pays(till: Till, chain: Chain, kind: str, method: str) -> None:
    payer = wallet_of(chain, kind)
    sign = {"wrap": wrapped(payer.address)} if kind == "WrappingWallet" else {}
    payment = till.verified(payer.pay(till.ask(method=method), **sign))
    assert not payment.recovered
    assert isinstance(await till.settler.check(payment), Admitted)
    before = chain.balance(PAY_TO)
    outcome = await till.settle(till.queue(payment))
    assert isinstance(outcome, Settled)
    assert chain.balance(PAY_TO) == before + 1000


async def test_a_delegated_account_pays_by_its_own_key(till: Till, payers: list[Payer], chain: Chain) -> None:
    chain.delegate(payers[0].address)
    for method in ("eip3009", "permit2"):
        payment = till.verified(payers[0].pay(till.ask(method=method)))
        assert payment.recovered
        assert isinstance(await till.settler.check(payment), Admitted)
        assert isinstance(await till.settle(till.queue(payment)), Settled)


async def test_contracts_share_a_transaction_with_nobody(till: Till, payers: list[Payer], chain: Chain) -> None:
    wallet = wallet_of(chain, "Wallet")
    chain.delegate(payers[1].address)
    settlements = [till.pay(payer) for payer in (wallet, *payers[:6])]
    outcomes = await asyncio.gather(*(till.settle(settlement) for settlement in settlements))
    assert [outcome for outcome in outcomes if not isinstance(outcome, Settled)] == []
    by_attempt = [attempt.settlements for attempt in till.journal.attempts]
    for coded in (settlements[0].id, settlements[2].id):
        assert (coded,) in by_attempt


async def test_a_wallet_that_does_not_confirm_is_refused(till: Till, chain: Chain) -> None:
    payer = wallet_of(chain, "Wallet")
    forger = Payer(PAYER_KEYS[6], wallet=payer.address, now=lambda: chain.now)
    for method, reason in (
        ("eip3009", "invalid_exact_evm_payload_signature"), ("permit2", "invalid_permit2_signature"),
    ):  # fmt: skip
        refused = await till.settler.check(till.verified(forger.pay(till.ask(method=method))))
        assert isinstance(refused, Refused)
        assert refused.reason == reason


@pytest.mark.parametrize("inner", [b"\x01" * 65, b""])
def test_f076_a_wrapped_signature_of_no_wallet_is_refused_offline(inner: bytes) -> None:
    """Whatever its factory call would do: it is never carried out."""
    from rigs.payer import requirements
    from rigs.till import TOKEN

    from gateway.core.x402.messages import Requirements
    from gateway.core.x402.verify import Refused as RefusedOffline
    from gateway.core.x402.verify import verify

    asked = requirements(amount=1000, pay_to=PAY_TO, asset=USDC, network=TOKEN.network)
    steal = bytes.fromhex(calldata("transfer(address,uint256)", PAY_TO, 1)[2:])
    payer = Payer(PAYER_KEYS[0], wallet="0x" + "7e" * 20)
    payment = payer.pay(
        asked,
        wrap=lambda digest, sign: encode(["address", "bytes", "bytes"], [USDC, steal, inner]) + b"\x64\x92" * 16,
    )
    offer = Requirements(
        "exact", asked["network"], "1000", asked["asset"], asked["payTo"], asked["maxTimeoutSeconds"], asked["extra"]
    )
    verdict = verify(parse_payment(payment), [offer], now_s=int(time.time()), work_s=0, settle_margin_s=0)
    assert isinstance(verdict, RefusedOffline)


async def test_f076_garbage_for_an_account_without_code_is_refused(till: Till, chain: Chain) -> None:
    nobody = Payer(PAYER_KEYS[6], wallet="0x" + "7e" * 20, now=lambda: chain.now)
    chain.mint(nobody.address, 10**6)
    for wrap in (None, lambda digest, sign: b"\x01" * 200):
        refused = await till.settler.check(till.verified(nobody.pay(till.ask(), **({"wrap": wrap} if wrap else {}))))
        assert isinstance(refused, Refused)
        assert refused.reason == "invalid_exact_evm_payload_signature"


@pytest.mark.parametrize("kind", ["LoopingWallet", "FloodingWallet"])
async def test_f078_a_wallet_that_burns_all_is_refused_in_no_time(till: Till, chain: Chain, kind: str) -> None:
    payer = wallet_of(chain, kind)
    for method in ("eip3009", "permit2"):
        payment = till.verified(payer.pay(till.ask(method=method)))
        started = time.perf_counter()
        assert isinstance(await till.settler.check(payment), Refused)
        assert time.perf_counter() - started < 1
        nonce = chain.nonce(till.settler.facilitator_addresses(till.network)[0])
        assert isinstance(await till.settle(till.queue(payment)), Refused)
        assert chain.nonce(till.settler.facilitator_addresses(till.network)[0]) == nonce


async def test_f078_a_wallet_that_changes_its_mind_costs_one_capped_transaction(
    till: Till, payers: list[Payer], chain: Chain
) -> None:
    """It says yes to every question and no in the block. The others of the moment are paid."""
    fickle = wallet_of(chain, "FickleWallet")
    payment = till.verified(fickle.pay(till.ask()))
    assert isinstance(await till.settler.check(payment), Admitted)
    chain.automine(False)
    settlements = [till.queue(payment), *(till.pay(payer) for payer in payers[:4])]
    waiting = [asyncio.create_task(till.settle(settlement)) for settlement in settlements]
    async with asyncio.timeout(5):
        while len(chain.pool().get(RELAYER, ())) < 2:  # noqa: ASYNC110 the chain tells nobody
            await asyncio.sleep(0.01)
    chain.send(
        payers[8].address, fickle.address, calldata("turn(bool)", True), gas=hex(100_000),
        maxFeePerGas=hex(90 * 10**9), maxPriorityFeePerGas=hex(50 * 10**9),
    )  # fmt: skip
    chain.mine()
    others = await asyncio.gather(*waiting[1:])
    assert all(isinstance(outcome, Settled) for outcome in others)
    chain.automine(True)
    chain.do(payers[8].address, fickle.address, "turn(bool)", False)
    chain.mine(13)
    outcome = await waiting[0]
    assert isinstance(outcome, Refused)
    assert not outcome.final
    spent = [attempt for attempt in till.journal.attempts if attempt.settlements == (settlements[0].id,)]
    assert len(spent) == 1
    assert int(chain.receipt(spent[0].hash)["gasUsed"], 16) <= 600_000


async def test_f078_code_that_appears_after_the_look_burns_one_batch_and_no_more(
    till: Till, payers: list[Payer], chain: Chain
) -> None:
    """An account without code gets greedy code between our look and the block: all of its batch is sent alone then."""
    chain.automine(False)
    settlements = [till.pay(payer) for payer in payers[:5]]
    waiting = asyncio.gather(*(till.settle(settlement) for settlement in settlements))
    async with asyncio.timeout(5):
        while RELAYER not in chain.pool():  # noqa: ASYNC110 the chain tells nobody
            await asyncio.sleep(0.01)
    chain.rpc("anvil_setCode", payers[2].address, "0x" + "5b600056")
    chain.mine()
    chain.automine(True)
    chain.mine(13)
    outcomes = await waiting
    assert [type(outcome) for outcome in outcomes] == [Settled, Settled, Refused, Settled, Settled]
    company, *alone = [attempt.settlements for attempt in till.journal.attempts]
    assert len(company) == 5
    assert sorted(alone) == sorted((s.id,) for i, s in enumerate(settlements) if i != 2)
