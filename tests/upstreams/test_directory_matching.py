"""F-020: whether a caller pays is a table: a question, a row of the directory, and what must come of it a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstreams.directory import matching, names, places
from upstreams.directory.matching import Found, NotFound, Query, Row, Verdict
from upstreams.directory.names import NOBODY, Name
from upstreams.directory.settings import Rules

RULES = Rules()
PHONE = "+12065550100"


def row(
    name: str = "Dana Q Sample",
    *,
    record: int = 2,
    phones: tuple[str, ...] = (PHONE,),
    old: tuple[str, ...] = (),
    emails: tuple[str, ...] = ("dana@example.com",),
    street: str = "12 Example Ave",
    unit: str = "",
    place: str = "Seattle WA 98101",
    business: bool = False,
) -> Row:
    city, state, zip = place.rsplit(" ", 2) if place else ("", "", "")
    return Row(
        source="people.csv",
        record=record,
        loaded_ms=0,
        name=name,
        parts=NOBODY if business or not name.strip() else names.split(name),
        business=business,
        employer="",
        title="",
        line1=street,
        line2=unit,
        city=city,
        state=state,
        zip=zip,
        street_key=places.street_key(street) if street else "",
        phones=tuple([(number, True) for number in phones] + [(number, False) for number in old]),
        emails=emails,
    )


def ask(text: str) -> Query:
    """ "name=Dana Sample city=Seattle" -> Query: a word with "=" begins a field, the next words belong to it."""
    fields: dict[str, str] = {}
    key = ""
    for word in text.split():
        head, sign, tail = word.partition("=")
        key, value = (head, tail) if sign else (key, word)
        fields[key] = f"{fields.get(key, '')} {value}".strip()
    name = names.split(fields.pop("name")) if "name" in fields else NOBODY
    return Query(name=name, **fields)


def verdict(text: str, *rows: Row) -> Verdict:
    return matching.judge(ask(text), rows, RULES)


DANA = row()
GOLDEN = [
    # question                                            row                              score or None, matched by
    ("phone=+12065550100", DANA, 0.95, "phone"),
    ("phone=+12065550100", row(phones=(), old=(PHONE,)), 0.80, "phone"),
    ("phone=+12065550100", row("Example Ltd", business=True), 0.95, "phone"),
    ("phone=+12065550100 name=Dana Sample", DANA, 0.95, "phone name"),
    ("phone=+12065550100 name=D Sample", DANA, 0.95, "phone name"),
    ("phone=+12065550100 name=Lee Other", DANA, 0.55, "phone"),
    ("phone=+12065550100 name=Lee Other", row("Example Ltd", business=True), 0.55, "phone"),
    # A row that only echoes the number is no answer, whatever else it holds.
    ("phone=+12065550100", row(""), None, ""),
    ("phone=+12065550100", row("", emails=(), street="", place=""), None, ""),
    ("phone=+12065550100", row("   "), None, ""),
    ("phone=+12065550100", row(phones=("+12065550101",)), None, ""),
    ("email=dana@example.com", DANA, 0.90, "email"),
    ("email=dana@example.com name=Dana Sample", DANA, 0.90, "email name"),
    ("email=dana@example.com name=Lee Other", DANA, 0.55, "email"),
    ("email=dana@example.com", row(""), None, ""),
    ("email=lee@example.com", DANA, None, ""),
    # A name with a place: first name, last name and place each bring their doubt.
    ("name=Dana Sample zip=98101", DANA, 1.0, "name zip"),
    ("name=Dana Sample city=Seattle", DANA, 0.95, "name city"),
    ("name=Dana Sample city=Seattle state=WA", DANA, 0.95, "name city state"),
    ("name=DANA SAMPLE city=SEATTLE state=WA", DANA, 0.95, "name city state"),
    ("name=Dana Q Sample city=Seattle state=WA", DANA, 0.95, "name city state"),
    ("name=Dana Quinn Sample city=Seattle state=WA", DANA, 0.95, "name city state"),
    ("name=D Sample city=Seattle state=WA", DANA, 0.76, "name city state"),
    ("name=D Sample zip=98101", DANA, 0.80, "name zip"),
    ("name=Joe Sample city=Seattle state=WA", row("Joseph Sample"), 0.902, "name city state"),
    ("name=Joseph Sample city=Seattle state=WA", row("Joe Sample"), 0.902, "name city state"),
    ("name=Dana Sampel city=Seattle state=WA", DANA, 0.918, "name city state"),
    ("name=Dana Sample city=Seatle state=WA", DANA, 0.923, "name city state"),
    ("name=Dana Sample street=12 Example Avenue", DANA, 1.0, "name street"),
    ("name=Dana Sample street=99 Other Rd city=Seattle", DANA, 0.855, "name city"),
    ("name=Dana Sample city=Tacoma zip=98101", DANA, 0.95, "name zip"),
    ("name=Dana Sample zip=98199 city=Seattle", DANA, 0.95, "name city"),
    ("name=Dana K Sample city=Seattle state=WA", DANA, None, ""),
    ("name=Dana K Sample zip=98101", DANA, None, ""),
    ("name=Dana Sample Jr zip=98101", row("Dana Sample Sr"), None, ""),
    ("name=D Sampel city=Seatle state=WA", DANA, None, ""),
    ("name=Robert Sample city=Seattle", DANA, None, ""),
    ("name=Dana Testerman city=Seattle", DANA, None, ""),
    ("name=Dana Sample city=Spokane state=WA", DANA, None, ""),
    ("name=Dana Sample city=Seattle state=OR", DANA, None, ""),
    ("name=Dana Sample zip=98102", DANA, None, ""),
    ("name=Dana Sample city=Seattle", row(place=""), None, ""),
    ("name=Dana Sample city=Seattle", row("Sample Ltd", business=True), None, ""),
    ("name=Dana Sample city=Seattle", row(""), None, ""),
    # A name alone, or with a state alone, must be one person.
    ("name=Dana Sample", DANA, 1.0, "name"),
    ("name=Joe Sample", row("Joseph Sample"), 0.95, "name"),
    ("name=Dana Sample state=WA", DANA, 1.0, "name state"),
    ("name=Dana Sample state=OR", DANA, None, ""),
    ("name=Dana Sample state=WA", row(place=""), None, ""),
    ("name=D Sample", DANA, None, ""),
    ("name=Dana K Sample", DANA, None, ""),
    # A street needs its town, and the unit must not be another one.
    ("street=12 Example Avenue zip=98101", DANA, 0.90, "street zip"),
    ("street=12 Example Ave city=Seattle state=WA", DANA, 0.90, "street city"),
    ("street=12 Example Ave #4 zip=98101", DANA, 0.90, "street zip"),
    ("street=12 Example Ave #4 zip=98101", row(unit="Apt 4"), 0.90, "street zip"),
    ("street=12 Example Ave zip=98101", row("Example Ltd", business=True), 0.90, "street zip"),
    ("street=12 Example Ave #4 zip=98101", row(unit="5"), None, ""),
    ("street=12 Example Ave zip=98199", DANA, None, ""),
    ("street=12 Example Ave city=Seattle state=OR", DANA, None, ""),
    ("street=12 Example Ave zip=98101", row(""), None, ""),
    ("street=14 Example Ave zip=98101", DANA, None, ""),
]


@pytest.mark.parametrize(("question", "held", "score", "by"), GOLDEN)
def test_f020_match_or_no_match(question: str, held: Row, score: float | None, by: str) -> None:
    found = verdict(question, held)
    if score is None:
        assert found == NotFound()
    else:
        assert isinstance(found, Found)
        ((hit,),) = found.people
        assert (hit.score, " ".join(hit.by)) == (score, by)


@pytest.mark.parametrize(
    ("question", "mode", "rule"),
    [
        ("phone=+12065550100 name=Dana Sample zip=98101", "reverse_phone", "reverse_phone"),
        ("email=a@example.com name=Dana Sample", "email", "email"),
        ("name=Dana Sample", "name", "name"),
        ("name=Dana Sample state=WA", "name_address", "name"),
        ("name=Dana Sample city=Seattle", "name_address", "name_address"),
        ("street=12 Example Ave zip=98101", "reverse_address", "reverse_address"),
    ],
)
def test_the_mode_follows_from_what_is_known(question: str, mode: str, rule: str) -> None:
    query = ask(question)
    assert (query.mode, query.rule) == (mode, rule)


MISSED = [
    # question, whose number nobody has                           what is left of it, or None
    ("phone=+12065550199", None),
    ("phone=+12065550199 name=Dana Sample", None),
    ("phone=+12065550199 name=Dana Sample state=WA", None),
    ("phone=+12065550199 name=Dana Sample city=Seattle state=WA", None),
    ("phone=+12065550199 zip=98101", None),
    ("phone=+12065550199 city=Seattle", None),
    ("phone=+12065550199 name=Dana Sample zip=98101", "name_address"),
    ("phone=+12065550199 name=Dana Sample street=12 Example Ave", "name_address"),
    ("phone=+12065550199 street=12 Example Ave zip=98101", "reverse_address"),
    ("phone=+12065550199 email=dana@example.com", "email"),
    ("email=lee@example.com name=Dana Sample zip=98101", "name_address"),
    ("email=lee@example.com name=Dana Sample city=Seattle", None),
    ("name=Dana Sample zip=98101", None),
]


@pytest.mark.parametrize(("question", "rule"), MISSED)
def test_f020_what_is_left_of_a_question_whose_number_nobody_has(question: str, rule: str | None) -> None:
    rest = ask(question).without_contact
    assert (rest and rest.rule) == rule
    assert rest is None or not rest.phone


def missed(text: str, *rows: Row) -> Verdict:
    rest = ask(f"phone=+12065550199 {text}").without_contact
    assert rest is not None
    return matching.judge(rest, rows, RULES)


def test_f020_somebody_of_that_name_with_another_number_is_not_billed_for_a_city() -> None:
    assert isinstance(missed("name=Dana Sample zip=98101", DANA), Found)
    assert isinstance(missed("name=Dana Sample street=12 Example Ave city=Seattle", DANA), Found)
    assert missed("name=Dana Sample street=99 Other Rd city=Seattle", DANA) == NotFound()
    assert missed("name=Dana Sample zip=98199 city=Seattle", DANA) == NotFound()


def test_f020_two_whom_only_the_number_could_tell_apart_are_nobody() -> None:
    other = row(record=3, phones=("+12065550101",), emails=(), street="14 Example Ave")
    assert isinstance(verdict("name=Dana Sample zip=98101", DANA, other), Found)
    assert missed("name=Dana Sample zip=98101", DANA, other) == NotFound("ambiguous")
    assert isinstance(missed("street=12 Example Ave zip=98101", DANA, row("Lee Sample", record=3)), Found)


def test_two_people_for_a_name_alone_are_nobody_to_charge_for() -> None:
    other = row(record=3, phones=("+13035550100",), emails=(), street="9 Sample Rd", place="Denver CO 80202")
    assert verdict("name=Dana Sample", DANA, other) == NotFound("ambiguous")
    assert isinstance(verdict("name=Dana Sample state=CO", DANA, other), Found)
    assert isinstance(verdict("name=Dana Sample city=Denver", DANA, other), Found)


def test_rows_of_one_person_are_one_person() -> None:
    same_phone = row("Dana Sample", record=3, emails=(), street="", place="")
    same_email = row("D Q Sample", record=4, phones=(), street="", place="")
    same_address = row("Dana Sample", record=5, phones=(), emails=(), street="12 EXAMPLE AVENUE")
    found = verdict("name=Dana Sample", DANA, same_phone, same_email, same_address)
    assert isinstance(found, Found)
    assert [[hit.row.record for hit in person] for person in found.people] == [[2, 3, 5]]


def test_relatives_on_one_number_are_people_of_their_own() -> None:
    rows = [row(), row("Lee Sample", record=3), row("Dana K Sample", record=4), row("Ada Other", record=5)]
    found = verdict("phone=+12065550100", *rows)
    assert isinstance(found, Found)
    assert [person[0].row.name for person in found.people] == [held.name for held in rows]


def test_the_one_who_was_asked_for_comes_first_and_former_holders_last() -> None:
    former = row("Ada Other", record=2, phones=(), old=(PHONE,), emails=(), street="")
    asked = row("Lee Sample", record=9, emails=(), street="")
    found = verdict("phone=+12065550100 name=Lee Sample", former, row(record=3), asked)
    assert isinstance(found, Found)
    assert [person[0].row.record for person in found.people] == [9, 2, 3]


def _strangers(count: int) -> list[Row]:
    return [
        row(record=n, phones=(f"+1206555{n:04d}",), emails=(), street=f"{n} Example Ave", place="Seattle WA 98101")
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("question", ["name=Dana Sample", "name=Dana Sample zip=98101"])
def test_nobody_pays_for_a_page_of_the_phone_book(question: str) -> None:
    assert verdict(question, *_strangers(RULES.people_max + 1)) == NotFound("too_common")
    assert verdict(question, *_strangers(400)) == NotFound("too_common")


def test_up_to_the_limit_people_of_one_place_are_an_answer() -> None:
    found = verdict("name=Dana Sample zip=98101", *_strangers(RULES.people_max))
    assert isinstance(found, Found)
    assert len(found.people) == RULES.people_max


def test_a_street_without_a_town_finds_nobody_and_says_what_is_missing() -> None:
    assert verdict("street=12 Example Ave", DANA) == NotFound("place_missing")
    assert verdict("street=12 Example Ave state=WA", DANA) == NotFound("place_missing")


def test_an_operator_may_be_stricter() -> None:
    strict = Rules(contact_min=0.6, name_address_min=0.9)
    assert matching.judge(ask("phone=+12065550100 name=Lee Other"), [DANA], strict) == NotFound()
    assert matching.judge(ask("name=D Sample zip=98101"), [DANA], strict) == NotFound()
    assert isinstance(matching.judge(ask("phone=+12065550100"), [DANA], strict), Found)


ROWS = st.builds(
    row,
    st.sampled_from(["Dana Sample", "D Sample", "Dana Q Sample", "Lee Sample", "Dana Sampel", "", "Joe Sample"]),
    record=st.integers(1, 50),
    phones=st.sampled_from([(PHONE,), ("+12065550101",), ()]),
    emails=st.sampled_from([(), ("dana@example.com",)]),
    street=st.sampled_from(["12 Example Ave", "14 Example Ave", ""]),
    place=st.sampled_from(["Seattle WA 98101", "Spokane WA 99201", ""]),
)
QUESTIONS = st.sampled_from(
    ["phone=+12065550100", "name=Dana Sample", "name=Dana Sample city=Seattle", "street=12 Example Ave zip=98101"]
)


@given(QUESTIONS, st.lists(ROWS, max_size=8, unique_by=lambda held: held.record), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_means_nothing(question: str, rows: list[Row], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert verdict(question, *rows) == verdict(question, *shuffled)


@given(QUESTIONS, st.lists(ROWS, max_size=8))
def test_whoever_is_found_has_a_name_and_a_score_that_suffices(question: str, rows: list[Row]) -> None:
    found = verdict(question, *rows)
    if isinstance(found, Found):
        least = matching.threshold(ask(question).rule, RULES)
        hits = [hit for person in found.people for hit in person]
        assert hits
        assert all(hit.row.name.strip() and least <= hit.score <= 1 and hit.by for hit in hits)
        assert [person[0].score for person in found.people] == sorted((p[0].score for p in found.people), reverse=True)


def test_a_middle_name_unknown_to_the_directory_is_no_contradiction() -> None:
    assert isinstance(verdict("name=Dana K Sample zip=98101", row("Dana Sample")), Found)
    assert Name("Dana", "", "Sample").full == "Dana Sample"
