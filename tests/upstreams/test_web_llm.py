"""A model's reading: how it is asked, and what of its answers is believed."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstreams.model import TokenPrices, server
from upstreams.provider import ErrorClass, Outcome, ProviderTerms
from upstreams.web import findings, llm
from upstreams.web.findings import Kind, Source, Subject
from upstreams.web.llm import Claim, Excerpt, Reader, Reading

KEY = "a-key-that-no-log-may-have"
PRICES = TokenPrices(500_000, 1_500_000)
TERMS = ProviderTerms(llm.most_micros(PRICES, 2_000), bill_misses=True)
PAGES = (
    "Sample Window Care\nDana Sample\nOwner\nLee Placeholt, Manager. Jo Mockley is our Head of Crews.",
    "Registered agent: Nora Quuxford\nParent company: Example Holdings Inc\nFormer owner Max Fictner\n"
    "Ada Testerman and Kurt Mockley, Foreman",
)
SUBJECT = Subject("Sample Window Care", "Tampa", "FL")


def source(number: int) -> Source:
    return Source("web", f"http://p{number}.example/", f"p{number}.example", findings.OWN_SITE)


READING = Reading(SUBJECT, tuple(Excerpt(source(n), text) for n, text in enumerate(PAGES, 1)), "Who owns it?")


def model(api: str) -> Reader:
    return Reader(server(api, TERMS, PRICES, name="a-model", url="https://llm.example/v1", key=KEY))


def entry(name: str, title: str, number: Any, quote: str) -> dict[str, Any]:
    return {"name": name, "title": title, "source": number, "quote": quote}


GOOD = {"people": [entry("Dana Sample", "Owner", 1, "Dana Sample\nOwner")], "legal_associates": []}


def openai(content: Any, **more: Any) -> bytes:
    usage = {"prompt_tokens": 1_000, "completion_tokens": 100}
    return orjson.dumps({"choices": [{"message": {"role": "assistant", "content": content}}], "usage": usage, **more})


def anthropic(*blocks: Any, **more: Any) -> bytes:
    return orjson.dumps({"content": list(blocks), "usage": {"input_tokens": 1_000, "output_tokens": 100}, **more})


# Asking


def test_pages_are_data_in_one_json_value() -> None:
    for api in ("openai", "anthropic"):
        request = model(api).asks(READING)
        assert request is not None
        assert KEY not in repr(request)
        assert KEY not in repr(model(api))
        assert request.body is not None
        asked = orjson.loads(request.body)
        system = asked["system"] if api == "anthropic" else asked["messages"][0]["content"]
        assert not any(text in system for text in PAGES)
        shown = orjson.loads(asked["messages"][-1]["content"])
        assert [page["text"] for page in shown["pages"]] == list(PAGES)
        assert [page["source"] for page in shown["pages"]] == [1, 2]
        assert shown["asked"] == "Who owns it?"
        assert asked["temperature"] == 0


def test_a_model_has_no_tools_but_the_one_that_takes_its_answer() -> None:
    asked = orjson.loads(model("openai").asks(READING).body or b"")  # type: ignore[union-attr]
    assert "tools" not in asked
    asked = orjson.loads(model("anthropic").asks(READING).body or b"")  # type: ignore[union-attr]
    assert [tool["name"] for tool in asked["tools"]] == ["emit"]
    assert asked["tool_choice"] == {"type": "tool", "name": "emit"}


def test_excerpts_are_cut_between_lines_and_all_of_them_to_a_whole() -> None:
    line = "x" * 99 + "\n"
    cut = llm.excerpts([Excerpt(source(n), line * 200) for n in range(1, 10)])
    assert all(len(each.text) <= llm.EXCERPT_CHARS_MAX and each.text.endswith("x") for each in cut)
    assert sum(len(each.text) for each in cut) <= llm.EXCERPTS_CHARS_MAX
    assert len(cut) == 5
    request = model("openai").asks(Reading(SUBJECT, cut, "y" * 4_000, form=1))
    assert request is not None
    assert len(request.body or b"") < (llm.EXCERPTS_CHARS_MAX + 15_000)


# Reading


@pytest.mark.parametrize(
    "content",
    [
        orjson.dumps(GOOD).decode(),
        f"Here you are:\n```json\n{orjson.dumps(GOOD).decode()}\n```\nAnything else?",
        f"```json\n{orjson.dumps(GOOD).decode()}",
        f"{orjson.dumps(GOOD).decode()}\n```",
        f"Not {{this}}:\n```\n{orjson.dumps(GOOD).decode()}\n```\nbut {{that}}",
        [{"type": "text", "text": orjson.dumps(GOOD).decode()}],
    ],
)
def test_an_answer_of_an_openai_server(content: Any) -> None:
    reply = model("openai").read(READING, 200, {}, openai(content))
    assert reply.outcome is Outcome.MATCH
    assert reply.found == (Claim(False, "Dana Sample", "Owner", 1, "Dana Sample\nOwner"),)
    assert reply.cost_micros == PRICES.cost_micros(1_000, 100) == 650


def test_an_answer_full_of_fences_is_read_in_linear_work() -> None:
    assert model("openai").read(READING, 200, {}, openai("```{" * 100_000)).error is ErrorClass.SHAPE


def test_an_answer_of_anthropic() -> None:
    blocks = [
        {"type": "text", "text": orjson.dumps({"people": [entry("Eve Text", "Owner", 1, "x")]}).decode()},
        {"type": "tool_use", "id": "1", "name": "pay", "input": {"people": [entry("Eve Tool", "Owner", 1, "x")]}},
        {"type": "tool_use", "id": "2", "name": "emit", "input": GOOD},
    ]  # fmt: skip
    reply = model("anthropic").read(READING, 200, {}, anthropic(*blocks))
    assert [claim.name for claim in reply.found or ()] == ["Dana Sample"]
    assert reply.cost_micros == 650
    assert model("anthropic").read(READING, 200, {}, anthropic(*blocks[:2])).error is ErrorClass.SHAPE


@pytest.mark.parametrize(
    ("api", "code", "error"),
    [
        ("openai", 400, ErrorClass.REFUSED),
        ("openai", 401, ErrorClass.AUTH),
        ("openai", 429, ErrorClass.RATE),
        ("openai", 500, ErrorClass.TRANSIENT),
        ("anthropic", 529, ErrorClass.TRANSIENT),
        ("anthropic", 402, ErrorClass.QUOTA),
    ],
)
def test_a_status_is_what_it_means(api: str, code: int, error: ErrorClass) -> None:
    assert model(api).read(READING, code, {}, b'{"type":"error","error":{"type":"overloaded_error"}}').error is error


def test_a_refusal_is_no_match_and_paid() -> None:
    body = orjson.dumps(
        {
            "choices": [{"message": {"content": None, "refusal": "No."}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 1},
        }
    )
    reply = model("openai").read(READING, 200, {}, body)
    assert (reply.outcome, reply.cost_micros) == (Outcome.NO_MATCH, 7)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"prompt_tokens": 10**6, "completion_tokens": 10**6}, TERMS.most_micros),
        ({"prompt_tokens": -1, "completion_tokens": 1}, None),
        ({"prompt_tokens": True, "completion_tokens": 1}, None),
        ({"prompt_tokens": 1e3, "completion_tokens": 1}, None),
        ({"prompt_tokens": 10**30, "completion_tokens": 1}, None),
        ({}, None),
        (None, None),
        ("many", None),
    ],
)
def test_no_count_makes_a_reading_dearer_than_it_can_be(usage: Any, cost: int | None) -> None:
    text = orjson.dumps(GOOD).decode()
    body = json.dumps({"choices": [{"message": {"content": text}}], "usage": usage}).encode()
    reply = model("openai").read(READING, 200, {}, body)
    assert reply.cost_micros == cost if reply.error is None else reply.error is ErrorClass.SHAPE


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6) | st.sampled_from(["Dana Sample", "```json"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "usage", "people", "legal_associates", "name", "title",
                         "source", "quote", "type", "input", "text", "refusal", "prompt_tokens", "input_tokens"]),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(st.sampled_from(["openai", "anthropic"]), VALUES)
def test_no_answer_makes_reading_or_believing_raise(api: str, answer: Any) -> None:
    for body in (
        orjson.dumps(answer),
        openai(orjson.dumps(answer).decode()),
        anthropic({"type": "tool_use", "name": "emit", "input": answer}),
    ):
        reply = model(api).read(READING, 200, {}, body)
        llm.verified(reply.found or (), READING)


@given(st.binary(max_size=100))
def test_no_bytes_make_reading_raise(body: bytes) -> None:
    assert model("openai").read(READING, 200, {}, body).found in (None, ())


# Believing


@pytest.mark.parametrize(
    ("name", "title", "number", "quote"),
    [
        ("Ivy Invented", "Owner", 1, "Ivy Invented, Owner"),  # no such words
        ("Ivy Invented", "Owner", 1, "Dana Sample\nOwner"),  # true words about another
        ("Dana Sample", "Manager", 1, "Dana Sample\nOwner"),  # another title
        ("Dana Sample", "Manager", 1, "Dana Sample\nOwner\nLee Placeholt, Manager."),  # another's title
        ("Lee Placeholt", "Owner", 1, "Owner\nLee Placeholt, Manager."),  # the title of the one before
        ("Jo Mockley", "Manager", 1, "Manager. Jo Mockley is our Head of Crews."),
        ("Dana Sample", "Owner", 2, "Dana Sample\nOwner"),  # another page
        ("Dana Sample", "Owner", 0, "Dana Sample\nOwner"),
        ("Dana Sample", "Owner", 3, "Dana Sample\nOwner"),
        ("Dana Sample", "Owner", 1, "Dana Sample is the Owner"),  # not its words
        ("Dana", "Owner", 1, "Dana Sample\nOwner"),  # half a name
        ("Dana Sample", "Owner", 1, "Jo Mockley is our Head of Crews."),  # true, and true words about another
        ("Ada Testerman", "Foreman", 2, "Ada Testerman and Kurt Mockley, Foreman"),  # of the one between
        ("Max Fictner", "owner", 2, "Former owner Max Fictner"),  # over
        ("Sample Window", "Owner", 1, "Sample Window Care\nDana Sample\nOwner"),  # the firm itself
        ("Dana Sample", "", 1, "Dana Sample\nOwner"),
    ],
)
def test_what_no_page_says_is_dropped(name: str, title: str, number: int, quote: str) -> None:
    assert llm.verified([Claim(False, name, title, number, quote)], READING) == []


LISTED = (
    "Registered Agent: Lee Quuxford\nManaging member: Nora Quuxford\nWalter Lorem\nPartner, retired\n"
    "President: Dana Sample, Treasurer: Jo Mockley\nSample Window Care is a division of Prototypa Holdings, Inc.\n"
    "Figmentov LLC is a division of Sample Window Care.\nKurt Stubbins\nCounsel: Ada Testerman\n"
    "Ann Placeholt, Owner of Placeholt Panes, loves us.\nRob Draftwell is the CEO of Mockup.\n"
    "Carla Specimen, Owner of Sample Window Care"
)


@pytest.mark.parametrize(
    ("name", "title", "role"),
    [
        ("Lee Quuxford", "Registered Agent", "registered agent"),
        ("Nora Quuxford", "Managing member", "managing member"),
        ("Lee Quuxford", "Managing member", None),  # of the line below
        ("Walter Lorem", "Partner", None),  # no longer
        ("Kurt Stubbins", "Counsel", None),  # of the one behind
        ("Ada Testerman", "Counsel", "Counsel"),
        ("Dana Sample", "President", "President"),
        ("Jo Mockley", "Treasurer", "Treasurer"),
        ("Dana Sample", "Treasurer", None),  # of the one behind
        ("Prototypa Holdings, Inc", "division", "parent organization"),
        ("Figmentov LLC", "division", "division"),
        ("Ann Placeholt", "Owner", None),  # of another firm
        ("Ann Placeholt", "Owner of Placeholt Panes", None),
        ("Rob Draftwell", "CEO", None),
        ("Carla Specimen", "Owner", "Owner"),
    ],
)
def test_in_a_list_of_roles_each_is_of_the_one_it_stands_beside(name: str, title: str, role: str | None) -> None:
    reading = Reading(SUBJECT, (Excerpt(source(1), LISTED),))
    quotes = LISTED.split("\n") + ["\n".join(LISTED.split("\n")[at : at + 2]) for at in range(11)]
    claims = [Claim(True, name, title, 1, quote) for quote in quotes]
    found = {each.value.get("role") or each.value["title"] for each in llm.verified(claims, reading)}
    assert found == ({role} if role else set())


def test_what_a_page_says_is_taken_over() -> None:
    claims = [
        Claim(False, "Dana Sample", "Owner", 1, "Dana Sample\nOwner"),
        Claim(False, "Jo Mockley", "Head of Crews", 1, "Jo Mockley is our Head of Crews."),
        Claim(True, "Nora Quuxford", "Registered Agent", 2, "Registered agent: Nora Quuxford"),
        Claim(True, "Example Holdings Inc", "Parent company", 2, "Parent company: Example Holdings Inc"),
    ]
    found = llm.verified(claims, READING)
    assert [(f.kind, f.value.get("title") or f.value.get("role")) for f in found] == [
        (Kind.PERSON, "Owner"),
        (Kind.PERSON, "Head of Crews"),
        (Kind.ASSOCIATE, "registered agent"),
        (Kind.ASSOCIATE, "parent company"),
    ]
    assert {round(f.confidence, 3) for f in found} == {0.675}


@given(
    st.lists(
        st.builds(
            Claim, st.booleans(), st.text(max_size=20), st.text(max_size=20), st.integers(-1, 4), st.text(max_size=40)
        )
    )
)
def test_no_claim_is_believed_whose_quote_is_not_in_its_page(claims: list[Claim]) -> None:
    for found in llm.verified(claims, READING):
        text = next(e.text for e in READING.excerpts if e.source == found.source)
        assert " ".join(found.quote.split()).casefold() in " ".join(text.split()).casefold()
