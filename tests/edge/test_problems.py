from typing import Annotated

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from rigs.counter import PAID, PHONE, Counter, raising
from rigs.wire import ask
from starlette.requests import ClientDisconnect
from structlog.testing import capture_logs

from gateway.core.errors import Code, Problem
from gateway.edge.problems import INTERNAL, translate


def american(text: str) -> str:
    if not text.startswith("+1"):
        raise PydanticCustomError("INVALID_PHONE", "this is no phone number of {region}", {"region": "the US"})
    return text


def own(text: str) -> str:
    raise ValueError(f"canary {text}")


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid")
    phone: Annotated[str, AfterValidator(american)] = "+12065550100"
    age: int = Field(0, ge=0)
    note: Annotated[str | None, AfterValidator(own)] = None


def refused(**fields: object) -> Problem:
    with pytest.raises(ValidationError) as error:
        Input.model_validate(fields)
    return translate(error.value)


async def test_the_envelope(url: str, counter: Counter) -> None:
    counter.behaviour = raising(
        Problem(Code.RATE_LIMITED, "slow down", details={"limit": 60}, reason="too_fast", retry_after_s=7)
    )
    reply = await ask(url, "POST", PHONE, PAID)
    assert reply.status == 429
    assert reply.json() == {
        "error": "slow down",
        "code": "RATE_LIMITED",
        "request_id": reply.header("x-request-id"),
        "details": {"limit": 60, "reason": "too_fast"},
        "docs": "/llms.txt",
    }
    assert reply.header("retry-after") == "7"
    assert reply.header("cache-control") == "no-store"
    assert reply.header("access-control-allow-origin") == "*"
    assert reply.header("content-type") == "application/json"


async def test_a_surprise_tells_the_client_nothing(url: str, counter: Counter) -> None:
    """And the operator where it happened, without what was in it (F-172)."""
    counter.behaviour = raising(RuntimeError("canary +12065550100 of Dana Sample"))
    with capture_logs() as lines:
        reply = await ask(url, "POST", PHONE, PAID)
    assert (reply.status, reply.json()["error"], reply.json()["code"]) == (500, INTERNAL, "INTERNAL")
    assert b"canary" not in reply.body
    failure, access = lines
    assert (failure["event"], failure["request_id"]) == ("request failed", reply.header("x-request-id"))
    assert isinstance(failure["exc_info"], RuntimeError)
    assert (access["status"], access["code"]) == (500, "INTERNAL")


async def test_a_client_that_left_is_no_error(url: str, counter: Counter) -> None:
    counter.behaviour = raising(ClientDisconnect())
    with capture_logs() as lines, pytest.raises(AssertionError):
        assert (await ask(url, "POST", PHONE, PAID)).status < 500
    assert [line["event"] for line in lines if line["log_level"] == "error"] == []


def test_fields_name_the_place_and_never_the_value() -> None:
    problem = refused(age=-5, phone=7)
    assert problem.code is Code.VALIDATION_ERROR
    assert problem.details == {
        "fields": [
            {"loc": ["phone"], "msg": "Input should be a valid string"},
            {"loc": ["age"], "msg": "Input should be greater than or equal to 0"},
        ]
    }


def test_a_validator_may_name_one_of_our_codes() -> None:
    problem = refused(phone="+4420")
    assert (problem.code, problem.status, problem.message) == (
        Code.INVALID_PHONE,
        422,
        "this is no phone number of the US",
    )


def test_a_bare_value_error_may_say_anything_and_so_is_not_repeated() -> None:
    assert "canary" not in str(refused(note="secret").details)


def test_keys_of_the_clients_own_making() -> None:
    problem = refused(**{"dana sample +12065550100": 1, "x" * 500: 2, "color": 3})
    assert [field["loc"] for field in problem.details["fields"]] == [["?"], ["?"], ["color"]]  # type: ignore[attr-defined]


def test_a_thousand_mistakes_are_told_by_the_first_few() -> None:
    problem = refused(**{f"x{i}": i for i in range(1000)})
    assert len(problem.details["fields"]) == 20  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "target", "status", "code", "allow"),
    [
        ("GET", "/nowhere", 404, "NOT_FOUND", None),
        ("POST", "/healthz", 405, "METHOD_NOT_ALLOWED", {"GET", "HEAD"}),
        ("OPTIONS", "/healthz", 405, "METHOD_NOT_ALLOWED", {"GET", "HEAD"}),
        ("OPTIONS", "/nowhere", 404, "NOT_FOUND", None),
    ],
)
async def test_starlettes_own_errors_have_the_envelope(
    url: str, method: str, target: str, status: int, code: str, allow: set[str] | None
) -> None:
    reply = await ask(url, method, target)
    assert (reply.status, reply.json()["code"]) == (status, code)
    found = reply.header("allow")
    assert (set(found.split(", ")) if found else None) == allow


async def test_a_token_that_is_none_says_which_scheme(url: str, counter: Counter) -> None:
    counter.behaviour = raising(Problem(Code.INVALID_TOKEN, "unknown"))
    reply = await ask(url, "POST", PHONE, PAID)
    assert (reply.status, reply.header("www-authenticate")) == (401, 'Bearer error="invalid_token"')
