"""What only the parts list can find wrong in a configuration."""

from pathlib import Path

import aiohttp
import pytest
from rigs.caller import Caller
from rigs.facilitator import FacilitatorServer

from gateway.assemble import companies_of, facilitator_of, mistakes, people_of, stocked
from gateway.core.errors import SettingsError
from gateway.settings import parse

WEATHER = {"id": "weather/now", "url": "https://api.example.com/now", "price": "0.010", "description": "Weather"}


@pytest.mark.parametrize(
    ("prices", "told"),
    [
        ({"enrich/phone": "0.100"}, []),
        ({"weather/now": "0.020"}, ['[prices] "weather/now": its price stands in its own']),
        ({"enrich/fone": "0.020"}, ['[prices] "enrich/fone": there is no such operation']),
    ],
)
def test_prices_name_operations_that_have_none_of_their_own(tmp_path: Path, prices, told):
    settings = parse({"prices": prices, "http_upstreams": [WEATHER]}, {}, base=tmp_path)
    found = list(mistakes(settings))
    assert [sentence[: len(start)] for sentence, start in zip(found, told, strict=True)] == told


@pytest.mark.parametrize(
    ("settle", "told"),
    [
        ({"enrich/phone": "before", "enrich/person": "after"}, []),
        ({"weather/now": "before"}, ['[settle] "weather/now": say settle in its own']),
        ({"support/tickets": "before"}, ['[settle] "support/tickets": a ticket is never']),
        ({"enrich/fone": "before"}, ['[settle] "enrich/fone": there is no such operation']),
    ],
)
def test_what_is_settled_first_is_an_operation(tmp_path: Path, settle, told):
    settings = parse({"settle": settle, "http_upstreams": [WEATHER]}, {}, base=tmp_path)
    found = list(mistakes(settings))
    assert [sentence[: len(start)] for sentence, start in zip(found, told, strict=True)] == told


def test_prices_are_looked_at_even_when_a_table_is_wrong(tmp_path: Path):
    settings = parse({"prices": {"nothing": "1"}, "http_upstreams": [{"id": "weather/now"}]}, {}, base=tmp_path)
    found = list(mistakes(settings))
    assert any(sentence.startswith("[[http_upstreams]]") for sentence in found)
    assert any(sentence.startswith('[prices] "nothing"') for sentence in found)


KEYED = {"key": "a-key-of-mine", "cost_per_call": "0.10"}
HALF = {
    "nothing but its name": ({"whitepages": {}}, {}, [
        '[providers.whitepages] key: is missing: what it knows you by, as "${WHITEPAGES_KEY}"',
        "[providers.whitepages] cost_per_call: is missing: the USD it takes for a call",
    ]),
    "an empty key": ({"trestle": {"key": " ", "cost_per_match": "0.08"}}, {}, ["[providers.trestle] key: is missing"]),
    "nobody who asks": ({"sec_edgar": {}, "gleif": {}, "npi": {}}, {}, [
        "[providers.sec_edgar] user: is missing: who asks, with an address",
    ]),
    "the directory for what it has not": ({}, {"enrich/email": ["local_directory"]}, [
        '[waterfalls] "enrich/email": local_directory has no answer to this',
    ]),
    "one that has no answer": ({"gleif": {}}, {"enrich/phone": ["gleif"]}, [
        '[waterfalls] "enrich/phone": gleif has no answer to this',
    ]),
    "dearer than a company": ({"open_corporates": {**KEYED, "cost_per_call": "0.30"}}, {}, [
        "[providers.open_corporates] cost_per_call: it can take more than enrich/company is sold for",
    ]),
    "no login": ({"twilio": KEYED}, {}, ["[providers.twilio] user: is missing: the login beside the key"]),
    "no cost": ({"whitepages": {"key": "k"}}, {}, ["[providers.whitepages] cost_per_call: is missing"]),
    "nobody of this name": ({"whitepage": KEYED}, {}, [
        "[providers.whitepage]: there is no such provider; did you mean whitepages?",
    ]),
    "a score it does not give": ({"trestle": {**KEYED, "score_min": 0.5}}, {}, [
        "[providers.trestle] score_min: it gives no score of its own",
    ]),
    "in the clear, next door": ({"trestle": {**KEYED, "url": "http://127.0.0.1:9/"}}, {}, [
        "[providers.trestle] url: ",
    ]),
    "dearer than the call": ({"whitepages": {**KEYED, "cost_per_match": "0.30"}}, {}, [
        "[providers.whitepages] cost_per_call: it can take more than enrich/phone is sold for",
    ]),
    "dearer than a call it is not asked for": (
        {"whitepages": {**KEYED, "cost_per_match": "0.30"}}, {"enrich/phone": ["local_directory"]}, []
    ),
    "in turn, and not configured": ({}, {"enrich/phone": ["whitepages"]}, [
        '[waterfalls] "enrich/phone": whitepages is not configured: add [providers.whitepages]',
    ]),
    "in turn, and unknown": ({}, {"enrich/phone": ["local_directry"]}, [
        '[waterfalls] "enrich/phone": there is no provider local_directry; did you mean local_directory?',
    ]),
    "in turn, twice": ({}, {"enrich/phone": ["local_directory", "local_directory"]}, [
        '[waterfalls] "enrich/phone": local_directory stands there twice',
    ]),
    "in turn, nobody": ({}, {"enrich/phone": []}, ['[waterfalls] "enrich/phone": names nobody']),
    "in turn for nothing": ({}, {"enrich/fone": ["local_directory"]}, [
        '[waterfalls] "enrich/fone": nothing is bought for such an operation; did you mean enrich/phone?',
    ]),
    "whole": (
        {"whitepages": KEYED, "twilio": {**KEYED, "user": "AC0"}}, {"enrich/phone": ["twilio", "whitepages"]}, []
    ),
}  # fmt: skip


@pytest.mark.parametrize(("providers", "waterfalls", "told"), HALF.values(), ids=HALF)
def test_a_provider_that_is_half_configured_is_refused_and_what_is_missing_is_told(
    tmp_path: Path, providers, waterfalls, told
):
    settings = parse({"providers": providers, "waterfalls": waterfalls}, {}, base=tmp_path)
    found = list(mistakes(settings))
    assert [sentence[: len(start)] for sentence, start in zip(found, told, strict=True)] == told
    assert "a-key-of-mine" not in f"{found} {settings!r}"


def test_mistakes_of_both_kinds_are_told_in_one_way(tmp_path: Path):
    with pytest.raises(SettingsError) as refused:
        parse({"providers": {"twilio": {**KEYED, "timeout_s": 0}}}, {}, base=tmp_path, also=mistakes)
    assert [mistake.partition(":")[0] for mistake in refused.value.mistakes] == [
        "[providers.twilio] timeout_s", "[providers.twilio] user"
    ]  # fmt: skip


def test_what_is_on_sale_follows_from_who_is_configured(tmp_path: Path):
    def offline(**providers):
        return {one.id for one in companies_of(parse({"providers": providers}, {}, base=tmp_path)).offline()}

    assert offline() == {"enrich/email", "enrich/company"}
    assert offline(gleif={}) == {"enrich/email"}
    assert offline(hunter=KEYED) == {"enrich/company"}
    assert offline(people_data_labs=KEYED) == set()


def test_who_is_asked_when_nothing_is_said(tmp_path: Path):
    settings = parse({"providers": {"trestle": KEYED, "whitepages": KEYED}}, {}, base=tmp_path)
    asked = people_of(settings)._asked_for("enrich/phone")
    assert [provider.name for provider in asked] == ["whitepages", "trestle"]  # and no directory where there is none
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "directory.db").touch()
    asked = people_of(settings)._asked_for("enrich/person")
    assert [provider.name for provider in asked] == ["local_directory", "whitepages", "trestle"]


def test_stocked_entropy_is_the_sources_own_and_given_once() -> None:
    asked = []

    def source(count: int) -> bytes:
        asked.append(count)
        return bytes(n % 256 for n in range(sum(asked[:-1]), sum(asked)))

    take = stocked(source, 100)
    taken = [take(count) for count in (10, 60, 31, 30, 250)]
    assert [len(each) for each in taken] == [10, 60, 31, 30, 250]
    assert asked == [100, 100, 250]
    assert len({each[:10] for each in taken}) == 5


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
async def test_the_facilitator_is_shown_what_the_configured_key_signs(algorithm: str) -> None:
    """By the clock that the gateway was given."""
    caller = Caller(algorithm, now=lambda: 1_000_000_000.5)
    async with FacilitatorServer() as fac, aiohttp.ClientSession() as http:
        fac.caller = caller
        remote = {"url": fac.url, "jwt_key_id": caller.id, "jwt_secret": caller.secret, "trust_facilitator": True}
        network = {"id": "eip155:84532", "pay_to": "0x52908400098527886E0F7030069857D2E4169EE7"}
        tables = {"settlement": {"kind": "facilitator"}, "facilitator": remote, "networks": [network]}
        settler = facilitator_of(parse(tables), lambda: 1_000_000_000.5, http)
        await settler.start()
        await settler.close()
        assert (await settler.health()).alarms == ()
        assert len(caller.tokens) == 1
