"""Places in the United States: states, ZIP codes, street lines, and how well two places agree.

A street line is compared by its key: lower case, the usual abbreviations, the unit apart. An address in one piece is
split here when it is plain ("12 Example Ave, Seattle, WA 98101"), else by usaddress, which takes 0.2 ms.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from upstreams.directory.names import alike, fold

_STATE_NAMES = (
    "AL Alabama|AK Alaska|AZ Arizona|AR Arkansas|CA California|CO Colorado|CT Connecticut|DE Delaware|"
    "DC District of Columbia|FL Florida|GA Georgia|HI Hawaii|ID Idaho|IL Illinois|IN Indiana|IA Iowa|KS Kansas|"
    "KY Kentucky|LA Louisiana|ME Maine|MD Maryland|MA Massachusetts|MI Michigan|MN Minnesota|MS Mississippi|"
    "MO Missouri|MT Montana|NE Nebraska|NV Nevada|NH New Hampshire|NJ New Jersey|NM New Mexico|NY New York|"
    "NC North Carolina|ND North Dakota|OH Ohio|OK Oklahoma|OR Oregon|PA Pennsylvania|RI Rhode Island|"
    "SC South Carolina|SD South Dakota|TN Tennessee|TX Texas|UT Utah|VT Vermont|VA Virginia|WA Washington|"
    "WV West Virginia|WI Wisconsin|WY Wyoming|PR Puerto Rico|GU Guam|VI Virgin Islands|AS American Samoa|"
    "MP Northern Mariana Islands|AA Armed Forces Americas|AE Armed Forces Europe|AP Armed Forces Pacific"
)
_STATES = {name.lower(): code for code, name in (entry.split(" ", 1) for entry in _STATE_NAMES.split("|"))}
STATE_CODES = frozenset(_STATES.values())

_ZIP = re.compile(r"([0-9]{5})(?:[- ]?[0-9]{4})?", re.ASCII)
_LOST_ZERO = re.compile(r"([0-9]{3,5})(?:\.0)?", re.ASCII)
_UNIT = re.compile(
    r"[, ]+(?:(?:apt|apartment|unit|suite|ste|floor|fl|room|rm|lot|bldg|building|spc|trlr)\b\.?|#) *#? *([a-z0-9-]+)$",
    re.IGNORECASE,
)
_PLAIN_ADDRESS = re.compile(
    r"([0-9]+[A-Za-z]? [A-Za-z0-9 .'#-]{2,60}), ?([A-Za-z .'-]{2,40}), ?([A-Za-z]{2}) ([0-9]{5})(?:-[0-9]{4})?",
    re.ASCII,
)
_ABBREVIATION_PAIRS = (
    "alley:aly avenue:ave av:ave beach:bch boulevard:blvd bridge:brg canyon:cyn causeway:cswy center:ctr "
    "centre:ctr circle:cir court:ct cove:cv creek:crk crescent:cres crossing:xing drive:dr estates:ests "
    "expressway:expy extension:ext fork:frk freeway:fwy garden:gdn gardens:gdns glen:gln grove:grv harbor:hbr "
    "heights:hts highway:hwy hill:hl hills:hls hollow:holw island:is junction:jct lake:lk landing:lndg lane:ln "
    "manor:mnr meadow:mdw meadows:mdws mill:ml mount:mt mountain:mtn parkway:pkwy pkway:pkwy place:pl plaza:plz "
    "point:pt ridge:rdg river:riv road:rd route:rte saint:st springs:spgs square:sq station:sta street:st str:st "
    "terrace:ter trail:trl turnpike:tpke valley:vly view:vw village:vlg vista:vis "
    "north:n south:s east:e west:w northeast:ne northwest:nw southeast:se southwest:sw "
    "first:1st second:2nd third:3rd fourth:4th fifth:5th sixth:6th seventh:7th eighth:8th ninth:9th tenth:10th"
)
_ABBREVIATIONS = dict(pair.split(":") for pair in _ABBREVIATION_PAIRS.split())


class Address(NamedTuple):
    """Parts as written; a part that is not known is "". `state` is a two-letter code, `zip` five digits."""

    line1: str = ""
    line2: str = ""
    city: str = ""
    state: str = ""
    zip: str = ""


def state_code(text: str) -> str | None:
    """ "pa", "PA", "Pennsylvania" -> "PA"; None for what is no state."""
    text = text.strip()
    code = text.upper().rstrip(".")
    if code in STATE_CODES:
        return code
    return _STATES.get(" ".join(text.lower().split()))


def state_name(code: str) -> str:
    """ "PA" -> "pennsylvania"; "" for what is no code."""
    return next((name for name, known in _STATES.items() if known == code), "")


def zip5(text: str) -> str | None:
    """A ZIP or ZIP+4 -> its five digits; None for anything else."""
    match = _ZIP.fullmatch(text.strip())
    return match.group(1) if match else None


def zip5_loose(text: str) -> str | None:
    """As a spreadsheet may have left it: "2134" or "2134.0" has lost its leading zero."""
    plain = zip5(text)
    if plain is None:
        lost = _LOST_ZERO.fullmatch(text)
        return lost.group(1).zfill(5) if lost else None
    return plain


def split_unit(line: str) -> tuple[str, str]:
    """ "12 Example Ave Apt 4" -> ("12 Example Ave", "4")."""
    match = _UNIT.search(line)
    return (line[: match.start()], match.group(1).upper()) if match else (line, "")


def unit_key(line2: str) -> str:
    """A second address line -> the unit's own sign: "Apt 4", "#4" and "4" -> "4"."""
    return split_unit(" " + line2)[1] or line2.strip().lstrip("#").strip().upper()


def street_key(line: str) -> str:
    """What two spellings of one street line share, without the unit: "12 Example Avenue, #4" -> "12 example ave"."""
    street, _ = split_unit(line)
    return " ".join([_ABBREVIATIONS.get(word, word) for word in fold(street).split(" ")])


def split_plain(text: str) -> Address | None:
    """The parts of a plain address, or None where it takes the real parser."""
    match = _PLAIN_ADDRESS.fullmatch(text)
    if match is None or match.group(3).upper() not in STATE_CODES:
        return None
    line1, unit = split_unit(match.group(1))
    return Address(line1, unit, match.group(2), match.group(3).upper(), match.group(4))


_TAGS = {
    "PlaceName": "city",
    "StateName": "state",
    "ZipCode": "zip",
    "OccupancyType": "",
    "OccupancyIdentifier": "line2",
    "Recipient": "",
    "BuildingName": "",
    "CountryName": "",
    "NotAddress": "",
}


def split(text: str) -> Address:
    """The parts of any address. What the parser cannot read stays as `line1`."""
    text = " ".join(text.split())
    plain = split_plain(text)
    if plain is not None:
        return plain
    import usaddress

    try:
        tagged, _ = usaddress.tag(text)
    except usaddress.RepeatedLabelError:
        return Address(line1=text)
    parts: dict[str, list[str]] = {}
    for label, words in tagged.items():
        field = _TAGS.get(label, "line1")
        if field:
            parts.setdefault(field, []).append(words.strip(" ,"))
    found = {field: " ".join(words) for field, words in parts.items()}
    return Address(
        line1=found.get("line1", ""),
        line2=found.get("line2", "").lstrip("#").strip().upper(),
        city=found.get("city", ""),
        state=state_code(found.get("state", "")) or "",
        zip=zip5(found.get("zip", "")) or "",
    )


@lru_cache(maxsize=4096)
def city_word(city: str) -> str:
    """A city as one word of the finder: "Saint Example" and "St. Example" -> "cstexample"."""
    return "c" + street_key(city).replace(" ", "")


def agree_city(asked: str, held: str, least: float) -> float:
    """1 for one city, its Jaro-Winkler where that reaches `least`, else 0. "Saint" and "St." are one word."""
    a, b = city_word(asked)[1:], city_word(held)[1:]
    if not a or not b:
        return 0.0
    likeness = alike(a, b)
    return likeness if likeness >= least else 0.0


@lru_cache(maxsize=4096)
def _zip_row(code: str) -> dict[str, Any] | None:
    import zipcodes

    rows = zipcodes.matching(code)  # type: ignore[no-untyped-call]
    return rows[0] if rows else None


def zip_facts(code: str) -> dict[str, Any]:
    """What is publicly known of a ZIP: {zip, known, city, state, county, timezone, area_codes}.

    The first call loads the table (0.5 s): make it off the event loop.
    """
    row = _zip_row(code)
    if row is None:
        return {"zip": code, "known": False}
    return {
        "zip": code,
        "known": True,
        "city": row["city"],
        "state": row["state"],
        "county": row["county"] or None,
        "timezone": row["timezone"] or None,
        "area_codes": list(row["area_codes"]),
    }
