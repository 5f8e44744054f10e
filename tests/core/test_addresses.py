"""Which urls and addresses may be called, as a table. Those refused are tried on sockets in tests/test_outbound.py."""

import ipaddress

import pytest

from gateway.core.addresses import NEXT_DOOR_MESSAGE, host_of, refuse_address, refuse_url

OUTSIDE = [
    "http://example.com", "https://example.com/", "https://api.example.com:8443/v1/a?b=c%20d&e=f;g", "http://example.com:80/",
    "https://example.com:443/", "http://example.com:8080/x", "https://a-b.c_d.example.com/", "https://xn--bcher-kva.example/",
    "http://93.184.216.34/", "http://1.1.1.1:3000/", "http://[2606:4700:4700::1111]/", "https://[2a00:1450::1]:8443/x",
    "https://EXAMPLE.com/", "https://3com.example/", "https://1.2.3.4.nip.example/", "https://0x7f.example.com/",
]  # fmt: skip
NEXT_DOOR = [
    "http://127.0.0.1:9000/", "http://127.0.0.1:22/", "http://10.0.0.5/", "http://172.16.0.1:5432/", "http://192.168.1.10/",
    "http://100.64.0.7/", "http://[::1]:8080/", "http://[fd12:3456::1]/",
]  # fmt: skip


@pytest.mark.parametrize("url", OUTSIDE)
def test_the_outside_world_may_be_called(url: str) -> None:
    assert refuse_url(url) is None
    assert refuse_url(url, private=True) is None


@pytest.mark.parametrize("url", NEXT_DOOR)
def test_next_door_may_be_called_where_the_operator_says_so(url: str) -> None:
    assert refuse_url(url, private=True) is None
    assert refuse_url(url) is not None


def test_the_operator_is_told_of_the_switch() -> None:
    refusal = refuse_url("http://127.0.0.1:9000/")
    assert refusal is not None
    assert refusal == ("refused_address", NEXT_DOOR_MESSAGE)
    assert "private = true" in refusal.message


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "fd00::1", "::1"])
def test_no_refusal_names_what_was_refused(address: str) -> None:
    refusal = refuse_address(address)
    assert refusal is not None
    assert address not in refusal.message


def test_nothing_is_allowed_that_python_knows_not_to_be_global() -> None:
    """Our list is the narrower one, at every edge of the registries' networks."""
    edges = [
        f"{first}.{second}.{third}.{last}"
        for first in (0, 9, 10, 11, 99, 100, 126, 127, 128, 168, 169, 172, 191, 192, 197, 198, 202, 203, 223, 224, 255)
        for second in (0, 15, 16, 18, 19, 31, 32, 63, 64, 127, 128, 167, 168, 254, 255)
        for third in (0, 2, 99, 100, 113, 255)
        for last in (0, 1, 254, 255)
    ]
    for edge in edges:
        if refuse_address(edge) is None:
            assert ipaddress.ip_address(edge).is_global, edge


@pytest.mark.parametrize(
    ("url", "host"),
    [("https://API.Example.com:8443/x", "api.example.com"), ("http://[::1]/", "[::1]"), ("nonsense", None)],
)
def test_the_host_of_a_url(url: str, host: str | None) -> None:
    assert host_of(url) == host
