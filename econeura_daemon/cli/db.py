"""``db``: migrate, check, backup, restore. They work on the database itself, through no daemon."""

from pathlib import Path

import click

from econeura_daemon.cli.config import config_option, read_settings
from econeura_daemon.cli.exits import Exit
from econeura_daemon.cli.lazy import LazyGroup
from econeura_daemon.cli.output import Output, output_option
from econeura_daemon.core.settings import StorageSettings
from econeura_daemon.storage import backup as storage

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=LazyGroup)
def db() -> None:
    """Migrate, check, back up and restore the database.

    Which one that is the configuration says (storage.url). A backup can be taken while a daemon runs;
    migrating and restoring need it stopped.
    """


@db.command
@config_option
@output_option
def migrate(*, output: Output, config_file: str | None) -> None:
    """Bring the schema up to date, as a start of the daemon would."""
    settings, state_dir = _place(config_file)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    before, after = storage.migrate(settings, state_dir)
    if not output.for_people:
        output.item({"from": before, "to": after})
    elif before == after:
        click.echo(f"The schema is up to date, at version {after}.")
    else:
        click.echo(f"Migrated the schema from version {before} to {after}.")


@db.command
@config_option
@output_option
def check(*, output: Output, config_file: str | None) -> int:
    """Read the whole database and tell whether it is sound.

    Exits with 1 if it is not.
    """
    report = storage.check(*_place(config_file))
    if not output.for_people:
        output.item(
            {
                "place": report.place,
                "version": report.version,
                "newest": report.newest,
                "flaws": list(report.flaws),
            }
        )
    else:
        for flaw in report.flaws:
            click.echo(flaw)
        state = "is damaged" if report.flaws else "is sound"
        older = f" ({report.newest} is the newest: db migrate)" if report.version < report.newest else ""
        click.echo(f"{report.place} {state}; schema version {report.version}{older}.")
    return Exit.FAILED if report.flaws else Exit.DONE


@db.command
@click.argument("target", type=_FILE)
@config_option
@output_option
def backup(*, output: Output, config_file: str | None, target: Path) -> None:
    """Write a consistent, checked copy to TARGET, also while a daemon runs.

    It overwrites nothing. The database holds the secrets of subscriptions, and so does the copy: only its
    owner can read it. SQLite gives a database file, PostgreSQL a dump of pg_dump's.
    """
    size = storage.backup(*_place(config_file), target)
    if output.for_people:
        click.echo(f"Wrote {target}, {size} bytes.")
    else:
        output.item({"target": str(target), "bytes": size})


@db.command
@click.argument("source", type=_FILE)
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@output_option
def restore(*, output: Output, config_file: str | None, source: Path, yes: bool) -> None:
    """Put the backup SOURCE in the place of the database; the daemon must be stopped.

    The backup is checked before anything is touched. An SQLite file that it replaces is kept beside it.
    """
    settings, state_dir = _place(config_file)
    if not yes:
        click.confirm(f"Replace the database by {source}?", abort=True, err=True)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = storage.restore(settings, state_dir, source)
    if not output.for_people:
        output.item({"source": str(source), "kept": None if kept is None else str(kept)})
        return
    click.echo(f"Restored {source}." + ("" if kept is None else f" What was there before is kept: {kept}"))


def _place(config_file: str | None) -> tuple[StorageSettings, Path]:
    settings = read_settings(config_file)
    return settings.storage, Path(settings.daemon.state_dir)
