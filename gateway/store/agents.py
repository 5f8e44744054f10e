"""Agents, their tokens and what an operator gives them. Every deed is written to the operator's log as well."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from gateway.core.agent import ADMIN, REPLACED_TOKEN, UNKNOWN_TOKEN, Principal, Status, TokenKind
from gateway.core.errors import Code, Conflict, Problem
from gateway.core.transfer import GRANTS, OPERATOR, Kind, Part, Transfer, account
from gateway.store import actions, ledger
from gateway.store.database import Row, Tx

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Balance:
    """Micro-USD. Own money and bonus, each available or under open holds; and what is owed of both together."""

    available: int
    held: int
    bonus: int
    bonus_held: int
    debt: int = 0


@dataclass(frozen=True, slots=True)
class Agent:
    id: str
    label: str
    status: Status
    created_ms: int
    tokens: int
    """How many of its own are valid."""
    balance: Balance
    keys: int = 0
    """How many usage keys are."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """All that is kept of a token that was just made."""

    id: str
    hash: bytes
    hint: str


VALID = "t.revoked_ms IS NULL AND (t.expires_ms IS NULL OR t.expires_ms > :now_ms)"
KEY_VALID = "k.revoked_ms IS NULL AND (k.expires_ms IS NULL OR k.expires_ms > :now_ms)"
AUTHENTICATE = f"""
SELECT a.id, t.id, t.kind, a.status, a.label, a.created_ms, t.expires_ms IS NOT NULL, t.key_id, k.scopes,
  k.requests_per_min
FROM tokens t JOIN agents a ON a.id = t.agent_id LEFT JOIN usage_keys k ON k.id = t.key_id
WHERE t.hash = :hash AND {VALID} AND (t.key_id IS NULL OR ({KEY_VALID}))
"""  # noqa: S608 constants
SHOWN = f"""
SELECT t.expires_ms FROM tokens t WHERE t.id = :id AND t.agent_id = :agent_id AND t.kind = 'admin' AND {VALID}
"""  # noqa: S608 a constant
LISTING = f"""
SELECT a.id, a.label, a.status, a.created_ms,
  (SELECT count(*) FROM tokens t WHERE t.agent_id = a.id AND t.kind = 'admin' AND {VALID}),
  (SELECT count(*) FROM usage_keys k WHERE k.agent_id = a.id AND {KEY_VALID})
FROM agents a
"""  # noqa: S608 constants


def create(tx: Tx, agent_id: str, label: str) -> None:
    tx.execute(
        "INSERT INTO agents (id, label, status, created_ms) VALUES (:id, :label, :status, :now_ms)",
        {"id": agent_id, "label": label, "status": Status.ACTIVE, "now_ms": tx.now_ms},
    )
    actions.note(tx, "create_agent", agent_id, label)


def set_status(tx: Tx, agent_id: str, status: Status, note: str = "") -> bool:
    """A frozen agent opens no new charge and none of its queued jobs is begun; what is under way ends as it would, and
    whatever it may ask about it may ask. `note` says why. False: no such agent."""
    rows = tx.execute(
        "UPDATE agents SET status = :status WHERE id = :id RETURNING id", {"id": agent_id, "status": status}
    )
    if rows:
        actions.note(tx, "set_status", agent_id, f"{status}: {note}" if note else status)
    return bool(rows)


def add_token(
    tx: Tx, token_id: str, agent_id: str, kind: TokenKind, token_hash: bytes, hint: str, key_id: str | None = None
) -> None:
    """`token_hash` and `hint` are all that is kept of the token. `key_id`: the usage key that it is a token of."""
    tx.execute(
        "INSERT INTO tokens (id, agent_id, kind, hash, hint, created_ms, key_id)"
        " VALUES (:id, :agent_id, :kind, :hash, :hint, :now_ms, :key_id)",
        {
            "id": token_id, "agent_id": agent_id, "kind": kind, "hash": token_hash, "hint": hint, "now_ms": tx.now_ms,
            "key_id": key_id,
        },
    )  # fmt: skip
    actions.note(tx, "add_token", agent_id, f"{token_id} {hint}")


def authenticate(tx: Tx, token_hash: bytes) -> Principal | None:
    """Who holds this token, frozen or not; None for one that is unknown, revoked or over."""
    rows = tx.execute(AUTHENTICATE, {"hash": token_hash, "now_ms": tx.now_ms})
    if not rows:
        return None
    agent_id, token_id, kind, status, label, created_ms, replaced, key_id, scopes, requests_per_min = rows[0]
    return Principal(
        agent_id, token_id, TokenKind(kind), Status(status), label, created_ms, bool(replaced), key_id,
        (ADMIN,) if scopes is None else tuple(scopes.split()), requests_per_min,
    )  # fmt: skip


def require_admin(tx: Tx, agent_id: str, token_id: str) -> None:
    """That this token of the agent's own opens still, and no other has replaced it. The one place of that rule: at the
    door the same is looked at, but a body may take its time after that, and a token be replaced in it. Raises Problem
    INVALID_TOKEN, ADMIN_TOKEN_REQUIRED."""
    rows = tx.execute(SHOWN, {"id": token_id, "agent_id": agent_id, "now_ms": tx.now_ms})
    if not rows:
        raise Problem(Code.INVALID_TOKEN, UNKNOWN_TOKEN)
    if rows[0][0] is not None:
        raise Problem(Code.ADMIN_TOKEN_REQUIRED, REPLACED_TOKEN)


def by_admin(agent: Principal, write: Callable[Concatenate[Tx, P], T]) -> Callable[Concatenate[Tx, P], T]:
    """`write`, if the token that was shown is still the agent's own when it is written: whatever lets its holder have
    more is written so. Raises Problem as `require_admin`."""

    def written(tx: Tx, /, *args: P.args, **kwargs: P.kwargs) -> T:
        require_admin(tx, agent.agent_id, agent.token_id)
        return write(tx, *args, **kwargs)

    return written


def rotate(tx: Tx, agent_id: str, shown_id: str, new: NewToken, grace_ms: int) -> int:
    """`new` is the agent's token from now on. Its others end at once, or are good for calls for `grace_ms` more; its
    usage keys stay. Answers when they end. Raises Problem when the token that was shown has been replaced meanwhile:
    of many who rotate at once, one does."""
    require_admin(tx, agent_id, shown_id)
    until_ms = end_tokens(tx, agent_id, None, grace_ms)
    add_token(tx, new.id, agent_id, TokenKind.ADMIN, new.hash, new.hint)
    actions.note(tx, "rotate", agent_id, f"by {shown_id}, which ends in {grace_ms} ms")
    return until_ms


def end_tokens(tx: Tx, agent_id: str, key_id: str | None, grace_ms: int) -> int:
    """The tokens of an agent, or of one of its keys, end at once or in `grace_ms`, and none of them later than it
    would have. Answers when."""
    until_ms = tx.now_ms + grace_ms
    tx.execute(
        "UPDATE tokens SET"
        # What is over by now is looked at no more.
        " revoked_ms = CASE WHEN :until_ms <= :now_ms OR expires_ms <= :now_ms THEN :now_ms END,"
        " expires_ms = CASE WHEN expires_ms < :until_ms THEN expires_ms ELSE :until_ms END"
        " WHERE agent_id = :agent_id AND coalesce(key_id, '') = :key_id AND revoked_ms IS NULL",
        {"agent_id": agent_id, "key_id": key_id or "", "now_ms": tx.now_ms, "until_ms": until_ms},
    )
    return until_ms


def revoke(tx: Tx, agent_id: str) -> int:
    """Every valid token of its own that this agent has; answers how many. Open charges end as they would, and its
    usage keys stay: see gateway/store/usage_keys.py."""
    rows = tx.execute(
        "UPDATE tokens SET revoked_ms = :now_ms WHERE agent_id = :agent_id AND kind = 'admin' AND revoked_ms IS NULL"
        " RETURNING id, expires_ms",
        {"agent_id": agent_id, "now_ms": tx.now_ms},
    )
    if rows:
        actions.note(tx, "revoke", agent_id, " ".join(row[0] for row in rows))
    return sum(expires_ms is None or expires_ms > tx.now_ms for _, expires_ms in rows)


def note_used(tx: Tx, used: Mapping[str, int]) -> None:
    """When these tokens, by id, were used last (Unix milliseconds)."""
    for token_id, at_ms in used.items():
        tx.execute(
            "UPDATE tokens SET last_used_ms = :at_ms"
            " WHERE id = :id AND revoked_ms IS NULL AND coalesce(last_used_ms, 0) < :at_ms",
            {"id": token_id, "at_ms": at_ms},
        )


def credit(tx: Tx, agent_id: str, amount_micros: int, kind: Kind, note: str, credit_id: str) -> None:
    """Gives money: CREDIT is the agent's own, GRANT is bonus. The same `credit_id` again changes nothing; with other
    terms it raises Conflict. ValueError for an amount that is not above zero."""
    sources = {Kind.CREDIT: (OPERATOR, Part.AVAILABLE), Kind.GRANT: (GRANTS, Part.BONUS)}
    source, part = sources[kind]
    transfer = Transfer(kind, source, account(agent_id, part), amount_micros)
    terms = (agent_id, kind.value, amount_micros)
    earlier = tx.execute("SELECT agent_id, kind, amount_micros FROM credits WHERE id = :id", {"id": credit_id})
    if earlier:
        if earlier[0] != terms:
            raise Conflict(f"{credit_id} was another credit")
        return
    tx.execute(
        "INSERT INTO credits (id, agent_id, kind, amount_micros, note, at_ms)"
        " VALUES (:id, :agent_id, :kind, :amount, :note, :now_ms)",
        {
            "id": credit_id, "agent_id": agent_id, "kind": kind, "amount": amount_micros, "note": note,
            "now_ms": tx.now_ms,
        },
    )  # fmt: skip
    ledger.post(tx, (transfer,), note=note)
    actions.note(tx, kind, agent_id, f"{amount_micros} micros as {credit_id}: {note}")


def balance(tx: Tx, party: str) -> Balance:
    """Of an agent or of a wallet's address; zeros when nothing was ever booked."""
    parts = {part: ledger.balance(tx, account(party, part)) for part in Part if part is not Part.AUTHORIZED}
    return Balance(
        available=parts[Part.AVAILABLE],
        held=parts[Part.HELD],
        bonus=parts[Part.BONUS],
        bonus_held=parts[Part.BONUS_HELD],
        debt=-parts[Part.DEBT] - parts[Part.BONUS_DEBT],
    )


def find(tx: Tx, agent_id: str) -> Agent | None:
    rows = tx.execute(LISTING + "WHERE a.id = :id", {"id": agent_id, "now_ms": tx.now_ms})
    return _agent(tx, rows[0]) if rows else None


def listing(tx: Tx) -> list[Agent]:
    """Oldest first."""
    return [_agent(tx, row) for row in tx.execute(LISTING + "ORDER BY a.id", {"now_ms": tx.now_ms})]


def _agent(tx: Tx, row: Row) -> Agent:
    id, label, status, at, tokens, keys = row
    return Agent(id, label, Status(status), at, tokens, balance(tx, id), keys)
