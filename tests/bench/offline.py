"""Figures without a network: checking a signature, and holding money in the store."""

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Figure, Plan
from bench.load import median
from rigs import debits as holds
from rigs.chain import PAYER_KEYS
from rigs.payer import Payer
from starlette.requests import Request

from gateway.core import ids
from gateway.core.agent import Cap, KeyTerms, Period, TokenKind
from gateway.core.errors import Problem
from gateway.core.networks import NETWORKS
from gateway.core.x402.headers import decode_payment
from gateway.core.x402.offers import Terms, offers
from gateway.core.x402.verify import Verified
from gateway.core.x402.verify import verify as check
from gateway.edge.limiter import Limiter
from gateway.edge.rates import Rates
from gateway.edge.tokens import Tokens
from gateway.flows.last_used import LastUsed
from gateway.store import agents, usage_keys
from gateway.store.agents import NewToken
from gateway.store.database import Tx
from gateway.store.sqlite import SqliteDatabase


async def verify(plan: Plan) -> dict[str, Figure]:
    """One payment by EIP-3009, parsed: our whole verdict (offer, window, digest, recovery); of the SDK's, the typed
    data's digest and the recovery alone."""
    network = NETWORKS["eip155:84532"]
    terms = Terms(network.id, network.tokens[0], "0x" + "c0ffee01".rjust(40, "0"), ("eip3009",), None, False)
    asked = offers(1000, 60, [terms])
    payload = Payer(PAYER_KEYS[0]).eip3009(asked[0].to_json())
    header = base64.b64encode(json.dumps(payload).encode())
    payment = decode_payment(header)
    now = int(time.time())

    def once() -> None:
        verdict = check(payment, asked, now_s=now, work_s=5, settle_margin_s=5)
        assert isinstance(verdict, Verified), verdict
        assert verdict.recovered

    text = json.dumps(payload).encode()
    mine, theirs, coincurve = [], [], []
    for _ in range(plan.rounds(5)):
        mine.append(median(_timed(once, 500) for _ in range(5)))
        theirs.append(_peer(plan, text, {}))
        coincurve.append(_peer(plan, text, {"PYTHONPATH": str(plan.peer_python.parents[1] / "coincurve")}))
    return {
        "verify": Figure(median(mine), median(theirs), "us", "x80", lower_is_better=True),
        "verify_coincurve": Figure(median(mine), median(coincurve), "us", "x3", lower_is_better=True),
    }


def _timed(work: object, times: int) -> float:
    assert callable(work)
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times * 1e6


def _peer(plan: Plan, payload: bytes, env: dict[str, str]) -> float:
    script = Path(__file__).with_name("peer.py")
    ran = subprocess.run(
        [plan.peer_python, script, "verify"], input=payload, capture_output=True, check=True, env={**os.environ, **env}
    )
    return float(ran.stdout)


async def bearer(plan: Plan) -> dict[str, Figure]:
    """CPU of finding out whose bearer a paid call shows, ten agents and ten of their usage keys taking turns. Each is
    looked up anew every two seconds; that its hold looks again is part of the hold."""
    tokens: list[str] = []

    def furnish(tx: Tx) -> None:
        for number in range(10):
            agents.create(tx, f"agt_{number}", "bench")
            for letter, kind in (("", TokenKind.ADMIN), ("k", TokenKind.USAGE)):
                token = ids.new_token(f"411{letter}_", os.urandom(32))
                tokens.append(token)
                made = NewToken(f"tok_{number}{letter}", ids.token_hash(token), "")
                if kind is TokenKind.ADMIN:
                    agents.add_token(tx, made.id, f"agt_{number}", kind, made.hash, made.hint)
                else:
                    terms = KeyTerms("bench", ("enrich:*",), Cap(10**9, Period.MONTH), 60_000)
                    usage_keys.create(tx, f"key_{number}", f"agt_{number}", terms, made)

    costs = []
    with tempfile.TemporaryDirectory(dir=".cache") as folder:
        db = await SqliteDatabase(Path(folder) / "bearer.db", clock_ms=holds.clock_ms).open()
        await db.write(furnish)
        last_used = LastUsed(db, time.time)
        door = Tokens(db, "411", time.time, Rates(time.monotonic), Limiter({}, monotonic=time.monotonic), last_used.saw)
        requests = [
            Request({"type": "http", "headers": [(b"authorization", b"Bearer " + token.encode())]}) for token in tokens
        ]
        for _ in range(plan.rounds(6)):
            calls, cpu, until = 0, time.process_time(), time.perf_counter() + 1
            while time.perf_counter() < until:
                for request in requests:
                    with contextlib.suppress(Problem):  # it is asked more often than a key may
                        await door.spender(Request(request.scope))
                calls += len(requests)
            costs.append((time.process_time() - cpu) / calls * 1e6)
        await db.close()
    return {"bearer_auth": Figure(median(costs), None, "us", "<30", lower_is_better=True)}


async def debits(plan: Plan) -> dict[str, Figure]:
    """Full holds a second with 64 waiting; the same statements one commit each through aiosqlite."""
    if str(found := plan.peer_python.parents[1] / "aiosqlite") not in sys.path:
        sys.path.append(str(found))
    mine, theirs = [], []
    for _ in range(plan.rounds(5)):
        with tempfile.TemporaryDirectory(dir=".cache") as folder:
            mine.append(await holds.ours(Path(folder) / "ours.db", holds=20_000, waiting=64))
            theirs.append(await holds.peer(Path(folder) / "peer.db", holds=1_500))
        await asyncio.sleep(0.2)
    return {"debits": Figure(median(mine), median(theirs), "1/s", ">=20000 x10")}
