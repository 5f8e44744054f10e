"""A payload is read into one form whatever its spelling, or refused as malformed; F-011."""

from typing import Any

import orjson
import pytest
from rigs import paper

from gateway.core.errors import Code, Problem
from gateway.core.x402.messages import Eip3009, Permit2, Resource, parse_payment

BY_TOKEN = paper.paid(paper.EIP3009)
BY_PERMIT = paper.paid(paper.PERMIT2)
BY_UPTO = paper.paid(paper.UPTO)
SIGNED = ("payload", "authorization")
PERMIT = ("payload", "permit2Authorization")


def malformed(value: Any) -> str:
    with pytest.raises(Problem) as caught:
        parse_payment(value)
    assert caught.value.code is Code.PAYMENT_MALFORMED
    assert caught.value.reason in ("invalid_payload", "invalid_x402_version")
    return str(caught.value.reason)


def test_an_authorization_is_read() -> None:
    sent = BY_TOKEN["payload"]["authorization"]
    payment = parse_payment(BY_TOKEN)
    assert payment.authorization == Eip3009(
        from_=paper.PAYER.address.lower(), to=paper.PAY_TO.lower(), value=330_000, valid_after=0,
        valid_before=paper.NOW + 60, nonce=bytes.fromhex(sent["nonce"][2:]),
    )  # fmt: skip
    assert len(payment.signature) == 65
    assert payment.accepted == paper.EIP3009.to_json()
    assert (payment.resource, payment.extensions, payment.payment_identifier) == (None, None, None)


def test_a_permit_is_read_with_its_facilitator_by_upto_alone() -> None:
    exact, upto = parse_payment(BY_PERMIT).authorization, parse_payment(BY_UPTO).authorization
    assert isinstance(exact, Permit2)
    assert isinstance(upto, Permit2)
    assert (exact.facilitator, upto.facilitator) == (None, paper.RELAYER.lower())
    assert (exact.token, exact.amount, exact.deadline) == (paper.TOKEN.address.lower(), 330_000, paper.NOW + 60)
    assert upto.amount == 2_000_000


@pytest.mark.parametrize("version", [1, 3, 0, -2, "2", 2.0, True, None, [2]])
def test_any_other_version_is_told_as_such(version: object) -> None:
    assert malformed({**BY_TOKEN, "x402Version": version}) == "invalid_x402_version"


@pytest.mark.parametrize("value", [None, True, 2, 2.5, "text", [], [BY_TOKEN], {}])
def test_what_is_no_payload_is_malformed(value: object) -> None:
    malformed(value)


NONSENSE = (None, "", True, -1, 1.5, [], {}, "0x", "-1", "ü", " 1", "1 ", "1e5", "0x1g")


@pytest.mark.parametrize("member", ["from", "to", "value", "validAfter", "validBefore", "nonce"])
def test_a_member_of_an_authorization_is_what_it_should_be(member: str) -> None:
    for value in NONSENSE:
        malformed(paper.changed(BY_TOKEN, *SIGNED, member, to=value))


@pytest.mark.parametrize(
    "path",
    [
        *((*PERMIT, name) for name in ("from", "spender", "nonce", "deadline", "permitted", "witness")),
        (*PERMIT, "permitted", "token"),
        (*PERMIT, "permitted", "amount"),
        (*PERMIT, "witness", "to"),
        (*PERMIT, "witness", "validAfter"),
    ],
)
def test_a_member_of_a_permit_is_what_it_should_be(path: tuple[str, ...]) -> None:
    for value in NONSENSE:
        malformed(paper.changed(BY_PERMIT, *path, to=value))


@pytest.mark.parametrize("value", [0, "", True, [], {}, "0x", "0x" + "g" * 40])
def test_a_facilitator_is_an_address(value: object) -> None:
    malformed(paper.changed(BY_UPTO, *PERMIT, "witness", "facilitator", to=value))


@pytest.mark.parametrize("digits", ["9" * 79, "9" * 5000, str(2**256), "0" * 79])
def test_numbers_end_below_two_to_the_256(digits: str) -> None:
    malformed(paper.changed(BY_TOKEN, *SIGNED, "value", to=digits))
    malformed(paper.changed(BY_PERMIT, *PERMIT, "nonce", to=digits))


def test_the_largest_number_is_read() -> None:
    payment = parse_payment(paper.changed(BY_TOKEN, *SIGNED, "value", to=str(2**256 - 1)))
    assert isinstance(payment.authorization, Eip3009)
    assert payment.authorization.value == 2**256 - 1


def test_small_numbers_may_come_as_numbers() -> None:
    as_text = paper.changed(BY_TOKEN, *SIGNED, "validBefore", to=str(paper.NOW))
    as_number = paper.changed(BY_TOKEN, *SIGNED, "validBefore", to=paper.NOW)
    assert parse_payment(as_text).authorization == parse_payment(as_number).authorization


@pytest.mark.parametrize("nonce", ["255", "0xff", "0xFF", "0x00ff", "000255", 255])
def test_one_permit_nonce_has_one_value_however_it_is_written(nonce: object) -> None:
    payment = parse_payment(paper.changed(BY_PERMIT, *PERMIT, "nonce", to=nonce))
    assert isinstance(payment.authorization, Permit2)
    assert payment.authorization.nonce == 255


def test_one_authorization_has_one_value_however_its_hexadecimal_is_written() -> None:
    spelt = BY_TOKEN
    for member in ("from", "to", "nonce"):
        spelt = paper.changed(spelt, *SIGNED, member, to=lambda old: "0x" + old[2:].upper())
    assert spelt != BY_TOKEN
    assert parse_payment(spelt).authorization == parse_payment(BY_TOKEN).authorization


@pytest.mark.parametrize(
    "signature", [None, "", "0x1", "0xgg", "0x12 34", "1234", "0X1234", 5, [], "0x" + "00" * 2049, "0x\u0661\u0661"]
)
def test_a_signature_is_hexadecimal_and_not_endless(signature: object) -> None:
    malformed(paper.changed(BY_TOKEN, "payload", "signature", to=signature))


def test_a_long_signature_of_a_smart_wallet_is_read() -> None:
    payment = parse_payment(paper.changed(BY_TOKEN, "payload", "signature", to="0x" + "ab" * 2048))
    assert payment.signature == b"\xab" * 2048


def test_a_payload_is_signed_one_way() -> None:
    malformed({**BY_TOKEN, "payload": {**BY_TOKEN["payload"], **BY_PERMIT["payload"]}})
    malformed({**BY_TOKEN, "payload": {"signature": "0x00"}})


@pytest.mark.parametrize("member", ["accepted", "extensions", "payload"])
@pytest.mark.parametrize("value", [[], "text", 5, True])
def test_objects_are_objects(member: str, value: object) -> None:
    malformed({**BY_TOKEN, member: value})


def test_buyers_that_drop_what_they_need_not_say_are_read() -> None:
    bare = paper.without(BY_TOKEN, "accepted")
    assert parse_payment(bare).accepted is None
    assert parse_payment({**BY_TOKEN, "resource": None, "extensions": None}).extensions is None


def test_the_same_payload_has_the_same_hash_however_it_is_written() -> None:
    turned = dict(reversed(BY_TOKEN.items()))
    assert list(turned) != list(BY_TOKEN)
    first, second = parse_payment(BY_TOKEN), parse_payment(turned)
    assert first.raw == second.raw
    assert first.payment_hash == second.payment_hash != parse_payment(BY_PERMIT).payment_hash
    assert orjson.loads(first.raw) == BY_TOKEN


def test_what_was_stored_is_read_again() -> None:
    for payload in (BY_TOKEN, BY_PERMIT, BY_UPTO):
        payment = parse_payment(payload)
        assert parse_payment(orjson.loads(payment.raw)) == payment


def test_f173_what_is_kept_settles_and_has_none_of_the_clients_own_words() -> None:
    own = {
        "resource": {"url": "https://example.com/?phone=2065550142"},
        "extensions": {
            "crm": {"lead": "Dana Sample"},
            "payment-identifier": {"info": {"id": "for-2065550142-00001"}},
            "repeat-key": {"info": {"key": "0b" * 16}, "schema": {"note": "2065550142"}},
        },
    }
    for payload in (BY_TOKEN, BY_PERMIT, BY_UPTO):
        payment = parse_payment({**payload, **own, "crm": "2065550142"})
        kept = parse_payment(orjson.loads(payment.kept))
        assert b"2065550142" not in payment.kept
        assert b"Dana" not in payment.kept
        assert (kept.authorization, kept.signature, kept.permit) == (
            payment.authorization, payment.signature, payment.permit,
        )  # fmt: skip
        assert kept.accepted == payment.accepted
        assert kept.repeat_key == payment.repeat_key
        assert kept.kept == payment.kept, "the same wherever it is read"


def nested(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = {"in": value}
    return value


def test_nesting_ends_where_no_client_nests() -> None:
    assert parse_payment({**BY_TOKEN, "extensions": {"deep": nested(30)}})
    malformed({**BY_TOKEN, "extensions": {"deep": nested(31)}})
    malformed({**BY_TOKEN, "extensions": {"deep": [nested(31)]}})
    malformed({**BY_TOKEN, "extensions": {"deep": nested(5000)}})


def test_many_flat_members_are_not_deep() -> None:
    assert parse_payment({**BY_TOKEN, "extensions": {"list": [{} for _ in range(100)]}})


@pytest.mark.parametrize("value", [2**70, "\ud800", {1: 2}, b"bytes", object()])
def test_what_json_does_not_have_is_malformed(value: object) -> None:
    malformed({**BY_TOKEN, "extensions": {"odd": value}})


@pytest.mark.parametrize("identifier", ["a" * 16, "Z" * 128, "order_2026-11-23_0001"])
def test_a_payment_identifier_is_read(identifier: str) -> None:
    extensions = {"payment-identifier": {"info": {"required": False, "id": identifier}}}
    assert parse_payment({**BY_TOKEN, "extensions": extensions}).payment_identifier == identifier


@pytest.mark.parametrize(
    "identifier", ["", "a" * 15, "a" * 129, "a b" * 10, "ä" * 16, "a" * 16 + "\n", 5, [], {}, True]
)
def test_an_identifier_that_is_none_is_refused_and_not_forgotten(identifier: object) -> None:
    extensions = {"payment-identifier": {"info": {"required": False, "id": identifier}}}
    malformed({**BY_TOKEN, "extensions": extensions})


@pytest.mark.parametrize("extension", [None, {}, "text", {"info": None}, {"info": {"required": False}}, {"info": []}])
def test_an_echo_without_an_identifier_has_none(extension: object) -> None:
    assert parse_payment({**BY_TOKEN, "extensions": {"payment-identifier": extension}}).payment_identifier is None


KEY = "0123456789abcdef" * 2


def echo(key: object) -> dict[str, Any]:
    return {**BY_TOKEN, "extensions": {"repeat-key": {"info": {"key": key}, "schema": {"type": "object"}}}}


def test_a_repeat_key_is_read() -> None:
    payment = parse_payment(echo(KEY))
    assert payment.repeat_key == KEY
    assert not payment.is_guessable


@pytest.mark.parametrize(
    "key", [None, "", KEY[1:], KEY + "0", KEY.upper(), KEY + "\n", "g" * 32, "٠" * 32, "0" * 10_000, 5, True, [KEY], {}]
)
def test_what_is_no_repeat_key_is_none_and_the_payment_is_as_good(key: object) -> None:
    """It is no reason to refuse money, and none to believe that nobody else knows it."""
    payment = parse_payment(echo(key))
    assert payment.repeat_key is None
    assert payment.is_guessable


@pytest.mark.parametrize(
    "extension", [None, {}, KEY, [KEY], {"key": KEY}, {"info": KEY}, {"info": [KEY]}, {"info": None}]
)
def test_a_repeat_key_has_its_place(extension: object) -> None:
    assert parse_payment({**BY_TOKEN, "extensions": {"repeat-key": extension}}).is_guessable


def test_a_payment_without_anything_of_the_clients_own_is_guessable() -> None:
    assert parse_payment(BY_TOKEN).is_guessable
    assert parse_payment({**BY_TOKEN, "extensions": {}}).is_guessable
    offered = {"payment-identifier": {"info": {"required": False}}}
    assert parse_payment({**BY_TOKEN, "extensions": offered}).is_guessable
    chosen = {"payment-identifier": {"info": {"required": False, "id": "i" * 16}}}
    assert not parse_payment({**BY_TOKEN, "extensions": chosen}).is_guessable


def test_another_repeat_key_makes_another_payment_and_another_spelling_does_not() -> None:
    payment = parse_payment(echo(KEY))
    assert parse_payment(echo("f" * 32)).payment_hash != payment.payment_hash
    backwards = dict(reversed(echo(KEY).items()))
    assert parse_payment(backwards).payment_hash == payment.payment_hash


def test_secrets_of_a_payment_stay_out_of_its_repr() -> None:
    payment = parse_payment(echo(KEY))
    assert KEY not in repr(payment)
    assert payment.signature.hex() not in repr(payment)
    assert BY_TOKEN["payload"]["signature"] not in repr(payment)


@pytest.mark.parametrize(
    "changes",
    [
        {"service_name": ""},
        {"service_name": "x" * 33},
        {"service_name": "Füll"},
        {"service_name": "a\tb"},
        {"tags": ("",)},
        {"tags": ("x" * 33,)},
        {"tags": ("ü",)},
        {"tags": ("a", "b", "c", "d", "e", "f")},
        {"icon_url": ""},
        {"icon_url": "https://example.com/" + "x" * 2048},
    ],
)
def test_one_bad_word_about_a_service_would_lose_the_whole_offer(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Resource("https://api.example.com/x", **changes)


def test_a_resource_says_what_is_known_and_no_more() -> None:
    assert Resource("https://api.example.com/x").to_json() == {
        "url": "https://api.example.com/x",
        "mimeType": "application/json",
    }
    full = Resource(
        "https://api.example.com/x", "A thing", "text/csv", "Corner Data", ("phone",), "https://e.com/i.png"
    )
    assert full.to_json() == {
        "url": "https://api.example.com/x",
        "description": "A thing",
        "mimeType": "text/csv",
        "serviceName": "Corner Data",
        "tags": ["phone"],
        "iconUrl": "https://e.com/i.png",
    }
