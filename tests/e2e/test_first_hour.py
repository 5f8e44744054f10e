"""The first hour of a new agent, over HTTP and a real chain, with every amount on the way."""

import csv
import io
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from rigs.chain import Chain
from rigs.gate import Reply, header
from rigs.newcomer import Newcomer
from rigs.payer import Payer, echoing
from rigs.program import Program
from rigs.running import Running, offered, relayed, running

pytestmark = pytest.mark.chain

DOLLAR = 1_000_000
TOPUP = "/api/v1/balance/topup/x402"
KEYS = "/api/v1/agents/usage-keys"
STATEMENT = "/api/v1/agents/statement"
ADA, NOBODY = {"phone": "206-555-0110"}, {"phone": "206-555-0199"}
LINES = [
    # kind, money, operation, amount, balance after it; the newest first
    ("capture", "own", "support/tickets", "-0.010", "4.200"),
    ("capture", "own", "enrich/phone", "-0.330", "4.210"),
    ("capture", "own", "enrich/phone", "-0.330", "4.540"),
    ("capture", "own", "enrich/phone", "-0.330", "4.870"),
    ("deposit", "own", None, "5.000", "5.200"),
    ("grant", "bonus", None, "0.200", "0.200"),
]


@pytest.fixture
async def gate(chain: Chain, program: Program, directory: Path, tmp_path: Path) -> AsyncIterator[Running]:
    settings = relayed(chain, directory=directory, more="[support]\nenabled = true\n")
    async with running(tmp_path, program, settings) as gate:
        await gate.until_ready()
        yield gate


async def ask(gate: Running, method: str, path: str, token: str, body: Any = None, **headers: str) -> Reply:
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    return await gate.send(method, path, headers=sent, body=None if body is None else orjson.dumps(body))


async def amounts(gate: Running, token: str) -> tuple[str, str, str, str]:
    """(everything, held, available, bonus)"""
    told = (await ask(gate, "GET", "/api/v1/agents/balance", token)).json
    return told["virtual_balance_usd"], told["held_usd"], told["available_usd"], told["bonus_usd"]


async def test_the_first_hour(gate: Running, chain: Chain) -> None:
    newcomer = Newcomer(gate)
    chain.mint(newcomer.address, 6 * DOLLAR)
    registered = await newcomer.register()
    assert (registered.status, registered.json["virtual_balance_usd"]) == (201, "0.200")
    agent_id, token = registered.json["agent_id"], registered.json["token"]
    assert await amounts(gate, token) == ("0.200", "0.000", "0.200", "0.200")

    # Five dollars, of the wallet's six.
    wanted = {"amount_usd": "5.00"}
    required = await ask(gate, "POST", TOPUP, token, wanted)
    assert (required.status, required.json["price_usd"]) == (402, "5.000")
    offer = offered(required.offer, "eip3009")
    assert offer["amount"] == "5000000"
    payment = echoing(Payer(newcomer.account.key.hex()).pay(offer), required.offer)
    signed = {"PAYMENT-SIGNATURE": header(payment)}
    credited = await ask(gate, "POST", TOPUP, token, wanted, **signed)
    assert (credited.status, credited.json["credited_usd"], credited.json["bonus_usd"]) == (200, "5.000", "0.000")
    assert (credited.receipt["success"], credited.receipt["amount"]) == (True, "5000000")
    assert chain.balance(newcomer.address) == DOLLAR
    assert chain.balance(gate.settings.pay_to) == 5 * DOLLAR
    assert await amounts(gate, token) == ("5.200", "0.000", "5.200", "0.200")
    again = await ask(gate, "POST", TOPUP, token, wanted, **signed)
    assert (again.status, again.json["deposit_id"]) == (200, credited.json["deposit_id"])

    # A look-up costs its price, of own money first; one that finds nobody costs nothing.
    found = await gate.call("enrich/phone", ADA, token=token)
    assert (found.json["matched"], found.json["billing"]["charged_usd"]) == (True, "0.330")
    missed = await gate.call("enrich/phone", NOBODY, token=token)
    assert (missed.status, missed.json["matched"], missed.json["billing"]["charged_usd"]) == (200, False, "0.000")
    assert await amounts(gate, token) == ("4.870", "0.000", "4.870", "0.200")

    # A key for two look-ups. What finds nobody takes nothing of its cap.
    terms = {"label": "two", "scopes": ["enrich:phone"], "cap_usd": "0.66", "cap_period": "total"}
    made = await ask(gate, "POST", KEYS, token, terms)
    key = made.json["key"]
    assert (made.status, made.json["cap_usd"], made.json["used_usd"]) == (201, "0.660", "0.000")
    told = [(await gate.call("enrich/phone", body, token=key)) for body in (ADA, NOBODY, ADA, ADA, NOBODY)]
    assert [reply.status for reply in told] == [200, 200, 200, 403, 403]
    assert {reply.json["code"] for reply in told[3:]} == {"KEY_CAP_EXCEEDED"}
    assert (await ask(gate, "GET", KEYS, token)).json["usage_keys"][0]["used_usd"] == "0.660"
    denied = await gate.call("enrich/person", {"name": "Ada Testerman"}, token=key)
    assert (denied.status, denied.json["code"]) == (403, "SCOPE_DENIED")
    assert await amounts(gate, token) == ("4.210", "0.000", "4.210", "0.200")

    ticket = {"category": "billing", "subject": "A receipt", "body": "Is there one for my five dollars?"}
    filed = await gate.call("support/tickets", ticket, token=token)
    assert (filed.status, filed.json["billing"]["charged_usd"]) == (200, "0.010")
    listed = (await ask(gate, "GET", "/api/v1/support/tickets", token)).json["tickets"]
    assert [each["ticket_id"] for each in listed] == [filed.json["data"]["ticket_id"]]

    told = (await ask(gate, "GET", STATEMENT, token)).json
    lines = [
        (each["kind"], each["money"], each["operation"], each["amount_usd"], each["balance_usd"])
        for each in told["movements"]
    ]
    assert lines == LINES
    assert told["movements"][4]["deposit_id"] == credited.json["deposit_id"]
    assert (told["virtual_balance_usd"], told["held_usd"]) == ("4.200", "0.000")
    text = (await ask(gate, "GET", f"{STATEMENT}?format=csv", token)).body.decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["amount_usd"] for row in rows] == [line[3] for line in LINES]
    assert text.splitlines() == (await gate.run("statement", agent_id, "--csv")).splitlines()

    me = (await ask(gate, "GET", "/api/v1/agents/me", token)).json
    assert (me["agent_id"], me["virtual_balance_usd"], me["usage_keys_active"]) == (agent_id, "4.200", 1)
    assert me["spent_usd_30d"] == "1.000"
    came_of = Counter(charge["state"] for charge in await gate.charges())
    assert came_of == {"settled": 1, "captured": 4, "released": 2}
