"""A lane: one key on one chain, and everything that is sent with it.

A chain takes a key's transactions in the order of their nonces and without a hole, so one task owns the counter. It
takes every settlement that waits and sends them together; while it asks and writes, the next ones gather by themselves:
group commit, with the chain for a disk.

    waiting ──▶ preflight ──▶ written down ──▶ broadcast ──▶ mined ──▶ deep ──▶ closed
                │                              │             │
                │ one round trip: the latest   │ the same    │ a settlement that it did not pay goes alone once,
                │ block, our nonce, payers'    │ bytes again │ when the nonce is closed
                │ code, the batch simulated    │ until deep; dearer ones when stuck: same nonce, same calls
                ▼
               refused by the chain: told at once, nothing was sent

A flight is a nonce that is taken: its transaction, the dearer ones after it, and the settlements they carry. It is in
the journal before a byte of it leaves. Whoever dies here comes back to the same flights and sends the same bytes.

Only payers without code share a transaction: a contract is somebody's program, and may burn what the others need. No
two Permit2 payments from one payer to us share one either: only their amounts could tell their Transfers apart.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from gateway.core import crash
from gateway.core.errors import Conflict, IllegalMove
from gateway.core.settlement import Attempt, Settled, Settlement
from gateway.settlement import calldata, transactions
from gateway.settlement.onchain import Due, OnChain, due_of, eth_call, reverts, simulation
from gateway.settlement.proof import Receipt, receipt
from gateway.settlement.protocol import Admitted, Journal, Lock, Refused, Unknown
from gateway.settlement.rpc import Answer, Block, Call, RpcError, RpcUnavailable, data, quantity
from gateway.settlement.transactions import Key, Signed, Transaction

log = structlog.get_logger("lane")

Outcome = Settled | Refused | Unknown

GAS_BASE = 21_000
GAS_BATCH = 40_000
"""What a batch costs before its first call."""
BUMP_PERCENT = 125
"""Nodes want at least a tenth more for a replacement."""
STUCK_BLOCKS = 3
"""A transaction that as many blocks have passed by is offered more."""
DEPARTURES_A_BLOCK = 8
TIP_EVERY_S = 15.0
OWNER_EVERY_S = 1.0
RETRY_FIRST_S, RETRY_MAX_S = 0.05, 2.0
POLL_FIRST_S, PACE_MAX_S = 0.001, 2.0
SYNC_MARGIN_S = 1.0
LOOK_MAX = 64
"""Transactions that are in a block and not deep yet, looked at together."""
CODED_MAX = 4096


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
    failed_alone: bool = False

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
    underpriced: bool = False
    """A node would not take it for this money."""

    @property
    def latest(self) -> Signed:
        return self.versions[-1]


class Lane:
    def __init__(
        self,
        chain: OnChain,
        key: Key,
        *,
        journal: Journal,
        lock: Lock,
        clock: Callable[[], float],
        limits: Limits,
    ) -> None:
        """`lock` is held by the one process that may send with this key; `clock` gives unix seconds for the journal."""
        self.key = key
        self.owner = False
        self.gas_wei: int | None = None
        self.too_dear = False
        """Gas costs more than is allowed: nothing new is sent."""
        self._chain = chain
        self._rpc = chain.rpc
        self._journal = journal
        self._lock = lock
        self._clock = clock
        self._limits = limits
        self._waiting: dict[str, Item] = {}
        self._flights: dict[int, Flight] = {}
        self._next_nonce = 0
        self._chain_nonce = 0
        """The highest count of mined transactions of this key that a node has told us."""
        self._journal_read = False
        self._loading = asyncio.Lock()
        self._tip = limits.tip_wei
        self._tip_asked_at: float | None = None
        self._sync_sends = True
        self._coded: set[str] = set()
        """Payers that were seen to have code."""
        self._filling: set[int] = set()
        self._departed_at = 0.0
        self._wake = asyncio.Event()
        self._landing = asyncio.Event()
        self._watch_wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._side: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Transactions that no block has yet."""
        return sum(flight.mined is None for flight in self._flights.values())

    async def start(self) -> None:
        """Goes after what the process before has left in the air, as soon as the key is ours."""
        self._wake.set()
        self._tasks = [
            asyncio.create_task(self._forever(self._round), name=f"lane {self.key.address}"),
            asyncio.create_task(self._forever(self._watch), name=f"lane watch {self.key.address}"),
        ]

    async def close(self) -> None:
        tasks = [*self._tasks, *self._side]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for item in self._all_items():
            item.answer(Unknown("the gateway is stopping"))
        if self.owner:
            self.owner = False
            self._lock.release()

    async def look_at_funds(self) -> None:
        try:
            balance = await self._rpc.call("eth_getBalance", self.key.address, "latest")
            self.gas_wei = quantity(balance)
        except (RpcUnavailable, RpcError):
            return

    async def settle(self, settlement: Settlement) -> Outcome:
        """Sends it, or joins whoever waits for it already; waits a bounded time."""
        if not self._own():
            return Unknown("another process of this gateway sends with this key")
        item = self._join(settlement)
        if item is None:
            due = due_of(settlement)
            item = Item(settlement, due, asyncio.get_running_loop().create_future())
            self._waiting[settlement.id] = item
            self._wake.set()
        return await self._outcome(item)

    async def follow(self, settlement: Settlement) -> Outcome | None:
        """Waits for one that was sent before, by this process or the one before it. None when no flight carries it."""
        if not self._own():
            return None
        await self._loaded()
        item = self._join(settlement)
        return None if item is None else await self._outcome(item)

    def _join(self, settlement: Settlement) -> Item | None:
        item = self._waiting.get(settlement.id)
        if item is not None:
            return item
        for flight in self._flights.values():
            if settlement.id in flight.carried:
                if settlement.id not in flight.items:
                    flight.items[settlement.id] = Item(
                        settlement, due_of(settlement), asyncio.get_running_loop().create_future()
                    )
                    self._watch_wake.set()
                return flight.items[settlement.id]
        return None

    async def _outcome(self, item: Item) -> Outcome:
        try:
            async with asyncio.timeout(self._limits.settle_wait_s):
                return await asyncio.shield(item.done)
        except TimeoutError:
            # Not sent yet: it stays queued in the store, and whoever reads it there brings it again.
            self._waiting.pop(item.settlement.id, None)
            hashes = [f.latest.hash for f in self._flights.values() if item.settlement.id in f.carried]
            return Unknown("not in a block yet", hashes[-1] if hashes else "")

    def _all_items(self) -> list[Item]:
        return [*self._waiting.values(), *(item for f in self._flights.values() for item in f.items.values())]

    # owning the key

    def _own(self) -> bool:
        if not self.owner and self._lock.acquire():
            self.owner = True
            self._journal_read = False
            self._flights.clear()
        return self.owner

    async def _loaded(self) -> None:
        """The flights that whoever had the key before has left, taken up again."""
        async with self._loading:
            if not self._journal_read:
                await self._load()

    async def _load(self) -> None:
        network = self._chain.network.id
        address = self.key.address.lower()
        stored = await self._journal.pending(network, address)
        after = await self._journal.nonce_after(network, address)
        await self._ask_nonce()
        for attempt in stored:
            signed = Signed(transactions.read(attempt.raw), attempt.raw, attempt.hash)
            flight = self._flights.setdefault(attempt.nonce, Flight(attempt.nonce, [], attempt.settlements))
            if all(version.hash != signed.hash for version in flight.versions):
                flight.versions.append(signed)
        self._next_nonce = max(after, self._chain_nonce, *(nonce + 1 for nonce in self._flights))
        self._journal_read = True
        self._watch_wake.set()

    async def _ask_nonce(self) -> None:
        self._heard(
            await self._rpc.latest(
                [("eth_getTransactionCount", self.key.address, "latest")],
                lambda _, answers: quantity(answers[0], bits=63),
            )
        )

    def _heard(self, nonce: int) -> None:
        """The chain's count never goes back, whatever a lagging node says; ours is never below it."""
        self._chain_nonce = max(self._chain_nonce, nonce)
        self._next_nonce = max(self._next_nonce, self._chain_nonce)

    def _forget(self) -> None:
        """After a write that may or may not have happened: the journal is read again before anything else is sent.
        Flights that are known stay; their nonces are taken whatever the journal says."""
        self._journal_read = False

    # sending

    async def _round(self) -> None:
        """Takes whatever waits and sends it."""
        await self._wake.wait()
        if not self._own():
            await asyncio.sleep(OWNER_EVERY_S)
            return
        await self._loaded()
        if self.in_flight >= self._limits.in_flight_max:
            self._wake.clear()
            return
        await self._next_departure()
        taken = list(self._waiting.values())[: self._limits.batch_max * 4]
        self._wake.clear()
        if not taken:
            return
        try:
            await self._send(taken)
        finally:
            if self._waiting:
                self._wake.set()

    async def _next_departure(self) -> None:
        """At once while nothing is on its way; else when something has landed, or after a part of a block's time: what
        comes meanwhile shares the next transaction, and still makes the same block."""
        slot_s = self._chain.network.block_time_s / DEPARTURES_A_BLOCK
        while self.in_flight and (left_s := self._departed_at + slot_s - self._now()) > 0:
            self._landing.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._landing.wait()

    async def _send(self, taken: Sequence[Item]) -> None:
        groups = self._groups(taken)
        flight = await self._preflight(groups)
        if flight is None:
            return
        head, good = flight
        room = self._limits.in_flight_max - self.in_flight
        for items in good[:room]:
            still = [item for item in items if self._waiting.pop(item.settlement.id, None) is item]
            if self._journal_read:
                await self._take_off(head, still)

    def _groups(self, items: Sequence[Item]) -> list[list[Item]]:
        """Who may share a transaction with whom."""
        groups: list[list[Item]] = []
        open_groups: list[tuple[list[Item], set[tuple[str, str]]]] = []
        for item in items:
            due = item.due
            if item.alone or due.facilitator is not None or due.payer in self._coded:
                groups.append([item])
                continue
            mark = (due.token, due.payer) if due.by_permit2 else None
            for group, marks in open_groups:
                if len(group) < self._limits.batch_max and mark not in marks:
                    break
            else:
                group, marks = [], set()
                open_groups.append((group, marks))
                groups.append(group)
            group.append(item)
            if mark is not None:
                marks.add(mark)
        return groups

    async def _preflight(self, groups: list[list[Item]]) -> tuple[Block, list[list[Item]]] | None:
        """The latest block, and what of the groups the chain would take now. None: begin anew, things have changed."""
        payers = list({item.due.payer for group in groups for item in group})
        calls: list[Call] = [
            ("eth_getTransactionCount", self.key.address, "latest"),
            ("eth_getBalance", self.key.address, "latest"),
            *(("eth_getCode", payer, "latest") for payer in payers),
            *(self._simulation(group) for group in groups),
        ]
        ask_tip = self._tip_asked_at is None or self._now() - self._tip_asked_at > TIP_EVERY_S
        if ask_tip:
            calls.append(("eth_maxPriorityFeePerGas",))

        def understand(head: Block, answers: list[Answer]) -> tuple[Block, set[str], list[list[bool] | None]]:
            self._heard(quantity(answers[0], bits=63))
            self.gas_wei = quantity(answers[1])
            coded = {payer for payer, code in zip(payers, answers[2:], strict=False) if data(code)}
            first = 2 + len(payers)
            good = [_outcomes(answer, len(group)) for group, answer in zip(groups, answers[first:], strict=False)]
            if ask_tip and not isinstance(answers[-1], RpcError):
                self._tip = max(quantity(answers[-1], bits=96), self._limits.tip_wei)
            return head, coded, good

        head, coded, good = await self._rpc.latest(calls, understand)
        if ask_tip:
            self._tip_asked_at = self._now()
        self.too_dear = head.base_fee + self._limits.tip_wei > self._limits.max_fee_wei
        if self.too_dear:
            log.warning("gas_too_dear", base_fee=head.base_fee)
            raise RpcUnavailable("gas costs more than is allowed to be paid for it")
        mixed = [group for group in groups if len(group) > 1 and any(item.due.payer in coded for item in group)]
        if len(self._coded) > CODED_MAX:
            self._coded.clear()
        self._coded |= coded
        if mixed:
            return None
        return head, self._passed(groups, good)

    def _passed(self, groups: list[list[Item]], good: list[list[bool] | None]) -> list[list[Item]]:
        passed: list[list[Item]] = []
        for group, outcomes in zip(groups, good, strict=True):
            if outcomes is None:
                # The batch as a whole could not be simulated: somebody in it spoils it for all.
                for item in group:
                    item.alone = True
                continue
            for item, ok in zip(group, outcomes, strict=True):
                if not ok and self._waiting.pop(item.settlement.id, None) is item:
                    self._aside(self._refused_by_chain(item))
            if any(outcomes):
                passed.append([item for item, ok in zip(group, outcomes, strict=True) if ok])
        return passed

    def _simulation(self, group: list[Item]) -> Call:
        if len(group) == 1:
            return simulation(group[0].due, self.key.address, contract=group[0].due.payer in self._coded)
        to, payload = calldata.aggregate3([item.due.call for item in group])
        return eth_call(to, payload, sender=self.key.address, gas=self._gas(group))

    def _gas(self, group: Sequence[Item]) -> int:
        caps = sum(item.due.gas(contract=item.due.payer in self._coded) for item in group)
        return caps if len(group) == 1 else caps + GAS_BATCH

    async def _refused_by_chain(self, item: Item) -> None:
        """The simulation failed: paid by somebody else, used up, expired, or merely refused now."""
        found = await self._chain.find(item.settlement, ())
        if not isinstance(found, Unknown):
            item.answer(found)
            return
        try:
            why = await self._chain.diagnose(item.due, self.key.address, recovered=True)
        except RpcUnavailable as failure:
            why = Unknown(str(failure))
        if isinstance(why, Admitted):
            item.alone = True
            self._waiting[item.settlement.id] = item
            self._wake.set()
        else:
            item.answer(why)

    async def _take_off(self, head: Block, items: list[Item]) -> None:
        """Signs, writes down, sends. From the journal's yes on, the nonce is taken."""
        nonce = self._next_nonce
        while items:
            signed = self._sign(nonce, head, items)
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
        self._next_nonce = nonce + 1
        self._departed_at = self._now()
        flight = Flight(nonce, [signed], tuple(item.settlement.id for item in items))
        flight.items = {item.settlement.id: item for item in items}
        flight.sent_at_block = head.number
        if not self._flights:
            self._watch_wake.set()
        self._flights[nonce] = flight
        self._aside(self._broadcast(flight))

    def _sign(self, nonce: int, head: Block, items: Sequence[Item]) -> Signed:
        calls = [item.due.call for item in items]
        to, payload = calls[0] if len(calls) == 1 else calldata.aggregate3(calls)
        tip, max_fee = self._fees(head)
        transaction = Transaction(self._rpc.chain_id, nonce, tip, max_fee, self._gas(items), to, payload)
        return transactions.sign(transaction, self.key)

    def _fees(self, head: Block) -> tuple[int, int]:
        """(tip, the most) in wei a unit of gas: room for the base fee to double, never above the cap."""
        tip = min(self._tip, self._limits.max_fee_wei)
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
            self._forget()
            return None

    async def _broadcast(self, flight: Flight) -> None:
        """Hands the bytes to a node. Whatever it answers but a receipt, the watch finds out what became of them."""
        signed = flight.latest
        flight.resend_at = self._now() + flight.resend_after_s
        flight.resend_after_s = min(flight.resend_after_s * 2, RETRY_MAX_S)
        raw = "0x" + signed.raw.hex()
        flight.sending = self._sync_sends
        try:
            if self._sync_sends:
                wait_s = self._chain.network.block_time_s + SYNC_MARGIN_S
                found = receipt(await self._rpc.call("eth_sendRawTransactionSync", raw, wait_s=wait_s))
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
        finally:
            flight.sending = False
        self._watch_wake.set()

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

    async def _watch(self) -> None:
        """Looks after the flights until none is left: soon after a broadcast, then less and less often, at least once
        a block."""
        if not self._flights or not self.owner:
            self._watch_wake.clear()
            await self._watch_wake.wait()
        pause_s = POLL_FIRST_S
        while self._flights and self.owner:
            self._watch_wake.clear()
            pace_s = min(self._chain.network.block_time_s, PACE_MAX_S)
            pause_s = min(pause_s * 2, pace_s) if self._unheard() else pace_s
            try:
                async with asyncio.timeout(pause_s):
                    await self._watch_wake.wait()
                pause_s = POLL_FIRST_S
            except TimeoutError:
                pass
            await self._tend(await self._look())

    def _unheard(self) -> bool:
        """Whether there is a transaction that no block has and that no node will tell us about by itself."""
        return any(flight.mined is None and not flight.sending for flight in self._flights.values())

    async def _look(self) -> Block:
        """Receipts of what is not closed, in one batch."""
        flights = self._worth_a_look()
        hashes = [(flight, version.hash) for flight in flights for version in flight.versions]

        def understand(head: Block, answers: list[Answer]) -> tuple[Block, int, dict[int, Receipt]]:
            mined = {}
            for (flight, _), answer in zip(hashes, answers[1:], strict=True):
                found = receipt(answer)
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
        self._heard(nonce)
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
        for flight in self._flights.values():
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
        if flight.mined is None:
            self._landing.set()
            self._wake.set()
        flight.mined = found
        self._rpc.heard_of(found.block)
        seen = head.number if head is not None else self._rpc.head
        for id, item in flight.items.items():
            settled = self._chain.proof(item.due, [found], Block(seen, "", 0, 0))
            if isinstance(settled, Settled):
                flight.paid.add(id)
                item.answer(settled)
        if head is not None and head.number - found.block + 1 >= self._chain.final_depth:
            await self._close(flight, found.transaction)

    async def _overtaken(self, flight: Flight) -> None:
        """The nonce is used and not by us, as far as this reader knows: sure only at depth."""
        depth = self._rpc.head - self._chain.final_depth + 1
        if depth < 0:
            return
        hashes = [version.hash for version in flight.versions]

        def understand(answers: list[Answer]) -> bool:
            used = quantity(answers[0], bits=63) > flight.nonce
            return used and all(receipt(answer) is None for answer in answers[1:])

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
        await self._journal.closed(self._chain.network.id, self.key.address.lower(), flight.nonce, mined_hash)
        self._flights.pop(flight.nonce, None)
        self._wake.set()
        for id in flight.carried:
            if id not in flight.paid:
                await self._send_back(id, flight.items.get(id), alone=len(flight.carried) == 1, mined=mined_hash)

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
            item.answer(Refused("transaction_failed", "the chain refused it", final=False))
        elif not item.done.done():
            item.alone = mined is not None
            self._waiting[id] = item
            self._wake.set()

    async def _tend(self, head: Block) -> None:
        """Sends again what no block has: the same bytes, or dearer ones when blocks pass it by."""
        self._fill_holes()
        now = self._now()
        for flight in sorted(self._flights.values(), key=lambda each: each.nonce):
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
        tip, max_fee = self._fees(head)
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
        last = max(self._flights, default=0)
        for nonce in range(self._chain_nonce, last):
            if nonce not in self._flights and nonce not in self._filling:
                self._filling.add(nonce)
                self._aside(self._fill(nonce))

    async def _fill(self, nonce: int) -> None:
        try:
            head = await self._rpc.latest([], lambda head, _: head)
            tip, max_fee = self._fees(head)
            address = self.key.address.lower()
            empty = Transaction(self._rpc.chain_id, nonce, tip, max_fee, GAS_BASE, address, b"")
            signed = transactions.sign(empty, self.key)
            if nonce >= self._chain_nonce and await self._write_down(signed, 0, ()) == ():
                log.warning("gap_filled", nonce=nonce)
                self._flights[nonce] = Flight(nonce, [signed], (), sent_at_block=head.number)
                await self._broadcast(self._flights[nonce])
        finally:
            self._filling.discard(nonce)

    # tasks

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await step()
                pause_s = RETRY_FIRST_S
            except RpcUnavailable as failure:
                log.info("chain_unavailable", cause=str(failure))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            except Exception:  # one failing round must not end the lane; the operator sees it
                log.exception("lane_failed")
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RETRY_MAX_S)

    def _aside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._side.add(task)
        task.add_done_callback(self._side_done)

    def _side_done(self, task: "asyncio.Task[None]") -> None:
        self._side.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("lane_failed", error=repr(task.exception()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _outcomes(answer: Answer, count: int) -> list[bool] | None:
    """Of a simulated transaction with `count` payments: which went well. None: not to be told apart."""
    failed = reverts(answer)
    if count == 1:
        return [not failed]
    if failed:
        return None
    try:
        return calldata.aggregate3_outcomes(data(answer), count)
    except ValueError:
        return None
