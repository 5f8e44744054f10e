"""Look-ups in a loaded file: what the index, the full text and the spelling rounds find."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upstreams.directory import names
from upstreams.directory.database import DirectoryError
from upstreams.directory.loading import load
from upstreams.directory.lookup import Directory, has_firms
from upstreams.directory.matching import Found, NotFound, Query
from upstreams.directory.settings import Rules

PEOPLE = """\
name,phone,street,city,state,zip,email
Joseph B Testerman,(814) 555-0101,5 Specimen Road,Erie,PA,16501,joe@example.com
Joe Testerman,(814) 555-0102,88 Mockup Ln,Altoona,PA,16601,
Katherine O'Sample,(206) 555-0110,7 Example Ave,Saint Example,WA,98101,kate@example.com
Dana Sample-Testerman,(206) 555-0111,9 Example Ave,Seattle,WA,98101,
José Placeholt,(512) 555-0120,1 Draft Blvd,Austin,TX,78701,
Lee Fictner,(206) 555-0112,12 N Example Street Apt 4,Seattle,WA,98101,
Ada Fictner,(206) 555-0113,12 North Example St #5,Seattle,WA,98101,
Quill de la Sample,(206) 555-0114,3 Example Ave,Seattle,WA,98101,
Li Wo,(206) 555-0115,4 Example Ave,Seattle,WA,98101,
Example Plumbing LLC,(206) 555-0116,6 Example Ave,Seattle,WA,98101,shop@example.com
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    folder = tmp_path_factory.mktemp("directory")
    (folder / "people.csv").write_text(PEOPLE, encoding="utf-8")
    load(folder / "people.csv", folder / "directory.db", workers=0)
    directory = Directory(folder / "directory.db", Rules())
    yield directory
    directory.close()


def found(directory: Directory, name: str = "", **fields: str) -> list[str]:
    verdict = directory.find(Query(name=names.split(name) if name else names.NOBODY, **fields))
    return [person[0].row.name for person in verdict.people] if isinstance(verdict, Found) else []


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("Joseph Testerman", {"city": "Erie", "state": "PA"}, ["Joseph B Testerman"]),
        ("Joe Testerman", {"city": "Erie", "state": "PA"}, ["Joseph B Testerman"]),
        ("Joey Testerman", {"city": "Erie", "state": "PA"}, ["Joseph B Testerman"]),
        ("J Testerman", {"city": "Erie", "state": "PA"}, ["Joseph B Testerman"]),
        ("TESTERMAN, JOSEPH B", {"zip": "16501"}, ["Joseph B Testerman"]),
        ("Joseph Testermann", {"city": "Erie", "state": "PA"}, ["Joseph B Testerman"]),
        ("Joseph Testermna", {"zip": "16501"}, ["Joseph B Testerman"]),
        ("Joseph Testerman", {"city": "Alltoona", "state": "PA"}, ["Joe Testerman"]),
        ("Joseph Testerman", {"street": "88 Mockup Lane", "state": "PA"}, ["Joe Testerman"]),
        ("Kate OSample", {"city": "St. Example", "state": "WA"}, ["Katherine O'Sample"]),
        ("katherine o'sample", {"zip": "98101"}, ["Katherine O'Sample"]),
        ("Dana Testerman", {"city": "Seattle"}, ["Dana Sample-Testerman"]),
        ("Dana Sample Testerman", {"zip": "98101"}, ["Dana Sample-Testerman"]),
        ("Jose Placeholt", {"city": "Austin", "state": "TX"}, ["José Placeholt"]),
        ("Quill Sample", {"city": "Seattle"}, ["Quill de la Sample"]),
        ("Quill de la Sample", {"city": "Seattle"}, ["Quill de la Sample"]),
        ("Li Wo", {"city": "Seattle"}, ["Li Wo"]),
        ("Leroy Wo", {"city": "Seattle"}, []),  # one of his short forms is "l.b."
        ("Casey Fictner", {"city": "Seattle"}, []),
        ("Joseph Testerman", {"city": "Pittsburgh", "state": "PA"}, []),
        ("Robert Testerman", {"city": "Erie", "state": "PA"}, []),
        ("Example Plumbing", {"city": "Seattle"}, []),
    ],
)
def test_a_name_with_a_place(directory: Directory, name: str, place: dict[str, str], expected: list[str]) -> None:
    assert found(directory, name, **place) == expected


def test_a_name_alone(directory: Directory) -> None:
    assert found(directory, "Lee Fictner") == ["Lee Fictner"]
    assert found(directory, "Lee Fictner", state="WA") == ["Lee Fictner"]
    assert found(directory, "Lee Fictner", state="PA") == []
    assert directory.find(Query(name=names.split("Joe Testerman"))) == NotFound("ambiguous")


def test_a_number_an_email_and_a_street(directory: Directory) -> None:
    assert found(directory, phone="+12065550116") == ["Example Plumbing LLC"]
    assert found(directory, phone="+12065550199") == []
    assert found(directory, email="joe@example.com") == ["Joseph B Testerman"]
    assert found(directory, street="12 North Example St", city="Seattle", state="WA") == ["Lee Fictner", "Ada Fictner"]
    assert found(directory, street="12 N Example St Apt 5", zip="98101") == ["Ada Fictner"]
    assert found(directory, street="---", zip="98101") == []


def test_a_file_that_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="cannot be opened"):
        Directory(tmp_path / "missing.db", Rules())
    (tmp_path / "text.db").write_text("text " * 1000)
    with pytest.raises(DirectoryError, match="no directory"):
        Directory(tmp_path / "text.db", Rules())


def test_a_reader_cannot_write(directory: Directory, tmp_path: Path) -> None:
    import apsw

    with pytest.raises(apsw.ReadOnlyError):
        directory._connection.execute("DELETE FROM person")


def test_too_many_candidates_are_too_common(tmp_path: Path) -> None:
    rows = "".join(f"Dana Sample,{n} Example Ave,Seattle,WA,98101\n" for n in range(1_100))
    (tmp_path / "people.csv").write_text("name,street,city,state,zip\n" + rows)
    load(tmp_path / "people.csv", tmp_path / "directory.db", workers=0)
    directory = Directory(tmp_path / "directory.db", Rules())
    assert directory.find(Query(name=names.split("Dana Sample"))) == NotFound("too_common")
    assert directory.find(Query(name=names.split("Dana Sample"), zip="98101")) == NotFound("too_common")
    assert found(directory, "Dana Sample", street="77 Example Ave", zip="98101") != []
    directory.close()


def test_a_town_finds_who_is_too_common_in_the_state(tmp_path: Path) -> None:
    rows = "".join(f"Dana Sample,{n} Example Ave,Seattle,WA,98101\n" for n in range(1_100))
    (tmp_path / "people.csv").write_text(
        "name,street,city,state,zip\n" + rows + "Dana Sample,1 A St,Spokane,WA,99201\n"
    )
    load(tmp_path / "people.csv", tmp_path / "directory.db", workers=0)
    directory = Directory(tmp_path / "directory.db", Rules())
    assert found(directory, "Dana Sample", city="Spokane", state="WA") == ["Dana Sample"]
    directory.close()


TEXT = st.text(max_size=30)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=TEXT, last=TEXT.filter(lambda text: bool(text)), street=TEXT, city=TEXT)
def test_no_text_breaks_a_question(directory: Directory, first: str, last: str, street: str, city: str) -> None:
    name = names.Name(first, "", last)
    for query in (
        Query(name=name),
        Query(name=name, street=street, city=city, zip="98101"),
        Query(street=street, city=city),
    ):
        assert isinstance(directory.find(query), (Found, NotFound))


@pytest.mark.parametrize(
    "word",
    [
        '"',
        "*",
        "\u19c80",
        "0\u19c80",
        "\u19c8",
        "OR",
        "AND",
        "NEAR",
        "last : x",
        "')--",
        "\ud800",
        "NOT dana",
        "(",
        "^a",
        "\0",
    ],
)
def test_the_words_of_a_question_are_never_syntax(directory: Directory, word: str) -> None:
    assert found(directory, phone="", name=f"Lee {word} Fictner", city="Seattle") in ([], ["Lee Fictner"])
    assert found(directory, name=f"{word} {word}", city=word) == []


@pytest.mark.parametrize(
    ("name", "state", "expected"),
    [
        ("Example Plumbing", "", ["Example Plumbing LLC"]),
        ("EXAMPLE PLUMBING, L.L.C.", "WA", ["Example Plumbing LLC"]),
        ("Example Plumbing Heating", "", ["Example Plumbing LLC"]),
        ("Example Plumbing", "PA", []),
        ("Example", "WA", ["Example Plumbing LLC"]),
        ("Plumbing Repair Shop", "", []),
        ("Joseph Testerman", "", []),
        ('" OR area : spa', "", []),
        ("()*:^-", "", []),
    ],
)
def test_firms_by_the_words_of_their_name(directory: Directory, name: str, state: str, expected: list[str]) -> None:
    assert [row.name for row in directory.find_firms(name, state)] == expected


@given(st.text(max_size=40), st.sampled_from(["", "WA"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_of_a_firm_makes_looking_raise(directory: Directory, name: str, state: str) -> None:
    assert all(row.business for row in directory.find_firms(name, state))


def test_a_directory_has_firms_or_none(tmp_path: Path) -> None:
    assert not has_firms(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database")
    assert not has_firms(tmp_path / "text.db")
    for name, rows, answer in (("a", PEOPLE, True), ("b", PEOPLE[: PEOPLE.index("Example Plumbing")], False)):
        (tmp_path / f"{name}.csv").write_text(rows, encoding="utf-8")
        load(tmp_path / f"{name}.csv", tmp_path / f"{name}.db", workers=0)
        assert has_firms(tmp_path / f"{name}.db") is answer
