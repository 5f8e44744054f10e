"""A real database for a test: opened on a file, audited clean when the test is over."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.core.charge import Charge, Source
from gateway.core.transfer import Kind
from gateway.core.vendor_call import Outcome, VendorCall
from gateway.store import agents, charges
from gateway.store.audit import audit
from gateway.store.database import Row, Tx
from gateway.store.sqlite import Migration, SqliteDatabase

ASSET = "eip155:31337/0x" + "c" * 40
NETWORK, TOKEN = ASSET.split("/")
PAY_TO = "0x" + "d" * 40
WALLET = "0x" + "a" * 40
DAY_MS = 86_400_000


@dataclass
class Clock:
    """Milliseconds that pass when a test says so."""

    ms: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


@asynccontextmanager
async def books(
    path: Path,
    clock: Callable[[], int] | None = None,
    *,
    busy_ms: int = 5_000,
    migrations: Sequence[Migration] | None = None,
    vfs: str | None = None,
    clean: bool = True,
) -> AsyncIterator[SqliteDatabase]:
    """A database that is closed at the end, and audited before unless the test breaks it on purpose (`clean=False`)."""
    db = SqliteDatabase(path, clock_ms=clock or Clock(), busy_ms=busy_ms, migrations=migrations, vfs=vfs)
    await db.open()
    try:
        yield db
        if clean:
            assert await db.read(audit) == []
    finally:
        await db.close()


Contents = dict[str, list[dict[str, object]]]


def contents(tx: Tx) -> Contents:
    """Every row of every table."""
    tables = [str(name) for (name,) in tx.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {table: [dict(zip(_columns(tx, table), row, strict=True)) for row in _rows(tx, table)] for table in tables}


def fill(tx: Tx, rows: Contents) -> None:
    """The same rows in an empty file of an earlier schema, as far as that had their tables and columns. What it
    brings itself stays as it is."""
    tx.execute("PRAGMA defer_foreign_keys = ON")
    for table, wanted in rows.items():
        columns = _columns(tx, table)
        if not columns or table in ("migrations", "accounts", "sqlite_sequence"):
            continue
        for row in wanted:
            kept = {name: value for name, value in row.items() if name in columns}
            values = ", ".join(f":{name}" for name in kept)
            tx.execute(f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({values}) ON CONFLICT DO NOTHING", kept)


def _columns(tx: Tx, table: str) -> list[str]:
    return [str(name) for (name,) in tx.execute("SELECT name FROM pragma_table_info(:table)", {"table": table})]


def _rows(tx: Tx, table: str) -> list[Row]:
    return tx.execute(f"SELECT {', '.join(_columns(tx, table))} FROM {table}")


def bytes_of(directory: Path) -> bytes:
    """Every byte of every file: what a thief of the disk would read."""
    return b"".join(file.read_bytes() for file in sorted(directory.iterdir()))


def modes_of(directory: Path) -> list[int]:
    """The permissions of every file."""
    return [file.stat().st_mode & 0o777 for file in directory.iterdir()]


async def agent(db: SqliteDatabase, name: str, *, own: int = 0, bonus: int = 0) -> str:
    """A new agent with money."""
    await db.write(agents.create, name, name)
    if own:
        await db.write(agents.credit, name, own, Kind.CREDIT, "", f"crd_{name}")
    if bonus:
        await db.write(agents.credit, name, bonus, Kind.GRANT, "", f"grt_{name}")
    return name


def charge(id: str, party: str, micros: int) -> Charge:
    return Charge(id, "enrich/phone", party, Source.BALANCE, micros)


def signed(id: str, micros: int, party: str = WALLET) -> Charge:
    return Charge(id, "enrich/phone", party, Source.SIGNATURE, micros, asset=ASSET)


def work(agent_id: str | None = None, *, request: str = "r", **more: object) -> charges.Work:
    fields: dict[str, object] = {
        "request_id": f"req_{request}",
        "request_hash": request.encode().ljust(32, b"."),
        "owner": "own_1_000000000000",
        "work_deadline_ms": 1_800_000_060_000,
        "agent_id": agent_id,
    }
    return charges.Work(**{**fields, **more})  # type: ignore[arg-type]


def claim(
    nonce: str,
    micros: int,
    *,
    payer: str = WALLET,
    spendable: int = 10**9,
    payload: str | None = None,
    by_permit: bool = False,
) -> charges.Claim:
    raw = (payload or f"payment {nonce}").encode()
    return charges.Claim(
        identity=f"{ASSET}/{payer}/{nonce}",
        payer=payer,
        network=NETWORK,
        token=TOKEN,
        pay_to=PAY_TO,
        amount_atomic=micros,
        amount_micros=micros,
        valid_before_s=1_800_000_600,
        payment=raw,
        payment_hash=raw.ljust(32, b"."),
        spendable_micros=spendable,
        admitted_block=7,
        by_permit=by_permit,
    )


def bought(cost_micros: int, provider: str = "vendor", outcome: Outcome = Outcome.MATCH) -> tuple[VendorCall, ...]:
    """One call of a vendor that took so much; none where that is nothing."""
    return (VendorCall("call", provider, outcome, cost_micros=cost_micros),) if cost_micros else ()
