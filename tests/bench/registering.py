"""What a wallet that registers costs the gateway: the nonce, and the registration with all it looks at."""

import json
from collections.abc import Iterator

from bench import load, targets
from bench.figures import Figure, Plan
from bench.load import median
from rigs.chain import Chain
from rigs.newcomer import AGENTS

from gateway.core.keys import Key
from gateway.core.siwe import digest

AT_ONCE = 8
WALLETS = 300
UNBOUNDED = '[registration]\ngrant_budget_usd_per_day = "1000000"\n'


async def cpu(plan: Plan) -> dict[str, Figure]:
    """CPU milliseconds a registration: of the gateway's process alone, with its questions to a real chain (the balance,
    and where it came from), a wallet of its own and a grant each time. No peer has such a thing."""
    costs = []
    numbers = iter(range(1, 1_000_000))
    for _ in range(plan.rounds(3)):
        chain = Chain.start()
        try:
            with targets.upstream() as small:
                async with targets.ours(small, chain, UNBOUNDED) as target:
                    await _register(chain, target, _keys(numbers, 30))
                    keys = _keys(numbers, WALLETS)
                    costs.append(await _register(chain, target, keys) / WALLETS * 1000)
        finally:
            chain.close()
    return {"register_cpu": Figure(median(costs), None, "ms", "<3", lower_is_better=True)}


def _keys(numbers: Iterator[int], count: int) -> list[Key]:
    return [Key((next(numbers) << 200).to_bytes(32, "big")) for _ in range(count)]


async def _register(chain: Chain, target: targets.Target, keys: list[Key]) -> float:
    """Seconds of CPU that all of them took."""
    for key in keys:
        chain.mint(key.address, 1_000_000)
    before = load.cpu_seconds(target.pid)
    asked = [_post("wallet-nonce", {"address": key.address}) for key in keys]
    invited = (await load.run(target.port, asked, 1, keep=True)).expect(200).answers
    spent = load.cpu_seconds(target.pid) - before
    assert invited is not None
    shown = [_post("wallet-register", _signed(key, json.loads(told))) for key, told in zip(keys, invited, strict=True)]
    before = load.cpu_seconds(target.pid)
    (await load.run(target.port, shown, AT_ONCE)).expect(201)
    return spent + load.cpu_seconds(target.pid) - before


def _signed(key: Key, invited: dict[str, str]) -> dict[str, str]:
    signature = key.sign(digest(invited["siwe_message"])).hex()
    return {
        "address": key.address, "nonce": invited["nonce"], "siwe_message": invited["siwe_message"],
        "siwe_signature": f"0x{signature}",
    }  # fmt: skip


def _post(route: str, body: dict[str, str]) -> bytes:
    return load.http("POST", AGENTS + route, body=json.dumps(body).encode())
