"""The journal of these tests refuses exactly what the store refuses: both are walked through the same steps."""

import random
from pathlib import Path

import pytest
from rigs.books import NETWORK, books, claim, signed, work
from rigs.journal import MemoryJournal

from gateway.core.charge import Event
from gateway.core.errors import Conflict
from gateway.core.settlement import Attempt
from gateway.flows.collecting import StoredJournal
from gateway.settlement.protocol import Journal
from gateway.store import charges, settlements
from gateway.store.sqlite import SqliteDatabase

KEY = "0x" + "a1" * 20
IDS = ("stl_a", "stl_b", "stl_c")


async def captured(db: SqliteDatabase, name: str) -> None:
    await db.write(charges.hold, signed(name, 100), work(), claim(name, 100), None)
    await db.write(charges.record, name, Event.MATCHED, 100, result=b"{}", settlement_id=f"stl_{name}")


def attempt(dice: random.Random) -> Attempt:
    nonce, number = dice.randrange(3), dice.randrange(2)
    carried = tuple(dice.sample(IDS, dice.randrange(0, 3)))
    kind = dice.randrange(2)
    return Attempt(NETWORK, KEY, nonce, number, f"0x{nonce}{number}{kind}{carried}", b"raw", 7, carried, 1)


async def outcome(journal: Journal, step: str, *arguments: object) -> object:
    try:
        return await getattr(journal, step)(*arguments)
    except Conflict:
        return Conflict


def a_step(dice: random.Random) -> tuple[object, ...]:
    match dice.randrange(8):
        case 0:
            return "closed", NETWORK, KEY, dice.randrange(3), dice.choice((None, "0xmined"))
        case 1 | 2:
            return "retry", dice.choice(IDS)
        case 3:
            return "abandon", dice.choice(IDS)
        case _:
            return "sending", attempt(dice)


@pytest.mark.parametrize("seed", range(6))
async def test_the_same_answers_as_the_store(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    async with books(tmp_path / "ledger.db", clean=False) as db:
        for name in ("a", "b", "c"):
            await captured(db, name)
        memory, stored = MemoryJournal(), StoredJournal(db)
        for id in IDS:
            found = await db.read(settlements.find, id)
            assert found is not None
            memory.add(found)
        for _ in range(40):
            step, *arguments = a_step(dice)
            if step == "abandon":
                assert memory.abandon(str(arguments[0])) == await db.write(settlements.abandon, *arguments)
                continue
            ours = await outcome(memory, str(step), *arguments)
            theirs = await outcome(stored, str(step), *arguments)
            if step == "retry" and theirs is not Conflict:
                theirs = None
            assert (step, arguments, ours) == (step, arguments, theirs)
            assert list(await memory.pending(NETWORK, KEY)) == list(await stored.pending(NETWORK, KEY))
            assert await memory.nonce_after(NETWORK, KEY) == await stored.nonce_after(NETWORK, KEY)
            for id in IDS:
                assert memory.settlements[id] == await db.read(settlements.find, id)
