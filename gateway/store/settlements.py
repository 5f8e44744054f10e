"""Settlements: one payment each to be collected, the transactions sent for it, and the log that proved it.

What moves is decided by gateway/core/settlement.py and written as a compare-and-set; the charge it belongs to moves
in the same transaction. An attempt is written before it is broadcast. One log proves one thing.

After a reorganisation took a proven transfer back, the charge stays where it is (charges move only forward) and the
settlement is collected again; the money's side is booked each time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core import charge as core_charge
from gateway.core import settlement as core
from gateway.core.charge import Charge
from gateway.core.deposit import Match
from gateway.core.errors import Conflict, IllegalMove
from gateway.core.settlement import Attempt, Event, Purpose, Settled, Settlement, State
from gateway.store import charge_row, deposits, ledger
from gateway.store.database import Row, Tx

COLUMNS = """s.id, s.purpose, s.subject, s.identity, p.network, p.token, p.payer, p.pay_to, s.amount_atomic,
  s.amount_micros, p.valid_before_s, p.payment, s.state, s.proven_micros, p.admitted_block, s.abandoned, c.party"""
_SELECT = f"""
SELECT {COLUMNS} FROM settlements s JOIN payments p ON p.identity = s.identity JOIN charges c ON c.id = s.subject
"""  # noqa: S608 constants
_ATTEMPTS = """
SELECT a.network, a.key, a.nonce, a.number, a.hash, a.raw, a.max_fee_per_gas, a.sent_ms, l.settlement_id
FROM attempts a LEFT JOIN attempt_settlements l
  ON l.network = a.network AND l.key = a.key AND l.nonce = a.nonce AND l.number = a.number
"""
_ALIVE = """
SELECT a.network, a.key, a.nonce FROM attempt_settlements a WHERE a.settlement_id = :id AND NOT EXISTS (
  SELECT 1 FROM closed_nonces c WHERE c.network = a.network AND c.key = a.key AND c.nonce = a.nonce)
"""


def queue(
    tx: Tx, settlement_id: str, purpose: Purpose, subject: str, amount_micros: int, *, amount_atomic: int | None = None
) -> Settlement:
    """A new settlement for the payment that `subject` has just spent; without `amount_atomic` all that was signed."""
    tx.execute(
        "INSERT INTO settlements (id, purpose, subject, identity, amount_atomic, amount_micros, state, proven_micros,"
        " final, abandoned, taken_back, reason, created_ms)"
        " SELECT :id, :purpose, :subject, p.identity, coalesce(CAST(:amount_atomic AS TEXT), p.amount_atomic),"
        " :amount_micros, 'queued', 0, 0, 0, 0, '', :now_ms FROM charges c JOIN payments p ON p.identity = c.identity"
        " WHERE c.id = :subject AND p.charge_id = c.id AND p.state = 'spent'",
        {
            "id": settlement_id,
            "purpose": purpose,
            "subject": subject,
            "amount_atomic": None if amount_atomic is None else str(amount_atomic),
            "amount_micros": amount_micros,
            "now_ms": tx.now_ms,
        },
    )
    return _load(tx, settlement_id)


# looking


def find(tx: Tx, settlement_id: str) -> Settlement | None:
    rows = tx.execute(_SELECT + "WHERE s.id = :id", {"id": settlement_id})
    return from_row(rows[0]) if rows else None


def queued(tx: Tx, network: str | None = None, limit: int = 256) -> list[Settlement]:
    """What may be sent and was not, oldest first."""
    rows = tx.execute(
        # The IN is what SQLite knows its index by.
        _SELECT + "WHERE s.state = 'queued' AND s.state IN ('queued', 'sent') AND s.abandoned = 0"
        " AND (CAST(:network AS TEXT) IS NULL OR p.network = :network) ORDER BY s.id LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return [from_row(row) for row in rows]


def unfinished(tx: Tx) -> list[Settlement]:
    """Whatever is neither proven nor lost, abandoned ones too: somebody else may yet send those."""
    return [from_row(row) for row in tx.execute(_SELECT + "WHERE s.state IN ('queued', 'sent') ORDER BY s.id")]


def watched(tx: Tx) -> list[Settlement]:
    """Proven, and not yet deep enough to be sure."""
    return [from_row(row) for row in tx.execute(_SELECT + "WHERE s.state = 'proven' AND s.final = 0 ORDER BY s.id")]


def proven_on(tx: Tx, network: str) -> list[Settlement]:
    """Everything proven on a network: what a sandbox remembers its chain by."""
    return [
        from_row(row)
        for row in tx.execute(_SELECT + "WHERE s.state = 'proven' AND p.network = :network", {"network": network})
    ]


def counts(tx: Tx) -> dict[State, int]:
    """How many there are, by state."""
    rows = tx.execute("SELECT state, count(*) FROM settlements GROUP BY state")
    return {State(state): number for state, number in rows}


def from_row(row: Row) -> Settlement:
    """A row of COLUMNS."""
    (
        id, purpose, subject, identity, network, token, payer, pay_to, amount_atomic, amount_micros, valid_before_s,
        payment, state, proven_micros, admitted_block, abandoned, party,
    ) = row  # fmt: skip
    return Settlement(
        id, Purpose(purpose), subject, identity, network, token, payer, pay_to, int(amount_atomic), amount_micros,
        valid_before_s, payment, State(state), proven_micros, admitted_block, bool(abandoned),
        party,
    )  # fmt: skip


# moving


@dataclass(frozen=True, slots=True)
class Proven:
    """What is written now of a settlement that was paid."""

    settlement: Settlement
    transaction: str
    charge: Charge | None
    """None when it had moved before: by this very log, or before a reorganisation."""


def proven(tx: Tx, settlement_id: str, proof: Settled, proven_micros: int, *, match: Match | None = None) -> Proven:
    """PROVEN, with its proof. The charge is PAID, or given up when less came than was asked: its result then stays
    withheld, and what did come is booked as proven, the rest as loss. Of a top-up what came is credited, with its
    bonus by `match`.

    By the same log again: nothing changes. Raises Conflict when that log proves something else already, or when the
    settlement has ended otherwise.
    """
    settlement = _load(tx, settlement_id)
    if settlement.state is State.PROVEN and _proves(tx, settlement, proof):
        return Proven(settlement, proof.transaction, None)
    after = _move(tx, settlement, Event.PROVEN, proven_micros, final=int(proof.final), ended_ms=tx.now_ms)
    _take_proof(tx, after, proof)
    if after.purpose is Purpose.TOPUP:
        deposits.topped_up(tx, after, match)
    short = proven_micros < settlement.amount_micros and (after.purpose is Purpose.CHARGE or proven_micros == 0)
    charge = _move_charge(tx, after, core_charge.Event.GIVEN_UP if short else core_charge.Event.PAID)
    return Proven(after, proof.transaction, charge)


def lost(tx: Tx, settlement_id: str, reason: str) -> Settlement:
    """GIVEN_UP: it can never be paid. So is its charge. Raises Conflict when it has ended already."""
    after = _move(tx, _load(tx, settlement_id), Event.GIVEN_UP, reason=reason, ended_ms=tx.now_ms)
    _move_charge(tx, after, core_charge.Event.GIVEN_UP)
    return after


def taken_back(tx: Tx, settlement_id: str) -> Settlement:
    """A reorganisation took its transfer back: QUEUED again, and its log proves nothing any more. Raises Conflict when
    it is not proven, or final."""
    settlement = _load(tx, settlement_id)
    if _is_final(tx, settlement_id):
        raise Conflict(f"{settlement_id} is final")
    after = _move(tx, settlement, Event.TAKEN_BACK, taken_back=1)
    if after.purpose is Purpose.TOPUP:
        deposits.topup_taken_back(tx, after)
    tx.execute(
        "UPDATE proofs SET taken_back_ms = :now_ms WHERE settlement_id = :id AND taken_back_ms IS NULL",
        {"id": settlement_id, "now_ms": tx.now_ms},
    )
    return after


def final(tx: Tx, settlement_id: str) -> None:
    """Deep enough: it is not looked at again. Raises Conflict when it is not proven."""
    rows = tx.execute(
        "UPDATE settlements SET final = 1 WHERE id = :id AND state = 'proven' AND final = 0 RETURNING id",
        {"id": settlement_id},
    )
    if not rows and not _is_final(tx, settlement_id):
        raise Conflict(f"{settlement_id} is not proven")


def confirmed(tx: Tx, proofs: Sequence[tuple[str, Settled, int]], *, match: Match | None = None) -> list[str]:
    """Proven settlements with the log that proves each now, and the micros that came by it. By the log that is known:
    FINAL, once it is deep. By another: that one from now on, and the ledger is booked anew; answers with the ids of
    those. All old logs are let go before a new one is taken: a batch that moves within its block trades places.

    What is proven no more, or final, is left alone. Raises Conflict when a log proves something else already.
    """
    moved = []
    for settlement_id, proof, proven_micros in proofs:
        settlement = _load(tx, settlement_id)
        if settlement.state is not State.PROVEN or _is_final(tx, settlement_id):
            continue
        if not _proves(tx, settlement, proof):
            taken_back(tx, settlement_id)
            moved.append((settlement_id, proof, proven_micros))
        elif proof.final:
            final(tx, settlement_id)
    for settlement_id, proof, proven_micros in moved:
        proven(tx, settlement_id, proof, proven_micros, match=match)
    return [settlement_id for settlement_id, _, _ in moved]


def abandon(tx: Tx, settlement_id: str) -> bool:
    """Marks it, for good, as one that is never sent again: only then may a client be told that it failed. Whoever
    paid by an idempotency key may pay anew with it.

    False, and nothing is written, while a stored attempt could still be mined, or when it has ended.
    """
    settlement = _load(tx, settlement_id)
    if settlement.abandoned:
        return True
    if settlement.state in (State.PROVEN, State.LOST) or tx.execute(_ALIVE, {"id": settlement_id}):
        return False
    tx.execute("UPDATE settlements SET abandoned = 1 WHERE id = :id", {"id": settlement_id})
    _free_key(tx, settlement)
    return True


def _free_key(tx: Tx, settlement: Settlement) -> None:
    """A withheld result is bought by a new payment, which may well come under the old key."""
    tx.execute("DELETE FROM idempotency_keys WHERE charge_id = :id", {"id": settlement.subject})


def _is_final(tx: Tx, settlement_id: str) -> bool:
    return bool(tx.execute("SELECT 1 FROM settlements WHERE id = :id AND final = 1", {"id": settlement_id}))


def _load(tx: Tx, settlement_id: str) -> Settlement:
    settlement = find(tx, settlement_id)
    if settlement is None:
        raise IllegalMove(f"{settlement_id} is no settlement")
    return settlement


def _move(
    tx: Tx,
    settlement: Settlement,
    event: Event,
    proven_micros: int = 0,
    *,
    final: int = 0,
    ended_ms: int | None = None,
    reason: str = "",
    taken_back: int = 0,
) -> Settlement:
    if (settlement.state, event) not in core.TRANSITIONS:
        raise Conflict(f"{settlement.id} is {settlement.state}: no {event}")
    after, transfers = core.advance(settlement, event, proven_micros)
    rows = tx.execute(
        "UPDATE settlements SET state = :state, proven_micros = :proven, final = :final, ended_ms = :ended_ms,"
        " reason = :reason, taken_back = taken_back + :taken_back WHERE id = :id AND state = :from_state RETURNING id",
        {
            "id": settlement.id, "state": after.state, "proven": after.proven_micros, "final": final,
            "ended_ms": ended_ms, "reason": reason, "taken_back": taken_back, "from_state": settlement.state,
        },
    )  # fmt: skip
    if not rows:
        raise Conflict(f"{settlement.id} was moved by somebody else")
    ledger.post(tx, transfers, charge_id=settlement.subject, settlement_id=settlement.id)
    return after


def _move_charge(tx: Tx, settlement: Settlement, event: core_charge.Event) -> Charge | None:
    """Once: what a reorganisation brings later changes the settlement and the ledger, never the charge."""
    charge = charge_row.load(tx, settlement.subject)
    if charge.state is not core_charge.State.CAPTURED:
        return None
    if event is core_charge.Event.GIVEN_UP:
        _free_key(tx, settlement)
    return charge_row.move(tx, charge, event, settlement_id=settlement.id)


def _proves(tx: Tx, settlement: Settlement, proof: Settled) -> bool:
    """Whether it is this very log that proved it."""
    return bool(
        tx.execute(
            "SELECT 1 FROM proofs WHERE settlement_id = :id AND transaction_hash = :hash AND log_index = :log_index"
            " AND taken_back_ms IS NULL",
            {"id": settlement.id, "hash": proof.transaction, "log_index": proof.log_index},
        )
    )


def _take_proof(tx: Tx, settlement: Settlement, proof: Settled) -> None:
    rows = tx.execute(
        "INSERT INTO proofs (network, transaction_hash, log_index, settlement_id, kind, block, amount_atomic, at_ms)"
        " SELECT :network, :hash, :log_index, :id, :kind, :block, :amount_atomic, :now_ms"
        f" WHERE NOT EXISTS ({deposits.HAS_LOG})"
        " ON CONFLICT DO NOTHING RETURNING settlement_id",
        {
            "network": settlement.network, "hash": proof.transaction, "log_index": proof.log_index,
            "id": settlement.id, "kind": proof.kind, "block": proof.block, "amount_atomic": str(proof.amount_atomic),
            "now_ms": tx.now_ms,
        },
    )  # fmt: skip
    if not rows:
        raise Conflict(f"{proof.transaction} log {proof.log_index} proves something else already")


# attempts


def sending(tx: Tx, attempt: Attempt) -> tuple[str, ...]:
    """Before the broadcast: the attempt, and SENT for what it carries.

    Answers with the ids that may not be sent (ended, abandoned, unknown); then nothing was written. The same attempt
    again changes nothing. Raises Conflict for another transaction under its number, for a replacement with other
    calls, and for a settlement that an attempt at another nonce could still pay.
    """
    carried = [find(tx, settlement_id) for settlement_id in attempt.settlements]
    refused = tuple(
        settlement_id
        for settlement_id, settlement in zip(attempt.settlements, carried, strict=True)
        if settlement is None or settlement.abandoned or (settlement.state, Event.SENT) not in core.TRANSITIONS
    )
    if refused:
        return refused
    _require_same_calls(tx, attempt)
    if not _write_attempt(tx, attempt):
        return ()
    for settlement in carried:
        if settlement is not None and settlement.state is not State.SENT:
            _move(tx, settlement, Event.SENT)
    return ()


def _require_same_calls(tx: Tx, attempt: Attempt) -> None:
    here = {"network": attempt.network, "key": attempt.key, "nonce": attempt.nonce}
    if tx.execute("SELECT 1 FROM closed_nonces WHERE network = :network AND key = :key AND nonce = :nonce", here):
        raise Conflict(f"nonce {attempt.nonce} of {attempt.key} is used")
    earlier = _attempts(tx, "WHERE a.network = :network AND a.key = :key AND a.nonce = :nonce", here)
    if any(other.settlements != attempt.settlements for other in earlier):
        raise Conflict(f"nonce {attempt.nonce} of {attempt.key} carries other calls")
    for settlement_id in attempt.settlements:
        for alive in tx.execute(_ALIVE, {"id": settlement_id}):
            if alive != (attempt.network, attempt.key, attempt.nonce):
                raise Conflict(f"{settlement_id} can still be paid by nonce {alive[2]} of {alive[1]}")


def _write_attempt(tx: Tx, attempt: Attempt) -> bool:
    """False: this very attempt is written already."""
    params: Mapping[str, object] = {
        "network": attempt.network, "key": attempt.key, "nonce": attempt.nonce, "number": attempt.number,
        "hash": attempt.hash, "raw": attempt.raw, "max_fee_per_gas": str(attempt.max_fee_per_gas),
        "sent_ms": attempt.sent_ms,
    }  # fmt: skip
    rows = tx.execute(
        "INSERT INTO attempts (network, key, nonce, number, hash, raw, max_fee_per_gas, sent_ms)"
        " VALUES (:network, :key, :nonce, :number, :hash, :raw, :max_fee_per_gas, :sent_ms)"
        " ON CONFLICT DO NOTHING RETURNING number",
        params,
    )
    if not rows:
        same = tx.execute(
            "SELECT 1 FROM attempts WHERE network = :network AND key = :key AND nonce = :nonce AND number = :number"
            " AND hash = :hash",
            {name: params[name] for name in ("network", "key", "nonce", "number", "hash")},
        )
        if not same:
            raise Conflict(f"attempt {attempt.number} at nonce {attempt.nonce} of {attempt.key} is another transaction")
        return False
    for position, settlement_id in enumerate(attempt.settlements):
        tx.execute(
            "INSERT INTO attempt_settlements (network, key, nonce, number, position, settlement_id)"
            " VALUES (:network, :key, :nonce, :number, :position, :settlement_id)",
            {
                "network": attempt.network, "key": attempt.key, "nonce": attempt.nonce, "number": attempt.number,
                "position": position, "settlement_id": settlement_id,
            },
        )  # fmt: skip
    return True


def pending(tx: Tx, network: str, key: str) -> list[Attempt]:
    """Attempts whose nonce is not known to be used, by nonce and number."""
    return _attempts(
        tx,
        "WHERE a.network = :network AND a.key = :key AND NOT EXISTS (SELECT 1 FROM closed_nonces c"
        " WHERE c.network = a.network AND c.key = a.key AND c.nonce = a.nonce)",
        {"network": network, "key": key},
    )


def attempts_of(tx: Tx, settlement_id: str) -> list[Attempt]:
    """Every attempt that carried this settlement, oldest first."""
    attempts = _attempts(
        tx,
        "WHERE (a.network, a.key, a.nonce, a.number) IN (SELECT m.network, m.key, m.nonce, m.number"
        " FROM attempt_settlements m WHERE m.settlement_id = :id)",
        {"id": settlement_id},
    )
    return sorted(attempts, key=lambda attempt: attempt.sent_ms)


def closed(tx: Tx, network: str, key: str, nonce: int, mined_hash: str | None) -> None:
    """The nonce is used at depth, by this attempt or (None) by something that is not ours. The first word stays."""
    tx.execute(
        "INSERT INTO closed_nonces (network, key, nonce, mined_hash, at_ms)"
        " VALUES (:network, :key, :nonce, :mined_hash, :now_ms) ON CONFLICT DO NOTHING",
        {"network": network, "key": key, "nonce": nonce, "mined_hash": mined_hash, "now_ms": tx.now_ms},
    )


def retry(tx: Tx, settlement_id: str) -> Settlement:
    """SENT back to QUEUED. Raises Conflict when it is not SENT or when a stored attempt could still be mined."""
    if tx.execute(_ALIVE, {"id": settlement_id}):
        raise Conflict(f"{settlement_id} has an attempt that could still be mined")
    return _move(tx, _load(tx, settlement_id), Event.RETRY)


def nonce_after(tx: Tx, network: str, key: str) -> int:
    """One more than the highest nonce ever stored for this key, or 0."""
    ((nonce,),) = tx.execute(
        "SELECT coalesce(max(nonce) + 1, 0) FROM attempts WHERE network = :network AND key = :key",
        {"network": network, "key": key},
    )
    return int(nonce)


def _attempts(tx: Tx, where: str, params: Mapping[str, object]) -> list[Attempt]:
    """Attempts by nonce and number, each with its settlements in the order of its calls."""
    attempts: list[Attempt] = []
    for row in tx.execute(f"{_ATTEMPTS} {where} ORDER BY a.network, a.key, a.nonce, a.number, l.position", params):
        network, key, nonce, number, hash, raw, fee, sent_ms, settlement_id = row
        if not attempts or attempts[-1].hash != hash:
            attempts.append(Attempt(network, key, nonce, number, hash, raw, int(fee), (), sent_ms))
        if settlement_id is not None:
            attempts[-1] = replace(attempts[-1], settlements=(*attempts[-1].settlements, settlement_id))
    return attempts
