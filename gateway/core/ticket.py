"""Support tickets: what a customer writes to the operator, and how it goes on.

    open ── answered ──▶ answered ──▶ closed        answered as often as the operator likes; closed is the end
      └───────────────────────────────▲

A ticket is one call of the operation `support/tickets`, charged like any other; its id is made from its charge's. A
confirmed bug earns a bonus once, by the operator's word and never by what a ticket says.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from gateway.core import ids

OPERATION = "support/tickets"
PATH = "/api/v1/support/tickets"
SUBJECT_MAX = 140
BODY_MAX = 8000

_TOKEN = re.compile(r"[0-9a-z]{1,13}_[0-9A-Za-z]{49}", re.ASCII)
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They make a text read otherwise than it is written."""


class Category(StrEnum):
    BUG = "bug"
    BILLING = "billing"
    ACCOUNT = "account"
    OTHER = "other"


class State(StrEnum):
    OPEN = "open"
    ANSWERED = "answered"
    CLOSED = "closed"


class TicketRequest(BaseModel):
    """What is written."""

    model_config = ConfigDict(extra="forbid")

    category: Category = Field(description="what it is about")
    subject: str = Field(min_length=1, max_length=SUBJECT_MAX, description="in one line")
    body: str = Field(min_length=1, max_length=BODY_MAX, description="plain text; no tokens, keys or passwords")

    @field_validator("subject")
    @classmethod
    def _subject(cls, text: str) -> str:
        return require_text(text)

    @field_validator("body")
    @classmethod
    def _body(cls, text: str) -> str:
        return require_text(text.replace("\r\n", "\n"), keep="\n\t")


def require_text(text: str, keep: str = "") -> str:
    """The text, without space around it. Raises ValueError where it is empty, has characters that steer what shows it,
    or carries a token of ours: whoever reads tickets must not get hold of one."""
    text = text.strip()
    if not text:
        raise ValueError("it says nothing")
    if any((_steers(char) and char not in keep) for char in text):
        raise ValueError("it has control characters")
    if any(ids.is_token(found, found.partition("_")[0] + "_") for found in _TOKEN.findall(text)):
        raise ValueError("it has a token in it: that one is to be taken for known by others; revoke it")
    return text


def _steers(char: str) -> bool:
    return char in _BIDI or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True, slots=True)
class Answer:
    """Of the operator."""

    body: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Ticket:
    id: str
    charge_id: str
    party: str
    """Who has paid for it: an agent, or a wallet in lower case."""
    agent_id: str | None
    category: Category
    subject: str
    body: str
    created_ms: int
    changed_ms: int
    state: State = State.OPEN
    credit_id: str | None = None
    """What a confirmed bug has earned."""
    key_id: str | None = None
    """The usage key that it was filed with."""
    answers: tuple[Answer, ...] = ()
    """Oldest first."""

    @property
    def may_earn(self) -> bool:
        return may_earn(self.category, of_agent=self.agent_id is not None)


def id_of(charge_id: str) -> str:
    """`chg_...` -> `tkt_...`: one ticket a charge."""
    return f"tkt_{charge_id.rpartition('_')[2]}"


def credit_id_of(ticket_id: str) -> str:
    """What its bug's credit is called: once, whoever confirms it."""
    return f"crd_{ticket_id}"


def may_earn(category: Category, *, of_agent: bool) -> bool:
    """Only an agent has an account to earn on."""
    return category is Category.BUG and of_agent


def bug_credit(told: Ticket, amount_usd: str) -> dict[str, object]:
    """{eligible, amount_usd, state: pending_operator | earned | not_confirmed | none}. `amount_usd` is what it would
    earn today; what it has earned stands on the statement."""
    if told.credit_id is None:
        return open_credit(told.may_earn, amount_usd, closed=told.state is State.CLOSED)
    return {"eligible": told.may_earn, "amount_usd": amount_usd if told.may_earn else "0.000", "state": "earned"}


def open_credit(eligible: bool, amount_usd: str, *, closed: bool = False) -> dict[str, object]:
    """The same of one that has earned nothing, as when it is filed."""
    state = "none" if not eligible else "not_confirmed" if closed else "pending_operator"
    return {"eligible": eligible, "amount_usd": amount_usd if eligible else "0.000", "state": state}
