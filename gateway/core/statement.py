"""The statement: every movement of a party's money, newest first, as its owner reads it.

A line is a transfer that brought money or took some away, with what the party is worth after it:

    balance_usd = own money + bonus, available or held, - what is owed of both

What a hold sets aside is still its owner's, so holds and releases are no lines. Nor is what is repaid: it was taken
when its deposit was withdrawn, and is not taken twice. So the lines sum to the balance, to the micro-dollar, and the
newest line's balance is it; those of own money sum to own money less what is owed of it, those of bonus likewise.

    kind        money        what happened
    credit      own          the operator put it there
    deposit     own          it came, by a transfer on chain or by x402
    match       bonus        came with a deposit
    grant       bonus        was given
    capture     own, bonus   a call was paid
    refund      own, bonus   some of what a call had cost came back
    joined      own          what a wallet has goes on to the agent that it belongs to
    withdrawn   own, bonus   a reorganisation took a deposit back, or its match went with it

What is withdrawn goes whole, however much of it was spent by then: in two lines where a part is owed, and to below
zero where more is owed than there is. No account that can be spent from is ever below zero (gateway/core/transfer.py),
so a party that owes own money and has bonus spends that bonus, whatever the balance is here.

`deposit_id` names the deposit of a deposit, match or withdrawal, so what came and went by one sums to zero.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.core.answer import iso
from gateway.core.money import format_usd
from gateway.core.transfer import Kind

LIMIT_MAX = 200
LIMIT = 50
COLUMNS = ("id", "at", "kind", "money", "charge_id", "operation", "deposit_id", "amount_usd", "balance_usd")

_CURSOR = re.compile(r"before ([1-9][0-9]{0,17})", re.ASCII)
_STEERS = ("=", "+", "-", "@", "\t", "\r", "\n", "|")
_AMOUNT = re.compile(r"-?[0-9]+\.[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Movement:
    """One line. `number` counts a party's movements, from 1 on and without gaps."""

    number: int
    at_ms: int
    kind: Kind
    bonus: bool
    """Whether it moved bonus money; what is paid from both has a line for each."""
    charge_id: str | None
    operation: str | None
    deposit_id: str | None
    amount_micros: int
    """Below zero for what was taken."""
    balance_micros: int
    """Everything the party has after it, less what it owes."""


def line(movement: Movement) -> dict[str, str | None]:
    """By the names of COLUMNS; the id is the party's own."""
    return {
        "id": f"mov_{movement.number}",
        "at": iso(movement.at_ms),
        "kind": movement.kind.value,
        "money": "bonus" if movement.bonus else "own",
        "charge_id": movement.charge_id,
        "operation": movement.operation,
        "deposit_id": movement.deposit_id,
        "amount_usd": format_usd(movement.amount_micros),
        "balance_usd": format_usd(movement.balance_micros),
    }


def csv_head() -> str:
    return _row(COLUMNS)


def csv_lines(movements: Iterable[Movement]) -> Iterator[str]:
    """RFC 4180 rows, with their line ends."""
    for movement in movements:
        yield _row(value or "" for value in line(movement).values())


def _row(values: Iterable[str]) -> str:
    return ",".join(map(_cell, values)) + "\r\n"


def _cell(text: str) -> str:
    """Quoted where it must be, and never a formula to whatever opens the file: a spreadsheet runs a cell that begins
    with one of these. An amount below zero is left a number."""
    if text.startswith(_STEERS) and not _AMOUNT.fullmatch(text):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in '",\r\n') else text


def cursor_before(number: int) -> str:
    """Where a page that ends with this movement goes on."""
    return base64.urlsafe_b64encode(f"before {number}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> int:
    """The number that a page is to stay below. Raises ValueError for what is no cursor of ours."""
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("no cursor") from error
    found = _CURSOR.fullmatch(plain)
    if found is None:
        raise ValueError("no cursor")
    return int(found.group(1))


def read_time(text: str) -> int:
    """ISO 8601, a date or a time, in UTC where it names no zone -> Unix milliseconds. Raises ValueError."""
    if len(text) > 40 or not text.isascii():
        raise ValueError("no time")
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return int(at.timestamp() * 1000)
    except OverflowError as error:
        raise ValueError("no time") from error
