"""What becomes of a paid call when the chain, its node, its facilitator or its payer fails: through the whole gateway.

Three answers and no others: 503 with nothing claimed, before the work; 202 with nothing released, when nobody knows;
402 SETTLEMENT_FAILED, when it can never be paid. CANARY is in every answer of the vendor: wherever it is seen, a
result was released.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from eth_abi import encode
from eth_account import Account
from rigs import facilitator, rpc
from rigs.chain import PAYER_KEYS, USDC, Chain, calldata
from rigs.facilitator import FacilitatorServer, call_of
from rigs.gate import Reply, header
from rigs.payer import Payer, echoing
from rigs.program import Program
from rigs.rpc import RpcProxy
from rigs.running import PRICE, Configuration, Running, eventually, facilitated, free_port, offered, relayed, running
from rigs.stranger import rebuilt
from rigs.upstream import ScriptedUpstream, Seen, Wire, reply
from x402 import x402Client
from x402.http.clients import wrapHttpxWithPayment
from x402.mechanisms.evm.exact.register import register_exact_evm_client

pytestmark = pytest.mark.chain

CANARY = "canary-41b7"
HELLO = {"word": "hello"}
FIND = "shop/find"
PAYER, PAYER_2 = Payer(PAYER_KEYS[2]), Payer(PAYER_KEYS[3])
METHODS = pytest.mark.parametrize("method", ["eip3009", "permit2"])
STRANGER = "0x00000000000000000000000000000000005742a9"

Open = Callable[[Configuration], AbstractAsyncContextManager[Running]]


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply({"found": CANARY})) as shop:
        yield shop


@pytest.fixture
async def node(chain: Chain) -> AsyncIterator[RpcProxy]:
    async with RpcProxy(chain.url) as node:
        yield node


@pytest.fixture
def open(program: Program, tmp_path: Path) -> Open:
    return lambda settings: running(tmp_path, program, settings)


def releases_nothing(answer: Reply) -> bool:
    return CANARY.encode() not in answer.body and CANARY not in str(answer.headers)


def is_pending(answer: Reply) -> bool:
    """202, and never a fresh challenge: a client would pay again."""
    return (
        answer.status == 202
        and answer.json["code"] == "SETTLEMENT_PENDING"
        and "PAYMENT-REQUIRED" not in answer.headers
        and answer.receipt["errorReason"] == "settlement_pending"
        and releases_nothing(answer)
    )


def is_refused(answer: Reply) -> bool:
    """409, with nothing of the charge: no result, no id, no fresh token."""
    return (
        (answer.status, answer.json["code"]) == (409, "PAYMENT_ALREADY_USED")
        and "X-Charge-Token" not in answer.headers
        and b"chg_" not in answer.body
        and releases_nothing(answer)
    )


async def fetched(gate: Running, bought: Reply) -> Any:
    """What the charge token of an answer opens; None while there is nothing."""
    where, token = f"/api/v1/charges/{bought.headers['X-Charge-Id']}", bought.headers["X-Charge-Token"]
    result = (await gate.send("GET", where, headers={"X-Charge-Token": token})).json["result"]
    return result["data"] if result else None


async def refuses_without_a_claim(gate: Running, shop: ScriptedUpstream, payment: Any) -> None:
    """The price is still told, agents still buy from their balance, a payment is left alone."""
    assert (await gate.call(FIND, HELLO)).status == 402
    answer = await gate.call(FIND, HELLO, payment=payment)
    assert answer.status == 503
    assert answer.json["code"] == "SETTLEMENT_UNAVAILABLE"
    assert int(answer.headers["Retry-After"]) > 0
    assert await gate.charges() == []
    assert shop.seen == []
    assert (await gate.call(FIND, HELLO, token=await gate.agent("1.00"))).status == 200
    shop.seen.clear()


def during_the_work(shop: ScriptedUpstream, happening: Callable[[], object]) -> None:
    """The vendor's next answer waits until this has happened, so payment and work are under way."""
    answer = reply({"found": CANARY})

    async def behave(request: Seen, wire: Wire) -> None:
        await asyncio.to_thread(happening)
        await answer(request, wire)

    shop.on("/find", behave, answer)


@asynccontextmanager
async def no_blocks(chain: Chain) -> AsyncIterator[None]:
    chain.automine(False)
    try:
        yield
    finally:
        chain.automine(True)
        chain.mine()


# group C: the chain and its node


@pytest.mark.parametrize(
    ("asked", "trouble"),
    [
        pytest.param("*", rpc.refuse, id="refused"),
        pytest.param("eth_call", rpc.delay(30), id="slow"),
        pytest.param("*", rpc.answering("eth_chainId", "0x1"), id="of another chain"),
        pytest.param("*", rpc.html, id="html"),
        pytest.param("*", rpc.status(429), id="429"),
        pytest.param("*", rpc.truncated, id="half a batch"),
    ],
)
async def test_a_node_of_no_use(
    open: Open, chain: Chain, node: RpcProxy, shop: ScriptedUpstream, asked: str, trouble: rpc.Behaviour
) -> None:
    """F-042, and from the start on: it opens all the same, and is well when the node is."""
    node.on(asked, trouble)
    async with open(relayed(chain, rpc=node.url, upstream=shop.port)) as gate:
        payment = await gate.sign(PAYER)
        await refuses_without_a_claim(gate, shop, payment)
        node.heal()
        bought = await gate.until_paid(FIND, HELLO, payment=payment)
        assert bought.json["data"] == {"found": CANARY}
        assert chain.balance(gate.settings.pay_to) == PRICE
        assert len(shop.seen) == 1


async def test_f184_a_slow_node_slows_nobody_else(
    open: Open, chain: Chain, node: RpcProxy, shop: ScriptedUpstream
) -> None:
    """Payments wait for a node that takes two seconds; whoever does not need it is answered as always."""
    async with open(relayed(chain, rpc=node.url, upstream=shop.port, wait_s=20)) as gate:
        token = await gate.agent("100.00")
        await gate.call(FIND, HELLO, token=token)
        payments = [await gate.sign(Payer(key)) for key in PAYER_KEYS for _ in range(5)]
        node.on("*", rpc.delay(2))
        paying = [asyncio.create_task(gate.call(FIND, HELLO, payment=payment)) for payment in payments]
        took = []
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            for path in ("/healthz", "/pricing"):
                began = time.monotonic()
                assert (await gate.send("GET", path)).status == 200
                took.append(time.monotonic() - began)
            began = time.monotonic()
            assert (await gate.call(FIND, HELLO, token=token)).status == 200
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.02)
        assert not any(task.done() for task in paying)
        took.sort()
        assert took[int(len(took) * 0.99)] < 1, "two seconds of the node's are two of everybody's"
        await gate.kill()
        await asyncio.gather(*paying, return_exceptions=True)


async def test_f022_the_node_is_gone_between_check_and_broadcast(
    open: Open, chain: Chain, node: RpcProxy, shop: ScriptedUpstream
) -> None:
    async with open(relayed(chain, rpc=node.url, upstream=shop.port, wait_s=1)) as gate:
        payments = [await gate.sign(PAYER, method=method) for method in ("eip3009", "permit2")]
        checked = asyncio.Barrier(2)

        async def behave(request: Seen, wire: Wire) -> None:
            await checked.wait()
            node.on("*", rpc.refuse)
            await reply({"found": CANARY})(request, wire)

        shop.on("/find", behave)
        answers = await asyncio.gather(*(gate.call(FIND, HELLO, payment=payment) for payment in payments))
        assert all(is_pending(answer) for answer in answers)
        assert chain.balance(gate.settings.pay_to) == 0
        node.heal()
        for payment in payments:
            assert (await gate.until_paid(FIND, HELLO, payment=payment)).json["data"] == {"found": CANARY}
        assert chain.balance(gate.settings.pay_to) == PRICE * 2
        assert len(shop.seen) == 2


@METHODS
async def test_f022_the_broadcast_went_well_and_nobody_heard(
    open: Open, chain: Chain, node: RpcProxy, shop: ScriptedUpstream, method: str
) -> None:
    async with open(relayed(chain, rpc=node.url, upstream=shop.port, wait_s=1)) as gate:
        payment = await gate.sign(PAYER, method=method)
        node.on("eth_sendRaw", rpc.lose_reply)
        answer = await gate.call(FIND, HELLO, payment=payment)
        assert answer.status == 200 or is_pending(answer)
        assert (await gate.until_paid(FIND, HELLO, payment=payment)).status == 200
        assert chain.balance(gate.settings.pay_to) == PRICE
        assert len(shop.seen) == 1


async def test_f022_an_official_client_does_not_pay_twice_for_a_stopped_chain(
    open: Open, chain: Chain, shop: ScriptedUpstream
) -> None:
    async with open(relayed(chain, upstream=shop.port, wait_s=1)) as gate:
        client = register_exact_evm_client(x402Client(), Account.from_key(PAYER.key))
        async with no_blocks(chain), wrapHttpxWithPayment(client, trust_env=False) as http:
            pending = await http.post(f"{gate.url}/api/v1/{FIND}", json=HELLO)
            assert pending.status_code == 202
            assert CANARY not in pending.text
        told, token = pending.json()["status_url"], {"X-Charge-Token": pending.headers["X-Charge-Token"]}

        async def fetched() -> Any:
            return (await gate.send("GET", told, headers=token)).json["result"]

        assert (await eventually(fetched))["data"] == {"found": CANARY}
        assert chain.balance(gate.settings.pay_to) == PRICE
        assert len(await gate.charges()) == 1


async def test_f043_a_relayer_without_gas_money(open: Open, chain: Chain, shop: ScriptedUpstream) -> None:
    async with open(relayed(chain, upstream=shop.port, gas_wei=0)) as gate:
        payment = await gate.sign(PAYER)
        await refuses_without_a_claim(gate, shop, payment)
        assert (await gate.metrics())['faregate_alarm{name="relayer_funds_low"}'] == 1
        chain.gas_money(gate.settings.relayer, 10**18)
        assert (await gate.until_paid(FIND, HELLO, payment=payment)).status == 200
        assert chain.balance(gate.settings.pay_to) == PRICE


@METHODS
async def test_f046_somebody_else_submits_it_first(
    open: Open, chain: Chain, shop: ScriptedUpstream, method: str
) -> None:
    """What he pays us counts, once, and the payer is served."""
    chain.gas_money(STRANGER, 10**21)
    async with open(relayed(chain, upstream=shop.port)) as gate:
        payment = await gate.sign(PAYER, method=method)
        sent: list[str] = []
        during_the_work(shop, lambda: sent.append(chain.send(STRANGER, *call_of(payment), gas=hex(500_000))))
        bought = await gate.until_paid(FIND, HELLO, payment=payment)
        assert bought.json["data"] == {"found": CANARY}
        assert [bought.receipt["transaction"]] == sent
        assert chain.balance(gate.settings.pay_to) == PRICE
        assert chain.nonce(gate.settings.relayer) == 0


@METHODS
async def test_f001_a_stranger_with_a_mined_payment_gets_nothing(
    open: Open, chain: Chain, shop: ScriptedUpstream, method: str
) -> None:
    """All that was signed stands in public calldata, all else but the repeat key in anybody's 402, and he knows the
    call. The payer himself is answered, after a crash too."""
    async with open(relayed(chain, upstream=shop.port)) as gate:
        payment = await gate.sign(PAYER, method=method)
        bought = await gate.call(FIND, HELLO, payment=payment)
        assert bought.status == 200
        required = await gate.required()
        bare = rebuilt(chain, bought.receipt["transaction"], offered(required, method))
        assert bare == {name: payment[name] for name in bare}, "he has all of that"
        echo = {**payment["extensions"], "repeat-key": {"info": {"key": "0" * 32}}}
        for made in (bare, echoing(bare, required), {**echoing(bare, required), "extensions": echo}):
            for _ in range(2):
                assert is_refused(await gate.call(FIND, HELLO, payment=made))
                assert is_refused(await gate.call(FIND, {"word": "guess"}, payment=made))
        for restarted in (False, True):
            if restarted:
                await gate.kill()
                await gate.start()
            again = await gate.call(FIND, HELLO, payment=payment)
            assert (again.status, again.body) == (200, bought.body)
            assert again.headers["Idempotent-Replay"] == "true"
        assert await fetched(gate, bought) == {"found": CANARY}
        assert len(shop.seen) == 1


@METHODS
async def test_f001_of_a_payment_without_a_secret_the_stranger_has_every_byte(
    open: Open, chain: Chain, shop: ScriptedUpstream, method: str
) -> None:
    """Once it is sent, its charge answers to its token alone; whether he knows the call is not for him to hear."""
    async with open(relayed(chain, upstream=shop.port)) as gate:
        payment = await gate.sign(PAYER, method=method, echo=False)
        bought = await gate.call(FIND, HELLO, payment=payment)
        assert bought.status == 200
        public = rebuilt(chain, bought.receipt["transaction"], await gate.offer(FIND, method))
        assert header(public) == header(payment)
        for restarted in (False, True):
            if restarted:
                await gate.kill()
                await gate.start()
            right, wrong = [await gate.call(FIND, {"word": word}, payment=public) for word in ("hello", "guess")]
            assert is_refused(right)
            assert {**right.json, "request_id": 0} == {**wrong.json, "request_id": 0}
            assert await fetched(gate, bought) == {"found": CANARY}
        assert len(shop.seen) == 1


@METHODS
async def test_f001_a_payment_without_a_secret_in_the_pool(
    open: Open, chain: Chain, shop: ScriptedUpstream, method: str
) -> None:
    """Broadcast is public: whoever watches the pool needs no block."""
    async with open(relayed(chain, upstream=shop.port, wait_s=1)) as gate:
        payment, known = await gate.sign(PAYER, method=method, echo=False), await gate.sign(PAYER_2, method=method)
        async with no_blocks(chain):
            bought, theirs = [await gate.call(FIND, HELLO, payment=each) for each in (payment, known)]
            assert is_pending(bought)
            assert is_pending(theirs)
            assert "charge token" in bought.json["details"]["hint"]
            assert is_refused(await gate.call(FIND, HELLO, payment=payment))
            assert is_pending(await gate.call(FIND, HELLO, payment=known))
        assert (await gate.until_paid(FIND, HELLO, payment=known)).json["data"] == {"found": CANARY}

        async def ended() -> Any:
            return await fetched(gate, bought)

        assert await eventually(ended) == {"found": CANARY}
        assert is_refused(await gate.call(FIND, HELLO, payment=payment))


@pytest.mark.parametrize("settling", [facilitator.settle_and_break, facilitator.settle_honestly])
async def test_f001_a_facilitator_sends_when_it_likes(
    open: Open, chain: Chain, shop: ScriptedUpstream, settling: facilitator.Behaviour
) -> None:
    """What it was given does not count as unseen, though we have not seen anything."""
    async with FacilitatorServer(chain) as fac, open(facilitated(chain, fac.url, upstream=shop.port, wait_s=1)) as gate:
        fac.settling = settling
        payment, known = await gate.sign(PAYER, echo=False), await gate.sign(PAYER_2)
        async with no_blocks(chain):
            bought = await gate.until_answered(FIND, HELLO, payment=payment)
            assert is_pending(bought)
            assert is_refused(await gate.call(FIND, HELLO, payment=payment))
        assert is_refused(await gate.call(FIND, HELLO, payment=payment))
        paid = await gate.until_paid(FIND, HELLO, payment=known)
        assert paid.json["data"] == {"found": CANARY}
        assert known["extensions"]["repeat-key"]["info"]["key"].encode() not in b"".join(r.body for r in fac.requests)

        async def ended() -> Any:
            return await fetched(gate, bought)

        assert await eventually(ended) == {"found": CANARY}


@METHODS
async def test_f001_after_three_guesses_with_the_very_payment_nobody_is_asked_again(
    open: Open, chain: Chain, shop: ScriptedUpstream, method: str
) -> None:
    async with open(relayed(chain, upstream=shop.port)) as gate:
        payment = await gate.sign(PAYER, method=method)
        bought = await gate.call(FIND, HELLO, payment=payment)
        for word in ("guess", "guesses", "guessing"):
            assert is_refused(await gate.call(FIND, {"word": word}, payment=payment))
        assert is_refused(await gate.call(FIND, HELLO, payment=payment))
        assert await fetched(gate, bought) == {"found": CANARY}
        assert len(shop.seen) == 1


async def test_f047_a_cancelled_authorization_is_used_and_not_paid(
    open: Open, chain: Chain, shop: ScriptedUpstream
) -> None:
    """By what it was used is sure only at depth; until then it is pending, and then it has failed."""
    async with open(relayed(chain, upstream=shop.port, wait_s=1)) as gate:
        payment = await gate.sign(PAYER)
        cancel = "cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)"
        during_the_work(shop, lambda: chain.do(PAYER.address, USDC, cancel, *PAYER.cancel(payment)))
        assert is_pending(await gate.call(FIND, HELLO, payment=payment))
        chain.mine(12)

        async def ended() -> Reply | None:
            answer = await gate.call(FIND, HELLO, payment=payment)
            assert releases_nothing(answer)
            return None if is_pending(answer) else answer

        failed = await eventually(ended)
        assert (failed.status, failed.json["code"]) == (402, "SETTLEMENT_FAILED")
        assert failed.receipt["success"] is False
        assert chain.balance(gate.settings.pay_to) == 0
        (charge,) = await gate.charges()
        assert (charge["state"], charge["charged_usd"]) == ("unpaid", "0.000")


async def test_a_payer_who_spends_it_meanwhile(open: Open, chain: Chain, shop: ScriptedUpstream) -> None:
    """F-025, F-031: withheld; a new payment for the same request gets the kept result without new work."""
    payer = Payer(Account.create().key)
    chain.mint(payer.address, PRICE)
    chain.gas_money(payer.address, 10**18)
    async with open(relayed(chain, upstream=shop.port)) as gate:
        payment = await gate.sign(payer)
        during_the_work(shop, lambda: chain.do(payer.address, USDC, "transfer(address,uint256)", STRANGER, PRICE))
        failed = await gate.call(FIND, HELLO, payment=payment)
        assert failed.status == 402
        assert failed.json["code"] == "SETTLEMENT_FAILED"
        assert releases_nothing(failed)
        chain.mint(payer.address, PRICE)
        again = await gate.call(FIND, HELLO, payment=payment)
        assert again.status == 402, "it was given up for good: his money is not taken after all"
        assert releases_nothing(again)
        assert chain.balance(payer.address) == PRICE
        bought = await gate.call(FIND, HELLO, payment=await gate.sign(payer))
        assert bought.status == 200
        assert bought.json["data"] == {"found": CANARY}
        assert len(shop.seen) == 1
        assert chain.balance(gate.settings.pay_to) == PRICE


# group D: somebody else settles


@pytest.mark.parametrize(
    "state",
    ["down", *(pytest.param(state, marks=pytest.mark.full) for state in ("429", "500", "hanging"))],
)
async def test_f051_a_facilitator_of_no_use_at_the_start(
    open: Open, chain: Chain, shop: ScriptedUpstream, state: str
) -> None:
    async with FacilitatorServer(chain) as fac:
        bad = {"hanging": facilitator.hang, "429": facilitator.busy, "500": facilitator.broken}.get(state)
        if bad is not None:
            fac.supporting = fac.verifying = fac.settling = bad
        url = fac.url if bad is not None else f"http://127.0.0.1:{free_port()}"
        async with open(facilitated(chain, url, upstream=shop.port)) as gate:
            payment = await gate.sign(PAYER)
            await refuses_without_a_claim(gate, shop, payment)
            if bad is None:
                return
            fac.supporting, fac.verifying = facilitator.say_supported, facilitator.say_valid
            fac.settling = facilitator.settle_honestly
            assert (await gate.until_paid(FIND, HELLO, within_s=40, payment=payment)).status == 200
            assert chain.balance(gate.settings.pay_to) == PRICE


@METHODS
async def test_an_honest_facilitator(open: Open, chain: Chain, shop: ScriptedUpstream, method: str) -> None:
    async with FacilitatorServer(chain) as fac, open(facilitated(chain, fac.url, upstream=shop.port)) as gate:
        payment = await gate.sign(PAYER, method=method)
        bought = await gate.until_paid(FIND, HELLO, payment=payment)
        assert bought.json["data"] == {"found": CANARY}
        assert [bought.receipt["transaction"]] == fac.sent
        assert chain.balance(gate.settings.pay_to) == PRICE


@pytest.mark.parametrize(
    "settling",
    [facilitator.slowly(1.2, facilitator.settle_honestly), facilitator.settle_and_break],
    ids=["slow", "breaks afterwards"],
)
async def test_f022_a_facilitator_that_leaves_us_in_the_dark(
    open: Open, chain: Chain, shop: ScriptedUpstream, settling: facilitator.Behaviour
) -> None:
    async with FacilitatorServer(chain) as fac, open(facilitated(chain, fac.url, upstream=shop.port, wait_s=1)) as gate:
        fac.settling = settling
        payment = await gate.sign(PAYER)
        answer = await gate.until_answered(FIND, HELLO, payment=payment)
        assert answer.status == 200 or is_pending(answer)
        assert (await gate.until_paid(FIND, HELLO, payment=payment)).json["data"] == {"found": CANARY}
        assert chain.balance(gate.settings.pay_to) == PRICE
        assert len(shop.seen) == 1


async def test_f021_success_false_with_http_200(open: Open, chain: Chain, shop: ScriptedUpstream) -> None:
    async with FacilitatorServer(chain) as fac, open(facilitated(chain, fac.url, upstream=shop.port)) as gate:
        fac.settling = facilitator.refuse_to_settle
        answer = await gate.until_answered(FIND, HELLO, payment=await gate.sign(PAYER))
        assert answer.status == 402
        assert answer.json["code"] == "SETTLEMENT_FAILED"
        assert releases_nothing(answer)
        assert chain.balance(gate.settings.pay_to) == 0


async def test_f054_success_with_a_wrong_hash(open: Open, chain: Chain, shop: ScriptedUpstream) -> None:
    """Invented, reverted, of something else, of another payment: four calls at once, each lied to in its own way."""
    lies = [facilitator.lie_invented, facilitator.lie_reverted, facilitator.lie_foreign, facilitator.lie_again]
    async with FacilitatorServer(chain) as fac, open(facilitated(chain, fac.url, upstream=shop.port, wait_s=1)) as gate:
        first = await gate.until_paid(FIND, {"word": "before"}, payment=await gate.sign(PAYER))
        assert first.status == 200
        payments = [await gate.sign(Payer(key)) for key in PAYER_KEYS[: len(lies)]]
        lie_to = {Payer(key).address: lie for key, lie in zip(PAYER_KEYS, lies, strict=False)}

        async def lie(fac: FacilitatorServer, asked: Any) -> Any:
            return await lie_to[asked["paymentPayload"]["payload"]["authorization"]["from"]](fac, asked)

        fac.settling = lie
        for _ in range(2):
            answers = await asyncio.gather(*(gate.call(FIND, HELLO, payment=payment) for payment in payments))
            assert [is_pending(answer) for answer in answers] == [True] * len(lies)
        assert len(fac.bodies("/settle")) == 1 + len(lies)
        assert chain.balance(gate.settings.pay_to) == PRICE
        await gate.kill()  # it would wait for the settlements


async def test_f055_a_redirect_gets_nothing(open: Open, chain: Chain, shop: ScriptedUpstream) -> None:
    async with (
        ScriptedUpstream() as elsewhere,
        FacilitatorServer(chain) as fac,
        open(facilitated(chain, fac.url, upstream=shop.port, wait_s=1)) as gate,
    ):
        await eventually(lambda: _asked(fac, "/supported"))
        fac.settling = facilitator.redirect(elsewhere.url("/settle"))
        answer = await gate.until_answered(FIND, HELLO, payment=await gate.sign(PAYER))
        assert is_pending(answer)
        assert elsewhere.seen == []
        await gate.kill()


async def _asked(fac: FacilitatorServer, path: str) -> bool:
    return bool(fac.bodies(path))


# group F: wallets that are contracts


@METHODS
async def test_f075_a_deployed_smart_wallet_pays(open: Open, chain: Chain, shop: ScriptedUpstream, method: str) -> None:
    owner = Payer(PAYER_KEYS[7])
    address = chain.place("Wallet", owner=owner.address)
    chain.mint(address, PRICE)
    chain.gas_money(address, 10**18)
    chain.approve_permit2(address)
    async with open(relayed(chain, upstream=shop.port)) as gate:
        payment = await gate.sign(Payer(owner.key, wallet=address), method=method)
        bought = await gate.until_paid(FIND, HELLO, payment=payment)
        assert bought.json["data"] == {"found": CANARY}
        assert (chain.balance(address), chain.balance(gate.settings.pay_to)) == (0, PRICE)
        forged = await gate.sign(Payer(PAYER_KEYS[6], wallet=address), method=method)
        assert (await gate.call(FIND, HELLO, payment=forged)).status == 402
        assert len(shop.seen) == 1


@pytest.mark.parametrize(
    ("method", "reason"), [("eip3009", "eip6492_factory_not_allowed"), ("permit2", "invalid_permit2_signature")]
)
async def test_f076_an_undeployed_smart_wallet_is_refused(
    open: Open, chain: Chain, shop: ScriptedUpstream, method: str, reason: str
) -> None:
    """Its factory call would move our money: it is carried out by nobody."""
    address = "0x00000000000000000000000000000000007e6492"
    chain.mint(address, PRICE)
    async with open(relayed(chain, upstream=shop.port)) as gate:
        steal = bytes.fromhex(calldata("transfer(address,uint256)", STRANGER, PRICE)[2:])

        def wrap(digest: bytes, sign: Callable[[bytes], bytes]) -> bytes:
            return encode(["address", "bytes", "bytes"], [USDC, steal, sign(digest)]) + b"\x64\x92" * 16

        payment = await gate.sign(Payer(PAYER_KEYS[7], wallet=address), method=method, wrap=wrap)
        refused = await gate.call(FIND, HELLO, payment=payment)
        assert refused.status == 402
        assert refused.json["code"] == "PAYMENT_INVALID"
        assert refused.offer["error"] == reason
        assert await gate.charges() == []
        assert shop.seen == []
        assert chain.nonce(gate.settings.relayer) == 0
