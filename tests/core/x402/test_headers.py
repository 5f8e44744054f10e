"""Headers: whatever a stranger sends is a payment or PAYMENT_MALFORMED, at once; F-011."""

import base64
import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rigs import paper
from x402.http.utils import decode_payment_response_header, encode_payment_signature_header
from x402.schemas import PaymentPayload

from gateway.core.errors import Code, Problem
from gateway.core.networks import SANDBOX
from gateway.core.x402.headers import HEADER_BYTES_MAX, decode_payment, encode, settlement_response
from gateway.core.x402.messages import Payment

PAID = paper.paid(paper.EIP3009)


def read(header: str | bytes) -> Payment | None:
    """The payment, or None for a header refused as it must be; anything else fails the test."""
    try:
        return decode_payment(header)
    except Problem as problem:
        refused = problem
    assert (refused.code, refused.status) == (Code.PAYMENT_MALFORMED, 400)
    return None


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def test_what_an_official_client_sends_is_read() -> None:
    for offer in paper.OFFERS:
        paid = paper.paid(offer)
        header = encode_payment_signature_header(PaymentPayload.model_validate(paid))
        payment = decode_payment(header)
        assert payment.accepted == paid["accepted"]
        assert decode_payment(header.encode()) == payment


def test_what_is_encoded_is_read_again() -> None:
    assert decode_payment(encode(PAID)).raw == decode_payment(b64(json.dumps(PAID, indent=2))).raw


ZOO = {
    "empty": "",
    "a megabyte": "A" * 1_000_000,
    "padding alone": "====",
    "no base64": "{}",
    "base64url": b64(b"\xff\xfe\xfd").replace("/", "_").replace("+", "-"),
    "padding missing": b64(json.dumps(PAID)).rstrip("=") + "A",
    "a line break": b64(json.dumps(PAID))[:40] + "\n" + b64(json.dumps(PAID))[40:],
    "not ASCII": "é" * 100,
    "not UTF-8": b64(b'{"x402Version": 2, "\xff": 1}'),
    "half a surrogate": b64('{"x402Version": 2, "a": "\\ud800"}'),
    "an array": b64("[]"),
    "a number": b64("2"),
    "null": b64("null"),
    "NaN": b64('{"x402Version": 2, "payload": NaN}'),
    "infinity": b64('{"x402Version": 2, "payload": 1e999}'),
    "nested": b64("[" * 3000 + "]" * 3000),
    "nested objects": b64('{"a":' * 1000 + "1" + "}" * 1000),
    "nested and cut": b64('{"a":[' * 900),
    "5000 digits": b64('{"x402Version": ' + "2" * 5000 + "}"),
    "trailing": b64(json.dumps(PAID) + "{}"),
    "version 1": b64('{"x402Version": 1, "scheme": "exact", "network": "base", "payload": {}}'),
    "a zero byte": b64("\0"),
    "a byte order mark": b64("\ufeff" + json.dumps(PAID)),
}


@pytest.mark.parametrize("header", ZOO.values(), ids=ZOO.keys())
def test_the_zoo_is_refused_at_once(header: str) -> None:
    started = time.perf_counter()
    assert read(header) is None
    assert time.perf_counter() - started < 0.05


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(PAID)[:-1] + ', "x402Version": 2}',
        json.dumps(PAID)[:-1] + ', "payload": {}}',
        '{"payload": {}, ' + json.dumps(PAID)[1:],
        json.dumps(PAID).replace('"value":', '"value": "1", "value":'),
        json.dumps(PAID).replace('"value":', '"v\\u0061lue": "1", "value":'),
        json.dumps(PAID)[:-1] + ', "extensions": {"a": {"b": 1, "b": 1}}}',
        json.dumps(PAID)[:-1] + ', "extensions": {"\\"": "\\"", "a": 1, "a": 2}}',
    ],
)
def test_a_repeated_key_is_read_by_nobody(text: str) -> None:
    """Two readers of one payment, ours and a facilitator's, must not understand it differently."""
    assert json.loads(text)
    assert read(b64(text)) is None


@pytest.mark.parametrize("extra", [{"said": 'a "quoted" word \\ back'}, {"a:b": "é\n\u2028"}, {"": ""}])
def test_quotes_inside_strings_are_no_keys(extra: dict[str, str]) -> None:
    text = json.dumps({**PAID, "extensions": extra})
    payment = read(b64(text))
    assert payment is not None
    assert payment.extensions == extra
    assert read(b64(json.dumps({**PAID, "extensions": extra}, ensure_ascii=False))) == payment


def test_quotes_written_as_escapes_neither_hide_a_repeated_key_nor_look_like_one() -> None:
    """A dropped key takes two quotes with it; two that were escapes come out as quotes in its place."""
    escapes = '"said": "\\u0022\\u0022"'
    head = json.dumps(PAID)[:-1]
    assert read(b64(head + ', "extensions": {' + escapes + "}}")) is not None
    assert read(b64(head + ', "extensions": {"a": 1, "a": 2, ' + escapes + "}}")) is None


def test_a_header_ends_where_proxies_cut_it() -> None:
    room = HEADER_BYTES_MAX // 4 * 3 - len(json.dumps({**PAID, "resource": ""}))
    assert read(b64(json.dumps({**PAID, "resource": "x" * room}))) is not None
    assert read(b64(json.dumps({**PAID, "resource": "x" * (room + 3)}))) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(st.text(max_size=200) | st.binary(max_size=200))
@example("A" * (HEADER_BYTES_MAX + 1))
def test_random_headers_raise_nothing_else(header: str | bytes) -> None:
    assert read(header) is None


@given(st.binary(max_size=200))
def test_random_bytes_in_base64_raise_nothing_else(data: bytes) -> None:
    assert read(b64(data)) is None


@given(json_values)
def test_random_json_raises_nothing_else(value: object) -> None:
    assert read(b64(json.dumps(value))) is None


@given(st.data())
def test_a_payment_with_anything_anywhere_raises_nothing_else(data: st.DataObject) -> None:
    """One member, at any depth, becomes any JSON value."""
    payload = data.draw(st.sampled_from([PAID, paper.paid(paper.PERMIT2), paper.paid(paper.UPTO)]))
    path: list[str] = []
    here: object = payload
    while isinstance(here, dict):
        path.append(data.draw(st.sampled_from(sorted(here))))
        here = here[path[-1]]
        if data.draw(st.booleans()):
            break
    read(b64(json.dumps(paper.changed(payload, *path, to=data.draw(json_values)))))


@given(st.integers(0, len(json.dumps(PAID)) - 1), st.integers(0, 255))
def test_a_payment_with_one_other_byte_raises_nothing_else(position: int, byte: int) -> None:
    text = json.dumps(PAID).encode()
    read(b64(text[:position] + bytes([byte]) + text[position + 1 :]))


def test_a_receipt_is_read_by_an_official_client() -> None:
    receipt = settlement_response(True, "0x" + "ab" * 32, paper.BASE, paper.PAYER.address, amount="330000")
    theirs = decode_payment_response_header(encode(receipt))
    assert (theirs.success, theirs.transaction, theirs.amount) == (True, "0x" + "ab" * 32, "330000")
    assert set(receipt) == {"success", "transaction", "network", "payer", "amount"}


def test_a_failure_says_why_and_leaves_out_what_there_is_not() -> None:
    assert settlement_response(False, "", paper.BASE, None, error_reason="settlement_pending") == {
        "success": False,
        "transaction": "",
        "network": paper.BASE,
        "errorReason": "settlement_pending",
    }


def test_a_receipt_for_play_money_says_so_and_is_read_all_the_same() -> None:
    receipt = settlement_response(True, "0x" + "ab" * 32, SANDBOX, paper.PAYER.address, amount="330000")
    assert receipt["sandbox"] is True
    assert decode_payment_response_header(encode(receipt)).success is True
