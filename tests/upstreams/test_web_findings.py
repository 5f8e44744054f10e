"""What is believed of what sources state, and what a page is about."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstreams.directory import firms, places
from upstreams.web import extraction, findings, markup
from upstreams.web.extraction import Page
from upstreams.web.findings import Finding, Kind, Source, Subject, Value

SUBJECT = Subject("Sample Window Care LLC", "Tampa", "FL")
OWN = Source("web", "http://sample-window.example/", "sample-window.example", findings.OWN_SITE)
STRANGER = Source("web", "http://listing.example/x", "listing.example", findings.STRANGER)


def stated(html: str, source: Source = OWN, subject: Subject = SUBJECT) -> dict[str, float]:
    """What a page states: the value as it is written, and how far it is believed."""
    found = extraction.read(subject, Page(source, extraction.spoken(markup.parse(html))))
    values = findings.joined(found, subject)
    return {str(next(iter(value.value.values()))): value.confidence for value in values}


def about(*body: str, title: str = "Sample Window Care") -> str:
    return f"<title>{title}</title>{''.join(f'<p>{text}</p>' for text in body)}"


@pytest.mark.parametrize(
    ("asked", "held", "agreement"),
    [
        ("Sample Window Care LLC", "SAMPLE WINDOW CARE, L.L.C.", 1.0),
        ("Sample Window Care", "Sample Windowcare", 1.0),
        ("Sample Window Care", "Sample Windov Care", 1.0),
        ("The Sample & Co.", "Sample", 1.0),
        ("Sample Window Care", "Sample Window Care Center", 0.9),
        ("Sample Window Care", "Sample Window", 0.9),
        ("Sample Window Care", "Sample Window Repair", 0.0),
        ("Sample Window Care", "Care", 0.0),
        ("Sample Window Care", "Top 10 firms like Sample Window Care", 0.0),
        ("Sample Window Care", "Window Care", 0.9),
        ("Sample", "Sample Plumbing", 0.6),
        ("Sample", "Sample Plumbing and Heating", 0.0),
        ("Sample", "Simple", 0.0),
        ("Sample", "", 0.0),
    ],
)
def test_names_of_one_firm(asked: str, held: str, agreement: float) -> None:
    assert firms.agree(asked, held) == agreement


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_names_make_comparing_raise(a: str, b: str) -> None:
    assert 0.0 <= firms.agree(a, b) <= 1.0
    if firms.words(a):
        assert firms.agree(a, a) == 1.0


@pytest.mark.parametrize(
    ("title", "agreement"),
    [
        ("Sample Window Care", 1.0),
        ("Contact us | Sample Window Care, LLC", 1.0),
        ("Home - Sample Window Care - Tampa, Florida", 1.0),
        ("Sample Window Care Tampa FL", 1.0),
        ("Window cleaners in Tampa: Sample Window Care and more", 0.0),
        ("Why I left Sample Window Care for Placeholt Panes", 0.0),
        ("", 0.0),
    ],
)
def test_what_a_page_is_about(title: str, agreement: float) -> None:
    assert extraction.agreement_of(SUBJECT, markup.parse(f"<title>{title}</title>")) == agreement


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Call (813) 555-0142.", {"+18135550142": 0.6}),
        ("813-555-0142 / 813-555-0143", {"+18135550142": 0.6, "+18135550143": 0.6}),
        ("Tel: 8135550142", {"+18135550142": 0.6}),
        ("Order 8135550142", {}),
        ("Fax (813) 555-0142", {}),
        ("(813) 555-0142 (fax)", {}),
        ("(813) 555-0142, Fax: (813) 555-0143", {"+18135550142": 0.6}),
        ("Since 2024-11-26 we have 1234567 fans, 12.345.678.90", {}),
        ("+44 20 7946 0958", {"+442079460958": 0.6}),
        ("(813) 055-0142", {}),
        ("(512) 555-0160", {}),  # Texas: 0.6 - 0.15
        ("Visit 5 Example Rd, Tampa, FL 33602 today", {"5 Example Rd": 0.6}),
        ("100 Draft Blvd Suite 200, Tampa, Florida 33602-1234", {"100 Draft Blvd": 0.6}),
        ("Open 24 hours, Tampa, FL 33602", {}),
        ("9 Sample St, Austin, TX 78701", {}),
        ("Dana Sample, Owner", {"Dana Sample": 0.525}),
        ("Owner: Dana Q. Sample", {"Dana Q. Sample": 0.525}),
        ("Dana McSample-O'Example – CEO", {"Dana McSample-O'Example": 0.525}),
        ("Meet our president Dana Sample!", {"Dana Sample": 0.525}),
        ("Founded in 1999 by Dana Sample.", {"Dana Sample": 0.525}),
        ("Registered agent: Dana Sample", {"Dana Sample": 0.525}),
        ("Former owner Dana Sample", {}),
        ("Dana Sample, former Owner", {}),
        ("Not the owner Dana Sample", {}),
        ("Great work! Dana Sample, Owner of Placeholt Panes", {}),  # a customer's
        ("Dana Sample, CEO at Mockup", {}),
        ("Dana Sample, Owner, Placeholt Panes.", {}),
        ("The owner Dana Sample of Placeholt Panes", {}),
        ("Dana Sample, Owner of Sample Window Care since 1999", {"Dana Sample": 0.525}),
        ("Dana Sample, Owner at Tampa", {"Dana Sample": 0.525}),
        ("Dana Sample, Vice President of Sales", {"Dana Sample": 0.525}),
        ("President: Dana Sample, Owner: Lee Quuxford", {"Dana Sample": 0.525, "Lee Quuxford": 0.525}),
        ("Property Manager Wanted, Owner", {}),
        ("Contact Us, Manager", {}),
        ("Sample Window, Owner", {}),
        ("A division of Example Holdings, Inc.", {"Example Holdings, Inc": 0.525}),
        ("mailto:a@b.example", {}),
    ],
)
def test_what_a_line_of_the_own_site_states(line: str, found: dict[str, float]) -> None:
    assert stated(about(line)) == found


def test_a_name_over_a_title() -> None:
    assert stated(about("Dana Sample", "Owner")) == {"Dana Sample": 0.525}
    assert stated(about("Dana Sample", "is here", "Owner")) == {}


def test_a_stranger_is_believed_when_another_says_the_same() -> None:
    page = about("(813) 555-0142", "Dana Sample, Owner")
    assert stated(page, STRANGER) == {}
    other = Source("web", "http://towns.example/", "towns.example", findings.STRANGER)
    same = Source("web", "http://www.listing.example/y", "listing.example", findings.STRANGER)
    document = markup.parse(page)
    one, two, three = (extraction.read(SUBJECT, Page(source, document)) for source in (STRANGER, other, same))
    assert [v.value["number"] for v in findings.joined([*one, *two], SUBJECT) if v.kind is Kind.PHONE] == [
        "+18135550142"
    ]
    assert findings.joined([*one, *three], SUBJECT) == ()


def test_a_source_in_another_state_states_nothing() -> None:
    assert stated(about("(813) 555-0142", "9 Sample St, Austin, TX 78701")) == {}
    both = about("(813) 555-0142", "9 Sample St, Austin, TX 78701", "5 Example Rd, Tampa, FL 33602")
    assert stated(both) == {}  # which of the branches is meant cannot be told: 0.6 of 0.6
    assert stated(both, subject=Subject("Sample Window Care")) != {}


def test_a_source_in_another_town_is_doubted() -> None:
    assert stated(about("(813) 555-0142", "5 Example Rd, Miami, FL 33101")) == {}


def test_a_name_of_one_word_needs_its_town() -> None:
    one = Subject("Sample", "Tampa", "FL")
    assert stated(about("(813) 555-0142", title="Sample Plumbing"), subject=one) == {}
    page = about("(813) 555-0142", "5 Example Rd, Tampa, FL 33602", title="Sample Plumbing")
    assert stated(page, subject=one) == {"+18135550142": 0.54, "5 Example Rd": 0.54}


@pytest.mark.parametrize(
    ("host", "domain", "own"),
    [
        ("www.sample-window.example", "", True),
        ("samplewindowcare.example", "", True),
        ("sample-window.example", "other.example", False),
        ("shop.other.example", "other.example", True),
        ("another.example", "other.example", False),
        ("listing.example", "", False),
        ("127.0.0.1", "", False),
        ("", "", False),
    ],
)
def test_whose_site_it_is(host: str, domain: str, own: bool) -> None:
    assert extraction.is_own_site(Subject("Sample Window Care", domain=domain), host) is own


def test_families() -> None:
    hosts = ["a.example.com", "B.example.com.", "example.com", "127.0.0.1", "localhost"]
    assert [extraction.registrable(host) for host in hosts] == ["example.com"] * 3 + ["127.0.0.1", "localhost"]


# Joining


SOURCES = st.builds(
    Source,
    st.just("web"),
    st.sampled_from(["http://a.example/1", "http://a.example/2", "http://b.example/", "http://c.example/"]),
    st.sampled_from(["a.example", "b.example", "c.example"]),
    st.sampled_from([0.75, 0.5]),
)
FINDINGS = st.lists(
    st.builds(
        Finding,
        st.just(Kind.PERSON),
        st.sampled_from(["dana sample", "lee sample"]),
        st.fixed_dictionaries({"name": st.just("Dana Sample"), "title": st.sampled_from([None, "Owner"])}),
        st.just("a quote"),
        SOURCES,
        st.sampled_from([0.3, 0.45, 0.525, 0.75, 0.98]),
    ),
    max_size=8,
)  # fmt: skip


def told(values: tuple[Value, ...]) -> list[tuple[object, ...]]:
    return [(v.kind, dict(v.value), v.confidence, sorted(s.source.url for s in v.stated)) for v in values]


@given(FINDINGS, st.randoms())
def test_joining_is_the_same_in_any_order_and_twice(found: list[Finding], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = findings.joined(found, SUBJECT)
    assert told(one) == told(findings.joined(shuffled, SUBJECT))
    assert told(one) == told(findings.joined([*found, *found], SUBJECT))
    for value in one:
        assert value.stated
        assert findings.CONFIDENCE_MIN <= value.confidence <= findings.CONFIDENCE_MAX


def test_an_email_alone_is_no_match() -> None:
    page = '<title>Sample Window Care</title><a href="mailto:a@sample-window.example">Mail</a>'
    values = findings.joined(extraction.read(SUBJECT, Page(OWN, markup.parse(page))), SUBJECT)
    assert [value.kind for value in values] == [Kind.EMAIL]
    assert not findings.is_match(values)


def test_places_of_a_source() -> None:
    here, there = places.Address("5 Example Rd", "", "Tampa", "FL"), places.Address("9 St", "", "Austin", "TX")
    assert findings.about_place(SUBJECT, []) == 1.0
    assert findings.about_place(SUBJECT, [here]) == 1.0
    assert findings.about_place(SUBJECT, [here, there]) == findings.ELSEWHERE
    assert findings.about_place(SUBJECT, [there]) == 0.0
    assert findings.about_place(Subject("x"), [there]) == 1.0
