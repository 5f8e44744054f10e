"""Third parties' own tools against the documents and the offers, served by nothing but a few routes.

The whole gateway is put to the same tools in tests/scenario; here a finding means that a document or an offer is wrong.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from rigs import shop, third_party
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core.catalogue import Operation
from gateway.core.errors import Problem
from gateway.core.x402 import challenge
from wellknown import DOCUMENTS, QUERIES, Document, Identity, Query, challenge_parts

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
CATALOGUE = shop.catalogue()


def storefront(identity: Identity) -> Starlette:
    """The documents as they are and a 402 at every operation."""

    def document(each: Document) -> Route:
        content = each.build(CATALOGUE, identity)
        return Route(
            each.path, lambda request: Response(content, 404 if content is None else 200, media_type=each.media_type)
        )

    def listing(each: Query) -> Route:
        def answer(request: Request) -> Response:
            try:
                return JSONResponse(each.build(CATALOGUE, identity, request.query_params.multi_items()))
            except Problem as problem:
                told = {
                    "error": problem.message,
                    "code": problem.code,
                    "request_id": "req_1",
                    "details": problem.details,
                }
                return JSONResponse(told, problem.status)

        return Route(each.path, answer)

    def paid(each: Operation) -> Route:
        resource, accepts, extensions = challenge_parts(each, identity)
        made = challenge.build(
            resource=resource, accepts=accepts, extensions=extensions, error="pay first", code="AGENT_TOKEN_REQUIRED"
        )
        headers = {"PAYMENT-REQUIRED": made.header.decode(), "Cache-Control": "no-store"}
        return Route(each.path, lambda request: Response(made.body, 402, headers, "application/json"), methods=METHODS)

    def free(path: str, answer: dict[str, object], status: int = 200) -> Route:
        return Route(path, lambda request: JSONResponse(answer, status))

    nobody = {"error": "bring a token", "code": "INVALID_TOKEN", "request_id": "req_1"}
    return Starlette(
        routes=[
            *map(document, DOCUMENTS),
            *map(listing, QUERIES),
            *map(paid, CATALOGUE.operations),
            free("/healthz", {"alive": True}),
            free("/readyz", {"ready": True, "checks": {}}),
            free("/api/v1/agents/me", nobody, 401),
            free("/api/v1/agents/balance", nobody, 401),
            free("/api/v1/charges/{charge_id}", {"error": "none", "code": "NOT_FOUND", "request_id": "req_1"}, 404),
        ]
    )


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(
            uvicorn.Config(storefront(shop.identity(public_url=url)), log_level="critical", lifespan="off", ws="none")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield url
        server.should_exit = True
        thread.join()


def test_every_listed_address_answers_with_its_price(origin: str) -> None:
    """F-168: no row of the manifest is dead."""
    answers = third_party.probes(origin)
    assert [probe.status for probe in answers] == [402] * len(CATALOGUE.operations)
    assert [probe.required["resource"]["url"] for probe in answers] == [probe.url for probe in answers]


def test_no_document_names_an_address_that_does_not_answer(origin: str) -> None:
    assert third_party.dead_links(origin) == []


def test_x402_conformance_has_no_complaint(origin: str) -> None:
    assert third_party.conformance(origin) == []


@pytest.mark.skipif(not third_party.lint_is_installed(), reason="x402lint is not installed")
def test_x402lint_has_no_complaint(origin: str) -> None:
    assert third_party.lint(origin) == []


def test_the_official_sdk_has_no_complaint(origin: str) -> None:
    assert third_party.sdk(origin) == []


def test_the_filter_vectors_hold(origin: str) -> None:
    assert third_party.vectors(origin) == []


@pytest.mark.chain
@pytest.mark.skipif(not third_party.node_is_ready(), reason="scripts/setup installs Node's packages")
def test_agentcash_and_the_typescript_sdk_have_no_complaint(origin: str) -> None:
    assert third_party.agentcash(origin) == []


@pytest.mark.full
def test_schemathesis_finds_nothing(origin: str) -> None:
    assert third_party.schemathesis(origin) == []
