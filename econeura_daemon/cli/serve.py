"""``serve``."""

import click

from econeura_daemon.cli.config import config_option


@click.command(
    epilog="Exit codes: 0 drained, 1 failed, 70 forced at the drain's end, 75 another daemon holds the state "
    "directory, 78 bad configuration."
)
@config_option
def serve(*, config_file: str | None) -> int:
    """Run the daemon until SIGTERM or Ctrl-C.

    When it is ready, and only then, its log says so in one line with the event "ready" and its addresses.
    A first SIGTERM lets work finish (daemon.drain_timeout_ms), a second one does not. SIGHUP reads the
    configuration again.
    """
    from econeura_daemon.daemon.main import run

    return run(config_file)
