"""Offers: what clients sign, in the order in which they should prefer it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs import paper
from x402.schemas import PaymentRequirements

from gateway.core.money import atomic_to_micros_down
from gateway.core.networks import NETWORKS
from gateway.core.x402.offers import Terms, offers

SEVEN = {"scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds", "extra"}
BASE, AVALANCHE, SANDBOX = paper.TERMS, *paper.OTHER_TERMS


def kinds(terms: tuple[Terms, ...], **kwargs: int) -> list[tuple[str, str, str]]:
    return [
        (offer.scheme, str(offer.extra.get("assetTransferMethod", "eip3009")), offer.network)
        for offer in offers(330_000, 60, terms, **kwargs)
    ]


def test_what_needs_only_a_signature_comes_first_and_upto_last() -> None:
    """Official clients pay the first offer they can."""
    assert kinds((BASE, AVALANCHE, SANDBOX), upto_micros=2_000_000) == [
        ("exact", "eip3009", "eip155:8453"),
        ("exact", "eip3009", "eip155:43114"),
        ("exact", "eip3009", "eip155:31337"),
        ("exact", "permit2", "eip155:8453"),
        ("exact", "permit2", "eip155:31337"),
        ("upto", "permit2", "eip155:8453"),
        ("upto", "permit2", "eip155:31337"),
    ]


def test_upto_is_offered_only_by_permit2_and_with_somebody_to_settle_it() -> None:
    assert ("upto", "permit2", paper.BASE) not in kinds((BASE,))
    assert kinds((replace(BASE, facilitator=None),), upto_micros=1)[-1][0] == "exact"
    assert kinds((replace(BASE, methods=("eip3009",)),), upto_micros=1) == [("exact", "eip3009", paper.BASE)]


def test_no_terms_no_offers() -> None:
    assert offers(330_000, 60, ()) == ()
    assert kinds((replace(BASE, methods=()),), upto_micros=1) == []


@pytest.mark.parametrize("offer", paper.OFFERS)
def test_an_offer_has_seven_members_and_the_tokens_domain(offer: paper.Requirements) -> None:
    wire = offer.to_json()
    assert set(wire) == SEVEN
    assert (offer.extra["name"], offer.extra["version"]) == (paper.TOKEN.name, paper.TOKEN.version)
    assert PaymentRequirements.model_validate(wire).model_dump(by_alias=True) == wire


def test_addresses_are_sent_with_their_checksums() -> None:
    lower = replace(
        BASE, token=replace(paper.TOKEN, address=paper.TOKEN.address.lower()), pay_to=paper.PAY_TO.lower(),
        facilitator=paper.RELAYER.lower(),
    )  # fmt: skip
    assert offers(330_000, 60, (lower,), upto_micros=2_000_000) == paper.OFFERS


def test_upto_asks_for_its_most_and_names_who_settles() -> None:
    assert paper.UPTO.amount == "2000000"
    assert paper.UPTO.extra["facilitatorAddress"] == paper.RELAYER
    assert "facilitatorAddress" not in paper.PERMIT2.extra


def test_play_money_is_marked() -> None:
    assert [offer.extra.get("sandbox") for offer in offers(1, 60, (BASE, SANDBOX))] == [None, True, None, True]


@given(st.integers(1, 10**12), st.integers(0, 24))
def test_a_coarse_token_is_asked_for_a_little_more_and_none_for_less(price_micros: int, decimals: int) -> None:
    token = replace(NETWORKS[paper.BASE].tokens[0], decimals=decimals)
    (offer, _) = offers(price_micros, 60, (replace(BASE, token=token),))
    worth, _ = atomic_to_micros_down(int(offer.amount), decimals)
    assert 0 <= worth - price_micros < max(10 ** (6 - decimals), 1)
