"""Limits in a whole gateway: a flood is bounded, whoever pays does not notice, and asking often teaches nothing."""

import asyncio
import re
import secrets
import time

import orjson
import pytest
from rigs.gate import Gate, Reply
from rigs.newcomer import Newcomer
from rigs.scripted import CANARY, METERED, failure, hang, miss, slow, taking
from scenario.test_jobs import poll, submit
from scenario.test_tickets import file
from scenario.test_tickets import gateway as taking_tickets

from gateway.core import ids
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.sandbox import Sandbox
from gateway.store import agents
from gateway.store.database import Tx

ANN, BOB, CY = "203.0.113.7", "198.51.100.9", "192.0.2.3"
ME, BALANCE, SECRET = "/api/v1/agents/me", "/api/v1/agents/balance", "/api/v1/agents/webhook-secret"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def behind_a_proxy(**limits: str | int) -> str:
    lines = [f"{name} = {value if isinstance(value, int) else repr(value)}" for name, value in limits.items()]
    return "\n".join(['[service]\ntrusted_proxies = ["127.0.0.1"]\n[rate_limits]', *lines])


async def get(
    gate: Gate, path: str, token: str | None = None, client: str = ANN, method: str = "GET", body: bytes = b""
) -> Reply:
    sent = {"X-Forwarded-For": client} | ({"Authorization": f"Bearer {token}"} if token else {})
    kind = {"Content-Type": "application/json"} if body else {}
    return await gate.send(method, path, headers=sent | kind, body=body)


async def post(gate: Gate, what: str, body: object, client: str) -> Reply:
    sent = {"X-Forwarded-For": client, "Content-Type": "application/json"}
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return await gate.send("POST", f"/api/v1/agents/{what}", headers=sent, body=raw)


def unknown() -> str:
    """A token of the right form that opens nothing."""
    return ids.new_token("411_", secrets.token_bytes(32))


# by token


async def test_an_agent_asks_about_itself_only_so_often(tmp_path):
    clock = Clock()
    async with Gate.open(tmp_path, toml=behind_a_proxy(balance="3 per minute"), monotonic=clock) as gate:
        _, ann = await gate.agent()
        _, bob = await gate.agent()
        told = [await get(gate, path, ann) for path in (ME, BALANCE, BALANCE)]
        assert [reply.headers["RateLimit"] for reply in told] == [f'"balance";r={left};t=60' for left in (2, 1, 0)]
        assert {reply.headers["RateLimit-Policy"] for reply in told} == {'"balance";q=3;w=60'}
        clock.now += 17.5
        for client in (ANN, BOB):  # wherever it asks from
            refused = await get(gate, SECRET, ann, client, "POST")
            assert (refused.status, refused.json["code"]) == (429, "RATE_LIMITED")
            assert (refused.headers["Retry-After"], refused.headers["RateLimit"]) == ("43", '"balance";r=0;t=43')
            assert "RateLimit-Policy" in refused.headers["Access-Control-Expose-Headers"]
        assert (await get(gate, BALANCE, bob)).status == 200
        spelled = {"X-Forwarded-For": ANN, "Authorization": f"bEARER    {ann}"}
        assert (await gate.send("GET", BALANCE, headers=spelled)).status == 429
        clock.now += 42.5
        assert (await get(gate, BALANCE, ann)).status == 200


async def rotated(gate: Gate, token: str) -> str:
    reply = await get(gate, "/api/v1/agents/token/rotate", token, method="POST")
    assert reply.status == 200, reply.body
    return str(reply.json["token"])


async def test_f121_another_token_is_no_other_agent(tmp_path):
    clock = Clock()
    limits = behind_a_proxy(balance="4 per minute", polls="3 per minute")
    async with Gate.open(tmp_path, toml=limits, monotonic=clock) as gate:
        _, token = await gate.agent(1_000_000)
        charge = (await gate.call("hello", token=token)).headers["X-Charge-Id"]
        for _ in range(3):
            assert (await get(gate, f"/api/v1/charges/{charge}", token)).status == 200
            token = await rotated(gate, token)
        assert (await get(gate, f"/api/v1/charges/{charge}", token)).status == 429
        assert (await get(gate, ME, token)).status == 200
        refused = await get(gate, "/api/v1/agents/token/rotate", token, method="POST")
        assert (refused.status, refused.headers["RateLimit-Policy"]) == (429, '"balance";q=4;w=60')
        clock.now += 60
        assert (await get(gate, ME, await rotated(gate, token))).status == 200


async def test_f121_a_usage_key_counts_for_itself_and_all_of_an_agent_together(tmp_path):
    limits = behind_a_proxy(balance="4 per minute", network_times=2)
    async with Gate.open(tmp_path, toml=limits) as gate:
        _, token = await gate.agent()
        _, other = await gate.agent()
        keys = [await gate.usage_key(token, "balance:read") for _ in range(3)]  # three of the agent's own four
        first = [(await get(gate, BALANCE, keys[0])).status for _ in range(5)]
        assert first == [200] * 4 + [429]
        assert (await get(gate, BALANCE, keys[1])).status == 200
        refused = await get(gate, BALANCE, keys[2])
        assert (refused.status, refused.headers["RateLimit-Policy"]) == (429, '"balance-agent";q=8;w=60')
        assert (await get(gate, ME, token)).status == 429
        assert (await get(gate, ME, other)).status == 200


async def test_f121_an_agent_changes_only_so_much_and_can_always_revoke(tmp_path):
    """However many tokens it has had, and whatever it changes; nothing of what is refused is written."""
    clock = Clock()
    async with Gate.open(tmp_path, toml=behind_a_proxy(changes="6 per hour"), monotonic=clock) as gate:
        _, token = await gate.agent()
        _, other = await gate.agent()
        sent = {"scopes": ["jobs"]}
        made = await get(gate, "/api/v1/agents/usage-keys", token, method="POST", body=orjson.dumps(sent))
        key = f"/api/v1/agents/usage-keys/{made.json['key_id']}"
        assert (await get(gate, key, token, method="PATCH", body=orjson.dumps(sent))).status == 200
        assert (await get(gate, f"{key}/rotate", token, method="POST")).status == 200
        assert (await get(gate, SECRET, token, method="POST")).status == 200
        token = await rotated(gate, token)
        newcomer = Newcomer(gate)
        assert (await newcomer.link(token)).status == 200

        def count(tx: Tx) -> list[int]:
            return [tx.execute(f"SELECT count(*) FROM {t}")[0][0] for t in ("tokens", "usage_keys", "actions")]

        before = await gate.gateway.db.read(count)
        changes = [
            ("/api/v1/agents/usage-keys", "POST", sent), (key, "PATCH", sent), (f"{key}/rotate", "POST", {}),
            (SECRET, "POST", {}), ("/api/v1/agents/token/rotate", "POST", {}),
            ("/api/v1/agents/wallet-link", "POST", {}),
        ]  # fmt: skip
        for path, method, body in changes:
            refused = await get(gate, path, token, method=method, body=orjson.dumps(body))
            assert (refused.status, refused.headers["RateLimit-Policy"]) == (429, '"changes";q=6;w=3600'), path
        assert await gate.gateway.db.read(count) == before
        assert (await get(gate, "/api/v1/agents/usage-keys", token)).status == 200
        assert (await get(gate, key, token, method="DELETE")).json["status"] == "revoked"
        await rotated(gate, other)
        clock.now += 3600
        await rotated(gate, token)


async def test_polls_are_limited_by_the_token_that_asks(tmp_path):
    async with Gate.open(tmp_path, toml=behind_a_proxy(polls="4 per minute")) as gate:
        _, token = await gate.agent(10_000_000)
        first, second = await submit(gate, "one", token=token), await submit(gate, "two", token=token)
        told = [(await poll(gate, first)).status for _ in range(5)]
        assert told == [200, 200, 200, 200, 429]
        charge = (await poll(gate, second)).json["billing"]["charge_id"]
        assert (await get(gate, f"/api/v1/charges/{charge}", token)).headers["RateLimit"].startswith('"polls";r=3')
        paid = await gate.pay("hello")
        mine = {"X-Charge-Token": paid.headers["X-Charge-Token"]}
        path = f"/api/v1/charges/{paid.headers['X-Charge-Id']}"
        assert [(await gate.send("GET", path, headers=mine)).status for _ in range(5)] == [200] * 4 + [429]
        assert (await poll(gate, second, method="DELETE", wait=0)).status == 409


async def test_tokens_that_open_nothing_are_limited_by_address_and_then_not_looked_up(tmp_path):
    async with Gate.open(tmp_path, toml=behind_a_proxy(bad_tokens="3 per minute")) as gate:
        _, token = await gate.agent(1_000_000)
        paths = (BALANCE, "/api/v1/charges/chg_00000000000000000000000000", "/api/v1/enrich/jobs/ej_none")
        told = [await get(gate, path, unknown()) for path in (*paths, BALANCE)]
        assert [reply.status for reply in told] == [401, 401, 401, 429]
        assert told[3].headers["RateLimit-Policy"] == '"bad_tokens";q=3;w=60'
        assert (await get(gate, BALANCE, unknown(), BOB)).status == 401
        assert (await get(gate, BALANCE, token)).status == 429, "the address has guessed too often"
        assert (await get(gate, BALANCE, token, BOB)).status == 200
        assert (await get(gate, BALANCE, token)).status == 200, "what has opened lately is no guess"
        assert (await get(gate, BALANCE, unknown())).status == 429
        paid = await gate.call("hello", token=token, headers={"X-Forwarded-For": ANN})
        assert paid.status == 200, "a call that is paid for is not a guess"


async def test_f121_neighbours_with_bad_tokens_shut_out_nobody(tmp_path):
    """A whole /24 that guesses, and the very address of somebody whose token is good; one that is good no more is
    looked at as any other."""
    async with Gate.open(tmp_path, toml=behind_a_proxy(bad_tokens="3 per minute")) as gate:
        agent, token = await gate.agent(1_000_000)
        _, buyer = await gate.agent(1_000_000)
        _, stranger = await gate.agent()
        paid = await gate.pay("hello")
        shown = {"X-Forwarded-For": ANN, "X-Charge-Token": paid.headers["X-Charge-Token"]}
        charge = f"/api/v1/charges/{paid.headers['X-Charge-Id']}"
        assert (await get(gate, ME, token)).status == 200
        assert (await gate.call("word", token=buyer)).status == 200
        assert (await gate.send("GET", charge, headers=shown)).status == 200
        for host in range(100, 140):
            told = [(await get(gate, ME, unknown(), f"203.0.113.{host}")).status for _ in range(4)]
            assert told == [401, 401, 401, 429]
        assert (await get(gate, ME, stranger)).status == 200, "by its own address, and for the first time"
        for _ in range(4):
            await get(gate, ME, unknown())
        assert [(await get(gate, ME, each)).status for each in (unknown(), token, buyer, stranger)] == [429] + [200] * 3
        assert (await gate.send("GET", charge, headers=shown)).status == 200
        await gate.gateway.db.write(agents.revoke, agent)
        assert [(await get(gate, ME, token)).status for _ in range(2)] == [401, 429]


# by wallet


async def test_wallets_that_register_are_counted_by_their_address_and_by_what_they_sign(tmp_path):
    """Nobody else can use up what a wallet may do (F-124): what it did not sign is not counted for it."""
    limits = behind_a_proxy(nonces="4 per minute", registrations="3 per minute")
    settler = Asked(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with Gate.open(tmp_path, settler=settler, toml=limits) as gate:

        async def invited(who: Newcomer, client: str) -> Reply:
            return await post(gate, "wallet-nonce", {"address": who.address}, client)

        async def registers(who: Newcomer, shown: object, client: str) -> int:
            return (await post(gate, "wallet-register", shown, client)).status

        poor, other = Newcomer(gate), Newcomer(gate)
        told = [await invited(poor, ANN) for _ in range(5)]
        assert [reply.status for reply in told] == [200] * 4 + [429]
        assert told[3].headers["RateLimit"].startswith('"nonces";r=0')
        shown = [poor.shown(reply.json) for reply in told[:4]]
        forged = {**shown[0], "siwe_signature": other.shown((await invited(poor, BOB)).json)["siwe_signature"]}
        assert [await registers(poor, forged, BOB) for _ in range(4)] == [401] * 3 + [429]
        assert (await post(gate, "wallet-register", b"{", BOB)).status == 429, "before its body is read"
        # Its own four come from two addresses, each of which may have three; the chain is asked for three.
        told = [await registers(poor, each, client) for each, client in zip(shown, (ANN, ANN, CY, CY), strict=True)]
        assert told == [403, 403, 403, 429]
        assert settler.holdings == 3
        gate.sandbox.fund(other.address, 1_000_000)
        assert await registers(other, other.shown((await invited(other, CY)).json), CY) == 201


# F-121


class Asked(Sandbox):
    """Counts what a chain would be asked."""

    checks = 0
    holdings = 0

    async def holding(self, network, wallet):
        self.holdings += 1
        return await super().holding(network, wallet)

    async def check(self, payment):
        self.checks += 1
        return await super().check(payment)


async def test_f121_a_flood_is_bounded_and_whoever_pays_does_not_notice(tmp_path):
    """From the very address that is flooding: counts, no times."""
    settler = Asked(pay_to=SANDBOX_PAY_TO, clock=time.time)
    limits = behind_a_proxy(
        documents="20 per minute", unpaid="40 per minute", balance="10 per minute", bad_tokens="5 per minute"
    )
    async with Gate.open(tmp_path, settler=settler, toml=limits) as gate:
        agent, token = await gate.agent(100_000_000)
        _, flooding = await gate.agent()
        payments = [await gate.sign() for _ in range(5)]
        before, size = settler.checks, (tmp_path / "gate.db").stat().st_size

        async def flood() -> list[int]:
            told = []
            for number in range(100):
                told += [
                    (await get(gate, "/openapi.json")).status,
                    (await get(gate, "/api/v1/test/alpha")).status,
                    (await get(gate, BALANCE, flooding)).status,
                    (await get(gate, BALANCE, unknown(), "198.51.100.77")).status,
                    (await get(gate, f"/nothing/{number}")).status,
                ]
            return told

        async def buy() -> list[int]:
            by_balance = [await gate.call(f"b{n}", token=token, headers={"X-Forwarded-For": ANN}) for n in range(30)]
            signed = [
                await gate.call(f"s{n}", payment=payment, headers={"X-Forwarded-For": ANN})
                for n, payment in enumerate(payments)
            ]
            return [reply.status for reply in by_balance + signed]

        *floods, bought = await asyncio.gather(flood(), flood(), buy())
        told = [status for each in floods for status in each]
        assert bought == [200] * 35
        passed = {status: told.count(status) for status in (200, 402, 401, 404, 429)}
        assert passed[402] == 40
        assert passed[401] in (5, 6), "the fifth of the one flood may have been looked at beside that of the other"
        assert passed[200] + passed[404] == 20 + 10, "documents and wrong paths, and the agent's own balance"
        assert sum(passed.values()) == len(told) == 1000
        assert settler.checks - before == 5, "the chain was asked by those who paid"
        assert len(gate.upstream.journal) == 35
        assert (await gate.balance(agent)).available == 100_000_000 - 30 * 330_000
        assert (tmp_path / "gate.db").stat().st_size - size < 1_000_000


# F-117


@pytest.mark.parametrize("by", ["balance", "signature"])
async def test_f117_a_directory_cannot_be_read_by_guessing(tmp_path, by):
    clock = Clock()
    async with Gate.open(tmp_path, toml=behind_a_proxy(misses="5 per day"), monotonic=clock) as gate:
        gate.upstream.script |= {f"nobody{n}": miss for n in range(100)}
        agent, token = await gate.agent(10_000_000)
        means = {"token": token} if by == "balance" else {}

        async def look(word: str) -> Reply:
            return await gate.call(word, **(means or {"payment": await gate.sign()}))

        found = [await look(f"nobody{n}") for n in range(20)]
        assert [reply.status for reply in found] == [200] * 5 + [429] * 15
        assert len(gate.upstream.journal) == 5, "whoever guesses too often is not looked up"
        assert len(await gate.charges()) == 5
        told = {re.sub(rb'"(chg|req|chc)_\w+"|\d{4}-\d\d-[^"]+', b"", reply.body) for reply in found[:5]}
        assert len(told) == 1, "a miss tells that it is one, and nothing else"
        refused = found[5]
        assert refused.json["details"] == {"limit": "misses", "quota": 5, "window_seconds": 86_400}
        assert refused.headers["Retry-After"] == "86400"
        assert (await look("somebody")).status == 429
        clock.now += 86_400
        assert (await look("somebody")).status == 200
        assert (await gate.balance(agent)).held == 0


async def test_f117_what_was_paid_for_is_told_again_whatever_else_was_missed(tmp_path):
    async with Gate.open(tmp_path, toml=behind_a_proxy(misses="1 per day")) as gate:
        gate.upstream.script["nobody"] = miss
        agent, token = await gate.agent(10_000_000)
        payment = await gate.sign()
        bought = await gate.call("hello", payment=payment)
        kept = await gate.call("hello", token=token, headers={"Idempotency-Key": "k1"})
        unused = await gate.sign()
        assert (await gate.call("nobody", payment=await gate.sign())).json["matched"] is False
        assert (await gate.call("nobody", token=token)).json["matched"] is False
        assert (await gate.call("more", payment=unused)).status == 429
        assert (await gate.call("more", token=token)).status == 429
        again = await gate.call("hello", payment=payment)
        assert (again.status, again.json["data"]) == (200, bought.json["data"])
        again = await gate.call("hello", token=token, headers={"Idempotency-Key": "k1"})
        assert (again.status, again.json["data"]) == (200, kept.json["data"])
        assert (await gate.call("more", payment=unused)).status == 429, "nothing was claimed: it is its payer's still"
        assert (await gate.balance(agent)).available == 10_000_000 - 330_000


async def test_f117_jobs_that_find_nothing_count(tmp_path):
    async with Gate.open(tmp_path, toml=behind_a_proxy(misses="2 per day")) as gate:
        gate.upstream.script |= {"nobody": miss, "broken": failure}
        _, token = await gate.agent(10_000_000)
        for word in ("nobody", "broken", "hello", "nobody"):
            await poll(gate, await submit(gate, word, token=token))
        assert (await submit(gate, "hello", token=token)).status == 429


# polls that wait


async def test_the_jobs_of_one_payer_are_waited_for_by_so_many_at_once(tmp_path):
    async with Gate.open(tmp_path, toml=behind_a_proxy(long_polls=3)) as gate:
        gate.upstream.script |= {f"slow{n}": hang for n in range(5)} | {"other": slow(0.3, taking(METERED.base_micros))}
        _, ann = await gate.agent(20_000_000)
        _, bob = await gate.agent(20_000_000)
        jobs = [await submit(gate, f"slow{n}", token=ann) for n in range(5)]
        waiting = [asyncio.create_task(poll(gate, job, wait=30)) for job in jobs[:3]]
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            told = await asyncio.gather(poll(gate, jobs[3], wait=30), poll(gate, jobs[4], wait=30))
            assert {reply.json["status"] for reply in told} <= {"queued", "running"}, "answered at once"
            other = await poll(gate, await submit(gate, "other", token=bob), wait=30)
            assert other.json["status"] == "completed"
        assert not any(each.done() for each in waiting)
        for job in jobs:
            await poll(gate, job, method="DELETE", wait=0)
        assert {(await each).json["status"] for each in waiting} <= {"cancelled", "failed"}


# F-162


OF_ITS_OWN = {"date", "x-request-id", "ratelimit"}


def same(reply: Reply) -> tuple[int, bytes, dict[str, str]]:
    """All of an answer but the ids and times of this one."""
    headers = {k.lower(): v for k, v in reply.headers.items() if k.lower() not in OF_ITS_OWN}
    return reply.status, re.sub(rb"req_\w+", b"", reply.body), headers


async def test_f162_a_token_that_never_was_and_one_that_is_no_more_are_told_alike(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, revoked = await gate.agent(10_000_000)
        job = await submit(gate, "hello", token=revoked)
        await poll(gate, job)
        await gate.gateway.db.write(agents.revoke, agent)
        mistyped = unknown()[:-1] + "!"
        for path in (ME, BALANCE, job.json["poll_url"], f"/api/v1/charges/{(await gate.charges())[0].charge.id}"):
            told = [same(await get(gate, path, token)) for token in (unknown(), revoked, mistyped, "x")]
            assert [each == told[0] for each in told] == [True] * 4, path
            assert told[0][0] == 401
        called = [same(await gate.call("hello", token=token)) for token in (unknown(), revoked, mistyped)]
        assert [each == called[0] for each in called] == [True] * 3


async def test_f162_secrets_are_looked_up_by_their_hash_alone(tmp_path):
    """What the time of a look-up could tell is about SHA-256 of a guess, which says nothing about another guess."""
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        accepted = await submit(gate, "hello", token=token)
        paid = await gate.pay("hello")
        shown = (token, accepted.json["poll_bearer"], paid.headers["X-Charge-Token"])
        for table, column in (("tokens", "hash"), ("job_tokens", "hash"), ("charge_tokens", "hash")):
            (rows,) = [await gate.gateway.db.read(lambda tx, t=table, c=column: tx.execute(f"SELECT {c} FROM {t}"))]
            assert rows
            assert {len(hash) for (hash,) in rows} == {32}
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("gate.db*") if path.is_file())
        assert not any(secret.encode() in stored for secret in shown)


# F-176


async def test_f176_what_is_anothers_is_as_if_it_were_not(tmp_path):
    """Every route of the OpenAPI that takes an id or is an agent's own, by another agent and by the bearer of another
    job and charge. A route with an id that is not known here fails: say whose it is."""
    async with taking_tickets(tmp_path) as gate:
        _, ann = await gate.agent(10_000_000)
        bob_id, bob = await gate.agent(10_000_000)
        anns = await submit(gate, "hello", token=ann)
        await poll(gate, anns)
        bought = await gate.call("hello", token=ann)
        mine = {"Authorization": f"Bearer {ann}", "Content-Type": "application/json"}
        terms = orjson.dumps({"label": CANARY, "scopes": ["jobs"]})
        key = await gate.send("POST", "/api/v1/agents/usage-keys", headers=mine, body=terms)
        ticket = await file(gate, {"category": "other", "subject": CANARY, "body": CANARY}, token=ann)
        bobs_job, bobs = await submit(gate, "word", token=bob), await gate.pay("word")
        strangers = [bob, bobs_job.json["poll_bearer"], bobs.headers["X-Charge-Token"]]
        ids_of = {
            "job_id": (anns.json["job_id"], "ej_00000000000000000000000000"),
            "charge_id": (bought.headers["X-Charge-Id"], "chg_00000000000000000000000000"),
            "key_id": (key.json["key_id"], "key_00000000000000000000000000"),
            "ticket_id": (ticket.json["data"]["ticket_id"], "tkt_00000000000000000000000000"),
        }
        document = (await gate.send("GET", "/openapi.json")).json
        seen = 0
        for path, item in document["paths"].items():
            names = re.findall(r"{(\w+)}", path)
            for method, operation in item.items():
                if method not in ("get", "post", "put", "patch", "delete") or "x-payment-info" in operation:
                    continue
                if not names and method != "get":
                    continue
                if not names:
                    told = await get(gate, path, bob)
                    if operation["security"] and told.status == 200:
                        assert told.json.get("agent_id", bob_id) == bob_id, path
                        assert ticket.json["data"]["ticket_id"].encode() not in told.body, path
                    continue
                (name,) = names
                sent = b'{"label": "mine"}' if method == "patch" else b""
                theirs, nobodys = (path.replace(f"{{{name}}}", id) for id in ids_of[name])
                for stranger in strangers:
                    told, alike = [
                        same(await get(gate, each, stranger, method=method.upper(), body=sent))
                        for each in (theirs, nobodys)
                    ]
                    assert told == alike, (method, path)
                    assert told[0] in (404, 401) or (name, told[0]) == ("key_id", 403), (method, path)
                    assert CANARY.encode() not in told[1]
                    seen += 1
        assert seen == 21
        # Nor by an idempotency key: it is each agent's own.
        again = {"Idempotency-Key": "the same"}
        first, second = [await gate.call(word, token=t, headers=again) for word, t in (("hello", ann), ("word", bob))]
        assert (first.status, second.status) == (200, 200)
        assert first.headers["X-Charge-Id"] != second.headers["X-Charge-Id"]
        taken = {"Authorization": f"Bearer {bob}", **again, "Content-Type": "application/json"}
        body = orjson.dumps({"word": "hello"})
        assert (await gate.send("POST", "/api/v1/test/alpha", headers=taken, body=body)).status == 409
