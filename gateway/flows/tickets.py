"""Tickets: a paid call like any other, whose ticket is written in the transaction of its hold."""

from dataclasses import dataclass

from gateway.core import ticket
from gateway.core.charge import Charge
from gateway.core.errors import Code, Problem
from gateway.core.ticket import Ticket, TicketRequest
from gateway.flows.fulfilling import Call
from gateway.flows.purchase import Answer, Purchase
from gateway.store import tickets
from gateway.store.charges import ChargeView
from gateway.store.database import Tx


@dataclass(frozen=True, slots=True)
class Tickets:
    purchase: Purchase
    open_max: int
    """How many of one party may wait for the operator."""

    async def buy(self, call: Call) -> Answer:
        """Raises Problem RATE_LIMITED where too many wait already, and as any call does; then nothing was charged and
        there is no ticket."""
        asked = call.query
        assert isinstance(asked, TicketRequest), "edge has validated it"

        def rider(tx: Tx, charge: Charge, withheld: ChargeView | None) -> None:
            if withheld is not None:
                return  # it is there already, and only its payment was not
            if tickets.open_of(tx, charge.party) >= self.open_max:
                raise Problem(
                    Code.RATE_LIMITED,
                    f"{self.open_max} of your tickets wait for an answer already; nothing was charged",
                    details={"open_max": self.open_max},
                )
            tickets.add(
                tx,
                Ticket(
                    id=ticket.id_of(charge.id),
                    charge_id=charge.id,
                    party=charge.party,
                    agent_id=call.principal.agent_id if call.principal else None,
                    category=asked.category,
                    subject=asked.subject,
                    body=asked.body,
                    created_ms=tx.now_ms,
                    changed_ms=tx.now_ms,
                ),
            )

        return await self.purchase.buy(call, rider)
