"""The command ``econeura-daemon`` itself."""

import sys
from typing import Any

import click

from econeura_daemon.cli.exits import CODES_HELP, Exit, command_error
from econeura_daemon.cli.lazy import Lazy, LazyGroup

_HERE = "econeura_daemon.cli"

COMMANDS = {
    "serve": Lazy(f"{_HERE}.serve", "serve", "Run the daemon."),
    "worker": Lazy(f"{_HERE}.worker", "worker", "Run the reference workers service."),
    "config": Lazy(f"{_HERE}.config", "config", "Check and show the configuration."),
    "events": Lazy(f"{_HERE}.events", "events", "Send, list and follow events."),
    "webhooks": Lazy(f"{_HERE}.webhooks", "webhooks", "Subscriptions, their deliveries, and a receiver."),
    "services": Lazy(f"{_HERE}.services", "services", "Who is there, how they are, and maintenance."),
    "emails": Lazy(f"{_HERE}.emails", "emails", "E-mails through workers services."),
    "mesh": Lazy(f"{_HERE}.mesh", "mesh", "How services are called, the last calls, and faults."),
    "cron": Lazy(f"{_HERE}.cron", "cron", "Jobs, their schedules and their runs."),
    "token": Lazy(f"{_HERE}.token", "token", "Make, list and revoke access tokens."),
    "db": Lazy(f"{_HERE}.db", "db", "Migrate, check, back up and restore the database."),
    "health": Lazy(f"{_HERE}.health", "health", "Tell how every part of the daemon is doing."),
    "status": Lazy(f"{_HERE}.health", "status", "Tell where the daemon is and what it is doing."),
    "version": Lazy(f"{_HERE}.version", "version", "Tell the version."),
}


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value:
        from econeura_daemon._version import VERSION

        click.echo(f"econeura-daemon {VERSION}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog=CODES_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def root() -> None:
    """One daemon that connects the services of a machine to each other and to the world.

    Client commands reach the daemon of this machine by themselves; --url or ECONEURA_URL names another one.
    All but serve and worker take -o table, json or jsonl.
    """


def main() -> None:
    """Run the command that was typed, and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; what it says goes to standard output and error."""
    try:
        result: Any = root.main(arguments, prog_name="econeura-daemon", standalone_mode=False)
        return result if isinstance(result, int) else Exit.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except Exception as error:
        known = command_error(error)
        if known is None:
            raise
        known.show()
        return known.exit_code
