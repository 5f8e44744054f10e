"""The README tells what is there: every setting, error, command, script, document and dependency, and no file that is
not there."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint, packages_distributions
from pathlib import Path

import pytest
from pydantic import BaseModel
from rigs.caller import Caller

from gateway import assemble
from gateway.assemble import mistakes
from gateway.cli import app
from gateway.cli.init import toml
from gateway.core.errors import TABLE
from gateway.settings import parse
from gateway.settings.tables import Settings, Table
from upstreams.providers import KINDS
from wellknown import DOCUMENTS

ROOT = Path(__file__).parents[1]
PARTS_OF_OTHERS = {"yarl", "pydantic-core"}  # of aiohttp and pydantic, whose own interfaces show them
ROOMS = ("gateway", "upstreams", "wellknown")
README = ROOT.joinpath("README.md").read_text(encoding="utf-8")


def tables(model: type[BaseModel] = Settings) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        for each in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(each, type) and issubclass(each, Table):
                yield each
                yield from tables(each)


def test_every_setting_with_its_default_and_explanation() -> None:
    for model in tables():
        for key, field in model.model_fields.items():
            default = "required" if field.is_required() else "" if field.default is None else f"`{toml(field.default)}`"
            assert f"\n| `{key}` | {default} | {field.description} |\n" in README


def test_every_provider() -> None:
    for name in KINDS:
        assert f"\n| `{name}` | " in README


def test_every_error() -> None:
    for code, row in TABLE.items():
        assert f"\n| `{code}` | {row.status} | {row.exit} |\n" in README


def test_every_command_and_script() -> None:
    names = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    shown = README.partition("  cli/ ")[2].partition(":")[0]
    assert names == {name.strip() for name in shown.split(",")}
    for script in ROOT.joinpath("scripts").iterdir():
        if script.suffix == "":
            assert f"scripts/{script.name}" in README


def test_every_document_and_free_route() -> None:
    for document in DOCUMENTS:
        if "favicon" not in document.path and "402index" not in document.path:
            assert f"`{document.path}`" in README
    for path in re.findall(r'Route\(\s*"([^"]+)"', "".join(p.read_text() for p in ROOT.glob("gateway/edge/*.py"))):
        assert f"`{path}`" in README


def test_every_dependency_that_is_imported_is_declared_and_explained() -> None:
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=;\[ ]", dependency)[0] for dependency in project["dependencies"]}
    told = README.partition("## Dependencies")[2].partition("\n## ")[0]
    explained = {name for row in re.findall(r"^\| [^|]+ \| ([^|]+) \|", told, re.MULTILINE) for name in row.split(", ")}
    assert imported() == explained - {"we use", "---"}
    assert imported() <= declared


def imported() -> set[str]:
    """The distributions that the code imports, by the names that the index has them under."""
    distributions = {module: names[0].lower().replace("_", "-") for module, names in packages_distributions().items()}
    sources = "".join(path.read_text() for room in ROOMS for path in ROOT.joinpath(room).rglob("*.py"))
    modules = set(re.findall(r"^\s*(?:import|from) (\w+)", sources, re.MULTILINE)) - {*ROOMS, *sys.stdlib_module_names}
    return {distributions[module] for module in modules if module in distributions} - PARTS_OF_OTHERS


def test_no_file_that_is_not_there() -> None:
    named = set(re.findall(r"(?:gateway|upstreams|wellknown|tests|scripts)/[\w/]+(?:\.py|\.txt|LICENSE)?", README))
    assert len(named) > 15
    for path in named:
        assert ROOT.joinpath(path).exists(), path


def test_every_example_of_a_configuration_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tides = EntryPoint("tides", "faregate_tides:tides", "faregate.upstreams")  # that the guide is about
    monkeypatch.syspath_prepend(ROOT / "tests" / "plugin")
    environ = {
        "RELAYER_KEY": "0b" * 32,
        "BASE_RPC_URL": "https://rpc.example.com",
        "WEATHER_KEY": "a-key-of-mine",
        "RESEARCH_KEY": "a-key-of-mine",
        "SERPER_KEY": "a-key-of-mine",
        "LLM_KEY": "a-key-of-mine",
        "WHITEPAGES_KEY": "a-key-of-mine",
        "TWILIO_SID": "AC0",
        "TWILIO_TOKEN": "a-token-of-mine",
    }
    environ |= {"CDP_API_KEY_ID": "me", "CDP_API_KEY_SECRET": Caller().secret}
    for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL):
        installed = [tides] if f"[plugins.{tides.name}]" in block else []
        monkeypatch.setattr(assemble, "entry_points", lambda group, installed=installed: installed)
        own = block.replace('"0x..."', '"0x52908400098527886E0F7030069857D2E4169EE7"')
        parse(tomllib.loads(own), environ, also=mistakes)


@pytest.mark.parametrize("script", sorted(p.name for p in ROOT.joinpath("scripts").iterdir() if not p.suffix))
def test_scripts_are_short_executable_and_sound(script: str) -> None:
    path = ROOT / "scripts" / script
    assert path.stat().st_mode & 0o111
    assert len(path.read_text().splitlines()) <= 45
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_every_alarm() -> None:
    """F-182: an alarm that nobody has read of is noise."""
    sources = "".join(path.read_text() for path in ROOT.joinpath("gateway").rglob("*.py"))
    raised = re.findall(r'alarm(?:s\.append|s\.add)?\(\s*"(\w+)"|\.tell\(\s*"(\w+)"', sources)
    raised += [
        (name, "")
        for several in re.findall(r"alarms \+= \[(.*?)\]", sources)
        for name in re.findall(r'"(\w+)"', several)
    ]
    names = {name for pair in raised for name in pair if name}
    assert len(names) > 10
    for name in names:
        assert f"`{name}`" in README, name
