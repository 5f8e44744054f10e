"""What the gateway tells about itself, over HTTP: every document of wellknown/ at its path, and its listings, which
depend on their query. A document depends on nothing that changes while we run, so it is made once."""

import hashlib
from dataclasses import dataclass
from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.catalogue import Catalogue
from wellknown.discovery import QUERIES, Query
from wellknown.documents import DOCUMENTS, Document
from wellknown.identity import Identity


@dataclass(frozen=True, slots=True)
class Made:
    """A document as bytes; the tag is a hash of them."""

    content: bytes
    media_type: str
    tag: str
    cache_s: int

    async def answer(self, request: Request) -> Response:
        headers = {"ETag": self.tag, "Cache-Control": f"public, max-age={self.cache_s}"}
        if _has(request.headers.get("if-none-match", ""), self.tag):
            return Response(status_code=304, headers=headers)
        return Response(self.content, media_type=self.media_type, headers=headers)


class Documents:
    """All of them, built by the constructor: a document that cannot be built stops the start, not a reader."""

    def __init__(self, catalogue: Catalogue, identity: Identity) -> None:
        self._catalogue = catalogue
        self._identity = identity
        built = ((document, document.build(catalogue, identity)) for document in DOCUMENTS)
        self._made = {document.path: _made(document, content) for document, content in built if content is not None}

    def routes(self) -> list[Route]:
        return [
            *(Route(path, made.answer, methods=["GET"]) for path, made in self._made.items()),
            *(Route(query.path, partial(self._listing, query), methods=["GET"]) for query in QUERIES),
        ]

    async def _listing(self, query: Query, request: Request) -> Response:
        value = query.build(self._catalogue, self._identity, request.query_params.multi_items())
        headers = {"Cache-Control": f"public, max-age={query.cache_s}"}
        return Response(orjson.dumps(value), media_type="application/json", headers=headers)


def _made(document: Document, content: bytes) -> Made:
    return Made(content, document.media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"', document.cache_s)


def _has(if_none_match: str, tag: str) -> bool:
    tags = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return "*" in tags or tag in tags
