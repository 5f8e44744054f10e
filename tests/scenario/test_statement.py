"""GET /api/v1/agents/statement: what an agent reads of its own money."""

import csv
import io
from pathlib import Path

import orjson
import pytest
from rigs.gate import Gate, Json, Reply
from rigs.scripted import failure, miss

from gateway.core.money import parse_usd
from gateway.core.statement import cursor_before
from gateway.core.transfer import Kind
from gateway.store import agents
from gateway.store.database import Tx

PATH = "/api/v1/agents/statement"


async def read(gate: Gate, token: str, query: str = "", **headers: str) -> Reply:
    return await gate.send("GET", PATH + query, headers={"Authorization": f"Bearer {token}", **headers})


def micros(text: str) -> int:
    return -parse_usd(text[1:]) if text.startswith("-") else parse_usd(text)


def amounts(lines: list[Json]) -> list[tuple[str, str, str, str]]:
    return [(each["kind"], each["money"], each["amount_usd"], each["balance_usd"]) for each in lines]


async def test_it_sums_to_the_balance_to_the_micro_dollar(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(500_001, grant_micros=400_003)
        gate.upstream.script.update(nothing=miss, broken=failure)
        found = await gate.call("hello", token=token)
        await gate.call("nothing", token=token)
        await gate.call("broken", token=token)
        both = await gate.call("again", token=token)
        told = (await read(gate, token)).json
        balance = (await gate.send("GET", "/api/v1/agents/balance", headers={"Authorization": f"Bearer {token}"})).json
        assert amounts(told["movements"])[2:] == [
            ("capture", "own", "-0.330", "0.570004"),
            ("grant", "bonus", "0.400003", "0.900004"),
            ("credit", "own", "0.500001", "0.500001"),
        ]
        assert {each[2] for each in amounts(told["movements"])[:2]} == {"-0.170001", "-0.159999"}
        lines = told["movements"]
        assert [each["id"] for each in lines] == ["mov_5", "mov_4", "mov_3", "mov_2", "mov_1"]
        assert lines[2]["charge_id"] == found.headers["X-Charge-Id"]
        assert {each["charge_id"] for each in lines[:2]} == {both.headers["X-Charge-Id"]}
        assert lines[2]["operation"] == "test/alpha"
        whole = balance["virtual_balance_usd"]
        assert whole == told["virtual_balance_usd"] == lines[0]["balance_usd"] == "0.240004"
        assert sum(micros(each["amount_usd"]) for each in lines) == micros(whole)


async def test_pages_by_cursor_and_by_time(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        for number in range(6):
            await gate.call(f"word{number}", token=token)
        found, query = [], "?limit=3"
        while True:
            page = (await read(gate, token, query)).json
            found += [each["id"] for each in page["movements"]]
            if page["next_cursor"] is None:
                break
            query = f"?limit=3&cursor={page['next_cursor']}"
        assert found == [f"mov_{number}" for number in range(7, 0, -1)]
        assert (await read(gate, token, "?to=2020-01-01")).json["movements"] == []
        assert (await read(gate, token, "?from=2999-01-01T00:00:00Z")).json["movements"] == []
        assert len((await read(gate, token, "?from=2020-01-01&to=2999-01-01")).json["movements"]) == 7


async def test_as_csv_it_says_the_same(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(10_000_000)
        for number in range(3):
            await gate.call(f"word{number}", token=token)
        lines = (await read(gate, token)).json["movements"]
        asked = (await read(gate, token, "?format=csv"), await read(gate, token, Accept="text/csv"))
        for reply in asked:
            assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
            assert reply.headers["Cache-Control"] == "private, no-store"
            head, *rows = csv.reader(io.StringIO(reply.body.decode(), newline=""))
            assert head == list(lines[0])
            assert rows == [[value or "" for value in each.values()] for each in lines]
        page = await read(gate, token, "?format=csv&limit=2")
        following = await read(gate, token, f"?format=csv&limit=2&cursor={page.headers['X-Next-Cursor']}")
        assert "X-Next-Cursor" not in following.headers
        assert page.body.decode().splitlines()[1:] + following.body.decode().splitlines()[1:] == [
            ",".join(row) for row in rows
        ]
        empty = await gate.send("HEAD", PATH + "?format=csv", headers={"Authorization": f"Bearer {token}"})
        assert (empty.status, empty.body) == (200, b"")


async def test_a_long_csv_comes_whole_in_parts(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        agent_id, token = await gate.agent(1)
        await gate.gateway.db.write(many, agent_id, 2_500)
        rows = (await read(gate, token, "?format=csv")).body.decode().splitlines()
        assert len(rows) == 2_502
        assert [row.split(",")[0] for row in rows[1:]] == [f"mov_{number}" for number in range(2_501, 0, -1)]


def many(tx: Tx, agent_id: str, count: int) -> None:
    for number in range(count):
        agents.credit(tx, agent_id, 1, Kind.CREDIT, "", f"crd_many_{number}")


BAD = (
    "?limit=0", "?limit=201", "?limit=-1", "?limit=1e2", "?limit=%D9%A1", "?limit=5&limit=6", "?cursor=x", "?cursor=",
    "?cursor=5", "?from=yesterday", "?to=1700000000", "?format=xml", "?form=2026-01-01", "?cursor=" + "A" * 3000,
)  # fmt: skip


@pytest.mark.parametrize("query", BAD)
async def test_what_it_does_not_understand_is_a_422(tmp_path: Path, query: str) -> None:
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(1)
        reply = await read(gate, token, query)
        assert (reply.status, reply.json["code"]) == (422, "VALIDATION_ERROR")


async def test_it_is_the_agents_own_whatever_cursor_is_brought(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        _, rich = await gate.agent(5_000_000)
        _, poor = await gate.agent(7)
        for number in range(3):
            await gate.call(f"word{number}", token=rich)
        for cursor in (cursor_before(4), cursor_before(10**17)):
            told = (await read(gate, poor, f"?cursor={cursor}")).json
            assert amounts(told["movements"]) == [("credit", "own", "0.000007", "0.000007")]
        assert (await gate.send("GET", PATH)).status == 401
        assert (await read(gate, "411_" + "x" * 49)).status == 401
        assert (await gate.send("POST", PATH)).status == 405


async def test_an_operators_note_is_not_told(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        agent_id, token = await gate.agent(1)

        def noted(tx: Tx) -> None:
            agents.credit(tx, agent_id, 5, Kind.CREDIT, "a secret of the books", "crd_1")

        await gate.gateway.db.write(noted)
        assert "secret" not in orjson.dumps((await read(gate, token)).json).decode()
