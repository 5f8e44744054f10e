"""What a graph shows of a lead: firms, people, places, who has which number, and whom it is about. Pure.

A picture is made from the whole graph anew after each hop. Everything in it is in view: it has to do with the lead, or
an edge leads to it from what has.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from upstreams.directory import phones, places
from upstreams.directory.names import fold
from upstreams.leads import confidence
from upstreams.leads.graph import CALLER, EDGES, ROLES, Graph, Place, Statement, digest, mailto, source_ids, tel
from upstreams.leads.lead import Lead
from upstreams.leads.resolving import Resolved, firm_key, resolve

Json = Any

CONTACTS_MAX = 25
_DECIDES = (
    (re.compile(r"\b(owner|proprietor|founder|co-?founder)\b"), 100),
    (re.compile(r"\b(chief executive|ceo|president|principal|managing (member|partner|director))\b"), 90),
    (re.compile(r"\b(partner|general manager|managing|chair(man|woman|person)?)\b"), 80),
    (re.compile(r"\b(chief|cfo|coo|cto|cmo|vice president|vp|director|member|officer|treasurer|secretary)\b"), 70),
    (re.compile(r"\b(manager|head)\b"), 50),
)
_TITLE_DECIDES = 70


@dataclass(slots=True)
class Value:
    """A number or a mail address with all that is said of it."""

    key: str
    statements: list[Statement] = field(default_factory=list)
    """Who has it, and what it is like."""
    owners: dict[str, list[Statement]] = field(default_factory=lambda: defaultdict(list))
    """By the node's id."""

    @property
    def text(self) -> str:
        return self.key.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Node:
    """A firm, a human being or a place."""

    id: str
    kind: str
    name: str
    statements: tuple[Statement, ...]
    confidence: float
    place: Place = field(default_factory=Place)


@dataclass(frozen=True, slots=True)
class Edge:
    origin: str
    target: str
    type: str
    statements: tuple[Statement, ...]
    confidence: float
    title: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    node: Node
    roles: tuple[str, ...]
    title: str
    decides: bool
    phones: tuple[str, ...]
    """E.164, surest first."""
    emails: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """What a graph shows of a lead. The planner reads it, and the answer is made from it."""

    graph: Graph
    lead: Lead
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    phones: Mapping[str, Value]
    emails: Mapping[str, Value]
    contacts: tuple[Contact, ...]
    business: Node | None
    """The firm that it is about."""
    person: Node | None
    """The human being that it is about, where it is about one."""
    conflicts: tuple[Json, ...]
    sure: Mapping[str, float]
    """By the key of a phone or email: how sure."""

    @property
    def subjects(self) -> tuple[Node, ...]:
        return tuple(node for node in (self.business, self.person) if node is not None)

    def places_of(self, node: Node | None) -> list[Node]:
        if node is None:
            return []
        found = [edge for edge in self.edges if edge.origin == node.id and edge.type in ("located_at", "mailing_at")]
        found.sort(key=lambda edge: (edge.type != "located_at", -edge.confidence, edge.target))
        return [self.nodes[edge.target] for edge in found]

    def values_of(self, node: Node | None, values: Mapping[str, Value]) -> list[Value]:
        """Of a node, surest first."""
        if node is None:
            return []
        own = [value for value in values.values() if node.id in value.owners]
        return sorted(own, key=lambda value: (-self.sure[value.key], value.key))


def draw(graph: Graph, lead: Lead) -> Picture:
    """Looks through the whole graph once. The first call loads tables of numbers: off the event loop, please."""
    resolved = resolve(graph)
    subjects = _by_subject(graph)
    nodes, ids = _nodes(graph, resolved, subjects)
    numbers, mails = _values(graph, subjects, ids, "tel:"), _values(graph, subjects, ids, "mailto:")
    edges = _edges(graph, resolved, ids, nodes)
    business, person = _subjects(graph, lead, resolved, nodes, ids, numbers, mails)
    sure = {key: _sure(graph, value, nodes, edges) for key, value in (*numbers.items(), *mails.items())}
    whole = Picture(graph, lead, nodes, edges, numbers, mails, (), business, person, (), sure)
    return _in_view(replace(whole, contacts=_contacts(whole)))


def _in_view(whole: Picture) -> Picture:
    """What has to do with the lead: those it is about, their contacts, and what an edge leads to from these. Whoever
    else was in an answer, a namesake or a stranger at the same street, is nobody's business."""
    relevant = {node.id for node in (*whole.subjects, *(contact.node for contact in whole.contacts))}
    said = {s.subject for s in whole.graph.statements if whole.graph.of(s).family == CALLER}
    said |= {s.value for s in whole.graph.statements if whole.graph.of(s).family == CALLER and s.property in EDGES}
    relevant |= {
        node.id for node in whole.nodes.values() if any(whole.graph.of(s).kind == "input" for s in node.statements)
    }
    shown = set(relevant)
    for edge in whole.edges:
        if edge.origin in relevant or edge.target in relevant:
            shown |= {end for end in (edge.origin, edge.target) if end in whole.nodes}

    def kept(values: Mapping[str, Value]) -> dict[str, Value]:
        own = {key: value for key, value in values.items() if relevant & set(value.owners) or key in said}
        return {
            key: Value(key, value.statements, {id: v for id, v in value.owners.items() if id in shown})
            for key, value in own.items()
        }

    numbers, mails = kept(whole.phones), kept(whole.emails)
    shown -= _vague(whole, shown)
    ends = {*shown, *numbers, *mails}
    nodes = {id: node for id, node in whole.nodes.items() if id in shown}
    edges = tuple(
        edge
        for edge in whole.edges
        if edge.origin in shown and edge.target in ends and (edge.origin in relevant or edge.target in relevant)
    )
    conflicts = _conflicts(whole.graph, nodes, numbers)
    return replace(whole, nodes=nodes, edges=edges, phones=numbers, emails=mails, conflicts=conflicts)


def _vague(whole: Picture, shown: set[str]) -> set[str]:
    """Places that are a town alone, where everybody in it has a street in that town."""
    at: dict[str, set[str]] = defaultdict(set)
    for edge in whole.edges:
        if edge.type in ("located_at", "mailing_at") and edge.origin in shown:
            at[edge.origin].add(edge.target)
    streets = {
        origin: [place for id in targets if (place := whole.nodes[id].place).line1] for origin, targets in at.items()
    }
    vague = {id for id in shown if whole.nodes[id].kind == "place" and not whole.nodes[id].place.line1}
    return {
        id
        for id in vague
        if all(
            any(_within(street, whole.nodes[id].place) for street in streets[origin])
            for origin, targets in at.items()
            if id in targets
        )
        and any(id in targets for targets in at.values())
    }


def _within(street: Place, town: Place) -> bool:
    same_zip = bool(town.zip) and town.zip == street.zip
    same_town = not town.zip and bool(town.city) and places.city_word(town.city) == places.city_word(street.city)
    return (same_zip or same_town) and (not town.state_code or town.state_code == street.state_code)


def _by_subject(graph: Graph) -> dict[str, list[Statement]]:
    found: dict[str, list[Statement]] = defaultdict(list)
    for statement in sorted(graph.statements):
        found[statement.subject].append(statement)
    return found


# nodes


def _nodes(
    graph: Graph, resolved: Resolved, subjects: Mapping[str, Sequence[Statement]]
) -> tuple[dict[str, Node], dict[str, str]]:
    """(nodes by id, the id of every mention and every place)."""
    drafts: list[tuple[str, str, tuple[Statement, ...], tuple[str, ...]]] = []
    for entity in resolved.entities:
        said = tuple(s for mention in sorted(entity.mentions) for s in subjects[mention])
        drafts.append((entity.kind, _display(graph, said), said, tuple(sorted(entity.mentions))))
    anchors: dict[tuple[str, str], int] = defaultdict(int)
    for kind, name, _, _ in drafts:
        anchors[kind, _key(kind, name)] += 1
    nodes: dict[str, Node] = {}
    ids: dict[str, str] = {}
    for kind, name, said, mentions in drafts:
        key = _key(kind, name)
        apart = _anchor(said) if anchors[kind, key] > 1 else ""
        id = "ent_" + digest(kind, key, apart)
        while id in nodes:  # two of one name with nothing to tell them apart by
            id = "ent_" + digest(id, mentions[0])
        sure = confidence.combined(graph, (s for s in said if s.property not in EDGES or s.property in ROLES))
        nodes[id] = Node(id, kind, name, said, sure)
        ids.update((mention, id) for mention in mentions)
    for key, said, place in _place_drafts(resolved, subjects):
        id = "ent_" + digest("place", key)
        at = [s for s in graph.statements if s.property in ("located_at", "mailing_at")]
        voices = [s for s in at if resolved.places.get(s.value) == key] or list(said)
        nodes[id] = Node(id, "place", _line(place), said, confidence.combined(graph, voices), place)
        ids.update((other, id) for other, fullest in resolved.places.items() if fullest == key)
    return nodes, ids


def _place_drafts(
    resolved: Resolved, subjects: Mapping[str, Sequence[Statement]]
) -> Iterable[tuple[str, tuple[Statement, ...], Place]]:
    spellings: dict[str, list[str]] = defaultdict(list)
    for key, fullest in sorted(resolved.places.items()):
        spellings[fullest].append(key)
    for fullest, keys in sorted(spellings.items()):
        said = tuple(s for key in keys for s in subjects[key])
        parts: dict[str, str] = {}
        for key in sorted(keys, key=lambda key: key != fullest):
            for name in Place._fields:
                values = sorted({s.value for s in subjects[key] if s.property == name}, key=lambda v: (-len(v), v))
                if values:
                    parts.setdefault(name, values[0])
        yield fullest, said, Place(**parts)


def _key(kind: str, name: str) -> str:
    return firm_key(name) if kind == "business" else fold(name)


def _anchor(said: Iterable[Statement]) -> str:
    keys = ("identifier", "has_phone", "has_email", "domain", "located_at")
    found = sorted((keys.index(s.property), s.value) for s in said if s.property in keys)
    return found[0][1] if found else ""


def _display(graph: Graph, said: Iterable[Statement]) -> str:
    """The name to show: the surest, of its spellings the fullest that is not all capitals."""
    named = [s for s in said if s.property == "name"] or [s for s in said if s.property == "trade_name"]
    best: dict[str, float] = defaultdict(float)
    spelled: dict[str, set[str]] = defaultdict(set)
    for statement in named:
        key = firm_key(statement.value)
        best[key] = max(best[key], confidence.of_statement(statement, graph.of(statement)))
        spelled[key].add(statement.value)
    surest = min(best, key=lambda key: (-best[key], -len(key), key))
    return min(spelled[surest], key=lambda name: (name.isupper() or name.islower(), -len(name), name))


def _line(place: Place) -> str:
    street = ", ".join(filter(None, (place.line1, place.line2)))
    return ", ".join(filter(None, (street, place.city, " ".join(filter(None, (place.state_code, place.zip))))))


# values


def _values(
    graph: Graph, subjects: Mapping[str, Sequence[Statement]], ids: Mapping[str, str], prefix: str
) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for statement in sorted(graph.statements):
        if statement.property in ("has_phone", "has_email") and statement.value.startswith(prefix):
            value = found.setdefault(statement.value, Value(statement.value))
            value.statements.append(statement)
            if statement.subject in ids:
                value.owners[ids[statement.subject]].append(statement)
    for key, said in subjects.items():
        if key.startswith(prefix):
            given = [s for s in said if s.property == "label" and s.value == "given"]
            if key in found or given:
                value = found.setdefault(key, Value(key))
                value.statements.extend(given)
    return found


def _sure(graph: Graph, value: Value, nodes: Mapping[str, Node], edges: Sequence[Edge]) -> float:
    contradicted = value.key.startswith("tel:") and _elsewhere(value, nodes, edges)
    return confidence.combined(graph, value.statements, contradicted=contradicted)


def _elsewhere(value: Value, nodes: Mapping[str, Node], edges: Sequence[Edge]) -> bool:
    """Whether a number is of another state than all who have it. Where it cannot be told it is not."""
    region = _region(value.text)
    states = {
        nodes[edge.target].place.state_code
        for edge in edges
        if edge.type in ("located_at", "mailing_at") and edge.origin in value.owners
    } - {""}
    return bool(region and states) and region not in states


@lru_cache(maxsize=8192)
def _region(e164: str) -> str:
    region = phones.kind(e164)[1] or ""
    return region if region in places.STATE_CODES and e164.startswith("+1") else ""


def owner(picture: Picture, value: Value) -> str | None:
    """Whose it is: the surest of those who have it."""
    sure = {id: confidence.combined(picture.graph, said) for id, said in value.owners.items()}
    return min(sure, key=lambda id: (-sure[id], id)) if sure else None


# edges


def _edges(graph: Graph, resolved: Resolved, ids: Mapping[str, str], nodes: Mapping[str, Node]) -> tuple[Edge, ...]:
    said: dict[tuple[str, str, str], list[Statement]] = defaultdict(list)
    for statement in sorted(graph.statements):
        if statement.property in EDGES and statement.subject in ids:
            target = ids.get(statement.value, statement.value)
            if target != ids[statement.subject] and (target in nodes or target.startswith(("tel:", "mailto:"))):
                said[ids[statement.subject], target, statement.property].append(statement)
    edges = [
        Edge(origin, target, type, tuple(voices), confidence.combined(graph, voices), _title(graph, voices))
        for (origin, target, type), voices in said.items()
    ]
    for doubt in resolved.alike:
        a, b = sorted(ids[min(resolved.entities[at].mentions)] for at in (doubt.a, doubt.b))
        named = [s for id in (a, b) for s in nodes[id].statements if s.property in ("name", "trade_name")]
        edges.append(Edge(a, b, "same_as", tuple(named), round(doubt.score, 3)))
    return tuple(sorted(edges, key=lambda edge: (edge.type, edge.origin, edge.target)))


def _title(graph: Graph, voices: Iterable[Statement]) -> str:
    titled = [s for s in voices if s.detail]
    if not titled:
        return ""
    return min(titled, key=lambda s: (-confidence.of_statement(s, graph.of(s)), s.detail)).detail


# whom it is about


def _subjects(
    graph: Graph,
    lead: Lead,
    resolved: Resolved,
    nodes: Mapping[str, Node],
    ids: Mapping[str, str],
    numbers: Mapping[str, Value],
    mails: Mapping[str, Value],
) -> tuple[Node | None, Node | None]:
    """What the caller has named; where he named nobody, who has what he gave."""
    named: dict[str, str] = {}
    for mention in sorted(resolved.by_mention):
        said = nodes[ids[mention]].statements
        if any(s.subject == mention and graph.of(s).kind == "input" for s in said):
            named.setdefault(mention.partition(":")[0], ids[mention])
    business, person = named.get("business"), named.get("person")
    if business is None and person is None:
        given = [*(numbers.get(tel(n)) for n in lead.phones), *(mails.get(mailto(e)) for e in lead.emails)]
        holders = [id for value in given if value is not None for id in value.owners]
        if not holders and lead.place.line1:
            at = ids.get(lead.place.key)
            holders = [
                ids[s.subject]
                for s in sorted(graph.statements)
                if s.property == "located_at" and s.subject in ids and ids.get(s.value) == at is not None
            ]
        holders.sort(key=lambda id: (-nodes[id].confidence, id))
        business = next((id for id in holders if nodes[id].kind == "business"), None)
        person = next((id for id in holders if nodes[id].kind == "person"), None)
    return (nodes[business] if business else None), (nodes[person] if person else None)


def _contacts(picture: Picture) -> tuple[Contact, ...]:
    """The people to talk to: who has a role in the firm, who has a number of the lead, and whom it is about."""
    reasons: dict[str, set[str]] = defaultdict(set)
    titles: dict[str, tuple[float, str]] = {}
    for edge in picture.edges:
        if edge.type in ROLES and picture.business is not None and edge.target == picture.business.id:
            reasons[edge.origin].add(edge.type)
            if edge.title:
                titles[edge.origin] = max(titles.get(edge.origin, (0.0, "")), (edge.confidence, edge.title))
    if picture.person is not None:
        reasons[picture.person.id].add("subject")
    own = {*(tel(number) for number in picture.lead.phones), *(mailto(email) for email in picture.lead.emails)}
    own |= {value.key for value in picture.values_of(picture.business, picture.phones)}
    for value in (*picture.phones.values(), *picture.emails.values()):
        if value.key in own:
            for id in value.owners:
                reasons[id].add("has_the_phone" if value.key.startswith("tel:") else "has_the_email")
    contacts = [
        _contact(picture, picture.nodes[id], why, titles.get(id, (0.0, ""))[1])
        for id, why in reasons.items()
        if picture.nodes[id].kind == "person"
    ]
    contacts.sort(
        key=lambda c: (
            not c.decides,
            -_seniority(c.title),
            not c.phones,
            -c.node.confidence,
            fold(c.node.name),
            c.node.id,
        )
    )
    return tuple(contacts[:CONTACTS_MAX])


def _contact(picture: Picture, node: Node, why: set[str], title: str) -> Contact:
    decides = "owner_of" in why or "officer_of" in why or _seniority(title) >= _TITLE_DECIDES
    return Contact(
        node=node,
        roles=tuple(sorted(why)),
        title=title,
        decides=decides,
        phones=tuple(value.text for value in picture.values_of(node, picture.phones)),
        emails=tuple(value.text for value in picture.values_of(node, picture.emails)),
    )


def _seniority(title: str) -> int:
    text = title.lower()
    return max((rank for pattern, rank in _DECIDES if pattern.search(text)), default=0)


# conflicts


def _conflicts(graph: Graph, nodes: Mapping[str, Node], numbers: Mapping[str, Value]) -> tuple[Json, ...]:
    found = []
    for id, node in sorted(nodes.items()):
        for name in ("status", "domain", "industry"):
            found += _conflict(graph, f"{id}.{name}", [s for s in node.statements if s.property == name])
    for key, value in sorted(numbers.items()):
        said = [s for s in graph.statements if s.subject == key and s.property == "line_type"]
        kinds = {s.value for s in said}
        if kinds - {"fixed_or_mobile"} and len(kinds - {"fixed_or_mobile"}) > 1:
            found += _conflict(graph, f"{phone_id(value.text)}.line_type", said)
    return tuple(found)


def _conflict(graph: Graph, name: str, said: Sequence[Statement]) -> list[Json]:
    by_value: dict[str, list[Statement]] = defaultdict(list)
    for statement in said:
        by_value[fold(statement.value) or statement.value].append(statement)
    if len(by_value) < 2:
        return []
    values = [
        {
            "value": min(voices).value,
            "confidence": confidence.combined(graph, voices),
            "sources": source_ids(voices),
        }
        for _, voices in sorted(by_value.items())
    ]
    values.sort(key=lambda value: (-float(str(value["confidence"])), str(value["value"])))
    return [{"field": name, "values": values, "chosen": 0}]


# ids that follow from what they name


def phone_id(e164: str) -> str:
    return "ph_" + digest(e164)


def email_id(address: str) -> str:
    return "em_" + digest(address)
