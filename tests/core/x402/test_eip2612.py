"""A permit beside a payment by Permit2: read strictly, verified offline, one fault at a time, in the SDK's words."""

import random
import time
from typing import Any

import pytest
from rigs import paper
from rigs.chain import PAYER_KEYS
from rigs.payer import Payer, with_permit
from x402.extensions.eip2612_gas_sponsoring import (
    EIP2612_GAS_SPONSORING_KEY,
    Eip2612GasSponsoringInfo,
    declare_eip2612_gas_sponsoring_extension,
    extract_eip2612_gas_sponsoring_info,
    validate_eip2612_permit_for_payment,
)
from x402.schemas import PaymentPayload

from gateway.core.errors import Code, Problem
from gateway.core.x402 import eip2612
from gateway.core.x402.messages import GAS_SPONSORING, parse_payment
from gateway.core.x402.verify import Refused, Verified, outlives

ASSET = paper.TOKEN.asset
INFO = ("extensions", GAS_SPONSORING, "info")
BOTH = pytest.mark.parametrize("offer", [paper.PERMIT2, paper.UPTO], ids=["exact", "upto"])
NEEDED_S = paper.WORK_S + paper.MARGIN_S


def sponsored(offer: Any = paper.PERMIT2, payer: Payer = paper.PAYER, **changes: Any) -> paper.Json:
    return payer.sponsored(offer.to_json(), **changes)


def verdict(payload: paper.Json) -> Any:
    return paper.verdict(payload, sponsored=(ASSET,))


@BOTH
def test_a_good_one_comes_through(offer: Any) -> None:
    payload = sponsored(offer, nonce=3)
    found = verdict(payload)
    assert isinstance(found, Verified), found
    permit = found.permit
    assert permit is not None
    assert (permit.owner, permit.token) == (paper.PAYER.address.lower(), paper.TOKEN.address.lower())
    assert (permit.value, permit.nonce, permit.deadline) == (int(offer.amount), 3, paper.NOW + 60)


def test_v_may_be_written_as_a_recovery_id_and_versions_left_out() -> None:
    payload = paper.changed(sponsored(), *INFO, "signature", to=lambda old: old[:-2] + f"{int(old[-2:], 16) - 27:02x}")
    assert isinstance(verdict(paper.without(payload, *INFO, "version")), Verified)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "other spender": ({"spender": paper.STRANGER}, "eip2612_spender_not_permit2"),
    "other owner": ({"owner": paper.OTHER_PAYER.address, "sign_as": paper.OTHER_PAYER}, "eip2612_from_mismatch"),
    "other token": ({"asset": paper.STRANGER}, "eip2612_asset_mismatch"),
    "too small": ({"value": int(paper.PERMIT2.amount) - 1}, "permit2_2612_amount_mismatch"),
    "too large": ({"value": int(paper.PERMIT2.amount) + 1}, "permit2_2612_amount_mismatch"),
    "expired": ({"deadline": paper.NOW - 1}, "eip2612_deadline_expired"),
    "too short for the work": ({"deadline": paper.NOW + NEEDED_S - 1}, "eip2612_deadline_expired"),
    "forged": ({"sign_as": paper.OTHER_PAYER}, "invalid_eip2612_signature"),
}


@pytest.mark.parametrize(("changes", "reason"), FAULTS.values(), ids=FAULTS)
def test_one_fault_each(changes: dict[str, Any], reason: str) -> None:
    refused = verdict(sponsored(**changes))
    assert isinstance(refused, Refused)
    assert refused.reason == reason
    assert refused.code is (Code.PAYMENT_EXPIRED if "deadline" in reason else Code.PAYMENT_INVALID)


def test_the_longest_deadline_and_the_shortest_that_does() -> None:
    for deadline in (paper.NOW + NEEDED_S, 2**256 - 1):
        assert isinstance(verdict(sponsored(deadline=deadline)), Verified)


@pytest.mark.parametrize("member", ["nonce", "deadline", "signature"])
def test_what_was_changed_after_it_was_signed_is_not_signed(member: str) -> None:
    def other(old: str) -> str:
        return old[:-4] + "001b" if member == "signature" else str(int(old) + 1)

    refused = verdict(paper.changed(sponsored(), *INFO, member, to=other))
    assert isinstance(refused, Refused)
    assert refused.reason == "invalid_eip2612_signature"


def test_signatures_of_another_length_are_none() -> None:
    for digits in ("", "00", "11" * 64, "11" * 66, "11" * 2048):
        refused = verdict(paper.changed(sponsored(), *INFO, "signature", to="0x" + digits))
        assert isinstance(refused, Refused)
        assert refused.reason == "invalid_eip2612_signature"


def test_the_latest_blocks_clock_counts_too() -> None:
    found = verdict(sponsored(deadline=paper.NOW + 40))
    assert isinstance(found, Verified)
    times = {"now_s": paper.NOW, "work_s": paper.WORK_S, "settle_margin_s": paper.MARGIN_S}
    assert outlives(found, chain_time_s=paper.NOW + 15, **times) is None
    late = outlives(found, chain_time_s=paper.NOW + 16, **times)
    assert late is not None
    assert late.reason == "eip2612_deadline_expired"


def test_where_none_is_asked_for_it_is_as_if_it_were_not_there() -> None:
    payload = sponsored(sign_as=paper.OTHER_PAYER)
    for assets in ((), ("eip155:1/0x" + "12" * 20,)):
        found = paper.verdict(payload, sponsored=assets)
        assert isinstance(found, Verified)
        assert found.permit is None


def test_an_echo_of_the_offer_is_no_permit() -> None:
    """What every official client sends back when it has signed nothing."""
    for echo in ({}, {"info": None}, eip2612.extension()):
        payload = {**paper.paid(paper.PERMIT2), "extensions": {GAS_SPONSORING: echo}}
        assert parse_payment(payload).permit is None
        assert isinstance(verdict(payload), Verified)


def test_beside_a_payment_by_the_token_it_is_not_even_read() -> None:
    payload = {**paper.paid(paper.EIP3009), "extensions": {GAS_SPONSORING: {"info": {"from": 5}}}}
    assert parse_payment(payload).permit is None


MALFORMED: dict[str, Any] = {
    "no object": lambda p: paper.changed(p, "extensions", GAS_SPONSORING, to=[1]),
    "info is no object": lambda p: paper.changed(p, *INFO, to="yes"),
    **{
        f"without {name}": lambda p, name=name: paper.without(p, *INFO, name)
        for name in ("from", "asset", "spender", "amount", "nonce", "deadline", "signature")
    },
    **{
        f"{name} is nonsense": lambda p, name=name: paper.changed(p, *INFO, name, to="0xnonsense")
        for name in ("from", "asset", "spender", "amount", "nonce", "deadline", "signature", "version")
    },
    "number beyond 256 bits": lambda p: paper.changed(p, *INFO, "amount", to=str(2**256)),
    "odd hexadecimal": lambda p: paper.changed(p, *INFO, "signature", to="0x123"),
}


@pytest.mark.parametrize("spoil", MALFORMED.values(), ids=MALFORMED)
def test_what_cannot_be_read_is_malformed(spoil: Any) -> None:
    with pytest.raises(Problem) as caught:
        parse_payment(spoil(sponsored()))
    assert (caught.value.code, caught.value.reason) == (Code.PAYMENT_MALFORMED, "invalid_eip2612_extension_format")


def test_random_nonsense_is_malformed_refused_or_ignored() -> None:
    randomness = random.Random(2612)
    kinds = {"malformed": 0, "refused": 0, "taken": 0}
    for _ in range(2000):
        payload = {
            **BASE,
            "extensions": {GAS_SPONSORING: paper.mutated(BASE["extensions"][GAS_SPONSORING], randomness)},
        }
        try:
            came = verdict(payload)
        except Problem as problem:
            came = problem.code
        if isinstance(came, Verified):
            assert came.permit in (None, PERMIT)
        kinds[{Verified: "taken", Refused: "refused", Code: "malformed"}[type(came)]] += 1
        assert came is Code.PAYMENT_MALFORMED or not isinstance(came, Code)
    assert min(kinds.values()) > 10, kinds


BASE = sponsored()
PERMIT = parse_payment(BASE).permit

# the official SDK


def test_the_sdk_reads_what_we_read_and_calls_the_same_faults_by_the_same_words() -> None:
    now = int(time.time())
    payer = Payer(PAYER_KEYS[0])
    offer = paper.PERMIT2.to_json()
    said = {"invalid_eip2612_signature": "", "permit2_2612_amount_mismatch": ""}  # it leaves these to the simulation
    for name, (changes, reason) in {"none": ({}, ""), **FAULTS}.items():
        if "deadline" in changes:
            changes = {**changes, "deadline": now - 1}
        payload = {**payer.sponsored(offer, **changes), "resource": {"url": "https://example.com"}}
        info = extract_eip2612_gas_sponsoring_info(PaymentPayload.model_validate(payload))
        assert info is not None
        theirs = validate_eip2612_permit_for_payment(info, payer.address, paper.TOKEN.address)
        assert theirs == said.get(reason, reason), name
        ours = paper.verdict(payload, sponsored=(ASSET,), now_s=now)
        assert (ours.reason if isinstance(ours, Refused) else "") == reason, name


def test_the_sdk_offers_it_in_the_same_shape() -> None:
    ((key, theirs),) = declare_eip2612_gas_sponsoring_extension().items()
    ours: Any = eip2612.extension()
    assert key == GAS_SPONSORING == EIP2612_GAS_SPONSORING_KEY
    assert ours["info"].keys() == theirs["info"].keys()
    assert ours["info"]["version"] == theirs["info"]["version"]
    wordless = {
        name: {word: text for word, text in member.items() if word != "description"}
        for name, member in theirs["schema"]["properties"].items()
    }
    assert ours["schema"] == {**theirs["schema"], "properties": wordless}


def test_the_sdk_takes_ours_for_its_own() -> None:
    permit = BASE["extensions"][GAS_SPONSORING]["info"]
    again = Eip2612GasSponsoringInfo.from_dict(permit).to_dict()
    payload = with_permit(paper.without(BASE, "extensions"), again)
    assert isinstance(verdict(payload), Verified)
