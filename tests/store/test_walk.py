"""Random walks: legal and illegal moves of many charges, every account predicted by a model of its own.

The model knows nothing of gateway/core/charge.py: it keeps, for each charge, what part of whose money is where, in
plain arithmetic, and says beforehand what every step will answer. F-087, F-088, F-097.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs import money_table
from rigs.books import ASSET

from gateway.core.errors import Conflict, IllegalMove
from gateway.store import statements
from gateway.store.audit import audit
from gateway.store.database import Row
from gateway.store.sqlite import migrate, read_migrations

DUE, TREASURY = f"chain:{ASSET}:due", f"chain:{ASSET}:treasury"


@dataclass
class Bill:
    """A charge, as the model sees it."""

    party: str
    signed: bool
    own: int
    bonus: int
    state: str = "held"
    captured: int = 0
    captured_bonus: int = 0
    refunded: int = 0
    collected: str = ""
    """`queued`, `proven` or `lost`; empty while there is nothing to collect."""
    came: int = 0
    final: bool = False

    @property
    def held(self) -> int:
        return self.own + self.bonus


OWN = ("available", "held", "bonus", "bonus_held")


def _party(account: str) -> tuple[str, bool]:
    """(whose it is, whether it is money he has)."""
    name, _, part = account.rpartition(":")
    return name, part in OWN


class Model:
    def __init__(self) -> None:
        self.accounts: Counter[str] = Counter()
        self.bills: dict[str, Bill] = {}
        self.proofs = 0
        self.lines: defaultdict[str, list[int]] = defaultdict(list)
        """What each party's statement has, by step."""

    def move(self, debit: str, credit: str, micros: int) -> None:
        (taken, of), (given, to) = (_party(name) for name in (debit, credit))
        if micros and not (of and to and taken == given):
            self.lines[taken] += [-micros] * of
            self.lines[given] += [micros] * to
        self.accounts[debit] -= micros
        self.accounts[credit] += micros

    # what each verb will answer, and what it does

    def credit(self, party: str, micros: int) -> str:
        self.move("operator", f"{party}:available", micros)
        return "ok"

    def grant(self, party: str, micros: int) -> str:
        self.move("grants", f"{party}:bonus", micros)
        return "ok"

    def hold(self, id: str, party: str, micros: int) -> str:
        own, bonus = self.accounts[f"{party}:available"], self.accounts[f"{party}:bonus"]
        if micros > own + bonus:
            return f"short {own + bonus}"
        bill = self.bills[id] = Bill(party, False, min(own, micros), micros - min(own, micros))
        self.move(f"{party}:available", f"{party}:held", bill.own)
        self.move(f"{party}:bonus", f"{party}:bonus_held", bill.bonus)
        return "held"

    def sign(self, id: str, party: str, micros: int) -> str:
        self.bills[id] = Bill(party, True, micros, 0)
        self.move(DUE, f"{party}:authorized", micros)
        return "held"

    def match(self, id: str, micros: int) -> str:
        bill = self.bills[id]
        if bill.state != "held":
            return f"late {bill.state}"
        if not 0 <= micros <= bill.held:
            return "illegal"
        if micros == 0:
            return self.release(id)
        bill.captured, bill.captured_bonus = micros, max(micros - bill.own, 0)
        bill.collected = "queued" if bill.signed else ""
        own = micros - bill.captured_bonus
        if bill.signed:
            self.move(f"{bill.party}:authorized", "revenue", micros)
            self.move(f"{bill.party}:authorized", DUE, bill.own - micros)
        else:
            self.move(f"{bill.party}:held", "revenue", own)
            self.move(f"{bill.party}:held", f"{bill.party}:available", bill.own - own)
            self.move(f"{bill.party}:bonus_held", "revenue", bill.captured_bonus)
            self.move(f"{bill.party}:bonus_held", f"{bill.party}:bonus", bill.bonus - bill.captured_bonus)
        bill.state = "captured"
        return bill.state

    def release(self, id: str) -> str:
        bill = self.bills[id]
        if bill.state != "held":
            return f"late {bill.state}"
        if bill.signed:
            self.move(f"{bill.party}:authorized", DUE, bill.own)
        else:
            self.move(f"{bill.party}:held", f"{bill.party}:available", bill.own)
            self.move(f"{bill.party}:bonus_held", f"{bill.party}:bonus", bill.bonus)
        bill.state = "released"
        return bill.state

    miss = fail = expire = release

    def refund(self, id: str, micros: int) -> str:
        bill = self.bills[id]
        refundable = ("settled",) if bill.signed else ("captured",)
        if bill.state not in refundable or not 0 < micros <= bill.captured - bill.refunded:
            return "illegal"
        bonus = min(micros, max(bill.captured_bonus - bill.refunded, 0))
        self.move("revenue", f"{bill.party}:bonus", bonus)
        self.move("revenue", f"{bill.party}:available", micros - bonus)
        bill.refunded += micros
        if bill.refunded == bill.captured:
            bill.state = "refunded"
        return bill.state

    def prove(self, id: str, micros: int) -> str:
        bill = self.bills[id]
        if not bill.collected:
            return "illegal"
        if bill.collected != "queued":
            return "conflict"
        if not 0 < micros <= bill.captured:
            return "illegal"
        self.move(TREASURY, DUE, micros)
        self.move("loss", DUE, bill.captured - micros)
        bill.collected, bill.came = "proven", micros
        if bill.state == "captured":
            bill.state = "settled" if micros == bill.captured else "unpaid"
        return "proven"

    def lose(self, id: str) -> str:
        bill = self.bills[id]
        if not bill.collected:
            return "illegal"
        if bill.collected != "queued":
            return "conflict"
        self.move("loss", DUE, bill.captured)
        bill.collected = "lost"
        if bill.state == "captured":
            bill.state = "unpaid"
        return "lost"

    def back(self, id: str) -> str:
        bill = self.bills[id]
        if not bill.collected:
            return "illegal"
        if bill.collected != "proven" or bill.final:
            return "conflict"
        self.move(DUE, TREASURY, bill.came)
        self.move(DUE, "loss", bill.captured - bill.came)
        bill.collected, bill.came = "queued", 0
        return "queued"

    def final(self, id: str) -> str:
        bill = self.bills[id]
        if bill.collected != "proven":
            return "conflict"
        bill.final = True
        return "ok"


LEGAL = {
    "held": ("match", "match", "match", "miss", "fail", "expire"),
    "captured": ("refund",),
    "settled": ("refund",),
    "queued": ("prove", "prove", "prove", "lose"),
    "proven": ("back", "back", "final"),
}
MOVES = ("match", "miss", "fail", "expire", "refund", "prove", "lose", "back", "final")


class Walk:
    """The model and the store side by side."""

    def __init__(self, data: st.DataObject) -> None:
        self._draw = data.draw
        self._model = Model()
        self._connection = apsw.Connection(":memory:")
        self._connection.pragma("foreign_keys", "on")
        migrate(self._connection, read_migrations(), 0)
        self.now_ms = 1_800_000_000_000
        for name in ("ann", "eve"):
            self.execute(f"INSERT INTO agents VALUES ('{name}', '', 'active', 1)")
            self._step("credit", name, "300")
            self._step("grant", name, "300")

    def execute(self, sql: str, params: dict[str, object] = {}) -> list[Row]:  # noqa: B006
        return self._connection.execute(sql, params).fetchall()

    def step(self) -> None:
        verb, arguments, options = self._drawn()
        self._step(verb, *arguments, **options)

    def _step(self, verb: str, *arguments: str, **options: str) -> None:
        predicted = getattr(self._model, verb)(*(int(a) if a.lstrip("-").isdigit() else a for a in arguments))
        assert self._play(verb, *arguments, **options) == predicted
        accounts = {name: micros for name, micros in self._model.accounts.items() if micros}
        assert {name: micros for name, micros in money_table.balances(self).items() if micros} == accounts
        for party in ("ann", "eve", "bob", "zoe"):
            self._statement(party)

    def _statement(self, party: str) -> None:
        """It sums to the balance, and each line's balance follows from the one before."""
        lines = statements.page(self, party, 100_000)[::-1]
        balance = 0
        for number, each in enumerate(lines, 1):
            balance += each.amount_micros
            assert (each.number, each.balance_micros) == (number, balance)
        assert balance == sum(self._model.accounts[f"{party}:{part}"] for part in OWN)
        assert Counter(each.amount_micros for each in lines) == Counter(self._model.lines[party])

    def _play(self, verb: str, *arguments: str, **options: str) -> str:
        self.execute("SAVEPOINT step")
        try:
            outcome = money_table.told(money_table.step(self, verb, *arguments, **options))
        except (Conflict, IllegalMove) as refusal:
            self.execute("ROLLBACK TO step")
            outcome = money_table.refused(refusal)
        self.execute("RELEASE step")
        return outcome

    def _drawn(self) -> tuple[str, tuple[str, ...], dict[str, str]]:
        bills = self._model.bills
        new = f"c{len(bills)}"
        micros = str(self._draw(st.integers(1, 400), "micros"))
        kind = self._draw(st.sampled_from(("move",) * 7 + ("hold", "hold", "sign", "sign", "credit", "grant")), "kind")
        if kind in ("credit", "grant"):
            return kind, (self._draw(st.sampled_from(("ann", "eve"))), micros), {}
        if kind == "sign":
            return kind, (new, self._draw(st.sampled_from(("bob", "zoe"))), micros), {}
        if kind == "hold" or not bills:
            name = self._draw(st.sampled_from(("ann", "eve")))
            own, bonus = (self._model.accounts[f"{name}:{part}"] for part in ("available", "bonus"))
            mixed = own + self._draw(st.integers(0, bonus + 1), "from bonus")
            return "hold", (new, name, str(max(mixed, 1))), {}
        alive = [id for id, bill in bills.items() if LEGAL.keys() & {bill.state, bill.collected}]
        return self._move(self._draw(st.sampled_from((*alive * 4, *bills)), "charge"))

    def _move(self, id: str) -> tuple[str, tuple[str, ...], dict[str, str]]:
        bill = self._model.bills[id]
        legal = (*LEGAL.get(bill.state, ()), *(LEGAL.get(bill.collected, ())))
        verb = self._draw(st.sampled_from((*legal * 5, *MOVES)), "verb")
        if verb not in ("match", "refund", "prove"):
            return verb, (id,), {}
        whole = {"match": bill.held, "refund": bill.captured - bill.refunded, "prove": bill.captured}[verb]
        micros = self._draw(st.one_of(st.just(whole), st.integers(1 if verb == "prove" else 0, whole + 1)), "amount")
        self._model.proofs += 1
        options = {"refund": {"id": f"r{self._model.proofs}"}, "prove": {"log": f"0xt:{self._model.proofs}"}}
        return verb, (id, str(micros)), options.get(verb, {})

    def end(self) -> None:
        assert audit(self) == []
        self._connection.close()


def walk(data: st.DataObject, steps: int) -> None:
    walk = Walk(data)
    for _ in range(steps):
        walk.step()
    walk.end()


@given(st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_account_is_predicted_on_every_step(data: st.DataObject) -> None:
    walk(data, 50)


@pytest.mark.full
@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_account_is_predicted_on_long_walks(data: st.DataObject) -> None:
    walk(data, 100)
