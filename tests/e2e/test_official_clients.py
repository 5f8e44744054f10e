"""The main job on real input: official clients, unchanged, pay the gateway on a real EVM node with Circle's real token
and Uniswap's real Permit2, and get data from a directory that was loaded from a CSV file.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
import requests
from eth_account import Account
from eth_utils import keccak
from rigs.chain import HERE, NETWORK, PAYER_KEYS, Chain
from rigs.payer import Payer
from rigs.program import Program
from rigs.running import PRICE, Running, relayed, running
from x402 import x402Client, x402ClientSync
from x402.http import decode_payment_response_header
from x402.http.clients import wrapHttpxWithPayment, wrapRequestsWithPayment
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme
from x402.mechanisms.evm.exact.register import register_exact_evm_client
from x402.mechanisms.evm.signers import FacilitatorWeb3Signer
from x402.schemas import PaymentPayload, PaymentRequirements

pytestmark = pytest.mark.chain

ADA = {"phone": "(206) 555-0110"}
NOBODY = {"phone": "+12065550199"}
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
PATH = "/api/v1/enrich/phone"


@pytest.fixture
async def gate(chain: Chain, program: Program, directory: Path, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, program, relayed(chain, directory=directory)) as gate:
        yield gate


@dataclass
class Paid:
    status: int
    body: Any
    receipt: Any
    """PAYMENT-RESPONSE, decoded by the client's own library."""


Customer = Callable[[str, Any, bytes, bool], Awaitable[Paid]]
"""(url, body, key, by Permit2) -> what the customer got."""


def by_permit2(version: int, offers: list[Any]) -> list[Any]:
    return [offer for offer in offers if (offer.extra or {}).get("assetTransferMethod") == "permit2"]


async def httpx_client(url: str, body: Any, key: bytes, permit2: bool) -> Paid:
    client = register_exact_evm_client(x402Client(), Account.from_key(key), policies=[by_permit2] if permit2 else None)
    async with wrapHttpxWithPayment(client, trust_env=False) as http:
        response = await http.post(url, json=body)
    return told(response)


async def requests_client(url: str, body: Any, key: bytes, permit2: bool) -> Paid:
    client = register_exact_evm_client(
        x402ClientSync(), Account.from_key(key), policies=[by_permit2] if permit2 else None
    )

    def post() -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return wrapRequestsWithPayment(session, client).post(url, json=body)

    response = await asyncio.to_thread(post)
    return told(response)


def told(response: httpx.Response | requests.Response) -> Paid:
    receipt = response.headers.get("PAYMENT-RESPONSE")
    decoded = decode_payment_response_header(receipt).model_dump(by_alias=True, exclude_none=True) if receipt else None
    return Paid(response.status_code, response.json(), decoded)


def node(client: str) -> Customer:
    async def pay(url: str, body: Any, key: bytes, permit2: bool) -> Paid:
        return Paid(**await by_node(client=client, url=url, body=body, key="0x" + key.hex(), permit2=permit2))

    pay.__name__ = client
    return pay


async def by_node(**asked: Any) -> Any:
    """What tests/chain/pay.mjs says."""
    process = await asyncio.create_subprocess_exec(
        "node", "pay.mjs", cwd=HERE, env={"PATH": os.environ["PATH"]},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complaint = await process.communicate(json.dumps(asked).encode())
    assert process.returncode == 0, complaint.decode()
    return json.loads(said)


def moved(chain: Chain, transaction: str, payer: str) -> int:
    """What the transaction's Transfers took from this payer."""
    receipt = chain.receipt(transaction)
    assert receipt is not None
    assert receipt["status"] == "0x1"
    taken = [TRANSFER, "0x" + payer[2:].lower().rjust(64, "0")]
    return sum(int(log["data"], 16) for log in receipt["logs"] if log["topics"][:2] == taken)


CUSTOMERS = [httpx_client, requests_client, node("fetch"), node("axios")]


@pytest.mark.parametrize("permit2", [False, True], ids=["eip3009", "permit2"])
async def test_official_clients_pay_unchanged(gate: Running, chain: Chain, permit2: bool) -> None:
    """All four, at once. Default spend controls, the price is what moves, and each learns who lives there."""
    payers = PAYER_KEYS[: len(CUSTOMERS)]
    before = [chain.balance(Payer(key).address) for key in payers]
    bought = await asyncio.gather(
        *(pay(gate.url + PATH, ADA, key, permit2) for pay, key in zip(CUSTOMERS, payers, strict=True))
    )
    for pay, key, had, paid in zip(CUSTOMERS, payers, before, bought, strict=True):
        payer = Payer(key).address
        assert paid.status == 200, (pay.__name__, paid)
        (person,) = paid.body["data"]["people"]
        assert "Testerman" in json.dumps(person)
        assert (paid.body["matched"], paid.body["billed"]) == (True, True)
        assert had - chain.balance(payer) == PRICE
        assert paid.receipt["success"] is True
        assert paid.receipt["network"] == NETWORK
        assert paid.receipt["payer"].lower() == payer.lower()
        assert paid.receipt["amount"] == str(PRICE)
        assert moved(chain, paid.receipt["transaction"], payer) == PRICE
    assert chain.balance(gate.settings.pay_to) == PRICE * len(CUSTOMERS)
    assert {charge["state"] for charge in await gate.charges()} == {"settled"}
    await _each_has_echoed_its_own_402(gate, [paid.body for paid in bought])


async def _each_has_echoed_its_own_402(gate: Running, answers: list[Any]) -> None:
    """Every payment had the extensions of the 402 it paid, with the repeat key that nobody else was given: so the very
    same call again gets the same answer, though its payment is public by now. What is kept of a payment is less; put
    together with the 402 it is the very payment, or it would not be known."""
    payments = {asked["payload"]["signature"]: asked for asked in kept_payments(gate)}
    required = await gate.required("enrich/phone")
    again, keys = [], set()
    for kept in payments.values():
        key = kept["extensions"]["repeat-key"]["info"]["key"]
        keys.add(key)
        own = {**required["extensions"]["repeat-key"], "info": {"key": key}}
        payment = {
            **kept,
            "resource": required["resource"],
            "extensions": {**required["extensions"], **kept["extensions"], "repeat-key": own},
        }
        replayed = await gate.call("enrich/phone", ADA, payment=payment)
        assert (replayed.status, replayed.headers["Idempotent-Replay"]) == (200, "true")
        again.append(replayed.json)
    assert len(keys) == len(CUSTOMERS)
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key in keys)
    assert sorted(again, key=json.dumps) == sorted(answers, key=json.dumps)


def kept_payments(gate: Running) -> list[Any]:
    """Every PaymentPayload in the gateway's memory."""
    with closing(apsw.Connection(str(gate.home / "gate.db"), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        return [json.loads(payment) for (payment,) in db.execute("SELECT payment FROM payments")]


async def test_a_miss_costs_nothing(gate: Running, chain: Chain) -> None:
    keys = PAYER_KEYS[: len(CUSTOMERS)]
    had = [chain.balance(Payer(key).address) for key in keys]
    for missed in await asyncio.gather(
        *(pay(gate.url + PATH, NOBODY, key, False) for pay, key in zip(CUSTOMERS, keys, strict=True))
    ):
        assert missed.status == 200
        assert (missed.body["matched"], missed.body["billed"]) == (False, False)
        assert missed.receipt is None
    assert [chain.balance(Payer(key).address) for key in keys] == had
    assert chain.balance(gate.settings.pay_to) == 0


async def test_as_it_is_installed(
    chain: Chain, installed: Program, directory: Path, tmp_path: Path, payers: list[Payer]
) -> None:
    """The command itself, with only Permit2 on offer: a client takes what there is."""
    settings = relayed(chain, directory=directory, methods='["permit2"]')
    async with running(tmp_path, installed, settings) as gate:
        paid = await httpx_client(gate.url + PATH, ADA, payers[5].key, False)
        assert paid.status == 200
        assert chain.balance(settings.pay_to) == PRICE
        assert await gate.stop() == 0


@pytest.mark.parametrize("by", ["eip3009", "permit2"])
async def test_our_own_client_pays_and_the_official_facilitator_agrees(
    gate: Running, chain: Chain, tmp_path: Path, payers: list[Payer], by: str
) -> None:
    """`faregate pay` against the gateway; and what it signs is valid for the official SDK's facilitator on chain."""
    payer, had = payers[6], chain.balance(payers[6].address)
    key = {"FAREGATE_PAY_KEY": payer.key.hex()}
    said = await gate.run("pay", gate.url + PATH, "-d", json.dumps(ADA), "--by", by, "--yes", env=key)
    assert "Testerman" in said
    assert '"success": true' in said
    assert had - chain.balance(payer.address) == PRICE

    (kept,) = kept_payments(gate)
    assert set(kept) == {"x402Version", "accepted", "payload", "extensions"}, "none of a client's own words is kept"
    assert set(kept["extensions"]) == {"eip2612GasSponsoring", "repeat-key"}
    signed = await _what_it_signs(gate, by, key)
    facilitator = ExactEvmScheme(FacilitatorWeb3Signer(private_key=Account.create().key.hex(), rpc_url=chain.url))
    requirements = PaymentRequirements.model_validate(signed["accepted"])
    verdict = await asyncio.to_thread(facilitator.verify, PaymentPayload.model_validate(signed), requirements)
    assert verdict.is_valid, verdict
    assert verdict.payer.lower() == payer.address.lower()
    spoilt = {**signed, "payload": {**signed["payload"], "signature": "0x" + "11" * 65}}
    verdict = await asyncio.to_thread(facilitator.verify, PaymentPayload.model_validate(spoilt), requirements)
    assert not verdict.is_valid


async def _what_it_signs(gate: Running, by: str, key: dict[str, str]) -> Any:
    """The payment our client sends to a shop with the same offer, which keeps it instead of taking it."""
    import base64

    from rigs.upstream import ScriptedUpstream, reply

    offer = (await gate.call("enrich/phone", ADA)).headers["PAYMENT-REQUIRED"]
    async with ScriptedUpstream() as shop:
        shop.on("/", reply({}, status=402, headers={"PAYMENT-REQUIRED": offer}), reply({"kept": True}))
        await gate.run("pay", shop.url("/"), "--by", by, "--yes", env=key)
        header = shop.seen[1].header("payment-signature")
    assert header is not None
    return json.loads(base64.b64decode(header))
