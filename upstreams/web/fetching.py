"""Reading strangers' pages: guarded, within limits, and only where their sites allow it.

The client judges every address where it connects (gateway/outbound.py) and follows nothing; redirects are followed
here, three at most, each one judged anew like a url of its own. A site's robots.txt is asked first, once for a call;
one that cannot be had forbids, one that is not there allows (RFC 9309). No cookies, no referrer, no second attempt.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from gateway.core.addresses import refuse_url
from gateway.core.http import HttpClient, HttpFailure, HttpResponse
from upstreams.web import robots

AGENT: Final = "faregate-research"
"""The product token by which sites may name us in their robots.txt."""
USER_AGENT: Final = f"{AGENT}/0.1 (reads public pages on behalf of customers; honours robots.txt)"
TIMEOUT_S: Final = 5.0
"""For one page with its redirects, and for one robots.txt with its own."""
MARGIN_S: Final = 1.0
"""How long before the deadline of the whole call the last page must be there."""
BYTES_MAX: Final = 1024 * 1024
REDIRECTS_MAX: Final = 3
AT_ONCE: Final = 4
_HTML = re.compile(r"\s*(?:text/html|application/xhtml\+xml)\s*(?:;|$)", re.IGNORECASE)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page as it came. `url` is where it was in the end."""

    url: str
    body: bytes = field(repr=False)
    content_type: str = ""


class NoPage(Exception):
    """`reason`: robots, address, status, type, redirects, timeout, size, network."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_REASONS = {"timeout": "timeout", "too_large": "size", "refused_address": "address", "bad_url": "address"}


class Fetcher:
    """The pages of one call: what a site's robots.txt says is asked once, and few pages are read at a time."""

    def __init__(
        self,
        http: HttpClient,
        *,
        now: Callable[[], float],
        deadline_s: float,
        timeout_s: float = TIMEOUT_S,
        private: bool = False,
    ) -> None:
        """`deadline_s`: unix seconds by `now`, when whoever waits for all of it wants to have its answer."""
        self._http = http
        self._now = now
        self._deadline_s = deadline_s
        self._timeout_s = timeout_s
        self._private = private
        self._rules: dict[str, asyncio.Task[robots.Rules]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._rules.values():
            task.cancel()
        await asyncio.gather(*self._rules.values(), return_exceptions=True)

    async def pages(self, urls: Iterable[str]) -> list[Fetched | NoPage]:
        """One for each url, in their order, whatever becomes of the others."""
        return list(await asyncio.gather(*(self._page(url) for url in urls)))

    def _time_s(self) -> float:
        return min(self._timeout_s, self._deadline_s - MARGIN_S - self._now())

    async def _page(self, url: str) -> Fetched | NoPage:
        async with self._places:
            if self._time_s() <= 0:
                return NoPage("timeout")
            try:
                async with asyncio.timeout(self._time_s()):
                    url, response = await self._followed(url, BYTES_MAX, asks_robots=True)
            except TimeoutError:
                return NoPage("timeout")
            except NoPage as why:
                return why
        content_type = response.headers.get("content-type", "")
        if response.status != 200:
            return NoPage("status")
        if not _HTML.match(content_type):
            return NoPage("type")
        return Fetched(url, response.body, content_type)

    async def _followed(self, url: str, bytes_max: int, *, asks_robots: bool) -> tuple[str, HttpResponse]:
        """(where it ended, the answer there). Raises NoPage."""
        for _ in range(REDIRECTS_MAX + 1):
            if refuse_url(url, private=self._private) is not None:
                raise NoPage("address")  # before anything else is sent on its behalf
            if asks_robots and not await asyncio.to_thread(robots.allowed, await self._rules_of(url), url):
                raise NoPage("robots")  # on a thread: a stranger's rules may take a quarter of a second
            response = await self._get(url, bytes_max)
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or not location:
                return url, response
            url = tidy(location, url)
        raise NoPage("redirects")

    async def _get(self, url: str, bytes_max: int) -> HttpResponse:
        try:
            return await self._http.request(
                "GET",
                url,
                headers={"User-Agent": USER_AGENT, "Accept": "text/html,application/xhtml+xml;q=0.9,text/plain;q=0.5"},
                timeout_s=self._timeout_s,
                bytes_max=bytes_max,
                private=self._private,
            )
        except HttpFailure as failure:
            raise NoPage(_REASONS.get(failure.kind, "network")) from None

    async def _rules_of(self, url: str) -> robots.Rules:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._rules:
            self._rules[origin] = asyncio.create_task(self._read_robots(origin + "/robots.txt"))
        return await asyncio.shield(self._rules[origin])

    async def _read_robots(self, url: str) -> robots.Rules:
        try:
            async with asyncio.timeout(self._time_s()):
                _, response = await self._followed(url, robots.BYTES_MAX, asks_robots=False)
        except (NoPage, TimeoutError):
            return robots.NOTHING
        if 200 <= response.status < 300:
            return await asyncio.to_thread(robots.rules, response.body, AGENT)
        return robots.ALL if 400 <= response.status < 500 else robots.NOTHING


def tidy(url: str, base: str = "") -> str:
    """A url as strangers write it -> as we ask for it: whole, in ASCII, without a fragment; "" for what is none."""
    try:
        parts = urlsplit(urljoin(base, url.strip()))
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = f":{parts.port}" if parts.port else ""
        path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    except (ValueError, UnicodeError):  # UnicodeError: bytes of a header that are no UTF-8
        return ""
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        return ""
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, host + port, path or "/", query, ""))


def counted(results: Iterable[Fetched | NoPage]) -> Mapping[str, int]:
    """{"read": 5, "robots": 1, ...}: what became of the pages, for the answer's metadata."""
    counts: dict[str, int] = {"read": 0}
    for result in results:
        word = "read" if isinstance(result, Fetched) else result.reason
        counts[word] = counts.get(word, 0) + 1
    return counts
