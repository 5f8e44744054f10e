"""Group L for everybody whom a gateway buys from: a whole one, and sellers that echo, drip, redirect, lie and go away.

The sellers are real sockets that keep a journal of what was asked; the person of whom they know has never been.
"""

import base64
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from rigs.gate import KEYS as PAYERS
from rigs.gate import Gate, Reply, header
from rigs.market import ASKS, KEYED, KEYS, QUESTIONS, SELLERS, Market
from rigs.payer import Payer
from rigs.person import left_in
from rigs.running import eventually
from rigs.upstream import (
    Behaviour,
    ScriptedUpstream,
    bomb,
    drip,
    echo,
    endless,
    garbage,
    hang,
    raw,
    redirect,
    reply,
    reset,
    status,
    wrong_length,
)
from scenario.test_subjects import Clock

from gateway.core.charge import State
from gateway.settlement.sandbox import PREFUNDED_ATOMIC
from gateway.store import outbox

JOBS = "/api/v1/enrich/jobs"
RICH = 50_000_000
JOBBED = ("enrich/websearch", "enrich/lead-session")
DAY_S = 86_400
HOUR_S = 3_600


@asynccontextmanager
async def opened(
    home: Path, *, toml: str = "", timeout_s: float = 5, clock: Clock | None = None, **sellers: str
) -> AsyncIterator[tuple[Gate, Market]]:
    parts = {} if clock is None else {"clock": clock}
    async with Market.open() as market:
        said = market.toml(timeout_s=timeout_s, **sellers) + toml
        async with Gate.open(home, toml=said, configured=True, **parts) as gate:
            yield gate, market


def asking(*sellers: str) -> list[str]:
    """The operations that buy of one of them."""
    return [operation for operation, names in ASKS.items() if set(names) & set(sellers)]


async def submit(gate: Gate, operation: str, token: str, **headers: str) -> Reply:
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", **headers}
    body = {"route": operation, "payload": QUESTIONS[operation], "bill_up_to_usd": "2.00"}
    return await gate.send("POST", JOBS, headers=sent, body=orjson.dumps(body))


async def ended(gate: Gate, accepted: Reply) -> Any:
    assert accepted.status == 202, accepted.body
    bearer = {"Authorization": f"Bearer {accepted.json['poll_bearer']}"}

    async def over() -> Any:
        told = (await gate.send("GET", f"{accepted.json['poll_url']}?wait=10", headers=bearer)).json
        return None if told["status"] in ("queued", "running") else told

    return await eventually(over)


@pytest.mark.parametrize("operation", QUESTIONS)
async def test_in_good_order_they_answer_everything(tmp_path: Path, operation: str) -> None:
    """What all the others here are departures from."""
    async with opened(tmp_path) as (gate, market):
        _, token = await gate.agent(RICH)
        told = await gate.ask(operation, QUESTIONS[operation], token=token)
        assert (told.status, told.json["matched"]) == (200, True), told.body
        assert set(market.counts()) == set(ASKS[operation])


# What is sent to them: F-145, F-150, F-153

ALWAYS = {"host", "user-agent", "accept", "accept-encoding"}
SENT = {
    "whitepages": {"x-api-key"},
    "hunter": {"x-api-key"},
    "gleif": set[str](),
    "serper": {"x-api-key", "content-type", "content-length"},
    "llm": {"authorization", "content-type", "content-length"},
    "site": set[str](),
}
ODD = {
    "Connection": "X-Forwarded-For, X-Canary",
    "X-Canary": "canary",
    "X_Canary": "canary",
    "Cookie": "canary=1",
    "Forwarded": "for=canary",
    "X-Forwarded-For": "canary",
    "X-Forwarded-Host": "canary.example.com",
    "X_Forwarded_Host": "canary.example.com",
    "X-Real-IP": "canary",
    "Via": "1.1 canary",
    "Proxy-Authorization": "Basic canary",
    "X-Api-Key": "canary",
    "X_Api_Key": "canary",
    "Keep-Alive": "timeout=canary",
    "TE": "trailers",
    "Referer": "https://canary.example.com/",
    "Origin": "https://canary.example.com",
    "User-Agent": "canary/1",
    "Accept-Language": "canary",
    "X-Request-Id": "req_canary",
    "Idempotency-Key": "canary",
    "traceparent": "00-canary",
}


async def test_f145_sellers_and_sites_get_the_headers_that_are_theirs_and_no_others(tmp_path: Path) -> None:
    """However a call was paid, and as a job too."""
    async with opened(tmp_path) as (gate, market):
        _, token = await gate.agent(RICH)
        for operation, question in QUESTIONS.items():
            odd = {**ODD, "Idempotency-Key": f"canary {operation}"}
            told = await gate.ask(operation, question, token=token, **odd)
            assert told.status == 200, told.body
            payment = await gate.sign(operation=operation)
            sent = {**odd, "Content-Type": "application/json", "PAYMENT-SIGNATURE": header(payment)}
            told = await gate.send("POST", f"/api/v1/{operation}", headers=sent, body=orjson.dumps(question))
            assert told.status == 200, told.body
        for operation in JOBBED:
            odd = {**ODD, "Idempotency-Key": f"canary job {operation}"}
            await ended(gate, await submit(gate, operation, token, **odd))
        assert set(market.counts()) == set(SELLERS)
        for name in SELLERS:
            for seen in market.asked(name):
                assert seen.names - ALWAYS <= SENT[name], (name, seen.names)
                assert len(seen.headers) == len(seen.names), "none of them twice"
                told_of = str(seen.headers)
                assert "canary" not in told_of.replace(KEYS.get(name, "canary"), ""), name
                assert token not in told_of
                assert seen.header("host") == f"127.0.0.1:{market.up.port}"


async def test_f150_no_ambient_credential_and_no_redirect_takes_a_key_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sellers' redirects are failures; a site's is followed, by a stranger who carries nothing."""
    async with ScriptedUpstream() as elsewhere:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login canary password canary\n")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login canary password canary\n")
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, elsewhere.url("/proxy"))
            monkeypatch.setenv(name.upper(), elsewhere.url("/proxy"))
        async with opened(tmp_path) as (gate, market):
            _, token = await gate.agent(RICH)
            for operation, question in QUESTIONS.items():
                assert (await gate.ask(operation, question, token=token)).status == 200
            assert elsewhere.seen == []
            assert all("canary" not in str(seen.headers) for seen in market.asked("gleif", "site"))
            assert all(seen.header("authorization") is None for seen in market.asked("whitepages", "hunter", "serper"))
            for code in (301, 302, 303, 307, 308):
                for name in SELLERS:
                    market.instead[name] = redirect(elsewhere.url(f"/{name}"), code)
                for operation, question in QUESTIONS.items():
                    told = await gate.ask(operation, question, token=token)
                    assert told.status in (200, 502), told.body
                    assert told.status == 502 or told.json["billed"] is False
            went = {seen.path for seen in elsewhere.seen}
            assert went <= {"/site", "/robots.txt"}, went
            for seen in elsewhere.seen:
                assert seen.names <= ALWAYS


async def test_f153_nothing_of_one_customer_is_in_what_is_asked_or_told_for_the_next(tmp_path: Path) -> None:
    """No cookie, no connection's login, and no answer that another had bought: each is asked for anew."""
    async with opened(tmp_path, toml="\n[cache]\nttl_hours = 168\n") as (gate, market):
        market.headers = {"Set-Cookie": "tenant=one; Path=/", "Authentication-Info": "nextnonce=one"}
        (_, one), (_, other) = await gate.agent(RICH), await gate.agent(RICH)
        for operation, question in QUESTIONS.items():
            market.up.seen.clear()
            first = await gate.ask(operation, question, token=one)
            asked = Counter(market.counts())
            second = await gate.ask(operation, question, token=other)
            assert (first.json["cache_hit"], second.json["cache_hit"]) == (False, False)
            assert Counter(market.counts()) == Counter({name: 2 * count for name, count in asked.items()})
            if operation not in JOBBED:
                again = await gate.ask(operation, question, token=one)
                assert again.json["cache_hit"] is True, "and it is kept for whoever has bought it"
            assert all("tenant=one" not in str(seen.headers) for seen in market.up.seen)
            assert all(seen.header("cookie") is None for seen in market.up.seen)


# What comes back: F-020, F-028, F-143, F-147, F-149


async def test_f147_no_header_of_a_seller_or_a_page_speaks_for_us(tmp_path: Path) -> None:
    loud = {
        "Set-Cookie": "canary=1", "Access-Control-Allow-Origin": "https://canary.example.com",
        "Content-Security-Policy": "canary", "Cache-Control": "public, max-age=99999", "Server": "canary",
        "PAYMENT-RESPONSE": "canary", "PAYMENT-REQUIRED": "canary", "X-Payment-Response": "canary",
        "X-Charge-Id": "chg_canary", "X-Charge-Token": "canary", "Location": "https://canary.example.com/",
        "WWW-Authenticate": "Basic realm=canary", "Strict-Transport-Security": "canary", "ETag": "canary",
        "Link": "<https://canary.example.com/>; rel=canary", "Clear-Site-Data": "*", "Refresh": "0; url=//canary",
        "Content-Disposition": "attachment; filename=canary", "X-Request-Id": "req_canary",
    }  # fmt: skip
    async with opened(tmp_path) as (gate, market):
        _, token = await gate.agent(RICH)
        quiet, heard = {}, {}
        for kept, headers in ((quiet, {}), (heard, loud)):
            market.headers = headers
            for operation, question in QUESTIONS.items():
                told = await gate.ask(operation, question, token=token)
                assert told.status == 200
                kept[operation] = {name.lower() for name in told.headers}
                assert "canary" not in str(told.headers), operation
                assert told.headers["Cache-Control"] == "private, no-store", operation
        assert quiet == heard


FORMS = ("plain", "base64", "base64url", "url", "url-every-byte", "hex", "gzip", "escaped", "header")


def spelled(text: str) -> list[bytes]:
    """A key as it is, and as base64 wherever it may begin, hex and percent-encoded: none of it may be anywhere."""
    plain = text.encode()
    packed = [base64.b64encode(b"\0" * shift + plain)[4:-4] for shift in range(3)]
    every = "".join(f"%{byte:02x}" for byte in plain).encode()
    return [plain, plain.hex().encode(), every, *packed, *(each.translate(URLSAFE) for each in packed)]


def written(home: Path) -> bytes:
    """Every byte of the gateway's memory."""
    return b"".join(path.read_bytes() for path in home.glob("gate.db*") if path.is_file())


URLSAFE = bytes.maketrans(b"+/", b"-_")


@pytest.mark.parametrize("seller", KEYED)
async def test_f143_a_key_that_a_seller_tells_back_is_told_nobody_and_kept_nowhere(tmp_path: Path, seller: str) -> None:
    """In a body, a header or an error, in every form; told neither to the customer nor to the log or the store, and of
    what was said with it nothing is used."""
    clock = Clock()
    async with opened(tmp_path, clock=clock) as (gate, market):
        _, token = await gate.agent(10 * RICH)
        heard = b""
        with structlog.testing.capture_logs() as logs:
            for form in FORMS:
                for code in (200, 400, 500):
                    market.instead[seller] = echo(form, code=code)
                    asked = len(market.asked(seller))
                    for operation in asking(seller):
                        told = await gate.ask(operation, QUESTIONS[operation], token=token)
                        assert told.status in (200, 502), told.body
                        heard += told.body + str(told.headers).encode()
                        clock.now += HOUR_S  # it has rested by then
                    assert len(market.asked(seller)) > asked, "it was asked, and did tell"
            for operation in set(JOBBED) & set(asking(seller)):
                market.instead[seller] = echo("plain")
                heard += orjson.dumps(await ended(gate, await submit(gate, operation, token)))
                clock.now += HOUR_S
        heard += (await gate.send("GET", "/metrics")).body + str(logs).encode()
        kept = written(tmp_path)
        for spelling in spelled(KEYS[seller]):
            assert spelling not in heard
            assert spelling not in kept
        assert b"provider_gives_a_secret_away" in heard


ODD_ANSWERS: dict[str, Behaviour] = {
    "nothing": reply(body=b""),
    "an empty object": reply({}),
    "null": reply(None),
    "a list": reply([]),
    "a text": reply("found"),
    "an error with 200": reply({"error": {"code": 7, "message": "no luck"}, "success": False}),
    "everything null": reply(dict.fromkeys(("results", "data", "organic", "choices"))),
    "other types": reply(dict.fromkeys(("results", "data", "organic", "choices"), 7)),
    "stubs": reply({"results": [{}], "data": [{}], "organic": [{}], "choices": [{}]}),
    "stubs of null": reply({"results": [None], "data": {"email": None}, "organic": [None], "choices": [None]}),
    "deep": reply(body=b'{"results": ' + b"[" * 50_000),
    "lone surrogates": reply(body=b'{"results": [{"name": "\\ud800"}], "data": [{"attributes": "\\udfff"}]}'),
    "NaN": reply(body=b'{"results": NaN, "data": NaN, "organic": NaN, "choices": NaN}'),
    "no UTF-8": reply(body=b'{"results": "\xff\xfe"}'),
    "HTML": reply(body=b"<html>Just a moment...</html>", content_type="text/html"),
    **{f"a {code}": status(code) for code in (201, 202, 204, 206, 300, 304, 404, 410, 418, 451)},
}


@pytest.mark.parametrize("seller", [name for name in SELLERS if name != "site"])
async def test_f020_f028_an_answer_that_is_none_is_never_charged_for(tmp_path: Path, seller: str) -> None:
    """It is a failure or a miss of that seller: where nobody else knows anything, the call costs nothing."""
    others = {name: status(500) for name in SELLERS if name != seller}
    for name, odd in ODD_ANSWERS.items():
        home = tmp_path / name.replace(" ", "-")
        home.mkdir()
        async with opened(home) as (gate, market):
            market.instead = {**others, seller: odd}
            agent, token = await gate.agent(RICH)
            for operation in asking(seller):
                told = await gate.ask(operation, QUESTIONS[operation], token=token)
                assert told.status in (200, 502), (name, operation, told.body)
                assert told.status == 502 or (told.json["matched"], told.json["billed"]) == (False, False), name
                if told.status == 502:
                    assert told.json["code"] == "UPSTREAM_ERROR"
            balance = await gate.balance(agent)
            assert (balance.available, balance.held) == (RICH, 0), name


async def test_f028_a_good_answer_under_another_status_is_none(tmp_path: Path) -> None:
    for code in (201, 202, 203, 206, 207, 226, 300, 301, 402, 404, 429, 500, 503):
        (tmp_path / str(code)).mkdir()
        async with opened(tmp_path / str(code)) as (gate, market):
            market.status = code
            agent, token = await gate.agent(RICH)
            for operation, question in QUESTIONS.items():
                told = await gate.ask(operation, question, token=token)
                assert told.status == 502 or (told.status, told.json["matched"]) == (200, False), (code, operation)
            balance = await gate.balance(agent)
            assert (balance.available, balance.held) == (RICH, 0), code


FAULTS: dict[str, Behaviour] = {
    "a bomb": bomb(64 * 1024 * 1024),
    "a bomb of two": bomb(1024 * 1024, members=2),
    "endless": endless(),
    "endless, packed": endless(packed=True),
    "a slow drip": drip(b'{"results": []}' * 400, every_s=0.05),
    "a head that drips": drip(b"{}", every_s=0.05, whole_head=False),
    "silence": hang(),
    "too short": wrong_length(100_000, b'{"results": ['),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}abc"),
    "garbage": garbage(),
    "a reset": reset(),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_f149_an_answer_without_measure_ends_and_costs_nothing(tmp_path: Path, fault: str) -> None:
    """Of a seller, a page and a model: no 500, nothing left held, and whatever was charged for was found elsewhere."""
    for seller in SELLERS:
        home = tmp_path / seller
        home.mkdir()
        async with opened(home, timeout_s=0.3, toml="\n") as (gate, market):
            market.instead[seller] = FAULTS[fault]
            agent, token = await gate.agent(RICH)
            spent = 0
            for operation in asking(seller):
                told = await gate.ask(operation, QUESTIONS[operation], token=token)
                assert told.status in (200, 502, 504), (seller, operation, told.body)
                if ASKS[operation] == (seller,):
                    assert told.status in (502, 504), (seller, operation, told.body)
                if told.status == 200:
                    spent += round(float(told.json["billing"]["charged_usd"]) * 1_000_000)
            balance = await gate.balance(agent)
            assert (balance.available, balance.held) == (RICH - spent, 0)
            assert len(market.asked(seller)) >= 1


# Who asks too much, and who must not be asked twice: F-151, F-152


@pytest.mark.parametrize("operation", QUESTIONS)
@pytest.mark.parametrize("anonymous", [False, True], ids=["balance", "x402"])
async def test_f151_in_a_storm_of_429_nothing_is_held_and_the_advice_is_passed_on(
    tmp_path: Path, operation: str, anonymous: bool
) -> None:
    """The first call finds out, at no cost; the next ones are refused before anything is held or asked."""
    async with opened(tmp_path) as (gate, market):
        for name in SELLERS:
            market.instead[name] = status(429, headers={"Retry-After": "60"})
        agent, token = await gate.agent(RICH)
        payment = await gate.sign(operation=operation)
        longest = 300 if ASKS[operation] == ("hunter",) else 60  # whose 429 is the month's quota

        async def call() -> Reply:
            if not anonymous:
                return await gate.ask(operation, QUESTIONS[operation], token=token)
            sent = {"Content-Type": "application/json", "PAYMENT-SIGNATURE": header(payment)}
            body = orjson.dumps(QUESTIONS[operation])
            return await gate.send("POST", f"/api/v1/{operation}", headers=sent, body=body)

        first = await call()
        assert (first.status, first.json["code"]) == (502, "UPSTREAM_ERROR"), first.body
        assert 1 <= int(first.headers["Retry-After"]) <= longest
        assert {view.charge.state for view in await gate.charges()} == {State.RELEASED}
        before, asked = len(await gate.charges()), market.counts()
        for _ in range(3):
            told = await call()
            assert (told.status, told.json["code"]) == (502, "UPSTREAM_ERROR"), told.body
            assert 1 <= int(told.headers["Retry-After"]) <= longest
        assert (len(await gate.charges()), market.counts()) == (before, asked)
        balance = await gate.balance(agent)
        assert (balance.available, balance.held) == (RICH, 0)
        assert gate.sandbox.balance(Payer(PAYERS[0]).address) == PREFUNDED_ATOMIC


@pytest.mark.parametrize("seller", [name for name in SELLERS if name != "site"])
@pytest.mark.parametrize("loses", ["the answer", "half of it", "its patience"])
async def test_f152_what_was_asked_and_not_answered_is_not_asked_again(tmp_path: Path, seller: str, loses: str) -> None:
    """The seller has done the work (its journal says so) and the answer is lost; as a call and as a job, counted where
    it was done. Only the free register is asked a second time, as its terms allow."""
    behaviour = {"the answer": reset(), "half of it": wrong_length(5000, b'{"results": ['), "its patience": hang()}[
        loses
    ]
    most = 2 if seller == "gleif" else 1
    for operation in asking(seller):
        for job in {False, operation in JOBBED}:
            home = tmp_path / f"{operation.replace('/', '-')}-{job}"
            home.mkdir()
            async with opened(home, timeout_s=0.3) as (gate, market):
                market.instead[seller] = behaviour
                _, token = await gate.agent(RICH)
                if job:
                    await ended(gate, await submit(gate, operation, token))
                else:
                    await gate.ask(operation, QUESTIONS[operation], token=token)
                asked = Counter((seen.method, seen.target, seen.body) for seen in market.asked(seller))
                assert asked, "it was asked"
                assert max(asked.values()) == most, (operation, job, asked)


# What stays: F-173, F-176


async def test_f173_of_what_was_bought_nothing_is_left_when_its_time_is_over(tmp_path: Path) -> None:
    """Answers, those given again, jobs, their raw hops and sessions: in rows, free pages, the log written ahead."""
    clock = Clock()
    async with opened(tmp_path, clock=clock, toml="\n[cache]\nttl_hours = 168\n") as (gate, _):
        _, token = await gate.agent(RICH)
        for operation, question in QUESTIONS.items():
            assert (await gate.ask(operation, question, token=token)).json["matched"] is True
        for operation in JOBBED:
            assert (await ended(gate, await submit(gate, operation, token)))["matched"] is True
        payment = await gate.sign(operation="enrich/person")
        sent = {"Content-Type": "application/json", "PAYMENT-SIGNATURE": header(payment)}
        body = orjson.dumps(QUESTIONS["enrich/person"])
        assert (await gate.send("POST", "/api/v1/enrich/person", headers=sent, body=body)).json["matched"] is True
        assert left_in(tmp_path) != []
        clock.now += outbox.KEPT_MS / 1000 + DAY_S
        await gate.gateway.recovery.once()
        await gate.gateway.db.write(outbox.forget)

        async def gone() -> bool:
            return left_in(tmp_path) == []  # the writer has been idle

        await eventually(gone)


async def test_f176_sessions_and_jobs_of_research_are_their_agents_alone(tmp_path: Path) -> None:
    """Every operation of the OpenAPI that goes on with something earlier, sync and as a job; and every job by its id.
    Nobody else hears that it is there, and nothing is bought on the way."""
    async with opened(tmp_path, toml="\n[cache]\nttl_hours = 168\n") as (gate, market):
        _, mine = await gate.agent(RICH)
        yours_id, yours = await gate.agent(RICH)
        key = await gate.usage_key(mine, "enrich:*", "jobs")
        question = QUESTIONS["enrich/lead-session"]
        session = (await gate.ask("enrich/lead-session", question, token=mine)).json["data"]["chat_session_id"]
        jobs = [await submit(gate, operation, mine) for operation in JOBBED]
        for job in jobs:
            await ended(gate, job)
        document = (await gate.send("GET", "/openapi.json")).json
        going_on = [
            path.removeprefix("/api/v1/") for path, item in document["paths"].items()
            if "chat_session_id" in str(item.get("post", {}).get("requestBody", {})) and "{" not in path
            and "x-payment-info" in item["post"] and path != JOBS
        ]  # fmt: skip
        assert going_on == ["enrich/lead-session"], "say here whose the others are"
        market.up.seen.clear()
        charges = len(await gate.charges())
        nobodys = session[:-6] + "000000"
        for operation in going_on:
            for stranger in (yours, key):
                said = []
                for id in (session, nobodys):
                    told = await gate.ask(operation, {**question, "chat_session_id": id}, token=stranger)
                    body = {"route": operation, "payload": {**question, "chat_session_id": id}, "bill_up_to_usd": "2"}
                    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {stranger}"}
                    job = await gate.send("POST", JOBS, headers=sent, body=orjson.dumps(body))
                    said.append([(each.status, each.json["code"], each.json["error"]) for each in (told, job)])
                assert said[0] == said[1], "theirs and nobody's are told alike"
                assert {each[:2] for each in said[0]} == {(404, "SESSION_NOT_FOUND")}
            payment = await gate.sign(operation=operation)
            sent = {"Content-Type": "application/json", "PAYMENT-SIGNATURE": header(payment)}
            body = orjson.dumps({**question, "chat_session_id": session})
            told = await gate.send("POST", f"/api/v1/{operation}", headers=sent, body=body)
            assert (told.status, told.json["code"]) == (404, "SESSION_NOT_FOUND")
        for job in jobs:
            for method in ("GET", "DELETE"):
                for bearer in (yours, jobs[0].json["poll_bearer"] if job is jobs[1] else jobs[1].json["poll_bearer"]):
                    sent = {"Authorization": f"Bearer {bearer}"}
                    told = await gate.send(method, job.json["poll_url"], headers=sent)
                    assert (told.status, told.json["code"]) == (404, "JOB_NOT_FOUND")
        assert market.up.seen == []
        assert len(await gate.charges()) == charges
        balance = await gate.balance(yours_id)
        assert (balance.available, balance.held) == (RICH, 0)
        own = await gate.ask("enrich/lead-session", {**question, "chat_session_id": session}, token=mine)
        assert own.status == 200
