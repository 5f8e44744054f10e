"""Chains and tokens by CAIP-2 id, and the contracts that stand at one address on every chain.

The table is public fact; what an operator accepts is his own choice among it, or a token of his own beside it. At
start the gateway reads name, version and decimals from the token itself: a signature over another domain is void.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import sha3

PERMIT2 = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
EXACT_PERMIT2_PROXY = "0x402085c248EeA27D92E8b30b2C58ed07f9E20001"
UPTO_PERMIT2_PROXY = "0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002"
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
ZERO_ADDRESS = "0x" + "0" * 40

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum has it: 32 bytes."""
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


@lru_cache(maxsize=4096)
def checksum_address(address: str) -> str:
    """An address in any case -> with the checksum of EIP-55. Raises ValueError for what is no address."""
    if _ADDRESS.fullmatch(address) is None:
        raise ValueError(f"{address[:64]!r} is no address: 0x and 40 hexadecimal digits")
    lower = address[2:].lower()
    mask = keccak(lower.encode()).hex()
    return "0x" + "".join(char.upper() if nibble >= "8" else char for char, nibble in zip(lower, mask, strict=False))


def parse_address(text: str) -> str | None:
    """What a person typed -> the address with its checksum. None for no address, and for one of mixed case whose
    checksum is wrong: somebody mistyped it, and money sent there is gone."""
    if _ADDRESS.fullmatch(text) is None:
        return None
    address = checksum_address(text)
    digits = text[2:]
    return address if text == address or digits in (digits.lower(), digits.upper()) else None


@dataclass(frozen=True, slots=True)
class Token:
    """An ERC-20 in which we are paid. `name` and `version` are of its EIP-712 domain."""

    network: str
    address: str
    """EIP-55."""
    symbol: str
    name: str
    version: str
    decimals: int
    eip2612: bool = True
    """Whether it has `permit`: a payer without gas may then approve Permit2 by a signature."""

    @property
    def asset(self) -> str:
        """`eip155:8453/0x8335...` in lower case: the ledger's word for it."""
        return f"{self.network}/{self.address.lower()}"


@dataclass(frozen=True, slots=True)
class Network:
    id: str
    """CAIP-2: `eip155:8453`."""
    name: str
    chain_id: int
    testnet: bool
    tokens: tuple[Token, ...]
    block_time_s: float


@lru_cache(maxsize=256)
def chain_id(network: str) -> int:
    """`eip155:8453` -> 8453. Raises ValueError for what is no EVM chain's CAIP-2 id."""
    family, _, reference = network.partition(":")
    if family != "eip155" or re.fullmatch(r"[1-9][0-9]{0,31}", reference, re.ASCII) is None:
        raise ValueError(f"{network[:64]!r} is no network such as eip155:8453")
    return int(reference)


SANDBOX = "eip155:31337"
"""No chain at all, or a local one for development: nothing there is worth anything."""


_USDC = (
    # id, name, USDC, its domain's name, seconds a block, testnet
    ("eip155:8453", "Base", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin", 2.0, False),
    ("eip155:84532", "Base Sepolia", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC", 2.0, True),
    ("eip155:1", "Ethereum", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "USD Coin", 12.0, False),
    ("eip155:43114", "Avalanche C", "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", "USD Coin", 2.0, False),
    ("eip155:137", "Polygon", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", "USD Coin", 2.0, False),
    ("eip155:42161", "Arbitrum One", "0xaf88d065e77c8cC2239327C5EDb3A432268e5831", "USD Coin", 0.25, False),
)
_SANDBOX_USD = Token(SANDBOX, checksum_address("0x" + "5a" * 20), "SUSD", "Sandbox USD", "1", 6)

NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        id: Network(id, name, chain_id(id), testnet, (Token(id, usdc, "USDC", domain, "2", 6),), block_time_s)
        for id, name, usdc, domain, block_time_s, testnet in _USDC
    }
    | {SANDBOX: Network(SANDBOX, "Sandbox", chain_id(SANDBOX), True, (_SANDBOX_USD,), 1.0)}
)
