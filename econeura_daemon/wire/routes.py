"""How a host is called that is not called plainly: with HTTP/2 offered, through a proxy, or both. No I/O."""

from collections.abc import Iterable

import attrs

from econeura_daemon.core.settings import WebhookSettings
from econeura_daemon.wire.requests import Target


@attrs.frozen
class Route:
    """What differs from a plain call."""

    http2: bool
    """Offered by ALPN; a server that does not take it is spoken to in HTTP/1.1."""
    proxy: str | None = attrs.field(repr=False)
    """An ``http://`` URL, perhaps with a password."""


@attrs.frozen
class Routes:
    """What the settings say of hosts."""

    http2_hosts: tuple[str, ...]
    proxy: str | None = attrs.field(repr=False)
    proxy_hosts: tuple[str, ...]

    @classmethod
    def from_settings(cls, settings: WebhookSettings) -> "Routes":
        """Take them from the settings."""
        return cls(settings.http2_hosts, settings.proxy, settings.proxy_hosts)

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return bool(self.http2_hosts or (self.proxy is not None and self.proxy_hosts))

    def of(self, target: Target) -> Route | None:
        """Return how to call a target; None: plainly. HTTP/2 is agreed upon under TLS only (RFC 9113 3)."""
        http2 = target.tls and matches(self.http2_hosts, target.host)
        proxy = self.proxy if self.proxy is not None and matches(self.proxy_hosts, target.host) else None
        return Route(http2, proxy) if http2 or proxy is not None else None


def matches(patterns: Iterable[str], host: str) -> bool:
    """Tell whether one of them is the host's name, ``*.`` and a name that it ends in, or ``*``."""
    host = host.lower().removesuffix(".")
    for pattern in patterns:
        plain = pattern.lower()
        if plain in {"*", host} or (plain.startswith("*.") and host.endswith(plain[1:])):
            return True
    return False
