"""Loading: what is stored, what is rejected and reported, and that a second time changes nothing."""

import threading
from pathlib import Path

import apsw
import pytest

from upstreams.directory.database import DirectoryError, stats
from upstreams.directory.loading import REPORTED_MAX, LoadReport, load, preview
from upstreams.directory.lookup import Directory
from upstreams.directory.matching import Found, Hit, Query
from upstreams.directory.names import Name
from upstreams.directory.reading import LoadError
from upstreams.directory.settings import Rules

HEADER = "first,last,phone,street,city,state,zip,email\n"
DANA = "Dana,Sample,(206) 555-0100,12 Example Ave,Seattle,WA,98101,dana@example.com\n"
LEE = "Lee,Sample,206.555.0101,14 Example Ave,Seattle,WA,98101,lee@example.com\n"


def write(tmp_path: Path, text: str, name: str = "people.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def load_text(tmp_path: Path, text: str, name: str = "people.csv", **options: object) -> LoadReport:
    return load(write(tmp_path, text, name), tmp_path / "directory.db", workers=0, **options)  # type: ignore[arg-type]


def find(tmp_path: Path, **query: object) -> list[Hit]:
    directory = Directory(tmp_path / "directory.db", Rules())
    try:
        verdict = directory.find(Query(**query))  # type: ignore[arg-type]
        return [person[0] for person in verdict.people] if isinstance(verdict, Found) else []
    finally:
        directory.close()


def test_split_columns_are_taken_as_they_are(tmp_path: Path) -> None:
    report = load_text(tmp_path, HEADER + DANA + LEE)
    assert (report.rows, report.loaded, report.rejected, report.notes) == (2, 2, [], [])
    (hit,) = find(tmp_path, phone="+12065550100")
    assert hit.row.name == "Dana Sample"
    assert hit.row.parts == Name("Dana", "", "Sample")
    assert (hit.row.line1, hit.row.city, hit.row.state, hit.row.zip) == ("12 Example Ave", "Seattle", "WA", "98101")
    assert hit.row.emails == ("dana@example.com",)
    assert (hit.row.source, hit.row.record) == ("people.csv", 2)


def test_rows_that_cannot_be_read_are_reported_by_line_and_the_rest_is_loaded(tmp_path: Path) -> None:
    text = HEADER + DANA + "too,few\n" + '"open,quote,1,2,3,4,5,6\n' + ",,,,Seattle,WA,98101,\n" + "N\0,,,,,,,\n" + LEE
    report = load_text(tmp_path, text)
    assert (report.rows, report.loaded, report.rejected_rows) == (6, 2, 4)
    assert report.rejected == [
        (3, "2 columns where the header has 8"),
        (4, "a quote that is never closed"),
        (5, "nothing to find it by: no name, phone, email or street"),
        (6, "a NUL byte in it"),
    ]
    assert find(tmp_path, phone="+12065550101")[0].row.record == 7


def test_a_value_that_is_none_is_left_out_and_noted(tmp_path: Path) -> None:
    report = load_text(tmp_path, "name,phone,email\nDana Sample,555-0100,nobody\nLee Sample,2065550101,\n")
    assert report.loaded == 2
    assert report.notes == [
        (2, "a phone that is no possible number was left out"),
        (2, "an email without the shape of one was left out"),
    ]


def test_a_report_holds_no_personal_data(tmp_path: Path) -> None:
    report = load_text(tmp_path, "name,phone\n,555-0100\nDana Sample,99\n" + "Secret," * 3 + "\n")
    assert "Secret" not in str(report.rejected)
    assert "Dana" not in str(report.notes)
    assert "555" not in str(report.rejected)


def test_the_list_of_rejected_rows_is_bounded_and_their_count_is_not(tmp_path: Path) -> None:
    report = load_text(tmp_path, HEADER + "too,few\n" * (REPORTED_MAX + 50) + DANA)
    assert len(report.rejected) == REPORTED_MAX
    assert report.rejected_rows == REPORTED_MAX + 50
    assert report.loaded == 1


def test_the_same_file_again_replaces_its_own_rows_and_no_others(tmp_path: Path) -> None:
    load_text(tmp_path, HEADER + DANA + LEE)
    load_text(tmp_path, HEADER + DANA, "other.csv")
    before = stats(tmp_path / "directory.db")
    report = load_text(tmp_path, HEADER + DANA + LEE)
    assert (report.replaced, report.loaded) == (2, 2)
    assert {**stats(tmp_path / "directory.db"), "bytes": 0} == {**before, "bytes": 0}
    report = load_text(tmp_path, HEADER + LEE)
    assert report.replaced == 2
    assert stats(tmp_path / "directory.db")["sources"] == {"other.csv": 1, "people.csv": 1}
    assert [hit.row.source for hit in find(tmp_path, phone="+12065550100")] == ["other.csv"]
    assert [hit.row.source for hit in find(tmp_path, name=Name("Dana", "", "Sample"))] == ["other.csv"]


def test_the_only_file_again_leaves_nothing_of_the_old_rows(tmp_path: Path) -> None:
    load_text(tmp_path, HEADER + DANA + LEE)
    load_text(tmp_path, HEADER + LEE)
    assert find(tmp_path, name=Name("Dana", "", "Sample")) == []
    assert find(tmp_path, phone="+12065550100") == []
    assert len(find(tmp_path, name=Name("Lee", "", "Sample"))) == 1


@pytest.mark.parametrize("others", [0, 1])
def test_rows_that_gave_way_are_gone_from_every_index(tmp_path: Path, others: int) -> None:
    for _ in range(3):
        load_text(tmp_path, HEADER + DANA + LEE)
        for n in range(others):
            load_text(tmp_path, HEADER + DANA + LEE, f"other{n}.csv")
    load_text(tmp_path, HEADER + LEE)
    database = apsw.Connection(str(tmp_path / "directory.db"))
    for table in ("finder", "person", "phone", "email"):
        assert database.execute(f"SELECT count(*) FROM {table}").get == 1 + 2 * others, table


def test_a_load_that_breaks_off_leaves_the_old_rows(tmp_path: Path) -> None:
    load_text(tmp_path, HEADER + DANA)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_text(tmp_path, HEADER + LEE * 5_000, progress=stop)
    assert [hit.row.name for hit in find(tmp_path, phone="+12065550100")] == ["Dana Sample"]
    assert find(tmp_path, phone="+12065550101") == []


def test_a_reader_sees_the_new_rows_at_once_and_never_half_of_them(tmp_path: Path) -> None:
    load_text(tmp_path, HEADER + DANA)
    directory = Directory(tmp_path / "directory.db", Rules())
    seen: list[bool] = []

    def look(done: int, total: int) -> None:
        seen.append(isinstance(directory.find(Query(phone="+12065550101")), Found))

    load_text(tmp_path, HEADER + LEE * 5_000, progress=look)
    assert seen[:-1]
    assert not any(seen[:-1])
    assert isinstance(directory.find(Query(phone="+12065550101")), Found)
    directory.close()


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    load_text(tmp_path, HEADER + DANA * 5_000, progress=lambda done, total: told.append((done, total)))
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] == (len(HEADER) + 5_000 * len(DANA),) * 2


def test_odd_names_and_addresses_are_parsed(tmp_path: Path) -> None:
    report = load_text(
        tmp_path,
        'name,phone,address\n"SAMPLE, DANA Q",2065550100,"12 Example Ave, Seattle, WA 98101"\n'
        "Lee de la Sample Jr,2065550101,14 Example Avenue Seattle Washington 98101\n",
    )
    assert report.loaded == 2
    (dana,), (lee,) = find(tmp_path, phone="+12065550100"), find(tmp_path, phone="+12065550101")
    assert dana.row.parts == Name("DANA", "Q", "SAMPLE")
    assert lee.row.parts == Name("Lee", "", "de la Sample", "Jr")
    assert (lee.row.line1, lee.row.city, lee.row.state, lee.row.zip) == ("14 Example Avenue", "Seattle", "WA", "98101")
    assert dana.row.city == "Seattle"


def test_many_odd_rows_go_to_worker_processes_and_come_back_the_same(tmp_path: Path) -> None:
    text = "name,email\n" + "".join(f'"SAMPLE{n}, DANA",d{n}@example.com\n' for n in range(1_000)) + '"X, Y",none\n'
    path = write(tmp_path, text)
    here = load(path, tmp_path / "here.db", workers=0)
    there = load(path, tmp_path / "there.db", workers=1)
    assert (there.rows, there.loaded, there.rejected, there.notes) == (
        here.rows,
        here.loaded,
        here.rejected,
        here.notes,
    )
    rows = [
        list(apsw.Connection(str(tmp_path / name)).execute("SELECT record, first, last FROM person ORDER BY record"))
        for name in ("here.db", "there.db")
    ]
    assert rows[0] == rows[1]
    assert rows[0][999] == (1001, "DANA", "SAMPLE999")


def test_json_lines_with_several_numbers(tmp_path: Path) -> None:
    report = load_text(
        tmp_path,
        '{"first_name": "Dana", "last_name": "Sample", "phones": ["2065550100", "206-555-0102"], "zip": 98101}\n'
        "broken\n"
        '{"first_name": "Lee", "last_name": "Sample", "phones": "2065550101"}\n',
        "people.jsonl",
    )
    assert (report.loaded, report.rejected) == (2, [(2, "no JSON")])
    (hit,) = find(tmp_path, phone="+12065550102")
    assert hit.row.phones == (("+12065550100", True), ("+12065550102", True))
    assert hit.row.record == 1


def test_tab_separated_latin_1_is_read_and_told(tmp_path: Path) -> None:
    path = tmp_path / "people.tsv"
    path.write_bytes("name\tphone\nJosé Sample\t2065550100\n".encode("latin-1"))
    report = load(path, tmp_path / "directory.db")
    assert (report.loaded, report.latin1_lines, report.delimiter) == (1, 1, "\t")
    assert find(tmp_path, phone="+12065550100")[0].row.name == "José Sample"


@pytest.mark.parametrize("cell", ["2065550100", "2065550100.0", "+1 (206) 555-0100", "206.555.0100; 206-555-0109"])
def test_numbers_as_spreadsheets_leave_them(tmp_path: Path, cell: str) -> None:
    load_text(tmp_path, f"name,phone\nDana Sample,{cell}\n")
    assert len(find(tmp_path, phone="+12065550100")) == 1


def test_a_former_number_and_a_firm(tmp_path: Path) -> None:
    load_text(
        tmp_path,
        "name,company,phone,old_phone\nDana Sample,Example Ltd,2065550100,2065550101\n,Example Ltd,2065550102,\n"
        "Sample & Daughters LLC,,2065550103,\n",
    )
    assert [(hit.score, hit.row.employer) for hit in find(tmp_path, phone="+12065550101")] == [(0.80, "Example Ltd")]
    for number, name in (("+12065550102", "Example Ltd"), ("+12065550103", "Sample & Daughters LLC")):
        (firm,) = find(tmp_path, phone=number)
        assert (firm.row.business, firm.row.name, firm.row.parts) == (True, name, Name("", "", ""))
    assert stats(tmp_path / "directory.db")["businesses"] == 2


def test_a_preview_shows_the_guess_and_the_operator_may_overrule_it(tmp_path: Path) -> None:
    path = write(tmp_path, "who,line,nr\n" + "Dana Sample,x,206-555-0100\n" * 4)
    shown = preview(path)
    assert shown.mapping == {"nr": "phone"}
    assert shown.delimiter == ","
    assert shown.sample[0] == ("Dana Sample", "x", "206-555-0100")
    report = load(path, tmp_path / "directory.db", mapping={"who": "name", "nr": "phone"})
    assert report.mapping == {"who": "name", "nr": "phone"}
    assert find(tmp_path, phone="+12065550100")[0].row.name == "Dana Sample"


@pytest.mark.parametrize(
    ("text", "mapping", "reason"),
    [
        ("Dana,206-555-0100\nLee,206-555-0101\n", None, "put a header"),
        ("colour,size\nred,2\n", None, "no column is a name"),
        ("name\nDana\n", {"nome": "name"}, "has no column 'nome'"),
        ("name\nDana\n", {"name": "nome"}, "'nome' is no field"),
        ("name,city\nDana,Seattle\n", {"city": "city"}, "no column is a name"),
    ],
)
def test_a_file_that_holds_nobody_is_refused_before_anything_is_touched(
    tmp_path: Path, text: str, mapping: dict[str, str] | None, reason: str
) -> None:
    with pytest.raises(LoadError, match=reason):
        load_text(tmp_path, text, mapping=mapping)
    assert not (tmp_path / "directory.db").exists()


def test_a_file_that_is_no_directory_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "directory.db").write_bytes(b"something else, and long enough to be no empty database " * 40)
    with pytest.raises(DirectoryError, match="is no directory"):
        load_text(tmp_path, HEADER + DANA)
    other = apsw.Connection(str(tmp_path / "other.db"))
    other.execute("CREATE TABLE money(x)")
    other.close()
    with pytest.raises(DirectoryError, match="is no directory"):
        load(write(tmp_path, HEADER + DANA), tmp_path / "other.db")
    with pytest.raises(DirectoryError):
        stats(tmp_path / "missing.db")


def test_two_loads_at_once_take_turns(tmp_path: Path) -> None:
    paths = [write(tmp_path, HEADER + DANA * 3_000, f"people{n}.csv") for n in range(2)]
    reports: list[LoadReport] = []
    threads = [
        threading.Thread(target=lambda p: reports.append(load(p, tmp_path / "directory.db", workers=0)), args=(path,))
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.loaded for report in reports] == [3_000, 3_000]
    assert stats(tmp_path / "directory.db")["persons"] == 6_000
