"""Following a job: to its end, at a civil distance, and with its bearer shown to nobody else."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from gateway.core.http import HttpFailure, HttpResponse
from gateway.flows.following import FAILURES_MAX, WAIT_S, Follower, Job, Lost, Poll, handed_over

CALLED = "https://api.example.com/api/v1/enrich/jobs"
TOLD = {"job_id": "ej_1", "poll_url": "/api/v1/enrich/jobs/ej_1", "poll_bearer": "411j_secret"}


def accepted(status: int = 202, **changes: Any) -> HttpResponse:
    return HttpResponse(status, {}, orjson.dumps({**TOLD, **changes}))


def job(poll_url: str = TOLD["poll_url"], called: str = CALLED) -> Job:
    found = handed_over(accepted(poll_url=poll_url), called)
    assert found is not None
    return found


def answer(status: str, phase: str = "", rounds: int = 0, **headers: str) -> HttpResponse:
    progress = {"phase": phase or status, "rounds_used": rounds}
    return HttpResponse(200, headers, orjson.dumps({"status": status, "progress": progress}))


DONE = answer("completed")
LOST = HttpFailure("timeout", "no answer in time", sent=True)
REFUSED = HttpFailure("connect", "no connection could be made", sent=False)


class Shop:
    """core.http.HttpClient whose answers were written down before; each takes `holds_s` of a clock that stands else."""

    def __init__(self, *answers: HttpResponse | HttpFailure, holds_s: float = 0.0) -> None:
        self._answers = list(answers)
        self._holds_s = holds_s
        self.now = 100.0
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []
        self.slept: list[float] = []

    async def request(self, method: str, url: str, *, headers: Mapping[str, str], **_: Any) -> HttpResponse:
        self.asked.append((method, url, headers))
        self.now += self._holds_s
        given = self._answers.pop(0)
        if isinstance(given, HttpFailure):
            raise given
        return given

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def follow(self, followed: Job | None = None, seen: Callable[[Poll], None] = lambda poll: None) -> Poll:
        follower = Follower(self, self.sleep, lambda: self.now)  # type: ignore[arg-type]
        return await follower.follow(followed or job(), seen)


@pytest.mark.parametrize(
    "response",
    [
        accepted(status=200),
        accepted(status=402),
        *(accepted(**{name: odd}) for name in TOLD for odd in (None, 1, ["x"])),
        HttpResponse(202, {}, b""),
        HttpResponse(202, {}, b"[]"),
        HttpResponse(202, {}, orjson.dumps({"code": "SETTLEMENT_PENDING"})),
    ],
)
def test_no_job(response: HttpResponse) -> None:
    assert handed_over(response, CALLED) is None


@pytest.mark.parametrize("ended", ["completed", "failed", "cancelled"])
async def test_it_is_asked_by_its_bearer_until_it_has_ended(ended: str) -> None:
    seen: list[tuple[str, int]] = []
    shop = Shop(answer("queued"), answer("running", "reading", 1), answer("running", "settling", 2), answer(ended))
    last = await shop.follow(seen=lambda poll: seen.append((poll.phase, poll.rounds)))
    assert last.status == ended
    assert seen == [("queued", 0), ("reading", 1), ("settling", 2), (ended, 0)]
    assert shop.asked == [
        ("GET", f"{CALLED}/ej_1?wait={WAIT_S}", {"Authorization": "Bearer 411j_secret"})
    ] * 4  # fmt: skip


async def test_a_poll_url_with_a_query_keeps_it() -> None:
    shop = Shop(DONE)
    await shop.follow(job("/jobs?id=1"))
    assert shop.asked[0][1] == f"https://api.example.com/jobs?id=1&wait={WAIT_S}"


@pytest.mark.parametrize(
    ("holds_s", "headers", "slept"),
    [
        (5.0, {"retry-after": "5"}, 0), (0.0, {"retry-after": "5"}, 5), (2.0, {"retry-after": "5"}, 3),
        (0.0, {"retry-after": "0"}, 1), (0.0, {"retry-after": "86400"}, 30), (0.0, {}, 2),
        (0.0, {"retry-after": "x"}, 2),
    ],
)  # fmt: skip
async def test_what_a_poll_was_held_open_for_is_waited_already(
    holds_s: float, headers: dict[str, str], slept: float
) -> None:
    shop = Shop(answer("running", **headers), DONE, holds_s=holds_s)
    await shop.follow()
    assert shop.slept == [slept]


@pytest.mark.parametrize("trouble", [LOST, REFUSED, HttpResponse(503, {}, b""), HttpResponse(200, {}, b"<html>")])
async def test_a_lost_poll_is_asked_again(trouble: Any) -> None:
    shop = Shop(*[trouble] * (FAILURES_MAX - 1), answer("running"), *[trouble] * (FAILURES_MAX - 1), DONE)
    assert (await shop.follow()).status == "completed"
    assert max(shop.slept) <= 30


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (LOST, "no answer in time"), (REFUSED, "no connection"), (HttpResponse(503, {}, b""), "answered with 503"),
        (HttpResponse(200, {}, b'{"status": 5}'), "tells no status"),
    ],
)  # fmt: skip
async def test_some_time_nobody_is_asked_any_more(trouble: Any, why: str) -> None:
    shop = Shop(*[trouble] * 100)
    with pytest.raises(Lost, match=why):
        await shop.follow()
    assert len(shop.asked) == FAILURES_MAX
    assert 60 < sum(shop.slept) < 180


async def test_a_busy_server_is_given_the_time_it_asks_for() -> None:
    shop = Shop(HttpResponse(429, {"retry-after": "20"}, b""), DONE)
    await shop.follow()
    assert shop.slept == [20]


@pytest.mark.parametrize(
    "trouble",
    [HttpResponse(status, {}, b"{}") for status in (302, 401, 404, 410, 422)]
    + [HttpFailure("bad_url", "the url is none", sent=False)],
)
async def test_what_another_time_would_not_mend_is_not_asked_again(trouble: Any) -> None:
    shop = Shop(trouble)
    with pytest.raises(Lost):
        await shop.follow()


@pytest.mark.parametrize(
    "poll_url",
    ["/jobs/1", "jobs/1", "https://api.example.com/jobs/1", "https://api.example.com:443/jobs/1", "?job=1",
     "https://API.example.com/jobs/1", "//api.example.com/jobs/1"],
)  # fmt: skip
async def test_the_bearer_goes_to_the_server_that_was_called(poll_url: str) -> None:
    shop = Shop(DONE)
    await shop.follow(job(poll_url))
    assert len(shop.asked) == 1


@pytest.mark.parametrize(
    "poll_url",
    ["https://api.example.com.example.org/jobs/1", "https://hooks.example.com/jobs/1", "//hooks.example.com/jobs/1",
     "http://api.example.com/jobs/1", "https://api.example.com:8443/jobs/1", "https://api.example.com@example.org/1",
     "file:///etc/passwd", "https://[", "https://api.example.com:port/", "javascript:1"],
)  # fmt: skip
async def test_and_to_no_other(poll_url: str) -> None:
    shop = Shop(DONE)
    with pytest.raises(Lost, match="not of the server that was called"):
        await shop.follow(job(poll_url))
    assert shop.asked == []


def test_its_bearer_is_not_in_its_repr() -> None:
    assert "secret" not in repr(job())
