"""F-112, F-120: every sequence of deposit, match, spend, refund, reorganisation up to length 8, against a small model.

The model keeps two sums of one agent, own money and bonus, each of which may be below zero: then that much is owed, and
nothing of it is there to spend. It knows nothing of gateway/core/deposit.py or of how a debt is paid. After each step
every account is as it says, and nobody has got more than was paid in, matched or is owed.

Two sequences that lead the model to one place go on alike, so a place is left once for each length that is left.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import apsw
import pytest
from rigs import money_table
from rigs.books import ASSET

from gateway.store.audit import audit
from gateway.store.database import Row
from gateway.store.sqlite import migrate, read_migrations

LENGTH = 8
WALLET = "0x" + "a1" * 20
BY_TRANSFER, BY_X402 = 2, 3


@dataclass(frozen=True)
class Place:
    """Micros. `transfer` and `topup` are the bonus each deposit came with; None while it does not stand."""

    own: int = 0
    bonus: int = 0
    hold: tuple[int, int] | None = None
    """(own, bonus) of the one open call."""
    spent: tuple[tuple[int, int], ...] = ()
    """(own, bonus) of the calls that can be refunded."""
    transfer: int | None = None
    topup: int | None = None
    signed: bool = False
    """Whether the top-up was signed, and may yet come."""
    lost: bool = False

    def accounts(self) -> dict[str, int]:
        revenue = sum(map(sum, self.spent))
        held = self.hold or (0, 0)
        expected = {
            "ann:available": max(self.own, 0),
            "ann:debt": min(self.own, 0),
            "ann:bonus": max(self.bonus, 0),
            "ann:bonus:debt": min(self.bonus, 0),
            "ann:held": held[0],
            "ann:bonus_held": held[1],
            "ann:authorized": BY_X402 * self.signed,
            f"chain:{ASSET}:due": -BY_X402 * self.signed,
            f"chain:{ASSET}:treasury": -self.paid,
            "grants": -self.matched,
            "revenue": revenue,
        }
        return {name: micros for name, micros in expected.items() if micros}

    @property
    def paid(self) -> int:
        return BY_TRANSFER * (self.transfer is not None) + BY_X402 * (self.topup is not None)

    @property
    def matched(self) -> int:
        return (self.transfer or 0) + (self.topup or 0)


@dataclass(frozen=True)
class Rule:
    most: int
    budget: int
    first: bool

    def bonus(self, place: Place, micros: int) -> int:
        if self.first and place.paid:
            return 0
        return max(min(micros, self.most - place.matched, self.budget - place.matched), 0)

    @property
    def text(self) -> str:
        return f"100,1,{self.most},{self.budget}" + (",first" if self.first else "")


Step = tuple[Place, list[tuple[str, ...]]]
"""The place after it, and what the store is asked to do."""


def steps(place: Place, rule: Rule, number: int) -> Iterator[Step]:
    """Every move that there is; `number` makes new names."""
    yield from deposits(place, rule, number)
    yield from calls(place, number)


def deposits(place: Place, rule: Rule, number: int) -> Iterator[Step]:
    if place.transfer is None:
        bonus = rule.bonus(place, BY_TRANSFER)
        after = replace(place, own=place.own + BY_TRANSFER, bonus=place.bonus + bonus, transfer=bonus)
        yield after, [("arrive", "t:0", WALLET, str(BY_TRANSFER), f"match={rule.text}")]
    else:
        after = replace(place, own=place.own - BY_TRANSFER, bonus=place.bonus - place.transfer, transfer=None)
        yield after, [("vanish", "t:0")]
    if place.topup is not None:
        after = replace(place, own=place.own - BY_X402, bonus=place.bonus - place.topup, topup=None, signed=True)
        yield after, [("back", "top")]
    elif not place.lost:
        bonus = rule.bonus(place, BY_X402)
        after = replace(place, own=place.own + BY_X402, bonus=place.bonus + bonus, topup=bonus, signed=False)
        proved = ("prove", "top", str(BY_X402), f"log=x:{number}", f"match={rule.text}")
        first = [("sign", "top", "bob", str(BY_X402), "agent=ann", "topup=1"), ("match", "top", str(BY_X402))]
        yield after, [proved] if place.signed else [*first, proved]
    if place.signed:
        yield replace(place, signed=False, lost=True), [("lose", "top")]


def calls(place: Place, number: int) -> Iterator[Step]:
    has = max(place.own, 0), max(place.bonus, 0)
    if place.hold is None:
        if sum(has):
            after = replace(place, own=min(place.own, 0), bonus=min(place.bonus, 0), hold=has)
            yield after, [("hold", f"c{len(place.spent)}_{number}", "ann", str(sum(has)))]
    else:
        for captured in {0, 1, sum(place.hold)}:
            own = min(captured, place.hold[0])
            bonus = captured - own
            after = replace(
                place,
                own=place.own + place.hold[0] - own,
                bonus=place.bonus + place.hold[1] - bonus,
                hold=None,
                spent=tuple(sorted((*place.spent, (own, bonus)))) if captured else place.spent,
            )
            yield after, [("match", "held", str(captured)) if captured else ("miss", "held")]
    for index, (own, bonus) in enumerate(place.spent):
        rest = place.spent[:index] + place.spent[index + 1 :]
        after = replace(place, own=place.own + own, bonus=place.bonus + bonus, spent=rest)
        yield after, [("refund", f"spent {own} {bonus}", str(own + bonus), f"id=r{number}")]


class Tree:
    """The store, with every step taken and taken back."""

    def __init__(self, rule: Rule, *, every_path: bool = False) -> None:
        self._rule = rule
        self._every_path = every_path
        self._connection = apsw.Connection(":memory:")
        self._connection.pragma("foreign_keys", "on")
        migrate(self._connection, read_migrations(), 0)
        self.now_ms = 1_800_000_000_000
        self.execute("INSERT INTO agents VALUES ('ann', '', 'active', 1)")
        self.execute(f"INSERT INTO wallets VALUES ('{WALLET}', '', 'ann', 'mint', 1)")
        self._left: dict[Place, int] = {}
        self.places = self.steps = 0

    def execute(self, sql: str, params: dict[str, object] = {}) -> list[Row]:  # noqa: B006
        return self._connection.execute(sql, params).fetchall()

    def walk(self, place: Place, length: int) -> None:
        if length <= self._left.get(place, -1) and not self._every_path:
            return
        self._left[place] = length
        self.places += 1
        if self.places % 20 == 0:
            assert audit(self) == []
        if length == 0:
            return
        for after, asked in steps(place, self._rule, self.steps):
            self.steps += 1
            self.execute("SAVEPOINT step")
            for verb, *arguments in asked:
                self._play(verb, arguments)
            self._hold_against(after)
            self.walk(after, length - 1)
            self.execute("ROLLBACK TO step")
            self.execute("RELEASE step")

    def _play(self, verb: str, arguments: list[str]) -> None:
        options = dict(each.split("=", 1) for each in arguments if "=" in each)
        plain = [self._named(each) for each in arguments if "=" not in each]
        money_table.step(self, verb, *plain, **options)

    def _named(self, word: str) -> str:
        """Charges have other names on each path, so that the store says which it is."""
        if word == "held":
            return str(self.execute("SELECT id FROM charges WHERE state = 'held'")[0][0])
        if not word.startswith("spent"):
            return word
        _, own, bonus = word.split()
        found = self.execute(
            "SELECT id FROM charges WHERE state = 'captured' AND topup = 0 AND captured_micros = :all"
            " AND captured_bonus_micros = :bonus",
            {"all": int(own) + int(bonus), "bonus": int(bonus)},
        )
        return str(found[0][0])

    def _hold_against(self, place: Place) -> None:
        accounts = {name: micros for name, micros in money_table.balances(self).items() if micros}
        assert accounts == place.accounts(), place
        told = self.execute("SELECT balance_micros FROM movements WHERE party = 'ann' ORDER BY number DESC LIMIT 1")
        assert (told or [(0,)])[0][0] == place.own + place.bonus + sum(place.hold or ()), place
        owed = -accounts.get("ann:debt", 0) - accounts.get("ann:bonus:debt", 0)
        own = accounts.get("ann:available", 0) + accounts.get("ann:held", 0)
        assert own <= place.paid - accounts.get("ann:debt", 0)
        assert accounts.get("revenue", 0) <= place.paid + place.matched + owed
        assert place.matched <= min(self._rule.most, self._rule.budget)
        assert not (accounts.get("ann:debt") and accounts.get("ann:available"))


@pytest.mark.parametrize(
    "rule", [Rule(most=9, budget=9, first=True), Rule(most=4, budget=9, first=False), Rule(9, budget=2, first=False)]
)
def test_f120_no_sequence_up_to_length_8_yields_money(rule: Rule) -> None:
    tree = Tree(rule)
    tree.walk(Place(), LENGTH)
    assert tree.places > 500, "it went nowhere"


@pytest.mark.full
def test_f120_no_path_is_taken_for_another() -> None:
    """Shorter, and with nothing left out: what a place was reached by makes no difference."""
    Tree(Rule(most=4, budget=9, first=False), every_path=True).walk(Place(), 6)


def test_the_model_is_told_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is withdrawn without a debt for the rest is found at once."""
    from gateway.core import deposit

    real: Callable[..., object] = deposit.transfers
    monkeypatch.setattr(deposit, "transfers", lambda *legs: real(*(leg for leg in legs if "debt" not in leg[1])))
    with pytest.raises(AssertionError):
        Tree(Rule(9, 9, first=True)).walk(Place(), 4)
