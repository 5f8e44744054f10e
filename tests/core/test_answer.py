"""Answers are made from what is written alone, and say of the money what is so."""

from dataclasses import replace

import orjson
import pytest

from gateway.core import answer
from gateway.core.charge import Charge, Event, Source, State
from gateway.core.upstream import Match, NoMatch

ASSET = "eip155:8453/0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"
BALANCE = Charge("chg_1", "enrich/phone", "agt_1", Source.BALANCE, 330_000)
SIGNED = replace(BALANCE, source=Source.SIGNATURE, asset=ASSET)


def test_what_was_kept_is_what_was_found() -> None:
    found = Match({"people": [{"name": "Ann Example"}]}, {"source": "directory"}, 200, {"x-vendor": "one"})
    kept = answer.unpack(answer.pack(found))
    assert (kept.matched, kept.data, kept.metadata, kept.headers) == (True, found.data, found.metadata, found.headers)


def test_a_miss_keeps_its_empty_shape_and_nobodys_headers() -> None:
    kept = answer.unpack(answer.pack(NoMatch({"people": []}, {"source": "directory"})))
    assert (kept.matched, kept.data, kept.headers) == (False, {"people": []}, {})


def test_what_json_does_not_have_is_not_kept() -> None:
    with pytest.raises(TypeError):
        answer.pack(Match({"when": object()}))


@pytest.mark.parametrize(
    ("charge", "charged"),
    [
        (BALANCE, 0),
        (replace(BALANCE, state=State.CAPTURED, captured_micros=330_000), 330_000),
        (replace(BALANCE, state=State.CAPTURED, captured_micros=330_000, refunded_micros=30_000), 300_000),
        (replace(BALANCE, state=State.REFUNDED, captured_micros=330_000, refunded_micros=330_000), 0),
        (replace(BALANCE, state=State.RELEASED, reason=Event.MISSED), 0),
        (replace(SIGNED, state=State.SETTLED, captured_micros=330_000), 330_000),
        (replace(SIGNED, state=State.UNPAID, captured_micros=330_000), 0),
    ],
)
def test_what_a_payer_is_told_he_paid_is_what_he_paid(charge: Charge, charged: int) -> None:
    assert answer.charged_micros(charge) == charged
    assert answer.billing(charge)["charged_usd"] == answer.format_usd(charged)


def test_the_same_charge_and_result_are_the_same_bytes() -> None:
    charge = replace(BALANCE, state=State.CAPTURED, captured_micros=330_000)
    kept = answer.unpack(answer.pack(Match({"b": 1, "a": 2})))
    first, again = answer.body(charge, "req_1", kept), answer.body(charge, "req_1", kept)
    assert first == again
    told = orjson.loads(first)
    assert (told["matched"], told["billed"], told["request_id"], told["route"]) == (True, True, "req_1", "enrich/phone")


def test_a_miss_is_told_as_not_billed() -> None:
    charge = replace(BALANCE, state=State.RELEASED, reason=Event.MISSED)
    told = orjson.loads(answer.body(charge, "req_1", answer.unpack(answer.pack(NoMatch()))))
    assert (told["matched"], told["billed"], told["billing"]["charged_usd"]) == (False, False, "0.000")


def test_times_are_told_in_utc_to_the_second() -> None:
    assert answer.iso(1_763_900_000_999) == "2025-11-23T12:13:20Z"
