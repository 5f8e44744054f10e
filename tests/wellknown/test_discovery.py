"""The filter-honesty rules of the Bazaar's conformance vectors, and paging, search and merchants beside them."""

from collections.abc import Callable
from typing import Any

import pytest
from rigs import shop
from x402.extensions.bazaar.facilitator_client import _parse_list_response, _parse_search_response

from gateway.core.errors import Code, Problem
from wellknown import QUERIES, discovery
from wellknown.offer import challenge_parts

CATALOGUE, IDENTITY = shop.catalogue(), shop.identity()
NOBODY = "0x0000000000000000000000000000000000000001"


def listed(**parameters: str) -> dict[str, Any]:
    """`type_` and the like: a trailing underscore is dropped."""
    return discovery.resources(CATALOGUE, IDENTITY, [(k.rstrip("_"), v) for k, v in parameters.items()])  # type: ignore[no-any-return]


def urls(page: dict[str, Any]) -> list[str]:
    return [item["resource"] for item in page["items"]]


def refused(parameters: list[tuple[str, str]], build: Callable[..., Any] = discovery.resources) -> Problem:
    with pytest.raises(Problem) as caught:
        build(CATALOGUE, IDENTITY, parameters)
    assert caught.value.code is Code.BAD_REQUEST
    assert caught.value.message
    return caught.value


def test_v0_the_whole_list_is_what_is_online_with_the_offers_of_the_402() -> None:
    page = listed(limit="50")
    assert page["x402Version"] == 2
    assert page["pagination"] == {"limit": 50, "offset": 0, "total": 4}
    assert "unappliedFilters" not in page
    for item, operation in zip(page["items"], CATALOGUE.operations, strict=True):
        resource, accepts, extensions = challenge_parts(operation, IDENTITY)
        assert item["resource"] == resource.url
        assert item["accepts"] == [accepted.to_json() for accepted in accepts]
        assert item["extensions"] == extensions
        assert (item["type"], item["x402Version"], item["lastUpdated"]) == ("http", 2, IDENTITY.updated)
        assert item["description"] == resource.description


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"type_": "mcp"}, id="V1"),
        pytest.param({"payTo": NOBODY}, id="V2"),
        pytest.param({"scheme": "batch-settlement"}, id="V3"),
        pytest.param({"network": "eip155:999999999"}, id="V4"),
        {"network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"},
        {"network": "base"},
        {"payTo": "9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM"},
        {"extensions": "sign-in-with-x"},
        {"type_": "http", "network": shop.BASE, "payTo": NOBODY},
    ],
)
def test_what_nothing_matches_is_an_empty_page(parameters: dict[str, str]) -> None:
    page = listed(**parameters)
    assert page["items"] == []
    assert page["pagination"]["total"] == 0
    assert "unappliedFilters" not in page


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"extensions": "payment-identifier"}, id="V5"),
        {"extensions": "bazaar"},
        {"type_": "http"},
        {"scheme": "exact"},
        {"payTo": shop.PAYEE.lower()},
        {"payTo": shop.PAYEE.upper().replace("0X", "0x")},
    ],
)
def test_what_everything_has_keeps_everything(parameters: dict[str, str]) -> None:
    assert urls(listed(**parameters)) == urls(listed())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("network", "!!!", id="V6"),
        ("network", ""),
        ("type", "ht tp"),
        ("payTo", "0x<script>"),
        ("scheme", "x" * 200),
        ("extensions", "a,b"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", ""),
        ("limit", "9" * 5000),
        ("offset", "1.5"),
        ("offset", "١"),
    ],
)
def test_what_nothing_could_have_is_a_mistake(name: str, value: str) -> None:
    problem = refused([(name, value)])
    assert problem.details == {"parameter": name}
    assert value == "" or value not in problem.message


def test_v7_a_network_that_only_some_offer_gives_only_those() -> None:
    """Our terms are the same for all operations, so the one that differs is put into the list by hand."""
    every = discovery.items(CATALOGUE, IDENTITY)
    only_base = {**every[1], "accepts": [a for a in every[1]["accepts"] if a["network"] == shop.BASE]}
    some = discovery._filtered([every[0], only_base, every[2]], {"network": shop.AVALANCHE})
    assert some == [every[0], every[2]]


def test_parameters_that_mean_nothing_are_named() -> None:
    page = listed(curency="USD", network=shop.BASE, sort="price")
    assert page["unappliedFilters"] == ["curency", "sort"]
    assert page["pagination"]["total"] == 4


def test_a_strange_name_is_not_repeated_to_whoever_sent_it() -> None:
    page = listed(**{"<img onerror>": "1", "x" * 65: "1"})
    assert "unappliedFilters" not in page
    assert refused([("<b>", "1"), ("<b>", "2")]).details == {}
    assert len(listed(**{f"p{n}": "1" for n in range(100)})["unappliedFilters"]) == 16


def test_a_parameter_given_twice_is_a_mistake() -> None:
    refused([("network", shop.BASE), ("network", shop.AVALANCHE)])


@pytest.mark.parametrize(
    ("limit", "offset", "expected", "effective"),
    [("2", "0", [0, 1], 2), ("2", "3", [3], 2), ("2", "4", [], 2), ("0", "0", [0], 1), ("999999", "1", [1, 2, 3], 100)],
)
def test_pages_are_clamped_and_tell_the_limit_they_used(
    limit: str, offset: str, expected: list[int], effective: int
) -> None:
    page = listed(limit=limit, offset=offset)
    everything = urls(listed())
    assert urls(page) == [everything[index] for index in expected]
    assert page["pagination"] == {"limit": effective, "offset": int(offset), "total": 4}


def test_official_clients_read_the_list_and_the_search() -> None:
    parsed = _parse_list_response(listed())
    assert [item.resource for item in parsed.items] == urls(listed())
    assert parsed.pagination.total == 4
    found = _parse_search_response(discovery.search(CATALOGUE, IDENTITY, [("query", "parcel")]))
    assert [item.resource for item in found.resources] == [IDENTITY.url("/api/v1/parcels/AB-1234")]


def search(query: str, **parameters: str) -> dict[str, Any]:
    return discovery.search(CATALOGUE, IDENTITY, [("query", query), *parameters.items()])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("who is behind this phone number?", "/api/v1/enrich/phone"),
        ("FORECAST", "/api/v1/weather"),
        ("logistics", "/api/v1/parcels/AB-1234"),
        ("/shops/corner", "/api/v1/shops/corner-shop/quotes"),
    ],
)
def test_search_finds_by_words_tags_and_addresses(query: str, first: str) -> None:
    assert search(query)["resources"][0]["resource"] == IDENTITY.url(first)


@pytest.mark.parametrize("query", ["zeppelin", "a", "?!", "数据"])
def test_search_finds_nothing_where_there_is_nothing(query: str) -> None:
    found = search(query)
    assert found["resources"] == []
    assert found["partialResults"] is False
    assert found["pagination"]["cursor"] is None


def test_search_goes_on_where_its_cursor_says() -> None:
    whole = search("api")["resources"]
    assert len(whole) == 4
    first = search("api", limit="3")
    assert (first["partialResults"], first["pagination"]) == (True, {"limit": 3, "cursor": "3"})
    second = search("api", limit="3", cursor="3")
    assert (second["partialResults"], second["pagination"]["cursor"]) == (False, None)
    assert first["resources"] + second["resources"] == whole


def test_search_takes_the_same_filters() -> None:
    assert search("api", network="eip155:999999999")["resources"] == []
    assert search("api", colour="red")["unappliedFilters"] == ["colour"]


@pytest.mark.parametrize(
    "parameters", [[], [("query", "")], [("query", "  ")], [("query", "x" * 501)], [("query", "a"), ("cursor", "x")]]
)
def test_search_needs_a_query_it_can_use(parameters: list[tuple[str, str]]) -> None:
    refused(parameters, discovery.search)


def test_merchant_lists_what_one_address_is_paid_for() -> None:
    mine = discovery.merchant(CATALOGUE, IDENTITY, [("payTo", shop.OTHER_PAYEE.lower()), ("limit", "3")])
    assert mine["payTo"] == shop.OTHER_PAYEE.lower()
    assert len(mine["resources"]) == 3
    assert mine["pagination"] == {"limit": 3, "offset": 0, "total": 4}
    assert discovery.merchant(CATALOGUE, IDENTITY, [("payTo", NOBODY)])["resources"] == []
    refused([], discovery.merchant)
    refused([("payTo", "!!!")], discovery.merchant)


def test_a_sandbox_says_so_in_every_listing() -> None:
    parameters = {"/discovery/search": [("query", "phone")], "/discovery/merchant": [("payTo", shop.PAYEE)]}
    for query in QUERIES:
        given = parameters.get(query.path, [])
        assert query.build(CATALOGUE, shop.sandbox(), given)["sandbox"] is True
        assert "sandbox" not in query.build(CATALOGUE, IDENTITY, given)


def test_without_terms_nothing_is_listed() -> None:
    assert discovery.resources(CATALOGUE, shop.identity(terms=()), [])["items"] == []
