"""Bulks: chunk by chunk through workers, a few at once; each chunk succeeds or fails for itself."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import trio

from econeura_daemon.client import CircuitOpenError, ConcurrencyLimitError, MeshError, NoHealthyInstanceError
from econeura_daemon.workers.calling import Asked, Calling, WorkersFailedError
from econeura_daemon.workers.chunks import Item, chunks, distinct, failed, items_of
from econeura_daemon.workers.commands import ProcessBulk
from econeura_daemon.workers.model import Email, EmailStatus, Priority
from econeura_daemon.workers.recording import Also, Recorder
from econeura_daemon.workers.waiting import NoTurnError, Waiting

BULK_PROCESSED = "email.bulk_processed"
AT_ONCE = 4
"""Chunks of one bulk that are under way."""

UNAVAILABLE = (NoTurnError, NoHealthyInstanceError, CircuitOpenError, ConcurrencyLimitError)
"""Nobody was asked: the same may go well a little later."""


@attrs.frozen(kw_only=True)
class Chunk:
    """A part of a bulk that is asked for at once."""

    message_ids: tuple[str, ...]
    organization_id: str
    priority: Priority
    metadata: dict[str, Any] = attrs.field(factory=dict)
    key: str
    """Towards workers: the same however often it is asked for."""


@attrs.frozen(kw_only=True)
class BulkDone:
    """What is answered of a bulk."""

    organization_id: str
    priority: Priority
    items: Sequence[Item]

    @property
    def successful(self) -> int:
        """How many were processed."""
        return sum(one.succeeded for one in self.items)

    def to_json(self) -> dict[str, Any]:
        """Return it as existing clients know it."""
        return {
            "total": len(self.items),
            "successful": self.successful,
            "failed": len(self.items) - self.successful,
            "results": [one.to_json() for one in self.items],
        }


class Bulks:
    """Has bulks processed while their callers wait."""

    def __init__(self, *, calling: Calling, waiting: Waiting, recorder: Recorder, timeout: float) -> None:
        """``timeout``: in seconds, of a whole bulk whose caller waits."""
        self.timeout = timeout
        self._calling = calling
        self._waiting = waiting
        self._recorder = recorder

    async def ask(self, chunk: Chunk, asked: Asked) -> list[Item]:
        """Have a chunk processed and return what became of each.

        Raises `NoTurnError`, `MeshError`, `WorkersFailedError`.
        """
        async with self._waiting.turn(chunk.priority, chunk.organization_id):
            told = await self._calling.call(
                "POST",
                "/emails/process/bulk",
                asked,
                body={
                    "messageIds": chunk.message_ids,
                    "organizationId": chunk.organization_id,
                    "priority": chunk.priority.value,
                    **(
                        {"metadata": chunk.metadata} if chunk.metadata else {}
                    ),  # older workers know none here
                },
                idempotency_key=chunk.key,
            )
        return items_of(chunk.message_ids, told.data, told.service_id, told.milliseconds)

    def emails_of(self, chunk: Chunk, items: Sequence[Item], job_id: str | None = None) -> list[Email]:
        """Return what is recorded of a chunk."""
        now = self._recorder.now
        return [
            Email(
                id=self._recorder.new_id("eml"),
                message_id=one.message_id,
                organization_id=chunk.organization_id,
                priority=chunk.priority,
                status=EmailStatus.SUCCEEDED if one.succeeded else EmailStatus.FAILED,
                result=one.result,
                error=one.error,
                service_id=one.service_id,
                response_time=one.response_time,
                job_id=job_id,
                recorded_at=now,
            )
            for one in items
        ]

    async def process(
        self,
        command: ProcessBulk,
        asked: Asked,
        *,
        key: str | None = None,
        trace: str | None = None,
        also: "Also[BulkDone] | None" = None,
    ) -> BulkDone:
        """Have a bulk processed and return what became of each, in the order asked.

        Each chunk is recorded when it is done, the last one together with the event that tells of all; ``also`` runs in
        that transaction. A caller that leaves stops it, and so does its time. Raises one of `UNAVAILABLE`, and records
        nothing, if nobody could be asked for anything; `StoreError`.
        """
        key = key or self._recorder.new_id("blk")
        wanted = distinct(command.message_ids)
        deadline = trio.current_time() + self.timeout
        found: dict[str, Item] = {}
        refusals: list[Exception] = []
        late: list[Email] = []
        """Recorded with the event."""
        parts = chunks(wanted)
        limit = trio.Semaphore(AT_ONCE)

        async def one(number: int, message_ids: tuple[str, ...]) -> None:
            chunk = Chunk(
                message_ids=message_ids,
                organization_id=command.organization_id,
                priority=command.priority,
                metadata=command.metadata,
                key=f"{key}:{number}",
            )
            try:
                items, refusal = await self._outcomes(chunk, asked, deadline)
            finally:
                limit.release()
            found.update((item.message_id, item) for item in items)
            emails = self.emails_of(chunk, items)
            if refusal is not None:
                refusals.append(refusal)
            if refusal is not None or len(found) == len(wanted):
                late.extend(emails)
            else:
                await self._recorder.record(emails)

        await _each(parts, limit, one)
        if len(refusals) == len(parts):
            raise refusals[0]
        bulk = BulkDone(
            organization_id=command.organization_id,
            priority=command.priority,
            items=[found[one] for one in command.message_ids],
        )
        await self._recorder.record(
            late,
            [(BULK_PROCESSED, told_of(bulk))],
            None if also is None else lambda connection: also(connection, bulk),
            trace=trace,
        )
        return bulk

    async def _outcomes(
        self, chunk: Chunk, asked: Asked, deadline: float
    ) -> tuple[list[Item], Exception | None]:
        """Return what became of a chunk, and why nobody was asked for it, if so."""
        begun = trio.current_time()

        def all_failed(error: str, service_id: str | None = None) -> list[Item]:
            took = round((trio.current_time() - begun) * 1000)
            return failed(chunk.message_ids, error, service_id, took)

        try:
            with trio.move_on_at(deadline):
                return await self.ask(chunk, asked), None
        except UNAVAILABLE as error:
            return all_failed(str(error)), error
        except (MeshError, WorkersFailedError) as error:
            return all_failed(str(error), error.service_id), None
        return all_failed(f"The bulk had no end within {round(self.timeout * 1000)} ms"), None


async def _each(
    parts: Sequence[tuple[int, tuple[str, ...]]],
    limit: trio.Semaphore,
    one: Callable[[int, tuple[str, ...]], Any],
) -> None:
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            for number, message_ids in parts:
                await limit.acquire()
                nursery.start_soon(one, number, message_ids)
    except* Exception as group:  # noqa: BLE001 - raised below
        failure = group.exceptions[0]  # the store's: the callers know nothing of nurseries
    if failure is not None:
        raise failure


def told_of(bulk: BulkDone) -> dict[str, Any]:
    """Return what the event tells: counts, not the results, which may be ten thousand."""
    return {
        "jobId": None,
        "organizationId": bulk.organization_id,
        "priority": bulk.priority.value,
        "total": len(bulk.items),
        "successful": bulk.successful,
        "failed": len(bulk.items) - bulk.successful,
    }
