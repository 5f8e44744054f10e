"""Chains, tokens, addresses."""

import pytest
from x402.mechanisms.evm import constants
from x402.mechanisms.evm.default_assets import find_default_asset

from gateway.core.networks import (
    EXACT_PERMIT2_PROXY,
    MULTICALL3,
    NETWORKS,
    PERMIT2,
    SANDBOX,
    UPTO_PERMIT2_PROXY,
    Network,
    chain_id,
    checksum_address,
    keccak,
    parse_address,
)

USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"


@pytest.mark.parametrize("network", [network for network in NETWORKS.values() if network.id != SANDBOX])
def test_official_clients_know_each_token_by_the_same_domain(network: Network) -> None:
    for token in network.tokens:
        known = find_default_asset(token.address, network.id)
        assert known is not None
        assert (known["asset"], known["name"], known["version"], known["decimals"]) == (
            token.address, token.name, token.version, token.decimals,
        )  # fmt: skip


def test_official_clients_know_the_same_contracts() -> None:
    assert constants.PERMIT2_ADDRESS == PERMIT2
    assert constants.X402_EXACT_PERMIT2_PROXY_ADDRESS == EXACT_PERMIT2_PROXY
    assert constants.X402_UPTO_PERMIT2_PROXY_ADDRESS == UPTO_PERMIT2_PROXY
    assert constants.MULTICALL3_ADDRESS == MULTICALL3


def test_every_address_of_the_tables_has_its_checksum() -> None:
    addresses = [token.address for network in NETWORKS.values() for token in network.tokens]
    for address in (*addresses, PERMIT2, EXACT_PERMIT2_PROXY, UPTO_PERMIT2_PROXY, MULTICALL3):
        assert checksum_address(address.lower()) == address


def test_networks_are_found_by_the_id_they_have() -> None:
    for id, network in NETWORKS.items():
        assert network.id == id == f"eip155:{network.chain_id}"
        assert {token.network for token in network.tokens} == {id}


def test_the_sandbox_is_a_token_no_client_takes_for_money() -> None:
    (token,) = NETWORKS[SANDBOX].tokens
    assert NETWORKS[SANDBOX].testnet
    assert find_default_asset(token.address, SANDBOX) is None
    assert token.asset == f"eip155:31337/{token.address.lower()}"


def test_keccak_is_ethereums_and_not_the_later_standard() -> None:
    assert keccak(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@pytest.mark.parametrize("text", [USDC, USDC.lower(), "0x" + USDC[2:].upper()])
def test_an_address_gets_its_checksum(text: str) -> None:
    assert parse_address(text) == USDC


@pytest.mark.parametrize(
    "text", ["", "0x", USDC[:-1], USDC + "0", USDC[2:], "0X" + USDC[2:], " " + USDC, USDC[:-1] + "g", USDC[:-1] + "٣"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None
    with pytest.raises(ValueError, match="no address"):
        checksum_address(text)


def test_a_mistyped_address_is_noticed_by_its_checksum() -> None:
    assert parse_address(USDC.replace("8335", "8336")) is None
    assert parse_address(USDC.replace("fCD", "fcD")) is None


@pytest.mark.parametrize(
    "text", ["", "eip155", "eip155:", "eip155:0", "eip155:01", "eip155:-1", "solana:1", "base", "eip155:1 "]
)
def test_what_is_no_evm_network_has_no_chain_id(text: str) -> None:
    with pytest.raises(ValueError, match="no network"):
        chain_id(text)
