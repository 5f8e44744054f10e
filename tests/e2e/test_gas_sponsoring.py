"""A payer with Circle's real token and nothing else, no native gas and no approval of Permit2, pays by Permit2: the
official clients sign a permit beside their payment, and the gateway's relayer takes both to the chain at once.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from e2e.test_official_clients import ADA, PATH, by_node, by_permit2
from eth_account import Account
from eth_utils import function_signature_to_4byte_selector
from rigs.chain import PERMIT2, USDC, Chain
from rigs.payer import Payer, permit_arguments
from rigs.program import Program
from rigs.running import PRICE, Running, relayed, running
from x402 import x402Client
from x402.http.clients import wrapHttpxWithPayment
from x402.mechanisms.evm.exact.register import register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC

pytestmark = pytest.mark.chain


@pytest.fixture
async def gate(chain: Chain, program: Program, directory: Path, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, program, relayed(chain, directory=directory)) as gate:
        yield gate


def poor(chain: Chain) -> Any:
    """An account with the token alone."""
    account = Account.create()
    chain.gas_money(account.address, 0)
    chain.mint(account.address, 10**7)
    return account


def allowance(chain: Chain, owner: str) -> int:
    return int(chain.call(USDC, "allowance(address,address)", owner, PERMIT2))


def approve(chain: Chain, owner: str, amount: int) -> None:
    chain.gas_money(owner, 10**18)
    chain.approve_permit2(owner, amount=amount)
    chain.gas_money(owner, 0)


def sent_with_permits(gate: Running, chain: Chain) -> list[bool]:
    """Of our relayer's transactions, oldest first: whether each called settleWithPermit of a proxy itself."""
    found = []
    for number in range(chain.height + 1):
        block = chain.rpc("eth_getBlockByNumber", hex(number), True)
        for transaction in block["transactions"]:
            if transaction["from"] == gate.settings.relayer.lower():
                found.append(transaction["input"].startswith(SETTLE_WITH_PERMIT))
    return found


SETTLE_WITH_PERMIT = (
    "0x"
    + function_signature_to_4byte_selector(
        "settleWithPermit((uint256,uint256,bytes32,bytes32,uint8),((address,uint256),uint256,uint256),address,"
        "(address,uint256),bytes)"
    ).hex()
)


async def by_httpx(url: str, account: Any, chain: Chain) -> tuple[int, Any]:
    signer = EthAccountSignerWithRPC(account, rpc_url=chain.url)
    client = register_exact_evm_client(x402Client(), signer, policies=[by_permit2])
    async with wrapHttpxWithPayment(client, trust_env=False) as http:
        response = await http.post(url, json=ADA)
    return response.status_code, response.json()


def node(client: str) -> Any:
    async def pay(url: str, account: Any, chain: Chain) -> tuple[int, Any]:
        key = "0x" + account.key.hex()
        told = await by_node(client=client, url=url, body=ADA, key=key, permit2=True, rpc=chain.url)
        return told["status"], told["body"]

    return pay


@pytest.mark.parametrize("pay", [by_httpx, node("fetch"), node("axios")], ids=["httpx", "fetch", "axios"])
async def test_official_clients_pay_without_gas_and_without_an_approval(gate: Running, chain: Chain, pay: Any) -> None:
    """Twice: the permit covers one payment, the second needs the next one."""
    account = poor(chain)
    for bought in (1, 2):
        status, body = await pay(gate.url + PATH, account, chain)
        assert status == 200, body
        assert "Testerman" in json.dumps(body)
        assert chain.balance(account.address) == 10**7 - bought * PRICE
        assert chain.gas_money(account.address) == 0
        assert allowance(chain, account.address) == 0
    assert [charge["state"] for charge in await gate.charges()] == ["settled"] * 2
    assert sent_with_permits(gate, chain) == [True, True]


async def test_who_has_approved_permit2_signs_no_permit(gate: Running, chain: Chain) -> None:
    account = poor(chain)
    approve(chain, account.address, 10**6)
    status, body = await by_httpx(gate.url + PATH, account, chain)
    assert status == 200, body
    assert allowance(chain, account.address) == 10**6 - PRICE


async def test_f069_a_permit_somebody_submitted_first_pays_all_the_same(gate: Running, chain: Chain) -> None:
    account = poor(chain)
    offered = (await gate.call("enrich/phone", ADA)).offer["accepts"]
    (asked,) = by_permit2(2, [type("Offer", (), {**each, "wire": each})() for each in offered])
    payment = Payer(account.key).sponsored(asked.wire)
    permit = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
    stranger = Account.create().address
    chain.gas_money(stranger, 10**18)
    chain.do(stranger, USDC, permit, *permit_arguments(payment))
    paid = await gate.call("enrich/phone", ADA, payment=payment)
    assert paid.status == 200, paid.json
    (charge,) = await gate.charges()
    assert charge["state"] == "settled"
    assert sent_with_permits(gate, chain) == [False], "what is allowed already needs no permit"
    assert chain.balance(account.address) == 10**7 - PRICE


@pytest.mark.parametrize("node", [True, False], ids=["told by a node", "told by a 412"])
async def test_our_own_client_says_so_and_signs_a_permit(gate: Running, chain: Chain, node: bool) -> None:
    account = poor(chain)
    asked = ["--rpc", chain.url] if node else []
    key = {"FAREGATE_PAY_KEY": account.key.hex()}
    said = await gate.run("pay", gate.url + PATH, "-d", json.dumps(ADA), "--by", "permit2", "--yes", *asked, env=key)
    assert "Testerman" in said
    assert "a permit for just that" in said
    assert chain.balance(account.address) == 10**7 - PRICE
    if node:
        approve(chain, account.address, 10**7)
        said = await gate.run(
            "pay", gate.url + PATH, "-d", json.dumps(ADA), "--by", "permit2", "--yes", *asked, env=key
        )
        assert "a permit for just that" not in said
