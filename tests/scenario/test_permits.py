"""A wallet that has not approved Permit2 pays with a permit beside its payment: one at a time, or is told why not."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rigs.gate import KEYS, Gate
from rigs.paper import mutated
from rigs.payer import Payer, with_permit
from rigs.scripted import failure, slow, taking

from gateway.core.charge import State
from gateway.core.keys import Key
from gateway.core.networks import SANDBOX
from gateway.core.x402.messages import parse_payment
from gateway.core.x402.verify import Verified
from gateway.flows import paying
from gateway.outbound import OutboundClient
from gateway.settlement.sandbox import Sandbox

PAYER, OTHER = Payer(KEYS[0]), Payer(KEYS[1])
PAY_TO = "0x" + "fa4e" * 10
NETWORK = f'[[networks]]\nid = "{SANDBOX}"\npay_to = "{PAY_TO}"\n'
FACILITATED = pytest.mark.parametrize("method", ["permit2", "upto"])


class Watched(Sandbox):
    """Counts how often it was asked."""

    checks = 0

    async def check(self, payment: Verified) -> Any:
        self.checks += 1
        return await super().check(payment)


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    async with Gate.open(tmp_path) as gate:
        gate.sandbox.allow_permit2(PAYER.address, 0)
        yield gate


async def offer(gate: Gate, method: str = "permit2", operation: str = "test/metered") -> Any:
    return next(
        each for each in await gate.offers(operation)
        if (each["scheme"] == "upto") is (method == "upto") and each["extra"].get("assetTransferMethod") == "permit2"
    )  # fmt: skip


async def test_the_402_offers_it_and_nothing_else_of_its_kind(gate: Gate) -> None:
    for operation in ("test/alpha", "test/metered"):
        extensions = (await gate.call("hello", operation=operation)).offer["extensions"]
        assert extensions["eip2612GasSponsoring"]["info"]["version"] == "1"
        assert "erc20ApprovalGasSponsoring" not in extensions


@pytest.mark.parametrize(
    "toml",
    [
        'methods = ["eip3009"]',
        '[[networks.tokens]]\naddress = "0x' + "5b" * 20 + '"\nsymbol = "X"\nname = "X"\nversion = "1"\ndecimals = 6\n'
        "eip2612 = false",
    ],
)
async def test_it_is_not_offered_where_it_could_not_be_used(tmp_path: Path, toml: str) -> None:
    async with Gate.open(tmp_path, toml=NETWORK + toml) as gate:
        offered = (await gate.call("hello")).offer
        assert "eip2612GasSponsoring" not in offered["extensions"]
        by_permit2 = any("assetTransferMethod" in each["extra"] for each in offered["accepts"])
        assert by_permit2 is ("methods" not in toml)


@FACILITATED
async def test_a_wallet_without_an_allowance_pays(gate: Gate, method: str) -> None:
    gate.upstream.script["hello"] = taking(200_000)
    asked = await offer(gate, method)
    bare = PAYER.permit2(asked)
    refused = await gate.call("hello", operation="test/metered", payment=bare)
    assert (refused.status, refused.json["code"]) == (412, "PERMIT2_ALLOWANCE_REQUIRED")
    assert refused.offer["error"] == "permit2_allowance_required"
    had = gate.sandbox.balance(PAYER.address)
    paid = await gate.call(
        "hello", operation="test/metered", payment=with_permit(bare, PAYER.permit(asked, bare, nonce=0))
    )
    assert paid.status == 200, paid.json
    cost = 300_000 if method == "upto" else 100_000
    assert had - gate.sandbox.balance(PAYER.address) == cost
    assert gate.sandbox.permit2_allowance(PAYER.address) == int(asked["amount"]) - cost
    again = await gate.call("hello", operation="test/metered", payment=PAYER.sponsored(asked, nonce=1))
    assert again.status == 200, again.json
    assert [view.charge.state for view in await gate.charges()] == [State.SETTLED] * 2


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "other spender": ({"spender": OTHER.address}, "eip2612_spender_not_permit2"),
    "other owner": ({"owner": OTHER.address, "sign_as": OTHER}, "eip2612_from_mismatch"),
    "other token": ({"asset": "0x" + "5b" * 20}, "eip2612_asset_mismatch"),
    "too small": ({"value": 99_999}, "permit2_2612_amount_mismatch"),
    "expired": ({"deadline": 1_700_000_000}, "eip2612_deadline_expired"),
    "forged": ({"sign_as": OTHER}, "invalid_eip2612_signature"),
}


@pytest.mark.parametrize(("changes", "reason"), FAULTS.values(), ids=FAULTS)
async def test_what_is_wrong_offline_asks_nobody_and_claims_nothing(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    settler = Watched(pay_to=PAY_TO, clock=lambda: 1e9)
    async with Gate.open(tmp_path, settler=settler, toml=NETWORK, clock=lambda: 1_800_000_000.0) as gate:
        payer = Payer(KEYS[0], now=lambda: 1_800_000_000.0)
        asked = await offer(gate)
        reply = await gate.call("hello", operation="test/metered", payment=payer.sponsored(asked, **changes))
        assert reply.status == 402
        assert reply.offer["error"] == reason
        assert settler.checks == 0
        assert await gate.charges() == []
        assert gate.upstream.journal == []


async def test_a_permit_out_of_turn_is_refused_before_anything_is_claimed(gate: Gate) -> None:
    asked = await offer(gate)
    reply = await gate.call("hello", operation="test/metered", payment=PAYER.sponsored(asked, nonce=4))
    assert (reply.status, reply.json["code"]) == (402, "PAYMENT_INVALID")
    assert reply.offer["error"] == "eip2612_nonce_mismatch"
    assert await gate.charges() == []


async def test_of_two_permits_at_once_one_is_refused_before_its_work(gate: Gate) -> None:
    gate.upstream.script["slow"] = slow(0.3, taking(0))
    asked = await offer(gate)
    replies = await asyncio.gather(
        *(gate.call("slow", operation="test/metered", payment=PAYER.sponsored(asked)) for _ in range(2))
    )
    refused, good = sorted(replies, key=lambda reply: -reply.status)
    assert (good.status, refused.status, refused.json["code"]) == (200, 402, "PAYMENT_INVALID")
    assert refused.offer["error"] == "eip2612_permit_in_use"
    assert "wait until that call has ended" in refused.json["message"]
    assert gate.upstream.runs("slow") == 1
    next_one = await gate.call("hello", operation="test/metered", payment=PAYER.sponsored(asked, nonce=1))
    assert next_one.status == 200, "the first has ended"


async def test_beside_an_open_permit_other_wallets_and_other_ways_pay(gate: Gate) -> None:
    gate.sandbox.allow_permit2(OTHER.address, 0)
    gate.upstream.script["slow"] = slow(0.4, taking(0))
    asked = await offer(gate)
    open_one = asyncio.create_task(gate.call("slow", operation="test/metered", payment=PAYER.sponsored(asked)))
    await asyncio.sleep(0.1)
    assert (await gate.call("hello", operation="test/metered", payment=OTHER.sponsored(asked))).status == 200
    assert (await gate.pay("hello", method="eip3009")).status == 200
    assert (await open_one).status == 200


async def test_a_failure_frees_the_permit_with_the_payment(gate: Gate) -> None:
    gate.upstream.script["broken"] = failure
    asked = await offer(gate)
    payment = PAYER.sponsored(asked)
    assert (await gate.call("broken", operation="test/metered", payment=payment)).status == 502
    other = await gate.call("hello", operation="test/metered", payment=PAYER.sponsored(asked))
    assert other.status == 200, "no charge of this wallet is open"


async def test_used_up_during_the_work_the_result_is_withheld(gate: Gate) -> None:
    gate.upstream.script["slow"] = slow(0.3, taking(0))
    asked = await offer(gate)
    call = asyncio.create_task(gate.call("slow", operation="test/metered", payment=PAYER.sponsored(asked)))
    await asyncio.sleep(0.1)
    other = parse_payment(PAYER.sponsored({**asked, "amount": "1"})).permit
    assert other is not None
    assert gate.sandbox.permit(other)
    reply = await call
    assert (reply.status, reply.json["code"]) == (402, "SETTLEMENT_FAILED")
    again = await gate.call("slow", operation="test/metered", payment=PAYER.sponsored(asked, nonce=1))
    assert again.status == 200, "nobody sends the abandoned one any more, so its permit is no matter"
    assert gate.upstream.runs("slow") == 1, "and the result was kept for whoever pays"


async def test_random_nonsense_is_never_our_fault(gate: Gate) -> None:
    randomness = random.Random(69)
    asked = await offer(gate)
    good = PAYER.sponsored(asked)
    statuses: dict[int, int] = {}
    for _ in range(300):
        extension = mutated(good["extensions"]["eip2612GasSponsoring"], randomness)
        try:
            reply = await gate.call(
                "hello", operation="test/metered", payment={**good, "extensions": {"eip2612GasSponsoring": extension}}
            )
        except TypeError:
            continue  # no JSON to send
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
        if reply.status == 200:
            good = PAYER.sponsored(asked, nonce=statuses[200])
    assert statuses.keys() <= {200, 400, 402, 412}
    assert {400, 402} <= statuses.keys()


@pytest.mark.parametrize("told_first", [False, True])
async def test_our_own_client_signs_one_where_it_is_needed(gate: Gate, told_first: bool) -> None:
    """After a 412 it is the same cheque that goes out again, with the permit beside it."""
    call = paying.Call("POST", f"{gate.url}/api/v1/test/alpha", b'{"word": "hello"}', {})
    key = Key(KEYS[0])
    async with OutboundClient() as http:
        payer = paying.Payer(http)
        quote = paying.quote(await payer.ask(call))
        chosen = paying.choose(quote, cap_micros=1_000_000, method="permit2")
        assert paying.sponsors(chosen, quote)
        bare = paying.sign(chosen, quote, key, now_s=int(PAYER._now()), entropy=random.Random(1).randbytes)
        if not told_first:
            assert (await payer.pay(call, bare)).response.status == 412
        reply = await payer.pay(call, paying.approve(bare, chosen, quote, key, nonce=0))
    assert reply.response.status == 200, reply.response.body
    assert reply.receipt is not None
    assert reply.receipt["success"]
    assert not paying.sponsors(paying.choose(quote, cap_micros=1_000_000, method="eip3009"), quote)
