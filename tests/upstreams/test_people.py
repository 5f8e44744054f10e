"""enrich/phone and enrich/person, asked as the edge asks them, over the demo's invented people."""

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.core.answer import pack
from gateway.core.catalogue import Catalogue, Operation
from gateway.core.errors import Code
from gateway.core.http import HttpResponse
from gateway.core.upstream import Context, Failure, Match, NoMatch, Outcome
from upstreams.directory import invented
from upstreams.directory.database import DirectoryError
from upstreams.directory.loading import load
from upstreams.directory.settings import DirectorySettings, Rules
from upstreams.people import People
from upstreams.person import PersonQuery, PhoneQuery


class NoNetwork:
    """The people upstream has no business outside."""

    async def request(self, *_: object, **__: object) -> HttpResponse:
        raise AssertionError("a directory look-up went to the network")


CONTEXT = Context(http=NoNetwork(), now=time.time, deadline_s=0, budget_micros=0)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    invented.write(folder / "people.csv")
    load(folder / "people.csv", folder / "directory.db", workers=0, source=invented.SOURCE)
    return folder / "directory.db"


@pytest.fixture
async def people(database: Path) -> AsyncIterator[People]:
    people = People(DirectorySettings(database))
    await people.start()
    yield people
    await people.close()


def operation(people: People, id: str) -> Operation:
    return next(offering.operation for offering in people.offerings() if offering.operation.id == id)


async def ask(people: People, id: str, **body: object) -> Outcome:
    offering = next(offering for offering in people.offerings() if offering.operation.id == id)
    return await offering.fulfil(offering.operation.input.model_validate(body), CONTEXT)


def answer(outcome: Outcome) -> dict[str, Any]:
    """An outcome as it leaves: through JSON, in the envelope."""
    assert isinstance(outcome, (Match, NoMatch))
    result = json.loads(pack(outcome))
    envelope = {
        "request_id": "req_1",
        "route": "enrich/x",
        "billed": result["matched"],
        "cache_hit": False,
        "billing": {},
    }
    return {**envelope, "matched": result["matched"], "data": result["data"], "metadata": result["metadata"]}


def without_times(metadata: dict[str, Any]) -> dict[str, Any]:
    tried = [{**entry, "ms": 0} for entry in metadata["providers_tried"]]
    sources = [{**source, "retrieved_at": ""} for source in metadata["sources"]]
    return {**metadata, "elapsed_ms": 0, "providers_tried": tried, "sources": sources}


@pytest.mark.parametrize("id", ["enrich/phone", "enrich/person"])
async def test_the_example_of_an_operation_is_what_the_demo_answers(people: People, id: str) -> None:
    op = operation(people, id)
    got = answer(await ask(people, id, **op.example))
    assert got["data"] == op.example_output["data"]
    assert without_times(got["metadata"]) == without_times(op.example_output["metadata"])
    jsonschema.validate(op.example_output, op.output)
    jsonschema.validate(op.example, op.input.model_json_schema())


@pytest.mark.parametrize(
    "body",
    [
        {"phone": "+12065550100"},
        {"phone": "+12065550100", "name": "Lee Other"},
        {"phone": invented.MISSING_PHONE, "zip": "98101"},
        {"phone": "+442079460000"},
        {"phone": "(555) 555-0142"},
        {"name": "Dana Sample", "zip": "00000"},
        {"name": "Nobody Nowhere", "city": "Seattle"},
        {"street": "12 Example Ave"},
        {"street": "12 Example Ave", "zip": "98101"},
        {"email": "lee@example.com"},
    ],
)
async def test_every_answer_keeps_to_the_announced_shape(people: People, body: dict[str, str]) -> None:
    op = operation(people, "enrich/person")
    assert "$ref" not in json.dumps([op.output, op.input.model_json_schema()])
    jsonschema.validate(answer(await ask(people, "enrich/person", **body)), op.output)


async def test_the_operations_are_priced_and_free_on_a_miss(database: Path) -> None:
    offered = Catalogue(offering.operation for offering in People(DirectorySettings(database)).offerings())
    assert [(op.id, op.method, op.path, op.price.base_micros, op.miss_free) for op in offered.operations] == [
        ("enrich/phone", "POST", "/api/v1/enrich/phone", 330_000, True),
        ("enrich/person", "POST", "/api/v1/enrich/person", 500_000, True),
    ]
    assert all(len(op.summary) <= 120 and len(op.description) <= 500 for op in offered.operations)
    cheap = DirectorySettings(database, phone_price_micros=10_000)
    assert People(cheap).offerings()[0].operation.price.base_micros == 10_000


async def test_without_a_directory_the_operations_are_offline(tmp_path: Path) -> None:
    people = People(DirectorySettings(tmp_path / "none.db"))
    await people.start()
    assert people.offerings() == ()
    assert [op.id for op in people.offline()] == ["enrich/phone", "enrich/person"]
    await people.close()


async def test_with_one_nothing_is_offline(people: People) -> None:
    assert people.offline() == ()


async def test_a_file_that_is_no_directory_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("text " * 1000)
    people = People(DirectorySettings(tmp_path / "text.db"))
    with pytest.raises(DirectoryError):
        await people.start()
    await people.close()


@pytest.mark.parametrize(
    ("more", "mode", "by"),
    [
        ({"name": "Dana Sample", "zip": "98101"}, "name_address", ["name", "zip"]),
        ({"email": "dana@example.com"}, "email", ["email"]),
        ({"email": "nobody@example.com", "name": "Dana Sample", "street": "12 Example Ave"}, "name_address",
         ["name", "street"]),
    ],
)  # fmt: skip
async def test_a_number_that_nobody_has_is_left_out(
    people: People, more: dict[str, str], mode: str, by: list[str]
) -> None:
    outcome = await ask(people, "enrich/person", phone=invented.MISSING_PHONE, **more)
    assert isinstance(outcome, Match)
    assert [(each["name"], each["matched_by"]) for each in outcome.data["people"]] == [("Dana Q Sample", by)]
    told = (outcome.metadata["query_mode"], outcome.metadata["match"]["rule"], outcome.metadata["match"]["score_min"])
    assert told == (mode, mode, Rules().contact_min if mode == "email" else Rules().name_address_min)
    assert outcome.metadata["phone"]["e164"] == invented.MISSING_PHONE
    jsonschema.validate(answer(outcome), operation(people, "enrich/person").output)


@pytest.mark.parametrize(
    "more", [{}, {"name": "Dana Sample"}, {"name": "Dana Sample", "city": "Seattle"}, {"zip": "98101"}]
)
async def test_a_number_that_nobody_has_and_no_more_than_a_name_is_a_miss(people: People, more: dict[str, str]) -> None:
    outcome = await ask(people, "enrich/person", phone=invented.MISSING_PHONE, **more)
    assert isinstance(outcome, NoMatch)
    assert outcome.metadata["query_mode"] == "reverse_phone"


@pytest.mark.parametrize("phone", ["+12065550100", "(206) 555-0100", "206.555.0100", "1 206 555 0100"])
async def test_a_number_in_any_spelling(people: People, phone: str) -> None:
    outcome = await ask(people, "enrich/phone", phone=phone)
    assert isinstance(outcome, Match)
    assert outcome.metadata["query_mode"] == "reverse_phone"
    assert outcome.metadata["phone"]["e164"] == "+12065550100"
    assert [person["name"] for person in outcome.data["people"]] == ["Dana Q Sample"]
    assert outcome.cost_micros == 0


@pytest.mark.parametrize(
    ("body", "mode", "names"),
    [
        ({"phone": "2065550100"}, "reverse_phone", ["Dana Q Sample"]),
        ({"email": "LEE@example.com"}, "email", ["Lee Sample"]),
        ({"name": "Dana Sample"}, "name", ["Dana Q Sample"]),
        ({"first_name": "Dana", "last_name": "Sample", "state": "Washington"}, "name_address", ["Dana Q Sample"]),
        ({"full_name": "Sample, Lee", "zipcode": "98101-1234"}, "name_address", ["Lee Sample"]),
        ({"address": "14 Example Avenue", "city": "seattle", "state_code": "wa"}, "reverse_address", ["Lee Sample"]),
    ],
)
async def test_every_way_to_ask_for_a_person(people: People, body: dict[str, str], mode: str, names: list[str]) -> None:
    outcome = await ask(people, "enrich/person", **body)
    assert isinstance(outcome, Match)
    assert outcome.metadata["query_mode"] == mode
    assert [person["name"] for person in outcome.data["people"]] == names


async def test_a_miss_is_empty_and_still_tells_what_is_public(people: People) -> None:
    outcome = await ask(people, "enrich/person", phone=invented.MISSING_PHONE, zip="98101")
    assert isinstance(outcome, NoMatch)
    assert outcome.data == {"people": []}
    assert outcome.metadata["phone"]["location"] == "Wyoming"
    assert outcome.metadata["zip"]["city"] == "Seattle"
    assert outcome.metadata["providers_tried"][0]["outcome"] == "no_match"


async def test_f117_a_free_miss_tells_nothing_of_anybody(people: People) -> None:
    unknown = await ask(people, "enrich/person", name="Nobody Nowhere", city="Seattle")
    near = await ask(people, "enrich/person", name="Dana Q Sample", city="Spokane")
    assert isinstance(unknown, NoMatch)
    assert isinstance(near, NoMatch)
    assert without_times(dict(near.metadata)) == without_times(dict(unknown.metadata))


async def test_f020_a_row_without_a_name_is_a_miss(tmp_path: Path) -> None:
    (tmp_path / "bare.csv").write_text("phone,city,email\n206-555-0100,Seattle,x@example.com\n")
    report = load(tmp_path / "bare.csv", tmp_path / "directory.db")
    assert report.loaded == 1
    people = People(DirectorySettings(tmp_path / "directory.db"))
    await people.start()
    for body in ({"phone": "2065550100"}, {"email": "x@example.com"}):
        outcome = await ask(people, "enrich/person", **body)
        assert isinstance(outcome, NoMatch)
        assert outcome.data == {"people": []}
    await people.close()


async def test_facts_of_several_rows_are_put_together_with_their_sources(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,phone,email\nDana Sample,206-555-0100,dana@example.com\n")
    (tmp_path / "b.csv").write_text(
        "name,phone,mobile,city,state,company\nDana Q Sample,206-555-0100,206-555-0109,Seattle,WA,Example Ltd\n"
    )
    for name in ("a.csv", "b.csv"):
        load(tmp_path / name, tmp_path / "directory.db")
    people = People(DirectorySettings(tmp_path / "directory.db"))
    await people.start()
    outcome = await ask(people, "enrich/phone", phone="2065550100")
    assert isinstance(outcome, Match)
    (person,) = outcome.data["people"]
    assert (person["name"], person["aliases"], person["employer"]) == ("Dana Sample", ["Dana Q Sample"], "Example Ltd")
    assert [(p["number"], p["sources"]) for p in person["phones"]] == [
        ("+12065550100", ["src_1", "src_2"]),
        ("+12065550109", ["src_2"]),
    ]
    assert [source["record"] for source in outcome.metadata["sources"]] == ["a.csv#2", "b.csv#2"]
    await people.close()


async def test_a_new_load_is_seen_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,phone\nDana Sample,206-555-0100\n")
    load(tmp_path / "a.csv", tmp_path / "directory.db")
    people = People(DirectorySettings(tmp_path / "directory.db"))
    await people.start()
    assert isinstance(await ask(people, "enrich/phone", phone="2065550101"), NoMatch)
    (tmp_path / "a.csv").write_text("name,phone\nLee Sample,206-555-0101\n")
    load(tmp_path / "a.csv", tmp_path / "directory.db")
    assert isinstance(await ask(people, "enrich/phone", phone="2065550101"), Match)
    assert isinstance(await ask(people, "enrich/phone", phone="2065550100"), NoMatch)
    await people.close()


async def test_a_directory_that_cannot_be_read_is_a_failure_and_never_a_miss(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name,phone\nDana Sample,206-555-0100\n")
    load(tmp_path / "a.csv", tmp_path / "directory.db")
    people = People(DirectorySettings(tmp_path / "directory.db"))
    await people.start()
    broken = apsw.Connection(str(tmp_path / "directory.db"))
    broken.execute("DROP TABLE phone")
    for body in ({"phone": "2065550100"}, {"name": "Dana Sample"}):
        outcome = await ask(people, "enrich/person", **body)
        assert isinstance(outcome, Failure)
        assert "phone" not in outcome.message
    await people.close()


async def test_the_rules_are_the_operators(database: Path) -> None:
    people = People(DirectorySettings(database, rules=Rules(contact_min=0.6)))
    await people.start()
    assert isinstance(await ask(people, "enrich/person", phone="2065550100", name="Lee Other"), NoMatch)
    await people.close()


def error_types(model: type[PhoneQuery] | type[PersonQuery], body: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(body)
    return [error["type"] for error in caught.value.errors()]


@pytest.mark.parametrize("phone", ["555-0100", "12", "no number", "+1 206 555 01", "", "9" * 60, "+999 555"])
def test_an_impossible_number_has_its_own_code(phone: str) -> None:
    assert error_types(PhoneQuery, {"phone": phone}) == [Code.INVALID_PHONE]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"city": "Seattle", "state": "WA"},
        {"name": "  ", "phone": "", "street": None},
        {"first_name": "Dana"},
        {"last_name": "Sample"},
        {"name": "Sample"},
        {"name": "... ---"},
        {"first_name": "'", "last_name": "-"},
    ],
)
def test_too_little_to_go_by_has_its_own_code(body: dict[str, str]) -> None:
    assert error_types(PersonQuery, body) == [Code.MISSING_QUERY]


@pytest.mark.parametrize(
    ("body", "types"),
    [
        ({"phone": "555-0100", "name": "Dana Sample"}, [Code.INVALID_PHONE]),
        ({"name": "Dana Sample", "state": "XX"}, ["VALIDATION_ERROR"]),
        ({"name": "Dana Sample", "zip": "9810"}, ["VALIDATION_ERROR"]),
        ({"name": "Dana Sample", "last_name": "Sample"}, ["VALIDATION_ERROR"]),
        ({"email": "dana"}, ["VALIDATION_ERROR"]),
        ({"nmae": "Dana Sample", "phone": "2065550100"}, ["extra_forbidden"]),
        ({"phone": 2065550100}, ["string_type"]),
        ({"name": "x" * 200}, ["string_too_long"]),
        ({"zip": "98101", "zipcode": "98101", "name": "Dana Sample"}, ["extra_forbidden"]),
        ([], ["model_type"]),
        (None, ["model_type"]),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_charged(body: object, types: list[str]) -> None:
    assert error_types(PersonQuery, body) == types


def test_messages_do_not_repeat_what_was_sent() -> None:
    for body in ({"phone": "555-0177"}, {"name": "Dana Sample", "state": "Nowhere"}, {"email": "dana at home"}):
        with pytest.raises(ValidationError) as caught:
            PersonQuery.model_validate(body)
        told = " ".join(error["msg"] for error in caught.value.errors())
        assert not any(value in told for value in body.values())


def test_one_question_has_one_form_whatever_its_spelling() -> None:
    a = PersonQuery.model_validate({"phone": "(206) 555-0100", "state": "washington", "zipcode": "98101-1234"})
    b = PersonQuery.model_validate({"phone": "+12065550100", "state_code": "WA", "zip": "98101", "city": " "})
    assert a.model_dump_json(exclude_defaults=True) == b.model_dump_json(exclude_defaults=True)


def test_another_region_reads_its_own_numbers(database: Path) -> None:
    british = operation(People(DirectorySettings(database, default_region="GB")), "enrich/phone").input
    assert british.model_validate({"phone": "020 7946 0000"}).phone == "+442079460000"  # type: ignore[attr-defined]
    assert error_types(PhoneQuery, {"phone": "020 7946 0000"}) == [Code.INVALID_PHONE]
    assert british.model_json_schema() == PhoneQuery.model_json_schema()


FIELDS = ["name", "phone", "email", "street", "city", "state", "zip", "first_name", "last_name", "x"]
VALUES = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.integers(),
    st.sampled_from(["Dana Sample", "WA", "98101", "12 Example Ave", "2065550100"]),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5))
@example(body={"name": "Dana \ud800 Sample", "city": "\0"})
@example(body={"street": "\ud800", "zip": "98101"})
async def test_any_body_is_refused_or_answered(people: People, body: dict[str, object]) -> None:
    try:
        question = PersonQuery.model_validate(body)
    except ValidationError:
        return
    offering = people.offerings()[1]
    outcome = await offering.fulfil(question, CONTEXT)
    assert isinstance(outcome, (Match, NoMatch))
    assert bool(outcome.data["people"]) is isinstance(outcome, Match)


def test_the_heavy_tables_wait_for_their_first_call() -> None:
    program = "import sys, upstreams.people; print([m for m in %r if m in sys.modules])"
    heavy = [
        "phonenumbers",
        "zipcodes",
        "nameparser",
        "usaddress",
        "nicknames",
        "rapidfuzz",
        "upstreams.directory.loading",
    ]
    done = subprocess.run([sys.executable, "-c", program % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
