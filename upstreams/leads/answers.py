"""What tools answer -> statements. Pure.

Each reader takes the `data` and `metadata` that an operation of ours answers with, and says nothing that has no source
in it. An answer of another shape than it should have is `Unreadable`: a failure of that tool, and of nothing else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from upstreams.directory import names, phones, places
from upstreams.leads import graph
from upstreams.leads.confidence import WEIGHTS
from upstreams.leads.graph import Graph, Place, Source, Writing
from upstreams.leads.lead import domain

Json = Any

_KINDS = {
    "local_directory": "directory",
    "web": "web",
    **dict.fromkeys(("sec_edgar", "gleif", "npi", "open_corporates"), "registry"),
}
"""What kind of source a provider is, where it is no vendor of data."""
RECORDS_MAX = 40
"""People, phones or addresses that are taken from one answer."""
_OWNS = frozenset({"owner", "co-owner", "coowner", "proprietor", "founder", "cofounder", "co-founder"})
_OFFICE = re.compile(
    r"\b(chief|ceo|cfo|coo|cto|president|vice|vp|director|principal|partner|managing|member|officer|treasurer|"
    r"secretary|chair|authorized official|general manager)", re.IGNORECASE,
)  # fmt: skip


class Unreadable(ValueError):
    """An answer of the wrong shape."""


@dataclass(frozen=True, slots=True)
class Asked:
    """In which hop an answer came."""

    tool: str
    round: int
    now_ms: int
    firm: str = ""
    """The name of the firm that was asked about."""
    domain: str = ""
    cache_hit: bool = False


def people(data: Json, metadata: Json, asked: Asked) -> Graph:
    """The shape of enrich/phone and enrich/person."""
    writing, told = Writing(), _Told(metadata, asked)
    for each in _listed(_mapping(data).get("people")):
        _person(writing, told, _mapping(each))
    return writing.graph()


def _person(writing: Writing, told: "_Told", person: Mapping[str, Json]) -> None:
    name = _straight(graph.plain(person.get("name")))
    own = told.all_of(person)
    if not name or not own:
        return
    # A name without parts is a firm's in our own records; a vendor may just not know which word is which.
    firm = person.get("name_parts") is None and (own[0].kind == "directory" or names.is_business(name))
    make = graph.business if firm else graph.person
    mention = make(own[0], name, str(person.get("id") or ""))
    score = _score(person, "match_score")
    for source in own:
        writing.says(source, mention, "name", name, score)
        for alias in _listed(person.get("aliases")):
            writing.says(source, mention, "trade_name" if firm else "name", alias, score * 0.9)
    for phone in _listed(person.get("phones")):
        _number(writing, told, own, mention, _mapping(phone))
    for email in _listed(person.get("emails")):
        mail = _mapping(email)
        text = graph.plain(mail.get("email"))
        for source in told.sources(mail) or own:
            if "@" in text:
                writing.says(source, mention, "has_email", graph.mailto(text), _score(mail))
    for spot in _listed(person.get("addresses")):
        where = _mapping(spot)
        if where.get("kind") not in (None, "current", "mailing"):
            continue  # where somebody was is not where he is
        edge = "mailing_at" if where.get("kind") == "mailing" else "located_at"
        for source in told.sources(where) or own:
            writing.at(source, mention, place(where), _score(where), edge)
    _belongs(writing, own[0], mention, firm, person)


def _belongs(writing: Writing, source: Source, mention: str, firm: bool, person: Mapping[str, Json]) -> None:
    employer, title = graph.plain(person.get("employer")), graph.plain(person.get("title"))
    if employer and not firm:
        works_for = graph.business(source, employer, mention)
        writing.says(source, works_for, "name", employer, 0.8)
        writing.says(source, mention, role(title), works_for, 0.8, title)
    for relative in _listed(person.get("relatives")):
        name = graph.plain(_mapping(relative).get("name"))
        if name and not firm:
            other = graph.person(source, name, mention)
            writing.says(source, other, "name", name, 0.5)
            writing.says(source, mention, "related_to", other, 0.5)


def _number(writing: Writing, told: "_Told", own: Sequence[Source], mention: str, phone: Mapping[str, Json]) -> None:
    number = e164(phone.get("number") or phone.get("e164") or phone.get("phone"))
    if number is None:
        return
    for source in told.sources(phone) or own:
        if mention:
            writing.says(source, mention, "has_phone", graph.tel(number), _score(phone))
        writing.says(source, graph.tel(number), "line_type", phone.get("line_type"), 0.9)
        writing.says(source, graph.tel(number), "carrier", phone.get("carrier"), 0.9)


def web(data: Json, metadata: Json, asked: Asked) -> Graph:
    """The shape of enrich/websearch: phones, emails, addresses, people with titles and legal associates of the firm."""
    writing, told = Writing(), _Told(metadata, asked)
    found = _mapping(data)
    for kind, write in (
        ("phones", _number_of_firm),
        ("emails", _mail_of_firm),
        ("addresses", _place_of_firm),
        ("people", _associate),
        ("legal_associates", _associate),
    ):
        for entry in map(_mapping, _listed(found.get(kind))):
            stated = told.all_of(entry)
            for source in stated:
                firm = told.firm(writing, source)
                write(writing, source, firm, {**entry, "score": _share(entry, source, stated)})
    return writing.graph()


def _share(entry: Mapping[str, Json], source: Source, stated: Sequence[Source]) -> float:
    """What is believed of a value is told for all who state it together; this is what it leaves for one of them, by the
    weight that its kind has here."""
    voices = len({each.family for each in stated})
    alone: float = 1.0 - (1.0 - _score(entry)) ** (1.0 / voices)
    return min(1.0, alone / WEIGHTS.get(source.kind, 1.0))


def _number_of_firm(writing: Writing, source: Source, firm: str, entry: Mapping[str, Json]) -> None:
    _number(writing, _Told.by(source), [source], firm, entry)


def _mail_of_firm(writing: Writing, source: Source, firm: str, entry: Mapping[str, Json]) -> None:
    text = graph.plain(entry.get("email"))
    if "@" in text:
        writing.says(source, firm, "has_email", graph.mailto(text), _score(entry))


def _place_of_firm(writing: Writing, source: Source, firm: str, entry: Mapping[str, Json]) -> None:
    writing.at(source, firm, place(entry), _score(entry))


def _associate(writing: Writing, source: Source, firm: str, entry: Mapping[str, Json]) -> None:
    name = graph.plain(entry.get("name"))
    title = graph.plain(entry.get("title") or entry.get("role"))
    if not name:
        return
    if entry.get("entity") == "organization" or names.is_business(name):
        other = graph.business(source, name)
        writing.says(source, other, "name", name, _score(entry))
        writing.says(
            source, other, "parent_of" if "parent" in title.lower() else "related_to", firm, _score(entry), title
        )
        return
    name = _straight(name)
    mention = graph.person(source, name)
    writing.says(source, mention, "name", name, _score(entry))
    writing.says(source, mention, role(title), firm, _score(entry), title)


def company(data: Json, metadata: Json, asked: Asked) -> Graph:
    """The shape of enrich/company: firms with the numbers they have in registers, and who acts for them."""
    writing, told = Writing(), _Told(metadata, asked)
    for each in _listed(_mapping(data).get("companies")):
        _company(writing, told, _mapping(each))
    return writing.graph()


def _company(writing: Writing, told: "_Told", firm: Mapping[str, Json]) -> None:
    name = graph.plain(firm.get("name"))
    own = told.all_of(firm)
    if not name or not own:
        return
    mention = graph.business(own[0], name, str(firm.get("id") or ""))
    score = _score(firm, "match_score")
    for source in own:
        writing.says(source, mention, "name", name, score)
        for other in _listed(firm.get("aliases")):
            writing.says(source, mention, "trade_name", other, score * 0.9)
        for field in ("status", "industry"):
            writing.says(source, mention, field, firm.get(field), score)
        writing.says(source, mention, "domain", domain(graph.plain(firm.get("domain") or firm.get("website"))), score)
        for scheme, value in _mapping(firm.get("identifiers") or {}).items():
            if graph.plain(value, 80):
                writing.says(source, mention, "identifier", f"{graph.plain(scheme, 40)}:{value}", score)
    for phone in _listed(firm.get("phones")):
        _number(writing, told, own, mention, _mapping(phone))
    for email in map(_mapping, _listed(firm.get("emails"))):
        for source in told.sources(email) or own:
            if "@" in graph.plain(email.get("email")):
                writing.says(source, mention, "has_email", graph.mailto(email["email"]), _score(email))
    for spot in map(_mapping, _listed(firm.get("addresses"))):
        for source in told.sources(spot) or own:
            writing.at(source, mention, place(spot), _score(spot))
    for human in map(_mapping, _listed(firm.get("people"))):
        _officer(writing, told.sources(human) or own, mention, human, score)


def _officer(writing: Writing, sources: Sequence[Source], firm: str, human: Mapping[str, Json], score: float) -> None:
    name, title = graph.plain(human.get("name")), graph.plain(human.get("title"))
    if not name or names.is_business(name):
        return
    name = _straight(name)
    for source in sources:
        mention = graph.person(source, name)
        writing.says(source, mention, "name", name, score)
        kind = role(title)
        # Whom a register names is an officer, whatever he is called there.
        writing.says(source, mention, "officer_of" if kind == "employee_of" else kind, firm, score, title)
        number = e164(human.get("phone"))
        if number is not None:
            writing.says(source, mention, "has_phone", graph.tel(number), score)


def email(data: Json, metadata: Json, asked: Asked) -> Graph:
    """The shape of enrich/email: people with their addresses at the firm that was asked about."""
    writing, told = Writing(), _Told(metadata, asked)
    for each in map(_mapping, _listed(_mapping(data).get("people"))):
        name, title = _straight(graph.plain(each.get("name"))), graph.plain(each.get("title"))
        for source in told.all_of(each) if name else ():
            mention = graph.person(source, name, str(each.get("id") or ""))
            writing.says(source, mention, "name", name, _score(each, "match_score"))
            writing.says(source, mention, role(title), told.firm(writing, source), 0.7, title)
            for mail in map(_mapping, _listed(each.get("emails"))):
                if "@" in graph.plain(mail.get("email")):
                    writing.says(source, mention, "has_email", graph.mailto(mail["email"]), _score(mail))
    return writing.graph()


class _Told:
    """The sources that an answer names, by the ids it gives them."""

    def __init__(self, metadata: Json, asked: Asked) -> None:
        self._asked = asked
        listed = _listed(_mapping(metadata or {}).get("sources"))
        self._by_id = {str(_mapping(each).get("id")): self._made(_mapping(each)) for each in listed}
        self._only: Source | None = None

    @classmethod
    def by(cls, source: Source) -> "_Told":
        """This one says it, whatever ids are named."""
        told = cls({}, Asked("", 0, 0))
        told._only = source
        return told

    def sources(self, entry: Mapping[str, Json]) -> list[Source]:
        if self._only is not None:
            return [self._only]
        named = []
        for told in _listed(entry.get("sources")):
            id, quote = (told.get("id"), told.get("quote")) if isinstance(told, Mapping) else (told, None)
            if (source := self._by_id.get(str(id))) is not None:
                named.append(_quoting(source, quote))
        return named

    def all_of(self, record: Mapping[str, Json]) -> list[Source]:
        """What a record and the values in it name; the only one that there is, where they name none."""
        found: dict[str, Source] = {source.id: source for source in self.sources(record)}
        for field in ("phones", "emails", "addresses", "people"):
            for value in _listed(record.get(field)):
                if isinstance(value, Mapping):
                    found.update((source.id, source) for source in self.sources(value))
        if not found and len(self._by_id) == 1:
            found = {source.id: source for source in self._by_id.values()}
        return list(found.values())

    def firm(self, writing: Writing, source: Source) -> str:
        """The firm that was asked about, as a source knows it."""
        mention = graph.business(source, self._asked.firm)
        writing.says(source, mention, "name", self._asked.firm)
        if self._asked.domain and source.kind != "web":
            writing.says(source, mention, "domain", self._asked.domain)
        return mention

    def _made(self, entry: Mapping[str, Json]) -> Source:
        provider = graph.plain(entry.get("provider"), 64) or "unnamed"
        url = graph.plain(entry.get("url"), 2_000)
        site = family(domain(url)) if url else ""
        kind = _KINDS.get(provider, "vendor")
        if kind == "web" and site and site == family(self._asked.domain):
            kind = "own_site"
        of_site = kind in ("web", "own_site") and site
        return graph.source(
            kind, provider, family=of_site or graph.plain(entry.get("family"), 64) or provider, tool=self._asked.tool,
            ref=graph.plain(entry.get("record") or entry.get("record_ref")), url=url,
            quote=graph.plain(entry.get("quote"), graph.QUOTE_MAX), retrieved_ms=_when(entry.get("retrieved_at"))
            or self._asked.now_ms, round=self._asked.round, cache_hit=self._asked.cache_hit,
        )  # fmt: skip


def _quoting(source: Source, quote: Json) -> Source:
    """The same page, by the words that state this value."""
    words = graph.plain(quote, graph.QUOTE_MAX)
    if not words or source.kind not in ("web", "own_site"):
        return source
    return graph.source(
        source.kind, source.provider, family=source.family, tool=source.tool, ref=source.ref, url=source.url,
        quote=words, retrieved_ms=source.retrieved_ms, round=source.round, cache_hit=source.cache_hit,
    )  # fmt: skip


def family(host: str) -> str:
    """The registrable domain of a host, as near as its last labels tell."""
    labels = host.split(".")
    country = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in ("co", "com", "org", "net", "gov", "ac", "edu")
    return ".".join(labels[-3:] if country else labels[-2:])


def role(title: str) -> str:
    """What a title makes of somebody: owner_of, officer_of, registered_agent_of, employee_of."""
    text = title.lower()
    if "registered agent" in text or "statutory agent" in text:
        return "registered_agent_of"
    if _owns(text):
        return "owner_of"
    return "officer_of" if _OFFICE.search(text) else "employee_of"


def _straight(name: str) -> str:
    """ "Sample, Dana Q" -> "Dana Q Sample", of a person; firms keep their commas."""
    if name.count(",") != 1 or names.is_business(name):
        return name
    parts = names.split(name)
    return parts.full if parts.first and parts.last else name


def _owns(title: str) -> bool:
    return bool(set(title.lower().replace("/", " ").replace(",", " ").split()) & _OWNS)


def place(entry: Mapping[str, Json]) -> Place:
    line1 = graph.plain(entry.get("line1") or entry.get("street"))
    whole = graph.plain(entry.get("address") or entry.get("text"))
    if not line1 and not entry.get("city") and whole:
        parts = places.split(whole)
        return Place(parts.line1, parts.line2, parts.city, parts.state, parts.zip)
    state = places.state_code(graph.plain(entry.get("state_code") or entry.get("state"), 40)) or ""
    return Place(
        line1,
        graph.plain(entry.get("line2"), 60),
        graph.plain(entry.get("city"), 80),
        state,
        places.zip5(graph.plain(entry.get("zip") or entry.get("postal_code"), 10)) or "",
    )


def e164(value: Json) -> str | None:
    text = graph.plain(value, 64)
    return phones.normalise(text, "US") if text else None


def _score(entry: Mapping[str, Json], *more: str) -> float:
    for name in ("score", "confidence", *more):
        value = entry.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
            return float(value) if value <= 1 else min(float(value) / 100, 1.0)
    return 0.8


def _when(value: Json) -> int:
    if not isinstance(value, str):
        return 0
    try:
        at = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return 0
    return max(0, int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))


def _mapping(value: Json) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise Unreadable("a part of the answer is no object")
    return value


def _listed(value: Json) -> Sequence[Json]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise Unreadable("a part of the answer is no list")
    return value[:RECORDS_MAX]
