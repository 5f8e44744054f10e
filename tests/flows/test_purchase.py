"""What a purchase makes of prices and outcomes that the gateway of tests/scenario does not have: a token too coarse
for the price, misses that cost, payers that may not pay."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from rigs.books import Clock
from rigs.chain import PAYER_KEYS
from rigs.money_table import balances
from rigs.payer import Payer
from rigs.scripted import Scripted, Word, match, miss
from rigs.teller import Teller, paid

from gateway.core.charge import State
from gateway.core.errors import Code, Problem
from gateway.core.networks import Token, checksum_address
from gateway.core.upstream import Context, Offering, Outcome
from gateway.core.x402.messages import Requirements, parse_payment
from gateway.core.x402.offers import Terms as Accepted
from gateway.core.x402.offers import offers
from gateway.flows.collecting import Collecting
from gateway.flows.fulfilling import Call, Fulfilling
from gateway.flows.purchase import Answer, Purchase, Terms
from gateway.settlement.protocol import Admitted
from gateway.store import charges
from gateway.store.sqlite import SqliteDatabase

NETWORK = "eip155:31337"
PAY_TO = checksum_address("0x" + "fa4e" * 10)
PRICE = 330_000


class Counter:
    """A shop of one operation, at 0.33 USD in a token of so many decimals."""

    def __init__(
        self, db: SqliteDatabase, clock: Clock, *, decimals: int = 6, spendable: int = 10**9,
        forbidden: Sequence[str] = (), **changes: Any,
    ) -> None:  # fmt: skip
        self.upstream = Scripted()
        sold = self.upstream.offerings()[0]
        self.offering = Offering(replace(sold.operation, **changes), sold.fulfil)
        token = Token(NETWORK, checksum_address("0x" + "c0" * 20), "USD", "USD", "1", decimals)
        self.asked = offers(PRICE, 60, [Accepted(NETWORK, token, PAY_TO, ("eip3009", "permit2"), None, True)])
        self.payer = Payer(PAYER_KEYS[0], now=lambda: clock.ms / 1000)
        admitted = Admitted(7, clock.ms // 1000, spendable)
        self.teller = Teller(check=admitted, settle=[paid(int(self.asked[0].amount), final=True)])
        self.decimals = {token.asset: decimals}
        self.purchase = Purchase(
            db=db,
            fulfilling=Fulfilling(
                offerings={self.offering.operation.id: self.offering},
                http=None,  # type: ignore[arg-type]
                decimals=self.decimals,
                clock=lambda: clock.ms / 1000,
                entropy=secrets.token_bytes,
            ),
            settler=self.teller,
            collecting=Collecting(db=db, settler=self.teller, decimals=self.decimals),
            terms=Terms(
                offers={self.offering.operation.id: self.asked},
                decimals=self.decimals,
                forbidden_payers=frozenset(address.lower() for address in forbidden),
            ),
            owner="own_1_000000000000",
            clock=lambda: clock.ms / 1000,
            entropy=secrets.token_bytes,
        )

    async def buy(self, word: str, offer: Requirements | None = None) -> Answer:
        payment = parse_payment(self.payer.pay((offer or self.asked[0]).to_json()))
        return await self.purchase.buy(Call(self.offering.operation, Word(word=word), "req_1", payment=payment))


@pytest.mark.parametrize(("decimals", "charged"), [(6, 330_000), (2, 330_000), (1, 400_000), (0, 1_000_000)])
async def test_f084_what_is_signed_of_a_coarse_token_is_what_is_charged(
    db: SqliteDatabase, clock: Clock, decimals: int, charged: int
) -> None:
    counter = Counter(db, clock, decimals=decimals)
    bought = await counter.buy("hello")
    charge = bought.view.charge
    assert (charge.state, charge.held_micros, charge.captured_micros) == (State.SETTLED, charged, charged)
    booked = await db.read(balances)
    (asset,) = counter.decimals
    assert (booked["revenue"], booked[f"chain:{asset}:treasury"]) == (charged, -charged)


async def test_f060_what_can_be_spent_of_a_coarse_token_covers_its_own_price(db: SqliteDatabase, clock: Clock) -> None:
    assert (await Counter(db, clock, decimals=1, spendable=4).buy("hello")).view.charge.captured_micros == 400_000
    with pytest.raises(Problem) as refused:
        await Counter(db, clock, decimals=1, spendable=3).buy("hello")
    assert (refused.value.code, refused.value.reason) == (Code.PAYMENT_INVALID, "insufficient_funds")


@pytest.mark.parametrize("miss_free", [True, False])
async def test_a_miss_costs_where_the_operation_says_so(db: SqliteDatabase, clock: Clock, miss_free: bool) -> None:
    counter = Counter(db, clock, miss_free=miss_free)
    counter.upstream.script["nobody"] = miss
    charge = (await counter.buy("nobody")).view.charge
    assert charge.state is (State.RELEASED if miss_free else State.SETTLED)
    assert charge.captured_micros == (0 if miss_free else PRICE)


@pytest.mark.parametrize("offer", [0, 1])
async def test_f013_an_account_of_ours_on_another_network_pays_nothing(
    db: SqliteDatabase, clock: Clock, offer: int
) -> None:
    counter = Counter(db, clock, forbidden=[Payer(PAYER_KEYS[0]).address])
    with pytest.raises(Problem) as refused:
        await counter.buy("hello", counter.asked[offer])
    assert refused.value.reason == "invalid_payload"
    assert counter.teller.asked == []


async def test_f026_draining_waits_for_calls_that_nobody_waits_for(db: SqliteDatabase, clock: Clock) -> None:
    """The client has hung up, then we are told to stop: the work that was begun is ended, written and collected."""
    counter = Counter(db, clock)
    begun = asyncio.Event()

    async def slowly(context: Context) -> Outcome:
        begun.set()
        await asyncio.sleep(0.2)
        return await match(context)

    counter.upstream.script["slow"] = slowly
    call = asyncio.create_task(counter.buy("slow"))
    await begun.wait()
    call.cancel()
    await counter.purchase.drain()
    (view,) = await db.read(charges.listing, 10)
    assert (view.charge.state, view.result is not None) == (State.SETTLED, True)
