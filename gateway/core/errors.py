"""Every error a client can see: one tree, one table.

    Problem                 the client is told: a code, a sentence, details, headers
    SettingsError           the operator is told: every mistake of the configuration in one report
    IllegalMove             our own mistake: a state machine was asked for a move it does not have
    Conflict                a compare-and-set found another state than expected: somebody else was first

The table gives each code its HTTP status, its JSON-RPC code for MCP and the exit status of the command line.
Anything that is none of these is INTERNAL: a constant text for the client, the trace for the operator.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class Code(StrEnum):
    BAD_JSON = "BAD_JSON"
    BAD_REQUEST = "BAD_REQUEST"
    PAYMENT_MALFORMED = "PAYMENT_MALFORMED"
    PAYMENT_IDENTIFIER_REQUIRED = "PAYMENT_IDENTIFIER_REQUIRED"
    IDEMPOTENCY_KEY_INVALID = "IDEMPOTENCY_KEY_INVALID"
    INVALID_TOKEN = "INVALID_TOKEN"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    AGENT_TOKEN_REQUIRED = "AGENT_TOKEN_REQUIRED"
    PAYMENT_REQUIRED = "PAYMENT_REQUIRED"
    PAYMENT_INVALID = "PAYMENT_INVALID"
    PAYMENT_EXPIRED = "PAYMENT_EXPIRED"
    SETTLEMENT_FAILED = "SETTLEMENT_FAILED"
    ALLOWANCE_EXCEEDED = "ALLOWANCE_EXCEEDED"
    ANONYMOUS_REFUSED = "ANONYMOUS_REFUSED"
    SENDER_NOT_LINKED = "SENDER_NOT_LINKED"
    SCOPE_DENIED = "SCOPE_DENIED"
    ADMIN_TOKEN_REQUIRED = "ADMIN_TOKEN_REQUIRED"
    KEY_CAP_EXCEEDED = "KEY_CAP_EXCEEDED"
    AGENT_FROZEN = "AGENT_FROZEN"
    WALLET_BALANCE_TOO_LOW = "WALLET_BALANCE_TOO_LOW"
    RECOVERY_ANSWER_WRONG = "RECOVERY_ANSWER_WRONG"
    RECOVERY_LOCKED = "RECOVERY_LOCKED"
    SUPPRESSED_SUBJECT = "SUPPRESSED_SUBJECT"
    NOT_FOUND = "NOT_FOUND"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    TRANSACTION_NOT_FOUND = "TRANSACTION_NOT_FOUND"
    RECOVERY_NOT_ELIGIBLE = "RECOVERY_NOT_ELIGIBLE"
    RECOVERY_NOT_FOUND = "RECOVERY_NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    PAYMENT_ALREADY_USED = "PAYMENT_ALREADY_USED"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    IDEMPOTENCY_IN_FLIGHT = "IDEMPOTENCY_IN_FLIGHT"
    JOB_ENDED = "JOB_ENDED"
    SESSION_CONFLICT = "SESSION_CONFLICT"
    BALANCE_TOO_LOW = "BALANCE_TOO_LOW"
    CONFIRMATIONS_PENDING = "CONFIRMATIONS_PENDING"
    DEPOSIT_IS_X402_SETTLEMENT = "DEPOSIT_IS_X402_SETTLEMENT"
    DEPOSIT_CREDITED_ELSEWHERE = "DEPOSIT_CREDITED_ELSEWHERE"
    NONCE_USED = "NONCE_USED"
    WALLET_TAKEN = "WALLET_TAKEN"
    RECOVERY_USED = "RECOVERY_USED"
    RESULT_EXPIRED = "RESULT_EXPIRED"
    RESULT_ERASED = "RESULT_ERASED"
    JOB_EXPIRED = "JOB_EXPIRED"
    NONCE_EXPIRED = "NONCE_EXPIRED"
    RECOVERY_EXPIRED = "RECOVERY_EXPIRED"
    PERMIT2_ALLOWANCE_REQUIRED = "PERMIT2_ALLOWANCE_REQUIRED"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    INVALID_PHONE = "INVALID_PHONE"
    MISSING_QUERY = "MISSING_QUERY"
    CURSOR_INVALID = "CURSOR_INVALID"
    LEAD_TOO_THIN = "LEAD_TOO_THIN"
    CEILING_BELOW_PRICE = "CEILING_BELOW_PRICE"
    JOB_ROUTE_UNSUPPORTED = "JOB_ROUTE_UNSUPPORTED"
    CALLBACK_URL_REFUSED = "CALLBACK_URL_REFUSED"
    CHAIN_NOT_ACCEPTED = "CHAIN_NOT_ACCEPTED"
    TRANSACTION_FAILED = "TRANSACTION_FAILED"
    NO_DEPOSIT_IN_TRANSACTION = "NO_DEPOSIT_IN_TRANSACTION"
    DEPOSIT_BELOW_MINIMUM = "DEPOSIT_BELOW_MINIMUM"
    RECOVERY_TRANSFER_WRONG = "RECOVERY_TRANSFER_WRONG"
    RATE_LIMITED = "RATE_LIMITED"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    INTERNAL = "INTERNAL"
    UPSTREAM_ERROR = "UPSTREAM_ERROR"
    UPSTREAM_TIMEOUT = "UPSTREAM_TIMEOUT"
    ROUTE_OFFLINE = "ROUTE_OFFLINE"
    SETTLEMENT_UNAVAILABLE = "SETTLEMENT_UNAVAILABLE"
    BALANCE_CHECK_UNAVAILABLE = "BALANCE_CHECK_UNAVAILABLE"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    OVERLOADED = "OVERLOADED"


class Row(NamedTuple):
    status: int
    """HTTP status."""
    mcp: int
    """JSON-RPC error code."""
    exit: int
    """Exit status of the command line."""


_CLIENT, _MONEY, _STATE, _OURS = 2, 3, 4, 5

TABLE: Mapping[Code, Row] = MappingProxyType(
    {
        Code.BAD_JSON: Row(400, -32700, _CLIENT),
        Code.BAD_REQUEST: Row(400, -32600, _CLIENT),
        Code.PAYMENT_MALFORMED: Row(400, -32602, _CLIENT),
        Code.PAYMENT_IDENTIFIER_REQUIRED: Row(400, -32602, _CLIENT),
        Code.IDEMPOTENCY_KEY_INVALID: Row(400, -32602, _CLIENT),
        Code.INVALID_TOKEN: Row(401, -32001, _CLIENT),
        Code.SIGNATURE_INVALID: Row(401, -32001, _CLIENT),
        Code.AGENT_TOKEN_REQUIRED: Row(402, 402, _MONEY),
        Code.PAYMENT_REQUIRED: Row(402, 402, _MONEY),
        Code.PAYMENT_INVALID: Row(402, 402, _MONEY),
        Code.PAYMENT_EXPIRED: Row(402, 402, _MONEY),
        Code.SETTLEMENT_FAILED: Row(402, 402, _MONEY),
        Code.ALLOWANCE_EXCEEDED: Row(402, 402, _MONEY),
        Code.ANONYMOUS_REFUSED: Row(403, -32003, _CLIENT),
        Code.SENDER_NOT_LINKED: Row(403, -32003, _CLIENT),
        Code.SCOPE_DENIED: Row(403, -32003, _CLIENT),
        Code.ADMIN_TOKEN_REQUIRED: Row(403, -32003, _CLIENT),
        Code.KEY_CAP_EXCEEDED: Row(403, -32003, _MONEY),
        Code.AGENT_FROZEN: Row(403, -32003, _CLIENT),
        Code.WALLET_BALANCE_TOO_LOW: Row(403, -32003, _CLIENT),
        Code.RECOVERY_ANSWER_WRONG: Row(403, -32003, _CLIENT),
        Code.RECOVERY_LOCKED: Row(403, -32003, _STATE),
        Code.SUPPRESSED_SUBJECT: Row(403, -32003, _CLIENT),
        Code.NOT_FOUND: Row(404, -32601, _CLIENT),
        Code.JOB_NOT_FOUND: Row(404, -32601, _CLIENT),
        Code.SESSION_NOT_FOUND: Row(404, -32601, _CLIENT),
        Code.TRANSACTION_NOT_FOUND: Row(404, -32601, _CLIENT),
        Code.RECOVERY_NOT_ELIGIBLE: Row(404, -32601, _CLIENT),
        Code.RECOVERY_NOT_FOUND: Row(404, -32601, _CLIENT),
        Code.METHOD_NOT_ALLOWED: Row(405, -32601, _CLIENT),
        Code.REQUEST_TIMEOUT: Row(408, -32000, _CLIENT),
        Code.PAYMENT_ALREADY_USED: Row(409, -32009, _STATE),
        Code.IDEMPOTENCY_CONFLICT: Row(409, -32009, _STATE),
        Code.IDEMPOTENCY_IN_FLIGHT: Row(409, -32009, _STATE),
        Code.JOB_ENDED: Row(409, -32009, _STATE),
        Code.SESSION_CONFLICT: Row(409, -32009, _STATE),
        Code.BALANCE_TOO_LOW: Row(409, -32009, _MONEY),
        Code.CONFIRMATIONS_PENDING: Row(409, -32009, _STATE),
        Code.DEPOSIT_IS_X402_SETTLEMENT: Row(409, -32009, _STATE),
        Code.DEPOSIT_CREDITED_ELSEWHERE: Row(409, -32009, _STATE),
        Code.NONCE_USED: Row(409, -32009, _STATE),
        Code.WALLET_TAKEN: Row(409, -32009, _STATE),
        Code.RECOVERY_USED: Row(409, -32009, _STATE),
        Code.RESULT_EXPIRED: Row(410, -32010, _STATE),
        Code.RESULT_ERASED: Row(410, -32010, _STATE),
        Code.JOB_EXPIRED: Row(410, -32010, _STATE),
        Code.NONCE_EXPIRED: Row(410, -32010, _STATE),
        Code.RECOVERY_EXPIRED: Row(410, -32010, _STATE),
        Code.PERMIT2_ALLOWANCE_REQUIRED: Row(412, 402, _MONEY),
        Code.BODY_TOO_LARGE: Row(413, -32600, _CLIENT),
        Code.UNSUPPORTED_MEDIA_TYPE: Row(415, -32600, _CLIENT),
        Code.VALIDATION_ERROR: Row(422, -32602, _CLIENT),
        Code.INVALID_PHONE: Row(422, -32602, _CLIENT),
        Code.MISSING_QUERY: Row(422, -32602, _CLIENT),
        Code.CURSOR_INVALID: Row(422, -32602, _CLIENT),
        Code.LEAD_TOO_THIN: Row(422, -32602, _CLIENT),
        Code.CEILING_BELOW_PRICE: Row(422, -32602, _CLIENT),
        Code.JOB_ROUTE_UNSUPPORTED: Row(422, -32602, _CLIENT),
        Code.CALLBACK_URL_REFUSED: Row(422, -32602, _CLIENT),
        Code.CHAIN_NOT_ACCEPTED: Row(422, -32602, _CLIENT),
        Code.TRANSACTION_FAILED: Row(422, -32602, _CLIENT),
        Code.NO_DEPOSIT_IN_TRANSACTION: Row(422, -32602, _CLIENT),
        Code.DEPOSIT_BELOW_MINIMUM: Row(422, -32602, _CLIENT),
        Code.RECOVERY_TRANSFER_WRONG: Row(422, -32602, _CLIENT),
        Code.RATE_LIMITED: Row(429, -32029, _STATE),
        Code.HEADERS_TOO_LARGE: Row(431, -32600, _CLIENT),
        Code.INTERNAL: Row(500, -32603, _OURS),
        Code.UPSTREAM_ERROR: Row(502, -32002, _OURS),
        Code.ROUTE_OFFLINE: Row(503, -32004, _OURS),
        Code.SETTLEMENT_UNAVAILABLE: Row(503, -32004, _OURS),
        Code.BALANCE_CHECK_UNAVAILABLE: Row(503, -32004, _OURS),
        Code.STORE_UNAVAILABLE: Row(503, -32004, _OURS),
        Code.OVERLOADED: Row(503, -32004, _OURS),
        Code.UPSTREAM_TIMEOUT: Row(504, -32002, _OURS),
    }
)


class Problem(Exception):
    """What a client did wrong or cannot have, told in the one envelope. `message` never holds a secret or a person."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        reason: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.reason = reason
        """An x402 reason string, where the standard has one."""
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        return TABLE[self.code].status


class SettingsError(Exception):
    """The configuration has mistakes; `mistakes` lists all of them, one sentence each, with its mend."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class IllegalMove(Exception):
    """A state machine has no such move. Nothing was written."""


class Conflict(Exception):
    """A compare-and-set found another state. Nothing was written; read again and decide anew."""
