"""Rows out of a file that may be anything: CSV, TSV or JSON lines, with broken lines in it.

Everything is read line by line with a limit on each, so that a line of 10 MB, a quote that is never closed or a
stream of zeros costs its own row and nothing more. A line without a quote is simply split at the delimiter; one
with a quote goes to the csv module, which may ask for the lines that follow. Where the quote does not close
within a limit, the lines that were lent are taken back and read as rows of their own.

Text is UTF-8, with or without a byte order mark; a line that is none is read as Latin-1, and counted.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

LINE_MAX = 256 * 1024
"""Bytes of one line."""
_RECORD_LINES_MAX = 64
"""Lines of one quoted record."""
_COLUMNS_MAX = 1000
_SAMPLE_ROWS = 50
_DELIMITERS = ",\t;|"
_SUFFIX_JSONL = (".jsonl", ".ndjson")

Row = tuple[int, list[str] | str]
"""(line number from 1, the cells) or (line number, why the row cannot be read)."""


Line = tuple[int, str | None]
"""(line number from 1, the text without its line end); None in place of a text that is too long."""
_OVERLONG = f"a line of more than {LINE_MAX // 1024} KiB"
_QUOTED = re.compile(r'"[^"]*"')


class LoadError(Exception):
    """The file as a whole cannot be loaded; the text says why and how to mend it."""


class Lines:
    """Lines of a file as text, with their numbers; bytes read so far in `bytes_read`."""

    def __init__(self, file: "BufferedReader[FileIO]") -> None:
        self._file = file
        self._lent: deque[Line] = deque()
        self._number = 0
        self.bytes_read = 0
        self.latin1_lines = 0

    def take(self) -> Line | None:
        """The next line, or None at the end."""
        if self._lent:
            return self._lent.popleft()
        raw = self._file.readline(LINE_MAX + 1)
        if not raw:
            return None
        self._number += 1
        self.bytes_read += len(raw)
        if len(raw) > LINE_MAX:
            self._skip_rest(raw)
            return self._number, None
        return self._number, self._decode(raw)

    def give_back(self, lines: Sequence[Line]) -> None:
        self._lent.extendleft(reversed(lines))

    def _skip_rest(self, raw: bytes) -> None:
        while raw and not raw.endswith(b"\n"):
            raw = self._file.readline(LINE_MAX)
            self.bytes_read += len(raw)

    def _decode(self, raw: bytes) -> str:
        if self._number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        raw = raw.rstrip(b"\r\n")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.latin1_lines += 1
            return raw.decode("latin-1")


class _Unclosed(Exception):
    """A quoted record does not end within the limits."""


class Table:
    """The rows of one file. Use as a context manager; raises LoadError for a file that is no table at all.

    `headers` are unique (a second "Phone" is "Phone (2)"), `sample` holds the first readable rows.
    """

    headers: list[str]

    def __init__(self, path: Path, delimiter: str | None = None) -> None:
        try:
            self._file = BufferedReader(FileIO(path), buffer_size=1 << 20)
        except OSError as error:
            raise LoadError(f"{path} cannot be read: {error.strerror}") from None
        self.size_bytes = path.stat().st_size
        self._lines = Lines(self._file)
        try:
            self._refuse_foreign(path)
            self.jsonl = path.suffix.lower() in _SUFFIX_JSONL or self._first_sign() == b"{"
            self.delimiter = None if self.jsonl else delimiter or self._sniff()
            self._ahead: list[Row] = []
            self.headers = self._json_headers() if self.jsonl else self._csv_headers()
            self._read_ahead()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def bytes_read(self) -> int:
        return self._lines.bytes_read

    @property
    def latin1_lines(self) -> int:
        return self._lines.latin1_lines

    @property
    def sample(self) -> list[list[str]]:
        return [cells for _, cells in self._ahead if isinstance(cells, list)]

    def rows(self) -> Iterator[Row]:
        """Every row below the header, in the order of the file; blank lines are passed over."""
        yield from self._ahead
        yield from self._json_rows() if self.jsonl else self._csv_rows()

    def _refuse_foreign(self, path: Path) -> None:
        head = self._file.peek(8)[:8]
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise LoadError(f"{path} is UTF-16: save it as UTF-8 and load it again")
        if head.startswith((b"PK\x03\x04", b"\x1f\x8b")):
            raise LoadError(f"{path} is compressed or a spreadsheet: save it as CSV and load it again")
        if self._first_sign() == b"[":
            raise LoadError(f"{path} is a JSON array: write one object a line (JSON lines) and load it again")

    def _first_sign(self) -> bytes:
        return self._file.peek(64)[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1]

    def _read_ahead(self) -> None:
        rows = self._json_rows() if self.jsonl else self._csv_rows()
        while len(self._ahead) < _SAMPLE_ROWS and (row := next(rows, None)) is not None:
            self._ahead.append(row)

    # CSV and TSV

    def _sniff(self) -> str:
        """The delimiter that parts the first line into most columns, and the next ones into as many."""
        taken = [line for line in (self._lines.take() for _ in range(10)) if line is not None]
        self._lines.give_back(taken)
        bare = [_QUOTED.sub("", text) for _, text in taken if text]
        counts = {sign: [text.count(sign) for text in bare if text.strip(" \r\n")] for sign in _DELIMITERS}
        alike = {sign: (count.count(count[0]), count[0]) for sign, count in counts.items() if count and count[0]}
        return max(alike, key=lambda sign: alike[sign]) if alike else ","

    def _csv_headers(self) -> list[str]:
        for _, cells in self._csv_records():
            if isinstance(cells, str):
                raise LoadError(f"the header line cannot be read: {cells}")
            return _unique(cells)
        raise LoadError("the file is empty")

    def _csv_rows(self) -> Iterator[Row]:
        width = len(self.headers)
        for line, cells in self._csv_records():
            if isinstance(cells, str) or len(cells) == width:
                yield line, cells
            elif len(cells) > width and not any(cell.strip() for cell in cells[width:]):
                yield line, cells[:width]
            else:
                yield line, f"{len(cells)} columns where the header has {width}"

    def _csv_records(self) -> Iterator[Row]:
        sign = self.delimiter or ","
        while (taken := self._lines.take()) is not None:
            line, text = taken
            if text is None:
                yield line, _OVERLONG
            elif not text or text.isspace():
                continue
            elif "\0" in text:
                yield line, "a NUL byte in it"
            elif '"' not in text:
                yield line, text.split(sign)
            else:
                yield line, self._quoted(text, sign)

    def _quoted(self, first: str, sign: str) -> list[str] | str:
        """The cells of a record that begins with this line and may run over the next ones, or why it cannot be read."""
        lent: list[Line] = []

        def lines() -> Iterator[str]:
            yield first + "\n"
            size = len(first)
            while (taken := self._lines.take()) is not None:
                lent.append(taken)
                text = taken[1]
                size += len(text or "")
                if text is None or len(lent) >= _RECORD_LINES_MAX or size > LINE_MAX:
                    break
                yield text + "\n"
            raise _Unclosed

        try:
            return next(csv.reader(lines(), delimiter=sign, strict=True))
        except _Unclosed:
            self._lines.give_back(lent)
            return "a quote that is never closed"
        except csv.Error as error:
            self._lines.give_back(lent)
            return f"broken quoting ({error})"

    # JSON lines

    def _json_headers(self) -> list[str]:
        """The union of the keys of the first objects, in the order they come."""
        taken = [line for line in (self._lines.take() for _ in range(_SAMPLE_ROWS)) if line is not None]
        self._lines.give_back(taken)
        keys: dict[str, None] = {}
        for _, text in taken:
            value = _json_object(text or "")
            if isinstance(value, dict):
                keys.update(dict.fromkeys(value))
        if len(keys) > _COLUMNS_MAX:
            raise LoadError(f"the first objects have {len(keys)} keys; at most {_COLUMNS_MAX} are read")
        if not keys:
            raise LoadError("none of the first lines is a JSON object")
        return list(keys)

    def _json_rows(self) -> Iterator[Row]:
        while (taken := self._lines.take()) is not None:
            line, text = taken
            if text is None:
                yield line, _OVERLONG
            elif text and not text.isspace():
                value = _json_object(text)
                yield line, value if isinstance(value, str) else [_text_of(value.get(key)) for key in self.headers]


def _json_object(text: str) -> dict[str, Any] | str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "no JSON"
    if not isinstance(value, dict):
        return "no JSON object"
    if "\\u0000" in text:
        return "a NUL character in it"
    return value


def _text_of(value: object) -> str:
    """A JSON value as a cell; a list of values as one cell with several, anything deeper as nothing."""
    if isinstance(value, list):
        return ";".join(_text_of(item) for item in value if not isinstance(item, (list, dict)))
    if value is None or isinstance(value, (dict, bool)):
        return ""
    return str(value)


def _unique(headers: Sequence[str]) -> list[str]:
    if len(headers) > _COLUMNS_MAX:
        raise LoadError(f"the header line has {len(headers)} columns; at most {_COLUMNS_MAX} are read")
    found: dict[str, None] = {}
    for index, header in enumerate(headers):
        plain = header.strip() or f"column {index + 1}"
        name, count = plain, 2
        while name in found:
            name, count = f"{plain} ({count})", count + 1
        found[name] = None
    return list(found)
