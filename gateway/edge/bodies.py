"""Request bodies: bounded in size and in time, read before anything is made of them (F-154, F-155)."""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request

from gateway.core.errors import Code, Problem

Json = Any
"""What orjson reads."""


@dataclass(frozen=True, slots=True)
class Limits:
    bytes_max: int = 65_536
    depth_max: int = 64
    """Levels of nesting. What is deeper is read by some JSON libraries and written by none."""
    deadline_s: float = 10.0
    """For the whole body, however it dribbles in."""


async def read_json(request: Request, limits: Limits) -> Json:
    """The body as JSON. Raises Problem UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE, REQUEST_TIMEOUT, BAD_JSON."""
    check_media_type(request)
    return _parsed(await read(request, limits), limits)


async def read_optional_json(request: Request, limits: Limits, default: Json) -> Json:
    """The same where a body may be left out, whatever type a client then says that it has: `default`."""
    body = await read(request, limits)
    if not body:
        return default
    check_media_type(request)
    return _parsed(body, limits)


def _parsed(body: bytes, limits: Limits) -> Json:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        # orjson's own sentence would do no harm, but it differs between versions; this one can be relied on.
        raise Problem(Code.BAD_JSON, "the body is not JSON" if body else "the body is empty; send JSON") from None
    # Without that many brackets there cannot be that many levels, and nearly all bodies have few.
    if body.count(b"[") + body.count(b"{") > limits.depth_max and _is_deeper(value, limits.depth_max):
        raise Problem(Code.BAD_JSON, f"the body is nested deeper than {limits.depth_max} levels")
    return value


def _is_deeper(value: Json, levels: int) -> bool:
    """Level by level, without recursion."""
    containers = [value]
    for _ in range(levels):
        containers = [
            inner
            for outer in containers
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not containers:
            return False
    return True


async def read(request: Request, limits: Limits) -> bytes:
    """The body's bytes. Raises Problem BODY_TOO_LARGE as soon as it is, REQUEST_TIMEOUT, BAD_REQUEST."""
    check_length(request, limits.bytes_max)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.deadline_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.bytes_max:
                    raise _too_large(limits.bytes_max)
    except TimeoutError:
        raise Problem(Code.REQUEST_TIMEOUT, f"the body did not arrive within {limits.deadline_s:g} s") from None
    return bytes(body)


def check_length(request: Request, bytes_max: int) -> None:
    """What Content-Length says, before a byte is read."""
    if declared_length(request.headers.get("content-length", "").encode("latin-1")) > bytes_max:
        raise _too_large(bytes_max)


def declared_length(content_length: bytes) -> int:
    """0 for none. More digits than any limit has are simply too many: no such integer is ever made."""
    if not content_length.isdigit():
        return 0
    return int(content_length) if len(content_length) <= 18 else 10**18


def check_media_type(request: Request) -> None:
    """application/json or any +json, in UTF-8, not compressed. A body without a type is taken for JSON."""
    media_type, _, parameters = request.headers.get("content-type", "application/json").lower().partition(";")
    media_type = media_type.strip()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "send the body as application/json")
    charset = parameters.partition("charset=")[2].strip(' ";')
    if charset not in ("", "utf-8", "utf8"):
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "JSON is sent in UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(Code.UNSUPPORTED_MEDIA_TYPE, "send the body uncompressed")


def _too_large(bytes_max: int) -> Problem:
    return Problem(Code.BODY_TOO_LARGE, f"a body has at most {bytes_max} bytes", details={"bytes_max": bytes_max})
