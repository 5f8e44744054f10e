"""The gateway as it runs, before crawlers, linters and directories: real server, real routes, sandbox for a chain."""

import asyncio
import base64
import json
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from rigs import shop, third_party
from rigs.third_party import Finding

from gateway.assemble import assemble
from gateway.edge.server import serving
from gateway.settings import parse
from upstreams.directory.settings import DirectorySettings
from upstreams.lead_lists import LeadLists, ListSettings
from upstreams.leads import Leads, LeadSettings
from upstreams.people import People
from wellknown import DOCUMENTS, QUERIES

REAL = ("/api/v1/enrich/person", "/api/v1/leads/search", "/api/v1/enrich/lead-session", "/api/v1/enrich/jobs")
SETTINGS = """
[settlement]
kind = "sandbox"
[store]
path = "gate.db"
"""


@asynccontextmanager
async def gateway(home: Path) -> AsyncIterator[str]:
    """Sells the invented shop, and the operations that the gateway brings along."""
    people = People(DirectorySettings(path=home / "none"))
    real = [operation for operation in people.offline() if operation.id != shop.PHONE.id]
    real += LeadLists(ListSettings(DirectorySettings(path=home / "none"))).offline()
    real += Leads(LeadSettings()).offline()
    settings = parse(tomllib.loads(SETTINGS), {}, base=home)
    async with assemble(settings, sold=[shop.Shop(*real)], drain_s=0.2) as made, serving(made.app) as url:
        yield url
    await people.close()


NO_LINT = pytest.mark.skipif(not third_party.lint_is_installed(), reason="scripts/setup installs x402lint")
NO_NODE = pytest.mark.skipif(not third_party.node_is_ready(), reason="scripts/setup installs Node's packages")


@pytest.mark.parametrize(
    "tool",
    [
        third_party.conformance,
        third_party.sdk,
        third_party.vectors,
        third_party.dead_links,
        third_party.drift,
        pytest.param(third_party.lint, marks=NO_LINT),
        pytest.param(third_party.agentcash, marks=[NO_NODE, pytest.mark.chain]),
        pytest.param(third_party.schemathesis, marks=pytest.mark.full),
    ],
    ids=lambda tool: tool.__name__,
)
async def test_third_parties_have_no_complaint(tmp_path: Path, tool: Callable[[str], list[Finding]]) -> None:
    """F-168: every listed route answers, and all views agree."""
    async with gateway(tmp_path) as url:
        assert await asyncio.to_thread(tool, url) == []


async def test_every_operation_is_listed_and_none_that_is_offline(tmp_path: Path) -> None:
    async with gateway(tmp_path) as url:
        listed = [probe.url.removeprefix(url) for probe in await asyncio.to_thread(third_party.probes, url)]
    assert listed == [*(each.example_url_path for each in shop.catalogue().operations), *REAL]


async def test_whoever_is_asked_for_the_documents_names_the_configured_origin(tmp_path: Path) -> None:
    """F-159: no Host, no forwarding header changes a word of a document or of an offer."""
    lies = {"Host": "evil.example.com", "X-Forwarded-Host": "evil.example.com", "X-Forwarded-Proto": "https"}
    async with gateway(tmp_path) as url, httpx.AsyncClient(base_url=url) as client:
        for path in (
            *(d.path for d in DOCUMENTS),
            *(q.path + "?query=api&payTo=0x1" for q in QUERIES),
            shop.PHONE.path,
        ):
            honest, lied_to = await client.get(path), await client.get(path, headers=lies)
            assert offer(lied_to) == offer(honest)
            assert "evil" not in lied_to.text
            if honest.status_code == 200:
                assert lied_to.content == honest.content


def offer(answer: httpx.Response) -> object:
    """What is offered, to whomever it may be; None by a document."""
    if answer.status_code != 402:
        return None
    required = json.loads(base64.b64decode(answer.headers["payment-required"]))
    return {**required, "extensions": third_party.lasting(required["extensions"])}


async def test_an_offer_says_nothing_of_the_request_that_asked_for_it(tmp_path: Path) -> None:
    """F-175: a person in a path, a query or a body gets into no offer, and so into no catalogue."""
    async with gateway(tmp_path) as url, httpx.AsyncClient(base_url=url) as client:
        for method, path, body in (
            ("GET", "/api/v1/parcels/DANA-SAMPLE", None),
            ("GET", "/api/v1/weather?city=DANA-SAMPLE", None),
            ("POST", "/api/v1/enrich/phone", b'{"phone": "DANA-SAMPLE"}'),
        ):
            answer = await client.request(method, path, content=body)
            assert answer.status_code == 402
            assert b"DANA" not in base64.b64decode(answer.headers["payment-required"]) + answer.content


async def test_no_document_has_a_repeat_key(tmp_path: Path) -> None:
    """What whoever reads a catalogue can know is no secret of a payer."""
    async with gateway(tmp_path) as url, httpx.AsyncClient(base_url=url) as client:
        assert "repeat-key" in (await client.get(shop.PHONE.path)).text
        listed = (await client.get("/discovery/resources")).json()["items"]
        payee = listed[0]["accepts"][0]["payTo"]
        queries = ("resources", "search?query=api", f"merchant?payTo={payee}")
        for path in (*(d.path for d in DOCUMENTS), *(f"/discovery/{query}" for query in queries)):
            answer = await client.get(path)
            assert "repeat-key" not in answer.text, path
            assert answer.text.count('"payment-identifier"') in (0, len(listed)), path


async def test_the_documents_keep_what_is_nobodys_business(tmp_path: Path) -> None:
    """F-169: as they are served, with every header."""
    async with gateway(tmp_path) as url, httpx.AsyncClient(base_url=url) as client:
        for path in (*(d.path for d in DOCUMENTS), "/discovery/resources", "/discovery/search?query=api"):
            answer = await client.get(path)
            told = answer.text + str(answer.headers)
            for word in (shop.CANARY, "/metrics", "gate.db", str(tmp_path), "enrich/email"):
                assert word not in told, f"{path} tells {word}"


async def test_documents_are_public_cacheable_and_readable_from_any_page(tmp_path: Path) -> None:
    async with gateway(tmp_path) as url, httpx.AsyncClient(base_url=url) as client:
        for document in DOCUMENTS:
            answer = await client.get(document.path, headers={"Origin": "https://app.example.com"})
            if document.path == "/.well-known/402index-verify.txt":
                assert answer.status_code == 404  # not configured
                continue
            assert answer.status_code == 200
            assert answer.headers["content-type"].split(";")[0] == document.media_type.split(";")[0]
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["cache-control"] == f"public, max-age={document.cache_s}"
            head = await client.head(document.path)
            assert (head.status_code, head.content) == (200, b"")
