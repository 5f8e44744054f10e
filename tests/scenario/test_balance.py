"""Group G at the door: paying from a balance, keys, races, and what bad amounts meet."""

import asyncio

import pytest
from multidict import CIMultiDict
from rigs.gate import Gate
from rigs.scripted import failure, miss, slow

from gateway.core.charge import State
from gateway.store import charges

PRICE = 330_000


async def test_f085_two_hundred_calls_on_a_balance_for_one(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(PRICE)
        replies = await asyncio.gather(*(gate.call("hello", token=token) for _ in range(200)))
        assert sorted(reply.status for reply in replies) == [200] + [402] * 199
        for reply in replies:
            if reply.status == 402:
                assert reply.json["code"] == "PAYMENT_REQUIRED"
                assert reply.json["billing_reason"] == "virtual_balance_insufficient"
                assert reply.offer["accepts"]
        assert gate.upstream.runs("hello") == 1
        assert (await gate.balance(agent)).available == 0


async def test_hold_capture_and_release_are_visible(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(1_000_000)
        gate.upstream.script |= {"slow": slow(0.3), "nobody": slow(0.3, miss)}
        bearer = {"Authorization": f"Bearer {token}"}

        async def balance():
            return (await gate.send("GET", "/api/v1/agents/balance", headers=bearer)).json

        for word, left in (("nobody", "1.000"), ("slow", "0.670")):
            call = asyncio.create_task(gate.call(word, token=token))
            await asyncio.sleep(0.15)
            during = await balance()
            assert during["held_usd"] == "0.330"
            assert during["available_usd"] == "0.670"
            assert during["virtual_balance_usd"] == "1.000"
            assert (await call).status == 200
            after = await balance()
            assert (after["held_usd"], after["available_usd"]) == ("0.000", left)


async def test_own_money_is_spent_before_bonus_and_both_come_back_by_part(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(200_000, grant_micros=200_000)
        gate.upstream.script |= {"broken": failure}
        assert (await gate.call("broken", token=token)).status == 502
        balance = await gate.balance(agent)
        assert (balance.available, balance.bonus) == (200_000, 200_000)
        assert (await gate.call("hello", token=token)).status == 200
        balance = await gate.balance(agent)
        assert (balance.available, balance.bonus) == (0, 70_000)


async def test_f092_idempotency_keys(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(10 * PRICE)
        _, other = await gate.agent(10 * PRICE)
        key = {"Idempotency-Key": '"order-1"'}
        first = await gate.call("hello", token=token, headers=key)
        assert (await gate.call("hello", token=token, headers=key)).body == first.body
        conflict = await gate.call("other", token=token, headers=key)
        assert conflict.status == 409
        assert conflict.json["code"] == "IDEMPOTENCY_CONFLICT"
        assert (await gate.call("hello", operation="test/beta", token=token, headers=key)).status == 409
        assert (await gate.call("other", token=other, headers=key)).status == 200
        assert (await gate.balance(agent)).available == 9 * PRICE
        bad = await gate.call("hello", token=token, headers={"Idempotency-Key": "x" * 129})
        assert bad.status == 400
        assert bad.json["code"] == "IDEMPOTENCY_KEY_INVALID"


async def test_f093_a_key_in_flight(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10 * PRICE)
        gate.upstream.script["slow"] = slow(0.3)
        key = {"Idempotency-Key": "order-1"}
        first = asyncio.create_task(gate.call("slow", token=token, headers=key))
        await asyncio.sleep(0.1)
        second = await gate.call("slow", token=token, headers=key)
        assert second.status == 409
        assert second.json["code"] == "IDEMPOTENCY_IN_FLIGHT"
        assert int(second.headers["Retry-After"]) > 0
        done = await first
        assert (await gate.call("slow", token=token, headers=key)).body == done.body
        assert gate.upstream.runs("slow") == 1


async def test_f099_fifty_failures_strand_nothing(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(PRICE)
        gate.upstream.script["broken"] = failure
        for _ in range(50):
            assert (await gate.call("broken", token=token)).status == 502
        assert (await gate.balance(agent)).held == 0
        assert (await gate.call("hello", token=token)).status == 200


async def test_f088_refunds_from_three_sides_never_exceed_the_charge(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(PRICE)
        reply = await gate.call("hello", token=token)
        charge = reply.headers["X-Charge-Id"]

        async def refund(number, amount):
            return await gate.gateway.db.write(charges.refund, charge, amount, f"ref_{number}", "test")

        done = await asyncio.gather(*(refund(n, 200_000) for n in range(3)), return_exceptions=True)
        assert sum(not isinstance(each, BaseException) for each in done) == 1
        await refund(9, 130_000)
        await refund(9, 130_000)  # the same refund again changes nothing
        (view,) = await gate.charges()
        assert view.charge.state is State.REFUNDED
        assert (await gate.balance(agent)).available == PRICE


async def test_f132_f162_bad_bearers_are_401_whatever_is_wrong_with_them(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(PRICE)
        wrong = [
            token[:-1] + ("0" if token[-1] != "0" else "1"),
            "411_",
            "nonsense",
            token.replace("411_", "411k_"),
            token[:-3],
        ]
        answers = set()
        for bad in wrong:
            reply = await gate.call("hello", token=bad)
            assert reply.status == 401
            assert "PAYMENT-REQUIRED" not in reply.headers
            answers.add((reply.json["code"], reply.json["error"]))
        assert len(answers) == 1
        assert (await gate.call("hello", headers={"Authorization": "Basic Zm9vOmJhcg=="})).status == 401


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "BAD_JSON"),
        (b"{", 400, "BAD_JSON"),
        (b"[1]", 422, "VALIDATION_ERROR"),
        (b"{}", 422, "VALIDATION_ERROR"),
        (b'{"word": 5}', 422, "VALIDATION_ERROR"),
        (b'{"word": "hello", "more": 1}', 422, "VALIDATION_ERROR"),
        (b'{"word": "' + b"x" * 70_000 + b'"}', 413, "BODY_TOO_LARGE"),
        (b"[" * 60_000, 400, "BAD_JSON"),
        (b'{"word": ' + b"9" * 5000 + b"}", 400, "BAD_JSON"),
        (b'{"word": "\xff"}', 400, "BAD_JSON"),
    ],
)
async def test_bad_bodies_are_told_and_cost_nothing(tmp_path, body, status, code):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(PRICE)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        reply = await gate.send("POST", "/api/v1/test/alpha", headers=headers, body=body)
        assert (reply.status, reply.json["code"]) == (status, code)
        assert set(reply.json) == {"error", "code", "request_id", "details", "docs"}
        assert (await gate.balance(agent)).available == PRICE
        assert await gate.charges() == []


async def test_a_paid_head_and_a_wrong_method_are_405(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(PRICE)
        for method in ("HEAD", "GET", "PUT", "DELETE"):
            reply = await gate.send(method, "/api/v1/test/alpha", headers={"Authorization": f"Bearer {token}"})
            assert reply.status == 405
            assert reply.headers["Allow"] == "POST"
        assert await gate.charges() == []


async def test_more_calls_at_once_than_allowed_are_turned_away_unclaimed(tmp_path):
    async with Gate.open(tmp_path, toml="[limits]\nconcurrent_calls = 3\n") as gate:
        gate.upstream.script |= {f"w{n}": slow(0.3) for n in range(12)}
        agent, token = await gate.agent(12 * PRICE)
        replies = await asyncio.gather(*(gate.call(f"w{n}", token=token) for n in range(12)))
        assert sorted(reply.status for reply in replies) == [200] * 3 + [503] * 9
        assert {reply.json["code"] for reply in replies if reply.status == 503} == {"OVERLOADED"}
        assert (await gate.balance(agent)).available == 9 * PRICE


async def test_one_idempotency_key_and_not_several(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(PRICE)
        headers = [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json")]
        headers += [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
        reply = await gate.send("POST", "/api/v1/test/alpha", headers=CIMultiDict(headers), body=b'{"word": "hello"}')
        assert (reply.status, reply.json["code"]) == (400, "IDEMPOTENCY_KEY_INVALID")
        assert gate.upstream.journal == []
