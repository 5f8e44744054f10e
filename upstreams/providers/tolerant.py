"""Reading what a vendor has sent: each value may be missing, null, a text, a number, a list, or another thing than it
was last year. What is of the wrong type is as good as not there."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from upstreams.directory import phones, places
from upstreams.persons import Address, Email, Phone, Source

_TEXT_MAX = 400
_VALUES_MAX = 100
"""Of one kind, of one person."""

_LINE_TYPES = {
    "landline": "fixed", "mobile": "mobile", "wireless": "mobile", "cell": "mobile", "fixedvoip": "voip",
    "nonfixedvoip": "voip", "voip": "voip", "premium": "premium", "tollfree": "toll_free", "voicemail": "voicemail",
    "personal": "personal", "pager": "pager", "uan": "uan", "sharedcost": "shared_cost", "residential": "fixed",
}  # fmt: skip
"""The vendors' words -> those of directory/phones.py."""


def text(value: object) -> str:
    """A text in one line, "" for what is none. A number is one: ids and ZIPs come so."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return ""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in value[: 4 * _TEXT_MAX]).split())[:_TEXT_MAX]


def table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def several(value: object) -> list[Any]:
    """A list's items; one thing alone is a list of it, null and true are nothing."""
    if isinstance(value, list):
        return value[:_VALUES_MAX]
    return [] if value is None or isinstance(value, bool) or value == "" else [value]


def first(record: Mapping[str, Any], *names: str) -> Any:
    """The first of these members that is there and not empty."""
    return next((record[name] for name in names if record.get(name) not in (None, "", [])), None)


def share(value: object, whole: float, otherwise: float) -> float:
    """A score out of `whole` as 0 to 1."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or not 0 <= number <= whole:
        return otherwise
    return round(number / whole, 3)


def truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def e164(value: object) -> str | None:
    return phones.normalise(text(value), "US")


def of_another(value: object, asked: str) -> bool:
    """Whether an answer tells which number it is about, and it is another one: then its owner is somebody else."""
    number = e164(value)
    return number is not None and number != asked


def line_type(value: object) -> str | None:
    return _LINE_TYPES.get(text(value).lower().replace("_", "").replace(" ", "").replace("-", ""))


def a_phone(value: object, score: float, source: Source, kind: object = None, carrier: object = None) -> Phone | None:
    number = e164(value)
    return None if number is None else Phone(number, score, (source,), line_type(kind), text(carrier) or None)


def an_email(value: object, score: float, source: Source) -> Email | None:
    address = text(value).lower()
    local, at, domain = address.partition("@")
    if not (local and at and "." in domain) or " " in address:
        return None
    return Email(address, score, (source,))


def unique_phones(found: Iterable[Phone | None]) -> tuple[Phone, ...]:
    """The first that was said of each number."""
    kept: dict[str, Phone] = {}
    for phone in found:
        if phone is not None:
            kept.setdefault(phone.number, phone)
    return tuple(kept.values())


def unique_emails(found: Iterable[Email | None]) -> tuple[Email, ...]:
    kept: dict[str, Email] = {}
    for email in found:
        if email is not None:
            kept.setdefault(email.email, email)
    return tuple(kept.values())


def an_address(
    source: Source, score: float, *, line1: object = None, line2: object = None, city: object = None,
    state: object = None, zip: object = None, country: object = None, whole: object = None, current: bool = True,
) -> Address | None:  # fmt: skip
    """From its parts, or split from `whole` where there are none. None: nothing is known of it."""
    parts = places.Address(
        text(line1), text(line2), text(city), places.state_code(text(state)) or "", places.zip5(text(zip)) or ""
    )
    if not (parts.line1 or parts.city or parts.zip) and text(whole):
        parts = places.split(text(whole))
    if not (parts.line1 or parts.city or parts.zip):
        return None
    land = text(country).upper()
    return Address(
        score, (source,), parts.line1, parts.line2, parts.city, parts.state, parts.zip,
        land if len(land) == 2 else "US", current,
    )  # fmt: skip


def some(found: Iterable[Address | None]) -> tuple[Address, ...]:
    return tuple(one for one in found if one is not None)


def tables(value: object) -> Iterator[Mapping[str, Any]]:
    return (each for each in several(value) if isinstance(each, dict))
