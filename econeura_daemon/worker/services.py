"""What the worker's own routes act on, beside what all routes do."""

import attrs
from quart import current_app

from econeura_daemon.worker.mails import Mails

_NAME = "econeura.worker"


@attrs.frozen(kw_only=True)
class WorkerServices:
    """The worker behind its routes."""

    mails: Mails

    def install(self, extensions: dict[str, object]) -> None:
        """Let the routes of an app find it."""
        extensions[_NAME] = self


def worker() -> WorkerServices:
    """Return the worker behind the app that handles the present request."""
    found: WorkerServices = current_app.extensions[_NAME]
    return found
