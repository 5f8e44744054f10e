"""An HTTP API sold from a table: what goes to the vendor, what comes of his answer, and what never gets through.

Everything runs over real sockets, through the guarded client, against a scriptable vendor with a journal.
"""

import asyncio
import base64
import textwrap
import tomllib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import jsonschema
import orjson
import pytest
import structlog
from pydantic import ValidationError
from rigs.upstream import (
    Behaviour,
    ScriptedUpstream,
    bomb,
    cookie,
    drip,
    echo,
    endless,
    garbage,
    hang,
    hang_up,
    packed,
    raw,
    redirect,
    reply,
    reset,
    status,
    wrong_length,
)

import upstreams.http_api
from gateway.core.catalogue import Price
from gateway.core.errors import SettingsError
from gateway.core.upstream import Context, Failure, Match, NoMatch, Outcome
from gateway.outbound import OutboundClient
from upstreams.breaker import REST_MAX_S, Breaker
from upstreams.http_api import HttpApi, HttpUpstream, mistakes, read
from upstreams.http_api.answers import retry_after_s

SECRET = 'sk-canary-5f0c/+?%"\\ä9'
KEY = "sk_live_canary_7d21f0"
START = 1_790_000_000.0


def table(up: ScriptedUpstream | None = None, **changes: Any) -> dict[str, Any]:
    """A table that is right, with changes; a change to None takes the setting out."""
    base = {
        "id": "people/find",
        "url": up.url("/find") if up else "https://api.example.com/find",
        "price": "0.010",
        "input": {"name": {"type": "string", "example": "Ada Example"}},
        "private": up is not None,
        "timeout_s": 2.0,
        **changes,
    }
    return {key: value for key, value in base.items() if value is not None}


@dataclass
class Shop:
    """One API on sale, a vendor behind it, a clock that only the test moves."""

    up: ScriptedUpstream
    client: OutboundClient
    now: float = START
    api: HttpApi = field(default_factory=HttpApi)

    def sell(self, **changes: Any) -> "Shop":
        self.api = HttpApi(read([table(self.up, **changes)]))
        return self

    async def buy(self, left_s: float = 10.0, **query: Any) -> Outcome:
        offering = self.api.offerings()[0]
        context = Context(http=self.client, now=lambda: self.now, deadline_s=self.now + left_s, budget_micros=10_000)
        model = offering.operation.input.model_validate(query or {"name": "Ada Example"})
        return await offering.fulfil(model, context)

    async def answers(self, behaviour: Behaviour, **query: Any) -> Outcome:
        self.up.on("/find", behaviour)
        return await self.buy(**query)

    @property
    def rest_s(self) -> int | None:
        return self.api.available("people/find", self.now)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with ScriptedUpstream() as up, OutboundClient() as client:
        yield Shop(up, client).sell()


# What goes to the vendor


async def test_a_get_sends_its_inputs_as_a_query(shop: Shop) -> None:
    shop.sell(input={"name": "string", "age": "integer", "near": {"type": "string", "required": False}}, example={
        "name": "Ada", "age": 1})  # fmt: skip
    assert await shop.buy(name="Ada & Co?/x", age=36) == Match({"found": True})
    assert shop.up.seen[0].target == "/find?name=Ada%20%26%20Co%3F%2Fx&age=36"
    assert shop.up.seen[0].body == b""


async def test_path_and_query_templates(shop: Shop) -> None:
    shop.sell(
        url=shop.up.url("/v1/people/{id}/phones?fields=all&page={page}"),
        query={"q": "name:{name}", "exact": True, "limit": 10, "near": "{near}", "brace": "{{x}}"},
        input={
            "id": "integer",
            "name": "string",
            "page": {"type": "integer", "default": 1},
            "near": {"type": "string", "required": False},
        },
        example={"id": 1, "name": "Ada"},
    )
    shop.up.default = reply({"found": True})
    await shop.buy(id=7, name="Ada Lo")
    await shop.buy(id=8, name="x", page=2, near="Ulm")
    assert [seen.target for seen in shop.up.seen] == [
        "/v1/people/7/phones?fields=all&page=1&q=name%3AAda%20Lo&exact=true&limit=10&brace=%7Bx%7D",
        "/v1/people/8/phones?fields=all&page=2&q=name%3Ax&exact=true&limit=10&near=Ulm&brace=%7Bx%7D",
    ]


async def test_a_post_sends_its_input_as_json(shop: Shop) -> None:
    shop.sell(method="POST", input={"name": "string", "tags": {"type": "array"}}, example={"name": "x", "tags": []})
    await shop.buy(name="Ada", tags=["a", 1, None])
    assert orjson.loads(shop.up.seen[0].body) == {"name": "Ada", "tags": ["a", 1, None]}
    assert shop.up.seen[0].header("content-type") == "application/json"


async def test_a_body_template_puts_in_values_with_their_types(shop: Shop) -> None:
    shop.sell(
        method="POST",
        url=shop.up.url("/find?lang={lang}"),
        body={
            "filter": {"name": "{name}", "min_age": "{age}", "near": "{near}"},
            "prompt": "Find {name}, {age}, in {{braces}}",
            "also": "Near {near}",
            "list": ["{age}", "fixed", {"ok": "{ok}"}],
            "limit": 5,
        },
        input={
            "name": "string",
            "age": "integer",
            "ok": {"type": "boolean", "default": False},
            "near": {"type": "string", "required": False},
            "lang": {"type": "string", "enum": ["en", "de"], "default": "en"},
        },
        example={"name": "Ada", "age": 3},
    )
    await shop.buy(name='"}, "admin": {"x": "', age=36)
    assert shop.up.seen[0].target == "/find?lang=en"
    assert orjson.loads(shop.up.seen[0].body) == {
        "filter": {"name": '"}, "admin": {"x": "', "min_age": 36},
        "prompt": 'Find "}, "admin": {"x": ", 36, in {braces}',
        "list": [36, "fixed", {"ok": False}],
        "limit": 5,
    }


HOSTILE = [
    "..", ".", "../admin", "..%2fadmin", "%2e%2e", "a/../../b", "a\\b", "?x=1", "#frag", "&admin=true", "=", "a&b=c",
    ";x", "@evil", "//evil.example.com", "\r\nHost: evil.example.com", "\x00", "%00", "%0d%0a",
    "http://evil.example.com/", "ä€😀", "+", " ",
    "{name}", "${HOME}", "a" * 2000,
]  # fmt: skip


async def test_no_input_changes_where_a_call_goes(shop: Shop) -> None:
    """In a query every value stays one value; in a path it stays one segment, or is refused before any charge."""
    shop.sell(url=shop.up.url("/v1/people?admin=false"), query={"name": "{name}"})
    for value in HOSTILE:
        await shop.buy(name=value)
        path, _, query = shop.up.seen[-1].target.partition("?")
        assert path == "/v1/people"
        assert query.count("&") == 1
        assert query.startswith("admin=false&name=")
        assert shop.up.seen[-1].header("host") == f"127.0.0.1:{shop.up.port}"

    shop.sell(url=shop.up.url("/v1/people/{name}/phones"))
    shop.up.seen.clear()
    refused = 0
    for value in HOSTILE:
        try:
            await shop.buy(name=value)
        except ValidationError:
            refused += 1
    for seen in shop.up.seen:
        prefix, _, rest = seen.target.partition("/v1/people/")
        segment, *behind = rest.split("/")
        assert (prefix, behind) == ("", ["phones"])
        assert not set(segment) & set("?#&@;\\")
    assert len(shop.up.seen) == len(HOSTILE) - refused
    assert refused >= 12


@pytest.mark.parametrize("value", ["..", ".", "", "../x", "a/b", "a\\b", "%2e%2e%2f", "a\nb", "\x7f"])
def test_a_path_segment_that_a_server_could_read_as_more_is_refused(value: str) -> None:
    (upstream,) = read([table(url="https://api.example.com/v1/{name}")])
    with pytest.raises(ValidationError):
        upstream.model.model_validate({"name": value})


async def test_f145_the_vendor_gets_the_allowed_headers_and_no_others(shop: Shop) -> None:
    shop.sell(headers={"Authorization": f"Bearer {KEY}", "X-Tenant": "acme"})
    await shop.buy()
    shop.sell(headers={"Authorization": f"Bearer {KEY}", "X-Tenant": "acme"}, method="POST")
    await shop.buy()
    get, post = shop.up.seen
    assert get.names == {"host", "user-agent", "accept", "accept-encoding", "authorization", "x-tenant"}
    assert post.names == get.names | {"content-type", "content-length"}
    assert get.header("authorization") == f"Bearer {KEY}"


# What comes of an answer: F-019, F-020, F-028

MATCHES, MISSES = (200, 201, 203), (204, 205, 404)
FAILS = (202, 206, 207, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403, 405, 407, 408, 409, 410, 418,
         422, 429, 451, 500, 501, 502, 503, 504, 511, 599)  # fmt: skip


async def test_f028_every_status_has_its_rule(shop: Shop) -> None:
    """The declared table. `Location` and the bodies of failures go nowhere."""
    canary = {"Location": "https://cdn.example.com/canary-goods", "X-Data-Date": "today"}
    for code in (*MATCHES, *MISSES, *FAILS):
        shop.sell(cost="0.002", response_headers=["X-Data-Date"])
        shop.up.seen.clear()
        outcome = await shop.answers(status(code, headers=canary, value={"name": "canary-goods"}))
        assert "cdn.example.com" not in repr(outcome)
        match outcome:
            case Match(data=data, headers=headers):
                assert code in MATCHES
                assert (data, headers) == ({"name": "canary-goods"}, {"x-data-date": "today"})
            case NoMatch(data=data):
                assert code in MISSES
                assert data is None
            case Failure(message=message):
                assert code in FAILS
                assert "canary" not in message
        assert len(shop.up.seen) == 1


async def test_f028_an_interim_answer_is_skipped_and_a_switch_of_protocols_is_none(shop: Shop) -> None:
    final = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"ok": 1}'
    assert await shop.answers(raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + final)) == Match({"ok": 1})
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    assert isinstance(await shop.answers(raw(switch)), Failure)


async def test_statuses_are_the_operators_to_choose(shop: Shop) -> None:
    shop.sell(match_statuses=[200, 422], miss_statuses=[410, 204])
    assert isinstance(await shop.answers(status(422)), Match)
    assert isinstance(await shop.answers(status(410)), NoMatch)
    assert isinstance(await shop.answers(status(404)), Failure)


GOLDEN = [
    # (the vendor's body, checks of match, checks of failure, outcome)
    ({"name": "Ada"}, None, None, Match),
    ({}, None, None, NoMatch),
    ([], None, None, NoMatch),
    (None, None, None, NoMatch),
    ("", None, None, NoMatch),
    (0, None, None, Match),
    (False, None, None, Match),
    ({"results": []}, {"pointer": "/results"}, None, NoMatch),
    ({"results": [{"name": "Ada"}]}, {"pointer": "/results/0/name"}, None, Match),
    ({"results": {}}, {"pointer": "/results/0"}, None, NoMatch),
    ({"results": [1]}, {"pointer": "/results/-"}, None, NoMatch),
    ({"a/b": {"c~d": 1}}, {"pointer": "/a~1b/c~0d"}, None, Match),
    ({"person": None}, {"pointer": "/person", "exists": True}, None, Match),
    ({"person": None}, {"pointer": "/person"}, None, NoMatch),
    ({"person": {}}, {"pointer": "/person", "non_empty": True}, None, NoMatch),
    ({"error": None}, {"pointer": "/error", "exists": False}, None, NoMatch),
    ({"x": 1}, {"pointer": "/error", "exists": False}, None, Match),
    ({"status": 200}, {"pointer": "/status", "equals": 200}, None, Match),
    ({"status": 404, "data": {}}, {"pointer": "/status", "equals": 200}, None, NoMatch),
    ({"matched": True}, {"pointer": "/matched", "equals": True}, None, Match),
    ({"matched": 1}, {"pointer": "/matched", "equals": True}, None, NoMatch),
    ({"matched": "true"}, {"pointer": "/matched", "equals": True}, None, NoMatch),
    ({"likelihood": 8}, {"pointer": "/likelihood", "at_least": 6}, None, Match),
    ({"likelihood": 5.9}, {"pointer": "/likelihood", "at_least": 6}, None, NoMatch),
    ({"likelihood": None}, {"pointer": "/likelihood", "at_least": 6}, None, NoMatch),
    ({}, {"pointer": "/likelihood", "at_least": 6}, None, NoMatch),
    ({"likelihood": "8"}, {"pointer": "/likelihood", "at_least": 6}, None, Failure),
    ({"likelihood": True}, {"pointer": "/likelihood", "at_least": 0}, None, Failure),
    ({"n": "Ada", "score": 9}, [{"pointer": "/n"}, {"pointer": "/score", "at_least": 5}], None, Match),
    ({"n": "Ada", "score": 3}, [{"pointer": "/n"}, {"pointer": "/score", "at_least": 5}], None, NoMatch),
    ({"error": "quota"}, None, {"pointer": "/error"}, Failure),
    ({"ok": False, "data": 1}, None, [{"pointer": "/ok", "equals": False}], Failure),
    ({"name": "Ada", "error": ""}, None, {"pointer": "/error"}, Match),
]


async def test_f020_a_200_is_what_the_declared_rule_says(shop: Shop) -> None:
    for body, match, failure, expected in GOLDEN:
        shop.sell(match=match, failure=failure)
        assert type(await shop.answers(reply(body))) is expected, (body, match, failure)


BODIES = [
    (b'{"n": NaN}', Failure), (b'{"n": Infinity}', Failure), (b'{"n": 1e999}', Failure), (b"", Failure),
    (b"{", Failure),
    (b"<html>Service unavailable</html>", Failure), (b'{"n": 1} trailing', Failure), (b'{"n": \xff}', Failure),
    (b'{"name": "\xe4"}', Failure), ('{"name": "ä"}'.encode("utf-16"), Failure), (b'\xef\xbb\xbf{"n": 1}', Match),
    (b'{"n": 18446744073709551615}', Match), (b'{"n": 18446744073709551616}', Failure),
    (b'{"n": -9223372036854775808}', Match), (b'{"n": -9223372036854775809}', Failure),
    (b'{"n": ' + b"9" * 5000 + b"}", Failure), (b'{"id": "12345678901234567890123456789"}', Match),
    (b"[" * 200 + b"1" + b"]" * 200, Match), (b"[" * 201 + b"1" + b"]" * 201, Failure),
    (b'{"a":' * 500 + b"1" + b"}" * 500, Failure), (b"[" * 50_000, Failure), (b"[" * 50_000 + b"]" * 50_000, Failure),
    (orjson.dumps([{"a": [number]} for number in range(1000)]), Match), (b'{"s": "[[[["}', Match),
]  # fmt: skip


async def test_a_body_that_others_could_not_read_is_no_answer(shop: Shop) -> None:
    for body, expected in BODIES:
        outcome = await shop.sell().answers(reply(body=body))
        assert type(outcome) is expected, body[:40]
        if isinstance(outcome, Match):
            assert orjson.loads(orjson.dumps([outcome.data])) == [orjson.loads(body.lstrip(b"\xef\xbb\xbf"))]


async def test_text_is_relayed_as_text_where_the_table_says_so(shop: Shop) -> None:
    shop.sell(response="text")
    assert await shop.answers(reply(body="Grüße".encode(), content_type="text/plain")) == Match("Grüße")
    assert isinstance(await shop.answers(reply(body=b"", content_type="text/plain")), NoMatch)
    assert isinstance(await shop.answers(reply(body=b"\xff\xfe")), Failure)


FAULTS: Mapping[str, tuple[Behaviour, bool, int]] = {
    # name: (what the vendor does, whether it is a timeout, what it may have cost)
    "400": (status(400), False, 0),
    "401": (status(401), False, 0),
    "500": (status(500), False, 0),
    "503": (status(503), False, 0),
    "reset": (reset(), False, 2000),
    "hang up": (hang_up(), False, 2000),
    "hang": (hang(), True, 2000),
    "drip": (drip(b" " * 500), True, 2000),
    "garbage": (garbage(), False, 2000),
    "too short": (wrong_length(500, b"{"), False, 2000),
    "no JSON": (reply(body=b"<html>"), False, 2000),
    "bomb": (bomb(32 * 1024 * 1024), False, 2000),
    "endless": (endless(), False, 2000),
    "202": (status(202), False, 2000),
    "redirect": (redirect("https://example.com/"), False, 0),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_f019_f149_a_fault_is_a_failure_asked_for_once_and_never_billed(
    shop: Shop, fault: str, method: str
) -> None:
    """The outcome that releases the hold. What the vendor may have taken is counted for the books, once (F-152)."""
    behaviour, timeout, cost = FAULTS[fault]
    shop.sell(method=method, cost="0.002", timeout_s=0.1, response_bytes_max=100_000)
    outcome = await shop.answers(behaviour)
    assert isinstance(outcome, Failure)
    assert (outcome.timeout, outcome.cost_micros) == (timeout, cost)
    assert len(shop.up.seen) == 1


async def test_a_vendor_who_is_not_there_costs_nothing(shop: Shop) -> None:
    shop.sell(cost="0.002")
    async with ScriptedUpstream() as gone:
        url = gone.url("/find")
    shop.sell(url=url, cost="0.002")
    assert await shop.buy() == Failure("the upstream could not be reached")


async def test_the_vendor_gets_no_more_time_than_the_call_has(shop: Shop) -> None:
    shop.sell(timeout_s=60)
    shop.up.on("/find", hang())
    async with asyncio.timeout(2):
        outcome = await shop.buy(left_s=0.1)
    assert isinstance(outcome, Failure)
    assert outcome.timeout


async def test_costs_are_counted_for_matches_and_misses(shop: Shop) -> None:
    shop.sell(cost="0.002")
    assert (await shop.answers(reply({"x": 1}))).cost_micros == 2000
    assert (await shop.answers(status(404))).cost_micros == 2000


METERED = {"billing": "metered", "ceiling": "1.50", "cost_pointer": "/usage/usd"}


async def test_a_metered_api_is_billed_by_what_its_answer_says_it_took(shop: Shop) -> None:
    shop.sell(**METERED, cost="0.003", job=True)
    (operation,) = (offering.operation for offering in shop.api.offerings())
    assert operation.price == Price(10_000, metered=True, markup_percent=130, ceiling_micros=1_500_000)
    assert operation.job
    for said, micros in ((0.25, 250_000), ("0.1", 100_000), (1, 1_000_000), (0.0000001, 1), (0, 0), (None, 3_000)):
        outcome = await shop.answers(reply({"x": 1, "usage": {"usd": said}}))
        assert (type(outcome), outcome.cost_micros) == (Match, micros), said
    assert (await shop.answers(reply({"x": 1}))).cost_micros == 3_000
    assert (await shop.answers(status(404))).cost_micros == 3_000


@pytest.mark.parametrize("said", [-0.01, "free", True, [1], {"usd": 1}, "NaN", "Infinity", 1e300])
async def test_a_cost_that_is_no_money_is_no_answer(shop: Shop, said: Any) -> None:
    shop.sell(**METERED)
    assert isinstance(await shop.answers(reply({"x": 1, "usage": {"usd": said}})), Failure)


# Secrets: F-143, F-169, F-172

WAYS_TO_HOLD = {
    "bearer": {"headers": {"Authorization": f"Bearer {KEY}"}},
    "key header": {"headers": {"X-Api-Key": KEY}},
    "basic": {"headers": {"Authorization": f"Basic {base64.b64encode(f'acme:{KEY}'.encode()).decode()}"}},
    "query": {"query": {"api_key": KEY, "name": "{name}"}},
    "url": {"query": {"name": "{name}"}, "url": f"/find?token={KEY}"},
    "path, listed": {"query": {"name": "{name}"}, "url": f"/{KEY}/find", "secrets": [KEY]},
    "body, listed": {"method": "POST", "body": {"auth": KEY, "name": "{name}"}, "secrets": [KEY]},
}
FORMS = ["plain", "base64", "base64url", "url", "url-every-byte", "hex", "gzip", "escaped", "header"]


@pytest.mark.parametrize("way", WAYS_TO_HOLD)
async def test_f143_an_answer_that_gives_a_secret_away_is_blocked(shop: Shop, way: str) -> None:
    settings = dict(WAYS_TO_HOLD[way])
    if "url" in settings:
        settings["url"] = shop.up.url(str(settings["url"]))
    for form in FORMS:
        shop.sell(response_headers=["X-Seen"], **settings)
        shop.up.default = echo(form)
        with structlog.testing.capture_logs() as logs:
            outcome = await shop.buy()
        assert outcome == Failure("the upstream's answer could not be used"), form
        assert [(line["event"], line["log_level"], line["operation"]) for line in logs] == [
            ("http_upstream_gives_a_secret_away", "error", "people/find"),
            ("http_upstream_unusable", "warning", "people/find"),
        ]
        assert KEY not in repr(logs)


async def test_f143_a_secret_with_odd_characters_is_found_too(shop: Shop) -> None:
    """Quotes, backslashes, percent signs and bytes beyond ASCII, in every form."""
    for form in FORMS[:-1]:
        shop.sell(method="POST", body={"key": SECRET, "name": "{name}"}, secrets=[SECRET])
        assert isinstance(await shop.answers(echo(form)), Failure), form


@pytest.mark.parametrize("code", [302, 404, 400, 401, 500])
async def test_f143_what_a_failure_says_is_ours_alone(shop: Shop, code: int) -> None:
    shop.sell(headers={"Authorization": f"Bearer {KEY}"})
    with structlog.testing.capture_logs() as logs:
        outcome = await shop.answers(echo(code=code))
    assert not isinstance(outcome, Match)
    for told in (repr(outcome), repr(logs)):
        assert KEY not in told
        assert "127.0.0.1" not in told
        assert "Ada Example" not in told


async def test_f143_an_innocent_answer_passes(shop: Shop) -> None:
    """Nor does a header that only describes the request make its words unspeakable."""
    shop.sell(headers={"Authorization": f"Bearer {KEY}", "Accept": "application/json", "X-Tenant": "acme"})
    body = {"content_type": "application/json", "tenant": "acme", "100%": "Bearer of news \\o/", "half": KEY[:10]}
    assert await shop.answers(packed(body)) == Match(body)


def test_f169_f172_nothing_public_knows_the_vendor_and_no_repr_a_secret() -> None:
    held = table(
        url=f"https://canary-vendor.example.net/{{name}}?token={KEY}",
        headers={"X-Canary-Header": f"Bearer {KEY}"},
        query={"canary_param": KEY},
        secrets=[KEY],
        method="POST",
        body={"canary_member": KEY, "n": "{name}"},
        example_output={"age": 36},
    )
    (upstream,) = read([held])
    operation = HttpApi([upstream]).offerings()[0].operation
    public = repr(operation) + repr(operation.input.model_json_schema()) + repr(upstream)
    with pytest.raises(ValidationError) as caught:
        operation.input.model_validate({"name": "..", "x": 1})
    public += str(caught.value)
    for canary in ("canary", "example.net", KEY, "token"):
        assert canary not in public, canary


@pytest.mark.parametrize("field", ["summary", "description", "tags", "example_output", "input", "output"])
def test_f169_the_operator_is_told_when_a_public_text_names_the_vendor_or_a_secret(field: str) -> None:
    for text in ("Data by API.example.com", f"use {KEY}"):
        value: Any = {
            "tags": [text],
            "example_output": {"source": text},
            "output": {"type": "object", "description": text},
            "input": {"name": {"type": "string", "description": text, "example": "Ada"}},
        }.get(field, text)
        found = mistakes([table(headers={"X-Key": KEY}, **{field: value})])
        assert len(found) == 1
        assert f"{field}: " in found[0]
        assert KEY not in found[0]


def test_no_mistake_shows_a_value_that_may_be_secret() -> None:
    wrong = table(
        url=f"nonsense {KEY}", headers={"X-A": f"{KEY}\n", KEY: "x y"}, query={"k": {"x": KEY}}, secrets=KEY, price=KEY,
        body={"x": KEY},
    )  # fmt: skip
    found = mistakes([wrong])
    assert len(found) >= 4
    assert KEY not in "".join(line for line in found if ", headers:" not in line), found


# What is passed on: F-147


async def test_f147_a_vendors_headers_do_not_speak_for_us(shop: Shop) -> None:
    shop.sell(response_headers=["X-Data-Date", "X-Long", "X-Odd", "X-Absent"])
    sent = {
        "Set-Cookie": "session=1", "PAYMENT-RESPONSE": "e30=", "PAYMENT-REQUIRED": "e30=", "X-PAYMENT-RESPONSE": "e30=",
        "Access-Control-Allow-Origin": "*", "Content-Security-Policy": "default-src *", "Cache-Control": "public",
        "Server": "vendor", "Location": "https://example.com/", "X-Charge-Token": "411c_x", "X-Data-Date": "2026-01-01",
        "X-Long": "x" * 2000, "X-Odd": "\xe4", "X-Other": "1", "Strict-Transport-Security": "max-age=1",
    }  # fmt: skip
    outcome = await shop.answers(reply({"found": True}, headers=sent))
    assert outcome == Match({"found": True}, headers={"x-data-date": "2026-01-01"})


OURS = """
    Set-Cookie Set-Cookie2 PAYMENT-REQUIRED PAYMENT-RESPONSE payment-signature X-PAYMENT X-PAYMENT-RESPONSE X-Charge-Id
    X-Charge-Token Idempotent-Replay X-Request-Id WWW-Authenticate Authorization Proxy-Authenticate Location Refresh
    Link Access-Control-Allow-Origin Access-Control-Expose-Headers Content-Security-Policy Content-Type Content-Length
    Content-Encoding Content-Disposition Cache-Control Expires Vary Age Server Via Date Connection Transfer-Encoding
    Upgrade Strict-Transport-Security X-Frame-Options X-Content-Type-Options Clear-Site-Data Alt-Svc Retry-After
    Service-Worker-Allowed X-Accel-Redirect X-Sendfile X-Powered-By Report-To Reporting-Endpoints NEL Trailer Keep-Alive
"""


def test_f147_a_header_that_is_ours_cannot_be_allowed() -> None:
    for name in OURS.split():
        (found,) = mistakes([table(response_headers=[name])])
        assert f"response_headers: {name} would speak for this gateway" in found


# Others' troubles: F-150, F-151, F-152, F-153


async def test_f150_a_redirect_takes_no_secret_anywhere(shop: Shop) -> None:
    shop.sell(headers={"Authorization": f"Bearer {KEY}"})
    async with ScriptedUpstream() as elsewhere:
        for code in (301, 302, 303, 307, 308):
            assert isinstance(await shop.answers(redirect(elsewhere.url("/find"), code)), Failure)
        assert elsewhere.connections == 0


async def test_f151_a_vendor_who_asks_for_a_rest_gets_it_before_anything_is_held(shop: Shop) -> None:
    """429 for a minute: one call finds out, the others are told beforehand when to come back; a probe ends it."""
    shop.up.on("/find", status(429, headers={"Retry-After": "30"}), reply({"found": True}))
    assert shop.rest_s is None
    assert await shop.buy() == Failure("the upstream is busy", retry_after_s=30)
    assert shop.rest_s == 30
    shop.now += 12.5
    assert shop.rest_s == 18
    refused = await asyncio.gather(*(shop.buy() for _ in range(50)))
    assert set(refused) == {Failure("the upstream is resting after failures", retry_after_s=18)}
    assert len(shop.up.seen) == 1, "a call that was held already does not reach the vendor either"
    shop.now += 18
    assert shop.rest_s is None
    assert isinstance(await shop.buy(), Match)
    assert isinstance(await shop.buy(), Match)
    assert shop.api.available("somebody/else", shop.now) is None


async def test_f151_an_outage_opens_the_breaker_and_one_probe_closes_it(shop: Shop) -> None:
    shop.up.on("/find", *[status(500)] * 4, reply({"found": True}), *[status(502)] * 6, reply({"found": True}))
    for _ in range(4):
        assert isinstance(await shop.buy(), Failure)
    assert shop.rest_s is None, "four failures are bad luck"
    assert isinstance(await shop.buy(), Match)
    for _ in range(5):
        await shop.buy()
    assert shop.rest_s == 2
    shop.now += 2
    assert isinstance(await shop.buy(), Failure), "the probe"
    assert shop.rest_s == 4, "and twice the rest"
    shop.now += 4
    probe, *others = await asyncio.gather(*(shop.buy() for _ in range(10)))
    assert isinstance(probe, Match)
    assert all(isinstance(other, Failure) for other in others), "one probe at a time"
    assert shop.rest_s is None
    assert len(shop.up.seen) == 12


async def test_f151_what_one_caller_asks_for_shuts_nobody_out(shop: Shop) -> None:
    shop.sell(response_bytes_max=100)
    for fault in (status(400), status(422), status(404), reply(body=b"[" + b"1," * 500 + b"1]"), redirect("/x")):
        for _ in range(6):
            await shop.answers(fault)
    assert shop.rest_s is None


def test_the_breaker_rests_longer_with_each_failed_probe_and_no_longer_than_a_minute() -> None:
    breaker, now, rests = Breaker(), 0.0, []
    for _ in range(12):
        breaker = breaker.asking(now, 5).failed(now)
        rest = breaker.rest_s(now)
        if rest is not None:
            rests.append(rest)
            now += rest
    assert rests == [2, 4, 8, 16, 32, REST_MAX_S, REST_MAX_S, REST_MAX_S]
    assert breaker.answered() == Breaker()


def test_calls_that_were_under_way_when_it_opened_lengthen_nothing() -> None:
    breaker = Breaker()
    for _ in range(200):
        breaker = breaker.failed(0.0)
    assert breaker.rest_s(0.0) == 2


def test_a_probe_that_never_ends_does_not_shut_the_line_for_ever() -> None:
    breaker = Breaker().failed(0.0, retry_after_s=10)
    assert (breaker.rest_s(9.5), breaker.rest_s(10.0)) == (1, None)
    probing = breaker.asking(10.0, timeout_s=5)
    assert (probing.rest_s(10.0), probing.rest_s(15.0)) == (5, None)


def test_a_vendors_advice_is_read_as_seconds_or_a_date_and_bounded() -> None:
    def advice(text: str) -> int | None:
        return retry_after_s({"retry-after": text}, START)

    assert [advice(text) for text in ("30", " 5 ", "0", "999999", "-3", "soon", "", "1.5", "9" * 40)] == [
        30, 5, 1, 3600, None, None, None, None, None,
    ]  # fmt: skip
    assert advice(formatdate(START + 60, usegmt=True)) == 60
    assert advice("Mon, 21 Sep 2020 00:00:00 GMT") == 1
    assert retry_after_s({}, START) is None


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_f152_work_whose_answer_was_lost_is_not_done_twice(shop: Shop, method: str) -> None:
    shop.sell(method=method, cost="0.002")
    await shop.answers(reply({"found": True}))
    shop.up.seen.clear()
    outcome = await shop.answers(hang_up())
    assert outcome == Failure("the upstream could not be reached", cost_micros=2000)
    assert len(shop.up.seen) == 1


async def test_f153_nothing_of_one_tenants_call_is_in_anothers(shop: Shop) -> None:
    shop.up.on("/find", cookie("tenant=a", value={"of": "a"}), reply({"of": "b"}))
    assert await shop.buy(name="A") == Match({"of": "a"})
    assert await shop.buy(name="B") == Match({"of": "b"})
    first, second = shop.up.seen
    assert second.names == first.names
    assert "A" not in second.target.partition("?")[2]


# The table


def test_the_table_in_the_documentation_is_right_and_sells() -> None:
    doc = upstreams.http_api.__doc__ or ""
    text = textwrap.dedent("\n".join(line for line in doc.splitlines() if line.startswith("    ")))
    tables = tomllib.loads(text.replace("${WEATHER_KEY}", KEY))["http_upstreams"]
    (offering,) = HttpApi(read(tables)).offerings()
    operation = offering.operation
    assert (operation.id, operation.path, operation.price.base_micros) == ("weather/now", "/api/v1/weather/now", 10_000)
    assert operation.input.model_validate(operation.example).model_dump(by_alias=True) == {
        "city": "Springfield",
        "days": 3,
    }
    jsonschema.Draft202012Validator(operation.output).validate(operation.example_output)
    schema = operation.input.model_json_schema()
    assert schema["required"] == ["city"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["days"] == {
        "default": 3,
        "maximum": 7,
        "minimum": 1,
        "title": "Days",
        "type": "integer",
    }


SCHEMA = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 18},
        "score": {"type": "number"},
        "json": {"type": "boolean"},
        "model_config": {"type": "string", "enum": ["a", "b"], "default": "b"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
    },
}
INPUTS = [
    ({"name": "Ada"}, {"name": "Ada", "model_config": "b"}),
    ({"name": "Ada", "age": 18, "score": 0.5, "json": True, "tags": ["x"]}, None),
    ({}, "name"),
    ({"name": "A"}, "name"),
    ({"name": "Adaaaa"}, "name"),
    ({"name": "ada"}, "name"),
    ({"name": "Ada", "age": 17}, "age"),
    ({"name": "Ada", "age": 2**70}, "age"),
    ({"name": "Ada", "score": float("nan")}, "score"),
    ({"name": "Ada", "model_config": "c"}, "model_config"),
    ({"name": "Ada", "tags": ["x", "y", "z"]}, "tags"),
    ({"name": "Ada", "tags": ["toolong"]}, "tags"),
    ({"name": "Ada", "other": 1}, "other"),
    ({"in_name": "Ada"}, "name"),
]


@pytest.mark.parametrize(("given", "expected"), INPUTS)
def test_json_schema_becomes_the_operations_input(given: Any, expected: Any) -> None:
    (upstream,) = read([table(method="POST", input=SCHEMA, example={"name": "Ada"})])
    if isinstance(expected, str):
        with pytest.raises(ValidationError) as caught:
            upstream.model.model_validate(given)
        assert expected in {error["loc"][0] for error in caught.value.errors()}
    else:
        values = upstream.model.model_validate(given).model_dump(by_alias=True, exclude_none=True)
        assert values == (expected or {**given, "model_config": "b"})


MISTAKES = [
    # (changes to a table that is right, what the one mistake says)
    ({"id": None}, "no. 1, id: is missing"),
    ({"id": "A b"}, "id: string should match"),
    ({"url": None}, "url: is missing; it is where the vendor is called"),
    ({"price": None}, "price: is missing; it is USD a call"),
    ({"price": 0.01}, "price: an amount of USD stands in quotes"),
    ({"price": "-1"}, "price: an amount of USD has digits"),
    ({"price": "0"}, "price: input should be greater than 0"),
    ({"cost": "0.0000001"}, "cost: an amount of USD has"),
    ({"pirce": "1"}, "pirce: there is no such setting; did you mean price?"),
    ({"method": "PUT"}, "method: input should be 'GET' or 'POST'"),
    ({"url": "ftp://api.example.com/{name}"}, "url: the url is none we call"),
    ({"url": "https://user:pass@api.example.com/{name}"}, "url: the url is none we call"),
    ({"url": "https://{name}.example.com/"}, "url: the host is fixed"),
    ({"url": "https://api.example.com:{name}/"}, "url: the host is fixed"),
    ({"url": "https://api.example.com{name}"}, "url: the host is fixed"),
    ({"url": "https://api.example.com:22/{name}"}, "url: the url's port"),
    ({"url": "http://127.0.0.1:9000/{name}"}, "which only `private = true` allows"),
    ({"url": "http://169.254.169.254/{name}", "private": True}, "url: the address is a cloud's metadata service"),
    ({"url": "https://api.example.com/{naem}", "query": {"q": "{name}"}}, "url: {naem} is none of the inputs; did you"),
    ({"query": {"q": "{name}", "x": "{y}"}}, "query: {y} is none of the inputs"),
    ({"query": {"q": "fixed"}}, "input: name is used nowhere"),
    ({"query": {"x": "{y}"}, "input": {}, "example": {}}, "query: {y} is none of the inputs; there are none"),
    ({"path": "/api/v1/x/{other}"}, "path: {other} is none of the inputs"),
    ({"path": "no path"}, "path: string should match"),
    ({"body": {"x": 1}}, "body: a GET has none"),
    ({"method": "POST", "body": {"n": "{name}", "x": "{y}"}}, "body: {y} is none of the inputs"),
    ({"input": {"name": {"required": False}}, "url": "https://api.example.com/{name}"}, "input name: stands"),
    ({"input": {"name": {"type": "array", "example": []}}}, "input name: is an array, which a GET"),
    ({"input": {"name": {"type": "text"}}}, "input name type: input should be 'string'"),
    ({"input": {"name": {"type": "string", "pattern": "(?=x)"}}}, "input name pattern: is no regular expression"),
    ({"input": {"name": {"type": "string", "maxlen": 3}}}, "input name maxlen: there is no such setting here"),
    ({"input": {"na me": "string"}}, "input: 'na me' is no field name"),
    ({"input": {"type": "object", "properties": {"name": {}}, "oneOf": []}}, "oneOf: this part of JSON Schema"),
    ({"input": {"name": "string"}}, "example: has no name; give every required field"),
    ({"example": {"name": 5}}, "example: name: input should be a valid string"),
    ({"example": {"nmae": "x", "name": "x"}}, "example: nmae: extra inputs are not permitted"),
    ({"input": {"name": {"type": "integer", "default": "x"}}}, "example: name: "),
    ({"headers": {"X A": "x"}}, "headers: 'X A' is no header name"),
    ({"headers": {"X-A": "x\r\ny"}}, "headers: the value of X-A has characters"),
    ({"headers": {"Host": "example.com"}}, "headers: Host belongs to the connection"),
    ({"match": []}, "match: without a check every answer would be a match"),
    ({"match": {"pointer": "name"}}, "match no. 1 pointer: string should match"),
    ({"match": {"pointer": "/a", "exists": True, "equals": 1}}, "match no. 1: a check asks one thing"),
    ({"response": "text", "match": {"pointer": "/a"}}, "match: a pointer leads into JSON"),
    ({"match_statuses": [200, 302]}, "match_statuses: 302 is a redirect"),
    ({"match_statuses": [204]}, "match_statuses: 204 has no whole body"),
    ({"match_statuses": [200, 404]}, "miss_statuses: 404 cannot be a match and a miss"),
    ({"timeout_s": 0}, "timeout_s: input should be greater than 0"),
    ({"response_bytes_max": 10**9}, "response_bytes_max: input should be less than"),
    ({"free": True, "cost": "0.01"}, "cost: says that a call costs"),
    ({"billing": "metered", "cost": "0.01"}, "ceiling: is missing: the most that a metered call"),
    ({**METERED, "ceiling": "0.001"}, "ceiling: is below the price"),
    ({"billing": "metered", "ceiling": "1"}, "cost_pointer: is missing"),
    ({**METERED, "response": "text"}, "cost_pointer: a pointer leads into JSON"),
    ({"ceiling": "1"}, 'ceiling: is for billing = "metered"'),
    ({"markup_percent": 110}, 'markup_percent: is for billing = "metered"'),
    ({**METERED, "markup_percent": 99}, "markup_percent: input should be greater than or equal to 100"),
    ({"summary": "x" * 121}, "summary: string should have at most 120 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), MISTAKES, ids=[said[:40] for _, said in MISTAKES])
def test_a_mistake_is_told_with_its_mend(changes: dict[str, Any], said: str) -> None:
    (found,) = mistakes([table(**changes)])
    assert said in found
    assert not found.endswith("there are ")
    assert found.startswith("no. 1")


def test_every_mistake_of_every_table_is_told_at_once() -> None:
    wrong = [
        table(price=0.5, method="PUT", headers={"Host": "x"}, match_statuses=[404]),
        table(id="a/b", query={"q": "{x}"}),
        table(id="a/b"),
    ]
    with pytest.raises(SettingsError) as caught:
        read(wrong)
    told = caught.value.mistakes
    for part in ("no. 1 (people/find), price", "no. 1 (people/find), method", "no. 1 (people/find), headers",
                 "no. 1 (people/find), miss_statuses", "no. 2 (a/b), query", "no. 2 (a/b), input",
                 "no. 3 (a/b), id: no. 2 has this id already"):  # fmt: skip
        assert any(part in line for line in told), part
    assert len(told) == 7


def test_what_a_query_brings_as_text_is_taken_for_what_the_field_is() -> None:
    fields = {
        "level": {"type": "integer", "enum": [1, 2]},
        "exact": "boolean",
        "score": "number",
        "near": {"type": "string", "enum": ["here", "there"]},
    }
    example = {"level": 1, "exact": True, "score": 0.5, "near": "here"}
    (upstream,) = read([table(input=fields, example=example)])
    given = upstream.model.model_validate({"level": "2", "exact": "false", "score": "1.5", "near": "there"})
    assert given.model_dump(by_alias=True) == {"level": 2, "exact": False, "score": 1.5, "near": "there"}
    assert upstream.model.model_json_schema()["properties"]["level"]["enum"] == [1, 2]
    with pytest.raises(ValidationError, match="is one of 1, 2"):
        upstream.model.model_validate({"level": "3", "exact": "false", "score": "1.5", "near": "there"})


def test_nothing_configured_sells_nothing() -> None:
    api = HttpApi()
    assert (api.offerings(), api.offline(), mistakes([])) == ((), (), ())


def test_settings_cannot_be_changed_afterwards() -> None:
    (upstream,) = read([table()])
    assert isinstance(upstream, HttpUpstream)
    with pytest.raises(ValidationError):
        upstream.price_micros = 1  # type: ignore[misc]
