"""What every moment of a charge does to every account, in the table language of rigs/money_table.py."""

from rigs.money_table import play

from gateway.store.sqlite import SqliteDatabase


async def test_a_charge_from_own_money(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        credit ann 1000            -> ok        | ann 1000, operator -1000
        hold   c1 ann 300          -> held      | ann 700, ann.held 300
        match  c1 300              -> captured  | ann.held 0, revenue 300
        hold   c2 ann 300          -> held      | ann 400, ann.held 300
        miss   c2                  -> released  | ann 700, ann.held 0
        hold   c3 ann 300          -> held      | ann 400, ann.held 300
        fail   c3                  -> released  | ann 700, ann.held 0
        hold   c4 ann 300          -> held      | ann 400, ann.held 300
        expire c4                  -> released  | ann 700, ann.held 0
        hold   c5 ann 300          -> held      | ann 400, ann.held 300
        free   c5                  -> released  | ann 700, ann.held 0
        hold   c6 ann 701          -> short 700
        hold   c6 ann 700          -> held      | ann 0, ann.held 700
        match  c6 1                -> captured  | ann 699, ann.held 0, revenue 301
        """,
    )


async def test_mixed_money_returns_to_where_it_came_from(db: SqliteDatabase) -> None:
    """F-097: own money is spent first and refunded last, and bonus never turns into own money."""
    await play(
        db,
        """
        credit ann 100             -> ok        | ann 100, operator -100
        grant  ann 500             -> ok        | ann.bonus 500, grants -500
        hold   c1 ann 300          -> held      | ann 0, ann.held 100, ann.bonus 300, ann.bonus_held 200
        fail   c1                  -> released  | ann 100, ann.held 0, ann.bonus 500, ann.bonus_held 0
        hold   c2 ann 300          -> held      | ann 0, ann.held 100, ann.bonus 300, ann.bonus_held 200
        match  c2 150              -> captured  | ann.held 0, ann.bonus 450, ann.bonus_held 0, revenue 150
        refund c2 60 id=r1         -> captured  | ann 10, ann.bonus 500, revenue 90
        refund c2 90 id=r2         -> refunded  | ann 100, revenue 0
        hold   c3 ann 300          -> held      | ann 0, ann.held 100, ann.bonus 300, ann.bonus_held 200
        match  c3 80               -> captured  | ann 20, ann.held 0, ann.bonus 500, ann.bonus_held 0, revenue 80
        hold   c4 ann 520          -> held      | ann 0, ann.held 20, ann.bonus 0, ann.bonus_held 500
        expire c4                  -> released  | ann 20, ann.held 0, ann.bonus 500, ann.bonus_held 0
        hold   c5 ann 521          -> short 520
        """,
    )


async def test_illegal_moves_change_nothing(db: SqliteDatabase) -> None:
    """F-087: captured above the hold, captured twice, released after capture, captured after release."""
    await play(
        db,
        """
        credit ann 1000            -> ok        | ann 1000, operator -1000
        hold   c1 ann 300          -> held      | ann 700, ann.held 300
        match  c1 301              -> illegal
        match  c1 -1               -> illegal
        refund c1 10 id=r0         -> illegal
        match  c1 300              -> captured  | ann.held 0, revenue 300
        match  c1 300              -> late captured
        fail   c1                  -> late captured
        miss   c1                  -> late captured
        expire c1                  -> late captured
        hold   c2 ann 100          -> held      | ann 600, ann.held 100
        expire c2                  -> released  | ann 700, ann.held 0
        match  c2 100              -> late released
        fail   c2                  -> late released
        refund c2 10 id=r0         -> illegal
        match  c9 10               -> illegal
        """,
    )


async def test_refunds_never_exceed_what_was_captured(db: SqliteDatabase) -> None:
    """F-088: the same refund again changes nothing, another one finds only what is left."""
    await play(
        db,
        """
        credit ann 1000            -> ok        | ann 1000, operator -1000
        hold   c1 ann 300          -> held      | ann 700, ann.held 300
        match  c1 300              -> captured  | ann.held 0, revenue 300
        refund c1 100 id=auto      -> captured  | ann 800, revenue 200
        refund c1 100 id=auto      -> captured
        refund c1 101 id=auto      -> conflict
        refund c1 201 id=support   -> illegal
        refund c1 0 id=support     -> illegal
        refund c1 200 id=support   -> refunded  | ann 1000, revenue 0
        refund c1 200 id=support   -> refunded
        refund c1 1 id=webhook     -> illegal
        """,
    )


async def test_a_charge_by_signature(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        sign   c1 bob 300          -> held      | bob.authorized 300, due -300
        match  c1 300              -> captured  | bob.authorized 0, revenue 300
        prove  c1 300 log=0xt:1    -> proven    | due 0, treasury -300
        prove  c1 300 log=0xt:1    -> proven
        prove  c1 300 log=0xt:2    -> conflict
        lose   c1                  -> conflict
        refund c1 100 id=r1        -> settled   | bob 100, revenue 200
        refund c1 200 id=r2        -> refunded  | bob 300, revenue 0
        sign   c2 bob 300          -> held      | bob.authorized 300, due -300
        miss   c2                  -> released  | bob.authorized 0, due 0
        sign   c3 bob 300          -> held      | bob.authorized 300, due -300
        match  c3 100              -> captured  | bob.authorized 0, due -100, revenue 100
        refund c3 100 id=r3        -> illegal
        lose   c3                  -> lost      | due 0, loss -100
        lose   c3                  -> conflict
        prove  c3 100 log=0xu:1    -> conflict
        """,
    )


async def test_what_came_short_is_proven_and_the_rest_is_loss(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        sign   c1 bob 300          -> held      | bob.authorized 300, due -300
        match  c1 300              -> captured  | bob.authorized 0, revenue 300
        prove  c1 301 log=0xt:1    -> illegal
        prove  c1 290 log=0xt:1    -> proven    | due 0, treasury -290, loss -10
        refund c1 10 id=r1         -> illegal
        """,
    )


async def test_a_reorganisation_takes_back_and_the_charge_stays(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        sign   c1 bob 300          -> held      | bob.authorized 300, due -300
        match  c1 300              -> captured  | bob.authorized 0, revenue 300
        back   c1                  -> conflict
        prove  c1 300 log=0xt:1    -> proven    | due 0, treasury -300
        back   c1                  -> queued    | due -300, treasury 0
        prove  c1 300 log=0xt:1    -> proven    | due 0, treasury -300
        back   c1                  -> queued    | due -300, treasury 0
        prove  c1 300 log=0xu:4    -> proven    | due 0, treasury -300
        final  c1                  -> ok
        final  c1                  -> ok
        back   c1                  -> conflict
        sign   c2 bob 50           -> held      | bob.authorized 50, due -50
        match  c2 50               -> captured  | bob.authorized 0, revenue 350
        prove  c2 50 log=0xt:1     -> proven    | due 0, treasury -350
        back   c2                  -> queued    | due -50, treasury -300
        lose   c2                  -> lost      | due 0, loss -50
        """,
    )


async def test_one_log_proves_one_thing(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        sign   c1 bob 300          -> held      | bob.authorized 300, due -300
        sign   c2 bob 300          -> held      | bob.authorized 600, due -600
        match  c1 300              -> captured  | bob.authorized 300, revenue 300
        match  c2 300              -> captured  | bob.authorized 0, revenue 600
        prove  c1 300 log=0xt:1    -> proven    | due -300, treasury -300
        prove  c2 300 log=0xt:1    -> conflict
        prove  c2 300 log=0xt:2    -> proven    | due 0, treasury -600
        """,
    )


async def test_one_authorization_pays_once(db: SqliteDatabase) -> None:
    """F-070: the second use of a nonce is refused at admission; a failure opens it for the same request only."""
    await play(
        db,
        """
        sign   c1 bob 300 nonce=n                          -> held      | bob.authorized 300, due -300
        sign   c2 bob 300 nonce=n                          -> known c1
        sign   c2 bob 300 nonce=n request=q                -> known c1 other request
        sign   c2 bob 300 nonce=n request=q payload=x      -> known c1 other request, payment
        fail   c1                                          -> released  | bob.authorized 0, due 0
        sign   c2 bob 300 nonce=n request=q                -> known c1 other request
        sign   c2 bob 200 nonce=n payload=x                -> held      | bob.authorized 200, due -200
        expire c2                                          -> released  | bob.authorized 0, due 0
        sign   c3 bob 300 nonce=n                          -> held      | bob.authorized 300, due -300
        miss   c3                                          -> released  | bob.authorized 0, due 0
        sign   c4 bob 300 nonce=n                          -> known c3
        match  c1 300                                      -> late released
        """,
    )


async def test_open_signatures_stay_within_what_the_wallet_can_spend(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        sign   c1 bob 300 spendable=700    -> held               | bob.authorized 300, due -300
        sign   c2 bob 300 spendable=700    -> held               | bob.authorized 600, due -600
        sign   c3 bob 101 spendable=700    -> overcommitted 600
        sign   c3 eve 101 spendable=101    -> held               | eve.authorized 101, due -701
        match  c1 300                      -> captured           | bob.authorized 300, revenue 300
        sign   c4 bob 101 spendable=700    -> overcommitted 600
        prove  c1 300 log=0xt:1            -> proven             | due -401, treasury -300
        sign   c4 bob 101 spendable=400    -> overcommitted 300
        sign   c4 bob 100 spendable=400    -> held               | bob.authorized 400, due -501
        match  c2 300                      -> captured           | bob.authorized 100, revenue 600
        abandon c2                         -> yes
        sign   c5 bob 300 spendable=400    -> held               | bob.authorized 400, due -801
        """,
    )


async def test_idempotency_keys_live_with_their_hold(db: SqliteDatabase) -> None:
    """F-092, F-093: same key and request, other request, other owner; a failure frees the key, a miss keeps it."""
    await play(
        db,
        """
        credit ann 1000                    -> ok          | ann 1000, operator -1000
        credit eve 1000                    -> ok          | eve 1000, operator -2000
        hold   c1 ann 2000 key=k           -> short 1000
        hold   c1 ann 300 key=k            -> held        | ann 700, ann.held 300
        hold   c2 ann 300 key=k            -> key c1
        hold   c2 ann 300 key=k request=q  -> key c1 other
        hold   c2 eve 300 key=k            -> held        | eve 700, eve.held 300
        fail   c1                          -> released    | ann 1000, ann.held 0
        hold   c3 ann 300 key=k request=q  -> held        | ann 700, ann.held 300
        miss   c3                          -> released    | ann 1000, ann.held 0
        hold   c4 ann 300 key=k            -> key c3 other
        hold   c4 ann 300 key=k request=q  -> key c3
        sign   c5 bob 300 key=k            -> held        | bob.authorized 300, due -300
        sign   c6 bob 300 key=k            -> key c5
        expire c5                          -> released    | bob.authorized 0, due 0
        sign   c6 bob 300 key=k            -> held        | bob.authorized 300, due -300
        """,
    )


async def test_a_frozen_agent_opens_nothing_and_ends_what_is_open(db: SqliteDatabase) -> None:
    """F-133"""
    await play(
        db,
        """
        credit ann 1000            -> ok            | ann 1000, operator -1000
        hold   c1 ann 300          -> held          | ann 700, ann.held 300
        freeze ann                 -> yes
        hold   c2 ann 300          -> agent_frozen
        sign   c2 bob 300 agent=ann -> agent_frozen
        match  c1 300              -> captured      | ann.held 0, revenue 300
        thaw   ann                 -> yes
        sign   c2 bob 300 agent=ann -> held         | ann.authorized 300, due -300
        """,
    )


async def test_given_money_is_given_once(db: SqliteDatabase) -> None:
    await play(
        db,
        """
        credit ann 1000 id=x       -> ok        | ann 1000, operator -1000
        credit ann 1000 id=x       -> ok
        credit ann 1001 id=x       -> conflict
        grant  ann 1000 id=x       -> conflict
        credit eve 1000 id=x       -> conflict
        """,
    )


async def test_vendor_cost_is_kept_beside_the_charge(db: SqliteDatabase) -> None:
    """Cost never moves an account, not even of a match that came too late."""
    await play(
        db,
        """
        credit ann 1000            -> ok             | ann 1000, operator -1000
        hold   c1 ann 300          -> held           | ann 700, ann.held 300
        expire c1                  -> released       | ann 1000, ann.held 0
        match  c1 300 cost=70      -> late released
        """,
    )
    ((cost,),) = await db.read(lambda tx: tx.execute("SELECT cost_micros FROM charges WHERE id = 'c1'"))
    assert cost == 70
