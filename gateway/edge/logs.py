"""The log: one line for each request but unpaid 402s and 429s, which are only counted. JSON for machines, colours for
us.

What must never be in it: tokens, keys, signatures, bodies, query strings, and whatever could name a person. The first
line of defence is not to hand such things to a logger: a request is told by its route's template, never by its path.
The second is `redact`, which every line passes, the libraries' too (F-172).
"""

import asyncio
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import EventDict, Processor

from gateway.edge.metrics import Metrics
from gateway.edge.server import send_whole
from gateway.edge.visit import SECURITY_HEADERS, TOKEN, Proxies, RequestIds, Visit, peer_of

REDACTED = "[redacted]"
SECRET_KEYS = re.compile(
    r"(^|_)(authorization|token|secret|password|key|signature|payment|payload|body|headers?|cookie|query|url|phone|email"
    r"|name|address|person|data)$"
)
"""Keys whose values are not logged, whatever they hold. `key_id`, `token_hint` and the like are other keys."""
SECRET_FORMS = re.compile(
    TOKEN.pattern
    + r"|\b(?:0x)?[0-9A-Fa-f]{64,}\b"  # keys and signatures; a transaction's hash is logged under HASH_KEYS
    r"|[A-Za-z0-9+/_-]{100,}={0,2}"  # payment headers
    r"|whsec_[A-Za-z0-9+/]{20,}={0,2}"  # what webhooks are signed with
    r"|(?i:bearer)\s+\S+"
    r"|[^\s@]+@[^\s@]+\.[^\s@]+"  # e-mail addresses
    r"|\+\d[\d ().-]{6,}\d"  # phone numbers
    r"|\(?\b\d{3}\)?[ .-]\d{3}[ .-]\d{4}\b"
)
HASH_KEYS = frozenset({"transaction", "block_hash", "payment_hash"})
"""Public hashes have the form of a private key; under these names they are let through."""

PLAIN_KEYS = frozenset({"request_id", "client", "method", "route", "status", "ms", "level", "timestamp"})
"""Of a request's line: made by us or checked where they came in (gateway/edge/visit.py), so not searched again."""

PLAIN_CHARS_MAX = 50
"""Below the shortest token (gateway/core/ids.py) and the shortest key in hexadecimal."""

_OURS = frozenset({b"x-request-id", b"server", b"date", *(name for name, _ in SECURITY_HEADERS)})
"""Headers that no handler sets, an upstream's answer least of all."""

TOO_MANY = 429
"""A flood is counted, not written down: whoever sends it would fill the disk as well (F-121)."""

access = structlog.get_logger("gateway.access")


class Visits:
    """ASGI: opens a visit for each request, closes it with its line in the log, and dresses every answer."""

    def __init__(self, app: ASGIApp, request_ids: RequestIds, proxies: Proxies, metrics: Metrics) -> None:
        self._app = app
        self._request_ids = request_ids
        self._proxies = proxies
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        theirs = next((value for name, value in headers if name == b"x-request-id"), None)
        visit = Visit(self._request_ids.choose(theirs), self._proxies.client(peer_of(scope), headers))
        scope.setdefault("state", {}).update(visit=visit, request_id=visit.request_id)
        began = time.monotonic()
        status = 0
        start: Message | None = None

        async def dress(message: Message) -> None:
            nonlocal status, start
            if message["type"] == "http.response.start":
                status = message["status"]
                kept = [header for header in message["headers"] if header[0] not in _OURS]
                told = visit.standing.headers if visit.standing is not None else ()
                message["headers"] = [*kept, *told, *SECURITY_HEADERS, (b"x-request-id", visit.request_id.encode())]
                start = message
            elif start is not None:
                begun, start = start, None
                await send_whole(scope, send, begun, message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, dress)
        finally:
            seconds = time.monotonic() - began
            self._metrics.request(visit.route, status, seconds)
            if status != TOO_MANY:
                access.info(
                    "request",
                    request_id=visit.request_id,
                    client=visit.client,
                    method=scope["method"],
                    route=visit.route,
                    status=status,
                    ms=round(seconds * 1000, 1),
                    **visit.facts,
                )


def configure(form: Literal["json", "console"] = "json", level: str = "info", stream: TextIO | None = None) -> None:
    """Sets up structlog, and the standard library's logging behind it for the libraries' own lines. Once a process."""
    lines = Lines(stream or sys.stderr)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        bare_trace,
        redact,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=lines.stream.isatty())
        if form == "console"
        else structlog.processors.JSONRenderer(_json)
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, lines)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    # Libraries say what goes wrong with them. Their debug lines hold whole requests: nobody gets those.
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


class Lines:
    """Where log lines are written: those of one turn of the event loop together, after it. A write to a file lets the
    interpreter's lock go, and having it back from the store's threads costs more than all the rest of a line.

    A log that cannot be written is no reason to fail a call: its lines are lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._waiting: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        """Whose turn is awaited."""

    def write(self, text: str) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write(text)
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._write_waiting)
        self._waiting.append(text)

    def flush(self) -> None:
        """Every write is whole; nothing is left to be done."""

    def _write_waiting(self) -> None:
        text = "".join(self._waiting)
        self._waiting.clear()
        self._loop = None
        self._write(text)

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()


def bare_trace(logger: object, method: str, event: EventDict) -> EventDict:
    """An exception becomes its type and where it came from: no message and no values, both may hold what was sent."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["trace"] = _trace(error)
    return event


def redact(logger: object, method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if key not in PLAIN_KEYS:
            event[key] = _redacted(key, value)
    return event


@lru_cache(maxsize=1024)
def _is_secret_key(key: str) -> bool:
    return SECRET_KEYS.search(key) is not None


def _redacted(key: str, value: Any) -> Any:
    if _is_secret_key(key):
        return REDACTED
    if isinstance(value, str):
        # A short word of letters, digits and underscores has the form of no secret; most of what is logged is such.
        if key in HASH_KEYS or (len(value) < PLAIN_CHARS_MAX and value.isidentifier()):
            return value
        return SECRET_FORMS.sub(REDACTED, value)
    if isinstance(value, bytes):
        return REDACTED
    if isinstance(value, Mapping):
        return {inner: _redacted(str(inner), each) for inner, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(key, each) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return SECRET_FORMS.sub(REDACTED, str(value))


def _trace(error: BaseException) -> list[str]:
    """`file:line function` from the outermost call in; then the same of its cause."""
    frames = traceback.extract_tb(error.__traceback__)
    told = [f"{frame.filename.rsplit('site-packages/')[-1]}:{frame.lineno} {frame.name}" for frame in frames]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        told += [f"caused by {type(cause).__name__}", *_trace(cause)]
    return told


def _json(event: EventDict, default: Callable[[Any], Any] = str, **_: Any) -> str:
    return orjson.dumps(event, default=default).decode()
