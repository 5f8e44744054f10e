"""A settler that says what a test wrote down, and remembers what it was asked: for the flows without a gateway."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from gateway.core.settlement import ProofKind, Settled, Settlement
from gateway.core.x402.verify import Verified
from gateway.settlement.protocol import Admitted, Health, Refused, Unknown

Word = Settled | Refused | Unknown
Saying = Word | Exception | Callable[[Settlement], Awaitable[Word]]


class Teller:
    """`Teller(settle=[...], find=[...])`: one answer after the other, the last one for ever. An exception is raised;
    a function is awaited and its answer given."""

    sandbox = True
    networks = ("eip155:31337",)

    def __init__(self, *, settle: Iterable[Saying] = (), find: Iterable[Saying] = (), check: Any = None) -> None:
        self._says = {"settle": list(settle), "find": list(find)}
        self._check = check
        self.asked: list[str] = []
        """`settle stl_c1`, `find stl_c1`: everything, in order."""

    async def check(self, payment: Verified) -> Admitted | Refused | Unknown:
        self.asked.append("check")
        found: Admitted | Refused | Unknown = self._check
        return found

    async def settle(self, settlement: Settlement) -> Word:
        return await self._next("settle", settlement)

    async def find(self, settlement: Settlement) -> Word:
        return await self._next("find", settlement)

    async def _next(self, verb: str, settlement: Settlement) -> Word:
        self.asked.append(f"{verb} {settlement.id}")
        says = self._says[verb]
        saying = says.pop(0) if len(says) > 1 else says[0]
        if isinstance(saying, Exception):
            raise saying
        if isinstance(saying, Settled | Refused | Unknown):
            return saying
        return await saying(settlement)

    def serves(self, requirements: object) -> bool:
        return True

    def facilitator_addresses(self, network: str) -> tuple[str, ...]:
        return ()

    async def health(self) -> Health:
        return Health(ready=True)

    async def start(self) -> None: ...

    async def close(self) -> None: ...


def paid(atomic: int = 300, *, log: int = 1, final: bool = False) -> Settled:
    """Proven by a log of the transaction `0xt`."""
    return Settled(ProofKind.CHAIN, "0xt", log, 8, atomic, final)


NOT_YET = Unknown("not yet")
POOR = Refused("invalid_exact_evm_insufficient_balance", "moved away", final=False)
NEVER = Refused("transaction_failed", "it expired unused")
