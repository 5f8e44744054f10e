"""F-001: who gets an answer again by repeating its call. The whole table."""

import itertools

import pytest

from gateway.core.charge import Charge, Source
from gateway.core.charge import State as ChargeState
from gateway.core.repeat import Repeat, Verdict, is_public, judge
from gateway.core.settlement import Purpose, Settlement
from gateway.core.settlement import State as SettlementState

ASSET = "eip155:8453/0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"
NAMES = ("same_payment", "same_request", "by_owner", "guessable", "public", "token_only", "topup")
ALL = [Repeat(**dict(zip(NAMES, values, strict=True))) for values in itertools.product((False, True), repeat=7)]


def answered(repeat: Repeat) -> bool:
    return judge(repeat) is Verdict.ANSWER


def test_nobody_gets_an_answer_without_the_very_payment_and_the_very_request() -> None:
    assert not any(answered(each) for each in ALL if not (each.same_payment and each.same_request))


def test_the_owner_gets_it_whatever_became_of_the_payment() -> None:
    assert all(answered(each) for each in ALL if each.by_owner and each.same_payment and each.same_request)


def test_whoever_is_not_the_owner_needs_a_secret_once_it_is_public() -> None:
    strangers = [
        each for each in ALL if each.same_payment and each.same_request and not each.by_owner and not each.topup
    ]
    assert {(each.guessable, each.public) for each in strangers if answered(each)} == {
        (False, False), (False, True), (True, False),
    }  # fmt: skip
    assert not any(answered(each) for each in strangers if each.token_only)


def test_f176_a_top_up_is_its_agents_alone_whatever_somebody_else_knows() -> None:
    others = [each for each in ALL if each.topup and not each.by_owner]
    assert {judge(each) for each in others} == {Verdict.OTHER}


def test_what_a_stranger_hears_does_not_depend_on_what_he_asks_for() -> None:
    """He has what the chain has: another payment by the same authorization, or the very one where nothing is secret."""
    for each in ALL:
        if each.by_owner or not (not each.same_payment or (each.guessable and each.public) or each.token_only):
            continue
        other = Repeat(**{name: getattr(each, name) for name in NAMES} | {"same_request": not each.same_request})
        assert judge(each) is judge(other) in (Verdict.OTHER, Verdict.TOKEN_ONLY)


def test_only_the_very_payment_with_another_request_is_a_guess() -> None:
    """Else a stranger could use up the guesses, and the payer's own repeat with them."""
    guesses = [each for each in ALL if judge(each) is Verdict.GUESS]
    assert guesses
    for each in guesses:
        assert each.same_payment
        assert not each.same_request
        assert not each.by_owner


def charge(state: ChargeState) -> Charge:
    return Charge("chg_1", "shop/find", "0xpayer", Source.SIGNATURE, 330_000, asset=ASSET, state=state)


def settlement(state: SettlementState) -> Settlement:
    return Settlement(
        "stl_1", Purpose.CHARGE, "chg_1", "identity", "eip155:8453", "0xtoken", "0xpayer", "0xpayee",
        330_000, 330_000, 1_763_900_000, b"{}", state=state,
    )  # fmt: skip


@pytest.mark.parametrize("state", [ChargeState.HELD, ChargeState.RELEASED])
def test_what_is_worked_on_or_was_let_go_was_never_sent(state: ChargeState) -> None:
    assert not is_public(charge(state), None, sent=False, journaled=False)


def test_what_is_queued_is_public_as_soon_as_it_may_have_left() -> None:
    """A transaction that is dead by now was seen all the same; and a facilitator sends when it likes."""
    queued = charge(ChargeState.CAPTURED), settlement(SettlementState.QUEUED)
    assert not is_public(*queued, sent=False, journaled=True)
    assert is_public(*queued, sent=True, journaled=True)
    assert is_public(*queued, sent=False, journaled=False)


@pytest.mark.parametrize("settled", [SettlementState.SENT, SettlementState.PROVEN, SettlementState.LOST])
def test_what_was_sent_is_public(settled: SettlementState) -> None:
    assert is_public(charge(ChargeState.CAPTURED), settlement(settled), sent=False, journaled=True)


@pytest.mark.parametrize("state", [ChargeState.SETTLED, ChargeState.UNPAID, ChargeState.REFUNDED])
@pytest.mark.parametrize("settled", list(SettlementState))
def test_what_was_settled_once_stays_public(state: ChargeState, settled: SettlementState) -> None:
    """After a reorganisation too, when its settlement is queued again."""
    assert is_public(charge(state), settlement(settled), sent=False, journaled=True)
