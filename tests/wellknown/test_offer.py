import base64
import dataclasses
import json
from typing import Any

import pytest
from pydantic import BaseModel, Field, create_model
from rigs import shop, third_party
from x402.extensions.bazaar.facilitator import (
    _is_valid_route_template,
    _sanitize_resource_service_metadata,
    validate_discovery_extension,
    validate_discovery_extension_spec,
)

from gateway.core.catalogue import Operation, Price
from gateway.core.networks import NETWORKS, Token
from gateway.core.x402 import bazaar, challenge
from gateway.core.x402.headers import HEADER_BYTES_MAX
from gateway.core.x402.offers import Terms
from wellknown.identity import Identity
from wellknown.offer import challenge_parts, max_timeout_s, requirements

OPERATIONS = shop.catalogue().operations


def header(operation: Operation, identity: Identity) -> dict[str, Any]:
    """The PaymentRequired of a live 402 with a long sentence. An offer too long for it would be cut."""
    resource, accepts, extensions = challenge_parts(operation, identity)
    built = challenge.build(
        resource=resource,
        accepts=accepts,
        extensions=extensions,
        repeat_key="41" * 16,
        error="e" * 300,
        code="PAYMENT_REQUIRED",
    )
    assert len(built.header) <= HEADER_BYTES_MAX
    decoded: dict[str, Any] = json.loads(base64.b64decode(built.header, validate=True))
    return decoded


@pytest.mark.parametrize(
    ("timeout_s", "settle_wait_s", "expected"),
    [(1, 15, 60), (15, 15, 60), (30, 15, 75), (90.5, 15, 136), (30, 40, 100)],
)
def test_a_signature_must_hold_for_the_work_and_its_settlement(
    timeout_s: float, settle_wait_s: int, expected: int
) -> None:
    operation = dataclasses.replace(shop.PHONE, timeout_s=timeout_s)
    assert max_timeout_s(operation, shop.identity(settle_wait_s=settle_wait_s)) == expected
    assert {r.max_timeout_s for r in requirements(operation, shop.identity(settle_wait_s=settle_wait_s))} == {expected}


def test_the_first_offer_is_the_one_most_clients_can_pay() -> None:
    first, *others = requirements(shop.PHONE, shop.identity())
    assert (first.scheme, first.network, first.amount, first.pay_to) == ("exact", shop.BASE, "330000", shop.PAYEE)
    assert first.extra["name"] == "USD Coin"
    assert "permit2" not in first.extra.values()
    assert [(other.network, other.extra.get("assetTransferMethod")) for other in others] == [
        (shop.AVALANCHE, None),
        (shop.BASE, "permit2"),
    ]


def test_a_metered_operation_sells_its_base_price_and_by_upto_its_ceiling() -> None:
    assert {r.amount for r in requirements(shop.QUOTE, shop.identity())} == {"20000"}
    (term, *_) = shop.identity().terms
    settled = dataclasses.replace(term, methods=("eip3009", "permit2"), facilitator=shop.PAYEE)
    asked = requirements(shop.QUOTE, shop.identity(terms=(settled,)))
    assert [(r.scheme, r.amount) for r in asked] == [("exact", "20000"), ("exact", "20000"), ("upto", "500000")]
    assert [r.scheme for r in requirements(shop.PHONE, shop.identity(terms=(settled,)))] == ["exact", "exact"]


def test_what_settles_first_is_paid_in_full_by_exact_and_says_so() -> None:
    first = dataclasses.replace(shop.PHONE, settle_first=True, timeout_s=600)
    assert [offer.amount for offer in requirements(first, shop.identity())] == [
        offer.amount for offer in requirements(shop.PHONE, shop.identity())
    ]
    assert max_timeout_s(first, shop.identity()) == 60, "a signature does not wait for the work"
    metered = dataclasses.replace(
        first, price=Price(100_000, metered=True, ceiling_micros=2_000_000), description="x" * 900
    )
    offers = requirements(metered, shop.identity())
    assert {(offer.scheme, offer.amount) for offer in offers} == {("exact", "2000000")}
    described = challenge_parts(metered, shop.identity()).resource.description
    assert len(described) <= 500
    assert described.endswith(
        "… A payment is settled before the work: what is not charged stays on the payer's account."
    )


def test_without_terms_there_is_nothing_to_pay_by() -> None:
    assert challenge_parts(shop.PHONE, shop.identity(terms=())).accepts == ()


@pytest.mark.parametrize(("decimals", "amount", "said"), [(2, "34", "0.34"), (1, "4", "0.4"), (0, "1", "1")])
def test_a_coarse_token_takes_more_and_says_so(decimals: int, amount: str, said: str) -> None:
    token = Token(shop.BASE, "0x" + "11" * 20, "CRS", "Coarse", "1", decimals)
    coarse = Terms(
        network=shop.BASE, token=token, pay_to=shop.PAYEE, methods=("eip3009",), facilitator=None, sandbox=False
    )
    operation = dataclasses.replace(shop.PHONE, price=Price(330_001))
    offer = challenge_parts(operation, shop.identity(terms=(shop.terms(shop.BASE), coarse)))
    assert [accepted.amount for accepted in offer.accepts if accepted.extra["name"] == "Coarse"] == [amount]
    assert offer.resource.description.endswith(f"In CRS the price is rounded up to {said}.")
    assert "USDC" not in offer.resource.description


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.id)
def test_the_resource_names_the_route_and_nobody_who_called_it(operation: Operation) -> None:
    """F-175, F-159: the address comes from the configuration and the example, never from a request."""
    resource = challenge_parts(operation, shop.identity()).resource
    assert resource.url == "https://api.corner.example.com" + operation.example_url_path
    assert not set("?{:") & set(resource.url.removeprefix("https://"))


def test_a_dynamic_route_gives_its_template_and_the_examples_values() -> None:
    block = challenge_parts(shop.PARCEL, shop.identity()).extensions["bazaar"]
    assert block["routeTemplate"] == "/api/v1/parcels/:parcel_id"
    assert block["info"]["input"]["pathParams"] == {"parcel_id": "AB-1234"}
    assert block["info"]["input"]["queryParams"] == {"history": True}
    assert _is_valid_route_template(block["routeTemplate"])
    assert "routeTemplate" not in challenge_parts(shop.WEATHER, shop.identity()).extensions["bazaar"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.id)
@pytest.mark.parametrize("identity", [shop.identity(), shop.sandbox()], ids=["real", "sandbox"])
def test_the_official_validators_take_every_offer(operation: Operation, identity: Identity) -> None:
    sent = header(operation, identity)
    block = sent["extensions"]["bazaar"]
    for verdict in (validate_discovery_extension(block), validate_discovery_extension_spec(block)):
        assert verdict.valid, verdict.errors
    assert block["info"]["input"]["method"] == operation.method
    assert block["schema"]["properties"]["input"]["properties"]["method"]["enum"] == [operation.method]
    assert set(sent["extensions"]["payment-identifier"]) >= {"info", "schema"}
    kept = _sanitize_resource_service_metadata(sent["resource"])
    told = sent["resource"]
    assert (kept.service_name, kept.tags, kept.icon_url) == (told.get("serviceName"), told["tags"], told.get("iconUrl"))


def test_tags_are_cut_to_five_and_none_is_told_twice() -> None:
    assert challenge_parts(shop.PHONE, shop.identity()).resource.tags == (
        "people",
        "phone",
        "enrichment",
        "crm",
        "leads",
    )


def test_a_long_description_is_cut() -> None:
    description = challenge_parts(
        dataclasses.replace(shop.PHONE, description="x" * 900), shop.identity()
    ).resource.description
    assert len(description) == 500
    assert description.endswith("…")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.id)
def test_a_usual_offer_fits_into_a_header_with_everything(operation: Operation) -> None:
    block = header(operation, shop.identity())["extensions"]["bazaar"]
    assert block == bazaar.extension(operation)


def wordy(fields: int, words: int) -> type[BaseModel]:
    return create_model("Wordy", **{f"field_{n}": (str, Field("", description="w" * words)) for n in range(fields)})


def wide_answer(fields: int) -> dict[str, object]:
    properties = {f"column_{n}": {"type": "string", "description": "what it is " * 3} for n in range(fields)}
    return shop.answer_schema({"type": "object", "properties": properties})


@pytest.mark.parametrize(
    ("request_fields", "answer_fields"),
    [(2, 60), (2, 200), (30, 10), (30, 200)],
    ids=["answer", "wide", "words", "both"],
)
def test_a_long_offer_is_told_in_fewer_words_and_stays_valid(request_fields: int, answer_fields: int) -> None:
    operation = dataclasses.replace(
        shop.PHONE,
        input=wordy(request_fields, 150),
        example={"field_0": "x"},
        output=wide_answer(answer_fields),
        example_output=shop.answer({f"column_{n}": "value" for n in range(answer_fields)}),
    )
    sent = header(operation, shop.identity())
    assert third_party.lasting(sent["extensions"]) == challenge_parts(operation, shop.identity()).extensions
    block = sent["extensions"]["bazaar"]
    assert validate_discovery_extension(block).valid
    body = block["schema"]["properties"]["input"]["properties"]["body"]
    assert set(body["properties"]) == {f"field_{n}" for n in range(request_fields)}


def test_an_offer_too_long_for_any_words_is_payable_but_not_listed() -> None:
    operation = dataclasses.replace(shop.PHONE, input=wordy(400, 1), example={})
    sent = header(operation, shop.identity())
    assert set(sent["extensions"]) == {"payment-identifier", "repeat-key"}
    assert set(challenge_parts(operation, shop.identity()).extensions) == {"payment-identifier"}
    assert len(sent["accepts"]) == 3


# gas sponsoring


def sponsoring(*, eip2612: bool = True, methods: tuple[str, ...] = ("eip3009", "permit2")) -> Identity:
    token = NETWORKS[shop.BASE].tokens[0]
    return shop.identity(terms=(Terms(shop.BASE, token, shop.PAYEE, methods, shop.PAYEE, False, sponsored=eip2612),))


@pytest.mark.parametrize("methods", [("eip3009", "permit2"), ("permit2",)])
def test_gas_is_sponsored_beside_an_offer_by_permit2(methods: tuple[str, ...]) -> None:
    for operation in OPERATIONS:
        extensions = header(operation, sponsoring(methods=methods))["extensions"]
        assert extensions["eip2612GasSponsoring"].keys() == {"info", "schema"}
        assert "erc20ApprovalGasSponsoring" not in extensions


def test_gas_is_sponsored_nowhere_else() -> None:
    for identity in (sponsoring(eip2612=False), sponsoring(methods=("eip3009",)), shop.identity()):
        assert "eip2612GasSponsoring" not in challenge_parts(shop.PHONE, identity).extensions


def test_where_the_header_ends_sponsoring_goes_before_the_listing_does() -> None:
    """And leaves room for a permit as long as it is offered."""
    seen = set()
    for length in range(0, 4000, 100):
        fields: Any = {f"field_{n:03}": (str, Field(pattern="x" * 40)) for n in range(length // 100)}
        operation = dataclasses.replace(shop.PHONE, input=create_model("Wide", **fields))
        offer = challenge_parts(operation, sponsoring())
        extensions = offer.extensions
        left = challenge.OFFER_BYTES_MAX - challenge.offer_bytes(*offer)
        assert left >= (500 if "eip2612GasSponsoring" in extensions else 0)
        seen.add(("eip2612GasSponsoring" in extensions, "bazaar" in extensions))
    assert seen == {(True, True), (False, True), (False, False)}
