"""Files as they come: every broken line costs its own row and nothing more."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upstreams.directory import reading
from upstreams.directory.reading import LoadError, Table


def rows(path: Path, content: bytes, delimiter: str | None = None) -> list[tuple[int, list[str] | str]]:
    path.write_bytes(content)
    with Table(path, delimiter) as table:
        return list(table.rows())


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "people.csv"


@pytest.mark.parametrize("sign", [",", "\t", ";", "|"])
def test_delimiters_are_sniffed(csv: Path, sign: str) -> None:
    text = "name,phone,city\nDana,206-555-0100,Seattle\nLee,206-555-0101,Spokane\n".replace(",", sign)
    assert rows(csv, text.encode()) == [
        (2, ["Dana", "206-555-0100", "Seattle"]),
        (3, ["Lee", "206-555-0101", "Spokane"]),
    ]


def test_a_delimiter_may_be_given(csv: Path) -> None:
    assert rows(csv, b"name;a,b\nDana;1,2\n", ",") == [(2, ["Dana;1", "2"])]


def test_quotes_may_hold_delimiters_line_ends_and_quotes(csv: Path) -> None:
    content = b'name,street\r\n"Sample, Dana","12 Example ""Ave""\r\nrear"\r\nLee,14\r\n'
    assert rows(csv, content) == [(2, ["Sample, Dana", '12 Example "Ave"\nrear']), (4, ["Lee", "14"])]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"Dana", "1 columns where the header has 2"),
        (b"Dana,1,2", "3 columns where the header has 2"),
        (b"Da\0na,1", "a NUL byte in it"),
        (b'"Dana,1', "a quote that is never closed"),
        (b'"Dana"x,1', "broken quoting"),
        (b"x" * (reading.LINE_MAX + 1), "a line of more than 256 KiB"),
    ],
)
def test_a_broken_line_is_reported_with_its_number_and_the_next_is_read(csv: Path, line: bytes, reason: str) -> None:
    found = rows(csv, b"name,phone\nAda,1\n" + line + b"\nLee,2\nBen,3\n")
    assert found[0] == (2, ["Ada", "1"])
    assert found[2:] == [(4, ["Lee", "2"]), (5, ["Ben", "3"])]
    number, text = found[1]
    assert number == 3
    assert isinstance(text, str)
    assert reason in text


def test_blank_lines_and_empty_columns_at_the_end_are_passed_over(csv: Path) -> None:
    assert rows(csv, b"name,phone\n\n  \nDana,1,,\n\n") == [(4, ["Dana", "1"])]


def test_an_unclosed_quote_swallows_no_other_row(csv: Path) -> None:
    many = b"".join(b"Lee,%d\n" % n for n in range(500))
    found = rows(csv, b'name,phone\n"Dana,1\n' + many)
    assert found[0] == (2, "a quote that is never closed")
    assert [row for row in found[1:] if isinstance(row[1], str)] == []
    assert len(found) == 501


def test_a_line_of_ten_megabytes_takes_no_memory(csv: Path) -> None:
    csv.write_bytes(b"name,phone\n" + b"x" * 10_000_000 + b"\nDana,1\n" + b"\0" * 10_000_000)
    tracemalloc.start()
    with Table(csv) as table:
        found = list(table.rows())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [line for line, _ in found] == [2, 3, 4]
    assert found[1] == (3, ["Dana", "1"])
    assert peak < 4_000_000


def test_encodings(csv: Path) -> None:
    csv.write_bytes(b"\xef\xbb\xbfname,city\nJos\xc3\xa9,A\nJos\xe9,B\n")
    with Table(csv) as table:
        assert table.headers == ["name", "city"]
        assert list(table.rows()) == [(2, ["José", "A"]), (3, ["José", "B"])]
        assert table.latin1_lines == 1


def test_a_header_twice_gets_a_number(csv: Path) -> None:
    csv.write_bytes(b"Phone,Phone,,Phone\n1,2,3,4\n")
    with Table(csv) as table:
        assert table.headers == ["Phone", "Phone (2)", "column 3", "Phone (3)"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        ("name,phone\n".encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04rest", "spreadsheet"),
        (b'[{"name": "Dana"}]', "JSON array"),
        (b"," * 2000 + b"\n", "2001 columns"),
        (b"x" * (reading.LINE_MAX + 1) + b"\n", "header line"),
        (b'"name,phone\n', "header line"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_its_mend(csv: Path, content: bytes, reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        rows(csv, content)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be read"):
        Table(tmp_path / "nothing.csv")
    with pytest.raises(LoadError, match="cannot be read"):
        Table(tmp_path)


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text(
        '{"name": "Dana", "phone": ["1", 2], "vip": true}\n'
        "\n"
        "no json\n"
        "[1]\n"
        '{"name": "Lee", "zip": 98101, "extra": {"deep": [1]}}\n'
        '{"name": "N\\u0000"}\n'
        f'{{"name": {"9" * 5000}}}\n' + "[" * 100_000 + "\n"
    )
    with Table(path) as table:
        assert table.jsonl
        assert table.headers == ["name", "phone", "vip", "zip", "extra"]
        assert list(table.rows()) == [
            (1, ["Dana", "1;2", "", "", ""]),
            (3, "no JSON"),
            (4, "no JSON object"),
            (5, ["Lee", "", "", "98101", ""]),
            (6, "a NUL character in it"),
            (7, "no JSON"),
            (8, "no JSON"),
        ]


def test_json_lines_are_known_by_their_first_sign(csv: Path) -> None:
    assert rows(csv, b'\xef\xbb\xbf{"name": "Dana"}\n') == [(1, ["Dana"])]


def test_json_without_any_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text("1\n2\n")
    with pytest.raises(LoadError, match="none of the first lines"):
        Table(path)


@settings(max_examples=60)
@given(content=st.binary(max_size=400))
def test_no_bytes_at_all_break_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    found = rows(path, b"name,phone\n" + content)
    assert all(isinstance(cells, str) or len(cells) == 2 for _, cells in found)
    assert [line for line, _ in found] == sorted({line for line, _ in found})


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@settings(max_examples=60)
@given(table=st.lists(st.tuples(CELLS, CELLS), max_size=8))
def test_what_the_csv_module_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str]]
) -> None:
    quoted = "".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in table)
    path = tmp_path_factory.getbasetemp() / "back.csv"
    assert [cells for _, cells in rows(path, b"name,phone\n" + quoted.encode(), ",")] == [list(row) for row in table]
