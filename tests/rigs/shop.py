"""An invented catalogue with every kind of route, and the people who sell it: for documents, offers and crawlers."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.catalogue import Catalogue, Operation, Price
from gateway.core.networks import NETWORKS
from gateway.core.upstream import Context, NoMatch, Offering, Outcome
from gateway.core.x402.offers import Terms
from wellknown import Identity

PAYEE = "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"
OTHER_PAYEE = "0x52908400098527886E0F7030069857D2E4169EE7"
BASE, AVALANCHE, SANDBOX = "eip155:8453", "eip155:43114", "eip155:31337"

CANARY = "canary-c41e"
"""In everything of an operation that is nobody's business: the names and the comments of its code."""


class Phone(BaseModel):
    """canary-c41e: what the code says about itself."""

    model_config = ConfigDict(extra="forbid", title="canary-c41e")
    phone: str = Field(description="A phone number in any spelling.", min_length=3, max_length=32)


class Weather(BaseModel):
    """canary-c41e"""

    model_config = ConfigDict(extra="forbid")
    city: str = Field(min_length=1, max_length=80)
    units: Literal["metric", "imperial"] = "metric"
    days: int = Field(1, ge=1, le=7)


class Parcel(BaseModel):
    """canary-c41e"""

    model_config = ConfigDict(extra="forbid")
    parcel_id: str = Field(pattern="^[A-Z0-9-]{4,20}$")
    history: bool = False


class Line(BaseModel):
    """canary-c41e"""

    title: str = Field(max_length=40)
    count: int = Field(ge=1)


class Quote(BaseModel):
    """canary-c41e"""

    model_config = ConfigDict(extra="forbid")
    shop_id: str = Field(pattern="^[a-z0-9-]{1,20}$")
    lines: list[Line] = Field(min_length=1, max_length=10)


def answer_schema(data: object) -> dict[str, object]:
    return {
        "type": "object",
        "required": ["request_id", "matched", "billed", "data"],
        "properties": {
            "request_id": {"type": "string"},
            "matched": {"type": "boolean"},
            "billed": {"type": "boolean"},
            "data": data,
        },
    }


def answer(data: object) -> dict[str, object]:
    return {"request_id": "req_00000000000000000000000000", "matched": True, "billed": True, "data": data}


PHONE = Operation(
    id="enrich/phone",
    method="POST",
    path="/api/v1/enrich/phone",
    summary="Who a phone number belongs to",
    description="Reverse phone lookup: names and addresses behind a number.",
    input=Phone,
    output=answer_schema({"type": "object", "properties": {"people": {"type": "array", "items": {"type": "object"}}}}),
    price=Price(330_000),
    example={"phone": "+12065550100"},
    example_output=answer({"people": [{"name": "Dana Q Sample", "title": "Ms"}]}),
    tags=("people", "phone", "People", "enrichment", "crm", "leads", "more"),
)
WEATHER = Operation(
    id="weather",
    method="GET",
    path="/api/v1/weather",
    summary="Weather of the coming days",
    description="A forecast for a city.",
    input=Weather,
    output=answer_schema({"type": "object", "properties": {"celsius": {"type": "array", "items": {"type": "number"}}}}),
    price=Price(2_500),
    example={"city": "Springfield", "days": 2},
    example_output=answer({"celsius": [3.5, 4.0]}),
    timeout_s=5,
    miss_free=False,
    tags=("weather",),
)
PARCEL = Operation(
    id="parcels/get",
    method="GET",
    path="/api/v1/parcels/{parcel_id}",
    summary="Where a parcel is",
    description="The last place a parcel was seen at.",
    input=Parcel,
    output=answer_schema({"type": ["object", "null"]}),
    price=Price(1_250_000),
    example={"parcel_id": "AB-1234", "history": True},
    example_output=answer({"place": "Springfield depot"}),
    tags=("logistics",),
)
QUOTE = Operation(
    id="quotes/make",
    method="POST",
    path="/api/v1/shops/{shop_id}/quotes",
    summary="A quote for a list of things",
    description="Prices for a list of things from one shop.",
    input=Quote,
    output=answer_schema({"type": "object"}),
    price=Price(20_000, metered=True, ceiling_micros=500_000),
    example={"shop_id": "corner-shop", "lines": [{"title": "lamp", "count": 2}]},
    example_output=answer({"total": "12.00"}),
    timeout_s=90.5,
    tags=("commerce",),
)
OFFLINE = Operation(
    id="enrich/email",
    method="POST",
    path="/api/v1/enrich/email",
    summary="Offline as yet",
    description="Who an address belongs to.",
    input=Phone,
    output=answer_schema({"type": "object"}),
    price=Price(100_000),
    example={"phone": "+12065550100"},
    example_output=answer({}),
)


class Shop:
    """The upstream that sells all of it; nothing is ever found."""

    name = CANARY

    def __init__(self, *more: Operation) -> None:
        self._operations = (PHONE, WEATHER, PARCEL, QUOTE, *more)

    def offerings(self) -> Sequence[Offering]:
        async def fulfil(query: BaseModel, context: Context) -> Outcome:
            return NoMatch()

        return [Offering(operation, fulfil) for operation in self._operations]

    def offline(self) -> Sequence[Operation]:
        return (OFFLINE,)

    def available(self, operation_id: str, now_s: float) -> int | None:
        return None

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass


def catalogue() -> Catalogue:
    return Catalogue((PHONE, WEATHER, PARCEL, QUOTE), offline=(OFFLINE,))


def terms(network: str, pay_to: str = PAYEE, methods: tuple[str, ...] = ("eip3009", "permit2")) -> Terms:
    token = NETWORKS[network].tokens[0]
    return Terms(
        network=network, token=token, pay_to=pay_to, methods=methods, facilitator=None, sandbox=network == SANDBOX
    )


def identity(**changes: object) -> Identity:
    """A seller on Base and Avalanche; `changes` are fields of Identity."""
    fields: dict[str, object] = {
        "name": "Corner Data",
        "description": "Small facts, sold one at a time.",
        "public_url": "https://api.corner.example.com",
        "version": "1.2.3",
        "updated": "2026-11-23T12:00:00Z",
        "contact_email": "desk@corner.example.com",
        "terms": (terms(BASE), terms(AVALANCHE, OTHER_PAYEE, ("eip3009",))),
        "ownership_proofs": ("0x" + "ab" * 65,),
        "features": frozenset({"topups", "transfers"}),
    }
    return Identity(**{**fields, **changes})  # type: ignore[arg-type]


def sandbox(**changes: object) -> Identity:
    return identity(terms=(terms(SANDBOX),), sandbox=True, **changes)
