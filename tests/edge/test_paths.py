"""F-015: a priced path is spelt in one way; whatever else comes is 402 or 404, never served."""

import pytest
from rigs import shop
from rigs.counter import PAID, PARCEL, PHONE, WEATHER, Counter
from rigs.spellings import aliases
from rigs.wire import Wire, ask, request

from gateway.edge.paths import Paths


def statuses(path: str, alias: str) -> set[int]:
    """Of a path with a parameter, an odd spelling of the value alone is just another value."""
    return {402, 404} if path == PARCEL and alias.startswith("/api/v1/parcels/") else {404}


@pytest.mark.parametrize("path", [PHONE, WEATHER, PARCEL])
async def test_no_other_spelling_is_served_unpaid(url: str, counter: Counter, path: str) -> None:
    for alias in aliases(path):
        allowed = statuses(path, alias)
        async with await Wire.to(url) as wire:
            wire.send(request("GET", alias))
            wire.send(request("POST", alias, ("X-HTTP-Method-Override", "GET"), ("X-Original-URL", path)))
            replies = [await wire.reply(), await wire.reply()]
        assert {reply.status for reply in replies} <= allowed, alias
        assert {reply.json()["code"] for reply in replies} <= {"NOT_FOUND", "AGENT_TOKEN_REQUIRED"}, alias
    assert counter.served == []


@pytest.mark.parametrize("path", [PHONE, WEATHER, PARCEL])
async def test_nor_does_paying_open_another_spelling(url: str, counter: Counter, path: str) -> None:
    """What the challenges do not know, the doors do not know either."""
    for alias in aliases(path):
        unpaid = await ask(url, "POST", alias)
        paid = await ask(url, "POST", alias, PAID)
        assert (unpaid.status, paid.status) in ((404, 404), (402, 200)), alias
        assert unpaid.status in statuses(path, alias), alias


@pytest.mark.parametrize("target", ["http://other.example" + PHONE, "http://127.0.0.1" + PHONE + "?x=1"])
async def test_an_absolute_target_is_the_path_in_it(url: str, counter: Counter, target: str) -> None:
    assert (await ask(url, "POST", target)).status == 402
    assert counter.served == []


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
async def test_a_target_that_is_no_path_is_refused(url: str, counter: Counter, method: str) -> None:
    for target in ("*", "api/v1/enrich/phone", "127.0.0.1:80", "?x", "\xff", "/\xe9", "/a b", "#"):
        async with await Wire.to(url) as wire:
            wire.send(request(method, target))
            assert (await wire.reply()).status in (400, 404), target
    assert counter.served == []


async def test_free_paths_have_one_spelling_too(url: str) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert (await ask(url, "GET", path)).status == 200
        for alias in (path + "/", "/" + path, path.replace("e", "%65"), path.upper()):
            assert (await ask(url, "GET", alias)).status == 404, alias


@pytest.mark.parametrize(
    ("segment", "value"),
    [
        (b"AB-1234", "AB-1234"),
        (b"a%20b", "a b"),
        (b"%C3%A9", "é"),
        (b"100%25", "100%"),
        (b"a%2520b", "a%20b"),
        (b"a;b=c", "a;b=c"),
        (b"%2e%2e%2e", "..."),
    ],
)
def test_a_parameter_is_decoded_once(segment: bytes, value: str) -> None:
    found = Paths(shop.catalogue()).find(b"/api/v1/parcels/" + segment)
    assert found is not None
    assert found.parameters == {"parcel_id": value}


@pytest.mark.parametrize(
    "segment",
    [b"", b".", b"..", b"%2e%2E", b"a%2fb", b"a%5Cb", b"a%00", b"%0d%0ax", b"%", b"%4", b"%ff", b"\xff", b"a/b"],
)
def test_a_parameter_that_could_be_more_than_a_name_is_nothing(segment: bytes) -> None:
    assert Paths(shop.catalogue()).find(b"/api/v1/parcels/" + segment) is None
