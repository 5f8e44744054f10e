"""What the operator did: an append-only log, written in the transaction of the deed itself."""

from dataclasses import dataclass

from gateway.store.database import Tx


@dataclass(frozen=True, slots=True)
class Action:
    seq: int
    at_ms: int
    action: str
    """One word, such as `credit` or `refund`."""
    subject: str
    """The id it was done to."""
    detail: str


def note(tx: Tx, action: str, subject: str, detail: str = "") -> None:
    """`detail` holds no secret."""
    tx.execute(
        "INSERT INTO actions (at_ms, action, subject, detail) VALUES (:now_ms, :action, :subject, :detail)",
        {"now_ms": tx.now_ms, "action": action, "subject": subject, "detail": detail},
    )


def listing(tx: Tx, limit: int = 100, subject: str | None = None) -> list[Action]:
    """Newest first."""
    rows = tx.execute(
        "SELECT seq, at_ms, action, subject, detail FROM actions"
        " WHERE CAST(:subject AS TEXT) IS NULL OR subject = :subject ORDER BY seq DESC LIMIT :limit",
        {"subject": subject, "limit": limit},
    )
    return [Action(*row) for row in rows]
