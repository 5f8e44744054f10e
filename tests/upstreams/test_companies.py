"""enrich/company and enrich/email, asked as the edge asks them, of vendors on real sockets. All is invented."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from pydantic import ValidationError
from rigs.gate import Gate
from rigs.upstream import ScriptedUpstream, garbage, hang, reply, status

from gateway.core.answer import pack
from gateway.core.upstream import Context, Failure, Match, NoMatch, Outcome
from gateway.core.vendor_call import VendorCall
from gateway.outbound import OutboundClient
from upstreams.companies import COMPANY, EMAIL, Companies, CompanyQuery, CompanySettings, EmailQuery
from upstreams.firms import Firm, FirmQuestion, Firms, alike, bare_domain, core_name, judge
from upstreams.persons import Address, Source
from upstreams.providers import KINDS, Account, built

KEY = "vendor-key-canary-31c9"
LIST = {
    "0": {"cik_str": 1000001, "ticker": "EXBK", "title": "EXAMPLE BAKERY INC"},
    "1": {"cik_str": 1000002, "ticker": "EXPL", "title": "Example Plumbing Corp"},
    "2": {"title": None},
}
PLACE = {"street1": "12 EXAMPLE AVE", "street2": None, "city": "SEATTLE", "stateOrCountry": "WA", "zipCode": "98101"}
FILER = {
    "cik": "1000001", "name": "EXAMPLE BAKERY INC", "tickers": ["EXBK"], "exchanges": ["NYSE"], "ein": "000000000",
    "sicDescription": "Retail-Food Stores", "phone": "206-555-0100", "website": "https://www.example.com",
    "stateOfIncorporation": "DE", "formerNames": [{"name": "EXAMPLE BREAD INC", "from": "x", "to": "y"}],
    "addresses": {"business": PLACE, "mailing": None}, "filings": {"recent": {}},
}  # fmt: skip
FOUND = {"first_name": "Dana", "last_name": "Sample", "email": "dana@example.com", "score": 97, "domain": "example.com"}
HUNTER = {"data": FOUND}
ENTITY = {"legalName": {"name": "Example Bakery LLC"}, "legalAddress": {"region": "US-WA", "city": "Seattle"}}
LEI = {"data": [{"attributes": {"lei": "0" * 20, "entity": ENTITY}}]}


class Desk:
    def __init__(self, up: ScriptedUpstream, client: OutboundClient) -> None:
        self.up, self.client = up, client
        self.now = 1_790_000_000.0
        self.bought: list[VendorCall] = []
        self.sold = self.companies()

    def companies(self, *names: str) -> Companies:
        accounts = {
            name: Account(key=KEY, user="you@example.com", url=self.up.url(f"/{name}").rstrip("/"), private=True)
            for name in names
        }

        def asked(operation: str) -> list[Any]:
            known = built(accounts, operation)
            return [known[name] for name in names if operation in KINDS[name].serves]

        self.sold = Companies(CompanySettings(), asked(COMPANY), asked(EMAIL))
        return self.sold

    async def ask(self, id: str, **body: Any) -> Outcome:
        offering = next(one for one in self.sold.offerings() if one.operation.id == id)
        context = Context(
            http=self.client, now=lambda: self.now, deadline_s=self.now + 20, budget_micros=1_000_000,
            bought=self.bought.append,
        )  # fmt: skip
        outcome = await offering.fulfil(offering.operation.input.model_validate(body), context)
        if not isinstance(outcome, Failure):
            envelope = {"request_id": "r", "route": id, "billed": True, "cache_hit": False, "billing": {}}
            jsonschema.validate({**envelope, **orjson.loads(pack(outcome))}, dict(offering.operation.output))
        return outcome


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with ScriptedUpstream() as up, OutboundClient() as client:
        yield Desk(up, client)


# On sale, or not


async def test_without_a_provider_both_are_offline(desk: Desk) -> None:
    assert desk.sold.offerings() == ()
    assert {operation.id for operation in desk.sold.offline()} == {COMPANY, EMAIL}


async def test_each_is_on_sale_as_soon_as_one_of_its_own_is_configured(desk: Desk) -> None:
    assert [one.operation.id for one in desk.companies("gleif").offerings()] == [COMPANY]
    assert [one.operation.id for one in desk.companies("hunter").offerings()] == [EMAIL]
    assert desk.companies("people_data_labs").offline() == ()


async def test_an_offline_route_is_503_without_a_402_and_in_no_listing(tmp_path: Path) -> None:
    async with Gate.open(tmp_path, upstream=Companies(CompanySettings())) as gate:  # type: ignore[arg-type]
        _, token = await gate.agent(1_000_000)
        for bearer in ({}, {"Authorization": f"Bearer {token}"}):
            for path in (COMPANY, EMAIL):
                refused = await gate.send("POST", f"/api/v1/{path}", headers=bearer, body=b"{}")
                assert (refused.status, refused.json["code"]) == (503, "ROUTE_OFFLINE")
                assert "PAYMENT-REQUIRED" not in refused.headers
        assert await gate.charges() == []
        for document in ("/openapi.json", "/.well-known/x402", "/llms.txt"):
            assert b"enrich/company" not in (await gate.send("GET", document)).body, document


@pytest.mark.parametrize("name", ["gleif", "hunter"])
async def test_the_examples_are_what_is_announced(desk: Desk, name: str) -> None:
    (offering,) = desk.companies(name).offerings()
    offering.operation.input.model_validate(offering.operation.example)
    jsonschema.validate(offering.operation.example_output, dict(offering.operation.output))


# What is asked


@pytest.mark.parametrize(
    ("model", "body", "code"),
    [
        (CompanyQuery, {}, "MISSING_QUERY"),
        (CompanyQuery, {"name": " . "}, "MISSING_QUERY"),
        (CompanyQuery, {"city": "Seattle"}, "MISSING_QUERY"),
        (CompanyQuery, {"domain": "localhost"}, "VALIDATION_ERROR"),
        (CompanyQuery, {"name": "x", "state": "Narnia"}, "VALIDATION_ERROR"),
        (CompanyQuery, {"name": "x", "phone": "12"}, "INVALID_PHONE"),
        (CompanyQuery, {"name": "x", "zip": "1"}, "VALIDATION_ERROR"),
        (CompanyQuery, {"name": "x", "other": 1}, "extra_forbidden"),
        (CompanyQuery, {"name": ["x"]}, "string_type"),
        (CompanyQuery, {"name": "x" * 500}, "string_too_long"),
        (EmailQuery, {"name": "Dana", "domain": "example.com"}, "MISSING_QUERY"),
        (EmailQuery, {"name": "Dana Sample"}, "MISSING_QUERY"),
        (EmailQuery, {"name": "Dana Sample", "first_name": "D", "domain": "example.com"}, "VALIDATION_ERROR"),
        (EmailQuery, {"first_name": "Dana", "last_name": "Sample", "domain": "@"}, "VALIDATION_ERROR"),
    ],
)
def test_what_cannot_be_asked_has_a_code(model: Any, body: Any, code: str) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(body)
    assert [error["type"] for error in refused.value.errors()] == [code]


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("https://www.Example.com/about?x=1", "example.com"), ("example.com.", "example.com"),
        ("http://user@shop.example.com:8080/", "shop.example.com"), ("example", ""), ("", ""), ("a b.com", ""),
        ("-x.com", ""), ("x..com", ""), ("//example.com", "example.com"),
    ],
)  # fmt: skip
def test_a_domain_out_of_whatever_is_sent(text: str, domain: str) -> None:
    assert bare_domain(text) == domain


def test_names_of_firms_are_compared_without_their_legal_forms() -> None:
    assert core_name("The Example Bakery, L.L.C.") == core_name("EXAMPLE BAKERY INC") == "bakery example"
    assert alike("Example Bakery", "Example Bakery LLC") == 1.0
    assert alike("Example Bakery", "Example Bakery Supply") < 0.9  # a part of a name is another name
    assert alike("LLC", "Inc") < 0.9
    assert alike("Example Capital Fund II LP", "Example Capital Fund III LP") == 0.0  # one letter, another firm
    assert alike("Example Trust 2018", "Example Trust 2019") == 0.0
    assert alike("", "Example") == 0.0


@pytest.mark.parametrize(
    ("asked", "score"),
    [
        (FirmQuestion("Example Bakery LLC", state="WA"), 1.0),
        (FirmQuestion("Example Bakery LLC"), 0.95),
        (FirmQuestion("Example Bakery LLC", domain="example.com"), 0.95),
        (FirmQuestion("Example Bakery LLC", domain="example.org", state="WA"), 0.8),  # it may have several
        (FirmQuestion("Exampel Bakery", state="WA"), 0.929),
        (FirmQuestion("Example Bakehouse", state="WA"), None),
        (FirmQuestion("Example Plumbing", domain="example.com"), None),
        (FirmQuestion(domain="example.org"), None),
        (FirmQuestion("Example Bakery", state="OR"), None),
    ],
)
def test_how_well_a_firm_fits(asked: FirmQuestion, score: float | None) -> None:
    source = Source("gleif", "gleif#1")
    place = Address(0.9, (source,), city="Seattle", state="WA")
    firm = Firm(source, "Example Bakery, Inc.", domain="example.com", addresses=(place,))
    assert [one.score for one in judge(asked, Firms((firm,))).firms] == ([] if score is None else [score])


# What comes


async def test_a_firm_of_the_public_register(desk: Desk) -> None:
    desk.companies("gleif")
    desk.up.default = reply(LEI)
    outcome = await desk.ask(COMPANY, name="Example Bakery", state="Washington")
    assert isinstance(outcome, Match)
    (firm,) = outcome.data["companies"]
    assert (firm["name"], firm["identifiers"], firm["matched_by"]) == (
        "Example Bakery LLC", {"lei": "0" * 20}, ["name", "state"]
    )  # fmt: skip
    assert isinstance(await desk.ask(COMPANY, name="Example Bakery", state="OR"), NoMatch)
    assert isinstance(await desk.ask(COMPANY, domain="example.com"), Failure)  # nobody here could look for a domain


async def test_one_after_the_other_until_one_convinces(desk: Desk) -> None:
    desk.companies("gleif", "npi", "people_data_labs")
    desk.up.on("/gleif/api/v1/lei-records", status(500))
    desk.up.on("/npi/api/", reply({"results": []}))
    desk.up.on(
        "/people_data_labs/v5/company/enrich",
        reply({"name": "example bakery", "likelihood": 8, "website": "example.com"}),
    )
    outcome = await desk.ask(COMPANY, name="Example Bakery", domain="example.com")
    assert isinstance(outcome, Match)
    told = [(one["provider"], one["outcome"]) for one in outcome.metadata["providers_tried"]]
    assert told == [("gleif", "failed"), ("npi", "no_match"), ("people_data_labs", "match")]
    assert [call.provider for call in desk.bought] == ["gleif", "npi", "people_data_labs"]


async def test_an_address_at_a_firm(desk: Desk) -> None:
    desk.companies("hunter")
    desk.up.default = reply(HUNTER)
    outcome = await desk.ask(EMAIL, name="Dana Sample", domain="https://www.example.com/")
    assert isinstance(outcome, Match)
    assert [each["email"] for each in outcome.data["people"][0]["emails"]] == ["dana@example.com"]
    desk.up.default = reply({"data": {"email": None}})
    missed = await desk.ask(EMAIL, first_name="Dana", last_name="Sample", company="Example Bakery")
    assert (missed.data, missed.metadata["query_mode"]) == ({"people": []}, "company")  # type: ignore[union-attr]


async def test_when_nobody_could_look_it_is_a_failure(desk: Desk) -> None:
    desk.companies("hunter")
    desk.up.default = garbage()
    assert isinstance(await desk.ask(EMAIL, name="Dana Sample", domain="example.com"), Failure)
    for _ in range(4):
        await desk.ask(EMAIL, name="Dana Sample", domain="example.com")
    assert desk.sold.available(EMAIL, desk.now) == 2
    assert desk.sold.available(COMPANY, desk.now) is None


# SEC EDGAR, in two steps


async def edgar(desk: Desk) -> None:
    desk.companies("sec_edgar")
    desk.up.on("/sec_edgar/files/company_tickers.json", reply(LIST))
    desk.up.on("/sec_edgar/submissions/CIK0001000001.json", reply(FILER))


async def test_a_listed_firm_with_its_phone_and_address(desk: Desk) -> None:
    await edgar(desk)
    outcome = await desk.ask(COMPANY, name="Example Bakery", city="Seattle", state_code="WA")
    assert isinstance(outcome, Match)
    (firm,) = outcome.data["companies"]
    assert firm["identifiers"] == {"cik": "0001000001", "ticker": "EXBK"}
    assert [phone["number"] for phone in firm["phones"]] == ["+12065550100"]
    assert firm["addresses"][0]["line1"] == "12 Example Ave"
    assert [(call.hop, call.provider, call.cost_micros) for call in desk.bought] == [(COMPANY, "sec_edgar", 0)]
    assert {seen.header("user-agent") for seen in desk.up.seen} == {"you@example.com"}


async def test_the_list_is_kept_for_a_day(desk: Desk) -> None:
    await edgar(desk)
    for later in (0, 3600, 86_400):
        desk.now += later
        await desk.ask(COMPANY, name="Example Bakery")
    paths = [seen.path.rpartition("/")[2] for seen in desk.up.seen]
    assert paths.count("company_tickers.json") == 2
    assert paths.count("CIK0001000001.json") == 3


@pytest.mark.parametrize("name", ["Example Bakehouse", "Placeholder", "Ex", "Example"])
async def test_a_name_that_is_not_listed_is_not_asked_for(desk: Desk, name: str) -> None:
    await edgar(desk)
    assert isinstance(await desk.ask(COMPANY, name=name), NoMatch)
    assert len(desk.up.seen) == 1


async def test_a_former_name_is_no_way_to_be_found_and_no_reason_to_be_refused(desk: Desk) -> None:
    await edgar(desk)
    assert isinstance(await desk.ask(COMPANY, name="Example Bakery", state="OR"), NoMatch)


@pytest.mark.parametrize("path", ["files/company_tickers.json", "submissions/CIK0001000001.json"])
async def test_a_fault_of_either_step_is_one_of_the_provider(desk: Desk, path: str) -> None:
    await edgar(desk)
    for behaviour, error in (
        (status(403), "auth"), (reply(["x"]), "shape"), (reply(body=b"<html>"), "shape"), (status(404), None)
    ):  # fmt: skip
        desk.companies("sec_edgar")
        desk.up.on(f"/sec_edgar/{path}", behaviour)
        outcome = await desk.ask(COMPANY, name="Example Bakery")
        if error is None and "submissions" in path:
            assert isinstance(outcome, NoMatch)
        else:
            assert isinstance(outcome, Failure)
        assert desk.bought[-1].error == (error or (None if "submissions" in path else "refused"))


async def test_a_list_that_never_comes_leaves_time_for_the_others(desk: Desk) -> None:
    account = Account(user="you@example.com", url=desk.up.url("/x").rstrip("/"), private=True, timeout_s=0.1)
    desk.up.default = hang()
    (provider,) = built({"sec_edgar": account}, COMPANY).values()
    desk.sold = Companies(CompanySettings(), [provider])
    outcome = await desk.ask(COMPANY, name="Example Bakery")
    assert isinstance(outcome, Failure)
    assert outcome.timeout
