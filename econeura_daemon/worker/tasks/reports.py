"""The task ``daily_reports``: what became of the mails of the day before, as a file and as an event."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import trio

from econeura_daemon.core.clock import Clock
from econeura_daemon.core.jsons import dumps
from econeura_daemon.cron import Run
from econeura_daemon.events import Event, EventLog
from econeura_daemon.storage import Connection, Store
from econeura_daemon.worker.tasks import folders
from econeura_daemon.worker.tasks.periods import Period
from econeura_daemon.worker.tasks.results import results_of
from econeura_daemon.worker.tasks.told import SOURCE
from econeura_daemon.workers.model import Email, EmailStatus

FOLDER = "reports"
REPORTED = "workers.report_written"
MOST_ERRORS = 20
"""Kinds of errors that a report lists, the commonest."""
_COUNTED = ("category", "sentiment", "urgency", "language")


class Summary:
    """Counts results as they come by."""

    def __init__(self) -> None:
        self._statuses = Counter[str]()
        self._actions = Counter[str]()
        self._counts = {name: Counter[str]() for name in _COUNTED}
        self._errors = Counter[str]()
        self._times: list[float] = []

    def add(self, emails: Sequence[Email]) -> None:
        """Count them too."""
        for email in emails:
            self._statuses[email.status.value] += 1
            if email.status is EmailStatus.FAILED:
                self._errors[email.error or "unknown"] += 1
                continue
            result = email.result or {}
            metadata = result.get("metadata") or {}
            self._actions[str(result.get("action") or "none")] += 1
            for name, counts in self._counts.items():
                counts[str(metadata.get(name) or "unknown")] += 1
            self._times.append(result.get("processingTime") or 0)

    @property
    def total(self) -> int:
        """How many there were."""
        return self._statuses.total()

    def to_json(self) -> dict[str, Any]:
        """Return the counts, the commonest first; times in milliseconds."""
        times = sorted(self._times)
        return {
            "total": self.total,
            "byStatus": {status.value: self._statuses[status.value] for status in EmailStatus},
            "byAction": _ranked(self._actions),
            **{f"by{name.capitalize()}": _ranked(counts) for name, counts in self._counts.items()},
            "processingTime": {f"p{percent}": _percentile(times, percent) for percent in (50, 95)},
            "errors": [
                {"error": error, "count": count}
                for error, count in list(_ranked(self._errors).items())[:MOST_ERRORS]
            ],
        }


class DailyReports:
    """Writes reports. A report that is written again is the same, and is told of once a run."""

    def __init__(
        self,
        *,
        store: Store,
        events: EventLog,
        state_dir: Path,
        zone: ZoneInfo,
        worker_id: str,
        kept: int,
        clock: Clock,
    ) -> None:
        """``kept``: reports, the newest, that are kept."""
        self._store = store
        self._events = events
        self._folder = state_dir / FOLDER
        self._zone = zone
        self._worker_id = worker_id
        self._kept = kept
        self._clock = clock

    async def __call__(self, run: Run) -> str:
        """Report on the day before the run's. Raises `TaskFailedError`, `StoreError`."""
        day = Period.before(run.scheduled_for, self._zone, days=1)
        summary = Summary()
        async with aclosing(results_of(self._store, day)) as pages:
            async for page in pages:
                summary.add(page)
        report = {
            "day": day.first.isoformat(),
            **day.to_json(),
            "workerId": self._worker_id,
            "emails": summary.to_json(),
        }
        file = self._folder / f"daily-{day.first}.json"
        removed = await trio.to_thread.run_sync(self._write, file, report)
        await self._store.transact(lambda connection: self._tell(connection, run, report))
        return f"reported on {summary.total} mails of {day.first} in {file}; removed {removed} older"

    def _write(self, file: Path, report: Mapping[str, Any]) -> int:
        folders.write(file, dumps(report) + b"\n")
        return len(folders.keep(self._folder, "daily-*.json", self._kept))

    def _tell(self, connection: Connection, run: Run, report: Mapping[str, Any]) -> None:
        self._events.append(
            connection,
            Event.make(
                id=run.id.replace("run_", "evt_"),  # one event a run, however many attempts it takes
                type=REPORTED,
                data={"jobId": run.job_id, "runId": run.id, **report},
                source=SOURCE,
                now=self._clock.now(),
                given_id=True,
            ),
        )


def _ranked(counts: Counter[str]) -> dict[str, int]:
    """Return them the commonest first, alike ones by name: the same counts are always written alike."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _percentile(times: Sequence[float], percent: int) -> float | None:
    """Return the least time within which so many in a hundred were done (the nearest rank)."""
    return times[-(-len(times) * percent // 100) - 1] if times else None
