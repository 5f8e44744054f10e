import jsonschema
import pytest

from wellknown.brevity import SHORTER, shallow, wordless

SCHEMA = {
    "title": "Order",
    "description": "an order",
    "type": "object",
    "required": ["title"],
    "properties": {
        "title": {"title": "Title", "type": "string", "description": "a name", "examples": ["x"]},
        "description": {"anyOf": [{"type": "string", "title": "S"}, {"type": "null"}], "default": None},
        "kind": {"enum": [{"title": "kept", "description": "kept"}, "b"]},
        "default": {"const": {"default": 1}},
    },
    "additionalProperties": False,
}


def test_only_annotations_go() -> None:
    assert wordless(SCHEMA) == {
        "type": "object",
        "required": ["title"],
        "properties": {
            "title": {"type": "string"},
            "description": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "kind": {"enum": [{"title": "kept", "description": "kept"}, "b"]},
            "default": {"const": {"default": 1}},
        },
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "value",
    [
        {"title": "a"},
        {"title": 1},
        {},
        {"title": "a", "description": 3},
        {"title": "a", "kind": "b"},
        {"title": "a", "kind": "c"},
        {"title": "a", "default": {}},
        {"title": "a", "extra": 1},
    ],
)
def test_it_accepts_what_it_accepted_before(value: object) -> None:
    told, terse = (jsonschema.Draft202012Validator(schema) for schema in (SCHEMA, wordless(SCHEMA)))
    assert terse.is_valid(value) == told.is_valid(value)


ANSWER = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": ["object", "null"],
            "required": ["people"],
            "properties": {
                "people": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string", "maxLength": 9},
                            "phones": {"type": "array", "items": {"type": "object", "properties": {"e164": {}}}},
                        },
                    },
                }
            },
        },
        "kind": {"anyOf": [{"type": "object", "properties": {"a": {"const": 1}}}, {"enum": ["x"]}]},
    },
}


def test_a_shallow_schema_has_types_alone_below_its_depth() -> None:
    assert shallow(ANSWER, 0) == {"type": "object"}
    assert shallow(ANSWER, 1) == {
        "type": "object",
        "required": ["data"],
        "properties": {"data": {"type": ["object", "null"]}, "kind": {}},
    }
    people = shallow(ANSWER, 3)["properties"]["data"]["properties"]["people"]
    assert people["items"]["properties"] == {"name": {"type": "string"}, "phones": {"type": "array"}}
    assert shallow(ANSWER, 9) == ANSWER


@pytest.mark.parametrize("levels", range(5))
@pytest.mark.parametrize(
    "value", [{"data": None}, {"data": {"people": [{"name": "Dana"}]}}, {"data": {"people": []}, "kind": "x"}]
)
def test_a_shallow_schema_takes_all_that_the_whole_one_takes(levels: int, value: object) -> None:
    assert jsonschema.Draft202012Validator(ANSWER).is_valid(value)
    assert jsonschema.Draft202012Validator(shallow(ANSWER, levels)).is_valid(value)


def test_a_block_without_an_answer_stays_as_it_is() -> None:
    block = {"info": {"input": {}}, "schema": {"properties": {"input": {"type": "object"}}}}
    shortened = block
    for shorter in SHORTER:
        shortened = shorter(shortened)
    assert shortened == block
