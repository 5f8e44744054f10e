"""`faregate subject`: a person in the data who asks to be left out, to see what is kept, or to have it erased. Works
beside running gateways.

A person is named by phone, email, and name with place; what is named together is one person. Nobody is written down in
clear: the list knows people by keyed hashes, and shows a hint and the operator's note.
"""

import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.cli import terminal
from gateway.cli.agents import new_id, with_database
from gateway.cli.directory import path_of

if TYPE_CHECKING:
    from gateway.core.erasure import Identity
    from gateway.core.subject import Kind, SubjectKey
    from gateway.flows.erasing import Entry, Erased
    from gateway.settings import Settings
    from gateway.store.erasing import Trace
    from gateway.store.sqlite import SqliteDatabase
    from gateway.store.subjects import Access

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="People in the data: suppress, unsuppress, list, export, erase, accesses.")

Phones = Annotated[list[str] | None, typer.Option("--phone", help="A phone number; as often as there are some.")]
Emails = Annotated[list[str] | None, typer.Option("--email", help="An email address; as often as there are some.")]
Name = Annotated[str | None, typer.Option(help="First and last name; with a place.")]
City = Annotated[str | None, typer.Option(help="The city of the name; best with --state.")]
State = Annotated[str | None, typer.Option(help="The US state of the name.")]
Zip = Annotated[str | None, typer.Option(help="The ZIP of the name.")]
Note = Annotated[str, typer.Option(help="What you know the entry by; write nothing of the person into it.")]

NOTE_MAX = 200


@dataclass(frozen=True)
class Person:
    """As the command line names him, put into the spellings by which he is known again."""

    phones: tuple[str, ...]
    """E.164"""
    emails: tuple[str, ...]
    name: str
    names: frozenset[str]
    narrow: frozenset[str]
    """Places by which he is suppressed."""
    states: frozenset[str]

    @property
    def identity(self) -> "Identity":
        from gateway.core import subject
        from gateway.core.erasure import Identity

        return Identity(
            phones=frozenset(spelling for phone in self.phones if (spelling := subject.of_phone(phone))),
            emails=frozenset(subject.of_email(email) for email in self.emails),
            names=self.names,
            places=self.narrow,
            states=self.states,
        )

    @property
    def spellings(self) -> frozenset[str]:
        from gateway.core.subject import of_names

        identity = self.identity
        return identity.phones | identity.emails | of_names(self.names, self.narrow)

    @property
    def leads(self) -> list[str]:
        """As core/lead.py spells what agents ask about."""
        from gateway.core.lead import spelling

        spelled = [spelling(each) for each in (*self.phones, *self.emails, self.name)]
        return [each for each in (*spelled, *self.names) if each]

    def entries(self, key_id: int, note: str) -> "list[Entry]":
        from gateway.core import subject
        from gateway.core.subject import Kind

        found = [
            _entry(Kind.PHONE, f"...{phone[-2:]}", frozenset({subject.of_phone(phone) or ""}), key_id, note)
            for phone in self.phones
        ]
        for email in self.emails:
            found.append(_entry(Kind.EMAIL, f"{email[0]}...", frozenset({subject.of_email(email)}), key_id, note))
        if self.names:
            hint = " ".join(f"{word[0]}." for word in self.name.split() if word)[:40]
            found.append(_entry(Kind.NAME, hint, subject.of_names(self.names, self.narrow), key_id, note))
        return found


def _entry(kind: "Kind", hint: str, spellings: frozenset[str], key_id: int, note: str) -> "Entry":
    from gateway.flows.erasing import Entry
    from gateway.store.subjects import Suppression

    return Entry(Suppression(new_id("sup_"), kind, hint, note, key_id, 0), spellings)


@app.command("suppress")
def suppress(
    phone: Phones = None,
    email: Emails = None,
    name: Name = None,
    city: City = None,
    state: State = None,
    zip: Zip = None,
    note: Note = "",
    config: terminal.Config = None,
) -> None:
    """Tell nobody about a person any more: not when he is asked about, and in no answer."""
    from gateway.flows import erasing

    _require_note(note)

    async def work(settings: "Settings", db: "SqliteDatabase", key: "SubjectKey") -> "list[Entry]":
        person = _person(settings, phone, email, name, city, state, zip)
        entries = person.entries(key.id, note)
        await erasing.suppress(db, key, entries)
        await db.truncate()
        return entries

    for entry in _with_key(config, work):
        terminal.say(f"{entry.suppression.id}  {entry.suppression.kind.value} {entry.suppression.hint} is suppressed")
    terminal.note("Running gateways heed it within a second.")


@app.command("unsuppress")
def unsuppress(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `faregate subject list` shows them.")],
    config: terminal.Config = None,
) -> None:
    """Take entries off the list."""
    from gateway.core.errors import Code, Problem
    from gateway.store import subjects

    async def work(settings: "Settings", db: "SqliteDatabase") -> list[str]:
        return [id for id in ids if await db.write(subjects.unsuppress, id)]

    done = with_database(config, work)
    for id in done:
        terminal.say(f"{id} is off the list")
    if unknown := [id for id in ids if id not in done]:
        raise Problem(Code.NOT_FOUND, f"there is no entry {', '.join(unknown)}; `faregate subject list` shows all")


@app.command("list")
def listing(config: terminal.Config = None, as_json: terminal.AsJson = False) -> None:
    """List who is suppressed, newest first: by hint and note, since nobody is kept in clear."""
    from gateway.core.answer import iso
    from gateway.store import subjects

    async def work(settings: "Settings", db: "SqliteDatabase") -> list[dict[str, str]]:
        return [
            {"id": each.id, "since": iso(each.at_ms), "kind": each.kind.value, "hint": each.hint, "note": each.note}
            for each in await db.read(subjects.listing)
        ]

    rows = with_database(config, work)
    _tell(rows, as_json, "Nobody is suppressed.")


@app.command("export")
def export(
    phone: Phones = None,
    email: Emails = None,
    name: Name = None,
    city: City = None,
    state: State = None,
    zip: Zip = None,
    config: terminal.Config = None,
) -> None:
    """Print all that is kept of a person, as JSON, one object a line: what `erase` would take out, and what stays."""
    from gateway.store import erasing

    async def work(
        settings: "Settings", db: "SqliteDatabase", key: "SubjectKey"
    ) -> "tuple[list[Trace], list[dict[str, object]]]":
        person = _person(settings, phone, email, name, city, state, zip)
        return await db.read(erasing.traces, person.identity), _rows(settings, person)

    found, rows = _with_key(config, work)
    for trace in found:
        terminal.say(json.dumps({**_place(trace), "stays": trace.stays, "content": _readable(trace.content)}))
    for row in rows:
        terminal.say(json.dumps(row))
    if not found and not rows:
        terminal.note("Nothing is kept of this person.")


@app.command("erase")
def erase(
    phone: Phones = None,
    email: Emails = None,
    name: Name = None,
    city: City = None,
    state: State = None,
    zip: Zip = None,
    note: Note = "erased",
    yes: terminal.Yes = False,
    config: terminal.Config = None,
) -> None:
    """Take all that is kept of a person out, and suppress him. What was charged stays as it is.

    Results that tell of him are gone for whoever has bought them. Nobody can undo this.
    """
    from gateway.core.lead import LeadKey
    from gateway.flows import erasing
    from gateway.flows.webhooks import job_ended
    from gateway.store import actions
    from upstreams.directory import erasing as directory

    _require_note(note)
    if not yes:
        typer.confirm("Erase this person, for good? `faregate subject export` shows what goes", abort=True, err=True)

    async def work(
        settings: "Settings", db: "SqliteDatabase", key: "SubjectKey"
    ) -> "tuple[list[Entry], Erased, int, bool]":
        person = _person(settings, phone, email, name, city, state, zip)
        entries = person.entries(key.id, note)
        await erasing.enter(db, key, entries)
        path = path_of(settings)
        rows = directory.erase(path, person.identity) if path.exists() else 0
        erased = await erasing.erase(
            db, person.identity, LeadKey.of(_secret(settings)), person.leads,
            settings.jobs.result_ttl_hours * 3_600_000, partial(job_ended, origin=settings.service.origin),
        )  # fmt: skip
        first = entries[0].suppression.id
        await db.write(actions.note, "erase", first, f"{len(erased.taken)} places, {rows} directory rows")
        return entries, erased, rows, await db.truncate()

    entries, erased, rows, tidy = _with_key(config, work)
    for place, count in sorted(_counts(erased.taken).items()):
        terminal.say(f"{count:6}  {place}")
    terminal.say(f"{erased.leads:6}  leads\n{rows:6}  rows of the directory")
    terminal.say(f"Erased, and suppressed as {', '.join(entry.suppression.id for entry in entries)}.")
    if erased.stays:
        where = ", ".join(f"{trace.table} {trace.id} ({trace.column})" for trace in erased.stays)
        terminal.note(f"What you or your agents wrote into notes and labels cannot be changed: {where}")
    if not tidy:
        terminal.note("The ledger was never idle: a running gateway rids its files of the last copies within minutes.")
    if erased.under_way:
        terminal.fail(
            f"{', '.join(erased.under_way)}: jobs that ask about this person are stopping; erase again when they have",
            terminal.UNDER_WAY,
        )


@app.command("accesses")
def accesses(
    phone: Phones = None,
    email: Emails = None,
    name: Name = None,
    city: City = None,
    state: State = None,
    zip: Zip = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 100,
    config: terminal.Config = None,
    as_json: terminal.AsJson = False,
) -> None:
    """List who was told about a person, or about anybody where nobody is named; `people` is how many an answer had."""
    from gateway.store import subjects

    async def work(settings: "Settings", db: "SqliteDatabase", key: "SubjectKey") -> "list[Access]":
        wanted = None
        if any((phone, email, name)):
            wanted = key.digests(_person(settings, phone, email, name, city, state, zip).spellings)
        return await db.read(subjects.accesses, wanted, limit)

    _tell([_access(each) for each in _with_key(config, work)], as_json, "Nobody was told.")


def _access(access: "Access") -> dict[str, str]:
    from gateway.core.answer import iso

    return {
        "at": iso(access.at_ms),
        "party": access.party,
        "key": access.key_id or "",
        "operation": access.operation,
        "people": str(access.people),
        "charge": access.charge_id,
        "state": access.state,
    }


# Who is meant


def _person(
    settings: "Settings",
    phone: Sequence[str] | None,
    email: Sequence[str] | None,
    name: str | None,
    city: str | None,
    state: str | None,
    zip: str | None,
) -> Person:
    from gateway.core import subject
    from upstreams.directory import names, places

    numbers = tuple(_number(text, settings) for text in phone or ())
    for address in email or ():
        if "@" not in address or not address.strip("@ "):
            terminal.fail("--email: an email address looks like dana@example.com", terminal.MISUSED)
    code = places.state_code(state) if state else ""
    if code is None:
        terminal.fail("--state: a state is a US state, two letters or in full", terminal.MISUSED)
    digits = places.zip5(zip) if zip else ""
    if digits is None:
        terminal.fail("--zip: a ZIP has five digits", terminal.MISUSED)
    narrow = subject.places_to_suppress(city or "", code, digits)
    if digits:
        facts = places.zip_facts(digits)
        narrow |= subject.places_to_suppress(str(facts.get("city") or ""), str(facts.get("state") or ""))
    forms: frozenset[str] = frozenset()
    if name:
        parts = names.split(name)
        if not parts.first or not parts.last:
            terminal.fail("--name: a first and a last name", terminal.MISUSED)
        if not narrow:
            terminal.fail("--name: with a place: --city and --state, --zip or --state", terminal.MISUSED)
        forms = subject.names_of(name).union(
            *(subject.names_in_parts(form, parts.last) for form in names.variants(names.fold(parts.first).split()[0]))
        )
    if not numbers and not email and not forms:
        terminal.fail("name a person: --phone, --email, or --name with a place", terminal.MISUSED)
    states = frozenset({code.lower()}) if code else frozenset()
    addresses = tuple(address.strip().lower() for address in email or ())
    return Person(numbers, addresses, name or "", forms, narrow, states)


def _number(text: str, settings: "Settings") -> str:
    from upstreams.directory import phones

    number = phones.normalise(text, settings.directory.default_region)
    if number is None:
        terminal.fail("--phone: no such number is possible; write it with its area code", terminal.MISUSED)
    return number


# Small things


def _with_key(config: Path | None, work: "Callable[[Settings, SqliteDatabase, SubjectKey], Awaitable[T]]") -> T:
    """Opens the ledger, with the key by which people are known again."""

    async def opened(settings: "Settings", db: "SqliteDatabase") -> T:
        from gateway.assemble import subject_key

        return await work(settings, db, await subject_key(settings, db, _secret(settings)))

    return with_database(config, opened)


def _secret(settings: "Settings") -> bytes:
    from gateway.assemble import key_file
    from gateway.store.key_file import KEY_BYTES, kept_key

    return kept_key(key_file(settings), os.urandom(KEY_BYTES))


def _rows(settings: "Settings", person: Person) -> list[dict[str, object]]:
    from upstreams.directory import erasing

    path = path_of(settings)
    if not path.exists():
        return []
    return [
        {"table": "directory", "id": f"{row.source}#{row.record}", "stays": False, "content": row._asdict()}
        for _, row in erasing.rows_of(path, person.identity)
    ]


def _require_note(note: str) -> None:
    if len(note) > NOTE_MAX or not note.isprintable():
        terminal.fail(f"--note: at most {NOTE_MAX} printable characters", terminal.MISUSED)


def _place(trace: "Trace") -> dict[str, object]:
    return {"table": trace.table, "id": trace.id, "column": trace.column}


def _readable(content: bytes | str) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace") if isinstance(content, bytes) else content


def _counts(traces: "Sequence[Trace]") -> dict[str, int]:
    counts: dict[str, int] = {}
    for trace in traces:
        counts[trace.table] = counts.get(trace.table, 0) + 1
    return counts


def _tell(rows: Sequence[dict[str, str]], as_json: bool, otherwise: str) -> None:
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        terminal.table(list(rows[0]), [[terminal.plain(value) for value in row.values()] for row in rows])
    else:
        terminal.note(otherwise)
