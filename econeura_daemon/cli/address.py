"""Where the daemon is: named by the user, or found by the `ready.json` that a running one leaves."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from econeura_daemon.cli.exits import CommandError, Exit
from econeura_daemon.core.locations import DEFAULT_FILE, state_directory

DEFAULT_URL = "http://127.0.0.1:3001"
SERVICE_STATE_DIR = "/var/lib/econeura-daemon"
"""Of the systemd unit."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - recognized, not bound


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
    for directory in dict.fromkeys(_state_dirs(environ)):
        url = _ready_url(Path(directory))
        if url is not None:
            return parse_address(url)
    return parse_address(DEFAULT_URL)


def _ready_url(directory: Path) -> str | None:
    from econeura_daemon.daemon.ready import read_ready

    ready = read_ready(directory)
    if ready is None or not ready.alive:
        return None
    for url in ready.urls:
        if url.startswith("unix:") and os.access(url.removeprefix("unix:"), os.W_OK):
            return url
    for url in ready.urls:
        if url.startswith("http"):
            for everywhere, here in _EVERYWHERE.items():
                url = url.replace(f"//{everywhere}:", f"//{here}:")  # noqa: PLW2901
            return url
    return None


def _state_dirs(environ: Mapping[str, str]) -> Iterator[str]:
    """Return where a daemon of this machine may keep its state, the likeliest first."""
    if environ.get("ECONEURA__DAEMON__STATE_DIR"):
        yield environ["ECONEURA__DAEMON__STATE_DIR"]
    try:
        raw = tomllib.loads(Path(environ.get("ECONEURA_CONFIG") or DEFAULT_FILE).read_text(encoding="utf-8"))
        configured = raw["daemon"]["state_dir"]
        if isinstance(configured, str) and configured:
            yield os.path.expanduser(configured)  # noqa: PTH111 - text
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass  # a wrong configuration is no reason not to ask the daemon
    users = state_directory(environ)
    if users is not None:
        yield users
    yield SERVICE_STATE_DIR
