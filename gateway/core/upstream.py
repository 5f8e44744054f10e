"""The plug-in contract: what an upstream declares and answers.

An upstream sells operations. Each operation has one async function `(query, context) -> Match | NoMatch | Failure`.
It holds no state of its own; everything it needs from outside comes through the context. Whether the caller
pays follows from the answer alone: a Match is charged, a NoMatch is free where the operation says so, a Failure
is never charged.

Three ways to plug in, one contract: an `[[http_upstreams]]` table in faregate.toml; a package with an entry
point in the group `faregate.upstreams`; a file in upstreams/ and a line in `upstreams.ALL`.

An entry point `tides = "package:function"` names a function that takes what stands in `[plugins.tides]`, a mapping with
secrets of the environment filled in, and answers an Upstream. It raises ValueError with a sentence for the operator
when something in there is wrong or missing: the gateway does not start then.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from gateway.core.catalogue import Operation
from gateway.core.errors import Code
from gateway.core.http import HttpClient
from gateway.core.session import Session
from gateway.core.subject import Hides
from gateway.core.vendor_call import VendorCall

Json = Any
"""A JSON value: what orjson reads and writes."""


@dataclass(frozen=True, slots=True)
class Match:
    """Found. `data` and `metadata` go into the answer under their names; `cost_micros` is what the vendor took."""

    data: Json = field(repr=False)
    metadata: Mapping[str, Json] = field(default_factory=dict, repr=False)
    cost_micros: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    """Response headers an operator allowed through; everything else of a vendor's headers is dropped."""
    session: bytes | None = field(default=None, repr=False)
    """What the session's next call is to begin with."""
    session_tells: frozenset[str] = field(default=frozenset(), repr=False)
    """By which people in that are known again (core/subject.py)."""


@dataclass(frozen=True, slots=True)
class NoMatch:
    """Looked, found nothing usable. `data` is the empty shape of the operation's answer."""

    data: Json = field(default=None, repr=False)
    metadata: Mapping[str, Json] = field(default_factory=dict, repr=False)
    cost_micros: int = 0
    session: bytes | None = field(default=None, repr=False)
    session_tells: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """Could not look. `message` goes to the client, so it names no host, no secret and no person."""

    message: str
    timeout: bool = False
    cost_micros: int = 0
    retry_after_s: int | None = None
    code: Code | None = None
    """What it is told as, where that is neither UPSTREAM_ERROR nor UPSTREAM_TIMEOUT; the flows' own."""

    @property
    def told_as(self) -> Code:
        return self.code or (Code.UPSTREAM_TIMEOUT if self.timeout else Code.UPSTREAM_ERROR)


Outcome = Match | NoMatch | Failure


class AnswerLost(Exception):
    """A vendor was asked before, by a worker that died with the answer; it must not be asked again."""


class Journal(Protocol):
    """What was bought already, kept by the flow: a hop with a stored outcome is never bought twice. `key` names the
    hop within its job."""

    async def recall(self, key: str) -> Json | None:
        """The stored outcome; None when there is none."""
        ...

    async def asking(self, key: str, *, repeatable: bool = False, cost_micros: int = 0) -> int:
        """Before a vendor is asked: how often it was asked before, with the answer lost. Raises AnswerLost for one that
        was and may not be asked twice. `cost_micros` is the most it can take, and what is recorded beside the charge
        where nothing is ever told of it."""
        ...

    async def remember(self, key: str, outcome: Json) -> None:
        """As soon as the vendor has answered."""
        ...


@dataclass(frozen=True, slots=True)
class Again:
    """An answer that was bought before."""

    found: Match
    calls: tuple[VendorCall, ...] = ()
    """Of whoever had found it: at no cost, since it was paid for then."""


class Answers(Protocol):
    """What was bought before for the same caller, kept by the flow: work that is made of several questions asks here
    before it buys one. Who is hidden by now may be in it: it is filtered like a vendor's answer."""

    async def again(self, operation: str, query: BaseModel) -> Again | None:
        """The answer of an operation to this input, while it is fresh."""
        ...

    def keep(self, operation: str, query: BaseModel, found: Match, hop: str) -> None:
        """To be given again, as soon as the call that it was bought for is paid for; nothing of one that misses or
        fails. `hop`: what the hops of the calls begin with that have found it."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What an operation's function may use of the world."""

    http: HttpClient
    now: Callable[[], float]
    """Unix seconds."""
    deadline_s: float
    """Unix seconds by which the function must have answered."""
    budget_micros: int
    """The most the vendors may take for this call."""
    at_most_micros: int = 0
    """The most the call may be charged."""
    session: Session | None = None
    """What it goes on with; None where nothing is kept: the operation has no sessions, or its caller is no agent."""
    charge_id: str = ""
    """Whatever is done twice for one call has this in common, and no other call has it."""
    of_agent: bool = False
    """Whether an agent's bearer came with the call; not told of a job."""
    journal: Journal | None = None
    """None where the operation cannot run as a job."""
    progress: Callable[[str], None] = lambda phase: None
    hides: Hides | None = None
    """Tells of whom nothing may be told, by their spellings (core/subject.py); None: of nobody. Whoever decides what is
    a match leaves them out first. What is left in an answer is taken out of it by the flow, and it is a miss then."""
    answers: Answers | None = None
    """None where nothing is given again."""
    keyed: Callable[[str], str] = lambda text: text
    """A question in a name of a hop, which is kept for good beside the charge: nobody reads a person out of it."""
    bought: Callable[[VendorCall], None] = lambda call: None
    """Told of every vendor that was asked, as soon as it is known what that cost: recorded beside the charge however
    the work ends, by an exception or out of time too. A function that tells nothing has one call recorded, of what its
    outcome costs."""


Fulfil = Callable[[Any, Context], Awaitable[Outcome]]
"""(query: the operation's input model, context) -> Outcome. Exceptions are bugs and count as Failure."""


@dataclass(frozen=True, slots=True)
class Offering:
    """One operation with the function that serves it."""

    operation: Operation
    fulfil: Fulfil


class Upstream(Protocol):
    """Something to sell. `name` is unique; `offerings` is empty while it is not configured."""

    name: str

    def offerings(self) -> Sequence[Offering]: ...

    def offline(self) -> Sequence[Operation]:
        """Operations to answer 503 ROUTE_OFFLINE: announced by the contract, sold by nobody here yet."""
        ...

    def available(self, operation_id: str, now_s: float) -> int | None:
        """Seconds for which the vendor behind an operation wants to be left alone; None: ask it. Heard before any
        money is held."""
        ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Shelf:
    """An Upstream that has nothing to start or to close and needs no rest: a name and its offerings."""

    name: str
    sold: Sequence[Offering]

    def offerings(self) -> Sequence[Offering]:
        return self.sold

    def offline(self) -> Sequence[Operation]:
        return ()

    def available(self, operation_id: str, now_s: float) -> int | None:
        return None

    async def start(self) -> None:
        """There is nothing to start."""

    async def close(self) -> None:
        """There is nothing to close."""
