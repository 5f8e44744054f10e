"""Strangers' pages: where a fetch goes, what it follows, and what their robots.txt says."""

import time
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rigs.targets import NAMES, RESOLVED, targets_at
from rigs.upstream import (
    Behaviour,
    ScriptedUpstream,
    bomb,
    cookie,
    drip,
    endless,
    garbage,
    hang_up,
    interim_for_ever,
    redirect,
    reply,
    status,
)  # fmt: skip

from gateway.outbound import OutboundClient
from upstreams.web import robots
from upstreams.web.fetching import AGENT, Fetched, Fetcher, NoPage, tidy

HTML = reply(body=b"<p>yes", content_type="text/html")


async def fetched(http: OutboundClient, *urls: str, private: bool = True) -> list[str]:
    """The reason why there is no page, "read" where there is one."""
    async with Fetcher(http, now=time.time, deadline_s=time.time() + 60, timeout_s=0.5, private=private) as fetcher:
        results = await fetcher.pages(urls)
    return ["read" if isinstance(each, Fetched) else each.reason for each in results]


def resolving(*answers: str) -> Callable[[str], Awaitable[list[str]]]:
    """A resolver that gives another answer each time it is asked, the last for ever."""
    left = list(answers)

    async def lookup(host: str) -> list[str]:
        return [left.pop(0) if len(left) > 1 else left[0]]

    return lookup


async def test_no_page_is_fetched_from_inside() -> None:
    """The matrix of F-134, for pages: not by url, not by name, not by what a name resolves to."""
    async with ScriptedUpstream() as up, ScriptedUpstream(host="::1", port=up.port) as six:
        async with OutboundClient() as http:
            assert set(await fetched(http, *targets_at(up.port), private=False)) == {"address"}
        for address in RESOLVED:
            async with OutboundClient(lookup=resolving(address)) as http:
                urls = [f"http://{name}:{up.port}/" for name in NAMES]
                assert set(await fetched(http, *urls, private=False)) <= {"address", "robots"}
        assert up.connections == six.connections == 0


async def test_no_redirect_leads_inside() -> None:
    """Each redirect is judged like a url of its own: addresses, metadata, other schemes, credentials."""
    inside = [
        "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://0.0.0.0/", "http://2130706433/",
        "http://[::ffff:127.0.0.1]/", "file:///etc/passwd", "gopher://x/", "javascript:alert(1)", "http://a:b@example.com/",
        "//169.254.169.254/", "http://[::1", "http://x y/",
    ]  # fmt: skip
    async with ScriptedUpstream() as up, OutboundClient() as http:
        up.on("/robots.txt", status(404))
        for number, target in enumerate(inside):
            up.on(f"/{number}", redirect(target))
            assert await fetched(http, up.url(f"/{number}")) == ["address"], target
        up.on("/same-host", redirect("\\\\169.254.169.254\\"))
        assert await fetched(http, up.url("/same-host")) == ["type"]
        assert {seen.header("host") for seen in up.seen} == {f"127.0.0.1:{up.port}"}


async def test_a_public_page_that_redirects_next_door_is_left() -> None:
    """Only `private` opens what is next door; a redirect does not."""

    class Public(OutboundClient):
        """A stranger's server on this machine: its own name is as good as public."""

        async def request(self, method: str, url: str, **options: object):  # type: ignore[no-untyped-def,override]
            private = url.startswith("http://stranger.example:")
            return await super().request(method, url, **{**options, "private": private})  # type: ignore[arg-type]

    async with ScriptedUpstream() as up, ScriptedUpstream() as secret:
        async with Public(lookup=resolving("127.0.0.1")) as http:
            up.on("/", redirect(secret.url("/admin"))).on("/name", redirect(f"http://inside.example:{secret.port}/"))
            stranger = f"http://stranger.example:{up.port}"
            assert await fetched(http, stranger + "/", stranger + "/name", private=False) == ["address", "robots"]
        assert secret.connections == 0


async def test_a_name_that_changes_its_address_is_judged_where_it_is_connected_to() -> None:
    """DNS rebinding: public when robots.txt is asked for, loopback when the page is."""
    async with ScriptedUpstream() as up:
        async with OutboundClient(lookup=resolving("192.0.2.1", "127.0.0.1")) as http:
            url = f"http://rebinding.example:{up.port}/"
            assert await fetched(http, url, private=False) == ["robots"]
            assert await fetched(http, url, private=False) == ["robots"]
        assert up.connections == 0


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (HTML, "read"),
        (reply(body=b"<p>", content_type="Application/XHTML+xml;charset=utf-8"), "read"),
        (reply(body=b"", content_type="text/html"), "read"),
        (reply(body=b"{}", content_type="application/json"), "type"),
        (reply(body=b"<p>", content_type="text/htmlx"), "type"),
        (reply(body=b"<p>", content_type=None), "type"),
        (reply(body=b"<p>", status=203, content_type="text/html"), "status"),
        (status(404), "status"),
        (status(304), "status"),
        (garbage(), "network"),
        (hang_up(), "network"),
        (endless(), "size"),
        (endless(packed=True), "size"),
        (bomb(64 * 1024 * 1024), "size"),
        (drip(b"<p>" * 1000, every_s=0.1), "timeout"),
        (interim_for_ever(), "timeout"),
        (redirect("/page"), "redirects"),
    ],
)
async def test_what_is_no_page_is_left_out(behaviour: Behaviour, reason: str) -> None:
    """F-149: within its size and its time."""
    async with ScriptedUpstream() as up, OutboundClient() as http:
        up.on("/robots.txt", status(404)).on("/page", behaviour)
        assert await fetched(http, up.url("/page")) == [reason]


async def test_a_redirect_to_what_is_no_text_is_left() -> None:
    """A header's bytes need be no UTF-8."""
    async with ScriptedUpstream() as up, OutboundClient() as http:
        up.on("/robots.txt", status(404)).on("/page", status(302, headers={"Location": "/\xff"}))
        assert await fetched(http, up.url("/page")) == ["address"]


async def test_three_redirects_are_followed_and_four_are_not() -> None:
    async with ScriptedUpstream() as up, OutboundClient() as http:
        up.on("/robots.txt", status(404)).on("/0", redirect("1")).on("/1", redirect("/2", 301)).on(
            "/2", redirect("/3", 308)
        )
        up.on("/3", HTML).on("/4", redirect("/0", 307))
        async with Fetcher(http, now=time.time, deadline_s=time.time() + 60, private=True) as fetcher:
            (page, far) = await fetcher.pages([up.url("/0"), up.url("/4")])
        assert isinstance(page, Fetched)
        assert page.url == up.url("/3")
        assert isinstance(far, NoPage)
        assert far.reason == "redirects"


async def test_f150_nothing_is_carried_from_one_page_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with ScriptedUpstream() as up, OutboundClient() as http:
        up.on("/a", cookie("a=b")).on("/b", HTML).on("/robots.txt", status(404, headers={"Set-Cookie": "r=s"}))
        await fetched(http, up.url("/a"), up.url("/b"))
        for seen in up.seen:
            assert (
                seen.header(
                    "user-agent",
                )
                is not None
            )
            assert AGENT in (seen.header("user-agent") or "")
            assert not seen.names & {"cookie", "authorization", "referer", "proxy-authorization"}


async def test_pages_are_not_waited_for_beyond_the_deadline() -> None:
    async with ScriptedUpstream() as up, OutboundClient() as http:
        async with Fetcher(http, now=lambda: 100.0, deadline_s=100.5, private=True) as fetcher:
            (page,) = await fetcher.pages([up.url("/")])
        assert isinstance(page, NoPage)
        assert page.reason == "timeout"
        assert up.connections == 0


# robots.txt


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply(body=b"User-agent: *\nDisallow: /page", content_type="text/plain"), "robots"),
        (
            reply(body=b"User-agent: faregate-research\nDisallow:\n\nUser-agent: *\nDisallow: /", content_type=None),
            "read",
        ),
        (status(404), "read"),
        (status(403), "read"),
        (status(500), "robots"),
        (status(503), "robots"),
        (garbage(), "robots"),
        (endless(), "robots"),
        (redirect("/elsewhere"), "read"),
        (redirect("/robots.txt"), "robots"),
        (redirect("http://169.254.169.254/"), "robots"),
    ],
)
async def test_robots_are_asked_first_and_once(answer: Behaviour, reason: str) -> None:
    async with ScriptedUpstream(default=HTML) as up, OutboundClient() as http:
        up.on("/robots.txt", answer).on("/elsewhere", reply(body=b"User-agent: *\nAllow: /", content_type="text/plain"))
        assert await fetched(http, up.url("/page"), up.url("/page?again")) == [reason] * 2
        asked = [seen.path for seen in up.seen]
        assert asked[0] == "/robots.txt"
        assert asked.count("/page") == (2 if reason == "read" else 0)
        assert asked.count("/robots.txt") in (1, 4)  # 4: it redirects to itself


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("", "/x", True),
        ("User-agent: *\nDisallow: /x", "/x/y", False),
        ("User-agent: *\nDisallow: /x\nAllow: /x/y", "/x/y", True),
        ("User-agent: *\nAllow: /x\nDisallow: /x", "/x", True),
        ("User-agent: *\nDisallow: /x\nAllow: /x", "/x", True),
        ("User-agent: *\nDisallow: /*.pdf$", "/a/b.pdf", False),
        ("User-agent: *\nDisallow: /*.pdf$", "/a/b.pdf?x", True),
        ("User-agent: *\nDisallow: /a*b*c", "/a1b2c3", False),
        ("User-agent: *\nDisallow: /$", "/", False),
        ("User-agent: *\nDisallow: /$", "/x", True),
        ("user-AGENT : * # all\ndisallow : /x # this", "/x", False),
        ("User-agent: a\nUser-agent: Faregate-Research/2.0\nDisallow: /x", "/x", False),
        ("User-agent: faregate-research\nDisallow: /y\n\nUser-agent: *\nDisallow: /", "/x", True),
        ("User-agent: other\nDisallow: /", "/x", True),
        ("Disallow: /", "/x", True),
        ("User-agent: *\nSitemap: x\nDisallow: /x", "/x", False),
        ("User-agent: *\nDisallow: /%C3%A9", "/\u00e9", False),
        ("User-agent: *\nDisallow: /x?y=", "/x?y=1", False),
        ("\ufeffUser-agent: *\r\nDisallow: /\r\n", "/x", False),
    ],
)
def test_rules(text: str, path: str, allowed: bool) -> None:
    rules = robots.rules(text.encode(), AGENT)
    assert robots.allowed(rules, tidy(f"http://site.example{path}")) is allowed


@given(st.binary(max_size=300), st.text(st.sampled_from("/*$ab.?%é"), max_size=30))
def test_no_robots_make_it_raise(body: bytes, path: str) -> None:
    rules = robots.rules(b"User-agent: *\nDisallow: " + body, AGENT)
    assert robots.allowed(rules, f"http://site.example/{path}") in (True, False)


def test_a_group_of_very_many_names_is_read_in_linear_work() -> None:
    others = b"".join(b"User-agent: robot%d\n" % number for number in range(12_000))
    text = others + b"Disallow: /y\n" * 5_000 + b"User-agent: *\nDisallow: /x\n"
    assert robots.rules(text, AGENT) == ((False, "/x"),)


def test_rules_full_of_stars_are_matched_in_linear_work() -> None:
    rules = robots.rules(b"User-agent: *\n" + (b"Disallow: /" + b"*a" * 900 + b"b\n") * 250, AGENT)
    assert robots.allowed(rules, "http://site.example/" + "a" * 8_000)


# Urls


@pytest.mark.parametrize(
    ("url", "base", "asked"),
    [
        ("http://Site.example", "", "http://site.example/"),
        ("/about us?q=a b#team", "http://site.example/x/", "http://site.example/about%20us?q=a%20b"),
        ("../y", "https://site.example:8443/x/z", "https://site.example:8443/y"),
        ("http://b\u00fccher.example/\u00e9", "", "http://xn--bcher-kva.example/%C3%A9"),
        ("//other.example/", "https://site.example/", "https://other.example/"),
        ("mailto:a@b.example", "http://site.example/", ""),
        ("javascript:alert(1)", "http://site.example/", ""),
        ("http://a:b@site.example/", "", ""),
        ("http://[::1", "", ""),
        ("http://site.example:99999/", "", ""),
        ("", "", ""),
        ("\x00", "", ""),
    ],
)
def test_urls_as_we_ask_for_them(url: str, base: str, asked: str) -> None:
    assert tidy(url, base) == asked


@given(st.text(max_size=60), st.sampled_from(["", "http://site.example/x"]))
def test_no_url_makes_it_raise(url: str, base: str) -> None:
    asked = tidy(url, base)
    assert asked == "" or asked.startswith(("http://", "https://"))
    assert tidy(asked) == asked
