"""`faregate pay` hands a job over on the real process and the real chain, and follows it to its end."""

import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eth_account import Account
from rigs.chain import PAYER_KEYS, Chain
from rigs.payer import Payer
from rigs.program import Child, Program
from rigs.running import Running, eventually, relayed, running
from rigs.upstream import ScriptedUpstream, reply

pytestmark = pytest.mark.chain

JOBS = "/api/v1/enrich/jobs"
BODY = json.dumps({"route": "shop/research", "payload": {"word": "word"}, "bill_up_to_usd": "1.50"})
PAYER = Payer(PAYER_KEYS[7])
KEY = {"FAREGATE_PAY_KEY": PAYER.key.hex()}
CHARGED = 750_000
"""Half a dollar at the vendor's, marked up by half."""


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply({"found": "canary-2f7a", "cost_usd": 0.5})) as shop:
        yield shop


@pytest.fixture
async def gate(chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    settings = relayed(chain, upstream=shop.port, more="\n[jobs]\nlease_s = 1\n")
    async with running(tmp_path, program, settings) as gate:
        yield gate


def arguments(gate: Running, *more: str) -> list[str]:
    return ["pay", gate.url + JOBS, "-d", BODY, "--max", "1.50", "--by", "upto", "--yes", *more]


async def following(gate: Running) -> tuple[Child, Path]:
    """The command, from when it follows its job, and what it prints."""
    said = gate.home / "said"
    child = gate.program.start(arguments(gate), env=KEY, cwd=gate.home, out=said)

    async def follows() -> bool:
        return "is handed over" in said.read_text()

    await eventually(follows)
    return child, said


async def end_of(child: Child) -> int:
    async def ended() -> str:
        status = child.ended()
        return "" if status is None else str(status)

    return int(await eventually(ended))


async def test_a_job_by_upto(gate: Running, chain: Chain) -> None:
    had = chain.balance(PAYER.address)
    said = await gate.run(*arguments(gate), env=KEY)
    assert "Price     at most $1.500 in USDC, by upto: you pay what it comes to" in said
    assert "canary-2f7a" in said
    assert "Charged   $0.750 of at most $1.500; $0.750 released" in said
    assert '"success": true' in said
    assert had - chain.balance(PAYER.address) == CHARGED == chain.balance(gate.settings.pay_to)
    (charge,) = await gate.charges()
    assert charge["state"] == "settled"


@pytest.mark.parametrize("node", [True, False], ids=["told by a node", "told by a 412"])
async def test_a_job_by_upto_of_a_wallet_with_the_token_alone(gate: Running, chain: Chain, node: bool) -> None:
    account = Account.create()
    chain.gas_money(account.address, 0)
    chain.mint(account.address, 10**7)
    asked = ["--rpc", chain.url] if node else []
    said = await gate.run(*arguments(gate, *asked), env={"FAREGATE_PAY_KEY": account.key.hex()})
    assert "Permit2 may not take $1.500 of this wallet yet" in said
    assert ("if it has signed others" in said) is not node
    assert chain.balance(account.address) == 10**7 - CHARGED


async def test_a_job_from_a_balance(gate: Running) -> None:
    bearer = f"Authorization: Bearer {await gate.agent('5.00')}"
    said = await gate.run("pay", gate.url + JOBS, "-d", BODY, "-H", bearer)
    assert "canary-2f7a" in said
    assert "Charged   $0.750 of at most $1.500; $0.750 released" in said
    balance = (await gate.send("GET", "/api/v1/agents/balance", headers=dict([bearer.split(": ")]))).json
    assert (balance["available_usd"], balance["held_usd"]) == ("4.250", "0.000")


async def test_it_is_followed_through_a_crash_of_the_gateway(
    gate: Running, chain: Chain, shop: ScriptedUpstream
) -> None:
    shop.default = reply({"found": "canary-2f7a", "cost_usd": 0.5}, delay_s=1.0)
    had = chain.balance(PAYER.address)
    child, said = await following(gate)
    await shop.arrived(1)
    await gate.kill()
    await gate.start()
    assert await end_of(child) == 0, said.read_text()
    assert "canary-2f7a" in said.read_text()
    assert had - chain.balance(PAYER.address) == CHARGED, "one cheque, cashed once"


async def test_interrupted_it_says_how_to_go_on(gate: Running, chain: Chain, shop: ScriptedUpstream) -> None:
    shop.default = reply({"found": "canary-2f7a", "cost_usd": 0.5}, delay_s=20)
    had = chain.balance(PAYER.address)
    child, said = await following(gate)
    await shop.arrived(1)
    child.kill(signal.SIGINT)
    assert await end_of(child) == 130
    told = said.read_text()
    assert "The job goes on" in told
    asked = re.search(r"^Ask +(\S+)\n +with the header Authorization: Bearer (\S+)$", told, re.MULTILINE)
    assert asked is not None, told
    path, bearer = asked[1].removeprefix(gate.url), {"Authorization": f"Bearer {asked[2]}"}
    assert (await gate.send("GET", path, headers=bearer)).json["status"] == "running"
    assert (await gate.send("DELETE", path, headers=bearer)).status == 200
    ended = await gate.send("GET", path + "?wait=10", headers=bearer)
    assert ended.json["status"] == "cancelled"
    assert chain.balance(PAYER.address) == had


async def test_interrupted_while_it_pays_it_shows_the_payment(
    gate: Running, chain: Chain, shop: ScriptedUpstream
) -> None:
    """Whoever calls again with it hears what became of it, and is charged once."""
    shop.default = reply({"found": "canary-2f7a"}, delay_s=1.0)
    had = chain.balance(PAYER.address)
    said = gate.home / "said"
    argv = ["pay", f"{gate.url}/api/v1/shop/find", "-d", '{"word": "hello"}', "--yes"]
    child = gate.program.start(argv, env=KEY, cwd=gate.home, out=said)
    await shop.arrived(1)
    child.kill(signal.SIGINT)
    assert await end_of(child) == 130
    shown = re.search(r"PAYMENT-SIGNATURE: (\S+)$", said.read_text(), re.MULTILINE)
    assert shown is not None, said.read_text()
    sent = {"Content-Type": "application/json", "PAYMENT-SIGNATURE": shown[1]}

    async def answered() -> bool:
        answer = await gate.send("POST", "/api/v1/shop/find", body=b'{"word": "hello"}', headers=sent)
        return answer.status == 200 and answer.json["billed"]

    await eventually(answered)
    assert (had - chain.balance(PAYER.address), len(shop.seen)) == (330_000, 1)
