import dataclasses
import json
from typing import Any

import jsonschema
import pytest
from rigs import shop
from schemathesis.specs.openapi.definitions import OPENAPI_31

from gateway.core.catalogue import Catalogue
from gateway.core.errors import TABLE
from wellknown import DOCUMENTS, QUERIES, Identity
from wellknown.words import GUIDANCE_MAX_CHARS

BUILD = next(document for document in DOCUMENTS if document.path == "/openapi.json").build


def openapi(identity: Identity | None = None, catalogue: Catalogue | None = None) -> dict[str, Any]:
    content = BUILD(catalogue or shop.catalogue(), identity or shop.identity())
    assert content is not None
    return json.loads(content)  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, each) for path, item in document["paths"].items() for method, each in item.items()]


@pytest.mark.parametrize("identity", [shop.identity(), shop.sandbox(), shop.identity(terms=(), contact_email=None)])
def test_it_is_openapi_3_1(identity: Identity) -> None:
    jsonschema.Draft202012Validator(OPENAPI_31).validate(openapi(identity))


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    document = openapi()
    for value in walk(document):
        if "$ref" in value:
            target: Any = document
            for part in value["$ref"].removeprefix("#/").split("/"):
                target = target[part]
        if "schema" in value:
            jsonschema.Draft202012Validator.check_schema(value["schema"])


def walk(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for part in value for found in walk(part)]
    if isinstance(value, dict):
        return [value, *(found for part in value.values() for found in walk(part))]
    return []


def test_paid_operations_are_marked_paid_and_free_ones_free() -> None:
    document = openapi()
    paid = {(path, method) for path, method, each in operations(document) if "x-payment-info" in each}
    assert paid == {(o.path, o.method.lower()) for o in shop.catalogue().operations}
    for path, method, each in operations(document):
        if (path, method) in paid:
            assert each["security"] == []
            assert each["x-payment-info"]["protocols"] == [{"x402": {}}]
            assert each["responses"]["402"] == {"$ref": "#/components/responses/Problem402"}
        else:
            assert each["security"] == [] or each["security"][0] == {"apiKey": []}
            # A top-up costs nothing beside itself: its 402 is what is topped up.
            assert ("402" in each["responses"]) is (each["operationId"] == "topup_x402")


def test_the_free_routes_and_documents_are_listed_by_their_own_paths() -> None:
    paths = set(openapi()["paths"])
    assert {
        "/api/v1/agents/me",
        "/api/v1/agents/balance",
        "/api/v1/charges/{charge_id}",
        "/healthz",
        "/readyz",
    } <= paths
    assert {query.path for query in QUERIES} <= paths
    assert {document.path for document in DOCUMENTS if document.summary} <= paths
    assert {"/favicon.ico", "/robots.txt", "/.well-known/402index-verify.txt"}.isdisjoint(paths)


@pytest.mark.parametrize(
    "identity", [shop.identity(terms=()), shop.identity(anonymous="none"), shop.identity(anonymous="jobs_only")]
)
def test_who_needs_a_token_is_told_so(identity: Identity) -> None:
    described = openapi(identity)["paths"][shop.PHONE.path]["post"]
    assert described["security"] == [{"apiKey": []}]
    assert bool(described["x-payment-info"]["protocols"]) == bool(identity.terms)


@pytest.mark.parametrize(
    ("operation", "price"),
    [
        (shop.PHONE, {"mode": "fixed", "currency": "USD", "amount": "0.330"}),
        (shop.WEATHER, {"mode": "fixed", "currency": "USD", "amount": "0.0025"}),
        (shop.QUOTE, {"mode": "dynamic", "currency": "USD", "min": "0.020", "max": "0.500"}),
    ],
    ids=lambda value: getattr(value, "id", ""),
)
def test_prices_are_decimal_strings_of_usd(operation: Any, price: dict[str, str]) -> None:
    assert openapi()["paths"][operation.path][operation.method.lower()]["x-payment-info"]["price"] == price


def test_parameters_come_from_the_input_and_carry_examples() -> None:
    described = openapi()["paths"][shop.PARCEL.path]["get"]
    path, query, *shared = described["parameters"]
    assert (path["name"], path["in"], path["required"], path["example"]) == ("parcel_id", "path", True, "AB-1234")
    assert (query["name"], query["in"], query["required"], query["example"]) == ("history", "query", False, True)
    assert [each["$ref"].rsplit("/", 1)[1] for each in shared] == ["PAYMENT-SIGNATURE", "Idempotency-Key"]
    assert "requestBody" not in described


def test_the_body_leaves_out_what_stands_in_the_path() -> None:
    described = openapi()["paths"][shop.QUOTE.path]["post"]
    media = described["requestBody"]["content"]["application/json"]
    assert set(media["schema"]["properties"]) == {"lines"}
    assert media["example"] == {"lines": [{"title": "lamp", "count": 2}]}
    assert "$ref" not in json.dumps(media)
    assert [each["name"] for each in described["parameters"] if each.get("in") == "path"] == ["shop_id"]


def test_the_errors_are_those_of_the_table() -> None:
    document = openapi()
    responses = document["components"]["responses"]
    codes = [
        code
        for each in responses.values()
        for code in each["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"]["enum"]
    ]
    assert sorted(codes) == sorted(TABLE)
    paid = document["paths"][shop.PHONE.path]["post"]["responses"]
    assert set(paid) == {"200", "202", *(str(row.status) for row in TABLE.values() if row.status != 404)}
    assert "PAYMENT-REQUIRED" in responses["Problem402"]["headers"]


def test_contact_servers_and_proofs_are_the_operators() -> None:
    document = openapi()
    assert document["info"]["contact"]["email"] == "desk@corner.example.com"
    assert document["servers"] == [{"url": "https://api.corner.example.com"}]
    assert document["x-agentcash-provenance"] == document["x-discovery"] == {"ownershipProofs": ["0x" + "ab" * 65]}
    assert "email" not in openapi(shop.identity(contact_email=None))["info"]["contact"]


def test_guidance_stays_within_what_agents_read() -> None:
    many = Catalogue(dataclasses.replace(shop.QUOTE, id=f"q{n}", path=f"/q{n}", summary="s" * 110) for n in range(60))
    for catalogue in (shop.catalogue(), many):
        text = openapi(catalogue=catalogue)["info"]["x-guidance"]
        assert len(text) <= GUIDANCE_MAX_CHARS
        assert text.endswith("More: https://api.corner.example.com/llms.txt")
    assert "POST /api/v1/enrich/phone" in openapi()["info"]["x-guidance"]


def test_operation_ids_are_names_and_unique() -> None:
    twins = Catalogue(
        dataclasses.replace(shop.WEATHER, id=id, path=f"/w{n}") for n, id in enumerate(("a/b", "a_b", "a-b", "///"))
    )
    ids = [each["operationId"] for _, _, each in operations(openapi(catalogue=twins))]
    assert ids[:4] == ["a_b", "a_b_2", "a_b_3", "operation"]
    assert len(ids) == len(set(ids))
