"""Collecting: what each word of the settler does to the settlement, the charge, the books and the operator's alarms."""

import asyncio
from dataclasses import replace

import pytest
from rigs import books
from rigs.money_table import balances, play
from rigs.teller import NEVER, NOT_YET, POOR, Teller, paid

from gateway.core.charge import State
from gateway.core.settlement import Settlement
from gateway.core.settlement import State as SettlementState
from gateway.flows.collecting import Collecting
from gateway.settlement.protocol import Unknown
from gateway.store import charges, settlements
from gateway.store.charges import ChargeView
from gateway.store.settlements import Proven
from gateway.store.sqlite import SqliteDatabase

CAPTURED = """
    sign  c1 bob 300     -> held       | bob.authorized 300, due -300
    match c1 300         -> captured   | bob.authorized 0, revenue 300
"""


class Desk:
    """A Collecting with a Teller behind it, and the alarms it has told."""

    def __init__(self, db: SqliteDatabase, teller: Teller) -> None:
        self.db, self.teller = db, teller
        self.alarms: list[str] = []
        self.collecting = Collecting(db=db, settler=teller, decimals={books.ASSET: 6}, alarm=self._tell)

    def _tell(self, name: str, subject: str) -> None:
        self.alarms.append(f"{name} {subject}")

    async def row(self, charge: str = "c1") -> Settlement:
        found = await self.db.read(settlements.find, f"stl_{charge}")
        assert found is not None
        return found

    async def view(self, charge: str = "c1") -> ChargeView:
        found = await self.db.read(charges.find, charge)
        assert found is not None
        return found

    async def collect(self, wait_s: float = 5.0) -> Proven | None:
        return await self.collecting.collect(await self.row(), wait_s=wait_s)


async def test_what_was_sent_is_looked_for_and_not_sent_again_from_here(db: SqliteDatabase) -> None:
    await play(db, CAPTURED)

    async def sent(settlement: Settlement) -> Unknown:
        await play(db, "send c1 5 -> sent")
        return NOT_YET

    desk = Desk(db, Teller(settle=[sent], find=[NOT_YET, paid()]))
    assert isinstance(await desk.collect(), Proven)
    assert desk.teller.asked == ["settle stl_c1", "find stl_c1", "find stl_c1"]
    assert (await desk.view()).charge.state is State.SETTLED


async def test_a_refusal_is_no_end_while_a_transaction_of_ours_may_yet_be_mined(db: SqliteDatabase) -> None:
    await play(db, CAPTURED)

    async def sent(settlement: Settlement) -> object:
        await play(db, "send c1 5 -> sent")
        return POOR

    desk = Desk(db, Teller(settle=[sent], find=[paid()]))  # type: ignore[list-item]
    assert isinstance(await desk.collect(), Proven)
    assert not (await desk.row()).abandoned


@pytest.mark.parametrize(
    ("came", "after", "state"),
    [
        (300, {"due": 0, "treasury": -300, "loss": 0}, State.SETTLED),
        (290, {"due": 0, "treasury": -290, "loss": -10}, State.UNPAID),
        (310, {"due": 0, "treasury": -300, "loss": 0}, State.SETTLED),
    ],
)
async def test_f059_f080_what_came_is_booked_and_another_amount_is_an_alarm(
    db: SqliteDatabase, came: int, after: dict[str, int], state: State
) -> None:
    await play(db, CAPTURED)
    desk = Desk(db, Teller(settle=[paid(came)]))
    await desk.collect()
    booked = await db.read(balances)
    chain = f"chain:{books.ASSET}"
    names = {"due": f"{chain}:due", "treasury": f"{chain}:treasury", "loss": "loss"}
    assert {name: booked.get(account, 0) for name, account in names.items()} == after
    assert (await desk.view()).charge.state is state
    assert desk.alarms == ([] if came == 300 else ["settled_amount_differs stl_c1"])


async def test_f054_one_log_for_two_payments_pays_one_and_is_an_alarm(db: SqliteDatabase) -> None:
    await play(
        db,
        CAPTURED
        + """
    sign  c2 bob 300     -> held       | bob.authorized 300, due -600
    match c2 300         -> captured   | bob.authorized 0, revenue 600
    """,
    )
    desk = Desk(db, Teller())
    assert isinstance(await desk.collecting.book(await desk.row("c1"), paid()), Proven)
    assert await desk.collecting.book(await desk.row("c2"), paid()) is False  # it is still looked for
    assert desk.alarms == ["proof_used_twice stl_c2"]
    assert (await desk.row("c2")).state is SettlementState.QUEUED
    assert isinstance(await desk.collecting.book(await desk.row("c2"), paid(log=2)), Proven)


async def test_what_can_never_be_paid_is_lost_once_and_an_alarm(db: SqliteDatabase) -> None:
    await play(db, CAPTURED)
    desk = Desk(db, Teller(settle=[NEVER]))
    before = await desk.row()
    assert await desk.collect() is None
    assert (await desk.view()).charge.state is State.UNPAID
    assert desk.alarms == ["settlement_lost stl_c1"]
    assert await desk.collecting.book(before, NEVER) is True  # recovery, a moment later
    assert await desk.collecting.book(before, paid()) is True
    assert desk.alarms == ["settlement_lost stl_c1"]


async def test_a_loss_that_comes_after_the_proof_is_none(db: SqliteDatabase) -> None:
    await play(db, CAPTURED)
    desk = Desk(db, Teller())
    before = await desk.row()
    assert isinstance(await desk.collecting.book(before, paid()), Proven)
    assert await desk.collecting.book(before, NEVER) is True
    assert (await desk.row()).state is SettlementState.PROVEN
    assert desk.alarms == []


async def test_an_abandoned_payment_that_comes_after_all_is_paid_twice_only_if_its_result_was_sold_again(
    db: SqliteDatabase,
) -> None:
    await play(
        db,
        CAPTURED
        + """
    abandon c1           -> yes
    sign  c2 bob 300     -> held       | bob.authorized 300, due -600
    match c2 300         -> captured   | bob.authorized 0, revenue 600
    abandon c2           -> yes
    """,
    )
    await db.write(charges.mark_resold, "c2", "c1")
    desk = Desk(db, Teller())
    assert isinstance(await desk.collecting.book(await desk.row("c1"), paid()), Proven)
    assert desk.alarms == []
    assert isinstance(await desk.collecting.book(await desk.row("c2"), paid(log=2)), Proven)
    assert desk.alarms == ["paid_twice c2"]


async def test_a_settler_that_fails_has_decided_nothing(db: SqliteDatabase) -> None:
    """Told to the operator, not to the caller; the next who waits has it settled."""
    await play(db, CAPTURED)
    desk = Desk(db, Teller(settle=[RuntimeError("something that nobody has thought of"), paid()]))
    assert await desk.collect() is None
    assert desk.alarms == ["collecting_failed stl_c1"]
    assert (await desk.row()).state is SettlementState.QUEUED
    assert isinstance(await desk.collect(), Proven)


async def test_what_somebody_else_has_abandoned_is_asked_for_no_more(db: SqliteDatabase) -> None:
    await play(db, CAPTURED)

    async def abandoned(settlement: Settlement) -> Unknown:
        await play(db, "abandon c1 -> yes")
        return NOT_YET

    desk = Desk(db, Teller(settle=[abandoned, NOT_YET]))
    assert await desk.collect(wait_s=2.0) is None
    assert desk.teller.asked == ["settle stl_c1"]


async def test_two_who_wait_for_one_settlement_have_it_sent_once(db: SqliteDatabase) -> None:
    await play(db, CAPTURED)
    desk = Desk(db, Teller(settle=[NOT_YET, paid()]))
    assert await desk.collect(wait_s=0.05) is None
    assert isinstance(await desk.collect(), Proven)
    assert desk.teller.asked == ["settle stl_c1"] * 2
    assert (await desk.row()) == replace(await desk.row(), state=SettlementState.PROVEN, proven_micros=300)


async def test_f025_the_loop_takes_up_what_nobody_waits_for(db: SqliteDatabase) -> None:
    """Left by a process that died after the work; what was abandoned meanwhile is not sent, what was sent not again."""
    await play(
        db,
        CAPTURED
        + """
    sign  c2 bob 300     -> held       | bob.authorized 300, due -600
    match c2 300         -> captured   | bob.authorized 0, revenue 600
    abandon c2           -> yes
    sign  c3 bob 300     -> held       | bob.authorized 300, due -900
    match c3 300         -> captured   | bob.authorized 0, revenue 900
    send  c3 5           -> sent
    """,
    )
    desk = Desk(db, Teller(settle=[paid()]))
    loop = asyncio.create_task(desk.collecting.run())
    await asyncio.sleep(0.3)
    loop.cancel()
    assert desk.teller.asked == ["settle stl_c1"]
    assert (await desk.view()).charge.state is State.SETTLED
