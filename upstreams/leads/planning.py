"""What to do next: the rules. Pure, so the same lead, tools and answers always give the same graph.

A move is a tool with its question; its key is what both come to, and one that was made is not made again. Each has a
gain, from a fixed table, and the moves are tried by gain / (cost + epsilon), those that are as good in the order of the
rules. A caller's prompts raise gains by their words; words that mean nothing here are told as such, never guessed at.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from upstreams.directory.names import fold
from upstreams.leads import confidence, coverage
from upstreams.leads.graph import CALLER, Place, Statement, digest
from upstreams.leads.picture import Contact, Picture, Value, owner
from upstreams.leads.resolving import firm_key

Json = Any

DIRECTORY = "directory_lookup"
WEBSEARCH = "enrich_websearch"
PERSON_HUNT = "whitepages_person_hunt"
COMPANY = "enrich_company"
EMAIL = "enrich_email"
PHONE_VERIFY = "supplement_phone_verify"
CONTACT_HUNT = "supplement_contact_hunt"
VARIANT_SEARCH = "supplement_variant_search"
RESIDENTS = "supplement_address_residents"

ASKS = {
    DIRECTORY: "directory",
    WEBSEARCH: "websearch",
    PERSON_HUNT: "person",
    COMPANY: "company",
    EMAIL: "email",
    PHONE_VERIFY: "phone",
    CONTACT_HUNT: "person",
    VARIANT_SEARCH: "websearch",
    RESIDENTS: "person",
}
"""Whom a tool asks: two tools that ask the same one ask it nothing twice."""
SUPPLEMENTS = frozenset({PHONE_VERIFY, CONTACT_HUNT, VARIANT_SEARCH, RESIDENTS})
"""The second phase: what follows from what was found."""

EPSILON_USD = 0.05
FLOOR = 1.0
"""Gain for a dollar, below which nothing is worth doing by itself."""
WISHED = 4.0
"""What a prompt adds to a gain."""
OF_A_KIND_MAX = 3
"""Contacts, phones or variants that one look at the graph makes moves for."""
THIN = 0.5

_WORDS = (
    (r"owner|decision[- ]?maker|who (runs|owns)|principal|contact", (WEBSEARCH, COMPANY, CONTACT_HUNT)),
    (r"mobile|cell|direct|phone|number", (CONTACT_HUNT, PERSON_HUNT, PHONE_VERIFY, WEBSEARCH)),
    (r"e-?mail", (EMAIL, WEBSEARCH)),
    (r"address|located|location|where|lives?\b", (PERSON_HUNT, RESIDENTS, WEBSEARCH)),
    (r"registered agent|register|registry|officers?\b|parent( company)?|legal", (COMPANY,)),
    (r"still open|closed|active|status", (COMPANY, WEBSEARCH)),
)
_WISHES = tuple((re.compile(pattern), tools) for pattern, tools in _WORDS)


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that could be done."""

    tool: str
    question: Mapping[str, Json]
    gain: float
    why: str
    label: str
    """For a button; the same words again choose this move."""
    about: str = ""
    """The id of what it is about in the graph."""
    wished: bool = False

    @property
    def key(self) -> str:
        """What it comes to: the same for every tool that asks the same one the same."""
        return f"{ASKS[self.tool]}:{digest(orjson.dumps(self.question, option=orjson.OPT_SORT_KEYS).decode())}"

    @property
    def phase(self) -> int:
        return 2 if self.tool in SUPPLEMENTS else 1


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller's prompts ask for."""

    tools: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    """Buttons that were pressed, folded."""
    unknown: tuple[str, ...] = ()


def wishes(prompts: Sequence[str], labels: Sequence[str] = ()) -> Wishes:
    """`labels`: of the buttons that there are."""
    known = {fold(label) for label in labels}
    tools: set[str] = set()
    pressed: set[str] = set()
    unknown = []
    for prompt in prompts:
        if fold(prompt) in known:
            pressed.add(fold(prompt))
            continue
        meant = {tool for pattern, wanted in _WISHES if pattern.search(prompt.lower()) for tool in wanted}
        tools |= meant
        if not meant:
            unknown.append(prompt)
    return Wishes(frozenset(tools), frozenset(pressed), tuple(unknown))


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool that there is, and the most that one use of it takes."""

    cost_micros: int = 0
    free: bool = True
    """Whether no vendor ever takes anything for it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the rules look at."""

    picture: Picture
    tools: Mapping[str, Offered]
    asked: frozenset[str] = frozenset()
    """Keys of the moves that were made."""
    wishes: Wishes = field(default_factory=Wishes)


def moves(known: Known) -> list[Move]:
    """Everything that could be done now and was not done before, best first."""
    found: dict[str, Move] = {}
    order: dict[str, int] = {}
    for move in _rules(known):
        if move.tool in known.tools and move.key not in known.asked and move.key not in found:
            found[move.key] = _wished(move, known.wishes)
            order[move.key] = len(order)
    return sorted(found.values(), key=lambda move: (-worth(move, known.tools), order[move.key]))


def worth(move: Move, tools: Mapping[str, Offered]) -> float:
    """Gain for a dollar."""
    return move.gain / (tools[move.tool].cost_micros / 1_000_000 + EPSILON_USD)


def _wished(move: Move, asked: Wishes) -> Move:
    if fold(move.label) in asked.labels:
        return replace(move, gain=move.gain + 10 * WISHED, wished=True)
    if move.tool in asked.tools:
        return replace(move, gain=move.gain + WISHED, wished=True)
    return move


# the rules, in the order that decides between equals


def _rules(known: Known) -> Iterator[Move]:
    yield from _directory(known)
    yield from _unknown_phones(known)
    yield from _web(known)
    yield from _company(known)
    yield from _named_person(known)
    yield from _contacts(known)
    yield from _unsure_phones(known)
    yield from _mail(known)
    yield from _variants(known)
    yield from _residents(known)


def _directory(known: Known) -> Iterator[Move]:
    """Our own records cost nothing: everything that is known is looked up there first."""
    picture = known.picture
    graph = picture.graph

    def ours(said: Iterable[Statement]) -> bool:
        return any(graph.of(s).kind == "directory" for s in said)

    questions = [{"phone": value.text} for value in picture.phones.values() if not ours(value.statements)]
    questions += [{"email": value.text} for value in picture.emails.values() if not ours(value.statements)]
    for node in (picture.person, *(contact.node for contact in picture.contacts[:OF_A_KIND_MAX])):
        where = _where(picture, node.id) if node is not None else None
        if node is not None and where is not None and not ours(node.statements):
            questions.append({"name": node.name, **where})
    if picture.business is not None:
        for place in (each.place for each in picture.places_of(picture.business)[:OF_A_KIND_MAX]):
            if place.line1 and (place.city or place.zip):
                questions.append(_at(place))
    elif picture.lead.place.line1:
        questions.append(_at(picture.lead.place))
    for question in questions:
        yield Move(DIRECTORY, question, 10.0, "our own records are looked up first", "Look it up in our own records")


def _unknown_phones(known: Known) -> Iterator[Move]:
    for number in known.picture.lead.phones:
        value = known.picture.phones.get("tel:" + number)
        if value is not None and not _has_owner(known.picture, value):
            yield Move(
                PERSON_HUNT, {"phone": number}, 5.0, "the phone of the lead has no known owner",
                f"Find out who has the phone {number}", owner(known.picture, value) or "",
            )  # fmt: skip


def _has_owner(picture: Picture, value: Value) -> bool:
    """Whether anybody but the caller says whose it is."""
    return any(picture.graph.of(s).family != CALLER for said in value.owners.values() for s in said)


def _web(known: Known) -> Iterator[Move]:
    lead, firm = known.picture.lead, known.picture.business
    if firm is None or not lead.company:
        return
    question = _search(known.picture, lead.company)
    yield Move(
        WEBSEARCH, question, 6.0 if lead.domain else 5.0, "the firm is looked for on the web",
        f"Search the web for {firm.name}", firm.id,
    )  # fmt: skip


def _search(picture: Picture, name: str) -> dict[str, str]:
    lead = picture.lead
    told = {"business_name": name, "city": lead.place.city, "state": lead.place.state_code, "domain": lead.domain}
    return {key: value for key, value in told.items() if value}


def _company(known: Known) -> Iterator[Move]:
    picture = known.picture
    firm = picture.business
    if firm is None:
        return
    registered = any(s.property == "identifier" for s in firm.statements)
    officers = any(e.type == "officer_of" and e.target == firm.id and _evident(picture, e.statements)
                   for e in picture.edges)  # fmt: skip
    if registered and officers:
        return
    offered = known.tools.get(COMPANY)
    place = picture.lead.place
    told = {"name": picture.lead.company or firm.name, "domain": picture.lead.domain, "city": place.city,
            "state_code": place.state_code, "zip": place.zip}  # fmt: skip
    yield Move(
        COMPANY, {key: value for key, value in told.items() if value}, 5.0 if offered and offered.free else 3.0,
        "the firm has no entry in a register yet" if not registered else "its officers are not known",
        f"Look {firm.name} up in registers", firm.id,
    )  # fmt: skip


def _evident(picture: Picture, said: Sequence[Any]) -> bool:
    return any(picture.graph.of(s).family != CALLER for s in said)


def _named_person(known: Known) -> Iterator[Move]:
    picture = known.picture
    node = picture.person
    if node is None or not picture.lead.person:
        return
    where = _where(picture, node.id)
    if where is None or _reached(picture, node.id):
        return
    yield Move(
        PERSON_HUNT, {"name": node.name, **where}, 4.0, "a person is named, with a place",
        f"Find {node.name}", node.id,
    )  # fmt: skip


def _contacts(known: Known) -> Iterator[Move]:
    picture = known.picture
    deciding = [c for c in picture.contacts if c.decides and not coverage.reachable(picture, c)]
    for contact in deciding[:OF_A_KIND_MAX]:
        where = _where(picture, contact.node.id)
        if where is not None and len(fold(contact.node.name).split()) > 1:
            yield Move(
                CONTACT_HUNT, {"name": contact.node.name, **where}, 4.0, "somebody who decides has no phone",
                f"Find a direct phone for {contact.node.name}", contact.node.id,
            )  # fmt: skip


def _unsure_phones(known: Known) -> Iterator[Move]:
    picture = known.picture
    unsure = [
        value
        for value in picture.phones.values()
        if picture.sure[value.key] < confidence.GOOD and _evident(picture, value.statements)
    ]
    for value in sorted(unsure, key=lambda v: v.key)[:OF_A_KIND_MAX]:
        yield Move(
            PHONE_VERIFY, {"phone": value.text}, 2.0, "a phone that was found is not sure",
            f"Verify the phone {value.text}", owner(picture, value) or "",
        )  # fmt: skip


def _mail(known: Known) -> Iterator[Move]:
    picture = known.picture
    domain = picture.lead.domain
    named = [contact for contact in picture.contacts if not contact.emails and _two_words(contact)]
    if domain:
        for contact in named[:1]:
            yield Move(
                EMAIL, {"name": contact.node.name, "domain": domain}, 2.0, "a contact has no email address yet",
                f"Find an email address for {contact.node.name}", contact.node.id,
            )  # fmt: skip


def _two_words(contact: Contact) -> bool:
    return len(fold(contact.node.name).split()) > 1


def _variants(known: Known) -> Iterator[Move]:
    picture = known.picture
    firm, company = picture.business, picture.lead.company
    if firm is None or not company or coverage.coverage(picture)["score"] >= THIN:
        return
    first = Move(WEBSEARCH, _search(picture, company), 0, "", "")
    if WEBSEARCH in known.tools and first.key not in known.asked:
        return
    spelled = [*picture.lead.other_names, *sorted({s.value for s in firm.statements if s.property == "trade_name"})]
    spelled.append(" ".join(word.capitalize() for word in firm_key(company).split()))
    different = [name for name in dict.fromkeys(spelled) if fold(name) != fold(company)]
    for name in different[:OF_A_KIND_MAX]:
        yield Move(
            VARIANT_SEARCH, _search(picture, name), 2.0, "little was found, and the firm goes by another name as well",
            f"Search the web for {name}", firm.id,
        )  # fmt: skip


def _residents(known: Known) -> Iterator[Move]:
    """A street address with nobody at it: of a lead that is nothing else at once, of others when all else is done."""
    picture = known.picture
    lead = picture.lead
    if not lead.place.line1 or not (lead.place.city or lead.place.zip) or lead.kind == "business":
        return
    bare = not (lead.person or lead.phones or lead.emails)
    if bare or coverage.decider(picture) is None or not picture.phones:
        yield Move(
            PERSON_HUNT if bare else RESIDENTS, _at(lead.place), 4.0 if bare else 2.0,
            "there is an address, and nobody known at it", "Find out who is at the address",
        )  # fmt: skip


def _at(place: Place) -> dict[str, str]:
    told = {"street": place.line1, "city": place.city, "state_code": place.state_code, "zip": place.zip}
    return {key: value for key, value in told.items() if value}


def _where(picture: Picture, id: str) -> dict[str, str] | None:
    """Where somebody is, or the firm that it is about: enough of a place to look for a name in; None: nothing."""
    at = [edge.target for edge in picture.edges if edge.origin == id and edge.type == "located_at"]
    found = [picture.nodes[target].place for target in at]
    found += [node.place for node in picture.places_of(picture.business)]
    found.append(picture.lead.place)
    for place in found:
        if place.city or place.zip:
            told = {"city": place.city, "state_code": place.state_code, "zip": place.zip}
            return {key: value for key, value in told.items() if value}
    return None


def _reached(picture: Picture, id: str) -> bool:
    """Whether somebody but the caller gives a number for it, and surely."""
    own = picture.values_of(picture.nodes.get(id), picture.phones)
    return any(picture.sure[v.key] >= confidence.GOOD and _evident(picture, v.owners[id]) for v in own)
