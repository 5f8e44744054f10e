"""The catalogue: every operation on sale. Routing, 402s, OpenAPI and every other document are functions of it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from gateway.core.money import MICROS_MAX


@dataclass(frozen=True, slots=True)
class Price:
    """`fixed`: exactly `base_micros`. `metered`: min(max(base, cost * markup), ceiling)."""

    base_micros: int
    metered: bool = False
    markup_percent: int = 130
    ceiling_micros: int = 0
    """The most a call may cost; of a fixed price it is the price."""

    def __post_init__(self) -> None:
        if not 0 < self.base_micros <= MICROS_MAX:
            raise ValueError("a price is above zero")
        if not self.metered and not self.ceiling_micros:
            object.__setattr__(self, "ceiling_micros", self.base_micros)
        if self.ceiling_micros < self.base_micros or (not self.metered and self.ceiling_micros > self.base_micros):
            raise ValueError("a ceiling is no lower than the base price, and only a metered price has one above it")
        if self.metered and not 100 <= self.markup_percent <= 10_000:
            raise ValueError("a markup is between 100 and 10000 percent of what the vendor takes")

    def charge_micros(
        self, cost_micros: int, at_most_micros: int, *, earlier_cost_micros: int = 0, earlier_charged_micros: int = 0
    ) -> int:
        """What a match costs that the vendor took `cost_micros` for, under a hold of `at_most_micros`. Of a session's
        later call it is what its work adds to the price of the whole."""
        if not self.metered:
            return min(self.base_micros, at_most_micros)
        whole = max(self.base_micros, -(-(earlier_cost_micros + cost_micros) * self.markup_percent // 100))
        return min(max(0, whole - earlier_charged_micros), at_most_micros)

    def budget_micros(
        self, at_most_micros: int, *, earlier_cost_micros: int = 0, earlier_charged_micros: int = 0
    ) -> int:
        """What the vendors may take for one call, so that what it then costs stays within this much."""
        if not self.metered:
            return at_most_micros
        whole = (at_most_micros + earlier_charged_micros) * 100 // self.markup_percent
        return max(0, whole - earlier_cost_micros)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing on sale, as the public sees it."""

    id: str
    """`enrich/phone`: unique; the path below /api/v1/ for our own operations."""
    method: str
    """GET or POST (PUT, PATCH and DELETE for an operator's own API)."""
    path: str
    """`/api/v1/enrich/phone`; may have `{name}` segments, which are fields of the input model."""
    summary: str
    """At most 120 characters; says what it does and nothing about how."""
    description: str
    """At most 500 characters, for crawlers and agents."""
    input: type[BaseModel]
    """The request: a JSON body for POST, PUT and PATCH, query parameters otherwise, beside the path's own."""
    output: Mapping[str, Any]
    """JSON Schema of the whole 200 answer, everything inlined."""
    price: Price
    example: Mapping[str, Any]
    """An input that validates, with invented people only."""
    example_output: Mapping[str, Any]
    timeout_s: float = 30.0
    miss_free: bool = True
    settle_first: bool = False
    """Whether a signed payment is settled before the work: as a top-up of its payer's account, which the call is then
    charged to. Else it is settled after a match, and never without one."""
    cacheable: bool = False
    """Whether the same answer may be given to the same question again: it changes nothing, and says nothing of who
    asks."""
    job: bool = False
    """Whether it may be handed over as a job, which takes its time and is asked about later."""
    by_body: bool = False
    """Whether what a call may cost stands in its body: it is then sold by `upto` alone."""
    asks_micros: int = 0
    """The ceiling of a call that says nothing about it, where that is in the body."""
    pays_within_s: int = 0
    """How long a payer's signature must hold, where that is longer than the call itself takes."""
    tags: tuple[str, ...] = ()
    example_path: Mapping[str, str] = field(default_factory=dict)
    """Values for the path's `{name}` segments."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+|/\{[a-z_][a-z0-9_]*\})+", self.path):
            raise ValueError(f"operation {self.id}: {self.path!r} is no path")
        if self.method not in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            raise ValueError(f"operation {self.id}: {self.method!r} is no method we sell")

    @property
    def settle(self) -> str:
        """When a signed payment is settled, as documents say it."""
        return "before" if self.settle_first else "after"

    @property
    def takes_body(self) -> bool:
        return self.method in ("POST", "PUT", "PATCH")

    @property
    def path_parameters(self) -> tuple[str, ...]:
        return tuple(re.findall(r"\{([a-z_][a-z0-9_]*)\}", self.path))

    @property
    def example_url_path(self) -> str:
        """The path with example values in place of its parameters: what documents may link to."""
        values = {**{name: str(self.example.get(name, "x")) for name in self.path_parameters}, **self.example_path}
        return re.sub(r"\{([a-z_][a-z0-9_]*)\}", lambda m: values[m.group(1)], self.path)


class Catalogue:
    """Operations by id, in the order they were given; ids and (method, path) are unique."""

    def __init__(self, operations: Iterable[Operation], offline: Iterable[Operation] = ()) -> None:
        self.operations = tuple(operations)
        self.offline = tuple(operation for operation in offline if operation.id not in {o.id for o in self.operations})
        self._by_id = {operation.id: operation for operation in self.operations}
        seen: set[str] = set()
        for operation in (*self.operations, *self.offline):
            shape = re.sub(r"\{[^}]*\}", "{}", operation.path)
            if shape in seen:
                raise ValueError(f"two operations have the path {operation.path}")
            seen.add(shape)
        if len(self._by_id) != len(self.operations):
            raise ValueError("two operations have one id")

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def get(self, id: str) -> Operation | None:
        return self._by_id.get(id)
