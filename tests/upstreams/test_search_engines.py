"""Every search engine against its documented answers, its errors, and whatever else may come."""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.upstream import (
    ScriptedUpstream,
    bomb,
    drip,
    endless,
    garbage,
    hang_up,
    packed,
    reply,
    reset,
    wrong_length,
)

from gateway.core.upstream import Context
from gateway.outbound import OutboundClient
from upstreams.provider import ErrorClass, Outcome, Provider, ProviderTerms, ask
from upstreams.providers import KINDS, REGISTRIES, WEBSEARCH, Account
from upstreams.providers.search import Hit, Query, Record, Results

NAMES = ("searxng", "tavily", "brave", "exa", "serper")
KEY = "a-key-that-no-log-may-have"
QUERY = Query("Sample Window Care Tampa FL", 5)
PAGE = "https://sample-window.example/"
TERMS = ProviderTerms(cost_per_call_micros=8_000, bill_misses=True, private=True, timeout_s=0.5)

ANSWERS: dict[str, Any] = {
    "searxng": {
        "query": "q",
        "number_of_results": 0,
        "results": [
            {"url": PAGE, "title": "Sample", "content": "...", "engine": "x", "engines": ["x"], "score": 1.5},
            {"url": PAGE, "title": "again"},
            {"url": "ftp://sample.example/", "title": "no page"},
            {"title": "no address"},
            "no result",
        ],
        "answers": [],
        "infoboxes": [],
        "unresponsive_engines": [["y", "timeout"]],
    },
    "tavily": {
        "query": "q",
        "answer": None,
        "results": [{"title": "Sample", "url": PAGE, "content": "...", "score": 0.9, "raw_content": None}],
        "response_time": 1.2,
        "request_id": "r",
    },
    "brave": {
        "type": "search",
        "web": {"type": "search", "results": [{"title": "Sample", "url": PAGE, "description": "...", "profile": None}]},
        "locations": {
            "results": [
                {
                    "title": "Sample Window Care",
                    "url": PAGE,
                    "contact": {"telephone": "(813) 555-0142"},
                    "postal_address": {
                        "streetAddress": "5 Example Rd",
                        "addressLocality": "Tampa",
                        "addressRegion": "FL",
                        "postalCode": "33602",
                    },
                }
            ]
        },
    },
    "exa": {
        "requestId": "r",
        "results": [{"id": PAGE, "url": PAGE, "title": "Sample", "publishedDate": None, "author": None}],
        "costDollars": {"total": 0.005, "search": {"neural": 0.005}},
    },
    "serper": {
        "searchParameters": {"q": "q"},
        "organic": [{"title": "Sample", "link": PAGE, "snippet": "...", "position": 1}],
        "knowledgeGraph": {
            "title": "Sample Window Care",
            "website": PAGE,
            "phoneNumber": "(813) 555-0142",
            "address": "5 Example Rd, Tampa, FL 33602",
            "attributes": {},
        },
        "places": [
            {"title": "Sample Window Care", "address": "9 Sample St, Austin, TX 78701", "phoneNumber": "512-555-0160"}
        ],
    },
}
EMPTY: dict[str, Any] = {
    "searxng": {"results": []},
    "tavily": {"results": []},
    "brave": {"type": "search", "query": {}},
    "exa": {"results": []},
    "serper": {"searchParameters": {}, "organic": []},
}
ADDRESS = "5 Example Rd, Tampa, FL 33602"
RECORDS = {
    "brave": (Record("Sample Window Care", "(813) 555-0142", "5 Example Rd, Tampa, FL 33602", PAGE),),
    "serper": (
        Record("Sample Window Care", "(813) 555-0142", ADDRESS, PAGE),
        Record("Sample Window Care", "512-555-0160", "9 Sample St, Austin, TX 78701"),
    ),
}


def engine(name: str, url: str = "https://engine.example", key: str = KEY) -> Provider[Query, Results]:
    return KINDS[name].build(Account(key="" if name == "searxng" else key), TERMS, {"url": url})


def read(name: str, answer: Any, code: int = 200, headers: Mapping[str, str] = {}) -> Any:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    return engine(name).read(QUERY, code, headers, body)


def test_every_engine_is_here() -> None:
    assert set(NAMES) == {name for name, kind in KINDS.items() if WEBSEARCH in kind.serves} - REGISTRIES


@pytest.mark.parametrize("name", NAMES)
def test_a_documented_answer_is_read(name: str) -> None:
    reply = read(name, ANSWERS[name])
    assert reply.outcome is Outcome.MATCH
    assert reply.found.hits == (Hit(PAGE, "Sample"),)
    assert reply.found.records == RECORDS.get(name, ())
    assert reply.cost_micros == (5_000 if name == "exa" else None)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_found_is_no_match(name: str) -> None:
    reply = read(name, EMPTY[name])
    assert (reply.outcome, reply.error) == (Outcome.NO_MATCH, None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, ErrorClass.REFUSED),
        (401, ErrorClass.AUTH),
        (402, ErrorClass.QUOTA),
        (403, ErrorClass.AUTH),
        (422, ErrorClass.REFUSED),
        (429, ErrorClass.RATE),
        (432, ErrorClass.QUOTA),
        (433, ErrorClass.QUOTA),
        (500, ErrorClass.TRANSIENT),
        (302, ErrorClass.SHAPE),
    ],
)
def test_a_status_is_what_it_means(name: str, code: int, error: ErrorClass) -> None:
    reply = read(name, {"detail": "no"}, code)
    assert (reply.outcome, reply.error) == (Outcome.FAILED, error)


def test_what_an_engine_has_of_its_own() -> None:
    """Serper's and Tavily's empty accounts, Tavily's advice in the body, Brave's pairs, Exa's odd costs."""
    assert read("serper", {"message": "Not enough credits"}, 400).error is ErrorClass.QUOTA
    assert read("tavily", {"detail": {"error": "exceeds your plan's usage limit"}}, 403).error is ErrorClass.QUOTA
    keyless = {"error": {"code": "rate_limited", "message": "slow down", "window": "1m", "retry_after_seconds": 17.5}}
    assert read("tavily", keyless, 429).retry_after_s == 17
    assert read("tavily", {"error": {"retry_after_seconds": "soon"}}, 429).retry_after_s is None
    limits = {"x-ratelimit-remaining": "0, 14523", "x-ratelimit-limit": "1, 15000"}
    quota = read("brave", ANSWERS["brave"], headers=limits).quota
    assert (quota.remaining, quota.limit) == (14_523, 15_000)
    assert read("brave", {}, 429, limits).quota == quota
    assert read("brave", ANSWERS["brave"], headers={"x-ratelimit-remaining": "many"}).quota is None
    for odd in (-1, "free", True, 1e400, None):
        assert (
            read("exa", {"results": [], "costDollars": {"total": odd if odd != 1e400 else "1e400"}}).cost_micros is None
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["results", "web", "locations", "organic", "knowledgeGraph", "places", "url", "link", "title",
                 "contact", "postal_address", "attributes", "costDollars", "total", "error", "phoneNumber",
                 "address", "website"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.sampled_from(NAMES), st.sampled_from([200, 400, 403, 429]), JSON)
def test_no_json_makes_an_engine_raise(name: str, code: int, answer: Any) -> None:
    reply = read(name, answer, code, {"x-ratelimit-remaining": "1"})
    assert reply.outcome is not Outcome.SKIPPED
    if reply.outcome is Outcome.MATCH:
        assert reply.found.hits or reply.found.records


@given(st.sampled_from(NAMES), st.binary(max_size=200))
def test_no_bytes_make_an_engine_raise(name: str, body: bytes) -> None:
    assert read(name, body).outcome in (Outcome.FAILED, Outcome.NO_MATCH, Outcome.MATCH)


def test_what_is_sent_is_what_is_documented() -> None:
    for name in NAMES:
        request = engine(name).asks(QUERY)
        assert request is not None
        assert KEY not in request.url
        assert KEY not in repr(request)
        assert KEY not in repr(engine(name))
        headers = {key.lower(): value for key, value in request.headers.items()}
        asked = orjson.loads(request.body) if request.body else dict(parse_qs(urlsplit(request.url).query))
        match name:
            case "searxng":
                assert (request.method, asked["format"], asked["q"]) == ("GET", ["json"], [QUERY.text])
            case "tavily":
                assert headers["authorization"] == f"Bearer {KEY}"
                assert (asked["query"], asked["max_results"]) == (QUERY.text, 5)
            case "brave":
                assert (headers["x-subscription-token"], asked["count"]) == (KEY, ["5"])
            case "exa":
                assert (headers["x-api-key"], asked["numResults"]) == (KEY, 5)
            case "serper":
                assert (headers["x-api-key"], asked["q"]) == (KEY, QUERY.text)
    keyless = engine("tavily", key="").asks(QUERY)
    assert keyless is not None
    assert keyless.headers["X-Tavily-Access-Mode"] == "keyless"
    assert "Authorization" not in keyless.headers


# Over the wire


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as up:
        yield up


def context(http: OutboundClient) -> Context:
    return Context(http=http, now=lambda: 1_000.0, deadline_s=1_010.0, budget_micros=1_000_000)


@pytest.mark.parametrize("name", NAMES)
async def test_trouble_on_the_wire_is_a_failure_of_this_one_engine(up: ScriptedUpstream, name: str) -> None:
    """F-149: garbage, broken, endless and dripping answers, and bombs, end it within its time and size."""
    troubles = [garbage(), hang_up(), reset(), wrong_length(500, b"{}"), endless(), bomb(64 * 1024 * 1024),
                drip(b'{"results": []}' * 20, every_s=0.2), reply(body=b"<html>"), reply(body=b"[]"),
                reply(body=b"")]  # fmt: skip
    async with OutboundClient() as http:
        for trouble in troubles:
            up.default = trouble
            tried = await ask(engine(name, up.url().rstrip("/")), QUERY, context(http), hop="search")
            assert tried.outcome is Outcome.FAILED
            assert tried.found is None
            assert tried.call.cost_micros in (0, TERMS.most_micros)


@pytest.mark.parametrize("name", NAMES[1:])
async def test_f143_an_engine_that_tells_our_key_is_not_heard(up: ScriptedUpstream, name: str) -> None:
    up.default = packed({**ANSWERS[name], "you_sent": KEY})
    async with OutboundClient() as http:
        tried = await ask(engine(name, up.url().rstrip("/")), QUERY, context(http), hop="search")
    assert (tried.outcome, tried.call.error) == (Outcome.FAILED, ErrorClass.SHAPE)


@pytest.mark.parametrize("name", NAMES)
async def test_a_search_over_the_wire(up: ScriptedUpstream, name: str) -> None:
    up.default = reply(ANSWERS[name])
    async with OutboundClient() as http:
        tried = await ask(engine(name, up.url().rstrip("/")), QUERY, context(http), hop="search")
    assert tried.found is not None
    assert tried.found.hits == (Hit(PAGE, "Sample"),)
    assert tried.call.cost_micros == (5_000 if name == "exa" else 8_000)
