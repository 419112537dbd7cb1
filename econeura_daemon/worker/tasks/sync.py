"""The task ``graph_sync``: the index follows the mail store."""

from functools import partial

import trio

from econeura_daemon.cron import Run, TaskFailedError
from econeura_daemon.worker.mailstore import Changes, MailStore, MailStoreError


class MailSync:
    """Scans the store thoroughly, and tells what came and went since the last time, whoever noticed it."""

    def __init__(self, store: MailStore) -> None:
        self._store = store
        self._added = self._removed = 0

    async def noticed(self, changes: Changes) -> None:
        """Count what a scan found; `mailstore.watch` tells it here."""
        await trio.lowlevel.checkpoint()
        self._count(changes)

    async def __call__(self, _run: Run) -> str:
        """Synchronise. Raises `TaskFailedError` if the store is not there."""
        try:
            self._count(await trio.to_thread.run_sync(partial(self._store.scan, thorough=True)))
        except MailStoreError as error:
            raise TaskFailedError(str(error)) from error
        added, removed = self._added, self._removed
        self._added = self._removed = 0
        found = self._store.statistics()
        return (
            f"{found.mails} mails in {found.folders} folders: {added} added and {removed} removed since the last "
            f"synchronisation; {found.unreadable} unreadable; {found.scan_seconds:.3f} s"
        )

    def _count(self, changes: Changes) -> None:
        self._added += len(changes.added)
        self._removed += len(changes.removed)
