"""The steps of one research: its journal, its directory, its documents."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apsw
import jsonschema
import orjson
import pytest
from rigs.town import PLACES, SEARCH_COST, TRUTH, Town
from rigs.upstream import hang, reply, status

from gateway.core.answer import pack
from gateway.core.upstream import AnswerLost, Context, Failure, Match, NoMatch, Outcome
from gateway.core.vendor_call import VendorCall
from upstreams.directory.loading import load
from upstreams.provider import Line, ProviderTerms
from upstreams.providers.npi import Npi
from upstreams.providers.serper import Serper
from upstreams.web import Web, WebSettings
from upstreams.web.question import WebQuery, domain_of
from upstreams.web.research import OPERATION

ROWS = """company,phone,street,city,state,zip,email
Sample Window Care LLC,(813) 555-0142,5 Example Rd,Tampa,FL,33602,office@sample-window.example
Sample Window Care Inc,(512) 555-0160,9 Sample St,Austin,TX,78701,
Sample Window Tinting LLC,(813) 555-0161,7 Draft Ln,Tampa,FL,33602,
Placeholt Plumbing Co,(402) 555-0110,,,,,
"""


class NoNetwork:
    async def request(self, *_: object, **__: object) -> Any:
        raise AssertionError("went to the network")


class Killed(Exception):
    """The worker died here."""


@dataclass
class Hops:
    """A job's journal, over JSON as the store's; dies before or after the write that `dies_at` counts to."""

    kept: dict[str, bytes] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    dies_at: int = 0
    steps: int = 0

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.dies_at:
            raise Killed

    async def recall(self, key: str) -> Any:
        return orjson.loads(self.kept[key]) if key in self.kept else None

    async def asking(self, key: str, *, repeatable: bool = False, cost_micros: int = 0) -> int:
        self._step()
        before = self.asked.get(key, 0)
        if before and not repeatable:
            raise AnswerLost(key)
        self.asked[key] = before + 1
        self._step()
        return before

    async def remember(self, key: str, outcome: Any) -> None:
        self._step()
        self.kept[key] = orjson.dumps(outcome)
        self._step()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.joinpath("firms.csv").write_text(ROWS)
    load(tmp_path / "firms.csv", tmp_path / "directory.db", workers=0)
    return tmp_path


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with Town.open() as town:
        yield town


def context(http: Any, **more: Any) -> Context:
    now = time.time()
    return Context(http=http, now=time.time, deadline_s=now + 60, budget_micros=1_000_000, **more)


async def ask(web: Web, http: Any, **question: Any) -> Outcome:
    (offering,) = web.offerings()
    return await offering.fulfil(WebQuery.model_validate(question), context(http))


def asked(firm: str) -> dict[str, str]:
    city, state = PLACES[firm]
    return {"business_name": firm, "city": city, "state": state}


def says_owner(shown: dict[str, Any]) -> Any:
    entry = {
        "name": "Jo Mockley",
        "title": "Head of Operations",
        "quote": "Jo Mockley runs the crews as Head of Operations.",
    }
    return {"people": [{**entry, "source": page["source"]} for page in shown["pages"]], "legal_associates": []}


# The directory alone


async def test_without_an_engine_the_directory_answers(directory: Path) -> None:
    web = Web(WebSettings(directory=directory / "directory.db"))
    await web.start()
    try:
        found = await ask(web, NoNetwork(), business_name="sample window care", state="Florida")
        assert isinstance(found, Match)
        assert [each["number"] for each in found.data["phones"]] == ["+18135550142"]
        assert [each["line1"] for each in found.data["addresses"]] == ["5 Example Rd"]
        assert [each["email"] for each in found.data["emails"]] == ["office@sample-window.example"]
        assert found.metadata["query_mode"] == "directory"
        assert found.metadata["sources"][0]["record"] == "firms.csv#2"
        assert found.cost_micros == 0
        both = await ask(web, NoNetwork(), business_name="Sample Window Care")
        assert {each["number"] for each in both.data["phones"]} == {"+18135550142", "+15125550160"}
        one = await ask(web, NoNetwork(), business_name="Placeholt Plumbing", city="Omaha", state="NE")
        assert [each["number"] for each in one.data["phones"]] == ["+14025550110"]
        for nobody in ("Care", "Window Repair", '" OR area : fsample', "zz"):
            assert isinstance(await ask(web, NoNetwork(), business_name=nobody), NoMatch), nobody
        assert isinstance(await ask(web, NoNetwork(), business_name="Sample Window Care", state="GA"), NoMatch)
    finally:
        await web.close()


async def test_a_directory_that_cannot_be_read_is_a_failure(directory: Path) -> None:
    web = Web(WebSettings(directory=directory / "directory.db"))
    await web.start()
    try:
        with apsw.Connection(str(directory / "directory.db")) as broken:
            broken.execute("DROP VIEW entry")
        assert isinstance(await ask(web, NoNetwork(), business_name="Sample Window Care"), Failure)
    finally:
        await web.close()


async def test_the_directory_stands_in_for_an_engine_in_trouble(directory: Path, town: Town) -> None:
    town.search_behaviour = status(500)
    web = town.web(directory)
    await web.start()
    try:
        async with town.client() as http:
            found = await ask(web, http, business_name="Sample Window Care", state="FL")
            assert isinstance(found, Match)
            tried = [(one["provider"], one["outcome"]) for one in found.metadata["providers_tried"]]
            assert tried == [("local_directory", "match"), ("searxng", "failed")]
            missed = await ask(web, http, business_name="Nobody Known")
            assert isinstance(missed, Failure)
    finally:
        await web.close()


# Records of engines


async def test_a_record_of_an_engine_needs_no_page(tmp_path: Path, town: Town) -> None:
    record = {
        "title": "Sample Window Care",
        "phoneNumber": "(813) 555-0142",
        "address": "5 Example Rd, Tampa, FL 33602",
    }
    other = {"title": "Sample Window Care", "phoneNumber": "512-555-0160", "address": "9 Sample St, Austin, TX 78701"}
    third = {"title": "Another Firm", "phoneNumber": "813-555-0170"}
    terms = ProviderTerms(1_000, bill_misses=True, private=True)
    engine = Serper("a-key", terms, Line(), town.url("serper.example"))
    web = Web(WebSettings(directory=tmp_path / "directory.db"), {"serper": engine}, ("serper",))
    answer = {"searchParameters": {}, "organic": [], "knowledgeGraph": record, "places": [other, third]}
    town.up.on("/search", reply(answer))
    async with town.client() as http:
        found = await ask(web, http, business_name="Sample Window Care LLC", city="Tampa", state="FL")
    await web.close()
    assert isinstance(found, Match)
    assert [(each["number"], each["confidence"]) for each in found.data["phones"]] == [("+18135550142", 0.7)]
    assert [each["line1"] for each in found.data["addresses"]] == ["5 Example Rd"]
    assert found.data["phones"][0]["sources"][0]["quote"] == "(813) 555-0142"
    assert found.cost_micros == 1_000


# Registries


REGISTERED = {
    "number": "0000000001",
    "enumeration_type": "NPI-2",
    "basic": {
        "organization_name": "SAMPLE WINDOW CARE LLC",
        "status": "A",
        "authorized_official_first_name": "MARLO",
        "authorized_official_last_name": "TESTWELL",
        "authorized_official_title_or_position": "OWNER",
        "authorized_official_telephone_number": "8135550143",
    },
    "addresses": [
        {
            "address_1": "5 EXAMPLE RD", "city": "TAMPA", "state": "FL", "postal_code": "336020000",
            "country_code": "US", "address_purpose": "LOCATION", "telephone_number": "813-555-0142",
        }
    ],
    "taxonomies": [],
}  # fmt: skip
NAMESAKE = {**REGISTERED, "basic": {"organization_name": "SAMPLE WINDOW TINTING LLC", "status": "A"}}


def with_registry(town: Town, tmp_path: Path, answer: Any) -> Web:
    """A firm's registry, beside the town's engine."""
    town.up.on("/npi/api/", answer)
    npi = Npi(ProviderTerms(private=True, repeatable=True), Line(sleep=no_sleep), town.url("npi.example/npi"))
    return Web(WebSettings(directory=tmp_path / "directory.db"), {}, ("npi",), {"npi": npi})


async def no_sleep(seconds: float) -> None:
    pass


async def test_a_registry_states_where_a_firm_is_and_who_acts_for_it(tmp_path: Path, town: Town) -> None:
    web = with_registry(town, tmp_path, reply({"result_count": 2, "results": [REGISTERED, NAMESAKE]}))
    async with town.client() as http:
        found = await ask(web, http, business_name="Sample Window Care", city="Tampa", state="FL")
    await web.close()
    assert isinstance(found, Match)
    assert [each["number"] for each in found.data["phones"]] == ["+18135550142", "+18135550143"]
    assert [(each["name"], each["title"]) for each in found.data["people"]] == [("Marlo Testwell", "Owner")]
    assert [each["line1"] for each in found.data["addresses"]] == ["5 Example Rd"]
    assert found.data["phones"][0]["sources"] == [{"id": "src_1", "url": None, "quote": "+18135550142"}]
    assert found.metadata["sources"][0]["record"] == "npi#0000000001"
    assert found.metadata["query_mode"] == "registry"
    assert found.cost_micros == 0
    jsonschema.validate(found.data, web.operation.output["properties"]["data"])


@pytest.mark.parametrize("behaviour", [reply({"result_count": 1, "results": [NAMESAKE]}), reply({"results": []})])
async def test_another_firm_of_a_registry_is_a_miss(tmp_path: Path, town: Town, behaviour: Any) -> None:
    web = with_registry(town, tmp_path, behaviour)
    async with town.client() as http:
        assert isinstance(await ask(web, http, business_name="Sample Window Care", state="FL"), NoMatch)
        assert isinstance(await ask(web, http, business_name="Sample Window Tinting", state="TX"), NoMatch)
    await web.close()


async def test_a_registry_that_answers_is_no_look_at_the_web(tmp_path: Path, town: Town) -> None:
    """An engine in trouble is a failure, whatever a registry does not know; with what it knows it is a match."""
    town.up.on("/search", status(500))
    engine = Serper("a-key", ProviderTerms(1_000, private=True), Line(sleep=no_sleep), town.url("serper.example"))
    only = with_registry(town, tmp_path, reply({"result_count": 1, "results": [REGISTERED]}))
    (npi,) = only._registries
    web = Web(only._settings, {"serper": engine}, ("serper", "npi"), {"npi": npi})
    async with town.client() as http:
        assert isinstance(await ask(web, http, business_name="Nobody Known"), Failure)
        found = await ask(web, http, business_name="Sample Window Care", state="FL")
    assert isinstance(found, Match)
    tried = [(one["provider"], one["outcome"]) for one in found.metadata["providers_tried"]]
    assert tried == [("npi", "match"), ("serper", "failed")]
    await only.close()
    await web.close()


async def test_a_registry_in_trouble_alone_is_a_failure(tmp_path: Path, town: Town) -> None:
    web = with_registry(town, tmp_path, status(500))
    async with town.client() as http:
        assert isinstance(await ask(web, http, business_name="Sample Window Care"), Failure)
    await web.close()


# A job's hops


async def test_no_hop_with_a_stored_outcome_is_bought_twice(tmp_path: Path, town: Town) -> None:
    """A worker dies at every step of the journal; the next one buys only what was never answered. The answer is the
    same whenever there is one; where a paid answer was lost, nothing is bought again and that provider has failed."""
    town.says = says_owner
    question = WebQuery.model_validate(asked("Sample Window Care"))
    async with town.client() as http:
        whole: Any = None
        for dies_at in (0, *range(1, 13)):
            web = town.web(tmp_path, model=True)
            hops, bought = Hops(dies_at=dies_at), list[VendorCall]()
            town.searches.clear()
            town.asked.clear()
            (offering,) = web.offerings()
            outcome: Any = None
            for _ in range(2):
                try:
                    outcome = await offering.fulfil(question, context(http, journal=hops, bought=bought.append))
                    break
                except Killed:
                    continue
            await web.close()
            assert len(town.searches) <= 1
            assert len(town.asked) <= 1
            if whole is None:
                whole = outcome
                assert set(hops.kept) == {"search/searxng", "pages", "model-0/openai"}
                assert hops.steps == 12
            if "lost" in {call.error for call in bought}:
                lost = [one["provider"] for one in _tried(outcome) if one.get("error") == "lost"]
                assert lost in (["searxng"], ["openai"])
            else:
                assert outcome.data == whole.data
                assert outcome.cost_micros == whole.cost_micros
    assert whole.cost_micros > SEARCH_COST


def _tried(outcome: Outcome) -> list[dict[str, Any]]:
    if isinstance(outcome, Failure):
        return [{"provider": "searxng", "error": "lost"}]
    return list(outcome.metadata["providers_tried"])


async def test_a_second_run_reads_no_page_and_asks_nobody(tmp_path: Path, town: Town) -> None:
    town.says = says_owner
    question = WebQuery.model_validate(asked("Sample Window Care"))
    web, hops = town.web(tmp_path, model=True), Hops()
    (offering,) = web.offerings()
    async with town.client() as http:
        one = await offering.fulfil(question, context(http, journal=hops))
    two = await offering.fulfil(question, context(NoNetwork(), journal=hops))
    await web.close()
    assert isinstance(one, Match)
    assert isinstance(two, Match)
    assert one.data == two.data
    assert one.metadata["sources"] == two.metadata["sources"]
    assert one.cost_micros == two.cost_micros


async def test_a_deadline_ends_with_what_there_is(tmp_path: Path, town: Town) -> None:
    """A model that hangs takes no answer with it."""
    town.says = lambda shown: hang()
    web = town.web(tmp_path, model=True)
    (offering,) = web.offerings()
    async with town.client() as http:
        near = replace(context(http), deadline_s=time.time() + 3)
        outcome = await offering.fulfil(WebQuery.model_validate(asked("Prototype Law")), near)
    await web.close()
    assert isinstance(outcome, Match)
    assert outcome.metadata["providers_tried"][-1]["error"] == "timeout"


# Its documents


def test_the_example_is_an_answer_and_the_schema_says_so(tmp_path: Path) -> None:
    operation = Web(WebSettings(directory=tmp_path / "directory.db")).operation
    jsonschema.validate(operation.example_output, operation.output)
    WebQuery.model_validate(operation.example)
    assert operation.id == OPERATION
    assert len(operation.description) <= 500
    assert len(operation.summary) <= 120


async def test_every_answer_is_what_the_schema_says(tmp_path: Path, town: Town) -> None:
    web = town.web(tmp_path, show_costs=True)
    schema = web.operation.output
    async with town.client() as http:
        for firm in TRUTH:
            outcome = await ask(web, http, **asked(firm))
            assert isinstance(outcome, (Match, NoMatch))
            packed = json.loads(pack(outcome))
            envelope = {"request_id": "r", "route": OPERATION, "billed": True, "cache_hit": False, "billing": {}}
            jsonschema.validate({**envelope, **packed}, schema)
            assert packed["metadata"]["providers_tried"][-1]["cost_usd"] == "0.008"
    await web.close()


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("sample-window.example", "sample-window.example"),
        ("https://www.Sample-Window.example/about?x#y", "sample-window.example"),
        ("https://www.Sample-Window.example/about?x", "sample-window.example"),
        ("http://sample-window.example:8080/", "sample-window.example"),
        ("sample-window.example/contact", "sample-window.example"),
        ("127.0.0.1", ""),
        ("localhost", ""),
        ("not a domain", ""),
        ("", ""),
    ],
)
def test_domains(text: str, domain: str) -> None:
    assert domain_of(text) == domain
