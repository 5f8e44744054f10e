"""A bazaar block in fewer words, for an offer that would not fit into a header.

SHORTER lists the steps, each a function (block) -> block, the least loss first: no words around the answer's
schema, no such schema, no example answer, no words around the request's schema. Names, types and limits of the
request always stay: a catalogue refuses a block without them, and /openapi.json has everything in any case.
"""

from collections.abc import Callable, Mapping

from gateway.core.upstream import Json

_WORDS = frozenset(("title", "description", "examples", "default"))
_BY_NAME = frozenset(("properties", "patternProperties", "$defs", "dependentSchemas"))
"""Keywords whose members are named by the schema's author: a property may well be called `title`."""
_VALUES = frozenset(("enum", "const"))


def wordless(schema: Json) -> Json:
    """A JSON Schema without its annotations; it accepts exactly what it accepted before."""
    if isinstance(schema, list):
        return [wordless(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _wordless_member(key, value) for key, value in schema.items() if key not in _WORDS}


def _wordless_member(key: str, value: Json) -> Json:
    if key in _VALUES:
        return value
    if key in _BY_NAME and isinstance(value, Mapping):
        return {name: wordless(part) for name, part in value.items()}
    return wordless(value)


def _wordless_answer(block: Json) -> Json:
    return _replace(block, wordless, "schema", "properties", "output")


def _no_answer_schema(block: Json) -> Json:
    return _replace(block, lambda schema: {"type": "object"}, "schema", "properties", "output", "properties", "example")


def _no_answer_example(block: Json) -> Json:
    return _replace(block, lambda example: {}, "info", "output", "example")


def _wordless_request(block: Json) -> Json:
    return _replace(block, wordless, "schema", "properties", "input")


SHORTER: tuple[Callable[[Json], Json], ...] = (
    _wordless_answer,
    _no_answer_schema,
    _no_answer_example,
    _wordless_request,
)


def _replace(value: Json, change: Callable[[Json], Json], *path: str) -> Json:
    """A copy of nested objects with the member at `path` changed; as it is where there is no such member."""
    if not path:
        return change(value)
    key, *rest = path
    if not isinstance(value, Mapping) or key not in value:
        return value
    return {**value, key: _replace(value[key], change, *rest)}
