"""Calldata by hand: the few contract calls we make, laid out as the ABI has them.

    selector (4 bytes) ++ words (32 bytes each); what has no fixed length is put behind the words, and a word says where

A general encoder takes a hundred times as long for the same bytes. Addresses are `0x` and 40 hexadecimal digits in any
case; everything here is pure.
"""

from collections.abc import Sequence

from gateway.core.networks import EXACT_PERMIT2_PROXY, MULTICALL3, PERMIT2, UPTO_PERMIT2_PROXY, keccak
from gateway.core.x402.messages import Eip2612, Eip3009, Payment, Permit2
from gateway.core.x402.typed_data import ECDSA_BYTES

_WORD = 32


def selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


_PERMIT = "((address,uint256),uint256,uint256)"
_PERMIT2612 = "(uint256,uint256,bytes32,bytes32,uint8)"
_TRANSFER_VRS = selector(
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
)
_TRANSFER_BYTES = selector("transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)")
_SETTLE_EXACT = selector(f"settle({_PERMIT},address,(address,uint256),bytes)")
_SETTLE_UPTO = selector(f"settle({_PERMIT},uint256,address,(address,address,uint256),bytes)")
_SETTLE_EXACT_WITH_PERMIT = selector(f"settleWithPermit({_PERMIT2612},{_PERMIT},address,(address,uint256),bytes)")
_SETTLE_UPTO_WITH_PERMIT = selector(
    f"settleWithPermit({_PERMIT2612},{_PERMIT},uint256,address,(address,address,uint256),bytes)"
)
_AGGREGATE3 = selector("aggregate3((address,bool,bytes)[])")
_BALANCE_OF = selector("balanceOf(address)")
_ALLOWANCE = selector("allowance(address,address)")
_AUTHORIZATION_STATE = selector("authorizationState(address,bytes32)")
_PERMIT_NONCE = selector("nonces(address)")
_NONCE_BITMAP = selector("nonceBitmap(address,uint256)")
_IS_BLACKLISTED = selector("isBlacklisted(address)")
IS_VALID_SIGNATURE = selector("isValidSignature(bytes32,bytes)")
"""Also what ERC-1271 answers for a yes, in front of a word of zeros."""

NAME, VERSION = selector("name()"), selector("version()")
DECIMALS, DOMAIN_SEPARATOR, PAUSED = selector("decimals()"), selector("DOMAIN_SEPARATOR()"), selector("paused()")

TRANSFER_TOPIC = "0x" + keccak(b"Transfer(address,address,uint256)").hex()
AUTHORIZATION_USED_TOPIC = "0x" + keccak(b"AuthorizationUsed(address,bytes32)").hex()


def uint(number: int) -> bytes:
    return number.to_bytes(_WORD, "big")


def address(text: str) -> bytes:
    return bytes(12) + bytes.fromhex(text[2:])


def _tail(value: bytes) -> bytes:
    """Its length, then itself filled up to whole words."""
    return uint(len(value)) + value + bytes(-len(value) % _WORD)


# payments


def settle(payment: Payment, token: str, amount: int, permit: Eip2612 | None = None) -> tuple[str, bytes]:
    """(contract to call, calldata) that collects a payment. `amount` counts for `upto` alone, `permit` for Permit2
    alone: the proxy has the token take it first, and goes on where the token has taken it from somebody else."""
    signed = payment.authorization
    if isinstance(signed, Eip3009):
        return token.lower(), transfer_with_authorization(signed, payment.signature)
    if signed.facilitator is None:
        return EXACT_PERMIT2_PROXY.lower(), settle_exact(signed, payment.signature, permit)
    return UPTO_PERMIT2_PROXY.lower(), settle_upto(signed, payment.signature, amount, permit)


def transfer_with_authorization(signed: Eip3009, signature: bytes) -> bytes:
    """The form with (v, r, s) for every signature of 65 bytes: older tokens know no other, and newer ones put it
    together again for a wallet's contract. The form with bytes for all else."""
    words = (
        address(signed.from_)
        + address(signed.to)
        + uint(signed.value)
        + uint(signed.valid_after)
        + uint(signed.valid_before)
        + signed.nonce
    )
    if len(signature) == ECDSA_BYTES:
        signature = with_ethereum_v(signature)
        return _TRANSFER_VRS + words + uint(signature[64]) + signature[:64]
    return _TRANSFER_BYTES + words + uint(7 * _WORD) + _tail(signature)


def settle_exact(signed: Permit2, signature: bytes, permit: Eip2612 | None = None) -> bytes:
    head = _permit2612(permit) + _permit(signed) + address(signed.from_) + address(signed.to) + uint(signed.valid_after)
    function = _SETTLE_EXACT if permit is None else _SETTLE_EXACT_WITH_PERMIT
    return function + head + uint(len(head) + _WORD) + _tail(with_ethereum_v(signature))


def settle_upto(signed: Permit2, signature: bytes, amount: int, permit: Eip2612 | None = None) -> bytes:
    if signed.facilitator is None:
        raise ValueError("a permit of `upto` names its facilitator")
    head = (
        _permit2612(permit)
        + _permit(signed)
        + uint(amount)
        + address(signed.from_)
        + address(signed.to)
        + address(signed.facilitator)
        + uint(signed.valid_after)
    )
    function = _SETTLE_UPTO if permit is None else _SETTLE_UPTO_WITH_PERMIT
    return function + head + uint(len(head) + _WORD) + _tail(with_ethereum_v(signature))


def _permit(signed: Permit2) -> bytes:
    return address(signed.token) + uint(signed.amount) + uint(signed.nonce) + uint(signed.deadline)


def _permit2612(permit: Eip2612 | None) -> bytes:
    """Five words, or none. Its signature is of ECDSA_BYTES."""
    if permit is None:
        return b""
    signature = with_ethereum_v(permit.signature)
    return uint(permit.value) + uint(permit.deadline) + signature[:64] + uint(signature[64])


def with_ethereum_v(signature: bytes) -> bytes:
    """Some signers write the recovery id as 0 or 1; the chain knows 27 and 28 only."""
    if len(signature) == ECDSA_BYTES and signature[64] < 27:
        return signature[:64] + bytes([signature[64] + 27])
    return signature


def signature_mark(signature: bytes) -> bytes:
    """The part of a signature that a transaction which settles it must hold, however its v is spelt."""
    return signature[:64] if len(signature) == ECDSA_BYTES else signature


def aggregate3(calls: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """(Multicall3, calldata): all calls in one transaction, each allowed to fail alone."""
    places, bodies = [], []
    offset = len(calls) * _WORD
    for target, data in calls:
        body = address(target) + uint(1) + uint(3 * _WORD) + _tail(data)
        places.append(uint(offset))
        bodies.append(body)
        offset += len(body)
    return MULTICALL3.lower(), _AGGREGATE3 + uint(_WORD) + uint(len(calls)) + b"".join((*places, *bodies))


def aggregate3_outcomes(returned: bytes, count: int) -> list[bool]:
    """Whether each call went well. Raises ValueError for what aggregate3 cannot have answered."""
    words = [int.from_bytes(returned[at : at + _WORD], "big") for at in range(0, len(returned), _WORD)]
    if len(words) < 2 + count or words[1] != count:
        raise ValueError("no answer of aggregate3")
    start = 2 * _WORD
    outcomes = []
    for place in words[2 : 2 + count]:
        at, rest = divmod(start + place, _WORD)
        if rest or at >= len(words):
            raise ValueError("no answer of aggregate3")
        outcomes.append(words[at] == 1)
    return outcomes


# questions


def balance_of(owner: str) -> bytes:
    return _BALANCE_OF + address(owner)


def permit2_allowance(owner: str) -> bytes:
    return _ALLOWANCE + address(owner) + address(PERMIT2)


def permit_nonce(owner: str) -> bytes:
    """Of the token: the nonce that the owner's next EIP-2612 permit has to have."""
    return _PERMIT_NONCE + address(owner)


def nonce_used(payment: Payment, token: str) -> tuple[str, bytes]:
    """(contract, calldata): a word that `used(payment, word)` understands."""
    signed = payment.authorization
    if isinstance(signed, Eip3009):
        return token.lower(), _AUTHORIZATION_STATE + address(signed.from_) + signed.nonce
    return PERMIT2.lower(), _NONCE_BITMAP + address(signed.from_) + uint(signed.nonce >> 8)


def used(payment: Payment, answer: int) -> bool:
    signed = payment.authorization
    if isinstance(signed, Eip3009):
        return answer != 0
    return bool(answer >> (signed.nonce & 255) & 1)


def is_blacklisted(account: str) -> bytes:
    return _IS_BLACKLISTED + address(account)


def is_valid_signature(digest: bytes, signature: bytes) -> bytes:
    """Of a wallet's contract (ERC-1271)."""
    return IS_VALID_SIGNATURE + digest + uint(2 * _WORD) + _tail(signature)


def topic(account: str) -> str:
    """An address as a log's topic."""
    return "0x" + address(account).hex()
