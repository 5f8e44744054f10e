"""Leads as CRMs have them: what is mapped, what is left out, and what cannot be looked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.core import subject
from upstreams.leads import lead as leads
from upstreams.leads.lead import Lead, TooThin, mapped
from upstreams.leads.query import LeadQuery


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"Company": "Sample Windows"}, {"company": "Sample Windows"}),
        ({"account_name": "A Inc", "business_name": "B Inc"}, {"company": "A Inc", "other_names": ("B Inc",)}),
        ({"company": "A Inc", "business_name": "a inc."}, {"company": "A Inc", "other_names": ()}),
        ({"Number1": "(813) 555-0142", "number2": "813 555 0143"}, {"phones": ("+18135550142", "+18135550143")}),
        ({"tel": 8135550142}, {"phones": ("+18135550142",)}),
        ({"tel": 8135550142.0}, {"phones": ("+18135550142",)}),
        ({"mobile": ["8135550142", None, "813-555-0142"]}, {"phones": ("+18135550142",)}),
        ({"E-Mail": "Dana@Example.com"}, {"emails": ("dana@example.com",), "domain": ""}),
        ({"org": "A Inc", "email": "x@a.example"}, {"domain": "a.example"}),
        ({"org": "A Inc", "email": "x@gmail.com"}, {"domain": ""}),
        ({"URL": "https://WWW.A.example/about?x=1"}, {"domain": "a.example"}),
        ({"first_name": "Dana", "LastName": "Sample"}, {"contact": "Dana Sample"}),
        ({"dm_name": "unknown", "company": "A Inc"}, {"contact": ""}),
        ({"street": "5 Example Rd", "st": "florida", "zip": 2134.0},
         {"place": ("5 Example Rd", "", "", "FL", "02134")}),
        ({"address": "5 Example Rd, Tampa, FL 33602"}, {"place": ("5 Example Rd", "", "Tampa", "FL", "33602")}),
        ({"company": "A Inc", "mailing_address": "9 Box St, Erie, PA 16501"},
         {"mailing": ("9 Box St", "", "Erie", "PA", "16501")}),
        ({"company": "A Inc", "CRM ID": 7, "shoe size": 42}, {"external_id": "7", "ignored_keys": ("shoe size",)}),
    ],
)  # fmt: skip
def test_keys_are_read_under_the_names_that_people_give_them(raw: dict, expected: dict) -> None:
    known = mapped(raw, "US")
    for name, value in expected.items():
        found = getattr(known, name)
        assert (tuple(found) if isinstance(value, tuple) else found) == value


@pytest.mark.parametrize(
    ("company", "contact", "kind"),
    [
        ("Dana Sample", "", "person_or_sole_prop"),
        ("Dana Q. Sample", "", "person_or_sole_prop"),
        ("Dana Sample", "Lee Sample", "business"),
        ("Sample Windows", "", "business"),
        ("Sample & Sample", "", "business"),
        ("Sample LLC", "", "business"),
        ("Sample", "", "business"),
        ("One Two Three Four", "", "business"),
        ("", "Dana Sample", "person"),
    ],
)
def test_a_firm_that_is_called_like_a_human_being(company: str, contact: str, kind: str) -> None:
    known = Lead(company=company, contact=contact)
    assert known.kind == kind
    assert known.person == (contact or (company if kind == "person_or_sole_prop" else ""))


@pytest.mark.parametrize(
    "raw",
    [
        {}, {"shoe size": 42}, {"contact_id": "4711"}, {"city": "Tampa", "state": "FL"}, {"company": "  "},
        {"company": "---"}, {"company": None}, {"company": True}, {"dm_name": "Dana"}, {"email": "no email"},
        {"website": "nowhere"}, {"zip": "33602"},
    ],
)  # fmt: skip
def test_a_lead_with_nothing_to_look_for(raw: dict) -> None:
    with pytest.raises(TooThin) as thin:
        mapped(raw, "US")
    assert not thin.value.bad_phone
    with pytest.raises(ValidationError) as refused:
        LeadQuery.model_validate({"lead": raw})
    assert refused.value.errors()[0]["type"] == "LEAD_TOO_THIN"


NESTED = [
    {"company": {"name": "A"}}, {"company": ["a", ["b"]]}, {"company": [{"a": 1}]}, {"x": {"y": 1}},
    {"company": "A Inc", "notes": [1] * 11},
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code"),
    [
        *(({"lead": raw}, "VALIDATION_ERROR") for raw in NESTED),
        ({"lead": {f"key{n}": n for n in range(65)}}, "VALIDATION_ERROR"),
        ({"lead": {"company": "A" * 20_000}}, "VALIDATION_ERROR"),
        ({"lead": {"phone": "12345"}}, "INVALID_PHONE"),
        ({"lead": {"phone": ["none", "0"]}}, "INVALID_PHONE"),
        ({"lead": "A Inc"}, "VALIDATION_ERROR"),
        ({"lead": ["A Inc"]}, "VALIDATION_ERROR"),
        ({"lead": None}, "dict_type"),
        ({}, "missing"),
        *(
            ({"lead": {"company": "A Inc"}, **more}, code)
            for more, code in [
                ({"budget_usd": "1.49"}, "CEILING_BELOW_PRICE"),
                ({"budget_usd": 0.04}, "CEILING_BELOW_PRICE"),
                ({"budget_usd": "20.01"}, "VALIDATION_ERROR"),
                ({"budget_usd": "-1"}, "VALIDATION_ERROR"),
                ({"budget_usd": "a lot"}, "VALIDATION_ERROR"),
                ({"budget_usd": True}, "VALIDATION_ERROR"),
                ({"budget_usd": []}, "VALIDATION_ERROR"),
                ({"budget_usd": float("inf")}, "VALIDATION_ERROR"),
                ({"max_rounds": 0}, "greater_than_equal"),
                ({"max_rounds": 11}, "less_than_equal"),
                ({"mode": "slow"}, "literal_error"),
                ({"planner": "me"}, "literal_error"),
                ({"prompts": ["x" * 1001]}, "VALIDATION_ERROR"),
                ({"prompts": ["x"] * 6}, "too_long"),
                ({"prompts": "x"}, "list_type"),
                ({"chat_session_id": "../../etc"}, "string_pattern_mismatch"),
                ({"prior_backfill": []}, "VALIDATION_ERROR"),
                ({"prior_backfill": {"schema": "other"}}, "VALIDATION_ERROR"),
                ({"prior_backfill": {"entities": 7}}, "VALIDATION_ERROR"),
                ({"prior_backfill": {"phones": [7]}}, "VALIDATION_ERROR"),
                ({"prior_backfill": {"edges": [{}] * 201}}, "VALIDATION_ERROR"),
                ({"colour": "blue"}, "extra_forbidden"),
            ]
        ),
    ],
)
def test_what_cannot_be_asked_is_told_by_its_code(body: dict, code: str) -> None:
    with pytest.raises(ValidationError) as refused:
        LeadQuery.model_validate(body)
    assert refused.value.errors()[0]["type"] == code


def test_a_query_is_the_same_after_a_jobs_queue() -> None:
    """What is stored with a job is read again as what was asked."""
    query = LeadQuery.model_validate(
        {"lead": {"company": "A Inc", "n": [1, None]}, "budget_usd": "2.5", "prompts": ["owner"], "mode": "interactive"}
    )
    again = LeadQuery.model_validate_json(query.model_dump_json(by_alias=True, exclude_unset=True))
    assert (again, again.known, again.budget_micros) == (query, query.known, 2_500_000)


def test_the_subject_is_all_that_is_known_however_it_is_written() -> None:
    def subject(**raw: str) -> bytes:
        return LeadQuery.model_validate({"lead": raw}).session_subject

    begun = subject(company="A Inc", phone="(206) 555-0150")
    assert subject(business_name="a inc", number1="+1 206 555 0150", contact_id="7") == begun
    assert subject(company="B Inc", phone="(206) 555-0150") != begun
    assert subject(company="A Inc", phone="(206) 555-0151") != begun
    assert subject(company="A Inc", phone="(206) 555-0150", contact="Dana Sample") != begun


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.lists(st.text(max_size=9), max_size=3),
)
keys = st.one_of(st.sampled_from(sorted(leads.ALIASES)), st.text(max_size=20))


@given(st.dictionaries(keys, values, max_size=12))
def test_whatever_is_sent_is_a_lead_or_a_clear_refusal(raw: dict) -> None:
    try:
        known = mapped(raw, "US")
    except ValueError:
        return
    assert leads.usable(known)
    assert all(number.startswith("+") for number in known.phones)


TOLD = {
    "contact": "Dana Sample", "first_name": "Dana", "last_name": "Sample", "city": "Tampa", "state": "FL",
    "zip": "33602",
}  # fmt: skip
ABOUT = [alias for alias, field in leads.ALIASES.items() if field in TOLD]


@pytest.mark.parametrize("alias", ABOUT)
def test_under_whatever_key_somebody_is_asked_about_he_is_known_to_be_on_the_list(alias: str) -> None:
    """What is read as a name or a place here is one to the list of those about whom nothing is told, too."""
    field = leads.ALIASES[alias]
    whole = TOLD if field in ("first_name", "last_name") else {**TOLD, "first_name": "", "last_name": ""}
    lead = {alias if each == field else each: value for each, value in whole.items() if value}
    if field in ("first_name", "last_name"):
        del lead["contact"]
    place = {"zip": "z33602"}.get(field, "tampa,fl")
    assert f"name:dana sample|{place}" in subject.asked({"lead": lead})
