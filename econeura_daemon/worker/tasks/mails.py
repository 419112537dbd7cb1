"""The task ``email_processing``: what came in and nobody has asked for is processed."""

import logging
from collections import Counter
from collections.abc import Iterator

import trio

from econeura_daemon.core.errors import EconeuraError, StoreError
from econeura_daemon.cron import Run, TaskFailedError
from econeura_daemon.primitives.errors import QueueFullError
from econeura_daemon.worker.mails import Asked, MailFaultError, MailRefusedError, Mails
from econeura_daemon.worker.mailstore import (
    Action,
    MailStoreError,
    MailStoreUnavailableError,
    MessageNotFoundError,
)
from econeura_daemon.worker.processing import ProcessorsUnavailableError, UnprocessableError
from econeura_daemon.workers import NoTurnError, Priority

BUDGET = 240.0
"""Seconds after which a run begins no further mail: the next run is due soon."""
AGAIN_AFTER = 3600.0
"""Seconds after which a mail is tried again that stayed unprocessed: a mail server was away, it could not be filed."""
MOST_REFUSALS = 3
"""Times that a mail is tried which the store does not let be read or filed."""

_log = logging.getLogger(__name__)


class EmailProcessing:
    """Processes mails that nobody has asked for, the oldest first, behind all that somebody asks for."""

    def __init__(
        self,
        mails: Mails,
        *,
        organization_id: str,
        batch: int,
        at_once: int,
        again_after: float = AGAIN_AFTER,
    ) -> None:
        """``batch``: mails of one run at most; ``at_once``: those under way together."""
        self._mails = mails
        self._organization_id = organization_id
        self._batch = batch
        self._at_once = at_once
        self._again_after = again_after
        self._tried: dict[str, float] = {}
        """Until when, on Trio's clock, mails are left alone: those that wait for long must not hold up the others."""
        self._refusals = Counter[str]()

    async def __call__(self, _run: Run) -> str:
        """Process some; the next run goes on. Raises `TaskFailedError` where nothing can be processed now."""
        now = trio.current_time()
        self._tried = {message_id: until for message_id, until in self._tried.items() if until > now}
        wanted = self._batch + 1 + len(self._tried) + len(self._mails.under_way)
        try:
            found = await trio.to_thread.run_sync(self._mails.store.unprocessed, wanted)
        except MailStoreError as error:
            raise TaskFailedError(str(error)) from error
        waiting = [one for one in found if one not in self._tried and one not in self._mails.under_way]
        batch = _Batch(waiting[: self._batch])
        async with trio.open_nursery() as nursery:
            for _ in range(min(self._at_once, len(waiting))):
                nursery.start_soon(self._work, batch)
        words = f"processed {batch.processed} mails, {batch.refused} of them in vain"
        if batch.trouble is not None:
            raise TaskFailedError(f"{words}; then: {batch.trouble}")
        is_more = len(waiting) > self._batch or batch.is_over
        return f"{words}; more wait for the next run" if is_more else f"{words}; none waits"

    async def _work(self, batch: "_Batch") -> None:
        store = self._mails.store
        for message_id in batch:
            if message_id in self._mails.under_way:
                continue
            try:
                hold = await trio.to_thread.run_sync(store.claim, message_id)
            except MailStoreError as error:
                batch.trouble = str(error)
                continue
            if hold is None:
                continue  # another worker of the store does it at the same tick, or somebody has asked for it
            try:
                await self._process(batch, message_id)
            finally:
                hold.let_go()

    async def _process(self, batch: "_Batch", message_id: str) -> None:
        asked = Asked(message_id=message_id, organization_id=self._organization_id, priority=Priority.LOW)
        try:
            await self._mails.process(asked)
        except (MailRefusedError, MailFaultError) as error:
            batch.processed += 1
            batch.refused += 1
            self._tried[message_id] = trio.current_time() + self._again_after
            await self._refused(message_id, error)
        except MessageNotFoundError:
            _log.info("a mail was gone before it was processed", extra={"message_id": message_id})
        except (NoTurnError, QueueFullError):
            batch.is_over = True  # others ask for so much that what nobody asked for has to wait
        except (MailStoreUnavailableError, ProcessorsUnavailableError, StoreError) as error:
            batch.trouble = str(error)
        else:
            batch.processed += 1
            self._tried[message_id] = trio.current_time() + self._again_after
            del self._refusals[message_id]

    async def _refused(self, message_id: str, error: EconeuraError) -> None:
        """Leave a mail alone that was refused for good, so that it holds up no other."""
        self._refusals[message_id] += 1
        is_final = isinstance(error.__cause__, UnprocessableError)
        if not is_final and self._refusals[message_id] < MOST_REFUSALS:
            return
        del self._refusals[message_id]
        try:
            await trio.to_thread.run_sync(self._mails.store.carry_out, message_id, Action.NONE)
        except (MailStoreError, MessageNotFoundError) as trouble:
            _log.warning("a mail that was refused stays unprocessed: %s", trouble)


class _Batch:
    """The mails of one run, and what became of them; several tasks take from it."""

    def __init__(self, message_ids: list[str]) -> None:
        self._message_ids = iter(message_ids)
        self._until = trio.current_time() + BUDGET
        self.processed = self.refused = 0
        self.is_over = False
        self.trouble: str | None = None

    def __iter__(self) -> Iterator[str]:
        for message_id in self._message_ids:
            yield message_id
            self.is_over = self.is_over or trio.current_time() >= self._until
            if self.is_over or self.trouble is not None:
                return
