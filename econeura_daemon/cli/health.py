"""``health`` and ``status``."""

from typing import Any

import click

from econeura_daemon.cli.client import Client, client_options
from econeura_daemon.cli.exits import Exit
from econeura_daemon.cli.output import Output, output_option

UNHEALTHY = 503


@click.command
@client_options
@output_option
def health(*, client: Client, output: Output) -> int:
    """Tell how every part of the daemon is doing.

    Exits with 1 if it is unhealthy.
    """
    data = client.get("/health", ok=(UNHEALTHY,))
    if output.for_people:
        click.echo(f"{data['service']} {data['version']} is {data['status']}, up {span(data['uptime'])}")
        components = [{"name": name, **component} for name, component in data["components"].items()]
        output.rows(
            components,
            [
                ("component", lambda row: row["name"]),
                ("status", lambda row: row["status"]),
                ("detail", lambda row: row["detail"]),
            ],
            empty="It tells of no components.",
        )
    else:
        output.item(data)
    return _code(data)


@click.command
@client_options
@output_option
def status(*, client: Client, output: Output) -> int:
    """Tell where the daemon is and what it is doing.

    Exits with 1 if it is unhealthy.
    """
    data = client.get("/health", ok=(UNHEALTHY,))
    stats = client.get("/v1/webhooks/stats")
    output.record(
        {
            "url": client.address.url,
            "status": data["status"],
            "version": data["version"],
            "uptime": span(data["uptime"]) if output.for_people else data["uptime"],
            "features": data["features"],
            "troubles": [
                f"{name}: {component['detail']}"
                for name, component in data["components"].items()
                if component["status"] != "healthy"
            ],
            **stats,
        }
    )
    return _code(data)


def _code(data: dict[str, Any]) -> int:
    return Exit.FAILED if data["status"] == "unhealthy" else Exit.DONE


def span(seconds: float) -> str:
    """Say a duration: ``3d 4h``, ``4h 5m``, ``5m 6s``, ``6s``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    parts = [(days, "d"), (hour, "h"), (minute, "m"), (second, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        del parts[0]
    return " ".join(f"{count}{unit}" for count, unit in parts[:2])
