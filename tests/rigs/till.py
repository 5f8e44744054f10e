"""A till: one gateway's settling side without the gateway. It asks, verifies what payers sign, and has it settled."""

import itertools
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rigs.chain import CHAIN_ID, NETWORK, USDC
from rigs.journal import MemoryJournal
from rigs.payer import Payer, requirements

from gateway.core.networks import Network, Token, checksum_address
from gateway.core.settlement import Event, Purpose, Settled, Settlement, State
from gateway.core.x402.messages import Requirements, parse_payment
from gateway.core.x402.verify import Verified, verify
from gateway.settlement.protocol import Settler

PAY_TO = checksum_address("0x" + "fa4e" * 10)
TOKEN = Token(NETWORK, USDC, "USDC", "USDC", "2", 6)
NETWORK_HERE = Network(NETWORK, "Base Sepolia", CHAIN_ID, True, (TOKEN,), 0.05)


@dataclass
class Till:
    """One gateway's settling side, without the gateway."""

    settler: Settler
    network: str
    token: Token
    now: Callable[[], float]
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    admitted_block: Callable[[], int] = lambda: 0
    _ids: Iterator[int] = field(default_factory=itertools.count)

    def ask(
        self, amount: int = 1000, *, method: str = "eip3009", scheme: str = "exact", **changes: Any
    ) -> dict[str, Any]:
        token = changes.pop("token", self.token)
        if scheme == "upto":
            changes.setdefault("facilitator", self.settler.facilitator_addresses(self.network)[0])
        return requirements(
            amount=amount, pay_to=changes.pop("pay_to", PAY_TO), asset=token.address, network=self.network,
            scheme=scheme, method="permit2" if scheme == "upto" else method, name=token.name, version=token.version,
            **changes,
        )  # fmt: skip

    def verified(self, payment: dict[str, Any]) -> Verified:
        """The payment as core verifies it, against what was asked."""
        asked = payment["accepted"]
        offer = Requirements(
            asked["scheme"], asked["network"], asked["amount"], asked["asset"], asked["payTo"],
            asked["maxTimeoutSeconds"], asked["extra"],
        )  # fmt: skip
        found = verify(
            parse_payment(payment), [offer], now_s=int(self.now()), work_s=0, settle_margin_s=0,
            settlers=self.settler.facilitator_addresses(self.network),
            sponsored=(self.token.asset,) if self.settler.sponsors(self.network) else (),
        )  # fmt: skip
        assert isinstance(found, Verified), found
        return found

    def queue(self, verified: Verified, *, amount: int | None = None) -> Settlement:
        """The settlement that a captured charge would have queued."""
        asked = verified.requirements
        amount = verified.value_atomic if amount is None else amount
        return self.journal.add(
            Settlement(
                id=f"stl_{next(self._ids):04}_{secrets.token_hex(4)}", purpose=Purpose.CHARGE, subject="chg_1",
                identity=verified.identity, network=asked.network, token=asked.asset.lower(), payer=verified.payer,
                pay_to=asked.pay_to.lower(), amount_atomic=amount, amount_micros=amount,
                valid_before_s=verified.valid_before_s, payment=verified.payment.kept,
                admitted_block=self.admitted_block(),
            )
        )  # fmt: skip

    def pay(self, payer: Payer, amount: int = 1000, *, actual: int | None = None, **ask: Any) -> Settlement:
        changes = ask.pop("sign", {})
        return self.queue(self.verified(payer.pay(self.ask(amount, **ask), **changes)), amount=actual)

    def sponsor(self, payer: Payer, amount: int = 1000, *, nonce: int = 0, **ask: Any) -> Settlement:
        """As `pay`, by Permit2 and with a permit."""
        ask.setdefault("method", "permit2")
        actual = ask.pop("actual", None)
        return self.queue(self.verified(payer.sponsored(self.ask(amount, **ask), nonce=nonce)), amount=actual)

    async def settle(self, settlement: Settlement) -> Any:
        """As the flow does it: with what is stored now, and the outcome written down."""
        outcome = await self.settler.settle(self.journal.settlements[settlement.id])
        self.book(settlement, outcome)
        return outcome

    async def find(self, settlement: Settlement) -> Any:
        return await self.settler.find(self.journal.settlements[settlement.id])

    def book(self, settlement: Settlement, outcome: Any) -> None:
        stored = self.journal.settlements[settlement.id]
        if isinstance(outcome, Settled) and stored.state is not State.PROVEN:
            self.journal.move(settlement.id, Event.PROVEN, min(outcome.amount_atomic, stored.amount_micros))
