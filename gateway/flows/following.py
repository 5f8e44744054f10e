"""Following a job at somebody else's server: from the 202 that took the work over to its end.

    handed_over   the job that a 202 tells of
    follow        asked about, again and again, until it has ended

A poll asks to be held open (`?wait=`) and hears of the end at once; one that is not held open keeps the distance that
Retry-After asks for. It changes nothing, so a lost one is asked again, a few times in a row at the most.

The poll bearer opens the result and cancels the work. So it goes to the origin that was called and nowhere else,
whatever the 202 says.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import orjson

from gateway.core.http import HttpClient, HttpFailure, HttpResponse
from gateway.core.job import ENDED
from gateway.core.x402.messages import Json

WAIT_S = 5
"""How long a poll is held open, and so how often a change of phase is seen."""
POLL_TIMEOUT_S = 30.0
BYTES_MAX = 16 * 1024 * 1024
RETRY_S_MAX = 30
FAILURES_MAX = 8
"""Polls in a row without an answer, about two minutes: then nobody is asked any more."""

_PORTS = {"http": 80, "https": 443}
_HOPELESS = frozenset({"bad_url", "bad_header", "refused_address"})
"""Failures of a request that never will be sent."""

Sleep = Callable[[float], Awaitable[None]]


class Lost(Exception):
    """How the job goes on is not known, and it is not asked about any more; the text says why."""


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    poll_url: str
    """Absolute: GET asks about the job, DELETE cancels it."""
    poll_bearer: str = field(repr=False)
    webhook_secret: str | None = field(repr=False)
    """What its callback is signed with, where the 202 tells: no other answer does."""
    elsewhere: bool
    """The poll url is of another origin than the call was, or no url."""


@dataclass(frozen=True, slots=True)
class Poll:
    """What is known of a job at one moment."""

    response: HttpResponse
    told: Mapping[str, Json]
    """The answer's JSON."""
    status: str

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def phase(self) -> str:
        phase = self.member("progress").get("phase")
        return phase if isinstance(phase, str) else self.status

    @property
    def rounds(self) -> int:
        rounds = self.member("progress").get("rounds_used")
        return rounds if isinstance(rounds, int) else 0

    def member(self, name: str) -> Mapping[str, Json]:
        """An object in the answer; an empty one where there is none."""
        return _object(self.told.get(name))


def handed_over(response: HttpResponse, url: str) -> Job | None:
    """The job that `url` answered with; None for any other answer, as for a 202 whose payment is still on its way."""
    if response.status != 202:
        return None
    told = _read(response)
    id, poll_url, bearer = (told.get(name) for name in ("job_id", "poll_url", "poll_bearer"))
    if not isinstance(id, str) or not isinstance(poll_url, str) or not isinstance(bearer, str):
        return None
    try:
        there = urljoin(url, poll_url)
        elsewhere = _origin(there) != _origin(url)
    except ValueError:
        there, elsewhere = poll_url, True
    secret = told.get("webhook_secret")
    return Job(id, there, bearer, secret if isinstance(secret, str) else None, elsewhere)


@dataclass(frozen=True, slots=True)
class Follower:
    http: HttpClient
    sleep: Sleep = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    async def follow(self, job: Job, seen: Callable[[Poll], None]) -> Poll:
        """The poll that tells of the job's end; `seen` is told of every poll. Raises Lost."""
        if job.elsewhere:
            raise Lost("its poll url is not of the server that was called, so the poll bearer is not sent there")
        failures = 0
        while True:
            asked_at = self.clock()
            poll = await self._ask(job)
            if isinstance(poll, Poll):
                failures = 0
                seen(poll)
                if poll.ended:
                    return poll
                # What it was held open for is waited already.
                pause_s = max(retry_after_s(poll.response), 1) - (self.clock() - asked_at)
            else:
                failures += 1
                if failures == FAILURES_MAX:
                    raise Lost(poll.why)
                pause_s = max(poll.retry_s, min(2**failures, RETRY_S_MAX))
            await self.sleep(max(pause_s, 0))

    async def _ask(self, job: Job) -> "Poll | _NoAnswer":
        """Raises Lost for what another time would not mend."""
        try:
            response = await self.http.request(
                "GET",
                f"{job.poll_url}{'&' if '?' in job.poll_url else '?'}wait={WAIT_S}",
                headers={"Authorization": f"Bearer {job.poll_bearer}"},
                timeout_s=POLL_TIMEOUT_S,
                bytes_max=BYTES_MAX,
                private=True,  # the very server that its user has called
            )
        except HttpFailure as failure:
            if failure.kind in _HOPELESS:
                raise Lost(str(failure)) from None
            return _NoAnswer(str(failure))
        if response.status in (408, 429) or response.status >= 500:
            return _NoAnswer(f"its poll is answered with {response.status}", retry_after_s(response))
        if response.status != 200:
            raise Lost(f"its poll is answered with {response.status}")
        told = _read(response)
        status = told.get("status")
        return Poll(response, told, status) if isinstance(status, str) else _NoAnswer("its poll tells no status")


@dataclass(frozen=True, slots=True)
class _NoAnswer:
    why: str
    retry_s: float = 0


def retry_after_s(response: HttpResponse) -> float:
    text = response.headers.get("retry-after", "")
    return min(int(text), RETRY_S_MAX) if text.isascii() and text.isdigit() and len(text) < 6 else 2


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Raises ValueError for what is no url."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _read(response: HttpResponse) -> Mapping[str, Json]:
    try:
        return _object(orjson.loads(response.body))
    except ValueError:
        return {}


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
