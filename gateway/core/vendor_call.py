"""One question put to a vendor: what came of it and what it took. Kept beside the charge, for `faregate margins`."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    MATCH = "match"
    NO_MATCH = "no_match"
    FAILED = "failed"
    """Could not be asked to the end; `error` says why."""
    SKIPPED = "skipped"
    """Not asked: it has no answer to such a question, or there is a reason in `error` not to ask just now."""


class ErrorClass(StrEnum):
    AUTH = "auth"
    """It does not take our key."""
    QUOTA = "quota"
    """Our account with it is empty."""
    RATE = "rate"
    """Too many questions just now, by its count or by ours."""
    TRANSIENT = "transient"
    """It is down, or cannot be reached."""
    TIMEOUT = "timeout"
    """No answer in time, or no time left to ask."""
    SHAPE = "shape"
    """An answer that cannot be read, or may not be used."""
    REFUSED = "refused"
    """It calls our question wrong: our fault."""
    RESTING = "resting"
    """Left alone after failures."""
    BUDGET = "budget"
    """It could take more than is left for the call."""
    LOST = "lost"
    """Asked before, by a worker that died with the answer; possibly paid, and not to be asked twice."""


@dataclass(frozen=True, slots=True)
class VendorCall:
    hop: str
    """Which step of the work it was, unique within one charge but for a provider's own name."""
    provider: str
    outcome: Outcome
    error: ErrorClass | None = None
    cost_micros: int = 0
    """What the vendor took, or may have taken where that cannot be known."""
    cached: bool = False
    """Answered from what an earlier charge has paid for."""
    ms: int = 0
    at_ms: int = 0
    """Unix milliseconds."""
