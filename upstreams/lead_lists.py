"""Lists of leads: the rows of the operator's directory that have something in common, a page at a time.

`leads/search` gives away many people at once and not one that its caller knew of before, so it is on sale only where
the operator says so, and has a directory with somebody in it. A page is charged once, however many rows are in it;
none where there are none.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway.core.catalogue import Operation, Price
from gateway.core.errors import Code
from gateway.core.money import format_usd
from gateway.core.upstream import Context, Failure, Match, NoMatch, Offering, Outcome
from upstreams.directory import firms, listing, names, places
from upstreams.directory.listing import Cursor, Filters
from upstreams.directory.settings import DirectorySettings
from upstreams.people import EXAMPLE_PERSON
from upstreams.person import (
    BOOLEAN,
    INTEGER,
    MAYBE,
    PERSON,
    SOURCES,
    STRING,
    Question,
    Text,
    a_list,
    an_object,
    optional,
    state_of,
    zip_of,
)  # fmt: skip
from upstreams.persons import Person, Sources, shown
from upstreams.provider import ErrorClass, ask
from upstreams.providers.local_directory import NAME as LOCAL
from upstreams.providers.local_directory import DirectoryLists, ListQuestion
from upstreams.waterfalls import TIMEOUT_S, TRIED_SCHEMA, nobody_looked, told

ID: Final = "leads/search"
PAGE_MAX: Final = 25
_CURSOR_MAX = 200
_OTHER_LOADS = (
    "the directory was loaded anew since this cursor was given, and nobody knows its place any more; nothing was "
    "charged: begin again without a cursor"
)


@dataclass(frozen=True, slots=True)
class ListSettings:
    """Prices in micro-USD."""

    directory: DirectorySettings
    sold: bool = False
    """Whether the operator sells lists at all."""
    price_micros: int = 1_000_000


class LeadQuery(Question):
    """Who has this in common? Every filter must hold, and at least one but kind, has_phone and has_email be there."""

    kind: Literal["person", "business"] | None = Field(None, description="People alone, or firms alone.")
    name: Text = optional("Words of the name, of a person or a firm.", "name")
    title: Text = optional("Words of the title: owner.", "title", "job_title")
    company: Text = optional("Words of a firm's name: the firm itself, and who works there.", "company", "employer")
    city: Text = optional("City.", "city")
    state_code: Text = optional("US state, two letters or in full: WA.", "state_code", "state", length=40)
    zip: Text = optional("US ZIP code, five digits or ZIP+4.", "zip", "zipcode", "zip_code", "postal_code", length=10)
    zip_prefix: Text = optional("The first three or four digits of the ZIP: 981.", "zip_prefix", length=4)
    has_phone: bool | None = Field(
        None, strict=True, description="Whether there is a phone number that is not a former one."
    )
    has_email: bool | None = Field(None, strict=True, description="Whether there is an email.")
    limit: int = Field(PAGE_MAX, ge=1, le=PAGE_MAX, strict=True, description="Rows in a page.")
    cursor: Text = optional(
        "The last page's next_cursor, with the same filters: goes on after it.", "cursor", length=_CURSOR_MAX
    )

    @field_validator("name", "title", "company", "city")
    @classmethod
    def _words(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not 0 < len(names.fold(value).split()) <= listing.WORDS_MAX:
            raise PydanticCustomError("VALIDATION_ERROR", f"this takes 1 to {listing.WORDS_MAX} words")
        return value

    @field_validator("state_code")
    @classmethod
    def _state(cls, value: str | None) -> str | None:
        return None if value is None else state_of(value)

    @field_validator("zip")
    @classmethod
    def _zip(cls, value: str | None) -> str | None:
        return None if value is None else zip_of(value)

    @field_validator("zip_prefix")
    @classmethod
    def _zip_prefix(cls, value: str | None) -> str | None:
        if value is not None and not (listing.ZIP_PREFIX_MIN <= len(value) < 5 and value.isascii() and value.isdigit()):
            raise PydanticCustomError("VALIDATION_ERROR", "a part of a ZIP is its first three or four digits: 981")
        return value

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.zip and self.zip_prefix:
            raise PydanticCustomError("VALIDATION_ERROR", "send either zip or zip_prefix, not both")
        if not self.filters().narrow:
            raise PydanticCustomError(
                "MISSING_QUERY", "send at least one of name, title, company, city, state_code, zip and zip_prefix"
            )
        if self.cursor and self.place() is None:
            raise PydanticCustomError(
                "CURSOR_INVALID",
                "this is no cursor of these filters: send next_cursor as it came, and the same filters",
            )
        return self

    def filters(self) -> Filters:
        return Filters(
            kind=self.kind or "",
            name=tuple(names.fold(self.name or "").split()),
            title=tuple(names.fold(self.title or "").split()),
            company=firms.words(self.company) if self.company else (),
            city=places.city_word(self.city) if self.city else "",
            state=self.state_code or "",
            zip=self.zip or self.zip_prefix or "",
            has_phone=self.has_phone,
            has_email=self.has_email,
        )

    def place(self) -> Cursor | None:
        """Where to go on."""
        return listing.read(self.cursor, self.filters()) if self.cursor else None


class LeadLists:
    """The upstream of `leads/search`."""

    name = "lead_lists"

    def __init__(self, settings: ListSettings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lists")
        self._directory = DirectoryLists(settings.directory, self._thread)
        self.operation = _operation(settings)
        """Whether on sale or not."""

    def offerings(self) -> Sequence[Offering]:
        return (Offering(self.operation, self._fulfil),) if self._on_sale else ()

    def offline(self) -> Sequence[Operation]:
        return () if self._on_sale else (self.operation,)

    def available(self, operation_id: str, now_s: float) -> int | None:
        return None

    async def start(self) -> None:
        """Opens the directory. Raises DirectoryError where the file is none."""
        if self._on_sale:
            self._directory.open()

    async def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._directory.close()

    @property
    def _on_sale(self) -> bool:
        return self._settings.sold and self._directory.has_any

    async def _fulfil(self, query: LeadQuery, context: Context) -> Outcome:
        started_s, filters = context.now(), query.filters()
        tried = await ask(self._directory, ListQuestion(filters, query.place(), query.limit), context, hop=ID)
        if tried.found is None:
            if tried.call.error is ErrorClass.REFUSED:
                return Failure(_OTHER_LOADS, code=Code.CURSOR_INVALID)
            return nobody_looked([tried])
        people, sources = tried.found.people, Sources()
        # Of the first numbers tables are loaded for half a second.
        leads = await asyncio.get_running_loop().run_in_executor(self._thread, _shown, people, sources)
        following = tried.found.next and listing.written(tried.found.next, filters)
        notice = self._settings.directory.notice
        metadata = {
            **({"notice": notice} if notice else {}),
            "found": len(leads),
            "sources": sources.listing(tried.call.at_ms),
            "providers_tried": told([tried], LOCAL, show_costs=True),
            "elapsed_ms": max(0, round((context.now() - started_s) * 1000)),
        }
        outcome: type[Match] | type[NoMatch] = Match if leads else NoMatch
        return outcome({"leads": leads, "next_cursor": following}, metadata)


def _shown(people: Sequence[Person], sources: Sources) -> list[dict[str, Any]]:
    rows = shown(people, sources, most=PAGE_MAX)
    return [{"kind": _kind(person), **row} for person, row in zip(people, rows, strict=True)]


def _kind(person: Person) -> str:
    return "business" if person.business else "person"


_LEAD = an_object({"kind": {"enum": ["person", "business"]}, **PERSON["properties"]})
_ANSWER = an_object(
    {
        "request_id": STRING,
        "route": STRING,
        "matched": BOOLEAN,
        "billed": BOOLEAN,
        "cache_hit": BOOLEAN,
        "billing": {"type": "object"},
        "data": an_object({"leads": a_list(_LEAD), "next_cursor": MAYBE}),
        "metadata": an_object(
            {
                "notice": STRING,
                "found": INTEGER,
                "sources": SOURCES,
                "providers_tried": TRIED_SCHEMA,
                "elapsed_ms": INTEGER,
            },
            required=("found", "sources", "providers_tried", "elapsed_ms"),
        ),
    }
)


def _example(settings: ListSettings) -> dict[str, Any]:
    """The answer that the demo's directory gives to the operation's example, but for ids and times."""
    price, notice = format_usd(settings.price_micros), settings.directory.notice
    return {
        "request_id": "req_example",
        "route": ID,
        "matched": True,
        "billed": True,
        "cache_hit": False,
        "billing": {"mode": "x402_exact", "charge_id": "chg_example", "price_usd": price, "charged_usd": price},
        "data": {
            "leads": [{"kind": "person", **EXAMPLE_PERSON, "match_score": 1.0, "matched_by": ["name", "state", "zip"]}],
            "next_cursor": None,
        },
        "metadata": {
            **({"notice": notice} if notice else {}),
            "found": 1,
            "sources": [
                {"id": "src_1", "provider": LOCAL, "record": "demo_synthetic#2", "retrieved_at": "2026-01-01T00:00:00Z"}
            ],
            "providers_tried": [{"provider": LOCAL, "outcome": "match", "ms": 1, "cost_usd": "0"}],
            "elapsed_ms": 1,
        },
    }


def _operation(settings: ListSettings) -> Operation:
    return Operation(
        id=ID,
        method="POST",
        path="/api/v1/leads/search",
        summary="List people and firms by place, title, company or name",
        description=(
            f"Takes filters that must all hold and returns up to {PAGE_MAX} people and firms with phones, emails and "
            "addresses, and a next_cursor where there are more: send it with the same filters for the next page. One "
            "record is one row; each page costs the price once, a page without rows nothing."
        ),
        input=LeadQuery,
        output=_ANSWER,
        price=Price(settings.price_micros),
        example={"name": "Dana Sample", "state_code": "WA", "zip_prefix": "981"},
        example_output=_example(settings),
        timeout_s=TIMEOUT_S,
        # An answer given again would bring the cursor of loads that are gone.
        cacheable=False,
        tags=("people", "company", "leads"),
    )
