"""What an answer of the vendor means: a match, a miss, or a failure.

The declared rule, by status; `match_statuses` and `miss_statuses` of the table change the first two lines only.

    status                outcome    why
    200, 201, 203         the body   it is a match when every check of `match` holds, else a miss
    404                   miss       looked, found nothing
    204, 205              miss       found, and there is nothing
    202                   failure    the work is not done yet, so there is nothing to sell
    206                   failure    a part of an answer; we never ask for one
    other 2xx             failure    not known to be an answer
    1xx                   -          skipped by the client; an answer that never gets beyond them is a timeout
    3xx, 304 too          failure    never followed; `Location` is dropped: it may be the goods, and nobody paid
    other 4xx             failure    the vendor refused the call
    429, 503              failure    with the vendor's advice when to come back
    other 5xx             failure

A paid HEAD does not exist: the gateway answers 405 to it, and asks vendors by GET and POST only.

Checks on the body, by JSON pointer (RFC 6901; "" is the whole body). `match`: all of them must hold, by default one:
the body is not empty. `failure`: one of them suffices, for vendors that answer 200 with an error in it. A value that
is there and has the wrong type for its check (`at_least` of a text) is a failure: the vendor's shape has changed.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Annotated, Any, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MATCH_STATUSES = (200, 201, 203)
MISS_STATUSES = (204, 205, 404)
BODILESS = (204, 205)
BUSY = (429, 503)
RETRY_AFTER_MAX_S = 3600
NESTING_MAX = 200
COST_USD_MAX = 1_000_000
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_MISSING = object()


class Verdict(StrEnum):
    MATCH = "match"
    MISS = "miss"
    FAILURE = "failure"


class Unusable(Exception):
    """The body cannot be sold: no JSON, or JSON that others could not read. The text holds nothing of it."""


Pointer = Annotated[str, StringConstraints(pattern=r"^(/([^~/]|~[01])*)*$", max_length=256)]


class Check(BaseModel):
    """One question about a body. With a pointer alone: is something there that is not empty?"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pointer: Pointer = ""
    exists: bool | None = Field(None, description="whether there must be anything, null included")
    non_empty: bool | None = Field(None, description='whether it must be more than null, "", [] or {}')
    equals: Any = Field(None, description="the value it must have")
    at_least: float | None = Field(None, description="the least number it may be")

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        asked = self.model_fields_set - {"pointer"}
        if len(asked) > 1:
            raise ValueError("a check asks one thing: exists, non_empty, equals or at_least; write several checks")
        return self

    def holds(self, body: Any) -> bool:
        """Raises Unusable when the value has no type that could be compared."""
        value = _at(body, self.pointer)
        if "equals" in self.model_fields_set:
            return _same(value, self.equals)
        if self.at_least is not None:
            return _reaches(value, self.at_least)
        if self.exists is not None:
            return (value is not _MISSING) == self.exists
        return (value is not _MISSING and value not in (None, "", [], {})) == (self.non_empty is not False)


def _at(body: Any, pointer: str) -> Any:
    value = body
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", key) and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value


def cost_micros(body: Any, pointer: str, otherwise: int) -> int:
    """What the vendor says it took, in micro-USD, rounded up: a number of USD, or one in quotes. `otherwise` where it
    says nothing. Raises Unusable for what is no amount of money."""
    value = _at(body, pointer)
    if value is _MISSING or value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise Unusable("its cost is no amount")
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        raise Unusable("its cost is no amount") from None
    if not usd.is_finite() or not 0 <= usd <= COST_USD_MAX:
        raise Unusable("its cost is no amount that a call could have")
    return int((usd * 1_000_000).to_integral_value(ROUND_CEILING))


def _same(value: Any, wanted: Any) -> bool:
    """JSON equality: true is not 1, 1 is 1.0."""
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _reaches(value: Any, least: float) -> bool:
    if value is _MISSING or value is None:
        return False
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unusable("a number was expected")
    return value >= least


def by_status(status: int, match_statuses: Sequence[int], miss_statuses: Sequence[int]) -> Verdict | None:
    """What the status alone decides; None: the body decides."""
    if status in miss_statuses:
        return Verdict.MISS
    return None if status in match_statuses else Verdict.FAILURE


def by_body(body: Any, match: Sequence[Check], failure: Sequence[Check]) -> Verdict:
    """Raises Unusable."""
    if any(check.holds(body) for check in failure):
        return Verdict.FAILURE
    return Verdict.MATCH if all(check.holds(body) for check in match) else Verdict.MISS


def read_json(content: bytes) -> Any:
    """The body's value. Raises Unusable for what is no JSON (NaN included) and for what would not survive the relay:
    numbers that no double and no 64-bit integer holds, nesting beyond NESTING_MAX."""
    try:
        value = orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        raise Unusable("the body is no JSON") from None
    if content.count(b"[") + content.count(b"{") > NESTING_MAX and _nests_deeper(value, NESTING_MAX):
        raise Unusable("the body is nested too deeply")
    if _LONG_NUMBER.search(content):
        json.loads(content.removeprefix(b"\xef\xbb\xbf"), parse_int=_small)
    return value


def _small(digits: str) -> int:
    # orjson reads an integer of more than 64 bits as a float and would relay another number than it was given.
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise Unusable("the body has a number beyond 64 bits")
    return int(digits)


def _nests_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [inner for outer in level for inner in _members(outer) if isinstance(inner, (dict, list))]
    return bool(level)


def _members(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container if isinstance(container, list) else ()


def read_text(content: bytes) -> str:
    """The body as text. Raises Unusable when it is no UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unusable("the body is no UTF-8") from None


def retry_after_s(headers: Mapping[str, str], now_s: float) -> int | None:
    """A vendor's `Retry-After`, as seconds or as a date, between 1 and RETRY_AFTER_MAX_S; None when it says nothing."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        seconds = int(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s)
    return min(max(seconds, 1), RETRY_AFTER_MAX_S)
