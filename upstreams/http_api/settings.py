"""One `[[http_upstreams]]` table: what each of its settings may hold, and what follows from them.

Which values are secret: the headers' (but for those that only describe the request), query values whose key says so
(`api_key`, `access_token` ...), and whatever is listed under `secrets`. An answer that gives one of them away is
never passed on, and no public text may have one.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from gateway.core.http import CONNECTION_HEADERS, NEVER_RELAYED
from gateway.core.money import MoneyError, parse_usd
from upstreams.http_api.answers import BODILESS, MATCH_STATUSES, MISS_STATUSES, Check, Pointer
from upstreams.http_api.inputs import InputField, as_fields, to_model
from upstreams.http_api.templates import Body, Url
from upstreams.leaks import Leaks, parts_of

RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024

_PLAIN_HEADERS = frozenset({"accept", "accept-language", "accept-charset", "content-type", "user-agent", "origin"})
_SECRET_KEY = re.compile(r"key|token|secret|pass|auth|sig|credential", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,4096}")


def _usd(value: object) -> int:
    if isinstance(value, float):
        raise ValueError('an amount of USD stands in quotes, such as "0.010": a float is no money')
    try:
        return parse_usd(value)
    except MoneyError as error:
        raise ValueError(str(error)) from None


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, Mapping) else value


Usd = Annotated[int, BeforeValidator(_usd)]
"""`"0.330"` in the table, micro-USD in the program."""
Checks = Annotated[tuple[Check, ...], BeforeValidator(_one_or_many)]
Status = Annotated[int, Field(ge=200, le=599)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*$", max_length=80)]
Summary = Annotated[str, Field(max_length=120)]


class HttpUpstream(BaseModel):
    """An HTTP API on sale. See upstreams/http_api/__init__.py for the table as an operator writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: Id = Field(description='the operation\'s name, such as "weather/now"')
    url: str = Field(repr=False, max_length=2048, description="where the vendor is called; {name} is an input's value")
    price_micros: Usd = Field(gt=0, validation_alias="price", description='USD a call, such as "0.010"')
    path: str | None = Field(None, pattern=r"^(/[A-Za-z0-9._~-]+|/\{[a-z_][a-z0-9_]*\})+$", description="our own path")
    method: Literal["GET", "POST"] = "GET"
    summary: Summary = ""
    description: str = Field("", max_length=500)
    tags: tuple[str, ...] = ()
    input: dict[str, InputField] = {}
    query: dict[str, str | int | float | bool | list[str]] = Field({}, repr=False)
    headers: dict[str, str] = Field({}, repr=False)
    body: Any = Field(None, repr=False, description="JSON body as a table; POST only; without it the input is sent")
    secrets: tuple[str, ...] = Field((), repr=False, description="further values that no answer may give away")
    response: Literal["json", "text"] = "json"
    match: Checks = (Check(),)
    failure: Checks = ()
    match_statuses: tuple[Status, ...] = MATCH_STATUSES
    miss_statuses: tuple[Status, ...] = MISS_STATUSES
    response_headers: tuple[str, ...] = Field((), description="headers of the vendor's answer that are passed on")
    response_bytes_max: int = Field(1024 * 1024, ge=1, le=RESPONSE_BYTES_MAX)
    timeout_s: float = Field(20.0, gt=0, le=300)
    private: bool = Field(False, description="true: the url may be on this machine or a private network")
    free: bool = Field(False, description="true: calling the vendor costs nothing, so the sandbox may do it")
    cost_micros: Usd = Field(0, ge=0, validation_alias="cost", description="USD the vendor takes a call")
    billing: Literal["fixed", "metered"] = "fixed"
    markup_percent: int = Field(130, ge=100, le=10_000, description="metered: of the vendor's cost")
    ceiling_micros: Usd | None = Field(
        None, gt=0, validation_alias="ceiling", description='metered: the most USD a call may cost, such as "1.50"'
    )
    cost_pointer: Pointer | None = Field(None, description="where the vendor's answer says what it took, in USD")
    job: bool = Field(False, description="true: it may be handed over as a job")
    repeatable: bool = Field(False, description="true: a call whose answer was lost in a crash may be made again")
    miss_free: bool = True
    cache: bool = False
    """Whether an answer may be given again, for the hours in `[cache]`."""
    settle: Literal["after", "before"] = Field(
        "after",
        description='"before": a signed payment is settled before the call, as a top-up of its payer\'s account',
    )
    example: dict[str, Any] = Field({}, description="an input that validates, with invented people only")
    example_output: Any = Field(None, description="what `data` looks like")
    output: dict[str, Any] = Field({}, description="JSON Schema of `data`")

    @field_validator("input", mode="before")
    @classmethod
    def _fields(cls, value: Any) -> Any:
        return as_fields(value)

    @field_validator("match")
    @classmethod
    def _asks_something(cls, checks: tuple[Check, ...]) -> tuple[Check, ...]:
        if not checks:
            raise ValueError("without a check every answer would be a match; leave match out to ask for any content")
        return checks

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no header name")
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"the value of {name} has characters no header may have; ASCII without line ends")
            if name.lower() in CONNECTION_HEADERS:
                raise ValueError(f"{name} belongs to the connection and is not yours to set; remove it")
        return headers

    @field_validator("response_headers")
    @classmethod
    def _relayable(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no header name")
            if NEVER_RELAYED.fullmatch(name.lower()):
                raise ValueError(f"{name} would speak for this gateway; it is never passed on, remove it")
        return tuple(name.lower() for name in names)

    @field_validator("match_statuses", "miss_statuses")
    @classmethod
    def _has_an_answer(cls, statuses: tuple[int, ...]) -> tuple[int, ...]:
        for status in statuses:
            if 300 <= status < 400:
                raise ValueError(f"{status} is a redirect, which is never followed and never an answer")
        return statuses

    @field_validator("match_statuses")
    @classmethod
    def _has_a_body(cls, statuses: tuple[int, ...]) -> tuple[int, ...]:
        for status in set(statuses) & {*BODILESS, 206}:
            raise ValueError(f"{status} has no whole body to sell")
        return statuses

    @cached_property
    def target(self) -> Url:
        """Without `query` and `body`, what the path leaves over goes where the method has room for it."""
        written = Url.of(self.url, self.query)
        if self.method == "POST" or self.query or written.names - written.path_names:
            return written
        left = {name: f"{{{name}}}" for name in self.input if name not in written.path_names}
        return Url.of(self.url, left)

    @cached_property
    def body_template(self) -> Body | None:
        if self.method == "GET":
            return None
        if self.body is not None:
            return Body(self.body)
        return Body({name: f"{{{name}}}" for name in self.input if name not in self.target.names})

    @cached_property
    def model(self) -> type[BaseModel]:
        """The operation's input. Raises ValueError when the fields make no model."""
        return to_model(self.input, self.path_fields)

    @property
    def path_fields(self) -> frozenset[str]:
        """Fields that stand in a path, the vendor's or ours."""
        return self.target.path_names | frozenset(re.findall(r"\{(\w+)\}", self.path or ""))

    @cached_property
    def leaks(self) -> Leaks:
        secret = [part for name, value in self.headers.items() if name.lower() not in _PLAIN_HEADERS
                  for part in parts_of(value)]  # fmt: skip
        own_query = (pair.partition("=") for pair in self.url.partition("?")[2].split("&"))
        for key, value in (*self.query.items(), *((key, value) for key, _, value in own_query)):
            if _SECRET_KEY.search(key) and isinstance(value, str) and "{" not in value:
                secret.append(value)
        return Leaks((*secret, *self.secrets))

    @cached_property
    def input_example(self) -> dict[str, Any]:
        """`example`, or one put together from the fields'."""
        samples = {name: field.sample for name, field in self.input.items()}
        return self.example or {name: sample for name, sample in samples.items() if sample is not None}
