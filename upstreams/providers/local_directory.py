"""The operator's own records: a file beside us, which costs nothing and is asked first.

Where a look-up runs: one by number or email is a probe of an index and takes less than 0.1 ms, about what handing it
to a thread and back costs, so it runs on the event loop. One by name or street reads and scores up to a thousand
rows, which takes milliseconds now and then: it runs on a thread of its own, with its own connection to the file. So
does a page of a list, on another one: nobody's look-up waits for it.
"""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final

from gateway.core.subject import Hides
from gateway.core.upstream import Context
from upstreams.directory import places
from upstreams.directory.database import DirectoryError
from upstreams.directory.listing import Cursor, Filters
from upstreams.directory.lookup import Directory, has_leads
from upstreams.directory.matching import Found, Hit, Query, Row, Verdict
from upstreams.directory.settings import DirectorySettings
from upstreams.persons import Address, Email, People, Person, Phone, Source
from upstreams.provider import ErrorClass, Outcome, Reply, failed

NAME: Final = "local_directory"

_CURRENT, _FORMER, _EMAIL, _ADDRESS = 0.95, 0.80, 0.70, 0.80


class LocalDirectory:
    """upstreams.provider.LocalProvider[Query, People]."""

    name = NAME
    family = NAME

    def __init__(self, settings: DirectorySettings, thread: Executor) -> None:
        self._settings = settings
        self._thread = thread
        self._on_loop: Directory | None = None
        self._on_thread: Directory | None = None

    @property
    def is_there(self) -> bool:
        return self._settings.path.exists()

    def open(self) -> None:
        """Raises DirectoryError where the file is none."""
        self._on_loop = Directory(self._settings.path, self._settings.rules)
        self._on_thread = Directory(self._settings.path, self._settings.rules)

    def close(self) -> None:
        for directory in (self._on_loop, self._on_thread):
            if directory is not None:
                directory.close()
        self._on_loop = self._on_thread = None

    async def look(self, question: Query, context: Context) -> Reply[People]:
        try:
            verdict, answered = await self._find(question, context.hides)
        except DirectoryError:
            # Not a miss: nobody looked. The operator finds the reason by `faregate check`.
            return failed(ErrorClass.TRANSIENT)
        if isinstance(verdict, Found):
            people = tuple(_person(hits) for hits in verdict.people)
            narrower = None if answered is question else answered
            return Reply(Outcome.MATCH, People(people, judged=True, answers=narrower))
        return Reply(Outcome.NO_MATCH, People(judged=True, reason=verdict.reason))

    async def _find(self, query: Query, hides: Hides | None) -> tuple[Verdict, Query]:
        """Who is meant, and by which part of the question."""
        while True:
            verdict = await self._find_by_all(query, hides)
            rest = query.without_contact
            if isinstance(verdict, Found) or rest is None:
                return verdict, query
            query = rest

    async def _find_by_all(self, query: Query, hides: Hides | None) -> Verdict:
        assert self._on_loop is not None, "open() comes first"
        assert self._on_thread is not None
        if query.mode in ("reverse_phone", "email"):
            return self._on_loop.find(query, hides)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._on_thread.find, query, hides)


@dataclass(frozen=True, slots=True)
class ListQuestion:
    """A page of `count` rows, from the cursor on."""

    filters: Filters
    cursor: Cursor | None
    count: int


@dataclass(frozen=True, slots=True)
class Listed:
    """Each of the people is one row."""

    people: tuple[Person, ...] = field(repr=False)
    next: Cursor | None = None
    """None: there are no more."""


class DirectoryLists:
    """upstreams.provider.LocalProvider[ListQuestion, Listed]: the same records, by what they have in common."""

    name = NAME
    family = NAME

    def __init__(self, settings: DirectorySettings, thread: Executor) -> None:
        self._settings = settings
        self._thread = thread
        self._directory: Directory | None = None

    @property
    def has_any(self) -> bool:
        return has_leads(self._settings.path)

    def open(self) -> None:
        """Raises DirectoryError where the file is none."""
        self._directory = Directory(self._settings.path, self._settings.rules)

    def close(self) -> None:
        if self._directory is not None:
            self._directory.close()
        self._directory = None

    async def look(self, question: ListQuestion, context: Context) -> Reply[Listed]:
        """Failed as `refused`: the cursor is of other loads than the directory has now."""
        assert self._directory is not None, "open() comes first"
        asked = (question.filters, question.cursor, question.count, context.hides)
        loop = asyncio.get_running_loop()
        try:
            page = await loop.run_in_executor(self._thread, self._directory.page, *asked)
        except DirectoryError:
            return failed(ErrorClass.TRANSIENT)
        if page is None:
            return failed(ErrorClass.REFUSED)
        people = tuple(_person((Hit(row, 1.0, question.filters.by),)) for row in page.rows)
        return Reply(Outcome.MATCH if people else Outcome.NO_MATCH, Listed(people, page.next))


def _person(hits: tuple[Hit, ...]) -> Person:
    """One person, from all rows that speak of him; the best row gives the name."""
    best = hits[0].row
    return Person(
        source=_source(best),
        name=best.name,
        parts=best.parts,
        business=best.business,
        aliases=tuple(sorted({hit.row.name for hit in hits} - {best.name})),
        phones=_phones(hits),
        emails=_emails(hits),
        addresses=_addresses(hits),
        employer=next((hit.row.employer for hit in hits if hit.row.employer), None),
        title=next((hit.row.title for hit in hits if hit.row.title), None),
        score=hits[0].score,
        matched_by=hits[0].by,
    )


def _source(row: Row) -> Source:
    return Source(NAME, f"{row.source}#{row.record}", row.loaded_ms)


def _phones(hits: tuple[Hit, ...]) -> tuple[Phone, ...]:
    found: dict[str, Phone] = {}
    for row in (hit.row for hit in hits):
        for number, current in row.phones:
            known = found.get(number, Phone(number, 0.0, ()))
            score = max(known.score, _CURRENT if current else _FORMER)
            found[number] = Phone(number, score, (*known.sources, _source(row)))
    return tuple(found.values())


def _emails(hits: tuple[Hit, ...]) -> tuple[Email, ...]:
    found: dict[str, Email] = {}
    for row in (hit.row for hit in hits):
        for address in row.emails:
            known = found.get(address, Email(address, _EMAIL, ()))
            found[address] = Email(address, _EMAIL, (*known.sources, _source(row)))
    return tuple(found.values())


def _addresses(hits: tuple[Hit, ...]) -> tuple[Address, ...]:
    found: dict[tuple[str, ...], Address] = {}
    for row in (hit.row for hit in hits):
        if not (row.line1 or row.city or row.zip):
            continue
        key = (row.street_key, places.unit_key(row.line2), row.zip or places.city_word(row.city))
        first = found.get(key)
        if first is None:
            found[key] = Address(
                _ADDRESS, (_source(row),), row.line1, row.line2, row.city, row.state, row.zip
            )  # fmt: skip
        else:
            found[key] = Address(
                _ADDRESS, (*first.sources, _source(row)), first.line1, first.line2, first.city, first.state, first.zip
            )
    return tuple(found.values())
