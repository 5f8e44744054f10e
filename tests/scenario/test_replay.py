"""Group A: one authorization pays one call, whoever brings it, wherever and how often."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import time
from contextlib import AsyncExitStack

import orjson
import pytest
from rigs.fickle import Fickle
from rigs.gate import Gate, header
from rigs.payer import Payer, echoing
from rigs.scripted import CANARY, Scripted, failure, miss, slow

from gateway.core.catalogue import Price
from gateway.core.charge import State
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.protocol import Unknown
from gateway.settlement.sandbox import PREFUNDED, PREFUNDED_ATOMIC, Weather
from gateway.store import agents, charges

PAYER = next(iter(PREFUNDED)).lower()
PRICE = 330_000


def sandbox(clock=None) -> Fickle:
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


async def test_a_stolen_ledger_does_not_tell_what_was_asked_for(tmp_path):
    """No hash in it is of a request alone: else all phone numbers could be tried against it."""
    async with Gate.open(tmp_path, toml="[deposits]\nenabled = false\n") as gate:
        _, token = await gate.agent(10 * PRICE)
        await gate.call("hello", token=token, headers={"Idempotency-Key": "k"})
        await gate.pay("hello")
        hashes = await gate.gateway.db.read(
            lambda tx: {*tx.execute("SELECT request_hash FROM charges"),
                        *tx.execute("SELECT fingerprint FROM idempotency_keys")}
        )  # fmt: skip
    assert len(hashes) == 1, "they are of one request"
    request = b'test/alpha\n{"word":"hello"}'
    secret = bytes.fromhex((tmp_path / "gate.db.leads-key").read_text())
    key = hmac.digest(secret, b"requests", "sha256")
    assert hashes == {(hmac.digest(key, request, "sha256"),)}, "this is what it is a hash of"
    assert not {(hashlib.sha256(request).digest(),), (hmac.digest(b"", request, "sha256"),)} & hashes
    ledger = b"".join(path.read_bytes() for path in tmp_path.glob("gate.db*") if path.suffix in (".db", ".db-wal"))
    assert not any(each in ledger for each in (secret, key, secret.hex().encode()))


@pytest.mark.parametrize("by", ["idempotency key", "payment", "payment beside a bearer"])
async def test_without_its_key_a_ledger_knows_no_repeat_and_charges_none(tmp_path, by):
    """As after a restore of the ledger alone; with the key it is as it was."""

    async def call(gate: Gate, word: str = "hello"):
        bearer = token if by != "payment" else None
        if by == "idempotency key":
            return await gate.call(word, token=bearer, headers={"Idempotency-Key": "k"})
        return await gate.call(word, token=bearer, payment=payment)

    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(10 * PRICE)
        payment = await gate.sign()
        first = await call(gate)
        assert first.status == 200
        upstream = gate.upstream
    key = tmp_path / "gate.db.leads-key"
    kept = key.read_bytes()
    key.unlink()
    async with Gate.open(tmp_path, upstream=upstream) as gate:
        refused = await call(gate)
        assert (refused.status, refused.json["code"]) == (
            409, "IDEMPOTENCY_CONFLICT" if by == "idempotency key" else "PAYMENT_ALREADY_USED",
        )  # fmt: skip
        assert (upstream.runs("hello"), len(await gate.charges())) == (1, 1)
        assert (await gate.balance(agent)).available == (9 if by == "idempotency key" else 10) * PRICE
    key.write_bytes(kept)
    async with Gate.open(tmp_path, upstream=upstream) as gate:
        again = await call(gate)
        assert (again.status, again.body) == (200, first.body)
        assert (upstream.runs("hello"), len(await gate.charges())) == (1, 1)


async def test_f001_the_same_payment_again_when_its_signature_has_ended(tmp_path):
    """It paid in time: a fresh 402 would have its client pay a second time, for what is kept for a day."""
    ahead_s = 0

    def clock():
        return time.time() + ahead_s

    settler = sandbox(clock)
    async with Gate.open(tmp_path, settler=settler, clock=clock) as gate:
        payment, missed, failed, unused = [await gate.sign() for _ in range(4)]
        gate.upstream.script |= {"nobody": miss, "broken": failure}
        first, told_nobody = await gate.call("hello", payment=payment), await gate.call("nobody", payment=missed)
        assert (await gate.call("broken", payment=failed)).status == 502
        ahead_s = 3600
        assert (await gate.call("hello", payment=payment)).body == first.body
        assert (await gate.call("nobody", payment=missed)).body == told_nobody.body
        assert is_refused(await gate.call("other", payment=payment))
        checked = len(settler.checks)
        for word, late in (("broken", failed), ("hello", unused)):
            refused = await gate.call(word, payment=late)
            assert (refused.status, refused.json["code"]) == (402, "PAYMENT_EXPIRED")
        assert len(settler.checks) == checked
        assert len(await gate.charges()) == 3
        ahead_s = 90_000
        assert (await gate.call("hello", payment=payment)).json["code"] == "RESULT_EXPIRED"
        assert gate.upstream.runs("hello") == 1


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


def is_refused(reply):
    """409, with nothing of the charge: no result, no id, no fresh token."""
    return (
        (reply.status, reply.json["code"]) == (409, "PAYMENT_ALREADY_USED")
        and CANARY.encode() not in reply.body
        and not [name for name in reply.headers if name.lower().startswith("x-charge")]
        and b"chg_" not in reply.body
    )


def told(reply):
    """An answer but for what every answer has alone."""
    headers = {name: value for name, value in reply.headers.items() if name.lower() not in ("x-request-id", "date")}
    return reply.status, headers, {**reply.json, "request_id": None}


async def fetched(gate, bought):
    """What the charge token of an answer opens."""
    where, token = f"/api/v1/charges/{bought.headers['X-Charge-Id']}", bought.headers["X-Charge-Token"]
    kept = await gate.send("GET", where, headers={"X-Charge-Token": token})
    assert kept.status == 200
    return kept.json["result"]["data"]["found"]


async def wrong_requests(gate):
    """Of the one payment there is."""
    ((count,),) = await gate.gateway.db.read(lambda tx: tx.execute("SELECT wrong_requests FROM payments"))
    return count


def echo_of(key):
    return {"repeat-key": {"info": {"key": key}, "schema": {"type": "object"}}}


async def test_a_stranger_with_the_public_authorization_learns_nothing(tmp_path):
    """Calldata shows the authorization and its signature, anybody's 402 the rest: all of the payment but its repeat
    key. So not even who knows the request gets the answer, or gets to know that he does."""
    async with Gate.open(tmp_path) as gate:
        payment = await gate.sign()
        bought = await gate.call("secret word", payment=payment)
        assert bought.status == 200
        public = await gate.required()
        bare = {name: payment[name] for name in ("x402Version", "accepted", "payload")}
        echoed = echoing(bare, public)
        rebuilt = [bare, echoed, {**bare, "extensions": public["extensions"]}, {**bare, "resource": public["resource"]}]
        rebuilt += [
            {**bare, "extensions": echo_of(key)} for key in ("0" * 32, "f" * 32, "", None, 7, [], {}, "x" * 5000)
        ]
        rebuilt.append({**echoed, "extensions": {**payment["extensions"], **echo_of("0" * 32)}})
        heard = []
        for made in rebuilt:
            for guess in ("secret word", "hello"):
                reply = await gate.call(guess, payment=made)
                assert is_refused(reply), made
                heard.append(told(reply))
        assert all(each == heard[0] for each in heard), "right or wrong, he hears the same"
        assert await wrong_requests(gate) == 0, "and as soon: neither is written down"
        # The payer himself was not locked out by that, and the spelling of his JSON is his own business.
        for spelling in (
            payment,
            dict(reversed(payment.items())),
            {**payment, "extensions": dict(reversed(payment["extensions"].items()))},
        ):
            again = await gate.call("secret word", payment=spelling)
            assert again.body == bought.body
        spaced = base64.b64encode(json.dumps(payment, indent=1).encode()).decode()
        headers = {"PAYMENT-SIGNATURE": spaced, "Content-Type": "application/json"}
        again = await gate.send("POST", "/api/v1/test/alpha", headers=headers, body=b'{ "word": "secret word" }')
        assert again.body == bought.body
        assert gate.upstream.runs("secret word") == 1


async def test_after_three_guesses_with_the_very_payment_only_the_token_opens_it(tmp_path):
    """Whoever knows even the client's own bytes."""
    async with Gate.open(tmp_path) as gate:
        payment = await gate.sign()
        bought = await gate.call("secret word", payment=payment)
        for guess in ("one", "two", "three"):
            assert is_refused(await gate.call(guess, payment=payment))
        assert told(await gate.call("secret word", payment=payment)) == told(await gate.call("four", payment=payment))
        assert is_refused(await gate.call("secret word", payment=payment))
        assert await fetched(gate, bought) == CANARY


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
@pytest.mark.parametrize(
    "echo", [{}, {"extensions": {}}, {"extensions": echo_of("0" * 31)}, {"extensions": echo_of(7)}]
)
async def test_a_payment_without_a_secret_answers_to_its_token_alone_once_it_is_settled(tmp_path, method, echo):
    """Of it the stranger has every byte."""
    async with Gate.open(tmp_path) as gate:
        payment = {**await gate.sign(method=method, echo=False), **echo}
        bought = await gate.call("secret word", payment=payment)
        assert bought.status == 200
        right, wrong = [await gate.call(word, payment=payment) for word in ("secret word", "hello")]
        assert is_refused(right)
        assert told(right) == told(wrong)
        assert "charge token" in right.json["error"]
        assert await wrong_requests(gate) == 0
        assert await fetched(gate, bought) == CANARY
    async with Gate.open(tmp_path, upstream=gate.upstream) as gate:
        assert is_refused(await gate.call("secret word", payment=payment))
        assert await fetched(gate, bought) == CANARY
        assert gate.upstream.runs("secret word") == 1


async def test_a_payment_identifier_is_a_secret_as_good_as_a_repeat_key(tmp_path):
    async with Gate.open(tmp_path) as gate:
        bare = await gate.sign(echo=False)
        payment = {
            **bare,
            "extensions": {"payment-identifier": {"info": {"id": "pay_7d5d747be160e280504c099d984bcfe0"}}},
        }
        bought = await gate.call("hello", payment=payment)
        assert is_refused(await gate.call("hello", payment=bare))
        assert (await gate.call("hello", payment=payment)).body == bought.body


async def test_a_payment_without_a_secret_may_be_repeated_while_nobody_can_have_seen_it(tmp_path):
    """While it is worked on and while its settlement is queued here: not when somebody else may have sent it."""

    async def not_yet(settler, settlement):
        return Unknown("not now")

    settler = sandbox()
    settler.settle_as = not_yet
    async with Gate.open(tmp_path, settler=settler) as gate:
        gate.upstream.script["slow"] = slow(0.5)
        payment = await gate.sign(echo=False)
        first = asyncio.create_task(gate.call("slow", payment=payment))
        await asyncio.sleep(0.2)
        working = await gate.call("slow", payment=payment)
        assert (working.status, working.json["code"]) == (202, "CALL_IN_PROGRESS")
        queued, again = await first, await gate.call("slow", payment=payment)
        for reply in (queued, again):
            assert (reply.status, reply.json["code"]) == (202, "SETTLEMENT_PENDING")
            assert "charge token" in reply.json["details"]["hint"]
        settler.journals = False
        assert is_refused(await gate.call("slow", payment=payment))
        settler.journals = True
        settler.settle_as = None
        while (state := (await gate.charges())[0].charge.state) is not State.SETTLED:
            assert state is State.CAPTURED
            await asyncio.sleep(0.05)
        assert is_refused(await gate.call("slow", payment=payment))
        assert {await fetched(gate, reply) for reply in (working, queued, again)} == {CANARY}


async def test_a_payment_with_a_secret_may_be_repeated_whoever_has_seen_it(tmp_path):
    async def not_yet(settler, settlement):
        return Unknown("not now")

    settler = sandbox()
    settler.settle_as, settler.journals = not_yet, False
    async with Gate.open(tmp_path, settler=settler) as gate:
        payment = await gate.sign()
        for _ in range(2):
            pending = await gate.call("hello", payment=payment)
            assert pending.status == 202
            assert "the very same payment" in pending.json["details"]["hint"]


async def test_a_miss_is_told_again_to_whoever_repeats_the_call(tmp_path):
    """It was never sent to anybody."""
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["nobody"] = miss
        payment = await gate.sign(echo=False)
        first = await gate.call("nobody", payment=payment)
        assert (await gate.call("nobody", payment=payment)).body == first.body


async def test_the_owners_bearer_repeats_what_nobody_else_can(tmp_path):
    async with Gate.open(tmp_path) as gate:
        (_, mine), (_, theirs) = await gate.agent(), await gate.agent()
        payment = await gate.sign(echo=False)
        bought = await gate.call("secret word", token=mine, payment=payment)
        for means in ({}, {"token": theirs}):
            right, wrong = [await gate.call(word, payment=payment, **means) for word in ("secret word", "hello")]
            assert is_refused(right)
            assert told(right) == told(wrong)
        assert is_refused(await gate.call("hello", token=mine, payment=payment))
        again = await gate.call("secret word", token=mine, payment=payment)
        assert again.body == bought.body
        assert again.headers["Idempotent-Replay"] == "true"


async def test_an_agent_does_not_repeat_what_was_paid_without_one(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent()
        payment = await gate.sign(echo=False)
        assert (await gate.call("hello", payment=payment)).status == 200
        assert is_refused(await gate.call("hello", token=token, payment=payment))


async def test_an_echo_longer_than_a_header_is_no_payment_and_claims_nothing(tmp_path):
    async with Gate.open(tmp_path) as gate:
        payment = {**await gate.sign(echo=False), "extensions": echo_of("0" * 10_000)}
        reply = await gate.call("hello", payment=payment)
        assert (reply.status, reply.json["code"]) == (400, "PAYMENT_MALFORMED")
        assert await gate.charges() == []


async def test_every_refusal_has_a_repeat_key_of_its_own(tmp_path):
    """As the unpaid 402 has: what is signed after a refusal may be repeated, too."""
    async with Gate.open(tmp_path) as gate:
        _, poor = await gate.agent()
        used = []
        for _ in range(3):
            for means in ({"payment": await gate.sign(value="1")}, {"token": poor}, {}):
                reply = await gate.call("hello", **means)
                assert reply.status == 402
                assert reply.offer["extensions"] == reply.json["extensions"]
                used.append(reply.offer["extensions"]["repeat-key"]["info"]["key"])
        assert len(set(used)) == len(used)


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


class Dearer(Scripted):
    def offerings(self):
        return [self._offering("test/alpha", Price(340_000))]


@pytest.mark.parametrize("weather", [Weather.FAIR, Weather.STUCK])
@pytest.mark.parametrize("then", [Dearer, lambda: Scripted(timeout_s=40.0)], ids=["price", "timeout"])
async def test_f022_whoever_has_paid_is_not_asked_again_because_the_terms_have_changed(tmp_path, then, weather):
    async with Gate.open(tmp_path) as gate:
        payment = await gate.sign()
        gate.sandbox.weather = weather
        first = await gate.call("hello", payment=payment)
        assert first.status == (200 if weather is Weather.FAIR else 202)
    async with Gate.open(tmp_path, upstream=then()) as gate:
        again = await gate.call("hello", payment=payment)
        assert again.status in (200, 202)
        assert gate.upstream.runs("hello") == 0
        stranger = await gate.call("other", payment=payment)
        assert (stranger.status, stranger.json["code"]) == (409, "PAYMENT_ALREADY_USED")


async def test_what_was_paid_for_is_told_again_while_its_upstream_rests(tmp_path):
    async with Gate.open(tmp_path) as gate:
        payment = await gate.sign()
        _, token = await gate.agent(1_000_000)
        key = {"Idempotency-Key": "k1"}
        bought = [await gate.call("hello", payment=payment), await gate.call("hello", token=token, headers=key)]
        gate.upstream.rests = {"test/alpha": 30}
        again = [await gate.call("hello", payment=payment), await gate.call("hello", token=token, headers=key)]
        assert [(reply.status, reply.json) for reply in again] == [(200, reply.json) for reply in bought]
        for refused in (await gate.pay("new"), await gate.call("new", token=token)):
            assert (refused.status, refused.json["code"]) == (502, "UPSTREAM_ERROR")


async def test_f133_a_revoked_bearer_gets_nothing_of_what_it_bought(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(1_000_000)
        key = {"Idempotency-Key": "k1"}
        payment = await gate.sign()
        assert (await gate.call("hello", token=token, headers=key)).status == 200
        assert (await gate.call("other", token=token, payment=payment)).status == 200
        await gate.gateway.db.write(agents.revoke, agent)
        for again in (
            await gate.call("hello", token=token, headers=key),
            await gate.call("other", token=token, payment=payment),
        ):
            assert (again.status, again.json["code"]) == (401, "INVALID_TOKEN")


async def test_repeats_pile_up_no_tokens(tmp_path):
    async with Gate.open(tmp_path) as gate:
        payment = await gate.sign()
        replies = [await gate.call("hello", payment=payment) for _ in range(20)]
        ((count,),) = await gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM charge_tokens"))
        assert count == charges.TOKENS_MAX
        url = f"/api/v1/charges/{replies[0].headers['X-Charge-Id']}"
        opened = [
            (await gate.send("GET", url, headers={"X-Charge-Token": reply.headers["X-Charge-Token"]})).status
            for reply in replies
        ]
        assert opened == [404] * 4 + [200] * 16
