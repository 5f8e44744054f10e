"""The command line as an operator meets it: what is printed, where, and the exit status."""

import asyncio
import json
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog
from rigs import books
from rigs.caller import Caller
from rigs.chain import MULTICALL3, PAYER_KEYS, PERMIT2, RELAYER_KEY, USDC, Chain
from rigs.facilitator import FacilitatorServer

from gateway.assemble import mistakes, open_database
from gateway.cli import init, main
from gateway.core import ticket
from gateway.core.agent import Cap, KeyTerms, Period
from gateway.core.charge import Charge, Event, Source
from gateway.core.deposit import Arrival
from gateway.core.vendor_call import Outcome
from gateway.settings import parse
from gateway.store import charges, deposits, tickets, usage_keys
from gateway.store.agents import NewToken
from gateway.store.database import Tx

COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'faregate'; from gateway.cli import main; main()"]
ROOT = Path(__file__).parents[1]
OWN = "0x52908400098527886E0F7030069857D2E4169EE7"
OTHER = "0xde709f2102306220921060314715629080e2fb77"
PEOPLE = """\
First Name,Last Name,Phone,Street,City,State,Zip
Dana,Sample,(206) 555-0100,12 Example Ave,Seattle,WA,98101
Lee,Sample,206-555-0101,14 Example Ave,Seattle,WA,98101
Bad,Row,1,2,3,4,5,6,7,8
"""


class Done(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def faregate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`faregate("agents", "list")` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FAREGATE_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["faregate", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    yield run
    structlog.configure(**before)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@contextmanager
def started(folder: Path, *arguments: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process of its own, ended at the end."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# init, help


def test_help_names_every_command_and_loads_no_chain_and_no_models(faregate: Run) -> None:
    done = faregate("--help")
    for command in "init serve demo check operations audit backup pay agents charges directory".split():  # noqa: SIM905
        assert re.search(rf"^  {command} ", done.out, re.MULTILINE)
    heavy = "print([m for m in ('web3', 'pydantic', 'aiohttp', 'apsw', 'rich') if m in sys.modules])"
    script = f"import gateway.cli, sys; {heavy}"
    quick = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert quick.stdout.strip() == "[]"


def test_init_writes_a_file_that_changes_nothing(faregate: Run) -> None:
    assert faregate("init").status == 0
    tables = tomllib.loads(Path("faregate.toml").read_text())
    assert parse(tables) == parse({})


@pytest.mark.parametrize("other", ["bearer = ", "jwt_"])
def test_every_line_of_it_is_valid_once_it_is_switched_on(other: str) -> None:
    lines = init.template().splitlines()
    switched = [re.sub(r"^# (?=[\w\"]+ = |\[\[)", "", line) for line in lines]
    text = "\n".join(line for line in switched if not line.startswith(("tokens = ", "key_file = ", other)))
    environ = dict.fromkeys(
        ("RELAYER_KEY", "OPERATOR_TOKEN", "FACILITATOR_TOKEN", "WEATHER_KEY", "WHITEPAGES_KEY", "BASE_RPC_URL"), ""
    )
    environ |= {"RELAYER_KEY": "0b" * 32, "BASE_RPC_URL": "https://rpc.example.com"}
    environ |= dict.fromkeys(
        ("OPERATOR_TOKEN", "FACILITATOR_TOKEN", "WEATHER_KEY", "WHITEPAGES_KEY", "LLM_KEY"), "some-secret-or-other"
    )
    environ |= {"CDP_API_KEY_ID": "me", "CDP_API_KEY_SECRET": Caller().secret}
    text = text.replace('"0x..."', f'"{OWN}"').replace('"0x... (not pay_to)"', f'"{OTHER}"')
    tables = tomllib.loads(text.replace('kind = "none"', 'kind = "relayer"'))
    settings = parse(tables, environ, also=mistakes)
    assert settings.networks[0].id == "eip155:8453"
    assert settings.http_upstreams[0]["id"] == "weather/now"
    assert settings.providers["whitepages"].cost_per_call == "0.10"


def test_init_never_writes_over_a_file(faregate: Run) -> None:
    Path("faregate.toml").write_text("# mine\n")
    done = faregate("init")
    assert done.status == 1
    assert "exists already" in done.err
    assert Path("faregate.toml").read_text() == "# mine\n"


# mistakes


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_broken_configuration_is_one_report_and_a_status(faregate: Run, command: str) -> None:
    Path("faregate.toml").write_text(
        '[service]\nport = "ninety"\nname = nope\n[prices]\n"enrich/nothing" = "1"\n'
        '[settlement]\nkind = "sandbox"\n[[networks]]\nid = "eip155:8453"\n'
    )
    done = faregate(command)
    assert done.status == 2
    assert done.out == ""
    assert "The configuration has 4 mistakes:" in done.err
    for told in ("line 3", "[service] port", "[[networks]] eip155:8453, pay_to", '[prices] "enrich/nothing"'):
        assert told in done.err


def test_a_named_configuration_must_be_there(faregate: Run) -> None:
    done = faregate("check", "--config", "other.toml")
    assert done.status == 2
    assert "other.toml: No such file or directory; `faregate init` writes one" in done.err


def test_a_taken_port_is_told_in_a_line(faregate: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        Path("faregate.toml").write_text(f"[service]\nport = {port}\n")
        for arguments in (("serve",), ("demo", "--port", port)):
            done = faregate(*arguments)
            assert done.status == 5
            assert "ddress already in use" in done.err
            assert "choose another" in done.err


def test_a_file_of_a_newer_version_is_left_alone(faregate: Run) -> None:
    assert faregate("agents", "list").status == 0
    import apsw

    connection = apsw.Connection("data/faregate.db")
    connection.execute("INSERT INTO migrations VALUES (9999, 'from the future', 0)")
    connection.close()
    done = faregate("agents", "list")
    assert done.status == 5
    assert "Traceback" not in done.err


# agents, charges, audit, backup


def test_an_agents_life(faregate: Run) -> None:
    created = faregate("agents", "create", "first", "--credit", "5", "--grant", "0.20")
    agent, token = re.findall(r"(?:agent|token)  (\S+)", created.out)
    assert token.startswith("411_")
    again = faregate("agents", "credit", agent, "1.50", "--id", "invoice-7")
    assert "has $6.500 of its own and $0.200 bonus" in again.out
    assert faregate("agents", "credit", agent, "1.50", "--id", "invoice-7").out == again.out
    assert faregate("agents", "credit", agent, "9.00", "--id", "invoice-7").status == 4
    (row,) = [json.loads(line) for line in faregate("agents", "list", "--json").out.splitlines()]
    assert (row["label"], row["available_usd"], row["bonus_usd"], row["tokens"]) == ("first", "6.500", "0.200", 1)
    assert faregate("agents", "revoke", agent, "--yes").out == "1 token revoked\n"
    assert faregate("agents", "revoke", agent, "--yes").out == "0 tokens revoked\n"
    anew = re.fullmatch(r"token  (411_[0-9A-Za-z]{49})\n", faregate("agents", "token", agent).out)
    assert anew is not None
    assert anew.group(1) not in created.out
    assert faregate("agents", "revoke", agent, "--yes").out == "1 token revoked\n"
    assert faregate("audit").status == 0
    assert token not in Path("data/faregate.db").read_bytes().decode("latin-1")


def test_an_agent_is_frozen_looked_at_and_let_go(faregate: Run) -> None:
    agent, token = re.findall(r"(?:agent|token)  (\S+)", faregate("agents", "create", "first", "--credit", "5").out)
    assert faregate("agents", "freeze", agent, "--yes", "--note", "ten thousand misses").out == f"{agent} is frozen\n"
    shown = json.loads(faregate("agents", "show", agent, "--json").out)
    assert (shown["status"], shown["available_usd"], shown["debt_usd"]) == ("frozen", "5.000", "0.000")
    assert [set(row) for row in shown["tokens"]] == [{"id", "kind", "hint", "created", "revoked"}]
    assert (shown["wallets"], shown["open_holds"], shown["jobs"], shown["charges"]) == ([], [], [], [])
    assert shown["actions"][0]["detail"] == "frozen: ten thousand misses"
    assert [row["action"] for row in shown["actions"]] == ["set_status", "add_token", "credit", "create_agent"]
    assert faregate("agents", "unfreeze", agent).out == f"{agent} is active\n"
    told = faregate("agents", "show", agent, "--limit", "1").out
    assert re.search(r"^status +active$", told, re.MULTILINE)
    assert re.search(r"set_status +\S+ +active$", told, re.MULTILINE)
    assert token not in told + json.dumps(shown)
    log = [json.loads(line) for line in faregate("actions", "list", "--json").out.splitlines()]
    assert [row["detail"] for row in log[:2]] == ["active", "frozen: ten thousand misses"]
    assert agent in faregate("actions", "list", "--subject", agent).out
    assert "no such actions" in faregate("actions", "list", "--subject", "nobody").err
    assert faregate("audit").status == 0


CALLBACK = """
import asyncio, sys
from rigs import postman
from gateway.store.sqlite import SqliteDatabase
from gateway.store import outbox

async def main():
    db = await SqliteDatabase("data/faregate.db", clock_ms=lambda: 1_800_000_000_000).open()
    await postman.post(db, "https://hooks.example.org/a?key=1", "https://hooks.example.org/a?key=1")
    (taken,) = await db.write(outbox.due, "own_1_000000000000", 1000, 1, at_once=9, a_second=9)
    await db.write(outbox.gave_up, taken.id, "own_1_000000000000", status=503, error="status")
    await db.close()
    print(taken.id)

asyncio.run(main())
"""


def test_callbacks_are_listed_shown_and_replayed(faregate: Run) -> None:
    agent = faregate("agents", "create", "first").out.split()[1]
    assert "no such events" in faregate("webhooks", "list").err
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", CALLBACK], env=environment, capture_output=True, text=True, check=True)
    event = ran.stdout.split()[-1]
    dead = [json.loads(line) for line in faregate("webhooks", "list", "--state", "failed", "--json").out.splitlines()]
    assert [(row["event"], row["attempts"], row["last"]) for row in dead] == [(event, 1, "503 status")]
    assert len(faregate("webhooks", "list", "--json").out.splitlines()) == 2
    assert event in faregate("webhooks", "list").out
    shown = json.loads(faregate("webhooks", "show", event).out)
    assert (shown["url"], shown["tells"]["event_id"]) == ("https://hooks.example.org/a?key=1", event)
    assert faregate("webhooks", "replay", event).status == 0
    assert json.loads(faregate("webhooks", "show", event).out)["state"] == "pending"
    again = faregate("webhooks", "replay", event)
    assert (again.status, "still being delivered" in again.err) == (4, True)
    for command in ("show", "replay"):
        unknown = faregate("webhooks", command, "evt_nothing")
        assert (unknown.status, "webhooks list" in unknown.err) == (2, True)
    assert faregate("webhooks", "list", "--state", "lost").status == 2
    made = [faregate("webhooks", "secret", agent).out.split()[1] for _ in range(2)]
    assert len(set(made)) == 2
    assert all(secret.startswith("whsec_") for secret in made)
    assert faregate("webhooks", "secret", "agt_nobody").status == 2
    assert faregate("webhooks", "secret", agent, "--overlap", "604801").status == 2


def keys_of(path: Path, agent_id: str) -> None:
    """Two keys of this agent, as it would have made them."""

    async def make() -> None:
        async with books.books(path, clean=False) as db:
            for number, cap in enumerate((Cap(25_000_000, Period.TOTAL), None)):
                token = NewToken(f"tok_k{number}", bytes([number]) * 32, f"411k_...ab{number}")
                terms = KeyTerms(f"import {number}", ("enrich:phone", "jobs"), cap)
                await db.write(usage_keys.create, f"key_{number}", agent_id, terms, token)

    asyncio.run(make())


def test_an_operator_lists_and_revokes_usage_keys(faregate: Run, tmp_path: Path) -> None:
    created = faregate("agents", "create", "first").out
    agent = created.split()[1]
    assert faregate("agents", "keys", agent).out == ""
    keys_of(tmp_path / "data" / "faregate.db", agent)
    one, two = [json.loads(line) for line in faregate("agents", "keys", agent, "--json").out.splitlines()]
    assert one == {
        "key": "key_0", "hint": "411k_...ab0", "label": "import 0", "status": "active", "scopes": "enrich:phone jobs",
        "cap_usd": "25.000", "period": "total", "used_usd": "0.000", "expires": None, "last_used": None,
    }  # fmt: skip
    assert (two["cap_usd"], two["period"]) == (None, None)
    assert "411k_...ab1" in faregate("agents", "keys", agent).out
    (row,) = [json.loads(line) for line in faregate("agents", "list", "--json").out.splitlines()]
    assert (row["tokens"], row["keys"]) == (1, 2)

    assert faregate("agents", "revoke", agent, "--key", "key_none", "-y").status != 0
    assert faregate("agents", "revoke", agent, "--key", "key_0", "-y").out == "1 usage key revoked\n"
    (left,) = [json.loads(line) for line in faregate("agents", "keys", agent, "--json").out.splitlines()]
    assert left["key"] == "key_1"
    assert len(faregate("agents", "keys", agent, "--all", "--json").out.splitlines()) == 2
    assert faregate("agents", "revoke", agent, "-y").out == "1 token revoked\n1 usage key revoked\n"
    assert faregate("agents", "keys", agent).out == ""
    assert faregate("audit").status == 0


@pytest.mark.parametrize("label", ["", " ", "two\nlines", "\x1b[31mred", "x" * 101])
def test_an_agent_has_a_name_that_can_be_printed(faregate: Run, label: str) -> None:
    done = faregate("agents", "create", label)
    assert (done.status, done.out) == (2, "")
    assert "1 to 100 printable characters" in done.err


@pytest.mark.parametrize("amount", ["-1", "0", "1e3", "five", "0.0000001", "nan", "99999999999"])
def test_odd_amounts_change_nothing(faregate: Run, amount: str) -> None:
    agent = re.findall(r"agent  (\S+)", faregate("agents", "create", "x").out)[0]
    done = faregate("agents", "credit", "--", agent, amount)
    assert done.status == 2
    assert '"available_usd": "0.000"' in faregate("agents", "list", "--json").out


def test_what_is_not_there_is_told(faregate: Run) -> None:
    for arguments in (
        ("agents", "credit", "agt_none", "1"),
        ("agents", "token", "agt_none"),
        ("agents", "revoke", "agt_none", "-y"),
        ("agents", "freeze", "agt_none", "-y"),
        ("agents", "unfreeze", "agt_none"),
        ("agents", "show", "agt_none"),
        ("agents", "keys", "agt_none"),
    ):
        done = faregate(*arguments)
        assert (done.status, "there is no agent agt_none" in done.err) == (2, True)
    for arguments in (("charges", "show", "chg_none"), ("charges", "refund", "chg_none", "-y")):
        done = faregate(*arguments)
        assert (done.status, "there is no charge chg_none" in done.err) == (2, True)
    assert faregate("charges", "list", "--state", "magic").status == 2
    assert "no such charges" in faregate("charges", "list").err


def test_audit_tells_what_is_wrong_and_fails(faregate: Run) -> None:
    faregate("agents", "create", "x", "--credit", "5")
    import apsw

    connection = apsw.Connection("data/faregate.db")
    connection.execute("UPDATE accounts SET balance_micros = balance_micros + 1 WHERE name LIKE '%:available'")
    connection.close()
    done = faregate("audit", "--json")
    assert done.status == 1
    assert "cache" in {json.loads(line)["rule"] for line in done.out.splitlines()}


def test_backup_beside_the_ledger_or_where_it_is_told(faregate: Run) -> None:
    assert "there is no ledger" in faregate("backup").err
    faregate("agents", "create", "x")
    assert faregate("backup").status == 0
    assert len(list(Path("data").glob("faregate-2*.db"))) == 1
    assert faregate("backup", "copy.db").status == 0
    assert "exists already" in faregate("backup", "copy.db").err
    assert "nowhere/copy.db.part: No such file or directory" in faregate("backup", "nowhere/copy.db").err


async def _sold(path: Path) -> None:
    async with books.books(path) as db:
        await books.agent(db, "ann", own=1_000_000)
        for id, event, micros, calls in (
            ("chg_1", Event.MATCHED, 300_000, books.bought(100_000)),
            ("chg_2", Event.MISSED, 0, books.bought(100_000, outcome=Outcome.NO_MATCH)),
        ):
            await db.write(charges.hold, books.charge(id, "ann", 300_000), books.work("ann"), None, None)
            await db.write(charges.record, id, event, micros, calls=calls)


def test_margins_tell_what_is_left(faregate: Run) -> None:
    assert "Nothing was sold or bought" in faregate("margins").err
    asyncio.run(_sold(Path("data/faregate.db")))
    (row,) = [json.loads(line) for line in faregate("margins", "--json").out.splitlines()]
    assert row == {
        "operation": "enrich/phone", "sold": 1, "calls": 2, "matches": 1, "misses": 1, "failures": 0, "cached": 0,
        "unknown": 0, "revenue_usd": "0.300", "cost_usd": "0.200", "misses_cost_usd": "0.100", "margin_usd": "0.100",
        "unknown_held_usd": "0.000",
    }  # fmt: skip
    day = "2027-01-15"  # where the clock of the books stands
    told = faregate("margins", "--by", "provider", "--by", "day", "--from", day, "--to", day).out
    assert re.search(rf"^provider +day +sold .*\nvendor +{day} +1 .* 0\.100$", told, re.MULTILINE)
    assert "Nothing" in faregate("margins", "--from", "2027-01-16").err
    assert "Nothing" in faregate("margins", "--to", "2027-01-14").err
    (call,) = json.loads(faregate("charges", "show", "chg_2").out)["bought"]
    assert (call["provider"], call["outcome"], call["cost_usd"]) == ("vendor", "no_match", "0.100")


@pytest.mark.parametrize("odd", [("--by", "week"), ("--from", "yesterday"), ("--to", "2027-02-30")])
def test_odd_margins_are_told(faregate: Run, odd: tuple[str, str]) -> None:
    done = faregate("margins", *odd)
    assert (done.status, odd[0] in done.err) == (2, True)


# directory


def test_a_directory_is_loaded_and_counted(faregate: Run) -> None:
    Path("people.csv").write_text(PEOPLE)
    assert "there is no directory" in faregate("directory", "stats").err
    assert "offline" in faregate("operations").out
    done = faregate("directory", "load", "people.csv", "--yes")
    assert done.status == 0
    assert "line 4:" in done.err
    assert "2 of 3 rows loaded as people.csv" in done.out
    assert re.search(r"First Name +first +Dana", done.out)
    assert {path.stat().st_mode & 0o077 for path in Path("data").glob("directory.db*")} == {0}, "it holds people"
    assert json.loads(faregate("directory", "stats", "--json").out)["persons"] == 2
    assert "on sale" in faregate("operations").out


def test_a_file_that_holds_nobody(faregate: Run) -> None:
    Path("odd.csv").write_text("a,b\n1,2\n")
    done = faregate("directory", "load", "odd.csv", "--yes")
    assert done.status == 1
    assert "no column is a name" in done.err
    assert faregate("directory", "load", "odd.csv", "--column", "phone").status == 2


# check


def test_check_of_the_defaults(faregate: Run) -> None:
    done = faregate("check")
    assert done.status == 0
    assert re.search(r"^ok +ledger .*SQLite 3\.", done.out, re.MULTILINE)
    assert "only agents with a balance can pay" in done.out


def test_check_tells_that_callers_behind_a_proxy_have_no_address(faregate: Run) -> None:
    Path("faregate.toml").write_text('[service]\npublic_url = "https://api.example.com"')
    assert "trusted_proxies is empty" in faregate("check").out
    Path("faregate.toml").write_text('[service]\npublic_url = "https://api.example.com"\ntrusted_proxies = "10.0.0.5"')
    assert "trusted_proxies" not in faregate("check").out


def test_check_tells_a_ledger_that_cannot_be_used(faregate: Run) -> None:
    """F-105 and friends: whatever is wrong with the file is a line with its mend, not a trace."""
    Path("data").mkdir()
    Path("data/faregate.db").write_text("this is no database, and never was one " * 100)
    done = faregate("check")
    assert done.status == 1
    assert re.search(r"^FAIL +ledger", done.out, re.MULTILINE)


RELAYING = """\
[settlement]
kind = "relayer"
[relayer]
key = "${RELAYER}"
[[networks]]
id = "eip155:84532"
rpc_urls = [%(urls)s]
pay_to = "0x52908400098527886E0F7030069857D2E4169EE7"
%(more)s
"""


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    chain = Chain.start()
    yield chain
    chain.close()


@pytest.mark.chain
def test_check_of_a_chain(faregate: Run, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAYER", RELAYER_KEY.hex())
    Path("faregate.toml").write_text(RELAYING % {"urls": f'"{chain.url}"', "more": ""})
    done = faregate("check")
    assert done.status == 0, done
    assert "is of this chain" in done.out
    assert "USDC 2, 6 decimals" in done.out
    assert "ETH for gas" in done.out


WRONG_CHAINS = {
    "nobody there": ('"http://127.0.0.1:9"', "", "rpc_urls no. 1"),
    "one of two": ('"{url}", "http://127.0.0.1:9"', "", "rpc_urls no. 2"),
    "another name": (
        '"{url}"',
        f'tokens = [{{ address = "{USDC}", name = "USD Coin", version = "2", decimals = 6 }}]',
        "its signing domain is not 'USD Coin', '2'; it says name 'USDC', version '2'",
    ),
    "another version": (
        '"{url}"',
        f'tokens = [{{ address = "{USDC}", name = "USDC", version = "1", decimals = 6 }}]',
        "its signing domain is not 'USDC', '1'",
    ),
    "other decimals": (
        '"{url}"',
        f'tokens = [{{ address = "{USDC}", name = "USDC", version = "2", decimals = 18 }}]',
        "it has 6 decimals, not 18",
    ),
    "no contract": (
        '"{url}"',
        f'tokens = [{{ address = "0x{"25" * 20}", name = "USDC", version = "2", decimals = 6 }}]',
        "there is no contract at",
    ),
}


@pytest.mark.chain
@pytest.mark.parametrize(("urls", "more", "told"), WRONG_CHAINS.values(), ids=WRONG_CHAINS)
def test_check_tells_what_is_wrong_with_a_chain(
    faregate: Run, chain: Chain, monkeypatch: pytest.MonkeyPatch, urls: str, more: str, told: str
) -> None:
    """F-050, F-083."""
    monkeypatch.setenv("RELAYER", RELAYER_KEY.hex())
    Path("faregate.toml").write_text(RELAYING % {"urls": urls.replace("{url}", chain.url), "more": more})
    done = faregate("check")
    assert done.status == 1
    assert any(line.startswith("FAIL") and told in line for line in done.out.splitlines()), done.out


@pytest.mark.chain
@pytest.mark.parametrize(
    ("address", "mend"),
    [(PERMIT2, 'set methods = ["eip3009"]'), (MULTICALL3, "the relayer cannot settle on this chain")],
)
def test_check_tells_a_contract_that_is_not_there(
    faregate: Run, chain: Chain, monkeypatch: pytest.MonkeyPatch, address: str, mend: str
) -> None:
    monkeypatch.setenv("RELAYER", RELAYER_KEY.hex())
    Path("faregate.toml").write_text(RELAYING % {"urls": f'"{chain.url}"', "more": ""})
    with chain.restored():
        chain.rpc("anvil_setCode", address, "0x")
        done = faregate("check")
    assert done.status == 1
    (line,) = [line for line in done.out.splitlines() if line.startswith("FAIL")]
    assert mend in line


@pytest.mark.chain
def test_check_tells_an_empty_gas_purse(faregate: Run, chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-182, before it becomes an alarm."""
    monkeypatch.setenv("RELAYER", "0b" * 32)
    Path("faregate.toml").write_text(RELAYING % {"urls": f'"{chain.url}"', "more": ""})
    done = faregate("check")
    assert done.status == 1
    assert "less than gas_low_eth" in done.out


FACILITATED = """\
[settlement]
kind = "facilitator"
[facilitator]
url = "%(url)s"
trust_facilitator = true
%(known_by)s
[[networks]]
id = "eip155:84532"
pay_to = "0x52908400098527886E0F7030069857D2E4169EE7"
"""
BY_KEY = 'jwt_key_id = "${KEY_ID}"\njwt_secret = "${KEY_SECRET}"'
KNOCKS = {
    "key": (BY_KEY, set(), "ok", "/supported takes a token signed by jwt_secret (EdDSA)"),
    "key, open": (BY_KEY, {"/supported"}, "note", "is shown a token signed by jwt_secret (EdDSA), but answers"),
    "a stranger's key": (BY_KEY, set(), "FAIL", "does not take a token signed by jwt_secret (EdDSA) and answers 401"),
    "bearer": ('bearer = "my-bearer-token"', set(), "FAIL", "/supported does not take bearer and answers 401"),
    "nothing": ("", set(), "FAIL", "answers 401: it wants to know who asks; set bearer, or jwt_key_id and jwt_secret"),
}


@pytest.mark.parametrize(("known_by", "open", "level", "told"), KNOCKS.values(), ids=KNOCKS)
def test_check_tells_whether_the_facilitator_knows_us(
    faregate: Run, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
    known_by: str, open: set[str], level: str, told: str,
) -> None:  # fmt: skip
    caller = Caller()
    stranger = "stranger" in request.node.callspec.id
    monkeypatch.setenv("KEY_ID", caller.id)
    monkeypatch.setenv("KEY_SECRET", (Caller() if stranger else caller).secret)
    with serving(caller, open) as url:
        Path("faregate.toml").write_text(FACILITATED % {"url": url, "known_by": known_by})
        done = faregate("check")
    lines = [line for line in done.out.splitlines() if told in line]
    assert [line.split()[:2] for line in lines] == [[level, "facilitator"]], done
    assert done.status == (level == "FAIL")
    for hidden in (caller.secret, "my-bearer-token", *filter(None, caller.tokens)):
        assert hidden not in done.out + done.err


@contextmanager
def serving(caller: Caller, open: set[str]) -> Iterator[str]:
    """A facilitator in a thread of its own: the command line has a loop of its own in this one."""
    loop, fac = asyncio.new_event_loop(), FacilitatorServer()
    fac.caller, fac.open = caller, open
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(fac.__aenter__(), loop).result()
    try:
        yield fac.url
    finally:
        asyncio.run_coroutine_threadsafe(fac.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# serve, pay, demo


def wait_until_ready(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        told = json.loads(line)
        if told["event"] == "ready":
            assert told["sandbox"] is True
            return str(told["listening"])
    raise AssertionError("it ended before it was ready")


def test_serve_and_pay(faregate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A customer's afternoon: a match by EIP-3009, a miss by Permit2, a price above the cap; then a clean stop."""
    Path("people.csv").write_text(PEOPLE)
    faregate("directory", "load", "people.csv", "--yes")
    Path("faregate.toml").write_text(f'[service]\nport = {free_port()}\n[settlement]\nkind = "sandbox"\n')
    with started(Path.cwd(), "serve") as process:
        url = wait_until_ready(process) + "/api/v1/enrich/phone"
        monkeypatch.setenv("FAREGATE_PAY_KEY", PAYER_KEYS[0].hex())
        match = faregate("pay", url, "-d", '{"phone": "+12065550100"}', "--yes")
        miss = faregate("pay", url, "-d", '{"phone": "+13075550199"}', "--yes", "--by", "permit2")
        dear = faregate("pay", url, "-d", '{"phone": "+12065550100"}', "--yes", "--max", "0.32")
        wrong = faregate("pay", url, "-d", '{"phone": "12"}', "--yes")
        foreign = faregate("pay", url, "-d", "{}", "--yes", "--network", "eip155:8453")
        process.send_signal(signal.SIGTERM)
        log = [json.loads(line) for line in process.communicate(timeout=20)[1].splitlines()]
        assert process.returncode == 0
    assert match.status == 0
    billing = json.loads(match.out)["billing"]
    assert billing["charged_usd"] == "0.330"
    assert [line["charge_id"] for line in log if line.get("outcome") == "match"] == [billing["charge_id"]]
    assert '"success": true' in match.err
    assert f"{billing['charge_id']}, to be fetched again with X-Charge-Token: 411c_" in match.err
    assert miss.status == 0
    assert json.loads(miss.out)["matched"] is False
    assert "nothing was charged" in miss.err
    assert (dear.status, "$0.330 is above the cap of $0.320" in dear.err) == (3, True)
    assert (wrong.status, json.loads(wrong.out)["code"]) == (2, "INVALID_PHONE")
    assert (foreign.status, "is not eip155:8453" in foreign.err) == (3, True)
    rows = [json.loads(line) for line in faregate("charges", "list", "--json").out.splitlines()]
    assert [row["state"] for row in rows] == ["released", "settled"]
    refund = faregate("charges", "refund", rows[1]["charge"], "--usd", "0.30", "--yes", "--note", "sorry")
    assert "refunded $0.300" in refund.out
    much = faregate("charges", "refund", rows[1]["charge"], "--usd", "0.04", "--yes")
    assert (much.status, "has $0.030 left to refund, not $0.040" in much.err) == (4, True)
    assert faregate("charges", "refund", rows[1]["charge"], "--yes").status == 0
    assert "nothing of" in faregate("charges", "refund", rows[1]["charge"], "--yes").err
    assert faregate("audit").status == 0


def test_pay_without_key_body_or_shop(faregate: Run) -> None:
    assert faregate("pay", "http://127.0.0.1:9/x", "--yes").status == 5
    assert faregate("pay", "http://127.0.0.1:9/x", "-d", "{nope").status == 2
    assert faregate("pay", "http://127.0.0.1:9/x", "-H", "nope").status == 2
    assert faregate("pay", "ftp://127.0.0.1/x", "--yes").status == 5


SHOWN = (
    "402 AGENT_TOKEN_REQUIRED",
    "200, matched: true, billed: true",
    '{"success":true,"transaction":"0x',
    "0.330 Sandbox USD less",
    "200, matched: false, billed: false",
    "0.000 Sandbox USD less",
    '"available_usd":"4.670"',
    "audit    clean",
)


def test_demo_shows_all_it_promises(faregate: Run) -> None:
    done = faregate("demo", "--once", "--port", "0")
    assert done.status == 0, done.err
    for told in SHOWN:
        assert told in done.out
    assert list(Path().iterdir()) == [], "what is not kept vanishes"


def test_demo_stays_up_to_be_tried(tmp_path: Path) -> None:
    with started(tmp_path, "demo", "--port", "0", "--data", "kept", PYTHONUNBUFFERED="1") as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "Authorization: Bearer 411_" in line)
        arguments = [*shlex.split(line), "--silent"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=20, check=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert json.loads(done.stdout)["matched"] is True
    assert (tmp_path / "kept" / "demo.db").exists()


# crash points


def test_a_crash_point_kills_the_process_there() -> None:
    script = (
        "from gateway.cli.serving import arm_crash_point as arm; from gateway.core.crash import point\n"
        "arm('hold.after:2'); point('hold.before'); point('hold.after'); print(1, flush=True); point('hold.after')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n")


def test_a_crash_point_that_is_none_is_refused(faregate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAREGATE_CRASH_AT", "nowhere")
    done = faregate("serve")
    assert done.status == 2
    assert "nowhere is no crash point" in done.err


def test_a_statement_in_every_form(faregate: Run) -> None:
    agent_id = faregate("agents", "create", "ann", "--credit", "5.00", "--grant", "0.20").out.split()[1]
    for number in range(3):
        faregate("agents", "credit", agent_id, "1.00", "--id", f"c{number}")
    lines = [json.loads(line) for line in faregate("statement", agent_id, "--json").out.splitlines()]
    assert [each["balance_usd"] for each in lines] == ["8.200", "7.200", "6.200", "5.200", "5.000"]
    head, *rows = faregate("statement", agent_id, "--csv").out.splitlines()
    assert head == ",".join(lines[0])
    assert rows == [",".join(value or "" for value in each.values()) for each in lines]
    table = faregate("statement", agent_id, "--limit", "2").out.splitlines()
    assert [line.split()[0] for line in table] == ["id", "mov_5", "mov_4"]
    assert faregate("statement", agent_id, "--to", "2020-01-01").err == "There are no movements.\n"
    assert faregate("statement", "agt_nobody").status == 2
    assert faregate("statement", agent_id, "--from", "soon").status == 2
    assert faregate("statement", agent_id, "--csv", "--json").status == 2


def test_f163_tickets_are_read_answered_and_confirmed_and_steer_no_terminal(faregate: Run, tmp_path: Path) -> None:
    agent_id = faregate("agents", "create", "ann", "--credit", "5.00").out.split()[1]
    ticket_id = ticket_of(tmp_path / "data" / "faregate.db", agent_id)
    shown = faregate("tickets", "show", ticket_id).out
    assert "<b>" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\x1b" not in faregate("tickets", "list").out
    assert json.loads(faregate("tickets", "list", "--json", "--state", "open").out)["ticket"] == ticket_id
    assert faregate("tickets", "list", "--state", "lost").status == 2
    assert faregate("tickets", "answer", ticket_id, "\x1b[2J").status == 2
    assert faregate("tickets", "answer", ticket_id, "Thank you.").status == 0
    assert json.loads(faregate("tickets", "show", ticket_id, "--json").out)["answers"][0]["body"] == "Thank you."
    assert faregate("tickets", "confirm-bug", ticket_id, "--yes").status == 0
    again = faregate("tickets", "confirm-bug", ticket_id, "--yes")
    assert (again.status, "before" in again.err) == (4, True)
    assert faregate("tickets", "close", ticket_id).status == 0
    assert faregate("tickets", "answer", ticket_id, "Too late.").status == 4
    assert faregate("tickets", "show", "tkt_1").status == 2
    agents = json.loads(faregate("agents", "list", "--json").out)
    assert (agents["available_usd"], agents["bonus_usd"]) == ("4.990", "1.000")
    assert faregate("audit").status == 0


def ticket_of(ledger: Path, agent_id: str) -> str:
    """A paid ticket with what no request could bring: another way in may be laxer."""

    async def write() -> None:
        async with books.books(ledger, lambda: time.time_ns() // 1_000_000) as db:
            await db.write(file)

    def file(tx: Tx) -> None:
        charge = Charge("chg_1", ticket.OPERATION, agent_id, Source.BALANCE, 10_000)
        charges.hold(tx, charge, books.work(agent_id), None, None)
        subject, body = "<b>\x1b[31m", "\x1b]0;owned\x07 \u202egnp"
        category = ticket.Category.BUG
        tickets.add(tx, ticket.Ticket("tkt_1x", "chg_1", agent_id, agent_id, category, subject, body, 0, 0))
        charges.record(tx, "chg_1", Event.MATCHED, 10_000, result=b"{}")

    asyncio.run(write())
    return "tkt_1x"


# deposits


def test_deposits_are_listed_and_orphans_credited(faregate: Run, tmp_path: Path) -> None:
    """F-116: what nobody's wallet has sent is the operator's to give."""
    (tmp_path / "faregate.toml").write_text('[deposit_match]\npercent = 50\nmin_usd = "1"\n')
    agent_id = re.search(r"agt_\w+", faregate("agents", "create", "tester").out)
    assert agent_id is not None
    assert "no such deposits" in faregate("deposits", "list").err

    async def arrive() -> None:
        db = await open_database(parse({}, base=tmp_path))
        sender, transaction, micros = "0x" + "a1" * 20, "0x" + "77" * 32, 2_000_000
        arrival = Arrival("eip155:8453", OWN.lower(), sender, transaction, 3, 8, "0xb8", micros, micros)
        await db.write(deposits.arrived, arrival, "dep_1", None)
        await db.close()

    asyncio.run(arrive())
    (row,) = [json.loads(line) for line in faregate("deposits", "list", "--orphans", "--json").out.splitlines()]
    assert (row["deposit"], row["state"], row["agent"], row["amount_usd"]) == ("dep_1", "seen", None, "2.000")
    assert faregate("deposits", "credit-orphan", "dep_1", "agt_nobody").status == 2
    assert faregate("deposits", "credit-orphan", "dep_2", agent_id[0]).status == 2
    done = faregate("deposits", "credit-orphan", "dep_1", agent_id[0])
    assert (done.status, "$2.000 and $1.000 bonus" in done.out) == (0, True)
    assert faregate("deposits", "credit-orphan", "dep_1", agent_id[0]).status == 0
    assert faregate("deposits", "join", "0x" + "9" * 40, "agt_nobody").status == 2
    refused = faregate("deposits", "join", "0x" + "9" * 40, agent_id[0])
    assert (refused.status, "is no wallet of" in refused.err) == (4, True)
    other = re.search(r"agt_\w+", faregate("agents", "create", "other").out)
    assert other is not None
    assert faregate("deposits", "credit-orphan", "dep_1", other[0]).status == 4
    assert "dep_1" in faregate("deposits", "list", "--agent", agent_id[0], "--state", "credited").out
    assert faregate("deposits", "list", "--state", "lost").status == 2

    async def spend_and_lose() -> None:
        db = await open_database(parse({}, base=tmp_path))
        await db.write(charges.hold, books.charge("chg_1", agent_id[0], 2_500_000), books.work(agent_id[0]), None, None)
        await db.write(charges.record, "chg_1", Event.MATCHED, 2_500_000)
        await db.write(deposits.taken_back, "dep_1")
        await db.close()

    asyncio.run(spend_and_lose())
    assert json.loads(faregate("agents", "show", agent_id[0], "--json").out)["debt_usd"] == "2.500", "bonus, too"
    newest = json.loads(faregate("statement", agent_id[0], "--json").out.splitlines()[0])
    assert (newest["kind"], newest["deposit_id"], newest["balance_usd"]) == ("withdrawn", "dep_1", "-2.500")
    assert "-2.500" in faregate("statement", agent_id[0]).out
    assert faregate("audit").status == 0
