"""A lane: one key on one chain, and the settlements that wait to be sent with it.

A chain takes a key's transactions in the order of their nonces and without a hole, so one task sends. It takes every
settlement that waits and sends them together; while it asks and writes, the next ones gather by themselves: group
commit, with the chain for a disk.

    waiting ──▶ preflight ──▶ written down ──▶ broadcast: a flight (flights.py)
                │
                │ one round trip: the latest block, our nonce and gas money, payers' code, the batch simulated;
                │ spared where `check` has seen all that of every payment within the last FRESH_S
                ▼
               refused by the chain: told at once, nothing was sent

Only payers without code share a transaction: a contract is somebody's program, and may burn what the others need. No
two Permit2 payments from one payer to us share one either: only their amounts could tell their Transfers apart. Who
brings a permit goes alone, with it or without it as his allowance is at that moment. Who failed in company goes alone
the next time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import structlog

from gateway.core.settlement import Settlement
from gateway.settlement import calldata, reasons
from gateway.settlement.flights import (
    RETRY_FIRST_S,
    RETRY_MAX_S,
    Aside,
    Flights,
    Item,
    Limits,
    Outcome,
)
from gateway.settlement.onchain import OnChain, Sight, due_of, eth_call, reverts, simulation
from gateway.settlement.protocol import Admitted, Journal, Lock, Refused, Unknown
from gateway.settlement.rpc import Answer, Block, Call, RpcError, RpcUnavailable, data, quantity, word
from gateway.settlement.transactions import Key

log = structlog.get_logger("lane")

__all__ = ["Lane", "Limits"]

GAS_BATCH = 40_000
"""What a batch costs before its first call."""
ROUND_BATCHES_MAX = 4
DEPARTURES_A_BLOCK = 8
TIP_EVERY_S = 15.0
OWNER_EVERY_S = 0.5
CODED_MAX = 4096
FRESH_S, FRESH_BLOCKS = 0.5, 0.5
"""How long what `check` saw of a payment is as good as a look just before sending: less than it then waits for a
block. Whatever changes meanwhile fails in its own call, and is looked into."""


class Preflight(NamedTuple):
    """What one look at the chain has shown before sending."""

    head: Block
    coded: frozenset[str]
    """Payers that have code."""
    simulated: list[list[bool] | None]
    """For each group which of its payments went well; None where the group as a whole could not be tried."""
    with_permit: frozenset[str] = frozenset()
    """Ids of the settlements that need the permit that came with them."""


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
        self.flights = Flights(
            chain, key, journal=journal, clock=clock, limits=limits, landed=self._has_landed, back=self._put
        )
        self._chain = chain
        self._rpc = chain.rpc
        self._lock = lock
        self._limits = limits
        self._waiting: dict[str, Item] = {}
        self._coded: set[str] = set()
        """Payers that were seen to have code."""
        self._seen: dict[bytes, tuple[float, Sight]] = {}
        """By stored payment: what `check` saw of it, and when. The oldest first."""
        self._tip_asked_at: float | None = None
        self._departed_at = 0.0
        self._wake = asyncio.Event()
        self._landing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._aside = Aside()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def start(self) -> None:
        """Goes after what the process before has left in the air, as soon as the key is ours."""
        self._wake.set()
        self._tasks = [
            asyncio.create_task(self._forever(self._round), name=f"lane {self.key.address}"),
            asyncio.create_task(self._forever(self.flights.watch), name=f"flights {self.key.address}"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._aside.close()
        await self.flights.close()
        for item in (*self._waiting.values(), *self.flights.items):
            item.answer(Unknown("the gateway is stopping"))
        if self.owner:
            self.owner = False
            self._lock.release()

    async def look_at_funds(self) -> None:
        with suppress(RpcUnavailable, RpcError):
            self.flights.gas_wei = quantity(await self._rpc.call("eth_getBalance", self.key.address, "latest"))

    async def settle(self, settlement: Settlement) -> Outcome:
        """Sends it, or joins whoever waits for it already; waits a bounded time."""
        if not self._own():
            return Unknown("another process of this gateway sends with this key")
        item = self._joined(settlement)
        if item is None:
            item = self._item(settlement)
            self._put(item)
        return await self._outcome(item)

    async def follow(self, settlement: Settlement) -> Outcome | None:
        """Waits for one that was sent before, by this process or the one before it. None when no flight carries it."""
        if not self._own():
            return None
        try:
            await self.flights.load()
        except RpcUnavailable as failure:
            return Unknown(f"the chain cannot be asked: {failure}")
        item = self._joined(settlement)
        return None if item is None else await self._outcome(item)

    def saw(self, sight: Sight) -> None:
        """`check` has looked at a payment that this key would send."""
        self.flights.heard(sight.nonce)
        self.flights.gas_wei = sight.gas_wei
        now = self._now()
        while self._seen and now - next(iter(self._seen.values()))[0] > FRESH_S:
            self._seen.pop(next(iter(self._seen)))
        payment = sight.due.payment.kept
        self._seen.pop(payment, None)
        # Whether a permit is needed is looked at again just before sending: anybody may have submitted it.
        if sight.passed and not sight.code and sight.due.permit is None:
            self._seen[payment] = now, sight

    def _item(self, settlement: Settlement) -> Item:
        return Item(settlement, due_of(settlement), asyncio.get_running_loop().create_future())

    def _put(self, item: Item) -> None:
        self._waiting[item.settlement.id] = item
        self._wake.set()

    def _joined(self, settlement: Settlement) -> Item | None:
        item = self._waiting.get(settlement.id)
        flight = self.flights.carrying(settlement.id) if item is None else None
        if flight is None:
            return item
        return flight.items.get(settlement.id) or self.flights.join(flight, self._item(settlement))

    async def _outcome(self, item: Item) -> Outcome:
        try:
            async with asyncio.timeout(self._limits.settle_wait_s):
                return await asyncio.shield(item.done)
        except TimeoutError:
            # Not sent yet: it stays queued in the store, and whoever reads it there brings it again.
            self._waiting.pop(item.settlement.id, None)
            flight = self.flights.carrying(item.settlement.id)
            return Unknown("not in a block yet", flight.latest.hash if flight else "")

    def _own(self) -> bool:
        """Whether this process may send. Once it may, it may until it ends."""
        if not self.owner and self._lock.acquire():
            self.owner = True
            self._wake.set()
        return self.owner

    def _has_landed(self) -> None:
        self._landing.set()
        self._wake.set()

    # sending

    async def _round(self) -> None:
        """Takes whatever waits and sends it."""
        await self._wake.wait()
        if not self._own():
            await asyncio.sleep(OWNER_EVERY_S)
            return
        await self.flights.load()
        self._wake.clear()
        if self.flights.in_flight >= self._limits.in_flight_max:
            return
        await self._next_departure()
        taken = list(self._waiting.values())[: self._limits.batch_max * ROUND_BATCHES_MAX]
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
        while self.flights.in_flight and (left_s := self._departed_at + slot_s - self._now()) > 0:
            self._landing.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._landing.wait()

    async def _send(self, taken: Sequence[Item]) -> None:
        groups = self._groups(taken)
        sight = self._seen_just_now(groups) or await self._look(groups)
        self._require_cheap_gas(sight.head)
        if len(self._coded) > CODED_MAX:
            self._coded.clear()
        self._coded |= sight.coded
        for item in (item for group in groups for item in group if item.due.permit is not None):
            item.due = replace(item.due, with_permit=item.settlement.id in sight.with_permit)
        if any(len(group) > 1 and any(item.due.payer in sight.coded for item in group) for group in groups):
            # Somebody has code of whom we did not know: what was simulated with him says nothing of the others.
            self._wake.set()
            return
        dear = False
        for items in self._passed(groups, sight.simulated)[: self._limits.in_flight_max - self.flights.in_flight]:
            affordable = self._affordable(items, sight.head)
            dear |= not affordable
            still = [item for item in affordable if self._waiting.pop(item.settlement.id, None) is item]
            if still and self.flights.loaded:
                self._departed_at = self._now()
                await self.flights.take_off(sight.head, still, self._gas(still))
        if dear:
            raise RpcUnavailable("the key has no money for gas, beside what is on its way")

    def _groups(self, items: Sequence[Item]) -> list[list[Item]]:
        """Who may share a transaction with whom."""
        groups: list[list[Item]] = []
        shared: list[tuple[list[Item], set[tuple[str, str]]]] = []
        for item in items:
            due = item.due
            if item.alone or due.facilitator is not None or due.permit is not None or due.payer in self._coded:
                groups.append([item])
                continue
            mark = (due.token, due.payer) if due.by_permit2 else None
            for group, marks in shared:
                if len(group) < self._limits.batch_max and mark not in marks:
                    break
            else:
                group, marks = [], set()
                shared.append((group, marks))
                groups.append(group)
            group.append(item)
            if mark is not None:
                marks.add(mark)
        return groups

    def _seen_just_now(self, groups: list[list[Item]]) -> Preflight | None:
        """The preflight out of what `check` saw; None unless that is everything, and fresh."""
        now = self._now()
        fresh_s = min(FRESH_S, self._chain.network.block_time_s * FRESH_BLOCKS)
        heads = []
        for item in (item for group in groups for item in group):
            at, sight = self._seen.get(item.settlement.payment, (0.0, None))
            if sight is None or now - at > fresh_s or item.alone or item.due.amount != sight.due.amount:
                return None
            heads.append(sight.head)
        if self._tip_asked_at is None or now - self._tip_asked_at > TIP_EVERY_S:
            return None
        return Preflight(
            max(heads, key=lambda head: head.number), frozenset(), [[True] * len(group) for group in groups]
        )

    async def _look(self, groups: list[list[Item]]) -> Preflight:
        """One round trip. Raises RpcUnavailable, and when not a single simulation could be carried out."""
        payers = list({item.due.payer for group in groups for item in group})
        sponsored = [item for group in groups for item in group if item.due.permit is not None]
        tries = [self._tries(group) for group in groups]
        calls: list[Call] = [
            ("eth_getTransactionCount", self.key.address, "latest"),
            ("eth_getBalance", self.key.address, "latest"),
            *(("eth_getCode", payer, "latest") for payer in payers),
            *(eth_call(item.due.token, calldata.permit2_allowance(item.due.payer)) for item in sponsored),
            *(each for tried in tries for each in tried),
        ]
        ask_tip = self._tip_asked_at is None or self._now() - self._tip_asked_at > TIP_EVERY_S
        if ask_tip:
            calls.append(("eth_maxPriorityFeePerGas",))

        def understand(head: Block, answers: list[Answer]) -> Preflight:
            self.flights.heard(quantity(answers[0], bits=63))
            self.flights.gas_wei = quantity(answers[1])
            if ask_tip and not isinstance(answers[-1], RpcError):
                self.flights.tip = max(quantity(answers[-1], bits=96), self._limits.tip_wei)
            allowances = answers[2 + len(payers) :]
            with_permit = frozenset(
                item.settlement.id
                for item, allowance in zip(sponsored, allowances, strict=False)
                if item.due.way(word(allowance))
            )
            simulations, at = [], 2 + len(payers) + len(sponsored)
            for group, tried in zip(groups, tries, strict=True):
                simulations.append(answers[at + (group[0].settlement.id in with_permit)])
                at += len(tried)
            return Preflight(
                head,
                frozenset(payer for payer, code in zip(payers, answers[2:], strict=False) if data(code)),
                _outcomes([len(group) for group in groups], simulations),
                with_permit,
            )

        sight = await self._rpc.latest(calls, understand)
        if ask_tip:
            self._tip_asked_at = self._now()
        return sight

    def _require_cheap_gas(self, head: Block) -> None:
        self.flights.too_dear = head.base_fee + self._limits.tip_wei > self._limits.max_fee_wei
        if self.flights.too_dear:
            raise RpcUnavailable("gas costs more than is allowed to be paid for it")

    def _passed(self, groups: list[list[Item]], simulated: list[list[bool] | None]) -> list[list[Item]]:
        """What may be sent of each group. Who would fail is looked into; who cannot be tried in company goes alone."""
        passed: list[list[Item]] = []
        for group, outcomes in zip(groups, simulated, strict=True):
            if outcomes is None:
                self._could_not_try(group)
                continue
            good = []
            for item, ok in zip(group, outcomes, strict=True):
                if ok:
                    good.append(item)
                elif self._waiting.pop(item.settlement.id, None) is item:
                    self._aside(self._refused_by_chain(item))
            if good:
                passed.append(good)
        return passed

    def _could_not_try(self, group: list[Item]) -> None:
        for item in group:
            if len(group) > 1:
                item.alone = True
            elif self._waiting.pop(item.settlement.id, None) is item:
                item.answer(Unknown("the node could not try it"))

    def _tries(self, group: list[Item]) -> list[Call]:
        """Its simulation; of a payment that brings a permit, one without it and one with it."""
        if len(group) == 1:
            contract = group[0].due.payer in self._coded
            return [simulation(way, self.key.address, contract=contract) for way in group[0].due.ways]
        to, payload = calldata.aggregate3([item.due.call for item in group])
        return [eth_call(to, payload, sender=self.key.address, gas=self._gas(group))]

    def _gas(self, group: Sequence[Item]) -> int:
        """The limit of its transaction: the sum of what each kind may need at the most."""
        caps = sum(item.due.gas(contract=item.due.payer in self._coded) for item in group)
        return caps if len(group) == 1 else caps + GAS_BATCH

    def _affordable(self, items: list[Item], head: Block) -> list[Item]:
        """As many of them as the key has gas money for; what is left waits."""
        _, max_fee = self.flights.fees(head)
        while items and self._gas(items) * max_fee > self.flights.free_wei:
            items = items[: len(items) // 2]
        return items

    async def _refused_by_chain(self, item: Item) -> None:
        """The simulation failed: paid by somebody else, used up, expired, or merely refused now."""
        found = await self._chain.find(item.settlement, ())
        if isinstance(found, Unknown):
            try:
                why = await self._chain.diagnose(item.due, self.key.address, recovered=True)
            except RpcUnavailable as failure:
                why = Unknown(str(failure))
            if isinstance(why, Admitted):
                item.alone = True
                self._put(item)
                return
            # Used by whom? Perhaps by this very payment, in a block that is not deep or not yet with every node.
            used = isinstance(why, Refused) and why.reason == reasons.NONCE_USED
            found = Unknown("its nonce is used, by what is not sure yet") if used else why
        item.answer(found)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await step()
                pause_s = RETRY_FIRST_S
                continue
            except RpcUnavailable as failure:
                log.info("chain_unavailable", cause=str(failure))
            except Exception:  # one failing round must not end the lane; the operator sees it
                log.exception("lane_failed")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _outcomes(counts: Sequence[int], answers: Sequence[Answer]) -> list[list[bool] | None]:
    """Of simulated transactions with so many payments each: which of them went well. Raises RpcUnavailable when each
    was tried alone and none could be: then it is the node, not the payments."""
    outcomes = [_outcome(answer, count) for answer, count in zip(answers, counts, strict=True)]
    if outcomes and max(counts) == 1 and all(outcome is None for outcome in outcomes):
        raise RpcUnavailable("the node could not simulate")
    return outcomes


def _outcome(answer: Answer, count: int) -> list[bool] | None:
    if isinstance(answer, RpcError) and not answer.reverted:
        return None
    failed = reverts(answer)
    if count == 1:
        return [not failed]
    if failed:
        return None
    try:
        return calldata.aggregate3_outcomes(data(answer), count)
    except ValueError:
        return None
