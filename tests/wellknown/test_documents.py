"""F-168, F-169: what the documents say is what the 402 asks, and they say nothing else."""

import base64
import dataclasses
import json
from typing import Any

import jsonschema
import pytest
from rigs import shop, third_party

from gateway.core.catalogue import Catalogue, Operation, Price
from gateway.core.x402 import challenge
from wellknown import DOCUMENTS, QUERIES, Identity, challenge_parts
from wellknown.prices import SPEND_CONTROLS

CATALOGUE = shop.catalogue()
PAYING = {"/discovery/search": [("query", "api")], "/discovery/merchant": [("payTo", shop.PAYEE)]}


def document(path: str, identity: Identity, catalogue: Catalogue = CATALOGUE) -> bytes | None:
    return next(each for each in DOCUMENTS if each.path == path).build(catalogue, identity)


def read(path: str, identity: Identity, catalogue: Catalogue = CATALOGUE) -> Any:
    content = document(path, identity, catalogue)
    assert content is not None
    return json.loads(content)


def everything(identity: Identity, catalogue: Catalogue = CATALOGUE) -> dict[str, str]:
    """Every document and listing as text, by its path."""
    documents = {each.path: each.build(catalogue, identity) for each in DOCUMENTS}
    listings = {each.path: json.dumps(each.build(catalogue, identity, PAYING.get(each.path, []))) for each in QUERIES}
    return {path: content.decode() for path, content in documents.items() if content is not None} | listings


def asked(operation: Operation, identity: Identity) -> dict[str, Any]:
    """What a client reads in the live 402's header."""
    resource, accepts, extensions = challenge_parts(operation, identity)
    built = challenge.build(
        resource=resource,
        accepts=accepts,
        extensions=extensions,
        repeat_key="41" * 16,
        error="pay",
        code="PAYMENT_REQUIRED",
    )
    decoded: dict[str, Any] = json.loads(base64.b64decode(built.header))
    return decoded


@pytest.fixture(params=["real", "sandbox", "one-cent more"])
def identity(request: pytest.FixtureRequest) -> Identity:
    if request.param == "sandbox":
        return shop.sandbox()
    return shop.identity(settle_wait_s=40) if request.param == "one-cent more" else shop.identity()


def test_no_document_and_no_offer_disagree(identity: Identity) -> None:
    """F-168: price, payee, asset, network, time, address, method and schemas, of every operation in every surface."""
    manifest = read("/.well-known/x402", identity)
    items = read("/.well-known/x402.json", identity)["items"]
    openapi = read("/openapi.json", identity)
    prices = {each["id"]: each for each in read("/pricing", identity)["operations"]}
    listed = next(q for q in QUERIES if q.path == "/discovery/resources").build(CATALOGUE, identity, [])["items"]
    assert len(manifest["resources"]) == len(items) == len(listed) == len(prices) == len(CATALOGUE.operations)
    for index, operation in enumerate(CATALOGUE.operations):
        live = asked(operation, identity)
        micros = {int(a["amount"]) for a in live["accepts"]}  # every token here has six decimals
        assert micros == {operation.price.base_micros}

        assert manifest["resources"][index] == f"{operation.method} {live['resource']['url']}"
        assert manifest["routes"][index]["endpoint"] == live["resource"]["url"]
        assert manifest["prices"][index]["resource"] == live["resource"]["url"]
        assert usd(manifest["prices"][index]["price_usd"]) in micros

        assert items[index]["accepts"] == live["accepts"] == listed[index]["accepts"]
        assert items[index]["resource"] == live["resource"]
        assert listed[index]["resource"] == live["resource"]["url"]
        assert listed[index]["extensions"] == third_party.lasting(live["extensions"])

        described = openapi["paths"][operation.path][operation.method.lower()]
        price = described["x-payment-info"]["price"]
        assert price == prices[operation.id]["price"]
        assert usd(price.get("amount") or price["min"]) in micros

        schemas = live["extensions"]["bazaar"]["schema"]["properties"]["input"]["properties"]
        if operation.takes_body:
            assert described["requestBody"]["content"]["application/json"]["schema"] == schemas["body"]
            assert items[index]["input"]["body"] == manifest["routes"][index]["input_schema"] == schemas["body"]
        else:
            query = {p["name"]: p["schema"] for p in described["parameters"] if p.get("in") == "query"}
            assert query == schemas["queryParams"]["properties"] == items[index]["input"]["queryParams"]["properties"]
        in_path = {p["name"] for p in described["parameters"] if p.get("in") == "path"}
        assert in_path == set(schemas.get("pathParams", {}).get("properties", ())) == set(operation.path_parameters)


def usd(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * 1_000_000 + int(fraction.ljust(6, "0"))


def test_a_changed_price_or_payee_changes_in_every_document() -> None:
    """The drift test itself sees: whatever depends on a price or a payee is made anew from the catalogue."""
    before, now = (
        everything(shop.identity()),
        everything(
            shop.identity(terms=(shop.terms(shop.BASE, "0x" + "12" * 20),)),
            Catalogue(dataclasses.replace(o, price=Price(o.price.base_micros + 1)) for o in CATALOGUE.operations),
        ),
    )
    dull = {"/robots.txt", "/favicon.ico", "/favicon.svg"}
    assert {path for path in now if before.get(path) == now[path]} == dull


def test_nothing_that_is_nobodys_business_gets_out(identity: Identity) -> None:
    """F-169: names and comments of the code, offline operations, the operator's own routes."""
    for path, content in everything(identity).items():
        for word in (shop.CANARY, "enrich/email", "Offline as yet", "/metrics", "/admin", "wellknown", "upstream"):
            assert word not in content, f"{path} tells {word}"


def test_every_listed_address_is_a_concrete_one_of_our_own(identity: Identity) -> None:
    for path in ("/.well-known/x402", "/.well-known/x402.json", "/llms.txt", "/robots.txt", "/pricing"):
        content = everything(identity)[path]
        for found in [part.split('"')[0].split(")")[0].split()[0] for part in content.split("https://")[1:]]:
            assert found.startswith("api.corner.example.com/"), f"{path} lists {found}"
            assert not set(":{}") & set(found), f"{path} lists {found}"


def test_a_sandbox_says_so_everywhere() -> None:
    for path, content in everything(shop.sandbox()).items():
        if "favicon" not in path:
            assert (
                '"sandbox":true' in content.replace(" ", "").replace("x-sandbox", "sandbox")
                or "sandbox: true" in content
            )
    assert not [path for path, content in everything(shop.identity()).items() if "sandbox" in content.lower()]


def test_dear_operations_come_with_a_word_on_spend_controls() -> None:
    """Official clients refuse more than $1 until they are told otherwise."""
    cheap = Catalogue([shop.PHONE, shop.WEATHER])
    for path in ("/openapi.json", "/pricing", "/llms.txt", "/.well-known/x402"):
        assert SPEND_CONTROLS in everything(shop.identity())[path]
        assert SPEND_CONTROLS not in everything(shop.identity(), cheap)[path]
        assert SPEND_CONTROLS in everything(shop.sandbox(), cheap)[path]
        assert SPEND_CONTROLS not in everything(shop.identity(terms=()))[path]


def test_the_manifest_suits_its_strictest_reader() -> None:
    """A number for `version`, an integer for `x402Version`, nothing but strings in `resources`, at most 256 KiB."""
    manifest = read("/.well-known/x402", shop.identity())
    assert (manifest["version"], manifest["x402Version"]) == (1, 2)
    assert all(isinstance(each, str) for each in manifest["resources"])
    assert manifest["ownershipProofs"] == ["0x" + "ab" * 65]
    many = Catalogue(dataclasses.replace(shop.QUOTE, id=f"q{n}", path=f"/q{n}") for n in range(40))
    content = document("/.well-known/x402", shop.identity(), many)
    assert content is not None
    assert len(content) < 256 * 1024


def test_the_items_document_lifts_the_contract_out_of_the_block() -> None:
    document_ = read("/.well-known/x402.json", shop.identity())
    assert document_["lastUpdated"] == 1795435200
    phone, weather, parcel, quote = document_["items"]
    assert (phone["input"]["method"], phone["input"]["bodyType"]) == ("POST", "json")
    assert (weather["input"]["method"], "bodyType" in weather["input"]) == ("GET", False)
    assert parcel["input"]["routeTemplate"] == "/api/v1/parcels/:parcel_id"
    assert set(quote["input"]["pathParams"]["properties"]) == {"shop_id"}
    assert phone["output"] == {"mimeType": "application/json", "example": shop.PHONE.example_output}


def test_examples_fit_their_schemas() -> None:
    for operation in CATALOGUE.operations:
        block = asked(operation, shop.identity())["extensions"]["bazaar"]
        schemas = block["schema"]["properties"]["input"]["properties"]
        for part in {"body", "queryParams", "pathParams"} & set(schemas):
            jsonschema.Draft202012Validator(schemas[part]).validate(block["info"]["input"][part])


def test_a_balance_only_gateway_claims_no_x402() -> None:
    told = everything(shop.identity(terms=()))
    assert json.loads(told["/.well-known/x402"])["resources"] == []
    assert json.loads(told["/.well-known/x402.json"])["items"] == []
    assert json.loads(told["/pricing"])["payment"]["x402"] == []
    assert "PAYMENT-SIGNATURE" not in told["/llms.txt"]


def test_the_index_verification_is_there_when_it_is_configured() -> None:
    path = "/.well-known/402index-verify.txt"
    assert document(path, shop.identity()) is None
    assert document(path, shop.identity(index_verification="5c1e")) == b"5c1e"


def test_llms_txt_has_one_heading_a_summary_and_every_operation() -> None:
    lines = everything(shop.identity(description="Two\n# lines"))["/llms.txt"].splitlines()
    assert [line for line in lines if line.startswith("# ")] == ["# Corner Data"]
    assert lines[2] == "> Two # lines"
    for operation in CATALOGUE.operations:
        assert [line for line in lines if f"[{operation.method} {operation.path}]" in line]


def test_robots_may_read_everything() -> None:
    assert "Disallow" not in everything(shop.identity())["/robots.txt"]


def test_the_icon_is_where_readers_look_for_it() -> None:
    icons = {each.path: each.media_type for each in DOCUMENTS if each.media_type.startswith("image/")}
    assert icons == {"/favicon.ico": "image/svg+xml", "/favicon.svg": "image/svg+xml"}
