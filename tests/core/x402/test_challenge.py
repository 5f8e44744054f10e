"""The 402: read by official clients from its header and by everybody else from its body; F-014."""

import base64
import json
from typing import Any

import jsonschema
import orjson
import pytest
from eth_account import Account
from rigs import paper
from rigs.chain import PAYER_KEYS
from x402 import x402ClientSync
from x402.http.utils import decode_payment_required_header, encode_payment_signature_header
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.schemas import PaymentRequired

from gateway.core.errors import TABLE, Code
from gateway.core.x402.bazaar import repeat_key_extension
from gateway.core.x402.challenge import OFFER_BYTES_MAX, Challenge, build, offer_bytes, split
from gateway.core.x402.headers import HEADER_BYTES_MAX, decode_payment, encode
from gateway.core.x402.messages import Resource
from gateway.core.x402.verify import match_offer

RESOURCE = Resource("https://api.example.com/api/v1/enrich/phone", "Reverse phone lookup", service_name="Corner Data")
KEY, OTHER_KEY = "0123456789abcdef" * 2, "f" * 32
EXTENSIONS: dict[str, Any] = {"payment-identifier": {"info": {"required": False}, "schema": {"type": "object"}}}


def challenge(**changes: Any) -> Challenge:
    parts: dict[str, Any] = {
        "resource": RESOURCE,
        "accepts": paper.OFFERS,
        "extensions": EXTENSIONS,
        "repeat_key": KEY,
        "error": "pay 0.330 USD",
        "code": Code.AGENT_TOKEN_REQUIRED,
    }
    return build(**{**parts, **changes})


def header(built: Challenge) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.b64decode(built.header, validate=True))
    return value


def test_an_official_client_reads_the_header() -> None:
    read = decode_payment_required_header(challenge().header.decode())
    assert isinstance(read, PaymentRequired)
    assert read.error == "pay 0.330 USD"
    assert read.resource is not None
    assert read.resource.service_name == "Corner Data"
    assert [accepted.model_dump(by_alias=True) for accepted in read.accepts] == [o.to_json() for o in paper.OFFERS]


def test_an_official_client_pays_it_and_we_know_which_offer_it_took() -> None:
    """F-014: the client sends resource and extensions back; its header must pass where ours did."""
    client = x402ClientSync()
    client.register("eip155:*", ExactEvmScheme(Account.from_key(PAYER_KEYS[0])))
    read = decode_payment_required_header(challenge().header.decode())
    assert isinstance(read, PaymentRequired)
    payment = decode_payment(encode_payment_signature_header(client.create_payment_payload(read)))
    assert match_offer(payment, paper.OFFERS) is paper.EIP3009
    assert payment.extensions == EXTENSIONS | {"repeat-key": repeat_key_extension(KEY)}
    assert payment.repeat_key == KEY


def test_the_body_is_flat_and_the_header_inside_it() -> None:
    built = challenge(fields={"price_usd": "0.330", "request_id": "req_1", "billing_reason": "payment_required"})
    body = orjson.loads(built.body)
    assert header(built).items() <= body.items()
    assert isinstance(body["error"], str)
    assert (body["code"], body["price_usd"], body["request_id"]) == ("AGENT_TOKEN_REQUIRED", "0.330", "req_1")


def test_further_members_never_take_the_place_of_the_standards_own() -> None:
    names = ("x402Version", "error", "code", "resource", "accepts", "extensions")
    assert orjson.loads(challenge(fields=dict.fromkeys(names, "mine")).body) == orjson.loads(challenge().body)


def test_the_word_that_makes_clients_approve_permit2_is_exact() -> None:
    built = challenge(code=Code.PERMIT2_ALLOWANCE_REQUIRED, error="approve Permit2 first")
    assert header(built)["error"] == "permit2_allowance_required"
    assert orjson.loads(built.body)["error"] == "approve Permit2 first"
    assert built.status == 412


@pytest.mark.parametrize("code", [code for code, row in TABLE.items() if row.status == 402])
def test_every_code_that_asks_for_money_is_a_402(code: Code) -> None:
    assert challenge(code=code).status == 402


def test_a_code_nobody_knows_is_our_own_mistake() -> None:
    with pytest.raises(ValueError):
        challenge(code="PAY_ME")


def test_without_other_extensions_there_is_the_repeat_key() -> None:
    built = challenge(extensions={})
    assert header(built)["extensions"] == orjson.loads(built.body)["extensions"]
    assert header(built)["extensions"] == {"repeat-key": repeat_key_extension(KEY)}


def test_the_repeat_keys_entry_is_an_extension_as_strict_readers_want_it() -> None:
    """mppx drops all extensions for one that is not {info, schema}; `info` satisfies the schema."""
    block = repeat_key_extension(KEY)
    assert set(block) == {"info", "schema"}
    jsonschema.validate(block["info"], block["schema"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, block["schema"])


@pytest.mark.parametrize("key", ["", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 31 + "\n"])
def test_what_is_no_repeat_key_is_a_mistake_of_ours(key: str) -> None:
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        challenge(repeat_key=key)


@pytest.mark.parametrize("tail", [{}, {"z": ""}, {"z": "y"}, {"z": "yy"}])
@pytest.mark.parametrize("length", range(6))
def test_a_copy_with_another_key_is_what_would_have_been_built_with_it(length: int, tail: dict[str, str]) -> None:
    """Wherever the key begins and ends among the groups of base64."""
    parts = {"resource": Resource("https://api.example.com/" + "x" * length)}
    built, other = challenge(**parts), challenge(**parts, repeat_key=OTHER_KEY)
    cases = [(built.header, other.header)]
    for text, wanted in [(header(built) | tail, header(other) | tail), ("x" * length + KEY, "x" * length + OTHER_KEY)]:
        cases.append((encode(text).encode(), encode(wanted).encode()))
    for made, wanted_header in cases:
        around = split(made, KEY)
        assert around.before + around.middle(KEY.encode()) + around.after == made
        assert around.before + around.middle(OTHER_KEY.encode()) + around.after == wanted_header
        assert len(around.left) < 3 > len(around.right)


@pytest.mark.parametrize("error", ["no key at all", f"{KEY} {KEY}"])
def test_a_key_without_one_place_is_a_mistake_of_ours(error: str) -> None:
    with pytest.raises(ValueError, match="repeat key"):
        split(encode({"error": error}).encode(), KEY)


def listing(size: int) -> dict[str, Any]:
    return {"bazaar": {"info": {}, "schema": {"x": "y" * size}}}


@pytest.mark.parametrize("size", [0, 3000, 5000, 6000, 60_000])
@pytest.mark.parametrize("error", ["short", "long " * 2000, '\\"' * 500, "\x00" * 500, "é" * 500])
def test_the_header_passes_every_proxy(size: int, error: str) -> None:
    built = challenge(extensions=listing(size), error=error)
    assert len(built.header) <= HEADER_BYTES_MAX
    assert header(built)["accepts"] == [offer.to_json() for offer in paper.OFFERS]
    assert orjson.loads(built.body)["error"] == error
    assert len(orjson.loads(built.body)["extensions"]["bazaar"]["schema"]["x"]) == size
    assert ("bazaar" in header(built)["extensions"]) is (size < 5000)
    assert header(built)["extensions"]["repeat-key"]["info"] == {"key": KEY}


@pytest.mark.parametrize("offer", paper.OFFERS)
def test_the_longest_offer_can_be_sent_back_and_read(offer: paper.Requirements) -> None:
    """F-014: with its signature and the longest payment identifier, by a client that repeats everything."""
    accepts = (offer,)
    size = OFFER_BYTES_MAX - offer_bytes(RESOURCE, accepts, EXTENSIONS | listing(0))
    extensions = EXTENSIONS | listing(size)
    built = challenge(accepts=accepts, extensions=extensions, error="x" * 1000)
    assert set(header(built)["extensions"]) == {*extensions, "repeat-key"}
    one_too_long = header(challenge(accepts=accepts, extensions=EXTENSIONS | listing(size + 1)))
    assert set(one_too_long["extensions"]) == {"repeat-key"}
    identified = {"info": {"required": False, "id": "i" * 128}, "schema": {"type": "object"}}
    echo = {**paper.paid(offer), "resource": RESOURCE.to_json(), "extensions": header(built)["extensions"]}
    echo["extensions"]["payment-identifier"] = identified
    payment = decode_payment(encode(echo))
    assert (payment.payment_identifier, payment.repeat_key) == ("i" * 128, KEY)


def test_more_offers_than_a_header_carries_are_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="ways to pay"):
        challenge(accepts=paper.OFFERS * 10)


def test_an_error_cannot_break_out_of_its_header() -> None:
    built = challenge(error='line\r\nSet-Cookie: x=1 "é" \u2028')
    assert header(built)["error"] == 'line  Set-Cookie: x=1 "é"  '
    assert set(built.header) <= set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
