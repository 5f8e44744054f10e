"""The people in the data: suppressed, told of, answered again, erased. F-172, F-173."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest
from rigs.gate import SETTINGS, STORE, Gate, Reply
from rigs.person import BYTES, CANARY, LEE, left_in, operator
from rigs.running import eventually
from rigs.scripted import CANARY as FOUND
from rigs.scripted import Scripted, Step, failure, match, miss
from rigs.upstream import ScriptedUpstream, reply

from gateway.core.agent import DAY_MS
from gateway.core.charge import Event, State
from gateway.core.errors import Problem, SettingsError
from gateway.core.subject import Kind, SubjectKey, Suppressed
from gateway.core.upstream import Context, Match, NoMatch, Outcome
from gateway.store import outbox, subjects, tickets, vendor_calls
from gateway.store.erasing import PLACES
from gateway.store.sqlite import migrate, read_migrations
from gateway.store.subjects import Suppression
from upstreams import firms
from upstreams.directory import loading
from upstreams.firms import Firm, Firms, Officer
from upstreams.persons import Address, Phone, Source

PRICE = 330_000
KEY = SubjectKey.of(b"k" * 32)
JOBS = "/api/v1/enrich/jobs"


class Clock:
    """Begins now, since payments are signed by the clock of this machine."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


def telling(*people: dict[str, Any], cost: int = 0) -> Step:
    async def step(context: Context) -> Outcome:
        return Match({"people": list(people)}, cost_micros=cost)

    return step


async def suppressed_unheard(gate: Gate, *spellings: str) -> None:
    """On the list, and the gateway has not looked at it yet."""
    key = SubjectKey.of(bytes.fromhex((_home(gate) / "gate.db.leads-key").read_text()))
    entry = Suppression("sup_" + str(len(spellings)), Kind.PHONE, "...", "", key.id, 0)
    await gate.gateway.db.write(subjects.suppress, entry, key.digests(spellings))


def _home(gate: Gate) -> Path:
    return gate.gateway.settings.store.path.parent


async def heard(gate: Gate, question: str = CANARY.phone) -> None:
    """Once the gateway has looked at the list: an unpaid probe of nobody's money tells."""
    _, token = await gate.agent(0)

    async def look() -> bool:
        return (await gate.call(question, token=token)).status == 403

    await eventually(look)


async def submit(gate: Gate, word: str, token: str) -> Reply:
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    body = orjson.dumps({"route": "test/metered", "payload": {"word": word}, "bill_up_to_usd": "1.50"})
    return await gate.send("POST", JOBS, headers=sent, body=body)


async def poll(gate: Gate, job: Reply, wait: int = 5) -> Any:
    bearer = {"Authorization": f"Bearer {job.json['poll_bearer']}"}
    return (await gate.send("GET", f"{job.json['poll_url']}?wait={wait}", headers=bearer)).json


# Asked about


async def test_a_question_about_a_suppressed_person_is_refused_by_every_way_and_costs_nothing(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(5_000_000)
        payment = await gate.sign()
        await operator(tmp_path, "subject", "suppress", "--phone", CANARY.phone, toml=SETTINGS)
        await heard(gate)
        for word in (CANARY.phone, "(206) 555-0142", "find 206.555.0142 for me"):
            bearer = await gate.call(word, token=token, headers={"Idempotency-Key": word.encode().hex()})
            signed = await gate.call(word, payment=payment)
            job = await submit(gate, word, token)
            assert [each.status for each in (bearer, signed, job)] == [403, 403, 403]
            assert {each.json["code"] for each in (bearer, signed, job)} == {"SUPPRESSED_SUBJECT"}
            assert BYTES.search(bearer.body + signed.body + job.body) is None
        assert gate.upstream.journal == []
        assert (await gate.balance(agent)).available == 5_000_000
        assert await gate.charges() == []
        # The payment was not touched: it buys something else.
        bought = await gate.call("hello", payment=payment)
        assert (bought.status, bought.json["billed"]) == (200, True)


async def test_it_is_refused_in_the_transaction_that_would_hold_before_the_gateway_has_heard_of_it(tmp_path):
    async with Gate.open(tmp_path) as gate:
        agent, token = await gate.agent(5_000_000)
        payment = await gate.sign()
        await suppressed_unheard(gate, "phone:12065550142")
        for reply_ in (await gate.call(CANARY.phone, token=token), await gate.call(CANARY.phone, payment=payment)):
            assert (reply_.status, reply_.json["code"]) == (403, "SUPPRESSED_SUBJECT")
        assert gate.upstream.journal == []
        assert (await gate.balance(agent)).available == 5_000_000


async def test_what_was_answered_before_is_not_answered_again(tmp_path):
    """By its key, its payment and its charge; what the rest of the answer was, its buyer keeps."""
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script |= {CANARY.phone: telling(CANARY.person), "both": telling(CANARY.person, LEE.person)}
        _, token = await gate.agent(5_000_000)
        keyed = {"Idempotency-Key": "k1"}
        first = await gate.call(CANARY.phone, token=token, headers=keyed)
        both = await gate.call("both", token=token, headers={"Idempotency-Key": "k2"})
        assert BYTES.search(first.body)
        payment = await gate.sign()
        signed = await gate.call(CANARY.phone, payment=payment)
        job = await submit(gate, "both", token)
        assert (await poll(gate, job))["result"]["data"]["people"][0]["name"] == CANARY.name
        await operator(tmp_path, "subject", "suppress", *CANARY.options, toml=SETTINGS)
        await gate.gateway.subjects.read()
        assert (await gate.call(CANARY.phone, token=token, headers=keyed)).status == 403
        shown = {"X-Charge-Token": signed.headers["X-Charge-Token"]}
        assert (await gate.call(CANARY.phone, payment=payment, headers=shown)).status == 403
        again = await gate.call("both", token=token, headers={"Idempotency-Key": "k2"})
        assert again.json["data"] == {"people": [LEE.person]}
        assert again.json["billing"] == both.json["billing"]
        for charge in (first, both):
            sent = {"Authorization": f"Bearer {token}"}
            path = f"/api/v1/charges/{charge.json['billing']['charge_id']}"
            told = await gate.send("GET", path, headers=sent)
            assert told.status == 200
            assert BYTES.search(told.body) is None
        assert (await poll(gate, job))["result"]["data"] == {"people": [LEE.person]}


async def test_an_answer_that_was_found_in_between_is_a_miss_and_tells_nothing(tmp_path):
    """Suppressed while it is worked on: decided in the transaction that would have charged for it."""
    async with Gate.open(tmp_path) as gate:
        went_on = asyncio.Event()

        async def slowly(context: Context) -> Outcome:
            await went_on.wait()
            return Match({"people": [CANARY.person, LEE.person]}, cost_micros=1_000)

        gate.upstream.script |= {"slow": slowly}
        agent, token = await gate.agent(5_000_000)
        payment = await gate.sign()
        calls = [
            asyncio.create_task(gate.call("slow", token=token)),
            asyncio.create_task(gate.call("slow", payment=payment)),
            asyncio.create_task(submit(gate, "slow", token)),
        ]
        await eventually(lambda: _runs(gate, "slow", 3))
        await suppressed_unheard(gate, "phone:12065550142")
        went_on.set()
        bearer, signed, job = await asyncio.gather(*calls)
        for answered in (bearer.json, signed.json, (await poll(gate, job))["result"]):
            assert (answered["matched"], answered["billed"]) == (False, False)
            assert answered["data"] == {"people": [LEE.person]}
        assert (await gate.balance(agent)).available == 5_000_000
        assert {view.charge.reason for view in await gate.charges()} == {Event.MISSED}
        assert {view.cost_micros for view in await gate.charges()} == {1_000}, "the vendor was paid all the same"
        assert await gate.gateway.db.read(subjects.accesses, None) != []
        assert [each.people for each in await gate.gateway.db.read(subjects.accesses)] == [1, 1, 1]


async def _runs(gate: Gate, word: str, count: int) -> bool:
    return gate.upstream.runs(word) == count


async def test_a_job_that_waited_is_not_begun(tmp_path):
    """It was handed in before, and fails for nothing, with the reason."""
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 1\n") as gate:
        hold = asyncio.Event()

        async def busy(context: Context) -> Outcome:
            await hold.wait()
            return await match(context)

        gate.upstream.script |= {"busy": busy}
        agent, token = await gate.agent(5_000_000)
        first = await submit(gate, "busy", token)
        await eventually(lambda: _runs(gate, "busy", 1))
        job = await submit(gate, CANARY.phone, token)
        assert job.status == 202
        await operator(tmp_path, "subject", "suppress", "--phone", CANARY.phone, toml=SETTINGS)
        await heard(gate)
        hold.set()
        told = await poll(gate, job)
        assert (told["status"], told["error"]["code"]) == ("failed", "SUPPRESSED_SUBJECT")
        assert (await poll(gate, first))["status"] == "completed"
        assert gate.upstream.runs(CANARY.phone) == 0
        assert (await gate.balance(agent)).available == 5_000_000 - 100_000


async def test_taken_off_the_list_everything_is_as_before(tmp_path):
    async with Gate.open(tmp_path) as gate:
        _, token = await gate.agent(5_000_000)
        said = await operator(tmp_path, "subject", "suppress", *CANARY.options, "--note", "letter 12", toml=SETTINGS)
        ids = [line.split()[0] for line in said.splitlines() if line.startswith("sup_")]
        assert len(ids) == 3
        listed = await operator(tmp_path, "subject", "list", "--json", toml=SETTINGS)
        rows = [orjson.loads(line) for line in listed.splitlines()]
        assert {row["id"] for row in rows} == set(ids)
        assert {row["kind"] for row in rows} == {"phone", "email", "name"}
        assert {row["note"] for row in rows} == {"letter 12"}
        assert BYTES.search(listed.encode()) is None
        await heard(gate)
        await operator(tmp_path, "subject", "unsuppress", *ids, toml=SETTINGS)
        with pytest.raises(Problem, match="no entry sup_none"):
            await operator(tmp_path, "subject", "unsuppress", "sup_none", toml=SETTINGS)

        async def answered() -> bool:
            return (await gate.call(CANARY.phone, token=token)).status == 200

        await eventually(answered)
        assert await operator(tmp_path, "subject", "list", toml=SETTINGS) == "Nobody is suppressed.\n"


async def test_with_another_key_the_gateway_does_not_start(tmp_path):
    """Nobody on the list would be known again: that must not go unnoticed."""
    async with Gate.open(tmp_path) as gate:
        await operator(tmp_path, "subject", "suppress", "--phone", CANARY.phone, toml=SETTINGS)
        assert gate.gateway.settings.wallet_recovery.enabled
    (tmp_path / "gate.db.leads-key").write_text("ab" * 32)
    with pytest.raises(SettingsError, match="made with another key"):
        async with Gate.open(tmp_path):
            pass


# The people upstream: nobody is asked about her, and nobody pays for what he does not get


FILE = """\
First Name,Last Name,Phone,Email,Street,City,State,Zip
Zephyrine,Quillwort,206-555-0142,zq.canary@example.com,42 Imagined Ct,Seattle,WA,98101
Lee,Sample,206-555-0101,lee@example.com,42 Imagined Way,Seattle,WA,98101
"""


def people(vendor: ScriptedUpstream, *, cache: str = "") -> str:
    return f"""
[settlement]
kind = "none"
[providers.whitepages]
key = "some-secret"
url = "{vendor.url("/v2/person/")}"
private = true
cost_per_call = "0.10"
{cache}"""


@asynccontextmanager
async def selling(
    home: Path, *, file: str = "", cache: str = "", **parts: Any
) -> AsyncIterator[tuple[Gate, ScriptedUpstream, str]]:
    """(a gateway that sells people out of a directory and from a vendor, the vendor, its settings)."""
    async with ScriptedUpstream(default=reply({"results": []})) as vendor:
        if file:
            (home / "people.csv").write_text(file)
            loading.load(home / "people.csv", home / "directory.db", progress=lambda done, total: None)
            (home / "people.csv").unlink()
        toml = people(vendor, cache=cache)
        async with Gate.open(home, base=toml, configured=True, **parts) as gate:
            yield gate, vendor, STORE + toml


SUPPRESSIONS = [
    ("--phone", CANARY.phone),
    ("--email", CANARY.email),
    ("--name", CANARY.name, "--city", "Seattle", "--state", "WA"),
    ("--name", CANARY.name, "--zip", "98101"),
]


@pytest.mark.parametrize(
    ("options", "questions"),
    [
        (SUPPRESSIONS[0], [("enrich/phone", {"phone": "2065550142"}),
                           ("enrich/person", {"name": "Lee Sample", "phone": "(206) 555-0142"})]),
        (SUPPRESSIONS[1], [("enrich/person", {"email": "ZQ.Canary@example.com"})]),
        (SUPPRESSIONS[2], [("enrich/person", {"name": "Quillwort, Zephyrine", "city": "Seattle", "state": "wa"}),
                           ("enrich/person", {"first": "Zephyrine", "last": "Quillwort", "city": "SEATTLE"})]),
        (SUPPRESSIONS[3], [("enrich/person", {"name": "Zephyrine X. Quillwort", "zip": "98101-0042"}),
                           ("enrich/person", {"name": CANARY.name, "city": "Seattle", "state_code": "WA"})]),
    ],
)  # fmt: skip
async def test_no_vendor_and_no_directory_is_asked_about_her(tmp_path, options, questions):
    async with selling(tmp_path, file=FILE) as (gate, vendor, toml):
        agent, token = await gate.agent(5_000_000)
        await operator(tmp_path, "subject", "suppress", *options, toml=toml)
        for operation, question in questions:
            refused = await gate.ask(operation, question, token=token)
            assert (refused.status, refused.json["code"]) == (403, "SUPPRESSED_SUBJECT")
        assert vendor.seen == []
        assert (await gate.balance(agent)).available == 5_000_000
        assert await gate.charges() == []


@pytest.mark.parametrize("options", SUPPRESSIONS)
@pytest.mark.parametrize("where", ["directory", "vendor"])
async def test_whoever_would_find_her_finds_nobody_or_the_others(tmp_path, options, where):
    """By her address, where nothing of the question tells that it is she."""
    house = {"street": "42 Imagined Ct", "zip": "98101"}
    async with selling(tmp_path, file=FILE if where == "directory" else "") as (gate, vendor, toml):
        vendor.default = reply({"results": [CANARY.vendor] if where == "vendor" else []})
        agent, token = await gate.agent(5_000_000)
        before = await gate.ask("enrich/person", house, token=token)
        assert [each["name"] for each in before.json["data"]["people"]] == [CANARY.name]
        assert (await gate.balance(agent)).available == 4_500_000
        await operator(tmp_path, "subject", "suppress", *options, toml=toml)
        await gate.gateway.subjects.read()
        after = await gate.ask("enrich/person", house, token=token)
        assert (after.json["matched"], after.json["billed"], after.json["data"]) == (False, False, {"people": []})
        assert BYTES.search(after.body.replace(b"42 Imagined Ct", b"")) is None
        assert (await gate.balance(agent)).available == 4_500_000


async def test_the_next_provider_is_asked_and_the_others_of_an_answer_are_paid_for(tmp_path):
    """She is taken out before it is decided whether anybody was found: the directory has only her, so the vendor is
    asked, whose other person is a match."""
    house = {"street": "42 Imagined Ct", "zip": "98101"}
    async with selling(tmp_path, file=FILE) as (gate, vendor, toml):
        lee = {
            **LEE.vendor,
            "current_addresses": CANARY.vendor["current_addresses"],
            "relatives": [{"name": CANARY.name}, {"name": "Ida Sample"}],
        }
        vendor.default = reply({"results": [CANARY.vendor, lee]})
        agent, token = await gate.agent(5_000_000)
        await operator(tmp_path, "subject", "suppress", *CANARY.options, toml=toml)
        await gate.gateway.subjects.read()
        found = await gate.ask("enrich/person", house, token=token)
        assert (found.json["matched"], found.json["billed"]) == (True, True)
        assert [each["name"] for each in found.json["data"]["people"]] == ["Lee Sample"]
        assert [each["name"] for each in found.json["data"]["people"][0]["relatives"]] == ["Ida Sample"]
        assert found.json["metadata"]["match"]["people"] == 1
        assert len(vendor.seen) == 1
        assert BYTES.search(found.body.replace(b"42 Imagined Ct", b"")) is None
        assert (await gate.balance(agent)).available == 4_500_000


async def test_two_rows_of_one_person_are_hidden_by_either(tmp_path):
    """The number stands in one row only; the name is one person's by the email that both have."""
    file = (
        "First Name,Last Name,Phone,Email,City,State,Zip\n"
        "Zephyrine,Quillwort,206-555-0142,zq.canary@example.com,Seattle,WA,98101\n"
        "Zephyrine,Quillwort,,zq.canary@example.com,Tacoma,WA,98402\n"
    )
    async with selling(tmp_path, file=file) as (gate, _, toml):
        _, token = await gate.agent(5_000_000)
        question = {"name": CANARY.name, "city": "Tacoma", "state_code": "WA"}
        assert (await gate.ask("enrich/person", question, token=token)).json["matched"]
        await operator(tmp_path, "subject", "suppress", "--email", CANARY.email, toml=toml)
        await gate.gateway.subjects.read()
        assert not (await gate.ask("enrich/person", question, token=token)).json["matched"]


async def test_of_two_with_one_name_the_other_is_found(tmp_path):
    """Two people for one name are nobody to charge for, unless one of them is not there."""
    file = (
        "First Name,Last Name,Phone,Email,City,State,Zip\n"
        "Zephyrine,Quillwort,206-555-0142,zq.canary@example.com,Seattle,WA,98101\n"
        "Zephyrine,Quillwort,,zq.canary@example.com,Tacoma,WA,98402\n"
        "Zephyrine,Quillwort,206-555-0111,other@example.com,Spokane,WA,99201\n"
    )
    async with selling(tmp_path, file=file) as (gate, _, toml):
        agent, token = await gate.agent(5_000_000)
        question = {"name": CANARY.name, "state_code": "WA"}
        before = await gate.ask("enrich/person", question, token=token)
        assert (before.json["matched"], before.json["metadata"]["reason"]) == (False, "ambiguous")
        await operator(tmp_path, "subject", "suppress", "--phone", CANARY.phone, toml=toml)
        await gate.gateway.subjects.read()
        after = await gate.ask("enrich/person", question, token=token)
        assert [each["number"] for each in after.json["data"]["people"][0]["phones"]] == ["+12065550111"]
        assert (await gate.balance(agent)).available == 4_500_000


def test_firms_are_told_without_her():
    """An officer is known where the firm is; a firm that has her number is she."""
    source, lee = Source("gleif", "gleif#1"), Officer("Lee Sample", Source("gleif", "gleif#1"))
    hides = Suppressed(KEY, KEY.digests({"phone:12065550142", "name:quillwort zephyrine|seattle,wa"})).hides
    seattle = (Address(0.9, (source,), city="Seattle", state="WA"),)
    officers = (Officer(CANARY.name, source), lee, Officer("Z Q", source, phone=CANARY.phone))
    firm = Firm(source, "Example Bakery LLC", addresses=seattle, officers=officers)
    hers = Firm(source, "Hers", phones=(Phone(CANARY.phone, 0.9, (source,)),))
    named = Firm(source, CANARY.name, addresses=seattle)
    left = firms.without(Firms((firm, hers, named)), hides)
    assert left.firms == (replace(firm, officers=(lee,)),)
    assert firms.without(Firms((replace(firm, officers=(lee,)),)), hides).firms == left.firms


async def test_every_answer_about_people_has_the_operators_notice(tmp_path):
    async with selling(tmp_path, file=FILE) as (gate, _, _toml):
        _, token = await gate.agent(5_000_000)
        found = await gate.ask("enrich/phone", {"phone": LEE.phone}, token=token)
        missed = await gate.ask("enrich/phone", {"phone": "+12065550199"}, token=token)
        for answer in (found, missed):
            assert answer.json["metadata"]["notice"].startswith("Not a consumer report")
    own = tmp_path / "own"
    own.mkdir()
    async with selling(own, file=FILE, cache='[subjects]\nnotice = "Ask first."\n') as (gate, _, _toml):
        _, token = await gate.agent(5_000_000)
        assert (await gate.ask("enrich/phone", {"phone": LEE.phone}, token=token)).json["metadata"][
            "notice"
        ] == "Ask first."


# Who was told


async def test_who_was_told_about_whom_is_known_without_naming_anybody(tmp_path):
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script |= {
            "both": telling(CANARY.person, LEE.person), "lee": telling(LEE.person), "nobody": miss, "broken": failure,
        }  # fmt: skip
        one, token = await gate.agent(5_000_000)
        two, other = await gate.agent(5_000_000)
        for word, bearer in (("both", token), ("lee", other), ("nobody", token), ("broken", token), ("both", other)):
            await gate.call(word, token=bearer)
        await submitted_and_done(gate, "lee", token)

        async def who(*options: str) -> list[tuple[str, str, str]]:
            said = await operator(tmp_path, "subject", "accesses", *options, "--json", toml=SETTINGS)
            rows = [orjson.loads(line) for line in said.splitlines() if line.startswith("{")]
            return [(row["party"], row["operation"], row["people"]) for row in rows]

        hers = [(two, "test/alpha", "2"), (one, "test/alpha", "2")]
        assert await who("--phone", "206-555-0142") == hers
        assert await who("--email", CANARY.email) == hers
        assert await who("--name", CANARY.name, "--city", "Seattle", "--state", "WA") == hers
        assert await who("--phone", "+12065550199") == []
        assert len(await who()) == 4
        assert await who("--phone", LEE.phone) == [
            (one, "test/metered", "1"), (two, "test/alpha", "2"), (two, "test/alpha", "1"), (one, "test/alpha", "2"),
        ]  # fmt: skip


async def submitted_and_done(gate: Gate, word: str, token: str) -> Any:
    return await poll(gate, await submit(gate, word, token))


async def test_what_was_told_is_forgotten_after_its_time(tmp_path):
    clock = Clock()
    async with Gate.open(tmp_path, clock=clock, toml="[subjects]\naccess_log_days = 30\n") as gate:
        gate.upstream.script |= {"lee": telling(LEE.person)}
        _, token = await gate.agent(5_000_000)
        await gate.call("lee", token=token)
        clock.now += 29 * DAY_MS / 1000
        await gate.gateway.recovery.once()
        assert len(await gate.gateway.db.read(subjects.accesses)) == 1
        clock.now += DAY_MS / 1000
        await gate.gateway.recovery.once()
        assert await gate.gateway.db.read(subjects.accesses) == []


# Answers that are given again

WEEK = "[cache]\nttl_hours = 168\n"


def cached_upstream(**more: Any) -> Scripted:
    return Scripted(cacheable=True, **more)


async def test_the_same_question_of_the_same_agent_is_answered_again_and_asks_nobody(tmp_path):
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=WEEK) as gate:
        agent, token = await gate.agent(5_000_000)
        first, again = await gate.call("hello", token=token), await gate.call("hello", token=token)
        assert (first.json["cache_hit"], again.json["cache_hit"]) == (False, True)
        assert again.json["data"] == first.json["data"] == {"found": FOUND}
        assert again.json["metadata"] == first.json["metadata"]
        assert (again.json["matched"], again.json["billed"]) == (True, True)
        assert again.json["billing"]["charged_usd"] == "0.330", "billed as a match"
        assert gate.upstream.runs("hello") == 1
        assert (await gate.balance(agent)).available == 5_000_000 - 2 * PRICE
        one, two = await gate.charges()
        (bought,) = await gate.gateway.db.read(vendor_calls.of_charge, one.charge.id)
        (kept,) = await gate.gateway.db.read(vendor_calls.of_charge, two.charge.id)
        assert (bought.cached, bought.cost_micros, one.cost_micros) == (False, 200, 200)
        assert (kept.cached, kept.cost_micros, two.cost_micros) == (True, 0, 0)
        assert kept.provider == bought.provider


async def test_it_is_given_to_nobody_else(tmp_path):
    """Not to another agent, not for another operation or question, and an agent's keys are the agent."""
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=WEEK) as gate:
        _, token = await gate.agent(5_000_000)
        _, other = await gate.agent(5_000_000)
        for word, bearer, operation, hit in (
            ("hello", token, "test/alpha", False), ("hello", other, "test/alpha", False),
            ("hello", token, "test/beta", False), ("world", token, "test/alpha", False),
            ("hello", token, "test/alpha", True), ("hello", other, "test/alpha", True),
        ):  # fmt: skip
            told = await gate.call(word, token=bearer, operation=operation)
            assert told.json["cache_hit"] is hit, (word, operation)
        assert (await gate.pay("hello", key=0)).json["cache_hit"] is False
        assert (await gate.pay("hello", key=1)).json["cache_hit"] is False
        signed = await gate.pay("hello", key=0)
        assert (signed.json["cache_hit"], signed.json["billing"]["charged_usd"]) == (True, "0.330")
        assert gate.upstream.runs("hello") == 5


async def test_where_the_operator_shares_it_is_given_to_others_too(tmp_path):
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=WEEK + "shared = true\n") as gate:
        _, token = await gate.agent(5_000_000)
        agent, other = await gate.agent(5_000_000)
        await gate.call("hello", token=token)
        told = await gate.call("hello", token=other)
        assert (told.json["cache_hit"], told.json["billed"]) == (True, True)
        assert gate.upstream.runs("hello") == 1
        assert (await gate.balance(agent)).available == 5_000_000 - PRICE


@pytest.mark.parametrize("cacheable", [True, False])
async def test_without_a_time_and_for_what_changes_something_nothing_is_kept(tmp_path, cacheable):
    async with Gate.open(tmp_path, upstream=Scripted(cacheable=cacheable), toml="" if cacheable else WEEK) as gate:
        _, token = await gate.agent(5_000_000)
        for _ in range(2):
            assert (await gate.call("hello", token=token)).json["cache_hit"] is False
        assert gate.upstream.runs("hello") == 2
        assert await gate.gateway.db.read(lambda tx: tx.execute("SELECT * FROM answers")) == []


async def test_it_is_fresh_for_its_time_and_gone_after(tmp_path):
    clock = Clock()
    async with Gate.open(tmp_path, upstream=cached_upstream(), clock=clock, toml="[cache]\nttl_hours = 2\n") as gate:
        _, token = await gate.agent(5_000_000)
        await gate.call("hello", token=token)
        clock.now += 7199
        assert (await gate.call("hello", token=token)).json["cache_hit"] is True
        clock.now += 1
        assert (await gate.call("hello", token=token)).json["cache_hit"] is False, "giving it again does not renew it"
        clock.now += 7200
        await gate.gateway.recovery.once()
        assert await gate.gateway.db.read(lambda tx: tx.execute("SELECT * FROM answers")) == []


async def test_misses_and_failures_are_asked_again(tmp_path):
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=WEEK) as gate:
        gate.upstream.script |= {"nobody": miss, "broken": failure}
        _, token = await gate.agent(5_000_000)
        for word in ("nobody", "broken"):
            for _ in range(2):
                await gate.call(word, token=token)
            assert gate.upstream.runs(word) == 2


@pytest.mark.parametrize(("percent", "charged"), [(25, "0.2475"), (100, "0.000")])
async def test_the_operators_discount_is_for_balances_and_ceilings(tmp_path, percent, charged):
    """By `exact` all that was signed is taken."""
    toml = f"{WEEK}discount_percent = {percent}\n"
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=toml) as gate:
        agent, token = await gate.agent(5_000_000)
        await gate.call("hello", token=token)
        again = await gate.call("hello", token=token)
        assert (again.json["billing"]["charged_usd"], again.json["matched"]) == (charged, True)
        left = 5_000_000 - PRICE - (PRICE - PRICE * percent // 100)
        assert (await gate.balance(agent)).available == left
        await gate.pay("hello", key=0)
        assert (await gate.pay("hello", key=0)).json["billing"]["charged_usd"] == "0.330"


async def test_what_is_billed_by_its_cost_has_cost_nothing_the_second_time(tmp_path):
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=WEEK) as gate:
        gate.upstream.script |= {"dear": telling(LEE.person, cost=800_000)}
        _, token = await gate.agent(9_000_000)
        first = await gate.call("dear", operation="test/metered", token=token)
        again = await gate.call("dear", operation="test/metered", token=token)
        job = await submitted_and_done(gate, "dear", token)
        assert first.json["billing"]["charged_usd"] == "1.200"
        assert (again.json["cache_hit"], again.json["billing"]["charged_usd"]) == (True, "0.100")
        assert (job["result"]["cache_hit"], job["billing"]["charged_usd"]) == (True, "0.100")
        assert gate.upstream.runs("dear") == 1


async def test_of_many_at_once_one_is_worked_on_and_each_is_charged(tmp_path):
    """And where that one fails, the next takes its place: nobody gets another's failure."""
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=WEEK) as gate:
        go, failures = asyncio.Event(), [failure, failure]

        async def once(context: Context) -> Outcome:
            await go.wait()
            return await (failures.pop() if failures else match)(context)

        gate.upstream.script |= {"hello": once}
        agent, token = await gate.agent(9_000_000)
        calls = [asyncio.create_task(gate.call("hello", token=token)) for _ in range(10)]

        async def all_held() -> bool:
            return len([view for view in await gate.charges() if view.charge.state is State.HELD]) == 10

        await eventually(all_held)
        go.set()
        told = await asyncio.gather(*calls)
        assert sorted(each.status for each in told) == [200] * 8 + [502] * 2
        assert gate.upstream.runs("hello") == 3
        assert sorted(each.json["cache_hit"] for each in told if each.status == 200) == [False] + [True] * 7
        assert (await gate.balance(agent)).available == 9_000_000 - 8 * PRICE


async def test_whoever_has_waited_for_another_has_no_more_time_than_any_call(tmp_path):
    """Else its charge would be given up by then, and its vendor be paid for nobody."""
    clock = Clock()
    async with Gate.open(tmp_path, upstream=cached_upstream(), clock=clock, toml=WEEK) as gate:
        go = asyncio.Event()

        async def in_vain(context: Context) -> Outcome:
            await go.wait()
            clock.now += gate.upstream.timeout_s
            return NoMatch(cost_micros=1_000)

        gate.upstream.script |= {"hello": in_vain}
        agent, token = await gate.agent(9_000_000)
        calls = [asyncio.create_task(gate.call("hello", token=token)) for _ in range(3)]

        async def all_held() -> bool:
            return len([view for view in await gate.charges() if view.charge.state is State.HELD]) == 3

        await eventually(all_held)
        go.set()
        told = await asyncio.gather(*calls)
        assert sorted(each.status for each in told) == [200, 504, 504]
        assert gate.upstream.runs("hello") == 1
        assert sorted(view.cost_micros for view in await gate.charges()) == [0, 0, 1_000]
        assert (await gate.balance(agent)).available == 9_000_000


async def test_suppressed_and_erased_people_are_not_in_it(tmp_path):
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=WEEK) as gate:
        gate.upstream.script |= {"both": telling(CANARY.person, LEE.person), "lee": telling(LEE.person)}
        _, token = await gate.agent(5_000_000)
        await gate.call("both", token=token)
        await gate.call("lee", token=token)
        # In the moment before its answers are gone from it, too.
        await suppressed_unheard(gate, "email:" + CANARY.email)
        raced = await gate.call("both", token=token)
        assert (raced.json["cache_hit"], raced.json["billed"]) == (True, False)
        assert raced.json["data"] == {"people": [LEE.person]}
        await operator(tmp_path, "subject", "suppress", *CANARY.options, toml=SETTINGS)
        kept = await gate.gateway.db.read(lambda tx: tx.execute("SELECT body FROM answers"))
        assert [BYTES.search(body) for (body,) in kept] == [None]
        assert (await gate.call("lee", token=token)).json["cache_hit"] is True
        gate.upstream.script |= {"both": telling(LEE.person)}
        fresh = await gate.call("both", token=token)
        assert (fresh.json["cache_hit"], fresh.json["billed"]) == (False, True)


# Erased


async def plant(gate: Gate, token: str) -> dict[str, Any]:
    """Her, wherever a customer can put her: asked for, found, in words of tickets, keys and addresses."""
    callback = {"callback_url": f"https://example.com/hook?who={CANARY.phone}"}
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    job_body = {"route": "test/metered", "payload": {"word": CANARY.phone}, "bill_up_to_usd": "1.50"}
    broken = {**job_body, "payload": {"word": f"broken {CANARY.phone}"}}
    gate.upstream.script |= {
        CANARY.phone: telling(CANARY.person), "both": telling(CANARY.person, LEE.person), "lee": telling(LEE.person),
        f"broken {CANARY.phone}": failure,
    }  # fmt: skip
    keyed = await gate.call(CANARY.phone, token=token, headers={"Idempotency-Key": "zephyrine-quillwort-1"})
    both = await gate.call("both", token=token)
    lee = await gate.call("lee", token=token)
    payment = await gate.sign()
    payment["resource"] = {"url": f"{gate.url}/api/v1/test/alpha?phone=2065550142&name=Zephyrine"}
    payment["extensions"]["crm"] = {"lead": CANARY.name}
    signed = await gate.call("both", payment=payment)
    assert signed.status == 200
    job = await gate.send("POST", JOBS, headers=sent, body=orjson.dumps(job_body | callback))
    failed = await gate.send("POST", JOBS, headers={**sent, "Idempotency-Key": "for 2065550142"},
                             body=orjson.dumps(broken))  # fmt: skip
    assert (await poll(gate, job))["status"] == "completed"
    assert (await poll(gate, failed))["status"] == "failed"
    return {"keyed": keyed, "both": both, "lee": lee, "signed": signed, "job": job}


async def test_f173_erased_she_is_in_no_file_and_the_books_are_exact(tmp_path):
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=WEEK) as gate:
        agent, token = await gate.agent(9_000_000)
        made = await plant(gate, token)
        before = await _money(gate)
        assert left_in(tmp_path) != [], "there is something to be erased"
        shown = await operator(tmp_path, "subject", "export", *CANARY.options, toml=SETTINGS)
        found = {(row["table"], row["column"]) for row in map(orjson.loads, shown.splitlines())}
        assert found == {
            ("results", "body"), ("answers", "body"), ("retries", "payload"), ("idempotency_keys", "key"),
            ("jobs", "callback_url"), ("jobs", "idempotency_key"), ("webhooks", "url"),
        }  # fmt: skip
        said = await operator(tmp_path, "subject", "erase", *CANARY.options, "--yes", toml=SETTINGS)
        assert BYTES.search(said.encode()) is None
        assert left_in(tmp_path) == []
        assert await _money(gate) == before
        # Whoever bought her hears why it is gone; whoever bought somebody else has it.
        sent = {"Authorization": f"Bearer {token}"}
        told = (await gate.send("GET", f"/api/v1/charges/{_charge(made['both'])}", headers=sent)).json
        assert (told["result"], told["erased"], told["charged_usd"]) == (None, True, "0.330")
        assert (await gate.send("GET", f"/api/v1/charges/{_charge(made['lee'])}", headers=sent)).json["result"]
        polled = await poll(gate, made["job"])
        assert (polled["result"], polled["error"]["code"]) == (None, "RESULT_ERASED")
        refused = await gate.call(CANARY.phone, token=token, headers={"Idempotency-Key": "zephyrine-quillwort-1"})
        assert refused.status == 403
        await operator(tmp_path, "audit", toml=SETTINGS)
        assert (await operator(tmp_path, "subject", "export", *CANARY.options, toml=SETTINGS)).startswith("Nothing")
        assert (await gate.balance(agent)).held == 0
    assert left_in(tmp_path) == []


async def _money(gate: Gate) -> Any:
    def look(tx: Any) -> Any:
        return (
            tx.execute("SELECT * FROM transfers ORDER BY seq"),
            tx.execute("SELECT * FROM accounts ORDER BY name"),
            tx.execute("SELECT id, state, captured_micros, cost_micros FROM charges ORDER BY id"),
            tx.execute("SELECT * FROM vendor_calls ORDER BY id"),
        )

    return await gate.gateway.db.read(look)


def _charge(answer: Reply) -> str:
    return str(answer.json["billing"]["charge_id"])


async def test_f173_a_repeat_of_what_was_erased_is_told_so(tmp_path):
    """By key and by payment: a result that another answer's words had hidden her in."""
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script |= {"both": telling(CANARY.person, LEE.person)}
        _, token = await gate.agent(9_000_000)
        keyed = {"Idempotency-Key": "k"}
        await gate.call("both", token=token, headers=keyed)
        payment = await gate.sign()
        await gate.call("both", payment=payment)
        await operator(tmp_path, "subject", "erase", *CANARY.options, "--yes", toml=SETTINGS)
        for again in (
            await gate.call("both", token=token, headers=keyed), await gate.call("both", payment=payment),
        ):  # fmt: skip
            assert (again.status, again.json["code"]) == (410, "RESULT_ERASED")
        assert gate.upstream.runs("both") == 2


async def test_f173_jobs_that_ask_about_her_end_and_leave_nothing(tmp_path):
    """A queued one at once; a running one is asked to stop, and what it holds is gone with it."""
    async with Gate.open(tmp_path, toml="[jobs]\nat_once = 1\nlease_s = 1\n") as gate:

        async def hang(context: Context) -> Outcome:
            await asyncio.Event().wait()
            raise AssertionError

        gate.upstream.script |= {f"1 {CANARY.phone}": hang, f"2 {CANARY.phone}": hang}
        agent, token = await gate.agent(9_000_000)
        running = await submit(gate, f"1 {CANARY.phone}", token)
        await eventually(lambda: _runs(gate, f"1 {CANARY.phone}", 1))
        queued = await submit(gate, f"2 {CANARY.phone}", token)
        said = await operator(tmp_path, "subject", "erase", *CANARY.options, "--yes", toml=SETTINGS, status=4)
        assert running.json["job_id"] in said
        assert queued.json["job_id"] not in said
        for job in (queued, running):
            assert (await poll(gate, job))["status"] == "cancelled"
        await operator(tmp_path, "subject", "erase", *CANARY.options, "--yes", toml=SETTINGS)
        assert left_in(tmp_path) == []
        assert (await gate.balance(agent)).available == 9_000_000


async def test_f173_a_vendors_raw_answers_go_and_so_do_tickets_and_leads(tmp_path):
    toml = "[support]\nenabled = true\n"
    async with selling(tmp_path, file=FILE, cache=toml) as (gate, _, settings):
        agent, token = await gate.agent(9_000_000)
        words = {"category": "bug", "subject": "Zephyrine Quillwort is wrong", "body": "Her number is 206 555 0142."}
        ticket = await gate.ask("support/tickets", words, token=token)
        ticket_id = ticket.json["data"]["ticket_id"]
        await operator(tmp_path, "tickets", "answer", ticket_id, "Zephyrine Quillwort it is",
                       toml=settings)  # fmt: skip
        await gate.ask("enrich/phone", {"phone": CANARY.phone}, token=token)
        assert left_in(tmp_path) != []
        money = await _money(gate)
        said = await operator(tmp_path, "subject", "erase", *CANARY.options, "--yes", toml=settings)
        assert "1  rows of the directory" in said
        assert left_in(tmp_path) == []
        assert await _money(gate) == money
        kept = await gate.gateway.db.read(tickets.find, ticket_id)
        assert kept is not None
        assert (kept.subject, kept.body, kept.answers[0].body) == ("[erased]",) * 3
        # The directory goes on with everybody else, in the gateway that has it open.
        lee = await gate.ask("enrich/phone", {"phone": LEE.phone}, token=token)
        assert lee.json["data"]["people"][0]["name"] == "Lee Sample"
        named = await gate.ask("enrich/person", {"name": "Lee Sample", "city": "Seattle", "state": "WA"}, token=token)
        assert named.json["matched"]
        assert (await gate.balance(agent)).held == 0


async def test_f173_rows_that_an_earlier_load_had_brought_leave_the_directorys_file(tmp_path):
    """More of them than are loaded in their place: pages of theirs are free, and nobody has written over them."""
    many = FILE + "".join(f"Zephyrine,Quillwort{n},,,{n} Imagined Ct,Seattle,WA,98101\n" for n in range(2_000))
    async with selling(tmp_path, file=many) as (gate, _, toml):
        (tmp_path / "people.csv").write_text("\n".join(line for line in FILE.split("\n") if "Zeph" not in line))
        loading.load(tmp_path / "people.csv", tmp_path / "directory.db", progress=lambda done, total: None)
        assert left_in(tmp_path) != []
        await operator(tmp_path, "subject", "erase", *CANARY.options, "--yes", toml=toml)
        assert left_in(tmp_path) == []
        _, token = await gate.agent(5_000_000)
        assert (await gate.ask("enrich/phone", {"phone": LEE.phone}, token=token)).json["matched"]


async def test_f173_when_their_time_is_over_results_are_in_no_file(tmp_path):
    """Retention alone, by the clock, with nothing erased: rows, free pages, the log that is written ahead."""
    clock = Clock()
    async with Gate.open(tmp_path, upstream=cached_upstream(), toml=WEEK, clock=clock) as gate:
        _, token = await gate.agent(9_000_000)
        await plant(gate, token)
        await gate.gateway.db.write(
            lambda tx: tx.execute("UPDATE idempotency_keys SET key = 'k' || charge_id")
        )  # a client's own words for a call stay as long as the call is known
        assert left_in(tmp_path) != []

        async def told() -> bool:
            clock.now += DAY_MS / 1000  # the callback is tried until it is given up
            ended = await gate.gateway.db.read(lambda tx: tx.execute("SELECT state FROM webhooks"))
            return ended == [("failed",)]

        await eventually(told)
        clock.now += outbox.KEPT_MS / 1000 + 1
        await gate.gateway.recovery.once()
        await gate.gateway.db.write(outbox.forget)

        async def gone() -> bool:
            return left_in(tmp_path) == []  # the writer has been idle

        await eventually(gone)


async def test_f172_nothing_of_erasing_is_told_to_the_log(tmp_path, capfd):
    async with selling(tmp_path, file=FILE) as (gate, _, toml):
        _, token = await gate.agent(9_000_000)
        await gate.ask("enrich/phone", {"phone": CANARY.phone}, token=token)
        await operator(tmp_path, "subject", "erase", *CANARY.options, "--yes", toml=toml)
        await gate.ask("enrich/phone", {"phone": CANARY.phone}, token=token)
        page = await gate.send("GET", "/metrics")
    said = capfd.readouterr()
    assert BYTES.search((said.out + said.err).encode() + page.body) is None


def test_every_column_that_could_hold_a_person_is_named():
    """A table that comes later is named in store/erasing.py or here."""
    connection = apsw.Connection(":memory:")
    migrate(connection, read_migrations(), 0)
    found: dict[str, set[str]] = {}
    for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
            if kind in ("TEXT", "BLOB"):
                found.setdefault(table, set()).add(name)
    for place in PLACES:
        found[place.table].remove(place.column)
    assert {table: names for table, names in found.items() if names} == {
        table: set(names.split()) for table, names in IMPERSONAL.items()
    }


IMPERSONAL = {
    "accesses": "charge_id digests",
    "accounts": "name",
    "actions": "action subject",
    "agents": "id status",
    "allowances": "address network signature nonce",
    "answers": "question charge_id hop",
    "attempt_settlements": "network key settlement_id",
    "attempts": "network key hash raw max_fee_per_gas",
    "charge_tokens": "hash charge_id",
    "charges": "id operation party source asset state reason request_id request_hash agent_id identity payer owner"
    " resold_by key_id topup_id",
    "closed_nonces": "network key mined_hash",
    "credits": "id agent_id kind",
    "deposit_cursors": "network address",
    "deposit_sums": "party",
    "deposits": "id source state party network token sender amount_atomic transaction_hash block_hash settlement_id",
    "idempotency_keys": "scope fingerprint charge_id",
    "job_hops": "job_id",
    "job_tokens": "hash job_id",
    "jobs": "id operation charge_id party agent_id request_id resells state phase error_code error lease_owner"
    " retry_of",
    "key_days": "key_id",
    "leads": "agent_id digest",
    "linked_senders": "address network",
    "migrations": "name",
    "movements": "party",
    "nonce_key": "key",
    "payments": "identity state charge_id payer network token pay_to amount_atomic payment_hash",
    "proofs": "network transaction_hash settlement_id kind amount_atomic",
    "refunds": "id charge_id",
    "registrations": "address network counts_on credit_id withheld",
    "results": "charge_id",
    "retries": "job_id",
    "session_turns": "charge_id session_id",
    "sessions": "id agent_id key_id operation subject working",
    "settlements": "id purpose subject identity amount_atomic state reason",
    "suppressed": "digest suppression_id",
    "suppressions": "id kind hint",
    "ticket_answers": "ticket_id",
    "tickets": "id charge_id party agent_id category state credit_id",
    "tokens": "id agent_id kind hash hint key_id",
    "transfers": "kind debit credit charge_id settlement_id deposit_id",
    "usage_keys": "id agent_id scopes cap_period",
    "used_nonces": "nonce",
    "vendor_calls": "charge_id hop provider outcome error",
    "wallet_recoveries": "id_hash agent_id address deposit_id token_id",
    "wallets": "address network agent_id role",
    "webhook_secrets": "owner secret",
    "webhooks": "id event_type owner subject host state last_error lease_owner",
}
"""Ids, hashes, states, addresses on chains, words of ours."""
