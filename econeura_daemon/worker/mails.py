"""Processing a mail: its turn, read, understood, acted upon, recorded.

The steps may be cut off anywhere and begun anew: a mail is found wherever it lies, what is done to it is done once
however often it is asked for, and what is told of it is recorded in one transaction with the answer. Only then is it
marked as processed in the store: who dies in between leaves a mail that is processed again, not one that is forgotten.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import trio

from econeura_daemon.core.errors import EconeuraError, InvalidInputError
from econeura_daemon.primitives.errors import QueueFullError
from econeura_daemon.storage import Connection
from econeura_daemon.worker.mailstore import (
    Action,
    Done,
    MailStore,
    MailStoreError,
    MailStoreUnavailableError,
    MessageNotFoundError,
    Outcome,
    normalised,
)
from econeura_daemon.worker.processing import (
    Processed,
    Processors,
    ProcessorsUnavailableError,
    UnprocessableError,
)
from econeura_daemon.workers.model import Email, EmailStatus, Priority
from econeura_daemon.workers.recording import Recorder
from econeura_daemon.workers.waiting import NoTurnError, Waiting

PROCESSED, ERROR = "workers.email_processed", "workers.error_occurred"

_log = logging.getLogger(__name__)

Also = Callable[[Connection, Email], None]
NOT_BEGUN = (MessageNotFoundError, NoTurnError, QueueFullError)
"""Nothing was done, so nothing is recorded."""


class MailRefusedError(EconeuraError):
    """This mail cannot be processed, now or later; the reason is the mail's."""


class MailFaultError(EconeuraError):
    """A fault of the program's kept this mail from being processed; the log tells of it."""


class MailLateError(EconeuraError):
    """Its turn did not come, or end, in the time that the caller gave."""


@attrs.frozen(kw_only=True)
class Asked:
    """One mail that is to be processed."""

    message_id: str
    organization_id: str
    priority: Priority = Priority.NORMAL
    trace: str | None = None


@attrs.frozen(kw_only=True)
class Ended:
    """How it ended for one mail: ``error`` None is well, ``email`` None is not recorded; ``told`` are its events.

    ``is_final``: nothing more is to be done with the mail.
    """

    message_id: str
    email: Email | None = None
    told: Sequence[tuple[str, dict[str, Any]]] = ()
    error: EconeuraError | None = None
    is_final: bool = False


class Mails:
    """Processes mails of one store."""

    def __init__(
        self,
        *,
        store: MailStore,
        processors: Processors,
        waiting: Waiting,
        recorder: Recorder,
        worker_id: str,
        at_once: int,
    ) -> None:
        """``at_once``: mails of one bulk that are under way together."""
        self.store = store
        self.processors = processors
        self.waiting = waiting
        self.recorder = recorder
        self.worker_id = worker_id
        self.at_once = at_once
        self._under_way = Counter[str]()

    @property
    def under_way(self) -> Collection[str]:
        """Ids of the mails that are asked for and not marked as processed yet, so that nobody begins them as well."""
        return self._under_way.keys()

    async def process(self, asked: Asked, also: Also | None = None) -> Email:
        """Process one mail and return what was recorded; ``also`` runs in that transaction.

        Raises `MessageNotFoundError`, `MailRefusedError`, `MailFaultError`, `MailStoreUnavailableError`,
        `ProcessorsUnavailableError`, `NoTurnError`, `QueueFullError`, `StoreError`.
        """
        with self._held([asked]):
            ended = await self._end(asked)
            if ended.error is not None:
                if ended.email is not None:
                    await self.recorder.record_failure([ended.email], ended.told)
                raise ended.error
            email = ended.email
            assert email is not None, "what went well is recorded"
            await self.recorder.record(
                [email],
                ended.told,
                None if also is None else lambda connection: also(connection, email),
                trace=asked.trace,
            )
            await self._note_processed([ended])
            return email

    async def process_all(
        self,
        asked: Sequence[Asked],
        until: float,
        also: Callable[[Connection, Sequence[Ended]], None] | None = None,
    ) -> Sequence[Ended]:
        """Process mails beside each other and return how it ended for each, in the order asked.

        All is recorded in one transaction, in which ``also`` runs. What is not done by ``until`` (on Trio's clock) is
        left. Raises `NoTurnError` if there was no time for any, `StoreError`.
        """
        with self._held(asked):
            ends = await self._end_all(asked, until)
            await self.recorder.record(
                [one.email for one in ends if one.email is not None],
                [told for one in ends for told in one.told],
                None if also is None else lambda connection: also(connection, ends),
                trace=asked[0].trace,
            )
            await self._note_processed(ends)
            return ends

    async def _end_all(self, asked: Sequence[Asked], until: float) -> Sequence[Ended]:
        late = MailLateError("It was not processed in the time that there was")
        ends = [Ended(message_id=one.message_id, error=late) for one in asked]
        places = iter(range(len(asked)))

        async def work() -> None:
            for place in places:
                ends[place] = await self._end(asked[place])

        with trio.move_on_at(until):
            async with trio.open_nursery() as nursery:
                for _ in range(min(self.at_once, len(asked))):
                    nursery.start_soon(work)
        busy = next((one.error for one in ends if isinstance(one.error, NoTurnError)), None)
        if busy is not None and not any(one.email for one in ends):
            raise busy
        return ends

    @contextmanager
    def _held(self, asked: Sequence[Asked]) -> Generator[None]:
        ids = [normalised(one.message_id) for one in asked]
        self._under_way.update(ids)
        try:
            yield
        finally:
            for one in ids:
                self._under_way[one] -= 1
                if not self._under_way[one]:
                    del self._under_way[one]

    async def _note_processed(self, ends: Sequence[Ended]) -> None:
        """Mark what is recorded; a mail that cannot be marked is processed again, and told of again."""
        done = [one.message_id for one in ends if one.is_final]
        if not done:
            return
        try:
            with trio.CancelScope(shield=True):  # for as long as another worker writes its marks
                await trio.to_thread.run_sync(self.store.note_processed, *done)
        except MailStoreUnavailableError as error:
            _log.warning("%d mails are recorded and not marked as processed: %s", len(done), error)

    async def _end(self, asked: Asked) -> Ended:
        """Process one mail and tell how it ended, whatever befalls it."""
        begun = trio.current_time()
        try:
            async with self.waiting.turn(asked.priority, asked.organization_id):
                result, is_final = await self._result(asked.message_id)
        except NOT_BEGUN as error:
            return Ended(message_id=asked.message_id, error=error)
        except (MailRefusedError, MailStoreUnavailableError, ProcessorsUnavailableError) as error:
            return self._failed(asked, error, begun)
        except Exception as error:  # noqa: BLE001 - this mail's bug is not the others'
            _log.exception("processing the mail %s failed", asked.message_id)
            return self._failed(
                asked, MailFaultError(f"A fault of the worker's: {type(error).__name__}; see its log"), begun
            )
        data = {
            "messageId": asked.message_id,
            "organizationId": asked.organization_id,
            "result": result,
            "workerId": self.worker_id,
        }
        email = self._email(asked, EmailStatus.SUCCEEDED, begun, result=result)
        return Ended(message_id=asked.message_id, email=email, told=[(PROCESSED, data)], is_final=is_final)

    async def _result(self, message_id: str) -> tuple[dict[str, Any], bool]:
        """Return the result, and whether what is to be done is done with."""
        try:
            raw = await trio.to_thread.run_sync(self.store.read, message_id)
            processed = await self.processors.process(raw)
            done = await trio.to_thread.run_sync(partial(self._act, message_id, processed))
        except (MessageNotFoundError, MailStoreUnavailableError):
            raise
        except (MailStoreError, UnprocessableError, InvalidInputError) as error:
            raise MailRefusedError(str(error)) from error
        if done.outcome not in {Outcome.DONE, Outcome.ALREADY}:
            _log.warning("%s of %s: %s %s", done.action, message_id, done.outcome, done.reason or "")
        return processed.as_result(), done.is_final

    def _act(self, message_id: str, processed: Processed) -> Done:
        return self.store.act(message_id, Action(processed.action), processed.category, processed.forward_to)

    def _email(self, asked: Asked, status: EmailStatus, begun: float, **more: Any) -> Email:
        return Email(
            id=self.recorder.new_id("eml"),
            message_id=asked.message_id,
            organization_id=asked.organization_id,
            priority=asked.priority,
            status=status,
            service_id=self.worker_id,
            response_time=round((trio.current_time() - begun) * 1000),
            recorded_at=self.recorder.now,
            **more,
        )

    def _failed(self, asked: Asked, error: EconeuraError, begun: float) -> Ended:
        data = {
            "operation": "email_processing",
            "messageId": asked.message_id,
            "error": str(error),
            "workerId": self.worker_id,
        }
        return Ended(
            message_id=asked.message_id,
            email=self._email(asked, EmailStatus.FAILED, begun, error=str(error)),
            told=[(ERROR, data)],
            error=error,
        )
