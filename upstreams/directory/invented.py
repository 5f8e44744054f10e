"""Invented people for the demo and for tests: the same ones every time, and none of them lives anywhere.

Names are put together from two short lists, numbers are from the range that is kept free for fiction (555-0100 to
555-0199), mail goes to example.com, streets have made-up names; only the pairs of city, ZIP and area code are real.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

SOURCE = "demo_synthetic"
"""Under this name the demo's records are loaded, so every answer tells where it comes from."""

_FIRST = (
    "Ada", "Alvin", "Anita", "Arthur", "Bella", "Bruno", "Carla", "Cedric", "Clara", "Conrad", "Dora",
    "Edgar", "Elena", "Emil", "Fiona", "Felix", "Gloria", "Gustav", "Hannah", "Hugo", "Irene", "Ivan",
    "Joan", "Joseph", "Katherine", "Kurt", "Laura", "Leonard", "Lydia", "Marcus", "Marta", "Nathan", "Nora",
    "Oscar", "Paula", "Philip", "Rachel", "Robert", "Rosa", "Samuel", "Selma", "Theodore", "Ursula",
    "Victor", "Wanda", "Walter", "Yvonne", "William", "Zelda", "Zachary",
)  # fmt: skip
_LAST = (
    "Testerman", "Mockley", "Placeholt", "Examplar", "Fictner", "Dummerly", "Specimenko", "Inventon",
    "Draftwell", "Samplewood", "Trialby", "Proofman", "Notreal", "Imaginez", "Fabelton", "Storyfield",
    "Pretendick", "Modelsby", "Prototypa", "Figmentov", "Fauxley", "Stubbins", "Stagely", "Scripter",
    "Makeble", "Standin", "Templeton-Mock", "Lorem", "Ipsumdal", "Quuxford",
)  # fmt: skip
_STREETS = ("Example", "Sample", "Specimen", "Mockup", "Placeholder", "Fiction", "Testing", "Draft", "Prototype")
_KINDS = ("Ave", "Street", "Road", "Ln", "Blvd", "Court")
_TOWNS = (
    ("Seattle", "WA", "98101", "206"),
    ("Spokane", "WA", "99201", "509"),
    ("Portland", "OR", "97201", "503"),
    ("Boise", "ID", "83702", "208"),
    ("Denver", "CO", "80202", "303"),
    ("Austin", "TX", "78701", "512"),
    ("Omaha", "NE", "68102", "402"),
    ("Madison", "WI", "53703", "608"),
    ("Columbus", "OH", "43215", "614"),
    ("Erie", "PA", "16501", "814"),
    ("Albany", "NY", "12207", "518"),
    ("Burlington", "VT", "05401", "802"),
    ("Portland", "ME", "04101", "207"),
    ("Raleigh", "NC", "27601", "919"),
    ("Savannah", "GA", "31401", "912"),
)


class Invented(NamedTuple):
    """One invented person, as a row of a file."""

    first: str
    middle: str
    last: str
    phone: str
    street: str
    city: str
    state: str
    zip: str
    email: str


_KNOWN = (
    Invented("Dana", "Q", "Sample", "(206) 555-0100", "12 Example Ave", "Seattle", "WA", "98101", "dana@example.com"),
    Invented("Lee", "", "Sample", "(206) 555-0101", "14 Example Ave", "Seattle", "WA", "98101", "lee@example.com"),
)
"""The people of the operations' examples."""

MISSING_PHONE = "+13075550199"
"""A number that no invented person has: to show a miss."""


def people(count: int = 500, seed: int = 1) -> Iterator[Invented]:
    """`count` people (at most 1,000), always the same for one seed; some share a household and its number."""
    yield from _KNOWN[:count]
    random = Random(seed)
    homes = [(town, line) for town in _TOWNS for line in range(2, 100)]
    random.shuffle(homes)
    latest: Invented | None = None
    for index in range(len(_KNOWN), count):
        first, middle = random.choice(_FIRST), random.choice(("", random.choice("ABCDEFGHJKLMNPRSTW")))
        email = f"{first.lower()}{index}@example.com"
        if latest is None or random.random() < 0.8:
            (city, state, code, area), line = homes.pop()
            street = f"{random.randrange(1, 990)} {random.choice(_STREETS)} {random.choice(_KINDS)}"
            phone = f"({area}) 555-01{line:02d}"
            latest = Invented(first, middle, random.choice(_LAST), phone, street, city, state, code, email)
        else:
            latest = latest._replace(first=first, middle=middle, email=email)
        yield latest


def write(path: Path, count: int = 500, seed: int = 1) -> None:
    """The invented people as a CSV file that `directory load` reads."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(Invented._fields)
        rows.writerows(people(count, seed))
