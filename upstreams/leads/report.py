"""The graph as it is told: entities, contacts, phones, emails, edges, conflicts, sources. Pure.

Everything has its sources and its confidence, and every edge leads to something that is told as well. Ids are made from
what they name, so the same facts have the same ids in the next answer.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from upstreams.directory import phones
from upstreams.directory.names import fold
from upstreams.leads import confidence
from upstreams.leads.graph import CALLER, Graph, Source, Statement, digest, source_ids
from upstreams.leads.lead import address
from upstreams.leads.picture import Contact, Node, Picture, Value, email_id, owner, phone_id

Json = Any


def contact_id(node: Node) -> str:
    return "con_" + digest(node.id)


def node_of(key: str) -> str:
    """The id that an edge's end is told by."""
    if key.startswith("tel:"):
        return phone_id(key[4:])
    if key.startswith("mailto:"):
        return email_id(key[7:])
    return key


def backfill(picture: Picture, before: Graph) -> dict[str, Json]:
    """`lead_enrichment_v1`, the part that is the graph. `before`: what was known when the call came."""
    known = _keys(before)
    graph = picture.graph
    disputed = {conflict["field"].split(".")[0] for conflict in picture.conflicts}
    told = {
        "entities": [_entity(picture, node) for node in _shown(picture)],
        "contacts": [_contact_told(rank, contact) for rank, contact in enumerate(picture.contacts, 1)],
        "phones": [_phone(picture, value, known, disputed) for _, value in sorted(picture.phones.items())],
        "emails": [_email(picture, value, known) for _, value in sorted(picture.emails.items())],
        "edges": [
            {
                "id": "e_" + digest(edge.origin, edge.type, edge.target),
                "from": edge.origin,
                "to": node_of(edge.target),
                "type": edge.type,
                "attrs": {"title": edge.title} if edge.title else {},
                "confidence": edge.confidence,
                "sources": source_ids(edge.statements),
            }
            for edge in picture.edges
        ],
        "conflicts": list(picture.conflicts),
    }
    return {**told, "sources": [_source(source) for source in _quoted(graph, told)]}


def _shown(picture: Picture) -> list[Node]:
    first = [node.id for node in picture.subjects]
    order = {"business": 0, "person": 1, "place": 2}
    return sorted(
        picture.nodes.values(),
        key=lambda n: (first.index(n.id) if n.id in first else len(first), order[n.kind], -n.confidence, n.name, n.id),
    )


def _entity(picture: Picture, node: Node) -> dict[str, Json]:
    graph = picture.graph
    # A place has its parts said of it, and is said to be somebody's.
    voices = [*node.statements, *(s for e in picture.edges if e.target == node.id for s in e.statements)]
    told: dict[str, Json] = {"id": node.id, "type": node.kind}
    if node.kind == "place":
        told["address"] = address(node.place)
    else:
        told["name"] = node.name
        told["names"] = _names(graph, node)
    if node.kind == "business":
        identifiers = _grouped(node.statements, "identifier")
        told["identifiers"] = [
            {
                "scheme": value.partition(":")[0],
                "value": value.partition(":")[2],
                "confidence": confidence.combined(graph, said),
                "sources": source_ids(said),
            }
            for value, said in identifiers
        ]
        for name in ("status", "domain", "industry"):
            told[name] = _best(graph, node.statements, name)
    return {
        **told,
        "confidence": node.confidence,
        "from_input": any(graph.of(s).family == CALLER for s in voices),
        "sources": source_ids(voices),
    }


def _names(graph: Graph, node: Node) -> list[Json]:
    found: dict[str, list[Statement]] = defaultdict(list)
    for statement in node.statements:
        if statement.property in ("name", "trade_name") and fold(statement.value) != fold(node.name):
            found[fold(statement.value)].append(statement)
    return [
        {
            "value": min(said, key=lambda s: (-len(s.value), s.value)).value,
            "kind": "trade" if all(s.property == "trade_name" for s in said) else "other",
            "confidence": confidence.combined(graph, said),
            "sources": source_ids(said),
        }
        for _, said in sorted(found.items())
    ]


def _grouped(said: Iterable[Statement], property: str) -> list[tuple[str, list[Statement]]]:
    found: dict[str, list[Statement]] = defaultdict(list)
    for statement in said:
        if statement.property == property:
            found[statement.value].append(statement)
    return sorted(found.items())


def _best(graph: Graph, said: Iterable[Statement], property: str) -> str | None:
    sure = {value: confidence.combined(graph, voices) for value, voices in _grouped(said, property)}
    return min(sure, key=lambda value: (-sure[value], value)) if sure else None


def _contact_told(rank: int, contact: Contact) -> dict[str, Json]:
    roles = (["decision_maker"] if contact.decides else []) + list(contact.roles)
    return {
        "id": contact_id(contact.node),
        "entity_id": contact.node.id,
        "name": contact.node.name,
        "title": contact.title or None,
        "roles": roles,
        "phones": [phone_id(number) for number in contact.phones],
        "emails": [email_id(email) for email in contact.emails],
        "confidence": contact.node.confidence,
        "rank": rank,
    }


def _phone(picture: Picture, value: Value, known: frozenset[str], disputed: set[str]) -> dict[str, Json]:
    graph, id, number = picture.graph, phone_id(value.text), value.text
    said = [s for s in graph.statements if s.subject == value.key]
    voices = [*value.statements]
    belongs = owner(picture, value)
    line_type = _best(graph, [s for s in said if s.value != "fixed_or_mobile"], "line_type")
    return {
        "id": id,
        "e164": number,
        "national": phones.national(number),
        "line_type": line_type or _best(graph, said, "line_type") or phones.kind(number)[0],
        "owner_entity_id": belongs,
        "label": _label(picture, belongs),
        "confidence": picture.sure[value.key],
        "from_input": any(graph.of(s).family == CALLER for s in voices),
        "is_new": value.key not in known,
        "status": confidence.status(graph, voices, conflicting=id in disputed),
        "sources": source_ids(voices),
    }


def _label(picture: Picture, belongs: str | None) -> str | None:
    if belongs is None:
        return None
    return "main" if picture.nodes[belongs].kind == "business" else "direct"


def _email(picture: Picture, value: Value, known: frozenset[str]) -> dict[str, Json]:
    graph = picture.graph
    return {
        "id": email_id(value.text),
        "email": value.text,
        "owner_entity_id": owner(picture, value),
        "confidence": picture.sure[value.key],
        "from_input": any(graph.of(s).family == CALLER for s in value.statements),
        "is_new": value.key not in known,
        "status": confidence.status(graph, value.statements),
        "sources": source_ids(value.statements),
    }


def _quoted(graph: Graph, told: Mapping[str, Json]) -> list[Source]:
    named: set[str] = set()
    for part in ("entities", "phones", "emails", "edges"):
        for each in told[part]:
            named.update(each["sources"])
            for several in ("names", "identifiers"):
                for inner in each.get(several, ()):
                    named.update(inner["sources"])
    for conflict in told["conflicts"]:
        for value in conflict["values"]:
            named.update(value["sources"])
    order = {"input": 0, "prior": 1}
    return sorted((graph.sources[id] for id in named), key=lambda s: (order.get(s.kind, 2), s.round, s.provider, s.id))


def _source(source: Source) -> dict[str, Json]:
    told: dict[str, Json] = {
        "id": source.id,
        "kind": source.kind,
        "provider": source.provider,
        "retrieved_at": datetime.fromtimestamp(source.retrieved_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if source.kind not in ("input", "prior"):
        told |= {"tool": source.tool, "round": source.round, "cache_hit": source.cache_hit}
    for name, value in (("record_ref", source.ref), ("url", source.url), ("quote", source.quote)):
        if value:
            told[name] = value
    return told


# what is new


def _keys(before: Graph) -> frozenset[str]:
    """Numbers, mail addresses and numbers of registers that a graph has."""
    said = {s.value for s in before.statements if s.property in ("has_phone", "has_email")}
    said |= {s.subject for s in before.statements if s.property == "label"}
    return frozenset(said | {"id:" + s.value for s in before.statements if s.property == "identifier"})


def found_anew(picture: Picture, before: Graph) -> dict[str, list[str]]:
    """What was not known before and is sure enough to be charged for, by kind: phones, emails, contacts, addresses,
    identifiers. Somebody who was known under another spelling is not found anew."""
    known = _keys(before)
    good = confidence.USABLE

    def fresh(values: Mapping[str, Value]) -> list[str]:
        return [key for key in sorted(values) if key not in known and picture.sure[key] >= good]

    def was_known(node: Node) -> bool:
        return any(s in before.statements for s in node.statements)

    addresses = {
        edge.target
        for edge in picture.edges
        if edge.type in ("located_at", "mailing_at")
        and edge.confidence >= good
        and picture.nodes[edge.target].place.line1
        and not was_known(picture.nodes[edge.target])
    }
    found = {
        "phones": fresh(picture.phones),
        "emails": fresh(picture.emails),
        "contacts": [
            contact.node.id
            for contact in picture.contacts
            if contact.node.confidence >= good and not was_known(contact.node)
        ],
        "addresses": sorted(addresses),
        "identifiers": [
            value
            for node in picture.nodes.values()
            if node.kind == "business" and (picture.business is None or node.id == picture.business.id)
            for value, said in _grouped(node.statements, "identifier")
            if "id:" + value not in known and confidence.combined(picture.graph, said) >= good
        ],
    }
    return {kind: values for kind, values in found.items() if values}
