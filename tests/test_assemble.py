"""What only the parts list can find wrong in a configuration."""

from pathlib import Path

import aiohttp
import pytest
from rigs.caller import Caller
from rigs.facilitator import FacilitatorServer

from gateway.assemble import facilitator_of, mistakes, stocked
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
