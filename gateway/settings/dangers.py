"""What each key allows alone but must not stand together: configurations that lose money or leak (F-178).

Every check is a generator of mistakes and looks at what it needs only; `dangers` runs them all.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.core.money import parse_usd
from gateway.core.networks import EXACT_PERMIT2_PROXY, MULTICALL3, NETWORKS, PERMIT2, UPTO_PERMIT2_PROXY
from gateway.settings.tables import SANDBOX_NETWORK, WEBSEARCH_MICROS, Settings, is_loopback


class Mistake(NamedTuple):
    where: str
    """`[service] port`"""
    what: str
    """What is wrong and how to mend it."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


KNOWN_TO_ALL = frozenset(
    {
        # The accounts of "test test test test test test test test test test test junk", as every tool prints them.
        "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266",
        "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
        "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc",
        "0x90f79bf6eb2c4f870365e785982e1f101e93b906",
        "0x15d34aaf54267db7d7c367839aaf71a00a2c6a65",
        "0x9965507d1a55bcc2695c58ba16fb37d819b0a4dc",
        "0x976ea74026e726554db657fa54763abd0c3a0aa9",
        "0x14dc79964da2c08b23698b3d3cc7ca32193d9955",
        "0x23618e81e3f5cdf7f54c3d65f7fbc0abf5b21e8f",
        "0xa0ee7a142d267c1f36714e4a8f75612f20a79720",
        "0xbcd4042de499d14e55001ccbb24a551f3b954096",
        "0x71be63f3384f5fb98995898a86b02fb2426c5788",
        "0xfabb0ac9d68b0b445fb7357272ff202c5651694a",
        "0x1cbd3b2770909d4e10f157cabc84c7264073c9ec",
        "0xdf3e18d64bc6a983f673ab319ccae4f1a57c7097",
        "0xcd3b766ccdd6ae721141f452c550ca635964ce71",
        "0x2546bcd3c84621e976d8185a91a922ae77ecec30",
        "0xbda5747bfd65f08deb54cb465eb87d40e51b197e",
        "0xdd2fd4581271e230360230f9337d5c0430bf44c0",
        "0x8626f6940e2eb28930efb4cef49b2d1f2c9c1199",
    }
)

MACHINERY = {
    PERMIT2.lower(): "the Permit2 contract",
    EXACT_PERMIT2_PROXY.lower(): "x402's Permit2 proxy",
    UPTO_PERMIT2_PROXY.lower(): "x402's Permit2 proxy",
    MULTICALL3.lower(): "the Multicall3 contract",
}

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SMALL_KEY = 2**64
"""Keys below this, and their negatives, are guessed and emptied within the hour."""


def dangers(settings: Settings) -> Iterator[Mistake]:
    for check in CHECKS:
        yield from check(settings)


def _public_address(settings: Settings) -> Iterator[Mistake]:
    service = settings.service
    if service.public_url is None and not is_loopback(service.host):
        yield Mistake(
            "[service] public_url",
            f"is missing, and host {service.host} is reached from elsewhere: name the address clients use, "
            'public_url = "https://api.example.com"',
        )


def _sandbox_is_play(settings: Settings) -> Iterator[Mistake]:
    if not settings.sandbox:
        return
    if not is_loopback(settings.service.host):
        yield Mistake(
            "[service] host",
            f'the sandbox takes play money and listens on this machine only: set host = "127.0.0.1", not '
            f"{settings.service.host}, or choose another settlement",
        )
    if not is_loopback(urlsplit(settings.service.origin).hostname or "") and settings.service.public_url:
        yield Mistake(
            "[service] public_url",
            f"the sandbox takes play money: {settings.service.public_url} would sell for nothing to everybody; "
            "leave public_url out, or choose another settlement",
        )
    for network in settings.networks:
        if network.id != SANDBOX_NETWORK:
            yield Mistake(
                f"[[networks]] {network.id}, id",
                f'the sandbox is no chain: remove {network.id}, or set kind = "relayer" or "facilitator"',
            )
    for number, upstream in enumerate(settings.http_upstreams, 1):
        if upstream.get("free") is not True:
            yield Mistake(
                f"[[http_upstreams]] no. {number}",
                "the sandbox takes play money, and this API may cost real: say free = true if it does not, "
                "or choose another settlement",
            )
    model = settings.llm
    if model.api is not None and any(map(_takes, (model.input_usd, model.output_usd))):
        yield Mistake(
            "[llm] api",
            "the sandbox takes play money, and this model takes real money: remove it, or choose another settlement",
        )


def _takes(usd: str | None) -> bool:
    return usd is not None and parse_usd(usd) > 0


def _sandbox_buys_nothing(settings: Settings) -> Iterator[Mistake]:
    if not settings.sandbox:
        return
    for name, provider in settings.providers.items():
        if any(cost not in (None, "0") for cost in (provider.cost_per_call, provider.cost_per_match)):
            yield Mistake(
                f"[providers.{name}]",
                "the sandbox takes play money, and this provider takes real money: remove it, or choose another "
                "settlement",
            )


def _settlement_is_whole(settings: Settings) -> Iterator[Mistake]:
    kind = settings.settlement.kind
    if kind in ("relayer", "facilitator") and not settings.networks:
        yield Mistake("[[networks]]", f'settlement "{kind}" needs at least one network with id and pay_to')
    if kind == "relayer" and settings.relayer.key is None:
        yield Mistake("[relayer] key", 'is missing: settlement "relayer" needs key = "${RELAYER_KEY}" or key_file')
    if kind == "facilitator" and settings.facilitator.url is None:
        yield Mistake("[facilitator] url", 'is missing: settlement "facilitator" has nobody to ask without it')
    if kind == "none" and settings.networks:
        yield Mistake(
            "[settlement] kind",
            'networks are configured, but nobody settles: set kind = "relayer" or "facilitator", or remove them',
        )


def _facilitator_knows_us(settings: Settings) -> Iterator[Mistake]:
    """In one way, and a whole one."""
    remote = settings.facilitator
    halves = {"jwt_key_id": remote.jwt_key_id, "jwt_secret": remote.jwt_secret}
    given = [name for name, half in halves.items() if half is not None]
    if remote.bearer is not None and given:
        yield Mistake(
            "[facilitator] bearer",
            f"stands beside {' and '.join(given)}, and a request shows one of them: keep bearer, or the other two",
        )
    elif len(given) == 1:
        (missing,) = halves.keys() - given
        yield Mistake(f"[facilitator] {missing}", f"is missing beside {given[0]}: give both, or remove {given[0]}")
    if "@" in urlsplit(remote.url or "").netloc and (remote.bearer is not None or given):
        yield Mistake(
            "[facilitator] url",
            "has a name or password in it, and a request shows that or a token: remove what stands before the @, or "
            + " and ".join(given or ["bearer"]),
        )


def _networks_are_provable(settings: Settings) -> Iterator[Mistake]:
    kind = settings.settlement.kind
    trusted = kind == "facilitator" and settings.facilitator.trust_facilitator
    for network in settings.networks:
        where = f"[[networks]] {network.id}, "
        if not network.rpc_urls and kind in ("relayer", "facilitator") and not trusted:
            yield Mistake(
                where + "rpc_urls",
                f"is missing: payments on {network.id} are proved by looking at the chain"
                + (", or set trust_facilitator = true" if kind == "facilitator" else ""),
            )
        if not network.network.tokens:
            yield Mistake(
                where + "tokens",
                f"{network.id} is none of the networks known here ({', '.join(NETWORKS)}): name its tokens, "
                "each with address, name, version and decimals",
            )


def _nothing_twice(settings: Settings) -> Iterator[Mistake]:
    seen: set[str] = set()
    for network in settings.networks:
        if network.id in seen:
            yield Mistake(f"[[networks]] {network.id}, id", f"{network.id} is there twice: keep one")
        seen.add(network.id)
        tokens = [token.address.lower() for token in network.tokens]
        if len(set(tokens)) < len(tokens):
            yield Mistake(f"[[networks]] {network.id}, tokens", "a token is there twice: keep one")


def _tokens_belong(settings: Settings) -> Iterator[Mistake]:
    """A test network's token on a real one is worth nothing there, or is somebody else's contract."""
    homes = {t.address.lower(): known for known in NETWORKS.values() for t in known.tokens if known.testnet}
    for network in settings.networks:
        for place, token in enumerate(network.tokens, 1):
            home = homes.get(token.address.lower())
            if network.real and home is not None:
                yield Mistake(
                    f"[[networks]] {network.id}, tokens no. {place}, address",
                    f"this is {home.name}'s test token, and {network.id} is no test network: take the real one",
                )


def _keys_are_secret(settings: Settings) -> Iterator[Mistake]:
    relayer = settings.relayer
    keys = [int.from_bytes(key) for key in relayer.private_keys] if relayer.key is not None else []
    addresses = [address.lower() for address in relayer.addresses] if keys else []
    guessable = [
        place
        for place, (key, address) in enumerate(zip(keys, addresses, strict=True))
        if address in KNOWN_TO_ALL or min(key, CURVE_ORDER - key) < SMALL_KEY
    ]
    for network in settings.networks:
        if network.pay_to.lower() in KNOWN_TO_ALL and network.real:
            yield Mistake(
                f"[[networks]] {network.id}, pay_to",
                f"everybody has the key of {network.pay_to}, a test account: name an address of your own",
            )
        if network.pay_to.lower() in addresses:
            yield Mistake(
                f"[[networks]] {network.id}, pay_to",
                "this is the relayer's own address: the key that lies on the server must not hold the money; "
                "name another address of yours",
            )
    if any(network.real for network in settings.networks):
        for place in guessable:
            yield Mistake(
                f"[relayer] {f'old_keys no. {place}' if place else 'key'}",
                "everybody has this test key, and a network here is real: make a new key for the relayer",
            )
    if len(set(keys)) < len(keys):
        yield Mistake("[relayer] old_keys", "a key is named twice: the one to send with is not an old one")


def _pay_to_can_spend(settings: Settings) -> Iterator[Mistake]:
    """Nobody can take out again what was sent to these contracts."""
    known = [token for network in NETWORKS.values() for token in network.tokens]
    for network in settings.networks:
        tokens = {token.address.lower() for token in (*known, *network.network.tokens)}
        what = "a token's contract" if network.pay_to.lower() in tokens else MACHINERY.get(network.pay_to.lower())
        if what:
            yield Mistake(
                f"[[networks]] {network.id}, pay_to",
                f"this is {what}: money sent there is lost; name an address of your own",
            )


def _deposits_have_their_own_address(settings: Settings) -> Iterator[Mistake]:
    """A log at `pay_to` proves a payment; one at the address for deposits is a deposit. And somebody must see them."""
    address = settings.deposits.address
    if address is None or not settings.deposits.enabled:
        return
    where = "[deposits] address"
    relayer = settings.relayer
    known = [token for network in NETWORKS.values() for token in network.tokens]
    for network in settings.networks:
        if address == network.pay_to:
            yield Mistake(where, f"this is the pay_to of {network.id}, where signed payments go: name another of yours")
        if address.lower() in KNOWN_TO_ALL and network.real:
            yield Mistake(where, f"everybody has the key of {address}, a test account: name an address of your own")
    if relayer.key is not None and address.lower() in {each.lower() for each in relayer.addresses}:
        yield Mistake(where, "this is the relayer's own address: the key on the server must not hold the money")
    tokens = {token.address.lower() for token in (*known, *(t for n in settings.networks for t in n.network.tokens))}
    if (what := "a token's contract" if address.lower() in tokens else MACHINERY.get(address.lower())) is not None:
        yield Mistake(where, f"this is {what}: money sent there is lost; name an address of your own")
    if settings.sandbox or not any(network.rpc_urls for network in settings.networks):
        yield Mistake(
            where,
            "transfers are seen on a chain, and no network here has rpc_urls: name some, or leave the address out",
        )


def _model_is_whole(settings: Settings) -> Iterator[Mistake]:
    model = settings.llm
    given = {"url": model.url, "model": model.model, "key": model.key, "input_usd": model.input_usd}
    if model.api is None:
        for name in (name for name, value in given.items() if value is not None):
            yield Mistake(f"[llm] {name}", 'is set without api: add api = "openai" or "anthropic", or remove it')
        return
    if model.url is None and model.api == "openai":
        yield Mistake("[llm] url", 'is missing: name the server\'s base URL, as url = "http://127.0.0.1:11434/v1"')
    if model.model is None:
        yield Mistake("[llm] model", "is missing: name the model as the server knows it")
    if model.key is None and (model.api == "anthropic" or not model.private):
        yield Mistake("[llm] key", 'is missing: key = "${LLM_KEY}", or private = true for a server of your own')
    for name, price in (("input_usd", model.input_usd), ("output_usd", model.output_usd)):
        if price is None:
            yield Mistake(f"[llm] {name}", 'is missing: say what a million tokens cost, as "0.50", or "0" for nothing')
    if model.url is not None and urlsplit(model.url).scheme == "http" and not model.private:
        yield Mistake("[llm] url", "questions and keys travel there: use https, or private = true in your network")


def _web_price_fits(settings: Settings) -> Iterator[Mistake]:
    price = settings.prices.get("enrich/websearch", WEBSEARCH_MICROS)
    if price > settings.web.ceiling_micros:
        yield Mistake("[web] ceiling", "is below the price of enrich/websearch: raise it, or lower the price")


def _what_is_left_can_be_spent(settings: Settings) -> Iterator[Mistake]:
    """What is settled before the work is a top-up, and what a miss leaves of it is a wallet's to claim."""
    asked = [f'[settle] "{id}"' for id, when in settings.settle.items() if when == "before"]
    asked += [
        f"[[http_upstreams]] no. {number}, settle"
        for number, upstream in enumerate(settings.http_upstreams, 1)
        if upstream.get("settle") == "before"
    ]
    anonymous = settings.service.anonymous == "all" and bool(settings.networks)
    chains = settings.sandbox or any(network.rpc_urls for network in settings.networks)
    for where in asked:
        if not settings.deposits.enabled:
            yield Mistake(
                where,
                "a payment that is settled before the work tops its payer's balance up, and [deposits] enabled = false "
                'lets nobody do that: say settle "after", or enable deposits',
            )
        if anonymous and not (settings.registration.enabled and chains):
            yield Mistake(
                where,
                "what a miss leaves to a payer without an agent is claimed by registering his wallet, which is not "
                'possible here: say settle "after", set [service] anonymous = "none", or take registrations '
                "([registration] enabled = true, and a network with rpc_urls)",
            )


CHECKS: tuple[Callable[[Settings], Iterator[Mistake]], ...] = (
    _public_address,
    _sandbox_is_play,
    _sandbox_buys_nothing,
    _settlement_is_whole,
    _facilitator_knows_us,
    _networks_are_provable,
    _nothing_twice,
    _tokens_belong,
    _keys_are_secret,
    _pay_to_can_spend,
    _deposits_have_their_own_address,
    _model_is_whole,
    _web_price_fits,
    _what_is_left_can_be_spent,
)
