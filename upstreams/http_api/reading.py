"""`[[http_upstreams]]` tables -> settings, or every mistake in every table, each with its mend.

No message shows a value of a header, a url, a query, a body or a secret: it may end in a log.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails, SchemaError

from gateway.core.addresses import host_of, refuse_url
from gateway.core.errors import SettingsError
from upstreams.http_api.inputs import InputField
from upstreams.http_api.settings import HttpUpstream
from upstreams.http_api.templates import Parts, Slot

Table = Mapping[str, Any]


class Mistake(NamedTuple):
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


_PLACEHOLDERS: Table = {"id": "x", "url": "https://example.com/", "price": "1"}
"""Stand in for what is missing or refused, so that the rest can still be looked at."""
_ALIASES = {"price": "price_micros", "cost": "cost_micros", "ceiling": "ceiling_micros"}
_WOVEN = frozenset({"url", "query", "body", "input", "path", "method"})
"""Settings that speak of one another: with one of them refused, the others cannot be judged."""


def read(tables: Sequence[Table]) -> tuple[HttpUpstream, ...]:
    """`[[http_upstreams]]` with its `${NAME}` resolved. Raises SettingsError with every mistake in every table."""
    found = mistakes(tables)
    if found:
        raise SettingsError(tuple(f"[[http_upstreams]] {mistake}" for mistake in found))
    return tuple(HttpUpstream.model_validate(table) for table in tables)


def mistakes(tables: Sequence[Table]) -> tuple[str, ...]:
    """One sentence a mistake: `no. 2 (weather/now), url: is missing; ...`. None of them: `read` takes the tables."""
    told: list[str] = []
    seen: dict[object, int] = {}
    for number, table in enumerate(tables, 1):
        id = table.get("id")
        where = f"no. {number} ({id})" if isinstance(id, str) else f"no. {number}"
        found = list(_in_table(table))
        if isinstance(id, str) and seen.setdefault(id, number) != number:
            found.append(Mistake("id", f"no. {seen[id]} has this id already; choose another"))
        told += [f"{where}, {mistake}" for mistake in found]
    return tuple(told)


def _in_table(table: Table) -> Iterator[Mistake]:
    refused: set[str] = set()
    try:
        upstream = HttpUpstream.model_validate(table)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        yield from (Mistake(_where(each), _what(each)) for each in details)
        refused = {str(each["loc"][0]) for each in details}
        upstream = _of_the_rest(table, refused)
    for check in _CHECKS if not refused & _WOVEN else _LONE_CHECKS:
        yield from (mistake for mistake in check(upstream) if mistake.where.split()[0] not in refused)


def _of_the_rest(table: Table, refused: set[str]) -> HttpUpstream:
    rest = {key: value for key, value in table.items() if key not in refused}
    missing = {key: value for key, value in _PLACEHOLDERS.items() if key not in rest}
    return HttpUpstream.model_validate({**rest, **missing})


# What pydantic found


def _where(error: ErrorDetails) -> str:
    first, *rest = error["loc"]
    parts = [f"no. {part + 1}" if isinstance(part, int) else str(part) for part in rest]
    # Which type of a union it might have been is no help.
    return " ".join([str(first), *(part for part in parts if part not in ("str", "int", "float", "bool", "list[str]"))])


def _what(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    fields = {**HttpUpstream.model_fields, **{name: HttpUpstream.model_fields[of] for name, of in _ALIASES.items()}}
    told = fields[name].description if name in fields else None
    mend = f"; it is {told}" if told else ""
    match error["type"]:
        case "missing":
            return f"is missing{mend}"
        case "extra_forbidden" if len(error["loc"]) == 1:
            return f"there is no such setting{_meant(name, set(fields) - set(_ALIASES.values()))}"
        case "extra_forbidden":
            return "there is no such setting here; remove it"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case _:
            return f"{error['msg'][:1].lower()}{error['msg'][1:]}{mend}"


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known)) or 'none'}"


# What only shows when settings are seen together


def _goes_somewhere(upstream: HttpUpstream) -> Iterator[Mistake]:
    origin = upstream.target.base[0] if upstream.target.base else ""
    has_slots = any(isinstance(part, Slot) for part in upstream.target.base)
    if has_slots and not (isinstance(origin, str) and re.match(r"[a-z]+://[^/?#]+/", origin)):
        yield Mistake("url", "the host is fixed: no {name} may stand before the first / after it")
        return
    refusal = refuse_url(upstream.target.render(dict.fromkeys(upstream.target.names, "x")), private=upstream.private)
    if refusal is not None:
        yield Mistake("url", refusal.message)


def _placeholders_are_inputs(upstream: HttpUpstream) -> Iterator[Mistake]:
    body = upstream.body_template
    used = {
        "url": upstream.target.path_names,
        "query": upstream.target.names - upstream.target.path_names,
        "body": body.names if body is not None else frozenset(),
        "path": frozenset(re.findall(r"\{(\w+)\}", upstream.path or "")),
    }
    for where, names in used.items():
        for name in sorted(names - set(upstream.input)):
            yield Mistake(where, f"{{{name}}} is none of the inputs{_meant(name, upstream.input)}")
    for name in sorted(set(upstream.input) - frozenset().union(*used.values())):
        yield Mistake("input", f"{name} is used nowhere; put {{{name}}} into the url, the query or the body")


def _placeholders_have_values(upstream: HttpUpstream) -> Iterator[Mistake]:
    for name in sorted(upstream.path_fields & set(upstream.input)):
        field = upstream.input[name]
        if field.type not in ("string", "integer"):
            yield Mistake(f"input {name}", f"stands in a path and is {_a(field)}; only strings and integers can")
        elif not field.is_required:
            yield Mistake(f"input {name}", "stands in a path, which cannot do without it: say required = true")
    for _, parts in upstream.target.query:
        for name in _listed_in(parts, upstream.input):
            yield Mistake(f"input {name}", f"is {_a(upstream.input[name])}, which a query cannot hold in a text")
    if upstream.method == "GET":
        for name, field in upstream.input.items():
            if field.type in ("array", "object"):
                yield Mistake(f"input {name}", f'is {_a(field)}, which a GET cannot be given: say method = "POST"')
        if upstream.body is not None:
            yield Mistake("body", 'a GET has none: say method = "POST", or use query')


def _listed_in(parts: Parts, fields: Mapping[str, InputField]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Slot) and part.name in fields:
            kind = fields[part.name].type
            if kind == "object" or (kind == "array" and len(parts) > 1):
                yield part.name


def _a(field: InputField) -> str:
    return f"{'an' if field.type[0] in 'aeiou' else 'a'} {field.type}"


def _input_is_a_model(upstream: HttpUpstream) -> Iterator[Mistake]:
    try:
        upstream.model.model_validate(upstream.input_example)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_context=False):
            name = str(each["loc"][0]) if each["loc"] else ""
            if each["type"] == "missing":
                yield Mistake("example", f"has no {name}; give every required field, with invented people only")
            else:
                yield Mistake("example", f"{name}: {each['msg'][:1].lower()}{each['msg'][1:]}")
    except (ValueError, SchemaError) as error:
        yield Mistake("input", f"makes no schema: {' '.join(str(error).split())[:200]}")


def _answers_can_be_told_apart(upstream: HttpUpstream) -> Iterator[Mistake]:
    both = sorted(set(upstream.match_statuses) & set(upstream.miss_statuses))
    if both:
        yield Mistake("miss_statuses", f"{', '.join(map(str, both))} cannot be a match and a miss")
    if upstream.response == "text" and any(check.pointer for check in (*upstream.match, *upstream.failure)):
        yield Mistake("match", 'a pointer leads into JSON, and response = "text" has none')


def _costs_agree(upstream: HttpUpstream) -> Iterator[Mistake]:
    if upstream.free and upstream.cost_micros:
        yield Mistake("cost", "says that a call costs, and free = true that it does not; remove one")


def _meters(upstream: HttpUpstream) -> Iterator[Mistake]:
    if upstream.billing == "fixed":
        for name in ("markup_percent", "ceiling", "cost_pointer"):
            if _ALIASES.get(name, name) in upstream.model_fields_set:
                yield Mistake(name, 'is for billing = "metered"; say so, or remove it')
        return
    if upstream.ceiling_micros is None:
        yield Mistake("ceiling", 'is missing: the most that a metered call may cost, such as "1.50"')
    elif upstream.ceiling_micros < upstream.price_micros:
        yield Mistake("ceiling", "is below the price, which is the least that a match costs; raise it")
    if upstream.cost_pointer is None and not upstream.cost_micros:
        yield Mistake("cost_pointer", 'is missing: where the answer says what it took, such as "/usage/cost_usd"')
    if upstream.cost_pointer is not None and upstream.response == "text":
        yield Mistake("cost_pointer", 'a pointer leads into JSON, and response = "text" has none')


def _vendor_stays_unnamed(upstream: HttpUpstream) -> Iterator[Mistake]:
    """Documents are made of these texts, and nobody needs to know from them whom we buy from."""
    host = host_of(upstream.target.render(dict.fromkeys(upstream.target.names, "x")))
    public = ("id", "path", "summary", "description", "tags", "input", "example", "example_output", "output")
    for where in public:
        value = getattr(upstream, where)
        if where == "input":
            value = {name: field.model_dump() for name, field in value.items()}
        text = orjson.dumps(value, default=str)
        if host is not None and host.encode() in text.lower():
            yield Mistake(where, "names the vendor's host, and everybody can read it here; leave it out")
        if upstream.leaks.found_in(text):
            yield Mistake(where, "has a secret in it, and everybody can read it here; remove it")


_LONE_CHECKS = (_answers_can_be_told_apart, _costs_agree, _meters)
_CHECKS = (
    _goes_somewhere,
    _placeholders_are_inputs,
    _placeholders_have_values,
    _input_is_a_model,
    *_LONE_CHECKS,
    _vendor_stays_unnamed,
)
