"""What is wrong with a schedule, and where; what a task could not do."""

from econeura_daemon.core.errors import EconeuraError


class ScheduleError(EconeuraError):
    """A schedule that does not fit.

    ``field`` is ``expression``, one of its fields (``second``, ``minute``, ``hour``, ``day of month``, ``month``,
    ``day of week``), ``@every``, or ``timeZone``; ``detail`` says what is wrong and what is allowed.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


class TaskFailedError(EconeuraError):
    """A task of the process could not do what it is for; the text says why, and becomes the run's error."""
