"""Subjects in the ledger: about whom nothing is told, and who was told about whom. Keyed hashes only
(gateway/core/subject.py).

Whom a call asks about is looked up in the transaction that opens its charge, and whom an answer tells of in the one
that ends it: between the operator's word and an answer there is no gap.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway.core.errors import Code, Problem
from gateway.core.subject import DIGEST_BYTES, Kind
from gateway.store import actions
from gateway.store.database import Tx

SUPPRESSED = "nothing is told about this person here; nothing was charged"
DIGESTS_MAX = 512
"""Of one answer: fifteen people with all they have are some two hundred."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """`hint` and `note` are the operator's, to know it by."""

    id: str
    kind: Kind
    hint: str
    note: str
    key_id: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Access:
    """An answer that told of somebody: who got it."""

    charge_id: str
    at_ms: int
    people: int
    """In the whole answer."""
    party: str
    agent_id: str | None
    key_id: str | None
    operation: str
    state: str
    """Of the charge: what was never paid for was never told."""


# Whom nothing is told about


def suppress(tx: Tx, suppression: Suppression, digests: Iterable[bytes]) -> None:
    """Raises nothing for somebody who is suppressed already: that is one more."""
    tx.execute(
        "INSERT INTO suppressions (id, kind, hint, note, key_id, at_ms)"
        " VALUES (:id, :kind, :hint, :note, :key_id, :now)",
        {
            "id": suppression.id, "kind": suppression.kind, "hint": suppression.hint, "note": suppression.note,
            "key_id": suppression.key_id, "now": tx.now_ms,
        },
    )  # fmt: skip
    for digest in sorted(digests):
        tx.execute(
            "INSERT INTO suppressed (digest, suppression_id) VALUES (:digest, :id)",
            {"digest": digest, "id": suppression.id},
        )
    _changed(tx)
    actions.note(tx, "suppress", suppression.id, suppression.kind)


def unsuppress(tx: Tx, suppression_id: str) -> bool:
    """False: there is no such suppression."""
    gone = tx.execute("DELETE FROM suppressions WHERE id = :id RETURNING id", {"id": suppression_id})
    if gone:
        _changed(tx)
        actions.note(tx, "unsuppress", suppression_id)
    return bool(gone)


def _changed(tx: Tx) -> None:
    tx.execute("UPDATE suppression_version SET version = version + 1")


def listing(tx: Tx) -> list[Suppression]:
    """Newest first."""
    rows = tx.execute("SELECT id, kind, hint, note, key_id, at_ms FROM suppressions ORDER BY id DESC")
    return [Suppression(id, Kind(kind), *rest) for id, kind, *rest in rows]


def of_digests(tx: Tx, digests: Iterable[bytes]) -> list[str]:
    """Ids of the suppressions with one of these."""
    found = {
        str(id)
        for digest in digests
        for (id,) in tx.execute("SELECT suppression_id FROM suppressed WHERE digest = :digest", {"digest": digest})
    }
    return sorted(found)


def version(tx: Tx) -> int:
    """Another one after each change of the list."""
    ((number,),) = tx.execute("SELECT version FROM suppression_version")
    return int(number)


def suppressed(tx: Tx) -> tuple[int, frozenset[bytes]]:
    """(the version, every digest)."""
    return version(tx), frozenset(digest for (digest,) in tx.execute("SELECT digest FROM suppressed"))


def keys(tx: Tx) -> set[int]:
    """The keys that the list was made with."""
    return {int(key_id) for (key_id,) in tx.execute("SELECT DISTINCT key_id FROM suppressions")}


def hidden(tx: Tx, digests: Iterable[bytes]) -> frozenset[bytes]:
    """Those of them that are on the list."""
    if not tx.execute("SELECT 1 FROM suppressed LIMIT 1"):
        return frozenset()
    return frozenset(
        digest
        for digest in digests
        if tx.execute("SELECT 1 FROM suppressed WHERE digest = :digest LIMIT 1", {"digest": digest})
    )


def require_tellable(tx: Tx, asked: Iterable[bytes]) -> None:
    """Raises Problem SUPPRESSED_SUBJECT."""
    if hidden(tx, asked):
        raise Problem(Code.SUPPRESSED_SUBJECT, SUPPRESSED)


# Who was told about whom


def note_access(tx: Tx, charge_id: str, people: int, key_id: int, digests: Sequence[bytes]) -> None:
    tx.execute(
        "INSERT INTO accesses (charge_id, at_ms, people, key_id, digests)"
        " VALUES (:id, :now_ms, :people, :key_id, :digests)",
        {
            "id": charge_id, "now_ms": tx.now_ms, "people": people, "key_id": key_id,
            "digests": b"".join(sorted(digests)[:DIGESTS_MAX]),
        },
    )  # fmt: skip


_ACCESSES = """
SELECT a.charge_id, a.at_ms, a.people, c.party, c.agent_id, c.key_id, c.operation, c.state, a.digests
FROM accesses a JOIN charges c ON c.id = a.charge_id ORDER BY a.at_ms DESC, a.charge_id DESC
"""


def accesses(tx: Tx, digests: Iterable[bytes] | None = None, limit: int = 1_000) -> list[Access]:
    """Newest first: those that told of one with these digests, or all. Looks at every row there is: for the operator's
    command line."""
    wanted = None if digests is None else frozenset(digests)
    found: list[Access] = []
    for *told, blob in tx.execute(_ACCESSES):
        if wanted is None or not wanted.isdisjoint(_split(blob)):
            found.append(Access(*told))
            if len(found) == limit:
                break
    return found


def _split(blob: bytes) -> Iterator[bytes]:
    return (blob[at : at + DIGEST_BYTES] for at in range(0, len(blob), DIGEST_BYTES))


def forget_accesses(tx: Tx, kept_ms: int) -> int:
    """Deletes those that are older; answers how many."""
    return len(
        tx.execute("DELETE FROM accesses WHERE at_ms <= :until RETURNING charge_id", {"until": tx.now_ms - kept_ms})
    )
