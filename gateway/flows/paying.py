"""The other side of the counter: a client that pays for a call by x402, to try things out.

    ask       the call without money; a 402 brings the offers
    choose    the first offer we can sign, whose token we know and whose price is within the cap
    sign      EIP-3009 or Permit2 `exact`, or Permit2 `upto`, over our own reading of the offer
    approve   by Permit2, where the wallet has not approved it and the offer takes a permit for that: beside the payment
    pay       the call again with the payment, until there is an answer

A signed payment is an open cheque for one price, or by `upto` for what the work comes to within a ceiling: the cap is
held against the ceiling, since that is what is signed, and only the one whom the offer names can cash it. Once it has
left this process nothing is ever signed anew for the same call: a lost answer or a 202 is followed up with the very
same bytes, which the other side charges once. After a 412 the same cheque goes out with the permit beside it.

A 202 that tells of a job is an answer: the work was handed over. It is asked about by its poll bearer
(flows/following.py), and the payment does not go out again.
"""

import asyncio
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

import orjson

from gateway.core.http import HttpClient, HttpFailure, HttpResponse
from gateway.core.keys import Key
from gateway.core.money import MICROS_PER_USD, format_usd
from gateway.core.networks import (
    EXACT_PERMIT2_PROXY,
    NETWORKS,
    PERMIT2,
    UPTO_PERMIT2_PROXY,
    ZERO_ADDRESS,
    Token,
    chain_id,
    parse_address,
)
from gateway.core.x402.headers import decode_payment, encode
from gateway.core.x402.messages import GAS_SPONSORING, VERSION, Eip2612, Eip3009, Json, Permit2
from gateway.core.x402.typed_data import eip2612_digest, eip3009_digest, permit2_digest
from gateway.flows.following import Job, Sleep, handed_over, retry_after_s
from gateway.settlement import calldata

ASK_TIMEOUT_S = 60.0
PAY_TIMEOUT_S = 300.0
BYTES_MAX = 16 * 1024 * 1024
RPC_TIMEOUT_S = 10.0
RPC_BYTES_MAX = 64 * 1024
FOLLOW_UPS_MAX = 30
CLOCK_SKEW_S = 600
"""A signature is valid from this long ago: chains and servers have clocks of their own."""
VALID_S_MAX = 3600
"""Whatever the offer asks for, no signature of ours lives longer."""


class CannotPay(Exception):
    """Nothing was signed, nothing was paid; the text says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be bought."""

    method: str
    url: str
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to pay that we understand."""

    accepted: Mapping[str, Json]
    """As the server sent it: a payment echoes it."""
    method: str
    """`eip3009`, `permit2` or `upto`."""
    token: Token
    amount_atomic: int
    """The price; by `upto` the most that may be taken."""
    pay_to: str
    valid_s: int
    facilitator: str | None = None
    """By `upto` who alone may settle it, EIP-55."""

    @property
    def price_micros(self) -> int:
        """In USD, rounded up: what a spending cap is compared with."""
        unit: int = 10**self.token.decimals
        return -(-self.amount_atomic * MICROS_PER_USD // unit)


@dataclass(frozen=True, slots=True)
class Quote:
    """What a 402 says."""

    offers: tuple[Offer, ...]
    refused: tuple[str, ...]
    """Why the other offers are not for us."""
    resource: Json
    extensions: Mapping[str, Json]
    """What a payment sends back."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a token says of a wallet."""

    allowance: int
    """What Permit2 may take of it, in atomic units."""
    permit_nonce: int
    """Of its next EIP-2612 permit."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How a paid call ended."""

    response: HttpResponse
    receipt: Mapping[str, Any] | None
    """PAYMENT-RESPONSE, decoded; None when nothing was settled, as after a miss."""
    job: Job | None = None
    """What the call was handed over as."""

    @property
    def charge_id(self) -> str | None:
        return self.response.headers.get("x-charge-id")

    @property
    def pending(self) -> bool:
        """Whether the payment is still on its way."""
        return self.response.status == 202 and self.job is None


def quote(response: HttpResponse) -> Quote:
    """The offers of a 402. Raises CannotPay where there are none to be read."""
    header = response.headers.get("payment-required")
    if response.status not in (402, 412) or header is None:
        raise CannotPay(f"the answer is {response.status} without a PAYMENT-REQUIRED header: there is nothing to pay")
    required = decoded(header)
    if not isinstance(required, Mapping) or required.get("x402Version") != VERSION:
        raise CannotPay("the PAYMENT-REQUIRED header is no offer of x402 version 2")
    accepts = required.get("accepts")
    read = [_offer(each) for each in accepts] if isinstance(accepts, Sequence) else []
    extensions = required.get("extensions")
    return Quote(
        offers=tuple(each for each in read if isinstance(each, Offer)),
        refused=tuple(each for each in read if isinstance(each, str)),
        resource=required.get("resource"),
        extensions=extensions if isinstance(extensions, Mapping) else {},
    )


def choose(quote: Quote, *, cap_micros: int, network: str | None = None, method: str | None = None) -> Offer:
    """The first offer within the cap. Raises CannotPay with every reason against the others."""
    why = list(quote.refused)
    for offer in quote.offers:
        if network is not None and offer.token.network != network:
            why.append(f"{offer.token.network} is not {network}")
        elif method is not None and offer.method != method:
            why.append(f"{offer.method} is not {method}")
        elif offer.price_micros > cap_micros:
            why.append(f"${format_usd(offer.price_micros)} is above the cap of ${format_usd(cap_micros)}")
        else:
            return offer
    raise CannotPay("no offer can be paid: " + ("; ".join(dict.fromkeys(why)) or "there is none"))


def sign(offer: Offer, quote: Quote, key: Key, *, now_s: int, entropy: Callable[[int], bytes]) -> str:
    """The PAYMENT-SIGNATURE header that pays this offer."""
    signed = _eip3009(offer, key, now_s, entropy) if offer.method == "eip3009" else _permit2(offer, key, now_s, entropy)
    payment: dict[str, Json] = {"x402Version": VERSION, "accepted": offer.accepted, "payload": signed}
    if quote.resource is not None:
        payment["resource"] = quote.resource
    if quote.extensions:
        payment["extensions"] = _echo(quote.extensions, entropy)
    return encode(payment)


def _echo(extensions: Mapping[str, Json], entropy: Callable[[int], bytes]) -> dict[str, Json]:
    """All extensions of the 402 go back with the payment, as official clients do it: some hold what only this 402 has.
    A payment identifier is ours to choose."""
    echo = dict(extensions)
    asked = echo.get("payment-identifier")
    if isinstance(asked, Mapping):
        info = asked.get("info")
        chosen = {**(info if isinstance(info, Mapping) else {}), "id": f"pay_{entropy(16).hex()}"}
        echo["payment-identifier"] = {**asked, "info": chosen}
    return echo


def sponsors(offer: Offer, quote: Quote) -> bool:
    """Whether this offer can be paid by a wallet that has not approved Permit2, with a permit and without gas."""
    return offer.method != "eip3009" and offer.token.eip2612 and GAS_SPONSORING in quote.extensions


def approve(payment: str, offer: Offer, quote: Quote, key: Key, *, nonce: int) -> str:
    """A signed payment by Permit2 -> the same with a permit over its amount, for as long as it is good."""
    body, signed = decoded(payment), decode_payment(payment).authorization
    assert isinstance(body, Mapping), "a payment is an object"
    assert isinstance(signed, Permit2), "only Permit2 needs an approval"
    token = offer.token
    permit = Eip2612(
        owner=key.address.lower(),
        token=token.address.lower(),
        spender=PERMIT2.lower(),
        value=offer.amount_atomic,
        nonce=nonce,
        deadline=signed.deadline,
        signature=b"",
    )
    digest = eip2612_digest(
        permit, name=token.name, version=token.version, chain_id=chain_id(token.network), token=token.address
    )
    info = {
        "from": key.address,
        "asset": token.address,
        "spender": PERMIT2,
        "amount": str(permit.value),
        "nonce": str(permit.nonce),
        "deadline": str(permit.deadline),
        "signature": "0x" + key.sign(digest).hex(),
        "version": "1",
    }
    offered = quote.extensions[GAS_SPONSORING]
    echo = dict(offered) if isinstance(offered, Mapping) else {}
    extensions = body.get("extensions")
    return encode(
        {
            **body,
            "extensions": {
                **(extensions if isinstance(extensions, Mapping) else {}),
                GAS_SPONSORING: {**echo, "info": info},
            },
        }
    )


@dataclass(frozen=True, slots=True)
class Payer:
    http: HttpClient
    sleep: Sleep = asyncio.sleep

    async def ask(self, call: Call) -> HttpResponse:
        """The call without money. Raises HttpFailure."""
        return await self._send(call, {}, ASK_TIMEOUT_S)

    async def standing(self, rpc_url: str, token: Token, owner: str) -> Standing:
        """What a node says of a wallet. Raises CannotPay where it has no answer, HttpFailure where there is no node."""
        questions = (calldata.permit2_allowance(owner), calldata.permit_nonce(owner))
        asked = [
            {
                "jsonrpc": "2.0", "id": id, "method": "eth_call",
                "params": [{"to": token.address, "data": "0x" + question.hex()}, "latest"],
            }
            for id, question in enumerate(questions)
        ]  # fmt: skip
        words = [await self._word(rpc_url, question) for question in asked]
        return Standing(*words)

    async def _word(self, rpc_url: str, question: Mapping[str, object]) -> int:
        response = await self.http.request(
            "POST", rpc_url, headers={"Content-Type": "application/json"}, body=orjson.dumps(question),
            timeout_s=RPC_TIMEOUT_S, bytes_max=RPC_BYTES_MAX, private=True,
        )  # fmt: skip
        try:
            word = bytes.fromhex(orjson.loads(response.body)["result"].removeprefix("0x"))
        except (ValueError, KeyError, TypeError, AttributeError):
            word = b""
        if len(word) != 32:
            # Nothing at all is what a node of another network says: there is no such token there.
            raise CannotPay(f"{rpc_url} does not say what Permit2 may take of this wallet")
        return int.from_bytes(word, "big")

    async def pay(self, call: Call, payment: str) -> Reply:
        """The call with a signed payment, followed up until it has ended or FOLLOW_UPS_MAX is reached.

        Raises HttpFailure when nobody answers any more: the payment may have been taken, and the same call with the
        same payment will tell.
        """
        paying = {"PAYMENT-SIGNATURE": payment}
        response: HttpResponse | None = None
        job: Job | None = None
        for _ in range(FOLLOW_UPS_MAX):
            try:
                response = await self._send(call, paying, PAY_TIMEOUT_S)
            except HttpFailure as failure:
                if not failure.sent:
                    raise
                await self.sleep(1)
                continue
            job = handed_over(response, call.url)
            if response.status != 202 or job is not None:
                break
            await self.sleep(retry_after_s(response))
        if response is None:
            raise HttpFailure("timeout", "no answer to the payment; it may have been taken", sent=True)
        receipt = decoded(response.headers.get("payment-response", ""))
        return Reply(response, receipt if isinstance(receipt, Mapping) else None, job)

    async def _send(self, call: Call, more: Mapping[str, str], timeout_s: float) -> HttpResponse:
        media = {"Content-Type": "application/json"} if call.body is not None else {}
        return await self.http.request(
            call.method,
            call.url,
            headers={**media, **call.headers, **more},
            body=call.body,
            timeout_s=timeout_s,
            bytes_max=BYTES_MAX,
            private=True,  # whoever pays has typed the address himself
        )


def status_url(call: Call, reply: Reply) -> str | None:
    """Where a call that is still under way can be asked after."""
    location = reply.response.headers.get("location")
    return urljoin(call.url, location) if location else None


def _offer(accepted: Json) -> Offer | str:
    """An offer, or why it is none for us."""
    if not isinstance(accepted, Mapping):
        return "an offer is no JSON object"
    scheme, network, asset = (accepted.get(name) for name in ("scheme", "network", "asset"))
    if scheme not in ("exact", "upto"):
        return f"scheme {scheme} is neither exact nor upto"
    token = _token(network, asset)
    if token is None:
        return f"the token {asset} on {network} is unknown here, so nobody can say what it is worth"
    amount, pay_to, valid_s = (accepted.get(name) for name in ("amount", "payTo", "maxTimeoutSeconds"))
    extra = accepted.get("extra")
    if not isinstance(amount, str) or not amount.isascii() or not amount.isdigit() or len(amount) > 30:
        return "an offer's amount is no number"
    if not isinstance(pay_to, str) or parse_address(pay_to) is None:
        return "an offer's payTo is no address"
    if type(valid_s) is not int or not valid_s > 0 or not isinstance(extra, Mapping):
        return "an offer lacks maxTimeoutSeconds or extra"
    upto = scheme == "upto"
    transfer = extra.get("assetTransferMethod") or ("permit2" if upto else "eip3009")
    if transfer != "permit2" and (upto or transfer != "eip3009"):
        return f"{scheme} by {transfer} cannot be signed here"
    facilitator = None
    if upto:
        named = extra.get("facilitatorAddress")
        facilitator = parse_address(named) if isinstance(named, str) else None
        if facilitator in (None, ZERO_ADDRESS):
            return "an offer by upto has no address for its facilitatorAddress, so nobody could settle it"
    method = "upto" if upto else str(transfer)
    return Offer(accepted, method, token, int(amount), pay_to.lower(), min(valid_s, VALID_S_MAX), facilitator)


def _token(network: Json, asset: Json) -> Token | None:
    known = NETWORKS.get(network) if isinstance(network, str) else None
    wanted = asset.lower() if isinstance(asset, str) else ""
    return next((token for token in known.tokens if token.address.lower() == wanted), None) if known else None


def _eip3009(offer: Offer, key: Key, now_s: int, entropy: Callable[[int], bytes]) -> dict[str, Json]:
    token = offer.token
    signed = Eip3009(
        from_=key.address.lower(),
        to=offer.pay_to,
        value=offer.amount_atomic,
        valid_after=now_s - CLOCK_SKEW_S,
        valid_before=now_s + offer.valid_s,
        nonce=entropy(32),
    )
    digest = eip3009_digest(
        signed, name=token.name, version=token.version, chain_id=chain_id(token.network), token=token.address
    )
    return {
        "signature": "0x" + key.sign(digest).hex(),
        "authorization": {
            "from": key.address,
            "to": offer.accepted["payTo"],
            "value": str(signed.value),
            "validAfter": str(signed.valid_after),
            "validBefore": str(signed.valid_before),
            "nonce": "0x" + signed.nonce.hex(),
        },
    }


def _permit2(offer: Offer, key: Key, now_s: int, entropy: Callable[[int], bytes]) -> dict[str, Json]:
    """`exact` or `upto`: the witness of `upto` names who may settle it."""
    token, facilitator = offer.token, offer.facilitator
    spender = EXACT_PERMIT2_PROXY if facilitator is None else UPTO_PERMIT2_PROXY
    named: dict[str, Json] = {} if facilitator is None else {"facilitator": facilitator}
    signed = Permit2(
        token=token.address.lower(),
        from_=key.address.lower(),
        spender=spender.lower(),
        to=offer.pay_to,
        amount=offer.amount_atomic,
        nonce=int.from_bytes(entropy(32), "big"),
        deadline=now_s + offer.valid_s,
        valid_after=now_s - CLOCK_SKEW_S,
        facilitator=facilitator and facilitator.lower(),
    )
    return {
        "signature": "0x" + key.sign(permit2_digest(signed, chain_id=chain_id(token.network))).hex(),
        "permit2Authorization": {
            "permitted": {"token": token.address, "amount": str(signed.amount)},
            "from": key.address,
            "spender": spender,
            "nonce": str(signed.nonce),
            "deadline": str(signed.deadline),
            "witness": {"to": offer.accepted["payTo"], **named, "validAfter": str(signed.valid_after)},
        },
    }


def decoded(header: str) -> Json:
    """Base64 of JSON; None for anything else."""
    try:
        value: Json = orjson.loads(binascii.a2b_base64(header, strict_mode=True))
    except ValueError:
        return None
    return value
