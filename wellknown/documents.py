"""Every document that is the same for everybody, with its address. The edge serves what stands in DOCUMENTS."""

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from gateway.core.catalogue import Catalogue
from gateway.core.upstream import Json
from wellknown import discovery, free, words
from wellknown.free import Free
from wellknown.identity import Identity
from wellknown.manifest import items_document, manifest
from wellknown.openapi import openapi
from wellknown.prices import pricing

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
SVG = "image/svg+xml"

Build = Callable[[Catalogue, Identity], bytes | None]
"""The document's bytes; None where the operator has no such document, which is a 404."""


@dataclass(frozen=True, slots=True)
class Document:
    """One address and how its bytes are made."""

    path: str
    media_type: str
    build: Build
    summary: str = ""
    """For /openapi.json; a document without one is not for API clients and is left out."""
    cache_s: int = 300


def _json(build: Callable[[Catalogue, Identity], Json]) -> Build:
    return lambda catalogue, identity: orjson.dumps(build(catalogue, identity), option=orjson.OPT_APPEND_NEWLINE)


def _openapi(catalogue: Catalogue, identity: Identity) -> Json:
    return openapi(catalogue, identity, free_routes())


def _llms(catalogue: Catalogue, identity: Identity) -> bytes:
    return words.llms(catalogue, identity).encode()


def _robots(catalogue: Catalogue, identity: Identity) -> bytes:
    return words.robots(identity).encode()


def _icon(catalogue: Catalogue, identity: Identity) -> bytes:
    return words.ICON.encode()


def _index_verification(catalogue: Catalogue, identity: Identity) -> bytes | None:
    return None if identity.index_verification is None else identity.index_verification.encode()


DOCUMENTS: tuple[Document, ...] = (
    Document("/openapi.json", JSON, _json(_openapi), "Every route, schema, price and error, as OpenAPI 3.1"),
    Document("/pricing", JSON, _json(pricing), "What each operation costs and how it is paid"),
    Document("/.well-known/x402", JSON, _json(manifest), "What can be bought here by x402"),
    Document("/.well-known/x402.json", JSON, _json(items_document), "The same with whole offers and schemas"),
    Document("/llms.txt", TEXT, _llms, "The same in plain words"),
    Document("/robots.txt", TEXT, _robots),
    Document("/favicon.ico", SVG, _icon, cache_s=86_400),
    Document("/favicon.svg", SVG, _icon, cache_s=86_400),
    Document("/.well-known/402index-verify.txt", TEXT, _index_verification),
)


def free_routes() -> tuple[Free, ...]:
    """Everything that answers without pay: the agent's own routes, health, the documents, the listings."""
    documents = (
        Free(_id(document.path), document.path, document.summary, _any_of(document.media_type), document.media_type)
        for document in DOCUMENTS
        if document.summary
    )
    listings = (
        Free(
            _id(query.path),
            query.path,
            query.summary,
            {"type": "object"},
            parameters=tuple((name, "query", name in query.required, what) for name, what in query.parameters.items()),
            problems=(400,),
        )
        for query in discovery.QUERIES
    )
    return (*free.ROUTES, *documents, *listings)


def _id(path: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in path).strip("_")


def _any_of(media_type: str) -> dict[str, str]:
    return {"type": "object" if media_type == JSON else "string"}
