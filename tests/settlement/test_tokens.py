"""Tokens with ways of their own: fees, false words, no contracts, other decimals."""

from dataclasses import replace

import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.payer import Payer
from rigs.till import PAY_TO, TOKEN

from gateway.core.money import atomic_to_micros_down, micros_to_atomic_up
from gateway.core.networks import Token, checksum_address
from gateway.core.settlement import Settled
from gateway.settlement.protocol import Admitted, Refused, Unknown

pytestmark = pytest.mark.chain


def odd(chain: Chain, *payers: Payer, money: int = 10**24, **oddity) -> Token:
    """A token that stands on the chain, with money for `payers`."""
    address = chain.odd_token(**oddity)
    for payer in payers:
        chain.mint(payer.address, money, address)
        chain.approve_permit2(payer.address, address)
    return replace(
        TOKEN, address=checksum_address(address), name="Odd", version="1", symbol="ODD",
        decimals=oddity.get("decimals", 6),
    )  # fmt: skip


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
async def test_f080_a_fee_on_the_way_is_seen(open_till, payers: list[Payer], chain: Chain, method: str) -> None:
    till = await open_till(token=odd(chain, payers[0], fee_percent=1))
    settlement = till.pay(payers[0], 10_000, method=method)
    outcome = await till.settle(settlement)
    assert isinstance(outcome, Settled)
    assert outcome.amount_atomic == 9_900
    assert (await till.find(settlement)).amount_atomic == 9_900


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
async def test_f080_a_false_log_from_another_address_proves_nothing(
    open_till, payers: list[Payer], chain: Chain, method: str
) -> None:
    from gateway.settlement.relayer import Limits

    till = await open_till(token=odd(chain, payers[0], echo=True), limits=Limits(settle_wait_s=0.3))
    settlement = till.pay(payers[0], 10_000, method=method)
    assert not isinstance(await till.settle(settlement), Settled)
    chain.mine(13)
    assert not isinstance(await till.find(settlement), Settled)


async def test_f079_a_contract_cannot_pay_a_token_for_keys_only(open_till, chain: Chain) -> None:
    wallet = chain.place("Wallet", owner=Payer(PAYER_KEYS[7]).address)
    chain.gas_money(wallet, 10**18)
    payer = Payer(PAYER_KEYS[7], wallet=wallet, now=lambda: chain.now)
    till = await open_till(token=odd(chain, payer))
    refused = await till.settler.check(till.verified(payer.pay(till.ask())))
    assert isinstance(refused, Refused)
    # By Permit2 it can: there it is Permit2 that asks the wallet.
    assert isinstance(await till.settler.check(till.verified(payer.pay(till.ask(method="permit2")))), Admitted)


async def test_a_delegated_account_pays_a_token_for_keys_only(open_till, payers: list[Payer], chain: Chain) -> None:
    till = await open_till(token=odd(chain, payers[0]))
    chain.delegate(payers[0].address)
    assert isinstance(await till.settle(till.pay(payers[0])), Settled)


@pytest.mark.parametrize("decimals", [0, 2, 8, 18])
async def test_f084_other_decimals_are_exact(open_till, payers: list[Payer], chain: Chain, decimals: int) -> None:
    token = odd(chain, payers[0], decimals=decimals)
    till = await open_till(token=token)
    assert all(finding.ok for finding in await till.settler.chain.describe(("eip3009", "permit2")))
    atomic, exact = micros_to_atomic_up(30_330_000, decimals)
    settlement = till.pay(payers[0], atomic)
    outcome = await till.settle(settlement)
    assert isinstance(outcome, Settled)
    assert outcome.amount_atomic == atomic == chain.balance(PAY_TO, token.address)
    came, _ = atomic_to_micros_down(outcome.amount_atomic, decimals)
    assert came >= 30_330_000
    assert (came == 30_330_000) == exact


async def test_f045_an_unlisted_token_is_never_touched(open_till, payers: list[Payer], chain: Chain) -> None:
    till = await open_till()
    token = odd(chain, payers[0])
    foreign = till.verified(payers[0].pay(till.ask(token=token)))
    assert isinstance(await till.settler.check(foreign), Refused)
    assert isinstance(await till.settle(till.queue(foreign)), Unknown)
    assert till.journal.attempts == []
