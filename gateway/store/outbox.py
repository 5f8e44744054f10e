"""The outbox: events to be told to customers' servers, and the secrets they are signed with.

An event is added in the transaction that ends what it tells of, so it exists exactly if that has happened. Whoever
delivers takes a lease first: while it lasts nobody else tries this event, in this process or another. What came of a
try is a compare-and-set on that lease. A lease that runs out, or whose process died, is taken by the next: an event
may be told twice and is never lost.

    pending ── delivered ──▶ delivered          failed: a dead letter
       │ └──── gave_up ────▶ failed             either is pending again only by the operator's replay
       └ failed: still pending, at a later time
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.addresses import host_of
from gateway.core.errors import Conflict
from gateway.core.webhook import WebhookState
from gateway.store import actions
from gateway.store.database import Row, Tx

KEPT_MS = 30 * 86_400_000
"""How long an ended event is kept: its url may hold what a customer would rather not have lying about."""
SECRETS_MAX = 4
"""Of one owner in force at once: each is one more signature in a header."""
RATE_MS = 1_000

_DUE = """
UPDATE webhooks SET lease_owner = :lease_owner, lease_until_ms = :until_ms, attempts = attempts + 1, tried_ms = :now_ms
WHERE id IN (
  SELECT ranked.id FROM (
    SELECT w.id, w.attempts, w.next_attempt_ms, coalesce(busy.number, 0) AS busy, coalesce(recent.number, 0) AS recent,
      row_number() OVER (PARTITION BY w.host ORDER BY w.attempts, w.next_attempt_ms, w.id) AS place
    FROM webhooks w
    LEFT JOIN (
      SELECT host, count(*) AS number FROM webhooks WHERE lease_owner IS NOT NULL AND lease_until_ms > :now_ms
      GROUP BY host
    ) busy ON busy.host = w.host
    LEFT JOIN (
      SELECT host, count(*) AS number FROM webhooks WHERE tried_ms IS NOT NULL AND tried_ms > :recent_ms GROUP BY host
    ) recent ON recent.host = w.host
    WHERE w.state = 'pending' AND w.next_attempt_ms <= :now_ms
      AND (w.lease_until_ms IS NULL OR w.lease_until_ms <= :now_ms)
  ) ranked
  WHERE ranked.place + ranked.busy <= :at_once AND ranked.place + ranked.recent <= :a_second
  ORDER BY ranked.attempts, ranked.next_attempt_ms, ranked.id LIMIT :limit
)
RETURNING id, event_type, owner, url, body, attempts
"""
_VIEW = """
SELECT id, event_type, owner, subject, url, body, state, attempts, replays, next_attempt_ms, tried_ms, last_status,
  last_error, created_ms, ended_ms FROM webhooks
"""
_END = """
UPDATE webhooks SET state = :state, last_status = :status, last_error = :error, ended_ms = :now_ms, lease_owner = NULL,
  lease_until_ms = NULL WHERE state = 'pending' AND
"""


@dataclass(frozen=True, slots=True)
class Due:
    """An event whose lease was just taken."""

    id: str
    event_type: str
    owner: str
    url: str
    body: bytes
    attempts: int
    """With the one that is about to be made."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a poll shows of a callback."""

    state: WebhookState
    attempts: int


@dataclass(frozen=True, slots=True)
class EventView:
    id: str
    event_type: str
    owner: str
    subject: str
    url: str
    body: bytes
    state: WebhookState
    attempts: int
    replays: int
    next_attempt_ms: int
    tried_ms: int | None
    last_status: int | None
    last_error: str | None
    created_ms: int
    ended_ms: int | None


def add(tx: Tx, *, event_id: str, event_type: str, owner: str, subject: str, url: str, body: bytes) -> None:
    """One event, due at once. `url` has passed core.webhook.refuse_callback: ValueError for what is no url at all."""
    host = host_of(url)
    if host is None:
        raise ValueError("a callback without a host")
    tx.execute(
        "INSERT INTO webhooks (id, event_type, owner, subject, url, host, body, state, attempts, replays,"
        " next_attempt_ms, created_ms) VALUES (:id, :event_type, :owner, :subject, :url, :host, :body, 'pending', 0, 0,"
        " :now_ms, :now_ms)",
        {
            "id": event_id, "event_type": event_type, "owner": owner, "subject": subject, "url": url, "host": host,
            "body": body, "now_ms": tx.now_ms,
        },
    )  # fmt: skip


# delivering


def waiting(tx: Tx) -> bool:
    """Whether anything is due that nobody has; a read, so that an idle gateway writes nothing."""
    return bool(
        tx.execute(
            "SELECT 1 FROM webhooks WHERE state = 'pending' AND next_attempt_ms <= :now_ms"
            " AND (lease_until_ms IS NULL OR lease_until_ms <= :now_ms) LIMIT 1",
            {"now_ms": tx.now_ms},
        )
    )


def due(tx: Tx, lease_owner: str, lease_ms: int, limit: int, *, at_once: int, a_second: int) -> list[Due]:
    """Takes the leases of at most `limit` events that are due, first tries first. No host gets more than `at_once`
    at a time, nor more than `a_second` tries in a second, whichever process makes them."""
    rows = tx.execute(
        _DUE,
        {
            "lease_owner": lease_owner, "until_ms": tx.now_ms + lease_ms, "now_ms": tx.now_ms,
            "recent_ms": tx.now_ms - RATE_MS, "at_once": at_once, "a_second": a_second, "limit": limit,
        },
    )  # fmt: skip
    return sorted((Due(*row) for row in rows), key=lambda event: (event.attempts, event.id))


def delivered(tx: Tx, event_id: str, status: int | None) -> bool:
    """The receiver has it, whoever holds the lease by now. False: it had ended already."""
    rows = tx.execute(
        _END + "id = :id RETURNING id",
        {"id": event_id, "state": WebhookState.DELIVERED, "status": status, "error": None, "now_ms": tx.now_ms},
    )
    return bool(rows)


def failed(tx: Tx, event_id: str, lease_owner: str, *, status: int | None, error: str, next_attempt_ms: int) -> bool:
    """To be tried again at `next_attempt_ms`. `error` is a word of ours. False: the lease is somebody else's."""
    rows = tx.execute(
        "UPDATE webhooks SET next_attempt_ms = :next_ms, last_status = :status, last_error = :error,"
        " lease_owner = NULL, lease_until_ms = NULL"
        " WHERE id = :id AND state = 'pending' AND lease_owner = :lease_owner RETURNING id",
        {"id": event_id, "lease_owner": lease_owner, "status": status, "error": error, "next_ms": next_attempt_ms},
    )
    return bool(rows)


def gave_up(tx: Tx, event_id: str, lease_owner: str, *, status: int | None, error: str, url_gone: bool = False) -> bool:
    """A dead letter. `url_gone`: the receiver said so (410), and whatever else its owner still had for the same url is
    given up with it, but for what is being tried just now. False: the lease is somebody else's."""
    ended = {"state": WebhookState.FAILED, "now_ms": tx.now_ms}
    rows = tx.execute(
        _END + "id = :id AND lease_owner = :lease_owner RETURNING owner, url",
        {"id": event_id, "lease_owner": lease_owner, "status": status, "error": error, **ended},
    )
    if rows and url_gone:
        ((owner, url),) = rows
        tx.execute(
            _END + "lease_owner IS NULL AND owner = :owner AND url = :url",
            {"owner": owner, "url": url, "status": None, "error": "url_gone", **ended},
        )
    return bool(rows)


def put_back(tx: Tx, lease_owner: str, event_id: str | None = None) -> int:
    """Lets go of what this process has leased, of all or of one event: nobody knows what came of those tries, so they
    are not counted. Answers how many."""
    rows = tx.execute(
        "UPDATE webhooks SET attempts = attempts - 1, lease_owner = NULL, lease_until_ms = NULL"
        " WHERE lease_owner = :lease_owner AND (CAST(:id AS TEXT) IS NULL OR id = :id) RETURNING id",
        {"lease_owner": lease_owner, "id": event_id},
    )
    return len(rows)


def lease_owners(tx: Tx) -> list[str]:
    """Every process that holds a lease, or did when it died."""
    return [row[0] for row in tx.execute("SELECT DISTINCT lease_owner FROM webhooks WHERE lease_owner IS NOT NULL")]


def forget(tx: Tx) -> int:
    """Deletes events that ended long ago and secrets that have expired. Answers how many events."""
    tx.execute(
        "DELETE FROM webhook_secrets WHERE expires_ms IS NOT NULL AND expires_ms <= :now_ms", {"now_ms": tx.now_ms}
    )
    rows = tx.execute(
        "DELETE FROM webhooks WHERE state IN ('delivered', 'failed') AND ended_ms IS NOT NULL AND ended_ms < :before_ms"
        " RETURNING id",
        {"before_ms": tx.now_ms - KEPT_MS},
    )
    return len(rows)


# looking


def of_subject(tx: Tx, subject: str) -> Told | None:
    """What became of the callback of a job: {state, attempts} for its poll. None: it has none."""
    rows = tx.execute(
        "SELECT state, attempts FROM webhooks WHERE subject = :subject ORDER BY id DESC LIMIT 1", {"subject": subject}
    )
    return Told(WebhookState(rows[0][0]), rows[0][1]) if rows else None


def find(tx: Tx, event_id: str) -> EventView | None:
    rows = tx.execute(_VIEW + "WHERE id = :id", {"id": event_id})
    return _view(rows[0]) if rows else None


def listing(
    tx: Tx, limit: int = 50, before: str | None = None, state: WebhookState | None = None, owner: str | None = None
) -> list[EventView]:
    """Newest first, older than the event `before`."""
    rows = tx.execute(
        _VIEW
        + "WHERE (CAST(:before AS TEXT) IS NULL OR id < :before) AND (CAST(:state AS TEXT) IS NULL OR state = :state)"
        " AND (CAST(:owner AS TEXT) IS NULL OR owner = :owner) ORDER BY id DESC LIMIT :limit",
        {"before": before, "state": state, "owner": owner, "limit": limit},
    )
    return [_view(row) for row in rows]


def given_up_since(tx: Tx, since_ms: int) -> int:
    """How many events were given up since then."""
    ((number,),) = tx.execute(
        "SELECT count(*) FROM webhooks WHERE state = 'failed' AND ended_ms IS NOT NULL AND ended_ms >= :since_ms",
        {"since_ms": since_ms},
    )
    return int(number)


def replay(tx: Tx, event_id: str) -> bool:
    """Due again at once, with all its tries, the same id and the same bytes: a deed of the operator. False: there is
    no such event. Raises Conflict for one that has not ended."""
    rows = tx.execute(
        "UPDATE webhooks SET state = 'pending', attempts = 0, replays = replays + 1, next_attempt_ms = :now_ms,"
        " ended_ms = NULL WHERE id = :id AND state <> 'pending' RETURNING id",
        {"id": event_id, "now_ms": tx.now_ms},
    )
    if not rows:
        if find(tx, event_id) is not None:
            raise Conflict(f"{event_id} is still being delivered")
        return False
    actions.note(tx, "replay_webhook", event_id)
    return True


def _view(row: Row) -> EventView:
    id, event_type, owner, subject, url, body, state, *rest = row
    return EventView(id, event_type, owner, subject, url, body, WebhookState(state), *rest)


# secrets


def secrets_of(tx: Tx, owner: str) -> Sequence[str]:
    """Those in force: the current one first, then those in overlap, newest first. Empty: the owner has none."""
    rows = tx.execute(
        "SELECT secret FROM webhook_secrets WHERE owner = :owner AND (expires_ms IS NULL OR expires_ms > :now_ms)"
        " ORDER BY expires_ms IS NULL DESC, created_ms DESC, secret",
        {"owner": owner, "now_ms": tx.now_ms},
    )
    return [row[0] for row in rows]


def rotate_secret(tx: Tx, owner: str, secret: str, overlap_ms: int) -> bool:
    """`secret` is the current one from now on. Those before it are in force for `overlap_ms` more at most; 0 ends them
    at once, as after a leak. Answers whether there was one. ValueError for a secret that the owner has already."""
    until_ms = tx.now_ms + overlap_ms
    known = tx.execute(
        "SELECT 1 FROM webhook_secrets WHERE owner = :owner AND secret = :secret", {"owner": owner, "secret": secret}
    )
    if known:
        raise ValueError("a new secret is another one")
    replaced = tx.execute(
        "UPDATE webhook_secrets SET expires_ms = :until_ms"
        " WHERE owner = :owner AND (expires_ms IS NULL OR expires_ms > :until_ms) RETURNING secret",
        {"owner": owner, "until_ms": until_ms},
    )
    tx.execute(
        "DELETE FROM webhook_secrets WHERE owner = :owner AND (expires_ms <= :now_ms OR secret NOT IN ("
        " SELECT k.secret FROM webhook_secrets k WHERE k.owner = :owner ORDER BY k.expires_ms DESC,"
        " k.created_ms DESC LIMIT :kept))",
        {"owner": owner, "now_ms": tx.now_ms, "kept": SECRETS_MAX - 1},
    )
    tx.execute(
        "INSERT INTO webhook_secrets (owner, secret, created_ms) VALUES (:owner, :secret, :now_ms)",
        {"owner": owner, "secret": secret, "now_ms": tx.now_ms},
    )
    return bool(replaced)


def retire_secret(tx: Tx, owner: str, at_ms: int) -> None:
    """The current one is in force until then, and none comes after it: its owner is a job that has ended."""
    tx.execute(
        "UPDATE webhook_secrets SET expires_ms = :at_ms WHERE owner = :owner AND expires_ms IS NULL",
        {"owner": owner, "at_ms": at_ms},
    )
