"""Usage keys: made, changed and revoked by their agent, and what they have taken of its balance.

What a key may take is looked at, and what a hold takes is counted, in the transaction of the hold; there is one writer,
so nothing comes between. From then on triggers on the charges (migrations/0012.sql) do the counting, so it follows
every move of every charge.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.agent import (
    KEYS_MAX,
    UNKNOWN_TOKEN,
    Cap,
    KeyTerms,
    Period,
    TokenKind,
    denied,
    first_day,
    permits,
    resets_ms,
)
from gateway.core.errors import Code, Problem
from gateway.store import actions, agents
from gateway.store.agents import NewToken
from gateway.store.database import Row, Tx

_SELECT = """
SELECT k.id, k.agent_id, k.label, k.scopes, k.cap_micros, k.cap_period, k.requests_per_min, k.expires_ms,
  k.created_ms, k.revoked_ms,
  coalesce((SELECT t.hint FROM tokens t WHERE t.key_id = k.id
    ORDER BY t.expires_ms IS NOT NULL, t.created_ms DESC, t.id DESC LIMIT 1), ''),
  (SELECT max(t.last_used_ms) FROM tokens t WHERE t.key_id = k.id)
FROM usage_keys k
"""
KEPT_MS = 90 * 86_400_000
"""How long what is over is kept where nothing refers to it."""
LATELY_MS, LATELY_MAX = 30 * 86_400_000, 100
"""What was revoked no longer ago, and the latest of it, is listed beside what is not."""
FORGOTTEN_AT_ONCE = 500
STANDING = f"""
SELECT {agents.KEY_VALID}, k.scopes, k.cap_micros, k.cap_period, k.open_micros FROM usage_keys k WHERE k.id = :id
"""  # noqa: S608 a constant


@dataclass(frozen=True, slots=True)
class Use:
    """How far a key is: `used_micros` in its cap's period, or ever where it has none."""

    cap: Cap | None
    used_micros: int
    """Captured and not given back, and what open calls hold."""
    resets_ms: int | None
    """When the next period begins; None: never."""


@dataclass(frozen=True, slots=True)
class UsageKey:
    id: str
    agent_id: str
    terms: KeyTerms
    use: Use
    hint: str
    created_ms: int
    revoked_ms: int | None
    last_used_ms: int | None
    expired: bool

    @property
    def status(self) -> str:
        return "revoked" if self.revoked_ms is not None else "expired" if self.expired else "active"


@dataclass(frozen=True, slots=True)
class Capped:
    """The key's cap does not cover it."""

    use: Use


def create(tx: Tx, key_id: str, agent_id: str, terms: KeyTerms, token: NewToken) -> UsageKey:
    """Raises Problem VALIDATION_ERROR when the agent has as many as one may have."""
    ((count,),) = tx.execute(
        "SELECT count(*) FROM usage_keys WHERE agent_id = :agent_id AND revoked_ms IS NULL", {"agent_id": agent_id}
    )
    if count >= KEYS_MAX:
        raise Problem(Code.VALIDATION_ERROR, f"an agent has at most {KEYS_MAX} usage keys: revoke one that is not used")
    tx.execute(
        "INSERT INTO usage_keys (id, agent_id, label, scopes, cap_micros, cap_period, requests_per_min,"
        " expires_ms, created_ms) VALUES (:id, :agent_id, :label, :scopes, :cap_micros, :cap_period,"
        " :requests_per_min, :expires_ms, :now_ms)",
        {"id": key_id, "agent_id": agent_id, "now_ms": tx.now_ms, **_columns(terms)},
    )
    agents.add_token(tx, token.id, agent_id, TokenKind.USAGE, token.hash, token.hint, key_id)
    actions.note(tx, "create_key", agent_id, f"{key_id} {_words(terms)}")
    return _load(tx, agent_id, key_id)


def change(tx: Tx, agent_id: str, key_id: str, change: Callable[[KeyTerms], KeyTerms]) -> UsageKey | None:
    """The key with other terms; what is open stays open. None: the agent has no such key, or has revoked it. Raises
    what `change` does."""
    key = find(tx, agent_id, key_id)
    if key is None or key.revoked_ms is not None:
        return None
    terms = change(key.terms)
    if terms != key.terms:
        tx.execute(
            "UPDATE usage_keys SET label = :label, scopes = :scopes, requests_per_min = :requests_per_min,"
            " expires_ms = :expires_ms, cap_micros = :cap_micros, cap_period = :cap_period,"
            " recapped = CASE WHEN :recapped THEN 1 ELSE recapped END WHERE id = :id",
            {"id": key_id, "recapped": int(terms.cap != key.terms.cap), **_columns(terms)},
        )
        actions.note(tx, "change_key", agent_id, f"{key_id} {_words(terms)}")
    return _load(tx, agent_id, key_id)


def rotate(tx: Tx, agent_id: str, key_id: str, token: NewToken, grace_ms: int) -> tuple[UsageKey, int] | None:
    """The key with another token, and when the one before ends. None: as `change`."""
    key = find(tx, agent_id, key_id)
    if key is None or key.revoked_ms is not None:
        return None
    until_ms = agents.end_tokens(tx, agent_id, key_id, grace_ms)
    agents.add_token(tx, token.id, agent_id, TokenKind.USAGE, token.hash, token.hint, key_id)
    actions.note(tx, "rotate_key", agent_id, f"{key_id}, its token before ends in {grace_ms} ms")
    return _load(tx, agent_id, key_id), until_ms


def revoke(tx: Tx, agent_id: str, key_id: str) -> UsageKey | None:
    """For good, and with all its tokens; again changes nothing. Open charges end as they would. None: no such key."""
    key = find(tx, agent_id, key_id)
    if key is None or key.revoked_ms is not None:
        return key
    agents.end_tokens(tx, agent_id, key_id, 0)
    tx.execute("UPDATE usage_keys SET revoked_ms = :now_ms WHERE id = :id", {"id": key_id, "now_ms": tx.now_ms})
    actions.note(tx, "revoke_key", agent_id, key_id)
    return _load(tx, agent_id, key_id)


def find(tx: Tx, agent_id: str, key_id: str) -> UsageKey | None:
    """None: no such key, or another agent's."""
    rows = tx.execute(f"{_SELECT} WHERE k.id = :id AND k.agent_id = :agent_id", {"id": key_id, "agent_id": agent_id})
    return _key(tx, rows[0]) if rows else None


def of_agent(tx: Tx, agent_id: str) -> list[UsageKey]:
    """Those that are not revoked, the oldest first."""
    rows = tx.execute(
        f"{_SELECT} WHERE k.agent_id = :agent_id AND k.revoked_ms IS NULL ORDER BY k.id", {"agent_id": agent_id}
    )
    return [_key(tx, row) for row in rows]


def revoked(tx: Tx, agent_id: str, *, limit: int = LATELY_MAX, since_ms: int | None = None) -> list[UsageKey]:
    """Those that are, the latest first: by default of the last month, and so many."""
    rows = tx.execute(
        f"{_SELECT} WHERE k.agent_id = :agent_id AND k.revoked_ms >= :since_ms ORDER BY k.revoked_ms DESC, k.id DESC"
        " LIMIT :limit",
        {"agent_id": agent_id, "since_ms": tx.now_ms - LATELY_MS if since_ms is None else since_ms, "limit": limit},
    )
    return [_key(tx, row) for row in rows]


def forget(tx: Tx) -> bool:
    """Deletes tokens that ended long ago, and keys that did and have no charge and no figure of one: an agent may have
    made thousands of both, and what was done about them stands in the operator's log. Some at a time; True: there may
    be more."""
    long_ago = {"before_ms": tx.now_ms - KEPT_MS, "limit": FORGOTTEN_AT_ONCE}
    forgotten = tx.execute(
        "DELETE FROM tokens WHERE id IN (SELECT t.id FROM tokens t WHERE t.revoked_ms < :before_ms AND NOT EXISTS"
        " (SELECT 1 FROM wallet_recoveries r WHERE r.token_id = t.id) LIMIT :limit) RETURNING id",
        long_ago,
    )
    forgotten += tx.execute(
        "DELETE FROM usage_keys WHERE id IN (SELECT k.id FROM usage_keys k WHERE k.revoked_ms < :before_ms"
        " AND NOT EXISTS (SELECT 1 FROM tokens t WHERE t.key_id = k.id)"
        " AND NOT EXISTS (SELECT 1 FROM charges c WHERE c.key_id = k.id)"
        " AND NOT EXISTS (SELECT 1 FROM key_days d WHERE d.key_id = k.id) LIMIT :limit) RETURNING id",
        long_ago,
    )
    return len(forgotten) >= FORGOTTEN_AT_ONCE


def active(tx: Tx, agent_id: str) -> int:
    """How many are neither revoked nor expired."""
    ((count,),) = tx.execute(
        f"SELECT count(*) FROM usage_keys k WHERE k.agent_id = :agent_id AND {agents.KEY_VALID}",  # noqa: S608 constant
        {"agent_id": agent_id, "now_ms": tx.now_ms},
    )
    return int(count)


# in the transaction of a hold


def require(tx: Tx, key_id: str, scopes: tuple[str, ...]) -> Row:
    """That the key still opens, and may do all of this; a row of STANDING. Raises Problem INVALID_TOKEN,
    SCOPE_DENIED."""
    (row,) = tx.execute(STANDING, {"id": key_id, "now_ms": tx.now_ms})
    valid, granted = row[:2]
    if not valid:
        raise Problem(Code.INVALID_TOKEN, UNKNOWN_TOKEN)
    granted = granted.split()
    for scope in scopes:
        if not permits(granted, scope):
            raise denied(scope)
    return row


def covers(tx: Tx, key_id: str, scopes: tuple[str, ...], wanted_micros: int) -> Capped | None:
    """None: the key may take this much more. Raises Problem as `require`."""
    _, _, cap_micros, cap_period, open_micros = require(tx, key_id, scopes)
    if cap_micros is None:
        return None
    use = _use(tx, key_id, Cap(cap_micros, Period(cap_period)), open_micros)
    return Capped(use) if use.used_micros + wanted_micros > cap_micros else None


def reserve(tx: Tx, key_id: str, held_micros: int) -> None:
    """Counts what a new charge holds of the balance."""
    tx.execute(
        "UPDATE usage_keys SET open_micros = open_micros + :held WHERE id = :id", {"id": key_id, "held": held_micros}
    )


def use(tx: Tx, key_id: str) -> Use:
    """Of a key that there is."""
    ((cap_micros, cap_period, open_micros),) = tx.execute(
        "SELECT cap_micros, cap_period, open_micros FROM usage_keys WHERE id = :id", {"id": key_id}
    )
    return _use(tx, key_id, Cap(cap_micros, Period(cap_period)) if cap_micros is not None else None, open_micros)


def _use(tx: Tx, key_id: str, cap: Cap | None, open_micros: int) -> Use:
    period = cap.period if cap else Period.TOTAL
    ((spent,),) = tx.execute(
        "SELECT coalesce(sum(spent_micros), 0) FROM key_days WHERE key_id = :id AND day >= :day",
        {"id": key_id, "day": first_day(period, tx.now_ms)},
    )
    return Use(cap, spent + open_micros, resets_ms(period, tx.now_ms))


# rows


def _key(tx: Tx, row: Row) -> UsageKey:
    (
        id, agent_id, label, scopes, cap_micros, cap_period, requests_per_min, expires_ms, created_ms, revoked_ms, hint,
        last_used_ms,
    ) = row  # fmt: skip
    cap = Cap(cap_micros, Period(cap_period)) if cap_micros is not None else None
    terms = KeyTerms(label, tuple(scopes.split()), cap, requests_per_min, expires_ms)
    expired = expires_ms is not None and expires_ms <= tx.now_ms
    return UsageKey(id, agent_id, terms, use(tx, id), hint, created_ms, revoked_ms, last_used_ms, expired)


def _load(tx: Tx, agent_id: str, key_id: str) -> UsageKey:
    key = find(tx, agent_id, key_id)
    if key is None:
        raise AssertionError(f"{key_id} is written and cannot be gone")
    return key


def _columns(terms: KeyTerms) -> dict[str, object]:
    return {
        "label": terms.label,
        "scopes": " ".join(terms.scopes),
        "cap_micros": terms.cap.micros if terms.cap else None,
        "cap_period": terms.cap.period if terms.cap else None,
        "requests_per_min": terms.requests_per_min,
        "expires_ms": terms.expires_ms,
    }


def _words(terms: KeyTerms) -> str:
    """For the operator's log. The label is the agent's own text, and stays out of it."""
    cap = f", at most {terms.cap.micros} micros by {terms.cap.period}" if terms.cap else ""
    return f"{' '.join(terms.scopes)}{cap}"
