"""An upstream from a package of its own (tests/plugin), installed beside the gateway, configured and sold."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from rigs.program import Child, Installed
from rigs.running import Configuration, running
from rigs.upstream import ScriptedUpstream, reply, status

SOURCE = Path(__file__).parent.parent / "plugin"
SAND = '[settlement]\nkind = "sandbox"\n'


class Beside(Installed):
    """The command as it is installed, with a folder of packages beside it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, out: Path) -> Child:
        return super().start(argv, env={"PYTHONPATH": self._path, **env}, cwd=cwd, out=out)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """Built and installed as pip does it, without asking anybody."""
    folder = tmp_path_factory.mktemp("packages")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder, SOURCE], check=True)
    program = Beside(folder)
    yield program
    program.close()


@pytest.fixture
async def tables() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(default=status(404)) as up:
        yield up.on("/sampleport.txt", reply(body=b"05:12 17:40\n")).on("/brokenport.txt", status(500))


async def test_it_is_sold(program: Beside, tables: ScriptedUpstream, tmp_path: Path) -> None:
    toml = f'{SAND}[plugins.tides]\nurl = "{tables.url("")}"\nprivate = true\nprice = "0.020"\n'
    async with running(tmp_path, program, Configuration(toml)) as gate:
        token = await gate.agent("1.00")
        unpaid = await gate.call("tides/today", {"harbour": "Sampleport"})
        assert (unpaid.status, unpaid.json["price_usd"]) == (402, "0.020")
        found = await gate.call("tides/today", {"harbour": "Sampleport"}, token=token)
        assert (found.status, found.json["data"]) == (200, {"high_water": ["05:12", "17:40"]})
        assert found.json["billing"]["charged_usd"] == "0.020"
        missed = await gate.call("tides/today", {"harbour": "Nowhere"}, token=token)
        assert (missed.status, missed.json["matched"], missed.json["billing"]["charged_usd"]) == (200, False, "0.000")
        failed = await gate.call("tides/today", {"harbour": "Brokenport"}, token=token)
        assert (failed.status, failed.json["code"]) == (502, "UPSTREAM_ERROR")
        assert (await gate.call("tides/today", {"harbour": ""}, token=token)).status == 422
        elsewhere = await gate.call("tides/today", {"harbour": "../Keys?all=1"}, token=token)
        assert elsewhere.json["matched"] is False
        told = (await gate.send("GET", "/api/v1/agents/balance", headers={"Authorization": f"Bearer {token}"})).json
        assert told["available_usd"] == "0.980"
        assert "/api/v1/tides/today" in (await gate.send("GET", "/openapi.json")).json["paths"]
    assert [seen.path for seen in tables.seen] == [
        "/sampleport.txt", "/nowhere.txt", "/brokenport.txt", "/..%2Fkeys%3Fall%3D1.txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("", "[plugins.tides]: url is where your tide tables are, such as https://tides.example.com\n"),
        ('[plugins.tides]\nurl = "https://tides.example.com"\nprice = "1e3"', "[plugins.tides]: an amount of USD has"),
        ('[plugins.tides]\nurl = "https://tides.example.com"\nprice = "0"', "[plugins.tides]: a price is above zero"),
        (
            '[plugins.tides]\nurl = "https://tides.example.com"\n[plugins.moons]\nurl = "https://moons.example.com"',
            "[plugins.moons]: there is no such plug-in: install its package beside faregate; installed are tides",
        ),
        ('[plugins.tides]\nurl = "${TIDES_URL}"', "TIDES_URL is not set in the environment"),
    ],
)
async def test_what_is_wrong_with_its_table_is_in_the_report(
    program: Beside, tmp_path: Path, toml: str, told: str
) -> None:
    async with running(tmp_path, program, Configuration(SAND + toml), started=False, clean=False) as gate:
        assert told in await gate.run("check", status=2)
        await gate.start(ready=False)
        assert told in gate.said()


async def test_what_it_does_wrong_is_told_of_it(tmp_path: Path, program: Beside) -> None:
    """Whatever somebody else's code raises: the operator hears whose it is."""
    info = tmp_path / "packages" / "faregate_broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faregate-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[faregate.upstreams]\nbroken = faregate_broken:sells\n")
    (tmp_path / "packages" / "faregate_broken.py").write_text("import nothing_of_that_name\n")
    beside = Beside(tmp_path / "packages")
    async with running(tmp_path, beside, Configuration(SAND), started=False, clean=False) as gate:
        said = await gate.run("check", status=2)
    beside.close()
    assert "[plugins.broken]: faregate_broken:sells cannot be loaded: ModuleNotFoundError" in said
