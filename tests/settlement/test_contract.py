"""What every settler promises, held by the relayer on a real EVM and by the sandbox alike."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pytest
from rigs.chain import PERMIT2, USDC, Chain
from rigs.payer import Payer, permit_arguments, with_permit
from rigs.till import PAY_TO, Till

from gateway.core.networks import NETWORKS, SANDBOX
from gateway.core.settlement import Settled
from gateway.core.x402.messages import parse_payment
from gateway.settlement.protocol import Admitted, Refused
from gateway.settlement.sandbox import PREFUNDED, Sandbox


class World(Protocol):
    """What happens to a settler from outside."""

    till: Till
    payers: list[Payer]

    def balance(self, who: str) -> int: ...
    def drain(self, payer: Payer) -> None: ...
    def disallow_permit2(self, payer: Payer) -> None: ...
    def allow_permit2(self, payer: Payer, amount: int) -> None: ...
    def allowance(self, payer: Payer) -> int: ...
    def submit_permit(self, payment: dict[str, Any]) -> None: ...
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
        self.allow_permit2(payer, 0)

    def allow_permit2(self, payer: Payer, amount: int) -> None:
        self.chain.approve_permit2(payer.address, amount=amount)

    def allowance(self, payer: Payer) -> int:
        return int(self.chain.call(USDC, "allowance(address,address)", payer.address, PERMIT2))

    def submit_permit(self, payment: dict[str, Any]) -> None:
        permit = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
        self.chain.do(self.payers[8].address, USDC, permit, *permit_arguments(payment))

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
        self.allow_permit2(payer, 0)

    def allow_permit2(self, payer: Payer, amount: int) -> None:
        self.sandbox.allow_permit2(payer.address, amount)

    def allowance(self, payer: Payer) -> int:
        return self.sandbox.permit2_allowance(payer.address)

    def submit_permit(self, payment: dict[str, Any]) -> None:
        permit = parse_payment(payment).permit
        assert permit is not None
        assert self.sandbox.permit(permit)

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

    @pytest.mark.parametrize("scheme", ["exact", "upto"])
    async def test_a_permit_stands_for_the_missing_allowance(self, world: World, scheme: str) -> None:
        payer, before = world.payers[0], world.balance(PAY_TO)
        world.allow_permit2(payer, 999)
        asked = world.till.ask(1000, method="permit2", scheme=scheme)
        payment = world.till.verified(payer.sponsored(asked))
        admitted = await world.till.settler.check(payment)
        assert isinstance(admitted, Admitted), admitted
        assert (admitted.by_permit, admitted.spendable_atomic) == (True, 1000)
        actual = 1000 if scheme == "exact" else 400
        settlement = world.till.queue(payment, amount=actual)
        world.disallow_permit2(payer)
        proof = await world.till.settle(settlement)
        assert isinstance(proof, Settled), proof
        assert world.balance(PAY_TO) == before + actual
        assert world.allowance(payer) == 1000 - actual
        world.deepen()
        found = await world.till.find(settlement)
        assert isinstance(found, Settled)
        assert (found.transaction, found.log_index) == (proof.transaction, proof.log_index)

    async def test_a_permit_covers_no_more_than_the_balance(self, world: World) -> None:
        payer = world.payers[0]
        world.disallow_permit2(payer)
        world.drain(payer)
        refused = await world.till.settler.check(world.till.verified(payer.sponsored(world.till.ask(method="permit2"))))
        assert isinstance(refused, Refused)
        assert refused.reason == "permit2_insufficient_balance"

    async def test_a_permit_that_is_not_needed_is_not_used(self, world: World) -> None:
        payer = world.payers[0]
        world.allow_permit2(payer, 5000)
        payment = world.till.verified(payer.sponsored(world.till.ask(1000, method="permit2")))
        admitted = await world.till.settler.check(payment)
        assert isinstance(admitted, Admitted)
        assert (admitted.by_permit, admitted.spendable_atomic) == (False, 5000)
        assert isinstance(await world.till.settle(world.till.queue(payment)), Settled)
        assert world.allowance(payer) == 4000, "the permit would have lowered it to nothing"

    async def test_f069_a_permit_that_somebody_submitted_first_is_no_failure(self, world: World) -> None:
        payer, before = world.payers[0], world.balance(PAY_TO)
        world.disallow_permit2(payer)
        payment = payer.sponsored(world.till.ask(1000, method="permit2"))
        verified = world.till.verified(payment)
        admitted = await world.till.settler.check(verified)
        assert isinstance(admitted, Admitted)
        assert admitted.by_permit
        settlement = world.till.queue(verified)
        world.submit_permit(payment)
        assert isinstance(await world.till.settler.check(verified), Admitted)
        outcome = await world.till.settle(settlement)
        assert isinstance(outcome, Settled), outcome
        assert world.balance(PAY_TO) == before + 1000
        assert world.allowance(payer) == 0

    async def test_a_permit_out_of_turn_is_told_apart(self, world: World) -> None:
        payer = world.payers[0]
        world.disallow_permit2(payer)
        payment = payer.sponsored(world.till.ask(method="permit2"), nonce=1)
        refused = await world.till.settler.check(world.till.verified(payment))
        assert isinstance(refused, Refused)
        assert refused.reason == "eip2612_nonce_mismatch"
        assert "nonce 1" in refused.message
        assert "0 next" in refused.message

    async def test_a_permit_used_up_between_check_and_settle_is_refused_and_not_for_ever(self, world: World) -> None:
        payer, before = world.payers[0], world.balance(PAY_TO)
        world.disallow_permit2(payer)
        verified = world.till.verified(payer.sponsored(world.till.ask(method="permit2")))
        assert isinstance(await world.till.settler.check(verified), Admitted)
        other = payer.sponsored(world.till.ask(1, method="permit2"))
        world.submit_permit(other)
        outcome = await world.till.settle(world.till.queue(verified))
        assert isinstance(outcome, Refused), outcome
        assert (outcome.reason, outcome.final) == ("eip2612_nonce_mismatch", False)
        assert world.balance(PAY_TO) == before

    async def test_a_permit_by_nobody_is_worth_nothing(self, world: World) -> None:
        """However it came into the store."""
        payer, stranger = world.payers[:2]
        world.disallow_permit2(payer)
        asked = world.till.ask(method="permit2")
        good = payer.sponsored(asked)
        forged = with_permit(good, payer.permit(asked, good, sign_as=stranger))
        stored = replace(world.till.verified(good), payment=parse_payment(forged))
        outcome = await world.till.settle(world.till.queue(stored))
        assert isinstance(outcome, Refused), outcome
        assert (outcome.reason, outcome.final) == ("permit2_allowance_required", False)

    async def test_permits_do_not_hold_up_who_comes_with_them(self, world: World) -> None:
        before = world.balance(PAY_TO)
        for payer in world.payers[:2]:
            world.disallow_permit2(payer)
        settlements = [
            world.till.sponsor(world.payers[0], 100),
            world.till.sponsor(world.payers[1], 200, nonce=7),
            *(world.till.pay(world.payers[2], 300 + i, method=("eip3009", "permit2")[i % 2]) for i in range(6)),
        ]
        good, bad, *rest = await asyncio.gather(*(world.till.settle(settlement) for settlement in settlements))
        assert isinstance(good, Settled), good
        assert isinstance(bad, Refused), bad
        assert [outcome for outcome in rest if not isinstance(outcome, Settled)] == []
        assert world.balance(PAY_TO) - before == 100 + sum(300 + i for i in range(6))

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
