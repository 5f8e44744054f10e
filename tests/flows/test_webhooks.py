"""Delivering, on real sockets and a real file: what receivers get, and what they cannot do to anybody else."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rigs import books, postman
from rigs.books import Clock
from rigs.postman import delivering, next_door, post, states
from rigs.targets import NAMES, RESOLVED, targets_at
from rigs.upstream import (
    Behaviour,
    ScriptedUpstream,
    Seen,
    Wire,
    bomb,
    drip,
    echo,
    endless,
    garbage,
    hang,
    hang_up,
    redirect,
    reply,
    reset,
    status,
)
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.core import webhook
from gateway.core.http import HttpClient
from gateway.edge import logs
from gateway.flows import webhooks as flow
from gateway.outbound import OutboundClient
from gateway.settings.tables import WebhooksTable
from gateway.store import outbox
from gateway.store.database import Database, StoreUnavailable
from gateway.store.outbox import Told
from gateway.store.sqlite import SqliteDatabase


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=status(204)) as up:
        yield up


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with next_door() as http:
        yield http


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    async with books.books(tmp_path / "l.db", lambda: time.time_ns() // 1_000_000) as db:
        yield db


def at(up: ScriptedUpstream, tenant: object, path: str = "/hook") -> str:
    """The url of one tenant's receiver: all hosts are this machine."""
    return up.url(path, host=f"t{tenant}.example.com")


async def arrived(up: ScriptedUpstream, count: int) -> None:
    async with asyncio.timeout(10):
        await up.arrived(count)


async def test_an_event_is_delivered_as_it_was_written(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient
) -> None:
    counted: list[str] = []
    (event,) = await post(db, at(up, 1, "/hook?of=me"))
    await delivering(db, http, told=counted.append).once()
    (seen,) = up.seen
    assert (seen.method, seen.target, seen.header("content-type")) == ("POST", "/hook?of=me", "application/json")
    found = await db.read(outbox.find, event)
    assert found is not None
    assert seen.body == found.body
    (secret,) = await db.read(outbox.secrets_of, "agt_1")
    assert Webhook(secret).verify(seen.body, dict(seen.headers))["event_id"] == event == seen.header("webhook-id")
    assert (found.state, found.attempts, found.last_status, found.last_error) == ("delivered", 1, 204, None)
    assert await db.read(outbox.of_subject, "ej_1") == Told(webhook.WebhookState.DELIVERED, 1)
    assert counted == ["delivered"]


async def test_f137_each_try_has_its_own_time_and_the_same_id_and_bytes(
    up: ScriptedUpstream, http: HttpClient, tmp_path: Path
) -> None:
    clock = Clock()
    async with books.books(tmp_path / "own.db", clock) as db:
        await post(db, at(up, 1))
        up.on("/hook", status(500), status(204))
        loop = delivering(db, http, clock=lambda: clock.ms / 1000)
        for _ in range(2):
            await loop.once()
            clock.ms += 100_000
    first, second = up.seen
    assert (first.header("webhook-id"), first.body) == (second.header("webhook-id"), second.body)
    assert int(second.header("webhook-timestamp") or 0) - int(first.header("webhook-timestamp") or 0) == 100
    assert first.header("webhook-signature") != second.header("webhook-signature")


# F-136


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_f136_a_redirect_is_a_failure_and_nothing_is_sent_on(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient, code: int
) -> None:
    async with ScriptedUpstream() as canary:
        up.on("/hook", redirect(canary.url("/stolen", host="canary.example.com"), code))
        (event,) = await post(db, at(up, 1))
        await delivering(db, http).once()
        assert canary.connections == 0
    found = await db.read(outbox.find, event)
    assert found is not None
    assert (found.state, found.last_status, found.last_error) == ("pending", code, "redirect")
    assert len(up.seen) == 1


# F-134, F-140: where it does not go


async def test_f134_no_target_that_is_not_public_is_ever_called(tmp_path: Path) -> None:
    """Targets that were taken before the rules were as they are, and names that resolve to what they should not."""
    clock = Clock()
    async with (
        ScriptedUpstream(host="127.0.0.1") as four,
        ScriptedUpstream(host="::1", port=four.port) as six,
        books.books(tmp_path / "own.db", clock) as db,
    ):
        literal = []
        for url in targets_at(four.port):
            try:
                literal += await post(db, url)
            except ValueError:
                assert webhook.refuse_callback(url, postman.ORIGIN, True) is not None
        async with OutboundClient() as client:
            await through(delivering(db, client, clock=lambda: clock.ms / 1000), clock)
        assert len(literal) >= 100
        assert set(await states(db, *literal)) == {"failed"}
        resolved = 0
        for address in RESOLVED:

            async def lookup(host: str, address: str = address) -> list[str]:
                return [address]

            named = await post(db, *(f"https://{name}:{four.port}/" for name in NAMES if "." in name))
            resolved += len(named)
            async with OutboundClient(lookup=lookup) as client:
                await through(delivering(db, client, terms={"tries": 1}, clock=lambda: clock.ms / 1000), clock)
            assert set(await states(db, *named)) == {"failed"}
        assert len(literal) + resolved >= 150
        assert four.connections == six.connections == 0


async def through(loop: flow.Webhooks, clock: Clock) -> None:
    """Everything that is due; where many have one host, that takes a few seconds of the clock."""
    for _ in range(4):
        await loop.once()
        clock.ms += 1_001


async def test_f140_our_own_address_is_no_target(up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient) -> None:
    (event,) = await post(db, up.url("/api/v1/enrich/jobs", host="api.example.com"))
    await delivering(db, http).once()
    found = await db.read(outbox.find, event)
    assert found is not None
    assert (found.state, found.last_error) == ("failed", "refused_url")
    assert up.connections == 0


async def test_https_only_unless_the_operator_allows_http(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient
) -> None:
    (event,) = await post(db, at(up, 1))
    await delivering(db, http, terms={"allow_http": False}).once()
    assert await states(db, event) == ["failed"]
    assert up.connections == 0


def crowded(crowd: list[int]) -> Behaviour:
    """Answers slowly, and writes down how many it answers at once."""
    inside = 0

    async def behave(request: Seen, wire: Wire) -> None:
        nonlocal inside
        inside += 1
        crowd.append(inside)
        await wire.wait(0.02)
        inside -= 1
        await status(204)(request, wire)

    return behave


async def test_f140_a_victim_of_many_tenants_is_spared(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient
) -> None:
    """At most two at once and ten in a second, whosever events they are and however many processes deliver."""
    crowd: list[int] = []
    up.on("/hook", crowded(crowd))
    for tenant in range(14):
        await post(db, at(up, "victim"), owner=f"agt_{tenant}")
    loops = [delivering(db, http, f"own_{n}_000000000000") for n in (1, 2)]
    began = time.monotonic()
    tasks = [asyncio.create_task(loop.run()) for loop in loops]
    await arrived(up, 14)
    assert time.monotonic() - began > 1.0, "fourteen take more than a second"
    await ended(tasks)
    assert max(crowd) <= flow.HOST_AT_ONCE
    assert len(up.seen) == 14


async def ended(tasks: list["asyncio.Task[None]"]) -> None:
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# F-139

HOSTILE = {
    "hang": (hang(), "timeout"),
    "drip": (drip(b" " * 100_000), "timeout"),
    "drip, head and all": (drip(b"{}" * 100, whole_head=False), "timeout"),
    "endless": (endless(), "too_large"),
    "endless, packed": (endless(packed=True), "too_large"),
    "bomb": (bomb(8 * 1024 * 1024), "too_large"),
    "one byte too many": (reply(body=b"x" * (flow.ANSWER_BYTES_MAX + 1)), "too_large"),
    "reset": (reset(), "protocol"),
    "hang up": (hang_up(), "protocol"),
    "garbage": (garbage(), "protocol"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_f139_a_bad_receiver_is_a_failed_try_within_its_time(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient, name: str
) -> None:
    behaviour, word = HOSTILE[name]
    up.on("/hook", behaviour)
    (event,) = await post(db, at(up, 1))
    began = time.monotonic()
    await delivering(db, http, terms={"timeout_s": 0.4}).once()
    assert time.monotonic() - began < 1.5
    found = await db.read(outbox.find, event)
    assert found is not None
    assert (found.state, found.attempts, found.last_error) == ("pending", 1, word)


@pytest.mark.parametrize(
    ("tenants", "within_s"), [(240, 6), pytest.param(1000, 20, marks=pytest.mark.full)], ids=["240", "1000"]
)
async def test_f139_half_of_the_receivers_hang_and_the_others_hear_in_time(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient, tenants: int, within_s: float
) -> None:
    """More hang than there are places. The others are told as if they were not there: nobody waits for their 15 s."""
    hostile = [hang(), drip(b" " * 100_000), hang(), endless()]
    up.on("/good", status(204))
    for n, behaviour in enumerate(hostile):
        up.on(f"/bad{n}", behaviour)
    urls = [at(up, n, "/good" if n % 2 else f"/bad{n // 2 % len(hostile)}") for n in range(tenants)]
    await post(db, *urls)
    loop = delivering(db, http)
    task = asyncio.create_task(loop.run())
    async with asyncio.timeout(within_s):
        while sum(seen.path == "/good" for seen in up.seen) < tenants // 2:
            await arrived(up, len(up.seen) + 1)
    assert {seen.target for seen in up.seen if seen.path != "/good"}, "the hostile ones were called as well"
    await ended([task])
    await loop.drain(0.1)
    assert await db.read(outbox.lease_owners) == []


# F-141


async def test_f141_over_the_whole_schedule_to_a_dead_letter_and_back(
    up: ScriptedUpstream, http: HttpClient, tmp_path: Path
) -> None:
    clock, counted = Clock(), []
    async with books.books(tmp_path / "own.db", clock) as db:
        up.on("/hook", status(503))
        (event,) = await post(db, at(up, 1))
        began_ms = clock.ms
        loop = delivering(db, http, clock=lambda: clock.ms / 1000, told=counted.append)
        for attempt, pause_s in enumerate(webhook.PAUSES_S, 1):
            await loop.once()
            found = await db.read(outbox.find, event)
            assert found is not None
            assert (found.state, found.attempts, len(up.seen)) == ("pending", attempt, attempt)
            assert pause_s * 800 <= found.next_attempt_ms - clock.ms <= pause_s * 1200
            clock.ms = found.next_attempt_ms - 1
            await loop.once()
            assert len(up.seen) == attempt, "not a moment before its time"
            clock.ms = found.next_attempt_ms
        await loop.once()
        assert await states(db, event) == ["failed"]
        assert 4 * 3_600_000 < clock.ms - began_ms < 7 * 3_600_000
        assert counted == ["retried"] * 4 + ["given_up"]
        clock.ms += 86_400_000
        await loop.once()
        assert len(up.seen) == 5
        up.on("/hook", status(200))
        await db.write(outbox.replay, event)
        await loop.once()
        assert await states(db, event) == ["delivered"]
    assert len({(seen.header("webhook-id"), seen.body) for seen in up.seen}) == 1


async def test_f141_jitter_is_in_the_schedule(up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient) -> None:
    up.on("/hook", status(500))
    events = await post(db, *(at(up, n) for n in range(12)))
    await delivering(db, http).once()
    found = [await db.read(outbox.find, event) for event in events]
    assert len({(each.next_attempt_ms - (each.tried_ms or 0)) // 100 for each in found if each}) > 6


async def test_f141_gone_is_given_up_at_once(up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient) -> None:
    up.on("/hook", status(410))
    events = await post(db, *[at(up, 1)] * 3)
    await delivering(db, http).once()
    assert await states(db, *events) == ["failed"] * 3
    assert len(up.seen) <= flow.HOST_AT_ONCE


@pytest.mark.parametrize("code", [400, 401, 404, 429, 500, 503])
async def test_f141_any_other_answer_is_tried_again(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient, code: int
) -> None:
    up.on("/hook", status(code))
    (event,) = await post(db, at(up, 1))
    await delivering(db, http).once()
    found = await db.read(outbox.find, event)
    assert found is not None
    assert (found.state, found.last_status, found.last_error) == ("pending", code, "status")


# F-142


async def test_f142_nothing_in_logs_and_no_tenants_secret_signs_for_another(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient
) -> None:
    """Every outcome, and a receiver that says back whatever it got."""
    said = io.StringIO()
    logs.configure("json", "debug", said)
    ways = {"ok": status(204), "echo": echo(code=500), "gone": status(410), "reset": reset(), "hang": hang()}
    for way, behaviour in ways.items():
        up.on(f"/{way}-canary", behaviour)
        await post(db, at(up, f"canary-{way}", f"/{way}-canary?key=canary"), owner=f"agt_{way}")
    await delivering(db, http, terms={"timeout_s": 0.3}).once()
    await asyncio.sleep(0)
    secrets = {way: (await db.read(outbox.secrets_of, f"agt_{way}"))[0] for way in ways}
    assert len(set(secrets.values())) == len(ways)
    assert len(up.seen) == len(ways)
    for seen in up.seen:
        mine = seen.path.removesuffix("-canary").strip("/")
        for way, secret in secrets.items():
            if way == mine:
                Webhook(secret).verify(seen.body, dict(seen.headers))
            else:
                with pytest.raises(WebhookVerificationError):
                    Webhook(secret).verify(seen.body, dict(seen.headers))
    told = said.getvalue()
    assert told.count("webhook_") >= len(ways)
    signatures = [str(seen.header("webhook-signature"))[3:] for seen in up.seen]
    for secret in (*secrets.values(), *signatures, "canary", "example.com", "charged_usd", "whsec"):
        assert secret not in told
    assert [line for line in told.splitlines() if '"level":"error"' in line] == []


def test_f142_the_event_has_room_for_ids_states_and_amounts_only() -> None:
    data = json.loads(webhook.job_event("evt_1", webhook.JOB_FAILED, 0, None, postman.TOLD))["data"]
    assert set(data) == {"job_id", "route", "status", "matched", "billed", "charged_usd", "result_url"}
    assert [value for value in data.values() if isinstance(value, dict | list)] == []


# the loop itself


async def test_an_owner_without_a_secret_has_no_event_delivered(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient
) -> None:
    (event,) = await post(db, at(up, 1))
    await db.write(outbox.retire_secret, "agt_1", 0)
    await delivering(db, http).once()
    found = await db.read(outbox.find, event)
    assert found is not None
    assert (found.state, found.last_error) == ("failed", "no_secret")
    assert up.seen == []


def test_the_secret_of_a_job_outlives_its_tries_and_a_replay() -> None:
    """As many tries as can be configured, each as late as it can be."""
    most = max(limit.le for limit in WebhooksTable.model_fields["tries"].metadata if hasattr(limit, "le"))
    pauses = [webhook.pause_s(tried, most, 1.0) or 0.0 for tried in range(1, most + 1)]
    assert most == 20
    assert outbox.KEPT_MS + 1000 * sum(pauses) < flow.SECRET_OF_JOB_MS


async def test_a_first_secret_is_made_once(db: SqliteDatabase) -> None:
    made, created = await db.write(flow.first_secret, "ej_1", b"a" * 32)
    assert created
    assert await db.write(flow.first_secret, "ej_1", b"b" * 32) == (made, False)
    assert await db.read(outbox.secrets_of, "ej_1") == [made]


class Moody:
    """A database that is not to be had now and then."""

    def __init__(self, db: Database, refused: set[str]) -> None:
        self._db, self.refused = db, refused

    async def write(self, fn, *args, **kwargs):  # type: ignore[no-untyped-def]
        if fn.__name__ in self.refused:
            raise StoreUnavailable
        return await self._db.write(fn, *args, **kwargs)

    async def read(self, fn, *args, **kwargs):  # type: ignore[no-untyped-def]
        return await self._db.read(fn, *args, **kwargs)

    async def close(self) -> None:
        """The other one closes."""


async def test_it_survives_its_own_errors(up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient) -> None:
    """A store that takes no lease, then one that takes no outcome: told as alarms, and the event comes all the same."""
    moody, alarms = Moody(db, {"due"}), []
    loop = delivering(moody, http, alarm=lambda name, subject: alarms.append(name))
    task = asyncio.create_task(loop.run())
    first, second = await post(db, at(up, 1), at(up, 2))
    await asyncio.sleep(0.2)
    assert alarms == ["delivering_failed"]
    moody.refused = {"delivered"}
    await arrived(up, 2)
    await asyncio.sleep(0.1)
    assert len(alarms) == 3
    moody.refused = set()
    assert await states(db, first, second) == ["pending", "pending"]
    await db.write(outbox.put_back, "own_1_000000000000")
    loop.wake()
    await arrived(up, 4)
    await ended([task])
    assert await states(db, first, second) == ["delivered", "delivered"]


async def test_at_shutdown_what_hangs_is_put_back_and_comes_again(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient
) -> None:
    up.on("/slow", reply({}, delay_s=0.2)).on("/hang", hang(), status(204))
    slow, hanging = await post(db, at(up, 1, "/slow"), at(up, 2, "/hang"))
    loop = delivering(db, http)
    task = asyncio.create_task(loop.run())
    await arrived(up, 2)
    task.cancel()
    began = time.monotonic()
    await loop.drain(0.5)
    assert time.monotonic() - began < 0.9
    assert await states(db, slow, hanging) == ["delivered", "pending"]
    await delivering(db, http, "own_2_000000000000").once()
    found = await db.read(outbox.find, hanging)
    assert found is not None
    assert (found.state, found.attempts) == ("delivered", 1)


async def test_what_a_dead_process_had_leased_is_taken_up_at_the_start(
    up: ScriptedUpstream, db: SqliteDatabase, http: HttpClient
) -> None:
    (event,) = await post(db, at(up, 1))
    await db.write(outbox.due, "own_9_dead", 3_600_000, 9, at_once=2, a_second=10)
    loop = delivering(db, http, alive=lambda name: name != "own_9_dead")
    task = asyncio.create_task(loop.run())
    await arrived(up, 1)
    await ended([task])
    assert await states(db, event) == ["delivered"]


def test_a_lease_outlives_a_try() -> None:
    assert flow.LEASE_S > 2 * flow.TIMEOUT_S
