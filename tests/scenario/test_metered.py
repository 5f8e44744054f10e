"""Metered operations: what is held or signed is a ceiling, what is charged is what the work came to."""

import asyncio

import pytest
from rigs.gate import KEYS, Gate
from rigs.payer import Payer
from rigs.scripted import METERED, failure, miss, slow, taking

from gateway.core.charge import Source, State

BASE, CEILING = METERED.base_micros, METERED.ceiling_micros
PAYER = Payer(KEYS[0]).address
COSTS = (
    (0, BASE),
    (66_666, BASE),
    (66_667, 100_001),
    (1_000_000, 1_500_000),
    (1_333_333, 2_000_000),
    (9_000_000, CEILING),
)
"""What the vendor took, and what the call costs: at least the base, at most the ceiling, a markup of half between."""


def scripted(gate: Gate) -> None:
    gate.upstream.script |= {f"cost {cost}": taking(cost) for cost, _ in COSTS}
    gate.upstream.script |= {"nobody": miss, "broken": failure}


async def test_from_a_balance_the_ceiling_is_held_and_the_work_is_charged(tmp_path):
    async with Gate.open(tmp_path) as gate:
        scripted(gate)
        agent, token = await gate.agent(30_000_000)
        left = 30_000_000
        for cost, price in COSTS:
            reply = await gate.call(f"cost {cost}", operation="test/metered", token=token)
            assert reply.status == 200
            assert reply.json["billing"] == {
                "mode": "virtual_balance",
                "charge_id": reply.headers["X-Charge-Id"],
                "bill_up_to_usd": "2.000",
                "charged_usd": f"{price / 1e6:.6f}".rstrip("0").ljust(5, "0"),
            }
            assert reply.json["data"]["budget"] == CEILING * 100 // 150
            left -= price
            balance = await gate.balance(agent)
            assert (balance.available, balance.held) == (left, 0)
        for word, status in (("nobody", 200), ("broken", 502)):
            assert (await gate.call(word, operation="test/metered", token=token)).status == status
        assert (await gate.balance(agent)).available == left
        for view in await gate.charges():
            assert view.charge.held_micros == CEILING


async def test_a_balance_below_the_ceiling_is_told_so_and_offered_upto(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(CEILING - 1)
        reply = await gate.call("hello", operation="test/metered", token=token)
        assert (reply.status, reply.json["code"]) == (402, "PAYMENT_REQUIRED")
        assert (reply.json["price_usd"], reply.json["balance_usd"]) == ("2.000", "1.999999")
        assert [(o["scheme"], o["amount"]) for o in reply.offer["accepts"]] == [
            ("exact", str(BASE)), ("exact", str(BASE)), ("upto", str(CEILING)),
        ]  # fmt: skip
        assert gate.upstream.journal == []


@pytest.mark.parametrize(("cost", "price"), COSTS)
async def test_by_upto_the_work_is_collected_and_no_more(tmp_path, cost: int, price: int):
    async with Gate.open(tmp_path) as gate:
        scripted(gate)
        before = gate.sandbox.balance(PAYER)
        payment = await gate.sign(operation="test/metered", method="upto")
        reply = await gate.call(f"cost {cost}", operation="test/metered", payment=payment)
        assert reply.status == 200
        assert reply.json["billing"]["mode"] == "x402_upto"
        assert (reply.receipt["success"], reply.receipt["amount"]) == (True, str(price))
        assert gate.sandbox.balance(PAYER) == before - price
        (view,) = await gate.charges()
        assert (view.charge.state, view.charge.held_micros, view.charge.captured_micros) == (
            State.SETTLED, CEILING, price,
        )  # fmt: skip
        again = await gate.call(f"cost {cost}", operation="test/metered", payment=payment)
        assert again.json == reply.json
        assert gate.upstream.runs(f"cost {cost}") == 1


async def test_by_exact_the_base_is_sold_whatever_it_took(tmp_path):
    async with Gate.open(tmp_path) as gate:
        scripted(gate)
        before = gate.sandbox.balance(PAYER)
        reply = await gate.pay("cost 1000000", operation="test/metered")
        assert (reply.status, reply.json["billing"]["mode"]) == (200, "x402_exact")
        assert reply.json["data"]["budget"] == BASE * 100 // 150
        assert gate.sandbox.balance(PAYER) == before - BASE


async def test_zero_sends_nothing_and_uses_the_payment_up_for_good(tmp_path):
    async with Gate.open(tmp_path) as gate:
        scripted(gate)
        before = gate.sandbox.balance(PAYER)
        payment = await gate.sign(operation="test/metered", method="upto")
        reply = await gate.call("nobody", operation="test/metered", payment=payment)
        assert (reply.status, reply.json["matched"], reply.json["billed"]) == (200, False, False)
        assert "PAYMENT-RESPONSE" not in reply.headers
        assert gate.sandbox.balance(PAYER) == before
        other = await gate.call("hello", operation="test/metered", payment=payment)
        assert (other.status, other.json["code"]) == (409, "PAYMENT_ALREADY_USED")
        assert (await gate.call("nobody", operation="test/metered", payment=payment)).json == reply.json
        assert gate.upstream.runs("nobody") == 1


async def test_a_failure_frees_an_upto_payment(tmp_path):
    async with Gate.open(tmp_path) as gate:
        scripted(gate)
        payment = await gate.sign(operation="test/metered", method="upto")
        assert (await gate.call("broken", operation="test/metered", payment=payment)).status == 502
        gate.upstream.script["broken"] = taking(1_000_000)
        reply = await gate.call("broken", operation="test/metered", payment=payment)
        assert (reply.status, reply.receipt["amount"]) == (200, "1500000")


async def test_f060_open_ceilings_count_against_what_the_payer_has(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["slow"] = slow(0.4, taking(200_000))
        gate.sandbox.fund(PAYER, 2 * CEILING + BASE)
        payments = [await gate.sign(operation="test/metered", method="upto") for _ in range(6)]
        replies = await asyncio.gather(
            *(gate.call("slow", operation="test/metered", payment=payment) for payment in payments)
        )
        assert sorted(reply.status for reply in replies) == [200, 200, 402, 402, 402, 402]
        assert gate.upstream.runs("slow") == 2
        assert gate.sandbox.balance(PAYER) == 2 * CEILING + BASE - 2 * 300_000
        gate.sandbox.allow_permit2(PAYER, CEILING - 1)
        refused = await gate.pay("hello", operation="test/metered", method="upto")
        assert (refused.status, refused.json["code"]) == (412, "PERMIT2_ALLOWANCE_REQUIRED")


async def test_a_withheld_result_is_sold_again_for_what_it_came_to(tmp_path):
    """Not for the base, by whoever lets the dear payment fail and comes back with a small one."""
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["dear"] = slow(0.2, taking(1_000_000))
        payment = await gate.sign(operation="test/metered", method="upto")
        call = asyncio.create_task(gate.call("dear", operation="test/metered", payment=payment))
        await asyncio.sleep(0.1)
        gate.sandbox.fund(PAYER, 0)
        assert (await call).json["code"] == "SETTLEMENT_FAILED"
        gate.sandbox.fund(PAYER, 10 * CEILING)
        gate.upstream.script["dear"] = taking(0)
        anew = await gate.pay("dear", operation="test/metered", method="permit2")
        assert (anew.status, gate.upstream.runs("dear")) == (200, 2)
        again = await gate.pay("dear", operation="test/metered", method="upto")
        assert (again.status, again.receipt["amount"]) == (200, "1500000")
        assert gate.upstream.runs("dear") == 2
        assert {view.charge.source for view in await gate.charges()} == {Source.SIGNATURE}


async def test_a_caller_says_how_much_it_may_cost(tmp_path):
    """So much is held of his balance, and so much the vendor may take; less than the base buys nothing."""
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script |= {"dear": slow(0.1, taking(9_000_000)), "cheap": taking(100_000)}
        agent, token = await gate.agent(600_000)

        async def call(word, budget, **means):
            return await gate.call(
                word, operation="test/metered", headers={"X-Bill-Up-To-Usd": budget} if budget else {}, **means
            )

        assert (await call("cheap", None, token=token)).json["code"] == "PAYMENT_REQUIRED", "the ceiling is $2"
        under_way = asyncio.create_task(call("dear", "0.40", token=token))
        await asyncio.sleep(0.05)
        assert (await gate.balance(agent)).held == 400_000
        dear = (await under_way).json
        assert (dear["billing"]["charged_usd"], dear["data"]["budget"]) == ("0.400", 266_666)
        assert (await call("cheap", "0.200", token=token)).json["billing"]["charged_usd"] == "0.150"
        assert (await gate.balance(agent)).available == 50_000
        charged = await gate.charges()
        for budget, code in (
            ("0.099", "CEILING_BELOW_PRICE"), ("0", "CEILING_BELOW_PRICE"), ("-1", "VALIDATION_ERROR"),
            ("much", "VALIDATION_ERROR"), ("1e3", "VALIDATION_ERROR"), ("", None),
        ):  # fmt: skip
            refused = await call("cheap", budget, token=token)
            assert (refused.status, refused.json["code"]) == (422, code) if code else refused.status == 402
        signed = await call("cheap", "1.99", payment=await gate.sign(operation="test/metered", method="upto"))
        assert (signed.status, signed.json["code"]) == (422, "VALIDATION_ERROR")
        assert await gate.charges() == charged
        for budget, method in (("2.00", "upto"), ("0.10", "eip3009")):
            payment = await gate.sign(operation="test/metered", method=method)
            assert (await call("cheap", budget, payment=payment)).status == 200
        fixed = await gate.call("hello", token=token, headers={"X-Bill-Up-To-Usd": "0.329"})
        assert fixed.json["code"] == "CEILING_BELOW_PRICE"
        key = {"Idempotency-Key": "k"}
        _, token = await gate.agent(5_000_000)
        for budget, status in (("1.00", 200), ("1.00", 200), ("1.50", 409)):
            sent = {"X-Bill-Up-To-Usd": budget, **key}
            assert (await gate.call("cheap", operation="test/metered", token=token, headers=sent)).status == status
