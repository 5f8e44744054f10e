"""Who is who: the mentions of a graph, gathered into entities. Pure, and the same whatever order answers came in.

Two mentions of a firm are one where they share a register's number or a domain, or a phone, an email or an address
under names that agree, or an agreeing name within one state. Two of a person are one where their names agree and they
share a phone, an email, a street address or a firm; or where names and place agree so well that a doubt is small. They
are two, whatever they share, where a register or a provider tells them apart, or their names contradict. What is alike
and not sure enough becomes a `same_as` edge and no entity.

Pairs are joined from the surest on, and in the order of their ids where they are as sure; a join that would bring
contradicting mentions together is left out. So the result is a function of the set.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from upstreams.directory import names, places
from upstreams.directory.firms import core
from upstreams.directory.names import Name, alike, fold
from upstreams.leads.graph import ROLES, Graph, Statement

JOIN = 0.85
"""From here on two that share nothing but looks are one."""
ALIKE = 0.60
"""From here on they are told to be alike."""
_STRONG, _FIRM = 1.0, 0.95
_LAST_NAME_MIN = 0.92


@dataclass(frozen=True, slots=True)
class Entity:
    """A firm or a human being, as all mentions of it together."""

    kind: str
    """business, person."""
    mentions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Alike:
    """Two entities, by their place in the list, that may be one."""

    a: int
    b: int
    score: float


@dataclass(frozen=True, slots=True)
class Resolved:
    entities: tuple[Entity, ...]
    by_mention: Mapping[str, int]
    alike: tuple[Alike, ...]
    places: Mapping[str, str]
    """Every place's key -> the key of the fullest spelling of the same place."""


@dataclass(slots=True)
class _Mention:
    id: str
    kind: str
    names: set[str] = field(default_factory=set)
    strong: set[str] = field(default_factory=set)
    """Numbers, mail, street addresses, domains."""
    registered: set[tuple[str, str]] = field(default_factory=set)
    firms: set[str] = field(default_factory=set)
    """Of a person: the firms he has a role in."""
    states: set[str] = field(default_factory=set)
    areas: set[str] = field(default_factory=set)
    """ZIPs and cities."""
    records: set[tuple[str, str]] = field(default_factory=set)
    """(provider, its record)."""


def resolve(graph: Graph) -> Resolved:
    spelled = _places(graph)
    mentions = _mentions(graph, spelled)
    firms = [each for each in mentions if each.kind == "business"]
    gathered, doubts = _gather(firms, _same_firm)
    firm_of = {mention: f"firm:{min(group)}" for group in gathered for mention in group}
    people = [each for each in mentions if each.kind == "person"]
    for each in people:
        each.firms = {firm_of[firm] for firm in each.firms if firm in firm_of}
        if not each.areas:  # where he works is where he is, for all that is known
            for other in firms:
                if firm_of[other.id] in each.firms:
                    each.areas |= other.areas
                    each.states |= other.states
    human, alike_people = _gather(people, _same_person)
    entities = [Entity("business", frozenset(group)) for group in gathered]
    entities += [Entity("person", frozenset(group)) for group in human]
    entities.sort(key=lambda entity: (entity.kind, min(entity.mentions)))
    by_mention = {mention: index for index, entity in enumerate(entities) for mention in entity.mentions}
    best: dict[tuple[int, int], float] = {}
    for score, a, b in (*doubts, *alike_people):
        low, high = sorted((by_mention[a], by_mention[b]))
        if low != high:
            best[low, high] = max(best.get((low, high), 0.0), score)
    return Resolved(
        tuple(entities), by_mention, tuple(Alike(a, b, score) for (a, b), score in sorted(best.items())), spelled
    )


def _mentions(graph: Graph, spelled: Mapping[str, str]) -> list[_Mention]:
    found: dict[str, _Mention] = {}
    fields: dict[str, dict[str, str]] = defaultdict(dict)
    for each in graph.statements:
        if each.subject.startswith("place:"):
            fields[spelled[each.subject]][each.property] = max(
                each.value, fields[spelled[each.subject]].get(each.property, "")
            )
    for statement in graph.statements:
        kind = statement.subject.partition(":")[0]
        if kind in ("person", "business"):
            mention = found.setdefault(statement.subject, _Mention(statement.subject, kind))
            _note(mention, statement, spelled, fields)
            source = graph.of(statement)
            if source.ref and source.kind not in ("input", "prior"):
                mention.records.add((source.provider, statement.subject))
    return [mention for _, mention in sorted(found.items()) if mention.names]


def _note(
    mention: _Mention, statement: Statement, spelled: Mapping[str, str], fields: Mapping[str, Mapping[str, str]]
) -> None:
    match statement.property:
        case "name" | "trade_name":
            mention.names.add(statement.value)
        case "has_phone" | "has_email":
            mention.strong.add(statement.value)
        case "domain":
            mention.strong.add("domain:" + statement.value.lower())
        case "identifier":
            scheme, _, value = statement.value.partition(":")
            mention.registered.add((scheme, value))
        case "state":
            mention.states.add(statement.value)
        case "located_at" | "mailing_at":
            key = spelled.get(statement.value, statement.value)
            place = fields.get(key, {})
            if place.get("line1") and statement.property == "located_at":
                mention.strong.add(key)
            if place.get("zip"):
                mention.areas.add(place["zip"])
            if place.get("state_code"):
                mention.states.add(place["state_code"])
            if place.get("city"):
                mention.areas.add(places.city_word(place["city"]))
        case role if role in ROLES:
            mention.firms.add(statement.value)


_Judge = Callable[["_Mention", "_Mention"], float]
"""0 to 1: how sure two mentions are one."""


def _gather(mentions: Sequence[_Mention], same: _Judge) -> tuple[list[set[str]], list[tuple[float, str, str]]]:
    """(groups, pairs that are alike and were not joined)."""
    by_id = {mention.id: mention for mention in mentions}
    pairs = [
        (score, one.id, other.id)
        for at, one in enumerate(mentions)
        for other in mentions[at + 1 :]
        if (score := same(one, other)) >= ALIKE
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    foes = _foes([by_id[id] for id in sorted({id for _, a, b in pairs for id in (a, b)})])
    unsure = _ambiguous(pairs, foes)
    group_of = {mention: {mention} for mention in by_id}
    doubts: list[tuple[float, str, str]] = []
    for score, a, b in pairs:
        joined, other_group = group_of[a], group_of[b]
        if joined is other_group:
            continue
        weak = score < _FIRM and (score < JOIN or (a, b) in unsure)
        if weak or any(foes[each] & other_group for each in joined):
            doubts.append((min(score, 0.95), a, b))
            continue
        joined |= other_group
        for mention in other_group:
            group_of[mention] = joined
    return [group for mention, group in sorted(group_of.items()) if mention == min(group)], doubts


_Foes = Mapping[str, set[str]]
"""Whom a mention contradicts: asked of once for each two, however often they meet."""


def _foes(mentions: Sequence[_Mention]) -> _Foes:
    foes: dict[str, set[str]] = {mention.id: set() for mention in mentions}
    for at, one in enumerate(mentions):
        for other in mentions[at + 1 :]:
            if _contradict(one, other):
                foes[one.id].add(other.id)
                foes[other.id].add(one.id)
    return foes


def _ambiguous(pairs: Sequence[tuple[float, str, str]], foes: _Foes) -> set[tuple[str, str]]:
    """Pairs by looks alone of which one could as well be somebody else, who is a third."""
    partners: dict[str, set[str]] = defaultdict(set)
    for score, a, b in pairs:
        if JOIN <= score < _FIRM:
            partners[a].add(b)
            partners[b].add(a)
    several = {id for id, others in partners.items() if any(foes[x] & others for x in others)}
    return {(a, b) for _, a, b in pairs if a in several or b in several}


def _contradict(a: _Mention, b: _Mention) -> bool:
    """Whether somebody tells them apart."""
    if a.kind == "business":
        schemes = {scheme for scheme, _ in a.registered} & {scheme for scheme, _ in b.registered}
        return any(
            {value for of, value in a.registered if of == scheme}.isdisjoint(
                value for of, value in b.registered if of == scheme
            )
            for scheme in schemes
        )
    if _names_agree(a.names, b.names) == 0.0:
        return True
    # One provider's two records are two people to it, unless they have a number or an address in common.
    providers = {provider for provider, _ in a.records} & {provider for provider, _ in b.records}
    return bool(providers) and not a.strong & b.strong


def _same_person(a: _Mention, b: _Mention) -> float:
    agreement = _names_agree(a.names, b.names)
    if agreement == 0.0:
        return 0.0
    shared = len(a.strong & b.strong) + len(a.firms & b.firms)
    if shared:  # the more they share, and the more alike their names, the sooner they are joined
        return _STRONG + shared / 10 + agreement / 20
    if a.states and b.states and not a.states & b.states:
        return 0.0
    if _one_word(a) or _one_word(b):
        return 0.0
    zips = {area[:3] for area in a.areas if area.isdigit()} & {area[:3] for area in b.areas if area.isdigit()}
    if a.areas & b.areas:
        return round(min(0.94, 0.94 * agreement), 3)
    if zips:
        return round(0.80 * agreement, 3)
    return round(ALIKE * agreement, 3) if agreement == 1.0 else 0.0


def _one_word(mention: _Mention) -> bool:
    return all(len(fold(name).split()) < 2 for name in mention.names)


def _same_firm(a: _Mention, b: _Mention) -> float:
    if a.registered & b.registered:
        return _STRONG
    likeness = max((firms_alike(x, y) for x in a.names for y in b.names), default=0.0)
    shared = a.strong & b.strong
    if any(key.startswith("domain:") for key in shared) and likeness >= 0.5:
        return _STRONG
    if shared and likeness >= 0.85:
        return 0.98
    far = bool(a.states and b.states and not a.states & b.states)
    if likeness == 1.0:
        return ALIKE if far else _FIRM if a.states & b.states else 0.95
    if likeness >= 0.92 and not far and a.areas & b.areas:
        return 0.90
    return ALIKE if likeness >= 0.92 or shared else 0.0


@lru_cache(maxsize=8192)
def _split(name: str) -> Name:
    return names.split(name)


def _names_agree(a: Iterable[str], b: Iterable[str]) -> float:
    """The best of any two of their names; 0 where they contradict."""
    return max((_agree(_split(x), _split(y)) for x in a for y in b), default=0.0)


def _agree(a: Name, b: Name) -> float:
    last = names.agree_last(a.last, b.last, _LAST_NAME_MIN)
    if last == 0.0:
        return 0.0
    if not a.first and not b.first:
        return last
    rest = names.agree_rest(a, b)
    return last * names.agree_first(a.first, b.first) if rest == 1.0 else 0.0


@lru_cache(maxsize=8192)
def firm_key(name: str) -> str:
    """`core`, which is asked of the same names again and again."""
    return core(name)


def firms_alike(a: str, b: str) -> float:
    """0 to 1: two names of firms, whatever the order of their words."""
    x, y = firm_key(a), firm_key(b)
    if x == y:
        return 1.0 if x else 0.0
    return round(max(alike(x, y), alike(" ".join(sorted(x.split())), " ".join(sorted(y.split())))), 3) * 0.999


def _places(graph: Graph) -> dict[str, str]:
    """Each place's key -> the fullest one's: a street without its ZIP is where the same street of that city has one."""
    fields: dict[str, dict[str, str]] = defaultdict(dict)
    for each in sorted(graph.statements):
        if each.subject.startswith("place:"):
            fields[each.subject].setdefault(each.property, each.value)
    keys = sorted(fields)
    whole: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for key in keys:
        street, unit, _, state = key.removeprefix("place:").split("|", 3)
        if street and fields[key].get("zip") and fields[key].get("city"):
            whole[street, unit, places.city_word(fields[key]["city"])].append(key)
    spelled: dict[str, str] = {}
    for key in keys:
        street, unit, area, state = key.removeprefix("place:").split("|", 3)
        fuller = [
            other
            for other in whole.get((street, unit, area), ())
            if not state or other.rsplit("|", 1)[1] in (state, "")
        ]
        spelled[key] = fuller[0] if len(fuller) == 1 else key
    # With the state said once and left out once, under one ZIP.
    by_zip: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for key in keys:
        street, unit, area, state = key.removeprefix("place:").split("|", 3)
        if area.isdigit():
            by_zip[street, unit, area].append(key)
    for same in by_zip.values():
        stated = [key for key in same if not key.endswith("|")]
        if len(stated) == 1:
            for key in same:
                spelled[key] = stated[0]
    return {key: _end(spelled, key) for key in spelled}


def _end(spelled: Mapping[str, str], key: str) -> str:
    seen = {key}
    while (following := spelled.get(key, key)) not in seen:
        seen.add(following)
        key = following
    return key
