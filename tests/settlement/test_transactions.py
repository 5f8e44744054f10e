"""Transactions by hand against eth-account."""

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.networks import checksum_address
from gateway.settlement import transactions
from gateway.settlement.transactions import Key, Transaction

SECRET = b"\x17" * 32
KEY = Key(SECRET)


@given(
    nonce=st.integers(0, 2**40), tip=st.integers(0, 2**60), fee=st.integers(0, 2**70), gas=st.integers(21_000, 2**32),
    value=st.integers(0, 2**90), data=st.binary(max_size=600), chain_id=st.integers(1, 2**40),
)  # fmt: skip
def test_the_same_bytes_as_eth_account(
    nonce: int, tip: int, fee: int, gas: int, value: int, data: bytes, chain_id: int
) -> None:
    transaction = Transaction(chain_id, nonce, tip, tip + fee, gas, "0x" + "ab" * 20, data, value)
    signed = transactions.sign(transaction, KEY)
    theirs = Account.sign_transaction(
        {
            "type": 2, "chainId": chain_id, "nonce": nonce, "maxPriorityFeePerGas": tip, "maxFeePerGas": tip + fee,
            "gas": gas, "to": checksum_address(transaction.to), "data": data, "value": value,
        },
        SECRET,
    )  # fmt: skip
    assert signed.raw == bytes(theirs.raw_transaction)
    assert signed.hash == "0x" + bytes(theirs.hash).hex()
    assert transactions.read(signed.raw) == transaction


def test_the_address_is_the_keys() -> None:
    assert KEY.address == Account.from_key(SECRET).address
    assert SECRET.hex() not in repr(KEY)


def test_dearer_is_the_same_call() -> None:
    transaction = Transaction(1, 5, 10, 20, 30, "0x" + "ab" * 20, b"data")
    dearer = transaction.dearer(11, 25)
    assert (dearer.tip, dearer.max_fee) == (11, 25)
    assert dearer.dearer(10, 20) == transaction


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\x02\xc0", b"\x01\xc0", b"\x7f" * 100, b"\x02\xf8\x6f\x01"])
def test_what_is_no_transaction_of_ours_is_not_read(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"transaction|short|nothing"):
        transactions.read(raw)
