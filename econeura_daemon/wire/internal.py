"""Which addresses the daemon may call for a registered instance: internal networks, and still not everything.

Services stand in internal networks that webhooks must not reach. What carries no service stays refused: cloud
metadata and link-local addresses, multicast, what is reserved. A registrant chooses where a probe and a call go, and
reads what comes back.
"""

from ipaddress import IPv4Address, IPv6Address, ip_network

from econeura_daemon.core.errors import EgressRefusedError
from econeura_daemon.wire.egress import EgressGuard

INTERNAL = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7",
    )
)  # fmt: skip
"""What may be called beside the public internet: RFC 1918, RFC 6598, RFC 4193, loopback."""
_NEVER = tuple(ip_network(network) for network in ("100.100.100.200/32", "fd00:ec2::/32", "fd20:ce::254/128"))
"""Metadata services that stand in those networks: see `wire.egress`."""


class InternalGuard(EgressGuard):
    """Tells which addresses may be called for an instance; ``done``: what is done to it, for messages."""

    def __init__(self, done: str) -> None:
        super().__init__(INTERNAL)
        self._done = done

    def check(self, address: IPv4Address | IPv6Address) -> None:
        """Return if ``address`` may be called. Raises `EgressRefusedError`."""
        never = f"is never {self._done}"
        if any(address in network for network in _NEVER):
            raise EgressRefusedError(f"the address {address} {never}: a cloud's metadata service")
        try:
            super().check(address)
        except EgressRefusedError as refusal:
            reason = str(refusal).partition(";")[0].replace("may not be called", never)
            raise EgressRefusedError(reason) from None
