"""Several settlers as one: each network has the settler that serves it."""

import asyncio
from collections.abc import Sequence

from gateway.core.settlement import Settled, Settlement
from gateway.core.x402.messages import Requirements
from gateway.core.x402.verify import Verified
from gateway.settlement import reasons
from gateway.settlement.protocol import Admitted, Health, Refused, Settler, Unknown


class Several:
    def __init__(self, settlers: Sequence[Settler]) -> None:
        """Raises ValueError for two settlers of one network, and for a sandbox beside a real chain."""
        self._settlers = tuple(settlers)
        self._by_network = {network: settler for settler in settlers for network in settler.networks}
        self.networks = tuple(network for settler in settlers for network in settler.networks)
        if len(self._by_network) != len(self.networks):
            raise ValueError("one network has one settler")
        self.sandbox = any(settler.sandbox for settler in settlers)
        self.journals = all(settler.journals for settler in settlers)
        if self.sandbox and len(settlers) > 1:
            raise ValueError("play money and real money do not go together")

    def facilitator_addresses(self, network: str) -> tuple[str, ...]:
        settler = self._by_network.get(network)
        return settler.facilitator_addresses(network) if settler else ()

    def sponsors(self, network: str) -> bool:
        settler = self._by_network.get(network)
        return settler is not None and settler.sponsors(network)

    def serves(self, requirements: Requirements) -> bool:
        settler = self._by_network.get(requirements.network)
        return settler is not None and settler.serves(requirements)

    async def start(self) -> None:
        await asyncio.gather(*(settler.start() for settler in self._settlers))

    async def close(self) -> None:
        await asyncio.gather(*(settler.close() for settler in self._settlers))

    async def check(self, payment: Verified) -> Admitted | Refused | Unknown:
        settler = self._by_network.get(payment.requirements.network)
        if settler is None:
            return Refused(reasons.NOT_ASKED_FOR, "nobody settles on this network here")
        return await settler.check(payment)

    async def settle(self, settlement: Settlement) -> Settled | Refused | Unknown:
        settler = self._by_network.get(settlement.network)
        if settler is None:
            return Unknown(f"nobody settles on {settlement.network} here any more")
        return await settler.settle(settlement)

    async def find(self, settlement: Settlement) -> Settled | Refused | Unknown:
        settler = self._by_network.get(settlement.network)
        if settler is None:
            return Unknown(f"nobody settles on {settlement.network} here any more")
        return await settler.find(settlement)

    async def health(self) -> Health:
        """Ready when all are: an offer on a network that cannot take it is a promise not kept."""
        told = await asyncio.gather(*(settler.health() for settler in self._settlers))
        return Health(
            ready=all(each.ready for each in told),
            alarms=tuple(dict.fromkeys(alarm for each in told for alarm in each.alarms)),
            facts={",".join(settler.networks): each.facts for settler, each in zip(self._settlers, told, strict=True)},
        )
