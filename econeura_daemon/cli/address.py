"""Where the daemon is: named by the user, or found."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs

from econeura_daemon.cli.exits import CommandError, Exit
from econeura_daemon.finding import find_url


@attrs.frozen
class Address:
    """How to reach a daemon: a unix socket, or a host and a port; ``prefix`` goes before every path."""

    url: str
    host: str
    port: int
    tls: bool = False
    prefix: str = ""
    unix_path: str | None = None

    @property
    def authority(self) -> str:
        """Return the ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in {80, 443} or self.unix_path else f"{host}:{self.port}"


def parse_address(url: str) -> Address:
    """Read ``http://…``, ``https://…`` or ``unix:PATH``. Raises `CommandError`."""
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        path = f"/{path.lstrip('/')}" if path.startswith("//") else path
        if not path:
            raise CommandError(Exit.USAGE, f"{url!r} names no socket: expected unix:PATH")
        return Address(url=url, host="localhost", port=80, unix_path=path)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CommandError(Exit.USAGE, f"{url!r} is no address: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise CommandError(Exit.USAGE, f"expected http://HOST:PORT, https://… or unix:PATH, got {url!r}")
    if parts.username is not None:
        raise CommandError(Exit.USAGE, "an address carries no user name; give --token")
    tls = parts.scheme == "https"
    return Address(
        url=url,
        host=parts.hostname,
        port=port or (443 if tls else 80),
        tls=tls,
        prefix=parts.path.rstrip("/"),
    )


def find_address(environ: Mapping[str, str]) -> Address:
    """Return the address of the daemon of this machine: a running one's own word, else the default."""
    return parse_address(find_url(environ))
