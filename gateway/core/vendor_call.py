"""One question put to a vendor: what came of it and what it took. Kept beside the charge, for `faregate margins`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self


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


ACCOUNT: Final = (ErrorClass.AUTH, ErrorClass.QUOTA)
"""What only the operator can mend."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How we stand with a provider, as this process knows it."""

    trouble: ErrorClass | None = None
    """AUTH or QUOTA, from such an answer until one that is none."""
    rest_s: int = 0
    """Whole seconds for which it is left alone after failures."""
    quota_left: int | None = None
    """Of our account with it, in its own units, as last heard; None: it has not told."""
    quota_limit: int | None = None
    quota_low: bool = False
    """Whether that is so little that somebody should look."""


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

    def as_json(self) -> dict[str, Any]:
        """As a job's journal keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        error = kept["error"]
        return cls(
            **{**kept, "outcome": Outcome(kept["outcome"]), "error": None if error is None else ErrorClass(error)}
        )


def kept(call: VendorCall, charge_id: str, **more: Any) -> dict[str, Any]:
    """A hop of a job as its journal keeps it: what was bought, on which charge, and whatever its reader needs."""
    return {"charge": charge_id, "call": call.as_json(), **more}


def recalled(hop: Mapping[str, Any], charge_id: str) -> VendorCall:
    """What a kept hop counts with for a charge. On another one's books, what it cost stands there already."""
    call = VendorCall.from_json(hop["call"])
    return call if hop["charge"] == charge_id else replace(call, cached=True, cost_micros=0)
