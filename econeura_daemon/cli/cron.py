"""``cron``: schedules."""

import click

from econeura_daemon.cli.lazy import Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "next": Lazy(
            "econeura_daemon.cli.cron_next", "next_runs", "Show when a schedule is due; needs no daemon."
        )
    },
)
def cron() -> None:
    """When schedules are due."""
