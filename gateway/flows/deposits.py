"""Deposits by plain transfer: claimed by their agent, or found by the watcher, whichever comes first.

    claim(...)   one transaction that an agent names: cheap checks, one look at the chain, then the books
    run()        forever, in one process at a time: what has come since, and whether what came is still there

Both say the same thing to the same function of the store, which makes one credit of one log. The watcher looks at the
last blocks again and again: a reorganisation may put a transfer into blocks that were searched before.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from gateway.core import ids
from gateway.core.deposit import Arrival, Match
from gateway.core.errors import Code, Conflict, Problem
from gateway.core.money import format_usd
from gateway.settlement.protocol import Arrivals, Lock, Mined, Missing, Unknown
from gateway.store import deposits, wallets
from gateway.store.database import Database, Tx
from gateway.store.deposits import DepositView

log = structlog.get_logger("deposits")

EVERY_S = 4.0
SPAN_BLOCKS = 2_000
"""How many blocks one look into the logs may span; halved where a node finds that too much."""
FINAL_BLOCKS = 12
"""How much deeper than it is credited a transfer is looked after."""
CLAIMS_AT_ONCE = 4
"""Looks at the chain for claims; others wait for their turn."""
FAILING_ROUNDS = 15
"""After so many rounds in a row that have seen nothing the operator is told."""
WATCHED_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class DepositTerms:
    """What an operator has decided about deposits."""

    min_micros: int = 1_000_000
    confirmations: int = 6
    match: Match | None = None
    block_time_s: Mapping[str, float] = field(default_factory=dict)
    """By network: how long a client is told to wait for a block."""


class Deposits:
    def __init__(
        self,
        *,
        db: Database,
        chains: Sequence[Arrivals],
        terms: DepositTerms,
        lock: Callable[[str], Lock],
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        alarm: Callable[[str, str], None] = lambda name, subject: None,
        every_s: float = EVERY_S,
    ) -> None:
        """`lock(name)` makes the lock of a chain's watcher, by a name that is good for a file."""
        self.terms = terms
        self.chains = tuple(chains)
        self._db = db
        self._by_id = {chain.chain_id: chain for chain in chains}
        self._locks = {chain.network: lock(str(chain.chain_id)) for chain in chains}
        self._spans = dict.fromkeys((chain.network for chain in chains), SPAN_BLOCKS)
        self._failed = dict.fromkeys((chain.network for chain in chains), 0)
        self._looks = asyncio.Semaphore(CLAIMS_AT_ONCE)
        self._clock = clock
        self._entropy = entropy
        self._alarm = alarm
        self._every_s = every_s

    # claims

    async def claim(self, agent_id: str, chain_id: int, transaction: str) -> list[DepositView]:
        """What this agent was credited for this transaction (its hash in lower case), now or before. Raises Problem."""
        chain = self._by_id.get(chain_id)
        if chain is None:
            raise Problem(
                Code.CHAIN_NOT_ACCEPTED,
                "deposits are not taken on this chain",
                details={"chain_ids": sorted(self._by_id)},
            )
        known = await self._db.read(_known, agent_id, chain.network, transaction)
        if known:
            return known
        async with self._looks:
            mined = await chain.transaction(transaction)
        arrivals = self._deep(chain, _in_block(mined))
        return await self._db.write(deposits.claimed, agent_id, arrivals, self._new_ids(arrivals), self.terms.match)

    async def height(self, chain_id: int) -> int:
        """The newest block there. Raises Problem SETTLEMENT_UNAVAILABLE."""
        async with self._looks:
            head = await self._by_id[chain_id].head()
        if isinstance(head, Unknown):
            log.warning("height_unknown", cause=head.message)
            raise Problem(
                Code.SETTLEMENT_UNAVAILABLE, "the chain cannot be asked just now; ask again in a while", retry_after_s=5
            )
        return head

    def _deep(self, chain: Arrivals, mined: Mined) -> tuple[Arrival, ...]:
        """Its transfers to us, if they count. Raises Problem."""
        if not mined.succeeded:
            raise Problem(Code.TRANSACTION_FAILED, "this transaction failed: it has moved nothing")
        if not mined.arrivals:
            reason = "other_token" if mined.other_tokens else "other_address" if mined.elsewhere else "no_transfer"
            raise Problem(Code.NO_DEPOSIT_IN_TRANSACTION, _NOTHING[reason], details={"reason": reason})
        enough = tuple(arrival for arrival in mined.arrivals if arrival.amount_micros >= self.terms.min_micros)
        if not enough:
            least = format_usd(self.terms.min_micros)
            raise Problem(Code.DEPOSIT_BELOW_MINIMUM, f"a deposit is at least {least} USD", details={"min_usd": least})
        missing = self.terms.confirmations - mined.depth
        if missing > 0:
            raise Problem(
                Code.CONFIRMATIONS_PENDING,
                f"this transfer is {mined.depth} of {self.terms.confirmations} blocks deep: claim it again in a while",
                details={"confirmations": mined.depth, "required": self.terms.confirmations},
                retry_after_s=max(int(missing * self.terms.block_time_s.get(chain.network, 2.0)), 1),
            )
        return enough

    # the watcher

    async def run(self) -> None:
        """Forever. One failing round is told and does not end the next. Cancelled at shutdown."""
        try:
            while True:
                for chain in self.chains:
                    await self._round(chain)
                await asyncio.sleep(self._every_s)
        finally:
            for lock in self._locks.values():
                lock.release()

    async def _round(self, chain: Arrivals) -> None:
        if not self._locks[chain.network].acquire():
            return  # another process watches
        try:
            failure = await self.look(chain)
        except Exception:
            log.exception("deposit_watch_failed", network=chain.network)
            failure = Unknown("it failed")
        if failure is None:
            self._failed[chain.network] = 0
            return
        self._failed[chain.network] += 1
        log.info("deposits_not_seen", network=chain.network, cause=failure.message)
        if self._failed[chain.network] % FAILING_ROUNDS == 0:
            self._alarm("deposit_watch_failing", chain.network)

    async def look(self, chain: Arrivals) -> Unknown | None:
        """One round on one chain. Unknown: it could not see all there is, and the next goes on from here."""
        head = await chain.head()
        if isinstance(head, Unknown):
            return head
        unsure = await self._look_after(chain)
        if await self._db.read(deposits.any_linked_since):
            for view in await self._db.write(deposits.linked_since, self.terms.match):
                log.info("deposit_credited", deposit=view.deposit.id, agent=view.deposit.party)
        return await self._search(chain, head - self.terms.confirmations + 1) or unsure

    async def _look_after(self, chain: Arrivals) -> Unknown | None:
        """Whether what came is still there: gone, it is withdrawn; deep enough, it is final."""
        watched = await self._db.read(deposits.watched, chain.network)
        for start in range(0, len(watched), WATCHED_AT_ONCE):
            views = watched[start : start + WATCHED_AT_ONCE]
            seen = await chain.still([_arrival(view) for view in views])
            if isinstance(seen, Unknown):
                return seen
            head, places = seen
            for view, now in zip(views, places, strict=True):
                await self._settle(view, now, head)
        return None

    async def _settle(self, view: DepositView, now: Arrival | Missing | Unknown, head: int) -> None:
        match now:
            case Missing():
                try:
                    moved = await self._db.write(deposits.taken_back, view.deposit.id)
                except Conflict:  # final meanwhile
                    moved = False
                if not moved:
                    return
                log.error("deposit_taken_back", deposit=view.deposit.id, agent=view.deposit.party)
                self._alarm("deposit_taken_back", view.deposit.id)
            case Arrival(block=block, block_hash=block_hash):
                final = head - block + 1 >= self.terms.confirmations + FINAL_BLOCKS
                if final or (block, block_hash) != (view.block, view.block_hash):
                    await self._db.write(deposits.confirmed, view.deposit.id, block, block_hash, final=final)

    async def _search(self, chain: Arrivals, last: int) -> Unknown | None:
        """Everything up to block `last`, and once more what a reorganisation may have changed."""
        cursor = await self._db.read(deposits.cursor, chain.network, chain.address)
        if cursor is None:
            cursor = max(last, 0)  # what came earlier is claimed
        first = max(cursor - self.terms.confirmations - FINAL_BLOCKS, 0)
        while first <= last:
            until = min(first + self._spans[chain.network] - 1, last)
            found = await chain.between(first, until)
            if isinstance(found, Unknown):
                self._spans[chain.network] = max(self._spans[chain.network] // 2, 1)
                return found
            await self._credit([each for each in found if each.amount_micros >= self.terms.min_micros])
            if until + 1 > cursor:
                await self._db.write(deposits.move_cursor, chain.network, chain.address, until + 1)
            first = until + 1
        self._spans[chain.network] = min(self._spans[chain.network] * 2, SPAN_BLOCKS)
        return None

    async def _credit(self, found: Sequence[Arrival]) -> None:
        news = await self._db.read(deposits.news, found)
        if not news:
            return
        for view in await self._db.write(_all_arrived, news, self._new_ids(news), self.terms.match):
            if view.deposit.party is None:
                log.warning("deposit_of_nobody", deposit=view.deposit.id, transaction=view.transaction)
            else:
                log.info("deposit_credited", deposit=view.deposit.id, agent=view.deposit.party)

    def _new_ids(self, arrivals: Sequence[Arrival]) -> list[str]:
        now_ms = int(self._clock() * 1000)
        return [ids.new_id("dep_", now_ms, self._entropy(ids.ENTROPY_ID_BYTES)) for _ in arrivals]


_NOTHING = {
    "other_token": "this transaction sends us a token that is not taken here",
    "other_address": "this transaction moves the token to another address than the one for deposits",
    "no_transfer": "this transaction sends nothing to the address for deposits",
}


def _known(tx: Tx, /, agent_id: str, network: str, transaction: str) -> list[DepositView]:
    """What it was credited before. Raises Problem for what needs no look at the chain."""
    known = deposits.of_transaction(tx, agent_id, network, transaction)
    if not known and deposits.is_settlement(tx, network, transaction):
        raise Problem(
            Code.DEPOSIT_IS_X402_SETTLEMENT, "this transaction has settled an x402 payment, which is credited by itself"
        )
    if not known and not wallets.of_agent(tx, agent_id):
        raise Problem(
            Code.SENDER_NOT_LINKED, "no wallet is linked to this agent yet: link the one that has sent, then claim"
        )
    return known


def _all_arrived(
    tx: Tx, /, arrivals: Sequence[Arrival], deposit_ids: Sequence[str], match: Match | None
) -> list[DepositView]:
    found = [
        deposits.arrived(tx, arrival, deposit_id, match)
        for arrival, deposit_id in zip(arrivals, deposit_ids, strict=True)
    ]
    return [view for view in found if view is not None]


def _in_block(mined: Mined | Missing | Unknown) -> Mined:
    match mined:
        case Mined():
            return mined
        case Missing():
            raise Problem(
                Code.TRANSACTION_NOT_FOUND, "the chain does not have this transaction, or not yet", retry_after_s=5
            )
        case Unknown(message):
            log.warning("claim_unknown", cause=message)
            raise Problem(
                Code.SETTLEMENT_UNAVAILABLE,
                "the chain cannot be asked just now; nothing is lost, claim it again in a while",
                retry_after_s=5,
            )


def _arrival(view: DepositView) -> Arrival:
    """Where it was when it was looked at last."""
    assert view.transaction is not None
    assert view.log_index is not None
    assert view.block is not None
    assert view.block_hash is not None
    return Arrival(
        view.network, view.deposit.asset.partition("/")[2], view.sender, view.transaction, view.log_index, view.block,
        view.block_hash, view.amount_atomic, view.deposit.amount_micros,
    )  # fmt: skip
