"""The demo's people: invented, always the same, and fit for every way to ask."""

from pathlib import Path

from upstreams.directory import invented, phones, places
from upstreams.directory.database import stats
from upstreams.directory.loading import load


def test_the_same_people_every_time() -> None:
    assert list(invented.people(500)) == list(invented.people(500))
    assert list(invented.people(50)) == list(invented.people(500))[:50]
    assert list(invented.people(50, seed=2))[2:] != list(invented.people(50))[2:]


def test_nobody_of_them_can_be_reached() -> None:
    everybody = list(invented.people(1_000))
    assert len(everybody) == 1_000
    for person in everybody:
        number = phones.normalise(person.phone, "US")
        assert number is not None
        assert number[5:10] == "55501"
        assert person.email.endswith("@example.com")
        assert number != invented.MISSING_PHONE


def test_places_and_area_codes_belong_together() -> None:
    for person in invented.people(300):
        facts = places.zip_facts(person.zip)
        assert (facts["city"], facts["state"]) == (person.city, person.state)
        assert person.phone[1:4] in facts["area_codes"]


def test_they_load_without_a_word(tmp_path: Path) -> None:
    invented.write(tmp_path / "people.csv")
    report = load(tmp_path / "people.csv", tmp_path / "directory.db", source=invented.SOURCE, workers=0)
    assert (report.rows, report.loaded, report.rejected, report.notes) == (500, 500, [], [])
    assert stats(tmp_path / "directory.db")["sources"] == {"demo_synthetic": 500}
