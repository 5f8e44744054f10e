"""CALLER: somebody with an API key at a facilitator, and how the facilitator looks at the tokens that are shown.

    caller = Caller("ES256", now=lambda: chain.now)
    caller.secret                             as the facilitator's site shows it once
    caller.takes(token, "POST 127.0.0.1:8080/verify")

Looks with PyJWT and the public half of the key, at the rig's own time. It shares no code with the gateway.
"""

import base64
import secrets
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

CLAIMS = ["sub", "iss", "nbf", "exp", "uris"]
_BY_ITS_OWN_TIME = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class Caller:
    def __init__(self, algorithm: str = "EdDSA", *, now: Callable[[], float] = time.time) -> None:
        self.algorithm = algorithm
        self.id = f"organizations/{secrets.token_hex(4)}/apiKeys/{secrets.token_hex(4)}"
        self.tokens: list[str] = []
        """Every token that was shown."""
        self._now = now
        self._nonces: set[str] = set()
        key = ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else ec.generate_private_key(ec.SECP256R1())
        self.public = key.public_key()
        self.secret = ed25519_secret(key) if isinstance(key, ed25519.Ed25519PrivateKey) else pem(key)

    def takes(self, authorization: str, uri: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        self.tokens.append(token)
        try:
            header, claims = jwt.get_unverified_header(token), self.claims(token)
        except jwt.InvalidTokenError:
            return False
        fresh = header.get("nonce") not in (None, *self._nonces)
        self._nonces.add(str(header.get("nonce")))
        named = (scheme, header["kid"], header["typ"], claims["sub"]) == ("Bearer", self.id, "JWT", self.id)
        in_time = claims["nbf"] <= self._now() < claims["exp"] <= claims["nbf"] + 120
        return fresh and named and in_time and claims["uris"] == [uri]

    def claims(self, token: str) -> dict[str, Any]:
        """Raises jwt.InvalidTokenError for what this key did not sign, or not whole."""
        return jwt.decode(
            token,
            self.public,
            algorithms=[self.algorithm],
            issuer="cdp",
            options={"require": CLAIMS} | _BY_ITS_OWN_TIME,
        )


def ed25519_secret(key: ed25519.Ed25519PrivateKey) -> str:
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(key.private_bytes_raw() + public).decode()


def pem(key: Any, how: PrivateFormat = PrivateFormat.TraditionalOpenSSL) -> str:
    return key.private_bytes(Encoding.PEM, how, NoEncryption()).decode()
