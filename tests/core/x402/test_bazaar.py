"""Listings: what the official validators take, whatever an operation's shape."""

from dataclasses import replace
from enum import StrEnum
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict, Field
from rigs import paper
from x402.extensions.bazaar import extract_discovery_info, validate_discovery_extension
from x402.extensions.payment_identifier import (
    append_payment_identifier_to_extensions,
    extract_payment_identifier,
    validate_payment_identifier,
)
from x402.schemas import PaymentPayload, PaymentRequirements

from gateway.core.catalogue import Operation, Price
from gateway.core.x402.bazaar import extension, inlined, payment_identifier_extension
from gateway.core.x402.messages import parse_payment


class Unit(StrEnum):
    METRIC = "metric"
    IMPERIAL = "imperial"


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: str = Field(min_length=1, max_length=80, description="A town's name")
    title: str | None = None


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid")
    place: Place
    others: list[Place] = []
    unit: Unit = Unit.METRIC


class Plain(BaseModel):
    city: str
    days: int = Field(3, ge=1, le=10)


class Tree(BaseModel):
    children: list["Tree"] = []


OUTPUT = {
    "type": "object",
    "properties": {"matched": {"type": "boolean"}, "data": {"type": "object"}},
    "required": ["matched"],
}
BODY = Operation(
    id="weather/forecast",
    method="POST",
    path="/api/v1/weather",
    summary="The weather",
    description="The weather of a place.",
    input=Query,
    output=OUTPUT,
    price=Price(10_000),
    example={"place": {"city": "Springfield"}, "unit": "metric"},
    example_output={"matched": True, "data": {"celsius": 21}},
)
QUERY = replace(BODY, method="GET", input=Plain, example={"city": "Springfield", "days": 2})
PATH = replace(QUERY, path="/api/v1/cities/{city}/weather")
PATH_ONLY = replace(PATH, path="/api/v1/cities/{city}/weather/{days}", example_path={"days": "2"})
PATH_AND_BODY = replace(PATH, method="PUT")
DELETE = replace(PATH, method="DELETE")
SHAPES = {
    "body": BODY,
    "query": QUERY,
    "path": PATH,
    "path only": PATH_ONLY,
    "path and body": PATH_AND_BODY,
    "delete": DELETE,
}


def keys(value: Any) -> set[str]:
    """Every key anywhere inside."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values())) if value else set()
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("operation", SHAPES.values(), ids=SHAPES.keys())
def test_the_official_validator_takes_it(operation: Operation) -> None:
    result = validate_discovery_extension(extension(operation))
    assert result.valid, result.errors


@pytest.mark.parametrize("operation", SHAPES.values(), ids=SHAPES.keys())
def test_info_satisfies_schema_and_schema_is_a_schema(operation: Operation) -> None:
    block = extension(operation)
    jsonschema.Draft202012Validator.check_schema(block["schema"])
    jsonschema.Draft202012Validator(block["schema"]).validate(block["info"])


@pytest.mark.parametrize("operation", SHAPES.values(), ids=SHAPES.keys())
def test_nothing_refers_to_anything(operation: Operation) -> None:
    schema = extension(operation)["schema"]
    assert not keys(schema) & {"$ref", "$id", "$defs", "definitions"}


@pytest.mark.parametrize("operation", SHAPES.values(), ids=SHAPES.keys())
def test_the_method_is_there_and_no_other_is_allowed(operation: Operation) -> None:
    block = extension(operation)
    assert block["info"]["input"]["method"] == operation.method
    assert block["schema"]["properties"]["input"]["properties"]["method"]["enum"] == [operation.method]


def test_a_facilitator_lists_it_under_its_template() -> None:
    """What a facilitator reads from a settled payment."""
    block = extension(PATH)
    resource = "https://api.example.com/api/v1/cities/Springfield/weather?days=2"
    paid = {
        **paper.paid(paper.EIP3009),
        "resource": {"url": resource, "serviceName": "Corner Data"},
        "extensions": {"bazaar": block},
    }
    found = extract_discovery_info(
        PaymentPayload.model_validate(paid), PaymentRequirements.model_validate(paper.EIP3009.to_json())
    )
    assert found is not None
    assert found.resource_url == "https://api.example.com/api/v1/cities/:city/weather"
    assert found.method == "GET"
    assert found.service_name == "Corner Data"


def test_a_path_parameter_is_no_part_of_body_or_query() -> None:
    for operation, member in ((PATH, "queryParams"), (PATH_AND_BODY, "body"), (DELETE, "queryParams")):
        block = extension(operation)
        members = block["schema"]["properties"]["input"]["properties"]
        assert set(members["pathParams"]["properties"]) == {"city"}
        assert set(members[member]["properties"]) == {"days"}
        assert block["info"]["input"]["pathParams"] == {"city": "Springfield"}
        assert block["info"]["input"][member] == {"days": 2}
        assert block["routeTemplate"] == "/api/v1/cities/:city/weather"
        assert "required" not in members[member]


def test_where_there_is_no_query_none_is_mentioned() -> None:
    block = extension(PATH_ONLY)
    assert "queryParams" not in keys(block)
    assert block["info"]["input"]["pathParams"] == {"city": "Springfield", "days": 2}


def test_a_static_route_has_no_template() -> None:
    assert set(extension(BODY)) == {"info", "schema"}


def test_the_real_schemas_are_inside() -> None:
    schema = extension(BODY)["schema"]["properties"]
    body = schema["input"]["properties"]["body"]
    assert body["properties"]["place"]["properties"]["city"] == {
        "type": "string",
        "minLength": 1,
        "maxLength": 80,
        "description": "A town's name",
    }
    assert body["properties"]["others"]["items"]["additionalProperties"] is False
    assert body["properties"]["unit"]["enum"] == ["metric", "imperial"]
    assert body["required"] == ["place"]
    assert schema["output"]["properties"]["example"] == OUTPUT
    validator = jsonschema.Draft202012Validator(body)
    assert validator.is_valid({"place": {"city": "Springfield", "title": "Mayor"}})
    assert not validator.is_valid({"place": {"city": ""}})


def test_titles_that_models_give_themselves_go_and_properties_of_that_name_stay() -> None:
    body = extension(BODY)["schema"]["properties"]["input"]["properties"]["body"]
    assert "title" not in body
    assert "title" in body["properties"]["place"]["properties"]
    assert "title" not in body["properties"]["place"]["properties"]["city"]


def test_values_are_not_taken_for_schemas() -> None:
    schema = {"properties": {"a": {"const": {"$ref": "#/nothing", "title": "kept"}, "default": {"title": "kept"}}}}
    assert inlined(schema) == schema


@pytest.mark.parametrize(
    "schema",
    [
        Tree.model_json_schema(),
        {"$ref": "https://example.com/schema.json"},
        {"properties": {"a": {"$ref": "#/$defs/Missing"}}, "$defs": {}},
        {"$ref": 5},
        {"$ref": "#/$defs/A", "$defs": {"A": {"items": {"$ref": "#/$defs/B"}}, "B": {"not": {"$ref": "#/$defs/A"}}}},
    ],
)
def test_what_cannot_be_inlined_is_refused_at_the_start(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="inlined"):
        inlined(schema)


def test_a_definition_may_be_used_twice_and_said_more_about() -> None:
    schema = {
        "$defs": {"A": {"type": "string", "title": "A", "description": "one"}},
        "anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A", "description": "another"}],
    }
    assert inlined(schema) == {
        "anyOf": [{"type": "string", "description": "one"}, {"type": "string", "description": "another"}]
    }


@pytest.mark.parametrize("required", [False, True])
def test_official_clients_choose_a_payment_identifier(required: bool) -> None:
    extensions: dict[str, Any] = {"payment-identifier": payment_identifier_extension(required)}
    append_payment_identifier_to_extensions(extensions)
    assert validate_payment_identifier(extensions["payment-identifier"]).valid
    paid = {**paper.paid(paper.EIP3009), "extensions": extensions}
    chosen = parse_payment(paid).payment_identifier
    assert chosen is not None
    assert extract_payment_identifier(PaymentPayload.model_validate(paid)) == chosen
    assert extensions["payment-identifier"]["info"]["required"] is required
