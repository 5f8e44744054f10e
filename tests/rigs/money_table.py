"""A small language for money: a step a line, what comes of it, and the balances that changed.

    credit ann 1000           -> ok        | ann 1000, operator -1000
    hold   c1 ann 300         -> held      | ann 700, ann.held 300
    match  c1 200             -> captured  | ann 800, ann.held 0, revenue 200

Behind the bar stand the accounts a step changes, with their balances after it; every other account must be as it was
before, so a line without a bar moves nothing. Amounts are micros. `ann` is an agent (made when first named) and his
available own money; `ann.held`, `ann.bonus`, `ann.bonus_held`, `ann.authorized` are his other accounts; `bob` of
`sign` is a wallet. `due` and `treasury` are of the test's one token.

    credit|grant AGENT MICROS [id=X]           hold CHARGE AGENT MICROS [key=X] [request=X]
    freeze|thaw AGENT                          sign CHARGE WALLET MICROS [nonce=X] [spendable=N] [request=X]
                                                 [payload=X] [agent=X] [key=X]
    match CHARGE MICROS [cost=N]               free|miss|fail|expire CHARGE [cost=N]
    refund CHARGE MICROS id=X                  send CHARGE[,CHARGE] NONCE [number=N] [hash=X]
    prove CHARGE MICROS log=TX:N [final=1]     lose|abandon|back|final|retry CHARGE
    close NONCE [by=HASH]                      link WALLET agent=X
    arrive TX:N WALLET MICROS [match=X]        claim TX:N WALLET MICROS agent=X [match=X]
    vanish TX:N                                orphan TX:N agent=X [match=X]

`sign ... topup=1 agent=X` buys balance; `topup=call` does so for a call, which is `spend CHARGE TOPUP MICROS [agent=X]
[request=X]` once that was proven. A match is PERCENT,MIN,MAX,BUDGET in micros, and `first` where only an agent's
first deposit counts: `match=100,10,50,500,first`. A log that vanishes may arrive again.

An outcome is a word for what was answered: a charge's or settlement's state, `short 20` (available),
`overcommitted 300` (open), `key c1` or `key c1 other`, `known c1` or `known c1 other request, payment`,
`late released`, `refused stl_c1`, a deposit's state and its bonus (`credited 50`); or for what was raised: `conflict`,
`illegal`, a problem's code in lower case.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rigs import books

from gateway.core.agent import Status
from gateway.core.charge import Event
from gateway.core.deposit import TOPUP, Arrival, Match
from gateway.core.errors import Conflict, IllegalMove, Problem
from gateway.core.settlement import Attempt, ProofKind, Settled, Settlement
from gateway.core.transfer import Kind, Part, chain_due, chain_treasury
from gateway.store import agents, charges, deposits, ledger, prepaid, settlements, wallets
from gateway.store.database import Tx
from gateway.store.sqlite import SqliteDatabase

RELAYER = "0x" + "e" * 40


async def play(db: SqliteDatabase, table: str, after: Callable[[], None] = lambda: None) -> None:
    """Plays every line, and `after` each; an AssertionError names the first that came out differently."""
    stage = _Stage(db)
    for number, line in enumerate(table.splitlines(), 1):
        text = line.split("#")[0].strip()
        if text:
            await stage.line(f"line {number}: {text}", text)
            after()


class _Stage:
    def __init__(self, db: SqliteDatabase) -> None:
        self._db = db
        self._agents: set[str] = set()

    async def line(self, where: str, text: str) -> None:
        step, _, rest = text.partition("->")
        outcome, _, changes = rest.partition("|")
        words = step.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        arguments = [word for word in words[1:] if "=" not in word]
        await self._introduce(words[0], arguments, options)
        before = await self._db.read(balances)
        came = await self._play(words[0], arguments, options)
        assert came == outcome.strip(), f"{where}\n  came out as: {came}"
        expected = {**before, **{_account(name): int(micros) for name, micros in map(str.split, _listed(changes))}}
        after = await self._db.read(balances)
        differences = {n: (expected.get(n, 0), after.get(n, 0)) for n in {*expected, *after}}
        wrong = [f"{n} is {is_}, not {should}" for n, (should, is_) in differences.items() if should != is_]
        assert not wrong, f"{where}\n  " + "\n  ".join(sorted(wrong))

    async def _introduce(self, verb: str, arguments: list[str], options: dict[str, str]) -> None:
        named = {"credit": 0, "grant": 0, "hold": 1, "freeze": 0}
        name = arguments[named[verb]] if verb in named else options.get("agent")
        if name is not None and name not in self._agents:
            self._agents.add(name)
            await self._db.write(agents.create, name, name)

    async def _play(self, verb: str, arguments: list[str], options: dict[str, str]) -> str:
        try:
            return told(await self._db.write(step, verb, *arguments, **options))
        except (Conflict, IllegalMove, Problem) as refusal:
            return refused(refusal)


def step(tx: Tx, verb: str, *arguments: str, **options: str) -> object:
    """One step of the language, in a transaction; answers what the store's function answered."""
    return _STEPS[verb](tx, *arguments, **options)


def refused(refusal: Exception) -> str:
    match refusal:
        case Conflict():
            return "conflict"
        case IllegalMove():
            return "illegal"
        case Problem():
            return refusal.code.lower()
    raise refusal


def _listed(changes: str) -> list[str]:
    return [change for change in changes.split(",") if change.strip()]


def _account(name: str) -> str:
    chain = {"due": chain_due(books.ASSET), "treasury": chain_treasury(books.ASSET)}
    if name in ("revenue", "loss", "grants", "operator"):
        return name
    party, _, part = name.partition(".")
    return chain.get(name) or f"{party}:{part or Part.AVAILABLE}"


def balances(tx: Tx) -> dict[str, int]:
    """Every account and its cached balance."""
    return dict(tx.execute("SELECT name, balance_micros FROM accounts"))


def told(outcome: object) -> str:
    match outcome:
        case charges.Held():
            return "held"
        case charges.Short(available):
            return f"short {available}"
        case prepaid.NotCome():
            return "not come"
        case charges.Overcommitted(open_micros):
            return f"overcommitted {open_micros}"
        case charges.KeyKnown(charge_id, same):
            return f"key {charge_id}" + ("" if same else " other")
        case charges.PaymentKnown(charge_id, _, same_request, same_payment):
            other = [name for name, same in (("request", same_request), ("payment", same_payment)) if not same]
            return f"known {charge_id}" + (f" other {', '.join(other)}" if other else "")
        case charges.ChargeView(charge=charge):
            return charge.state
        case charges.Late(charge):
            return f"late {charge.state}"
        case charges.Charge() | Settlement():
            return outcome.state
        case deposits.DepositView(deposit=deposit):
            return f"{deposit.state} {deposit.bonus_micros}" if deposit.bonus_micros else deposit.state
        case tuple():
            return "refused " + " ".join(outcome) if outcome else "sent"
        case True | False:
            return "yes" if outcome else "no"
        case _:
            return "ok"


def _credit(kind: Kind) -> Callable[..., None]:
    def step(tx: Tx, name: str, micros: str, id: str = "") -> None:
        agents.credit(
            tx, name, int(micros), kind, "", id or f"{kind}_{name}_{tx.execute('SELECT count(*) FROM credits')}"
        )

    return step


def _hold(tx: Tx, charge: str, agent: str, micros: str, key: str = "", request: str = "r") -> object:
    use = charges.KeyUse(agent, key, request.encode()) if key else None
    return charges.hold(tx, books.charge(charge, agent, int(micros)), books.work(agent, request=request), None, use)


def _sign(
    tx: Tx, charge: str, wallet: str, micros: str, nonce: str = "", spendable: str = "1000000", request: str = "r",
    payload: str = "", agent: str = "", key: str = "", topup: str = "",
) -> object:  # fmt: skip
    claim = books.claim(nonce or charge, int(micros), payer=wallet, spendable=int(spendable), payload=payload or None)
    use = charges.KeyUse(wallet, key, request.encode()) if key else None
    work = books.work(agent or None, request=request)
    signed = replace(
        books.signed(charge, int(micros), agent or wallet), topup=bool(topup),
        **({"operation": TOPUP} if topup == "1" else {}),
    )  # fmt: skip
    return charges.hold(tx, signed, work, claim, use)


def _spend(tx: Tx, charge: str, topup: str, micros: str, agent: str = "", request: str = "r") -> object:
    call = replace(books.charge(charge, agent or "nobody", int(micros)), topup_id=topup)
    return prepaid.hold(tx, call, books.work(agent or None, request=request))


def _link(tx: Tx, wallet: str, agent: str) -> bool:
    linked = wallets.add(tx, wallet, agent, wallets.Role.LINKED)
    ledger.pass_on(tx, wallet)
    return linked


def _record(event: Event) -> Callable[..., object]:
    def step(tx: Tx, charge: str, micros: str = "0", cost: str = "0") -> object:
        found = charges.find(tx, charge)
        settles = event is Event.MATCHED and found is not None and found.charge.asset is not None and int(micros) > 0
        return charges.record(
            tx, charge, event, int(micros), calls=books.bought(int(cost)),
            result=None if event in (Event.FAILED, Event.EXPIRED) else b"{}",
            settlement_id=f"stl_{charge}" if settles else None,
            amount_atomic=int(micros) if settles else None,
        )  # fmt: skip

    return step


def _refund(tx: Tx, charge: str, micros: str, id: str) -> object:
    return charges.refund(tx, charge, int(micros), id, "")


def _send(tx: Tx, carried: str, nonce: str, number: str = "0", hash: str = "") -> object:
    ids = tuple(f"stl_{charge}" for charge in carried.split(","))
    hash = hash or f"0x{nonce}-{number}"
    return settlements.sending(
        tx, Attempt(books.NETWORK, RELAYER, int(nonce), int(number), hash, b"raw", 7, ids, tx.now_ms + int(number))
    )


def _arrival(log: str, wallet: str, micros: str) -> Arrival:
    transaction, index = log.split(":")
    return Arrival(books.NETWORK, books.TOKEN, wallet, transaction, int(index), 8, "0xb8", int(micros), int(micros))


def match_of(rule: str) -> Match | None:
    """`PERCENT,MIN,MAX,BUDGET[,first]`; nothing is no match."""
    if not rule:
        return None
    percent, least, most, budget, *first = rule.split(",")
    return Match(int(percent), int(least), int(most), int(budget), first_deposit_only=bool(first))


def _new_deposit(tx: Tx) -> str:
    ((count,),) = tx.execute("SELECT count(*) FROM deposits")
    return f"dep_{count + 1:04}"


def _of_log(tx: Tx, log: str) -> str:
    """The latest deposit by this log."""
    transaction, index = log.split(":")
    ((found,),) = tx.execute(
        "SELECT max(id) FROM deposits WHERE transaction_hash = :hash AND log_index = :index",
        {"hash": transaction, "index": int(index)},
    )
    return str(found)


def _arrive(tx: Tx, log: str, wallet: str, micros: str, match: str = "") -> object:
    return deposits.arrived(tx, _arrival(log, wallet, micros), _new_deposit(tx), match_of(match))


def _vanish(tx: Tx, log: str) -> object:
    deposits.taken_back(tx, _of_log(tx, log))
    return deposits.find(tx, _of_log(tx, log))


def _claim(tx: Tx, log: str, wallet: str, micros: str, agent: str, match: str = "") -> object:
    (view,) = deposits.claimed(tx, agent, [_arrival(log, wallet, micros)], [_new_deposit(tx)], match_of(match))
    return view


def _prove(tx: Tx, charge: str, micros: str, log: str, final: str = "0", match: str = "") -> object:
    transaction, index = log.split(":")
    proof = Settled(ProofKind.CHAIN, transaction, int(index), 8, int(micros), final == "1")
    return settlements.proven(tx, f"stl_{charge}", proof, int(micros), match=match_of(match)).settlement


def _close(tx: Tx, nonce: str, by: str = "") -> None:
    settlements.closed(tx, books.NETWORK, RELAYER, int(nonce), by or None)


_STEPS: dict[str, Callable[..., Any]] = {
    "credit": _credit(Kind.CREDIT),
    "grant": _credit(Kind.GRANT),
    "freeze": lambda tx, name: agents.set_status(tx, name, Status.FROZEN),
    "thaw": lambda tx, name: agents.set_status(tx, name, Status.ACTIVE),
    "hold": _hold,
    "sign": _sign,
    "match": _record(Event.MATCHED),
    "free": _record(Event.MATCHED),
    "miss": _record(Event.MISSED),
    "fail": _record(Event.FAILED),
    "expire": _record(Event.EXPIRED),
    "refund": _refund,
    "send": _send,
    "prove": _prove,
    "lose": lambda tx, charge: settlements.lost(tx, f"stl_{charge}", "expired"),
    "abandon": lambda tx, charge: settlements.abandon(tx, f"stl_{charge}"),
    "back": lambda tx, charge: settlements.taken_back(tx, f"stl_{charge}"),
    "final": lambda tx, charge: settlements.final(tx, f"stl_{charge}"),
    "retry": lambda tx, charge: settlements.retry(tx, f"stl_{charge}"),
    "close": _close,
    "link": _link,
    "spend": _spend,
    "arrive": _arrive,
    "claim": _claim,
    "vanish": _vanish,
    "orphan": lambda tx, log, agent, match="": deposits.credit_orphan(tx, _of_log(tx, log), agent, match_of(match)),
}
