"""What an operator may set about web research, as plain values."""

from dataclasses import dataclass
from pathlib import Path

from upstreams.web.llm import Reader


@dataclass(frozen=True, slots=True)
class WebSettings:
    """`directory` is the directory's file, whose rows of firms answer too. Prices in micro-USD."""

    directory: Path
    model: Reader | None = None
    pages: int = 8
    """Found pages that are read at most; of the firm's own site a few more."""
    private_pages: bool = False
    """Whether pages may be on this machine or a private network."""
    page_timeout_s: float = 5.0
    """For one page with its redirects."""
    price_micros: int = 1_000_000
    ceiling_micros: int = 1_500_000
    markup_percent: int = 130
    show_costs: bool = False
    """Whether an answer tells what each provider took."""
