"""``version``."""

import platform

import click

from econeura_daemon._version import VERSION
from econeura_daemon.cli.output import Output, output_option


@click.command
@output_option
def version(*, output: Output) -> None:
    """Tell the version.

    That of this program; `econeura-daemon health` tells the running daemon's.
    """
    output.record({"version": VERSION, "python": platform.python_version()})
