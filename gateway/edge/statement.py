"""GET /api/v1/agents/statement: every movement of an agent's balance, newest first, as JSON in pages or as CSV.

CSV without `limit` or `cursor` is all that was asked for, sent as it is read: however long it is, no more than one part
of it is in memory. History never changes and movements are numbered, so the parts fit each other.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gateway.core import statement
from gateway.core.agent import BALANCE
from gateway.core.errors import Code, Problem
from gateway.core.money import format_usd
from gateway.core.statement import LIMIT, LIMIT_MAX, Movement
from gateway.edge.private import PRIVATE, private
from gateway.edge.tokens import Tokens
from gateway.store import agents, statements
from gateway.store.agents import Balance
from gateway.store.database import Database, Tx

PART = 1000
"""Lines of a CSV that are read at a time."""
_KNOWN = frozenset({"limit", "cursor", "from", "to", "format"})


class Asked(NamedTuple):
    csv: bool
    limit: int | None
    before: int | None
    from_ms: int | None
    to_ms: int | None


@dataclass(frozen=True, slots=True)
class Statement:
    db: Database
    tokens: Tokens

    def routes(self) -> list[Route]:
        return [Route("/api/v1/agents/statement", self.statement, methods=["GET"])]

    async def statement(self, request: Request) -> Response:
        principal = await self.tokens.someone(request)
        principal.require(BALANCE)
        asked = read(request)
        if asked.csv and asked.limit is None and asked.before is None:
            return _csv(self._parts(request, principal.agent_id, asked))
        limit = asked.limit or LIMIT
        lines, balance = await self.db.read(_page, principal.agent_id, limit, asked)
        following = statement.cursor_before(lines[limit - 1].number) if len(lines) > limit else None
        lines = lines[:limit]
        if asked.csv:
            return _csv(_once("".join((statement.csv_head(), *statement.csv_lines(lines)))), following)
        told = {
            "agent_id": principal.agent_id,
            "currency": "USD",
            "virtual_balance_usd": format_usd(total(balance)),
            "held_usd": format_usd(balance.held + balance.bonus_held),
            "debt_usd": format_usd(balance.debt),
            "movements": [statement.line(movement) for movement in lines],
            "next_cursor": following,
        }
        return private(told, headers=_VARY)

    async def _parts(self, request: Request, agent_id: str, asked: Asked) -> AsyncIterator[str]:
        yield statement.csv_head()
        if request.method == "HEAD":
            return
        before = None
        while True:
            part = await self.db.read(
                statements.page, agent_id, PART, before=before, from_ms=asked.from_ms, to_ms=asked.to_ms
            )
            if part:
                yield "".join(statement.csv_lines(part))
                before = part[-1].number
            if len(part) < PART:
                return


_VARY = {"Vary": "Accept"}


def total(balance: Balance) -> int:
    """Everything that a party has. Less its debt, it is what its newest movement says."""
    return balance.available + balance.held + balance.bonus + balance.bonus_held


def _page(tx: Tx, agent_id: str, limit: int, asked: Asked) -> tuple[list[Movement], Balance]:
    """A page and one line of the next, with the balance of the same moment."""
    lines = statements.page(tx, agent_id, limit + 1, before=asked.before, from_ms=asked.from_ms, to_ms=asked.to_ms)
    return lines, agents.balance(tx, agent_id)


def read(request: Request) -> Asked:
    """The query string. Raises Problem VALIDATION_ERROR."""
    query = request.query_params
    if query.keys() - _KNOWN or len(query.multi_items()) != len(query):
        raise Problem(Code.VALIDATION_ERROR, f"a statement takes {', '.join(sorted(_KNOWN))}, each once")
    return Asked(
        csv=_wants_csv(request),
        limit=limit_of(request),
        before=cursor_of(request),
        from_ms=_time(request, "from"),
        to_ms=_time(request, "to"),
    )


def _wants_csv(request: Request) -> bool:
    wanted = request.query_params.get("format")
    if wanted is None:
        accepted = request.headers.get("accept", "").lower()
        return "text/csv" in accepted and "json" not in accepted
    if wanted not in ("json", "csv"):
        raise Problem(Code.VALIDATION_ERROR, "`format` is json or csv")
    return wanted == "csv"


def limit_of(request: Request) -> int | None:
    """How many lines of a list are wanted. Raises Problem VALIDATION_ERROR."""
    text = request.query_params.get("limit")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= LIMIT_MAX):
        raise Problem(Code.VALIDATION_ERROR, f"`limit` is a whole number from 1 to {LIMIT_MAX}")
    return int(text)


def cursor_of(request: Request) -> int | None:
    text = request.query_params.get("cursor")
    try:
        return None if text is None else statement.read_cursor(text)
    except ValueError:
        raise Problem(Code.VALIDATION_ERROR, "`cursor` is the next_cursor of a page, as it stands there") from None


def _time(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    try:
        return None if text is None else statement.read_time(text)
    except ValueError:
        raise Problem(
            Code.VALIDATION_ERROR, f"`{name}` is a date or a time, as 2026-11-23 or 2026-11-23T12:00:00Z"
        ) from None


async def _once(text: str) -> AsyncIterator[str]:
    yield text


def _csv(parts: AsyncIterator[str], following: str | None = None) -> Response:
    headers = {**PRIVATE, **_VARY, "Content-Disposition": 'attachment; filename="statement.csv"'}
    if following is not None:
        headers["X-Next-Cursor"] = following
    return StreamingResponse(parts, media_type="text/csv", headers=headers)
