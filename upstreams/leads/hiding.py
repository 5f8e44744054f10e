"""A graph without those about whom nothing is told. Pure.

Whoever is hidden goes with all of his mentions, with every edge to them, and with what only he has led to; his name
goes out of quotes, titles and urls as well. A name from one source and a place from another are one person here, too:
somebody is where he, or the firm that he has a role in, is said to be by anybody, and where nothing is said of it he is
wherever the graph has a place. A hidden number or address goes wherever it stands, and whoever has it goes with it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gateway.core import subject
from gateway.core.subject import Hides
from upstreams.leads.graph import CALLER, EDGES, ROLES, Graph, Source, Statement
from upstreams.leads.resolving import Resolved, resolve

_AT = frozenset({"located_at", "mailing_at"})
_NAMES = frozenset({"name", "trade_name"})
_PARTS = ("city", "state_code", "zip")
_ENDS = ("tel:", "mailto:")
_VALUES = (*_ENDS, "place:")


def without(graph: Graph, hides: Hides) -> Graph:
    """Until nothing changes: with one who is out of the way, others may turn out to be one and the same."""
    while (left := _once(graph, hides)) != graph:
        graph = left
    return graph


def spellings(graph: Graph) -> frozenset[str]:
    """By which people in it are known again."""
    people = _People(graph, resolve(graph), _by_subject(graph))
    ends = (_contact(key) for key in _ends(graph))
    return frozenset().union(*ends, *(people.spellings(entity.mentions) for entity in people.resolved.entities))


def _once(graph: Graph, hides: Hides) -> Graph:
    people = _People(graph, resolve(graph), _by_subject(graph))
    names: set[str] = set()
    gone = {key for key in _ends(graph) if hides(_contact(key))}
    for entity in people.resolved.entities:
        if hides(people.spellings(entity.mentions)):
            gone |= entity.mentions
            names |= people.names(entity.mentions)
    gone |= {key for key in _ends(graph) if key.startswith("mailto:") and subject.without_names(key, names) != key}
    left = {
        said
        for each in graph.statements
        if each.subject not in gone and each.value not in gone and (said := _plain(each, names, hides)) is not None
    }
    his: frozenset[str] = frozenset()
    if gone:
        left = _led_to(left, {each.subject for each in left if graph.of(each).family == CALLER})
        led = {each.value for each in graph.statements if each.subject in gone and each.property in EDGES}
        alone = led - {each.subject for each in left} - {each.value for each in left}
        his = his.union(*(_contact(key) for key in alone if key.startswith(_ENDS)))

    def left_of(text: str) -> str:
        return _text(text, names, lambda said: not his.isdisjoint(said) or hides(said))

    def quoted(source: Source) -> Source:
        return source._replace(quote=left_of(source.quote), url=left_of(source.url), ref=left_of(source.ref))

    named = {each.source for each in left}
    return Graph(frozenset(left), {id: quoted(source) for id, source in graph.sources.items() if id in named})


@dataclass(frozen=True, slots=True)
class _People:
    graph: Graph
    resolved: Resolved
    subjects: Mapping[str, list[Statement]]

    def names(self, mentions: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(subject.names_of(s.value) for s in self._said(mentions) if s.property in _NAMES))

    def spellings(self, mentions: Iterable[str]) -> frozenset[str]:
        said = list(self._said(mentions))
        contacts = (_contact(s.value) for s in said if s.property in ("has_phone", "has_email"))
        names = self.names(mentions)
        where = self._where([*said, *self._said(self._firms(said))]) or self._where(self.graph.statements)
        return subject.of_names(names, where).union(*contacts)

    def _said(self, mentions: Iterable[str]) -> Iterator[Statement]:
        return (each for mention in mentions for each in self.subjects.get(mention, ()))

    def _firms(self, said: Iterable[Statement]) -> Iterator[str]:
        for each in said:
            if each.property in ROLES and each.value in self.resolved.by_mention:
                yield from self.resolved.entities[self.resolved.by_mention[each.value]].mentions

    def _where(self, said: Iterable[Statement]) -> frozenset[str]:
        at = {each.value for each in said if each.property in _AT}
        states = {each.value for each in said if each.property == "state"}
        spelled = (subject.places_of(state=state) for state in states)
        return frozenset().union(*spelled, *(self._place(key) for key in at))

    def _place(self, key: str) -> frozenset[str]:
        """As all who tell of it spell it."""
        said = self.subjects.get(key, ())
        city, state, zip = ({s.value for s in said if s.property == name} or {""} for name in _PARTS)
        return frozenset().union(*(subject.places_of(a, b, c) for a in city for b in state for c in zip))


def _contact(key: str) -> frozenset[str]:
    scheme, _, value = key.partition(":")
    spelling = subject.of_phone(value) if scheme == "tel" else subject.of_email(value)
    return frozenset(() if spelling is None else (spelling,))


def _ends(graph: Graph) -> Iterator[str]:
    ends = {each.subject for each in graph.statements} | {
        each.value for each in graph.statements if each.property in EDGES
    }
    return (key for key in ends if key.startswith(_ENDS))


def _led_to(said: Iterable[Statement], given: Collection[str]) -> set[Statement]:
    """Without edges to what nothing is said of any more, and without what no edge leads to, as his address. `given` is
    what the caller has said something of himself."""
    left = set(said)
    while True:
        subjects = {each.subject for each in left}
        led = {each.value for each in left if each.property in EDGES}.union(given)
        still = {
            each
            for each in left
            if (each.subject in led or not each.subject.startswith(_VALUES))
            and (each.property not in EDGES or each.value in subjects or each.value.startswith(_ENDS))
        }
        if still == left:
            return left
        left = still


def _plain(said: Statement, names: Collection[str], hides: Hides) -> Statement | None:
    value = said.value if said.property in EDGES else _text(said.value, (), hides)
    return said._replace(value=value, detail=_text(said.detail, names, hides)) if value or not said.value else None


def _text(text: str, names: Collection[str], hides: Hides) -> str:
    left, _ = subject.without(text, hides)
    return subject.without_names(left or "", names)


def _by_subject(graph: Graph) -> dict[str, list[Statement]]:
    found: dict[str, list[Statement]] = {}
    for statement in graph.statements:
        found.setdefault(statement.subject, []).append(statement)
    return found
