"""Webhooks in a whole gateway: the route of an agent's secret, the loop that starts with it, what its operator sees."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rigs.books import books
from rigs.gate import Gate, Json, Reply
from rigs.postman import next_door, post, states
from rigs.running import eventually
from rigs.upstream import ScriptedUpstream, hang, status
from standardwebhooks import Webhook

from gateway.core.http import HttpClient
from gateway.edge import logs
from gateway.store import outbox

SECRET = "/api/v1/agents/webhook-secret"
JSON = {"Content-Type": "application/json"}
ALLOWED = "[webhooks]\nallow_http = true\n"


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with next_door() as http:
        yield http


async def ask(gate: Gate, token: str | None, body: bytes | None = None, **headers: str) -> Reply:
    sent = {"Authorization": f"Bearer {token}", **headers} if token else headers
    return await gate.send("POST", SECRET, headers=sent, body=body)


async def test_an_agent_makes_and_replaces_its_secret(tmp_path: Path) -> None:
    said = io.StringIO()
    logs.configure("json", "debug", said)
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent()
        _, other = await gate.agent()
        first, second, foreign = [await ask(gate, each) for each in (token, token, other)]
        secrets = [reply.json["webhook_secret"] for reply in (first, second, foreign)]
        assert [reply.status for reply in (first, second, foreign)] == [200] * 3
        assert [reply.json["replaced"] for reply in (first, second, foreign)] == [False, True, False]
        assert first.json["overlap_seconds"] == 86_400
        assert first.headers["Cache-Control"] == "private, no-store"
        assert len(set(secrets)) == 3, "secrets differ"
        assert await gate.gateway.db.read(outbox.secrets_of, agent) == [secrets[1], secrets[0]]
        last = await ask(gate, token, b'{"overlap_seconds": 0}', **JSON)
        assert await gate.gateway.db.read(outbox.secrets_of, agent) == [last.json["webhook_secret"]]
        for path in ("/api/v1/agents/me", "/api/v1/agents/balance"):
            shown = await gate.send("GET", path, headers={"Authorization": f"Bearer {token}"})
            assert b"whsec_" not in shown.body
    assert "whsec_" not in said.getvalue()


BAD = {
    b"{": (400, "BAD_JSON"),
    b"[]": (422, "VALIDATION_ERROR"),
    b"null": (422, "VALIDATION_ERROR"),
    b'"86400"': (422, "VALIDATION_ERROR"),
    b'{"overlap_seconds": -1}': (422, "VALIDATION_ERROR"),
    b'{"overlap_seconds": 604801}': (422, "VALIDATION_ERROR"),
    b'{"overlap_seconds": 1.5}': (422, "VALIDATION_ERROR"),
    b'{"overlap_seconds": 1e3}': (422, "VALIDATION_ERROR"),
    b'{"overlap_seconds": true}': (422, "VALIDATION_ERROR"),
    b'{"overlap_seconds": "1"}': (422, "VALIDATION_ERROR"),
    b'{"overlap_seconds": null}': (422, "VALIDATION_ERROR"),
    b'{"overlap_seconds": 99999999999999999999}': (422, "VALIDATION_ERROR"),
    b'{"secret": "whsec_mine"}': (422, "VALIDATION_ERROR"),
    b" " * 70_000: (413, "BODY_TOO_LARGE"),
}


@pytest.mark.parametrize("body", BAD, ids=lambda body: body[:40].decode())
async def test_a_bad_request_for_a_secret_changes_nothing(tmp_path: Path, body: bytes) -> None:
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent()
        made = (await ask(gate, token)).json["webhook_secret"]
        reply = await ask(gate, token, body, **JSON)
        assert (reply.status, reply.json["code"]) == BAD[body]
        assert await gate.gateway.db.read(outbox.secrets_of, agent) == [made]


async def test_who_may_not_have_a_secret(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent()
        for wrong in (None, "nonsense", token[:-1] + ("a" if token[-1] != "a" else "b")):
            reply = await ask(gate, wrong)
            assert (reply.status, reply.json["code"]) == (401, "INVALID_TOKEN")
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await gate.send("GET", SECRET, headers=bearer)).status == 405
        assert (await ask(gate, token, b"{}", **{"Content-Type": "text/plain"})).status == 415
        assert await gate.gateway.db.read(lambda tx: tx.execute("SELECT * FROM webhook_secrets")) == []


async def page(gate: Gate) -> dict[str, float]:
    text = (await gate.send("GET", "/metrics")).body.decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


async def test_the_loop_starts_with_the_gateway_and_its_operator_sees_it(tmp_path: Path, http: HttpClient) -> None:
    async with (
        ScriptedUpstream(default=status(204)) as up,
        Gate.open(tmp_path, http=http, toml=ALLOWED + 'brand = "411data"\n') as gate,
    ):
        agent, token = await gate.agent()
        secret = (await ask(gate, token)).json["webhook_secret"]
        assert (await page(gate))['faregate_alarm{name="webhooks_failing"}'] == 0
        up.on("/gone", status(410)).on("/down", status(500))
        urls = [up.url(f"/{what}", host=f"{what}.example.com") for what in ("good", "gone", "down")]
        good, gone, down = await post(gate.gateway.db, *urls, owner=agent)
        gate.gateway.webhooks.wake()

        async def told() -> bool:
            return await states(gate.gateway.db, good, gone, down) == ["delivered", "failed", "pending"]

        await eventually(told)
        seen = next(each for each in up.seen if each.path == "/good")
        event: Json = Webhook(secret).verify(seen.body, dict(seen.headers))
        assert (event["event_id"], event["agent_id"]) == (good, agent)
        assert seen.header("X-411data-Signature")
        metrics = await page(gate)
        assert metrics['faregate_alarm{name="webhooks_failing"}'] == 1
        for outcome, number in (("delivered", 1), ("given_up", 1)):
            assert metrics[f'faregate_webhooks_total{{outcome="{outcome}"}}'] == number


async def test_a_receiver_that_hangs_keeps_no_gateway_from_stopping(tmp_path: Path, http: HttpClient) -> None:
    loop = asyncio.get_running_loop()
    async with ScriptedUpstream(default=hang()) as up:
        async with Gate.open(tmp_path, http=http, toml=ALLOWED) as gate:
            (event,) = await post(gate.gateway.db, up.url("/hook", host="h.example.com"))
            gate.gateway.webhooks.wake()
            await up.arrived(1)
            began = loop.time()
        assert loop.time() - began < 3
        async with books(tmp_path / "gate.db") as db:
            assert await db.read(outbox.lease_owners) == [], "what was cut off is put back, not left to run out"
        up.default = status(204)
        async with Gate.open(tmp_path, http=http, toml=ALLOWED) as gate:
            await up.arrived(2)

            async def told() -> bool:
                return await states(gate.gateway.db, event) == ["delivered"]

            await eventually(told)


async def test_without_the_operators_word_http_is_not_called(tmp_path: Path, http: HttpClient) -> None:
    async with ScriptedUpstream() as up, Gate.open(tmp_path, http=http) as gate:
        (event,) = await post(gate.gateway.db, up.url("/hook", host="h.example.com"))
        gate.gateway.webhooks.wake()

        async def told() -> bool:
            return await states(gate.gateway.db, event) == ["failed"]

        await eventually(told)
        assert up.connections == 0


async def test_the_route_is_in_the_documents(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        described = json.loads((await gate.send("GET", "/openapi.json")).body)["paths"][SECRET]
        assert set(described) == {"post"}
        assert "requestBody" in described["post"]
        assert described["post"]["security"] == [{"apiKey": []}]
