"""EIP-712 by hand: what a payer signs, hashed, and who signed it.

    digest    = keccak(0x1901 ++ domain separator ++ keccak(type hash ++ members))
    a member  = 32 bytes: a number big-endian, an address padded in front, a nested struct as its own hash

The general encoders take JSON types apart for every signature and need forty times as long. Here are exactly the four
structs we take, as constants, and domain separators are kept: they depend on the token and the chain alone.
Clients sign the same digests; nothing here holds a key.
"""

from functools import lru_cache

import coincurve

from gateway.core.networks import PERMIT2, keccak
from gateway.core.x402.messages import Eip2612, Eip3009, Permit2

# Half the order of secp256k1: of the two signatures (r, s) and (r, n - s) only the one with the smaller s is taken.
_LOW_S_MAX = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_RECOVERY_ID = {0: b"\0", 1: b"\1", 27: b"\0", 28: b"\1"}
ECDSA_BYTES = 65

_DOMAIN = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_DOMAIN_UNVERSIONED = keccak(b"EIP712Domain(string name,uint256 chainId,address verifyingContract)")
_TRANSFER = keccak(
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,"
    b"bytes32 nonce)"
)
_PERMIT = keccak(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
_PERMIT_TYPE = (
    b"PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,"
    b"Witness witness)"
)
_TOKEN_PERMISSIONS_TYPE = b"TokenPermissions(address token,uint256 amount)"
_EXACT_WITNESS_TYPE = b"Witness(address to,uint256 validAfter)"
_UPTO_WITNESS_TYPE = b"Witness(address to,address facilitator,uint256 validAfter)"
_TOKEN_PERMISSIONS = keccak(_TOKEN_PERMISSIONS_TYPE)
_EXACT_WITNESS = keccak(_EXACT_WITNESS_TYPE)
_UPTO_WITNESS = keccak(_UPTO_WITNESS_TYPE)
_EXACT_PERMIT = keccak(_PERMIT_TYPE + _TOKEN_PERMISSIONS_TYPE + _EXACT_WITNESS_TYPE)
_UPTO_PERMIT = keccak(_PERMIT_TYPE + _TOKEN_PERMISSIONS_TYPE + _UPTO_WITNESS_TYPE)


@lru_cache(maxsize=256)
def domain_separator(name: str, version: str | None, chain_id: int, contract: str) -> bytes:
    """Binds a signature to one contract on one chain. `version` is None for Permit2, whose domain has none."""
    versioned = b"" if version is None else keccak(version.encode())
    kind = _DOMAIN_UNVERSIONED if version is None else _DOMAIN
    return keccak(kind + keccak(name.encode()) + versioned + _uint(chain_id) + _address(contract))


def eip3009_digest(signed: Eip3009, *, name: str, version: str, chain_id: int, token: str) -> bytes:
    """What the payer of a TransferWithAuthorization signs; `name` and `version` are the token's own."""
    return _digest(
        domain_separator(name, version, chain_id, token),
        _TRANSFER
        + _address(signed.from_)
        + _address(signed.to)
        + _uint(signed.value)
        + _uint(signed.valid_after)
        + _uint(signed.valid_before)
        + signed.nonce,
    )


def eip2612_digest(signed: Eip2612, *, name: str, version: str, chain_id: int, token: str) -> bytes:
    """What the owner of a Permit signs; `name` and `version` are the token's own."""
    return _digest(
        domain_separator(name, version, chain_id, token),
        _PERMIT
        + _address(signed.owner)
        + _address(signed.spender)
        + _uint(signed.value)
        + _uint(signed.nonce)
        + _uint(signed.deadline),
    )


def permit2_digest(signed: Permit2, *, chain_id: int) -> bytes:
    """What the payer of a PermitWitnessTransferFrom signs: `upto` where the witness names a facilitator."""
    permit = _EXACT_PERMIT if signed.facilitator is None else _UPTO_PERMIT
    return _digest(
        domain_separator("Permit2", None, chain_id, PERMIT2),
        permit
        + keccak(_TOKEN_PERMISSIONS + _address(signed.token) + _uint(signed.amount))
        + _address(signed.spender)
        + _uint(signed.nonce)
        + _uint(signed.deadline)
        + witness_hash(signed),
    )


def witness_hash(signed: Permit2) -> bytes:
    """The struct hash of the witness: what the proxies hand to Permit2."""
    if signed.facilitator is None:
        return keccak(_EXACT_WITNESS + _address(signed.to) + _uint(signed.valid_after))
    return keccak(_UPTO_WITNESS + _address(signed.to) + _address(signed.facilitator) + _uint(signed.valid_after))


def recover(digest: bytes, signature: bytes) -> str | None:
    """Whose key signed: an address in lower case. None for what is no canonical ECDSA signature: 65 bytes r, s, v with
    s in the lower half and v 0, 1, 27 or 28. There is one such signature for a key and a digest, and no twin of it."""
    if len(signature) != ECDSA_BYTES or int.from_bytes(signature[32:64], "big") > _LOW_S_MAX:
        return None
    recovery_id = _RECOVERY_ID.get(signature[64])
    if recovery_id is None:
        return None
    try:
        public = coincurve.PublicKey.from_signature_and_message(signature[:64] + recovery_id, digest, hasher=None)
    except ValueError:
        return None
    return "0x" + keccak(public.format(compressed=False)[1:])[12:].hex()


def _digest(separator: bytes, members: bytes) -> bytes:
    return keccak(b"\x19\x01" + separator + keccak(members))


def _address(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


def _uint(number: int) -> bytes:
    return number.to_bytes(32, "big")
