"""Attempts, abandonment and proof: what may be sent, when, and what stays."""

import asyncio
from dataclasses import replace

import pytest
from rigs import books
from rigs.money_table import RELAYER, play

from gateway.core.errors import Conflict
from gateway.core.settlement import Attempt, ProofKind, Settled, State
from gateway.store import charges, settlements
from gateway.store.sqlite import SqliteDatabase

CAPTURED = """
    sign  c1 bob 300     -> held       | bob.authorized 300, due -300
    match c1 300         -> captured   | bob.authorized 0, revenue 300
    sign  c2 bob 300     -> held       | bob.authorized 300, due -600
    match c2 300         -> captured   | bob.authorized 0, revenue 600
"""


async def test_an_attempt_is_written_before_it_is_sent(db: SqliteDatabase) -> None:
    await play(
        db,
        CAPTURED
        + """
    send  c1,c2 5                   -> sent
    send  c1,c2 5                   -> sent      # the very same again
    send  c1,c2 5 hash=0xother      -> conflict  # another transaction under its number
    send  c1    5 number=1          -> conflict  # a replacement has the same calls
    send  c2,c1 5 number=1          -> conflict
    send  c1,c2 5 number=1          -> sent
    send  c1    6                   -> conflict  # nonce 5 could still pay it
    retry c1                        -> conflict
    """,
    )
    (first, second) = await db.read(settlements.pending, books.NETWORK, RELAYER)
    assert (first.nonce, first.number, first.settlements) == (5, 0, ("stl_c1", "stl_c2"))
    assert (second.nonce, second.number, second.settlements) == (5, 1, ("stl_c1", "stl_c2"))
    assert await db.read(settlements.attempts_of, "stl_c1") == [first, second]
    assert await db.read(settlements.nonce_after, books.NETWORK, RELAYER) == 6
    assert await db.read(settlements.nonce_after, books.NETWORK, "0xother") == 0
    view = await db.read(charges.find, "c1")
    assert view is not None
    assert (view.attempted, view.transaction) == ("0x5-1", None)


async def test_a_payment_takes_another_nonce_only_when_the_first_is_used_up(db: SqliteDatabase) -> None:
    await play(
        db,
        CAPTURED
        + """
    send  c1,c2 5                   -> sent
    close 5 by=0x5-0                -> ok
    close 5                         -> ok        # the first word stays
    prove c2 300 log=0x5-0:3        -> proven    | due -300, treasury -300
    send  c1,c2 5 number=1          -> refused stl_c2
    send  c1    5 number=1          -> conflict  # nonce 5 is used
    retry c1                        -> queued
    send  c1    6                   -> sent
    retry c2                        -> conflict
    """,
    )
    assert [a.nonce for a in await db.read(settlements.pending, books.NETWORK, RELAYER)] == [6]
    assert await db.read(lambda tx: tx.execute("SELECT mined_hash FROM closed_nonces")) == [("0x5-0",)]


async def test_abandoned_is_for_good(db: SqliteDatabase) -> None:
    """Told to the client as failed: never sent again, but a stranger may still prove it."""
    await play(
        db,
        CAPTURED
        + """
    send    c1 5                    -> sent
    abandon c1                      -> no        # its transaction could still be mined
    close   5                       -> ok
    abandon c1                      -> yes
    abandon c1                      -> yes
    send    c1 6                    -> refused stl_c1
    send    c2,c1 6                 -> refused stl_c1
    send    c2 6                    -> sent
    prove   c1 300 log=0xt:1        -> proven    | due -300, treasury -300
    abandon c2                      -> no
    prove   c2 300 log=0xt:2        -> proven    | due 0, treasury -600
    close   6                       -> ok
    abandon c2                      -> no        # it has ended
    """,
    )
    assert await db.read(settlements.queued) == []
    with pytest.raises(Exception, match="stays abandoned"):
        await db.write(lambda tx: tx.execute("UPDATE settlements SET abandoned = 0 WHERE id = 'stl_c1'"))


async def test_what_is_to_be_sent_watched_and_found(db: SqliteDatabase) -> None:
    await play(db, CAPTURED)
    assert [s.id for s in await db.read(settlements.queued)] == ["stl_c1", "stl_c2"]
    assert [s.id for s in await db.read(settlements.queued, books.NETWORK, 1)] == ["stl_c1"]
    assert await db.read(settlements.queued, "eip155:1") == []
    await play(
        db,
        """
    abandon c1                      -> yes
    send    c2 5                    -> sent
    """,
    )
    assert await db.read(settlements.queued) == []
    assert [(s.id, s.state) for s in await db.read(settlements.unfinished)] == [
        ("stl_c1", State.QUEUED),
        ("stl_c2", State.SENT),
    ]
    await play(db, "prove c2 300 log=0xt:1 -> proven | due -300, treasury -300")
    assert [s.id for s in await db.read(settlements.watched)] == ["stl_c2"]
    await play(db, "final c2 -> ok")
    assert await db.read(settlements.watched) == []


async def test_a_settlement_comes_back_as_it_was_stored(db: SqliteDatabase) -> None:
    claim = books.claim("n", 300)
    await db.write(charges.hold, books.signed("c1", 300), books.work(), claim, None)
    recorded = await db.write(charges.record, "c1", charges.Event.MATCHED, 300, settlement_id="stl_c1")
    assert isinstance(recorded, charges.ChargeView)
    found = await db.read(settlements.find, "stl_c1")
    assert found == recorded.settlement
    assert found is not None
    assert (found.payment, found.payer, found.pay_to, found.asset) == (
        claim.payment,
        claim.payer,
        claim.pay_to,
        books.ASSET,
    )
    assert (found.amount_atomic, found.valid_before_s, found.admitted_block) == (300, claim.valid_before_s, 7)
    assert await db.read(settlements.find, "stl_none") is None


async def test_amounts_beyond_64_bits_and_large_fees(db: SqliteDatabase) -> None:
    """18-decimal tokens overflow an INTEGER: atomic amounts are digits."""
    atomic = 300 * 10**30
    claim = books.claim("n", 300)
    claim = charges.Claim(**{**{f: getattr(claim, f) for f in claim.__slots__}, "amount_atomic": atomic})
    await db.write(charges.hold, books.signed("c1", 300), books.work(), claim, None)
    await db.write(charges.record, "c1", charges.Event.MATCHED, 300, settlement_id="stl_c1")
    attempt = Attempt(books.NETWORK, RELAYER, 1, 0, "0xh", b"raw", 2**80, ("stl_c1",), 5)
    assert await db.write(settlements.sending, attempt) == ()
    proof = Settled(ProofKind.CHAIN, "0xh", 0, 8, atomic)
    assert (await db.write(settlements.proven, "stl_c1", proof, 300)).settlement.amount_atomic == atomic
    assert await db.read(settlements.attempts_of, "stl_c1") == [attempt]


async def test_a_part_of_what_was_signed(db: SqliteDatabase) -> None:
    """A part needs its atomic amount, because only the caller knows the token's decimals."""
    await db.write(charges.hold, books.signed("c1", 300), books.work(), books.claim("n", 300), None)
    with pytest.raises(Exception, match="a part its amount"):
        await db.write(charges.record, "c1", charges.Event.MATCHED, 100, settlement_id="stl_c1")
    with pytest.raises(Exception, match="needs an id"):
        await db.write(charges.record, "c1", charges.Event.MATCHED, 300)
    recorded = await db.write(
        charges.record, "c1", charges.Event.MATCHED, 100, settlement_id="stl_c1", amount_atomic=100
    )
    assert recorded.settlement is not None
    assert recorded.settlement.amount_atomic == 100


async def test_two_finders_book_one_proof_once(db: SqliteDatabase) -> None:
    """F-183: recovery and the waiting call may both bring the proof, or two different ends."""
    await play(db, CAPTURED)
    proof = Settled(ProofKind.CHAIN, "0xt", 1, 8, 300)
    outcomes = await asyncio.gather(
        *(db.write(settlements.proven, "stl_c1", proof, 300) for _ in range(8)),
        *(db.write(settlements.lost, "stl_c1", "expired") for _ in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 8
    assert await db.read(lambda tx: tx.execute("SELECT count(*) FROM transfers WHERE kind = 'proven'")) == [(1,)]


async def test_a_payment_claimed_anew_is_collected_by_its_new_terms(db: SqliteDatabase) -> None:
    """Its first charge failed and it came again, for another receiver, of another token (Permit2 has one nonce for
    all), with another signature: nothing of the old terms may be sent, and only the new bytes are the same payment."""
    first = books.claim("n", 300)
    again = replace(
        first, token="0x" + "9" * 40, pay_to="0x" + "8" * 40, amount_atomic=301, amount_micros=301,
        valid_before_s=first.valid_before_s + 60, payment=b"signed anew", payment_hash=b"2" * 32, admitted_block=9,
    )  # fmt: skip
    for id, claim in (("c1", first), ("c2", again)):
        charge = replace(books.signed(id, claim.amount_micros), asset=f"{claim.network}/{claim.token}")
        assert isinstance(await db.write(charges.hold, charge, books.work(), claim, None), charges.Held)
        if id == "c1":
            await db.write(charges.record, id, charges.Event.FAILED)
    for claim, same in ((first, False), (again, True)):
        charge = replace(books.signed("c3", claim.amount_micros), asset=f"{claim.network}/{claim.token}")
        known = await db.write(charges.hold, charge, books.work(), claim, None)
        assert known == charges.PaymentKnown("c2", "enrich/phone", same_request=True, same_payment=same)
    await db.write(charges.record, "c2", charges.Event.MATCHED, 301, settlement_id="stl_c2")
    found = await db.read(settlements.find, "stl_c2")
    assert found is not None
    assert (found.token, found.pay_to, found.amount_atomic) == (again.token, again.pay_to, 301)
    assert (found.valid_before_s, found.payment, found.admitted_block) == (again.valid_before_s, b"signed anew", 9)
    await db.write(settlements.proven, "stl_c2", Settled(ProofKind.CHAIN, "0xt", 1, 10, 301), 301)


async def test_what_is_proven_deep_enough_at_once_is_not_looked_at_again(db: SqliteDatabase) -> None:
    await play(
        db,
        CAPTURED
        + """
    prove c1 300 log=0xt:1 final=1  -> proven    | due -300, treasury -300
    back  c1                        -> conflict
    """,
    )
    assert await db.read(settlements.watched) == []


async def test_a_log_that_moves_away_and_comes_back_proves_again(db: SqliteDatabase) -> None:
    """Two blocks compete for one height, and the first of them wins in the end."""
    await play(db, CAPTURED + "prove c1 300 log=0xt:1 -> proven | due -300, treasury -300")
    here, there = (Settled(ProofKind.CHAIN, hash, 1, 8, 300) for hash in ("0xt", "0xu"))
    for proof, moved in ((here, []), (there, ["stl_c1"]), (here, ["stl_c1"]), (here, [])):
        assert await db.write(settlements.confirmed, [("stl_c1", proof, 300)]) == moved
        view = await db.read(charges.find, "c1")
        assert view is not None
        assert view.transaction == proof.transaction
    assert [s.id for s in await db.read(settlements.watched)] == ["stl_c1"]
    await db.write(settlements.confirmed, [("stl_c1", replace(here, final=True), 300)])
    assert await db.read(settlements.watched) == []


@pytest.mark.parametrize("end", ["lose c1 -> lost | due 0, loss -300", "abandon c1 -> yes"])
async def test_f033_an_uncollected_payment_frees_its_key(db: SqliteDatabase, end: str) -> None:
    """A withheld result is bought by a new payment, which may come under the old key."""
    await play(
        db,
        f"""
    sign  c1 bob 300 key=k  -> held       | bob.authorized 300, due -300
    match c1 300            -> captured   | bob.authorized 0, revenue 300
    sign  c2 bob 300 key=k  -> key c1
    {end}
    """,
    )
    held = await db.write(
        charges.hold, books.signed("c2", 300, "bob"), books.work(), books.claim("m", 300, payer="bob"),
        charges.KeyUse("bob", "k", b"r"),
    )  # fmt: skip
    assert isinstance(held, charges.Held)
