"""The operation as it is announced, and as the demo's directory answers it."""

import json
import time
from pathlib import Path

import jsonschema
import pytest
from rigs.leads import NoNetwork

from gateway.assemble import lead_settings, lead_tools, mistakes
from gateway.core.answer import pack
from gateway.core.errors import SettingsError
from gateway.core.session import Session
from gateway.core.upstream import Context, Match
from gateway.settings import parse
from upstreams.companies import Companies, CompanySettings
from upstreams.directory import invented
from upstreams.directory.loading import load
from upstreams.directory.settings import DirectorySettings
from upstreams.leads import Leads, LeadSettings
from upstreams.people import People
from upstreams.web import Web, WebSettings


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leads")
    invented.write(folder / "people.csv")
    load(folder / "people.csv", folder / "directory.db", workers=0, source=invented.SOURCE)
    return folder / "directory.db"


async def test_the_example_is_what_the_demo_answers(database: Path) -> None:
    people, web = People(DirectorySettings(database)), Web(WebSettings(database))
    leads = Leads(LeadSettings(), lambda: lead_tools(people, Companies(CompanySettings()), web))
    for upstream in (people, web):
        await upstream.start()
    (offering,) = leads.offerings()
    operation = offering.operation
    now = time.time()
    context = Context(
        http=NoNetwork(), now=time.time, deadline_s=now + 180, budget_micros=1_538_461, at_most_micros=2_000_000,
        charge_id="chg_example", session=Session("cs_example"),
    )  # fmt: skip
    outcome = await offering.fulfil(operation.input.model_validate(operation.example), context)
    for upstream in (web, people):
        await upstream.close()
    assert isinstance(outcome, Match)
    told = json.loads(pack(outcome))["data"]
    told["session"]["elapsed_ms"] = operation.example_output["data"]["session"]["elapsed_ms"]
    for hop in told["session"]["hops"]:
        hop["ms"] = 1
    for source in told["backfill"]["sources"]:
        source["retrieved_at"] = "2026-01-01T00:00:00Z"
    assert told == operation.example_output["data"]
    jsonschema.validate(operation.example_output, operation.output)
    jsonschema.validate(operation.example, operation.input.model_json_schema())
    assert "$ref" not in json.dumps([operation.output, operation.input.model_json_schema()])


async def test_without_anybody_to_ask_it_is_offline(tmp_path: Path) -> None:
    people, web = People(DirectorySettings(tmp_path / "none")), Web(WebSettings(tmp_path / "none"))
    leads = Leads(LeadSettings(), lambda: lead_tools(people, Companies(CompanySettings()), web))
    assert leads.offerings() == ()
    assert [operation.id for operation in leads.offline()] == ["enrich/lead-session"]
    for upstream in (people, web):
        await upstream.close()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"budget": "30"}, "budget is above ceiling"),
        ({"markup_percent": 99}, "markup_percent"),
        ({"planner": "me"}, "planner"),
        ({"rounds": 7}, "rounds"),
    ],
)
def test_a_table_that_cannot_be_is_refused_at_the_start(table: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse({"leads": table}, {})
    assert any(said in mistake for mistake in refused.value.mistakes)


def test_the_price_of_the_operation_is_the_operators_to_say() -> None:
    settings = parse({"prices": {"enrich/lead-session": "3.000"}}, {}, also=mistakes)
    made = lead_settings(settings)
    assert (made.price_micros, made.usual_micros) == (3_000_000, 3_000_000)
