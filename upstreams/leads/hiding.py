"""A graph without those about whom nothing is told. Pure."""

from collections.abc import Iterator

from gateway.core import subject
from gateway.core.subject import Hides
from upstreams.leads.graph import ROLES, Graph, Statement
from upstreams.leads.resolving import Resolved, resolve

_AT = frozenset({"located_at", "mailing_at"})


def without(graph: Graph, hides: Hides) -> Graph:
    """Whoever is hidden goes with all of his mentions and with every edge to them, so a name from one source and a
    place from another are one person here, too. A hidden number or address goes wherever it stands."""
    subjects = _by_subject(graph)
    gone = {key for key in _ends(graph) if hides(_contact(key))}
    resolved = resolve(graph)
    for entity in resolved.entities:
        if hides(_spellings(sorted(entity.mentions), subjects, resolved)):
            gone |= entity.mentions
    if not gone:
        return graph
    left = frozenset(each for each in graph.statements if each.subject not in gone and each.value not in gone)
    named = {each.source for each in left}
    return Graph(left, {id: source for id, source in graph.sources.items() if id in named})


def _spellings(mentions: list[str], subjects: dict[str, list[Statement]], resolved: Resolved) -> frozenset[str]:
    said = [each for mention in mentions for each in subjects.get(mention, [])]
    firms = [each.value for each in said if each.property in ROLES]  # where somebody works is where he is
    firms = [mention for firm in firms for mention in sorted(resolved.entities[resolved.by_mention[firm]].mentions)]
    names: set[str] = set()
    contacts: set[str] = set()
    places: set[str] = set()
    for each in said:
        if each.property in ("name", "trade_name"):
            names |= subject.names_of(each.value)
        elif each.property in ("has_phone", "has_email"):
            contacts |= _contact(each.value)
    for each in (*said, *(each for firm in firms for each in subjects.get(firm, []))):
        if each.property in _AT:
            places |= _places(subjects.get(each.value, []))
        elif each.property == "state":
            places |= subject.places_of(state=each.value)
    return subject.of_names(names, places) | contacts


def _places(said: list[Statement]) -> frozenset[str]:
    """Of one place, as all who tell of it spell it."""
    spelled = {name: {each.value for each in said if each.property == name} or {""} for name in _PARTS}
    return frozenset(
        spelling
        for city in spelled["city"]
        for state in spelled["state_code"]
        for zip in spelled["zip"]
        for spelling in subject.places_of(city, state, zip)
    )


_PARTS = ("city", "state_code", "zip")


def _contact(key: str) -> frozenset[str]:
    scheme, _, value = key.partition(":")
    spelling = subject.of_phone(value) if scheme == "tel" else subject.of_email(value)
    return frozenset(() if spelling is None else (spelling,))


def _ends(graph: Graph) -> Iterator[str]:
    ends = {each.subject for each in graph.statements} | {each.value for each in graph.statements}
    return (key for key in sorted(ends) if key.startswith(("tel:", "mailto:")))


def _by_subject(graph: Graph) -> dict[str, list[Statement]]:
    found: dict[str, list[Statement]] = {}
    for statement in sorted(graph.statements):
        found.setdefault(statement.subject, []).append(statement)
    return found
