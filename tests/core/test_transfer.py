"""Transfers: two legs of one amount above zero, and a chart of accounts that says who may run below it."""

import pytest

from gateway.core.transfer import (
    GRANTS,
    LOSS,
    OPERATOR,
    REVENUE,
    Kind,
    Part,
    Transfer,
    account,
    chain_due,
    chain_treasury,
    may_be_negative,
    transfers,
)

ASSET = "eip155:8453/0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"


@pytest.mark.parametrize(("debit", "credit", "amount"), [("a", "b", 0), ("a", "b", -1), ("a", "a", 1)])
def test_nothing_moves_by_a_transfer_of_nothing(debit: str, credit: str, amount: int) -> None:
    with pytest.raises(ValueError, match="no transfer"):
        Transfer(Kind.HOLD, debit, credit, amount)


def test_legs_of_zero_are_left_out_and_the_others_keep_their_order() -> None:
    assert transfers((Kind.HOLD, "a", "b", 3), (Kind.HOLD, "c", "d", 0), (Kind.RELEASE, "e", "f", 1)) == (
        Transfer(Kind.HOLD, "a", "b", 3),
        Transfer(Kind.RELEASE, "e", "f", 1),
    )
    assert transfers() == ()


def test_a_negative_leg_is_a_mistake_and_not_left_out() -> None:
    with pytest.raises(ValueError, match="no transfer"):
        transfers((Kind.HOLD, "a", "b", -3))


@pytest.mark.parametrize(
    "name", [chain_due(ASSET), chain_treasury(ASSET), LOSS, GRANTS, OPERATOR, "agt_1:debt", "agt_1:bonus:debt"]
)
def test_assets_and_given_money_may_run_below_zero(name: str) -> None:
    assert may_be_negative(name)


OWED = (Part.DEBT, Part.BONUS_DEBT)


@pytest.mark.parametrize("name", [REVENUE, *(account("agt_1", part) for part in Part if part not in OWED)])
def test_what_we_owe_never_does(name: str) -> None:
    assert not may_be_negative(name)
