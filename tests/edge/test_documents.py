import pytest
from rigs import shop
from rigs.counter import Counter
from rigs.wire import ask

from gateway.edge.app import build_app
from gateway.edge.server import serving
from wellknown.documents import DOCUMENTS

VERIFICATION = "/.well-known/402index-verify.txt"


@pytest.mark.parametrize(
    "document", [each for each in DOCUMENTS if each.path != VERIFICATION], ids=lambda each: each.path
)
async def test_each_at_its_path(url: str, document: object) -> None:
    path, media_type = document.path, document.media_type  # type: ignore[attr-defined]
    reply = await ask(url, "GET", path)
    assert (reply.status, reply.header("content-type")) == (200, media_type)
    assert reply.body == document.build(shop.catalogue(), shop.identity())  # type: ignore[attr-defined]
    assert (reply.header("cache-control") or "").startswith("public, max-age=")
    tag = reply.header("etag") or ""
    for same in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = await ask(url, "GET", path, ("If-None-Match", same))
        assert (again.status, again.body, again.header("etag")) == (304, b"", tag)
    assert (await ask(url, "GET", path, ("If-None-Match", '"x"'))).status == 200
    assert (await ask(url, "HEAD", path)).header("content-length") == str(len(reply.body))


async def test_what_the_operator_does_not_have_is_not_there(counter: Counter, url: str) -> None:
    assert (await ask(url, "GET", VERIFICATION)).status == 404
    parts = counter.parts(identity=shop.identity(index_verification="proof-of-mine"))
    async with serving(build_app(parts)) as own:
        assert (await ask(own, "GET", VERIFICATION)).body == b"proof-of-mine"


async def test_listings_answer_their_query(url: str) -> None:
    everything = await ask(url, "GET", "/discovery/resources")
    page = await ask(url, "GET", "/discovery/resources?limit=1&offset=1")
    assert page.json()["items"] == everything.json()["items"][1:2]
    assert everything.header("cache-control") == "public, max-age=60"
    found = await ask(url, "GET", "/discovery/search?query=weather+forecast")
    assert "weather" in found.json()["resources"][0]["resource"]
    mine = await ask(url, "GET", f"/discovery/merchant?payTo={shop.PAYEE}")
    assert mine.json()["pagination"]["total"] > 0


@pytest.mark.parametrize(
    "target", ["/discovery/search", "/discovery/resources?network=!!!", "/discovery/merchant?payTo="]
)
async def test_a_malformed_query_has_the_envelope(url: str, target: str) -> None:
    reply = await ask(url, "GET", target)
    assert (reply.status, reply.json()["code"]) == (400, "BAD_REQUEST")
    assert reply.header("cache-control") == "no-store"
