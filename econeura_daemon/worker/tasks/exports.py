"""The task ``weekly_export``: what became of the mails of the week before, as JSON lines, and a manifest beside it.

The manifest is written last, so an export that has one is whole.
"""

import gzip
import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import trio

from econeura_daemon.core.jsons import dumps
from econeura_daemon.cron import Run
from econeura_daemon.storage import Store
from econeura_daemon.worker.tasks import folders
from econeura_daemon.worker.tasks.periods import Period
from econeura_daemon.worker.tasks.results import results_of
from econeura_daemon.workers.model import Email, EmailStatus

FOLDER = "exports"
MANIFEST = ".manifest.json"
DAYS = 7


class WeeklyExport:
    """Writes exports. One that is written again has the same bytes."""

    def __init__(self, *, store: Store, state_dir: Path, zone: ZoneInfo, worker_id: str, kept: int) -> None:
        """``kept``: exports, the newest, that are kept."""
        self._store = store
        self._folder = state_dir / FOLDER
        self._zone = zone
        self._worker_id = worker_id
        self._kept = kept

    async def __call__(self, run: Run) -> str:
        """Export the seven days before the run's. Raises `TaskFailedError`, `StoreError`."""
        week = Period.before(run.scheduled_for, self._zone, days=DAYS)
        file = self._folder / f"emails-{week.first}_{week.last}.jsonl.gz"
        lines = await trio.to_thread.run_sync(_Lines, file)
        try:
            async with aclosing(results_of(self._store, week)) as pages:
                async for page in pages:
                    await trio.to_thread.run_sync(lines.add, page)
            manifest = await trio.to_thread.run_sync(lines.finish)
        finally:
            lines.close()
        manifest = {"file": file.name, **week.to_json(), "workerId": self._worker_id, **manifest}
        removed = await trio.to_thread.run_sync(self._conclude, file, manifest)
        return f"exported {manifest['count']} results to {file}, {manifest['bytes']} bytes; removed {removed} older"

    def _conclude(self, file: Path, manifest: dict[str, Any]) -> int:
        folders.write(file.with_name(file.name + MANIFEST), dumps(manifest) + b"\n")
        folders.keep(self._folder, f"emails-*{MANIFEST}", self._kept)
        return len(folders.keep(self._folder, "emails-*.jsonl.gz", self._kept))


class _Lines:
    """An export that is being written."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._statuses = Counter[EmailStatus]()
        self._raw = folders.begin(file)
        # Neither name nor time: the same results are the same bytes (RFC 1952 2.3.1).
        self._gzip = gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", mtime=0)

    def add(self, emails: Sequence[Email]) -> None:
        with folders.saying(self._file):
            self._gzip.write(b"".join(dumps(email.to_json()) + b"\n" for email in emails))
        self._statuses.update(email.status for email in emails)

    def finish(self) -> dict[str, Any]:
        """Give it its name; return what the manifest tells of it."""
        with folders.saying(self._file):
            self._gzip.close()
        folders.finish(self._file, self._raw)
        with folders.saying(self._file), self._file.open("rb") as written:
            sha256 = hashlib.file_digest(written, "sha256").hexdigest()
            size = written.tell()
        return {
            "count": self._statuses.total(),
            **{status.value: self._statuses[status] for status in EmailStatus},
            "bytes": size,
            "sha256": sha256,
        }

    def close(self) -> None:
        """Let go of it; of what is not finished nothing stays."""
        if not self._raw.closed:
            with suppress(OSError), self._raw:  # it ends by another error, of a full disk perhaps
                self._gzip.close()
            folders.discard(self._file)
