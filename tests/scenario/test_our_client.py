"""`faregate pay` hands work over, signs for a ceiling, and tells what it came to."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from rigs.gate import KEYS, Gate
from rigs.payer import Payer
from rigs.scripted import CANARY, Step, failure, hang, miss, slow, taking
from rigs.upstream import ScriptedUpstream, reply
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from gateway.cli import app
from gateway.core.upstream import Context, Outcome

JOBS = "/api/v1/enrich/jobs"
PAYER = Payer(KEYS[0]).address
KEY = {"FAREGATE_PAY_KEY": KEYS[0].hex()}


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Gateway and command share a process here, and its outputs are the command's."""
    with capture_logs():
        yield


def asking(word: str = "word", **more: object) -> str:
    return json.dumps({"route": "test/metered", "payload": {"word": word}, "bill_up_to_usd": "1.50", **more})


async def pay(url: str, *arguments: str, data: str | None = None, env: dict[str, str] = KEY) -> Result:
    given = ["pay", url, "-d", data or asking(), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, app, given, env=env)


async def hand_over(gate: Gate, *arguments: str, data: str | None = None) -> Result:
    return await pay(gate.url + JOBS, "--max", "1.50", "--by", "upto", "--yes", *arguments, data=data)


def told(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("step", "charged", "released"),
    [
        (taking(500_000), "0.750", "0.750"),
        (taking(9_000_000), "1.500", "0.000"),
        (miss, "0.000", "1.500"),
    ],
    ids=["less", "all of it", "a miss"],
)
async def test_a_job_is_paid_for_what_it_came_to(tmp_path: Path, step: Step, charged: str, released: str) -> None:
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = step
        had = gate.sandbox.balance(PAYER)
        done = await hand_over(gate)
        assert done.exit_code == 0, done.output
        assert "Price     at most $1.500 in SUSD, by upto: you pay what it comes to\n" in done.stderr
        assert f"Charged   ${charged} of at most $1.500; ${released} released\n" in done.stderr
        assert re.search(r"^Phase     done, \d rounds?, after \d s$", done.stderr, re.MULTILINE)
        assert (told(done)["status"], told(done)["matched"]) == ("completed", step is not miss)
        assert had - gate.sandbox.balance(PAYER) == round(float(charged) * 1e6)
        assert ('"success": true' in done.stderr) is (CANARY in done.stdout) is (step is not miss)
        assert (gate.upstream.runs("word"), len(await gate.charges())) == (1, 1)


async def test_a_job_that_fails_costs_nothing(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = failure
        had = gate.sandbox.balance(PAYER)
        done = await hand_over(gate)
        assert (done.exit_code, told(done)["status"]) == (5, "failed")
        assert "Charged   $0.000 of at most" in done.stderr
        assert "Reason    UPSTREAM_ERROR: " in done.stderr
        assert gate.sandbox.balance(PAYER) == had


async def test_a_result_that_cannot_be_paid_for_is_withheld(tmp_path: Path) -> None:
    async def spent(context: Context) -> Outcome:
        gate.sandbox.fund(PAYER, 0)
        return await taking(500_000)(context)

    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = spent
        done = await hand_over(gate)
        assert (done.exit_code, told(done)["result"]) == (3, None)
        assert "Charged" not in done.stderr
        assert "Withheld  SETTLEMENT_FAILED: " in done.stderr
        gate.sandbox.fund(PAYER, 10_000_000)
        again = await hand_over(gate)
        assert (again.exit_code, told(again)["billing"]["charged_usd"]) == (0, "0.750")
        assert gate.upstream.runs("word") == 1, "paid for later, and worked for once"


async def test_a_job_that_somebody_cancels(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def long(context: Context) -> Outcome:
        begun.set()
        return await hang(context)

    async with Gate.open(tmp_path, toml="[jobs]\nlease_s = 1\n") as gate:
        gate.upstream.script["word"] = long
        agent, token = await gate.agent(10_000_000)
        bearer = {"Authorization": f"Bearer {token}"}
        paying = asyncio.create_task(pay(gate.url + JOBS, "-H", f"Authorization: Bearer {token}", env={}))
        await begun.wait()
        (charge,) = await gate.charges()
        found = await gate.gateway.db.read(lambda tx: tx.execute("SELECT id FROM jobs"))
        assert (await gate.send("DELETE", f"{JOBS}/{found[0][0]}", headers=bearer)).status == 200
        done = await paying
        assert (done.exit_code, told(done)["status"]) == (1, "cancelled")
        assert charge.charge.held_micros == 1_500_000
        assert (await gate.balance(agent)).available == 10_000_000


async def test_from_a_balance_nothing_is_signed(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = taking(500_000)
        agent, token = await gate.agent(10_000_000)
        done = await pay(gate.url + JOBS, "-H", f"Authorization: Bearer {token}", env={})
        assert done.exit_code == 0, done.output
        assert told(done)["result"]["data"]["found"] == CANARY
        assert "Charged   $0.750 of at most $1.500; $0.750 released\n" in done.stderr
        assert "Receipt" not in done.stderr
        assert (await gate.balance(agent)).available == 9_250_000


async def test_the_cap_is_held_against_the_ceiling(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        done = await pay(gate.url + JOBS, "--yes")
        assert (done.exit_code, done.stdout) == (3, "")
        assert "Nothing was paid: no offer can be paid: $1.500 is above the cap of $1.000" in done.stderr
        assert await gate.charges() == []


@pytest.mark.parametrize("allowance", [0, 1_499_999])
async def test_a_wallet_that_has_not_approved_the_ceiling_signs_a_permit(tmp_path: Path, allowance: int) -> None:
    async with Gate.open(tmp_path) as gate:
        gate.sandbox.allow_permit2(PAYER, allowance)
        gate.upstream.script["word"] = taking(500_000)
        done = await hand_over(gate)
        assert done.exit_code == 0, done.output
        assert "Permit2 may not take $1.500 of this wallet yet; a permit for just that is signed too" in done.stderr
        assert (told(done)["billing"]["charged_usd"], len(await gate.charges())) == ("0.750", 1)


async def test_a_call_that_is_waited_for_can_be_paid_by_upto_too(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = taking(200_000)
        had = gate.sandbox.balance(PAYER)
        done = await pay(
            gate.url + "/api/v1/test/metered", "--by", "upto", "--max", "2", "--yes", data='{"word": "word"}'
        )
        assert done.exit_code == 0, done.output
        assert '"amount": "300000"' in done.stderr
        assert had - gate.sandbox.balance(PAYER) == 300_000


async def test_who_does_not_follow_is_told_how_to_ask(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        gate.upstream.script["word"] = slow(0.2, taking(500_000))
        data = asking(callback_url="https://hooks.invalid/told")
        done = await hand_over(gate, "--no-follow", data=data)
        assert done.exit_code == 0, done.output
        accepted = told(done)
        asked = re.search(r"^Ask +(\S+)\n +with the header Authorization: Bearer (\S+)$", done.stderr, re.MULTILINE)
        assert asked is not None
        assert asked.groups() == (gate.url + accepted["poll_url"], accepted["poll_bearer"])
        assert f"is signed with {accepted['webhook_secret']}," in done.stderr
        bearer = {"Authorization": f"Bearer {asked[2]}"}
        ended = await gate.send("GET", f"{accepted['poll_url']}?wait=5", headers=bearer)
        assert ended.json["status"] == "completed"


async def test_on_a_terminal_a_bar_shows_that_something_goes_on(tmp_path: Path) -> None:
    async with Gate.open(tmp_path, toml="[jobs]\nlease_s = 1\n") as gate:
        gate.upstream.script["word"] = slow(1.0)
        _, token = await gate.agent(10_000_000)
        ours, theirs = pty.openpty()
        command = "import sys; sys.argv[0] = 'faregate'; from gateway.cli import main; main()"
        given = ["pay", gate.url + JOBS, "-d", asking(), "-H", f"Authorization: Bearer {token}"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", command, *given, stdout=asyncio.subprocess.PIPE, stderr=theirs,
            cwd=Path(__file__).parents[2], env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )  # fmt: skip
        said, _ = await process.communicate()
        shown = os.read(ours, 100_000).decode()
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0, shown
    assert json.loads(said)["status"] == "completed"
    assert re.search(r"handed over .*0:00:0[01]", shown)
    assert "Phase " not in shown
    assert "Charged   $0.100 of at most $1.500" in shown


def shop(**changes: object) -> ScriptedUpstream:
    """One that hands everything over, and whose job has ended."""
    accepted = {"job_id": "ej_1", "poll_url": "/jobs/ej_1", "poll_bearer": "411j_secret", **changes}
    return ScriptedUpstream().on("/", reply(accepted, status=202))


async def test_what_a_stranger_says_does_not_steer_the_terminal() -> None:
    bell = "\x07\x9b"
    settlement = {"transaction": bell, "network": bell}
    ended = {
        "status": "failed", "progress": {"phase": bell, "rounds_used": 1},
        "billing": {"charged_usd": bell, "bill_up_to_usd": [], "settlement": settlement},
        "error": {"code": bell, "message": "\r" + bell},
    }  # fmt: skip
    async with shop(job_id=bell, webhook_secret=bell) as there:
        there.on("/jobs/ej_1", reply(ended))
        done = await pay(there.url("/"), env={})
    async with shop(poll_url="/" + bell, poll_bearer=bell, webhook_secret=bell) as there:
        lost, left = await pay(there.url("/"), env={}), await pay(there.url("/"), "--no-follow", env={})
    assert [each.exit_code for each in (done, lost, left)] == [5, 5, 0]
    assert "Reason    ??: ???\n" in done.stderr
    assert "Bearer ??\n" in lost.stderr
    for each in (done, lost, left):
        assert all(char.isprintable() or char == "\n" for char in each.output)


async def test_a_poll_url_of_another_server_is_not_followed() -> None:
    async with ScriptedUpstream() as other, shop(poll_url=other.url("/jobs")) as there:
        done = await pay(there.url("/"), env={})
        assert other.seen == []
        assert (done.exit_code, len(there.seen)) == (5, 1)
        assert "the poll bearer is not sent there" in done.stderr
        assert "Authorization: Bearer 411j_secret\n" in done.stderr


async def test_a_settlement_without_a_receipt_is_told() -> None:
    settlement = {"transaction": "0x" + "ab" * 32, "network": "eip155:8453"}
    async with shop() as there:
        there.on("/jobs/ej_1", reply({"status": "completed", "billing": {"settlement": settlement}}))
        done = await pay(there.url("/"), env={})
    assert f"Settled   {settlement['transaction']} on eip155:8453\n" in done.stderr


async def test_an_end_without_a_word_about_money() -> None:
    async with shop() as there:
        there.on("/jobs/ej_1", reply({"status": "completed", "error": None}))
        done = await pay(there.url("/"), env={})
    assert (done.exit_code, orjson.loads(done.stdout)["status"]) == (0, "completed")
    assert "Charged" not in done.stderr


@pytest.mark.parametrize(
    ("code", "status"), [("SETTLEMENT_FAILED", 3), ("RESULT_EXPIRED", 4), ("NEVER_HEARD_OF", 5), ([], 5)]
)
async def test_completed_and_without_its_result(code: object, status: int) -> None:
    async with shop() as there:
        there.on("/jobs/ej_1", reply({"status": "completed", "error": {"code": code, "message": "so it is"}}))
        assert (await pay(there.url("/"), env={})).exit_code == status


async def test_ctrl_c_at_the_question_ends_it_and_nothing_is_signed(tmp_path: Path) -> None:
    async with Gate.open(tmp_path) as gate:
        ours, theirs = pty.openpty()
        command = "import sys; sys.argv[0] = 'faregate'; from gateway.cli import main; main()"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", command, "pay", gate.url + JOBS, "-d", asking(), "--max", "1.50",
            stdin=theirs, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2], env={**os.environ, "FAREGATE_PAY_KEY": KEYS[0].hex()},
        )  # fmt: skip
        assert process.stderr is not None
        said = await process.stderr.readuntil(b"Pay?")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            said += await process.stderr.read()
            assert await process.wait() == 1
        os.close(ours)
        os.close(theirs)
        assert b"has left" not in said
        assert await gate.charges() == []


@pytest.mark.parametrize(
    ("path", "bearer", "status"),
    [("/nope", None, 2), (JOBS, "411_bogus", 2), ("/api/v1/enrich/jobs/ej_x", None, 2)],
)
async def test_without_a_payment_it_ends_as_the_answers_code_has_it(
    tmp_path: Path, path: str, bearer: str | None, status: int
) -> None:
    async with Gate.open(tmp_path) as gate:
        given = ["-d", asking(), "-H", f"Authorization: Bearer {bearer}"] if bearer else []
        assert (await pay(gate.url + path, *given, env={})).exit_code == status
