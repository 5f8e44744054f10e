"""F-158: who is believed about where a request comes from."""

import pytest

from gateway.edge.visit import Proxies, RequestIds, carries_token, counted_as, is_loopback


def forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value.encode("latin-1")) for value in values]


@pytest.mark.parametrize(
    ("trusted", "peer", "values", "client"),
    [
        ((), "203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        ((), "127.0.0.1", ("198.51.100.1",), "127.0.0.1"),
        (("127.0.0.1",), "127.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        (("127.0.0.1",), "127.0.0.1", (), "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        (("10.0.0.0/8",), "10.1.2.3", ("1.1.1.1, 198.51.100.1",), "198.51.100.1"),
        (("10.0.0.0/8",), "10.1.2.3", ("1.1.1.1, 198.51.100.1, 10.9.9.9",), "198.51.100.1"),
        (("10.0.0.0/8",), "10.1.2.3", ("1.1.1.1", "198.51.100.1"), "198.51.100.1"),
        (("10.0.0.0/8",), "10.1.2.3", ("10.4.4.4, 10.5.5.5",), "10.4.4.4"),
        (("10.0.0.0/8",), "10.1.2.3", ("198.51.100.1, unknown",), "10.1.2.3"),
        (("10.0.0.0/8",), "10.1.2.3", ("198.51.100.1,",), "10.1.2.3"),
        (("10.0.0.0/8",), "10.1.2.3", ("198.51.100.1:1234",), "10.1.2.3"),
        (("10.0.0.0/8",), "10.1.2.3", ("\xff\x00, x" * 50,), "10.1.2.3"),
        (("::1", "fd00::/8"), "::1", ("2001:db8::7, fd00::1",), "2001:db8::7"),
        (("127.0.0.1",), "::ffff:127.0.0.1", ("198.51.100.1",), "198.51.100.1"),
    ],
)
def test_the_nearest_hop_that_is_not_ours(
    trusted: tuple[str, ...], peer: str, values: tuple[str, ...], client: str
) -> None:
    assert Proxies(trusted).client(peer, forwarded(*values)) == client


def test_ten_thousand_forged_addresses_are_one_caller() -> None:
    proxies = Proxies(("10.0.0.1",))
    seen = {proxies.client("203.0.113.9", forwarded(f"10.0.{i // 250}.{i % 250}")) for i in range(10_000)}
    behind = {proxies.client("10.0.0.1", forwarded(f"1.2.{i // 250}.{i % 250}, 203.0.113.9")) for i in range(10_000)}
    assert seen == behind == {"203.0.113.9"}


def test_ipv6_counts_by_prefix() -> None:
    counted = {counted_as(f"2001:db8:1:2:{i:x}::{i:x}") for i in range(1, 1000)}
    assert counted == {("2001:db8:1:2::/64", "2001:db8:1::/48")}
    assert counted_as("203.0.113.9") == counted_as("::ffff:203.0.113.9") == ("203.0.113.9/32", "203.0.113.0/24")
    assert counted_as("fe80::1%eth0") == ("fe80::/64", "fe80::/48")


@pytest.mark.parametrize("here", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "", "testclient"])
def test_this_machine_is_no_caller_to_count(here: str) -> None:
    assert counted_as(here) is None


@pytest.mark.parametrize("wrong", ["nowhere", "10.0.0.0/99", ""])
def test_a_proxy_is_an_address_or_a_network(wrong: str) -> None:
    with pytest.raises(ValueError):
        Proxies((wrong,))


def test_loopback_in_all_its_spellings() -> None:
    assert [is_loopback(text) for text in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")] == [True] * 4
    assert [is_loopback(text) for text in ("10.0.0.1", "", "localhost", "128.0.0.1")] == [False] * 4


def test_request_ids_are_apart_even_at_the_same_millisecond() -> None:
    first, second = RequestIds(1_790_000_000_000, b"\x01" * 10), RequestIds(1_790_000_000_000, b"\x02" * 10)
    ids = {generator.new() for generator in (first, second) for _ in range(1000)}
    assert len(ids) == 2000
    assert {len(each) for each in ids} == {30}


def test_tokens_are_seen_in_any_url() -> None:
    token = "411k_" + "a" * 49
    for text in (token, f"?x={token}&y", f"/a/{token}/b", token.replace("_", "%5f"), f"x=%22{token}%22"):
        assert carries_token(text.encode())
    for text in ("a" * 60, "411k_" + "a" * 48, "req_01m851jjd8s5qepr0000000001", "é%ff"):
        assert not carries_token(text.encode("latin-1"))
