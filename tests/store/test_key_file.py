"""The key that lies beside the database: made once, for its owner alone, and never in place of another one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.core.errors import SettingsError
from gateway.store.key_file import _make, kept_key

KEY, OTHER = b"k" * 32, b"l" * 32


def test_it_is_made_once_and_read_ever_after(tmp_path: Path) -> None:
    path = tmp_path / "data" / "ledger.db.leads-key"
    assert kept_key(path, KEY) == KEY
    assert kept_key(path, OTHER) == KEY
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_of_many_who_start_at_once_one_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with ThreadPoolExecutor(16) as threads:
        keys = set(threads.map(lambda number: kept_key(path, bytes([number]) * 32), range(64)))
    assert len(keys) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_who_comes_too_late_takes_nobodys_place(tmp_path: Path) -> None:
    kept_key(tmp_path / "key", KEY)
    _make(tmp_path / "key", OTHER)
    assert kept_key(tmp_path / "key", OTHER) == KEY


@pytest.mark.parametrize("content", ["", "no key", "6b" * 31, "6b" * 33, "é"])
def test_what_is_no_key_is_told_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(SettingsError, match="no key of ours"):
        kept_key(path, KEY)
    assert path.read_text() == content


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read or made"):
        kept_key(tmp_path, KEY)
