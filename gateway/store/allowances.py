"""What a wallet's owner has stated to spend here by x402 at most: a limit of his own, which we keep for him.

How much of it is drawn is kept by triggers of the schema, beside each charge that moves.
"""

from dataclasses import dataclass

from gateway.store.database import Tx


@dataclass(frozen=True, slots=True)
class Allowance:
    """Micro-USD."""

    limit_micros: int
    drawn_micros: int
    """Signed for calls that are open or were paid, since it was stated."""
    since_ms: int

    def covers(self, micros: int) -> bool:
        return self.drawn_micros + micros <= self.limit_micros


def find(tx: Tx, address: str) -> Allowance | None:
    """Of a wallet, in lower case; None where it has stated none."""
    rows = tx.execute(
        "SELECT limit_micros, drawn_micros, since_ms FROM allowances WHERE address = :address", {"address": address}
    )
    return Allowance(*rows[0]) if rows else None


def state(tx: Tx, address: str, limit_micros: int, nonce: str, signature: bytes) -> None:
    """For a registered wallet. What was stated before gives way, and drawing begins anew."""
    tx.execute(
        "INSERT INTO allowances (address, limit_micros, drawn_micros, signature, nonce, since_ms)"
        " VALUES (:address, :limit, 0, :signature, :nonce, :now_ms)"
        " ON CONFLICT (address) DO UPDATE SET limit_micros = excluded.limit_micros, drawn_micros = 0,"
        " signature = excluded.signature, nonce = excluded.nonce, since_ms = excluded.since_ms",
        {"address": address, "limit": limit_micros, "signature": signature, "nonce": nonce, "now_ms": tx.now_ms},
    )
