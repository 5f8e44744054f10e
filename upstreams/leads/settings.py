"""What an operator may set about lead sessions, as plain values. Amounts in micro-USD."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeadSettings:
    price_micros: int = 1_500_000
    """The base: the least that a session with a match costs."""
    markup_percent: int = 130
    ceiling_micros: int = 20_000_000
    """The most that one call may cost."""
    usual_micros: int = 2_000_000
    """The budget of a call that names none."""
    default_region: str = "US"
    show_costs: bool = False
    """Whether customers see what the vendors took."""
    planner: str = "auto"
    """auto: by the LLM where there is one. rules: never by it."""
