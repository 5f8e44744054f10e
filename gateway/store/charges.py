"""Charges: held, recorded, told about, refunded. Each function is one transaction's worth.

What moves is decided by gateway/core/charge.py; here it is written as a compare-and-set on the state, with the
transfers, the payment's state, the idempotency key, the result and the queued settlement beside it: all or nothing.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.core import charge as core
from gateway.core.agent import UNKNOWN_TOKEN, Status
from gateway.core.charge import FREES_PAYMENT, Charge, Disclosure, Event, Source, State, disclosure
from gateway.core.errors import Code, Conflict, IllegalMove, Problem
from gateway.core.settlement import Purpose, Settlement
from gateway.core.transfer import Part, account
from gateway.core.vendor_call import VendorCall
from gateway.core.x402.verdict import Reason
from gateway.store import actions, allowances, charge_row, ledger, payments, settlements, usage_keys, vendor_calls
from gateway.store.allowances import Allowance
from gateway.store.database import Row, Tx
from gateway.store.payments import STRANGERS_MAX, Claim, PaymentState, note_wrong_request
from gateway.store.usage_keys import Capped

__all__ = [
    "BeyondAllowance",
    "Capped",
    "ChargeView",
    "Claim",
    "Held",
    "KeyKnown",
    "KeyUse",
    "Late",
    "Overcommitted",
    "Owing",
    "PaymentKnown",
    "PermitInUse",
    "Short",
    "Work",
    "add_token",
    "expire_results",
    "find",
    "find_alike",
    "find_by_identity",
    "find_by_key",
    "find_by_payment",
    "find_owed",
    "find_withheld",
    "held",
    "hold",
    "listing",
    "mark_resold",
    "note_wrong_request",
    "record",
    "refund",
    "require_standing",
    "token_matches",
]  # fmt: skip

RESULT_TTL_MS = 86_400_000
TOKENS_MAX = 16
"""Of one charge."""

OPEN = """
INSERT INTO charges
  (id, operation, party, source, asset, held_micros, held_bonus_micros, metered, topup, state, captured_micros,
   captured_bonus_micros, refunded_micros, cost_micros, request_id, request_hash, agent_id, identity, payer, owner,
   work_deadline_ms, created_ms, key_id, topup_id)
VALUES
  (:id, :operation, :party, :source, :asset, :held, :bonus, :metered, :topup, 'held', 0,
   0, 0, 0, :request_id, :request_hash, :agent_id, :identity, :payer, :owner,
   :work_deadline_ms, :now_ms, :key_id, :topup_id)
"""
# Answers with whether its party owes anything: a look-up of its own for every release costs that 5 % more.
END = """
UPDATE charges SET state = :state, reason = :reason, captured_micros = :captured, captured_bonus_micros = :bonus,
  cost_micros = cost_micros + :cost, ended_ms = :now_ms, result_expires_ms = :expires_ms
WHERE id = :id AND state = 'held' RETURNING
  EXISTS (SELECT 1 FROM accounts WHERE name = charges.party || ':debt' AND balance_micros < 0)
  OR EXISTS (SELECT 1 FROM accounts WHERE name = charges.party || ':bonus:debt' AND balance_micros < 0)
"""
STANDING = """
SELECT (SELECT status FROM agents WHERE id = :agent_id),
  (SELECT revoked_ms IS NULL AND (expires_ms IS NULL OR expires_ms > :now_ms) FROM tokens
    WHERE id = :bearer_id AND agent_id = :agent_id)"""
FUNDS = f"""{STANDING},
  (SELECT balance_micros FROM accounts WHERE name = :own), (SELECT balance_micros FROM accounts WHERE name = :bonus)
"""  # noqa: S608 a constant
KEEP = "INSERT INTO results (charge_id, body, expires_ms) VALUES (:id, :body, :expires_ms)"


@dataclass(frozen=True, slots=True)
class Work:
    """Who works on a charge, and for which request."""

    request_id: str
    request_hash: bytes
    """Of the canonical request: operation and validated input."""
    owner: str
    """The process: gateway/store/owners.py."""
    work_deadline_ms: int
    """After this the charge may be released by anybody."""
    agent_id: str | None = None
    token_hash: bytes | None = None
    """Of the charge token that goes to an anonymous payer."""
    bearer_id: str | None = None
    """The bearer token that was shown; named, it must still be valid when the hold is written."""
    key_id: str | None = None
    """The usage key that it is a token of. What is held of the balance counts against its cap."""
    scopes: tuple[str, ...] = ()
    """What such a key must be allowed to do for it."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """An idempotency key. `scope` is an agent's id or a payer's address."""

    scope: str
    key: str
    fingerprint: bytes
    """Of what must be equal when the key is used again."""


@dataclass(frozen=True, slots=True)
class Held:
    charge: Charge


@dataclass(frozen=True, slots=True)
class Short:
    """The balance does not cover it."""

    available_micros: int


@dataclass(frozen=True, slots=True)
class Overcommitted:
    """What the wallet can spend does not cover this hold beside its other open ones."""

    open_micros: int


@dataclass(frozen=True, slots=True)
class PermitInUse:
    """It rests on a permit, and so does an open charge of this wallet: the later permit would undo the earlier."""


@dataclass(frozen=True, slots=True)
class BeyondAllowance:
    """It is more than is left of what the wallet has stated to spend here."""

    allowance: Allowance


@dataclass(frozen=True, slots=True)
class Owing:
    """An earlier result of this wallet was never paid for, and no further ceiling of its is taken until it is."""

    owed: "ChargeView"


@dataclass(frozen=True, slots=True)
class KeyKnown:
    charge_id: str
    same_request: bool


@dataclass(frozen=True, slots=True)
class PaymentKnown:
    """This authorization was admitted before. `operation` is what it bought."""

    charge_id: str
    operation: str
    same_request: bool
    same_payment: bool


@dataclass(frozen=True, slots=True)
class Late:
    """Somebody else has ended the charge; only the vendor's cost was booked."""

    charge: Charge


@dataclass(frozen=True, slots=True)
class ChargeView:
    """A charge and everything around it. `result` is what was stored, while it is kept; whether it may be shown is
    for core.charge.disclosure to say."""

    charge: Charge
    request_id: str
    request_hash: bytes
    agent_id: str | None
    created_ms: int
    ended_ms: int | None
    """When the work's outcome was recorded."""
    cost_micros: int
    identity: str | None
    payer: str | None
    settlement: Settlement | None
    transaction: str | None
    """The hash that proves the payment."""
    attempted: str | None
    """The hash of the latest transaction sent for it, proven or not."""
    result: bytes | None
    result_expires_ms: int | None
    """Set when there was a result; it may have expired since, or been erased."""
    owner: str
    work_deadline_ms: int
    key_id: str | None
    """The usage key that it was made with."""
    token_only: bool
    """The payment came with too many other requests: the charge answers to its token alone."""
    resold_by: str | None
    erased: bool = False
    """Its result was, with the person it told of: gateway/store/erasing.py. Nobody knows later than it was kept."""

    @property
    def is_told(self) -> bool:
        """Whether its payer may have its result."""
        abandoned = self.settlement is not None and self.settlement.abandoned
        return disclosure(self.charge, abandoned=abandoned) is Disclosure.RESULT


# holding


def hold(
    tx: Tx, charge: Charge, work: Work, claim: Claim | None, key: KeyUse | None, *, buys: str | None = None
) -> Held | Short | Capped | Overcommitted | PermitInUse | BeyondAllowance | Owing | KeyKnown | PaymentKnown:
    """Opens the charge, or says why not and writes nothing. From balance the split into own and bonus money is made
    here. `buys`: the earlier charge whose withheld result it pays for. Raises Problem AGENT_FROZEN, INVALID_TOKEN, and
    SCOPE_DENIED for a usage key."""
    if (charge.source is Source.SIGNATURE) is (claim is None):
        raise IllegalMove(f"{charge.id}: a charge by signature has a claim, one from balance has none")
    if work.agent_id is not None and (claim is not None or key is not None):
        # Before anything is told of what it did earlier.
        require_standing(tx, work.agent_id, work.bearer_id, work.key_id, work.scopes)
    if claim is not None and (payment := _payment_known(tx, claim, charge, work)) is not None:
        return payment
    if key is not None and (known := find_by_key(tx, key)) is not None:
        return known
    covered = _from_balance(tx, charge, work) if claim is None else _from_wallet(tx, charge, claim, buys)
    if isinstance(covered, Charge):
        _open(tx, covered, work, claim, key)
        return Held(covered)
    return covered


def _payment_known(tx: Tx, claim: Claim, charge: Charge, work: Work) -> PaymentKnown | None:
    known = payments.known(tx, claim.identity)
    if known is None:
        return None
    same_request = known.operation == charge.operation and known.request_hash == work.request_hash
    if known.state is PaymentState.OPEN and same_request:
        return None
    same_payment = hmac.compare_digest(known.payment_hash, claim.payment_hash)
    return PaymentKnown(known.charge_id, known.operation, same_request, same_payment)


def _from_balance(tx: Tx, charge: Charge, work: Work) -> Charge | Short | Capped:
    """Own money first, then bonus. A usage key's cap comes before either: a top-up does not lift it."""
    ((status, bearer_valid, own, bonus),) = tx.execute(
        FUNDS,
        {
            "agent_id": work.agent_id or charge.party, "bearer_id": work.bearer_id, "now_ms": tx.now_ms,
            "own": account(charge.party, Part.AVAILABLE), "bonus": account(charge.party, Part.BONUS),
        },
    )  # fmt: skip
    if status is not None or charge.topup_id is None:  # a prepaid call may be paid from a wallet's account
        _judge_standing(status, bearer_valid, work.bearer_id)
    if work.key_id is not None:
        capped = usage_keys.covers(tx, work.key_id, work.scopes, charge.held_micros)
        if capped is not None:
            return capped
    own, bonus = own or 0, bonus or 0
    if own + bonus < charge.held_micros:
        return Short(own + bonus)
    from_bonus = max(charge.held_micros - own, 0)
    return charge if from_bonus == charge.held_bonus_micros else replace(charge, held_bonus_micros=from_bonus)


def _from_wallet(
    tx: Tx, charge: Charge, claim: Claim, buys: str | None
) -> Charge | Overcommitted | PermitInUse | BeyondAllowance | Owing:
    if charge.asset != f"{claim.network}/{claim.token}" or charge.held_micros != claim.amount_micros:
        raise IllegalMove(f"{charge.id} and its payment differ")
    # A ceiling is collected when the work is done: time enough to pull the payment, again and again.
    if charge.metered and buys is None and (owed := find_owed(tx, claim.payer)) is not None:
        return Owing(owed)
    allowance = allowances.exceeded(tx, claim.payer, claim.network, charge.held_micros)
    if allowance is not None:
        return BeyondAllowance(allowance)
    if claim.by_permit and payments.rests_on_permit(tx, claim.payer, charge.asset):
        return PermitInUse()
    open_micros = payments.uncollected_micros(tx, claim.payer, charge.asset)
    return charge if open_micros + charge.held_micros <= claim.spendable_micros else Overcommitted(open_micros)


def require_standing(
    tx: Tx, agent_id: str, bearer_id: str | None, key_id: str | None = None, scopes: tuple[str, ...] = ()
) -> None:
    """That the agent may spend, its bearer still opens, and a usage key may do all of this. Raises Problem
    AGENT_FROZEN, INVALID_TOKEN, SCOPE_DENIED."""
    ((status, bearer_valid),) = tx.execute(
        STANDING, {"agent_id": agent_id, "bearer_id": bearer_id, "now_ms": tx.now_ms}
    )
    _judge_standing(status, bearer_valid, bearer_id)
    if key_id is not None:
        usage_keys.require(tx, key_id, scopes)


def _judge_standing(status: str | None, bearer_valid: int | None, bearer_id: str | None) -> None:
    if status is None or (bearer_id is not None and not bearer_valid):
        raise Problem(Code.INVALID_TOKEN, UNKNOWN_TOKEN)
    if status != Status.ACTIVE:
        raise Problem(Code.AGENT_FROZEN, "this agent is frozen; ask the operator")


def _open(tx: Tx, charge: Charge, work: Work, claim: Claim | None, key: KeyUse | None) -> None:
    tx.execute(
        OPEN,
        {
            "id": charge.id,
            "operation": charge.operation,
            "party": charge.party,
            "source": charge.source,
            "asset": charge.asset,
            "held": charge.held_micros,
            "bonus": charge.held_bonus_micros,
            "metered": int(charge.metered),
            "topup": int(charge.topup),
            "topup_id": charge.topup_id,
            "request_id": work.request_id,
            "request_hash": work.request_hash,
            "agent_id": work.agent_id,
            "identity": claim.identity if claim else None,
            "payer": claim.payer if claim else None,
            "owner": work.owner,
            "work_deadline_ms": work.work_deadline_ms,
            "now_ms": tx.now_ms,
            "key_id": work.key_id,
        },
    )
    ledger.post(tx, core.hold(charge), charge_id=charge.id, owing=False)
    if work.key_id is not None and claim is None:
        usage_keys.reserve(tx, work.key_id, charge.held_micros)
    if claim is not None:
        payments.claim(tx, claim, charge)
        allowances.draw(tx, claim.payer, claim.network, charge.held_micros)
    if key is not None:
        tx.execute(
            "INSERT INTO idempotency_keys (scope, key, fingerprint, charge_id, at_ms)"
            " VALUES (:scope, :key, :fingerprint, :charge_id, :now_ms)",
            {
                "scope": key.scope, "key": key.key, "fingerprint": key.fingerprint, "charge_id": charge.id,
                "now_ms": tx.now_ms,
            },
        )  # fmt: skip
    if work.token_hash is not None:
        add_token(tx, charge.id, work.token_hash)


# recording


def record(
    tx: Tx,
    charge_id: str,
    event: Event,
    amount_micros: int = 0,
    *,
    calls: Sequence[VendorCall] = (),
    result: bytes | None = None,
    result_ttl_ms: int = RESULT_TTL_MS,
    settlement_id: str | None = None,
    amount_atomic: int | None = None,
) -> ChargeView | Late:
    """What the work came to; answers with what is written now. Raises IllegalMove when a held charge has no such move.

    A signed charge that is captured needs `settlement_id`, the id its settlement will have, and `amount_atomic`
    when less is captured than was signed. `result` is kept for `result_ttl_ms`. `calls` are what was bought for it:
    paid for by us, whatever becomes of the charge.
    """
    cost_micros = sum(call.cost_micros for call in calls)
    vendor_calls.add(tx, charge_id, calls)
    before = _at_work(tx, charge_id)
    if before.charge.state is not State.HELD:
        tx.execute(
            "UPDATE charges SET cost_micros = cost_micros + :cost WHERE id = :id",
            {"id": charge_id, "cost": cost_micros},
        )
        return Late(before.charge)
    after, transfers = core.advance(before.charge, event, amount_micros)
    expires_ms = tx.now_ms + result_ttl_ms if result is not None else None
    moved = tx.execute(
        END,
        {
            "id": charge_id, "state": after.state, "reason": after.reason, "captured": after.captured_micros,
            "bonus": after.captured_bonus_micros, "cost": cost_micros, "now_ms": tx.now_ms, "expires_ms": expires_ms,
        },
    )  # fmt: skip
    if not moved:
        raise Conflict(f"{charge_id} was moved by somebody else")
    ledger.post(tx, transfers, charge_id=charge_id, owing=bool(moved[0][0]))
    if result is not None:
        tx.execute(KEEP, {"id": charge_id, "body": result, "expires_ms": expires_ms})
    if after.reason in FREES_PAYMENT:
        tx.execute("DELETE FROM idempotency_keys WHERE charge_id = :id", {"id": charge_id})
    settlement = None
    if after.source is Source.SIGNATURE:
        payments.end_claim(tx, charge_id, reusable=after.reason in FREES_PAYMENT)
        if after.state is State.CAPTURED:
            settlement = _queue(tx, after, settlement_id, amount_atomic)
    return replace(
        before, charge=after, ended_ms=tx.now_ms, cost_micros=before.cost_micros + cost_micros, settlement=settlement,
        result=result, result_expires_ms=expires_ms,
    )  # fmt: skip


def _queue(tx: Tx, charge: Charge, settlement_id: str | None, amount_atomic: int | None) -> Settlement:
    if settlement_id is None or (amount_atomic is None and charge.captured_micros < charge.held_micros):
        raise IllegalMove(f"{charge.id} is captured by signature: its settlement needs an id, and a part its amount")
    purpose = Purpose.TOPUP if charge.topup else Purpose.CHARGE
    return settlements.queue(tx, settlement_id, purpose, charge.id, charge.captured_micros, amount_atomic=amount_atomic)


def refund(tx: Tx, charge_id: str, amount_micros: int, refund_id: str, note: str) -> Charge:
    """Gives back a part or the rest. The same `refund_id` again changes nothing; with other terms it raises Conflict.

    Raises IllegalMove when there is not so much left, or the charge is not one that can be refunded.
    """
    earlier = tx.execute("SELECT charge_id, amount_micros FROM refunds WHERE id = :id", {"id": refund_id})
    if earlier:
        if earlier[0] != (charge_id, amount_micros):
            raise Conflict(f"{refund_id} was another refund")
        return charge_row.load(tx, charge_id)
    after = charge_row.move(tx, charge_row.load(tx, charge_id), Event.REFUND, amount_micros, note=note)
    tx.execute(
        "INSERT INTO refunds (id, charge_id, amount_micros, note, at_ms)"
        " VALUES (:id, :charge_id, :amount, :note, :now_ms)",
        {"id": refund_id, "charge_id": charge_id, "amount": amount_micros, "note": note, "now_ms": tx.now_ms},
    )
    actions.note(tx, "refund", charge_id, f"{amount_micros} micros as {refund_id}: {note}")
    return after


# telling


_VIEW = f"""
SELECT {charge_row.COLUMNS},
  c.request_id, c.request_hash, c.agent_id, c.created_ms, c.ended_ms, c.cost_micros, c.identity, c.payer,
  f.transaction_hash,
  (SELECT a.hash FROM attempt_settlements l
    JOIN attempts a ON a.network = l.network AND a.key = l.key AND a.nonce = l.nonce AND a.number = l.number
    WHERE l.settlement_id = s.id ORDER BY a.sent_ms DESC, a.number DESC LIMIT 1),
  r.body, c.result_expires_ms, c.owner, c.work_deadline_ms,
  coalesce(p.wrong_requests, 0) >= {STRANGERS_MAX}, c.resold_by, c.key_id, {settlements.COLUMNS}
FROM charges c
LEFT JOIN payments p ON p.identity = c.identity
LEFT JOIN settlements s ON s.identity = c.identity AND s.subject = c.id
LEFT JOIN proofs f ON f.settlement_id = s.id AND f.taken_back_ms IS NULL
LEFT JOIN results r ON r.charge_id = c.id AND r.expires_ms > :now_ms
"""  # noqa: S608 constants of this package, no input
_AT_WORK = f"""
SELECT {charge_row.COLUMNS},
  c.request_id, c.request_hash, c.agent_id, c.created_ms, c.ended_ms, c.cost_micros, c.identity, c.payer,
  NULL, NULL, NULL, c.result_expires_ms, c.owner, c.work_deadline_ms,
  coalesce(p.wrong_requests, 0) >= {STRANGERS_MAX}, c.resold_by, c.key_id, NULL
FROM charges c LEFT JOIN payments p ON p.identity = c.identity WHERE c.id = :id
"""  # noqa: S608 constants of this package, no input
_VIEW_WIDTH = charge_row.WIDTH + 17


def find(tx: Tx, charge_id: str) -> ChargeView | None:
    return _one(tx, "WHERE c.id = :id", {"id": charge_id})


def _at_work(tx: Tx, charge_id: str) -> ChargeView:
    """A charge that is worked on has no result, no settlement and no transaction yet: not looking for them is a
    quarter of the time on the path that is taken most. Raises IllegalMove when there is no such charge."""
    rows = tx.execute(_AT_WORK, {"id": charge_id})
    if not rows:
        raise IllegalMove(f"{charge_id} is no charge")
    return _view(rows[0])


def find_by_identity(tx: Tx, identity: str) -> tuple[ChargeView, bytes] | None:
    """The charge that has this payment claimed or spent, and the hash of the payment it was."""
    known = payments.known(tx, identity)
    if known is None or known.state is PaymentState.OPEN:
        return None
    view = find(tx, known.charge_id)
    return (view, known.payment_hash) if view else None


def find_by_payment(tx: Tx, payment_hash: bytes) -> tuple[str, ChargeView] | None:
    """The identity and the charge of this very payload, unless a failure has set it free."""
    rows = tx.execute(
        "SELECT identity, charge_id FROM payments WHERE payment_hash = :hash AND state <> 'open'",
        {"hash": payment_hash},
    )
    view = find(tx, rows[0][1]) if rows else None
    return (rows[0][0], view) if view else None


def find_by_key(tx: Tx, key: KeyUse) -> KeyKnown | None:
    rows = tx.execute(
        "SELECT charge_id, fingerprint FROM idempotency_keys WHERE scope = :scope AND key = :key",
        {"scope": key.scope, "key": key.key},
    )
    return KeyKnown(rows[0][0], hmac.compare_digest(rows[0][1], key.fingerprint)) if rows else None


def find_withheld(tx: Tx, payer: str, operation: str, request_hash: bytes) -> ChargeView | None:
    """The latest result of this payer for this request that was never paid for, still kept and not yet sold again."""
    return _one(
        tx,
        "WHERE c.payer = :payer AND c.operation = :operation AND c.request_hash = :request_hash"
        " AND c.resold_by IS NULL AND length(r.body) > 0"
        " AND (c.state = 'unpaid' OR (c.state = 'captured' AND s.abandoned = 1)) ORDER BY c.id DESC LIMIT 1",
        {"payer": payer, "operation": operation, "request_hash": request_hash},
    )


def find_owed(tx: Tx, payer: str) -> ChargeView | None:
    """A result of this payer, for whatever request, that nothing came for, while it can still be bought."""
    kept = "WHERE c.payer = :payer AND c.resold_by IS NULL AND length(r.body) > 0"
    # The source and the IN are what SQLite knows its index by.
    pulled = "c.source = 'signature' AND c.state IN ('held', 'captured') AND c.state = 'captured' AND s.abandoned = 1"
    # Of a shortfall something did come. What expired without ever being refused was our own delay.
    lost = f"c.state = 'unpaid' AND s.state = 'lost' AND (s.abandoned = 1 OR s.reason = '{Reason.NONCE_USED}')"
    found = (_one(tx, f"{kept} AND {owed} LIMIT 1", {"payer": payer}) for owed in (pulled, lost))
    return next((view for view in found if view is not None), None)


def find_alike(tx: Tx, charge: Charge, request_hash: bytes) -> str | None:
    """A later charge of the same party for the same request that has not failed."""
    rows = tx.execute(
        "SELECT id FROM charges WHERE party = :party AND id > :id AND operation = :operation"
        " AND request_hash = :request_hash AND NOT (state = 'released' AND reason IN ('failed', 'expired')) LIMIT 1",
        {"party": charge.party, "id": charge.id, "operation": charge.operation, "request_hash": request_hash},
    )
    return rows[0][0] if rows else None


def listing(
    tx: Tx, limit: int, before_id: str | None = None, state: State | None = None, party: str | None = None
) -> list[ChargeView]:
    """Newest first; `before_id` is the last id of the page before."""
    filters = {
        "c.id < :before_id": before_id is not None,
        "c.state = :state": state is not None,
        "c.party = :party": party is not None,
    }
    where = " AND ".join(clause for clause, wanted in filters.items() if wanted)
    return _many(
        tx,
        f"{'WHERE ' + where if where else ''} ORDER BY c.id DESC LIMIT :limit",
        {"before_id": before_id, "state": state, "party": party, "limit": limit},
    )


def held(tx: Tx) -> list[ChargeView]:
    """Every charge whose work is not recorded yet, oldest first."""
    return _many(tx, "WHERE c.state = 'held' ORDER BY c.id", {})


def _one(tx: Tx, where: str, params: dict[str, object]) -> ChargeView | None:
    views = _many(tx, where, params)
    return views[0] if views else None


def _many(tx: Tx, where: str, params: dict[str, object]) -> list[ChargeView]:
    return [_view(row) for row in tx.execute(_VIEW + where, {**params, "now_ms": tx.now_ms})]


def _view(row: Row) -> ChargeView:
    (
        request_id, request_hash, agent_id, created_ms, ended_ms, cost_micros, identity, payer, transaction, attempted,
        result, result_expires_ms, owner, work_deadline_ms, token_only, resold_by, key_id,
    ) = row[charge_row.WIDTH:_VIEW_WIDTH]  # fmt: skip
    settlement = row[_VIEW_WIDTH:]
    return ChargeView(
        charge=charge_row.from_row(row[: charge_row.WIDTH]),
        request_id=request_id,
        request_hash=request_hash,
        agent_id=agent_id,
        created_ms=created_ms,
        ended_ms=ended_ms,
        cost_micros=cost_micros,
        identity=identity,
        payer=payer,
        settlement=settlements.from_row(settlement) if settlement[0] is not None else None,
        transaction=transaction,
        attempted=attempted,
        result=result or None,
        erased=result == b"",
        result_expires_ms=result_expires_ms,
        owner=owner,
        work_deadline_ms=work_deadline_ms,
        key_id=key_id,
        token_only=bool(token_only),
        resold_by=resold_by,
    )


# around it


def mark_resold(tx: Tx, charge_id: str, by_charge_id: str) -> None:
    """A withheld result was delivered under another charge. Once only; raises Conflict."""
    rows = tx.execute(
        "UPDATE charges SET resold_by = :by WHERE id = :id AND resold_by IS NULL RETURNING id",
        {"id": charge_id, "by": by_charge_id},
    )
    if not rows:
        raise Conflict(f"{charge_id} was sold again already")


def add_token(tx: Tx, charge_id: str, token_hash: bytes) -> None:
    """One more, with every repeat of a call; the oldest of too many open nothing any more."""
    tx.execute(
        "DELETE FROM charge_tokens WHERE hash IN (SELECT hash FROM charge_tokens WHERE charge_id = :id"
        " ORDER BY at_ms DESC, hash LIMIT 1000 OFFSET :kept)",
        {"id": charge_id, "kept": TOKENS_MAX - 1},
    )
    tx.execute(
        "INSERT INTO charge_tokens (hash, charge_id, at_ms) VALUES (:hash, :charge_id, :now_ms)",
        {"hash": token_hash, "charge_id": charge_id, "now_ms": tx.now_ms},
    )


def token_matches(tx: Tx, charge_id: str, token_hash: bytes, *, of_its_call: bool = False) -> bool:
    """Whether this is a token of this charge; with `of_its_call` also of a call that this top-up was made for, failed
    or not. Looked up by its hash, which gives nothing of the token away."""
    rows = tx.execute(
        "SELECT c.id, c.topup_id FROM charge_tokens t JOIN charges c ON c.id = t.charge_id WHERE t.hash = :hash",
        {"hash": token_hash},
    )
    return any(id == charge_id or (of_its_call and topup_id == charge_id) for id, topup_id in rows)


def expire_results(tx: Tx) -> int:
    """Deletes results whose time is up, for good; answers how many."""
    return len(tx.execute("DELETE FROM results WHERE expires_ms <= :now_ms RETURNING charge_id", {"now_ms": tx.now_ms}))
