"""How sure a value is: what each source is worth, and how several voices count together. Pure.

A statement is worth weight(source) x score. Sources of one family (one vendor, one web site, the caller) count once, by
the best of them; independent families combine as 1 - product(1 - c), capped, since nothing is ever certain. What the
caller said counts as 0.5 however sure he is, and contradictions take 0.15.
"""

from collections.abc import Iterable

from upstreams.leads.graph import CALLER, Graph, Source, Statement

WEIGHTS = {
    "registry": 0.90,
    "directory": 0.85,
    "vendor": 0.80,
    "own_site": 0.75,
    "web": 0.50,
}
OF_CALLER = 0.50
CAP = 0.98
CONTRADICTED = 0.15
USABLE = 0.50
"""What is less sure is shown, and is nothing to charge for."""
GOOD = 0.60


def of_statement(statement: Statement, source: Source) -> float:
    if source.family == CALLER:
        return OF_CALLER
    return WEIGHTS.get(source.kind, WEIGHTS["web"]) * statement.score


def combined(graph: Graph, statements: Iterable[Statement], *, contradicted: bool = False) -> float:
    """0 to 0.98, in thousandths."""
    best: dict[str, float] = {}
    for statement in statements:
        source = graph.of(statement)
        best[source.family] = max(best.get(source.family, 0.0), of_statement(statement, source))
    doubt = 1.0
    for family in sorted(best):  # one order, so that the last bit is the same whatever order they came in
        doubt *= 1.0 - best[family]
    return round(max(0.0, min(CAP, 1.0 - doubt) - (CONTRADICTED if contradicted else 0.0)), 3)


def families(graph: Graph, statements: Iterable[Statement]) -> frozenset[str]:
    return frozenset(graph.of(statement).family for statement in statements)


def status(graph: Graph, statements: Iterable[Statement], *, conflicting: bool = False) -> str:
    """input_only, single_source, corroborated or conflicting."""
    if conflicting:
        return "conflicting"
    voices = families(graph, statements)
    if voices <= {CALLER}:
        return "input_only"
    return "corroborated" if len(voices) > 1 else "single_source"
