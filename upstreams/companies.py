"""Firms by name or domain, and the addresses that people have at them: both bought, neither out of the directory.

`enrich/company` and `enrich/email` are offline while no provider of them is configured.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway.core.catalogue import Operation, Price
from gateway.core.money import format_usd
from gateway.core.upstream import Context, Match, NoMatch, Offering, Outcome
from upstreams import firms, persons
from upstreams.directory import names
from upstreams.directory.names import Name
from upstreams.directory.settings import Rules
from upstreams.firms import FirmQuestion, Firms, bare_domain
from upstreams.person import (
    INTEGER,
    MAYBE,
    NUMBER,
    PERSON,
    SOURCES,
    STRING,
    STRINGS,
    Question,
    Text,
    a_list,
    an_object,
    optional,
    state_of,
    zip_of,
)  # fmt: skip
from upstreams.persons import People, PersonAtFirm, Sources
from upstreams.provider import AnyProvider, Tried, most_micros, rest_s, waterfall
from upstreams.waterfalls import TRIED_SCHEMA, cost_micros, looked, nobody_looked, timeout_s, told

COMPANY, EMAIL = "enrich/company", "enrich/email"


@dataclass(frozen=True, slots=True)
class CompanySettings:
    """Prices in micro-USD."""

    company_price_micros: int = 250_000
    email_price_micros: int = 200_000
    region: str = "US"
    """Of phone numbers written without a country code."""
    show_costs: bool = False
    notice: str = ""
    """Stands in the metadata of every answer."""


class _Placed(Question):
    """What both questions say of a firm."""

    domain: Text = optional("The firm's domain or site: example.com.", "domain", "website", "url", length=300)

    @field_validator("domain")
    @classmethod
    def _domain(cls, value: str | None) -> str | None:
        if value is None:
            return None
        domain = bare_domain(value)
        if not domain:
            raise PydanticCustomError("VALIDATION_ERROR", "a domain looks like example.com")
        return domain


class CompanyQuery(_Placed):
    """Which firm is this? A name or a domain; whatever else is known narrows it down."""

    name: Text = optional("The firm's name: Example Bakery LLC.", "name", "business_name", "company", "company_name")
    phone: Text = optional("A phone number of it, best as E.164.", "phone", "phone_number", length=64)
    city: Text = optional("City.", "city")
    state_code: Text = optional("US state, two letters or in full: WA.", "state_code", "state", length=40)
    zip: Text = optional("US ZIP code.", "zip", "zipcode", "zip_code", "postal_code", length=10)

    @field_validator("phone")
    @classmethod
    def _possible(cls, value: str | None) -> str | None:
        return None if value is None else cls.e164(value)

    @field_validator("state_code")
    @classmethod
    def _state(cls, value: str | None) -> str | None:
        return None if value is None else state_of(value)

    @field_validator("zip")
    @classmethod
    def _zip(cls, value: str | None) -> str | None:
        return None if value is None else zip_of(value)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if not self.domain and not names.fold(self.name or ""):
            raise PydanticCustomError("MISSING_QUERY", "send at least one of name and domain")
        return self

    def question(self) -> FirmQuestion:
        return FirmQuestion(
            self.name or "", self.domain or "", self.phone or "", self.city or "", self.state_code or "", self.zip or ""
        )


class EmailQuery(_Placed):
    """What is this person's address at this firm?"""

    name: Text = optional("Full name. Not together with first_name and last_name.", "name", "full_name")
    first_name: Text = optional("First name.", "first_name", "firstname", "first")
    last_name: Text = optional("Last name.", "last_name", "lastname", "last")
    company: Text = optional(
        "The firm's name, where its domain is not known.", "company", "business_name", "company_name"
    )

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.name and (self.first_name or self.last_name):
            raise PydanticCustomError("VALIDATION_ERROR", "send either name or first_name and last_name, not both")
        name = self._name()
        if not (names.fold(name.first) and names.fold(name.last)):
            raise PydanticCustomError("MISSING_QUERY", "send the person's first and last name")
        if not self.domain and not names.fold(self.company or ""):
            raise PydanticCustomError("MISSING_QUERY", "send the firm's domain, or its name as company")
        return self

    def _name(self) -> Name:
        return names.split(self.name) if self.name else Name(self.first_name or "", "", self.last_name or "")

    def question(self) -> PersonAtFirm:
        return PersonAtFirm(self._name(), self.domain or "", self.company or "")


class Companies:
    """The upstream of both; each is offline while it has nobody to ask."""

    name = "companies"

    def __init__(
        self,
        settings: CompanySettings,
        company: Sequence[AnyProvider[FirmQuestion, Firms]] = (),
        email: Sequence[AnyProvider[PersonAtFirm, People]] = (),
    ) -> None:
        """`company` and `email`: whom to ask, in this order."""
        self._settings = settings
        self._company = tuple(company)
        self._email = tuple(email)
        self.operations = (_company_operation(settings, self._company), _email_operation(settings, self._email))
        """Both, whether on sale or not."""

    def offerings(self) -> Sequence[Offering]:
        company, email = self.operations
        sold = ((company, self._find_firm, self._company), (email, self._find_email, self._email))
        return tuple(Offering(operation, fulfil) for operation, fulfil, asked in sold if asked)

    def offline(self) -> Sequence[Operation]:
        online = {offering.operation.id for offering in self.offerings()}
        return tuple(operation for operation in self.operations if operation.id not in online)

    def available(self, operation_id: str, now_s: float) -> int | None:
        return rest_s(self._company if operation_id == COMPANY else self._email, now_s)

    def most_micros(self, operation_id: str) -> int:
        """What one call's vendors take at the most."""
        return most_micros(self._company if operation_id == COMPANY else self._email)

    async def start(self) -> None:
        """There is nothing to start."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def _find_firm(self, query: CompanyQuery, context: Context) -> Outcome:
        question, started_s, hides = query.question(), context.now(), context.hides

        def judge(found: Firms) -> Firms:
            return firms.judge(question, found if hides is None else firms.without(found, hides))

        found, tried = await waterfall(
            self._company, question, context, confident=lambda found: bool(judge(found).firms), hop=COMPANY
        )
        if not looked(tried):
            return nobody_looked(tried)
        sources = Sources()
        if found is None:
            reasons = (judge(one.found).reason for one in tried if one.found is not None)
            reason = next((reason for reason in reasons if reason is not None), None)
            metadata = self._metadata(question.mode, 0, sources, tried, context.now() - started_s)
            return NoMatch({"companies": []}, metadata | ({"reason": reason} if reason else {}), cost_micros(tried))
        judged = judge(found)
        shown = await asyncio.to_thread(firms.shown, judged.firms, sources)
        metadata = self._metadata(question.mode, len(judged.firms), sources, tried, context.now() - started_s)
        return Match({"companies": shown}, metadata, cost_micros(tried))

    async def _find_email(self, query: EmailQuery, context: Context) -> Outcome:
        question, started_s, rules = await asyncio.to_thread(query.question), context.now(), Rules()
        hides = context.hides

        def judge(found: People) -> People:
            return persons.judge_at_firm(question, found if hides is None else persons.without(found, hides), rules)

        found, tried = await waterfall(
            self._email, question, context, confident=lambda found: bool(judge(found).people), hop=EMAIL
        )
        if not looked(tried):
            return nobody_looked(tried)
        sources = Sources()
        people = judge(found).people if found is not None else ()
        shown = await asyncio.to_thread(persons.shown, people, sources)
        mode = "domain" if question.domain else "company"
        metadata = self._metadata(mode, len(people), sources, tried, context.now() - started_s)
        outcome: Callable[..., Outcome] = Match if people else NoMatch
        return outcome({"people": shown}, metadata, cost_micros(tried))

    def _metadata(
        self, mode: str, count: int, sources: Sources, tried: Sequence[Tried[Any]], elapsed_s: float
    ) -> dict[str, Any]:
        return {
            **({"notice": self._settings.notice} if self._settings.notice else {}),
            "query_mode": mode,
            "found": count,
            "sources": sources.listing(tried[-1].call.at_ms),
            "providers_tried": told(tried, "", show_costs=self._settings.show_costs),
            "elapsed_ms": max(0, round(elapsed_s * 1000)),
        }


_MEMBERS: Mapping[str, Any] = PERSON["properties"]
COMPANY_SCHEMA = an_object(
    {
        "id": STRING,
        "name": STRING,
        "aliases": STRINGS,
        "domain": MAYBE,
        "website": MAYBE,
        "phones": _MEMBERS["phones"],
        "emails": _MEMBERS["emails"],
        "addresses": _MEMBERS["addresses"],
        "people": a_list(an_object({"name": STRING, "title": MAYBE, "phone": MAYBE, "sources": STRINGS})),
        "identifiers": {"type": "object", "additionalProperties": STRING},
        "industry": MAYBE,
        "status": MAYBE,
        "jurisdiction": MAYBE,
        "founded": MAYBE,
        "employees": MAYBE,
        "match_score": NUMBER,
        "matched_by": STRINGS,
    }
)


def _answer(data: Mapping[str, Any], modes: Sequence[str]) -> dict[str, Any]:
    return an_object(
        {
            "request_id": STRING,
            "route": STRING,
            "matched": {"type": "boolean"},
            "billed": {"type": "boolean"},
            "cache_hit": {"type": "boolean"},
            "billing": {"type": "object"},
            "data": an_object(data),
            "metadata": an_object(
                {
                    "notice": STRING,
                    "query_mode": {"enum": list(modes)},
                    "reason": {"enum": ["ambiguous"]},
                    "found": INTEGER,
                    "sources": SOURCES,
                    "providers_tried": TRIED_SCHEMA,
                    "elapsed_ms": INTEGER,
                },
                required=("query_mode", "found", "sources", "providers_tried", "elapsed_ms"),
            ),
        }
    )


def _example(route: str, price_micros: int, data: Mapping[str, Any], mode: str, source: Mapping[str, str]) -> Any:
    price = format_usd(price_micros)
    return {
        "request_id": "req_example",
        "route": route,
        "matched": True,
        "billed": True,
        "cache_hit": False,
        "billing": {"mode": "x402_exact", "charge_id": "chg_example", "price_usd": price, "charged_usd": price},
        "data": data,
        "metadata": {
            "query_mode": mode,
            "found": 1,
            "sources": [{"id": "src_1", **source, "retrieved_at": "2026-01-01T00:00:00Z"}],
            "providers_tried": [{"provider": source["provider"], "outcome": "match", "ms": 310}],
            "elapsed_ms": 312,
        },
    }


_ADDRESS = {
    "kind": "current", "line1": "12 Example Ave", "line2": None, "city": "Seattle", "state_code": "WA", "zip": "98101",
    "country": "US", "score": 0.9, "sources": ["src_1"],
}  # fmt: skip
_EXAMPLE_FIRM = {
    "id": "com_f5b2a1c0d9e8f7a6b5c4", "name": "Example Bakery LLC", "aliases": [], "domain": None, "website": None,
    "phones": [], "emails": [], "addresses": [_ADDRESS], "people": [],
    "identifiers": {"lei": "00000000000000000000"}, "industry": None, "status": "active", "jurisdiction": "US-WA",
    "founded": "2015-04-01", "employees": None, "match_score": 0.9, "matched_by": ["name", "state"],
}  # fmt: skip
_EXAMPLE_PERSON = {
    "id": "prs_0d1c2b3a495867768594", "name": "Dana Sample",
    "name_parts": {"first": "Dana", "middle": None, "last": "Sample", "suffix": None}, "aliases": [],
    "age_range": None, "deceased": None, "phones": [],
    "emails": [{"email": "dana@example.com", "score": 0.97, "sources": ["src_1"]}], "addresses": [], "relatives": [],
    "employer": "Example Bakery", "title": "Owner", "match_score": 0.97, "matched_by": ["name", "domain"],
}  # fmt: skip


def _company_operation(settings: CompanySettings, asked: Sequence[AnyProvider[Any, Any]]) -> Operation:
    return Operation(
        id=COMPANY,
        method="POST",
        path="/api/v1/enrich/company",
        summary="Find a company by name or domain",
        description=(
            "Takes a firm's name or domain, and whatever else is known of it, and returns the firm with addresses, "
            "phones, officers and the numbers it has in public registers. Billed on a match only; a name that several "
            "firms bear needs a place or a domain beside it."
        ),
        input=CompanyQuery.of_region(settings.region),
        output=_answer({"companies": a_list(COMPANY_SCHEMA)}, ("domain", "name_place", "name")),
        price=Price(settings.company_price_micros),
        example={"name": "Example Bakery LLC", "state_code": "WA"},
        example_output=_example(
            COMPANY, settings.company_price_micros, {"companies": [_EXAMPLE_FIRM]}, "name_place",
            {"provider": "gleif", "record": "gleif#00000000000000000000"},
        ),
        timeout_s=timeout_s(asked),
        cacheable=True,
        tags=("company", "enrichment"),
    )  # fmt: skip


def _email_operation(settings: CompanySettings, asked: Sequence[AnyProvider[Any, Any]]) -> Operation:
    return Operation(
        id=EMAIL,
        method="POST",
        path="/api/v1/enrich/email",
        summary="Find the email address of a person at a company",
        description=(
            "Takes a person's first and last name and the domain or name of the firm, and returns the address that "
            "the person has there, with a score. Billed on a match only; an address known not to work is none."
        ),
        input=EmailQuery.of_region(settings.region),
        output=_answer({"people": a_list(PERSON)}, ("domain", "company")),
        price=Price(settings.email_price_micros),
        example={"first_name": "Dana", "last_name": "Sample", "domain": "example.com"},
        example_output=_example(
            EMAIL, settings.email_price_micros, {"people": [_EXAMPLE_PERSON]}, "domain",
            {"provider": "hunter", "record": "hunter#example.com"},
        ),
        timeout_s=timeout_s(asked),
        cacheable=True,
        tags=("email", "people", "enrichment"),
    )  # fmt: skip
