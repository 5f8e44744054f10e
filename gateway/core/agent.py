"""Agents: who holds a balance, and what a token lets its holder do."""

from dataclasses import dataclass
from enum import StrEnum

UNKNOWN_TOKEN = "this bearer token is not known, or was revoked"
"""What the holder of a token that opens nothing is told, in these words wherever that is found out (F-162)."""


class Status(StrEnum):
    ACTIVE = "active"
    FROZEN = "frozen"


class TokenKind(StrEnum):
    ADMIN = "admin"
    """`411_`: everything the agent may do."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a bearer token turned out to be."""

    agent_id: str
    token_id: str
    kind: TokenKind
    status: Status
    label: str
    created_ms: int
