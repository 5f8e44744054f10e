"""Each provider against a server that speaks as it is documented to, and as it has been seen to.

A case is a file in vendors/: what is asked (of enrich/person where nothing else is said), the vendor's answer, and
beside them the request that goes out and what comes of it all. `FAREGATE_WRITE_GOLDEN=1 pytest
tests/upstreams/test_vendors.py` writes the latter two anew.
"""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rigs.upstream import ScriptedUpstream, drip, echo, endless, garbage, hang, redirect, reply, reset, wrong_length

from gateway.core.upstream import Context
from gateway.core.vendor_call import ErrorClass, Outcome
from gateway.outbound import OutboundClient
from upstreams import firms
from upstreams.companies import CompanyQuery, EmailQuery
from upstreams.directory.settings import Rules
from upstreams.leads.advising import Advisor
from upstreams.model import TokenPrices, server
from upstreams.person import PersonQuery
from upstreams.persons import People, Sources, judge, judge_at_firm, shown
from upstreams.provider import AnyProvider, Line, LocalProvider, ProviderTerms, Tried, ask
from upstreams.providers import KINDS, WEBSEARCH, Account, built, sec_edgar

FOLDER = Path(__file__).parent / "vendors"
WRITE = os.environ.get("FAREGATE_WRITE_GOLDEN") == "1"
NOW = 1_790_000_000.0
KEY, USER = "vendor-key-canary-31c9", "AC0example"
CASES = sorted(FOLDER.glob("*/*.json"))
PEOPLE = ("whitepages", "trestle", "people_data_labs", "twilio", "enformion_go")


def provider(name: str, up: ScriptedUpstream, operation: str = "", **said: Any) -> AnyProvider[Any, Any]:
    has = Account(
        key=KEY, user=USER, url=up.url("").rstrip("/"), cost_per_call_micros=100_000, cost_per_match_micros=50_000,
        private=True, **said,
    )  # fmt: skip
    who = built({name: has}, operation)[name]
    who.line.sleep = no_time  # type: ignore[union-attr]
    return who


async def no_time(seconds: float) -> None:
    """Nobody waits in a test."""


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as up:
        yield up


@pytest.fixture
async def client() -> AsyncIterator[OutboundClient]:
    async with OutboundClient() as client:
        yield client


@dataclass
class Asked:
    """A question in the words of its operation, and how an answer to it is judged and shown."""

    question: Any
    judge: Callable[[Any], Any]
    shown: Callable[[Any, Sources], list[dict[str, Any]]]

    @classmethod
    def of(cls, operation: str, body: dict[str, Any]) -> "Asked":
        match operation:
            case "enrich/company":
                firm = CompanyQuery.model_validate(body).question()
                return cls(firm, lambda found: firms.judge(firm, found), lambda found, s: firms.shown(found.firms, s))
            case "enrich/email":
                wanted = EmailQuery.model_validate(body).question()
                judged = lambda found: judge_at_firm(wanted, found, Rules())  # noqa: E731
                return cls(wanted, judged, lambda found, s: shown(found.people, s))
            case _:
                query = PersonQuery.model_validate(body).query()
                return cls(query, lambda found: judge(query, found, Rules()), lambda found, s: shown(found.people, s))

    def convinces(self, found: Any) -> bool:
        return bool(self.shown(self.judge(found), Sources()))


async def asked(who: AnyProvider[Any, Any], client: OutboundClient, one: Asked) -> Tried[Any]:
    context = Context(http=client, now=lambda: NOW, deadline_s=NOW + 20, budget_micros=1_000_000)
    return await ask(who, one.question, context, confident=one.convinces, hop="people")


def comes_to(tried: Tried[Any], one: Asked) -> dict[str, Any]:
    """What a case shows of its end: the recorded call, and the people or firms as they are answered."""
    call = tried.call
    gives: dict[str, Any] = {"outcome": call.outcome.value, "cost_micros": call.cost_micros}
    if call.error is not None:
        gives["error"] = call.error.value
    if tried.found is not None:
        judged, sources = one.judge(tried.found), Sources()
        gives["people" if isinstance(judged, People) else "companies"] = one.shown(judged, sources)
        gives["sources"] = sources.listing(call.at_ms)
        if judged.reason is not None:
            gives["reason"] = judged.reason
        if isinstance(judged, People) and judged.line is not None:
            gives["line"] = {"line_type": judged.line.line_type, "carrier": judged.line.carrier}
    return gives


@pytest.mark.parametrize("path", CASES, ids=[f"{path.parent.name}-{path.stem}" for path in CASES])
async def test_f020_every_documented_answer_and_every_drift_of_it(
    path: Path, up: ScriptedUpstream, client: OutboundClient
) -> None:
    case = read(path)
    content = case["body"].encode() if "body" in case else orjson.dumps(case["answer"])
    up.default = reply(status=case["status"], body=content, headers=case.get("headers", {}))
    operation = case.get("operation", "enrich/person")
    one = Asked.of(operation, case["asks"])
    tried = await asked(provider(path.parent.name, up, operation), client, one)
    came = {**case, "request": request(up), "gives": comes_to(tried, one)}
    if WRITE:
        write(path, came)
    assert came == read(path)


def read(path: Path) -> dict[str, Any]:
    case: dict[str, Any] = orjson.loads(path.read_bytes())
    return case


def write(path: Path, case: dict[str, Any]) -> None:
    path.write_bytes(orjson.dumps(case, option=orjson.OPT_INDENT_2) + b"\n")


def request(up: ScriptedUpstream) -> dict[str, Any] | None:
    """What the vendor was sent, without what every request has."""
    if not up.seen:
        return None
    seen = up.seen[0]
    assert {(each.target, each.body) for each in up.seen} == {(seen.target, seen.body)}
    plain = {"host", "user-agent", "accept", "accept-encoding", "content-length"}
    shown = {name.lower(): value for name, value in seen.headers if name.lower() not in plain}
    body = {"body": orjson.loads(seen.body)} if seen.body else {}
    times = {"times": len(up.seen)} if len(up.seen) > 1 else {}
    return {"method": seen.method, "target": seen.target, "headers": shown, **body, **times}


def test_every_provider_has_its_cases() -> None:
    """Search engines have theirs in test_search_engines.py."""
    here = [name for name, kind in KINDS.items() if kind.serves != (WEBSEARCH,) and name != "sec_edgar"]
    told = {name: {path.stem for path in CASES if path.parent.name == name} for name in here}
    assert set(PEOPLE) <= set(told)
    for name, stems in told.items():
        assert {"wrong_key", "too_many", "down", "another_shape", "no_json"} <= stems, name


def test_no_case_holds_a_real_person() -> None:
    """Invented people only: 555-0100 to 555-0199, example.com."""
    for path in CASES:
        text = path.read_text()
        assert "@" not in text.replace("@example.com", ""), path


FAULTS = {
    "garbage": (garbage(), "transient"),
    "reset": (reset(), "transient"),
    "wrong length": (wrong_length(500, b"{}"), "transient"),
    "endless": (endless(), "shape"),
    "redirect": (redirect("https://example.com/"), "shape"),
    "silence": (hang(), "timeout"),
    "slow drip": (drip(b'{"results": []}' * 400), "timeout"),
    "our secret": (echo(), "shape"),
    "our secret in base64": (echo("base64"), "shape"),
}


QUESTIONS = {
    "enrich/person": {"phone": "+12065550100"},
    "enrich/email": {"first_name": "Dana", "last_name": "Sample", "domain": "example.com"},
    "enrich/company": {"name": "Example Bakery", "domain": "example.com", "state_code": "WA"},
}
ASKED = [
    (operation, name)
    for operation in QUESTIONS
    for name, kind in KINDS.items()
    if operation in kind.serves and name != "sec_edgar"
]


@pytest.mark.parametrize(("operation", "name"), ASKED)
@pytest.mark.parametrize("fault", FAULTS)
async def test_f143_f149_every_fault_fails_this_provider_and_nothing_else(
    operation: str, name: str, fault: str, up: ScriptedUpstream, client: OutboundClient
) -> None:
    up.default, error = FAULTS[fault]
    who = provider(name, up, operation, timeout_s=0.2)
    secret = "our secret" in fault and KINDS[name].needs != ()
    if "our secret" in fault and not secret:
        error = "shape"  # there is none, and what was said back is no answer either
    with structlog.testing.capture_logs() as logs:
        tried = await asked(who, client, Asked.of(operation, QUESTIONS[operation]))
    assert (tried.outcome, tried.call.error) == (Outcome.FAILED, ErrorClass(error))
    times = 2 if KINDS[name].free and error in ("transient", "timeout") else 1
    assert tried.call.cost_micros == (times * 150_000 if fault != "redirect" else 0)
    assert len(up.seen) == times
    assert KEY not in str(logs) + str(tried)
    assert "2065550100" not in str(logs)
    assert ("provider_gives_a_secret_away" in str(logs)) is secret


Json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from([
            "results", "result", "name", "phones", "emails", "current_addresses", "matched_by", "match_score", "owners",
            "belongs_to", "data", "likelihood", "caller_name", "phone_number", "person", "addresses", "id", "number",
            "firstname", "full_name", "message", "error", "relatives", "line_type_intelligence", "age", "line1",
        ]), inner, max_size=6),
    max_leaves=25,
)  # fmt: skip


@given(answer=Json, code=st.sampled_from([200, 200, 200, 404, 500]), name=st.sampled_from(PEOPLE))
def test_whatever_comes_is_a_reply_and_every_person_of_it_can_be_judged_and_told(
    answer: Any, code: int, name: str
) -> None:
    who = built({name: Account(key=KEY, user=USER, cost_per_call_micros=1)})[name]
    assert not isinstance(who, LocalProvider)
    query = PersonQuery.model_validate({"phone": "+12065550100", "name": "Dana Sample"}).query()
    found = who.read(query, code, {}, orjson.dumps(answer)).found
    if found is not None:
        orjson.dumps(shown(judge(query, found, Rules()).people, Sources()))


# Whatever comes: of every provider, for every operation that asks it another kind of question

ODD = st.sampled_from(
    [None, True, False, 0, -1, 2**63, 1e308, "", " ", "x" * 5000, "\x00", "\ud7ff", "+1", "true", [], {}, [None], [[]],
     [{}], {"": None}, [1, "a", None], "2026-13-45", "(206) 555-0100", "a@b@example.com"]
) | Json  # fmt: skip
CODES = st.sampled_from([200, 200, 200, 200, 201, 204, 302, 400, 401, 402, 403, 404, 422, 429, 432, 500, 529, 999])
NUMBERS = st.sampled_from(["1", "", "-1", "1e9", "9" * 40, "1, 2", ",", "\u00b2", "many"])
HEADERS = st.dictionaries(
    st.sampled_from(["x-totallimit-remaining", "x-ratelimit-remaining", "x-ratelimit-limit", "retry-after"]), NUMBERS
)
READERS: dict[str, tuple[AnyProvider[Any, Any], Any, Asked | None]] = {
    f"{operation} {name}": (
        built({name: Account(key=KEY, user=USER, cost_per_call_micros=1)}, operation)[name],
        Asked.of(operation, QUESTIONS[operation]).question,
        Asked.of(operation, QUESTIONS[operation]),
    )
    for operation, name in ASKED
}
_SEC = (USER, ProviderTerms(), Line(), "https://sec.example.com")
READERS |= {
    "list sec_edgar": (sec_edgar._List(*_SEC), None, None),
    "record sec_edgar": (sec_edgar._Record(*_SEC), 320193, None),
}
READERS |= {
    f"advisor {api}": (
        Advisor(server(api, ProviderTerms(), TokenPrices(1, 1), url="https://llm.example.com", name="m")),
        {"could_do": []},
        None,
    )
    for api in ("openai", "anthropic")
}
GOLDEN = {
    reader: [
        case["answer"]
        for case in (read(path) for path in CASES if path.parent.name == reader.partition(" ")[2])
        if "answer" in case
    ]
    for reader in READERS
}
_USED = {"name": "enrich_company", "arguments": '{"about": "e1"}'}
GOLDEN["advisor openai"] = [
    {
        "choices": [{"message": {"tool_calls": [{"type": "function", "function": _USED}]}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    }
]
GOLDEN["advisor anthropic"] = [
    {
        "content": [{"type": "tool_use", "name": "enrich_company", "input": {"about": "e1"}}],
        "usage": {"input_tokens": 9, "output_tokens": 4},
    }
]
GOLDEN["list sec_edgar"] = [{"0": {"cik_str": 320193, "ticker": "EXB", "title": "Example Bakery Inc."}}]
GOLDEN["record sec_edgar"] = [
    {
        "name": "Example Bakery Inc.", "tickers": ["EXB"], "ein": "000000000", "phone": "206-555-0100",
        "website": "https://example.com", "sicDescription": "Bakeries", "stateOfIncorporation": "WA",
        "formerNames": [{"name": "Example Bread Inc."}],
        "addresses": {"business": {"street1": "12 Example Ave", "city": "Seattle", "stateOrCountry": "WA",
                                   "zipCode": "98101"}, "mailing": {}},
    }
]  # fmt: skip


def is_sound(reader: str, code: int, headers: dict[str, str], body: bytes) -> None:
    """A reply and no exception, of which the found can be judged and told."""
    who, question, told = READERS[reader]
    assert not isinstance(who, LocalProvider)
    reply = who.read(question, code, headers, body)
    assert reply.outcome is not Outcome.SKIPPED
    assert (reply.outcome is Outcome.FAILED) is (reply.error is not None)
    assert reply.outcome is not Outcome.MATCH or reply.found is not None
    assert reply.cost_micros is None or 0 <= reply.cost_micros <= 10**15
    assert reply.quota is None or 0 <= reply.quota.remaining < 2**63
    if reply.found is not None and told is not None:
        orjson.dumps(told.shown(told.judge(reply.found), Sources()))


def spoilt(answer: Any, draw: st.DrawFn) -> Any:
    """The same, with one value anywhere in it another, gone, or there twice."""
    if isinstance(answer, dict) and answer and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(answer)))
        if draw(st.integers(0, 9)) == 0:
            return {name: value for name, value in answer.items() if name != key}
        return {**answer, key: spoilt(answer[key], draw)}
    if isinstance(answer, list) and answer and draw(st.integers(0, 3)):
        place = draw(st.integers(0, len(answer) - 1))
        return [*answer[:place], spoilt(answer[place], draw), *answer[place:]]
    return draw(ODD)


@given(st.data(), st.sampled_from(sorted(READERS)), CODES, HEADERS)
def test_a_documented_answer_with_something_odd_in_it_is_a_reply(
    data: st.DataObject, reader: str, code: int, headers: dict[str, str]
) -> None:
    answer = data.draw(st.sampled_from(GOLDEN[reader]))
    for _ in range(data.draw(st.integers(1, 3))):
        answer = spoilt(answer, data.draw)
    is_sound(reader, code, headers, orjson.dumps(answer))


@given(st.sampled_from(sorted(READERS)), CODES, HEADERS, ODD)
def test_any_json_is_a_reply(reader: str, code: int, headers: dict[str, str], answer: Any) -> None:
    is_sound(reader, code, headers, orjson.dumps(answer))


@given(
    st.sampled_from(sorted(READERS)), CODES,
    st.binary(max_size=200)
    | st.sampled_from([b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe", b"NaN", b'"\\ud800"', b"1e999"]),
)  # fmt: skip
def test_any_bytes_are_a_reply(reader: str, code: int, body: bytes) -> None:
    is_sound(reader, code, {}, body)


def test_every_reader_has_a_documented_answer() -> None:
    assert all(GOLDEN.values())
    asked = {reader.partition(" ")[2] for reader in READERS if not reader.startswith("advisor ")}
    assert asked == {name for name, kind in KINDS.items() if kind.serves != (WEBSEARCH,)}
