"""Signed payments: one row for each authorization ever admitted, so that it pays once.

    claimed   a charge has it, work or settlement is under way
    open      its charge was released by a failure: the same request may claim it anew
    spent     by a capture, a miss or a free match: for good

The identity is (network, asset or Permit2, payer, nonce), never a hash of bytes that a client may vary.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.core.charge import Charge
from gateway.store.database import Tx

STRANGERS_MAX = 3
"""After so many other requests with the same payment, its charge answers to its token only."""


class PaymentState(StrEnum):
    CLAIMED = "claimed"
    OPEN = "open"
    SPENT = "spent"


@dataclass(frozen=True, slots=True)
class Claim:
    """A verified authorization that a charge wants to be paid by. Addresses in lower case."""

    identity: str
    payer: str
    network: str
    token: str
    pay_to: str
    amount_atomic: int
    amount_micros: int
    valid_before_s: int
    """Chain time, exclusive."""
    payment: bytes
    """The PaymentPayload as it is sent to the chain or a facilitator."""
    payment_hash: bytes
    spendable_micros: int
    """What the chain said the payer can spend, just now."""
    admitted_block: int
    by_permit: bool = False
    """It rests on an EIP-2612 permit that comes with it: the payer's allowance alone is too small."""


@dataclass(frozen=True, slots=True)
class Known:
    """What an identity was used for last."""

    state: PaymentState
    charge_id: str
    operation: str
    request_hash: bytes
    payment_hash: bytes


def known(tx: Tx, identity: str) -> Known | None:
    rows = tx.execute(
        "SELECT p.state, p.charge_id, c.operation, c.request_hash, p.payment_hash"
        " FROM payments p JOIN charges c ON c.id = p.charge_id WHERE p.identity = :identity",
        {"identity": identity},
    )
    return Known(PaymentState(rows[0][0]), *rows[0][1:]) if rows else None


def claim(tx: Tx, claim: Claim, charge: Charge) -> None:
    """For a charge that is already written. Whoever calls has seen that nobody else has it: see `known`."""
    tx.execute(
        "INSERT INTO payments (identity, state, charge_id, payer, network, token, pay_to, amount_atomic,"
        " amount_micros, valid_before_s, payment, payment_hash, admitted_block, by_permit, wrong_requests)"
        " VALUES (:identity, 'claimed', :charge_id, :payer, :network, :token, :pay_to, :amount_atomic,"
        " :amount_micros, :valid_before_s, :payment, :payment_hash, :admitted_block, :by_permit, 0)"
        # Permit2 has one nonce for all tokens: claimed anew, it may well be another one's.
        " ON CONFLICT (identity) DO UPDATE SET state = 'claimed', charge_id = excluded.charge_id,"
        " token = excluded.token, pay_to = excluded.pay_to,"
        " amount_atomic = excluded.amount_atomic, amount_micros = excluded.amount_micros,"
        " valid_before_s = excluded.valid_before_s, payment = excluded.payment,"
        " payment_hash = excluded.payment_hash, admitted_block = excluded.admitted_block,"
        " by_permit = excluded.by_permit",
        {
            "identity": claim.identity,
            "charge_id": charge.id,
            "payer": claim.payer,
            "network": claim.network,
            "token": claim.token,
            "pay_to": claim.pay_to,
            "amount_atomic": str(claim.amount_atomic),
            "amount_micros": claim.amount_micros,
            "valid_before_s": claim.valid_before_s,
            "payment": claim.payment,
            "payment_hash": claim.payment_hash,
            "admitted_block": claim.admitted_block,
            "by_permit": int(claim.by_permit),
        },
    )


def end_claim(tx: Tx, charge_id: str, *, reusable: bool) -> None:
    """The charge was released by a failure (reusable) or by anything else (spent for good)."""
    tx.execute(
        "UPDATE payments SET state = :state WHERE charge_id = :charge_id AND state = 'claimed'"
        " AND identity = (SELECT identity FROM charges WHERE id = :charge_id)",
        {"state": PaymentState.OPEN if reusable else PaymentState.SPENT, "charge_id": charge_id},
    )


def uncollected_micros(tx: Tx, payer: str, asset: str) -> int:
    """What this payer has signed of this token for charges that are open or captured, and is still to leave the wallet.

    Payments that were told to have failed are not counted: nobody here will send them any more.
    """
    ((micros,),) = tx.execute(
        "SELECT coalesce(sum(CASE c.state WHEN 'held' THEN c.held_micros ELSE c.captured_micros END), 0)"
        " FROM charges c WHERE c.payer = :payer AND c.asset = :asset AND c.source = 'signature'"
        " AND c.state IN ('held', 'captured') AND NOT EXISTS (SELECT 1 FROM settlements s"
        " WHERE s.identity = c.identity AND s.abandoned = 1)",
        {"payer": payer, "asset": asset},
    )
    return int(micros)


def rests_on_permit(tx: Tx, payer: str, asset: str) -> bool:
    """Whether a charge of this payer in this token is open, or captured and not collected, and rests on a permit.

    A token keeps an allowance for each owner and spender: permits of another token are no matter.
    """
    return bool(
        tx.execute(
            "SELECT 1 FROM charges c JOIN payments p ON p.identity = c.identity"
            " WHERE c.payer = :payer AND c.asset = :asset AND c.source = 'signature'"
            " AND c.state IN ('held', 'captured') AND p.by_permit = 1 AND NOT EXISTS (SELECT 1 FROM settlements s"
            " WHERE s.identity = c.identity AND s.abandoned = 1) LIMIT 1",
            {"payer": payer, "asset": asset},
        )
    )


def note_wrong_request(tx: Tx, identity: str) -> int:
    """Counts a request that brought this payment with another body; answers how many there were."""
    rows = tx.execute(
        "UPDATE payments SET wrong_requests = wrong_requests + 1 WHERE identity = :identity RETURNING wrong_requests",
        {"identity": identity},
    )
    return int(rows[0][0]) if rows else 0
