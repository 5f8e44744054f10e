"""What every operation that is bought from several providers in turn has in common beside the asking: how long it may
take, what is told of whom was asked, and what it is when nobody could look."""

from collections.abc import Sequence
from typing import Any

from gateway.core.money import format_usd
from gateway.core.upstream import Failure
from gateway.core.vendor_call import ErrorClass, Outcome
from upstreams.provider import AnyProvider, LocalProvider, Tried

TIMEOUT_S = 10.0
TIMEOUT_MAX_S = 60.0
_RETRY_S = 60

TRIED_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "provider": {"type": "string"},
            "outcome": {"enum": ["match", "no_match", "failed"]},
            "error": {"type": "string"},
            "ms": {"type": "integer"},
            "cost_usd": {"type": "string"},
        },
        "required": ["provider", "outcome", "ms"],
    },
}


def timeout_s(providers: Sequence[AnyProvider[Any, Any]]) -> float:
    """As long as all of them may take, one after the other."""
    remote = sum(0.0 if isinstance(one, LocalProvider) else one.terms.timeout_s for one in providers)
    return min(TIMEOUT_S + remote, TIMEOUT_MAX_S) if remote else TIMEOUT_S


def looked(tried: Sequence[Tried[Any]]) -> bool:
    """Whether at least one of them could look: then nothing found is a miss."""
    return any(one.outcome in (Outcome.MATCH, Outcome.NO_MATCH) for one in tried)


def cost_micros(tried: Sequence[Tried[Any]]) -> int:
    return sum(one.call.cost_micros for one in tried)


def nobody_looked(tried: Sequence[Tried[Any]]) -> Failure:
    """Not a miss: whoever was asked could not look. What names a provider is for the operator's eyes."""
    asked = [one for one in tried if one.was_asked]
    rests = [one.retry_after_s for one in tried if one.retry_after_s is not None]
    return Failure(
        "nobody who could know this can be asked just now",
        timeout=bool(asked) and all(one.call.error is ErrorClass.TIMEOUT for one in asked),
        cost_micros=cost_micros(tried),
        retry_after_s=min(rests, default=_RETRY_S),
    )


def told(tried: Sequence[Tried[Any]], local: str, *, show_costs: bool) -> list[dict[str, Any]]:
    """`providers_tried` of an answer's metadata. What the provider `local` takes is no secret: nothing."""
    return [_told(one, show_costs or one.call.provider == local) for one in tried if one.was_asked]


def _told(tried: Tried[Any], show_cost: bool) -> dict[str, Any]:
    call = tried.call
    one: dict[str, Any] = {"provider": call.provider, "outcome": call.outcome.value, "ms": call.ms}
    if call.error is not None:
        one["error"] = call.error.value
    if show_cost:
        one["cost_usd"] = format_usd(call.cost_micros) if call.cost_micros else "0"
    return one
