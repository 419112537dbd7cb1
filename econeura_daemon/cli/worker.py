"""``worker``."""

from typing import Any

import attrs
import click

from econeura_daemon.cli.config import config_option
from econeura_daemon.cli.exits import Exit
from econeura_daemon.core.errors import InvalidInputError, SettingsError
from econeura_daemon.core.settings import Settings

_NEEDS = ("phonenumbers", "py3langid")


@click.command(
    epilog="Exit codes: as those of serve. The rest stands in [worker] of the configuration; docs/worker.md tells all."
)
@config_option
@click.option("--daemon-url", metavar="URL", help="The daemon to register with, and to send webhooks to.")
@click.option("--mail", metavar="PATH", help="A Maildir, an mbox file or a folder of .eml files.")
@click.option("--bind", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
@click.option("--state-dir", metavar="DIR", help="Its own state directory.")
@click.option("--rules", metavar="FILE", help="Another file of rules than the one that is shipped.")
@click.option("--instance-id", metavar="ID", help="As what it registers itself.")
def worker(*, config_file: str | None, **given: Any) -> int:
    """Run the reference workers service until SIGTERM or Ctrl-C.

    It finds mails in a store, says what they are about and files them, has cron jobs of its own, and tells its
    daemon what happened by signed webhooks. It needs the extra `worker` (pip install 'econeura-daemon[worker]').
    """
    from importlib.util import find_spec

    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        click.echo(
            f"{' and '.join(missing)} cannot be found: pip install 'econeura-daemon[worker]'", err=True
        )
        return Exit.FAILED
    from econeura_daemon.worker.main import run

    said = {name: value for name, value in given.items() if value is not None}
    return run(config_file, lambda settings: _with(settings, said))


def _with(settings: Settings, said: dict[str, Any]) -> Settings:
    """Lay what the command line says over the settings. Raises `SettingsError`."""
    try:
        return attrs.evolve(settings, worker=attrs.evolve(settings.worker, **said))
    except InvalidInputError as error:
        raise SettingsError(error.flaws, "The command line does not fit") from None
    except ValueError as error:
        raise SettingsError.at("the command line", str(error)) from None
