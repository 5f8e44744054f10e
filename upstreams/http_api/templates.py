"""Request templates: `{name}` in a url, a query or a body stands for the input field of that name.

A template is taken apart once, at start; a request is put together from the parts. A value therefore never meets a
parser: in a url each one is percent-encoded as a whole, so it can add neither a path segment nor a parameter, and in
a body it takes its place as a value of its own type. `{{` and `}}` are braces that mean nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

Values = Mapping[str, Any]
"""Input field -> value; a field that was not given is absent."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of an input field."""

    name: str


Parts = tuple[str | Slot, ...]


def parse(template: str) -> Parts:
    """Texts and slots by turns, empty texts left out."""
    parts: list[str | Slot] = []
    text, end = "", 0
    for token in _TOKEN.finditer(template):
        text += template[end : token.start()]
        end = token.end()
        if token[1] is None:
            text += token[0][0]
            continue
        parts += [text, Slot(token[1])] if text else [Slot(token[1])]
        text = ""
    text += template[end:]
    return (*parts, text) if text else tuple(parts)


def slots(parts: Parts) -> Iterator[str]:
    return (part.name for part in parts if isinstance(part, Slot))


def spoken(value: object) -> str:
    """A value as text, as JSON would write it; a string is itself."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _encoded(value: object) -> str:
    return quote(spoken(value), safe="")


def _joined(parts: Parts, values: Values, encode: bool) -> str | None:
    """The text with its values; None when one of them was not given."""
    out = []
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif part.name in values:
            out.append(_encoded(values[part.name]) if encode else spoken(values[part.name]))
        else:
            return None
    return "".join(out)


@dataclass(frozen=True, slots=True)
class Url:
    """Where a call goes. The origin has no slots, so no value can choose the host."""

    base: Parts
    """Everything before the query."""
    query: tuple[tuple[str, Parts], ...]
    """(encoded key, value); a pair whose value was not given is left out."""

    @classmethod
    def of(cls, url: str, query: Mapping[str, Any]) -> "Url":
        """`url` may have a query of its own, encoded already; `query` is plain text."""
        base, _, own = url.partition("?")
        pairs = [(key, parse(value)) for key, _, value in (pair.partition("=") for pair in own.split("&") if pair)]
        for key, value in query.items():
            texts = value if isinstance(value, (list, tuple)) else (value,)
            pairs += [(quote(key, safe=""), _quoted(text)) for text in texts]
        return cls(parse(base), tuple(pairs))

    @property
    def path_names(self) -> frozenset[str]:
        return frozenset(slots(self.base))

    @property
    def names(self) -> frozenset[str]:
        return self.path_names | {name for _, parts in self.query for name in slots(parts)}

    def render(self, values: Values) -> str:
        """Every field named in the base is required, so it is there."""
        base = _joined(self.base, values, encode=True)
        pairs = [f"{key}={text}" for key, parts in self.query for text in _texts(parts, values)]
        return f"{base}?{'&'.join(pairs)}" if pairs else str(base)


def _quoted(text: object) -> Parts:
    return tuple(quote(part, safe="") if isinstance(part, str) else part for part in parse(spoken(text)))


def _texts(parts: Parts, values: Values) -> Iterator[str]:
    """A list that stands alone is a parameter given several times."""
    if len(parts) == 1 and isinstance(parts[0], Slot):
        value = values.get(parts[0].name)
        if isinstance(value, list):
            yield from (_encoded(each) for each in value)
            return
    text = _joined(parts, values, encode=True)
    if text is not None:
        yield text


_ABSENT = object()


class Body:
    """A JSON body. A string that is nothing but `{name}` becomes the value itself; a member not given is left out."""

    def __init__(self, template: Any) -> None:
        self._root = _compiled(template)
        self.names = frozenset(_names(self._root))

    def render(self, values: Values) -> Any:
        rendered = _filled(self._root, values)
        return None if rendered is _ABSENT else rendered


@dataclass(frozen=True, slots=True)
class _Text:
    parts: Parts


def _compiled(node: Any) -> Any:
    match node:
        case dict():
            return {key: _compiled(value) for key, value in node.items()}
        case list() | tuple():
            return [_compiled(value) for value in node]
        case str():
            parts = parse(node)
            if len(parts) == 1 and isinstance(parts[0], Slot):
                return parts[0]
            return _Text(parts) if any(slots(parts)) else "".join(str(part) for part in parts)
        case _:
            return node


def _names(node: Any) -> Iterator[str]:
    match node:
        case Slot(name):
            yield name
        case _Text(parts):
            yield from slots(parts)
        case dict():
            for value in node.values():
                yield from _names(value)
        case list():
            for value in node:
                yield from _names(value)


def _filled(node: Any, values: Values) -> Any:
    match node:
        case Slot(name):
            return values.get(name, _ABSENT)
        case _Text(parts):
            text = _joined(parts, values, encode=False)
            return _ABSENT if text is None else text
        case dict():
            filled = {key: _filled(value, values) for key, value in node.items()}
            return {key: value for key, value in filled.items() if value is not _ABSENT}
        case list():
            return [value for value in (_filled(each, values) for each in node) if value is not _ABSENT]
        case _:
            return node
