"""What callers send of a lead: free-form keys, as their CRM calls them, mapped by a table of aliases. Pure.

An unknown key is ignored and named. A value that is none of its kind (a phone that is no phone, a state that is none)
is left out with a warning: such lists are full of them, and the rest of the row is worth looking for.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upstreams.directory import names, phones, places
from upstreams.directory.names import fold
from upstreams.leads import graph
from upstreams.leads.graph import CALLER, Graph, Place, Source, Writing, plain

KEYS_MAX = 64
BYTES_MAX = 16_384
LIST_MAX = 10
"""Values under one key."""
OF_A_KIND_MAX = 8
"""Phones, and emails, of one lead."""

_ALIASES = {
    "company": "company company_name account account_name org organization organisation firm",
    "business_name": "business_name trade_name dba legal_name",
    "phone": "phone phone_number telephone mobile cell tel phone1 phone2 phone3 mobile_phone work_phone",
    "street": "street address address1 street_address address_line_1 line1",
    "unit": "unit address2 address_line_2 line2 suite",
    "mailing_address": "mailing_address postal_address",
    "city": "city town",
    "state": "state st state_code region province",
    "zip": "zip zipcode zip_code postal_code postcode",
    "email": "email email_address e_mail mail email1 email2",
    "contact": "dm_name contact contact_name owner owner_name decision_maker name full_name person",
    "first_name": "first_name firstname first given_name",
    "last_name": "last_name lastname last surname family_name",
    "title": "title job_title position",
    "domain": "website url domain web site homepage",
    "external_id": "contact_id crm_id id external_id lead_id record_id",
    "source": "source_system source",
}
ALIASES = {alias: field for field, aliases in _ALIASES.items() for alias in aliases.split()}
_NUMBERED = re.compile(r"number[0-9]?|phone[0-9]|email[0-9]", re.ASCII)
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[^@\s.]{2,63}", re.ASCII)
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{1,62}", re.ASCII)
_MAIL_HOSTS = frozenset(
    {"gmail.com", "yahoo.com", "hotmail.com", "outlook.com", "aol.com", "icloud.com", "live.com", "msn.com", "me.com"}
)
"""Whose domain says nothing of a firm."""


class TooThin(ValueError):
    """Nothing in it to look for. `bad_phone`: the one thing was a phone that is none."""

    def __init__(self, *, bad_phone: bool) -> None:
        super().__init__("nothing to look for")
        self.bad_phone = bad_phone


@dataclass(frozen=True, slots=True)
class Lead:
    """What is known of the lead. Unknown is ""; phones are E.164, emails lower case."""

    company: str = ""
    other_names: tuple[str, ...] = ()
    contact: str = ""
    title: str = ""
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    place: Place = field(default_factory=Place)
    mailing: Place = field(default_factory=Place)
    domain: str = ""
    external_id: str = ""
    """The caller's own; echoed, and told nobody else."""
    ignored_keys: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """business, person, or person_or_sole_prop: a firm that is called like a human being."""
        if not self.company:
            return "person" if self.contact else "business" if self.domain else "person"
        return "person_or_sole_prop" if reads_like_a_person(self.company) and not self.contact else "business"

    @property
    def person(self) -> str:
        """The human being to look for."""
        return self.contact or (self.company if self.kind == "person_or_sole_prop" else "")

    def told(self) -> dict[str, Any]:
        """The answer's `input`."""
        mapped: dict[str, Any] = {
            "company": self.company or None,
            "other_names": list(self.other_names),
            "contact": self.contact or None,
            "title": self.title or None,
            "phones": list(self.phones),
            "emails": list(self.emails),
            "address": address(self.place),
            "mailing_address": address(self.mailing),
            "domain": self.domain or None,
        }
        return {
            "subject_kind": self.kind,
            "external_id": self.external_id or None,
            "mapped": mapped,
            "ignored_keys": list(self.ignored_keys),
            "warnings": list(self.warnings),
        }


def address(place: Place) -> dict[str, str | None] | None:
    """A place as an answer has it; None for none."""
    if not place.key and not place.state_code:
        return None
    return {**{name: value or None for name, value in place._asdict().items()}, "country": "US"}


def mapped(raw: Mapping[str, object], region: str) -> Lead:
    """A caller's lead -> what is known. `region` is where a phone without a country code is dialled. Raises TooThin;
    ValueError for more than may be sent, and for values that are neither texts nor numbers nor short lists of them."""
    if len(raw) > KEYS_MAX:
        raise ValueError(f"a lead has at most {KEYS_MAX} keys")
    found: dict[str, list[str]] = {}
    ignored: list[str] = []
    for key, value in raw.items():
        texts = _texts(key, value)
        name = _field(key)
        if name is None:
            ignored.append(plain(key, 64) or "?")
        else:
            found.setdefault(name, []).extend(text for text in texts if text)
    return _Mapping(found, region).lead(tuple(ignored))


def _field(key: str) -> str | None:
    word = fold(key).replace(" ", "_")
    if word in ALIASES:
        return ALIASES[word]
    if _NUMBERED.fullmatch(word):
        return "email" if word.startswith("email") else "phone"
    return None


def _texts(key: str, value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if len(values) > LIST_MAX:
        raise ValueError(f"a list in a lead has at most {LIST_MAX} values")
    return [_text(each) for each in values]


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return ""
        case int() | float():
            return f"{value:.15g}" if isinstance(value, float) else str(value)[:64]
        case str():
            return plain(value)
        case _:
            raise ValueError("a value in a lead is a text, a number, or a short list of them; nothing nested")


class _Mapping:
    """Texts by field -> a lead, with the warnings on the way."""

    def __init__(self, found: Mapping[str, list[str]], region: str) -> None:
        self._found = found
        self._region = region
        self._warnings: list[str] = []

    def lead(self, ignored: tuple[str, ...]) -> Lead:
        companies = [*self._all("company"), *self._all("business_name")]
        contact = self._one("contact") or " ".join(filter(None, (self._one("first_name"), self._one("last_name"))))
        if fold(contact) in {"", "unknown", "n a", "na", "none"}:
            contact = ""
        numbers, emails = self._phones(), self._emails()
        lead = Lead(
            company=companies[0] if companies else "",
            other_names=tuple(name for name in dict.fromkeys(companies[1:]) if fold(name) != fold(companies[0])),
            contact=contact,
            title=self._one("title"),
            phones=numbers,
            emails=emails,
            place=self._place(),
            mailing=self._mailing(),
            domain=self._domain(emails if companies else ()),
            external_id=self._one("external_id"),
            ignored_keys=ignored,
            warnings=tuple(self._warnings),
        )
        if not usable(lead):
            raise TooThin(bad_phone=bool(self._all("phone")))
        return lead

    def _all(self, field: str) -> list[str]:
        return self._found.get(field, [])

    def _one(self, field: str) -> str:
        return next(iter(self._all(field)), "")

    def _phones(self) -> tuple[str, ...]:
        good: dict[str, None] = {}
        for text in self._all("phone"):
            number = phones.normalise(text.removesuffix(".0"), self._region)
            if number is None:
                self._warn("a phone that is no possible number was left out")
            else:
                good[number] = None
        return self._few(good, "phones")

    def _emails(self) -> tuple[str, ...]:
        good: dict[str, None] = {}
        for text in self._all("email"):
            if _EMAIL.fullmatch(text) is None:
                self._warn("an email without the shape of one was left out")
            else:
                good[text.lower()] = None
        return self._few(good, "emails")

    def _few(self, values: Mapping[str, None], what: str) -> tuple[str, ...]:
        if len(values) > OF_A_KIND_MAX:
            self._warn(f"of more than {OF_A_KIND_MAX} {what} the first {OF_A_KIND_MAX} are looked at")
        return tuple(values)[:OF_A_KIND_MAX]

    def _place(self) -> Place:
        line1, city = self._one("street"), self._one("city")
        if line1 and not city and "," in line1:
            return _whole(line1)
        state, code = places.state_code(self._one("state")), places.zip5_loose(self._one("zip"))
        if self._one("state") and state is None:
            self._warn("a state that is no US state was left out")
        if self._one("zip") and code is None:
            self._warn("a ZIP that is none was left out")
        return Place(line1, self._one("unit"), city, state or "", code or "")

    def _mailing(self) -> Place:
        text = self._one("mailing_address")
        return _whole(text) if text else Place()

    def _domain(self, emails: tuple[str, ...]) -> str:
        """The website; of a firm without one, where its mail goes."""
        text = self._one("domain")
        found = domain(text) if text else ""
        if text and not found:
            self._warn("a website that is none was left out")
        if found:
            return found
        hosts = (email.rpartition("@")[2] for email in emails)
        return next((host for host in hosts if host not in _MAIL_HOSTS), "")

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warnings:
            self._warnings.append(sentence)


def _whole(text: str) -> Place:
    parts = places.split(text)
    return Place(parts.line1, parts.line2, parts.city, parts.state, parts.zip)


def domain(text: str) -> str:
    """A website as people write it -> its domain in lower case; "" for what is none."""
    host = re.sub(r"^[a-z][a-z0-9+.-]*://", "", text.strip().lower()).split("/")[0].split("?")[0].split(":")[0]
    host = host.removeprefix("www.").rstrip(".")
    return host if len(host) <= 253 and _DOMAIN.fullmatch(host) else ""


def reads_like_a_person(company: str) -> bool:
    """Two or three words that may be a human being's name, and no legal form."""
    words = company.replace(",", " ").split()
    return (
        not names.is_business(company)
        and 2 <= len(words) <= 3
        and all(re.fullmatch(r"[^\W\d_][^\W\d_'’.-]*\.?", word) for word in words)
        and not any(fold(word) in _TRADES for word in words)
    )


_TRADE_WORDS = (
    "auto bakery bank bar barber bikes books builders cafe care center centre church city cleaners cleaning "
    "clinic club coffee construction consulting dental design electric electrical farm farms fitness flooring "
    "florist food foods garage garden glass grill gym hair health heating home homes hotel house insurance "
    "kitchen landscaping laundry law lawn legal logistics market marketing mechanical media medical motors movers "
    "music nails office optical painting partners pest pets pharmacy photo pizza plumbing pool print printing pub "
    "rental rentals repair restaurant roofing salon school security services shop solar solutions spa sport "
    "sports store studio supply systems tax tech technology tire tires tools towing toys trading transport travel "
    "trucking works window windows wine yoga"
)
_TRADES = frozenset(_TRADE_WORDS.split())
"""Words of firms' names that no human being is called by."""


def usable(lead: Lead) -> bool:
    """Whether there is anything to look for: a place or an id of the caller's own is nothing."""
    named = bool(names.fold(lead.company) or len(names.fold(lead.contact).split()) > 1)
    return bool(named or lead.phones or lead.emails or lead.domain or lead.place.line1)


def statements(lead: Lead, now_ms: int) -> Graph:
    """The lead as its caller's word."""
    writing = Writing()
    said = graph.source("input", CALLER, retrieved_ms=now_ms)
    firm = graph.business(said, lead.company or lead.domain) if lead.company or lead.domain else ""
    human = graph.person(said, lead.person) if lead.person else ""
    if firm:
        writing.says(said, firm, "name", lead.company or lead.domain)
        for name in lead.other_names:
            writing.says(said, firm, "trade_name", name)
        writing.says(said, firm, "domain", lead.domain)
    if human:
        writing.says(said, human, "name", lead.person)
    subject = firm or human or ""
    _facts(writing, said, lead, subject)
    if firm and human:
        role = "owner_of" if lead.kind == "person_or_sole_prop" else _role(lead.title)
        writing.says(said, human, role, firm, detail=lead.title)
    return writing.graph()


def _facts(writing: Writing, said: Source, lead: Lead, subject: str) -> None:
    for number in lead.phones:
        writing.says(said, subject or graph.tel(number), "has_phone" if subject else "label", _tel(number, subject))
    for email in lead.emails:
        writing.says(said, subject or graph.mailto(email), "has_email" if subject else "label", _mail(email, subject))
    if subject:
        writing.at(said, subject, lead.place)
        writing.at(said, subject, lead.mailing, edge="mailing_at")
    elif lead.place.key:
        for name, value in lead.place._asdict().items():
            writing.says(said, lead.place.key, name, value)


def _tel(number: str, subject: str) -> str:
    return graph.tel(number) if subject else "given"


def _mail(email: str, subject: str) -> str:
    return graph.mailto(email) if subject else "given"


def _role(title: str) -> str:
    words = set(fold(title).split())
    return "owner_of" if words & {"owner", "proprietor", "founder"} else "officer_of"
