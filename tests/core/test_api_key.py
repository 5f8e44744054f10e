"""An API key signs tokens that its public half verifies, one for each request, and never shows itself."""

import base64
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from rigs.caller import Caller, ed25519_secret, pem

from gateway.core.api_key import ApiKey

URI = "POST api.cdp.coinbase.com/platform/v2/x402/verify"
NOW = 1_760_000_000
P256 = ec.generate_private_key(ec.SECP256R1())
HALVES = base64.b64decode(ed25519_secret(ed25519.Ed25519PrivateKey.generate()))


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_a_token_is_what_coinbase_asks_for(algorithm: str) -> None:
    caller = Caller(algorithm)
    token = ApiKey(caller.id, caller.secret).token(URI, NOW, "0f" * 16)
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": caller.id, "typ": "JWT", "nonce": "0f" * 16}
    assert caller.claims(token) == {
        "sub": caller.id, "iss": "cdp", "iat": NOW, "nbf": NOW, "exp": NOW + 120, "uris": [URI],
    }  # fmt: skip
    with pytest.raises(jwt.InvalidSignatureError):
        Caller(algorithm).claims(token)


@pytest.mark.parametrize(
    "secret",
    [
        pem(P256),
        pem(P256, PrivateFormat.PKCS8),
        pem(P256).replace("\n", "\\n"),
        f"\n {pem(P256)}\n",
        base64.b64encode(HALVES).decode() + "\n",
        base64.encodebytes(HALVES).decode(),
    ],
    ids=["SEC1", "PKCS 8", "on one line", "with space around", "base64", "base64 in lines"],
)
def test_spellings_of_a_secret(secret: str) -> None:
    algorithm = "ES256" if "BEGIN" in secret else "EdDSA"
    token = ApiKey("me", secret).token(URI, NOW, "0")
    public = P256.public_key() if algorithm == "ES256" else ed25519.Ed25519PublicKey.from_public_bytes(HALVES[32:])
    assert jwt.decode(token, public, algorithms=[algorithm], options={"verify_signature": True, "verify_exp": False})


def locked() -> str:
    return P256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")).decode()


WRONG = {
    "nothing": ("", "no API key's secret"),
    "a word": ("very-secret", "no API key's secret"),
    "the id": ("d2a1f6c0-0000-4000-8000-000000000000", "no API key's secret"),
    "a seed alone": (base64.b64encode(HALVES[:32]).decode(), "no API key's secret"),
    "cut short": (base64.b64encode(HALVES).decode()[:-6], "no API key's secret"),
    "mistyped": (base64.b64encode(HALVES[:32] + bytes(32)).decode(), "halves of this secret do not belong together"),
    "PEM cut short": (pem(P256)[:90], "cannot be read"),
    "PEM with a password": (locked(), "without a password"),
    "another curve": (pem(ec.generate_private_key(ec.SECP256K1())), "curve P-256"),
    "RSA": (pem(rsa.generate_private_key(65537, 2048)), "curve P-256"),
    "beyond ASCII": ("ü" * 88, "no API key's secret"),
    "the public half": (
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----",
        "cannot be read",
    ),
}


@pytest.mark.parametrize(("secret", "told"), WRONG.values(), ids=WRONG)
def test_what_is_no_secret_is_told_and_not_repeated(secret: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        ApiKey("me", secret)
    assert caught.value.__cause__ is None
    assert not any(line in str(caught.value) for line in secret.splitlines())


def test_whoever_prints_it_sees_its_id() -> None:
    key = ApiKey("me", pem(P256))
    assert repr(key) == str(key) == "ApiKey(me)"
    assert not hasattr(key, "__dict__")


def test_nobody_else_loads_what_signs() -> None:
    """They would cost each gateway without such a key time and memory at its start."""
    program = """
import sys
from gateway import assemble, cli
from gateway.cli import checking
from gateway.settings import parse
parse({"facilitator": {"url": "https://facilitator.example.com", "bearer": "some"}})
print([name for name in ("jwt", "cryptography") if name in sys.modules])
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
