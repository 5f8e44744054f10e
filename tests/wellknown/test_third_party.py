"""Third parties' tools do see what is wrong: a few routes that serve the true documents beside spoilt offers.

What they say of the gateway itself is asked in test_whole_gateway.py.
"""

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from rigs import shop, third_party
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core.catalogue import Operation
from gateway.core.x402 import challenge
from wellknown import DOCUMENTS, QUERIES, Document, Identity, Offer, Query, challenge_parts

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
CATALOGUE = shop.catalogue()

Parts = Callable[[Operation, Identity], Offer]


def storefront(identity: Identity, parts: Parts = challenge_parts) -> Starlette:
    """The documents as they are, and at every operation a 402 with the offer that `parts` gives."""

    def document(each: Document) -> Route:
        content = each.build(CATALOGUE, identity)
        return Route(each.path, lambda request: Response(content, media_type=each.media_type))

    def listing(each: Query) -> Route:
        def answer(request: Request) -> Response:
            return JSONResponse(each.build(CATALOGUE, identity, request.query_params.multi_items()))

        return Route(each.path, answer)

    def paid(each: Operation) -> Route:
        resource, accepts, extensions = parts(each, identity)
        made = challenge.build(
            resource=resource, accepts=accepts, extensions=extensions, repeat_key="41" * 16,
            error="pay first", code="AGENT_TOKEN_REQUIRED",
        )  # fmt: skip
        headers = {"PAYMENT-REQUIRED": made.header.decode(), "Cache-Control": "no-store"}
        return Route(each.path, lambda request: Response(made.body, 402, headers, "application/json"), methods=METHODS)

    return Starlette(routes=[*map(document, DOCUMENTS), *map(listing, QUERIES), *map(paid, CATALOGUE.operations)])


@contextlib.contextmanager
def running(parts: Parts = challenge_parts) -> Iterator[str]:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = storefront(shop.identity(public_url=url), parts)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield url
        server.should_exit = True
        thread.join()


def spoilt(operation: Operation, identity: Identity) -> Offer:
    """A dearer offer than the documents', without a token's domain, with a request's schema for a listing's."""
    offer = challenge_parts(operation, identity)
    accepts = tuple(dataclasses.replace(each, amount="9", extra={}) for each in offer.accepts)
    block = offer.extensions["bazaar"]
    spoilt_block = {**block, "schema": {"type": "object", "required": ["phone"], "properties": {"input": {}}}}
    return Offer(offer.resource, accepts, {**offer.extensions, "bazaar": spoilt_block})


@pytest.fixture(scope="module")
def spoilt_origin() -> Iterator[str]:
    with running(spoilt) as url:
        yield url


def test_conformance_sees_what_is_wrong(spoilt_origin: str) -> None:
    seen = {each.where for each in third_party.conformance(spoilt_origin)}
    assert seen == {probe.where for probe in third_party.probes(spoilt_origin)}


def test_the_official_sdk_sees_what_is_wrong(spoilt_origin: str) -> None:
    assert len(third_party.sdk(spoilt_origin)) == len(CATALOGUE.operations)


@pytest.mark.skipif(not third_party.lint_is_installed(), reason="scripts/setup installs x402lint")
def test_lint_sees_what_is_wrong(spoilt_origin: str) -> None:
    assert third_party.lint(spoilt_origin)


@pytest.mark.chain
@pytest.mark.skipif(not third_party.node_is_ready(), reason="scripts/setup installs Node's packages")
def test_agentcash_and_the_typescript_sdk_see_what_is_wrong(spoilt_origin: str) -> None:
    assert {"agentcash offer", "@x402/extensions"} <= {each.tool for each in third_party.agentcash(spoilt_origin)}


def test_drift_is_seen() -> None:
    def dearer(operation: Operation, identity: Identity) -> Offer:
        offer = challenge_parts(operation, identity)
        return offer._replace(accepts=tuple(dataclasses.replace(each, amount="9") for each in offer.accepts))

    with running(dearer) as url:
        assert {each.message for each in third_party.drift(url)} == {
            "x402.json offers", "/discovery offers", "amounts",
        }  # fmt: skip
