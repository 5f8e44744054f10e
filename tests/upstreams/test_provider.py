"""How a provider is asked, whichever it is: over real sockets, through the guarded client, on a clock that only the
test moves.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
import structlog
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
    redirect,
    reply,
    reset,
    status,
    wrong_length,
)

from gateway.core.upstream import AnswerLost, Context, Json
from gateway.core.vendor_call import ErrorClass, Outcome, VendorCall, recalled
from gateway.outbound import OutboundClient
from upstreams.leaks import Leaks
from upstreams.provider import (
    HttpAsk,
    Line,
    LocalProvider,
    ProviderTerms,
    Quota,
    Reply,
    Tried,
    ask,
    by_status,
    failed,
    rest_s,
    waterfall,
)

START = 1_790_000_000.0
SECRET = "vendor-key-canary-31c9"
FOUND = reply({"name": "Ada Example"})
MISS = reply({"name": None})
TERMS = ProviderTerms(cost_per_call_micros=30, cost_per_match_micros=100, bill_misses=True, timeout_s=5, private=True)


@dataclass
class Vendor:
    """Sells a name for a word."""

    url: str
    terms: ProviderTerms = TERMS
    line: Line = field(default_factory=Line)
    name: str = "vendor"
    family: str = "vendor"

    def asks(self, question: str, /) -> HttpAsk | None:
        return HttpAsk(f"{self.url}?q={question}", headers={"X-Api-Key": SECRET}) if question else None

    def read(self, question: str, code: int, headers: Mapping[str, str], body: bytes, /) -> Reply[str]:
        refused = by_status(code)
        if refused is not None:
            return refused
        answer = orjson.loads(body)
        quota = Quota(int(headers["x-left"])) if "x-left" in headers else None
        name = answer["name"].upper() if answer["name"] else None
        cost = answer.get("cost")
        return Reply(Outcome.MATCH if name else Outcome.NO_MATCH, name, cost_micros=cost, quota=quota)


@dataclass
class Neighbour:
    """A local one."""

    says: Reply[str]
    name: str = "neighbour"
    family: str = "neighbour"

    async def look(self, question: str, context: Context, /) -> Reply[str]:
        return self.says


class Notes:
    """gateway.core.upstream.Journal, as strict as the store's, kept by a job that outlives its workers."""

    def __init__(self) -> None:
        self.outcomes: dict[str, bytes] = {}
        self.asked: dict[str, int] = {}
        self.costs: dict[str, int] = {}

    async def recall(self, key: str) -> Json | None:
        return orjson.loads(self.outcomes[key]) if key in self.outcomes else None

    async def asking(self, key: str, *, repeatable: bool = False, cost_micros: int = 0) -> int:
        if key in self.asked and not repeatable:
            raise AnswerLost(key)
        self.asked[key] = self.asked.get(key, 0) + 1
        self.costs[key] = cost_micros
        return self.asked[key] - 1

    async def remember(self, key: str, outcome: Json) -> None:
        self.outcomes[key] = orjson.dumps(outcome)


@dataclass
class Desk:
    """Where vendors are asked from."""

    up: ScriptedUpstream
    client: OutboundClient
    now: float = START
    bought: list[VendorCall] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    notes: Notes | None = None

    def vendor(self, name: str = "vendor", *behaviours: Behaviour, secret: str = "", **terms: Any) -> Vendor:
        if behaviours:
            self.up.on(f"/{name}", *behaviours)
        line = Line(leaks=Leaks((secret or SECRET,)), sleep=self.sleep)
        return Vendor(self.up.url(f"/{name}"), replace(TERMS, **terms), line, name, name)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def context(self, *, left_s: float = 20.0, budget: int = 1_000, charge: str = "chg_1") -> Context:
        return Context(
            http=self.client, now=lambda: self.now, deadline_s=self.now + left_s, budget_micros=budget,
            charge_id=charge, journal=self.notes, bought=self.bought.append,
        )  # fmt: skip

    async def ask(self, vendor: Any, question: str = "ada", **context: Any) -> Tried[str]:
        return await ask(vendor, question, self.context(**context), hop="find")


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with ScriptedUpstream() as up, OutboundClient() as client:
        yield Desk(up, client)


def told(tried: Tried[Any]) -> tuple[str, str | None, int]:
    call = tried.call
    return call.outcome.value, call.error and call.error.value, call.cost_micros


# What an answer comes to, and costs


async def test_a_match_costs_the_call_and_the_match(desk: Desk) -> None:
    tried = await desk.ask(desk.vendor("vendor", FOUND))
    assert (tried.found, told(tried)) == ("ADA EXAMPLE", ("match", None, 130))
    assert desk.bought == [tried.call]
    assert (tried.call.hop, tried.call.provider, tried.call.at_ms) == ("find", "vendor", int(START * 1000))


@pytest.mark.parametrize(("bills", "cost"), [(True, 30), (False, 0)])
async def test_a_miss_costs_what_its_terms_say(desk: Desk, bills: bool, cost: int) -> None:
    assert told(await desk.ask(desk.vendor("vendor", MISS, bill_misses=bills))) == ("no_match", None, cost)


async def test_what_the_vendor_says_it_took_stands_above_the_terms(desk: Desk) -> None:
    assert told(await desk.ask(desk.vendor("vendor", reply({"name": "Ada", "cost": 7})))) == ("match", None, 7)


async def test_a_match_that_convinces_nobody_is_a_miss_and_costs_what_it_cost(desk: Desk) -> None:
    vendor = desk.vendor("vendor", FOUND)
    tried = await ask(vendor, "ada", desk.context(), confident=lambda name: False, hop="find")
    assert (tried.found, told(tried)) == ("ADA EXAMPLE", ("no_match", None, 130))


async def test_a_question_it_cannot_answer_is_not_asked_and_not_recorded(desk: Desk) -> None:
    assert told(await desk.ask(desk.vendor("vendor", FOUND), question="")) == ("skipped", None, 0)
    assert (desk.up.seen, desk.bought) == ([], [])


async def test_the_quota_is_kept_as_last_heard(desk: Desk) -> None:
    vendor = desk.vendor("vendor", reply({"name": "Ada"}, headers={"X-Left": "41"}), FOUND)
    await desk.ask(vendor)
    await desk.ask(vendor)
    assert vendor.line.quota == Quota(41)


FAULTS: list[tuple[str, Behaviour, str, int, int]] = [
    # what comes                          error        cost  requests
    ("401", status(401), "auth", 0, 1),
    ("403", status(403), "auth", 0, 1),
    ("402", status(402), "quota", 0, 1),
    ("432", status(432), "quota", 0, 1),
    ("433", status(433), "quota", 0, 1),
    ("429", status(429), "rate", 0, 2),
    ("500", status(500), "transient", 0, 1),
    ("503", status(503), "transient", 0, 1),
    ("408", status(408), "transient", 0, 1),
    ("400", status(400), "refused", 0, 1),
    ("404", status(404), "refused", 0, 1),
    ("a redirect", redirect("https://example.com/elsewhere"), "shape", 0, 1),
    ("202", status(202), "shape", 130, 1),
    ("no JSON", reply(body=b"<html>"), "shape", 130, 1),
    ("another shape", reply([1, 2]), "shape", 130, 1),
    ("null", reply(None), "shape", 130, 1),
    ("no HTTP", garbage(), "transient", 130, 1),
    ("a reset", reset(), "transient", 130, 1),
    ("a wrong length", wrong_length(500, b"{}"), "transient", 130, 1),
    ("without an end", endless(), "shape", 130, 1),
    ("a bomb", bomb(64 * 1024 * 1024), "shape", 130, 1),
]


@pytest.mark.parametrize(
    ("behaviour", "error", "cost", "requests"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
async def test_f149_f152_every_fault_is_a_failure_of_this_one_and_is_repeated_only_where_nothing_was_billed(
    desk: Desk, behaviour: Behaviour, error: str, cost: int, requests: int
) -> None:
    assert told(await desk.ask(desk.vendor("vendor", behaviour))) == ("failed", error, cost)
    assert len(desk.up.seen) == requests
    assert [call.cost_micros for call in desk.bought] == [cost]


@pytest.mark.parametrize("behaviour", [hang(), drip(b'{"name": "Ada Example"}' * 400)], ids=["silence", "a slow drip"])
async def test_f149_what_takes_too_long_is_a_timeout_and_may_have_been_billed(desk: Desk, behaviour: Behaviour) -> None:
    assert told(await desk.ask(desk.vendor("vendor", behaviour, timeout_s=0.1))) == ("failed", "timeout", 130)
    assert len(desk.up.seen) == 1


# Asked again


async def test_a_repeatable_one_is_asked_twice_and_counts_twice_where_it_may_have_been_billed_twice(desk: Desk) -> None:
    vendor = desk.vendor("vendor", reset(), FOUND, repeatable=True)
    assert told(await desk.ask(vendor)) == ("match", None, 260)
    assert (len(desk.up.seen), desk.slept) == (2, [0.25])


async def test_a_5xx_is_not_billed_and_asked_again_of_a_repeatable_one(desk: Desk) -> None:
    assert told(await desk.ask(desk.vendor("vendor", status(502), FOUND, repeatable=True))) == ("match", None, 130)


async def test_not_where_both_together_could_take_more_than_is_left(desk: Desk) -> None:
    vendor = desk.vendor("vendor", reset(), FOUND, repeatable=True)
    assert told(await desk.ask(vendor, budget=259)) == ("failed", "transient", 130)
    assert len(desk.up.seen) == 1


async def test_one_that_takes_nothing_is_asked_whatever_the_others_took(desk: Desk) -> None:
    """A vendor may say that it took more than its terms allow."""
    dear = desk.vendor("dear", reply({"name": None, "cost": 900}))
    free = desk.vendor("free", FOUND, cost_per_call_micros=0, cost_per_match_micros=0)
    found, tried = await waterfall([dear, free], "ada", desk.context(budget=500), hop="find")
    assert (found, [told(one) for one in tried]) == ("ADA EXAMPLE", [("no_match", None, 900), ("match", None, 0)])


async def test_a_long_answer_is_not_read_on_the_event_loop(desk: Desk) -> None:
    read_in: list[bool] = []

    class Slow(Vendor):
        def read(self, question: str, code: int, headers: Mapping[str, str], body: bytes, /) -> Reply[str]:
            read_in.append(threading.current_thread() is threading.main_thread())
            return super().read(question, code, headers, body)

    for name in ("Ada", "A" * 20_000):
        desk.up.on("/vendor", reply({"name": name}))
        found = (await desk.ask(Slow(desk.up.url("/vendor")))).found
        assert found == name.upper()
    assert read_in == [True, False]


async def test_never_a_third_time(desk: Desk) -> None:
    vendor = desk.vendor("vendor", status(502), status(502), FOUND, repeatable=True)
    assert told(await desk.ask(vendor)) == ("failed", "transient", 0)
    assert len(desk.up.seen) == 2


async def test_no_connection_is_tried_again_since_nothing_was_sent(desk: Desk) -> None:
    vendor = Vendor("http://127.0.0.1:1/", TERMS, Line(sleep=desk.sleep))
    assert told(await desk.ask(vendor)) == ("failed", "transient", 0)
    assert desk.slept == [0.25]


async def test_f151_a_short_advice_is_waited_for(desk: Desk) -> None:
    vendor = desk.vendor("vendor", status(429, headers={"Retry-After": "3"}), FOUND)
    assert told(await desk.ask(vendor)) == ("match", None, 130)
    assert desk.slept == [3]


@pytest.mark.parametrize(("advice", "left_s"), [("6", 20.0), ("3", 3.0)], ids=["too long", "no time left"])
async def test_f151_a_longer_one_is_passed_on(desk: Desk, advice: str, left_s: float) -> None:
    vendor = desk.vendor("vendor", status(429, headers={"Retry-After": advice}), FOUND)
    tried = await desk.ask(vendor, left_s=left_s)
    assert told(tried) == ("failed", "rate", 0)
    assert tried.retry_after_s == int(advice)
    assert (len(desk.up.seen), desk.slept) == (1, [])
    assert vendor.line.rest_s(desk.now, vendor.terms) == int(advice)


# Left alone


async def test_an_empty_account_rests_at_once_and_is_told_to_the_operator(desk: Desk) -> None:
    vendor = desk.vendor("vendor", status(402), FOUND)
    with structlog.testing.capture_logs() as logs:
        await desk.ask(vendor)
    assert alarm_in(logs) == ("provider_account_empty", "vendor", True)
    tried = await desk.ask(vendor)
    assert (told(tried), tried.retry_after_s) == (("skipped", "resting", 0), 300)
    assert len(desk.up.seen) == 1
    desk.now += 300
    assert told(await desk.ask(vendor)) == ("match", None, 130)


@pytest.mark.parametrize("code", [401, 403])
async def test_a_refused_key_is_told_to_the_operator_at_once_and_rests_after_five(desk: Desk, code: int) -> None:
    """One alone may be about what was asked: nobody takes a provider from all others by one odd question."""
    vendor = desk.vendor("vendor", *[status(code)] * 6, FOUND)
    with structlog.testing.capture_logs() as logs:
        await desk.ask(vendor)
    assert alarm_in(logs) == ("provider_refuses_key", "vendor", True)
    for _ in range(4):
        assert rest_s([vendor], desk.now) is None
        await desk.ask(vendor)
    tried = await desk.ask(vendor)
    assert (told(tried), tried.retry_after_s) == (("skipped", "resting", 0), 600)
    assert len(desk.up.seen) == 5
    desk.now += 600
    assert told(await desk.ask(vendor))[0] == "failed"
    assert rest_s([vendor], desk.now) == 600, "the probe was refused, too"
    desk.now += 600
    assert told(await desk.ask(vendor)) == ("match", None, 130)
    assert rest_s([vendor], desk.now) is None


def alarm_in(logs: Any) -> tuple[str, str, bool]:
    alarm = next(line for line in logs if line["log_level"] == "error")
    return alarm["alarm"], alarm["subject"], bool(alarm["mend"])


async def test_an_account_in_trouble_is_told_once_until_it_is_over(desk: Desk) -> None:
    """Each answer ten minutes after the last."""
    vendor = desk.vendor(
        "vendor", status(401), status(403), status(500), status(402), status(402), FOUND, MISS, status(401), status(422)
    )
    troubles, told = [], []
    for _ in range(9):
        with structlog.testing.capture_logs() as logs:
            await desk.ask(vendor)
        troubles.append(vendor.line.standing(desk.now).trouble)
        told.append([line.get("alarm", line["event"]) for line in logs if line["event"] != "provider_failed"])
        desk.now += 600
    auth, quota, over = ErrorClass.AUTH, ErrorClass.QUOTA, "provider_takes_questions_again"
    assert troubles == [auth, auth, auth, quota, quota, None, None, auth, None]
    assert told == [
        ["provider_refuses_key"], [], [], ["provider_account_empty"], [], [over], [], ["provider_refuses_key"], [over]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("quota", "low", "is_low"),
    [
        (None, 10, False),
        (Quota(11, 100), None, False),
        (Quota(10, 100), None, True),
        (Quota(50, 100), 50, True),
        (Quota(5, 100), 4, False),
        (Quota(1), None, False),
        (Quota(0), None, True),
        (Quota(0, 100), 0, True),
    ],
)
def test_a_quota_is_low_at_what_the_operator_says_or_at_a_tenth(
    quota: Quota | None, low: int | None, is_low: bool
) -> None:
    standing = Line(quota=quota).standing(START, low)
    assert standing.quota_low is is_low
    assert (standing.quota_left, standing.quota_limit) == ((quota.remaining, quota.limit) if quota else (None, None))


async def test_f151_five_failures_in_a_row_open_the_breaker_and_a_good_answer_closes_it(desk: Desk) -> None:
    vendor = desk.vendor("vendor", *[status(500)] * 5, FOUND)
    for _ in range(5):
        assert rest_s([vendor], desk.now) is None
        await desk.ask(vendor)
    assert rest_s([vendor], desk.now) == 2
    assert told(await desk.ask(vendor)) == ("skipped", "resting", 0)
    desk.now += 2
    assert told(await desk.ask(vendor)) == ("match", None, 130)
    assert rest_s([vendor], desk.now) is None


async def test_a_call_that_had_no_time_left_is_no_sign_of_its_health(desk: Desk) -> None:
    vendor = desk.vendor("vendor", *[hang()] * 5, FOUND)
    for _ in range(5):
        assert told(await desk.ask(vendor, left_s=0.3)) == ("failed", "timeout", 130)
    assert told(await desk.ask(vendor)) == ("match", None, 130)


async def test_what_is_our_own_fault_is_no_sign_of_its_health(desk: Desk) -> None:
    vendor = desk.vendor("vendor", status(422))
    for _ in range(6):
        await desk.ask(vendor)
    assert rest_s([vendor], desk.now) is None


async def test_more_questions_a_minute_than_it_takes_are_not_asked(desk: Desk) -> None:
    vendor = desk.vendor("vendor", FOUND, requests_per_min=2)
    desk.now = 60 * 1000 + 12.0
    assert [told(await desk.ask(vendor))[0] for _ in range(3)] == ["match", "match", "skipped"]
    assert rest_s([vendor], desk.now) == 48
    desk.now += 48
    assert told(await desk.ask(vendor))[0] == "match"


async def test_all_must_rest_before_the_operation_does(desk: Desk) -> None:
    tired, fresh = desk.vendor("tired", status(401)), desk.vendor("fresh", FOUND)
    for _ in range(5):
        await desk.ask(tired)
    assert rest_s([tired, fresh], desk.now) is None
    assert rest_s([tired], desk.now) == 600
    assert rest_s([tired, Neighbour(Reply(Outcome.NO_MATCH))], desk.now) is None
    assert rest_s([], desk.now) is None


# The call's own limits


async def test_one_that_could_take_more_than_is_left_is_not_asked(desk: Desk) -> None:
    assert told(await desk.ask(desk.vendor("vendor", FOUND), budget=129)) == ("skipped", "budget", 0)
    assert told(await desk.ask(desk.vendor("vendor", FOUND), budget=130)) == ("match", None, 130)


async def test_none_is_asked_when_the_time_is_up(desk: Desk) -> None:
    assert told(await desk.ask(desk.vendor("vendor", FOUND), left_s=0.2)) == ("skipped", "timeout", 0)
    assert desk.up.seen == []


async def test_the_deadline_cuts_its_timeout_short(desk: Desk) -> None:
    assert told(await desk.ask(desk.vendor("vendor", hang()), left_s=0.35)) == ("failed", "timeout", 130)


async def test_whoever_stops_waiting_has_it_recorded_as_possibly_paid(desk: Desk) -> None:
    asking = asyncio.create_task(desk.ask(desk.vendor("vendor", hang())))
    await desk.up.arrived(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert [(call.error, call.cost_micros) for call in desk.bought] == [(ErrorClass.TIMEOUT, 130)]


# Secrets


@pytest.mark.parametrize("form", ["plain", "base64", "url", "gzip", "escaped", "header"])
@pytest.mark.parametrize("code", [200, 500])
async def test_f143_an_answer_that_gives_our_key_away_is_not_used_and_nowhere_kept(
    desk: Desk, form: str, code: int
) -> None:
    desk.notes = Notes()
    with structlog.testing.capture_logs() as logs:
        tried = await desk.ask(desk.vendor("vendor", echo(form, code=code)))
    assert (tried.outcome, tried.call.error) == (Outcome.FAILED, ErrorClass.SHAPE)
    kept = str(logs) + str(tried) + str(desk.bought) + str(desk.notes.outcomes)
    assert SECRET not in kept
    assert ("provider_gives_a_secret_away" in kept) is True


async def test_requests_and_terms_show_no_secret(desk: Desk) -> None:
    vendor = desk.vendor()
    assert SECRET not in repr(vendor.asks("ada"))
    assert SECRET not in repr(vendor.line)


async def test_f150_f153_no_cookie_no_redirect_and_no_ambient_credential(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login canary password canary\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", desk.up.url("/proxy"))
    desk.up.on("/elsewhere", FOUND)
    vendor = desk.vendor("vendor", cookie("tenant=one", value={"name": "Ada"}), redirect(desk.up.url("/elsewhere")))
    assert told(await desk.ask(vendor))[0] == "match"
    assert told(await desk.ask(vendor, question="bob"))[:2] == ("failed", "shape")
    assert [seen.path for seen in desk.up.seen] == ["/vendor", "/vendor"]
    assert all(not {"cookie", "authorization", "proxy-authorization"} & seen.names for seen in desk.up.seen)


# In a job


async def test_a_hop_with_a_stored_outcome_is_read_again_and_never_bought_twice(desk: Desk) -> None:
    desk.notes = Notes()
    first = await desk.ask(desk.vendor("vendor", FOUND))
    again = await desk.ask(desk.vendor())
    assert (again.found, again.call) == (first.found, first.call)
    assert len(desk.up.seen) == 1
    assert desk.bought == [first.call, first.call]


async def test_a_failure_is_stored_too(desk: Desk) -> None:
    desk.notes = Notes()
    await desk.ask(desk.vendor("vendor", status(500), FOUND))
    assert told(await desk.ask(desk.vendor())) == ("failed", "transient", 0)
    assert len(desk.up.seen) == 1


async def test_a_lost_answer_is_not_bought_again_and_counts_as_paid(desk: Desk) -> None:
    desk.notes = Notes()
    desk.notes.asked["find/vendor"] = 1
    assert told(await desk.ask(desk.vendor("vendor", FOUND))) == ("failed", "lost", 130)
    assert desk.up.seen == []


async def test_a_repeatable_one_is_and_counts_twice(desk: Desk) -> None:
    desk.notes = Notes()
    desk.notes.asked["find/vendor"] = 1
    assert told(await desk.ask(desk.vendor("vendor", FOUND, repeatable=True))) == ("match", None, 260)
    assert desk.notes.costs == {"find/vendor": 130}


async def test_what_another_charge_has_paid_for_costs_the_books_nothing_again(desk: Desk) -> None:
    """A failed job that is done again: its hops are handed down, and stand on the first charge's books."""
    desk.notes = Notes()
    await desk.ask(desk.vendor("vendor", FOUND), charge="chg_1")
    again = await desk.ask(desk.vendor(), charge="chg_2")
    assert again.call.cost_micros == 130  # which is what the customer's price is made of
    assert [(call.cost_micros, call.cached) for call in desk.bought] == [(130, False), (0, True)]
    hop = orjson.loads(desk.notes.outcomes["find/vendor"])
    assert recalled(hop, "chg_1").cost_micros == 130


# Several


async def test_the_first_that_convinces_ends_it(desk: Desk) -> None:
    first, second, third = desk.vendor("a", MISS), desk.vendor("b", FOUND), desk.vendor("c", FOUND)
    found, tried = await waterfall([first, second, third], "ada", desk.context(), hop="find")
    assert found == "ADA EXAMPLE"
    assert [(one.call.provider, *told(one)) for one in tried] == [
        ("a", "no_match", None, 30),
        ("b", "match", None, 130),
    ]
    assert [call.provider for call in desk.bought] == ["a", "b"]


async def test_a_failing_one_is_passed_over(desk: Desk) -> None:
    vendors = [desk.vendor("a", status(401)), desk.vendor("b", reset()), desk.vendor("c", FOUND)]
    found, tried = await waterfall(vendors, "ada", desk.context(), hop="find")
    assert (found, [told(one)[1] for one in tried]) == ("ADA EXAMPLE", ["auth", "transient", None])


async def test_one_without_confidence_does_not_end_it(desk: Desk) -> None:
    vendors = [desk.vendor("a", reply({"name": "bob"})), desk.vendor("b", reply({"name": "ada"}))]
    found, tried = await waterfall(vendors, "ada", desk.context(), confident=lambda name: name == "ADA", hop="find")
    assert (found, [told(one) for one in tried]) == ("ADA", [("no_match", None, 130), ("match", None, 130)])


async def test_together_they_take_no_more_than_the_call_may_cost(desk: Desk) -> None:
    vendors = [desk.vendor("a", MISS), desk.vendor("b", MISS), desk.vendor("c", FOUND)]
    found, tried = await waterfall(vendors, "ada", desk.context(budget=165), hop="find")
    assert (found, [told(one) for one in tried]) == (
        None, [("no_match", None, 30), ("no_match", None, 30), ("skipped", "budget", 0)]
    )  # fmt: skip


async def test_a_local_one_takes_its_turn_without_journal_breaker_or_budget(desk: Desk) -> None:
    desk.notes = Notes()
    neighbour = Neighbour(Reply(Outcome.NO_MATCH))
    assert isinstance(neighbour, LocalProvider)
    assert not isinstance(desk.vendor(), LocalProvider)
    found, tried = await waterfall([neighbour, desk.vendor("b", FOUND)], "ada", desk.context(budget=130), hop="find")
    assert (found, [one.call.provider for one in tried]) == ("ADA EXAMPLE", ["neighbour", "b"])
    assert list(desk.notes.outcomes) == ["find/b"]
    broken, tried = await waterfall([Neighbour(failed(ErrorClass.TRANSIENT))], "ada", desk.context(), hop="find")
    assert (broken, told(tried[0])) == (None, ("failed", "transient", 0))
