"""One table of errors: every code in it once, with a status that means what it says."""

from collections import Counter

import pytest

from gateway.core.errors import TABLE, Code, Problem, SettingsError

PAYMENT_STATUSES = {Code.PERMIT2_ALLOWANCE_REQUIRED: 412}


def test_every_code_has_its_row_and_is_its_own_name() -> None:
    assert set(TABLE) == set(Code)
    assert Counter(code.value for code in Code).most_common(1)[0][1] == 1
    assert all(code.value == code.name for code in Code)


@pytest.mark.parametrize("code", Code)
def test_a_row_has_a_status_a_number_for_mcp_and_an_exit_status(code: Code) -> None:
    row = TABLE[code]
    assert 400 <= row.status <= 599
    assert row.mcp == 402 or -32_800 < row.mcp <= -32_000
    assert (row.exit == 5) is (row.status >= 500)
    assert 1 < row.exit < 126


def test_what_asks_for_money_is_402_everywhere() -> None:
    money = {code for code, row in TABLE.items() if row.mcp == 402}
    assert {code: TABLE[code].status for code in money} == dict.fromkeys(money, 402) | PAYMENT_STATUSES
    assert {code for code, row in TABLE.items() if row.status == 402} <= money


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TABLE[Code.INTERNAL] = TABLE[Code.NOT_FOUND]  # type: ignore[index]


def test_a_problem_knows_its_status_and_keeps_its_details_to_itself() -> None:
    details = {"field": "phone"}
    problem = Problem(Code.INVALID_PHONE, "no phone", details=details)
    details["field"] = "changed"
    assert problem.status == 422
    assert problem.details == {"field": "phone"}
    assert str(problem) == "no phone"


def test_settings_report_every_mistake_at_once() -> None:
    assert str(SettingsError(("one", "two"))) == "one; two"
