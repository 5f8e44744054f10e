"""Where tickets are taken, whoever reads the documents has no complaint either."""

import asyncio
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from rigs import shop, third_party
from rigs.third_party import Finding

from gateway.assemble import assemble
from gateway.edge.server import serving
from gateway.settings import parse
from upstreams.support import Support, SupportSettings

SETTINGS = '[settlement]\nkind = "sandbox"\n[store]\npath = "gate.db"\n'
NO_LINT = pytest.mark.skipif(not third_party.lint_is_installed(), reason="scripts/setup installs x402lint")


@pytest.mark.parametrize(
    "tool",
    [
        third_party.conformance,
        third_party.sdk,
        third_party.dead_links,
        third_party.drift,
        pytest.param(third_party.lint, marks=NO_LINT),
        pytest.param(third_party.schemathesis, marks=pytest.mark.full),
    ],
    ids=lambda tool: tool.__name__,
)
async def test_third_parties_have_no_complaint(tmp_path: Path, tool: Callable[[str], list[Finding]]) -> None:
    settings = parse(tomllib.loads(SETTINGS), {}, base=tmp_path)
    sold = [shop.Shop(), Support(SupportSettings(enabled=True))]
    async with assemble(settings, sold=sold, drain_s=0.2) as made, serving(made.app) as url:
        assert await asyncio.to_thread(tool, url) == []
