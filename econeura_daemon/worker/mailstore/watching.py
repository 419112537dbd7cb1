"""Noticing new mail: a look at the directories' times of change every few seconds.

Looking is what works everywhere. inotify tells nothing of changes that another machine makes on a file server, needs a
watch for every folder, loses events when its queue is full and then needs the look all the same; what it would save is
a fraction of a millisecond a look (docs/worker.md).
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from econeura_daemon.worker.mailstore.mail_store import MailStore
from econeura_daemon.worker.mailstore.model import Changes, MailStoreUnavailableError

INTERVAL = 2.0
"""Seconds between two looks."""

_log = logging.getLogger(__name__)


async def watch(
    store: MailStore,
    on_changes: Callable[[Changes], Awaitable[None]],
    *,
    interval: float = INTERVAL,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Scan the store every ``interval`` seconds, for ever, and hand on what came and went.

    A scan that is under way when this is cancelled goes on in its thread, and harms nothing wherever it ends.
    A store that is not there (a file server that is away) is looked for until it is; that is said once.
    """
    task_status.started()
    is_there = True
    while True:
        try:
            changes = await trio.to_thread.run_sync(store.scan, abandon_on_cancel=True)
        except MailStoreUnavailableError as error:
            if is_there:
                _log.warning("%s", error)
            is_there = False
        else:
            if not is_there:
                _log.info("the mail store is there again")
            is_there = True
            if changes:
                await on_changes(changes)
        await trio.sleep(interval)
