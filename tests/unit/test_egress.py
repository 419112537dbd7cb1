"""The egress guard against the registries, block by block, and against what hides one address in another."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from econeura_daemon.core.errors import EgressRefusedError
from econeura_daemon.wire.egress import REFUSED_V4, REFUSED_V6, EgressGuard

# Copied by hand from the registries, not from the module: first and last address of each block that is not
# "Globally Reachable". https://www.iana.org/assignments/iana-ipv4-special-registry, …ipv6-special-registry.
IANA_V4 = [
    ("0.0.0.0", "0.255.255.255", "RFC 791"),
    ("10.0.0.0", "10.255.255.255", "RFC 1918"),
    ("100.64.0.0", "100.127.255.255", "RFC 6598"),
    ("127.0.0.0", "127.255.255.255", "RFC 1122"),
    ("169.254.0.0", "169.254.255.255", "RFC 3927"),
    ("172.16.0.0", "172.31.255.255", "RFC 1918"),
    ("192.0.0.0", "192.0.0.255", "RFC 6890"),
    ("192.0.2.0", "192.0.2.255", "RFC 5737"),
    ("192.88.99.0", "192.88.99.255", "RFC 7526"),
    ("192.168.0.0", "192.168.255.255", "RFC 1918"),
    ("198.18.0.0", "198.19.255.255", "RFC 2544"),
    ("198.51.100.0", "198.51.100.255", "RFC 5737"),
    ("203.0.113.0", "203.0.113.255", "RFC 5737"),
    ("224.0.0.0", "239.255.255.255", "RFC 5771"),
    ("240.0.0.0", "255.255.255.255", "RFC 1112, RFC 919"),
]
IANA_V6 = [
    ("::", "::ffff:ffff", "RFC 4291, with ::1"),
    ("::ffff:0:0:0", "::ffff:0:ffff:ffff", "RFC 2765"),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "RFC 8215"),
    ("100::", "100::ffff:ffff:ffff:ffff", "RFC 6666"),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 4380"),
    ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "RFC 5180"),
    ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 4843"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 3849"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 3056"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 9637"),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 9602"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 4193"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 4291"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 3879"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "RFC 4291"),
]
SINGLE = [
    ("169.254.169.254", "metadata"),  # AWS, Azure, Google, DigitalOcean, OpenStack
    ("169.254.170.2", "metadata"),  # AWS ECS
    ("100.100.100.200", "metadata"),  # Alibaba
    ("192.0.0.192", "metadata"),  # Oracle
    ("fd00:ec2::254", "metadata"),  # AWS
    ("fd20:ce::254", "metadata"),  # Google
    ("168.63.129.16", "Azure"),
    ("::1", "loopback"),
    ("255.255.255.255", "broadcast"),
    ("::127.0.0.1", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:169.254.169.254", "metadata"),
    ("::ffff:0:127.0.0.1", "IPv4-translated"),
    ("64:ff9b::10.0.0.1", "NAT64 of 10.0.0.1, private"),
    ("64:ff9b::169.254.169.254", "NAT64 of 169.254.169.254"),
    ("64:ff9b:1::8.8.8.8", "NAT64 of local use"),
    ("2002:7f00:1::", "6to4"),
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"),
    ("fe80::1%eth0", "link-local"),
    ("4000::1", "reserved"),
    ("1::", "reserved"),
    ("e000::1", "reserved"),
]
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0",
    "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "168.63.129.15", "168.63.129.17",
    "223.255.255.255", "2000::1", "2606:4700:4700::1111", "2001:4860:4860::8888", "2001:200::1", "2003::1",
    "2001:db7:ffff::1", "2001:db9::1", "3ffe:ffff::1", "3fff:1000::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip


def refused(guard, text):
    try:
        guard.check(ip_address(text))
    except EgressRefusedError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("first", "last", "source"), IANA_V4 + IANA_V6)
def test_every_block_of_the_registries_is_refused_from_end_to_end(first, last, source):
    low, high = int(ip_address(first)), int(ip_address(last))
    kind = type(ip_address(first))
    for number in {low, low + 1, (low + high) // 2, high - 1, high}:
        with pytest.raises(EgressRefusedError):
            EgressGuard().check(kind(number))


@pytest.mark.parametrize(("text", "reason"), SINGLE)
def test_a_refusal_says_which_address_why_and_what_would_allow_it(text, reason):
    message = refused(EgressGuard(), text)
    assert message is not None
    assert str(ip_address(text)) in message
    assert reason in message
    assert "webhooks.allowed_networks" in message


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_pass_up_to_the_very_edges_of_the_blocks(text):
    assert refused(EgressGuard(), text) is None


@given(st.ip_addresses(v=4))
def test_an_ipv4_mapped_or_nat64_address_is_judged_as_the_address_inside(address):
    guard = EgressGuard([ip_network("10.0.0.0/8"), ip_network("127.0.0.0/8")])
    expected = refused(guard, str(address)) is None
    assert (refused(guard, f"::ffff:{address}") is None) is expected
    assert (refused(guard, f"64:ff9b::{address}") is None) is expected


@given(st.ip_addresses())
def test_whatever_python_calls_not_global_is_refused(address):
    inside = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    # Refused blocks hold a few global exceptions, homes of no receiver: the two differ in one direction only.
    if not (inside or address).is_global:
        assert refused(EgressGuard(), str(address)) is not None


@given(st.ip_addresses(), st.integers(0, 32))
def test_a_configured_network_lets_its_addresses_through_and_nothing_else(address, width):
    network = ip_network((address, width if address.version == 4 else width * 4), strict=False)
    guard = EgressGuard([network])
    assert refused(guard, str(address)) is None
    outside = int(network.broadcast_address) + 1
    if outside < 2**address.max_prefixlen:
        neighbour = type(address)(outside)
        if not (isinstance(neighbour, IPv6Address) and neighbour.ipv4_mapped):
            assert (refused(guard, str(neighbour)) is None) is (
                refused(EgressGuard(), str(neighbour)) is None
            )


def test_allowing_ipv4_loopback_covers_its_mapped_form_and_not_ipv6_loopback():
    guard = EgressGuard([ip_network("127.0.0.0/8")])
    assert refused(guard, "127.0.0.1") is None
    assert refused(guard, "::ffff:127.0.0.1") is None
    assert refused(guard, "::1") is not None
    assert refused(guard, "::127.0.0.1") is not None
    assert refused(guard, "2002:7f00:1::") is not None
    assert refused(guard, "0.0.0.0") is not None


def test_the_sentence_names_a_network_that_works_when_pasted_into_the_setting():
    for text, _ in SINGLE:
        message = refused(EgressGuard(), text)
        named = message.split('"')[1]
        assert refused(EgressGuard([ip_network(named)]), text.partition("%")[0]) is None


def test_a_scope_does_not_hide_an_address():
    assert refused(EgressGuard([ip_network("fe80::/10")]), "fe80::1%eth0") is None
    assert refused(EgressGuard(), "fe80::1%eth0") is not None


def test_the_tables_hold_well_formed_networks_of_their_own_family():
    assert all(isinstance(ip_network(name)[0], IPv4Address) and reason for name, reason in REFUSED_V4)
    assert all(isinstance(ip_network(name)[0], IPv6Address) and reason for name, reason in REFUSED_V6)
