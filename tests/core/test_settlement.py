"""A settlement: every move there is and no other, and what the chain's accounts hold after each."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import IllegalMove
from gateway.core.settlement import TRANSITIONS, Event, Purpose, Settlement, State, advance
from gateway.core.transfer import LOSS, Kind, Transfer, chain_due, chain_treasury

NETWORK, TOKEN = "eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
ASSET = f"{NETWORK}/{TOKEN.lower()}"
DUE, TREASURY = chain_due(ASSET), chain_treasury(ASSET)

MOVES = """
queued sent       sent
sent   sent       sent
sent   retry      queued
queued proven     proven
sent   proven     proven
queued given_up   lost
sent   given_up   lost
proven taken_back queued
"""
LEGAL = {
    (State(state), Event(event)): State(target)
    for state, event, target in (line.split() for line in MOVES.strip().splitlines())
}

NEW = Settlement(
    id="stl_1", purpose=Purpose.CHARGE, subject="chg_1", identity="one", network=NETWORK, token=TOKEN,
    payer="0x" + "aa" * 20, pay_to="0x" + "bb" * 20, amount_atomic=100, amount_micros=100,
    valid_before_s=1, payment=b"",
)  # fmt: skip


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_move_is_in_the_table_or_refused(state: State, event: Event) -> None:
    before = replace(NEW, state=state, proven_micros=100 if state is State.PROVEN else 0)
    target = LEGAL.get((state, event))
    assert TRANSITIONS.get((state, event)) is target
    if target is None:
        with pytest.raises(IllegalMove):
            advance(before, event, 100 if event is Event.PROVEN else 0)
    else:
        assert advance(before, event, 100 if event is Event.PROVEN else 0)[0].state is target


def test_what_was_lost_stays_lost() -> None:
    assert not [move for move in TRANSITIONS if move[0] is State.LOST]


def test_what_came_short_is_loss() -> None:
    proven, moved = advance(NEW, Event.PROVEN, 70)
    assert proven.proven_micros == 70
    assert moved == (Transfer(Kind.PROVEN, TREASURY, DUE, 70), Transfer(Kind.SHORTFALL, LOSS, DUE, 30))


@pytest.mark.parametrize("amount", [-1, 101])
def test_more_than_was_asked_proves_nothing(amount: int) -> None:
    with pytest.raises(IllegalMove):
        advance(NEW, Event.PROVEN, amount)


def test_what_was_abandoned_is_never_sent_but_may_still_be_proven() -> None:
    """A stranger may submit it all the same: the money is ours then, and booked."""
    abandoned = replace(NEW, abandoned=True)
    with pytest.raises(IllegalMove, match="abandoned"):
        advance(abandoned, Event.SENT)
    assert advance(abandoned, Event.PROVEN, 100)[0].state is State.PROVEN


def test_its_asset_is_the_ledgers_word_whatever_the_tokens_spelling() -> None:
    assert replace(NEW, token=TOKEN.upper().replace("X", "x")).asset == NEW.asset == ASSET


@given(st.lists(st.tuples(st.sampled_from(Event), st.integers(0, 100)), max_size=10))
def test_wherever_it_goes_its_accounts_are_known_from_its_state(events: list[tuple[Event, int]]) -> None:
    """Reorganisations included: what was proven, taken back and proven again is counted once."""
    balances: Counter[str] = Counter()
    now = NEW
    for event, amount in events:
        try:
            now, moved = advance(now, event, amount)
        except IllegalMove:
            continue
        for transfer in moved:
            balances[transfer.debit] -= transfer.amount_micros
            balances[transfer.credit] += transfer.amount_micros
        came = {State.PROVEN: now.proven_micros, State.LOST: 0}.get(now.state)
        expected = {} if came is None else {DUE: 100, TREASURY: -came, LOSS: came - 100}
        assert {name: balance for name, balance in balances.items() if balance} == {
            name: balance for name, balance in expected.items() if balance
        }
