"""What one key has sent and no block holds deep enough yet.

A flight is a nonce that is taken: its transaction, the dearer ones after it, and the settlements they carry. It is in
the journal before a byte of it leaves, and whoever dies here comes back to the same flights and sends the same bytes.

    taken off ──▶ in a block ──▶ deep: closed          the nonce can never again be anything else
        │             │
        │             └─▶ taken back by a reorganisation: the same bytes again
        ├─▶ dropped, unheard of: the same bytes again
        ├─▶ passed by for some blocks: the same calls for more money, within the cap
        └─▶ overtaken: somebody else has used the nonce; closed when that is deep

A settlement that its closed flight has not paid goes back to whoever sent it. A nonce that nobody has taken stops all
behind it, so an empty transaction takes it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

import structlog

from gateway.core import crash
from gateway.core.errors import Conflict, IllegalMove
from gateway.core.settlement import Attempt, Settled, Settlement
from gateway.settlement import calldata, reasons, transactions
from gateway.settlement.onchain import Due, OnChain
from gateway.settlement.proof import Receipt, receipt
from gateway.settlement.protocol import Journal, Refused, Unknown
from gateway.settlement.rpc import Answer, Block, RpcError, RpcUnavailable, quantity
from gateway.settlement.transactions import Key, Signed, Transaction

log = structlog.get_logger("flights")

Outcome = Settled | Refused | Unknown

GAS_BASE = 21_000
BUMP_PERCENT = 125
"""Nodes want at least a tenth more for a replacement."""
STUCK_BLOCKS = 3
"""A transaction that as many blocks have passed by is offered more."""
RETRY_FIRST_S, RETRY_MAX_S = 0.05, 2.0
POLL_FIRST_S, PACE_MAX_S = 0.001, 2.0
SYNC_BLOCKS, SYNC_MIN_S = 1.5, 0.3
"""How long a node may sit on a transaction until it is in a block."""
LOOK_MAX = 64
"""Transactions that are in a block and not deep yet, looked at together."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator allows."""

    max_fee_wei: int = 100 * 10**9
    """The most a unit of gas may cost."""
    gas_low_wei: int = 2 * 10**15
    """An alarm below it."""
    tip_wei: int = 10**6
    """The least offered to whoever builds the block."""
    batch_max: int = 64
    in_flight_max: int = 16
    """Transactions not yet mined: nodes keep about as many of one sender."""
    settle_wait_s: float = 60.0
    """How long `settle` waits for a proof before it answers Unknown. The work goes on."""


@dataclass(eq=False, slots=True)
class Item:
    """One settlement on its way, and whoever waits for it."""

    settlement: Settlement
    due: Due
    done: "asyncio.Future[Outcome]"
    alone: bool = False
    """It failed in company: next time by itself."""

    def answer(self, outcome: Outcome) -> None:
        if not self.done.done():
            self.done.set_result(outcome)


@dataclass(eq=False, slots=True)
class Flight:
    """A nonce that is taken."""

    nonce: int
    versions: list[Signed]
    carried: tuple[str, ...]
    """Ids of its settlements, in the order of its calls."""
    items: dict[str, Item] = field(default_factory=dict)
    """Of those, the ones somebody waits for; none after a restart."""
    sent_at_block: int = 0
    resend_at: float = 0.0
    resend_after_s: float = RETRY_FIRST_S
    mined: Receipt | None = None
    paid: set[str] = field(default_factory=set)
    sending: bool = False
    """A node has it and answers when it is in a block."""
    closing: bool = False
    underpriced: bool = False
    """A node would not take it for this money."""

    @property
    def latest(self) -> Signed:
        return self.versions[-1]


class Aside:
    """Work that nobody waits for, and that is not forgotten."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("failed_aside", error=repr(error))


class Flights:
    def __init__(
        self,
        chain: OnChain,
        key: Key,
        *,
        journal: Journal,
        clock: Callable[[], float],
        limits: Limits,
        landed: Callable[[], None],
        back: Callable[[Item], None],
    ) -> None:
        """`landed()` is told when there is room for another flight, `back(item)` of a settlement that is to be sent
        again; `clock` gives unix seconds for the journal."""
        self.key = key
        self.gas_wei: int | None = None
        self.too_dear = False
        """Gas costs more than is allowed to be paid for it."""
        self.tip = limits.tip_wei
        self.loaded = False
        """Whether what is in the journal is known here."""
        self._chain = chain
        self._rpc = chain.rpc
        self._journal = journal
        self._clock = clock
        self._limits = limits
        self._landed_event = landed
        self._back = back
        self._open: dict[int, Flight] = {}
        self._next_nonce = 0
        self._chain_nonce = 0
        """The highest count of mined transactions of this key that a node has told us."""
        self._loading = asyncio.Lock()
        self._sync_sends = True
        self._filling: set[int] = set()
        self._wake = asyncio.Event()
        self._aside = Aside()

    @property
    def in_flight(self) -> int:
        """Transactions that no block has yet."""
        return sum(flight.mined is None for flight in self._open.values())

    @property
    def free_wei(self) -> int:
        """Gas money that nothing on its way may still take: a node holds each transaction against all before it."""
        open = (flight.latest.transaction for flight in self._open.values() if flight.mined is None)
        return (self.gas_wei or 0) - sum(transaction.gas * transaction.max_fee for transaction in open)

    @property
    def items(self) -> list[Item]:
        """Whoever waits for something that was sent."""
        return [item for flight in self._open.values() for item in flight.items.values()]

    async def close(self) -> None:
        await self._aside.close()

    def carrying(self, settlement_id: str) -> Flight | None:
        return next((flight for flight in self._open.values() if settlement_id in flight.carried), None)

    def join(self, flight: Flight, item: Item) -> Item:
        """Waits with whoever waits for this settlement already."""
        self._wake.set()
        return flight.items.setdefault(item.settlement.id, item)

    # the nonces

    def forget(self) -> None:
        """After a write that may or may not have happened: the journal is read again before anything else is sent.
        Flights that are known stay; their nonces are taken whatever the journal says."""
        self.loaded = False

    async def load(self) -> None:
        """The flights that whoever had the key before has left, taken up again."""
        async with self._loading:
            if not self.loaded:
                await self._load()

    async def _load(self) -> None:
        network = self._chain.network.id
        address = self.key.address.lower()
        stored = await self._journal.pending(network, address)
        after = await self._journal.nonce_after(network, address)
        self.heard(
            await self._rpc.latest(
                [("eth_getTransactionCount", self.key.address, "latest")],
                lambda _, answers: quantity(answers[0], bits=63),
            )
        )
        for attempt in stored:
            signed = Signed(transactions.read(attempt.raw), attempt.raw, attempt.hash)
            flight = self._open.setdefault(attempt.nonce, Flight(attempt.nonce, [], attempt.settlements))
            if all(version.hash != signed.hash for version in flight.versions):
                flight.versions.append(signed)
        self._next_nonce = max(after, self._chain_nonce, *(nonce + 1 for nonce in self._open))
        self.loaded = True
        self._wake.set()

    def heard(self, nonce: int) -> None:
        """The chain's count never goes back, whatever a lagging node says; ours is never below it."""
        self._chain_nonce = max(self._chain_nonce, nonce)
        self._next_nonce = max(self._next_nonce, self._chain_nonce)

    # taking off

    async def take_off(self, head: Block, items: list[Item], gas: int) -> None:
        """Signs, writes down, sends. From the journal's yes on, the nonce is taken."""
        nonce = self._next_nonce
        while items:
            signed = self._sign(nonce, head, items, gas)
            refused = await self._write_down(signed, 0, tuple(item.settlement.id for item in items))
            if refused is None:
                for item in items:
                    item.answer(Unknown("it could not be written down, so nothing was sent"))
                return
            if not refused:
                break
            for item in items:
                if item.settlement.id in refused:
                    item.answer(Unknown("it has ended already, or may not be sent any more"))
            items = [item for item in items if item.settlement.id not in refused]
        else:
            return
        self._next_nonce = max(self._next_nonce, nonce + 1)
        flight = Flight(nonce, [signed], tuple(item.settlement.id for item in items))
        flight.items = {item.settlement.id: item for item in items}
        flight.sent_at_block = head.number
        if not self._open:
            self._wake.set()
        self._open[nonce] = flight
        self._aside(self._broadcast(flight))

    def _sign(self, nonce: int, head: Block, items: Sequence[Item], gas: int) -> Signed:
        calls = [item.due.call for item in items]
        to, payload = calls[0] if len(calls) == 1 else calldata.aggregate3(calls)
        tip, max_fee = self.fees(head)
        transaction = Transaction(self._rpc.chain_id, nonce, tip, max_fee, gas, to, payload)
        return transactions.sign(transaction, self.key)

    def fees(self, head: Block) -> tuple[int, int]:
        """(tip, the most) in wei a unit of gas: room for the base fee to double, never above the cap."""
        tip = min(self.tip, self._limits.max_fee_wei)
        return tip, min(2 * head.base_fee + tip, self._limits.max_fee_wei)

    async def _write_down(self, signed: Signed, number: int, carried: tuple[str, ...]) -> tuple[str, ...] | None:
        """The journal's word: () to send, ids that may not be sent, or None when nothing is known."""
        attempt = Attempt(
            network=self._chain.network.id,
            key=self.key.address.lower(),
            nonce=signed.transaction.nonce,
            number=number,
            hash=signed.hash,
            raw=signed.raw,
            max_fee_per_gas=signed.transaction.max_fee,
            settlements=carried,
            sent_ms=int(self._clock() * 1000),
        )
        try:
            return await self._journal.sending(attempt)
        except Exception as error:  # noqa: BLE001 whatever the store's trouble is: nothing unwritten is ever sent
            log.error("attempt_not_written", nonce=attempt.nonce, error=type(error).__name__)
            self.forget()
            return None

    async def _broadcast(self, flight: Flight) -> None:
        """Hands the bytes to a node. Whatever it answers but a receipt, the watch finds out what became of them."""
        signed = flight.latest
        flight.resend_at = self._now() + flight.resend_after_s
        flight.resend_after_s = min(flight.resend_after_s * 2, RETRY_MAX_S)
        raw = "0x" + signed.raw.hex()
        flight.sending = self._sync_sends
        at_block = self._rpc.head
        try:
            if self._sync_sends:
                wait_s = max(self._chain.network.block_time_s * SYNC_BLOCKS, SYNC_MIN_S)
                found = receipt(await self._rpc.call("eth_sendRawTransactionSync", raw, wait_s=wait_s), signed.hash)
                crash.point("settle.after_broadcast")
                if found is not None:
                    await self._landed(flight, found)
                    return
            else:
                await self._rpc.call("eth_sendRawTransaction", raw)
                crash.point("settle.after_broadcast")
        except RpcError as error:
            if error.unsupported and self._sync_sends:
                self._sync_sends = False
                flight.resend_at = 0.0
            else:
                self._not_taken(flight, error)
        except RpcUnavailable as failure:
            log.info("broadcast_unanswered", nonce=flight.nonce, cause=str(failure))
            if self._rpc.head > at_block + 1:
                # Blocks have come and nothing was said: this node's synchronous send is no help.
                self._sync_sends = False
        finally:
            flight.sending = False
        self._wake.set()

    def _not_taken(self, flight: Flight, error: RpcError) -> None:
        text = error.message.lower()
        if "already known" in text or "already imported" in text:
            return
        if "insufficient funds" in text:
            self.gas_wei = 0
        if "underpriced" in text or "less than block base fee" in text:
            flight.underpriced = True
        log.info("broadcast_refused", nonce=flight.nonce, code=error.code, cause=error.message[:120])

    # what becomes of it

    async def watch(self) -> None:
        """Looks after the flights until none is left: soon after a broadcast, then less and less often, at least once
        a block."""
        if not self._open:
            self._wake.clear()
            await self._wake.wait()
        pause_s = POLL_FIRST_S
        while self._open:
            self._wake.clear()
            pace_s = min(self._chain.network.block_time_s, PACE_MAX_S)
            pause_s = min(pause_s * 2, pace_s) if self._unheard() else pace_s
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
                pause_s = POLL_FIRST_S
            except TimeoutError:
                pass
            await self._tend(await self._look())

    def _unheard(self) -> bool:
        """Whether there is a transaction that no block has and that no node will tell us about by itself."""
        return any(flight.mined is None and not flight.sending for flight in self._open.values())

    async def _look(self) -> Block:
        """Receipts of what is not closed, in one batch."""
        flights = self._worth_a_look()
        hashes = [(flight, version.hash) for flight in flights for version in flight.versions]

        def understand(head: Block, answers: list[Answer]) -> tuple[Block, int, dict[int, Receipt]]:
            mined = {}
            for (flight, hash), answer in zip(hashes, answers[1:], strict=True):
                found = receipt(answer, hash)
                if found is not None:
                    mined[flight.nonce] = found
            return head, quantity(answers[0], bits=63), mined

        head, nonce, mined = await self._rpc.latest(
            [
                ("eth_getTransactionCount", self.key.address, "latest"),
                *(("eth_getTransactionReceipt", hash) for _, hash in hashes),
            ],
            understand,
        )
        self.heard(nonce)
        for flight in flights:
            found = mined.get(flight.nonce)
            if found is not None:
                await self._landed(flight, found, head)
            elif flight.mined is not None:
                log.warning("taken_back", nonce=flight.nonce)
                flight.mined = None
                flight.resend_at = 0.0
                flight.paid.clear()
            elif nonce > flight.nonce:
                await self._overtaken(flight)
        return head

    def _worth_a_look(self) -> list[Flight]:
        """All that no block has; of the others those that may be closed now, and as many more as fit."""
        unmined, deep, rest = [], [], []
        for flight in self._open.values():
            if flight.mined is None:
                unmined.append(flight)
            elif self._rpc.head - flight.mined.block + 1 >= self._chain.final_depth:
                deep.append(flight)
            else:
                rest.append(flight)
        return [*unmined, *deep[:LOOK_MAX], *rest[: max(LOOK_MAX - len(deep), 0)]]

    async def _landed(self, flight: Flight, found: Receipt, head: Block | None = None) -> None:
        """It is in a block: whoever was paid by it is told; when it is deep, the nonce is closed."""
        crash.point("settle.after_receipt")
        news = flight.mined is None
        flight.mined = found
        self._rpc.heard_of(found.block)
        seen = head.number if head is not None else self._rpc.head
        for id, item in flight.items.items():
            settled = self._chain.proof(item.due, [found], seen)
            if isinstance(settled, Settled):
                flight.paid.add(id)
                item.answer(settled)
            elif settled is None and news:
                self._aside(self._paid_by_another(flight, item))
        if news:
            self._landed_event()
        if head is not None and head.number - found.block + 1 >= self._chain.final_depth:
            await self._close(flight, found.transaction)

    async def _paid_by_another(self, flight: Flight, item: Item) -> None:
        """Ours did not pay it: somebody may have taken what was signed out of the pool and been quicker."""
        settled = await self._chain.find(item.settlement, ())
        if isinstance(settled, Settled):
            flight.paid.add(item.settlement.id)
            item.answer(settled)

    async def _overtaken(self, flight: Flight) -> None:
        """The nonce is used and not by us, as far as this reader knows: sure only at depth."""
        depth = self._rpc.head - self._chain.final_depth + 1
        if depth < 0:
            return
        hashes = [version.hash for version in flight.versions]

        def understand(answers: list[Answer]) -> bool:
            used = quantity(answers[0], bits=63) > flight.nonce
            return used and all(receipt(*each) is None for each in zip(answers[1:], hashes, strict=True))

        if await self._rpc.read(
            [
                ("eth_getTransactionCount", self.key.address, hex(depth)),
                *(("eth_getTransactionReceipt", hash) for hash in hashes),
            ],
            understand,
        ):
            log.warning("nonce_used_elsewhere", nonce=flight.nonce)
            await self._close(flight, None)

    async def _close(self, flight: Flight, mined_hash: str | None) -> None:
        """Nothing of this nonce can happen any more. What it did not pay may be sent again, if it is alive."""
        if flight.closing:
            return
        flight.closing = True
        try:
            await self._journal.closed(self._chain.network.id, self.key.address.lower(), flight.nonce, mined_hash)
            for id in flight.carried:
                if id not in flight.paid:
                    await self._send_back(id, flight.items.get(id), alone=len(flight.carried) == 1, mined=mined_hash)
            self._open.pop(flight.nonce, None)
            self._landed_event()
        finally:
            flight.closing = False

    async def _send_back(self, id: str, item: Item | None, *, alone: bool, mined: str | None) -> None:
        """SENT back to QUEUED. In company it goes alone next time; what failed alone has had its chance."""
        if item is not None:
            found = await self._chain.find(item.settlement, ())
            if not isinstance(found, Unknown):
                item.answer(found)
                return
        try:
            await self._journal.retry(id)
        except (Conflict, IllegalMove):
            # It has ended, or was taken up elsewhere meanwhile.
            return
        if item is None:
            return
        if alone and mined is not None:
            item.answer(Refused(reasons.TRANSACTION_FAILED, "the chain refused it", final=False))
        elif not item.done.done():
            item.alone = mined is not None
            self._back(item)

    async def _tend(self, head: Block) -> None:
        """Sends again what no block has: the same bytes, or dearer ones when blocks pass it by."""
        self._fill_holes()
        now = self._now()
        for flight in sorted(self._open.values(), key=lambda each: each.nonce):
            if flight.mined is not None or not flight.versions:
                continue
            passed = head.number - flight.sent_at_block
            # Once a block at most: what a block's base fee will be is not known before the one before it.
            stuck = flight.sent_at_block and passed >= (1 if flight.underpriced else STUCK_BLOCKS)
            if stuck and await self._replace(flight, head):
                continue
            if now >= flight.resend_at and not flight.sending:
                flight.sent_at_block = flight.sent_at_block or head.number
                self._aside(self._broadcast(flight))

    async def _replace(self, flight: Flight, head: Block) -> bool:
        """The same nonce and the same calls for more money, within the cap."""
        old = flight.latest.transaction
        tip, max_fee = self.fees(head)
        tip = max(tip, old.tip * BUMP_PERCENT // 100 + 1)
        max_fee = max(max_fee, old.max_fee * BUMP_PERCENT // 100 + 1)
        if max_fee > self._limits.max_fee_wei or tip > max_fee:
            self.too_dear = True
            return False
        signed = transactions.sign(old.dearer(tip, max_fee), self.key)
        refused = await self._write_down(signed, len(flight.versions), flight.carried)
        if refused is None or refused:
            # A settlement of it has ended some other way; the bytes that are out stay good, so they are sent on.
            return False
        log.info("replaced", nonce=flight.nonce, max_fee=max_fee)
        flight.versions.append(signed)
        flight.underpriced = False
        flight.sent_at_block = head.number
        flight.resend_after_s = RETRY_FIRST_S
        self._aside(self._broadcast(flight))
        return True

    def _fill_holes(self) -> None:
        """A nonce that nobody has taken stops all behind it: an empty transaction to ourselves takes it."""
        last = max(self._open, default=0)
        for nonce in range(self._chain_nonce, last):
            if nonce not in self._open and nonce not in self._filling:
                self._filling.add(nonce)
                self._aside(self._fill(nonce))

    async def _fill(self, nonce: int) -> None:
        try:
            head = await self._rpc.latest([], lambda head, _: head)
            tip, max_fee = self.fees(head)
            address = self.key.address.lower()
            empty = Transaction(self._rpc.chain_id, nonce, tip, max_fee, GAS_BASE, address, b"")
            signed = transactions.sign(empty, self.key)
            if nonce >= self._chain_nonce and await self._write_down(signed, 0, ()) == ():
                log.warning("gap_filled", nonce=nonce)
                self._open[nonce] = Flight(nonce, [signed], (), sent_at_block=head.number)
                await self._broadcast(self._open[nonce])
        finally:
            self._filling.discard(nonce)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
