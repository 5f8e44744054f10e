"""What each page of the town states about each firm, as a careful reader says: the truth that answers are held against.

    precision, recall = measured(told)        told: firm -> the claims of its answer

A claim is (page, kind, value, more): `more` is the title of a person, the role of an associate, the ZIP of an address.
A page that states nothing of a firm has no label for it, whatever it says of others, in hidden text, of the past, or
to machines.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rigs.town import PAGES

Claim = tuple[str, str, str, str]

SAMPLE, PLUMBING, BAKERY, DENTAL = "Sample Window Care", "Placeholt Plumbing", "Fiction Bakery", "Mockup Dental Group"
LAW, FLORIST, ROOFING = "Prototype Law", "Trialby Florist", "Stubbins Roofing"

LABELS: dict[str, dict[str, set[tuple[str, str, str]]]] = {
    "sample-window.example/": {
        SAMPLE: {("phone", "+18135550142", ""), ("address", "5 Example Rd", "33602")},
    },
    "sample-window.example/contact": {
        SAMPLE: {("address", "5 Example Rd", "33602"), ("phone", "+18135550143", ""),
                 ("email", "office@sample-window.example", "")},
    },
    "sample-window.example/team": {
        SAMPLE: {("person", "Dana Sample", "Owner"), ("person", "Jo Mockley", "Head of Operations")},
    },
    "sample-window.example/prices": {},
    "listing.example/sample-window-care": {
        SAMPLE: {("phone", "+18135550142", ""), ("address", "5 Example Rd", "33602")},
    },
    "listing.example/tampa": {SAMPLE: {("phone", "+18135550150", "")}},
    "sample-window-tx.example/": {},
    "sample-windows-more.example/": {},
    "placeholtplumbing.example/": {
        PLUMBING: {("phone", "+14025550110", ""), ("address", "21 Mockup Ave", "68102")},
    },
    "placeholtplumbing.example/staff": {PLUMBING: {("person", "Carla Placeholt", "President")}},
    "placeholtplumbing.example/about": {PLUMBING: {("person", "Hugo Placeholt", "Founder")}},
    "news.example/plumbing": {},
    "listing.example/fiction-bakery": {BAKERY: {("phone", "+13035550120", "")}},
    "towns.example/denver/fiction-bakery": {BAKERY: {("phone", "+13035550120", ""), ("phone", "+13035550121", "")}},
    "listing.example/mockup-dental": {DENTAL: {("phone", "+12085550130", "")}},
    "blog.example/teeth": {DENTAL: {("phone", "+12085550131", "")}},
    "prototypelaw.example/": {
        LAW: {("associate", "Lee Quuxford", "registered agent"), ("associate", "Nora Quuxford", "managing member"),
              ("person", "Nora Quuxford", "Managing member"),
              ("associate", "Prototypa Holdings, Inc", "parent organization"),
              ("person", "Walter Lorem", "Partner"), ("address", "100 Specimen Blvd", "53703")},
    },
    "registry.example/prototype-law": {LAW: {("associate", "Lee Quuxford", "registered agent")}},
    "trialbyflorist.example/": {},
    "trialbyflorist.example/about": {},
    "stubbinsroofing.example/": {ROOFING: {("phone", "+16145550170", ""), ("person", "Kurt Stubbins", "Founder")}},
    "stubbinsroofing.example/broken": {},
    "slow.example/": {},
    "moved.example/": {},
    "inside.example/": {},
    "far.example/": {},
    "loop.example/": {},
    "paper.example/": {},
    "large.example/": {},
    "gone.example/": {},
}  # fmt: skip
assert set(LABELS) == set(PAGES)


def claims(data: Mapping[str, Any], page_of: Any) -> set[Claim]:
    """Of an answer's `data`: each value with each page that it is said to stand in. `page_of`: a url -> the page."""
    kinds = (
        ("phones", "phone", "number", None),
        ("people", "person", "name", "title"),
        ("addresses", "address", "line1", "zip"),
        ("legal_associates", "associate", "name", "role"),
        ("emails", "email", "email", None),
    )
    return {
        (page_of(source["url"]), kind, each[value], each[more] or "" if more else "")
        for name, kind, value, more in kinds
        for each in data[name]
        for source in each["sources"]
    }


def measured(told: Mapping[str, Iterable[Claim]]) -> tuple[float, float, list[tuple[str, Claim]]]:
    """(precision, recall, what is wrong): precision of all claims; recall of the values that some page states."""
    everything = [(firm, claim) for firm, found in told.items() for claim in found]
    wrong = [(firm, claim) for firm, claim in everything if claim[1:] not in LABELS[claim[0]].get(firm, ())]
    stated = {(firm, *label[:2]) for page in LABELS.values() for firm, labels in page.items() for label in labels}
    found = {(firm, *claim[1:3]) for firm, claim in everything if (firm, claim) not in wrong}
    precision = 1 - len(wrong) / len(everything) if everything else 1.0
    return precision, len(found & stated) / len(stated), wrong
