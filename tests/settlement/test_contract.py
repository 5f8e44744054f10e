"""What every settler promises, held by the relayer on a real EVM and by the sandbox alike."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from rigs.chain import USDC, Chain
from rigs.payer import Payer
from rigs.till import PAY_TO, Till

from gateway.core.networks import NETWORKS, SANDBOX
from gateway.core.settlement import Settled
from gateway.settlement.protocol import Admitted, Refused
from gateway.settlement.sandbox import PREFUNDED, Sandbox


class World(Protocol):
    """What happens to a settler from outside."""

    till: Till
    payers: list[Payer]

    def balance(self, who: str) -> int: ...
    def drain(self, payer: Payer) -> None: ...
    def disallow_permit2(self, payer: Payer) -> None: ...
    def cancel(self, payment: dict[str, Any], payer: Payer) -> None: ...
    def freeze(self, who: str) -> None: ...
    def pass_time(self, seconds: int) -> None: ...
    def deepen(self) -> None: ...


@dataclass
class OnEvm:
    till: Till
    payers: list[Payer]
    chain: Chain

    def balance(self, who: str) -> int:
        return self.chain.balance(who)

    def drain(self, payer: Payer) -> None:
        self.chain.do(payer.address, USDC, "transfer(address,uint256)", "0x" + "77" * 20, self.balance(payer.address))

    def disallow_permit2(self, payer: Payer) -> None:
        self.chain.approve_permit2(payer.address, amount=0)

    def cancel(self, payment: dict[str, Any], payer: Payer) -> None:
        signature = "cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)"
        self.chain.do(payer.address, USDC, signature, *payer.cancel(payment))

    def freeze(self, who: str) -> None:
        self.chain.freeze(who)

    def pass_time(self, seconds: int) -> None:
        self.chain.pass_time(seconds)

    def deepen(self) -> None:
        self.chain.mine(12)


@dataclass
class InMemory:
    till: Till
    payers: list[Payer]
    sandbox: Sandbox
    clock: list[float] = field(default_factory=list)

    def balance(self, who: str) -> int:
        return self.sandbox.balance(who)

    def drain(self, payer: Payer) -> None:
        self.sandbox.fund(payer.address, 0)

    def disallow_permit2(self, payer: Payer) -> None:
        self.sandbox.allow_permit2(payer.address, 0)

    def cancel(self, payment: dict[str, Any], payer: Payer) -> None:
        self.sandbox.cancel(self.till.verified(payment).identity)

    def freeze(self, who: str) -> None:
        self.sandbox.freeze(who)

    def pass_time(self, seconds: int) -> None:
        self.clock[0] += seconds

    def deepen(self) -> None:
        """What is done here is done."""


async def settled(world: World, payer: Payer, amount: int = 1000, **ask: Any) -> Settled:
    outcome = await world.till.settle(world.till.pay(payer, amount, **ask))
    assert isinstance(outcome, Settled), outcome
    return outcome


class SettlerContract:
    async def test_a_good_payment_is_admitted_with_what_the_payer_can_spend(self, world: World) -> None:
        payer = world.payers[0]
        admitted = await world.till.settler.check(world.till.verified(payer.pay(world.till.ask())))
        assert isinstance(admitted, Admitted)
        assert admitted.spendable_atomic == world.balance(payer.address)
        assert abs(admitted.block_time_s - world.till.now()) < 60

    @pytest.mark.parametrize("method", ["eip3009", "permit2"])
    async def test_settling_moves_exactly_the_amount(self, world: World, method: str) -> None:
        payer, before = world.payers[0], world.balance(PAY_TO)
        proof = await settled(world, payer, 1234, method=method)
        assert proof.amount_atomic == 1234
        assert world.balance(PAY_TO) == before + 1234

    async def test_settling_twice_pays_once(self, world: World) -> None:
        before = world.balance(PAY_TO)
        settlement = world.till.pay(world.payers[0])
        outcomes = await asyncio.gather(*(world.till.settle(settlement) for _ in range(5)))
        outcomes.append(await world.till.settle(settlement))
        assert {(o.transaction, o.log_index) for o in outcomes} == {(outcomes[0].transaction, outcomes[0].log_index)}
        assert world.balance(PAY_TO) == before + 1000

    async def test_upto_takes_what_it_is_told_and_no_more_than_was_signed(self, world: World) -> None:
        before = world.balance(PAY_TO)
        proof = await settled(world, world.payers[0], 5000, scheme="upto", actual=1700)
        assert proof.amount_atomic == 1700
        assert world.balance(PAY_TO) == before + 1700
        greedy = world.till.pay(world.payers[0], 5000, scheme="upto", actual=5001)
        assert isinstance(await world.till.settle(greedy), Refused)
        assert world.balance(PAY_TO) == before + 1700

    async def test_what_was_settled_is_found(self, world: World) -> None:
        for method in ("eip3009", "permit2"):
            settlement = world.till.pay(world.payers[0], method=method)
            proof = await world.till.settle(settlement)
            world.deepen()
            found = await world.till.find(settlement)
            assert isinstance(found, Settled)
            assert (found.transaction, found.log_index) == (proof.transaction, proof.log_index)
            assert found.final

    async def test_what_is_not_settled_is_unknown_until_it_has_expired(self, world: World) -> None:
        settlement = world.till.pay(world.payers[0])
        assert not isinstance(await world.till.find(settlement), Settled | Refused)
        world.pass_time(121)
        world.deepen()
        assert isinstance(await world.till.find(settlement), Refused)

    async def test_an_empty_purse_is_refused_before_and_after(self, world: World) -> None:
        payer = world.payers[0]
        payment = world.till.verified(payer.pay(world.till.ask()))
        settlement = world.till.queue(payment)
        world.drain(payer)
        refused = await world.till.settler.check(payment)
        assert isinstance(refused, Refused)
        assert refused.reason == "invalid_exact_evm_insufficient_balance"
        outcome = await world.till.settle(settlement)
        assert isinstance(outcome, Refused)
        assert not outcome.final, "the payer may fill his purse again"
        assert world.till.journal.abandon(settlement.id), "nothing was sent"

    async def test_permit2_without_an_allowance_is_told_apart(self, world: World) -> None:
        payer = world.payers[0]
        world.disallow_permit2(payer)
        refused = await world.till.settler.check(world.till.verified(payer.pay(world.till.ask(method="permit2"))))
        assert isinstance(refused, Refused)
        assert refused.reason == "permit2_allowance_required"

    async def test_a_used_nonce_is_refused(self, world: World) -> None:
        payment = world.till.verified(world.payers[0].pay(world.till.ask()))
        await world.till.settle(world.till.queue(payment))
        refused = await world.till.settler.check(payment)
        assert isinstance(refused, Refused)
        assert refused.reason == "invalid_exact_evm_nonce_already_used"

    async def test_f047_used_is_not_paid(self, world: World) -> None:
        payer = world.payers[0]
        payment = payer.pay(world.till.ask())
        settlement = world.till.queue(world.till.verified(payment))
        world.cancel(payment, payer)
        world.deepen()
        found = await world.till.find(settlement)
        assert isinstance(found, Refused)
        assert isinstance(await world.till.settle(settlement), Refused)

    async def test_a_signature_by_nobody_is_refused(self, world: World) -> None:
        stranger = Payer(b"\x42" * 32, wallet=world.payers[0].address, now=world.till.now)
        forged = world.till.verified(stranger.pay(world.till.ask()))
        assert not forged.recovered
        refused = await world.till.settler.check(forged)
        assert isinstance(refused, Refused)
        assert refused.reason == "invalid_exact_evm_payload_signature"

    @pytest.mark.parametrize("frozen", ["payer", "us"])
    async def test_f082_a_frozen_account_pays_nothing(self, world: World, frozen: str) -> None:
        payer, before = world.payers[0], world.balance(PAY_TO)
        settlement = world.till.pay(payer)
        world.freeze(payer.address if frozen == "payer" else PAY_TO)
        assert not isinstance(await world.till.settle(settlement), Settled)
        assert world.balance(PAY_TO) == before

    async def test_f045_a_payment_to_others_is_not_even_looked_at(self, world: World) -> None:
        foreign = world.till.verified(world.payers[0].pay(world.till.ask(pay_to="0x" + "99" * 20)))
        assert not world.till.settler.serves(foreign.requirements)
        assert isinstance(await world.till.settler.check(foreign), Refused)
        assert not isinstance(await world.till.settle(world.till.queue(foreign)), Settled)
        assert world.balance("0x" + "99" * 20) == 0

    async def test_many_at_once_all_arrive(self, world: World) -> None:
        before = world.balance(PAY_TO)
        methods = ("eip3009", "permit2")
        settlements = [
            world.till.pay(payer, 100 + i, method=methods[i % 2]) for i in range(12) for payer in world.payers[:3]
        ]
        outcomes = await asyncio.gather(*(world.till.settle(settlement) for settlement in settlements))
        assert [outcome for outcome in outcomes if not isinstance(outcome, Settled)] == []
        assert len({(outcome.transaction, outcome.log_index) for outcome in outcomes}) == len(settlements)
        assert world.balance(PAY_TO) - before == sum(settlement.amount_atomic for settlement in settlements)


class TestSandbox(SettlerContract):
    @pytest.fixture
    def world(self) -> World:
        clock = [time.time()]
        sandbox = Sandbox(pay_to=PAY_TO, clock=lambda: clock[0])
        till = Till(sandbox, SANDBOX, NETWORKS[SANDBOX].tokens[0], now=lambda: clock[0])
        payers = [Payer(bytes.fromhex(key[2:]), now=lambda: clock[0]) for key in PREFUNDED.values()]
        return InMemory(till, payers, sandbox, clock)


@pytest.mark.chain
class TestRelayerOnAnEvm(SettlerContract):
    @pytest.fixture
    async def world(self, open_till: Callable[[], Awaitable[Till]], chain: Chain, payers: list[Payer]) -> World:
        return OnEvm(await open_till(), payers, chain)
