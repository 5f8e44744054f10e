"""A challenge is its id, and nobody else can make one; a transfer fits one challenge alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import wallet_recovery as core
from gateway.core.wallet_recovery import Challenge

KEY = core.seal_key(b"k" * 32)
WALLET = "0x" + "a1" * 20
MADE = Challenge(WALLET, 8453, 41_000_000, 1_800_000_000, 1_004_217, b"saltsalt")


@given(
    st.binary(min_size=20, max_size=20),
    st.integers(1, 2**53),
    st.integers(0, 2**63),
    st.integers(0, 2**39),
    st.integers(1, 10**15),
    st.binary(min_size=8, max_size=8),
)
def test_it_is_read_as_it_was_made(
    address: bytes, chain_id: int, block: int, issued_s: int, amount: int, salt: bytes
) -> None:
    made = Challenge("0x" + address.hex(), chain_id, block, issued_s, amount, salt)
    assert core.read(core.recovery_id(made, KEY), KEY) == made


def test_nobody_makes_one_up() -> None:
    id = core.recovery_id(MADE, KEY)
    assert core.read(id, core.seal_key(b"l" * 32)) is None
    for place in range(4, len(id)):
        other = "0" if id[place] != "0" else "1"
        assert core.read(id[:place] + other + id[place + 1 :], KEY) is None
    for odd in ("", "rec_", id[:-1], id + "0", id.upper(), id[4:], f" {id}", id + "\n", "rec_" + "é" * 144):
        assert core.read(odd, KEY) is None


def test_an_hour() -> None:
    for second, over in ((-61, True), (-60, False), (0, False), (3599, False), (3600, True)):
        assert MADE.is_over(MADE.issued_s + second) is over


@given(st.binary(min_size=8, max_size=8), st.integers(0, 10**9))
def test_an_amount_is_never_round(entropy: bytes, least: int) -> None:
    odd = core.amount_micros(least, entropy) - max(least, 1_000_000)
    assert 1 <= odd <= core.ODD_MICROS


def test_amounts_differ() -> None:
    amounts = {core.amount_micros(0, number.to_bytes(8)) for number in range(20_000)}
    assert len(amounts) == core.ODD_MICROS


FITS = {
    "sender": WALLET, "network": "eip155:8453", "block": MADE.block + 1, "amount_micros": MADE.amount_micros,
    "by_transfer": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({}, None),
        ({"block": MADE.block}, "block"),
        ({"block": None}, "block"),
        ({"amount_micros": MADE.amount_micros + 1}, "amount"),
        ({"amount_micros": MADE.amount_micros - 1}, "amount"),
        ({"sender": "0x" + "b2" * 20}, "sender"),
        ({"network": "eip155:1"}, "chain"),
        ({"by_transfer": False}, "chain"),
    ],
)
def test_the_very_transfer(change: dict[str, object], difference: str | None) -> None:
    assert core.differs(MADE, **{**FITS, **change}) == difference  # type: ignore[arg-type]
    assert core.differs(replace(MADE, block=MADE.block + 5), **FITS) == "block"  # type: ignore[arg-type]
