"""What stands for a host, as registrants and the configuration may say it."""

import pytest

from econeura_daemon.core.hosts import host_flaw
from econeura_daemon.registry import RegisterService


@pytest.mark.parametrize(
    "host", ["localhost", "a_b-c.example.org.", "10.0.0.7", "::1", "2001:db8::1", "bücher.example", "a" * 63]
)
def test_a_name_or_an_address_is_a_host(host):
    assert host_flaw(host) is None


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("a..b", "'' is no part of a host name"),
        ("a" * 64, "is no part of a host name"),
        (".".join(["a" * 60] * 5), "at most 253 characters, this one has 304"),
        ("ü" * 300, "at most 253 characters, this one has 300"),
        (".".join(["ü"] * 40), "Domain too long"),
        ("a b", "'a b' is no part of a host name"),
        ("xn--a", "no internationalized name"),
        ("XN--A", "no internationalized name"),
        ("-ü", "no internationalized name"),
        ("127.1", "an address in an unusual form"),
        ("0x7f000001", "an address in an unusual form"),
        ("10.0.0.256", "an address in an unusual form"),
        ("a:1", "an address in an unusual form"),
        ("fe80::1%eth0", "names a network interface"),
        ("\ud800", "is no"),
    ],
)
def test_what_is_none_is_told(host, said):
    assert said in host_flaw(host)


def test_an_internationalized_name_is_registered_as_the_dns_has_it():
    body = RegisterService(type="web", host="bücher.example", port=80)
    assert body.registration("svc_1", 1000).host == "xn--bcher-kva.example"
