"""Operations: what cannot be sold is refused when it is declared, not when somebody pays for it."""

from dataclasses import replace

import pytest
from pydantic import BaseModel

from gateway.core.catalogue import Catalogue, Operation, Price


class Query(BaseModel):
    city: str = ""
    day: int = 0


WEATHER = Operation(
    id="weather/forecast",
    method="POST",
    path="/api/v1/weather/forecast",
    summary="The weather",
    description="The weather of a city.",
    input=Query,
    output={"type": "object"},
    price=Price(10_000),
    example={"city": "Springfield"},
    example_output={"matched": True},
)
BY_CITY = replace(WEATHER, id="weather/city", method="GET", path="/api/v1/cities/{city}/days/{day}")


@pytest.mark.parametrize("base", [0, -1, 10**15 + 1])
def test_a_price_is_above_zero_and_below_all_reason(base: int) -> None:
    with pytest.raises(ValueError):
        Price(base)


def test_a_ceiling_is_no_lower_than_the_base() -> None:
    with pytest.raises(ValueError):
        Price(2, metered=True, ceiling_micros=1)
    assert Price(2, metered=True, ceiling_micros=2).ceiling_micros == 2
    assert Price(2).ceiling_micros == 2
    with pytest.raises(ValueError, match="only a metered price"):
        Price(2, ceiling_micros=3)
    for markup in (99, 10_001):
        with pytest.raises(ValueError, match="markup"):
            Price(2, metered=True, ceiling_micros=2, markup_percent=markup)


@pytest.mark.parametrize(
    ("cost", "at_most", "charged"),
    [(0, 1000, 100), (76, 1000, 100), (77, 1000, 101), (100, 1000, 130), (1000, 1000, 1000), (500, 600, 600)],
)
def test_a_metered_call_costs_the_marked_up_cost_between_base_and_hold(cost: int, at_most: int, charged: int) -> None:
    assert Price(100, metered=True, ceiling_micros=1000).charge_micros(cost, at_most) == charged


@pytest.mark.parametrize("at_most", [100, 101, 999, 1000])
def test_a_vendor_within_its_budget_leaves_the_call_within_its_hold(at_most: int) -> None:
    price = Price(100, metered=True, markup_percent=137, ceiling_micros=1000)
    assert -(-price.budget_micros(at_most) * 137 // 100) <= at_most
    assert Price(100).budget_micros(100) == Price(100).charge_micros(7, 100) == 100


@pytest.mark.parametrize(
    "path", ["", "api", "/", "/api/", "//api", "/api v1", "/{City}", "/{}", "/a/{b}c", "/a?b", "/a#b", "/ä", "/a\n"]
)
def test_a_path_that_no_router_reads_alike_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no path"):
        replace(WEATHER, path=path)


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "get", "", "TRACE"])
def test_a_method_nobody_pays_by_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="no method"):
        replace(WEATHER, method=method)


@pytest.mark.parametrize(
    ("method", "body"), [("GET", False), ("DELETE", False), ("POST", True), ("PUT", True), ("PATCH", True)]
)
def test_which_methods_take_a_body(method: str, body: bool) -> None:
    assert replace(WEATHER, method=method).takes_body is body


def test_documents_link_to_an_address_that_answers() -> None:
    assert BY_CITY.path_parameters == ("city", "day")
    assert BY_CITY.example_url_path == "/api/v1/cities/Springfield/days/x"
    assert replace(BY_CITY, example_path={"day": "3"}).example_url_path == "/api/v1/cities/Springfield/days/3"


def test_a_catalogue_keeps_the_order_it_was_given() -> None:
    catalogue = Catalogue((BY_CITY, WEATHER))
    assert [operation.id for operation in catalogue.operations] == ["weather/city", "weather/forecast"]
    assert catalogue.get("weather/city") is BY_CITY
    assert catalogue.get("weather/none") is None


def test_two_operations_share_neither_id_nor_path() -> None:
    with pytest.raises(ValueError, match="one id"):
        Catalogue((WEATHER, replace(WEATHER, path="/api/v1/other")))
    with pytest.raises(ValueError, match="have the path"):
        Catalogue((WEATHER, replace(WEATHER, id="other")))
    with pytest.raises(ValueError, match="have the path"):
        Catalogue((BY_CITY, replace(BY_CITY, id="other", path="/api/v1/cities/{town}/days/{date}")))
    with pytest.raises(ValueError, match="have the path"):
        Catalogue((WEATHER,), offline=(replace(WEATHER, id="other"),))


def test_what_is_sold_is_not_announced_as_offline() -> None:
    assert Catalogue((WEATHER,), offline=(WEATHER,)).offline == ()
