"""A settler that answers what a test tells it, over the sandbox, and counts what it was asked."""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.core.settlement import Settled, Settlement
from gateway.core.x402.verify import Verified
from gateway.settlement.protocol import Admitted, Refused, Unknown
from gateway.settlement.sandbox import Sandbox

Settle = Callable[["Fickle", Settlement], Awaitable[Settled | Refused | Unknown]]


class Fickle(Sandbox):
    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.checks: list[Verified] = []
        self.settles: list[str] = []
        self.settle_as: Settle | None = None

    async def check(self, payment: Verified) -> Admitted | Refused | Unknown:
        self.checks.append(payment)
        return await super().check(payment)

    async def settle(self, settlement: Settlement) -> Settled | Refused | Unknown:
        self.settles.append(settlement.id)
        if self.settle_as is not None:
            return await self.settle_as(self, settlement)
        return await super().settle(settlement)

    async def really(self, settlement: Settlement) -> Settled | Refused | Unknown:
        return await super().settle(settlement)
