"""A private key: whose it is, and what it signs."""

import coincurve

from gateway.core.networks import checksum_address, keccak

KEY_BYTES = 32


class Key:
    """A secp256k1 private key. Shows its address and never itself. Raises ValueError for bytes that are none."""

    __slots__ = ("_key", "address")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError("a private key has 32 bytes")
        self._key = coincurve.PrivateKey(secret)
        public: bytes = self._key.public_key.format(compressed=False)
        self.address = checksum_address("0x" + keccak(public[1:])[12:].hex())

    @classmethod
    def from_hex(cls, text: str) -> "Key":
        """64 hexadecimal digits, with or without 0x. The error never repeats the text."""
        try:
            return cls(bytes.fromhex(text.strip().removeprefix("0x")))
        except ValueError:
            raise ValueError("this is no private key: it has 64 hexadecimal digits") from None

    def sign(self, digest: bytes) -> bytes:
        """A 32-byte digest -> 65 bytes r, s, v with v 27 or 28 and s in the lower half."""
        signature: bytes = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([27 + signature[64]])

    def __repr__(self) -> str:
        return f"Key({self.address})"
