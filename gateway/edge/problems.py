"""The one envelope: {error, code, request_id, details, docs}, and how everything that is raised becomes one.

    Problem                        as it is
    pydantic's ValidationError     VALIDATION_ERROR, or the code that a validator names as its error type
    Starlette's HTTPException      NOT_FOUND, METHOD_NOT_ALLOWED, BAD_REQUEST
    ClientDisconnect               nothing: nobody is there to read it
    anything else                  INTERNAL: a constant text for the client, the trace for the operator

What a client sent is never repeated to him here, nor written to the log: a request holds people and secrets.
"""

from collections.abc import Mapping
from types import MappingProxyType

import orjson
import structlog
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.core.errors import Code, Problem
from gateway.edge.visit import Visit

DOCS = "/llms.txt"
INTERNAL = "something went wrong on our side; nothing more was charged than an answer says"
FIELDS_MAX = 20
_HTTP = MappingProxyType({404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED})

log = structlog.get_logger("gateway.edge")


class Problems:
    """ASGI: everything raised further in becomes an answer here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: Visit = scope["state"]["visit"]
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            visit.facts["code"] = "CLIENT_GONE"
        except Exception as error:
            problem = translate(error)
            if problem.code is Code.INTERNAL:
                log.error("request failed", request_id=visit.request_id, exc_info=error)
            visit.facts["code"] = problem.code.value
            if started:
                raise ConnectionAbortedError("failed after the answer had begun") from None
            await response(problem, visit.request_id)(scope, receive, send)


def translate(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case ValidationError():
            return invalid(error)
        case HTTPException(status_code=status, headers=headers):
            allow = {"allow": headers["Allow"]} if headers and "Allow" in headers else None
            code = _HTTP.get(status, Code.BAD_REQUEST)
            return Problem(code, _SENTENCES.get(code, "this request cannot be answered"), details=allow)
        case _:
            return Problem(Code.INTERNAL, INTERNAL)


_SENTENCES = MappingProxyType(
    {
        Code.NOT_FOUND: "there is nothing at this path",
        Code.METHOD_NOT_ALLOWED: "this path does not take this method",
    }
)


def invalid(error: ValidationError, *, within: str | None = None) -> Problem:
    """pydantic's findings, each as {loc, msg}; `within` names the part of the request they are about. A validator that
    raises PydanticCustomError with one of our codes as its type gives the whole answer that code."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    code, sentence = Code.VALIDATION_ERROR, "the request does not fit this operation"
    for finding in found:
        if finding["type"] in Code.__members__:
            code, sentence = Code(finding["type"]), finding["msg"]
            break
    above = [] if within is None else [within]
    fields = [
        {"loc": above + _place(finding["loc"]), "msg": _said(finding["type"], finding["msg"])} for finding in found
    ]
    return Problem(code, sentence, details={"fields": fields[:FIELDS_MAX]})


def _place(loc: tuple[int | str, ...]) -> list[int | str]:
    """Where it is. A key that the client made up is cut short and named only as far as it is a plain name."""
    return [part if isinstance(part, int) or (part.isidentifier() and len(part) <= 40) else "?" for part in loc]


def _said(kind: str, message: str) -> str:
    """pydantic's own sentences name types and bounds, never values, but one names a class of ours; those of a bare
    ValueError may say anything."""
    if kind == "model_type":
        return "Input should be a JSON object"
    return "this value is not acceptable" if kind in ("value_error", "assertion_error") else message


def response(problem: Problem, request_id: str) -> Response:
    """The envelope as an answer; `details.allow` and `retry_after_s` become their headers."""
    answer = Response(body(problem, request_id), problem.status, media_type="application/json")
    answer.headers["Cache-Control"] = "no-store"
    if problem.retry_after_s is not None:
        answer.headers["Retry-After"] = str(problem.retry_after_s)
    if problem.code is Code.METHOD_NOT_ALLOWED and "allow" in problem.details:
        answer.headers["Allow"] = str(problem.details["allow"])
    if problem.code is Code.INVALID_TOKEN:
        answer.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    return answer


def body(problem: Problem, request_id: str) -> bytes:
    details: Mapping[str, object] = problem.details
    if problem.reason is not None:
        details = {**details, "reason": problem.reason}
    return orjson.dumps(
        {"error": problem.message, "code": problem.code, "request_id": request_id, "details": details, "docs": DOCS}
    )
