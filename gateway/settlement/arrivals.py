"""Transfers to the address that deposits are sent to: in logs, in one transaction's receipt, and whether they stay.

Whatever a node answers is held against what was asked: the token, the receiver, the range. Only tokens that are
configured count; a Transfer of anything else, of nothing, or of less than a micro-dollar is no arrival (F-116).
"""

from collections.abc import Sequence

from gateway.core.deposit import Arrival
from gateway.core.money import MICROS_MAX, atomic_to_micros_down
from gateway.core.networks import Network
from gateway.settlement.calldata import TRANSFER_TOPIC, topic
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

_WORD_BYTES = 32


class ChainArrivals:
    """gateway.settlement.protocol.Arrivals over JSON-RPC."""

    def __init__(self, network: Network, rpc: Rpc, *, address: str) -> None:
        self.network = network.id
        self.chain_id = network.chain_id
        self.address = address.lower()
        self._rpc = rpc
        self._to = topic(address)
        self._decimals = {token.address.lower(): token.decimals for token in network.tokens}

    async def transaction(self, hash: str) -> Mined | Missing | Unknown:
        def understand(head: Block, answers: list[Answer]) -> Mined | Missing:
            found = receipt(answers[0], hash)
            if found is None:
                return Missing()
            moved = [log for log in found.logs if len(log.topics) == 3 and log.topics[0] == TRANSFER_TOPIC]
            ours = [log for log in moved if log.topics[2] == self._to]
            return Mined(
                depth=max(head.number - found.block + 1, 0),
                succeeded=found.succeeded,
                arrivals=tuple(self._in(found)) if found.succeeded else (),
                elsewhere=any(log.address in self._decimals for log in moved if log not in ours),
                other_tokens=any(log.address not in self._decimals for log in ours),
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
        asked: Call = (
            "eth_getLogs",
            {
                "address": list(self._decimals), "topics": [TRANSFER_TOPIC, None, self._to],
                "fromBlock": hex(first), "toBlock": hex(last),
            },
        )  # fmt: skip

        def understand(_: Block, answers: list[Answer]) -> list[Arrival]:
            (answer,) = answers
            if not isinstance(answer, list):
                what = f"the node could not: {answer.code}" if isinstance(answer, RpcError) else "no logs"
                raise RpcUnavailable(what)
            arrivals = (self._logged(each, first, last) for each in answer)
            found = [arrival for arrival in arrivals if arrival is not None]
            return sorted(found, key=lambda arrival: (arrival.block, arrival.log_index))

        try:
            return await self._rpc.latest([asked], understand)
        except RpcUnavailable as failure:
            return Unknown(f"the chain cannot be asked: {failure}")

    async def still(self, known: Sequence[Arrival]) -> tuple[int, list[Arrival | Missing | Unknown]] | Unknown:
        try:
            head, seen = await self._look(known)
            if any(isinstance(each, Missing) for each in seen):
                again, others = await self._look(known)
                head = min(head, again)
                seen = [
                    one if type(one) is type(other) else Unknown("two readers disagree")
                    for one, other in zip(seen, others, strict=True)
                ]
        except RpcUnavailable as failure:
            return Unknown(f"the chain cannot be asked: {failure}")
        return head, seen

    async def _look(self, known: Sequence[Arrival]) -> tuple[int, list[Arrival | Missing | Unknown]]:
        calls: list[Call] = []
        for each in known:
            calls += [("eth_getTransactionReceipt", each.transaction), ("eth_getBlockByNumber", hex(each.block), False)]

        def understand(head: Block, answers: list[Answer]) -> tuple[int, list[Arrival | Missing | Unknown]]:
            pairs = zip(known, answers[::2], answers[1::2], strict=True)
            return head.number, [self._now(each, told, place) for each, told, place in pairs]

        return await self._rpc.latest(calls, understand)

    def _now(self, known: Arrival, told: Answer, place: Answer) -> Arrival | Missing | Unknown:
        found = receipt(told, known.transaction)
        if found is not None:
            here = next((each for each in self._in(found) if each.log_index == known.log_index), None)
            same = here is not None and (here.sender, here.token, here.amount_atomic) == (
                known.sender, known.token, known.amount_atomic
            )  # fmt: skip
            return here if here is not None and same else Missing()
        if place is None or block(place).hash.lower() == known.block_hash:
            return Unknown("its block is there, or none is; the node lacks its receipt")
        return Missing()

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
