"""Bad input for everything we buy for customers, at the real edge: by an agent with money and by a signed payment.

Whatever is wrong is told with its code, and nothing came of it: no charge, nothing held, nobody asked, no payment
used. What is merely odd is no 500.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from edge.test_bodies import NO_JSON
from rigs.gate import Gate, Reply, header
from rigs.market import QUESTIONS, Market
from scenario.test_market import ended, opened

RICH = 5_000_000_000
JOBS = "/api/v1/enrich/jobs"
PHONE, PERSON, EMAIL = "enrich/phone", "enrich/person", "enrich/email"
COMPANY, WEB, LEAD = "enrich/company", "enrich/websearch", "enrich/lead-session"
NUMBER = QUESTIONS[PHONE]["phone"]
FIRM = QUESTIONS[LEAD]["lead"]
NONE, THIN, PHONEY, CHEAP = "VALIDATION_ERROR", "LEAD_TOO_THIN", "INVALID_PHONE", "CEILING_BELOW_PRICE"
LONG = "x" * 17_000


def lead(**more: Any) -> dict[str, Any]:
    return {"lead": FIRM, **more}


WRONG: list[tuple[str, Any, str]] = [
    # phones that are no phones
    *((PHONE, {"phone": text}, PHONEY) for text in (
        "", "  ", "no number", "anonymous", "0", "+", "+0", "+1", "911", "123", "+1206555", "9" * 20, "\u0663" * 3,
        "+999 206 555 0142", f"{NUMBER}\r\nX-Other: 1", f"{NUMBER},{NUMBER}", "\u202e", "'; DROP TABLE charges; --",
    )),
    *((PHONE, {"phone": value}, NONE) for value in (
        12065550142, 1.5, None, True, [], {}, [NUMBER], {"e164": NUMBER}, NUMBER * 10, "\x00", f"{NUMBER}\x00",
        f"{NUMBER}\x1b[31m", f"\x7f{NUMBER}",
    )),
    (PHONE, {}, NONE), (PHONE, {"phone": NUMBER, "other": 1}, NONE), (PHONE, {"phone": NUMBER, "number": NUMBER}, NONE),
    # people
    *((PERSON, body, "MISSING_QUERY") for body in (
        {}, {"name": ""}, {"name": "Dana"}, {"last_name": "Sample"}, {"first_name": "Dana"}, {"city": "Seattle"},
        {"name": "... !!"}, {"street": ""}, {"street": "..."}, {"state": "WA", "zip": "98101"}, {"name": None},
    )),
    *((PERSON, body, NONE) for body in (
        {"name": 5}, {"name": ["Dana Sample"]}, {"name": {"first": "Dana"}}, {"name": "x" * 121}, {"email": "no"},
        {"email": "a@b"}, {"name": "Dana Sample", "state": "Floriduh"}, {"name": "Dana Sample", "zip": "9810"},
        {"name": "Dana Sample", "zip": 98101}, {"name": "Dana Sample", "first_name": "Dana"}, {"unknown": 1},
        {"name": "Dana\x00 Sample"}, {"name": "Dana \x1b[31mSample"}, {"street": "\x00"}, {"name": "Dana\x9bSample"},
    )),
    (PERSON, {"phone": "1"}, PHONEY), (PERSON, {"name": "Dana Sample", "phone": "12"}, PHONEY),
    # firms, and addresses at them
    *((COMPANY, body, "MISSING_QUERY") for body in ({}, {"name": ""}, {"name": "..."}, {"city": "Seattle"})),
    *((COMPANY, body, NONE) for body in (
        {"domain": "x"}, {"domain": "a b.com"}, {"domain": "http://"}, {"domain": ["a.com"]}, {"name": 5},
        {"name": "x" * 121}, {"name": "Example", "state": "ZZ"}, {"name": "Exam\x00ple"}, {"name": "\x00"},
    )),
    (COMPANY, {"name": "Example", "phone": "12"}, PHONEY),
    *((EMAIL, body, "MISSING_QUERY") for body in (
        {}, {"name": "Dana"}, {"domain": "example.com"}, {"name": "Dana Sample"},
        {"name": "Dana Sample", "company": "."},
    )),
    *((EMAIL, body, NONE) for body in (
        {"name": 7, "domain": "example.com"}, {"name": "Dana Sample", "domain": "nope"},
        {"name": "Dana\x00 Sample", "domain": "example.com"}, {"name": "Dana Sample", "domain": "exa\x00mple.com"},
    )),
    # research of a firm
    *((WEB, body, NONE) for body in (
        {}, {"business_name": ""}, {"business_name": 7}, {"business_name": ["Sample"]}, {"business_name": {"is": "it"}},
        {"business_name": "x" * 201}, {"business_name": "Sample", "prompt": "x" * 2001},
        {"business_name": "Sample", "prompt": ["x"]}, {"business_name": "Sample", "city": {"a": 1}},
        {"business_name": "Sample", "state": 5}, {"business_name": "Sample", **{f"k{n}": n for n in range(64)}},
        {"business_name": "Sam\x00ple"}, {"business_name": "Sample", "prompt": "\x1b]0;title\x07"},
    )),
    (WEB, {"business_name": "..."}, "MISSING_QUERY"), (WEB, {"business_name": "\u202e"}, "MISSING_QUERY"),
    # leads with nothing usable, too much, nested, of wrong types
    *((LEAD, {"lead": each}, THIN) for each in (
        {}, {"company": ""}, {"company": None}, {"company": True}, {"company": "..."}, {"company": "\x00\x01"},
        {"foo": "bar"}, {"": "x"}, {"\x00": "y"}, {"email": "nope"}, {"city": "Seattle"}, {"dm_name": "Dana"},
        {"contact_id": "81551343"}, {"company": []}, {"state": "FL", "zip": "33602"}, {"website": "nope"},
        {"dm_name": "unknown", "company": "  "},
    )),
    *((LEAD, {"lead": each}, PHONEY) for each in (
        {"phone": "12"}, {"number1": "n/a"}, {"cell": "\u0663"}, {"phone": 1e30}, {"phone": -1}, {"phone": ["1", "2"]},
    )),
    *((LEAD, {"lead": each}, NONE) for each in (
        None, [], "x", 7, True, {f"k{n}": n for n in range(65)}, {**FIRM, **{f"k{n}": n for n in range(62)}},
        {"company": {"n": 1}}, {"company": [["x"]]}, {"company": [{"x": 1}]}, {**FIRM, "other": {"x": 1}},
        {"company": ["x"] * 11}, {"company": LONG}, {LONG: "x"}, {**FIRM, "notes": LONG},
    )),
    (LEAD, {}, NONE), (LEAD, {"company": "Sample Inc"}, NONE),
    *((LEAD, lead(**more), NONE) for more in (
        {"max_rounds": 0}, {"max_rounds": 11}, {"max_rounds": -1}, {"max_rounds": 2.5}, {"max_rounds": "many"},
        {"max_rounds": True}, {"max_rounds": None}, {"mode": "slow"}, {"mode": None}, {"mode": ["auto"]},
        {"planner": "mine"}, {"prompts": "x"}, {"prompts": ["x" * 1001]}, {"prompts": ["x"] * 6}, {"prompts": [1]},
        {"prompts": [None]}, {"prompts": None}, {"chat_session_id": "../../x"}, {"chat_session_id": "a" * 65},
        {"chat_session_id": 5}, {"chat_session_id": "cs_\x00abc"}, {"refresh": "maybe"}, {"refresh": 7},
        {"prior_backfill": []}, {"prior_backfill": "x"}, {"prior_backfill": {"entities": [7]}},
        {"prior_backfill": {"entities": {}}}, {"unknown": 1},
    )),
]  # fmt: skip

BUDGETS: list[tuple[Any, str]] = [
    *((value, NONE) for value in (
        -1, -0.0, "-1", "-0", "NaN", "nan", "Infinity", "inf", "", " ", " 2 ", "2,0", "2.", ".5", "+2", "1e1", "0x2",
        "2_0", "1.4999999", "2.0000001", "\uff12", "much", True, False, [], {}, [2], {"usd": 2}, 9e99, 1e-9, "2" * 400,
    )),
    *((value, CHEAP) for value in (0, 0.0, "0", 0.05, "0.999999")),
]  # fmt: skip
"""Of any operation with a budget: the base prices are 1.00 and 1.50."""

HEADERS = (
    "-1",
    "0x2",
    "NaN",
    "Infinity",
    "",
    " ",
    "much",
    "1e1",
    "2,0",
    "2, 3",
    "+2",
    "2" * 400,
    "\u00b2",
    "1.4999999",
)


@dataclass
class Till:
    """Who asks, and what must be as it was afterwards."""

    gate: Gate
    market: Market
    agent: str
    token: str
    payments: dict[str, Any]

    async def ask(self, path: str, body: bytes, *, paid: str = "", **headers: str) -> Reply:
        """`paid`: by a payment for this operation, and not from the balance."""
        sent = {"Content-Type": "application/json", **headers}
        sent |= (
            {"PAYMENT-SIGNATURE": header(self.payments[paid])} if paid else {"Authorization": f"Bearer {self.token}"}
        )
        return await self.gate.send("POST", path, headers=sent, body=body)

    async def both(self, operation: str, body: bytes, **headers: str) -> list[Reply]:
        path = f"/api/v1/{operation}"
        return [await self.ask(path, body, **headers), await self.ask(path, body, paid=operation, **headers)]

    async def nothing_came_of_it(self) -> None:
        assert await self.gate.charges() == []
        balance = await self.gate.balance(self.agent)
        assert (balance.available, balance.held) == (RICH, 0)
        assert self.market.up.seen == []
        rows = await self.gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM payments"))
        assert rows == [(0,)]

    async def still_good(self) -> None:
        """Every payment that was refused with its body buys what it was signed for."""
        for operation, question in QUESTIONS.items():
            told = await self.ask(f"/api/v1/{operation}", orjson.dumps(question), paid=operation)
            assert (told.status, told.json["matched"]) == (200, True), told.body


@pytest.fixture
async def till(tmp_path: Path) -> AsyncIterator[Till]:
    async with standing(tmp_path) as till:
        yield till


@asynccontextmanager
async def standing(home: Path) -> AsyncIterator[Till]:
    async with opened(home, gleif="requests_per_min = 100000") as (gate, market):
        agent, token = await gate.agent(RICH)
        payments = {operation: await gate.sign(operation=operation) for operation in QUESTIONS}
        yield Till(gate, market, agent, token, payments)


def told_well(reply: Reply, status: int, code: str, why: object) -> None:
    assert (reply.status, reply.json["code"]) == (status, code), (why, reply.body)
    assert set(reply.json) >= {"error", "code", "request_id", "details", "docs"}, why


async def test_what_cannot_be_asked_is_told_with_its_code_and_nothing_comes_of_it(till: Till) -> None:
    for operation, body, code in WRONG:
        for reply in await till.both(operation, orjson.dumps(body)):
            told_well(reply, 422, code, (operation, body))
            assert b"DROP TABLE" not in reply.body
            assert b"\\u0000" not in reply.body
            assert b"not acceptable" not in reply.body, "our own sentences come through, and say what is wanted"
    await till.nothing_came_of_it()
    await till.still_good()


@pytest.mark.parametrize("operation", [WEB, LEAD])
async def test_nor_can_it_be_handed_over_as_a_job(till: Till, operation: str) -> None:
    for wrong, body, code in WRONG:
        if wrong == operation:
            sent = orjson.dumps({"route": operation, "payload": body})
            told_well(await till.ask(JOBS, sent), 422, code, body)
    for payload in (None, [], "x", 7):
        told_well(await till.ask(JOBS, orjson.dumps({"route": operation, "payload": payload})), 422, NONE, payload)
    for route in (None, 7, "", "enrich/nothing", "enrich/phone\x00", ["enrich/websearch"]):
        reply = await till.ask(JOBS, orjson.dumps({"route": route, "payload": {}}))
        assert (reply.status, reply.json["code"]) in ((422, NONE), (422, "JOB_ROUTE_UNSUPPORTED")), (route, reply.body)
    await till.nothing_came_of_it()


async def test_a_budget_out_of_range_is_told_and_nothing_comes_of_it(till: Till) -> None:
    """In the body, in the header, and a job's ceiling."""
    for value, code in [*BUDGETS, (1.49, CHEAP), ("1.499999", CHEAP), (20.01, NONE), ("20.000001", NONE), (21, NONE)]:
        for reply in await till.both(LEAD, orjson.dumps(lead(budget_usd=value))):
            told_well(reply, 422, code, value)
    for value in HEADERS:
        for operation in (PHONE, WEB, LEAD):
            question = orjson.dumps(QUESTIONS[operation])
            reply = await till.ask(f"/api/v1/{operation}", question, **{"X-Bill-Up-To-Usd": value})
            told_well(reply, 422, NONE, (operation, value))
    for operation, cheap in ((PHONE, "0.329999"), (WEB, "0.999999"), (LEAD, "1.499999"), (LEAD, "0")):
        question = orjson.dumps(QUESTIONS[operation])
        reply = await till.ask(f"/api/v1/{operation}", question, **{"X-Bill-Up-To-Usd": cheap})
        told_well(reply, 422, CHEAP, (operation, cheap))
    for operation in (WEB, LEAD):
        for value, code in [*BUDGETS, (50.01, NONE), ("50.000001", NONE)]:
            sent = {"route": operation, "payload": QUESTIONS[operation], "bill_up_to_usd": value}
            told_well(await till.ask(JOBS, orjson.dumps(sent)), 422, code, value)
    await till.nothing_came_of_it()


def text(body: bytes) -> bytes:
    """Where a value belongs in a question that would otherwise be one."""
    return (
        b'{"phone": "+12065550142", "name": "Dana Sample", "business_name": "Sample", "lead": {"company": '
        + body
        + b"}}"
    )


BROKEN = [
    *NO_JSON,
    *map(text, (b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u00"', b'"\x00"', b'"\x1f"', b'"\n"', b'"\xff"', b"NaN",
                b"-Infinity", b"1e999", b"9" * 5000, b"[" * 65 + b"]" * 65, b'{"a":' * 65 + b"1" + b"}" * 65, b"01")),
]  # fmt: skip


async def test_what_is_no_json_is_400_and_too_much_of_it_413(till: Till) -> None:
    for operation in QUESTIONS:
        for body in BROKEN:
            for reply in await till.both(operation, body):
                told_well(reply, 400, "BAD_JSON", (operation, body[:60]))
        for body in (text(b'"' + b"x" * 70_000 + b'"'), b"[" * 70_000, b" " * 70_000):
            for reply in await till.both(operation, body):
                told_well(reply, 413, "BODY_TOO_LARGE", (operation, body[:60]))
        for value in (b"[]", b"7", b"null", b'"lead"', b"true", b"[{}]"):
            for reply in await till.both(operation, value):
                told_well(reply, 422, NONE, (operation, value))
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "a\tb"):
            for reply in await till.both(operation, orjson.dumps(QUESTIONS[operation]), **{"Content-Type": kind}):
                told_well(reply, 415, "UNSUPPORTED_MEDIA_TYPE", (operation, kind))
    for body in BROKEN:
        told_well(await till.ask(JOBS, body), 400, "BAD_JSON", body[:60])
    await till.nothing_came_of_it()
    await till.still_good()


ODD = (
    "\u202eelpmaS anaD", "Dana\u0000Sample", "Dana\tSample\n", "\U0001f9fc" * 60, "a\u0300" * 60, "\ufffe Sample",
    "%00 %0d%0a", "../../etc/passwd", "Dana' OR '1'='1", "{{7*7}} ${7*7}", "<script>alert(1)</script>",
    "Sample\u2028Dana", "\u00df" * 120, "q" * 120, "Dana " * 24, "\u0130\u0131 \ufb03 Sample", "NEAR/2 Sample*",
    '"Sample" AND ^', "- Sample", "\u0e33" * 100,
)  # fmt: skip


async def test_what_is_merely_odd_is_no_500(till: Till) -> None:
    """Whatever stands in a text, it is asked or refused; none of it is anything but data to whom it is passed on."""
    for odd in ODD:
        for operation, question in QUESTIONS.items():
            told = question["lead"] if operation == LEAD else question
            for name in [name for name, value in told.items() if isinstance(value, str)]:
                asked = {**told, name: odd}
                body = {"lead": asked, "planner": "rules"} if operation == LEAD else asked
                reply = await till.ask(f"/api/v1/{operation}", orjson.dumps(body))
                assert reply.status in (200, 422), (operation, name, odd, reply.body)
        body = {"lead": {**FIRM, odd: odd}, "prompts": [odd], "prior_backfill": {"entities": [{"name": odd}], odd: odd}}
        reply = await till.ask(f"/api/v1/{LEAD}", orjson.dumps(body))
        assert reply.status in (200, 422), (odd, reply.body)
    assert (await till.gate.balance(till.agent)).held == 0
    for seen in till.market.up.seen:
        assert seen.names <= {"host", "user-agent", "accept", "accept-encoding", "x-api-key", "authorization",
                              "content-type", "content-length"}  # fmt: skip
        assert seen.target.isascii()
        assert "\x00" not in seen.target
        assert "%00" not in seen.target.replace("%2500", "")


async def test_a_job_of_odd_words_ends(till: Till) -> None:
    body = {"route": LEAD, "payload": {"lead": {**FIRM, "notes": ODD[0]}, "prompts": list(ODD[:5])}}
    job = await till.ask(JOBS, orjson.dumps(body))
    assert (await ended(till.gate, job))["status"] == "completed"
