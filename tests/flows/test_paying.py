"""The paying client: what it signs our own verifier takes, what it should not sign it does not, and it pays once."""

import binascii
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from eth_account import Account
from eth_utils import to_checksum_address
from x402.mechanisms.evm.constants import X402_UPTO_PERMIT2_PROXY_ADDRESS
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.mechanisms.evm.types import (
    ExactPermit2TokenPermissions,
    UptoPermit2Authorization,
    UptoPermit2Payload,
    UptoPermit2Witness,
)
from x402.mechanisms.evm.upto.client import _sign_upto_permit2_authorization
from x402.schemas import PaymentRequirements

from gateway.core.http import HttpFailure, HttpResponse
from gateway.core.keys import Key
from gateway.core.networks import NETWORKS
from gateway.core.x402 import eip2612
from gateway.core.x402.bazaar import repeat_key_extension
from gateway.core.x402.headers import decode_payment, encode
from gateway.core.x402.offers import Terms, offers
from gateway.core.x402.verify import Refused, Verified, verify
from gateway.flows.paying import (
    Call,
    CannotPay,
    Offer,
    Payer,
    Quote,
    Standing,
    approve,
    choose,
    quote,
    sign,
    sponsors,
)

KEY = Key(b"\x0b" * 32)
PAY_TO = "0x52908400098527886E0F7030069857D2E4169EE7"
BASE = "eip155:8453"
NOW = 1_700_000_000
CALL = Call("POST", "https://api.example.com/api/v1/enrich/phone", b"{}")
TERMS = Terms(BASE, NETWORKS[BASE].tokens[0], PAY_TO, ("eip3009", "permit2"), None, False)
ASKED = offers(330_000, 120, [TERMS])
SETTLER = "0x8617E340B3D01FA5F11F306F4090FD50E238070D"
(UPTO,) = offers(0, 1200, [replace(TERMS, methods=("permit2",), facilitator=SETTLER)], upto_micros=1_500_000)[1:]


def entropy(count: int) -> bytes:
    return bytes(range(count))


def challenge(accepts: list[Any], status: int = 402, **more: Any) -> HttpResponse:
    required = {"x402Version": 2, "error": "pay", "resource": {"url": CALL.url}, "accepts": accepts, **more}
    return HttpResponse(status, {"payment-required": encode(required)}, b"{}")


def wire(**changes: Any) -> dict[str, Any]:
    return {**ASKED[0].to_json(), **changes}


def ceiling(**extra: Any) -> dict[str, Any]:
    return {**UPTO.to_json(), "extra": {**UPTO.extra, **extra}}


@pytest.mark.parametrize("method", ["eip3009", "permit2"])
def test_what_it_signs_is_verified(method: str) -> None:
    found = quote(challenge([asked.to_json() for asked in ASKED]))
    offer = choose(found, cap_micros=330_000, method=method)
    payment = decode_payment(sign(offer, found, KEY, now_s=NOW, entropy=entropy))
    verdict = verify(payment, ASKED, now_s=NOW, work_s=30, settle_margin_s=10)
    assert isinstance(verdict, Verified), verdict
    assert (verdict.payer, verdict.value_atomic, verdict.method) == (KEY.address.lower(), 330_000, method)
    assert verdict.recovered
    assert verdict.valid_before_s <= NOW + 121


def test_a_ceiling_that_it_signs_is_verified() -> None:
    """By our own verifier: the whole ceiling, to be settled by the one who was offered and by nobody else."""
    found = quote(challenge([*(asked.to_json() for asked in ASKED), UPTO.to_json()]))
    offer = choose(found, cap_micros=1_500_000, method="upto")
    payment = decode_payment(sign(offer, found, KEY, now_s=NOW, entropy=entropy))
    asked = {"now_s": NOW, "work_s": 900, "settle_margin_s": 120}
    verdict = verify(payment, [*ASKED, UPTO], settlers=[SETTLER], **asked)
    assert isinstance(verdict, Verified), verdict
    assert (verdict.payer, verdict.value_atomic, verdict.method) == (KEY.address.lower(), 1_500_000, "permit2")
    assert verdict.requirements == UPTO
    assert verdict.recovered
    assert isinstance(verify(payment, [UPTO], settlers=[KEY.address], **asked), Refused)


def test_a_ceiling_is_signed_to_the_digit_as_the_official_client_signs_it() -> None:
    found = quote(challenge([UPTO.to_json()]))
    payment = orjson.loads(binascii.a2b_base64(sign(found.offers[0], found, KEY, now_s=NOW, entropy=entropy)))[
        "payload"
    ]
    signed = payment["permit2Authorization"]
    theirs = UptoPermit2Authorization(
        from_address=signed["from"],
        permitted=ExactPermit2TokenPermissions(**signed["permitted"]),
        spender=X402_UPTO_PERMIT2_PROXY_ADDRESS,
        nonce=signed["nonce"],
        deadline=signed["deadline"],
        witness=UptoPermit2Witness(
            to=PAY_TO, facilitator=to_checksum_address(SETTLER), valid_after=signed["witness"]["validAfter"]
        ),
    )
    official = PaymentRequirements.model_validate(UPTO.to_json())
    signer = EthAccountSigner(Account.from_key(b"\x0b" * 32))
    assert payment["signature"] == _sign_upto_permit2_authorization(signer, theirs, official)
    payload = UptoPermit2Payload(permit2_authorization=theirs, signature=payment["signature"]).to_dict()
    assert payload == payment


def test_the_price_of_a_ceiling_is_the_ceiling() -> None:
    found = quote(challenge([UPTO.to_json()]))
    with pytest.raises(CannotPay, match=r"\$1\.500 is above the cap of \$1\.000"):
        choose(found, cap_micros=1_000_000)
    assert choose(found, cap_micros=1_500_000).price_micros == 1_500_000
    with pytest.raises(CannotPay, match="upto is not permit2"):
        choose(found, cap_micros=1_500_000, method="permit2")


def test_a_payment_identifier_is_sent_where_it_is_asked_for() -> None:
    found = quote(challenge([wire()], extensions={"payment-identifier": {"info": {"required": True}}}))
    payment = decode_payment(sign(found.offers[0], found, KEY, now_s=NOW, entropy=entropy))
    assert payment.payment_identifier == "pay_" + entropy(16).hex()


def test_the_extensions_of_the_402_go_back_as_official_clients_send_them() -> None:
    """What only this 402 has shows later that a repeated call is ours."""
    asked = {
        "bazaar": {"info": {"input": {}}, "schema": {}},
        "payment-identifier": {"info": {"required": False}, "schema": {"type": "object"}},
        "repeat-key": repeat_key_extension("41" * 16),
    }
    found = quote(challenge([wire()], extensions=asked))
    payment = decode_payment(sign(found.offers[0], found, KEY, now_s=NOW, entropy=entropy))
    asked["payment-identifier"]["info"]["id"] = "pay_" + entropy(16).hex()
    assert payment.extensions == asked
    assert payment.repeat_key == "41" * 16


@pytest.mark.parametrize("extensions", [None, {}, [], "x", {"payment-identifier": None}, {"payment-identifier": {}}])
def test_odd_extensions_are_paid_all_the_same(extensions: Any) -> None:
    found = quote(challenge([wire()], extensions=extensions))
    payment = decode_payment(sign(found.offers[0], found, KEY, now_s=NOW, entropy=entropy))
    assert isinstance(verify(payment, ASKED, now_s=NOW, work_s=30, settle_margin_s=10), Verified)


REFUSED = {
    "another scheme": (wire(scheme="deferred"), "scheme deferred"),
    "unknown token": (wire(asset="0x" + "12" * 20), "is unknown here"),
    "unknown network": (wire(network="eip155:999999"), "is unknown here"),
    "other chains": (wire(network="solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"), "is unknown here"),
    "too dear": (wire(amount="330001"), "above the cap"),
    "fraction": (wire(amount="0.33"), "no number"),
    "endless amount": (wire(amount="9" * 4000), "no number"),
    "bad address": (wire(payTo="0x1234"), "no address"),
    "no time": (wire(maxTimeoutSeconds="60"), "maxTimeoutSeconds"),
    "strange method": (wire(extra={"assetTransferMethod": "erc7710"}), "cannot be signed"),
    "upto by eip3009": (ceiling(assetTransferMethod="eip3009"), "upto by eip3009 cannot be signed"),
    "upto, settled by nobody": (ceiling(facilitatorAddress=None), "nobody could settle it"),
    "upto, settled by no address": (ceiling(facilitatorAddress="0x1234"), "nobody could settle it"),
    "upto, a mistyped address": (ceiling(facilitatorAddress=SETTLER.replace("F", "f")), "nobody could settle it"),
    "upto, the zero address": (ceiling(facilitatorAddress="0x" + "0" * 40), "nobody could settle it"),
    "upto, a strange address": (ceiling(facilitatorAddress=[SETTLER]), "nobody could settle it"),
    "upto, too high a ceiling": (UPTO.to_json(), r"\$1.500 is above the cap of \$0.330"),
    "no object": ("free", "no JSON object"),
}


@pytest.mark.parametrize(("accepted", "why"), REFUSED.values(), ids=REFUSED)
def test_what_it_does_not_sign(accepted: Any, why: str) -> None:
    with pytest.raises(CannotPay, match=why):
        choose(quote(challenge([accepted])), cap_micros=330_000)


@pytest.mark.parametrize(
    "response",
    [
        HttpResponse(200, {"payment-required": encode({"x402Version": 2, "accepts": [wire()]})}, b""),
        HttpResponse(402, {}, b""),
        HttpResponse(402, {"payment-required": "%%%"}, b""),
        HttpResponse(402, {"payment-required": encode([1])}, b""),
        HttpResponse(402, {"payment-required": encode({"x402Version": 1, "accepts": [wire()]})}, b""),
        HttpResponse(402, {"payment-required": encode({"x402Version": 2})}, b""),
    ],
)
def test_answers_without_an_offer(response: HttpResponse) -> None:
    with pytest.raises(CannotPay):
        choose(quote(response), cap_micros=10**6)


def test_the_cap_is_in_dollars_whatever_the_tokens_decimals() -> None:
    token = NETWORKS[BASE].tokens[0]
    assert Offer({}, "eip3009", token, 330_000, PAY_TO, 60).price_micros == 330_000
    assert Offer({}, "eip3009", token.__class__(BASE, PAY_TO, "X", "X", "1", 18), 1, PAY_TO, 60).price_micros == 1
    assert Offer({}, "eip3009", token.__class__(BASE, PAY_TO, "X", "X", "1", 2), 33, PAY_TO, 60).price_micros == 330_000


def test_a_signature_lives_no_longer_than_an_hour() -> None:
    found = quote(challenge([wire(maxTimeoutSeconds=10**9)]))
    payment = orjson.loads(binascii.a2b_base64(sign(found.offers[0], found, KEY, now_s=NOW, entropy=entropy)))
    assert int(payment["payload"]["authorization"]["validBefore"]) == NOW + 3600


class Shop:
    """core.http.HttpClient whose answers were written down before."""

    def __init__(self, *answers: HttpResponse | HttpFailure) -> None:
        self._answers = list(answers)
        self.payments: list[str] = []

    async def request(self, method: str, url: str, *, headers: Mapping[str, str], **_: Any) -> HttpResponse:
        self.payments.append(headers["PAYMENT-SIGNATURE"])
        answer = self._answers.pop(0)
        if isinstance(answer, HttpFailure):
            raise answer
        return answer


async def paid(*answers: HttpResponse | HttpFailure) -> tuple[Shop, list[float], Any]:
    shop, slept = Shop(*answers), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    reply = await Payer(shop, sleep).pay(CALL, "the-one-payment")  # type: ignore[arg-type]
    return shop, slept, reply


PENDING = HttpResponse(202, {"retry-after": "2", "location": "/api/v1/charges/chg_1"}, b"{}")
DONE = HttpResponse(200, {"payment-response": encode({"success": True}), "x-charge-id": "chg_1"}, b"{}")
LOST = HttpFailure("timeout", "no answer in time", sent=True)


async def test_a_lost_answer_and_a_202_are_followed_up_with_the_very_same_payment() -> None:
    shop, slept, reply = await paid(LOST, PENDING, DONE)
    assert shop.payments == ["the-one-payment"] * 3
    assert slept == [1, 2]
    assert (reply.receipt, reply.charge_id, reply.pending) == ({"success": True}, "chg_1", False)


HANDED_OVER = {"job_id": "ej_1", "poll_url": "/api/v1/enrich/jobs/ej_1", "poll_bearer": "411j_secret"}


async def test_a_job_is_an_answer_and_its_payment_does_not_go_out_again() -> None:
    accepted = HttpResponse(202, {"retry-after": "5"}, orjson.dumps(HANDED_OVER))
    shop, slept, reply = await paid(LOST, PENDING, accepted, DONE)
    assert (len(shop.payments), slept) == (3, [1, 2])
    assert not reply.pending
    assert reply.job.poll_url == "https://api.example.com/api/v1/enrich/jobs/ej_1"


@pytest.mark.parametrize("missing", HANDED_OVER)
async def test_what_only_looks_like_a_job_is_followed_up_as_ever(missing: str) -> None:
    for odd in (None, 7):
        body = orjson.dumps({**HANDED_OVER, missing: odd})
        shop, _, reply = await paid(HttpResponse(202, {"retry-after": "2"}, body), DONE)
        assert (len(shop.payments), reply.job) == (2, None)


async def test_what_is_pending_for_ever_is_told_as_pending() -> None:
    shop, _, reply = await paid(*[PENDING] * 100)
    assert reply.pending
    assert len(shop.payments) == 30


async def test_nobody_answers_any_more() -> None:
    with pytest.raises(HttpFailure, match="may have been taken"):
        await paid(*[LOST] * 100)


async def test_what_never_left_is_not_repeated() -> None:
    with pytest.raises(HttpFailure, match="no connection"):
        await paid(HttpFailure("connect", "no connection could be made", sent=False), DONE)


@pytest.mark.parametrize("retry_after", ["86400", "soon", "-1", "9" * 5000, ""])
async def test_a_server_cannot_make_it_wait_for_long(retry_after: str) -> None:
    _, slept, _ = await paid(HttpResponse(202, {"retry-after": retry_after}, b""), DONE)
    assert 0 < slept[0] <= 30


def test_the_first_offer_that_fits_is_chosen() -> None:
    found: Quote = quote(challenge([wire(amount="900000"), *[asked.to_json() for asked in ASKED]]))
    assert choose(found, cap_micros=500_000).amount_atomic == 330_000
    assert choose(found, cap_micros=500_000, network=BASE, method="permit2").method == "permit2"
    with pytest.raises(CannotPay, match="eip155:8453 is not eip155:1"):
        choose(found, cap_micros=500_000, network="eip155:1")


# permits


def sponsoring() -> Quote:
    extensions = {"eip2612GasSponsoring": eip2612.extension(), "payment-identifier": {"info": {"required": False}}}
    return quote(challenge([asked.to_json() for asked in (*ASKED, UPTO)], extensions=extensions))


@pytest.mark.parametrize(("method", "amount"), [("permit2", 330_000), ("upto", 1_500_000)])
def test_with_a_permit_it_is_the_same_cheque(method: str, amount: int) -> None:
    found = sponsoring()
    offer = choose(found, cap_micros=amount, method=method)
    assert sponsors(offer, found)
    bare = sign(offer, found, KEY, now_s=NOW, entropy=entropy)
    payment = decode_payment(approve(bare, offer, found, KEY, nonce=5))
    before = decode_payment(bare)
    assert (payment.authorization, payment.signature) == (before.authorization, before.signature)
    assert payment.payment_identifier == before.payment_identifier
    verdict = verify(
        payment, [*ASKED, UPTO], now_s=NOW, work_s=30, settle_margin_s=10, settlers=[SETTLER],
        sponsored=(NETWORKS[BASE].tokens[0].asset,),
    )  # fmt: skip
    assert isinstance(verdict, Verified), verdict
    assert verdict.permit is not None
    assert (verdict.permit.nonce, verdict.permit.value) == (5, amount)


def test_no_permit_where_none_is_taken() -> None:
    found = sponsoring()
    assert not sponsors(choose(found, cap_micros=330_000, method="eip3009"), found)
    plain = quote(challenge([asked.to_json() for asked in ASKED]))
    assert not sponsors(choose(plain, cap_micros=330_000, method="permit2"), plain)


class Node:
    """core.http.HttpClient before a node that knows one allowance and one nonce."""

    def __init__(self, *bodies: bytes) -> None:
        self._bodies = list(bodies)
        self.asked: list[Any] = []

    async def request(self, method: str, url: str, *, body: bytes, **_: Any) -> HttpResponse:
        self.asked.append(orjson.loads(body))
        return HttpResponse(200, {}, self._bodies.pop(0))


async def test_a_node_tells_how_a_wallet_stands() -> None:
    node = Node(*(orjson.dumps({"id": n, "result": f"0x{value:064x}"}) for n, value in enumerate((41, 7))))
    token = NETWORKS[BASE].tokens[0]
    standing = await Payer(node).standing("http://node", token, KEY.address)  # type: ignore[arg-type]
    assert standing == Standing(allowance=41, permit_nonce=7)
    assert {each["params"][0]["to"] for each in node.asked} == {token.address}
    assert [each["params"][0]["data"][:10] for each in node.asked] == ["0xdd62ed3e", "0x7ecebe00"]


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"result": null}', b'{"result": "0xzz"}', b'{"result": "0x"}', b'{"result": 5}']
)
async def test_a_node_that_tells_nothing_stops_the_payment(body: bytes) -> None:
    with pytest.raises(CannotPay, match="does not say"):
        await Payer(Node(body)).standing("http://node", NETWORKS[BASE].tokens[0], KEY.address)  # type: ignore[arg-type]
