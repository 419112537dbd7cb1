"""The search: a running daemon leaves its addresses in `ready.json`. The command line and registrants find it so."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from econeura_daemon.core.locations import DEFAULT_FILE, state_directory
from econeura_daemon.finding.ready import read_ready

DEFAULT_URL = "http://127.0.0.1:3001"
SERVICE_STATE_DIR = "/var/lib/econeura-daemon"
"""Of the systemd unit."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - recognized, not bound


def find_url(environ: Mapping[str, str]) -> str:
    """Return the address of the daemon of this machine: a running one's own word, else the default."""
    for directory in dict.fromkeys(_state_dirs(environ)):
        url = _ready_url(Path(directory))
        if url is not None:
            return url
    return DEFAULT_URL


def _ready_url(directory: Path) -> str | None:
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
