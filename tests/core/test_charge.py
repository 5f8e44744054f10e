"""A charge: every move there is and no other, and where its money stands after each."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.charge import (
    FREES_PAYMENT,
    TRANSITIONS,
    Charge,
    Disclosure,
    Event,
    Source,
    State,
    advance,
    disclosure,
    hold,
)
from gateway.core.errors import IllegalMove
from gateway.core.transfer import REVENUE, Kind, Part, Transfer, account, chain_due

ASSET = "eip155:8453/0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"
DUE = chain_due(ASSET)

# The diagram at the head of charge.py, once more and by hand: a move that is added or lost shows here. The last column
# is whose move it is (nothing leads a charge from balance to settled, so who refunds there need not be asked).
MOVES = """
held     matched      captured    both
held     matched_free released    both
held     missed       released    both
held     failed       released    both
held     expired      released    both
captured paid         settled     signature
captured given_up     unpaid      signature
captured refund       refunded    balance
captured refund_part  captured    balance
settled  refund       refunded    both
settled  refund_part  settled     both
"""
LEGAL = {
    (State(state), Event(event)): (State(target), who)
    for state, event, target, who in (line.split() for line in MOVES.strip().splitlines())
}
AMOUNTS = {Event.MATCHED: 60, Event.REFUND: 60, Event.REFUND_PART: 20}


def charge(source: Source, /, **changes: object) -> Charge:
    asset = ASSET if source is Source.SIGNATURE else None
    return replace(Charge("chg_1", "enrich/phone", "ann", source, 100, asset=asset), **changes)  # type: ignore[arg-type]


def in_state(state: State, source: Source) -> Charge:
    captured = 0 if state in (State.HELD, State.RELEASED) else 60
    refunded = 60 if state is State.REFUNDED else 0
    return charge(source, state=state, captured_micros=captured, refunded_micros=refunded)


def test_the_table_is_the_diagram() -> None:
    assert {move: target for move, (target, _) in LEGAL.items()} == TRANSITIONS


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_move_is_in_the_table_or_refused(state: State, event: Event, source: Source) -> None:
    before = in_state(state, source)
    target, who = LEGAL.get((state, event), (None, ""))
    legal = who in ("both", source.value)
    if legal:
        after, _ = advance(before, event, AMOUNTS.get(event, 0))
        assert after.state is target
    else:
        with pytest.raises(IllegalMove):
            advance(before, event, AMOUNTS.get(event, 0))


def test_money_moves_only_forward() -> None:
    """No event leads back to a state that was left."""
    reachable = {(state, target) for (state, _), target in TRANSITIONS.items() if state is not target}
    while True:
        further = reachable | {(a, d) for a, b in reachable for c, d in reachable if b is c}
        if further == reachable:
            break
        reachable = further
    assert not any((b, a) in reachable for a, b in reachable)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"asset": ASSET}, "from balance with an asset"),
        ({"source": Source.SIGNATURE}, "by signature without one"),
        ({"source": Source.SIGNATURE, "asset": ASSET, "held_bonus_micros": 1}, "by signature from bonus"),
        ({"held_bonus_micros": 101}, "more bonus than held"),
        ({"held_bonus_micros": -1}, "less than no bonus"),
        ({"held_micros": 0}, "nothing held"),
    ],
)
def test_a_charge_that_cannot_be_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError):
        charge(Source.BALANCE, **changes)


@pytest.mark.parametrize(
    ("event", "amount"),
    [
        (Event.MATCHED, 101),
        (Event.MATCHED, -1),
        (Event.MISSED, 1),
        (Event.FAILED, 1),
        (Event.EXPIRED, 1),
        (Event.MATCHED_FREE, 1),
    ],
)
def test_an_amount_that_does_not_fit_is_no_move(event: Event, amount: int) -> None:
    with pytest.raises(IllegalMove):
        advance(charge(Source.BALANCE), event, amount)


@pytest.mark.parametrize("amount", [0, -1, 41])
def test_no_more_is_refunded_than_was_captured_and_left(amount: int) -> None:
    after, _ = advance(charge(Source.BALANCE), Event.MATCHED, 60)
    after, _ = advance(after, Event.REFUND, 20)
    with pytest.raises(IllegalMove):
        advance(after, Event.REFUND, amount)


def test_only_a_new_charge_is_held() -> None:
    with pytest.raises(IllegalMove):
        hold(in_state(State.CAPTURED, Source.BALANCE))


def test_a_refund_of_all_that_is_left_is_a_full_one_whatever_it_was_called() -> None:
    after, _ = advance(charge(Source.BALANCE), Event.MATCHED, 60)
    after, _ = advance(after, Event.REFUND, 20)
    assert after.state is State.CAPTURED
    after, _ = advance(after, Event.REFUND_PART, 40)
    assert (after.state, after.refunded_micros) == (State.REFUNDED, 60)


def test_own_money_is_spent_first_and_given_back_last() -> None:
    """70 own and 30 bonus held, 80 captured: 70 own, 10 bonus. A refund of 25 gives 10 bonus, then 15 own."""
    held = charge(Source.BALANCE, held_bonus_micros=30)
    assert hold(held) == (
        Transfer(Kind.HOLD, "ann:available", "ann:held", 70),
        Transfer(Kind.HOLD, "ann:bonus", "ann:bonus_held", 30),
    )
    captured, moved = advance(held, Event.MATCHED, 80)
    assert moved == (
        Transfer(Kind.CAPTURE, "ann:held", REVENUE, 70),
        Transfer(Kind.CAPTURE, "ann:bonus_held", REVENUE, 10),
        Transfer(Kind.RELEASE, "ann:bonus_held", "ann:bonus", 20),
    )
    _, moved = advance(captured, Event.REFUND, 25)
    assert moved == (
        Transfer(Kind.REFUND, REVENUE, "ann:bonus", 10),
        Transfer(Kind.REFUND, REVENUE, "ann:available", 15),
    )


def test_a_signed_charge_touches_no_balance_until_it_is_refunded() -> None:
    held = charge(Source.SIGNATURE, party="0xabc")
    assert hold(held) == (Transfer(Kind.HOLD, DUE, "0xabc:authorized", 100),)
    captured, moved = advance(held, Event.MATCHED, 60)
    assert moved == (
        Transfer(Kind.CAPTURE, "0xabc:authorized", REVENUE, 60),
        Transfer(Kind.RELEASE, "0xabc:authorized", DUE, 40),
    )
    settled, moved = advance(captured, Event.PAID)
    assert moved == ()
    _, moved = advance(settled, Event.REFUND, 60)
    assert moved == (Transfer(Kind.REFUND, REVENUE, "0xabc:available", 60),)


@pytest.mark.parametrize(
    ("state", "source", "abandoned", "reason", "told"),
    [
        (State.HELD, Source.BALANCE, False, None, Disclosure.WORKING),
        (State.HELD, Source.SIGNATURE, False, None, Disclosure.WORKING),
        (State.CAPTURED, Source.BALANCE, False, None, Disclosure.RESULT),
        (State.CAPTURED, Source.SIGNATURE, False, None, Disclosure.SETTLING),
        (State.CAPTURED, Source.SIGNATURE, True, None, Disclosure.WITHHELD),
        (State.UNPAID, Source.SIGNATURE, False, None, Disclosure.WITHHELD),
        (State.SETTLED, Source.SIGNATURE, False, None, Disclosure.RESULT),
        (State.SETTLED, Source.SIGNATURE, True, None, Disclosure.RESULT),
        (State.REFUNDED, Source.BALANCE, False, None, Disclosure.RESULT),
        (State.RELEASED, Source.BALANCE, False, Event.MISSED, Disclosure.RESULT),
        (State.RELEASED, Source.SIGNATURE, False, Event.MATCHED_FREE, Disclosure.RESULT),
        (State.RELEASED, Source.BALANCE, False, Event.FAILED, Disclosure.NOTHING),
        (State.RELEASED, Source.SIGNATURE, False, Event.EXPIRED, Disclosure.NOTHING),
    ],
)
def test_no_result_leaves_before_it_is_paid_for(
    state: State, source: Source, abandoned: bool, reason: Event | None, told: Disclosure
) -> None:
    assert disclosure(replace(in_state(state, source), reason=reason), abandoned=abandoned) is told


def test_only_work_that_gave_nothing_frees_its_payment() -> None:
    assert {Event.FAILED, Event.EXPIRED} == FREES_PAYMENT


@st.composite
def new_charges(draw: st.DrawFn) -> Charge:
    source = draw(st.sampled_from(Source))
    held = draw(st.integers(1, 1000))
    bonus = draw(st.integers(0, held)) if source is Source.BALANCE else 0
    return charge(source, held_micros=held, held_bonus_micros=bonus)


@given(new_charges(), st.lists(st.tuples(st.sampled_from(Event), st.integers(0, 1000)), max_size=8))
def test_wherever_it_goes_its_accounts_are_known_from_its_state(held: Charge, events: list[tuple[Event, int]]) -> None:
    """Random events, most of them illegal: after each, every account follows from the charge alone."""
    balances: Counter[str] = Counter()
    book(balances, hold(held))
    now = held
    for event, amount in events:
        try:
            now, moved = advance(now, event, amount)
        except IllegalMove:
            continue
        book(balances, moved)
        assert {name: balance for name, balance in balances.items() if balance} == expected(now)


def book(balances: Counter[str], moved: tuple[Transfer, ...]) -> None:
    for transfer in moved:
        balances[transfer.debit] -= transfer.amount_micros
        balances[transfer.credit] += transfer.amount_micros


def expected(now: Charge) -> dict[str, int]:
    """What the accounts hold by the words of the contract, not by the code's steps."""
    kept = now.captured_micros - now.refunded_micros
    spent_bonus = max(now.captured_micros - (now.held_micros - now.held_bonus_micros), 0)
    bonus_back = min(spent_bonus, now.refunded_micros)
    open_ = now.state is State.HELD
    accounts = {REVENUE: kept}
    if now.source is Source.SIGNATURE:
        accounts[account("ann", Part.AUTHORIZED)] = now.held_micros if open_ else 0
        accounts[account("ann", Part.AVAILABLE)] = now.refunded_micros
        accounts[DUE] = -now.held_micros if open_ else -now.captured_micros
    else:
        own, bonus = now.held_micros - now.held_bonus_micros, now.held_bonus_micros
        accounts[account("ann", Part.HELD)] = own if open_ else 0
        accounts[account("ann", Part.BONUS_HELD)] = bonus if open_ else 0
        gone_bonus = spent_bonus - bonus_back
        accounts[account("ann", Part.BONUS)] = -bonus if open_ else -gone_bonus
        accounts[account("ann", Part.AVAILABLE)] = -own if open_ else -(kept - gone_bonus)
    return {name: balance for name, balance in accounts.items() if balance}
