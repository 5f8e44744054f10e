"""Charges as they are told about, who may fetch them, and what is kept of them."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rigs import books
from rigs.books import Clock
from rigs.money_table import play

from gateway.core.agent import TokenKind
from gateway.core.charge import Event, State
from gateway.core.errors import Conflict, IllegalMove, Problem
from gateway.core.settlement import ProofKind, Settled
from gateway.store import actions, agents, charges, settlements
from gateway.store.charges import Held, KeyUse, Overcommitted, PaymentKnown, PermitInUse, Short
from gateway.store.sqlite import SqliteDatabase


async def test_a_hundred_at_once_on_a_balance_for_ten(db: SqliteDatabase) -> None:
    """F-085"""
    await books.agent(db, "ann", own=3000)
    outcomes = await asyncio.gather(
        *(db.write(charges.hold, books.charge(f"c{n}", "ann", 300), books.work("ann"), None, None) for n in range(100))
    )
    assert sum(isinstance(outcome, Held) for outcome in outcomes) == 10
    assert sum(outcome == Short(0) for outcome in outcomes) == 90
    assert await db.read(agents.balance, "ann") == agents.Balance(available=0, held=3000, bonus=0, bonus_held=0)


async def test_a_hundred_at_once_with_one_authorization(db: SqliteDatabase) -> None:
    """F-070: exactly one is admitted, the others are told which."""
    claim = books.claim("n", 300)
    outcomes = await asyncio.gather(
        *(db.write(charges.hold, books.signed(f"c{n}", 300), books.work(), claim, None) for n in range(100))
    )
    (winner,) = [outcome.charge.id for outcome in outcomes if isinstance(outcome, Held)]
    assert sum(isinstance(o, PaymentKnown) and o.charge_id == winner for o in outcomes) == 99


async def test_one_open_permit_at_a_time(db: SqliteDatabase) -> None:
    """A permit sets an allowance: of fifty at once one is held, and the next when that one has ended, however."""

    async def hold(id: str, *, by_permit: bool = True, payment: str = "", **claim: Any) -> object:
        nonce = payment or id
        return await db.write(
            charges.hold,
            books.signed(id, 300),
            books.work(),
            books.claim(nonce, 300, by_permit=by_permit, **claim),
            None,
        )

    outcomes = await asyncio.gather(*(hold(f"c{n}", spendable=300) for n in range(50)))
    (winner,) = [outcome.charge.id for outcome in outcomes if isinstance(outcome, Held)]
    assert sum(isinstance(outcome, PermitInUse) for outcome in outcomes) == 49
    assert isinstance(await hold("plain", by_permit=False, spendable=600), Held)
    await db.write(charges.record, "plain", Event.FAILED)
    assert await hold("plain", by_permit=False, spendable=599) == Overcommitted(300)

    await db.write(charges.record, winner, Event.MATCHED, 300, settlement_id="stl_1")
    assert isinstance(await hold("d"), PermitInUse), "captured, and not collected yet"
    await db.write(settlements.proven, "stl_1", Settled(ProofKind.CHAIN, "0xt", 1, 1, 300), 300)
    assert isinstance(await hold("d"), Held)
    await db.write(charges.record, "d", Event.FAILED)
    assert isinstance(await hold("again", payment="d", by_permit=False), Held), (
        "the same payment, which needs its permit no more"
    )
    assert isinstance(await hold("e"), Held)
    await db.write(charges.record, "e", Event.MATCHED, 300, settlement_id="stl_2")
    assert isinstance(await hold("f"), PermitInUse)
    assert await db.write(settlements.abandon, "stl_2")
    assert isinstance(await hold("f"), Held), "nobody here will send the other one any more"


async def test_failures_strand_nothing(db: SqliteDatabase) -> None:
    """F-099: many failed calls, then the next one works with the same money and the same authorization."""
    await books.agent(db, "ann", own=300)
    claim = books.claim("n", 300, spendable=300)
    for n in range(20):
        held = await db.write(charges.hold, books.charge(f"b{n}", "ann", 300), books.work("ann"), None, None)
        assert isinstance(held, Held)
        await db.write(charges.record, f"b{n}", Event.FAILED)
        held = await db.write(charges.hold, books.signed(f"s{n}", 300), books.work(), claim, None)
        assert isinstance(held, Held)
        await db.write(charges.record, f"s{n}", Event.EXPIRED)
    assert await db.read(charges.held) == []
    assert (await db.read(agents.balance, "ann")).available == 300


async def test_a_charge_is_told_with_everything_around_it(db: SqliteDatabase, clock: Clock) -> None:
    claim, work = books.claim("n", 300), books.work(request="q")
    await db.write(charges.hold, books.signed("c1", 300), work, claim, None)
    clock.ms += 1000
    await db.write(
        charges.record,
        "c1",
        Event.MATCHED,
        300,
        calls=books.bought(40),
        result=b"{}",
        result_ttl_ms=5,
        settlement_id="stl_c1",
    )
    view = await db.read(charges.find, "c1")
    assert view is not None
    assert (view.charge.state, view.charge.captured_micros) == (State.CAPTURED, 300)
    assert (view.created_ms, view.ended_ms) == (clock.ms - 1000, clock.ms)
    assert (view.request_id, view.request_hash, view.agent_id) == (work.request_id, work.request_hash, None)
    assert (view.identity, view.payer, view.cost_micros) == (claim.identity, claim.payer, 40)
    assert (view.result, view.result_expires_ms) == (b"{}", clock.ms + 5)
    assert (view.owner, view.work_deadline_ms, view.token_only) == (work.owner, work.work_deadline_ms, False)
    assert view.settlement is not None
    assert view.settlement.subject == "c1"
    assert await db.read(charges.find_by_identity, claim.identity) == (view, claim.payment_hash)
    assert await db.read(charges.find, "c9") is None


async def test_an_open_payment_is_nobodys(db: SqliteDatabase) -> None:
    claim = books.claim("n", 300)
    await db.write(charges.hold, books.signed("c1", 300), books.work(), claim, None)
    await db.write(charges.record, "c1", Event.FAILED)
    assert await db.read(charges.find_by_identity, claim.identity) is None
    assert await db.read(charges.find_by_identity, "unheard of") is None


async def test_three_strangers_close_an_identity(db: SqliteDatabase) -> None:
    claim = books.claim("n", 300)
    await db.write(charges.hold, books.signed("c1", 300), books.work(), claim, None)
    for count in (1, 2, 3):
        view = await db.read(charges.find, "c1")
        assert view is not None
        assert not view.token_only
        assert await db.write(charges.note_wrong_request, claim.identity) == count
    view = await db.read(charges.find, "c1")
    assert view is not None
    assert view.token_only
    await db.write(charges.record, "c1", Event.MISSED)
    assert await db.write(charges.note_wrong_request, claim.identity) == 4  # counted after it was spent, too


async def test_charge_tokens(db: SqliteDatabase) -> None:
    """F-176: a token opens its own charge and no other."""
    first, second, third = (bytes([n]) * 32 for n in (1, 2, 3))
    await db.write(charges.hold, books.signed("c1", 300), books.work(token_hash=first), books.claim("n", 300), None)
    await db.write(charges.hold, books.signed("c2", 300), books.work(token_hash=third), books.claim("m", 300), None)
    await db.write(charges.add_token, "c1", second)
    matches = [await db.read(charges.token_matches, "c1", token) for token in (first, second, third, b"")]
    assert matches == [True, True, False, False]
    assert not await db.read(charges.token_matches, "c9", first)


async def test_a_result_expires_for_good(db: SqliteDatabase, clock: Clock, tmp_path: Path) -> None:
    canary = b"canary-" + bytes(range(200)).hex().encode()
    await books.agent(db, "ann", own=600)
    for id in ("c1", "c2"):
        await db.write(charges.hold, books.charge(id, "ann", 300), books.work("ann"), None, None)
    await db.write(charges.record, "c1", Event.MATCHED, 300, result=canary, result_ttl_ms=1000)
    await db.write(charges.record, "c2", Event.MATCHED, 300, result=b"{}", result_ttl_ms=2000)
    assert canary in books.bytes_of(tmp_path)
    clock.ms += 999
    assert await db.write(charges.expire_results) == 0
    clock.ms += 1
    view = await db.read(charges.find, "c1")
    assert view is not None
    assert (view.result, view.result_expires_ms) == (None, clock.ms)  # gone for readers before anybody swept
    assert await db.write(charges.expire_results) == 1
    assert await db.write(charges.expire_results) == 0
    other = await db.read(charges.find, "c2")
    assert other is not None
    assert other.result == b"{}"
    await db.close()
    assert canary not in books.bytes_of(tmp_path)
    await db.open()


async def test_a_withheld_result_is_found_once(db: SqliteDatabase, clock: Clock) -> None:
    await play(
        db,
        """
        sign  c1 bob 300     -> held       | bob.authorized 300, due -300
        match c1 300         -> captured   | bob.authorized 0, revenue 300
        """,
    )
    wanted = ("bob", "enrich/phone", books.work().request_hash)
    assert await db.read(charges.find_withheld, *wanted) is None  # its payment is still under way
    await play(db, "abandon c1 -> yes")
    view = await db.read(charges.find_withheld, *wanted)
    assert view is not None
    assert (view.charge.id, view.result, view.resold_by) == ("c1", b"{}", None)
    assert await db.read(charges.find_withheld, "eve", *wanted[1:]) is None
    assert await db.read(charges.find_withheld, "bob", "enrich/email", wanted[2]) is None
    assert await db.read(charges.find_withheld, "bob", wanted[1], b"other") is None
    await play(db, "lose c1 -> lost | due 0, loss -300")
    assert await db.read(charges.find_withheld, *wanted) is not None
    await play(db, "sign c2 bob 300 -> held | bob.authorized 300, due -300")
    await db.write(charges.mark_resold, "c1", "c2")
    with pytest.raises(Conflict):
        await db.write(charges.mark_resold, "c1", "c2")
    assert await db.read(charges.find_withheld, *wanted) is None


async def test_a_withheld_result_is_not_found_after_its_time(db: SqliteDatabase, clock: Clock) -> None:
    await play(
        db,
        """
        sign  c1 bob 300     -> held       | bob.authorized 300, due -300
        match c1 300         -> captured   | bob.authorized 0, revenue 300
        lose  c1             -> lost       | due 0, loss -300
        """,
    )
    clock.ms += books.DAY_MS
    assert await db.read(charges.find_withheld, "bob", "enrich/phone", books.work().request_hash) is None


async def test_listing_goes_from_new_to_old(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=3000)
    await books.agent(db, "eve", own=3000)
    for n in range(6):
        name = "ann" if n % 2 else "eve"
        await db.write(charges.hold, books.charge(f"c{n}", name, 300), books.work(name), None, None)
    await db.write(charges.record, "c3", Event.MISSED)

    async def listed(*args: object, **kwargs: object) -> list[str]:
        return [view.charge.id for view in await db.read(charges.listing, *args, **kwargs)]

    assert await listed(4) == ["c5", "c4", "c3", "c2"]
    assert await listed(4, "c2") == ["c1", "c0"]
    assert await listed(10, party="ann") == ["c5", "c3", "c1"]
    assert await listed(10, state=State.HELD, party="ann") == ["c5", "c1"]
    assert [view.charge.id for view in await db.read(charges.held)] == ["c0", "c1", "c2", "c4", "c5"]


async def test_a_revoked_bearer_opens_nothing(db: SqliteDatabase) -> None:
    """F-133: revoked between authentication and the hold."""
    await books.agent(db, "ann", own=300)
    await db.write(agents.add_token, "key_1", "ann", TokenKind.ADMIN, b"1" * 32, "411_...abc")
    await db.write(agents.revoke, "ann")
    work = books.work("ann", bearer_id="key_1")
    with pytest.raises(Problem, match="revoked"):
        await db.write(charges.hold, books.charge("c1", "ann", 300), work, None, None)
    with pytest.raises(Problem, match="not known"):
        await db.write(charges.hold, books.charge("c1", "bob", 300), books.work("bob"), None, None)


async def test_a_bearer_opens_nothing_of_another_agent(db: SqliteDatabase) -> None:
    for name in ("ann", "eve"):
        await books.agent(db, name, own=300)
        await db.write(agents.add_token, f"key_{name}", name, TokenKind.ADMIN, name.encode() * 10 + b"..", "411_...abc")
    hers = books.work("ann", bearer_id="key_eve")
    with pytest.raises(Problem, match="revoked"):
        await db.write(charges.hold, books.charge("c1", "ann", 300), hers, None, None)
    with pytest.raises(Problem, match="revoked"):
        await db.write(charges.hold, books.signed("c1", 300, "ann"), hers, books.claim("n", 300), None)
    assert await db.read(charges.held) == []


async def test_what_is_signed_of_one_token_leaves_another_alone(db: SqliteDatabase) -> None:
    """F-060: a wallet's balance of a token covers what is signed of it: whole while held, its part once captured."""
    other = "0x" + "9" * 40
    claims = {
        "c1": books.claim("a", 300, spendable=400),
        "c2": replace(books.claim("b", 300, spendable=400), token=other),
        "c3": books.claim("c", 300, spendable=400),
    }
    outcomes = {}
    for id, claim in claims.items():
        charge = replace(books.signed(id, 300), asset=f"{claim.network}/{claim.token}")
        outcomes[id] = await db.write(charges.hold, charge, books.work(), claim, None)
        if id == "c2":
            await db.write(charges.record, "c1", Event.MATCHED, 100, settlement_id="stl_c1", amount_atomic=100)
    assert all(isinstance(outcome, Held) for outcome in outcomes.values()), outcomes


async def test_the_latest_of_two_withheld_results_is_sold_first(db: SqliteDatabase) -> None:
    for id in ("c1", "c2"):
        await play(
            db,
            f"""
            sign  {id} bob 300     -> held       | bob.authorized 300, due -300
            match {id} 300         -> captured   | bob.authorized 0, revenue {300 * int(id[1])}
            lose  {id}             -> lost       | due 0, loss -{300 * int(id[1])}
            """,
        )
    wanted = ("bob", "enrich/phone", books.work().request_hash)
    found = []
    for by in ("c1", "c2"):
        view = await db.read(charges.find_withheld, *wanted)
        assert view is not None
        found.append(view.charge.id)
        await db.write(charges.mark_resold, view.charge.id, by)
    assert found == ["c2", "c1"]


async def test_a_refund_is_a_deed_that_is_noted(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        credit ann 1000            -> ok        | ann 1000, operator -1000
        hold   c1 ann 300          -> held      | ann 700, ann.held 300
        match  c1 300              -> captured  | ann.held 0, revenue 300
        refund c1 100 id=r1        -> captured  | ann 800, revenue 200
        refund c1 100 id=r1        -> captured
        refund c1 900 id=r2        -> illegal
        """,
    )
    (noted,) = await db.read(actions.listing, subject="c1")
    assert (noted.action, "100 micros as r1" in noted.detail) == ("refund", True)


async def test_a_hold_and_its_claim_must_fit(db: SqliteDatabase) -> None:
    for charge, claim in (
        (books.signed("c1", 300), books.claim("n", 299)),
        (books.signed("c1", 300), None),
        (books.charge("c1", "ann", 300), books.claim("n", 300)),
    ):
        with pytest.raises(IllegalMove):
            await db.write(charges.hold, charge, books.work(), claim, None)


async def test_a_key_is_found_before_any_hold(db: SqliteDatabase) -> None:
    await books.agent(db, "ann", own=300)
    key = KeyUse("ann", "k", b"f")
    assert await db.read(charges.find_by_key, key) is None
    await db.write(charges.hold, books.charge("c1", "ann", 300), books.work("ann"), None, key)
    assert await db.read(charges.find_by_key, key) == charges.KeyKnown("c1", True)
    assert await db.read(charges.find_by_key, KeyUse("ann", "k", b"g")) == charges.KeyKnown("c1", False)
    assert await db.read(charges.find_by_key, KeyUse("eve", "k", b"f")) is None
