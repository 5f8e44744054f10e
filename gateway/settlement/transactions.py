"""Transactions of type 2 (EIP-1559), signed and read by hand.

    raw  = 0x02 ++ rlp([chain id, nonce, tip, max fee, gas, to, value, data, access list, y parity, r, s])
    hash = keccak(raw); what is signed is the keccak of the same without the last three

RLP puts the length in front of a byte string and of a list; numbers are byte strings without leading zeros. A library
signs in 160 us what takes 30 here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import coincurve

from gateway.core.networks import checksum_address, keccak

_TYPE = b"\x02"

Rlp = bytes | Sequence["Rlp"]


class Key:
    """A private key and its address. The key itself appears in no repr."""

    def __init__(self, secret: bytes) -> None:
        """`secret` is 32 bytes. Raises ValueError for what is no key."""
        self._key = coincurve.PrivateKey(secret)
        public: bytes = self._key.public_key.format(compressed=False)
        self.address = checksum_address("0x" + keccak(public[1:])[12:].hex())

    def sign(self, digest: bytes) -> bytes:
        """65 bytes: r, s, recovery id."""
        signature: bytes = self._key.sign_recoverable(digest, hasher=None)
        return signature

    def __repr__(self) -> str:
        return f"Key({self.address})"


@dataclass(frozen=True, slots=True)
class Transaction:
    chain_id: int
    nonce: int
    tip: int
    """Wei a unit of gas to whoever builds the block."""
    max_fee: int
    """Wei a unit of gas, tip included, at the most."""
    gas: int
    to: str
    data: bytes = field(repr=False)
    value: int = 0

    def dearer(self, tip: int, max_fee: int) -> "Transaction":
        """The same nonce and the same calls, for more money."""
        return replace(self, tip=tip, max_fee=max_fee)

    def _fields(self) -> list[Rlp]:
        return [
            number(self.chain_id), number(self.nonce), number(self.tip), number(self.max_fee), number(self.gas),
            bytes.fromhex(self.to[2:]), number(self.value), self.data, [],
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Signed:
    transaction: Transaction
    raw: bytes = field(repr=False)
    hash: str


def sign(transaction: Transaction, key: Key) -> Signed:
    fields = transaction._fields()
    signature = key.sign(keccak(_TYPE + rlp(fields)))
    signed = [
        *fields,
        number(signature[64]),
        number(int.from_bytes(signature[:32], "big")),
        number(int.from_bytes(signature[32:64], "big")),
    ]
    raw = _TYPE + rlp(signed)
    return Signed(transaction, raw, "0x" + keccak(raw).hex())


def read(raw: bytes) -> Transaction:
    """What was signed. Raises ValueError for what this file has not written."""
    items, rest = _unpack(raw[1:]) if raw[:1] == _TYPE else (b"", b"")
    if isinstance(items, bytes) or rest or len(items) != 12:
        raise ValueError("no transaction of ours")
    flat = [item for item in items if isinstance(item, bytes)]
    if len(flat) != 11:
        raise ValueError("no transaction of ours")
    chain_id, nonce, tip, max_fee, gas, to, value, data = flat[:8]
    as_int = int.from_bytes
    return Transaction(
        as_int(chain_id, "big"), as_int(nonce, "big"), as_int(tip, "big"), as_int(max_fee, "big"),
        as_int(gas, "big"), "0x" + to.hex(), data, as_int(value, "big"),
    )  # fmt: skip


def number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def rlp(item: Rlp) -> bytes:
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 0x80 else _length(len(item), 0x80) + item
    body = b"".join(rlp(member) for member in item)
    return _length(len(body), 0xC0) + body


def _length(length: int, base: int) -> bytes:
    if length < 56:
        return bytes([base + length])
    digits = number(length)
    return bytes([base + 55 + len(digits)]) + digits


def _unpack(data: bytes) -> tuple[Rlp, bytes]:
    """The first item and what comes after it."""
    if not data:
        raise ValueError("nothing left to read")
    lead = data[0]
    if lead < 0x80:
        return data[:1], data[1:]
    base = 0x80 if lead < 0xC0 else 0xC0
    length, start = lead - base, 1
    if length > 55:
        start = 1 + length - 55
        length = int.from_bytes(data[1:start], "big")
    body, rest = data[start : start + length], data[start + length :]
    if len(body) != length:
        raise ValueError("cut short")
    if base == 0x80:
        return body, rest
    items: list[Rlp] = []
    while body:
        item, body = _unpack(body)
        items.append(item)
    return items, rest
