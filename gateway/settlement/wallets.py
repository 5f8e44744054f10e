"""What a chain says of a wallet that registers: whether its contract takes a signature for its own, what it holds, and
from whom that came. gateway.settlement.protocol.Wallets over JSON-RPC.

The contract is a stranger's program. It is run with as much gas as a payment may burn, what it answers has to be one
word and nothing beside it, and whatever goes wrong in it is its no, never a fault of the node that ran it. A wallet
that stands nowhere yet (ERC-6492) would have to be made first, by calls of somebody's choosing: that is not done.

Lately is a span of time. It is asked about in ranges of blocks that nodes put up with, all in one batch, and no more
than LOG_LOOKS_MAX of them, so that what a registration may cost is bounded where blocks are fast.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil

from gateway.core.money import atomic_to_micros_down
from gateway.core.networks import Network, Token
from gateway.settlement import calldata
from gateway.settlement.onchain import GAS_CONTRACT, LOG_BLOCKS_MAX, LOG_LOOKS_MAX, eth_call
from gateway.settlement.protocol import Holding, Senders, SignedText, Unknown
from gateway.settlement.rpc import Answer, Block, Call, Rpc, RpcError, RpcUnavailable, data, members, word

_YES = "0x" + calldata.IS_VALID_SIGNATURE.hex() + "00" * 28


class ChainWallets:
    def __init__(self, chains: Mapping[str, tuple[Network, Rpc]], *, looks_back_s: int) -> None:
        """`chains`: by network. `looks_back_s`: how long ago somebody has sent something lately."""
        self._chains = dict(chains)
        self._looks_back_s = looks_back_s

    async def confirms(self, network: str, wallet: str, signed: Sequence[SignedText]) -> bool | Unknown:
        asked = [
            eth_call(wallet, calldata.is_valid_signature(each.digest, each.signature), gas=GAS_CONTRACT)
            for each in signed
        ]

        def understand(head: Block, answers: list[Answer]) -> bool:
            return bool(data(answers[0])) and all(answer == _YES for answer in answers[1:])

        try:
            _, rpc = self._chains[network]
            return await rpc.latest([("eth_getCode", wallet, "latest"), *asked], understand)
        except (KeyError, RpcUnavailable) as failure:
            return Unknown(f"the chain cannot be asked: {failure}")

    async def holding(self, network: str, wallet: str) -> Holding | Unknown:
        try:
            chain, rpc = self._chains[network]

            def understand(head: Block, answers: list[Answer]) -> Holding:
                each = [
                    Holding(token, atomic_to_micros_down(word(answer), token.decimals)[0], head.number)
                    for token, answer in zip(chain.tokens, answers, strict=True)
                ]
                return max(each, key=lambda holding: holding.micros)

            asked = [eth_call(token.address, calldata.balance_of(wallet)) for token in chain.tokens]
            return await rpc.latest(asked, understand)
        except (KeyError, RpcUnavailable) as failure:
            return Unknown(f"the chain cannot be asked: {failure}")

    async def senders(self, network: str, wallet: str, holding: Holding) -> Senders | Unknown:
        """Out of the token's Transfer logs of the last blocks."""

        def understand(head: Block, answers: list[Answer]) -> Senders | Unknown:
            if head.number < holding.block:
                raise RpcUnavailable("it has not seen what came last")
            came: Counter[str] = Counter()
            for logs in answers:
                if isinstance(logs, RpcError):  # many nodes have limits of their own here
                    return Unknown(f"the node does not look so far back: {logs.code}")
                if not isinstance(logs, list):
                    raise RpcUnavailable("no logs where there should be some")
                for sender, amount in map(_transfer, map(members, logs)):
                    came[sender] += amount
            return Senders.of(came, holding.token.decimals)

        try:
            chain, rpc = self._chains[network]
            span = min(ceil(self._looks_back_s / chain.block_time_s), LOG_BLOCKS_MAX * LOG_LOOKS_MAX)
            since = max(holding.block - span + 1, 0)
            return await rpc.latest(_logs_of(holding.token, wallet, since, holding.block), understand)
        except (KeyError, RpcUnavailable) as failure:
            return Unknown(f"the chain cannot be asked: {failure}")


def _logs_of(token: Token, wallet: str, since: int, until: int) -> list[Call]:
    return [
        (
            "eth_getLogs",
            {
                "address": token.address,
                "topics": [calldata.TRANSFER_TOPIC, None, calldata.topic(wallet)],
                "fromBlock": hex(start),
                "toBlock": hex(min(start + LOG_BLOCKS_MAX - 1, until)),
            },
        )
        for start in range(since, until + 1, LOG_BLOCKS_MAX)
    ]


def _transfer(log: Mapping[str, Answer]) -> tuple[str, int]:
    """(sender, atomic units) of a Transfer's log."""
    topics = log.get("topics")
    if not isinstance(topics, list) or len(topics) < 3:
        raise RpcUnavailable("a log that is no Transfer")
    return "0x" + data(topics[1])[-20:].hex(), word(log.get("data"))
