"""Whose own doing a Transfer is: what a receipt shows of it."""

from dataclasses import replace

import pytest

from gateway.settlement.calldata import TRANSFER_TOPIC, topic
from gateway.settlement.movers import BEFORE_EXECUTION_TOPIC, ENTRY_POINTS, USER_OPERATION_TOPIC, movers
from gateway.settlement.proof import Log, Receipt

TOKEN, WALLET, STRANGER, BUNDLER, PAY_TO = ("0x" + digit * 40 for digit in "12345")
ENTRY = min(ENTRY_POINTS)
TRANSFER = Log(TOKEN, (TRANSFER_TOPIC, topic(WALLET), topic(PAY_TO)), (1_234_567).to_bytes(32), 0)
BEFORE = Log(ENTRY, (BEFORE_EXECUTION_TOPIC,), b"", 0)


def ended(account: str, success: int = 1) -> Log:
    topics = (USER_OPERATION_TOPIC, "0x" + "ab" * 32, topic(account), topic("0x" + "0" * 40))
    return Log(ENTRY, topics, b"".join(number.to_bytes(32) for number in (7, success, 9, 9)), 0)


def told(sender: str, to: str, *logs: Log) -> frozenset[str]:
    placed = tuple(replace(log, index=index) for index, log in enumerate(logs or (TRANSFER,)))
    (transfer,) = [log for log in placed if log.address == TOKEN]
    return movers(Receipt("0xaa", 1, True, placed, sender=sender, to=to), transfer)


@pytest.mark.parametrize(
    ("sender", "to", "is_own"),
    [
        (WALLET, TOKEN, True),
        (WALLET, WALLET, True),
        (STRANGER, WALLET, True),
        (STRANGER, TOKEN, False),
        (STRANGER, STRANGER, False),
        (WALLET, STRANGER, False),
        (WALLET, ENTRY, False),
        (WALLET, "", False),
        (STRANGER, "", False),
    ],
)
def test_of_keys_and_contracts(sender: str, to: str, is_own: bool) -> None:
    assert (WALLET in told(sender, to)) is is_own


FALSE_ENTRY = replace(ended(WALLET), address=STRANGER)


@pytest.mark.parametrize(
    ("logs", "is_own"),
    [
        ((BEFORE, TRANSFER, ended(WALLET)), True),
        ((BEFORE, ended(STRANGER), TRANSFER, ended(WALLET)), True),
        ((BEFORE, TRANSFER, ended(STRANGER), ended(WALLET)), False),
        ((BEFORE, ended(WALLET), TRANSFER, ended(STRANGER)), False),
        ((BEFORE, ended(WALLET), TRANSFER), False),
        ((TRANSFER, BEFORE, ended(WALLET)), False),
        ((TRANSFER, ended(WALLET)), False),
        ((BEFORE, TRANSFER, ended(WALLET, success=0)), False),
        ((BEFORE, TRANSFER, FALSE_ENTRY, ended(STRANGER)), False),
        ((BEFORE, TRANSFER, FALSE_ENTRY), False),
        ((replace(BEFORE, address=STRANGER), TRANSFER, ended(WALLET)), False),
        ((BEFORE, TRANSFER, replace(ended(WALLET), topics=ended(WALLET).topics[:3])), False),
    ],
)
def test_of_operations(logs: tuple[Log, ...], is_own: bool) -> None:
    assert (WALLET in told(BUNDLER, ENTRY, *logs)) is is_own
    assert WALLET not in told(BUNDLER, STRANGER, *logs)


def test_the_entry_points_events_by_their_published_hashes() -> None:
    assert BEFORE_EXECUTION_TOPIC == "0xbb47ee3e183a558b1a2ff0874b079f3fc5478b7454eacf2bfc5af2ff5878f972"
    assert USER_OPERATION_TOPIC == "0x49628fd1471006c1482da88028e9ce4dbb080b815c9b0344d39e5a8e6ec1419f"
