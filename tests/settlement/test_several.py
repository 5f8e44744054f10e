"""Networks and their settlers."""

import time

import orjson
import pytest
from rigs.chain import PAYER_KEYS
from rigs.payer import Payer
from rigs.till import PAY_TO, Till

from gateway.core.networks import NETWORKS, SANDBOX
from gateway.core.settlement import Settled
from gateway.settlement.protocol import Admitted, Refused, Unknown
from gateway.settlement.sandbox import Sandbox, Weather
from gateway.settlement.several import Several


def sandbox() -> Sandbox:
    return Sandbox(pay_to=PAY_TO, clock=time.time)


async def test_each_network_has_its_settler() -> None:
    both = Several([sandbox()])
    till = Till(both, SANDBOX, NETWORKS[SANDBOX].tokens[0], now=time.time)
    payer = Payer(PAYER_KEYS[0])
    payment = till.verified(payer.pay(till.ask()))
    assert both.serves(payment.requirements)
    assert both.sandbox
    assert isinstance(await both.check(payment), Admitted)
    settlement = till.queue(payment)
    assert isinstance(await both.settle(settlement), Settled)
    assert isinstance(await both.find(settlement), Settled)
    assert (await both.health()).ready


async def test_a_network_of_nobody_is_unknown_not_lost() -> None:
    nobody = Several([])
    till = Till(sandbox(), SANDBOX, NETWORKS[SANDBOX].tokens[0], now=time.time)
    payment = till.verified(Payer(PAYER_KEYS[0]).pay(till.ask()))
    settlement = till.queue(payment)
    assert isinstance(await nobody.check(payment), Refused)
    assert isinstance(await nobody.settle(settlement), Unknown)
    assert isinstance(await nobody.find(settlement), Unknown)
    assert nobody.facilitator_addresses(SANDBOX) == ()


def test_one_network_has_one_settler() -> None:
    with pytest.raises(ValueError, match="one"):
        Several([sandbox(), sandbox()])


@pytest.mark.parametrize("weather", [Weather.UNREACHABLE, Weather.LOST_REPLY, Weather.STUCK])
async def test_the_sandbox_fails_as_it_is_told(weather: Weather) -> None:
    box = sandbox()
    till = Till(box, SANDBOX, NETWORKS[SANDBOX].tokens[0], now=time.time)
    settlement = till.pay(Payer(PAYER_KEYS[0]))
    box.weather = weather
    assert isinstance(await till.settle(settlement), Unknown)
    assert box.balance(PAY_TO) == (1000 if weather is Weather.LOST_REPLY else 0)
    box.weather = Weather.FAIR
    assert isinstance(await till.settle(settlement), Settled)
    assert box.balance(PAY_TO) == 1000


async def test_the_sandbox_looks_at_the_signature_again() -> None:
    """What is stored was verified once; what settles it believes nobody."""
    box = sandbox()
    till = Till(box, SANDBOX, NETWORKS[SANDBOX].tokens[0], now=time.time)
    for method in ("eip3009", "permit2"):
        payer = Payer(PAYER_KEYS[0])
        forged = Payer(PAYER_KEYS[1], wallet=payer.address)
        settlement = till.queue(till.verified(forged.pay(till.ask(method=method))))
        assert isinstance(await till.settle(settlement), Refused)
    assert box.balance(PAY_TO) == 0


async def test_the_sandbox_remembers_what_was_settled_before() -> None:
    box = sandbox()
    till = Till(box, SANDBOX, NETWORKS[SANDBOX].tokens[0], now=time.time)
    payer = Payer(PAYER_KEYS[0])
    settlement = till.pay(payer)
    proof = await till.settle(settlement)
    again = Sandbox(pay_to=PAY_TO, clock=time.time, settled=[settlement])
    assert await again.find(settlement) == proof
    assert (again.balance(payer.address), again.balance(PAY_TO)) == (box.balance(payer.address), 1000)
    refused = await again.check(till.verified(orjson.loads(settlement.payment)))
    assert isinstance(refused, Refused)
