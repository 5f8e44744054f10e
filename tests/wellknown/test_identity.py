import pytest
from rigs import shop
from x402.extensions.bazaar.facilitator import _is_valid_icon_url, _is_valid_service_name


@pytest.mark.parametrize(
    "url",
    [
        "api.example.com",
        "https://api.example.com/",
        "https://api.example.com/v1",
        "https://user@api.example.com",
        "https://API.example.com",
        "https://api.example.com?x",
        "ftp://api.example.com",
        "https://api.example.com:port",
        "https://api.example.com\n",
        "",
    ],
)
def test_a_public_url_is_an_origin_and_nothing_more(url: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        shop.identity(public_url=url)


@pytest.mark.parametrize("url", ["https://api.example.com", "http://127.0.0.1:8402", "http://[::1]:8402"])
def test_origins_are_taken_as_they_are(url: str) -> None:
    assert shop.identity(public_url=url).url("/pricing") == url + "/pricing"


def test_the_time_of_the_offers_has_a_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        shop.identity(updated="2026-11-23T12:00:00")
    assert shop.identity(updated="2026-11-23T12:00:00+01:00").updated_s == 1795431600


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Corner Data", "Corner Data"),
        ("Café Données", "Caf Donnes"),
        ("x" * 40, "x" * 32),
        ("a" * 31 + " b", "a" * 31),
        ("Daten\nhaus", "Datenhaus"),
        ("数据", None),
    ],
)
def test_the_service_name_is_one_that_catalogues_keep(name: str, shown: str | None) -> None:
    assert shop.identity(name=name).service_name == shown
    assert shown is None or _is_valid_service_name(shown)


@pytest.mark.parametrize(
    ("url", "has_icon"),
    [
        ("https://api.example.com", True),
        ("https://api.example.com:8443", True),
        ("http://127.0.0.1:8402", False),
        ("http://127.1", False),
        ("http://localhost:8402", False),
        ("http://localhost.localdomain", False),
        ("http://[::1]", False),
        ("http://2130706433", False),
    ],
)
def test_an_icon_is_offered_only_where_catalogues_would_take_its_address(url: str, has_icon: bool) -> None:
    icon = shop.identity(public_url=url).icon_url
    assert icon == (f"{url}/favicon.ico" if has_icon else None)
    assert icon is None or _is_valid_icon_url(icon)
