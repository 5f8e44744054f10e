"""What is private stays in the one place it belongs to: I10, for secrets and for people.

Everything that could name somebody or open something is planted as a canary, everything is exercised, and then all
that the gateway has said to anybody else is searched.
"""

import base64
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.facilitator import FacilitatorServer
from rigs.gate import header
from rigs.payer import Payer
from rigs.program import Program
from rigs.running import GONE, PRICE, Running, facilitated, relayed, running
from rigs.upstream import ScriptedUpstream, hang_up, reply, status

pytestmark = pytest.mark.chain

PAYER = Payer(PAYER_KEYS[3])
ADA = {"phone": "(206) 555-0110"}
PEOPLE = ("Testerman", "Mockley", "5550110", "555-0110", "555-0111", "5550111", "5550133", "47 Imagined Ave",
          "ada@example.com", "Quill", "canary")  # fmt: skip
"""Who is in the directory, who is asked for, and what the vendor answers: none of it is anybody else's business."""


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply({"found": "canary-answer"})) as shop:
        yield shop


def leaks(text: str, *more: str) -> list[str]:
    return [canary for canary in (*PEOPLE, *more) if canary.lower() in text.lower()]


def forms(payment: Any) -> list[str]:
    """A payment's signature, header and repeat key, in the forms in which they could be written down."""
    signature = payment["payload"]["signature"]
    shown = [signature[2:66], header(payment)[:80], base64.b64encode(bytes.fromhex(signature[2:])).decode()[:40]]
    return [*shown, *([payment["extensions"]["repeat-key"]["info"]["key"]] if "extensions" in payment else [])]


async def exercise(gate: Running, shop: ScriptedUpstream) -> list[str]:
    """A bit of everything, gone well and gone wrong; answers with the secrets that were used."""
    bearer = await gate.agent("5.00")
    used = [bearer]
    for body in (ADA, {"phone": "+1 206 555 0133"}, {"phone": "no number of Quill"}, {"telephone": "5550133"}):
        for means in ({"token": bearer}, {"payment": await gate.sign(PAYER, operation="enrich/phone")}):
            answer = await gate.call("enrich/phone", body, **means)
            used += [answer.headers["X-Charge-Token"]] if "X-Charge-Token" in answer.headers else []
            used += forms(means["payment"]) if "payment" in means else []
    await gate.call("enrich/person", {"name": "Theodora Quill", "email": "ada@example.com"}, token=bearer)
    for behaviour in (reply({"found": "canary-answer"}), reply({}), status(500, value="canary of Quill"), hang_up()):
        shop.on("/find", behaviour)
        answer = await gate.call("shop/find", {"word": "canary-word"}, token=bearer, key="canary-idempotency")
        await gate.call("shop/find", {"word": "canary-word"}, payment=await gate.sign(PAYER))
    shop.on("/find")
    used += await use_keys(gate, bearer)
    wrong = bearer[:-4] + "aaaa"
    odd = {"Authorization": f"Bearer {wrong}", "X-Charge-Token": wrong, "Cookie": "canary=1",
           "User-Agent": "Quill/1", "Referer": "https://example.com/Quill",
           "X-Request-Id": "req_canary", "X-Forwarded-For": "canary"}  # fmt: skip
    used.append(wrong)
    for path in ("/api/v1/enrich/phone", "/api/v1/enrich/phone?phone=5550110&name=Quill", "/canary/Quill?canary=1",
                 "/api/v1/charges/chg_canary", "/api/v1/agents/me?name=Quill", "/metrics?canary"):  # fmt: skip
        for method in ("GET", "POST"):
            await gate.send(method, path, headers=odd, body=b'{"name": "Quill canary"')
            await gate.send(method, path, headers={"Authorization": f"Bearer {bearer}"}, body=b"\xff canary Quill")
    forged = PAYER.eip3009(await gate.offer(), value="1")
    await gate.call("shop/find", {"word": "canary"}, payment=forged)
    return used + forms(forged)


async def use_keys(gate: Running, bearer: str) -> list[str]:
    """A usage key and its successor, used where they may be and where they must not; and another token."""

    async def ask(method: str, path: str, token: str, body: bytes | None = None, **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
        return (await gate.send(method, f"/api/v1/agents/{path}", headers=sent, body=body)).json

    made = await ask("POST", "usage-keys", bearer, b'{"scopes": ["enrich:*"], "cap_usd": "1", "label": "canary"}')
    key, path = made["key"], f"usage-keys/{made['key_id']}"
    await gate.call("enrich/phone", ADA, token=key)
    await gate.call("shop/find", {"word": "canary"}, token=key)
    for wrong in (f"usage-keys/{key}", f"me?token={key}", f"{path}/{key}"):
        assert (await ask("GET", wrong, key, Referer=f"https://example.com/?key={key}"))["code"] == "BAD_REQUEST"
    assert (await ask("DELETE", path, key))["code"] == "ADMIN_TOKEN_REQUIRED"
    successor = (await ask("POST", f"{path}/rotate", bearer, b'{"grace_seconds": 60}'))["key"]
    await gate.call("enrich/phone", ADA, token=successor)
    fresh = (await ask("POST", "token/rotate", bearer, b'{"grace_seconds": 60}'))["token"]
    await ask("DELETE", path, fresh)
    assert (await gate.call("enrich/phone", ADA, token=successor)).status == 401
    return [key, successor, fresh]


async def test_f172_nothing_of_it_is_in_any_log(
    chain: Chain, program: Program, shop: ScriptedUpstream, directory: Path, tmp_path: Path
) -> None:
    """At debug level, with misses, failures and a crash; F-128, F-132: and no token in the database."""
    vendor, operator = f"vendor-{secrets.token_hex(12)}", f"operator-{secrets.token_hex(12)}"
    settings = relayed(chain, upstream=shop.port, directory=directory)
    toml = settings.toml.replace('description = "Finds a word"', f'headers = {{ Authorization = "Bearer {vendor}" }}')
    settings = type(settings)(toml, settings.pay_to, settings.relayer)
    async with running(tmp_path, program, settings, level="debug") as gate:
        used = [vendor, operator, PAYER.key.hex(), toml.partition('key = "')[2][:64]]
        used += await exercise(gate, shop)
        await gate.stop()
        await gate.start(crash_at="record.after", level="debug")
        payment = await gate.sign(PAYER)
        with pytest.raises(GONE):
            await gate.call("shop/find", {"word": "canary-crash"}, payment=payment)
        await gate.ended()
        await gate.start(level="debug")
        bought = await gate.until_paid("shop/find", {"word": "canary-crash"}, payment=payment)
        used += [*forms(payment), bought.headers["X-Charge-Token"]]
        page = (await gate.send("GET", "/metrics")).body.decode()
        said = gate.said()
        assert said.count('"event":"request"') > 30, "there is something to be searched"
        assert leaks(said, *used) == []
        assert leaks(page, *used) == []
        await gate.stop()
        # Money's memory keeps results for a day, and of tokens no more than their hashes.
        kept = gate.remembered()
        assert b"canary-answer" in kept
        assert b"usage" in kept
        tokens = [each for each in used if each.startswith("411")]
        assert len(tokens) > 7
        assert [token for token in tokens if token[8:28].encode() in kept] == []
        assert vendor.encode() not in kept


async def test_f175_no_person_reaches_the_facilitator(
    chain: Chain, program: Program, directory: Path, tmp_path: Path
) -> None:
    """Not even where a client put one into what it echoes: resource and extensions are its own words."""
    async with (
        FacilitatorServer(chain) as fac,
        running(tmp_path, program, facilitated(chain, fac.url, directory=directory)) as gate,
    ):
        asked = await gate.send("POST", "/api/v1/enrich/phone?phone=5550110", body=orjson.dumps(ADA))
        assert leaks(asked.body.decode() + str(asked.offer)) == []
        for operation, body in (("enrich/phone", ADA), ("enrich/person", {"name": "Ada Testerman", "zip": "98101"})):
            payment = await gate.sign(PAYER, operation=operation)
            url = f"{gate.url}/api/v1/{operation}?phone=2065550110&name=Testerman"
            payment |= {
                "resource": {"url": url, "description": "who is Quill?", "mimeType": "application/json"},
                "extensions": {
                    "payment-identifier": {"info": {"id": f"canary-{secrets.token_hex(8)}"}},
                    "canary": {"for": "Quill"},
                },
            }
            bought = await gate.until_paid(operation, body, payment=payment)
            assert "Testerman" in bought.body.decode()
        heard = [request for request in fac.requests if request.path in ("/verify", "/settle")]
        assert len(heard) >= 4
        for request in heard:
            assert leaks(request.body.decode() + str(request.headers) + request.path) == [], request.body
        assert chain.balance(gate.settings.pay_to) == PRICE + 500_000


async def test_f176_what_is_one_customers_is_404_for_another(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> None:
    """Charges of agents and of wallets; and an idempotency key is a name among one's own calls only."""
    async with running(tmp_path, program, relayed(chain, upstream=shop.port)) as gate:
        mine, yours = await gate.agent("1.00"), await gate.agent("1.00")
        word = {"word": "hello"}
        bought = await gate.call("shop/find", word, token=mine, key="the-same-key")
        anonymous = await gate.call("shop/find", word, payment=await gate.sign(PAYER))
        theirs = anonymous.headers["X-Charge-Token"]
        doors = {
            bought.headers["X-Charge-Id"]: {"Authorization": f"Bearer {mine}"},
            anonymous.headers["X-Charge-Id"]: {"X-Charge-Token": theirs},
        }
        keys = [{"Authorization": f"Bearer {yours}"}, {"Authorization": f"Bearer {mine}"}, {"X-Charge-Token": theirs},
                {"Authorization": f"Bearer {theirs}"}, {"X-Charge-Token": mine}, {}]  # fmt: skip
        nobody = await gate.send("GET", "/api/v1/charges/chg_00000000000000000000000000", headers=keys[0])
        for charge, right in doors.items():
            assert (await gate.send("GET", f"/api/v1/charges/{charge}", headers=right)).status == 200
            for headers in keys:
                if set(headers.values()) & {*right.values(), *(f"Bearer {each}" for each in right.values())}:
                    continue
                refused = await gate.send("GET", f"/api/v1/charges/{charge}", headers=headers)
                assert refused.status in (401, 404), (headers, refused)
                assert leaks(refused.body.decode()) == []
                if headers == keys[0]:
                    assert {**refused.json, "request_id": 0} == {**nobody.json, "request_id": 0}
        other = await gate.call("shop/find", {"word": "other"}, token=yours, key="the-same-key")
        assert (other.status, other.headers.get("Idempotent-Replay")) == (200, None)
        assert len(shop.seen) == 3
        assert (await gate.call("shop/find", {"word": "third"}, token=mine, key="the-same-key")).status == 409
