"""leads/search at the gate: when it is there, what a page costs, and what is never paid. All people are invented."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from rigs.gate import KEYS, SETTINGS, Gate, Reply, header
from rigs.payer import Payer, echoing
from rigs.person import operator

from gateway.core.charge import Event, State
from gateway.core.vendor_call import Outcome
from gateway.store import vendor_calls
from upstreams.directory import invented
from upstreams.directory.loading import load

ID, PATH = "leads/search", "/api/v1/leads/search"
PRICE = 1_000_000
SOLD = "\n[directory]\nsell_lists = true\n"
DANA, LEE = "Dana Q Sample", "Lee Sample"
SAMPLES = {"name": "Sample", "city": "Seattle"}
DOCUMENTS = ("/openapi.json", "/.well-known/x402", "/llms.txt", "/pricing", "/discovery/resources")


def with_people(home: Path) -> Path:
    invented.write(home / "people.csv")
    load(home / "people.csv", home / "directory.db", workers=0, source=invented.SOURCE)
    return home


@asynccontextmanager
async def selling(home: Path, toml: str = SOLD) -> AsyncIterator[Gate]:
    async with Gate.open(with_people(home), configured=True, toml=toml) as gate:
        yield gate


def names(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.body
    return [lead["name"] for lead in reply.json["data"]["leads"]]


@pytest.mark.parametrize(
    ("toml", "people"),
    [("", True), (SOLD, False)],
    ids=["people and no word of the operator", "his word and no people"],
)
async def test_offline_it_is_503_without_a_402_in_no_listing_and_nothing_is_charged(tmp_path, toml, people):
    home = with_people(tmp_path) if people else tmp_path
    async with Gate.open(home, configured=True, toml=toml) as gate:
        agent, token = await gate.agent(5_000_000)
        for sent in ({}, {"Authorization": f"Bearer {token}"}, {"PAYMENT-SIGNATURE": "garbage"}):
            refused = await gate.send("POST", PATH, headers=sent, body=b"{}")
            assert (refused.status, refused.json["code"]) == (503, "ROUTE_OFFLINE")
            assert "PAYMENT-REQUIRED" not in refused.headers
        assert (await gate.balance(agent)).available == 5_000_000
        assert await gate.charges() == []
        for document in DOCUMENTS:
            assert b"leads/search" not in (await gate.send("GET", document)).body, document


async def test_on_sale_it_stands_in_every_document(tmp_path):
    async with selling(tmp_path, SOLD + '\n[prices]\n"leads/search" = "2.50"\n') as gate:
        for document in DOCUMENTS:
            assert b"leads/search" in (await gate.send("GET", document)).body, document
        unpaid = await gate.send("POST", PATH, body=b"{}")
        assert (unpaid.status, unpaid.json["price_usd"]) == (402, "2.500")


async def test_each_page_with_a_row_costs_the_price_once_and_an_empty_one_nothing(tmp_path):
    async with selling(tmp_path) as gate:
        agent, token = await gate.agent(5_000_000)
        first = await gate.ask(ID, {**SAMPLES, "limit": 1}, token=token)
        assert (names(first), first.json["billed"], first.json["billing"]["charged_usd"]) == ([DANA], True, "1.000")
        cursor = first.json["data"]["next_cursor"]
        second = await gate.ask(ID, {**SAMPLES, "limit": 1, "cursor": cursor}, token=token)
        assert (names(second), second.json["data"]["next_cursor"]) == ([LEE], None)
        nobody = await gate.ask(ID, {"name": "Nobody", "city": "Seattle"}, token=token)
        assert (names(nobody), nobody.json["matched"], nobody.json["billed"]) == ([], False, False)
        assert (await gate.balance(agent)).available == 5_000_000 - 2 * PRICE
        ended = [(view.charge.state, view.charge.captured_micros) for view in await gate.charges()]
        assert ended == [(State.CAPTURED, PRICE), (State.CAPTURED, PRICE), (State.RELEASED, 0)]
        calls = [await gate.gateway.db.read(vendor_calls.of_charge, view.charge.id) for view in await gate.charges()]
        assert [[(call.provider, call.outcome, call.cost_micros) for call in each] for each in calls] == [
            [("local_directory", Outcome.MATCH, 0)], [("local_directory", Outcome.MATCH, 0)],
            [("local_directory", Outcome.NO_MATCH, 0)],
        ]  # fmt: skip


async def test_rows_that_are_erased_between_two_pages_take_no_other_with_them(tmp_path):
    async with selling(tmp_path) as gate:
        _, token = await gate.agent(50_000_000)
        asked = {"city": "Seattle", "limit": 3}
        every = names(await gate.ask(ID, {"city": "Seattle"}, token=token))
        assert len(every) > 6
        first = await gate.ask(ID, asked, token=token)
        await operator(tmp_path, "subject", "erase", "--phone", "(206) 555-0100", "--yes", toml=SETTINGS)
        second = await gate.ask(ID, {**asked, "cursor": first.json["data"]["next_cursor"]}, token=token)
        assert names(second) == every[3:6]
        assert names(await gate.ask(ID, asked, token=token)) == every[1:4]


async def test_whoever_was_suppressed_since_leaves_an_empty_last_page_which_is_a_miss(tmp_path):
    async with selling(tmp_path) as gate:
        agent, token = await gate.agent(5_000_000)
        first = await gate.ask(ID, {**SAMPLES, "limit": 1}, token=token)
        await operator(tmp_path, "subject", "suppress", "--phone", "(206) 555-0101", toml=SETTINGS)
        await gate.gateway.subjects.read()
        last = await gate.ask(ID, {**SAMPLES, "limit": 1, "cursor": first.json["data"]["next_cursor"]}, token=token)
        assert (names(last), last.json["billed"], last.json["data"]["next_cursor"]) == ([], False, None)
        assert (await gate.balance(agent)).available == 5_000_000 - PRICE


async def test_signed_payments_pay_for_a_page_and_for_nothing_else(tmp_path):
    async with selling(tmp_path) as gate:

        async def paid(body: dict[str, Any]) -> Reply:
            offer = (await gate.send("POST", PATH, body=b"{}")).offer
            payment = echoing(Payer(KEYS[1]).eip3009(offer["accepts"][0]), offer)
            sent = {"Content-Type": "application/json", "PAYMENT-SIGNATURE": header(payment)}
            return await gate.send("POST", PATH, headers=sent, body=orjson.dumps(body))

        page = await paid({**SAMPLES, "limit": 1})
        assert (names(page), page.receipt["success"]) == ([DANA], True)
        missed = await paid({"name": "Nobody", "city": "Seattle"})
        assert (names(missed), missed.json["billed"]) == ([], False)
        refused = await paid({"kind": "person"})
        assert (refused.status, refused.json["code"]) == (422, "MISSING_QUERY")
        load(tmp_path / "people.csv", tmp_path / "directory.db", workers=0, source=invented.SOURCE)
        stale = await paid({**SAMPLES, "cursor": page.json["data"]["next_cursor"]})
        assert (stale.status, stale.json["code"]) == (422, "CURSOR_INVALID")
        assert "nothing was charged" in stale.json["error"]
        assert sorted(view.charge.captured_micros for view in await gate.charges()) == [0, 0, PRICE]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "MISSING_QUERY"),
        ({"has_phone": True}, "MISSING_QUERY"),
        ({"city": "Seattle", "cursor": "garbage"}, "CURSOR_INVALID"),
        ({"city": "Seattle", "limit": 26}, "VALIDATION_ERROR"),
        ({"city": "Seattle", "limit": "1"}, "VALIDATION_ERROR"),
        ({"city": "Seattle", "page": 2}, "VALIDATION_ERROR"),
        ({"city": ["Seattle"]}, "VALIDATION_ERROR"),
        ({"city": "S" * 5000}, "VALIDATION_ERROR"),
        ({"city": "Seattle\x00", "state_code": "Narnia"}, "VALIDATION_ERROR"),
        ([{"city": "Seattle"}], "VALIDATION_ERROR"),
    ],
)
async def test_what_cannot_be_asked_is_a_422_and_nothing_is_charged(tmp_path, body, code):
    async with selling(tmp_path) as gate:
        agent, token = await gate.agent(5_000_000)
        refused = await gate.ask(ID, body, token=token)
        assert (refused.status, refused.json["code"]) == (422, code)
        assert await gate.charges() == []
        assert (await gate.balance(agent)).available == 5_000_000


async def test_a_cursor_after_a_file_was_loaded_again_is_a_422_and_nothing_is_charged(tmp_path):
    async with selling(tmp_path) as gate:
        agent, token = await gate.agent(5_000_000)
        first = await gate.ask(ID, {**SAMPLES, "limit": 1}, token=token)
        load(tmp_path / "people.csv", tmp_path / "directory.db", workers=0, source=invented.SOURCE)
        stale = await gate.ask(ID, {**SAMPLES, "limit": 1, "cursor": first.json["data"]["next_cursor"]}, token=token)
        assert (stale.status, stale.json["code"]) == (422, "CURSOR_INVALID")
        assert (await gate.balance(agent)).available == 5_000_000 - PRICE
        (_, released) = await gate.charges()
        assert (released.charge.state, released.charge.reason) == (State.RELEASED, Event.FAILED)
        assert names(await gate.ask(ID, SAMPLES, token=token)) == [DANA, LEE]


async def test_suppressed_people_are_in_no_list_and_the_page_is_filled(tmp_path):
    async with selling(tmp_path) as gate:
        _, token = await gate.agent(5_000_000)
        await operator(tmp_path, "subject", "suppress", "--phone", "(206) 555-0100", toml=SETTINGS)
        await gate.gateway.subjects.read()
        page = await gate.ask(ID, {**SAMPLES, "limit": 1}, token=token)
        assert (names(page), page.json["billed"], page.json["data"]["next_cursor"]) == ([LEE], True, None)
        assert b"5550101" in page.body
        assert b"5550100" not in page.body


async def test_a_usage_key_needs_its_scope(tmp_path):
    async with selling(tmp_path) as gate:
        _, token = await gate.agent(5_000_000)
        allowed, other = await gate.usage_key(token, "leads:search"), await gate.usage_key(token, "enrich:*")
        assert names(await gate.ask(ID, SAMPLES, token=allowed)) == [DANA, LEE]
        assert (await gate.ask(ID, SAMPLES, token=other)).json["code"] == "SCOPE_DENIED"


async def test_it_has_the_operators_notice(tmp_path):
    async with selling(tmp_path, SOLD + '\n[subjects]\nnotice = "As it stands in our files."\n') as gate:
        _, token = await gate.agent(5_000_000)
        page = await gate.ask(ID, SAMPLES, token=token)
        assert page.json["metadata"]["notice"] == "As it stands in our files."
