"""Which operation a path means. The challenges in front and the app behind ask the same table, so that no spelling
of a path can get past the one and be served by the other (F-015).

A path is spelt in one way only. What is written in the operation's path must stand there byte for byte: no percent
encoding, no other case, no doubled or trailing slash. Only the value of a `{name}` segment is percent-decoded, once,
strictly, and it may not turn into something with a slash, a dot segment or a control character.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from gateway.core.catalogue import Catalogue, Operation


@dataclass(frozen=True, slots=True)
class Found:
    operation: Operation
    online: bool
    parameters: dict[str, str]


class Paths:
    """Operations by path; static paths before those with parameters."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._static: dict[bytes, Found] = {}
        self._dynamic: list[tuple[tuple[str, ...], Operation, bool]] = []
        online = {operation.id for operation in catalogue.operations}
        for operation in (*catalogue.operations, *catalogue.offline):
            if operation.path_parameters:
                self._dynamic.append((tuple(operation.path.split("/")), operation, operation.id in online))
            else:
                self._static[operation.path.encode()] = Found(operation, operation.id in online, {})

    def find(self, raw: bytes) -> Found | None:
        """`raw`: the path as it came over the wire, without its query."""
        return self._static.get(raw) or (self._match(raw) if self._dynamic else None)

    def _match(self, raw: bytes) -> Found | None:
        try:
            segments = raw.decode("ascii").split("/")
        except UnicodeDecodeError:
            return None
        for pattern, operation, online in self._dynamic:
            parameters = _bind(pattern, segments)
            if parameters is not None:
                return Found(operation, online, parameters)
        return None


def raw_path(scope: Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    return raw if raw is not None else str(scope["path"]).encode()


def _bind(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    parameters = {}
    for expected, segment in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            value = _decode(segment)
            if value is None:
                return None
            parameters[expected[1:-1]] = value
        elif expected != segment:
            return None
    return parameters


def _decode(segment: str) -> str | None:
    if re.search(r"%(?![0-9A-Fa-f]{2})", segment):
        return None
    try:
        value = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
    if not value or value in (".", "..") or re.search(r"[/\\\x00-\x1f\x7f]", value):
        return None
    return value
