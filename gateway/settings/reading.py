"""Files and environment -> Settings, or every mistake in one report.

faregate.toml comes first; `FAREGATE_SERVICE__PORT=9000` in the environment stands above `port` of [service], and
`${NAME}` inside any string of the file is the environment variable NAME, which is where secrets belong (`$${NAME}`
is the text `${NAME}`).

Nothing stops at the first mistake. Broken lines are left out and the rest is read on; what a table does not take is
left out and the rest is checked on, so that the dangers of combinations show in the same report. A mistake that only
follows from another (at the same place) is not told.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.core.errors import SettingsError
from gateway.settings.dangers import Mistake, dangers
from gateway.settings.tables import SANDBOX_NETWORK, SANDBOX_PAY_TO, Settings

Tables = dict[str, Any]
Loc = tuple[int | str, ...]
Check = Callable[[Settings], Iterable[str]]
"""Looks further, at what only others understand (tables of upstreams, prices of their operations), in what is left
when the mistakes found so far are left out -> one line a mistake: its place, a colon, what is wrong and its mend."""

ENV_PREFIX = "FAREGATE_"
_REFERENCE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)\}")
_AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")
_BROKEN_LINES_MAX = 20
_OWN_FIELDS = ("source", "changed_s")
"""Of Settings: not the operator's to set."""


def _nothing(settings: Settings) -> Iterable[str]:
    return ()


def load(path: Path | None, environ: Mapping[str, str], *, also: Check = _nothing) -> Settings:
    """Reads `path` (None: no file, the defaults) and `environ`. Raises SettingsError with every mistake there is."""
    if path is None:
        return parse({}, environ, also=also)
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark in front
        changed_s = path.stat().st_mtime
    except OSError as error:
        raise SettingsError((f"{path}: {error.strerror}; `faregate init` writes one",)) from None
    except UnicodeDecodeError as error:
        raise SettingsError((f"{path}: byte {error.start + 1} is no UTF-8; save the file as UTF-8",)) from None
    tables, broken, unread = _read_toml(text, path)
    return parse(
        tables, environ, base=path.absolute().parent, also=also, source=path, changed_s=changed_s,
        broken=broken, unread=unread,
    )  # fmt: skip


def parse(
    tables: Tables,
    environ: Mapping[str, str] = {},
    *,
    base: Path = Path(),
    also: Check = _nothing,
    source: Path | None = None,
    changed_s: float = 0.0,
    broken: Sequence[Mistake] = (),
    unread: frozenset[str] = frozenset(),
) -> Settings:
    """Tables as TOML has them -> Settings. `broken` was found before; the keys in `unread` stood in those lines."""
    report = Report(broken)
    tables, report.names = _with_environment(tables, environ, report)
    tables = _resolved_tables(tables, environ, report)
    _add_sandbox_network(tables)
    settings = _validated(tables, base, unread, report)
    if settings is not None:
        report.follow(dangers(settings))
        report.follow(Mistake(where, what) for where, _, what in (line.partition(": ") for line in also(settings)))
    if report.mistakes or settings is None:
        raise SettingsError(tuple(str(mistake) for mistake in report.mistakes))
    return settings.model_copy(update={"source": source, "changed_s": changed_s})


class Report:
    """The mistakes so far, in the order they were found."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = [*mistakes]
        self.names: Mapping[str, str] = {}
        """Places that the environment has filled, and the variable's name."""

    def follow(self, mistakes: Iterable[Mistake]) -> None:
        """Adds what a later look found, but for places in which an earlier one has told of something: that follows."""
        told = [f"{mistake.where} " for mistake in self.mistakes]
        named = [Mistake(self.names.get(where, where), what) for where, what in mistakes]
        self.mistakes += [
            mistake for mistake in named if not any(place.startswith(f"{mistake.where} ") for place in told)
        ]


# The file


def _read_toml(text: str, path: Path) -> tuple[Tables, list[Mistake], frozenset[str]]:
    """The tables, the broken lines, and the keys that stood in them.

    A broken line is left out and the rest read again, so that each broken line is told. Where a whole structure is
    broken (a header, an open bracket or string), what follows would be misread: then nothing more is.
    """
    lines = text.split("\n")
    broken: list[Mistake] = []
    unread: set[str] = set()
    while len(broken) < _BROKEN_LINES_MAX:
        try:
            return tomllib.loads("\n".join(lines)), broken, frozenset(unread)
        except RecursionError:
            raise SettingsError((f"{path}: values stand too deep in one another; no setting needs that",)) from None
        except tomllib.TOMLDecodeError as error:
            message = str(error)
            at = _AT_LINE.search(message)
            number = int(at[1]) if at else len(lines)
            mend = _mend(lines[number - 1]) if "twice" not in message else "; put these keys under the first of the two"
            broken.append(Mistake(f"{path} line {number}", _AT_LINE.sub("", message) + mend))
            key, equals, _ = lines[number - 1].partition("=")
            if at is None or not equals or key.lstrip().startswith(("[", "#")) or "nclosed" in message:
                break
            unread.add(key.strip().strip("\"'"))
            lines[number - 1] = ""
    raise SettingsError(tuple(str(mistake) for mistake in broken))


def _mend(line: str) -> str:
    shown = re.sub(r"=.*", "= ...", line.strip())  # the value may be a secret
    return f'; mend `{shown}`: strings stand in quotes, lists in brackets, keys as key = "value"' if shown else ""


# The environment


def _with_environment(tables: Tables, environ: Mapping[str, str], report: Report) -> tuple[Tables, dict[str, str]]:
    """`FAREGATE_<TABLE>__<KEY>` laid over the file, and where each of them went. Other names are none of ours."""
    merged = {name: dict(table) if isinstance(table, dict) else table for name, table in tables.items()}
    names: dict[str, str] = {}
    for name, text in sorted(environ.items()):
        table, delimiter, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if not name.startswith(ENV_PREFIX) or not delimiter:
            continue
        field = Settings.model_fields.get(table)
        model = field.annotation if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or key not in model.model_fields:
            report.mistakes.append(Mistake(name, f"there is no setting {key} in [{table}]; remove it or mend its name"))
            continue
        target = merged.setdefault(table, {})
        if isinstance(target, dict):
            target[key] = text
            names[_where((table, key), merged)] = name
    return merged, names


def _resolved_tables(tables: Tables, environ: Mapping[str, str], report: Report) -> Tables:
    mistakes: list[Mistake] = []
    resolved = {
        name: _resolved(value, environ, lambda loc: _where(loc, tables), (name,), mistakes)
        for name, value in tables.items()
    }
    report.follow(mistakes)
    return resolved


def _resolved(
    value: Any, environ: Mapping[str, str], where: Callable[[Loc], str], loc: Loc, mistakes: list[Mistake]
) -> Any:
    """The value with every `${NAME}` in it replaced."""
    if isinstance(value, dict):
        return {key: _resolved(each, environ, where, (*loc, key), mistakes) for key, each in value.items()}
    if isinstance(value, list):
        return [_resolved(each, environ, where, (*loc, place), mistakes) for place, each in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replaced(found: re.Match[str]) -> str:
        escape, name = found.groups()
        if escape:
            return found[0][1:]
        if not environ.get(name):
            mistakes.append(Mistake(where(loc), f"{name} is not set in the environment; export it, or name another"))
        return environ.get(name, "")

    return _REFERENCE.sub(replaced, value)


def _add_sandbox_network(tables: Tables) -> None:
    settlement = tables.get("settlement")
    if isinstance(settlement, dict) and settlement.get("kind") == "sandbox":
        tables.setdefault("networks", [{"id": SANDBOX_NETWORK, "pay_to": SANDBOX_PAY_TO}])


# The tables


def _validated(tables: Tables, base: Path, unread: frozenset[str], report: Report) -> Settings | None:
    """Settings made of whatever is right. Each round leaves out what the one before refused."""
    ours = [name for name in _OWN_FIELDS if name in tables]
    report.follow(Mistake(f"[{name}]", "there is no such table; remove it") for name in ours)
    # A table that is left out is an empty one: its defaults are validated like anything else, paths above all.
    tables = {**_empty_tables(), **{name: table for name, table in tables.items() if name not in ours}}
    refused: set[Loc] = set()
    for _ in range(4):
        try:
            return Settings.model_validate(tables, context={"base": base})
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False)
            report.follow(
                Mistake(_where(each["loc"], tables), _what(each))
                for each in errors
                if not (each["type"] == "missing" and (each["loc"][-1] in unread or each["loc"] in refused))
                and not (each["type"] == "too_short" and _holds_another(each, errors))
            )
            refused.update(each["loc"] for each in errors)
            for each in sorted(errors, key=lambda each: [str(part).zfill(9) for part in each["loc"]], reverse=True):
                _leave_out(tables, each)
    return None


def _empty_tables() -> Tables:
    fields = Settings.model_fields.items()
    return {
        name: {}
        for name, field in fields
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def _holds_another(error: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether it is about a list whose entries are mistaken themselves."""
    loc = error["loc"]
    return any(len(each["loc"]) > len(loc) and each["loc"][: len(loc)] == loc for each in errors)


def _leave_out(tables: Tables, error: ErrorDetails) -> None:
    """Takes the refused value out; where one is missing, the table that lacks it."""
    path = error["loc"][:-1] if error["type"] == "missing" else error["loc"]
    holder: Any = tables
    for depth, part in enumerate(path[:-1], 1):
        try:
            inner = holder[part]
        except (KeyError, IndexError, TypeError):
            return
        if not isinstance(inner, (dict, list)):
            path = path[:depth]  # one string that stood for a list: it goes as a whole
            break
        holder = inner
    if isinstance(holder, dict):
        holder.pop(path[-1], None)
    elif isinstance(holder, list) and isinstance(path[-1], int) and path[-1] < len(holder):
        del holder[path[-1]]


def _where(loc: Loc, tables: Tables) -> str:
    """("service", "port") -> "[service] port"; ("networks", 0, "pay_to") -> "[[networks]] eip155:8453, pay_to";
    ("providers", "whitepages", "key") -> "[providers.whitepages] key"."""
    table, *rest = loc
    if not rest:
        return f"[{table}]"
    text = f"[{table}]"
    if isinstance(rest[0], int):
        text, rest = f"[[{table}]] {_item(tables, table, rest[0])},", rest[1:]
    elif table == "providers":
        text, rest = f"[{table}.{rest[0]}]", rest[1:]
    for part in rest:
        text += f" no. {part + 1}," if isinstance(part, int) else f" {part}"
    return text.rstrip(",")


def _item(tables: Tables, table: int | str, place: int) -> str:
    """What an entry of a [[table]] is called: its id, else its number."""
    try:
        entry = tables[str(table)][place]
    except (KeyError, IndexError, TypeError):
        entry = None
    id = entry.get("id") if isinstance(entry, dict) else None
    return id if isinstance(id, str) and id else f"no. {place + 1}"


def _what(error: ErrorDetails) -> str:
    model, field = _field(error["loc"])
    mend = f"; it is {field.description}" if field is not None and field.description else ""
    match error["type"]:
        case "missing":
            return f"is missing{mend}"
        case "extra_forbidden":
            return _unknown(str(error["loc"][-1]), model)
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "tuple_type" if len(error["loc"]) == 1:
            return f"there can be several: write [[{error['loc'][0]}]], in two brackets, over each"
        case "model_type" | "dict_type" if len(error["loc"]) == 1:
            return f"this is one table: write [{error['loc'][0]}], in one bracket, over its keys"
        case _:
            shown = f"{error['input']!r}: " if _may_be_shown(error["input"], field) else ""
            return f"{shown}{error['msg'][:1].lower()}{error['msg'][1:]}{mend}"


def _unknown(key: str, model: type[BaseModel]) -> str:
    known = [name for name in model.model_fields if name not in _OWN_FIELDS]
    close = difflib.get_close_matches(key, known, 1)
    mend = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    return f"there is no such {'table' if model is Settings else 'setting'}; {mend}"


def _field(loc: Loc) -> tuple[type[BaseModel], Any]:
    """The table and the field that a location is in; no field for an unknown key."""
    model: type[BaseModel] = Settings
    field = None
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        field = model.model_fields[part]
        inner = _table_of(field.annotation)
        if inner is not None:
            model, field = inner, None
    return model, field


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """The table in `Service` or in `tuple[NetworkTable, ...]`."""
    for each in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _may_be_shown(value: Any, field: Any) -> bool:
    """Not a secret, nor what may hold one: a table, or anything in a table's place."""
    secret = field is None or not field.repr or "SecretStr" in repr(field.annotation)
    return not secret and isinstance(value, (str, int, float))
