"""What cron appends to the event log: what its jobs publish, and how their runs ended."""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from econeura_daemon.core.clock import from_ms
from econeura_daemon.core.ids import new_id
from econeura_daemon.core.jobs import ActionBody
from econeura_daemon.cron.model import Run, RunStatus
from econeura_daemon.events import Event, EventLog
from econeura_daemon.storage import Connection

SOURCE = "econeura-daemon"
ACTION_SOURCE = "cron"

Told = tuple[str, dict[str, Any], str]
"""An event that is to be: its type, data and source."""

_TYPES = {
    RunStatus.SUCCEEDED: "cron.run_succeeded",
    RunStatus.FAILED: "cron.run_failed",
    RunStatus.TIMED_OUT: "cron.run_failed",
    RunStatus.UNKNOWN: "cron.run_failed",
    RunStatus.MISSED: "cron.run_missed",
}


def told_by_the_daemon(run: Run, job_name: str) -> list[Told]:
    """Return the daemon's events of a run that came to its end; of one that was skipped there are none."""
    event_type = _TYPES.get(run.status)
    return [] if event_type is None else [(event_type, run.to_event(job_name), SOURCE)]


class Reports:
    """Appends in the transaction of whoever calls."""

    def __init__(
        self,
        events: EventLog,
        rng: Random,
        counted: Callable[[RunStatus], None] = lambda _status: None,
        tell: Callable[[Run, str], Sequence[Told]] = told_by_the_daemon,
    ) -> None:
        """``counted`` is called on the event loop for each run that was committed as ended.

        ``tell`` returns the events of a run that ends, given the run and its job's name.
        """
        self._events = events
        self._rng = rng
        self._counted = counted
        self._tell = tell

    def hold(self, connection: Connection) -> None:
        """Begin a transaction that will touch jobs: whoever touches them takes the event log first."""
        self._events.hold(connection)

    def publish(self, connection: Connection, actions: Sequence[ActionBody], now: int) -> None:
        """Append what actions of the kind ``event`` publish; ``now`` in milliseconds since the epoch."""
        events = []
        for action in actions:
            assert action.type is not None, "an event has a type"
            events.append(self._event(action.type, action.data or {}, now, ACTION_SOURCE))
        if events:
            self._events.append_all(connection, events)

    def ended(self, connection: Connection, runs: Sequence[tuple[Run, str]], now: int) -> None:
        """Append how runs ended; of each, the run and its job's name."""
        told = [
            self._event(event_type, data, now, source)
            for run, name in runs
            for event_type, data, source in self._tell(run, name)
        ]
        if told:
            self._events.append_all(connection, told)
        for run, _ in runs:
            connection.after_commit(partial(self._counted, run.status))

    def _event(self, event_type: str, data: dict[str, object], now: int, source: str) -> Event:
        instant = from_ms(now)
        return Event.make(
            id=new_id("evt", instant, self._rng), type=event_type, data=data, source=source, now=instant
        )
