"""Topping up by x402, on a whole gateway: settled before it is credited, once, whoever asks and however often."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from rigs.gate import KEYS, Gate, Reply, header
from rigs.newcomer import Newcomer
from rigs.payer import Payer, echoing
from rigs.running import eventually
from rigs.scripted import miss

from gateway.settlement.sandbox import Weather
from gateway.store import deposits, settlements
from gateway.store.database import Tx

PATH = "/api/v1/balance/topup/x402"
MATCH = """
[deposit_match]
percent = 50
min_usd = "2"
max_bonus_usd = "3"
total_budget_usd = "10"
"""


async def ask(
    gate: Gate, amount: object = "5.00", *, token: str | None = None, payment: Any = None, **more: Any
) -> Reply:
    headers = {"Content-Type": "application/json", **more.pop("headers", {})}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if payment is not None:
        headers["PAYMENT-SIGNATURE"] = header(payment)
    return await gate.send("POST", PATH, headers=headers, body=orjson.dumps({"amount_usd": amount, **more}))


async def sign(gate: Gate, amount: object = "5.00", *, token: str, key: int = 0, method: str = "eip3009") -> Any:
    required = (await ask(gate, amount, token=token)).offer
    wanted = next(
        offer for offer in required["accepts"] if ("assetTransferMethod" in offer["extra"]) is (method == "permit2")
    )
    return echoing(Payer(KEYS[key]).pay(wanted), required)


async def test_a_402_for_that_very_amount(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent()
        reply = await ask(gate, "5.25", token=token)
        assert (reply.status, reply.json["code"], reply.json["price_usd"]) == (402, "PAYMENT_REQUIRED", "5.250")
        assert {(offer["scheme"], offer["amount"]) for offer in reply.offer["accepts"]} == {("exact", "5250000")}
        assert "bazaar" not in reply.offer["extensions"]
        nobody = await ask(gate, 7)
        assert (nobody.status, nobody.json["code"]) == (402, "AGENT_TOKEN_REQUIRED")
        assert nobody.offer["accepts"][0]["amount"] == "7000000"
        for odd in ("x", "-1", "1e3", "0.50", None, "1.0000001", True):
            assert (await ask(gate, odd)).offer["accepts"][0]["amount"] == "5000000", odd
        assert (await ask(gate, "5", token=token, chain_id=31337)).status == 402
        assert (await ask(gate, "5", token=token, chain_id=8453)).json["code"] == "CHAIN_NOT_ACCEPTED"


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
async def test_paid_it_is_credited_once(tmp_path: Path, method: str) -> None:
    async with Gate.open(tmp_path) as gate:
        agent_id, token = await gate.agent()
        payment = await sign(gate, token=token, method=method)
        replies = await asyncio.gather(*(ask(gate, token=token, payment=payment) for _ in range(8)))
        reply = await eventually_paid(gate, token, payment)
        assert {r.status for r in replies} <= {200, 202}
        assert (reply.json["agent_id"], reply.json["credited_usd"], reply.json["bonus_usd"]) == (
            agent_id, "5.000", "0.000"
        )  # fmt: skip
        assert reply.receipt["success"] is True
        assert {r.body for r in replies if r.status == 200} <= {reply.body}
        assert (await gate.balance(agent_id)).available == 5_000_000
        other, other_token = await gate.agent()
        stolen = await ask(gate, token=other_token, payment=payment)
        assert stolen.status == 409 or "credited_usd" in stolen.json
        assert (await gate.balance(other)).available == 0
        changed = await ask(gate, "6", token=token, payment=payment)
        assert changed.status in (402, 409)
        reply = await gate.call("hello", token=token)
        assert reply.json["billing"]["mode"] == "virtual_balance"


async def test_whoever_guessed_too_often_may_still_bring_money(tmp_path: Path) -> None:
    limits = '[service]\ntrusted_proxies = ["127.0.0.1"]\n[rate_limits]\nmisses = "1 per day"\nunpaid = "3 per minute"'
    async with Gate.open(tmp_path, toml=limits) as gate:
        gate.upstream.script["nobody"] = miss
        agent_id, token = await gate.agent(1_000_000)
        assert (await gate.call("nobody", token=token)).json["matched"] is False
        assert (await gate.call("hello", token=token)).status == 429
        payment = await sign(gate, token=token)
        assert (await eventually_paid(gate, token, payment)).json["credited_usd"] == "5.000"
        assert (await gate.balance(agent_id)).available == 6_000_000
        client = {"X-Forwarded-For": "203.0.113.7"}
        assert [(await ask(gate, token=token, headers=client)).status for _ in range(4)] == [402] * 3 + [429]


async def eventually_paid(gate: Gate, token: str, payment: Any) -> Reply:
    async def paid() -> Reply | None:
        reply = await ask(gate, token=token, payment=payment)
        return reply if reply.status == 200 else None

    return await eventually(paid)


async def test_pending_is_told_and_credited_later(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        agent_id, token = await gate.agent()
        payment = await sign(gate, token=token)
        gate.sandbox.weather = Weather.LOST_REPLY
        reply = await ask(gate, token=token, payment=payment)
        assert (reply.status, reply.json["code"]) == (202, "SETTLEMENT_PENDING")
        assert (await gate.balance(agent_id)).available == 0
        gate.sandbox.weather = Weather.FAIR
        await gate.gateway.recovery.once()
        reply = await eventually_paid(gate, token, payment)
        assert reply.json["credited_usd"] == "5.000"
        status = await gate.send(
            "GET", f"/api/v1/charges/{reply.json['charge_id']}", headers={"Authorization": f"Bearer {token}"}
        )
        assert status.json["settlement"]["state"] == "proven"
        assert (await gate.balance(agent_id)).available == 5_000_000


async def test_f112_credited_after_a_restart(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        agent_id, token = await gate.agent()
        payment = await sign(gate, token=token)
        gate.sandbox.weather = Weather.STUCK
        assert (await ask(gate, token=token, payment=payment)).status == 202
    async with Gate.open(tmp_path) as gate:
        reply = await eventually_paid(gate, token, payment)
        assert reply.json["credited_usd"] == "5.000"
        assert (await gate.balance(agent_id)).available == 5_000_000


async def test_what_cannot_be_collected_credits_nothing(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        agent_id, token = await gate.agent()
        payment = await sign(gate, token=token)
        gate.sandbox.weather = Weather.STUCK
        assert (await ask(gate, token=token, payment=payment)).status == 202
        gate.sandbox.fund(Payer(KEYS[0]).address, 0)
        gate.sandbox.weather = Weather.FAIR

        async def refused() -> Reply | None:
            reply = await ask(gate, token=token, payment=payment)
            return reply if reply.status == 402 else None

        reply = await eventually(refused)
        assert reply.json["code"] == "SETTLEMENT_FAILED"
        assert (await gate.balance(agent_id)).available == 0
        poor = await sign(gate, token=token)
        assert (await ask(gate, token=token, payment=poor)).json["code"] == "PAYMENT_INVALID"


async def test_bad_input_moves_nothing(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        agent_id, token = await gate.agent()
        payment = await sign(gate, token=token)
        for amount in ("-1", "1e3", "0", "0.999999", "5.0000001", "100000.01", None, [], True, "NaN", 1e400):
            for paid in (None, payment):
                reply = await ask(gate, amount, token=token, payment=paid)
                assert reply.status in (400, 422), amount
                assert reply.json["code"] in ("VALIDATION_ERROR", "DEPOSIT_BELOW_MINIMUM", "BAD_JSON"), amount
        assert (await ask(gate, payment=payment)).json["code"] == "ANONYMOUS_REFUSED"
        assert (await ask(gate, token="411_nobody", payment=payment)).status == 401
        assert (await ask(gate, token=token, more=1)).status == 422
        assert (await gate.send("GET", PATH)).status == 405
        assert await gate.charges() == []
        assert (await gate.balance(agent_id)).available == 0
        assert await gate.gateway.db.read(deposits.listing, 9) == []


async def test_a_match_comes_with_it_and_is_shown(tmp_path: Path) -> None:
    async with Gate.open(tmp_path, toml=MATCH) as gate:
        agent_id, token = await gate.agent()

        async def me() -> Any:
            headers = {"Authorization": f"Bearer {token}"}
            return (await gate.send("GET", "/api/v1/agents/me", headers=headers)).json

        assert (await me())["deposit_match"] == {
            "percent": 50, "min_usd": "2.000", "max_bonus_usd": "3.000", "first_deposit_only": True, "ends_at": None,
            "matched_usd": "0.000", "left_usd": "3.000",
        }  # fmt: skip
        reply = await ask(gate, token=token, payment=await sign(gate, token=token))
        assert (reply.status, reply.json["bonus_usd"]) == (200, "2.500")
        told = await me()
        assert (told["deposit_match"]["matched_usd"], told["deposit_match"]["left_usd"]) == ("2.500", "0.000")
        assert (told["bonus_usd"], told["debt_usd"]) == ("2.500", "0.000")
        reply = await ask(gate, token=token, payment=await sign(gate, token=token))
        assert (reply.status, reply.json["bonus_usd"]) == (200, "0.000")
        assert (await gate.balance(agent_id)).bonus == 2_500_000


async def test_a_usage_key_tops_nothing_up_whatever_its_scopes(tmp_path: Path) -> None:
    """It may pay calls by x402; a match is the agent's own to use up."""
    async with Gate.open(tmp_path, toml=MATCH) as gate:
        agent_id, token = await gate.agent()
        key = await gate.usage_key(token, "test:*", "jobs", "support", "balance:read")
        blind = await gate.usage_key(token, "test:alpha")
        payment = await sign(gate, token=token)
        for asked in (ask(gate, token=key), ask(gate, token=key, payment=payment)):
            refused = await asked
            assert (refused.status, refused.json["code"]) == (403, "ADMIN_TOKEN_REQUIRED")
            assert "PAYMENT-REQUIRED" not in refused.headers
        assert (await gate.balance(agent_id)).available == 0
        reply = await ask(gate, token=token, payment=payment)
        assert (reply.status, reply.json["credited_usd"]) == (200, "5.000")
        for bearer, match, bonus in ((key, "2.500", "2.500"), (blind, None, None)):
            told = await gate.send("GET", "/api/v1/agents/me", headers={"Authorization": f"Bearer {bearer}"})
            assert (told.json["bonus_usd"], told.json["debt_usd"]) == (bonus, bonus and "0.000")
            assert (told.json["deposit_match"] or {"matched_usd": None})["matched_usd"] == match
            assert told.headers["Cache-Control"] == "private, no-store"


async def test_a_top_up_is_within_what_its_wallet_has_allowed(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        registered = (await Newcomer(gate, KEYS[0]).register(allowance_usd="6")).json
        token = registered["token"]
        assert (await ask(gate, token=token, payment=await sign(gate, token=token))).status == 200
        refused = await ask(gate, "2", token=token, payment=await sign(gate, "2", token=token))
        assert (refused.status, refused.json["code"]) == (402, "ALLOWANCE_EXCEEDED")
        assert (await ask(gate, "1", token=token, payment=await sign(gate, "1", token=token))).status == 200
        assert (await gate.balance(registered["agent_id"])).available == 6_000_000


async def test_nobody_keeps_an_answer_with_money_in_it(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent()
        payment = await sign(gate, token=token)
        gate.sandbox.weather = Weather.LOST_REPLY
        pending = await ask(gate, token=token, payment=payment)
        gate.sandbox.weather = Weather.FAIR
        await gate.gateway.recovery.once()
        paid = await eventually_paid(gate, token, payment)
        assert [r.headers["Cache-Control"] for r in (pending, paid)] == ["private, no-store"] * 2
        assert (await ask(gate, token=token)).headers["Cache-Control"] == "no-store"


async def test_f114_a_hundred_top_ups_at_the_edge_of_the_budget(tmp_path: Path) -> None:
    rule = '[deposit_match]\npercent = 100\nmin_usd = "1"\nmax_bonus_usd = "100"\ntotal_budget_usd = "62.5"\n'
    async with Gate.open(tmp_path, toml=rule) as gate:
        agents = [await gate.agent() for _ in range(100)]

        async def top_up(number: int) -> None:
            _, token = agents[number]
            payment = await sign(gate, "1.00", token=token, key=number % 3)
            assert (await ask(gate, "1.00", token=token, payment=payment)).status in (200, 202)

        await asyncio.gather(*(top_up(number) for number in range(100)))

        async def all_there() -> bool:
            return len(await gate.gateway.db.read(deposits.listing, 999)) == 100

        await eventually(all_there)
        bonus = [(await gate.balance(agent_id)).bonus for agent_id, _ in agents]
        assert (sum(bonus), max(bonus)) == (62_500_000, 1_000_000)


async def test_f112_taken_back_it_is_withdrawn_once_and_told_as_under_way(tmp_path: Path) -> None:
    async with Gate.open(tmp_path, toml=MATCH) as gate:
        agent_id, token = await gate.agent()
        payment = await sign(gate, token=token)
        reply = await ask(gate, token=token, payment=payment)
        assert (await gate.call("hello", token=token)).status == 200
        spent = 5_000_000 - (await gate.balance(agent_id)).available
        settlement = await gate.gateway.db.read(_settlement)
        await gate.gateway.db.write(_not_final)
        gate.sandbox.weather = Weather.STUCK
        await gate.gateway.db.write(settlements.taken_back, settlement)
        balance = await gate.balance(agent_id)
        assert (balance.available, balance.bonus, balance.debt) == (0, 0, spent)
        under_way = await ask(gate, token=token, payment=payment)
        assert under_way.status == 202
        gate.sandbox.weather = Weather.FAIR
        again = await eventually_paid(gate, token, payment)
        assert again.json["deposit_id"] != reply.json["deposit_id"]
        balance = await gate.balance(agent_id)
        assert (balance.available, balance.bonus, balance.debt) == (5_000_000 - spent, 2_500_000, 0)


def _settlement(tx: Tx) -> str:
    ((id,),) = tx.execute("SELECT id FROM settlements WHERE purpose = 'topup'")
    return str(id)


def _not_final(tx: Tx) -> None:
    """The sandbox is final at once; here it is not."""
    ((sql,),) = tx.execute("SELECT sql FROM sqlite_schema WHERE name = 'settlements_final_stay'")
    tx.execute("DROP TRIGGER settlements_final_stay")
    tx.execute("UPDATE settlements SET final = 0")
    tx.execute(sql)


async def test_it_can_be_switched_off(tmp_path: Path) -> None:
    async with Gate.open(tmp_path, toml="[deposits]\nenabled = false\n") as gate:
        _, token = await gate.agent()
        assert (await ask(gate, token=token)).json["code"] == "ROUTE_OFFLINE"
        for path, method in (("receive-address", "GET"), ("claim", "POST")):
            assert (await gate.send(method, f"/api/v1/balance/deposit/{path}")).json["code"] == "ROUTE_OFFLINE"
