"""What a wallet's owner has stated to spend here by x402 at most: a limit of his own, which we keep for him.

What a contract has stated is for payments on its network, what a key has for all (gateway/store/wallets.py). A hold
draws all that it may come to on whatever was stated for it; what its end leaves over is given back by a trigger of the
schema.
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


def find(tx: Tx, address: str, network: str) -> Allowance | None:
    """Of a wallet, in lower case, as it was stated for this network, or EVERYWHERE; None where it was not."""
    rows = tx.execute(
        "SELECT limit_micros, drawn_micros, since_ms FROM allowances WHERE address = :address AND network = :network",
        {"address": address, "network": network},
    )
    return Allowance(*rows[0]) if rows else None


def exceeded(tx: Tx, address: str, network: str, micros: int) -> Allowance | None:
    """The one that a payment on this network would go beyond."""
    rows = tx.execute(
        "SELECT limit_micros, drawn_micros, since_ms FROM allowances"
        " WHERE address = :address AND network IN ('', :network)",
        {"address": address, "network": network},
    )
    return next((each for each in (Allowance(*row) for row in rows) if not each.covers(micros)), None)


def draw(tx: Tx, address: str, network: str, micros: int) -> None:
    """For a charge of this transaction, paid on this network; nothing where the wallet has stated none. More than is
    left violates the schema and raises the database's own error."""
    tx.execute(
        "UPDATE allowances SET drawn_micros = drawn_micros + :micros"
        " WHERE address = :address AND network IN ('', :network) AND since_ms < :now_ms",
        {"address": address, "network": network, "micros": micros, "now_ms": tx.now_ms},
    )


def state(tx: Tx, address: str, network: str, limit_micros: int, nonce: str, signature: bytes) -> None:
    """For a registered wallet, on one network or EVERYWHERE. What was stated before for the same gives way, and drawing
    begins anew."""
    tx.execute(
        "INSERT INTO allowances (address, network, limit_micros, drawn_micros, signature, nonce, since_ms)"
        " VALUES (:address, :network, :limit, 0, :signature, :nonce, :now_ms)"
        " ON CONFLICT (address, network) DO UPDATE SET limit_micros = excluded.limit_micros, drawn_micros = 0,"
        " signature = excluded.signature, nonce = excluded.nonce, since_ms = excluded.since_ms",
        {
            "address": address, "network": network, "limit": limit_micros, "signature": signature, "nonce": nonce,
            "now_ms": tx.now_ms,
        },
    )  # fmt: skip
