"""What an operator may set about the directory, as plain values."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Rules:
    """The thresholds of matching, 0 to 1; an answer prints those that decided it in `metadata.match`."""

    name_min: float = 0.85
    """A name without a place: the one person must reach this."""
    name_address_min: float = 0.75
    """A name with a place."""
    last_name_min: float = 0.92
    """Jaro-Winkler of the last names, below which they are two names."""
    city_min: float = 0.90
    """Jaro-Winkler of the cities, below which they are two cities."""
    contact_min: float = 0.50
    """A phone number or an email. Above 0.55, the score of a number whose holder has another name than the one that
    was given with it, such a holder is no match."""
    people_max: int = 25
    """More people than this fit a name: no match, nobody pays for a page of the phone book."""


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """`path` is the directory's own SQLite file; without it the operations are offline. Prices in micro-USD."""

    path: Path
    default_region: str = "US"
    """Two-letter region of phone numbers written without a country code."""
    phone_price_micros: int = 330_000
    person_price_micros: int = 500_000
    notice: str = ""
    """Stands in the metadata of every answer."""
    rules: Rules = field(default_factory=Rules)
