"""Operations that settle first, on the real process with a real EVM: official clients pay them unchanged, and whatever
the moment of a death, one payment is one top-up and one charge, and what a failure leaves is on the account, once.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from e2e.test_official_clients import ADA, CUSTOMERS, NOBODY, PATH, moved
from rigs.chain import PAYER_KEYS, Chain
from rigs.newcomer import Newcomer
from rigs.payer import Payer
from rigs.program import Program
from rigs.running import GONE, PRICE, Running, relayed, running
from rigs.upstream import ScriptedUpstream, reply, status

pytestmark = pytest.mark.chain

FIND = "shop/find"
CANARY = "canary-5e1f"
KILLED = -9
BEFORE_IT_CAME = [
    "hold.before", "hold.after", "work.before", "work.after", "record.before", "record.after",
    "settle.before_journal", "settle.after_journal", "settle.after_broadcast", "settle.after_receipt",
    "proven.before",
]  # fmt: skip
ONCE_IT_CAME = [
    "proven.after", "answer.before", "prepaid.before", "prepaid.after", "work.before:2", "work.after:2",
    "record.before:2", "record.after:2", "answer.before:2",
]  # fmt: skip
DONE = ("record.after:2", "answer.before:2")
DEATHS = [(point, "found") for point in (*BEFORE_IT_CAME, *ONCE_IT_CAME)] + [
    (point, "fails") for point in (*BEFORE_IT_CAME, *ONCE_IT_CAME) if point != "answer.before:2"
]
"""A failure has nothing to collect, and is told at once."""


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply({"found": CANARY})) as shop:
        yield shop


@pytest.fixture
async def gate(chain: Chain, program: Program, shop: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    settings = relayed(chain, upstream=shop.port, settle="before")
    async with running(tmp_path, program, settings, started=False) as gate:
        yield gate


async def account(gate: Running, payer: Payer) -> str:
    """What is on the wallet's account, by the newest line of its statement."""
    said = await gate.run("statement", payer.address, "--json", "--limit", "1")
    return said.split('"balance_usd": "')[1].split('"')[0]


@pytest.mark.parametrize(("point", "ending"), DEATHS)
async def test_f030_a_death_at_every_point(
    gate: Running, chain: Chain, shop: ScriptedUpstream, point: str, ending: str
) -> None:
    payer = Payer(PAYER_KEYS[3])
    word = secrets.token_hex(4)
    if ending == "fails":
        shop.default = status(500)
    await gate.start(crash_at=point)
    payment = await gate.sign(payer)
    with pytest.raises(GONE):
        await gate.call(FIND, {"word": word}, payment=payment)
    assert await gate.ended() == KILLED
    runs = len(shop.seen)
    await gate.start()
    assert len(shop.seen) == runs, "nothing is done by itself"
    if ending == "fails":
        failed = await until_told(gate, word, payment)
        assert failed.status in (502, 504), failed
        assert failed.json["details"]["topup"]["account"]["available_usd"] == "0.330"
        assert failed.receipt["success"] is True
        assert await account(gate, payer) == "0.330"
        shop.default = reply({"found": CANARY})
        await gate.stop()  # a breaker may have opened
        await gate.start()
        runs = len(shop.seen)
    answer = await gate.until_paid(FIND, {"word": word}, payment=payment)
    assert answer.json["data"] == {"found": CANARY}
    assert (await gate.call(FIND, {"word": word}, payment=payment)).body == answer.body
    assert len(shop.seen) == runs + (point not in DONE or ending == "fails")
    assert chain.balance(gate.settings.pay_to) == PRICE
    assert await account(gate, payer) == "0.000"
    charged = [charge for charge in await gate.charges() if charge["state"] == "captured"]
    assert [charge["charged_usd"] for charge in charged] == ["0.330"]


async def until_told(gate: Running, word: str, payment: object):
    """The first answer that is not "on its way"."""
    while True:
        answer = await gate.call(FIND, {"word": word}, payment=payment)
        if answer.status not in (202, 503):
            return answer
        await asyncio.sleep(0.05)


async def test_a_wallet_registers_and_spends_what_a_miss_left(
    gate: Running, chain: Chain, shop: ScriptedUpstream
) -> None:
    payer = Payer(PAYER_KEYS[4])
    shop.default = reply({"nothing": True})
    await gate.start()
    missed = await gate.call(FIND, {"word": "hello"}, payment=await gate.sign(payer))
    assert (missed.status, missed.json["billed"]) == (200, False)
    assert missed.json["billing"]["topup"]["account"]["available_usd"] == "0.330"
    agent = (await Newcomer(gate, PAYER_KEYS[4]).register()).json
    shop.default = reply({"found": CANARY})
    found = await gate.call(FIND, {"word": "hello"}, token=agent["token"])
    assert (found.status, found.json["billing"]["charged_usd"]) == (200, "0.330")
    assert chain.balance(gate.settings.pay_to) == PRICE
    told = await gate.send("GET", "/api/v1/agents/statement", headers={"Authorization": f"Bearer {agent['token']}"})
    lines = [(line["kind"], line["amount_usd"]) for line in told.json["movements"] if line["money"] == "own"]
    assert ("joined", "0.330") in lines


@pytest.mark.parametrize("permit2", [False, True], ids=["eip3009", "permit2"])
async def test_official_clients_pay_unchanged(
    chain: Chain, program: Program, directory: Path, tmp_path: Path, permit2: bool
) -> None:
    """A match, and a miss, which leaves the price on the wallet's account."""
    async with running(tmp_path, program, relayed(chain, directory=directory, settle="before")) as gate:
        payers = PAYER_KEYS[: len(CUSTOMERS)]
        for asked, found in ((ADA, True), (NOBODY, False)):
            bought = await asyncio.gather(
                *(pay(gate.url + PATH, asked, key, permit2) for pay, key in zip(CUSTOMERS, payers, strict=True))
            )
            for key, paid in zip(payers, bought, strict=True):
                assert (paid.status, paid.body["matched"], paid.body["billed"]) == (200, found, found)
                assert paid.receipt["success"] is True
                assert moved(chain, paid.receipt["transaction"], Payer(key).address) == PRICE
                topup = paid.body["billing"]["topup"]
                assert topup["account"]["available_usd"] == ("0.000" if found else "0.330")
                assert topup["settlement"]["transaction"] == paid.receipt["transaction"]
        assert chain.balance(gate.settings.pay_to) == 2 * PRICE * len(CUSTOMERS)
