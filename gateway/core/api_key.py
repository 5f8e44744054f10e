"""A key that signs one short-lived token for each request: how Coinbase's facilitator knows its customers.

A token is a JWT. Its header has alg, kid, typ and a nonce, its claims say who asks (sub, and iss "cdp"), from when to
when (iat, nbf, exp) and for which request alone (uris). Source: generate_jwt of Coinbase's public cdp-sdk.

Whoever has no such key pays nothing for it: what signs is imported with the first key.
"""

import base64
import binascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

TOKEN_LIFE_S = 120
ED25519_BYTES = 64
"""32 of the key and 32 of its public half."""


class ApiKey:
    """An id and a private key. Shows its id and never itself."""

    __slots__ = ("_key", "algorithm", "id")

    def __init__(self, id: str, secret: str) -> None:
        """`secret` is base64 of an Ed25519 key and its public half (EdDSA), or PEM of one on P-256 (ES256), in which
        a line's end may be written as \\n. Raises ValueError for anything else; the error never repeats it."""
        self.id = id
        text = secret.replace("\\n", "\n").strip()
        self._key: EllipticCurvePrivateKey | Ed25519PrivateKey
        if text.startswith("-----BEGIN"):
            self.algorithm, self._key = "ES256", _pem(text)
        else:
            self.algorithm, self._key = "EdDSA", _ed25519(text)

    def token(self, uri: str, now_s: int, nonce: str) -> str:
        """Opens `uri` alone, as "POST api.example.com/x402/verify", once and for two minutes."""
        import jwt

        claims = {
            "sub": self.id, "iss": "cdp", "iat": now_s, "nbf": now_s, "exp": now_s + TOKEN_LIFE_S, "uris": [uri],
        }  # fmt: skip
        return jwt.encode(claims, self._key, algorithm=self.algorithm, headers={"kid": self.id, "nonce": nonce})

    def __repr__(self) -> str:
        return f"ApiKey({self.id})"


def _pem(text: str) -> "EllipticCurvePrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it wants a password
        raise ValueError("this PEM cannot be read: copy the private key anew, whole and without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("this PEM is of another kind: take a private key on the curve P-256, or one of Ed25519")
    return key


def _ed25519(text: str) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        both = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        both = b""
    if len(both) != ED25519_BYTES:
        raise ValueError("this is no API key's secret: it is base64 of 64 bytes, or PEM; copy it anew")
    key = Ed25519PrivateKey.from_private_bytes(both[:32])
    if key.public_key().public_bytes_raw() != both[32:]:
        raise ValueError("the halves of this secret do not belong together: a character is mistyped; copy it anew")
    return key
