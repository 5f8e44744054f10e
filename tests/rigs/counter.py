"""The edge over an invented catalogue, with a paid endpoint that only remembers who came to it."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import orjson
from rigs import shop
from starlette.requests import Request
from starlette.responses import Response

from gateway.core.catalogue import Operation
from gateway.core.x402 import challenge
from gateway.core.x402.challenge import Challenge
from gateway.edge.app import EdgeParts
from gateway.edge.bodies import Limits, read_json
from gateway.edge.health import Fact
from gateway.edge.metrics import Metrics, Vitals
from gateway.edge.visit import RequestIds
from wellknown import challenge_parts

PHONE, WEATHER, PARCEL, OFFLINE = shop.PHONE.path, shop.WEATHER.path, "/api/v1/parcels/AB-1234", shop.OFFLINE.path
PAID = ("PAYMENT-SIGNATURE", "e30=")


def unpaid(operation: Operation, request_id: str, repeat_key: str) -> Challenge:
    return challenge.build(
        **challenge_parts(operation, shop.identity())._asdict(),
        repeat_key=repeat_key,
        error="pay first",
        code="AGENT_TOKEN_REQUIRED",
        fields={"of": operation.id, "request_id": request_id},
    )


@dataclass
class Counter:
    """What stands behind the doors. `served` has everything that came through to it."""

    served: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    behaviour: Callable[[Request], Awaitable[Response]] | None = None
    facts: list[Fact] = field(default_factory=lambda: [Fact("database", True)])
    vitals: Vitals = field(default_factory=Vitals)
    asked: int = 0

    def reset(self) -> None:
        vars(self).update(vars(Counter()))

    def parts(self, **changes: object) -> EdgeParts:
        parts = EdgeParts(
            catalogue=shop.catalogue(),
            identity=shop.identity(),
            paid=self.paid,
            unpaid=unpaid,
            ready=self.ready,
            watch=self.watch,
            metrics=Metrics(),
            request_ids=RequestIds(1_790_000_000_000, bytes(10)),
            entropy=os.urandom,
        )
        return replace(parts, **changes)  # type: ignore[arg-type]

    async def paid(self, request: Request, operation: Operation) -> Response:
        self.served.append((request.method, operation.id, dict(request.path_params)))
        if self.behaviour is not None:
            return await self.behaviour(request)
        return Response(
            b'{"served":true}', media_type="application/json", headers={"Cache-Control": "private, no-store"}
        )

    async def ready(self) -> list[Fact]:
        self.asked += 1
        return self.facts

    async def watch(self) -> Vitals:
        return self.vitals


def reading(limits: Limits) -> Callable[[Request], Awaitable[Response]]:
    """A behaviour that reads the body as JSON and gives it back."""

    async def read(request: Request) -> Response:
        return Response(orjson.dumps({"json": await read_json(request, limits)}), media_type="application/json")

    return read


def raising(error: Exception) -> Callable[[Request], Awaitable[Response]]:
    async def fail(request: Request) -> Response:
        raise error

    return fail
