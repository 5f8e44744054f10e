"""leads/search: what may be asked, which rows a list has, and how its pages follow each other. All is invented."""

import csv
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.core.answer import pack
from gateway.core.errors import Code
from gateway.core.http import HttpResponse
from gateway.core.subject import of_email, of_names, of_phone
from gateway.core.upstream import Context, Failure, Match, NoMatch, Outcome
from gateway.core.vendor_call import VendorCall
from upstreams.directory import firms, invented, listing, names, places
from upstreams.directory.database import DirectoryError, open_writer
from upstreams.directory.listing import Cursor, Filters
from upstreams.directory.loading import load
from upstreams.directory.lookup import _BY_WORDS, _LOADS, Directory
from upstreams.directory.settings import DirectorySettings, Rules
from upstreams.lead_lists import ID, PAGE_MAX, LeadLists, LeadQuery, ListSettings

ROWS = """\
first,middle,last,company,title,phone,old_phone,email,street,city,state,zip
Dana,Q,Sample,Example Bakery LLC,Owner,(206) 555-0100,,dana@example.com,12 Example Ave,Seattle,WA,98101
Lee,,Sample,Example Bakery LLC,Sales Manager,,(206) 555-0101,lee@example.com,14 Example Ave,Seattle,WA,98101
Ada,,Testerman,Other Works Inc,Vice President of Sales,(206) 555-0102,,,1 Mockup Ln,Seattle,WA,98104
Jos\u00e9,,Placeholt,,,(509) 555-0103,,jose@example.com,1 Draft Blvd,Spokane,WA,99201
,,,Example Bakery LLC,,(206) 555-0104,,shop@example.com,10 Example Ave,Seattle,WA,98101
,,,Sample & Sons Inc,,(503) 555-0105,,,3 Specimen Road,Portland,OR,97201
,,,,,(206) 555-0106,,nobody@example.com,5 Example Ave,Seattle,WA,98101
Kim,,Na,,,(206) 555-0107,,,7 Example Ave,Saint Example,WA,98109
"""
DANA, LEE, ADA, JOSE, KIM = "Dana Q Sample", "Lee Sample", "Ada Testerman", "Jos\u00e9 Placeholt", "Kim Na"
BAKERY, SONS = "Example Bakery LLC", "Sample & Sons Inc"


class NoNetwork:
    async def request(self, *_: object, **__: object) -> HttpResponse:
        raise AssertionError("a list out of the directory went to the network")


class Desk:
    """The upstream over one directory, asked as the edge asks it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bought: list[VendorCall] = []
        self.hides: Callable[[Iterable[str]], bool] | None = None
        self.lists = LeadLists(ListSettings(DirectorySettings(path), sold=True))

    async def ask(self, **body: Any) -> Outcome:
        (offering,) = self.lists.offerings()
        context = Context(
            http=NoNetwork(), now=time.time, deadline_s=0, budget_micros=0, hides=self.hides, bought=self.bought.append
        )
        outcome = await offering.fulfil(offering.operation.input.model_validate(body), context)
        if not isinstance(outcome, Failure):
            envelope = {"request_id": "r", "route": ID, "billed": True, "cache_hit": False, "billing": {}}
            jsonschema.validate({**envelope, **orjson.loads(pack(outcome))}, dict(offering.operation.output))
        return outcome

    async def named(self, **body: Any) -> list[str]:
        outcome = await self.ask(**body)
        assert isinstance(outcome, Match if outcome.data["leads"] else NoMatch)  # type: ignore[union-attr]
        return [lead["name"] for lead in outcome.data["leads"]]  # type: ignore[union-attr]

    async def walk(self, **body: Any) -> list[str]:
        """The records of every page."""
        found, more = [], {}
        while len(found) < 100:
            outcome = await self.ask(**body, **more)
            assert isinstance(outcome, Match | NoMatch)
            found += [source["record"] for source in outcome.metadata["sources"]]
            if outcome.data["next_cursor"] is None:
                return found
            assert len(outcome.data["leads"]) == body["limit"]
            more = {"cursor": outcome.data["next_cursor"]}
        raise AssertionError("there is no end")


def loaded(folder: Path, text: str, source: str = "people.csv") -> Path:
    (folder / source).write_text(text, encoding="utf-8")
    load(folder / source, folder / "directory.db", workers=0)
    return folder / "directory.db"


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(loaded(tmp_path, ROWS))
    await desk.lists.start()
    yield desk
    await desk.lists.close()


# On sale, or not


@pytest.mark.parametrize("there", ["nothing", "a directory of nobody", "something else", "people and no word"])
async def test_it_is_offline_until_somebody_is_there_and_the_operator_says_so(tmp_path: Path, there: str) -> None:
    path = tmp_path / "directory.db"
    if there == "a directory of nobody":
        open_writer(path).close()
    elif there == "something else":
        path.write_text("text " * 1000)
    elif there == "people and no word":
        loaded(tmp_path, ROWS)
    lists = LeadLists(ListSettings(DirectorySettings(path), sold=there != "people and no word"))
    await lists.start()
    assert lists.offerings() == ()
    assert [operation.id for operation in lists.offline()] == [ID]
    await lists.close()


async def test_it_is_on_sale_then_and_a_page_has_its_price(desk: Desk) -> None:
    (offering,) = desk.lists.offerings()
    assert desk.lists.offline() == ()
    assert desk.lists.available(ID, 0) is None
    operation = offering.operation
    assert (operation.path, operation.price.base_micros) == ("/api/v1/leads/search", 1_000_000)
    assert operation.miss_free
    assert not operation.cacheable
    assert len(operation.summary) <= 120
    assert len(operation.description) <= 500
    assert "$ref" not in json.dumps([operation.output, operation.input.model_json_schema()])


async def test_the_example_is_what_the_demo_answers(tmp_path: Path) -> None:
    invented.write(tmp_path / "people.csv")
    load(tmp_path / "people.csv", tmp_path / "directory.db", workers=0, source=invented.SOURCE)
    desk = Desk(tmp_path / "directory.db")
    await desk.lists.start()
    example = desk.lists.operation.example_output
    outcome = await desk.ask(**desk.lists.operation.example)
    assert isinstance(outcome, Match)
    assert outcome.data == example["data"]
    times = {"elapsed_ms": 0, "providers_tried": 0, "sources": 0}
    assert {**outcome.metadata, **times} == {**example["metadata"], **times}
    jsonschema.validate(example, desk.lists.operation.output)
    jsonschema.validate(desk.lists.operation.example, LeadQuery.model_json_schema())
    await desk.lists.close()


# What may be asked


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "MISSING_QUERY"),
        ({"city": "  "}, "MISSING_QUERY"),
        ({"kind": "person"}, "MISSING_QUERY"),
        ({"has_phone": True, "has_email": True, "limit": 5}, "MISSING_QUERY"),
        ({"city": " . "}, "VALIDATION_ERROR"),
        ({"name": "---"}, "VALIDATION_ERROR"),
        ({"title": "a " * 13}, "VALIDATION_ERROR"),
        ({"name": "x" * 121}, "string_too_long"),
        ({"name": ["Dana"]}, "string_type"),
        ({"city": 5}, "string_type"),
        ({"city": "Seattle", "kind": "people"}, "literal_error"),
        ({"city": "Seattle", "state_code": "Narnia"}, "VALIDATION_ERROR"),
        ({"zip": "981"}, "VALIDATION_ERROR"),
        ({"zip_prefix": "98"}, "VALIDATION_ERROR"),
        ({"zip_prefix": "98101"}, "string_too_long"),
        ({"zip_prefix": "\u0669\u0668\u0661"}, "VALIDATION_ERROR"),
        ({"zip_prefix": "98*"}, "VALIDATION_ERROR"),
        ({"zip": "98101", "zip_prefix": "981"}, "VALIDATION_ERROR"),
        ({"city": "Seattle", "has_phone": "yes"}, "bool_type"),
        ({"city": "Seattle", "has_email": 1}, "bool_type"),
        ({"city": "Seattle", "limit": 0}, "greater_than_equal"),
        ({"city": "Seattle", "limit": PAGE_MAX + 1}, "less_than_equal"),
        ({"city": "Seattle", "limit": "5"}, "int_type"),
        ({"city": "Seattle", "limit": 5.0}, "int_type"),
        ({"city": "Seattle", "limit": True}, "int_type"),
        ({"city": "Seattle", "limit": None}, "int_type"),
        ({"city": "Seattle", "industry": "bakeries"}, "extra_forbidden"),
        ({"city": "Seattle", "offset": 5}, "extra_forbidden"),
        ({"city": "Seattle", "cursor": 7}, "string_type"),
        ({"city": "Seattle", "cursor": "a" * 201}, "string_too_long"),
        ({"city": "Seattle", "cursor": "a" * 64}, "CURSOR_INVALID"),
        ({"city": "Seattle", "cursor": "x"}, "CURSOR_INVALID"),
    ],
)
def test_what_cannot_be_asked_has_a_code(body: dict[str, Any], code: str) -> None:
    with pytest.raises(ValidationError) as refused:
        LeadQuery.model_validate(body)
    assert [error["type"] for error in refused.value.errors()] == [code]


SEATTLE = Filters(city="cseattle")


@settings(max_examples=200)
@given(st.text(max_size=200) | st.text("abcdefghijklmnop", min_size=64, max_size=64) | st.binary().map(bytes.hex))
def test_garbage_is_no_cursor(text: str) -> None:
    assert listing.read(text, SEATTLE) is None


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.binary(min_size=8, max_size=8), st.integers(0, 63))
def test_a_cursor_is_of_its_filters_and_of_nothing_else(after: int, newest_ms: int, loads: bytes, at: int) -> None:
    cursor = Cursor(after, newest_ms, loads)
    text = listing.written(cursor, SEATTLE)
    assert listing.read(text, SEATTLE) == cursor
    assert listing.read(text, Filters(city="cseattle", has_phone=True)) is None
    assert listing.read(text, Filters(city="cspokane")) is None
    changed = text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :]
    assert listing.read(changed, SEATTLE) is None
    assert text.isalpha(), "digits could be a number of somebody's"


def test_a_place_that_no_file_has_is_no_cursor() -> None:
    packed = listing._CURSOR.pack(1 << 63, 0, bytes(8))
    text = (packed + listing._check(packed, SEATTLE)).hex().translate(listing._TO_LETTERS)
    assert listing.read(text, SEATTLE) is None


# Which rows


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"city": "Seattle"}, [DANA, LEE, ADA, BAKERY]),
        ({"city": "SEATTLE", "state_code": "Washington"}, [DANA, LEE, ADA, BAKERY]),
        ({"city": "St. Example"}, [KIM]),
        ({"state": "OR"}, [SONS]),
        ({"zip": "98101-1234"}, [DANA, LEE, BAKERY]),
        ({"zip_prefix": "981"}, [DANA, LEE, ADA, BAKERY, KIM]),
        ({"zip_prefix": "9810"}, [DANA, LEE, ADA, BAKERY, KIM]),
        ({"zip_prefix": "9920"}, [JOSE]),
        ({"zip_prefix": "982"}, []),
        ({"kind": "business", "city": "Seattle"}, [BAKERY]),
        ({"kind": "person", "city": "Seattle"}, [DANA, LEE, ADA]),
        ({"name": "Sample"}, [DANA, LEE, SONS]),
        ({"name": "sample dana q"}, [DANA]),
        ({"name": "jose"}, [JOSE]),
        ({"name": "Example Bakery"}, [BAKERY]),
        ({"name": "Example Bakery LLC"}, [BAKERY]),
        ({"name": "Sample & Sons, Inc."}, [SONS]),
        ({"name": "Na"}, [KIM]),
        ({"name": "LLC"}, []),
        ({"name": "Sampl"}, []),
        ({"title": "sales"}, [LEE, ADA]),
        ({"title": "President Vice"}, [ADA]),
        ({"title": "of"}, [ADA]),
        ({"company": "Example Bakery"}, [DANA, LEE, BAKERY]),
        ({"employer": "example bakery, inc", "kind": "person"}, [DANA, LEE]),
        ({"city": "Seattle", "has_phone": True}, [DANA, ADA, BAKERY]),
        ({"city": "Seattle", "has_phone": False}, [LEE]),
        ({"city": "Seattle", "has_email": False}, [ADA]),
        ({"state_code": "WA", "has_email": False, "has_phone": False}, []),
        ({"city": "Seattle", "title": "owner", "zip": "98104"}, []),
        ({"name": 'x" OR last : "sample'}, []),
        ({"city": "Seattle*"}, [DANA, LEE, ADA, BAKERY]),
    ],
)
async def test_the_rows_that_have_all_of_it(desk: Desk, body: dict[str, Any], expected: list[str]) -> None:
    assert await desk.named(**body) == expected


async def test_a_row_is_told_as_every_other_answer_tells_it(desk: Desk) -> None:
    outcome = await desk.ask(title="owner", state_code="WA", has_phone=True)
    assert isinstance(outcome, Match)
    (lead,) = outcome.data["leads"]
    assert (lead["kind"], lead["name_parts"]["last"], lead["employer"]) == ("person", "Sample", "Example Bakery LLC")
    assert (lead["match_score"], lead["matched_by"]) == (1.0, ["title", "state", "has_phone"])
    assert [(phone["number"], phone["score"], phone["sources"]) for phone in lead["phones"]] == [
        ("+12065550100", 0.95, ["src_1"])
    ]
    assert [source["record"] for source in outcome.metadata["sources"]] == ["people.csv#2"]
    assert outcome.metadata["providers_tried"][0]["provider"] == "local_directory"
    assert [(call.hop, call.provider, call.outcome, call.cost_micros) for call in desk.bought] == [
        (ID, "local_directory", "match", 0)
    ]
    business = await desk.ask(kind="business", city="Seattle")
    assert [(each["kind"], each["name_parts"]) for each in business.data["leads"]] == [("business", None)]  # type: ignore[union-attr]


# Pages


async def test_pages_follow_each_other_and_the_last_has_no_cursor(desk: Desk) -> None:
    assert await desk.walk(city="Seattle", limit=1) == [f"people.csv#{line}" for line in (2, 3, 4, 6)]
    assert await desk.walk(city="Seattle", limit=2) == await desk.walk(city="Seattle", limit=4)
    first = await desk.ask(city="Seattle", limit=3)
    assert isinstance(first, Match)
    cursor = first.data["next_cursor"]
    assert await desk.named(city="seattle ", limit=25, cursor=cursor) == [
        BAKERY
    ]  # in another spelling, on a larger page
    assert isinstance(
        await desk.ask(city="Seattle", cursor=listing.written(Cursor(9, 2**62, loads(desk)), SEATTLE)), NoMatch
    )
    with pytest.raises(ValidationError):
        await desk.ask(state_code="WA", cursor=cursor)


def loads(desk: Desk) -> bytes:
    directory = Directory(desk.path, Rules())
    digest = directory._loads(2**62)
    directory.close()
    return digest


async def test_another_file_is_added_at_the_end_and_a_cursor_goes_on(desk: Desk, tmp_path: Path) -> None:
    first = await desk.ask(city="Seattle", limit=3)
    assert isinstance(first, Match)
    loaded(tmp_path, "name,city\nNew Sample,Seattle\n", "more.csv")
    assert await desk.named(city="Seattle", cursor=first.data["next_cursor"]) == [BAKERY, "New Sample"]


@pytest.mark.parametrize("how", ["loaded again", "of another directory"])
async def test_a_cursor_of_other_loads_is_refused_and_says_so(desk: Desk, tmp_path: Path, how: str) -> None:
    first = await desk.ask(city="Seattle", limit=3)
    assert isinstance(first, Match)
    cursor = first.data["next_cursor"]
    if how == "loaded again":
        loaded(tmp_path, ROWS)
    else:
        cursor = listing.written(Cursor(1, 2**62, b"another!"), SEATTLE)
    refused = await desk.ask(city="Seattle", cursor=cursor)
    assert isinstance(refused, Failure)
    assert (refused.told_as, refused.cost_micros) == (Code.CURSOR_INVALID, 0)
    assert await desk.named(city="Seattle") == [DANA, LEE, ADA, BAKERY]


async def test_a_directory_that_cannot_be_read_is_a_failure(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise DirectoryError("the disk is gone")

    monkeypatch.setattr(Directory, "_page", broken)
    assert isinstance(await desk.ask(city="Seattle"), Failure)


# About whom nothing is told


async def test_a_page_without_whom_nothing_may_be_told_is_filled(desk: Desk) -> None:
    hidden = of_phone("+12065550100")
    desk.hides = lambda spellings: hidden in spellings
    assert await desk.named(city="Seattle", limit=2) == [LEE, ADA]
    assert await desk.walk(city="Seattle", limit=1) == [f"people.csv#{line}" for line in (3, 4, 6)]
    desk.hides = lambda spellings: True
    assert isinstance(await desk.ask(city="Seattle"), NoMatch)


async def test_what_hides_somebody_may_stand_in_another_row(desk: Desk, tmp_path: Path) -> None:
    loaded(tmp_path, "name,phone,email,city\nDana Sample,(503) 555-0150,dana@example.com,Portland\n", "old.csv")
    hidden = of_phone("+15035550150")
    desk.hides = lambda spellings: hidden in spellings
    assert await desk.named(city="Seattle") == [LEE, ADA, BAKERY]


async def test_where_very_many_are_hidden_a_page_ends_and_says_where(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upstreams.directory.lookup._WALKED_MAX", 2)
    hidden = {of_email("dana@example.com"), of_email("lee@example.com")}
    desk.hides = lambda spellings: bool(hidden & set(spellings))
    first = await desk.ask(city="Seattle", limit=1)
    assert isinstance(first, NoMatch)
    assert await desk.named(city="Seattle", limit=1, cursor=first.data["next_cursor"]) == [ADA]


# Any directory

PARTS = st.sampled_from(["Ada", "Bell", "Cole", "Dot", "de", "\u00c9mile"])
WORDS = PARTS | st.just("LLC")
MAYBE = st.sampled_from(["", "", "Owner", "Head of Sales"])
PLACE = st.sampled_from([("Seattle", "WA", "98101"), ("Spokane", "WA", "99201"), ("Erie", "PA", "16501"), ("", "", "")])
ROW = st.fixed_dictionaries(
    {
        "first": PARTS | st.just(""),
        "middle": st.sampled_from(["", "Q", "Ada"]),
        "last": PARTS | st.just(""),  # with a legal form it would be a firm
        "company": st.sampled_from(["", "Bell LLC", "Ada Works", "Sales & Co"]),
        "title": MAYBE,
        "phone": st.sampled_from(["", "206 555 0100", "206 555 0101"]),
        "email": st.sampled_from(["", "a@example.com", "b@example.com"]),
        "place": PLACE,
    }
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["person", "business"]),
        "name": WORDS,
        "title": st.sampled_from(["owner", "sales head"]),
        "company": st.sampled_from(["Bell", "Ada Works Inc", "sales"]),
        "city": st.sampled_from(["Seattle", "Erie"]),
        "state_code": st.sampled_from(["WA", "PA"]),
        "zip_prefix": st.sampled_from(["981", "9920", "165"]),
        "has_phone": st.booleans(),
        "has_email": st.booleans(),
    },
).filter(lambda body: bool(body.keys() - {"kind", "has_phone", "has_email"}))


def fits(row: dict[str, Any], body: dict[str, Any]) -> bool:
    """The same decision, made row by row from what stands in the file."""
    city, state, zip = row["place"]
    business = not (row["first"] or row["last"])
    if (business and not row["company"]) or (not business and not row["last"]):
        return False  # nobody by name
    own = firms.words(row["company"]) if business else ()
    parts = set(names.fold(f"{row['first']} {row['middle']} {row['last']}").split()) if not business else set()
    works = set() if business else set(firms.words(row["company"])) if row["company"] else set()
    return all(
        {
            "kind": lambda value: value == ("business" if business else "person"),
            "name": lambda value: names.fold(value) in parts | set(own),
            "title": lambda value: set(value.split()) <= set(names.fold(row["title"]).split()),
            "company": lambda value: set(firms.words(value)) <= (set(own) | works),
            "city": lambda value: city == value,
            "state_code": lambda value: state == value,
            "zip_prefix": zip.startswith,
            "has_phone": lambda value: bool(row["phone"]) is value,
            "has_email": lambda value: bool(row["email"]) is value,
        }[key](value)
        for key, value in body.items()
    )


@contextmanager
def directory_of(rows: list[dict[str, Any]]) -> Iterator[Directory]:
    with TemporaryDirectory() as folder:
        file = Path(folder, "people.csv")
        with file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow([*rows[0].keys() - {"place"}, "city", "state", "zip"])
            for row in rows:
                writer.writerow([*(row[key] for key in rows[0].keys() - {"place"}), *row["place"]])
        load(file, Path(folder, "directory.db"), workers=0)
        directory = Directory(Path(folder, "directory.db"), Rules())
        yield directory
        directory.close()


def walked(directory: Directory, body: dict[str, Any], counts: list[int], hides: Any = None) -> list[int]:
    """Line numbers, page after page; every cursor through its spelling."""
    filters, cursor, found = LeadQuery.model_validate(body).filters(), None, list[int]()
    for page in range(1000):
        got = directory.page(filters, cursor, counts[page % len(counts)], hides)
        assert got is not None
        assert len(got.rows) == counts[page % len(counts)] or got.next is None
        found += [row.record for row in got.rows]
        if got.next is None:
            return found
        cursor = listing.read(listing.written(got.next, filters), filters)
        assert cursor == got.next
    raise AssertionError("there is no end")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROW, min_size=1, max_size=25), FILTERS, st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_whoever_walks_the_pages_gets_every_row_once_in_the_order_of_the_file(
    rows: list[dict[str, Any]], body: dict[str, Any], counts: list[int]
) -> None:
    with directory_of(rows) as directory:
        expected = [line for line, row in enumerate(rows, 2) if fits(row, body)]
        assert sorted(walked(directory, body, counts)) == expected
        assert walked(directory, body, counts) == walked(directory, body, [25])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ROW, min_size=1, max_size=25), FILTERS, st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_of_any_directory_nobody_who_is_hidden_is_on_any_page(
    rows: list[dict[str, Any]], body: dict[str, Any], counts: list[int]
) -> None:
    hidden = {of_phone("+12065550100"), *of_names({"ada bell"}, {"seattle,wa"})}
    with directory_of(rows) as directory:
        found = walked(directory, body, counts, lambda spellings: bool(hidden & set(spellings)))
        assert len(set(found)) == len(found)
        told = [row for line, row in enumerate(rows, 2) if line in found]
        assert all(row["phone"] != "206 555 0100" for row in told)
        assert not any((row["first"], row["last"], row["place"][0]) == ("Ada", "Bell", "Seattle") for row in told)
        assert set(found) <= set(walked(directory, body, counts))


# No scan


@pytest.mark.parametrize(
    "body",
    [
        {"state_code": "WA", "has_phone": False},
        {"name": "ada of"},
        {"zip_prefix": "9810"},
        {"kind": "person", "title": "x"},
    ],
)
def test_a_page_is_a_walk_along_the_full_text_from_its_cursor_on(tmp_path: Path, body: dict[str, Any]) -> None:
    directory = Directory(loaded(tmp_path, ROWS), Rules())
    expression = listing.expression(LeadQuery.model_validate(body).filters(), directory._term)
    plan = [row[3] for row in directory._connection.execute(f"EXPLAIN QUERY PLAN {_BY_WORDS}", (expression, 5, 3))]
    assert plan[0] == "SCAN f VIRTUAL TABLE INDEX 64:M4>", "by MATCH, from a rowid on, in their order"
    assert not [step for step in plan[1:] if "SCAN" in step or "TEMP B-TREE" in step]
    directory.close()


def test_the_words_of_a_filter_are_never_syntax(tmp_path: Path) -> None:
    directory = Directory(loaded(tmp_path, ROWS), Rules())

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
    def ask(name: str, title: str, company: str, city: str) -> None:
        try:
            query = LeadQuery.model_validate({"name": name, "title": title, "company": company, "city": city})
        except ValidationError:
            return
        assert directory.page(query.filters(), None, 5) is not None

    ask()
    assert places.city_word("Seattle") == SEATTLE.city
    assert directory._connection.execute(_LOADS, (2**62,)).fetchall() != []
    directory.close()
