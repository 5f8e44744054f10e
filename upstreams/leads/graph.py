"""What is known of a lead: sources, and statements that each have one. Pure.

A graph is two sets. A statement says one thing of one subject, by one source: (subject, property, value, score,
source). Merging two graphs is the union of their sets, so it does not matter in which order answers come, how often, or
whether a call goes on where another has ended: nothing is overwritten, and nothing is there without its source. What is
shown of it (report.py), who is who (resolving.py) and how sure it is (confidence.py) are functions of the sets.

Subjects and the things that edges lead to:

    person:<hash>  business:<hash>     a mention: what one record, page or caller calls a person or a firm
    tel:+12065550100  mailto:dana@example.com  place:<street>|<unit>|<zip or city>|<state>      known by their value

Hashes are of the source and the record, so the same answer twice is the same mention.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from upstreams.directory import places
from upstreams.directory.names import fold

Json = Any

CALLER = "caller"
"""The family of whatever the caller said: it is no evidence, however often it is said."""

ATTRIBUTES = frozenset(
    {
        "name",  # of a mention
        "trade_name",
        "state",  # where it is, for telling two of one name apart
        "domain",
        "identifier",  # "<scheme>:<value>": of a register
        "status",
        "industry",
        "line_type",  # of a number
        "carrier",
        "label",
        "line1",  # of a place, with its other parts
        "line2",
        "city",
        "state_code",
        "zip",
    }
)
EDGES = frozenset(
    {
        "officer_of", "owner_of", "employee_of", "registered_agent_of", "located_at", "mailing_at", "has_phone",
        "has_email", "same_as", "related_to", "parent_of",
    }
)  # fmt: skip
ROLES = frozenset({"officer_of", "owner_of", "employee_of", "registered_agent_of"})
"""What a person can be to a firm."""
PROPERTIES = ATTRIBUTES | EDGES

VALUE_MAX = 300
"""Characters of one value; what is longer is no name, title or address."""
QUOTE_MAX = 300
STATEMENTS_MAX = 4_000
"""Of one graph; an answer beyond it is left out whole."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")


class Source(NamedTuple):
    """Where a statement comes from."""

    id: str
    kind: str
    """input, prior, directory, vendor, own_site, web, registry."""
    provider: str
    family: str
    """Whose data it is: sources of one family are one voice."""
    tool: str = ""
    ref: str = ""
    """The provider's own name of the record."""
    url: str = ""
    quote: str = ""
    retrieved_ms: int = 0
    round: int = 0
    cache_hit: bool = False


class Statement(NamedTuple):
    subject: str
    property: str
    value: str
    """Of an edge: what it leads to."""
    score: float
    """0 to 1: how sure the provider is. What that is worth is told by its weight (confidence.py)."""
    source: str
    detail: str = ""
    """Of a role: the title."""


@dataclass(frozen=True, slots=True)
class Graph:
    statements: frozenset[Statement] = frozenset()
    sources: Mapping[str, Source] = field(default_factory=dict)

    def __or__(self, other: "Graph") -> "Graph":
        return merge(self, other)

    def of(self, source: Statement) -> Source:
        return self.sources[source.source]


EMPTY = Graph()


def merge(a: Graph, b: Graph) -> Graph:
    """Both together: commutative, associative, idempotent. Of one source seen twice the earlier sight counts."""
    sources = dict(a.sources)
    for id, source in b.sources.items():
        known = sources.get(id)
        sources[id] = source if known is None else min(known, source, key=_sight)
    return Graph(a.statements | b.statements, sources)


def common(a: Graph, b: Graph) -> Graph:
    """What of the first the second still says, by its own sources."""
    said = a.statements & b.statements
    named = {statement.source for statement in said}
    return Graph(said, {id: source for id, source in b.sources.items() if id in named})


def _sight(source: Source) -> tuple[object, ...]:
    return (source.retrieved_ms, source.round, source)


def digest(*parts: str) -> str:
    return blake2b("\x1f".join(parts).encode(), digest_size=8).hexdigest()


def source(
    kind: str,
    provider: str,
    *,
    family: str = "",
    tool: str = "",
    ref: str = "",
    url: str = "",
    quote: str = "",
    retrieved_ms: int = 0,
    round: int = 0,
    cache_hit: bool = False,
) -> Source:
    ref, url, quote = plain(ref), plain(url, 2_000), plain(quote, QUOTE_MAX)
    id = "s_" + digest(kind, provider, ref, url, quote)
    return Source(
        id, kind, provider, family or provider, tool, ref, url, quote, retrieved_ms, round, cache_hit
    )  # fmt: skip


def plain(text: object, most: int = VALUE_MAX) -> str:
    """A text as a value: one line, without signs that steer what shows it; "" for what is no text or is too long."""
    if not isinstance(text, str) or len(text) > 4 * most:
        return ""
    cleaned = " ".join(_CONTROL.sub(" ", text.encode("utf-8", "replace").decode()).split())
    return cleaned if len(cleaned) <= most else ""


def tel(e164: str) -> str:
    return "tel:" + e164


def mailto(address: str) -> str:
    return "mailto:" + address.lower()


def person(source: Source, name: str, record: str = "") -> str:
    return "person:" + digest(source.id, record, fold(name))


def business(source: Source, name: str, record: str = "") -> str:
    return "business:" + digest(source.id, record, fold(name))


class Place(NamedTuple):
    """A postal address, as far as it is known. `state_code` two letters, `zip` five digits, unknown is ""."""

    line1: str = ""
    line2: str = ""
    city: str = ""
    state_code: str = ""
    zip: str = ""

    @property
    def key(self) -> str:
        """What two spellings of it share; "" for no place at all."""
        street, unit = places.split_unit(self.line1)
        street, unit = places.street_key(street), places.unit_key(self.line2) or unit
        area = self.zip or (places.city_word(self.city) if self.city else "")
        if not (street or area):
            return ""
        return f"place:{street}|{unit.lower()}|{area}|{self.state_code.lower()}"


class Writing:
    """Statements in the making, all by the sources they name. What is no value is left out without a word."""

    def __init__(self) -> None:
        self._statements: set[Statement] = set()
        self._sources: dict[str, Source] = {}

    def says(
        self, source: Source, subject: str, property: str, value: object, score: float = 1.0, detail: object = ""
    ) -> None:
        assert property in PROPERTIES, property
        text = plain(value)
        if text and subject:
            self._sources[source.id] = source
            level = round(min(max(score, 0.0), 1.0), 3)
            self._statements.add(Statement(subject, property, text, level, source.id, plain(detail)))

    def at(self, source: Source, subject: str, place: Place, score: float = 1.0, edge: str = "located_at") -> None:
        """That a mention is at a place, and what the place is called."""
        key = place.key
        if not key or not subject:
            return
        self.says(source, subject, edge, key, score)
        for name, value in place._asdict().items():
            self.says(source, key, name, value, score)
        self.says(source, subject, "state", place.state_code, score)

    def graph(self) -> Graph:
        if len(self._statements) > STATEMENTS_MAX:
            return EMPTY
        return Graph(frozenset(self._statements), self._sources)


def pack(graph: Graph) -> Json:
    """As plain JSON, in one order."""
    return {
        "sources": [list(source) for source in sorted(graph.sources.values())],
        "statements": [list(statement) for statement in sorted(graph.statements)],
    }


def unpack(kept: Mapping[str, Json]) -> Graph:
    """What `pack` has made."""
    return Graph(
        frozenset(Statement(*each) for each in kept["statements"]),
        {each[0]: Source(*each) for each in kept["sources"]},
    )


def sound(graph: Graph) -> bool:
    """Whether every statement has its source, and every edge leads to what something is said of, or to a value."""
    subjects = {statement.subject for statement in graph.statements}
    return all(
        statement.source in graph.sources
        and (
            statement.property not in EDGES
            or statement.value in subjects
            or statement.value.startswith(("tel:", "mailto:"))
        )
        for statement in graph.statements
    )


def source_ids(said: Iterable[Statement]) -> list[str]:
    """The sources of some statements."""
    return sorted({statement.source for statement in said})


def united(graphs: Iterable[Graph]) -> Graph:
    whole = EMPTY
    for graph in graphs:
        whole = merge(whole, graph)
    return whole
