"""Deposits: transfers to the address that is for them, and top-ups by x402. What moves is decided by
gateway/core/deposit.py; whoever reports a log, and how often, it is one row and one credit.

One log proves one thing: a log is a live deposit or a live proof of a settlement, and the schema's triggers keep it so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core import deposit as core
from gateway.core.agent import Status
from gateway.core.deposit import Arrival, Deposit, Match, Source, State
from gateway.core.errors import Code, Conflict, IllegalMove, Problem
from gateway.core.settlement import Settlement
from gateway.core.transfer import Part, account
from gateway.store import actions, ledger, wallets
from gateway.store.database import Row, Tx

HAS_LOG = (
    "SELECT 1 FROM deposits d WHERE d.network = :network AND d.transaction_hash = :hash AND d.log_index = :log_index"
    " AND d.state IN ('seen', 'credited') AND d.source = 'transfer'"
)
_SELECT = """
SELECT d.id, d.source, d.network, d.token, d.amount_micros, d.state, d.party, d.bonus_micros, d.sender,
  d.transaction_hash, d.log_index, d.block, d.block_hash, d.amount_atomic, d.settlement_id, d.seen_ms, d.credited_ms,
  d.ended_ms FROM deposits d
"""


@dataclass(frozen=True, slots=True)
class DepositView:
    """A deposit and where it came from; transaction to block_hash are None of a top-up by x402."""

    deposit: Deposit
    network: str
    sender: str
    transaction: str | None
    log_index: int | None
    block: int | None
    block_hash: str | None
    amount_atomic: int
    settlement_id: str | None
    seen_ms: int
    credited_ms: int | None
    ended_ms: int | None


# by transfer


def arrived(tx: Tx, arrival: Arrival, deposit_id: str, match: Match | None) -> DepositView | None:
    """A Transfer at depth: credited to whom its sender's wallet belongs to, else kept as nobody's. Seen before, it is
    what it was; under `deposit_id` otherwise. None: this log proves a settlement."""
    view = _by_log(tx, arrival)
    if view is None:
        if is_settlement(tx, arrival.network, arrival.transaction, arrival.log_index):
            return None
        _see(tx, arrival, deposit_id)
        view = _load(tx, deposit_id)
    wallet = wallets.find(tx, arrival.sender)
    if view.deposit.state is State.SEEN and wallet is not None:
        view = _credit(tx, view, wallet.agent_id, match)
    return view


def claimed(
    tx: Tx, agent_id: str, arrivals: Sequence[Arrival], deposit_ids: Sequence[str], match: Match | None
) -> list[DepositView]:
    """Those of `arrivals` (of one transaction) that wallets of this agent have sent, credited now or before.

    Raises Problem SENDER_NOT_LINKED when there is none, DEPOSIT_IS_X402_SETTLEMENT, AGENT_FROZEN.
    """
    ((status,),) = tx.execute("SELECT status FROM agents WHERE id = :id", {"id": agent_id})
    if status != Status.ACTIVE:
        raise Problem(Code.AGENT_FROZEN, "this agent is frozen; ask the operator")
    own = {wallet.address for wallet in wallets.of_agent(tx, agent_id)}
    mine = [pair for pair in zip(arrivals, deposit_ids, strict=True) if pair[0].sender in own]
    if not mine:
        raise Problem(
            Code.SENDER_NOT_LINKED,
            "this transfer was sent from a wallet that is not linked to this agent: link it first, then claim again",
        )
    found = [arrived(tx, arrival, deposit_id, match) for arrival, deposit_id in mine]
    credited = [view for view in found if view is not None and view.deposit.party == agent_id]
    if not credited:
        raise Problem(
            Code.DEPOSIT_IS_X402_SETTLEMENT if None in found else Code.DEPOSIT_CREDITED_ELSEWHERE,
            "this transfer has paid for something else already: it is no deposit",
        )
    return credited


def of_transaction(tx: Tx, agent_id: str, network: str, transaction: str) -> list[DepositView]:
    """What this agent has been credited for this transaction, and still stands."""
    return _many(
        tx,
        "WHERE d.network = :network AND d.transaction_hash = :hash AND d.party = :agent_id"
        " AND d.state = 'credited' ORDER BY d.log_index",
        {"network": network, "hash": transaction, "agent_id": agent_id},
    )


def is_settlement(tx: Tx, network: str, transaction: str, log_index: int | None = None) -> bool:
    """Whether this log, or any of this transaction, proves a settlement."""
    return bool(
        tx.execute(
            "SELECT 1 FROM proofs WHERE network = :network AND transaction_hash = :hash AND taken_back_ms IS NULL"
            " AND (CAST(:log_index AS INTEGER) IS NULL OR log_index = :log_index) LIMIT 1",
            {"network": network, "hash": transaction, "log_index": log_index},
        )
    )


def news(tx: Tx, arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Those that are neither a deposit nor a proof yet."""
    return [
        arrival
        for arrival in arrivals
        if _by_log(tx, arrival) is None
        and not is_settlement(tx, arrival.network, arrival.transaction, arrival.log_index)
    ]


def any_linked_since(tx: Tx) -> bool:
    return bool(tx.execute("SELECT 1 FROM deposits d JOIN wallets w ON w.address = d.sender WHERE d.state = 'seen'"))


def linked_since(tx: Tx, match: Match | None) -> list[DepositView]:
    """Credits what was nobody's, and whose sender's wallet has been linked since."""
    found = _many(tx, "JOIN wallets w ON w.address = d.sender WHERE d.state = 'seen' ORDER BY d.sender", {})
    credited = []
    for view in found:
        wallet = wallets.find(tx, view.sender)
        assert wallet is not None, "it was joined"
        credited.append(_credit(tx, view, wallet.agent_id, match))
    return credited


def credit_orphan(tx: Tx, deposit_id: str, agent_id: str, match: Match | None) -> DepositView:
    """The operator says whose it is. The same again changes nothing. Raises Problem NOT_FOUND, and Conflict for one
    that is somebody's, or gone."""
    view = find(tx, deposit_id)
    if view is None:
        raise Problem(Code.NOT_FOUND, f"there is no deposit {deposit_id}")
    if view.deposit.state is State.CREDITED and view.deposit.party == agent_id:
        return view
    if view.deposit.state is not State.SEEN:
        raise Conflict(f"{deposit_id} is {view.deposit.state}")
    actions.note(tx, "credit_orphan", agent_id, f"{deposit_id}: {view.deposit.amount_micros} micros of {view.sender}")
    return _credit(tx, view, agent_id, match)


def taken_back(tx: Tx, deposit_id: str) -> bool:
    """A reorganisation took its transfer back: what is there is withdrawn, the rest is owed. Once: False, and nothing
    changes, when that was done before. Raises Conflict when it is final."""
    view = _load(tx, deposit_id)
    if view.deposit.state in (State.WITHDRAWN, State.GONE):
        return False
    after, transfers = core.taken_back(view.deposit, *_spendable(tx, view.deposit.party))
    rows = tx.execute(
        "UPDATE deposits SET state = :state, ended_ms = :now_ms WHERE id = :id AND state = :from_state AND final = 0"
        " RETURNING id",
        {"id": deposit_id, "state": after.state, "now_ms": tx.now_ms, "from_state": view.deposit.state},
    )
    if not rows:
        raise Conflict(f"{deposit_id} is final")
    ledger.post(tx, transfers, deposit_id=deposit_id, settlement_id=view.settlement_id)
    return True


def confirmed(tx: Tx, deposit_id: str, block: int, block_hash: str, *, final: bool) -> None:
    """Where it is now, and whether that is deep enough to be sure. What has ended meanwhile stays as it is."""
    tx.execute(
        "UPDATE deposits SET block = :block, block_hash = :block_hash, final = :final"
        " WHERE id = :id AND final = 0 AND ended_ms IS NULL",
        {"id": deposit_id, "block": block, "block_hash": block_hash, "final": int(final)},
    )


# by x402: in the transaction that moves its settlement


def topped_up(tx: Tx, settlement: Settlement, match: Match | None) -> None:
    """Credits what came. A settlement that was taken back and has come again is another deposit. Nothing is matched
    that was paid for a call."""
    if settlement.proven_micros == 0:
        return
    ((operation,),) = tx.execute("SELECT operation FROM charges WHERE id = :id", {"id": settlement.subject})
    match = match if operation == core.TOPUP else None
    earlier = len(_many(tx, "WHERE d.settlement_id = :id", {"id": settlement.id}))
    deposit_id = f"dep_{settlement.id.partition('_')[2]}" + (f"_{earlier + 1}" if earlier else "")
    tx.execute(
        "INSERT INTO deposits (id, source, state, network, token, sender, amount_atomic, amount_micros, bonus_micros,"
        " settlement_id, final, seen_ms) VALUES (:id, 'x402', 'seen', :network, :token, :sender, :amount_atomic,"
        " :amount_micros, 0, :settlement_id, 0, :now_ms)",
        {
            "id": deposit_id, "network": settlement.network, "token": settlement.token.lower(),
            "sender": settlement.payer.lower(), "amount_atomic": str(settlement.amount_atomic),
            "amount_micros": settlement.proven_micros, "settlement_id": settlement.id, "now_ms": tx.now_ms,
        },
    )  # fmt: skip
    _credit(tx, _load(tx, deposit_id), settlement.party, match)


def topup_taken_back(tx: Tx, settlement: Settlement) -> None:
    for view in _many(tx, "WHERE d.settlement_id = :id AND d.state = 'credited'", {"id": settlement.id}):
        taken_back(tx, view.deposit.id)


def of_settlement(tx: Tx, settlement_id: str) -> DepositView | None:
    """What it was credited as, while that stands."""
    found = _many(tx, "WHERE d.settlement_id = :id AND d.state = 'credited'", {"id": settlement_id})
    return found[0] if found else None


# the match


def matched_micros(tx: Tx, agent_id: str | None = None) -> int:
    """Bonus of deposits that still stand: of one agent, or of all."""
    ((micros,),) = tx.execute(
        "SELECT coalesce(sum(bonus_micros), 0) FROM deposits WHERE party = :agent_id AND state = 'credited'"
        if agent_id is not None
        else "SELECT coalesce(sum(bonus_micros), 0) FROM deposits WHERE state = 'credited' AND bonus_micros > 0",
        {} if agent_id is None else {"agent_id": agent_id},
    )
    return int(micros)


def standing(tx: Tx, agent_id: str) -> int:
    """How many deposits of this agent still stand; what was paid for a call is none."""
    ((count,),) = tx.execute(
        "SELECT count(*) FROM deposits d WHERE d.party = :agent_id AND d.state = 'credited' AND NOT EXISTS (SELECT 1"
        " FROM settlements s JOIN charges c ON c.id = s.subject"
        " WHERE s.id = d.settlement_id AND c.operation <> :topup)",
        {"agent_id": agent_id, "topup": core.TOPUP},
    )
    return int(count)


def _bonus(tx: Tx, view: DepositView, agent_id: str, match: Match | None) -> int:
    if match is None:
        return 0
    return match.bonus(
        view.deposit.amount_micros,
        now_ms=_first_credited_ms(tx, view, agent_id),
        deposits_before=standing(tx, agent_id),
        agent_had_micros=matched_micros(tx, agent_id),
        all_had_micros=matched_micros(tx),
    )


def _first_credited_ms(tx: Tx, view: DepositView, agent_id: str) -> int:
    """Of the very payment: one that a reorganisation took and that came again is as old as it was."""
    ((at_ms,),) = tx.execute(
        "SELECT min(d.credited_ms) FROM deposits d WHERE d.party = :agent_id AND (d.settlement_id = :settlement_id"
        " OR (d.network = :network AND d.transaction_hash = :hash))",
        {
            "agent_id": agent_id, "settlement_id": view.settlement_id, "network": view.network,
            "hash": view.transaction,
        },
    )  # fmt: skip
    return tx.now_ms if at_ms is None else int(at_ms)


# looking


def find(tx: Tx, deposit_id: str) -> DepositView | None:
    found = _many(tx, "WHERE d.id = :id", {"id": deposit_id})
    return found[0] if found else None


def listing(
    tx: Tx, limit: int, *, before_id: str | None = None, state: State | None = None, agent_id: str | None = None
) -> list[DepositView]:
    """Newest first."""
    filters = {
        "d.id < :before_id": before_id is not None,
        "d.state = :state": state is not None,
        "d.party = :agent_id": agent_id is not None,
    }
    where = " AND ".join(clause for clause, wanted in filters.items() if wanted)
    return _many(
        tx,
        f"{'WHERE ' + where if where else ''} ORDER BY d.id DESC LIMIT :limit",
        {"before_id": before_id, "state": state, "agent_id": agent_id, "limit": limit},
    )


def watched(tx: Tx, network: str) -> list[DepositView]:
    """Transfers that are not deep enough to be sure, whoever they belong to; oldest first."""
    return _many(
        tx,
        "WHERE d.network = :network AND d.final = 0 AND d.state IN ('seen', 'credited') AND d.source = 'transfer'"
        " ORDER BY d.block",
        {"network": network},
    )


def cursor(tx: Tx, network: str, address: str) -> int | None:
    """The first block that was not searched yet; None: nothing was."""
    rows = tx.execute(
        "SELECT next_block FROM deposit_cursors WHERE network = :network AND address = :address",
        {"network": network, "address": address},
    )
    return int(rows[0][0]) if rows else None


def move_cursor(tx: Tx, network: str, address: str, next_block: int) -> None:
    """Never back: whoever looks again at what was searched does so on his own account."""
    tx.execute(
        "INSERT INTO deposit_cursors (network, address, next_block, at_ms) VALUES (:network, :address, :next, :now_ms)"
        " ON CONFLICT (network, address) DO UPDATE SET next_block = excluded.next_block, at_ms = excluded.at_ms"
        " WHERE excluded.next_block > deposit_cursors.next_block",
        {"network": network, "address": address, "next": next_block, "now_ms": tx.now_ms},
    )


def _credit(tx: Tx, view: DepositView, party: str, match: Match | None) -> DepositView:
    after, transfers = core.credited(view.deposit, party, _bonus(tx, view, party, match))
    rows = tx.execute(
        "UPDATE deposits SET state = :state, party = :party, bonus_micros = :bonus, credited_ms = :now_ms"
        " WHERE id = :id AND state = 'seen' RETURNING id",
        {
            "id": after.id, "state": after.state, "party": party, "bonus": after.bonus_micros,
            "now_ms": tx.now_ms,
        },
    )  # fmt: skip
    if not rows:
        raise Conflict(f"{after.id} was moved by somebody else")
    ledger.post(tx, transfers, deposit_id=after.id, settlement_id=view.settlement_id)
    return _load(tx, after.id)


def _see(tx: Tx, arrival: Arrival, deposit_id: str) -> None:
    tx.execute(
        "INSERT INTO deposits (id, source, state, network, token, sender, amount_atomic, amount_micros, bonus_micros,"
        " transaction_hash, log_index, block, block_hash, final, seen_ms) VALUES (:id, 'transfer', 'seen', :network,"
        " :token, :sender, :amount_atomic, :amount_micros, 0, :hash, :log_index, :block, :block_hash, 0, :now_ms)",
        {
            "id": deposit_id, "network": arrival.network, "token": arrival.token, "sender": arrival.sender,
            "amount_atomic": str(arrival.amount_atomic), "amount_micros": arrival.amount_micros,
            "hash": arrival.transaction, "log_index": arrival.log_index, "block": arrival.block,
            "block_hash": arrival.block_hash, "now_ms": tx.now_ms,
        },
    )  # fmt: skip


def _by_log(tx: Tx, arrival: Arrival) -> DepositView | None:
    found = _many(
        tx,
        "WHERE d.network = :network AND d.transaction_hash = :hash AND d.log_index = :log_index"
        " AND d.state IN ('seen', 'credited') AND d.source = 'transfer'",
        {"network": arrival.network, "hash": arrival.transaction, "log_index": arrival.log_index},
    )
    return found[0] if found else None


def _spendable(tx: Tx, party: str | None) -> tuple[int, int]:
    """(own money, bonus) that no call holds."""
    if party is None:
        return 0, 0
    return (
        ledger.balance(tx, account(party, Part.AVAILABLE)),
        ledger.balance(tx, account(party, Part.BONUS)),
    )


def _load(tx: Tx, deposit_id: str) -> DepositView:
    view = find(tx, deposit_id)
    if view is None:
        raise IllegalMove(f"{deposit_id} is no deposit")
    return view


def _many(tx: Tx, where: str, params: dict[str, object]) -> list[DepositView]:
    return [_view(row) for row in tx.execute(_SELECT + where, params)]


def _view(row: Row) -> DepositView:
    (
        id, source, network, token, amount, state, party, bonus, sender, transaction, log_index, block, block_hash,
        amount_atomic, settlement_id, seen_ms, credited_ms, ended_ms,
    ) = row  # fmt: skip
    return DepositView(
        Deposit(id, Source(source), f"{network}/{token}", amount, State(state), party, bonus),
        network, sender, transaction, log_index, block, block_hash, int(amount_atomic), settlement_id, seen_ms,
        credited_ms, ended_ms,
    )  # fmt: skip
