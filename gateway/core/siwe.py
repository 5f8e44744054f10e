"""Signing in with a wallet (EIP-4361): the message that we make, and the nonce in it that nobody has to remember.

The message is ours from the first letter to the last, and nothing but that very message is taken back. Whoever shows a
signature shows the nonce beside it; the message is made anew from what the nonce says and from the configuration, and
held against the one that was signed. So there is no parser here that could read a message otherwise than the wallet
showed it: a second `Nonce:` line, a domain that looks like ours, a resource nobody asked for are just other messages.
What domain and URI are to be is never taken from a request's headers.

A nonce is no secret and is kept nowhere. It says when and for what it was made, and is sealed by a key that only the
gateways of one ledger have:

    nonce = hex( issued_s (5 bytes) ++ chain id (8) ++ allowance in micros (7) ++ random (4) ++ seal (16) )
    seal  = HMAC-SHA256(key, purpose ":" agent ":" address (20 bytes) ++ everything before the seal), cut short

So an attacker who asks for a million nonces for somebody's address has taken nothing from him and filled no disk
(F-124). What is kept is a mark for each nonce that was used, in the transaction that it was used for, until it has
expired (F-123): who can make us write one has signed with the wallet, and nobody can burn another one's nonce.

A second text may be signed beside it, the allowance: what the wallet's owner means to spend here at most. It bears the
same nonce, which has sealed the amount.
"""

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from gateway.core.money import format_usd
from gateway.core.networks import checksum_address, keccak

VALID_S = 600
KEY_BYTES = 32
SALT_BYTES = 4
CHAIN_ID_MAX = 2**63 - 1
_SEAL_BYTES = 16
_PAYLOAD_BYTES = 5 + 8 + 7 + SALT_BYTES
_NONCE = re.compile(rf"[0-9a-f]{{{2 * (_PAYLOAD_BYTES + _SEAL_BYTES)}}}", re.ASCII)
_LINES = (
    "domain", "address", "message", "statement", "message", "uri", "version", "chain_id", "nonce", "issued_at",
    "expiration_time",
)  # fmt: skip


class Purpose(StrEnum):
    REGISTER = "register"
    LINK = "link"
    """To put a further wallet beside those of an agent."""


@dataclass(frozen=True, slots=True)
class Site:
    """Who asks, as the wallet shows it: from the configuration."""

    domain: str
    """`api.example.com`, with the port where there is one."""
    uri: str
    """`https://api.example.com`"""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a nonce stands for."""

    purpose: Purpose
    address: str
    """Lower case."""
    chain_id: int
    issued_s: int
    allowance_micros: int
    """0: no allowance is spoken of."""
    salt: bytes
    agent_id: str = ""
    """To which the wallet is to be linked."""

    @property
    def expires_s(self) -> int:
        return self.issued_s + VALID_S


def nonce(invitation: Invitation, key: bytes) -> str:
    """80 hexadecimal digits."""
    payload = (
        invitation.issued_s.to_bytes(5, "big")
        + invitation.chain_id.to_bytes(8, "big")
        + invitation.allowance_micros.to_bytes(7, "big")
        + invitation.salt
    )
    return (payload + _seal(payload, key, invitation.purpose, invitation.address, invitation.agent_id)).hex()


def read(text: str, key: bytes, purpose: Purpose, address: str, agent_id: str = "") -> Invitation | None:
    """What this nonce stands for; None where it is none of ours for this purpose, address and agent."""
    if _NONCE.fullmatch(text) is None:
        return None
    sealed = bytes.fromhex(text)
    payload, seal = sealed[:_PAYLOAD_BYTES], sealed[_PAYLOAD_BYTES:]
    if not hmac.compare_digest(seal, _seal(payload, key, purpose, address, agent_id)):
        return None
    as_int = int.from_bytes
    return Invitation(
        purpose, address, as_int(payload[5:13], "big"), as_int(payload[:5], "big"), as_int(payload[13:20], "big"),
        payload[20:], agent_id,
    )  # fmt: skip


def message(invitation: Invitation, nonce: str, site: Site) -> str:
    """The text that the wallet signs."""
    statement = (
        f"Link this wallet to the agent {invitation.agent_id}."
        if invitation.purpose is Purpose.LINK
        else "Register or sign in an agent."
    )
    return (
        f"{site.domain} wants you to sign in with your Ethereum account:\n"
        f"{checksum_address(invitation.address)}\n"
        "\n"
        f"{statement}\n"
        "\n"
        f"URI: {site.uri}\n"
        "Version: 1\n"
        f"Chain ID: {invitation.chain_id}\n"
        f"Nonce: {nonce}\n"
        f"Issued At: {utc(invitation.issued_s)}\n"
        f"Expiration Time: {utc(invitation.expires_s)}"
    )


def allowance_message(invitation: Invitation, nonce: str, site: Site) -> str | None:
    """The other text, where an allowance is spoken of."""
    if not invitation.allowance_micros:
        return None
    return (
        f"I intend to spend at most {format_usd(invitation.allowance_micros)} USD at {site.domain} from "
        f"{checksum_address(invitation.address)}. This is a stated limit, not a transfer approval. Nonce: {nonce}"
    )


def difference(expected: str, shown: str) -> str | None:
    """The first part of a message that is not as it was made, by its name in EIP-4361; None where they are equal."""
    if expected == shown:
        return None
    lines = list(zip(_LINES, expected.split("\n"), shown.split("\n"), strict=False))
    return next((name for name, ours, theirs in lines if ours != theirs), "message")


def digest(message: str) -> bytes:
    """What a wallet signs of a text (EIP-191, personal_sign)."""
    text = message.encode()
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)


def utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seal(payload: bytes, key: bytes, purpose: Purpose, address: str, agent_id: str) -> bytes:
    bound = f"{purpose}:{agent_id}:".encode() + bytes.fromhex(address[2:])
    return hmac.digest(key, bound + payload, "sha256")[:_SEAL_BYTES]
