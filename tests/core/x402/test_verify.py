"""Verification offline: our own requirement, the payer, the time, the signature.

F-007 to F-010, F-013, F-017, F-045, F-075, F-076 and F-078, as far as they are decided without a chain.
"""

import itertools
from typing import Any

import pytest
from rigs import paper
from rigs.payer import Payer

from gateway.core.errors import Code
from gateway.core.networks import EXACT_PERMIT2_PROXY, UPTO_PERMIT2_PROXY
from gateway.core.x402.messages import Requirements, parse_payment
from gateway.core.x402.offers import offers
from gateway.core.x402.verify import ERC6492_SUFFIX, WINDOW_MAX_S, Refused, Verified, match_offer, outlives

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
BY_METHOD = pytest.mark.parametrize("offer", paper.ALL.values(), ids=paper.ALL.keys())
NEEDED_S = paper.WORK_S + paper.MARGIN_S

REASON = {
    "eip3009": {
        "recipient": "invalid_exact_evm_payload_recipient_mismatch",
        "value": "invalid_exact_evm_payload_authorization_value_mismatch",
        "after": "invalid_exact_evm_payload_authorization_valid_after",
        "before": "invalid_exact_evm_payload_authorization_valid_before",
        "signature": "invalid_exact_evm_payload_signature",
    },
    "permit2": {
        "recipient": "invalid_permit2_recipient_mismatch",
        "value": "permit2_amount_mismatch",
        "after": "permit2_not_yet_valid",
        "before": "permit2_deadline_expired",
        "signature": "invalid_permit2_signature",
    },
}


def reason(offer: Requirements, fault: str) -> str:
    return REASON[str(offer.extra.get("assetTransferMethod", "eip3009"))][fault]


def by_token(offer: Requirements) -> bool:
    return offer is paper.EIP3009


def until(offer: Requirements, second: int) -> dict[str, Any]:
    """Changes that make the signature good up to and including this second of block time."""
    return {"validBefore": str(second + 1)} if by_token(offer) else {"deadline": second}


def since(offer: Requirements, second: int) -> dict[str, Any]:
    """Changes that make it good from this second of block time on."""
    return {"validAfter": str(second - 1)} if by_token(offer) else {"validAfter": second}


# What is right


@BY_METHOD
def test_a_payment_of_what_was_offered_is_verified(offer: Requirements) -> None:
    verified = paper.accepted(paper.paid(offer))
    assert verified.requirements is offer
    assert verified.recovered
    assert verified.payer == paper.PAYER.address.lower()
    assert verified.value_atomic == int(offer.amount)
    assert verified.method == ("eip3009" if by_token(offer) else "permit2")


def test_the_identity_is_what_can_be_paid_once() -> None:
    nonce = "0x" + "0A" * 32
    by_token_ = paper.accepted(paper.paid(paper.EIP3009, nonce=nonce))
    payer = paper.PAYER.address.lower()
    assert by_token_.identity == f"eip155:8453/{paper.TOKEN.address.lower()}/{payer}/{nonce.lower()}"
    permit2 = "0x000000000022d473030f116ddee9f6b43ac78ba3"
    exact, upto = (paper.accepted(paper.paid(offer, nonce=255)).identity for offer in (paper.PERMIT2, paper.UPTO))
    assert exact == upto == f"eip155:8453/{permit2}/{payer}/255"


@BY_METHOD
def test_two_spellings_of_one_payment_have_one_identity(offer: Requirements) -> None:
    paid = paper.paid(offer)
    inner = "authorization" if by_token(offer) else "permit2Authorization"
    spelt = paper.changed(paid, "payload", inner, "from", to=lambda old: "0x" + old[2:].upper())
    if by_token(offer):
        spelt = paper.changed(spelt, "payload", inner, "nonce", to=lambda old: "0x" + old[2:].upper())
    else:
        spelt = paper.changed(spelt, "payload", inner, "nonce", to=lambda old: hex(int(old)))
    assert spelt != paid
    assert paper.accepted(spelt).identity == paper.accepted(paid).identity


def test_a_payer_has_another_identity_by_each_of_nonce_asset_network_and_payer() -> None:
    nonce = "0x" + "01" * 32
    others = offers(330_000, 60, paper.OTHER_TERMS)
    identities = {
        paper.accepted(paper.paid(paper.EIP3009, nonce=nonce)).identity,
        paper.accepted(paper.paid(paper.EIP3009, nonce="0x" + "02" * 32)).identity,
        paper.accepted(paper.paid(paper.EIP3009, paper.OTHER_PAYER, nonce=nonce)).identity,
        *(paper.accepted(paper.paid(offer, nonce=nonce), offered=others).identity for offer in others[:2]),
    }
    assert len(identities) == 5


# Our own requirement, F-007, F-008, F-009, F-017, F-045

ECHO = {
    "scheme": "batch",
    "network": "eip155:1",
    "asset": paper.STRANGER,
    "payTo": paper.STRANGER,
    "amount": "1",
    "maxTimeoutSeconds": 6000,
}
ECHO_REASON = {"scheme": "unsupported_scheme", "network": "network_mismatch"}


@BY_METHOD
@pytest.mark.parametrize("member", ECHO)
def test_a_rewritten_offer_is_refused_even_if_it_was_signed_as_rewritten(offer: Requirements, member: str) -> None:
    """F-007. The wallet really signs the changed terms; what we verify against is what we offered."""
    rewritten = {**offer.to_json(), member: ECHO[member]}
    if member == "scheme":
        signed = {**paper.paid(offer), "accepted": rewritten}
    else:
        signed = paper.PAYER.pay(rewritten)
    refused = paper.refused(signed)
    assert refused.code is Code.PAYMENT_INVALID
    assert refused.reason == ECHO_REASON.get(member, "invalid_payment_requirements")
    assert f"accepted.{member}" in refused.message


@BY_METHOD
@pytest.mark.parametrize("extra", [{"name": "Other"}, {"version": "1"}, {"assetTransferMethod": "other"}, "text", []])
def test_a_rewritten_extra_is_refused(offer: Requirements, extra: Any) -> None:
    paid = paper.paid(offer)
    changed = paper.changed(paid, "accepted", "extra", to=lambda old: old | extra if isinstance(extra, dict) else extra)
    assert paper.refused(changed).reason == "invalid_payment_requirements"


@BY_METHOD
@pytest.mark.parametrize("member", [*ECHO, "extra"])
@pytest.mark.parametrize("value", [None, True, 5.5, [], {"a": 1}])
def test_an_echo_of_nonsense_is_refused(offer: Requirements, member: str, value: Any) -> None:
    came = paper.verdict(paper.changed(paper.paid(offer), "accepted", member, to=value))
    assert isinstance(came, Verified) is (member == "extra" and (value is None or value == {"a": 1}))


@BY_METHOD
def test_clients_may_add_to_extra_and_write_addresses_as_they_like(offer: Requirements) -> None:
    paid = paper.changed(paper.paid(offer), "accepted", "extra", "note", to="mine")
    paid = paper.changed(paid, "accepted", "payTo", to=str.lower)
    paid = paper.changed(paid, "accepted", "asset", to=lambda old: "0x" + old[2:].upper())
    assert paper.accepted(paid).requirements is offer


@BY_METHOD
@pytest.mark.parametrize("off", [-1, 1, 10**30])
def test_one_unit_more_or_less_is_refused(offer: Requirements, off: int) -> None:
    """F-008."""
    amount = int(offer.amount) + off
    changes = {"value": str(amount)} if by_token(offer) else {"amount": amount}
    assert paper.refused(paper.paid(offer, **changes)).reason == reason(offer, "value")


@BY_METHOD
def test_money_for_somebody_else_is_not_relayed(offer: Requirements) -> None:
    """F-045."""
    assert paper.refused(paper.paid(offer, to=paper.STRANGER)).reason == reason(offer, "recipient")


@pytest.mark.parametrize("offer", [paper.PERMIT2, paper.UPTO])
def test_a_permit_for_another_token_is_refused(offer: Requirements) -> None:
    """F-045."""
    assert paper.refused(paper.paid(offer, token=paper.STRANGER)).reason == "permit2_token_mismatch"


@BY_METHOD
@pytest.mark.parametrize("network", ["eip155:1", "eip155:43114", "eip155:31337"])
def test_a_signature_for_another_chain_is_nobodys_here(offer: Requirements, network: str) -> None:
    """F-009. Offered for our chain, signed for another."""
    signed = paper.PAYER.pay({**offer.to_json(), "network": network})
    assert not paper.accepted({**signed, "accepted": offer.to_json()}).recovered


def test_a_signature_for_another_token_or_domain_is_nobodys_here() -> None:
    for member, value in (("asset", paper.STRANGER), ("extra", {"name": "USDC", "version": "2"})):
        signed = paper.PAYER.pay({**paper.EIP3009.to_json(), member: value})
        assert not paper.accepted({**signed, "accepted": paper.EIP3009.to_json()}).recovered


@pytest.mark.parametrize(("offer", "proxy"), [(paper.PERMIT2, UPTO_PERMIT2_PROXY), (paper.UPTO, EXACT_PERMIT2_PROXY)])
def test_a_permit_for_any_other_spender_is_worth_nothing(offer: Requirements, proxy: str) -> None:
    """Permit2 lets its spender send the money wherever he likes."""
    for spender in (paper.STRANGER, paper.RELAYER, paper.PAY_TO, paper.ZERO, proxy):
        paid = paper.changed(paper.paid(offer), "payload", "permit2Authorization", "spender", to=spender)
        assert paper.refused(paid).reason == "invalid_permit2_spender"


def test_a_cheap_quote_does_not_pay_a_dear_request() -> None:
    """F-017. Paid as offered for the one, verified against the other."""
    dear = offers(500_000, 60, [paper.TERMS])
    assert paper.refused(paper.paid(paper.EIP3009), offered=dear).reason == "invalid_payment_requirements"


def test_the_offer_that_is_meant_is_found_among_many() -> None:
    many = offers(330_000, 60, [paper.TERMS, *paper.OTHER_TERMS], upto_micros=2_000_000)
    for offer in many:
        assert match_offer(parse_payment(paper.paid(offer)), many) is offer


def test_without_an_echo_the_only_offer_of_its_kind_is_meant() -> None:
    for offer in paper.OFFERS:
        assert paper.accepted(paper.without(paper.paid(offer), "accepted")).requirements is offer
    many = offers(330_000, 60, [paper.TERMS, *paper.OTHER_TERMS])
    bare = paper.without(paper.paid(paper.EIP3009), "accepted")
    assert paper.refused(bare, offered=many).reason == "invalid_payment_requirements"


def test_what_is_not_offered_is_not_taken() -> None:
    assert paper.refused(paper.paid(paper.PERMIT2), offered=(paper.EIP3009,)).reason == "unsupported_scheme"
    assert paper.refused(paper.paid(paper.EIP3009), offered=()).reason == "unsupported_scheme"


# upto


@pytest.mark.parametrize("settler", [paper.RELAYER, paper.FORMER_RELAYER])
def test_upto_may_be_settled_by_any_key_that_is_still_ours(settler: str) -> None:
    assert paper.accepted(paper.paid(paper.UPTO, facilitator=settler)).recovered
    echoed = {**paper.UPTO.to_json(), "extra": {**paper.UPTO.extra, "facilitatorAddress": settler}}
    assert paper.accepted(paper.PAYER.pay(echoed)).recovered


@pytest.mark.parametrize("settler", [paper.STRANGER, paper.ZERO, paper.PAY_TO])
def test_upto_that_a_stranger_may_settle_is_refused(settler: str) -> None:
    assert paper.refused(paper.paid(paper.UPTO, facilitator=settler)).reason == "upto_facilitator_mismatch"


def test_upto_without_settlers_is_refused() -> None:
    assert paper.refused(paper.paid(paper.UPTO), settlers=()).reason == "upto_facilitator_mismatch"
    bare = paper.paid(paper.UPTO)
    bare["payload"]["permit2Authorization"]["witness"].pop("facilitator")
    assert paper.refused(bare).reason == "upto_facilitator_mismatch"


def test_the_witness_of_exact_names_no_facilitator() -> None:
    paid = paper.changed(
        paper.paid(paper.PERMIT2), "payload", "permit2Authorization", "witness", "facilitator", to=paper.RELAYER
    )
    assert paper.refused(paid).reason == "invalid_payload"


# Degenerate parties, F-013


@BY_METHOD
@pytest.mark.parametrize("who", [paper.PAY_TO, paper.ZERO, paper.RELAYER, paper.FORMER_RELAYER, paper.STRANGER])
def test_our_own_accounts_and_nobody_pay_nothing(offer: Requirements, who: str) -> None:
    """F-013. Payer equal to payTo, to a relayer, to nobody, to an account that is forbidden."""
    payer = Payer(paper.PAYER.key, wallet=who, now=lambda: paper.NOW)
    refused = paper.refused(paper.paid(offer, payer), forbidden_payers=(paper.STRANGER,))
    assert (refused.reason, refused.code) == ("invalid_payload", Code.PAYMENT_INVALID)


@BY_METHOD
def test_the_zero_address_is_paid_by_nobody(offer: Requirements) -> None:
    assert paper.refused(paper.paid(offer, to=paper.ZERO)).reason == reason(offer, "recipient")


# Time, F-010


@BY_METHOD
@pytest.mark.parametrize(
    ("last_second", "good"),
    [(0, False), (1, False), (5, False), (NEEDED_S - 1, False), (NEEDED_S, True), (30, True), (WINDOW_MAX_S - 1, True)],
)
def test_a_signature_outlives_the_work_and_its_settlement(offer: Requirements, last_second: int, good: bool) -> None:
    came = paper.verdict(paper.paid(offer, **until(offer, paper.NOW + last_second)))
    assert isinstance(came, Verified) is good
    if isinstance(came, Refused):
        assert (came.reason, came.code) == (reason(offer, "before"), Code.PAYMENT_EXPIRED)


@BY_METHOD
def test_what_may_have_paid_before_is_verified_whenever_it_comes_but_for_the_time(offer: Requirements) -> None:
    for window in (until(offer, paper.NOW - 3600), since(offer, paper.NOW + 3600) | until(offer, paper.NOW + 7200)):
        payment = paper.paid(offer, **window)
        assert isinstance(paper.verdict(payment), Refused)
        late = paper.accepted(payment, whenever=True)
        assert late.recovered
        clocks = {"now_s": paper.NOW, "chain_time_s": paper.NOW}
        assert outlives(late, **clocks, work_s=paper.WORK_S, settle_margin_s=paper.MARGIN_S) is not None
        assert isinstance(paper.verdict(paper.signature(payment, lambda old: old[:64]), whenever=True), Verified)
        assert isinstance(paper.verdict(paper.signature(payment, lambda old: b""), whenever=True), Refused)
    assert isinstance(paper.verdict(paper.paid(offer, **until(offer, 2**256 - 2)), whenever=True), Refused)


@BY_METHOD
@pytest.mark.parametrize("second", [paper.NOW + WINDOW_MAX_S, paper.NOW + 3 * 365 * 86_400, 2**256 - 2])
def test_a_signature_for_years_is_refused(offer: Requirements, second: int) -> None:
    """F-010. While it is alive somebody may send it, and it has to be watched."""
    refused = paper.refused(paper.paid(offer, **until(offer, second)))
    assert (refused.reason, refused.code) == (reason(offer, "before"), Code.PAYMENT_INVALID)


@BY_METHOD
@pytest.mark.parametrize(("first_second", "good"), [(-600, True), (-1, True), (0, True), (1, False), (60, False)])
def test_a_signature_that_is_not_good_yet_is_refused(offer: Requirements, first_second: int, good: bool) -> None:
    """The token wants validAfter < t, the proxy validAfter <= t."""
    came = paper.verdict(paper.paid(offer, **since(offer, paper.NOW + first_second)))
    assert isinstance(came, Verified) is good
    if isinstance(came, Refused):
        assert (came.reason, came.code) == (reason(offer, "after"), Code.PAYMENT_INVALID)


@pytest.mark.parametrize(("valid_after", "good"), [(paper.NOW - 1, True), (paper.NOW, False)])
def test_eip3009_excludes_its_bounds_and_permit2_includes_them(valid_after: int, good: bool) -> None:
    assert isinstance(paper.verdict(paper.paid(paper.EIP3009, validAfter=str(valid_after))), Verified) is good
    assert isinstance(paper.verdict(paper.paid(paper.PERMIT2, validAfter=valid_after)), Verified)
    last = paper.NOW + NEEDED_S
    assert isinstance(paper.verdict(paper.paid(paper.EIP3009, validBefore=str(last))), Refused)
    assert isinstance(paper.verdict(paper.paid(paper.PERMIT2, deadline=last)), Verified)


@BY_METHOD
def test_a_window_that_ends_before_it_begins_is_refused(offer: Requirements) -> None:
    paper.refused(paper.paid(offer, **(since(offer, paper.NOW + 50) | until(offer, paper.NOW + 40))))


@BY_METHOD
@pytest.mark.parametrize("skew_s", [-120, -2, 0, 2, 120])
def test_both_clocks_must_like_the_window(offer: Requirements, skew_s: int) -> None:
    """F-010. The chain's time is `skew_s` off ours."""
    for last_second, first_second in itertools.product((NEEDED_S, NEEDED_S + 3, NEEDED_S + 200), (-600, -3, 0)):
        window = since(offer, paper.NOW + first_second) | until(offer, paper.NOW + last_second)
        clocks = {"now_s": paper.NOW, "chain_time_s": paper.NOW + skew_s}
        late = outlives(
            paper.accepted(paper.paid(offer, **window)), **clocks, work_s=paper.WORK_S, settle_margin_s=paper.MARGIN_S
        )
        ends_in_time = max(skew_s, 0) + NEEDED_S <= last_second
        has_begun = min(skew_s, 0) >= first_second
        assert (late is None) is (ends_in_time and has_begun)
        assert late is None or late.reason == reason(offer, "after" if ends_in_time else "before")


@BY_METHOD
def test_time_goes_on_while_the_chain_is_asked(offer: Requirements) -> None:
    """Our own clock counts where the chain's is behind it."""
    verified = paper.accepted(paper.paid(offer, **until(offer, paper.NOW + NEEDED_S + 3)))
    for waited_s in range(6):
        clocks = {"now_s": paper.NOW + waited_s, "chain_time_s": paper.NOW - 12}
        late = outlives(verified, **clocks, work_s=paper.WORK_S, settle_margin_s=paper.MARGIN_S)
        assert (late is None) is (waited_s <= 3)


@BY_METHOD
def test_the_window_of_a_verified_payment_is_that_of_the_contracts(offer: Requirements) -> None:
    """valid_after_s < t < valid_before_s, whichever way it was signed."""
    verified = paper.accepted(paper.paid(offer, **(since(offer, paper.NOW - 7) | until(offer, paper.NOW + 77))))
    assert (verified.valid_after_s, verified.valid_before_s) == (paper.NOW - 8, paper.NOW + 78)


# Signatures


@BY_METHOD
def test_v_may_be_written_from_zero_or_from_27(offer: Requirements) -> None:
    paid = paper.paid(offer)
    assert paper.accepted(paper.signature(paid, lambda old: old[:64] + bytes([old[64] - 27]))).recovered


@BY_METHOD
def test_no_other_v(offer: Requirements) -> None:
    for v in (2, 3, 26, 29, 30, 31, 32, 35, 37, 255):
        refused = paper.refused(paper.signature(paper.paid(offer), lambda old, v=v: old[:64] + bytes([v])))
        assert refused.reason == reason(offer, "signature")


@BY_METHOD
def test_the_twin_of_a_signature_is_refused(offer: Requirements) -> None:
    """The same key, the same payment, another s: a second set of bytes for it."""

    def twin(old: bytes) -> bytes:
        s = ORDER - int.from_bytes(old[32:64], "big")
        return old[:32] + s.to_bytes(32, "big") + bytes([55 - old[64]])

    assert paper.refused(paper.signature(paper.paid(offer), twin)).reason == reason(offer, "signature")


@BY_METHOD
def test_somebody_elses_signature_is_good_only_for_an_account_with_code(offer: Requirements) -> None:
    """F-075. Offline nobody knows whether the payer is a wallet that says yes to it."""
    wallet = Payer(paper.PAYER.key, wallet=paper.STRANGER, now=lambda: paper.NOW)
    verified = paper.accepted(paper.paid(offer, wallet))
    assert not verified.recovered
    assert verified.payer == paper.STRANGER.lower()


@BY_METHOD
@pytest.mark.parametrize("length", [1, 32, 64, 66, 96, 200, 2048])
def test_a_signature_of_another_length_is_for_a_wallet_to_judge(offer: Requirements, length: int) -> None:
    """F-075, F-078."""
    assert not paper.accepted(paper.signature(paper.paid(offer), lambda old: b"\x11" * length)).recovered


@BY_METHOD
def test_no_signature_is_none(offer: Requirements) -> None:
    assert paper.refused(paper.signature(paper.paid(offer), lambda old: b"")).reason == reason(offer, "signature")


@BY_METHOD
@pytest.mark.parametrize("blank", [bytes(65), b"\xff" * 65, bytes(64) + b"\x1b"])
def test_a_signature_that_is_nobodys_is_refused(offer: Requirements, blank: bytes) -> None:
    assert paper.refused(paper.signature(paper.paid(offer), lambda old: blank)).reason == reason(offer, "signature")


@BY_METHOD
@pytest.mark.parametrize("inside", ["valid", "garbage", "nothing"])
def test_a_wallet_that_is_not_deployed_is_refused_whatever_it_wraps(offer: Requirements, inside: str) -> None:
    """F-076. Factory and calldata are the caller's words; nobody here ever runs them."""

    def wrapped(old: bytes) -> bytes:
        inner = {"valid": old, "garbage": b"\x11" * 65, "nothing": b""}[inside]
        return bytes(12) + bytes.fromhex(paper.STRANGER[2:]) + inner + ERC6492_SUFFIX

    refused = paper.refused(paper.signature(paper.paid(offer), wrapped))
    assert refused.reason == ("eip6492_factory_not_allowed" if by_token(offer) else "invalid_permit2_signature")
    assert "deploy" in refused.message


@BY_METHOD
def test_whatever_is_changed_after_signing_the_payer_did_not_sign_it(offer: Requirements) -> None:
    """Every member that is signed: refused, or at least not his."""
    paid = paper.paid(offer)
    inner = "authorization" if by_token(offer) else "permit2Authorization"
    signed = paid["payload"][inner]
    paths = [(name,) for name in signed if not isinstance(signed[name], dict)]
    paths += [(name, part) for name in signed if isinstance(signed[name], dict) for part in signed[name]]
    for path in paths:
        came = paper.verdict(paper.changed(paid, "payload", inner, *path, to=_other))
        assert isinstance(came, Refused) or not came.recovered, path


def _other(value: str) -> str:
    if value.startswith("0x"):
        return "0x" + ("1" if value[2] != "1" else "2") + value[3:]
    return str(int(value) + 1)


@BY_METHOD
def test_a_signature_is_looked_at_last(offer: Requirements) -> None:
    """Recovering a key costs more than everything else, so of two faults the cheap one is found."""

    def spoilt(paid: dict[str, Any]) -> dict[str, Any]:
        return paper.signature(paid, lambda old: bytes(65))

    assert paper.refused(spoilt(paper.paid(offer))).reason == reason(offer, "signature")
    assert paper.refused(spoilt(paper.paid(offer, to=paper.STRANGER))).reason == reason(offer, "recipient")
    assert paper.refused(spoilt(paper.paid(offer, **until(offer, paper.NOW)))).reason == reason(offer, "before")
    assert paper.refused(spoilt(paper.paid(offer, **since(offer, paper.NOW + 9)))).reason == reason(offer, "after")
