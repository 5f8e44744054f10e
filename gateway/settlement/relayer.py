"""The relayer: collects payments with keys of our own.

One network, one lane for each key. `exact` goes by the first key, whoever signed; `upto` by the key whose address was
signed for, so a key that is being replaced stays in the list until it has nothing left to settle.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from gateway.core.networks import Network
from gateway.core.settlement import Settled, Settlement, State
from gateway.core.x402.messages import Permit2, Requirements
from gateway.core.x402.verify import Verified
from gateway.settlement import reasons
from gateway.settlement.lane import Lane, Limits
from gateway.settlement.onchain import FINAL_DEPTH, PROOF_DEPTH, OnChain, due_of
from gateway.settlement.protocol import Admitted, Health, Journal, Lock, Refused, Unknown
from gateway.settlement.rpc import Rpc
from gateway.settlement.transactions import Key

log = structlog.get_logger("relayer")

__all__ = ["Limits", "Relayer"]

LOOK_EVERY_S, LOOK_AGAIN_S = 15.0, 3.0


class Relayer:
    sandbox = False
    journals = True

    def __init__(
        self,
        *,
        network: Network,
        pay_to: str,
        rpc: Rpc,
        keys: Sequence[bytes],
        journal: Journal,
        lock: Callable[[str], Lock],
        clock: Callable[[], float],
        limits: Limits | None = None,
        methods: Sequence[str] = ("eip3009", "permit2"),
        proof_depth: int = PROOF_DEPTH,
        final_depth: int = FINAL_DEPTH,
    ) -> None:
        """`keys` are 32 bytes each, the one to send with first; `lock(name)` makes the lock for a key on a chain, by a
        name that is good for a file; `network.tokens` are what is taken, `methods` (eip3009, permit2) how."""
        self.networks = (network.id,)
        self.chain = OnChain(network, rpc, pay_to=pay_to, proof_depth=proof_depth, final_depth=final_depth)
        self._limits = limits = limits or Limits()
        self._methods = tuple(methods)
        self._journal = journal
        self._lanes = [
            Lane(
                self.chain,
                key,
                journal=journal,
                lock=lock(f"{network.chain_id}-{key.address.lower()}"),
                clock=clock,
                limits=limits,
            )
            for key in map(Key, keys)
        ]
        self._by_address = {lane.key.address.lower(): lane for lane in self._lanes}
        self._tasks: list[asyncio.Task[None]] = []

    def facilitator_addresses(self, network: str) -> tuple[str, ...]:
        return tuple(lane.key.address for lane in self._lanes) if network in self.networks else ()

    def sponsors(self, network: str) -> bool:
        return network in self.networks and "permit2" in self._methods

    def serves(self, requirements: Requirements) -> bool:
        return self.chain.serves(requirements)

    async def start(self) -> None:
        """Takes up what was left open; goes on in the background when the chain is out of reach."""
        for lane in self._lanes:
            await lane.start()
        self._tasks = [asyncio.create_task(self._keep_looking(), name="relayer look")]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    async def check(self, payment: Verified) -> Admitted | Refused | Unknown:
        lane = self._lane_of(payment.payment.authorization)
        if lane is None:
            return Refused(reasons.NOT_OUR_KEY, "none of our keys may settle this")
        return await self.chain.check(payment, lane.key.address, max_fee_wei=self._limits.max_fee_wei, saw=lane.saw)

    async def settle(self, settlement: Settlement) -> Settled | Refused | Unknown:
        if not self.chain.owes(settlement) or settlement.abandoned:
            return Unknown("nothing of this kind is sent")
        lane = self._lane_of(due_of(settlement).payment.authorization)
        if lane is None:
            return Unknown("none of our keys may settle this")
        if settlement.state is State.QUEUED:
            return await lane.settle(settlement)
        found = await self.find(settlement)
        if not isinstance(found, Unknown):
            return found
        return await lane.follow(settlement) or found

    async def find(self, settlement: Settlement) -> Settled | Refused | Unknown:
        attempts = await self._journal.attempts_of(settlement.id)
        return await self.chain.find(settlement, [attempt.hash for attempt in attempts])

    async def health(self) -> Health:
        alarms = [*self.chain.rpc.alarms, *self.chain.alarms]
        funds = [lane.flights.gas_wei for lane in self._lanes]
        low = any(wei is not None and wei < self._limits.gas_low_wei for wei in funds)
        alarms += ["relayer_funds_low"] if low else []
        alarms += ["gas_too_dear"] if any(lane.flights.too_dear for lane in self._lanes) else []
        return Health(
            ready=self.chain.confirmed
            and None not in funds
            and not self.chain.alarms
            and "rpc_unreachable" not in alarms,
            alarms=tuple(alarms),
            facts={
                "network": self.networks[0],
                "block": self.chain.rpc.head,
                "keys": [
                    {
                        "address": lane.key.address,
                        "gas_wei": lane.flights.gas_wei,
                        "owner": lane.owner,
                        "waiting": lane.waiting,
                        "in_flight": lane.flights.in_flight,
                    }
                    for lane in self._lanes
                ],
            },
        )

    def _lane_of(self, signed: object) -> Lane | None:
        if isinstance(signed, Permit2) and signed.facilitator is not None:
            return self._by_address.get(signed.facilitator)
        return self._lanes[0]

    async def _keep_looking(self) -> None:
        """Whether the chain is as configured, until it is; the funds and the tokens for ever."""
        while True:
            await self.chain.confirm(self._methods, batches=True)
            for lane in self._lanes:
                await lane.look_at_funds()
            await asyncio.sleep(LOOK_EVERY_S if self.chain.confirmed else LOOK_AGAIN_S)
