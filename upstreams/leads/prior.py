"""`prior_backfill`: a graph that a caller sends back. Whatever he sends, it is his word and no more. Pure.

Its values become statements of the caller, so that they merge with what is found and are never found anew. What it says
of confidence and of sources is left out: a caller could have written it himself.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from upstreams.directory import phones
from upstreams.leads import graph
from upstreams.leads.answers import place
from upstreams.leads.graph import CALLER, EMPTY, ROLES, Graph, Writing, plain

Json = Any

NOTHING = EMPTY
OF_A_KIND_MAX = 200
"""Entities, phones, emails or edges of one prior graph."""
NAMES_MAX = 200
"""Names of all its entities beside their own: every name is compared with every other."""
_KINDS = ("business", "person", "place")


def statements(prior: Mapping[str, Json], region: str) -> Graph:
    """Raises ValueError for what is no graph of ours. A single value that is none of its kind is left out."""
    if prior.get("schema") not in (None, "lead_enrichment_v1"):
        raise ValueError("its schema is lead_enrichment_v1")
    told = prior["backfill"] if isinstance(prior.get("backfill"), Mapping) else prior
    parts = {name: _objects(told, name) for name in ("entities", "contacts", "phones", "emails", "edges")}
    return _Reading(parts, region).graph()


def _objects(told: Mapping[str, Json], name: str) -> list[Mapping[str, Json]]:
    listed = told.get(name, [])
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise ValueError(f"its {name} are a list of objects")
    if len(listed) > OF_A_KIND_MAX:
        raise ValueError(f"it has at most {OF_A_KIND_MAX} {name}")
    return listed


class _Reading:
    def __init__(self, parts: Mapping[str, list[Mapping[str, Json]]], region: str) -> None:
        self._parts = parts
        self._region = region
        self._said = graph.source("prior", CALLER)
        self._writing = Writing()
        self._names = 0
        self._nodes: dict[str, str] = {}
        """The prior graph's ids -> subjects, and what edges lead to."""

    @cached_property
    def _telling(self) -> frozenset[str]:
        """Entities of which it says more than a name: a name alone is nobody who could be told from his namesakes."""
        streets = {_text(e, "id") for e in self._parts["entities"] if _text(_mapping(e.get("address")), "line1")} | {
            _text(e, "id") for kind in ("phones", "emails") for e in self._parts[kind]
        }
        telling = {_text(e, "owner_entity_id") for kind in ("phones", "emails") for e in self._parts[kind]}
        for edge in self._parts["edges"]:
            if _text(edge, "type") in ROLES or _text(edge, "to") in streets:
                telling |= {_text(edge, "from"), _text(edge, "to")}
        telling |= {_text(e, "id") for e in self._parts["entities"] if e.get("identifiers") or _text(e, "domain")}
        return frozenset(telling)

    def graph(self) -> Graph:
        for entity in self._parts["entities"]:
            self._entity(entity)
        for phone in self._parts["phones"]:
            number = phones.normalise(_text(phone, "e164"), self._region)
            if number is not None:
                self._value(phone, graph.tel(number), "has_phone")
        for email in self._parts["emails"]:
            address = _text(email, "email")
            if "@" in address and " " not in address:
                self._value(email, graph.mailto(address), "has_email")
        for edge in self._parts["edges"]:
            self._edge(edge)
        return self._writing.graph()

    def _entity(self, entity: Mapping[str, Json]) -> None:
        kind, id = _text(entity, "type"), _text(entity, "id")
        if kind not in _KINDS:
            return
        if kind == "place":
            spot = entity.get("address")
            where = place(spot) if isinstance(spot, Mapping) else None
            if where is not None and where.key:
                self._nodes[id] = where.key
                for name, value in where._asdict().items():
                    self._writing.says(self._said, where.key, name, value)
            return
        name = _text(entity, "name")
        if not name or id not in self._telling:
            return
        make = graph.business if kind == "business" else graph.person
        # By its id, too: two of one name are two, and which edges are whose is told by their ids.
        mention = make(self._said, name, id)
        self._nodes[id] = mention
        self._writing.says(self._said, mention, "name", name)
        for other in _listed(entity, "names")[: NAMES_MAX - self._names]:
            self._names += 1
            self._writing.says(
                self._said, mention, "trade_name" if other.get("kind") == "trade" else "name", other.get("value")
            )
        if kind == "business":
            for identifier in _listed(entity, "identifiers"):
                scheme, value = _text(identifier, "scheme"), _text(identifier, "value")
                if scheme and value:
                    self._writing.says(self._said, mention, "identifier", f"{scheme}:{value}")
            for field in ("status", "domain", "industry"):
                self._writing.says(self._said, mention, field, entity.get(field))

    def _value(self, entry: Mapping[str, Json], key: str, edge: str) -> None:
        self._nodes[_text(entry, "id")] = key
        owner = self._nodes.get(_text(entry, "owner_entity_id"), "")
        if owner.startswith(("person:", "business:")):
            self._writing.says(self._said, owner, edge, key)
        else:
            self._writing.says(self._said, key, "label", "given")

    def _edge(self, edge: Mapping[str, Json]) -> None:
        type = _text(edge, "type")
        origin, target = self._nodes.get(_text(edge, "from"), ""), self._nodes.get(_text(edge, "to"), "")
        if type not in graph.EDGES or type == "same_as" or not origin.startswith(("person:", "business:")):
            return
        if not target or not target.startswith(_LEADS_TO.get(type, ("person:", "business:"))):
            return
        attrs = edge.get("attrs")
        title = plain(attrs.get("title")) if isinstance(attrs, Mapping) else ""
        self._writing.says(self._said, origin, type, target, detail=title)


_LEADS_TO: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(ROLES, ("business:",)),
    "located_at": ("place:",),
    "mailing_at": ("place:",),
    "has_phone": ("tel:",),
    "has_email": ("mailto:",),
}


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _text(entry: Mapping[str, Json], name: str) -> str:
    return plain(entry.get(name))


def _listed(entity: Mapping[str, Json], name: str) -> list[Mapping[str, Json]]:
    listed = entity.get(name)
    if not isinstance(listed, list):
        return []
    return [each for each in listed[:20] if isinstance(each, Mapping)]
