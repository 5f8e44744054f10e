"""Sells the tides of a harbour: an upstream in forty lines, as a package of its own."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field

from gateway.core import answer
from gateway.core.catalogue import Operation, Price
from gateway.core.http import HttpFailure
from gateway.core.money import parse_usd
from gateway.core.upstream import Context, Failure, Json, Match, NoMatch, Offering, Outcome, Shelf


class Harbour(BaseModel):
    harbour: str = Field(min_length=1, max_length=60, description="Name of a harbour")


def tides(options: Mapping[str, Any]) -> Shelf:
    if not str(options.get("url", "")).startswith(("https://", "http://")):
        raise ValueError("url is where your tide tables are, such as https://tides.example.com")

    async def look_up(asked: Harbour, context: Context) -> Outcome:
        try:
            reply = await context.http.request(
                "GET", f"{options['url']}/{quote(asked.harbour.lower(), safe='')}.txt", headers={}, body=None,
                timeout_s=context.deadline_s - context.now(), bytes_max=10_000, private=options.get("private", False),
            )  # fmt: skip
        except HttpFailure as failure:
            return Failure("the tide tables cannot be read", timeout=failure.kind == "timeout")
        if reply.status != 200:
            return NoMatch() if reply.status == 404 else Failure("the tide tables cannot be read")
        return Match({"high_water": reply.body.decode("utf-8", "replace").split()})

    price = Price(parse_usd(options.get("price", "0.050")))
    data: Json = {"type": "object", "properties": {"high_water": {"type": "array", "items": {"type": "string"}}}}
    example = {"high_water": ["05:12", "17:40"]}
    operation = Operation(
        id="tides/today", method="POST", path="/api/v1/tides/today", summary="High water in a harbour today",
        description="Takes the name of a harbour, returns the times of high water. Billed when it is in the tables.",
        input=Harbour, output=answer.schema(data), price=price, example={"harbour": "Sampleport"},
        example_output=answer.example("tides/today", price.base_micros, example),
    )  # fmt: skip
    return Shelf("tides", [Offering(operation, look_up)])
