"""A wallet becomes an agent: what is taken, what is refused, and what of it costs anybody anything. On the sandbox."""

import asyncio
import io
import time
import tomllib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from eth_account import Account
from rigs.gate import KEYS, Gate, Json, Reply
from rigs.newcomer import Newcomer, ask
from rigs.running import eventually
from rigs.scripted import Scripted, failure, miss, slow, taking
from siwe import SiweMessage

from gateway.assemble import assemble
from gateway.core import siwe
from gateway.edge import logs
from gateway.edge.server import serving
from gateway.flows.registration import ASKING_MAX, WAITING_MAX
from gateway.settings import parse
from gateway.settlement.protocol import SENDERS_MAX, Holding, Senders, SignedText, Unknown
from gateway.settlement.sandbox import Sandbox, Weather
from gateway.store import actions, agents, registrations

DOLLAR = 1_000_000
AT_HOME = "http://127.0.0.1:8402"
SANDBOX_PAY_TO = "0xdF3e18d64BC6A983f673Ab319CCaE4f1a57C7097"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Watched(Sandbox):
    """Counts what it is asked about wallets."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(pay_to=SANDBOX_PAY_TO, clock=clock)
        self.asked: list[str] = []

    async def confirms(self, network: str, wallet: str, signed: Sequence[SignedText]) -> bool | Unknown:
        self.asked.append("confirms")
        return await super().confirms(network, wallet, signed)

    async def holding(self, network: str, wallet: str) -> Holding | Unknown:
        self.asked.append("holding")
        return await super().holding(network, wallet)

    async def senders(self, network: str, wallet: str, holding: Holding) -> Senders | Unknown:
        self.asked.append("senders")
        return await super().senders(network, wallet, holding)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gate(tmp_path: Path, clock: Clock) -> AsyncIterator[Gate]:
    """As often as anybody likes: what a wallet may do in a minute is in tests/scenario/test_limits.py."""
    often = '[rate_limits]\nregistrations = ""'
    async with Gate.open(tmp_path, settler=Watched(clock), clock=clock, toml=often) as gate:
        yield gate


def rich(gate: Gate, dollars: float = 1) -> Newcomer:
    newcomer = Newcomer(gate)
    gate.sandbox.fund(newcomer.address, int(dollars * DOLLAR))
    return newcomer


async def all_agents(gate: Gate) -> list[agents.Agent]:
    return await gate.gateway.db.read(agents.listing)


async def me(gate: Gate, token: str) -> Json:
    reply = await gate.send("GET", "/api/v1/agents/me", headers={"Authorization": f"Bearer {token}"})
    assert reply.status == 200
    return reply.json


def refused(reply: Reply, status: int, code: str, field: str | None = None) -> None:
    assert (reply.status, reply.json["code"]) == (status, code), reply.body
    if field is not None:
        assert reply.json["details"]["field"] == field
    assert reply.headers["Cache-Control"] == "no-store"


# what is taken


async def test_a_wallet_registers(gate: Gate) -> None:
    said = io.StringIO()
    logs.configure("json", "debug", said)
    newcomer = rich(gate)
    invited = await newcomer.invite(chain_id=31337)
    assert invited["address"] == newcomer.address
    assert (invited["min_wallet_usd"], invited["grant_usd"]) == ("1.000", "0.200")
    assert invited["allowance_intent_message"] is invited["allowance_usd"] is None
    assert await all_agents(gate) == [], "an invitation leaves nothing behind"
    reply = await ask(gate, "wallet-register", newcomer.shown(invited, label="crm-bot"))
    assert reply.status == 201, reply.body
    assert reply.headers["Cache-Control"] == "private, no-store"
    told = reply.json
    assert (told["created"], told["token_shown_once"], told["virtual_balance_usd"]) == (True, True, "0.200")
    assert told["grants"] == [{"kind": "mint", "amount_usd": "0.200"}]
    assert told["grant_withheld"] is None
    (wallet,) = told["wallets"]
    assert (wallet["address"], wallet["chain_id"], wallet["role"]) == (newcomer.address, 31337, "mint")
    known = await me(gate, told["token"])
    assert (known["agent_id"], known["label"], known["wallets"]) == (told["agent_id"], "crm-bot", [wallet])
    assert (known["virtual_balance_usd"], known["bonus_usd"]) == ("0.200", "0.200")
    done = await gate.gateway.db.read(actions.listing, 100, told["agent_id"])
    assert [each.action for each in done] == ["register_wallet", "grant", "add_token", "create_agent"]
    assert told["token"] not in said.getvalue()
    assert newcomer.shown(invited)["siwe_signature"] not in said.getvalue()


async def test_the_message_reads_the_same_to_another_parser(gate: Gate) -> None:
    """F-126: what we write is the grammar of EIP-4361, by somebody else's reading of it; whose expectations come from
    the configuration, whatever Host the request had."""
    newcomer = rich(gate)
    reply = await ask(gate, "wallet-nonce", {"address": newcomer.address}, Host="evil.example.com")
    invited = reply.json
    read = SiweMessage.from_message(invited["siwe_message"])
    assert (read.domain, str(read.uri).rstrip("/"), read.chain_id, read.version) == (
        "127.0.0.1:8402", AT_HOME, 31337, "1",
    )  # fmt: skip
    assert (read.nonce, read.address) == (invited["nonce"], newcomer.address)
    assert read.prepare_message() == invited["siwe_message"]


async def test_f111_a_known_wallet_is_told_whose_it_is_and_gets_no_token(gate: Gate) -> None:
    newcomer = rich(gate)
    first = (await newcomer.register()).json
    gate.sandbox.fund(newcomer.address, 0)
    again = await newcomer.register()
    assert (again.status, again.json["created"], again.json["token"]) == (200, False, None)
    assert again.json["agent_id"] == first["agent_id"]
    assert "operator" in again.json["hint"]
    (agent,) = await all_agents(gate)
    assert (agent.tokens, agent.balance.bonus) == (1, 200_000)


async def test_f111_f123_fifty_at_once_with_one_nonce_are_one_agent(gate: Gate) -> None:
    newcomer = rich(gate)
    shown = newcomer.shown(await newcomer.invite())
    replies = await asyncio.gather(*(ask(gate, "wallet-register", shown) for _ in range(50)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 49
    assert {reply.json["code"] for reply in replies if reply.status == 409} == {"NONCE_USED"}
    refused(await ask(gate, "wallet-register", shown), 409, "NONCE_USED")
    (agent,) = await all_agents(gate)
    assert (agent.tokens, agent.balance.bonus) == (1, 200_000)


async def test_f111_f131_fifty_at_once_in_every_spelling_are_one_agent(gate: Gate) -> None:
    """Each with a nonce of its own, so that the wallet alone keeps them to one."""
    newcomer = rich(gate)
    spellings = [newcomer.address, newcomer.address.lower(), "0x" + newcomer.address[2:].upper()]
    invited = await asyncio.gather(*(newcomer.invite(address=spellings[place % 3]) for place in range(50)))
    assert {each["address"] for each in invited} == {newcomer.address}
    replies = await asyncio.gather(
        *(
            ask(gate, "wallet-register", newcomer.shown(each, address=spellings[place % 3]))
            for place, each in enumerate(invited)
        )
    )
    assert sorted(reply.status for reply in replies) == [200] * 49 + [201]
    assert len({reply.json["agent_id"] for reply in replies}) == 1
    (agent,) = await all_agents(gate)
    assert (agent.tokens, agent.balance.bonus) == (1, 200_000)


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text.swapcase().replace("X", "x", 1),
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text[2:],
        lambda text: "0X" + text[2:],
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text[:-1] + "\uff11",
        lambda text: None,
        lambda text: 7,
    ],
)
async def test_f131_an_address_that_is_none_or_is_mistyped(gate: Gate, spell: Any) -> None:
    newcomer = rich(gate)
    shown = newcomer.shown(await newcomer.invite())
    refused(await ask(gate, "wallet-nonce", {"address": spell(newcomer.address)}), 422, "VALIDATION_ERROR")
    reply = await ask(gate, "wallet-register", {**shown, "address": spell(newcomer.address)})
    refused(reply, 422, "VALIDATION_ERROR")
    assert await all_agents(gate) == []


# what is refused


def swapped(old: str, new: str) -> Any:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


ALTERED: dict[str, tuple[Any, str]] = {
    "another domain": (swapped("127.0.0.1:8402 wants", "evil.example.com wants"), "domain"),
    "a domain that looks like ours": (swapped("127.0.0.1:8402 wants", "127.0.0.1:84O2 wants"), "domain"),
    "another scheme": (swapped("127.0.0.1:8402 wants", "https://127.0.0.1:8402 wants"), "domain"),
    "another statement": (swapped("Register or", "Send all or"), "statement"),
    "a nonce in the statement": (swapped("agent.", "agent.\nNonce: 12345678"), "message"),
    "another uri": (swapped(f"URI: {AT_HOME}", "URI: https://evil.example.com"), "uri"),
    "a longer uri": (swapped(f"URI: {AT_HOME}", f"URI: {AT_HOME}/"), "uri"),
    "another version": (swapped("Version: 1", "Version: 2"), "version"),
    "another chain": (swapped("Chain ID: 31337", "Chain ID: 8453"), "chain_id"),
    "a chain spelt otherwise": (swapped("Chain ID: 31337", "Chain ID: 031337"), "chain_id"),
    "another nonce": (swapped("Nonce: ", "Nonce: 0"), "nonce"),
    "a second nonce": (swapped("Issued At", "Nonce: 12345678\nIssued At"), "issued_at"),
    "a longer life": (swapped("Expiration Time: 2", "Expiration Time: 3"), "expiration_time"),
    "no expiry": (lambda text: text.split("\nExpiration")[0], "message"),
    "not before": (lambda text: text + "\nNot Before: 2026-11-26T00:00:00Z", "message"),
    "resources": (lambda text: text + "\nResources:\n- https://evil.example.com", "message"),
    "a line break at the end": (lambda text: text + "\n", "message"),
    "a line break in front": (lambda text: "\n" + text, "domain"),
    "other line breaks": (lambda text: text.replace("\n", "\r\n"), "domain"),
    "a space at the end": (lambda text: text + " ", "expiration_time"),
    "an address in lower case": (lambda text: "\n".join(
        line.lower() if place == 1 else line for place, line in enumerate(text.split("\n"))), "address"),
    "nothing": (lambda text: "", "domain"),
}  # fmt: skip


@pytest.mark.parametrize("how", ALTERED)
async def test_f122_f126_a_message_that_is_not_the_one_we_made(gate: Gate, how: str) -> None:
    """Rightly signed, each time; and with the Host that the message speaks of."""
    alter, field = ALTERED[how]
    newcomer = rich(gate)
    invited = await newcomer.invite()
    altered = alter(invited["siwe_message"])
    shown = newcomer.shown({**invited, "siwe_message": altered})
    refused(await ask(gate, "wallet-register", shown, Host="evil.example.com"), 401, "SIGNATURE_INVALID", field)
    assert await all_agents(gate) == []
    assert gate.settler.asked == []
    assert (await ask(gate, "wallet-register", newcomer.shown(invited))).status == 201, "nothing was consumed"


async def test_f122_a_message_made_elsewhere(tmp_path: Path, clock: Clock) -> None:
    """Another gateway's nonce is none of ours, though all else is the same; and a message from before the gateway's
    address was changed is another one's."""
    async with Gate.open(tmp_path / "other", clock=clock) as other:
        foreign = await Newcomer(other).invite()
    async with Gate.open(tmp_path / "ours", clock=clock) as gate:
        newcomer = rich(gate)
        invited = await newcomer.invite()
        shown = newcomer.shown(invited, nonce=foreign["nonce"])
        refused(await ask(gate, "wallet-register", shown), 401, "SIGNATURE_INVALID", "nonce")
    async with Gate.open(tmp_path / "ours", clock=clock, toml="[service]\nport = 8403\n") as moved:
        refused(await ask(moved, "wallet-register", newcomer.shown(invited)), 401, "SIGNATURE_INVALID", "domain")


async def test_a_nonce_is_for_one_address_one_purpose_and_one_agent(gate: Gate) -> None:
    newcomer, stranger = rich(gate), rich(gate)
    (one, one_token), (_, other_token) = await gate.agent(), await gate.agent()
    to_register, to_link = await newcomer.invite(), await newcomer.invite(purpose="link", token=one_token)
    assert f"Link this wallet to the agent {one}." in to_link["siwe_message"]
    shown = newcomer.shown(to_register, address=stranger.address)
    refused(await ask(gate, "wallet-register", shown), 401, "SIGNATURE_INVALID", "nonce")
    refused(await ask(gate, "wallet-register", newcomer.shown(to_link)), 401, "SIGNATURE_INVALID", "nonce")
    for invited, token in ((to_register, one_token), (to_link, other_token)):
        reply = await ask(gate, "wallet-link", newcomer.shown(invited), token=token)
        refused(reply, 401, "SIGNATURE_INVALID", "nonce")
    for text in ("0" * 8, "0" * 80, to_register["nonce"].upper(), to_register["nonce"][:-1] + "g"):
        reply = await ask(gate, "wallet-register", newcomer.shown(to_register, nonce=text))
        refused(reply, 401, "SIGNATURE_INVALID", "nonce")


async def test_someone_elses_signature(gate: Gate) -> None:
    newcomer, stranger = rich(gate), rich(gate)
    invited = await newcomer.invite()
    good = bytes.fromhex(newcomer.sign(invited["siwe_message"])[2:])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    twin = good[:32] + (order - int.from_bytes(good[32:64])).to_bytes(32) + bytes([55 - good[64]])
    for signature in (
        stranger.sign(invited["siwe_message"]),
        newcomer.sign(invited["siwe_message"] + " "),
        "0x" + twin.hex(),
        "0x" + "00" * 65,
        "0x" + good[:64].hex(),
        "0x" + (good + b"\0").hex(),
        "0x" + "ff" * 4096,
    ):
        reply = await ask(gate, "wallet-register", newcomer.shown(invited, siwe_signature=signature))
        refused(reply, 401, "SIGNATURE_INVALID", "signature")
    assert set(gate.settler.asked) == {"confirms"}, "a key's word is no reason to look at its money"
    for signature in ("", "0x", "0x0", "0xzz", "00" * 65, "0x" + "ff" * 4097, None, 5):
        reply = await ask(gate, "wallet-register", newcomer.shown(invited, siwe_signature=signature))
        refused(reply, 422, "VALIDATION_ERROR")
    assert await all_agents(gate) == []
    raw = good[:64] + bytes([good[64] - 27])
    reply = await ask(gate, "wallet-register", newcomer.shown(invited, siwe_signature="0x" + raw.hex()))
    assert reply.status == 201, "some signers count from 0"


async def test_f076_a_wallet_that_stands_nowhere_is_not_asked(gate: Gate) -> None:
    newcomer = rich(gate)
    invited = await newcomer.invite()
    wrapped = "0x" + "00" * 96 + newcomer.sign(invited["siwe_message"])[2:] + "6492" * 16
    reply = await ask(gate, "wallet-register", newcomer.shown(invited, siwe_signature=wrapped))
    refused(reply, 401, "SIGNATURE_INVALID", "signature")
    assert gate.settler.asked == []


async def test_a_message_has_ten_minutes(gate: Gate, clock: Clock) -> None:
    newcomer = rich(gate)
    shown = newcomer.shown(await newcomer.invite())
    clock.now += siwe.VALID_S
    refused(await ask(gate, "wallet-register", shown), 410, "NONCE_EXPIRED")
    clock.now -= 2 * siwe.VALID_S
    refused(await ask(gate, "wallet-register", shown), 410, "NONCE_EXPIRED")
    clock.now += 2 * siwe.VALID_S - 1
    assert (await ask(gate, "wallet-register", shown)).status == 201


async def test_a_used_nonce_stays_used_when_the_clock_goes_back(gate: Gate, clock: Clock) -> None:
    """Marks are swept an hour after their nonces have expired."""
    newcomer, later = rich(gate), rich(gate)
    shown = newcomer.shown(await newcomer.invite())
    assert (await ask(gate, "wallet-register", shown)).status == 201
    clock.now += 1800
    assert (await later.register()).status == 201
    clock.now -= 1500
    refused(await ask(gate, "wallet-register", shown), 409, "NONCE_USED")
    clock.now += 6000
    assert (await later.register()).status == 200
    ((marks,),) = await gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM used_nonces"))
    assert marks == 1, "of the last one"


async def test_f124_nobody_can_use_up_another_ones_nonces(gate: Gate) -> None:
    """Thousands of nonces for a victim's address, and wrong signatures over them, leave no byte behind; and the
    victim's own, made before the flood, is good after it."""
    victim = rich(gate)
    shown = victim.shown(await victim.invite())
    before = await gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM sqlite_schema"))
    for _ in range(20):
        flood = await asyncio.gather(*(victim.invite() for _ in range(50)))
        nonces = {each["nonce"] for each in flood}
        assert len(nonces) == 50
        stranger = Account.create()
        forged = await asyncio.gather(
            *(
                ask(gate, "wallet-register", {**victim.shown(each), "siwe_signature": Newcomer(gate, stranger.key).sign(
                    each["siwe_message"])})
                for each in flood[:5]
            )
        )  # fmt: skip
        assert {reply.status for reply in forged} == {401}
    rows = await gate.gateway.db.read(
        lambda tx: [tx.execute(f"SELECT count(*) FROM {table}") for table in ("used_nonces", "wallets", "agents")]
    )
    assert rows == [[(0,)]] * 3
    assert before == await gate.gateway.db.read(lambda tx: tx.execute("SELECT count(*) FROM sqlite_schema"))
    assert (await ask(gate, "wallet-register", shown)).status == 201


BAD_BODIES: dict[bytes, tuple[int, str]] = {
    b"": (400, "BAD_JSON"),
    b"{": (400, "BAD_JSON"),
    b"[]": (422, "VALIDATION_ERROR"),
    b"null": (422, "VALIDATION_ERROR"),
    b"{}": (422, "VALIDATION_ERROR"),
    b'{"address": "0x00000000000000000000000000000000000000aa", "more": 1}': (422, "VALIDATION_ERROR"),
    b'{"address": "0x00000000000000000000000000000000000000aa", "chain_id": 8453}': (422, "VALIDATION_ERROR"),
    b'{"address": "0x00000000000000000000000000000000000000aa", "chain_id": "31337"}': (422, "VALIDATION_ERROR"),
    b'{"address": "0x00000000000000000000000000000000000000aa", "chain_id": true}': (422, "VALIDATION_ERROR"),
    b'{"address": "0x00000000000000000000000000000000000000aa", "chain_id": 99999999999999999999}': (
        422, "VALIDATION_ERROR"),
    b'{"address": "0x00000000000000000000000000000000000000aa", "purpose": "recover"}': (422, "VALIDATION_ERROR"),
    b'{"address": "0x00000000000000000000000000000000000000aa", "purpose": "link"}': (401, "INVALID_TOKEN"),
    b'{"address": "0xdF3e18d64BC6A983f673Ab319CCaE4f1a57C7097"}': (422, "VALIDATION_ERROR"),
    b" " * 70_000: (413, "BODY_TOO_LARGE"),
}  # fmt: skip
AMOUNTS = ["0", "-1", "1e3", "1.0000001", "1,5", "", " 1", "$1", "NaN", "1000000000", 0, -1, 1.5, True, [], {}]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: body[60:90].decode() or body[:9].decode())
async def test_a_bad_request_for_a_nonce(gate: Gate, body: bytes) -> None:
    refused(await ask(gate, "wallet-nonce", body), *BAD_BODIES[body])


@pytest.mark.parametrize("amount", AMOUNTS, ids=str)
async def test_a_bad_allowance(gate: Gate, amount: Json) -> None:
    body = {"address": Account.create().address, "allowance_usd": amount}
    refused(await ask(gate, "wallet-nonce", body), 422, "VALIDATION_ERROR")


@pytest.mark.parametrize("label", ["x" * 101, "two\nlines", 5, "\x00"], ids=repr)
async def test_a_bad_label(gate: Gate, label: Json) -> None:
    newcomer = rich(gate)
    reply = await ask(gate, "wallet-register", newcomer.shown(await newcomer.invite(), label=label))
    refused(reply, 422, "VALIDATION_ERROR")


# the wallet's money


async def test_a_wallet_with_too_little_registers_when_it_has_enough(gate: Gate) -> None:
    newcomer = rich(gate, 0.999999)
    shown = newcomer.shown(await newcomer.invite())
    reply = await ask(gate, "wallet-register", shown)
    refused(reply, 403, "WALLET_BALANCE_TOO_LOW")
    assert (reply.json["details"]["required_usd"], reply.json["details"]["observed_usd"]) == ("1.000", "0.999999")
    gate.sandbox.fund(newcomer.address, DOLLAR)
    assert (await ask(gate, "wallet-register", shown)).status == 201, "with the same signature"


async def test_nothing_is_consumed_while_the_chain_is_out_of_reach(gate: Gate) -> None:
    newcomer = rich(gate)
    shown = newcomer.shown(await newcomer.invite())
    gate.sandbox.weather = Weather.UNREACHABLE
    reply = await ask(gate, "wallet-register", shown)
    refused(reply, 503, "BALANCE_CHECK_UNAVAILABLE")
    assert int(reply.headers["Retry-After"]) > 0
    assert await all_agents(gate) == []
    gate.sandbox.weather = Weather.FAIR
    assert (await ask(gate, "wallet-register", shown)).status == 201


class Slow(Watched):
    """Answers when it is told to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.answers = asyncio.Event()

    async def holding(self, network: str, wallet: str) -> Holding | Unknown:
        self.asked.append("holding")
        await self.answers.wait()
        return await Sandbox.holding(self, network, wallet)


async def test_f121_a_crowd_waits_for_itself(tmp_path: Path, clock: Clock) -> None:
    """With the chain slow, few are asked about, few wait, the others are told to come again; and whoever pays is
    served."""
    settler = Slow(clock)
    async with Gate.open(tmp_path, settler=settler, clock=clock) as gate:
        newcomers = [rich(gate) for _ in range(ASKING_MAX + WAITING_MAX + 10)]
        shown = [newcomer.shown(await newcomer.invite()) for newcomer in newcomers]
        crowd = [asyncio.create_task(ask(gate, "wallet-register", each)) for each in shown]

        async def refused_ones() -> list[Reply]:
            done = [task.result() for task in crowd if task.done()]
            return done if len(done) == 10 else []

        turned_away = await eventually(refused_ones)
        assert {(reply.status, reply.json["code"]) for reply in turned_away} == {(503, "OVERLOADED")}
        assert settler.asked == ["holding"] * ASKING_MAX
        assert (await gate.pay("hello")).status == 200
        settler.answers.set()
        replies = await asyncio.gather(*crowd)
        assert sorted(reply.status for reply in replies) == [201] * (ASKING_MAX + WAITING_MAX) + [503] * 10
        assert (await newcomers[-1].register()).status in (200, 201)


class Forgetful(Watched):
    async def senders(self, network: str, wallet: str, holding: Holding) -> Senders | Unknown:
        return Unknown("the node keeps no logs")


async def test_no_grant_rather_than_no_registration(tmp_path: Path, clock: Clock) -> None:
    async with Gate.open(tmp_path, settler=Forgetful(clock), clock=clock) as gate:
        reply = await rich(gate).register()
        assert (reply.status, reply.json["grants"], reply.json["virtual_balance_usd"]) == (201, [], "0.000")
        assert reply.json["grant_withheld"]["reason"] == "unknown_funds"


@pytest.mark.parametrize(
    ("toml", "least", "grant", "reason"),
    [
        ('grant_usd = "0"', "1.000", "0.000", "off"),
        ('grant_budget_usd_per_day = "0"', "1.000", "0.200", "budget_spent"),
        ('min_wallet_usd = "0"\ngrant_usd = "5.00"', "0.000", "5.000", None),
        ("grant_once_per_dollar = false", "1.000", "0.200", None),
    ],
)
async def test_what_an_operator_may_decide(
    tmp_path: Path, clock: Clock, toml: str, least: str, grant: str, reason: str | None
) -> None:
    async with Gate.open(tmp_path, settler=Watched(clock), clock=clock, toml=f"[registration]\n{toml}\n") as gate:
        newcomer = rich(gate)
        invited = await newcomer.invite()
        assert (invited["min_wallet_usd"], invited["grant_usd"]) == (least, grant)
        reply = await ask(gate, "wallet-register", newcomer.shown(invited))
        assert reply.status == 201
        assert (reply.json["grant_withheld"] or {}).get("reason") == reason
        assert reply.json["virtual_balance_usd"] == ("0.000" if reason else grant)
        looked = reason is None and "once_per" not in toml
        assert ("senders" in gate.settler.asked) is looked, "where a grant depends on it, and nowhere else"


OFF = {
    "switched off": '[settlement]\nkind = "sandbox"\n[registration]\nenabled = false\n',
    "from balance alone": "",
    "nobody to ask": """
[settlement]
kind = "facilitator"
[facilitator]
url = "http://127.0.0.1:9"
trust_facilitator = true
[[networks]]
id = "eip155:84532"
pay_to = "0x52908400098527886E0F7030069857D2E4169EE7"
""",
}


@pytest.mark.parametrize("why", OFF)
async def test_where_wallets_are_not_registered(tmp_path: Path, why: str) -> None:
    settings = parse(tomllib.loads('[store]\npath = "gate.db"\n' + OFF[why]), {}, base=tmp_path)
    signed = {"nonce": "0" * 80, "siwe_message": "", "siwe_signature": "0x00"}
    async with (
        assemble(settings, sold=[Scripted()], drain_s=0.2) as gateway,
        serving(gateway.app) as url,
        aiohttp.ClientSession() as session,
    ):
        for route, more in (("wallet-nonce", {}), ("wallet-register", signed)):
            body = {"address": Account.create().address, **more}
            async with session.post(f"{url}/api/v1/agents/{route}", json=body) as response:
                assert (response.status, (await response.json())["code"]) == (503, "ROUTE_OFFLINE")


# F-109


async def test_f109_one_dollar_through_a_thousand_wallets(gate: Gate) -> None:
    """Each registers and sends the dollar on: one grant, a thousand agents, one bounded look at the chain each."""
    first = rich(gate)
    assert (await first.register()).json["virtual_balance_usd"] == "0.200"
    holder = first
    for _ in range(999):
        following = Newcomer(gate)
        gate.sandbox.send(holder.address, following.address, DOLLAR)
        reply = await following.register()
        assert reply.status == 201, reply.body
        assert (reply.json["grants"], reply.json["grant_withheld"]["reason"]) == ([], "shared_funds")
        holder = following
    assert len(gate.settler.asked) == 2 * 1000
    assert await gate.gateway.db.read(registrations.granted_lately) == 200_000


async def test_f109_through_strangers_it_stays_within_the_days_budget(tmp_path: Path, clock: Clock) -> None:
    """Passed on by wallets nobody here knows, one dollar looks like many: then the budget holds, at once and later."""
    toml = '[registration]\ngrant_budget_usd_per_day = "1.10"\n'
    async with Gate.open(tmp_path, settler=Watched(clock), clock=clock, toml=toml) as gate:
        newcomers = [rich(gate) for _ in range(40)]
        replies = await asyncio.gather(*(newcomer.register() for newcomer in newcomers))
        reasons = [(reply.json["grant_withheld"] or {}).get("reason") for reply in replies]
        assert {reply.status for reply in replies} == {201}
        assert (reasons.count(None), reasons.count("budget_spent")) == (5, 35)
        clock.now += 86_399
        assert (await rich(gate).register()).json["grant_withheld"]["reason"] == "budget_spent"
        clock.now += 2
        assert (await rich(gate).register()).json["grant_withheld"] is None


async def test_f109_dust_takes_nothing_from_a_stranger(gate: Gate) -> None:
    """Money of one's own is enough, whoever has sent something as well; without it, a part of another's is not."""
    griefer, victim, sharer = rich(gate, 5), rich(gate, 1), rich(gate, 0.999999)
    assert (await griefer.register()).status == 201
    gate.sandbox.send(griefer.address, victim.address, 1)
    gate.sandbox.send(griefer.address, sharer.address, 2)
    assert (await victim.register()).json["grant_withheld"] is None
    assert (await sharer.register()).json["grant_withheld"]["reason"] == "shared_funds"


async def test_f109_a_crowd_of_senders_takes_nothing_from_a_stranger(gate: Gate) -> None:
    """Nothing at all or dust of a thousand, or money of his own beside that of many: those count who have sent most."""
    holder = rich(gate, 500)
    assert (await holder.register()).status == 201
    victim, rich_one, sharer = rich(gate), rich(gate), rich(gate, 0.5)
    for place in range(2 * SENDERS_MAX):
        sender = f"0x{place + 1:040x}"
        gate.sandbox.fund(sender, 2 * DOLLAR)
        gate.sandbox.send(sender, victim.address, place % 2)
        gate.sandbox.send(sender, rich_one.address, DOLLAR)
        gate.sandbox.send(sender, sharer.address, 1)
    gate.sandbox.send(holder.address, sharer.address, DOLLAR)
    assert (await victim.register()).json["grant_withheld"] is None
    assert (await rich_one.register()).json["grant_withheld"] is None
    assert (await sharer.register()).json["grant_withheld"]["reason"] == "shared_funds"


async def test_f109_long_ago_is_long_ago(gate: Gate, clock: Clock) -> None:
    old = rich(gate, 5)
    assert (await old.register()).status == 201
    clock.now += registrations.LATELY_MS // 1000
    following = Newcomer(gate)
    gate.sandbox.send(old.address, following.address, DOLLAR)
    assert (await following.register()).json["grant_withheld"] is None


# further wallets


async def test_a_further_wallet_is_linked_once_and_for_ever(gate: Gate) -> None:
    agent, token = await gate.agent()
    other, other_token = await gate.agent()
    poor = Newcomer(gate)
    first = await poor.link(token)
    assert (first.status, first.json["agent_id"], first.json["linked"]) == (200, agent, True)
    assert [(w["address"], w["role"]) for w in first.json["wallets"]] == [(poor.address, "linked")]
    again = await poor.link(token)
    assert (again.status, again.json["linked"], again.json["wallets"]) == (200, False, first.json["wallets"])
    refused(await poor.link(other_token), 409, "WALLET_TAKEN")
    gate.sandbox.fund(poor.address, DOLLAR)
    known = await poor.register()
    assert (known.status, known.json["agent_id"], known.json["token"]) == (200, agent, None)
    assert (await gate.balance(agent)).bonus == 0, "and no grant ever"
    assert (await me(gate, other_token))["wallets"] == []
    registered = (await rich(gate).register()).json
    assert other != registered["agent_id"]
    assert (await Newcomer(gate).link(registered["token"])).json["linked"] is True


async def test_linking_wants_the_agents_own_token(gate: Gate) -> None:
    agent, token = await gate.agent()
    newcomer = Newcomer(gate)
    shown = newcomer.shown(await newcomer.invite(purpose="link", token=token))
    for bad in (None, "411_nonsense"):
        refused(await ask(gate, "wallet-link", shown, token=bad), 401, "INVALID_TOKEN")
    made = await ask(gate, "usage-keys", {"scopes": ["test:*", "jobs", "balance:read"]}, token=token)
    to_link = {"address": newcomer.address, "purpose": "link"}
    replaced, token = token, (await ask(gate, "token/rotate", {"grace_seconds": 60}, token=token)).json["token"]
    for less in (made.json["key"], replaced):
        refused(await ask(gate, "wallet-link", shown, token=less), 403, "ADMIN_TOKEN_REQUIRED")
        refused(await ask(gate, "wallet-nonce", to_link, token=less), 403, "ADMIN_TOKEN_REQUIRED")
    await gate.gateway.db.write(agents.set_status, agent, agents.Status.FROZEN)
    refused(await ask(gate, "wallet-link", shown, token=token), 403, "AGENT_FROZEN")
    await gate.gateway.db.write(agents.set_status, agent, agents.Status.ACTIVE)
    replies = await asyncio.gather(*(ask(gate, "wallet-link", shown, token=token) for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [200] + [409] * 19
    assert await gate.gateway.db.read(lambda tx: len(registrations.shown(tx, agent))) == 1


async def test_an_agent_has_so_many_wallets(gate: Gate) -> None:
    _, token = await gate.agent()
    for _ in range(registrations.WALLETS_MAX):
        assert (await Newcomer(gate).link(token)).status == 200
    refused(await Newcomer(gate).link(token), 422, "VALIDATION_ERROR")


# the allowance


async def test_an_allowance_is_stated_kept_and_stated_anew(gate: Gate, clock: Clock) -> None:
    """Calls cost $0.330: two are within $0.70, the third is not; a miss and a failure give back what they held."""
    payer = Newcomer(gate, KEYS[0])
    invited = await payer.invite(allowance_usd="0.7")
    assert invited["allowance_usd"] == "0.700"
    assert payer.address in invited["allowance_intent_message"]
    assert invited["nonce"] in invited["allowance_intent_message"]
    told = (await ask(gate, "wallet-register", payer.shown(invited))).json
    assert await drawn(gate, told["token"]) == ("0.700", "0.000")
    clock.now += 1
    gate.upstream.script |= {"nothing": miss, "broken": failure}
    assert (await gate.pay("nothing")).json["billed"] is False
    assert (await gate.pay("broken")).status == 502
    assert await drawn(gate, told["token"]) == ("0.700", "0.000")
    replies = await asyncio.gather(*(gate.pay(f"hello {place}") for place in range(10)))
    assert sorted(reply.status for reply in replies) == [200] * 2 + [402] * 8
    for reply in replies:
        if reply.status == 402:
            assert (reply.json["code"], reply.json["limit_usd"]) == ("ALLOWANCE_EXCEEDED", "0.700")
            assert reply.offer["accepts"], "it may still be paid by another wallet"
    assert await drawn(gate, told["token"]) == ("0.700", "0.660")
    assert (await gate.pay("hello", key=1)).status == 200, "another wallet's is its own"
    again = await payer.register(allowance_usd=1)
    assert (again.status, again.json["created"]) == (200, False)
    clock.now += 1
    assert (await gate.pay("hello again")).status == 200
    assert await drawn(gate, told["token"]) == ("1.000", "0.330")


async def test_of_a_ceiling_an_allowance_counts_what_was_taken(gate: Gate, clock: Clock) -> None:
    payer = Newcomer(gate, KEYS[0])
    token = (await payer.register(allowance_usd="2.5")).json["token"]
    clock.now += 1
    gate.upstream.script["cheap"] = taking(200_000)
    metered = {"operation": "test/metered", "method": "upto"}
    assert (await gate.pay("cheap", **metered)).status == 200
    assert await drawn(gate, token) == ("2.500", "0.300")
    assert (await gate.pay("cheap", **metered)).status == 200
    assert await drawn(gate, token) == ("2.500", "0.600")
    reply = await gate.pay("cheap", **metered)
    assert (reply.status, reply.json["code"]) == (402, "ALLOWANCE_EXCEEDED"), "all of a ceiling may be taken"


async def test_what_was_open_before_an_allowance_was_stated_is_none_of_it(gate: Gate, clock: Clock) -> None:
    payer = Newcomer(gate, KEYS[0])
    gate.upstream.script["slow"] = slow(0.5, miss)
    before = asyncio.create_task(gate.pay("slow"))

    async def begun() -> bool:
        return bool(gate.upstream.journal)

    await eventually(begun)
    token = (await payer.register(allowance_usd="1")).json["token"]
    assert (await before).json["billed"] is False
    assert await drawn(gate, token) == ("1.000", "0.000")


async def drawn(gate: Gate, token: str) -> tuple[str, str]:
    (wallet,) = (await me(gate, token))["wallets"]
    return wallet["allowance"]["limit_usd"], wallet["allowance"]["drawn_usd"]


async def test_an_allowance_is_stated_by_the_wallet_alone(gate: Gate) -> None:
    newcomer, stranger = rich(gate), rich(gate)
    invited = await newcomer.invite(allowance_usd="10")
    good = newcomer.shown(invited)
    for signature in (stranger.sign(invited["allowance_intent_message"]), good["siwe_signature"]):
        reply = await ask(gate, "wallet-register", {**good, "allowance_intent_signature": signature})
        refused(reply, 401, "SIGNATURE_INVALID", "signature")
    without = await newcomer.invite()
    reply = await ask(
        gate, "wallet-register",
        newcomer.shown(without, allowance_intent_signature=good["allowance_intent_signature"]),
    )  # fmt: skip
    refused(reply, 422, "VALIDATION_ERROR")
    del good["allowance_intent_signature"]
    reply = await ask(gate, "wallet-register", good)
    assert (reply.status, reply.json["wallets"][0]["allowance"]) == (201, None), "asked for, and not stated"


async def test_f128_the_token_is_nowhere_at_rest(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        token = (await rich(gate).register()).json["token"]
    assert token.encode() not in everything_in(tmp_path)


def everything_in(home: Path) -> bytes:
    return b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
