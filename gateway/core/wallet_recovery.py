"""Recovering an agent by the wallet it was registered with, when its token is lost.

    challenge   an amount to be sent from that wallet, and a question; nothing is written down
    transfer    a dollar to two, to the micro-dollar, from the wallet to the address for deposits; they are credited
    answer      one lead that the agent has asked about; three tries, then a day's rest
    recovered   every token the agent had is dead, and a new one is shown, in one transaction

A challenge is its id: what it stands for, and a seal over it that only we can make. So whoever asks for a million of
them has filled no disk, and an id of a wallet that is nobody's here cannot be made up.

The odd micro-dollars bind a transfer to its challenge. Anybody may ask for a challenge for somebody's wallet, and sees
on chain what the wallet sends. If any transfer would do, he could take its owner's next deposit for his proof, and
guess at the answer, or burn the tries of its owner's own recovery. As it is he needs the wallet to send the very amount
that his challenge names, in a block after it was made. There are 999,900 of those, and whoever hopes for a challenge
that happens to name what the owner is about to send needs a million of them within the hour, for two chances in three.
As many as a network may ask for (`recoveries`: 30 an hour, 8 times that of all of a /24 or /48, by each process) that
is some 4,000 networks at it for an hour. A wallet's challenges are not counted: else whoever asks for many would keep
its owner from his own (F-124). A transfer proves the one recovery that comes with it first, and takes no try of any
other.

The wallet has to make the transfer by itself, in a transaction of its own (gateway/settlement/movers.py says when it
is). A log names as sender whoever has signed an authorization, or approved somebody: else a stranger asks the owner's
client for that very amount at a shop of his own, to our address, and takes what it signs to the chain for his proof.
What stays is that somebody makes the owner himself send that amount to that address; he has to know the answer still.

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
ODD_MICROS = 999_999
"""The most that is asked for beyond the least; less than a dollar."""
AMOUNTS = 999_900
"""So many may be asked for: all but those of whole cents."""
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
    """What a challenge asks for: at least a dollar, and what is a deposit; beyond that never a whole cent, as what
    people send by themselves is."""
    cents, odd = divmod(int.from_bytes(entropy) % AMOUNTS, 9_999)
    return max(least_micros, LEAST_MICROS) + 10_000 * cents + odd + 1


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
