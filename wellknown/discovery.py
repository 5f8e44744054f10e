"""The Bazaar's discovery API over our own catalogue: list, search, and list by payee.

The filters are honest. A filter that was applied holds for every item returned, and nothing matching is an empty
page with a total of 0. A parameter that means nothing here is named in `unappliedFilters`. A value that nothing
could ever have (`network=!!!`) is a mistake worth telling: Problem BAD_REQUEST.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from gateway.core.catalogue import Catalogue, Operation
from gateway.core.errors import Code, Problem
from gateway.core.upstream import Json
from wellknown.identity import Identity
from wellknown.offer import challenge_parts

Parameters = Iterable[tuple[str, str]]
"""A query string's names and values, decoded, in their order."""

PAGE_DEFAULT = PAGE_MAX = 100
SEARCH_DEFAULT = SEARCH_MAX = 20
QUERY_MAX_CHARS = 500
WORDS_MAX = 32
UNAPPLIED_MAX = 16


@dataclass(frozen=True, slots=True)
class Query:
    """A document that depends on its query string. `build` raises Problem BAD_REQUEST for a malformed one."""

    path: str
    summary: str
    build: Callable[[Catalogue, Identity, Parameters], Json]
    """Gives the JSON of the 200 answer."""
    parameters: Mapping[str, str]
    """Name -> what it says, for /openapi.json."""
    required: tuple[str, ...] = ()
    cache_s: int = 60


@dataclass(frozen=True, slots=True)
class _Filter:
    """`form`: what a value may look like. `holds(item, value)`: whether an item has it."""

    form: re.Pattern[str]
    holds: Callable[[Json, str], bool]


def _in_accepts(key: str) -> Callable[[Json, str], bool]:
    return lambda item, value: any(accepted[key] == value for accepted in item["accepts"])


def _pays_to(item: Json, value: str) -> bool:
    return any(accepted["payTo"].lower() == value.lower() for accepted in item["accepts"])


# Wide on purpose: a value of another chain or of an older version is well formed, it just matches nothing here.
_FILTERS: Mapping[str, _Filter] = {
    "type": _Filter(re.compile(r"[A-Za-z0-9_-]{1,32}"), lambda item, value: item["type"] == value),
    "payTo": _Filter(re.compile(r"[A-Za-z0-9:._-]{1,128}"), _pays_to),
    "scheme": _Filter(re.compile(r"[A-Za-z0-9_-]{1,64}"), _in_accepts("scheme")),
    "network": _Filter(re.compile(r"[A-Za-z0-9-]{1,32}(:[A-Za-z0-9_-]{1,64})?"), _in_accepts("network")),
    "extensions": _Filter(
        re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}"), lambda item, value: value in item["extensions"]
    ),
}


def resources(catalogue: Catalogue, identity: Identity, parameters: Parameters) -> Json:
    """GET /discovery/resources: {x402Version, items, pagination: {limit, offset, total}, unappliedFilters?}."""
    given = _given(parameters)
    limit, offset = _paging(given)
    found = _filtered(items(catalogue, identity), given)
    page = found[offset : offset + limit]
    return {
        **_head(identity),
        "items": page,
        "pagination": {"limit": limit, "offset": offset, "total": len(found)},
        **_unapplied(given, (*_FILTERS, "limit", "offset")),
    }


def search(catalogue: Catalogue, identity: Identity, parameters: Parameters) -> Json:
    """GET /discovery/search: {x402Version, resources, partialResults, pagination: {limit, cursor}, ...}."""
    given = _given(parameters)
    query = _required(given, "query")
    if len(query) > QUERY_MAX_CHARS:
        raise _malformed("query", f"a query has at most {QUERY_MAX_CHARS} characters")
    limit = min(_number(given, "limit", SEARCH_DEFAULT) or 1, SEARCH_MAX)
    start = _number(given, "cursor", 0)
    found = _ranked(_filtered(items(catalogue, identity), given), query)
    more = len(found) > start + limit
    return {
        **_head(identity),
        "resources": found[start : start + limit],
        "partialResults": more,
        "pagination": {"limit": limit, "cursor": str(start + limit) if more else None},
        **_unapplied(given, (*_FILTERS, "query", "limit", "cursor")),
    }


def merchant(catalogue: Catalogue, identity: Identity, parameters: Parameters) -> Json:
    """GET /discovery/merchant: {payTo, resources, pagination: {limit, offset, total}}."""
    given = _given(parameters)
    payee = _required(given, "payTo")
    limit, offset = _paging(given)
    found = _filtered(items(catalogue, identity), given)
    return {
        **_head(identity),
        "payTo": payee,
        "resources": found[offset : offset + limit],
        "pagination": {"limit": limit, "offset": offset, "total": len(found)},
        **_unapplied(given, (*_FILTERS, "limit", "offset")),
    }


_FILTER_WORDS = {
    "type": "Only resources of this type, such as http.",
    "payTo": "Only resources paid to this address, in any case.",
    "scheme": "Only resources with an offer of this scheme, such as exact.",
    "network": "Only resources with an offer on this network, such as eip155:8453.",
    "extensions": "Only resources with this extension, such as bazaar.",
}
_PAGE_WORDS = {"limit": f"Items a page, at most {PAGE_MAX}.", "offset": "Items to pass over."}

QUERIES: tuple[Query, ...] = (
    Query(
        "/discovery/resources",
        "Every payable resource, filtered and in pages",
        resources,
        {**_FILTER_WORDS, **_PAGE_WORDS},
    ),
    Query(
        "/discovery/search",
        "Payable resources by what they do",
        search,
        {
            "query": "What you need, in your own words.",
            **_FILTER_WORDS,
            "limit": f"Results a page, at most {SEARCH_MAX}.",
            "cursor": "From the page before.",
        },
        required=("query",),
    ),
    Query(
        "/discovery/merchant",
        "Payable resources by who is paid",
        merchant,
        {**_FILTER_WORDS, **_PAGE_WORDS},
        required=("payTo",),
    ),
)


@lru_cache(maxsize=4)
def items(catalogue: Catalogue, identity: Identity) -> tuple[Json, ...]:
    """Every operation that can be paid by x402, as discovery lists it. Not to be changed by the reader."""
    return tuple(_item(operation, identity) for operation in catalogue.operations) if identity.terms else ()


def _item(operation: Operation, identity: Identity) -> Json:
    resource, accepts, extensions = challenge_parts(operation, identity)
    described = resource.to_json()
    return {
        "resource": described.pop("url"),
        "type": "http",
        "x402Version": 2,
        "accepts": [accepted.to_json() for accepted in accepts],
        "lastUpdated": identity.updated,
        **described,
        "extensions": dict(extensions),
    }


def _head(identity: Identity) -> Json:
    return {"x402Version": 2, **({"sandbox": True} if identity.sandbox else {})}


def _given(parameters: Parameters) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parameters:
        if name in given:
            raise _malformed(name, "a parameter is given once")
        given[name] = value
    return given


def _required(given: Mapping[str, str], name: str) -> str:
    value = given.get(name, "").strip()
    if not value:
        raise _malformed(name, f"the parameter {name} is required")
    return value


def _paging(given: Mapping[str, str]) -> tuple[int, int]:
    return min(_number(given, "limit", PAGE_DEFAULT) or 1, PAGE_MAX), _number(given, "offset", 0)


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
        raise _malformed(name, f"{name} is a whole number from 0")
    return int(text)


def _filtered(listed: Iterable[Json], given: Mapping[str, str]) -> list[Json]:
    applied = [(filter_, given[name]) for name, filter_ in _FILTERS.items() if name in given]
    for name, filter_ in _FILTERS.items():
        if name in given and not filter_.form.fullmatch(given[name]):
            raise _malformed(name, f"this is no value a {name} could have")
    return [item for item in listed if all(filter_.holds(item, value) for filter_, value in applied)]


def _ranked(listed: Iterable[Json], query: str) -> list[Json]:
    """Items with any word of the query, those with more of them first. One or two letters alone say nothing."""
    words = [word for word in re.findall(r"\w+", query.lower()) if len(word.encode()) > 2][:WORDS_MAX]
    scores = [(sum(word in _text(item) for word in words), item) for item in listed]
    return [item for score, item in sorted(scores, key=lambda pair: -pair[0]) if score]


def _text(item: Json) -> str:
    return " ".join((item["resource"], item.get("description", ""), *item.get("tags", ()))).lower()


def _unapplied(given: Mapping[str, str], applied: tuple[str, ...]) -> Json:
    """The parameters that did nothing, by name, as far as it is a name one may repeat."""
    names = [name for name in given if name not in applied and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name)]
    return {"unappliedFilters": names[:UNAPPLIED_MAX]} if names else {}


def _malformed(name: str, message: str) -> Problem:
    shown = {"parameter": name} if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else {}
    return Problem(Code.BAD_REQUEST, message, details=shown)
