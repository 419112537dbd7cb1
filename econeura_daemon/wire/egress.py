"""Which addresses the daemon may call when somebody else chose the URL.

A subscriber's URL is a stranger's wish to make this machine open a connection. Whatever is not plainly a
public unicast address is refused, unless the operator listed its network in ``webhooks.allowed_networks``.

`ipaddress.is_global` alone would let through 6to4, NAT64, multicast and more, so the blocks stand here one by
one, each with its source. *IANA4* and *IANA6* are the special-purpose registries:
https://www.iana.org/assignments/iana-ipv4-special-registry and …/iana-ipv6-special-registry.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import attrs

from econeura_daemon.core.errors import EgressRefusedError

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

SETTING = "webhooks.allowed_networks"

REFUSED_V4: tuple[tuple[str, str], ...] = (
    # The narrower block first: the first that matches gives the reason.
    ("169.254.169.254/32", "a cloud's metadata service"),  # AWS, Azure, Google and most others
    ("169.254.170.2/32", "a cloud's metadata service"),  # AWS ECS task credentials
    ("100.100.100.200/32", "a cloud's metadata service"),  # Alibaba Cloud
    ("192.0.0.192/32", "a cloud's metadata service"),  # Oracle Cloud, older images
    ("168.63.129.16/32", "Azure's platform address"),  # public by the registry, reachable from every Azure VM
    ("0.0.0.0/8", "this network"),  # IANA4, RFC 791
    ("10.0.0.0/8", "private"),  # IANA4, RFC 1918
    ("100.64.0.0/10", "shared address space of carriers"),  # IANA4, RFC 6598
    ("127.0.0.0/8", "loopback"),  # IANA4, RFC 1122
    ("169.254.0.0/16", "link-local"),  # IANA4, RFC 3927
    ("172.16.0.0/12", "private"),  # IANA4, RFC 1918
    ("192.0.0.0/24", "IETF protocol assignments"),  # IANA4, RFC 6890
    ("192.0.2.0/24", "documentation"),  # IANA4, RFC 5737
    ("192.88.99.0/24", "6to4 relay anycast"),  # IANA4 (deprecated), RFC 7526
    ("192.168.0.0/16", "private"),  # IANA4, RFC 1918
    ("198.18.0.0/15", "benchmarking"),  # IANA4, RFC 2544
    ("198.51.100.0/24", "documentation"),  # IANA4, RFC 5737
    ("203.0.113.0/24", "documentation"),  # IANA4, RFC 5737
    ("224.0.0.0/4", "multicast"),  # RFC 5771
    ("255.255.255.255/32", "broadcast"),  # IANA4, RFC 919
    ("240.0.0.0/4", "reserved"),  # IANA4, RFC 1112
)

REFUSED_V6: tuple[tuple[str, str], ...] = (
    ("fd00:ec2::/32", "a cloud's metadata service"),  # AWS: fd00:ec2::254 and its neighbours (DNS, NTP, ECS)
    ("fd20:ce::254/128", "a cloud's metadata service"),  # Google Cloud
    ("::1/128", "loopback"),  # IANA6, RFC 4291
    ("::/96", "IPv4-compatible or unspecified"),  # RFC 4291 2.5.5.1 (deprecated), RFC 4291 2.5.2
    ("::ffff:0:0:0/96", "IPv4-translated"),  # RFC 2765 (SIIT)
    ("64:ff9b:1::/48", "NAT64 of local use"),  # IANA6, RFC 8215
    ("100::/64", "discard-only"),  # IANA6, RFC 6666
    ("2001::/32", "Teredo"),  # IANA6, RFC 4380
    ("2001::/23", "IETF protocol assignments"),  # IANA6, RFC 2928
    ("2001:db8::/32", "documentation"),  # IANA6, RFC 3849
    ("2002::/16", "6to4"),  # IANA6, RFC 3056: carries any IPv4 address
    ("3fff::/20", "documentation"),  # IANA6, RFC 9637
    ("5f00::/16", "segment routing"),  # IANA6, RFC 9602
    ("fc00::/7", "private (unique local)"),  # IANA6, RFC 4193
    ("fe80::/10", "link-local"),  # IANA6, RFC 4291
    ("fec0::/10", "site-local"),  # RFC 3879 (deprecated, still routed in places)
    ("ff00::/8", "multicast"),  # RFC 4291 2.7
)

_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all that IANA has given out for public unicast, RFC 4291 2.4
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_LOW_32 = 0xFFFF_FFFF


@attrs.frozen
class _Block:
    """A network as two integers: membership costs one ``&`` and one ``==``."""

    mask: int
    network: int
    name: str
    reason: str

    @classmethod
    def of(cls, network: IpNetwork, reason: str) -> "_Block":
        return cls(int(network.netmask), int(network.network_address), str(network), reason)


_BLOCKS_V4 = tuple(_Block.of(IPv4Network(name), reason) for name, reason in REFUSED_V4)
_BLOCKS_V6 = tuple(_Block.of(IPv6Network(name), reason) for name, reason in REFUSED_V6)


class EgressGuard:
    """Tells whether an address may be called; ``allowed``: what the operator permits beside the internet."""

    def __init__(self, allowed: Iterable[IpNetwork] = ()) -> None:
        self.allowed = tuple(allowed)
        self._allowed_v4 = [_Block.of(net, "") for net in self.allowed if isinstance(net, IPv4Network)]
        self._allowed_v6 = [_Block.of(net, "") for net in self.allowed if isinstance(net, IPv6Network)]

    def __repr__(self) -> str:
        return f"EgressGuard(allowed={[str(network) for network in self.allowed]})"

    def check(self, address: IpAddress) -> None:
        """Return if ``address`` may be called.

        An IPv4-mapped address (``::ffff:127.0.0.1``) is judged, and allowed, as the IPv4 address that the
        kernel would connect to; a NAT64 address as the IPv4 address that the gateway would.

        Raises `EgressRefusedError` with a sentence: which address, why, and what would allow it.
        """
        reason = self._refusal(address)
        if reason is not None:
            width = 32 if isinstance(address, IPv4Address) else 128
            plain = str(address).partition("%")[0]
            raise EgressRefusedError(
                f"the address {address} may not be called: {reason};"
                f' "{plain}/{width}" (or its network) in {SETTING} would allow it'
            )

    def _refusal(self, address: IpAddress) -> str | None:
        if isinstance(address, IPv4Address):
            return self._refusal_v4(int(address))
        number = int(address)
        if _within(self._allowed_v6, number):
            return None
        if address.ipv4_mapped is not None:
            return self._refusal_v4(number & _LOW_32)
        if address in _NAT64:
            reason = self._refusal_v4(number & _LOW_32)
            return reason and f"NAT64 of {IPv4Address(number & _LOW_32)}, {reason}"
        block = _within(_BLOCKS_V6, number)
        if block is not None:
            return f"{block.reason} ({block.name})"
        return None if address in _GLOBAL_UNICAST else f"reserved (outside of {_GLOBAL_UNICAST})"

    def _refusal_v4(self, number: int) -> str | None:
        if _within(self._allowed_v4, number):
            return None
        block = _within(_BLOCKS_V4, number)
        return None if block is None else f"{block.reason} ({block.name})"


def _within(blocks: Iterable[_Block], number: int) -> _Block | None:
    for block in blocks:
        if number & block.mask == block.network:
            return block
    return None
