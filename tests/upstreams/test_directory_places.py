"""Places: states, ZIP codes, street lines, cities."""

import pytest

from upstreams.directory import places
from upstreams.directory.places import Address


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("WA", "WA"),
        ("wa", "WA"),
        ("Washington", "WA"),
        ("  new   york ", "NY"),
        ("D.C", None),
        ("XX", None),
        ("", None),
    ],
)
def test_states(text: str, code: str | None) -> None:
    assert places.state_code(text) == code


@pytest.mark.parametrize(
    ("text", "strict", "loose"),
    [
        ("98101", "98101", "98101"),
        ("98101-1234", "98101", "98101"),
        ("981011234", "98101", "98101"),
        ("2134", None, "02134"),
        ("2134.0", None, "02134"),
        ("98101.0", None, "98101"),
        ("9810", None, "09810"),
        ("SW1A 1AA", None, None),
        ("12", None, None),
    ],
)
def test_zip_codes(text: str, strict: str | None, loose: str | None) -> None:
    assert places.zip5(text) == strict
    assert places.zip5_loose(text) == loose


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("12 Example Avenue", "12 EXAMPLE AVE.", True),
        ("12 North Example Street", "12 N Example St", True),
        ("12 Example Ave Apt 4", "12 Example Ave #4", True),
        ("12 Example Ave, Suite 100", "12 Example Ave", True),
        ("12 Example Ave", "14 Example Ave", False),
        ("12 Example Ave", "12 Example St", False),
        ("12 N Example Ave", "12 S Example Ave", False),
    ],
)
def test_street_lines(a: str, b: str, same: bool) -> None:
    assert (places.street_key(a) == places.street_key(b)) is same


def test_units() -> None:
    assert places.split_unit("12 Example Ave Apt 4b") == ("12 Example Ave", "4B")
    assert places.split_unit("12 Example Ave") == ("12 Example Ave", "")
    assert places.unit_key("Apt 4b") == places.unit_key("#4B") == places.unit_key("4b") == "4B"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("12 Example Ave, Seattle, WA 98101", Address("12 Example Ave", "", "Seattle", "WA", "98101")),
        ("12 Example Ave Apt 4, Seattle, WA 98101-1234", Address("12 Example Ave", "4", "Seattle", "WA", "98101")),
        ("12 Example Avenue Seattle Washington 98101", Address("12 Example Avenue", "", "Seattle", "WA", "98101")),
        ("12 Example Ave, Suite 12, Seattle, WA 98101", Address("12 Example Ave", "12", "Seattle", "WA", "98101")),
        ("PO Box 12, Seattle WA", Address("PO Box 12", "", "Seattle", "WA", "")),
    ],
)
def test_addresses_in_one_piece(text: str, address: Address) -> None:
    assert places.split(text) == address


@pytest.mark.parametrize("unit", ["", " Apt 4", " #4"])
@pytest.mark.parametrize("street", ["12 Example Ave", "7 N Sample Street", "1200 Specimen Blvd"])
def test_a_plain_address_is_split_as_the_library_splits_it(street: str, unit: str) -> None:
    text = f"{street}{unit}, Seattle, WA 98101"
    quick = places.split_plain(text)
    assert quick is not None
    assert places.split(text.replace(", WA", " WA")) == quick


def test_what_no_parser_reads_stays_a_line() -> None:
    text = "12 Example Ave 14 Example Ave Seattle WA Seattle OR 98101"
    assert places.split(text).line1


@pytest.mark.parametrize(
    ("asked", "held", "agrees"),
    [
        ("Seattle", "SEATTLE", True),
        ("Seatle", "Seattle", True),
        ("St. Example", "Saint Example", True),
        ("Mount Example", "Mt Example", True),
        ("Seattle", "Spokane", False),
        ("Seattle", "", False),
    ],
)
def test_cities(asked: str, held: str, agrees: bool) -> None:
    assert (places.agree_city(asked, held, 0.90) > 0) is agrees


def test_zip_facts() -> None:
    assert places.zip_facts("98101") == {
        "zip": "98101",
        "known": True,
        "city": "Seattle",
        "state": "WA",
        "county": "King County",
        "timezone": "America/Los_Angeles",
        "area_codes": ["206"],
    }
    assert places.zip_facts("00000") == {"zip": "00000", "known": False}
