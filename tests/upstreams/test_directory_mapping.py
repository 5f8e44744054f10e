"""Which column is what: by header, and by the values where a header says nothing."""

import pytest

from upstreams.directory.mapping import FIELDS, guess_mapping, looks_like_data


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        (
            "first,last,phone,street,city,state,zip,email",
            "first,last,phone,street,city,state,zip,email",
        ),
        ("First Name,LAST_NAME,E-Mail,ZIP Code", "first,last,email,zip"),
        ("FirstName,lastName,PhoneNumber,StateCode", "first,last,phone,state"),
        ("contact_id,company,number1,number2,dm_name", "-,company,phone,phone,name"),
        ("Phone 1,Phone 2,Mobile", "phone,phone,phone"),
        ("name,address,city,state,zip", "name,street,city,state,zip"),
        ("name,address", "name,address"),
        ("address1,address2,city", "street,unit,city"),
        ("name,Name", "name,-"),
        ("Notes,Last Contacted", "-,-"),
        ("name,previous phone", "name,old_phone"),
    ],
)
def test_headers(headers: str, fields: str) -> None:
    names = headers.split(",")
    expected = {header: field for header, field in zip(names, fields.split(","), strict=True) if field != "-"}
    assert guess_mapping(names, []) == expected


def test_values_decide_where_a_header_says_nothing() -> None:
    sample = [["Dana", "(206) 555-0100", "dana@example.com", "1200"]] * 3
    assert guess_mapping(["a", "b", "c", "d"], sample) == {"b": "phone", "c": "email"}


def test_bare_digits_are_no_phone_unless_the_header_says_so() -> None:
    sample = [["2065550100"]] * 5
    assert guess_mapping(["account_no"], sample) == {}
    assert guess_mapping(["cell"], sample) == {"cell": "phone"}


def test_every_guessed_field_is_one_the_loader_knows() -> None:
    assert set(guess_mapping(["name", "company", "mobile", "email", "apt", "title", "suffix"], []).values()) <= FIELDS


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        (["Dana", "206-555-0100"], True),
        (["Dana", "98101"], True),
        (["name", "phone2"], False),
        (["a@example.com"], True),
    ],
)
def test_a_first_line_that_is_a_row(headers: list[str], data: bool) -> None:
    assert looks_like_data(headers) is data
