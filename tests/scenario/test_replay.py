"""Group A: one authorization pays one call, whoever brings it, wherever and how often."""

import asyncio
import itertools
from contextlib import AsyncExitStack

import orjson
import pytest
from rigs.fickle import Fickle
from rigs.gate import Gate, header
from rigs.payer import Payer
from rigs.scripted import CANARY, slow

from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.sandbox import PREFUNDED, PREFUNDED_ATOMIC

PAYER = next(iter(PREFUNDED)).lower()
PRICE = 330_000


def sandbox(clock=None) -> Fickle:
    import time

    return Fickle(pay_to=SANDBOX_PAY_TO, clock=clock or time.time)


async def test_f001_the_same_payment_again_and_after_a_restart(tmp_path):
    async with Gate.open(tmp_path) as gate:
        payment = await gate.sign()
        first = await gate.call("hello", payment=payment)
        again = await gate.call("hello", payment=payment)
        assert first.status == again.status == 200
        assert first.body == again.body
        assert again.headers["Idempotent-Replay"] == "true"
        assert again.receipt == first.receipt
        assert gate.upstream.runs("hello") == 1
        upstream = gate.upstream
    async with Gate.open(tmp_path, upstream=upstream) as gate:
        after = await gate.call("hello", payment=payment)
        assert after.status == 200
        assert after.body == first.body
        assert upstream.runs("hello") == 1
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC - PRICE


async def test_fifty_at_once_are_worked_on_once(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["hello"] = slow(0.2)
        payment = await gate.sign()
        replies = await asyncio.gather(*(gate.call("hello", payment=payment) for _ in range(50)))
        assert gate.upstream.runs("hello") == 1
        assert {reply.status for reply in replies} <= {200, 202}
        for reply in replies:
            if reply.status == 202:
                assert CANARY.encode() not in reply.body
                assert reply.headers["Location"].startswith("/api/v1/charges/chg_")
                assert int(reply.headers["Retry-After"]) > 0
        assert sum(reply.status == 200 for reply in replies) >= 1
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC - PRICE
        assert (await gate.call("hello", payment=payment)).status == 200


async def test_f003_another_resource_of_the_same_price(tmp_path):
    async with Gate.open(tmp_path) as gate:
        for here, there in itertools.permutations(("test/alpha", "test/beta"), 2):
            payment = await gate.sign(operation=here)
            assert (await gate.call("hello", operation=here, payment=payment)).status == 200
            refused = await gate.call("hello", operation=there, payment=payment)
            assert refused.status == 409
            assert refused.json["code"] == "PAYMENT_ALREADY_USED"
            payment = await gate.sign(operation=here)
            both = await asyncio.gather(
                gate.call("hello", operation=here, payment=payment),
                gate.call("hello", operation=there, payment=payment),
            )
            assert sorted(reply.status for reply in both) in ([200, 409], [202, 409])
        assert len(gate.upstream.journal) == 4
        assert gate.sandbox.balance(PAYER) == PREFUNDED_ATOMIC - 4 * PRICE


async def test_f005_four_gateways_on_one_database(tmp_path):
    async with AsyncExitStack() as stack:
        gates = [await stack.enter_async_context(Gate.open(tmp_path, settler=sandbox())) for _ in range(4)]
        payment = await gates[0].sign()
        replies = await asyncio.gather(*(gate.call("hello", payment=payment) for gate in gates for _ in range(3)))
        assert sum(gate.upstream.runs("hello") for gate in gates) == 1
        assert {reply.status for reply in replies} <= {200, 202}
        assert len(await gates[0].charges()) == 1


CHANGES = {
    "amount": "329999",
    "payTo": "0x00000000000000000000000000000000C0FFEE01",
    "asset": "0x00000000000000000000000000000000C0FFEE02",
    "network": "eip155:8453",
    "scheme": "upto",
    "maxTimeoutSeconds": 61,
    "extra": {"name": "Other", "version": "1"},
}


@pytest.mark.parametrize("field", CHANGES)
async def test_f007_the_client_rewrites_the_terms(tmp_path, field):
    settler = sandbox()
    async with Gate.open(tmp_path, settler=settler) as gate:
        offer = {**(await gate.offers())[0], field: CHANGES[field]}
        payment = Payer(bytes.fromhex(PREFUNDED[next(iter(PREFUNDED))][2:])).eip3009(offer)
        reply = await gate.call("hello", payment=payment)
        assert reply.status == 402
        assert reply.json["code"] == "PAYMENT_INVALID"
        assert reply.offer["accepts"][0]["amount"] == str(PRICE)
        assert settler.checks == []
        assert gate.upstream.journal == []


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
@pytest.mark.parametrize("off", [-1, 1])
async def test_f008_one_unit_off(tmp_path, method, off):
    settler = sandbox()
    async with Gate.open(tmp_path, settler=settler) as gate:
        changed = {"value" if method == "eip3009" else "amount": str(PRICE + off)}
        reply = await gate.pay("hello", method=method, **changed)
        assert reply.status == 402
        assert settler.checks == []


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
async def test_both_ways_to_sign_are_paid(tmp_path, method):
    async with Gate.open(tmp_path) as gate:
        reply = await gate.pay("hello", method=method)
        assert reply.status == 200
        assert reply.json["matched"] is True
        assert reply.json["billed"] is True
        assert reply.json["billing"]["charged_usd"] == "0.330"
        assert reply.receipt["success"] is True
        assert reply.receipt["amount"] == str(PRICE)
        assert gate.sandbox.balance(SANDBOX_PAY_TO) == PRICE


async def test_f017_a_cheap_payment_on_a_dear_request(tmp_path):
    async with Gate.open(tmp_path) as gate:
        cheap = await gate.sign(operation="test/alpha")
        reply = await gate.call("hello", operation="test/gamma", payment=cheap)
        assert reply.status == 402
        assert gate.upstream.journal == []
        dear = (await gate.offers("test/gamma"))[0]
        cheap["accepted"] = dear
        assert (await gate.call("hello", operation="test/gamma", payment=cheap)).status == 402
        assert gate.upstream.journal == []


async def test_a_stranger_with_the_public_authorization_learns_nothing(tmp_path):
    """Calldata shows the authorization and its signature: everything of the payment but what the client added."""
    async with Gate.open(tmp_path) as gate:
        payment = {**await gate.sign(), "resource": {"url": "https://example.com/as-the-client-had-it"}}
        token_reply = await gate.call("secret word", payment=payment)
        assert token_reply.status == 200
        rebuilt = {key: payment[key] for key in ("x402Version", "accepted", "payload")}
        for guess in ("secret word", "hello", "world"):
            reply = await gate.call(guess, payment=rebuilt)
            assert reply.status == 409
            assert CANARY.encode() not in reply.body
        for guess in ("one", "two", "three"):
            assert (await gate.call(guess, payment=payment)).status == 409
        # Whoever knows even the client's own bytes has had his guesses: now only the token opens it.
        assert (await gate.call("secret word", payment=payment)).status == 409
        charge, token = token_reply.headers["X-Charge-Id"], token_reply.headers["X-Charge-Token"]
        kept = await gate.send("GET", f"/api/v1/charges/{charge}", headers={"X-Charge-Token": token})
        assert kept.status == 200
        assert kept.json["result"]["data"]["found"] == CANARY


async def test_a_charge_is_shown_to_its_owner_alone(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(1_000_000)
        _, stranger = await gate.agent(1_000_000)
        mine = await gate.call("hello", token=token)
        path = f"/api/v1/charges/{mine.headers['X-Charge-Id']}"
        shown = await gate.send("GET", path, headers={"Authorization": f"Bearer {token}"})
        assert shown.status == 200
        assert orjson.dumps(shown.json["result"]) == mine.body
        for other in (stranger,):
            hidden = await gate.send("GET", path, headers={"Authorization": f"Bearer {other}"})
            missing = await gate.send("GET", path[:-1] + "x", headers={"Authorization": f"Bearer {other}"})
            assert hidden.status == missing.status == 404
            assert hidden.json["error"] == missing.json["error"]
        assert (await gate.send("GET", path)).status == 404


HEADERS = {
    "empty": b"",
    "no base64": b"\xff\xfe",
    "array": b"W10=",
    "number": b"MQ==",
    "nan": b"eyJ4NDAyVmVyc2lvbiI6TmFOfQ==",
    "version 1": b"eyJ4NDAyVmVyc2lvbiI6MX0=",
    "version 3": b"eyJ4NDAyVmVyc2lvbiI6M30=",
    "version true": b"eyJ4NDAyVmVyc2lvbiI6dHJ1ZX0=",
}


@pytest.mark.parametrize("name", HEADERS)
async def test_f011_malformed_headers(tmp_path, name):
    settler = sandbox()
    async with Gate.open(tmp_path, settler=settler) as gate:
        sent = {"PAYMENT-SIGNATURE": HEADERS[name].decode("latin-1"), "Content-Type": "application/json"}
        reply = await gate.send("POST", "/api/v1/test/alpha", headers=sent, body=b'{"word":"hello"}')
        assert reply.status in (400, 402)
        assert settler.checks == []
        assert gate.upstream.journal == []


async def test_f018_paid_answers_are_private_and_402s_are_not_stored(tmp_path):
    async with Gate.open(tmp_path) as gate:
        unpaid = await gate.call("hello")
        paid = await gate.pay("hello")
        assert unpaid.headers["Cache-Control"] == "no-store"
        assert "private" in paid.headers["Cache-Control"]
        assert "no-store" in paid.headers["Cache-Control"]


async def test_payment_identifier_same_payload_and_another(tmp_path):
    async with Gate.open(tmp_path) as gate:

        async def with_id(payment):
            return {**payment, "extensions": {"payment-identifier": {"info": {"id": "order-0000000000001"}}}}

        first = await with_id(await gate.sign())
        assert (await gate.call("hello", payment=first)).status == 200
        again = await gate.call("hello", payment=first)
        assert again.status == 200
        assert again.headers["Idempotent-Replay"] == "true"
        other = await gate.call("hello", payment=await with_id(await gate.sign()))
        assert other.status == 409
        assert other.json["code"] == "IDEMPOTENCY_CONFLICT"
        # Somebody else's identifier is somebody else's.
        assert (await gate.call("hello", payment=await with_id(await gate.sign(key=1)))).status == 200
        assert gate.upstream.runs("hello") == 2


async def test_a_payment_beside_a_bad_bearer_is_not_touched(tmp_path):
    async with Gate.open(tmp_path) as gate:
        payment = await gate.sign()
        reply = await gate.call("hello", payment=payment, headers={"Authorization": "Bearer 411_nonsense"})
        assert reply.status == 401
        assert await gate.charges() == []
        assert (await gate.call("hello", payment=payment)).status == 200


async def test_a_payment_beside_a_good_bearer_pays_and_the_charge_is_the_agents(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(1_000_000)
        reply = await gate.call("hello", token=token, payment=await gate.sign())
        assert reply.status == 200
        assert "X-Charge-Token" not in reply.headers
        assert (await gate.balance(agent)).available == 1_000_000
        (charge,) = await gate.charges()
        assert charge.agent_id == agent
        assert charge.payer == PAYER


async def test_x_payment_is_taken_for_a_v2_payload(tmp_path):
    async with Gate.open(tmp_path) as gate:
        sent = {"X-PAYMENT": header(await gate.sign()), "Content-Type": "application/json"}
        assert (await gate.send("POST", "/api/v1/test/alpha", headers=sent, body=b'{"word":"hello"}')).status == 200
