"""A bazaar block in fewer words, for an offer that would not fit into a header.

SHORTER lists the steps, each a function (block) -> block, the least loss first: no words around the answer's
schema; that schema to its third, second, first level, then its type alone; no example answer; no words around the
request's schema. Names, types and limits of the request always stay: a catalogue refuses a block without them, and
/openapi.json has everything in any case.
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


def shallow(schema: Json, levels: int) -> Json:
    """A JSON Schema that describes objects only to this depth, below it nothing but types. It accepts everything that
    it accepted before, and more."""
    if not isinstance(schema, Mapping):
        return schema
    if levels == 0:
        return {"type": schema["type"]} if "type" in schema else {}
    return {key: _shallow_member(key, value, levels) for key, value in schema.items()}


def _shallow_member(key: str, value: Json, levels: int) -> Json:
    if key == "properties":
        return {name: shallow(part, levels - 1) for name, part in value.items()}
    if key in ("items", "additionalProperties"):
        return shallow(value, levels)
    if key in ("anyOf", "oneOf", "allOf"):
        return [shallow(part, levels) for part in value]
    return value


def _wordless_answer(block: Json) -> Json:
    return _replace(block, wordless, "schema", "properties", "output")


def _shallow_answer(levels: int) -> Callable[[Json], Json]:
    return lambda block: _replace(
        block, lambda schema: shallow(schema, levels), "schema", "properties", "output", "properties", "example"
    )


def _no_answer_example(block: Json) -> Json:
    return _replace(block, lambda example: {}, "info", "output", "example")


def _wordless_request(block: Json) -> Json:
    return _replace(block, wordless, "schema", "properties", "input")


SHORTER: tuple[Callable[[Json], Json], ...] = (
    _wordless_answer,
    _shallow_answer(3),
    _shallow_answer(2),
    _shallow_answer(1),
    _shallow_answer(0),
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
