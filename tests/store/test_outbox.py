"""The outbox on a real file: one lease at a time, terms that stay, ends that stay, secrets that overlap and expire."""

import asyncio
from pathlib import Path

import apsw
import pytest
from rigs import books
from rigs.books import Clock

from gateway.core import ids, webhook
from gateway.core.errors import Conflict
from gateway.core.webhook import WebhookState
from gateway.store import actions, outbox
from gateway.store.database import Tx
from gateway.store.outbox import Due, EventView, Told
from gateway.store.sqlite import SqliteDatabase

ME, OTHER = "own_1_aaaaaaaaaaaa", "own_2_bbbbbbbbbbbb"
LEASE_MS = 60_000


def event_id(n: int) -> str:
    return ids.new_id("evt_", 1_800_000_000_000 + n, bytes(10))


async def add(db: SqliteDatabase, n: int, *, host: str | None = None, owner: str = "agt_1") -> str:
    url = f"https://{host or f'h{n}.example.com'}/hook"
    await db.write(
        outbox.add, event_id=event_id(n), event_type="enrich.job_completed", owner=owner, subject=f"ej_{n}", url=url,
        body=b'{"n": 1}',
    )  # fmt: skip
    return event_id(n)


async def take(
    db: SqliteDatabase, owner: str = ME, limit: int = 100, at_once: int = 2, a_second: int = 10
) -> list[Due]:
    return await db.write(outbox.due, owner, LEASE_MS, limit, at_once=at_once, a_second=a_second)


async def taken(db: SqliteDatabase, owner: str = ME, **caps: int) -> list[str]:
    return [event.id for event in await take(db, owner, **caps)]


async def view(db: SqliteDatabase, id: str) -> EventView:
    found = await db.read(outbox.find, id)
    assert found is not None
    return found


async def test_an_event_is_taken_by_one_until_its_lease_runs_out(db: SqliteDatabase, clock: Clock) -> None:
    event = await add(db, 1)
    (due,) = await take(db)
    assert (due.id, due.url, due.body, due.attempts) == (event, "https://h1.example.com/hook", b'{"n": 1}', 1)
    assert await taken(db, OTHER) == []
    assert not await db.read(outbox.waiting)
    clock.ms += LEASE_MS - 1
    assert await taken(db, OTHER) == []
    clock.ms += 1
    assert await taken(db, OTHER) == [event]
    assert not await db.write(outbox.failed, event, ME, status=None, error="late", next_attempt_ms=0)
    assert not await db.write(outbox.gave_up, event, ME, status=None, error="late")
    assert (await view(db, event)).attempts == 2
    assert await db.write(outbox.delivered, event, 200), "delivered is delivered, whoever has the lease"
    assert not await db.write(outbox.delivered, event, 200)


async def test_two_processes_take_every_event_once(tmp_path: Path) -> None:
    async with books.books(tmp_path / "l.db") as one, books.books(tmp_path / "l.db") as two:
        events = {await add(one, n) for n in range(100)}
        both = await asyncio.gather(
            *(taken(db, owner, limit=10) for _ in range(10) for db, owner in ((one, ME), (two, OTHER)))
        )
        assert sorted(id for part in both for id in part) == sorted(events)


async def test_a_failure_comes_again_at_its_time_and_first_tries_go_first(db: SqliteDatabase, clock: Clock) -> None:
    again = await add(db, 1)
    assert await taken(db) == [again]
    await db.write(outbox.failed, again, ME, status=500, error="status", next_attempt_ms=clock.ms + 60_000)
    assert await taken(db) == []
    clock.ms += 60_000
    fresh = await add(db, 2)
    assert await taken(db, limit=1) == [fresh]
    assert await taken(db) == [again]
    seen = await view(db, again)
    assert (seen.attempts, seen.last_status, seen.last_error) == (2, 500, "status")


async def test_f140_a_host_is_tried_twice_at_once_whosever_events_they_are(db: SqliteDatabase) -> None:
    victim = [await add(db, n, host="victim.example.com", owner=f"agt_{n}") for n in range(5)]
    other = await add(db, 9)
    first = await taken(db)
    assert first == [*victim[:2], other]
    assert await taken(db, OTHER) == [], "by another process neither"
    await db.write(outbox.delivered, victim[0], 200)
    assert await taken(db, OTHER) == [victim[2]]


async def test_f140_a_host_is_tried_so_often_in_a_second(db: SqliteDatabase, clock: Clock) -> None:
    victim = [await add(db, n, host="victim.example.com") for n in range(6)]
    for expected in (victim[:2], victim[2:3], []):
        got = await taken(db, a_second=3)
        assert got == expected
        for id in got:
            await db.write(outbox.delivered, id, 200)
    clock.ms += outbox.RATE_MS
    assert await taken(db, a_second=3) == victim[3:5]


async def test_f141_a_dead_letter_stays_until_it_is_replayed(db: SqliteDatabase, clock: Clock) -> None:
    event = await add(db, 1)
    with pytest.raises(Conflict):
        await db.write(outbox.replay, event)
    await take(db)
    assert await db.write(outbox.gave_up, event, ME, status=503, error="status")
    assert await taken(db) == []
    assert await db.read(outbox.given_up_since, clock.ms) == 1
    assert await db.read(outbox.given_up_since, clock.ms + 1) == 0
    assert await db.read(outbox.of_subject, "ej_1") == Told(WebhookState.FAILED, 1)
    assert await db.write(outbox.replay, event)
    (again,) = await take(db)
    assert (again.id, again.body, again.attempts) == (event, b'{"n": 1}', 1)
    assert await db.read(outbox.given_up_since, 0) == 0
    assert [action.action for action in await db.read(actions.listing)] == ["replay_webhook"]
    assert not await db.write(outbox.replay, event_id(99))


async def test_f141_a_url_that_is_gone_is_gone_for_its_owner(db: SqliteDatabase) -> None:
    gone, same = await add(db, 1, host="a.example.com"), await add(db, 2, host="a.example.com")
    foreign = await add(db, 3, host="a.example.com", owner="agt_2")
    await taken(db, limit=1)
    await db.write(outbox.gave_up, gone, ME, status=410, error="gone", url_gone=True)
    assert [(await view(db, id)).state for id in (gone, same, foreign)] == ["failed", "failed", "pending"]
    assert (await view(db, same)).last_error == "url_gone"


async def test_what_is_put_back_is_due_at_once_and_not_counted(db: SqliteDatabase) -> None:
    event, kept = await add(db, 1), await add(db, 2)
    assert await taken(db, limit=1) == [event]
    assert await taken(db, OTHER) == [kept]
    assert sorted(await db.read(outbox.lease_owners)) == [ME, OTHER]
    assert await db.write(outbox.put_back, ME) == 1
    assert (await view(db, event)).attempts == 0
    assert await taken(db, OTHER) == [event]


async def test_of_a_subject_the_newest_is_told(db: SqliteDatabase) -> None:
    assert await db.read(outbox.of_subject, "ej_1") is None
    await add(db, 1)
    assert await db.read(outbox.of_subject, "ej_1") == Told(WebhookState.PENDING, 0)
    await taken(db)
    later = {
        "event_id": event_id(2),
        "event_type": "t",
        "owner": "agt_1",
        "url": "https://h.example.com/",
        "body": b"{}",
    }
    await db.write(outbox.add, subject="ej_1", **later)  # type: ignore[arg-type]
    assert await db.read(outbox.of_subject, "ej_1") == Told(WebhookState.PENDING, 0)


async def test_the_listing(db: SqliteDatabase) -> None:
    events = [await add(db, n, owner=f"agt_{n % 2}") for n in range(4)]
    await taken(db, limit=1)
    await db.write(outbox.delivered, events[0], 204)

    async def listed(*how: object) -> list[str]:
        return [seen.id for seen in await db.read(outbox.listing, *how)]  # type: ignore[arg-type]

    assert await listed() == events[::-1]
    assert await listed(2) == [events[3], events[2]]
    assert await listed(9, events[2]) == [events[1], events[0]]
    assert await listed(9, None, WebhookState.DELIVERED) == [events[0]]
    assert await listed(9, None, None, "agt_1") == [events[3], events[1]]


async def test_what_is_no_url_has_no_host_to_spare(db: SqliteDatabase) -> None:
    with pytest.raises(ValueError, match="host"):
        await db.write(
            outbox.add, event_id=event_id(1), event_type="t", owner="o", subject="s", url="nonsense", body=b""
        )


async def test_long_ended_events_and_expired_secrets_are_forgotten(tmp_path: Path, clock: Clock) -> None:
    secret = webhook.new_secret(b"c" * 32)
    async with books.books(tmp_path / "l.db", clock) as db:
        ended, pending = await add(db, 1), await add(db, 2)
        await taken(db, limit=1)
        await db.write(outbox.delivered, ended, 200)
        await db.write(outbox.rotate_secret, "agt_1", secret, 0)
        await db.write(outbox.rotate_secret, "agt_1", webhook.new_secret(b"d" * 32), 1_000)
        clock.ms += outbox.KEPT_MS
        assert await db.write(outbox.forget) == 0
        clock.ms += 1
        assert await db.write(outbox.forget) == 1
        assert await db.read(outbox.find, ended) is None
        assert await db.read(outbox.find, pending) is not None
    assert secret.encode() not in books.bytes_of(tmp_path)


# secrets


def made(n: int) -> str:
    return webhook.new_secret(bytes([n]) * 32)


async def test_f137_a_rotation_overlaps_and_ends(db: SqliteDatabase, clock: Clock) -> None:
    assert await db.read(outbox.secrets_of, "agt_1") == []
    assert not await db.write(outbox.rotate_secret, "agt_1", made(1), 5_000)
    assert await db.write(outbox.rotate_secret, "agt_1", made(2), 5_000)
    assert await db.read(outbox.secrets_of, "agt_1") == [made(2), made(1)]
    clock.ms += 4_999
    assert await db.read(outbox.secrets_of, "agt_1") == [made(2), made(1)]
    clock.ms += 1
    assert await db.read(outbox.secrets_of, "agt_1") == [made(2)]
    assert await db.read(outbox.secrets_of, "agt_2") == []


async def test_after_a_leak_the_old_ones_end_at_once(db: SqliteDatabase) -> None:
    for n in (1, 2):
        await db.write(outbox.rotate_secret, "agt_1", made(n), 500_000)
    await db.write(outbox.rotate_secret, "agt_1", made(3), 0)
    assert await db.read(outbox.secrets_of, "agt_1") == [made(3)]


async def test_a_later_rotation_lengthens_no_earlier_one(db: SqliteDatabase, clock: Clock) -> None:
    await db.write(outbox.rotate_secret, "agt_1", made(1), 0)
    await db.write(outbox.rotate_secret, "agt_1", made(2), 1_000)
    await db.write(outbox.rotate_secret, "agt_1", made(3), 9_000)
    clock.ms += 1_000
    assert await db.read(outbox.secrets_of, "agt_1") == [made(3), made(2)]


async def test_however_often_it_is_rotated_a_header_holds_a_few(db: SqliteDatabase, clock: Clock) -> None:
    for n in range(20):
        clock.ms += 1
        await db.write(outbox.rotate_secret, "agt_1", made(n), 604_800_000)
    kept = await db.read(outbox.secrets_of, "agt_1")
    assert len(kept) == outbox.SECRETS_MAX
    assert kept[0] == made(19)


async def test_the_same_secret_again_is_no_rotation(db: SqliteDatabase) -> None:
    await db.write(outbox.rotate_secret, "agt_1", made(1), 0)
    with pytest.raises(ValueError, match="another"):
        await db.write(outbox.rotate_secret, "agt_1", made(1), 1_000)
    await db.write(outbox.retire_secret, "agt_1", 0)
    assert await db.read(outbox.secrets_of, "agt_1") == []


# the schema's own refusals

REFUSED = (
    "UPDATE webhooks SET url = 'https://other.example.com/'",
    "UPDATE webhooks SET body = x''",
    "UPDATE webhooks SET owner = 'agt_2'",
    "UPDATE webhooks SET id = 'evt_other' WHERE state = 'pending'",
    "UPDATE webhooks SET created_ms = created_ms",
    "UPDATE webhooks SET state = 'pending', ended_ms = NULL WHERE state = 'delivered'",
    "UPDATE webhooks SET state = 'failed' WHERE state = 'delivered'",
    "UPDATE webhooks SET attempts = 0 WHERE state = 'delivered'",
    "UPDATE webhooks SET state = 'delivered' WHERE state = 'pending'",
    "UPDATE webhooks SET replays = replays + 1 WHERE state = 'pending'",
    "UPDATE webhooks SET lease_owner = 'x' WHERE state = 'pending'",
    "UPDATE webhooks SET attempts = -1 WHERE state = 'pending'",
    "UPDATE webhooks SET last_status = 42 WHERE state = 'pending'",
    f"UPDATE webhooks SET last_error = '{'x' * 41}' WHERE state = 'pending'",
    "DELETE FROM webhooks WHERE state = 'pending'",
    "INSERT INTO webhooks SELECT 'evt.1', event_type, owner, subject, url, host, body, state, attempts, replays,"
    " next_attempt_ms, tried_ms, last_status, last_error, created_ms, ended_ms, lease_owner, lease_until_ms"
    " FROM webhooks",
    "INSERT INTO webhook_secrets VALUES ('agt_1', 'not a secret', 1, 1)",
    f"INSERT INTO webhook_secrets VALUES ('agt_1', '{made(9)}', 1, NULL)",
    "UPDATE webhook_secrets SET secret = secret",
    "UPDATE webhook_secrets SET expires_ms = NULL WHERE expires_ms IS NOT NULL",
    "UPDATE webhook_secrets SET expires_ms = expires_ms + 1 WHERE expires_ms IS NOT NULL",
)
TAKEN = ("UPDATE webhooks SET attempts = 7 WHERE state = 'pending'", "DELETE FROM webhooks WHERE state = 'delivered'")


@pytest.mark.parametrize("statement", [*REFUSED, *TAKEN])
async def test_terms_and_ends_by_direct_sql(db: SqliteDatabase, statement: str) -> None:
    ended = await add(db, 1)
    await taken(db, limit=1)
    await db.write(outbox.delivered, ended, 200)
    await add(db, 2)
    for n in (1, 2):
        await db.write(outbox.rotate_secret, "agt_1", made(n), 60_000)

    def run(tx: Tx) -> None:
        tx.execute(statement)

    if statement in TAKEN:
        await db.write(run)
        return
    with pytest.raises(apsw.ConstraintError):
        await db.write(run)
