"""Which column of a file is what: guessed from the headers, and from the values where a header says nothing."""

import re
from collections.abc import Mapping, Sequence

from upstreams.directory import phones, places

_HEADERS = {
    "name": "name full_name fullname contact contact_name customer customer_name person person_name owner owner_name "
    "dm_name display_name resident",
    "first": "first first_name firstname fname given given_name forename name_first",
    "middle": "middle middle_name middlename middle_initial mi mname",
    "last": "last last_name lastname lname surname family family_name name_last",
    "suffix": "suffix name_suffix generation",
    "company": "company company_name business business_name organization organisation org employer account "
    "account_name firm",
    "title": "title job_title position role",
    "phone": "phone phone_number phonenumber telephone tel number mobile mobile_phone cell cell_phone cellphone "
    "home_phone work_phone day_phone evening_phone primary_phone other_phone phones e164 msisdn landline "
    "contact_number phone_home phone_mobile phone_work phone_cell",
    "old_phone": "old_phone previous_phone former_phone old_number previous_number phone_old",
    "email": "email e_mail email_address mail emails primary_email work_email personal_email",
    "address": "address full_address mailing_address home_address addr location",
    "street": "street street_address address1 address_1 address_line1 address_line_1 street1 street_1 line1 line_1 "
    "street_line_1 addr1",
    "unit": "unit apt apartment suite address2 address_2 address_line2 address_line_2 street2 street_2 line2 line_2 "
    "street_line_2 addr2",
    "city": "city town locality municipality home_city",
    "state": "state state_code province region st home_state state_province",
    "zip": "zip zipcode zip_code postal postal_code postcode zip5 home_zip",
}
_FIELD_OF = {header: field for field, headers in _HEADERS.items() for header in headers.split()}
FIELDS = frozenset(_HEADERS)

MANY = frozenset({"phone", "old_phone", "email"})
"""Fields that several columns may hold; of every other field the first column counts."""

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
_SHARE_MIN = 0.6
"""Of a nameless column's values, how many must look like a field to be taken for it."""


def guess_mapping(headers: Sequence[str], sample: Sequence[Sequence[str]]) -> Mapping[str, str]:
    """Headers and a few rows -> {header: field}, in the order of the headers; columns of no use are left out.

    A header that is known decides. A column with an unknown header is taken for a phone or an email when most of
    its values look like one. With both `street` and `city` columns an `address` column is a street line.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for index, header in enumerate(headers):
        field = _FIELD_OF.get(_plain(header)) or _by_values([row[index] for row in sample if index < len(row)])
        if field is None or (field in taken and field not in MANY):
            continue
        found[header] = field
        taken.add(field)
    if "city" in taken and "street" not in taken:
        found = {header: "street" if field == "address" else field for header, field in found.items()}
    return found


def _plain(header: str) -> str:
    """ "Phone Number 2" -> "phone_number": signs and a trailing count fall away, "address2" keeps its own."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", header.strip())
    name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    return name if name in _FIELD_OF else re.sub(r"_?[0-9]+$", "", name)


def _by_values(values: Sequence[str]) -> str | None:
    filled = [value.strip() for value in values if value and value.strip()]
    if len(filled) < 3:
        return None
    for field, looks in (("email", _looks_email), ("phone", _looks_phone)):
        if sum(map(looks, filled)) >= _SHARE_MIN * len(filled):
            return field
    return None


def _looks_email(value: str) -> bool:
    return _EMAIL.fullmatch(value) is not None


def _looks_phone(value: str) -> bool:
    """Ten bare digits may be any count; written with signs, or with a plus, they are a phone number."""
    return len(value) <= 20 and not value.isdigit() and phones.normalise(value, "US") is not None


def looks_like_data(headers: Sequence[str]) -> bool:
    """Whether a first line is a row and no header: a header is no phone number, email or ZIP."""
    return any(_looks_email(h.strip()) or _looks_phone(h.strip()) or places.zip5(h) is not None for h in headers)
