"""Recovering an agent by the wallet it was registered with, when its token is lost.

    challenge   an amount to be sent from that wallet, and a question; nothing is written down
    transfer    one dollar and some odd micro-dollars, from the wallet to the address for deposits; they are credited
    answer      one lead that the agent has asked about; three tries, then a day's rest
    recovered   every token the agent had is dead, and a new one is shown, in one transaction

A challenge is its id: what it stands for, and a seal over it that only we can make. So whoever asks for a million of
them has filled no disk, and an id of a wallet that is nobody's here cannot be made up.

The odd micro-dollars bind a transfer to its challenge. Anybody may ask for a challenge for somebody's wallet, and sees
on chain what the wallet sends. If any transfer would do, he could take its owner's next deposit for his proof, and
guess at the answer, or burn the tries of its owner's own recovery. As it is he needs the wallet to send the very amount
that his challenge names, in a block after it was made.

Tries are counted of the agent, not of the challenge, and only of whoever has proven a transfer.
"""

import hmac
import re
from dataclasses import dataclass

from gateway.core.networks import chain_id

VALID_S = 3600
TRIES_MAX = 3
LOCK_MS = 86_400_000
LEAST_MICROS = 1_000_000
ODD_MICROS = 9_999
"""The most that is asked for beyond the least; less than a cent."""
SALT_BYTES = 8
PROMPT = (
    "Give one phone number, email address, name of a person or business, or contact_id that you asked about in the "
    "last 90 days"
)
_PREFIX = "rec_"
_PARTS = (20, 8, 8, 5, 7, SALT_BYTES)
"""The bytes of address, chain id, block, time, amount, salt."""
_PAYLOAD_BYTES, _SEAL_BYTES = sum(_PARTS), 16
_ID = re.compile(rf"{_PREFIX}[0-9a-f]{{{2 * (_PAYLOAD_BYTES + _SEAL_BYTES)}}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Challenge:
    address: str
    """The wallet, in lower case."""
    chain_id: int
    block: int
    """The newest when it was made: the transfer is in a later one."""
    issued_s: int
    amount_micros: int
    """To the micro-dollar."""
    salt: bytes

    @property
    def expires_s(self) -> int:
        return self.issued_s + VALID_S

    def is_over(self, now_s: float) -> bool:
        """One from the future was made before a clock went back: nobody knows for how long it would be good."""
        return not self.issued_s - 60 <= now_s < self.expires_s


def seal_key(secret: bytes) -> bytes:
    """`secret` may be the root of other keys."""
    return hmac.digest(secret, b"wallet recovery", "sha256")


def amount_micros(least_micros: int, entropy: bytes) -> int:
    """What a challenge asks for: at least a dollar, and what is a deposit; never round."""
    return max(least_micros, LEAST_MICROS) + 1 + int.from_bytes(entropy) % ODD_MICROS


def recovery_id(challenge: Challenge, key: bytes) -> str:
    """`rec_` and 144 hexadecimal digits. Whoever knows it can try an answer once its transfer is there: no log has it,
    and the store its hash alone."""
    parts = (
        int(challenge.address, 16), challenge.chain_id, challenge.block, challenge.issued_s, challenge.amount_micros,
        int.from_bytes(challenge.salt),
    )  # fmt: skip
    payload = b"".join(part.to_bytes(size) for part, size in zip(parts, _PARTS, strict=True))
    return _PREFIX + (payload + _seal(payload, key)).hex()


def read(text: str, key: bytes) -> Challenge | None:
    """The challenge that this is the id of; None where it is none of ours."""
    if _ID.fullmatch(text) is None:
        return None
    sealed = bytes.fromhex(text.removeprefix(_PREFIX))
    payload, seal = sealed[:_PAYLOAD_BYTES], sealed[_PAYLOAD_BYTES:]
    if not hmac.compare_digest(seal, _seal(payload, key)):
        return None
    parts, start = [], 0
    for size in _PARTS:
        parts.append(payload[start : start + size])
        start += size
    address, chain, block, issued, amount, salt = parts
    as_int = int.from_bytes
    return Challenge(f"0x{address.hex()}", as_int(chain), as_int(block), as_int(issued), as_int(amount), salt)


def differs(
    challenge: Challenge, *, sender: str, network: str, block: int | None, amount_micros: int, by_transfer: bool
) -> str | None:
    """By what a deposit is not the transfer that was asked for; None where it is."""
    if not by_transfer or chain_id(network) != challenge.chain_id:
        return "chain"
    if sender != challenge.address:
        return "sender"
    if amount_micros != challenge.amount_micros:
        return "amount"
    return "block" if block is None or block <= challenge.block else None


def _seal(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")[:_SEAL_BYTES]
