"""Support: a ticket to the operator, sold like any other operation, so that writing many costs something.

It buys nothing from anybody. The ticket itself is written by gateway/flows/tickets.py with the hold; here is what is
offered, and what its writer is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core import ticket
from gateway.core.catalogue import Operation, Price
from gateway.core.money import format_usd
from gateway.core.ticket import OPERATION, PATH, Category, State, TicketRequest, may_earn, open_credit
from gateway.core.upstream import Context, Match, Offering, Outcome

_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class SupportSettings:
    enabled: bool = False
    price_micros: int = 10_000
    bug_credit_micros: int = 1_000_000


class Support:
    name = "support"

    def __init__(self, settings: SupportSettings) -> None:
        self._settings = settings

    def offerings(self) -> Sequence[Offering]:
        return [Offering(self._operation(), self._file)] if self._settings.enabled else []

    def offline(self) -> Sequence[Operation]:
        return ()

    def available(self, operation_id: str, now_s: float) -> int | None:
        return None

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def _file(self, query: TicketRequest, context: Context) -> Outcome:
        # Nobody else takes anything for it, so what may be taken at most is what it costs.
        ticket_id = ticket.id_of(context.charge_id)
        return Match(self._told(query, ticket_id, context.budget_micros, of_agent=context.of_agent))

    def _told(
        self, query: TicketRequest, ticket_id: str, charged_micros: int, *, of_agent: bool = True
    ) -> dict[str, object]:
        eligible = may_earn(query.category, of_agent=of_agent)
        return {
            "ticket_id": ticket_id,
            "status": State.OPEN.value,
            "category": query.category.value,
            "subject": query.subject,
            "ticket_url": f"{PATH}/{ticket_id}",
            "charged_usd": format_usd(charged_micros),
            "bug_credit": open_credit(eligible, format_usd(self._settings.bug_credit_micros)),
        }

    def _operation(self) -> Operation:
        price = self._settings.price_micros
        example = {
            "category": "bug",
            "subject": "A look-up without a result was billed",
            "body": "The charge chg_example says matched: true, and data.people is empty.",
        }
        query = TicketRequest.model_validate(example)
        return Operation(
            id=OPERATION,
            method="POST",
            path=PATH,
            summary="Write to the operator of this service: a support ticket",
            description=(
                "Files a ticket about a bug, billing, your account or anything else; reading it and its answers is "
                "free. A bug that the operator confirms earns an agent "
                f"${format_usd(self._settings.bug_credit_micros)} of bonus. Charged for every ticket."
            ),
            input=TicketRequest,
            output=_ANSWER,
            price=Price(price),
            miss_free=False,
            example=example,
            example_output={
                "request_id": "req_example",
                "route": OPERATION,
                "matched": True,
                "billed": True,
                "cache_hit": False,
                "billing": {
                    "mode": "virtual_balance",
                    "charge_id": "chg_example",
                    "price_usd": format_usd(price),
                    "charged_usd": format_usd(price),
                },
                "data": self._told(query, "tkt_example", price),
                "metadata": {},
            },
            timeout_s=_TIMEOUT_S,
            tags=("support",),
        )


_TEXT = {"type": "string"}
_ANSWER = {
    "type": "object",
    "required": ["request_id", "matched", "billed", "billing", "data"],
    "properties": {
        "request_id": _TEXT,
        "route": _TEXT,
        "matched": {"type": "boolean"},
        "billed": {"type": "boolean"},
        "cache_hit": {"type": "boolean"},
        "billing": {"type": "object"},
        "data": {
            "type": "object",
            "required": ["ticket_id", "status", "category", "subject", "ticket_url", "charged_usd", "bug_credit"],
            "properties": {
                "ticket_id": _TEXT,
                "status": {"enum": [state.value for state in State]},
                "category": {"enum": [category.value for category in Category]},
                "subject": _TEXT,
                "ticket_url": _TEXT,
                "charged_usd": _TEXT,
                "bug_credit": {
                    "type": "object",
                    "required": ["eligible", "amount_usd", "state"],
                    "properties": {
                        "eligible": {"type": "boolean"},
                        "amount_usd": _TEXT,
                        "state": {"enum": ["pending_operator", "none"]},
                    },
                },
            },
        },
        "metadata": {"type": "object"},
    },
}
