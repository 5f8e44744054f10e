"""The people in lead sessions and in web research: suppressed, told of, erased. F-172, F-173."""

from typing import Any

import orjson
import pytest
from rigs.gate import Reply
from rigs.panes import HUNT, HUNTS, LEAD, Town
from rigs.person import BYTES, CANARY, left_in, operator
from rigs.running import eventually
from rigs.upstream import reply

from gateway.store import sessions, subjects, vendor_calls
from upstreams.leads.query import LeadQuery


def shown(answer: Reply) -> list[bytes]:
    return BYTES.findall(answer.body)


NAMED = ("--name", CANARY.name, "--city", "Seattle", "--state", "WA")
BY = pytest.mark.parametrize("options", [NAMED, ("--phone", CANARY.phone), ("--email", CANARY.email), CANARY.options])


@BY
async def test_suppressed_between_two_turns_she_is_told_no_more_by_this_session_or_another(tmp_path, options):
    async with Town.open(tmp_path) as town:
        agent, token = await town.gate.agent(20_000_000)
        session = await town.two_turns(token)
        before = (await town.gate.balance(agent)).available
        bought = len(town.up.seen)
        await town.operator("suppress", *options)
        on = await town.lead(token, mode="interactive", chat_session_id=session)
        assert (on.status, shown(on)) == (200, []), on.json
        assert (on.json["matched"], on.json["billed"]) == (False, False)
        assert (await town.gate.balance(agent)).available == before
        assert len(town.up.seen) == bought
        assert on.json["data"]["backfill"]["phones"], "what else it had found is there"
        if options in (NAMED, CANARY.options):
            again, web = await town.lead(token), await town.web(token)
            assert (shown(again), shown(web)) == ([], [])
            assert web.json["matched"]
            assert [each["name"] for each in web.json["data"]["people"]] == ["Lee Sample"]
            job = await town.ended(await town.job(token, {"lead": LEAD, "refresh": True}))
            assert job["status"] == "completed"
            assert BYTES.search(orjson.dumps(job)) is None


async def test_what_was_sold_of_her_before_is_told_without_her(tmp_path):
    """By a repeat and by its charge: the graph, the words it quotes and its summary."""
    async with Town.open(tmp_path) as town:
        _, token = await town.gate.agent(20_000_000)
        keyed = {"Idempotency-Key": "k1"}
        first = await town.gate.ask("enrich/lead-session", {"lead": LEAD}, token=token, **keyed)
        web = await town.web(token)
        assert (bool(shown(first)), bool(shown(web))) == (True, True)
        await town.operator("suppress", *NAMED)
        sent = {"Authorization": f"Bearer {token}"}
        for sold in (first, web):
            told = await town.gate.send("GET", f"/api/v1/charges/{sold.json['billing']['charge_id']}", headers=sent)
            assert told.status == 200
            assert b"Zephyrine" not in told.body
            assert told.json["charged_usd"] == sold.json["billing"]["charged_usd"]
        again = await town.gate.ask("enrich/lead-session", {"lead": LEAD}, token=token, **keyed)
        assert (again.status, again.json["matched"]) == (200, True)
        assert b"Quillwort" not in again.body


@pytest.mark.parametrize("by", ["name:quillwort zephyrine|seattle,wa", "phone:12065550142"])
async def test_suppressed_while_a_session_is_worked_on_its_end_is_a_miss_that_keeps_nothing_of_her(tmp_path, by):
    """In the transaction that would have charged, before this gateway has heard of it."""
    async with Town.open(tmp_path) as town:
        agent, token = await town.gate.agent(20_000_000)
        key = town.gate.gateway.subjects.key

        async def now(request: Any, wire: Any) -> None:
            if not await town.gate.gateway.db.read(subjects.listing):
                entry = subjects.Suppression("sup_1", subjects.Kind.NAME, "...", "", key.id, 0)
                await town.gate.gateway.db.write(subjects.suppress, entry, key.digests([by]))
            await reply({"results": [CANARY.vendor]})(request, wire)

        town.up.default = now
        raced = await town.lead(token)
        assert (raced.status, raced.json["matched"], raced.json["billed"]) == (200, False, False), raced.json
        assert (await town.gate.balance(agent)).available == 20_000_000
        if by.startswith("name:"):
            assert b"Zephyrine" not in raced.body
        else:
            assert b"5550142" not in raced.body
        (row,) = await turns(town.gate.gateway.db)
        assert row == (0, b"")
        await town.gate.gateway.subjects.read()
        session = raced.json["data"]["chat_session_id"]
        on = await town.lead(token, chat_session_id=session)
        assert (on.status, on.json["matched"], on.json["billed"]) == (200, True, True), on.json
        # Suppressed by her number alone she is nobody to a page that names her without one.
        assert [word for word in shown(on) if by.startswith("name:") or b"0142" in word] == []


async def turns(db: Any) -> Any:
    return await db.read(lambda tx: tx.execute("SELECT cost_micros, state FROM session_turns ORDER BY charge_id"))


async def test_who_was_told_of_her_by_a_session_or_the_web_is_known(tmp_path):
    async with Town.open(tmp_path) as town:
        _, token = await town.gate.agent(20_000_000)
        await town.two_turns(token)
        await town.web(token)

        async def told(*options: str) -> list[str]:
            said = await town.operator("accesses", *options, "--json")
            return sorted(orjson.loads(line)["operation"] for line in said.splitlines() if line.startswith("{"))

        session, web = "enrich/lead-session", "enrich/websearch"
        assert await told(*NAMED) == [session, session, web]
        assert await told("--phone", CANARY.phone) == [session]
        assert await told("--name", CANARY.name, "--city", "Boston", "--state", "MA") == []


# Erased


async def money(db: Any) -> Any:
    return await db.read(
        lambda tx: (
            tx.execute("SELECT * FROM transfers ORDER BY seq"),
            tx.execute("SELECT * FROM accounts ORDER BY name"),
            tx.execute("SELECT id, state, captured_micros, cost_micros FROM charges ORDER BY id"),
            tx.execute("SELECT * FROM vendor_calls ORDER BY id"),
        )
    )


async def test_f173_erased_she_is_in_no_file_and_the_session_begins_anew(tmp_path, capfd):
    """A session of two turns, one as a job, a web research, and the cache: no table, no file and no log has her."""
    async with Town.open(tmp_path, toml="[cache]\nttl_hours = 168\n") as town:
        agent, token = await town.gate.agent(20_000_000)
        session = await town.two_turns(token)
        job = await town.job(token, {"lead": LEAD, "refresh": True})
        assert CANARY.phone in orjson.dumps(await town.ended(job)).decode()
        assert shown(await town.web(token))
        assert shown(await town.gate.ask("enrich/phone", {"phone": CANARY.phone}, token=token))
        assert left_in(tmp_path) != []
        kept = await town.operator("export", *CANARY.options)
        places = {(row["table"], row["column"]) for row in map(orjson.loads, kept.splitlines())}
        assert {("results", "body"), ("session_turns", "state"), ("answers", "body")} <= places
        books, balance = await money(town.gate.gateway.db), await town.gate.balance(agent)
        said = await town.operator("erase", *CANARY.options, "--yes")
        assert "session_turns" in said
        assert left_in(tmp_path) == []
        assert await money(town.gate.gateway.db) == books
        assert await town.gate.balance(agent) == balance
        assert (await town.operator("export", *CANARY.options)).startswith("Nothing")
        polled = await town.ended(job)
        assert (polled["result"], polled["error"]["code"]) == (None, "RESULT_ERASED")
        # What is left of the session is what was paid: it goes on, without her, and what is bought again is covered.
        on = await town.lead(token, mode="interactive", chat_session_id=session)
        assert (on.status, shown(on)) == (200, []), on.json
        assert (on.json["matched"], on.json["billed"]) == (True, False)
        assert (await town.gate.balance(agent)).available == balance.available
        await operator(tmp_path, "audit", toml=town.toml)
        page = await town.gate.send("GET", "/metrics")
    assert left_in(tmp_path) == []
    logged = capfd.readouterr()
    assert BYTES.search((logged.out + logged.err).encode() + page.body) is None


async def test_what_an_erased_turn_had_cost_is_not_charged_twice(tmp_path):
    """Beyond the base: the first turn was dear and is gone, and what it had bought is bought once more."""
    async with Town.open(tmp_path, toml="") as town:
        agent, token = await town.gate.agent(20_000_000)
        session = await town.two_turns(token)
        dear = 2_000_000

        def spent(tx: Any) -> None:
            tx.execute("UPDATE session_turns SET cost_micros = :dear", {"dear": dear})

        await town.gate.gateway.db.write(spent)
        before = (await town.gate.balance(agent)).available
        await town.operator("erase", "--name", CANARY.name, "--zip", "98101", "--yes")
        assert {row for row in await turns(town.gate.gateway.db)} == {(0, b"")}
        on = await town.lead(token, chat_session_id=session)
        assert (on.status, on.json["matched"], on.json["billing"]["charged_usd"]) == (200, True, "0.000"), on.json
        assert (await town.gate.balance(agent)).available == before


async def test_f173_what_is_left_of_a_session_goes_on(tmp_path):
    """Her number came with the second turn: the first one knows nothing of it, and is where the third begins."""
    async with Town.open(tmp_path) as town:
        agent, token = await town.gate.agent(20_000_000)
        session = await town.two_turns(token)
        ((about,),) = await town.gate.gateway.db.read(lambda tx: tx.execute("SELECT subject FROM sessions"))
        assert about != LeadQuery.model_validate({"lead": LEAD}).session_subject, "keyed: nobody finds it out by trying"
        before = (await town.gate.balance(agent)).available
        await town.operator("erase", "--phone", CANARY.phone, "--yes")
        assert [bool(state) for _, state in await turns(town.gate.gateway.db)] == [True, False]
        on = await town.lead(token, mode="interactive", chat_session_id=session)
        assert (on.status, on.json["billed"], town.asked("/search")) == (200, False, 1), on.json
        assert b"0142" not in on.body
        assert "(206) 555-0150" in on.body.decode()
        assert (await town.gate.balance(agent)).available == before


async def test_f173_a_session_whose_time_is_over_is_in_no_file(tmp_path):
    """Retention alone: rows, free pages, the log that is written ahead."""
    moment = [1_800_000_000.0]
    async with Town.open(tmp_path, toml="[cache]\nttl_hours = 1\n", clock=lambda: moment[0]) as town:
        _, token = await town.gate.agent(20_000_000)
        await town.two_turns(token)
        job = await town.job(token, {"lead": LEAD, "refresh": True})
        assert (await town.ended(job))["status"] == "completed"
        await town.web(token)
        assert left_in(tmp_path) != []
        moment[0] += sessions.TTL_MS / 1000 + 1
        await town.gate.gateway.recovery.once()

        async def gone() -> bool:
            return left_in(tmp_path) == []  # the writer has been idle

        await eventually(gone)


async def test_what_a_job_has_bought_for_a_session_stands_in_the_books_once(tmp_path):
    """Each hop of its own, by no name of anybody; and the sum is what the work cost."""
    async with Town.open(tmp_path) as town:
        _, token = await town.gate.agent(20_000_000)
        told = await town.ended(await town.job(token, {"lead": LEAD}))
        assert told["status"] == "completed"
        asked = town.asked(HUNTS)
        (view,) = await town.gate.charges()
        calls = await town.gate.gateway.db.read(vendor_calls.of_charge, view.charge.id)
        assert asked >= 1
        assert [call.cost_micros for call in calls if call.provider == "whitepages"] == [HUNT] * asked
        assert view.cost_micros == HUNT * asked
        assert BYTES.search(repr(calls).encode()) is None
