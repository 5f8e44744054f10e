"""Digests by hand are those of the general encoders, and only one signature of a key is taken."""

import coincurve
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import keccak as eth_keccak
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.networks import EXACT_PERMIT2_PROXY, PERMIT2, UPTO_PERMIT2_PROXY
from gateway.core.x402.messages import Eip3009, Permit2
from gateway.core.x402.typed_data import eip3009_digest, permit2_digest, recover

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY = coincurve.PrivateKey(b"\x07" * 32)
ADDRESS = Account.from_key(KEY.secret).address.lower()
DIGEST = eth_keccak(b"what is signed")
SIGNED = KEY.sign_recoverable(DIGEST, hasher=None)

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
numbers = st.integers(0, 2**256 - 1)
chain_ids = st.integers(1, 2**32)


def fields(*pairs: str) -> list[dict[str, str]]:
    return [dict(zip(("type", "name"), pair.split(), strict=True)) for pair in pairs]


def encoded(domain: dict[str, object], primary: str, types: dict[str, object], message: dict[str, object]) -> bytes:
    known = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
    domain_type = [{"name": name, "type": known[name]} for name in domain]
    typed = {
        "types": {"EIP712Domain": domain_type, **types},
        "primaryType": primary,
        "domain": domain,
        "message": message,
    }
    signable = encode_typed_data(full_message=typed)
    return eth_keccak(b"\x19" + signable.version + signable.header + signable.body)


@given(
    st.builds(
        Eip3009, from_=addresses, to=addresses, value=numbers, valid_after=numbers, valid_before=numbers,
        nonce=st.binary(min_size=32, max_size=32),
    ),
    st.text(max_size=20), st.text(max_size=3), chain_ids, addresses,
)  # fmt: skip
def test_eip3009_hashes_as_eth_account_does(
    signed: Eip3009, name: str, version: str, chain_id: int, token: str
) -> None:
    transfer = fields(
        "address from", "address to", "uint256 value", "uint256 validAfter", "uint256 validBefore", "bytes32 nonce"
    )
    domain = {"name": name, "version": version, "chainId": chain_id, "verifyingContract": token}
    message = {
        "from": signed.from_, "to": signed.to, "value": signed.value, "validAfter": signed.valid_after,
        "validBefore": signed.valid_before, "nonce": signed.nonce,
    }  # fmt: skip
    theirs = encoded(domain, "TransferWithAuthorization", {"TransferWithAuthorization": transfer}, message)
    assert eip3009_digest(signed, name=name, version=version, chain_id=chain_id, token=token) == theirs


@given(
    st.builds(
        Permit2, token=addresses, from_=addresses, spender=st.sampled_from((EXACT_PERMIT2_PROXY, UPTO_PERMIT2_PROXY)),
        to=addresses, amount=numbers, nonce=numbers, deadline=numbers, valid_after=numbers,
        facilitator=st.none() | addresses,
    ),
    chain_ids,
)  # fmt: skip
def test_permit2_hashes_as_eth_account_does(signed: Permit2, chain_id: int) -> None:
    upto = signed.facilitator is not None
    types = {
        "PermitWitnessTransferFrom": fields(
            "TokenPermissions permitted", "address spender", "uint256 nonce", "uint256 deadline", "Witness witness"
        ),
        "TokenPermissions": fields("address token", "uint256 amount"),
        "Witness": fields("address to", *["address facilitator"] * upto, "uint256 validAfter"),
    }
    witness = {
        "to": signed.to,
        **({"facilitator": signed.facilitator} if upto else {}),
        "validAfter": signed.valid_after,
    }
    message = {
        "permitted": {"token": signed.token, "amount": signed.amount}, "spender": signed.spender,
        "nonce": signed.nonce, "deadline": signed.deadline, "witness": witness,
    }  # fmt: skip
    domain = {"name": "Permit2", "chainId": chain_id, "verifyingContract": PERMIT2}
    assert permit2_digest(signed, chain_id=chain_id) == encoded(domain, "PermitWitnessTransferFrom", types, message)


@given(st.binary(min_size=32, max_size=32).filter(lambda key: 0 < int.from_bytes(key, "big") < ORDER), numbers)
def test_whoever_signed_is_recovered(key: bytes, number: int) -> None:
    digest = number.to_bytes(32, "big")
    signature = coincurve.PrivateKey(key).sign_recoverable(digest, hasher=None)
    assert recover(digest, signature) == Account.from_key(key).address.lower()


def test_both_ways_to_write_v_are_read() -> None:
    assert recover(DIGEST, SIGNED) == ADDRESS
    assert recover(DIGEST, SIGNED[:64] + bytes([SIGNED[64] + 27])) == ADDRESS


def test_no_other_v_is_read() -> None:
    read = {v for v in range(256) if recover(DIGEST, SIGNED[:64] + bytes([v])) is not None}
    assert read == {0, 1, 27, 28}


def test_the_twin_of_a_signature_is_none() -> None:
    """(r, n - s) with the other v is by the same key, and a second name for one payment."""
    s = int.from_bytes(SIGNED[32:64], "big")
    twin = SIGNED[:32] + (ORDER - s).to_bytes(32, "big") + bytes([1 - SIGNED[64]])
    assert Account._recover_hash(DIGEST, signature=twin[:64] + bytes([twin[64] + 27])).lower() == ADDRESS
    assert recover(DIGEST, twin) is None


def test_the_lower_half_ends_in_the_middle() -> None:
    half = ORDER // 2
    assert recover(DIGEST, SIGNED[:32] + half.to_bytes(32, "big") + b"\0") is not None
    assert recover(DIGEST, SIGNED[:32] + (half + 1).to_bytes(32, "big") + b"\0") is None


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        SIGNED[:64],
        SIGNED + b"\0",
        bytes(65),
        bytes(32) + SIGNED[32:],
        SIGNED[:32] + bytes(32) + SIGNED[64:],
        ORDER.to_bytes(32, "big") + SIGNED[32:],
        b"\xff" * 65,
    ],
)
def test_what_is_no_signature_recovers_nobody(signature: bytes) -> None:
    assert recover(DIGEST, signature) is None


@given(st.binary(max_size=80))
def test_random_bytes_never_raise(signature: bytes) -> None:
    assert recover(DIGEST, signature) != ADDRESS


@given(st.integers(0, 519))
def test_one_flipped_bit_is_another_signer(bit: int) -> None:
    flipped = bytearray(SIGNED)
    flipped[bit // 8] ^= 1 << bit % 8
    assert recover(DIGEST, bytes(flipped)) != ADDRESS
