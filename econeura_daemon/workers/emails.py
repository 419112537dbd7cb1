"""Processing one e-mail: a turn, a call, a record."""

from functools import partial
from typing import Any

import attrs
import trio

from econeura_daemon.client import MeshError
from econeura_daemon.storage import Store
from econeura_daemon.workers.calling import Asked, Calling, Told, WorkersFailedError
from econeura_daemon.workers.commands import ProcessEmail
from econeura_daemon.workers.model import Email, EmailStatus
from econeura_daemon.workers.recording import Also, Recorder
from econeura_daemon.workers.store import emails as sql
from econeura_daemon.workers.waiting import Waiting

PROCESSED = "email.processed"
MAX_ANSWER = 1024 * 1024
"""Bytes that a worker may say of one e-mail. It becomes an event, and one that is published has no more either."""
LEFT = "Who asked for it left before workers had answered; they may have processed it all the same"


@attrs.frozen
class Processed:
    """What is answered of one e-mail."""

    email: Email

    def to_json(self) -> dict[str, Any]:
        """Return it as existing clients know it."""
        email = self.email
        return {
            "messageId": email.message_id,
            "result": email.result,
            "serviceId": email.service_id,
            "responseTime": email.response_time,
        }


class Emails:
    """Has e-mails processed, and knows what became of them."""

    def __init__(self, *, store: Store, calling: Calling, waiting: Waiting, recorder: Recorder) -> None:
        self._store = store
        self._calling = calling
        self._waiting = waiting
        self._recorder = recorder

    async def process(
        self,
        command: ProcessEmail,
        asked: Asked,
        *,
        key: str | None = None,
        trace: str | None = None,
        also: "Also[Processed] | None" = None,
    ) -> Processed:
        """Have an e-mail processed and return what was recorded; ``also`` runs in that transaction.

        ``key``: an idempotency key towards workers, the same if the caller repeats itself; without one each call
        has its own. Raises `NoTurnError`; `MeshError` and `WorkersFailedError`, which are recorded; `StoreError`.
        Cancelled while workers are asked, it is recorded as failed, since nobody knows; while it waits for its turn it
        leaves no trace.
        """
        email_id = self._recorder.new_id("eml")
        begun = None
        try:
            async with self._waiting.turn(command.priority, command.organization_id):
                begun = trio.current_time()
                told = await self._calling.call(
                    "POST",
                    "/emails/process",
                    asked,
                    body={
                        "messageId": command.message_id,
                        "organizationId": command.organization_id,
                        "priority": command.priority.value,
                        "metadata": command.metadata,
                    },
                    idempotency_key=key or email_id,
                    most=MAX_ANSWER,
                )
                result = _result(told)
        except (MeshError, WorkersFailedError) as error:
            await self._record_failure(email_id, command, begun, str(error), error.service_id)
            raise
        except trio.Cancelled:
            if begun is not None:
                await self._record_failure(email_id, command, begun, LEFT)
            raise
        email = Email(
            id=email_id,
            message_id=command.message_id,
            organization_id=command.organization_id,
            priority=command.priority,
            status=EmailStatus.SUCCEEDED,
            result=result,
            service_id=told.service_id,
            response_time=told.milliseconds,
            recorded_at=self._recorder.now,
        )
        processed = Processed(email)
        data = {
            "emailId": email_id,
            "organizationId": command.organization_id,
            "priority": command.priority.value,
            **processed.to_json(),
        }
        await self._recorder.record(
            [email],
            [(PROCESSED, data)],
            None if also is None else lambda connection: also(connection, processed),
            trace=trace,
        )
        return processed

    async def page(
        self,
        *,
        status: EmailStatus | None,
        organization_id: str | None,
        message_id: str | None,
        before: str | None,
        limit: int,
    ) -> list[Email]:
        """Return what became of e-mails, the latest first, from below the id ``before``."""
        return await self._store.read(
            partial(
                sql.page,
                status=status,
                organization_id=organization_id,
                message_id=message_id,
                before=before,
                limit=limit,
            )
        )

    async def _record_failure(
        self,
        email_id: str,
        command: ProcessEmail,
        begun: float | None,
        error: str,
        service_id: str | None = None,
    ) -> None:
        failed = Email(
            id=email_id,
            message_id=command.message_id,
            organization_id=command.organization_id,
            priority=command.priority,
            status=EmailStatus.FAILED,
            error=error,
            service_id=service_id,
            response_time=0 if begun is None else round((trio.current_time() - begun) * 1000),
            recorded_at=self._recorder.now,
        )
        await self._recorder.record_failure([failed])


def _result(told: Told) -> dict[str, Any]:
    result = told.data.get("result")
    if not isinstance(result, dict):
        raise WorkersFailedError(f"{told.service_id} answered without a result", service_id=told.service_id)
    return result
