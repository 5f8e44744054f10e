"""Extensions of an offer: the Bazaar listing, which catalogues read beside the price, the payment identifier, and the
repeat key, which is in live 402s alone.

A listing has `info`, an example of the call and of its answer, and `schema`, a JSON Schema which that `info` satisfies
and which holds the real schemas of request and answer. Catalogues drop a listing without a word when `info` does not
validate, when its method is missing, or when a schema refers to another one; so everything is inlined here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.core.catalogue import Operation
from gateway.core.x402.messages import Json

Block = dict[str, Any]
"""An extension as it is sent: {info, schema}, and what its kind has beside them. Whoever takes it apart knows its
shape, which is the standard's."""

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_DEFINITIONS = "#/$defs/"
_BY_NAME = frozenset(("properties", "patternProperties", "dependentSchemas"))
"""Keywords whose members are named by the schema's author: there `title` is a property, not a word about one."""
_VALUES = frozenset(("const", "enum", "default", "example", "examples"))


def extension(operation: Operation) -> Block:
    """`extensions.bazaar` of an operation: {info, schema}, and routeTemplate where its path has parameters.

    Raises ValueError for an input that refers to itself or to a schema elsewhere: no catalogue would read it.
    """
    call, members = _call(operation)
    block: Block = {
        "info": {"input": call, "output": {"type": "json", "example": dict(operation.example_output)}},
        "schema": {
            "$schema": _DRAFT,
            "type": "object",
            "properties": {
                "input": {
                    "type": "object",
                    "properties": members,
                    "required": list(call),
                    "additionalProperties": False,
                },
                "output": {
                    "type": "object",
                    "properties": {"type": {"type": "string"}, "example": inlined(operation.output)},
                    "required": ["type"],
                },
            },
            "required": ["input"],
        },
    }
    if operation.path_parameters:
        block["routeTemplate"] = operation.path.replace("{", ":").replace("}", "")
    return block


def payment_identifier_extension(required: bool = False) -> Block:
    """`extensions["payment-identifier"]`: the client may (or must) choose an idempotency key for its payment."""
    return {
        "info": {"required": required},
        "schema": {
            "$schema": _DRAFT,
            "type": "object",
            "properties": {
                "required": {"type": "boolean"},
                "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"},
            },
            "required": ["required"],
        },
    }


def repeat_key_extension(key: str) -> Block:
    """`extensions["repeat-key"]`: a random value of one 402 alone. Clients send all extensions back with their payment,
    and this is the part of it that stands neither on the chain nor in any other 402: it shows that a call is repeated
    by whoever made it."""
    return {
        "info": {"key": key},
        "schema": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
    }


def inlined(schema: Mapping[str, Json]) -> dict[str, Json]:
    """A JSON Schema with every `$ref` to its own `$defs` replaced by what it stands for, and without the titles that
    models give themselves. Raises ValueError for a schema that refers to itself or elsewhere."""
    definitions = schema.get("$defs", {})
    if not isinstance(definitions, Mapping):
        raise ValueError("$defs of a schema is an object")
    rest = {key: value for key, value in schema.items() if key != "$defs"}
    return _inline_schema(rest, definitions, ())


def _call(operation: Operation) -> tuple[dict[str, Json], dict[str, Json]]:
    """`info.input` of the example call, and the schemas of its members."""
    fields = inlined(_undocumented(operation.input.model_json_schema()))
    path = operation.path_parameters
    example = {name: value for name, value in operation.example.items() if name not in path}
    call: dict[str, Json] = {"type": "http", "method": operation.method}
    members: dict[str, Json] = {"type": {"type": "string", "const": "http"}, "method": _only(operation.method)}
    if operation.takes_body:
        call |= {"bodyType": "json", "body": example}
        members |= {"bodyType": _only("json"), "body": _part(fields, lambda name: name not in path)}
    elif set(_properties(fields)) - set(path):
        call["queryParams"] = example
        members["queryParams"] = _part(fields, lambda name: name not in path)
    if path:
        # The example has them in the types of the model, the path in letters only.
        values = {**operation.example_path, **operation.example}
        call["pathParams"] = {name: values.get(name, "x") for name in path}
        members["pathParams"] = _part(fields, lambda name: name in path)
    return call, members


def _undocumented(schema: Mapping[str, Json]) -> dict[str, Json]:
    """A model's schema without the docstrings of its classes: they are written for whoever reads the code. What a
    field says of itself stays."""
    definitions = schema.get("$defs", {})
    named = definitions if isinstance(definitions, Mapping) else {}
    told = {name: _without_description(each) for name, each in named.items() if isinstance(each, Mapping)}
    return {**_without_description(schema), "$defs": told}


def _without_description(schema: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in schema.items() if key != "description"}


def _only(value: str) -> dict[str, Json]:
    return {"type": "string", "enum": [value]}


def _properties(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    properties = schema.get("properties", {})
    return properties if isinstance(properties, Mapping) else {}


def _part(schema: Mapping[str, Json], belongs: Callable[[str], bool]) -> dict[str, Json]:
    """The schema of some of an object's properties."""
    required = schema.get("required")
    names = [name for name in required if isinstance(name, str)] if isinstance(required, Sequence) else []
    kept = {name: value for name, value in _properties(schema).items() if belongs(name)}
    part = {**schema, "type": "object", "properties": kept, "required": [name for name in names if belongs(name)]}
    return {key: value for key, value in part.items() if key != "required" or value}


def _inline(value: Json, definitions: Mapping[str, Json], inside: tuple[str, ...]) -> Json:
    if isinstance(value, Mapping):
        return _inline_schema(value, definitions, inside)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_inline(part, definitions, inside) for part in value]
    return value


def _inline_schema(
    schema: Mapping[str, Json], definitions: Mapping[str, Json], inside: tuple[str, ...]
) -> dict[str, Json]:
    """`inside` are the definitions under way: one that comes up again inside itself has no end."""
    own: dict[str, Json] = {}
    for key, value in schema.items():
        if key in _VALUES:
            own[key] = value
        elif key in _BY_NAME and isinstance(value, Mapping):
            own[key] = {name: _inline(part, definitions, inside) for name, part in value.items()}
        elif key not in ("title", "$ref", "$id", "$schema"):
            own[key] = _inline(value, definitions, inside)
    reference = schema.get("$ref")
    if reference is None:
        return own
    name = reference.removeprefix(_DEFINITIONS) if isinstance(reference, str) else ""
    target = definitions.get(name)
    if not isinstance(target, Mapping) or name in inside:
        raise ValueError(f"{reference!r} cannot be inlined: it refers to itself or to nothing in this schema")
    return {**_inline_schema(target, definitions, (*inside, name)), **own}
