"""robots.txt (RFC 9309): whether a site wants this page to be read by us. Pure.

The group is the one that names us, else that of "*"; within it the longest rule that fits decides, and of two equally
long ones the one that allows. Matching is by steps through the text between the stars, so it takes time linear in the
path whatever the rule is.
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

BYTES_MAX: Final = 500 * 1024
_RULES_MAX: Final = 5_000
_RULE_CHARS_MAX: Final = 2_000

Rules = tuple[tuple[bool, str], ...]
"""(whether it allows, its pattern)."""
ALL: Final[Rules] = ()
NOTHING: Final[Rules] = ((False, "/"),)


def rules(body: bytes, agent: str) -> Rules:
    """The rules for `agent`, a product token in lower case."""
    named: dict[str, list[tuple[bool, str]]] = {}
    agents: set[str] = set()  # of this group those that matter to us, so that no list of names makes work
    in_rules = False
    count = 0
    for key, value in _lines(body):
        if key == "user-agent":
            if in_rules:
                agents, in_rules = set(), False
            name = value.lower().partition("/")[0].strip()
            if name in (agent, "*"):
                agents.add(name)
                named.setdefault(name, [])
        elif key in ("allow", "disallow"):
            in_rules = True
            count += bool(agents)
            if value and count <= _RULES_MAX:
                for each in agents:
                    named[each].append((key == "allow", value[:_RULE_CHARS_MAX]))
    return tuple(named.get(agent, named.get("*", [])))


def _lines(body: bytes) -> Iterator[tuple[str, str]]:
    for line in body[:BYTES_MAX].decode("utf-8-sig", "replace").splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()


def allowed(rules: Rules, url: str) -> bool:
    parts = urlsplit(url)
    path = _canonical(parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    best, length = True, -1
    for allows, pattern in rules:
        pattern = _canonical(pattern)
        if _fits(pattern, path) and (len(pattern) > length or (len(pattern) == length and allows)):
            best, length = allows, len(pattern)
    return best


def _canonical(path: str) -> str:
    """Percent-encoding undone, so that two spellings of one path are one."""
    return unquote(path)


def _fits(pattern: str, path: str) -> bool:
    ends = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    for number, piece in enumerate(rest):
        if ends and number == len(rest) - 1:
            return len(path) - len(piece) >= at and path.endswith(piece)
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return not ends or at == len(path)
