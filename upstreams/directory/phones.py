"""Phone numbers: what people write, E.164 inside, and what is publicly known of a number.

Acceptance is `possible`, not `valid`: the number plans lag behind reality, and the numbers reserved for examples
(555-0100 to 555-0199) are not valid in every area code. Validity is a fact we report, never a reason to refuse.

`phonenumbers` is imported when first needed, its geographic tables later still: together they take 0.5 s and
100 MB. North American numbers in their usual spellings never need it to be normalised; the tests hold the quick
way against the library.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from upstreams.directory import places

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

_NANP_REGIONS = frozenset({"US", "CA"})
_NANP = re.compile(r"(\+?1[ .-]?)?(?:\(([2-9][0-9]{2})\) ?|([2-9][0-9]{2})[ .-]?)([0-9]{3})[ .-]?([0-9]{4})", re.ASCII)
_E164_NANP = re.compile(r"\+1([0-9]{3})([0-9]{3})([0-9]{4})", re.ASCII)
_TEXT_MAX = 64

_LINE_TYPES = (
    "fixed", "mobile", "fixed_or_mobile", "toll_free", "premium", "shared_cost", "voip", "personal", "pager", "uan",
    "voicemail",
)  # fmt: skip
"""In the order of phonenumbers.PhoneNumberType."""


def normalise(text: str, region: str) -> str | None:
    """A written number -> E.164 without its extension, or None where no such number is possible.

    `region` is where a number without a country code is dialled. Seven-digit local numbers are not enough.
    """
    text = text.strip()
    plain = _NANP.fullmatch(text)
    if plain is not None and (region in _NANP_REGIONS or text.startswith("+")):
        _, bracketed, bare, exchange, line = plain.groups()
        return f"+1{bracketed or bare}{exchange}{line}"
    if not text or len(text) > _TEXT_MAX:
        return None
    return _normalise_any(text, region)


def _normalise_any(text: str, region: str) -> str | None:
    import phonenumbers

    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def national(e164: str) -> str:
    """E.164 -> how it is written at home: "(206) 555-0100"."""
    plain = _E164_NANP.fullmatch(e164)
    if plain is not None:
        return "({}) {}-{}".format(*plain.groups())
    import phonenumbers

    number = phonenumbers.parse(e164)
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL))


def facts(e164: str) -> dict[str, Any]:
    """What the number plans say: {e164, national, valid, region, location, line_type, timezones}. No person in it.

    The first call loads the tables (0.5 s): make it off the event loop.
    """
    import phonenumbers
    from phonenumbers import timezone

    number = phonenumbers.parse(e164)
    zones = timezone.time_zones_for_number(number)
    return {
        "e164": e164,
        "national": national(e164),
        "valid": bool(phonenumbers.is_valid_number(number)),
        "region": phonenumbers.region_code_for_number(number) or _main_region(number.country_code or 0),
        "location": _location(number),
        "line_type": _line_type(number),
        "timezones": [zone for zone in zones if zone != "Etc/Unknown"],
    }


@lru_cache(maxsize=8192)
def kind(e164: str) -> tuple[str | None, str | None]:
    """(line type, region): the region is a US state where the number tells one ("WA"), else a country ("GB")."""
    import phonenumbers

    number = phonenumbers.parse(e164)
    state = _state(_location(number) or "") if number.country_code == 1 else None
    return _line_type(number), state or phonenumbers.region_code_for_number(number)


def _location(number: "PhoneNumber") -> str | None:
    from phonenumbers import geocoder

    return geocoder.description_for_number(number, "en") or None


def _line_type(number: "PhoneNumber") -> str | None:
    import phonenumbers

    place = phonenumbers.number_type(number)
    return _LINE_TYPES[place] if 0 <= place < len(_LINE_TYPES) else None


def _state(location: str) -> str | None:
    """ "Seattle, WA", "Washington State", "Oregon" -> the state's code."""
    return places.state_code(location.rpartition(", ")[2].removesuffix(" State"))


def _main_region(country_code: int) -> str | None:
    """A number that is not valid still tells its country, where a calling code belongs to one alone."""
    import phonenumbers

    regions = phonenumbers.region_codes_for_country_code(country_code)
    return str(regions[0]) if len(regions) == 1 else None
