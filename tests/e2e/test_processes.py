"""Two processes of one gateway, on one database and with one key: together they are one shop."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.payer import Payer
from rigs.program import Program
from rigs.running import PRICE, Running, relayed, running
from rigs.upstream import ScriptedUpstream, reply

pytestmark = pytest.mark.chain

FIND = "shop/find"
CANARY = "canary-90c3"
PAYER = Payer(PAYER_KEYS[1])


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply({"found": CANARY}, delay_s=0.05)) as shop:
        yield shop


@pytest.fixture
async def pair(
    chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path
) -> AsyncIterator[tuple[Running, Running]]:
    settings = relayed(chain, upstream=shop.port)
    async with (
        running(tmp_path, program, settings) as one,
        running(tmp_path, program, settings, name="other") as other,
    ):
        yield one, other


async def test_f005_one_payment_at_two_doors(
    pair: tuple[Running, Running], chain: Chain, shop: ScriptedUpstream
) -> None:
    """At once and again, with the same request and with another: one run, one transfer, one answer."""
    payment = await pair[0].sign(PAYER)
    word = {"word": "hello"}
    at_once = await asyncio.gather(*(gate.call(FIND, word, payment=payment) for gate in pair * 10))
    assert {answer.status for answer in at_once} <= {200, 202}
    bodies = {(await gate.until_paid(FIND, word, payment=payment)).body for gate in pair}
    assert len(bodies) == 1
    for gate in pair:
        assert (await gate.call(FIND, {"word": "other"}, payment=payment)).status == 409
    assert len(shop.seen) == 1
    assert chain.balance(pair[0].settings.pay_to) == PRICE


async def test_a_balance_for_one_call_at_two_doors(pair: tuple[Running, Running], shop: ScriptedUpstream) -> None:
    token = await pair[0].agent("0.33")
    told = await asyncio.gather(*(gate.call(FIND, {"word": f"w{n}"}, token=token) for n in range(10) for gate in pair))
    assert sorted(answer.status for answer in told) == [200, *[402] * 19]
    assert len(shop.seen) == 1


async def test_f034_both_sell_and_one_key_collects(
    pair: tuple[Running, Running], chain: Chain, shop: ScriptedUpstream
) -> None:
    payments = [await gate.sign(Payer(key)) for key in PAYER_KEYS for gate in pair]
    bought = await asyncio.gather(
        *(
            gate.until_paid(FIND, {"word": secrets.token_hex(4)}, payment=payment)
            for gate, payment in zip(pair * len(PAYER_KEYS), payments, strict=True)
        )
    )
    assert {answer.receipt["success"] for answer in bought} == {True}
    assert chain.balance(pair[0].settings.pay_to) == PRICE * len(payments)


async def test_who_collected_is_killed_and_the_other_goes_on(
    pair: tuple[Running, Running], chain: Chain, shop: ScriptedUpstream
) -> None:
    """What the dead one has sold is fetched at the other's door, and its key is taken up there."""
    one, other = pair
    first = await one.until_paid(FIND, {"word": "first"}, payment=await one.sign(PAYER))
    assert first.status == 200
    payments = {secrets.token_hex(4): await one.sign(Payer(key)) for key in PAYER_KEYS}
    calls = [asyncio.create_task(one.call(FIND, {"word": word}, payment=payment)) for word, payment in payments.items()]
    await asyncio.sleep(0.06)
    await one.kill()
    await asyncio.gather(*calls, return_exceptions=True)
    # Calls whose worker died are let go by anybody's recovery; a start does not wait for its minute.
    await one.start()
    await one.kill()
    for word, payment in payments.items():
        answer = await other.until_paid(FIND, {"word": word}, payment=payment)
        assert answer.json["data"] == {"found": CANARY}
    assert chain.balance(other.settings.pay_to) == PRICE * (1 + len(payments))
