"""HTML -> what a reader sees of it: text in lines, links, structured data. Pure, and it never raises.

No tree is built. One pass goes from tag to tag as the HTML standard's tokenizer does, in time linear in the text
whatever that is: each search for a closing sign either finds it, and goes on behind it, or ends the pass, as the
standard has it for what is never closed.

What no visitor sees is no evidence: scripts, styles, comments, templates, and elements hidden by attribute or inline
style are left out. A page that hides text from people and shows it to machines speaks to nobody we sell to.
"""

import codecs
import html
import re
from dataclasses import dataclass, field
from typing import Final

from upstreams.http_api.answers import Unusable, read_json

TEXT_CHARS_MAX: Final = 200_000
"""Of the visible text of one page; the rest is left out."""
LINES_MAX: Final = 10_000
"""Each line is looked through anew, however short it is."""
LINKS_MAX: Final = 500
DATA_MAX: Final = 50
"""Blocks of JSON-LD of one page."""
_ATTRIBUTES_MAX: Final = 64

_TAG = re.compile(r"<(/?)([A-Za-z][^\s/>\x00]*)")
_ATTRIBUTE = re.compile(
    r"""[\s/]*(?P<name>[^\s/>][^\s/>=]*)(?:\s*=\s*(?:"(?P<d>[^"]*)"|'(?P<s>[^']*)'|(?P<u>[^\s>]*)))?"""
)
_TAG_END = re.compile(r"[\s/]*>")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([A-Za-z0-9_-]{1,40})""", re.IGNORECASE)
_HEADER_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_-]{1,40})", re.IGNORECASE)
_HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d]*[1-9])", re.IGNORECASE)
_SPACES = re.compile(r"[\s\u00a0\u200b]+")
_NO_CHARSETS = frozenset(
    {"utf-7", "unicode_escape", "raw_unicode_escape", "unicode-escape", "raw-unicode-escape", "punycode", "idna"}
)
"""Python's own, which no page is written in: some make half characters, that no JSON can hold, one takes for ever."""
_LONG_REFERENCE = re.compile(r"&#(?=[0-9]{8})[0-9]+|&#[xX](?=[0-9A-Fa-f]{8})[0-9A-Fa-f]+")

_RAW = frozenset({"script", "style", "textarea", "title", "noscript", "iframe", "noembed", "noframes", "xmp"})
"""Elements whose content is text up to their own closing tag."""
_UNSEEN = frozenset({"script", "style", "noscript", "iframe", "noembed", "noframes", "textarea"})
_INLINE_WORDS = (
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd mark nobr q s samp small span strike "
    "strong sub sup time tt u var wbr"
)
_INLINE = frozenset(_INLINE_WORDS.split())
_VOID_WORDS = "area base br col embed hr img input link meta source track wbr"
_VOID = frozenset(_VOID_WORDS.split())
_HEADINGS = frozenset({"h1"})


@dataclass(frozen=True, slots=True)
class Link:
    """An `a`, with the visible text inside it."""

    href: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A page as a reader has it. `lines` are blocks of visible text, spaces folded; `data` the JSON-LD, parsed."""

    title: str = ""
    site_name: str = ""
    headings: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    data: tuple[object, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def decode(body: bytes, content_type: str = "") -> str:
    """By the header's charset, else the page's own, else UTF-8; what cannot be decoded becomes a mark."""
    named = _HEADER_CHARSET.search(content_type)
    inside = _CHARSET.search(body[:2048])
    charset = named[1] if named else inside[1].decode("ascii") if inside else "utf-8"
    try:
        if codecs.lookup(charset).name in _NO_CHARSETS:
            charset = "utf-8"
        return body.decode(charset, "replace")
    except (LookupError, UnicodeError):  # unknown, or no text encoding at all
        return body.decode("utf-8", "replace")


def parse(text: str) -> Document:
    """One pass over a page of any content."""
    reader = _Reader(text)
    reader.run()
    return reader.document()


@dataclass(slots=True)
class _Reader:
    text: str
    at: int = 0
    size: int = 0
    title: str = ""
    site_name: str = ""
    headings: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    data: list[object] = field(default_factory=list)
    link: tuple[str, list[str]] | None = None
    heading: list[str] | None = None
    hidden: str = ""
    """The element that hides all within it, and how often its like was opened inside."""
    depth: int = 0

    def run(self) -> None:
        text, size = self.text, len(self.text)
        while self.at < size and self.size < TEXT_CHARS_MAX and len(self.lines) < LINES_MAX:
            start = text.find("<", self.at)
            if start < 0:
                start = size
            if start > self.at:
                self._say(text[self.at : start])
            if start == size:
                break
            self.at = self._markup(start)
        self._end_line()

    def document(self) -> Document:
        return Document(
            self.title, self.site_name, tuple(self.headings), tuple(self.lines), tuple(self.links), tuple(self.data)
        )

    def _markup(self, start: int) -> int:
        """What begins with the `<` at `start` -> where to go on."""
        text = self.text
        tag = _TAG.match(text, start)
        if tag is None:
            if text.startswith("<!--", start):
                return self._behind("-->", start + 2 if text.startswith("<!-->", start) else start + 4)
            if text[start + 1 : start + 2] in ("!", "?", "/"):
                return self._behind(">", start + 2)
            self._say("<")
            return start + 1
        name = tag[2].lower()
        attributes, after = self._attributes(tag.end())
        if after < 0:
            return len(text)  # a tag that never ends
        if tag[1]:
            self._close(name)
            return after
        if name in _RAW:
            return self._raw(name, attributes, after)
        self._open(name, attributes)
        return after

    def _behind(self, sign: str, start: int) -> int:
        end = self.text.find(sign, start)
        return end + len(sign) if end >= 0 else len(self.text)

    def _attributes(self, at: int) -> tuple[dict[str, str], int]:
        """The attributes of a tag and where it ends, -1 if nowhere."""
        found: dict[str, str] = {}
        while True:
            end = _TAG_END.match(self.text, at)
            if end is not None:
                return found, end.end()
            match = _ATTRIBUTE.match(self.text, at)
            if match is None:
                return found, -1
            value = match["d"] or match["s"] or match["u"] or ""
            if len(found) < _ATTRIBUTES_MAX:
                found.setdefault(match["name"].lower(), value)
            at = match.end()

    def _raw(self, name: str, attributes: dict[str, str], start: int) -> int:
        close = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(self.text, start)
        end = close.start() if close else len(self.text)
        if name == "title" and not self.title:
            self.title = _plain(self.text[start : min(end, start + 1000)])
        elif name == "script" and _is_data(attributes) and len(self.data) < DATA_MAX:
            value = _json(self.text[start:end])
            if value is not None:
                self.data.append(value)
        elif name not in _UNSEEN and name != "title":
            self._say(self.text[start:end])
        return self._behind(">", end) if close else end

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        if self.hidden:
            self.depth += name == self.hidden
            return
        if name not in _INLINE:
            self._end_line()
        if name not in _VOID and _is_hidden(name, attributes):
            self.hidden, self.depth = name, 1
        elif name == "a":
            self._end_link()
            self.link = (_unescaped(attributes.get("href", "")).strip(), [])
        elif name in _HEADINGS:
            self.heading = []
        elif name == "meta" and attributes.get("property", "").lower() == "og:site_name" and not self.site_name:
            self.site_name = _plain(attributes.get("content", "")[:1000])

    def _close(self, name: str) -> None:
        if self.hidden:
            self.depth -= name == self.hidden
            if self.depth <= 0:
                self.hidden = ""
            return
        if name not in _INLINE:
            self._end_line()
        if name == "a":
            self._end_link()
        elif name in _HEADINGS and self.heading is not None:
            self.headings.append(_plain("".join(self.heading))[:1000])
            self.heading = None

    def _say(self, text: str) -> None:
        if self.hidden:
            return
        text = _unescaped(text[: TEXT_CHARS_MAX - self.size])
        self.size += len(text)
        self.words.append(text)
        if self.link is not None:
            self.link[1].append(text)
        if self.heading is not None and len(self.headings) < 20:
            self.heading.append(text)

    def _end_line(self) -> None:
        if self.words:
            line = _SPACES.sub(" ", "".join(self.words)).strip()
            self.words.clear()
            if line:
                self.lines.append(line)

    def _end_link(self) -> None:
        if self.link is not None:
            href, words = self.link
            if href and len(self.links) < LINKS_MAX:
                self.links.append(Link(href[:2048], _SPACES.sub(" ", "".join(words)).strip()[:500]))
            self.link = None


def _plain(text: str) -> str:
    return _SPACES.sub(" ", _unescaped(text)).strip()


def _unescaped(text: str) -> str:
    """References to characters undone; one of more digits than any character has is none, and Python raises for it."""
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text))


def _is_data(attributes: dict[str, str]) -> bool:
    return attributes.get("type", "").partition(";")[0].strip().lower() == "application/ld+json"


def _is_hidden(name: str, attributes: dict[str, str]) -> bool:
    if name == "template" or "hidden" in attributes:
        return True
    return bool(_HIDING.search(attributes.get("style", "")[:2000]))


def _json(text: str) -> object | None:
    try:
        value: object = read_json(text.strip().encode("utf-8", "replace"))
    except Unusable:
        return None
    return value
