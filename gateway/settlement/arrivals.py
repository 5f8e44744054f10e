"""Transfers to the address that deposits are sent to: in logs, in one transaction's receipt, and whether they stay.

Whatever a node answers is held against what was asked: the token, the receiver, the range. Only tokens that are
configured count; a Transfer of anything else, of nothing, or of less than a micro-dollar is no arrival (F-116).

A receipt is as long as whoever sent the transaction likes, so only the one that claims it has it read. Whether all the
others stay is asked in a way that a stranger cannot make long: their blocks' logs of our tokens to our address, by
number, since a node may keep the logs of a block that is no longer the chain's; then for each that is not there, alone,
where its transaction is now. What cannot be had in one question is asked in two halves. One that nobody can say
anything of is Unknown by itself, and keeps no other from being looked at.
"""

import asyncio
from collections.abc import Mapping, Sequence

from gateway.core.deposit import Arrival
from gateway.core.money import MICROS_MAX, atomic_to_micros_down
from gateway.core.networks import Network
from gateway.settlement.calldata import TRANSFER_TOPIC, topic
from gateway.settlement.movers import movers
from gateway.settlement.proof import Log, Receipt, read_log, receipt
from gateway.settlement.protocol import Mined, Missing, Unknown
from gateway.settlement.rpc import (
    Answer,
    Block,
    Call,
    Rpc,
    RpcError,
    RpcUnavailable,
    block,
    members,
    quantity,
    text,
)

ALONE_MAX = 8
"""Deposits whose whereabouts are asked about at once, where they are not in their blocks."""
_WORD_BYTES = 32
_Log = tuple[str, int, str, str, int]
"""An arrival, wherever it is: transaction, log index, sender, token, amount."""


class ChainArrivals:
    """gateway.settlement.protocol.Arrivals over JSON-RPC."""

    def __init__(self, network: Network, rpc: Rpc, *, address: str) -> None:
        self.network = network.id
        self.chain_id = network.chain_id
        self.address = address.lower()
        self._rpc = rpc
        self._to = topic(address)
        self._decimals = {token.address.lower(): token.decimals for token in network.tokens}
        self._alone = asyncio.Semaphore(ALONE_MAX)

    async def transaction(self, hash: str) -> Mined | Missing | Unknown:
        def understand(head: Block, answers: list[Answer]) -> Mined | Missing:
            found = receipt(answers[0], hash)
            if found is None:
                return Missing()
            moved = [log for log in found.logs if len(log.topics) == 3 and log.topics[0] == TRANSFER_TOPIC]
            ours = [log for log in moved if log.topics[2] == self._to]
            arrivals = tuple(self._in(found))
            came = {arrival.log_index for arrival in arrivals}
            return Mined(
                depth=max(head.number - found.block + 1, 0),
                succeeded=found.succeeded,
                arrivals=arrivals,
                elsewhere=any(log.address in self._decimals for log in moved if log not in ours),
                other_tokens=any(log.address not in self._decimals for log in ours),
                movers={log.index: movers(found, log) for log in ours if log.index in came},
            )

        try:
            return await self._rpc.latest([("eth_getTransactionReceipt", hash)], understand)
        except RpcUnavailable as failure:
            return Unknown(f"the chain cannot be asked: {failure}")

    async def head(self) -> int | Unknown:
        try:
            return await self._rpc.latest([], lambda head, _: head.number)
        except RpcUnavailable as failure:
            return Unknown(f"the chain cannot be asked: {failure}")

    async def between(self, first: int, last: int) -> list[Arrival] | Unknown:
        def understand(head: Block, answers: list[Answer]) -> list[Arrival]:
            if head.number < last:  # nobody will look at these blocks again
                raise RpcUnavailable("it has not seen these blocks")
            found = self._arrivals(answers[0], first, last)
            return sorted(found, key=lambda arrival: (arrival.block, arrival.log_index))

        try:
            return await self._rpc.latest([self._logs(first, last)], understand)
        except RpcUnavailable as failure:
            return Unknown(f"the chain cannot be asked: {failure}")

    # whether they stay

    async def still(self, known: Sequence[Arrival]) -> tuple[int, list[Arrival | Missing | Unknown]] | Unknown:
        head = await self.head()
        if isinstance(head, Unknown):
            return head
        there = await self._there(sorted({each.block for each in known}))
        return head, list(await asyncio.gather(*(self._now(each, there) for each in known)))

    async def _there(self, blocks: Sequence[int]) -> dict[_Log, Arrival]:
        """What the chain has in these blocks; nothing of those whose logs cannot be had even alone."""
        try:
            return await self._in_blocks(blocks)
        except RpcUnavailable:
            if len(blocks) < 2:
                return {}
            middle = len(blocks) // 2
            one, other = await asyncio.gather(self._there(blocks[:middle]), self._there(blocks[middle:]))
            return one | other

    async def _in_blocks(self, blocks: Sequence[int]) -> dict[_Log, Arrival]:
        def understand(head: Block, answers: list[Answer]) -> dict[_Log, Arrival]:
            if blocks and head.number < blocks[-1]:
                raise RpcUnavailable("it has not seen these blocks")
            pairs = zip(blocks, answers, strict=True)
            found = (each for number, answer in pairs for each in self._arrivals(answer, number, number))
            return {_log(each): each for each in found}

        return await self._rpc.latest([self._logs(number, number) for number in blocks], understand)

    async def _now(self, known: Arrival, there: Mapping[_Log, Arrival]) -> Arrival | Missing | Unknown:
        here = there.get(_log(known))
        if here is not None:
            return here
        async with self._alone:
            try:
                one = await self._gone(known)
                if isinstance(one, Missing) and not isinstance(await self._gone(known), Missing):
                    return Unknown("two readers disagree")
            except RpcUnavailable as failure:
                return Unknown(f"the chain cannot be asked: {failure}")
        return one

    async def _gone(self, known: Arrival) -> Arrival | Missing | Unknown:
        """Where it is if not in its block. Its transaction is of a bounded size, its receipt as long as its sender
        likes. Raises RpcUnavailable."""

        def understand(_: Block, answers: list[Answer]) -> tuple[int, str] | None:
            told, place = answers
            found = members(told) if told is not None else {}
            if found and text(found.get("hash")).lower() != known.transaction:
                raise RpcUnavailable("another transaction than was asked for")
            if found.get("blockNumber") is not None:
                return quantity(found["blockNumber"], bits=63), text(found.get("blockHash")).lower()
            return None if place is None else (known.block, block(place).hash.lower())

        asked: list[Call] = [
            ("eth_getTransactionByHash", known.transaction),
            ("eth_getBlockByNumber", hex(known.block), False),
        ]
        where = await self._rpc.latest(asked, understand)
        if where is None:
            return Unknown("there is no block in its place")
        number, block_hash = where
        here = (await self._in_blocks([number])).get(_log(known))
        if here is None and block_hash == known.block_hash:
            return Unknown("its block is there; the node lacks its log")
        return here or Missing()

    # reading

    def _logs(self, first: int, last: int) -> Call:
        return (
            "eth_getLogs",
            {
                "address": list(self._decimals), "topics": [TRANSFER_TOPIC, None, self._to],
                "fromBlock": hex(first), "toBlock": hex(last),
            },
        )  # fmt: skip

    def _arrivals(self, answer: Answer, first: int, last: int) -> list[Arrival]:
        if not isinstance(answer, list):
            what = f"the node could not: {answer.code}" if isinstance(answer, RpcError) else "no logs"
            raise RpcUnavailable(what)
        arrivals = (self._logged(each, first, last) for each in answer)
        return [arrival for arrival in arrivals if arrival is not None]

    def _in(self, found: Receipt) -> list[Arrival]:
        if not found.succeeded:
            return []
        made = (self._arrival(log, found.transaction, found.block, found.block_hash) for log in found.logs)
        return [arrival for arrival in made if arrival is not None]

    def _logged(self, answer: Answer, first: int, last: int) -> Arrival | None:
        found = members(answer)
        number = quantity(found.get("blockNumber"), bits=63)
        if not first <= number <= last:
            raise RpcUnavailable("a log of a block that was not asked for")
        transaction, block_hash = text(found.get("transactionHash")).lower(), text(found.get("blockHash")).lower()
        return self._arrival(read_log(answer), transaction, number, block_hash)

    def _arrival(self, log: Log, transaction: str, number: int, block_hash: str) -> Arrival | None:
        decimals = self._decimals.get(log.address)
        is_ours = len(log.topics) == 3 and log.topics[0] == TRANSFER_TOPIC and log.topics[2] == self._to
        if decimals is None or not is_ours or len(log.data) != _WORD_BYTES:
            return None
        micros, _ = atomic_to_micros_down(log.value, decimals)
        if not 0 < micros <= MICROS_MAX:
            return None
        sender = "0x" + log.topics[1][-40:]
        return Arrival(self.network, log.address, sender, transaction, log.index, number, block_hash, log.value, micros)


def _log(arrival: Arrival) -> _Log:
    return arrival.transaction, arrival.log_index, arrival.sender, arrival.token, arrival.amount_atomic
