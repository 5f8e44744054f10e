"""A private key shows its address, signs what its address is recovered from, and never shows itself."""

import pytest
from eth_account import Account

from gateway.core.keys import Key
from gateway.core.x402.typed_data import recover

SECRET = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"


def test_the_address_is_the_one_every_wallet_shows() -> None:
    for number in (1, 2, 0xDEADBEEF, 2**255 + 7):
        secret = number.to_bytes(32, "big")
        assert Key(secret).address == Account.from_key(secret).address


def test_what_it_signs_is_its_own_and_equal_to_eth_accounts() -> None:
    key, digest = Key.from_hex(SECRET), bytes(range(32))
    signature = key.sign(digest)
    assert recover(digest, signature) == key.address.lower()
    assert signature == bytes(Account.from_key(SECRET).unsafe_sign_hash(digest).signature)


@pytest.mark.parametrize("text", [SECRET, "0x" + SECRET, f" 0x{SECRET.upper().replace('0X', '0x')}\n"])
def test_spellings_of_a_key(text: str) -> None:
    assert Key.from_hex(text).address == Key.from_hex(SECRET).address


@pytest.mark.parametrize("text", ["", "hello", SECRET[:-2], SECRET + "00", "0" * 64, "f" * 64])
def test_what_is_no_key_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits") as caught:
        Key.from_hex(text)
    assert not text or text not in str(caught.value)


def test_whoever_prints_a_key_sees_its_address() -> None:
    key = Key.from_hex(SECRET)
    assert repr(key) == f"Key({key.address})"
    assert not hasattr(key, "__dict__")
