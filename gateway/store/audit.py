"""The audit: every promise of the ledger that the file alone can show, checked from the outside.

It shares no code with what it checks: it replays the transfers, and predicts every account a second time from the
charges, settlements, refunds, credits and deposits, with its own arithmetic. A clean file gives an empty list.

    integrity   the file is whole, references lead somewhere
    replay      transfers are numbered without gaps, in order of time; their balances follow from each other
    cache       the cached balances are the replayed ones, and sum to zero
    overdraft   nothing went below zero, at any time, that may not
    movement    each line of a statement is a transfer, each transfer that moves a party's money is a line
    charge      what was booked for a charge is what its state says; refunds sum to what it says
    deposit     what was booked for a deposit is what its state says; a top-up's is what its settlement says
    account     every account is predicted from charges, settlements, credits, deposits; debtors have nothing to spend
    result      no result is kept of a charge that failed, or that is still worked on; none is given again of one that
                found nothing
    payment     one identity, one charge that was not released by failure, one settlement
    collection  a charge by signature and its settlement tell the same story
    proof       what is proven has one proof, nothing else has one; no log is a proof and a deposit
    attempt     nothing was sent that may not be, no payment is under way at two nonces
    session     what is kept of a session is of its own agent's calls, and of none that failed
    key         no idempotency key points to a charge that failed
    ticket      a ticket and what was paid for it are there together; a confirmed bug has earned once
    prepaid     a call that was paid for before its work names the top-up of that very request, which came; it has no
                other call, and takes no more than that has brought
    wallet      what came to an agent's wallet went on to the agent, and to nobody else
    grant       what a wallet was granted is one credit of its agent's; nothing else was granted so
    allowance   what is drawn of a wallet's allowance is what was signed for since it was stated
    cost        what a charge has cost is what was bought for it
    recovery    an agent was recovered by a transfer from its wallet, and no token from before opens
    access      nobody was told of anybody by a call that failed
    subject     whoever is not to be told of is known by something
    job         a job and its charge are open together and end together; whoever wants to be told of an end will be
    usage       a usage key's figures are those of its charges, its agent's; no cap was overstepped; none spends when
                it is revoked
"""
# ruff: noqa: S608 every query is made of constants of this file

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from gateway.core.agent import DAY_MS, Period, first_day
from gateway.store.database import Row, Tx


class Finding(NamedTuple):
    rule: str
    subject: str
    """The id, account or number it is about."""
    message: str


def audit(tx: Tx) -> list[Finding]:
    """Everything that is wrong with this file, on one snapshot. Reads all of it."""
    return [finding for check in _CHECKS for finding in check(tx)]


def _integrity(tx: Tx) -> Iterator[Finding]:
    for (message,) in tx.execute("PRAGMA integrity_check"):
        if message != "ok":
            yield Finding("integrity", "file", str(message))
    for table, row, parent, _ in tx.execute("PRAGMA foreign_key_check"):
        yield Finding("integrity", str(table), f"row {row} leads to nothing in {parent}")


def _replay(tx: Tx) -> Iterator[Finding]:
    balances: Counter[str] = Counter()
    number, time_ms = 0, 0
    for seq, at_ms, debit, credit, amount, debit_after, credit_after in tx.execute(
        "SELECT seq, at_ms, debit, credit, amount_micros, debit_after_micros, credit_after_micros FROM transfers"
        " ORDER BY seq"
    ):
        number += 1
        balances[debit] -= amount
        balances[credit] += amount
        if seq != number:
            yield Finding("replay", str(seq), f"transfer {number} is missing")
            number = seq
        if at_ms < time_ms:
            yield Finding("replay", str(seq), "is older than the one before")
        time_ms = at_ms
        if (balances[debit], balances[credit]) != (debit_after, credit_after):
            yield Finding("replay", str(seq), "its balances do not follow from the transfers before")
        if balances[debit] < 0 and not _may_owe(debit):
            yield Finding("overdraft", debit, f"is {balances[debit]} after transfer {seq}")
    cached: dict[str, int] = dict(tx.execute("SELECT name, balance_micros FROM accounts"))
    for name in sorted(balances.keys() | cached.keys()):
        if balances.get(name) != cached.get(name):
            yield Finding("cache", name, f"says {cached.get(name)}, the transfers sum to {balances.get(name)}")
    if total := sum(cached.values()):
        yield Finding("cache", "all accounts", f"sum to {total}")


def _movements(tx: Tx) -> Iterator[Finding]:
    told: dict[tuple[str, int], tuple[int, int]] = {
        (party, seq): (number, balance)
        for party, seq, number, balance in tx.execute("SELECT party, seq, number, balance_micros FROM movements")
    }
    numbers: Counter[str] = Counter()
    balances: Counter[str] = Counter()
    for seq, debit, credit, amount in tx.execute(
        "SELECT seq, debit, credit, amount_micros FROM transfers ORDER BY seq"
    ):
        moved: Counter[str] = Counter()
        for name, micros in ((debit, -amount), (credit, amount)):
            party, _, part = name.partition(":")
            if part in ("available", "held", "bonus", "bonus_held", "debt", "bonus:debt"):
                moved[party] += micros
        for party, micros in moved.items():
            if not micros:
                continue
            numbers[party] += 1
            balances[party] += micros
            if told.pop((party, seq), None) != (numbers[party], balances[party]):
                yield Finding(
                    "movement", party, f"transfer {seq} is not line {numbers[party]}, {balances[party]} after it"
                )
    for party, seq in told:
        yield Finding("movement", party, f"transfer {seq} is a line and moves nothing of it")


def _may_owe(name: str) -> bool:
    first, last = name.split(":")[0], name.split(":")[-1]
    return first == "chain" or last == "debt" or name in ("loss", "grants", "operator")


class _Story(NamedTuple):
    """A charge and its settlement, as far as money goes."""

    id: str
    party: str
    asset: str | None
    state: str
    reason: str | None
    held: int
    held_bonus: int
    captured: int
    captured_bonus: int
    refunded: int
    has_result: bool
    settlement_id: str | None
    settlement: str | None
    due: int
    proven: int
    abandoned: bool
    taken_back: int
    topup: bool


_STORIES = """
SELECT c.id, c.party, c.asset, c.state, c.reason, c.held_micros, c.held_bonus_micros, c.captured_micros,
  c.captured_bonus_micros, c.refunded_micros, r.charge_id IS NOT NULL, s.id, s.state, coalesce(s.amount_micros, 0),
  coalesce(s.proven_micros, 0), coalesce(s.abandoned, 0), coalesce(s.taken_back, 0), c.topup
FROM charges c LEFT JOIN settlements s ON s.id = coalesce(
    (SELECT id FROM settlements WHERE purpose = 'charge' AND subject = c.id),
    (SELECT id FROM settlements WHERE purpose = 'topup' AND subject = c.id))
  LEFT JOIN results r ON r.charge_id = c.id ORDER BY c.id
"""


class _Leg(NamedTuple):
    """What was booked for one reason between two accounts. What was taken back counts against what was proven."""

    kind: str
    debit: str
    credit: str


def _predicted(story: _Story) -> Counter[_Leg]:
    """Every leg a charge must have by now, with the sum booked on it."""
    legs = _from_wallet(story) if story.asset else _from_balance(story)
    return Counter({_Leg(kind, debit, credit): micros for (kind, debit, credit), micros in legs.items() if micros})


def _from_balance(story: _Story) -> dict[tuple[str, str, str], int]:
    available, held, bonus, bonus_held = (
        f"{story.party}:{part}" for part in ("available", "held", "bonus", "bonus_held")
    )
    own, own_captured = story.held - story.held_bonus, story.captured - story.captured_bonus
    ended = story.state != "held"
    refunded_bonus = min(story.refunded, story.captured_bonus)
    return {
        ("hold", available, held): own,
        ("hold", bonus, bonus_held): story.held_bonus,
        ("capture", held, "revenue"): own_captured,
        ("capture", bonus_held, "revenue"): story.captured_bonus,
        ("release", held, available): ended * (own - own_captured),
        ("release", bonus_held, bonus): ended * (story.held_bonus - story.captured_bonus),
        ("refund", "revenue", bonus): refunded_bonus,
        ("refund", "revenue", available): story.refunded - refunded_bonus,
    }


def _from_wallet(story: _Story) -> dict[tuple[str, str, str], int]:
    authorized, due, treasury = f"{story.party}:authorized", f"chain:{story.asset}:due", f"chain:{story.asset}:treasury"
    proven, lost = story.settlement == "proven", story.settlement == "lost"
    # A top-up earns nothing and loses nothing: what was signed waits to be credited, or goes back.
    missing = authorized if story.topup else "loss"
    return {
        ("hold", due, authorized): story.held,
        ("capture", authorized, "revenue"): (not story.topup) * story.captured,
        ("release", authorized, due): (story.state != "held") * (story.held - story.captured),
        ("proven", treasury, due): story.proven,
        ("shortfall", missing, due): proven * (story.due - story.proven),
        ("given_up", missing, due): lost * story.due,
        ("refund", "revenue", f"{story.party}:available"): story.refunded,
    }


def _booked(tx: Tx) -> defaultdict[str | None, Counter[_Leg]]:
    booked: defaultdict[str | None, Counter[_Leg]] = defaultdict(Counter)
    for charge_id, kind, debit, credit, amount in tx.execute(
        "SELECT charge_id, kind, debit, credit, sum(amount_micros) FROM transfers"
        " GROUP BY charge_id, kind, debit, credit"
    ):
        if kind == "taken_back":
            kind = "proven" if credit.startswith("chain:") else "shortfall"
            booked[charge_id][_Leg(kind, credit, debit)] -= amount
        else:
            booked[charge_id][_Leg(kind, debit, credit)] += amount
    return booked


def _accounts(tx: Tx) -> Iterator[Finding]:
    booked = _booked(tx)
    refunds: dict[str, int] = dict(tx.execute("SELECT charge_id, sum(amount_micros) FROM refunds GROUP BY charge_id"))
    accounts = _given(tx)
    yield from _deposits(tx, accounts)
    for row in tx.execute(_STORIES):
        story = _Story(*row)
        expected = _predicted(story)
        for leg, micros in expected.items():
            accounts[leg.debit] -= micros
            accounts[leg.credit] += micros
        if booked[story.id] != expected:
            wrong = sorted(leg for leg in {*expected, *booked[story.id]} if booked[story.id][leg] != expected[leg])
            yield Finding("charge", story.id, f"is {story.state}, which its {wrong[0].kind} transfers do not say")
        if refunds.get(story.id, 0) != story.refunded:
            yield Finding("charge", story.id, f"says {story.refunded} refunded, refunds sum to {refunds.get(story.id)}")
        yield from _contradictions(story)
    # What is moved so is told by no other row; that nothing stays, and nothing goes astray, is asked below.
    for debit, credit, micros in tx.execute(
        "SELECT debit, credit, sum(amount_micros) FROM transfers WHERE kind = 'joined' GROUP BY 1, 2"
    ):
        accounts[_own(debit)] -= micros
        accounts[_own(credit)] += micros
    for name in [name for name, micros in accounts.items() if micros < 0]:
        debt = _DEBTS.get(name.partition(":")[2])
        if debt is not None:
            accounts[f"{name.partition(':')[0]}:{debt}"] = accounts.pop(name)
    cached: dict[str, int] = dict(tx.execute("SELECT name, balance_micros FROM accounts"))
    for name in sorted(accounts.keys() | cached.keys()):
        if accounts[name] != cached.get(name, 0):
            yield Finding("account", name, f"is {cached.get(name, 0)}, predicted {accounts[name]}")


def _given(tx: Tx) -> Counter[str]:
    """What operators gave, by account."""
    accounts: Counter[str] = Counter()
    for agent_id, kind, amount in tx.execute("SELECT agent_id, kind, sum(amount_micros) FROM credits GROUP BY 1, 2"):
        source, part = ("grants", "bonus") if kind == "grant" else ("operator", "available")
        accounts[source] -= amount
        accounts[f"{agent_id}:{part}"] += amount
    return accounts


_DEBTS = {"available": "debt", "bonus": "bonus:debt"}
_OWN = {debt: own for own, debt in _DEBTS.items()}


def _own(name: str) -> str:
    """What is owed counts as if it were taken of this account."""
    party, _, part = name.partition(":")
    return f"{party}:{_OWN.get(part, part)}"


def _deposits(tx: Tx, accounts: Counter[str]) -> Iterator[Finding]:
    """Checks each, and adds to `accounts` what stands. What was withdrawn counts as if it were taken of what is
    available: how far that goes below zero is what is owed."""
    booked: defaultdict[str | None, Counter[_Leg]] = defaultdict(Counter)
    for deposit_id, kind, debit, credit, amount in tx.execute(
        "SELECT deposit_id, kind, debit, credit, sum(amount_micros) FROM transfers"
        " WHERE deposit_id IS NOT NULL OR kind IN ('deposit', 'match', 'withdrawn') GROUP BY 1, 2, 3, 4"
    ):
        party, _, part = debit.partition(":")
        booked[deposit_id][_Leg(kind, f"{party}:{_OWN[part]}" if part in _OWN else debit, credit)] += amount
    for id, source, state, holder, asset, amount, bonus in tx.execute(
        "SELECT id, source, state, party, network || '/' || token, amount_micros, bonus_micros FROM deposits"
        " ORDER BY id"
    ):
        origin = f"chain:{asset}:treasury" if source == "transfer" else f"{holder}:authorized"
        available, granted = f"{holder}:available", f"{holder}:bonus"
        came, left = state in ("credited", "withdrawn"), state == "withdrawn"
        expected = Counter(
            {
                _Leg("deposit", origin, available): came * amount,
                _Leg("match", "grants", granted): came * bonus,
                _Leg("withdrawn", available, origin): left * amount,
                _Leg("withdrawn", granted, "grants"): left * bonus,
            }
        )
        expected = Counter({leg: micros for leg, micros in expected.items() if micros})
        for leg, micros in expected.items():
            accounts[leg.debit] -= micros
            accounts[leg.credit] += micros
        if booked.pop(id, Counter()) != expected:
            yield Finding("deposit", id, f"is {state}, which its transfers do not say")
    for deposit_id in booked:
        yield Finding("deposit", str(deposit_id), "was booked, and there is no such deposit")


def _contradictions(story: _Story) -> Iterator[Finding]:
    if story.has_result and (story.state == "held" or story.reason in ("failed", "expired")):
        yield Finding("result", story.id, f"is {story.reason or story.state} and has a result")
    if story.asset is None or story.state in ("held", "released"):
        if story.settlement is not None:
            yield Finding("collection", story.id, f"is {story.state} and has a settlement")
        return
    whole = story.settlement == "proven" and story.proven == story.due
    short = story.settlement == "proven" and story.proven < story.due
    if story.topup:  # what comes is credited, however little
        whole, short = short or whole, story.settlement == "proven" and story.proven == 0
        whole = whole and not short
    tells = {
        "captured": story.settlement in ("queued", "sent"),
        "settled": whole or story.taken_back > 0,
        "refunded": whole or story.taken_back > 0,
        "unpaid": short or story.settlement == "lost" or story.taken_back > 0,
    }
    if not tells[story.state]:
        yield Finding(
            "collection", story.id, f"is {story.state}, its settlement {story.settlement}, {story.proven} came"
        )
    if story.settlement is not None and story.due != story.captured:
        yield Finding("collection", story.id, f"captured {story.captured}, its settlement asks for {story.due}")


_OPEN_OF_KEYS = """
SELECT k.id, k.open_micros, coalesce((SELECT sum(c.held_micros) FROM charges c
  WHERE c.key_id = k.id AND c.source = 'balance' AND c.state = 'held'), 0)
FROM usage_keys k ORDER BY k.id
"""
_DAYS_OF_CHARGES = """
SELECT key_id, ended_ms / 86400000, sum(captured_micros - refunded_micros) FROM charges
WHERE key_id IS NOT NULL AND source = 'balance' AND captured_micros > 0 GROUP BY 1, 2
"""
_CAPS = """
SELECT id, cap_micros, cap_period, open_micros FROM usage_keys WHERE cap_micros IS NOT NULL AND recapped = 0
ORDER BY id
"""


def _usage(tx: Tx) -> Iterator[Finding]:
    for key_id, open_micros, held in tx.execute(_OPEN_OF_KEYS):
        if open_micros != held:
            yield Finding("usage", key_id, f"says {open_micros} are open, its charges hold {held}")
    days = {(key_id, day): micros for key_id, day, micros in tx.execute("SELECT * FROM key_days")}
    charged = {(key_id, day): micros for key_id, day, micros in tx.execute(_DAYS_OF_CHARGES)}
    for key_id, day in sorted(days.keys() | charged.keys()):
        says, came = days.get((key_id, day), 0), charged.get((key_id, day), 0)
        if says != came:
            yield Finding("usage", key_id, f"says {says} spent on day {day}, its charges of that day come to {came}")
    # Only of a cap that is as it was from the beginning: another one may have been met with more than it allows.
    for key_id, cap_micros, cap_period, open_micros in tx.execute(_CAPS):
        used: Counter[int] = Counter({first_day(Period(cap_period), tx.now_ms): open_micros})
        for (spender, day), micros in days.items():
            if spender == key_id:
                used[first_day(Period(cap_period), day * DAY_MS)] += micros
        for day, micros in sorted(used.items()):
            if micros > cap_micros:
                yield Finding("usage", key_id, f"took {micros} of {cap_micros} in the {cap_period} from day {day} on")


_STANDS = """(NOT EXISTS (SELECT 1 FROM settlements s JOIN charges c ON c.id = s.subject
  WHERE s.id = d.settlement_id AND c.operation <> 'balance/topup/x402'))"""
_FAILED = "c.state = 'released' AND c.reason IN ('failed', 'expired')"
_ALIVE = """attempt_settlements l WHERE NOT EXISTS (SELECT 1 FROM closed_nonces n
  WHERE n.network = l.network AND n.key = l.key AND n.nonce = l.nonce)"""

_QUESTIONS: tuple[tuple[str, str, str], ...] = (
    # rule, what is wrong with each row that is found, SELECT subject
    ("payment", "has more than one charge that was not released by failure",
     f"SELECT c.identity FROM charges c WHERE c.identity IS NOT NULL AND NOT ({_FAILED})"
     " GROUP BY c.identity HAVING count(*) > 1"),
    ("payment", "has no payment",
     "SELECT c.id FROM charges c WHERE c.identity IS NOT NULL AND NOT EXISTS (SELECT 1 FROM payments p"
     " WHERE p.identity = c.identity AND p.payer = c.payer AND c.asset LIKE p.network || '/%'"
     # By Permit2 a charge that has failed may have been of another token than the one that has its payment now.
     " AND (p.token = substr(c.asset, length(p.network) + 2) OR p.charge_id <> c.id))"),
    ("payment", "and its charge tell different stories",
     "SELECT p.identity FROM payments p JOIN charges c ON c.id = p.charge_id WHERE c.identity <> p.identity OR"
     f" p.state <> CASE WHEN c.state = 'held' THEN 'claimed' WHEN {_FAILED} THEN 'open' ELSE 'spent' END"),
    ("payment", "has more than one settlement",
     "SELECT identity FROM settlements GROUP BY identity HAVING count(*) > 1"),
    ("payment", "collects another payment than its charge was paid by",
     "SELECT s.id FROM settlements s JOIN charges c ON c.id = s.subject"
     " WHERE s.identity <> c.identity OR (s.purpose = 'topup') <> c.topup"),
    ("proof", "is proven without exactly one proof, or has one without being proven",
     "SELECT s.id FROM settlements s WHERE (s.state = 'proven') <> (SELECT count(*) FROM proofs f"
     " WHERE f.settlement_id = s.id AND f.taken_back_ms IS NULL)"),
    ("proof", "says less or more than its settlement",
     "SELECT f.transaction_hash FROM proofs f JOIN settlements s ON s.id = f.settlement_id"
     " WHERE f.taken_back_ms IS NULL AND (s.proven_micros = s.amount_micros) <>"
     " (length(f.amount_atomic) > length(s.amount_atomic) OR"
     " (length(f.amount_atomic) = length(s.amount_atomic) AND f.amount_atomic >= s.amount_atomic))"),
    ("proof", "is one log and proves more than one thing",
     "SELECT transaction_hash FROM proofs WHERE taken_back_ms IS NULL"
     " GROUP BY network, transaction_hash, log_index HAVING count(*) > 1"),
    ("proof", "is one log, and proves a settlement and is a deposit",
     "SELECT d.id FROM deposits d JOIN proofs f ON f.network = d.network AND f.transaction_hash = d.transaction_hash"
     " AND f.log_index = d.log_index WHERE d.state IN ('seen', 'credited') AND f.taken_back_ms IS NULL"),
    ("proof", "is one log, and more than one deposit",
     "SELECT transaction_hash FROM deposits WHERE state IN ('seen', 'credited') AND source = 'transfer'"
     " GROUP BY network, transaction_hash, log_index HAVING count(*) > 1"),
    ("deposit", "is proven, and was not credited as it came, or credited and is not proven",
     "SELECT s.id FROM settlements s WHERE s.purpose = 'topup' AND s.proven_micros <>"
     " (SELECT coalesce(sum(d.amount_micros), 0) FROM deposits d"
     " WHERE d.settlement_id = s.id AND d.state = 'credited')"),
    ("deposit", "is of a settlement that is no top-up, or of another party",
     "SELECT d.id FROM deposits d JOIN settlements s ON s.id = d.settlement_id JOIN charges c ON c.id = s.subject"
     " WHERE s.purpose <> 'topup' OR c.party <> d.party"),
    ("deposit", "do not add up to what is said of this party's",
     "SELECT party FROM (SELECT party, standing, bonus_micros FROM deposit_sums UNION ALL"
     f" SELECT d.party, -{_STANDS}, -d.bonus_micros FROM deposits d WHERE d.state = 'credited' UNION ALL"
     f" SELECT '*', -{_STANDS}, -d.bonus_micros FROM deposits d WHERE d.state = 'credited')"
     " GROUP BY party HAVING sum(standing) <> 0 OR sum(bonus_micros) <> 0"),
    ("deposit", "is nobody's, and was sent by an agent's wallet that nobody will look at",
     "SELECT d.id FROM deposits d JOIN wallets w ON w.address = d.sender AND w.network IN ('', d.network)"
     " WHERE d.state = 'seen' AND NOT EXISTS (SELECT 1 FROM linked_senders l WHERE l.address = d.sender)"),
    ("recovery", "and its deposit are not of one agent and its wallet",
     "SELECT d.id FROM wallet_recoveries r JOIN deposits d ON d.id = r.deposit_id"
     " WHERE d.party IS NOT r.agent_id OR d.sender <> r.address OR d.source <> 'transfer' OR d.amount_micros < 1000000"
     " OR NOT EXISTS (SELECT 1 FROM wallets w WHERE w.address = r.address AND w.agent_id = r.agent_id"
     " AND w.role = 'mint')"),
    ("recovery", "was done with a token that is none of its agent's",
     "SELECT t.id FROM wallet_recoveries r JOIN tokens t ON t.id = r.token_id"
     " WHERE t.agent_id <> r.agent_id OR t.kind <> 'admin' OR t.created_ms <> r.done_ms"),
    ("recovery", "opens still, and its agent was recovered since",
     "SELECT t.id FROM wallet_recoveries r JOIN tokens t ON t.agent_id = r.agent_id"
     " WHERE t.kind = 'admin' AND t.created_ms < r.done_ms AND t.revoked_ms IS NULL"),
    ("attempt", "is sent, and no transaction is stored for it",
     "SELECT s.id FROM settlements s WHERE s.state = 'sent' AND NOT EXISTS"
     " (SELECT 1 FROM attempt_settlements l WHERE l.settlement_id = s.id)"),
    ("attempt", "was abandoned, and a stored transaction could still pay it",
     f"SELECT l.settlement_id FROM settlements s, {_ALIVE} AND l.settlement_id = s.id AND s.abandoned = 1"
     " AND s.state IN ('queued', 'sent')"),
    ("attempt", "is under way at more than one nonce",
     f"SELECT l.settlement_id FROM {_ALIVE} GROUP BY l.settlement_id"
     " HAVING count(DISTINCT l.network || '/' || l.key || '/' || l.nonce) > 1"),
    ("attempt", "was mined at a nonce where it was never sent",
     "SELECT n.mined_hash FROM closed_nonces n WHERE n.mined_hash IS NOT NULL AND NOT EXISTS (SELECT 1 FROM attempts a"
     " WHERE a.network = n.network AND a.key = n.key AND a.nonce = n.nonce AND a.hash = n.mined_hash)"),
    ("key", "belongs to a charge that failed",
     f"SELECT k.key FROM idempotency_keys k JOIN charges c ON c.id = k.charge_id WHERE {_FAILED}"),
    ("ticket", "and its charge tell different stories",
     "SELECT t.id FROM tickets t JOIN charges c ON c.id = t.charge_id WHERE c.state = 'released'"
     " OR c.operation <> 'support/tickets' OR c.party <> t.party OR c.agent_id IS NOT t.agent_id"),
    ("ticket", "was paid for, and there is none",
     "SELECT c.id FROM charges c WHERE c.operation = 'support/tickets' AND c.state <> 'released'"
     " AND NOT EXISTS (SELECT 1 FROM tickets t WHERE t.charge_id = c.id)"
     # What could not be collected is bought anew, by its payer for the same words, and the ticket is there already.
     " AND NOT EXISTS (SELECT 1 FROM charges e JOIN tickets t ON t.charge_id = e.id"
     " WHERE e.payer = c.payer AND e.request_hash = c.request_hash)"),
    ("ticket", "has earned something else than a bug's credit",
     "SELECT t.id FROM tickets t LEFT JOIN credits k ON k.id = t.credit_id WHERE t.credit_id IS NOT NULL"
     " AND (k.id IS NULL OR k.kind <> 'grant' OR k.agent_id <> t.agent_id OR k.id <> 'crd_' || t.id)"),
    ("ticket", "is a bug's credit, and no ticket has earned it",
     "SELECT k.id FROM credits k WHERE substr(k.id, 1, 8) = 'crd_tkt_'"
     " AND NOT EXISTS (SELECT 1 FROM tickets t WHERE t.credit_id = k.id)"),
    ("prepaid", "is paid from what is no top-up for it, or did not come",
     "SELECT c.id FROM charges c JOIN charges t ON t.id = c.topup_id WHERE t.topup = 0 OR t.state <> 'settled'"
     " OR t.operation <> c.operation OR t.request_hash <> c.request_hash OR t.agent_id IS NOT c.agent_id"
     " OR c.held_micros > t.captured_micros OR c.created_ms < t.created_ms OR c.source <> 'balance'"
     " OR (c.party <> t.party"
     " AND NOT EXISTS (SELECT 1 FROM wallets w WHERE w.address = t.party AND w.agent_id = c.party))"),
    ("prepaid", "is the top-up of more than one call that has not failed",
     f"SELECT c.topup_id FROM charges c WHERE c.topup_id IS NOT NULL AND NOT ({_FAILED})"
     " GROUP BY c.topup_id HAVING count(*) > 1"),
    ("wallet", "has or owes something, and belongs to an agent",
     "SELECT w.address FROM wallets w JOIN accounts a ON a.name IN (w.address || ':available', w.address || ':debt')"
     " WHERE a.balance_micros <> 0"
     # A contract's address may be another's on another chain: what was paid from there is not for this one.
     " AND (w.network = '' OR NOT EXISTS (SELECT 1 FROM charges c WHERE c.payer = w.address"
     " AND c.captured_micros > 0 AND c.asset NOT LIKE w.network || '/%'))"),
    ("wallet", "went on from what is no wallet of that agent, or not all of it",
     "SELECT t.seq FROM transfers t WHERE t.kind = 'joined' AND NOT (t.debit_after_micros = 0 AND EXISTS"
     " (SELECT 1 FROM wallets w WHERE t.debit = w.address || ':available' AND t.credit = w.agent_id || ':available'))"
     # A debt: of what the agent has, the rest as its own.
     " AND NOT ((t.credit_after_micros = 0 OR (t.debit_after_micros = 0 AND t.debit LIKE '%:available')) AND EXISTS"
     " (SELECT 1 FROM wallets w WHERE t.credit = w.address || ':debt'"
     " AND t.debit IN (w.agent_id || ':available', w.agent_id || ':debt')))"),
    ("grant", "has registered, and its agent does not have the wallet or the grant that is said",
     "SELECT r.address FROM registrations r JOIN wallets w ON w.address = r.address AND w.network = r.counts_on"
     " LEFT JOIN credits k ON k.id = r.credit_id AND k.kind = 'grant' AND k.agent_id = w.agent_id"
     " WHERE coalesce(k.amount_micros, 0) <> r.granted_micros OR (w.role = 'linked') <> (r.withheld IS 'linked')"
     " OR (r.granted_micros > 0 AND r.credit_id NOT IN ('mint:' || r.address,"
     " 'mint:' || coalesce(nullif(r.counts_on, ''), '*') || '/' || r.address))"),
    ("grant", "was granted for a wallet that never registered",
     "SELECT k.id FROM credits k WHERE substr(k.id, 1, 5) = 'mint:'"
     " AND NOT EXISTS (SELECT 1 FROM registrations r WHERE r.credit_id = k.id)"),
    ("allowance", "is drawn by more or less than was signed for",
     "SELECT a.address FROM allowances a WHERE a.drawn_micros <> (SELECT coalesce(sum(CASE c.state"
     " WHEN 'held' THEN c.held_micros WHEN 'released' THEN 0 WHEN 'unpaid' THEN 0 ELSE c.captured_micros END), 0)"
     " FROM charges c WHERE c.payer = a.address AND c.source = 'signature' AND c.created_ms > a.since_ms"
     " AND (a.network = '' OR c.asset LIKE a.network || '/%'))"),
    ("allowance", "was stated for what is no agent's wallet there",
     "SELECT a.address FROM allowances a WHERE NOT EXISTS"
     " (SELECT 1 FROM wallets w WHERE w.address = a.address AND w.network IN ('', a.network))"),
    ("usage", "was made with another agent's key",
     "SELECT c.id FROM charges c JOIN usage_keys k ON k.id = c.key_id WHERE k.agent_id IS NOT c.agent_id"),
    ("usage", "was held after its key was revoked",
     "SELECT c.id FROM charges c JOIN usage_keys k ON k.id = c.key_id WHERE c.created_ms > k.revoked_ms"),
    ("usage", "is good although its key was revoked",
     "SELECT t.id FROM tokens t JOIN usage_keys k ON k.id = t.key_id"
     " WHERE (k.revoked_ms IS NOT NULL AND t.revoked_ms IS NULL) OR k.agent_id <> t.agent_id"),
    ("session", "was gone on with by another agent's call, or by another operation's",
     "SELECT t.charge_id FROM session_turns t JOIN sessions s ON s.id = t.session_id"
     " JOIN charges c ON c.id = t.charge_id WHERE c.agent_id IS NOT s.agent_id OR c.operation <> s.operation"),
    ("session", "is kept of a call that failed, or that is still worked on",
     "SELECT t.charge_id FROM session_turns t JOIN charges c ON c.id = t.charge_id"
     f" WHERE c.state = 'held' OR ({_FAILED})"),
    ("cost", "has cost more or less than what was bought for it",
     "SELECT c.id FROM charges c LEFT JOIN (SELECT charge_id, sum(cost_micros) AS micros FROM vendor_calls"
     " GROUP BY charge_id) v ON v.charge_id = c.id WHERE c.cost_micros <> coalesce(v.micros, 0)"),
    ("job", "and its charge tell different stories",
     "SELECT j.id FROM jobs j JOIN charges c ON c.id = j.charge_id WHERE CASE"
     " WHEN c.state = 'held' THEN j.ended_ms IS NOT NULL"
     f" WHEN {_FAILED} THEN j.state NOT IN ('failed', 'cancelled') ELSE j.state <> 'completed' END"),
    ("job", "is held for a job that there is not",
     "SELECT c.id FROM charges c WHERE c.owner = 'jobs'"
     " AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.charge_id = c.id)"),
    ("result", "found nothing, and is given again",
     "SELECT a.charge_id FROM answers a JOIN charges c ON c.id = a.charge_id WHERE c.state = 'held'"
     " OR c.reason IN ('missed', 'failed', 'expired')"),
    ("access", "told of somebody, and was never answered",
     f"SELECT a.charge_id FROM accesses a JOIN charges c ON c.id = a.charge_id WHERE c.state = 'held' OR {_FAILED}"),
    ("subject", "is suppressed, and is known by nothing",
     "SELECT s.id FROM suppressions s WHERE NOT EXISTS (SELECT 1 FROM suppressed d WHERE d.suppression_id = s.id)"),
    ("job", "has ended, and its callback was never written",
     "SELECT j.id FROM jobs j WHERE j.callback_url IS NOT NULL AND j.ended_ms IS NOT NULL AND j.untold = 0"
     " AND j.ended_ms > :now_ms - 2592000000" # events are deleted a month after they were told
     " AND NOT EXISTS (SELECT 1 FROM webhooks w WHERE w.subject = j.id)"),
)  # fmt: skip


def _questions(tx: Tx) -> Iterator[Finding]:
    for rule, message, sql in _QUESTIONS:
        for row in tx.execute(sql, {"now_ms": tx.now_ms}):
            yield Finding(rule, _text(row), message)


def _text(row: Row) -> str:
    return str(row[0])


_CHECKS = (_integrity, _replay, _movements, _accounts, _usage, _questions)
