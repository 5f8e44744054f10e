"""What an operator may set about web research, as plain values."""

from dataclasses import dataclass
from pathlib import Path

from upstreams.web.llm import Model
from upstreams.web.searching import Engine


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Without an engine the directory's rows of firms answer, and without its file the operation is offline. Prices in
    micro-USD."""

    directory: Path
    engines: tuple[Engine, ...] = ()
    """In the order in which they are asked."""
    model: Model | None = None
    pages: int = 8
    """Found pages that are read at most; of the firm's own site a few more."""
    private_pages: bool = False
    """Whether pages may be on this machine or a private network."""
    price_micros: int = 1_000_000
    ceiling_micros: int = 1_500_000
    markup_percent: int = 130
    expose_costs: bool = False
    """Whether an answer tells what each provider took."""
