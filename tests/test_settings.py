"""Settings: what may be set, what must not stand together, and that every mistake is told at once with its mend."""

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rigs.caller import Caller

from gateway.assemble import mistakes as of_upstreams
from gateway.core.api_key import ApiKey
from gateway.core.errors import SettingsError
from gateway.settings import Settings, load, parse
from gateway.settings.dangers import KNOWN_TO_ALL
from gateway.settings.tables import SANDBOX_NETWORK

RELAYER_KEY = "0b" * 32
OLD_KEY = "0c" * 32
OWN = "0x52908400098527886E0F7030069857D2E4169EE7"
BASE = {"id": "eip155:8453", "rpc_urls": ["https://rpc.example.com/v1/secret-in-the-path"], "pay_to": OWN}
OTHER = "0xde709f2102306220921060314715629080e2fb77"
SEPOLIA = {**BASE, "id": "eip155:84532"}
CALLER = Caller()
KEYED = {"jwt_key_id": CALLER.id, "jwt_secret": CALLER.secret}
TEST_KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
TEST_ACCOUNT = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def relaying(**tables: Any) -> dict[str, Any]:
    """A whole configuration with a relayer on Base, with `tables` in place of its own."""
    whole = {"settlement": {"kind": "relayer"}, "relayer": {"key": RELAYER_KEY}, "networks": [BASE]}
    return {**whole, **tables}


def facilitated(**facilitator: Any) -> dict[str, Any]:
    table = {"url": "https://facilitator.example.com", **facilitator}
    return {"settlement": {"kind": "facilitator"}, "facilitator": table, "networks": [BASE]}


def mistakes(tables: dict[str, Any], environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        parse(tables, environ or {})
    return caught.value.mistakes


# What stands


def test_nothing_configured_sells_from_balance_on_this_machine_alone() -> None:
    settings = parse({})
    assert settings.service.origin == "http://127.0.0.1:8402"
    assert settings.settlement.kind == "none"
    assert settings.networks == ()
    assert settings.service.token_prefix == "411"
    assert not settings.sandbox


def test_whole_configurations_are_taken() -> None:
    assert parse(relaying()).networks[0].network.tokens[0].decimals == 6
    assert parse(facilitated()).facilitator.url == "https://facilitator.example.com"
    assert parse(relaying()).relayer.private_keys == [bytes.fromhex(RELAYER_KEY)]


def test_the_sandbox_brings_its_own_network() -> None:
    (network,) = parse({"settlement": {"kind": "sandbox"}}).networks
    assert network.id == SANDBOX_NETWORK
    assert not network.real


def test_amounts_become_whole_units() -> None:
    settings = parse(relaying(prices={"enrich/phone": "0.330"}, relayer={"key": RELAYER_KEY, "max_fee_gwei": 0.25}))
    assert settings.prices == {"enrich/phone": 330_000}
    assert settings.relayer.max_fee_gwei == Decimal("0.25")
    assert settings.relayer.max_fee_wei == 250_000_000


def test_a_network_and_token_of_the_operators_own() -> None:
    token = {"address": OWN.lower().replace("0x52", "0x25"), "name": "Mine", "version": "1", "decimals": 18}
    settings = parse(relaying(networks=[{**BASE, "id": "eip155:424242", "tokens": [token]}]))
    network = settings.networks[0].network
    assert (network.chain_id, network.tokens[0].decimals, network.testnet) == (424242, 18, False)
    assert settings.networks[0].real, "a chain that nobody told us about is taken for real"


def test_addresses_without_a_checksum_get_one() -> None:
    assert parse(relaying(networks=[{**BASE, "pay_to": OWN.lower()}])).networks[0].pay_to == OWN


def test_relative_paths_start_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "faregate.toml").write_text('[store]\npath = "books/ledger.db"\n')
    settings = load(tmp_path / "faregate.toml", {})
    assert settings.store.path == tmp_path / "books" / "ledger.db"
    assert settings.source == tmp_path / "faregate.toml"
    (tmp_path / "faregate.toml").write_text("")
    assert load(tmp_path / "faregate.toml", {}).store.path == tmp_path / "data" / "faregate.db"
    assert settings.changed_s > 0


# The environment


def test_the_environment_stands_above_the_file() -> None:
    environ = {
        "FAREGATE_SERVICE__PORT": "9000",
        "FAREGATE_SERVICE__ALLOWED_ORIGINS": "https://a.example.com, https://b.example.com",
        "FAREGATE_FACILITATOR__TRUST_FACILITATOR": "true",
    }
    settings = parse({"service": {"port": 8402}}, environ)
    assert settings.service.port == 9000
    assert settings.service.allowed_origins == ("https://a.example.com", "https://b.example.com")
    assert settings.facilitator.trust_facilitator is True


def test_a_mistake_in_the_environment_is_told_by_its_name_there() -> None:
    (mistake,) = mistakes({}, {"FAREGATE_SERVICE__PORT": "ninety"})
    assert mistake.startswith("FAREGATE_SERVICE__PORT: ")


def test_unknown_names_in_the_environment() -> None:
    """Kubernetes puts FAREGATE_SERVICE_HOST and FAREGATE_PORT beside every pod of a service called faregate."""
    assert parse({}, {"FAREGATE_SERVICE_HOST": "10.0.0.1", "FAREGATE_PORT": "tcp://10.0.0.1:80"}).service.port == 8402
    assert "no setting prot" in mistakes({}, {"FAREGATE_SERVICE__PROT": "1"})[0]
    assert "FAREGATE_NETWORKS__ID" in mistakes({}, {"FAREGATE_NETWORKS__ID": "eip155:1"})[0]


def test_secrets_come_from_the_environment() -> None:
    tables = relaying(relayer={"key": "${RELAYER_KEY}"}, service={"name": "a $${b}"})
    settings = parse(tables, {"RELAYER_KEY": "0x" + RELAYER_KEY})
    assert settings.relayer.private_keys == [bytes.fromhex(RELAYER_KEY)]
    assert settings.service.name == "a ${b}"


def test_a_missing_secret_is_told_and_nothing_is_put_in_its_place() -> None:
    """F-178."""
    assert mistakes(relaying(relayer={"key": "${RELAYER_KEY}"})) == (
        "[relayer] key: RELAYER_KEY is not set in the environment; export it, or name another",
    )
    (mistake,) = mistakes({"http_upstreams": [{"id": "a/b", "headers": {"X-Key": "${NOPE}"}}]})
    assert mistake.startswith("[[http_upstreams]] a/b, headers X-Key: NOPE is not set")


def test_the_relayers_key_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"0x{RELAYER_KEY}\n")
    settings = parse(relaying(relayer={"key_file": "key"}), base=tmp_path)
    assert settings.relayer.private_keys == [bytes.fromhex(RELAYER_KEY)]
    with pytest.raises(SettingsError, match="cannot be read"):
        parse(relaying(relayer={"key_file": "nokey"}), base=tmp_path)
    with pytest.raises(SettingsError, match="keep one"):
        parse(relaying(relayer={"key_file": "key", "key": RELAYER_KEY}), base=tmp_path)


@pytest.mark.parametrize("known_by", ["bearer", "key"])
def test_whoever_prints_settings_sees_no_secret(known_by: str) -> None:
    environ = {"TOKEN": "an-operator-token-of-mine", "BEARER": "a-bearer-of-mine", "UPSTREAM": "a-vendor-key-of-mine"}
    tables = relaying(
        service={"operator_token": "${TOKEN}"},
        facilitator={"bearer": "${BEARER}"} if known_by == "bearer" else KEYED,
        http_upstreams=[{"id": "a/b", "headers": {"Authorization": "${UPSTREAM}"}}],
    )
    settings = parse(tables, environ)
    shown = repr(settings) + str(settings)
    for secret in (*environ.values(), RELAYER_KEY, "secret-in-the-path", CALLER.secret, CALLER.id):
        assert secret not in shown
    assert settings.http_upstreams[0]["headers"]["Authorization"] == "a-vendor-key-of-mine"


@pytest.mark.parametrize(
    "tables",
    [
        {"relayer": {"key": "my-very-secret-key"}},
        {"relayer": {"key": RELAYER_KEY, "old_keys": ["my-very-secret-key"]}},
        {"service": {"operator_token": "very-secret-key"}},
        {"networks": [{**BASE, "rpc_urls": ["wss://very-secret-key.example.com"]}]},
        {"networks": [{**BASE, "rpc_urls": [["very-secret-key"]]}]},
        {"facilitator": {"bearer": ["very-secret-key"]}},
        {"facilitator": {**KEYED, "jwt_secret": "very-secret-key"}},
        {"facilitator": {**KEYED, "jwt_secret": ["very-secret-key"]}},
        {"facilitator": {**KEYED, "jwt_secret": "-----BEGIN EC PRIVATE KEY-----\nvery-secret-key\n"}},
        {"facilitator": {**KEYED, "jwt_key_id": "-----BEGIN EC PRIVATE KEY-----\nvery-secret-key\n"}},
        {"relayer": [{"key": "very-secret-key"}]},
        {"relayer": "very-secret-key"},
        {"networks": {**BASE, "rpc_urls": ["https://very-secret-key.example.com"]}},
        {"networks": ["very-secret-key"]},
        {"networks": [{**BASE, "tokens": {"address": "very-secret-key"}}]},
        {"prices": [{"enrich/phone": "very-secret-key"}]},
    ],
)
def test_no_mistake_repeats_a_secret(tables: dict[str, Any]) -> None:
    assert "very-secret-key" not in "\n".join(mistakes(relaying(**tables)))


def test_settings_do_not_change() -> None:
    settings = parse({})
    with pytest.raises(ValueError, match="frozen"):
        settings.service.port = 1  # type: ignore[misc]


# Dangerous configuration (F-178)


DANGERS = {
    "zero pay_to": (relaying(networks=[{**BASE, "pay_to": "0x" + "0" * 40}]), "pay_to: the zero address"),
    "bad checksum": (relaying(networks=[{**BASE, "pay_to": OWN.replace("E7", "e7")}]), "pay_to: the checksum"),
    "no address": (relaying(networks=[{**BASE, "pay_to": "0x1234"}]), "pay_to: this is no address"),
    "missing secret": (relaying(relayer={}), "[relayer] key: is missing"),
    "no key": (relaying(relayer={"key": "hello"}), "[relayer] key: this is no private key"),
    "test key on a real network": (relaying(relayer={"key": TEST_KEY}), "[relayer] key: everybody has this test key"),
    "old test key on a real network": (
        relaying(relayer={"key": RELAYER_KEY, "old_keys": [OLD_KEY, TEST_KEY]}), "[relayer] old_keys no. 2: everybody"
    ),
    "old key that is the new one": (
        relaying(relayer={"key": RELAYER_KEY, "old_keys": [RELAYER_KEY]}), "[relayer] old_keys: a key is named twice"
    ),
    "no old key": (relaying(relayer={"key": RELAYER_KEY, "old_keys": ["hello"]}), "this is no private key"),
    "guessable key": (relaying(relayer={"key": "00" * 31 + "2a"}), "[relayer] key: everybody has this test key"),
    "test account on a real network": (
        relaying(networks=[{**BASE, "pay_to": TEST_ACCOUNT}]),
        "pay_to: everybody has the key",
    ),
    "test token on a real network": (
        relaying(
            networks=[
                BASE
                | {
                    "tokens": [
                        {
                            "address": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
                            "name": "USDC",
                            "version": "2",
                            "decimals": 6,
                        }
                    ]
                }
            ]
        ),
        "this is Base Sepolia's test token",
    ),
    "price 0": ({"prices": {"enrich/phone": "0"}}, "enrich/phone: a price is above zero"),
    "price 0.0": ({"prices": {"enrich/phone": "0.000000"}}, "enrich/phone: a price is above zero"),
    "float price": ({"prices": {"enrich/phone": 0.33}}, "enrich/phone: write the price in quotes"),
    "negative price": ({"prices": {"enrich/phone": "-1"}}, "enrich/phone: an amount of USD has digits"),
    "cookies with any origin": ({"service": {"allow_credentials": True}}, "there is no such setting"),
    "all origins and one": (
        {"service": {"allowed_origins": ["*", "https://a.example.com"]}},
        'allowed_origins: "*" allows every origin',
    ),
    "origin null": ({"service": {"allowed_origins": ["null"]}}, "allowed_origins no. 1: an origin is spelled"),
    "http to the public": ({"service": {"public_url": "http://api.example.com"}}, "payments travel encrypted"),
    "public_url with a path": ({"service": {"public_url": "https://a.example.com/x"}}, "public_url: only scheme, host"),
    "no public_url": ({"service": {"host": "0.0.0.0"}}, "public_url: is missing"),
    "sandbox for everybody": (
        {"settlement": {"kind": "sandbox"}, "service": {"host": "0.0.0.0", "public_url": "http://localhost:8402"}},
        "[service] host: the sandbox takes play money",
    ),
    "sandbox behind a proxy": (
        {"settlement": {"kind": "sandbox"}, "service": {"public_url": "https://api.example.com"}},
        "[service] public_url: the sandbox takes play money",
    ),
    "sandbox with a real network": (
        {"settlement": {"kind": "sandbox"}, "networks": [BASE]},
        "[[networks]] eip155:8453, id: the sandbox is no chain",
    ),
    "sandbox with an upstream that costs": (
        {"settlement": {"kind": "sandbox"}, "http_upstreams": [{"id": "a/b"}]},
        "[[http_upstreams]] no. 1: the sandbox takes play money",
    ),
    "sandbox with a provider that costs": (
        {"settlement": {"kind": "sandbox"}, "providers": {"whitepages": {"key": "k", "cost_per_call": "0.10"}}},
        "[providers.whitepages]: the sandbox takes play money",
    ),
    "a provider's cost as a float": (
        {"providers": {"whitepages": {"cost_per_call": 0.1}}},
        "[providers.whitepages] cost_per_call: write the price in quotes",
    ),
    "no rpc_urls": (relaying(networks=[{"id": BASE["id"], "pay_to": OWN}]), "rpc_urls: is missing"),
    "facilitator's word unasked": (
        {**facilitated(), "networks": [{"id": BASE["id"], "pay_to": OWN}]},
        "or set trust_facilitator = true",
    ),
    "facilitator without url": ({"settlement": {"kind": "facilitator"}, "networks": [BASE]}, "url: is missing"),
    "facilitator in the clear": (facilitated(url="http://facilitator.example.com"), "signed payments travel there"),
    "a key without its id": (facilitated(jwt_secret=CALLER.secret), "[facilitator] jwt_key_id: is missing beside jwt_"),
    "an id without its key": (facilitated(jwt_key_id=CALLER.id), "[facilitator] jwt_secret: is missing beside jwt_key"),
    "a bearer and a key": (facilitated(bearer="b", **KEYED), "bearer: stands beside jwt_key_id and jwt_secret"),
    "a bearer and half a key": (facilitated(bearer="b", jwt_key_id="me"), "bearer: stands beside jwt_key_id, and"),
    "no secret of a key": (facilitated(**{**KEYED, "jwt_secret": "hello"}), "jwt_secret: this is no API key's secret"),
    "half a secret of a key": (
        facilitated(**{**KEYED, "jwt_secret": CALLER.secret[:44]}),
        "jwt_secret: this is no API key's secret",
    ),
    "an empty secret of a key": (facilitated(**{**KEYED, "jwt_secret": ""}), "jwt_secret: this is no API key's secret"),
    "an empty id of a key": (facilitated(**{**KEYED, "jwt_key_id": ""}), "jwt_key_id: string should match"),
    "a key and a password": (facilitated(url="https://me:it@x.example.com", **KEYED), "url: has a name"),
    "a bearer and a password": (facilitated(url="https://me@x.example.com", bearer="b"), "url: has a name"),
    "nobody settles": ({"networks": [BASE]}, "[settlement] kind: networks are configured, but nobody settles"),
    "relayer without network": (relaying(networks=[]), "[[networks]]: settlement"),
    "network twice": (relaying(networks=[BASE, BASE]), "eip155:8453 is there twice"),
    "unknown network without token": (relaying(networks=[{**BASE, "id": "eip155:9"}]), "name its tokens"),
    "guessable operator token": ({"service": {"operator_token": "admin"}}, "operator_token: it can be guessed"),
    "everybody a proxy": ({"service": {"trusted_proxies": ["0.0.0.0/0"]}}, "this trusts everybody"),
    "a limit of nothing": ({"rate_limits": {"polls": "0 per minute"}}, "polls: this lets nobody in at all"),
    "a limit in other words": ({"rate_limits": {"polls": "seldom"}}, "polls: this is no limit: write it as"),
    "a limit that is a number": ({"rate_limits": {"polls": 5}}, "[rate_limits] polls"),
    "unknown setting": ({"service": {"prot": 1}}, "[service] prot: there is no such setting; did you mean port?"),
    "unknown table": ({"servise": {}}, "[servise]: there is no such table; did you mean service?"),
    "a table of ours": ({"source": "x"}, "[source]: there is no such table"),
    "a table that is none": ({"service": 3}, "[service]: this is one table"),
    "one for several": ({"networks": BASE}, "[networks]: there can be several: write [[networks]]"),
    "several for one": ({"service": [{"port": 1}]}, "[service]: this is one table: write [service]"),
    "no id that is one": (relaying(networks=[BASE, {**BASE, "id": "base"}]), "[[networks]] base, id: 'base'"),
    "no way to sign": (relaying(networks=[{**BASE, "methods": ["cash"]}]), "methods no. 1: 'cash'"),
    "money to a token": (
        relaying(networks=[{**BASE, "pay_to": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"}]),
        "pay_to: this is a token's contract",
    ),
    "money to Permit2": (
        relaying(networks=[{**BASE, "pay_to": "0x000000000022D473030F116dDEE9F6B43aC78BA3"}]),
        "pay_to: this is the Permit2 contract",
    ),
    "deposits to pay_to": (
        relaying(networks=[BASE], deposits={"address": OWN}),
        "[deposits] address: this is the pay_to of eip155:8453",
    ),
    "deposits to a test account": (
        relaying(networks=[BASE], deposits={"address": TEST_ACCOUNT}),
        "[deposits] address: everybody has the key",
    ),
    "deposits to a token": (
        relaying(networks=[BASE], deposits={"address": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"}),
        "[deposits] address: this is a token's contract",
    ),
    "deposits that nobody sees": (
        {"settlement": {"kind": "sandbox"}, "deposits": {"address": OTHER}},
        "[deposits] address: transfers are seen on a chain",
    ),
    "settled first, and no top-ups": (
        relaying(networks=[BASE], deposits={"enabled": False}, settle={"enrich/phone": "before"}),
        '[settle] "enrich/phone": a payment that is settled before the work tops',
    ),
    "an API settled first, and no top-ups": (
        relaying(networks=[BASE], deposits={"enabled": False}, http_upstreams=[{"settle": "before"}]),
        "[[http_upstreams]] no. 1, settle: a payment that is settled before",
    ),
    "settled first, and nobody can claim": (
        relaying(networks=[BASE], registration={"enabled": False}, settle={"enrich/phone": "before"}),
        '[settle] "enrich/phone": what a miss leaves to a payer without an agent',
    ),
    "settled at another time": ({"settle": {"enrich/phone": "never"}}, "[settle] enrich/phone: 'never'"),
    "a deposit of nothing": ({"deposits": {"min_usd": "0"}}, "[deposits] min_usd: a price is above zero"),
    "a match without a zone": (
        {"deposit_match": {"percent": 5, "ends_at": "2027-01-01T00:00:00"}},
        "[deposit_match] ends_at",
    ),
    "no such kind": ({"settlement": {"kind": "magic"}}, "[settlement] kind: 'magic'"),
    "a switch for a number": ({"service": {"port": True}}, "[service] port: this takes a number"),
    "no such port": ({"service": {"port": 99999}}, "[service] port: 99999"),
}  # fmt: skip


@pytest.mark.parametrize(("tables", "told"), DANGERS.values(), ids=DANGERS)
def test_dangerous_configuration_is_refused_with_a_clear_line(tables: dict[str, Any], told: str) -> None:
    """F-178."""
    found = mistakes(tables)
    assert len(found) == 1, found
    assert told in found[0]


def test_settled_first_where_what_is_left_can_be_spent() -> None:
    first = {"settle": {"enrich/phone": "before", "enrich/person": "after"}}
    for tables in (
        relaying(networks=[BASE], **first),
        relaying(networks=[BASE], service={"anonymous": "none"}, registration={"enabled": False}, **first),
        {"settlement": {"kind": "sandbox"}, **first},
    ):
        assert parse(tables).settle == first["settle"]
    last = {"settle": {"enrich/phone": "after"}, "deposits": {"enabled": False}, "registration": {"enabled": False}}
    assert parse(relaying(networks=[BASE], **last)).settle == last["settle"]


def test_pay_to_is_not_the_relayer() -> None:
    """F-178. The key that lies on the server must not hold the money."""
    keys = {"key": RELAYER_KEY, "old_keys": [OLD_KEY]}
    relayer, old = parse(relaying(relayer=keys)).relayer.addresses
    for spelling in (relayer, relayer.lower(), old):
        (mistake,) = mistakes(relaying(relayer=keys, networks=[{**BASE, "pay_to": spelling}]))
        assert "the relayer's own address" in mistake


def test_deposits_do_not_go_to_the_relayer() -> None:
    keys = {"key": RELAYER_KEY, "old_keys": [OLD_KEY]}
    for address in parse(relaying(relayer=keys)).relayer.addresses:
        (mistake,) = mistakes(relaying(relayer=keys, deposits={"address": address.lower()}))
        assert "the relayer's own address" in mistake


def test_a_match_is_off_by_default() -> None:
    assert parse({}).deposit_match.rule is None
    rule = parse({"deposit_match": {"percent": 20, "ends_at": "2027-01-01T00:00:00Z"}}).deposit_match.rule
    assert rule is not None
    assert (rule.percent, rule.max_bonus_micros, rule.ends_ms) == (20, 10_000_000, 1_798_761_600_000)


def test_what_is_dangerous_with_real_money_is_welcome_on_a_test_network() -> None:
    tables = relaying(relayer={"key": TEST_KEY}, networks=[SEPOLIA])
    assert parse(tables).relayer.addresses[0].lower() in KNOWN_TO_ALL


def test_a_trusted_facilitator_needs_no_rpc() -> None:
    tables = {**facilitated(trust_facilitator=True), "networks": [{"id": BASE["id"], "pay_to": OWN}]}
    assert parse(tables).networks[0].rpc_urls == ()


def test_a_facilitator_knows_us_by_a_token_or_by_a_key_or_not_at_all() -> None:
    assert parse(facilitated()).facilitator.credential is None
    assert parse(facilitated(bearer="some-token")).facilitator.credential == "some-token"
    for caller in (CALLER, Caller("ES256")):
        environ = {"ID": caller.id, "SECRET": caller.secret.replace("\n", "\\n")}
        key = parse(facilitated(jwt_key_id="${ID}", jwt_secret="${SECRET}"), environ).facilitator.credential
        assert isinstance(key, ApiKey)
        assert (key.id, key.algorithm) == (caller.id, caller.algorithm)


def test_mistakes_with_a_key_are_told_beside_the_others() -> None:
    tables = facilitated(url="http://far.example.com", bearer="some", jwt_secret="hello", jwt_key_id="a key")
    places = [mistake.partition(": ")[0] for mistake in mistakes({**tables, "service": {"port": 0}})]
    assert places == ["[service] port", "[facilitator] url", "[facilitator] jwt_key_id", "[facilitator] jwt_secret"]
    (mistake,) = mistakes(facilitated(jwt_key_id="me"), {"FAREGATE_FACILITATOR__JWT_SECRET": "hello"})
    assert mistake.startswith("FAREGATE_FACILITATOR__JWT_SECRET: this is no API key's secret")


def test_free_upstreams_may_stand_in_the_sandbox() -> None:
    settings = parse({"settlement": {"kind": "sandbox"}, "http_upstreams": [{"id": "a/b", "free": True}]})
    assert settings.sandbox


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_loopback_needs_no_public_url(host: str) -> None:
    shown = f"[{host}]" if ":" in host else host
    assert parse({"service": {"host": host}}).service.origin == f"http://{shown}:8402"


# One report


BROKEN = """\
[service]
prot = 3
port = 99999
host = "0.0.0.0"
description = nope
[settlement]
kind = "relayer"
[relayer]
key = "${NOPE}"
[[networks]]
id = "eip155:8453"
pay_to = "0x0000000000000000000000000000000000000000"
[[networks]]
id = "eip155:1"
pay_to = "0x52908400098527886E0F7030069857D2E4169EE7"
[prices]
"enrich/phone" = 0.33
"""


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "faregate.toml"
    file.write_text(BROKEN)
    with pytest.raises(SettingsError) as caught:
        load(file, {}, also=lambda settings: ["[[http_upstreams]] no. 1, url: is missing"])
    places = [mistake.partition(": ")[0] for mistake in caught.value.mistakes]
    assert places == [
        f"{file} line 5",
        "[relayer] key",
        "[service] port",
        "[service] prot",
        "[[networks]] eip155:8453, pay_to",
        "[prices] enrich/phone",
        "[service] public_url",
        "[[networks]] eip155:1, rpc_urls",
        "[[http_upstreams]] no. 1, url",
    ]


def test_broken_toml_is_told_with_its_line_and_without_its_value(tmp_path: Path) -> None:
    file = tmp_path / "faregate.toml"
    file.write_text('[service]\nname = "ok"\n\n[relayer]\nkey = my-very-secret-key\ngas_low_eth = = 1\n')
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    assert [mistake.partition(": ")[0] for mistake in caught.value.mistakes] == [f"{file} line 5", f"{file} line 6"]
    assert "secret" not in str(caught.value.mistakes)


@pytest.mark.parametrize(
    "text", ["[service\nport = 1\n", 'rpc_urls = ["a"\npay_to = "x"\n', 'name = "\n', "= 1\n", "["]
)
def test_a_broken_structure_ends_the_reading(tmp_path: Path, text: str) -> None:
    file = tmp_path / "faregate.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file, {})
    assert len(caught.value.mistakes) == 1
    assert "line" in caught.value.mistakes[0]


def test_a_table_that_stands_there_twice(tmp_path: Path) -> None:
    """As when a snippet is put below what `faregate init` wrote."""
    file = tmp_path / "faregate.toml"
    file.write_text("[relayer]\n# key = 1\n[relayer]\nmax_fee_gwei = 2\n")
    with pytest.raises(SettingsError, match=r"line 3: .* twice; put these keys under the first"):
        load(file, {})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="faregate init"):
        load(tmp_path / "none.toml", {})
    (tmp_path / "latin.toml").write_bytes(b'[service]\nname = "\xe9"\n')
    with pytest.raises(SettingsError, match="UTF-8"):
        load(tmp_path / "latin.toml", {})
    (tmp_path / "deep.toml").write_text(f"name = {'[' * 5000}{']' * 5000}\n")
    with pytest.raises(SettingsError, match="too deep"):
        load(tmp_path / "deep.toml", {})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "faregate.toml"
    file.write_bytes(b"\xef\xbb\xbf[service]\r\nport = 9000\r\n")
    assert load(file, {}).service.port == 9000


def test_every_setting_is_explained() -> None:
    """The sentences go into error messages, into `faregate init` and into the README."""
    for name, table in Settings.model_fields.items():
        for model in (table.annotation, *getattr(table.annotation, "__args__", ())):
            for key, field in getattr(model, "model_fields", {}).items():
                assert field.description, f"{name}.{key}"


def test_numbers_of_toml_are_read_as_they_are_meant() -> None:
    tables = tomllib.loads("[settlement]\nwait_s = 20\n[limits]\nheader_timeout_s = 2.5\n")
    settings = parse(tables)
    assert (settings.settlement.wait_s, settings.limits.header_timeout_s) == (20.0, 2.5)


def test_one_string_for_a_list_hides_no_other_mistake(tmp_path: Path) -> None:
    tables = {"service": {"allowed_origins": "evil", "name": "two\nlines"}, "http_upstreams": [{"id": "A b"}]}
    with pytest.raises(SettingsError) as caught:
        parse(tables, {}, base=tmp_path, also=of_upstreams)
    told = "\n".join(caught.value.mistakes)
    for part in ("allowed_origins", "[service] name: this is printed", "[[http_upstreams]]"):
        assert part in told


# Web research


@pytest.mark.parametrize(
    ("tables", "where"),
    [
        ({"llm": {"model": "m"}}, "[llm] model"),
        ({"llm": {"api": "openai", "model": "m", "key": "12345678"}}, "[llm] url"),
        ({"llm": {"api": "openai", "url": "https://llm.example.com/v1", "key": "12345678"}}, "[llm] model"),
        ({"llm": {"api": "openai", "url": "https://llm.example.com/v1", "model": "m"}}, "[llm] key"),
        ({"llm": {"api": "openai", "url": "http://llm.example.com/v1", "model": "m", "key": "12345678"}}, "[llm] url"),
        ({"llm": {"api": "anthropic", "model": "m", "private": True}}, "[llm] key"),
        ({"llm": {"api": "anthropic", "model": "m", "key": "12345678", "input_usd": "1"}}, "[llm] output_usd"),
        ({"llm": {"api": "anthropic", "model": "m", "key": "12345678", "output_usd": "1"}}, "[llm] input_usd"),
        ({"web": {"ceiling": "0.99"}}, "[web] ceiling"),
        ({"web": {"pages": 21}}, "[web] pages"),
        ({"prices": {"enrich/websearch": "1.51"}}, "[web] ceiling"),
        ({"providers": {"searxng": {"private": True}}}, "[providers.searxng] url"),
        ({"providers": {"brave": {"cost_per_call": "0"}}}, "[providers.brave] key"),
        ({"providers": {"exa": {"key": "a-key-of-mine"}}}, "[providers.exa] cost_per_call"),
        ({"waterfalls": {"enrich/websearch": ["searxng"]}}, '[waterfalls] "enrich/websearch"'),
        ({"waterfalls": {"enrich/websearch": ["whitepages"]}}, '[waterfalls] "enrich/websearch"'),
    ],
)  # fmt: skip
def test_a_research_that_is_half_configured_is_none(tables: dict[str, Any], where: str) -> None:
    priced = {"input_usd": "0.5", "output_usd": "1.5"} if where in ("[llm] url", "[llm] model", "[llm] key") else {}
    if "api" in tables.get("llm", {}):
        tables = {"llm": {**priced, **tables["llm"]}}
    with pytest.raises(SettingsError) as caught:
        parse(tables, {}, also=of_upstreams)
    assert any(mistake.startswith(f"{where}: ") for mistake in caught.value.mistakes), caught.value.mistakes


def test_a_research_that_is_whole_is_taken() -> None:
    tables = {
        "providers": {
            "searxng": {"url": "http://127.0.0.1:8888", "private": True},
            "tavily": {"cost_per_call": "0"},
            "serper": {"key": "a-key-of-mine", "cost_per_call": "0.001"},
        },
        "waterfalls": {"enrich/websearch": ["local_directory", "searxng", "serper", "tavily"]},
        "llm": {"api": "openai", "url": "http://127.0.0.1:11434/v1", "model": "m", "private": True, "input_usd": "0",
                "output_usd": "0"},
        "prices": {"enrich/websearch": "0.75"},
    }  # fmt: skip
    settings = parse(tables, {}, also=of_upstreams)
    assert "a-key-of-mine" not in repr(settings)


def test_play_money_buys_no_model() -> None:
    model = {"api": "anthropic", "model": "m", "key": "12345678", "input_usd": "1", "output_usd": "0"}
    (mistake,) = mistakes({"settlement": {"kind": "sandbox"}, "llm": model})
    assert mistake.startswith("[llm] api: ")
