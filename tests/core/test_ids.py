"""Ids sort by time; tokens tell a typing error from an unknown token and are kept as a hash."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ids import is_token, new_id, new_repeat_key, new_token, token_hash, token_hint

ENTROPY = bytes(range(32))
BASE62 = string.digits + string.ascii_letters


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_ids_sort_as_their_times(first_ms: int, second_ms: int, entropy: bytes) -> None:
    first, second = new_id("chg_", first_ms, entropy), new_id("chg_", second_ms, entropy)
    assert (first < second) is (first_ms < second_ms)
    assert len(first) == len("chg_") + 26


def test_every_bit_of_the_time_counts() -> None:
    ids = [new_id("chg_", 1 << bit, bytes(10)) for bit in range(48)]
    assert sorted(set(ids)) == ids
    assert new_id("chg_", 0, b"\xff" * 10) < ids[0]


@given(st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_no_randomness_of_an_id_is_lost(one: bytes, other: bytes) -> None:
    assert (new_id("chg_", 1, one) == new_id("chg_", 1, other)) is (one == other)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_no_randomness_of_a_token_is_lost(one: bytes, other: bytes) -> None:
    assert (new_token("411_", one) == new_token("411_", other)) is (one == other)


def test_every_bit_of_a_repeat_keys_randomness_counts() -> None:
    keys = {new_repeat_key((1 << bit).to_bytes(16)) for bit in range(128)}
    assert len(keys) == 128
    assert {len(key) for key in keys} == {32}


@given(st.binary(min_size=32, max_size=32))
def test_a_token_has_its_form(entropy: bytes) -> None:
    token = new_token("411_", entropy)
    assert is_token(token, "411_")
    assert len(token) == 4 + 43 + 6
    assert not is_token(token, "411c_")


@given(st.integers(0, 52), st.sampled_from(BASE62))
def test_one_wrong_character_is_noticed(position: int, character: str) -> None:
    token = new_token("411_", ENTROPY)
    mistyped = token[:position] + character + token[position + 1 :]
    assert is_token(mistyped, "411_") is (mistyped == token)


@pytest.mark.parametrize(
    "text", ["", "411_", "é" * 53, new_token("411_", ENTROPY) + " ", new_token("411_", ENTROPY)[:-1]]
)
def test_what_is_no_token_is_told_without_an_error(text: str) -> None:
    assert not is_token(text, "411_")


def test_a_token_is_kept_as_a_hash_and_shown_by_a_hint_that_gives_nothing_away() -> None:
    token = new_token("411_", ENTROPY)
    assert token_hash(token) == token_hash(token) != token_hash(token[:-1])
    assert len(token_hash(token)) == 32
    hint = token_hint(token)
    assert hint.startswith("411_...")
    assert token[:8] not in hint
    assert sum(character in token[4:] for character in hint[7:]) == 3 == len(hint[7:])
