"""A facilitator in every state between honest and a thief."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import orjson
import pytest
import structlog
from rigs import facilitator as rig
from rigs.caller import Caller
from rigs.chain import NETWORK, RELAYER_KEY, Chain
from rigs.facilitator import ADDRESS, FacilitatorServer
from rigs.payer import Payer
from rigs.till import NETWORK_HERE, PAY_TO, TOKEN, Till

from gateway.core.api_key import ApiKey
from gateway.core.networks import Token, checksum_address
from gateway.core.settlement import ProofKind, Settled
from gateway.core.x402.bazaar import repeat_key_extension
from gateway.settlement.facilitator import Facilitator, Place, Timeouts
from gateway.settlement.onchain import OnChain
from gateway.settlement.protocol import Admitted, Refused, Unknown
from gateway.settlement.rpc import Rpc

pytestmark = pytest.mark.chain

QUICK = Timeouts(verify_s=0.3, settle_s=0.4, supported_s=0.3, proof_s=0.3)


@pytest.fixture
async def fac(chain: Chain) -> AsyncIterator[FacilitatorServer]:
    async with FacilitatorServer(chain) as server:
        yield server


@pytest.fixture
async def open_fac(chain: Chain, fac: FacilitatorServer, http: aiohttp.ClientSession):
    """`await open_fac(trust=..., credential=...)`: a till by the facilitator."""
    opened: list[Facilitator] = []

    async def open(*, trust: bool = False, credential: str | ApiKey | None = None, token: Token = TOKEN) -> Till:
        network = replace(NETWORK_HERE, tokens=(token,))
        on_chain = None if trust else OnChain(network, Rpc(http, [chain.url], chain_id=84532), pay_to=PAY_TO)
        facilitator = Facilitator(
            url=fac.url, http=http, places=[Place(network, PAY_TO, on_chain)],
            clock=lambda: chain.now, trust=trust, credential=credential, timeouts=QUICK,
        )  # fmt: skip
        opened.append(facilitator)
        await facilitator.start()
        return Till(
            facilitator, NETWORK, token, now=lambda: chain.now, admitted_block=lambda: chain.height
        )  # fmt: skip

    yield open
    for facilitator in opened:
        await facilitator.close()


@pytest.mark.parametrize("trust", [False, True])
async def test_an_honest_facilitator_collects(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain, trust: bool
) -> None:
    till = await open_fac(trust=trust)
    for ask in ({}, {"method": "permit2"}, {"scheme": "upto"}):
        before = chain.balance(PAY_TO)
        payment = till.verified(payers[0].pay(till.ask(**ask)))
        assert isinstance(await till.settler.check(payment), Admitted)
        outcome = await till.settle(till.queue(payment, amount=700 if ask.get("scheme") else None))
        assert isinstance(outcome, Settled), outcome
        assert outcome.kind is (ProofKind.FACILITATOR if trust else ProofKind.CHAIN)
        assert outcome.transaction == fac.sent[-1]
        assert chain.balance(PAY_TO) - before == outcome.amount_atomic == (700 if ask.get("scheme") else 1000)
    assert till.settler.facilitator_addresses(NETWORK) == (checksum_address(ADDRESS),)
    async with asyncio.timeout(2):
        while not (await till.settler.health()).ready:  # noqa: ASYNC110 it looks by itself
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("trust", [False, True])
async def test_permits_go_along_where_it_says_that_it_takes_them(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain, trust: bool
) -> None:
    fac.extensions = ["eip2612GasSponsoring"]
    till = await open_fac(trust=trust)
    assert till.settler.sponsors(NETWORK)
    assert not till.settler.sponsors("eip155:1")
    chain.approve_permit2(payers[0].address, amount=0)
    before = chain.balance(PAY_TO)
    payment = payers[0].sponsored(till.ask(method="permit2"))
    verified = till.verified(payment)
    admitted = await till.settler.check(verified)
    assert isinstance(admitted, Admitted), admitted
    assert (admitted.by_permit, admitted.spendable_atomic) == (True, 1000)
    outcome = await till.settle(till.queue(verified))
    assert isinstance(outcome, Settled), outcome
    assert chain.balance(PAY_TO) == before + 1000
    for path in ("/verify", "/settle"):
        (sent,) = [orjson.loads(body)["paymentPayload"] for body in fac.bodies(path)]
        signed = payment["extensions"]["eip2612GasSponsoring"]["info"]
        told = {name: value for name, value in signed.items() if name != "description"}
        assert sent["extensions"] == {"eip2612GasSponsoring": {"info": told}}, "and nothing of the client's own words"


async def test_a_permit_that_is_not_needed_stays_here(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain
) -> None:
    """It would take it all the same, and lower what the payer has allowed."""
    fac.extensions = ["eip2612GasSponsoring"]
    till = await open_fac()
    chain.approve_permit2(payers[0].address, amount=5000)
    assert isinstance(await till.settle(till.sponsor(payers[0], 1000)), Settled)
    (sent,) = [orjson.loads(body)["paymentPayload"] for body in fac.bodies("/settle")]
    assert "extensions" not in sent


async def test_without_its_word_no_permit_is_taken(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain
) -> None:
    till = await open_fac()
    assert not till.settler.sponsors(NETWORK)
    chain.approve_permit2(payers[0].address, amount=0)
    refused = await till.settler.check(till.verified(payers[0].sponsored(till.ask(method="permit2"))))
    assert isinstance(refused, Refused)
    assert refused.reason == "permit2_allowance_required"
    assert all("extensions" not in orjson.loads(body)["paymentPayload"] for body in fac.bodies("/verify"))


async def test_a_permit_taken_before_it_stopped_taking_them_stays_here(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain
) -> None:
    fac.extensions = ["eip2612GasSponsoring"]
    till = await open_fac()
    verified = till.verified(payers[0].sponsored(till.ask(method="permit2")))
    fac.extensions = []
    restarted = await open_fac(trust=True)
    await restarted.settler.check(verified)
    await restarted.settle(restarted.queue(verified))
    assert len(fac.bodies("/verify") + fac.bodies("/settle")) == 2
    for body in fac.bodies("/verify") + fac.bodies("/settle"):
        assert "extensions" not in orjson.loads(body)["paymentPayload"]


async def test_f050_a_wrong_token_is_not_taken_whoever_settles(open_fac, payers: list[Payer]) -> None:
    till = await open_fac(token=replace(TOKEN, name="USD Coin"))
    async with asyncio.timeout(2):
        while "settlement_misconfigured" not in (await till.settler.health()).alarms:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert isinstance(await till.settler.check(till.verified(payers[0].pay(till.ask()))), Unknown)


async def test_without_trust_there_is_no_network_without_a_chain(http: aiohttp.ClientSession) -> None:
    with pytest.raises(ValueError, match="RPC"):
        Facilitator(url="http://127.0.0.1:9", http=http, places=[Place(NETWORK_HERE, PAY_TO, None)], clock=lambda: 0)


async def test_f021_a_no_is_a_no(open_fac, fac: FacilitatorServer, payers: list[Payer]) -> None:
    till = await open_fac()
    fac.settling = rig.refuse_to_settle
    settlement = till.pay(payers[0])
    outcome = await till.settle(settlement)
    assert isinstance(outcome, Refused)
    assert outcome.reason == "insufficient_funds"
    assert not outcome.final, "what was signed is alive, and others may send it"


@pytest.mark.parametrize(
    "behaviour", [rig.broken, rig.busy, rig.hang, rig.redirect("http://127.0.0.1:9/"), rig.settle_and_break]
)
async def test_f022_no_answer_is_unknown_and_the_chain_tells(
    open_fac, fac: FacilitatorServer, payers: list[Payer], behaviour: rig.Behaviour
) -> None:
    till = await open_fac()
    fac.settling = behaviour
    settlement = till.pay(payers[0])
    assert isinstance(await till.settle(settlement), Unknown)
    found = await till.find(settlement)
    assert isinstance(found, Settled if fac.sent else Unknown)
    fac.settling = rig.settle_honestly
    assert isinstance(await till.settle(settlement), Settled)
    assert len(fac.sent) == 1, "what was done is looked for before it is asked for again"


@pytest.mark.parametrize("behaviour", [rig.broken, rig.busy, rig.hang])
async def test_f051_down_at_the_start_up_later(
    open_fac, fac: FacilitatorServer, payers: list[Payer], behaviour: rig.Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.settlement.facilitator.SUPPORTED_RETRY_S", 0.05)
    fac.supporting = behaviour
    till = await open_fac()
    assert till.settler.serves(till.verified(payers[0].pay(till.ask())).requirements), "the 402 is from configuration"
    assert isinstance(await till.settler.check(till.verified(payers[0].pay(till.ask()))), Unknown)
    health = await till.settler.health()
    assert not health.ready
    assert "facilitator_unreachable" in health.alarms
    fac.supporting = rig.say_supported
    async with asyncio.timeout(5):
        while not (await till.settler.health()).ready:  # noqa: ASYNC110 it asks by itself
            await asyncio.sleep(0.02)
    assert isinstance(await till.settler.check(till.verified(payers[0].pay(till.ask()))), Admitted)


async def test_f052_two_hundred_that_hang_are_let_go(open_fac, fac: FacilitatorServer, payers: list[Payer]) -> None:
    till = await open_fac()
    fac.verifying = fac.settling = rig.hang
    payments = [till.verified(payers[0].pay(till.ask())) for _ in range(2)]
    loop = asyncio.get_running_loop()
    started = loop.time()
    checked = await asyncio.gather(*(till.settler.check(payments[i % 2]) for i in range(100)))
    settled = await asyncio.gather(*(till.settler.settle(till.queue(payments[i % 2])) for i in range(100)))
    assert all(isinstance(outcome, Unknown) for outcome in (*checked, *settled))
    assert loop.time() - started < 8


@pytest.mark.parametrize("lie", [rig.lie_invented, rig.lie_reverted, rig.lie_foreign, rig.lie_again])
async def test_f054_a_lie_is_no_proof(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain, lie: rig.Behaviour
) -> None:
    till = await open_fac()
    assert isinstance(await till.settle(till.pay(payers[0])), Settled)
    before = chain.balance(PAY_TO)
    fac.settling = lie
    for method in ("eip3009", "permit2"):
        settlement = till.pay(payers[0], method=method)
        outcome = await till.settle(settlement)
        assert isinstance(outcome, Unknown)
        assert "facilitator_disputed" in (await till.settler.health()).alarms
        assert isinstance(await till.find(settlement), Unknown)
    chain.pass_time(130)
    chain.mine(12)
    assert isinstance(await till.find(settlement), Refused)
    assert chain.balance(PAY_TO) == before


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_f055_nothing_goes_where_a_redirect_points(
    open_fac, fac: FacilitatorServer, payers: list[Payer], status: int
) -> None:
    async with FacilitatorServer() as canary:
        till = await open_fac(credential="secret-bearer")
        fac.verifying = fac.settling = rig.redirect(canary.url + "/settle", status)
        payment = till.verified(payers[0].pay(till.ask()))
        assert isinstance(await till.settler.check(payment), Unknown)
        assert isinstance(await till.settle(till.queue(payment)), Unknown)
        assert canary.requests == []


async def test_f057_two_ways_to_settle_are_one_transfer(
    open_fac, open_till, fac: FacilitatorServer, payers: list[Payer], chain: Chain
) -> None:
    """The facilitator is slow and does it; our own relayer was asked meanwhile."""
    remote, own = await open_fac(), await open_till(keys=(RELAYER_KEY,))
    before = chain.balance(PAY_TO)
    payment = own.verified(payers[0].pay(own.ask()))
    fac.settling = rig.slowly(0.15, rig.settle_honestly)
    settlement = remote.queue(payment)
    own.journal.add(settlement)
    there, here = await asyncio.gather(remote.settle(settlement), own.settle(settlement))
    assert isinstance(here, Settled)
    assert isinstance(there, Settled)
    assert (here.transaction, here.log_index) == (there.transaction, there.log_index)
    assert chain.balance(PAY_TO) == before + 1000


async def test_f058_who_takes_upto_for_exact_leaves_it_open(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain
) -> None:
    till = await open_fac()
    fac.settling = rig.refuse_to_settle
    settlement = till.pay(payers[0], scheme="upto", actual=400)
    outcome = await till.settle(settlement)
    assert isinstance(outcome, Refused)
    assert not outcome.final
    (asked,) = [orjson.loads(body) for body in fac.bodies("/settle")]
    assert asked["paymentRequirements"]["amount"] == "400"
    assert asked["paymentPayload"]["accepted"]["amount"] == "1000"


@pytest.mark.parametrize("taken", [399, 401, 392])
async def test_f059_what_was_mined_counts_not_what_was_said(
    open_fac, fac: FacilitatorServer, payers: list[Payer], taken: int
) -> None:
    till = await open_fac()
    fac.settling = rig.taking(taken)
    settlement = till.pay(payers[0], scheme="upto", actual=400)
    outcome = await till.settle(settlement)
    if taken < 400:
        assert isinstance(outcome, Settled)
        assert outcome.amount_atomic == taken
    else:
        assert not isinstance(outcome, Settled) or outcome.amount_atomic == taken


async def test_used_in_its_words_is_left_to_the_chain(open_fac, fac: FacilitatorServer, payers: list[Payer]) -> None:
    till = await open_fac()
    fac.settling = rig.say_used
    settlement = till.pay(payers[0])
    assert isinstance(await till.settle(settlement), Unknown)


async def test_trusted_used_is_not_paid(open_fac, fac: FacilitatorServer, payers: list[Payer]) -> None:
    till = await open_fac(trust=True)
    fac.settling = rig.settle_and_break
    settlement = till.pay(payers[0])
    assert isinstance(await till.settle(settlement), Unknown)
    fac.settling = rig.say_used
    assert isinstance(await till.find(settlement), Unknown)
    assert "facilitator_says_used" in (await till.settler.health()).alarms
    first, second = fac.bodies("/settle")
    assert first == second, "the same bytes"


async def test_f175_only_what_was_signed_leaves(open_fac, fac: FacilitatorServer, payers: list[Payer]) -> None:
    till = await open_fac(credential="secret-bearer")
    payment = payers[0].pay(till.ask())
    payment["resource"] = {"url": "https://api.example.com/lookup?phone=4155550123", "description": "Jane Example"}
    payment["extensions"] = {
        "payment-identifier": {"info": {"id": "order_of_Jane_Example_0001"}},
        "repeat-key": repeat_key_extension("41" * 16),
    }
    verified = till.verified(payment)
    await till.settler.check(verified)
    await till.settle(till.queue(verified))
    for request in fac.requests:
        assert request.headers["Authorization"] == "Bearer secret-bearer"
        assert b"4155550123" not in request.body
        assert b"Jane" not in request.body
        assert b"41" * 16 not in request.body
    assert {request.path for request in fac.requests} == {"/supported", "/verify", "/settle"}
    verify, settle = orjson.loads(fac.bodies("/verify")[0]), orjson.loads(fac.bodies("/settle")[0])
    assert set(verify) == {"x402Version", "paymentPayload", "paymentRequirements"}
    assert verify["paymentPayload"]["payload"] == payment["payload"]
    assert settle == verify


async def test_what_it_does_not_support_is_not_taken(open_fac, fac: FacilitatorServer, payers: list[Payer]) -> None:
    async def nothing(server: FacilitatorServer, asked: rig.Json) -> rig.web.StreamResponse:
        return rig.web.json_response({"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:1"}]})

    fac.supporting = nothing
    till = await open_fac()
    assert isinstance(await till.settler.check(till.verified(payers[0].pay(till.ask()))), Unknown)
    assert "facilitator_lacks_network" in (await till.settler.health()).alarms


async def test_its_no_in_verify_is_a_no(open_fac, fac: FacilitatorServer, payers: list[Payer]) -> None:
    till = await open_fac()
    fac.verifying = rig.say_invalid
    refused = await till.settler.check(till.verified(payers[0].pay(till.ask())))
    assert isinstance(refused, Refused)
    assert refused.reason == "invalid_exact_evm_insufficient_balance"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"isValid": "true"}', b'{"success": 1}', b"<html>", b"{" * 9999]
)
async def test_an_answer_without_sense_is_unknown(
    open_fac, fac: FacilitatorServer, payers: list[Payer], body: bytes
) -> None:
    def saying(status: int) -> rig.Behaviour:
        async def behave(server: FacilitatorServer, asked: rig.Json) -> rig.web.StreamResponse:
            return rig.web.Response(body=body, status=status)

        return behave

    till = await open_fac()
    for status in (200, 402):
        fac.verifying = fac.settling = saying(status)
        payment = till.verified(payers[0].pay(till.ask()))
        assert isinstance(await till.settler.check(payment), Unknown)
        assert isinstance(await till.settle(till.queue(payment)), Unknown)


# An API key


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
async def test_each_request_has_a_token_of_its_own(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain, algorithm: str
) -> None:
    """The facilitator looks at each: by whom, for which method and path, until when, and never twice the same."""
    chain.pass_time(86_400)  # whoever asks the machine's clock is a day late
    fac.caller = Caller(algorithm, now=lambda: chain.now)
    till = await open_fac(credential=ApiKey(fac.caller.id, fac.caller.secret))
    payment = till.verified(payers[0].pay(till.ask()))
    assert isinstance(await till.settler.check(payment), Admitted)
    assert isinstance(await till.settle(till.queue(payment)), Settled)
    assert [(each.method, each.path) for each in fac.requests] == [
        ("GET", "/supported"), ("POST", "/verify"), ("POST", "/settle"),
    ]  # fmt: skip
    assert len(set(fac.caller.tokens)) == 3
    assert (await till.settler.health()).alarms == ()


async def test_a_token_is_for_the_path_that_is_asked(open_fac, fac: FacilitatorServer, chain: Chain) -> None:
    """Under a base of several parts, with the port that is in it."""
    fac.caller, host = Caller(now=lambda: chain.now), fac.url.removeprefix("http://")
    fac.url += "/platform/v2/x402/"
    await open_fac(credential=ApiKey(fac.caller.id, fac.caller.secret))
    (token,) = fac.caller.tokens
    assert fac.caller.claims(token)["uris"] == [f"GET {host}/platform/v2/x402/supported"]


async def test_a_permit_that_was_not_offered_is_not_handed_on(
    open_fac, fac: FacilitatorServer, payers: list[Payer]
) -> None:
    """It says so only after the start, when the offers were made: nobody has looked at what a payer adds by himself."""
    till = await open_fac(trust=True)
    fac.extensions = ["eip2612GasSponsoring"]
    await till.settler._ask_supported()
    assert not till.settler.sponsors(NETWORK)
    verified = till.verified(payers[0].sponsored(till.ask(method="permit2")))
    await till.settler.check(verified)
    await till.settle(till.queue(verified))
    sent = fac.bodies("/verify") + fac.bodies("/settle")
    assert len(sent) == 2
    assert all("extensions" not in orjson.loads(body)["paymentPayload"] for body in sent)


@pytest.mark.parametrize("supported", [True, False], ids=["supported for all", "nothing for others"])
@pytest.mark.parametrize("credential", [ApiKey("somebody", Caller().secret), "some-bearer", None], ids=str)
async def test_who_is_not_let_in_knows_nothing_and_says_so(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain, credential: object, supported: bool
) -> None:
    fac.caller = Caller(now=lambda: chain.now)
    fac.open = {"/supported"} if supported else set()
    till = await open_fac(credential=credential)
    payment = till.verified(payers[0].pay(till.ask()))
    settlement = till.queue(payment)
    assert isinstance(await till.settle(settlement), Unknown)
    assert "facilitator_refuses_us" in (await till.settler.health()).alarms
    assert isinstance(await till.settler.check(payment), Unknown)
    assert isinstance(await till.find(settlement), Unknown)
    assert fac.sent == []
    fac.caller = None  # the operator has mended it, there or here
    await till.settler._ask_supported()
    assert isinstance(await till.settler.check(payment), Admitted)
    assert isinstance(await till.settle(settlement), Settled)
    assert (await till.settler.health()).alarms == ()


@pytest.mark.parametrize("let_in", [True, False])
async def test_no_secret_and_no_token_is_logged_or_shown(
    open_fac, fac: FacilitatorServer, payers: list[Payer], chain: Chain, caplog: pytest.LogCaptureFixture, let_in: bool
) -> None:
    caplog.set_level("DEBUG")
    fac.caller = Caller(now=lambda: chain.now)
    key = ApiKey(fac.caller.id, (fac.caller if let_in else Caller()).secret)
    with structlog.testing.capture_logs() as logged:
        till = await open_fac(credential=key)
        payment = till.verified(payers[0].pay(till.ask()))
        settlement = till.queue(payment)
        told = [await till.settler.check(payment), await till.settle(settlement), await till.find(settlement)]
        told.append(await till.settler.health())
    shown = repr([logged, told, caplog.text, key, till.settler, vars(till.settler)])
    assert "facilitator_refuses_us" in shown or let_in
    assert len(fac.caller.tokens) >= 2
    for hidden in (*fac.caller.tokens, fac.caller.secret, fac.caller.secret[:20]):
        assert hidden not in shown


async def test_what_fits_in_no_header_is_no_crash(open_fac, fac: FacilitatorServer, payers: list[Payer]) -> None:
    till = await open_fac(credential="a-bearer\nin-two-lines")
    assert isinstance(await till.settle(till.pay(payers[0])), Unknown)
    assert "facilitator_unreachable" in (await till.settler.health()).alarms
    assert fac.requests == []
