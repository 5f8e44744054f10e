import jsonschema
import pytest

from wellknown.brevity import SHORTER, wordless

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


def test_a_block_without_an_answer_stays_as_it_is() -> None:
    block = {"info": {"input": {}}, "schema": {"properties": {"input": {"type": "object"}}}}
    shortened = block
    for shorter in SHORTER:
        shortened = shorter(shortened)
    assert shortened == block
