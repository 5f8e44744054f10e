"""The benchmark's own rig: it counts what it says, and its peer leaves the same books."""

from pathlib import Path

import apsw
from rigs import debits

from gateway.store.audit import audit
from gateway.store.sqlite import SqliteDatabase


async def test_every_counted_hold_is_there(tmp_path: Path) -> None:
    assert await debits.ours(tmp_path / "l.db", holds=60, waiting=8) > 0
    db = await SqliteDatabase(tmp_path / "l.db", clock_ms=debits.clock_ms).open()
    assert await db.read(lambda tx: tx.execute("SELECT count(*), sum(held_micros) FROM charges")) == [
        (60, 60 * debits.PRICE_MICROS)
    ]
    assert await db.read(audit) == []
    await db.close()


async def test_the_peers_statements_are_whole_holds(tmp_path: Path) -> None:
    rehearsed = await debits.statements(tmp_path / "l.db", holds=5)
    connection = apsw.Connection(str(tmp_path / "l.db"))
    assert connection.execute("SELECT count(*) FROM charges").get == 0
    for hold in rehearsed:
        for sql, params in hold:
            connection.execute(sql, params)
    assert connection.execute("SELECT count(*) FROM charges").get == 5
    connection.close()
    db = await SqliteDatabase(tmp_path / "l.db", clock_ms=debits.clock_ms).open()
    assert await db.read(audit) == []
    await db.close()
