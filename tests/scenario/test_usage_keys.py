"""Keys at the door: rotating a token, usage keys with scopes and caps, and what they may never do."""

import asyncio
import secrets
from typing import Any

import orjson
import pytest
import structlog
from rigs.gate import Gate, Reply, header
from rigs.newcomer import Newcomer
from rigs.scripted import failure, miss, slow, taking
from rigs.wire import withheld
from scenario import test_tickets
from scenario import test_topups as topups

from gateway.core import ids
from gateway.core.errors import Code, Conflict, Problem
from gateway.core.upstream import Context, Outcome
from gateway.flows import jobs as flow
from gateway.store import agents, charges, jobs, usage_keys
from gateway.store.database import Tx

PRICE = 330_000
KEYS = "/api/v1/agents/usage-keys"
ROTATE = "/api/v1/agents/token/rotate"


class Clock:
    """Seconds, which pass as a test says; it begins on a Monday."""

    def __init__(self, s: float = 1_800_230_400.0) -> None:
        self.s = s

    def __call__(self) -> float:
        return self.s


async def ask(
    gate: Gate, method: str, path: str, token: str | None = None, body: Any = None, idempotency_key: str | None = None
) -> Reply:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if idempotency_key is not None:
        headers["Idempotency-Key"] = idempotency_key
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return await gate.send(method, path, headers=headers, body=orjson.dumps(body) if body is not None else None)


async def key(gate: Gate, admin: str, *scopes: str, **terms: Any) -> tuple[str, str]:
    """(key id, the key)"""
    reply = await ask(gate, "POST", KEYS, admin, {"scopes": scopes or ["test:*"], **terms})
    assert reply.status == 201, reply.json
    return reply.json["key_id"], reply.json["key"]


async def used(gate: Gate, admin: str) -> list[str]:
    return [each["used_usd"] for each in (await ask(gate, "GET", KEYS, admin)).json["usage_keys"]]


async def submit(
    gate: Gate, token: str, word: str = "hello", ceiling: str = "1.50", idempotency_key: str | None = None, **more: Any
) -> Reply:
    body = {"route": "test/metered", "payload": {"word": word}, "bill_up_to_usd": ceiling, **more}
    return await ask(gate, "POST", "/api/v1/enrich/jobs", token, body, idempotency_key)


# rotating


async def test_a_rotated_token_is_dead_at_once_and_usage_keys_survive(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, old = await gate.agent(10 * PRICE)
        _, usage = await key(gate, old)
        assert (await gate.call("warm", token=old)).status == 200  # it is known by now, for two seconds
        reply = await ask(gate, "POST", ROTATE, old)
        told = reply.json
        assert (reply.status, told["agent_id"], told["token_shown_once"]) == (200, agent, True)
        assert told["previous_valid_until"] == told["rotated_at"]
        assert ids.is_token(told["token"], "411_")
        refused = await gate.call("hello", token=old)
        assert (refused.status, refused.json["code"]) == (401, "INVALID_TOKEN")
        assert (await ask(gate, "POST", ROTATE, old)).status == 401
        assert (await gate.call("hello", token=told["token"])).status == 200
        assert (await gate.call("hello", token=usage)).status == 200
        assert gate.upstream.runs("hello") == 2


async def test_in_its_grace_a_token_buys_and_can_shut_out_nobody(tmp_path):
    clock = Clock()
    async with Gate.open(tmp_path, clock=clock) as gate:
        _, old = await gate.agent(10 * PRICE)
        told = (await ask(gate, "POST", ROTATE, old, {"grace_seconds": 300})).json
        assert told["previous_valid_until"] == "2027-01-18T00:05:00Z"
        for method, path in (("POST", ROTATE), ("GET", KEYS), ("POST", "/api/v1/agents/webhook-secret")):
            refused = await ask(gate, method, path, old)
            assert (refused.status, refused.json["code"]) == (403, "ADMIN_TOKEN_REQUIRED"), path
        assert (await ask(gate, "GET", "/api/v1/agents/me", old)).status == 200
        clock.s += 299.9
        assert (await gate.call("hello", token=old)).status == 200
        clock.s += 0.1
        assert (await gate.call("hello", token=old)).status == 401
        assert (await ask(gate, "GET", "/api/v1/agents/me", old)).status == 401
        assert (await gate.call("hello", token=told["token"])).status == 200


async def kept(gate: Gate) -> Any:
    """What a stolen token could leave behind."""
    tables = ("usage_keys", "webhook_secrets", "wallets", "charges", "tickets", "jobs")

    def read(tx: Tx) -> list[Any]:
        tokens = tx.execute("SELECT id, key_id, revoked_ms, expires_ms FROM tokens")
        return [sorted(tokens, key=str), *(tx.execute(f"SELECT * FROM {table}") for table in tables)]

    return await gate.gateway.db.read(read)


WRITES = {
    "key made": ("POST", KEYS, {"scopes": ["jobs"]}),
    "key changed": ("PATCH", KEYS + "/{key_id}", {"scopes": ["jobs"], "cap_usd": None}),
    "key rotated": ("POST", KEYS + "/{key_id}/rotate", {"grace_seconds": 0}),
    "rotated again": ("POST", ROTATE, {"grace_seconds": 5}),
    "webhook secret": ("POST", "/api/v1/agents/webhook-secret", {"overlap_seconds": 0}),
    "webhook secret of a job": ("POST", "/api/v1/enrich/jobs", {
        "route": "test/metered", "payload": {"word": "x"}, "callback_url": "https://hooks.example.com/done",
    }),
    "nonce for a link": ("POST", "/api/v1/agents/wallet-nonce", {"address": "0x" + "a1" * 20, "purpose": "link"}),
    "wallet linked": ("POST", "/api/v1/agents/wallet-link", "shown"),
    "topped up": ("POST", topups.PATH, {"amount_usd": "5.00"}),
    "called": ("POST", "/api/v1/test/alpha", {"word": "hello"}),
    "ticket": ("POST", "/api/v1/support/tickets", test_tickets.BUG),
}  # fmt: skip
CALLS = ("called", "ticket")
"""What a token may do in its grace."""


@pytest.mark.parametrize("grace_s", [0, 300])
@pytest.mark.parametrize("what", WRITES)
async def test_f133_a_token_rotated_while_its_body_comes_writes_nothing(tmp_path, what, grace_s):
    method, path, body = WRITES[what]
    async with test_tickets.gateway(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        key_id, _ = await key(gate, token)
        if body == "shown":
            newcomer = Newcomer(gate)
            body = newcomer.shown(await newcomer.invite(token=token, purpose="link"))
        sent = [("Authorization", f"Bearer {token}"), ("Content-Type", "application/json")]
        if what == "topped up":
            sent.append(("PAYMENT-SIGNATURE", header(await topups.sign(gate, token=token))))
        path = path.format(key_id=key_id)
        async with withheld(gate.url, method, path, *sent, body=orjson.dumps(body)) as comes:
            assert (await ask(gate, "POST", ROTATE, token, {"grace_seconds": grace_s})).status == 200
            before = await kept(gate)
            reply = await comes()
        if what in CALLS and grace_s:
            assert reply.status == 200
            return
        expected = (403, "ADMIN_TOKEN_REQUIRED") if grace_s else (401, "INVALID_TOKEN")
        assert (reply.status, reply.json()["code"]) == expected
        assert await kept(gate) == before


async def test_a_key_is_revoked_by_a_token_that_is_not_replaced(tmp_path):
    """A DELETE has no body to wait for; its write looks again all the same."""
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent()
        key_id, usage = await key(gate, token)
        agent = await gate.gateway.db.read(agents.authenticate, ids.token_hash(token))
        made = agents.NewToken("tok_new", bytes(32), "")
        await gate.gateway.db.write(agents.rotate, agent.agent_id, agent.token_id, made, 300_000)
        jobs_of = flow.Jobs(
            db=gate.gateway.db, purchase=gate.gateway.purchase, clock=Clock(), entropy=secrets.token_bytes,
            token_prefix="411", result_ttl_ms=1,
        )  # fmt: skip
        with pytest.raises(Problem) as refused:
            await jobs_of.revoke_key(agent, key_id)
        assert refused.value.code is Code.ADMIN_TOKEN_REQUIRED
        assert (await ask(gate, "GET", "/api/v1/agents/me", usage)).status == 200


async def test_twenty_rotations_at_once_make_one_token(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent()
        replies = await asyncio.gather(*(ask(gate, "POST", ROTATE, token) for _ in range(20)))
        assert sorted(reply.status for reply in replies) == [200] + [401] * 19
        (new,) = [reply.json["token"] for reply in replies if reply.status == 200]
        assert (await ask(gate, "GET", "/api/v1/agents/me", new)).status == 200


@pytest.mark.parametrize("body", [[], {"grace": 1}, *({"grace_seconds": bad} for bad in (-1, 604_801, 1.5, "9", True))])
async def test_a_grace_is_a_number_of_seconds(tmp_path, body):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent()
        reply = await ask(gate, "POST", ROTATE, token, body)
        assert (reply.status, reply.json["code"]) == (422, "VALIDATION_ERROR")
        assert (await ask(gate, "GET", "/api/v1/agents/me", token)).status == 200


# what keys are


async def test_a_key_from_its_making_to_its_end(tmp_path):
    clock = Clock()
    async with Gate.open(tmp_path, clock=clock) as gate:
        agent, admin = await gate.agent(10 * PRICE)
        terms = {"label": "nightly-import", "scopes": ["test:beta", "test:alpha", "balance:read"], "cap_usd": "1",
                 "cap_period": "month", "expires_at": None, "requests_per_min": 30}  # fmt: skip
        made = await ask(gate, "POST", KEYS, admin, terms)
        told = made.json
        secret = told.pop("key")
        assert (made.status, told.pop("key_shown_once"), made.headers["Cache-Control"]) == (
            201, True, "private, no-store",
        )  # fmt: skip
        assert ids.is_token(secret, "411k_")
        assert told == {
            "key_id": told["key_id"], "hint": f"411k_...{secret[-3:]}", "label": "nightly-import",
            "scopes": ["balance:read", "test:alpha", "test:beta"], "cap_usd": "1.000", "cap_period": "month",
            "used_usd": "0.000", "resets_at": "2027-02-01T00:00:00Z", "requests_per_min": 30, "status": "active",
            "created_at": "2027-01-18T00:00:00Z", "expires_at": None, "last_used_at": None,
        }  # fmt: skip
        assert (await ask(gate, "GET", KEYS, admin)).json == {"agent_id": agent, "usage_keys": [told]}

        assert (await gate.call("hello", token=secret)).status == 200
        me = (await ask(gate, "GET", "/api/v1/agents/me", secret)).json
        cap = {"cap_usd": "1.000", "period": "month", "used_usd": "0.330", "resets_at": "2027-02-01T00:00:00Z"}
        assert me["principal"] == {"kind": "usage", "key_id": told["key_id"], "scopes": told["scopes"]}
        assert (me["key_cap"], me["usage_keys_active"], me["available_usd"], me["wallets"]) == (cap, 1, "2.970", [])
        balance = (await ask(gate, "GET", "/api/v1/agents/balance", secret)).json
        assert (balance["key_cap"], balance["available_usd"]) == (cap, "2.970")
        mine = (await ask(gate, "GET", "/api/v1/agents/me", admin)).json
        assert (mine["principal"], mine["key_cap"]) == ({"kind": "admin", "key_id": None, "scopes": ["*"]}, None)

        changed = await ask(gate, "PATCH", f"{KEYS}/{told['key_id']}", admin, {"cap_usd": 0.5, "label": "import"})
        assert (changed.json["cap_usd"], changed.json["cap_period"], changed.json["label"]) == (
            "0.500", "month", "import",
        )  # fmt: skip
        assert (await gate.call("other", token=secret)).json["code"] == "KEY_CAP_EXCEEDED"
        free = await ask(gate, "PATCH", f"{KEYS}/{told['key_id']}", admin, {"cap_usd": None, "scopes": ["test:beta"]})
        assert (free.json["cap_usd"], free.json["cap_period"], free.json["resets_at"]) == (None, None, None)
        assert free.json["used_usd"] == "0.330"
        denied = await gate.call("other", token=secret)  # the two seconds in which the key is remembered count nothing
        assert (denied.status, denied.json["code"]) == (403, "SCOPE_DENIED")

        rotated = await ask(gate, "POST", f"{KEYS}/{told['key_id']}/rotate", admin, {"grace_seconds": 60})
        new = rotated.json["key"]
        assert (rotated.status, rotated.json["hint"]) == (200, f"411k_...{new[-3:]}")
        for token in (secret, new):
            assert (await gate.call("other", operation="test/beta", token=token)).status == 200
        clock.s += 60
        assert (await gate.call("other", operation="test/beta", token=secret)).status == 401
        ended = await ask(gate, "DELETE", f"{KEYS}/{told['key_id']}", admin)
        assert (ended.status, ended.json["status"], ended.json["jobs_cancelled"]) == (200, "revoked", [])
        assert (await gate.call("other", operation="test/beta", token=new)).status == 401
        assert (await ask(gate, "DELETE", f"{KEYS}/{told['key_id']}", admin)).json == ended.json
        listed = (await ask(gate, "GET", KEYS, admin)).json["usage_keys"]
        assert [(each["key_id"], each["status"]) for each in listed] == [(told["key_id"], "revoked")]
        for method, path in (("PATCH", ""), ("POST", "/rotate")):
            assert (await ask(gate, method, f"{KEYS}/{told['key_id']}{path}", admin, {})).status == 404


BAD_TERMS = {
    "no scopes": {},
    "none": {"scopes": []},
    "no list": {"scopes": "test:alpha"},
    "unknown": {"scopes": ["test:alpha", "test:none"]},
    "everything": {"scopes": ["*"]},
    "keys": {"scopes": ["keys"]},
    "rotate": {"scopes": ["rotate"]},
    "webhooks": {"scopes": ["webhook-secret"]},
    "handing over": {"scopes": ["enrich:jobs"]},
    "two in one": {"scopes": ["test:alpha jobs"]},
    "period": {"cap_usd": "1", "cap_period": "year"},
    "period alone": {"cap_period": "day"},
    **{f"cap {cap!r}": {"cap_usd": cap, "cap_period": "day"} for cap in
       ("-1", -1, "0", 0, "0.0", -0.0, "0.0000001", 1e-7, "1e3", "", "1,00", True, [], "1000000000", "NaN", " 1")},
    **{f"rate {rate!r}": {"requests_per_min": rate} for rate in (0, -1, 60_001, "30", 1.5, True)},
    **{f"end {end!r}": {"expires_at": end} for end in
       ("2027-01-17T23:59:59Z", "2027-01-18T00:00:00Z", "2038-01-18T00:00:00Z", "2027-13-01T00:00:00Z", "2027-02-01",
        "2027-02-01T00:00:00", 1_900_000_000, "")},
    "label": {"label": "x" * 101},
    "control": {"label": "a\nb"},
    "more": {"admin": True},
}  # fmt: skip


async def test_terms_that_are_none_are_refused(tmp_path):
    """Unknown scopes and periods, caps that are negative, zero or too precise: 422, in making and in changing."""
    async with Gate.open(tmp_path, clock=Clock()) as gate:
        _, admin = await gate.agent(PRICE)
        key_id, _ = await key(gate, admin)
        for name, bad in BAD_TERMS.items():
            terms = bad if "scopes" in bad or not bad else {"scopes": ["test:alpha"], **bad}
            made = await ask(gate, "POST", KEYS, admin, terms)
            assert (made.status, made.json["code"]) == (422, "VALIDATION_ERROR"), name
            if bad:
                changed = await ask(gate, "PATCH", f"{KEYS}/{key_id}", admin, bad)
                assert (changed.status, changed.json["code"]) == (422, "VALIDATION_ERROR"), name
        (only,) = (await ask(gate, "GET", KEYS, admin)).json["usage_keys"]
        assert (only["scopes"], only["cap_usd"], only["label"]) == (["test:*"], None, "")
        for body in (b"{", b"[]", b""):
            headers = {"Authorization": f"Bearer {admin}"}
            assert (await gate.send("POST", KEYS, headers=headers, body=body)).status in (400, 415, 422)


async def test_an_agent_has_so_many_keys_and_no_more(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent()
        made = [await key(gate, admin) for _ in range(100)]
        refused = await ask(gate, "POST", KEYS, admin, {"scopes": ["jobs"]})
        assert (refused.status, refused.json["code"]) == (422, "VALIDATION_ERROR")
        await ask(gate, "DELETE", f"{KEYS}/{made[0][0]}", admin)
        await key(gate, admin)


# what keys may not


FORBIDDEN = [
    ("POST", ROTATE, {}),
    ("GET", KEYS, None),
    ("POST", KEYS, {"scopes": ["test:*"]}),
    ("PATCH", f"{KEYS}/KEY", {"cap_usd": None}),
    ("DELETE", f"{KEYS}/KEY", None),
    ("POST", f"{KEYS}/KEY/rotate", {}),
    ("POST", "/api/v1/agents/webhook-secret", {}),
]


async def test_a_key_can_never_have_more_than_it_has(tmp_path):
    """Every door that would let it: 403, with all scopes that there are; nothing of a body is read before."""
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(10 * PRICE)
        key_id, usage = await key(gate, admin, "test:*", "jobs", "support", "balance:read")
        poll = (await submit(gate, usage)).json["poll_bearer"]
        for method, path, body in FORBIDDEN:
            for token in (usage, poll):
                refused = await ask(gate, method, path.replace("KEY", key_id), token, body)
                assert (refused.status, refused.json["code"]) == (403, "ADMIN_TOKEN_REQUIRED"), (method, path)
            nobody = await ask(gate, method, path.replace("KEY", key_id), None, body)
            assert (nobody.status, nobody.json["code"]) == (401, "INVALID_TOKEN")
        assert len((await ask(gate, "GET", KEYS, admin)).json["usage_keys"]) == 1
        headers = {"Authorization": f"Bearer {usage}", "Content-Type": "text/plain"}
        assert (await gate.send("POST", KEYS, headers=headers, body=b"{")).status == 403


async def test_a_key_does_what_its_scopes_say(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(10 * PRICE)
        _, alpha = await key(gate, admin, "test:alpha")
        _, handing = await key(gate, admin, "jobs")
        assert (await gate.call("hello", token=alpha)).status == 200
        signed = await gate.sign(operation="test/beta")
        for reply in (
            await gate.call("hello", operation="test/beta", token=alpha),
            await gate.call("hello", operation="test/beta", token=alpha, payment=signed),
            await gate.call("hello", token=handing),
            await submit(gate, alpha),
            await submit(gate, handing),
            await ask(gate, "GET", "/api/v1/agents/balance", alpha),
            await ask(gate, "GET", "/api/v1/enrich/jobs/ej_00000000000000000000000000", alpha),
        ):
            assert (reply.status, reply.json["code"]) == (403, "SCOPE_DENIED"), reply.json
        me = (await ask(gate, "GET", "/api/v1/agents/me", alpha)).json
        assert (me["available_usd"], me["virtual_balance_usd"], me["wallets"]) == (None, None, None)
        assert len(gate.upstream.journal) == 1
        # the payment was not touched
        assert (await gate.call("hello", operation="test/beta", payment=signed)).status == 200


async def test_a_key_without_the_scope_hears_nothing_of_the_balance(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(123_456)
        _, usage = await key(gate, admin)
        reply = await gate.call("hello", token=usage)
        assert (reply.status, reply.json["code"]) == (402, "PAYMENT_REQUIRED")
        assert reply.json["billing_reason"] == "virtual_balance_insufficient"
        assert b"0.123" not in reply.body
        assert b"0.123456" in (await gate.call("hello", token=admin)).body


async def test_a_callback_of_a_key_needs_a_secret_that_its_agent_has(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(10_000_000)
        _, usage = await key(gate, admin, "jobs", "test:*")
        url = {"callback_url": "https://hooks.example.com/done"}
        refused = await submit(gate, usage, **url)
        assert (refused.status, refused.json["code"]) == (403, "ADMIN_TOKEN_REQUIRED")
        assert await gate.charges() == []
        await ask(gate, "POST", "/api/v1/agents/webhook-secret", admin)
        taken = await submit(gate, usage, **url)
        assert (taken.status, "webhook_secret" in taken.json) == (202, False)


async def test_f132_a_key_in_a_url_is_refused(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(PRICE)
        _, usage = await key(gate, admin)
        for path in (f"/api/v1/test/alpha?token={usage}", f"{KEYS}/{usage}", f"/{usage.replace('_', '%5F')}"):
            refused = await ask(gate, "POST", path, admin, {"word": "hello"})
            assert (refused.status, refused.json["code"]) == (400, "BAD_REQUEST"), path
        headers = {"Authorization": f"Bearer {admin}", "Referer": f"https://example.com/?k={usage}"}
        assert (await gate.send("GET", "/api/v1/agents/me", headers=headers)).status == 400


async def test_every_bad_token_is_401_and_never_402(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(PRICE)
        key_id, usage = await key(gate, admin)
        made = ids.new_token("411k_", secrets.token_bytes(32))
        bad = [made, usage[:-1] + ("a" if usage[-1] != "a" else "b"), usage.replace("411k", "411"), usage.upper(),
               admin.replace("411_", "411k_"), usage[:-1], "411k_"]  # fmt: skip
        await ask(gate, "DELETE", f"{KEYS}/{key_id}", admin)
        for token in (*bad, usage):
            payment = await gate.sign()
            for reply in (await gate.call("hello", token=token), await gate.call("hello", token=token, payment=payment),
                          await submit(gate, token), await ask(gate, "GET", "/api/v1/agents/me", token),
                          await ask(gate, "GET", KEYS, token), await ask(gate, "POST", ROTATE, token)):  # fmt: skip
                assert (reply.status, reply.json["code"]) == (401, "INVALID_TOKEN"), token
        assert gate.upstream.journal == []


async def test_another_agents_keys_are_nobodys(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, mine = await gate.agent(PRICE)
        _, yours = await gate.agent(PRICE)
        key_id, usage = await key(gate, mine)
        doors = [("PATCH", "", {"label": "x"}), ("DELETE", "", None), ("POST", "/rotate", {})]
        for named in (key_id, key_id.upper(), "key_00000000000000000000000000"):
            for method, path, body in doors:
                reply = await ask(gate, method, f"{KEYS}/{named}{path}", yours, body)
                assert (reply.status, reply.json["code"]) == (404, "NOT_FOUND")
        assert (await ask(gate, "GET", KEYS, yours)).json["usage_keys"] == []
        assert (await gate.call("hello", token=usage)).status == 200


# caps


async def test_a_hundred_parallel_spends_against_a_cap_are_exact(tmp_path):
    """Ten fit; misses and failures give their part back, to the micro-dollar."""
    async with Gate.open(tmp_path) as gate:
        agent, admin = await gate.agent(1000 * PRICE)
        _, usage = await key(gate, admin, cap_usd="3.300001", cap_period="day")
        gate.upstream.script |= {"match": slow(0.2), "miss": slow(0.2, miss), "fail": slow(0.2, failure)}
        replies = await asyncio.gather(*(gate.call("match", token=usage) for _ in range(100)))
        assert sorted(reply.status for reply in replies) == [200] * 10 + [403] * 90
        refused = next(reply for reply in replies if reply.status == 403).json
        assert refused["code"] == "KEY_CAP_EXCEEDED"
        details = refused["details"]
        assert (details["cap_usd"], details["cap_period"], details["used_usd"]) == ("3.300001", "day", "3.300")
        assert details["resets_at"].endswith("T00:00:00Z")
        assert await used(gate, admin) == ["3.300"]
        assert (await gate.balance(agent)).available == 990 * PRICE

        _, other = await key(gate, admin, cap_usd="3.3", cap_period="total")
        words = ["match"] * 4 + ["miss"] * 3 + ["fail"] * 3
        replies = await asyncio.gather(*(gate.call(word, token=other) for word in words))
        assert sorted(reply.status for reply in replies) == [200] * 7 + [502] * 3
        assert await used(gate, admin) == ["3.300", "1.320"]
        replies = await asyncio.gather(*(gate.call("match", token=other) for _ in range(100)))
        assert sorted(reply.status for reply in replies) == [200] * 6 + [403] * 94
        assert await used(gate, admin) == ["3.300", "3.300"]
        assert (await gate.balance(agent)).available == 980 * PRICE


async def test_what_is_metered_holds_its_ceiling_of_the_cap_and_gives_the_rest_back(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(100_000_000)
        _, usage = await key(gate, admin, "test:*", cap_usd="2.5", cap_period="week")
        gate.upstream.script |= {"some": taking(200_000)}
        assert (await gate.call("some", operation="test/metered", token=usage)).status == 200
        assert await used(gate, admin) == ["0.300"]
        assert (await gate.call("some", operation="test/metered", token=usage)).status == 200
        refused = await gate.call("some", operation="test/metered", token=usage)  # it may cost 2.000
        assert (refused.status, refused.json["details"]["wanted_usd"]) == (403, "2.000")
        less = {"X-Bill-Up-To-Usd": "1.90"}
        assert (await gate.call("some", operation="test/metered", token=usage, headers=less)).status == 200
        assert await used(gate, admin) == ["0.900"]
        charge = (await gate.charges())[0].charge
        await gate.gateway.db.write(charges.refund, charge.id, 123_456, "ref_1", "test")
        assert await used(gate, admin) == ["0.776544"]


async def test_a_cap_begins_anew_with_its_period(tmp_path):
    clock = Clock()
    async with Gate.open(tmp_path, clock=clock) as gate:
        _, admin = await gate.agent(100 * PRICE)
        caps = {period: (await key(gate, admin, cap_usd="0.33", cap_period=period))[1]
                for period in ("total", "day", "week", "month")}  # fmt: skip
        days = {0: "total day week month", 1: "day", 6: "day", 7: "day week", 14: "day week month", 15: "day"}
        for day, open_ones in days.items():
            clock.s = 1_800_230_400.0 + day * 86_400
            for period, usage in caps.items():
                expected = 200 if period in open_ones.split() else 403
                assert (await gate.call(f"{day}", token=usage)).status == expected, (day, period)
            clock.s += 86_399.999
            for period, usage in caps.items():
                assert (await gate.call(f"{day} late", token=usage)).status == 403, (day, period)


async def test_a_signed_payment_beside_a_key_is_not_of_its_cap(tmp_path):
    """It takes nothing of the balance; the scope and the key's life count all the same."""
    async with Gate.open(tmp_path) as gate:
        agent, admin = await gate.agent(PRICE)
        key_id, usage = await key(gate, admin, cap_usd="0.01", cap_period="total")
        assert (await gate.call("hello", token=usage)).json["code"] == "KEY_CAP_EXCEEDED"
        paid = await gate.call("hello", token=usage, payment=await gate.sign())
        assert (paid.status, paid.json["billing"]["mode"]) == (200, "x402_exact")
        assert await used(gate, admin) == ["0.000"]
        (view,) = await gate.charges()
        assert (view.agent_id, view.key_id) == (agent, key_id)


async def test_jobs_are_of_the_cap_and_so_is_doing_one_again(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(100_000_000)
        _, usage = await key(gate, admin, "jobs", "test:metered", cap_usd="2", cap_period="total")
        gate.upstream.script |= {"some": taking(400_000), "broken": failure}
        replies = await asyncio.gather(*(submit(gate, usage, "some") for _ in range(20)))
        assert sorted(reply.status for reply in replies) == [202] + [403] * 19
        (job_id,) = [reply.json["job_id"] for reply in replies if reply.status == 202]
        assert (await ended(gate, job_id, usage))["billing"]["charged_usd"] == "0.600"
        assert await used(gate, admin) == ["0.600"]
        failed = (await submit(gate, usage, "broken", "1.40")).json["job_id"]
        assert (await ended(gate, failed, usage))["status"] == "failed"
        assert await used(gate, admin) == ["0.600"]
        await gate.gateway.worker.drain(5)  # what is queued stays so
        bought = await submit(gate, usage, "some", "0.10")
        assert bought.status == 202
        with pytest.raises(Conflict, match=r"key's cap of 2\.000 USD in total"):
            await gate.gateway.db.write(flow.retry, failed, retry())
        await ask(gate, "DELETE", f"/api/v1/enrich/jobs/{bought.json['job_id']}", usage)
        await gate.gateway.db.write(flow.retry, failed, retry())
        assert await used(gate, admin) == ["2.000"]


@pytest.mark.parametrize("idempotency_key", [None, "once-and-no-more"])
async def test_no_job_of_a_revoked_key_is_done_again(tmp_path, idempotency_key):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(100_000_000)
        key_id, usage = await key(gate, admin, "jobs", "test:metered")
        gate.upstream.script |= {"broken": failure}
        failed = (await submit(gate, usage, "broken", idempotency_key=idempotency_key)).json["job_id"]
        assert (await ended(gate, failed, admin))["status"] == "failed"
        await ask(gate, "DELETE", f"{KEYS}/{key_id}", admin)
        with pytest.raises(Problem) as refused:
            await gate.gateway.db.write(flow.retry, failed, retry())
        assert refused.value.code is Code.INVALID_TOKEN


async def test_a_job_of_a_key_is_done_again_as_that_keys_and_under_its_idempotency_key(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(100_000_000)
        key_id, usage = await key(gate, admin, "jobs", "test:metered", cap_usd="2", cap_period="total")
        _, other = await key(gate, admin, "jobs", "test:metered")
        gate.upstream.script |= {"broken": failure}
        failed = (await submit(gate, usage, "broken", idempotency_key="the-first")).json["job_id"]
        assert (await ended(gate, failed, usage))["status"] == "failed"
        await gate.gateway.worker.drain(5)  # what is queued stays so
        again = retry()
        await gate.gateway.db.write(flow.retry, failed, again)
        assert await used(gate, admin) == ["1.500", "0.000"]
        repeated = await submit(gate, usage, "broken", idempotency_key="the-first")
        assert (repeated.status, repeated.json["job_id"]) == (202, again.job_id)
        path = f"/api/v1/enrich/jobs/{again.job_id}"
        assert [(await ask(gate, "GET", path, token)).status for token in (usage, other, admin)] == [200, 404, 200]
        revoked = await ask(gate, "DELETE", f"{KEYS}/{key_id}", admin)
        assert revoked.json["jobs_cancelled"] == [again.job_id]


def retry() -> flow.Retry:
    return flow.Retry(
        f"ej_{secrets.token_hex(13)}", f"chg_{secrets.token_hex(13)}", "req_1", secrets.token_bytes(32), 60
    )


async def ended(gate: Gate, job_id: str, token: str) -> Any:
    reply = await ask(gate, "GET", f"/api/v1/enrich/jobs/{job_id}?wait=20", token)
    assert reply.status == 200, reply.json
    return reply.json


# one agent, several keys


async def test_a_key_reads_its_own_charges_and_jobs_and_the_agent_all(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(100_000_000)
        (_, one), (_, two) = [await key(gate, admin, "jobs", "test:*") for _ in range(2)]
        charge = (await gate.call("hello", token=one)).headers["X-Charge-Id"]
        by_admin = (await gate.call("hello", token=admin)).headers["X-Charge-Id"]
        handed = (await submit(gate, one)).json["job_id"]
        await ended(gate, handed, one)
        for path in (f"/api/v1/charges/{charge}", f"/api/v1/enrich/jobs/{handed}"):
            assert [(await ask(gate, "GET", path, token)).status for token in (one, two, admin)] == [200, 404, 200]
        assert (await ask(gate, "GET", f"/api/v1/charges/{by_admin}", one)).status == 404
        assert (await ask(gate, "DELETE", f"/api/v1/enrich/jobs/{handed}", two)).json["code"] == "JOB_NOT_FOUND"
        assert (await ask(gate, "DELETE", f"/api/v1/enrich/jobs/{handed}", one)).json["code"] == "JOB_ENDED"


async def test_an_idempotency_key_is_the_agents_and_opens_to_whoever_might_have_bought_it(tmp_path):
    """The very same request, by a key that may make it: the first answer again, and nothing of its cap."""
    async with Gate.open(tmp_path) as gate:
        agent, admin = await gate.agent(10 * PRICE)
        _, one = await key(gate, admin, "test:alpha")
        key_id, two = await key(gate, admin, "test:alpha", cap_usd="0.01")
        _, other = await key(gate, admin, "test:beta", "balance:read")
        order = {"Idempotency-Key": "order-1"}
        first = await gate.call("hello", token=one, headers=order)
        again = await gate.call("hello", token=two, headers=order)
        assert (again.status, again.body) == (200, first.body)
        assert (await gate.balance(agent)).available == 9 * PRICE
        for reply in (await gate.call("hello", token=other, headers=order),):
            assert (reply.status, reply.json["code"]) == (403, "SCOPE_DENIED")
            assert b"canary" not in reply.body
        await ask(gate, "PATCH", f"{KEYS}/{key_id}", admin, {"scopes": ["test:beta"]})
        gate.upstream.rests["test/alpha"] = 7  # where nothing is worked on, what was bought is told again
        late = await gate.call("hello", token=two, headers=order)
        assert (late.status, late.json["code"]) == (403, "SCOPE_DENIED")
        assert (await gate.call("hello", token=one, headers=order)).body == first.body


async def test_a_rate_is_of_a_key(tmp_path):
    clock = Clock()
    async with Gate.open(tmp_path, monotonic=clock) as gate:
        _, admin = await gate.agent(100 * PRICE)
        (_, slow_one), (_, quick) = await key(gate, admin, requests_per_min=3), await key(gate, admin)
        statuses = [(await gate.call("hello", token=slow_one)).status for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = await ask(gate, "GET", "/api/v1/agents/me", slow_one)
        assert (refused.status, refused.json["code"], refused.headers["Retry-After"]) == (429, "RATE_LIMITED", "20")
        assert (await gate.call("hello", token=quick)).status == 200
        clock.s += 20
        assert [(await gate.call("hello", token=slow_one)).status for _ in range(2)] == [200, 429]


# ends


async def test_f133_a_key_revoked_at_every_millisecond_of_its_calls(tmp_path):
    """Whatever was held ends once, as it would have; what was not is refused; nothing begins later."""
    async with Gate.open(tmp_path) as gate:
        agent, admin = await gate.agent(1000 * PRICE)
        gate.upstream.script |= {"slow": slow(0.02), "none": slow(0.02, miss)}
        captured = 0
        for step in range(40):
            key_id, usage = await key(gate, admin, "test:*", "jobs")
            calls = [asyncio.create_task(gate.call(("slow", "none")[n % 2], token=usage)) for n in range(4)]
            handed = asyncio.create_task(submit(gate, usage, "slow"))
            await asyncio.sleep(step / 1000)
            revoked = await ask(gate, "DELETE", f"{KEYS}/{key_id}", admin)
            begun = len(gate.upstream.journal)
            after = await gate.call("slow", token=usage)
            assert after.status == 401
            replies = await asyncio.gather(*calls)
            assert {reply.status for reply in replies} <= {200, 401}
            captured += PRICE * sum(reply.json.get("billed", False) for reply in replies)
            job = await handed
            assert job.status in (202, 401)
            if job.status == 202:
                told = await ended(gate, job.json["job_id"], job.json["poll_bearer"])
                assert told["status"] in ("completed", "cancelled")
                assert (told["status"] == "cancelled") is (job.json["job_id"] in revoked.json["jobs_cancelled"])
                captured += 100_000 * (told["status"] == "completed")
            # A hold is written before its work begins: what was held when the key ended may begin a moment later.
            held = [view for view in await gate.charges() if view.key_id == key_id]
            assert len(held) == sum(reply.status == 200 for reply in replies) + (job.status == 202)
            assert begun <= len(gate.upstream.journal)
            assert {view.charge.state.value for view in held} <= {"captured", "released"}
        balance = await gate.balance(agent)
        assert (balance.held, balance.available) == (0, 1000 * PRICE - captured)


async def test_f133_a_queued_job_of_a_revoked_key_is_never_begun(tmp_path):
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 1\n") as gate:
        agent, admin = await gate.agent(100_000_000)
        key_id, usage = await key(gate, admin, "test:*", "jobs")
        begun = asyncio.Event()

        async def work(context: Context) -> Outcome:
            begun.set()
            return await slow(0.5)(context)

        gate.upstream.script |= {"slow": work}
        running = (await submit(gate, usage, "slow")).json
        await begun.wait()
        queued = [(await submit(gate, usage, f"w{n}")).json for n in range(3)]
        other = (await submit(gate, admin, "mine")).json
        revoked = (await ask(gate, "DELETE", f"{KEYS}/{key_id}", admin)).json
        assert revoked["jobs_cancelled"] == [each["job_id"] for each in queued]
        assert (await ended(gate, running["job_id"], admin))["status"] == "completed"
        assert (await ended(gate, other["job_id"], admin))["status"] == "completed"
        for each in queued:
            told = await ended(gate, each["job_id"], each["poll_bearer"])
            assert (told["status"], told["billing"]["charged_usd"]) == ("cancelled", "0.000")
        assert [word for _, word in gate.upstream.journal] == ["slow", "mine"]
        assert (await gate.balance(agent)).held == 0
        assert {job.state.value for job in await gate.gateway.db.read(jobs.listing, 10)} == {"completed", "cancelled"}


async def test_f128_no_key_is_at_rest_and_its_last_use_is_written_seldom(tmp_path, capsys):
    structlog.reset_defaults()  # the lines as they are handed to the log, before anything is blotted out of them
    async with Gate.open(tmp_path) as gate:
        _, admin = await gate.agent(100 * PRICE)
        key_id, usage = await key(gate, admin, "test:*", label="canary")
        secret = [admin, usage]
        for _ in range(5):
            await gate.call("hello", token=usage)
        rotated = (await ask(gate, "POST", f"{KEYS}/{key_id}/rotate", admin, {"grace_seconds": 9})).json
        fresh = (await ask(gate, "POST", ROTATE, admin, {"grace_seconds": 9})).json
        secret += [rotated["key"], fresh["token"]]
        await gate.call("hello", token=rotated["key"])
        found = (await ask(gate, "GET", KEYS, fresh["token"])).json["usage_keys"]
        assert [each["last_used_at"] for each in found] == [None]
        stolen = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
        said = "".join(capsys.readouterr())
        assert b"canary" in stolen
        assert "usage-keys/{key_id}/rotate" in said
        for token in secret:
            assert token.encode() not in stolen
            assert token[8:28].encode() not in stolen
            assert token[8:28] not in said
    async with Gate.open(tmp_path) as gate:  # it was written when the gateway closed, at the latest
        (each,) = await gate.gateway.db.read(usage_keys.of_agent, (await gate.gateway.db.read(agents.listing))[0].id)
        assert each.last_used_ms is not None
