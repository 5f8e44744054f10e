"""The sign-in message: its grammar by another parser, its nonce's seal, and that nothing else is taken for it."""

from dataclasses import replace

import pytest
from eth_account.messages import _hash_eip191_message, encode_defunct
from hypothesis import given
from hypothesis import strategies as st
from siwe import SiweMessage

from gateway.core import siwe
from gateway.core.networks import checksum_address
from gateway.core.siwe import Invitation, Purpose, Site

KEY = b"k" * siwe.KEY_BYTES
SITE = Site("api.example.com", "https://api.example.com")
ADDRESS = "0x" + "ab" * 20

invitations = st.builds(
    Invitation,
    st.sampled_from(Purpose),
    st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
    st.integers(1, siwe.CHAIN_ID_MAX),
    st.integers(1_700_000_000, 4_000_000_000),
    st.integers(0, 10**15),
    st.binary(min_size=siwe.SALT_BYTES, max_size=siwe.SALT_BYTES),
)


@given(invitations)
def test_a_nonce_says_what_was_put_into_it(invitation: Invitation) -> None:
    nonce = siwe.nonce(invitation, KEY)
    assert nonce.isalnum()
    assert nonce.isascii()
    assert siwe.read(nonce, KEY, invitation.purpose, invitation.address) == invitation
    other = Purpose.LINK if invitation.purpose is Purpose.REGISTER else Purpose.REGISTER
    assert siwe.read(nonce, KEY, other, invitation.address) is None
    assert siwe.read(nonce, KEY, invitation.purpose, "0x" + "cd" * 20) is None
    assert siwe.read(nonce, KEY, invitation.purpose, invitation.address, "agt_1") is None
    assert siwe.read(nonce, b"j" * 32, invitation.purpose, invitation.address) is None


@given(invitations, st.integers(0, 79), st.sampled_from("0123456789abcdefABCDEFgz \n\u0661"))
def test_no_other_nonce_is_taken_for_it(invitation: Invitation, place: int, digit: str) -> None:
    nonce = siwe.nonce(invitation, KEY)
    altered = nonce[:place] + digit + nonce[place + 1 :]
    read = siwe.read(altered, KEY, invitation.purpose, invitation.address)
    assert read == (invitation if altered == nonce else None)
    for text in (nonce + "\n", nonce + "00", nonce[:-2], "", "0x" + nonce[2:]):
        assert siwe.read(text, KEY, invitation.purpose, invitation.address) is None


@given(invitations)
def test_f126_another_parser_reads_the_message_as_it_was_meant(invitation: Invitation) -> None:
    nonce = siwe.nonce(invitation, KEY)
    text = siwe.message(invitation, nonce, SITE)
    read = SiweMessage.from_message(text)
    assert (read.domain, read.address, read.chain_id, read.nonce, read.version) == (
        SITE.domain, checksum_address(invitation.address), invitation.chain_id, nonce, "1",
    )  # fmt: skip
    assert read.prepare_message() == text
    assert siwe.difference(text, text) is None


@given(invitations, st.data())
def test_f126_any_other_text_differs(invitation: Invitation, data: st.DataObject) -> None:
    text = siwe.message(invitation, siwe.nonce(invitation, KEY), SITE)
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 3))
    put = data.draw(st.text(max_size=3) | st.sampled_from(["\nNonce: 12345678", "\r", "\n", "\u200b", "\u0430"]))
    altered = text[:at] + put + text[at + cut :]
    assert (siwe.difference(text, altered) is None) == (altered == text)


def test_an_allowance_is_spoken_of_where_there_is_one() -> None:
    plain = Invitation(Purpose.REGISTER, ADDRESS, 8453, 1_800_000_000, 0, b"salt")
    assert siwe.allowance_message(plain, "n", SITE) is None
    text = siwe.allowance_message(replace(plain, allowance_micros=10_000_000), "n", SITE)
    assert text == (
        f"I intend to spend at most 10.000 USD at api.example.com from {checksum_address(ADDRESS)}. "
        "This is a stated limit, not a transfer approval. Nonce: n"
    )


@pytest.mark.parametrize("text", ["", "a", "ä\u20ac\U0001f600", "x" * 1000])
def test_the_digest_is_what_wallets_sign(text: str) -> None:
    assert siwe.digest(text) == bytes(_hash_eip191_message(encode_defunct(text=text)))
