"""``config``: check, show. And how every command that needs the settings reads them."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from econeura_daemon.cli.lazy import LazyGroup
from econeura_daemon.cli.output import Output, output_option
from econeura_daemon.core.settings import Settings
from econeura_daemon.core.settings_sources import Effective, load_settings
from econeura_daemon.core.settings_tree import flatten, shown

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """Give a command ``--config`` as ``config_file``."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False),
        help="The configuration file; else ECONEURA_CONFIG, else /etc/econeura/econeura.toml.",
    )(command)


def read_settings(config_file: str | None) -> Settings:
    """Read the settings as `serve` does. Raises `SettingsError`."""
    return _read(config_file).settings


def _read(config_file: str | None) -> Effective:
    from econeura_daemon.cron import schedule_flaws

    return load_settings(config_file, os.environ, schedule_flaws)


@click.group(cls=LazyGroup)
def config() -> None:
    """Check and show the configuration."""


@config.command
@config_option
@output_option
def check(*, output: Output, config_file: str | None) -> None:
    """Read the configuration and tell every mistake.

    Exits with 78 if there is one.
    """
    found = _read(config_file)
    if output.for_people:
        count = len(found.origins)
        given = "nothing is given, all is default" if count == 0 else f"{count} given"
        click.echo(f"The configuration is right: {given}.")
    else:
        output.item({"ok": True, "given": len(found.origins)})


@config.command("show")
@click.option("--changed", is_flag=True, help="Only what is given somewhere.")
@config_option
@output_option
def show(*, output: Output, config_file: str | None, changed: bool) -> None:
    """Show the settings that hold, and where each was written.

    Secrets are not shown.
    """
    found = _read(config_file)
    rows = [row for row in _rows(found) if row["source"] != "default" or not changed]
    output.rows(
        rows,
        [
            ("setting", lambda row: row["setting"]),
            ("value", lambda row: row["value"]),
            ("source", lambda row: row["source"]),
        ],
        empty="Everything is at its default.",
    )


def _rows(found: Effective) -> list[dict[str, Any]]:
    return [
        {"setting": name, "value": shown(name, value), "source": found.origins.get(name, "default")}
        for name, value in flatten(found.settings).items()
    ]
