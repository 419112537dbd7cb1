"""How a command ends: its exit code, and what it says when it fails.

The client commands' codes are fixed by docs/cli.md; 75 and 78 are those of sysexits.h, as for `serve`.
"""

import enum
from collections.abc import Sequence

import click


class Exit(enum.IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNREACHABLE = 5
    CONFLICT = 6
    BAD_CONFIGURATION = 78
    INTERRUPTED = 130


CODES_HELP = (
    "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 daemon unreachable, 6 conflict, "
    "78 bad configuration, 130 interrupted. serve: 0 drained, 1 failed, 70 forced at the drain's end, "
    "75 another daemon holds the state directory, 78 bad configuration."
)


class CommandError(click.ClickException):
    """A failure, said in sentences on standard error."""

    def __init__(
        self, code: Exit, message: str, details: Sequence[str] = (), *, status: int | None = None
    ) -> None:
        """``details``: one line each below the message; ``status``: of the HTTP answer that said so."""
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # each error has its own
        self.details = tuple(details)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether asking again later may do."""
        return self.exit_code == Exit.UNREACHABLE or self.status in {502, 503, 504}

    def format_message(self) -> str:
        """Return the message and its details."""
        return "\n  ".join([self.message, *self.details])


def command_error(error: Exception) -> CommandError | None:
    """Return what an expected exception of the daemon's own code means here; None for a bug."""
    from econeura_daemon.core import errors

    if isinstance(error, errors.InvalidInputError):
        is_configuration = isinstance(error, errors.SettingsError)
        code = Exit.BAD_CONFIGURATION if is_configuration else Exit.FAILED
        return CommandError(code, error.summary, [str(flaw) for flaw in error.flaws])
    codes: dict[type[Exception], Exit] = {
        errors.NotFoundError: Exit.NOT_FOUND,
        errors.ConflictError: Exit.CONFLICT,
        errors.StateDirectoryHeldError: Exit.CONFLICT,
        errors.EconeuraError: Exit.FAILED,
    }
    for kind, code in codes.items():
        if isinstance(error, kind):
            return CommandError(code, str(error))
    if isinstance(error, OSError) and error.filename:
        code = Exit.NOT_ALLOWED if isinstance(error, PermissionError) else Exit.FAILED
        return CommandError(code, f"{error.filename}: {error.strerror}")
    return None
