"""A page -> what it states about the firm that is asked for, without a model. Pure, and it never raises.

First of all the page must be about this firm: its structured data, its site's name, a part of its title or its
heading is the name asked for. A page that names the firm somewhere in its text (a list of firms, a news story) is
about others too, and nothing in it can be attributed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from upstreams.directory import firms, names, phones, places
from upstreams.web import findings
from upstreams.web.findings import Finding, Kind, Source, Subject
from upstreams.web.markup import Document
from upstreams.web.quotes import has_number

_LINE_CHARS_MAX: Final = 2_000
_DIGIT_CHARS_MAX: Final = 20_000
_PER_KIND_MAX: Final = 40
_ADDRESS_CHARS_MAX: Final = 160
_PARSES_MAX: Final = 400
"""Pieces of one page that are tried as an address; each takes 0.2 ms."""
_NODES_MAX: Final = 2_000
_FIRMS_MAX: Final = 40
_NAMES_MAX: Final = 6
"""Of one node; and its addresses."""
_DEPTH_MAX: Final = 20

_GENERIC_WORDS = (
    "home homepage welcome to contact us about our team page official site website staff people services locations "
    "location hours phone number address reviews profile company overview directions"
)
_GENERIC = frozenset(_GENERIC_WORDS.split())
_TITLE_SIGNS = re.compile(r"\s[|\u2013\u2014\u00b7\u2022\u00bb-]\s|\s*[|\u00bb\u2022]\s*")

_WORD = r"(?:Mc|Mac|De|La|Van|O['\u2019])?[A-Z\u00c0-\u00de][a-z\u00df-\u00ff'\u2019]{1,20}"
_NAME = rf"(?:{_WORD}(?:-{_WORD})?)"
_PERSON = rf"{_NAME}(?:\s[A-Z]\.?)?(?:\s{_NAME}){{1,2}}"
_TITLES = (
    "chief executive officer", "chief financial officer", "chief operating officer", "chief technology officer",
    "managing partner", "managing director", "managing member", "general manager", "office manager", "vice president",
    "executive director", "registered agent", "resident agent", "statutory agent", "co-owner", "co-founder",
    "owner/operator", "owner and operator", "owner & operator", "owner", "founder", "president", "principal", "partner",
    "director", "incorporator", "proprietor", "manager", "ceo", "cfo", "coo", "cto",
)  # fmt: skip
_TITLE = "(?:" + "|".join(re.escape(title).replace(r"\ ", r"\s") for title in _TITLES) + ")"
_LEGAL = frozenset({"registered agent", "resident agent", "statutory agent", "managing member", "incorporator"})
_SHORT = frozenset({"ceo", "cfo", "coo", "cto"})
_NO_NAME_WORDS = (
    "our the contact us call meet property general office customer service services sales business team about email "
    "phone fax home page site website read more view learn click here new best great all your my his her their project "
    "case account product program assistant senior junior regional district area store shop hotel apartment inc llc "
    "corp company co group holdings street avenue road north south east west monday tuesday wednesday thursday friday "
    "saturday sunday january february march april may june july august september october november december city county "
    "state united states america privacy policy terms of and for with by at in owner founder president partner"
)
_NO_NAME = frozenset(_NO_NAME_WORDS.split())
_SEP = r"\s?[,\u2013\u2014|:/(-]\s?"
_NAME_THEN_TITLE = re.compile(rf"(?<![\w'])(?P<name>{_PERSON}){_SEP}(?:the\s|our\s)?(?P<title>(?i:{_TITLE}))(?!\w)")
_TITLE_THEN_NAME = re.compile(rf"(?<!\w)(?P<title>(?i:{_TITLE}))(?:{_SEP}|\s(?:is\s)?)(?P<name>{_PERSON})(?![\w'])")
_INTRODUCES = re.compile(rf"\s?:\s?{_PERSON}")
_BY_NAME = re.compile(
    rf"(?<!\w)(?P<how>(?i:founded|owned|owned and operated|established|started))\s(?:in\s\d{{4}}\s)?by\s"
    rf"(?P<name>{_PERSON})(?![\w'])"
)
_ANYBODY = re.compile(rf"(?<![\w'])(?=({_NAME}(?:\s[A-Z]\.?)?\s{_NAME})(?![\w']))")
_OVER = re.compile(
    r"\b(?:former|formerly|previous|previously|ex|late|retired|no\slonger|not|never)\b[^.;]{0,20}$", re.IGNORECASE
)
_PROPER = r"[A-Z0-9][\w&'\u2019.-]{0,30}(?:\s(?:[A-Z0-9&][\w&'\u2019.-]{0,30}|and|of|the)(?![\w&'\u2019.-])){0,6}"
_AT_A_FIRM = re.compile(rf"\s?[,(]?\s?(?:(?i:of|at|for|with|from)\s|@\s?)(?:[Tt]he\s)?(?P<firm>{_PROPER})")
_THEN_A_FIRM = re.compile(rf"\s?,\s(?P<firm>{_PROPER})\s?(?:$|[.;)\"\u201d])")
_DEPARTMENT_WORDS = (
    "sales marketing operations finance engineering product products technology information human resources customer "
    "client business development service services administration communications strategy it hr legal people support "
    "production quality safety facilities field and of the"
)
_DEPARTMENTS = frozenset(_DEPARTMENT_WORDS.split())
_ONLY_NAME = re.compile(rf"\s*(?P<name>{_PERSON})\s*")
_ONLY_TITLE = re.compile(rf"\s*(?P<title>(?i:{_TITLE}))\s*")
_PARENT = re.compile(
    r"(?<!\w)(?P<how>(?i:subsidiary|division|affiliate))\sof\s(?P<name>[A-Z][\w&.'\u2019-]{0,30}(?:\s[\w&.'\u2019-]{1,30}){0,4}?"
    r",?\s(?:Inc|LLC|Corp|Corporation|Ltd|Holdings|Group)\b(?:,?\s(?:Inc|LLC|Corp|Ltd)\b)?)"
)

_PHONE_WORD = re.compile(r"(?:tel|phone|call|ph|mobile|cell|office|main|direct)\b\W{0,3}$", re.IGNORECASE)
_FAX = re.compile(r"\bfax\b[^0-9]{0,15}$", re.IGNORECASE)
_FAX_BEHIND = re.compile(r"\s?[(\[,-]?\s?fax\b(?![^0-9]{0,8}[0-9(+])", re.IGNORECASE)
_MARKS = re.compile(r"[+().\s/\u2010-\u2014-]")
_NANP = re.compile(r"\+1[2-9][0-9]{2}[2-9][0-9]{6}", re.ASCII)

_STATE_ZIP = re.compile(
    r"(?<![A-Za-z])(?P<state>[A-Z]{2}|[A-Z][a-z]{3,12}(?:\s[A-Z][a-z]{3,9})?)\.?,?\s{1,3}(?P<zip>[0-9]{5})(?:-[0-9]{4})?(?![0-9-])"
)
_HOUSE = re.compile(r"(?<![\w.#-])[0-9]{1,6}[A-Za-z]?(?=\s)", re.ASCII)
_STREET_TYPES_WORDS = (
    "ave avenue st street rd road dr drive ln lane blvd boulevard ct court pl place way cir circle hwy highway pkwy "
    "parkway ter terrace trl trail sq square plz plaza aly alley loop run row path pike tpke turnpike fwy freeway expy "
    "broadway cv cove xing crossing"
)
_STREET_TYPES = frozenset(_STREET_TYPES_WORDS.split())

_NO_FIRM_WORDS = (
    "person website webpage imageobject postaladdress breadcrumblist listitem product offer review rating "
    "aggregaterating contactpoint place geocoordinates event article newsarticle blogposting city country "
    "searchaction openinghoursspecification videoobject itemlist question answer"
)
_NO_FIRM = frozenset(_NO_FIRM_WORDS.split())


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was read, and whose it is."""

    source: Source
    document: Document


_TO_MACHINES = re.compile(
    r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instructions?|prompts?|rules|above|previous|prior|everything)\b"
    r"|\bsystem\s?prompt\b|\blanguage\smodels?\b|\bAI\s(?:assistant|model|agent)s?\b|\btool[\s_-]?calls?\b|<\||\|>"
    r"|^\s*(?:system|assistant|user)\s*:",
    re.IGNORECASE,
)


def spoken(document: Document) -> Document:
    """The page without the lines that talk to machines: whoever writes those states nothing. It is no guard against
    clever ones; that is what quotes and weights are for."""
    return replace(document, lines=tuple(line for line in document.lines if not _TO_MACHINES.search(line)))


def registrable(host: str) -> str:
    """The family of a host: its last two labels. Wider than the registry's rule under ".co.uk" and its like, which
    here is the safe side: two firms there count as one witness."""
    host = host.lower().rstrip(".")
    return host if re.fullmatch(r"[0-9.:\[\]a-f]+", host) and not host.isalpha() else ".".join(host.split(".")[-2:])


def is_own_site(subject: Subject, host: str) -> bool:
    """Whether a host is the firm's: the domain that was given, or a name that is the firm's own run together."""
    host = host.lower().removeprefix("www.")
    if subject.domain:
        return host == subject.domain or host.endswith("." + subject.domain)
    label = registrable(host).partition(".")[0].replace("-", "")
    squashed = "".join(firms.words(subject.name))
    return len(label) >= 5 and len(squashed) >= 5 and (squashed == label or squashed.startswith(label) or
                                                       label.startswith(squashed))  # fmt: skip


def read(subject: Subject, page: Page) -> list[Finding]:
    """Everything the page states about the firm, or nothing where it is about others."""
    document = page.document
    stated = list(_from_data(subject, page))
    spots = addresses_in(document)
    agreement = agreement_of(subject, document)
    if agreement:
        place = findings.about_place(subject, [spot.address for spot in spots])
        if agreement < 0.9 and any(findings.in_town(subject, spot.address.city) for spot in spots):
            agreement = 0.9
        seen = [*_from_text(subject, page, spots)]
        stated += [findings.lessened(each, agreement * place) for each in seen if place]
    return stated


def agreement_of(subject: Subject, document: Document) -> float:
    """How well the page as a whole is this firm's: its site's name, parts of its title, its headings, its own data."""
    heads = [document.site_name, *document.headings]
    heads += [part for part in _TITLE_SIGNS.split(document.title) if part] + [document.title]
    heads += [name for node in _nodes(document.data) if _is_firm(node) for name in _names(node)]
    return max((subject.agrees(head, passing=_GENERIC) for head in heads[:100] if head), default=0.0)


# Structured data


def _from_data(subject: Subject, page: Page) -> Iterator[Finding]:
    agreeing = 0
    for node in _nodes(page.document.data):
        if _is_firm(node):
            agreement = max((subject.agrees(name) for name in _names(node)), default=0.0)
            agreeing += agreement > 0
            if agreement and agreeing <= _FIRMS_MAX:
                yield from _of_firm(subject, page.source, node, agreement)
        elif _type(node) == "person":
            works = [name for firm in _listed(node.get("worksFor")) for name in _names(firm)]
            agreement = max((subject.agrees(name) for name in works), default=0.0)
            if agreement:
                yield from _person_of(page.source, node, "", agreement * findings.AS_DATA)


def _of_firm(subject: Subject, source: Source, node: Mapping[str, Any], agreement: float) -> Iterator[Finding]:
    stated = [found for value in _listed(node.get("address"))[:_NAMES_MAX] if (found := _address_of(value)) is not None]
    place = findings.about_place(subject, [there for there, _ in stated])
    if not place:
        return
    if agreement < 0.9 and any(findings.in_town(subject, there.city) for there, _ in stated):
        agreement = 0.9
    factor = agreement * place * findings.AS_DATA
    for there, quote in stated:
        yield address(source, there, quote, factor)
    contacts = [node, *(each for each in _listed(node.get("contactPoint")) if isinstance(each, Mapping))]
    for contact in contacts:
        for text in _texts(contact.get("telephone")):
            number = phones.normalise(text, "US")
            if number is not None:
                yield phone(source, number, text, factor)
        for text in _texts(contact.get("email")):
            yield from email(source, text.removeprefix("mailto:"), text, factor)
    for key, title in (("founder", "Founder"), ("founders", "Founder"), ("employee", ""), ("employees", "")):
        for person in _listed(node.get(key)):
            yield from _person_of(source, person, title, factor)
    for key, role in (("parentOrganization", "parent organization"), ("subOrganization", "subsidiary")):
        for firm in _listed(node.get(key)):
            for name in (_names(firm) if isinstance(firm, Mapping) else _texts(firm))[:1]:
                yield associate(source, name, role, "organization", name, factor)


def _person_of(source: Source, person: object, title: str, factor: float) -> Iterator[Finding]:
    if isinstance(person, Mapping):
        found = _texts(person.get("name"))
        title = next(iter(_texts(person.get("jobTitle"))), title)
    else:
        found = _texts(person)
    for name in found[:1]:
        if looks_like_person(name) and _type(person) in ("", "person"):
            yield from person_or_agent(source, name, title, name, factor)


def _nodes(data: Sequence[object]) -> Iterator[Mapping[str, Any]]:
    """Every object in the structured data, outer before inner."""
    level: list[object] = list(data)
    count = 0
    for _ in range(_DEPTH_MAX):
        inner: list[object] = []
        for each in level:
            if isinstance(each, Mapping):
                count += 1
                if count > _NODES_MAX:
                    return
                yield each
                inner.extend(value for value in each.values() if isinstance(value, (Mapping, list)))
            elif isinstance(each, list):
                inner.extend(value for value in each[:_NODES_MAX] if isinstance(value, (Mapping, list)))
        level = inner
        if not level:
            return


def _type(node: object) -> str:
    value = node.get("@type") if isinstance(node, Mapping) else ""
    value = value[0] if isinstance(value, list) and value else value
    return value.rpartition("/")[2].lower() if isinstance(value, str) else ""


def _is_firm(node: Mapping[str, Any]) -> bool:
    return bool(_type(node)) and _type(node) not in _NO_FIRM and "name" in node


def _names(node: object) -> list[str]:
    if not isinstance(node, Mapping):
        return []
    return [text for key in ("name", "legalName", "alternateName") for text in _texts(node.get(key))][:_NAMES_MAX]


def _texts(value: object) -> list[str]:
    return [" ".join(each.split())[:300] for each in _listed(value) if isinstance(each, str) and each.strip()]


def _listed(value: object) -> list[Any]:
    return value[:_PER_KIND_MAX] if isinstance(value, list) else [] if value is None else [value]


def _address_of(value: object) -> tuple[places.Address, str] | None:
    if isinstance(value, str):
        there = places.split(value[:200])
        return (there, value) if there.line1 and there.state else None
    if not isinstance(value, Mapping):
        return None
    street, city, state, code = (next(iter(_texts(value.get(key))), "") for key in
                                 ("streetAddress", "addressLocality", "addressRegion", "postalCode"))  # fmt: skip
    if not street or not (city or code):
        return None
    line1, unit = places.split_unit(street)
    return places.Address(line1, unit, city, places.state_code(state) or "", places.zip5(code) or ""), street


# Text and links


@dataclass(frozen=True, slots=True)
class Spot:
    """An address in the text, with the words it stands in."""

    address: places.Address
    quote: str


def _from_text(subject: Subject, page: Page, spots: Sequence[Spot]) -> Iterator[Finding]:
    source, document = page.source, page.document
    yield from _from_links(source, document)
    yield from _phones(source, document)
    for spot in spots:
        yield address(source, spot.address, spot.quote, findings.IN_TEXT)
    yield from _people(subject, source, document)


def _from_links(source: Source, document: Document) -> Iterator[Finding]:
    for link in document.links:
        scheme, _, rest = link.href.partition(":")
        written = unquote(rest.partition("?")[0]).strip()
        if scheme.lower() == "tel":
            number = phones.normalise(written, "US")
            if number is not None and not _FAX.search(link.text):
                quote = link.text if has_number(link.text, number) else written
                yield phone(source, number, quote, findings.AS_LINK)
        elif scheme.lower() == "mailto":
            yield from email(source, written, written, findings.AS_LINK)


def _phones(source: Source, document: Document) -> Iterator[Finding]:
    from phonenumbers import Leniency, PhoneNumberMatcher

    looked_at, found = 0, 0
    for line in document.lines:
        line = line[:_LINE_CHARS_MAX]
        if sum(sign.isdigit() for sign in line) < 10:
            continue
        looked_at += len(line)
        if looked_at > _DIGIT_CHARS_MAX or found >= _PER_KIND_MAX:
            return
        for match in PhoneNumberMatcher(line, "US", leniency=Leniency.POSSIBLE):
            number = phones.normalise(match.raw_string, "US")
            before = line[: match.start]
            is_fax = _FAX.search(before) or _FAX_BEHIND.match(line, match.end)
            if number is None or is_fax or not _is_written_as_phone(match.raw_string, number, before):
                continue
            found += 1
            yield phone(source, number, _around(line, match.start, match.end), findings.IN_TEXT)


def _is_written_as_phone(raw: str, number: str, before: str) -> bool:
    """Digits alone are an order's number as well as a phone's; those of North America have their own rules."""
    if number.startswith("+1") and not _NANP.fullmatch(number):
        return False
    return len(_MARKS.findall(raw.strip())) >= 2 or raw.startswith("+") or bool(_PHONE_WORD.search(before))


def addresses_in(document: Document) -> list[Spot]:
    """US addresses with a house number, a street and a ZIP; an address may go over two lines."""
    found: list[Spot] = []
    ends = -1
    for end, written in islice(_pieces(document), _PARSES_MAX):
        if end == ends:
            continue  # what ends here is found already
        spot = _spot(written)
        if spot is not None:
            found.append(spot)
            ends = end
        if len(found) >= _PER_KIND_MAX:
            break
    return found


def _pieces(document: Document) -> Iterator[tuple[int, str]]:
    """(which ZIP it ends with, what may be an address): from each number before a ZIP on, the nearest first."""
    previous, end = "", 0
    for line in document.lines:
        line = line[:_LINE_CHARS_MAX]
        for match in _STATE_ZIP.finditer(line):
            if places.state_code(match["state"]) is None:
                continue
            end += 1
            for text in (line[: match.end()], f"{previous[-_ADDRESS_CHARS_MAX:]}\n{line[: match.end()]}"):
                tail = text[-_ADDRESS_CHARS_MAX:]
                starts = [house.start() for house in _HOUSE.finditer(tail)][-8:]
                for start in reversed(starts):
                    if _STREET_TYPES.intersection(names.fold(tail[start:]).split()):
                        yield end, tail[start:]
        previous = line


def _spot(written: str) -> Spot | None:
    there = places.split(written.replace("\n", ", "))
    line1 = there.line1.split()
    whole = there.city and there.state and there.zip
    if not whole or not 2 <= len(line1) <= 8 or not line1[0][:1].isdigit():
        return None
    return Spot(there, written) if _STREET_TYPES.intersection(names.fold(there.line1).split()) else None


def _people(subject: Subject, source: Source, document: Document) -> Iterator[Finding]:
    found = 0
    previous: re.Match[str] | None = None
    for line in document.lines:
        line = line[:_LINE_CHARS_MAX]
        if found >= _PER_KIND_MAX:
            return
        for name, title, quote in _people_in(subject, line, previous):
            if looks_like_person(name) and not subject.agrees(name):
                found += 1
                yield from person_or_agent(source, name, title, quote, findings.BESIDE_TITLE)
        for match in _PARENT.finditer(line):
            name = " ".join(match["name"].split())
            if not subject.agrees(name):
                role = "parent organization" if match["how"].lower() != "affiliate" else "affiliate"
                quote = _around(line, match.start(), match.end())
                yield associate(source, name, role, "organization", quote, findings.BESIDE_TITLE)
        previous = _ONLY_NAME.fullmatch(line)


def _people_in(subject: Subject, line: str, previous: "re.Match[str] | None") -> Iterator[tuple[str, str, str]]:
    """(name, title, quote) of one line, where the line before may be a name alone. A title between two names is the
    first one's, unless it introduces the second."""
    title = _ONLY_TITLE.fullmatch(line)
    if title is not None and previous is not None:
        yield previous["name"], title["title"], f"{previous['name']}\n{title['title']}"
    taken = set()
    for pattern in (_NAME_THEN_TITLE, _TITLE_THEN_NAME):
        for match in pattern.finditer(line):
            if pattern is _NAME_THEN_TITLE and not _INTRODUCES.match(line, match.end()):
                taken.add(match.start("title"))
            elif pattern is _NAME_THEN_TITLE or match.start("title") in taken:
                continue
            if _OVER.search(line, max(0, match.start() - 40), match.start()):
                continue
            if elsewhere(subject, line[match.end() : match.end() + 200], after_title=pattern is _NAME_THEN_TITLE):
                continue
            yield match["name"], match["title"], _around(line, match.start(), match.end())
    for match in _BY_NAME.finditer(line):
        what = "Founder" if match["how"].lower() in ("founded", "established", "started") else "Owner"
        yield match["name"], what, _around(line, match.start(), match.end())


def elsewhere(subject: Subject, rest: str, *, after_title: bool) -> bool:
    """Whether what follows somebody with a title says that it is at another firm: "Owner of Placeholt Panes", as
    customers and suppliers are named on a firm's own pages. What may be a firm or a place counts as another firm."""
    match = _AT_A_FIRM.match(rest)
    if match is None and after_title:
        match = _THEN_A_FIRM.match(rest)
        if match is not None and len(match["firm"].split()) < 2:
            return False  # "Owner, Tampa", "President, MBA"
    if match is None:
        return False
    said = names.fold(match["firm"]).split()
    return not (_DEPARTMENTS.issuperset(said) or subject.agrees(match["firm"]) or subject.town.issuperset(said))


def names_somebody(text: str) -> bool:
    """Whether something in the text reads like a person's name."""
    return any(looks_like_person(match[1]) for match in _ANYBODY.finditer(text))


def looks_like_person(name: str) -> bool:
    """Two to four words, none of which names a thing, an office or a month."""
    words = names.fold(name).split()
    return 2 <= len(words) <= 4 and len(words[-1]) > 1 and not _NO_NAME.intersection(words) and not any(
        sign.isdigit() for sign in name
    )  # fmt: skip


def person_or_agent(source: Source, name: str, title: str, quote: str, factor: float) -> Iterator[Finding]:
    """A person with a title, who is a legal associate where the title says so."""
    title = tidy_title(title)
    if title.lower() in _LEGAL:
        yield associate(source, name, title.lower(), "person", quote, factor)
    else:
        yield person(source, name, title, quote, factor)


def person(source: Source, name: str, title: str, quote: str, factor: float) -> Finding:
    name = " ".join(name.split())
    parts = names.split(name)
    key = f"{names.fold(parts.first)} {names.fold(parts.last)}"
    return _finding(Kind.PERSON, key, {"name": name, "title": title or None}, quote, source, factor)


def tidy_title(title: str) -> str:
    """ "managing   PARTNER" -> "Managing Partner", "ceo" -> "CEO"; a longer title stays as it is written."""
    title = " ".join(title.split())[:100]
    if title.lower() in _SHORT:
        return title.upper()
    return title.title() if title.lower() in _TITLES else title


def phone(source: Source, number: str, quote: str, factor: float) -> Finding:
    line_type, region = phones.kind(number)
    value = {"number": number, "national": phones.national(number), "line_type": line_type, "region": region}
    return _finding(Kind.PHONE, number, value, quote, source, factor)


def address(source: Source, there: places.Address, quote: str, factor: float) -> Finding:
    unit = places.unit_key(there.line2)
    value = {
        "line1": there.line1,
        "line2": there.line2 or None,
        "city": there.city or None,
        "state_code": there.state or None,
        "zip": there.zip or None,
        "country": "US",
    }
    key = "|".join((places.street_key(there.line1), unit, there.zip or places.city_word(there.city)))
    return _finding(Kind.ADDRESS, key, value, quote, source, factor)


def associate(source: Source, name: str, role: str, entity: str, quote: str, factor: float) -> Finding:
    name = " ".join(name.split())
    value = {"name": name, "role": role, "entity": entity}
    known_as = " ".join(firms.words(name)) if entity == "organization" else names.fold(name)
    return _finding(Kind.ASSOCIATE, f"{known_as}|{role}", value, quote, source, factor)


_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,190}\.[A-Za-z]{2,24}", re.ASCII)


def email(source: Source, text: str, quote: str, factor: float) -> Iterator[Finding]:
    text = text.strip().lower()
    if _EMAIL.fullmatch(text):
        yield _finding(Kind.EMAIL, text, {"email": text}, quote, source, factor)


def _finding(kind: Kind, key: str, value: Mapping[str, Any], quote: str, source: Source, factor: float) -> Finding:
    return Finding(kind, key, value, findings.clipped(quote), source, source.weight * factor)


def _around(line: str, start: int, end: int) -> str:
    """The words around a piece of a line, whole, at most 80 characters to each side."""
    left = max(0, start - 80)
    if left:
        left = line.find(" ", left, start) + 1 or start
    right = min(len(line), end + 80)
    if right < len(line):
        right = line.rfind(" ", end, right)
        right = right if right >= 0 else end
    return line[left:right].strip()


def links_of_own_site(subject: Subject, url: str, document: Document) -> list[str]:
    """Pages of the firm's own site that tell how to reach it and who is there, as the page links them."""
    host = urlsplit(url).hostname or ""
    return [
        link.href
        for link in document.links
        if is_own_site(subject, host) and _LEADS_ON.search(link.href + " " + link.text)
    ]


_LEADS_ON = re.compile(r"contact|about|team|staff|our[-\s]story|leadership|management", re.IGNORECASE)
