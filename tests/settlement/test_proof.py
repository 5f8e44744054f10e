"""Which log proves what, in receipts as they come."""

from typing import Any

import pytest

from gateway.core.x402.messages import Eip3009, Payment, Permit2
from gateway.settlement.calldata import AUTHORIZATION_USED_TOPIC, TRANSFER_TOPIC, topic
from gateway.settlement.proof import Log, Receipt, receipt, transfer_of
from gateway.settlement.rpc import RpcUnavailable

TOKEN, OTHER, PAYER, US, NEIGHBOUR = ("0x" + digit * 40 for digit in "abcde")
NONCE = b"\x07" * 32


def transfer(value: int, *, payer: str = PAYER, to: str = US, token: str = TOKEN) -> tuple[str, tuple[str, ...], int]:
    return token, (TRANSFER_TOPIC, topic(payer), topic(to)), value


def used(nonce: bytes = NONCE, *, payer: str = PAYER, token: str = TOKEN) -> tuple[str, tuple[str, ...], int]:
    return token, (AUTHORIZATION_USED_TOPIC, topic(payer), "0x" + nonce.hex()), 0


def proof(by: str, *logs: tuple[str, tuple[str, ...], int], succeeded: bool = True) -> tuple[int, int] | None:
    """(place among the logs, what came) or None."""
    signed: Eip3009 | Permit2 = Eip3009(PAYER, US, 100, 0, 9, NONCE)
    if by == "permit2":
        signed = Permit2(TOKEN, PAYER, OTHER, US, 100, 1, 9, 0, None)
    payment = Payment(None, signed, b"", None, None, b"{}")
    found = transfer_of(
        Receipt(
            "0x1", 1, succeeded,
            tuple(
                Log(token, topics, value.to_bytes(32, "big"), place)
                for place, (token, topics, value) in enumerate(logs)
            ),
        ),
        payment, token=TOKEN, payer=PAYER, pay_to=US, amount=100,
    )  # fmt: skip
    return None if found is None else (found.index, found.value)


OTHERS = b"\x08" * 32


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ([used(), transfer(100)], (1, 100)),
        ([transfer(100), used()], (0, 100)),  # a token that says it the other way round
        ([used()], None),  # used, and nothing came
        ([transfer(100)], None),  # a transfer that no authorization made
        ([used(token=OTHER), transfer(100, token=OTHER)], None),
        ([used(), transfer(100, token=OTHER)], None),
        ([used(), transfer(100, to=NEIGHBOUR)], None),
        ([used(), transfer(100, payer=NEIGHBOUR)], None),
        ([used(payer=NEIGHBOUR), transfer(100)], None),
        ([used(), transfer(99), transfer(1, to=OTHER)], (1, 99)),  # a fee on the way
        ([used(), transfer(1, to=OTHER), transfer(99)], (2, 99)),
        # Two of one payer in one transaction: each has its own.
        ([used(OTHERS), transfer(100), used(), transfer(100)], (3, 100)),
        ([used(), transfer(100), used(OTHERS), transfer(100)], (1, 100)),
        ([used(), used(OTHERS), transfer(100)], None),
        ([transfer(100), used(OTHERS), transfer(100), used()], (2, 100)),
        ([transfer(100), used(), transfer(100), used(OTHERS)], (0, 100)),
        ([transfer(100), used(OTHERS), transfer(100)], None),
        ([transfer(100), used(), transfer(100, payer=NEIGHBOUR)], None),  # before it was something else
        ([used(), used(), transfer(100)], None),  # no token says it twice
    ],
)
def test_by_eip3009(logs: list[Any], expected: tuple[int, int] | None) -> None:
    assert proof("eip3009", *logs) == expected
    assert proof("eip3009", *logs, succeeded=False) is None


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ([transfer(100)], (0, 100)),
        ([transfer(100, token=OTHER)], None),
        ([transfer(100, to=NEIGHBOUR)], None),
        ([transfer(100, payer=NEIGHBOUR)], None),
        ([transfer(50), transfer(100)], (1, 100)),
        ([transfer(99)], (0, 99)),
        ([transfer(99), transfer(98)], None),
        ([transfer(101)], None),
        ([used(OTHERS), transfer(100)], None),  # that one paid an authorization
        ([used(OTHERS), transfer(100), transfer(100)], (2, 100)),
        ([used(payer=NEIGHBOUR), transfer(100, payer=NEIGHBOUR), transfer(100)], (2, 100)),
    ],
)
def test_by_permit2(logs: list[Any], expected: tuple[int, int] | None) -> None:
    assert proof("permit2", *logs) == expected
    assert proof("permit2", *logs, succeeded=False) is None


GOOD: dict[str, Any] = {
    "transactionHash": "0xAA", "blockNumber": "0x5", "status": "0x1",
    "logs": [{"address": "0xAB", "topics": ["0xCD"], "data": "0x01", "logIndex": "0x2"}],
}  # fmt: skip


def test_a_receipt_is_read_in_lower_case() -> None:
    found = receipt(GOOD, "0xaa")
    assert found == Receipt("0xaa", 5, True, (Log("0xab", ("0xcd",), b"\1", 2),))
    assert receipt(None, "0xaa") is None


@pytest.mark.parametrize(
    "broken",
    [
        {**GOOD, "transactionHash": "0xBB"}, 7, [], {},
        {**GOOD, "logs": None}, {**GOOD, "logs": [None]}, {**GOOD, "status": None},
        {**GOOD, "blockNumber": "five"}, {**GOOD, "blockNumber": None}, {**GOOD, "transactionHash": 1},
        {**GOOD, "logs": [{"address": "0x1", "topics": "0x2", "data": "0x", "logIndex": "0x0"}]},
        {**GOOD, "logs": [{"address": "0x1", "topics": [], "data": "zz", "logIndex": "0x0"}]},
    ],
)  # fmt: skip
def test_a_broken_receipt_is_no_answer(broken: Any) -> None:
    with pytest.raises(RpcUnavailable):
        receipt(broken, "0xaa")
