"""F-171: what takes play money reaches no work that costs real money, whoever has configured what."""

import base64
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from rigs.gate import KEYS, header
from rigs.payer import Payer
from rigs.program import Program
from rigs.running import Configuration, eventually, free_port, running, sold
from rigs.upstream import ScriptedUpstream, reply

SANDBOX = '[settlement]\nkind = "sandbox"\n'


@pytest.fixture
async def vendor() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=reply({"found": "real"})) as vendor:
        yield vendor


async def test_f171_the_sandbox_refuses_an_api_that_may_cost_money(
    program: Program, vendor: ScriptedUpstream, tmp_path: Path
) -> None:
    settings = Configuration(SANDBOX + sold(upstream=vendor.port))
    async with running(tmp_path, program, settings, started=False, clean=False) as gate:
        await gate.start(ready=False)
        assert await gate.ended() == 2
        assert "play money" in gate.said()
    assert vendor.connections == 0


async def test_one_that_is_said_to_cost_nothing_may_be_tried(
    program: Program, vendor: ScriptedUpstream, tmp_path: Path
) -> None:
    toml = SANDBOX + sold(upstream=vendor.port).replace("private = true", "private = true\nfree = true")
    async with running(tmp_path, program, Configuration(toml)) as gate:
        bought = await gate.call("shop/find", {"word": "hello"}, payment=await gate.sign(Payer(KEYS[0])))
        assert bought.status == 200
        assert (bought.receipt["network"], bought.receipt["sandbox"]) == ("eip155:31337", True)


async def test_f171_the_demo_sells_invented_people_and_nothing_else(
    program: Program, vendor: ScriptedUpstream, tmp_path: Path
) -> None:
    """Beside a configuration that sells a real API, and with its settings in the environment: every route is tried,
    unpaid, with play money and from a balance."""
    (tmp_path / "faregate.toml").write_text(sold(upstream=vendor.port))
    port = free_port()
    demo = program.start(
        ["demo", "--port", str(port)],
        env={"FAREGATE_CONFIG": str(tmp_path / "faregate.toml")}, cwd=tmp_path, out=tmp_path / "said",
    )  # fmt: skip
    try:

        async def shown() -> bool:
            assert demo.ended() is None, (tmp_path / "said").read_text()
            return "Go on yourself" in (tmp_path / "said").read_text()

        await eventually(shown, within_s=60)
        said = (tmp_path / "said").read_text()
        assert "clean" in said
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/.well-known/x402") as answer:
                listed = (await answer.json())["resources"]
            assert sorted(each.rsplit("/", 1)[1] for each in listed) == [
                "jobs",
                "lead-session",
                "person",
                "phone",
                "search",
            ]
            for path in ("enrich/phone", "enrich/person", "shop/find"):
                for method in ("GET", "POST"):
                    async with session.request(method, f"{url}/api/v1/{path}") as answer:
                        assert answer.status == (404 if path == "shop/find" else 402)
                        offer = (await answer.json())["accepts"][0] if answer.status == 402 else None
                if offer is not None:
                    sent = {"PAYMENT-SIGNATURE": header(Payer(KEYS[1]).pay(offer)), "Content-Type": "application/json"}
                    body = orjson.dumps({"phone": "+12065550100"})
                    async with session.post(f"{url}/api/v1/{path}", headers=sent, data=body) as answer:
                        assert answer.status == 200, await answer.text()
                        receipt = orjson.loads(base64.b64decode(answer.headers["PAYMENT-RESPONSE"]))
                        assert receipt["sandbox"] is True
    finally:
        demo.kill(signal.SIGTERM)

        async def over() -> bool:
            return demo.ended() is not None

        await eventually(over)
    assert vendor.connections == 0
