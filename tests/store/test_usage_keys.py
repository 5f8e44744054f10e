"""Usage keys: what they take of a balance, to the micro-dollar, and tokens that are replaced."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import apsw
import pytest
from rigs import books
from rigs.books import DAY_MS, Clock

from gateway.core.agent import UNKNOWN_TOKEN, Cap, KeyTerms, Period, TokenKind
from gateway.core.charge import Event
from gateway.core.errors import Code, Problem
from gateway.store import agents, charges, usage_keys
from gateway.store.agents import NewToken
from gateway.store.audit import audit
from gateway.store.database import Row, Tx
from gateway.store.sqlite import SqliteDatabase, read_migrations

SCOPES = ("enrich:phone",)
MONDAY_MS = 1_800_230_400_000
"""18 January 2027."""


@pytest.fixture
def clock() -> Clock:
    return Clock(MONDAY_MS)


async def key(
    db: SqliteDatabase, cap: Cap | None, *, agent: str = "ann", number: int = 1, expires_ms: int | None = None
) -> str:
    terms = KeyTerms("test", SCOPES, cap, None, expires_ms)
    token = NewToken(f"tok_{agent}_{number}", f"{agent} {number}".encode().ljust(32), "411k_...abc")
    await db.write(usage_keys.create, f"key_{agent}_{number}", agent, terms, token)
    return f"key_{agent}_{number}"


async def hold(
    db: SqliteDatabase, charge: str, micros: int, key_id: str = "key_ann_1", *, agent: str = "ann"
) -> object:
    work = books.work(agent, key_id=key_id, bearer_id=key_id.replace("key_", "tok_"), scopes=SCOPES)
    return await db.write(charges.hold, books.charge(charge, agent, micros), work, None, None)


async def used(db: SqliteDatabase, key_id: str = "key_ann_1") -> int:
    return (await db.read(usage_keys.use, key_id)).used_micros


@pytest.mark.parametrize("period", list(Period))
async def test_a_cap_is_exact_to_the_micro_dollar(db: SqliteDatabase, period: Period) -> None:
    await books.agent(db, "ann", own=1000)
    await key(db, Cap(500, period))
    assert isinstance(await hold(db, "c1", 300), charges.Held)
    capped = await hold(db, "c2", 201)
    assert isinstance(capped, charges.Capped)
    assert (capped.use.used_micros, capped.use.cap) == (300, Cap(500, period))
    assert isinstance(await hold(db, "c3", 200), charges.Held)
    assert isinstance(await hold(db, "c4", 1), charges.Capped)
    await db.write(charges.record, "c3", Event.MISSED)
    assert await used(db) == 300
    await db.write(charges.record, "c1", Event.MATCHED, 120)
    assert await used(db) == 120
    assert isinstance(await hold(db, "c5", 381), charges.Capped)
    assert isinstance(await hold(db, "c6", 380), charges.Held)
    await db.write(charges.refund, "c1", 20, "r1", "")
    assert await used(db) == 480
    await db.write(charges.refund, "c1", 100, "r2", "")
    assert await used(db) == 380
    assert isinstance(await hold(db, "c7", 121), charges.Capped)


async def test_a_cap_comes_before_the_balance_and_both_bind(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=100)
    await key(db, Cap(500, Period.DAY))
    assert isinstance(await hold(db, "c1", 501), charges.Capped)
    assert isinstance(await hold(db, "c2", 101), charges.Short)
    assert isinstance(await hold(db, "c3", 100), charges.Held)
    assert await used(db) == 100


async def test_a_period_ends_and_what_is_open_is_carried_into_the_next(db: SqliteDatabase, clock: Clock) -> None:
    """Whatever a period comes to is within the cap, though the work took longer than the day."""
    await books.agent(db, "ann", own=5000)
    await key(db, Cap(500, Period.DAY))
    assert isinstance(await hold(db, "c1", 200), charges.Held)
    await db.write(charges.record, "c1", Event.MATCHED, 200)
    assert isinstance(await hold(db, "c2", 300), charges.Held)
    clock.ms = MONDAY_MS + DAY_MS - 1
    assert isinstance(await hold(db, "c3", 1), charges.Capped)
    clock.ms = MONDAY_MS + DAY_MS
    assert await used(db) == 300
    assert isinstance(await hold(db, "c4", 201), charges.Capped)
    assert isinstance(await hold(db, "c5", 200), charges.Held)
    await db.write(charges.record, "c2", Event.MATCHED, 300)
    assert await used(db) == 500
    assert isinstance(await hold(db, "c6", 1), charges.Capped)
    clock.ms += DAY_MS
    assert await used(db) == 200
    await db.write(charges.record, "c5", Event.MISSED)
    assert await used(db) == 0


async def test_what_is_given_back_later_is_no_budget_of_todays(db: SqliteDatabase, clock: Clock) -> None:
    await books.agent(db, "ann", own=5000)
    await key(db, Cap(500, Period.WEEK))
    await hold(db, "c1", 500)
    await db.write(charges.record, "c1", Event.MATCHED, 500)
    clock.ms = MONDAY_MS + 7 * DAY_MS
    await db.write(charges.refund, "c1", 500, "r1", "")
    assert await used(db) == 0
    assert isinstance(await hold(db, "c2", 501), charges.Capped)
    assert isinstance(await hold(db, "c3", 500), charges.Held)


async def test_another_cap_finds_everything_that_was_spent(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=5000)
    await key(db, None)
    await hold(db, "c1", 700)
    await db.write(charges.record, "c1", Event.MATCHED, 600)

    def capped(terms: KeyTerms) -> KeyTerms:
        return KeyTerms(terms.label, terms.scopes, Cap(500, Period.MONTH))

    changed = await db.write(usage_keys.change, "ann", "key_ann_1", capped)
    assert changed is not None
    assert (changed.use.used_micros, changed.use.cap) == (600, Cap(500, Period.MONTH))
    assert isinstance(await hold(db, "c2", 1), charges.Capped)


async def test_a_payment_by_signature_is_not_of_the_cap(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=5000)
    key_id = await key(db, Cap(500, Period.TOTAL))
    work = books.work("ann", key_id=key_id, bearer_id="tok_ann_1", scopes=SCOPES)
    held = await db.write(charges.hold, books.signed("c1", 900, "ann"), work, books.claim("c1", 900), None)
    assert isinstance(held, charges.Held)
    assert await used(db) == 0
    await db.write(charges.record, "c1", Event.MATCHED, 900, settlement_id="stl_c1")
    assert await used(db) == 0
    view = await db.read(charges.find, "c1")
    assert view is not None
    assert view.key_id == key_id


async def test_expiry_scopes_and_revocation_are_looked_at_with_the_hold(db: SqliteDatabase, clock: Clock) -> None:
    await books.agent(db, "ann", own=5000)
    await key(db, None, expires_ms=MONDAY_MS + 10)
    clock.ms = MONDAY_MS + 9
    assert isinstance(await hold(db, "c1", 1), charges.Held)
    clock.ms += 1
    with pytest.raises(Problem) as over:
        await hold(db, "c2", 1)
    # As at the door, and as of a token that never was (F-162).
    assert (over.value.code, over.value.message) == (Code.INVALID_TOKEN, UNKNOWN_TOKEN)
    await key(db, None, number=2)
    work = books.work("ann", key_id="key_ann_2", bearer_id="tok_ann_2", scopes=("jobs", "enrich:phone"))
    with pytest.raises(Problem) as denied:
        await db.write(charges.hold, books.charge("c3", "ann", 1), work, None, None)
    assert denied.value.code is Code.SCOPE_DENIED
    await db.write(usage_keys.revoke, "ann", "key_ann_2")
    with pytest.raises(Problem) as revoked:
        await hold(db, "c4", 1, "key_ann_2")
    assert (revoked.value.code, revoked.value.message) == (Code.INVALID_TOKEN, UNKNOWN_TOKEN)
    with pytest.raises(apsw.ConstraintError, match="stays as it is"):
        await db.write(lambda tx: tx.execute("UPDATE usage_keys SET revoked_ms = NULL WHERE id = 'key_ann_2'"))


async def test_a_charge_ends_well_after_its_key_was_revoked(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=5000)
    await key(db, Cap(500, Period.DAY))
    await hold(db, "c1", 300)
    await db.write(usage_keys.revoke, "ann", "key_ann_1")
    await db.write(charges.record, "c1", Event.MATCHED, 300)
    assert await used(db) == 300


# tokens


async def test_one_of_many_who_rotate_at_once_does(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    await db.write(agents.add_token, "tok_0", "ann", TokenKind.ADMIN, bytes(32), "")
    for number, (grace_ms, code) in enumerate([(1000, Code.ADMIN_TOKEN_REQUIRED), (0, Code.INVALID_TOKEN)]):
        shown = f"tok_{number * 10}"
        done, refused = [], set()
        for attempt in range(10):
            made = NewToken(f"tok_{number * 10 + 10 + attempt}", bytes([number * 10 + 1 + attempt]) * 32, "")
            try:
                await db.write(agents.rotate, "ann", shown, made, grace_ms)
                done.append(made.id)
            except Problem as problem:
                refused.add(problem.code)
        assert (done, refused) == ([f"tok_{number * 10 + 10}"], {code})


async def test_a_replaced_token_is_good_until_its_grace_is_over(db: SqliteDatabase, clock: Clock) -> None:
    await books.agent(db, "ann", own=5000)
    await db.write(agents.add_token, "tok_0", "ann", TokenKind.ADMIN, bytes(32), "")
    until_ms = await db.write(agents.rotate, "ann", "tok_0", NewToken("tok_1", b"1" * 32, ""), 5000)
    assert until_ms == MONDAY_MS + 5000
    work = books.work("ann", bearer_id="tok_0")
    clock.ms = until_ms - 1
    old = await db.read(agents.authenticate, bytes(32))
    assert old is not None
    assert old.replaced
    assert isinstance(await db.write(charges.hold, books.charge("c1", "ann", 1), work, None, None), charges.Held)
    clock.ms = until_ms
    assert await db.read(agents.authenticate, bytes(32)) is None
    with pytest.raises(Problem) as over:
        await db.write(charges.hold, books.charge("c2", "ann", 1), work, None, None)
    assert over.value.code is Code.INVALID_TOKEN
    new = await db.read(agents.authenticate, b"1" * 32)
    assert new is not None
    assert not new.replaced
    with pytest.raises(apsw.ConstraintError, match="no later"):
        await db.write(lambda tx: tx.execute("UPDATE tokens SET expires_ms = NULL WHERE id = 'tok_0'"))


async def test_a_later_rotation_never_prolongs_an_earlier_grace(db: SqliteDatabase, clock: Clock) -> None:
    await books.agent(db, "ann")
    await db.write(agents.add_token, "tok_0", "ann", TokenKind.ADMIN, bytes(32), "")
    await db.write(agents.rotate, "ann", "tok_0", NewToken("tok_1", b"1" * 32, ""), 5000)
    await db.write(agents.rotate, "ann", "tok_1", NewToken("tok_2", b"2" * 32, ""), 9000)
    clock.ms += 5000
    assert await db.read(agents.authenticate, bytes(32)) is None
    assert await db.read(agents.authenticate, b"1" * 32) is not None
    await db.write(agents.rotate, "ann", "tok_2", NewToken("tok_3", b"3" * 32, ""), 0)
    assert [await db.read(agents.authenticate, bytes([n]) * 32) is not None for n in (49, 50, 51)] == [
        False, False, True,
    ]  # fmt: skip


async def test_when_a_token_was_used_is_written_for_many_at_once_and_never_goes_back(db: SqliteDatabase) -> None:
    await books.agent(db, "ann")
    await key(db, None)
    await key(db, None, number=2)
    await db.write(usage_keys.revoke, "ann", "key_ann_2")
    for at_ms in (MONDAY_MS + 5, MONDAY_MS + 3):
        await db.write(agents.note_used, {"tok_ann_1": at_ms, "tok_ann_2": at_ms, "tok_gone": at_ms})
    found = [*await db.read(usage_keys.of_agent, "ann"), *await db.read(usage_keys.revoked, "ann")]
    assert [each.last_used_ms for each in found] == [MONDAY_MS + 5, None]


# what is over


async def test_what_was_revoked_lately_is_listed_and_no_more_of_it_than_a_page(
    db: SqliteDatabase, clock: Clock
) -> None:
    await books.agent(db, "ann")
    for number in (1, 2, 3):
        await key(db, None, number=number)
        await db.write(usage_keys.revoke, "ann", f"key_ann_{number}")
        clock.ms += DAY_MS
    await key(db, None, number=4)
    assert [each.id for each in await db.read(usage_keys.of_agent, "ann")] == ["key_ann_4"]
    assert [each.id for each in await db.read(usage_keys.revoked, "ann")] == ["key_ann_3", "key_ann_2", "key_ann_1"]
    assert [each.id for each in await db.read(usage_keys.revoked, "ann", limit=1)] == ["key_ann_3"]
    assert await db.read(usage_keys.revoked, "bob") == []
    clock.ms += 28 * DAY_MS
    assert [each.id for each in await db.read(usage_keys.revoked, "ann")] == ["key_ann_3", "key_ann_2"]
    assert len(await db.read(usage_keys.revoked, "ann", since_ms=0)) == 3


async def test_f121_what_is_over_and_nothing_refers_to_is_forgotten_after_a_while(
    db: SqliteDatabase, clock: Clock
) -> None:
    """Of tokens and keys that nobody needs any more: not one that has a charge, and none that opens still."""
    await books.agent(db, "ann", own=5000)
    await db.write(agents.add_token, "tok_0", "ann", TokenKind.ADMIN, b"0" * 32, "")
    await db.write(agents.rotate, "ann", "tok_0", NewToken("tok_1", b"1" * 32, ""), 1000)
    for number in (1, 2, 3):
        await key(db, Cap(500, Period.DAY), number=number)
    await hold(db, "c1", 300)
    await db.write(charges.record, "c1", Event.MATCHED, 250)
    await hold(db, "c2", 50, "key_ann_2")
    await db.write(charges.record, "c2", Event.MISSED)
    await db.write(usage_keys.rotate, "ann", "key_ann_3", NewToken("tok_r", b"r" * 32, "411k_...new"), 0)
    clock.ms += 2000
    await db.write(agents.rotate, "ann", "tok_1", NewToken("tok_2", b"2" * 32, ""), 1000)
    for number in (1, 2):
        await db.write(usage_keys.revoke, "ann", f"key_ann_{number}")
    await key(db, None, number=4)
    await db.write(usage_keys.revoke, "ann", "key_ann_4")

    async def there() -> tuple[set[str], set[str]]:
        return await db.read(
            lambda tx: tuple({id for (id,) in tx.execute(f"SELECT id FROM {t}")} for t in ("tokens", "usage_keys"))  # type: ignore[return-value]
        )

    all_tokens, all_keys = await there()
    clock.ms += usage_keys.KEPT_MS
    assert not await db.write(usage_keys.forget)
    assert await there() == (all_tokens - {"tok_ann_3"}, all_keys), "what ended two seconds earlier"
    clock.ms += 1
    assert not await db.write(usage_keys.forget)
    assert await there() == ({"tok_1", "tok_2", "tok_r"}, {"key_ann_1", "key_ann_2", "key_ann_3"})
    (kept, *_) = await db.read(usage_keys.revoked, "ann", since_ms=0)
    assert (kept.status, kept.hint) == ("revoked", "")
    (live,) = await db.read(usage_keys.of_agent, "ann")
    assert (live.id, live.hint) == ("key_ann_3", "411k_...new")
    assert await db.read(audit) == []


async def test_f121_much_is_forgotten_in_small_parts(db: SqliteDatabase, clock: Clock) -> None:
    await books.agent(db, "ann")

    def many(tx: Tx) -> None:
        for number in range(usage_keys.FORGOTTEN_AT_ONCE + 5):
            hash = number.to_bytes(32, "big")
            agents.add_token(tx, f"tok_{number}", "ann", TokenKind.ADMIN, hash, "")
        agents.end_tokens(tx, "ann", None, 0)

    await db.write(many)
    clock.ms += usage_keys.KEPT_MS + 1
    assert [await db.write(usage_keys.forget) for _ in range(2)] == [True, False]
    assert await db.read(lambda tx: tx.execute("SELECT count(*) FROM tokens")) == [(0,)]


async def test_f121_what_is_over_is_not_walked_through(db: SqliteDatabase) -> None:
    """Neither by `me`, which counts keys, nor by making one, nor by a rotation."""
    partial = await db.read(
        lambda tx: [
            name
            for table in ("usage_keys", "tokens")
            for _, name, _, _, is_partial in tx.execute(f"PRAGMA index_list({table})")
            if is_partial and name.endswith("_of_agent")
        ]
    )
    assert partial == ["usage_keys_of_agent", "tokens_of_agent"]
    explained: list[str] = []

    class Explaining:
        def __init__(self, tx: Tx) -> None:
            self._tx, self.now_ms = tx, tx.now_ms

        def execute(self, sql: str, params: Mapping[str, object] = MappingProxyType({})) -> list[Row]:
            if "agent_id = :agent_id" in sql and not sql.startswith("INSERT"):
                explained.extend(step for *_, step in self._tx.execute("EXPLAIN QUERY PLAN " + sql, params))
            return self._tx.execute(sql, params)

    def run(tx: Tx) -> None:
        explaining = Explaining(tx)
        usage_keys.active(explaining, "ann")
        usage_keys.of_agent(explaining, "ann")
        usage_keys.create(explaining, "key_1", "ann", KeyTerms("", SCOPES), NewToken("tok_1", bytes(32), ""))
        agents.end_tokens(explaining, "ann", None, 0)

    await books.agent(db, "ann")
    await db.write(run)
    walks = [step for step in explained if step.startswith(("SCAN", "SEARCH k ", "SEARCH usage_keys", "SEARCH tokens"))]
    assert len(walks) >= 4
    assert all("usage_keys_of_agent" in step or "tokens_of_agent" in step or "PRIMARY KEY (id=?)" in step for step in
               walks), walks  # fmt: skip


# the audit, and what was there before


SPOILED = {
    "says 0 are open": "UPDATE usage_keys SET open_micros = 0",
    "says 1 spent on day": "UPDATE key_days SET spent_micros = 1",
    "took 300 of 299": "UPDATE usage_keys SET cap_micros = 299",
    "another agent's key": "DROP TRIGGER usage_keys_keep_terms; UPDATE usage_keys SET agent_id = 'bob'",
    "after its key was revoked": "UPDATE tokens SET revoked_ms = 1; UPDATE usage_keys SET revoked_ms = 1",
    "although its key was revoked": "UPDATE usage_keys SET revoked_ms = 1900000000000",
}


@pytest.mark.parametrize("finding", SPOILED)
async def test_the_audit_finds_what_is_wrong_with_a_key(tmp_path: Path, finding: str) -> None:
    async with books.books(tmp_path / "l.db", Clock(MONDAY_MS), clean=False) as db:
        await books.agent(db, "ann", own=5000)
        await books.agent(db, "bob")
        await key(db, Cap(500, Period.DAY))
        await hold(db, "c1", 300)
        await db.write(charges.record, "c1", Event.MATCHED, 250)
        await hold(db, "c2", 50)
        assert await db.read(audit) == []
        for statement in SPOILED[finding].split("; "):
            await db.write(lambda tx, sql=statement: tx.execute(sql))
        assert finding in " ".join(found.message for found in await db.read(audit) if found.rule == "usage")


async def test_tokens_of_before_open_as_ever(tmp_path: Path) -> None:
    """The table is made anew, with all it had."""
    before = [migration for migration in read_migrations() if migration.number < 12]
    async with books.books(tmp_path / "l.db", migrations=before, clean=False) as db:
        for sql in (
            "INSERT INTO agents VALUES ('ann', '', 'active', 1)",
            "INSERT INTO tokens VALUES ('tok_1', 'ann', 'admin', zeroblob(32), '411_...abc', 7, NULL)",
            "INSERT INTO tokens VALUES ('tok_2', 'ann', 'admin', randomblob(32), '411_...abd', 8, 9)",
        ):
            await db.write(lambda tx, sql=sql: tx.execute(sql))
    async with books.books(tmp_path / "l.db") as db:
        principal = await db.read(agents.authenticate, bytes(32))
        assert principal is not None
        assert (principal.agent_id, principal.kind, principal.scopes) == ("ann", TokenKind.ADMIN, ("*",))
        rows = await db.read(lambda tx: tx.execute("SELECT id, created_ms, revoked_ms FROM tokens ORDER BY id"))
        assert rows == [("tok_1", 7, None), ("tok_2", 8, 9)]
        with pytest.raises(apsw.ConstraintError, match="revoke it"):
            await db.write(lambda tx: tx.execute("DELETE FROM tokens"))
