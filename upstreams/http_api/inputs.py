"""The `input` of a table -> the pydantic model that a caller's request is checked with.

Two ways to write it, one meaning:

    [http_upstreams.input]                       a field a line; a string is short for its type
    city = "string"
    days = { type = "integer", minimum = 1, maximum = 7, default = 3, description = "Days ahead" }

    [http_upstreams.input]                       or JSON Schema: an object with properties, required and the like
    type = "object"
    required = ["city"]
    properties = { city = { type = "string" }, days = { type = "integer", default = 3 } }

Unknown fields of a request are refused. Values that go into the url's path are held to what cannot be mistaken for
path structure by any server on the way, however it decodes: no slash, backslash, percent sign or control character,
and not "." or "..".
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    create_model,
    field_validator,
)
from pydantic_core import SchemaError

Kind = Literal["string", "integer", "number", "boolean", "array", "object"]
_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list[Any],
    "object": dict[str, Any],
}

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
STRING_MAX = 2000
INTEGER_MAX = 2**53 - 1  # the largest that every JSON reader takes for what it is
_NO_PATH_TEXT = re.compile(r"[/\\%\x00-\x1f\x7f]")
_SCHEMA_KEYS = frozenset({"type", "properties", "required", "additionalProperties", "title", "description", "$schema"})


def _camel(name: str, schema_name: str) -> Any:
    return Field(None, validation_alias=AliasChoices(name, schema_name))


class InputField(BaseModel):
    """One field, in the words of JSON Schema (`min_length` as well as `minLength`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Kind = "string"
    required: bool | None = Field(None, description="by default: whether there is no default")
    default: Any = None
    description: str = Field("", max_length=300)
    enum: tuple[Any, ...] = ()
    pattern: str | None = None
    format: str | None = Field(None, description="told to callers, not checked")
    min_length: int | None = _camel("min_length", "minLength")
    max_length: int | None = _camel("max_length", "maxLength")
    min_items: int | None = _camel("min_items", "minItems")
    max_items: int | None = _camel("max_items", "maxItems")
    minimum: float | None = None
    maximum: float | None = None
    items: "InputField | None" = None
    example: Any = None

    @field_validator("pattern")
    @classmethod
    def _can_be_checked(cls, pattern: str | None) -> str | None:
        try:
            TypeAdapter(Annotated[str, Field(pattern=pattern)])
        except SchemaError:
            raise ValueError("is no regular expression without look-around and back-references") from None
        return pattern

    @property
    def is_required(self) -> bool:
        return self.default is None if self.required is None else self.required

    @property
    def sample(self) -> Any:
        """A value for the operation's example, None when the table gives none."""
        return next((each for each in (self.example, self.default, *self.enum[:1]) if each is not None), None)


def as_fields(table: Any) -> Mapping[str, Any]:
    """Both ways of writing -> field name to its table. Raises ValueError."""
    if not isinstance(table, Mapping):
        raise ValueError('is a table of fields, such as city = "string"')
    if isinstance(table.get("properties"), Mapping) and table.get("type", "object") == "object":
        table = _from_schema(table)
    for name in table:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no field name: letters, digits and _, a letter first")
    return {name: {"type": field} if isinstance(field, str) else field for name, field in table.items()}


def _from_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    beyond = sorted(set(schema) - _SCHEMA_KEYS)
    if beyond:
        raise ValueError(f"{', '.join(beyond)}: this part of JSON Schema is not understood here; leave it out")
    if schema.get("additionalProperties", False) is not False:
        raise ValueError("additionalProperties: unknown fields are always refused; name the fields")
    required = schema.get("required", ())
    unknown = [name for name in required if name not in schema["properties"]]
    if unknown:
        raise ValueError(f"required names {', '.join(unknown)}, which is none of the properties")
    return {
        name: {**field, "required": name in required} if isinstance(field, Mapping) else field
        for name, field in schema["properties"].items()
    }


def to_model(fields: Mapping[str, InputField], in_path: frozenset[str]) -> type[BaseModel]:
    """Raises ValueError for a default or a pattern that cannot be."""
    members: dict[str, Any] = {}
    for name, field in fields.items():
        annotation = _annotation(field, name in in_path)
        told: dict[str, Any] = {"alias": name, "description": field.description or None}
        if field.example is not None:
            told["examples"] = [field.example]
        if field.format:
            told["json_schema_extra"] = {"format": field.format}
        if field.is_required:
            members[f"in_{name}"] = (annotation, Field(**told))
        elif field.default is not None:
            members[f"in_{name}"] = (annotation, Field(default=field.default, validate_default=True, **told))
        else:
            members[f"in_{name}"] = (annotation | None, Field(default=None, **told))
    # Members have a prefix, callers see the alias: a field may be called `json` or `model_config`.
    return create_model("Input", __config__=ConfigDict(extra="forbid", frozen=True), **members)


def _annotation(field: InputField, in_path: bool) -> Any:
    if field.enum and field.type == "string":
        annotation: Any = Literal[tuple(field.enum)]
    elif field.type == "array" and field.items is not None:
        annotation = list[_annotation(field.items, False)]  # type: ignore[misc]
    else:
        annotation = _TYPES[field.type]
    if field.enum and field.type != "string":
        # A query brings "3" for 3, which a Literal would not take.
        listed = Field(json_schema_extra={"enum": list(field.enum)})
        annotation = Annotated[annotation, AfterValidator(partial(_is_one_of, field.enum)), listed]
    elif not field.enum:
        annotation = Annotated[annotation, Field(**dict(_bounds(field)))]
    return Annotated[annotation, AfterValidator(_is_path_text)] if in_path else annotation


def _bounds(field: InputField) -> Iterator[tuple[str, Any]]:
    match field.type:
        case "string":
            yield "max_length", STRING_MAX if field.max_length is None else field.max_length
            yield from _given(min_length=field.min_length, pattern=field.pattern)
        case "integer":
            yield "ge", -INTEGER_MAX if field.minimum is None else int(field.minimum)
            yield "le", INTEGER_MAX if field.maximum is None else int(field.maximum)
        case "number":
            yield "allow_inf_nan", False
            yield from _given(ge=field.minimum, le=field.maximum)
        case "array":
            yield from _given(min_length=field.min_items, max_length=field.max_items)


def _given(**bounds: Any) -> Iterator[tuple[str, Any]]:
    return ((name, bound) for name, bound in bounds.items() if bound is not None)


def _is_one_of(enum: tuple[Any, ...], value: Any) -> Any:
    if value not in enum:
        raise ValueError(f"is one of {', '.join(map(str, enum))}")
    return value


def _is_path_text(value: Any) -> Any:
    text = str(value)
    if not text or text in (".", "..") or _NO_PATH_TEXT.search(text):
        raise ValueError('this value is a part of a path: it is not empty, not "." or "..", and has no / \\ or %')
    return value
