"""Jobs by the official clients: each signs for a ceiling by `upto`, polls to the end with the bearer it was given, and
is charged what the work came to, with Circle's real token and Uniswap's real Permit2.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from e2e.test_official_clients import Paid, by_node, moved, told
from eth_account import Account
from rigs.chain import NETWORK, PAYER_KEYS, Chain
from rigs.payer import Payer
from rigs.program import Program
from rigs.running import relayed, running
from rigs.settled import ENDED, settled_up, usd
from rigs.upstream import ScriptedUpstream, reply
from x402 import x402Client, x402ClientSync
from x402.http.clients import wrapHttpxWithPayment, wrapRequestsWithPayment
from x402.mechanisms.evm.upto import UptoEvmScheme

pytestmark = pytest.mark.chain

CEILING = 900_000
"""Below the dollar that the clients sign for unless they are told otherwise."""
JOBS = "/api/v1/enrich/jobs"
JOB = {"route": "shop/research", "payload": {"word": "hello"}, "bill_up_to_usd": "0.90"}

Customer = Callable[[str, bytes], Awaitable[tuple[Paid, Paid]]]
"""(origin, key) -> what the submission was answered, and what the last poll."""


async def httpx_client(origin: str, key: bytes) -> tuple[Paid, Paid]:
    client = x402Client().register("eip155:*", UptoEvmScheme(Account.from_key(key)))
    async with wrapHttpxWithPayment(client, base_url=origin, trust_env=False, timeout=30) as http:
        accepted = await http.post(JOBS, json=JOB)
        bearer = {"Authorization": f"Bearer {accepted.json()['poll_bearer']}"}
        while True:
            poll = await http.get(accepted.json()["poll_url"], params={"wait": 5}, headers=bearer)
            if poll.json()["status"] in ENDED:
                return told(accepted), told(poll)


async def requests_client(origin: str, key: bytes) -> tuple[Paid, Paid]:
    client = x402ClientSync().register("eip155:*", UptoEvmScheme(Account.from_key(key)))

    def work() -> tuple[Paid, Paid]:
        with requests.Session() as plain:
            plain.trust_env = False
            session = wrapRequestsWithPayment(plain, client)
            accepted = session.post(origin + JOBS, json=JOB)
            bearer = {"Authorization": f"Bearer {accepted.json()['poll_bearer']}"}
            while True:
                poll = session.get(origin + accepted.json()["poll_url"], params={"wait": 5}, headers=bearer)
                if poll.json()["status"] in ENDED:
                    return told(accepted), told(poll)

    return await asyncio.to_thread(work)


def node(client: str) -> Customer:
    async def work(origin: str, key: bytes) -> tuple[Paid, Paid]:
        said = await by_node(client=client, url=origin + JOBS, body=JOB, key="0x" + key.hex())
        poll = said.pop("ended")
        return Paid(**said), Paid(**poll)

    work.__name__ = client
    return work


CUSTOMERS = [httpx_client, requests_client, node("fetch"), node("axios")]


@pytest.mark.parametrize(
    ("vendor", "charged"),
    [
        pytest.param({"found": "canary-2f7a", "cost_usd": 0.1234}, 185_100, id="less than the ceiling"),
        pytest.param({"found": "canary-2f7a", "cost_usd": 40.0}, CEILING, id="all of it"),
        pytest.param({"cost_usd": 0.1}, 0, id="nothing"),
    ],
)
async def test_official_clients_are_charged_what_their_jobs_came_to(
    chain: Chain, program: Program, tmp_path: Path, vendor: Any, charged: int
) -> None:
    """All four, at once, with their defaults."""
    keys = PAYER_KEYS[: len(CUSTOMERS)]
    before = [chain.balance(Payer(key).address) for key in keys]
    async with ScriptedUpstream(default=reply(vendor)) as shop:
        settings = relayed(chain, upstream=shop.port)
        async with running(tmp_path, program, settings) as gate:
            done = await asyncio.gather(*(work(gate.url, key) for work, key in zip(CUSTOMERS, keys, strict=True)))
            assert len(shop.seen) == len(CUSTOMERS)
    for work, key, had, (accepted, poll) in zip(CUSTOMERS, keys, before, done, strict=True):
        payer = Payer(key).address
        assert accepted.status == 202, (work.__name__, accepted)
        assert (accepted.body["billing_mode"], usd(accepted.body["held_usd"])) == ("x402_upto", CEILING)
        assert (poll.status, poll.body["status"]) == (200, "completed"), (work.__name__, poll)
        settled_up(poll.body)
        billing = poll.body["billing"]
        assert (usd(billing["bill_up_to_usd"]), usd(billing["charged_usd"])) == (CEILING, charged)
        assert (poll.body["matched"], poll.body["billed"]) == ("found" in vendor, charged > 0)
        assert ("canary-2f7a" in json.dumps(poll.body["result"])) is ("found" in vendor)
        assert had - chain.balance(payer) == charged
        if charged:
            receipt = poll.receipt
            assert (receipt["success"], receipt["network"], receipt["amount"]) == (True, NETWORK, str(charged))
            assert receipt["payer"].lower() == payer.lower()
            assert receipt["transaction"] == billing["settlement"]["transaction"]
            assert moved(chain, receipt["transaction"], payer) == charged
        else:
            assert (poll.receipt, billing["settlement"]) == (None, None)
    assert chain.balance(settings.pay_to) == charged * len(CUSTOMERS)
    if not charged:
        assert chain.nonce(settings.relayer) == 0, "nothing is sent for nothing"
