"""Support tickets: paid like any call, read for free by their owner alone, and what they earn is the operator's word.

F-119, F-163, F-170.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest
from rigs.fickle import Fickle
from rigs.gate import Gate, Reply, header
from rigs.scripted import Scripted

from gateway.core import ids
from gateway.core.charge import Event, State
from gateway.core.errors import Conflict
from gateway.core.ticket import Category
from gateway.core.upstream import Offering
from gateway.settings.tables import SANDBOX_PAY_TO
from gateway.settlement.protocol import Refused
from gateway.store import actions, charges, tickets
from gateway.store.audit import audit
from gateway.store.database import Tx
from upstreams.support import Support, SupportSettings

PATH = "/api/v1/support/tickets"
PRICE = 10_000
BUG = {"category": "bug", "subject": "Billed without a result", "body": "Have a look at chg_1, please."}


class Shop(Scripted):
    """Takes tickets as well."""

    def offerings(self) -> Sequence[Offering]:
        return [*super().offerings(), *Support(SupportSettings(enabled=True)).offerings()]


def gateway(home: Path, toml: str = "", **parts: Any) -> AbstractAsyncContextManager[Gate]:
    return Gate.open(home, upstream=Shop(), toml=f"[support]\nenabled = true\n{toml}", **parts)


async def file(
    gate: Gate, body: object = BUG, *, token: str | None = None, payment: object = None, key: str | None = None
) -> Reply:
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if payment is not None:
        headers["PAYMENT-SIGNATURE"] = header(payment)
    if key is not None:
        headers["Idempotency-Key"] = key
    return await gate.send("POST", PATH, headers=headers, body=orjson.dumps(body))


async def read(gate: Gate, token: str, path: str = PATH) -> Reply:
    return await gate.send("GET", path, headers={"Authorization": f"Bearer {token}"})


async def stored(gate: Gate) -> list[tuple[str, str]]:
    """(ticket, its charge), paid for or not."""
    found: list[tuple[str, str]] = await gate.gateway.db.read(
        lambda tx: tx.execute("SELECT id, charge_id FROM tickets ORDER BY id")
    )
    return found


async def test_one_is_filed_from_a_balance_and_read_with_its_answer(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        agent, token = await gate.agent(1_000_000)
        filed = await file(gate, token=token)
        assert (filed.status, filed.json["billing"]["charged_usd"]) == (200, "0.010")
        told = filed.json["data"]
        assert told == {
            "ticket_id": told["ticket_id"], "status": "open", "category": "bug", "subject": BUG["subject"],
            "ticket_url": f"{PATH}/{told['ticket_id']}", "charged_usd": "0.010",
            "bug_credit": {"eligible": True, "amount_usd": "1.000", "state": "pending_operator"},
        }  # fmt: skip
        assert (await gate.balance(agent)).available == 1_000_000 - PRICE
        await gate.gateway.db.write(tickets.answer, told["ticket_id"], "Thank you; we do.")
        shown = (await read(gate, token, told["ticket_url"])).json
        assert {name: shown[name] for name in BUG} == BUG
        assert (shown["status"], shown["charge_id"]) == ("answered", filed.headers["X-Charge-Id"])
        assert [answer["body"] for answer in shown["answers"]] == ["Thank you; we do."]
        assert shown["bug_credit"] == {"eligible": True, "amount_usd": "1.000", "state": "pending_operator"}


async def test_an_anonymous_payer_reads_his_with_its_charge_token(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        _, bearer = await gate.agent(1)
        filed = await file(gate, payment=await gate.sign(operation="support/tickets"))
        assert filed.status == 200
        url, token = filed.json["data"]["ticket_url"], filed.headers["X-Charge-Token"]
        assert filed.json["data"]["bug_credit"] == {"eligible": False, "amount_usd": "0.000", "state": "none"}
        for headers in ({"X-Charge-Token": token}, {"Authorization": f"Bearer {token}"}):
            shown = await gate.send("GET", url, headers=headers)
            assert (shown.status, shown.json["body"]) == (200, BUG["body"])
            assert shown.json["bug_credit"] == {"eligible": False, "amount_usd": "0.000", "state": "none"}
        stranger = ids.new_token("411c_", bytes(32))
        for headers in ({"X-Charge-Token": stranger}, {"Authorization": f"Bearer {bearer}"}, {}):
            assert (await gate.send("GET", url, headers=headers)).status == 404


@pytest.mark.parametrize("category", [each.value for each in Category])
@pytest.mark.parametrize("paid_by", ["balance", "payment beside a bearer", "wallet"])
async def test_what_a_ticket_is_told_to_earn_is_what_it_is_read_to_earn(
    tmp_path: Path, category: str, paid_by: str
) -> None:
    async with gateway(tmp_path) as gate:
        _, token = await gate.agent(1_000_000)
        payment = None if paid_by == "balance" else await gate.sign(operation="support/tickets")
        filed = await file(
            gate, {**BUG, "category": category}, token=None if paid_by == "wallet" else token, payment=payment
        )
        told = filed.json["data"]
        reader = filed.headers["X-Charge-Token"] if paid_by == "wallet" else token
        assert (await read(gate, reader, told["ticket_url"])).json["bug_credit"] == told["bug_credit"]
        assert told["bug_credit"]["eligible"] is (category == "bug" and paid_by != "wallet")
        assert told["charged_usd"] == filed.json["billing"]["charged_usd"] == "0.010"


async def test_f170_somebody_elses_ticket_is_a_404_and_on_nobody_elses_list(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        _, ann = await gate.agent(1_000_000)
        _, eve = await gate.agent(1_000_000)
        mine = [(await file(gate, {**BUG, "subject": f"Number {n}"}, token=ann)).json["data"] for n in range(5)]
        for guess in (mine[0]["ticket_id"], "tkt_1", "tkt_" + "z" * 26, "../agents/me", "%00", "tkt_'; --"):
            reply = await read(gate, eve, f"{PATH}/{guess}")
            assert (reply.status, reply.json["code"]) == (404, "NOT_FOUND"), guess
        assert (await read(gate, eve)).json == {"tickets": [], "next_cursor": None}
        assert (await read(gate, eve, f"{PATH}?cursor={mine[4]['ticket_id']}")).json["tickets"] == []
        found, query = [], "?limit=2"
        while query:
            page = (await read(gate, ann, PATH + query)).json
            found += [each["subject"] for each in page["tickets"]]
            query = f"?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else ""
        assert found == [f"Number {n}" for n in (4, 3, 2, 1, 0)]
        assert "body" not in page["tickets"][0]
        for bad in ("?limit=0", "?cursor=x", "?cursor=tkt_%27", "?state=open"):
            assert (await read(gate, ann, PATH + bad)).status == 422
        assert (await gate.send("GET", PATH)).status == 402  # as every method of what is on sale, without a credential
        assert (await read(gate, "411_wrong")).status == 401


async def test_f170_a_flood_is_a_429_that_costs_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, "open_max = 3\n") as gate:
        agent, token = await gate.agent(1_000_000)
        replies = await asyncio.gather(*(file(gate, token=token) for _ in range(10)))
        assert sorted(reply.status for reply in replies) == [200] * 3 + [429] * 7
        assert {reply.json["code"] for reply in replies if reply.status == 429} == {"RATE_LIMITED"}
        assert (await gate.balance(agent)).available == 1_000_000 - 3 * PRICE
        first = replies[[reply.status for reply in replies].index(200)].json["data"]["ticket_id"]
        await gate.gateway.db.write(tickets.close, first)
        assert (await file(gate, token=token)).status == 200
        _, other = await gate.agent(PRICE)
        assert (await file(gate, token=other)).status == 200


BAD: tuple[object, ...] = (
    {}, [], {**BUG, "category": "money"}, {**BUG, "subject": ""}, {**BUG, "subject": " "},
    {**BUG, "subject": "x" * 141}, {**BUG, "subject": "a\u2028b"},
    {**BUG, "subject": "two\nlines"}, {**BUG, "body": "x" * 8001}, {**BUG, "body": "\u001b[2J"}, {**BUG, "body": 5},
    {**BUG, "body": "\u202egnp.exe"}, {**BUG, "file": "a.exe"}, {**BUG, "body": "a\u0000b"},
)  # fmt: skip


async def test_f170_what_is_no_ticket_is_refused_and_costs_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        agent, token = await gate.agent(1_000_000)
        for body in (*BAD, {**BUG, "body": f"my token is {token}"}):
            reply = await file(gate, body, token=token)
            assert (reply.status, reply.json["code"]) == (422, "VALIDATION_ERROR"), body
            assert token not in reply.body.decode()
        assert (await gate.balance(agent)).available == 1_000_000
        assert await stored(gate) == []
        longest = {"category": "other", "subject": "é" * 140, "body": "\U0001f680" * 8000}
        assert (await file(gate, longest, token=token)).status == 200


async def test_f163_markup_comes_back_as_it_was_written_and_as_json_alone(tmp_path: Path) -> None:
    markup = "<script>alert(1)</script><img src=x onerror=alert(1)>\n\t=1+1 {{7*7}} ${x}"
    async with gateway(tmp_path) as gate:
        _, token = await gate.agent(1_000_000)
        filed = await file(gate, {**BUG, "subject": "<b>hello</b>", "body": markup}, token=token)
        for reply in (filed, await read(gate, token, filed.json["data"]["ticket_url"]), await read(gate, token)):
            assert reply.headers["Content-Type"] == "application/json"
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
        shown = (await read(gate, token, filed.json["data"]["ticket_url"])).json
        assert (shown["subject"], shown["body"]) == ("<b>hello</b>", markup)


async def test_the_same_key_or_payment_again_is_the_same_ticket(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        _, token = await gate.agent(1_000_000)
        payment = await gate.sign(operation="support/tickets")
        for means in ({"token": token, "key": "k"}, {"payment": payment}):
            first, second = await file(gate, **means), await file(gate, **means)
            assert second.headers["Idempotent-Replay"] == "true"
            assert first.json["data"] == second.json["data"]
        assert len(await stored(gate)) == 2


async def test_a_ticket_goes_with_a_charge_that_is_released(tmp_path: Path) -> None:
    """Its process died before the work was recorded: the money is back, and nobody reads what was not paid for."""
    async with gateway(tmp_path) as gate:
        agent, token = await gate.agent(1_000_000)
        seen: list[object] = []
        record, db = charges.record, gate.gateway.db

        def dies(tx: Tx, charge_id: str, event: Event, *args: object, **more: object) -> object:
            seen.append((tickets.find(tx, ids_of(tx)[0][0]), len(ids_of(tx))))
            return record(tx, charge_id, Event.EXPIRED)

        def ids_of(tx: Tx) -> list[tuple[str, ...]]:
            return tx.execute("SELECT id FROM tickets")

        charges.record = dies  # type: ignore[assignment]
        try:
            await file(gate, token=token)
        finally:
            charges.record = record
        assert seen == [(None, 1)]
        assert await stored(gate) == []
        assert (await gate.charges())[0].charge.state is State.RELEASED
        assert (await gate.balance(agent)).available == 1_000_000
        assert await db.read(audit) == []


async def test_what_could_not_be_collected_is_read_when_it_is_bought_anew(tmp_path: Path) -> None:
    settler = Fickle(pay_to=SANDBOX_PAY_TO, clock=time.time)
    async with gateway(tmp_path, settler=settler) as gate:

        async def poor(settler: object, settlement: object) -> Refused:
            return Refused("invalid_exact_evm_insufficient_balance", "moved away", final=False)

        settler.settle_as = poor
        lost = await file(gate, payment=await gate.sign(operation="support/tickets"))
        assert (lost.status, lost.json["code"]) == (402, "SETTLEMENT_FAILED")
        ((ticket_id, _),) = await stored(gate)
        token = lost.headers["X-Charge-Token"]
        url = f"{PATH}/{ticket_id}"
        assert (await gate.send("GET", url, headers={"X-Charge-Token": token})).status == 404
        assert await gate.gateway.db.read(tickets.listing, 10) == []
        settler.settle_as = None
        payments = [await gate.sign(operation="support/tickets") for _ in range(2)]
        paid, also = await asyncio.gather(*(file(gate, payment=payment) for payment in payments))
        assert {reply.status for reply in (paid, also)} == {200}
        assert {reply.json["data"]["ticket_id"] for reply in (paid, also)} == {ticket_id}
        for reply in (lost, paid, also):  # both have paid for it, whichever was first
            shown = await gate.send("GET", url, headers={"X-Charge-Token": reply.headers["X-Charge-Token"]})
            assert shown.json["body"] == BUG["body"]
        assert len(await stored(gate)) == 1


async def test_f119_a_bug_earns_once_however_many_confirm_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        agent, token = await gate.agent(PRICE)
        ticket_id = (await file(gate, token=token)).json["data"]["ticket_id"]
        db = gate.gateway.db
        outcomes = await asyncio.gather(
            *(db.write(tickets.confirm_bug, ticket_id, amount) for amount in (1_000_000, 1_000_000, 2_000_000) * 4),
            return_exceptions=True,
        )
        assert sum(outcome is None for outcome in outcomes) == 1
        assert all(outcome is None or isinstance(outcome, Conflict) for outcome in outcomes)
        await db.write(tickets.close, ticket_id)
        with pytest.raises(Conflict, match="before"):
            await db.write(tickets.confirm_bug, ticket_id, 1_000_000)
        earned = (await gate.balance(agent)).bonus
        assert earned == 1_000_000
        shown = (await read(gate, token, f"{PATH}/{ticket_id}")).json
        assert shown["bug_credit"]["state"] == "earned"
        lines = (await read(gate, token, "/api/v1/agents/statement")).json["movements"]
        assert (lines[0]["kind"], lines[0]["money"], lines[0]["amount_usd"]) == ("grant", "bonus", "1.000")
        log = await db.read(actions.listing, 10, ticket_id)
        assert [action.action for action in log] == ["close_ticket", "confirm_bug"]
        assert BUG["body"] not in str(log)


async def test_f119_a_ticket_about_a_refunded_charge_refunds_it_once(tmp_path: Path) -> None:
    """Two operators refund for the same ticket, under its id: a part, once."""
    async with gateway(tmp_path) as gate:
        agent, token = await gate.agent(1_000_000)
        charge_id = (await gate.call("hello", token=token)).headers["X-Charge-Id"]
        ticket_id = (await file(gate, {**BUG, "category": "billing"}, token=token)).json["data"]["ticket_id"]
        for _ in range(2):
            await gate.gateway.db.write(charges.refund, charge_id, 100_000, ticket_id, "asked for")
        assert (await gate.balance(agent)).available == 1_000_000 - PRICE - 330_000 + 100_000
        with pytest.raises(Conflict, match="not filed as a bug"):
            await gate.gateway.db.write(tickets.confirm_bug, ticket_id, 1_000_000)


async def test_f170_money_moves_by_the_operator_alone(tmp_path: Path) -> None:
    """Whatever is written, and whoever writes it: nothing is credited for an anonymous one, nor for one unpaid."""
    async with gateway(tmp_path) as gate:
        filed = await file(gate, payment=await gate.sign(operation="support/tickets"))
        with pytest.raises(Conflict, match="account"):
            await gate.gateway.db.write(tickets.confirm_bug, filed.json["data"]["ticket_id"], 1_000_000)
        with pytest.raises(Conflict, match="no such"):
            await gate.gateway.db.write(tickets.confirm_bug, "tkt_1", 1_000_000)
        assert await gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM credits")) == [(0,)]


async def test_a_closed_ticket_stays_closed(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        _, token = await gate.agent(PRICE)
        ticket_id = (await file(gate, token=token)).json["data"]["ticket_id"]
        await gate.gateway.db.write(tickets.close, ticket_id)
        for deed in (lambda tx: tickets.close(tx, ticket_id), lambda tx: tickets.answer(tx, ticket_id, "late")):
            with pytest.raises(Conflict, match="closed"):
                await gate.gateway.db.write(deed)
        assert (await read(gate, token, f"{PATH}/{ticket_id}")).json["bug_credit"]["state"] == "not_confirmed"


async def key(gate: Gate, admin: str, *scopes: str) -> str:
    headers = {"Authorization": f"Bearer {admin}", "Content-Type": "application/json"}
    body = orjson.dumps({"label": "test", "scopes": scopes})
    made: str = (await gate.send("POST", "/api/v1/agents/usage-keys", headers=headers, body=body)).json["key"]
    return made


async def test_a_usage_key_writes_and_reads_its_own_with_the_scope_for_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        _, admin = await gate.agent(1_000_000)
        mine = (await file(gate, token=admin)).json["data"]["ticket_id"]
        support, other = await key(gate, admin, "support"), await key(gate, admin, "test:alpha", "balance:read")
        filed = (await file(gate, token=support)).json["data"]["ticket_id"]
        assert [each["ticket_id"] for each in (await read(gate, support)).json["tickets"]] == [filed]
        assert [each["ticket_id"] for each in (await read(gate, admin)).json["tickets"]] == [filed, mine]
        assert (await read(gate, support, f"{PATH}/{filed}")).status == 200
        assert (await read(gate, support, f"{PATH}/{mine}")).status == 404
        for reply in (
            await file(gate, token=other),
            await read(gate, other),
            await read(gate, other, f"{PATH}/{filed}"),
        ):
            assert (reply.status, reply.json["code"]) == (403, "SCOPE_DENIED")
        assert (await read(gate, other, "/api/v1/agents/statement")).status == 200
        assert (await read(gate, support, "/api/v1/agents/statement")).status == 403


REFUSED = (
    "UPDATE tickets SET body = 'other'",
    "UPDATE tickets SET agent_id = NULL",
    "UPDATE tickets SET state = 'open'",
    "UPDATE tickets SET credit_id = NULL",
    "DELETE FROM tickets",
    "UPDATE ticket_answers SET body = 'other'",
    "DELETE FROM ticket_answers",
    "INSERT INTO tickets SELECT 'tkt_9', charge_id, party, agent_id, category, subject, body, state, created_ms,"
    " changed_ms, NULL FROM tickets",
)
BROKEN = {
    "DELETE FROM tickets": "was paid for",
    "UPDATE tickets SET party = 'eve'": "different stories",
    "UPDATE tickets SET credit_id = NULL": "no ticket has earned it",
    "UPDATE credits SET agent_id = 'agt_other'": "something else",
}


async def confirmed(gate: Gate) -> str:
    _, token = await gate.agent(PRICE)
    ticket_id: str = (await file(gate, token=token)).json["data"]["ticket_id"]

    def deeds(tx: Tx) -> None:
        tickets.answer(tx, ticket_id, "It is one.")
        tickets.confirm_bug(tx, ticket_id, 1_000_000)
        tickets.close(tx, ticket_id)

    await gate.gateway.db.write(deeds)
    return ticket_id


async def test_the_schema_refuses_what_no_ticket_does(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        await confirmed(gate)
        for sql in REFUSED:
            with pytest.raises(apsw.ConstraintError):
                await gate.gateway.db.write(lambda tx, sql=sql: tx.execute(sql))


async def test_the_audit_knows_what_a_ticket_promises(tmp_path: Path) -> None:
    class Undone(Exception):
        pass

    async with gateway(tmp_path) as gate:
        await confirmed(gate)
        for sql, words in BROKEN.items():
            found: list[str] = []

            def breaking(tx: Tx, sql: str = sql, found: list[str] = found) -> None:
                for (name,) in tx.execute(
                    "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name IN"
                    " ('tickets', 'ticket_answers', 'credits')"
                ):
                    tx.execute(f"DROP TRIGGER {name}")
                tx.execute("INSERT INTO agents VALUES ('agt_other', '', 'active', 1)")
                tx.execute("DELETE FROM ticket_answers")
                tx.execute(sql)
                found[:] = [f"{finding.rule} {finding.message}" for finding in audit(tx)]
                raise Undone

            with suppress(Undone):
                await gate.gateway.db.write(breaking)
            assert any(each.startswith("ticket") and words in each for each in found), (sql, found)


async def test_where_none_are_taken_nothing_is_sold_and_the_old_ones_are_read(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        _, token = await gate.agent(PRICE)
        ticket_id = (await file(gate, token=token)).json["data"]["ticket_id"]
    async with Gate.open(tmp_path) as gate:
        assert (await file(gate, token=token)).status == 405
        assert (await read(gate, token, f"{PATH}/{ticket_id}")).status == 200
        assert [each["ticket_id"] for each in (await read(gate, token)).json["tickets"]] == [ticket_id]
        assert PATH not in (await gate.send("GET", "/openapi.json")).json["paths"]


async def test_it_is_in_every_document_where_it_is_sold(tmp_path: Path) -> None:
    async with gateway(tmp_path) as gate:
        paths = (await gate.send("GET", "/openapi.json")).json["paths"]
        assert paths[PATH]["post"]["x-payment-info"]["price"]["amount"] == "0.010"
        assert paths[PATH]["get"]["security"] == [{"apiKey": []}]
        assert f"{PATH}/{{ticket_id}}" in paths
        assert PATH in str((await gate.send("GET", "/.well-known/x402")).json["resources"])
        offer = (await gate.send("POST", PATH)).offer
        assert offer["accepts"][0]["amount"] == "10000"
