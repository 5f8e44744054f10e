"""JSON-RPC by hand: what we ask of a chain's nodes, and how little we believe of what they answer.

Every question goes out as one batch, so that its answers come from one node at one moment. Behind one url there may
be many nodes, some of them blocks behind: whoever asks about "now" asks for the latest block in the same batch, and an
answer from further back than we have seen already is asked again. An answer that is not exactly what was asked for
(another chain, half a batch, HTML, null where there is always something) counts as none, and the next url is tried.

    RpcUnavailable    nobody gave a usable answer: nothing is known
    RpcError          a node answered one call with an error: what it means depends on the call

Urls hold the operator's keys, so they are never logged or shown: a url is known by its place in the list.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import aiohttp
import orjson
import structlog

from gateway.core.x402.messages import Json

log = structlog.get_logger("rpc")

T = TypeVar("T")
Call = tuple[Json, ...]
"""(method, parameter, ...)"""

BATCH_MAX = 100
"""Calls in one request: many nodes take no more."""
ANSWER_BYTES_MAX = 8 * 1024 * 1024
CHAIN_CHECK_EVERY_S = 60.0
REST_FIRST_S, REST_MAX_S = 0.5, 30.0
STALE_PAUSE_S = 0.02
REWIND_AFTER_S = 30.0
"""How long all nodes must agree on a lower head than we have seen before we believe that the chain went back."""

_BUSY = frozenset({-32005, -32016, -32029, 429})
_REVERTED = frozenset({3, -32015})
_REVERTED_WORDS = ("revert", "out of gas", "outofgas", "invalid opcode")
_BUSY_WORDS = ("rate limit", "too many requests", "request limit", "compute units", "capacity exceeded")


class RpcUnavailable(Exception):
    """No usable answer from any url. The request may have been carried out."""


class RpcBehind(RpcUnavailable):
    """Answered, by nodes that have not seen yet what others told us."""


class _NoAnswerInTime(RpcUnavailable):
    pass


class RpcError(Exception):
    """A node's own answer to one call."""

    def __init__(self, code: int, message: str, data: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @property
    def reverted(self) -> bool:
        """The contract refused, or ran out of the gas it was given; not: the node could not."""
        text = self.message.lower()
        return self.code in (3, -32015) or any(
            word in text for word in ("revert", "out of gas", "invalid opcode", "outofgas")
        )

    @property
    def unsupported(self) -> bool:
        return self.code in (-32601, -32004) or "method not found" in self.message.lower()


Answer = Json | RpcError


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    hash: str
    time_s: int
    base_fee: int
    """Wei a unit of gas; 0 where the chain has none."""


# reading answers: each raises RpcUnavailable for what the standard does not allow


def quantity(answer: Answer, *, bits: int = 256) -> int:
    """`"0x1f"` -> 31."""
    if isinstance(answer, RpcError):
        raise RpcUnavailable(f"the node could not: {answer.code}")
    if not isinstance(answer, str) or not answer.startswith("0x") or len(answer) > 66:
        raise RpcUnavailable("no number where there should be one")
    try:
        number = int(answer, 16)
    except ValueError:
        raise RpcUnavailable("no number where there should be one") from None
    if number >> bits:
        raise RpcUnavailable("an absurd number")
    return number


def data(answer: Answer) -> bytes:
    """`"0x..."` -> bytes."""
    if isinstance(answer, RpcError):
        raise RpcUnavailable(f"the node could not: {answer.code}")
    if not isinstance(answer, str) or not answer.startswith("0x"):
        raise RpcUnavailable("no bytes where there should be some")
    try:
        return bytes.fromhex(answer[2:])
    except ValueError:
        raise RpcUnavailable("no bytes where there should be some") from None


def word(answer: Answer) -> int:
    """What a contract's function answered with one number. Nothing at all (there is no such contract) is an error."""
    answered = data(answer)
    if len(answered) < 32:
        raise RpcUnavailable("a contract answered with less than a word")
    return int.from_bytes(answered[:32], "big")


def members(answer: Answer) -> dict[str, Json]:
    if not isinstance(answer, dict):
        raise RpcUnavailable("no object where there should be one")
    return cast(dict[str, Json], answer)


def text(value: Json) -> str:
    if not isinstance(value, str):
        raise RpcUnavailable("no text where there should be some")
    return value


def block(answer: Answer) -> Block:
    found = members(answer)
    return Block(
        number=quantity(found.get("number"), bits=63),
        hash=text(found.get("hash")),
        time_s=quantity(found.get("timestamp"), bits=40),
        base_fee=quantity(found.get("baseFeePerGas", "0x0"), bits=96),
    )


class _Url:
    """One endpoint and what we think of it."""

    def __init__(self, place: int, url: str) -> None:
        self.place = place
        self.url = url
        self.checked_at: float | None = None
        self.wrong_chain = False
        self.rest_until = 0.0
        self._rest_s = REST_FIRST_S

    def failed(self, now: float) -> None:
        self.rest_until = now + self._rest_s
        self._rest_s = min(self._rest_s * 2, REST_MAX_S)

    def answered(self) -> None:
        self.rest_until = 0.0
        self._rest_s = REST_FIRST_S


class Rpc:
    def __init__(
        self, http: aiohttp.ClientSession, urls: Sequence[str], *, chain_id: int, timeout_s: float = 5.0
    ) -> None:
        """`urls` best first, all of one chain; `timeout_s` is for one question, whoever answers it in the end."""
        if not urls:
            raise ValueError("a chain needs at least one url")
        self.chain_id = chain_id
        self.head = 0
        """The highest block number that any node has told us."""
        self._http = http
        self._urls = [_Url(place, url) for place, url in enumerate(urls)]
        self._timeout_s = timeout_s
        self._behind_since: float | None = None

    @property
    def alarms(self) -> tuple[str, ...]:
        now = asyncio.get_running_loop().time()
        alarms = []
        if any(url.wrong_chain for url in self._urls):
            alarms.append("rpc_wrong_chain")
        if all(url.wrong_chain or url.rest_until > now for url in self._urls):
            alarms.append("rpc_unreachable")
        return tuple(alarms)

    async def call(self, method: str, *params: Json, wait_s: float | None = None) -> Json:
        """One answer. Raises RpcError or RpcUnavailable. `wait_s` is for a question that a node may sit on: when it is
        over, no other url is asked and this one is not blamed."""
        if wait_s is None:
            (answer,) = await self.batch([(method, *params)])
        else:
            (answer,) = await self.read([(method, *params)], list, timeout_s=wait_s, patient=True)
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(self, calls: Sequence[Call], *, timeout_s: float | None = None) -> list[Answer]:
        """An answer or an RpcError for each call, in order, all from one url. Raises RpcUnavailable."""
        return await self.read(calls, list, timeout_s=timeout_s)

    async def read(
        self,
        calls: Sequence[Call],
        understand: Callable[[list[Answer]], T],
        *,
        timeout_s: float | None = None,
        patient: bool = False,
    ) -> T:
        """`understand(answers)`; where it raises RpcUnavailable, the next url is asked."""
        if not calls:
            return understand([])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (timeout_s or self._timeout_s)
        reasons: list[str] = []
        behind = False
        for url in self._in_order(loop.time()):
            left_s = deadline - loop.time()
            if left_s <= 0:
                break
            try:
                answers = await self._ask(url, calls, left_s, patient=patient)
                understood = understand(answers)
            except RpcUnavailable as failure:
                if patient and isinstance(failure, _NoAnswerInTime):
                    raise
                url.failed(loop.time())
                reasons.append(f"#{url.place} {failure}")
                behind |= isinstance(failure, RpcBehind)
                log.info("rpc_failed", node=url.place, cause=str(failure))
            else:
                url.answered()
                return understood
        raise (RpcBehind if behind else RpcUnavailable)("; ".join(reasons) or "no url in time")

    async def latest(
        self, calls: Sequence[Call], understand: Callable[[Block, list[Answer]], T], *, timeout_s: float | None = None
    ) -> T:
        """`understand(latest block, answers)`, of a node that is no further behind than any we have heard of."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (timeout_s or self._timeout_s)

        def at_the_head(answers: list[Answer]) -> T:
            head = block(answers[0])
            if not self._is_news(head, loop.time()):
                raise RpcBehind(f"it is at block {head.number}, others were at {self.head}")
            return understand(head, answers[1:])

        asked = [("eth_getBlockByNumber", "latest", False), *calls]
        while True:
            try:
                return await self.read(asked, at_the_head, timeout_s=deadline - loop.time())
            except RpcBehind:
                if loop.time() + STALE_PAUSE_S >= deadline:
                    raise
                await asyncio.sleep(STALE_PAUSE_S)

    def heard_of(self, block: int) -> None:
        """A block that something is known to be in: readers that have not seen it are behind."""
        self.head = max(self.head, block)

    def _is_news(self, head: Block, now: float) -> bool:
        if head.number >= self.head:
            self.head, self._behind_since = head.number, None
            return True
        self._behind_since = self._behind_since or now
        if now - self._behind_since > REWIND_AFTER_S:
            log.warning("chain_went_back", to_block=head.number, from_block=self.head)
            self.head, self._behind_since = head.number, None
            return True
        return False

    def _in_order(self, now: float) -> list[_Url]:
        """Those not resting first; when all rest, all are tried: better a useless question than none."""
        return sorted(self._urls, key=lambda url: (url.wrong_chain, url.rest_until > now, url.place))

    async def _ask(self, url: _Url, calls: Sequence[Call], timeout_s: float, *, patient: bool) -> list[Answer]:
        now = asyncio.get_running_loop().time()
        check_chain = url.checked_at is None or now - url.checked_at > CHAIN_CHECK_EVERY_S
        asked = [("eth_chainId",), *calls] if check_chain else list(calls)
        # One slow url must not use up the time of all; the last may have whatever is left.
        share_s = timeout_s if patient or url is self._urls[-1] else timeout_s * 0.6
        parts = [asked[at : at + BATCH_MAX] for at in range(0, len(asked), BATCH_MAX)]
        answers = [
            answer
            for part in await asyncio.gather(*(self._post(url, part, share_s) for part in parts))
            for answer in part
        ]
        if check_chain:
            found = quantity(answers.pop(0))
            url.wrong_chain = found != self.chain_id
            if url.wrong_chain:
                log.error("rpc_wrong_chain", node=url.place, expected=self.chain_id, found=found)
                raise RpcUnavailable(f"it is of chain {found}, not {self.chain_id}")
            url.checked_at = now
        return answers

    async def _post(self, url: _Url, calls: Sequence[Call], timeout_s: float) -> list[Answer]:
        body = orjson.dumps(
            [{"jsonrpc": "2.0", "id": id, "method": call[0], "params": call[1:]} for id, call in enumerate(calls)]
        )
        try:
            async with asyncio.timeout(timeout_s):
                async with self._http.post(
                    url.url, data=body, headers={"Content-Type": "application/json"}, allow_redirects=False
                ) as response:
                    if response.status != 200:
                        raise RpcUnavailable(f"HTTP {response.status}")
                    answered = await _within(response, ANSWER_BYTES_MAX)
        except TimeoutError:
            raise _NoAnswerInTime("no answer in time") from None
        except aiohttp.ClientError as error:
            raise RpcUnavailable(type(error).__name__) from None
        return _answers(answered, len(calls))


async def _within(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    received = bytearray()
    async for chunk in response.content.iter_any():
        received += chunk
        if len(received) > bytes_max:
            raise RpcUnavailable("an answer beyond all measure")
    return bytes(received)


def _answers(body: bytes, count: int) -> list[Answer]:
    try:
        batch = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RpcUnavailable("no JSON") from None
    if not isinstance(batch, list) or len(batch) != count:
        raise RpcUnavailable("not as many answers as questions")
    answers: list[Answer] = [None] * count
    missing = set(range(count))
    for answer in batch:
        if not isinstance(answer, dict) or type(answer.get("id")) is not int or answer["id"] not in missing:
            raise RpcUnavailable("an answer to something that was not asked")
        missing.discard(answer["id"])
        answers[answer["id"]] = _answer(answer)
    return answers


def _answer(answer: dict[str, Json]) -> Answer:
    error = answer.get("error")
    if error is None:
        if "result" not in answer:
            raise RpcUnavailable("an answer without a result")
        return answer["result"]
    if not isinstance(error, dict):
        raise RpcUnavailable("an error without a form")
    code, message, details = error.get("code"), error.get("message"), error.get("data")
    code = code if isinstance(code, int) else 0
    message = message[:512] if isinstance(message, str) else ""
    if code in _BUSY or any(words in message.lower() for words in _BUSY_WORDS):
        raise RpcUnavailable(f"the node is busy ({code})")
    return RpcError(code, message, details if isinstance(details, str) else "")
