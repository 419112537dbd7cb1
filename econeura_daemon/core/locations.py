"""Where configuration and state are, unless somebody says otherwise. Light, for the command line."""

from collections.abc import Mapping

DEFAULT_FILE = "/etc/econeura/econeura.toml"
"""Read when no other file is named; it need not be there."""


def state_directory(environ: Mapping[str, str]) -> str | None:
    """Return where state lives when no setting says: systemd's directory, else the user's own."""
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return given
    if environ.get("XDG_STATE_HOME", "").startswith("/"):  # relative ones are invalid by the specification
        return f"{environ['XDG_STATE_HOME']}/econeura-daemon"
    return f"{environ['HOME']}/.local/state/econeura-daemon" if environ.get("HOME") else None
