"""The guarded client on real sockets: where it goes, what it sends, what it takes, and what it says went wrong."""

import asyncio
import resource
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from rigs.targets import NAMES, RESOLVED, targets_at
from rigs.upstream import (
    Behaviour,
    ScriptedUpstream,
    answer_bytes,
    bomb,
    cookie,
    drip,
    endless,
    garbage,
    hang,
    hang_up,
    interim_for_ever,
    late,
    packed,
    raw,
    redirect,
    reply,
    reset,
    status,
    wrong_length,
)

from gateway.core.http import HttpFailure, HttpResponse
from gateway.outbound import OutboundClient

Ask = Callable[..., Awaitable[HttpResponse]]
BYTES_MAX = 100_000


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as up:
        yield up


@pytest.fixture
async def client() -> AsyncIterator[OutboundClient]:
    async with OutboundClient() as client:
        yield client


@pytest.fixture
def ask(client: OutboundClient) -> Ask:
    """A call next door, with limits of a test's size."""

    async def ask(url: str, method: str = "GET", **options: object) -> HttpResponse:
        given = {"timeout_s": 2.0, "bytes_max": BYTES_MAX, "private": True, **options}
        return await client.request(method, url, **given)  # type: ignore[arg-type]

    return ask


async def failure_of(call: Awaitable[HttpResponse]) -> HttpFailure:
    with pytest.raises(HttpFailure) as caught:
        await call
    return caught.value


def fixed(*addresses: str) -> Callable[[str], Awaitable[list[str]]]:
    """A resolver with one answer to everything; `asked` counts."""

    async def lookup(host: str) -> list[str]:
        lookup.asked.append(host)  # type: ignore[attr-defined]
        return list(addresses)

    lookup.asked = []  # type: ignore[attr-defined]
    return lookup


# Where it goes: F-134


async def test_f134_no_target_that_is_not_public_is_ever_connected_to() -> None:
    """The matrix: literals, spellings, names and what names resolve to. Listeners wait on IPv4 and IPv6 loopback."""
    async with ScriptedUpstream(host="127.0.0.1") as four, ScriptedUpstream(host="::1", port=four.port) as six:
        targets = targets_at(four.port)
        assert len(targets) + len(NAMES) * len(RESOLVED) >= 400
        async with OutboundClient() as client:
            for url in targets:
                failure = await failure_of(client.request("GET", url, timeout_s=2, bytes_max=10))
                assert failure.kind in ("refused_address", "bad_url"), url
                assert not failure.sent
        for address in RESOLVED:
            async with OutboundClient(lookup=fixed(address)) as client:
                for name in NAMES:
                    url = f"http://{name}:{four.port}/"
                    failure = await failure_of(client.request("GET", url, timeout_s=2, bytes_max=10))
                    assert (failure.kind, failure.sent) == ("refused_address", False), (name, address)
        assert four.connections == six.connections == 0


async def test_f134_next_door_is_private_and_nothing_worse(ask: Ask) -> None:
    """`private` opens loopback and the private ranges; metadata, link-local and disguised addresses stay shut."""
    worse = [
        "169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "[fd00:ec2::254]",
        "0.0.0.0", "[::]", "[fe80::1]", "224.0.0.1", "255.255.255.255", "[::ffff:127.0.0.1]", "[::7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::1]", "2130706433", "0x7f.1", "127.1",
    ]  # fmt: skip
    async with ScriptedUpstream() as up:
        for host in worse:
            failure = await failure_of(ask(f"http://{host}:{up.port}/"))
            assert failure.kind == "refused_address", host
        assert up.connections == 0
        assert (await ask(up.url())).status == 200


async def test_a_name_is_resolved_once_and_connected_to_where_it_was_checked() -> None:
    """The address that was judged is the one that is connected to, while Host keeps the name."""
    lookup = fixed("169.254.169.254", "127.0.0.2")
    async with ScriptedUpstream(host="127.0.0.2") as up, OutboundClient(lookup=lookup) as client:
        for _ in range(2):
            url = up.url("/x", host="api.example.com")
            await client.request("GET", url, timeout_s=2, bytes_max=BYTES_MAX, private=True)
        assert lookup.asked == ["api.example.com"]  # type: ignore[attr-defined]
        assert [seen.header("host") for seen in up.seen] == [f"api.example.com:{up.port}"] * 2


async def test_a_name_without_an_address_is_a_failure_like_others() -> None:
    async with OutboundClient(lookup=fixed()) as client:
        with pytest.raises(HttpFailure) as failed:
            await client.request("GET", "https://api.example.com/", timeout_s=5, bytes_max=100)
    assert not failed.value.sent


async def test_a_connection_opened_for_next_door_is_not_used_for_the_outside() -> None:
    async with ScriptedUpstream() as up, OutboundClient(lookup=fixed("127.0.0.1")) as client:
        url = up.url("/x", host="api.example.com")
        await client.request("GET", url, timeout_s=2, bytes_max=BYTES_MAX, private=True)
        failure = await failure_of(client.request("GET", url, timeout_s=2, bytes_max=BYTES_MAX))
        assert failure.kind == "refused_address"
        assert len(up.seen) == 1


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of api.example.com in one file, its own authority."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    file = tmp_path_factory.mktemp("tls") / "api.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=api.example.com", "-addext", "subjectAltName=DNS:api.example.com", "-keyout", "-", "-out", "-"],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_bytes(made.stdout)
    return file


async def test_tls_names_and_checks_the_host_it_was_asked_for(certificate: Path) -> None:
    names: list[str | None] = []
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    server.sni_callback = lambda _, name, __: names.append(name)  # type: ignore[assignment]
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with ScriptedUpstream(tls=server) as up, OutboundClient(tls=trusting, lookup=fixed("127.0.0.1")) as client:
        ask = {"timeout_s": 2, "bytes_max": BYTES_MAX, "private": True}
        answer = await client.request("GET", up.url(host="api.example.com"), **ask)  # type: ignore[arg-type]
        assert answer.status == 200
        assert names == ["api.example.com"]
        other = await failure_of(client.request("GET", up.url(host="www.example.com"), **ask))  # type: ignore[arg-type]
        assert (other.kind, other.sent) == ("connect", False)
        async with OutboundClient(lookup=fixed("127.0.0.1")) as wary:
            unknown = await failure_of(wary.request("GET", up.url(host="api.example.com"), **ask))  # type: ignore[arg-type]
        assert (unknown.kind, unknown.sent) == ("connect", False)
        assert len(up.seen) == 1


# What it sends: F-145, F-150, F-153


async def test_f145_only_what_was_asked_for_is_sent(up: ScriptedUpstream, ask: Ask) -> None:
    given = {
        "Authorization": "Bearer vendor-secret", "Connection": "X-Hop", "X-Hop": "kept", "Keep-Alive": "1",
        "Proxy-Authorization": "Basic eDp5", "Transfer-Encoding": "chunked", "Upgrade": "h2c", "Host": "x.example.com",
        "TE": "gzip", "Content-Length": "9999", "Expect": "100-continue", "Forwarded": "for=10.0.0.1",
        "Via": "1.1 x", "Trailer": "X",
    }  # fmt: skip
    await ask(up.url("/a"), "POST", headers=given, body=b"{}")
    await ask(up.url("/a"), headers=given)
    post, get = up.seen
    own = {"host", "user-agent", "accept", "accept-encoding", "authorization", "x-hop"}
    assert get.names == own
    assert post.names == {*own, "content-length", "content-type"}
    assert (post.header("host"), post.header("content-length")) == (f"127.0.0.1:{up.port}", "2")


@pytest.mark.parametrize("name", ["X-A\r\nX-B", "X A", "X:A", "", "Ключ"])
async def test_a_header_cannot_be_split(up: ScriptedUpstream, ask: Ask, name: str) -> None:
    for headers in ({name: "x"}, {"X-A": "x\r\nInjected: y"}, {"X-A": "x\ny"}, {"X-A": "\x00"}, {"X-A": "Ж"}):
        failure = await failure_of(ask(up.url(), headers=headers))
        assert (failure.kind, failure.sent) == ("bad_header", False)
    assert up.connections == 0


async def test_f150_the_environment_is_ignored(
    up: ScriptedUpstream, ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login canary password canary\ndefault login canary password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with ScriptedUpstream() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        assert (await ask(up.url("/direct"))).status == 200
        assert proxy.connections == 0
    assert up.seen[0].header("authorization") is None
    assert up.seen[0].target == "/direct"


@pytest.mark.parametrize("code", [300, 301, 302, 303, 305, 307, 308])
async def test_f150_a_redirect_is_answered_and_never_followed(up: ScriptedUpstream, ask: Ask, code: int) -> None:
    async with ScriptedUpstream() as elsewhere:
        up.on("/a", redirect(elsewhere.url("/stolen"), code))
        answer = await ask(up.url("/a"), "POST", headers={"Authorization": "Bearer vendor-secret"}, body=b"{}")
        assert answer.status == code
        assert elsewhere.connections == 0
    assert len(up.seen) == 1


async def test_f153_cookies_do_not_carry_over(up: ScriptedUpstream, ask: Ask) -> None:
    up.on("/a", cookie("tenant=a; Path=/", "session=secret; Path=/; HttpOnly"))
    await ask(up.url("/a"), headers={"Authorization": "Bearer of-tenant-a"})
    await ask(up.url("/b"))
    assert up.seen[1].header("cookie") is None
    assert up.seen[1].header("authorization") is None
    assert up.seen[0].connection == up.seen[1].connection, "and that on one connection"


@pytest.mark.parametrize(
    "planting",
    [raw(answer_bytes({"of": "a"}) + answer_bytes({"planted": True}), close=False),
     late({"of": "a"}, answer_bytes({"planted": True}), after_s=0.03)],
    ids=["at once", "a moment later"],
)  # fmt: skip
async def test_f153_what_trails_an_answer_is_not_the_next_tenants_answer(
    up: ScriptedUpstream, ask: Ask, planting: Behaviour
) -> None:
    """A whole answer planted behind another one stays unread: its connection is not used again."""
    up.on("/a", planting).on("/b", reply({"of": "b"}))
    assert (await ask(up.url("/a"))).body == b'{"of":"a"}'
    await asyncio.sleep(0.06)
    assert (await ask(up.url("/b"))).body == b'{"of":"b"}'
    assert up.seen[1].connection == 2


# No second attempt: F-152


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("lose", [reset(), hang_up(), garbage()], ids=["reset", "hang up", "garbage"])
@pytest.mark.parametrize("warm", [False, True], ids=["fresh connection", "reused connection"])
async def test_f152_a_lost_answer_is_not_asked_for_again(
    up: ScriptedUpstream, ask: Ask, method: str, lose: Behaviour, warm: bool
) -> None:
    """The vendor did the work and lost the reply. On a reused connection aiohttp by itself would send a GET again."""
    if warm:
        await ask(up.url("/warm"))
    up.on("/work", lose, reply({"second": True}))
    failure = await failure_of(ask(up.url("/work"), method, body=b"{}" if method == "POST" else None))
    assert (failure.kind, failure.sent) == ("protocol", True)
    assert [seen.path for seen in up.seen].count("/work") == 1
    assert up.connections == 1


# What it takes: F-149


async def test_an_answer_as_it_should_be(up: ScriptedUpstream, ask: Ask) -> None:
    up.on("/a", reply({"name": "Ada Example"}, headers=[("X-Part", "1"), ("x-part", "2")]))
    answer = await ask(up.url("/a?q=1%2B1"))
    assert (answer.status, answer.body) == (200, b'{"name":"Ada Example"}')
    assert answer.headers["x-part"] == "1, 2"
    assert answer.headers["content-type"] == "application/json"
    assert up.seen[0].target == "/a?q=1%2B1"


async def test_a_packed_answer_is_unpacked(up: ScriptedUpstream, ask: Ask) -> None:
    value = [{"line": number} for number in range(3000)]
    up.on("/a", packed(value))
    assert len((await ask(up.url("/a"))).body) > 30_000
    assert up.seen[0].header("accept-encoding") == "gzip"


@pytest.mark.parametrize("code", [200, 204, 205, 206, 304, 404, 500, 599])
async def test_any_status_is_an_answer(up: ScriptedUpstream, ask: Ask, code: int) -> None:
    assert (await ask(up.url("/a"))).status == 200
    up.on("/a", status(code, headers={"Content-Encoding": "gzip"} if code == 204 else ()))
    assert (await ask(up.url("/a"))).status == code


BAD_ANSWERS = {
    "bomb": (bomb(64 * 1024 * 1024), "too_large"),
    "two bombs in one": (bomb(1024 * 1024, members=2), "too_large"),
    "endless": (endless(), "too_large"),
    "endless, packed": (endless(packed=True), "too_large"),
    "one byte too many": (reply(body=b"x" * (BYTES_MAX + 1)), "too_large"),
    "drip": (drip(b" " * 1000), "timeout"),
    "drip, head and all": (drip(b"{}", whole_head=False), "timeout"),
    "hang": (hang(), "timeout"),
    "interim for ever": (interim_for_ever(), "timeout"),
    "too short": (wrong_length(1000, b'{"name":'), "protocol"),
    "no length that is one": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"), "protocol"),
    "two lengths": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}abc"), "protocol"),
    "bad chunk": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n"), "protocol"),
    "chunks without an end": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"), "protocol"),
    "garbage": (garbage(), "protocol"),
    "header without an end": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "protocol"),
    "no gzip": (reply({}, headers={"Content-Encoding": "gzip"}), "protocol"),
    "half a gzip": (reply(body=b"\x1f\x8b\x08\x00\x00", headers={"Content-Encoding": "gzip"}), "protocol"),
    "packing we did not ask for": (reply({}, headers={"Content-Encoding": "br"}), "protocol"),
    "packed twice": (reply({}, headers={"Content-Encoding": "gzip, gzip"}), "protocol"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_f149_a_bad_answer_ends_in_time_and_is_no_answer(up: ScriptedUpstream, ask: Ask, name: str) -> None:
    behaviour, kind = BAD_ANSWERS[name]
    up.on("/a", behaviour)
    started = asyncio.get_running_loop().time()
    failure = await failure_of(ask(up.url("/a"), timeout_s=0.25))
    assert (failure.kind, failure.sent) == (kind, True)
    assert asyncio.get_running_loop().time() - started < 1
    assert (await ask(up.url("/b"))).status == 200, "and the client goes on"


async def test_f149_memory_stays_flat_under_fifty_at_once(up: ScriptedUpstream, ask: Ask) -> None:
    up.on("/bomb", bomb(64 * 1024 * 1024)).on("/endless", endless()).on("/packed", endless(packed=True))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calls = [ask(up.url(path), timeout_s=5.0) for path in ("/bomb", "/endless", "/packed") * 17]
    kinds = {outcome.kind for outcome in await asyncio.gather(*(failure_of(call) for call in calls))}
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kinds == {"too_large"}
    assert grown_kb < 64 * 1024, "51 answers of 64 MB and more, at most 100 kB of each"


async def test_more_than_the_ratio_is_a_bomb_whatever_the_cap(up: ScriptedUpstream, ask: Ask) -> None:
    up.on("/a", bomb(8 * 1024 * 1024))
    failure = await failure_of(ask(up.url("/a"), bytes_max=64 * 1024 * 1024))
    assert failure.kind == "too_large"


# What it says went wrong


async def test_nobody_there_is_a_failure_that_was_not_sent(ask: Ask) -> None:
    async with ScriptedUpstream() as up:
        url = up.url()
    failure = await failure_of(ask(url))
    assert (failure.kind, failure.sent) == ("connect", False)


async def test_a_name_without_an_address_is_a_failure_that_was_not_sent() -> None:
    async def lookup(host: str) -> list[str]:
        raise OSError("no such name")

    async with OutboundClient(lookup=lookup) as client:
        failure = await failure_of(client.request("GET", "https://api.example.com/", timeout_s=2, bytes_max=1))
    assert (failure.kind, failure.sent) == ("dns", False)


async def test_time_over_before_there_was_a_connection_is_not_sent() -> None:
    async def lookup(host: str) -> list[str]:
        await asyncio.sleep(60)
        return []

    async with OutboundClient(lookup=lookup) as client:
        failure = await failure_of(client.request("GET", "https://api.example.com/", timeout_s=0.05, bytes_max=1))
    assert (failure.kind, failure.sent) == ("timeout", False)


async def test_no_failure_tells_where_or_what(up: ScriptedUpstream, ask: Ask) -> None:
    """F-172: neither the message nor a traceback made of it has a url, a host, a header or a body in it."""
    secret = "canary-7d1e"
    up.on("/canary-7d1e", reset(), garbage(), wrong_length(99, b"canary-7d1e"))
    async with ScriptedUpstream() as gone:
        nowhere = gone.url(f"/?{secret}")
    for url in (*[up.url(f"/{secret}?key={secret}")] * 3, nowhere, f"http://{secret}.example.com:1/"):
        failure = await failure_of(ask(url, headers={"X-Key": secret}, timeout_s=1))
        assert failure.__suppress_context__ or failure.__context__ is None
        for told in (str(failure), repr(failure)):
            assert secret not in told
            assert "127.0.0.1" not in told


async def test_a_cancelled_call_leaves_nothing_behind(up: ScriptedUpstream, ask: Ask) -> None:
    up.on("/a", hang())
    call = asyncio.create_task(ask(up.url("/a")))
    await up.arrived(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await ask(up.url("/b"))).status == 200
    assert up.seen[1].connection == 2, "the half-used connection was not"


async def test_an_answer_before_the_question_was_read_is_taken(ask: Ask) -> None:
    """A vendor that answers 413 without reading the body neither blocks nor fails the call."""
    async with ScriptedUpstream(read_body=False) as up:
        up.on("/a", raw(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", close=False))
        answer = await ask(up.url("/a"), "POST", body=b"x" * 1_000_000, timeout_s=1.0)
        assert answer.status == 413


async def test_a_client_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        await OutboundClient().request("GET", "https://example.com/", timeout_s=1, bytes_max=1)
