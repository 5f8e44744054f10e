"""What a visitor sees of a page; and that no bytes at all make reading it raise, or take long."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upstreams.web import extraction, findings, markup
from upstreams.web.extraction import Page
from upstreams.web.findings import Source, Subject
from upstreams.web.markup import Link

SUBJECT = Subject("Sample Window Care", "Tampa", "FL")
SOURCE = Source("web", "http://sample-window.example/", "sample-window.example", findings.OWN_SITE)


def lines(html: str) -> tuple[str, ...]:
    return markup.parse(html).lines


@pytest.mark.parametrize(
    ("html", "seen"),
    [
        ("<p>one<p>two", ("one", "two")),
        ("a<b>b</b><i>c</i> d", ("abc d",)),
        ("one<br>two<br/>three", ("one", "two", "three")),
        ("<p>a &amp; b&nbsp;&#99; &copy</p>", ("a & b c \u00a9",)),
        ("<!-- hidden --><p>seen</p><!-- never closed <p>no</p>", ("seen",)),
        ("<!--><p>seen", ("seen",)),
        ("<script>if (a < b) x()</script>seen<style>p{}</style>", ("seen",)),
        ("<SCRIPT>no</Script >seen", ("seen",)),
        ("<script>never closed", ()),
        ("<textarea>no</textarea><noscript>no</noscript><iframe>no</iframe>yes", ("yes",)),
        ("<p hidden>no</p>yes", ("yes",)),
        ('<div style="DISPLAY : none"><div>no</div>no</div>yes', ("yes",)),
        ("<div style='visibility:hidden'>no</div>yes", ("yes",)),
        ("<span style='font-size:0px'>no</span>yes", ("yes",)),
        ("<span style='font-size:0.9em'>small</span>", ("small",)),
        ("<template><p>no</p></template>yes", ("yes",)),
        ("a < b and c <3", ("a < b and c <3",)),
        ('<p title="a > b">yes</p>', ("yes",)),
        ("<p title='it's>yes", ("yes",)),
        ("<a href=x", ()),
        ("<!doctype html><?xml version='1.0'?></nothing>yes", ("yes",)),
        ("\x00<p>\ud800yes", ("\x00", "\ud800yes")),
        ("<p>a&#" + "1" * 5_000 + ";b&#x" + "f" * 5_000 + ";&#x0041;", ("a\ufffd;b\ufffd;A",)),
    ],
)
def test_what_is_seen(html: str, seen: tuple[str, ...]) -> None:
    assert lines(html) == seen


def test_links_titles_and_data() -> None:
    document = markup.parse(
        "<title> A &amp; B\n</title><meta property='og:site_name' content='Site'><h1>Head <b>ing</b></h1>"
        "<a href=\"/x?a=1&amp;b=2\">go <b>there</b></a><a href='tel:+1 813'>call</a><a>no</a>"
        '<script type="application/LD+json; charset=utf-8">{"a": [1]}</script>'
        '<script type="application/ld+json">{"broken</script><script type="application/ld+json">NaN</script>'
    )
    assert (document.title, document.site_name, document.headings) == (
        "A & B",
        "Site",
        ("Heading",)[:0] or ("Head ing",),
    )
    assert document.links == (Link("/x?a=1&b=2", "go there"), Link("tel:+1 813", "call"))
    assert document.data == ({"a": [1]},)


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("Café".encode(), "", "Café"),
        ("Café".encode("latin-1"), "text/html; charset=ISO-8859-1", "Café"),
        (b'<meta charset="windows-1252">\x93', "", '<meta charset="windows-1252">\u201c'),
        (b"\xff", "", "\ufffd"),
        (b"a", "text/html; charset=no-such", "a"),
        (b"a", "text/html; charset=hex", "a"),
        (b"a", "text/html; charset=zlib", "a"),
        (b"a", "text/html; charset=idna", "a"),
        (rb"\ud800", "text/html; charset=unicode_escape", r"\ud800"),
        (rb"\ud800", "text/html; charset=raw-unicode-escape", r"\ud800"),
        (b"+2AA-", "text/html; charset=UTF7", "+2AA-"),
        (
            b"a" * 500_000 + b"-" + b"bcda" * 100_000,
            "text/html; charset=punycode",
            "a" * 500_000 + "-" + "bcda" * 100_000,
        ),
    ],
)
def test_bytes_become_text(body: bytes, content_type: str, text: str) -> None:
    assert markup.decode(body, content_type) == text


PIECES = st.sampled_from(
    ["<", ">", "</", "/>", "<!--", "-->", "<a href=", '"', "'", "=", "<script", "</script>", "<p hidden>", "<title>",
     "&", ";",
     "&#x110000;", "&#xd800;", "\x00", "\ud800", "\u202e", " ", "\n", "(813) 555-0142", "5 Example Rd, Tampa, FL 33602",
     "Dana Sample, Owner", "Sample Window Care", "tel:+1", "mailto:a@b.co", '<script type="application/ld+json">',
     '{"@type":"Plumber","name":"Sample Window Care","telephone":', "[[[[", "1" * 30, "9" * 400, "+" * 20, "Mc" * 50]
)  # fmt: skip


@given(
    st.one_of(
        st.binary(max_size=2_000),
        st.lists(PIECES, max_size=60).map("".join).map(lambda text: text.encode("utf-8", "surrogatepass")),
    ),
    st.sampled_from(["", "text/html; charset=utf-16", "x; charset=\x00"]),
)
@example(
    b'<title>Sample Window Care</title><script type="application/ld+json">{"@type":"x","name":"Sample Window Care",'
    b'"telephone":"+999999999999999999999","address":"9 , , FL 33602","founder":{"name":"\\ud800 B"}}</script>',
    "",
)
def test_no_bytes_make_reading_raise(body: bytes, content_type: str) -> None:
    """And what is found has a quote that the page shows."""
    document = extraction.spoken(markup.parse(markup.decode(body, content_type)))
    found = extraction.read(SUBJECT, Page(SOURCE, document))
    for value in findings.joined(found, SUBJECT):
        assert 0.5 <= value.confidence <= 0.98
        assert all(each.quote for each in value.stated)


MANY = 1024 * 1024
ENDLESS = {
    "comments": "<!--", "tags": "<a ", "attributes": "<a a ", "double quotes": '<a b="', "single quotes": "<a b='",
    "scripts": "<script>", "titles": "<title>", "divs": "<div>", "hidden": "<p hidden>", "signs": "&",
    "equals": "<a =",
    "phones": "206 555 ", "ones": "1 ", "states": "FL 33602 ", "houses": "12 Example Ave, ", "names": "Dana Sample ",
    "titles of people": "Owner, ", "divisions": "division of Aa Bb ",
    "brackets": '<script type="application/ld+json">[',
    "robots": "ignore ", "spaces": " ",
}  # fmt: skip


FIRM = '{"@type":"x","name":["Sample Window Care","y"],"address":["5 Example Rd Tampa FL 33602"],"x":0},'


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("between", ["", "<p>"], ids=["in one line", "in many"])
def test_a_page_of_a_megabyte_is_read_in_linear_work(name: str, between: str) -> None:
    """Not timed: work that grows with the square of a megabyte would not end within the life of a test run."""
    piece = ENDLESS[name] + between
    head = "<title>Sample Window Care</title>"
    document = extraction.spoken(markup.parse(head + piece * ((MANY - len(head)) // len(piece))))
    assert sum(map(len, document.lines)) <= markup.TEXT_CHARS_MAX
    assert len(document.lines) <= markup.LINES_MAX + 1
    extraction.read(SUBJECT, Page(SOURCE, document))


@pytest.mark.parametrize(("before", "found"), [(10, ["12 Example Ave"]), (1_000, [])])
def test_few_pieces_of_a_page_are_parsed_as_addresses(before: int, found: list[str]) -> None:
    """A parse takes 0.2 ms, and a page could ask for a hundred thousand of them."""
    document = markup.parse("<p>12 Avenue, FL 33602" * before + "<p>12 Example Ave, Tampa, FL 33602")
    assert [spot.address.line1 for spot in extraction.addresses_in(document)] == found


@pytest.mark.parametrize(("before", "found"), [(10, {"+18135550142"}), (1_000, set())])
def test_few_firms_of_a_page_are_read(before: int, found: set[str]) -> None:
    last = '{"@type":"x","name":"Sample Window Care","telephone":"813-555-0142"}'
    document = markup.parse(f'<script type="application/ld+json">[{FIRM * before}{last}]</script>')
    stated = extraction.read(SUBJECT, Page(SOURCE, document))
    assert {each.key for each in stated if each.kind is findings.Kind.PHONE} == found
