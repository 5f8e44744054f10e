"""Deliveries that may be watched: the loop with the guarded client, whose every name is this machine.

    async with next_door() as http:
        (event,) = await post(db, up.url("/hook", host="t1.example.com"))
        await delivering(db, http).once()
        assert await states(db, event) == ["delivered"]

As a program it is one process's loop, until SIGTERM or a crash point: python -m rigs.postman LEDGER [CRASH_POINT:COUNT]
"""

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rigs.writer import die_at

from gateway.core import ids, webhook
from gateway.core.http import HttpClient, HttpResponse
from gateway.flows.webhooks import Webhooks, WebhookTerms
from gateway.outbound import OutboundClient
from gateway.store import outbox
from gateway.store.database import Database, Tx
from gateway.store.owners import ProcessOwner
from gateway.store.sqlite import SqliteDatabase

ORIGIN = "https://api.example.com"
TOLD = webhook.JobTold("ej_1", "shop/find", "completed", True, True, 250_000, f"{ORIGIN}/api/v1/enrich/jobs/ej_1")


class NextDoor:
    """A client for which this machine is the outside world: a test's receivers listen here. `everybody`: vendors, too,
    which may be neighbours anyhow."""

    def __init__(self, client: HttpClient, *, everybody: bool = False) -> None:
        self._client = client
        self._everybody = everybody

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_s: float,
        bytes_max: int,
        private: bool = False,
    ) -> HttpResponse:
        assert self._everybody or not private, "strangers' urls are never called as neighbours'"
        return await self._client.request(
            method, url, headers=headers, body=body, timeout_s=timeout_s, bytes_max=bytes_max, private=True
        )


async def here(host: str) -> list[str]:
    """Every name is this machine's."""
    return ["127.0.0.1"]


@asynccontextmanager
async def next_door(*, everybody: bool = False) -> AsyncIterator[HttpClient]:
    async with OutboundClient(lookup=here) as client:
        yield NextDoor(client, everybody=everybody)


def delivering(
    db: Database,
    http: HttpClient,
    owner: str = "own_1_000000000000",
    *,
    terms: dict[str, Any] | None = None,
    **parts: Any,
) -> Webhooks:
    fields = {"own_origin": ORIGIN, "brand": "Faregate", "allow_http": True, **(terms or {})}
    parts = {"alive": lambda name: True, "clock": time.time, **parts}
    return Webhooks(db=db, http=http, terms=WebhookTerms(**fields), owner=owner, **parts)


async def post(db: Database, *urls: str, owner: str = "agt_1", body: bytes | None = None) -> list[str]:
    """Events to these urls, whose owner has a secret -> their ids, in this order."""
    added = [(ids.new_id("evt_", time.time_ns() // 1_000_000, secrets.token_bytes(10)), url) for url in urls]

    def write(tx: Tx) -> None:
        if not outbox.secrets_of(tx, owner):
            outbox.rotate_secret(tx, owner, webhook.new_secret(secrets.token_bytes(32)), 0)
        for event_id, url in added:
            told = webhook.job_event(event_id, webhook.JOB_COMPLETED, tx.now_ms, owner, TOLD) if body is None else body
            outbox.add(
                tx, event_id=event_id, event_type=webhook.JOB_COMPLETED, owner=owner, subject=TOLD.job_id, url=url,
                body=told,
            )  # fmt: skip

    await db.write(write)
    return [event_id for event_id, _ in added]


async def states(db: Database, *events: str) -> list[str]:
    found = [await db.read(outbox.find, event) for event in events]
    return [event.state.value if event else "unknown" for event in found]


async def main(ledger: Path) -> None:
    db = await SqliteDatabase(ledger, clock_ms=lambda: time.time_ns() // 1_000_000).open()
    owner = ProcessOwner(ledger.with_name("owners"))
    async with next_door() as http:
        webhooks = delivering(db, http, owner.id, alive=owner.alive)
        loop = asyncio.create_task(webhooks.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, loop.cancel)
        await asyncio.wait([loop])
        await webhooks.drain(1.0)
    owner.close()
    await db.close()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        point, _, times = sys.argv[2].partition(":")
        die_at(point, int(times or 1))
    asyncio.run(main(Path(sys.argv[1])))
