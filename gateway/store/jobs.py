"""Jobs: handed over, leased to one worker at a time, ended once. Each function is one transaction's worth.

A lease is a promise to come back before it is over. Whose lease is over may have died: his job is started again by
whoever asks next, as another attempt. Everything a worker writes names the attempt it belongs to, so whoever comes back
too late finds that the job is somebody else's.
"""

from gateway.core import job as core
from gateway.core.errors import Conflict, IllegalMove
from gateway.core.job import ATTEMPTS_MAX, Event, Job, State
from gateway.store.database import Row, Tx

COLUMNS = """j.id, j.operation, j.charge_id, j.party, j.agent_id, j.payload, j.request_id, j.deadline_ms,
  j.callback_url, j.resells, j.state, j.attempt, j.cancelling, j.phase, j.rounds, j.error_code, j.error, j.created_ms,
  j.started_ms, j.ended_ms, j.expires_ms, j.retry_of, j.idempotency_key"""
TOKENS_MAX = 16
"""Poll bearers of one job."""
LATE_MS = 10_000
"""What a living worker gets beyond the deadline to end a job itself."""
_SELECT = f"SELECT {COLUMNS} FROM jobs j "  # noqa: S608 constants
NEXT = """
SELECT w.id, w.place FROM (
  SELECT j.id, row_number() OVER (PARTITION BY j.party ORDER BY j.id)
    + (SELECT count(*) FROM jobs r WHERE r.state = 'running' AND r.party = j.party) AS place,
    (SELECT max(s.started_ms) FROM jobs s WHERE s.party = j.party) AS served_ms
  FROM jobs j LEFT JOIN agents a ON a.id = j.agent_id
  WHERE j.state = 'queued' AND coalesce(a.status, 'active') = 'active'
) w ORDER BY w.place, coalesce(w.served_ms, 0), w.id LIMIT :limit
"""
"""Whoever has least under way comes first, then whose turn was longest ago; of one payer, the oldest. What a frozen
agent has in the queue waits, and ends at its deadline for nothing unless it is unfrozen before."""
KEEP = """
INSERT INTO retries (job_id, payload, expires_ms)
SELECT :id, :payload, :expires_ms FROM charges WHERE id = :charge_id AND source = 'balance' RETURNING job_id
"""
"""A signature that a failure gave back is its payer's alone to use again."""


def add(tx: Tx, job: Job, token_hash: bytes) -> None:
    """A new job, for a charge that is held in the same transaction."""
    tx.execute(
        "INSERT INTO jobs (id, operation, charge_id, party, agent_id, payload, request_id, deadline_ms, callback_url,"
        " resells, state, attempt, cancelling, phase, rounds, created_ms, retry_of, idempotency_key)"
        " VALUES (:id, :operation, :charge_id, :party, :agent_id, :payload, :request_id, :deadline_ms, :callback_url,"
        " :resells, 'queued', 0, 0, '', 0, :now_ms, :retry_of, :idempotency_key)",
        {
            "id": job.id, "operation": job.operation, "charge_id": job.charge_id, "party": job.party,
            "agent_id": job.agent_id, "payload": job.payload, "request_id": job.request_id,
            "deadline_ms": job.deadline_ms, "callback_url": job.callback_url, "resells": job.resells,
            "retry_of": job.retry_of, "idempotency_key": job.idempotency_key, "now_ms": tx.now_ms,
        },
    )  # fmt: skip
    add_token(tx, job.id, token_hash)


def add_token(tx: Tx, job_id: str, token_hash: bytes) -> None:
    """One more, with every repeat of a submission; the oldest of too many open nothing any more."""
    tx.execute(
        "DELETE FROM job_tokens WHERE hash IN (SELECT hash FROM job_tokens WHERE job_id = :id"
        " ORDER BY at_ms DESC, hash LIMIT 1000 OFFSET :kept)",
        {"id": job_id, "kept": TOKENS_MAX - 1},
    )
    tx.execute(
        "INSERT INTO job_tokens (hash, job_id, at_ms) VALUES (:hash, :job_id, :now_ms)",
        {"hash": token_hash, "job_id": job_id, "now_ms": tx.now_ms},
    )


def token_opens(tx: Tx, job_id: str, token_hash: bytes) -> bool:
    """Whether this is a poll bearer of this job, be its time over or not."""
    found = {"hash": token_hash, "job_id": job_id}
    return bool(tx.execute("SELECT 1 FROM job_tokens WHERE hash = :hash AND job_id = :job_id", found))


# looking


def find(tx: Tx, job_id: str) -> Job | None:
    rows = tx.execute(_SELECT + "WHERE j.id = :id", {"id": job_id})
    return from_row(rows[0]) if rows else None


def find_by_charge(tx: Tx, charge_id: str) -> Job | None:
    rows = tx.execute(_SELECT + "WHERE j.charge_id = :id", {"id": charge_id})
    return from_row(rows[0]) if rows else None


def listing(tx: Tx, limit: int, before_id: str | None = None, state: State | None = None) -> list[Job]:
    """Newest first; `before_id` is the last id of the page before."""
    filters = {"j.id < :before_id": before_id is not None, "j.state = :state": state is not None}
    where = " AND ".join(clause for clause, wanted in filters.items() if wanted)
    rows = tx.execute(
        f"{_SELECT} {'WHERE ' + where if where else ''} ORDER BY j.id DESC LIMIT :limit",
        {"before_id": before_id, "state": state, "limit": limit},
    )
    return [from_row(row) for row in rows]


def of_party(tx: Tx, party: str, limit: int) -> list[Job]:
    """An agent's or a wallet's, newest first."""
    rows = tx.execute(
        _SELECT + "WHERE j.party = :party ORDER BY j.id DESC LIMIT :limit", {"party": party, "limit": limit}
    )
    return [from_row(row) for row in rows]


def queued_by_key(tx: Tx, agent_id: str, key_id: str) -> list[str]:
    """What was handed in with this usage key and is not begun yet, oldest first."""
    rows = tx.execute(
        "SELECT j.id FROM jobs j JOIN charges c ON c.id = j.charge_id"
        " WHERE j.state = 'queued' AND j.party = :agent_id AND c.key_id = :key_id ORDER BY j.id",
        {"agent_id": agent_id, "key_id": key_id},
    )
    return [job_id for (job_id,) in rows]


def overdue(tx: Tx, limit: int = 64) -> list[Job]:
    """What has no time left, or ended its workers as often as one may."""
    rows = tx.execute(
        _SELECT + "WHERE (j.state = 'queued' AND j.deadline_ms <= :now_ms) OR (j.state = 'running'"
        " AND (j.deadline_ms <= :late_ms OR (j.lease_until_ms <= :now_ms AND j.attempt >= :attempts_max)))"
        " ORDER BY j.id LIMIT :limit",
        {"now_ms": tx.now_ms, "late_ms": tx.now_ms - LATE_MS, "attempts_max": ATTEMPTS_MAX, "limit": limit},
    )
    return [from_row(row) for row in rows]


def states(tx: Tx, job_ids: list[str]) -> dict[str, State]:
    """Of those that there are."""
    names = {f"id{number}": job_id for number, job_id in enumerate(job_ids)}
    if not names:
        return {}
    marks = ", ".join(f":{name}" for name in names)
    rows = tx.execute(f"SELECT id, state FROM jobs WHERE id IN ({marks})", names)  # noqa: S608 names of parameters
    return {job_id: State(state) for job_id, state in rows}


def open_counts(tx: Tx) -> dict[str, int]:
    """{queued, running}: how many."""
    ((queued, running),) = tx.execute(
        "SELECT (SELECT count(*) FROM jobs WHERE state = 'queued'), (SELECT count(*) FROM jobs WHERE state = 'running')"
    )
    return {State.QUEUED.value: queued, State.RUNNING.value: running}


# working


def claim(tx: Tx, owner: str, lease_ms: int, limit: int, *, spare: bool = False) -> list[Job]:
    """At most `limit` jobs for this worker: those whose worker is gone first, then what waits, fair among payers.
    `spare`: the last of these places is for a payer who has nothing under way."""
    taken = tx.execute(
        "SELECT id FROM jobs WHERE state = 'running' AND lease_until_ms <= :now_ms AND attempt < :attempts_max"
        " AND deadline_ms > :now_ms ORDER BY id LIMIT :limit",
        {"now_ms": tx.now_ms, "attempts_max": ATTEMPTS_MAX, "limit": limit},
    )
    if len(taken) < limit:
        waiting = tx.execute(NEXT, {"limit": limit - len(taken)})
        if spare and len(taken) + len(waiting) == limit and waiting[-1][1] > 1:
            waiting.pop()
        taken += [(job_id,) for job_id, _ in waiting]
    return [_start(tx, job_id, owner, lease_ms) for (job_id,) in taken]


def _start(tx: Tx, job_id: str, owner: str, lease_ms: int) -> Job:
    job = _load(tx, job_id)
    core.advance(job, Event.STARTED)
    tx.execute(
        "UPDATE jobs SET state = 'running', attempt = attempt + 1, lease_owner = :owner, lease_until_ms = :until_ms,"
        " started_ms = coalesce(started_ms, :now_ms) WHERE id = :id",
        {"id": job_id, "owner": owner, "until_ms": tx.now_ms + lease_ms, "now_ms": tx.now_ms},
    )
    return _load(tx, job_id)


def heartbeat(tx: Tx, job: Job, owner: str, lease_ms: int, phase: str, rounds: int) -> Job | None:
    """Prolongs the lease and tells how far the work is. None: the job is this attempt's no more."""
    rows = tx.execute(
        "UPDATE jobs SET lease_until_ms = :until_ms, phase = :phase, rounds = :rounds"
        " WHERE id = :id AND state = 'running' AND lease_owner = :owner AND attempt = :attempt RETURNING id",
        {
            "id": job.id, "owner": owner, "attempt": job.attempt, "until_ms": tx.now_ms + lease_ms, "phase": phase,
            "rounds": rounds,
        },
    )  # fmt: skip
    return _load(tx, job.id) if rows else None


def hand_back(tx: Tx, job: Job, owner: str) -> bool:
    """QUEUED again, as if this attempt had never been; its journal stays. False: it is this attempt's no more."""
    core.advance(job, Event.HANDED_BACK)
    rows = tx.execute(
        "UPDATE jobs SET state = 'queued', attempt = attempt - 1, lease_owner = NULL, lease_until_ms = NULL"
        " WHERE id = :id AND state = 'running' AND lease_owner = :owner AND attempt = :attempt RETURNING id",
        {"id": job.id, "owner": owner, "attempt": job.attempt},
    )
    return bool(rows)


def end(
    tx: Tx,
    job: Job,
    event: Event,
    *,
    ttl_ms: int,
    error_code: str | None = None,
    error: str | None = None,
    rounds: int | None = None,
) -> Job:
    """COMPLETED, FAILED or CANCELLED: of this attempt, or from the queue. What was asked is forgotten, but where it may
    be done again: then it is kept as long as a result would be. Raises Conflict when it has moved meanwhile."""
    after = core.advance(job, event)
    expires_ms = tx.now_ms + ttl_ms
    rows = tx.execute(
        "UPDATE jobs SET state = :state, payload = x'', lease_owner = NULL, lease_until_ms = NULL, ended_ms = :now_ms,"
        " expires_ms = :expires_ms, error_code = :error_code, error = :error, phase = 'done',"
        " rounds = coalesce(:rounds, rounds)"
        " WHERE id = :id AND state = :from_state AND attempt = :attempt RETURNING id",
        {
            "id": job.id, "state": after, "from_state": job.state, "attempt": job.attempt, "now_ms": tx.now_ms,
            "expires_ms": expires_ms, "error_code": error_code, "error": error, "rounds": rounds,
        },
    )  # fmt: skip
    if not rows:
        raise Conflict(f"{job.id} was moved by somebody else")
    kept = {"id": job.id, "payload": job.payload, "expires_ms": expires_ms, "charge_id": job.charge_id}
    if after is not State.FAILED or not tx.execute(KEEP, kept):
        tx.execute("DELETE FROM job_hops WHERE job_id = :id", {"id": job.id})
    return _load(tx, job.id)


# doing a failed one again


def payload_of(tx: Tx, job_id: str) -> bytes | None:
    """What a failed job had asked for. None: that is gone, or it was paid by a signature, or never failed."""
    rows = tx.execute(
        "SELECT payload FROM retries WHERE job_id = :id AND expires_ms > :now_ms", {"id": job_id, "now_ms": tx.now_ms}
    )
    return rows[0][0] if rows else None


def retried_as(tx: Tx, job_id: str) -> str | None:
    """The job that does this one again."""
    rows = tx.execute("SELECT id FROM jobs WHERE retry_of = :id", {"id": job_id})
    return rows[0][0] if rows else None


def hand_down(tx: Tx, job_id: str, retry_id: str) -> None:
    """What a failed job had asked for goes to the one that does it again, and with it what it has bought. A purchase
    whose answer was lost is made again: that is what its operator wants."""
    ids = {"id": job_id, "retry_id": retry_id}
    tx.execute("DELETE FROM retries WHERE job_id = :id", {"id": job_id})
    tx.execute("DELETE FROM job_hops WHERE job_id = :id AND outcome IS NULL", {"id": job_id})
    tx.execute("UPDATE job_hops SET job_id = :retry_id WHERE job_id = :id", ids)


def forget(tx: Tx) -> int:
    """Deletes what failed jobs had asked for and bought, once nobody may have it done again, and what their clients
    had named to be told by, once nobody may ask about them. Answers how many of the first."""
    tx.execute(
        "UPDATE jobs SET callback_url = NULL, idempotency_key = NULL WHERE expires_ms <= :now_ms AND untold = 0"
        " AND (callback_url IS NOT NULL OR idempotency_key IS NOT NULL)",
        {"now_ms": tx.now_ms},
    )
    rows = tx.execute("DELETE FROM retries WHERE expires_ms <= :now_ms RETURNING job_id", {"now_ms": tx.now_ms})
    for (job_id,) in rows:
        tx.execute("DELETE FROM job_hops WHERE job_id = :id", {"id": job_id})
    return len(rows)


def ask_to_stop(tx: Tx, job_id: str) -> bool:
    """Marks a running job for its worker. False: it is not running."""
    rows = tx.execute(
        "UPDATE jobs SET cancelling = 1 WHERE id = :id AND state = 'running' RETURNING id", {"id": job_id}
    )
    return bool(rows)


# telling of its end later


def put_off(tx: Tx, job_id: str) -> None:
    """Its end is told once it is paid for, or known that it will not be."""
    tx.execute("UPDATE jobs SET untold = 1 WHERE id = :id", {"id": job_id})


def untold(tx: Tx) -> list[Job]:
    return [from_row(row) for row in tx.execute(_SELECT + "WHERE j.untold = 1 ORDER BY j.id")]


def take_untold(tx: Tx, job_id: str) -> bool:
    """Whoever gets True tells it, in this transaction."""
    return bool(tx.execute("UPDATE jobs SET untold = 0 WHERE id = :id AND untold = 1 RETURNING id", {"id": job_id}))


# the journal of a job's work


def recall(tx: Tx, job_id: str, key: str) -> bytes | None:
    """The stored outcome of a hop; None when there is none."""
    rows = tx.execute("SELECT outcome FROM job_hops WHERE job_id = :id AND key = :key", {"id": job_id, "key": key})
    return rows[0][0] if rows else None


def outcomes(tx: Tx, job_id: str) -> list[bytes]:
    """Of every hop that has one, in the order in which they were asked."""
    rows = tx.execute(
        "SELECT outcome FROM job_hops WHERE job_id = :id AND outcome IS NOT NULL ORDER BY asked_ms, key", {"id": job_id}
    )
    return [row[0] for row in rows]


def lost(tx: Tx, job_id: str) -> list[tuple[str, int, int]]:
    """(key, the most it can have taken, when it was asked last) of every hop that was asked and has no outcome. What
    takes nothing is left out."""
    return tx.execute(
        "SELECT key, cost_micros, asked_ms FROM job_hops WHERE job_id = :id AND outcome IS NULL AND cost_micros > 0"
        " ORDER BY asked_ms, key",
        {"id": job_id},
    )


def asking(tx: Tx, job: Job, owner: str, key: str, *, repeatable: bool, cost_micros: int = 0) -> int:
    """Written before a vendor is asked: how often it now was. 0: not to be asked, since the answer to an earlier asking
    was lost and it may not be repeated, or since the job is this attempt's no more."""
    rows = tx.execute(
        "INSERT INTO job_hops (job_id, key, asked, asked_ms, cost_micros)"
        f" SELECT :id, :key, 1, :now_ms, :cost WHERE {_OURS}"
        " ON CONFLICT (job_id, key) DO UPDATE SET asked = job_hops.asked + 1, asked_ms = excluded.asked_ms,"
        " cost_micros = job_hops.cost_micros + excluded.cost_micros WHERE :repeatable RETURNING asked",
        {"key": key, "now_ms": tx.now_ms, "cost": cost_micros, "repeatable": repeatable, **_ours(job, owner)},
    )
    return rows[0][0] if rows else 0


def remember(tx: Tx, job: Job, owner: str, key: str, outcome: bytes) -> None:
    """Nothing, where the job is this attempt's no more."""
    tx.execute(
        f"UPDATE job_hops SET outcome = :outcome WHERE job_id = :id AND key = :key AND {_OURS}",  # noqa: S608 a constant
        {"key": key, "outcome": outcome, **_ours(job, owner)},
    )


_OURS = """EXISTS (SELECT 1 FROM jobs j WHERE j.id = :id AND j.state = 'running' AND j.lease_owner = :owner
  AND j.attempt = :attempt)"""


def _ours(job: Job, owner: str) -> dict[str, object]:
    return {"id": job.id, "owner": owner, "attempt": job.attempt}


def from_row(row: Row) -> Job:
    """A row of COLUMNS."""
    values = list(row)
    values[10], values[12] = State(values[10]), bool(values[12])
    return Job(*values)


def _load(tx: Tx, job_id: str) -> Job:
    job = find(tx, job_id)
    if job is None:
        raise IllegalMove(f"{job_id} is no job")
    return job
