import pytest

from gateway.core.grant import Policy, Withheld, withheld

POLICY = Policy(200, 1000, 100, once_per_dollar=True)


@pytest.mark.parametrize(
    ("policy", "given", "holds", "shared", "why_not"),
    [
        (POLICY, 0, 100, 0, None),
        (POLICY, 800, 100, 0, None),
        (POLICY, 801, 100, 0, Withheld.BUDGET),
        (POLICY, 801, 100, None, Withheld.BUDGET),
        (POLICY, 0, 100, None, Withheld.UNKNOWN),
        (POLICY, 0, 100, 1, Withheld.SHARED),
        (POLICY, 0, 101, 1, None),
        (POLICY, 0, 100, 500, Withheld.SHARED),
        (Policy(0, 1000, 100, once_per_dollar=True), 0, 100, 0, Withheld.OFF),
        (Policy(200, 199, 100, once_per_dollar=False), 0, 100, 0, Withheld.BUDGET),
        (Policy(200, 1000, 100, once_per_dollar=False), 0, 100, None, None),
        (Policy(200, 1000, 0, once_per_dollar=True), 0, 0, 0, None),
    ],
)
def test_f109_who_is_given_something(
    policy: Policy, given: int, holds: int, shared: int | None, why_not: Withheld | None
) -> None:
    assert withheld(policy, given_micros=given, holds_micros=holds, shared_micros=shared) is why_not


@pytest.mark.parametrize(
    ("holds", "shared", "unseen", "why_not"),
    [
        (150, 0, 50, None),
        (150, 0, 51, Withheld.UNKNOWN),
        (150, 20, 31, Withheld.UNKNOWN),
        (150, 20, 30, None),
        (150, 51, 500, Withheld.SHARED),
    ],
)
def test_f109_what_nobody_has_looked_at(holds: int, shared: int, unseen: int, why_not: Withheld | None) -> None:
    told = withheld(POLICY, given_micros=0, holds_micros=holds, shared_micros=shared, unseen_micros=unseen)
    assert told is why_not
