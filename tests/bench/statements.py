"""A statement's page, as its agent asks for it, anywhere in a million movements. No peer has such a thing."""

import random
from contextlib import AsyncExitStack
from pathlib import Path

import apsw
from bench import load, targets
from bench.figures import Figure, Plan
from bench.machine import agent
from bench.targets import Target

from gateway.core.answer import iso
from gateway.core.ids import token_hash
from gateway.core.statement import LIMIT_MAX, cursor_before

MOVEMENTS = 1_000_000
BATCH = 100_000
PRICE_MICROS = 1_000
PATH = "/api/v1/agents/statement"
ASK_AS_YOU_LIKE = '[rate_limits]\nbalance = ""'

CALLS = """
WITH RECURSIVE n (i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
INSERT INTO charges (id, operation, party, source, held_micros, held_bonus_micros, state, captured_micros,
  captured_bonus_micros, refunded_micros, cost_micros, request_id, request_hash, agent_id, owner, work_deadline_ms,
  created_ms, ended_ms)
SELECT printf('chg_%026d', i), 'bench/small', :agent, 'balance', :price, 0, 'captured', :price, 0, 0, 0,
  printf('req_%026d', i), zeroblob(32), :agent, 'own_1', 1, 1, 1 FROM n
"""
CAPTURES = """
WITH RECURSIVE n (i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
INSERT INTO transfers (at_ms, kind, debit, credit, amount_micros, debit_after_micros, credit_after_micros, charge_id,
  note)
SELECT :now + i, 'capture', :agent || ':available', 'revenue', :price, :balance - :price * i, :price * i,
  printf('chg_%026d', i), '' FROM n
"""


async def page(plan: Plan) -> dict[str, Figure]:
    """The median of pages of 200 lines: the newest, those of random places by cursor, and those of a time."""
    async with AsyncExitStack() as stack:
        small = stack.enter_context(targets.upstream())
        target = await stack.enter_async_context(targets.ours(small, None, ASK_AS_YOU_LIKE))
        token = agent(target)
        began_ms = _fill(target, token)
        randomness = random.Random(4)
        requests = [_request(token, "")]
        for _ in range(plan.rounds(600)):
            requests.append(_request(token, f"&cursor={cursor_before(randomness.randint(1, MOVEMENTS))}"))
            second = (began_ms + randomness.randint(1, MOVEMENTS)) // 1000
            requests.append(_request(token, f"&to={iso(second * 1000)}"))
        ran = (await load.run(target.port, requests, 1)).expect(200)
        assert b'"mov_%d"' % (MOVEMENTS + 1) in ran.bodies[0], "the newest of them comes first"
        return {"statement_page": Figure(ran.percentile(50) * 1000, None, "ms", "<20", lower_is_better=True)}


def _request(token: str, query: str) -> bytes:
    return load.http("GET", f"{PATH}?limit={LIMIT_MAX}{query}", {"Authorization": f"Bearer {token}"})


def _fill(target: Target, token: str) -> int:
    """A million paid calls of this agent, booked by the schema's own triggers. Answers when the first was."""
    assert target.home is not None
    ledger = apsw.Connection(str(Path(target.home) / "bench.db"))
    ledger.set_busy_timeout(60_000)
    ledger.pragma("synchronous", "off")
    (agent_id,) = ledger.execute("SELECT agent_id FROM tokens WHERE hash = ?", (token_hash(token),)).fetchone()
    (balance,) = ledger.execute(
        "SELECT balance_micros FROM accounts WHERE name = ?", (f"{agent_id}:available",)
    ).fetchone()
    (began_ms,) = ledger.execute("SELECT max(at_ms) FROM transfers").fetchone()
    for first in range(1, MOVEMENTS + 1, BATCH):
        terms = {
            "agent": agent_id, "price": PRICE_MICROS, "balance": balance, "now": began_ms,
            "first": first, "last": first + BATCH - 1,
        }  # fmt: skip
        with ledger:
            ledger.execute(CALLS, terms)
            ledger.execute(CAPTURES, terms)
    ledger.close()
    return int(began_ms)
