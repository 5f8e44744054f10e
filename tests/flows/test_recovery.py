"""Recovery: what it releases and when, what it makes of each word of the settler, what it leaves to others."""

import asyncio
from typing import Any

import pytest
from rigs import books
from rigs.books import Clock
from rigs.money_table import play
from rigs.teller import NEVER, NOT_YET, Teller, paid

from gateway.core.agent import TokenKind
from gateway.core.charge import Event, State
from gateway.core.settlement import Settlement
from gateway.core.settlement import State as SettlementState
from gateway.flows.collecting import Collecting
from gateway.flows.recovery import Recovery
from gateway.store import agents, charges, settlements, usage_keys
from gateway.store.sqlite import SqliteDatabase

CAPTURED = """
    sign  c1 bob 300     -> held       | bob.authorized 300, due -300
    match c1 300         -> captured   | bob.authorized 0, revenue 300
"""
PROVEN = CAPTURED + "prove c1 300 log=0xt:1 -> proven | due 0, treasury -300\n"


class Watch:
    """Recovery, with the time that has really passed in `passed_s`, and the alarms it has told."""

    def __init__(self, db: SqliteDatabase, clock: Clock, teller: Teller | None = None, *, alive: bool = True) -> None:
        self.passed_s = 0.0
        self.alarms: list[str] = []
        collecting = Collecting(db=db, settler=teller, decimals={books.ASSET: 6}) if teller else None
        self.recovery = Recovery(
            db=db, settler=teller, collecting=collecting, clock=lambda: clock.ms / 1000, alive=lambda owner: alive,
            alarm=lambda name, subject: self.alarms.append(f"{name} {subject}"), monotonic=lambda: self.passed_s,
        )  # fmt: skip


async def state_of(db: SqliteDatabase) -> SettlementState:
    found = await db.read(settlements.find, "stl_c1")
    assert found is not None
    return found.state


async def test_f177_a_call_is_out_of_time_by_both_clocks_or_not_at_all(db: SqliteDatabase, clock: Clock) -> None:
    """Its process lives, and is seen to hang: a minute by the wall clock, and a minute before our eyes."""
    await play(db, "sign c1 bob 300 -> held | bob.authorized 300, due -300")
    watch = Watch(db, clock)
    for wall_ms, passed_s in ((0, 0.0), (0, 100.0), (60_000, 100.0)):
        clock.ms, watch.passed_s = 1_800_000_000_000 + wall_ms, passed_s
        await watch.recovery.once()
        assert [view.charge.id for view in await db.read(charges.held)] == ["c1"]
    late = Watch(db, clock)
    clock.ms += 1000
    for passed_s in (0.0, 30.0, 59.9):
        late.passed_s = passed_s
        await late.recovery.once()
        assert [view.charge.id for view in await db.read(charges.held)] == ["c1"]
    late.passed_s = 60.0
    await late.recovery.once()
    view = await db.read(charges.find, "c1")
    assert view is not None
    assert (view.charge.state, view.charge.reason) == (State.RELEASED, Event.EXPIRED)


async def test_what_was_sent_is_found_and_what_is_queued_is_left_to_the_collector(
    db: SqliteDatabase, clock: Clock
) -> None:
    await play(
        db,
        CAPTURED
        + """
    send  c1 5           -> sent
    sign  c2 bob 300     -> held       | bob.authorized 300, due -600
    match c2 300         -> captured   | bob.authorized 0, revenue 600
    """,
    )
    teller = Teller(find=[paid(final=True)])
    await Watch(db, clock, teller).recovery.once()
    assert teller.asked == ["find stl_c1"]
    assert await state_of(db) is SettlementState.PROVEN


async def test_a_transfer_that_was_taken_back_is_queued_again_and_an_alarm(db: SqliteDatabase, clock: Clock) -> None:
    await play(db, PROVEN)
    watch = Watch(db, clock, Teller(find=[NOT_YET, NEVER]))
    await watch.recovery.once()
    assert (await state_of(db), watch.alarms) == (SettlementState.PROVEN, [])  # not seen is not gone
    await watch.recovery.once()
    assert await state_of(db) is SettlementState.QUEUED
    assert watch.alarms == ["settlement_taken_back stl_c1"]
    view = await db.read(charges.find, "c1")
    assert view is not None
    assert (view.charge.state, view.transaction) == (State.SETTLED, None)


async def test_what_is_not_deep_yet_is_looked_at_until_it_is(db: SqliteDatabase, clock: Clock) -> None:
    await play(db, PROVEN)
    teller = Teller(find=[paid(), paid(final=True)])
    watch = Watch(db, clock, teller)
    for _ in range(4):
        await watch.recovery.once()
    assert teller.asked == ["find stl_c1"] * 2
    assert await db.read(settlements.watched) == []


async def test_whoever_was_first_is_no_alarm(db: SqliteDatabase, clock: Clock) -> None:
    await play(db, CAPTURED + "send c1 5 -> sent\n")

    async def lost_meanwhile(settlement: Settlement) -> Any:
        await play(db, "prove c1 300 log=0xu:9 final=1 -> proven | due 0, treasury -300")
        return NEVER

    watch = Watch(db, clock, Teller(find=[lost_meanwhile]))
    await watch.recovery.once()
    assert watch.alarms == []
    await play(
        db,
        """
    sign  c2 bob 300     -> held       | bob.authorized 300, due -300
    match c2 300         -> captured   | bob.authorized 0, revenue 600
    prove c2 300 log=0xt:2 -> proven   | due 0, treasury -600
    """,
    )

    async def final_meanwhile(settlement: Settlement) -> Any:
        await play(db, "final c2 -> ok")
        return NEVER

    watch = Watch(db, clock, Teller(find=[final_meanwhile]))
    await watch.recovery.once()
    assert watch.alarms == []
    assert await db.read(settlements.watched) == []


async def test_results_whose_time_is_up_are_deleted(db: SqliteDatabase, clock: Clock) -> None:
    """The promise is that personal data is gone after a day, not that nobody is shown it."""
    await play(db, CAPTURED)

    def kept(tx: Any) -> int:
        return int(tx.execute("SELECT count(*) FROM results")[0][0])

    watch = Watch(db, clock)
    clock.ms += books.DAY_MS - 1
    await watch.recovery.once()
    assert await db.read(kept) == 1
    clock.ms += 1
    await watch.recovery.once()
    assert await db.read(kept) == 0


@pytest.mark.parametrize("alive", [True, False])
async def test_a_dead_process_keeps_nothing_open(db: SqliteDatabase, clock: Clock, alive: bool) -> None:
    await play(db, "sign c1 bob 300 -> held | bob.authorized 300, due -300")
    await Watch(db, clock, alive=alive).recovery.once()
    assert [view.charge.id for view in await db.read(charges.held)] == (["c1"] if alive else [])


async def test_it_looks_at_once_when_a_neighbour_dies_and_often_at_first(db: SqliteDatabase, clock: Clock) -> None:
    """After a minute of nothing there is one look a minute; a death starts it all over."""
    pauses: list[float] = []
    living = {"own_a", "own_b"}
    passed_s = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal passed_s
        passed_s += seconds
        if passed_s > 300:
            living.discard("own_b")

    recovery = Recovery(
        db=db, settler=None, collecting=None, clock=lambda: clock.ms / 1000, alive=lambda owner: True,
        neighbours=lambda: frozenset(living), monotonic=lambda: passed_s, sleep=sleep,
    )  # fmt: skip

    async def once() -> None:
        pauses.append(passed_s)
        if len(pauses) == 16:
            raise asyncio.CancelledError

    recovery.once = once  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await recovery.run()
    assert pauses == [0, 1, 3, 7, 15, 31, 61, 121, 181, 241, 301, 302, 304, 308, 316, 332]


async def test_f121_once_a_day_dead_tokens_are_forgotten(db: SqliteDatabase, clock: Clock) -> None:
    await books.agent(db, "ann")
    watch = Watch(db, clock)

    async def there() -> list[str]:
        return [id for (id,) in await db.read(lambda tx: tx.execute("SELECT id FROM tokens ORDER BY id"))]

    for number in (1, 2):
        await db.write(agents.add_token, f"tok_{number}", "ann", TokenKind.ADMIN, bytes([number]) * 32, "")
    await db.write(agents.end_tokens, "ann", None, 0)
    await watch.recovery.once()
    assert await there() == ["tok_1", "tok_2"]
    clock.ms += usage_keys.KEPT_MS + 1
    await watch.recovery.once()
    assert await there() == []
