"""What is bought and read for customers, in a gateway as it is run: nothing of a person or of a key leaves by a side
door, and no seller, page or model can fill its memory.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.facilitator import FacilitatorServer
from rigs.market import ASKS, KEYED, KEYS, QUESTIONS, SELLERS, Market
from rigs.payer import Payer
from rigs.person import BYTES, CANARY
from rigs.program import Program
from rigs.running import GONE, Running, eventually, facilitated, relayed, running
from rigs.upstream import Behaviour, bomb, drip, echo, endless, garbage, redirect, reply, reset, status, wrong_length

pytestmark = pytest.mark.chain

PAYER = Payer(PAYER_KEYS[4])
JOBS = "enrich/jobs"
JOBBED = ("enrich/websearch", "enrich/lead-session")
LEASE = "\n[jobs]\nlease_s = 1\n"


@pytest.fixture
async def market() -> AsyncIterator[Market]:
    async with Market.open() as market:
        yield market


def leaks(said: str | bytes) -> list[bytes]:
    """Of the person, her firm and our keys."""
    raw = said.encode() if isinstance(said, str) else said
    return BYTES.findall(raw) + [key.encode() for key in KEYS.values() if key.encode() in raw]


async def ended(gate: Running, accepted: Any) -> Any:
    assert accepted.status == 202, accepted.body
    bearer = {"Authorization": f"Bearer {accepted.json['poll_bearer']}"}

    async def over() -> Any:
        told = (await gate.send("GET", f"{accepted.json['poll_url']}?wait=5", headers=bearer)).json
        return told if told["status"] in ("completed", "failed", "cancelled") else None

    return await eventually(over, 40)


async def submit(gate: Running, operation: str, token: str, key: str) -> Any:
    body = {"route": operation, "payload": QUESTIONS[operation], "bill_up_to_usd": "2.00"}
    return await gate.call(JOBS, body, token=token, key=key)


def trouble(elsewhere: str) -> list[Behaviour]:
    """Every way in which an answer could get her into a message of ours."""
    telling = {"error": f"no {CANARY.name} at {CANARY.phone}", "name": CANARY.name, "results": CANARY.name}
    return [
        status(400, value=telling), status(401, value=telling), status(429, value=telling), status(500, value=telling),
        reply(telling), reply([telling]), reply(body=CANARY.name.encode()), echo("plain"), echo("header", code=500),
        redirect(f"{elsewhere}/{CANARY.last}"), reset(), garbage(), wrong_length(9999, orjson.dumps(telling)),
    ]  # fmt: skip


async def test_f172_nothing_of_what_is_bought_or_asked_is_in_a_log_or_an_error(
    chain: Chain, program: Program, market: Market, tmp_path: Path
) -> None:
    """At debug level: everything asked in good order, in every trouble of every seller, as jobs, and across a crash
    in the middle of each kind of research."""
    settings = relayed(chain, more=market.toml(timeout_s=2) + LEASE)
    async with running(tmp_path, program, settings, level="debug") as gate:
        bearer = await gate.agent("500.00")
        for operation, question in QUESTIONS.items():
            bought = await gate.call(operation, question, token=bearer, key=f"{CANARY.name} {operation}")
            assert (bought.status, bought.json["matched"]) == (200, True), bought.body
        for operation in ("enrich/person", "enrich/websearch"):
            await gate.until_paid(operation, QUESTIONS[operation], payment=await gate.sign(PAYER, operation=operation))
        errors = b""
        for behaviour in trouble(market.up.url("/elsewhere")):
            market.instead = dict.fromkeys(SELLERS, behaviour)
            await gate.stop()
            await gate.start(level="debug")  # where nobody rests
            for operation, question in QUESTIONS.items():
                told = await gate.call(operation, question, token=bearer)
                errors += told.body if told.status >= 400 else b""
        market.instead = {}
        await gate.stop()
        await gate.start(level="debug")
        for wrong in ({"phone": [CANARY.phone]}, {"phone": CANARY.phone, CANARY.name: [1]}, [CANARY.name]):
            for operation in QUESTIONS:
                told = await gate.call(operation, wrong, token=bearer)
                assert told.status in (422, 400), told.body
                errors += told.body
        await gate.stop()
        for point in ("job.asked:2", "job.worked:1"):
            for operation in JOBBED:
                await gate.start(crash_at=point, level="debug")
                key = secrets.token_hex(8)
                with suppress(*GONE):
                    await submit(gate, operation, bearer, key)
                assert await gate.ended() == -9
                await gate.start(level="debug")
                done = await ended(gate, await submit(gate, operation, bearer, key))
                assert done["status"] in ("completed", "failed")
                page = (await gate.send("GET", "/metrics")).body
                await gate.stop()
        said = gate.said()
        assert said.count('"event":"request"') > 80, "there is something to be searched"
        assert said.count('"event":"provider_failed"') > 10
        assert leaks(said) == []
        assert leaks(page) == []
        assert leaks(errors) == []
        kept = gate.remembered()
        assert BYTES.search(kept) is not None, "results are kept for a day, and they alone"
        assert [name for name in KEYED if KEYS[name].encode() in kept] == []


async def test_f175_what_is_researched_reaches_no_facilitator_and_no_catalogue(
    chain: Chain, program: Program, market: Market, tmp_path: Path
) -> None:
    """Paid by x402 and settled elsewhere: what leaves names the operation, whatever client and question say."""
    async with FacilitatorServer(chain) as fac:
        settings = facilitated(chain, fac.url, more=market.toml())
        async with running(tmp_path, program, settings) as gate:
            for operation, question in QUESTIONS.items():
                asked = await gate.send(
                    "POST", f"/api/v1/{operation}?name={CANARY.last}&phone=2065550142", body=orjson.dumps(question)
                )
                assert asked.status == 402
                assert leaks(asked.body + str(asked.offer).encode() + str(asked.headers).encode()) == []
                payment = await gate.sign(PAYER, operation=operation)
                payment |= {
                    "resource": {
                        "url": f"{gate.url}/api/v1/{operation}?name={CANARY.last}", "description": f"of {CANARY.name}",
                        "mimeType": "application/json",
                    },
                    "extensions": {
                        "payment-identifier": {"info": {"id": f"{CANARY.last}-{secrets.token_hex(8)}"}},
                        "crm": {"lead": CANARY.name},
                    },
                }  # fmt: skip
                bought = await gate.until_paid(operation, question, payment=payment)
                assert bought.json["billed"] is True, bought.body
                assert BYTES.search(bought.body) is not None, "he who has paid is told"
            heard = [request for request in fac.requests if request.path in ("/verify", "/settle")]
            assert len(heard) >= 2 * len(QUESTIONS)
            for request in fac.requests:
                assert leaks(request.body + str(request.headers).encode() + request.path.encode()) == [], request.body
            for path in ("/openapi.json", "/discovery/resources", "/.well-known/x402", "/llms.txt", "/pricing",
                         "/metrics"):  # fmt: skip
                page = await gate.send("GET", path)
                assert page.status == 200, path
                assert leaks(page.body) == [], path
            assert fac.sent
            for hash in fac.sent:
                sent = chain.rpc("eth_getTransactionByHash", hash)
                assert leaks(bytes.fromhex(sent["input"].removeprefix("0x"))) == []


LARGE: dict[str, Behaviour] = {
    "bombs": bomb(64 * 1024 * 1024),
    "endless": endless(),
    "endless, packed": endless(packed=True),
    "as much as is read": reply(body=b'{"results": [' + b'{"name": "x"},' * 74_000 + b"{}]}"),
    "as long a page as is read": reply(body=b"<p>Call (206) 555-0101 today.</p>" * 31_000, content_type="text/html"),
    "drips": drip(b'{"results": []}' * 400, every_s=0.05),
}
GROWS_MB = 96
"""50 calls at once read four pages of at most 1 MiB each, and half of that again to take them apart."""


@pytest.mark.parametrize(
    ("at_once", "names"),
    [
        pytest.param(10, ("bombs", "as long a page as is read"), id="quick"),
        pytest.param(50, tuple(LARGE), id="full", marks=pytest.mark.full),
    ],
)
async def test_f149_fifty_at_once_that_are_answered_without_measure_take_no_more_memory_than_their_caps(
    chain: Chain, program: Program, market: Market, tmp_path: Path, at_once: int, names: tuple[str, ...]
) -> None:
    settings = relayed(chain, more=market.toml(timeout_s=2) + "\n[providers.searxng]\n" + searxng(market))
    async with running(tmp_path, program, settings) as gate:
        tokens = [await gate.agent("1000.00") for _ in range(at_once // 5)]
        for operation, question in QUESTIONS.items():  # what is loaded once
            assert (await gate.call(operation, question, token=tokens[0])).status == 200
        assert gate.child is not None
        before = forget_peak(gate.child.pid)
        spent = set[int]()
        for name in names:
            for seller in SELLERS:
                market.instead = {seller: LARGE[name]}
                asking = [operation for operation, sellers in ASKS.items() if seller in sellers]
                calls = [
                    gate.call(asking[n % len(asking)], QUESTIONS[asking[n % len(asking)]], token=tokens[n // 5])
                    for n in range(at_once)
                ]
                for told in await asyncio.gather(*calls):
                    spent.add(told.status)
                    assert told.status in (200, 429, 502, 503, 504), (name, seller, told.body)
        assert spent >= {200, 502}
        grown = memory_mb(gate.child.pid, "VmHWM") - before
        assert grown < GROWS_MB, f"{grown} MB"
        for charge in await gate.charges():
            assert charge["state"] != "held", charge


def searxng(market: Market) -> str:
    return f'url = "{market.up.url("/serper")}"\nprivate = true\ncost_per_call = "0"\n'


def forget_peak(pid: int) -> int:
    """Begins anew to look for the most memory that the process holds -> what it holds now."""
    if not Path(f"/proc/{pid}/clear_refs").exists():
        pytest.skip("only Linux tells")
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory_mb(pid, "VmRSS")


def memory_mb(pid: int, name: str) -> int:
    """VmRSS: what is held now; VmHWM: the most since it was forgotten."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) // 1024


async def test_f150_nothing_in_the_environment_of_the_process_is_taken_along(
    chain: Chain, program: Program, market: Market, tmp_path: Path
) -> None:
    """A .netrc with a login for this very host, and proxies for everything: vendors, pages and the model are asked
    directly, with what they are to have."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login canary password canary\n")
    (tmp_path / ".netrc").chmod(0o600)
    proxy = market.up.url("/proxy")
    env = {
        "HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc"),
        **{spelled: proxy for name in ("http_proxy", "https_proxy", "all_proxy") for spelled in (name, name.upper())},
        "no_proxy": "", "NO_PROXY": "",
    }  # fmt: skip
    settings = relayed(chain, more=market.toml())
    async with running(tmp_path, program, settings, started=False) as gate:
        gate.program = _Within(program, env)
        await gate.start()
        token = await gate.agent("50.00")
        for operation, question in QUESTIONS.items():
            told = await gate.call(operation, question, token=token)
            assert (told.status, told.json["matched"]) == (200, True), told.body
        assert set(market.counts()) == set(SELLERS)
        assert {seen.path.split("/")[1] for seen in market.up.seen} <= {*SELLERS, "robots.txt"}
        for seen in market.up.seen:
            assert seen.target.startswith("/"), "no proxy was asked for it"
            assert "canary:canary" not in str(seen.headers)
            if not seen.path.startswith("/llm"):
                assert seen.header("authorization") is None
            assert seen.header("proxy-authorization") is None


class _Within:
    """A program whose processes have more in their environment."""

    def __init__(self, program: Program, env: dict[str, str]) -> None:
        self._program = program
        self._env = env

    def start(self, argv: Any, *, env: Any, cwd: Path, out: Path) -> Any:
        return self._program.start(argv, env={**self._env, **env}, cwd=cwd, out=out)
